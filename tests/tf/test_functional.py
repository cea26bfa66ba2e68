"""fused_rnn.lstm, gru and rnn: values and every gradient against the float64 reference and Keras's layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fused_rnn
from cases import DTYPES, LONG_CASES, SHORT_CASES, Case, drawn_cases
from compare import assert_close, assert_same_bits
from tf.evaluate import MODES, evaluate
from tf.functional_runs import WEIGHTS, call, feeds, run
from tf.functional_runs import WEIGHTS as CELLS

dtypes = pytest.mark.parametrize("dtype", DTYPES)
modes = pytest.mark.parametrize("mode", MODES)
cells = pytest.mark.parametrize("cell", CELLS)
layouts = pytest.mark.parametrize("time_major", [True, False], ids=["time_major", "batch_major"])


@dtypes
@layouts
@pytest.mark.parametrize("case", [case for case in LONG_CASES if case.cell in CELLS], ids=str)
def test_eagerly(case: Case, dtype: str, time_major: bool) -> None:
    results = run(case, case.inputs(dtype), "eager", time_major=time_major)
    assert_close(dtype, results, *case.expected(dtype))


@layouts
@pytest.mark.parametrize("mode", ["graph", "function"])
@pytest.mark.parametrize("static_shapes", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("case", [case for case in SHORT_CASES if case.cell in CELLS], ids=str)
def test_in_graphs(case: Case, mode: str, static_shapes: bool, time_major: bool) -> None:
    results = run(case, case.inputs(), mode, time_major=time_major, static_shapes=static_shapes)
    assert_close("float64", results, *case.expected("float64"))


@dtypes
@cells
def test_dtypes_in_graphs(cell: str, dtype: str) -> None:
    case = next(case for case in SHORT_CASES if case.cell == cell and case.name == "reverse_lengths")
    results = run(case, case.inputs(dtype), "graph")
    assert_close(dtype, results, *case.expected(dtype))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn_cases(cells=tuple(CELLS), options=False), st.sampled_from(list(DTYPES)), st.booleans())
def test_any_size(case: Case, dtype: str, time_major: bool) -> None:
    results = run(case, case.inputs(dtype), "eager", time_major=time_major)
    assert_close(dtype, results, *case.expected(dtype))


PLAIN = Case("plain", "", T=4, B=3, I=5, H=6, forget_bias=0.1)


def of_cell(cell: str, **changes: Any) -> Case:
    return replace(PLAIN, cell=cell, forget_bias=0.1 if cell == "lstm" else 0.0, **changes)


@cells
@modes
def test_the_initial_state_is_zero_by_default(cell: str, mode: str) -> None:
    case = of_cell(cell)
    inputs = case.inputs()
    inputs = replace(inputs, initial_state=[0 * state for state in inputs.initial_state])
    expected = case.reference(inputs)
    arguments = {name: array for name, array in feeds(case, inputs).items() if name not in "hc"}
    for static_shapes in (True, False):
        results = evaluate(
            mode,
            lambda given: {"y": call(case, given, time_major=True)[0]},
            arguments,
            static_shapes=static_shapes,
        )
        assert_close("float64", results, {"y": expected["y"]})


@cells
def test_arrays_and_lists(cell: str) -> None:
    """What converts to a tensor will do, and takes the inputs' dtype."""
    case = of_cell(cell, lengths=(4, 0, 2))
    inputs = case.inputs("float32")
    expected, _ = call(case, feeds(case, inputs), time_major=True)
    lists = {name: array.tolist() for name, array in feeds(case, inputs).items()}
    outputs, state = call(case, lists, time_major=True)
    assert_same_bits({"y": outputs.numpy()}, {"y": expected.numpy()})
    assert isinstance(outputs, tf.Tensor)
    assert all(isinstance(part, tf.Tensor) for part in state)
    variables = {name: tf.Variable(array) for name, array in feeds(case, inputs).items()}
    outputs, _ = call(case, variables, time_major=True)
    assert_same_bits({"y": outputs.numpy()}, {"y": expected.numpy()})


@cells
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint64])
def test_integer_types_of_the_lengths(cell: str, dtype: Any) -> None:
    case = of_cell(cell, lengths=(4, 0, 2))
    arguments = feeds(case, case.inputs())
    expected, _ = call(case, arguments, time_major=True)
    arguments["sequence_length"] = arguments["sequence_length"].astype(dtype)
    outputs, _ = call(case, arguments, time_major=True)
    assert_same_bits({"y": outputs.numpy()}, {"y": expected.numpy()})


@modes
@cells
def test_padding_reaches_nothing(cell: str, mode: str) -> None:
    for reverse in (False, True):
        case = of_cell(cell, lengths=(4, 0, 2), reverse=reverse)
        inputs = case.inputs()
        clean = run(case, inputs, mode)
        x, d_y = inputs.x.copy(), inputs.d_y.copy()
        x[inputs.padding()] = np.nan
        d_y[inputs.padding()] = np.nan
        assert_same_bits(run(case, replace(inputs, x=x, d_y=d_y), mode), clean)


