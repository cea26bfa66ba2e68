"""TensorFlow's own cells, which the fused ones subclass, and its wrappers: `tf.compat.v1.nn.rnn_cell`.

Under legacy Keras they are tf_keras's. Under Keras 3 that name only raises; the same classes then come from
inside TensorFlow. There they are under legacy Keras too, and `import tensorflow.compat.v1.nn.rnn_cell`
brings them to light: two families that know nothing of each other, whose wrappers may hold either's cells.
"""

from __future__ import annotations

import importlib
from typing import Any

import tensorflow as tf

__all__ = [
    "FAMILIES",
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

_core: Any = importlib.import_module("tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl")
# hasattr is False where the attribute raises «`LSTMCell` is not available with Keras 3.»
_cells: Any = tf.compat.v1.nn.rnn_cell if hasattr(tf.compat.v1.nn.rnn_cell, "LSTMCell") else _core

RNNCell = _cells.RNNCell
BasicRNNCell = _cells.BasicRNNCell
BasicLSTMCell = _cells.BasicLSTMCell
GRUCell = _cells.GRUCell
LSTMCell = _cells.LSTMCell
LSTMStateTuple = _cells.LSTMStateTuple
MultiRNNCell = _cells.MultiRNNCell
DropoutWrapper = _cells.DropoutWrapper
ResidualWrapper = _cells.ResidualWrapper
DeviceWrapper = _cells.DeviceWrapper

# The namespaces that hold the classes: the one in use, and the one inside TensorFlow.
FAMILIES = (_cells, _core)
