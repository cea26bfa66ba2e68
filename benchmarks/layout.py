"""Weights and gradients between TensorFlow 1's layout and a peer's: x and h rows apart, gates reordered.

A gate order is a string of gate letters: i, j, f, o for the LSTM, r, u, c for the GRU, h for the plain
network.
"""

from typing import NamedTuple

import numpy as np

from workload import FloatArray

ORDERS = {"lstm": "ijfo", "gru": "ruc", "gru_reset_after": "ruc", "rnn": "h"}


class SplitWeights(NamedTuple):
    """One layer's weights with G gates in some order; the recurrent bias is zero where a cell has none."""

    kernel: FloatArray  # [I, G*H]
    recurrent: FloatArray  # [H, G*H]
    bias: FloatArray  # [G*H]
    recurrent_bias: FloatArray  # [G*H]


def reorder(array: FloatArray, source: str, target: str) -> FloatArray:
    """[..., G*H] with the gates in the order `source` -> the same with the gates in the order `target`"""
    blocks = dict(zip(source, np.split(array, len(source), axis=-1), strict=True))
    return np.concatenate([blocks[gate] for gate in target], axis=-1)


def to_split(cell: str, weights: dict[str, FloatArray], order: str) -> SplitWeights:
    """TensorFlow 1's weights -> a peer's, gates in `order`."""
    if cell in ("gru", "gru_reset_after"):
        kernel = np.concatenate([weights["gate_kernel"], weights["candidate_kernel"]], axis=1)
        bias = np.concatenate([weights["gate_bias"], weights["candidate_bias"]])
    else:
        kernel, bias = weights["kernel"], weights["bias"]
    recurrent_bias = weights.get("recurrent_bias", np.zeros_like(bias))
    inputs = kernel.shape[0] - bias.shape[0] // len(order)
    return SplitWeights(
        *(
            reorder(part, ORDERS[cell], order)
            for part in (kernel[:inputs], kernel[inputs:], bias, recurrent_bias)
        )
    )


def from_split(cell: str, gradients: SplitWeights, order: str) -> dict[str, FloatArray]:
    """A peer's weight gradients, gates in `order` -> TensorFlow 1's, each named "d_" + its weight."""
    parts = [reorder(np.asarray(part), order, ORDERS[cell]) for part in gradients]
    kernel, bias = np.concatenate(parts[:2]), parts[2]
    if cell not in ("gru", "gru_reset_after"):
        return {"d_kernel": kernel, "d_bias": bias}
    gates = bias.shape[0] * 2 // 3
    results = {
        "d_gate_kernel": kernel[:, :gates],
        "d_gate_bias": bias[:gates],
        "d_candidate_kernel": kernel[:, gates:],
        "d_candidate_bias": bias[gates:],
    }
    if cell == "gru_reset_after":
        results["d_recurrent_bias"] = parts[3]
    return results
