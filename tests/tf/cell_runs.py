"""Runs a case through a cell, fused or TensorFlow's, under one of the functions that own the time loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

import fused_rnn
from cases import Array, Case, Inputs, Results, name_results
from tf.evaluate import evaluate, with_gradients
from tf.tensorflow_cells import KINDS, REFERENCE, Cell, make, quietly

# The functions that people give; the names of Keras in part.
ACTIVATIONS: dict[str, Any] = {
    "relu": tf.nn.relu,
    "sigmoid": "sigmoid",
    "softsign": tf.nn.softsign,
    "elu": "elu",
    "identity": "linear",
}

# x [T, B, I], state, lengths [B] or None -> y [T, B, H], state
Loop = Callable[[Cell, Any, Any, Any], tuple[Any, Any]]


def tensorflow_loop(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    return tf.compat.v1.nn.dynamic_rnn(cell, x, lengths, state, time_major=True)


def fused_loop(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    return fused_rnn.dynamic_rnn(cell, x, lengths, state, time_major=True)


def fused_batch_major_loop(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    y, state = fused_rnn.dynamic_rnn(cell, tf.transpose(x, [1, 0, 2]), lengths, state)
    return tf.transpose(y, [1, 0, 2]), state


def static_loop(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    y, state = tf.compat.v1.nn.static_rnn(cell, tf.unstack(x), state, sequence_length=lengths)
    return tf.stack(y), state


def bare_calls(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    assert lengths is None
    ys = []
    for x_t in tf.unstack(x):
        y, state = cell(x_t, state)
        ys.append(y)
    return tf.stack(ys), state


def raw_loop(cell: Cell, x: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """raw_rnn, whose own treatment of ended rows is that of dynamic_rnn."""
    T = tf.shape(x)[0]
    ends = tf.fill([tf.shape(x)[1]], T) if lengths is None else tf.cast(lengths, tf.int32)
    steps = tf.TensorArray(x.dtype, T, clear_after_read=False, element_shape=x.shape[1:]).unstack(x)
    last = T - 1

    def loop(time: Any, output: Any, cell_state: Any, _: Any) -> tuple[Any, ...]:
        next_state = state if output is None else cell_state
        return time >= ends, steps.read(tf.minimum(time, last)), next_state, output, None

    ys, state_after, _ = tf.compat.v1.nn.raw_rnn(cell, loop)
    y = ys.stack()
    y.set_shape([x.shape[0], x.shape[1], cell.output_size])
    return y, state_after


def weights_of(case: Case, inputs: Inputs) -> dict[str, Array]:
    """By the end of the variable's name."""
    if case.cell == "gru":
        names = ["gates/kernel", "candidate/kernel", "gates/bias", "candidate/bias"]
    else:
        names = ["lstm_cell/kernel", "projection/kernel"] if len(inputs.kernels) > 1 else ["kernel"]
        names += ["bias", "w_i_diag", "w_f_diag", "w_o_diag"][: len(inputs.biases)]
    return dict(zip(names, inputs.kernels + inputs.biases, strict=True))


