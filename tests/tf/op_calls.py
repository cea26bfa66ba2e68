"""Calls of the four ops themselves, below everything that checks arguments in Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from cases import Case
from fused_rnn import ops
from fused_rnn.cell import Cell

Arguments = dict[str, Any]  # tensors and lists of tensors by name, and the attributes

OPS = ("sequence", "sequence_grad", "step", "step_grad")
LIBRARY = ops._library


def attributes(case: Case, op: str) -> Arguments:
    options = (case.activation, case.forget_bias, case.cell_clip, case.proj_clip)
    found: Arguments = dict(ops._attributes_of(Cell(case.cell, *options), tf.float32))
    if op.startswith("sequence"):
        found |= {"time_major": False, "reverse": [case.reverse]}
    return found if op.endswith("grad") else found | {"keep": True}


def forward_arguments(case: Case, op: str, dtype: str = "float32") -> Arguments:
    """What "sequence" or "step" takes; a step is that of the case's first time."""
    inputs = case.inputs(dtype)
    found = {
        "inputs": inputs.x[0] if op.startswith("step") else [np.ascontiguousarray(inputs.x.swapaxes(0, 1))],
        "kernels": inputs.kernels,
        "biases": inputs.biases,
        "initial_state": inputs.initial_state,
    }
    if op.startswith("sequence"):
        found["sequence_length"] = [] if inputs.lengths is None else [inputs.lengths]
        found["state_mask"] = [] if inputs.state_mask is None else [inputs.state_mask.swapaxes(0, 1)]
    return found | attributes(case, op)


def backward_arguments(case: Case, op: str, dtype: str = "float32") -> Arguments:
    """What "sequence_grad" or "step_grad" takes, with the forward op's own results."""
    forward_op = op.removesuffix("_grad")
    inputs, forward = case.inputs(dtype), forward_arguments(case, forward_op, dtype)
    results = call(forward_op, forward)
    found = {name: value for name, value in forward.items() if name != "keep"}
    found["d_final_state"] = inputs.d_final_state
    if op == "step_grad":
        found["saved"] = results.saved.numpy()
        return found | {"final_state": [state.numpy() for state in results.final_state]}
    kept = {name: [tensor.numpy() for tensor in getattr(results, name)] for name in ("outputs", "saved")}
    return found | kept | {"d_outputs": [inputs.d_y.swapaxes(0, 1)]}


def arguments_of(case: Case, op: str, dtype: str = "float32") -> Arguments:
    make = backward_arguments if op.endswith("grad") else forward_arguments
    return make(case, op, dtype)


def pair_arguments(case: Case, op: str) -> Arguments:
    """What "sequence" or "sequence_grad" takes for a case and, beside it, the same the other way round."""
    one = arguments_of(case, op)
    both = {
        name: value * 2 if isinstance(value, list) and name != "sequence_length" else value
        for name, value in one.items()
    }
    return both | {"reverse": [case.reverse, not case.reverse]}


def call(op: str, arguments: Arguments) -> Any:
    """The op's named outputs."""
    return getattr(LIBRARY, f"fused_rnn_{op}")(**arguments)


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (
        isinstance(value, list) and all(isinstance(item, np.ndarray) for item in value)
    )


def as_placeholders(arguments: Arguments, *, static: bool) -> tuple[Arguments, dict[Any, np.ndarray]]:
    """The same call with placeholders, of known shapes or of none, and what to feed them."""
    feeds: dict[Any, np.ndarray] = {}

    def placeholder(array: np.ndarray) -> Any:
        tensor = tf.compat.v1.placeholder(array.dtype, array.shape if static else None)
        feeds[tensor] = array
        return tensor

    replaced = {}
    for name, value in arguments.items():
        replaced[name] = tf.nest.map_structure(placeholder, value) if is_array(value) else value
    return replaced, feeds


def flat(results: Any) -> list[Any]:
    """The tensors of an op's outputs in one list."""
    return tf.nest.flatten(results._asdict())
