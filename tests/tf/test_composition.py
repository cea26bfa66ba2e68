"""Stacks and wrappers on the sequence route: what is in the graph, names, padding, steps of users' own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from compare import assert_close, assert_same_bits
from tf.compositions import (
    LOOPS,
    TENSORFLOW_LOOPS,
    WRAPPED,
    B,
    H,
    Maker,
    T,
    Variables,
    expected,
    run,
    values,
)
from tf.evaluate import Arrays
from tf.tensorflow_cells import FUSED, REFERENCE, Cell, make, quietly

v1 = tf.compat.v1
drop_in = pytest.mark.drop_in

WHOLE = [name for name in WRAPPED if name not in ("foreign", "filtered_dropout")]
LAYERS = {"stack": 2, "state_dropout": 2, "deep": 5}  # 1 in all others


def graph_of(library: Any, wrapped: str, loop: Callable[..., Any], directions: str) -> tf.Graph:
    """A graph of the composition with two placeholders and no gradients."""
    with tf.Graph().as_default() as graph, v1.variable_scope("model"):
        x = v1.placeholder(tf.float32, [B, T, H])
        maker = Maker(library, "LSTMCell", "float32")
        cells = [WRAPPED[wrapped](maker) for _ in range(2 if directions == "both" else 1)]
        states = [cell.zero_state(B, tf.float32) for cell in cells]
        quietly(loop, cells, x, states, v1.placeholder(tf.int32, [B]))
    return graph


def ops_of(graph: tf.Graph) -> Counter[str]:
    """How many of each op there are, in functions too."""
    definition = graph.as_graph_def()
    functions = [node.op for f in definition.library.function for node in f.node_def]
    return Counter([*(node.op for node in definition.node), *functions])


@pytest.mark.parametrize("wrapped", WHOLE)
def test_one_op_a_layer_and_nothing_reversed(wrapped: str) -> None:
    for directions, loops in LOOPS.items():
        for name, loop in loops.items():
            ops = ops_of(graph_of(FUSED, wrapped, loop, directions))
            in_two_ops = directions == "both" and wrapped != "alone"  # which share one, without a wrapper
            layers = LAYERS.get(wrapped, 1) * (2 if in_two_ops else 1)
            assert ops["FusedRnnSequence"] == layers, name
            unwanted = {op for op in ops if "Reverse" in op or op == "FusedRnnStep"}
            if wrapped not in ("residual_fn", "deep"):  # theirs is a loop around the function
                unwanted |= {op for op in ops if "While" in op or op == "Enter"}
            assert not unwanted, name


def test_a_layer_that_must_step_leaves_the_others_whole() -> None:
    """A foreign cell between two fused ones, and dropout on all of the state of the second of two layers."""
    for wrapped, whole, steps in (("foreign", 2, 0), ("filtered_dropout", 1, 1)):
        ops = ops_of(graph_of(FUSED, wrapped, LOOPS["forward"]["dynamic"], "forward"))
        assert (ops["FusedRnnSequence"], ops["FusedRnnStep"]) == (whole, steps)
        assert ops["While"] + ops["StatelessWhile"] == 1
        ops = ops_of(graph_of(FUSED, wrapped, LOOPS["forward"]["static"], "forward"))
        assert (ops["FusedRnnSequence"], ops["FusedRnnStep"]) == (whole, steps * T)
        assert ops["While"] + ops["StatelessWhile"] == 0


@drop_in
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_names_of_variables(wrapped: str) -> None:
    for directions, loops in LOOPS.items():
        theirs = variables_of(graph_of(REFERENCE, wrapped, TENSORFLOW_LOOPS[directions], directions))
        for name in ("dynamic", "static"):
            assert variables_of(graph_of(FUSED, wrapped, loops[name], directions)) == theirs, name


def variables_of(graph: tf.Graph) -> list[tuple[str, bool]]:
    """The names in the order of creation, and whether each is trainable."""
    with graph.as_default():
        trainable = {variable.name for variable in v1.trainable_variables()}
        return [(variable.name, variable.name in trainable) for variable in v1.global_variables()]


def test_names_that_people_rely_on() -> None:
    forward = variables_of(graph_of(FUSED, "stack", LOOPS["forward"]["dynamic"], "forward"))
    assert ("model/rnn/multi_rnn_cell/cell_0/lstm_cell/kernel:0", True) in forward
    both = variables_of(graph_of(FUSED, "alone", LOOPS["both"]["static"], "both"))
    assert [name for name, _ in both if "kernel" in name] == [
        "model/bidirectional_rnn/fw/lstm_cell/kernel:0",
        "model/bidirectional_rnn/bw/lstm_cell/kernel:0",
    ]


def scoped(library: Any, function: Callable[..., Any]) -> list[tuple[str, bool]]:
    """Stacks used twice, shared, in scopes of many kinds, with variables in parts, and refused."""
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, None, 4])

        def stack(**options: Any) -> Cell:
            cells = [make(library, "LSTMCell", 4, **options), make(library, "GRUCell", 4, **options)]
            return make(library, "MultiRNNCell", cells)

        def call(cell: Cell, **options: Any) -> None:
            quietly(function, cell, x, dtype=tf.float32, **options)

        first = stack()
        call(first)
        call(first)
        call(first, scope="again")
        call(stack(), scope="scope")
        with v1.variable_scope("captured") as captured:
            pass
        call(stack(), scope=captured)
        with v1.variable_scope("scope", reuse=True):
            pass
        with v1.variable_scope("", reuse=True):
            call(stack(), scope="scope")
        with v1.variable_scope("", reuse=v1.AUTO_REUSE):
            call(stack(), scope="auto")
            call(stack(), scope="auto")
        parts = v1.fixed_size_partitioner(2)
        with v1.variable_scope("parts", partitioner=parts, regularizer=tf.nn.l2_loss):
            call(stack())
        with pytest.raises(ValueError, match="already exists"):
            call(stack(), scope="scope")
        shared = make(library, "LSTMCell", 4)
        call(make(library, "MultiRNNCell", [shared, shared]), scope="shared")
        losses = v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES)
        return [*variables_of(graph), *((loss.name, True) for loss in losses)]


@drop_in
def test_scopes() -> None:
    assert scoped(FUSED, fused_rnn.dynamic_rnn) == scoped(REFERENCE, v1.nn.dynamic_rnn)


@drop_in
def test_the_same_variables_on_every_route() -> None:
    """A stack that dynamic_rnn has run goes on in TensorFlow's loop and in bare calls, and the other way."""
    x = tf.constant(values("x", [B, T, H]))

    def bare(cell: Cell, x: Any, dtype: Any) -> Any:
        ys, state = [], cell.zero_state(B, dtype)
        for step in tf.unstack(x, axis=1):
            y, state = cell(step, state)
            ys.append(y)
        return tf.stack(ys, 1), state

    routes: list[Callable[..., Any]] = [fused_rnn.dynamic_rnn, v1.nn.dynamic_rnn, bare]
    for first in routes:
        cell = WRAPPED["stack"](Maker(FUSED, "LSTMCell", "float64"))
        wanted = tf.nest.flatten(quietly(first, cell, x, dtype=tf.float64))
        for other in routes:
            found = tf.nest.flatten(quietly(other, cell, x, dtype=tf.float64))
            for k, tensor in enumerate(found):
                assert_close("float64", {"": tensor.numpy()}, {"": wanted[k].numpy()})
        assert len(cell.trainable_weights) == 4


