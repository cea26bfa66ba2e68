"""What the core predicts of a point: which driver it would choose, how that divides the work, a step's time.

The core's cuda_plan answers, in any build with CUDA and on the emulator, for a GPU that need not be there.
Its times rest on estimates (csrc/cuda/persistent_plan.cc), which nobody has measured on a GPU: here they
stand beside the floor, and in a report beside what was measured.
"""

import importlib
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from types import ModuleType
from typing import Any

from device_build import REPOSITORY, import_core
from device_floor import DeviceLimits, step_seconds
from device_points import format_point
from workload import GATES, Workload

EMULATOR = REPOSITORY / "build" / "emulator"
_COLUMNS_AT_ONCE, _ROWS_AT_ONCE = 64, 32  # of a block's product: more of them read their other side again
_PIECE_COLUMNS, _PIECE_BYTES = 8, 512


@dataclass(frozen=True)
class PassPlan:
    """One direction of a point. Bytes are those of the persistent driver, whichever is chosen."""

    driver: str  # that auto takes
    why_not: str = ""  # the persistent one cannot run it
    side_by_side: int = 0  # directions that a launch runs; the numbers of groups and blocks are for each
    groups: int = 0
    blocks: int = 0  # of a group
    rows: int = 0
    units: tuple[int, ...] = ()  # of a block, in each stage
    shared_bytes: int = 0  # of a block
    kept_bytes: int = 0  # weights of a block that stay
    streamed_bytes: int = 0  # weights of a block that do not
    exchanged_bytes: int = 0  # that all blocks read of each other in a step
    moved_bytes: int = 0  # the same, and the weights that are streamed
    persistent_us: float | None = None
    stepwise_us: float | None = None

    def step_us(self, driver: str = "auto") -> float | None:
        """Predicted microseconds of a step, the cell and the recurrent product alone."""
        chosen = self.driver if driver == "auto" else driver
        return self.persistent_us if chosen == "persistent" else self.stepwise_us


@dataclass(frozen=True)
class Prediction:
    """A point's; `backward` is None in inference."""

    forward: PassPlan
    backward: PassPlan | None = None

    @property
    def passes(self) -> dict[str, PassPlan]:
        """By name."""
        both = {"forward": self.forward, "backward": self.backward}
        return {name: plan for name, plan in both.items() if plan is not None}


def find_planner() -> ModuleType | None:
    """A module that has cuda_plan: the core as built for a GPU, or the emulated one; None without either."""
    sys.path.append(str(EMULATOR))
    try:
        for find in (import_core, lambda: importlib.import_module("fused_rnn_core_emulated")):
            with suppress(ImportError):
                module = find()
                if hasattr(module, "cuda_plan"):
                    return module
    finally:
        sys.path.remove(str(EMULATOR))
    return None


def predict(module: ModuleType, point: Workload, limits: DeviceLimits | None = None) -> Prediction:
    """For a GPU of these limits; without them, for the one that is there."""
    backward = _plan(module, point, limits, True) if point.mode == "training" else None
    return Prediction(_plan(module, point, limits, False), backward)


