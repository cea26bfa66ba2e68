"""The specification: the forward and backward pass of every cell, in plain NumPy, written by hand.

In float64 it is what the kernels are measured against. In any other dtype every operation rounds once, to
that dtype (products sum in float32): the error of a cell made of separate ops, each as good as it can be.

Sizes: T time steps, B rows, I input width, H units, P the width of h (H unless h is projected). Weights are
one list, kernels then biases, as in `CELLS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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


def elu(z: Array) -> Array:
    return np.where(z < 0, np.expm1(np.minimum(z, 0).astype(np.float64)), z).astype(z.dtype)


# The activations by name, and their derivatives as functions of what they gave.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "tanh": (tanh, lambda y: 1 - y * y),
    "relu": (lambda z: np.maximum(z, 0), lambda y: (y > 0).astype(y.dtype)),
    "sigmoid": (sigmoid, lambda y: y * (1 - y)),
    "softsign": (lambda z: z / (1 + np.abs(z)), lambda y: np.square(1 - np.abs(y))),
    "elu": (elu, lambda y: np.where(y < 0, y + 1, np.ones_like(y))),
    "identity": (lambda z: z, np.ones_like),
}


@dataclass(frozen=True)
class Options:
    """What a call gives beside tensors: numbers, as far as a cell has a use for them."""

    activation: str = "tanh"
    forget_bias: float = 0.0
    cell_clip: float | None = None
    proj_clip: float | None = None

    def act(self, z: Array) -> Array:
        return ACTIVATIONS[self.activation][0](z)

    def d_act(self, y: Array) -> Array:
        return ACTIVATIONS[self.activation][1](y)


def clip(z: Array, limit: float | None) -> Array:
    return z if limit is None else np.clip(z, z.dtype.type(-limit), z.dtype.type(limit))


def d_clip(d: Array, z: Array, limit: float | None) -> Array:
    """The gradient d of clip(z), as TensorFlow's clip_by_value has it: 0 where z was outside."""
    return d if limit is None else np.where(np.abs(z) > z.dtype.type(limit), np.zeros_like(d), d)


# Each cell is a step and its backward step:
#   step(weights, x [B, I], state, options) -> new state, kept values
#   step_backward(weights, kept, d_state, options) -> d_x, d_weights, d_state of the step before
# A state is [h], or [h, c] for the LSTM; h is [B, P], c [B, H].


def rnn_step(weights: Arrays, x: Array, state: Arrays, options: Options) -> tuple[Arrays, tuple]:
    """h = act([x, h] . K + b)"""
    kernel, bias = weights
    xh = np.concatenate([x, state[0]], axis=1)
    h = options.act(product(xh, kernel) + bias)
    return [h], (xh, h)


def rnn_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays, options: Options
) -> tuple[Array, Arrays, Arrays]:
    xh, h = kept
    d_z = d_state[0] * options.d_act(h)
    d_x, d_h_prev = split_input(product(d_z, weights[0].T), h)
    return d_x, [product(xh.T, d_z), column_sum(d_z)], [d_h_prev]


def lstm_step(weights: Arrays, x: Array, state: Arrays, options: Options) -> tuple[Arrays, tuple]:
    """i, j, f, o = [x, h] . K + b
    c = clip(sigmoid(f + forget_bias + w_f * c) * c + sigmoid(i + w_i * c) * act(j))
    h = sigmoid(o + w_o * c) * act(c)
    with weights [K, b], or [K, b, w_i, w_f, w_o]; w is 0 where there is none.
    """
    kernel, bias, *peepholes = weights
    h_prev, c_prev = state
    w_i, w_f, w_o = peepholes or [np.zeros(c_prev.shape[1], c_prev.dtype)] * 3
    xh = np.concatenate([x, h_prev], axis=1)
    zi, zj, zf, zo = np.split(product(xh, kernel) + bias, 4, axis=1)
    i, j = sigmoid(zi + w_i * c_prev), options.act(zj)
    f = sigmoid(zf + x.dtype.type(options.forget_bias) + w_f * c_prev)
    free_c = f * c_prev + i * j
    c = clip(free_c, options.cell_clip)
    o = sigmoid(zo + w_o * c)
    return [o * options.act(c), c], (x.shape[1], xh, i, j, f, o, c_prev, free_c, c)


