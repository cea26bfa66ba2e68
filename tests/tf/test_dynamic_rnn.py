"""fused_rnn.dynamic_rnn against tf.compat.v1.nn.dynamic_rnn with TensorFlow's own cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fused_rnn
from cases import DTYPES, Case
from compare import assert_close, assert_same_bits
from tf.cell_runs import (
    Loop,
    expected,
    fused_batch_major_loop,
    fused_loop,
    named,
    of_each_end,
    of_kind,
    run_cell,
    state_as_list,
    state_as_tuple,
    tensorflow_loop,
    variables_as,
    weights_of,
)
from tf.evaluate import MODES, Arrays
from tf.tensorflow_cells import FUSED, KINDS, REFERENCE, make, quietly

v1 = tf.compat.v1
pytestmark = pytest.mark.drop_in
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES)
modes = pytest.mark.parametrize("mode", MODES)

ODD = Case("odd", "", T=5, B=3, I=7, H=17, forget_bias=1.0)
LENGTHS = Case("lengths", "", T=5, B=4, I=3, H=9, lengths=(5, 0, 3, 1), forget_bias=0.3)
SHAPES = (
    ODD,
    LENGTHS,
    Case("one_step", "", T=1, B=3, I=4, H=5, lengths=(1, 0, 1)),
    Case("all_ones", "", T=1, B=1, I=1, H=1),
    Case("one_row", "", T=9, B=1, I=6, H=17, forget_bias=1.0),
)


@kinds
@dtypes
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@pytest.mark.parametrize("loop", [fused_loop, fused_batch_major_loop])
def test_eagerly(kind: str, dtype: str, shape: Case, loop: Loop) -> None:
    case = of_kind(kind, shape)
    results = run_cell(FUSED, kind, loop, case, case.inputs(dtype), "eager")
    assert_close(dtype, results, *expected(kind, case, dtype))


@kinds
@pytest.mark.parametrize("mode", ["graph", "function"])
@pytest.mark.parametrize("static_shapes", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("loop", [fused_loop, fused_batch_major_loop])
def test_in_graphs(kind: str, mode: str, static_shapes: bool, loop: Loop) -> None:
    case = of_kind(kind, LENGTHS)
    for dtype in DTYPES:
        inputs = case.inputs(dtype)
        results = run_cell(FUSED, kind, loop, case, inputs, mode, static_shapes=static_shapes)
        assert_close(dtype, results, *expected(kind, case, dtype))


@kinds
@modes
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8, np.uint16])
def test_lengths_outside_are_clipped(kind: str, mode: str, dtype: Any) -> None:
    """TensorFlow's loop takes a length above T as T and below 0 as 0."""
    case = of_kind(kind, LENGTHS)
    inputs = case.inputs()
    low, high = (0, 9) if dtype == np.uint16 else (-3, 100)
    wild = replace(inputs, lengths=np.array([high, low, 3, 1], dtype))
    results = run_cell(FUSED, kind, fused_loop, case, wild, mode)
    assert_close("float64", results, *expected(kind, case, "float64"))
    if mode == "eager":
        theirs = run_cell(REFERENCE, kind, tensorflow_loop, case, wild, mode)
        assert_close("float64", results, theirs)


@kinds
def test_what_stands_in_the_padding(kind: str) -> None:
    """Unlike in TensorFlow's loop, NaN there reaches no gradient."""
    case = of_kind(kind, LENGTHS)
    inputs = case.inputs()
    x = inputs.x.copy()
    x[inputs.padding()] = np.nan
    clean = run_cell(FUSED, kind, fused_loop, case, inputs, "eager")
    assert_same_bits(run_cell(FUSED, kind, fused_loop, case, replace(inputs, x=x), "eager"), clean)


