"""Chance and other explanations."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from supernet.trust.beyond import chance, explained, given, normal_scores, partial


def test_the_test_by_permutation_is_exact_with_ties() -> None:
    """11 networks at chance and one that learns, which has the best score: in one of 12 orders."""
    scores = np.arange(12.0)
    assert chance(scores, [0.1] * 11 + [0.5])["predict"] == pytest.approx(1 / 12, abs=0.02)
    assert chance(scores, [0.5] + [0.1] * 11)["mislead"] == pytest.approx(1 / 12, abs=0.02)
    assert chance(scores, [0.1] * 12) == {"predict": 1.0, "mislead": 1.0}


def test_p_is_the_share_of_all_permutations() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 4, (2, 7)).astype(float)
    ranks = stats.rankdata(y)
    surplus = np.sign(x[:, None] - x).sum(1)
    values = [surplus @ ranks[list(order)] for order in itertools.permutations(range(7))]
    exact = np.mean(np.array(values) >= surplus @ ranks - 1e-9)
    assert chance(x, y)["predict"] == pytest.approx(exact, abs=0.04)


def test_many_points_need_no_permutations() -> None:
    generator = np.random.default_rng(1)
    x, noise = generator.normal(size=(2, 1001))
    y = 0.06 * x + noise
    few = chance(x[:-1], y[:-1])["predict"]  # of 1,000 points by permutations, of 1,001 by the normal distribution
    assert chance(x, y)["predict"] == pytest.approx(few, abs=0.02)


def test_what_is_left_is_a_partial_correlation() -> None:
    generator = np.random.default_rng(2)
    size, quality, noise = generator.normal(size=(3, 25))
    x, y = size + quality, size - quality + noise
    design = np.stack([np.ones(25), normal_scores(size), normal_scores(size) ** 2], 1)

    def slow(rows: np.ndarray) -> float:
        left = [v - design[rows] @ np.linalg.lstsq(design[rows], v, rcond=None)[0]
                for v in (normal_scores(x)[rows], normal_scores(y)[rows])]  # fmt: skip
        return float(2 / np.pi * np.arcsin(np.corrcoef(left)[0, 1]))

    row = partial(x, y, [size])
    assert row["value"] == pytest.approx(slow(np.arange(25)))
    without = np.array([slow(np.delete(np.arange(25), i)) for i in range(25)])
    deviation = np.sqrt(24 / 25 * ((without - without.mean()) ** 2).sum())
    reach = stats.t.ppf(0.975, 21) * deviation / (1 - row["value"] ** 2)
    assert row["interval"] == pytest.approx(np.tanh(np.arctanh(row["value"]) + np.array([-reach, reach])))


@pytest.mark.parametrize("explain", [lambda s: s, lambda s: -s, np.exp, lambda s: s**2])
def test_a_score_that_is_an_explanation_has_nothing_left(explain: Callable[[np.ndarray], np.ndarray]) -> None:
    generator = np.random.default_rng(3)
    size, noise = generator.normal(size=(2, 30))
    score = explain(size)
    left = given(score, score + 0.1 * noise, [size])
    assert any(row["value"] is None or row["interval"][0] <= 0 for row in left.values())


def test_equal_explanations_count_once_and_too_few_points_say_nothing() -> None:
    x, y, size = np.random.default_rng(4).normal(size=(3, 20))
    once, twice = given(x, y, [size]), given(x, y, [size, 3 * size])
    for scale in ("ranks", "values"):
        assert once[scale]["value"] == pytest.approx(twice[scale]["value"])
    assert given(x[:6], y[:6], [size[:6], y[:6] ** 2, x[:6] ** 2])["ranks"]["value"] is None


def test_explanations_together_say_more_than_each() -> None:
    first, second = np.random.default_rng(5).normal(size=(2, 50))
    y = first + second
    fitted, share = explained(y, [first, second])
    together = share * stats.kendalltau(fitted, y).statistic
    assert together > max(stats.kendalltau(size, y).statistic for size in (first, second)) + 0.2


def test_what_fitting_alone_brings_is_taken_off() -> None:
    """Of explanations that mean nothing, and of what two real ones say of networks that they were not fitted to."""
    generator = np.random.default_rng(6)
    nothing, fitted_taus, true_taus = [], [], []
    for _ in range(200):
        y, *others = generator.normal(size=(4, 36))
        fitted, share = explained(y, others)
        nothing.append((stats.kendalltau(fitted, y).statistic, share))
        sizes, noise = generator.normal(size=(3, 5036)), generator.normal(size=5036)
        y = sizes[0] + 0.5 * sizes[1] + 1.5 * noise
        fitted, share = explained(y[:36], list(sizes[:, :36]))
        fitted_taus.append(share * stats.kendalltau(fitted, y[:36]).statistic)
        true_taus.append(stats.kendalltau(sizes[0, 36:] + 0.5 * sizes[1, 36:], y[36:]).statistic)
    plain, shares = np.array(nothing).T
    assert plain.mean() > 0.15 and (plain * shares).mean() < 0.1
    assert abs(np.mean(fitted_taus) - np.mean(true_taus)) < 0.02


def test_nothing_that_varies_explains_nothing_and_everything_all() -> None:
    y = np.random.default_rng(7).normal(size=12)
    assert explained(y, [np.ones(12)])[1] == 0
    assert explained(np.ones(12), [y])[1] == 0
    assert explained(y, [y, np.random.default_rng(8).normal(size=12)])[1] == pytest.approx(1)
