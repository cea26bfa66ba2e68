"""`contrib.seq2seq` and `contrib.legacy_seq2seq`: losses against NumPy, the decoder against bare calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from cases import Array
from fused_rnn.contrib import legacy_seq2seq, seq2seq
from tf.cell_runs import waves
from tf.evaluate import evaluate
from tf.tensorflow_cells import FUSED, make, quietly

v1 = tf.compat.v1

B, T, V = 3, 4, 5
RNG = np.random.default_rng(7)
LOGITS = RNG.standard_normal((B, T, V))
TARGETS = RNG.integers(0, V, (B, T)).astype(np.int32)
WEIGHTS = np.array([[1, 1, 0.5, 0], [0, 0, 0, 0], [1, 0, 0, 2.0]])  # a row without weights


def cross_entropies() -> Array:
    """[B, T]"""
    chances = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=2, keepdims=True)
    return -np.log(np.take_along_axis(chances, TARGETS[..., None].astype(np.int64), 2)[..., 0])


def ratio(above: Any, below: Any) -> Array:
    """above / below, and 0 where below is 0"""
    return np.where(below == 0, 0.0, above / np.where(below == 0, 1.0, below))


def of_steps(logits: Any, targets: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Lists of T tensors, as legacy_seq2seq takes them."""
    return tf.unstack(logits, axis=1), tf.unstack(targets, axis=1), tf.unstack(weights, axis=1)


AVERAGE_T, AVERAGE_B = "average_across_timesteps", "average_across_batch"
SUM_T, SUM_B = "sum_over_timesteps", "sum_over_batch"
REDUCTIONS: dict[tuple[str, ...], Callable[[Array], Array]] = {
    (AVERAGE_T, AVERAGE_B): lambda losses: ratio(losses.sum(), WEIGHTS.sum()),
    (AVERAGE_T,): lambda losses: ratio(losses.sum(1), WEIGHTS.sum(1)),
    (AVERAGE_B,): lambda losses: ratio(losses.sum(0), WEIGHTS.sum(0)),
    (): lambda losses: losses,
    (SUM_T, SUM_B): lambda losses: ratio(losses.sum(), np.count_nonzero(WEIGHTS)),
    (SUM_T,): lambda losses: ratio(losses.sum(1), np.count_nonzero(WEIGHTS, 1)),
    (SUM_B,): lambda losses: ratio(losses.sum(0), np.count_nonzero(WEIGHTS, 0)),
    # Averaging one axis comes first, and then the sum over the other does not happen.
    (AVERAGE_T, SUM_B): lambda losses: ratio(losses.sum(1), WEIGHTS.sum(1)),
    (AVERAGE_B, SUM_T): lambda losses: ratio(losses.sum(0), WEIGHTS.sum(0)),
}


@pytest.mark.parametrize("reductions", REDUCTIONS, ids=" ".join)
def test_sequence_loss(reductions: tuple[str, ...]) -> None:
    options: dict[str, Any] = {name: name in reductions for name in (AVERAGE_T, AVERAGE_B, SUM_T, SUM_B)}

    def build(given: dict[str, Any]) -> dict[str, Any]:
        loss = seq2seq.sequence_loss(given["logits"], given["targets"], given["weights"], **options)
        assert loss.op.name.startswith("sequence_loss/")
        return {"loss": loss, "gradient": tf.gradients(loss, given["logits"])[0]}

    feeds: dict[str, Array] = {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS}
    expected = REDUCTIONS[reductions](cross_entropies() * WEIGHTS)
    for static_shapes in (True, False):
        found = evaluate("graph", build, feeds, static_shapes=static_shapes)
        np.testing.assert_allclose(found["loss"], expected, rtol=1e-12)
        assert found["loss"].shape == np.shape(expected)
        assert np.isfinite(found["gradient"]).all()


def test_sequence_loss_by_default() -> None:
    loss = seq2seq.sequence_loss(tf.constant(LOGITS), tf.constant(TARGETS), tf.constant(WEIGHTS))
    np.testing.assert_allclose(loss, REDUCTIONS[AVERAGE_T, AVERAGE_B](cross_entropies() * WEIGHTS))


