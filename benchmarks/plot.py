"""The picture of a run: every contender's time as a multiple of the fused sequence route's."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from contenders import CONTENDERS, SEQUENCE
from measure import WorkloadResult
from report import Run, rate
from workload import CELLS, MODES

# Distinct for readers who see few colours (Okabe and Ito's palette), and in shape as well.
# Each: colour, marker, its size, width of its edge.
_STYLES = {
    "step": ("#0072B2", "s", 6.5, 0.0),
    SEQUENCE: ("#000000", "|", 11.0, 2.5),
    "in_caller": ("#56B4E9", "<", 7.0, 0.0),
    "reference": ("#D55E00", "o", 7.0, 0.0),
    "keras": ("#CC79A7", "^", 7.5, 0.0),
    "torch": ("#E69F00", "D", 6.5, 0.0),
    "onnxruntime": ("#009E73", "v", 7.5, 0.0),
}
_TITLES = {
    "lstm": "LSTM",
    "gru": "GRU, reset before",
    "gru_reset_after": "GRU, reset after",
    "rnn": "plain RNN",
}
_CROWDED_DECADES = 2.6  # on a wider axis only the powers of ten are marked


def write_plot(run: Run, path: Path) -> None:
    """A panel for each cell and mode, a row for each case, markers for medians, lines for quartiles."""
    groups: dict[tuple[str, str], list[WorkloadResult]] = {}
    for result in run.results:
        groups.setdefault((result.workload.cell, result.workload.mode), []).append(result)
    cells = [cell for cell in CELLS if any(cell == key[0] for key in groups)]
    modes = [mode for mode in MODES if any(mode == key[1] for key in groups)]
    rows = [max(len(groups.get((cell, mode), ())) for mode in modes) for cell in cells]
    figure, axes = plt.subplots(
        len(cells),
        len(modes),
        squeeze=False,
        sharex="col",
        figsize=(1.5 + 6 * len(modes), 1.8 + sum(0.6 + 0.62 * count for count in rows)),
        height_ratios=[1 + count for count in rows],
        layout="constrained",
    )
    for line, cell in zip(axes, cells, strict=True):
        for axis, mode in zip(line, modes, strict=True):
            _draw_panel(axis, groups.get((cell, mode), []), run.peak)
            axis.set_title(f"{_TITLES[cell]}, {mode}", loc="left", fontsize=11, fontweight="bold")
    for axis in axes.flat:
        _set_scale(axis)
    for axis in axes[-1]:
        axis.set_xlabel("time as a multiple of the fused sequence route's (log scale)")
    _describe(figure, run)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_panel(axis: Axes, results: list[WorkloadResult], peak: float) -> None:
    """One row a case, first on top; in it the contenders stand below one another, in the table's order."""
    labels = []
    for row, result in enumerate(results):
        case, own = result.workload.case, result.median(SEQUENCE)
        name = f"B{case.batch} T{case.steps} I{case.inputs} H{case.hidden}"
        if own is None:
            labels.append(f"{name}\nsequence route not timed")
            continue
        labels.append(f"{name}\n{own:.3g} ms, {rate(result.workload, own) / peak:.0%} of peak")
        timed = [(name, outcome.samples) for name, outcome in result.outcomes.items() if outcome.samples]
        for (contender, times), place in zip(timed, row + np.linspace(-0.34, 0.34, len(timed)), strict=True):
            colour, marker, size, edge = _STYLES[contender]
            ends = [times.lower_quartile_ms / own, times.upper_quartile_ms / own]
            axis.plot(ends, [place, place], color=colour, lw=2, alpha=0.45, solid_capstyle="butt")
            axis.plot(times.median_ms / own, place, marker, color=colour, ms=size, mew=edge)
        if row % 2:
            axis.axhspan(row - 0.5, row + 0.5, color="#f2f2f2", zorder=0)
    axis.axvline(1, color="black", lw=0.8, zorder=1)
    axis.set_yticks(range(len(labels)), labels, fontsize=8.5)
    axis.set_ylim(max(len(labels), 1) - 0.5, -0.5)


def _set_scale(axis: Axes) -> None:
    """A log scale in plain multiples, on a bare frame; for when all panels that share it are drawn."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, 0.8), max(high, 1.25))
    sparse = np.log10(axis.get_xlim()[1] / axis.get_xlim()[0]) > _CROWDED_DECADES
    axis.xaxis.set_major_locator(LogLocator(10, subs=(1,) if sparse else (1, 2, 5), numticks=100))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.grid(axis="x", color="#d8d8d8", lw=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.tick_params(axis="x", labelsize=9, labelbottom=True)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _describe(figure: Figure, run: Run) -> None:
    """Title with what was measured where, and one legend for all panels."""
    timed = {name for result in run.results for name, outcome in result.outcomes.items() if outcome.samples}
    handles = []
    for contender in CONTENDERS:
        if contender.name in timed:
            colour, marker, size, edge = _STYLES[contender.name]
            handles.append(
                Line2D([], [], color=colour, marker=marker, ls="", ms=size, mew=edge, label=contender.label)
            )
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    where = f"{run.machine['cpu']}, {run.threads} threads" if run.device == "cpu" else "GPU"
    what = f"{run.dtype}, {where}, measured peak {run.peak:.0f} GFLOP/s, {run.date[:10]}"
    figure.suptitle(
        "fused_rnn beside its peers: right of the line, the sequence route is faster\n"
        f"{what}; markers: medians, lines: quartiles",
        fontsize=11,
    )
