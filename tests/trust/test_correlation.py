"""How far scores can be trusted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from supernet.trust.correlation import (
    kendall,
    paper_points,
    population_counts,
    rank_correlation,
    recall,
    regret,
    score_noise,
    spearman,
    trust,
)

POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), min_size=3, max_size=12)


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


def test_too_few_architectures() -> None:
    assert rank_correlation([1, 2], [1, 2])["kendall"] is None
    assert rank_correlation([1, 1, 1], [1, 2, 3])["spearman"] is None
    with pytest.raises(ValueError, match="as many accuracies as scores, got 2 and 3"):
        rank_correlation([1, 2, 3], [1, 2])


@settings(deadline=None)
@given(POINTS)
def test_a_point_with_a_count_is_as_many_points(points: list[tuple[int, int, int]]) -> None:
    x, y, counts = map(np.array, zip(*points, strict=True))
    assume(len(set(x)) > 1 < len(set(y)))
    repeated = np.repeat(x, counts), np.repeat(y, counts)
    assert kendall(x, y, counts) == pytest.approx(stats.kendalltau(*repeated).statistic)
    assert spearman(x, y, counts) == pytest.approx(stats.spearmanr(*repeated).statistic)
    both = kendall(x, y, np.array([counts, np.ones(len(x))]))
    assert both == pytest.approx([kendall(x, y, counts), kendall(x, y)])


@given(POINTS)
def test_what_does_not_vary_has_no_rank_correlation(points: list[tuple[int, int, int]]) -> None:
    x, _, counts = map(np.array, zip(*points, strict=True))
    same = np.zeros(len(x))
    assert np.isnan([kendall(x, same, counts), kendall(same, x, counts)]).all()
    assert np.isnan([spearman(x, same, counts), spearman(same, x, counts)]).all()


PAPER = paper_points()


@pytest.mark.parametrize(
    ("points", "rho", "tau"),
    [
        (PAPER["figure4"]["1e-6"], 0.68, 0.50),
        (PAPER["figure4"]["0.01"], 0.83, 0.66),
        (PAPER["figure4"]["0.3"], 0.71, 0.51),
        (PAPER["figure5"], 0.94, 0.78),
        (PAPER["figure6"], -0.98, -0.89),
    ],
)
def test_the_points_of_the_paper(points: list[list[float]], rho: float, tau: float) -> None:
    result = trust(*np.array(points).T)["as_drawn"]
    assert result["spearman"]["value"] == pytest.approx(rho, abs=0.005)
    assert result["kendall"]["value"] == pytest.approx(tau, abs=0.005)
    low, high = result["spearman"]["interval"]
    assert low < rho < high


def test_the_paper_reweighted_to_its_20_000_candidates() -> None:
    edges = PAPER["histogram"]
    width = np.diff([edge for edge, _ in edges]).mean()
    everyone = np.concatenate([np.linspace(edge, edge + width, int(n) + 2)[1:-1] for edge, n in edges])
    scores, accuracies = np.array(PAPER["figure5"]).T
    result = trust(scores, accuracies, counts=population_counts(scores, everyone, 0.05))
    assert result["population"]["spearman"]["value"] == pytest.approx(0.75, abs=0.01)
    assert result["population"]["kendall"]["value"] == pytest.approx(0.56, abs=0.01)
    assert result["verdict"].startswith("Scores predict: tau 0.56")


def test_noise_is_called_noise_as_often_as_promised() -> None:
    """400 samples of 30 networks without any relation: 95 % of the intervals should hold 0; 4 deviations are given."""
    generator = np.random.default_rng(0)
    holds = 0
    for _ in range(400):
        scores, accuracies = generator.normal(size=(2, 30))
        low, high = rank_correlation(scores, accuracies)["kendall_interval"]
        holds += low <= 0 <= high
    assert abs(holds / 400 - 0.95) <= 4 * (0.95 * 0.05 / 400) ** 0.5


def drawn(n: int, *, of_size: float, of_score: float, noise: float = 0.3) -> dict[str, Any]:
    """Networks whose accuracy depends on the quality that the score sees, and on size, by the given factors."""
    generator = np.random.default_rng(1)
    size, quality = generator.normal(size=(2, n))
    score = of_score * quality + size
    accuracy = (of_size * size + of_score * quality)[:, None] + noise * generator.normal(size=(n, 3))
    return {"scores": score, "accuracies": accuracy, "sizes": {"params": size}}


def test_verdicts() -> None:
    assert trust(**drawn(60, of_size=0.3, of_score=1))["verdict"].startswith("Scores predict: tau ")
    assert trust(**drawn(60, of_size=1, of_score=0.02))["verdict"].startswith("These scores say no more than size does")
    assert trust(**drawn(9, of_size=1, of_score=1))["verdict"].startswith("No verdict: 9 networks are too few")
    noise = np.random.default_rng(2).normal(size=(2, 40))
    assert trust(*noise)["verdict"].startswith("No evidence that scores predict: tau ")
    assert trust(range(20), range(20, 0, -1))["verdict"].startswith("Scores mislead: tau -1.00")
    assert trust([1] * 20, range(20))["verdict"].startswith("No verdict: all scores")
    said = trust(range(20), range(20), noise=0.0123)["verdict"]
    assert said.endswith("Differences under 1.2 points of score are noise.")


def test_what_stands_beside_the_correlation() -> None:
    data = drawn(40, of_size=0.5, of_score=1)
    result = trust(**data, untrained=np.random.default_rng(3).normal(size=40))
    repeats, mean = data["accuracies"], data["accuracies"].mean(1)
    pairs = [stats.kendalltau(repeats[:, a], repeats[:, b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    assert result["ceiling"]["value"] == pytest.approx(np.mean(pairs))
    xy, xs, ys = (
        stats.kendalltau(a, b).statistic
        for a, b in (
            (data["scores"], mean), (data["scores"], data["sizes"]["params"]), (mean, data["sizes"]["params"])
        )
    )  # fmt: skip
    assert result["floor"]["params"]["value"] == pytest.approx(ys)
    assert result["size_bias"]["params"]["value"] == pytest.approx(xs)
    assert result["beyond"]["params"]["value"] == pytest.approx(xy - ys)
    assert result["partial"]["params"] == pytest.approx((xy - xs * ys) / ((1 - xs**2) * (1 - ys**2)) ** 0.5)
    low, high = result["floor"]["untrained"]["interval"]
    assert low < 0 < high
    assert result["as_drawn"]["top_weighted"]["value"] == pytest.approx(
        stats.weightedtau(data["scores"], mean).statistic
    )
    assert [band["n"] for band in result["bands"]["accuracy"]] == [10] * 4


def test_regret_and_recall() -> None:
    accuracies = np.arange(20) / 100
    scores = accuracies.copy()
    scores[19], scores[0] = -1.0, 1.0  # the best network has the worst score, the worst the best
    assert regret(scores, accuracies) == pytest.approx({"1": 0.19, "5": 0.01, "10": 0.01})
    assert recall(scores, accuracies) == pytest.approx({"5": 0.8, "10": 0.9, "10 %": 0.5})


def test_population_counts_are_candidates_for_each_network() -> None:
    counts = population_counts([0.11, 0.12, 0.31], [0.1] * 6 + [0.33] * 9 + [0.9], 0.1)
    assert counts.tolist() == pytest.approx([0.6, 0.6, 1.8])
    with pytest.raises(ValueError, match="the candidates that the networks were drawn from"):
        population_counts([0.1], [0.9], 0.1)


def test_score_noise_is_the_effect_of_other_examples() -> None:
    """Two candidates, right with known chances on each image: the deviation over many draws of the images."""
    generator = np.random.default_rng(0)
    chances = generator.uniform(size=(2, 400))
    images = generator.integers(0, 400, (3000, 100))
    right = generator.uniform(size=(2, 3000, 100)) < chances[:, images]
    noise = np.mean([score_noise(right[:, i]) for i in range(200)])
    assert noise == pytest.approx(1.96 * (right[0] * 1.0 - right[1]).mean(1).std(), rel=0.05)


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        trust([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="NaN"):
        trust([1, 2, float("nan")], [1, 2, 3])
    with pytest.raises(ValueError, match=r"\[n\] or \[n, R\]"):
        trust([1, 2], np.zeros((2, 2, 2)))
