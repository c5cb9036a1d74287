"""Step 3, search: scores of candidates with the shared weights, and the finalists.

References:
    Bender et al., ICML 2018, section 3.3.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional as F

from supernet.base.progress import Interrupted, Progress
from supernet.base.randomness import stream
from supernet.base.trees import take_rows
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.search import strategies
from supernet.search.latency import LatencyConfig
from supernet.search.limits import LimitsConfig, Region, region
from supernet.search.orders import OBJECTIVES, Candidate, bands, front, objectives_of, on_most, standing
from supernet.search.race import packed, stages, survivors, unpacked
from supernet.search.scoring import in_whole_ghost_batches, outputs_of
from supernet.search.table import Round, open_table, read_rounds, read_some, right_of, write_round
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable
from supernet.space.layers import OneShot
from supernet.speed.runtime import Runtime

log = logging.getLogger(__name__)

WITHOUT_NUMBER = 500
"""Candidates where no number is asked for."""

COMMIT_SECONDS = 2.0
"""A killed search loses at most this much work, and what is being scored."""

RESCORED = 2
"""So many times `top_of` of the best by half precision are scored again in single precision."""

RACING_BANDS = 5
"""Where size is an objective too, candidates race against those of about their size, in so many bands."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are drawn and scored, and who goes to the final."""

    candidates: int | None = 20_000
    """Distinct architectures that are scored; at most the size of the space. None: 500, or the whole space where it is
    smaller."""

    strategy: str = "random"
    """Who is scored next: 'random' (the paper's), 'enumeration', 'evolution', 'local', 'reinforce', 'nsga2', 'tpe', or
    a class of your own by its dotted path or as FILE.py:CLASS; see docs/search.md."""

    strategy_settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the strategy, for instance {population: 100, tournament: 25}."""

    batch: int | None = None
    """Candidates that the strategy is asked for at once; they race among each other. None: all of them with 'random'
    and 'enumeration', otherwise 50."""

    objectives: str = "score"
    """What is sought, with commas: score, and costs to be small: params, params_without_norm, macs,
    latency, memory. With several the finalists are from the Pareto front."""

    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """What candidates may cost, as in {max_params: 1M, max_latency: 5ms}."""

    latency: LatencyConfig = field(default_factory=LatencyConfig)
    """How latency is measured, where a limit or an objective asks for it."""

    merge: bool = True
    """Whether architectures with the same function are scored once, where the space can tell (nasbench201)."""

    size_bonus: float = 0.0
    """What is added to a score in the ranking for each doubling of the multiply-adds that matter, in its unit: a
    short training with shared weights undervalues large networks in some spaces (docs/results). 0 is the paper's."""

    bands: int = 1
    """Bands of size (params), of equal numbers of candidates; Top is drawn from each of them, since a one-shot model
    favours large networks."""

    score: Literal["metric", "loss", "kl"] = "metric"
    """'metric': the task's metric on the validation split. 'loss': the negative loss on it; it ranks better than
    accuracy where networks are far from trained (docs/results), and does not race. 'kl': closeness to the outputs with
    almost everything on, on training examples without their labels (paper, section 5)."""

    references: int = 8
    """Reference architectures for the score 'kl' (the paper does not say how many)."""

    examples: int | None = None
    """Examples for each score, the same random ones for all candidates; None for the whole validation split, or for the
    paper's 64 with 'kl'."""

    exhaustive: bool = False
    """Score every candidate on all of these examples. Otherwise candidates race (ours): all begin on a few, and who
    will hardly be among the best `top_of` is dropped. Finalists are scored on all. Only for the metric accuracy."""

    lose: float = 0.02
    """Share of the best `top_of` that a race may lose on average, from 0 to below 1."""

    ghost_size: int = 32
    """Examples that share batch statistics (ours: the paper does not say; the training's ghost size)."""

    ghosts_per_forward: int | None = None
    """Ghost batches in one forward pass: memory against launches. None: 1 on a CPU, all of them elsewhere."""

    top: int = 10
    """Finalists of the group Top, one from each of so many strata of the best `top_of`."""

    top_of: int = 100
    """Candidates with the best scores from which Top is drawn."""

    small: int = 10
    """Finalists of the group Small: the smallest whose score is above `small_quantile`."""

    small_quantile: float = 0.9
    """Share of the candidates that score worse than any in Small, from 0 to 1."""

    random: int = 10
    """Finalists of the group Random, drawn from all candidates."""

    all_on: bool = True
    """Whether the network with every option on is trained too."""

    def __post_init__(self) -> None:
        least = {
            "candidates": 1,
            "examples": 1,
            "references": 1,
            "ghost_size": 2,
            "ghosts_per_forward": 1,
            "top": 0,
            "small": 0,
            "random": 0,
            "batch": 1,
            "bands": 1,
        }
        for name, value in least.items():
            if getattr(self, name) is not None and getattr(self, name) < value:
                raise ValueError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        if not (self.top or self.small or self.random or self.all_on):
            raise ValueError("top, small, random, all_on: expected at least one finalist, got none")
        if not 0 <= self.small_quantile < 1:
            raise ValueError(f"small_quantile: expected from 0 to below 1, got {self.small_quantile}")
        if not 0 <= self.lose < 1:
            raise ValueError(f"lose: expected from 0 to below 1, got {self.lose}")
        if self.top_of < self.top:
            raise ValueError(f"top_of: expected at least top {self.top}, got {self.top_of}")
        is_own = strategies.is_own(self.strategy)  # its file may be gone when a finished run is looked at
        if not is_own:
            strategies.check(self.strategy, self.strategy_settings)
        sought = self.sought
        for name in sought:
            if name not in OBJECTIVES:
                raise ValueError(f"objectives: no {name!r}; there are: {', '.join(OBJECTIVES)}")
        if len(set(sought)) < len(sought) or "score" not in sought:
            raise ValueError(f"objectives: expected score, and other objectives once each, got {self.objectives!r}")
        if len(sought) > 1 and not is_own and not getattr(strategies.find(self.strategy), "several", True):
            able = [name for name, kind in strategies.STRATEGIES.items() if getattr(kind, "several", True)]
            raise ValueError(
                f"objectives: strategy {self.strategy!r} takes one objective, got {self.objectives!r}; those that take "
                f"several: {', '.join(able)}"
            )

    @property
    def sought(self) -> tuple[str, ...]:
        """The objectives by name."""
        return tuple(name.strip() for name in self.objectives.split(","))

    @property
    def needs(self) -> tuple[str, ...]:
        """The costs that limits and objectives ask for."""
        return tuple(dict.fromkeys((*self.limits.bounds(), *self.sought[1:])))


