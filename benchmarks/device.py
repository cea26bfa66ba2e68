"""Measures the core on a GPU, beside cuDNN as torch runs it and, where it is installed, FlashRNN.

    python benchmarks/device.py --all                    about 40 points, the most important first
    python benchmarks/device.py --suite deepbench        DeepBench's LSTM and GRU rows, long ones cut
    python benchmarks/device.py --point lstm,64,256,1024,1024,bfloat16,training     repeatable
    python benchmarks/device.py --sanitize               compute-sanitizer over a short list instead
    python benchmarks/device.py --all --dry-run          points, floors, predictions; needs no GPU

Needs nvcc, CMake, ninja, pybind11 and a torch with cuDNN, but no TensorFlow: builds the core for this GPU
alone, measures the chip's limits, checks every result against float64, then times with CUDA events on
tensors that stay on the device. Writes JSON and a plot. Exit status 1: something failed or was wrong.
"""

import argparse
import re
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from tqdm import tqdm

from device_build import BuildError, build_core, find_tool, gpu_target, measure_limits
from device_floor import H200_DATASHEET, limits_from_measurements
from device_lineup import DRIVERS, FLASHRNN, DevicePlan, offers_flashrnn
from device_points import (
    POINT_DTYPES,
    PointError,
    all_points,
    deepbench_points,
    format_point,
    parse_point,
)
from device_prediction import find_planner
from device_report import DeviceRun, dry_run_lines, problems, row, summary, write_json
from device_worker import DeviceWorker, DeviceWorkerError
from measure import Outcome
from report import describe_machine
from workload import Workload

_START_SECONDS, _POINT_SECONDS = 120.0, 60.0
_FIRST_GUESS_SECONDS = 6.0  # what a point takes, until one is measured
_FLASHRNN_SECONDS = 60.0  # its compiler needs at least that, so less is not worth starting


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--all", action="store_true", help="the list of points (the default)")
    add("--suite", choices=["deepbench"], help="a suite's points instead")
    add("--point", action="append", default=[], metavar="CELL,B,T,I,H,DTYPE,MODE", help="repeatable")
    add("--dtype", action="append", choices=POINT_DTYPES, help="of a suite; default float32, float16")
    add("--full", action="store_true", help="a suite's rows in their full length")
    add("--drivers", default="", metavar="NAMES", help="also with these drivers forced: stepwise,persistent")
    add("--budget", type=float, default=420.0, metavar="SECONDS", help="for all, the build included")
    add(
        "--flashrnn", type=int, default=2, metavar="N", help="points for FlashRNN, which compiles for minutes"
    )
    add("--seed", type=int, help="of the random data; default: another in each run")
    add("--no-build", action="store_true", help="take build/device as it is")
    add("--sanitize", action="store_true", help="run a short list under compute-sanitizer, and stop")
    add("--dry-run", action="store_true", help="print points, floors and predictions for an H200, and stop")
    folder = Path(__file__).with_name("results")
    add("--output", type=Path, default=folder, metavar="DIR", help="for the JSON and the plot")
    options = parser.parse_args(arguments)
    options.drivers = tuple(name for name in options.drivers.split(",") if name)
    for name in options.drivers:
        if name not in DRIVERS:
            parser.error(f"--drivers must name some of {', '.join(DRIVERS)}, got {name}")
    try:
        options.points = choose_points(options)
    except PointError as error:
        parser.error(str(error))
    return options


def choose_points(options: argparse.Namespace) -> list[Workload]:
    """The points asked for, in the order they are measured."""
    points = [parse_point(text) for text in options.point]
    if options.suite == "deepbench":
        points += deepbench_points(tuple(options.dtype or ("float32", "float16")), options.full)
    if options.all or not (points or options.suite):
        points += all_points()
    return list(dict.fromkeys(points))


