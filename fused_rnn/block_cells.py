"""The block cells of TensorFlow 1's contrib: their names, arguments, scopes and variables.

`LSTMBlockCell` and `GRUBlockCellV2` are cells like those of `rnn_cell`; `LSTMBlockFusedCell` is a layer that
takes a whole sequence. Unlike contrib's ops they work in every dtype, and the gradient of a cell state that
was clipped is 0, as with `clip_by_value`.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from fused_rnn._reference_cells import LSTMStateTuple, RNNCell
from fused_rnn.composition import as_lengths
from fused_rnn.functional import axis_size
from fused_rnn.rnn_cell import GRUCell, LSTMCell

__all__ = ["GRUBlockCellV2", "LSTMBlockCell", "LSTMBlockFusedCell"]

_Layer: Any = RNNCell.__base__  # tf.compat.v1.layers.Layer, which has that name under legacy Keras only


class LSTMBlockCell(LSTMCell):
    """`tf.contrib.rnn.LSTMBlockCell`: `rnn_cell.LSTMCell` without its rarer options.

    Variables `lstm_cell/kernel`, `bias` and, with peepholes, `w_i_diag`, `w_f_diag`, `w_o_diag`; the state is
    an `LSTMStateTuple(c, h)`. A cell_clip of None, 0 or less does not clip.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        cell_clip: float | None = None,
        use_peephole: bool = False,
        dtype: Any = None,
        reuse: bool | None = None,
        name: str | None = "lstm_cell",
    ) -> None:
        super().__init__(
            num_units,
            use_peepholes=use_peephole,
            cell_clip=cell_clip if cell_clip is not None and cell_clip > 0 else None,
            forget_bias=forget_bias,
            reuse=reuse,
            name=name,
            dtype=dtype,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments that make a cell like this one."""
        return {
            "num_units": self._num_units,
            "forget_bias": self._forget_bias,
            "cell_clip": self._cell_clip,
            "use_peephole": self._use_peepholes,
            "dtype": self.dtype,
            "name": self.name,
        }

    def build(self, inputs_shape: Any) -> None:
        """Makes the variables, in contrib's order."""
        width = tf.compat.dimension_value(tf.TensorShape(inputs_shape)[-1])
        if width is None:
            raise ValueError(f"the width of inputs must be known, got shape {inputs_shape}")
        _make_variables(self, self, width)
        self.built = True


class GRUBlockCellV2(GRUCell):
    """`tf.contrib.rnn.GRUBlockCellV2`: `rnn_cell.GRUCell` without its options.

    Variables `gru_cell/gates/kernel`, `gates/bias`, `candidate/kernel`, `candidate/bias`. num_units may be
    given under its old name cell_size instead.
    """

    def __init__(
        self,
        num_units: int | None = None,
        cell_size: int | None = None,
        reuse: bool | None = None,
        name: str | None = "gru_cell",
    ) -> None:
        units = cell_size if num_units is None else num_units
        if units is None or (cell_size is not None and num_units is not None):
            raise ValueError(
                f"exactly one of num_units and cell_size must be given, got {num_units} and {cell_size}"
            )
        super().__init__(units, reuse=reuse, name=name)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make a cell like this one."""
        return {"num_units": self._num_units, "name": self.name}


class LSTMBlockFusedCell(_Layer):
    """`tf.contrib.rnn.LSTMBlockFusedCell`: an LSTM layer that takes a whole sequence, time-major.

    Arguments as `LSTMBlockCell`; variables `lstm_fused_cell/kernel`, `bias` and, with peepholes, `w_i_diag`,
    `w_f_diag`, `w_o_diag`.
    """

    def __init__(
        self,
        num_units: int,
        forget_bias: float = 1.0,
        cell_clip: float | None = None,
        use_peephole: bool = False,
        reuse: bool | None = None,
        dtype: Any = None,
        name: str | None = "lstm_fused_cell",
    ) -> None:
        super().__init__(_reuse=reuse, name=name, dtype=dtype)
        # It has the options and the op; the variables are this layer's.
        self._cell = LSTMBlockCell(num_units, forget_bias, cell_clip, use_peephole, dtype)

    @property
    def num_units(self) -> int:
        """H, the units of the layer."""
        return self._cell.output_size

    def build(self, input_shape: Any) -> None:
        """Makes the variables for inputs [T, B, I]."""
        width = tf.compat.dimension_value(tf.TensorShape(input_shape)[2])
        if width is None:
            raise ValueError(f"the width of inputs must be known, got shape {input_shape}")
        _make_variables(self, self._cell, width)
        self.built = True

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, LSTMStateTuple]:
        """Runs the layer: see `call`. `scope` is the variable scope, "lstm_fused_cell" by default."""
        if not isinstance(inputs, list):
            return super().__call__(inputs, *args, **kwargs)
        outputs, state = super().__call__(tf.stack(inputs), *args, **kwargs)
        return tf.unstack(outputs, len(inputs)), state

    def call(
        self,
        inputs: tf.Tensor,
        initial_state: Any = None,
        dtype: Any = None,
        sequence_length: Any = None,
    ) -> tuple[tf.Tensor, LSTMStateTuple]:
        """All steps of a sequence.

        Args:
          inputs: [T, B, I], or a list of T tensors [B, I].
          initial_state: a pair (c, h) of [B, H] each; zeros if None.
          dtype: of the initial state, required if there is none given.
          sequence_length: integers [B] in [0, T]; past a row's length outputs are 0 and the state is copied
            through. None: all rows have T steps.

        Returns:
          outputs, [T, B, H] or a list of T tensors [B, H], as the inputs are; and the final state, an
          `LSTMStateTuple(c, h)` of [B, H] each.

        Raises:
          ValueError: for neither an initial_state nor a dtype, or a wrong shape.
          InvalidArgumentError: for a length outside [0, T].
        """
        if inputs.shape.rank not in (None, 3):
            raise ValueError(f"inputs must be [T, B, I], got shape {inputs.shape}")
        if initial_state is None:
            if dtype is None:
                raise ValueError("either initial_state or dtype must be given")
            initial_state = self._cell.zero_state(axis_size(inputs, 1), dtype)
        elif len(initial_state) != 2:
            raise ValueError(f"initial_state must be a pair (c, h), got {len(initial_state)} tensors")
        lengths = as_lengths(sequence_length, inputs, time_major=True, clip=False)
        return self._cell.call_sequence(inputs, initial_state, lengths, time_major=True)


def _make_variables(layer: Any, cell: LSTMBlockCell, width: int) -> None:
    """Makes the variables of a cell in the layer's scope: for inputs [B, I], with I the width."""
    units = cell._num_units
    zeros = tf.compat.v1.constant_initializer(0.0)
    cell._kernel = layer.add_weight("kernel", [width + units, 4 * units])
    cell._bias = layer.add_weight("bias", [4 * units], initializer=zeros)
    if cell._use_peepholes:
        cell._w_i_diag = layer.add_weight("w_i_diag", [units])
        cell._w_f_diag = layer.add_weight("w_f_diag", [units])
        cell._w_o_diag = layer.add_weight("w_o_diag", [units])
