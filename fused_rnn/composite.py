"""The cells in TensorFlow's own operations, for derivatives of higher order, which no kernel covers.

Nothing here runs, or is built, before a gradient of a gradient or a forward-mode derivative is asked for.
The functions take what the ops take, under the same names.
T time steps, B rows, I input width, H units, P width of h.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from fused_rnn.cell import Cell
from fused_rnn.scan import Step, scan, split

__all__ = ["gradients_of_gradients", "sequences", "step"]

Tensors = Sequence[tf.Tensor]


def step(
    inputs: tf.Tensor, kernels: Tensors, biases: Tensors, initial_state: Tensors, *, cell: Cell
) -> list[tf.Tensor]:
    """One step: inputs [B, I], states h [B, P] and c [B, H] -> the new state, [h] or [h, c]."""
    return _STEPS[cell.name](inputs, kernels, biases, initial_state, cell)


def sequences(
    inputs: Tensors,
    kernels: Tensors,
    biases: Tensors,
    initial_state: Tensors,
    sequence_length: Tensors,
    state_mask: Tensors,
    *,
    cell: Cell,
    time_major: bool,
    reverse: Sequence[bool],
) -> list[tf.Tensor]:
    """All steps: [*outputs, *final states], laid out as the op has them; sequence_length is none or one [B],
    state_mask none or one for each sequence, laid out as the outputs."""

    def share(tensors: Tensors, n: int) -> Tensors:
        size = len(tensors) // len(inputs)
        return tensors[n * size : (n + 1) * size]

    results = [
        _sequence(
            x,
            share(kernels, n),
            share(biases, n),
            share(initial_state, n),
            sequence_length,
            share(state_mask, n),
            cell=cell,
            time_major=time_major,
            reverse=reverse[n],
        )
        for n, x in enumerate(inputs)
    ]
    return [y for y, *_ in results] + [part for _, *state in results for part in state]


def _sequence(
    inputs: tf.Tensor,
    kernels: Tensors,
    biases: Tensors,
    initial_state: Tensors,
    sequence_length: Tensors,
    state_mask: Tensors,
    *,
    cell: Cell,
    time_major: bool,
    reverse: bool,
) -> list[tf.Tensor]:
    """One of them: [outputs, *final state]."""
    x, *masks = (
        tensor if time_major else tf.transpose(tensor, [1, 0, 2]) for tensor in (inputs, *state_mask)
    )
    T, B = tf.shape(x)[0], tf.shape(x)[1]
    steps = tf.maximum(T, 1)  # a loop without a step could not tell the shape of its outputs
    lengths = tf.cast(sequence_length[0], tf.int32) if sequence_length else tf.fill([B], T)
    active = tf.transpose(tf.sequence_mask(lengths, steps))[:, :, tf.newaxis]
    # What stands in the padding must not reach a product, where 0 * NaN is NaN.
    x, *masks = (
        tf.where(active, tf.pad(tensor, [[0, steps - T], [0, 0], [0, 0]]), tf.zeros([], x.dtype))
        for tensor in (x, *masks)
    )
    sizes = len(kernels), len(biases)

    def one(constants: Tensors, state: Tensors, xs: Tensors, taken: tf.Tensor) -> Step:
        kernels, biases = split(constants, *sizes)
        after = step(xs[0], kernels, biases, state, cell=cell)
        y = tf.where(taken, after[0], tf.zeros([], x.dtype))
        after = [after[0] * xs[1], *after[1:]] if masks else after
        kept = [tf.where(taken, new, old) for new, old in zip(after, state, strict=True)]
        return Step(kept, [y], [])

    # Backwards, a row keeps its state while time is past its length, and so starts at its own end.
    constants, shapes = [*kernels, *biases], [initial_state[0].shape]
    done = scan(one, constants, list(initial_state), [x, *masks], active, shapes, backwards=reverse)
    y = done.outputs[0][:T]
    return [y if time_major else tf.transpose(y, [1, 0, 2]), *done.state]


def _rnn_step(x: tf.Tensor, kernels: Tensors, biases: Tensors, state: Tensors, cell: Cell) -> list[tf.Tensor]:
    """h = act([x, h] . K + b)"""
    act = _ACTIVATIONS[cell.activation]
    return [act(tf.concat([x, state[0]], 1) @ kernels[0] + biases[0])]


def _lstm_step(
    x: tf.Tensor, kernels: Tensors, biases: Tensors, state: Tensors, cell: Cell
) -> list[tf.Tensor]:
    """i, j, f, o = [x, h] . K + b
    c = clip(sigmoid(f + forget_bias + w_f * c) * c + sigmoid(i + w_i * c) * act(j))
    h = clip(sigmoid(o + w_o * c) * act(c) . projection)
    """
    act, (h, c), (bias, *peepholes) = _ACTIVATIONS[cell.activation], state, biases
    i, j, f, o = tf.split(tf.concat([x, h], 1) @ kernels[0] + bias, 4, axis=1)
    if peepholes:
        i, f = i + peepholes[0] * c, f + peepholes[1] * c
    c = _clip(tf.sigmoid(f + cell.forget_bias) * c + tf.sigmoid(i) * act(j), cell.cell_clip)
    if peepholes:
        o += peepholes[2] * c
    h = tf.sigmoid(o) * act(c)
    return [_clip(h @ kernels[1], cell.proj_clip) if len(kernels) > 1 else h, c]


def _gru_step(x: tf.Tensor, kernels: Tensors, biases: Tensors, state: Tensors, cell: Cell) -> list[tf.Tensor]:
    """r, u = sigmoid([x, h] . K_ru + b_ru)
    c = act([x, r * h] . K_c + b_c)
    h = u * h + (1 - u) * c
    """
    (h,), (kernel_ru, kernel_c), (bias_ru, bias_c) = state, kernels, biases
    r, u = tf.split(tf.sigmoid(tf.concat([x, h], 1) @ kernel_ru + bias_ru), 2, axis=1)
    c = _ACTIVATIONS[cell.activation](tf.concat([x, r * h], 1) @ kernel_c + bias_c)
    return [u * h + (1 - u) * c]


def _gru_reset_after_step(
    x: tf.Tensor, kernels: Tensors, biases: Tensors, state: Tensors, cell: Cell
) -> list[tf.Tensor]:
    """zx = x . W + b,  zh = h . R + rb
    r, u = sigmoid(zx_ru + zh_ru)
    c = act(zx_c + r * zh_c)
    h = u * h + (1 - u) * c
    """
    (h,), (*bias, recurrent_bias) = state, biases
    kernel, width = tf.concat(kernels, 1), tf.shape(x)[1]
    zx_r, zx_u, zx_c = tf.split(x @ kernel[:width] + tf.concat(bias, 0), 3, axis=1)
    zh_r, zh_u, zh_c = tf.split(h @ kernel[width:] + recurrent_bias, 3, axis=1)
    r, u = tf.sigmoid(zx_r + zh_r), tf.sigmoid(zx_u + zh_u)
    c = _ACTIVATIONS[cell.activation](zx_c + r * zh_c)
    return [u * h + (1 - u) * c]


def _clip(values: tf.Tensor, limit: float | None) -> tf.Tensor:
    return values if limit is None else tf.clip_by_value(values, -limit, limit)


_ACTIVATIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "tanh": tf.tanh,
    "relu": tf.nn.relu,
    "sigmoid": tf.sigmoid,
    "softsign": lambda x: x / (1 + tf.abs(x)),  # TensorFlow's own has no second derivative
    "elu": tf.nn.elu,
    "identity": tf.identity,
}
_STEPS: dict[str, Callable[[tf.Tensor, Tensors, Tensors, Tensors, Cell], list[tf.Tensor]]] = {
    "rnn": _rnn_step,
    "lstm": _lstm_step,
    "lstm_peephole": _lstm_step,
    "lstm_projected": _lstm_step,
    "gru": _gru_step,
    "gru_reset_after": _gru_reset_after_step,
}


def gradients_of_gradients(
    forward: Callable[..., list[tf.Tensor]],
    arguments: Sequence[Any],
    d_results: Tensors,
    d_gradients: Tensors,
    *constants: Any,
    **options: Any,
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """The gradients of what a gradient op gives, with what comes back for its outputs.

    They are functions of the arguments alone, what the gradient op takes of the forward op included.

    Args:
      forward: `step` or `sequences`; it is called with `*arguments, *constants, **options`.
      arguments: what it is differentiated by, nested.
      d_results: one for each of its results.
      d_gradients: one for each of the arguments, flat.
      constants: tensors, nested, without a gradient.

    Returns:
      What goes back to the arguments, flat, and to d_results.
    """
    given = (list(arguments), list(d_results), list(d_gradients), list(constants))
    eager = tf.executing_eagerly()

    def spec(tensor: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec([None] * tensor.shape.rank if eager else tensor.shape, tensor.dtype)

    # A function, where loops are alike whatever the mode. Eagerly it is traced once for all sizes; a graph
    # gets one of its own, which lives as long as the graph.
    function = _eager_gradients if eager else tf.function(_gradients, autograph=False)
    specs = tf.nest.map_structure(spec, given)
    return function.get_concrete_function(forward, options, *specs)(forward, options, *given)


def _gradients(
    forward: Callable[..., list[tf.Tensor]],
    options: dict[str, Any],
    arguments: list[Any],
    d_results: list[tf.Tensor],
    d_gradients: list[tf.Tensor],
    constants: list[Any],
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """`gradients_of_gradients` in a graph; it can be differentiated further."""
    dtype = d_results[0].dtype
    wide = tf.float32 if dtype.size < 4 else dtype  # as the ops compute in the half types
    arguments, d_results, d_gradients = _cast((arguments, d_results, d_gradients), wide)
    sources, zero = tf.nest.flatten(arguments), tf.UnconnectedGradients.ZERO
    results = forward(*arguments, *constants, **options)
    gradients = tf.gradients(results, sources, d_results, unconnected_gradients=zero)
    back = tf.gradients(gradients, sources + d_results, d_gradients, unconnected_gradients=zero)
    return _cast((back[: len(sources)], back[len(sources) :]), dtype)


_eager_gradients = tf.function(_gradients, autograph=False)


def _cast(tensors: Any, dtype: tf.DType) -> Any:
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, dtype), tensors)
