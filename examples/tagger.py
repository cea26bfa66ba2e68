"""Tags letters that stand between an opening and a closing bracket, with a bidirectional network.

A letter is inside if the last bracket before it opens and the next one after it closes: neither direction can
tell alone. Rows have lengths of their own; what stands in their padding, NaN even, changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from quiet_tensorflow import tf  # isort: skip  (before all else that imports TensorFlow)
import fused_rnn
from command_line import make_parser, progress

LETTERS, BRACKETS = "abcdef", "()"
SYMBOLS = LETTERS + BRACKETS
BATCH, LONGEST, UNITS = 32, 40, 32
DIRECTIONS = ("forward only", "both directions")


class Tagger:
    """The graph: rows of symbols [B, T, SYMBOLS], one-hot, -> a score for each that it is inside, [B, T]."""

    def __init__(self) -> None:
        """Builds the scores of both networks, and one training step for both."""
        self.rows = tf.placeholder(tf.float32, [None, None, len(SYMBOLS)])
        self.lengths = tf.placeholder(tf.int32, [None])
        self.inside = tf.placeholder(tf.float32, [None, None])
        forward, _ = fused_rnn.dynamic_rnn(cell(), self.rows, self.lengths, dtype=tf.float32)
        both, _ = fused_rnn.bidirectional_dynamic_rnn(
            cell(), cell(), self.rows, self.lengths, dtype=tf.float32
        )
        self.scores = [
            tf.reduce_sum(outputs * tf.get_variable(f"weights_{k}", [outputs.shape[-1]]), 2)
            for k, outputs in enumerate((forward, tf.concat(both, 2)))
        ]
        mask = tf.sequence_mask(self.lengths, tf.shape(self.rows)[1], tf.float32)
        losses = [
            tf.nn.sigmoid_cross_entropy_with_logits(labels=self.inside, logits=scores) * mask
            for scores in self.scores
        ]
        self.loss = tf.add_n([tf.reduce_sum(loss) for loss in losses]) / tf.reduce_sum(mask)
        self.gradients = tf.gradients(self.loss, tf.trainable_variables())
        pairs = zip(self.gradients, tf.trainable_variables(), strict=True)
        self.train = tf.train.AdamOptimizer(0.01).apply_gradients(pairs)

    def feed(self, rows: Any, lengths: Any, inside: Any) -> dict[Any, Any]:
        """What a run takes."""
        return {self.rows: rows, self.lengths: lengths, self.inside: inside}


def cell() -> Any:
    """A layer of one direction."""
    return fused_rnn.rnn_cell.GRUCell(UNITS)


def rows_of_symbols(random: np.random.Generator) -> tuple[Any, Any, Any]:
    """Symbols [BATCH, LONGEST] as numbers, 0 past the lengths [BATCH], and which of them are inside."""
    chances = [0.75 / len(LETTERS)] * len(LETTERS) + [0.1, 0.15]
    symbols = random.choice(len(SYMBOLS), [BATCH, LONGEST], p=chances)
    lengths = random.integers(1, LONGEST + 1, BATCH)
    inside = np.zeros([BATCH, LONGEST], np.float32)
    for row, length in enumerate(lengths):
        symbols[row, length:] = 0
        text = "".join(SYMBOLS[symbol] for symbol in symbols[row])
        for at in range(length):
            before = text[:at].rstrip(LETTERS)[-1:]
            after = text[at + 1 : length].lstrip(LETTERS)[:1]
            inside[row, at] = text[at] in LETTERS and before == "(" and after == ")"
    return symbols, lengths, inside


def one_hot(symbols: Any) -> Any:
    """[B, T] -> [B, T, SYMBOLS]"""
    return np.eye(len(SYMBOLS), dtype=np.float32)[symbols]


def main() -> None:
    """Trains both networks, prints how many letters they tag right, and one row; then fills the padding."""
    arguments = make_parser(__doc__, steps=500).parse_args()
    random = np.random.default_rng(arguments.seed)
    tf.set_random_seed(arguments.seed)
    tagger = Tagger()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for _ in progress(arguments.steps, "training"):
            symbols, lengths, inside = rows_of_symbols(random)
            session.run(tagger.train, tagger.feed(one_hot(symbols), lengths, inside))
        symbols, lengths, inside = rows_of_symbols(random)
        rows = one_hot(symbols)
        past_the_end = np.arange(LONGEST) >= lengths[:, None]  # [B, T]
        letters = ~past_the_end & (symbols < len(LETTERS))
        fetches = [tagger.scores, tagger.gradients]
        scores, gradients = session.run(fetches, tagger.feed(rows, lengths, inside))
        rows[past_the_end] = np.nan
        scores_of_nan, gradients_of_nan = session.run(fetches, tagger.feed(rows, lengths, inside))
    print(f"letters inside brackets: {inside[letters].mean():.1%} of {letters.sum()}; tagged right")
    for name, score in zip(DIRECTIONS, scores, strict=True):
        print(f"  {name:20}{((score > 0) == inside)[letters].mean():8.1%}")
    row = int(np.argmax(inside.sum(1)))
    print(f"\n{'a row':16}{''.join(SYMBOLS[symbol] for symbol in symbols[row, : lengths[row]])}")
    for name, tags in (("inside", inside), *zip(DIRECTIONS, (score > 0 for score in scores), strict=True)):
        marks = "".join("^" if tag else "." for tag in tags[row, : lengths[row]])
        print(f"{name:16}{marks}")
    pairs = zip([*scores, *gradients], [*scores_of_nan, *gradients_of_nan], strict=True)
    change = np.max([np.abs(a - b).max() for a, b in pairs])
    print(f"\npadding ({past_the_end.mean():.0%} of all) set to NaN: scores and gradients change by {change}")


if __name__ == "__main__":
    main()
