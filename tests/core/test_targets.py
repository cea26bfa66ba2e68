"""Every instruction set that this build holds and this machine runs: a short list of tests for each.

Each has a process of its own, since the choice is read once a process. Fresh memory is filled with large
numbers there, so that reading what nobody wrote changes a result.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.sequence import REPOSITORY, open_route

TARGETS = ("baseline", "avx2", "avx512", "avx512bf16")


def child(target: str, *command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"FUSED_RNN_CPU_TARGET": target, "MALLOC_PERTURB_": "128"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_target(target: str) -> None:
    info = open_route("cpu").module.build_info()
    compiled = info["cpu_targets"].split()
    assert info["cpu_target"] in compiled
    if target not in compiled:
        pytest.skip(f"{target} is not compiled for this processor family")
    if TARGETS.index(target) > TARGETS.index(info["cpu_target"]) and "FUSED_RNN_CPU_TARGET" not in os.environ:
        pytest.skip(f"this processor does not run {target}")
    used = child(target, "-c", "import fused_rnn_core; print(fused_rnn_core.build_info()['cpu_target'])")
    assert used.stdout.strip() == target, used.stderr
    tests = child(
        target, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "every_target", "tests/core"
    )
    assert tests.returncode == 0, tests.stdout[-6000:] + tests.stderr[-2000:]


def test_unknown_target() -> None:
    """A name that is no target is an error that says which there are, not a silent other choice."""
    call = (
        "import fused_rnn_core, numpy\n"
        "zeros = lambda *shape: numpy.zeros(shape)\n"
        "fused_rnn_core.sequence_forward('rnn', zeros(1, 1, 1), [zeros(2, 1)], [zeros(1)], [zeros(1, 1)])"
    )
    assert child("baseline", "-c", call).returncode == 0
    done = child("sse9", "-c", call)
    assert done.returncode != 0
    for part in ("ValueError: FUSED_RNN_CPU_TARGET", "got sse9", "baseline"):
        assert part in done.stderr, done.stderr
    assert child("", "-c", call).returncode == 0, "an empty name is none"
