"""What benchmarks/device_prediction.py makes of the core's plans, which the emulated module has too."""

from __future__ import annotations

from dataclasses import replace

import pytest

import device_account
from core.sequence import REPOSITORY, build_emulated_module
from device_floor import H200_DATASHEET
from device_points import all_points, parse_point
from device_prediction import PassPlan, Prediction, predict, predicted_us, products_us
from device_report import dry_run_lines
from docs_table import read_table


def test_predictions_are_the_cores() -> None:
    module = build_emulated_module()
    point = parse_point("lstm,64,256,1024,1024,bfloat16,training")
    found = predict(module, point, H200_DATASHEET)
    for backward, plan in enumerate((found.forward, found.backward)):
        case = point.case
        of_core = module.cuda_plan(
            "lstm",
            "bfloat16",
            case.steps,
            case.batch,
            case.hidden,
            backward=bool(backward),
            processors=132,
            shared_bytes=227 << 10,
        )
        assert plan is not None and plan.driver == "persistent" and of_core["pays"]
        assert (plan.groups, plan.blocks, plan.rows) == tuple(
            of_core[n] for n in ("groups", "blocks", "rows")
        )
        assert (plan.persistent_us, plan.stepwise_us) == (of_core["step_us"], of_core["stepwise_step_us"])
        (stage,) = of_core["stages"]
        # What stays and what is streamed are the block's share of R, in whole pieces of 64 bytes of depth.
        depth = 1024 * (4 if backward else 1) * 2
        assert plan.kept_bytes + plan.streamed_bytes == stage["columns"] * depth
        reads = 2 if not backward and stage["columns"] > 64 else 1
        assert plan.exchanged_bytes == 64 * depth * plan.blocks * reads
        assert plan.moved_bytes - plan.exchanged_bytes == plan.streamed_bytes * plan.blocks * plan.groups
    for driver, us in (("persistent", found.forward.persistent_us), ("stepwise", found.forward.stepwise_us)):
        both = predicted_us(point, found, H200_DATASHEET, driver)
        assert us is not None
        assert both["forward"] == pytest.approx(us + products_us(point, H200_DATASHEET))
        assert set(both) == {"forward", "backward"}
    assert products_us(point, H200_DATASHEET, True) == pytest.approx(3 * products_us(point, H200_DATASHEET))
    assert predict(module, replace(point, mode="inference"), H200_DATASHEET).backward is None


def test_the_documents_account_is_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/gpu.md; where this fails, `python benchmarks/device_account.py --write` writes it anew."""
    assert read_table("account") == device_account.account(build_emulated_module())
    monkeypatch.setattr("sys.argv", ["device_account.py"])
    monkeypatch.setattr(device_account, "find_planner", build_emulated_module)
    assert device_account.main() == 0
    monkeypatch.setattr(device_account, "read_table", lambda name: ["another table"])
    assert device_account.main() == 1
    monkeypatch.setattr(device_account, "find_planner", lambda: None)
    assert device_account.main() == 1


def test_the_document_has_the_resources_of_every_source() -> None:
    """Their figures are compared where nvcc is, by the target cuda_resources."""
    sources = [path.stem for path in sorted((REPOSITORY / "csrc" / "cuda").glob("*.cu"))]
    rows = [line.split("|")[1].strip(" `") for line in read_table("resources")[4:]]
    assert rows == sources


def test_what_only_one_driver_can_run_says_so() -> None:
    point = parse_point("lstm,1,1,8,8,float32,inference")
    assert predict(build_emulated_module(), point, H200_DATASHEET).forward.driver == "stepwise"
    tiny = replace(H200_DATASHEET, shared_bytes=1)
    plan = predict(build_emulated_module(), point, tiny).forward
    assert plan == PassPlan("stepwise", "this GPU is too small for it")
    assert predicted_us(point, Prediction(plan), tiny) == {}


def test_dry_run_shows_the_plans() -> None:
    points = all_points()
    lines = dry_run_lines(points, H200_DATASHEET, build_emulated_module())
    assert sum(" forward " in line for line in lines) == len(points)
    assert sum(" backward " in line for line in lines) == sum(point.mode == "training" for point in points)
    assert any("predictions from estimates, not measurements" in line for line in lines)
    assert "No plans" in dry_run_lines(points, H200_DATASHEET, None)[-1]
