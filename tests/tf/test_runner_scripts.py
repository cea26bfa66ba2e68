"""The scripts of examples/tf1: the same numbers from plain python and from `python -m fused_rnn`."""

from __future__ import annotations

import functools
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest

from tf.scripts import run

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4
# How many steps of layers a run of each takes: route -> steps forward, steps backward.
SCRIPTS: dict[str, dict[str, tuple[int, int]]] = {
    "unrolled": {"step": (2 * 20 * STEPS, 2 * 20 * STEPS)},
    "static_rows": {"sequence": (28 * (STEPS + 1), 28 * STEPS)},  # the accuracy at the end has no gradient
    "fed_states": {"sequence": (2 * 25 * STEPS, 2 * 25 * STEPS)},
    # The encoder, and the decoder; the final state at the end has no gradient.
    "raw_decoder": {
        "sequence": (12 * (STEPS + 1), 12 * STEPS),
        "step": (12 * (STEPS + 1), 12 * STEPS),
    },
    "bidirectional": {"sequence": (4 * 30 * STEPS, 4 * 30 * STEPS)},
}
NEEDS_TF_1 = "unrolled"  # plain python takes a helper to run it


@functools.cache
def run_both_ways(name: str) -> tuple[CompletedProcess[str], CompletedProcess[str]]:
    """By plain python with legacy Keras, and by fused_rnn without."""
    script = (str(ROOT / "examples/tf1" / f"{name}.py"), f"--steps={STEPS}")
    plain = (str(ROOT / "benchmarks/plain_tf1.py"), *script) if name == NEEDS_TF_1 else script
    ours = ("-m", "fused_rnn", "--tf1", "--report", *script)
    with ThreadPoolExecutor() as pool:
        runs = [
            pool.submit(run, *command, TF_USE_LEGACY_KERAS=keras)
            for command, keras in ((plain, "1"), (ours, "0"))
        ]
        return runs[0].result(), runs[1].result()


def numbers(text: str) -> list[list[float]]:
    return [[float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", line)] for line in text.splitlines()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_numbers(name: str) -> None:
    plain, ours = run_both_ways(name)
    for done in (plain, ours):
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.splitlines()[-1].endswith(" ms a step")
    expected, found = numbers(plain.stdout)[:-1], numbers(ours.stdout)[:-1]
    assert len(found) >= STEPS
    for line, expected_line in zip(found, expected, strict=True):
        np.testing.assert_allclose(line, expected_line, rtol=1e-4, err_msg=ours.stdout)
    losses = [line[1] for line in found[:STEPS]]
    assert len(set(losses)) == STEPS
    words = [re.sub(r"\d", "", line).replace(".", "") for line in ours.stdout.splitlines()]
    assert words == [re.sub(r"\d", "", line).replace(".", "") for line in plain.stdout.splitlines()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_report(name: str) -> None:
    """Every step of every run is counted, on the route it took."""
    found = reported(run_both_ways(name)[1].stderr)
    for route in ("sequence", "step"):
        for way, steps in zip(("forward", "backward"), SCRIPTS[name].get(route, (0, 0)), strict=True):
            row = found[f"{route}, {way}"]
            assert row["steps"] == steps, (route, way, row)
            assert (row["us a step"] > 0) == (steps > 0)
    assert found["TensorFlow's own, forward"]["steps"] == 0


def reported(text: str) -> dict[str, dict[str, float]]:
    """Route -> the numbers in its row."""
    columns = ("calls", "steps", "seconds", "us a step")
    rows = re.findall(r"^(\S.*?, \w+ward) +([\d,]+) +([\d,]+) +([\d.]+) +([\d.-]+)$", text, re.MULTILINE)
    return {
        route: {
            name: float(number.replace(",", "").replace("-", "0"))
            for name, number in zip(columns, row, strict=True)
        }
        for route, *row in rows
    }


def test_unrolled_is_for_tensorflow_1() -> None:
    """As it stands, today's TensorFlow has not what it asks for."""
    text = (ROOT / "examples/tf1" / f"{NEEDS_TF_1}.py").read_text()
    assert "import tensorflow as tf\n" in text
    assert "tf.contrib" in text
    assert "compat" not in text
