"""The rules of the source tree that a compiler does not enforce: who may include whom, where inline PTX and
launches stand, what the core must not do, how long a file may be, that instruction sets share no function."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.sequence import REPOSITORY

CSRC = REPOSITORY / "csrc"
SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in {".h", ".cc", ".cu", ".cuh"})
CORE = ("cells", "cpu", "cuda")
MAX_LINES = 400
MAX_FUNCTION_LINES = 60

# What the files of a folder may include of csrc, beside their own folder. "." is csrc itself; only its
# header check.h, what every caller must check, and sequence.h are for callers.
MAY_INCLUDE = {
    "cells": {"csrc/sequence.h"},
    "cpu": {"csrc/sequence.h", "csrc/cells/"},
    "cuda": {"csrc/sequence.h", "csrc/cells/"},
    ".": {"csrc/sequence.h", "csrc/cells/", "csrc/cpu/", "csrc/cuda/"},
    "tf": {"csrc/sequence.h", "csrc/check.h"},
    "python": {"csrc/sequence.h", "csrc/check.h", "csrc/cuda/cublas.h", "csrc/cuda/persistent_plan.h"},
}
# Headers from outside, by the folder that may know them; the C++ standard library is open to all.
OUTSIDE = {
    "tensorflow": {"tf"},
    "xla": {"tf"},
    "tsl": {"tf"},
    "absl": {"tf"},
    "unsupported": {"tf"},
    "pybind11": {"python"},
    "cuda": {"cuda", "python"},
    "cublas": {"cuda"},
    "mma": {"cuda"},
    "dlfcn": {"cuda", "python"},
}


def folder(path: Path) -> str:
    return path.relative_to(CSRC).parts[0] if path.parent != CSRC else "."


def includes(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def code(path: Path) -> str:
    """The file without comments and without the text of strings."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", " ", path.read_text(), flags=re.DOTALL)
    return re.sub(r'"(\\.|[^"\\])*"', '""', text)


def tracked(*suffixes: str) -> Iterator[Path]:
    for top in ("csrc", "fused_rnn", "tests", "benchmarks", "examples"):
        yield from (path for path in sorted((REPOSITORY / top).rglob("*")) if path.suffix in suffixes)


def name(path: object) -> str:
    return str(path.relative_to(REPOSITORY)) if isinstance(path, Path) else str(path)


def test_there_is_something_to_check() -> None:
    assert {folder(path) for path in SOURCES} == set(MAY_INCLUDE)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_includes(path: Path) -> None:
    here = folder(path)
    allowed = {*MAY_INCLUDE[here], "csrc/" if here == "." else f"csrc/{here}/"}
    for include in includes(path):
        if include.startswith("csrc/"):
            assert include in allowed or include.rpartition("/")[0] + "/" in allowed, include
            continue
        assert not re.search(r"^\.|csrc|fused_rnn", include), f"{include}: include by the path from the root"
        for prefix, folders in OUTSIDE.items():
            if re.match(rf"{prefix}(\b|_)", include):
                assert here in folders, f"{include} is for {sorted(folders)} only"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_ptx_and_launches_have_one_place(path: Path) -> None:
    text = code(path)
    if folder(path) != "cpu" and path.name != "ptx.cuh":
        assert not re.search(r"\b(__)?asm(__)?\b", text), "inline PTX belongs in cuda/ptx.cuh"
    if path.name != "launch.h":
        assert "<<<" not in text, "kernel launches belong in cuda/launch.h"


FORBIDDEN = {
    "prints": r"\b(printf|fprintf|puts|std::cout|std::cerr|std::clog)\b",
    "exits": r"\b(std::)?(exit|_exit|abort|terminate|quick_exit)\s*\(",
    "throws": r"\bthrow\b",
    "allocates": r"\b(malloc|calloc|realloc|cudaMalloc\w*|cudaFree\w*)\s*\(",
    "synchronises": r"\bcuda(Device|Stream|Event)Synchronize\b",
    "starts threads": r"\bstd::(thread|jthread|async)\b(?!::id)",
    "uses float atomics": r"\batomicAdd\s*\(",
}


@pytest.mark.parametrize("path", [path for path in SOURCES if folder(path) in (*CORE, ".")], ids=name)
def test_the_core_keeps_to_itself(path: Path) -> None:
    for what, pattern in FORBIDDEN.items():
        found = re.search(pattern, code(path))
        assert found is None, f"{what}: {found and found.group()}"


@pytest.mark.parametrize("path", list(tracked(".h", ".cc", ".cu", ".cuh", ".py")), ids=name)
def test_files_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) < MAX_LINES, f"{len(text.splitlines())} lines"
    if path.suffix == ".py":
        tree = ast.parse(text)
        assert not tree.body or ast.get_docstring(tree), "no docstring that says what the file does"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length < MAX_FUNCTION_LINES, f"{node.name} has {length} lines"
    else:
        assert text.startswith("//"), "no comment that says what the file does"


def object_files() -> list[Path]:
    return sorted(path for path in (REPOSITORY / "build").rglob("*.o") if "csrc" in path.parts)


def weak_functions(path: Path) -> set[str]:
    """Functions that the linker may take from any one of the object files that define them."""
    lines = subprocess.run(
        ["nm", "-C", str(path)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = (re.match(r"[0-9a-f]+ [Ww] (.*)", line) for line in lines)
    return {match.group(1) for match in found if match}


def test_instruction_sets_share_no_function() -> None:
    """The linker merges what two targets both define: then one machine runs another's instructions."""
    if shutil.which("nm") is None:
        pytest.skip("no nm")
    by_target: dict[str, set[str]] = defaultdict(set)
    for path in object_files():
        named = re.search(r"(baseline|avx2|avx512bf16|avx512)", str(path.relative_to(REPOSITORY / "build")))
        if named and path.name.startswith("target.cc"):
            by_target[named.group(1)] |= weak_functions(path)
    if len(by_target) < 2:
        pytest.skip("no object files of several targets under build/")
    targets = sorted(by_target)
    for n, one in enumerate(targets):
        for other in targets[n + 1 :]:
            assert not by_target[one] & by_target[other], f"{one} and {other} both define these"
