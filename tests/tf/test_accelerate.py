"""`accelerate()`: what TensorFlow's names stand for while it lasts, and after it; the numbers stay."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from fused_rnn.rnn_cell import FusedCell
from tf.cell_runs import waves
from tf.evaluate import Arrays, evaluate
from tf.scripts import run_script
from tf.tensorflow_cells import LEGACY_KERAS, REFERENCE, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

LOOPS = (
    "dynamic_rnn",
    "bidirectional_dynamic_rnn",
    "static_rnn",
    "raw_rnn",
    "static_state_saving_rnn",
    "static_bidirectional_rnn",
)
CELLS = (
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
)
# Every place where a program finds the loops and the cells.
LOOP_PLACES: dict[str, Callable[[], Any]] = {
    "tf.compat.v1.nn": lambda: tf.compat.v1.nn,
    "tf.compat.v1.compat.v1.nn": lambda: tf.compat.v1.compat.v1.nn,
    "import tensorflow.compat.v1": lambda: importlib.import_module("tensorflow.compat.v1").nn,
    "import tensorflow.compat.v1.nn": lambda: importlib.import_module("tensorflow.compat.v1.nn"),
    "tensorflow.python.ops.rnn": lambda: importlib.import_module("tensorflow.python.ops.rnn"),
}
CELL_PLACES: dict[str, Callable[[], Any]] = {
    "tf.compat.v1.nn.rnn_cell": lambda: tf.compat.v1.nn.rnn_cell,
    "tf.compat.v1.compat.v1.nn.rnn_cell": lambda: tf.compat.v1.compat.v1.nn.rnn_cell,
    "import tensorflow.compat.v1.nn": lambda: importlib.import_module("tensorflow.compat.v1.nn").rnn_cell,
    "import ...nn.rnn_cell": lambda: importlib.import_module("tensorflow.compat.v1.nn.rnn_cell"),
    "tensorflow.python.ops.rnn_cell": lambda: importlib.import_module("tensorflow.python.ops.rnn_cell"),
    "tensorflow.python.ops.rnn_cell_impl": lambda: importlib.import_module(
        "tensorflow.python.ops.rnn_cell_impl"
    ),
}


def test_what_the_names_stand_for() -> None:
    with fused_rnn.accelerate():
        for place, find in LOOP_PLACES.items():
            for name in LOOPS:
                assert getattr(find(), name) is getattr(fused_rnn, name), f"{place}.{name}"
        for place, find in CELL_PLACES.items():
            for name in CELLS:
                assert getattr(find(), name) is getattr(fused_rnn.rnn_cell, name), f"{place}.{name}"


def found_now() -> dict[str, Any]:
    """What the names stand for, where looking at them imports nothing; and which modules there are."""
    now: dict[str, Any] = {f"nn.{name}": getattr(tf.compat.v1.nn, name) for name in LOOPS}
    now |= {f"rnn.{name}": getattr(LOOP_PLACES["tensorflow.python.ops.rnn"](), name) for name in LOOPS}
    for name in CELLS:
        now[f"nn.rnn_cell.{name}"] = getattr(tf.compat.v1.nn.rnn_cell, name, "not available")
        now[f"rnn_cell.{name}"] = getattr(CELL_PLACES["tensorflow.python.ops.rnn_cell"](), name)
    now["modules"] = sorted(name for name in sys.modules if name.startswith("tensorflow.compat.v1.nn"))
    return now


def test_it_undoes_itself() -> None:
    importlib.import_module("tensorflow.compat.v1")
    before = found_now()
    assert before["nn.rnn_cell.LSTMCell"] is (REFERENCE.LSTMCell if LEGACY_KERAS else "not available")
    with fused_rnn.accelerate():
        assert found_now() != before
        importlib.import_module("tensorflow.compat.v1.nn.rnn_cell")
    assert found_now() == before


def test_it_undoes_itself_after_an_error() -> None:
    before = found_now()
    with pytest.raises(KeyError), fused_rnn.accelerate():
        raise KeyError
    assert found_now() == before


def test_nested() -> None:
    """The outermost puts the names in place, whoever ends last takes them back."""
    before = tf.compat.v1.nn.dynamic_rnn
    first, second = fused_rnn.accelerate(), fused_rnn.accelerate()
    with first:
        with fused_rnn.accelerate():
            pass
        assert tf.compat.v1.nn.dynamic_rnn is fused_rnn.dynamic_rnn
    assert tf.compat.v1.nn.dynamic_rnn is fused_rnn.dynamic_rnn
    with second:
        pass
    assert tf.compat.v1.nn.dynamic_rnn is before
    with first:  # again
        assert tf.compat.v1.nn.dynamic_rnn is fused_rnn.dynamic_rnn
    assert tf.compat.v1.nn.dynamic_rnn is before


def test_modules_that_a_program_holds_already() -> None:
    nn, cells = tf.compat.v1.nn, tf.compat.v1.nn.rnn_cell
    with fused_rnn.accelerate():
        assert nn.dynamic_rnn is fused_rnn.dynamic_rnn
        assert cells.LSTMCell is nn.rnn_cell.LSTMCell is fused_rnn.rnn_cell.LSTMCell
    assert getattr(cells, "LSTMCell", None) is (REFERENCE.LSTMCell if LEGACY_KERAS else None)


RNG = np.random.default_rng(6)
X = RNG.standard_normal((3, 5, 4))
LENGTHS = np.array([5, 0, 2], np.int32)


def network(cells: Any, nn: Any, x: tf.Tensor, lengths: tf.Tensor) -> list[tf.Tensor]:
    """Every loop, over every cell."""
    outputs = []
    steps = tf.unstack(x, axis=1)

    def raw(time: Any, output: Any, state: Any, _: Any) -> tuple[Any, ...]:
        state = tf.zeros([3, 6], x.dtype) if output is None else state
        return time >= [4, 1, 2], steps[0] if output is None else steps[1], state, output, None

    y, state = nn.dynamic_rnn(
        cells.MultiRNNCell([cells.LSTMCell(6), cells.GRUCell(6)]), x, lengths, dtype=x.dtype
    )
    outputs += [y, state[0].c]
    (forward, backward), _ = nn.bidirectional_dynamic_rnn(
        cells.ResidualWrapper(cells.BasicLSTMCell(4)), cells.BasicRNNCell(6), x, lengths, dtype=x.dtype
    )
    outputs += [forward, backward]
    y, _ = nn.static_rnn(cells.GRUCell(6), steps, dtype=x.dtype, sequence_length=lengths, scope="static")
    outputs.append(tf.stack(y))
    y, *_ = nn.static_bidirectional_rnn(
        cells.LSTMCell(6), cells.GRUCell(5), steps, dtype=x.dtype, scope="both"
    )
    outputs.append(tf.stack(y))
    y, _, _ = nn.raw_rnn(cells.GRUCell(6), raw, scope="raw")
    outputs.append(y.stack())
    y, _ = cells.DropoutWrapper(cells.LSTMCell(6), output_keep_prob=0.5, seed=1)(
        steps[0], cells.LSTMStateTuple(tf.ones([3, 6], x.dtype), tf.ones([3, 6], x.dtype))
    )
    outputs.append(y)
    return outputs


def evaluated(cells: Callable[[], Any]) -> tuple[Arrays, list[str]]:
    names: list[str] = []

    def build(given: dict[str, Any]) -> dict[str, Any]:
        with v1.variable_scope("model", initializer=waves):
            outputs = quietly(network, cells(), tf.compat.v1.nn, given["x"], given["lengths"])
        names.extend(variable.name for variable in v1.trainable_variables())
        gradients = tf.gradients([tf.sin(y) for y in outputs], [given["x"], *v1.trainable_variables()])
        return {f"{k}": value for k, value in enumerate([*outputs, *gradients])}

    return evaluate("graph", build, {"x": X, "lengths": LENGTHS}), names


def test_numbers_and_names() -> None:
    expected, expected_names = evaluated(lambda: REFERENCE)
    with fused_rnn.accelerate():
        found, found_names = evaluated(lambda: tf.compat.v1.nn.rnn_cell)
    assert found_names == expected_names
    assert len(found_names) > 20
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_cells_of_a_program() -> None:
    """They subclass what the names stand for, and run in TensorFlow's own loop."""
    with fused_rnn.accelerate():

        class Sum(tf.compat.v1.nn.rnn_cell.RNNCell):
            state_size = output_size = 4

            def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
                return inputs + state, inputs + state

        class Twice(tf.compat.v1.nn.rnn_cell.GRUCell):
            def call(self, inputs: Any, state: Any) -> tuple[Any, Any]:
                outputs, state = super().call(inputs, state)
                return 2 * outputs, state

        def build(given: dict[str, Any]) -> dict[str, Any]:
            with v1.variable_scope("model", initializer=waves):
                y, _ = quietly(tf.compat.v1.nn.dynamic_rnn, Sum(), given["x"], dtype=tf.float64)
                once, _ = quietly(
                    tf.compat.v1.nn.dynamic_rnn,
                    tf.compat.v1.nn.rnn_cell.GRUCell(4, name="cell"),
                    given["x"],
                    dtype=tf.float64,
                )
            with v1.variable_scope("model", reuse=True):
                twice, _ = quietly(
                    tf.compat.v1.nn.dynamic_rnn, Twice(4, name="cell"), given["x"], dtype=tf.float64
                )
            return {"sum": y, "once": once, "twice": twice}

        assert issubclass(Twice, FusedCell)
        found = evaluate("graph", build, {"x": X})
    np.testing.assert_allclose(found["sum"], np.cumsum(X, axis=1), rtol=1e-12)
    np.testing.assert_allclose(found["twice"], 2 * found["once"], rtol=1e-12)


