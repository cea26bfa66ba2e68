"""Who takes part, fused_rnn and its peers, and which cells, modes and devices each can run.

Only names here: a contender's module is imported in its own process.
"""

from dataclasses import dataclass
from importlib.util import find_spec

from workload import DTYPES, MODES, Workload


@dataclass(frozen=True)
class Contender:
    """One who takes part. `module`, in this folder, has start(), prepare() and, in some, matmul_rate().

    `prepare` is the name of that function where a module has several; `checked` says whether what it computes
    is the workload's cell, and not an empty loop or call to compare with.
    """

    name: str
    label: str
    module: str
    packages: tuple[str, ...]
    cells: tuple[str, ...]
    modes: tuple[str, ...] = MODES
    dtypes: tuple[str, ...] = ("float32",)
    devices: tuple[str, ...] = ("cpu", "gpu")
    prepare: str = "prepare"
    checked: bool = True

    def offers(self, workload: Workload) -> bool:
        """Whether it runs the workload's cell, mode and dtype."""
        return workload.cell in self.cells and workload.mode in self.modes and workload.dtype in self.dtypes

    def missing(self) -> tuple[str, ...]:
        """The packages it needs that are not installed."""
        return tuple(package for package in self.packages if find_spec(package) is None)


SEQUENCE = "sequence"
REFERENCE = "reference"

FUSED = (
    Contender(
        "step",
        "fused step route",
        "step",
        ("tensorflow", "fused_rnn"),
        ("lstm", "gru", "rnn"),
        dtypes=DTYPES,
    ),
    Contender(
        SEQUENCE,
        "fused sequence route",
        "sequence",
        ("tensorflow", "fused_rnn"),
        ("lstm", "gru", "gru_reset_after", "rnn"),
        dtypes=DTYPES,
    ),
    Contender(
        "in_caller",
        "sequence route, caller's thread",
        "sequence",
        ("tensorflow", "fused_rnn"),
        ("lstm", "gru", "gru_reset_after", "rnn"),
        dtypes=DTYPES,
        prepare="prepare_in_caller",
    ),
)
PEERS = (
    Contender(
        REFERENCE,
        "dynamic_rnn, TensorFlow's cell",
        "reference",
        ("tensorflow",),
        ("lstm", "gru", "rnn"),
        dtypes=DTYPES,
    ),
    Contender(
        "keras",
        "Keras 3 layer",
        "keras_layer",
        ("tensorflow", "keras"),
        ("lstm", "gru", "gru_reset_after", "rnn"),
    ),
    Contender(
        "torch",
        "torch",
        "torch_module",
        ("torch",),
        ("lstm", "gru_reset_after", "rnn"),
        dtypes=DTYPES,
    ),
    Contender(
        "onnxruntime",
        "onnxruntime",
        "onnx_graph",
        ("onnx", "onnxruntime"),
        ("lstm", "gru", "gru_reset_after", "rnn"),
        modes=("inference",),
        devices=("cpu",),
    ),
)
CONTENDERS = FUSED + PEERS
