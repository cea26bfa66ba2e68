"""What of benchmarks/device.py needs no GPU: its points, the floor, the process it works in, the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from core.sequence import REPOSITORY
from device_floor import (
    H200_DATASHEET,
    DeviceLimits,
    floor_seconds,
    limits_from_measurements,
    moved_bytes,
    step_seconds,
)
from device_lineup import DRIVERS, FLASHRNN, FUSED, TOLERANCES, TORCH, TORCH_FLOAT16, cudnn_path, entrants
from device_plot import write_plot
from device_points import (
    DEEPBENCH_STEPS,
    POINT_CELLS,
    POINT_DTYPES,
    PointError,
    all_points,
    deepbench_points,
    format_point,
    parse_point,
)
from device_prediction import PassPlan, Prediction
from device_report import DeviceRun, problems, summary, write_json
from device_worker import DeviceWorker, DeviceWorkerError
from measure import Outcome, WorkloadResult
from timing import summarise
from workload import MODES

SCRIPT = REPOSITORY / "benchmarks" / "device.py"


def test_the_list_covers_what_it_promises() -> None:
    points = all_points()
    assert len(points) == len(set(points)) == 43
    cases = [point.case for point in points]
    for values, least, most in (
        ({case.batch for case in cases}, 1, 128),
        ({case.hidden for case in cases}, 128, 2048),
        ({case.steps for case in cases}, 64, 1024),
    ):
        assert (min(values), max(values)) == (least, most)
    assert {333, 1000} <= {case.hidden for case in cases}
    assert {(point.cell, point.mode) for point in points} == {
        (cell, mode) for cell in POINT_CELLS for mode in MODES
    }
    for cell in POINT_CELLS:
        assert {point.dtype for point in points if point.cell == cell} == set(POINT_DTYPES)
    first = {(point.cell, point.mode, point.dtype) for point in points[:8]}
    assert len(first) >= 6, "a small budget must see some of everything"


def test_deepbench_is_cut_where_it_is_long() -> None:
    full, cut = (deepbench_points(("float16",), full) for full in (True, False))
    assert len(full) == len(cut) == 22 + 7 + 15 + 12
    assert max(point.case.steps for point in full) == 1500
    assert max(point.case.steps for point in cut) == DEEPBENCH_STEPS
    assert {point.case.hidden for point in full} == {point.case.hidden for point in cut}


def test_points_are_read_and_written() -> None:
    for point in all_points():
        assert parse_point(format_point(point)) == point
    assert len({point for point in all_points() if point.directions == 2}) == 3
    for text, word in (
        ("lstm,1,2,3,4,float32,training,both", "cell,B,T,I,H,dtype,mode"),
        ("lstm,1,2,3,4,float32", "cell,B,T,I,H,dtype,mode"),
        ("gru,1,2,3,4,float32,training", "gru_reset_after"),
        ("lstm,1,2,3,0,float32,training", "above 0"),
        ("lstm,1,2,3,x,float32,training", "whole numbers"),
        ("lstm,1,2,3,4,float64,training", "bfloat16"),
        ("lstm,1,2,3,4,float32,both", "inference"),
    ):
        with pytest.raises(PointError, match=word):
            parse_point(text)


# Round numbers to compute with by hand: 4 multiprocessors, each with a quarter of every bandwidth.
ROUND = DeviceLimits(
    name="round",
    sms=4,
    shared_bytes=1000,
    register_bytes=2000,
    l2_bytes=1 << 20,
    memory_bandwidth=1e9,
    l2_bandwidth=4e9,
    shared_bandwidth=8e9,
    grid_wait=1e-6,
    launch=5e-6,
    rates={"float32": 4e9, "tf32": 4e12, "float16": 4e12, "bfloat16": 4e12},
)


def test_floor_of_one_row() -> None:
    """One row, so one group: 4 gates of 10 units, R = 1600 bytes, 400 in each multiprocessor's registers."""
    point = parse_point("lstm,1,7,6,10,float32,inference")
    product = 2 * 10 * 40 / 4 / 1e9  # 200 ns
    exchange = 10 * 4 / 1e9  # 40 ns
    assert step_seconds(point, ROUND) == pytest.approx(1e-6 + max(product, exchange))
    assert moved_bytes(point) == 4 * (7 * 6 + 7 * 10 + 16 * 40)
    memory = 4 * 752 / 1e9  # 3.0 us: less than 7 steps of 1.2 us
    assert floor_seconds(point, ROUND) == pytest.approx(5e-6 + max(7 * 1.2e-6, memory))
    backward = 1e-6 + max(product, 4 * exchange)  # d_z is four times as wide as h
    training = replace(point, mode="training")
    assert step_seconds(training, ROUND, backward=True) == pytest.approx(backward)
    values = 752 + 2 * 7 * 5 * 10 + 7 * (2 * 6 + 2 * 10) + 2 * 640
    assert moved_bytes(training) == 4 * values
    assert floor_seconds(training, ROUND) == pytest.approx(
        10e-6 + max(7 * (1.2e-6 + backward), 4 * values / 1e9)
    )


