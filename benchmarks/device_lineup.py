"""Who is measured and how much: a point's contenders, cuDNN's path for torch's, allowed errors, repeats."""

from dataclasses import dataclass

from workload import Workload

FUSED = "fused"
TORCH = "torch"
TORCH_FLOAT16 = "torch float16"
FLASHRNN = "FlashRNN"
DRIVERS = ("auto", "stepwise", "persistent")

# ||out - reference|| / ||reference||, the reference in float64. A wrong gate or a lost row is off by 0.1 or
# more.
TOLERANCES = {"float32": 1e-4, "tf32": 5e-3, "float16": 5e-3, "bfloat16": 4e-2}


@dataclass(frozen=True)
class DevicePlan:
    """How much is measured: `rounds` visits to every contender, each as many calls as fit the time."""

    rounds: int = 3
    burst_ms: float = 80.0
    least_calls: int = 3
    most_calls: int = 100
    warmup_calls: int = 3

    def calls(self, milliseconds: float) -> int:
        """Calls of one visit, for calls that take so long."""
        fitting = int(self.burst_ms / max(milliseconds, 1e-3))
        return min(max(fitting, self.least_calls), self.most_calls)


@dataclass(frozen=True)
class Entrant:
    """One who takes part in a point, and the dtype it computes in."""

    name: str
    dtype: str
    driver: str = "auto"  # of the fused ones

    @property
    def fused(self) -> bool:
        """Whether it is the core."""
        return self.name.startswith(FUSED)


def fused_name(driver: str) -> str:
    """The name of the core with this driver."""
    return FUSED if driver == "auto" else f"{FUSED} {driver}"


def driver_of(name: str) -> str:
    """The way back."""
    return name.removeprefix(FUSED).strip() or "auto"


def entrants(point: Workload, drivers: tuple[str, ...] = ()) -> list[Entrant]:
    """The core, with other drivers where they are asked for, and torch in the point's dtype.

    In bfloat16 also torch in float16 where that takes another path: it is what its users would choose.
    """
    found = [Entrant(fused_name(driver), point.dtype, driver) for driver in ("auto", *drivers)]
    found = list(dict.fromkeys(found))
    found.append(Entrant(TORCH, point.dtype))
    if point.dtype == "bfloat16" and cudnn_path(point, "float16") != cudnn_path(point, "bfloat16"):
        found.append(Entrant(TORCH_FLOAT16, "float16"))
    return found


def cudnn_path(point: Workload, dtype: str) -> str:
    """The algorithm that torch asks cuDNN for, by torch's own rule, on GPUs of 98 multiprocessors or more.

    aten/src/ATen/native/cudnn/RNN.cpp, get_algo: small H first; then float16 alone has another persistent
    kernel, for LSTMs of one direction, 128-wide sizes and batches of 8. TensorFlow and Keras always get the
    standard one.
    """
    case = point.case
    if case.hidden <= 128:
        return "persistent, small H"
    if case.hidden <= 192:
        return "persistent, small H forward"
    wide = case.hidden <= 1024 and case.hidden % 128 == 0 and case.inputs % 128 == 0
    wide = wide and point.directions == 1
    if dtype == "float16" and point.cell == "lstm" and wide and case.batch % 8 == 0 and case.batch <= 128:
        return "persistent"
    return "standard"


def label(name: str, point: Workload, dtype: str) -> str:
    """A contender's name with what it runs on: "torch (cuDNN standard, bfloat16)"."""
    if not name.startswith(TORCH):
        return name
    return f"{TORCH} (cuDNN {cudnn_path(point, dtype)}, {dtype})"


def offers_flashrnn(point: Workload) -> bool:
    """Whether FlashRNN's fused kernel is asked for: it has the LSTM one way, and 16-bit tensor units."""
    if point.directions > 1:
        return False
    return point.cell == "lstm" and point.dtype in ("bfloat16", "float16") and point.case.hidden % 64 == 0
