"""Activations, peepholes, clips and projections of the cells, on both routes, against TensorFlow's."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import OPTION_CASES, Case
from compare import assert_close
from tf.cell_runs import Loop, expected, fused_loop, run_cell, tensorflow_loop, waves
from tf.evaluate import MODES
from tf.tensorflow_cells import FUSED, KINDS, REFERENCE, Cell, make, quietly

pytestmark = pytest.mark.drop_in
kinds = pytest.mark.parametrize("kind", KINDS)
H = 5
X = np.random.default_rng(5).standard_normal((3, 4, H))


def kinds_and_cases() -> list[tuple[str, Case]]:
    """The cases of the classes of cells; TensorFlow's loop knows one direction."""
    return [
        (kind, replace(case, reverse=False))
        for case in OPTION_CASES
        for kind, cell in KINDS.items()
        if case.cell.split("_")[0] == cell
        and case.cell != "gru_reset_after"
        and (kind == "LSTMCell" or (case.cell in ("rnn", "lstm", "gru") and case.cell_clip is None))
    ]


@pytest.mark.parametrize("loop", [fused_loop, tensorflow_loop])
@pytest.mark.parametrize(("kind", "case"), kinds_and_cases(), ids=str)
def test_values_and_gradients(kind: str, case: Case, loop: Loop) -> None:
    results = run_cell(FUSED, kind, loop, case, case.inputs("float64"), "eager")
    assert_close("float64", results, *expected(kind, case, "float64"))


PROJECTED = next(case for case in OPTION_CASES if case.name.startswith("sequence_both_clips"))


@pytest.mark.parametrize("loop", [fused_loop, tensorflow_loop])
@pytest.mark.parametrize("mode", MODES)
def test_in_every_mode(mode: str, loop: Loop) -> None:
    case = replace(PROJECTED, reverse=False)
    for static_shapes in (True, False):
        if mode == "graph" or static_shapes:
            inputs = case.inputs("float64")
            results = run_cell(FUSED, "LSTMCell", loop, case, inputs, mode, static_shapes=static_shapes)
            assert_close("float64", results, *expected("LSTMCell", case, "float64"))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_other_dtypes(dtype: str) -> None:
    for kind, case in kinds_and_cases():
        if case.name == "sequence_tanh" and kind == "LSTMCell":
            results = run_cell(FUSED, kind, fused_loop, case, case.inputs(dtype), "eager")
            assert_close(dtype, results, *expected(kind, case, dtype))


def unrolled(library: Any, kind: str, use_sequence: bool = False, **options: Any) -> dict[str, Any]:
    """Values and gradients, with weights that depend on the shapes only."""
    x = tf.constant(X)
    with tf.compat.v1.variable_scope("model", initializer=waves), tf.GradientTape() as tape:
        tape.watch(x)
        cell = make(library, kind, H, dtype=tf.float64, **options)
        loop = fused_rnn.dynamic_rnn if use_sequence else tf.compat.v1.nn.dynamic_rnn
        y, state = quietly(loop, cell, x, [3, 1, 2], dtype=tf.float64)
        loss = tf.reduce_sum(tf.square(y)) + sum(map(tf.reduce_sum, tf.nest.flatten(state)))
    gradients = tape.gradient(loss, [x, *cell.trainable_variables])
    found = {"y": y, **{f"state[{k}]": part for k, part in enumerate(tf.nest.flatten(state))}}
    found |= {f"d[{k}]": gradient for k, gradient in enumerate(gradients)}
    return {name: np.asarray(value) for name, value in found.items()}


LSTM_OPTIONS: list[dict[str, Any]] = [
    {"num_proj": 3},
    {"num_proj": 7, "state_is_tuple": False, "proj_clip": 0.2},
    {"use_peepholes": True, "state_is_tuple": False, "cell_clip": 0.3},
    {"num_proj": 3, "use_peepholes": True, "activation": tf.nn.elu, "forget_bias": 0.1},
    {"cell_clip": 0},
]


@pytest.mark.parametrize("use_sequence", [True, False])
@pytest.mark.parametrize("options", LSTM_OPTIONS, ids=str)
def test_options_together(options: dict[str, Any], use_sequence: bool) -> None:
    actual = unrolled(FUSED, "LSTMCell", use_sequence, **options)
    assert_close("float64", actual, unrolled(REFERENCE, "LSTMCell", **options))


