"""The most this machine can do, measured in the same run: what every share of the peak is a share of.

On a CPU: a loop of fused multiply-adds in registers, compiled on the spot where there is a C compiler, and
the large float32 matrix products of the libraries in the run; the best of all counts. On a GPU: the products
alone.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

MATMUL_SIZE = 2048
_MATMUL_SECONDS = 0.5
_SOURCE = Path(__file__).with_name("fma_peak.c")


def best_matmul_rate(product: Callable[[], object]) -> float:
    """GFLOP/s of the fastest of several calls of a product of two square matrices of MATMUL_SIZE rows."""
    product()
    fastest = float("inf")
    end = time.perf_counter() + _MATMUL_SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        product()
        fastest = min(fastest, time.perf_counter() - start)
    return 2 * MATMUL_SIZE**3 / fastest * 1e-9


def fma_rate(threads: int) -> float | None:
    """GFLOP/s of fma_peak.c; None where no C compiler is found or it cannot build or run the file."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "fma_peak"
        try:
            subprocess.run(
                [
                    compiler,
                    "-O3",
                    "-march=native",
                    "-ffp-contract=fast",
                    "-pthread",
                    str(_SOURCE),
                    "-o",
                    str(program),
                ],
                check=True,
                capture_output=True,
            )
            answer = subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError):
            return None
    return float(answer.stdout)
