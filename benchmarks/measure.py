"""One workload, all its contenders: results checked first, then timed in interleaved rounds."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from numpy_reference import Results, right_answer, worst_error
from timing import Plan, Samples, busy_seconds, stolen_share, summarise
from worker import Worker, WorkerError
from workload import Workload, make_arrays

# Largest error allowed, as a share of the tensor's largest entry. float32 stays well under 1e-5 here; on a
# GPU the products run in TF32 by the libraries' own default (10 bits of mantissa). A wrong gate order or sign
# is off by 0.1 or more.
TOLERANCES = {"cpu": 1e-4, "gpu": 2e-2}
# In bfloat16 the weights themselves are off by up to 1/512.
BFLOAT16_TOLERANCE = 5e-2


@dataclass
class Outcome:
    """What one contender did with one workload: `status` is ok, wrong (never timed) or failed."""

    status: str
    message: str = ""
    worst_tensor: str = ""
    error: float | None = None
    samples: Samples | None = None
    parts: dict[str, Samples] = field(default_factory=dict)  # of a call, where its contender can time them


@dataclass
class WorkloadResult:
    """All outcomes of one workload, by contender name, in the order of the table of contenders."""

    workload: Workload
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    stolen: float | None = None  # share of the machine that other processes used meanwhile

    def median(self, name: str) -> float | None:
        """Median time in ms; None for a contender that was not timed."""
        outcome = self.outcomes.get(name)
        return outcome.samples.median_ms if outcome is not None and outcome.samples is not None else None


def one_layer(workload: Workload) -> Results:
    """The right answer of a workload."""
    x, weights = make_arrays(workload.cell, workload.case)
    return right_answer(workload.cell, x, weights, gradients=workload.mode == "training")


def measure(
    workload: Workload,
    workers: list[Worker],
    device: str,
    plan: Plan,
    progress: Callable[[str], None],
    answer: Callable[[Workload], Results] = one_layer,
) -> WorkloadResult:
    """Checks and times the workers on one workload; `progress` is called after each check and each burst."""
    result = WorkloadResult(workload)
    check_results(result, workers, device, plan, progress, answer)
    _time(
        result,
        [worker for worker in workers if result.outcomes[worker.contender.name].status == "ok"],
        plan,
        progress,
    )
    for worker in workers:
        if result.outcomes[worker.contender.name].status != "failed":
            worker.ask("release")
    return result


def check_results(
    result: WorkloadResult,
    workers: list[Worker],
    device: str,
    plan: Plan,
    progress: Callable[[str], None],
    answer: Callable[[Workload], Results] = one_layer,
) -> None:
    """Fills in every worker's outcome, up to its samples."""
    workload = result.workload
    for worker in workers:
        attempt(result, worker, lambda worker: worker.send("prepare", workload))  # all prepare side by side
    want = answer(workload)

    def compare(worker: Worker) -> None:
        tensor, error = worst_error(worker.receive(), want if worker.contender.checked else {})
        if error <= (TOLERANCES[device] if workload.dtype == "float32" else BFLOAT16_TOLERANCE):
            worker.ask("run", plan.warmup_seconds)
            outcome = Outcome("ok", "", tensor, error)
        else:
            outcome = Outcome("wrong", f"{tensor} is off by {error:.1e} of its largest entry", tensor, error)
        result.outcomes[worker.contender.name] = outcome

    for worker in workers:
        progress(f"{workload}: checking {worker.contender.name}")
        attempt(result, worker, compare)


def attempt(result: WorkloadResult, worker: Worker, action: Callable[[Worker], None]) -> None:
    """Does the action with a worker that has not failed yet; a failure becomes its outcome."""
    name = worker.contender.name
    if name in result.outcomes and result.outcomes[name].status == "failed":
        return
    try:
        action(worker)
    except WorkerError as error:
        result.outcomes[name] = Outcome("failed", str(error))


def _time(result: WorkloadResult, workers: list[Worker], plan: Plan, progress: Callable[[str], None]) -> None:
    """Fills in the samples of the given workers; one that fails meanwhile keeps none."""
    samples: dict[str, list[float]] = {worker.contender.name: [] for worker in workers}
    busy, start, own_before, own = busy_seconds(), time.perf_counter(), sum(os.times()[:2]), 0.0

    def run_burst(worker: Worker) -> None:
        nonlocal own
        progress(f"{result.workload}: timing {worker.contender.name}")
        seconds, used = worker.ask("run", plan.burst_seconds)
        samples[worker.contender.name] += seconds
        own += used

    for _ in range(plan.rounds):
        for worker in workers:
            attempt(result, worker, run_burst)
    own += sum(os.times()[:2]) - own_before
    result.stolen = stolen_share(busy, own, time.perf_counter() - start)
    for name, times in samples.items():
        if result.outcomes[name].status == "ok":
            result.outcomes[name].samples = summarise(times)
