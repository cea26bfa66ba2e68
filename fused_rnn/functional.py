"""Recurrent layers as functions of their weights: a whole sequence in one op.

T time steps, B rows of the batch, I input width, H units. All tensors of a call have one dtype: float32,
float64, float16 or bfloat16. Kernels and biases have the layout of the TensorFlow 1 cells.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from fused_rnn import ops
from fused_rnn._reference_cells import LSTMStateTuple
from fused_rnn.cell import Cell

__all__ = ["gru", "lstm", "rnn"]

_DTYPES = (tf.float32, tf.float64, tf.float16, tf.bfloat16)


def lstm(
    inputs: Any,
    kernel: Any,
    bias: Any,
    initial_state: Any = None,
    sequence_length: Any = None,
    *,
    forget_bias: float = 0.0,
    time_major: bool = False,
    reverse: bool = False,
) -> tuple[tf.Tensor, LSTMStateTuple]:
    """A long short-term memory layer over a sequence (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    At every step: `i, j, f, o = [x, h] . kernel + bias`,
    `c = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)`, `h = sigmoid(o) * tanh(c)`.

    With the weights of a Keras layer: its kernel above its recurrent kernel, both with their gates, which are
    i, f, c, o, in the order i, c, f, o; so the bias, to which Keras has added the forget bias.

    Args:
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      kernel: [I + H, 4 * H], the rows of the inputs first, gates in the order i, j, f, o.
      bias: [4 * H].
      initial_state: a pair (c, h) of [B, H] each; zeros if None.
      sequence_length: integers [B]. Past a row's length outputs are 0, the state is copied through, and what
        stands in the inputs has no effect. None: all rows have T steps.
      forget_bias: added to f.
      time_major: whether time, and not the batch, is the first axis of inputs and outputs.
      reverse: runs every row from its own end to its start; outputs stand where their inputs do.

    Returns:
      outputs, [B, T, H] (or [T, B, H]), and the final state, an `LSTMStateTuple(c, h)` of [B, H] each.

    Raises:
      ValueError: for a wrong shape that is known while a graph is being built.
      TypeError: for a wrong dtype.
      InvalidArgumentError: for a wrong shape that shows at run time, or a length outside [0, T].
    """
    if not isinstance(forget_bias, numbers.Real):
        raise TypeError(f"forget_bias must be a number, got {forget_bias!r}")
    state = None if initial_state is None else _pair(initial_state)
    outputs, (h, c) = _layer(
        "lstm",
        inputs,
        {"kernel": kernel},
        {"bias": bias},
        state,
        sequence_length,
        forget_bias=forget_bias,
        time_major=time_major,
        reverse=reverse,
    )
    return outputs, LSTMStateTuple(c, h)


def gru(
    inputs: Any,
    gate_kernel: Any,
    gate_bias: Any,
    candidate_kernel: Any,
    candidate_bias: Any,
    recurrent_bias: Any = None,
    initial_state: Any = None,
    sequence_length: Any = None,
    *,
    reset_after: bool = False,
    time_major: bool = False,
    reverse: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A layer of gated recurrent units over a sequence (Cho et al. 2014).

    At every step: `r, u = sigmoid([x, h] . gate_kernel + gate_bias)`, `h = u * h + (1 - u) * c`, with
    `c = tanh([x, r * h] . candidate_kernel + candidate_bias)` as in TensorFlow 1's GRUCell. If `reset_after`,
    with W and R the rows of the inputs and of h in candidate_kernel,
    `c = tanh(x . W + candidate_bias + r * (h . R + recurrent_bias_c))` as in Keras and cuDNN; r and u then
    have their parts of the recurrent bias too.

    With the weights of a Keras layer, whose gates are z, r, h: u is z, and c is h; its bias is [2, 3 * H] if
    `reset_after`, the recurrent one second.

    Args:
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      gate_kernel: [I + H, 2 * H], the rows of the inputs first, gates in the order r, u.
      gate_bias: [2 * H].
      candidate_kernel: [I + H, H].
      candidate_bias: [H].
      recurrent_bias: [3 * H] in the order r, u, c: required if `reset_after`, and refused otherwise.
      initial_state: [B, H]; zeros if None.
      sequence_length, time_major, reverse: as for `lstm`.
      reset_after: whether the reset gate is applied after the recurrent product.

    Returns, raises:
      As `rnn`; also ValueError for a recurrent bias that is missing or has no use.
    """
    if reset_after and recurrent_bias is None:
        raise ValueError("recurrent_bias [3 * H] is required with reset_after=True, got None")
    if recurrent_bias is not None and not reset_after:
        raise ValueError("recurrent_bias has no use without reset_after=True")
    outputs, (h,) = _layer(
        "gru_reset_after" if reset_after else "gru",
        inputs,
        {"gate_kernel": gate_kernel, "candidate_kernel": candidate_kernel},
        {"gate_bias": gate_bias, "candidate_bias": candidate_bias}
        | ({"recurrent_bias": recurrent_bias} if reset_after else {}),
        None if initial_state is None else {"initial_state": initial_state},
        sequence_length,
        time_major=time_major,
        reverse=reverse,
    )
    return outputs, h


def rnn(
    inputs: Any,
    kernel: Any,
    bias: Any,
    initial_state: Any = None,
    sequence_length: Any = None,
    *,
    time_major: bool = False,
    reverse: bool = False,
) -> tuple[tf.Tensor, tf.Tensor]:
    """A plain recurrent layer over a sequence (Elman 1990): `h = tanh([x, h] . kernel + bias)` at every step.

    Args:
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      kernel: [I + H, H], the rows of the inputs first.
      bias: [H].
      initial_state: [B, H]; zeros if None.
      sequence_length, time_major, reverse: as for `lstm`.

    Returns:
      outputs, [B, T, H] (or [T, B, H]), and the final state, [B, H].

    Raises:
      ValueError, TypeError, InvalidArgumentError: as `lstm`.
    """
    outputs, (h,) = _layer(
        "rnn",
        inputs,
        {"kernel": kernel},
        {"bias": bias},
        None if initial_state is None else {"initial_state": initial_state},
        sequence_length,
        time_major=time_major,
        reverse=reverse,
    )
    return outputs, h


_GATES_OF_FIRST_KERNEL = {"rnn": 1, "lstm": 4, "gru": 2, "gru_reset_after": 2}
_STATES = {"rnn": 1, "lstm": 2, "gru": 1, "gru_reset_after": 1}


def _layer(
    cell: str,
    inputs: Any,
    kernels: Mapping[str, Any],
    biases: Mapping[str, Any],
    initial_state: Mapping[str, Any] | None,
    sequence_length: Any,
    *,
    forget_bias: float = 0.0,
    time_major: bool,
    reverse: bool,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Turns the arguments, given by their names, into tensors, and calls the op; states are [h] or [h, c]."""
    with tf.name_scope(cell):
        inputs = _inputs(inputs)
        kernel_tensors = _like(inputs, kernels)
        bias_tensors = _like(inputs, biases)
        if initial_state is None:
            units = axis_size(kernel_tensors[0], 1) // _GATES_OF_FIRST_KERNEL[cell]
            batch = axis_size(inputs, 1 if time_major else 0)
            state = [tf.zeros([batch, units], inputs.dtype.base_dtype)] * _STATES[cell]
        else:
            state = _like(inputs, initial_state)
        given = ops.Sequence(inputs, kernel_tensors, bias_tensors, state, reverse)
        lengths = _lengths(sequence_length)
        (result,) = ops.sequences(
            Cell(cell, forget_bias=forget_bias), [given], lengths, time_major=time_major
        )
        return result


def _inputs(value: Any) -> tf.Tensor:
    inputs = to_tensor("inputs", value)
    if inputs.dtype.base_dtype not in _DTYPES:
        raise TypeError(f"inputs must be float32, float64, float16 or bfloat16, got {inputs.dtype.name}")
    if inputs.shape.rank not in (None, 3):
        raise ValueError(f"inputs must be [B, T, I] (or [T, B, I] if time_major), got shape {inputs.shape}")
    return tf.ensure_shape(inputs, [None, None, None], name="inputs") if inputs.shape.rank is None else inputs


def _like(inputs: tf.Tensor, arguments: Mapping[str, Any]) -> list[tf.Tensor]:
    """The arguments as tensors, which must have the dtype of the inputs."""
    tensors = []
    for name, value in arguments.items():
        tensor = to_tensor(name, value, inputs.dtype.base_dtype)
        if tensor.dtype.base_dtype != inputs.dtype.base_dtype:
            raise TypeError(f"{name} must be {inputs.dtype.name} as inputs are, got {tensor.dtype.name}")
        rank = 1 if "bias" in name else 2
        if tensor.shape.rank not in (None, rank):
            raise ValueError(f"{name} must have rank {rank}, got shape {tensor.shape}")
        if tensor.shape.rank is None:
            tensor = tf.ensure_shape(tensor, [None] * rank, name=name.split()[0])
        tensors.append(tensor)
    return tensors


def _pair(initial_state: Any) -> Mapping[str, Any]:
    """The (c, h) of users in the order of the op."""
    if not isinstance(initial_state, Sequence) or len(initial_state) != 2:
        raise ValueError(f"initial_state must be a pair (c, h), got {type(initial_state).__name__}")
    c, h = initial_state
    return {"initial_state h": h, "initial_state c": c}


def axis_size(tensor: tf.Tensor, axis: int) -> Any:
    """The size of an axis, as a number where it is known."""
    static = None if tensor.shape.rank is None else tf.compat.dimension_value(tensor.shape[axis])
    return tf.shape(tensor)[axis] if static is None else static


def to_tensor(name: str, value: Any, dtype: Any = None) -> tf.Tensor:
    """The argument `name` as a tensor, of the dtype if it has none of its own; errors name it."""
    if value is None:
        raise TypeError(f"{name} must be a tensor, got None")
    if isinstance(value, tf.RaggedTensor | tf.SparseTensor):
        raise TypeError(
            f"{name} must be dense, padded where rows differ in length, got a {type(value).__name__}"
        )
    try:
        return tf.convert_to_tensor(value, dtype_hint=dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from error


def _lengths(sequence_length: Any) -> tf.Tensor | None:
    if sequence_length is None:
        return None
    lengths = to_tensor("sequence_length", sequence_length, tf.int64)
    if not lengths.dtype.is_integer:
        raise TypeError(f"sequence_length must be of an integer type, got {lengths.dtype.name}")
    if lengths.shape.rank not in (None, 1):
        raise ValueError(f"sequence_length must be [B], got shape {lengths.shape}")
    return tf.cast(lengths, tf.int64)
