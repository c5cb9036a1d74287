"""Candidates and their orders: ranking, bands of size, Pareto fronts, hypervolume."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.space.choices import Architecture


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture with its score and its costs; a row of the table of candidates.

    Attributes:
        architecture: which.
        value: what the task's metric says of the one-shot model on the validation split: more is better. By default
            the share of examples that it classifies right, 0 to 1.
        loss: mean loss on them, by default cross-entropy in nats.
        examples: number of validation examples that it was scored on.
        params, params_without_norm, macs: see `supernet.space.cost.Cost`.
        latency: seconds of a forward pass, where it was measured; see `supernet.search.latency`.
        memory: bytes of a forward pass, where latency was measured.
        deviation: standard error of the accuracy, for the choice of the examples; None where the metric is no share.
        strategy: which strategy asked for it.
        round: in which round, from 0.
        number: from 1, in the order in which candidates were scored first.
        bonus: what its size adds to the value in the ranking; see `SearchConfig.size_bonus`.
        measures: sizes and measures of the untrained network by name, if they were asked for; see
            `SearchConfig.figures`.
        joint: what `SearchConfig.rank` makes of all of these; None if the score alone ranks.
        predicted: the metric of a training from scratch, as learnt from trainings, which it is then ranked by; None
            before `supernet refine`, or where that ranks no better. It is not in the table.
        predicted_deviation: standard deviation of the predicted value.

    Without a one-shot model value and loss are NaN, and there are no examples.
    """

    architecture: Architecture
    value: float
    loss: float
    examples: int
    params: int
    params_without_norm: int
    macs: int
    latency: float | None = None
    memory: int | None = None
    deviation: float | None = None
    strategy: str = "random"
    round: int = 0
    number: int = 0
    bonus: float = 0.0
    measures: tuple[tuple[str, float], ...] = ()
    joint: float | None = None
    predicted: float | None = None
    predicted_deviation: float | None = None

    @property
    def score(self) -> float:
        """What it is ranked by: its joint rank, or value and bonus."""
        return self.value + self.bonus if self.joint is None else self.joint

    @property
    def parts(self) -> dict[str, float]:
        """What a joint rank is made of."""
        return {"score": self.value, **dict(self.measures)}


OBJECTIVES = ("score", "params", "params_without_norm", "macs", "latency", "memory")
"""What can be sought: more of the first, less of the others."""


T = TypeVar("T")


def standing(candidate: Candidate) -> tuple[float, ...]:
    """Sorts candidates, the best first: by what is predicted; or by the number of examples, then score, then loss."""
    if candidate.predicted is not None:
        return (-candidate.predicted,)
    return -candidate.examples, -candidate.score, 0.0 if math.isnan(candidate.loss) else candidate.loss


def bands(candidates: Sequence[T], number: int, size: Callable[[T], float]) -> list[list[T]]:
    """Candidates, or their architectures, in bands of size, as equal in number as may be, the smallest first.

    A one-shot model favours large networks; within a band there is little size to favour.
    """
    order = sorted(candidates, key=size)
    edges = [round(i * len(order) / number) for i in range(number + 1)]
    return [order[a:b] for a, b in itertools.pairwise(edges) if b > a]


def objectives_of(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...]:
    """What a candidate is worth in each objective; more is better, so costs are negative. The bonus for size is in the
    score; so is the joint rank.

    Raises:
        ValueError: a cost that was not measured.
    """
    found = []
    for name in objectives:
        value = candidate.score if name == "score" else getattr(candidate, name)
        if value is None:
            raise ValueError(f"objectives: {name} was not measured in this search: name it in search.objectives")
        found.append(float(value) if name == "score" else -float(value))
    return tuple(found)


def front(values_NM: ArrayLike) -> list[int]:
    """The Pareto front: points to which no other is at least as good in every objective.

    Args:
        values_NM: N points in M objectives, more is better; of equal points the first counts.

    Returns:
        Indices, in order of the first objective, the best first.
    """
    values = np.asarray(values_NM, float)
    if values.ndim != 2 or not len(values):
        return []
    order = np.lexsort((np.arange(len(values)), *(-values.T[::-1])))  # by the first objective, then the next
    kept: list[int] = []
    for index in order:  # a point that dominates it comes before it
        if not kept or not (values[kept] >= values[index]).all(1).any():
            kept.append(int(index))
    return kept


