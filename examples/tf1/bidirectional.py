"""Tags the words of sentences of all lengths with two stacked bidirectional layers."""

import argparse
import time

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=30, help="batches to train on")
args = parser.parse_args()

batch_size, longest, vocabulary, n_tags, embedding_size, n_hidden, n_layers = 16, 30, 50, 4, 64, 100, 2

# A word's tag depends on the words on both sides of it.
random = np.random.RandomState(1)
kinds = random.randint(n_tags, size=vocabulary)


def next_batch() -> tuple:
    """Words and tags [B, T], and the sentences' lengths [B]."""
    words = random.randint(vocabulary, size=(batch_size, longest))
    tags = np.maximum(np.roll(kinds[words], 1, axis=1), np.roll(kinds[words], -1, axis=1))
    return words, tags, random.randint(longest // 3, longest + 1, size=batch_size)


tf.set_random_seed(1)
word_ids = tf.placeholder(tf.int32, [None, None], name="word_ids")
labels = tf.placeholder(tf.int32, [None, None], name="labels")
sequence_lengths = tf.placeholder(tf.int32, [None], name="sequence_lengths")

with tf.variable_scope("words"):
    embeddings = tf.Variable(tf.random_uniform([vocabulary, embedding_size], -1.0, 1.0))
    output = tf.nn.embedding_lookup(embeddings, word_ids)
for layer in range(n_layers):
    with tf.variable_scope(f"bi-lstm-{layer}"):
        cell_fw = tf.nn.rnn_cell.LSTMCell(n_hidden, initializer=tf.orthogonal_initializer())
        cell_bw = tf.nn.rnn_cell.LSTMCell(n_hidden, initializer=tf.orthogonal_initializer())
        (output_fw, output_bw), _ = tf.nn.bidirectional_dynamic_rnn(
            cell_fw, cell_bw, output, sequence_length=sequence_lengths, dtype=tf.float32
        )
        output = tf.concat([output_fw, output_bw], axis=-1)
with tf.variable_scope("proj"):
    W = tf.get_variable("W", [2 * n_hidden, n_tags])
    b = tf.get_variable("b", [n_tags], initializer=tf.zeros_initializer())
    logits = tf.tensordot(output, W, 1) + b

losses = tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels)
mask = tf.sequence_mask(sequence_lengths, longest)
loss = tf.reduce_mean(tf.boolean_mask(losses, mask))
train_op = tf.train.AdamOptimizer(0.01).minimize(loss)

times = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for step in range(args.steps):
        words, tags, lengths = next_batch()
        feed = {word_ids: words, labels: tags, sequence_lengths: lengths}
        start = time.time()
        batch_loss, _ = sess.run([loss, train_op], feed_dict=feed)
        times.append(time.time() - start)
        print(f"step {step} loss {batch_loss:.6f}")
print(f"{1000 * np.median(times):.2f} ms a step")
