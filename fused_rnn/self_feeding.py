"""Networks that are fed their own output: the loop in which a sequence continues itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import tensorflow as tf

from fused_rnn.functional import axis_size, to_tensor
from fused_rnn.state import zero_state

__all__ = ["self_feeding_rnn"]

# A time step of the network: its input [B, I] and state -> what to collect, the next input, the new state.
_Step = Callable[..., tuple[Any, tf.Tensor, Any]]


def self_feeding_rnn(
    cell: Any,
    seed: Any,
    initial_state: Any,
    steps: Any,
    processing: Callable[[tf.Tensor], Any] | None = None,
    scope: Any = None,
) -> tuple[Any, Any]:
    """Runs a cell on its own processed output: `x[0] = seed`, `y, state = cell(x[t], state)`,
    `x[t + 1] = processing(y)`.

    The whole loop is in the graph, and gradients go back through it. With weights that `dynamic_rnn` has
    trained it continues a signal or samples a text; trained through this loop, a network learns to live with
    its own errors.

    Args:
      cell: an RNNCell, wrapped and stacked ones too.
      seed: [B, I], the first input.
      initial_state: as the cell's state, such as that in which `dynamic_rnn` left it; zeros if None.
      steps: T, the number of steps: an integer for all rows, or integers [B], one for each. Below 0 is 0.
      processing: takes the cell's output, [B, O], and returns the next input, [B, I], which is also what is
        collected; or a pair of what to collect, a tensor [B, ...] or a structure of them, and the next input.
        None feeds the output back as it is. To build a graph it is called twice, the second time with reuse
        of its variables; it runs once a step.
      scope: the variable scope of the cell; "rnn" by default, as for `dynamic_rnn`. What processing makes is
        in the scope around this call.

    Returns:
      What was collected, each tensor as [B, T, ...] with the largest T of all rows, and the final state. Past
      the end of a row stand zeros, and its state is that of its last step.

    Raises:
      ValueError: for a wrong shape of seed or steps, or a next input that does not have the shape of seed.
      TypeError: for steps that are not integers, or a next input of another dtype than seed.
      InvalidArgumentError: for a shape that shows only at run time.
    """
    with tf.name_scope("self_feeding_rnn"):
        seed = to_tensor("seed", seed)
        if seed.shape.rank != 2:
            raise ValueError(f"seed must be [B, I], got shape {seed.shape}")
        row_steps, T = _step_counts(steps, seed)
        if initial_state is None:
            initial_state = zero_state(cell, axis_size(seed, 0), seed.dtype.base_dtype)
        state = tf.nest.map_structure(lambda part: to_tensor("initial_state", part), initial_state)
        step = _make_step(cell, processing, scope, row_steps)
        loop = _eager_loop if tf.executing_eagerly() else _graph_loop
        collected, state = loop(step, seed, state, T)
        return tf.nest.map_structure(_batch_major, collected), state


def _step_counts(steps: Any, seed: tf.Tensor) -> tuple[tf.Tensor | None, Any]:
    """Steps of each row, [B] int32, or None if they are all T; and T, a number where it is known."""
    steps = to_tensor("steps", steps, tf.int32)
    if not steps.dtype.is_integer:
        raise TypeError(f"steps must be of an integer type, got {steps.dtype.name}")
    if steps.shape.rank != 0 and not seed.shape[:1].is_compatible_with(steps.shape):
        raise ValueError(
            f"steps must be a number or [B] for a seed of shape {seed.shape}, got shape {steps.shape}"
        )
    known = tf.get_static_value(steps)
    steps = tf.cast(steps, tf.int32)
    if known is None:
        T = tf.reduce_max(tf.concat([tf.reshape(steps, [-1]), [0]], 0))
    else:
        T = int(known.max(initial=0))
    if steps.shape.rank == 0:
        return None, T
    message = "steps must be a number or [B], one for each row of seed"
    check = tf.debugging.assert_equal(tf.shape(steps), tf.shape(seed)[:1], message=message)
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(steps), T


def _make_step(
    cell: Any, processing: Callable[[tf.Tensor], Any] | None, scope: Any, row_steps: tf.Tensor | None
) -> _Step:
    around = tf.compat.v1.get_variable_scope()

    def step(time: Any, inputs: tf.Tensor, state: Any, reuse: bool | None = None) -> tuple[Any, Any, Any]:
        # A row that has ended is fed zeros: its own output fed on might grow without bound.
        active = None if row_steps is None else time < row_steps
        with tf.compat.v1.variable_scope(scope or "rnn", reuse=reuse):
            output, new_state = cell(_where(active, inputs), state)
        with tf.compat.v1.variable_scope(around, reuse=reuse, auxiliary_name_scope=False):
            result = output if processing is None else processing(output)
        collected, next_inputs = (
            result if isinstance(result, tuple) and len(result) == 2 else (result, result)
        )
        collected = tf.nest.map_structure(lambda part: _where(active, _collectable(part)), collected)
        pairs = zip(tf.nest.flatten(new_state), tf.nest.flatten(state), strict=True)
        parts = [tf.ensure_shape(_where(active, new, old), old.shape) for new, old in pairs]
        return collected, _next_inputs(next_inputs, inputs), tf.nest.pack_sequence_as(state, parts)

    return step


def _eager_loop(step: _Step, inputs: tf.Tensor, state: Any, T: int) -> tuple[Any, Any]:
    """All steps, one after the other: what is collected in each, stacked [T, B, ...], and the final state."""
    collected = []
    for time in range(T):
        now, inputs, state = step(time, inputs, state)
        collected.append(now)
    if not collected:
        now, _, _ = step(0, inputs, state)
        return tf.nest.map_structure(lambda part: tf.stack([part])[:0], now), state
    return tf.nest.map_structure(lambda *parts: tf.stack(parts), *collected), state


def _graph_loop(step: _Step, seed: tf.Tensor, state: Any, T: Any) -> tuple[Any, Any]:
    """As `_eager_loop`, in the graph."""
    with _apart():
        like, _, _ = step(0, seed, state)
    arrays = [_array(part, T, axis_size(seed, 0)) for part in tf.nest.flatten(like)]

    def body(time: tf.Tensor, inputs: tf.Tensor, state: Any, arrays: Any) -> tuple[Any, ...]:
        now, inputs, state = step(time, inputs, state, reuse=True)
        parts = zip(arrays, tf.nest.flatten(now), strict=True)
        return time + 1, inputs, state, [array.write(time, part) for array, part in parts]

    _, _, state, arrays = tf.while_loop(lambda time, *_: time < T, body, (0, seed, state, arrays))
    return tf.nest.pack_sequence_as(like, [_stacked(array, T) for array in arrays]), state


def _array(like: tf.Tensor, T: Any, B: Any) -> tf.TensorArray:
    """For T tensors like this one, [B, ...]. If T may be 0, zeros stand after them, which give it a shape."""
    if _is_positive(T) or not like.shape[1:].is_fully_defined():
        return tf.TensorArray(like.dtype, T, element_shape=like.shape)
    array = tf.TensorArray(like.dtype, T + 1, element_shape=like.shape)
    return array.write(T, tf.zeros([B, *like.shape[1:]], like.dtype))


def _stacked(array: tf.TensorArray, T: Any) -> tf.Tensor:
    """[T, B, ...]"""
    return array.stack() if _is_positive(T) else array.stack()[:T]


def _is_positive(T: Any) -> bool:
    """Whether that is known."""
    return isinstance(T, int) and T > 0


def _apart() -> AbstractContextManager[Any]:
    """Where a step is built that makes the variables and shows what a step gives, but never runs."""
    if tf.compat.v1.control_flow_v2_enabled() or tf.compat.v1.get_default_graph().building_function:
        # A graph of its own, as the loop's body. In a function, what has effects would run, random numbers
        # too; and a stack that has been in a loop, called in this graph, would go on in that loop's.
        return tf.__internal__.FuncGraph("self_feeding_rnn_step").as_default()
    return contextlib.nullcontext()  # in the graph: sessions run only what they need


def _next_inputs(value: Any, inputs: tf.Tensor) -> tf.Tensor:
    value = to_tensor("processing", value, inputs.dtype)
    if value.dtype != inputs.dtype or not value.shape.is_compatible_with(inputs.shape):
        raise (TypeError if value.dtype != inputs.dtype else ValueError)(
            f"processing must return the next input, {inputs.dtype.name} {inputs.shape} as seed is, "
            f"got {value.dtype.name} {value.shape}"
        )
    return tf.ensure_shape(value, inputs.shape)


def _collectable(value: Any) -> tf.Tensor:
    value = to_tensor("processing", value)
    if not value.shape.rank:
        raise ValueError(f"processing must return tensors [B, ...] to collect, got shape {value.shape}")
    return value


def _where(active: tf.Tensor | None, value: tf.Tensor, otherwise: tf.Tensor | None = None) -> tf.Tensor:
    """The value in the rows that are active, [B], and in the others zeros or another value."""
    if active is None:
        return value
    mask = tf.reshape(active, [-1] + [1] * (value.shape.rank - 1))
    return tf.where(mask, value, tf.zeros_like(value) if otherwise is None else otherwise)


def _batch_major(value: tf.Tensor) -> tf.Tensor:
    return tf.transpose(value, [1, 0, *range(2, value.shape.rank)])
