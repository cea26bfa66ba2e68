"""What a run found: text for the terminal, and the JSON with everything in it."""

import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, PEERS, REFERENCE, SEQUENCE
from measure import Outcome, WorkloadResult
from workload import Workload

_COLUMN = 16
_BUSY = 0.1  # above this share taken by other processes, times are not to be trusted


@dataclass
class Run:
    """One run of the harness: everything the JSON holds."""

    date: str
    device: str
    suite: str
    dtype: str
    threads: int
    plan: dict[str, float]
    machine: dict[str, Any]
    versions: dict[str, str]
    build_info: dict[str, Any]
    absent: dict[str, str]
    peaks: dict[str, float] = field(default_factory=dict)  # GFLOP/s
    results: list[WorkloadResult] = field(default_factory=list)

    @property
    def peak(self) -> float:
        """The highest rate measured, in GFLOP/s."""
        return max(self.peaks.values())


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and system; nothing that names the machine."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line
            for line in information.read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ]
        model = names[0].split(":", 1)[1].strip() if names else model
    return {
        "cpu": model,
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def rate(workload: Workload, milliseconds: float) -> float:
    """GFLOP/s of a workload done in the given time."""
    return workload.flop / milliseconds * 1e-6


def best_peer(result: WorkloadResult) -> str | None:
    """The fastest peer that was timed."""
    medians = {peer.name: result.median(peer.name) for peer in PEERS}
    timed = {name: median for name, median in medians.items() if median is not None}
    return min(timed, key=lambda name: timed[name]) if timed else None


def speedup(result: WorkloadResult, name: str | None, base: str = SEQUENCE) -> float | None:
    """How many times the `base` contender's time the named one takes; None if either was not timed."""
    own, other = result.median(base), result.median(name) if name else None
    return other / own if own is not None and other is not None else None


def detail_lines(result: WorkloadResult, peak: float) -> list[str]:
    """One line for each contender of a workload: median, quartiles, rate, share of the peak, error found."""
    workload = result.workload
    load = "" if result.stolen is None else f", other processes used {result.stolen:.0%} of the machine"
    lines = [f"{workload}  ({workload.flop * 1e-9:.3g} GFLOP{load})"]
    for contender in CONTENDERS:
        outcome = result.outcomes.get(contender.name)
        if outcome is None:
            continue
        text = f"{outcome.status.upper()}: {outcome.message}"
        if outcome.samples is not None:
            times, reached = outcome.samples, rate(workload, outcome.samples.median_ms)
            text = (
                f"{times.median_ms:9.3f} ms  "
                f"[{times.lower_quartile_ms:.3f} to {times.upper_quartile_ms:.3f}, {times.calls} calls]  "
                f"{reached:6.1f} GFLOP/s  {reached / peak:4.0%} of peak  "
                f"error {outcome.error:.0e}"
            )
        lines.append(f"    {contender.label:<32}{text}")
    return lines


def _cell_text(result: WorkloadResult, name: str) -> str:
    """One column of the summary: the median, and its ratio to the sequence route's."""
    outcome = result.outcomes.get(name, Outcome("-"))
    if outcome.samples is None:
        return outcome.status.upper()
    ratio = speedup(result, name)
    relative = "" if ratio is None or name == SEQUENCE else f" {ratio:5.2f}x"
    median = outcome.samples.median_ms
    return (f"{median:.4g}" if median < 1000 else f"{median:.0f}") + relative


def _disturbed(result: WorkloadResult) -> bool:
    return result.stolen is not None and result.stolen > _BUSY


def _row(cells: list[str]) -> str:
    return "".join(f"{cell:>{_COLUMN}}" for cell in cells[:-1]) + "   " + cells[-1]


def summary_lines(run: Run) -> list[str]:
    """The tables: a block for each cell and mode, a row for each case, a column for each contender."""
    present = [contender for contender in CONTENDERS if contender.name not in run.absent]
    lines = [
        "Medians in ms, and as multiples of the fused sequence route's (above 1: that route is faster).",
        f"Peak: {run.peak:.0f} GFLOP/s, the highest of "
        + ", ".join(f"{name} {value:.0f}" for name, value in run.peaks.items()),
    ]
    lines += [
        f"{contender.label}: {run.absent[contender.name]}"
        for contender in CONTENDERS
        if contender.name in run.absent
    ]
    if run.dtype != "float32":
        lines.append(f"All tensors are {run.dtype}; the peak is that of float32 multiply-adds.")
    if any(_disturbed(result) for result in run.results):
        lines.append(
            f"*: other processes used more than {_BUSY:.0%} of the machine. Those times are too long, "
            "and by far the most those of peers whose threads wait by spinning (torch, onnxruntime)."
        )
    heading = None
    for result in run.results:
        workload = result.workload
        if heading != (workload.cell, workload.mode):
            heading = (workload.cell, workload.mode)
            columns = [contender.name for contender in present] + ["reference/step", "of peak", "best peer"]
            lines += ["", f"{workload.cell}, {workload.mode}"]
            lines.append(f"{'B,T,I,H':<18}" + _row(columns))
        cells = [_cell_text(result, contender.name) for contender in present]
        best = best_peer(result)
        best_ratio, step_ratio = speedup(result, best), speedup(result, REFERENCE, base="step")
        cells.append("-" if step_ratio is None else f"{step_ratio:.2f}x")
        own = result.median(SEQUENCE)
        cells.append("-" if own is None else f"{rate(workload, own) / run.peak:.0%}")
        cells.append("-" if best_ratio is None else f"{best_ratio:.2f}x {best}")
        lines.append(f"{str(workload.case) + '*' * _disturbed(result):<18}" + _row(cells))
    return lines


def _outcome_json(workload: Workload, outcome: Outcome, peak: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "status": outcome.status,
        "message": outcome.message,
        "worst_tensor": outcome.worst_tensor,
        "worst_error": outcome.error if outcome.error != float("inf") else "inf",
    }
    if outcome.samples is not None:
        reached = rate(workload, outcome.samples.median_ms)
        found |= vars(outcome.samples) | {"gflop_per_second": reached, "share_of_peak": reached / peak}
    return found


def write_json(run: Run, path: Path) -> None:
    """Everything about a run, as JSON."""
    content = {name: value for name, value in vars(run).items() if name != "results"}
    content["peak_gflop_per_second"] = run.peak
    content["results"] = [
        {
            "cell": result.workload.cell,
            "mode": result.workload.mode,
            "case": vars(result.workload.case),
            "flop": result.workload.flop,
            "used_by_other_processes": result.stolen,
            "sequence_speedup": {peer.name: speedup(result, peer.name) for peer in PEERS},
            "best_peer": best_peer(result),
            "contenders": {
                name: _outcome_json(result.workload, outcome, run.peak)
                for name, outcome in result.outcomes.items()
            },
        }
        for result in run.results
    ]
    path.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
