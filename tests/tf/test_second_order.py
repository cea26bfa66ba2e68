"""Gradients of gradients and forward mode through both ops, against TensorFlow's cells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import Case
from compare import assert_close
from fused_rnn import composite
from tf.cell_runs import (
    Loop,
    fused_loop,
    of_each_end,
    of_kind,
    state_as_list,
    state_as_tuple,
    tensorflow_loop,
    variables_as,
    weights_of,
)
from tf.evaluate import MODES, Arrays, Tensors, arrays, evaluate
from tf.functional_runs import WEIGHTS as CELLS
from tf.second_order_runs import (
    Forward,
    arguments_of,
    expected_second_order,
    fused_forward,
    random_like,
    reference_forward,
    results_d,
    second_order,
    stepwise_forward,
)
from tf.tensorflow_cells import FUSED, REFERENCE, make, quietly

v1 = tf.compat.v1
cells = pytest.mark.parametrize("cell", CELLS)
routes = pytest.mark.parametrize("route", [fused_forward, stepwise_forward])

ODD = Case("odd", "", T=4, B=3, I=2, H=5, forget_bias=0.3)
LENGTHS = Case("lengths", "", T=5, B=4, I=3, H=4, lengths=(5, 0, 3, 1), reverse=True, forget_bias=1.0)
SHAPES = (
    ODD,
    replace(ODD, name="all_ones", T=1, B=1, I=1, H=1),
    replace(LENGTHS, name="all_ended", lengths=(0, 0, 0, 0)),
    replace(ODD, name="no_steps", T=0),
    replace(ODD, name="no_rows", B=0),
)


def of_cell(cell: str, shape: Case) -> Case:
    return replace(shape, cell=cell, forget_bias=shape.forget_bias if cell == "lstm" else 0.0)


def constants(case: Case) -> Tensors:
    return {name: tf.constant(array) for name, array in arguments_of(case, case.inputs()).items()}


def check(case: Case, forward: Forward, mode: str, dtype: str = "float64", **options: Any) -> None:
    """All second derivatives."""
    inputs = case.inputs(dtype)
    found = second_order(forward, arguments_of(case, inputs), results_d(inputs), mode, **options)
    assert_close(dtype, found, *expected_second_order(case, dtype))


def check_sequence(case: Case, mode: str = "eager", dtype: str = "float64", **options: Any) -> None:
    """Forwards time-major, in reverse batch-major."""
    forward = fused_forward(case, case.inputs().lengths, time_major=not case.reverse)
    check(case, forward, mode, dtype, **options)


@cells
def test_of_a_sequence(cell: str) -> None:
    check_sequence(of_cell(cell, LENGTHS))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shapes(shape: Case) -> None:
    check_sequence(of_cell("lstm", shape))


@cells
def test_of_steps(cell: str) -> None:
    case = of_cell(cell, replace(ODD, T=2))
    check(case, stepwise_forward(case), "eager")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dtypes(dtype: str) -> None:
    check_sequence(of_cell("rnn", replace(ODD, B=6)), "eager", dtype)
    case = of_cell("lstm", replace(ODD, B=6))
    check(case, stepwise_forward(case), "eager", dtype)


def test_in_a_graph() -> None:
    """Of tensors whose shapes are not known."""
    check_sequence(of_cell("gru", LENGTHS), "graph", static_shapes=False)
    case = of_cell("gru", replace(ODD, T=2))
    check(case, stepwise_forward(case), "graph", static_shapes=False)


@pytest.fixture
def _v1_control_flow() -> Iterator[None]:
    enabled = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    yield
    if enabled:
        v1.enable_control_flow_v2()


@pytest.mark.usefixtures("_v1_control_flow")
def test_v1_control_flow() -> None:
    """In whose loops TensorFlow itself has no second derivatives."""
    check_sequence(of_cell("rnn", LENGTHS), "graph")


def test_nan_in_the_padding() -> None:
    """Of the inputs, of the outputs' gradients and of what comes back for the inputs' gradients."""
    case = of_cell("lstm", LENGTHS)
    inputs = case.inputs()
    arguments, d_results = arguments_of(case, inputs), results_d(inputs)
    products = random_like(arguments)
    for array in (arguments["inputs"], d_results[0], products["inputs"]):
        array[inputs.padding()] = np.nan
    forward = fused_forward(case, inputs.lengths, time_major=False)
    found = second_order(forward, arguments, d_results, "eager", products=products)
    assert_close("float64", found, expected_second_order(case)[0])


@routes
def test_a_tensor_that_is_given_twice(route: Callable[[Case], Forward]) -> None:
    """As h and c: each use has a gradient of its own."""
    inputs = (case := of_cell("lstm", replace(ODD, T=2))).inputs()
    arguments = {name: array for name, array in arguments_of(case, inputs).items() if name != "c"}

    def shared(forward: Forward) -> Arrays:
        d_results = results_d(inputs)
        return second_order(lambda given: forward(given | {"c": given["h"]}), arguments, d_results, "eager")

    assert_close("float64", shared(route(case)), shared(reference_forward(case)))


def penalty(forward: Forward, given: Tensors, by: Any) -> Any:
    """A scalar of second order: the size of a gradient, as penalties on gradients have it."""
    with tf.GradientTape() as tape:
        tape.watch(by)
        value = tf.add_n([tf.reduce_sum(tf.sin(result)) for result in forward(given)])
    return tf.add_n([tf.reduce_sum(tf.square(d)) for d in tape.gradient(value, by).values()])


def test_third_order() -> None:
    """Of steps; of sequences, forward mode over itself asks for it."""
    given = constants(case := of_cell("gru", replace(ODD, T=2)))

    def third(forward: Forward) -> Arrays:
        with tf.GradientTape() as outer:
            outer.watch(given)
            with tf.GradientTape() as inner:
                inner.watch(given)
                value = penalty(forward, given, given)
            gradients = inner.gradient(value, given)
            size = tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients.values()])
        return arrays(outer.gradient(size, given))

    assert_close("float64", third(stepwise_forward(case)), third(reference_forward(case)))


def test_hessians() -> None:
    """tf.hessians: gradients of second order in a loop over the elements of the first."""
    case = of_cell("rnn", replace(ODD, T=3, H=2))

    def hessians(forward: Forward) -> Arrays:
        def build(given: Tensors) -> Tensors:
            names = ["bias", "inputs"]
            value = tf.reduce_sum(tf.square(forward(given)[0]))
            return dict(zip(names, v1.hessians(value, [given[name] for name in names]), strict=True))

        return evaluate("graph", build, arguments_of(case, case.inputs()))

    assert_close("float64", hessians(fused_forward(case)), hessians(reference_forward(case)))


@routes
def test_jacobian_of_a_gradient(route: Callable[[Case], Forward]) -> None:
    """By parallel_for, which turns a loop over the gradient's elements into one batch."""
    given = constants(case := of_cell("rnn", replace(ODD, T=3, H=2)))

    def jacobian(forward: Forward) -> Arrays:
        with tf.GradientTape() as outer:
            outer.watch(given)
            with tf.GradientTape() as inner:
                inner.watch(given)
                value = tf.reduce_sum(tf.square(forward(given)[0]))
            gradient = inner.gradient(value, given["inputs"])
        return arrays(outer.jacobian(gradient, given))

    assert_close("float64", jacobian(route(case)), jacobian(reference_forward(case)))