def search(
    model: OneShot,
    examples: Any,
    targets: Any,
    costs: CostTable,
    config: SearchConfig,
    *,
    runtime: Runtime,
    seed: int,
    table: Path,
    loss: Loss = F.cross_entropy,
    metric: Metric = accuracy,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Candidate]:
    """Asks a strategy for candidates and scores them, round by round; nothing is scored twice.

    Unless `config.exhaustive`, the candidates of a round race on more and more of the examples; see
    `supernet.search.race`. What the table holds already is not scored again, and a search that was killed goes on as
    if it had not been: a round that is complete is in the table with what the strategy asked for and was told, from
    which the strategy is made again.

    Args:
        model: the trained one-shot model.
        examples: the validation examples to score on, on the model's device.
        targets: their targets.
        costs: of the space, with a column for each cost that a limit or an objective names.
        config: the strategy, how many candidates, on how many images, within which limits.
        runtime: device and precision.
        seed: of the run.
        table: SQLite file that every candidate is kept in.
        loss, metric: as for `score`.
        progress: called after each candidate.
        stop: asked before each candidate.

    Returns:
        All candidates in the order asked for; of those with the same function the first.

    Raises:
        Interrupted: `stop` said so.
        LimitsError: nothing in the space meets the limits.
        ValueError: more candidates than the space has, or a strategy that does not keep to its contract.
    """
    space = model.space
    if config.candidates is not None and config.candidates > space.size:
        raise ValueError(f"expected at most {space.size:,} candidates (the whole space), got {config.candidates:,}")
    allowed = region(costs, config.limits, merge=config.merge)
    usual = space.size if config.strategy == "enumeration" else min(WITHOUT_NUMBER, space.size)
    number = usual if config.candidates is None else config.candidates
    batch = config.batch or (number if config.strategy in strategies.AT_ONCE else strategies.GENERATION)
    strategy = strategies.make(config.strategy, config.strategy_settings, allowed, seed=seed)
    known: dict[str, Architecture] = {}
    scores: dict[str, Any] = {}
    idle = 0

    def take(told: Sequence[Architecture]) -> dict[str, Architecture]:
        new: dict[str, Architecture] = {}
        for architecture in told:
            key = allowed.key(architecture)
            if key not in known:
                new.setdefault(key, architecture)
        known.update(new)
        return new

    done = read_rounds(table)
    for round_ in done:
        told = [space.parse(text) for text in round_.told]
        idle = 0 if take(told) else idle + 1
        scores.update(zip(map(allowed.key, told), map(_as_told, round_.scores), strict=True))
    _continue(strategy, done, space, config.strategy, table)
    for index in itertools.count(len(done)):
        left = number - len(known)
        with strategies.users_own(config.strategy):
            asked = strategy.ask(min(batch, left)) if left > 0 and idle < strategies.IDLE else []
        if len(asked) > min(batch, max(left, 0)):
            raise ValueError(f"strategy {config.strategy!r}: asked for {min(batch, left)}, it gave {len(asked)}")
        if not asked:
            break
        told = _within(asked, allowed, seed, index)
        if config.merge and space.simplified is not None:
            lean = [space.simplified(architecture) for architecture in told]
            told = [b if fine else a for a, b, fine in zip(told, lean, allowed.allows(lean), strict=True)]
        before = len(known)
        new = take(told)
        idle = 0 if new else idle + 1
        figures: dict[str, float] = getattr(strategy, "figures", dict)()

        def show(count: int, total: int, before: int = before, figures: Any = figures, **more: float) -> None:
            if progress is not None:  # of a race among all each stage counts from the beginning
                progress(before + count, total if batch >= number else number, **more, **figures)

        _race_into(
            table, model, list(new.values()), examples, targets, costs, config, number,
            runtime=runtime, loss=loss, metric=metric, progress=show, stop=stop, round_=index,
        )  # fmt: skip
        for key, candidate in zip(new, read_some(table, list(new.values())), strict=True):
            values = objectives_of(candidate, config.sought)
            scores[key] = values[0] if len(values) == 1 else values
        result = [scores[allowed.key(architecture)] for architecture in told]
        with strategies.users_own(config.strategy):
            strategy.tell(told, result)
        write_round(table, index, Round([str(a) for a in asked], [str(a) for a in told], result, _state(strategy)))
    if len(known) < number:
        reason = "asked for nothing new any more" if idle else "had no more to ask for"
        log.info("strategy %s %s after %d of %d candidates", config.strategy, reason, len(known), number)
    if runtime.tuning.precision != "32-true":
        some = _to_rescore(read_some(table, list(known.values())), config)
        how: dict[str, Any] = {"runtime": runtime.in_single_precision(), "loss": loss, "metric": metric}
        _rescore(table, model, some, examples, targets, config, stop=stop, **how)
    return read_some(table, list(known.values()))


