"""TensorFlow's own cells, which the fused ones subclass: those of `tf.compat.v1.nn.rnn_cell`.

Under legacy Keras they are tf_keras's. Under Keras 3 that name only raises; the same classes then come from
inside TensorFlow.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import tensorflow as tf

__all__ = ["BasicLSTMCell", "BasicRNNCell", "GRUCell", "LSTMCell", "LSTMStateTuple"]


def _module() -> ModuleType:
    try:
        name = tf.compat.v1.nn.rnn_cell.LSTMCell.__module__
    except AttributeError:  # "`LSTMCell` is not available with Keras 3."
        name = "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl"
    return importlib.import_module(name)


_cells = _module()
BasicRNNCell = _cells.BasicRNNCell
BasicLSTMCell = _cells.BasicLSTMCell
GRUCell = _cells.GRUCell
LSTMCell = _cells.LSTMCell
LSTMStateTuple = _cells.LSTMStateTuple
