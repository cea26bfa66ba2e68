"""TensorFlow's own cells and wrappers in the Keras mode of this process: what the fused cells must match."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import tensorflow as tf

from fused_rnn import rnn_cell as fused_cells

Cell = Any  # an RNNCell of either Keras

LEGACY_KERAS = hasattr(tf.compat.v1.nn.rnn_cell, "LSTMCell")
# Under Keras 3 TensorFlow has no public name for its cells.
REFERENCE: ModuleType = (
    tf.compat.v1.nn.rnn_cell
    if LEGACY_KERAS
    else importlib.import_module("tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl")
)
FUSED: ModuleType = fused_cells
LIBRARIES = {"fused": FUSED, "reference": REFERENCE}

# The classes, and the name of each cell in the ops and in tests/reference.py.
KINDS = {"BasicRNNCell": "rnn", "BasicLSTMCell": "lstm", "LSTMCell": "lstm", "GRUCell": "gru"}


def make(library: ModuleType, kind: str, *args: Any, **kwargs: Any) -> Cell:
    """A cell or wrapper of the library, without TensorFlow's advice to move to Keras layers."""
    return quietly(getattr(library, kind), *args, **kwargs)


def quietly(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)
