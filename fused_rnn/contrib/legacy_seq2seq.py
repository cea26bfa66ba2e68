"""`tf.contrib.legacy_seq2seq`: a decoder unrolled over a list of inputs, and its losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["rnn_decoder", "sequence_loss", "sequence_loss_by_example"]

v1 = tf.compat.v1


def rnn_decoder(
    decoder_inputs: Sequence[tf.Tensor],
    initial_state: Any,
    cell: Any,
    loop_function: Callable[[tf.Tensor, int], tf.Tensor] | None = None,
    scope: Any = None,
) -> tuple[list[tf.Tensor], Any]:
    """Runs a cell over a list of inputs, one step after the other.

    Args:
      decoder_inputs: T tensors [B, I].
      initial_state: as the cell's state.
      cell: an RNNCell.
      loop_function: if given, makes the input of each step but the first, [B, I], of the output of the step
        before it, [B, H], and the number of the step.
      scope: the variable scope; "rnn_decoder" by default.

    Returns:
      T outputs [B, H], and the final state.
    """
    outputs: list[tf.Tensor] = []
    state = initial_state
    with v1.variable_scope(scope or "rnn_decoder"):
        for step, given in enumerate(decoder_inputs):
            if step:
                v1.get_variable_scope().reuse_variables()
            if step and loop_function is not None:
                with v1.variable_scope("loop_function", reuse=True):
                    given = loop_function(outputs[-1], step)
            output, state = cell(given, state)
            outputs.append(output)
    return outputs, state


def sequence_loss_by_example(
    logits: Sequence[tf.Tensor],
    targets: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    average_across_timesteps: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Weighted cross-entropy of each sequence of a batch.

    Args:
      logits: T tensors [B, V].
      targets: T tensors of integers [B].
      weights: T tensors [B], in the dtype of the logits.
      average_across_timesteps: whether to divide by the sum of a sequence's weights, plus 1e-12.
      softmax_loss_function: called with labels and logits of a step, for its losses [B]; sparse softmax
        cross-entropy if None.
      name: of the operations' scope.

    Returns:
      The losses [B].

    Raises:
      ValueError: for lists of different lengths.
    """
    if not len(logits) == len(targets) == len(weights):
        raise ValueError(
            "Lengths of logits, weights, and targets must be the same "
            f"{len(logits)}, {len(weights)}, {len(targets)}."
        )
    with v1.name_scope(name, "sequence_loss_by_example", [*logits, *targets, *weights]):
        losses = [
            weight * _step_losses(softmax_loss_function, target, logit)
            for logit, target, weight in zip(logits, targets, weights, strict=True)
        ]
        total = tf.add_n(losses)
        return total / (tf.add_n(list(weights)) + 1e-12) if average_across_timesteps else total


def sequence_loss(
    logits: Sequence[tf.Tensor],
    targets: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    average_across_timesteps: bool = True,
    average_across_batch: bool = True,
    softmax_loss_function: Callable[..., Any] | None = None,
    name: str | None = None,
) -> tf.Tensor:
    """Weighted cross-entropy of a batch of sequences: the sum of `sequence_loss_by_example`.

    Args:
      logits: T tensors [B, V].
      targets: T tensors of integers [B].
      weights: T tensors [B], in the dtype of the logits.
      average_across_timesteps: whether to divide each sequence's loss by the sum of its weights.
      average_across_batch: whether to divide the sum of the losses by B.
      softmax_loss_function: called with labels and logits of a step, for its losses [B]; sparse softmax
        cross-entropy if None.
      name: of the operations' scope.

    Returns:
      The loss, a scalar.

    Raises:
      ValueError: for lists of different lengths.
    """
    with v1.name_scope(name, "sequence_loss", [*logits, *targets, *weights]):
        by_example = sequence_loss_by_example(
            logits, targets, weights, average_across_timesteps, softmax_loss_function
        )
        loss = tf.reduce_sum(by_example)
        return loss / tf.cast(tf.shape(targets[0])[0], loss.dtype) if average_across_batch else loss


def _step_losses(softmax_loss_function: Callable[..., Any] | None, labels: Any, logits: Any) -> tf.Tensor:
    if softmax_loss_function is None:  # which takes a single row's label without its axis, too
        labels = tf.reshape(labels, [-1])
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return softmax_loss_function(labels=labels, logits=logits)
