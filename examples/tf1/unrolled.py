"""A word-level language model on a made-up text, unrolled by hand: a script for TensorFlow 1.0 to 1.15.

Today: python -m fused_rnn --tf1 unrolled.py --steps=30
"""

import time

import numpy as np
import tensorflow as tf

flags = tf.app.flags
flags.DEFINE_integer("steps", 30, "batches to train on")
FLAGS = flags.FLAGS

BATCH, UNROLL, SIZE, LAYERS, VOCABULARY = 20, 20, 200, 2, 100


def make_text(words: int) -> np.ndarray:
    """Each word has four likely successors."""
    random = np.random.RandomState(1)
    successors = random.randint(VOCABULARY, size=(VOCABULARY, 4))
    text = [0]
    for choice in random.randint(4, size=words - 1):
        text.append(successors[text[-1], choice])
    return np.array(text, np.int32)


def main(_: list) -> None:
    """Trains, and prints the perplexity of each batch."""
    tf.set_random_seed(1)
    words = tf.placeholder(tf.int32, [BATCH, UNROLL])
    targets = tf.placeholder(tf.int32, [BATCH, UNROLL])

    with tf.variable_scope("model", initializer=tf.random_uniform_initializer(-0.1, 0.1)):
        embedding = tf.get_variable("embedding", [VOCABULARY, SIZE])
        inputs = tf.nn.embedding_lookup(embedding, words)
        cell = tf.contrib.rnn.MultiRNNCell(
            [tf.contrib.rnn.BasicLSTMCell(SIZE, forget_bias=0.0, state_is_tuple=True) for _ in range(LAYERS)],
            state_is_tuple=True,
        )
        state = cell.zero_state(BATCH, tf.float32)
        outputs = []
        with tf.variable_scope("RNN"):
            for step in range(UNROLL):
                if step > 0:
                    tf.get_variable_scope().reuse_variables()
                output, state = cell(inputs[:, step, :], state)
                outputs.append(output)
        output = tf.reshape(tf.concat(outputs, 1), [-1, SIZE])
        softmax_w = tf.get_variable("softmax_w", [SIZE, VOCABULARY])
        softmax_b = tf.get_variable("softmax_b", [VOCABULARY])
        logits = tf.matmul(output, softmax_w) + softmax_b

    loss = tf.contrib.legacy_seq2seq.sequence_loss_by_example(
        [logits], [tf.reshape(targets, [-1])], [tf.ones([BATCH * UNROLL])]
    )
    cost = tf.reduce_mean(loss)
    variables = tf.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(cost, variables), 5.0)
    train = tf.train.AdamOptimizer(0.01).apply_gradients(zip(gradients, variables))  # noqa: B905

    text = make_text(BATCH * (UNROLL * FLAGS.steps + 1)).reshape(BATCH, -1)
    times = []
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for step in range(FLAGS.steps):
            at = step * UNROLL
            feed = {words: text[:, at : at + UNROLL], targets: text[:, at + 1 : at + UNROLL + 1]}
            start = time.time()
            batch_cost, _ = sess.run([cost, train], feed_dict=feed)
            times.append(time.time() - start)
            print(f"step {step} perplexity {np.exp(batch_cost):.6f}")
    print(f"{1000 * np.median(times):.2f} ms a step")


if __name__ == "__main__":
    tf.app.run()
