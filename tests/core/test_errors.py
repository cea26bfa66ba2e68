"""Malformed input to the core's Python functions is an error that names the argument; nothing crashes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cases import Case
from compare import assert_same_bits
from core.sequence import gpu_count, open_route

CASE = Case("malformed", "lstm", T=3, B=2, I=4, H=5, lengths=(3, 1))
GRU = Case("malformed", "gru_reset_after", T=3, B=2, I=4, H=5)

Arguments = dict[str, Any]


def forward_arguments(case: Case) -> Arguments:
    inputs = case.inputs("float32")
    return {
        "cell": case.cell,
        "x": inputs.x,
        "kernels": inputs.kernels,
        "biases": inputs.biases,
        "initial_state": inputs.initial_state,
        "lengths": inputs.lengths,
        "time_major": True,
    }


def backward_arguments(case: Case) -> Arguments:
    arguments = forward_arguments(case)
    y, _, saved = open_route("cpu").module.sequence_forward(**arguments)
    inputs = case.inputs("float32")
    return arguments | {"y": y, "saved": saved, "d_y": inputs.d_y, "d_final_state": inputs.d_final_state}


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


# The argument, what is wrong with it, what is given instead.
FORWARD: list[tuple[str, str, Any]] = [
    ("cell", "unknown", "gated"),
    ("x", "rank 0", zeros()),
    ("x", "rank 2", zeros(3, 4)),
    ("x", "rank 4", zeros(3, 2, 4, 1)),
    ("x", "integers", zeros(3, 2, 4, dtype=np.int32)),
    ("x", "complex", zeros(3, 2, 4, dtype=np.complex64)),
    ("x", "bool", zeros(3, 2, 4, dtype=bool)),
    ("kernels", "none", []),
    ("kernels", "one too many", [zeros(9, 20), zeros(9, 20)]),
    ("kernels", "ten", [zeros(9, 20)] * 10),
    ("kernels", "rank 1", [zeros(180)]),
    ("kernels", "rank 3", [zeros(9, 20, 1)]),
    ("kernels", "a row too few", [zeros(8, 20)]),
    ("kernels", "a row too many", [zeros(10, 20)]),
    ("kernels", "columns of other gates", [zeros(9, 15)]),
    ("kernels", "no columns", [zeros(9, 0)]),
    ("kernels", "no rows", [zeros(0, 20)]),
    ("kernels", "other dtype", [zeros(9, 20, dtype=np.float64)]),
    ("kernels", "half", [zeros(9, 20, dtype=np.float16)]),
    ("biases", "none", []),
    ("biases", "one too many", [zeros(20), zeros(20)]),
    ("biases", "rank 0", [zeros()]),
    ("biases", "rank 2", [zeros(1, 20)]),
    ("biases", "short", [zeros(19)]),
    ("biases", "long", [zeros(21)]),
    ("biases", "other dtype", [zeros(20, dtype=np.float64)]),
    ("initial_state", "none", []),
    ("initial_state", "c missing", [zeros(2, 5)]),
    ("initial_state", "one too many", [zeros(2, 5)] * 3),
    ("initial_state", "rank 1", [zeros(5), zeros(5)]),
    ("initial_state", "rank 3", [zeros(1, 2, 5), zeros(1, 2, 5)]),
    ("initial_state", "rows", [zeros(3, 5), zeros(3, 5)]),
    ("initial_state", "units", [zeros(2, 6), zeros(2, 6)]),
    ("initial_state", "c of other units", [zeros(2, 5), zeros(2, 6)]),
    ("initial_state", "other dtype", [zeros(2, 5), zeros(2, 5, dtype=np.float64)]),
    ("lengths", "negative", np.array([3, -1])),
    ("lengths", "too long", np.array([4, 1])),
    ("lengths", "very long", np.array([3, 2**62])),
    ("lengths", "one row too few", np.array([3])),
    ("lengths", "one row too many", np.array([3, 1, 1])),
    ("device", "unknown", "tpu"),
    ("threads", "zero", 0),
    ("threads", "negative", -3),
]

BACKWARD: list[tuple[str, str, Any]] = [
    *FORWARD,
    ("y", "rank", zeros(3, 10)),
    ("y", "units", zeros(3, 2, 6)),
    ("y", "times", zeros(2, 2, 5)),
    ("y", "other dtype", zeros(3, 2, 5, dtype=np.float16)),
    ("saved", "rank", zeros(3, 2, 25)),
    ("saved", "of another cell", zeros(3, 2, 3, 5)),
    ("saved", "rows", zeros(3, 1, 5, 5)),
    ("saved", "other dtype", zeros(3, 2, 5, 5, dtype=np.float64)),
    ("d_y", "rank", zeros(3, 10)),
    ("d_y", "batch-major", zeros(2, 3, 5)),
    ("d_y", "other dtype", zeros(3, 2, 5, dtype=np.float64)),
    ("d_final_state", "none", []),
    ("d_final_state", "one too many", [zeros(2, 5)] * 3),
    ("d_final_state", "rows", [zeros(2, 5), zeros(1, 5)]),
    ("d_final_state", "other dtype", [zeros(2, 5), zeros(2, 5, dtype=np.float64)]),
]


# Kernels and biases have names of their own in each cell; x and lengths are called as in TensorFlow.
NAMES = {
    "x": "inputs",
    "kernels": r"kernels|(\w+_)?kernel",
    "biases": r"biases|(\w+_)?bias",
    "lengths": "sequence_length",
}


def names(argument: str) -> str:
    """A pattern that finds the argument in a message."""
    return rf"\b({NAMES.get(argument, argument)})\b"


def identifier(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("argument", "what", "value"), FORWARD, ids=identifier)
def test_forward(argument: str, what: str, value: Any) -> None:
    arguments = forward_arguments(CASE) | {argument: value}
    with pytest.raises(ValueError, match=names(argument)):
        open_route("cpu").module.sequence_forward(**arguments)


@pytest.mark.parametrize(("argument", "what", "value"), BACKWARD, ids=identifier)
def test_backward(argument: str, what: str, value: Any) -> None:
    arguments = backward_arguments(CASE) | {argument: value}
    with pytest.raises(ValueError, match=names(argument)):
        open_route("cpu").module.sequence_backward(**arguments)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("kernels", [zeros(9, 10)]),
        ("kernels", [zeros(9, 15)]),
        ("kernels", [zeros(9, 10), zeros(9, 6)]),
        ("kernels", [zeros(9, 10), zeros(8, 5)]),
        ("biases", [zeros(10), zeros(5)]),
        ("biases", [zeros(10), zeros(5), zeros(10)]),
        ("biases", [zeros(10), zeros(5), zeros(3, 5)]),
    ],
)
def test_second_kernels_and_biases(argument: str, value: Any) -> None:
    arguments = forward_arguments(GRU) | {argument: value}
    with pytest.raises(ValueError, match=names(argument)):
        open_route("cpu").module.sequence_forward(**arguments)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lengths", np.array(3)),
        ("lengths", np.array([[3, 1]])),
        ("lengths", np.array([2.5, 1.0])),
        ("cell", 3),
        ("x", None),
        ("x", "text"),
        ("kernels", None),
        ("kernels", [None]),
        ("biases", 1.0),
        ("threads", "2"),
    ],
)
def test_what_is_no_array(argument: str, value: Any) -> None:
    arguments = forward_arguments(CASE) | {argument: value}
    with pytest.raises((TypeError, ValueError)):
        open_route("cpu").module.sequence_forward(**arguments)


def test_backward_of_a_forward_that_kept_nothing() -> None:
    with pytest.raises((TypeError, ValueError)):
        open_route("cpu").module.sequence_backward(**backward_arguments(CASE) | {"saved": None})


def test_the_message_names_the_row_of_a_wrong_length() -> None:
    arguments = forward_arguments(CASE) | {"lengths": np.array([3, 7])}
    with pytest.raises(ValueError, match=r"\bsequence_length\b.*\b7 in row 1\b"):
        open_route("cpu").module.sequence_forward(**arguments)


@pytest.mark.parametrize(
    ("argument", "value", "both"),
    [
        ("kernels", [zeros(8, 20)], r"kernel\b.*\[9, 20\].*\[8, 20\]"),
        ("x", zeros(3, 2, 9), r"kernel\b.*\[14, 20\].*\[9, 20\]"),
        ("biases", [zeros(4)], r"bias\b.*\[20\].*\[4\]"),
        ("initial_state", [zeros(2, 5), zeros(3, 5)], r"initial_state\b.*\[2, 5\].*\[3, 5\]"),
    ],
)
def test_the_message_names_both_shapes(argument: str, value: Any, both: str) -> None:
    with pytest.raises(ValueError, match=both):
        open_route("cpu").module.sequence_forward(**forward_arguments(CASE) | {argument: value})


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_integer_types_of_lengths(dtype: Any) -> None:
    module, arguments = open_route("cpu").module, forward_arguments(CASE)
    expected, _, _ = module.sequence_forward(**arguments)
    y, _, _ = module.sequence_forward(**arguments | {"lengths": arguments["lengths"].astype(dtype)})
    assert_same_bits({"y": y}, {"y": expected})


def strided(array: np.ndarray) -> np.ndarray:
    """The same values, every other element of a wider array."""
    wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan, array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


@pytest.mark.parametrize(
    "argument", ["x", "kernels", "biases", "initial_state", "y", "saved", "d_y", "d_final_state"]
)
def test_arrays_that_are_not_contiguous(argument: str) -> None:
    """They give the same results; what counts is the array, not how it lies."""
    module, arguments = open_route("cpu").module, backward_arguments(CASE)
    value = arguments[argument]
    changed = [strided(array) for array in value] if isinstance(value, list) else strided(value)
    assert_same_bits(
        flat(module.sequence_backward(**arguments | {argument: changed})),
        flat(module.sequence_backward(**arguments)),
    )


def flat(gradients: tuple) -> dict[str, np.ndarray]:
    d_x, *lists = gradients
    return {
        f"gradient {k}": array
        for k, array in enumerate([d_x, *(array for arrays in lists for array in arrays)])
    }


def test_a_device_that_is_not_there() -> None:
    """Without CUDA in the build or without a GPU it is one clear sentence."""
    if gpu_count() and open_route("cpu").module.build_info()["cuda_version"]:
        pytest.skip("there is a GPU")
    with pytest.raises((ValueError, RuntimeError), match=r"CUDA|GPU"):
        open_route("cpu").module.sequence_forward(**forward_arguments(CASE), device="cuda")
