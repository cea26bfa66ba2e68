"""Importing the package: under another TensorFlow, beside a GPU it cannot use; and what it says of itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import fused_rnn_core
import pytest
import tensorflow as tf

import fused_rnn
from tf.scripts import run, run_script


def test_the_sources_before_the_installed_package(tmp_path: Path) -> None:
    """Started in the clone, Python finds the sources first, which nothing was built into."""
    built = shutil.ignore_patterns("_build_config.py", "*.so", "__pycache__")
    shutil.copytree(Path(fused_rnn.__file__).parent, tmp_path / "fused_rnn", ignore=built)
    done = run("-c", "import fused_rnn", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: these are fused_rnn's sources")
    assert "another folder" in message


BUILT_FOR = """
import importlib.util
import sys
import types

# In place of the file that the build writes.
config = types.ModuleType("fused_rnn._build_config")
config.TENSORFLOW_VERSION = {version!r}
sys.modules["fused_rnn._build_config"] = config
import fused_rnn
"""


@pytest.mark.parametrize("version", ["2.5.0", "1.15.5", "3.0.0"])
def test_another_minor_version_of_tensorflow(version: str) -> None:
    """One sentence that names both versions and the mend, and it comes before anything is loaded."""
    done = run("-c", BUILT_FOR.format(version=version))
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: fused_rnn was built for TensorFlow ")
    for part in (version.rpartition(".")[0], tf.__version__, "pip install"):
        assert part in message


def test_another_patch_version_of_tensorflow() -> None:
    major, minor, _ = tf.__version__.split(".", 2)
    run_script(BUILT_FOR.format(version=f"{major}.{minor}.99"))


GPU_IN_SIGHT = """
import warnings
import fused_rnn_core
import tensorflow as tf

info = dict(fused_rnn_core.build_info(), cuda_version={cuda!r}, cuda_targets="sm_80" if {cuda!r} else "")
fused_rnn_core.build_info = lambda: info
tf.config.list_physical_devices = lambda kind=None: ["a GPU"] if {gpus} else []
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fused_rnn
for warning in caught:
    if "fused_rnn" in str(warning.message):
        print(warning.filename, warning.message)
"""


def test_a_gpu_that_this_build_does_not_use() -> None:
    """One warning, which names the mend."""
    (line,) = run_script(GPU_IN_SIGHT.format(cuda="", gpus=True)).splitlines()
    for part in ("GPU", "CPU only", "pip install"):
        assert part in line


@pytest.mark.parametrize(("cuda", "gpus"), [("", False), ("13.0", True), ("13.0", False)])
def test_no_warning_where_there_is_nothing_to_warn_of(cuda: str, gpus: bool) -> None:
    assert not run_script(GPU_IN_SIGHT.format(cuda=cuda, gpus=gpus))


def test_build_info() -> None:
    info = fused_rnn.build_info()
    assert set(info) == {
        "version",
        "tensorflow_version",
        "cuda_version",
        "cuda_targets",
        "cpu_targets",
        "cpu_target",
    }
    assert info["version"] == fused_rnn.__version__
    assert info["tensorflow_version"].split(".")[:2] == tf.__version__.split(".")[:2]
    assert info["cpu_target"] in info["cpu_targets"]
    core = fused_rnn_core.build_info()
    assert info["cpu_target"] == core["cpu_target"]
    assert (info["cuda_version"] is None) == (info["cuda_targets"] is None) == (not core["cuda_version"])


def test_public_names() -> None:
    """Each is what its name says, and not, say, a module of the same name."""
    for name in ("lstm", "gru", "rnn", "dynamic_rnn", "accelerate", "build_info"):
        assert name in fused_rnn.__all__
        function = getattr(fused_rnn, name)
        assert callable(function)
        assert function.__doc__
        assert function.__name__ == name
    for name in ("BasicRNNCell", "BasicLSTMCell", "LSTMCell", "GRUCell", "LSTMStateTuple"):
        assert name in fused_rnn.rnn_cell.__all__
        assert isinstance(getattr(fused_rnn.rnn_cell, name), type)
    assert fused_rnn.LSTMStateTuple is fused_rnn.rnn_cell.LSTMStateTuple


def test_types_ship() -> None:
    from importlib import resources

    assert resources.files("fused_rnn").joinpath("py.typed").is_file()


def test_import_makes_no_noise() -> None:
    """No deprecation, no log line of its own, no graph, no device."""
    done = run(
        "-W", "error::DeprecationWarning:fused_rnn", "-c", "import fused_rnn", TF_CPP_MIN_LOG_LEVEL="3"
    )
    assert done.returncode == 0, done.stderr
    assert "fused_rnn" not in done.stderr
