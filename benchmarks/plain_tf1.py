"""Runs a script of TensorFlow 1 with the TensorFlow of today and its own cells, for comparison.

python benchmarks/plain_tf1.py SCRIPT ARGUMENTS...

`import tensorflow` gives the script tensorflow.compat.v1, and what examples/tf1/unrolled.py needs of
tf.contrib. It needs legacy Keras: TF_USE_LEGACY_KERAS=1.
"""

import runpy
import sys
from types import SimpleNamespace

import tensorflow.compat.v1 as tf


def sequence_loss_by_example(logits: list, targets: list, weights: list) -> tf.Tensor:
    """The weighted cross-entropies of lists of steps, averaged over them."""
    losses = [
        weight * tf.nn.sparse_softmax_cross_entropy_with_logits(labels=target, logits=logit)
        for logit, target, weight in zip(logits, targets, weights, strict=True)
    ]
    return tf.add_n(losses) / (tf.add_n(weights) + 1e-12)


if __name__ == "__main__":
    tf.disable_v2_behavior()
    tf.contrib = SimpleNamespace(
        rnn=tf.nn.rnn_cell,
        legacy_seq2seq=SimpleNamespace(sequence_loss_by_example=sequence_loss_by_example),
    )
    sys.modules["tensorflow"] = tf
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
