"""bidirectional_dynamic_rnn, static_rnn and their kin: signatures, errors, what they leave to TensorFlow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close
from tf.compositions import Variables, values
from tf.evaluate import Arrays
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

FUNCTIONS = (
    "dynamic_rnn",
    "bidirectional_dynamic_rnn",
    "raw_rnn",
    "static_rnn",
    "static_bidirectional_rnn",
    "static_state_saving_rnn",
)
B, T, I, H = 3, 4, 2, 5  # noqa: E741


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures(name: str) -> None:
    ours, theirs = (inspect.signature(getattr(module, name)) for module in (fused_rnn, v1.nn))
    assert [(p.name, p.default) for p in ours.parameters.values()] == [
        (p.name, p.default) for p in theirs.parameters.values()
    ]
    assert name in fused_rnn.__all__


def gru(library: Any) -> Cell:
    return make(library, "GRUCell", H)


def zeros(*shape: int, dtype: Any = tf.float32) -> Any:
    return tf.zeros(shape, dtype)


def steps(*shapes: tuple[int | None, ...]) -> list[Any]:
    return [v1.placeholder(tf.float32, shape) for shape in shapes or [(B, I)] * T]


# (module of functions, module of cells) -> results; all are refused
Call = Callable[[Any, Any], Any]
F32 = tf.float32
WRONG: dict[str, Call] = {
    "no cell forward": lambda nn, lib: nn.bidirectional_dynamic_rnn(1, gru(lib), zeros(B, T, I), dtype=F32),
    "no cell backward": lambda nn, lib: nn.bidirectional_dynamic_rnn(gru(lib), 1, zeros(B, T, I), dtype=F32),
    "no dtype": lambda nn, lib: nn.bidirectional_dynamic_rnn(gru(lib), gru(lib), zeros(B, T, I)),
    "a state for one direction only": lambda nn, lib: nn.bidirectional_dynamic_rnn(
        gru(lib), gru(lib), zeros(B, T, I), None, zeros(B, H)
    ),
    "inputs of rank 2": lambda nn, lib: nn.bidirectional_dynamic_rnn(
        gru(lib), gru(lib), zeros(B, T), dtype=F32
    ),
    "lengths of rank 2": lambda nn, lib: nn.bidirectional_dynamic_rnn(
        gru(lib), gru(lib), zeros(B, T, I), [[1, 2, 3]], dtype=F32
    ),
    "new cells in used scopes": lambda nn, lib: [
        nn.bidirectional_dynamic_rnn(gru(lib), gru(lib), zeros(B, T, I), dtype=F32) for _ in range(2)
    ],
    "static: no cell": lambda nn, lib: nn.static_rnn(1, steps(), dtype=F32),
    "static: no list": lambda nn, lib: nn.static_rnn(gru(lib), zeros(T, B, I), dtype=F32),
    "static: no steps": lambda nn, lib: nn.static_rnn(gru(lib), [], dtype=F32),
    "static: no dtype": lambda nn, lib: nn.static_rnn(gru(lib), steps()),
    "static: unknown width": lambda nn, lib: nn.static_rnn(gru(lib), steps((B, None)), dtype=F32),
    "static: steps of two widths": lambda nn, lib: nn.static_rnn(gru(lib), steps((B, I), (B, H)), dtype=F32),
    "static: steps of two batches": lambda nn, lib: nn.static_rnn(gru(lib), steps((B, I), (1, I)), dtype=F32),
    "static: lengths of rank 0": lambda nn, lib: nn.static_rnn(
        gru(lib), steps(), dtype=F32, sequence_length=3
    ),
    "static: a state of another width": lambda nn, lib: nn.static_rnn(gru(lib), steps(), zeros(B, 1)),
    "static both: no cell": lambda nn, lib: nn.static_bidirectional_rnn(gru(lib), 1, steps(), dtype=F32),
    "static both: no list": lambda nn, lib: nn.static_bidirectional_rnn(
        gru(lib), gru(lib), zeros(T, B, I), dtype=F32
    ),
    "static both: no steps": lambda nn, lib: nn.static_bidirectional_rnn(gru(lib), gru(lib), [], dtype=F32),
}


def error_of(call: Call, module: Any, library: Any) -> type[BaseException]:
    with tf.Graph().as_default(), pytest.raises(Exception) as info:  # noqa: PT011 - which one is compared
        quietly(call, module, library)
    return info.type


@pytest.mark.parametrize("what", WRONG)
def test_errors(what: str) -> None:
    theirs = error_of(WRONG[what], v1.nn, REFERENCE)
    ours = error_of(WRONG[what], fused_rnn, FUSED)
    assert issubclass(ours, theirs) or issubclass(theirs, ours), f"{ours} instead of {theirs}"


@pytest.mark.parametrize("lengths", [[1, T + 1, 2], [1, -1, 2], [1, 2]])
def test_lengths_that_go_back_from_nowhere(lengths: list[int]) -> None:
    """In both directions TensorFlow's functions refuse lengths outside [0, T] when they run."""

    def dynamic(module: Any, library: Any, given: Any) -> Any:
        x = zeros(B, T, I)
        y, _ = module.bidirectional_dynamic_rnn(gru(library), gru(library), x, given, dtype=F32)
        return y

    def static(module: Any, library: Any, given: Any) -> Any:
        cells = (gru(library), gru(library))
        y, _, _ = module.static_bidirectional_rnn(*cells, [zeros(B, I)] * T, dtype=F32, sequence_length=given)
        return y

    for function in (dynamic, static):
        for module, library in ((v1.nn, REFERENCE), (fused_rnn, FUSED)):
            with tf.Graph().as_default(), v1.Session() as session:
                given = v1.placeholder(tf.int32, [None])
                y = quietly(function, module, library, given)
                session.run(v1.global_variables_initializer())
                with pytest.raises(tf.errors.InvalidArgumentError):
                    session.run(y, {given: lengths})