def tangents(forward: Forward, given: Tensors, along: Tensors) -> list[Any]:
    names = list(given)
    with tf.autodiff.ForwardAccumulator(
        [given[name] for name in names], [along[name] for name in names]
    ) as tape:
        results = forward(given)
    return tape.jvp(results)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_forward_mode_of_a_sequence(cell: str) -> None:
    case = of_cell(cell, LENGTHS)
    given, along = constants(case), random_like(arguments_of(case, case.inputs()))
    lengths = case.inputs().lengths

    def run(forward: Forward) -> Arrays:
        return arrays(dict(zip("yhc", tangents(forward, given, along), strict=False)))

    found = run(fused_forward(case, lengths, time_major=False))
    assert_close("float64", found, run(reference_forward(case, lengths)))


@routes
def test_forward_mode_over_others(route: Callable[[Case], Forward]) -> None:
    """In a function: over itself, and over a gradient, which is the cheap product with a Hessian."""
    given = constants(case := of_cell("rnn", replace(ODD, T=2)))
    along = random_like(arguments_of(case, case.inputs()))

    def run(forward: Forward) -> Arrays:
        def twice(given: Tensors) -> Tensors:
            first = tangents(lambda given: tangents(forward, given, along), given, along)
            product = tangents(lambda given: [penalty(forward, given, given)], given, along)
            return dict(zip(["y", "h", "penalty"], [*first, *product], strict=True))

        return arrays(tf.function(twice)(given))

    assert_close("float64", run(route(case)), run(reference_forward(case)))


