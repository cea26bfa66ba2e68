"""State, self-feeding and copies in a script of TensorFlow 1: v2 behaviour off for the whole process."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tf.scripts import run_script

SCRIPT = """
import json
import numpy as np
import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()
import fused_rnn
from tf.tensorflow_cells import FUSED, REFERENCE, make, quietly

x = tf.placeholder(tf.float64, [2, None, 3])
steps = tf.placeholder(tf.int32, [None])
data = np.sin(np.arange(2 * 6 * 3)).reshape(2, 6, 3)


def stack():
    return make(REFERENCE, "MultiRNNCell", [make(FUSED, kind, 4) for kind in ("LSTMCell", "GRUCell")])


def readout(output):
    return tf.matmul(output, tf.get_variable("readout", [4, 3], tf.float64))


with tf.variable_scope("online"):
    cell = stack()
    state = fused_rnn.get_state_variables(2, cell, tf.float64)
    outputs, new_state = quietly(fused_rnn.dynamic_rnn, cell, x, initial_state=state)
    update = fused_rnn.get_state_update_op(state, new_state)
    reset, reset_row = (fused_rnn.get_state_reset_op(state, cell, 2, rows) for rows in (None, [1]))
    continued, _ = fused_rnn.self_feeding_rnn(cell, x[:, -1], new_state, steps, readout)
with tf.variable_scope("online", reuse=True):
    fed, now, unrolled = x[:, -1], new_state, []
    for _ in range(3):
        output, now = cell(fed, now)
        fed = readout(output)
        unrolled.append(fed)
    unrolled = tf.stack(unrolled, 1)
with tf.variable_scope("target"):
    quietly(fused_rnn.self_feeding_rnn, stack(), x[:, -1], None, steps, readout)
weights = tf.trainable_variables("online/") + tf.trainable_variables("target/")
assert len(weights) == 14 and all(v.dtype.name == "float64_ref" for v in weights), weights
gradients = [tf.gradients(tf.sin(y), [x, *tf.trainable_variables("online/")]) for y in (continued, unrolled)]
copy = fused_rnn.copy_variables("online", "target")

with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    whole = session.run(outputs, {x: data})
    pieces = []
    for start in (0, 2, 4):
        piece, nothing = session.run([outputs, update], {x: data[:, start : start + 2]})
        assert nothing is None
        pieces.append(piece)
    session.run(reset_row)
    rows = [[bool(row.any()) for row in part] for part in session.run(tf.nest.flatten(state))]
    session.run(reset)
    feeds = {x: data, steps: [3, 3]}
    found = {
        "outputs": [np.concatenate(pieces, 1), whole],
        "continued": session.run([continued, unrolled], feeds),
        "one step": session.run([continued, unrolled[:, :1] * [[[1.0]], [[0.0]]]], {x: data, steps: [1, -1]}),
    }
    found |= {f"gradient {k}": pair for k, pair in enumerate(zip(*session.run(gradients, feeds)))}
    session.run(copy)
    found |= {v.op.name: session.run([v, w]) for v, w in zip(weights[:7], weights[7:], strict=True)}
print(json.dumps({"rows": rows, "pairs": {n: [a.tolist(), b.tolist()] for n, (a, b) in found.items()}}))
"""


@pytest.mark.drop_in
def test_without_v2_behavior() -> None:
    found = json.loads(run_script(SCRIPT).splitlines()[-1])
    assert found["rows"] == [[True, False]] * 3
    assert len(found["pairs"]) == 3 + 8 + 7
    for name, (ours, expected) in found["pairs"].items():
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12, err_msg=name)
