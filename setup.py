"""Builds the native libraries with CMake. Everything else about the package stands in pyproject.toml.

Environment: FUSED_RNN_TENSORFLOW=OFF builds the core's module alone, for machines without TensorFlow;
FUSED_RNN_CUDA=ON or OFF forces or forbids the CUDA kernels, which are otherwise built where nvcc is found;
FUSED_RNN_CUDA_TARGETS limits their architectures, as CMake writes them (such as 90-real).
"""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCE = Path(__file__).resolve().parent
WITH_TENSORFLOW = os.environ.get("FUSED_RNN_TENSORFLOW", "ON") != "OFF"


class CMakeBuild(build_ext):
    """Configures, builds and installs the CMake project into the wheel."""

    def run(self) -> None:
        """Replaces the compiler of setuptools."""
        build = Path(self.build_temp).resolve()
        options = {
            "CMAKE_INSTALL_PREFIX": Path(self.build_lib).resolve(),
            "Python_EXECUTABLE": sys.executable,
            "FUSED_RNN_TENSORFLOW": "ON" if WITH_TENSORFLOW else "OFF",
        }
        for name in ("FUSED_RNN_CUDA", "FUSED_RNN_CUDA_TARGETS"):
            if name in os.environ:
                options[name] = os.environ[name]
        settings = [f"-D{name}={value}" for name, value in options.items()]
        # CMake and Ninja may stand only beside this Python, in a virtual environment that is not activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        environment = os.environ | {"PATH": path}
        for command in (
            ["cmake", "-S", str(SOURCE), "-B", str(build), "-G", "Ninja", *settings],
            ["cmake", "--build", str(build)],
            ["cmake", "--install", str(build)],
        ):
            subprocess.check_call(command, env=environment)

    def get_outputs(self) -> list[str]:
        """Nothing of its own: CMake has put everything in its place."""
        return []


def dependencies() -> list[str]:
    """The ops fit one minor version of TensorFlow: the one they are built against."""
    if not WITH_TENSORFLOW:
        return ["numpy"]
    major, minor = importlib.metadata.version("tensorflow").split(".")[:2]
    return ["numpy", f"tensorflow>={major}.{minor},<{major}.{int(minor) + 1}"]


setup(
    cmdclass={"build_ext": CMakeBuild},
    ext_modules=[Extension("fused_rnn_core", [])],  # so that the wheel is one for this platform
    install_requires=dependencies(),
)
