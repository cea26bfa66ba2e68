"""The picture of a device run: microseconds a step of every contender, and the floor."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from device_floor import DeviceLimits, floor_seconds
from device_lineup import FLASHRNN, FUSED, TORCH, TORCH_FLOAT16, fused_name
from device_report import DeviceRun
from measure import WorkloadResult

# Okabe and Ito's colours, and shapes besides.
_STYLES = {
    FUSED: ("#000000", "|", 13.0),
    fused_name("stepwise"): ("#0072B2", "s", 5.5),
    fused_name("persistent"): ("#56B4E9", "P", 6.5),
    TORCH: ("#E69F00", "D", 5.5),
    TORCH_FLOAT16: ("#D55E00", "o", 6.0),
    FLASHRNN: ("#009E73", "^", 6.5),
}


def write_plot(run: DeviceRun, path: Path) -> None:
    """A row for each point, a panel for each mode; markers: medians, lines: quartiles, grey: to the floor."""
    panels = {mode: [r for r in run.results if r.workload.mode == mode] for mode in ("inference", "training")}
    panels = {mode: results for mode, results in panels.items() if results} or {"nothing measured": []}
    rows = max(1, *(len(results) for results in panels.values()))
    figure, axes = plt.subplots(
        1,
        len(panels),
        squeeze=False,
        figsize=(1 + 7.5 * len(panels), 2.2 + 0.42 * rows),
        layout="constrained",
    )
    for axis, (mode, results) in zip(axes[0], panels.items(), strict=True):
        _draw_panel(axis, results, run.limits)
        axis.set_title(mode, loc="left", fontsize=11, fontweight="bold")
    timed = {name for r in run.results for name, outcome in r.outcomes.items() if outcome.samples}
    handles = [
        Line2D(
            [], [], color=colour, marker=marker, ls="", ms=size, mew=2.5 if marker == "|" else 0, label=name
        )
        for name, (colour, marker, size) in _STYLES.items()
        if name in timed
    ]
    handles.append(Line2D([], [], color="#bbbbbb", lw=6, label="floor"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=10)
    versions = ", ".join(
        f"{name} {run.versions[name]}" for name in ("torch", "cudnn") if name in run.versions
    )
    figure.suptitle(
        f"fused_rnn on {run.gpu or run.limits.name}: microseconds a step, beside cuDNN\n"
        f"{versions}, {run.date[:10]}",
        fontsize=11,
    )
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_panel(axis: Axes, results: list[WorkloadResult], limits: DeviceLimits) -> None:
    labels = []
    for place, result in enumerate(results):
        point = result.workload
        case, per_step = point.case, 1e3 / point.case.steps
        cell = point.cell.removesuffix("_reset_after").upper()
        labels.append(f"{cell} B{case.batch} T{case.steps} I{case.inputs} H{case.hidden} {point.dtype}")
        floor = 1e6 * floor_seconds(point, limits) / case.steps
        axis.plot(
            [floor / 1e3, floor], [place, place], color="#dddddd", lw=6, solid_capstyle="butt", zorder=0
        )
        for name, outcome in result.outcomes.items():
            if outcome.samples is None:
                continue
            colour, marker, size = _STYLES[name]
            times = outcome.samples
            ends = [times.lower_quartile_ms * per_step, times.upper_quartile_ms * per_step]
            axis.plot(ends, [place, place], color=colour, lw=2, alpha=0.45, solid_capstyle="butt")
            edge = 2.5 if marker == "|" else 0
            axis.plot(times.median_ms * per_step, place, marker, color=colour, ms=size, mew=edge)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    axis.set_xscale("log")
    values = [1e6 * floor_seconds(r.workload, limits) / r.workload.case.steps for r in results]
    medians = [
        1e3 * outcome.samples.median_ms / r.workload.case.steps
        for r in results
        for outcome in r.outcomes.values()
        if outcome.samples
    ]
    axis.set_xlim(0.6 * min(values, default=1.0), 1.5 * max(values + medians, default=10.0))
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5), numticks=100))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(axis="x", color="#e4e4e4", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
    axis.set_xlabel("us a step (log scale)")