def test_after_a_loop_of_tensorflow() -> None:
    """The stack's first call was in the graph of that loop's body."""
    with tf.Graph().as_default() as graph:
        x = tf.constant(np.sin(np.arange(3 * 5 * 4, dtype=np.float32)).reshape(3, 5, 4))
        stack = make(FUSED, "MultiRNNCell", [make(FUSED, "LSTMCell", 4), make(FUSED, "GRUCell", 4)])
        stepped, _ = v1.nn.dynamic_rnn(stack, x, dtype=tf.float32)
        whole, _ = fused_rnn.dynamic_rnn(stack, x, dtype=tf.float32)
        again, _ = v1.nn.dynamic_rnn(stack, x, dtype=tf.float32)
        with v1.Session(graph=graph) as session:
            session.run(v1.global_variables_initializer())
            found = session.run([stepped, whole, again])
            variables = len(v1.global_variables())
    assert variables == 2 + 4
    assert np.abs(found[0]).max() > 0.05
    for outputs in found[1:]:
        np.testing.assert_allclose(outputs, found[0], rtol=0, atol=1e-6)


@drop_in
@pytest.mark.parametrize(
    ("mode", "wrapped", "directions"), [("graph", "deep", "both"), ("function", "foreign", "forward")]
)
@pytest.mark.parametrize("loop", ["dynamic", "static"])
def test_in_graphs(mode: str, wrapped: str, directions: str, loop: str) -> None:
    """Of a batch and, but for lists, a time that the graph does not know."""
    case = ("LSTMCell", wrapped, directions, "lengths")
    known = loop == "static"
    results = run(FUSED, LOOPS[directions][loop], *case, "float64", mode, static_shapes=known)
    assert_close("float64", results, expected(*case, "float64", mode))


