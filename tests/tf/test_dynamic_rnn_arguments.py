"""What fused_rnn.dynamic_rnn refuses, with TensorFlow's exceptions, and what it hands on to TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close
from tf.cell_runs import waves
from tf.evaluate import MODES, Arrays, evaluate
from tf.tensorflow_cells import FUSED, KINDS, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

B, T, I, H = 2, 5, 3, 4  # noqa: E741
X = np.random.default_rng(1).standard_normal((B, T, I))

Call = Callable[[Callable[..., Any], Any], Any]  # (dynamic_rnn, library) -> its results


def zeros(*shape: int, dtype: Any = tf.float32) -> Any:
    return tf.zeros(shape, dtype)


def lstm(library: Any) -> Cell:
    return make(library, "LSTMCell", H)


def gru(library: Any) -> Cell:
    return make(library, "GRUCell", H)


WRONG: dict[str, Call] = {
    "no cell": lambda run, _: run("cell", zeros(B, T, I), dtype=tf.float32),
    "no state and no dtype": lambda run, library: run(lstm(library), zeros(B, T, I)),
    "no inputs": lambda run, library: run(lstm(library), None, dtype=tf.float32),
    "empty inputs": lambda run, library: run(lstm(library), [], dtype=tf.float32),
    "inputs of rank 2": lambda run, library: run(lstm(library), zeros(B, I), dtype=tf.float32),
    "inputs of rank 4": lambda run, library: run(lstm(library), zeros(B, T, I, 1), dtype=tf.float32),
    "integer inputs": lambda run, library: run(
        lstm(library), zeros(B, T, I, dtype=tf.int32), dtype=tf.float32
    ),
    "another dtype": lambda run, library: run(lstm(library), zeros(B, T, I), dtype=tf.float64),
    "lengths of rank 2": lambda run, library: run(lstm(library), zeros(B, T, I), [[1, 2]], dtype=tf.float32),
    "lengths of rank 0": lambda run, library: run(lstm(library), zeros(B, T, I), 3, dtype=tf.float32),
    "state of other units": lambda run, library: run(gru(library), zeros(B, T, I), None, zeros(B, H + 1)),
    "state of other rows": lambda run, library: run(gru(library), zeros(B, T, I), None, zeros(B + 1, H)),
    "state of rank 1": lambda run, library: run(gru(library), zeros(B, T, I), None, zeros(H)),
    "state of another dtype": lambda run, library: run(
        gru(library), zeros(B, T, I), None, zeros(B, H, dtype=tf.float64)
    ),
    "state that is no pair": lambda run, library: run(
        lstm(library), zeros(B, T, I), None, (zeros(B, H), zeros(B, H), zeros(B, H))
    ),
    "state that is a pair": lambda run, library: run(
        gru(library), zeros(B, T, I), None, (zeros(B, H), zeros(B, H))
    ),
}
IN_GRAPHS: dict[str, Call] = {
    "unknown width": lambda run, library: run(
        lstm(library), v1.placeholder(tf.float32, [B, T, None]), dtype=tf.float32
    ),
}


def error_of(call: Call, run: Callable[..., Any], library: Any) -> type[BaseException]:
    with pytest.raises(Exception) as info:  # noqa: PT011 - which one it is, is what the test compares
        quietly(call, run, library)
    return info.type


@pytest.mark.parametrize("what", WRONG | IN_GRAPHS)
def test_errors_in_graphs(what: str) -> None:
    call = (WRONG | IN_GRAPHS)[what]
    with tf.Graph().as_default():
        theirs = error_of(call, v1.nn.dynamic_rnn, REFERENCE)
    with tf.Graph().as_default():
        ours = error_of(call, fused_rnn.dynamic_rnn, FUSED)
    assert issubclass(ours, theirs) or issubclass(theirs, ours), f"{ours} instead of {theirs}"


@pytest.mark.parametrize("what", WRONG)
def test_errors_eagerly(what: str) -> None:
    """The same class where Python finds the fault; where a kernel does, ours may find it in Python."""
    theirs = error_of(WRONG[what], v1.nn.dynamic_rnn, REFERENCE)
    ours = error_of(WRONG[what], fused_rnn.dynamic_rnn, FUSED)
    if not issubclass(theirs, tf.errors.InvalidArgumentError):
        assert issubclass(ours, theirs) or issubclass(theirs, ours), f"{ours} instead of {theirs}"
    else:
        assert issubclass(ours, (ValueError, TypeError, theirs)), ours


def test_inputs_of_unknown_rank() -> None:
    with tf.Graph().as_default(), pytest.raises(ValueError, match="inputs"):
        fused_rnn.dynamic_rnn(lstm(FUSED), v1.placeholder(tf.float32), dtype=tf.float32)


@pytest.mark.parametrize("lengths", [[1], [1, 2, 3]])
def test_lengths_of_another_batch_at_run_time(lengths: list[int]) -> None:
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        with tf.Graph().as_default(), v1.Session() as session:
            given = v1.placeholder(tf.int32, [None])
            y, _ = quietly(function, lstm(library), zeros(B, T, I), given, dtype=tf.float32)
            session.run(v1.global_variables_initializer())
            with pytest.raises(tf.errors.InvalidArgumentError):
                session.run(y, {given: lengths})


def test_lengths_that_are_a_list_or_floats() -> None:
    """TensorFlow's function casts what it is given."""
    for lengths in ([5, 2], (5, 2), np.array([5.0, 2.9]), tf.constant([5, 2], tf.uint8)):
        cell = make(FUSED, "GRUCell", H)
        y, _ = fused_rnn.dynamic_rnn(cell, X, lengths, dtype=tf.float64)
        theirs, _ = quietly(v1.nn.dynamic_rnn, cell, X, lengths, dtype=tf.float64)
        assert_close("float64", {"y": y.numpy()}, {"y": theirs.numpy()})


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_states_that_are_arrays(kind: str) -> None:
    cell = make(FUSED, kind, H)
    state = tf.nest.map_structure(lambda n: np.full((B, n), 0.5), cell.state_size)
    y, _ = fused_rnn.dynamic_rnn(cell, X, initial_state=state)
    theirs, _ = quietly(v1.nn.dynamic_rnn, cell, X, initial_state=tf.nest.map_structure(tf.constant, state))
    assert_close("float64", {"y": y.numpy()}, {"y": theirs.numpy()})