@pytest.mark.parametrize("use_sequence", [True, False])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LSTMCell", {"num_proj": 3, "use_peepholes": True, "cell_clip": 0.3, "proj_clip": 0.2}),
        ("LSTMCell", {"use_peepholes": True, "activation": tf.sigmoid}),
        ("GRUCell", {"activation": tf.nn.elu}),
        ("BasicRNNCell", {"activation": tf.nn.relu}),
    ],
    ids=str,
)
def test_second_order(kind: str, options: dict[str, Any], use_sequence: bool) -> None:
    with tf.GradientTape() as tape:
        actual, sources = of_second_order(tape, FUSED, kind, use_sequence, **options)
    with tf.GradientTape() as reference_tape:
        exact, reference_sources = of_second_order(reference_tape, REFERENCE, kind, False, **options)
    found = [tape.gradient(actual, sources), reference_tape.gradient(exact, reference_sources)]
    actual_results, exact_results = (
        {str(k): np.asarray(gradient) for k, gradient in enumerate(gradients)} for gradients in found
    )
    assert_close("float64", actual_results, exact_results)


def of_second_order(
    outer: Any, library: Any, kind: str, use_sequence: bool, **options: Any
) -> tuple[Any, list[Any]]:
    """The sum of the squares of all first-order gradients, and what they are the gradients of."""
    x = tf.constant(X)
    outer.watch(x)
    with tf.compat.v1.variable_scope("model", initializer=waves), tf.GradientTape() as tape:
        tape.watch(x)
        cell = make(library, kind, H, dtype=tf.float64, **options)
        loop = fused_rnn.dynamic_rnn if use_sequence else tf.compat.v1.nn.dynamic_rnn
        y, _ = quietly(loop, cell, x, [3, 1, 2], dtype=tf.float64)
        loss = tf.reduce_sum(tf.square(y))
    sources = [x, *cell.trainable_variables]
    gradients = tape.gradient(loss, sources)
    return sum(tf.reduce_sum(tf.square(gradient)) for gradient in gradients), sources


@pytest.mark.parametrize(
    ("kind", "options"), [("GRUCell", {}), ("LSTMCell", {"num_proj": 3}), ("BasicRNNCell", {})], ids=str
)
def test_a_mask_on_the_state(kind: str, options: dict[str, Any]) -> None:
    """Values, gradients and second-order ones, against steps with the mask in between."""
    x = tf.constant(X)
    with tf.compat.v1.variable_scope("model", initializer=waves):
        cell = make(FUSED, kind, H, dtype=tf.float64, **options)
        cell.build(tf.TensorShape([None, H]))
    mask = tf.constant(2.0 * np.random.default_rng(6).integers(0, 2, (*X.shape[:2], cell.output_size)))

    def whole(state: Any) -> Any:
        return cell.call_sequence(x, state, None, time_major=True, state_mask=mask)

    def by_steps(state: Any) -> Any:
        ys = []
        for t in range(len(X)):
            y, state = cell.call(x[t], state)
            state = state._replace(h=state.h * mask[t]) if hasattr(state, "h") else state * mask[t]
            ys.append(y)
        return tf.stack(ys), state

    found = []
    for run in (whole, by_steps):
        with tf.GradientTape() as second, tf.GradientTape() as first:
            first.watch(x), second.watch(x)
            y, state = run(cell.zero_state(X.shape[1], tf.float64))
            loss = tf.reduce_sum(tf.square(y)) + sum(map(tf.reduce_sum, tf.nest.flatten(state)))
            gradients = first.gradient(loss, [x, *cell.trainable_variables])
            norm = sum(tf.reduce_sum(tf.square(gradient)) for gradient in gradients)
        tensors = [y, *tf.nest.flatten(state), *gradients]
        tensors += second.gradient(norm, [x, *cell.trainable_variables])
        found.append({str(k): np.asarray(tensor) for k, tensor in enumerate(tensors)})
    assert_close("float64", *found)


@kinds
@pytest.mark.parametrize("use_sequence", [True, False])
def test_an_activation_that_no_kernel_knows(kind: str, use_sequence: bool) -> None:
    def swish(x: Any) -> Any:
        return x * tf.sigmoid(x)

    actual = unrolled(FUSED, kind, use_sequence, activation=swish)
    assert_close("float64", actual, unrolled(REFERENCE, kind, activation=swish))


