"""What this installation was built for, and whether it fits the TensorFlow that is running."""

from __future__ import annotations

import importlib.metadata
import warnings
from typing import Any

import tensorflow as tf

try:
    import fused_rnn_core

    from fused_rnn._build_config import TENSORFLOW_VERSION
except ModuleNotFoundError as error:
    raise ImportError(
        "these are fused_rnn's sources, which Python finds before the installed package when it is started "
        "in their folder: install with `pip install .`, and start Python in another folder."
    ) from error

REINSTALL = "pip install --force-reinstall --no-deps --no-build-isolation"


def build_info() -> dict[str, Any]:
    """What this installation holds.

    Returns:
      A dict: `version` of fused_rnn; `tensorflow_version` it was built for; `cuda_version` and `cuda_targets`
      (a list such as `["sm_80", "compute_80"]`), or None for both in a CPU-only build; `cpu_targets`, the
      instruction sets compiled, and `cpu_target`, the one in use.
    """
    core = fused_rnn_core.build_info()
    return {
        "version": importlib.metadata.version("fused_rnn"),
        "tensorflow_version": TENSORFLOW_VERSION,
        "cuda_version": core["cuda_version"] or None,
        "cuda_targets": core["cuda_targets"].split() or None,
        "cpu_targets": core["cpu_targets"].split(),
        "cpu_target": core["cpu_target"],
    }


def check_build() -> None:
    """Raises ImportError under another minor version of TensorFlow than the ops were built for, whose binary
    interface is not theirs; warns of a GPU that this build cannot use."""
    if minor(tf.__version__) != minor(TENSORFLOW_VERSION):
        raise ImportError(
            f"fused_rnn was built for TensorFlow {minor(TENSORFLOW_VERSION)}, "
            f"but this is TensorFlow {tf.__version__}: "
            f"rebuild it with `{REINSTALL} PATH_TO_FUSED_RNN_SOURCE`."
        )
    if not fused_rnn_core.build_info()["cuda_version"] and tf.config.list_physical_devices("GPU"):
        warnings.warn(
            "TensorFlow sees a GPU, but this build of fused_rnn is for CPU only and will not use it: "
            f"put nvcc on the PATH and rebuild with `{REINSTALL} PATH_TO_FUSED_RNN_SOURCE`.",
            stacklevel=3,
        )


def minor(version: str) -> str:
    """ "2.21.0" -> "2.21" """
    return ".".join(version.split(".")[:2])
