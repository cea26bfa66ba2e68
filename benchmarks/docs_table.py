"""The tables of docs/gpu.md that programs write: each stands between two comments that carry its name."""

from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs" / "gpu.md"


class TableError(ValueError):
    """The document has no place for a table of this name."""


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- table: {name} -->", f"<!-- end: {name} -->"


def _place(text: str, name: str, path: Path) -> tuple[int, int]:
    """Where the table begins and ends."""
    begin, end = _marks(name)
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise TableError(f"{path.name} needs one line {begin} and one line {end} after it")
    return text.index(begin) + len(begin), text.index(end)


def read_table(name: str, path: Path = DOCS) -> list[str]:
    """The lines that stand there."""
    text = path.read_text(encoding="utf-8")
    begin, end = _place(text, name, path)
    return text[begin:end].strip("\n").splitlines()


def write_table(name: str, lines: list[str], path: Path = DOCS) -> None:
    """Puts these lines there."""
    text = path.read_text(encoding="utf-8")
    begin, end = _place(text, name, path)
    path.write_text(text[:begin] + "\n" + "\n".join(lines) + "\n" + text[end:], encoding="utf-8")
