"""The parts of `supernet analyze`, as functions of numbers and architectures.

Networks are drawn evenly over the score and trained from scratch on a short schedule; their accuracies show whether the
score predicts. Further parts say what each option is worth, whether groups differ, and what may be wrong.

References:
    Bender et al., ICML 2018, section 4 (figures 4, 5, Table 1) and section 5 (figures 6, 7).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from supernet.space.choices import Architecture, Choice, Space
from supernet.train.fit import TrainConfig
from supernet.trust.ranks import buckets

Scores = Callable[[Sequence[Architecture]], list[float]]
"""Scores architectures with the one-shot model."""


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """How `supernet analyze` measures how far the scores can be trusted."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=28, batch_size=64, ghost_size=32))
    """The short training of each network drawn (paper: 28 epochs)."""

    per_bucket: int = 4
    """Networks drawn from each bucket of the score (paper, section 4)."""

    bucket: float | None = None
    """Width of a bucket. None: 0.05 if scores are accuracies (the spacing of the paper's Fig 5), otherwise a thirteenth
    of their range."""

    repeats: int = 2
    """Trainings of each with different seeds (paper: 5)."""

    snapshots: int = 12
    """Times at which the training of the one-shot model saves its weights, besides its first step, for the course of
    the divergence (paper, Fig 7); 0 for none."""

    removals: int = 20
    """Candidates from which each option is removed, to measure what it is worth."""

    sweep_steps: int | None = None
    """Steps of the one-shot model at each rate of `--sweep` (paper, Fig 4: 5,000, half of those of its main model).
    None: as many as `train` has."""

    def __post_init__(self) -> None:
        for name, least in (("per_bucket", 1), ("repeats", 1), ("snapshots", 0), ("removals", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.sweep_steps is not None and self.sweep_steps < 1:
            raise ValueError(f"sweep_steps: expected at least 1, got {self.sweep_steps}")
        if self.bucket is not None and self.bucket <= 0:
            raise ValueError(f"bucket: expected to be above 0, got {self.bucket}")


def bucket_width(scores: ArrayLike, setting: float | None, *, are_accuracies: bool) -> float:
    """The width of the buckets of the score; see `AnalysisConfig.bucket`."""
    if setting is not None:
        return setting
    scores = np.asarray(scores, float)
    return 0.05 if are_accuracies else float(scores.max() - scores.min()) / 13 or 1.0


def strata(scores: ArrayLike, bucket: float, per_bucket: int, *, generator: torch.Generator) -> list[int]:
    """Draws candidates evenly over the score (paper, section 4).

    Args:
        scores: of all candidates, [n].
        bucket: width of the buckets; see `supernet.trust.ranks.buckets`.
        per_bucket: number drawn from each; all of a bucket if it has no more.
        generator: of the draws.

    Returns:
        Indices, in order of the buckets.
    """
    place = buckets(scores, bucket)
    drawn: list[int] = []
    for value in np.unique(place):
        members = np.flatnonzero(place == value)
        chosen = torch.randperm(len(members), generator=generator)[:per_bucket]
        drawn += sorted(members[chosen.numpy()].tolist())
    return drawn


def without(
    space: Space, architecture: Architecture, choice: Choice, option: str, *, generator: torch.Generator
) -> Architecture | None:
    """The architecture without one of its options.

    If the choice has no other option picked, one drawn at random takes its place: without any, the effect measured
    would be that of a missing layer and not of the option.

    Returns:
        None if the architecture does not pick the option, if other choices are nested in this one, or if a rule forbids
        what is left.
    """
    picks = dict(architecture.picks)
    nested = any(other.inside is not None and other.inside[0] == choice.name for other in space.choices)
    if nested or option not in picks.get(choice.name, ()):
        return None
    left = tuple(other for other in picks[choice.name] if other != option)
    if not left:
        others = [other for other in choice.options if other != option]
        if not others:
            return None
        left = (others[int(torch.randint(len(others), (1,), generator=generator))],)
    other = Architecture(tuple((name, left if name == choice.name else picked) for name, picked in architecture.picks))
    return other if space.allows(other) else None


def option_worth(
    space: Space, candidates: Sequence[Architecture], scores: Scores, *, generator: torch.Generator
) -> list[dict[str, Any]]:
    """What each option is worth: by how much the score falls without it; see `without`.

    Args:
        space: the space.
        candidates: architectures from which options are removed, besides everything-on.
        scores: scores architectures with the one-shot model.
        generator: draws the options that take another's place.

    Returns:
        For each option `choice`, `option`, `everything_on` (the fall; None if it cannot be removed), `candidates` (the
        mean fall; None if no candidate picks it) and `number`, the number of candidates that pick it.
    """
    full = space.everything_on()
    removals = {
        (choice.name, option): [
            (whole, less)
            for whole in (full, *candidates)
            if (less := without(space, whole, choice, option, generator=generator)) is not None
        ]
        for choice in space.choices
        for option in choice.options
    }
    distinct = list(dict.fromkeys([full, *candidates, *(less for pairs in removals.values() for _, less in pairs)]))
    score_of = dict(zip(distinct, scores(distinct), strict=True))
    rows = []
    for (choice_name, option), pairs in removals.items():
        falls = [score_of[whole] - score_of[less] for whole, less in pairs if whole != full]
        falls_of_full = [score_of[full] - score_of[less] for whole, less in pairs if whole == full]
        rows.append(
            {
                "choice": choice_name,
                "option": option,
                "everything_on": falls_of_full[0] if falls_of_full else None,
                "candidates": float(np.mean(falls)) if falls else None,
                "number": len(falls),
            }
        )
    return rows


def differences(groups: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Whether groups of networks differ (paper, Table 1): Welch's test of each pair.

    Args:
        groups: for each group the accuracy of each network, the mean if it was trained several times.

    Returns:
        For each pair of groups with at least two networks: `groups`, `networks` in each, `difference` of the means,
        its 95 % confidence `interval`, and `p`; the last two are None if neither group varies.
    """
    from scipy import stats

    rows = []
    large = {name: np.asarray(values, float) for name, values in groups.items() if len(values) >= 2}
    names = list(large)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = large[first], large[second]
            row: dict[str, Any] = {
                "groups": [first, second], "networks": [len(a), len(b)], "difference": float(a.mean() - b.mean()),
                "interval": None, "p": None,
            }  # fmt: skip
            if np.ptp(a) + np.ptp(b) > 0:
                with warnings.catch_warnings():  # that a group does not vary is no fault of the numbers
                    warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
                    test = stats.ttest_ind(a, b, equal_var=False)
                interval = test.confidence_interval(0.95)
                row |= {"interval": [float(interval.low), float(interval.high)], "p": float(test.pvalue)}
            rows.append(row)
    return rows


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The numbers that `diagnose` reads.

    Attributes:
        scores: of all candidates, which are accuracies, [n].
        everything_on: the score of everything-on.
        chance: the accuracy of guessing.
        examples: number of examples that the scores were taken on.
        sizes: parameters of the candidates, [n].
        ghosts: ghost batches in a step of the one-shot model's training.
        losses: of that training, in order, at equal distances.
    """

    scores: NDArray[np.float64]
    everything_on: float
    chance: float
    examples: int
    sizes: NDArray[np.float64]
    ghosts: int
    losses: Sequence[float]


def diagnose(facts: TrainingFacts) -> list[dict[str, Any]]:
    """What may be wrong with a one-shot model, by rules that are ours.

    Returns:
        For each rule `name`, `found` (whether it applies), `rule` in words, the `value` that it compares with `limit`,
        and `advice`.
    """
    from scipy import stats

    scores, chance = facts.scores, facts.chance
    deviation = math.sqrt(chance * (1 - chance) / facts.examples)
    median, best = float(np.median(scores)), float(np.quantile(scores, 0.99))
    above = median - chance
    share = above / (facts.everything_on - chance) if facts.everything_on > chance + 2 * deviation else math.nan
    bias = float(stats.kendalltau(facts.sizes, scores).statistic) if len(set(facts.sizes)) > 1 else math.nan
    tenth = max(1, len(facts.losses) // 10)
    late, before = facts.losses[-tenth:], facts.losses[-2 * tenth : -tenth]
    falling = 1 - float(np.mean(late)) / float(np.mean(before)) if before and np.mean(before) > 0 else math.nan

    def rule(name: str, found: bool, text: str, value: float, limit: float, advice: str) -> dict[str, Any]:
        return {
            "name": name, "found": bool(found), "rule": text, "value": None if math.isnan(value) else value,
            "limit": limit, "advice": advice,
        }  # fmt: skip

    limit = chance + 4 * deviation
    return [
        rule(
            "chance level", best <= limit,
            "the best hundredth of the candidates scores within 4 standard deviations of guessing", best, limit,
            "train the one-shot model longer, or lower paths.rate",
        ),
        rule(
            "co-adaptation", share < 0.35 and float(stats.skew(scores)) > 0.5,
            "the median candidate keeps less than 35 % of what everything-on has above guessing, and few keep much "
            "more (skewness above 0.5): the snout of the paper's Fig 4, left", share, 0.35,
            "raise paths.rate, so that options learn to work without each other",
        ),
        rule(
            "collapse to skip connections", bias < -0.2,
            "Kendall's tau of parameters and score is below -0.2: the smaller, the better", bias, -0.2,
            "train longer: options with weights have not learnt enough yet to beat those without weights",
        ),
        rule(
            "few ghost batches", facts.ghosts < 4, "fewer than 4 ghost batches in a step", facts.ghosts, 4,
            "raise train.batch_size, so that a step averages over more paths",
        ),
        rule(
            "unconverged", falling > 0.05,
            "the mean loss of the last tenth of training is more than 5 % below the tenth before", falling, 0.05,
            "raise train.epochs",
        ),
    ]  # fmt: skip
