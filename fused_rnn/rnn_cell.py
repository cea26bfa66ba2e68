"""Drop-in cells for `tf.compat.v1.nn.rnn_cell`: the same arguments, variables and states, one op a step.

Each subclasses TensorFlow's own cell and changes only how a step is computed, so that variable names, initial
values, checkpoints, wrappers and `isinstance` go on as before. They work with and without legacy Keras.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from fused_rnn import _reference_cells as reference
from fused_rnn import ops
from fused_rnn._reference_cells import (
    DeviceWrapper,
    DropoutWrapper,
    LSTMStateTuple,
    MultiRNNCell,
    ResidualWrapper,
    RNNCell,
)

__all__ = [
    "BasicLSTMCell",
    "BasicRNNCell",
    "DeviceWrapper",
    "DropoutWrapper",
    "GRUCell",
    "LSTMCell",
    "LSTMStateTuple",
    "MultiRNNCell",
    "RNNCell",
    "ResidualWrapper",
]

if TYPE_CHECKING:
    _RNNCell: Any  # the cell of TensorFlow's that each fused cell is, too
else:
    _RNNCell = object

_TANH = (None, "tanh", tf.tanh, tf.nn.tanh)


class FusedCell(_RNNCell):
    """What the fused cells add to TensorFlow's: their weights and states as the ops take them."""

    _op_cell: str  # the ops' name of the cell
    reference_call = reference.BasicRNNCell.__call__  # the one of all of TensorFlow's cells
    _forget_bias: float = 0.0

    def build(self, inputs_shape: Any) -> None:
        """Makes the variables."""
        _quietly(super().build, inputs_shape)

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Kernels [I + H, gates * H] and biases [gates * H], in the order of the op."""
        raise NotImplementedError

    def _unpack_state(self, state: Any) -> list[tf.Tensor]:
        """A state as the cell's users know it -> [h], or [h, c]."""
        return [state]

    def _pack_state(self, state: list[tf.Tensor]) -> Any:
        return state[0]

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """One step: inputs [B, I] and the state -> outputs [B, H] and the new state."""
        kernels, biases = self._weights()
        new_state = ops.step(
            self._op_cell, inputs, kernels, biases, self._unpack_state(state), forget_bias=self._forget_bias
        )
        return new_state[0], self._pack_state(new_state)

    def call_sequence(
        self,
        inputs: tf.Tensor,
        state: Any,
        sequence_length: tf.Tensor | None,
        *,
        time_major: bool,
        reverse: bool = False,
    ) -> tuple[tf.Tensor, Any]:
        """All steps: inputs [B, T, I] (or [T, B, I]) and the state -> outputs [B, T, H] and the final state.

        sequence_length is int64 [B] with 0 <= length <= T, or None. The cell must be built.
        """
        kernels, biases = self._weights()
        outputs, final_state = ops.sequence(
            self._op_cell,
            inputs,
            kernels,
            biases,
            self._unpack_state(state),
            sequence_length,
            forget_bias=self._forget_bias,
            time_major=time_major,
            reverse=reverse,
        )
        return outputs, self._pack_state(final_state)


class BasicRNNCell(FusedCell, reference.BasicRNNCell):
    """The plain recurrent cell: `h = tanh([x, h] . kernel + bias)`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.BasicRNNCell`; the activation must be tanh.
    """

    _op_cell = "rnn"

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        _require_tanh("BasicRNNCell", activation)
        _quietly(super().__init__, num_units, None, reuse, name, dtype, **kwargs)

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return _tensors(self._kernel), _tensors(self._bias)


class GRUCell(FusedCell, reference.GRUCell):
    """Gated recurrent units: `r, u = sigmoid([x, h] . gates/kernel + gates/bias)`,
    `c = tanh([x, r * h] . candidate/kernel + candidate/bias)`, `h = u * h + (1 - u) * c`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.GRUCell`; the activation must be tanh.
    """

    _op_cell = "gru"

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: bool | None = None,
        kernel_initializer: Any = None,
        bias_initializer: Any = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        _require_tanh("GRUCell", activation)
        _quietly(
            super().__init__,
            num_units,
            None,
            reuse,
            kernel_initializer,
            bias_initializer,
            name,
            dtype,
            **kwargs,
        )

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return _tensors(self._gate_kernel, self._candidate_kernel), _tensors(
            self._gate_bias, self._candidate_bias
        )


class _LSTM(FusedCell):
    """What the two LSTM cells share: one kernel, and a state of c and h that may be one tensor."""

    _op_cell = "lstm"
    _state_is_tuple: bool
    _kernel: tf.Variable
    _bias: tf.Variable

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return _tensors(self._kernel), _tensors(self._bias)

    def _unpack_state(self, state: Any) -> list[tf.Tensor]:
        c, h = state if self._state_is_tuple else tf.split(state, 2, axis=1)
        return [h, c]

    def _pack_state(self, state: list[tf.Tensor]) -> Any:
        h, c = state
        return LSTMStateTuple(c, h) if self._state_is_tuple else tf.concat([c, h], 1)


class BasicLSTMCell(_LSTM, reference.BasicLSTMCell):
    """Long short-term memory: `i, j, f, o = [x, h] . kernel + bias`,
    `c = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)`, `h = sigmoid(o) * tanh(c)`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.BasicLSTMCell`; the activation must be tanh.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        _require_tanh("BasicLSTMCell", activation)
        _quietly(super().__init__, num_units, forget_bias, state_is_tuple, None, reuse, name, dtype, **kwargs)


class LSTMCell(_LSTM, reference.LSTMCell):
    """Long short-term memory, as `BasicLSTMCell`, with an initializer.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.LSTMCell`. use_peepholes, cell_clip, num_proj,
    proj_clip and activations other than tanh raise NotImplementedError.
    """

    def __init__(
        self,
        num_units: int,
        use_peepholes: bool = False,
        cell_clip: float | None = None,
        initializer: Any = None,
        num_proj: int | None = None,
        proj_clip: float | None = None,
        num_unit_shards: int | None = None,
        num_proj_shards: int | None = None,
        forget_bias: float = 1.0,
        state_is_tuple: bool = True,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        _require_tanh("LSTMCell", activation)
        refused = {
            "use_peepholes": use_peepholes,
            "cell_clip": cell_clip,
            "num_proj": num_proj,
            "proj_clip": proj_clip,
        }
        for argument, value in refused.items():
            if value is not None and value is not False:
                raise NotImplementedError(f"LSTMCell does not support {argument} yet, got {argument}={value}")
        _quietly(
            super().__init__,
            num_units,
            initializer=initializer,
            num_unit_shards=num_unit_shards,
            num_proj_shards=num_proj_shards,
            forget_bias=forget_bias,
            state_is_tuple=state_is_tuple,
            reuse=reuse,
            name=name,
            dtype=dtype,
            **kwargs,
        )


def _require_tanh(cell: str, activation: Any) -> None:
    if activation not in _TANH:
        raise NotImplementedError(f"{cell} supports no activation but tanh yet, got activation={activation}")


def _quietly(method: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Calls a method of TensorFlow's cell without its advice to move to Keras, which is not for ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is deprecated and will be removed.*")
        method(*args, **kwargs)


def _tensors(*variables: Any) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable) for variable in variables]
