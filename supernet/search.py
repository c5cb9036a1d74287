"""Step 3, search: scores of candidates with the shared weights, and the finalists.

References:
    Bender et al., ICML 2018, section 3.3.
"""

from __future__ import annotations

import itertools
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from supernet.cost import CostTable
from supernet.model import OneShot
from supernet.race import packed, stages, survivors, unpacked
from supernet.randomness import stream
from supernet.runtime import Runtime
from supernet.scoring import in_whole_ghost_batches, outputs_of
from supernet.space import Architecture, Space
from supernet.task import Loss, Metric, accuracy, number_of
from supernet.train import Interrupted, Progress
from supernet.trees import take_rows

WITHOUT_NUMBER = 500
"""Candidates where no number is asked for."""

COMMIT_SECONDS = 2.0
"""A killed search loses at most this much work, and what is being scored."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are drawn and scored, and who goes to the final."""

    candidates: int | None = 20_000
    """Distinct architectures drawn uniformly and scored; at most the size of the space. None: 500, or the whole space
    where it is smaller."""

    score: Literal["metric", "kl"] = "metric"
    """'metric': the task's metric on the validation split. 'kl': closeness to the outputs with almost everything on, on
    training examples without their labels (paper, section 5)."""

    references: int = 8
    """Reference architectures for the score 'kl' (the paper does not say how many)."""

    images: int | None = None
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
            "images": 1,
            "references": 1,
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
        if not 0 <= self.lose < 1:
            raise ValueError(f"lose: expected from 0 to below 1, got {self.lose}")
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

    Unless `config.exhaustive`, candidates race on more and more of the examples; see `supernet.race`.

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
    images = in_whole_ghost_batches(examples, config.ghost_size)
    racing = not config.exhaustive and number > config.top_of and _adds_up(metric, targets)
    counts = stages(images, config.ghost_size) if racing else [images]
    alive = drawn
    for count in counts:
        score_into(
            table, model, alive, examples, targets, count, costs, config,
            runtime=runtime, loss=loss, metric=metric, progress=progress, stop=stop,
        )  # fmt: skip
        if count < images:
            right = _right(table)
            seen = np.stack([unpacked(right[str(architecture)], count) for architecture in alive])
            stay = survivors(seen, images, config.top_of, config.lose * config.top_of / (len(counts) - 1))
            alive = [architecture for architecture, stays in zip(alive, stay, strict=True) if stays]
    by_text = {str(candidate.architecture): candidate for candidate in read_candidates(table, model.space)}
    return [by_text[str(architecture)] for architecture in drawn]


