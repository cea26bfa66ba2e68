"""Cells in stacks and wrappers over a sequence, in one or both directions: what the parity list holds."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

import fused_rnn
from cases import DTYPES, Array, Results
from tf.evaluate import evaluate, with_gradients
from tf.tensorflow_cells import REFERENCE, Cell, make, quietly

v1 = tf.compat.v1

T, B, H = 3, 3, 6  # the inputs have the width H too: residuals need it
LENGTHS = {"full": None, "lengths": (2, 0, 3)}

# Class and options of each cell.
CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "BasicRNNCell": ("BasicRNNCell", {}),
    "BasicLSTMCell": ("BasicLSTMCell", {"forget_bias": 0.25}),
    "LSTMCell": ("LSTMCell", {}),
    "LSTMCell-joined": ("LSTMCell", {"state_is_tuple": False}),
    "GRUCell": ("GRUCell", {}),
    "LSTMCell-whole": (
        "LSTMCell",
        {
            "use_peepholes": True,
            "cell_clip": 0.4,
            "num_proj": None,
            "proj_clip": 0.2,
            "activation": tf.nn.elu,
        },
    ),
}


@dataclass(frozen=True)
class Maker:
    """Makes cells of one kind and wrappers, those of fused_rnn or TensorFlow's own."""

    library: ModuleType
    cell_name: str  # of CELLS
    dtype: str

    def cell(self, units: int = H) -> Cell:
        """units: the width of its outputs."""
        kind, options = CELLS[self.cell_name]
        if "num_proj" in options:
            return make(self.library, kind, units + 3, dtype=self.dtype, **options | {"num_proj": units})
        return make(self.library, kind, units, dtype=self.dtype, **options)

    def foreign(self) -> Cell:
        """A cell that is TensorFlow's own in either library."""
        return make(REFERENCE, "GRUCell", H, dtype=self.dtype)

    def stack(self, *cells: Cell) -> Cell:
        joined = all(isinstance(cell.state_size, int) for cell in cells)
        return make(self.library, "MultiRNNCell", list(cells), state_is_tuple=not joined)

    def residual(self, cell: Cell, function: Any = None) -> Cell:
        return make(self.library, "ResidualWrapper", cell, function)

    def on_device(self, cell: Cell) -> Cell:
        return make(self.library, "DeviceWrapper", cell, "/CPU:0")

    def dropout(self, cell: Cell, **keep: Any) -> Cell:
        return make(self.library, "DropoutWrapper", cell, seed=3, **keep)

    def variational(self, cell: Cell) -> Cell:
        keep = {"input_keep_prob": 0.75, "output_keep_prob": 0.5}
        return self.dropout(cell, variational_recurrent=True, input_size=H, dtype=self.dtype, **keep)


def of_one_step(inputs: Any, outputs: Any) -> Any:
    """A residual function that counts the rows it is given: it must see one step at a time."""
    rows = tf.cast(tf.range(tf.shape(inputs)[0]), inputs.dtype)
    return outputs + inputs[:, ::-1] * rows[:, None] / 4


ALMOST_ALL = 1 - 1e-7  # the share that a dropout keeps which drops nothing here

WRAPPED: dict[str, Callable[[Maker], Cell]] = {
    "alone": lambda m: m.cell(H + 1),
    "stack": lambda m: m.stack(m.cell(), m.cell(H + 1)),
    "residual": lambda m: m.residual(m.cell()),
    "residual_fn": lambda m: m.residual(m.cell(), of_one_step),
    "device": lambda m: m.on_device(m.cell()),
    "variational": lambda m: m.variational(m.cell()),
    "dropout": lambda m: m.dropout(m.cell(), input_keep_prob=ALMOST_ALL, output_keep_prob=ALMOST_ALL),
    "state_dropout": lambda m: m.stack(
        m.cell(), m.dropout(m.cell(), state_keep_prob=0.6, variational_recurrent=True, dtype=m.dtype)
    ),
    "filtered_dropout": lambda m: m.stack(
        m.cell(), m.dropout(m.cell(), state_keep_prob=0.6, dropout_state_filter_visitor=lambda state: True)
    ),
    "foreign": lambda m: m.residual(m.stack(m.cell(), m.foreign(), m.cell())),
    "deep": lambda m: m.variational(
        m.stack(
            m.residual(m.cell()),
            m.on_device(m.variational(m.residual(m.cell()))),
            m.residual(m.variational(m.cell()), lambda inputs, outputs: inputs - outputs),
            m.stack(m.cell(H + 1), m.residual(m.cell(H + 1))),
        )
    ),
}

# Those that draw numbers to some effect: variational wrappers when they are made, the filtered in every step.
RANDOM = ("variational", "state_dropout", "filtered_dropout", "deep")

# cells, x [B, T, I], states, lengths -> outputs [B, T, H] of each cell, final states
Loop = Callable[[list[Cell], Any, list[Any], Any], tuple[list[Any], list[Any]]]


