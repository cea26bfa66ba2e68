"""One point on the GPU, in a worker's process: every contender checked against float64 first, then timed."""

# mypy: disable-error-code="import-untyped, import-not-found"

import gc
from collections.abc import Callable
from typing import Any

import torch

from device_build import import_core
from device_contenders import Data, FusedSequence, Prepared, Tensors, TorchLayer, make_data, reference
from device_lineup import FLASHRNN, TOLERANCES, DevicePlan, Entrant, entrants
from measure import Outcome, WorkloadResult
from timing import summarise
from workload import Workload

Progress = Callable[[str], None]


def start() -> dict[str, Any]:
    """Checks the device; what is worth recording about it and the libraries."""
    if not torch.cuda.is_available():
        raise RuntimeError("this torch sees no CUDA device")
    return {
        "gpu": torch.cuda.get_device_name(0),
        "versions": {
            "torch": torch.__version__,
            "cuda of torch": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),
        },
    }


def relative_error(found: torch.Tensor, want: torch.Tensor) -> float:
    """||found - want|| / ||want||; NaN where anything is."""
    if found.shape != want.shape:
        raise ValueError(f"shape {list(found.shape)}, expected {list(want.shape)}")
    found, want = found.double(), want.double()
    return float((found - want).norm() / want.norm())


def compare(found: Tensors, want: Tensors, tolerance: float) -> Outcome:
    """The worst of all tensors; one that is missing is an error."""
    errors = {name: relative_error(found[name], tensor) for name, tensor in want.items()}
    worst = max(errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name])
    error = errors[worst]
    if not error <= tolerance:
        return Outcome("wrong", f"{worst} is off by {error:.1e} of its norm", worst, error)
    return Outcome("ok", "", worst, error)


def failure(error: Exception) -> Outcome:
    """What went wrong, in one line."""
    return Outcome("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def measure_point(
    progress: Progress, point: Workload, drivers: tuple[str, ...], seed: int, plan: DevicePlan
) -> tuple[WorkloadResult, bool]:
    """All contenders but FlashRNN; and whether this process can go on."""
    core = import_core()

    def prepare(entrant: Entrant, data: Data) -> Prepared:
        if entrant.fused:
            return FusedSequence(core, point, data, entrant.driver)
        return TorchLayer(point, data, entrant.dtype)

    return _measure(point, entrants(point, drivers), prepare, seed, plan, progress)


def measure_flashrnn(
    progress: Progress, point: Workload, seed: int, plan: DevicePlan
) -> tuple[WorkloadResult, bool]:
    """FlashRNN alone."""
    from device_flashrnn import FlashRnn

    entrant = Entrant(FLASHRNN, point.dtype)
    return _measure(point, [entrant], lambda _, data: FlashRnn(point, data), seed, plan, progress)


def _measure(
    point: Workload,
    team: list[Entrant],
    prepare: Callable[[Entrant, Data], Prepared],
    seed: int,
    plan: DevicePlan,
    progress: Progress,
) -> tuple[WorkloadResult, bool]:
    """Prepares and checks everyone, then times those who were right in turns."""
    result, ready = WorkloadResult(point), {}
    progress("reference")
    data = make_data(point, seed)
    want = reference(point, data)
    for entrant in team:
        progress(f"checking {entrant.name}")
        try:
            prepared = prepare(entrant, data)
            outcome = compare(prepared.outputs(), want, TOLERANCES[entrant.dtype])
        except Exception as error:  # whatever it raises is its result
            outcome = failure(error)
        result.outcomes[entrant.name] = outcome
        if not usable():
            return result, False
        if outcome.status == "ok":
            ready[entrant.name] = prepared
    del data, want
    _time(result, ready, plan, progress)
    ready.clear()
    gc.collect()
    if not usable():
        return result, False
    torch.cuda.empty_cache()
    return result, True


def usable() -> bool:
    """Whether the device still answers: an error inside a kernel ends every later call of its process."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _time(result: WorkloadResult, ready: dict[str, Prepared], plan: DevicePlan, progress: Progress) -> None:
    """Fills in the samples, visit by visit."""
    samples: dict[str, list[float]] = {name: [] for name in ready}
    calls: dict[str, int] = {}
    for visit in range(plan.rounds):
        for name, prepared in ready.items():
            progress(f"timing {name}, visit {visit + 1}")
            if result.outcomes[name].status != "ok":
                continue
            try:
                if name not in calls:
                    calls[name] = plan.calls(min(prepared.time(plan.warmup_calls)))
                prepared.time(1)  # brings back the caches and the clocks
                samples[name] += prepared.time(calls[name])
            except Exception as error:  # likewise
                result.outcomes[name] = failure(error)
    for name, times in samples.items():
        if times and result.outcomes[name].status == "ok":
            result.outcomes[name].samples = summarise([1e-3 * time for time in times])
    for name, prepared in ready.items():
        if isinstance(prepared, FusedSequence) and result.outcomes[name].samples is not None:
            progress(f"timing the passes of {name}")
            _time_parts(result.outcomes[name], prepared, calls[name])


def _time_parts(outcome: Outcome, prepared: FusedSequence, calls: int) -> None:
    """Fills in the passes: what the core predicts, it predicts of each."""
    try:
        for part, times in prepared.time_parts(calls).items():
            outcome.parts[part] = summarise([1e-3 * time for time in times])
    except Exception as error:  # the whole call has been timed, and stays
        outcome.message = f"its passes: {failure(error).message}"
