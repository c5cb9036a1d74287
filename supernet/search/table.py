"""The table of candidates, an SQLite file."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.files import write_atomically
from supernet.search.orders import Candidate
from supernet.search.race import unpacked
from supernet.space.choices import Architecture, Space

if TYPE_CHECKING:
    from pandas import DataFrame


COLUMNS = tuple(field.name for field in fields(Candidate))
"""The columns of the table that a candidate is made of."""


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
            "value REAL NOT NULL, loss REAL NOT NULL, examples INTEGER NOT NULL, params INTEGER NOT NULL, "
            "params_without_norm INTEGER NOT NULL, macs INTEGER NOT NULL, latency REAL, memory INTEGER, "
            "deviation REAL, strategy TEXT NOT NULL, round INTEGER NOT NULL, bonus REAL NOT NULL, "
            "time REAL NOT NULL, right BLOB)"
        )
        connection.execute(
            "CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, asked TEXT NOT NULL, told TEXT NOT NULL, "
            "scores TEXT NOT NULL, state TEXT NOT NULL)"
        )
        connection.execute("SELECT value, examples, right, bonus, deviation FROM candidates LIMIT 1")
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
        (examples,) = connection.execute("SELECT max(examples) FROM candidates WHERE right IS NOT NULL").fetchone()
        command = "SELECT right FROM candidates WHERE examples = ? AND right IS NOT NULL LIMIT ?"
        found = connection.execute(command, (examples or 0, most)).fetchall()
    return np.array([unpacked(right, examples) for (right,) in found], bool).reshape(len(found), examples or 0)


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

    Inside a round candidates are scored in another order, in which neighbours follow each other.

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
