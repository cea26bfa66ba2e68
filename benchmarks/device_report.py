"""What device.py found: the table for the terminal, and the JSON with everything in it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from device_floor import DeviceLimits, floor_seconds
from device_lineup import FLASHRNN, FUSED, TOLERANCES, TORCH, TORCH_FLOAT16, cudnn_path, driver_of, fused_name
from device_points import format_point
from device_prediction import PLAN_LEGEND, Prediction, comparison, plan_lines, predicted_us
from measure import Outcome, WorkloadResult
from workload import Workload

_PATHS = {
    "standard": "s",
    "persistent": "p",
    "persistent, small H": "h",
    "persistent, small H forward": "h",
}
LEGEND = (
    "ours us: of one step, T steps a call. x: a time as a multiple of ours (above 1: ours is faster).",
    "torch: cuDNN in the point's dtype; s: its standard kernels, all that TensorFlow gets; p and h:",
    "its persistent ones, for float16 LSTMs and for small H. +-: half the distance of the quartiles.",
    "floor: the least time by the limits above (device_floor.py says how). pred. us: ours us as the core",
    "predicts it, the large products at the limits' rate (device_prediction.py).",
)


@dataclass
class DeviceRun:
    """One run: everything the JSON holds."""

    date: str
    suite: str
    seed: int
    drivers: tuple[str, ...]
    plan: dict[str, Any]
    limits: DeviceLimits
    limits_measured: dict[str, Any] = field(default_factory=dict)
    library_rates: dict[str, float] = field(default_factory=dict)  # flop/s
    gpu: str = ""
    driver: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    build_info: dict[str, Any] = field(default_factory=dict)
    predictions: dict[Workload, Prediction] = field(default_factory=dict)
    build_seconds: float | None = None
    machine: dict[str, Any] = field(default_factory=dict)
    results: list[WorkloadResult] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)  # of whole points
    left_out: list[Workload] = field(default_factory=list)

    @property
    def columns(self) -> list[str]:
        """The contenders beside the core, in the table's order."""
        return [*map(fused_name, self.drivers), TORCH, TORCH_FLOAT16, FLASHRNN]


def problems(run: DeviceRun) -> list[str]:
    """A line for each point or contender that failed or was wrong."""
    found = list(run.failures)
    for result in run.results:
        for name, outcome in result.outcomes.items():
            if outcome.status != "ok":
                text = f"{outcome.status.upper()}: {outcome.message}"
                found.append(f"{format_point(result.workload)}, {name}: {text}")
    return found


def floor_share(result: WorkloadResult, limits: DeviceLimits, name: str = FUSED) -> float | None:
    """The floor as a share of a contender's median time; None if it was not timed."""
    own = result.median(name)
    return None if own is None else 1e3 * floor_seconds(result.workload, limits) / own


def _spread(outcome: Outcome) -> str:
    samples = outcome.samples
    if samples is None:
        return "-"
    return f"{(samples.upper_quartile_ms - samples.lower_quartile_ms) / 2 / samples.median_ms:.0%}"


def predicted_step(run: DeviceRun, point: Workload) -> float | None:
    """Predicted microseconds of a step, all passes; None without a prediction of every pass."""
    prediction = run.predictions.get(point)
    if prediction is None:
        return None
    found = predicted_us(point, prediction, run.limits)
    return sum(found.values()) if len(found) == len(prediction.passes) else None


def _own_cells(run: DeviceRun, result: WorkloadResult) -> list[str]:
    outcome, predicted = result.outcomes.get(FUSED, Outcome("-")), predicted_step(run, result.workload)
    expected = "-" if predicted is None else f"{predicted:.2f}"
    if outcome.samples is None:
        return [outcome.status.upper(), "-", expected, "-"]
    median = outcome.samples.median_ms
    return [f"{median:.4g}", f"{1e3 * median / result.workload.case.steps:.2f}", expected, _spread(outcome)]


def _peer_cell(result: WorkloadResult, name: str) -> str:
    outcome = result.outcomes.get(name)
    if outcome is None:
        return "-"
    if outcome.samples is None:
        return outcome.status.upper()
    own, path = result.median(FUSED), ""
    if name.startswith(TORCH):
        dtype = "float16" if name == TORCH_FLOAT16 else result.workload.dtype
        path = " " + _PATHS[cudnn_path(result.workload, dtype)]
    ratio = "" if own is None else f" {outcome.samples.median_ms / own:.2f}x"
    return f"{outcome.samples.median_ms:.4g}{ratio}{path}"


def row(run: DeviceRun, result: WorkloadResult, columns: list[str]) -> list[str]:
    """A point's line of the table."""
    point, share = result.workload, floor_share(result, run.limits)
    least = 1e3 * floor_seconds(point, run.limits)
    return [
        f"{point.cell.removesuffix('_reset_after')} {point.mode[:5]} {point.case}",
        point.dtype,
        *_own_cells(run, result),
        *(_peer_cell(result, name) for name in columns),
        f"{least:.3g}",
        "-" if share is None else f"{share:.0%}",
    ]


def table(run: DeviceRun) -> list[str]:
    """All points, with what they were measured beside."""
    columns = [name for name in run.columns if any(name in result.outcomes for result in run.results)]
    heads = [
        "point B,T,I,H",
        "dtype",
        "ours ms",
        "ours us",
        "pred. us",
        "+-",
        *columns,
        "floor ms",
        "of floor",
    ]
    rows = [heads, *(row(run, result, columns) for result in run.results)]
    widths = [max(len(cells[n]) for cells in rows) for n in range(len(heads))]
    return [
        "  ".join(cell.ljust(widths[n]) if n < 2 else cell.rjust(widths[n]) for n, cell in enumerate(cells))
        for cells in rows
    ]


