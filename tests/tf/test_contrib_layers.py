"""`contrib.layers`: values, names and collections of a dense layer, and its initial values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fused_rnn.contrib.layers import fully_connected, xavier_initializer
from tf.cell_runs import waves

v1 = tf.compat.v1
X = np.random.default_rng(8).standard_normal((3, 4, 5))


def run(*fetches: Any) -> list[Any]:
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        return session.run(list(fetches))


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


@pytest.mark.parametrize("x", [X[0], X], ids=["matrix", "sequence"])
def test_values(x: np.ndarray) -> None:
    y = fully_connected(x, 2, biases_initializer=v1.constant_initializer(0.3))
    linear = fully_connected(x, 2, activation_fn=None, reuse=True, scope="fully_connected")
    weights, biases = v1.trainable_variables()
    assert [weights.op.name, biases.op.name] == ["fully_connected/weights", "fully_connected/biases"]
    assert weights.dtype.base_dtype == tf.float64
    assert y.shape == (*x.shape[:-1], 2)
    found, found_linear, w, b = run(y, linear, weights, biases)
    np.testing.assert_allclose(found_linear, x @ w + b, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found, np.maximum(x @ w + b, 0), rtol=1e-12, atol=1e-12)
    assert (found_linear < 0).any()


def test_by_default() -> None:
    """Xavier's initial weights, zero biases."""
    fully_connected(tf.zeros([2, 300]), 100)
    weights, biases = run(*v1.trainable_variables())
    bound = np.sqrt(6 / 400)
    assert 0.99 * bound < np.abs(weights).max() <= bound
    np.testing.assert_allclose(weights.std(), bound / np.sqrt(3), rtol=0.02)
    assert not biases.any()


def test_scopes() -> None:
    with v1.variable_scope("net"):
        fully_connected(X, 2)
        fully_connected(X, 3)
        fully_connected(X, 3, scope="named")
    names = [variable.op.name for variable in v1.global_variables()]
    scopes = ("fully_connected", "fully_connected_1", "named")
    assert names == [f"net/{scope}/{name}" for scope in scopes for name in ("weights", "biases")]
    with pytest.raises(ValueError, match="already exists"):
        fully_connected(X, 3, scope="net/named")
    with pytest.raises(ValueError, match="does not exist"):
        fully_connected(X, 3, scope="other", reuse=True)


def test_initializers() -> None:
    """None for the weights means that of the scope, None for the biases no biases."""
    with v1.variable_scope("net", initializer=waves):
        fully_connected(X, 2, weights_initializer=None, biases_initializer=None)
    (weights,) = v1.global_variables()
    np.testing.assert_allclose(run(weights)[0], run(waves([5, 2], tf.float64))[0])


def test_normalizer() -> None:
    """In the place of the biases."""

    def normalizer(inputs: tf.Tensor, offset: float) -> tf.Tensor:
        return tf.math.l2_normalize(inputs, -1) + offset

    options: dict[str, Any] = {"normalizer_fn": normalizer, "normalizer_params": {"offset": 2.0}}
    y = fully_connected(X, 2, activation_fn=None, **options)
    (weights,) = v1.global_variables()
    found, w = run(y, weights)
    product = X @ w
    norms = np.linalg.norm(product, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, product / norms + 2, rtol=1e-6)


def test_collections() -> None:
    def half_square(value: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(value**2) / 2

    y = fully_connected(
        X,
        2,
        weights_regularizer=half_square,
        variables_collections=["mine"],
        outputs_collections="outputs",
        trainable=False,
    )
    weights, biases = v1.global_variables()
    assert not v1.trainable_variables()
    assert v1.get_collection("mine") == [weights, biases]
    assert v1.get_collection(v1.GraphKeys.MODEL_VARIABLES) == [weights, biases]
    assert v1.get_collection("outputs") == [y]
    (loss,) = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
    found, w = run(loss, weights)
    np.testing.assert_allclose(found, (w**2).sum() / 2)
    fully_connected(X, 2, biases_regularizer=half_square, variables_collections={"biases": ["b"]})
    assert v1.get_collection("b") == v1.global_variables()[-1:]
    assert len(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)) == 2


@pytest.mark.parametrize("outputs", [2.0, "2", None, tf.constant(2)])
def test_wrong_number_of_outputs(outputs: Any) -> None:
    with pytest.raises(ValueError, match="num_outputs type should be int"):
        fully_connected(X, outputs)


def test_wrong_inputs() -> None:
    with pytest.raises(ValueError, match=r"inputs must be \[..., I\], of rank 2 or more, got shape \(4,\)"):
        fully_connected(X[0, :, 0], 2)
    with pytest.raises(ValueError, match=r"The last axis of the inputs must be known, got shape \(3, None\)"):
        fully_connected(v1.placeholder(tf.float32, [3, None]), 2)


@pytest.mark.parametrize(("shape", "fans"), [((200, 300), 500), ((5, 8, 20, 30), 40 * 50), ((900,), 1800)])
def test_xavier_initializer(shape: tuple[int, ...], fans: int) -> None:
    uniform, same, other, normal = run(
        xavier_initializer(seed=1)(shape, tf.float64),
        xavier_initializer(seed=1)(shape, tf.float64),
        xavier_initializer(seed=2)(shape, tf.float64),
        xavier_initializer(uniform=False, dtype=tf.float64)(shape),
    )
    bound = np.sqrt(6 / fans)
    assert 0.99 * bound < np.abs(uniform).max() <= bound
    np.testing.assert_array_equal(uniform, same)
    assert not np.array_equal(uniform, other)
    bound = 2 * np.sqrt(2.6 / fans)
    assert 0.97 * bound < np.abs(normal).max() <= bound
    np.testing.assert_allclose(normal.std(), np.sqrt(2.6 / fans) * 0.8796, rtol=0.08)
    assert normal.dtype == np.float64


def test_xavier_initializer_of_integers() -> None:
    with pytest.raises(TypeError, match="non-floating point type"):
        xavier_initializer(dtype=tf.int32)