def tensorflow_dynamic(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    y, state = v1.nn.dynamic_rnn(cells[0], x, lengths, states[0], parallel_iterations=1)
    return [y], [state]


def dynamic(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    y, state = fused_rnn.dynamic_rnn(cells[0], x, lengths, states[0])
    return [y], [state]


def dynamic_time_major(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    x = tf.transpose(x, [1, 0, 2])
    y, state = fused_rnn.dynamic_rnn(cells[0], x, lengths, states[0], time_major=True)
    return [tf.transpose(y, [1, 0, 2])], [state]


def static(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    steps = tf.unstack(x, axis=1)
    y, state = fused_rnn.static_rnn(cells[0], steps, states[0], sequence_length=lengths)
    return [tf.stack(y, 1)], [state]


def tensorflow_bidirectional(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    return v1.nn.bidirectional_dynamic_rnn(*cells, x, lengths, *states, parallel_iterations=1)


def bidirectional(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    (fw, bw), (state_fw, state_bw) = cells, states
    return fused_rnn.bidirectional_dynamic_rnn(fw, bw, x, lengths, state_fw, state_bw)


def bidirectional_time_major(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    (fw, bw), (state_fw, state_bw) = cells, states
    x = tf.transpose(x, [1, 0, 2])
    y, state = fused_rnn.bidirectional_dynamic_rnn(fw, bw, x, lengths, state_fw, state_bw, time_major=True)
    return [tf.transpose(direction, [1, 0, 2]) for direction in y], state


def static_bidirectional(cells: list[Cell], x: Any, states: list[Any], lengths: Any) -> Any:
    (fw, bw), (state_fw, state_bw) = cells, states
    steps = tf.unstack(x, axis=1)
    y, *state = fused_rnn.static_bidirectional_rnn(fw, bw, steps, state_fw, state_bw, None, lengths)
    width = fw.output_size
    return [tf.stack(y, 1)[:, :, :width], tf.stack(y, 1)[:, :, width:]], state


LOOPS: dict[str, dict[str, Loop]] = {
    "forward": {"dynamic": dynamic, "time_major": dynamic_time_major, "static": static},
    "both": {
        "dynamic": bidirectional,
        "time_major": bidirectional_time_major,
        "static": static_bidirectional,
    },
}
TENSORFLOW_LOOPS: dict[str, Loop] = {"forward": tensorflow_dynamic, "both": tensorflow_bidirectional}


def values(name: str, shape: Any) -> Array:
    """Numbers that every dtype can hold, from a name: multiples of 1/64 below 2."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    sizes = tf.TensorShape(shape).as_list()
    return np.clip(np.round(32 * rng.standard_normal(sizes)) / 64, -1.9, 1.9)


@dataclass
class Variables:
    """A custom getter that gives variables values by their names, and keeps them."""

    made: dict[str, Any] = field(default_factory=dict)

    def __call__(self, getter: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        initializer = v1.constant_initializer(values(name, kwargs["shape"]))
        variable = getter(name, *args, **kwargs | {"initializer": initializer})
        self.made[name] = variable
        return variable


def run(
    library: ModuleType,
    loop: Loop,
    cell: str,
    wrapped: str,
    directions: str,
    lengths: str,
    dtype: str,
    mode: str = "eager",
    *,
    static_shapes: bool = True,
) -> Results:
    """Every value and gradient."""
    maker, numbers = Maker(library, cell, dtype), range(2 if directions == "both" else 1)
    sizes = WRAPPED[wrapped](maker)
    state_sizes = tf.nest.flatten(sizes.state_size)
    if wrapped in RANDOM:  # not always, since it makes TensorFlow forget the kernels it has made
        tf.random.set_seed(7)
    cells: list[Cell] = []
    variables = Variables()

    def build(given: dict[str, Any]) -> dict[str, Any]:
        if not cells:
            cells.extend(WRAPPED[wrapped](maker) for _ in numbers)
        flat = [[given[f"state[{n}][{k}]"] for k in range(len(state_sizes))] for n in numbers]
        states = [tf.nest.pack_sequence_as(sizes.state_size, state) for state in flat]

        def forward() -> list[Any]:
            with v1.variable_scope("model", custom_getter=variables):
                y, final_states = quietly(loop, cells, given["x"], states, LENGTHS[lengths])
            return [*y, *tf.nest.flatten(final_states)]

        def sources() -> list[Any]:
            return [given["x"], *tf.nest.flatten(states), *variables.made.values()]

        d_results = [tensor for name, tensor in given.items() if name.startswith("d_")]
        results, gradients = with_gradients(mode, forward, sources, d_results, [given["x"], *flat])
        named = {f"result[{k}]": result for k, result in enumerate(results)}
        names = [*(f"state[{k}]" for k in range(len(tf.nest.flatten(states)))), *variables.made]
        return named | dict(zip(["d_x", *(f"d_{name}" for name in names)], gradients, strict=True))

    shapes = {"x": [B, T, H]}
    shapes |= {f"state[{n}][{k}]": [B, size] for n in numbers for k, size in enumerate(state_sizes)}
    shapes |= {f"d_y[{n}]": [B, T, sizes.output_size] for n in numbers}
    shapes |= {f"d_state[{n}][{k}]": [B, size] for n in numbers for k, size in enumerate(state_sizes)}
    feeds = {name: values(name, shape).astype(DTYPES[dtype]) for name, shape in shapes.items()}
    if mode == "function":
        evaluate("eager", build, feeds)  # makes the variables
    return evaluate(mode, build, feeds, static_shapes=static_shapes)


@lru_cache(maxsize=256)
def expected(
    cell: str, wrapped: str, directions: str, lengths: str, dtype: str, mode: str = "eager"
) -> Results:
    """What TensorFlow's cells give in its own loop."""
    loop = TENSORFLOW_LOOPS[directions]
    return run(REFERENCE, loop, cell, wrapped, directions, lengths, dtype, mode)
