"""How time is measured: bursts of single calls, waits until threads are idle, summaries of samples."""

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Plan:
    """How much is measured: `rounds` visits to every contender, each a burst of calls for `burst_seconds`."""

    rounds: int = 7
    burst_seconds: float = 0.25
    warmup_seconds: float = 0.3


QUICK_PLAN = Plan(rounds=3, burst_seconds=0.05, warmup_seconds=0.05)

_MAX_CALLS_PER_BURST = 300
# A call this long has its caches warm after a small share of its own time, so its bursts need no call thrown
# away.
_LONG_CALL_SECONDS = 0.5
# A process counts as idle after this many looks in a row at which it had used hardly any processor time.
_IDLE_LOOKS, _LOOK_SECONDS, _IDLE_SHARE, _SETTLE_SECONDS = 3, 0.004, 0.1, 0.5


@dataclass(frozen=True)
class Samples:
    """Summary of the times of single calls, in milliseconds."""

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float
    fastest_ms: float
    calls: int


def summarise(seconds: list[float]) -> Samples:
    """Median, quartiles, fastest and number of the given times."""
    times = 1e3 * np.asarray(seconds)
    lower, median, upper = np.percentile(times, (25, 50, 75))
    return Samples(float(median), float(lower), float(upper), float(times.min()), times.size)


def burst(call: Callable[[], object], seconds: float) -> list[float]:
    """Times of single calls, in seconds: as many as fit the given time, at least one.

    The call that is thrown away brings back the caches that other contenders have used since; a long call
    keeps it.
    """
    gc.disable()
    try:
        samples: list[float] = []
        first = _timed(call)
        if first >= _LONG_CALL_SECONDS:
            samples.append(first)
        end = time.perf_counter() + seconds - sum(samples)
        while not samples or (time.perf_counter() < end and len(samples) < _MAX_CALLS_PER_BURST):
            samples.append(_timed(call))
        return samples
    finally:
        gc.enable()


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def settle() -> None:
    """Waits until this process's threads have stopped spinning, so that the next contender has all the cores.

    Measured on two cores: after a call torch's threads spin for 7 ms of processor time, onnxruntime's for 45.
    """
    looks, end, used = 0, time.perf_counter() + _SETTLE_SECONDS, time.process_time()
    while looks < _IDLE_LOOKS and time.perf_counter() < end:
        time.sleep(_LOOK_SECONDS)
        before, used = used, time.process_time()
        looks = looks + 1 if used - before < _IDLE_SHARE * _LOOK_SECONDS else 0


def busy_seconds() -> float | None:
    """Processor seconds that all processes of this machine have used so far; None where there is no /proc."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system = (int(field) for field in fields[1:4])
    return (user + nice + system) / os.sysconf("SC_CLK_TCK")


def stolen_share(busy_before: float | None, own_seconds: float, elapsed: float) -> float | None:
    """Share of all cores that processes other than the harness's own used since `busy_before` was read."""
    busy_after = busy_seconds()
    if busy_before is None or busy_after is None:
        return None
    return max(0.0, busy_after - busy_before - own_seconds) / (elapsed * (os.cpu_count() or 1))
