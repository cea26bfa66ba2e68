"""Python in a process of its own: for what must be set before TensorFlow starts, or may crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def run(*command: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with this command line, in tests, with the import path of this process."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, *command],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": paths} | environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_script(script: str, timeout: float = 300, **environment: str) -> str:
    """Runs the script, which must succeed, and returns what it printed."""
    done = run("-c", script, timeout=timeout, **environment)
    assert done.returncode == 0, (
        f"exit status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
    )
    return done.stdout