def _to_rescore(candidates: Sequence[Candidate], config: SearchConfig) -> list[Candidate]:
    """Candidates that are scored again in single precision: the best, and with several objectives the front."""
    whole = on_most(candidates)
    best = sorted(whole, key=standing)[: RESCORED * config.top_of]
    if len(config.sought) > 1:
        best += [whole[i] for i in front([objectives_of(c, config.sought) for c in whole])]
    return list({c.architecture: c for c in best}.values())


def _rescore(
    table: Path,
    model: OneShot,
    candidates: Sequence[Candidate],
    examples: Any,
    targets: Any,
    config: SearchConfig,
    *,
    runtime: Runtime,
    loss: Loss,
    metric: Metric,
    stop: Callable[[], bool],
) -> None:
    """Scores candidates again, on as many examples as before, unless this was done: all of them or none is written.

    The best are nearer to each other than half precision tells them apart (docs/performance.md).
    """
    with closing(open_table(table)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] or not candidates:
            return
        part = slice(0, candidates[0].examples)
        some = sorted(candidates, key=lambda c: c.architecture.picks)  # neighbours have much in common
        wanted, additive = take_rows(targets, part), _adds_up(metric, targets)
        found = outputs_of(
            model, [c.architecture for c in some], take_rows(examples, part), wanted, loss, config.ghost_size,
            config.ghosts_per_forward, runtime,
        )  # fmt: skip
        for candidate, (output, mean_loss) in zip(some, found, strict=True):
            if stop():
                raise Interrupted("stopped while the best candidates were scored in single precision")
            value = number_of(metric, output, wanted)
            right = packed((output.argmax(1) == wanted).cpu().numpy()) if additive else None
            connection.execute(
                "UPDATE candidates SET value = ?, loss = ?, deviation = ?, right = ? WHERE architecture = ?",
                (
                    value,
                    mean_loss if math.isfinite(mean_loss) else math.inf,
                    _deviation(value, candidate.examples) if additive else None,
                    right,
                    str(candidate.architecture),
                ),
            )
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def _within(asked: Sequence[Architecture], allowed: Region, seed: int, index: int) -> list[Architecture]:
    """What was asked for, brought within the limits where it is beyond; nothing else is ever scored."""
    inside = allowed.allows(asked)
    generator = stream(seed, "repair", index)
    return [a if fine else allowed.repaired(a, generator=generator) for a, fine in zip(asked, inside, strict=True)]


