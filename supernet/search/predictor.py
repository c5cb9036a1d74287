"""What trainings from scratch say of candidates that were not trained: a predictor with its own uncertainty.

A Gaussian process over what is known of every candidate: ranks of its score, sizes and measures, and what it picks. Its
prior mean is a line in the plain rank, so that few trainings change little. Its kernel adds a linear part, for choices
whose effects add up, to a smooth one, for choices that work together. Accuracies enter as normal scores (their ranks,
as quantiles of a normal distribution), since a few networks that do not learn would rule everything else. How much of
an accuracy is noise is what makes the labels likeliest; repeats of a training are labels of their own.

Which parts there are was chosen on NAS-Bench-201 and judged on NAS-Bench-Macro (`benchmarks/evidence/predictors.py`).

References:
    Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, chapters 2 and 5.
    Le Gratiet and Garnier, "Recursive co-kriging model for design of computer experiments with multiple levels of
    fidelity", 2014: trainings of several lengths, the shorter ones as a column for the longer ones.
    Desautels, Krause and Burdick, "Parallelizing exploration-exploitation tradeoffs in Gaussian process bandit
    optimization", JMLR 2014: upper confidence bounds for several trainings at once.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from supernet.base.extras import extra

Numbers = NDArray[np.float64]

LEAST = 12
"""Networks that have to be trained before anything is predicted (ours)."""

_LEAST_OF_LENGTH = 8
"""Networks that have to be trained for a length of training to count at all (ours)."""

_SHARE = 0.125
"""Share of a round that goes to the best upper confidence bounds; the rest goes evenly over the ranking (ours)."""

_GROUPS, _DIVISIONS = 8, 16
"""Into how many groups the trained networks are divided, each left out once, and how often they are divided (ours)."""

_STARTS = ((0.3, 0.3, 1.0, 0.3), (1.0, 0.02, 1.0, 0.1), (0.02, 1.0, 1.0, 0.1))
"""Where the likeliest parameters are looked for from: linear part, smooth part, its length, noise."""


@dataclass(frozen=True, slots=True)
class Features:
    """What is known of N candidates without training them.

    Attributes:
        plain: their rank by score, size and whatever else ranks them without trainings, above 0 (worst) and below 1.
        size: their rank by the multiply-adds that matter, likewise.
        inputs: all that the predictor sees, [N, F], each block of columns with variance 1 in all.
    """

    plain: Numbers
    size: Numbers
    inputs: Numbers


@dataclass(frozen=True, slots=True)
class Labels:
    """Trainings of one length.

    Attributes:
        places: the number of the candidate of each training, [n]; of repeats the same.
        values: what the metric says of each, [n]; more is better.
    """

    places: NDArray[np.int64]
    values: Numbers


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of every candidate.

    Attributes:
        values: the metric of a training, [N].
        deviations: how far off the values may be, as standard deviations, without the noise of a training, [N].
        noise: standard deviation of one training, in the metric's unit.
        promise: by how much the best of the candidates that were not trained is expected to exceed the best that was.
        unknown: the median of the deviations of those that were not trained.
        trained: number of networks that it is learnt from.
        tau: Kendall's tau of what is predicted with the values, over pairs of trained networks of which neither was
            learnt from.
        plain_tau: that of the plain rank, over the same pairs.
        fit: what `choose` goes on from.
    """

    values: Numbers
    deviations: Numbers
    noise: float
    promise: float
    unknown: float
    trained: int
    tau: float
    plain_tau: float
    fit: _Fit

    @property
    def is_better(self) -> bool:
        """Whether it ranks networks that it has not seen better than the plain rank does."""
        return self.tau > self.plain_tau

    @property
    def is_enough(self) -> bool:
        """Whether more trainings promise less than their noise: for the best candidate, and for the ranking (ours)."""
        return self.trained >= 2 * LEAST and max(self.promise, self.unknown) < self.noise


def ranks(values: ArrayLike) -> Numbers:
    """Ranks above 0 and below 1, the largest value last; equal values share theirs, and NaN comes first."""
    numbers = np.asarray(values, float)
    return np.asarray((stats.rankdata(np.where(np.isnan(numbers), -np.inf, numbers)) - 0.5) / max(1, len(numbers)))