def driver_version() -> str:
    """The GPU driver's."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip()


def build(options: argparse.Namespace, target: str) -> float | None:
    """Builds the core unless it is to be taken as it is; returns the seconds it took."""
    if options.no_build:
        return None
    with tqdm(desc="building the core", unit="line", dynamic_ncols=True) as bar:

        def progress(line: str) -> None:
            bar.set_postfix_str(line[:60])
            bar.update()

        return build_core(target, progress)


def sanitize(options: argparse.Namespace, end: float) -> int:
    """Every tool of compute-sanitizer over the short list; returns the exit code."""
    from device_sanitize import TOOLS, run_tool

    build(options, gpu_target())
    sanitizer, clean = find_tool("compute-sanitizer"), True
    for tool in tqdm(TOOLS, unit="tool", dynamic_ncols=True):
        found_nothing, line = run_tool(sanitizer, tool, max(1.0, end - time.monotonic()))
        tqdm.write(line)
        clean &= found_nothing
    return int(not clean)


def prepare(options: argparse.Namespace, worker: DeviceWorker, now: datetime) -> DeviceRun:
    """Builds, measures the limits and starts the worker."""
    target = gpu_target()
    seconds = build(options, target)
    print("measuring the limits of the chip", flush=True)
    measured, failures = {}, []
    try:
        measured = measure_limits(target)
    except BuildError as error:  # the times are worth having without it
        failures.append(f"the limits are an H200's by datasheet: {error}")
    started = worker.ask("start", seconds=_START_SECONDS)
    rates = worker.ask("rates", seconds=_START_SECONDS)
    predictions = {}
    try:
        predictions = worker.ask("predictions", options.points, seconds=_START_SECONDS)
    except DeviceWorkerError as error:  # likewise
        failures.append(f"the core predicts nothing: {error}")
    return DeviceRun(
        date=now.isoformat(timespec="seconds"),
        suite=options.suite or ("points" if options.point and not options.all else "all"),
        seed=int(now.timestamp()) if options.seed is None else options.seed,
        drivers=options.drivers,
        plan=asdict(DevicePlan()),
        limits=limits_from_measurements(measured, rates) if measured else H200_DATASHEET,
        limits_measured=measured,
        library_rates=rates,
        gpu=started["gpu"],
        driver=driver_version(),
        versions=started["versions"],
        build_info=started["build_info"],
        predictions=predictions,
        build_seconds=seconds,
        machine=describe_machine(),
        failures=failures,
    )


def measure_points(
    run: DeviceRun, points: list[Workload], worker: DeviceWorker, end: float, bar: tqdm
) -> None:
    """All points until the time is up; a failure is a line of the report, and a new process for the rest."""
    longest = _FIRST_GUESS_SECONDS
    for number, point in enumerate(points):
        left = end - time.monotonic()
        if left < longest:
            run.left_out = points[number:]
            return
        start = time.monotonic()

        def progress(stage: str, point: Workload = point) -> None:
            bar.set_description(f"{point}: {stage}")

        given = (point, run.drivers, run.seed + number, DevicePlan(**run.plan))
        try:
            result, usable = worker.ask("point", *given, seconds=min(_POINT_SECONDS, left), progress=progress)
        except DeviceWorkerError as error:
            run.failures.append(f"{format_point(point)}: FAILED: {error}")
            bar.write(run.failures[-1])
        else:
            run.results.append(result)
            bar.write("  ".join(row(run, result, run.columns)))
            if not usable:
                worker.close()
        # A process that starts anew takes longer, and is no measure of a point.
        longest = max(longest, min(time.monotonic() - start, 4 * _FIRST_GUESS_SECONDS))
        bar.update()


def add_flashrnn(run: DeviceRun, count: int, end: float, bar: tqdm) -> None:
    """FlashRNN on the first points it has a kernel for, as far as time is left; it brings its own process."""
    if find_spec("flashrnn") is None:
        return
    for result in [result for result in run.results if offers_flashrnn(result.workload)][:count]:
        left = end - time.monotonic()
        if left < _FLASHRNN_SECONDS:
            bar.write("FlashRNN: left out where no time was left to compile it")
            return
        worker = DeviceWorker()
        bar.set_description(f"{result.workload}: FlashRNN compiles")
        try:
            found, _ = worker.ask("flashrnn", result.workload, run.seed, DevicePlan(**run.plan), seconds=left)
            result.outcomes[FLASHRNN] = found.outcomes[FLASHRNN]
        except DeviceWorkerError as error:
            result.outcomes[FLASHRNN] = Outcome("failed", str(error))
        finally:
            worker.close()


def write_results(run: DeviceRun, folder: Path, now: datetime) -> None:
    """The JSON and the plot, named after the GPU and the date."""
    from device_plot import write_plot  # late: matplotlib takes its time

    folder.mkdir(parents=True, exist_ok=True)
    gpu = re.sub(r"[^a-z0-9]+", "_", run.gpu.lower().removeprefix("nvidia")).strip("_")
    path = folder / f"device_{gpu}_{now:%Y-%m-%d_%H%M%S}.json"
    write_json(run, path)
    write_plot(run, path.with_suffix(".png"))
    print(f"Written: {path} and {path.with_suffix('.png').name}")


def main() -> int:
    """Runs the script; returns the exit code."""
    start, options = time.monotonic(), parse_arguments()
    if options.dry_run:
        print("\n".join(dry_run_lines(options.points, H200_DATASHEET, find_planner())))
        return 0
    now, worker = datetime.now().astimezone(), DeviceWorker()
    end = start + options.budget
    try:
        if options.sanitize:
            return sanitize(options, end)
        run = prepare(options, worker, now)
        with tqdm(total=len(options.points), unit="point", dynamic_ncols=True) as bar:
            measure_points(run, options.points, worker, end, bar)
            worker.close()
            add_flashrnn(run, options.flashrnn, end, bar)
    except (BuildError, DeviceWorkerError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        worker.close()
    print("\n".join(summary(run)))
    write_results(run, options.output, now)
    return int(bool(problems(run)))


if __name__ == "__main__":
    sys.exit(main())
