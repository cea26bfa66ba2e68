"""What is timed: the cases, the suites they come in, the arrays they run on and the arithmetic they need.

B, T, I, H and G mean batch, time steps, input width, hidden units and gates throughout.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]

# "gru" resets before the recurrent product (TensorFlow 1), "gru_reset_after" after it (Keras, cuDNN, torch).
# They are two functions with two results, so they are two cells here: each meets the peers that compute the
# same.
GATES = {"lstm": 4, "gru": 3, "gru_reset_after": 3, "rnn": 1}
CELLS = tuple(GATES)
MODES = ("inference", "training")
DTYPES = ("float32", "bfloat16")
SEED = 20


@dataclass(frozen=True)
class Case:
    """One problem size."""

    batch: int
    steps: int
    inputs: int
    hidden: int

    def __str__(self) -> str:
        """As --case takes it."""
        return f"{self.batch},{self.steps},{self.inputs},{self.hidden}"


@dataclass(frozen=True)
class Workload:
    """One thing to time: a cell, a mode and a case."""

    cell: str
    mode: str
    case: Case
    dtype: str = "float32"
    directions: int = 1  # 2: a bidirectional layer

    def __str__(self) -> str:
        """For the progress bar and the headings."""
        both = "bidirectional " if self.directions == 2 else ""
        dtype = f" {self.dtype}" if self.dtype != "float32" else ""
        return f"{both}{self.cell} {self.mode} {self.case}{dtype}"

    @property
    def flop(self) -> int:
        """Floating-point operations: 2*B*T*(I+H)*G*H forward; the two gradient products double that again."""
        case = self.case
        forward = 2 * case.batch * case.steps * (case.inputs + case.hidden) * GATES[self.cell] * case.hidden
        forward *= self.directions
        return forward if self.mode == "inference" else 3 * forward


def weight_shapes(cell: str, inputs: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights as TensorFlow 1 lays them out: kernels [I+H, gates*H], gates i,j,f,o and r,u."""
    rows = inputs + hidden
    if cell in ("gru", "gru_reset_after"):
        shapes: dict[str, tuple[int, ...]] = {
            "gate_kernel": (rows, 2 * hidden),
            "gate_bias": (2 * hidden,),
            "candidate_kernel": (rows, hidden),
            "candidate_bias": (hidden,),
        }
        if cell == "gru_reset_after":
            shapes["recurrent_bias"] = (3 * hidden,)
        return shapes
    return {"kernel": (rows, GATES[cell] * hidden), "bias": (GATES[cell] * hidden,)}


def make_arrays(cell: str, case: Case) -> tuple[FloatArray, dict[str, FloatArray]]:
    """The input x [B, T, I] and the weights, float32: the same in every process, whoever asks."""
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((case.batch, case.steps, case.inputs), dtype=np.float32)
    bound = 1.0 / np.sqrt(case.hidden)
    weights = {
        name: rng.uniform(-bound, bound, shape).astype(np.float32)
        for name, shape in weight_shapes(cell, case.inputs, case.hidden).items()
    }
    return x, weights


PEER_CASES = (
    Case(1, 100, 128, 256),
    Case(32, 100, 256, 512),
    Case(64, 50, 128, 128),
    Case(20, 35, 650, 650),
    Case(128, 50, 512, 1024),
)
PEER_CELLS = ("lstm", "gru", "gru_reset_after")

# DeepBench (github.com/baidu-research/DeepBench): (H, T, batches), input width = H. Its GRU is cuDNN's, which
# resets after the product, so that is the form run unless --cell asks for the other. Its plain network is a
# ReLU one; the work is the same with the tanh used here.
_DEEPBENCH_LISTS: dict[tuple[str, str], tuple[tuple[int, int, tuple[int, ...]], ...]] = {
    ("lstm", "training"): (
        *((hidden, 25, (16, 32, 64, 128)) for hidden in (512, 1024, 2048, 4096)),
        (1536, 50, (8, 16, 32)),
        (256, 150, (16, 32, 64)),
    ),
    ("gru", "training"): (
        (2816, 1500, (32,)),
        (2048, 750, (32,)),
        (1536, 375, (32,)),
        (2560, 187, (32,)),
        (512, 1, (32,)),
        (1024, 1500, (32, 64)),
    ),
    ("rnn", "training"): tuple((hidden, 50, (16, 32, 64, 128)) for hidden in (1760, 2048, 2560)),
    ("lstm", "inference"): tuple(
        (hidden, steps, (1, 2, 4))
        for hidden, steps in ((512, 25), (1024, 25), (2048, 25), (1536, 50), (256, 150))
    ),
    ("gru", "inference"): tuple(
        (hidden, steps, (1, 2, 4)) for hidden, steps in ((2816, 1500), (2048, 750), (1536, 375), (2560, 187))
    ),
}
DEEPBENCH_CELLS = ("lstm", "gru_reset_after", "rnn")

SUITE_CELLS = {"peers": PEER_CELLS, "deepbench": DEEPBENCH_CELLS}


def suite_cases(suite: str, cell: str, mode: str) -> tuple[Case, ...]:
    """The cases a suite has for one cell and mode, in the suite's order; none where the suite has none."""
    if suite == "peers":
        return PEER_CASES
    rows = _DEEPBENCH_LISTS.get((cell.removesuffix("_reset_after"), mode), ())
    return tuple(Case(batch, steps, hidden, hidden) for hidden, steps, batches in rows for batch in batches)


def choose_workloads(
    suite: str,
    cells: tuple[str, ...],
    modes: tuple[str, ...],
    cases: tuple[Case, ...],
    dtype: str,
    quick: bool,
) -> list[Workload]:
    """Every workload to time: the given cases, or else the suite's; `quick` takes a suite's two smallest."""
    workloads = []
    for cell in cells:
        for mode in modes:
            group = [Workload(cell, mode, case, dtype) for case in cases or suite_cases(suite, cell, mode)]
            if quick and not cases:
                group = sorted(group, key=lambda workload: workload.flop)[:2]
            workloads += group
    return workloads