def features(plain: ArrayLike, size: ArrayLike, others: Sequence[ArrayLike], picks_NP: ArrayLike) -> Features:
    """The features of candidates.

    Args:
        plain: more is better; what candidates are ranked by without trainings, [N].
        size: multiply-adds that matter, [N].
        others: further numbers of each candidate, such as parameters, values and measures, each [N].
        picks_NP: which options each picks, bool.
    """
    of_plain, of_size = ranks(plain), ranks(size)
    numbers = np.stack([of_plain, of_size, *map(ranks, others)], 1)
    numbers = (numbers - numbers.mean(0)) / np.where(numbers.std(0) > 0, numbers.std(0), 1)
    picks = np.asarray(picks_NP, float)
    picks = picks - picks.mean(0)
    variance = picks.var(0).sum()
    blocks = [numbers / math.sqrt(numbers.shape[1]), *([picks / math.sqrt(variance)] if variance > 0 else [])]
    return Features(of_plain, of_size, np.hstack(blocks))


def learn(
    features: Features, levels: Sequence[Labels], *, noise: float = 0.0, is_short: bool = False
) -> Prediction | None:
    """Predicts every candidate from trainings, and says how well it predicts those that it has not seen.

    Args:
        features: of the candidates.
        levels: trainings by their length, the shortest first; the last ones are what is predicted. Lengths of fewer
            than eight networks are left out.
        noise: standard deviation of one training; 0 if it is not known, and then no number of trainings is enough.
        is_short: whether the last ones too are shorter than what the ranking is for. Short trainings undervalue large
            networks; then labels may not take away what size counts in the plain rank.

    Returns:
        None if fewer than `LEAST` networks were trained, or if their values are all equal.
    """
    levels = [labels for labels in levels if len(set(labels.places)) >= _LEAST_OF_LENGTH]
    if not levels or len(set(levels[-1].places)) < LEAST or len(set(levels[-1].values)) < 2:
        return None
    fits = _fit_levels(features, levels, is_short)
    fit, kernels = fits[-1], [fit.process.kernel_ for fit in fits]
    places, last = np.unique(levels[-1].places), levels[-1]
    means = np.array([last.values[last.places == place].mean() for place in places])

    def of_others(group: NDArray[np.int64]) -> Numbers:
        return _fit_levels(features, [_without(labels, group) for labels in levels], is_short, kernels)[-1].means[group]

    tau, plain_tau = _taus_within_groups(places, means, features.plain, of_others)
    values = fit.scale.values_of(fit.means)
    # What the process takes for noise, and repeats or examples do not explain, is what it cannot tell from its inputs.
    scores = np.sqrt(_deviations(fit) ** 2 + fit.noise**2)
    deviations = np.sqrt(np.maximum(_half(fit.scale, fit.means, scores) ** 2 - noise**2, 0))
    free = np.setdiff1d(np.arange(len(values)), places)
    return Prediction(
        values=values,
        deviations=deviations,
        noise=noise,
        promise=_improvement(values[free] - values[places].max(), deviations[free]),
        unknown=float(np.median(deviations[free])) if len(free) else 0.0,
        trained=len(places),
        tau=tau,
        plain_tau=plain_tau,
        fit=fit,
    )


def choose(features: Features, trained: Sequence[int], number: int, prediction: Prediction | None) -> list[int]:
    """Which candidates to train next.

    Those that were not trained and may be best, by the mean of the prediction plus one deviation, are an eighth of
    them; after each the deviations are those with it trained. The others fill the gaps between the trained ones, evenly
    over the ranking, since labels from its top alone say little of all of it. In each gap it is the candidate of which
    least is known. Before there is a prediction, all of them are spread in this way over the plain rank.

    Args:
        features: of all candidates.
        trained: their numbers, which are not chosen again.
        number: how many; fewer if no more are left.
        prediction: of all candidates.
    """
    before = list(dict.fromkeys(trained))
    number = min(number, len(features.plain) - len(before))
    if prediction is None:
        return _spread(features.plain, np.zeros(len(features.plain)), before, number)
    fit, chosen = prediction.fit, list[int]()
    for _ in range(round(_SHARE * number)):
        bounds = fit.means + _deviations(fit, chosen)
        bounds[before + chosen] = -np.inf
        chosen.append(int(bounds.argmax()))
    return chosen + _spread(fit.means, _deviations(fit, chosen), before + chosen, number - len(chosen))