def _plan(module: ModuleType, point: Workload, limits: DeviceLimits | None, backward: bool) -> PassPlan:
    case, tf32 = point.case, point.dtype == "tf32"
    gpu = {"processors": limits.sms, "shared_bytes": limits.shared_bytes} if limits else {}
    found: dict[str, Any] = module.cuda_plan(
        point.cell,
        "float32" if tf32 else point.dtype,
        case.steps,
        case.batch,
        case.hidden,
        sequences=point.directions,
        backward=backward,
        allow_tf32=tf32,
        **gpu,
    )
    if found["why_not"]:
        return PassPlan("stepwise", found["why_not"])
    stages, rows, blocks = found["stages"], found["rows"], found["blocks"]
    kept = sum(s["resident"] * s["columns"] // _PIECE_COLUMNS * _PIECE_BYTES for s in stages)
    # exchange_bytes holds all rows once; each block of a group reads those of its group.
    exchanged = sum(s["exchange_bytes"] * blocks * -(-s["columns"] // _COLUMNS_AT_ONCE) for s in stages)
    streamed = found["streamed_bytes"] * blocks * found["groups"] * -(-rows // _ROWS_AT_ONCE)
    exchanged, streamed = exchanged * point.directions, streamed * point.directions
    return PassPlan(
        driver="persistent" if found["pays"] and case.steps > 1 else "stepwise",
        side_by_side=found["side_by_side"],
        groups=found["groups"],
        blocks=blocks,
        rows=rows,
        units=tuple(s["units"] for s in stages),
        shared_bytes=found["shared_bytes"],
        kept_bytes=kept,
        streamed_bytes=found["streamed_bytes"],
        exchanged_bytes=exchanged,
        moved_bytes=exchanged + streamed,
        persistent_us=found["step_us"],
        stepwise_us=found["stepwise_step_us"],
    )


def products_us(point: Workload, limits: DeviceLimits, backward: bool = False) -> float:
    """Microseconds a step of the large products outside of the recurrence, at the limits' rate.

    Forward x . W; backward d_z . W^T, x^T . d_z and h_prev^T . d_z. The drivers' steps hold the rest.
    """
    case = point.case
    depth = 2 * case.inputs + case.hidden if backward else case.inputs
    width = point.directions * GATES[point.cell] * case.hidden
    return 2e6 * case.batch * depth * width / limits.rates[point.dtype]


def predicted_us(
    point: Workload, prediction: Prediction, limits: DeviceLimits, driver: str = "auto"
) -> dict[str, float]:
    """Microseconds a step of each pass that has a prediction, its large products included."""
    found = {}
    for name, plan in prediction.passes.items():
        step = plan.step_us(driver)
        if step is not None:
            found[name] = step + products_us(point, limits, backward=name == "backward")
    return found


HEADS = (
    *("pass", "driver", "groups x blocks", "rows", "units", "shared KB", "stay KB", "stream KB"),
    *("MB a step", "of it streamed", "us", "stepwise us", "floor us"),
)


PLAN_LEGEND = (
    "What the core would do on such a GPU. Times are predictions from estimates, not measurements, of a",
    "step without the large products. 2 x groups x blocks: one launch runs both directions. KB of a block,",
    "MB of all blocks a step. stay, stream: weights.",
)


def plan_cells(point: Workload, name: str, plan: PassPlan, limits: DeviceLimits) -> list[str]:
    """One pass under HEADS: KB of a block, MB of all blocks, times of a step without the large products."""
    floor = 1e6 * step_seconds(point, limits, backward=name == "backward")
    if plan.why_not:
        return [name, plan.driver, *["-"] * (len(HEADS) - 3), f"{floor:.2f}"]
    return [
        name,
        plan.driver,
        f"{'2 x ' if plan.side_by_side == 2 else ''}{plan.groups} x {plan.blocks}",
        str(plan.rows),
        "+".join(map(str, plan.units)),
        *(f"{size / 1024:.0f}" for size in (plan.shared_bytes, plan.kept_bytes, plan.streamed_bytes)),
        f"{plan.moved_bytes / 1e6:.1f}",
        f"{(plan.moved_bytes - plan.exchanged_bytes) / 1e6:.1f}",
        *("-" if us is None else f"{us:.1f}" for us in (plan.persistent_us, plan.stepwise_us)),
        f"{floor:.2f}",
    ]


def plan_lines(points: Iterable[Workload], module: ModuleType, limits: DeviceLimits) -> list[str]:
    """The table for the terminal."""
    rows = [["point", *HEADS]]
    for point in points:
        for name, plan in predict(module, point, limits).passes.items():
            rows.append([format_point(point), *plan_cells(point, name, plan, limits)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'<' if n < 3 else '>'}{widths[n]}}" for n, cell in enumerate(row)) for row in rows
    ]


def comparison(what: str, ratios: list[float]) -> str:
    """How far predictions are off; ratios: predicted / measured."""
    return (
        f"predicted / measured, {what}, {len(ratios)} passes: median {median(ratios):.2f}, "
        f"from {min(ratios):.2f} to {max(ratios):.2f}"
    )