def test_floor_of_two_directions() -> None:
    """Each has half of the multiprocessors: it waits once for both, and its product takes twice as long."""
    one, both = (parse_point(f"lstm,1,7,6,10,float32,inference{way}") for way in ("", ",bidirectional"))
    assert step_seconds(both, ROUND) == pytest.approx(1e-6 + 2 * 2 * 10 * 40 / 4 / 1e9)
    assert (both.flop, moved_bytes(both)) == (2 * one.flop, 2 * moved_bytes(one))
    far = replace(ROUND, grid_wait=0.0, register_bytes=1000, shared_bytes=0)  # streams, unless in turn
    assert step_seconds(both, far) == pytest.approx(2 * step_seconds(one, far))


def test_floor_streams_what_does_not_fit() -> None:
    """GRU of 100 units in 16 bits: R = 60000 bytes, 15000 a multiprocessor, of which 2000 stay there."""
    point = parse_point("gru_reset_after,1,5,4,100,bfloat16,inference")
    moved = 100 * 2 + 13000
    assert step_seconds(point, ROUND) == pytest.approx(1e-6 + moved / 1e9)
    small_l2 = replace(ROUND, l2_bytes=50000)  # then the stream comes from memory, a quarter as fast
    assert step_seconds(point, small_l2) == pytest.approx(1e-6 + 200 / 1e9 + 13000 / 0.25e9)
    roomy = replace(ROUND, shared_bytes=20000)  # 14000 lie in shared memory, 1000 in registers
    assert step_seconds(point, roomy) == pytest.approx(1e-6 + 14000 / 2e9)


def test_floor_shares_the_batch_where_that_is_less() -> None:
    """The product is the same in all ways, but a group of fewer multiprocessors reads fewer rows."""
    point = parse_point("lstm,4,5,4,10,float32,inference")
    slow_l2 = replace(ROUND, l2_bandwidth=0.4e9, rates={"float32": 4e12})
    # A group for all reads 160 bytes at 0.1 GB/s; one for each row 40, but has 600 of R in shared memory.
    assert step_seconds(point, slow_l2) == pytest.approx(1e-6 + max(40 / 0.1e9, 600 / 2e9))
    clusters = replace(slow_l2, cluster_size=2, cluster_wait=1e-7, cluster_bandwidth=4e9)
    assert step_seconds(point, clusters) == pytest.approx(1e-7 + max(80 / 1e9, 0, 2 * 2 * 10 * 40 / 2 / 1e12))


def test_floor_counts_whole_tiles() -> None:
    point = parse_point("lstm,1,5,4,64,float16,inference")
    slow = replace(ROUND, rates={"float16": 4e9}, shared_bytes=1 << 20)
    assert step_seconds(point, slow) == pytest.approx(1e-6 + 2 * 8 * 64 * 256 / 4 / 1e9)


