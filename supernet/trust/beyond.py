"""Whether scores say more about accuracies than chance, and than other explanations together; the rules are ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from supernet.trust.ranks import Numbers, estimate, less_and_more

ALPHA = 0.015
"""Level of the one-sided tests, so that 2,000 draws stay within 2.5 % (benchmarks/evidence/claims.py)."""

_PERMUTATIONS = 1999

_MOST_PERMUTED = 1000
"""Points beyond which the normal distribution takes the place of permutations, which it then equals in all but name."""

_EXPLAINED = 1e-9
"""Share of a variance that is rounding: with less left, everything is explained."""


def chance(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> dict[str, float]:
    """How often a permutation of y agrees with x as well: a test of independence.

    The statistic is Kendall's numerator with differences of ranks of y in place of signs. The test is exact with ties,
    since a permutation has the same ones, and with networks drawn by their score, since independent accuracies do not
    depend on which were drawn.

    Args:
        x, y: [n].
        weights: of pairs, [n, n]; see `supernet.trust.ranks.kendall`.

    Returns:
        One-sided p: `predict`, of at least this agreement, and `mislead`, of at most this agreement.
    """
    x = np.asarray(x, float)
    signs = _surplus(x) if weights is None else (np.asarray(weights) * np.sign(x[:, None] - x)).sum(1)
    ranks, nothing = _surplus(y), np.zeros((len(x), 0))
    return {
        "predict": _share_as_high(signs, ranks, nothing),
        "mislead": _share_as_high(-signs, ranks, nothing),
    }


def _surplus(values: ArrayLike) -> Numbers:
    """For each value how many more are less than it than are more."""
    less, more = less_and_more(values)
    return (less - more).astype(float)


def _share_as_high(a: Numbers, b: Numbers, basis: Numbers) -> float:
    """The share of permutations of b that correlate with a at least as b does, after what the basis explains.

    Args:
        a, b: [n], with mean 0 and without what the basis explains.
        basis: orthonormal, [n, k].
    """
    from scipy import stats

    def statistic(rows: Numbers) -> Numbers:
        left = (rows**2).sum(1) - ((rows @ basis) ** 2).sum(1)
        return np.asarray((rows @ a) / np.sqrt(np.maximum(left, np.finfo(float).tiny)))

    observed, length = float(statistic(b[None])[0]), math.sqrt(float(a @ a))
    if len(b) > _MOST_PERMUTED:
        return float(stats.norm.sf(observed / length * math.sqrt(len(b) - max(1, basis.shape[1])))) if length else 1.0
    rows = np.random.default_rng(0).permuted(np.tile(b, (_PERMUTATIONS, 1)), axis=1)
    higher = int((statistic(rows) >= observed - 1e-9 * length).sum())  # equal but for rounding
    return (1 + higher) / (1 + _PERMUTATIONS)


_Scale = Callable[[ArrayLike], Numbers]


def normal_scores(values: ArrayLike) -> Numbers:
    """The values that a normal distribution has at the ranks."""
    from scipy import special

    surplus = _surplus(values)
    return np.asarray(special.ndtri((1 + surplus / max(1, len(surplus))) / 2), float)


def _standardised(values: ArrayLike) -> Numbers:
    raw = np.asarray(values, float)
    # A power of two, which leaves the digits as they are: the squares of values near 1e300 are infinite.
    scaled = np.asarray(np.ldexp(raw, -int(np.frexp(np.abs(raw).max())[1])), float)
    return np.asarray((scaled - scaled.mean()) / max(float(scaled.std()), np.finfo(float).tiny))


def _basis(explanations: Sequence[ArrayLike], n: int, scale: _Scale) -> Numbers:
    """An orthonormal basis of a constant, the explanations and their squares: [n, k]."""
    scaled = [scale(values) for values in explanations]
    columns = [np.ones(n), *scaled, *(values**2 for values in scaled)]
    unit = np.stack([column / max(float(np.linalg.norm(column)), np.finfo(float).tiny) for column in columns], 1)
    left, singular, _ = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(left[:, singular > 1e-6 * singular[0]])


def given(x: ArrayLike, y: ArrayLike, explanations: Sequence[ArrayLike]) -> dict[str, Any]:
    """What x and y have in common that explanations do not explain together.

    The regression on the explanations and their squares is taken out of x and of y, and what is left is correlated:
    once of ranks (as normal scores), where outliers and scales make no difference, and once of the values themselves,
    where a sum of explanations is one. Each way alone takes some functions of explanations for news.

    Args:
        x, y: [n].
        explanations: each [n].

    Returns:
        `ranks` and `values`; see `partial`.
    """
    return {"ranks": partial(x, y, explanations), "values": partial(x, y, explanations, _standardised)}


def partial(
    x: ArrayLike, y: ArrayLike, explanations: Sequence[ArrayLike], scale: _Scale = normal_scores
) -> dict[str, Any]:
    """What x and y have in common that explanations do not explain, on one scale; see `given`.

    Returns:
        `value`, the partial correlation r as a tau, 2 / pi asin(r); its `interval`, see
        `supernet.trust.ranks.estimate`; and `p`, of a one-sided permutation test (Freedman and Lane, 1983), which is
        only made if the interval lies above 0. All None if the explanations leave nothing of x or y, or if there are
        too few points for them.
    """
    both = np.stack([scale(x), scale(y)], 1)
    n = len(both)
    basis = _basis(explanations, n, scale)
    left = both - basis @ (basis.T @ both)
    if n - basis.shape[1] < 3 or ((left**2).sum(0) <= _EXPLAINED * (both**2).sum(0)).any():
        return {"value": None, "interval": None, "p": None}
    correlations = np.concatenate([[_correlation(left)], _correlation_without_each(left, basis)])
    taus = 2 / math.pi * np.arcsin(np.clip(correlations, -1, 1))
    tau = estimate(taus, explained=basis.shape[1] - 1)
    is_above = tau["interval"] is not None and tau["interval"][0] > 0
    return {**tau, "p": _share_as_high(left[:, 0], left[:, 1], basis) if is_above else None}


def _correlation(left: Numbers) -> float:
    """Of two columns without what the basis explains."""
    return float(left[:, 0] @ left[:, 1] / math.sqrt((left[:, 0] @ left[:, 0]) * (left[:, 1] @ left[:, 1])))


def _correlation_without_each(left: Numbers, basis: Numbers) -> Numbers:
    """The same without each of the points, [n]; NaN for a point that alone carries it.

    Without a point, the sum of products of two columns loses the product of its two residuals over 1 - h, where h is
    the leverage of the point.
    """
    free = 1 - (basis**2).sum(1)
    free = np.where(free > _EXPLAINED, free, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        xx, yy, xy = (left[:, i] @ left[:, j] - left[:, i] * left[:, j] / free for i, j in ((0, 0), (1, 1), (0, 1)))
        return np.asarray(xy / np.sqrt(np.where((xx > 0) & (yy > 0), xx * yy, np.nan)))


def explained(y: ArrayLike, explanations: Sequence[ArrayLike]) -> tuple[Numbers, float]:
    """What explanations together say of the ranks of y, by a linear regression on normal scores.

    It is fitted to these y, so it agrees with them better than it would with others: three explanations that mean
    nothing have a tau of about 0.2 with 36 networks. The adjusted R squared (Ezekiel, 1930) says by how much.

    Returns:
        - the fitted values, [n];
        - the share of their agreement with y that is left without what fitting alone brings, from 0 to 1: the root of
          the adjusted R squared over R squared.
    """
    scores = normal_scores(y)
    n = len(scores)
    unit = np.stack([np.ones(n), *(normal_scores(values) for values in explanations)], 1)
    left, singular, _ = np.linalg.svd(unit, full_matrices=False)
    basis = left[:, singular > 1e-6 * singular[0]]
    fitted = np.asarray(basis @ (basis.T @ scores))
    total = float(((scores - scores.mean()) ** 2).sum())
    share = float(((fitted - fitted.mean()) ** 2).sum()) / total if total else 0.0
    free = n - basis.shape[1]
    adjusted = 1 - (1 - share) * (n - 1) / free if free > 0 else 0.0
    return fitted, math.sqrt(min(1.0, max(0.0, adjusted) / share)) if share > 0 else 0.0
