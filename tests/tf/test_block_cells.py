"""The block cells of contrib: arguments and variables, and values beside TensorFlow's cells of that maths."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close
from tf.compositions import Variables, values
from tf.evaluate import MODES, Arrays, evaluate, with_gradients
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

T, B, I, H = 4, 3, 2, 5  # noqa: E741
LENGTHS = (2, 0, 4)

# As in TensorFlow 1.15.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "LSTMBlockCell": {
        "forget_bias": 1.0,
        "cell_clip": None,
        "use_peephole": False,
        "dtype": None,
        "reuse": None,
        "name": "lstm_cell",
    },
    "GRUBlockCellV2": {"num_units": None, "cell_size": None, "reuse": None, "name": "gru_cell"},
    "LSTMBlockFusedCell": {
        "forget_bias": 1.0,
        "cell_clip": None,
        "use_peephole": False,
        "reuse": None,
        "dtype": None,
        "name": "lstm_fused_cell",
    },
}
FEEDS = {"x": values("x", [T, B, I]), "c": values("c", [B, H]), "h": values("h", [B, H])}
FEEDS |= {f"d_{k}": values(f"d{k}", [B, H] if k else [T, B, H]) for k in range(3)}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    parameters = inspect.signature(getattr(fused_rnn, name)).parameters
    expected = {} if "num_units" in ARGUMENTS[name] else {"num_units": inspect.Parameter.empty}
    expected |= ARGUMENTS[name]
    assert [(p.name, p.default) for p in parameters.values()] == list(expected.items())


def variable_names(call: Any) -> list[str]:
    with tf.Graph().as_default():
        quietly(call, v1.placeholder(tf.float32, [T, B, I]))
        return [variable.name for variable in v1.trainable_variables()]


def test_variables() -> None:
    def of_loop(cell: Cell) -> list[str]:
        return variable_names(lambda x: fused_rnn.dynamic_rnn(cell, x, dtype=tf.float32))

    assert of_loop(fused_rnn.LSTMBlockCell(H)) == ["rnn/lstm_cell/kernel:0", "rnn/lstm_cell/bias:0"]
    assert of_loop(fused_rnn.LSTMBlockCell(H, name="other")) == ["rnn/other/kernel:0", "rnn/other/bias:0"]
    assert of_loop(fused_rnn.GRUBlockCellV2(H)) == [
        "rnn/gru_cell/gates/kernel:0",
        "rnn/gru_cell/gates/bias:0",
        "rnn/gru_cell/candidate/kernel:0",
        "rnn/gru_cell/candidate/bias:0",
    ]


def test_variables_of_the_fused_cell() -> None:
    layers: list[Any] = []

    def call(x: Any) -> None:
        layers.extend(fused_rnn.LSTMBlockFusedCell(H) for _ in range(2))
        for layer in layers:
            layer(x, dtype=tf.float32)
            layer(x, dtype=tf.float32)
        fused_rnn.LSTMBlockFusedCell(H, reuse=True)(x, dtype=tf.float32)
        fused_rnn.LSTMBlockFusedCell(H)(x, dtype=tf.float32, scope="scope")

    assert variable_names(call) == [
        "lstm_fused_cell/kernel:0",
        "lstm_fused_cell/bias:0",
        "lstm_fused_cell_1/kernel:0",
        "lstm_fused_cell_1/bias:0",
        "scope/kernel:0",
        "scope/bias:0",
    ]
    assert [variable.name for variable in layers[0].trainable_weights] == [
        "lstm_fused_cell/kernel:0",
        "lstm_fused_cell/bias:0",
    ]
    assert layers[0].num_units == H


def fused_layer(x: Any, state: Any, forget_bias: float) -> Any:
    layer = fused_rnn.LSTMBlockFusedCell(H, forget_bias, name="lstm_cell")
    return layer(x, initial_state=state, sequence_length=LENGTHS)


def fused_layer_over_a_list(x: Any, state: Any, forget_bias: float) -> Any:
    layer = fused_rnn.LSTMBlockFusedCell(H, forget_bias, name="lstm_cell")
    y, final = layer(tf.unstack(x), state, sequence_length=tf.constant(LENGTHS))
    assert isinstance(y, list)
    return tf.stack(y), final


def block_cell(x: Any, state: Any, forget_bias: float) -> Any:
    cell = fused_rnn.LSTMBlockCell(H, forget_bias)
    state = FUSED.LSTMStateTuple(*state)
    return fused_rnn.dynamic_rnn(cell, x, LENGTHS, state, time_major=True, scope=v1.get_variable_scope())


def block_cell_by_steps(x: Any, state: Any, forget_bias: float) -> Any:
    cell = fused_rnn.LSTMBlockCell(H, forget_bias)
    state = FUSED.LSTMStateTuple(*state)
    return v1.nn.dynamic_rnn(cell, x, LENGTHS, state, time_major=True, scope=v1.get_variable_scope())


def tensorflow_cell(x: Any, state: Any, forget_bias: float) -> Any:
    cell = make(REFERENCE, "LSTMCell", H, forget_bias=forget_bias)
    state = REFERENCE.LSTMStateTuple(*state)
    return v1.nn.dynamic_rnn(cell, x, LENGTHS, state, time_major=True, scope=v1.get_variable_scope())


def gru_block_cell(x: Any, state: Any, _: float) -> Any:
    cell = fused_rnn.GRUBlockCellV2(cell_size=H)
    return fused_rnn.dynamic_rnn(cell, x, LENGTHS, state[1], time_major=True, scope=v1.get_variable_scope())


def tensorflow_gru(x: Any, state: Any, _: float) -> Any:
    cell = make(REFERENCE, "GRUCell", H)
    return v1.nn.dynamic_rnn(cell, x, LENGTHS, state[1], time_major=True, scope=v1.get_variable_scope())


def run(function: Any, mode: str) -> Arrays:
    """Values and gradients; variables by name, in the scope "model"."""
    variables = Variables()

    def build(given: dict[str, Any]) -> dict[str, Any]:
        sources = [given["x"], given["c"], given["h"]]

        def forward() -> list[Any]:
            with v1.variable_scope("model", custom_getter=variables, reuse=v1.AUTO_REUSE):
                y, state = quietly(function, given["x"], (given["c"], given["h"]), 0.25)
            return tf.nest.flatten([y, state])

        gru = "gru" in function.__name__
        d_results = [given["d_0"], given["d_2"]] if gru else [given["d_0"], given["d_1"], given["d_2"]]
        used = [sources[0], sources[2]] if gru else sources
        results, gradients = with_gradients(
            mode, forward, lambda: [*used, *variables.made.values()], d_results, sources
        )
        named = {f"result[{k}]": result for k, result in enumerate(results)}
        names = [f"d_{k}" for k in [*range(len(used)), *variables.made]]
        return named | dict(zip(names, gradients, strict=True))

    return evaluate(mode, build, FEEDS)


@pytest.mark.parametrize("mode", ["graph", "eager"])
@pytest.mark.parametrize("function", [fused_layer, fused_layer_over_a_list, block_cell, block_cell_by_steps])
def test_lstm(function: Any, mode: str) -> None:
    assert_close("float64", run(function, mode), run(tensorflow_cell, mode))


@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_gru(mode: str) -> None:
    assert_close("float64", run(gru_block_cell, mode), run(tensorflow_gru, mode))


@pytest.mark.parametrize("mode", MODES)
def test_zeros_and_all_steps_by_default(mode: str) -> None:
    layers: list[Any] = []

    def build(given: dict[str, Any]) -> dict[str, Any]:
        layers.append(layers[0] if layers else fused_rnn.LSTMBlockFusedCell(H))
        with v1.variable_scope("model", custom_getter=Variables()):
            y, (c, h) = quietly(layers[0], given["x"], dtype=tf.float64)
            kernel, bias = layers[0].variables
            z, _ = fused_rnn.lstm(given["x"], kernel, bias, time_major=True, forget_bias=1.0)
        return {"y": y, "c": c, "h": h, "z": z}

    feeds = {"x": FEEDS["x"]}
    if mode == "function":
        evaluate("eager", build, feeds)
    results = evaluate(mode, build, feeds, static_shapes=False)
    np.testing.assert_array_equal(results["y"], results["z"])
    np.testing.assert_array_equal(results["y"][-1], results["h"])


def test_errors_of_the_fused_cell() -> None:
    x = tf.zeros([T, B, I])
    state = tf.zeros([B, H])
    layer = fused_rnn.LSTMBlockFusedCell(H)
    with pytest.raises(ValueError, match="either initial_state or dtype"):
        layer(x)
    with pytest.raises(ValueError, match="initial_state must be a pair"):
        layer(x, initial_state=(state,))
    with pytest.raises(ValueError, match="inputs must be"):
        layer(x[0], dtype=tf.float32)
    for lengths in ([1, -1, 2], [1, T + 1, 2]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"sequence_length .* row 1"):
            layer(x, dtype=tf.float32, sequence_length=lengths)


def test_errors_of_the_gru_cell() -> None:
    for units in (None, 3):
        with pytest.raises(ValueError, match="exactly one of num_units and cell_size"):
            fused_rnn.GRUBlockCellV2(units, cell_size=units)


def test_a_clip_that_does_not_clip() -> None:
    for clip in (None, 0, -1.0):
        assert fused_rnn.LSTMBlockCell(H, cell_clip=clip).get_config()["cell_clip"] is None


@pytest.mark.parametrize("name", ["LSTMBlockCell", "GRUBlockCellV2"])
def test_a_config_makes_the_same_cell(name: str) -> None:
    cell = getattr(fused_rnn, name)(num_units=H, name="mine")
    config = cell.get_config()
    assert type(cell).from_config(config).get_config() == config
    assert config["num_units"] == H and config["name"] == "mine"
