"""Drop-in cells for `tf.compat.v1.nn.rnn_cell`: the same arguments, variables and states, one op a step.

Each subclasses TensorFlow's own cell and changes only how a step is computed, so that variable names, initial
values, checkpoints, wrappers and `isinstance` go on as before. They work with and without legacy Keras.
"""

from __future__ import annotations

import numbers
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
from fused_rnn.cell import ACTIVATIONS, Cell

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


class FusedCell(_RNNCell):
    """What the fused cells add to TensorFlow's: their weights and states as the ops take them."""

    _op_name: str  # of the cell in the ops
    reference_call = reference.BasicRNNCell.__call__  # the one of all of TensorFlow's cells
    _activation: Callable[[tf.Tensor], tf.Tensor]
    _kernel: tf.Variable
    _bias: tf.Variable

    def _numbers(self) -> dict[str, Any]:
        """What goes with the name in a `Cell`, as the user gave it."""
        return {}

    def _unknown_to_the_ops(self) -> str | None:
        """What no kernel can do, in words; None if the ops have such a cell."""
        if _name_of(self._activation) is None:
            return "an activation that no kernel knows"
        for name, value in self._numbers().items():
            if value is not None and not isinstance(value, numbers.Real):
                return f"a {name} that is not a number"
            if name != "forget_bias" and value is not None and value < 0:
                return f"a negative {name}"
        return None

    @property
    def _op_cell(self) -> Cell | None:
        """The cell as the ops know it, by its attributes as they are now; None if they have none such."""
        if self._unknown_to_the_ops() is not None:
            return None
        # Python's numbers: NumPy's are equal to others that they are rounded from.
        given: dict[str, Any] = self._numbers()
        given = {name: None if value is None else float(value) for name, value in given.items()}
        return Cell(self._op_name, _name_of(self._activation) or "", **given)

    def _warn_of_the_unknown(self) -> None:
        unknown = self._unknown_to_the_ops()
        if unknown is not None:
            text = (
                f"{type(self).__name__} {self.name!r} runs TensorFlow's own operations, one by one: it has "
            )
            warnings.warn(text + unknown, stacklevel=3)

    def build(self, inputs_shape: Any) -> None:
        """Makes the variables."""
        _quietly(super().build, inputs_shape)

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Kernels [I + H, gates * H] and biases [gates * H], in the order of the op."""
        return _tensors(self._kernel), _tensors(self._bias)

    def _unpack_state(self, state: Any) -> list[tf.Tensor]:
        """A state as the cell's users know it -> [h], or [h, c]."""
        return [state]

    def _pack_state(self, state: list[tf.Tensor]) -> Any:
        return state[0]

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """One step: inputs [B, I] and the state -> outputs [B, H] and the new state."""
        cell = self._op_cell
        if cell is None:
            return super().call(inputs, state)
        kernels, biases = self._weights()
        new_state = ops.step(cell, inputs, kernels, biases, self._unpack_state(state))
        return new_state[0], self._pack_state(new_state)

    def call_sequence(
        self,
        inputs: tf.Tensor,
        state: Any,
        sequence_length: tf.Tensor | None,
        *,
        time_major: bool,
        reverse: bool = False,
        state_mask: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, Any]:
        """All steps: inputs [B, T, I] (or [T, B, I]) and the state -> outputs [B, T, H] and the final state.

        sequence_length is int64 [B] with 0 <= length <= T, or None. state_mask is like outputs, or None: h is
        multiplied by it after each step, before the next takes it or it is final; outputs are not. The cell
        must be built, and its activation one that the ops know.
        """
        cell = self._op_cell
        assert cell is not None
        given = self.as_sequence(inputs, state, reverse=reverse, state_mask=state_mask)
        ((outputs, final_state),) = ops.sequences(cell, [given], sequence_length, time_major=time_major)
        return outputs, self._pack_state(final_state)

    def as_sequence(
        self, inputs: tf.Tensor, state: Any, *, reverse: bool, state_mask: tf.Tensor | None = None
    ) -> ops.Sequence:
        """What `call_sequence` gives to the op, for a call that takes several."""
        kernels, biases = self._weights()
        return ops.Sequence(inputs, kernels, biases, self._unpack_state(state), reverse, state_mask)