def results_of(
    library: Any,
    function: Callable[..., Any],
    build: Callable[[Any], Cell],
    x: Callable[[Any], Any],
    mode: str,
) -> Arrays:
    cells: list[Cell] = []

    def forward(given: dict[str, Any]) -> dict[str, Any]:
        with v1.variable_scope("model", initializer=waves):
            if not cells:
                cells.append(build(library))
            found = quietly(function, cells[0], x(given["x"]), [5, 2], dtype=tf.float64)
        return {f"result[{k}]": tensor for k, tensor in enumerate(tf.nest.flatten(found))}

    if mode == "function":
        evaluate("eager", forward, {"x": X})  # makes the variables
    return evaluate(mode, forward, {"x": X})


def compare(build: Callable[[Any], Cell], x: Callable[[Any], Any] = lambda x: x, mode: str = "graph") -> None:
    """fused_rnn.dynamic_rnn with cells of fused_rnn against TensorFlow's function with its own."""
    ours = results_of(FUSED, fused_rnn.dynamic_rnn, build, x, mode)
    assert_close("float64", ours, results_of(REFERENCE, v1.nn.dynamic_rnn, build, x, mode))


@pytest.mark.parametrize("mode", MODES)
def test_stacks(mode: str) -> None:
    compare(lambda library: make(REFERENCE, "MultiRNNCell", [lstm(library), gru(library)]), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_cells_of_tensorflow_go_to_its_loop(mode: str) -> None:
    compare(lambda _: lstm(REFERENCE), mode=mode)


def test_nested_inputs_go_to_tensorflows_loop() -> None:
    base: Any = REFERENCE.RNNCell

    class Both(base):
        """A cell of two inputs."""

        def __init__(self, cell: Cell) -> None:
            super().__init__()
            self.cell = cell

        @property
        def state_size(self) -> Any:
            return self.cell.state_size

        @property
        def output_size(self) -> Any:
            return self.cell.output_size

        def __call__(self, inputs: Any, state: Any, scope: Any = None) -> Any:
            return self.cell(tf.concat(inputs, 1), state)

    compare(lambda library: Both(gru(library)), lambda x: (x, 2 * x))


def test_a_cell_that_only_looks_like_one() -> None:
    class Counter:
        """Not an RNNCell, but all that dynamic_rnn asks of one."""

        state_size = output_size = 1

        def zero_state(self, batch_size: Any, dtype: Any) -> Any:
            return tf.zeros([batch_size, 1], dtype)

        def __call__(self, inputs: Any, state: Any) -> Any:
            return state, state + 1

    y, state = quietly(fused_rnn.dynamic_rnn, Counter(), X, [5, 2], dtype=tf.float64)
    np.testing.assert_array_equal(y[..., 0], [[0, 1, 2, 3, 4], [0, 1, 0, 0, 0]])
    np.testing.assert_array_equal(state[:, 0], [5, 2])


@pytest.mark.parametrize("override", ["call", "__call__"])
def test_a_subclass_with_a_step_of_its_own(override: str) -> None:
    """The sequence op knows nothing of it, so that it must be TensorFlow's loop that calls it."""

    def build(library: Any) -> Cell:
        base = library.GRUCell

        def step(self: Cell, inputs: Any, state: Any, *args: Any) -> Any:
            output, new_state = getattr(base, override)(self, inputs, state, *args)
            return 10 * output, new_state + 1

        return quietly(type("GRUCell", (base,), {override: step}), H)

    compare(build)


def test_a_subclass_with_weights_of_its_own() -> None:
    """A step that is inherited still sees what build made."""

    def build(library: Any) -> Cell:
        def make_variables(self: Cell, inputs_shape: Any) -> None:
            library.GRUCell.build(self, inputs_shape)
            self._gate_bias = 2 * self._gate_bias

        return quietly(type("GRUCell", (library.GRUCell,), {"build": make_variables}), H)

    compare(build)
