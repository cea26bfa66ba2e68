"""`tf.contrib.seq2seq.sequence_loss`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

__all__ = ["sequence_loss"]


def sequence_loss(
    logits: Any,
    targets: Any,
    weights: Any,
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    sum_over_timesteps: bool = False,
    sum_over_batch: bool = False,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Weighted cross-entropy of a batch of sequences of logits.

    Averaging over an axis divides the sum by the sum of the weights; summing over it divides by the number of
    weights that are not 0. Where the divisor is 0, so is the result. An axis for which neither is asked for
    stays; so does one that is to be summed while the other is averaged.

    Args:
      logits: [B, T, V].
      targets: integers [B, T].
      weights: [B, T], in the dtype of the logits.
      average_across_timesteps, sum_over_timesteps: what to do along T; not both.
      average_across_batch, sum_over_batch: what to do along B; not both.
      softmax_loss_function: called with labels=[B * T] and logits=[B * T, V], for losses [B * T]; sparse
        softmax cross-entropy if None.
      name: of the operations' scope.

    Returns:
      The loss: a scalar, [B], [T] or [B, T].

    Raises:
      ValueError: if logits, targets or weights have another rank, or an axis is to be both averaged and
        summed.
    """
    for argument, value, rank, shape in (
        ("Logits", logits, 3, "[batch_size x sequence_length x logits]"),
        ("Targets", targets, 2, "[batch_size x sequence_length]"),
        ("Weights", weights, 2, "[batch_size x sequence_length]"),
    ):
        if len(value.shape) != rank:
            raise ValueError(f"{argument} must be a {shape} tensor, got shape {value.shape}")
    for axis, average, total in (
        ("timesteps", average_across_timesteps, sum_over_timesteps),
        ("batch", average_across_batch, sum_over_batch),
    ):
        if average and total:
            raise ValueError(f"average_across_{axis} and sum_over_{axis} cannot be set to True at same time.")
    with tf.compat.v1.name_scope(name, "sequence_loss", [logits, targets, weights]):
        loss_function = softmax_loss_function or tf.nn.sparse_softmax_cross_entropy_with_logits
        flat_logits = tf.reshape(logits, [-1, tf.shape(logits)[2]])
        losses = loss_function(labels=tf.reshape(targets, [-1]), logits=flat_logits)
        losses = tf.reshape(losses * tf.reshape(weights, [-1]), tf.shape(logits)[:2])
        averaged = _axes(average_across_batch, average_across_timesteps)
        summed = _axes(sum_over_batch, sum_over_timesteps)
        if averaged:
            return _over(averaged, losses, tf.reduce_sum(weights, averaged))
        if summed:
            return _over(summed, losses, tf.math.count_nonzero(weights, summed, dtype=losses.dtype))
        return losses


def _axes(batch: bool, time: bool) -> list[int]:
    return [axis for axis, wanted in enumerate((batch, time)) if wanted]


def _over(axes: list[int], losses: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    return tf.math.divide_no_nan(tf.reduce_sum(losses, axes), size)
