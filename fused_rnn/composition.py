"""Runs a cell made of others over a sequence, layer by layer: each layer that can, in one op for all steps.

Dropout and residuals then work on whole sequences too, as they treat all steps alike. A layer that has no
sequence op runs in TensorFlow's loop, by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.python.util import nest

from fused_rnn import ops
from fused_rnn.functional import axis_size, to_tensor
from fused_rnn.routes import children, keeps_padding_zero, kind_of, obstacle, runs_whole, should_drop

__all__ = ["Pass", "StepLoop", "as_lengths", "run_directions", "run_sequence"]

# A loop of TensorFlow's: cell, inputs [T, B, I], initial state, lengths [B] or None -> outputs [T, B, H] and
# the final state; [B, T, I] and [B, T, H] unless the pass is time-major.
StepLoop = Callable[[Any, tf.Tensor, Any, tf.Tensor | None], tuple[tf.Tensor, Any]]


@dataclass(frozen=True)
class Pass:
    """How a sequence is gone through."""

    lengths: tf.Tensor | None  # [B] int64, at most T; None: all rows have T steps
    time_major: bool  # whether sequences are [T, B, I], and not [B, T, I]
    reverse: bool  # from each row's end to its start
    step_loop: StepLoop  # for layers without a sequence op
    state_mask: Any = None  # None, or like the cell's state: for each h a mask [B, T, P] or [T, B, P]

    @property
    def time_axis(self) -> int:
        """The axis of sequences along which time runs."""
        return 0 if self.time_major else 1


def run_sequence(
    cell: Any, inputs: tf.Tensor, initial_state: Any, dtype: Any, way: Pass
) -> tuple[tf.Tensor, Any]:
    """A cell over a sequence, in the current variable scope.

    Args:
      cell: an RNNCell.
      inputs: [B, T, I], or [T, B, I] if time-major.
      initial_state: as the cell's state; zeros of the dtype if None.

    Returns:
      outputs, [B, T, H] or [T, B, H], and the final state, as the cell's state.
    """
    if not runs_whole(cell):
        return _run_in_the_loop(cell, inputs, initial_state, way)
    outputs, state = _run(cell, inputs, _first_state(cell, inputs, initial_state, dtype, way), way)
    if way.lengths is not None and not keeps_padding_zero(cell):
        outputs = _zero_past_the_end(outputs, way)
    return outputs, state


def run_directions(
    cells: Sequence[Any],
    inputs: tf.Tensor,
    initial_states: Sequence[Any],
    dtype: Any,
    sequence_length: Any,
    way: Pass,
) -> list[tuple[tf.Tensor, Any]]:
    """The two directions of a layer, in the variable scopes "fw" and "bw" of the current one: both in one op
    where they are plain cells with the same options and sizes. sequence_length is as users give it.

    Returns:
      outputs and final state of each, as `run_sequence`.
    """
    variable_scope, in_one_op = tf.compat.v1.variable_scope, _alike(*cells)
    results, given = [], []
    for name, cell, state in zip(("fw", "bw"), cells, initial_states, strict=True):
        with variable_scope(name):
            # As in TensorFlow's function, only the way back minds lengths outside [0, T]; one op takes those.
            clip = name == "fw" and not in_one_op
            lengths = as_lengths(sequence_length, inputs, time_major=way.time_major, clip=clip)
            way = replace(way, lengths=lengths, reverse=name == "bw")
            if not in_one_op:
                results.append(run_sequence(cell, inputs, state, dtype, way))
                continue
            state = _first_state(cell, inputs, state, dtype, way)
            with _scope_of_cell(cell, inputs, state):
                given.append(cell.as_sequence(inputs, state, reverse=way.reverse))
    if in_one_op:
        found = ops.sequences(cells[0]._op_cell, given, way.lengths, time_major=way.time_major)
        results = [(y, cell._pack_state(state)) for cell, (y, state) in zip(cells, found, strict=True)]
    return results


def _alike(cell: Any, other: Any) -> bool:
    """Whether one op can run both cells."""
    if any(kind_of(each) != "cell" or obstacle(each) is not None for each in (cell, other)):
        return False

    def options(cell: Any) -> tuple[Any, ...]:
        return cell._op_cell, cell.state_size, cell.dtype

    return options(cell) == options(other)


def _first_state(cell: Any, inputs: tf.Tensor, initial_state: Any, dtype: Any, way: Pass) -> Any:
    if initial_state is not None:
        return initial_state
    if not dtype:
        raise ValueError("If no initial_state is provided, argument `dtype` must be specified")
    batch = axis_size(inputs, 1 - way.time_axis)
    return cell.get_initial_state(inputs=None, batch_size=batch, dtype=dtype)


def as_lengths(sequence_length: Any, inputs: tf.Tensor, *, time_major: bool, clip: bool) -> tf.Tensor | None:
    """int64 [B] of what users give. clip: lengths below 0 count as 0 and above T as T."""
    if sequence_length is None:
        return None
    lengths = to_tensor("sequence_length", sequence_length)
    if lengths.shape.rank not in (None, 1):
        raise ValueError(f"sequence_length must be a vector of length batch_size, got shape {lengths.shape}")
    lengths = tf.cast(lengths, tf.int64)
    if not clip:
        return lengths
    return tf.clip_by_value(lengths, 0, tf.cast(axis_size(inputs, 0 if time_major else 1), tf.int64))


def _run(cell: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    if not runs_whole(cell):
        return _run_in_the_loop(cell, inputs, state, way)
    return _RUN[kind_of(cell)](cell, inputs, state, way)


def _run_cell(cell: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    mask = way.state_mask.h if hasattr(way.state_mask, "h") else way.state_mask
    with _scope_of_cell(cell, inputs, state):
        return cell.call_sequence(
            inputs, state, way.lengths, time_major=way.time_major, reverse=way.reverse, state_mask=mask
        )


def _run_stack(stack: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    cells, joined = children(stack), not stack._state_is_tuple
    if joined:
        states = tf.split(state, [cell.state_size for cell in cells], axis=1)
    elif tf.nest.is_nested(state) and len(state) == len(cells):
        states = list(state)
    else:
        raise ValueError(f"initial_state must be a tuple of {len(cells)} states, one a layer, got {state}")
    with _scope_of(stack, inputs):
        for k, cell in enumerate(cells):
            mask = None if way.state_mask is None else way.state_mask[k]
            with tf.compat.v1.variable_scope(f"cell_{k}"):
                inputs, states[k] = _run(cell, inputs, states[k], replace(way, state_mask=mask))
    return inputs, tf.concat(states, 1) if joined else tuple(states)


def _run_dropout(wrapper: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    """The wrapper's own masks: one value for each element of a whole sequence, or [1, I] if variational."""
    if should_drop(wrapper._state_keep_prob):
        way = replace(way, state_mask=_state_masks(wrapper, inputs, way))
    if should_drop(wrapper._input_keep_prob):
        noise = wrapper._recurrent_input_noise
        inputs = wrapper._dropout(inputs, "input", noise, wrapper._input_keep_prob)
    outputs, state = _run(wrapper.cell, inputs, state, way)
    if should_drop(wrapper._output_keep_prob):
        noise = wrapper._recurrent_output_noise
        outputs = wrapper._dropout(outputs, "output", noise, wrapper._output_keep_prob)
    return outputs, state


