"""Times the scripts of examples/tf1 as plain python runs them and as `python -m fused_rnn` does.

    python benchmarks/scripts.py                    every script, five runs each way, in turns
    python benchmarks/scripts.py --runs 3 unrolled

Checks that both print the same numbers. What a script says of its own time a training step is compared, the
median over the runs; starting Python and building the graph are left out. Needs tf_keras, for TensorFlow's
own cells.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
SCRIPTS = HERE.parent / "examples" / "tf1"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.py"))
WAYS = ("plain", "fused_rnn")


def run(name: str, way: str, steps: int) -> list[list[float]]:
    """The numbers of each line that the script prints; the last is its milliseconds a step."""
    script = SCRIPTS / f"{name}.py"
    if way == "fused_rnn":
        command = ["-m", "fused_rnn", "--tf1"]
    elif "tf.contrib" in script.read_text(encoding="utf-8"):
        command = [str(HERE / "plain_tf1.py")]
    else:
        command = []
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(
        [sys.executable, *command, str(script), f"--steps={steps}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} ({way}) failed:\n{done.stderr}")
    return [
        [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", line)] for line in done.stdout.splitlines()
    ]


def check(name: str, plain: list[list[float]], fused: list[list[float]]) -> None:
    """Exits if a script printed other numbers with fused cells, its times aside."""
    for line, expected in zip(fused[:-1], plain[:-1], strict=True):
        if not np.allclose(line, expected, rtol=1e-3):
            sys.exit(f"{name} printed {line} with fused_rnn and {expected} without")


def main() -> None:
    """Runs the scripts in turns, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (all)")
    parser.add_argument("--runs", type=int, default=5, help="of each script, each way (%(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="training steps of a run (%(default)s)")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    if options.runs < 1 or options.steps < 1:
        parser.error("runs and steps start at 1")
    names = options.names or NAMES
    print(f"{'script':<16}{'plain, ms a step':>20}{'fused_rnn, ms a step':>24}{'ratio':>8}{'spread':>14}")
    with tqdm(total=len(names) * options.runs * 2, unit="run", leave=False, disable=None) as bar:
        for name in names:
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(options.runs):
                printed = {}
                for way in WAYS:
                    bar.set_description(f"{name}, {way}")
                    printed[way] = run(name, way, options.steps)
                    times[way].append(printed[way][-1][0])
                    bar.update()
                check(name, *printed.values())
            plain, fused = (statistics.median(times[way]) for way in WAYS)
            ratios = [before / after for before, after in zip(*times.values(), strict=True)]
            spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
            tqdm.write(f"{name:<16}{plain:>20.2f}{fused:>24.2f}{plain / fused:>7.2f}x{spread:>14}")


if __name__ == "__main__":
    main()
