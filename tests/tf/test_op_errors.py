"""Malformed calls of the ops: errors that name the argument, eagerly, in graphs and at run time; no crash."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from cases import Case
from reference import CELLS
from tf.op_calls import OPS, Arguments, arguments_of, as_placeholders, call, flat, is_array, pair_arguments
from tf.scripts import run_script

v1 = tf.compat.v1
ERRORS = (ValueError, TypeError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError)

LSTM = Case("malformed", "lstm", T=3, B=2, I=4, H=5, lengths=(3, 1), forget_bias=0.3, masked=True)
GRU = Case("malformed", "gru", T=3, B=2, I=4, H=5, lengths=(3, 1))
RESET_AFTER = Case("malformed", "gru_reset_after", T=3, B=2, I=4, H=5)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


Wrong = list[tuple[str, Any]]  # argument, and what is given instead

KERNELS: Wrong = [
    ("kernels", [zeros(9, 20)] * 2),
    ("kernels", [zeros(9, 20)] * 10),
    ("kernels", [zeros(180)]),
    ("kernels", [zeros()]),
    ("kernels", [zeros(9, 20, 1)]),
    ("kernels", [zeros(8, 20)]),
    ("kernels", [zeros(10, 20)]),
    ("kernels", [zeros(9, 24)]),
    ("kernels", [zeros(9, 19)]),
    ("kernels", [zeros(9, 0)]),
    ("kernels", [zeros(0, 20)]),
    ("biases", [zeros(20)] * 2),
    ("biases", [zeros()]),
    ("biases", [zeros(19)]),
    ("biases", [zeros(21)]),
    ("biases", [zeros(0)]),
    ("biases", [zeros(1, 20)]),
    ("initial_state", [zeros(2, 5), zeros(2, 4)]),
    ("initial_state", [zeros(2, 4), zeros(2, 5)]),
    ("initial_state", [zeros(3, 5), zeros(3, 5)]),
    ("initial_state", [zeros(5), zeros(5)]),
    ("initial_state", [zeros(1, 2, 5), zeros(1, 2, 5)]),
    ("initial_state", [zeros(), zeros()]),
]
COUNTS: Wrong = [  # lists whose length TensorFlow compares with others before the op sees them
    ("kernels", []),
    ("biases", []),
    ("initial_state", []),
    ("initial_state", [zeros(2, 5)]),
    ("initial_state", [zeros(2, 5)] * 3),
]
SEQUENCE: Wrong = [
    ("inputs", zeros()),
    ("inputs", zeros(2, 4)),
    ("inputs", zeros(2, 3, 4, 1)),
    ("inputs", zeros(2, 3, 0)),
    ("state_mask", [zeros(2, 3, 4)]),
    ("state_mask", [zeros(3, 2, 5)]),
    ("state_mask", [zeros(2, 5)]),
    ("state_mask", [zeros()]),
    ("state_mask", [zeros(2, 3, 5)] * 2),
    ("sequence_length", [np.array([3, -1])]),
    ("sequence_length", [np.array([4, 1])]),
    ("sequence_length", [np.array([3, 2**62])]),
    ("sequence_length", [np.array([-(2**63), 1])]),
    ("sequence_length", [np.array([3])]),
    ("sequence_length", [np.array([3, 1, 1])]),
    ("sequence_length", [np.array([], np.int64)]),
    ("sequence_length", [np.array(3)]),
    ("sequence_length", [np.array([[3, 1]])]),
    ("sequence_length", [np.array([3, 1])] * 2),
]
STEP: Wrong = [
    ("inputs", zeros()),
    ("inputs", zeros(4)),
    ("inputs", zeros(2, 1, 4)),
    ("inputs", zeros(2, 0)),
]
SAVED: Wrong = [
    ("saved", zeros(0, dtype=np.uint8)),
    ("saved", zeros(1, dtype=np.uint8)),
    ("saved", zeros(10**6, dtype=np.uint8)),
    ("saved", zeros(3, 2, dtype=np.uint8)),
    ("saved", zeros(dtype=np.uint8)),
    ("d_final_state", [zeros(2, 5), zeros(2, 6)]),
    ("d_final_state", [zeros(3, 5), zeros(2, 5)]),
    ("d_final_state", [zeros(10), zeros(10)]),
]
SEQUENCE_GRAD: Wrong = [
    *SAVED,
    ("outputs", zeros(2, 15)),
    ("outputs", zeros(3, 2, 5)),
    ("outputs", zeros(2, 3, 6)),
    ("outputs", zeros(0, 3, 5)),
    ("d_outputs", zeros(3, 2, 5)),
    ("d_outputs", zeros(2, 3, 4)),
    ("d_outputs", zeros()),
    ("d_outputs", zeros(2, 3, 5, 1)),
]
STEP_GRAD: Wrong = [
    *SAVED,
    ("final_state", [zeros(2, 4), zeros(2, 5)]),
    ("final_state", [zeros(2, 5), zeros(2, 4)]),
    ("final_state", [zeros(), zeros(2, 5)]),
]


def of_one_sequence(table: Wrong) -> Wrong:
    """The sequence ops take a list for each of their arguments."""
    return [(name, [value] if isinstance(value, np.ndarray) else value) for name, value in table]


TABLES = {
    "sequence": KERNELS + COUNTS + of_one_sequence(SEQUENCE),
    "sequence_grad": KERNELS + COUNTS + of_one_sequence(SEQUENCE + SEQUENCE_GRAD),
    "step": KERNELS + COUNTS + STEP,
    "step_grad": KERNELS + COUNTS + STEP + STEP_GRAD,
}
CASES = [(op, argument, value) for op in OPS for argument, value in TABLES[op]]

# Kernels and biases have names of their own in each cell. A list of another length than its neighbour's is
# TensorFlow's own error, which names one of the two.
NAMES = {"kernels": r"kernels|\w*kernel", "biases": r"biases|\w*bias"}
STATES = r"(d_|initial_|d_initial_)?(final_)?state"


def pattern(argument: str, op: str) -> str:
    if argument == "initial_state" and op.endswith("grad"):
        return STATES
    return rf"\b({NAMES.get(argument, argument)})\b"


def described(value: object) -> str:
    if isinstance(value, list):
        return "+".join(described(item) for item in value) or "none"
    return str(list(value.shape)) if isinstance(value, np.ndarray) else str(value)


each = pytest.mark.parametrize(("op", "argument", "value"), CASES, ids=described)


@each
def test_eagerly(op: str, argument: str, value: Any) -> None:
    arguments = arguments_of(LSTM, op) | {argument: value}
    with pytest.raises(ERRORS, match=pattern(argument, op)):
        call(op, arguments)


@each
@pytest.mark.parametrize("static", [True, False], ids=["known", "unknown"])
def test_in_graphs(op: str, argument: str, value: Any, static: bool) -> None:
    arguments = arguments_of(LSTM, op) | {argument: value}
    with tf.Graph().as_default(), v1.Session() as session:
        placeholders, feeds = as_placeholders(arguments, static=static)
        with pytest.raises(ERRORS, match=pattern(argument, op)):
            session.run(flat(call(op, placeholders)), feeds)


@pytest.mark.parametrize("op", ["sequence", "step"])
@pytest.mark.parametrize(("argument", "value"), KERNELS + COUNTS[:3], ids=described)
def test_known_shapes_are_checked_while_the_graph_is_built(op: str, argument: str, value: Any) -> None:
    arguments = arguments_of(LSTM, op) | {argument: value}
    with tf.Graph().as_default(), pytest.raises((ValueError, TypeError), match=pattern(argument, op)):
        call(op, as_placeholders(arguments, static=True)[0])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("case", "argument", "value"),
    [
        (GRU, "kernels", [zeros(9, 10)]),
        (GRU, "kernels", [zeros(9, 10), zeros(9, 5), zeros(9, 5)]),
        (GRU, "kernels", [zeros(9, 15)]),
        (GRU, "kernels", [zeros(9, 10), zeros(9, 6)]),
        (GRU, "kernels", [zeros(9, 10), zeros(8, 5)]),
        (GRU, "kernels", [zeros(9, 5), zeros(9, 10)]),
        (GRU, "biases", [zeros(10)]),
        (GRU, "biases", [zeros(10), zeros(6)]),
        (GRU, "biases", [zeros(10), zeros(5), zeros(15)]),
        (GRU, "initial_state", [zeros(2, 6)]),
        (RESET_AFTER, "biases", [zeros(10), zeros(5)]),
        (RESET_AFTER, "biases", [zeros(10), zeros(5), zeros(10)]),
        (RESET_AFTER, "biases", [zeros(10), zeros(5), zeros(3, 5)]),
    ],
    ids=described,
)
def test_cells_of_several_kernels(op: str, case: Case, argument: str, value: Any) -> None:
    arguments = arguments_of(case, op) | {argument: value}
    with pytest.raises(ERRORS, match=pattern(argument, op)):
        call(op, arguments)


@pytest.mark.parametrize("op", ["sequence", "sequence_grad"])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("inputs", [zeros(2, 3, 4), zeros(2, 4, 4)], r"inputs of sequence 1 .*\[2, 3, 4\].*\[2, 4, 4\]"),
        (
            "kernels",
            [zeros(9, 20)] * 3,
            "kernels must hold 2 tensors .* and 2 sequences, got 3",
        ),
        ("kernels", [zeros(9, 20), zeros(9, 24)], r"kernel of sequence 1 .*\[9, 20\].*\[9, 24\]"),
        ("biases", [zeros(20), zeros(24)], r"bias of sequence 1 .*\[20\].*\[24\]"),
        ("initial_state", [zeros(2, 5)] * 3 + [zeros(3, 5)], "initial_state c of sequence 1"),
        ("state_mask", [zeros(2, 3, 5)], "state_mask must hold one for each of 2 sequences, got 1"),
        ("state_mask", [zeros(2, 3, 5), zeros(2, 3, 6)], "state_mask must be"),
        ("sequence_length", [np.array([3, 4])], "4 in row 1"),
        ("sequence_length", [np.array([3, 1])] * 2, "sequence_length must hold at most one tensor"),
        ("reverse", [False], "reverse must hold one for each of 2 sequences, got 1"),
        ("saved", [zeros(600, dtype=np.uint8), zeros(1, dtype=np.uint8)], "saved must be"),
        ("outputs", [zeros(2, 3, 5), zeros(2, 3, 6)], "outputs must be"),
        ("d_outputs", [zeros(2, 3, 5), zeros(2, 3, 6)], "d_outputs must be"),
        ("d_final_state", [zeros(2, 5)] * 3 + [zeros(2, 6)], "d_final_state must be"),
    ],
    ids=described,
)
def test_several_sequences(op: str, argument: str, value: Any, message: str) -> None:
    """The first is right: the error is in another, or in how many there are."""
    arguments = pair_arguments(LSTM, op)
    if argument not in arguments:
        pytest.skip(f"{op} has no {argument}")
    with pytest.raises(ERRORS, match=message):
        call(op, arguments | {argument: value})


def replaced(value: Any, convert: Any) -> Any:
    """The array, or the last one of a list, converted."""
    return [*value[:-1], convert(value[-1])] if isinstance(value, list) else convert(value)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, np.bool_])
def test_mixed_dtypes(op: str, dtype: Any) -> None:
    arguments = arguments_of(LSTM, op)
    for argument, value in arguments.items():
        if not is_array(value) or (argument == "sequence_length" and dtype == np.int32):
            continue
        tensors = {
            name: tf.nest.map_structure(tf.constant, given) if is_array(given) else given
            for name, given in arguments.items()
        }
        tensors[argument] = replaced(tensors[argument], lambda tensor: tf.cast(tensor, dtype))
        with pytest.raises(ERRORS):
            call(op, tensors)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("cell", "gated"),
        ("cell", 3),
        ("forget_bias", None),
        ("time_major", "yes"),
        ("reverse", 2.5),
        ("keep", "no"),
    ],
    ids=str,
)
def test_attributes(op: str, attribute: str, value: Any) -> None:
    arguments = arguments_of(LSTM, op)
    if attribute not in arguments:
        pytest.skip(f"{op} has no {attribute}")
    with pytest.raises(ERRORS, match=rf"\b{attribute}\b"):
        call(op, arguments | {attribute: value})


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("op", ["sequence_grad", "step_grad"])
def test_saved_of_another_cell_or_dtype(cell: str, op: str) -> None:
    case = Case("saved", cell, T=3, B=2, I=4, H=5)
    arguments = arguments_of(case, op)
    for other, dtype in ((cell, "float64"), (cell, "float16"), *((c, "float32") for c in CELLS if c != cell)):
        saved = arguments_of(Case("saved", other, T=3, B=2, I=4, H=5), op, dtype)["saved"]
        if np.size(saved) == np.size(arguments["saved"]):
            continue
        with pytest.raises(ERRORS, match=r"\bsaved\b"):
            call(op, arguments | {"saved": saved})


shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
floats = shapes.map(lambda shape: np.ones(shape, np.float32))
bytes_ = st.sampled_from([0, 1, 600, 4096]).map(lambda size: np.zeros(size, np.uint8))
lengths = st.lists(st.integers(-2, 5), max_size=4).map(lambda values: np.array(values, np.int64))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(OPS), st.sampled_from([LSTM, GRU, RESET_AFTER]), st.data())
def test_anything(op: str, case: Case, data: st.DataObject) -> None:
    """Whatever is given in place of one or two arguments gives results or an error."""
    arguments: Arguments = arguments_of(case, op)
    tensors = [name for name, value in arguments.items() if is_array(value)]
    for name in data.draw(st.lists(st.sampled_from(tensors), min_size=1, max_size=2, unique=True)):
        one = {"saved": bytes_, "sequence_length": lengths}.get(name, floats)
        many = isinstance(arguments[name], list)
        arguments[name] = data.draw(st.lists(one, max_size=3) if many else one)
    with contextlib.suppress(*ERRORS):
        assert all(result.numpy() is not None for result in flat(call(op, arguments)))


HUGE = """
import numpy as np
import tensorflow as tf
import fused_rnn

inputs = tf.zeros({shape}, tf.float16)
weights = tf.ones([9, 20], tf.float16), tf.ones([20], tf.float16)
with tf.GradientTape() as tape:
    tape.watch([inputs, *weights])
    outputs, state = fused_rnn.lstm(inputs, *weights, time_major={time_major})
gradients = tape.gradient(outputs, [inputs, *weights])
assert outputs.shape == [*inputs.shape[:2], 5], outputs.shape
assert state.h.shape == [0, 5]
assert not any(np.any(gradient) for gradient in gradients[1:])
"""


@pytest.mark.parametrize("steps", [2**33, 2**60])
@pytest.mark.parametrize("time_major", [False, True])
def test_many_steps_of_no_rows(steps: int, time_major: bool) -> None:
    """Sizes whose products overflow, in tensors that take no memory; in another process, should it crash."""
    shape = [steps, 0, 4] if time_major else [0, steps, 4]
    run_script(HUGE.format(shape=shape, time_major=time_major), timeout=60)