IMPORTED_LATER = """
import fused_rnn
import tensorflow as tf

held = tf.compat.v1.nn.rnn_cell
fused_rnn.accelerate()
cell = fused_rnn.rnn_cell.LSTMCell
assert tf.compat.v1.nn.rnn_cell.LSTMCell is held.LSTMCell is cell
import tensorflow.compat.v1 as v1
assert v1.nn.rnn_cell.LSTMCell is tf.compat.v1.nn.rnn_cell.LSTMCell is cell
from tensorflow.compat.v1.nn import rnn_cell
assert rnn_cell.LSTMCell is tf.compat.v1.nn.rnn_cell.LSTMCell is cell
import tensorflow.compat.v1.nn.rnn_cell as again
assert again.LSTMCell is v1.nn.rnn_cell.LSTMCell is tf.compat.v1.nn.rnn_cell.LSTMCell is cell
from tensorflow.python.ops import rnn, rnn_cell
assert rnn_cell.LSTMCell is cell
assert rnn.dynamic_rnn is v1.nn.dynamic_rnn is tf.compat.v1.nn.dynamic_rnn is fused_rnn.dynamic_rnn
"""


def test_imports_after_it() -> None:
    """In a process that has imported none of this: importing rnn_cell puts TensorFlow's own in its place."""
    run_script(IMPORTED_LATER)
