"""What each CUDA kernel takes of a GPU, from what nvcc --resource-usage has printed: one report a source.

    cmake --build build --target cuda_resources          makes the reports and runs this over them

Prints a line a kernel: registers, static shared memory, stack and spilled bytes, each the most of all GPUs.
Exit status 1: a kernel spills or keeps something in local memory, or the table in docs/gpu.md is not that of
these reports though it is of this nvcc and these GPUs (--docs write mends it).
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from docs_table import DOCS, TableError, read_table, write_table

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
_PROPERTIES = re.compile(r"Function properties for (\w+)")
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")
_TYPES = {"double": "float64", "float": "float32", "__half": "float16", "__nv_bfloat16": "bfloat16"}


@dataclass
class Usage:
    """What one kernel takes, the most of all GPUs; `name` as c++filt writes it, shortened."""

    source: str
    name: str
    registers: int = 0
    shared: int = 0  # bytes, as all that follows
    stack: int = 0
    spilled: int = 0
    gpus: set[str] = field(default_factory=set)
    to_blame: set[str] = field(default_factory=set)  # the GPUs on which it uses local memory

    def add(self, gpu: str, stack: int, spilled: int) -> None:
        """Takes in one GPU's figures of local memory."""
        self.gpus.add(gpu)
        self.stack, self.spilled = max(self.stack, stack), max(self.spilled, spilled)
        if stack or spilled:
            self.to_blame.add(gpu)


class ReportError(ValueError):
    """A report without a kernel, or with a line out of place; the message names the file."""


def parse_report(text: str, source: str) -> dict[str, Usage]:
    """A report of nvcc's: usage by mangled name. A function that a kernel calls counts as a kernel."""
    found: dict[str, Usage] = {}
    entry = gpu = current = ""
    for line in text.splitlines():
        if match := _ENTRY.search(line):
            entry, gpu = match.groups()
        elif match := _PROPERTIES.search(line):
            current = match.group(1)
            found.setdefault(current, Usage(source, current))
        elif match := _MEMORY.search(line):
            if not gpu or not current:
                raise ReportError(f"{source}: memory before the name of a kernel: {line.strip()}")
            stack, stores, loads = map(int, match.groups())
            found[current].add(gpu, stack, stores + loads)
        elif match := _REGISTERS.search(line):
            usage = found.setdefault(entry, Usage(source, entry))
            usage.registers = max(usage.registers, int(match.group(1)))
            shared = _SHARED.search(line)
            usage.shared = max(usage.shared, int(shared.group(1)) if shared else 0)
    if not found:
        raise ReportError(f"{source}: nvcc reported no kernel: {text.strip()[-300:]}")
    return found


def shorten(name: str) -> str:
    """step_forward_kernel<Lstm, 0, float32, tile 4x2x16x128> of what c++filt makes of a kernel's name."""
    name = re.sub(r"^void |fused_rnn::|cuda::", "", name)
    name = re.sub(r"\(.*\)$", "", name.replace("(anonymous namespace)::", ""))
    name = re.sub(r"Tile<(\w+), ([\d, ]+)>", lambda m: "tile " + m.group(2).replace(", ", "x"), name)
    for c_type, dtype in _TYPES.items():
        name = re.sub(rf"(?<=[<, ]){c_type}(?=[,> ])", dtype, name)
    return name.replace(" >", ">")


def demangle(names: list[str]) -> list[str]:
    """As C++ would write them."""
    done = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def read_reports(paths: list[Path]) -> list[Usage]:
    """All kernels, source by source."""
    kernels: list[Usage] = []
    for path in paths:
        found = parse_report(path.read_text(encoding="utf-8"), path.stem)
        for usage, name in zip(found.values(), demangle(list(found)), strict=True):
            usage.name = shorten(name)
            kernels.append(usage)
    return sorted(kernels, key=lambda usage: (usage.source, usage.name))


def lines(kernels: list[Usage]) -> Iterator[str]:
    """The table for the terminal."""
    heads = ["source", "kernel", "registers", "shared", "stack", "spilled"]
    rows = [
        [usage.source, usage.name]
        + [str(figure) for figure in (usage.registers, usage.shared, usage.stack, usage.spilled)]
        for usage in kernels
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in [heads, *rows]:
        cells = [f"{cell:{'<' if n < 2 else '>'}{widths[n]}}" for n, cell in enumerate(row)]
        yield "  ".join(cells).rstrip()
    most = max(kernels, key=lambda usage: usage.registers)
    spilling = [usage for usage in kernels if usage.to_blame]
    yield (
        f"{len(kernels)} kernels on {', '.join(gpus(kernels))}: at most {most.registers} registers "
        f"({most.name}), {len(spilling)} with local memory"
    )


def gpus(kernels: list[Usage]) -> list[str]:
    """Every GPU that the reports speak of."""
    return sorted(set().union(*(usage.gpus for usage in kernels)), key=lambda name: (len(name), name))


def docs_table(kernels: list[Usage], compiler: str) -> list[str]:
    """The table of docs/gpu.md: a row a source of the two drivers, with the range of its kernels."""
    table = [
        f"nvcc {compiler}, {', '.join(gpus(kernels))}:",
        "",
        "| source | kernels | registers | static shared | stack | spilled |",
        "|---|---|---|---|---|---|",
    ]
    for source in dict.fromkeys(usage.source for usage in kernels):
        of_source = [usage for usage in kernels if usage.source == source]
        registers = sorted({usage.registers for usage in of_source})
        between = str(registers[0]) if len(registers) == 1 else f"{registers[0]} to {registers[-1]}"
        most = " | ".join(
            str(max(getattr(usage, what) for usage in of_source)) for what in ("shared", "stack", "spilled")
        )
        table.append(f"| `{source}` | {len(of_source)} | {between} | {most} |")
    return table


def docs_problem(table: list[str], write: bool) -> str | None:
    """What is wrong with the table of docs/gpu.md, after it was written anew if that is asked for."""
    if write:
        write_table("resources", table)
    there = read_table("resources")
    if not there or there[0] != table[0] or there == table:  # of another compiler: nothing to compare
        return None
    return f"{DOCS.name}'s table of resources is out of date: run this with --docs write"


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "reports", type=Path, nargs="+", metavar="REPORT", help="SOURCE.txt, as nvcc wrote it"
    )
    parser.add_argument("--compiler", default="", metavar="VERSION", help="nvcc's, for the table")
    parser.add_argument(
        "--docs", choices=["check", "write"], help="compare or renew the table in docs/gpu.md"
    )
    options = parser.parse_args()
    try:
        kernels = read_reports(options.reports)
        print("\n".join(lines(kernels)))
        found = [
            f"{usage.source}: {usage.name} uses local memory on {', '.join(sorted(usage.to_blame))}: "
            f"{usage.stack} bytes of stack, {usage.spilled} spilled"
            for usage in kernels
            if usage.to_blame
        ]
        if options.docs:
            problem = docs_problem(docs_table(kernels, options.compiler), options.docs == "write")
            found += [problem] if problem else []
    except (ReportError, TableError) as error:
        found = [str(error)]
    print("\n".join(found), file=sys.stderr, end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
