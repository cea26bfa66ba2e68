"""The RNN part of `tf.contrib`, as TensorFlow 1.15 documented it.

`python -m fused_rnn --tf1` gives it to scripts as `tf.contrib`; it can be imported from here, too.
"""

from typing import NoReturn

from fused_rnn.contrib import layers, legacy_seq2seq, rnn, seq2seq

__all__ = ["layers", "legacy_seq2seq", "rnn", "seq2seq"]


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"tf.contrib.{name} is not in fused_rnn.contrib, which has {', '.join(__all__)}")
