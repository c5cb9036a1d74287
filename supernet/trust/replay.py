"""Is a strategy worth it? Every strategy is run again, over seeds, with scores from a table.

If all of a small space is scored, this costs no forward pass. What counts is the regret: the best score of the table
minus the best that the strategy has seen so far. Ours; the paper has one strategy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.progress import UNWATCHED, Interrupted, Watch
from supernet.search import strategies
from supernet.search.limits import Region

MARKS = (10, 20, 50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500, 2000)
"""Numbers of candidates at which the regret is given."""

Runs = Mapping[str, Mapping[str, list[float]]]
"""For each strategy and each seed (as text) the best so far at each of the marks."""


@dataclass(frozen=True, slots=True)
class Contest:
    """What strategies are compared on.

    Attributes:
        region: what they may ask for.
        scores: for the key of every architecture in the region its score; more is better.
        budget: candidates of each run.
        batch: candidates that are asked for at once.
    """

    region: Region
    scores: Mapping[str, float]
    budget: int
    batch: int


def best_so_far(
    name: str, settings: Mapping[str, Any], contest: Contest, *, seed: int, stop: Callable[[], bool] = lambda: False
) -> list[float]:
    """The best score that a strategy has found after 1, 2, ... candidates; shorter if it came to its end.

    Args:
        name, settings: of the strategy.
        contest: what it is run on.
        seed: of the strategy.
        stop: called before each batch.

    Raises:
        Interrupted: `stop` said so.
        ValueError: see `supernet.search.strategies.make`.
    """
    region, budget = contest.region, contest.budget
    strategy = strategies.make(name, dict(settings), region, seed=seed)
    seen: dict[str, float] = {}
    idle = 0
    while len(seen) < budget and idle < strategies.IDLE:
        if stop():
            raise Interrupted(f"stopped at strategy {name}, seed {seed}")
        with strategies.users_own(name):
            asked = strategy.ask(min(contest.batch, budget - len(seen)))
        if not asked:
            break
        before = len(seen)
        scores = [contest.scores[region.key(architecture)] for architecture in asked]
        seen.update(zip(map(region.key, asked), scores, strict=True))
        idle = 0 if len(seen) > before else idle + 1
        with strategies.users_own(name):
            strategy.tell(asked, scores)
    best: list[float] = np.maximum.accumulate(list(seen.values())).tolist()
    return best


def marks(budget: int) -> list[int]:
    """Numbers of candidates at which the regret is given, the last of them the budget."""
    return [*(n for n in MARKS if n < budget), budget]


def replay(
    contest: Contest,
    names: Mapping[str, Mapping[str, Any]],
    *,
    seeds: int,
    runs: Runs,
    save: Callable[[Runs], object] = lambda runs: None,
    watch: Watch = UNWATCHED,
) -> tuple[Runs, dict[str, dict[str, list[float]]]]:
    """Runs strategies with seeds 0, 1, ..., with scores from a table.

    Args:
        contest: what they are run on.
        names: strategies, and the settings of each.
        seeds: how many.
        runs: those that are finished, which are not run again.
        save: called with all runs whenever one is finished.
        watch: its progress is called after each run of a strategy, and its stop before each batch.

    Returns:
        All runs, and for each strategy its `regrets`.

    Raises:
        Interrupted: `watch.stop` said so.
        ValueError: see `supernet.search.strategies.make`.
    """
    at = marks(contest.budget)
    pairs = [(name, seed) for name in names for seed in range(seeds)]
    for done, (name, seed) in enumerate(pairs, start=1):
        if str(seed) not in runs.get(name, {}):
            curve = best_so_far(name, names[name], contest, seed=seed, stop=watch.stop)
            best_at = [curve[min(n, len(curve)) - 1] for n in at]
            runs = {**runs, name: {**runs.get(name, {}), str(seed): best_at}}
            save(runs)
        watch.progress(done, len(pairs))
    best = max(contest.scores.values())
    return runs, {name: regrets([runs[name][str(seed)] for seed in range(seeds)], best) for name in names}


def regrets(curves: Sequence[Sequence[float]], best: float) -> dict[str, list[float]]:
    """Median, mean, and tenth and ninetieth percentile over seeds of what is missing to the best of all."""
    missing: NDArray[np.float64] = best - np.array(curves)
    return {
        "median": np.median(missing, 0).round(6).tolist(),
        "low": np.quantile(missing, 0.1, 0).round(6).tolist(),
        "high": np.quantile(missing, 0.9, 0).round(6).tolist(),
        "mean": missing.mean(0).round(6).tolist(),
    }
