"""The emulator itself, and that the order in which it runs threads and blocks does not change a bit of what
the CUDA kernels compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from core.sequence import REPOSITORY, build_emulated_module

# Prints a digest of the results of a few cases: several tiles of rows and units, several chunks, lengths.
DIGEST = """
import hashlib
from cases import Case
from core.sequence import CUDA_DRIVERS, open_route, run
from reference import CELLS

digest = hashlib.sha256()
for cell in CELLS:
    for T, B, H, lengths in ((1, 3, 33, None), (4, 2, 20, (4, 1)), (2, 34, 9, None), (2, 193, 33, None)):
        case = Case("schedule", cell, T=T, B=B, I=6, H=H, lengths=lengths)
        for driver in CUDA_DRIVERS:
            for name, values in sorted(run(open_route(f"emulated_{driver}"), case, "float32").items()):
                digest.update(name.encode() + values.tobytes())
print(digest.hexdigest())
"""


def digest_under(seed: int) -> str:
    settings = {"FUSED_RNN_EMULATOR_SEED": str(seed), "PYTHONPATH": str(REPOSITORY / "tests")}
    done = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("program", ["emulator_test", "cooperative_test", "warp_test"])
def test_emulator_finds_mistakes(program: str) -> None:
    build_emulated_module()
    done = subprocess.run(
        [str(REPOSITORY / "build" / "emulator" / program)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_changes_nothing(seed: int) -> None:
    build_emulated_module()
    assert digest_under(seed) == digest_under(0)
