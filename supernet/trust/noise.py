"""What the noise of accuracies hides: how far repeats of a training agree, and what a score could reach at best.

Ours, after Spearman's correction for attenuation (1904). Tau is turned into a correlation and back by
r = sin(pi tau / 2), which is exact for normal distributions.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.trust.ranks import estimate, leave_one_out

_Estimate = dict[str, Any]

Z95, _Z80 = 1.96, 0.84
"""Standard deviations that hold 95 % of a normal distribution to either side, and 80 % to one side."""

_MOST_NETWORKS = 10_000
"""More are not proposed."""


def _correlation_of(tau: float) -> float:
    """The correlation of two normal variables with a tau."""
    return math.sin(math.pi / 2 * tau)


def _tau_of(correlation: float) -> float:
    """The tau of two normal variables with a correlation."""
    return 2 / math.pi * math.asin(max(-1.0, min(1.0, correlation)))


def repeatability(accuracies_nR: ArrayLike, weights: ArrayLike | None = None) -> _Estimate | None:
    """Kendall's tau between single trainings of the same networks with other seeds.

    Args:
        accuracies_nR: of n networks, up to R repeats each; NaN where a repeat is missing.
        weights: of pairs of networks, [n, n]; see `supernet.trust.ranks.kendall`.

    Returns:
        `value` and `interval`: the mean over all pairs of repeats, of which each counts by its networks; None if no
        four networks were trained twice.
    """
    repeats = np.asarray(accuracies_nR, float)
    if repeats.ndim != 2:
        return None
    sums, counts = np.zeros(1 + len(repeats)), 0
    for second in range(repeats.shape[1]):
        for first in range(second):
            has_both = ~np.isnan(repeats[:, [first, second]]).any(1)
            number = int(has_both.sum())
            if number < 4:
                continue
            place = np.flatnonzero(has_both)
            some = None if weights is None else np.asarray(weights)[np.ix_(place, place)]
            taus = leave_one_out(repeats[place, first], repeats[place, second], some)
            row = np.full(1 + len(repeats), taus[0])  # a network without both changes nothing
            row[1 + place] = taus[1:]
            sums, counts = sums + number * row, counts + number
    return estimate(sums / counts) if counts else None


def repeats_of_mean(accuracies_nR: ArrayLike) -> float:
    """How many repeats the mean of each network has: the harmonic mean over networks, as the variance goes by 1 / R."""
    repeats = np.asarray(accuracies_nR, float)
    return 1.0 if repeats.ndim == 1 else 1 / float((1 / np.maximum(1, (~np.isnan(repeats)).sum(1))).mean())


def highest_tau(tau_of_repeats: float, repeats: float) -> float:
    """The tau that the networks' true quality has with the mean of R repeats.

    With r = sin(pi tau / 2) of single repeats it is 2 / pi asin(sqrt(R r / (1 + (R - 1) r))), the mean's reliability
    being that of Spearman and Brown (1910).
    """
    r = max(0.0, _correlation_of(tau_of_repeats))
    return _tau_of(math.sqrt(repeats * r / (1 + (repeats - 1) * r)))


def ceiling(accuracies_nR: ArrayLike, weights: ArrayLike | None = None) -> _Estimate | None:
    """The tau that the true quality of networks has with their measured accuracies, which no score exceeds but by luck.

    Arguments are those of `repeatability`.

    Returns:
        `value`, `interval`, see `highest_tau`, and `repeatability`; None if no four networks were trained twice.
    """
    tau, repeats = repeatability(accuracies_nR, weights), repeats_of_mean(accuracies_nR)
    if tau is None:
        return None
    value, limits = tau["value"], tau["interval"]
    return {
        "value": None if value is None else highest_tau(value, repeats),
        "interval": None if limits is None else [highest_tau(edge, repeats) for edge in limits],
        "repeatability": tau,
    }


def corrected(tau: _Estimate, highest: _Estimate | None) -> _Estimate | None:
    """Tau of the scores with accuracies without noise.

    Args:
        tau: measured, with its interval.
        highest: see `ceiling`.

    Returns:
        `value` and `interval`, which holds what both intervals together allow, so that it is rather too wide. None if
        the noise of the accuracies is unknown.
    """
    if highest is None or highest["value"] is None or highest["interval"] is None or tau["value"] is None:
        return None
    if tau["interval"] is None:
        return {"value": _without_noise(tau["value"], highest["value"]), "interval": None}
    (low, high), (lowest, most) = tau["interval"], highest["interval"]
    return {
        "value": _without_noise(tau["value"], highest["value"]),
        "interval": [
            _without_noise(low, lowest if low < 0 else most),
            _without_noise(high, lowest if high > 0 else most),
        ],
    }


def _without_noise(tau: float, highest: float) -> float:
    ratio = _correlation_of(highest)
    return _tau_of(_correlation_of(tau) / ratio) if ratio > 0 else float(np.sign(tau))


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
    return Z95 * math.sqrt(disagree / examples)


def _deviation_of_tau(networks: int) -> float:
    """The standard deviation of tau of as many independent pairs (Kendall, 1938)."""
    return math.sqrt(2 * (2 * networks + 5) / (9 * networks * (networks - 1)))


def networks_needed(tau: float, spread: float = 1.0) -> int | None:
    """How many networks show that tau is above 0, in 80 % of cases at a one-sided level of 2.5 %; None above 10,000.

    Args:
        tau: that is to be expected.
        spread: how many times as large as that of independent pairs its standard deviation is.
    """

    def is_enough(networks: int) -> bool:
        return (Z95 + _Z80) * spread * _deviation_of_tau(networks) <= tau

    numbers = range(4, _MOST_NETWORKS + 1)
    place = bisect.bisect_left(numbers, True, key=is_enough)
    return numbers[place] if place < len(numbers) else None


def spread_of(tau: _Estimate, networks: int) -> float:
    """How many times as wide the interval of a tau is as that of independent pairs, at least 1.

    It is wider if some networks stand for many candidates.
    """
    if tau["interval"] is None:
        return 1.0
    low, high = tau["interval"]
    return max(1.0, float(high - low) / (2 * Z95 * _deviation_of_tau(networks)))


def designs(
    tau_of_repeats: float, true_tau: float, repeats: Sequence[int], spread: float = 1.0
) -> list[dict[str, Any]]:
    """How many networks would tell, for numbers of repeats.

    Args:
        tau_of_repeats: between single trainings; see `repeatability`.
        true_tau: of scores with accuracies without noise, which is to be found.
        repeats: numbers of trainings of each network.
        spread: see `networks_needed`.

    Returns:
        For each `repeats`, `ceiling`, the `tau` that is to be expected, `networks` and `trainings`; the last two None
        if no 10,000 networks would do.
    """
    rows = []
    for number in repeats:
        highest = highest_tau(tau_of_repeats, number)
        tau = _tau_of(_correlation_of(true_tau) * _correlation_of(highest))
        networks = networks_needed(tau, spread)
        rows.append(
            {
                "repeats": number, "ceiling": highest, "tau": tau, "networks": networks,
                "trainings": None if networks is None else number * networks,
            }
        )  # fmt: skip
    return rows
