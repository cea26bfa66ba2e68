"""Wrong arguments of fused_rnn.lstm, gru and rnn: an error that names the argument, whenever it shows."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import fused_rnn
from cases import Case
from tf.functional_runs import WEIGHTS as CELLS
from tf.functional_runs import call, feeds

v1 = tf.compat.v1
ERRORS = (ValueError, TypeError, tf.errors.InvalidArgumentError)
cells = pytest.mark.parametrize("cell", CELLS)


def case_of(cell: str) -> Case:
    return Case("arguments", cell, T=3, B=2, I=4, H=5, lengths=(3, 1))


def arguments(cell: str) -> dict[str, Any]:
    case = case_of(cell)
    return feeds(case, case.inputs("float32"), time_major=False)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


# Cell, argument and what is given instead: wrong shapes that a graph may learn of only when it runs.
SHAPES: list[tuple[str, str, np.ndarray]] = [
    ("lstm", "inputs", zeros(2, 4)),
    ("lstm", "inputs", zeros(2, 3, 4, 1)),
    ("lstm", "inputs", zeros(2, 3, 0)),
    ("lstm", "kernel", zeros(180)),
    ("lstm", "kernel", zeros(9, 20, 1)),
    ("lstm", "kernel", zeros(8, 20)),
    ("lstm", "kernel", zeros(10, 20)),
    ("lstm", "kernel", zeros(9, 19)),
    ("lstm", "kernel", zeros(9, 0)),
    ("lstm", "kernel", zeros(0, 20)),
    ("lstm", "bias", zeros()),
    ("lstm", "bias", zeros(19)),
    ("lstm", "bias", zeros(1, 20)),
    ("lstm", "c", zeros(2, 4)),
    ("lstm", "c", zeros(3, 5)),
    ("lstm", "h", zeros(5)),
    ("lstm", "h", zeros(1, 2, 5)),
    ("rnn", "inputs", zeros(4)),
    ("rnn", "kernel", zeros(9, 4)),
    ("rnn", "bias", zeros(6)),
    ("rnn", "h", zeros(1, 5)),
    ("gru", "inputs", zeros(2, 3, 5)),
    ("gru", "gate_kernel", zeros(9)),
    ("gru", "gate_kernel", zeros(9, 9)),
    ("gru", "gate_kernel", zeros(8, 10)),
    ("gru", "gate_bias", zeros(5)),
    ("gru", "gate_bias", zeros(2, 5)),
    ("gru", "candidate_kernel", zeros(9, 6)),
    ("gru", "candidate_kernel", zeros(9)),
    ("gru", "candidate_bias", zeros(10)),
    ("gru", "candidate_bias", zeros(5, 1)),
    ("gru", "h", zeros(2, 10)),
    ("gru_reset_after", "recurrent_bias", zeros(10)),
    ("gru_reset_after", "recurrent_bias", zeros(3, 5)),
    ("lstm", "sequence_length", np.array(3)),
    ("lstm", "sequence_length", np.array([[3, 1]])),
    ("lstm", "sequence_length", np.array([3])),
    ("gru", "sequence_length", np.array([3, 1, 1])),
]
# The same, wrong in value: known only when they run.
LENGTHS = [([3, -1], 1), ([4, 1], 0), ([-(2**40), 1], 0), ([0, 2**62], 1)]
STATES = {"h": "initial_state", "c": "initial_state"}


def pattern(argument: str) -> str:
    return rf"\b{STATES.get(argument, argument)}\b"


def identifier(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, np.ndarray) else str(value)


def blames(cell: str, argument: str, value: np.ndarray) -> str:
    """Who is named: where the inputs' width and the kernel's rows do not fit, the kernel."""
    if argument == "inputs" and value.ndim == 3 and value.shape[-1] > 0:
        return r"\b(gate_)?kernel\b"
    return pattern(argument)


@pytest.mark.parametrize(("cell", "argument", "value"), SHAPES, ids=identifier)
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no_state"])
def test_shapes_eagerly(cell: str, argument: str, value: np.ndarray, with_state: bool) -> None:
    given = arguments(cell) | {argument: value}
    if not with_state:
        if argument in STATES:
            pytest.skip("a state is what is wrong")
        given = {name: array for name, array in given.items() if name not in STATES}
    with pytest.raises(ERRORS, match=blames(cell, argument, value)):
        call(case_of(cell), given)


@pytest.mark.parametrize(("cell", "argument", "value"), SHAPES, ids=identifier)
@pytest.mark.parametrize("with_state", [True, False], ids=["state", "no_state"])
@pytest.mark.parametrize("static_shapes", [True, False], ids=["known", "unknown"])
def test_shapes_in_graphs(
    cell: str, argument: str, value: np.ndarray, with_state: bool, static_shapes: bool
) -> None:
    given = arguments(cell) | {argument: value}
    if not with_state:
        if argument in STATES:
            pytest.skip("a state is what is wrong")
        given = {name: array for name, array in given.items() if name not in STATES}
    if static_shapes:
        expected: tuple[type[Exception], ...] = (ValueError, TypeError)
    else:
        expected = (ValueError, TypeError, tf.errors.InvalidArgumentError)
    with tf.Graph().as_default(), v1.Session() as session:
        fed = {
            name: v1.placeholder(array.dtype, array.shape if static_shapes else None)
            for name, array in given.items()
        }

        def build_and_run() -> None:
            outputs, _ = call(case_of(cell), fed)
            session.run(outputs, {fed[name]: array for name, array in given.items()})

        with pytest.raises(expected, match=blames(cell, argument, value)):
            build_and_run()


@cells
@pytest.mark.parametrize(("lengths", "row"), LENGTHS, ids=str)
def test_lengths_outside(cell: str, lengths: list[int], row: int) -> None:
    """An InvalidArgumentError that names the row, in graphs when they run."""
    given = arguments(cell) | {"sequence_length": np.array(lengths)}
    message = rf"\bsequence_length\b.* {lengths[row]} in row {row}\b"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(case_of(cell), given)
    with tf.Graph().as_default(), v1.Session() as session:
        outputs, _ = call(case_of(cell), given)
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            session.run(outputs)

    @tf.function
    def function(given: dict[str, Any]) -> Any:
        return call(case_of(cell), given)[0]

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        function({name: tf.constant(array) for name, array in given.items()})


DTYPES: list[tuple[str, str, Any]] = [
    *(("lstm", name, tf.float64) for name in ("kernel", "bias", "h", "c")),
    *(
        ("gru", name, tf.float16)
        for name in ("gate_kernel", "candidate_kernel", "gate_bias", "candidate_bias", "h")
    ),
    ("gru_reset_after", "recurrent_bias", tf.bfloat16),
    *(("rnn", name, tf.int32) for name in ("kernel", "bias", "h", "inputs")),
    *(("lstm", "inputs", dtype) for dtype in (tf.complex64, tf.string, tf.bool)),
    *(("lstm", "sequence_length", dtype) for dtype in (tf.float32, tf.string, tf.bool)),
]


@pytest.mark.parametrize(("cell", "argument", "dtype"), DTYPES, ids=lambda v: getattr(v, "name", v))
@pytest.mark.parametrize("graph", [True, False], ids=["graph", "eager"])
def test_dtypes(cell: str, argument: str, dtype: tf.DType, graph: bool) -> None:
    with tf.Graph().as_default() if graph else tf.init_scope():
        given = {name: tf.constant(array) for name, array in arguments(cell).items()}
        shape = given[argument].shape
        given[argument] = tf.fill(shape, "text") if dtype == tf.string else tf.cast(tf.zeros(shape), dtype)
        with pytest.raises(TypeError, match=pattern(argument)):
            call(case_of(cell), given)


STRUCTURES: list[tuple[str, str, Any]] = [
    ("lstm", "initial_state", zeros(2, 5)),
    ("lstm", "initial_state", zeros(2, 2, 5)),
    ("lstm", "initial_state", tf.zeros([2, 2, 5])),
    ("lstm", "initial_state", (zeros(2, 5),)),
    ("lstm", "initial_state", (zeros(2, 5),) * 3),
    ("lstm", "initial_state", {"c": zeros(2, 5), "h": zeros(2, 5)}),
    ("lstm", "initial_state", "ch"),
    ("rnn", "initial_state", (zeros(2, 5), zeros(2, 5))),
    ("rnn", "initial_state", "h"),
    ("lstm", "kernel", None),
    ("lstm", "bias", None),
    ("lstm", "inputs", None),
    ("lstm", "inputs", tf.ragged.constant([[[1.0]], [[2.0], [3.0]]])),
    ("lstm", "inputs", tf.sparse.from_dense(zeros(2, 3, 4))),
    ("lstm", "kernel", "text"),
    ("lstm", "kernel", [[1.0], [2.0, 3.0]]),
    ("rnn", "sequence_length", "text"),
    ("rnn", "sequence_length", [[1], [2, 3]]),
    ("lstm", "forget_bias", "text"),
    ("lstm", "forget_bias", None),
    ("lstm", "forget_bias", [1.0, 2.0]),
    ("lstm", "time_major", None),
    ("rnn", "time_major", "yes"),
    ("rnn", "reverse", "yes"),
    ("rnn", "reverse", None),
]


@pytest.mark.parametrize(
    ("cell", "argument", "value"), STRUCTURES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_structures(cell: str, argument: str, value: Any) -> None:
    """What is no tensor, no pair, no number or no bool."""
    names = ("inputs", "kernel", "bias", "sequence_length")
    given = {name: array for name, array in arguments(cell).items() if name in names}
    with pytest.raises(ERRORS, match=pattern(argument)):
        getattr(fused_rnn, cell)(**given | {argument: value})


@pytest.mark.parametrize("state", [list, tuple, lambda pair: fused_rnn.LSTMStateTuple(*pair)])
def test_pairs(state: Any) -> None:
    given = arguments("lstm")
    pair = [given.pop("c"), given.pop("h")]
    fused_rnn.lstm(**given, initial_state=state(pair))


def test_a_reset_gate_after_the_product_needs_its_bias() -> None:
    given = {name: array for name, array in arguments("gru_reset_after").items() if name != "h"}
    fused_rnn.gru(**given, reset_after=True)
    with pytest.raises(ValueError, match="recurrent_bias has no use"):
        fused_rnn.gru(**given)
    del given["recurrent_bias"]
    fused_rnn.gru(**given)
    with pytest.raises(ValueError, match=r"recurrent_bias .* is required"):
        fused_rnn.gru(**given, reset_after=True)


@pytest.mark.parametrize(
    ("argument", "value", "both"),
    [
        ("kernel", zeros(8, 20), r"kernel\b.*\[9, 20\].*\[8, 20\]"),
        ("bias", zeros(4), r"bias\b.*\[20\].*\[4\]"),
        ("h", zeros(3, 5), r"initial_state\b.*\[2, 5\].*\[3, 5\]"),
        ("sequence_length", np.array([1, 2, 3]), r"sequence_length\b.*\[2\].*\[3\]"),
    ],
)
def test_the_message_names_both_shapes(argument: str, value: np.ndarray, both: str) -> None:
    with pytest.raises(ERRORS, match=both) as error:
        call(case_of("lstm"), arguments("lstm") | {argument: value})
    assert not re.search(r"0x[0-9a-f]+", str(error.value))
