"""Rank correlations, with intervals by leaving out one point at a time.

Kendall's tau-b costs n log n, as do its values without each of the points. From these the jackknife (Tukey, 1958)
gives the standard error of any smooth function of several taus of the same points, such as a difference or a mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]

_LEVEL = 0.95
"""Share of intervals that hold the true value."""

_SAMPLES = (2000, 200)
"""Bootstrap samples: of up to `_LARGE` points, and of more."""

_LARGE = 1000


def points(x: ArrayLike, y: ArrayLike) -> tuple[Numbers, Numbers]:
    """Two lists as arrays.

    Raises:
        ValueError: they are no lists of equal length, or a value is NaN.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected two lists of equal length, got shapes {list(x.shape)} and {list(y.shape)}")
    if np.isnan(x).any() or np.isnan(y).any():
        raise ValueError("expected numbers, got NaN among them")
    return x, y


def kendall(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Kendall's tau-b.

    Args:
        x, y: [n].
        weights: how much each pair counts, [n, n], symmetric with zeros on the diagonal. None: once each.

    Returns:
        From -1 to 1; NaN if all x or all y are equal.

    Raises:
        ValueError: the lengths differ, or a value is NaN.
    """
    return float(leave_one_out(x, y, weights)[0])


def leave_one_out(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Numbers:
    """Kendall's tau-b of all points, and without each of them: [1 + n]; NaN where it is not defined.

    Arguments and errors are those of `kendall`.
    """
    x, y = points(x, y)
    if weights is None:
        sums = [_concordance(x, y), _untied(x), _untied(y)]
    else:
        sx, sy = _signs(x), _signs(y)
        sums = [(np.asarray(weights, float) * product).sum(1) for product in (sx * sy, sx * sx, sy * sy)]
    # A point takes its pairs with it, which are counted from both sides.
    both, of_x, of_y = (np.concatenate([[rows.sum()], rows.sum() - 2 * rows]) for rows in sums)
    of_x, of_y = np.maximum(of_x, 0), np.maximum(of_y, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(both / np.sqrt(of_x * of_y), -1, 1))


def _signs(values: Numbers) -> Numbers:
    """The sign of the difference of each pair: [n, n]."""
    return np.sign(values[:, None] - values)


def _untied(values: Numbers) -> Numbers:
    """The number of points that differ from each point: [n]."""
    less, more = less_and_more(values)
    return (less + more).astype(float)


def less_and_more(values: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each value how many values are less and how many are more, each [n]."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - counts)[place], (len(place) - ends)[place]


def _concordance(x: Numbers, y: Numbers) -> Numbers:
    """For each point the number of points in the same order by x and by y, less those in opposite order: [n]."""
    n = len(x)
    (less_x, more_x), (less_y, more_y) = less_and_more(x), less_and_more(y)
    # The places in order of the pair (x, y) tell, of points that are equal by one, which are less by the other.
    before, after = less_and_more(less_y * n + less_x)
    less_x_same_y, same = before - less_y, n - 1 - before - after
    less_y_same_x = less_and_more(less_x * n + less_y)[0] - less_x
    both_less = _below(x, y)
    less_more = less_x - both_less - less_x_same_y
    more_less = less_y - both_less - less_y_same_x
    more_x_same_y = n - 1 - less_y - more_y - less_x_same_y - same
    both_more = more_x - more_less - more_x_same_y
    return np.asarray(both_less + both_more - less_more - more_less)


def _below(x: Numbers, y: Numbers) -> Numbers:
    """For each point the number of points that are less by x and less by y, in time n log² n: [n].

    In order of x (equal ones by falling y), the points before a point and less by y are counted by merging: at each
    level the points of a right half count those of its left half.
    """
    n = len(x)
    order = np.lexsort((-y, x))
    values = y[order]
    place = np.arange(n)
    counts = np.zeros(n)
    width = 1
    while width < n:
        is_left = (place // width) % 2 == 0
        # Within each pair of halves by y; of equal values the right ones first, since equal is not less.
        merged = np.lexsort((is_left, values, place // (2 * width)))
        lefts = np.cumsum(is_left[merged])
        before_block = (place // (2 * width)) * width  # the left halves of earlier blocks are full
        right = ~is_left[merged]
        counts[merged[right]] += lefts[right] - before_block[merged[right]]
        width *= 2
    result = np.empty(n)
    result[order] = counts
    return result


def estimate(values: Numbers, *, bounded: bool = True, explained: int = 0, level: float = _LEVEL) -> dict[str, Any]:
    """A statistic with its interval, from its values without each of the points.

    Args:
        values: [1 + n], that of all points first; see `leave_one_out`.
        bounded: whether it is from -1 to 1, as a correlation is. The interval is then formed on Fisher's scale.
        explained: number of explanations that were taken out first.
        level: confidence of the interval.

    Returns:
        `value`, None if it is not defined, and `interval`, [lowest, highest]: Student's t with n - 2 degrees of
        freedom (less those of explanations) times the jackknife's standard error. None for fewer than 4 points, and if
        the statistic is not defined without one of them: then this point alone makes it what it is.
    """
    value, left = float(values[0]), values[1:]
    n = len(left)
    if math.isnan(value):
        return {"value": None, "interval": None}
    if n < 4 + explained or np.isnan(left).any():
        return {"value": value, "interval": None}
    return {
        "value": value,
        "interval": _interval(value, _deviation(left), n - 2 - explained, bounded=bounded, level=level),
    }


def _deviation(left: Numbers) -> float:
    """The jackknife's standard error."""
    n = len(left)
    return math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))