def squares(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """A loss of another kind; its arguments must be given by name."""
    return tf.reduce_sum(logits**2, 1) + tf.cast(labels, logits.dtype)


def test_other_loss_functions() -> None:
    logits, targets, weights = tf.constant(LOGITS), tf.constant(TARGETS), tf.constant(WEIGHTS)
    expected = ((LOGITS**2).sum(2) + TARGETS) * WEIGHTS
    loss = seq2seq.sequence_loss(logits, targets, weights, False, False, softmax_loss_function=squares)
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    lists = of_steps(logits, targets, weights)
    loss = legacy_seq2seq.sequence_loss_by_example(*lists, False, squares)
    np.testing.assert_allclose(loss, expected.sum(1), rtol=1e-12)
    loss = legacy_seq2seq.sequence_loss(*lists, False, False, softmax_loss_function=squares)
    np.testing.assert_allclose(loss, expected.sum(), rtol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"logits": LOGITS[0]}, "Logits must be a .batch_size x sequence_length x logits. tensor"),
        ({"targets": TARGETS[0]}, "Targets must be a .batch_size x sequence_length. tensor"),
        ({"weights": WEIGHTS[0]}, "Weights must be a .batch_size x sequence_length. tensor"),
        ({SUM_T: True}, f"{AVERAGE_T} and {SUM_T} cannot be set to True at same time"),
        ({SUM_B: True}, f"{AVERAGE_B} and {SUM_B} cannot be set to True at same time"),
    ],
)
def test_wrong_arguments_of_sequence_loss(wrong: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS}
    with pytest.raises(ValueError, match=message):
        seq2seq.sequence_loss(**arguments | wrong)


@pytest.mark.parametrize("average", [True, False])
def test_sequence_loss_by_example(average: bool) -> None:
    losses = (cross_entropies() * WEIGHTS).sum(1)
    by_example = losses / (WEIGHTS.sum(1) + 1e-12) if average else losses

    def build(given: dict[str, Any]) -> dict[str, Any]:
        lists = of_steps(given["logits"], given["targets"], given["weights"])
        found = legacy_seq2seq.sequence_loss_by_example(*lists, average_across_timesteps=average)
        assert found.op.name.startswith("sequence_loss_by_example/")
        total = legacy_seq2seq.sequence_loss(*lists, average)
        assert total.op.name.startswith("sequence_loss/")
        rest = legacy_seq2seq.sequence_loss(*lists, average, average_across_batch=False, name="mine")
        assert rest.op.name.startswith("mine/")
        return {"by_example": found, "mean": total, "sum": rest}

    found = evaluate("graph", build, {"logits": LOGITS, "targets": TARGETS, "weights": WEIGHTS})
    np.testing.assert_allclose(found["by_example"], by_example, rtol=1e-12)
    np.testing.assert_allclose(found["mean"], by_example.sum() / B, rtol=1e-12)
    np.testing.assert_allclose(found["sum"], by_example.sum(), rtol=1e-12)


def test_lists_of_different_lengths() -> None:
    logits, targets, weights = of_steps(tf.constant(LOGITS), tf.constant(TARGETS), tf.constant(WEIGHTS))
    message = r"Lengths of logits, weights, and targets must be the same 4, 4, 3\."
    for function in (legacy_seq2seq.sequence_loss_by_example, legacy_seq2seq.sequence_loss):
        with pytest.raises(ValueError, match=message):
            function(logits, targets[1:], weights)


X = RNG.standard_normal((T, B, 6))


@pytest.mark.parametrize("loop_function", [None, lambda previous, step: previous * step])
def test_rnn_decoder(loop_function: Any) -> None:
    """The variables of the first step serve all; a loop function replaces all inputs but the first."""

    def build(given: dict[str, Any]) -> dict[str, Any]:
        inputs = tf.unstack(given["x"])
        with v1.variable_scope("model", initializer=waves):
            cell = make(FUSED, "GRUCell", 6)
            state = tf.ones([B, 6], tf.float64)
            outputs, final = quietly(legacy_seq2seq.rnn_decoder, inputs, state, cell, loop_function)
        names = [variable.op.name for variable in v1.global_variables()]
        with v1.variable_scope("model/rnn_decoder", reuse=True):
            other = make(FUSED, "GRUCell", 6)
            output = None
            for step, given_input in enumerate(inputs):
                repeats = output is not None and loop_function is not None
                output, state = other(loop_function(output, step) if repeats else given_input, state)
        ends = ("gates/kernel", "gates/bias", "candidate/kernel", "candidate/bias")
        assert names == [f"model/rnn_decoder/gru_cell/{end}" for end in ends]
        assert len(v1.global_variables()) == len(ends)
        return {"last": outputs[-1], "final": final, "expected": output, "first": outputs[0]}

    found = evaluate("graph", build, {"x": X})
    np.testing.assert_allclose(found["last"], found["expected"], rtol=1e-12)
    np.testing.assert_allclose(found["final"], found["expected"], rtol=1e-12)
    assert not np.allclose(found["first"], found["last"])


def test_variables_of_a_loop_function() -> None:
    """It finds those that exist, in a scope of its own."""
    with tf.Graph().as_default():
        with v1.variable_scope("rnn_decoder/loop_function"):
            v1.get_variable("scale", [])

        def loop_function(previous: tf.Tensor, _: int) -> tf.Tensor:
            return previous * v1.get_variable("scale", [])

        cell = make(FUSED, "GRUCell", 6)
        inputs = [tf.ones([B, 6])] * T
        quietly(legacy_seq2seq.rnn_decoder, inputs, tf.ones([B, 6]), cell, loop_function)
        assert len(v1.global_variables()) == 5
