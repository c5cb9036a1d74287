"""The noise of accuracies: what it hides, and how many trainings see through it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from supernet.trust.noise import (
    ceiling,
    corrected,
    designs,
    highest_tau,
    networks_needed,
    repeatability,
    repeats_of_mean,
    score_noise,
)
from supernet.trust.ranks import estimate, leave_one_out


def test_the_ceiling_is_what_the_true_quality_reaches() -> None:
    """4,000 networks with a reliability of 0.7: two repeats agree with tau 0.49, quality and their mean with 0.73."""
    generator = np.random.default_rng(0)
    quality = generator.normal(size=4000)
    repeats = quality[:, None] + math.sqrt(0.3 / 0.7) * generator.normal(size=(4000, 2))
    highest = ceiling(repeats)
    assert highest is not None
    assert highest["repeatability"]["value"] == pytest.approx(0.49, abs=0.02)
    assert highest["value"] == pytest.approx(stats.kendalltau(quality, repeats.mean(1)).statistic, abs=0.02)
    assert highest["value"] == pytest.approx(0.72, abs=0.02)
    low, high = highest["interval"]
    assert low < highest["value"] < high
    assert highest_tau(0.49, 2) == pytest.approx(0.722, abs=0.001)
    assert highest_tau(-0.1, 2) == 0
    assert ceiling(repeats[:, :1]) is None and ceiling(repeats[:, 0]) is None


def test_missing_repeats_are_left_out() -> None:
    generator = np.random.default_rng(1)
    repeats = generator.normal(size=(40, 1)) + 0.5 * generator.normal(size=(40, 3))
    repeats[::2, 2] = np.nan
    assert repeats_of_mean(repeats) == pytest.approx(1 / np.mean([1 / 2, 1 / 3]))
    odd = repeats[1::2]
    columns = [(repeats[:, 0], repeats[:, 1]), (odd[:, 0], odd[:, 2]), (odd[:, 1], odd[:, 2])]
    taus = [stats.kendalltau(first, second).statistic for first, second in columns]
    tau = repeatability(repeats)
    assert tau is not None
    assert tau["value"] == pytest.approx(np.average(taus, weights=[40, 20, 20]))


def test_without_noise_tau_is_what_it_is_with_accuracies_without_noise() -> None:
    generator = np.random.default_rng(2)
    quality = generator.normal(size=3000)
    scores = quality + generator.normal(size=3000)
    repeats = quality[:, None] + generator.normal(size=(3000, 2))
    true = corrected(estimate(leave_one_out(scores, repeats.mean(1))), ceiling(repeats))
    assert true is not None
    assert true["value"] == pytest.approx(stats.kendalltau(scores, quality).statistic, abs=0.03)
    assert true["interval"][0] < true["value"] < true["interval"][1]
    assert corrected({"value": 0.1, "interval": [-0.1, 0.3]}, None) is None


def test_the_corrected_interval_holds_the_truth_as_often_as_it_says() -> None:
    """300 draws of 25 networks with two repeats."""
    generator = np.random.default_rng(3)
    true = 2 / math.pi * math.asin(1 / math.sqrt(2))
    held = 0
    for _ in range(300):
        quality, blur = generator.normal(size=(2, 25))
        repeats = quality[:, None] + 0.8 * generator.normal(size=(25, 2))
        row = corrected(estimate(leave_one_out(quality + blur, repeats.mean(1))), ceiling(repeats))
        assert row is not None
        held += row["interval"][0] <= true <= row["interval"][1]
    assert held / 300 >= 0.95


def test_accuracies_that_are_all_noise_say_nothing() -> None:
    row = corrected({"value": 0.1, "interval": [-0.2, 0.4]}, {"value": 0.1, "interval": [0.0, 0.3]})
    assert row is not None
    assert row["interval"] == [-1, 1]


@pytest.mark.parametrize("tau", [0.2, 0.5])
def test_the_networks_that_are_asked_for_suffice(tau: float) -> None:
    """In about 80 % of 500 draws the test by the normal distribution finds tau, with as many as are said to do."""
    number = networks_needed(tau)
    assert number is not None
    generator, rho = np.random.default_rng(4), math.sin(math.pi * tau / 2)
    hits = 0
    for _ in range(500):
        x, noise = generator.normal(size=(2, number))
        test = stats.kendalltau(x, rho * x + math.sqrt(1 - rho**2) * noise, alternative="greater", method="asymptotic")
        hits += test.pvalue <= 0.025
    assert 0.75 <= hits / 500 <= 0.95
    assert (networks_needed(tau, 2.0) or 0) > 3 * number
    assert networks_needed(1e-3) is None


def test_noisier_trainings_ask_for_more() -> None:
    clear, noisy = designs(0.8, 0.5, (1, 2, 5)), designs(0.2, 0.5, (1, 2, 5))
    assert all(a["networks"] < b["networks"] for a, b in zip(clear, noisy, strict=True))
    assert [row["trainings"] for row in noisy] == [row["repeats"] * row["networks"] for row in noisy]
    assert noisy[0]["networks"] > noisy[1]["networks"] > noisy[2]["networks"]
    assert designs(0.0, 0.5, (1,))[0]["networks"] is None


def test_score_noise_is_the_effect_of_other_examples() -> None:
    """Two candidates, right with known chances on each image: the deviation over many draws of the images."""
    generator = np.random.default_rng(0)
    chances = generator.uniform(size=(2, 400))
    images = generator.integers(0, 400, (3000, 100))
    right = generator.uniform(size=(2, 3000, 100)) < chances[:, images]
    noise = np.mean([score_noise(right[:, i]) for i in range(200)])
    assert noise == pytest.approx(1.96 * (right[0] * 1.0 - right[1]).mean(1).std(), rel=0.05)