def measured_us(result: WorkloadResult, name: str) -> dict[str, float]:
    """Microseconds a step of a fused contender, by pass where those were timed; an inference is one pass."""
    outcome, steps = result.outcomes[name], result.workload.case.steps
    if outcome.samples is None:
        return {}
    parts = outcome.parts or ({"forward": outcome.samples} if result.workload.mode == "inference" else {})
    return {part: 1e3 * samples.median_ms / steps for part, samples in parts.items()}


def comparison_lines(run: DeviceRun) -> list[str]:
    """How far the predictions are off, by the driver that ran the pass."""
    ratios: dict[str, list[float]] = {}
    for result in run.results:
        prediction = run.predictions.get(result.workload)
        if prediction is None:
            continue
        for name in result.outcomes:
            driver = driver_of(name)
            for part, us in measured_us(result, name).items() if name.startswith(FUSED) else ():
                expected = predicted_us(result.workload, prediction, run.limits, driver).get(part)
                ran = prediction.passes[part].driver if driver == "auto" else driver
                if expected is not None:
                    ratios.setdefault(f"{ran}, {part}", []).append(expected / us)
    return ["", *(comparison(ran, ratios[ran]) for ran in sorted(ratios))] if ratios else []


def limit_lines(limits: DeviceLimits) -> list[str]:
    """The limits that floors are computed from."""
    rates = ", ".join(f"{dtype} {rate * 1e-12:.0f}" for dtype, rate in limits.rates.items())
    cluster = "none"
    if limits.cluster_size > 1:
        cluster = (
            f"of {limits.cluster_size}, wait {limits.cluster_wait * 1e6:.2f} us, "
            f"reads {limits.cluster_bandwidth * 1e-12:.2f} TB/s"
        )
    return [
        f"{limits.name}: {limits.sms} multiprocessors, memory {limits.memory_bandwidth * 1e-12:.2f} TB/s, "
        f"L2 {limits.l2_bandwidth * 1e-12:.2f}, shared memory {limits.shared_bandwidth * 1e-12:.1f}",
        f"grid-wide wait {limits.grid_wait * 1e6:.2f} us, launch {limits.launch * 1e6:.2f} us, "
        f"clusters {cluster}",
        f"TFLOP/s: {rates}",
    ]


def summary(run: DeviceRun) -> list[str]:
    """What is printed last."""
    lines = ["", *limit_lines(run.limits), "", *LEGEND, "", *table(run), *comparison_lines(run)]
    if run.left_out:
        lines += ["", f"Left out, for the time budget: {len(run.left_out)}"]
        lines += [f"  {format_point(point)}" for point in run.left_out]
    found = problems(run)
    return lines + (["", "Problems:", *(f"  {text}" for text in found)] if found else [])


def dry_run_lines(points: list[Workload], limits: DeviceLimits, planner: ModuleType | None) -> list[str]:
    """The points with their floors and what `planner` plans for them; nothing measured."""
    lines = [*limit_lines(limits), "", f"{'point':<64}{'floor ms':>10}{'us a step':>11}  torch's cuDNN path"]
    for point in points:
        least = floor_seconds(point, limits)
        step = 1e6 * least / point.case.steps
        path = cudnn_path(point, point.dtype)
        lines.append(f"{format_point(point):<64}{1e3 * least:>10.3g}{step:>11.2f}  {path}")
    lines += [f"{len(points)} points", ""]
    if planner is None:
        return [
            *lines,
            "No plans: they need fused_rnn_core built with CUDA, or build/emulator.",
        ]
    return [*lines, *PLAN_LEGEND, "", *plan_lines(points, planner, limits)]


def _result_json(run: DeviceRun, result: WorkloadResult) -> dict[str, Any]:
    point, limits, prediction = result.workload, run.limits, run.predictions.get(result.workload)
    found: dict[str, Any] = {
        "point": format_point(point),
        "prediction": None if prediction is None else asdict(prediction),
        "floor_ms": 1e3 * floor_seconds(point, limits),
        "flop": point.flop,
        "outcomes": {},
    }
    for name, outcome in result.outcomes.items():
        entry = asdict(outcome)
        if name.startswith(TORCH):
            dtype = "float16" if name == TORCH_FLOAT16 else point.dtype
            entry["cudnn_path"] = cudnn_path(point, dtype)
        entry["share_of_floor"] = floor_share(result, limits, name)
        if name.startswith(FUSED):
            entry["predicted_us"] = (
                {} if prediction is None else predicted_us(point, prediction, limits, driver_of(name))
            )
            entry["measured_us"] = measured_us(result, name)
        found["outcomes"][name] = entry
    return found


def write_json(run: DeviceRun, path: Path) -> None:
    """Everything, one file."""
    content = {
        name: value
        for name, value in vars(run).items()
        if name not in ("results", "left_out", "limits", "predictions")
    }
    content |= {
        "limits": asdict(run.limits),
        "tolerances": TOLERANCES,
        "left_out": [format_point(point) for point in run.left_out],
        "results": [_result_json(run, result) for result in run.results],
    }
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
