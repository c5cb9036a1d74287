"""How far scores can be trusted, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def rank_correlation(scores: Sequence[float], accuracies: Sequence[float]) -> dict[str, Any]:
    """Agreement of two rankings.

    Args:
        scores: one-shot scores, of any scale.
        accuracies: stand-alone accuracies of the same architectures.

    Returns:
        `n`, and `spearman` and `kendall` (tau-b) from -1 to 1; None where they are not defined, that is for fewer
        than 3 architectures or where all values are equal.

    Raises:
        ValueError: the lengths differ.
    """
    from scipy import stats

    if len(scores) != len(accuracies):
        raise ValueError(f"expected as many accuracies as scores, got {len(accuracies)} and {len(scores)}")
    result: dict[str, Any] = {"n": len(scores), "spearman": None, "kendall": None}
    if len(scores) >= 3 and len(set(scores)) > 1 and len(set(accuracies)) > 1:
        for name, function in (("spearman", stats.spearmanr), ("kendall", stats.kendalltau)):
            value = float(function(scores, accuracies).statistic)
            result[name] = None if math.isnan(value) else value
    return result
