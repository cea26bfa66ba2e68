"""The ops and their gradients. What takes the users' arguments stands in functional.py and rnn_cell.py."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import tensorflow as tf
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

from fused_rnn import composite
from fused_rnn.cell import Cell
from fused_rnn.scan import split

__all__ = ["Sequence", "sequences", "step"]

_library: Any = tf.load_op_library(str(pathlib.Path(__file__).with_name("_ops.so")))


class Sequence(NamedTuple):
    """What a cell runs over; shapes as in the op's definition, states [h], or [h, c] for the lstms."""

    inputs: tf.Tensor
    kernels: list[tf.Tensor]
    biases: list[tf.Tensor]
    initial_state: list[tf.Tensor]
    reverse: bool = False
    state_mask: tf.Tensor | None = None


def sequences(
    cell: Cell, given: list[Sequence], sequence_length: tf.Tensor | None, *, time_major: bool
) -> list[tuple[tf.Tensor, list[tf.Tensor]]]:
    """Runs a cell over sequences that are alike in shapes, lengths and whether they have a mask, in one op.

    Returns the outputs and the final state of each.
    """
    _refuse_xla()
    inputs, kernels, biases, states, reverse, masks = zip(*given, strict=True)
    results = _library.fused_rnn_sequence(
        inputs,
        _joined(kernels),
        _joined(biases),
        _joined(states),
        [] if sequence_length is None else [sequence_length],
        [mask for mask in masks if mask is not None],
        **_attributes_of(cell, inputs[0].dtype),
        time_major=time_major,
        reverse=reverse,
        keep=_gradient_possible(),
    )
    return list(zip(results.outputs, _shared_out(results.final_state, len(given)), strict=True))


def step(
    cell: Cell,
    inputs: tf.Tensor,
    kernels: list[tf.Tensor],
    biases: list[tf.Tensor],
    initial_state: list[tf.Tensor],
) -> list[tf.Tensor]:
    """Runs one step of a cell and returns the new state, [h] or [h, c]."""
    _refuse_xla()
    final_state, _ = _library.fused_rnn_step(
        inputs,
        kernels,
        biases,
        initial_state,
        **_attributes_of(cell, inputs.dtype),
        keep=_gradient_possible(),
    )
    return final_state


_CELL_ATTRIBUTES = ("cell", "activation", "forget_bias", "cell_clip", "proj_clip")


@functools.lru_cache
def _attributes_of(cell: Cell, dtype: tf.DType) -> dict[str, str]:
    """The cell as attributes of an op; numbers as text, which keeps all digits: TensorFlow's float attributes
    are float32. Limits are numbers of the dtype, as in `tf.clip_by_value`."""

    def limit(value: float | None) -> str:
        return repr(float("inf" if value is None else dtype.as_numpy_dtype(value)))

    return {
        "cell": cell.name,
        "activation": cell.activation,
        "forget_bias": repr(float(cell.forget_bias)),
        "cell_clip": limit(cell.cell_clip),
        "proj_clip": limit(cell.proj_clip),
    }


def _cell_of(op: tf.Operation) -> Cell:
    """The cell that an op's attributes describe."""
    name, activation, *numbers = (tf.compat.as_str(op.get_attr(name)) for name in _CELL_ATTRIBUTES)
    forget_bias, *limits = map(float, numbers)
    return Cell(name, activation, forget_bias, *(None if limit == math.inf else limit for limit in limits))


def _gradient_possible() -> bool:
    """Whether a gradient may be asked for. In a graph the op finds out when it runs; eagerly it cannot."""
    return not tf.executing_eagerly() or record.could_possibly_record()


def _refuse_xla() -> None:
    """XLA itself would only say so once everything is built, and at length."""
    if tf.executing_eagerly():
        return
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise NotImplementedError(
            "fused_rnn has no kernels for XLA: call it outside of tf.function(jit_compile=True)"
        )


def _joined(lists: Iterable[list[tf.Tensor]]) -> list[tf.Tensor]:
    return [tensor for tensors in lists for tensor in tensors]


