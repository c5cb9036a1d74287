"""Values of result files as text, for the tables and numbers of the documents (see documents.py)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Results = Callable[[str], Any]
"""A result file by its name without the ending: `results("paper")` is what docs/results/paper.json holds."""


def rows_as_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(value: float, digits: int = 2) -> str:
    text = f"{value:,.{digits}f}"
    return text.removeprefix("-") if not text.strip("-0.,") else text  # no minus before zero


def interval(value: dict[str, Any], digits: int = 2) -> str:
    """A value with the interval in which 95 % of its bootstrap samples lie."""
    middle = value["tau"] if "tau" in value else value["value"]
    low, high = value["interval"]
    return f"{plain(middle, digits)} ({plain(low, digits)} to {plain(high, digits)})"


def middle(value: dict[str, Any]) -> str:
    return plain(value["tau"] if "tau" in value else value["value"])


def ratio(value: dict[str, float], digits: int = 2) -> str:
    """The median of ratios with the smallest and the largest."""
    return f"{plain(value['median'], digits)} ({plain(value['smallest'], digits)} to {plain(value['largest'], digits)})"


def percent(value: float, digits: int = 0) -> str:
    return f"{plain(100 * value, digits)} %"


def accuracies(values: Sequence[float]) -> str:
    """Accuracies as a mean in per cent, with a standard deviation if there are several."""
    mean = plain(100 * statistics.mean(values), 1)
    return mean if len(values) == 1 else f"{mean} ± {plain(100 * statistics.stdev(values), 1)}"


def group(row: dict[str, Any], name: str, scale: float = 100) -> str:
    """A figure of a group as results.json has it: the mean, with a standard deviation if it has several networks."""
    mean = plain(scale * row[name]["mean"], 1)
    return mean if row["networks"] == 1 else f"{mean} ± {plain(scale * row[name]['deviation'], 1)}"


FORMATS: dict[str, Callable[[Any], str]] = {
    "interval": interval,
    "middle": middle,
    "ratio": ratio,
    "median": lambda value: plain(value["median"]),
    "percent": percent,
    "percent1": lambda value: percent(value, 1),
    "points": lambda value: plain(100 * value, 1),
    "0": lambda value: plain(value, 0),
    "1": lambda value: plain(value, 1),
    "2": plain,
    "3": lambda value: plain(value, 3),
    "text": str,
}
"""By name, for single numbers in a sentence."""
