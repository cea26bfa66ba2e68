"""The state that lives in variables between runs: what it is, how it is updated, and how it is reset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close, assert_same_bits
from fused_rnn import get_state_reset_op, get_state_update_op, get_state_variables
from tf.cell_runs import waves
from tf.evaluate import MODES
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
drop_in = pytest.mark.drop_in

B, T, I, H = 3, 7, 4, 5  # noqa: E741
X = np.random.default_rng(3).standard_normal((B, T, I))


def stack() -> Cell:
    """Of different cells, one of them wrapped."""
    dropout = make(REFERENCE, "DropoutWrapper", make(FUSED, "LSTMCell", H), state_keep_prob=1.0)
    cells = [make(FUSED, "GRUCell", H), dropout, make(FUSED, "BasicRNNCell", H - 1)]
    return make(REFERENCE, "MultiRNNCell", cells)


def joined_stack() -> Cell:
    cells = [make(FUSED, "BasicLSTMCell", H, state_is_tuple=False) for _ in range(2)]
    return make(REFERENCE, "MultiRNNCell", cells, state_is_tuple=False)


CELLS: dict[str, Callable[[], Cell]] = {
    "lstm": lambda: make(FUSED, "LSTMCell", H),
    "joined lstm": lambda: make(FUSED, "LSTMCell", H, state_is_tuple=False),
    "gru": lambda: make(FUSED, "GRUCell", H),
    "plain": lambda: make(FUSED, "BasicRNNCell", H),
    "reference lstm": lambda: make(REFERENCE, "LSTMCell", H),
    "stack": stack,
    "joined stack": joined_stack,
}
cells = pytest.mark.parametrize("name", CELLS)
modes = pytest.mark.parametrize("mode", MODES)


def loop(cell: Cell, x: Any, state: Any = None) -> tuple[Any, Any]:
    def getter(getter: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return getter(*args, **options | {"initializer": waves})

    with v1.variable_scope("model", custom_getter=getter):
        return quietly(fused_rnn.dynamic_rnn, cell, x, initial_state=state, dtype=tf.float64)


def flat(state: Any) -> list[np.ndarray]:
    return [part.numpy() if hasattr(part, "numpy") else part for part in tf.nest.flatten(state)]


class Stream:
    """A network that is given its input in pieces: run, update and resets, in one of the modes."""

    def __init__(self, mode: str, name: str) -> None:
        self.mode = mode
        self.cell = CELLS[name]()
        if mode == "graph":
            self.session = v1.Session()
            self.inputs = v1.placeholder(tf.float64, [B, None, I])
            self.state = get_state_variables(B, self.cell, tf.float64)
            self.outputs, new_state = loop(self.cell, self.inputs, self.state)
            self.update = get_state_update_op(self.state, new_state)
            self.session.run(v1.global_variables_initializer())
            return
        loop(self.cell, tf.constant(X))  # makes the weights
        self.state = get_state_variables(B, self.cell, tf.float64)

        def step(inputs: Any) -> Any:
            outputs, new_state = loop(self.cell, inputs, self.state)
            get_state_update_op(self.state, new_state)
            return outputs

        if mode == "function":
            step = tf.function(step, input_signature=[tf.TensorSpec([B, None, I], tf.float64)])
        self.step = step

    def run(self, inputs: np.ndarray) -> np.ndarray:
        if self.mode == "graph":
            outputs, fetched = self.session.run([self.outputs, self.update], {self.inputs: inputs})
            assert fetched is None
            return outputs
        return self.step(tf.constant(inputs)).numpy()

    def reset(self, rows: Any = None) -> None:
        def reset(rows: Any) -> Any:
            return get_state_reset_op(self.state, self.cell, B, rows)

        if self.mode == "graph":
            assert self.session.run(reset(rows)) is None
        elif self.mode == "eager" or rows is None:
            assert reset(rows) is None
        else:
            tf.function(lambda rows: reset(rows) and None)(tf.constant(rows))

    def values(self) -> list[np.ndarray]:
        variables = tf.nest.flatten(self.state)
        return self.session.run(variables) if self.mode == "graph" else flat(variables)


@drop_in
@cells
def test_variables(name: str) -> None:
    """The structure and the values of the zero state, and nothing that is trained."""
    with tf.Graph().as_default(), v1.Session() as session:
        cell = CELLS[name]()
        state = get_state_variables(B, cell, tf.float16)
        zero = cell.zero_state(B, tf.float16)
        tf.nest.assert_same_structure(zero, state)
        assert type(state) is type(zero) or not tf.nest.is_nested(zero)
        variables = tf.nest.flatten(state)
        assert [(v.shape, v.dtype) for v in variables] == [(z.shape, z.dtype) for z in tf.nest.flatten(zero)]
        assert all(isinstance(variable, tf.Variable) for variable in variables)
        assert not v1.trainable_variables()
        assert v1.global_variables() == variables
        session.run(v1.global_variables_initializer())
        for value in session.run(variables):
            assert not value.any()


@drop_in
@cells
@modes
def test_pieces_of_a_sequence(name: str, mode: str) -> None:
    """What comes in pieces gives what the whole gives, and a reset begins anew."""
    with tf.Graph().as_default() if mode == "graph" else tf.name_scope("eager"):
        stream = Stream(mode, name)
        whole = stream.run(X)
        final = stream.values()
        for _ in range(2):
            stream.reset()
            assert not any(value.any() for value in stream.values())
            pieces = [stream.run(X[:, start:end]) for start, end in ((0, 3), (3, 4), (4, T))]
            assert_close("float64", {"outputs": np.concatenate(pieces, 1)}, {"outputs": whole})
            for value, expected in zip(stream.values(), final, strict=True):
                assert_close("float64", {"state": value}, {"state": expected})


@pytest.mark.parametrize("name", ["lstm", "joined lstm", "stack"])
@modes
@pytest.mark.parametrize("rows", [[True, False, True], [2, 0, 2]], ids=["mask", "numbers"])
def test_resets_of_rows(name: str, mode: str, rows: Any) -> None:
    with tf.Graph().as_default() if mode == "graph" else tf.name_scope("eager"):
        stream = Stream(mode, name)
        stream.run(X)
        before = stream.values()
        stream.reset(rows)
        for value, old in zip(stream.values(), before, strict=True):
            assert not value[[0, 2]].any()
            assert_same_bits({"kept": value[1]}, {"kept": old[1]})
        stream.reset([False] * B if isinstance(rows[0], bool) else np.zeros([0], np.int32))
        for value, old in zip(stream.values(), before, strict=True):
            assert_same_bits({"kept": value[1]}, {"kept": old[1]})


def test_rows_that_are_known_when_run() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        cell = CELLS["gru"]()
        state = get_state_variables(B, cell)
        mask, numbers = v1.placeholder(tf.bool), v1.placeholder(tf.int64, [None])
        by_mask, by_number = (get_state_reset_op(state, cell, B, rows) for rows in (mask, numbers))
        fill = state.assign(tf.ones([B, H]), read_value=False)
        session.run(fill)
        session.run(by_mask, {mask: [False, True, False]})
        np.testing.assert_array_equal(session.run(state)[:, 0], [1, 0, 1])
        session.run(fill)
        session.run(by_number, {numbers: [2]})
        np.testing.assert_array_equal(session.run(state)[:, 0], [1, 1, 0])
        for op, feeds in (
            (by_mask, {mask: [True]}),
            (by_mask, {mask: [[True] * 3]}),
            (by_number, {numbers: [0, 3]}),
            (by_number, {numbers: [-1]}),
        ):
            with pytest.raises(tf.errors.InvalidArgumentError, match="rows"):
                session.run(op, feeds)
        np.testing.assert_array_equal(session.run(state)[:, 0], [1, 1, 0])


def test_a_state_that_does_not_start_from_zero() -> None:
    class Started(FUSED.GRUCell):  # type: ignore[name-defined]  # a module that is a variable
        def zero_state(self, batch_size: int, dtype: Any) -> Any:
            return 0.5 + super().zero_state(batch_size, dtype)

    cell = Started(H)
    state = get_state_variables(B, cell)
    state.assign(tf.ones([B, H]))
    get_state_reset_op(state, cell, B, [1])
    np.testing.assert_array_equal(state[:, 0], [1, 0.5, 1])
    get_state_reset_op(state, cell, B)
    np.testing.assert_array_equal(state, np.full([B, H], 0.5))


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_gradients_beside_an_update(kind: str) -> None:
    """They see the state that the run began with, however soon the new one is stored."""
    with tf.Graph().as_default(), v1.Session() as session, v1.variable_scope("model", use_resource=False):
        cell = make(FUSED, kind, H)
        state = get_state_variables(B, cell, tf.float64)
        given = tf.nest.map_structure(lambda v: v1.placeholder(v.dtype, v.shape), state)
        outputs, new_state = loop(cell, tf.constant(X), state)
        with tf.control_dependencies([get_state_update_op(state, new_state)]):
            updated = tf.identity(outputs)  # so the gradient, which starts from it, comes after the update
        plain, _ = loop(cell, tf.constant(X), given)
        gradients = [tf.gradients(tf.sin(y), v1.trainable_variables()) for y in (updated, plain)]
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            feeds = dict(zip(tf.nest.flatten(given), session.run(tf.nest.flatten(state)), strict=True))
            found, expected = session.run(gradients[0]), session.run(gradients[1], feeds)
            for k, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
                assert_same_bits({f"gradient[{k}]": ours}, {f"gradient[{k}]": theirs})


def test_a_run_that_fails_stores_nothing() -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        cell = make(REFERENCE, "MultiRNNCell", [make(FUSED, "GRUCell", H) for _ in range(2)])
        state = get_state_variables(B, cell)
        fails = v1.placeholder(tf.bool, [])
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(fails), ["on purpose"])]):
            last = tf.ones([B, H])
        update = get_state_update_op(state, (tf.ones([B, H]), last))
        session.run(v1.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="on purpose"):
            session.run(update, {fails: True})
        assert not any(value.any() for value in session.run(state))
        session.run(update, {fails: False})
        assert all(value.all() for value in session.run(state))


def test_variables_made_in_a_function() -> None:
    """By its first call, as all variables of functions."""
    cell = make(FUSED, "LSTMCell", H)
    kept: list[Any] = []

    @tf.function
    def step(inputs: Any) -> Any:
        if not kept:
            kept.append(get_state_variables(B, cell, tf.float64))
        outputs, new_state = loop(cell, inputs, kept[0])
        get_state_update_op(kept[0], new_state)
        return outputs

    x = tf.constant(X)
    pieces = [step(x[:, start : start + 1]) for start in range(T)]
    whole, _ = loop(cell, x)
    assert_close("float64", {"y": tf.concat(pieces, 1).numpy()}, {"y": whole.numpy()})


def test_swapped_states() -> None:
    """All are read before one is stored."""
    cell = make(REFERENCE, "MultiRNNCell", [make(FUSED, "GRUCell", H) for _ in range(2)])
    state = get_state_variables(B, cell)
    state[0].assign(tf.ones([B, H]))
    get_state_update_op(state, [state[1], state[0]])
    assert [value.any() for value in flat(state)] == [False, True]


def test_wrong_batch_sizes() -> None:
    cell = CELLS["gru"]()
    state = get_state_variables(B, cell)
    with tf.Graph().as_default():
        wrong: list[Any] = [v1.placeholder(tf.int32, []), 2.5, None, "3"]
        for size in wrong:
            with pytest.raises(TypeError, match="batch_size"):
                get_state_variables(size, cell)
            with pytest.raises(TypeError, match="batch_size"):
                get_state_reset_op(state, cell, size)
    with pytest.raises(ValueError, match=rf"new_states: shape \(4, {H}\) for the \(3, {H}\) of state"):
        get_state_reset_op(state, cell, 4)


def test_wrong_states() -> None:
    cell = CELLS["lstm"]()
    state = get_state_variables(B, cell)
    zero = cell.zero_state(B, tf.float32)
    for wrong in (zero.c, (zero.c,), (zero.c, zero.h, zero.h), (zero, zero)):
        with pytest.raises(ValueError, match="new_states must have the structure of state_variables"):
            get_state_update_op(state, wrong)
    with pytest.raises(ValueError, match=r"new_states: shape \(3, 4\) for the \(3, 5\)"):
        get_state_update_op(state, (zero.c, zero.h[:, :4]))
    with pytest.raises(TypeError, match="new_states: float64 for the float32"):
        get_state_update_op(state, cell.zero_state(B, tf.float64))
    with pytest.raises(ValueError, match="state_variables must have the structure of the cell's state"):
        get_state_reset_op(state, CELLS["gru"](), B)
    with tf.Graph().as_default(), v1.Session() as session:
        state = get_state_variables(B, CELLS["gru"]())
        new_state = v1.placeholder(tf.float32, [None, H])
        update = get_state_update_op(state, new_state)
        session.run(state.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match="new_states"):
            session.run(update, {new_state: np.ones([B + 1, H])})
        assert not session.run(state).any()


def test_wrong_rows() -> None:
    cell = CELLS["gru"]()
    state = get_state_variables(B, cell)
    wrong: list[Any] = [[True, False], [[0, 1]], 1, True]
    for rows in wrong:
        with pytest.raises(ValueError, match=r"rows must be integers \[N\] or bool \[3\], got shape"):
            get_state_reset_op(state, cell, B, rows)
    get_state_reset_op(state, cell, B, [])
    with pytest.raises(TypeError, match="rows must be integers or bool, got float32"):
        get_state_reset_op(state, cell, B, [1.0])
    for rows in ([3], [-1]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="rows must be from 0 to 2"):
            get_state_reset_op(state, cell, B, rows)