@pytest.mark.drop_in
@pytest.mark.parametrize(("kind", "loop"), [("BasicRNNCell", fused_loop), ("LSTMCell", tensorflow_loop)])
def test_cells_in_a_loop(kind: str, loop: Loop) -> None:
    """A penalty on gradients, by the variables of a cell in a loop in a function, as a model would train."""
    case = of_kind(kind, replace(ODD, lengths=(4, 0, 2)))
    inputs, weights = case.inputs(), weights_of(case, case.inputs())

    def gradients(library: Any, loop: Loop) -> Arrays:
        with v1.variable_scope("model", custom_getter=variables_as(weights)):
            cell = make(library, kind, case.H, dtype=tf.float64)
            cell.build(tf.TensorShape([None, case.I]))
        state = state_as_tuple(library, list(map(tf.constant, inputs.initial_state)))
        variables = dict(zip(weights, of_each_end(cell.variables, weights), strict=True))

        def forward(given: Tensors) -> list[Any]:
            y, final = quietly(loop, cell, given["x"], state, inputs.lengths)
            return [y, *state_as_list(final)]

        @tf.function
        def differentiated(x: Any) -> Tensors:
            with tf.GradientTape() as tape:
                value = penalty(forward, {"x": x}, {"x": x} | variables)
            return tape.gradient(value, variables)

        return arrays(differentiated(tf.constant(inputs.x)))

    assert_close("float64", gradients(FUSED, loop), gradients(REFERENCE, tensorflow_loop))


@routes
def test_first_order_asks_for_nothing(
    route: Callable[[Case], Forward], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training builds none of this, in any mode, under tapes that could go on to higher orders too."""
    case = of_cell("lstm", ODD)
    inputs = case.inputs()
    forward, arguments, d = route(case), arguments_of(case, inputs), results_d(inputs)
    asked: list[Any] = []
    monkeypatch.setattr(composite, "gradients_of_gradients", lambda *args, **_: asked.append(args))

    def build(given: Tensors) -> Tensors:
        sources = list(given.values())
        if not tf.executing_eagerly() and not tf.inside_function():
            first = tf.gradients(forward(given), sources, d)
        else:
            with tf.GradientTape(persistent=True) as outer, tf.GradientTape(persistent=True) as inner:
                outer.watch(sources)
                inner.watch(sources)
                results = forward(given)
                first = inner.gradient(results, sources, d)
        return dict(zip(given, first, strict=True))

    found = [evaluate(mode, build, arguments) for mode in MODES]
    assert_close("float64", found[0], found[1])
    assert_close("float64", found[2], found[1])
    assert not asked


@routes
def test_xla_is_refused_in_a_sentence(route: Callable[[Case], Forward]) -> None:
    case = of_cell("rnn", ODD)
    compiled = tf.function(route(case), jit_compile=True)
    with pytest.raises(NotImplementedError, match=r"fused_rnn has no kernels for XLA: .*jit_compile=True"):
        compiled(constants(case))
    assert fused_rnn.rnn(np.ones([1, 1, 1]), np.ones([2, 1]), np.ones([1]))[0].shape == [1, 1, 1]
