"""The fused cells inside TensorFlow's wrappers and stacks, in its other loops, and in its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close
from tf.cell_runs import waves
from tf.evaluate import Arrays, evaluate
from tf.tensorflow_cells import FUSED, KINDS, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in
kinds = pytest.mark.parametrize("kind", KINDS)

T, B, WIDTH, H = 4, 3, 6, 6
RNG = np.random.default_rng(5)
X = RNG.standard_normal((B, T, WIDTH))
LENGTHS = np.array([4, 0, 2], np.int32)
STATES = RNG.standard_normal((2, B, H))

Build = Callable[[ModuleType, str], Cell]


def stack(library: ModuleType, kind: str) -> Cell:
    return make(REFERENCE, "MultiRNNCell", [make(library, kind, H), make(library, kind, H + 1)])


def make_one(library: ModuleType, kind: str) -> Cell:
    return make(library, kind, H)


def residual(library: ModuleType, kind: str) -> Cell:
    return make(REFERENCE, "ResidualWrapper", make(library, kind, H))


def on_a_device(library: ModuleType, kind: str) -> Cell:
    return make(REFERENCE, "DeviceWrapper", make(library, kind, H), "/CPU:0")


def dropout(library: ModuleType, kind: str) -> Cell:
    """With a filter of its own it steps in TensorFlow's loop, where it draws the same numbers."""
    options = {"input_keep_prob": 0.8, "state_keep_prob": 0.7, "output_keep_prob": 0.6, "seed": 3}
    cell = make(library, kind, H)
    return make(REFERENCE, "DropoutWrapper", cell, dropout_state_filter_visitor=lambda _: True, **options)


def variational_dropout(library: ModuleType, kind: str) -> Cell:
    options = {"variational_recurrent": True, "input_size": WIDTH, "dtype": tf.float64}
    return make(
        REFERENCE, "DropoutWrapper", make(library, kind, H), 0.8, 0.7, state_keep_prob=0.6, seed=3, **options
    )


def deep(library: ModuleType, kind: str) -> Cell:
    layers = [residual(library, kind), dropout(library, kind), make(library, kind, H)]
    return make(REFERENCE, "MultiRNNCell", layers)


def run(build: Build, library: ModuleType, kind: str, loop: Callable[..., Any]) -> Arrays:
    """Outputs, states and the gradients of x and all weights, in a graph, in float64."""

    def forward_and_backward(given: dict[str, Any]) -> dict[str, Any]:
        with v1.variable_scope("model", initializer=waves):
            results = tf.nest.flatten(quietly(loop, build(library, kind), given["x"], given["lengths"]))
        ends = [tf.sin(result) for result in results]  # gradients that differ from element to element
        gradients = tf.gradients(ends, [given["x"], *v1.trainable_variables()])
        named = {f"result[{k}]": result for k, result in enumerate(results)}
        return named | {f"gradient[{k}]": gradient for k, gradient in enumerate(gradients)}

    return evaluate("graph", forward_and_backward, {"x": X, "lengths": LENGTHS})


def joined(library: ModuleType, kind: str) -> Cell:
    return make(library, kind, H, state_is_tuple=False)


def joined_stack(library: ModuleType, kind: str) -> Cell:
    layers = [joined(library, kind), joined(library, kind)]
    return make(REFERENCE, "MultiRNNCell", layers, state_is_tuple=False)


@lru_cache
def reference(build: Build, kind: str, loop: Callable[..., Any]) -> Arrays:
    return run(build, REFERENCE, kind, loop)


def tensorflow_loop(cell: Cell, x: Any, lengths: Any) -> Any:
    # One iteration at a time, or the order of the draws that dropout takes is not the same in every run.
    return v1.nn.dynamic_rnn(cell, x, lengths, dtype=x.dtype, parallel_iterations=1)


def fused_loop(cell: Cell, x: Any, lengths: Any) -> Any:
    return fused_rnn.dynamic_rnn(cell, x, lengths, dtype=x.dtype, parallel_iterations=1)


