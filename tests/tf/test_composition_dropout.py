"""The masks of dropout on the sequence route, read back from outputs and gradients: as in TensorFlow's loop.

All shares to keep are numbers that float32 holds exactly: the wrappers round them to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import DTYPES, Array
from tf.compositions import Variables, values
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

T, B, H = 40, 20, 10  # the inputs have the width H too
WAYS = {"fused": (FUSED, fused_rnn.dynamic_rnn), "reference": (REFERENCE, v1.nn.dynamic_rnn)}
ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def _same_numbers_in_every_run() -> None:
    tf.random.set_seed(11)


@dataclass(frozen=True)
class Run:
    y: Array  # [B, T, H]
    d_x: Array  # [B, T, H], of the sum of all outputs


def run(way: str, wrap: Callable[[Any, Cell], Cell], x: Array, dtype: str = "float64") -> Run:
    """An LSTM cell, wrapped, eagerly; its weights are always the same."""
    library, function = WAYS[way]
    given = tf.constant(x.astype(DTYPES[dtype]))
    cell = wrap(library, make(library, "LSTMCell", H, dtype=dtype))
    with tf.GradientTape() as tape, v1.variable_scope("model", custom_getter=Variables()):
        tape.watch(given)
        y, _ = quietly(function, cell, given, dtype=tf.as_dtype(dtype))
    return Run(y.numpy(), tape.gradient(y, given).numpy())


def plain(_: Any, cell: Cell) -> Cell:
    return cell


def dropout(**options: Any) -> Callable[[Any, Cell], Cell]:
    return lambda library, cell: make(library, "DropoutWrapper", cell, **options)


def x_of(name: str) -> Array:
    """Inputs without a zero."""
    return values(name, [B, T, H]) + 1 / 128


def assert_independent(mask: Array, keep: float) -> None:
    """mask [B, T, H]: a share `keep` of ones, each drawn for itself, not by row, nor by step, nor by unit.

    The bounds are five standard deviations.
    """
    assert abs(mask.mean() - keep) < 5 * (keep * (1 - keep) / mask.size) ** 0.5
    equal = keep**2 + (1 - keep) ** 2
    for axis in range(3):
        others = tuple(k for k in range(3) if k != axis)
        means = mask.mean(axis=others)
        assert np.abs(means - keep).max() < 5 * (keep * (1 - keep) * mask.shape[axis] / mask.size) ** 0.5
        after, before = np.delete(mask, 0, axis), np.delete(mask, -1, axis)
        assert abs((after == before).mean() - equal) < 5 * (equal * (1 - equal) / after.size) ** 0.5


@ways
@pytest.mark.parametrize(("keep", "dtype"), [(0.75, "float64"), (0.25, "float64"), (0.5, "bfloat16")])
def test_outputs(way: str, keep: float, dtype: str) -> None:
    x = x_of("x")
    dropped = run(way, dropout(output_keep_prob=keep, seed=1), x, dtype).y.astype(np.float64)
    whole = run(way, plain, x, dtype).y.astype(np.float64)
    mask = dropped != 0
    assert_independent(mask, keep)
    np.testing.assert_allclose(dropped, mask * whole / keep, rtol=1e-12 if dtype == "float64" else 0.01)


@ways
@pytest.mark.parametrize("keep", [0.75, 0.25])
def test_inputs(way: str, keep: float) -> None:
    """A dropped input gets no gradient; and the cell sees what the mask leaves, scaled."""
    x = x_of("x")
    dropped = run(way, dropout(input_keep_prob=keep, seed=1), x)
    mask = dropped.d_x != 0
    assert_independent(mask, keep)
    np.testing.assert_allclose(dropped.y, run(way, plain, x * mask / keep).y, rtol=1e-10, atol=1e-12)


@ways
def test_one_mask_for_all_rows_and_steps(way: str) -> None:
    """Variational masks; they are those of the noise that the wrapper holds."""
    wrappers: list[Cell] = []

    def wrap(library: Any, cell: Cell) -> Cell:
        options = {"variational_recurrent": True, "input_size": H, "dtype": tf.float64, "seed": 3}
        wrappers.append(dropout(input_keep_prob=0.625, output_keep_prob=0.5, **options)(library, cell))
        return wrappers[0]

    x = x_of("x")
    results = run(way, wrap, x)
    of_inputs = np.floor(0.625 + wrappers[0]._recurrent_input_noise.numpy()[0])
    of_outputs = np.floor(0.5 + wrappers[0]._recurrent_output_noise.numpy()[0])
    assert 0 < of_inputs.sum() < H and 0 < of_outputs.sum() < H
    np.testing.assert_array_equal(results.d_x != 0, np.broadcast_to(of_inputs != 0, x.shape))
    np.testing.assert_array_equal(results.y != 0, np.broadcast_to(of_outputs != 0, x.shape))
    whole = run(way, plain, x * of_inputs / 0.625).y
    np.testing.assert_allclose(results.y, whole * of_outputs / 0.5, rtol=1e-10)


def accumulating(library: Any) -> Cell:
    """A cell whose outputs are the sum of its inputs and its state."""

    def both_identities(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        return tf.constant(np.concatenate([np.eye(H), np.eye(H)])[: shape[0]].reshape(shape), dtype)

    with v1.variable_scope("sum", initializer=both_identities):
        cell = make(library, "BasicRNNCell", H, activation=tf.identity, dtype=tf.float64)
        cell.build(tf.TensorShape([None, H]))
    return cell


@ways
@pytest.mark.parametrize("keep", [0.75, 0.5])
def test_states(way: str, keep: float) -> None:
    """What each step takes from the one before is dropped, the final state too; its output is not."""
    library, function = WAYS[way]
    x = x_of("x")
    cell = dropout(state_keep_prob=keep, seed=1)(library, accumulating(library))
    y, state = (tensor.numpy() for tensor in quietly(function, cell, tf.constant(x), dtype=tf.float64))
    np.testing.assert_array_equal(y[:, 0], x[:, 0])
    taken = np.concatenate([y[:, 1:] - x[:, 1:], state[:, None]], axis=1)
    mask = np.abs(taken) > 1e-9
    assert_independent(mask, keep)
    np.testing.assert_allclose(taken, mask * y / keep, rtol=1e-9, atol=1e-9)


def test_masks_of_wrappers_around_one_another() -> None:
    cell = dropout(state_keep_prob=0.75, seed=1)(FUSED, accumulating(FUSED))
    cell = dropout(state_keep_prob=0.5, seed=2)(FUSED, make(FUSED, "MultiRNNCell", [cell]))
    x = tf.constant(x_of("x"))
    y, (state,) = quietly(fused_rnn.dynamic_rnn, cell, x, dtype=tf.float64)
    taken = np.concatenate([(y - x).numpy()[:, 1:], state.numpy()[:, None]], axis=1)
    mask = np.abs(taken) > 1e-9
    assert_independent(mask, 0.375)
    np.testing.assert_allclose(taken, mask * y.numpy() / 0.375, rtol=1e-9, atol=1e-9)


def session_runs(
    way: str, wrap: Callable[[Any, Cell], Cell], feeds: list[dict[str, float]], graph_seed: int | None = None
) -> list[Array]:
    """The outputs [B, T, H] of several runs of one graph, with values for the tensor keep:0."""
    library, function = WAYS[way]
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(graph_seed)
        v1.placeholder(tf.float32, [], "keep")
        cell = wrap(library, make(library, "LSTMCell", H))
        with v1.variable_scope("model", custom_getter=Variables()):
            y, _ = quietly(function, cell, tf.constant(x_of("x")), dtype=tf.float64)
        session.run(v1.global_variables_initializer())
        return [session.run(y, feed) for feed in feeds]


def fed_dropout(library: Any, cell: Cell) -> Cell:
    keep = tf.cast(v1.get_default_graph().get_tensor_by_name("keep:0"), tf.float64)
    return dropout(output_keep_prob=keep, seed=4)(library, cell)


@ways
def test_a_keep_prob_that_is_fed(way: str) -> None:
    feeds = [{"keep:0": keep} for keep in (1.0, 0.5, 0.5, 0.25)]
    whole, *dropped = session_runs(way, fed_dropout, feeds)
    np.testing.assert_allclose(whole, session_runs(way, plain, [{}])[0], rtol=1e-12)
    for keep, y in zip((0.5, 0.5, 0.25), dropped, strict=True):
        assert_independent(y != 0, keep)
        np.testing.assert_allclose(y, (y != 0) * whole / keep, rtol=1e-12)
    assert_independent((dropped[0] != 0) ^ (dropped[1] != 0), 0.5)  # one run and the next


@ways
def test_nothing_is_kept(way: str) -> None:
    assert not session_runs(way, fed_dropout, [{"keep:0": 1e-30}])[0].any()


@pytest.mark.parametrize("variational", [False, True])
def test_seeds(variational: bool) -> None:
    """The same seeds give the same masks in every graph; another seed of the wrapper or the graph others."""

    def masks(seed: int | None, graph_seed: int | None) -> list[Array]:
        options = {"variational_recurrent": variational, "dtype": tf.float64, "seed": seed}
        wrap = dropout(output_keep_prob=0.5, **options)
        return [y != 0 for y in session_runs("fused", wrap, [{}, {}], graph_seed)]

    first, second = masks(1, None)
    assert (first != second).any()  # a new mask in every run
    again = masks(1, None)
    assert (again[0] == first).all() and (again[1] == second).all()
    assert (masks(2, None)[0] != first).any() and (masks(1, 5)[0] != first).any()
    assert (masks(None, 5)[0] == masks(None, 5)[0]).all()
    assert (masks(None, None)[0] != masks(None, None)[0]).any()


def test_each_layer_and_direction_has_masks_of_its_own() -> None:
    def build() -> Cell:
        layers = [dropout(output_keep_prob=0.5)(FUSED, make(FUSED, "GRUCell", H)) for _ in range(2)]
        return make(FUSED, "MultiRNNCell", [*layers, dropout(input_keep_prob=0.5)(FUSED, echo())])

    y, _ = fused_rnn.bidirectional_dynamic_rnn(build(), build(), tf.constant(x_of("x")), dtype=tf.float64)
    masks = [direction.numpy() != 0 for direction in y]
    assert_independent(masks[0] ^ masks[1], 2 * 0.25 * 0.75)
    for mask in masks:  # of the second layer's outputs and the third one's inputs
        assert_independent(mask, 0.25)


def echo() -> Cell:
    """A cell of TensorFlow's kind whose outputs are its inputs."""
    base: Any = REFERENCE.RNNCell

    class Echo(base):
        state_size = 1
        output_size = H

        def call(self, inputs: Any, state: Any) -> Any:
            return inputs, state

    return quietly(Echo)
