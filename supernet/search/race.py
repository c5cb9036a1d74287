"""Racing: which candidates are scored on more examples, and which are dropped.

Ours; the paper scores every candidate on the whole validation split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from supernet.base.progress import Watch
from supernet.search.config import SearchConfig
from supernet.search.orders import bands
from supernet.search.recording import score_into
from supernet.search.scoring import Evaluation
from supernet.search.table import right_of
from supernet.space.choices import Architecture
from supernet.space.cost import CostTable

FIRST = 64
"""Examples of the first stage."""

_GROWTH = 2
"""Each stage has this many times the examples of the one before, those among them."""

_RACING_BANDS = 5
"""If size is an objective too, candidates race against those of about their size, in this many bands."""


def race(
    table: Path,
    architectures: Sequence[Architecture],
    evaluation: Evaluation,
    costs: CostTable,
    config: SearchConfig,
    *,
    number: int,
    round_: int,
    watch: Watch,
) -> None:
    """Scores the candidates of one round into the table, racing if the settings and the metric allow it.

    If a round is a part of all candidates, the race looks for the same share of the best as `config.top_of` is of all.
    If size is an objective, candidates race within bands of size. With a joint rank they do not race, since what a few
    examples say of an accuracy says little of a rank that has other parts.

    Args:
        number: of candidates of the whole search.

    Otherwise as for `supernet.search.recording.score_into`.
    """
    in_bands = _RACING_BANDS if len(config.sought) > 1 else config.bands
    keep = max(1, math.ceil(config.top_of * len(architectures) / number / in_bands))
    if config.exhaustive or config.parts or len(architectures) <= keep * in_bands or not evaluation.adds_up:
        score_into(table, architectures, evaluation, costs, config, round_=round_, watch=watch)
        return
    counts = stages(evaluation.count, evaluation.ghost_size)
    groups = [list(architectures)]
    if in_bands > 1:
        size = dict(zip(architectures, costs.column("params", architectures).tolist(), strict=True))
        groups = bands(architectures, in_bands, size.__getitem__)
    alive = list(architectures)
    for count in counts:
        score_into(table, alive, evaluation, costs, config, count=count, round_=round_, watch=watch)
        if count < evaluation.count:
            lose = config.lose * keep / (len(counts) - 1)
            for i, group in enumerate(groups):
                right, bonus = right_of(table, group, count), config.size_bonus * costs.doublings(group)
                stay = survivors(right, evaluation.count, keep, lose, bonus)
                groups[i] = list(itertools.compress(group, stay))
            kept = {architecture for group in groups for architecture in group}
            alive = [architecture for architecture in alive if architecture in kept]


def stages(examples: int, ghost_size: int) -> list[int]:
    """Numbers of examples, each a multiple of the ghost size, up to all of them."""
    counts = []
    count = max(1, FIRST // ghost_size) * ghost_size
    while count * 2 <= examples:
        counts.append(count)
        count *= _GROWTH
    return [*counts, examples]


def survivors(
    right_CN: NDArray[np.bool_], examples: int, keep: int, lose: float, bonus_C: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Which candidates stay in the race.

    A candidate's accuracy on all examples is taken to be normal around the accuracy so far, drawn to the mean of all
    candidates as far as its differences may be chance (empirical Bayes). The candidates that are least likely to reach
    the accuracy of the `keep`-th leave, as long as the number of true ones among them is expected to be at most
    `lose`. Examples that are hard for all candidates alike make no difference, since all saw the same examples.

    The promise holds for one normal population. In two clusters of which the better one hardly varies, differences
    within it are chance but count as quality: up to twice as many are lost on average, and more in single races (see
    `test_more_are_lost_where_candidates_are_two_clusters`). A smaller `lose` makes up for it.

    Args:
        right_CN: whether candidate c is right on example n, for the examples so far, a random part of all.
        examples: number of all examples.
        keep: number of the best that are looked for.
        lose: number of them that may be lost in this stage, on average.
        bonus_C: what is added to each accuracy in the ranking; None for nothing.

    Returns:
        bool [C], at least `keep` of them true (all, if there are fewer).
    """
    candidates, seen = right_CN.shape
    stay = np.ones(candidates, bool)
    if candidates <= keep or seen >= examples:
        return stay
    accuracy = right_CN.mean(1)
    centre = accuracy.mean()
    # Variance of an accuracy that is due to which examples were seen: what is left without each example's own
    # difficulty, for a sample of this size drawn without replacement.
    residual = right_CN - accuracy[:, None] - (right_CN.mean(0) - centre)
    chance = float((residual**2).mean()) / (seen - 1) * (1 - seen / examples) * candidates / (candidates - 1)
    between = float(accuracy.var(ddof=1))
    reliable = max(0.0, 1 - chance / between) if between > 0 else 0.0
    if reliable == 0:
        return stay
    expected = centre + reliable * (accuracy - centre) + (0.0 if bonus_C is None else bonus_C)
    deviation = math.sqrt(reliable * chance)
    mark = np.partition(expected, -keep)[-keep]
    reach = NormalDist().cdf
    order = np.argsort(expected, kind="stable")
    lost = np.cumsum([reach((expected[i] - mark) / deviation) for i in order])
    stay[order[: min(int(np.searchsorted(lost, lose, side="right")), candidates - keep)]] = False
    return stay
