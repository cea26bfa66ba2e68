"""Contender: TensorFlow's own cells in its own dynamic_rnn, the pair that fused_rnn takes the place of."""

import tensorflow as tf

# tf.compat.v1.nn.rnn_cell shows these same cells only under legacy Keras.
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl

from contenders.session import prepare_network, run_cell
from contenders.session import start_tensorflow as start
from worker import Prepared, Settings
from workload import Workload

__all__ = ["prepare", "start"]


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """TensorFlow's cell in tf.compat.v1.nn.dynamic_rnn."""
    return prepare_network(
        lambda workload, x, _: run_cell(rnn_cell_impl, tf.compat.v1.nn.dynamic_rnn, workload, x),
        workload,
        settings,
    )
