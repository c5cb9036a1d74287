"""How far scores can be trusted, as functions of numbers.

References:
    Bender et al., ICML 2018, figures 4 to 6. All but the correlation of two rankings is ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.trust.beyond import chance, explained, given, partial
from supernet.trust.noise import ceiling, corrected, designs, spread_of
from supernet.trust.ranks import (
    Numbers,
    Population,
    bootstrap,
    estimate,
    leave_one_out,
    points,
    spearman,
)
from supernet.trust.verdict import FEW, USEFUL, finding, verdict

_TOPS = (1, 5, 10)
"""Numbers of networks with the best scores for which regret and recall are given."""

_BANDS = 4
"""Parts of equal number, by accuracy or by size, inside which the agreement is given."""

_REPEATS = (1, 2, 3, 4, 5)
"""Numbers of trainings of each network for which it is said how many networks would tell."""


def paper_points() -> dict[str, Any]:
    """The points of the paper's figures 4 to 7, read from its drawings; `source` says what they are."""
    text = files("supernet.trust").joinpath("paper_points.json").read_text(encoding="utf-8")
    drawn: dict[str, Any] = json.loads(text)
    return drawn


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, Any]:
    """The agreement of two rankings.

    Args:
        scores: one-shot scores, of any scale.
        accuracies: stand-alone accuracies of the same architectures.

    Returns:
        `n`, and `spearman` and `kendall` (tau-b) from -1 to 1; None if they are not defined, that is for fewer than
        3 architectures or if all values are equal. `kendall_interval`: [lowest, highest] with 95 % confidence, see
        `supernet.trust.ranks.estimate`.

    Raises:
        ValueError: the lengths differ.
    """
    if len(scores) != len(accuracies):
        raise ValueError(f"expected as many accuracies as scores, got {len(accuracies)} and {len(scores)}")
    n = len(scores)
    if n < 3:
        return {"n": n, "spearman": None, "kendall": None, "kendall_interval": None}
    tau = estimate(leave_one_out(scores, accuracies))
    rho = float(spearman(scores, accuracies))
    return {
        "n": n,
        "spearman": None if math.isnan(rho) else rho,
        "kendall": tau["value"],
        "kendall_interval": tau["interval"],
    }


def best_of(rankings: Mapping[Any, ArrayLike], accuracies: ArrayLike) -> dict[str, Any] | None:
    """Which of several scores of the same networks agrees best with accuracies, and which cannot be told from it.

    Args:
        rankings: scores by name, each [n].
        accuracies: [n].

    Returns:
        `best`, the name; `others`, for each other one `name` and by how much its tau is lower, as `value` and
        `interval`: of 95 % confidence for all of them together (Bonferroni), since the best was chosen among them.
        None if no tau is defined.
    """
    taus = {name: leave_one_out(scores, accuracies) for name, scores in rankings.items()}
    taus = {name: row for name, row in taus.items() if not math.isnan(row[0])}
    if not taus:
        return None
    best = max(taus, key=lambda name: float(taus[name][0]))
    level = 1 - 0.05 / max(1, len(taus) - 1)
    others = [
        {"name": name, **estimate(taus[best] - row, bounded=False, level=level)}
        for name, row in taus.items() if name != best
    ]  # fmt: skip
    return {"best": best, "others": others}


def agreement(scores: ArrayLike, accuracies: ArrayLike) -> dict[str, Any]:
    """Spearman and Kendall tau-b, each with an interval of 95 % confidence.

    Args:
        scores, accuracies: [n].

    Returns:
        For each name `value` and `interval`, [lowest, highest]; None if they are not defined. That of tau-b is a
        jackknife's, see `supernet.trust.ranks.estimate`; that of Spearman holds 95 % of the bootstrap samples.
    """
    x, y = points(scores, accuracies)
    n = len(x)
    return {
        "spearman": bootstrap(lambda draws: spearman(x[draws], y[draws]), n),
        "kendall": estimate(leave_one_out(x, y)),
    }


def regret(scores: ArrayLike, accuracies: ArrayLike) -> dict[str, Any]:
    """How far the accuracy of the best of the top 1, 5, 10 by score is below the best of all.

    Returns:
        For each `value` and `interval`, that of bootstrap samples of the networks.
    """
    x, y = points(scores, accuracies)

    def below_best(k: int) -> Callable[[NDArray[np.int64]], Numbers]:
        def statistic(draws: NDArray[np.int64]) -> Numbers:
            top = np.take_along_axis(draws, np.argsort(-x[draws], axis=1, kind="stable")[:, :k], 1)
            return np.asarray(y[draws].max(1) - y[top].max(1))

        return statistic

    return {str(k): bootstrap(below_best(k), len(x)) for k in _TOPS if k < len(x)}


