"""Saved models with the ops in a fresh process: the error without the library, runs, state, training on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import fused_rnn
from tf.scripts import run_script
from tf.tensorflow_cells import FUSED, REFERENCE, make, quietly

v1 = tf.compat.v1

B, T, H = 2, 5, 4
X = np.random.default_rng(6).standard_normal((B, T, H))


def stack() -> Any:
    return make(REFERENCE, "MultiRNNCell", [make(FUSED, "LSTMCell", H), make(FUSED, "GRUCell", H)])


class Model(tf.Module):
    """Keeps its state from call to call, and can be trained on after it was loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.gru = stack(), make(FUSED, "GRUCell", H)
        self.state = fused_rnn.get_state_variables(B, self.cell, tf.float64)
        self.network(tf.constant(X), None)
        self.weights = list(self.trainable_variables)

    def network(self, x: Any, state: Any) -> tuple[Any, Any]:
        y, state = quietly(fused_rnn.dynamic_rnn, self.cell, x, initial_state=state, dtype=tf.float64)
        return fused_rnn.dynamic_rnn(self.gru, y, dtype=tf.float64, scope="last")[0], state

    @tf.function(input_signature=[tf.TensorSpec([B, None, H], tf.float64)])
    def piece(self, x: Any) -> Any:
        y, new_state = self.network(x, self.state)
        fused_rnn.get_state_update_op(self.state, new_state)
        return y

    @tf.function(input_signature=[])
    def reset(self) -> None:
        fused_rnn.get_state_reset_op(self.state, self.cell, B)

    @tf.function(input_signature=[tf.TensorSpec([None, None, H], tf.float64)])
    def loss(self, x: Any) -> Any:
        return tf.reduce_mean(tf.square(self.network(x, None)[0] - x))

    @tf.function(input_signature=[tf.TensorSpec([None, None, H], tf.float64)])
    def train(self, x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.loss(x)
        gradients = tape.gradient(loss, list(self.weights))
        for weight, gradient in zip(self.weights, gradients, strict=True):
            weight.assign_sub(0.5 * gradient)
        return loss


def use(model: Any) -> dict[str, Any]:
    """What is seen of a model: gradients asked of it, pieces of a sequence, training inside and outside."""
    x = tf.constant(X)
    found = {"rest": model.piece(x[:, 2:])}
    model.reset()
    found["first"] = model.piece(x[:, :2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = model.loss(x)
    found["d_x"], *gradients = tape.gradient(loss, [x, *model.weights])
    for weight, gradient in zip(model.weights, gradients, strict=True):
        weight.assign_sub(0.5 * gradient)
    found["losses"] = tf.stack([loss, model.train(x), model.train(x)])
    return {name: value.numpy().tolist() for name, value in found.items()}


def save_graph(path: str) -> list[float]:
    """A v1 model, its training op included: the losses of its next steps."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        v1.set_random_seed(3)
        x = v1.placeholder(tf.float64, [None, None, H], name="x")
        y, _ = quietly(fused_rnn.dynamic_rnn, stack(), x, dtype=tf.float64)
        y, _ = fused_rnn.dynamic_rnn(make(FUSED, "GRUCell", H), y, dtype=y.dtype, scope="last")
        loss = tf.reduce_mean(tf.square(y - x))
        train = v1.train.AdamOptimizer(0.001).minimize(loss, name="train")
        session.run(v1.global_variables_initializer())
        session.run(train, {x: X})
        quietly(v1.saved_model.simple_save, session, path, {"x": x}, {"loss": loss})
        assert any(op.type == "FusedRnnSequenceGrad" for op in graph.get_operations())
        return [session.run([loss, train], {x: X})[0] for _ in range(3)]


SCRIPT = """
import json
import tensorflow as tf

v1 = tf.compat.v1
paths = {paths!r}
loss = ""


def run_graph():
    global loss
    with tf.Graph().as_default(), v1.Session() as session:
        model = v1.saved_model.load(session, [v1.saved_model.SERVING], paths["v1"])
        loss = model.signature_def["serving_default"].outputs["loss"].name
        return [session.run([loss, "train"], {{"x:0": {x!r}}})[0] for _ in range(3)]


errors = []
for load in (lambda: tf.saved_model.load(paths["v2"]), run_graph):
    try:
        load()
    except Exception as error:
        errors.append(str(error))

from tf.test_checkpoints_saved_models import use  # imports fused_rnn

found = {{"errors": errors, "v2": use(tf.saved_model.load(paths["v2"])), "v1": run_graph()}}
print(json.dumps(found))
"""


def test_saved_models(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / name) for name in ("v1", "v2")}
    model = Model()
    model.piece(tf.constant(X[:, :2]))
    tf.saved_model.save(model, paths["v2"])
    expected, losses = use(model), save_graph(paths["v1"])
    found = json.loads(run_script(SCRIPT.format(paths=paths, x=X.tolist())).splitlines()[-1])
    # The README names the mend, `import fused_rnn`, beside this message: there is nothing else of ours in it.
    assert len(found["errors"]) == 2
    for error in found["errors"]:
        assert "Op type not registered 'FusedRnn" in error
    assert set(found["v2"]) == set(expected) == {"rest", "first", "d_x", "losses"}
    for name, value in expected.items():
        np.testing.assert_allclose(found["v2"][name], value, rtol=1e-12, atol=1e-15, err_msg=name)
    np.testing.assert_allclose(found["v1"], losses, rtol=1e-12)
    for falling in (expected["losses"], losses):
        assert falling[0] > falling[1] > falling[2]
