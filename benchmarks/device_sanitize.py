"""The kernels under NVIDIA's compute-sanitizer: a short list of sequences, once for each of its tools.

device.py --sanitize calls this. Run alone it is the program that the tools watch: both drivers, every cell,
several dtypes, forward and backward, compared with the core's CPU kernels. Needs no torch.
racecheck looks at shared memory alone; races between blocks are what tests/emulator looks for.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np

from device_build import BUILD, import_core
from device_lineup import TOLERANCES

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
CELLS = ("rnn", "lstm", "lstm_peephole", "lstm_projected", "gru", "gru_reset_after")
_ERRORS_FOUND = 86  # the exit status that a tool is told to give
_SUMMARY = re.compile(r"(?:ERROR|RACECHECK) SUMMARY: (.*)")


@dataclass(frozen=True)
class Sequence:
    """One run of the list."""

    cell: str
    driver: str
    dtype: str
    T: int = 3
    B: int = 5
    I: int = 7  # noqa: E741
    H: int = 33
    P: int = 22  # of a cell with a projection
    lengths: tuple[int, ...] | None = (3, 0, 1, 2, 3)

    def __str__(self) -> str:
        return f"{self.cell} {self.driver} {self.dtype} T{self.T} B{self.B} H{self.H}"


def short_list() -> Iterator[Sequence]:
    """Small ones of every kind; more rows than a block takes at a time; more weights than an H200 keeps."""
    for driver in ("stepwise", "persistent"):
        for cell in CELLS:
            for dtype in ("float32", "tf32", "bfloat16"):
                yield Sequence(cell, driver, dtype)
        yield Sequence("lstm", driver, "float16")
        yield Sequence("gru", driver, "float32", B=1, H=64, lengths=None)
        yield Sequence("lstm", driver, "bfloat16", T=2, B=140, H=40, lengths=None)
    yield Sequence("lstm", "persistent", "float32", T=2, B=2, H=1800, lengths=None)


def run_sequence(module: ModuleType, sequence: Sequence, device: str) -> dict[str, np.ndarray]:
    """Every value and gradient, by name."""
    info, s = module.cell_info(sequence.cell), sequence
    dtype = np.dtype(ml_dtypes.bfloat16 if s.dtype == "bfloat16" else s.dtype.replace("tf32", "float32"))
    rng, P = np.random.default_rng(7), s.P if info["projected"] else s.H

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * rng.standard_normal(shape)).astype(dtype)

    kernels = [normal(s.I + P, gates * s.H, scale=(s.I + P) ** -0.5) for gates in info["kernel_gates"]]
    if info["projected"]:
        kernels[-1] = normal(s.H, P, scale=s.H**-0.5)
    biases = [normal(gates * s.H, scale=0.1) for gates in info["bias_gates"]]
    widths = [P, s.H][: info["states"]]
    state, d_state = ([normal(s.B, width) for width in widths] for _ in range(2))
    x, d_y = normal(s.T, s.B, s.I), normal(s.T, s.B, P)
    lengths = None if s.lengths is None else np.array(s.lengths, np.int64)
    options: dict[str, Any] = {"time_major": True, "device": device}
    options |= {"driver": s.driver, "allow_tf32": s.dtype == "tf32"}
    given = (s.cell, x, kernels, biases, state, lengths)
    y, final, saved = module.sequence_forward(*given, keep=True, **options)
    d_x, *gradients = module.sequence_backward(*given, y, saved, d_y, d_state, **options)
    found = {"y": y, "d_x": d_x}
    for name, arrays in zip(("final", "d_kernel", "d_bias", "d_initial"), [final, *gradients], strict=True):
        found |= {f"{name} {n}": array for n, array in enumerate(arrays)}
    return found


def wrong(module: ModuleType, sequence: Sequence) -> list[str]:
    """A line for each tensor that differs from the CPU's."""
    want = run_sequence(module, replace(sequence, driver="auto"), "cpu")
    found = []
    for name, tensor in run_sequence(module, sequence, "cuda").items():
        right = want[name].astype(np.float64)
        error = float(np.linalg.norm(tensor.astype(np.float64) - right) / (np.linalg.norm(right) or 1.0))
        if not error <= TOLERANCES[sequence.dtype]:
            found.append(f"{sequence}: {name} is off by {error:.1e} of its norm")
    return found


def run_tool(sanitizer: str, tool: str, seconds: float) -> tuple[bool, str]:
    """Whether the tool found nothing; and what it found, in a line."""
    log = BUILD / f"sanitize_{tool}.log"
    log.unlink(missing_ok=True)
    command = [sanitizer, "--tool", tool, "--error-exitcode", str(_ERRORS_FOUND), "--target-processes", "all"]
    command += ["--kernel-regex", "kns=fused_rnn", "--log-file", str(log), sys.executable, __file__]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False, f"{tool}: did not end within {seconds:.0f} s"
    text = log.read_text(errors="replace") if log.exists() else ""
    summary = _SUMMARY.findall(text)
    if done.returncode == 0 and summary:
        return True, f"{tool}: clean"
    if done.returncode == _ERRORS_FOUND:
        return False, f"{tool}: {summary[-1] if summary else 'errors'}; see {log}"
    said = " ".join((done.stdout + done.stderr + text).split())[-300:]
    return False, f"{tool}: FAILED with exit code {done.returncode}: {said}"


def main() -> int:
    """What the tools watch; returns the exit code."""
    module = import_core()
    found = [line for sequence in short_list() for line in wrong(module, sequence)]
    print("\n".join(found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