def recall(scores: ArrayLike, accuracies: ArrayLike) -> dict[str, float]:
    """The share of the best 5, 10 and 10 % by accuracy that are also among the best 5, 10 and 10 % by score."""
    x, y = points(scores, accuracies)
    sizes = {**{str(k): k for k in _TOPS if k > 1}, "10 %": round(len(x) / 10)}
    first, best = (np.argsort(-v, kind="stable").tolist() for v in (x, y))
    return {name: len(set(first[:k]) & set(best[:k])) / k for name, k in sizes.items() if 1 < k < len(x)}


def _bands_of(scores: Numbers, accuracies: Numbers, by: Numbers) -> list[dict[str, Any]]:
    """Kendall's tau inside quarters of the networks, by accuracy or by size, the smallest first.

    Args:
        scores, accuracies: [n].
        by: what the quarters are formed by, [n].

    Returns:
        For each band `from` and `to` in the unit of `by`, `n`, and `kendall` with `interval`. Nothing if a quarter has
        fewer than `FEW` networks, of which nothing can be said.
    """
    parts = np.array_split(np.argsort(by, kind="stable"), _BANDS)
    if len(parts[-1]) < FEW:
        return []
    rows = []
    for part in parts:
        tau = estimate(leave_one_out(scores[part], accuracies[part]))
        low, high = float(by[part].min()), float(by[part].max())
        rows.append({"from": low, "to": high, "n": len(part), "kendall": tau["value"], "interval": tau["interval"]})
    return rows


def trust(
    scores: ArrayLike,
    accuracies: ArrayLike,
    sizes: Mapping[str, ArrayLike] | None = None,
    *,
    untrained: ArrayLike | None = None,
    measures: Mapping[str, ArrayLike] | None = None,
    population: Population | None = None,
    noise: float | None = None,
) -> dict[str, Any]:
    """Whether scores predict accuracies, by how much, and whether something simpler would do.

    Args:
        scores: of n architectures, more is better.
        accuracies: their stand-alone accuracies, [n], or [n, R] of up to R repeats each, NaN where one is missing.
        sizes: other explanations of the accuracies, for instance ``{"params": ..., "macs": ...}``, each [n].
        untrained: scores of the same architectures by a one-shot model that was not trained, [n].
        measures: of untrained networks, as `supernet.search.measures` has them, each [n]. Each alone is a floor for
            the scores; they are not among what is explained together, since eight explanations of a few networks
            would explain anything.
        population: what the n stand for, if they were drawn evenly over the score.
        noise: largest difference of two scores that means nothing; see `supernet.trust.noise.score_noise`.

    Returns:
        A dictionary that can be written as JSON:

        - what `evidence` returns;
        - `as_drawn`: see `agreement`;
        - `partial`: what scores and accuracies have in common given each explanation alone, see
          `supernet.trust.beyond.partial`;
        - `size_bias`: Kendall's tau of each size with the scores;
        - `regret`, `recall`; `bands`, by accuracy and by each size;
        - `noise`; `finding` and `verdict`, see `supernet.trust.verdict`.

    Raises:
        ValueError: the lengths differ, or a value is NaN.
    """
    alone = {name: _finite(values) for name, values in (measures or {}).items()}
    result = evidence(scores, accuracies, sizes, untrained=untrained, measures=alone, population=population)
    x, y = points(scores, _means(accuracies))
    others = {name: points(values, y)[0] for name, values in (sizes or {}).items()}
    of_untrained = {} if untrained is None else {"untrained": points(untrained, y)[0]}
    is_enough = len(x) >= FEW
    result |= {
        "as_drawn": agreement(x, y),
        "partial": {name: partial(x, y, [v]) for name, v in {**others, **of_untrained, **alone}.items()},
        "size_bias": {name: estimate(leave_one_out(v, x, _weights(population))) for name, v in others.items()},
        "regret": regret(x, y) if is_enough else {},
        "recall": recall(x, y) if is_enough else {},
        "bands": {"accuracy": _bands_of(x, y, y), **{name: _bands_of(x, y, v) for name, v in others.items()}},
        "noise": noise,
    }
    result["finding"] = finding(result)
    return {**result, "verdict": verdict(result)}