def variables_as(weights: dict[str, Array]) -> Callable[..., Any]:
    """A custom getter that gives the variables these initial values."""

    def custom_getter(getter: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        value = next(value for end, value in weights.items() if name.endswith(f"/{end}"))
        return getter(name, *args, **kwargs | {"initializer": tf.compat.v1.constant_initializer(value)})

    return custom_getter


def waves(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
    """An initializer whose values depend on the shape only."""
    sizes = tf.TensorShape(shape).as_list()
    return tf.constant(np.sin(1.0 + np.arange(np.prod(sizes))).reshape(sizes) / 2, dtype)


def state_as_tuple(library: ModuleType, state: list[Any]) -> Any:
    """[h] or [h, c] -> as the cells take it"""
    return state[0] if len(state) == 1 else library.LSTMStateTuple(c=state[1], h=state[0])


def state_as_list(state: Any) -> list[Any]:
    return [state.h, state.c] if hasattr(state, "h") else [state]


def run_cell(
    library: ModuleType,
    kind: str,
    loop: Loop,
    case: Case,
    inputs: Inputs,
    mode: str,
    *,
    static_shapes: bool = True,
) -> Results:
    """Every value and gradient, by the names of tests/cases.py."""
    weights = weights_of(case, inputs)
    states = len(inputs.initial_state)
    feeds = {"x": inputs.x, "d_y": inputs.d_y}
    feeds |= {f"state[{k}]": state for k, state in enumerate(inputs.initial_state)}
    feeds |= {f"d_state[{k}]": state for k, state in enumerate(inputs.d_final_state)}
    if inputs.lengths is not None:
        feeds["lengths"] = inputs.lengths
    cells: list[Cell] = []

    def build(given: dict[str, Any]) -> dict[str, Any]:
        x, state = given["x"], [given[f"state[{k}]"] for k in range(states)]
        cell = cells[0] if cells else new_cell(library, kind, case, inputs)
        cells.append(cell)

        def forward() -> list[Any]:
            with tf.compat.v1.variable_scope("model", custom_getter=variables_as(weights)):
                y, final = quietly(loop, cell, x, state_as_tuple(library, state), given.get("lengths"))
            return [y, *state_as_list(final)]

        def sources() -> list[Any]:
            return [x, *of_each_end(cell.variables, weights), *state]

        d_results = [given["d_y"], *(given[f"d_state[{k}]"] for k in range(states))]
        results, gradients = with_gradients(mode, forward, sources, d_results, [x, *state])
        return named(results, gradients, len(inputs.kernels), len(inputs.biases))

    if mode == "function":  # a tf.function makes its variables once only
        with tf.compat.v1.variable_scope("model", custom_getter=variables_as(weights)):
            cells.append(new_cell(library, kind, case, inputs))
            cells[0].build(tf.TensorShape([None, inputs.x.shape[2]]))
    return evaluate(mode, build, feeds, static_shapes=static_shapes)


def new_cell(library: ModuleType, kind: str, case: Case, inputs: Inputs) -> Cell:
    options: dict[str, Any] = {
        "activation": None if case.activation == "tanh" else ACTIVATIONS[case.activation]
    }
    if case.cell.startswith("lstm"):
        options["forget_bias"] = case.forget_bias
    if kind == "LSTMCell":
        options |= {"cell_clip": case.cell_clip, "proj_clip": case.proj_clip}
        options["use_peepholes"] = len(inputs.biases) > 1
        options["num_proj"] = case.output_width if len(inputs.kernels) > 1 else None
    return make(library, kind, case.H, dtype=tf.as_dtype(inputs.x.dtype), **options)


def of_each_end(variables: list[Any], weights: dict[str, Array]) -> list[Any]:
    """The variables in the order of the weights."""
    return [next(v for v in variables if v.name.endswith(f"/{end}:0")) for end in weights]


def named(results: list[Any], gradients: list[Any], kernels: int, biases: int) -> dict[str, Any]:
    states = 1 + kernels + biases
    return name_results(
        y=results[0],
        final_state=results[1:],
        d_x=gradients[0],
        d_kernels=gradients[1 : 1 + kernels],
        d_biases=gradients[1 + kernels : states],
        d_initial_state=gradients[states:],
    )


@lru_cache(maxsize=256)
def expected(kind: str, case: Case, dtype: str) -> tuple[Results, Results]:
    """What TensorFlow's cell gives in float64 for the inputs rounded to dtype, and in dtype itself."""
    inputs = case.inputs(dtype)
    exact = run_cell(REFERENCE, kind, tensorflow_loop, case, inputs.astype(np.dtype(np.float64)), "eager")
    own = exact if dtype == "float64" else run_cell(REFERENCE, kind, tensorflow_loop, case, inputs, "eager")
    return exact, own


def of_kind(kind: str, shape: Case) -> Case:
    """The shape for the cell of this class."""
    forget_bias = shape.forget_bias if KINDS[kind] == "lstm" else 0.0
    return replace(shape, cell=KINDS[kind], seed=list(KINDS).index(kind), forget_bias=forget_bias)