@kinds
@modes
@pytest.mark.parametrize(("T", "B"), [(0, 2), (3, 0), (0, 0)])
def test_nothing_to_do(kind: str, mode: str, T: int, B: int) -> None:
    case = of_kind(kind, Case("empty", "", T=T, B=B, I=3, H=4, lengths=(0,) * B if T == 0 else None))
    inputs = case.inputs()
    results = run_cell(FUSED, kind, fused_loop, case, inputs, mode)
    assert_close("float64", results, case.reference(inputs))


@kinds
def test_one_op_and_no_loop(kind: str) -> None:
    """The route of a plain fused cell is the sequence op, under TensorFlow's function the step op."""
    for loop, op, whiles in (
        (fused_loop, "FusedRnnSequence", False),
        (tensorflow_loop, "FusedRnnStep", True),
    ):
        with tf.Graph().as_default() as graph:
            cell = make(FUSED, kind, 4)
            quietly(loop, cell, tf.zeros([5, 2, 3]), cell.zero_state(2, tf.float32), None)
            types = [node.op for node in nodes(graph)]
        assert types.count(op) == 1
        assert any("While" in t or "Enter" in t for t in types) == whiles


def nodes(graph: tf.Graph) -> list[Any]:
    """The nodes of a graph and of its functions."""
    definition = graph.as_graph_def()
    return [*definition.node, *(node for f in definition.library.function for node in f.node_def)]


@kinds
def test_static_shapes(kind: str) -> None:
    for shape, time_major in (
        ([2, 5, 3], False),
        ([2, 5, 3], True),
        ([None, 5, 3], False),
        ([None, 5, 3], True),
        ([None, None, 3], False),
    ):
        found = []
        for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
            with tf.Graph().as_default():
                x = v1.placeholder(tf.float32, shape)
                results = quietly(
                    function, make(library, kind, 4), x, dtype=tf.float32, time_major=time_major
                )
                found.append([tensor.shape.as_list() for tensor in tf.nest.flatten(results)])
        assert found[0] == found[1], shape


@kinds
def test_variables_and_scopes(kind: str) -> None:
    """The names of TensorFlow's function; the same cell again shares its variables, a new one may not."""
    found = []
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32, [None, None, 3])
            cell = make(library, kind, 4)
            quietly(function, cell, x, dtype=tf.float32)
            quietly(function, cell, x, dtype=tf.float32)
            quietly(function, make(library, kind, 4), x, dtype=tf.float32, scope="scope")
            with v1.variable_scope("captured") as captured:
                pass
            quietly(function, make(library, kind, 4), x, dtype=tf.float32, scope=captured)
            with pytest.raises(ValueError, match="already exists"):
                quietly(function, make(library, kind, 4), x, dtype=tf.float32)
            with v1.variable_scope("", reuse=True):
                quietly(function, make(library, kind, 4), x, dtype=tf.float32)
            with v1.variable_scope("more", reuse=v1.AUTO_REUSE):
                quietly(function, make(library, kind, 4), x, dtype=tf.float32)
                quietly(function, make(library, kind, 4), x, dtype=tf.float32)
            found.append([v.name for v in v1.global_variables()])
    assert found[0] == found[1]


@kinds
def test_names_after_the_same_cell_in_another_scope(kind: str) -> None:
    """There TensorFlow's scopes begin to number new cells, where they would else refuse them."""
    found = []
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32, [None, None, 3])
            cell = make(library, kind, 4)
            quietly(function, cell, x, dtype=tf.float32)
            quietly(function, cell, x, dtype=tf.float32, scope="elsewhere")
            quietly(function, make(library, kind, 4), x, dtype=tf.float32)
            found.append([v.name for v in v1.global_variables()])
    assert found[0] == found[1]


@kinds
def test_shares_variables_with_the_step_route(kind: str) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = tf.constant(np.linspace(-1, 1, 30).reshape(2, 5, 3))
        cell = make(FUSED, kind, 4)
        one, _ = quietly(v1.nn.dynamic_rnn, cell, x, dtype=tf.float64)
        two, _ = fused_rnn.dynamic_rnn(cell, x, dtype=tf.float64)
        session.run(v1.global_variables_initializer())
        assert len(v1.global_variables()) == len(cell.variables)
        first, second = session.run([one, two])
    assert_close("float64", {"y": second}, {"y": first})


