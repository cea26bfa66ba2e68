"""The two directions of a bidirectional layer: in one op where their cells are alike; what each is alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import Case, name_results
from compare import assert_close, assert_same_bits
from tf.tensorflow_cells import FUSED, make, quietly

v1 = tf.compat.v1
T, B, I, H = 5, 4, 3, 6  # noqa: E741
LENGTHS = [5, 0, 3, 1]

Pair = tuple[Any, Any]


def dynamic(cells: Pair, x: Any, lengths: Any = None) -> tuple[list[Any], list[Any]]:
    """Outputs [B, T, H] and final states of both."""
    outputs, states = fused_rnn.bidirectional_dynamic_rnn(*cells, x, lengths, dtype=x.dtype)
    return list(outputs), list(states)


def static(cells: Pair, x: Any, lengths: Any = None) -> tuple[list[Any], list[Any]]:
    steps = tf.unstack(x, axis=1)
    outputs, *states = fused_rnn.static_bidirectional_rnn(*cells, steps, None, None, x.dtype, lengths)
    return tf.split(tf.stack(outputs, 1), [cell.output_size for cell in cells], axis=2), states


def lstm(units: int = H, **options: Any) -> Any:
    return quietly(make, FUSED, "LSTMCell", units, **options)


def gru(**options: Any) -> Any:
    return quietly(make, FUSED, "GRUCell", H, **options)


def ops_in_graph(cells: Callable[[], Pair], loop: Callable[..., Any]) -> tuple[int, int]:
    """Sequence ops forward and backward."""
    with tf.Graph().as_default() as graph:
        x = tf.ones([B, T, I])
        outputs, _ = loop(cells(), x, LENGTHS)
        tf.gradients(sum(map(tf.reduce_sum, outputs)), [x, *v1.trainable_variables()])
        types = [op.type for op in graph.get_operations()]
    return types.count("FusedRnnSequence"), types.count("FusedRnnSequenceGrad")


def shared() -> Pair:
    cell = lstm()
    return cell, cell


ALIKE: dict[str, Callable[[], Pair]] = {
    "rnn": lambda: (make(FUSED, "BasicRNNCell", H), make(FUSED, "BasicRNNCell", H)),
    "lstm": lambda: (lstm(), lstm()),
    "two classes of one cell": lambda: (lstm(), make(FUSED, "BasicLSTMCell", H)),
    "joined state": lambda: (lstm(state_is_tuple=False), lstm(state_is_tuple=False)),
    "projection": lambda: (lstm(num_proj=4, cell_clip=1.0), lstm(num_proj=4, cell_clip=1.0)),
    "gru": lambda: (gru(), gru()),
    "the same cell": shared,
}
UNLIKE: dict[str, Callable[[], Pair]] = {
    "kinds": lambda: (lstm(), gru()),
    "units": lambda: (lstm(), lstm(H + 1)),
    "activations": lambda: (gru(), gru(activation=tf.nn.relu)),
    "forget biases": lambda: (lstm(), lstm(forget_bias=0.5)),
    "projections": lambda: (lstm(num_proj=4), lstm(num_proj=5)),
    "states": lambda: (lstm(), lstm(state_is_tuple=False)),
    "a wrapper": lambda: (lstm(), FUSED.DropoutWrapper(lstm(), output_keep_prob=0.5)),
    "wrappers": lambda: (FUSED.MultiRNNCell([gru()]), FUSED.MultiRNNCell([gru()])),
}
loops = pytest.mark.parametrize("loop", [dynamic, static])


@loops
@pytest.mark.parametrize("name", ALIKE)
def test_one_op_for_cells_that_are_alike(name: str, loop: Callable[..., Any]) -> None:
    assert ops_in_graph(ALIKE[name], loop) == (1, 1)


@pytest.mark.parametrize("name", UNLIKE)
def test_two_ops_for_others(name: str) -> None:
    assert ops_in_graph(UNLIKE[name], dynamic) == (2, 2)


def alone(cells: Pair, x: Any, lengths: Any = None) -> tuple[list[Any], list[Any]]:
    """Each direction in an op of its own; the cells are built."""
    results = []
    for cell, reverse in zip(cells, (False, True), strict=True):
        state = cell.get_initial_state(batch_size=x.shape[0], dtype=x.dtype)
        ends = None if lengths is None else tf.constant(lengths, tf.int64)
        results.append(cell.call_sequence(x, state, ends, time_major=False, reverse=reverse))
    outputs, states = zip(*results, strict=True)
    return list(outputs), list(states)


def values_and_gradients(loop: Callable[..., Any], cells: Pair, x: Any, order: int) -> dict[str, Any]:
    """Of first or second order, with respect to x and the weights."""
    weights = [x, *{id(v): v for cell in cells for v in cell.trainable_variables}.values()]
    rng = np.random.default_rng(3)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            results = tf.nest.flatten(loop(cells, x, LENGTHS))
            value = sum(tf.reduce_sum(result**2 * rng.standard_normal(result.shape)) for result in results)
        gradients = tape.gradient(value, weights)
        if order == 2:
            total = sum(tf.reduce_sum(tf.sin(gradient)) for gradient in gradients)
    if order == 2:
        gradients = outer.gradient(total, weights)
    return name_results(
        result=[tensor.numpy() for tensor in results], gradient=[tensor.numpy() for tensor in gradients]
    )


@pytest.mark.parametrize(("name", "order"), [*((name, 1) for name in ALIKE), ("lstm", 2), ("gru", 2)])
def test_each_is_what_it_is_alone(name: str, order: int) -> None:
    cells, inputs = ALIKE[name](), Case("x", "rnn", T=B, B=T, I=I, H=1).inputs("float64")
    x = tf.constant(inputs.x)
    dynamic(cells, x)  # builds them
    both, apart = (values_and_gradients(loop, cells, x, order) for loop in (dynamic, alone))
    if order == 1:
        assert_same_bits(*({k: v for k, v in found.items() if "result" in k} for found in (both, apart)))
    assert_close("float64", both, apart)


def test_forward_mode() -> None:
    x = tf.constant(Case("x", "rnn", T=B, B=T, I=I, H=1).inputs("float64").x)
    cells = gru(), gru()
    dynamic(cells, x)
    tangents = []
    for loop in (dynamic, alone):
        with tf.autodiff.ForwardAccumulator(x, tf.sin(x)) as accumulator:
            results = tf.nest.flatten(loop(cells, x, LENGTHS))
        tangents.append(name_results(tangent=[accumulator.jvp(result).numpy() for result in results]))
    assert_close("float64", *tangents)


def test_a_gradient_of_one_direction() -> None:
    """The other's weights get zeros, and what is asked of it is no error."""
    cells, x = (gru(), gru()), tf.ones([B, T, I])
    with tf.GradientTape() as tape:
        (y, _), _ = dynamic(cells, x, LENGTHS)
        value = tf.reduce_sum(y**2)
    weights = [cell.trainable_variables for cell in cells]
    forward, backward = tape.gradient(value, weights)
    assert all(np.any(gradient) for gradient in forward)
    assert not any(np.any(gradient) for gradient in backward)


def test_options_that_round_alike_differ() -> None:
    """np.float32(0.1) is not the 0.1 of the other direction, though NumPy calls them equal."""
    biases: list[Any] = [np.float32(0.1), 0.1]
    cells = [fused_rnn.rnn_cell.BasicLSTMCell(H, forget_bias=bias) for bias in biases]
    assert cells[0]._op_cell != cells[1]._op_cell


@loops
@pytest.mark.parametrize("lengths", [[5, -1, 3, 1], [5, 6, 3, 1]])
def test_lengths_that_the_way_back_minds(lengths: list[int], loop: Callable[..., Any]) -> None:
    """In one op the way forward minds them with it; by itself it clips them."""
    for cells in ((gru(), gru()), (gru(), lstm())):
        with pytest.raises(tf.errors.InvalidArgumentError, match="sequence_length"):
            loop(cells, tf.ones([B, T, I]), lengths)
