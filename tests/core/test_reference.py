"""The reference itself: its backward pass against difference quotients of its forward pass, and lengths and
reverse against what they mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cases import Case, Inputs, of_each_cell, with_options
from compare import assert_same_bits, assert_tensor_close
from reference import sequence_forward_ref

CASES = list(
    of_each_cell(
        (
            Case("plain", "", T=4, B=3, I=2, H=3, forget_bias=1.0),
            Case("lengths", "", T=5, B=4, I=3, H=2, lengths=(5, 0, 3, 1)),
            Case("reverse_lengths", "", T=5, B=4, I=3, H=2, lengths=(5, 0, 3, 1), reverse=True),
        )
    )
)
# Small, so that hardly any value moves past a corner of relu or of a clip.
CASES += with_options((Case("small", "", T=2, B=3, I=2, H=4, lengths=(2, 0, 1), reverse=True),))
GIVEN = {"d_x": "x", "d_kernels": "kernels", "d_biases": "biases", "d_initial_state": "initial_state"}


def loss(case: Case, inputs: Inputs) -> float:
    """The scalar whose gradients d_y and d_final_state are."""
    weights = inputs.kernels + inputs.biases
    forward = sequence_forward_ref(
        case.cell,
        inputs.x,
        weights,
        inputs.initial_state,
        inputs.lengths,
        case.options,
        case.reverse,
        inputs.state_mask,
    )
    parts = zip([forward.y, *forward.final_state], [inputs.d_y, *inputs.d_final_state], strict=True)
    return float(sum((value * gradient).sum() for value, gradient in parts))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_difference_quotients(case: Case) -> None:
    inputs = case.inputs()
    results = case.reference(inputs)
    rng = np.random.default_rng(1)
    step = 1e-5
    for name in (name for name in results if name.split("[")[0] in GIVEN):
        field = GIVEN[name.split("[")[0]]
        tensors = getattr(inputs, field)
        direction = rng.standard_normal(results[name].shape)
        losses = []
        for by in (step, -step):
            moved: Any
            if isinstance(tensors, list):
                k = int(name[-2])
                moved = [tensor + (by * direction if n == k else 0) for n, tensor in enumerate(tensors)]
            else:
                moved = tensors + by * direction
            losses.append(loss(case, replace(inputs, **{field: moved})))
        quotient = (losses[0] - losses[1]) / (2 * step)
        slope = float((results[name] * direction).sum())
        assert abs(quotient - slope) < 1e-8 * (1 + abs(slope)), (
            f"{name}: {slope}, difference quotient {quotient}"
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_with_lengths_are_rows_cut_there(case: Case) -> None:
    """Each row by itself, cut to its length and, for reverse, turned around, gives what all together do."""
    if case.lengths is None:
        case = replace(case, lengths=(case.T,) * case.B)
    assert case.lengths is not None
    inputs = case.inputs()
    results = case.reference(inputs)
    turn = slice(None, None, -1 if case.reverse else 1)
    for b, length in enumerate(case.lengths):
        row = slice(b, b + 1)
        alone = replace(
            inputs,
            x=inputs.x[:length, row][turn],
            d_y=inputs.d_y[:length, row][turn],
            initial_state=[part[row] for part in inputs.initial_state],
            d_final_state=[part[row] for part in inputs.d_final_state],
            lengths=None,
            state_mask=None if inputs.state_mask is None else inputs.state_mask[:length, row][turn],
        )
        by_itself = replace(case, T=length, B=1, lengths=None, reverse=False).reference(alone)
        for name in ("y", "d_x"):
            assert not results[name][length:, row].any(), f"{name} of row {b} past its length"
            assert_tensor_close("float64", name, results[name][:length, row][turn], by_itself[name])
        for name in (name for name in results if "state" in name):
            assert_tensor_close("float64", name, results[name][row], by_itself[name])
            if length == 0:
                source = inputs.d_final_state if name.startswith("d_") else inputs.initial_state
                assert_same_bits({name: results[name][row]}, {name: source[int(name[-2])][row]})


def test_half_types_stay_half() -> None:
    """A run in a half type rounds every operation to it: nothing in between is computed in a wider one."""
    for case in CASES:
        for dtype in ("bfloat16", "float16", "float32"):
            _, own = case.expected(dtype)
            assert {tensor.dtype.name for tensor in own.values()} == {dtype}