def _as_told(score: Any) -> Any:
    return tuple(score) if isinstance(score, list) else score


def _state(strategy: strategies.Strategy) -> str:
    """What a strategy remembers, as JSON; of what JSON has not, the text."""
    return json.dumps(strategy.state_dict(), sort_keys=True, default=repr)


def _continue(strategy: strategies.Strategy, done: Sequence[Round], space: Space, name: str, table: Path) -> None:
    """Brings a new strategy to where it was after the rounds that are done.

    Raises:
        ValueError: told the same, it does not remember the same.
    """
    if not done:
        return
    load = getattr(strategy, "load_state_dict", None)
    if load is not None:
        load(json.loads(done[-1].state))
    else:
        for round_ in done:
            strategy.tell([space.parse(text) for text in round_.told], [_as_told(score) for score in round_.scores])
    if _state(strategy) != done[-1].state:
        raise ValueError(
            f"strategy {name!r} cannot continue {table}: told the same again, its state_dict is another. What it does "
            "has to follow from its seed and from what it is told, or it needs a load_state_dict; or delete the table "
            "and search again"
        )


def _race_into(
    table: Path,
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    costs: CostTable,
    config: SearchConfig,
    number: int,
    *,
    metric: Metric,
    round_: int,
    **how: Any,
) -> None:
    """Scores the candidates of one round into the table, racing where that is asked for and possible.

    Of a round that is a part of all candidates, as large a part of the best is looked for as `config.top_of` is of all.
    Where size is an objective, candidates race within bands of size.

    Args:
        number: of candidates of the whole search.
        how: as for `score_into`.

    Otherwise as for `search`.
    """
    images = in_whole_ghost_batches(examples, config.ghost_size)
    several = RACING_BANDS if len(config.sought) > 1 else config.bands
    keep = max(1, math.ceil(config.top_of * len(architectures) / number / several))
    racing = not config.exhaustive and len(architectures) > keep * several and _adds_up(metric, targets)
    counts = stages(images, config.ghost_size) if racing else [images]
    alive = list(architectures)
    groups = [alive]
    if racing and several > 1:
        size = dict(zip(alive, costs.column("params", alive).tolist(), strict=True))
        groups = bands(alive, several, size.__getitem__)
    for count in counts:
        score_into(table, model, alive, examples, targets, count, costs, config, metric=metric, round_=round_, **how)
        if count < images:
            right = right_of(table, alive)
            staying: list[list[Architecture]] = []
            for group in groups:
                seen = np.stack([unpacked(right[str(architecture)], count) for architecture in group])
                bonus = config.size_bonus * costs.doublings(group)
                stay = survivors(seen, images, keep, config.lose * keep / (len(counts) - 1), bonus)
                staying.append(list(itertools.compress(group, stay)))
            groups = staying
            kept = {architecture for group in groups for architecture in group}
            alive = [architecture for architecture in alive if architecture in kept]