def test_floors_of_an_h200_are_near_those_computed_before() -> None:
    """us a step, in bfloat16; the list by hand allowed for latency, so it lies above."""
    for text, hand in (("64,9,1024,1024", 2.8), ("128,9,1024,1024", 4.3), ("32,9,2048,2048", 4.2)):
        step = 1e6 * step_seconds(parse_point(f"lstm,{text},bfloat16,inference"), H200_DATASHEET)
        assert hand / 2 < step <= hand


MEASURED = {
    "name": "NVIDIA Made Up",
    "sms": 10,
    "shared_bytes": 1,
    "register_bytes": 2,
    "l2_bytes": 3,
    "memory_copy_kernel_tb_s": [3, 1, 2],
    "memory_copy_library_tb_s": [2.5],
    "l2_read_tb_s": [5],
    "shared_read_tb_s": [30],
    "grid_wait_counter_us": [1.5],
    "grid_wait_flags_us": [0.9, 1.1, 1.0],
    "mma_sync_bf16_tflop_s": [600],
    "mma_sync_tf32_tflop_s": [300],
    "fma_float32_tflop_s": [60],
    "launch_us": [2],
}


def test_limits_take_medians_and_the_better_way() -> None:
    limits = limits_from_measurements(MEASURED, {"bfloat16": 800e12, "float32": 50e12})
    assert (limits.memory_bandwidth, limits.grid_wait) == pytest.approx((2.5e12, 1e-6))
    assert limits.rates == {"float32": 60e12, "tf32": 300e12, "float16": 600e12, "bfloat16": 800e12}
    assert limits.cluster_size == 1
    clusters = {"cluster_wait_8_us": [0.2], "cluster_read_8_tb_s": [3]}
    limits = limits_from_measurements(MEASURED | clusters, {})
    assert (limits.cluster_size, limits.cluster_wait) == (8, pytest.approx(2e-7))


def test_the_lineup_names_cudnns_path() -> None:
    point = parse_point("lstm,16,9,768,768,bfloat16,training")
    assert [entrant.name for entrant in entrants(point)] == [FUSED, TORCH, TORCH_FLOAT16]
    forced = entrants(point, ("stepwise", "persistent"))
    assert [entrant.driver for entrant in forced if entrant.fused] == list(DRIVERS)
    assert [cudnn_path(point, dtype) for dtype in ("bfloat16", "float16")] == ["standard", "persistent"]
    for other in (
        "lstm,1,9,768,768",
        "lstm,16,9,768,2048",
        "lstm,16,9,700,768",
        "gru_reset_after,16,9,768,768",
    ):
        assert cudnn_path(parse_point(f"{other},float16,training"), "float16") == "standard"
    assert "small H" in cudnn_path(parse_point("lstm,1,9,8,128,float32,training"), "float32")
    assert set(TOLERANCES) == set(POINT_DTYPES)


def serve(connection: Connection) -> None:
    """A worker's process for the tests below."""
    while True:
        question, arguments = connection.recv()
        connection.send(("stage", question))
        if question == "die":
            os._exit(3)
        if question == "hang":
            time.sleep(600)
        connection.send(("error", "it failed") if question == "fail" else ("ok", (os.getpid(), arguments)))


def test_a_worker_outlives_failure_death_and_hanging() -> None:
    worker = DeviceWorker(serve)
    stages: list[str] = []
    first, given = worker.ask("echo", 1, "two", seconds=60, progress=stages.append)
    assert (given, stages) == ((1, "two"), ["echo"])
    assert worker.ask("echo", seconds=60)[0] == first
    for question, seconds, message in (("fail", 60, "fail: it failed"), ("die", 60, "die: .* code 3")):
        with pytest.raises(DeviceWorkerError, match=message):
            worker.ask(question, seconds=seconds)
        assert worker.ask("echo", seconds=60)[0] != first
    with pytest.raises(DeviceWorkerError, match="hang: no answer within 1 s"):
        worker.ask("hang", seconds=1)
    assert worker.ask("echo", seconds=60)[0] != first
    worker.close()


