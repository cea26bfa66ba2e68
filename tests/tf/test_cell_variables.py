"""The fused cells in place of TensorFlow's: arguments, variables, states, sharing, configuration."""

from __future__ import annotations

import copy
import inspect
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tf.tensorflow_cells import FUSED, KINDS, LIBRARIES, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in

kinds = pytest.mark.parametrize("kind", KINDS)
I, H = 3, 5  # noqa: E741
X = np.linspace(-1, 1, 4 * I, dtype=np.float32).reshape(4, I)


def call(cell: Cell, x: Any = None, dtype: Any = tf.float32) -> tuple[Any, Any]:
    """One call from a zero state."""
    given = tf.constant(X, dtype) if x is None else x
    return quietly(cell, given, cell.zero_state(4, dtype))


def variables() -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and dtype of every variable of the graph, in order of creation."""
    return [(v.name, tuple(v.shape), v.dtype.name) for v in v1.global_variables()]


def initial_values() -> list[np.ndarray]:
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        return session.run(v1.global_variables())


def in_both(build: Any) -> list[tuple[list[Any], list[Any]]]:
    """build(library) in a graph of its own for each: (variables, initial values), fused ones first."""
    found = []
    for library in (FUSED, REFERENCE):
        with tf.Graph().as_default():
            # Legacy Keras draws the seeds of its initializers from Python's own generator.
            tf.keras.utils.set_random_seed(7)
            quietly(build, library)
            found.append((variables(), initial_values()))
    return found


def assert_same_variables(build: Any) -> list[str]:
    """Returns the names."""
    (ours, our_values), (theirs, their_values) = in_both(build)
    assert ours == theirs
    for (name, _, _), value, expected in zip(ours, our_values, their_values, strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=name)
    assert ours
    return [name for name, _, _ in ours]


@kinds
def test_constructor_signature(kind: str) -> None:
    ours = inspect.signature(getattr(FUSED, kind).__init__).parameters.values()
    theirs = inspect.signature(getattr(REFERENCE, kind).__init__).parameters.values()
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


@kinds
def test_is_an_instance_of_tensorflows_cell(kind: str) -> None:
    cell = getattr(FUSED, kind)(H)
    assert isinstance(cell, getattr(REFERENCE, kind))
    assert isinstance(cell, REFERENCE.RNNCell)
    assert FUSED.LSTMStateTuple is REFERENCE.LSTMStateTuple


@kinds
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.float16, tf.bfloat16], ids=lambda d: d.name)
def test_variables_of_a_bare_call(kind: str, dtype: tf.DType) -> None:
    def build(library: ModuleType) -> None:
        call(make(library, kind, H), dtype=dtype)

    assert_same_variables(build)


@kinds
def test_variables_under_loops_and_scopes(kind: str) -> None:
    """Names number themselves and nest as TensorFlow's do; initial values follow the graph's seed."""

    def build(library: ModuleType) -> None:
        x = v1.placeholder(tf.float32, [None, 6, I])
        v1.nn.dynamic_rnn(make(library, kind, H), x, dtype=tf.float32)
        with v1.variable_scope("outer", initializer=v1.random_uniform_initializer(-0.3, 0.3)):
            v1.nn.dynamic_rnn(make(library, kind, H), x, dtype=tf.float32, scope="inner")
            call(make(library, kind, H))
            call(make(library, kind, H))
        call(make(library, kind, H, name="named"))
        stack = make(REFERENCE, "MultiRNNCell", [make(library, kind, H) for _ in range(2)])
        v1.nn.dynamic_rnn(stack, x, dtype=tf.float32, scope="stack")
        cells = [make(library, kind, H) for _ in range(2)]
        v1.nn.bidirectional_dynamic_rnn(*cells, x, dtype=tf.float32)

    names = assert_same_variables(build)
    ends = ("gates/kernel", "gates/bias") if kind == "GRUCell" else ("kernel", "bias")
    stem = {"BasicRNNCell": "basic_rnn_cell", "BasicLSTMCell": "basic_lstm_cell"}.get(
        kind, kind[:-4].lower() + "_cell"
    )
    for scope in (f"rnn/{stem}", f"outer/inner/{stem}", f"outer/{stem}_1", "named"):
        assert {f"{scope}/{end}:0" for end in ends} <= set(names), scope
    assert f"stack/multi_rnn_cell/cell_1/{stem}/{ends[0]}:0" in names
    assert f"bidirectional_rnn/bw/{stem}/{ends[0]}:0" in names


def test_initializers_of_the_cells() -> None:
    def build(library: ModuleType) -> None:
        uniform = v1.random_uniform_initializer(-0.1, 0.1, seed=3)
        call(make(library, "LSTMCell", H, initializer=uniform))
        call(make(library, "LSTMCell", H, initializer="zeros"))
        call(make(library, "GRUCell", H, kernel_initializer=uniform, bias_initializer=v1.ones_initializer()))
        call(make(library, "GRUCell", H, None, None, "ones", "zeros"))

    assert_same_variables(build)


@kinds
def test_partitioner(kind: str) -> None:
    def build(library: ModuleType) -> None:
        with v1.variable_scope("split", partitioner=v1.fixed_size_partitioner(2)):
            y, _ = call(make(library, kind, H))
        assert y.shape == [4, H]

    assert any("/part_1:0" in name for name in assert_same_variables(build))


@kinds
def test_partitioned_weights_give_the_same_output(kind: str) -> None:
    outputs = []
    for library in (FUSED, REFERENCE):
        with tf.Graph().as_default(), v1.Session() as session:
            tf.keras.utils.set_random_seed(7)
            with v1.variable_scope("split", partitioner=v1.fixed_size_partitioner(2)):
                y, _ = call(make(library, kind, H))
            d_weights = tf.gradients(y, v1.trainable_variables())
            session.run(v1.global_variables_initializer())
            outputs.append(session.run([y, *d_weights]))
    for ours, theirs in zip(*outputs, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@kinds
@pytest.mark.parametrize("resources", [True, False])
def test_kind_of_the_variables(kind: str, resources: bool) -> None:
    with tf.Graph().as_default():
        with v1.variable_scope("model", use_resource=resources):
            cell = make(FUSED, kind, H)
            y, _ = call(cell)
        dtypes = {v.dtype for v in cell.variables}
        assert dtypes == ({tf.float32} if resources else {tf.dtypes.as_dtype("float32_ref")})
        assert y.dtype == tf.float32


@kinds
@pytest.mark.parametrize("library", LIBRARIES)
def test_sharing(kind: str, library: str) -> None:
    """The rules of the variable scopes; TensorFlow's own cell passes the same test."""
    cells = LIBRARIES[library]
    with tf.Graph().as_default():
        with v1.variable_scope("model"):
            first = make(cells, kind, H, name="cell")
            call(first)
            call(first)
        made = len(v1.global_variables())
        assert made == len(first.variables)
        with v1.variable_scope("model"), pytest.raises(ValueError, match="already exists"):
            call(make(cells, kind, H, name="cell"))
        with v1.variable_scope("model"):
            by_argument = make(cells, kind, H, name="cell", reuse=True)
            call(by_argument)
        with v1.variable_scope("model", reuse=True):
            by_scope = make(cells, kind, H, name="cell")
            call(by_scope)
        with v1.variable_scope("model", reuse=v1.AUTO_REUSE):
            call(make(cells, kind, H, name="cell"))
            call(make(cells, kind, H, name="other"))
        assert len(v1.global_variables()) == 2 * made
        for cell in (by_argument, by_scope):
            assert all(a is b for a, b in zip(cell.variables, first.variables, strict=True))
        with v1.variable_scope("model"), pytest.raises(ValueError, match="does not exist"):
            call(make(cells, kind, H, name="new", reuse=True))


