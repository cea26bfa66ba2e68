"""The account in docs/gpu.md: what the core plans for each point of device.py's list, on an H200.

    python benchmarks/device_account.py            exit status 1 where the document says something else
    python benchmarks/device_account.py --write    writes it anew

Needs no GPU, but fused_rnn_core built with CUDA, or tests/emulator built in build/emulator.
"""

import argparse
import sys
from types import ModuleType

from device_floor import H200_DATASHEET
from device_points import all_points
from device_prediction import HEADS, find_planner, plan_cells, predict
from docs_table import DOCS, TableError, read_table, write_table


def account(module: ModuleType) -> list[str]:
    """The lines of the table: one for each size, dtype and pass, though points share some of them."""
    heads = ["cell", "B, T, I, H", "dtype", *HEADS]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for point in all_points():
        for name, plan in predict(module, point, H200_DATASHEET).passes.items():
            cell = point.cell.removesuffix("_reset_after").upper()
            cell += " both ways" if point.directions == 2 else ""
            size = str(point.case).replace(",", ", ")
            cells = [cell, size, point.dtype, *plan_cells(point, name, plan, H200_DATASHEET)]
            lines.append(f"| {' | '.join(cells)} |")
    return list(dict.fromkeys(lines))


def main() -> int:
    """Runs the script; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCS.name}")
    options = parser.parse_args()
    module = find_planner()
    try:
        if module is None:
            raise TableError("no plans: build fused_rnn_core with CUDA, or tests/emulator")
        if options.write:
            write_table("account", account(module))
        if read_table("account") != account(module):
            raise TableError(f"{DOCS.name}'s account is out of date: run this with --write")
    except TableError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
