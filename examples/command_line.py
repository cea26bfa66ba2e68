"""What the short examples share on the command line: the number of steps, the seed, and a progress bar."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tqdm import tqdm

__all__ = ["make_parser", "positive", "progress"]


def make_parser(description: str | None, steps: int, of: str = "training steps") -> argparse.ArgumentParser:
    """A parser, described by a module's docstring, that knows --steps, so many of what, and --seed."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--steps", type=positive, default=steps, metavar="N", help=f"{of} (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of weights and data (%(default)s)")
    return parser


def positive(text: str) -> int:
    """A command line's number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive number, not {text!r}")
    return int(text)


def progress(steps: int, label: str) -> Iterator[int]:
    """The numbers of the steps from 1 on; a bar shows how far it is, where there is a terminal."""
    yield from tqdm(range(1, steps + 1), desc=label, unit="step", leave=False, disable=None)
