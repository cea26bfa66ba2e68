"""Learns to say digits backwards: an encoder, and a decoder in raw_rnn that hears what it said."""

import argparse
import time

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=30, help="batches to train on")
args = parser.parse_args()

batch_size, longest, digits, embedding_size, hidden = 32, 12, 10, 32, 128
random = np.random.RandomState(1)

tf.set_random_seed(1)
encoder_inputs = tf.placeholder(tf.int32, [batch_size, longest])
decoder_targets = tf.placeholder(tf.int32, [longest, batch_size])
lengths = tf.placeholder(tf.int32, [batch_size])

embeddings = tf.Variable(tf.random_uniform([digits, embedding_size], -1.0, 1.0))
W = tf.Variable(tf.random_uniform([hidden, digits], -0.1, 0.1))
b = tf.Variable(tf.zeros([digits]))

with tf.variable_scope("encoder"):
    _, encoder_state = tf.nn.dynamic_rnn(
        tf.nn.rnn_cell.GRUCell(hidden),
        tf.nn.embedding_lookup(embeddings, encoder_inputs),
        sequence_length=lengths,
        dtype=tf.float32,
    )

decoder_cell = tf.nn.rnn_cell.GRUCell(hidden)


def loop_fn(time: tf.Tensor, cell_output: tf.Tensor, cell_state: tf.Tensor, loop_state: None) -> tuple:
    """The next input is the mean of the digits' embeddings, as likely as the decoder holds each."""
    if cell_output is None:  # the first call
        next_cell_state = encoder_state
        next_input = tf.zeros([batch_size, embedding_size])
    else:
        next_cell_state = cell_state
        said = tf.nn.softmax(tf.matmul(cell_output, W) + b)
        next_input = tf.matmul(said, embeddings)
    return time >= lengths, next_input, next_cell_state, cell_output, None


outputs_ta, final_state, _ = tf.nn.raw_rnn(decoder_cell, loop_fn, scope="decoder")
logits = tf.tensordot(tf.reshape(outputs_ta.stack(), [-1, batch_size, hidden]), W, 1) + b
mask = tf.transpose(tf.sequence_mask(lengths, tf.shape(logits)[0], dtype=tf.float32))
losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=decoder_targets[: tf.shape(logits)[0]], logits=logits
)
loss = tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)
train_op = tf.train.AdamOptimizer(0.005).minimize(loss)

times = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for step in range(args.steps):
        sizes = random.randint(longest // 2, longest + 1, size=batch_size)
        source = random.randint(digits, size=(batch_size, longest))
        target = np.zeros((longest, batch_size))
        for row, size in enumerate(sizes):
            target[:size, row] = source[row, :size][::-1]
        feed = {encoder_inputs: source, decoder_targets: target, lengths: sizes}
        start = time.time()
        batch_loss, _ = sess.run([loss, train_op], feed_dict=feed)
        times.append(time.time() - start)
        print(f"step {step} loss {batch_loss:.6f}")
    print(f"state {np.linalg.norm(sess.run(final_state, feed_dict=feed)):.6f}")
print(f"{1000 * np.median(times):.2f} ms a step")
