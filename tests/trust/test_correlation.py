"""How far scores can be trusted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from supernet.trust.correlation import (
    best_of,
    evidence,
    paper_points,
    rank_correlation,
    recall,
    regret,
    trust,
    what_parts_add,
)
from supernet.trust.ranks import Population


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
    assert perfect["kendall_interval"] is None
    assert rank_correlation(range(5), range(5))["kendall_interval"] == pytest.approx([1, 1])
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


def drawn(n: int, *, of_size: float, of_score: float, noise: float = 0.3) -> dict[str, Any]:
    """Networks whose accuracy depends on the quality that the score sees, and on size, by the given factors."""
    generator = np.random.default_rng(1)
    size, quality = generator.normal(size=(2, n))
    score = of_score * quality + size
    accuracy = (of_size * size + of_score * quality)[:, None] + noise * generator.normal(size=(n, 3))
    return {"scores": score, "accuracies": accuracy, "sizes": {"params": size}}


def test_what_stands_beside_the_correlation() -> None:
    data = drawn(40, of_size=0.5, of_score=1)
    result = trust(**data, untrained=np.random.default_rng(3).normal(size=40))
    repeats, mean = data["accuracies"], data["accuracies"].mean(1)
    pairs = [stats.kendalltau(repeats[:, a], repeats[:, b]).statistic for a, b in ((0, 1), (0, 2), (1, 2))]
    assert result["ceiling"]["repeatability"]["value"] == pytest.approx(np.mean(pairs))
    xy, xs, ys = (
        stats.kendalltau(a, b).statistic
        for a, b in (
            (data["scores"], mean), (data["scores"], data["sizes"]["params"]), (mean, data["sizes"]["params"])
        )
    )  # fmt: skip
    assert result["tau"]["value"] == pytest.approx(xy)
    assert result["floor"]["params"]["value"] == pytest.approx(ys)
    assert result["size_bias"]["params"]["value"] == pytest.approx(xs)
    assert result["beyond"]["params"]["value"] == pytest.approx(xy - ys)
    low, high = result["floor"]["untrained"]["interval"]
    assert low < 0 < high
    assert set(result["floor"]) == {"params", "untrained", "together"}
    assert [band["n"] for band in result["bands"]["accuracy"]] == [10] * 4
    assert trust(**drawn(36, of_size=0.5, of_score=1))["bands"]["accuracy"] == []


def test_all_candidates_and_networks_as_drawn() -> None:
    """The verdict is on all candidates; a bucket with one network says nothing of its own pairs."""
    generator = np.random.default_rng(0)
    population = 0.5 + 0.1 * generator.normal(size=3000)
    scores = np.sort(generator.permutation(population)[:60])
    result = trust(scores, scores + 0.1 * generator.normal(size=60), population=Population.of(scores, population, 0.05))
    assert result["tau"]["value"] != result["as_drawn"]["kendall"]["value"]
    assert result["population"]["candidates"] == 3000
    assert "of two candidates" in result["verdict"]
    single = Population(np.arange(12), np.full(12, 100), 1200)
    text = trust(range(12), range(12), population=single)["verdict"]
    assert "8% of the pairs of candidates are not in it" in text


def test_a_size_that_ranks_with_the_other_sign_is_compared_with_that_sign() -> None:
    generator = np.random.default_rng(0)
    size, noise = generator.normal(size=(2, 50))
    result = evidence(-size + noise, -size, {"params": size})
    assert result["floor"]["params"]["value"] == -1
    assert result["beyond"]["params"]["value"] == pytest.approx(result["tau"]["value"] - 1)


def test_the_best_of_several_scores_and_those_that_cannot_be_told_from_it() -> None:
    generator = np.random.default_rng(0)
    true, noise, other = generator.normal(size=(3, 40))
    rates = {0.1: true + 0.4 * noise, 0.2: true + 0.42 * noise, 0.3: other, 0.4: np.zeros(40)}
    best = best_of(rates, true)
    assert best is not None
    assert best["best"] == 0.1
    near, far = best["others"]
    assert (near["name"], far["name"]) == (0.2, 0.3)
    assert near["interval"][0] <= 0 < far["interval"][0]
    assert far["value"] == pytest.approx(
        stats.kendalltau(rates[0.1], true).statistic - stats.kendalltau(other, true).statistic
    )
    only = best_of({0.2: rates[0.2], 0.1: rates[0.1]}, true)
    assert only is not None  # the more rates, the wider the intervals
    assert only["others"][0]["interval"][1] < near["interval"][1]
    assert best_of({0.4: np.zeros(40)}, true) is None


def test_regret_and_recall() -> None:
    accuracies = np.arange(20) / 100
    scores = accuracies.copy()
    scores[19], scores[0] = -1.0, 1.0  # the best network has the worst score, the worst the best
    rows = regret(scores, accuracies)
    assert {k: row["value"] for k, row in rows.items()} == pytest.approx({"1": 0.19, "5": 0.01, "10": 0.01})
    assert rows["1"]["interval"] == pytest.approx([0, 0.19])  # a third of the samples are without the bad one
    assert rows["10"]["interval"][1] < 0.1
    assert recall(scores, accuracies) == pytest.approx({"5": 0.8, "10": 0.9, "10 %": 0.5})


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        trust([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="NaN"):
        trust([1, 2, float("nan")], [1, 2, 3])
    with pytest.raises(ValueError, match=r"\[n\] or \[n, R\]"):
        trust([1, 2], np.zeros((2, 2, 2)))


def test_a_measure_that_ranks_better_leaves_no_claim() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=40)
    scores = truth + 0.4 * generator.normal(size=40)
    sizes = {"params": generator.normal(size=40)}
    assert trust(scores, truth, sizes)["finding"] == "predict"
    weak = trust(scores, truth, sizes, measures={"jacov": generator.normal(size=40)})
    assert weak["finding"] == "predict"
    assert weak["given"] == trust(scores, truth, sizes)["given"]
    strong = trust(scores, truth, sizes, measures={"jacov": np.where(truth > truth.min(), truth, -np.inf)})
    assert strong["finding"] == "add"
    assert strong["alone"] == ["jacov"]
    assert "But jacov of the untrained network ranks better, with tau 1.00" in strong["verdict"]
    assert strong["beyond"]["jacov"]["value"] == pytest.approx(strong["tau"]["value"] - 1)


def test_what_a_part_of_a_rank_adds_is_the_fall_of_tau_without_it() -> None:
    generator = np.random.default_rng(1)
    truth, noise = generator.normal(size=30), generator.normal(size=30)
    joint = truth + noise
    parts = what_parts_add(joint, {"noise": truth, "truth": noise}, truth)
    tau = rank_correlation(joint.tolist(), truth.tolist())["kendall"]
    assert parts["noise"]["value"] == pytest.approx(tau - 1)
    assert parts["truth"]["value"] == pytest.approx(tau - rank_correlation(noise.tolist(), truth.tolist())["kendall"])
    assert parts["truth"]["interval"][0] > 0
