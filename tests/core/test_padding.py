"""What stands past a row's length reaches no output and no gradient; backward changes nothing it is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases import DTYPES, Array, Case, Inputs, of_each_cell
from compare import assert_same_bits
from core.sequence import ROUTES, Route, backward, forward, run

CASES = tuple(
    of_each_cell(
        (
            Case("lengths", "", T=6, B=5, I=7, H=18, lengths=(6, 0, 3, 1, 5)),
            Case("reverse", "", T=6, B=5, I=7, H=18, lengths=(0, 4, 6, 1, 2), reverse=True),
            Case("all_0", "", T=4, B=3, I=3, H=5, lengths=(0, 0, 0)),
        )
    )
)
on_each_route = pytest.mark.parametrize("route", ROUTES, indirect=True)
of_each_case = pytest.mark.parametrize("case", CASES, ids=str)
of_each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def with_padding(inputs: Inputs, value: float) -> Inputs:
    """The inputs with value in every element of x and d_y past the rows' lengths."""
    padding = inputs.padding()
    x, d_y = inputs.x.copy(), inputs.d_y.copy()
    x[padding] = value
    d_y[padding] = value
    return replace(inputs, x=x, d_y=d_y)


@on_each_route
@of_each_dtype
@of_each_case
def test_padding_reaches_nothing(route: Route, case: Case, dtype: str) -> None:
    inputs = case.inputs(dtype)
    expected = run(route, case, dtype, inputs=with_padding(inputs, 0.0))
    for value in (np.nan, np.inf, -np.inf):
        for time_major, threads in ((True, 1), (False, 1), (True, 2)):
            poisoned = with_padding(inputs, value)
            results = run(route, case, dtype, inputs=poisoned, time_major=time_major, threads=threads)
            assert_same_bits(results, expected)


@on_each_route
@of_each_dtype
@of_each_case
def test_outputs_in_padding_are_zero(route: Route, case: Case, dtype: str) -> None:
    inputs = with_padding(case.inputs(dtype), np.nan)
    results = run(route, case, dtype, inputs=inputs)
    padding = inputs.padding()
    assert not results["y"][padding].view(np.uint8).any(), "y past a row's length"
    assert not results["d_x"][padding].view(np.uint8).any(), "d_x past a row's length"


@on_each_route
@of_each_dtype
@of_each_case
def test_state_of_an_empty_row_is_copied(route: Route, case: Case, dtype: str) -> None:
    inputs = case.inputs(dtype)
    results = run(route, case, dtype)
    empty = np.array(case.lengths) == 0
    for k, (state, d_state) in enumerate(zip(inputs.initial_state, inputs.d_final_state, strict=True)):
        assert_same_bits({"final_state": results[f"final_state[{k}]"][empty]}, {"final_state": state[empty]})
        d_initial_state = results[f"d_initial_state[{k}]"][empty]
        assert_same_bits({"d_initial_state": d_initial_state}, {"d_initial_state": d_state[empty]})


@on_each_route
@of_each_dtype
@of_each_case
def test_saved_past_the_length_is_not_read(route: Route, case: Case, dtype: str) -> None:
    inputs = case.inputs(dtype)
    y, _, saved = forward(route, case, inputs)
    assert saved is not None
    expected = backward_results(route, case, inputs, y, saved)
    poisoned_y, poisoned = y.copy(), saved.copy()
    poisoned[inputs.padding()] = np.nan
    poisoned_y[inputs.padding()] = np.nan
    assert_same_bits(backward_results(route, case, inputs, poisoned_y, poisoned), expected)


@on_each_route
@of_each_dtype
@of_each_case
def test_backward_changes_nothing_it_is_given(route: Route, case: Case, dtype: str) -> None:
    inputs = case.inputs(dtype)
    y, _, saved = forward(route, case, inputs)
    assert saved is not None
    before = [array.copy() for array in given_arrays(inputs, y, saved)]
    first = backward_results(route, case, inputs, y, saved)
    for array, copy in zip(given_arrays(inputs, y, saved), before, strict=True):
        assert_same_bits({"given": array}, {"given": copy})
    assert_same_bits(backward_results(route, case, inputs, y, saved), first)


def backward_results(route: Route, case: Case, inputs: Inputs, y: Array, saved: Array) -> dict[str, Array]:
    d_x, d_kernels, d_biases, d_initial_state = backward(route, case, inputs, y, saved)
    flat = [d_x, *d_kernels, *d_biases, *d_initial_state]
    return {f"gradient {k}": array for k, array in enumerate(flat)}


def given_arrays(inputs: Inputs, y: Array, saved: Array) -> list[Array]:
    return [
        inputs.x,
        *inputs.kernels,
        *inputs.biases,
        *inputs.initial_state,
        inputs.d_y,
        *inputs.d_final_state,
        y,
        saved,
    ]
