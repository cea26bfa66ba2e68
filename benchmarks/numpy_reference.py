"""The right answers: every cell forward and backward in float64 NumPy; and the comparison with them.

The loss is sum(y*y), so the gradient that enters at step t is 2*y[t]. Inside, arrays are time-major. Same
maths as the tests' reference.py, without lengths and initial states, and with one product for all steps
wherever there can be one: DeepBench's longest cases would take that one hours.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from workload import FloatArray

Array = npt.NDArray[np.float64]
Results = dict[str, Array]
# (x [T, B, I], weights, whether gradients are wanted) -> y [T, B, H] and, if wanted, d_x [T, B, I] and d_ +
# each weight.
CellReference = Callable[[Array, Results, bool], Results]


def _sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


def _shifted(h: Array) -> Array:
    """The state that step t starts from: h one step later, zero first. [T, B, H] -> [T, B, H]"""
    return np.concatenate([np.zeros_like(h[:1]), h[:-1]])


def _weight_gradient(rows: Array, d_gates: Array) -> Array:
    """rows^T . d_gates over all steps and rows: [T, B, R], [T, B, N] -> [R, N]"""
    return rows.reshape(-1, rows.shape[2]).T @ d_gates.reshape(-1, d_gates.shape[2])


def _dense_gradients(x: Array, h: Array, kernel: Array, d_gates: Array) -> Results:
    """Gradients of the one product [x, h_prev] . kernel + bias."""
    return {
        "d_x": d_gates @ kernel[: x.shape[2]].T,
        "d_kernel": np.concatenate([_weight_gradient(x, d_gates), _weight_gradient(_shifted(h), d_gates)]),
        "d_bias": d_gates.sum((0, 1)),
    }


def lstm(x: Array, weights: Results, gradients: bool) -> Results:
    """LSTM without forget bias; gates i, j, f, o: c = f*c + i*tanh(j), h = o*tanh(c)."""
    kernel, width = weights["kernel"], x.shape[2]
    recurrent = kernel[width:]
    gates = x @ kernel[:width] + weights["bias"]
    steps, batch, hidden = x.shape[0], x.shape[1], recurrent.shape[0]
    h, c = np.zeros((2, steps + 1, batch, hidden))  # entry t is the state before step t
    for t in range(steps):
        gates[t] += h[t] @ recurrent
        i, j, f, o = np.split(gates[t], 4, axis=1)
        for gate, activation in ((i, _sigmoid), (j, np.tanh), (f, _sigmoid), (o, _sigmoid)):
            gate[...] = activation(gate)
        c[t + 1] = f * c[t] + i * j
        h[t + 1] = o * np.tanh(c[t + 1])
    if not gradients:
        return {"y": h[1:]}
    d_gates, d_h, d_c = np.empty_like(gates), np.zeros_like(h[0]), np.zeros_like(c[0])
    for t in reversed(range(steps)):
        i, j, f, o = np.split(gates[t], 4, axis=1)
        d_h = d_h + 2 * h[t + 1]
        tanh_c = np.tanh(c[t + 1])
        d_c = d_c + d_h * o * (1 - tanh_c**2)
        d_i, d_j, d_f, d_o = (
            d_c * j * i * (1 - i),
            d_c * i * (1 - j**2),
            d_c * c[t] * f * (1 - f),
            d_h * tanh_c * o * (1 - o),
        )
        d_gates[t] = np.concatenate([d_i, d_j, d_f, d_o], axis=1)
        d_c = d_c * f
        d_h = d_gates[t] @ recurrent.T
    return {"y": h[1:]} | _dense_gradients(x, h[1:], kernel, d_gates)


def rnn(x: Array, weights: Results, gradients: bool) -> Results:
    """Plain network: h = tanh([x, h] . kernel + bias)."""
    kernel, width = weights["kernel"], x.shape[2]
    h = x @ kernel[:width] + weights["bias"]
    for t in range(x.shape[0]):
        h[t] = np.tanh(h[t] + (h[t - 1] @ kernel[width:] if t else 0.0))
    if not gradients:
        return {"y": h}
    d_gates, d_h = np.empty_like(h), np.zeros_like(h[0])
    for t in reversed(range(x.shape[0])):
        d_gates[t] = (d_h + 2 * h[t]) * (1 - h[t] ** 2)
        d_h = d_gates[t] @ kernel[width:].T
    return {"y": h} | _dense_gradients(x, h, kernel, d_gates)


def _gru(x: Array, weights: Results, gradients: bool, reset_after: bool) -> Results:
    """GRU; h = u*h + (1-u)*c, and s is what the candidate's recurrent product is taken of.

    Reset before: s = r*h, c = tanh(x.K + s.R + b). Reset after: s = h, q = s.R + b_R, c = tanh(x.K + b +
    r*q).
    """
    width, hidden = x.shape[2], weights["candidate_bias"].shape[0]
    gate_r, candidate_r = weights["gate_kernel"][width:], weights["candidate_kernel"][width:]
    recurrent_bias = weights.get("recurrent_bias", np.zeros(3 * hidden))
    gates = x @ weights["gate_kernel"][:width] + weights["gate_bias"] + recurrent_bias[: 2 * hidden]
    c = x @ weights["candidate_kernel"][:width] + weights["candidate_bias"]
    h = np.zeros((x.shape[0] + 1, *c.shape[1:]))  # entry t is the state before step t
    s, q = np.empty_like(c), np.empty_like(c)
    for t in range(x.shape[0]):
        gates[t] = _sigmoid(gates[t] + h[t] @ gate_r)
        r, u = np.split(gates[t], 2, axis=1)
        s[t] = h[t] if reset_after else r * h[t]
        q[t] = s[t] @ candidate_r + recurrent_bias[2 * hidden :]
        c[t] = np.tanh(c[t] + (r * q[t] if reset_after else q[t]))
        h[t + 1] = u * h[t] + (1 - u) * c[t]
    if not gradients:
        return {"y": h[1:]}
    d_gates, d_c, d_q, d_h = np.empty_like(gates), np.empty_like(c), np.empty_like(c), np.zeros_like(h[0])
    for t in reversed(range(x.shape[0])):
        r, u = np.split(gates[t], 2, axis=1)
        d_h = d_h + 2 * h[t + 1]
        d_c[t] = d_h * (1 - u) * (1 - c[t] ** 2)
        d_q[t] = d_c[t] * r if reset_after else d_c[t]
        d_s = d_q[t] @ candidate_r.T
        d_r, d_u = d_c[t] * q[t] if reset_after else d_s * h[t], d_h * (h[t] - c[t])
        d_gates[t] = np.concatenate([d_r * r * (1 - r), d_u * u * (1 - u)], axis=1)
        d_h = d_h * u + (d_s if reset_after else d_s * r) + d_gates[t] @ gate_r.T
    gate = _dense_gradients(x, h[1:], weights["gate_kernel"], d_gates)
    results = {
        "y": h[1:],
        "d_x": gate["d_x"] + d_c @ weights["candidate_kernel"][:width].T,
        "d_gate_kernel": gate["d_kernel"],
        "d_gate_bias": gate["d_bias"],
        "d_candidate_kernel": np.concatenate([_weight_gradient(x, d_c), _weight_gradient(s, d_q)]),
        "d_candidate_bias": d_c.sum((0, 1)),
    }
    if reset_after:
        results["d_recurrent_bias"] = np.concatenate([gate["d_bias"], d_q.sum((0, 1))])
    return results


def gru(x: Array, weights: Results, gradients: bool) -> Results:
    """GRU that resets before the recurrent product, as TensorFlow 1's GRUCell."""
    return _gru(x, weights, gradients, reset_after=False)


