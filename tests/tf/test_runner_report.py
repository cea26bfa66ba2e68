"""`--report`: its table, and what it counts of TensorFlow's own loops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from fused_rnn import loops, report, static_loops
from tf.evaluate import evaluate
from tf.tensorflow_cells import FUSED, REFERENCE, make, quietly

v1 = tf.compat.v1

B, T, H = 2, 5, 3
X = np.random.default_rng(10).standard_normal((B, T, H))
COUNTERS = [2, 70, 3_000_000, 1, 35, 4_000_000, 1_500, 1_500, 30_000_000, 0, 0, 0]


@pytest.fixture(autouse=True)
def _watching(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As `--report` has it, until the end of the test."""
    monkeypatch.setattr(report, "_read_counters", lambda: COUNTERS)
    monkeypatch.setattr(report, "_own", report.Tally())
    monkeypatch.setattr(report.atexit, "register", lambda _: None)
    for owner, name in (
        (loops, "_tensorflow_dynamic_rnn"),
        (static_loops, "_tensorflow_static_rnn"),
        (loops, "raw_rnn"),
        (fused_rnn, "raw_rnn"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    report.print_at_exit()
    with fused_rnn.accelerate():
        yield


def test_table() -> None:
    report._own.calls, report._own.steps, report._own.seconds = 3, 6, 0.0012
    title, header, *rows = list(report.lines(12.34))[:7]
    assert title == "fused_rnn: steps by route, in a run of 12.3 s"
    assert header.split("  ")[-1] == "us a step"
    assert [row[:26].strip() for row in rows] == [*report._COUNTED, report._OWN]
    assert [row[26:].split() for row in rows] == [
        ["2", "70", "0.003", "42.9"],
        ["1", "35", "0.004", "114.3"],
        ["1,500", "1,500", "0.030", "20.0"],
        ["0", "0", "0.000", "-"],
        ["3", "6", "0.001", "200.0"],
    ]


class Sum(REFERENCE.RNNCell):  # type: ignore[name-defined]
    """A cell that fused_rnn knows nothing of."""

    state_size = output_size = H

    def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
        return inputs + state, inputs + state


def stack() -> Any:
    return make(REFERENCE, "MultiRNNCell", [make(FUSED, "GRUCell", H), Sum(), Sum()])


def residual() -> Any:
    return make(REFERENCE, "ResidualWrapper", Sum())


def dynamic(cell: Any, x: tf.Tensor) -> Any:
    return v1.nn.dynamic_rnn(cell, x, dtype=x.dtype)


def with_lengths(cell: Any, x: tf.Tensor) -> Any:
    return v1.nn.dynamic_rnn(cell, x, [2, 3], dtype=x.dtype)


def time_major(cell: Any, x: tf.Tensor) -> Any:
    return v1.nn.dynamic_rnn(cell, tf.transpose(x, [1, 0, 2]), dtype=x.dtype, time_major=True)


def both(cell: Any, x: tf.Tensor) -> Any:
    return v1.nn.bidirectional_dynamic_rnn(cell, Sum(), x, dtype=x.dtype)


def static(cell: Any, x: tf.Tensor) -> Any:
    return v1.nn.static_rnn(cell, tf.unstack(x, T, axis=1), dtype=x.dtype)


def raw(cell: Any, x: tf.Tensor) -> Any:
    def loop(time: Any, output: Any, state: Any, _: Any) -> tuple[Any, ...]:
        state = cell.zero_state(B, x.dtype) if output is None else state
        return time >= [4, 1], x[:, 0], state, output, None

    outputs, state, _ = v1.nn.raw_rnn(cell, loop)
    return outputs.stack(), state


@pytest.mark.parametrize(
    ("loop", "cell", "steps"),
    [
        (dynamic, stack, 2 * T),
        (dynamic, residual, T),
        (with_lengths, Sum, 3),  # TensorFlow's loop ends with the longest row
        (time_major, Sum, T),
        (both, Sum, 2 * T),
        (static, stack, 2 * T),
        (raw, Sum, 4),
        (raw, stack, 8),
    ],
)
def test_own_loops(loop: Callable[..., Any], cell: Callable[[], Any], steps: int) -> None:
    """Steps are counted each time a graph runs, and results and gradients are what they were."""
    graph = tf.Graph()
    with graph.as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float64, [B, None, H])
        v1.set_random_seed(1)
        with v1.variable_scope("watched"):
            results = tf.nest.flatten(quietly(loop, cell(), x))
        counted = len(graph.get_operations())
        gradients = tf.gradients([tf.sin(result) for result in results], x)
        session.run(v1.global_variables_initializer())
        assert report._own == report.Tally()
        for run in (1, 2):
            values = session.run([*results, *gradients], {x: X})
            assert report._own.steps == run * steps
            assert 0 < report._own.seconds < 60
        assert any(operation.type == "PyFunc" for operation in graph.get_operations()[:counted])
        assert all(np.isfinite(value).all() for value in values)


def test_values_stay() -> None:
    def build(given: dict[str, Any]) -> dict[str, Any]:
        y, state = quietly(dynamic, Sum(), given["x"])
        return {"y": y, "state": state, "d_x": tf.gradients(y, given["x"])[0]}

    found = evaluate("graph", build, {"x": X})
    np.testing.assert_allclose(found["y"], np.cumsum(X, 1), rtol=1e-12)
    np.testing.assert_allclose(found["state"], X.sum(1), rtol=1e-12)
    np.testing.assert_allclose(found["d_x"][0, :, 0], np.arange(T, 0, -1), rtol=1e-12)


def test_in_functions_and_eagerly() -> None:
    function = tf.function(lambda x: quietly(dynamic, Sum(), x))
    for run in (1, 2, 3):
        y, _ = (function if run < 3 else function.python_function)(tf.constant(X))
        np.testing.assert_allclose(y, np.cumsum(X, 1), rtol=1e-12)
        assert (report._own.calls, report._own.steps) == (run, run * T)


def test_fused_loops_are_left_alone() -> None:
    """No callback where the op library counts."""
    with tf.Graph().as_default() as graph:
        x = tf.constant(X)
        for loop in (dynamic, both, static, raw):
            cell = make(REFERENCE, "MultiRNNCell", [make(FUSED, "LSTMCell", H), make(FUSED, "GRUCell", H)])
            with v1.variable_scope(loop.__name__):
                if loop is both:
                    v1.nn.bidirectional_dynamic_rnn(cell, make(FUSED, "GRUCell", H), x, dtype=x.dtype)
                else:
                    quietly(loop, cell, x)
        assert not [operation for operation in graph.get_operations() if operation.type == "PyFunc"]
