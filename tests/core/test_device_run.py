"""The course of a run of benchmarks/device.py, with a worker that answers at once and no GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import device
from core.test_device_benchmark import MEASURED
from device_build import BuildError
from device_lineup import FLASHRNN, FUSED, TORCH, fused_name
from device_points import all_points, format_point
from device_prediction import PassPlan, Prediction
from device_worker import DeviceWorkerError
from measure import Outcome, WorkloadResult
from timing import summarise
from workload import Workload


class QuickWorker:
    """Stands in for DeviceWorker: every point takes 2 and 3 ms, but for those that are told to fail."""

    failing: set[Workload] = set()  # noqa: RUF012  a test sets its own
    plans: Prediction | None = None
    launches = 0

    def __init__(self) -> None:
        self._running = False

    def ask(self, question: str, *given: Any, seconds: float, progress: Any = None) -> Any:
        assert seconds > 0
        QuickWorker.launches += not self._running
        self._running = True
        if question == "start":
            return {"gpu": "NVIDIA Quick 1", "versions": {"torch": "1"}, "build_info": {}}
        if question == "rates":
            return {"bfloat16": 1e12}
        if question == "predictions":
            if self.plans is None:
                raise DeviceWorkerError("starting: it has no plans")
            return dict.fromkeys(given[0], self.plans)
        if given[0] in self.failing:
            self.close()
            raise DeviceWorkerError("timing fused: no answer within 60 s")
        times = {FUSED: 2.0, TORCH: 3.0}
        if question == "flashrnn":
            times = {FLASHRNN: 4.0}
        elif question == "point":
            times |= {fused_name(driver): 5.0 for driver in given[1]}
        outcomes = {
            name: Outcome("ok", "", "y", 1e-6, summarise([1e-3 * time])) for name, time in times.items()
        }
        return WorkloadResult(given[0], outcomes), True

    def close(self) -> None:
        self._running = False


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs the script with these options: exit code and what it wrote."""

    def limits(target: str) -> dict[str, Any]:
        assert target == "90"
        return MEASURED

    monkeypatch.setattr(device, "DeviceWorker", QuickWorker)
    monkeypatch.setattr(device, "gpu_target", lambda: "90")
    monkeypatch.setattr(device, "measure_limits", limits)
    monkeypatch.setattr(device, "driver_version", lambda: "1.2.3")
    monkeypatch.setattr(device, "find_spec", lambda name: object())
    monkeypatch.setattr(QuickWorker, "failing", set())
    monkeypatch.setattr(QuickWorker, "plans", Prediction(PassPlan("stepwise", stepwise_us=2.0)))

    def run(*options: str) -> tuple[int, dict[str, Any]]:
        for path in (tmp_path / "new").glob("*"):
            path.unlink()
        command = ["device.py", "--no-build", "--output", str(tmp_path / "new"), *options]
        monkeypatch.setattr("sys.argv", command)
        code = device.main()
        (path,) = (tmp_path / "new").glob("device_quick_1_*.json")
        assert path.with_suffix(".png").exists()
        return code, json.loads(path.read_text())

    return run


def test_all_points_are_measured(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, content = run("--all", "--flashrnn", "3")
    assert (code, content["failures"], content["left_out"]) == (0, [], [])
    assert [result["point"] for result in content["results"]] == list(map(format_point, all_points()))
    assert sum(FLASHRNN in result["outcomes"] for result in content["results"]) == 3
    assert (content["driver"], content["limits"]["sms"]) == ("1.2.3", 10)
    assert "1.50x" in capsys.readouterr().out


def test_drivers_are_set_side_by_side(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    point = "lstm,1,9,8,7,float32,inference"
    code, content = run("--point", point, "--drivers", "stepwise,persistent")
    assert code == 0
    assert {"fused", "fused stepwise", "fused persistent"} < set(content["results"][0]["outcomes"])
    code, content = run("--point", point)
    assert set(content["results"][0]["outcomes"]) == {FUSED, TORCH}, "by default auto alone"


def test_a_point_that_fails_is_reported_and_the_rest_go_on(
    run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = all_points()[4]
    monkeypatch.setattr(QuickWorker, "failing", {bad})
    code, content = run("--all", "--flashrnn", "0")
    assert code == 1 and len(content["results"]) == len(all_points()) - 1
    assert content["failures"] == [f"{format_point(bad)}: FAILED: timing fused: no answer within 60 s"]
    assert content["failures"][0] in capsys.readouterr().out


def test_the_budget_leaves_out_the_least_important(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, content = run("--all", "--budget", "1")
    assert (code, content["results"]) == (0, [])
    assert content["left_out"] == list(map(format_point, all_points()))
    assert "Left out, for the time budget: 43" in capsys.readouterr().out


def test_times_are_kept_where_the_limits_fail(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(target: str) -> dict[str, Any]:
        raise BuildError("no compiler")

    monkeypatch.setattr(device, "measure_limits", fail)
    code, content = run("--point", "lstm,1,9,8,7,float32,training")
    assert code == 1 and "no compiler" in content["failures"][0]
    assert len(content["results"]) == 1 and content["limits"]["sms"] == 132


def test_times_are_kept_where_nothing_is_predicted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuickWorker, "plans", None)
    code, content = run("--point", "lstm,1,9,8,7,float32,training")
    assert code == 1 and content["failures"] == ["the core predicts nothing: starting: it has no plans"]
    assert content["results"][0]["prediction"] is None
    assert content["results"][0]["outcomes"][FUSED]["predicted_us"] == {}
