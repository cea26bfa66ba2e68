"""Contenders: fused_rnn's sequence route, its cells in its own dynamic_rnn.

The GRU that resets after the product is no TensorFlow 1 cell: it is called as a function.
"""

from typing import Any

import tensorflow as tf

import fused_rnn
from contenders.session import Variables, matmul_rate, prepare_network, run_cell
from contenders.session import start_fused as start
from worker import Prepared, Settings
from workload import FloatArray, Workload

__all__ = ["matmul_rate", "prepare", "prepare_in_caller", "start"]


def _network(workload: Workload, x: Any, weights: dict[str, FloatArray]) -> tuple[Any, Variables]:
    if workload.cell != "gru_reset_after":
        return run_cell(fused_rnn.rnn_cell, fused_rnn.dynamic_rnn, workload, x)
    variables = {key: tf.compat.v1.get_variable(key, value.shape, x.dtype) for key, value in weights.items()}
    outputs, _ = fused_rnn.gru(x, reset_after=True, **variables)
    return outputs, variables


def prepare(workload: Workload, settings: Settings) -> Prepared:
    """fused_rnn.dynamic_rnn, or fused_rnn.gru for the form that resets after the product."""
    return prepare_network(_network, workload, settings)


def prepare_in_caller(workload: Workload, settings: Settings) -> Prepared:
    """The same where TensorFlow runs ops on the thread that calls, as PyTorch and ONNX Runtime do."""
    return prepare_network(_network, workload, settings, in_caller=True)
