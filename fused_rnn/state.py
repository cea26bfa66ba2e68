"""The state of a network between runs, in variables beside the weights: to start from, to update, to reset.

state = get_state_variables(batch_size, cell)
outputs, new_state = dynamic_rnn(cell, inputs, initial_state=state)
update = get_state_update_op(state, new_state)  # to run with every piece of the sequences
reset = get_state_reset_op(state, cell, batch_size)  # to run before new sequences
"""

from __future__ import annotations

import operator
from typing import Any

import tensorflow as tf

from fused_rnn.functional import to_tensor

__all__ = ["get_state_reset_op", "get_state_update_op", "get_state_variables", "zero_state"]


def get_state_variables(batch_size: int, cell: Any, dtype: Any = tf.float32) -> Any:
    """Variables that keep a cell's state from one run to the next, on the device where they are made.

    They are not trainable. They are resource variables everywhere, so that a gradient that runs together with
    an update still sees the state before it. In a v1 graph they are global variables: they are initialised
    with the weights, and saved with them unless the Saver is given `tf.compat.v1.trainable_variables()`,
    as it should be where the weights will run with another batch size.

    Args:
      batch_size: B, a number.
      cell: an RNNCell, wrapped and stacked ones too.
      dtype: of the state.

    Returns:
      The structure of `cell.zero_state(batch_size, dtype)` with a variable of that value, [B, H] for H units,
      in the place of each tensor. `dynamic_rnn` takes it as its `initial_state`.

    Raises:
      TypeError: if batch_size is not an integer that is known now.
    """
    initial = zero_state(cell, _known("batch_size", batch_size), dtype)
    return tf.nest.map_structure(_variable, initial)


def get_state_update_op(state_variables: Any, new_states: Any) -> tf.Operation | None:
    """An op that stores a new state for the next run to start from.

    It stores nothing before all of the new state has been computed: a run that fails changes no variable.

    Args:
      state_variables: from `get_state_variables`.
      new_states: tensors in the same structure, as `dynamic_rnn` and the cells return them.

    Returns:
      The op, from which `session.run` fetches nothing. In a `tf.function` it runs by itself; eagerly it has
      run, and this is None.

    Raises:
      ValueError: for another structure, or a shape that is not the variable's.
      TypeError: for another dtype.
      InvalidArgumentError: for a shape that shows only at run time.
    """
    _require_structure("new_states", new_states, state_variables, "state_variables")
    variables = tf.nest.flatten(state_variables)
    pairs = zip(variables, tf.nest.flatten(new_states), strict=True)
    values = [_value_for(variable, new) for variable, new in pairs]
    with tf.control_dependencies(values):
        stores = [v.assign(value, read_value=False) for v, value in zip(variables, values, strict=True)]
        return tf.group(*stores)


def get_state_reset_op(
    state_variables: Any, cell: Any, batch_size: int, rows: Any = None
) -> tf.Operation | None:
    """An op that sets the state, or chosen rows of it, to the cell's zero state.

    In a v1 graph it must not run together with the update op, unless one waits for the other.

    Args:
      state_variables: from `get_state_variables`.
      cell, batch_size: as there.
      rows: the rows to reset: their numbers, integers [N] from 0 to B - 1, or a mask, bool [B]. All if None.

    Returns:
      The op, as from `get_state_update_op`.

    Raises:
      ValueError: if state_variables are not those of this cell and batch size, or for a wrong shape of rows.
      TypeError: for rows that are neither integers nor bool, or a batch_size that is not a known integer.
      InvalidArgumentError: for numbers of rows outside the batch.
    """
    batch_size = _known("batch_size", batch_size)
    variables = tf.nest.flatten(state_variables)
    dtype = variables[0].dtype.base_dtype if variables else tf.float32
    zero = zero_state(cell, batch_size, dtype)
    _require_structure("state_variables", state_variables, zero, "the cell's state")
    values = tf.nest.flatten(zero)
    if rows is not None:
        mask = _mask(rows, batch_size)
        values = [
            tf.where(_spread(mask, value), value, variable.read_value())
            for value, variable in zip(values, variables, strict=True)
        ]
    return get_state_update_op(state_variables, tf.nest.pack_sequence_as(state_variables, values))


def zero_state(cell: Any, batch_size: Any, dtype: Any) -> Any:
    """The state that a cell starts from where it is given none, asked for as `dynamic_rnn` does."""
    if hasattr(cell, "get_initial_state"):
        return cell.get_initial_state(inputs=None, batch_size=batch_size, dtype=dtype)
    return cell.zero_state(batch_size, dtype)


def _variable(value: tf.Tensor) -> tf.Variable:
    return tf.compat.v1.Variable(value, trainable=False, name="state", use_resource=True)


def _known(name: str, value: Any) -> int:
    number = tf.get_static_value(value)
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be an integer that is known now, got {value!r}") from None


def _require_structure(name: str, value: Any, expected: Any, of: str) -> None:
    try:
        tf.nest.assert_same_structure(expected, value, check_types=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must have the structure of {of}: {error}") from error


def _value_for(variable: tf.Variable, new_state: Any) -> tf.Tensor:
    value = to_tensor("new_states", new_state, variable.dtype.base_dtype)
    if value.dtype.base_dtype != variable.dtype.base_dtype:
        raise TypeError(f"new_states: {value.dtype.name} for the {variable.dtype.name} of {variable.name}")
    if not variable.shape.is_compatible_with(value.shape):
        raise ValueError(f"new_states: shape {value.shape} for the {variable.shape} of {variable.name}")
    return tf.ensure_shape(value, variable.shape, name="new_states")


def _mask(rows: Any, batch_size: int) -> tf.Tensor:
    """[B] bool, from a mask or from numbers of rows."""
    empty = isinstance(rows, list | tuple) and not rows  # which TensorFlow takes for floats
    rows = to_tensor("rows", rows, tf.int64 if empty else None)
    if not (rows.dtype.is_integer or rows.dtype.is_bool):
        raise TypeError(f"rows must be integers or bool, got {rows.dtype.name}")
    expected = tf.TensorShape([batch_size] if rows.dtype.is_bool else [None])
    if not expected.is_compatible_with(rows.shape):
        raise ValueError(f"rows must be integers [N] or bool [{batch_size}], got shape {rows.shape}")
    rows = tf.ensure_shape(rows, expected, name="rows")
    if rows.dtype.is_bool:
        return rows
    outside = f"rows must be from 0 to {batch_size - 1}"
    checks = [
        tf.debugging.assert_non_negative(rows, message=outside),
        tf.debugging.assert_less(rows, tf.cast(batch_size, rows.dtype), message=outside),
    ]
    with tf.control_dependencies([check for check in checks if check is not None]):
        numbers = tf.range(tf.cast(batch_size, rows.dtype))
        return tf.reduce_any(tf.equal(numbers[:, None], rows[None, :]), axis=1)


def _spread(mask: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """[B] -> [B, 1, ...], as many axes as the value has."""
    return tf.reshape(mask, [-1] + [1] * (value.shape.rank - 1))