def _shared_out(tensors: list[tf.Tensor], sequences: int) -> list[list[tf.Tensor]]:
    """Of a list that holds those of one sequence after another, each sequence's."""
    return split(tensors, *[len(tensors) // sequences] * sequences)


def _counts(op: tf.Operation) -> tuple[int, int, int]:
    return op.get_attr("num_kernels"), op.get_attr("num_biases"), op.get_attr("num_states")


def _sequence_counts(op: tf.Operation) -> tuple[int, ...]:
    """Of the inputs that both sequence ops have."""
    inputs, lengths, masks = (op.get_attr(f"num_{name}") for name in ("sequences", "lengths", "masks"))
    return (inputs, *_counts(op), lengths, masks)


def _attributes(op: tf.Operation, *names: str) -> dict[str, Any]:
    return {name: op.get_attr(name) for name in names}


def _given(gradients: Iterable[tf.Tensor | None], outputs: Iterable[tf.Tensor]) -> list[tf.Tensor]:
    return [
        tf.zeros_like(output) if gradient is None else gradient
        for gradient, output in zip(gradients, outputs, strict=True)
    ]


@tf.RegisterGradient("FusedRnnSequence")
def _sequence_grad(op: tf.Operation, *d_outputs: tf.Tensor | None) -> list[tf.Tensor | None]:
    counts = _sequence_counts(op)
    groups, sequences, states = split(op.inputs, *counts), counts[0], counts[3]
    outputs, final_state, saved = split(op.outputs, sequences, states, sequences)
    d_results = _given(d_outputs[:-sequences], outputs + final_state)
    gradients = _library.fused_rnn_sequence_grad(
        *groups,
        outputs,
        saved,
        *split(d_results, sequences, states),
        **_attributes(op, *_CELL_ATTRIBUTES, "time_major", "reverse"),
    )
    return [*tf.nest.flatten(list(gradients)), *(None for _ in _joined(groups[4:]))]


@tf.RegisterGradient("FusedRnnStep")
def _step_grad(op: tf.Operation, *d_outputs: tf.Tensor | None) -> list[tf.Tensor | None]:
    inputs, kernels, biases, states = split(op.inputs, 1, *_counts(op))
    gradients = _library.fused_rnn_step_grad(
        inputs[0],
        kernels,
        biases,
        states,
        list(op.outputs[:-1]),
        op.outputs[-1],
        _given(d_outputs[:-1], op.outputs[:-1]),
        **_attributes(op, *_CELL_ATTRIBUTES),
    )
    return tf.nest.flatten(list(gradients))


@tf.RegisterGradient("FusedRnnSequenceGrad")
def _sequence_grad_grad(op: tf.Operation, *d_gradients: tf.Tensor | None) -> list[tf.Tensor | None]:
    """For derivatives of second order and in forward mode; nothing else calls it."""
    counts = _sequence_counts(op)
    sequences, states = counts[0], counts[3]
    *groups, lengths, masks, results, d_results = split(op.inputs, *counts, 2 * sequences, sequences + states)
    d_arguments, d_d_results = composite.gradients_of_gradients(
        composite.sequences,
        groups,
        d_results,
        _given(d_gradients, op.outputs),
        lengths,
        masks,
        cell=_cell_of(op),
        **_attributes(op, "time_major", "reverse"),
    )
    return [*d_arguments, *(None for _ in lengths + masks + results), *d_d_results]


@tf.RegisterGradient("FusedRnnStepGrad")
def _step_grad_grad(op: tf.Operation, *d_gradients: tf.Tensor | None) -> list[tf.Tensor | None]:
    counts = _counts(op)
    *groups, results, d_results = split(op.inputs, 1, *counts, counts[2] + 1, counts[2])
    arguments = [groups[0][0], *groups[1:]]
    d_arguments, d_d_results = composite.gradients_of_gradients(
        composite.step, arguments, d_results, _given(d_gradients, op.outputs), cell=_cell_of(op)
    )
    return [*d_arguments, *(None for _ in results), *d_d_results]
