"""What a verdict says, and how often it is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from supernet.trust.correlation import evidence, trust
from supernet.trust.verdict import finding

Rows = np.ndarray


def drawn(n: int, seed: int = 1) -> tuple[Rows, Rows, Rows]:
    """Size, quality and noise of networks."""
    size, quality, noise = np.random.default_rng(seed).normal(size=(3, n))
    return size, quality, noise


def of(scores: Any, accuracies: Any, sizes: Any = None, **more: Any) -> str:
    return finding(evidence(scores, accuracies, sizes, **more))


def twice(accuracies: Rows, noise: float, seed: int = 5) -> Rows:
    """Two repeats."""
    return accuracies[:, None] + noise * np.random.default_rng(seed).normal(size=(len(accuracies), 2))


def test_scores_that_see_quality_predict() -> None:
    size, quality, noise = drawn(40)
    assert of(quality + 0.5 * size, quality + 0.5 * size + 0.3 * noise, {"params": size, "macs": size + noise}) == (
        "predict"
    )
    text = trust(quality, quality + 0.3 * noise, {"params": size})["verdict"]
    assert text.startswith("Scores predict: of two networks, the one with the better score is the better one in ")


@pytest.mark.parametrize("sign", [-1, 1])
def test_size_is_no_merit_of_the_scores(sign: int) -> None:
    size, quality, noise = drawn(60)
    assert of(sign * size, sign * size + 0.3 * noise, {"params": size}) == "no more"
    assert of(sign * size + 0.3 * quality, sign * size + 0.3 * noise, {"params": size}) == "no more"
    text = trust(sign * size, sign * size + 0.3 * noise, {"params": size})["verdict"]
    assert text.startswith("These scores say no more than size, or no training, does: ")


def test_two_sizes_may_explain_what_each_alone_does_not() -> None:
    first, second, noise = drawn(60)
    scores, accuracies = first - second, first - second + 0.5 * noise
    assert of(scores, accuracies, {"params": first}) == of(scores, accuracies, {"macs": second}) == "predict"
    assert of(scores, accuracies, {"params": first, "macs": second}) == "no more"


def test_a_model_without_training_is_no_merit_either() -> None:
    _, quality, noise = drawn(40)
    accuracies = quality + 0.3 * noise
    assert of(quality, accuracies, untrained=quality) == "no more"
    assert of(quality, accuracies, untrained=np.exp(quality)) == "no more"
    assert of(quality, accuracies, untrained=np.random.default_rng(9).normal(size=40)) == "predict"


def test_scores_that_add_something_but_rank_worse_than_size() -> None:
    size, quality, noise = drawn(100)
    assert of(quality, size + 0.6 * quality + 0.2 * noise, {"params": size}) == "add"
    text = trust(quality, size + 0.6 * quality + 0.2 * noise, {"params": size})["verdict"]
    assert "But params alone ranks better" in text


def test_ties_do_not_fool_it() -> None:
    accuracies = [0.1] * 11 + [0.5]
    assert of(np.arange(12.0), accuracies) == "cannot tell"
    assert "no interval: one network decides it" in trust(np.arange(12.0), accuracies)["verdict"]


def test_bad_scores_and_accuracies_that_cannot_tell_differ() -> None:
    quality, scores, _ = drawn(40, seed=3)
    assert of(scores, twice(quality, 0.2)) == "bad"
    assert of(scores, twice(quality, 3.0)) == "cannot tell"
    assert of(scores, quality) == "cannot tell"  # one training each: who knows
    text = trust(scores, twice(quality, 1.2, seed=13))["verdict"]
    assert text.startswith("No evidence that scores predict, but the accuracies cannot tell: ")
    assert "To show a true tau of 0.5, about " in text
    assert "train longer" in trust(scores, twice(quality, 100, seed=7))["verdict"]
    assert "trained once, so the noise of its accuracy is unknown" in trust(scores, quality)["verdict"]


def test_other_verdicts() -> None:
    assert trust(range(9), range(9))["verdict"].startswith("No verdict: 9 networks are too few")
    assert trust([1] * 20, range(20))["verdict"].startswith("No verdict: all scores")
    assert trust(range(20), range(20, 0, -1))["verdict"].startswith("Scores mislead: ")
    assert trust(range(20), range(20), noise=0.0123)["verdict"].endswith(
        "Differences under 1.2 points of score are noise."
    )
