"""A loop over time that can be differentiated to any order; only inside a tf.function.

The gradient of a scan is again a scan, the other way through time; only the states are kept. TensorFlow never
differentiates the loop: its own second derivatives stop at parallel_for (tape.jacobian).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

__all__ = ["Step", "StepFunction", "Tensors", "scan", "split"]

Tensors = list[tf.Tensor]


class Step(NamedTuple):
    """What one step gives; or all of them, with the last state, outputs [T, ...] and the sums over time."""

    state: Tensors  # for the next step, of the shapes of the one before
    outputs: Tensors
    sums: Tensors  # of the shapes of the first so many constants


# (constants, state, inputs of one time, the rows that take the step: bool [B, 1]) -> Step, without a loop
StepFunction = Callable[[Tensors, Tensors, Tensors, tf.Tensor], Step]


def scan(
    step: StepFunction,
    constants: Tensors,
    state: Tensors,
    inputs: Tensors,
    active: tf.Tensor,
    output_shapes: Sequence[tf.TensorShape],
    *,
    sums: int = 0,
    backwards: bool = False,
) -> Step:
    """Runs a step over inputs [T, ...] each and active, bool [T, B, 1], forwards or backwards in time; T > 0.

    output_shapes are those of one step's outputs, and `sums` is how many sums there are. The step must use no
    tensors but those it gets, which, but for active, have one floating-point dtype.
    """
    counts = len(constants), len(state), len(inputs), 1
    result_counts = len(state), len(output_shapes), sums, len(state)
    name = f"FusedRnnScan-{uuid.uuid4().hex}"  # a loaded SavedModel may hold names of another process

    @tf.RegisterGradient(name)
    def _(op: tf.Operation, *d: tf.Tensor) -> list[tf.Tensor | None]:
        """As tf.custom_gradient has it, but of this op's tensors: in forward mode they are others."""
        total = sum(result_counts)
        constants, _, inputs, (active,) = split(op.inputs[total:], *counts)
        befores = op.outputs[total - len(state) : total]
        d_results = [tf.convert_to_tensor(part) for part in d[:total]]
        d_state, d_outputs, d_sums, d_befores = split(d_results, *result_counts)
        back = scan(
            _step_back(step, counts[:3], len(d_outputs)),
            [*constants, *d_sums],
            d_state,
            [*befores, *inputs, *d_outputs, *d_befores],
            active,
            [tensor.shape[1:] for tensor in inputs],
            sums=len(constants),
            backwards=not backwards,
        )
        return [*(None for _ in range(total)), *back.sums, *back.state, *back.outputs, None]

    results = _loop(step, constants, state, inputs, active, output_shapes, sums, backwards)
    with tf.compat.v1.get_default_graph().gradient_override_map({"IdentityN": name}):
        results = tf.identity_n([*results, *constants, *state, *inputs, active])
    return Step(*split(results, *result_counts)[:3])


def _step_back(step: StepFunction, counts: tuple[int, int, int], outputs: int) -> StepFunction:
    """The step of the gradient. Its state is d_state, its outputs are d_inputs and its sums d_constants.

    Its constants are those of the step and d_sums; its inputs are the state before, the inputs, d_outputs and
    what comes back for the state before.
    """

    def back(constants: Tensors, d_state: Tensors, inputs: Tensors, taken: tf.Tensor) -> Step:
        constants, d_sums = constants[: counts[0]], constants[counts[0] :]
        before, inputs, d_outputs, d_before = split(inputs, *counts[1:], outputs, counts[1])
        # A copy of each, so that a tensor which is given twice has two gradients.
        sources = [tf.identity(tensor) for tensor in [*constants, *before, *inputs]]
        constants, before, inputs = split(sources, *counts)
        done = step(constants, before, inputs, taken)
        d_sources = tf.gradients(
            [*done.state, *done.outputs, *done.sums],
            sources,
            [*d_state, *d_outputs, *d_sums],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        d_constants, d_state, d_inputs = split(d_sources, *counts)
        return Step([a + b for a, b in zip(d_state, d_before, strict=True)], d_inputs, d_constants)

    return back


def _loop(
    step: StepFunction,
    constants: Tensors,
    state: Tensors,
    inputs: Tensors,
    active: tf.Tensor,
    output_shapes: Sequence[tf.TensorShape],
    sums: int,
    backwards: bool,
) -> Tensors:
    """What `scan` says, then the states before each step [T, ...]; without a gradient."""
    T, dtype = tf.shape(active)[0], state[0].dtype
    given = [tf.TensorArray(dtype, T, element_shape=x.shape[1:]).unstack(x) for x in inputs]
    shapes = [*output_shapes, *(part.shape for part in state)]
    arrays = [tf.TensorArray(dtype, T, element_shape=shape) for shape in shapes]
    totals = [tf.zeros_like(constant) for constant in constants[:sums]]

    def body(t: tf.Tensor, state: Tensors, totals: Tensors, arrays: list[Any]) -> tuple[Any, ...]:
        at = T - 1 - t if backwards else t
        done = step(constants, state, [array.read(at) for array in given], tf.gather(active, at))
        for after, before in zip(done.state, state, strict=True):
            after.set_shape(before.shape)
        return (
            t + 1,
            done.state,
            [total + value for total, value in zip(totals, done.sums, strict=True)],
            [array.write(at, v) for array, v in zip(arrays, [*done.outputs, *state], strict=True)],
        )

    start = [tf.constant(0), state, totals, arrays]
    _, last, totals, arrays = tf.while_loop(lambda t, *_: t < T, body, start)
    stacked = [array.stack() for array in arrays]
    return [*last, *stacked[: len(output_shapes)], *totals, *stacked[len(output_shapes) :]]


def split(values: Sequence[Any], *counts: int) -> list[list[Any]]:
    """The first counts[0] values, the next counts[1], and so on."""
    parts, at = [], 0
    for count in counts:
        parts.append(list(values[at : at + count]))
        at += count
    return parts
