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

Numbers = NDArray[np.float64]

_BOOTSTRAP = 2000
"""Bootstrap samples; an interval holds 95 % of them."""

_TOPS = (1, 5, 10)
"""Numbers of networks with the best scores for which regret and recall are given."""

FEW = 10
"""Networks that a verdict needs, at least."""

_BANDS = 4
"""Parts of equal number, by accuracy or by size, inside which the agreement is given."""

_Z95 = 1.96
"""Standard deviations to either side that hold 95 % of a normal distribution."""


def paper_points() -> dict[str, Any]:
    """The points of the paper's figures 4 to 7, read from its drawings; `source` says what they are."""
    text = files("supernet.trust").joinpath("paper_points.json").read_text(encoding="utf-8")
    points: dict[str, Any] = json.loads(text)
    return points


def kendall(x: ArrayLike, y: ArrayLike, counts: ArrayLike | None = None) -> Any:
    """Kendall's tau-b, where each point may count several times.

    Args:
        x, y: [n]; memory grows with n squared.
        counts: how often each point counts, at least 0: [n], or [..., n] for several results at once. None: once.

    Returns:
        From -1 to 1, [...]; NaN if all x or all y are equal.

    Raises:
        ValueError: the lengths differ, or a value is NaN.
    """
    x, y, w = _points(x, y, counts)
    sx, sy = _order(x), _order(y)

    def pairs(signs: Numbers) -> Numbers:
        counted: Numbers = ((w @ signs) * w).sum(-1)
        return counted

    with np.errstate(invalid="ignore", divide="ignore"):
        return pairs(sx * sy) / np.sqrt(pairs(sx * sx) * pairs(sy * sy))


