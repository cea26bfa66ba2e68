"""Builds what device.py needs where it runs: the core for this GPU alone, and the limits program."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
BUILD = REPOSITORY / "build" / "device"
_LIMITS_SECONDS = 120.0


class BuildError(RuntimeError):
    """Something could not be built or run; the message says what, with the end of what it printed."""


def find_tool(name: str) -> str:
    """The path of a program that may stand beside this Python, or in CUDA's usual folder."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/local/cuda/bin"]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        raise BuildError(f"{name} was not found beside this Python, on the PATH or in /usr/local/cuda/bin")
    return found


def gpu_target() -> str:
    """The compute capability of the first GPU without its point: "90"."""
    try:
        done = _run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], 60.0)
    except FileNotFoundError:
        raise BuildError("nvidia-smi was not found: this machine has no GPU that CUDA could use") from None
    return done.split("\n")[0].strip().replace(".", "")


def build_core(target: str, progress: Callable[[str], None]) -> float:
    """Builds fused_rnn_core into build/device; returns the seconds it took."""
    start = time.perf_counter()
    nvcc = find_tool("nvcc")
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(nvcc).parent)])
    settings = {
        "Python_EXECUTABLE": sys.executable,
        "CMAKE_CUDA_COMPILER": nvcc,
        "FUSED_RNN_TENSORFLOW": "OFF",
        "FUSED_RNN_CUDA": "ON",
        "FUSED_RNN_CUDA_TARGETS": f"{target}-real",
    }
    definitions = [f"-D{name}={value}" for name, value in settings.items()]
    configure = [find_tool("cmake"), "-S", str(REPOSITORY), "-B", str(BUILD), "-G", "Ninja"]
    ninja = f"-DCMAKE_MAKE_PROGRAM={find_tool('ninja')}"
    _stream([*configure, ninja, *definitions], progress)
    _stream([find_tool("cmake"), "--build", str(BUILD)], progress)
    return time.perf_counter() - start


def import_core() -> ModuleType:
    """fused_rnn_core as built above."""
    if str(BUILD) not in sys.path:
        sys.path.insert(0, str(BUILD))
    return importlib.import_module("fused_rnn_core")


def measure_limits(target: str) -> dict[str, Any]:
    """Compiles device_limits.cu for this GPU and runs it; what it printed."""
    BUILD.mkdir(parents=True, exist_ok=True)
    program, source = BUILD / "device_limits", Path(__file__).with_name("device_limits.cu")
    flags = ["-O3", "-std=c++17", f"-arch=sm_{target}"]
    _run([find_tool("nvcc"), *flags, str(source), "-o", str(program)], _LIMITS_SECONDS)
    found: dict[str, Any] = json.loads(_run([str(program)], _LIMITS_SECONDS))
    return found


def _run(command: list[str], seconds: float) -> str:
    """What a command prints."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=seconds)
    except subprocess.CalledProcessError as error:
        raise BuildError(f"{command[0]}: {(error.stdout + error.stderr)[-1500:].strip()}") from error
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} did not end within {seconds:.0f} s") from error
    return done.stdout


def _stream(command: list[str], progress: Callable[[str], None]) -> None:
    """Runs a command and hands over its lines as they come."""
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            progress(line.rstrip())
    if process.returncode != 0:
        raise BuildError(f"{' '.join(command[:3])} failed:\n" + "\n".join(lines[-30:]))
