"""The specification: the forward and backward pass of every cell, in plain NumPy, written by hand.

In float64 it is what the kernels are measured against. In any other dtype every operation rounds once, to
that dtype (products sum in float32): the error of a cell made of separate ops, each as good as it can be.

Sizes: T time steps, B rows, I input width, H units. Weights are one list, kernels then biases, as in `CELLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray
Arrays = list[np.ndarray]


def product(a: Array, b: Array) -> Array:
    """a [M, K] . b [K, N], summed in float32 (float64 where that is the dtype) and rounded once."""
    wide = np.float64 if a.dtype == np.float64 else np.float32
    return (a.astype(wide) @ b.astype(wide)).astype(a.dtype)


def column_sum(a: Array) -> Array:
    """[M, N] -> [N], summed and rounded as `product` does."""
    wide = np.float64 if a.dtype == np.float64 else np.float32
    return a.astype(wide).sum(axis=0).astype(a.dtype)


def tanh(z: Array) -> Array:
    return np.tanh(z.astype(np.float64)).astype(z.dtype)


def sigmoid(z: Array) -> Array:
    # By tanh, because exp(-z) overflows for large negative z.
    return (0.5 + 0.5 * np.tanh(0.5 * z.astype(np.float64))).astype(z.dtype)


# Each cell is a step and its backward step:
#   step(weights, x [B, I], state, forget_bias) -> new state, kept values
#   step_backward(weights, kept, d_state) -> d_x, d_weights, d_state of the step before
# A state is [h], or [h, c] for the LSTM; each part is [B, H].


def rnn_step(weights: Arrays, x: Array, state: Arrays, forget_bias: Any) -> tuple[Arrays, tuple]:
    """h = tanh([x, h] . K + b)"""
    kernel, bias = weights
    xh = np.concatenate([x, state[0]], axis=1)
    h = tanh(product(xh, kernel) + bias)
    return [h], (xh, h)


def rnn_step_backward(weights: Arrays, kept: tuple, d_state: Arrays) -> tuple[Array, Arrays, Arrays]:
    xh, h = kept
    d_z = d_state[0] * (1 - h * h)
    d_x, d_h_prev = split_input(product(d_z, weights[0].T), h)
    return d_x, [product(xh.T, d_z), column_sum(d_z)], [d_h_prev]


def lstm_step(weights: Arrays, x: Array, state: Arrays, forget_bias: Any) -> tuple[Arrays, tuple]:
    """i, j, f, o = [x, h] . K + b
    c = sigmoid(f + forget_bias) * c + sigmoid(i) * tanh(j)
    h = sigmoid(o) * tanh(c)
    """
    kernel, bias = weights
    h_prev, c_prev = state
    xh = np.concatenate([x, h_prev], axis=1)
    i, j, f, o = np.split(product(xh, kernel) + bias, 4, axis=1)
    i, j, f, o = sigmoid(i), tanh(j), sigmoid(f + forget_bias), sigmoid(o)
    c = f * c_prev + i * j
    h = o * tanh(c)
    return [h, c], (xh, i, j, f, o, c_prev, c)


def lstm_step_backward(weights: Arrays, kept: tuple, d_state: Arrays) -> tuple[Array, Arrays, Arrays]:
    xh, i, j, f, o, c_prev, c = kept
    d_h, d_c = d_state
    tanh_c = tanh(c)
    d_c = d_c + d_h * o * (1 - tanh_c * tanh_c)
    d_i = d_c * j * i * (1 - i)
    d_j = d_c * i * (1 - j * j)
    d_f = d_c * c_prev * f * (1 - f)
    d_o = d_h * tanh_c * o * (1 - o)
    d_z = np.concatenate([d_i, d_j, d_f, d_o], axis=1)
    d_x, d_h_prev = split_input(product(d_z, weights[0].T), c)
    return d_x, [product(xh.T, d_z), column_sum(d_z)], [d_h_prev, d_c * f]


def gru_step(weights: Arrays, x: Array, state: Arrays, forget_bias: Any) -> tuple[Arrays, tuple]:
    """r, u = sigmoid([x, h] . K_ru + b_ru)
    c = tanh([x, r * h] . K_c + b_c)
    h = u * h + (1 - u) * c
    """
    kernel_ru, kernel_c, bias_ru, bias_c = weights
    h_prev = state[0]
    xh = np.concatenate([x, h_prev], axis=1)
    r, u = np.split(sigmoid(product(xh, kernel_ru) + bias_ru), 2, axis=1)
    xrh = np.concatenate([x, r * h_prev], axis=1)
    c = tanh(product(xrh, kernel_c) + bias_c)
    h = u * h_prev + (1 - u) * c
    return [h], (xh, xrh, r, u, c, h_prev)


def gru_step_backward(weights: Arrays, kept: tuple, d_state: Arrays) -> tuple[Array, Arrays, Arrays]:
    kernel_ru, kernel_c, _, _ = weights
    xh, xrh, r, u, c, h_prev = kept
    d_h = d_state[0]
    d_zc = d_h * (1 - u) * (1 - c * c)
    d_x_of_c, d_rh = split_input(product(d_zc, kernel_c.T), c)
    d_zr = d_rh * h_prev * r * (1 - r)
    d_zu = d_h * (h_prev - c) * u * (1 - u)
    d_zru = np.concatenate([d_zr, d_zu], axis=1)
    d_x_of_ru, d_h_of_ru = split_input(product(d_zru, kernel_ru.T), c)
    d_h_prev = d_h * u + d_rh * r + d_h_of_ru
    d_weights = [product(xh.T, d_zru), product(xrh.T, d_zc), column_sum(d_zru), column_sum(d_zc)]
    return d_x_of_ru + d_x_of_c, d_weights, [d_h_prev]


def gru_reset_after_step(weights: Arrays, x: Array, state: Arrays, forget_bias: Any) -> tuple[Arrays, tuple]:
    """zx = x . W + b,  zh = h . R + rb
    r, u = sigmoid(zx_ru + zh_ru)
    c = tanh(zx_c + r * zh_c)
    h = u * h + (1 - u) * c
    """
    kernel_ru, kernel_c, bias_ru, bias_c, recurrent_bias = weights
    h_prev = state[0]
    width = x.shape[1]
    kernel = np.concatenate([kernel_ru, kernel_c], axis=1)
    zx = product(x, kernel[:width]) + np.concatenate([bias_ru, bias_c])
    zh = product(h_prev, kernel[width:]) + recurrent_bias
    zx_r, zx_u, zx_c = np.split(zx, 3, axis=1)
    zh_r, zh_u, zh_c = np.split(zh, 3, axis=1)
    r, u = sigmoid(zx_r + zh_r), sigmoid(zx_u + zh_u)
    c = tanh(zx_c + r * zh_c)
    h = u * h_prev + (1 - u) * c
    return [h], (x, r, u, c, zh_c, h_prev)


def gru_reset_after_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays
) -> tuple[Array, Arrays, Arrays]:
    kernel_ru, kernel_c, _, _, _ = weights
    x, r, u, c, zh_c, h_prev = kept
    d_h = d_state[0]
    width, units = x.shape[1], c.shape[1]
    kernel = np.concatenate([kernel_ru, kernel_c], axis=1)
    d_zc = d_h * (1 - u) * (1 - c * c)
    d_zr = d_zc * zh_c * r * (1 - r)
    d_zu = d_h * (h_prev - c) * u * (1 - u)
    d_zx = np.concatenate([d_zr, d_zu, d_zc], axis=1)
    d_zh = np.concatenate([d_zr, d_zu, d_zc * r], axis=1)
    d_kernel = np.concatenate([product(x.T, d_zx), product(h_prev.T, d_zh)], axis=0)
    d_bias = column_sum(d_zx)
    ru = 2 * units
    d_weights = [d_kernel[:, :ru], d_kernel[:, ru:], d_bias[:ru], d_bias[ru:], column_sum(d_zh)]
    d_h_prev = d_h * u + product(d_zh, kernel[width:].T)
    return product(d_zx, kernel[:width].T), d_weights, [d_h_prev]


def split_input(d_xh: Array, h: Array) -> tuple[Array, Array]:
    """d_xh [B, I+H] -> [B, I], [B, H]"""
    width = d_xh.shape[1] - h.shape[1]
    return d_xh[:, :width], d_xh[:, width:]


@dataclass(frozen=True)
class CellRef:
    """A cell: the shapes of what it takes, and its maths."""

    kernel_gates: tuple[int, ...]  # kernel k is [I + H, kernel_gates[k] * H]
    bias_gates: tuple[int, ...]  # bias k is [bias_gates[k] * H]
    states: int
    step: Callable[[Arrays, Array, Arrays, Any], tuple[Arrays, tuple]]
    step_backward: Callable[[Arrays, tuple, Arrays], tuple[Array, Arrays, Arrays]]


CELLS = {
    "rnn": CellRef((1,), (1,), 1, rnn_step, rnn_step_backward),
    "lstm": CellRef((4,), (4,), 2, lstm_step, lstm_step_backward),
    "gru": CellRef((2, 1), (2, 1), 1, gru_step, gru_step_backward),
    "gru_reset_after": CellRef((2, 1), (2, 1, 3), 1, gru_reset_after_step, gru_reset_after_step_backward),
}


@dataclass
class Forward:
    """What a forward pass gives, and what the backward pass needs of it."""

    y: Array  # [T, B, H]; 0 past a row's length
    final_state: Arrays  # [B, H] each
    steps: list[tuple[Array, Array, tuple]]  # rows, their times, kept values


def walk(T: int, B: int, lengths: Array | None, reverse: bool) -> Iterator[tuple[Array, Array]]:
    """Yields, step by step, the rows that have not ended and the time at which each of them stands."""
    ends = np.full(B, T) if lengths is None else np.asarray(lengths)
    for step in range(T):
        rows = np.flatnonzero(step < ends)
        yield rows, ends[rows] - 1 - step if reverse else np.full(len(rows), step)


def sequence_forward_ref(
    cell: str,
    x: Array,
    weights: Arrays,
    initial_state: Arrays,
    lengths: Array | None = None,
    forget_bias: float = 0.0,
    reverse: bool = False,
) -> Forward:
    """x [T, B, I], initial state [B, H] each, lengths [B] or None. A row that has ended keeps its state."""
    T, B, _ = x.shape
    state = [part.copy() for part in initial_state]
    y = np.zeros((T, B, state[0].shape[1]), x.dtype)
    steps = []
    for rows, times in walk(T, B, lengths, reverse):
        before = [part[rows] for part in state]
        after, kept = CELLS[cell].step(weights, x[times, rows], before, x.dtype.type(forget_bias))
        for part, value in zip(state, after, strict=True):
            part[rows] = value
        y[times, rows] = after[0]
        steps.append((rows, times, kept))
    return Forward(y, state, steps)


def sequence_backward_ref(
    cell: str, x: Array, weights: Arrays, forward: Forward, d_y: Array, d_final_state: Arrays
) -> tuple[Array, Arrays, Arrays]:
    """d_y [T, B, H], d_final_state [B, H] each -> d_x [T, B, I], d_weights, d_initial_state [B, H] each."""
    d_x = np.zeros_like(x)
    d_weights = [np.zeros_like(weight) for weight in weights]
    d_state = [part.copy() for part in d_final_state]
    for rows, times, kept in reversed(forward.steps):
        d_after = [part[rows] for part in d_state]
        d_after[0] = d_after[0] + d_y[times, rows]
        d_x[times, rows], d_weights_here, d_before = CELLS[cell].step_backward(weights, kept, d_after)
        for total, value in zip(d_weights, d_weights_here, strict=True):
            total += value
        for part, value in zip(d_state, d_before, strict=True):
            part[rows] = value
    return d_x, d_weights, d_state
