"""Contender: fused_rnn's step route, its cells in TensorFlow's own dynamic_rnn."""

import tensorflow as tf

from contenders.session import prepare_network, run_cell
from contenders.session import start_fused as start
from fused_rnn import rnn_cell
from worker import Prepared, Settings
from workload import Workload

__all__ = ["prepare", "start"]


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """The fused cell in tf.compat.v1.nn.dynamic_rnn."""
    return prepare_network(
        lambda workload, x, _: run_cell(rnn_cell, tf.compat.v1.nn.dynamic_rnn, workload, x),
        workload,
        settings,
    )
