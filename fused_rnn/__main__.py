"""Runs a Python program whose recurrent networks are fused ones, without a change to it.

    python -m fused_rnn SCRIPT ARGUMENTS...        as python SCRIPT ARGUMENTS...
    python -m fused_rnn -m MODULE ARGUMENTS...     as python -m MODULE ARGUMENTS...

The program finds the cells and functions of fused_rnn behind `tf.compat.v1.nn` and
`tf.compat.v1.nn.rnn_cell`; everything else is as python has it.
"""

from __future__ import annotations

import argparse
import io
import os
import pkgutil
import runpy
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType, TracebackType

from fused_rnn import _tensorflow1, report
from fused_rnn.accelerate import accelerate


def main() -> None:
    """Reads the command line, prepares the process and runs the program in it."""
    options, program = _split(sys.argv[1:])
    parser = argparse.ArgumentParser(
        prog="python -m fused_rnn",
        usage="%(prog)s [--tf1] [--report] (SCRIPT | -m MODULE) ARGUMENTS...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--tf1",
        action="store_true",
        help="for programs of TensorFlow 1: `import tensorflow` gives tensorflow.compat.v1 with behaviour v2 "
        "disabled, and the RNN part of tf.contrib",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="print at exit how many steps ran on which route, and how long they took",
    )
    chosen = parser.parse_args(options)
    if not program:
        parser.error("a SCRIPT or -m MODULE is needed")
    if chosen.report:
        report.print_at_exit()
    accelerate()
    module = program[1] if program[0] == "-m" else None
    if chosen.tf1:
        _tensorflow1.import_tensorflow1(module and module.partition(".")[0])
    if module is not None:
        _run_module(module, program[2:])
    else:
        _run_script(*program)


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What is for this command, and the program: [SCRIPT, ARGUMENTS...] or ["-m", MODULE, ARGUMENTS...]."""
    for number, argument in enumerate(arguments):
        if argument == "-m" and number + 1 < len(arguments):
            return arguments[:number], arguments[number:]
        if not argument.startswith("-"):
            return arguments[:number], arguments[number:]
    return arguments, []


def _run_module(name: str, arguments: list[str]) -> None:
    """As `python -m NAME ARGUMENTS...`"""
    sys.argv[:] = ["-m", *arguments]
    _new_main()
    # What python itself calls for -m. run_module does not say as python does that there is no such module,
    # and its frames are others.
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def _run_script(path: str, *arguments: str) -> None:
    """As `python PATH ARGUMENTS...`"""
    sys.argv[:] = [path, *arguments]
    is_container = pkgutil.get_importer(path) is not None  # a folder, or a zip file
    if not getattr(sys.flags, "safe_path", False):  # which Python 3.10 does not have
        # Python has put the working folder there.
        sys.path[0] = path if is_container else os.path.dirname(os.path.realpath(path))
    if is_container:
        _new_main()
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    file = os.path.join(os.getcwd(), path)
    try:
        with io.open_code(file) as stream:
            source = stream.read()
    except OSError as error:
        print(
            f"{sys.orig_argv[0]}: can't open file {file!r}: [Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        sys.exit(2)
    module = _new_main()
    loader = SourceFileLoader("__main__", file)
    vars(module).update(__file__=file, __loader__=loader, __cached__=None)
    exec(compile(source, file, "exec", dont_inherit=True), vars(module))


def _new_main() -> ModuleType:
    """A `__main__` for the program, in place of this one, whose names are none of the program's business."""
    module = ModuleType("__main__")
    vars(module).update(__builtins__=__builtins__, __annotations__={})
    sys.modules["__main__"] = module
    return module


def _hide_own_frames(error: BaseException) -> None:
    """Has a traceback begin where the program does. What prints it runs later, and may be the program's."""
    own = main.__code__.co_filename
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == own:
        traceback = traceback.tb_next
    hook = sys.excepthook

    def print_exception(kind: type[BaseException], value: BaseException, _: TracebackType | None) -> None:
        hook(kind, value.with_traceback(traceback), traceback)

    sys.excepthook = print_exception


if __name__ == "__main__":
    try:
        main()
    except SystemExit:
        raise
    except BaseException as error:
        _hide_own_frames(error)
        raise