@pytest.mark.parametrize("wrapped", ["stack", "residual", "variational", "deep"])
def test_what_stands_in_the_padding(wrapped: str) -> None:
    """NaN there reaches no output, no state and no gradient, and no row whose length is 0."""
    found = []
    for padding in (0.0, np.nan):
        tf.random.set_seed(7)
        x = values("x", [B, T, H])
        x[0, 2:], x[1] = padding, padding
        cell = WRAPPED[wrapped](Maker(FUSED, "LSTMCell", "float64"))
        variables, given = Variables(), tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            with v1.variable_scope("model", custom_getter=variables):
                results = tf.nest.flatten(fused_rnn.dynamic_rnn(cell, given, [2, 0, T], dtype=tf.float64))
            ends = [tf.reduce_sum(tf.sin(result)) for result in results]
        gradients = tape.gradient(ends, {"x": given, **variables.made})
        assert not results[0].numpy()[0, 2:].any() and not results[0].numpy()[1].any()
        named: Arrays = {f"result[{k}]": result.numpy() for k, result in enumerate(results)}
        found.append(named | {name: gradient.numpy() for name, gradient in gradients.items()})
    assert_same_bits(found[1], found[0])


def both_ways(build: Callable[[Any], Cell], x: Any = None) -> tuple[Arrays, Arrays]:
    """The results of dynamic_rnn eagerly: fused_rnn's with its cells, TensorFlow's with its own."""
    found = []
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        with v1.variable_scope("model", custom_getter=Variables()):
            given = tf.constant(values("x", [B, T, H]) if x is None else x)
            results = quietly(function, build(library), given, [2, 0, T], dtype=tf.float64)
        found.append({f"result[{k}]": tensor.numpy() for k, tensor in enumerate(tf.nest.flatten(results))})
    return found[0], found[1]


def overriding(method: str, base: str) -> Callable[[Any], Cell]:
    """A wrapper or stack of the user's own, whose step gives ten times the outputs."""

    def build(library: Any) -> Cell:
        parent = getattr(library, base)

        def step(self: Cell, inputs: Any, state: Any) -> Any:
            output, new_state = getattr(parent, method)(self, inputs, state)
            return 10 * output, new_state

        def wrapped(self: Cell, inputs: Any, state: Any, **how: Any) -> Any:
            output, new_state = parent._call_wrapped_cell(self, inputs, state, **how)
            return 10 * output, new_state

        own = type("Own", (parent,), {method: wrapped if method == "_call_wrapped_cell" else step})
        cell = make(library, "GRUCell", H)
        more = ["/CPU:0"] if base == "DeviceWrapper" else []
        return quietly(own, [cell] if base == "MultiRNNCell" else cell, *more)

    return build


@drop_in
@pytest.mark.parametrize(
    ("base", "method"),
    [
        ("MultiRNNCell", "call"),
        ("MultiRNNCell", "__call__"),
        ("DropoutWrapper", "_call_wrapped_cell"),
        ("ResidualWrapper", "__call__"),
        ("DeviceWrapper", "__call__"),
    ],
)
def test_a_step_of_the_users_own(base: str, method: str) -> None:
    assert_close("float64", *both_ways(overriding(method, base)))