class BasicRNNCell(FusedCell, reference.BasicRNNCell):
    """The plain recurrent cell: `h = tanh([x, h] . kernel + bias)`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.BasicRNNCell`.
    """

    _op_name = "rnn"

    def __init__(
        self,
        num_units: int,
        activation: Any = None,
        reuse: bool | None = None,
        name: str | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        _quietly(super().__init__, num_units, activation, reuse, name, dtype, **kwargs)
        self._warn_of_the_unknown()


class GRUCell(FusedCell, reference.GRUCell):
    """Gated recurrent units: `r, u = sigmoid([x, h] . gates/kernel + gates/bias)`,
    `c = tanh([x, r * h] . candidate/kernel + candidate/bias)`, `h = u * h + (1 - u) * c`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.GRUCell`.
    """

    _op_name = "gru"

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
        _quietly(
            super().__init__,
            num_units,
            activation,
            reuse,
            kernel_initializer,
            bias_initializer,
            name,
            dtype,
            **kwargs,
        )
        self._warn_of_the_unknown()

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        return _tensors(self._gate_kernel, self._candidate_kernel), _tensors(
            self._gate_bias, self._candidate_bias
        )


class _LSTM(FusedCell):
    """What the two LSTM cells share: one kernel, and a state of c and h that may be one tensor."""

    _state_is_tuple: bool
    _num_units: int
    _forget_bias: Any
    _op_name = "lstm"

    def _numbers(self) -> dict[str, Any]:
        return {"forget_bias": self._forget_bias}

    def _unpack_state(self, state: Any) -> list[tf.Tensor]:
        if self._state_is_tuple:
            c, h = state
        else:
            c, h = tf.split(state, [self._num_units, self.output_size], axis=1)
        return [h, c]

    def _pack_state(self, state: list[tf.Tensor]) -> Any:
        h, c = state
        return LSTMStateTuple(c, h) if self._state_is_tuple else tf.concat([c, h], 1)


class BasicLSTMCell(_LSTM, reference.BasicLSTMCell):
    """Long short-term memory: `i, j, f, o = [x, h] . kernel + bias`,
    `c = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)`, `h = sigmoid(o) * tanh(c)`.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.BasicLSTMCell`.
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
        options = (num_units, forget_bias, state_is_tuple, activation, reuse, name, dtype)
        _quietly(super().__init__, *options, **kwargs)
        self._warn_of_the_unknown()


class LSTMCell(_LSTM, reference.LSTMCell):
    """Long short-term memory as `BasicLSTMCell`, with an initializer and, if wanted, peepholes (w_i * c and
    w_f * c add to i and f, w_o times the new c to o), c clipped to +-cell_clip, and a projection
    `h = sigmoid(o) * tanh(c) . projection/kernel` [B, num_proj], clipped to +-proj_clip.

    Arguments, variables and state as `tf.compat.v1.nn.rnn_cell.LSTMCell`.
    """

    _use_peepholes: bool
    _cell_clip: Any
    _proj_clip: Any
    _num_proj: int | None
    _proj_kernel: tf.Variable
    _w_i_diag: tf.Variable
    _w_f_diag: tf.Variable
    _w_o_diag: tf.Variable

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
        _quietly(
            super().__init__,
            num_units,
            use_peepholes,
            cell_clip,
            initializer,
            num_proj,
            proj_clip,
            num_unit_shards,
            num_proj_shards,
            forget_bias,
            state_is_tuple,
            activation,
            reuse,
            name,
            dtype,
            **kwargs,
        )
        self._warn_of_the_unknown()

    @property
    def _op_name(self) -> str:  # type: ignore[override]
        return "lstm_projected" if self._num_proj else "lstm_peephole" if self._use_peepholes else "lstm"

    def _numbers(self) -> dict[str, Any]:
        return super()._numbers() | {"cell_clip": self._cell_clip, "proj_clip": self._proj_clip}

    def _weights(self) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        kernels, biases = super()._weights()
        if self._use_peepholes:
            biases += _tensors(self._w_i_diag, self._w_f_diag, self._w_o_diag)
        elif self._num_proj:
            biases += [tf.zeros([self._num_units], kernels[0].dtype)] * 3  # this op's cell has them
        if self._num_proj:
            kernels += _tensors(self._proj_kernel)
        return kernels, biases


def _name_of(activation: Callable[[tf.Tensor], tf.Tensor]) -> str | None:
    """The ops' name of an activation of TensorFlow's or Keras's; None if it is another."""
    package = (getattr(activation, "__module__", None) or "").split(".")[0]
    name = getattr(activation, "__name__", "")
    name = "identity" if name == "linear" else name
    return name if package in ("tensorflow", "tf_keras", "keras") and name in ACTIVATIONS else None


def _quietly(method: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Calls a method of TensorFlow's cell without its advice to move to Keras, which is not for ours."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is deprecated and will be removed.*")
        method(*args, **kwargs)


def _tensors(*variables: Any) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable) for variable in variables]