def _spread(ranking: Numbers, deviations: Numbers, taken: Sequence[int], number: int) -> list[int]:
    """Candidates in the gaps between those that are taken, evenly over a ranking; of equal deviations the middle."""
    parts = np.array_split(np.argsort(ranking, kind="stable"), len(taken) + number)
    gaps = [part for part in parts if not np.isin(part, taken).any()]
    chosen = []
    for index in np.linspace(0, len(gaps) - 1, number).round().astype(int):
        gap = gaps[index]
        from_middle = gap[np.argsort(np.abs(np.arange(len(gap)) - len(gap) // 2), kind="stable")]
        chosen.append(int(from_middle[deviations[from_middle].argmax()]))
    return chosen


# ---- the process ----


@dataclass(frozen=True, slots=True)
class _Scale:
    """Between the metric and normal scores, both ascending: the distinct values of labels, [k]."""

    values: Numbers
    scores: Numbers

    def values_of(self, scores: Numbers) -> Numbers:
        return _extended(scores, self.scores, self.values)


@dataclass(frozen=True, slots=True)
class _Fit:
    """A Gaussian process that has learnt from labels, in normal scores.

    Attributes:
        means: of every candidate, [N].
        noise: standard deviation of one training.
        spread: what the process calls 1.
        inputs, places: of candidates, and of the trainings that it has learnt from.
    """

    scale: _Scale
    means: Numbers
    noise: float
    spread: float
    process: Any
    inputs: Numbers
    places: NDArray[np.int64]


def _fit_levels(
    features: Features, levels: Sequence[Labels], is_short: bool, kernels: Sequence[Any] = ()
) -> list[_Fit]:
    """Learns from each length of training, with what the shorter one predicts as a column for the longer one.

    Args:
        features, levels, is_short: as for `learn`.
        kernels: one for each length, which is taken as it is; none: the likeliest.
    """
    columns = [features.plain, features.size] if is_short else [features.plain]
    fits: list[_Fit] = []
    for number, labels in enumerate(levels):
        if fits:
            columns = [features.plain, features.size, fits[-1].means]
        keeps_size = is_short and number == len(levels) - 1
        kernel = kernels[number] if kernels else None
        fits.append(_fit(columns, features.inputs, labels, keeps_size=keeps_size, kernel=kernel))
    return fits


def _fit(
    columns: Sequence[Numbers], inputs: Numbers, labels: Labels, *, keeps_size: bool = False, kernel: Any = None
) -> _Fit:
    """Fits a line in some columns, and a Gaussian process to what it leaves.

    Args:
        columns: of every candidate, [N] each; the plain rank first, and the size after it.
        inputs: of the process.
        labels: to learn from.
        keeps_size: whether a weight of the size that is below 0 is left out of what is predicted.
        kernel: that is taken as it is; None for the likeliest.
    """
    distinct, index, counts = np.unique(labels.values, return_inverse=True, return_counts=True)
    quantiles = (np.cumsum(counts) - counts / 2) / len(labels.values)
    scale = _Scale(distinct, np.asarray(stats.norm.ppf(quantiles)))
    scores, places = scale.scores[index], labels.places
    table = np.stack([np.ones(len(inputs)), *columns], 1)
    weights = np.linalg.lstsq(table[places], scores, rcond=None)[0]
    left = scores - table[places] @ weights
    spread = float(left.std()) or 1.0
    if kernel is None:
        process = _likeliest(inputs[places], left / spread)
    else:
        process = _process(kernel, fixed=True).fit(inputs[places], left / spread)
    if keeps_size:
        weights[2] = max(0.0, weights[2])
    means = table @ weights + spread * process.predict(inputs)
    noise = spread * math.sqrt(process.kernel_.k2.noise_level)
    return _Fit(scale, means, noise, spread, process, inputs, places)


def _likeliest(inputs: Numbers, values: Numbers) -> Any:
    """The Gaussian process with the likeliest parameters, from several starts, since there may be several maxima."""
    kernels = extra("sklearn.gaussian_process.kernels", "refine", "a predictor")
    starts = [
        kernels.ConstantKernel(linear, (1e-3, 10)) * kernels.DotProduct(0.0, "fixed")
        + kernels.ConstantKernel(smooth, (1e-3, 10)) * kernels.RBF(length, (0.5, 4))
        + kernels.WhiteKernel(noise, (1e-2, 2))
        for linear, smooth, length, noise in _STARTS
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a parameter at the end of its range is an answer too
        fits = [_process(start).fit(inputs, values) for start in starts]
    return max(fits, key=lambda fit: round(fit.log_marginal_likelihood_value_, 6))


def _process(kernel: Any, *, fixed: bool = False) -> Any:
    """A Gaussian process that has learnt nothing yet."""
    library = extra("sklearn.gaussian_process", "refine", "a predictor")
    return library.GaussianProcessRegressor(kernel, optimizer=None if fixed else "fmin_l_bfgs_b")


def _deviations(fit: _Fit, more: Sequence[int] = ()) -> Numbers:
    """Standard deviations of all candidates, also with some more of them trained, whatever comes out."""
    places = np.concatenate([fit.places, np.asarray(more, np.int64)])
    again = _process(fit.process.kernel_, fixed=True).fit(fit.inputs[places], np.zeros(len(places)))
    _, deviations = again.predict(fit.inputs, return_std=True)
    return np.asarray(fit.spread * np.sqrt(np.maximum(deviations**2 - fit.process.kernel_.k2.noise_level, 0)))


def _improvement(gains: Numbers, deviations: Numbers) -> float:
    """The largest expected improvement of normal variables over 0 (Jones et al., 1998)."""
    deviations = np.maximum(deviations, 1e-12)
    normal = gains / deviations
    return float(np.max(gains * stats.norm.cdf(normal) + deviations * stats.norm.pdf(normal), initial=0.0))


def _without(labels: Labels, group: NDArray[np.int64]) -> Labels:
    """The trainings of other candidates."""
    kept = ~np.isin(labels.places, group)
    return Labels(labels.places[kept], labels.values[kept])


def _taus_within_groups(
    places: NDArray[np.int64], values: Numbers, plain: Numbers, of_others: Callable[[NDArray[np.int64]], Numbers]
) -> tuple[float, float]:
    """Kendall's tau of a predictor and of the plain rank, over pairs of which the predictor has seen neither.

    One network left out at a time would not do: the better it is, the lower is the mean of the others, which turns
    their order around. So only networks that were left out together are compared.

    Args:
        places: of n networks that were trained.
        values: of these, [n].
        plain: of all candidates, [N].
        of_others: what the predictor says of some of the places after the others.
    """
    generator, agreements = np.random.default_rng(0), []
    for _ in range(_DIVISIONS):
        for part in np.array_split(generator.permutation(len(places)), max(2, min(_GROUPS, len(places) // 4))):
            first, second = np.triu_indices(len(part), 1)
            signs = [
                np.sign(numbers[first] - numbers[second])
                for numbers in (of_others(places[part]), plain[places[part]], values[part])
            ]
            agreements.append(np.stack([signs[0] * signs[2], signs[1] * signs[2]])[:, signs[2] != 0])
    predicted, of_plain = np.concatenate(agreements, 1).mean(1)
    return float(predicted), float(of_plain)


def _half(scale: _Scale, centres: Numbers, deviations: Numbers) -> Numbers:
    """Deviations of normal scores in the metric's unit: half of the range that they span."""
    return (scale.values_of(centres + deviations) - scale.values_of(centres - deviations)) / 2


def _extended(x: Numbers, xs: Numbers, ys: Numbers) -> Numbers:
    """Interpolates between points, and goes on beyond them as steep as their outer fifths are."""
    if len(xs) < 2:
        return np.full(len(x), ys[0])
    outer = max(1, len(xs) // 5)
    low, high = ((ys[b] - ys[a]) / (xs[b] - xs[a]) for a, b in ((0, outer), (-1 - outer, -1)))
    return np.asarray(np.interp(x, xs, ys) + np.minimum(x - xs[0], 0) * low + np.maximum(x - xs[-1], 0) * high)
