"""Rank correlations and their intervals."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from supernet.trust.correlation import paper_points, trust
from supernet.trust.ranks import Population, bootstrap, estimate, kendall, leave_one_out, spearman

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=14)


def counted(points: list[tuple[int, int]]) -> float:
    """Tau-b by counting pairs."""
    pairs = list(itertools.combinations(points, 2))
    signs = [(a[0] - b[0]) * (a[1] - b[1]) for a, b in pairs]
    untied = [sum(a[i] != b[i] for a, b in pairs) for i in (0, 1)]
    both = sum(s > 0 for s in signs) - sum(s < 0 for s in signs)
    return both / math.sqrt(untied[0] * untied[1]) if all(untied) else math.nan


@given(POINTS)
def test_tau_without_each_point_equals_counting_pairs(points: list[tuple[int, int]]) -> None:
    x, y = zip(*points, strict=True)
    expected = [counted(points), *(counted(points[:i] + points[i + 1 :]) for i in range(len(points)))]
    assert leave_one_out(x, y) == pytest.approx(expected, nan_ok=True)
    assert leave_one_out(x, y, 1 - np.eye(len(x))) == pytest.approx(expected, nan_ok=True)


def test_many_points_take_the_same_value_as_scipy() -> None:
    x, y = np.random.default_rng(0).integers(0, 50, (2, 3000))
    assert kendall(x, x + y) == pytest.approx(stats.kendalltau(x, x + y).statistic)


@settings(deadline=None)  # scipy is imported by the first call
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=12))
def test_spearman_equals_scipy(points: list[tuple[int, int]]) -> None:
    x, y = map(np.array, zip(*points, strict=True))
    is_defined = len(set(x)) > 1 < len(set(y))
    expected = stats.spearmanr(x, y).statistic if is_defined else math.nan
    assert spearman(x, y) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(("n", "tau"), [(10, 0.0), (10, 0.5), (30, 0.5), (30, 0.8), (100, 0.3)])
def test_intervals_hold_the_true_tau_as_often_as_they_say(n: int, tau: float) -> None:
    """600 draws of normal points: each side is missed in at most 2.5 % and three standard errors of that share."""
    generator, rho = np.random.default_rng(n), math.sin(math.pi * tau / 2)
    below = above = 0
    for _ in range(600):
        x, noise = generator.normal(size=(2, n))
        low, high = estimate(leave_one_out(x, rho * x + math.sqrt(1 - rho**2) * noise))["interval"]
        below, above = below + (high < tau), above + (low > tau)
    assert max(below, above) / 600 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 600)


def test_the_jackknife_agrees_with_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    x, noise = generator.normal(size=(2, 150))
    y = x + noise
    low, high = estimate(leave_one_out(x, y))["interval"]
    draws = generator.integers(0, 150, (1000, 150))
    deviation = np.std([stats.kendalltau(x[draw], y[draw], variant="c").statistic for draw in draws])
    assert (high - low) / (2 * 1.976) == pytest.approx(deviation, rel=0.1)


def test_the_interval_of_a_difference_knows_that_the_points_are_the_same() -> None:
    generator = np.random.default_rng(0)
    y, noise = generator.normal(size=(2, 60))
    first, second = leave_one_out(y + noise, y), leave_one_out(y + noise + 0.01 * generator.normal(size=60), y)
    difference = estimate(first - second, bounded=False)
    alone = estimate(first)
    widths = [row["interval"][1] - row["interval"][0] for row in (difference, alone)]
    assert widths[0] < widths[1] / 4


def test_one_point_that_decides_leaves_no_interval() -> None:
    """Of 12 networks 11 are at chance: without the one that learnt there is no ranking."""
    accuracies = [0.1] * 11 + [0.5]
    tau = estimate(leave_one_out(range(12), accuracies))
    assert tau["value"] == pytest.approx(0.41, abs=0.005)
    assert tau["interval"] is None
    assert estimate(leave_one_out([1, 2, 3], [1, 2, 3])) == {"value": 1.0, "interval": None}
    assert estimate(leave_one_out([1, 1, 1, 1, 1], [1, 2, 3, 4, 5])) == {"value": None, "interval": None}


def test_samples_without_a_value_widen_a_bootstrap() -> None:
    """A mean that is not defined in samples without the last point: in 35 % of them."""
    values = np.arange(20.0)

    def statistic(draws: np.ndarray) -> np.ndarray:
        return np.where((draws == 19).any(1), values[draws].mean(1), np.nan)

    assert bootstrap(statistic, 20) == {"value": 9.5, "interval": None}
    low, high = bootstrap(lambda draws: values[draws].mean(1), 20)["interval"]
    assert (high - low) / (2 * 1.96) == pytest.approx(values.std() / math.sqrt(20), rel=0.05)


def test_pairs_stand_for_pairs_of_candidates() -> None:
    """Buckets of 6 and 9 candidates with 2 and 1 networks; one candidate has none."""
    population = Population.of([0.11, 0.12, 0.31], [0.1] * 6 + [0.33] * 9 + [0.9], 0.1)
    weights = population.pair_weights
    pairs = np.array([weights[0, 1], weights[0, 2], weights[1, 2]])
    assert pairs / pairs.sum() == pytest.approx(np.array([15, 27, 27]) / 69)
    assert np.diag(weights).tolist() == [0, 0, 0]
    assert population.lost == pytest.approx(1 - 69 / 120)
    with pytest.raises(ValueError, match="the candidates that the networks were drawn from"):
        Population.of([0.1], [0.9], 0.1)


def test_a_weighted_tau_is_that_of_all_candidates_on_average() -> None:
    """Networks drawn from buckets of a population, again and again: as drawn tau is too high, re-weighted right."""
    generator = np.random.default_rng(0)
    scores = 0.5 + 0.1 * generator.normal(size=2000)
    accuracies = scores + 0.07 * generator.normal(size=2000)
    true = stats.kendalltau(scores, accuracies).statistic
    places = np.floor(scores / 0.05).astype(int)
    drawn, weighted = [], []
    for _ in range(200):
        some = np.concatenate(
            [generator.permutation(np.flatnonzero(places == place))[:4] for place in np.unique(places)]
        )
        x, y = scores[some], accuracies[some]
        drawn.append(kendall(x, y))
        weighted.append(kendall(x, y, Population.of(x, scores, 0.05).pair_weights))
    assert np.mean(drawn) > true + 0.05
    assert np.mean(weighted) == pytest.approx(true, abs=3 * float(np.std(weighted)) / math.sqrt(200))


def test_the_paper_reweighted_to_its_20_000_candidates() -> None:
    points = paper_points()
    edges = points["histogram"]
    width = np.diff([edge for edge, _ in edges]).mean()
    everyone = np.concatenate([np.linspace(edge, edge + width, int(n) + 2)[1:-1] for edge, n in edges])
    scores, accuracies = np.array(points["figure5"]).T
    population = Population.of(scores, everyone, 0.05)
    assert population.lost == 0
    assert kendall(scores, accuracies, population.pair_weights) == pytest.approx(0.545, abs=0.005)
    assert trust(scores, accuracies, population=population)["verdict"].startswith(
        "Scores predict: of two candidates, the one with the better score is the better one in 77 of 100 cases"
    )


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        kendall([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="NaN"):
        kendall([1, 2, float("nan")], [1, 2, 3])