def made_up_run() -> DeviceRun:
    def timed(milliseconds: float) -> Outcome:
        return Outcome(
            "ok", "", "y", 1e-6, summarise([1e-3 * milliseconds * factor for factor in (0.9, 1, 1.1)])
        )

    first, second, third, *rest = all_points()
    plan = PassPlan("persistent", persistent_us=1.5, stepwise_us=4.5)
    return DeviceRun(
        date="2026-01-02T03:04:05",
        suite="all",
        seed=1,
        drivers=("stepwise",),
        plan={},
        limits=H200_DATASHEET,
        gpu="NVIDIA Made Up",
        versions={"torch": "1.2", "cudnn": "3"},
        results=[
            WorkloadResult(
                first,
                {
                    FUSED: timed(2.0),
                    "fused stepwise": timed(4.0),
                    TORCH: timed(10.0),
                    TORCH_FLOAT16: timed(3.0),
                    FLASHRNN: Outcome("failed", "no compiler"),
                },
            ),
            WorkloadResult(second, {FUSED: Outcome("wrong", "d_x is off"), TORCH: timed(7.0)}),
        ],
        predictions={first: Prediction(plan), second: Prediction(plan, plan)},
        failures=[f"{format_point(third)}: FAILED: timing fused: no answer within 60 s"],
        left_out=rest[-2:],
    )


def test_the_report_says_what_was_found(tmp_path: Path) -> None:
    run = made_up_run()
    text = "\n".join(summary(run))
    for part in (
        "1.95",
        "5.00x s",
        "1.50x p",
        "2.00x",
        "WRONG",
        "FAILED",
        "no answer within 60 s",
        "Left out",
    ):
        assert part in text, part
    assert len(problems(run)) == 3
    share = 1e3 * floor_seconds(run.results[0].workload, H200_DATASHEET) / 2.0
    assert f"{share:.0%}" in text
    path = tmp_path / "run.json"
    write_json(run, path)
    content = json.loads(path.read_text())
    found = content["results"][0]["outcomes"]
    assert content["gpu"] == "NVIDIA Made Up" and content["limits"]["sms"] == 132
    assert found[FUSED]["share_of_floor"] == pytest.approx(share)
    assert found[FUSED]["samples"]["median_ms"] == pytest.approx(2.0)
    assert (found[TORCH]["cudnn_path"], found[TORCH_FLOAT16]["cudnn_path"]) == ("standard", "persistent")
    # 2 ms are 1.95 us a step; x . W of it takes 1.51e8 flop.
    auto = 1.5 + 2e6 * 16 * 768 * 4 * 768 / 989e12
    assert f"{auto:.2f}" in text and "predicted / measured, stepwise, forward, 1 passes: median 1.17" in text
    assert found[FUSED]["predicted_us"] == {"forward": pytest.approx(auto)}
    assert found["fused stepwise"]["predicted_us"]["forward"] == pytest.approx(auto + 3)
    assert found[FUSED]["measured_us"] == {"forward": pytest.approx(2e3 / 1024)}
    assert content["results"][0]["prediction"]["forward"]["driver"] == "persistent"
    assert content["left_out"] == [format_point(point) for point in run.left_out]
    for results in (run.results, []):
        write_plot(replace(run, results=results), path.with_suffix(".png"))
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments", [(), ("--suite", "deepbench"), ("--point", "lstm,1,9,8,7,tf32,training")]
)
def test_dry_run(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, str(SCRIPT), "--dry-run", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "H200 (datasheet)" in done.stdout and "floor ms" in done.stdout
    if not arguments:
        assert all(format_point(point) in done.stdout for point in all_points())
        assert "43 points" in done.stdout


def test_wrong_options_are_refused() -> None:
    for option in (("--point", "lstm,1"), ("--drivers", "fastest"), ("--suite", "other")):
        command = [sys.executable, str(SCRIPT), "--dry-run", *option]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2 and option[0].lstrip("-") in done.stderr.replace("a point is", "point")
