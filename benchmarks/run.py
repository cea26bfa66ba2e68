"""Times fused_rnn's step and sequence routes beside every installed peer, after checking every result.

    python benchmarks/run.py                       every case of the peers' list, both modes, on the CPU
    python benchmarks/run.py --quick               two small cases of each cell, about a minute
    python benchmarks/run.py --suite deepbench --cell lstm --mode inference
    python benchmarks/run.py --device gpu --case 64,50,128,128 --peer keras

Prints a table, and writes the same as JSON and as a plot. Exit code 1: a result was wrong or a contender
failed.
"""

import os

# NumPy, which computes the right answers in this process, reads it while it is imported. Its threads would go
# on spinning while others are timed; and on a busy machine two of them are ten times slower than one.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from contenders import PEERS
from lineup import Lineup, LineupError
from measure import measure
from plot import write_plot
from report import Run, describe_machine, detail_lines, summary_lines, write_json
from timing import QUICK_PLAN, Plan
from worker import Settings, set_environment
from workload import CELLS, DTYPES, MODES, SUITE_CELLS, Case, Workload, choose_workloads


class _OneLineParser(argparse.ArgumentParser):
    """Refuses in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _case(text: str) -> Case:
    fields = text.split(",")
    if len(fields) != 4 or not all(part.isdecimal() and int(part) > 0 for part in fields):
        raise argparse.ArgumentTypeError(f"{text!r} is not four positive whole numbers B,T,I,H")
    return Case(*(int(part) for part in fields))


def _threads(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = _OneLineParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers, cores = tuple(peer.name for peer in PEERS), os.cpu_count() or 1
    add = parser.add_argument
    add("--device", choices=("cpu", "gpu"), default="cpu", help="where everything runs (default: cpu)")
    add("--suite", choices=tuple(SUITE_CELLS), help="list of cases (default: peers)")
    add(
        "--case",
        type=_case,
        action="append",
        metavar="B,T,I,H",
        help="this case instead of a suite's; repeatable",
    )
    add("--cell", choices=CELLS, action="append", help="this cell instead of the suite's; repeatable")
    add("--mode", choices=MODES, action="append", help="this mode instead of both; repeatable")
    add("--dtype", choices=DTYPES, default=DTYPES[0], help="of all tensors (default: float32)")
    add("--peer", choices=peers, action="append", help="this peer instead of all; repeatable")
    add(
        "--quick",
        action="store_true",
        help="a suite's two smallest cases for each cell and mode, few repetitions",
    )
    add(
        "--threads",
        type=_threads,
        default=cores,
        help=f"threads of every contender (default: all cores, {cores})",
    )
    add(
        "--output",
        type=Path,
        default=Path(__file__).with_name("results"),
        metavar="DIR",
        help="for JSON and PNG",
    )
    return parser


def parse_arguments(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, list[Workload]]:
    """The options, and the workloads they ask for."""
    options = parser.parse_args()
    if options.case and options.suite:
        parser.error("argument --case: not allowed with --suite, whose cases it would replace")
    options.suite = options.suite or "peers"
    cells, modes = tuple(options.cell or SUITE_CELLS[options.suite]), tuple(options.mode or MODES)
    cases = tuple(dict.fromkeys(options.case or ()))
    workloads = choose_workloads(
        options.suite,
        tuple(dict.fromkeys(cells)),
        tuple(dict.fromkeys(modes)),
        cases,
        options.dtype,
        options.quick,
    )
    if not workloads:
        parser.error(f"suite {options.suite} has no case for {', '.join(cells)} in {', '.join(modes)}")
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"argument --output: cannot make {options.output}: {error.strerror}")
    if not os.access(options.output, os.W_OK):
        parser.error(f"argument --output: cannot write to {options.output}")
    return options, workloads


def measure_all(run: Run, lineup: Lineup, workloads: list[Workload], plan: Plan) -> bool:
    """Fills in the run's peaks and results, printing each workload's details; False if it was interrupted."""
    steps = [len(lineup.runners(workload)) * (1 + plan.rounds) for workload in workloads]
    with tqdm(total=sum(steps), unit="step", dynamic_ncols=True) as bar:

        def progress(text: str) -> None:
            bar.set_description(text)
            bar.update()

        try:
            bar.set_description("measuring the peak")
            run.peaks = lineup.measure_peak()
            for number, workload in enumerate(workloads):
                run.results.append(measure(workload, lineup.runners(workload), run.device, plan, progress))
                bar.update(sum(steps[: number + 1]) - bar.n)  # what wrong and failed contenders left out
                for line in detail_lines(run.results[-1], run.peak):
                    bar.write(line)
            again = lineup.measure_peak()
            run.peaks = {name: max(value, again[name]) for name, value in run.peaks.items()}
        except KeyboardInterrupt:
            return False
    return True


def main() -> int:
    """Runs the harness; returns the exit code."""
    parser = make_parser()
    options, workloads = parse_arguments(parser)
    settings, plan = Settings(options.device, options.threads), QUICK_PLAN if options.quick else Plan()
    set_environment(settings)
    try:
        lineup = Lineup(settings, options.peer)
    except LineupError as error:
        parser.error(str(error))
    now = datetime.now().astimezone()
    run = Run(
        date=now.isoformat(timespec="seconds"),
        device=options.device,
        suite="given cases" if options.case else options.suite,
        dtype=options.dtype,
        threads=options.threads,
        plan=asdict(plan),
        machine=describe_machine(),
        versions=lineup.versions,
        build_info=lineup.build_info,
        absent=lineup.absent,
    )
    finished = measure_all(run, lineup, workloads, plan)
    lineup.close()
    if not run.results:
        return 130
    print("", *summary_lines(run), "", sep="\n")
    what = [run.suite.replace(" ", "_"), run.device, *([run.dtype] if run.dtype != DTYPES[0] else [])]
    stem = options.output / f"{'_'.join(what)}_{now:%Y-%m-%d_%H%M%S}"
    write_json(run, stem.with_suffix(".json"))
    write_plot(run, stem.with_suffix(".png"))
    print(f"Written: {stem}.json and .png")
    if not finished:
        return 130
    return int(any(outcome.status != "ok" for result in run.results for outcome in result.outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
