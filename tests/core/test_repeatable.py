"""The same call gives the same bits, however threads are scheduled and wherever the arrays lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases import DTYPES, Array, Case, Inputs, of_each_cell
from compare import assert_same_bits
from core.sequence import ROUTES, Route, open_route, run

# Large enough for the CPU drivers to share them among threads, each in another way.
MANY_ROWS = tuple(of_each_cell((Case("many_rows", "", T=20, B=37, I=20, H=33),)))
FEW_ROWS = tuple(
    of_each_cell(
        (
            Case("few_rows", "", T=20, B=2, I=20, H=190),
            Case("few_rows_in_place", "", T=8, B=3, I=20, H=190),
        )
    )
)
# A panel of units is left over, which threads share by rows.
LEFT_OVER = tuple(of_each_cell((Case("left_over", "", T=12, B=20, I=20, H=260),)))
ONE_STEP = tuple(of_each_cell((Case("one_step", "", T=1, B=33, I=80, H=200),)))
SMALL = tuple(of_each_cell((Case("small", "", T=4, B=6, I=5, H=18, lengths=(4, 0, 3, 4, 1, 2)),)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize("case", MANY_ROWS + FEW_ROWS + LEFT_OVER + ONE_STEP, ids=str)
def test_threads(case: Case, dtype: str, threads: int) -> None:
    route = open_route("cpu")
    expected = run(route, case, dtype, threads=threads)
    for _ in range(6):
        assert_same_bits(run(route, case, dtype, threads=threads), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("route", ROUTES, indirect=True)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_run_to_run(route: Route, case: Case, dtype: str) -> None:
    expected = run(route, case, dtype)
    for _ in range(3):
        assert_same_bits(run(route, case, dtype), expected)


def shifted(array: Array, by: int) -> Array:
    """A copy that starts `by` elements after an aligned address."""
    per_line = 64 // array.itemsize
    room = np.empty(array.size + 2 * per_line, array.dtype)
    start = (-room.ctypes.data % 64) // array.itemsize + by
    moved = room[start : start + array.size].reshape(array.shape)
    moved[...] = array
    return moved


@pytest.mark.every_target
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", MANY_ROWS, ids=str)
def test_alignment_of_the_inputs(case: Case, dtype: str) -> None:
    route, inputs = open_route("cpu"), case.inputs(dtype)
    expected = run(route, case, dtype)
    for by in (1, 3):
        moved = Inputs(
            x=shifted(inputs.x, by),
            kernels=[shifted(array, by) for array in inputs.kernels],
            biases=[shifted(array, by) for array in inputs.biases],
            initial_state=[shifted(array, by) for array in inputs.initial_state],
            lengths=None,
            d_y=shifted(inputs.d_y, by),
            d_final_state=[shifted(array, by) for array in inputs.d_final_state],
        )
        assert_same_bits(run(route, case, dtype, inputs=moved), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_rows_do_not_touch_each_other(case: Case, dtype: str) -> None:
    """A NaN in one row's inputs stays in that row's outputs and input gradients."""
    route, inputs = open_route("cpu"), case.inputs(dtype)
    expected = run(route, case, dtype)
    x = inputs.x.copy()
    x[0, 2] = np.nan
    results = run(route, case, dtype, inputs=replace(inputs, x=x))
    others = [b for b in range(case.B) if b != 2]
    assert np.isnan(results["y"][0, 2].astype(np.float64)).all()
    for name in ("y", "d_x"):
        assert_same_bits({name: results[name][:, others]}, {name: expected[name][:, others]})
    for name in (name for name in expected if "state" in name):
        assert_same_bits({name: results[name][others]}, {name: expected[name][others]})
