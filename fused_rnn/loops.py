"""`dynamic_rnn` on the sequence route: all steps of a fused cell in one op."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fused_rnn.functional import axis_size, to_tensor
from fused_rnn.rnn_cell import FusedCell

__all__ = ["dynamic_rnn"]


def dynamic_rnn(
    cell: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[Any, Any]:
    """`tf.compat.v1.nn.dynamic_rnn` with the whole time loop in one op.

    A cell of `fused_rnn.rnn_cell` runs that way. Any other cell, and nested inputs, go to TensorFlow's own
    loop, in which fused cells inside wrappers and stacks run step by step.

    Args:
      cell: an RNNCell.
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      sequence_length: integers [B]; past a row's length outputs are 0 and the state is copied through.
        Lengths below 0 count as 0 and above T as T, as TensorFlow's loop takes them.
      initial_state: as the cell's state; zeros if None.
      dtype: of the initial state, required if there is none given.
      parallel_iterations, swap_memory: for TensorFlow's own loop; without effect here.
      time_major: whether time, and not the batch, is the first axis of inputs and outputs.
      scope: the variable scope; "rnn" by default.

    Returns:
      outputs, [B, T, H] or [T, B, H], and the final state, as the cell's state.

    Raises:
      TypeError: if cell is not an RNNCell.
      ValueError: for neither an initial_state nor a dtype, or a wrong shape.
    """
    if not _runs_whole(cell) or tf.nest.is_nested(inputs):
        options = (dtype, parallel_iterations, swap_memory, time_major, scope)
        return tf.compat.v1.nn.dynamic_rnn(cell, inputs, sequence_length, initial_state, *options)
    with tf.compat.v1.variable_scope(scope or "rnn"):
        inputs = tf.convert_to_tensor(inputs)
        if inputs.shape.rank is not None and inputs.shape.rank != 3:
            raise ValueError(
                f"inputs must be [B, T, I] (or [T, B, I] if time_major), got shape {inputs.shape}"
            )
        time_axis, batch_axis = (0, 1) if time_major else (1, 0)
        if initial_state is None:
            if not dtype:
                raise ValueError("If no initial_state is provided, argument `dtype` must be specified")
            batch = axis_size(inputs, batch_axis)
            initial_state = cell.get_initial_state(inputs=None, batch_size=batch, dtype=dtype)
        if sequence_length is not None:
            sequence_length = _clipped_lengths(sequence_length, axis_size(inputs, time_axis))
        _build(cell, inputs)
        with tf.compat.v1.variable_scope(cell._scope, reuse=True, auxiliary_name_scope=False):
            return cell.call_sequence(inputs, initial_state, sequence_length, time_major=time_major)


def _runs_whole(cell: Any) -> bool:
    """Whether a cell is a fused one whose step nobody has overridden, in a subclass or on the object."""
    return (
        isinstance(cell, FusedCell)
        and type(cell).call is FusedCell.call
        and type(cell).__call__ is FusedCell.reference_call
        and "call" not in vars(cell)
    )


def _clipped_lengths(sequence_length: Any, steps: Any) -> tf.Tensor:
    lengths = to_tensor("sequence_length", sequence_length)
    if lengths.shape.rank not in (None, 1):
        raise ValueError(f"sequence_length must be a vector of length batch_size, got shape {lengths.shape}")
    return tf.clip_by_value(tf.cast(lengths, tf.int64), 0, tf.cast(steps, tf.int64))


def _build(cell: Any, inputs: tf.Tensor) -> None:
    """Makes the cell's variables, in the current variable scope, as its first call would."""
    if not cell.built:
        width = None if inputs.shape.rank is None else tf.compat.dimension_value(inputs.shape[2])
        cell._maybe_build(tf.TensorSpec([None, width], inputs.dtype.base_dtype))
