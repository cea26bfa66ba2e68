"""`python -m fused_rnn` runs a program as python does: arguments, names, paths, tracebacks and exit codes.

The package around the runner is a stub here, so that a program takes no TensorFlow and can be run both ways
in no time. test_runner_scripts.py runs real ones.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tf.scripts import run

RUNNER = Path(__file__).resolve().parents[2] / "fused_rnn" / "__main__.py"
STUBS = {
    "__init__.py": "",
    "accelerate.py": "def accelerate():\n    pass\n",
    "report.py": "def print_at_exit():\n    print('report')\n",
    "_tensorflow1.py": "def import_tensorflow1(package):\n    print('tf1', package)\n",
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    package = folder / "fused_rnn"
    package.mkdir()
    for name, text in STUBS.items():
        (package / name).write_text(text)
    shutil.copy(RUNNER, package)
    return folder


def run_both_ways(library: Path, *command: str) -> tuple[CompletedProcess[str], CompletedProcess[str]]:
    plain = run(*command, PYTHONPATH=str(library))
    ours = run("-m", "fused_rnn", *command, PYTHONPATH=str(library))
    return plain, ours


def assert_same(plain: CompletedProcess[str], ours: CompletedProcess[str]) -> None:
    assert ours.stdout == plain.stdout
    assert ours.stderr == plain.stderr
    assert ours.returncode == plain.returncode


LOOK_AROUND = """'''A program.'''
import sys
import other
print(sys.argv, sys.path, __name__, __file__, __doc__, __package__, __spec__, __cached__, type(__loader__))
print(sorted(globals()), vars(sys.modules["__main__"]) is globals())
print(other.FOUND, __annotations__)
class Thing:
    pass
import pickle
print(pickle.loads(pickle.dumps(Thing())).__class__ is Thing)
"""

ENDS = {
    "runs": "print('done')",
    "exits": "import sys; sys.exit(3)",
    "exits_without_a_code": "raise SystemExit",
    "exits_with_a_message": "import sys; sys.exit('no such thing')",
    "raises": "def f():\n    raise ValueError('wrong')\n\nf()\n",
    "raises_twice": "try:\n    {}[1]\nexcept KeyError as error:\n    raise TypeError('worse') from error\n",
    "misspelt": "print('never')\nfor x in range(3) print(x)\n",
    "is_interrupted": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(9)\n",
    "has_a_hook": (
        "import sys, traceback\n"
        "def hook(kind, value, tb):\n"
        "    print('hook', kind, value, len(traceback.extract_tb(tb)), tb is value.__traceback__)\n"
        "sys.excepthook = hook\n"
        "1 / 0\n"
    ),
    "ends_later": (
        "import atexit, sys, threading\n"
        "atexit.register(lambda: print('at exit', vars(sys.modules['__main__']) is globals()))\n"
        "threading.Timer(0.2, lambda: print('thread', ENDS)).start()\n"
        "ENDS = __name__\n"
    ),
}


def test_names_and_paths_of_a_script(library: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    (folder / "other.py").write_text("FOUND = __name__\n")
    (folder / "program.py").write_text(LOOK_AROUND)
    script = str(folder / "program.py")
    for arguments in ((), ("--tf1", "-m", "--report", "x y", "")):
        plain, ours = run_both_ways(library, script, *arguments)
        assert plain.returncode == 0, plain.stderr
        assert_same(plain, ours)
    link = tmp_path / "link.py"
    link.symlink_to(script)
    assert_same(*run_both_ways(library, str(link)))
    safe = [run("-P", *way, script, PYTHONPATH=f"{library}:{folder}") for way in ((), ("-m", "fused_rnn"))]
    assert safe[0].returncode == 0, safe[0].stderr
    assert_same(*safe)


@pytest.mark.parametrize("end", ENDS)
def test_ends(end: str, library: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(ENDS[end])
    assert_same(*run_both_ways(library, str(script)))


def test_where_there_is_no_script(library: Path, tmp_path: Path) -> None:
    plain, ours = run_both_ways(library, str(tmp_path / "nothing.py"))
    assert plain.returncode == 2
    assert_same(plain, ours)
    assert_same(*run_both_ways(library, str(tmp_path)))


def test_folders_and_archives(library: Path, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("FOUND = __name__\n")
    (tmp_path / "__main__.py").write_text(LOOK_AROUND.replace("__spec__", "__spec__.name") + "1 / 0\n")
    archive = tmp_path / "program.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for name in ("other.py", "__main__.py"):
            stream.write(tmp_path / name, name)
    for path in (tmp_path, archive):
        plain, ours = run_both_ways(library, str(path), "an argument")
        assert "ZeroDivisionError" in plain.stderr
        assert_same(plain, ours)


def test_modules(library: Path, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "other.py").write_text("FOUND = __name__\n")
    (package / "program.py").write_text(LOOK_AROUND.replace("__spec__", "__spec__.name"))
    (package / "wrong.py").write_text("1 / 0\n")
    paths = f"{library}:{tmp_path}"
    for command in (("package.program", "-m", "x"), ("package.wrong",), ("package",), ("package.nothing",)):
        plain = run("-m", *command, PYTHONPATH=paths)
        ours = run("-m", "fused_rnn", "-m", *command, PYTHONPATH=paths)
        assert (plain.returncode == 0) == (command[0] == "package.program")
        assert_same(plain, ours)


def test_options(library: Path, tmp_path: Path) -> None:
    """They stand before the program; what comes after it is the program's."""
    (tmp_path / "program.py").write_text("import sys\nprint(sys.argv[1:])\n")
    script = str(tmp_path / "program.py")
    paths = f"{library}:{tmp_path}"

    def printed(*command: str) -> list[str]:
        done = run("-m", "fused_rnn", *command, PYTHONPATH=paths)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    assert printed(script, "--report") == ["['--report']"]
    assert printed("--report", script, "--tf1") == ["report", "['--tf1']"]
    assert printed("--tf1", script) == ["tf1 None", "[]"]
    assert printed("--tf1", "--report", "-m", "program", "--tf1") == ["report", "tf1 program", "['--tf1']"]


@pytest.mark.parametrize("command", [(), ("--tf1",), ("-m",), ("--other", "program.py")])
def test_wrong_commands(command: tuple[str, ...], library: Path) -> None:
    done = run("-m", "fused_rnn", *command, PYTHONPATH=str(library))
    assert done.returncode == 2
    assert "usage: python -m fused_rnn [--tf1] [--report] (SCRIPT | -m MODULE) ARGUMENTS..." in done.stderr