def test_lengths_of_a_list_are_clipped() -> None:
    """Forward, TensorFlow's function takes a length above T as T and below 0 as 0."""
    assert_close(
        "float64",
        *of_both(
            lambda nn, lib, x: nn.static_rnn(
                gru(lib), tf.unstack(x), dtype=tf.float64, sequence_length=[T + 9, -2, 1]
            )
        ),
    )


def of_both(call: Callable[[Any, Any, Any], Any]) -> tuple[Arrays, Arrays]:
    """The results of call(functions, cells, x [T, B, I]) with fused_rnn's and with TensorFlow's, eagerly."""
    found = []
    for module, library in ((fused_rnn, FUSED), (v1.nn, REFERENCE)):
        with v1.variable_scope("model", custom_getter=Variables()):
            results = quietly(call, module, library, tf.constant(values("x", [T, B, I])))
        found.append({f"result[{k}]": tensor.numpy() for k, tensor in enumerate(tf.nest.flatten(results))})
    return found[0], found[1]


def foreign() -> Cell:
    return make(REFERENCE, "LSTMCell", H)


def test_a_fused_cell_in_one_direction_only() -> None:
    for cells in ((gru, lambda _: foreign()), (lambda _: foreign(), gru)):

        def dynamic(nn: Any, lib: Any, x: Any, cells: Any = cells) -> Any:
            both = [make_cell(lib) for make_cell in cells]
            return nn.bidirectional_dynamic_rnn(*both, x, [4, 0, 2], dtype=tf.float64, time_major=True)

        def static(nn: Any, lib: Any, x: Any, cells: Any = cells) -> Any:
            both = [make_cell(lib) for make_cell in cells]
            return nn.static_bidirectional_rnn(*both, tf.unstack(x), dtype=tf.float64)

        for call in (dynamic, static):
            assert_close("float64", *of_both(call))