def score_into(
    table: Path,
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    images: int,
    costs: CostTable,
    config: SearchConfig,
    *,
    runtime: Runtime,
    loss: Loss = F.cross_entropy,
    metric: Metric = accuracy,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Scores architectures on the first so many examples, into a table of candidates.

    Where the metric is accuracy, an architecture that was scored on fewer goes on from there.

    Args:
        images: a multiple of the ghost size.

    Otherwise as for `search`.
    """
    additive = _adds_up(metric, targets)
    with closing(_open(table)) as connection:
        known = {text: figures for text, *figures in connection.execute(
            "SELECT architecture, images, loss, right FROM candidates"
        )}  # fmt: skip
        done, best, committed = 0, -math.inf, time.monotonic()
        waiting: dict[int, list[Architecture]] = {}
        for architecture in architectures:
            before = known.get(str(architecture), (0,))[0]
            if before >= images:
                done += 1
            else:
                waiting.setdefault(before if additive else 0, []).append(architecture)
        for before, group in sorted(waiting.items()):
            group.sort(key=lambda architecture: architecture.picks)  # neighbours have much in common
            part = slice(before, images)
            outcomes = outputs_of(
                model, group, take_rows(examples, part), take_rows(targets, part), loss, config.ghost_size,
                config.ghosts_per_forward, runtime,
            )  # fmt: skip
            wanted = take_rows(targets, part)
            for architecture, sums in zip(group, costs.costs(group), strict=True):
                if stop():
                    connection.commit()
                    raise Interrupted(f"stopped after {done} of {len(architectures)} candidates on {images} examples")
                output, mean_loss = next(outcomes)
                right: bytes | None = None
                if additive:
                    number_of(metric, output, wanted)  # refuses outputs that are no classes
                    here = (output.argmax(1) == wanted).cpu().numpy()
                    if before:
                        _, loss_before, bits = known[str(architecture)]
                        here = np.concatenate([unpacked(bits, before), here])
                        mean_loss = (loss_before * before + mean_loss * (images - before)) / images
                    found, right = float(here.mean()), packed(here)
                else:
                    found = number_of(metric, output, wanted)
                mean_loss = mean_loss if math.isfinite(mean_loss) else math.inf  # SQLite has no NaN
                row = (str(architecture), found, mean_loss, images, *map(int, sums), "random", time.time(), right)
                connection.execute(
                    "INSERT INTO candidates VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (architecture) "
                    "DO UPDATE SET accuracy = excluded.accuracy, loss = excluded.loss, images = excluded.images, "
                    "time = excluded.time, right = excluded.right",
                    row,
                )
                done, best = done + 1, max(best, found)
                if time.monotonic() - committed > COMMIT_SECONDS:
                    connection.commit()
                    committed = time.monotonic()
                if progress is not None:
                    progress(done, len(architectures), best=best, accuracy=found, examples=images)
        connection.commit()


def _adds_up(metric: Metric, targets: Any) -> bool:
    """Whether the metric is a mean over examples, so that more of them can be added."""
    return metric is accuracy and isinstance(targets, torch.Tensor) and targets.ndim == 1


def _right(table: Path) -> dict[str, bytes]:
    """For each candidate on which examples it is right, packed."""
    with closing(_open(table)) as connection:
        return dict(connection.execute("SELECT architecture, right FROM candidates"))


def read_right(table: Path, most: int) -> NDArray[np.bool_]:
    """On which examples candidates are right that were scored on all: bool [C, N], of so many candidates at the most.

    C is 0 where the score is no accuracy.
    """
    with closing(_open(table)) as connection:
        (images,) = connection.execute("SELECT max(images) FROM candidates WHERE right IS NOT NULL").fetchone()
        command = "SELECT right FROM candidates WHERE images = ? AND right IS NOT NULL LIMIT ?"
        found = connection.execute(command, (images or 0, most)).fetchall()
    return np.array([unpacked(right, images) for (right,) in found], bool).reshape(len(found), images or 0)


def _open(table: Path) -> sqlite3.Connection:
    table.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(table)
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, architecture TEXT UNIQUE NOT NULL, "
            "accuracy REAL NOT NULL, loss REAL NOT NULL, images INTEGER NOT NULL, params INTEGER NOT NULL, "
            "weights INTEGER NOT NULL, macs INTEGER NOT NULL, strategy TEXT NOT NULL, time REAL NOT NULL, right BLOB)"
        )
        connection.execute("SELECT right FROM candidates LIMIT 1")
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


def standing(candidate: Candidate) -> tuple[float, ...]:
    """Sorts candidates, the best first: who stayed longer in the race, then accuracy, then loss."""
    return -candidate.images, -candidate.accuracy, candidate.loss


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
    ranked = sorted(candidates, key=standing)
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


def in_order(groups: dict[str, list[Architecture]], candidates: Sequence[Candidate]) -> dict[str, list[Architecture]]:
    """The same groups, in each the best score first; architectures that are no candidates stay where they are."""
    place = {candidate.architecture: standing(candidate) for candidate in candidates}
    return {name: sorted(members, key=lambda a: place.get(a, ())) for name, members in groups.items()}


def to_json(groups: dict[str, list[Architecture]]) -> dict[str, list[str]]:
    """Groups of finalists as texts."""
    return {group: [str(architecture) for architecture in members] for group, members in groups.items()}


def from_json(texts: dict[str, list[str]], space: Space) -> dict[str, list[Architecture]]:
    """The inverse of `to_json`."""
    return {group: [space.parse(text) for text in members] for group, members in texts.items()}
