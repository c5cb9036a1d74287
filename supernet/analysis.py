"""How far scores can be trusted, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP = 2000
"""Bootstrap samples for an interval."""


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, Any]:
    """Agreement of two rankings.

    Args:
        scores: one-shot scores, of any scale.
        accuracies: stand-alone accuracies of the same architectures.

    Returns:
        `n`, and `spearman` and `kendall` (tau-b) from -1 to 1; None where they are not defined, that is for fewer
        than 3 architectures or where all values are equal. `kendall_interval`: what 95 % of 2,000 bootstrap samples
        of the architectures lie in, as [lowest, highest].

    Raises:
        ValueError: the lengths differ.
    """
    from scipy import stats

    if len(scores) != len(accuracies):
        raise ValueError(f"expected as many accuracies as scores, got {len(accuracies)} and {len(scores)}")
    result: dict[str, Any] = {"n": len(scores), "spearman": None, "kendall": None, "kendall_interval": None}
    if len(scores) >= 3 and len(set(scores)) > 1 and len(set(accuracies)) > 1:
        for name, function in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
            value = float(function(scores, accuracies).statistic)
            result[name] = None if math.isnan(value) else value
        pairs = np.array([scores, accuracies], dtype=np.float64)
        draws = np.random.default_rng(0).integers(0, len(scores), (BOOTSTRAP, len(scores)))
        taus = [_tau(*pairs[:, draw]) for draw in draws]
        defined = [tau for tau in taus if not math.isnan(tau)]
        result["kendall_interval"] = np.quantile(defined, [0.025, 0.975]).tolist()
    return result


def _tau(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Kendall's tau-b; for a few points counting pairs is much faster than scipy's function."""
    above = np.triu_indices(len(x), 1)
    dx, dy = (np.sign(v[:, None] - v[None, :])[above] for v in (x, y))
    scale = math.sqrt(np.count_nonzero(dx) * np.count_nonzero(dy))
    return float(dx @ dy) / scale if scale else math.nan