def test_cells_of_tensorflow_go_to_its_functions() -> None:
    for name in ("bidirectional_dynamic_rnn", "static_bidirectional_rnn"):

        def call(nn: Any, lib: Any, x: Any, name: str = name) -> Any:
            inputs = tf.unstack(x) if name.startswith("static") else x
            return getattr(nn, name)(foreign(), foreign(), inputs, dtype=tf.float64)

        assert_close("float64", *of_both(call))
    assert_close(
        "float64", *of_both(lambda nn, _, x: nn.static_rnn(foreign(), tf.unstack(x), dtype=tf.float64))
    )


def test_nested_inputs_go_to_tensorflows_functions() -> None:
    base: Any = REFERENCE.RNNCell

    class Both(base):
        """A cell of two inputs around one of one."""

        def __init__(self, cell: Cell) -> None:
            super().__init__()
            self.cell = cell
            self.state_size = self.output_size = cell.output_size

        state_size = output_size = 0

        def call(self, inputs: Any, state: Any) -> Any:
            return self.cell(tf.concat(inputs, 1), state)

    def dynamic(nn: Any, lib: Any, x: Any) -> Any:
        return nn.bidirectional_dynamic_rnn(Both(gru(lib)), Both(gru(lib)), (x, 2 * x), dtype=tf.float64)

    def static(nn: Any, lib: Any, x: Any) -> Any:
        return nn.static_rnn(Both(gru(lib)), [(step, 2 * step) for step in tf.unstack(x)], dtype=tf.float64)

    for call in (dynamic, static):
        assert_close("float64", *of_both(call))


def test_lists_come_back_as_lists() -> None:
    x = tf.constant(values("x", [T, B, I]))
    for inputs in (tf.unstack(x), tuple(tf.unstack(x))):
        y, state = fused_rnn.static_rnn(gru(FUSED), inputs, dtype=tf.float64)
        assert isinstance(y, list) and len(y) == T and isinstance(state, tf.Tensor)
        np.testing.assert_array_equal(y[-1], state)
        y, *states = fused_rnn.static_bidirectional_rnn(gru(FUSED), gru(FUSED), inputs, dtype=tf.float64)
        assert isinstance(y, list) and len(y) == T and y[0].shape == [B, 2 * H] and len(states) == 2
        np.testing.assert_array_equal(y[0][:, H:], states[1])


def test_static_shapes() -> None:
    def shapes(nn: Any, lib: Any) -> list[list[int | None]]:
        results = [
            nn.static_rnn(make(lib, "LSTMCell", H), steps((None, I), (None, I)), dtype=F32),
            nn.static_bidirectional_rnn(gru(lib), gru(lib), steps(), dtype=F32),
            nn.bidirectional_dynamic_rnn(
                gru(lib), gru(lib), v1.placeholder(F32, [None, None, I]), dtype=F32, scope="dynamic"
            ),
        ]
        return [tensor.shape.as_list() for tensor in tf.nest.flatten(results)]

    with tf.Graph().as_default():
        ours = shapes(fused_rnn, FUSED)
    with tf.Graph().as_default():
        assert ours == quietly(shapes, v1.nn, REFERENCE)


def test_raw_rnn_and_static_state_saving_rnn_are_tensorflows() -> None:
    assert fused_rnn.raw_rnn is v1.nn.raw_rnn
    assert fused_rnn.static_state_saving_rnn is v1.nn.static_state_saving_rnn


def test_what_is_called_when_the_public_names_stand_for_ours() -> None:
    """TensorFlow's functions are kept at import: a program may put ours under their names."""
    ours, theirs = fused_rnn.dynamic_rnn, v1.nn.dynamic_rnn
    v1.nn.dynamic_rnn = ours
    try:
        y, _ = quietly(v1.nn.dynamic_rnn, foreign(), zeros(B, T, I), dtype=F32)
    finally:
        v1.nn.dynamic_rnn = theirs
    assert y.shape == [B, T, H]