def lstm_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays, options: Options
) -> tuple[Array, Arrays, Arrays]:
    width, xh, i, j, f, o, c_prev, free_c, c = kept
    d_h, d_c = d_state
    kernel, _, *peepholes = weights
    w_i, w_f, w_o = peepholes or [np.zeros(c.shape[1], c.dtype)] * 3
    act_c = options.act(c)
    d_o = d_h * act_c * o * (1 - o)
    d_c = d_c + d_h * o * options.d_act(act_c) + d_o * w_o
    d_c = d_clip(d_c, free_c, options.cell_clip)
    d_i = d_c * j * i * (1 - i)
    d_j = d_c * i * options.d_act(j)
    d_f = d_c * c_prev * f * (1 - f)
    d_z = np.concatenate([d_i, d_j, d_f, d_o], axis=1)
    d_x, d_h_prev = np.split(product(d_z, kernel.T), [width], axis=1)
    d_weights = [product(xh.T, d_z), column_sum(d_z)]
    if peepholes:
        d_weights += [column_sum(d_i * c_prev), column_sum(d_f * c_prev), column_sum(d_o * c)]
    return d_x, d_weights, [d_h_prev, d_c * f + d_i * w_i + d_f * w_f]


def lstm_projected_step(weights: Arrays, x: Array, state: Arrays, options: Options) -> tuple[Arrays, tuple]:
    """h = clip(m . projection), where m is the h of an LSTM with peepholes."""
    kernel, projection, *biases = weights
    (m, c), kept = lstm_step([kernel, *biases], x, state, options)
    free_h = product(m, projection)
    return [clip(free_h, options.proj_clip), c], (kept, m, free_h)


def lstm_projected_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays, options: Options
) -> tuple[Array, Arrays, Arrays]:
    kernel, projection, *biases = weights
    kept_of_lstm, m, free_h = kept
    d_h = d_clip(d_state[0], free_h, options.proj_clip)
    d_m = product(d_h, projection.T)
    d_x, (d_kernel, *d_biases), d_before = lstm_step_backward(
        [kernel, *biases], kept_of_lstm, [d_m, d_state[1]], options
    )
    return d_x, [d_kernel, product(m.T, d_h), *d_biases], d_before


def gru_step(weights: Arrays, x: Array, state: Arrays, options: Options) -> tuple[Arrays, tuple]:
    """r, u = sigmoid([x, h] . K_ru + b_ru)
    c = act([x, r * h] . K_c + b_c)
    h = u * h + (1 - u) * c
    """
    kernel_ru, kernel_c, bias_ru, bias_c = weights
    h_prev = state[0]
    xh = np.concatenate([x, h_prev], axis=1)
    r, u = np.split(sigmoid(product(xh, kernel_ru) + bias_ru), 2, axis=1)
    xrh = np.concatenate([x, r * h_prev], axis=1)
    c = options.act(product(xrh, kernel_c) + bias_c)
    h = u * h_prev + (1 - u) * c
    return [h], (xh, xrh, r, u, c, h_prev)


def gru_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays, options: Options
) -> tuple[Array, Arrays, Arrays]:
    kernel_ru, kernel_c, _, _ = weights
    xh, xrh, r, u, c, h_prev = kept
    d_h = d_state[0]
    d_zc = d_h * (1 - u) * options.d_act(c)
    d_x_of_c, d_rh = split_input(product(d_zc, kernel_c.T), c)
    d_zr = d_rh * h_prev * r * (1 - r)
    d_zu = d_h * (h_prev - c) * u * (1 - u)
    d_zru = np.concatenate([d_zr, d_zu], axis=1)
    d_x_of_ru, d_h_of_ru = split_input(product(d_zru, kernel_ru.T), c)
    d_h_prev = d_h * u + d_rh * r + d_h_of_ru
    d_weights = [product(xh.T, d_zru), product(xrh.T, d_zc), column_sum(d_zru), column_sum(d_zc)]
    return d_x_of_ru + d_x_of_c, d_weights, [d_h_prev]


