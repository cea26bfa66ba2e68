"""`static_rnn` and its kin, whose sequences are lists of steps, on the sequence route."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fused_rnn.composition import Pass, StepLoop, as_lengths, run_directions, run_sequence
from fused_rnn.routes import runs_whole

__all__ = ["static_bidirectional_rnn", "static_rnn", "static_state_saving_rnn"]

# TensorFlow's functions as they are now: their public names may come to stand for the ones below.
_tensorflow_static_rnn = tf.compat.v1.nn.static_rnn
_tensorflow_static_bidirectional_rnn = tf.compat.v1.nn.static_bidirectional_rnn
static_state_saving_rnn = tf.compat.v1.nn.static_state_saving_rnn


def static_rnn(
    cell: Any,
    inputs: Any,
    initial_state: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any]:
    """`tf.compat.v1.nn.static_rnn` with all steps of each layer in one op.

    The steps are stacked, go the way that `dynamic_rnn` would go, and come back as a list. A layer that must
    run step by step is unrolled as TensorFlow's function does it.

    Args:
      cell: an RNNCell.
      inputs: a list of T tensors [B, I].
      initial_state: as the cell's state; zeros if None.
      dtype: of the initial state, required if there is none given.
      sequence_length: integers [B]; past a row's length outputs are 0 and the state is copied through.
        Lengths below 0 count as 0 and above T as T, as TensorFlow's function takes them.
      scope: the variable scope; "rnn" by default.

    Returns:
      A list of T outputs [B, H], and the final state, as the cell's state.

    Raises:
      TypeError: if cell is not an RNNCell, or inputs are no list.
      ValueError: for no inputs, neither an initial_state nor a dtype, or a wrong shape.
    """
    if not runs_whole(cell) or not _are_steps(inputs):
        return _tensorflow_static_rnn(cell, inputs, initial_state, dtype, sequence_length, scope)
    with tf.compat.v1.variable_scope(scope or "rnn"):
        sequence = tf.stack(inputs)
        lengths = as_lengths(sequence_length, sequence, time_major=True, clip=True)
        way = Pass(lengths, time_major=True, reverse=False, step_loop=_step_loop(dtype))
        outputs, state = run_sequence(cell, sequence, initial_state, dtype, way)
        return tf.unstack(outputs, len(inputs)), state


def static_bidirectional_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[Any], Any, Any]:
    """`tf.compat.v1.nn.static_bidirectional_rnn` with all steps of each layer in one op.

    Each direction goes the way that `static_rnn` would go, and both go it in one op where those of
    `bidirectional_dynamic_rnn` would; only for a layer that must run step by step is anything reversed.

    Args:
      cell_fw, cell_bw: the RNNCells of the two directions.
      inputs: a list of T tensors [B, I].
      initial_state_fw, initial_state_bw: as the cells' states; zeros if None.
      dtype: of the initial states, required if one is not given.
      sequence_length: integers [B] in [0, T]; past a row's length outputs are 0, the state is copied through.
      scope: the variable scope, "bidirectional_rnn" by default; the cells' are "fw" and "bw" in it.

    Returns:
      A list of T outputs [B, forward H + backward H], and the final states of both directions.

    Raises:
      TypeError: if cell_fw or cell_bw is not an RNNCell, or inputs are no list.
      ValueError: for no inputs, neither an initial state nor a dtype, or a wrong shape.
      InvalidArgumentError: for a length outside [0, T].
    """
    if not (runs_whole(cell_fw) or runs_whole(cell_bw)) or not _are_steps(inputs):
        return _tensorflow_static_bidirectional_rnn(
            cell_fw, cell_bw, inputs, initial_state_fw, initial_state_bw, dtype, sequence_length, scope
        )
    with tf.compat.v1.variable_scope(scope or "bidirectional_rnn"):
        sequence, states = tf.stack(inputs), (initial_state_fw, initial_state_bw)
        way = Pass(None, time_major=True, reverse=False, step_loop=_step_loop(dtype))
        results = run_directions((cell_fw, cell_bw), sequence, states, dtype, sequence_length, way)
        (output_fw, state_fw), (output_bw, state_bw) = results
        return tf.unstack(tf.concat([output_fw, output_bw], 2), len(inputs)), state_fw, state_bw


def _are_steps(inputs: Any) -> bool:
    """Whether inputs are what can be stacked: matrices. The rest is TensorFlow's to run or to refuse."""
    return (
        isinstance(inputs, list | tuple)
        and len(inputs) > 0
        and all(tf.is_tensor(step) and step.shape.rank == 2 for step in inputs)
    )


def _step_loop(dtype: Any) -> StepLoop:
    """TensorFlow's unrolled loop in the current variable scope."""

    def loop(cell: Any, inputs: tf.Tensor, state: Any, lengths: tf.Tensor | None) -> tuple[tf.Tensor, Any]:
        scope = tf.compat.v1.get_variable_scope()
        outputs, state = _tensorflow_static_rnn(cell, tf.unstack(inputs), state, dtype, lengths, scope)
        return tf.stack(outputs), state

    return loop
