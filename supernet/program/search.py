"""`supernet search`: step 3 on a run folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from supernet.base.files import read_json, record_digest, write_json
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.program.folder import is_done, record_environment, set_aside
from supernet.program.load import Loaded, load_one_shot
from supernet.program.paths import RunFolder
from supernet.program.score import evaluation_of, measuring_of
from supernet.search.config import SearchConfig
from supernet.search.finalists import finalists, from_json, in_order, to_json
from supernet.search.latency import changed, latency_costs
from supernet.search.limits import region
from supernet.search.recording import score_into
from supernet.search.rounds import search
from supernet.search.table import read_failures, read_some
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table
from supernet.speed.runtime import Runtime


def search_step(run: Loaded, runtime: Runtime, watch: Watch) -> bool:
    """Step 3 on a run folder. Returns whether there was anything to do."""
    folder, config = run.folder, run.config
    if is_done(folder, "search"):
        return False
    if folder.finalists.exists():
        log.warning("%s is lost: the search is done again", folder.candidates)
        set_aside(folder.finalists)
    space, table, drawn = run.space, folder.candidates, folder.drawn_finalists
    evaluation = None
    if config.search.score != "none":
        model = load_one_shot(run)
        runtime.place(model)
        evaluation = evaluation_of(model, config, run.data, runtime)
    record_environment(folder, "search", runtime.tuning)
    _say_ranking(config.search)
    costs = _search_costs(config.search, space, runtime, folder)
    measuring = measuring_of(config, run.data, runtime)
    if not drawn.exists():
        candidates = search(
            evaluation, costs, config.search, seed=config.seed, table=table, measuring=measuring, watch=watch
        )
        groups = finalists(candidates, space, config.search, generator=stream(config.seed, "finalists"))
        write_json(drawn, to_json(groups), digest=True)
    # Finalists that left the race early are scored on all examples, like the others. The draw is written before that:
    # it must not change when a killed search continues.
    groups = from_json(read_json(drawn), space)
    if evaluation is not None:
        score_into(table, members_of(groups), evaluation, costs, config.search, watch=watch)
    if failures := read_failures(table):
        text, error = next(iter(failures.items()))
        log.warning(
            "search: %d candidates could not be scored, and rank last; the first is %s (%s)", len(failures), text, error
        )
    record_digest(table)
    write_json(folder.finalists, to_json(in_order(groups, read_some(table, members_of(groups)))), digest=True)
    drawn.unlink()
    return True


def check_measured_limits(run: Loaded, runtime: Runtime) -> None:
    """Measures latency and memory before the one-shot model is trained, if they are limited. The search reuses them.

    Raises:
        LimitsError: nothing in the space meets the limits.
    """
    config = run.config.search
    if {"latency", "memory"} & set(config.limits.bounds()) and not run.folder.finalists.exists():
        region(_search_costs(config, run.space, runtime, run.folder), config.limits, merge=config.merge)


def members_of(groups: Mapping[str, Sequence[Architecture]]) -> list[Architecture]:
    """The finalists that are candidates, each once."""
    return list(dict.fromkeys(a for name, members in groups.items() if name != "All On" for a in members))


def _say_ranking(config: SearchConfig) -> None:
    """Says what candidates are ranked by, if not by their scores alone."""
    if not config.parts:
        return
    parts = ", ".join(f"{name} {weight:g}" for name, weight in config.parts.items())
    log.info(
        "search: candidates are ranked by %s, each part by its place among up to %s random architectures%s",
        parts,
        f"{config.rank_sample:,}",
        "; no one-shot model is trained or asked" if config.score == "none" else "; they do not race",
    )


def _search_costs(config: SearchConfig, space: Space, runtime: Runtime, folder: RunFolder) -> CostTable:
    """What candidates cost, with latency and memory on the run's device where a limit or an objective asks for them."""
    if not {"latency", "memory"} & set(config.needs):
        return cost_table(space)
    path = folder.latency
    if path.exists() and (differing := changed(path, config.latency, runtime.device)):
        begun = folder.candidates.exists()
        more = ", and the search that it belongs to is set aside" if begun else ""
        log.info("latency is measured anew%s: it was measured with %s", more, "; ".join(differing))
        for stale in (folder.latency, folder.candidates, folder.sample, folder.drawn_finalists):
            set_aside(stale)
    return latency_costs(space, config.latency, runtime.device, path)


log = logging.getLogger(__name__)