@drop_in
def test_dropout_of_the_users_own() -> None:
    def build(library: Any) -> Cell:
        def halve(self: Cell, inputs: Any, *_: Any) -> Any:
            return inputs / 2

        own = type("Own", (library.DropoutWrapper,), {"_dropout": halve})
        return quietly(own, make(library, "GRUCell", H), 0.5)

    assert_close("float64", *both_ways(build))


@drop_in
def test_a_step_replaced_on_the_object() -> None:
    def build(library: Any) -> Cell:
        cell = make(library, "MultiRNNCell", [make(library, "GRUCell", H)])
        cell.call = lambda inputs, state: (10 * inputs, state)
        return cell

    assert_close("float64", *both_ways(build))


@drop_in
def test_a_subclass_with_the_same_step() -> None:
    """It goes the sequence route, under the name of its own class."""

    def build(library: Any) -> Cell:
        def __init__(self: Cell, layers: int) -> None:  # noqa: N807
            library.MultiRNNCell.__init__(self, [make(library, "GRUCell", H) for _ in range(layers)])

        return quietly(type("MyStack", (library.MultiRNNCell,), {"__init__": __init__}), 2)

    assert_close("float64", *both_ways(build))
    with tf.Graph().as_default() as graph:
        fused_rnn.dynamic_rnn(build(FUSED), tf.zeros([B, T, H]), dtype=tf.float32)
    assert ops_of(graph)["FusedRnnSequence"] == 2
    assert "rnn/my_stack/cell_1/gru_cell/gates/kernel:0" in dict(variables_of(graph))


@drop_in
def test_wrappers_of_the_family_inside_tensorflow() -> None:
    """Under legacy Keras TensorFlow still has them, and some scripts import those."""
    from fused_rnn._reference_cells import FAMILIES

    core = FAMILIES[1]

    def build(library: Any) -> Cell:
        cell = make(core, "DropoutWrapper", make(library, "LSTMCell", H), input_keep_prob=1.0)
        return make(core, "MultiRNNCell", [make(core, "ResidualWrapper", cell), make(library, "GRUCell", H)])

    assert_close("float64", *both_ways(build))
    with tf.Graph().as_default() as graph:
        fused_rnn.dynamic_rnn(build(FUSED), tf.zeros([B, T, H]), dtype=tf.float32)
    assert ops_of(graph)["FusedRnnSequence"] == 2


@pytest.mark.parametrize("states", [1, 3])
def test_a_state_of_too_few_or_many_layers(states: int) -> None:
    cell = make(FUSED, "MultiRNNCell", [make(FUSED, "GRUCell", H) for _ in range(2)])
    state = tuple(tf.zeros([B, H]) for _ in range(states))
    with pytest.raises(ValueError, match=r"initial_state .* 2 states"):
        fused_rnn.dynamic_rnn(cell, tf.zeros([B, T, H]), initial_state=state)


def test_a_residual_of_another_width() -> None:
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        cell = make(library, "ResidualWrapper", make(library, "GRUCell", 1))
        with pytest.raises(ValueError, match=r"not compatible|incompatible"):
            quietly(function, cell, tf.zeros([B, T, H]), dtype=tf.float32)


def test_a_residual_function_with_variables() -> None:
    """They are made in the layer's scope."""

    def dense(inputs: Any, outputs: Any) -> Any:
        with v1.variable_scope("mix", reuse=v1.AUTO_REUSE):
            return outputs + inputs @ v1.get_variable("weights", [H, H])

    names = []
    for library, function in ((FUSED, fused_rnn.dynamic_rnn), (REFERENCE, v1.nn.dynamic_rnn)):
        with tf.Graph().as_default() as graph:
            layers = [make(library, "ResidualWrapper", make(library, "GRUCell", H), dense) for _ in range(2)]
            quietly(function, make(library, "MultiRNNCell", layers), tf.zeros([B, T, H]), dtype=tf.float32)
            names.append(variables_of(graph))
    assert names[0] == names[1]
    assert ("rnn/multi_rnn_cell/cell_1/mix/weights:0", True) in names[0]