def spearman(x: ArrayLike, y: ArrayLike, counts: ArrayLike | None = None) -> Any:
    """Spearman's rank correlation, where each point may count several times; see `kendall`."""
    x, y, w = _points(x, y, counts)
    total = w.sum(-1, keepdims=True)

    def centred(values: Numbers) -> Numbers:
        ranks = w @ (0.5 - 0.5 * _order(values)).T  # equal values share their mean rank
        return np.asarray(ranks - (w * ranks).sum(-1, keepdims=True) / total)

    a, b = centred(x), centred(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (w * a * b).sum(-1) / np.sqrt((w * a * a).sum(-1) * (w * b * b).sum(-1))


def _points(x: ArrayLike, y: ArrayLike, counts: ArrayLike | None) -> tuple[Numbers, Numbers, Numbers]:
    """Two lists and the counts of their points as arrays."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected two lists of equal length, got shapes {list(x.shape)} and {list(y.shape)}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("expected numbers, got NaN among them")
    return x, y, np.ones(len(x)) if counts is None else np.asarray(counts, float)


def _order(values: Numbers) -> Numbers:
    """The sign of the difference of each pair: [n, n]."""
    return (values[:, None] > values).astype(float) - (values[:, None] < values)


def _resamples(n: int) -> Numbers:
    """How often each of n points occurs in each bootstrap sample: [BOOTSTRAP, n]."""
    return np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), _BOOTSTRAP).astype(float)


def _interval(samples: Numbers) -> list[float] | None:
    defined = samples[~np.isnan(samples)]
    return [float(edge) for edge in np.quantile(defined, [0.025, 0.975])] if len(defined) else None


def _estimate(statistic: Callable[[Numbers], Any], n: int, counts: Numbers | None = None) -> dict[str, Any]:
    """A statistic of the counts of points, [..., n], with its bootstrap interval."""
    counts = np.ones(n) if counts is None else counts
    value = float(statistic(counts))
    interval = _interval(statistic(_resamples(n) * counts)) if n >= 3 else None
    return {"value": None if math.isnan(value) else value, "interval": interval}


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, Any]:
    """The agreement of two rankings.

    Args:
        scores: one-shot scores, of any scale.
        accuracies: stand-alone accuracies of the same architectures.

    Returns:
        `n`, and `spearman` and `kendall` (tau-b) from -1 to 1; None if they are not defined, that is for fewer than
        3 architectures or if all values are equal. `kendall_interval`: [lowest, highest] of 95 % of 2,000 bootstrap
        samples of the architectures.

    Raises:
        ValueError: the lengths differ.
    """
    if len(scores) != len(accuracies):
        raise ValueError(f"expected as many accuracies as scores, got {len(accuracies)} and {len(scores)}")
    n = len(scores)
    if n < 3:
        return {"n": n, "spearman": None, "kendall": None, "kendall_interval": None}
    tau = _estimate(lambda w: kendall(scores, accuracies, w), n)
    rho = float(spearman(scores, accuracies))
    return {
        "n": n,
        "spearman": None if math.isnan(rho) else rho,
        "kendall": tau["value"],
        "kendall_interval": None if tau["value"] is None else tau["interval"],
    }


def agreement(scores: ArrayLike, accuracies: ArrayLike, counts: ArrayLike | None = None) -> dict[str, Any]:
    """Spearman, Kendall tau-b and top-weighted tau, each with a bootstrap interval.

    Args:
        scores, accuracies: [n].
        counts: how many candidates each point stands for, [n]; None: one each. With counts the top-weighted tau is
            left out, since it is not defined for them.

    Returns:
        For each name `value` and `interval`, [lowest, highest] of 95 % of the bootstrap samples; None if they are not
        defined. In the top-weighted tau (Vigna, 2015) an exchange of two points counts more, the higher they rank.
    """
    x, y, _ = _points(scores, accuracies, None)
    n = len(x)
    point_counts = None if counts is None else np.asarray(counts, float)
    estimates = {
        "spearman": _estimate(lambda c: spearman(x, y, c), n, point_counts),
        "kendall": _estimate(lambda c: kendall(x, y, c), n, point_counts),
    }
    if counts is None:
        value = _top_weighted(x, y)
        draws = np.random.default_rng(0).integers(0, n, (_BOOTSTRAP // 4 if n >= 3 else 0, n))
        interval = _interval(np.array([_top_weighted(x[draw], y[draw]) for draw in draws]))
        estimates["top_weighted"] = {"value": None if math.isnan(value) else value, "interval": interval}
    return estimates


def _top_weighted(x: Numbers, y: Numbers) -> float:
    from scipy import stats

    return float(stats.weightedtau(x, y).statistic) if len(set(x)) > 1 < len(set(y)) else math.nan


def buckets(scores: ArrayLike, width: float) -> NDArray[np.int64]:
    """The number of the bucket of each score; buckets begin at multiples of their width."""
    return np.floor(np.asarray(scores, float) / width + 1e-9).astype(np.int64)


def population_counts(scores: ArrayLike, population: ArrayLike, bucket: float) -> Numbers:
    """How many candidates each network stands for, of networks drawn in buckets of the score.

    A correlation over networks drawn evenly over the score is too high for all candidates, since the scores of most of
    these are close together.

    Args:
        scores: of the networks, [n].
        population: scores of all candidates.
        bucket: width of the buckets; see `buckets`.

    Returns:
        [n], with mean 1. Candidates in buckets without a network are left out.

    Raises:
        ValueError: no candidate shares a bucket with a network.
    """
    places, population_places = buckets(scores, bucket), buckets(population, bucket)
    counts = np.array([(population_places == b).sum() / (places == b).sum() for b in places], float)
    if counts.sum() == 0:
        raise ValueError("population: expected scores of the candidates that the networks were drawn from")
    return np.asarray(counts / counts.mean())


def score_noise(right_CN: NDArray[np.bool_]) -> float:
    """The largest difference of two scores that the choice of validation examples alone explains (95 % confidence).

    Args:
        right_CN: whether candidate c is right on example n.

    Returns:
        A difference of accuracies, from 0 to 1: 1.96 standard deviations of the difference of two candidates of which
        only one is right on as many examples as on average over all pairs.
    """
    candidates, examples = right_CN.shape
    share = right_CN.mean(0)
    disagree = 2 * float((share * (1 - share)).mean()) * candidates / max(1, candidates - 1)
    return _Z95 * math.sqrt(disagree / examples)


def regret(scores: ArrayLike, accuracies: ArrayLike) -> dict[str, float]:
    """How far the accuracy of the best of the top 1, 5, 10 by score is below the best of all."""
    x, y, _ = _points(scores, accuracies, None)
    best_first = np.argsort(-x, kind="stable")
    return {str(k): float(y.max() - y[best_first[:k]].max()) for k in _TOPS if k < len(x)}


def recall(scores: ArrayLike, accuracies: ArrayLike) -> dict[str, float]:
    """The share of the best 5, 10 and 10 % by accuracy that are also among the best 5, 10 and 10 % by score."""
    x, y, _ = _points(scores, accuracies, None)
    sizes = {**{str(k): k for k in _TOPS if k > 1}, "10 %": round(len(x) / 10)}
    first, best = (np.argsort(-v, kind="stable").tolist() for v in (x, y))
    return {name: len(set(first[:k]) & set(best[:k])) / k for name, k in sizes.items() if 1 < k < len(x)}


def _bands_of(scores: ArrayLike, accuracies: ArrayLike, by: ArrayLike) -> list[dict[str, Any]]:
    """Kendall's tau inside quarters of the networks, by accuracy or by size, the smallest first.

    Args:
        scores, accuracies: [n].
        by: what the quarters are formed by, [n].

    Returns:
        For each band `from` and `to` in the unit of `by`, `n` and `kendall`.
    """
    x, y, _ = _points(scores, accuracies, None)
    key = np.asarray(by, float)
    bands = []
    for part in np.array_split(np.argsort(key, kind="stable"), _BANDS):
        if len(part) >= 3:
            tau = float(kendall(x[part], y[part]))
            low, high = float(key[part].min()), float(key[part].max())
            bands.append({"from": low, "to": high, "n": len(part), "kendall": None if math.isnan(tau) else tau})
    return bands


def ceiling(accuracies_nR: ArrayLike) -> dict[str, Any] | None:
    """Kendall's tau between repeats of the same trainings with other seeds, which no score can exceed by merit.

    Args:
        accuracies_nR: of n networks, R repeats each, NaN where a network has fewer.

    Returns:
        The mean over all pairs of repeats that at least 3 networks have, with its interval; None if there is no such
        pair.
    """
    repeats = np.asarray(accuracies_nR, float)
    if repeats.ndim != 2:
        return None
    have = ~np.isnan(repeats)
    pairs = [(a, b, have[:, a] & have[:, b]) for b in range(repeats.shape[1]) for a in range(b)]
    pairs = [(a, b, both) for a, b, both in pairs if both.sum() >= 3]
    if not pairs:
        return None

    def mean_tau(counts: Numbers) -> Any:
        taus = [kendall(repeats[both, a], repeats[both, b], counts[..., both]) for a, b, both in pairs]
        return np.mean(taus, axis=0)

    return _estimate(mean_tau, len(repeats))


def trust(
    scores: ArrayLike,
    accuracies: ArrayLike,
    sizes: Mapping[str, ArrayLike] | None = None,
    *,
    untrained: ArrayLike | None = None,
    counts: ArrayLike | None = None,
    noise: float | None = None,
) -> dict[str, Any]:
    """Whether scores predict accuracies, by how much, and whether size alone would do.

    Args:
        scores: of n architectures, more is better.
        accuracies: their stand-alone accuracies, [n], or [n, R] of R repeats, NaN where an architecture has fewer.
        sizes: other explanations of the accuracies, for instance ``{"params": ..., "macs": ...}``, each [n].
        untrained: scores of the same architectures by a one-shot model that was not trained, [n].
        counts: how many candidates each of the n stands for, if they were drawn evenly over the score; see
            `population_counts`.
        noise: largest difference of two scores that means nothing; see `score_noise`.

    Returns:
        A dictionary that can be written as JSON:

        - `n`, `repeats`;
        - `as_drawn`, `population`: see `agreement`; the second with `counts`, or None without;
        - `ceiling`: see `ceiling`;
        - `floor`: for each size and for `untrained` Kendall's tau with the accuracies, as `value` and `interval`;
        - `beyond`: for each of these, by how much the tau of the scores is larger, with the interval of the
          difference over the same bootstrap samples;
        - `partial`: Kendall's partial tau of scores and accuracies given each size;
        - `size_bias`: Kendall's tau of each size with the scores;
        - `regret`, `recall`, and `bands` (see `_bands_of`);
        - `noise`; and `verdict`, in words.

    Raises:
        ValueError: the lengths differ, or a value is NaN.
    """
    truth = np.asarray(accuracies, float)
    if truth.ndim not in (1, 2):
        raise ValueError(f"accuracies: expected [n] or [n, R], got shape {list(truth.shape)}")
    if truth.ndim == 2 and np.isnan(truth).all(1).any():
        raise ValueError("accuracies: expected at least one repeat of each architecture, got NaN only")
    mean = np.nanmean(truth, 1) if truth.ndim == 2 else truth
    x, y, _ = _points(scores, mean, None)
    n = len(x)
    others = {name: _points(values, mean, None)[0] for name, values in (sizes or {}).items()}
    floors = others if untrained is None else {**others, "untrained": _points(untrained, mean, None)[0]}
    point_counts = None if counts is None else np.asarray(counts, float)

    def tau(a: Numbers, b: Numbers) -> dict[str, Any]:
        return _estimate(lambda c: kendall(a, b, c), n, point_counts)

    def difference(other: Numbers) -> dict[str, Any]:
        return _estimate(lambda c: kendall(x, y, c) - kendall(other, y, c), n, point_counts)

    def partial(size: Numbers) -> float | None:
        xy, xs, ys = (float(kendall(a, b, point_counts)) for a, b in ((x, y), (x, size), (y, size)))
        unexplained = (1 - xs**2) * (1 - ys**2)
        return (xy - xs * ys) / math.sqrt(unexplained) if unexplained > 0 else None

    result: dict[str, Any] = {
        "n": n,
        "repeats": truth.shape[1] if truth.ndim == 2 else 1,
        "as_drawn": agreement(x, y),
        "population": None if point_counts is None else agreement(x, y, point_counts),
        "ceiling": ceiling(truth),
        "floor": {name: tau(v, y) for name, v in floors.items()},
        "beyond": {name: difference(v) for name, v in floors.items()},
        "partial": {name: partial(v) for name, v in others.items()},
        "size_bias": {name: tau(v, x) for name, v in others.items()},
        "regret": regret(x, y),
        "recall": recall(x, y),
        "bands": {"accuracy": _bands_of(x, y, y), **{k: _bands_of(x, y, v) for k, v in others.items()}},
        "noise": noise,
    }
    return {**result, "verdict": verdict(result)}


def verdict(result: Mapping[str, Any]) -> str:
    """The result of `trust` in words, by rules that are ours.

    Fewer than `FEW` networks give no verdict. Scores mislead if the interval of tau (over all candidates if that is
    given) lies below 0, and show nothing if it holds 0. They say no more than size does unless the interval of the
    difference of both taus lies above 0. Otherwise they predict.
    """
    n, tau = result["n"], (result["population"] or result["as_drawn"])["kendall"]
    if n < FEW:
        return f"No verdict: {n} networks are too few; at least {FEW} must be trained."
    if tau["value"] is None or tau["interval"] is None:
        return "No verdict: all scores, or all accuracies, are equal."
    low, high = tau["interval"]
    sizes = {
        name: floor for name, floor in result["floor"].items() if name != "untrained" and floor["value"] is not None
    }
    strongest = max(sizes, key=lambda name: sizes[name]["value"], default=None)
    parts = [f"tau {tau['value']:.2f} ({low:.2f} to {high:.2f})"]
    if result["ceiling"] is not None and result["ceiling"]["value"] is not None:
        parts.append(f"ceiling {result['ceiling']['value']:.2f}")
    if strongest is not None:
        parts.append(f"size alone {sizes[strongest]['value']:.2f} ({strongest})")
    figures = ", ".join(parts)
    beyond = result["beyond"][strongest]["interval"] if strongest is not None else None
    if high < 0:
        text = f"Scores mislead: {figures}. The better the score, the worse the network."
    elif low <= 0:
        text = f"No evidence that scores predict: {figures}."
    elif beyond is not None and beyond[0] <= 0:
        text = f"These scores say no more than size does: {figures}."
    else:
        text = f"Scores predict: {figures}."
    if result["noise"] is not None:
        text += f" Differences under {100 * result['noise']:.1f} points of score are noise."
    return text
