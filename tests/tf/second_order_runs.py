"""Second-order derivatives of a case, by the fused ops and by the reference cells."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from cases import Array, Case, Inputs
from fused_rnn import ops
from fused_rnn.cell import Cell
from tf.evaluate import Arrays, Tensors, evaluate
from tf.functional_runs import WEIGHTS, call, feeds
from tf.tensorflow_cells import REFERENCE, make

# tensors by name -> [outputs [T, B, H], *state], whose h comes first
Forward = Callable[[Tensors], list[Any]]
# x [B, I], state -> the new state
Step = Callable[[Any, list[Any]], list[Any]]

ZERO = tf.UnconnectedGradients.ZERO

# The reference cells, and where each keeps its weights.
REFERENCE_CELLS: dict[str, tuple[str, dict[str, str]]] = {
    "rnn": ("BasicRNNCell", {"kernel": "_kernel", "bias": "_bias"}),
    "lstm": ("LSTMCell", {"kernel": "_kernel", "bias": "_bias"}),
    "gru": ("GRUCell", {name: f"_{name}" for name in WEIGHTS["gru"]}),
}


def reference_step(case: Case, given: Tensors) -> Step:
    """One step of TensorFlow's cell, or Keras's where TensorFlow has none, with the tensors for weights."""
    if case.cell == "gru_reset_after":
        return _keras_gru_step(case, given)
    kind, attributes = REFERENCE_CELLS[case.cell]
    options = {"forget_bias": case.forget_bias} if case.cell == "lstm" else {}
    cell = make(REFERENCE, kind, case.H, dtype=given["inputs"].dtype, **options)
    for name, attribute in attributes.items():
        setattr(cell, attribute, given[name])

    def step(x: Any, state: list[Any]) -> list[Any]:
        if case.cell != "lstm":
            return [cell.call(x, state[0])[0]]
        _, after = cell.call(x, REFERENCE.LSTMStateTuple(c=state[1], h=state[0]))
        return [after.h, after.c]

    return step


def _keras_gru_step(case: Case, given: Tensors) -> Step:
    """Keras has the gates in the order u, r, c."""

    def reordered(tensor: Any) -> Any:
        r, u, c = tf.split(tensor, 3, axis=-1)
        return tf.concat([u, r, c], -1)

    cell = tf.keras.layers.GRUCell(case.H, reset_after=True, dtype=given["inputs"].dtype.name)
    kernel = reordered(tf.concat([given["gate_kernel"], given["candidate_kernel"]], 1))
    bias = tf.concat([given["gate_bias"], given["candidate_bias"]], 0)
    cell.kernel, cell.recurrent_kernel = kernel[: case.I], kernel[case.I :]
    cell.bias = tf.stack([reordered(bias), reordered(given["recurrent_bias"])])
    return lambda x, state: [cell.call(x, state)[0]]


def reference_forward(case: Case, lengths: Array | None = None) -> Forward:
    """TensorFlow's cell, step by step without a loop."""
    ends = np.full(case.B, case.T) if lengths is None else lengths

    def forward(given: Tensors) -> list[Any]:
        step, x = reference_step(case, given), given["inputs"]
        state = [given[name] for name in "hc" if name in given]
        outputs = [tf.zeros_like(state[0])] * case.T
        for t in reversed(range(case.T)) if case.reverse else range(case.T):
            taken = ends[:, np.newaxis] > t
            after = step(x[t], state)
            outputs[t] = tf.where(taken, after[0], tf.zeros_like(after[0]))
            state = [tf.where(taken, new, old) for new, old in zip(after, state, strict=True)]
        return [tf.stack(outputs) if outputs else tf.zeros([0, *state[0].shape], x.dtype), *state]

    return forward


def fused_forward(case: Case, lengths: Array | None = None, *, time_major: bool = True) -> Forward:
    """The function of the case's cell, on the sequence op."""

    def forward(given: Tensors) -> list[Any]:
        x = given["inputs"] if time_major else tf.transpose(given["inputs"], [1, 0, 2])
        rest = {} if lengths is None else {"sequence_length": lengths}
        outputs, state = call(case, given | {"inputs": x} | rest, time_major=time_major)
        return [outputs if time_major else tf.transpose(outputs, [1, 0, 2]), *state]

    return forward


def stepwise_forward(case: Case) -> Forward:
    """The same by the step op."""
    kernels = [name for name in WEIGHTS[case.cell] if "kernel" in name]
    biases = [name for name in WEIGHTS[case.cell] if "bias" in name]

    def forward(given: Tensors) -> list[Any]:
        state, outputs = [given[name] for name in "hc" if name in given], []
        for t in reversed(range(case.T)) if case.reverse else range(case.T):
            weights = [given[name] for name in kernels], [given[name] for name in biases]
            state = ops.step(
                Cell(case.cell, forget_bias=case.forget_bias), given["inputs"][t], *weights, state
            )
            outputs.append(state[0])
        return [tf.stack(outputs[::-1] if case.reverse else outputs), *state]

    return forward


def arguments_of(case: Case, inputs: Inputs) -> Arrays:
    """What is differentiated by, but for the gradients of the results: inputs, weights, h and c by name."""
    return {name: array for name, array in feeds(case, inputs).items() if name != "sequence_length"}


def second_order(
    forward: Forward,
    arguments: Arrays,
    d_results: list[Array],
    mode: str,
    products: Arrays | None = None,
    **options: Any,
) -> Arrays:
    """The derivatives of the gradients' products with other tensors, by the arguments and by d_results.

    products: one for each of the arguments; random ones if None. options: as for `evaluate`.
    """
    given = arguments | {f"d{k}": d for k, d in enumerate(d_results)}
    products = random_like(arguments) if products is None else products

    def build(given: Tensors) -> Tensors:
        d = [given[f"d{k}"] for k in range(len(d_results))]
        sources = [given[name] for name in arguments]
        weights = [given[f"product {name}"] for name in arguments]
        if mode == "graph":
            first = tf.gradients(forward(given), sources, d, unconnected_gradients=ZERO)
            second = tf.gradients(first, sources + d, weights, unconnected_gradients=ZERO)
        else:
            with tf.GradientTape() as outer:
                outer.watch(sources + d)
                with tf.GradientTape() as inner:
                    inner.watch(sources)
                    results = forward(given)
                first = inner.gradient(results, sources, d, unconnected_gradients=ZERO)
            second = outer.gradient(first, sources + d, weights, unconnected_gradients=ZERO)
        names = [*arguments, *(f"d{k}" for k in range(len(d)))]
        return dict(zip(names, map(tf.convert_to_tensor, second), strict=True))

    given |= {f"product {name}": array for name, array in products.items()}
    return evaluate(mode, build, given, **options)


def random_like(arrays: Arrays) -> Arrays:
    rng = np.random.default_rng(11)
    return {name: rng.standard_normal(array.shape).astype(array.dtype) for name, array in arrays.items()}


def results_d(inputs: Inputs) -> list[Array]:
    return [inputs.d_y, *inputs.d_final_state]


@lru_cache(maxsize=64)
def expected_second_order(case: Case, dtype: str = "float64") -> tuple[Arrays, Arrays]:
    """By the reference cells: in float64 for the inputs rounded to dtype, and in dtype itself."""

    def run(inputs: Inputs) -> Arrays:
        forward = reference_forward(case, inputs.lengths)
        return second_order(forward, arguments_of(case, inputs), results_d(inputs), "eager")

    inputs = case.inputs(dtype)
    exact = run(inputs.astype(np.dtype(np.float64)))
    return exact, exact if dtype == "float64" else run(inputs)
