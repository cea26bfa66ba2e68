"""fused_rnn.explain: a line for each layer, which tells the route that dynamic_rnn then takes."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import tensorflow as tf

import fused_rnn
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in


def lstm(**options: Any) -> Cell:
    return make(FUSED, "LSTMCell", 4, **options)


def wrap(wrapper: str, cell: Cell, *args: Any, **options: Any) -> Cell:
    return make(FUSED, wrapper, cell, *args, **options)


def stack(*cells: Cell) -> Cell:
    return make(FUSED, "MultiRNNCell", list(cells))


def own() -> Cell:
    class OwnCell(FUSED.LSTMCell):  # type: ignore[name-defined]
        def call(self, inputs: Any, state: Any) -> Any:
            return super().call(2 * inputs, state)

    return OwnCell(4)


def test_one_cell(capsys: pytest.CaptureFixture[str]) -> None:
    text = fused_rnn.explain(lstm())
    assert text == "LSTMCell(4): whole sequence in one op"
    assert capsys.readouterr().out == text + "\n"


def test_a_line_for_each_layer() -> None:
    layers = stack(
        wrap("DropoutWrapper", wrap("ResidualWrapper", lstm()), 0.5),
        make(REFERENCE, "GRUCell", 4),
        wrap("ResidualWrapper", wrap("DropoutWrapper", lstm(state_is_tuple=False), state_keep_prob=0.25)),
        stack(lstm(), own()),
        wrap("ResidualWrapper", lstm(), lambda inputs, outputs: inputs - outputs),
    )
    assert fused_rnn.explain(wrap("DeviceWrapper", layers, "/CPU:0")).splitlines() == [
        "cell_0: DropoutWrapper(ResidualWrapper(LSTMCell(4))): whole sequence in one op",
        "cell_1: GRUCell: step by step: GRUCell is not a cell of fused_rnn",
        "cell_2: ResidualWrapper(DropoutWrapper(LSTMCell(4))): step by step, each in one op: "
        "DropoutWrapper has state_keep_prob=0.25",
        "cell_3/cell_0: LSTMCell(4): whole sequence in one op",
        "cell_3/cell_1: OwnCell: step by step: OwnCell has a call of its own",
        "cell_4: ResidualWrapper(LSTMCell(4)): whole sequence in one op; "
        "its residual_fn is called once a step",
    ]


def test_what_speaks_against_a_whole_stack() -> None:
    lines = fused_rnn.explain(wrap("DropoutWrapper", stack(lstm(), own()), state_keep_prob=0.5)).splitlines()
    why = "DropoutWrapper has state_keep_prob=0.5"
    assert lines == [
        f"cell_0: LSTMCell(4): step by step, each in one op: {why}",
        f"cell_1: OwnCell: step by step: {why}",
    ]


def test_a_keep_prob_that_is_a_tensor() -> None:
    with tf.Graph().as_default():
        keep = v1.placeholder(tf.float32, [])
        assert "whole" in fused_rnn.explain(wrap("DropoutWrapper", lstm(), keep, keep, keep))
        text = fused_rnn.explain(wrap("DropoutWrapper", lstm(state_is_tuple=False), state_keep_prob=keep))
        assert text.endswith("DropoutWrapper has a state_keep_prob")


@pytest.mark.parametrize("cell", ["cell", None, 3, FUSED, FUSED.LSTMCell])
def test_what_is_no_cell(cell: Any) -> None:
    with pytest.raises(TypeError, match="cell must be an RNNCell"):
        fused_rnn.explain(cell)


def test_the_namespace() -> None:
    """rnn_cell has every name that tf.compat.v1.nn.rnn_cell has in TensorFlow's documentation."""
    names = {
        "BasicLSTMCell",
        "BasicRNNCell",
        "DeviceWrapper",
        "DropoutWrapper",
        "GRUCell",
        "LSTMCell",
        "LSTMStateTuple",
        "MultiRNNCell",
        "RNNCell",
        "ResidualWrapper",
    }
    assert set(FUSED.__all__) == names
    for name in names:
        ours, theirs = getattr(FUSED, name), getattr(REFERENCE, name)
        assert issubclass(ours, theirs), name
    for name in ("RNNCell", "LSTMStateTuple", "MultiRNNCell", "DropoutWrapper"):
        assert getattr(FUSED, name) is getattr(REFERENCE, name)
    assert isinstance(lstm(), FUSED.RNNCell)


def test_a_filter_that_has_no_name() -> None:
    cell = wrap("DropoutWrapper", lstm(), state_keep_prob=0.5, dropout_state_filter_visitor=partial(bool))
    assert fused_rnn.explain(cell).endswith("DropoutWrapper has state_keep_prob=0.5")
