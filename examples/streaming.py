"""Feeds signals to a network sample by sample, as they come in, with its state in variables between the runs.

The outputs are those of whole signals in one run, and of a state that is fed and fetched, which takes longer.
Halfway, one row starts on a new signal: its state alone is reset.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn
from command_line import make_parser, positive, progress

LAYERS, UNITS, CHANNELS = 2, 128, 16


class Network:
    """The graph: a piece of signals [B, T, CHANNELS] -> outputs [B, T, UNITS]; the state is kept or fed."""

    def __init__(self, batch: int) -> None:
        """Builds it for this many rows."""
        cell = fused_rnn.rnn_cell.MultiRNNCell([fused_rnn.rnn_cell.LSTMCell(UNITS) for _ in range(LAYERS)])
        self.piece = tf.placeholder(tf.float32, [batch, None, CHANNELS])
        self.rows = tf.placeholder(tf.int32, [None])  # that start on a new signal
        state = fused_rnn.get_state_variables(batch, cell)
        self.outputs, new_state = fused_rnn.dynamic_rnn(cell, self.piece, initial_state=state)
        self.update = fused_rnn.get_state_update_op(state, new_state)
        self.reset = fused_rnn.get_state_reset_op(state, cell, batch, self.rows)
        self.zero_state = cell.zero_state(batch, tf.float32)
        with tf.variable_scope(tf.get_variable_scope(), reuse=True):
            fed = fused_rnn.dynamic_rnn(cell, self.piece, initial_state=self.zero_state)
        self.outputs_of_fed, self.state_of_fed = fed


def stream(signals: Any, run: Callable[[int, Any], Any], label: str) -> tuple[Any, float]:
    """Runs sample after sample of signals [B, T, CHANNELS].

    Returns the outputs [B, T, UNITS], and the microseconds that a sample took, as a median.
    """
    outputs, times = [], []
    for number in progress(signals.shape[1], label):
        start = time.perf_counter()
        outputs.append(run(number - 1, signals[:, number - 1 : number]))
        times.append(time.perf_counter() - start)
    return np.concatenate(outputs, axis=1), float(np.median(times)) * 1e6


def main() -> None:
    """Streams in two ways, compares both with runs of whole signals, and prints the time of a sample."""
    parser = make_parser(__doc__, steps=2000, of="samples of each signal")
    parser.add_argument("--batch", type=positive, default=1, metavar="B", help="signals (%(default)s)")
    arguments = parser.parse_args()
    T, batch, halfway = arguments.steps, arguments.batch, arguments.steps // 2
    tf.set_random_seed(arguments.seed)
    signals = np.random.default_rng(arguments.seed).standard_normal([batch, T, CHANNELS], np.float32)
    network = Network(batch)
    # A sample is little work: no other thread is to be woken for it.
    config = tf.ConfigProto(inter_op_parallelism_threads=-1)
    with tf.Session(config=config) as session:
        session.run(tf.global_variables_initializer())

        def from_variables(number: int, sample: Any) -> Any:
            if number == halfway:
                session.run(network.reset, {network.rows: [0]})
            outputs, _ = session.run([network.outputs, network.update], {network.piece: sample})
            return outputs

        state = session.run(network.zero_state)

        def from_feeds(_: int, sample: Any) -> Any:
            nonlocal state
            feed = {network.piece: sample, network.zero_state: state}
            outputs, state = session.run([network.outputs_of_fed, network.state_of_fed], feed)
            return outputs

        def whole(piece: Any) -> Any:
            return session.run(network.outputs_of_fed, {network.piece: piece})

        expected = whole(signals)
        start = time.perf_counter()
        whole(signals)
        at_once = (time.perf_counter() - start) / T * 1e6
        fed, feeding = stream(signals, from_feeds, "fed")
        kept, keeping = stream(signals, from_variables, "kept")
        expected_of_kept = expected.copy()
        expected_of_kept[:1, halfway:] = whole(signals[:, halfway:])[:1]  # row 0 started anew there
    print(f"signals: {batch} of {T:,} samples, {LAYERS} layers of {UNITS} units\n")
    print(f"{'':34}us a sample   largest difference from whole signals")
    print(f"{'whole signals in one run':34}{at_once:11.1f}")
    print(f"{'sample by sample, state fed':34}{feeding:11.1f}{np.abs(fed - expected).max():16.1e}")
    difference = np.abs(kept - expected_of_kept).max()
    print(f"{'sample by sample, state kept':34}{keeping:11.1f}{difference:16.1e}")
    print(f"\nrow 0 was reset after {halfway:,} samples: its outputs are those of a signal that starts there")


if __name__ == "__main__":
    main()
