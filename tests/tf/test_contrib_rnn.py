"""`contrib.rnn`: names, stacks of bidirectional layers, and cells with a layer before or after them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from fused_rnn import contrib
from fused_rnn.contrib import rnn
from tf.cell_runs import waves
from tf.evaluate import Arrays, evaluate
from tf.tensorflow_cells import FUSED, make, quietly

v1 = tf.compat.v1
drop_in = pytest.mark.drop_in  # what depends on the family of cells

B, T, WIDTH, H = 3, 4, 5, 6
RNG = np.random.default_rng(9)
X = RNG.standard_normal((B, T, WIDTH))
LENGTHS = np.array([4, 1, 3], np.int32)


def test_names() -> None:
    assert set(fused_rnn.rnn_cell.__all__) <= set(rnn.__all__)
    for name in rnn.__all__:
        for owner in (fused_rnn.rnn_cell, fused_rnn):
            if name in owner.__all__:
                assert getattr(rnn, name) is getattr(owner, name)
    for name in contrib.__all__:
        assert getattr(contrib, name).__name__ == f"fused_rnn.contrib.{name}"
    with pytest.raises(AttributeError, match=r"tf\.contrib\.slim is not in fused_rnn\.contrib, which has "):
        contrib.slim  # noqa: B018


def layers() -> tuple[list[Any], list[Any]]:
    """Cells of other kinds and sizes in each layer and direction."""
    forward = [make(FUSED, "LSTMCell", H), make(FUSED, "GRUCell", H)]
    return forward, [make(FUSED, "GRUCell", H + 1), make(FUSED, "BasicRNNCell", H)]


def by_hand(x: tf.Tensor, **options: Any) -> list[Any]:
    finals: tuple[list[Any], list[Any]] = ([], [])
    with v1.variable_scope("stack_bidirectional_rnn"):
        for number, cells in enumerate(zip(*layers(), strict=True)):
            with v1.variable_scope(f"cell_{number}"):
                outputs, states = v1.nn.bidirectional_dynamic_rnn(*cells, x, dtype=x.dtype, **options)
            x = tf.concat(outputs, 2)
            for final, state in zip(finals, states, strict=True):
                final.append(state)
    return [x, *finals]


def dynamic(x: tf.Tensor, lengths: Any) -> Any:
    return rnn.stack_bidirectional_dynamic_rnn(*layers(), x, dtype=x.dtype, sequence_length=lengths)


def time_major(x: tf.Tensor, lengths: Any) -> Any:
    outputs, *states = rnn.stack_bidirectional_dynamic_rnn(
        *layers(), tf.transpose(x, [1, 0, 2]), dtype=x.dtype, sequence_length=lengths, time_major=True
    )
    return [tf.transpose(outputs, [1, 0, 2]), *states]


def static(x: tf.Tensor, lengths: Any) -> Any:
    steps = tf.unstack(x, axis=1)
    outputs, *states = rnn.stack_bidirectional_rnn(*layers(), steps, dtype=x.dtype, sequence_length=lengths)
    return [tf.stack(outputs, axis=1), *states]


def expected(x: tf.Tensor, lengths: Any) -> Any:
    return by_hand(x, sequence_length=lengths)


@lru_cache
def evaluated(function: Callable[..., Any]) -> tuple[Arrays, list[str]]:
    names: list[str] = []

    def build(given: dict[str, Any]) -> dict[str, Any]:
        with v1.variable_scope("model", initializer=waves):
            results = tf.nest.flatten(quietly(function, given["x"], given["lengths"]))
        names.extend(variable.op.name for variable in v1.trainable_variables())
        gradients = tf.gradients([tf.sin(y) for y in results], [given["x"], *v1.trainable_variables()])
        return {f"{k}": value for k, value in enumerate([*results, *gradients])}

    return evaluate("graph", build, {"x": X, "lengths": LENGTHS}), names


@pytest.mark.parametrize("function", [dynamic, time_major, static])
def test_stacks(function: Callable[..., Any]) -> None:
    found, names = evaluated(function)
    values, expected_names = evaluated(expected)
    assert len(values) == len(found)
    for name, value in values.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)
    if function is static:  # its layers have one scope less
        expected_names = [name.replace("/bidirectional_rnn/", "/") for name in expected_names]
    assert names == expected_names


def test_initial_states_of_stacks() -> None:
    x = tf.constant(X)
    ones = [tf.ones([B, 6], x.dtype), tf.ones([B, 6], x.dtype)]
    cells = [[make(FUSED, "GRUCell", 6) for _ in range(2)] for _ in range(2)]
    lengths = [0] * B
    _, *states = quietly(rnn.stack_bidirectional_dynamic_rnn, *cells, x, ones, ones, None, lengths)
    for state in tf.nest.flatten(states):
        np.testing.assert_array_equal(state, 1.0)
    assert [len(of_direction) for of_direction in states] == [2, 2]


@pytest.mark.parametrize("function", [rnn.stack_bidirectional_dynamic_rnn, rnn.stack_bidirectional_rnn])
@pytest.mark.parametrize(
    ("forward", "backward", "states", "message"),
    [
        (0, 1, None, "Must specify at least one fw cell"),
        (1, 0, None, "Must specify at least one bw cell"),
        (2, 1, None, "must have the same depth, got 2 and 1"),
        (1, 1, (1,), "initial_states_fw must be a list of state tensors"),
        (1, 1, [1, 1], "initial_states_fw must be a list of state tensors"),
    ],
)
def test_wrong_stacks(
    function: Callable[..., Any], forward: int, backward: int, states: Any, message: str
) -> None:
    cells = [[make(FUSED, "GRUCell", 6)] * count for count in (forward, backward)]
    with pytest.raises(ValueError, match=message):
        function(*cells, tf.constant(X), states)
    with pytest.raises(ValueError, match="cells_bw must be a list of RNNCells"):
        function([1], (1,), tf.constant(X))


@drop_in
def test_projections() -> None:
    """Values, gradients and names; in a loop and called twice."""

    def build(given: dict[str, Any]) -> dict[str, Any]:
        x = given["x"]
        with v1.variable_scope("model", initializer=waves):
            cell = rnn.OutputProjectionWrapper(
                rnn.InputProjectionWrapper(make(FUSED, "GRUCell", H), 2, tf.tanh), 3, tf.sigmoid
            )
            assert cell.output_size == 3
            assert cell.state_size == H
            y, _ = quietly(v1.nn.dynamic_rnn, cell, x, dtype=x.dtype)
            names = [variable.op.name for variable in v1.global_variables()]
            state, outer = cell.zero_state(B, x.dtype), "rnn/output_projection_wrapper"
            with v1.variable_scope(outer, reuse=True):
                again = rnn.OutputProjectionWrapper(
                    rnn.InputProjectionWrapper(make(FUSED, "GRUCell", H), 2, tf.tanh), 3, tf.sigmoid
                )
        with v1.variable_scope("model/rnn", reuse=True):
            bare = []
            for step in tf.unstack(x, axis=1):
                output, state = again(step, state)
                bare.append(output)
        inner = f"model/{outer}/input_projection_wrapper"
        assert set(names) == {
            *(f"model/{outer}/{end}" for end in ("kernel", "bias")),
            *(f"{inner}/{end}" for end in ("kernel", "bias")),
            *(f"{inner}/gru_cell/gates/{end}" for end in ("kernel", "bias")),
            *(f"{inner}/gru_cell/candidate/{end}" for end in ("kernel", "bias")),
        }
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        with v1.variable_scope("model/rnn/output_projection_wrapper/input_projection_wrapper", reuse=True):
            inputs = tf.tanh(tf.tensordot(x, variables[f"{inner}/kernel"], 1) + variables[f"{inner}/bias"])
            cell = make(FUSED, "GRUCell", H)
            h, hs = cell.zero_state(B, x.dtype), []
            for step in tf.unstack(inputs, axis=1):
                h, _ = cell(step, h)
                hs.append(h)
        h = tf.stack(hs, axis=1)
        kernel, bias = (variables[f"model/{outer}/{end}"] for end in ("kernel", "bias"))
        expected = tf.sigmoid(tf.tensordot(h, kernel, 1) + bias)
        sources = [x, *variables.values()]
        results = {"y": y, "bare": tf.stack(bare, axis=1), "expected": expected}
        gradients = {
            f"{name} {k}": gradient
            for name, result in results.items()
            for k, gradient in enumerate(tf.gradients(tf.sin(result), sources))
        }
        return results | gradients

    found = evaluate("graph", build, {"x": X})
    for name in [name for name in found if name.startswith("expected")]:
        for other in ("y", "bare"):
            value = found[name.replace("expected", other)]
            np.testing.assert_allclose(value, found[name], rtol=1e-9, atol=1e-12, err_msg=name)


@drop_in
@pytest.mark.parametrize("shape", [(B,), (B, 1)])
def test_embeddings(shape: tuple[int, ...]) -> None:
    symbols = [[3, 0, 6], [1, 1, 5], [2, 4, 0]]  # of each step

    def build(_: dict[str, Any]) -> dict[str, Any]:
        with v1.variable_scope("model", initializer=waves):
            cell = rnn.EmbeddingWrapper(make(FUSED, "GRUCell", H), 7, WIDTH)
            state = cell.zero_state(B, tf.float64)
            for step in symbols:
                output, state = cell(tf.constant(step, shape=shape), state)
        embedding = next(v for v in v1.global_variables() if "embedding_wrapper/embedding" in v.op.name)
        assert embedding.shape == (7, WIDTH)
        with v1.variable_scope("model/embedding_wrapper", reuse=True):
            inner, h = make(FUSED, "GRUCell", H), tf.zeros([B, H], tf.float64)
            for step in symbols:
                h, _ = inner(tf.gather(embedding, step), h)
        return {"last": output, "expected": h}

    found = evaluate("graph", build, {})
    np.testing.assert_allclose(found["last"], found["expected"], rtol=1e-12)


def test_initial_embeddings() -> None:
    """An initializer of their own before the scope's; without both, variance 1."""

    def build(_: dict[str, Any]) -> dict[str, Any]:
        results = {}
        for name, options in (("own", {"initializer": v1.ones_initializer()}), ("default", {})):
            with v1.variable_scope(name):
                cell = rnn.EmbeddingWrapper(make(FUSED, "LSTMCell", H), 90, 80, **options)
                quietly(cell, tf.zeros([B], tf.int32), cell.zero_state(B, tf.float32))
            results[name] = tf.identity(v1.global_variables(f"{name}/embedding_wrapper/embedding")[0])
        return results

    found = evaluate("graph", build, {})
    np.testing.assert_array_equal(found["own"], 1)
    np.testing.assert_allclose(found["default"].var(), 1, rtol=0.05)
    assert np.abs(found["default"]).max() <= np.sqrt(3)


def test_wrong_wrappers() -> None:
    cell = make(FUSED, "GRUCell", H)
    with pytest.raises(ValueError, match="Both embedding_classes and embedding_size must be > 0: 0, 4"):
        rnn.EmbeddingWrapper(cell, 0, 4)
    with pytest.raises(ValueError, match="Parameter output_size must be > 0: 0"):
        rnn.OutputProjectionWrapper(cell, 0)
    with pytest.raises(TypeError, match="is not an RNNCell"):
        rnn.EmbeddingWrapper(3, 4, 4)
    with pytest.raises(TypeError, match="is not an RNNCell"):
        rnn.InputProjectionWrapper(3, 4)
    with pytest.raises(TypeError, match="is not an RNNCell"):
        rnn.OutputProjectionWrapper(3, 4)
