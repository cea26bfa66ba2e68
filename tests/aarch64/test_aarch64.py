"""The CPU drivers on aarch64: cross-compiled, with warnings as errors, and run by qemu's user-mode emulation.

check_stored.cc, a program of that machine, runs the cases of a file and compares with the float64 results in
it. The file is lines of words, with an array's bytes after the line that names it:
    case NAME CELL DTYPE ACTIVATION T B I H P REVERSE TIME_MAJOR THREADS FORGET_BIAS CELL_CLIP PROJ_CLIP
    tensor NAME BYTES                                   an input, in the case's dtype (lengths in int64)
    expected NAME ELEMENTS RELATIVE ABSOLUTE NORM       a result, in float64, and its bounds (compare.Bound)
    end
"""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from cases import DTYPES, OPTION_CASES, SHORT_CASES, Array, Case, name_results, of_each_cell
from compare import bound_of
from core.sequence import build_with_cmake, laid_out, laid_out_mask

# Preactivations out of the range in which activations are computed.
SATURATED = (
    Case("saturated_step", "", T=1, B=5, I=12, H=20, input_scale=30.0),
    Case("saturated", "", T=2, B=5, I=12, H=20, input_scale=30.0),
)
# Large enough to be shared among threads (csrc/cpu/share.h): by rows, by units, and in a single step.
SHARED = (
    Case("shared_rows", "", T=60, B=13, I=30, H=50, lengths=(60, 7, 0, *[33] * 10), reverse=True),
    Case("shared_units", "", T=25, B=10, I=20, H=83),
)
SHARED_STEP = Case("shared_step", "", T=1, B=33, I=210, H=330)


def stored_cases() -> Iterator[tuple[Case, str, int]]:
    """Case, dtype and threads."""
    yield from ((case, dtype, 1) for case in SHORT_CASES for dtype in DTYPES)
    for dtype in DTYPES:
        yield from ((case, dtype, 1) for case in of_each_cell(SATURATED))
    yield from ((case, "float32", 1) for case in OPTION_CASES)
    yield from ((case, "float32", 2) for case in of_each_cell(SHARED))
    yield from ((replace(SHARED_STEP, cell=cell), "float32", 2) for cell in ("lstm", "lstm_projected", "gru"))


def write_array(file: BinaryIO, line: str, array: Array) -> None:
    file.write(f"{line}\n".encode() + np.ascontiguousarray(array).tobytes() + b"\n")


def write_case(
    file: BinaryIO, case: Case, dtype: str, threads: int = 1, time_major: bool = True, spoilt: str = ""
) -> None:
    """spoilt: a result of which one element is to be off by three times what its bounds allow."""
    inputs = case.inputs(dtype)
    sizes = (case.T, case.B, case.I, case.H, case.output_width)
    flags = (int(case.reverse), int(time_major), threads)
    clips = (math.inf if clip is None else clip for clip in (case.cell_clip, case.proj_clip))
    words = (f"{case}-{dtype}", case.cell, dtype, case.activation, *sizes, *flags, case.forget_bias, *clips)
    file.write(f"case {' '.join(map(str, words))}\n".encode())
    tensors = name_results(
        x=laid_out(inputs.x, time_major),
        kernels=inputs.kernels,
        biases=inputs.biases,
        initial_state=inputs.initial_state,
        d_y=laid_out(inputs.d_y, time_major),
        d_final_state=inputs.d_final_state,
    )
    if inputs.lengths is not None:
        tensors["lengths"] = inputs.lengths
    mask = laid_out_mask(inputs, time_major)
    if mask is not None:
        tensors["state_mask"] = mask
    for name, array in tensors.items():
        write_array(file, f"tensor {name} {array.nbytes}", array)
    exact, own = case.expected(dtype)
    for name, array in exact.items():
        bound = bound_of(dtype, array, own[name])
        stored = np.array(laid_out(array, time_major) if name in ("y", "d_x") else array)
        if name == spoilt:
            allowed = bound.relative * abs(stored.flat[-1]) + bound.absolute
            stored.flat[-1] += 3 * min(allowed, bound.norm)
        line = f"expected {name} {array.size} {bound.relative!r} {bound.absolute!r} {bound.norm!r}"
        write_array(file, line, stored)
    file.write(b"end\n")


def check_stored(path: Path) -> subprocess.CompletedProcess[str]:
    """Builds the program and runs it on the file at this path."""
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("no qemu-aarch64 (package qemu-user)")
    if shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("no aarch64-linux-gnu-g++ (package g++-aarch64-linux-gnu)")
    toolchain = Path(__file__).with_name("toolchain.cmake")
    build = build_with_cmake("aarch64", f"-DCMAKE_TOOLCHAIN_FILE={toolchain}")
    return subprocess.run(
        [emulator, str(build / "check_stored"), str(path)], capture_output=True, text=True, check=False
    )


def test_values_and_gradients(tmp_path: Path) -> None:
    path = tmp_path / "cases"
    cases = list(stored_cases())
    with path.open("wb") as file:
        for n, (case, dtype, threads) in enumerate(cases):
            write_case(file, case, dtype, threads, time_major=n % 2 == 0)
    done = check_stored(path)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert done.stdout == f"{len(cases)} cases, 0 wrong; instruction set: baseline\n"


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_wrong_value_is_found(tmp_path: Path, dtype: str) -> None:
    """In any result of any cell: each is spoilt in one run of the case."""
    path = tmp_path / "cases"
    spoilt = [
        (replace(case, name=f"without_{name}"), name)
        for case in of_each_cell((Case("", "", T=3, B=2, I=5, H=9),))
        for name in case.expected(dtype)[0]
    ]
    with path.open("wb") as file:
        for case, name in spoilt:
            write_case(file, case, dtype, spoilt=name)
    done = check_stored(path)
    assert done.returncode == 1, done.stdout[-6000:] + done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith(f"{len(spoilt)} cases, {len(spoilt)} wrong;"), last
    for line, (case, name) in zip(lines, spoilt, strict=True):
        assert line.startswith(f"{case}-{dtype}: {name} element "), line
