"""Runs a case through fused_rnn.lstm, gru or rnn."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import fused_rnn
from cases import Case, Inputs, Results
from tf.cell_runs import named
from tf.evaluate import evaluate, with_gradients

# The weights of each function by name, kernels first, as in tests/reference.py.
WEIGHTS = {
    "rnn": ("kernel", "bias"),
    "lstm": ("kernel", "bias"),
    "gru": ("gate_kernel", "candidate_kernel", "gate_bias", "candidate_bias"),
    "gru_reset_after": ("gate_kernel", "candidate_kernel", "gate_bias", "candidate_bias", "recurrent_bias"),
}
KERNELS = {"rnn": 1, "lstm": 1, "gru": 2, "gru_reset_after": 2}


def call(case: Case, given: dict[str, Any], **options: Any) -> tuple[Any, list[Any]]:
    """The function of the case's cell on `given`: inputs, the weights by name, h and c, sequence_length.

    -> outputs, [h] or [h, c]
    """
    function = getattr(fused_rnn, case.cell.removesuffix("_reset_after"))
    arguments = {name: given[name] for name in WEIGHTS[case.cell]}
    if "h" in given:
        arguments["initial_state"] = (given["c"], given["h"]) if case.cell == "lstm" else given["h"]
    if "sequence_length" in given:
        arguments["sequence_length"] = given["sequence_length"]
    if case.cell == "lstm":
        arguments["forget_bias"] = case.forget_bias
    if case.cell == "gru_reset_after":
        arguments["reset_after"] = True
    outputs, state = function(given["inputs"], **arguments, reverse=case.reverse, **options)
    return outputs, [state.h, state.c] if case.cell == "lstm" else [state]


def feeds(case: Case, inputs: Inputs, time_major: bool = True) -> dict[str, np.ndarray]:
    """By the names of the arguments. `inputs` is laid out as time_major says."""
    found = {"inputs": inputs.x if time_major else np.ascontiguousarray(inputs.x.swapaxes(0, 1))}
    found |= dict(zip(WEIGHTS[case.cell], inputs.kernels + inputs.biases, strict=True))
    found |= dict(zip("hc", inputs.initial_state, strict=False))
    if inputs.lengths is not None:
        found["sequence_length"] = inputs.lengths
    return found


def run(
    case: Case, inputs: Inputs, mode: str, *, time_major: bool = True, static_shapes: bool = True
) -> Results:
    """Every value and gradient, time-major, by the names of tests/cases.py."""
    arguments = feeds(case, inputs, time_major)
    d_results = [inputs.d_y if time_major else inputs.d_y.swapaxes(0, 1), *inputs.d_final_state]

    def build(given: dict[str, Any]) -> dict[str, Any]:
        sources = [given[name] for name in arguments if name != "sequence_length"]

        def forward() -> list[Any]:
            outputs, state = call(case, given, time_major=time_major)
            return [outputs, *state]

        d = [given[f"d{k}"] for k in range(len(d_results))]
        results, gradients = with_gradients(mode, forward, lambda: sources, d, sources)
        if not time_major:
            results[0], gradients[0] = (tf.transpose(t, [1, 0, 2]) for t in (results[0], gradients[0]))
        kernels = KERNELS[case.cell]
        return named(results, gradients, kernels, len(WEIGHTS[case.cell]) - kernels)

    given = arguments | {f"d{k}": array for k, array in enumerate(d_results)}
    return evaluate(mode, build, given, static_shapes=static_shapes)
