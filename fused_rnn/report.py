"""How many steps of recurrent layers a process has run, on which route, and how long they took.

The op library counts the fused steps itself, in every session, function and loop. TensorFlow's own loops are
measured from Python: a callback at the end of each, which notes its steps and its time.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

import fused_rnn
from fused_rnn import loops, routes, static_loops

__all__ = ["Tally", "lines", "print_at_exit", "tallies"]

_LIBRARY = Path(__file__).with_name("_ops.so")
# What fused_rnn_read_counters fills in, three numbers for each: calls, steps, nanoseconds.
_COUNTED = ("sequence, forward", "sequence, backward", "step, forward", "step, backward")
_OWN = "TensorFlow's own, forward"

_NOTES = (
    "A step is one time step of one layer, for the whole batch. Seconds are those inside the ops, added up",
    "even where these ran side by side; for TensorFlow's own, those from a loop's first step to its last,",
    "whatever else ran in it. Not counted: its own cells where the program calls them itself, and gradients.",
)


@dataclass
class Tally:
    """What ran on one route. A step is one time step of one layer, for the whole batch."""

    calls: int = 0
    steps: int = 0
    seconds: float = 0.0


_own, _own_lock = Tally(), threading.Lock()


def print_at_exit() -> None:
    """Watches TensorFlow's own loops from now on, and prints the report when the process ends.

    To be called before `accelerate`, and before any graph is built.
    """
    loops._tensorflow_dynamic_rnn = _watched(loops._tensorflow_dynamic_rnn, _dynamic_steps)
    static_loops._tensorflow_static_rnn = _watched(static_loops._tensorflow_static_rnn, _static_steps)
    fused_rnn.raw_rnn = loops.raw_rnn = _watched_raw_rnn(loops.raw_rnn)
    start = time.perf_counter()
    atexit.register(lambda: print(*lines(time.perf_counter() - start), sep="\n", file=sys.stderr))


def tallies() -> dict[str, Tally]:
    """What ran on each route so far. TensorFlow's own loops count only after `print_at_exit`."""
    counters = _read_counters()
    found = {
        name: Tally(calls, steps, nanoseconds * 1e-9)
        for name, calls, steps, nanoseconds in zip(
            _COUNTED, counters[0::3], counters[1::3], counters[2::3], strict=True
        )
    }
    return found | {_OWN: _own}


def lines(seconds: float) -> Iterator[str]:
    """The report of a process that has run for so long."""
    yield f"fused_rnn: steps by route, in a run of {seconds:.1f} s"
    yield f"{'route':<26}{'calls':>10}{'steps':>12}{'seconds':>10}{'us a step':>11}"
    for name, tally in tallies().items():
        each = f"{1e6 * tally.seconds / tally.steps:.1f}" if tally.steps else "-"
        yield f"{name:<26}{tally.calls:>10,}{tally.steps:>12,}{tally.seconds:>10.3f}{each:>11}"
    yield from _NOTES
    if tf.config.list_physical_devices("GPU") and fused_rnn.build_info()["cuda_version"]:
        yield "On a GPU, the seconds inside an op are those of its launch, not of its kernels."


def _read_counters() -> list[int]:
    """Of this process: 12 numbers, in the order of _COUNTED."""
    counters = (ctypes.c_int64 * (3 * len(_COUNTED)))()
    ctypes.CDLL(str(_LIBRARY)).fused_rnn_read_counters(counters)
    return list(counters)


def _own_layers(cell: Any) -> int:
    """How many layers of a cell no fused op computes."""
    if routes.kind_of(cell) is None:
        return 1
    return sum(map(_own_layers, routes.children(cell)))


def _watched(function: Callable[..., Any], count: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """A loop of TensorFlow's that is measured if TensorFlow computes a layer in it. count: its steps."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = bound.arguments
        layers = _own_layers(arguments["cell"])
        if not layers:
            return function(*args, **kwargs)
        steps = count(arguments)
        arguments["inputs"], start = _after_clock(arguments["inputs"])
        return _noted(function(*bound.args, **bound.kwargs), start, layers, steps)

    return watched


def _watched_raw_rnn(raw_rnn: Callable[..., Any]) -> Callable[..., Any]:
    """As _watched, for a loop without inputs: it starts when the caller's function has given the first."""

    @functools.wraps(raw_rnn)
    def watched(cell: Any, loop_fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        layers = _own_layers(cell)
        if not layers:
            return raw_rnn(cell, loop_fn, *args, **kwargs)
        starts = []

        def timed_loop_fn(time: Any, output: Any, state: Any, loop_state: Any) -> tuple[Any, ...]:
            finished, inputs, *rest = loop_fn(time, output, state, loop_state)
            if output is None:
                inputs, start = _after_clock(inputs)
                starts.append(start)
            return (finished, inputs, *rest)

        results = raw_rnn(cell, timed_loop_fn, *args, **kwargs)
        return _noted(results, starts[0], layers, tf.nest.flatten(results[0])[0].size())

    return watched


def _dynamic_steps(arguments: dict[str, Any]) -> Any:
    first = tf.nest.flatten(arguments["inputs"])[0]
    steps = tf.shape(first)[0 if arguments["time_major"] else 1]
    lengths = arguments["sequence_length"]
    if lengths is None or tf.executing_eagerly():
        return steps
    return tf.minimum(steps, tf.maximum(1, tf.cast(tf.reduce_max(lengths), tf.int32)))


def _static_steps(arguments: dict[str, Any]) -> int:
    inputs = arguments["inputs"]
    return len(inputs) if isinstance(inputs, (list, tuple)) else 0  # TensorFlow's function says what is wrong


def _after_clock(values: Any) -> tuple[Any, tf.Tensor]:
    """Values that come after a look at the clock, which comes after them: and what the clock said."""
    with tf.control_dependencies(_tensors(values)):
        start = tf.timestamp()
    with tf.control_dependencies([start]):
        return _identity(values), start


def _noted(values: Any, start: tf.Tensor, layers: int, steps: Any) -> Any:
    """Values that come after a note of how long they took."""
    with tf.control_dependencies(_tensors(values)):
        note = tf.numpy_function(functools.partial(_note, layers), [start, steps], tf.int64)
    with tf.control_dependencies([note]):
        return _identity(values)


def _note(layers: int, start: float, steps: int) -> int:
    with _own_lock:
        _own.calls += 1
        _own.steps += layers * int(steps)
        _own.seconds += time.time() - float(start)
    return 0


def _tensors(values: Any) -> list[Any]:
    flat = (value.flow if isinstance(value, tf.TensorArray) else value for value in tf.nest.flatten(values))
    return [value for value in flat if value is not None]


def _identity(values: Any) -> Any:
    def identity(value: Any) -> Any:
        return value.identity() if isinstance(value, tf.TensorArray) else tf.identity(value)

    return tf.nest.map_structure(lambda value: None if value is None else identity(value), values)
