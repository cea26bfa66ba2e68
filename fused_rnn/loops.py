"""`dynamic_rnn` and its kin on the sequence route: all steps of a layer of fused cells in one op."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fused_rnn.composition import Pass, StepLoop, as_lengths, run_directions, run_sequence
from fused_rnn.routes import runs_whole

__all__ = ["bidirectional_dynamic_rnn", "dynamic_rnn", "raw_rnn"]

# TensorFlow's functions as they are now: their public names may come to stand for the ones below.
_tensorflow_dynamic_rnn = tf.compat.v1.nn.dynamic_rnn
_tensorflow_bidirectional_dynamic_rnn = tf.compat.v1.nn.bidirectional_dynamic_rnn
raw_rnn = tf.compat.v1.nn.raw_rnn  # the caller's function stands between any two steps: nothing to fuse


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
    """`tf.compat.v1.nn.dynamic_rnn` with the time loop of each layer in one op.

    Cells of `fused_rnn.rnn_cell` run that way, also in TensorFlow's MultiRNNCell, DropoutWrapper,
    ResidualWrapper and DeviceWrapper, however they are nested: layer by layer, the dropout masks of all steps
    drawn at once. A layer of other cells, or with dropout on an LSTM's c, goes to TensorFlow's own loop;
    everything does if inputs are nested. `fused_rnn.explain(cell)` tells which.

    Args:
      cell: an RNNCell.
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      sequence_length: integers [B]; past a row's length outputs are 0 and the state is copied through.
        Lengths below 0 count as 0 and above T as T, as TensorFlow's loop takes them.
      initial_state: as the cell's state; zeros if None.
      dtype: of the initial state, required if there is none given.
      parallel_iterations, swap_memory: for TensorFlow's own loop; without effect elsewhere.
      time_major: whether time, and not the batch, is the first axis of inputs and outputs.
      scope: the variable scope; "rnn" by default.

    Returns:
      outputs, [B, T, H] or [T, B, H], and the final state, as the cell's state.

    Raises:
      TypeError: if cell is not an RNNCell.
      ValueError: for neither an initial_state nor a dtype, or a wrong shape.
    """
    if not runs_whole(cell) or tf.nest.is_nested(inputs):
        options = (dtype, parallel_iterations, swap_memory, time_major, scope)
        return _tensorflow_dynamic_rnn(cell, inputs, sequence_length, initial_state, *options)
    with tf.compat.v1.variable_scope(scope or "rnn"):
        inputs = _sequence(inputs)
        lengths = as_lengths(sequence_length, inputs, time_major=time_major, clip=True)
        loop = _step_loop(dtype, parallel_iterations, swap_memory, time_major)
        way = Pass(lengths, time_major=time_major, reverse=False, step_loop=loop)
        return run_sequence(cell, inputs, initial_state, dtype, way)


def bidirectional_dynamic_rnn(
    cell_fw: Any,
    cell_bw: Any,
    inputs: Any,
    sequence_length: Any = None,
    initial_state_fw: Any = None,
    initial_state_bw: Any = None,
    dtype: Any = None,
    parallel_iterations: int | None = None,
    swap_memory: bool = False,
    time_major: bool = False,
    scope: Any = None,
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """`tf.compat.v1.nn.bidirectional_dynamic_rnn` with the time loop of each layer in one op.

    Each direction goes the way that `dynamic_rnn` would go, and both go it in one op if their cells are
    fused ones, without a wrapper, of the same kind, options and size. Then results of either run both, and
    the gradients of a direction of which no result is used are zeros, not None. The ops walk the backward
    direction from each row's own end to its start: no tensor is reversed, unless for a layer in
    TensorFlow's loop.

    Args:
      cell_fw, cell_bw: the RNNCells of the two directions.
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      sequence_length: integers [B] in [0, T]; past a row's length outputs are 0, the state is copied through.
      initial_state_fw, initial_state_bw: as the cells' states; zeros if None.
      dtype: of the initial states, required if one is not given.
      parallel_iterations, swap_memory: for TensorFlow's own loop; without effect elsewhere.
      time_major: whether time, and not the batch, is the first axis of inputs and outputs.
      scope: the variable scope, "bidirectional_rnn" by default; the cells' are "fw" and "bw" in it.

    Returns:
      The outputs of both directions, each [B, T, H] or [T, B, H] in the order of the inputs, and both final
      states.

    Raises:
      TypeError: if cell_fw or cell_bw is not an RNNCell.
      ValueError: for neither an initial state nor a dtype, or a wrong shape.
      InvalidArgumentError: for a length outside [0, T].
    """
    options = (dtype, parallel_iterations, swap_memory, time_major)
    if not (runs_whole(cell_fw) or runs_whole(cell_bw)) or tf.nest.is_nested(inputs):
        return _tensorflow_bidirectional_dynamic_rnn(
            cell_fw, cell_bw, inputs, sequence_length, initial_state_fw, initial_state_bw, *options, scope
        )
    with tf.compat.v1.variable_scope(scope or "bidirectional_rnn"):
        inputs = _sequence(inputs)
        states = (initial_state_fw, initial_state_bw)
        way = Pass(None, time_major=time_major, reverse=False, step_loop=_step_loop(*options))
        results = run_directions((cell_fw, cell_bw), inputs, states, dtype, sequence_length, way)
    (output_fw, state_fw), (output_bw, state_bw) = results
    return (output_fw, output_bw), (state_fw, state_bw)


def _sequence(inputs: Any) -> tf.Tensor:
    inputs = tf.convert_to_tensor(inputs)
    if inputs.shape.rank is not None and inputs.shape.rank != 3:
        raise ValueError(f"inputs must be [B, T, I] (or [T, B, I] if time_major), got shape {inputs.shape}")
    return inputs


def _step_loop(dtype: Any, parallel_iterations: int | None, swap_memory: bool, time_major: bool) -> StepLoop:
    """TensorFlow's loop in the current variable scope."""
    options = (dtype, parallel_iterations, swap_memory, time_major)

    def loop(cell: Any, inputs: tf.Tensor, state: Any, lengths: tf.Tensor | None) -> tuple[tf.Tensor, Any]:
        scope = tf.compat.v1.get_variable_scope()
        return _tensorflow_dynamic_rnn(cell, inputs, lengths, state, *options, scope)

    return loop
