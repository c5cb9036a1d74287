"""The units in which figures and tables show numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """How values of a metric, or scores, are shown.

    Attributes:
        name: what the values are, for instance "accuracy" or "negative divergence".
        symbol: of the unit: "%", "nats", or empty.
        scale: what a value is multiplied by before it is shown.
        digits: decimals.
    """

    name: str
    symbol: str = ""
    scale: int = 1
    digits: int = 4

    @classmethod
    def of(cls, metric: str, score: str = "metric") -> Unit:
        """The unit of a score, or of the metric itself.

        Args:
            metric: of the task; see `TaskConfig.metric`.
            score: what candidates are scored by; see `SearchConfig.ranked_by`.
        """
        if score != "metric":
            if score == "rank":
                return cls("joint rank")
            return cls({"kl": "negative divergence", "loss": "negative loss"}[score], "nats", digits=3)
        if metric in ("accuracy", "binary-accuracy"):
            return cls(metric.replace("-", " "), "%", 100, 2)
        return cls(metric.rpartition(":")[2])

    @property
    def label(self) -> str:
        """Name and symbol, for the axis of a plot."""
        return f"{self.name} ({self.symbol})" if self.symbol else self.name

    @property
    def short(self) -> str:
        """The symbol, or the name if there is none, for the head of a column."""
        return self.symbol or self.name

    @property
    def difference(self) -> str:
        """The unit of a difference of two values."""
        return "points" if self.symbol == "%" else self.short

    def gap(self, value: float) -> str:
        """A difference of two values without its unit, with one decimal less: it is less certain than they are."""
        return f"{self.scale * value:.{self.digits - 1}f}"

    def signed(self, value: float) -> str:
        """A difference of two values without its unit, with its sign."""
        return f"{self.scale * value:+.{self.digits - 1}f}"

    def possible(self, limits: Sequence[float]) -> tuple[float, float]:
        """Limits of a difference, inside of what it can be: shares differ by 1 at the most."""
        low, high = limits
        return (max(low, -1.0), min(high, 1.0)) if self.symbol == "%" else (low, high)

    def number(self, value: float) -> str:
        """A value without its unit."""
        return f"{self.scale * value:.{self.digits}f}"

    def text(self, value: float) -> str:
        """A value with its unit if that is %, as in a sentence that names the metric."""
        return self.number(value) + "%" * (self.symbol == "%")


@dataclass(frozen=True, slots=True)
class SizeUnit:
    """How numbers of parameters or multiply-adds are shown.

    Attributes:
        short: the symbol, k, M or G.
        size: the number that it stands for.
        digits: decimals.
    """

    short: str
    size: float
    digits: int

    @classmethod
    def of(cls, values: Sequence[float]) -> SizeUnit:
        """The largest unit that the largest value reaches, or k."""
        largest = max(values, default=0)
        short, size = next(((s, n) for s, n in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if largest >= n), ("k", 1e3))
        return cls(short, size, 2 if largest < 10 * size else 1)

    def number(self, value: float) -> str:
        """A value without its unit."""
        return f"{value / self.size:.{self.digits}f}"
