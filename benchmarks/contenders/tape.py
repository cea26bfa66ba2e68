"""Contender: the forward pass of training, eagerly; its result holds all that the backward pass will read."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

import fused_rnn
from contenders.functional import start
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

__all__ = ["prepare", "start"]

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "lstm": fused_rnn.lstm,
    "gru_reset_after": fused_rnn.gru,
}


def prepare(workload: Workload, _settings: Settings) -> Prepared:
    """fused_rnn.lstm, or the gru that torch has too, under a tape, which is returned with y."""
    x_value, values = make_arrays(workload.cell, workload.case)
    x, weights = tf.constant(x_value), {key: tf.constant(value) for key, value in values.items()}
    options = {"reset_after": True} if workload.cell == "gru_reset_after" else {}

    def forward() -> tuple[tf.GradientTape, Any]:
        with tf.GradientTape() as tape:
            tape.watch([x, *weights.values()])
            y, _ = _FUNCTIONS[workload.cell](x, **weights, **options)
        return tape, y

    def results() -> dict[str, FloatArray]:
        tape, y = forward()
        d_x, *d_weights = tape.gradient(y, [x, *weights.values()], output_gradients=2 * y)
        gradients = zip(weights, d_weights, strict=True)
        return {"y": y.numpy(), "d_x": d_x.numpy()} | {f"d_{key}": value.numpy() for key, value in gradients}

    return Prepared(forward, results)
