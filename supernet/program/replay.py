"""`supernet analyze --replay`: strategies compared on the scores of a run."""

from __future__ import annotations

import hashlib
import importlib.util
from typing import Any

import numpy as np

from supernet.base.progress import Watch
from supernet.program.analyze import known_so_far, write_analysis
from supernet.program.folder import Opened, RunError, require, task_of
from supernet.program.load import space_of_run
from supernet.search.limits import LISTED, region
from supernet.search.orders import on_most
from supernet.search.strategies import GENERATION, STRATEGIES
from supernet.search.table import read_candidates
from supernet.space.cost import cost_table
from supernet.trust.replay import Contest, marks, replay


def analyze_replay(run: Opened, seeds: int, watch: Watch) -> dict[str, Any]:
    """Whether a strategy is worth it: each asks again, over seeds, and is answered from the run's table.

    Every architecture of the space, within the limits of the search, has to be in it with a score on all examples. No
    network is run. What was played already, with the same scores and settings, is not played again.

    Args:
        run: it; its search is done.
        seeds: how many.
        watch: progress and stop.

    Returns:
        `replay` of `analysis.json`: candidates, the best score, the standard error of one (the median, where there is
        one), budget, batch, `marks`, and for each strategy the `regret` at each of them; see `supernet.trust.replay`.

    Raises:
        RunError: the table does not have all of the space.
        Interrupted: asked to stop; the same call continues.
    """
    folder, config = run.folder, run.config
    require(folder, "search")
    space = space_of_run(run)
    asked = config.search
    if measured := {"latency", "memory"} & set(asked.limits.bounds()):
        raise RunError(f"replay: needs a search without limits of latency and memory; this one limits {min(measured)}")
    if space.size > LISTED:
        raise RunError(f"replay: is for spaces of at most {LISTED:,} architectures; {space.name!r} has {space.size:,}")
    allowed = region(cost_table(space), asked.limits, merge=asked.merge)
    whole = on_most(read_candidates(folder.candidates, space))
    by_key = {allowed.key(c.architecture): c for c in whole}
    keys = dict.fromkeys(map(allowed.key, allowed.listed or ()))
    if missing := sum(key not in by_key for key in keys):
        raise RunError(
            f"replay: {missing:,} of {len(keys):,} architectures have no score on all examples: `supernet search "
            f"{folder} --strategy enumeration --exhaustive --search.candidates null` scores all of them, as long as "
            "the test split is closed"
        )
    scores = {key: by_key[key].score for key in keys}
    names: dict[str, dict[str, Any]] = {name: {} for name in STRATEGIES if name != "enumeration"}
    if asked.strategy != "enumeration":
        names[asked.strategy] = asked.strategy_settings
    if importlib.util.find_spec("optuna") is None:
        names = {name: settings for name, settings in names.items() if name not in ("nsga2", "tpe")}
    errors = [c.deviation for c in by_key.values() if c.deviation is not None]
    budget = min(_BUDGET, len(scores))
    batch = asked.batch or max(1, min(GENERATION, budget // 10))
    facts = {
        "candidates": len(scores),
        "best": max(scores.values()),
        "deviation": float(np.median(errors)) if errors else None,
        "budget": budget,
        "batch": batch,
        "settings": names,
        "scores": hashlib.sha256(repr(sorted(scores.items())).encode()).hexdigest()[:16],
    }
    before = known_so_far(folder).get("replay", {})
    runs = before["runs"] if {name: before.get(name) for name in facts} == facts else {}
    result: dict[str, Any] = {
        **facts,
        "metric": task_of(run).metric,
        "score": asked.ranked_by,
        "runs": runs,
        "regret": {},
    }
    result["runs"], result["regret"] = replay(
        Contest(allowed, scores, budget, batch), names, seeds=seeds, runs=runs,
        save=lambda runs: write_analysis(folder, {"replay": {**result, "runs": runs}}), watch=watch,
    )  # fmt: skip
    result |= {"marks": marks(budget), "seeds": seeds}
    write_analysis(folder, {"replay": result})
    return result


_BUDGET = 500
"""Candidates of a replayed search, at the most."""
