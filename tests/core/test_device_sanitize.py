"""benchmarks/device_sanitize.py: its list on the emulator, and what it makes of a sanitizer's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import device
import device_sanitize
from core.sequence import build_emulated_module
from device_build import BuildError
from device_sanitize import CELLS, TOOLS, Sequence, run_sequence, run_tool, short_list, wrong
from reference import CELLS as REFERENCE_CELLS

SMALL = [sequence for sequence in short_list() if sequence.H < 1000]


def test_the_list_has_every_kind() -> None:
    assert set(CELLS) == set(REFERENCE_CELLS)
    kinds = {(sequence.cell, sequence.driver, sequence.dtype) for sequence in SMALL}
    assert len(kinds) >= 6 * 2 * 3
    assert any(sequence.B > 128 for sequence in SMALL) and len(SMALL) < len(list(short_list()))


@pytest.mark.parametrize("cell", CELLS)
def test_the_list_is_right_on_the_emulator(cell: str) -> None:
    for sequence in SMALL:
        if sequence.cell == cell:
            assert (
                wrong(build_emulated_module(), replace(sequence, B=5) if sequence.B > 5 else sequence) == []
            )


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    sequence, module = Sequence("gru", "stepwise", "float32"), build_emulated_module()
    right = run_sequence(module, sequence, "cpu")
    monkeypatch.setattr(
        device_sanitize,
        "run_sequence",
        lambda module, sequence, device: right | ({"d_x": right["d_x"] * 1.5} if device == "cuda" else {}),
    )
    assert wrong(module, sequence) == [f"{sequence}: d_x is off by 5.0e-01 of its norm"]


def make_tool(folder: Path, code: int, text: str) -> str:
    """A program in compute-sanitizer's place: writes this into its log and ends so."""
    path = folder / "compute-sanitizer"
    path.write_text(
        '#!/bin/sh\nwhile [ "$1" != --log-file ]; do shift; done\n'
        f"printf '%s\\n' '{text}' > \"$2\"\nexit {code}\n"
    )
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("code", "text", "clean", "line"),
    [
        (0, "========= ERROR SUMMARY: 0 errors", True, "memcheck: clean"),
        (86, "========= ERROR SUMMARY: 3 errors", False, "memcheck: 3 errors; see "),
        (86, "========= RACECHECK SUMMARY: 1 hazard displayed", False, "memcheck: 1 hazard displayed; see "),
        (1, "no device", False, "memcheck: FAILED with exit code 1: no device"),
        (0, "nothing was watched", False, "memcheck: FAILED with exit code 0: nothing was watched"),
    ],
)
def test_answers(
    code: int, text: str, clean: bool, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_sanitize, "BUILD", tmp_path)
    found_nothing, said = run_tool(make_tool(tmp_path, code, text), "memcheck", 60)
    assert found_nothing == clean and said.startswith(line)


@pytest.mark.parametrize(("code", "errors"), [(0, 0), (86, 2)])
def test_every_tool_runs(
    code: int,
    errors: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool = make_tool(tmp_path, code, f"========= ERROR SUMMARY: {errors} errors")
    monkeypatch.setattr(device_sanitize, "BUILD", tmp_path)
    monkeypatch.setattr(device, "gpu_target", lambda: "90")
    monkeypatch.setattr(device, "find_tool", lambda name: tool)
    monkeypatch.setattr("sys.argv", ["device.py", "--sanitize", "--no-build"])
    assert device.main() == int(code > 0)
    said = capsys.readouterr().out
    assert all(f"{name}: {'clean' if code == 0 else '2 errors'}" in said for name in TOOLS)


def test_without_the_tool_nothing_is_clean(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(name: str) -> str:
        raise BuildError(f"{name} was not found")

    monkeypatch.setattr(device, "gpu_target", lambda: "90")
    monkeypatch.setattr(device, "find_tool", find)
    monkeypatch.setattr("sys.argv", ["device.py", "--sanitize", "--no-build"])
    assert device.main() == 1
    assert "compute-sanitizer was not found" in capsys.readouterr().err
