"""Learns to continue sine waves, first from their next samples, then through the loop that feeds it its own.

A network that only ever saw true samples drifts away once it has to live on what it predicts. Trained through
`self_feeding_rnn`, whose gradients go back through the whole loop, it learns to stay on the wave.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn
from command_line import make_parser, progress

BATCH, SEEN, CONTINUED = 32, 40, 40  # waves, and the samples of each that are given and to be continued
FAR = 160  # samples that it has to continue in the end
UNITS = 48
RATE = 0.006  # of learning, falling to zero
COLOURS = {"next samples": "#b4bcc7", "its own samples": "#d1495b"}


class WaveModel:
    """The graph: it reads the given samples of each wave and continues it by some number of its own."""

    def __init__(self) -> None:
        """Builds the losses and their training steps."""
        self.given = tf.placeholder(tf.float32, [None, SEEN, 1])
        self.future = tf.placeholder(tf.float32, [None, None, 1])  # the samples that follow
        self.rate = tf.placeholder(tf.float32, [])
        cell = fused_rnn.rnn_cell.LSTMCell(UNITS)
        outputs, state = fused_rnn.dynamic_rnn(cell, self.given, dtype=tf.float32)
        predictions = readout(outputs)  # [B, SEEN, 1], of the sample after each one
        self.continued, _ = fused_rnn.self_feeding_rnn(
            cell, predictions[:, -1], state, tf.shape(self.future)[1] - 1, processing=readout
        )
        self.continued = tf.concat([predictions[:, -1:], self.continued], 1)
        next_samples = tf.concat([self.given[:, 1:], self.future[:, :1]], 1)
        self.next_loss = tf.reduce_mean(tf.square(predictions - next_samples))
        self.own_loss = tf.reduce_mean(tf.square(self.continued - self.future))
        self.train_next = minimize(self.next_loss, self.rate)
        self.train_own = minimize(self.next_loss + self.own_loss, self.rate)


def readout(outputs: tf.Tensor) -> tf.Tensor:
    """The cell's outputs [..., UNITS] -> a sample of each, [..., 1]."""
    with tf.variable_scope("readout", reuse=tf.AUTO_REUSE):
        weights = tf.get_variable("weights", [UNITS, 1])
        return tf.tensordot(outputs, weights, 1) + tf.get_variable("bias", [1])


def minimize(loss: tf.Tensor, rate: tf.Tensor) -> tf.Operation:
    """A step of Adam, at this learning rate, with clipped gradients."""
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), 1.0)
    return tf.train.AdamOptimizer(rate).apply_gradients(zip(gradients, variables, strict=True))


def waves(random: np.random.Generator, count: int, future: int) -> tuple[Any, Any]:
    """Waves of random phase, 14 to 28 samples long: the given samples and those to come."""
    period = random.uniform(14, 28, [count, 1])
    at = np.arange(SEEN + future) + random.uniform(0, 28, [count, 1])
    samples = np.sin(2 * np.pi * at / period)[..., None]
    return samples[:, :SEEN], samples[:, SEEN:]


def plot(path: Path, given: Any, future: Any, continued: dict[str, Any]) -> None:
    """Draws one wave and its continuations."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    axes = figure.subplots()
    at = np.arange(SEEN, SEEN + FAR)
    axes.plot(np.arange(SEEN), given, color="black", lw=1.5, label="given")
    axes.plot(at, future, color="black", lw=1, ls=":", label="the wave")
    for name, samples in continued.items():
        axes.plot(at, samples, color=COLOURS[name], lw=1.8, label=f"trained on {name}")
    axes.axvspan(SEEN, SEEN + CONTINUED, color="#f3f3f3", zorder=0)
    axes.set(xlabel="sample", title="A wave that continues itself (grey: as far as it was trained to)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=4, loc="lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains in two ways, one after the other, and shows how far each continuation holds."""
    parser = make_parser(__doc__, steps=1200)
    parser.add_argument(
        "--plot", type=Path, default=Path("sine_wave.png"), metavar="PATH", help="the figure (%(default)s)"
    )
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    tf.set_random_seed(arguments.seed)
    model = WaveModel()
    given, future = waves(random, BATCH, FAR)
    continued = {}
    print(f"error of a wave continued for{'':9}" + "".join(f"{n:>6} samples" for n in (CONTINUED, FAR)))
    with tf.Session() as session:
        for name, step in zip(COLOURS, (model.train_next, model.train_own), strict=True):
            session.run(tf.global_variables_initializer())
            for done in progress(arguments.steps, name):
                samples = waves(random, BATCH, CONTINUED)
                feed = dict(zip((model.given, model.future), samples, strict=True))
                session.run(step, feed | {model.rate: RATE * (1 - done / (arguments.steps + 1))})
            samples = session.run(model.continued, {model.given: given, model.future: future})
            continued[name] = samples[0]
            errors = [np.sqrt(np.square(samples - future)[:, :n].mean()) for n in (CONTINUED, FAR)]
            print(f"trained on {name:27}" + "".join(f"{error:14.3f}" for error in errors), flush=True)
    plot(arguments.plot, given[0], future[0], continued)
    print(f"figure {arguments.plot}")


if __name__ == "__main__":
    main()