@kinds
def test_positional_arguments(kind: str) -> None:
    x, lengths = tf.ones([2, 5, 3]), [5, 2]
    cell = make(FUSED, kind, 4)
    y, _ = fused_rnn.dynamic_rnn(cell, x, lengths, None, tf.float32, 16, True, False, "scope")
    again, _ = fused_rnn.dynamic_rnn(cell, x, sequence_length=lengths, dtype=tf.float32)
    assert_same_bits({"y": y.numpy()}, {"y": again.numpy()})


@kinds
def test_gradient_of_one_output(kind: str) -> None:
    """tf.gather's gradient comes in as slices, and not as a tensor."""
    for time_major in (True, False):
        x = tf.constant(np.linspace(-1, 1, 30).reshape(5, 2, 3))
        cell = make(FUSED, kind, 4)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            y, _ = fused_rnn.dynamic_rnn(cell, x, dtype=tf.float64, time_major=time_major)
            by_gather, by_slice = tf.gather(y, [1]), y[1:2]
        a, b = (tape.gradient(result, x).numpy() for result in (by_gather, by_slice))
        assert_same_bits({"d_x": a}, {"d_x": b})


def drawn_graph(kind: str) -> Callable[[Case], tuple[Arrays, Arrays]]:
    """One graph with both loops, of unknown batch and time: case -> (fused, TensorFlow's) results."""
    weights = weights_of(of_kind(kind, ODD), of_kind(kind, ODD).inputs())
    states = 2 if KINDS[kind] == "lstm" else 1
    graph = tf.Graph()
    with graph.as_default():
        wide, high = [None, None, ODD.I], [None, ODD.H]
        x, d_y = (v1.placeholder(tf.float64, shape) for shape in (wide, [None, *high]))
        state, d_state = ([v1.placeholder(tf.float64, high) for _ in range(states)] for _ in range(2))
        lengths = v1.placeholder(tf.int32, [None])
        fetches = []
        for name, library, loop in (("a", FUSED, fused_loop), ("b", REFERENCE, tensorflow_loop)):
            cell = make(library, kind, ODD.H)
            with v1.variable_scope(name, custom_getter=variables_as(weights)):
                y, final = quietly(loop, cell, x, state_as_tuple(library, state), lengths)
            results = [y, *state_as_list(final)]
            sources = [x, *of_each_end(cell.variables, weights), *state]
            gradients = tf.gradients(results, sources, grad_ys=[d_y, *d_state])
            fetches.append(named(results, gradients, len(weights) // 2, len(weights) // 2))
        session = v1.Session()
        session.run(v1.global_variables_initializer())

    def run(case: Case) -> tuple[Arrays, Arrays]:
        inputs = case.inputs()
        feeds = {x: inputs.x, d_y: inputs.d_y, lengths: inputs.lengths}
        feeds |= dict(zip(state + d_state, inputs.initial_state + inputs.d_final_state, strict=True))
        return tuple(session.run(fetches, feeds))

    return run


@kinds
def test_any_batch_time_and_lengths(kind: str) -> None:
    run = drawn_graph(kind)

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(T=st.integers(1, 9), B=st.integers(1, 9), seed=st.integers(0, 99), data=st.data())
    def check(T: int, B: int, seed: int, data: st.DataObject) -> None:
        lengths = tuple(data.draw(st.lists(st.integers(-2, T + 2), min_size=B, max_size=B)))
        shape = replace(ODD, T=T, B=B, seed=seed, lengths=lengths)
        ours, theirs = run(replace(of_kind(kind, shape), seed=seed))
        assert_close("float64", ours, theirs)

    check()
