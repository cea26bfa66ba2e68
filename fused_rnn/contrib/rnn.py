"""`tf.contrib.rnn`: the fused cells and loops under the names they had there, and what was only there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fused_rnn import (
    GRUBlockCellV2,
    LSTMBlockCell,
    LSTMBlockFusedCell,
    bidirectional_dynamic_rnn,
    static_bidirectional_rnn,
    static_rnn,
    static_state_saving_rnn,
)
from fused_rnn.contrib._wrappers import EmbeddingWrapper, InputProjectionWrapper, OutputProjectionWrapper
from fused_rnn.rnn_cell import (
    BasicLSTMCell,
    BasicRNNCell,
    DeviceWrapper,
    DropoutWrapper,
    GRUCell,
    LSTMCell,
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
    "EmbeddingWrapper",
    "GRUBlockCellV2",
    "GRUCell",
    "InputProjectionWrapper",
    "LSTMBlockCell",
    "LSTMBlockFusedCell",
    "LSTMCell",
    "LSTMStateTuple",
    "MultiRNNCell",
    "OutputProjectionWrapper",
    "RNNCell",
    "ResidualWrapper",
    "stack_bidirectional_dynamic_rnn",
    "stack_bidirectional_rnn",
    "static_bidirectional_rnn",
    "static_rnn",
    "static_state_saving_rnn",
]

# One layer: the two cells, its inputs, the two initial states -> its outputs, and the two final states.
_Layer = Callable[[Any, Any, Any, Any, Any], tuple[Any, Any, Any]]


def stack_bidirectional_dynamic_rnn(
    cells_fw: list[Any],
    cells_bw: list[Any],
    inputs: Any,
    initial_states_fw: list[Any] | None = None,
    initial_states_bw: list[Any] | None = None,
    dtype: Any = None,
    sequence_length: Any = None,
    parallel_iterations: int | None = None,
    time_major: bool = False,
    scope: Any = None,
    swap_memory: bool = False,
) -> tuple[tf.Tensor, tuple[Any, ...], tuple[Any, ...]]:
    """Bidirectional layers on top of each other: each sees the outputs of both directions of the one below.

    Args:
      cells_fw, cells_bw: an RNNCell for each layer and direction.
      inputs: [B, T, I], or [T, B, I] if `time_major`.
      initial_states_fw, initial_states_bw: a state for each cell; zeros if None.
      dtype: of the initial states, required if they are not given.
      sequence_length: integers [B]; past a row's length outputs are 0 and the state is copied through.
      parallel_iterations, swap_memory: as in `bidirectional_dynamic_rnn`.
      time_major: whether time, and not the batch, is the first axis of inputs and outputs.
      scope: the variable scope, "stack_bidirectional_rnn" by default; a layer's is "cell_0", "cell_1" in it.

    Returns:
      The last layer's outputs, [B, T, forward H + backward H] or [T, B, ...], and the final states of both
      directions, each a tuple of the layers'.

    Raises:
      ValueError: for cells or initial states that are not lists of one length.
    """
    options = {"dtype": dtype, "sequence_length": sequence_length, "time_major": time_major}
    options |= {"parallel_iterations": parallel_iterations, "swap_memory": swap_memory}

    def layer(cell_fw: Any, cell_bw: Any, below: Any, state_fw: Any, state_bw: Any) -> tuple[Any, Any, Any]:
        states = {"initial_state_fw": state_fw, "initial_state_bw": state_bw}
        outputs, (final_fw, final_bw) = bidirectional_dynamic_rnn(
            cell_fw, cell_bw, below, **states, **options
        )
        return tf.concat(outputs, 2), final_fw, final_bw

    return _stack(layer, cells_fw, cells_bw, inputs, initial_states_fw, initial_states_bw, scope)


def stack_bidirectional_rnn(
    cells_fw: list[Any],
    cells_bw: list[Any],
    inputs: Sequence[tf.Tensor],
    initial_states_fw: list[Any] | None = None,
    initial_states_bw: list[Any] | None = None,
    dtype: Any = None,
    sequence_length: Any = None,
    scope: Any = None,
) -> tuple[list[tf.Tensor], tuple[Any, ...], tuple[Any, ...]]:
    """`stack_bidirectional_dynamic_rnn` over a list of T inputs [B, I], for a list of T outputs."""

    def layer(cell_fw: Any, cell_bw: Any, below: Any, state_fw: Any, state_bw: Any) -> tuple[Any, Any, Any]:
        states = {"initial_state_fw": state_fw, "initial_state_bw": state_bw}
        options = {"dtype": dtype, "sequence_length": sequence_length}
        # The variables stand right in the layer's own scope here, in no bidirectional_rnn within it.
        scope = tf.compat.v1.get_variable_scope()
        return static_bidirectional_rnn(cell_fw, cell_bw, below, **states, **options, scope=scope)

    return _stack(layer, cells_fw, cells_bw, inputs, initial_states_fw, initial_states_bw, scope)


def _stack(
    layer: _Layer,
    cells_fw: list[Any],
    cells_bw: list[Any],
    inputs: Any,
    initial_states_fw: list[Any] | None,
    initial_states_bw: list[Any] | None,
    scope: Any,
) -> tuple[Any, tuple[Any, ...], tuple[Any, ...]]:
    for name, cells in (("fw", cells_fw), ("bw", cells_bw)):
        if not cells:
            raise ValueError(f"Must specify at least one {name} cell for BidirectionalRNN.")
        if not isinstance(cells, list):
            raise ValueError(f"cells_{name} must be a list of RNNCells (one per layer), got {cells!r}.")
    if len(cells_fw) != len(cells_bw):
        raise ValueError(
            f"Forward and Backward cells must have the same depth, got {len(cells_fw)} and {len(cells_bw)}."
        )
    for name, states in (("fw", initial_states_fw), ("bw", initial_states_bw)):
        if states is not None and not (isinstance(states, list) and len(states) == len(cells_fw)):
            raise ValueError(f"initial_states_{name} must be a list of state tensors (one per layer).")
    none = [None] * len(cells_fw)
    layers = zip(cells_fw, cells_bw, initial_states_fw or none, initial_states_bw or none, strict=True)
    outputs, finals_fw, finals_bw = inputs, [], []
    with tf.compat.v1.variable_scope(scope or "stack_bidirectional_rnn"):
        for number, (cell_fw, cell_bw, state_fw, state_bw) in enumerate(layers):
            with tf.compat.v1.variable_scope(f"cell_{number}"):
                outputs, final_fw, final_bw = layer(cell_fw, cell_bw, outputs, state_fw, state_bw)
            finals_fw.append(final_fw)
            finals_bw.append(final_bw)
    return outputs, tuple(finals_fw), tuple(finals_bw)
