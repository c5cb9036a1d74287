"""The table of candidates: every one that was scored, with its score and what is known of it; and orders among them."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from supernet.base.files import write_atomically
from supernet.race import unpacked
from supernet.space.choices import Architecture, Space

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture with its score and its costs; a row of the table of candidates.

    Attributes:
        architecture: which.
        accuracy: what the task's metric says of the one-shot model on the validation split: more is better. By default
            the share of examples that it classifies right, 0 to 1.
        loss: mean loss on them, by default cross-entropy in nats.
        images: number of validation examples.
        params, weights, macs: see `supernet.space.cost.Cost`.
        latency: seconds of a forward pass, where it was measured; see `supernet.latency`.
        memory: bytes of a forward pass, where latency was measured.
        deviation: standard error of the accuracy, for the choice of the examples; None where the metric is no share.
        strategy: who asked for it.
        round: in which round, from 0.
        number: from 1, in the order in which candidates were scored first.
        bonus: what its size adds to the accuracy in the ranking; see `SearchConfig.size_bonus`.
    """

    architecture: Architecture
    accuracy: float
    loss: float
    images: int
    params: int
    weights: int
    macs: int
    latency: float | None = None
    memory: int | None = None
    deviation: float | None = None
    strategy: str = "random"
    round: int = 0
    number: int = 0
    bonus: float = 0.0

    @property
    def score(self) -> float:
        """What it is ranked by: accuracy and bonus."""
        return self.accuracy + self.bonus


COLUMNS = tuple(field.name for field in fields(Candidate))
"""The columns of the table that a candidate is made of."""

OBJECTIVES = ("accuracy", "params", "weights", "macs", "latency", "memory")
"""What can be sought: more of the first, less of the others."""


def open_table(table: Path) -> sqlite3.Connection:
    """The table of candidates, made where it is missing.

    Raises:
        ValueError: the file is something else, or of another version.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(table)
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, architecture TEXT UNIQUE NOT NULL, "
            "accuracy REAL NOT NULL, loss REAL NOT NULL, images INTEGER NOT NULL, params INTEGER NOT NULL, "
            "weights INTEGER NOT NULL, macs INTEGER NOT NULL, latency REAL, memory INTEGER, deviation REAL, "
            "strategy TEXT NOT NULL, round INTEGER NOT NULL, bonus REAL NOT NULL, time REAL NOT NULL, right BLOB)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, asked TEXT NOT NULL, told TEXT NOT NULL, "
            "scores TEXT NOT NULL, state TEXT NOT NULL)"
        )
        connection.execute("SELECT right, bonus, deviation FROM candidates LIMIT 1")
    except sqlite3.Error as error:
        connection.close()
        raise no_table(table, error) from None
    return connection


def no_table(table: Path, error: sqlite3.Error) -> ValueError:
    """What is said of a file that is no table of candidates."""
    return ValueError(f"{table} is no table of candidates ({error}): delete it and search again")


def read_candidates(table: Path, space: Space) -> list[Candidate]:
    """All candidates of a table, in the order in which they were scored.

    Raises:
        ArchitectureError: the table belongs to another space.
        ValueError: the file is no table of candidates.
    """
    try:
        with closing(sqlite3.connect(f"{table.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM candidates ORDER BY number").fetchall()
    except sqlite3.Error as error:
        raise no_table(table, error) from None
    return [Candidate(space.parse(text), *figures) for text, *figures in rows]


def read_some(table: Path, architectures: Sequence[Architecture]) -> list[Candidate]:
    """The candidates with these architectures, in this order; all have to be in the table."""
    found = []
    command = f"SELECT {', '.join(COLUMNS[1:])} FROM candidates WHERE architecture = ?"
    with closing(open_table(table)) as connection:
        for architecture in architectures:
            found.append(Candidate(architecture, *connection.execute(command, (str(architecture),)).fetchone()))
    return found


def right_of(table: Path, architectures: Sequence[Architecture]) -> dict[str, bytes]:
    """For each of these candidates on which examples it is right, packed."""
    texts = list(map(str, architectures))
    command = "SELECT right FROM candidates WHERE architecture = ?"
    with closing(open_table(table)) as connection:
        return {text: connection.execute(command, (text,)).fetchone()[0] for text in texts}


def read_right(table: Path, most: int) -> NDArray[np.bool_]:
    """On which examples candidates are right that were scored on all: bool [C, N], of so many candidates at the most.

    C is 0 where the score is no accuracy.
    """
    with closing(open_table(table)) as connection:
        (images,) = connection.execute("SELECT max(images) FROM candidates WHERE right IS NOT NULL").fetchone()
        command = "SELECT right FROM candidates WHERE images = ? AND right IS NOT NULL LIMIT ?"
        found = connection.execute(command, (images or 0, most)).fetchall()
    return np.array([unpacked(right, images) for (right,) in found], bool).reshape(len(found), images or 0)


# ---- rounds: what a strategy asked for and was told ----


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a search.

    Attributes:
        asked: what the strategy asked for.
        told: what it was told of, one for each: the architecture itself, repaired where it was beyond the limits.
        scores: of these; a number each, or one for each objective.
        state: the `state_dict` of the strategy afterwards, as JSON.
    """

    asked: list[str]
    told: list[str]
    scores: list[Any]
    state: str