def hypervolume(values_NM: ArrayLike, reference_M: ArrayLike) -> float:
    """The volume between points and a reference point that they beat: more is better in every objective.

    Exact, by slices along the last objective: fit for fronts of some hundred points in up to four objectives.
    """
    values, reference = np.asarray(values_NM, float), np.asarray(reference_M, float)
    values = values.reshape(-1, len(reference))
    values = values[(values > reference).all(1)] - reference
    return _volume(values[front(values)])


def _volume(values: NDArray[np.float64]) -> float:
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max())
    if values.shape[1] == 2:
        order = values[np.argsort(-values[:, 0])]
        reached = np.maximum.accumulate(order[:, 1])
        return float((order[:, 0] * np.diff(reached, prepend=0.0)).sum())
    order = values[np.argsort(-values[:, -1])]
    below = [*order[1:, -1], 0.0]
    total = 0.0
    for i, level in enumerate(order[:, -1]):
        if level > below[i]:
            slice_ = order[: i + 1, :-1]
            total += (level - below[i]) * _volume(slice_[front(slice_)])
    return float(total)


def volume_of(values_NM: ArrayLike) -> float:
    """The hypervolume as a share of the box between the worst and the best value of each objective, 0 to 1.

    A front of this shape is better the nearer it comes to 1. It only compares points of one and the same search.
    """
    values = np.asarray(values_NM, float)
    low, high = values.min(0), values.max(0)
    span = np.where(high > low, high - low, 1.0)
    scaled = np.where(high > low, (values - low) / span, 1.0)
    return hypervolume(scaled, np.zeros(values.shape[1]))


def spread(values_NM: ArrayLike, number: int) -> list[int]:
    """Points of a front, as far from each other as may be: the best in each objective first.

    Then, again and again, the point that is farthest from those already taken, each objective scaled to its range.
    """
    values = np.asarray(values_NM, float)
    if not len(values):
        return []
    low, high = values.min(0), values.max(0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    taken = list(dict.fromkeys(int(i) for i in scaled.argmax(0)))[:number]
    while len(taken) < min(number, len(values)):
        distance = ((scaled[:, None] - scaled[taken]) ** 2).sum(2).min(1)
        distance[taken] = -1
        taken.append(int(distance.argmax()))
    return taken


def within(candidates: Sequence[Candidate], bounds: Mapping[str, tuple[float, float]]) -> list[Candidate]:
    """Candidates within limits; see `supernet.search.limits.LimitsConfig.bounds`.

    Raises:
        ValueError: a cost that was not measured, or no candidate is within them; the message names the smallest there
        are.
    """
    for cost in bounds:
        if any(getattr(c, cost) is None for c in candidates):
            raise ValueError(f"{cost} was not measured in this search: a limit or an objective has to ask for it there")
    inside = [c for c in candidates if all(low <= getattr(c, cost) <= high for cost, (low, high) in bounds.items())]
    if candidates and not inside:
        ends = ", ".join(
            f"{cost} from {min(values):,.6g} to {max(values):,.6g}"
            for cost in bounds
            if (values := [getattr(c, cost) for c in candidates])
        )
        raise ValueError(f"none of the {len(candidates):,} candidates is within these limits; they have {ends}")
    return inside


def best(candidates: Sequence[Candidate], number: int, in_bands: int = 1) -> list[list[Candidate]]:
    """The best in each band of size (params), the best first."""
    return [sorted(band, key=standing)[:number] for band in bands(candidates, in_bands, lambda c: c.params)]


def on_most(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that were scored on most examples, in the same order; all others have lost a race."""
    most = max((c.examples for c in candidates), default=0)
    return [c for c in candidates if c.examples == most]


def pareto(candidates: Sequence[Candidate], objectives: Sequence[str]) -> tuple[list[Candidate], float]:
    """The Pareto front of those that were scored on most examples, and its hypervolume as `volume_of` has it.

    A score on few examples, from which a race was lost, may be high by chance.

    Raises:
        ValueError: there are no candidates, or a cost was not measured.
    """
    if not candidates:
        raise ValueError("the Pareto front is empty: there are no candidates")
    whole = on_most(candidates)
    values = [objectives_of(c, objectives) for c in whole]
    return [whole[i] for i in front(values)], volume_of(values)
