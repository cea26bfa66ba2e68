"""Stacks and wrappers in a script of TensorFlow 1: v2 behaviour off for the whole process, training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tf.scripts import run_script

pytestmark = pytest.mark.drop_in

SCRIPT = """
import json
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
from tf.tensorflow_cells import LIBRARIES, make, quietly
from tf.cell_runs import waves
import fused_rnn


def stack(library, keep):
    def layer():
        return make(library, "DropoutWrapper", make(library, "LSTMCell", 4), keep, keep)

    layers = [layer(), make(library, "ResidualWrapper", layer())]
    layers += [make(library, "ResidualWrapper", make(library, "GRUCell", 4), lambda i, o: o - i[:, ::-1])]
    return make(library, "MultiRNNCell", layers)


def losses_of(library, nn):
    x = tf.placeholder(tf.float32, [None, None, 4])
    keep = tf.placeholder(tf.float32, [])
    with tf.variable_scope("model", initializer=waves):
        cells = stack(library, keep), stack(library, keep)
        y, _ = nn.bidirectional_dynamic_rnn(*cells, x, [5, 2], dtype=tf.float32)
        y, _ = nn.dynamic_rnn(stack(library, keep), y[0] + y[1], dtype=tf.float32)
        y, _ = nn.static_rnn(stack(library, keep), tf.unstack(y, 5, 1), dtype=tf.float32, scope="static")
    loss = tf.reduce_mean(tf.square(y[-1] - 0.3))
    train = tf.train.AdamOptimizer(0.02).minimize(loss)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        feeds = {x: np.sin(np.arange(40)).reshape(2, 5, 4), keep: 1.0}
        losses = [float(session.run([loss, train], feeds)[0]) for _ in range(8)]
        feeds[keep] = 0.5
        dropped = [float(session.run(loss, feeds)) for _ in range(2)]
    return losses, dropped, [[v.op.name, v.dtype.name] for v in tf.global_variables()]


found = {}
for name, library in LIBRARIES.items():
    with tf.Graph().as_default():
        found[name] = quietly(losses_of, library, fused_rnn if name == "fused" else tf.nn)
print(json.dumps(found))
"""


def test_training_without_v2_behavior() -> None:
    found = json.loads(run_script(SCRIPT).splitlines()[-1])
    (ours, dropped, names), (theirs, _, their_names) = found["fused"], found["reference"]
    assert names == their_names and {dtype for _, dtype in names} == {"float32_ref"}
    assert ours[-1] < ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
    assert dropped[0] != dropped[1]
