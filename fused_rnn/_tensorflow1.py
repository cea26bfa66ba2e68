"""What `python -m fused_rnn --tf1` does: to a script, `import tensorflow` gives TensorFlow 1.

That is `tensorflow.compat.v1` with behaviour v2 disabled, and the RNN part of `tf.contrib`. Only the script,
and the modules it imports from outside Python's own library folders, see it: Keras and other installed
libraries go on with the TensorFlow they were written for.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["import_tensorflow1"]


def import_tensorflow1(package: str | None) -> None:
    """Changes what `import tensorflow`, and what is in it, means to the program, for the rest of the process.

    package: the top-level package that is run as the program, which sees TensorFlow 1 even where it is
    installed as a library.
    """
    tf = _tensorflow1()
    import_module = builtins.__import__

    def import_for_a_program(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level or name.partition(".")[0] != "tensorflow" or not _is_of_the_program(globals or {}, package):
            return import_module(name, globals, locals, fromlist or (), level)
        path = name.split(".")[1:]
        # `from tensorflow.nn import rnn_cell` means TensorFlow 1's; the other packages exist only once.
        if not path or path[0] not in _PACKAGES:
            found = functools.reduce(lambda module, part: getattr(module, part, None), path, tf)
        else:
            found = None
        if not isinstance(found, ModuleType):
            found = import_module(name, globals, locals, fromlist or (), level)
        return found if fromlist else tf

    builtins.__import__ = import_for_a_program


# What the package tensorflow has besides its public interface, and where versions 1 and 2 of that are found.
_PACKAGES = ("compat", "core", "python", "tools")


def _tensorflow1() -> Any:
    """`tensorflow.compat.v1`, with what TensorFlow 1 had besides."""
    tf: Any = importlib.import_module("tensorflow.compat.v1")
    tf.disable_v2_behavior()
    for name in _PACKAGES:
        setattr(tf, name, importlib.import_module(f"tensorflow.{name}"))
    contrib = importlib.import_module("fused_rnn.contrib")
    tf.contrib = contrib
    # As imports of `tensorflow.contrib.rnn` look for it.
    sys.modules["tensorflow.contrib"] = contrib
    for name in contrib.__all__:
        sys.modules[f"tensorflow.contrib.{name}"] = getattr(contrib, name)
    # tf.layers is Keras 2's, which TensorFlow takes from tf_keras only where it is told to before it starts.
    if not hasattr(tf.layers, "dense") and importlib.util.find_spec("tf_keras"):
        tf.layers = importlib.import_module("tf_keras.api._v1.keras.__internal__.legacy.layers")
    return tf


@functools.cache
def _library_folders() -> tuple[Path, ...]:
    """Where Python, what is installed, TensorFlow and this package have their modules."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    folders += [str(Path(sys.modules["tensorflow"].__file__ or "").parents[1]), str(Path(__file__).parent)]
    return tuple(Path(folder).resolve() for folder in folders)


@functools.cache
def _is_library(file: str) -> bool:
    return any(folder in Path(file).resolve().parents for folder in _library_folders())


def _is_of_the_program(module: Mapping[str, object], package: str | None) -> bool:
    """Whether the module with these globals is the script, or one it brought along."""
    name, file = module.get("__name__"), module.get("__file__")
    if name == "__main__" or not isinstance(file, str):
        return True
    return str(name).partition(".")[0] == package or not _is_library(file)
