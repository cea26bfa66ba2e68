"""A script of TensorFlow 1: v2 behaviour off for the whole process, variables of the old kind, training."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tf.scripts import run_script

pytestmark = pytest.mark.drop_in

SCRIPT = """
import json
import sys
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
from tf.tensorflow_cells import LIBRARIES, REFERENCE, make, quietly
from tf.cell_runs import waves
import fused_rnn

found = {}
for name, library in LIBRARIES.items():
    function = fused_rnn.dynamic_rnn if name == "fused" else tf.nn.dynamic_rnn
    for kind in ("BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell"):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [None, None, 3])
            with tf.variable_scope("model", initializer=waves):
                y, _ = quietly(function, make(library, kind, 4), x, [5, 2], dtype=tf.float32)
                cells = [make(library, kind, 4), make(library, kind, 4)]
                stack = make(REFERENCE, "MultiRNNCell", cells)
                y, _ = quietly(tf.nn.dynamic_rnn, stack, y, dtype=tf.float32, scope="stack")
            variables = tf.global_variables()
            loss = tf.reduce_mean(tf.square(y - 0.3))
            train = tf.train.AdamOptimizer(0.05).minimize(loss)
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                data = np.sin(np.arange(30)).reshape(2, 5, 3)
                losses = [session.run([loss, train], {x: data})[0] for _ in range(10)]
            found[f"{name} {kind}"] = {
                "variables": [[v.op.name, v.dtype.name] for v in variables],
                "losses": [float(value) for value in losses],
            }

# The functions learn their sizes from shapes, which have other types here.
x = tf.placeholder(tf.float32, [None, None, 3])
y, _ = fused_rnn.gru(x, tf.ones([7, 8]), tf.ones([8]), tf.ones([7, 4]), tf.ones([4]))
with tf.Session() as session:
    found["shape"] = session.run(y, {x: data}).shape
print(json.dumps(found))
"""


def test_training_without_v2_behavior() -> None:
    found = json.loads(run_script(SCRIPT).splitlines()[-1])
    assert found.pop("shape") == [2, 5, 4]
    for kind in ("BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell"):
        ours, theirs = found[f"fused {kind}"], found[f"reference {kind}"]
        assert ours["variables"] == theirs["variables"]
        assert all(dtype == "float32_ref" for _, dtype in ours["variables"])
        assert ours["losses"][-1] < ours["losses"][0]
        np.testing.assert_allclose(ours["losses"], theirs["losses"], rtol=1e-3)
