"""Classifies pictures row by row with static_rnn over tf.unstack, as a first tutorial on RNNs did."""

import argparse
import time

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=30, help="batches to train on")
args = parser.parse_args()

learning_rate = 0.01
batch_size = 64
n_input = 28  # pixels in a row
n_steps = 28  # rows
n_hidden = 128
n_classes = 10

# Made-up pictures: a pattern for each class, and noise.
random = np.random.RandomState(1)
patterns = random.randn(n_classes, n_steps, n_input)


def next_batch() -> tuple:
    """Pictures and the one-hot classes they belong to."""
    classes = random.randint(n_classes, size=batch_size)
    pictures = patterns[classes] + 2 * random.randn(batch_size, n_steps, n_input)
    return pictures, np.eye(n_classes)[classes]


tf.set_random_seed(1)
x = tf.placeholder("float", [None, n_steps, n_input])
y = tf.placeholder("float", [None, n_classes])
weights = {"out": tf.Variable(tf.random_normal([n_hidden, n_classes], stddev=0.1))}
biases = {"out": tf.Variable(tf.zeros([n_classes]))}

rows = tf.unstack(x, n_steps, 1)
lstm_cell = tf.nn.rnn_cell.BasicLSTMCell(n_hidden, forget_bias=1.0)
outputs, states = tf.nn.static_rnn(lstm_cell, rows, dtype=tf.float32)
pred = tf.matmul(outputs[-1], weights["out"]) + biases["out"]

cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=pred, labels=y))
optimizer = tf.train.AdamOptimizer(learning_rate=learning_rate).minimize(cost)
correct = tf.equal(tf.argmax(pred, 1), tf.argmax(y, 1))
accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

times = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    for step in range(args.steps):
        batch_x, batch_y = next_batch()
        start = time.time()
        loss, _ = sess.run([cost, optimizer], feed_dict={x: batch_x, y: batch_y})
        times.append(time.time() - start)
        print(f"step {step} loss {loss:.6f}")
    test_x, test_y = next_batch()
    print(f"accuracy {sess.run(accuracy, feed_dict={x: test_x, y: test_y}):.6f}")
print(f"{1000 * np.median(times):.2f} ms a step")