def gru_reset_after(x: Array, weights: Results, gradients: bool) -> Results:
    """GRU that resets after the recurrent product, as Keras's default, cuDNN and torch."""
    return _gru(x, weights, gradients, reset_after=True)


REFERENCES: dict[str, CellReference] = {
    "lstm": lstm,
    "gru": gru,
    "gru_reset_after": gru_reset_after,
    "rnn": rnn,
}


def right_answer(cell: str, x: FloatArray, weights: dict[str, FloatArray], gradients: bool) -> Results:
    """y [B, T, H] and, if wanted, d_x [B, T, I] and every weight's gradient ("d_" + its name), in float64."""
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    results = REFERENCES[cell](np.ascontiguousarray(x.swapaxes(0, 1), np.float64), wide, gradients)
    return {name: value.swapaxes(0, 1) if name in ("y", "d_x") else value for name, value in results.items()}


def worst_error(got: dict[str, FloatArray], want: Results) -> tuple[str, float]:
    """The tensor that is furthest off and its largest error, as a share of that tensor's largest entry.

    Every tensor of `want` must be in `got`, with its shape; one that is missing, misshapen or not finite is
    off by inf.
    """
    worst = ("y", 0.0)
    for name, right in want.items():
        if name not in got or got[name].shape != right.shape:
            return name, float("inf")
        error = float(np.max(np.abs(got[name] - right)) / max(float(np.max(np.abs(right))), 1e-30))
        if not np.isfinite(error):
            return name, float("inf")
        if error > worst[1]:
            worst = (name, error)
    return worst
