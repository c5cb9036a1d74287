"""Step 3, search: a strategy is asked for candidates and told their scores, round by round.

References:
    Bender et al., ICML 2018, section 3.3.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.base.progress import UNWATCHED, Watch
from supernet.base.randomness import stream
from supernet.search import strategies
from supernet.search.config import SearchConfig
from supernet.search.limits import Region, region
from supernet.search.orders import Candidate, objectives_of
from supernet.search.race import race
from supernet.search.recording import Measuring, fix_ranking, leave_unscored, measure_into, rescore
from supernet.search.scoring import Evaluation
from supernet.search.table import Round, parser_of, read_rounds, read_some, write_round
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable

log = logging.getLogger(__name__)

_WITHOUT_NUMBER = 500
"""Candidates of a search whose settings have no number."""


def search(
    evaluation: Evaluation | None,
    costs: CostTable,
    config: SearchConfig,
    *,
    seed: int,
    table: Path,
    measuring: Measuring | None = None,
    watch: Watch = UNWATCHED,
) -> list[Candidate]:
    """Asks a strategy for candidates and scores them, round by round; nothing is scored twice.

    Unless `config.exhaustive`, the candidates of a round race on more and more of the examples; see
    `supernet.search.race`. Candidates in the table are not scored again. A search that was killed continues as if it
    had not been: a complete round is in the table, with what the strategy asked for and was told, and from these the
    strategy is made again.

    With a joint rank (`config.rank`) a sample of random architectures is measured and scored first; see
    `supernet.search.ranking`.

    Args:
        evaluation: the trained one-shot model, the validation examples to score on, and how; None if candidates are
            not scored.
        costs: of the space, with a column for each cost that a limit or an objective names.
        config: the strategy, how many candidates, within which limits.
        seed: of the run.
        table: SQLite file with every candidate.
        measuring: how untrained networks are measured, if they are.
        watch: its progress is called after each candidate, and its stop before each.

    Returns:
        All candidates in the order asked for; of those with the same function the first.

    Raises:
        Interrupted: `watch.stop` said so.
        LimitsError: nothing in the space meets the limits.
        ValueError: more candidates than the space has, or a strategy that does not keep to its contract.
    """
    space = costs.space
    number, batch = numbers(config, space)
    allowed = region(costs, config.limits, merge=config.merge)
    strategy = strategies.make(
        config.strategy, config.strategy_settings, allowed, seed=seed, objectives=len(config.sought)
    )
    if config.parts:
        drawn = allowed.draw(config.rank_sample, generator=stream(seed, "rank sample"))
        sample = _admitted(drawn, allowed, seed, -1, lean=config.merge)
        fix_ranking(table, sample, evaluation, costs, config, measuring, watch)
    candidates: dict[str, Architecture] = {}  # by key: architectures with the same function have one
    scores: dict[str, Any] = {}
    idle = 0  # rounds in a row without a new candidate
    history, state = _history(table, space)
    for told, result in history:
        keys = list(map(allowed.key, told))
        new = _new(told, keys, candidates)
        idle = 0 if new else idle + 1
        candidates |= new
        scores |= zip(keys, result, strict=True)
    _continue(strategy, history, state, config.strategy, table)
    for index in itertools.count(len(history)):
        most = min(batch, number - len(candidates)) if idle < strategies.IDLE else 0
        asked = _ask(strategy, config.strategy, most)
        if not asked:
            break
        told = _admitted(asked, allowed, seed, index, lean=config.merge)
        keys = list(map(allowed.key, told))
        new = _new(told, keys, candidates)
        idle = 0 if new else idle + 1
        shown = _of_all(watch, strategy, len(candidates), number if batch < number else None)
        measure_into(table, list(new.values()), costs, config, measuring, shown)
        if evaluation is None:
            leave_unscored(table, list(new.values()), costs, config, index)
        else:
            race(table, list(new.values()), evaluation, costs, config, number=number, round_=index, watch=shown)
        candidates |= new
        for key, candidate in zip(new, read_some(table, list(new.values())), strict=True):
            scores[key] = _as_told(objectives_of(candidate, config.sought))
        result = [scores[key] for key in keys]
        with strategies.users_own(config.strategy):
            strategy.tell(told, result)
        write_round(table, index, Round(list(map(str, asked)), list(map(str, told)), result, _state(strategy)))
    if len(candidates) < number:
        reason = "asked for nothing new any more" if idle else "had no more to ask for"
        log.info("strategy %s %s after %d of %d candidates", config.strategy, reason, len(candidates), number)
    everything = list(candidates.values())
    if evaluation is not None and evaluation.runtime.tuning.precision != "32-true":
        rescore(table, read_some(table, everything), evaluation, config, watch)
    return read_some(table, everything)


def numbers(config: SearchConfig, space: Space) -> tuple[int, int]:
    """The candidates of the search, and those of a round.

    Raises:
        ValueError: more candidates than the space has.
    """
    if config.candidates is not None and config.candidates > space.size:
        raise ValueError(f"expected at most {space.size:,} candidates (the whole space), got {config.candidates:,}")
    usual = space.size if config.strategy == "enumeration" else min(_WITHOUT_NUMBER, space.size)
    number = usual if config.candidates is None else config.candidates
    return number, config.batch or (number if config.strategy in strategies.AT_ONCE else strategies.GENERATION)


def _history(table: Path, space: Space) -> tuple[list[tuple[list[Architecture], list[Any]]], str]:
    """For each complete round what the strategy was told, architectures and scores; and its state after the last."""
    history, state, parse = [], "", parser_of(space)
    for complete in read_rounds(table):
        history.append((list(map(parse, complete.told)), list(map(_as_told, complete.scores))))
        state = complete.state
    return history, state


def _new(
    architectures: Sequence[Architecture], keys: Sequence[str], candidates: Container[str]
) -> dict[str, Architecture]:
    """Those whose keys are not among the candidates, by key; of those with the same function the first."""
    new: dict[str, Architecture] = {}
    for architecture, key in zip(architectures, keys, strict=True):
        if key not in candidates:
            new.setdefault(key, architecture)
    return new


def _ask(strategy: strategies.Strategy, name: str, most: int) -> list[Architecture]:
    """What the strategy asks for next; nothing if nothing may be asked for.

    Raises:
        ValueError: it asks for more than it may.
    """
    if most <= 0:
        return []
    with strategies.users_own(name):
        asked = strategy.ask(most)
    if len(asked) > most:
        raise ValueError(f"strategy {name!r}: expected at most {most} architectures, got {len(asked)}")
    return asked


def _admitted(
    asked: Sequence[Architecture], allowed: Region, seed: int, index: int, *, lean: bool
) -> list[Architecture]:
    """What is scored for each architecture that was asked for: one within the limits.

    Args:
        lean: whether parts that do nothing are left out, if the space can tell.
    """
    generator = stream(seed, "repair", index)
    told = [
        architecture if is_allowed else allowed.repaired(architecture, generator=generator)
        for architecture, is_allowed in zip(asked, allowed.allows(asked), strict=True)
    ]
    if not lean or allowed.space.simplified is None:
        return told
    without = list(map(allowed.space.simplified, told))
    return [b if is_allowed else a for a, b, is_allowed in zip(told, without, allowed.allows(without), strict=True)]


def _of_all(watch: Watch, strategy: strategies.Strategy, before: int, number: int | None) -> Watch:
    """A watch whose progress shows the candidates of a round as a part of the search.

    Args:
        watch: of the search.
        strategy: whose figures are shown too.
        before: candidates of the rounds before.
        number: of candidates of the search; None if the round has all of them: then each stage of a race counts from
            the beginning.
    """
    figures: dict[str, float] = getattr(strategy, "figures", dict)()

    def show(count: int, total: int, **more: float) -> None:
        watch.progress(before + count, total if number is None else number, **more, **figures)

    return replace(watch, progress=show)


def _as_told(score: Any) -> Any:
    """A score as a strategy is told it: a number, or a tuple if there are several objectives."""
    return score if not isinstance(score, (list, tuple)) else score[0] if len(score) == 1 else tuple(score)


def _state(strategy: strategies.Strategy) -> str:
    """What a strategy remembers, as JSON; the text of what JSON does not have."""
    return json.dumps(strategy.state_dict(), sort_keys=True, default=repr)


def _continue(
    strategy: strategies.Strategy,
    history: Sequence[tuple[list[Architecture], list[Any]]],
    state: str,
    name: str,
    table: Path,
) -> None:
    """Brings a new strategy to where it was.

    Args:
        strategy: it.
        history: for each round what it was told: architectures and their scores.
        state: what it remembered then, as JSON.
        name: of the strategy, for the message.
        table: of the search, for the message.

    Raises:
        ValueError: told the same, it does not remember the same.
    """
    if not history:
        return
    load = getattr(strategy, "load_state_dict", None)
    if load is not None:
        load(json.loads(state))
    else:
        for architectures, scores in history:
            strategy.tell(architectures, scores)
    if _state(strategy) != state:
        raise ValueError(
            f"strategy {name!r} cannot continue {table}: told the same again, its state_dict is another. What it does "
            "has to follow from its seed and from what it is told, or it needs a load_state_dict; or delete the table "
            "and search again"
        )
