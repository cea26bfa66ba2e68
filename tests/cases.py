"""The cases that the tests run: sizes, lengths and options. Each makes its own random tensors from a seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from reference import ACTIVATIONS, CELLS, Array, Arrays, Options, sequence_backward_ref, sequence_forward_ref

DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

Results = dict[str, np.ndarray]  # every output and gradient by its name, time-major


@dataclass(frozen=True)
class Inputs:
    """What a sequence takes, forward and backward; always time-major, all of one dtype."""

    x: Array  # [T, B, I]
    kernels: Arrays  # [I + P, gates * H]; a projection [H, P]
    biases: Arrays  # [gates * H]
    initial_state: Arrays  # h [B, P], c [B, H]
    lengths: Array | None  # [B] int64
    d_y: Array  # [T, B, P]
    d_final_state: Arrays  # as initial_state
    state_mask: Array | None = None  # [T, B, P]

    def astype(self, dtype: np.dtype) -> Inputs:
        def convert(arrays: Arrays) -> Arrays:
            return [array.astype(dtype) for array in arrays]

        return Inputs(
            self.x.astype(dtype),
            convert(self.kernels),
            convert(self.biases),
            convert(self.initial_state),
            self.lengths,
            self.d_y.astype(dtype),
            convert(self.d_final_state),
            None if self.state_mask is None else self.state_mask.astype(dtype),
        )

    def moved(self) -> Inputs:
        """The same with x and the weights replaced by their upper neighbours."""

        def move(array: Array) -> Array:
            return np.nextafter(array, np.array(np.inf, array.dtype))

        return replace(
            self,
            x=move(self.x),
            kernels=[move(kernel) for kernel in self.kernels],
            biases=[move(bias) for bias in self.biases],
        )

    def padding(self) -> Array:
        """[T, B] bool: where a row has ended."""
        T, B, _ = self.x.shape
        lengths = np.full(B, T) if self.lengths is None else self.lengths
        return np.arange(T)[:, None] >= lengths[None, :]


@dataclass(frozen=True)
class Case:
    name: str
    cell: str
    T: int
    B: int
    I: int  # noqa: E741
    H: int
    lengths: tuple[int, ...] | None = None
    reverse: bool = False
    forget_bias: float = 0.0
    activation: str = "tanh"
    cell_clip: float | None = None
    proj_clip: float | None = None
    masked: bool = False  # whether there is a mask on the state
    P: int = 0  # the width of a projection; about 2/3 of H if 0
    scale: float = 1.0  # of the weights
    input_scale: float = 1.0  # of x: large ones saturate the gates
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.cell}-{self.name}"

    @property
    def rounding_decides(self) -> bool:
        """Whether half types may differ from the exact result by far: a value that comes close to where it is
        clipped passes its gradient on or does not, as its last bit has it."""
        return self.T > 1 and (self.cell_clip is not None or self.proj_clip is not None)

    @property
    def options(self) -> Options:
        return Options(self.activation, self.forget_bias, self.cell_clip, self.proj_clip)

    @property
    def output_width(self) -> int:
        """P: the width of h."""
        return (self.P or (2 * self.H + 2) // 3) if CELLS[self.cell].projected else self.H

    def inputs(self, dtype: str = "float64") -> Inputs:
        """Random tensors, rounded to dtype. The weights of each gate have a size of their own."""
        rng = np.random.default_rng([self.seed, self.T, self.B, self.I, self.H])
        cell = CELLS[self.cell]
        P, peepholes = self.output_width, len(cell.bias_gates) == 4
        fan = max(self.I + P, 1) ** -0.5
        widths = [P, self.H][: cell.states]

        def normal(*shape: int) -> Array:
            return rng.standard_normal(shape)

        def gate_sizes(gates: int) -> Array:
            return np.repeat(0.7 + 0.3 * np.arange(gates), self.H)

        exact = Inputs(
            x=self.input_scale * normal(self.T, self.B, self.I),
            kernels=[
                self.scale * fan * gate_sizes(g) * normal(self.I + P, g * self.H) for g in cell.kernel_gates
            ]
            + [self.H**-0.5 * normal(self.H, P) for _ in range(cell.projected)],
            # Peepholes, which feed c back to itself, are small: gradients would grow from step to step.
            biases=[
                0.1 * normal(self.H)
                if k > 0 and peepholes
                else 0.3 * normal(g * self.H) + 0.2 * gate_sizes(g)
                for k, g in enumerate(cell.bias_gates)
            ],
            initial_state=[0.7 * normal(self.B, width) for width in widths],
            lengths=None if self.lengths is None else np.array(self.lengths, np.int64),
            d_y=normal(self.T, self.B, P),
            d_final_state=[normal(self.B, width) for width in widths],
            state_mask=2.0 * rng.integers(0, 2, (self.T, self.B, P)) if self.masked else None,
        )
        return exact.astype(DTYPES[dtype])

    def reference(self, inputs: Inputs) -> Results:
        """The values and gradients that the reference gives for these inputs, computed in their dtype."""
        weights = inputs.kernels + inputs.biases
        forward = sequence_forward_ref(
            self.cell,
            inputs.x,
            weights,
            inputs.initial_state,
            inputs.lengths,
            self.options,
            self.reverse,
            inputs.state_mask,
        )
        d_x, d_weights, d_initial_state = sequence_backward_ref(
            self.cell,
            inputs.x,
            weights,
            forward,
            inputs.d_y,
            inputs.d_final_state,
            self.options,
            inputs.state_mask,
        )
        kernels = len(inputs.kernels)
        return name_results(
            y=forward.y,
            final_state=forward.final_state,
            d_x=d_x,
            d_kernels=d_weights[:kernels],
            d_biases=d_weights[kernels:],
            d_initial_state=d_initial_state,
        )

    @lru_cache(maxsize=64)  # noqa: B019 - cases live as long as the session
    def expected(self, dtype: str, runs: int = 1) -> tuple[Results, Results]:
        """The results in float64 for the inputs rounded to dtype, and those of the reference run in dtype.

        One such run may be lucky. With more, of these inputs and of numbers next to them, each tensor of the
        second result is as far from the first as in the unluckiest.
        """
        wide = DTYPES["float64"]
        inputs = self.inputs(dtype)
        exact = self.reference(inputs.astype(wide))
        if dtype == "float64":
            return exact, exact
        own = self.reference(inputs)
        for _ in range(1, runs):
            inputs = inputs.moved()
            exact_moved, own_moved = self.reference(inputs.astype(wide)), self.reference(inputs)
            for name in own:
                error = own_moved[name].astype(wide) - exact_moved[name]
                if np.linalg.norm(error) > np.linalg.norm(own[name].astype(wide) - exact[name]):
                    own[name] = (exact[name] + error).astype(own[name].dtype)
        return exact, own


def name_results(**tensors: Array | Arrays) -> Results:
    """One dict of arrays: a list called name gives name[0], name[1] and so on."""
    results: Results = {}
    for name, value in tensors.items():
        if isinstance(value, list):
            results |= {f"{name}[{k}]": array for k, array in enumerate(value)}
        else:
            results[name] = value
    return results


# A few shapes that between them reach every branch: what slow routes run (emulator, other instruction sets).
SHORT = (
    Case("one_step", "", T=1, B=3, I=4, H=5),
    Case("odd", "", T=5, B=3, I=7, H=17, forget_bias=1.0),
    Case("lengths", "", T=5, B=4, I=3, H=9, lengths=(5, 0, 3, 1), forget_bias=1.0),
    Case("reverse_lengths", "", T=4, B=5, I=4, H=16, lengths=(2, 4, 0, 4, 3), reverse=True),
    Case("all_ones", "", T=1, B=1, I=1, H=1),
    Case("wide", "", T=2, B=18, I=33, H=65),
    Case("no_steps", "", T=0, B=2, I=3, H=4),
    Case("no_rows", "", T=3, B=0, I=3, H=4),
)

LONG = SHORT + (
    Case("one_row", "", T=9, B=1, I=6, H=17, forget_bias=1.0),
    Case("one_row_h64", "", T=6, B=1, I=64, H=64),
    Case("one_row_h65", "", T=31, B=1, I=33, H=65, forget_bias=1.0),
    Case("one_row_large", "", T=131, B=1, I=3, H=430),
    Case("one_row_in_place", "", T=36, B=1, I=3, H=430),
    Case("two_rows_in_place", "", T=18, B=2, I=70, H=430, lengths=(18, 11), reverse=True),
    Case("four_rows_in_place", "", T=6, B=4, I=3, H=430, lengths=(6, 4, 6, 5)),
    Case("two_rows_h70", "", T=7, B=2, I=70, H=70, lengths=(3, 7)),
    Case("four_rows_h67", "", T=5, B=4, I=131, H=67, lengths=(5, 1, 4, 0), reverse=True),
    Case("six_rows_h66", "", T=5, B=6, I=67, H=66),
    Case("packed_h63", "", T=26, B=5, I=31, H=63),
    Case("packed_h65", "", T=19, B=7, I=130, H=65, lengths=(19, 3, 0, 19, 7, 8, 19)),
    Case("one_unit", "", T=5, B=4, I=3, H=1),
    Case("one_input", "", T=4, B=3, I=1, H=16, forget_bias=1.0),
    Case("h63", "", T=4, B=5, I=31, H=63),
    Case("h64", "", T=4, B=8, I=32, H=64, forget_bias=1.0),
    Case("h65", "", T=3, B=7, I=130, H=65),
    Case("h130", "", T=3, B=4, I=16, H=130),
    Case("tall_batch", "", T=3, B=67, I=9, H=16),
    Case("many_steps", "", T=300, B=3, I=40, H=30),
    Case("many_chunks", "", T=140, B=33, I=48, H=33, lengths=tuple(17 * b % 141 for b in range(33))),
    Case("many_chunks_reverse", "", T=150, B=17, I=20, H=34, reverse=True, forget_bias=1.0),
    Case("one_row_at_work", "", T=100, B=13, I=20, H=40, lengths=(0,) * 12 + (100,)),
    Case("many_pairs", "", T=400, B=50, I=9, H=10),
    Case("many_rows", "", T=3, B=600, I=5, H=8),
    Case("many_wide_steps", "", T=30, B=20, I=10, H=190),
    Case("few_rows_many_units", "", T=6, B=2, I=30, H=190),
    Case("one_large_step", "", T=1, B=40, I=100, H=130),
    Case("one_larger_step", "", T=1, B=130, I=64, H=190),
    Case("wide_inputs", "", T=2, B=24, I=2100, H=64, lengths=(2, 1) * 12),
    Case("one_step_length_0", "", T=1, B=3, I=4, H=5, lengths=(0, 1, 0)),
    Case("one_step_reverse", "", T=1, B=3, I=4, H=5, lengths=(1, 0, 1), reverse=True),
    Case("lengths_all_0", "", T=3, B=4, I=3, H=5, lengths=(0, 0, 0, 0)),
    Case("lengths_all_full", "", T=3, B=4, I=3, H=5, lengths=(3, 3, 3, 3), forget_bias=1.0),
    Case("lengths_all_short", "", T=6, B=3, I=5, H=8, lengths=(2, 1, 2)),
    Case("reverse", "", T=8, B=4, I=5, H=12, reverse=True),
    Case("reverse_all_0", "", T=2, B=2, I=5, H=12, lengths=(0, 0), reverse=True),
    Case("saturated", "", T=6, B=5, I=12, H=20, input_scale=30.0),
    Case("no_steps_lengths", "", T=0, B=2, I=3, H=4, lengths=(0, 0), reverse=True),
    Case("no_rows_lengths", "", T=3, B=0, I=3, H=4, lengths=()),
    Case("nothing", "", T=0, B=0, I=3, H=4),
)


def of_each_cell(shapes: tuple[Case, ...]) -> Iterator[Case]:
    """The shapes for every cell. Only the LSTM has a forget bias."""
    for seed, cell in enumerate(CELLS):
        for shape in shapes:
            lstm = cell.startswith("lstm")
            if shape.name == "saturated" and lstm and cell != "lstm":
                continue  # their gates are the lstm's; of their few gradients hardly a digit is left
            yield replace(shape, cell=cell, seed=seed, forget_bias=shape.forget_bias if lstm else 0.0)


def with_options(shapes: tuple[Case, ...]) -> Iterator[Case]:
    """Every activation of every cell, and what clips the LSTM; the clips are within reach of about half the
    values, and numbers that all dtypes can hold."""
    for shape in shapes:
        for cell in CELLS:
            for activation in ACTIVATIONS:
                name = f"{shape.name}_{activation}"
                yield replace(shape, cell=cell, name=name, activation=activation, scale=0.7, seed=7)
            yield replace(shape, cell=cell, name=f"{shape.name}_masked", masked=True, seed=10)
            if cell.startswith("lstm"):
                yield replace(shape, cell=cell, name=f"{shape.name}_cell_clip", cell_clip=0.375, seed=8)
        for P in (shape.H // 2, shape.H + 29):
            clipped = replace(shape, cell="lstm_projected", P=P, proj_clip=0.25, seed=9)
            yield replace(clipped, name=f"{shape.name}_proj_clip_{P}")
            yield replace(clipped, name=f"{shape.name}_both_clips_{P}", cell_clip=0.5, activation="relu")


SHORT_CASES = tuple(of_each_cell(SHORT))
# What each instruction set runs: theirs, and products of several blocks in tiles for few rows.
# The second packs its kernels, and leaves over units that fill one to three vectors of a panel's four.
TARGET_CASES = SHORT_CASES + tuple(
    of_each_cell(
        (
            Case("deep_step", "", T=1, B=3, I=270, H=66),
            Case("left_over", "", T=3, B=18, I=5, H=23),
        )
    )
)
OPTION_CASES = tuple(
    with_options(
        (
            Case("step", "", T=1, B=5, I=6, H=21, lengths=(1, 1, 0, 1, 1)),
            Case("sequence", "", T=4, B=7, I=5, H=35, lengths=(4, 2, 0, 4, 3, 1, 4), reverse=True),
        )
    )
)
LONG_CASES = tuple(of_each_cell(LONG))
MASKED_CASES = tuple(of_each_cell((Case("many_pairs_masked", "", T=90, B=7, I=6, H=10, masked=True),)))


@st.composite
def drawn_cases(
    draw: st.DrawFn,
    max_T: int = 12,
    max_B: int = 20,
    max_width: int = 70,
    cells: Sequence[str] = tuple(CELLS),
    options: bool = True,
) -> Case:
    """Any cell at any size, empty ones included, with or without lengths; with any options, or plain."""
    cell = draw(st.sampled_from(cells))
    T, B = draw(st.integers(0, max_T)), draw(st.integers(0, max_B))
    lengths = draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B).map(tuple))
    lstm = cell.startswith("lstm")
    return Case(
        "drawn",
        cell,
        T,
        B,
        I=draw(st.integers(1, max_width)),
        H=draw(st.integers(1, max_width)),
        lengths=lengths,
        reverse=draw(st.booleans()),
        forget_bias=draw(st.sampled_from([0.0, 1.0, -0.5])) if lstm else 0.0,
        activation=draw(st.sampled_from(list(ACTIVATIONS))) if options else "tanh",
        cell_clip=draw(st.sampled_from([None, 0.5])) if lstm and options else None,
        proj_clip=draw(st.sampled_from([None, 0.5])) if CELLS[cell].projected and options else None,
        masked=options and draw(st.booleans()),
        P=draw(st.integers(1, max_width)),
        scale=0.7,
        seed=draw(st.integers(0, 99)),
    )