@kinds
def test_trainable(kind: str) -> None:
    with tf.Graph().as_default():
        frozen = make(FUSED, kind, H, trainable=False)
        call(frozen)
        assert frozen.variables
        assert not frozen.trainable_variables
        assert not v1.trainable_variables()
        cell = make(FUSED, kind, H)
        call(cell)
        assert cell.trainable_variables == v1.trainable_variables() == cell.variables
        cell.trainable = False
        assert not cell.trainable_variables
        assert cell.weights == cell.variables


@kinds
def test_regularizer_of_the_scope(kind: str) -> None:
    counts = []
    for library in (FUSED, REFERENCE):
        with tf.Graph().as_default():
            with v1.variable_scope("model", regularizer=lambda value: tf.reduce_sum(value)):
                call(make(library, kind, H))
            counts.append(len(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)))
    assert counts[0] == counts[1] > 0


@kinds
@pytest.mark.parametrize("state_is_tuple", [True, False])
def test_state(kind: str, state_is_tuple: bool) -> None:
    options = {"state_is_tuple": state_is_tuple} if "LSTM" in kind else {}
    ours, theirs = (make(library, kind, H, **options) for library in (FUSED, REFERENCE))
    assert ours.state_size == theirs.state_size
    assert ours.output_size == theirs.output_size == H
    for ask in (
        lambda cell: cell.zero_state(4, tf.float64),
        lambda cell: cell.get_initial_state(batch_size=4, dtype=tf.float64),
        lambda cell: cell.get_initial_state(inputs=tf.constant(X, tf.float64)),
        lambda cell: call(cell)[1],
    ):
        a, b = ask(ours), ask(theirs)
        tf.nest.assert_same_structure(a, b)
        assert type(a) is type(b)
        for mine, other in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True):
            assert (mine.shape, mine.dtype) == (other.shape, other.dtype)


@kinds
def test_configuration(kind: str) -> None:
    ours, theirs = (make(library, kind, H, name="cell") for library in (FUSED, REFERENCE))
    call(ours)
    call(theirs)
    assert ours.get_config() == theirs.get_config()
    again = quietly(type(ours).from_config, ours.get_config())
    assert again.get_config() == ours.get_config()
    assert type(again) is type(ours)
    from_theirs = quietly(type(ours).from_config, theirs.get_config())
    assert from_theirs.state_size == theirs.state_size


@kinds
def test_a_copy_is_a_cell_of_its_own(kind: str) -> None:
    with tf.Graph().as_default():
        cell = make(FUSED, kind, H)
        other = copy.deepcopy(cell)
        call(cell)
        call(other)
        assert len(v1.global_variables()) == 2 * len(cell.variables)


@kinds
def test_dtype_comes_from_the_first_input(kind: str) -> None:
    for library in (FUSED, REFERENCE):
        cell = make(library, kind, H)
        call(cell, dtype=tf.float64)
        assert {v.dtype for v in cell.variables} == {tf.float64}


@kinds
def test_no_advice_to_leave(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """TensorFlow's cells are deprecated; the fused ones are not."""
    tf.get_logger().propagate = True
    tf.get_logger().setLevel("WARNING")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cell = getattr(FUSED, kind)(H)
            cell.zero_state(4, tf.float32)
            cell(tf.constant(X), cell.zero_state(4, tf.float32))
            FUSED.LSTMStateTuple(1, 2)
    finally:
        tf.get_logger().setLevel("ERROR")
        tf.get_logger().propagate = False
    assert not caplog.records
