"""Runs a function of tensors in each way that TensorFlow has: in a graph, eagerly and in a tf.function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

MODES = ("graph", "eager", "function")

Arrays = dict[str, np.ndarray]
Tensors = dict[str, Any]


def evaluate(
    mode: str,
    build: Callable[[Tensors], Tensors],
    feeds: Mapping[str, np.ndarray],
    *,
    static_shapes: bool = True,
    config: Any = None,
) -> Arrays:
    """build(tensors by name) -> results by name, as arrays. In a graph the tensors are placeholders; their
    shapes are known or, but for the last axis, unknown; variables start from their initializers."""
    if mode == "eager":
        return arrays(build({name: tf.constant(value) for name, value in feeds.items()}))
    shapes = {name: shape_of(value, static_shapes) for name, value in feeds.items()}
    if mode == "function":
        signature = {name: tf.TensorSpec(shapes[name], value.dtype) for name, value in feeds.items()}
        function = tf.function(build, input_signature=[signature])
        return arrays(function({name: tf.constant(value) for name, value in feeds.items()}))
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        given = {name: tf.compat.v1.placeholder(value.dtype, shapes[name]) for name, value in feeds.items()}
        results = build(given)
        session.run(tf.compat.v1.global_variables_initializer())
        return session.run(results, {given[name]: value for name, value in feeds.items()})


def shape_of(value: np.ndarray, static: bool) -> list[int | None]:
    if static:
        return list(value.shape)
    return [None] if value.ndim == 1 else [*[None] * (value.ndim - 1), value.shape[-1]]


def arrays(tensors: Tensors) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def with_gradients(
    mode: str,
    forward: Callable[[], Sequence[Any]],
    sources: Callable[[], Sequence[Any]],
    d_results: Sequence[Any],
    watched: Sequence[Any] = (),
) -> tuple[list[Any], list[Any]]:
    """(forward's results, gradients of the sources) for the gradients d_results of the results. Sources are
    asked for after forward has made its variables; `watched` are those that are no variables."""
    if mode == "graph":
        results = list(forward())
        return results, tf.gradients(results, list(sources()), grad_ys=list(d_results))
    with tf.GradientTape() as tape:
        tape.watch(list(watched))
        results = list(forward())
    return results, tape.gradient(results, list(sources()), output_gradients=list(d_results))
