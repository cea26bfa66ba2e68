"""The cells of `tf.contrib.rnn` that put a layer before or after another cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from fused_rnn.rnn_cell import RNNCell

__all__ = ["EmbeddingWrapper", "InputProjectionWrapper", "OutputProjectionWrapper"]

v1 = tf.compat.v1


class _Wrapper(RNNCell):
    """What the three share: the states are those of the cell inside."""

    def __init__(self, cell: Any, reuse: bool | None) -> None:
        if not callable(cell) or not hasattr(cell, "state_size"):
            raise TypeError(f"The argument 'cell' ({cell!r}) is not an RNNCell.")
        super().__init__(_reuse=reuse)
        self._cell = cell

    @property
    def state_size(self) -> Any:
        """As the cell's."""
        return self._cell.state_size

    @property
    def output_size(self) -> Any:
        """As the cell's."""
        return self._cell.output_size

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        """As the cell's."""
        with v1.name_scope(f"{type(self).__name__}ZeroState", values=[batch_size]):
            return self._cell.zero_state(batch_size, dtype)


class EmbeddingWrapper(_Wrapper):
    """Looks up each input, a number of a symbol, in a matrix `embedding` before the cell sees it."""

    def __init__(
        self,
        cell: Any,
        embedding_classes: int,
        embedding_size: int,
        initializer: Any = None,
        reuse: bool | None = None,
    ) -> None:
        """initializer: of the embedding [embedding_classes, embedding_size]; that of the variable scope if
        None, and if there is none either, uniform with variance 1.

        Raises TypeError if cell is not an RNNCell, ValueError for sizes below 1.
        """
        super().__init__(cell, reuse)
        if embedding_classes <= 0 or embedding_size <= 0:
            raise ValueError(
                "Both embedding_classes and embedding_size must be > 0: "
                f"{embedding_classes}, {embedding_size}."
            )
        self._shape = [embedding_classes, embedding_size]
        self._initializer = initializer

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Inputs: integers [B] or [B, 1]."""
        bound = math.sqrt(3)
        initializer = (
            self._initializer
            or v1.get_variable_scope().initializer
            or v1.random_uniform_initializer(-bound, bound)
        )
        with tf.device("/cpu:0"):
            dtype = tf.nest.flatten(state)[0].dtype
            embedding = v1.get_variable("embedding", self._shape, dtype, initializer)
            embedded = tf.nn.embedding_lookup(embedding, tf.reshape(inputs, [-1]))
        return self._cell(embedded, state)


class InputProjectionWrapper(_Wrapper):
    """Multiplies the inputs by `kernel` [I, num_proj], and adds `bias`, before the cell sees them."""

    def __init__(
        self,
        cell: Any,
        num_proj: int,
        activation: Callable[[Any], Any] | None = None,
        input_size: Any = None,
        reuse: bool | None = None,
    ) -> None:
        """activation: of the product, if given. input_size has no effect, as in TensorFlow.

        Raises TypeError if cell is not an RNNCell.
        """
        super().__init__(cell, reuse)
        self._size, self._activation = num_proj, activation

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Inputs: [B, I]."""
        return self._cell(_project(inputs, self._size, self._activation), state)


class OutputProjectionWrapper(_Wrapper):
    """Multiplies the outputs of the cell by `kernel` [H, output_size], and adds `bias`."""

    def __init__(
        self,
        cell: Any,
        output_size: int,
        activation: Callable[[Any], Any] | None = None,
        reuse: bool | None = None,
    ) -> None:
        """activation: of the product, if given.

        Raises TypeError if cell is not an RNNCell, ValueError for an output_size below 1.
        """
        super().__init__(cell, reuse)
        if output_size < 1:
            raise ValueError(f"Parameter output_size must be > 0: {output_size}.")
        self._size, self._activation = output_size, activation

    @property
    def output_size(self) -> int:
        """O."""
        return self._size

    def call(self, inputs: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        """Returns [B, O] and the cell's state."""
        outputs, state = self._cell(inputs, state)
        return _project(outputs, self._size, self._activation), state


def _project(inputs: tf.Tensor, size: int, activation: Callable[[Any], Any] | None) -> tf.Tensor:
    """[B, I] -> [B, size], by variables of the current scope."""
    if inputs.shape.rank != 2 or tf.compat.dimension_value(inputs.shape[1]) is None:
        raise ValueError(f"linear is expecting 2D arguments of known width, got shape {inputs.shape}")
    width = tf.compat.dimension_value(inputs.shape[1])
    kernel = v1.get_variable("kernel", [width, size], inputs.dtype)
    bias = v1.get_variable("bias", [size], inputs.dtype, v1.zeros_initializer())
    outputs = tf.nn.bias_add(tf.matmul(inputs, kernel), bias)
    return outputs if activation is None else activation(outputs)