def gru_reset_after_step(weights: Arrays, x: Array, state: Arrays, options: Options) -> tuple[Arrays, tuple]:
    """zx = x . W + b,  zh = h . R + rb
    r, u = sigmoid(zx_ru + zh_ru)
    c = act(zx_c + r * zh_c)
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
    c = options.act(zx_c + r * zh_c)
    h = u * h_prev + (1 - u) * c
    return [h], (x, r, u, c, zh_c, h_prev)


def gru_reset_after_step_backward(
    weights: Arrays, kept: tuple, d_state: Arrays, options: Options
) -> tuple[Array, Arrays, Arrays]:
    kernel_ru, kernel_c, _, _, _ = weights
    x, r, u, c, zh_c, h_prev = kept
    d_h = d_state[0]
    width, units = x.shape[1], c.shape[1]
    kernel = np.concatenate([kernel_ru, kernel_c], axis=1)
    d_zc = d_h * (1 - u) * options.d_act(c)
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

    kernel_gates: tuple[int, ...]  # kernel k is [I + P, kernel_gates[k] * H]
    bias_gates: tuple[int, ...]  # bias k is [bias_gates[k] * H]
    states: int
    step: Callable[[Arrays, Array, Arrays, Options], tuple[Arrays, tuple]]
    step_backward: Callable[[Arrays, tuple, Arrays, Options], tuple[Array, Arrays, Arrays]]
    projected: bool = False  # one more kernel: [H, P]


CELLS = {
    "rnn": CellRef((1,), (1,), 1, rnn_step, rnn_step_backward),
    "lstm": CellRef((4,), (4,), 2, lstm_step, lstm_step_backward),
    "gru": CellRef((2, 1), (2, 1), 1, gru_step, gru_step_backward),
    "gru_reset_after": CellRef((2, 1), (2, 1, 3), 1, gru_reset_after_step, gru_reset_after_step_backward),
    "lstm_peephole": CellRef((4,), (4, 1, 1, 1), 2, lstm_step, lstm_step_backward),
    "lstm_projected": CellRef(
        (4,), (4, 1, 1, 1), 2, lstm_projected_step, lstm_projected_step_backward, projected=True
    ),
}


@dataclass
class Forward:
    """What a forward pass gives, and what the backward pass needs of it."""

    y: Array  # [T, B, P]; 0 past a row's length
    final_state: Arrays  # h [B, P], c [B, H]
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
    options: Options = Options(),
    reverse: bool = False,
    state_mask: Array | None = None,
) -> Forward:
    """x [T, B, I], initial state h [B, P] and c [B, H], lengths [B] or None, state_mask [T, B, P] or None. A
    row that has ended keeps its state."""
    T, B, _ = x.shape
    state = [part.copy() for part in initial_state]
    y = np.zeros((T, B, state[0].shape[1]), x.dtype)
    steps = []
    for rows, times in walk(T, B, lengths, reverse):
        before = [part[rows] for part in state]
        after, kept = CELLS[cell].step(weights, x[times, rows], before, options)
        y[times, rows] = after[0]
        if state_mask is not None:
            after[0] = after[0] * state_mask[times, rows]
        for part, value in zip(state, after, strict=True):
            part[rows] = value
        steps.append((rows, times, kept))
    return Forward(y, state, steps)


def sequence_backward_ref(
    cell: str,
    x: Array,
    weights: Arrays,
    forward: Forward,
    d_y: Array,
    d_final_state: Arrays,
    options: Options = Options(),
    state_mask: Array | None = None,
) -> tuple[Array, Arrays, Arrays]:
    """d_y [T, B, P], d_final_state -> d_x [T, B, I], d_weights, d_initial_state; states as in the forward
    pass."""
    d_x = np.zeros_like(x)
    d_weights = [np.zeros_like(weight) for weight in weights]
    d_state = [part.copy() for part in d_final_state]
    for rows, times, kept in reversed(forward.steps):
        d_after = [part[rows] for part in d_state]
        if state_mask is not None:
            d_after[0] = d_after[0] * state_mask[times, rows]
        d_after[0] = d_after[0] + d_y[times, rows]
        d_x[times, rows], d_weights_here, d_before = CELLS[cell].step_backward(
            weights, kept, d_after, options
        )
        for total, value in zip(d_weights, d_weights_here, strict=True):
            total += value
        for part, value in zip(d_state, d_before, strict=True):
            part[rows] = value
    return d_x, d_weights, d_state