@modes
@cells
def test_gradients_of_some(cell: str, mode: str) -> None:
    """Of the outputs alone or the states alone, with respect to one argument at a time."""
    case = of_cell(cell, lengths=(4, 0, 2))
    inputs = case.inputs()
    arguments = feeds(case, inputs)
    d_y, d_final_state = inputs.d_y, inputs.d_final_state
    for part in ("y", *(f"state{k}" for k in range(len(d_final_state)))):
        only = replace(
            inputs,
            d_y=d_y if part == "y" else 0 * d_y,
            d_final_state=[d if part == f"state{k}" else 0 * d for k, d in enumerate(d_final_state)],
        )
        expected = case.reference(only)
        d = d_y if part == "y" else d_final_state[int(part[-1])]
        for source, name in names_of_gradients(cell).items():

            def build(given: dict[str, Any], part: str = part, source: str = source) -> dict[str, Any]:
                with tf.GradientTape() as tape:
                    tape.watch(given[source])
                    outputs, state = call(case, given, time_major=True)
                    result = outputs if part == "y" else state[int(part[-1])]
                if mode == "graph":
                    return {"d": tf.gradients(result, given[source], grad_ys=given["d"])[0]}
                return {"d": tape.gradient(result, given[source], output_gradients=given["d"])}

            found = evaluate(mode, build, arguments | {"d": d})
            assert_close("float64", {name: found["d"]}, {name: expected[name]})


def names_of_gradients(cell: str) -> dict[str, str]:
    """Argument -> its gradient's name: of the inputs, the state, one kernel and one bias."""
    kernels = 1 if cell in ("rnn", "lstm") else 2
    names = {"inputs": "d_x", "h": "d_initial_state[0]"}
    names |= {WEIGHTS[cell][kernels - 1]: f"d_kernels[{kernels - 1}]"}
    return names | {WEIGHTS[cell][-1]: f"d_biases[{len(WEIGHTS[cell]) - kernels - 1}]"}


@cells
def test_gradient_by_slices(cell: str) -> None:
    """The gradient of tf.gather along the first axis is slices, and not a tensor."""
    case = of_cell(cell)
    given = {name: tf.constant(array) for name, array in feeds(case, case.inputs()).items()}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        outputs, state = call(case, given, time_major=True)
        by_gather = [tf.gather(tensor, [1]) for tensor in (outputs, *state)]
        by_slice = [tensor[1:2] for tensor in (outputs, *state)]
    for a, b in zip(by_gather, by_slice, strict=True):
        found, expected = tape.gradient(a, given), tape.gradient(b, given)
        assert_same_bits(
            {n: g.numpy() for n, g in found.items()}, {n: g.numpy() for n, g in expected.items()}
        )


@pytest.mark.drop_in
@pytest.mark.parametrize("reset_after", [False, True])
def test_keras_gru(reset_after: bool) -> None:
    """Keras's gates are z, r, h; ours r, u, c, with u = z."""
    layer = tf.keras.layers.GRU(
        6, return_sequences=True, return_state=True, reset_after=reset_after, dtype="float64"
    )
    rng = np.random.default_rng(2)
    x, h = (tf.constant(rng.standard_normal(shape)) for shape in ((3, 4, 5), (3, 6)))
    layer(x, initial_state=h)
    layer.set_weights([rng.standard_normal(weight.shape) for weight in layer.get_weights()])
    expected, expected_state = layer(x, initial_state=h)
    kernel, recurrent, bias = layer.get_weights()

    def permuted(array: Any) -> list[Any]:
        z, r, c = np.split(array, 3, axis=-1)
        return [np.concatenate([r, z], -1), c]

    kernels = [np.concatenate(pair) for pair in zip(permuted(kernel), permuted(recurrent), strict=True)]
    biases = permuted(bias[0] if reset_after else bias)
    recurrent_bias = np.concatenate(permuted(bias[1])) if reset_after else None
    y, state = fused_rnn.gru(
        x, kernels[0], biases[0], kernels[1], biases[1], recurrent_bias, h, reset_after=reset_after
    )
    assert_close(
        "float64",
        {"y": y.numpy(), "state": state.numpy()},
        {"y": np.asarray(expected), "state": np.asarray(expected_state)},
    )


@pytest.mark.drop_in
@pytest.mark.parametrize("reverse", [False, True])
def test_keras_lstm(reverse: bool) -> None:
    """Keras's gates are i, f, c, o; ours i, j, f, o, with j = c. Its go_backwards turns outputs too."""
    layer = tf.keras.layers.LSTM(
        6, return_sequences=True, return_state=True, go_backwards=reverse, dtype="float64"
    )
    rng = np.random.default_rng(3)
    x, h, c = (tf.constant(rng.standard_normal(shape)) for shape in ((3, 4, 5), (3, 6), (3, 6)))
    layer(x, initial_state=[h, c])
    layer.set_weights([rng.standard_normal(weight.shape) for weight in layer.get_weights()])
    expected, expected_h, expected_c = (np.asarray(value) for value in layer(x, initial_state=[h, c]))

    def permuted(array: Any) -> Any:
        i, f, j, o = np.split(array, 4, axis=-1)
        return np.concatenate([i, j, f, o], -1)

    kernel, recurrent, bias = layer.get_weights()
    y, state = fused_rnn.lstm(
        x, permuted(np.concatenate([kernel, recurrent])), permuted(bias), (c, h), reverse=reverse
    )
    assert_close(
        "float64",
        {"y": y.numpy(), "h": state.h.numpy(), "c": state.c.numpy()},
        {"y": expected[:, ::-1] if reverse else expected, "h": expected_h, "c": expected_c},
    )
