"""Sentences about a run that has gone wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from supernet.trust.advice import advice

CLASSES = ("cat", "dog")
COUNTS = {"train": [600, 200], "validation": [150, 50]}


def result(winner: float, all_on: float = 0.5, loss: float = 0.2) -> dict[str, Any]:
    networks = [
        {"id": "a", "rank": 1, "validation": [winner], "score_loss": loss},
        {"id": "b", "validation": [all_on], "score_loss": 9.0},
    ]
    return {"metric": "accuracy", "networks": networks, "groups": {"All On": {"members": ["b"]}}}


def curve(rate: float, noise: float = 0.0, seed: int = 0) -> list[dict[str, float]]:
    """A loss that falls as fast as this to 0."""
    drawn = np.random.default_rng(seed).normal(0, noise, 100)
    return [{"loss": 2.3 * math.exp(-rate * step / 100) + drawn[step]} for step in range(100)]


def test_nothing_is_said_of_a_good_run() -> None:
    assert advice(result(0.95), [curve(30), curve(20)], CLASSES, COUNTS) == []


@pytest.mark.parametrize(("winner", "said"), [(0.5, True), (0.75, True), (0.84, True), (0.85, False)])
def test_near_chance_is_three_standard_errors_above_the_largest_class(winner: float, said: bool) -> None:
    lines = advice(result(winner), [], CLASSES, COUNTS)  # 0.75 + 3 * sqrt(0.75 * 0.25 / 200) = 0.842
    assert any("near chance" in line and "75.0%" in line and "--hours" in line for line in lines) is said


def test_scores_as_bad_as_guessing_are_worth_nothing() -> None:
    guessing = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert any("Scores are near chance" in line for line in advice(result(0.95, loss=guessing), [], CLASSES, COUNTS))
    assert not advice(result(0.95, loss=0.9 * guessing), [], CLASSES, COUNTS)
    assert not advice(result(0.95, loss=guessing), [], CLASSES, COUNTS, "focal.py:loss")  # guessing is not known there
    assert not advice({**result(0.95, loss=guessing), "score": "kl"}, [], CLASSES, COUNTS)


def test_everything_on_that_is_better_says_what_to_do() -> None:
    (line,) = advice(result(0.9, all_on=0.95), [], CLASSES, COUNTS)
    assert line.startswith("All On is better than the winner") and "Raise the limits" in line


def test_a_training_that_learns_still_is_told_from_one_that_ended_flat_and_from_noise() -> None:
    assert any("learn still" in line for line in advice(result(0.9), [curve(2)], CLASSES, COUNTS))
    assert advice(result(0.9), [curve(30)], CLASSES, COUNTS) == []
    assert advice(result(0.9), [curve(8, noise=1.0, seed=seed) for seed in range(3)], CLASSES, COUNTS) == []
    assert advice(result(0.9), [curve(2)[:10]], CLASSES, COUNTS) == []  # too short to say


def test_a_small_class_is_named() -> None:
    (line,) = advice(result(0.95), [], CLASSES, {"train": [600, 49], "validation": [150, 50]})
    assert "'dog' has 49 training examples" in line


def test_other_metrics_are_not_compared_with_chance() -> None:
    other = {**result(0.1), "metric": "r2"}
    assert advice({**other, "groups": {}}, [], (), {"train": [], "validation": []}) == []
