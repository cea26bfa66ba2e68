"""Echoes an endless stream of bits: the state of a stack of LSTMs is fetched and fed to the next run."""

import argparse
import time

import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=40, help="stretches of the stream to train on")
args = parser.parse_args()

echo_step = 3
batch_size = 8
truncated_backprop_length = 25
state_size = 150
num_layers = 2

random = np.random.RandomState(1)
bits = random.randint(2, size=[batch_size, truncated_backprop_length * args.steps])
echo = np.roll(bits, echo_step, axis=1)
echo[:, :echo_step] = 0

tf.set_random_seed(1)
batch_x = tf.placeholder(tf.float32, [batch_size, truncated_backprop_length])
batch_y = tf.placeholder(tf.int32, [batch_size, truncated_backprop_length])
init_state = tf.placeholder(tf.float32, [num_layers, 2, batch_size, state_size])

state_per_layer = tf.unstack(init_state, axis=0)
rnn_tuple_state = tuple(
    tf.nn.rnn_cell.LSTMStateTuple(state_per_layer[layer][0], state_per_layer[layer][1])
    for layer in range(num_layers)
)
stacked = [tf.nn.rnn_cell.LSTMCell(state_size, state_is_tuple=True) for _ in range(num_layers)]
cell = tf.nn.rnn_cell.MultiRNNCell(stacked, state_is_tuple=True)
states_series, current_state = tf.nn.dynamic_rnn(
    cell, tf.expand_dims(batch_x, -1), initial_state=rnn_tuple_state
)

W2 = tf.Variable(tf.random_normal([state_size, 2], stddev=0.1))
b2 = tf.Variable(tf.zeros([2]))
logits = tf.matmul(tf.reshape(states_series, [-1, state_size]), W2) + b2
labels = tf.reshape(batch_y, [-1])
total_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(logits=logits, labels=labels))
train_step = tf.train.AdamOptimizer(0.002).minimize(total_loss)

times = []
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    _current_state = np.zeros((num_layers, 2, batch_size, state_size))
    for step in range(args.steps):
        at = step * truncated_backprop_length
        until = at + truncated_backprop_length
        feed = {
            batch_x: bits[:, at:until],
            batch_y: echo[:, at:until],
            init_state: _current_state,
        }
        start = time.time()
        _total_loss, _, _current_state = sess.run([total_loss, train_step, current_state], feed_dict=feed)
        times.append(time.time() - start)
        print(f"step {step} loss {_total_loss:.6f}")
    norms = [np.linalg.norm(h) for _, h in _current_state]
    print("state", *(f"{norm:.6f}" for norm in norms))
print(f"{1000 * np.median(times):.2f} ms a step")