def _state_masks(wrapper: Any, inputs: tf.Tensor, way: Pass) -> Any:
    """What the wrapper makes of ones in place of the states of all steps, and what those around it made."""
    sizes = [tf.shape(inputs)[axis] for axis in (0, 1)]
    ones = tf.nest.map_structure(lambda width: tf.ones([*sizes, width], inputs.dtype), wrapper.state_size)
    dropped = nest.get_traverse_shallow_structure(wrapper._dropout_state_filter, ones)
    noise, keep = wrapper._recurrent_state_noise, wrapper._state_keep_prob
    masks = wrapper._dropout(ones, "state", noise, keep, dropped)
    if way.state_mask is None:
        return masks
    return tf.nest.map_structure(lambda mask, outer: mask * outer, masks, way.state_mask)


def _run_residual(wrapper: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    outputs, state = _run(wrapper.cell, inputs, state, way)
    if wrapper._residual_fn is not None:
        return _call_every_step(wrapper._residual_fn, inputs, outputs, way), state
    inputs.shape.assert_is_compatible_with(outputs.shape)  # or they would be broadcast
    return inputs + outputs, state


def _run_on_device(wrapper: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    with tf.device(wrapper._device):
        return _run(wrapper.cell, inputs, state, way)


_RUN: dict[str | None, Callable[[Any, tf.Tensor, Any, Pass], tuple[tf.Tensor, Any]]] = {
    "cell": _run_cell,
    "stack": _run_stack,
    "dropout": _run_dropout,
    "residual": _run_residual,
    "device": _run_on_device,
}


def _run_in_the_loop(cell: Any, inputs: tf.Tensor, state: Any, way: Pass) -> tuple[tf.Tensor, Any]:
    """TensorFlow's loop knows one direction: what it shall go through backwards is turned round for it."""
    if way.reverse:
        inputs = _reversed(inputs, way)
    outputs, state = way.step_loop(cell, inputs, state, way.lengths)
    return _reversed(outputs, way) if way.reverse else outputs, state


def _reversed(sequence: tf.Tensor, way: Pass) -> tf.Tensor:
    if way.lengths is None:
        return tf.reverse(sequence, [way.time_axis])
    return tf.reverse_sequence(sequence, way.lengths, seq_axis=way.time_axis, batch_axis=1 - way.time_axis)


def _call_every_step(
    function: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], inputs: tf.Tensor, outputs: tf.Tensor, way: Pass
) -> tf.Tensor:
    """function([B, I], [B, H]) of every step, which may do with the rows of a step whatever it likes."""
    steps = [_swap(tensor, way) for tensor in (inputs, outputs)]
    results = tf.map_fn(lambda step: function(*step), tuple(steps), fn_output_signature=outputs.dtype)
    results = _swap(results, way)
    results.set_shape(outputs.shape)
    return results


def _swap(sequence: tf.Tensor, way: Pass) -> tf.Tensor:
    """To time-major order, or back."""
    return sequence if way.time_major else tf.transpose(sequence, [1, 0, 2])


def _zero_past_the_end(outputs: tf.Tensor, way: Pass) -> tf.Tensor:
    """The outputs, zero where a row has ended."""
    mask = tf.sequence_mask(way.lengths, axis_size(outputs, way.time_axis))  # [B, T]
    mask = tf.transpose(mask) if way.time_major else mask
    return tf.where(mask[:, :, None], outputs, tf.zeros([], outputs.dtype))


@contextmanager
def _scope_of_cell(cell: Any, inputs: tf.Tensor, state: Any) -> Iterator[None]:
    """The variable scope of a fused cell, which is built if it was not; checks the state's structure."""
    tf.nest.assert_same_structure(cell.state_size, state, check_types=False)
    _build(cell, inputs)
    with tf.compat.v1.variable_scope(cell._scope, reuse=True, auxiliary_name_scope=False):
        yield


@contextmanager
def _scope_of(stack: Any, inputs: tf.Tensor) -> Iterator[None]:
    """The variable scopes that a stack opens when it is called, for its layers' scopes and variables."""
    v1 = tf.compat.v1
    # What the stack has recorded would lead back into the graph of its first call, such as a loop's body.
    first = getattr(stack, "rnncell_scope", None)
    outer = v1.get_variable_scope() if first is None else first._name_or_scope
    getter = stack._rnn_get_variable  # it notes the variables made inside
    opened = v1.variable_scope(outer, custom_getter=getter)
    if first is None:
        stack.rnncell_scope = opened
    with opened:
        stack._set_scope(None)
        reuse = True if stack.built else stack._reuse
        with v1.variable_scope(stack._scope, reuse=reuse, auxiliary_name_scope=False) as scope:
            stack._current_scope = scope
            _build(stack, inputs)
            yield


def _build(cell: Any, inputs: tf.Tensor) -> None:
    """Makes the cell's variables, in the current variable scope, as its first call would."""
    if not cell.built:
        width = None if inputs.shape.rank is None else tf.compat.dimension_value(inputs.shape[2])
        cell._maybe_build(tf.TensorSpec([None, width], inputs.dtype.base_dtype))
