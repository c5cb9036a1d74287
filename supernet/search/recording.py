"""Scores of candidates, written into the table."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from supernet.base.progress import UNWATCHED, Interrupted, Watch
from supernet.search.config import SearchConfig
from supernet.search.measures import MEASURES, measures_of
from supernet.search.orders import Candidate, front, objectives_of, on_most, standing
from supernet.search.ranking import Ranking
from supernet.search.scoring import Evaluation, Outcome, outcomes_of
from supernet.search.table import (
    Row,
    Seen,
    is_rescored,
    packed,
    read_figures,
    read_ranking,
    read_seen,
    read_some,
    unpacked,
    write_failures,
    write_figures,
    write_ranking,
    write_rescored,
    write_rows,
)
from supernet.space.choices import Architecture
from supernet.space.cost import CostTable
from supernet.speed.runtime import Runtime

_COMMIT_SECONDS = 2.0
"""A killed search loses at most the scores of this time, and those under way."""

SAMPLE = "sample.sqlite"
"""File of the scores of the architectures that a joint rank compares with, beside the table of candidates."""

RESCORED = 2
"""This many times `top_of` of the best by half precision are scored again in single precision."""


def score_into(
    table: Path,
    architectures: Sequence[Architecture],
    evaluation: Evaluation,
    costs: CostTable,
    config: SearchConfig,
    *,
    count: int | None = None,
    round_: int = 0,
    watch: Watch = UNWATCHED,
) -> None:
    """Scores architectures on the first examples, into a table of candidates.

    Those that were scored on as many examples are left as they are. If the metric is accuracy, those that were scored
    on fewer go on from there.

    Args:
        table: SQLite file.
        architectures: what to score.
        evaluation: on which examples, and how.
        costs: of the space, with all columns that the table is to have.
        config: strategy and bonus for size.
        count: the number of examples, a multiple of the ghost size; None for all of them.
        round_: of the search, for the table.
        watch: its progress is called after each candidate, and its stop before each.

    Raises:
        Interrupted: `watch.stop` said so; what was scored is in the table.
    """
    count = evaluation.count if count is None else count
    seen = read_seen(table, architectures)
    waiting: dict[int, list[Architecture]] = {}  # by the number of examples that each was scored on
    for architecture in architectures:
        before = seen[str(architecture)].examples if str(architecture) in seen else 0
        if before < count:
            waiting.setdefault(before if evaluation.adds_up else 0, []).append(architecture)
    scored, best, saved = len(architectures) - sum(map(len, waiting.values())), -math.inf, time.monotonic()
    rows: list[Row] = []
    failures: dict[str, str] = {}
    shares = _of_workers(evaluation.runtime, scored)
    for before, group in sorted(waiting.items()):
        group.sort(key=lambda architecture: architecture.picks)  # neighbours have much in common
        outcomes = outcomes_of(evaluation, group, before, count)
        for candidate in _not_yet_scored(group, costs, config, count, round_):
            if watch.stop():
                _save(table, rows, failures)
                raise Interrupted(f"stopped after {scored} of {len(architectures)} candidates on {count} examples")
            earlier = seen[str(candidate.architecture)] if before else None
            outcome = next(outcomes)
            rows.append(_scored(candidate, outcome, earlier))
            if outcome.error is not None:
                failures[str(candidate.architecture)] = outcome.error
            scored, value = scored + 1, rows[-1].candidate.value
            best = max(best, value)
            if time.monotonic() - saved > _COMMIT_SECONDS:
                _save(table, rows, failures)
                rows, failures, saved = [], {}, time.monotonic()
            watch.progress(scored, len(architectures), best=best, value=value, examples=count, **shares(scored))
    _save(table, rows, failures)


def _save(table: Path, rows: Sequence[Row], failures: Mapping[str, str]) -> None:
    """Writes scores, and before them why candidates have none: those are not scored again."""
    if failures:
        write_failures(table, failures)
    write_rows(table, rows)


def _of_workers(runtime: Runtime, first: int) -> Callable[[int], dict[str, float]]:
    """For progress: the number of workers and the rate, if there are workers.

    Args:
        first: what is counted from.
    """
    pool, began = runtime.pool, time.monotonic()
    if pool is None:
        return lambda count: {}
    return lambda count: {"workers": pool.ready, "per_second": (count - first) / (time.monotonic() - began)}


@dataclass(frozen=True, slots=True)
class Measuring:
    """How untrained networks are measured; see `supernet.search.measures.measures_of`.

    Attributes:
        examples: what jacov and NWOT see, on the runtime's device.
        seed: of the weights.
        runtime: device and threads.
        held: names this among workers, which keep it.
    """

    examples: Any
    seed: int
    runtime: Runtime
    held: object = field(default_factory=object, compare=False, repr=False)


def figures_of(
    architectures: Sequence[Architecture], costs: CostTable, config: SearchConfig, measuring: Measuring | None
) -> Iterator[dict[str, float]]:
    """The sizes and measures of `config.figures` of each architecture.

    Args:
        measuring: may be None if only sizes are asked for.
    """
    space = costs.space
    lean = architectures if space.simplified is None else list(map(space.simplified, architectures))
    sizes = {"size": costs.doublings(architectures), "params": costs.column("params", lean)} if architectures else {}
    names = [name for name in config.figures if name in MEASURES]
    measures: Iterator[dict[str, float]] = itertools.repeat({}, len(architectures))
    if names:
        assert measuring is not None
        examples, seed, runtime = measuring.examples, measuring.seed, measuring.runtime
        measures = measures_of(space, architectures, examples, names, seed=seed, runtime=runtime, held=measuring.held)
    for number, measured in enumerate(measures):
        values = {**{name: float(column[number]) for name, column in sizes.items()}, **measured}
        yield {name: values[name] for name in config.figures}


def measure_into(
    table: Path,
    architectures: Sequence[Architecture],
    costs: CostTable,
    config: SearchConfig,
    measuring: Measuring | None,
    watch: Watch = UNWATCHED,
) -> None:
    """Writes the sizes and measures of `config.figures` into the table; those that stand there are not measured again.

    Raises:
        Interrupted: `watch.stop` said so; what was measured is in the table.
        ValueError: a measure does not apply.
    """
    if not config.figures:
        return
    before = read_figures(table, architectures)
    waiting = [a for a in architectures if not set(config.figures) <= set(before.get(str(a), ()))]
    figures = figures_of(waiting, costs, config, measuring)
    shares = (lambda count: {}) if measuring is None else _of_workers(measuring.runtime, 0)
    rows: dict[str, dict[str, float]] = {}
    saved = time.monotonic()
    for number, architecture in enumerate(waiting):
        if watch.stop():
            write_figures(table, rows)
            raise Interrupted(f"stopped after {number} of {len(waiting)} architectures were measured")
        rows[str(architecture)] = next(figures)
        if time.monotonic() - saved > _COMMIT_SECONDS:
            write_figures(table, rows)
            rows, saved = {}, time.monotonic()
        watch.progress(number + 1, len(waiting), **shares(number + 1))
    write_figures(table, rows)


def fix_ranking(
    table: Path,
    sample: Sequence[Architecture],
    evaluation: Evaluation | None,
    costs: CostTable,
    config: SearchConfig,
    measuring: Measuring | None,
    watch: Watch,
) -> None:
    """Measures and scores a sample, and notes in the table by which places in it candidates are ranked.

    Once for a search: a table that has a ranking keeps it. The scores of the sample stand in a table of their own,
    `SAMPLE`, on as many examples as those of candidates.

    Args:
        sample: random architectures.
        evaluation: of the scores; None if the score is no part of the rank.
    """
    if read_ranking(table) is not None:
        return
    measure_into(table, sample, costs, config, measuring, watch)
    figures = read_figures(table, sample)
    values = {name: [figures[str(a)][name] for a in sample] for name in config.figures}
    if "score" in config.parts:
        assert evaluation is not None
        scored = table.with_name(SAMPLE)
        score_into(scored, sample, evaluation, costs, config, watch=watch)
        values["score"] = [c.value for c in read_some(scored, sample)]
    write_ranking(table, Ranking.of(config.parts, values))


def leave_unscored(
    table: Path, architectures: Sequence[Architecture], costs: CostTable, config: SearchConfig, round_: int
) -> None:
    """Writes candidates of a search without a one-shot model."""
    candidates = _not_yet_scored(architectures, costs, config, 0, round_)
    write_rows(table, [Row(candidate, None, time.time()) for candidate in candidates])


def _not_yet_scored(
    architectures: Sequence[Architecture], costs: CostTable, config: SearchConfig, count: int, round_: int
) -> list[Candidate]:
    """Candidates with their costs and their bonus, whose value and loss are still NaN."""
    bonuses = (config.size_bonus * costs.doublings(architectures)).tolist()
    candidates = []
    for architecture, sums, bonus in zip(architectures, costs.costs(architectures), bonuses, strict=True):
        figures: dict[str, Any] = dict(zip(costs.columns, map(int, sums), strict=True))
        if "latency" in figures:
            figures["latency"] *= costs.scale("latency")
        candidates.append(
            Candidate(
                architecture, math.nan, math.nan, count, **figures, strategy=config.strategy, round=round_, bonus=bonus
            )
        )
    return candidates


def _scored(candidate: Candidate, outcome: Outcome, earlier: Seen | None = None) -> Row:
    """The candidate with its value and its loss.

    Args:
        candidate: with the number of examples that it is then scored on.
        outcome: for the examples after those of `earlier`.
        earlier: what it was scored on before.
    """
    value, mean_loss, bits, deviation = outcome.value, outcome.loss, outcome.right, None
    if bits is not None:
        before = earlier.examples if earlier is not None and earlier.right is not None else 0
        right = unpacked(bits, candidate.examples - before)
        if earlier is not None and earlier.right is not None:
            right = np.concatenate([unpacked(earlier.right, before), right])
            mean_loss = (earlier.loss * before + mean_loss * (candidate.examples - before)) / candidate.examples
        value, bits = float(right.mean()), packed(right)
        deviation = math.sqrt(value * (1 - value) / candidate.examples)  # the standard error of a share
    mean_loss = mean_loss if math.isfinite(mean_loss) else math.inf  # SQLite has no NaN
    return Row(replace(candidate, value=value, loss=mean_loss, deviation=deviation), bits, time.time())


def rescore(
    table: Path, candidates: Sequence[Candidate], evaluation: Evaluation, config: SearchConfig, watch: Watch
) -> None:
    """Scores the best candidates again in single precision, unless this was done: all of them or none is written.

    They are nearer to each other than half precision tells apart (docs/performance.md). With several objectives the
    Pareto front is among them. They are scored on as many examples as before.

    Raises:
        Interrupted: `watch.stop` said so.
    """
    best = _best(candidates, config)
    if not best or is_rescored(table):
        return
    best.sort(key=lambda c: c.architecture.picks)  # neighbours have much in common
    single, count = replace(evaluation, runtime=evaluation.runtime.in_single_precision()), best[0].examples
    rows = []  # of those that stayed longest in the race: all on as many examples
    for candidate, outcome in zip(best, outcomes_of(single, [c.architecture for c in best], 0, count), strict=True):
        if watch.stop():
            raise Interrupted("stopped while the best candidates were scored in single precision")
        if outcome.error is None:  # otherwise its score stays as it was, which the log says
            rows.append(_scored(candidate, outcome))
    write_rescored(table, rows)


def _best(candidates: Sequence[Candidate], config: SearchConfig) -> list[Candidate]:
    """Those that are scored again in single precision."""
    whole = on_most(candidates)
    best = sorted(whole, key=standing)[: RESCORED * config.top_of]
    if len(config.sought) > 1:
        best += [whole[i] for i in front([objectives_of(c, config.sought) for c in whole])]
    return list({c.architecture: c for c in best}.values())
