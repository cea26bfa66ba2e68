"""The programs of examples/ in small settings, each in a process of its own: what they print is checked."""

from __future__ import annotations

import functools
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory

import pytest

from tf.scripts import run, run_script

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
COMMANDS = {
    "streaming": "--steps=100 --batch=2",
    "sine_wave": "--steps=200 --plot={folder}/sine_wave.png",
    "char_sampling": "--steps=50",
    "target_network": "--steps=200",
    "tagger": "--steps=250",
    "language_model": "--epochs=2 --vocabulary=300 --data={folder}/text.txt --plot={folder}/model.png",
}
IN_LEGACY_KERAS = {"streaming", "tagger"}  # the others as users find TensorFlow


@functools.cache
def _folder() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory()
    words = ("the loop reads a word and learns what follows it .", "a state is kept from step to step .")
    text = "\n".join(words[(k * k) % 7 % 2] for k in range(1500))
    Path(folder.name, "text.txt").write_text(text)
    return folder


@functools.cache
def _runs() -> dict[str, Future[CompletedProcess[str]]]:
    """All of them, two at a time."""
    pool = ThreadPoolExecutor(2)

    def start(name: str) -> Future[CompletedProcess[str]]:
        arguments = COMMANDS[name].format(folder=_folder().name).split()
        keras = str(int(name in IN_LEGACY_KERAS))
        return pool.submit(run, str(EXAMPLES / f"{name}.py"), *arguments, TF_USE_LEGACY_KERAS=keras)

    return {name: start(name) for name in reversed(COMMANDS)}  # the longest first


def printed(name: str) -> str:
    done = _runs()[name].result()
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def numbers(label: str, text: str) -> list[float]:
    """Those in the line that begins so."""
    line = re.search(rf"^ *{re.escape(label)}(.*)$", text, re.MULTILINE)
    assert line, f"no line {label!r} in\n{text}"
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?", line[1])]


def test_streaming() -> None:
    text = printed("streaming")
    for label in ("sample by sample, state fed", "sample by sample, state kept"):
        microseconds, difference = numbers(label, text)
        assert microseconds > 0
        assert difference < 1e-6, text  # the reset of one row included


def test_sine_wave() -> None:
    text = printed("sine_wave")
    near, far = numbers("trained on its own samples", text)
    assert 2 * near < numbers("trained on next samples", text)[0], text
    assert near < 0.2 and near < far, text
    assert Path(_folder().name, "sine_wave.png").stat().st_size > 10_000


def test_char_sampling() -> None:
    text = printed("char_sampling")
    bits = [float(number) for number in re.findall(r"(\d+\.\d+) bits a letter", text)]
    assert len(bits) == 5
    assert bits[-1] < 4.4 < bits[0], text  # the letters' own frequencies take 4.48
    samples = re.findall(r"temperature [\d.]+:\n(The .{200})(?=\n)", text, re.DOTALL)
    assert len(set(samples)) == 3, text


def test_target_network() -> None:
    text = printed("target_network")
    rows = re.findall(r"^ *(\d+) +(\d+)% +(-?[\d.]+) +(-?[\d.]+)$", text, re.MULTILINE)
    assert [int(row[0]) for row in rows] == list(range(20, 201, 20))
    assert any(row[2] != row[3] for row in rows)  # the copy is of some steps ago
    assert max(int(row[1]) for row in rows) >= 90, text
    assert numbers("after a last copy, their values differ by", text) == [0]


def test_tagger() -> None:
    text = printed("tagger")
    (forward,), (both,) = numbers("forward only", text), numbers("both directions", text)
    assert both > 97 > forward + 5, text
    assert text.splitlines()[-1].endswith("scores and gradients change by 0.0")


def test_language_model() -> None:
    text = printed("language_model")
    assert "cells  fused: those of fused_rnn.rnn_cell\n" in text
    reference, fused = numbers("1 1.000", text)[:2]  # of the first epoch, in training
    assert abs(fused / reference - 1) < 0.01, text
    # At a rate of 1 on so small a text training becomes chaotic: over seeds and instruction sets 0.1 to 2.3%.
    assert numbers("their perplexities differ by at most", text)[0] < 5, text
    perplexities = numbers("test perplexity", text)
    assert max(perplexities) < 20, text
    for part in ("whole training step", "RNN part alone"):
        assert re.search(rf"words a second, {part} +[\d,]+ +[\d,]+ +[\d.]+x", text)
    assert Path(_folder().name, "model.png").stat().st_size > 10_000


_RNN_PART = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import numpy as np
from word_model import *
from quiet_tensorflow import tf
setting = Setting(8, 5, 1.0, 0.1, 5, 1, 0.5, 1, batch=3)
parts, kinds = {{}}, {{}}
for cells in CELLS:
    seen = len(tf.get_default_graph().get_operations())
    LanguageModel(cells, setting, 20, batch=3, steps=5, training=True)
    parts[cells] = RnnPart(cells, setting)
    kinds[cells] = {{op.type for op in tf.get_default_graph().get_operations()[seen:]}}
assert {{"FusedRnnSequence", "FusedRnnSequenceGrad"}} <= kinds["fused"], kinds
assert "While" not in kinds["fused"] and "Enter" not in kinds["fused"]
assert not any("Fused" in kind for kind in kinds["reference"])
inputs = np.random.default_rng(1).standard_normal([3, 5, 8], np.float32)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    copy_weights(session, *CELLS)
    runs = [session.run(part.run, {{part.inputs: inputs}}) for part in parts.values()]
assert runs[0] > 0.01, runs
np.testing.assert_allclose(*runs, rtol=1e-5)
print("equal")
"""


@pytest.mark.parametrize("legacy_keras", ["0", "1"])
def test_rnn_part(legacy_keras: str) -> None:
    """One number from all of the gradients: the same for both, on the routes they are said to take."""
    assert run_script(_RNN_PART, TF_USE_LEGACY_KERAS=legacy_keras).endswith("equal\n")
