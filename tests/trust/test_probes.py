"""The parts of `supernet analyze` that are functions of numbers and architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from supernet.space.choices import Architecture, Choice, Space
from supernet.trust.correlation import paper_points
from supernet.trust.probes import (
    AnalysisConfig,
    TrainingFacts,
    bucket_width,
    diagnose,
    differences,
    option_worth,
    strata,
    without,
)
from tests.spaces_for_tests import nested, tiny_bender

GENERATOR = torch.Generator()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 4), st.integers(0, 9))
def test_strata_draw_evenly_over_the_score(scores: list[float], per_bucket: int, seed: int) -> None:
    drawn = strata(scores, 0.1, per_bucket, generator=GENERATOR.manual_seed(seed))
    assert len(set(drawn)) == len(drawn)
    buckets = [int(score / 0.1 + 1e-9) for score in scores]
    for bucket in set(buckets):
        assert sum(buckets[i] == bucket for i in drawn) == min(per_bucket, buckets.count(bucket))


def test_every_member_of_a_bucket_is_drawn_alike() -> None:
    counts = np.zeros(6)
    for seed in range(600):
        counts[strata([0.11] * 6, 0.05, 2, generator=GENERATOR.manual_seed(seed))] += 1
    assert stats.chisquare(counts).pvalue > 1e-6


def test_buckets_of_accuracies_are_the_papers() -> None:
    assert bucket_width([0.1, 0.9], None, are_accuracies=True) == 0.05
    assert bucket_width([-13.0, 0.0], None, are_accuracies=False) == 1
    assert bucket_width([2.0, 2.0], None, are_accuracies=False) > 0
    assert bucket_width([0.1, 0.9], 0.2, are_accuracies=True) == 0.2
    scores = np.array(paper_points()["figure5"])[:, 0]
    assert len(np.unique(np.floor(scores / 0.05 + 1e-9))) == 13


SPACE: Space = tiny_bender()


@given(st.integers(0, 99))
def test_one_option_less(seed: int) -> None:
    generator = GENERATOR.manual_seed(seed)
    whole = SPACE.sample(generator=generator)
    for choice in SPACE.choices:
        for option in choice.options:
            less = without(SPACE, whole, choice, option, generator=generator)
            picked = dict(whole.picks)[choice.name]
            if option not in picked:
                assert less is None
                continue
            assert less is not None
            SPACE.parse(str(less))  # a member of the space
            left = dict(less.picks)[choice.name]
            assert option not in left
            assert len(left) == max(1, len(picked) - 1)
            assert [pair for pair in less.picks if pair[0] != choice.name] == [
                pair for pair in whole.picks if pair[0] != choice.name
            ]


def test_what_holds_other_choices_is_left_alone() -> None:
    space = nested()
    parents = {choice.inside[0] for choice in space.choices if choice.inside is not None}
    whole = space.sample(generator=GENERATOR.manual_seed(0))
    holding = [choice for choice in space.choices if choice.name in parents]
    assert holding
    for choice in holding:
        assert all(without(space, whole, choice, o, generator=GENERATOR) is None for o in choice.options)


def test_an_option_is_worth_what_the_score_loses() -> None:
    """The score is a sum of known worths, so removing an option costs its worth."""
    space = Space("known", (Choice("a", ("x", "y", "z"), 3), Choice("b", ("u", "v"), 2)), network=nn.Identity)
    worth = {"x": 0.1, "y": 0.2, "z": 0.3, "u": 0.0, "v": -0.1}

    def scores(architectures: Sequence[Architecture]) -> list[float]:
        return [sum(worth[option] for _, options in a.picks for option in options) for a in architectures]

    pairs = [a for a in space if all(len(options) > 1 for _, options in a.picks)]
    rows = option_worth(space, pairs, scores, generator=GENERATOR.manual_seed(0))
    assert [row["option"] for row in rows] == ["x", "y", "z", "u", "v"]
    for row in rows:
        assert row["everything_on"] == pytest.approx(worth[row["option"]])
        assert row["candidates"] == pytest.approx(worth[row["option"]])
        assert row["number"] > 0


def test_groups_are_compared_by_welchs_test() -> None:
    generator = np.random.default_rng(0)
    top, random = generator.normal(0.95, 0.01, 10), generator.normal(0.93, 0.03, 8)
    (row,) = differences({"Top": top.tolist(), "Random": random.tolist(), "All On": [0.9]})
    assert row["groups"] == ["Top", "Random"]
    assert row["networks"] == [10, 8]
    assert row["p"] == pytest.approx(stats.ttest_ind(top, random, equal_var=False).pvalue)
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert differences({"a": [0.5, 0.5], "b": [0.5, 0.5]})[0]["p"] is None


GOOD = TrainingFacts(
    scores=np.random.default_rng(0).normal(0.8, 0.03, 500),
    everything_on=0.9,
    chance=0.1,
    examples=1000,
    sizes=np.random.default_rng(1).normal(size=500),
    ghosts=8,
    losses=[2.0, 1.5, 1.2, 1.1, 1.0, 0.95, 0.92, 0.91, 0.905, 0.9],
)


def found_in(facts: TrainingFacts) -> list[str]:
    return [row["name"] for row in diagnose(facts) if row["found"]]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"scores": np.random.default_rng(0).normal(0.1, 0.005, 500), "everything_on": 0.12}, "chance level"),
        ({"scores": np.random.default_rng(0).beta(1, 12, 500) * 0.8 + 0.1}, "co-adaptation"),
        ({"sizes": -GOOD.scores}, "collapse to skip connections"),
        ({"ghosts": 2}, "few ghost batches"),
        ({"losses": [2.0 * 0.9**i for i in range(10)]}, "unconverged"),
    ],
)
def test_each_trouble_is_found_by_its_rule(changes: dict[str, Any], name: str) -> None:
    assert found_in(GOOD) == []
    assert found_in(replace(GOOD, **changes)) == [name]


def test_the_papers_snout_is_co_adaptation_and_its_main_model_is_sound() -> None:
    """Fig 4 left, r = 1e-6, and Fig 5; how everything-on scores is not in the paper, 0.9 is taken for both."""
    points = paper_points()
    snout, sound = (np.array(points["figure4"]["1e-6"])[:, 0], np.array(points["figure5"])[:, 0])
    sizes = GOOD.sizes[:51]
    assert found_in(replace(GOOD, scores=snout, sizes=sizes)) == ["co-adaptation"]
    assert found_in(replace(GOOD, scores=sound, sizes=sizes[:50])) == []


@pytest.mark.parametrize("values", [{"per_bucket": 0}, {"bucket": 0.0}, {"repeats": 0}, {"snapshots": -1}])
def test_bad_settings(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(values))}: expected"):
        AnalysisConfig(**values)
