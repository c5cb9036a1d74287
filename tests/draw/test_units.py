"""Units of metrics, scores and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.draw.units import SizeUnit, Unit


@pytest.mark.parametrize(
    ("metric", "score", "label", "difference", "text"),
    [
        ("accuracy", "metric", "accuracy (%)", "points", "12.34%"),
        ("r2", "metric", "r2", "r2", "0.1234"),
        ("/home/me/own.py:accuracy", "metric", "accuracy", "accuracy", "0.1234"),  # may have any range
        ("accuracy", "kl", "negative divergence (nats)", "nats", "0.123"),
        ("r2", "loss", "negative loss (nats)", "nats", "0.123"),
    ],
)
def test_units_of_metrics_and_scores(metric: str, score: str, label: str, difference: str, text: str) -> None:
    unit = Unit.of(metric, score)
    assert (unit.label, unit.difference, unit.text(0.12341)) == (label, difference, text)
    assert unit.text(0.12341).removesuffix("%") == unit.number(0.12341)


def test_the_metric_itself_is_the_default_score() -> None:
    assert Unit.of("accuracy") == Unit.of("accuracy", "metric")


@pytest.mark.parametrize(
    ("values", "short", "number"),
    [([5.0], "k", "0.01"), ([5e3, 25e3], "k", "5.0"), ([3e6], "M", "3.00"), ([2e10], "G", "20.0"), ([], "k", None)],
)
def test_units_of_sizes(values: list[float], short: str, number: str | None) -> None:
    unit = SizeUnit.of(values)
    assert unit.short == short
    assert number is None or unit.number(values[0]) == number


@given(st.lists(st.floats(1e3, 1e12), min_size=1))
def test_the_largest_size_has_three_digits_at_least(values: list[float]) -> None:
    largest = SizeUnit.of(values).number(max(values))
    assert len(largest.replace(".", "")) >= 3
