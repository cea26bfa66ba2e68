"""Contender: the Keras 3 layer in a tf.function, batch-major, with Keras's own choice of kernels."""

# mypy: disable-error-code="import-untyped, import-not-found"

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from layout import SplitWeights, from_split, to_split
from worker import Prepared, Settings
from workload import FloatArray, Workload, make_arrays

_ORDERS = {"lstm": "ifjo", "gru": "urc", "gru_reset_after": "urc", "rnn": "h"}


def start(settings: Settings) -> dict[str, Any]:
    """Sets the threads and checks the device; returns the versions."""
    tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
    tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    gpus = tf.config.list_physical_devices("GPU")
    if settings.device == "gpu" and not gpus:
        raise RuntimeError("TensorFlow sees no GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return {"versions": {"keras": keras.__version__, "tensorflow": tf.__version__}}


def _layer(cell: str, hidden: int) -> Any:
    if cell == "lstm":
        return keras.layers.LSTM(hidden, return_sequences=True)
    if cell == "rnn":
        return keras.layers.SimpleRNN(hidden, return_sequences=True)
    return keras.layers.GRU(hidden, return_sequences=True, reset_after=cell == "gru_reset_after")


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """The layer with the workload's weights, called or differentiated in a tf.function."""
    cell, order = workload.cell, _ORDERS[workload.cell]
    x_value, weights = make_arrays(cell, workload.case)
    split = to_split(cell, weights, order)
    with_recurrent_bias = cell == "gru_reset_after"
    with tf.device(f"/{settings.device.upper()}:0"):
        x = tf.constant(x_value)
        layer = _layer(cell, workload.case.hidden)
        layer.build(x.shape)
        bias = np.stack([split.bias, split.recurrent_bias]) if with_recurrent_bias else split.bias
        layer.set_weights([split.kernel, split.recurrent, bias])
    variables = [weight.value for weight in layer.trainable_weights]

    @tf.function
    def infer(inputs: Any) -> Any:
        return [layer(inputs)]

    @tf.function
    def train(inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs)
            loss = tf.reduce_sum(y * y)
        return [y, *tape.gradient(loss, [inputs, *variables])]

    step = infer if workload.mode == "inference" else train

    def call() -> Any:
        with tf.device(f"/{settings.device.upper()}:0"):
            tensors = step(x)
        if settings.device == "gpu":
            tf.test.experimental.sync_devices()
        return tensors

    def results() -> dict[str, FloatArray]:
        y, *gradients = (tensor.numpy() for tensor in call())
        if not gradients:
            return {"y": y}
        d_x, d_kernel, d_recurrent, d_bias = gradients
        d_biases = d_bias if with_recurrent_bias else (d_bias, d_bias)
        return {"y": y, "d_x": d_x} | from_split(cell, SplitWeights(d_kernel, d_recurrent, *d_biases), order)

    return Prepared(call, results)