@kinds
def test_says_so_once(kind: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cell = getattr(FUSED, kind)(H, activation=tf.nn.relu6, name="six")
        for _ in range(2):
            cell(tf.constant(X[0]), cell.zero_state(4, tf.float64))
    (text,) = [str(warning.message) for warning in caught if "kernel" in str(warning.message)]
    assert text.startswith(f"{kind} 'six' runs TensorFlow's own operations, one by one: it has an activation")
    assert fused_rnn.explain(cell) == (
        f"{kind}({H}): step by step: {kind} has an activation that no kernel knows"
    )


@kinds
@pytest.mark.parametrize(
    "activation", [None, tf.tanh, tf.nn.tanh, tf.math.tanh, "tanh", "linear", tf.identity]
)
def test_activations_that_kernels_know(kind: str, activation: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cell = getattr(FUSED, kind)(H, activation=activation)
    assert "whole sequence in one op" in fused_rnn.explain(cell)


@pytest.mark.parametrize(
    "options",
    [
        {"cell_clip": -0.5},
        {"num_proj": 3, "proj_clip": -0.25},
        {"cell_clip": np.float32(0.25)},
        {"cell_clip": tf.constant(0.25, tf.float64)},
        {"forget_bias": tf.constant(0.3, tf.float64)},
        {"cell_clip": np.linspace(0.1, 0.5, H)},
    ],
    ids=str,
)
def test_numbers_of_other_kinds(options: dict[str, Any]) -> None:
    actual = unrolled(FUSED, "LSTMCell", True, **options)
    assert_close("float64", actual, unrolled(REFERENCE, "LSTMCell", **options))


def test_a_limit_that_is_fed() -> None:
    found = []
    for library in (FUSED, REFERENCE):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            limit = tf.compat.v1.placeholder(tf.float64, [])
            with tf.compat.v1.variable_scope("model", initializer=waves):
                cell = make(library, "LSTMCell", H, cell_clip=limit, forget_bias=limit, dtype=tf.float64)
                y, _ = quietly(fused_rnn.dynamic_rnn, cell, tf.constant(X), dtype=tf.float64)
            session.run(tf.compat.v1.global_variables_initializer())
            found.append({"y": session.run(y, {limit: 0.25})})
    assert_close("float64", *found)


@pytest.mark.parametrize("use_sequence", [True, False])
def test_options_that_change_later(use_sequence: bool) -> None:
    """A program may set what its cells hold: it goes for all steps from then on."""
    found = []
    for library in (FUSED, REFERENCE):
        with tf.compat.v1.variable_scope("model", initializer=waves):
            cell = make(library, "LSTMCell", H, dtype=tf.float64)
            cell._activation, cell._forget_bias, cell._cell_clip = tf.nn.relu, 0.25, 0.5
            loop = fused_rnn.dynamic_rnn if use_sequence else tf.compat.v1.nn.dynamic_rnn
            found.append({"y": quietly(loop, cell, tf.constant(X), dtype=tf.float64)[0].numpy()})
    assert_close("float64", *found)


@pytest.mark.parametrize("use_sequence", [True, False])
@pytest.mark.parametrize(("kind", "options"), [("GRUCell", {}), ("LSTMCell", {"num_proj": 3})], ids=str)
def test_widths_in_a_graph(kind: str, options: dict[str, Any], use_sequence: bool) -> None:
    """The kernels tell the widths of states; a state of another is an error before anything runs."""
    v1 = tf.compat.v1

    def build(width: int | None) -> tuple[Cell, Any, Any]:
        x = v1.placeholder(tf.float32, [None, None, 4])
        cell = make(FUSED, kind, H, **options)
        state = tf.nest.map_structure(lambda _: v1.placeholder(tf.float32, [None, width]), cell.state_size)
        if use_sequence:
            return cell, *quietly(fused_rnn.dynamic_rnn, cell, x, initial_state=state)
        return cell, *quietly(cell, x[:, 0], state)

    with tf.Graph().as_default():
        cell, y, state = build(None)
        assert y.shape[-1] == cell.output_size
        sizes = tf.nest.map_structure(lambda part: part.shape[1], state)
        assert sizes == cell.state_size
    with (
        tf.Graph().as_default(),
        pytest.raises(ValueError, match=r"initial_state h must have \d columns, got 9"),
    ):
        build(9)
