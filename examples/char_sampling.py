"""Learns to write Python's documentation letter by letter, and samples from what it has learned.

The network learns from the text through `dynamic_rnn`; then it is fed the letters it draws, all in the graph,
by `self_feeding_rnn`. A low temperature makes it careful.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tqdm import tqdm

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn
from command_line import make_parser, progress
from text_data import documentation

BATCH, LENGTH, UNITS, EMBEDDING = 32, 64, 256, 48
TEMPERATURES = (0.3, 0.6, 1.0)
START = "The "  # every sample begins so
SAMPLE = 200  # letters of each


class CharModel:
    """The graph: letters [B, T], as numbers, -> the letters after them; and samples."""

    def __init__(self, letters: int) -> None:
        """Builds it for an alphabet of this size."""
        self.text = tf.placeholder(tf.int32, [None, None])  # [B, T + 1]
        self.rate = tf.placeholder(tf.float32, [])
        self.embedding = tf.get_variable("embedding", [letters, EMBEDDING])
        self.weights = tf.get_variable("weights", [UNITS, letters])
        self.bias = tf.get_variable("bias", [letters], initializer=tf.zeros_initializer())
        cell = fused_rnn.rnn_cell.GRUCell(UNITS)
        inputs = tf.nn.embedding_lookup(self.embedding, self.text[:, :-1])  # [B, T, EMBEDDING]
        outputs, state = fused_rnn.dynamic_rnn(cell, inputs, dtype=tf.float32)
        self.bits = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels=self.text[:, 1:], logits=self.logits(outputs)
            )
        ) / np.log(2)
        gradients, _ = tf.clip_by_global_norm(tf.gradients(self.bits, tf.trainable_variables()), 1.0)
        pairs = zip(gradients, tf.trainable_variables(), strict=True)
        self.train = tf.train.AdamOptimizer(self.rate).apply_gradients(pairs)

        # One temperature for each row of the text; the state is that after all of its letters but the last.
        self.temperature = tf.placeholder(tf.float32, [None])
        last = tf.nn.embedding_lookup(self.embedding, self.text[:, -1])
        self.sample, _ = fused_rnn.self_feeding_rnn(cell, last, state, SAMPLE, processing=self.draw)

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """The cell's outputs [..., UNITS] -> a score for each letter, [..., letters]."""
        return tf.tensordot(outputs, self.weights, 1) + self.bias

    def draw(self, output: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The cell's output [B, UNITS] -> the letters drawn, [B], and the next inputs, [B, EMBEDDING]."""
        scores = self.logits(output) / self.temperature[:, None]
        letters = tf.random.categorical(scores, 1, dtype=tf.int32)[:, 0]
        return letters, tf.nn.embedding_lookup(self.embedding, letters)


def main() -> None:
    """Trains, printing how many bits a letter still takes, and prints a sample at each temperature."""
    arguments = make_parser(__doc__, steps=1500).parse_args()
    random = np.random.default_rng(arguments.seed)
    tf.set_random_seed(arguments.seed)
    text = "\n".join(documentation())
    alphabet = sorted(set(text))
    number = {letter: i for i, letter in enumerate(alphabet)}
    ids = np.array([number[letter] for letter in text], np.int32)
    model = CharModel(len(alphabet))
    print(f"{len(text):,} letters of Python's documentation, of {len(alphabet)} kinds")
    started = time.perf_counter()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        since: list[float] = []
        for step in progress(arguments.steps, "training"):
            starts = random.integers(0, len(ids) - LENGTH, BATCH)
            rows = ids[starts[:, None] + np.arange(LENGTH + 1)]
            rate = 0.005 * (1 - step / (arguments.steps + 1))
            bits, _ = session.run([model.bits, model.train], {model.text: rows, model.rate: rate})
            since.append(bits)
            if step * 5 % arguments.steps < 5:
                seconds = time.perf_counter() - started
                tqdm.write(f"step {step:5}   {np.mean(since):.2f} bits a letter   {seconds:4.0f} s")
                since.clear()
        feed: dict[Any, Any] = {
            model.text: [[number[letter] for letter in START]] * len(TEMPERATURES),
            model.temperature: TEMPERATURES,
        }
        samples = session.run(model.sample, feed)
    for temperature, sample in zip(TEMPERATURES, samples, strict=True):
        written = START + "".join(alphabet[letter] for letter in sample)
        print(f"\ntemperature {temperature}:\n{written}")


if __name__ == "__main__":
    main()
