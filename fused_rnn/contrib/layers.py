"""`tf.contrib.layers.fully_connected` and its initial values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["fully_connected", "xavier_initializer"]

v1 = tf.compat.v1
Initializer = Callable[..., Any]
Regularizer = Callable[[Any], Any]


def xavier_initializer(
    uniform: bool = True, seed: int | None = None, dtype: tf.DType = tf.float32
) -> Initializer:
    """Random initial values whose scale keeps gradients alike in all layers (Glorot and Bengio, 2010).

    Args:
      uniform: whether to draw from `[-x, x]`, `x = sqrt(6 / (inputs + outputs))`, and not from a normal
        distribution that is cut off at two standard deviations and has `stddev = sqrt(2.6 / (inputs +
        outputs))` before that.
      seed: of the draws; see `tf.compat.v1.set_random_seed`.
      dtype: floating, of the values where the variable has none.

    Returns:
      An initializer for weights [..., inputs, outputs].

    Raises:
      TypeError: for a dtype that is not floating.
    """
    if not dtype.is_floating:
        raise TypeError(f"Cannot create initializer for non-floating point type, got dtype={dtype}.")

    def initializer(shape: Any, dtype: tf.DType = dtype, partition_info: Any = None) -> tf.Tensor:
        sizes = [int(size) for size in shape]
        field = math.prod(sizes[:-2])
        inputs = field * sizes[-2] if len(sizes) > 1 else sum(sizes) or 1
        outputs = field * sizes[-1] if sizes else 1
        if uniform:
            limit = math.sqrt(6.0 / (inputs + outputs))
            return tf.random.uniform(sizes, -limit, limit, dtype, seed=seed)
        return tf.random.truncated_normal(sizes, 0.0, math.sqrt(2.6 / (inputs + outputs)), dtype, seed=seed)

    return initializer


_XAVIER, _ZEROS = xavier_initializer(), tf.zeros_initializer()


def fully_connected(
    inputs: Any,
    num_outputs: int,
    activation_fn: Callable[[Any], Any] | None = tf.nn.relu,
    normalizer_fn: Callable[..., Any] | None = None,
    normalizer_params: Mapping[str, Any] | None = None,
    weights_initializer: Initializer | None = _XAVIER,
    weights_regularizer: Regularizer | None = None,
    biases_initializer: Initializer | None = _ZEROS,
    biases_regularizer: Regularizer | None = None,
    reuse: Any = None,
    variables_collections: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """A dense layer over the last axis: `activation_fn(inputs . weights + biases)`.

    Args:
      inputs: [..., I], of rank 2 or more, where I is known.
      num_outputs: O, an integer.
      activation_fn: None for a linear layer.
      normalizer_fn: takes the product, and normalizer_params by name, instead of the biases being added.
      normalizer_params: a dict, or None.
      weights_initializer: of `weights` [I, O]; that of the variable scope if None.
      biases_initializer: of `biases` [O]; None for a layer without.
      weights_regularizer, biases_regularizer: what each gives is added to the regularization losses.
      reuse: whether the variables exist; scope is required then.
      variables_collections: to add the variables to; or a dict of such for "weights" and "biases".
      outputs_collections: to add the output to.
      trainable: whether the variables are.
      scope: the variable scope; "fully_connected", numbered, by default.

    Returns:
      [..., O].

    Raises:
      ValueError: if num_outputs is not an integer, or inputs has rank 1 or an unknown last axis.
    """
    if not isinstance(num_outputs, int):
        raise ValueError(f"num_outputs type should be int, got {type(num_outputs)}.")
    with v1.variable_scope(scope, "fully_connected", [inputs], reuse=reuse):
        inputs = tf.convert_to_tensor(inputs)
        shape = [_last_size(inputs), num_outputs]
        options = (inputs.dtype.base_dtype, trainable, variables_collections)
        weights = _variable("weights", shape, weights_initializer, weights_regularizer, *options)
        is_matrix = inputs.shape.rank == 2
        outputs = tf.matmul(inputs, weights) if is_matrix else tf.tensordot(inputs, weights, 1)
        if normalizer_fn is not None:
            outputs = normalizer_fn(outputs, **(normalizer_params or {}))
        elif biases_initializer is not None:
            biases = _variable("biases", shape[1:], biases_initializer, biases_regularizer, *options)
            outputs = tf.nn.bias_add(outputs, biases)
        if activation_fn is not None:
            outputs = activation_fn(outputs)
        v1.add_to_collections(outputs_collections or [], outputs)
        return outputs


def _variable(
    name: str,
    shape: list[int],
    initializer: Initializer | None,
    regularizer: Regularizer | None,
    dtype: tf.DType,
    trainable: bool,
    collections: Any,
) -> Any:
    """A variable that contrib's collections and those of the caller hold."""
    keys = [v1.GraphKeys.GLOBAL_VARIABLES, v1.GraphKeys.MODEL_VARIABLES]
    result = v1.get_variable(
        name, shape, dtype, initializer, regularizer, trainable=trainable, collections=keys
    )
    v1.add_to_collections(_collections(collections, name), result)
    return result


def _last_size(inputs: tf.Tensor) -> int:
    if inputs.shape.rank is None or inputs.shape.rank < 2:
        raise ValueError(f"inputs must be [..., I], of rank 2 or more, got shape {inputs.shape}")
    size = tf.compat.dimension_value(inputs.shape[-1])
    if size is None:
        raise ValueError(f"The last axis of the inputs must be known, got shape {inputs.shape}")
    return size


def _collections(collections: Any, name: str) -> Any:
    """Those for the variable of this name."""
    if isinstance(collections, Mapping):
        collections = collections.get(name)
    return collections or []
