"""The persistent CUDA driver, on the emulator: shapes divided in each way it knows, TF32, its plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cases import Case, name_results
from compare import assert_close, assert_tensor_close
from core.sequence import build_emulated_module, forward, open_route, run
from reference import CELLS

H200 = {"processors": 132, "shared_bytes": 227 << 10}


def plan(cell: str, dtype: str, *, T: int = 100, B: int, H: int, **options: Any) -> dict[str, Any]:
    return build_emulated_module().cuda_plan(cell, dtype, T, B, H, **options)


def plan_of(case: Case, dtype: str, *, backward: bool) -> dict[str, Any]:
    """On the emulated GPU."""
    return plan(case.cell, dtype, T=case.T, B=case.B, H=case.H, P=case.output_width, backward=backward)


# A group's rows in several tiles; several groups; more columns than are multiplied together; and weights that
# shared memory has no room for, in one stage and in both.
MANY_ROWS = Case("many_rows", "lstm", T=2, B=130, I=4, H=40)
GROUPS = Case("groups", "gru", T=3, B=33, I=4, H=4, lengths=tuple(i % 4 for i in range(33)))
WIDE = Case("wide", "lstm_peephole", T=2, B=2, I=3, H=90)
LARGE = Case("large", "lstm", T=2, B=3, I=3, H=270)
LARGE_STAGES = Case("large_stages", "gru", T=2, B=1, I=3, H=300)
LARGE_PROJECTION = Case("large_projection", "lstm_projected", T=2, B=2, I=3, H=280, P=230)
SHAPES = (MANY_ROWS, GROUPS, WIDE, LARGE, LARGE_STAGES, LARGE_PROJECTION)


def test_shapes_divide_as_meant() -> None:
    for backward in (False, True):
        assert plan_of(MANY_ROWS, "float32", backward=backward)["rows"] > 32
        assert plan_of(GROUPS, "float32", backward=backward)["groups"] > 1
        for case in (LARGE, LARGE_STAGES, LARGE_PROJECTION):
            assert plan_of(case, "float32", backward=backward)["streamed_bytes"] > 0
    assert plan_of(WIDE, "float32", backward=False)["stages"][0]["columns"] > 64


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_values_and_gradients(case: Case, dtype: str) -> None:
    assert_close(dtype, run(open_route("emulated_persistent"), case, dtype), *case.expected(dtype))


@pytest.mark.parametrize("driver", ["stepwise", "persistent"])
@pytest.mark.parametrize("cell", CELLS)
def test_tf32(cell: str, driver: str) -> None:
    """TF32 has float16's 11 bits and float32's range: float16's inputs and bounds, in float32."""
    case = Case("tf32", cell, T=4, B=9, I=7, H=21, lengths=(4, 0, 1, 4, 3, 2, 4, 4, 1))
    wide = case.inputs("float16").astype(np.dtype(np.float32))
    route = replace(open_route(f"emulated_{driver}"), allow_tf32=True)
    results = run(route, case, "float32", inputs=wide)
    expected, own = case.expected("float16")
    for name, values in results.items():
        assert values.dtype == np.float32
        assert_tensor_close("float16", name, values, expected[name], own[name])


def test_tf32_is_taken_where_it_is_allowed_only() -> None:
    case = Case("tf32", "lstm", T=3, B=2, I=5, H=40)
    inputs, route = case.inputs("float32"), open_route("emulated_persistent")
    exact = name_results(y=forward(route, case, inputs)[0])["y"]
    rounded = name_results(y=forward(replace(route, allow_tf32=True), case, inputs)[0])["y"]
    assert 1e-6 < np.abs(exact - rounded).max() < 1e-2


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_plan_fits_the_gpu(cell: str, dtype: str, backward: bool) -> None:
    info = build_emulated_module().cell_info(cell)
    for B in (1, 4, 7, 16, 33, 64, 128):
        for H in (1, 31, 128, 333, 512, 1000, 1024, 2048, 4096):
            found = plan(
                cell, dtype, B=B, H=H, P=max(1, H // 2) if info["projected"] else H, backward=backward, **H200
            )
            assert found["why_not"] == "", (B, H)
            assert found["groups"] * found["blocks"] <= H200["processors"]
            assert found["groups"] * found["rows"] >= B > (found["groups"] - 1) * found["rows"]
            assert found["shared_bytes"] <= H200["shared_bytes"]
            for stage in found["stages"]:
                assert 0 <= stage["resident"] <= stage["chunks"]
            assert found["blocks"] * found["stages"][0]["units"] >= H


def test_driver_is_chosen_where_it_pays() -> None:
    # Where steps are launch-bound, one launch for all of them is what counts; two do not repay its beginning.
    assert plan("lstm", "bfloat16", T=100, B=16, H=768, **H200)["pays"]
    assert not plan("lstm", "bfloat16", T=2, B=1, H=32, **H200)["pays"]
    assert plan("lstm", "float64", B=1, H=32, **H200)["why_not"] == "it has no float64 kernels"
    assert plan("lstm", "float32", T=0, B=1, H=32, **H200)["why_not"] == "there is no step to run"


def test_what_cannot_run_says_so() -> None:
    case = Case("float64", "lstm", T=2, B=1, I=2, H=3)
    inputs, route = case.inputs("float64"), open_route("emulated_persistent")
    given = (case.cell, inputs.x, inputs.kernels, inputs.biases, inputs.initial_state)
    with pytest.raises(ValueError, match="persistent driver cannot run this: it has no float64 kernels"):
        route.module.sequence_forward(*given, time_major=True, device="cuda", driver="persistent")
    with pytest.raises(ValueError, match="H and P at least 1"):
        plan("lstm", "float32", B=1, H=0, **H200)
    with pytest.raises(ValueError, match="driver must be one of auto, stepwise, persistent, got fast"):
        route.module.sequence_forward(*given, time_major=True, driver="fast")
