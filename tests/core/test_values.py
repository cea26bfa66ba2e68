"""Values and every gradient of every cell against the float64 reference, on every route through the core."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cases import (
    DTYPES,
    LONG_CASES,
    MASKED_CASES,
    OPTION_CASES,
    SHORT_CASES,
    TARGET_CASES,
    Case,
    drawn_cases,
    name_results,
)
from compare import assert_close, assert_same_bits
from core.sequence import CUDA_DRIVERS, ROUTES, Route, backward, forward, open_route, run
from reference import CELLS

layouts = pytest.mark.parametrize("time_major", [True, False], ids=["time_major", "batch_major"])
each_route = pytest.mark.parametrize("route", ROUTES, indirect=True)
CLOSE_TO_A_CLIP = "which values are clipped is a matter of rounding"
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def routed_cases() -> Iterator[tuple[str, Case, int]]:
    """Route, case and threads. The emulator is slow and has no use for threads."""
    for threads in (1, 2):
        yield from (("cpu", case, threads) for case in LONG_CASES + OPTION_CASES + MASKED_CASES)
    for driver in CUDA_DRIVERS:
        yield from ((f"cuda_{driver}", case, 1) for case in LONG_CASES + OPTION_CASES + MASKED_CASES)
        yield from ((f"emulated_{driver}", case, 1) for case in SHORT_CASES)


@dtypes
@layouts
@pytest.mark.parametrize(("route", "case", "threads"), list(routed_cases()), ids=str, indirect=["route"])
def test_values_and_gradients(route: Route, case: Case, dtype: str, time_major: bool, threads: int) -> None:
    if case.rounding_decides and "16" in dtype:
        pytest.skip(CLOSE_TO_A_CLIP)
    assert_close(
        dtype, run(route, case, dtype, time_major=time_major, threads=threads), *case.expected(dtype)
    )


@pytest.mark.every_target
@dtypes
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", TARGET_CASES, ids=str)
def test_short_list(case: Case, dtype: str, threads: int) -> None:
    """What test_targets.py runs for each instruction set."""
    results = run(open_route("cpu"), case, dtype, time_major=threads == 1, threads=threads)
    assert_close(dtype, results, *case.expected(dtype))


@pytest.mark.every_target
@dtypes
@pytest.mark.parametrize("cell", list(CELLS))
def test_infinite_input(cell: str, dtype: str) -> None:
    """An infinite x saturates its row's gates, all results finite; so must they be beside padding."""
    case = Case("infinite", cell, T=3, B=2, I=3, H=5, P=3, forget_bias=0.0)
    inputs = case.inputs(dtype)
    inputs.x[0, 0, 0] = np.inf
    y, state, _ = forward(open_route("cpu"), case, inputs)
    for result in (y, *state):
        assert np.isfinite(result.astype(np.float64)).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(drawn_cases(), st.sampled_from(list(DTYPES)), st.booleans(), st.integers(1, 3))
def test_any_size(case: Case, dtype: str, time_major: bool, threads: int) -> None:
    assume(not (case.rounding_decides and "16" in dtype))
    results = run(open_route("cpu"), case, dtype, time_major=time_major, threads=threads)
    try:
        assert_close(dtype, results, *case.expected(dtype))
    except AssertionError:  # One run of the reference may be lucky with a unit or two; more take long.
        if case.rounding_decides:
            raise
        assert_close(dtype, results, *case.expected(dtype, runs=10))


emulated_drivers = pytest.mark.parametrize("driver", CUDA_DRIVERS)


@emulated_drivers
@pytest.mark.parametrize("case", [case for case in OPTION_CASES if case.T > 1], ids=str)
def test_options_emulated(case: Case, driver: str) -> None:
    route = open_route(f"emulated_{driver}")
    assert_close("float32", run(route, case, "float32"), *case.expected("float32"))


@emulated_drivers
@settings(max_examples=25, deadline=None, derandomize=True)
@given(drawn_cases(max_T=4, max_B=10, max_width=40), st.sampled_from(list(DTYPES)), st.booleans())
def test_any_size_emulated(driver: str, case: Case, dtype: str, time_major: bool) -> None:
    assume(not (case.rounding_decides and "16" in dtype))
    assume(not (driver == "persistent" and dtype == "float64"))
    results = run(open_route(f"emulated_{driver}"), case, dtype, time_major=time_major)
    assert_close(dtype, results, *case.expected(dtype))


@dtypes
@each_route
@pytest.mark.parametrize("case", SHORT_CASES, ids=str)
def test_inference_is_the_same(route: Route, case: Case, dtype: str) -> None:
    """keep=False keeps nothing and changes no bit of the outputs."""
    inputs = case.inputs(dtype)
    kept_y, kept_state, _ = forward(route, case, inputs)
    y, state, saved = forward(route, case, inputs, keep=False)
    assert saved is None
    assert_same_bits(name_results(y=y, final_state=state), name_results(y=kept_y, final_state=kept_state))


@dtypes
@each_route
@pytest.mark.parametrize("case", SHORT_CASES, ids=str)
def test_left_out_gradient_is_zero(route: Route, case: Case, dtype: str) -> None:
    inputs = case.inputs(dtype)
    y, _, saved = forward(route, case, inputs)
    zero = replace(inputs, d_y=np.zeros_like(inputs.d_y))
    results = []
    for of, leave_out in ((inputs, True), (zero, False)):
        d_x, *gradients = backward(route, case, of, y, saved, leave_out_d_y=leave_out)
        results.append(name_results(d_x=d_x, **{f"gradient_{k}": g for k, g in enumerate(gradients)}))
    assert_same_bits(*results)


@each_route
def test_cell_info(route: Route) -> None:
    for name, cell in CELLS.items():
        info = route.module.cell_info(name)
        assert info["projected"] == cell.projected
        assert tuple(info["kernel_gates"]) == cell.kernel_gates + (1,) * cell.projected
        assert tuple(info["bias_gates"]) == cell.bias_gates
        assert info["states"] == cell.states
        assert info["gates"] == sum(cell.kernel_gates)


@each_route
def test_saved_shape(route: Route) -> None:
    for case in SHORT_CASES:
        _, _, saved = forward(route, case, case.inputs("float32"))
        assert saved is not None
        assert saved.shape == (case.T, case.B, route.module.cell_info(case.cell)["saved"], case.H)


@dtypes
@pytest.mark.parametrize("cell", CELLS)
def test_sequence_is_its_steps(cell: str, dtype: str) -> None:
    """T calls of one step each, state handed on, and one call of T steps are both within the tolerance."""
    case = Case("steps", cell, T=6, B=5, I=9, H=20, seed=3)
    route, inputs = open_route("cpu"), case.inputs(dtype)
    state, ys = inputs.initial_state, []
    for t in range(case.T):
        y, state, _ = route.module.sequence_forward(
            cell, inputs.x[t : t + 1], inputs.kernels, inputs.biases, state, time_major=True
        )
        ys.append(y)
    exact, own = case.expected(dtype)
    names = [name for name in exact if name == "y" or name.startswith("final_state")]
    results = name_results(y=np.concatenate(ys), final_state=state)
    assert_close(dtype, results, {n: exact[n] for n in names}, {n: own[n] for n in names})
