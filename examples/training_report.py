"""What the language model prints and plots: the table of epochs, the summary, and the figure."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, ScalarFormatter

__all__ = ["Epoch", "Report"]

COLOURS = {"reference": "#b4bcc7", "fused": "#d1495b"}


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What one epoch of one model gave."""

    train_perplexity: float
    valid_perplexity: float
    words_per_second: float  # of training


@dataclasses.dataclass
class Report:
    """The measurements of a run; every dict has the name of the cells as its key."""

    title: str
    cells: list[str]
    learning_rates: list[float] = dataclasses.field(default_factory=list)  # one for each epoch
    epochs: dict[str, list[Epoch]] = dataclasses.field(default_factory=dict)
    test_perplexity: dict[str, float] = dataclasses.field(default_factory=dict)
    step_speed: dict[str, float] = dataclasses.field(
        default_factory=dict
    )  # words/s of the whole training step
    rnn_speed: dict[str, float] = dataclasses.field(default_factory=dict)  # words/s of the RNN part alone

    @property
    def pair(self) -> bool:
        """Whether there are two models to compare."""
        return len(self.cells) == 2

    @property
    def width(self) -> int:
        """Letters in a column of the tables."""
        return 11 if self.pair else 18

    def add(self, learning_rate: float, epoch: dict[str, Epoch]) -> None:
        """Takes the results of one more epoch."""
        self.learning_rates.append(learning_rate)
        for cells, result in epoch.items():
            self.epochs.setdefault(cells, []).append(result)

    def header(self) -> str:
        """The two lines above the table."""
        columns = ("train perplexity", "valid perplexity", "words a second")
        groups = "".join(f"{column:>{self.width * len(self.cells)}}" for column in columns)
        names = "".join(f"{cells:>{self.width}}" for cells in self.cells) * 3
        return f"{'':11}{groups}\nepoch  rate{names}" + (f"{'ratio':>8}" if self.pair else "")

    def last_row(self) -> str:
        """The table's line for the last epoch."""
        last = [self.epochs[cells][-1] for cells in self.cells]
        line = f"{len(self.learning_rates):5d}{self.learning_rates[-1]:6.3f}"
        line += "".join(f"{epoch.train_perplexity:{self.width}.2f}" for epoch in last)
        line += "".join(f"{epoch.valid_perplexity:{self.width}.2f}" for epoch in last)
        line += "".join(f"{epoch.words_per_second:{self.width},.0f}" for epoch in last)
        return line + (f"{last[1].words_per_second / last[0].words_per_second:7.2f}x" if self.pair else "")

    def summary(self) -> str:
        """The test perplexities, the speeds and, of two models, the ratios."""
        names = "".join(f"{cells:>{self.width}}" for cells in self.cells)
        lines = [f"{'':38}{names}" + (f"{'ratio':>8}" if self.pair else "")]

        def row(label: str, values: dict[str, float], form: str, ratio: str = "") -> None:
            lines.append(
                f"{label:38}" + "".join(f"{values[cells]:{self.width}{form}}" for cells in self.cells) + ratio
            )

        row("test perplexity", self.test_perplexity, ".2f")
        for label, speeds in self.speeds().items():
            ratio = f"{self._ratio(speeds):7.2f}x" if self.pair else ""
            row(f"words a second, {label}", speeds, ",.0f", ratio)
        if self.pair:
            lines.append(f"their perplexities differ by at most {self.largest_difference():.3%} in any epoch")
        return "\n".join(lines)

    def speeds(self) -> dict[str, dict[str, float]]:
        """The two kinds of speed, in words a second, by what they are the speed of."""
        return {"whole training step": self.step_speed, "RNN part alone": self.rnn_speed}

    def largest_difference(self) -> float:
        """How far the two models' perplexities, train, valid or test, are apart at most, as a share."""
        first, second = (self._perplexities(cells) for cells in self.cells)
        return max(abs(b / a - 1) for a, b in zip(first, second, strict=True))

    def plot(self, path: Path) -> None:
        """Writes the figure: the perplexities on the left, the speeds on the right."""
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
        figure.suptitle(self.title)
        self._plot_perplexities(left)
        self._plot_speeds(right)
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, dpi=150)

    def _perplexities(self, cells: str) -> list[float]:
        epochs = self.epochs[cells]
        every = [p for epoch in epochs for p in (epoch.train_perplexity, epoch.valid_perplexity)]
        return [*every, self.test_perplexity[cells]]

    def _ratio(self, values: dict[str, float]) -> float:
        return values[self.cells[1]] / values[self.cells[0]]

    def _plot_perplexities(self, axes: Axes) -> None:
        """Both models' curves; the second is drawn thin over the first one, since they should coincide."""
        x = range(1, len(self.learning_rates) + 1)
        for i, cells in enumerate(self.cells):
            size: dict[str, Any] = {"lw": 1.5, "ms": 4} if i else {"lw": 7, "ms": 7}
            train = [epoch.train_perplexity for epoch in self.epochs[cells]]
            valid = [epoch.valid_perplexity for epoch in self.epochs[cells]]
            axes.plot(x, train, "o-", color=COLOURS[cells], label=cells, **size)
            axes.plot(x, valid, "o-", color=COLOURS[cells], **size)
            if i == 0:
                for part, y in (("train", train), ("valid", valid)):
                    axes.annotate(
                        part, (x[-1], y[-1]), xytext=(10, 0), textcoords="offset points", va="center"
                    )
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set(xlabel="epoch", ylabel="perplexity", title="Learning")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    def _plot_speeds(self, axes: Axes) -> None:
        """Bars of words a second, with the ratio over each pair."""
        groups = self.speeds()
        width = 0.8 / len(self.cells)
        for i, cells in enumerate(self.cells):
            at = [group + (i - (len(self.cells) - 1) / 2) * width for group in range(len(groups))]
            heights = [speeds[cells] for speeds in groups.values()]
            bars = axes.bar(at, heights, width * 0.95, color=COLOURS[cells], label=cells)
            axes.bar_label(bars, fmt="{:,.0f}", padding=2)
        ratios = [f"\n{self._ratio(speeds):.2f}x" if self.pair else "" for speeds in groups.values()]
        axes.set_xticks(
            range(len(groups)), [label + ratio for label, ratio in zip(groups, ratios, strict=True)]
        )
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.margins(y=0.15)
        axes.set(ylabel="words a second", title="Training speed")
        axes.legend(frameon=False, loc="upper left")