def evidence(
    scores: ArrayLike,
    accuracies: ArrayLike,
    sizes: Mapping[str, ArrayLike] | None = None,
    *,
    untrained: ArrayLike | None = None,
    measures: Mapping[str, ArrayLike] | None = None,
    population: Population | None = None,
) -> dict[str, Any]:
    """What a verdict rests on. Arguments and errors are those of `trust`.

    Returns:
        - `n`; `repeats`, the most that a network has;
        - `tau`: Kendall's tau-b over all candidates if there is a population, otherwise over the networks;
        - `population`: None without one, else its `candidates`, and `lost`, see `supernet.trust.ranks.Population`;
        - `chance`: see `supernet.trust.beyond.chance`;
        - `ceiling`: see `supernet.trust.noise`; `corrected`: tau without the noise of the accuracies; `designs`: how
          many networks would show a tau of `USEFUL`;
        - `floor`: tau of each explanation with the accuracies: of each size, of `untrained`, and of all `together`
          (see `supernet.trust.beyond.explained`; the last only of several); and of each measure, which `alone` names;
        - `beyond`: for each of these, by how much the tau of the scores is larger than that of the explanation with
          its better sign;
        - `given`: what scores say given all explanations but measures, see `supernet.trust.beyond.given`; None without
          any;

        Each estimate has `value` and `interval`.
    """
    truth = np.asarray(accuracies, float)
    x, y = points(scores, _means(truth))
    weights = _weights(population)
    named = {**(sizes or {}), **({} if untrained is None else {"untrained": untrained})}
    explanations = {name: points(values, y)[0] for name, values in named.items()}
    varied = [values for values in explanations.values() if np.ptp(values) > 0] if len(y) else []
    of_scores = leave_one_out(x, y, weights)
    tau, taus = estimate(of_scores), {name: leave_one_out(v, y, weights) for name, v in explanations.items()}
    if len(varied) > 1:
        fitted, share = explained(y, varied)
        taus["together"] = share * leave_one_out(fitted, y, weights)
    taus |= {name: leave_one_out(points(v, y)[0], y, weights) for name, v in (measures or {}).items()}
    highest = ceiling(truth, weights)
    repeatable = None if highest is None else highest["repeatability"]["value"]
    return {
        "n": len(x),
        "repeats": truth.shape[1] if truth.ndim == 2 else 1,
        "tau": tau,
        "population": None if population is None else {"candidates": population.candidates, "lost": population.lost},
        "chance": chance(x, y, weights),
        "ceiling": ceiling(truth),
        "corrected": corrected(tau, highest),
        "designs": [] if repeatable is None else designs(repeatable, USEFUL, _REPEATS, spread_of(tau, len(x))),
        "floor": {name: estimate(row) for name, row in taus.items()},
        "beyond": {
            name: estimate(of_scores - (row if row[0] >= 0 else -row), bounded=False) for name, row in taus.items()
        },
        "given": given(x, y, varied) if varied else None,
        "alone": list(measures or {}),
    }


def _finite(values: ArrayLike) -> Numbers:
    """Measures with those that are not finite below all others, in the same order."""
    numbers = np.asarray(values, float)
    finite = numbers[np.isfinite(numbers)]
    return np.where(np.isfinite(numbers), numbers, finite.min() - 1 if len(finite) else 0.0)


def what_parts_add(
    joint: ArrayLike, without: Mapping[str, ArrayLike], accuracies: ArrayLike, population: Population | None = None
) -> dict[str, dict[str, Any]]:
    """By how much Kendall's tau of a joint rank with accuracies falls without each of its parts.

    Args:
        joint: joint ranks, [n].
        without: for each part the joint ranks without it, [n].
        accuracies: [n], or [n, R] of repeats.
        population: as for `trust`.

    Returns:
        For each part `value` and `interval`, of 95 % confidence; negative if the rank is better without it.
    """
    x, y = points(joint, _means(accuracies))
    weights = _weights(population)
    whole = leave_one_out(x, y, weights)
    return {
        name: estimate(whole - leave_one_out(points(values, y)[0], y, weights), bounded=False)
        for name, values in without.items()
    }


def _means(accuracies: ArrayLike) -> Numbers:
    """The mean accuracy of each network over its repeats: [n]."""
    truth = np.asarray(accuracies, float)
    if truth.ndim not in (1, 2):
        raise ValueError(f"accuracies: expected [n] or [n, R], got shape {list(truth.shape)}")
    if truth.ndim == 1:
        return truth
    if np.isnan(truth).all(1).any():
        raise ValueError("accuracies: expected at least one repeat of each architecture, got NaN only")
    return np.asarray(np.nanmean(truth, 1))


def _weights(population: Population | None) -> Numbers | None:
    return None if population is None else population.pair_weights
