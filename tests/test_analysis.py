"""How far scores can be trusted."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.analysis import rank_correlation


@settings(deadline=None)  # scipy is imported by the first call
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_kendall_equals_counting_pairs(points: list[tuple[int, int]]) -> None:
    xs, ys = zip(*points, strict=True)
    result = rank_correlation(xs, ys)
    pairs = list(itertools.combinations(points, 2))
    signs = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in pairs]
    untied = [sum(a[i] != b[i] for a, b in pairs) for i in (0, 1)]
    if not all(untied):
        assert result["kendall"] is None
        return
    expected = (sum(s > 0 for s in signs) - sum(s < 0 for s in signs)) / (untied[0] * untied[1]) ** 0.5
    assert result["kendall"] == pytest.approx(expected)
    assert result["n"] == len(points)


def test_perfect_and_reversed() -> None:
    perfect = rank_correlation([1, 2, 3], [10, 20, 30])
    assert (perfect["n"], perfect["spearman"], perfect["kendall"]) == (3, pytest.approx(1), pytest.approx(1))
    assert perfect["kendall_interval"] == pytest.approx([1, 1])
    assert rank_correlation([1, 2, 3], [3, 2, 1])["spearman"] == pytest.approx(-1)


def test_the_interval_narrows_with_more_architectures_and_covers_the_value() -> None:
    widths = []
    for number in (8, 60):
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(number, generator=generator)
        noisy = scores + torch.randn(number, generator=generator)
        result = rank_correlation(scores.tolist(), noisy.tolist())
        low, high = result["kendall_interval"]
        assert low < result["kendall"] < high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]


def test_too_little_to_say() -> None:
    assert rank_correlation([1, 2], [1, 2])["kendall"] is None
    assert rank_correlation([1, 1, 1], [1, 2, 3])["spearman"] is None
    with pytest.raises(ValueError, match="as many accuracies as scores, got 2 and 3"):
        rank_correlation([1, 2, 3], [1, 2])
