"""Runs a case through the core, forward and backward, on one of the routes: cpu, cuda (on a GPU) or emulated
(the CUDA kernels on the emulator), the latter two with either driver."""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cases import Array, Arrays, Case, Inputs, Results, name_results

REPOSITORY = Path(__file__).resolve().parents[2]
CUDA_DRIVERS = ("stepwise", "persistent")
ROUTES = ("cpu", *(f"{place}_{driver}" for place in ("emulated", "cuda") for driver in CUDA_DRIVERS))


@dataclass(frozen=True)
class Route:
    name: str
    module: ModuleType
    device: str
    driver: str = "auto"
    allow_tf32: bool = False


@cache
def open_route(name: str) -> Route:
    """The route of this name; skips the test where this machine or this build has none."""
    place, _, driver = name.partition("_")
    if place == "emulated":
        return Route(name, build_emulated_module(), "cuda", driver)
    module = importlib.import_module("fused_rnn_core")
    if place == "cuda":
        if not module.build_info()["cuda_version"]:
            pytest.skip("built without CUDA")
        if not gpu_count():
            pytest.skip("no GPU")
        return Route(name, module, place, driver)
    return Route(name, module, place)


def gpu_count() -> int:
    """How many GPUs the CUDA driver sees; 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


@cache
def build_emulated_module() -> ModuleType:
    """Builds tests/emulator, or brings its build up to date, and imports the module."""
    build = build_with_cmake("emulator", f"-DPython_EXECUTABLE={sys.executable}")
    sys.path.insert(0, str(build))
    return importlib.import_module("fused_rnn_core_emulated")


def build_with_cmake(name: str, *settings: str) -> Path:
    """Builds the CMake project tests/`name` in build/`name`, and returns that folder."""
    # CMake and Ninja may stand only beside this Python, in a virtual environment that is not activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    source, build = str(REPOSITORY / "tests" / name), REPOSITORY / "build" / name
    for command in (
        ["cmake", "-S", source, "-B", str(build), "-G", "Ninja", *settings],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path}
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return build


def options(case: Case, inputs: Inputs, route: Route, time_major: bool, threads: int) -> dict[str, Any]:
    if route.driver == "persistent" and inputs.x.dtype == np.float64:
        pytest.skip("the persistent driver has no float64 kernels")
    return {
        "activation": case.activation,
        "forget_bias": case.forget_bias,
        "cell_clip": case.cell_clip,
        "proj_clip": case.proj_clip,
        "reverse": case.reverse,
        "time_major": time_major,
        "device": route.device,
        "threads": threads,
        "driver": route.driver,
        "allow_tf32": route.allow_tf32,
    }


def run_together(route: Route, cases: Sequence[Case], dtype: str, threads: int = 1) -> list[Results]:
    """`run`, time-major, of several cases in one call: alike in all but `reverse` and their tensors."""
    given = [case.inputs(dtype) for case in cases]
    module, first = route.module, cases[0]

    def joined(lists: Iterable[Arrays]) -> Arrays:
        return [array for arrays in lists for array in arrays]

    def split(arrays: Arrays) -> list[Arrays]:
        size = len(arrays) // len(cases)
        return [arrays[n * size : (n + 1) * size] for n in range(len(cases))]

    arguments = (
        first.cell,
        [inputs.x for inputs in given],
        joined(inputs.kernels for inputs in given),
        joined(inputs.biases for inputs in given),
        joined(inputs.initial_state for inputs in given),
        given[0].lengths,
    )
    how = options(first, given[0], route, time_major=True, threads=threads)
    how |= {"reverse": [case.reverse for case in cases]}
    if first.masked:
        how["state_mask"] = [inputs.state_mask for inputs in given]
    y, final_state, saved = module.sequence_forward(*arguments, **how)
    d_final_state = joined(inputs.d_final_state for inputs in given)
    d_x, *gradients = module.sequence_backward(
        *arguments, y, saved, [inputs.d_y for inputs in given], d_final_state, **how
    )
    names = ("final_state", "d_kernels", "d_biases", "d_initial_state")
    lists = dict(zip(names, map(split, (final_state, *gradients)), strict=True))
    return [
        name_results(y=y[n], d_x=d_x[n], **{name: found[n] for name, found in lists.items()})
        for n in range(len(cases))
    ]


def laid_out(array: Array, time_major: bool) -> Array:
    """[T, B, n] as the core takes it: itself or, batch-major, [B, T, n]. Also the way back."""
    return array if time_major else np.ascontiguousarray(array.swapaxes(0, 1))


def laid_out_mask(inputs: Inputs, time_major: bool) -> Array | None:
    return None if inputs.state_mask is None else laid_out(inputs.state_mask, time_major)


def forward(
    route: Route, case: Case, inputs: Inputs, *, time_major: bool = True, threads: int = 1, keep: bool = True
) -> tuple[Array, Arrays, Array | None]:
    """-> y (laid out as x), final state, saved"""
    x = laid_out(inputs.x, time_major)
    return route.module.sequence_forward(
        case.cell,
        x,
        inputs.kernels,
        inputs.biases,
        inputs.initial_state,
        inputs.lengths,
        keep=keep,
        state_mask=laid_out_mask(inputs, time_major),
        **options(case, inputs, route, time_major, threads),
    )


def backward(
    route: Route,
    case: Case,
    inputs: Inputs,
    y: Array,
    saved: Array | None,
    *,
    time_major: bool = True,
    threads: int = 1,
    leave_out_d_y: bool = False,
) -> tuple[Array, Arrays, Arrays, Arrays]:
    """y and saved as `forward` gave them -> d_x (laid out as x), d_kernels, d_biases, d_initial_state"""
    return route.module.sequence_backward(
        case.cell,
        laid_out(inputs.x, time_major),
        inputs.kernels,
        inputs.biases,
        inputs.initial_state,
        inputs.lengths,
        y,
        saved,
        None if leave_out_d_y else laid_out(inputs.d_y, time_major),
        inputs.d_final_state,
        state_mask=laid_out_mask(inputs, time_major),
        **options(case, inputs, route, time_major, threads),
    )


def run(
    route: Route,
    case: Case,
    dtype: str,
    *,
    time_major: bool = True,
    threads: int = 1,
    inputs: Inputs | None = None,
) -> Results:
    """Every value and gradient of a case, time-major. `inputs` replaces the case's own."""
    given = case.inputs(dtype) if inputs is None else inputs
    y, final_state, saved = forward(route, case, given, time_major=time_major, threads=threads)
    d_x, d_kernels, d_biases, d_initial_state = backward(
        route, case, given, y, saved, time_major=time_major, threads=threads
    )
    return name_results(
        y=laid_out(y, time_major),
        final_state=final_state,
        d_x=laid_out(d_x, time_major),
        d_kernels=d_kernels,
        d_biases=d_biases,
        d_initial_state=d_initial_state,
    )
