"""Tensors of more than 2^31 elements, x, y and saved in turn.

All rows but the last have length 0: the row that counts stands at the far end, and little else is touched.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cases import Array, Case, name_results
from compare import assert_close
from core.sequence import Route

T, B = 100, 10_000
NEEDED_GIB = 8
WIDE = (
    Case("x", "rnn", T, B, I=2200, H=4),
    Case("y", "rnn", T, B, I=4, H=2200),
    Case("saved", "lstm", T, B, I=4, H=440),
)


def available_gib() -> float:
    """Memory that this machine can give without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 2**20


def last_row_of(array: Array, time_major: bool) -> Array:
    """[T, B, n] or [B, T, n] -> a view of [T, 1, n]"""
    return array[:, -1:] if time_major else array[-1:].swapaxes(0, 1)


@pytest.mark.skipif(available_gib() < NEEDED_GIB, reason=f"less than {NEEDED_GIB} GiB of memory available")
@pytest.mark.parametrize("time_major", [True, False], ids=["time_major", "batch_major"])
@pytest.mark.parametrize("route", ["cpu", "cuda_stepwise", "cuda_persistent"], indirect=True)
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_more_than_2_to_the_31_elements(route: Route, case: Case, time_major: bool) -> None:
    alone = replace(case, B=1)
    inputs = alone.inputs("float16")

    def far(row: Array) -> Array:
        """Zeros, which take no memory, for all rows but the last: row is [T, 1, n]."""
        array = np.zeros((T, B, row.shape[2]) if time_major else (B, T, row.shape[2]), row.dtype)
        last_row_of(array, time_major)[...] = row
        return array

    def states(rows: list[Array]) -> list[Array]:
        return [np.concatenate([np.zeros((B - 1, case.H), row.dtype), row]) for row in rows]

    lengths = np.array([0] * (B - 1) + [T])
    given = (case.cell, far(inputs.x), inputs.kernels, inputs.biases, states(inputs.initial_state), lengths)
    options = {"time_major": time_major, "device": route.device, "driver": route.driver}
    y, final_state, saved = route.module.sequence_forward(*given, **options)
    assert max(given[1].size, y.size, saved.size) > 2**31
    d_final_state = states(inputs.d_final_state)
    d_x, d_kernels, d_biases, d_initial_state = route.module.sequence_backward(
        *given, y, saved, far(inputs.d_y), d_final_state, **options
    )
    for name, array in (("y", y), ("d_x", d_x)):
        first = array[:, 0] if time_major else array[0]
        assert not first.any(), f"{name} of a row of length 0"
    results = name_results(
        y=last_row_of(y, time_major),
        final_state=[state[-1:] for state in final_state],
        d_x=last_row_of(d_x, time_major),
        d_kernels=d_kernels,
        d_biases=d_biases,
        d_initial_state=[state[-1:] for state in d_initial_state],
    )
    assert_close("float16", results, *alone.expected("float16"))
