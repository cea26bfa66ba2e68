"""`accelerate` puts the fused cells and loops behind TensorFlow's own names, for code that nobody edits."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import fused_rnn

__all__ = ["Acceleration", "accelerate"]

# Where programs find the loops: TensorFlow makes more than one copy of the module of its public names.
_LOOP_MODULES = ("tensorflow._api.v2.compat.v1.nn", "tensorflow.compat.v1.nn", "tensorflow.python.ops.rnn")
# Where they find the cells, besides what `tf.compat.v1.nn.rnn_cell` is at the time. Not the modules that
# define them: the fused cells are built on those.
_CELL_MODULES = (
    "tensorflow._api.v2.compat.v1.nn.rnn_cell",
    "tensorflow.compat.v1.nn.rnn_cell",
    "tensorflow.python.ops.rnn_cell",
    "tensorflow.python.ops.rnn_cell_impl",
)


def accelerate() -> Acceleration:
    """Puts the fused classes and functions behind `tf.compat.v1.nn.*` and `tf.compat.v1.nn.rnn_cell.*`.

    From the call on, what looks a name up there, in whatever Keras mode, finds the fused one; so does what
    imports it from `tensorflow.python.ops`. Graphs and cells that exist already stay as they are. The call
    lasts for the rest of the process; as a context manager, `with fused_rnn.accelerate():`, it ends with the
    block. Calls may be nested: TensorFlow's own names come back when the last of them ends.

    Returns:
      What ends the acceleration when it is used as a context manager.
    """
    return Acceleration(_fused_loops())


class Acceleration(contextlib.AbstractContextManager["Acceleration"]):
    """One call of `accelerate`; as a context manager it ends with its block."""

    _in_force = 0  # how many there are in this process
    _undo = contextlib.ExitStack()  # for all of them

    def __init__(self, loops: Mapping[str, Callable[..., Any]]) -> None:
        """Puts these functions, and the fused cells, in place if no other acceleration is in force."""
        self._loops = loops
        self._held = False
        self._begin()

    def __enter__(self) -> Acceleration:
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._held = False
        Acceleration._in_force -= 1
        if not Acceleration._in_force:
            Acceleration._undo.close()

    def _begin(self) -> None:
        if self._held:
            return
        if not Acceleration._in_force:
            _put_in_place(self._loops, Acceleration._undo)
        Acceleration._in_force += 1
        self._held = True


def _fused_loops() -> dict[str, Callable[..., Any]]:
    """The functions of fused_rnn that TensorFlow's module of loops has, too."""
    theirs = vars(importlib.import_module("tensorflow.python.ops.rnn"))
    return {name: getattr(fused_rnn, name) for name in fused_rnn.__all__ if name in theirs}


def _fused_cells() -> dict[str, type]:
    """The classes of fused_rnn.rnn_cell that TensorFlow's module of cells has, too."""
    theirs = vars(importlib.import_module("tensorflow.python.ops.rnn_cell"))
    cells = fused_rnn.rnn_cell
    return {name: getattr(cells, name) for name in cells.__all__ if name in theirs}


def _put_in_place(loops: Mapping[str, Callable[..., Any]], undo: contextlib.ExitStack) -> None:
    """Replaces the names everywhere; `undo` learns how each was."""
    # A program may hold this one by now. Each of the imports below puts another in its place, which is why
    # they are done here: later ones would bring TensorFlow's own names back.
    before = importlib.import_module(_LOOP_MODULES[0]).rnn_cell
    importlib.import_module("tensorflow.compat.v1")
    loop_modules = [_import(name, undo) for name in _LOOP_MODULES]
    cell_modules = [before, *(module.rnn_cell for module in loop_modules[:2])]
    cell_modules += [_import(name, undo) for name in _CELL_MODULES]
    for modules, replacements in ((loop_modules, loops), (cell_modules, _fused_cells())):
        for module in {id(module): module for module in modules}.values():
            for name, value in replacements.items():
                _replace(module, name, value, undo)


def _import(name: str, undo: contextlib.ExitStack) -> Any:
    """Imports a module; if that is new, `undo` learns what its name was in the module above it.

    Importing `tensorflow.compat.v1.nn` or its `rnn_cell` changes which classes `tf.compat.v1.nn.rnn_cell`
    gives, so what has not been imported before must not stay so.
    """
    if name in sys.modules:
        return sys.modules[name]
    parent_name, _, child = name.rpartition(".")
    parent = _import(parent_name, undo)
    before = getattr(parent, child, None)
    module = importlib.import_module(name)
    if before is not None:
        undo.callback(_forget, name, parent, child, before)
    return module


def _forget(name: str, parent: ModuleType, child: str, before: Any) -> None:
    sys.modules.pop(name, None)
    setattr(parent, child, before)


def _replace(module: Any, name: str, value: Any, undo: contextlib.ExitStack) -> None:
    before = getattr(module, name, None)
    if before is not None:
        setattr(module, name, value)
        undo.callback(setattr, module, name, before)
    else:  # the loader that stands for rnn_cell under Keras 3: it has no names, and refuses to be given any
        vars(module)[name] = value
        undo.callback(vars(module).pop, name)