def bidirectional(cell: Cell, x: Any, lengths: Any) -> Any:
    return v1.nn.bidirectional_dynamic_rnn(*cell, x, lengths, dtype=x.dtype)


def static_bidirectional(cell: Cell, x: Any, lengths: Any) -> Any:
    return v1.nn.static_bidirectional_rnn(
        *cell, tf.unstack(x, axis=1), dtype=x.dtype, sequence_length=lengths
    )


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
@pytest.mark.parametrize("loop", [tensorflow_loop, fused_loop])
@pytest.mark.parametrize("wrapped", [stack, residual, on_a_device, dropout, variational_dropout, deep])
def test_wrapped(kind: str, wrapped: Build, loop: Callable[..., Any]) -> None:
    assert_close("float64", run(wrapped, FUSED, kind, loop), reference(wrapped, kind, tensorflow_loop))


def pair(library: ModuleType, kind: str) -> tuple[Cell, Cell]:
    return make(library, kind, H), make(library, kind, H + 1)


@pytest.mark.parametrize(
    ("kind", "loop"),
    [*((kind, bidirectional) for kind in KINDS), ("LSTMCell", static_bidirectional)],
)
def test_both_directions(kind: str, loop: Callable[..., Any]) -> None:
    assert_close("float64", run(pair, FUSED, kind, loop), run(pair, REFERENCE, kind, loop))


@pytest.mark.parametrize("kind", ["LSTMCell", "BasicLSTMCell"])
@pytest.mark.parametrize("loop", [tensorflow_loop, fused_loop])
def test_state_in_one_tensor(kind: str, loop: Callable[..., Any]) -> None:
    for build in (joined, joined_stack):
        assert_close("float64", run(build, FUSED, kind, loop), reference(build, kind, tensorflow_loop))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_under_static_state_saving_rnn(kind: str) -> None:
    """The state lives outside the graph's function, under names."""

    class Saver:
        def __init__(self, states: int) -> None:
            self.values = {f"s{k}": tf.constant(STATES[k]) for k in range(states)}
            self.saved: dict[str, Any] = {}

        def state(self, name: str) -> Any:
            return self.values[name]

        def save_state(self, name: str, value: Any) -> Any:
            self.saved[name] = value
            return tf.identity(value)

    def loop(cell: Cell, x: Any, lengths: Any) -> Any:
        tuple_state = isinstance(cell.state_size, tuple)
        saver = Saver(2 if tuple_state else 1)
        names = ("s0", "s1") if tuple_state else "s0"
        outputs, state = v1.nn.static_state_saving_rnn(cell, tf.unstack(x, axis=1), saver, names, lengths)
        return outputs, state, [saver.saved[name] for name in sorted(saver.saved)]

    assert_close("float64", run(make_one, FUSED, kind, loop), run(make_one, REFERENCE, kind, loop))


@kinds
@pytest.mark.parametrize(
    ("writer", "reader"), [(REFERENCE, FUSED), (FUSED, REFERENCE)], ids=["read", "write"]
)
def test_checkpoints(kind: str, writer: ModuleType, reader: ModuleType, tmp_path: Path) -> None:
    """What a graph with TensorFlow's cells saves, one with fused cells loads, and the other way round."""
    outputs = []
    for library in (writer, reader):
        with tf.Graph().as_default(), v1.Session() as session:
            cell = stack(library, kind)
            y, _ = quietly(cell, tf.constant(X[:, 0]), cell.zero_state(B, tf.float64))
            session.run(v1.global_variables_initializer())
            saver = v1.train.Saver()
            if library is writer:
                saver.save(session, str(tmp_path / "model"))
            else:
                saver.restore(session, str(tmp_path / "model"))
            outputs.append(session.run(y))
    assert_close("float64", {"y": outputs[1]}, {"y": outputs[0]})
