"""Is a strategy worth it? Every strategy asks again, over seeds, and is answered from a table of scores.

Where all of a small space is scored this costs no forward pass. What counts is the regret: the best score of the table
less the best that was found so far. Ours; the paper has one strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.progress import Interrupted, Progress
from supernet.search import strategies
from supernet.search.limits import Region

MARKS = (10, 20, 50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000)
"""Numbers of candidates at which the regret is told."""

Runs = MutableMapping[str, dict[str, list[float]]]
"""For each strategy and each seed (as text) the best so far at each of the marks."""


def best_so_far(
    name: str,
    settings: Mapping[str, Any],
    region: Region,
    scores: Mapping[str, float],
    budget: int,
    batch: int,
    *,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> list[float]:
    """The best score that a strategy has found after 1, 2, ... candidates; shorter where it came to its end.

    Args:
        name, settings: of the strategy.
        region: what it may ask for.
        scores: for the key of every architecture in the region its score; more is better.
        budget: candidates.
        batch: that it is asked for at once.
        seed: of the strategy.
        stop: asked before each batch.

    Raises:
        Interrupted: `stop` said so.
        ValueError: see `supernet.search.strategies.make`.
    """
    strategy = strategies.make(name, dict(settings), region, seed=seed)
    seen: dict[str, float] = {}
    idle = 0
    while len(seen) < budget and idle < strategies.IDLE:
        if stop():
            raise Interrupted(f"stopped at strategy {name}, seed {seed}")
        with strategies.users_own(name):
            asked = strategy.ask(min(batch, budget - len(seen)))
        if not asked:
            break
        before = len(seen)
        told = [scores[region.key(architecture)] for architecture in asked]
        seen.update(zip(map(region.key, asked), told, strict=True))
        idle = 0 if len(seen) > before else idle + 1
        with strategies.users_own(name):
            strategy.tell(asked, told)
    found: list[float] = np.maximum.accumulate(list(seen.values())).tolist()
    return found


def marks(budget: int) -> list[int]:
    """Numbers of candidates at which the regret is told, the last of them the budget."""
    return [*(n for n in MARKS if n < budget), budget]


def replay(
    region: Region,
    scores: Mapping[str, float],
    names: Mapping[str, Mapping[str, Any]],
    *,
    seeds: int,
    budget: int,
    batch: int,
    runs: Runs,
    save: Callable[[], object] = lambda: None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, dict[str, list[float]]]:
    """Lets strategies ask, with seeds 0, 1, ..., and answers from a table.

    Args:
        region, scores, budget, batch, stop: as for `best_so_far`.
        names: strategies, and the settings of each.
        seeds: how many.
        runs: what was played already, which is not played again; the rest is added.
        save: called whenever something was added.
        progress: called after each run of a strategy.

    Returns:
        For each strategy `regrets`.

    Raises:
        Interrupted: `stop` said so.
        ValueError: see `supernet.search.strategies.make`.
    """
    at = marks(budget)
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    for done, (name, seed) in enumerate(jobs, start=1):
        mine = runs.setdefault(name, {})
        if str(seed) not in mine:
            curve = best_so_far(name, names[name], region, scores, budget, batch, seed=seed, stop=stop)
            mine[str(seed)] = [curve[min(n, len(curve)) - 1] for n in at]
            save()
        if progress is not None:
            progress(done, len(jobs))
    best = max(scores.values())
    return {name: regrets([runs[name][str(seed)] for seed in range(seeds)], best) for name in names}


def regrets(curves: Sequence[Sequence[float]], best: float) -> dict[str, list[float]]:
    """Median, mean, and tenth and ninetieth percentile over seeds of what is missing to the best of all."""
    missing: NDArray[np.float64] = best - np.array(curves)
    return {
        "median": np.median(missing, 0).round(6).tolist(),
        "low": np.quantile(missing, 0.1, 0).round(6).tolist(),
        "high": np.quantile(missing, 0.9, 0).round(6).tolist(),
        "mean": missing.mean(0).round(6).tolist(),
    }
