"""Memory of a call: what it adds to the resident set of its process. Linux with glibc only.

Pages that are allocated and never touched do not count. Allocators that keep what is freed, to lend it
again, would hide all but the first call's use: see ENVIRONMENT.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

# For a process whose memory is looked at: with it, large blocks that are freed go back to the system at once.
ENVIRONMENT = {
    "MALLOC_MMAP_THRESHOLD_": "131072",  # bytes; glibc raises both by itself otherwise
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # oneDNN brings TensorFlow a pool that never shrinks; no op here needs it
}

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _bytes(field: str) -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"{_STATUS} has no {field}")


def memory_of(call: Callable[[], object]) -> tuple[int, int]:
    """Bytes that a call adds to this process: with its result still held, and at most meanwhile."""
    trim = ctypes.CDLL(None).malloc_trim  # gives back the small blocks that are free
    trim(0)
    before = _bytes("VmRSS")
    _CLEAR.write_text("5", encoding="ascii")  # sets the high-water mark to what is resident now
    result = call()
    peak = _bytes("VmHWM")
    trim(0)
    held = _bytes("VmRSS")
    del result
    return held - before, peak - before
