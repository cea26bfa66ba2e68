"""Measures what the CPU kernels promise besides speed, and prints each figure beside its target.

    python benchmarks/limits.py                    every part, about ten minutes
    python benchmarks/limits.py --only threads     one part; repeatable
    python benchmarks/limits.py --quick            few repetitions, LSTM only

The parts: the fixed cost of a call, growth with T and B, two threads, several sessions at once, memory, and
the step route. Every result is checked before it is timed (of doubled sizes its shape: they are the sequence
route again, whose results are). Written as JSON, too. Exit code 1: a result was wrong or a contender failed;
a target that is missed is no failure.
"""

import os

# As in run.py: NumPy's threads would disturb what is timed.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tqdm import tqdm

from contenders import Contender
from figures import Figure
from limit_parts import PARTS, THREADS, Part
from measure import WorkloadResult
from report import describe_machine
from timing import QUICK_PLAN, Plan
from worker import Settings, Worker, WorkerError, set_environment
from workload import Workload


@dataclass
class Findings:
    """What a part found."""

    name: str
    title: str
    figures: list[Figure] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    used_by_other_processes: float | None = None  # the largest share of the machine during a workload


def parse_arguments() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, names = parser.add_argument, [part.name for part in PARTS]
    add("--only", choices=names, action="append", help="this part instead of all; repeatable")
    add("--quick", action="store_true", help="few repetitions, LSTM only")
    folder = Path(__file__).with_name("results")
    add("--output", type=Path, default=folder, metavar="DIR", help="for the JSON")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def workloads_of(part: Part, quick: bool) -> list[Workload]:
    """The part's workloads."""
    return [workload for workload in part.workloads if not quick or workload.cell == "lstm"]


def takes_part(contender: Contender, workload: Workload) -> bool:
    """Whether it is installed and offers the workload."""
    return contender.offers(workload) and not contender.missing()


def start(part: Part, versions: dict[str, str], build_info: dict[str, Any]) -> list[Worker]:
    """The part's workers, started."""
    workers = [
        Worker(contender, Settings("cpu", threads))
        for contender, threads in part.entrants
        if not contender.missing()
    ]
    for worker in workers:
        worker.send("start")  # all import side by side
    for worker in workers:
        try:
            answer = worker.receive()
        except WorkerError as error:
            sys.exit(f"{worker.contender.label} cannot run: {error}")
        versions |= answer["versions"]
        build_info |= answer.get("build_info", {})
    return workers


def failures_of(result: WorkloadResult) -> list[str]:
    """A line for each contender whose result was wrong or that raised an error."""
    return [
        f"{result.workload}, {name}: {outcome.status.upper()}: {outcome.message}"
        for name, outcome in result.outcomes.items()
        if outcome.status != "ok"
    ]


def run_part(
    part: Part, workers: list[Worker], workloads: list[Workload], plan: Plan, progress: Callable[[str], None]
) -> Findings:
    """Runs all workloads; figures come from those in which nobody failed."""
    findings, results = Findings(part.name, part.title), []
    for workload in workloads:
        team = [worker for worker in workers if takes_part(worker.contender, workload)]
        result = part.measure(workload, team, "cpu", plan, progress, part.answer)
        failures = failures_of(result)
        findings.failures += failures
        if not failures:
            results.append(result)
        if result.stolen is not None:
            findings.used_by_other_processes = max(result.stolen, findings.used_by_other_processes or 0.0)
    findings.figures = part.figures(results)
    return findings


def lines_of(findings: Findings) -> list[str]:
    """The part's table."""
    stolen = findings.used_by_other_processes
    load = "" if stolen is None else f" (other processes used up to {stolen:.0%} of the machine)"
    rows = [f"  {figure.line()}" for figure in findings.figures]
    return [
        "",
        f"{findings.name}: {findings.title}{load}",
        *rows,
        *(f"  {text}" for text in findings.failures),
    ]


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything about a part."""
    figures = [asdict(figure) | {"met": figure.met} for figure in findings.figures]
    return asdict(findings) | {"figures": figures}


def run_parts(
    parts: list[Part], quick: bool, plan: Plan, versions: dict[str, str], build_info: dict[str, Any]
) -> list[Findings]:
    """Runs the parts and prints their tables; fills in what the workers are made of."""
    found: list[Findings] = []
    workloads = {part.name: workloads_of(part, quick) for part in parts}
    steps = sum(
        (1 + plan.rounds) * sum(takes_part(contender, workload) for contender, _ in part.entrants)
        for part in parts
        for workload in workloads[part.name]
    )
    with tqdm(total=steps, unit="step", dynamic_ncols=True) as bar:

        def progress(text: str) -> None:
            bar.set_description(text)
            bar.update()

        for part in parts:
            bar.set_description(f"{part.name}: starting")
            os.environ.update(part.environment)
            workers = start(part, versions, build_info)
            found.append(run_part(part, workers, workloads[part.name], plan, progress))
            for worker in workers:
                worker.close()
            for key in part.environment:
                del os.environ[key]
            for line in lines_of(found[-1]):
                bar.write(line)
    return found


def main() -> int:
    """Runs the script; returns the exit code."""
    options = parse_arguments()
    plan = QUICK_PLAN if options.quick else Plan()
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    set_environment(Settings("cpu", THREADS))
    now = datetime.now().astimezone()
    versions: dict[str, str] = {}
    build_info: dict[str, Any] = {}
    found = run_parts(parts, options.quick, plan, versions, build_info)
    content = {
        "date": now.isoformat(timespec="seconds"),
        "threads": THREADS,
        "plan": asdict(plan),
        "machine": describe_machine(),
        "versions": versions,
        "build_info": build_info,
        "parts": [as_json(findings) for findings in found],
    }
    path = options.output / f"limits_cpu_{now:%Y-%m-%d_%H%M%S}.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"Written: {path}")
    return int(any(findings.failures for findings in found))


if __name__ == "__main__":
    sys.exit(main())
