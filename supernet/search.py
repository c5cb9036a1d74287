"""Step 3, search: scores of candidates with the shared weights, and the finalists.

References:
    Bender et al., ICML 2018, section 3.3.
"""

from __future__ import annotations

import itertools
import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from supernet.cost import CostTable
from supernet.model import OneShot
from supernet.quick import quick
from supernet.randomness import stream
from supernet.runtime import Runtime
from supernet.space import Architecture, Space
from supernet.task import Loss, Metric, accuracy, number_of
from supernet.train import Interrupted, Progress
from supernet.trees import in_full_precision, join_rows, rows, take_rows

WITHOUT_NUMBER = 500
"""Candidates where no number is asked for."""

COMMIT_SECONDS = 2.0
"""A killed search loses at most this much work."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are drawn and scored, and who goes to the final."""

    candidates: int | None = 20_000
    """Distinct architectures drawn uniformly and scored; at most the size of the space. None: 500, or the whole space
    where it is smaller."""

    images: int | None = None
    """Validation examples for each score, the same random ones for all candidates; None for the whole split."""

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
            "images": 1,
            "ghost_size": 2,
            "ghosts_per_forward": 1,
            "top": 0,
            "small": 0,
            "random": 0,
        }
        for name, value in least.items():
            if getattr(self, name) is not None and getattr(self, name) < value:
                raise ValueError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        if not (self.top or self.small or self.random or self.all_on):
            raise ValueError("top, small, random, all_on: expected at least one finalist, got none")
        if not 0 <= self.small_quantile < 1:
            raise ValueError(f"small_quantile: expected from 0 to below 1, got {self.small_quantile}")
        if self.top_of < self.top:
            raise ValueError(f"top_of: expected at least top {self.top}, got {self.top_of}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture with its score and its costs; a row of the table of candidates.

    Attributes:
        architecture: which.
        accuracy: what the task's metric says of the one-shot model on the validation split: more is better. By default
            the share of examples that it classifies right, 0 to 1.
        loss: mean loss on them, by default cross-entropy in nats.
        images: number of validation examples.
        params, weights, macs: see `supernet.cost.Cost`.
    """

    architecture: Architecture
    accuracy: float
    loss: float
    images: int
    params: int
    weights: int
    macs: int


def score(
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    *,
    runtime: Runtime,
    loss: Loss = F.cross_entropy,
    metric: Metric = accuracy,
    ghost_size: int = 32,
    ghosts_per_forward: int | None = None,
) -> Iterator[tuple[float, float]]:
    """Scores architectures with the weights of the one-shot model, one after the other.

    Every architecture sees the same examples in the same ghost batches, with the statistics of each ghost batch. The
    examples that do not fill a last ghost batch are left out. Weights, buffers and the mode of the model stay as they
    are, so no score depends on another.

    Args:
        model: the one-shot model.
        architectures: what to score, in this order.
        examples: N examples on the model's device.
        targets: their targets, for instance classes, int64 [N].
        runtime: device and precision.
        loss: of outputs and targets, the mean over examples.
        metric: of the outputs and targets of all examples at once; more is better.
        ghost_size: examples that share batch statistics.
        ghosts_per_forward: ghost batches in one forward pass; see `SearchConfig`.

    Yields:
        Metric (by default accuracy, 0 to 1) and mean loss (cross-entropy, in nats) of each architecture.

    Raises:
        ValueError: fewer examples than one ghost batch, or outputs that the metric cannot be taken of.
    """
    ghosts = rows(examples) // ghost_size
    if ghosts == 0:
        raise ValueError(f"expected at least {ghost_size} examples, one ghost batch; got {rows(examples)}")

    per_forward = runtime.ghosts_per_forward(ghosts_per_forward, ghosts)
    everything = take_rows(targets, slice(ghosts * ghost_size))

    def score_one(architecture: Architecture) -> tuple[float, float]:
        live = model.space.live([architecture])
        total, outputs = 0.0, []
        with torch.inference_mode():
            for first in range(0, ghosts, per_forward):
                last = min(first + per_forward, ghosts)
                part = slice(first * ghost_size, last * ghost_size)
                with runtime.autocast():
                    output = runner(take_rows(examples, part), live.expand(last - first, -1))
                outputs.append(in_full_precision(output))
                total += float(loss(outputs[-1], take_rows(targets, part))) * (last - first)
            return number_of(metric, join_rows(outputs), everything), total / ghosts

    training = model.training
    model.eval()
    runner = quick(model, runtime.tuning)
    try:
        with runtime.workers() as run:
            yield from run(score_one, architectures)
    finally:
        model.train(training)


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
    """Draws distinct architectures uniformly and scores them; what the table holds already is not scored again.

    Args:
        model: the trained one-shot model.
        examples: the validation examples to score on, on the model's device.
        targets: their targets.
        costs: of the space.
        config: how many, on how many images.
        runtime: device and precision.
        seed: of the run.
        table: SQLite file that every candidate is kept in.
        loss, metric: as for `score`.
        progress: called after each candidate.
        stop: asked before each candidate.

    Returns:
        All candidates in the order drawn.

    Raises:
        Interrupted: `stop` said so.
        ValueError: more candidates than the space has.
    """
    number = min(WITHOUT_NUMBER, model.space.size) if config.candidates is None else config.candidates
    drawn = model.space.sample_distinct(number, generator=stream(seed, "search"))
    with closing(_open(table)) as connection:
        known = {text for (text,) in connection.execute("SELECT architecture FROM candidates")}
        waiting = [architecture for architecture in drawn if str(architecture) not in known]
        scores = score(
            model,
            waiting,
            examples,
            targets,
            runtime=runtime,
            loss=loss,
            metric=metric,
            ghost_size=config.ghost_size,
            ghosts_per_forward=config.ghosts_per_forward,
        )
        images = rows(examples) // config.ghost_size * config.ghost_size
        best = max((a for (a,) in connection.execute("SELECT accuracy FROM candidates")), default=-math.inf)
        committed = time.monotonic()
        done = len(drawn) - len(waiting)
        for architecture, sums in zip(waiting, costs.costs(waiting), strict=True):
            if stop():
                connection.commit()
                raise Interrupted(f"stopped after {done} of {len(drawn)} candidates")
            found, mean_loss = next(scores)
            mean_loss = mean_loss if math.isfinite(mean_loss) else math.inf  # SQLite has no NaN
            row = (str(architecture), found, mean_loss, images, *map(int, sums), "random", time.time())
            connection.execute("INSERT INTO candidates VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            done, best = done + 1, max(best, found)
            if time.monotonic() - committed > COMMIT_SECONDS:
                connection.commit()
                committed = time.monotonic()
            if progress is not None:
                progress(done, len(drawn), best=best, accuracy=found)
        connection.commit()
    by_text = {str(candidate.architecture): candidate for candidate in read_candidates(table, model.space)}
    return [by_text[str(architecture)] for architecture in drawn]


def _open(table: Path) -> sqlite3.Connection:
    table.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(table)
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, architecture TEXT UNIQUE NOT NULL, "
            "accuracy REAL NOT NULL, loss REAL NOT NULL, images INTEGER NOT NULL, params INTEGER NOT NULL, "
            "weights INTEGER NOT NULL, macs INTEGER NOT NULL, strategy TEXT NOT NULL, time REAL NOT NULL)"
        )
    except sqlite3.Error as error:
        connection.close()
        raise ValueError(f"{table} is no table of candidates ({error}): delete it and search again") from None
    return connection


def read_candidates(table: Path, space: Space) -> list[Candidate]:
    """All candidates of a table, in the order in which they were scored.

    Raises:
        ArchitectureError: the table belongs to another space.
        ValueError: the file is no table of candidates.
    """
    columns = "architecture, accuracy, loss, images, params, weights, macs"
    try:
        with closing(sqlite3.connect(f"{table.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(f"SELECT {columns} FROM candidates ORDER BY number").fetchall()
    except sqlite3.Error as error:
        raise ValueError(f"{table} is no table of candidates ({error}): delete it and search again") from None
    return [Candidate(space.parse(text), *figures) for text, *figures in rows]


def finalists(
    candidates: Sequence[Candidate], space: Space, config: SearchConfig, *, generator: torch.Generator
) -> dict[str, list[Architecture]]:
    """Who is trained from scratch (paper, section 3.3).

    Top: the best `top_of` by accuracy (loss breaks ties) in `top` strata of equal size, one drawn from each; our
    reading of "a stratified sample". Small: the smallest by `weights` among those above the quantile of accuracy.
    Random: drawn from all candidates. All On: everything on, which is in general no member of the space.

    Args:
        candidates: scored candidates.
        space: their space.
        config: sizes of the groups.
        generator: of the draws.

    Returns:
        For each group that is not empty its architectures, the best score first.
    """
    ranked = sorted(candidates, key=lambda c: (-c.accuracy, c.loss))
    best = ranked[: config.top_of]
    strata = min(config.top, len(best))
    edges = [round(i * len(best) / strata) for i in range(strata + 1)] if strata else []
    top = [
        best[first + int(torch.randint(last - first, (1,), generator=generator))]
        for first, last in itertools.pairwise(edges)
    ]
    # The share that scores worse is counted by rank, so that many equal scores do not empty the group.
    good = ranked[: max(1, len(ranked) - int(config.small_quantile * len(ranked)))]
    small = sorted(sorted(good, key=lambda c: c.weights)[: config.small], key=ranked.index)
    chosen = torch.randperm(len(ranked), generator=generator)[: config.random].tolist()
    groups = {
        "Top": [c.architecture for c in top],
        "Small": [c.architecture for c in small],
        "Random": [ranked[i].architecture for i in sorted(chosen)],
        "All On": [space.everything_on()] if config.all_on else [],
    }
    return {group: members for group, members in groups.items() if members}


def to_json(groups: dict[str, list[Architecture]]) -> dict[str, list[str]]:
    """Groups of finalists as texts."""
    return {group: [str(architecture) for architecture in members] for group, members in groups.items()}


def from_json(texts: dict[str, list[str]], space: Space) -> dict[str, list[Architecture]]:
    """The inverse of `to_json`."""
    return {group: [space.parse(text) for text in members] for group, members in texts.items()}
