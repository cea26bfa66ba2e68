"""A figure beside its target, and the arithmetic of medians with their spread that figures are made by."""

from dataclasses import dataclass

import numpy as np

from timing import Samples


@dataclass(frozen=True)
class Spread:
    """A median, with what lies below and above it: the quartiles, or what follows from them."""

    middle: float
    low: float
    high: float

    def __add__(self, other: "Spread") -> "Spread":
        return Spread(self.middle + other.middle, self.low + other.low, self.high + other.high)

    def __sub__(self, other: "Spread") -> "Spread":
        return Spread(self.middle - other.middle, self.low - other.high, self.high - other.low)

    def __truediv__(self, other: "Spread") -> "Spread":
        return Spread(self.middle / other.middle, self.low / other.high, self.high / other.low)

    def scaled(self, factor: float) -> "Spread":
        """In another unit."""
        return Spread(self.middle * factor, self.low * factor, self.high * factor)


def spread_of(values: list[float]) -> Spread:
    """Median and quartiles."""
    low, middle, high = (float(value) for value in np.percentile(values, (25, 50, 75)))
    return Spread(middle, low, high)


def milliseconds(samples: Samples | None) -> Spread:
    """The times of a contender that was timed."""
    assert samples is not None
    return Spread(samples.median_ms, samples.lower_quartile_ms, samples.upper_quartile_ms)


@dataclass(frozen=True)
class Figure:
    """What was found, the target it stands beside, and what it was made of."""

    name: str
    value: Spread
    unit: str
    target: float
    made_of: dict[str, Spread]
    made_of_unit: str
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """Whether the median is on the right side of the target."""
        middle = self.value.middle
        return middle >= self.target if self.at_least else middle <= self.target

    def line(self) -> str:
        """A row of the table."""
        value, sign = self.value, ">=" if self.at_least else "<="
        parts = ", ".join(f"{name} {part.middle:.4g}" for name, part in self.made_of.items())
        note = f"; {self.note}" if self.note else ""
        return (
            f"{self.name:<62}{value.middle:>8.2f} {self.unit:<3}"
            f"{f'[{value.low:.2f} to {value.high:.2f}]':>20}   {sign} {self.target:<6g}"
            f"{'met' if self.met else 'MISSED':<8}{parts} {self.made_of_unit}{note}"
        )
