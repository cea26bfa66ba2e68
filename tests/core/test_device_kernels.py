"""The persistent driver on a GPU, where there is one: the shapes and TF32 that test_persistent.py has on the
emulator, and weights too large for the GPU's shared memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cases import Case
from compare import assert_close, assert_same_bits, assert_tensor_close
from core.sequence import CUDA_DRIVERS, Route, run
from core.test_persistent import SHAPES
from reference import CELLS

# An H200 keeps about 30 MB of weights, in float32 less than 7.5 million.
STREAMED = (
    Case("streamed", "lstm", T=2, B=2, I=3, H=1800),
    Case("streamed_rows", "gru", T=2, B=70, I=3, H=1900, lengths=tuple(1 + b % 2 for b in range(70))),
    Case("streamed_projection", "lstm_projected", T=3, B=9, I=3, H=1800, P=900),
)
persistent = pytest.mark.parametrize("route", ["cuda_persistent"], indirect=True)


@persistent
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", SHAPES + STREAMED, ids=str)
def test_values_and_gradients(route: Route, case: Case, dtype: str) -> None:
    results = run(route, case, dtype)
    assert_close(dtype, results, *case.expected(dtype))
    assert_same_bits(run(route, case, dtype), results)


@persistent
@pytest.mark.parametrize("case", STREAMED, ids=str)
def test_weights_are_streamed(route: Route, case: Case) -> None:
    for backward in (False, True):
        plan = route.module.cuda_plan(
            case.cell, "float32", case.T, case.B, case.H, case.output_width, backward=backward
        )
        assert plan["why_not"] == "" and plan["streamed_bytes"] > 0


@pytest.mark.parametrize("route", [f"cuda_{driver}" for driver in CUDA_DRIVERS], indirect=True)
@pytest.mark.parametrize("cell", CELLS)
def test_tf32(route: Route, cell: str) -> None:
    """TF32 has float16's 11 bits and float32's range: float16's inputs and bounds, in float32."""
    case = Case("tf32", cell, T=5, B=19, I=17, H=130, lengths=tuple(b % 6 for b in range(19)))
    wide = case.inputs("float16").astype(np.dtype(np.float32))
    results = run(replace(route, allow_tf32=True), case, "float32", inputs=wide)
    expected, own = case.expected("float16")
    for name, values in results.items():
        assert_tensor_close("float16", name, values, expected[name], own[name])