def _interval(value: float, deviation: float, freedom: int, *, bounded: bool, level: float) -> list[float]:
    """The interval of a statistic with a standard error, by Student's t; see `estimate`."""
    from scipy import stats

    reach = float(stats.t.ppf(0.5 + level / 2, freedom)) * deviation
    if not bounded:
        return [value - reach, value + reach]
    if abs(value) >= 1 or deviation == 0:
        return [value, value]
    reach /= 1 - value**2
    return [math.tanh(math.atanh(value) - reach), math.tanh(math.atanh(value) + reach)]


def spearman(x: ArrayLike, y: ArrayLike) -> Any:
    """Spearman's rank correlation along the last axis: [...]; NaN if all x or all y are equal."""
    from scipy import stats

    a, b = (stats.rankdata(values, axis=-1) - (np.shape(values)[-1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


def bootstrap(statistic: Callable[[NDArray[np.int64]], Numbers], n: int) -> dict[str, Any]:
    """A statistic of points, with the interval that holds 95 % of bootstrap samples of the points.

    Args:
        statistic: of indices of points, [samples, n], of which some occur several times: [samples]; NaN where it is
            not defined.
        n: number of points.

    Returns:
        `value` and `interval`; None if they are not defined, for fewer than 4 points no interval. A sample in which
        the statistic is not defined counts as below the interval and as above it. The samples are the same for each
        statistic.
    """
    value = float(statistic(np.arange(n)[None])[0])
    if math.isnan(value):
        return {"value": None, "interval": None}
    if n < 4:
        return {"value": value, "interval": None}
    draws = np.random.default_rng(0).integers(0, n, (_SAMPLES[n > _LARGE], n))
    samples = statistic(draws)
    tail = (1 - _LEVEL) / 2
    low = np.quantile(np.where(np.isnan(samples), -np.inf, samples), tail, method="lower")
    high = np.quantile(np.where(np.isnan(samples), np.inf, samples), 1 - tail, method="higher")
    return {"value": value, "interval": [float(low), float(high)] if np.isfinite([low, high]).all() else None}


def buckets(scores: ArrayLike, width: float) -> NDArray[np.int64]:
    """The number of the bucket of each score; buckets begin at multiples of their width."""
    return np.floor(np.asarray(scores, float) / width + 1e-9).astype(np.int64)


@dataclass(frozen=True)
class Population:
    """How networks that were drawn from buckets of the score stand for all candidates.

    A correlation over networks drawn evenly over the score is too high for all candidates, since the scores of most of
    these are close together.

    Attributes:
        places: the bucket of each network, [n].
        numbers: the number of candidates in the bucket of each network, [n].
        candidates: the number of all candidates, also of those in buckets without a network.
    """

    places: NDArray[np.int64]
    numbers: NDArray[np.int64]
    candidates: int

    @classmethod
    def of(cls, scores: ArrayLike, population: ArrayLike, bucket: float) -> Population:
        """That of networks with some scores, [n], drawn from a population of scores by buckets of a width.

        Raises:
            ValueError: no candidate shares a bucket with a network.
        """
        places, all_places = buckets(scores, bucket), buckets(population, bucket)
        numbers = np.array([(all_places == place).sum() for place in places], np.int64)
        if numbers.sum() == 0:
            raise ValueError("population: expected scores of the candidates that the networks were drawn from")
        return cls(places, numbers, len(all_places))

    @property
    def pair_weights(self) -> Numbers:
        """How many pairs of candidates each pair of networks stands for, [n, n], with mean 1.

        Of N candidates and n networks in a bucket, a pair within it stands for N (N - 1) / (n (n - 1)) pairs, and a
        pair of two buckets for the product of their N / n. A bucket with one network has no pairs of its own.
        """
        drawn = (self.places[:, None] == self.places).sum(1)
        between = np.multiply.outer(self.numbers / drawn, self.numbers / drawn)
        inside = self.numbers * (self.numbers - 1) / np.maximum(1, drawn * (drawn - 1))
        weights = np.where(self.places[:, None] == self.places, inside, between)
        np.fill_diagonal(weights, 0)
        n = len(drawn)
        return np.asarray(weights * (n * (n - 1) / weights.sum()) if weights.sum() else weights)

    @property
    def lost(self) -> float:
        """The share of the pairs of candidates for which no pair of networks stands.

        They are the pairs within buckets with one network, and those with a candidate in a bucket without one.
        """
        _, first, drawn = np.unique(self.places, return_index=True, return_counts=True)
        numbers = self.numbers[first]
        covered = numbers.sum() ** 2 - (numbers**2).sum() + (numbers * (numbers - 1))[drawn > 1].sum()
        return float(1 - covered / max(1, self.candidates * (self.candidates - 1)))