def score_into(
    table: Path,
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    number: int,
    costs: CostTable,
    config: SearchConfig,
    *,
    runtime: Runtime,
    loss: Loss = F.cross_entropy,
    metric: Metric = accuracy,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    round_: int = 0,
) -> None:
    """Scores architectures on the first examples, into a table of candidates.

    Where the metric is accuracy, an architecture that was scored on fewer goes on from there.

    Args:
        number: a multiple of the ghost size.
        round_: of the search, for the table.

    Otherwise as for `search`.
    """
    additive = _adds_up(metric, targets)
    with closing(open_table(table)) as connection:
        known = {text: figures for text, *figures in connection.execute(
            "SELECT architecture, examples, loss, right FROM candidates"
        )}  # fmt: skip
        done, best, committed = 0, -math.inf, time.monotonic()
        waiting: dict[int, list[Architecture]] = {}
        for architecture in architectures:
            before = known.get(str(architecture), (0,))[0]
            if before >= number:
                done += 1
            else:
                waiting.setdefault(before if additive else 0, []).append(architecture)
        for before, group in sorted(waiting.items()):
            group.sort(key=lambda architecture: architecture.picks)  # neighbours have much in common
            part = slice(before, number)
            outcomes = outputs_of(
                model, group, take_rows(examples, part), take_rows(targets, part), loss, config.ghost_size,
                config.ghosts_per_forward, runtime,
            )  # fmt: skip
            wanted = take_rows(targets, part)
            bonuses = (config.size_bonus * costs.doublings(group)).tolist()
            for architecture, sums, bonus in zip(group, costs.costs(group), bonuses, strict=True):
                if stop():
                    connection.commit()
                    raise Interrupted(f"stopped after {done} of {len(architectures)} candidates on {number} examples")
                output, mean_loss = next(outcomes)
                right: bytes | None = None
                if additive:
                    number_of(metric, output, wanted)  # refuses outputs that are no classes
                    here = (output.argmax(1) == wanted).cpu().numpy()
                    if before:
                        _, loss_before, bits = known[str(architecture)]
                        here = np.concatenate([unpacked(bits, before), here])
                        mean_loss = (loss_before * before + mean_loss * (number - before)) / number
                    found, right = float(here.mean()), packed(here)
                else:
                    found = number_of(metric, output, wanted)
                mean_loss = mean_loss if math.isfinite(mean_loss) else math.inf  # SQLite has no NaN
                here_costs = dict(zip(costs.columns, map(int, sums), strict=True))
                row = {
                    "architecture": str(architecture), "value": found, "loss": mean_loss, "examples": number,
                    **{name: value * costs.scale(name) if name == "latency" else value
                       for name, value in here_costs.items()},
                    "deviation": _deviation(found, number) if additive else None,
                    "strategy": config.strategy, "round": round_, "bonus": bonus, "time": time.time(), "right": right,
                }  # fmt: skip
                connection.execute(
                    f"INSERT INTO candidates ({', '.join(row)}) VALUES ({', '.join('?' * len(row))}) "
                    "ON CONFLICT (architecture) DO UPDATE SET value = excluded.value, loss = excluded.loss, "
                    "examples = excluded.examples, deviation = excluded.deviation, time = excluded.time, "
                    "right = excluded.right",
                    list(row.values()),
                )
                done, best = done + 1, max(best, found)
                if time.monotonic() - committed > COMMIT_SECONDS:
                    connection.commit()
                    committed = time.monotonic()
                if progress is not None:
                    progress(done, len(architectures), best=best, value=found, examples=number)
        connection.commit()


def _deviation(accuracy: float, images: int) -> float:
    """Standard error of an accuracy on so many examples."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def _adds_up(metric: Metric, targets: Any) -> bool:
    """Whether the metric is a mean over examples, so that more of them can be added."""
    return metric is accuracy and isinstance(targets, torch.Tensor) and targets.ndim == 1