def read_rounds(table: Path) -> list[Round]:
    """The rounds that are complete, in order."""
    with closing(open_table(table)) as connection:
        rows = connection.execute("SELECT asked, told, scores, state FROM rounds ORDER BY number").fetchall()
    return [
        Round(json.loads(asked), json.loads(told), json.loads(scores), state) for asked, told, scores, state in rows
    ]


def write_round(table: Path, number: int, done: Round) -> None:
    """Adds a complete round; the table has it whole or not at all."""
    texts = [json.dumps(values) for values in (done.asked, done.told, done.scores)]
    with closing(open_table(table)) as connection, connection:
        connection.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?)", (number, *texts, done.state))


def in_order_asked(table: Path, candidates: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """The round and the candidate of everything that a search asked for, each once, in this order.

    Within a round candidates are scored in another order, in which neighbours follow each other.

    Args:
        table: of the search.
        candidates: all of the table.
    """
    known = {str(c.architecture): c for c in candidates}
    found: dict[str, tuple[int, Candidate]] = {}
    for number, done in enumerate(read_rounds(table)):
        for text in done.told:
            if text in known:  # of architectures with the same function only one is there
                found.setdefault(text, (number, known[text]))
    return list(found.values())


# ---- orders ----


def standing(candidate: Candidate) -> tuple[float, ...]:
    """Sorts candidates, the best first: who stayed longer in the race, then accuracy and bonus, then loss."""
    return -candidate.images, -candidate.score, candidate.loss


def bands(candidates: Sequence[T], number: int, size: Callable[[T], float]) -> list[list[T]]:
    """Candidates, or their architectures, in so many bands of size, as equal in number as may be, the smallest first.

    A one-shot model favours large networks; within a band there is little size to favour.
    """
    order = sorted(candidates, key=size)
    edges = [round(i * len(order) / number) for i in range(number + 1)]
    return [order[a:b] for a, b in itertools.pairwise(edges) if b > a]


def objectives_of(candidate: Candidate, objectives: Sequence[str]) -> tuple[float, ...]:
    """What a candidate is worth in each objective; more is better, so costs are negative. Its bonus is in the accuracy.

    Raises:
        ValueError: a cost that was not measured.
    """
    found = []
    for name in objectives:
        value = candidate.score if name == "accuracy" else getattr(candidate, name)
        if value is None:
            raise ValueError(f"objectives: {name} was not measured in this search: name it in search.objectives")
        found.append(float(value) if name == "accuracy" else -float(value))
    return tuple(found)


def front(values_NM: ArrayLike) -> list[int]:
    """The Pareto front: who is beaten by nobody that is at least as good in everything.

    Args:
        values_NM: N points in M objectives, more is better; of equal points the first counts.

    Returns:
        Indices, in order of the first objective, the best first.
    """
    values = np.asarray(values_NM, float)
    if values.ndim != 2 or not len(values):
        return []
    order = np.lexsort((np.arange(len(values)), *(-values.T[::-1])))  # by the first objective, then the next
    kept: list[int] = []
    for index in order:  # whoever beats it comes before it
        if not kept or not (values[kept] >= values[index]).all(1).any():
            kept.append(int(index))
    return kept


def hypervolume(values_NM: ArrayLike, reference_M: ArrayLike) -> float:
    """The volume between points and a reference point that they beat: more is better in every objective.

    Exact, by slices along the last objective: fit for fronts of some hundred points in up to four objectives.
    """
    values, reference = np.asarray(values_NM, float), np.asarray(reference_M, float)
    values = values.reshape(-1, len(reference))
    values = values[(values > reference).all(1)] - reference
    return _volume(values[front(values)])


def _volume(values: NDArray[np.float64]) -> float:
    if not len(values):
        return 0.0
    if values.shape[1] == 1:
        return float(values.max())
    if values.shape[1] == 2:
        order = values[np.argsort(-values[:, 0])]
        reached = np.maximum.accumulate(order[:, 1])
        return float((order[:, 0] * np.diff(reached, prepend=0.0)).sum())
    order = values[np.argsort(-values[:, -1])]
    below = [*order[1:, -1], 0.0]
    total = 0.0
    for i, level in enumerate(order[:, -1]):
        if level > below[i]:
            slice_ = order[: i + 1, :-1]
            total += (level - below[i]) * _volume(slice_[front(slice_)])
    return float(total)


def volume_of(values_NM: ArrayLike) -> float:
    """The hypervolume as a share of the box between the worst and the best value of each objective, 0 to 1.

    A front of this shape is better the nearer it comes to 1. It only compares points of one and the same search.
    """
    values = np.asarray(values_NM, float)
    low, high = values.min(0), values.max(0)
    span = np.where(high > low, high - low, 1.0)
    scaled = np.where(high > low, (values - low) / span, 1.0)
    return hypervolume(scaled, np.zeros(values.shape[1]))


def spread(values_NM: ArrayLike, number: int) -> list[int]:
    """So many points of a front, as far from each other as may be: the best in each objective first.

    Then, again and again, the point that is farthest from those already taken, each objective scaled to its range.
    """
    values = np.asarray(values_NM, float)
    if not len(values):
        return []
    low, high = values.min(0), values.max(0)
    scaled = (values - low) / np.where(high > low, high - low, 1.0)
    taken = list(dict.fromkeys(int(i) for i in scaled.argmax(0)))[:number]
    while len(taken) < min(number, len(values)):
        distance = ((scaled[:, None] - scaled[taken]) ** 2).sum(2).min(1)
        distance[taken] = -1
        taken.append(int(distance.argmax()))
    return taken


def within(candidates: Sequence[Candidate], bounds: Mapping[str, tuple[float, float]]) -> list[Candidate]:
    """Candidates within limits; see `supernet.limits.LimitsConfig.bounds`.

    Raises:
        ValueError: a cost that was not measured, or nobody is within them; the message names the smallest there are.
    """
    for cost in bounds:
        if any(getattr(c, cost) is None for c in candidates):
            raise ValueError(f"{cost} was not measured in this search: a limit or an objective has to ask for it there")
    inside = [c for c in candidates if all(low <= getattr(c, cost) <= high for cost, (low, high) in bounds.items())]
    if candidates and not inside:
        ends = ", ".join(
            f"{cost} from {min(values):,.6g} to {max(values):,.6g}"
            for cost in bounds
            if (values := [getattr(c, cost) for c in candidates])
        )
        raise ValueError(f"none of the {len(candidates):,} candidates is within these limits; they have {ends}")
    return inside


def best(candidates: Sequence[Candidate], number: int, in_bands: int = 1) -> list[list[Candidate]]:
    """So many of the best in each band of size (params), the best first."""
    return [sorted(band, key=standing)[:number] for band in bands(candidates, in_bands, lambda c: c.params)]


def on_most(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that were scored on most examples, in the same order; all others have lost a race."""
    most = max((c.images for c in candidates), default=0)
    return [c for c in candidates if c.images == most]


def pareto(candidates: Sequence[Candidate], objectives: Sequence[str]) -> tuple[list[Candidate], float]:
    """The Pareto front of those that were scored on most examples, and its hypervolume as `volume_of` has it.

    A score on few examples, from which a race was lost, may be high by chance.

    Raises:
        ValueError: nobody is there, or a cost was not measured.
    """
    if not candidates:
        raise ValueError("the Pareto front is empty: there are no candidates")
    whole = on_most(candidates)
    values = [objectives_of(c, objectives) for c in whole]
    return [whole[i] for i in front(values)], volume_of(values)


# ---- out of the table ----


def records(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """One flat record for each, with the architecture as text and its id."""
    others = [name for name in COLUMNS if name not in ("architecture", "number")]
    return [
        {"number": c.number, "id": c.architecture.id, "architecture": str(c.architecture)}
        | {name: _for_json(getattr(c, name)) for name in others}
        for c in candidates
    ]


def _for_json(value: Any) -> Any:
    """The value, or None where it is infinite, as a loss may be, which JSON has not."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_records(path: Path, candidates: Sequence[Candidate]) -> None:
    """Writes `records` as a CSV or parquet file, by the ending of its name.

    Raises:
        ValueError: another ending.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet

    write = {".csv": csv.write_csv, ".parquet": parquet.write_table}.get(path.suffix)
    if write is None:
        raise ValueError(f"{path}: expected a name that ends in .csv or .parquet")
    table = pa.Table.from_pylist(records(candidates))
    write_atomically(path, lambda file: write(table, file))


def data_frame(candidates: Sequence[Candidate]) -> DataFrame:
    """Candidates as a data frame of pandas, one row each; see `records`.

    Raises:
        ImportError: pandas is not installed.
    """
    import pandas

    return pandas.DataFrame.from_records(records(candidates))
