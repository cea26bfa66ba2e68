"""Several sequences in one call, as the two directions of a layer are: on every route the results of each by
itself, and on a GPU one launch for both where there is room."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import pytest

from cases import Case
from compare import assert_close, assert_same_bits
from core.sequence import ROUTES, Route, build_emulated_module, open_route, run, run_together
from reference import CELLS

H200 = {"processors": 132, "shared_bytes": 227 << 10}

# Each of several chunks on the emulator.
LENGTHS = Case("lengths", "", T=9, B=4, I=3, H=9, lengths=(9, 0, 5, 1), forget_bias=1.0)
MASKED = Case("masked", "lstm", T=6, B=3, I=5, H=17, masked=True)
ROWS = Case("rows", "gru", T=3, B=41, I=4, H=4, lengths=tuple(b % 4 for b in range(41)))
# Enough work to be shared among threads; the recurrent weights of the second want the caches of all of them.
SHARED = Case("shared", "lstm", T=12, B=13, I=40, H=64, lengths=tuple(b % 13 for b in range(13)))
WIDE = Case("wide", "gru", T=3, B=5, I=9, H=257)
# The forward pass of one takes the whole of the emulated GPU.
LARGE = Case("large", "lstm", T=2, B=32, I=3, H=100)


def pair(case: Case) -> list[Case]:
    """Both directions of a layer."""
    return [case, replace(case, reverse=True, seed=case.seed + 1)]


def assert_right(route: Route, cases: list[Case], dtype: str) -> None:
    for case, results in zip(cases, run_together(route, cases, dtype), strict=True):
        assert_close(dtype, results, *case.expected(dtype))


@pytest.mark.parametrize("route", ROUTES, indirect=True)
@pytest.mark.parametrize("cell", CELLS)
def test_directions(route: Route, cell: str) -> None:
    lstm = cell.startswith("lstm")
    assert_right(route, pair(replace(LENGTHS, cell=cell, forget_bias=1.0 if lstm else 0.0)), "float32")


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("route", ROUTES, indirect=True)
def test_dtypes(route: Route, dtype: str) -> None:
    assert_right(route, pair(replace(LENGTHS, cell="lstm")), dtype)


@pytest.mark.parametrize("route", ROUTES, indirect=True)
@pytest.mark.parametrize("case", [MASKED, ROWS, LARGE], ids=str)
def test_shapes(route: Route, case: Case) -> None:
    assert_right(route, pair(case), "float32")


@pytest.mark.parametrize("route", ROUTES, indirect=True)
@pytest.mark.parametrize("case", [replace(LENGTHS, cell="gru"), replace(LARGE, H=40)], ids=str)
def test_three(route: Route, case: Case) -> None:
    """More than run side by side."""
    assert_right(route, [*pair(case), replace(case, seed=7)], "float32")


@pytest.mark.parametrize("route", ROUTES, indirect=True)
@pytest.mark.parametrize(("T", "B"), [(1, 3), (0, 2), (3, 0)])
def test_few_steps(route: Route, T: int, B: int) -> None:
    assert_right(route, pair(Case("few_steps", "lstm", T=T, B=B, I=3, H=5)), "float32")


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("case", [SHARED, WIDE], ids=str)
def test_threads(case: Case, threads: int) -> None:
    for cases in pair(case), [*pair(case), replace(case, seed=7)]:
        for dtype in "float32", "bfloat16":
            results = run_together(open_route("cpu"), cases, dtype, threads)
            for each, found in zip(cases, results, strict=True):
                assert_close(dtype, found, *each.expected(dtype))


@pytest.mark.parametrize("driver", ["stepwise", "persistent"])
def test_they_do_not_touch_each_other(driver: str) -> None:
    """What stands beside a sequence changes no bit of it; both may even be the same."""
    route, (case, other) = open_route(f"emulated_{driver}"), pair(replace(LENGTHS, cell="lstm"))
    first, _ = run_together(route, [case, other], "float32")
    for results in run_together(route, [case, case], "float32"):
        assert_same_bits(results, first)
    if driver == "stepwise":
        assert_same_bits(run(route, case, "float32"), first)


def launches_of(*cases: Case) -> int:
    """Cooperative launches of the persistent driver, forward and backward."""
    count = ctypes.CDLL(build_emulated_module().__file__).emulator_cooperative_launches
    count.restype = ctypes.c_int64
    before = count()
    run_together(open_route("emulated_persistent"), cases, "float32")
    return count() - before


def test_one_launch_for_both() -> None:
    case, few = replace(LENGTHS, cell="lstm"), Case("few", "lstm", T=3, B=2, I=3, H=5)
    assert launches_of(*pair(few)) == launches_of(few) == 2
    assert launches_of(*pair(case)) == launches_of(case) > 2
    assert launches_of(*pair(few), few) == 4
    assert (launches_of(*pair(LARGE)), launches_of(LARGE)) == (4 + 2, 2 + 2)


def plan(sequences: int, T: int, B: int, H: int, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = build_emulated_module().cuda_plan(
        "lstm", "bfloat16", T, B, H, sequences=sequences, **H200 | options
    )
    return found


def test_plan_shares_the_gpu_where_it_has_room() -> None:
    for backward in (False, True):
        both, one = (plan(n, 1024, 16, 768, backward=backward) for n in (2, 1))
        assert (both["side_by_side"], one["side_by_side"]) == (2, 1)
        assert 2 * both["groups"] * both["blocks"] <= H200["processors"]
        assert one["step_us"] < both["step_us"] < 2 * one["step_us"]
        assert both["stepwise_step_us"] == 2 * one["stepwise_step_us"]


def test_plan_gives_each_the_whole_gpu_where_there_is_no_room() -> None:
    both, one = (plan(n, 64, 32, 2048) for n in (2, 1))
    assert both["side_by_side"] == 1
    assert both == one | {name: 2 * one[name] for name in ("step_us", "stepwise_step_us")}
    # One processor more or less decides whether two fit.
    needed = plan(1, 64, 1, 2048, processors=64)
    assert needed["why_not"] == "" and plan(2, 64, 1, 2048, processors=64)["side_by_side"] == 1
    with pytest.raises(ValueError, match="sequences must be at least 1, got 0"):
        plan(0, 64, 1, 64)
