"""Contenders: cells in an unrolled loop, and loops, unrolled or not, whose cell does nothing.

What an empty loop takes, any cell in it takes besides its own time.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.keras.layers.legacy_rnn import rnn_cell_impl

from contenders.functional import in_session
from contenders.session import prepare_network, run_cell
from contenders.session import start_fused as start
from fused_rnn import rnn_cell
from worker import Prepared, Settings
from workload import Workload

__all__ = ["empty_loop", "empty_unrolled", "fused_unrolled", "start"]

Unroll = Callable[..., tuple[Any, Any]]


class _EmptyCell(rnn_cell_impl.RNNCell):
    """Takes in x [B, I] as a part of its state, so that the loop has to fetch it; gives out h [B, H]."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self._sizes = inputs, hidden

    @property
    def state_size(self) -> tuple[int, int]:
        """The last x, and h."""
        return self._sizes

    @property
    def output_size(self) -> int:
        """H"""
        return self._sizes[1]

    def call(self, inputs: Any, state: tuple[Any, Any]) -> tuple[Any, tuple[Any, Any]]:
        """h, and the new state."""
        return state[1], (inputs, state[1])


def _unrolled(cell: Any, x: Any, dtype: Any) -> tuple[Any, Any]:
    """A step after a step, as a script writes them that loops in Python; as dynamic_rnn's results."""
    outputs, state = tf.compat.v1.nn.static_rnn(cell, tf.unstack(x, axis=1), dtype=dtype)
    return tf.stack(outputs, axis=1), state


def _prepare_empty(unroll: Unroll, workload: Workload, settings: Settings) -> Prepared:
    def compute(workload: Workload, x: Any, _: object) -> list[Any]:
        cell = _EmptyCell(workload.case.inputs, workload.case.hidden)
        outputs, (last_x, _) = unroll(cell, x, dtype=tf.float32)
        return [outputs, last_x]  # both, or the graph optimiser would drop x from the loop

    return in_session(compute, workload, settings)


def empty_loop(workload: Workload, settings: Settings) -> Prepared:
    """A cell that does nothing, in tf.compat.v1.nn.dynamic_rnn."""
    return _prepare_empty(tf.compat.v1.nn.dynamic_rnn, workload, settings)


def empty_unrolled(workload: Workload, settings: Settings) -> Prepared:
    """A cell that does nothing, unrolled: what taking x apart and putting y together takes."""
    return _prepare_empty(_unrolled, workload, settings)


def fused_unrolled(workload: Workload, settings: Settings) -> Prepared:
    """The fused cell, unrolled."""
    return prepare_network(
        lambda workload, x, _: run_cell(rnn_cell, _unrolled, workload, x), workload, settings
    )
