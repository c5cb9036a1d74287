"""The table of candidates, an SQLite file."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import sqlite3
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from supernet.base.extras import extra
from supernet.base.files import write_atomically, write_text
from supernet.search import orders
from supernet.search.orders import Candidate
from supernet.search.ranking import Ranking
from supernet.space.choices import Architecture, Space

if TYPE_CHECKING:
    from pandas import DataFrame


_PREDICTED = ("predicted", "predicted_deviation")
"""What is known of a candidate besides this file."""

COLUMNS = tuple(field.name for field in fields(Candidate) if field.name not in ("measures", "joint", *_PREDICTED))
"""The columns of the table that a candidate is made of; its measures stand in a table of their own."""

_RENEWED = ("value", "loss", "examples", "deviation", "time", "right")
"""The columns that change if a candidate is scored on more examples."""

_TABLES = (
    "CREATE TABLE IF NOT EXISTS candidates (number INTEGER PRIMARY KEY, architecture TEXT UNIQUE NOT NULL, "
    "value REAL, loss REAL, examples INTEGER NOT NULL, params INTEGER NOT NULL, "
    "params_without_norm INTEGER NOT NULL, macs INTEGER NOT NULL, latency REAL, memory INTEGER, "
    "deviation REAL, strategy TEXT NOT NULL, round INTEGER NOT NULL, bonus REAL NOT NULL, "
    "time REAL NOT NULL, right BLOB)",
    "CREATE TABLE IF NOT EXISTS rounds (number INTEGER PRIMARY KEY, asked TEXT NOT NULL, told TEXT NOT NULL, "
    "scores TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)

_MEASURES = "CREATE TABLE IF NOT EXISTS measures (architecture TEXT PRIMARY KEY, figures TEXT NOT NULL)"
"""Only in the table of a search that measures untrained networks."""


def open_table(table: Path) -> sqlite3.Connection:
    """The table of candidates; a new one if the file is missing.

    Raises:
        ValueError: the file is something else, of another version, or cannot be opened now.
    """
    table.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(table)
    try:
        for command in _TABLES:
            connection.execute(command)
        connection.execute("SELECT value, examples, right, bonus, deviation FROM candidates LIMIT 1")
    except sqlite3.Error as error:
        connection.close()
        raise _problem(table, error) from None
    return connection


@contextmanager
def _opened(table: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a table, which is made if the file is missing; its changes are all kept, or none of them.

    Raises:
        ValueError: the table is damaged, or cannot be used now; the message says what to do.
    """
    try:
        with closing(open_table(table)) as connection, connection:
            yield connection
    except sqlite3.IntegrityError:  # something is written twice, which is a fault of the program
        raise
    except (sqlite3.Error, UnicodeDecodeError) as error:  # names of columns are decoded by Python
        raise _problem(table, error) from None


@contextmanager
def _reading(table: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a table that stays as it is; errors as for `_opened`."""
    try:
        with closing(sqlite3.connect(f"{table.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except (sqlite3.Error, UnicodeDecodeError) as error:  # names of columns are decoded by Python
        raise _problem(table, error) from None


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)
"""What SQLite answers of a file that is no table of candidates; SQLITE_ERROR is a column that is not there."""


def _problem(table: Path, error: sqlite3.Error | UnicodeDecodeError) -> ValueError:
    """What is wrong with a table, and what to do: scores that took hours are not to be deleted for a full disk."""
    if not table.exists():
        return ValueError(f"{table} is not there: put it back, or search again, which scores the candidates anew")
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _DAMAGED:
        return _damaged(table, str(error))
    return ValueError(
        f"{table} cannot be opened now ({error}): nothing is lost; make room on the disk, or wait for the process that "
        "uses it, and run the same command again"
    )


def _damaged(table: Path, why: str) -> ValueError:
    return ValueError(
        f"{table} is not a table of candidates, or is damaged ({why}): put a copy of it back, or rename it and search "
        "again"
    )


def _json(table: Path, text: Any, fits: Callable[[Any], bool]) -> Any:
    """What a text of JSON in a table stands for.

    Raises:
        ValueError: it is damaged, or something else than `fits` takes.
    """
    try:
        value = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        raise _damaged(table, f"{_short(text)} is no JSON") from None
    if not fits(value):
        raise _damaged(table, f"{_short(text)} is not what is expected there")
    return value


def _short(value: Any) -> str:
    return textwrap.shorten(repr(value), 60, placeholder=" ...")


def _check_columns(table: Path, row: Sequence[Any]) -> None:
    """Refuses a row without what every candidate has; one that was not scored has neither value nor loss.

    Raises:
        ValueError: a value is missing, or is not a number.
    """
    is_scored = row[COLUMNS.index("examples")] != 0
    for name, kinds, value in zip(COLUMNS, _KINDS, row, strict=True):
        if not isinstance(value, kinds if is_scored or name not in ("value", "loss") else NoneType):
            raise _damaged(table, f"{name} of a candidate is {_short(value)}")


_NUMBER = (float, int)
_OTHER: dict[str, Any] = {
    "architecture": str, "strategy": str, "value": _NUMBER, "loss": _NUMBER, "bonus": _NUMBER,
    "latency": (*_NUMBER, NoneType), "memory": (int, NoneType), "deviation": (*_NUMBER, NoneType),
}  # fmt: skip
_KINDS = tuple(_OTHER.get(name, int) for name in COLUMNS)
"""Types of the columns; a damaged file may hold others."""


# ---- candidates ----


@dataclass(frozen=True, slots=True)
class Row:
    """A candidate as it is written.

    Attributes:
        candidate: its number is not written: it follows from the order in which candidates are first written.
        right: on which examples it is right, see `packed`; None if the metric is not accuracy.
        time: when it was scored, in seconds since 1970.
    """

    candidate: Candidate
    right: bytes | None
    time: float


def write_rows(table: Path, rows: Sequence[Row]) -> None:
    """Adds candidates, all or none of them. Those in the table get the new value; their costs, round and bonus stay."""
    names = [*(name for name in COLUMNS if name != "number"), "time", "right"]
    renewed = ", ".join(f"{name} = excluded.{name}" for name in _RENEWED)
    command = (
        f"INSERT INTO candidates ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT (architecture) DO UPDATE SET {renewed}"
    )
    with _opened(table) as connection:
        for row in rows:
            values = [getattr(row.candidate, name) for name in names[1:-2]]
            connection.execute(command, (str(row.candidate.architecture), *values, row.time, row.right))


def write_rescored(table: Path, rows: Sequence[Row]) -> None:
    """Replaces the values of candidates, all or none of them, and notes that this was done; see `is_rescored`."""
    command = "UPDATE candidates SET value = ?, loss = ?, deviation = ?, right = ? WHERE architecture = ?"
    with _opened(table) as connection:
        for row in rows:
            c = row.candidate
            connection.execute(command, (c.value, c.loss, c.deviation, row.right, str(c.architecture)))
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('rescored', 'true')")


def is_rescored(table: Path) -> bool:
    """Whether the best candidates were scored again in single precision, at the end of the search."""
    with _opened(table) as connection:
        return connection.execute("SELECT 1 FROM meta WHERE name = 'rescored'").fetchone() is not None


def read_candidates(table: Path, space: Space | None) -> list[Candidate]:
    """All candidates of a table, in the order in which they were scored.

    Args:
        table: SQLite file.
        space: theirs; None to take their texts as they are, without making the space, which may run a user's file.

    Raises:
        ArchitectureError: the table belongs to another space.
        ValueError: the file is not a table of candidates.
    """
    return _candidates(table, space, f"SELECT {', '.join(COLUMNS)} FROM candidates ORDER BY number")


def _candidates(table: Path, space: Space | None, command: str, values: Sequence[Any] = ()) -> list[Candidate]:
    """The candidates that a command of SQL selects; it has to select `COLUMNS`."""
    rows = _selected(table, command, values)
    for row in rows:
        _check_columns(table, row)
    architecture_of = (lambda text: _as_written(table, text)) if space is None else parser_of(space)
    with _reading(table) as connection:
        figures, ranking = _figures(table, connection), _ranking(table, connection)
    try:
        return [_candidate(architecture_of(text), values, figures.get(text, {}), ranking) for text, *values in rows]
    except KeyError as error:
        raise _damaged(table, f"a candidate has no {error}") from None


def _selected(table: Path, command: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows that a command of SQL selects, from a table that is only read."""
    with _reading(table) as connection:
        return connection.execute(command, values).fetchall()


def _as_written(table: Path, text: str) -> Architecture:
    """The architecture that was written as this text; it is not checked against its space."""
    pairs = [word.partition("=") for word in text.split(" ")]
    if not all(name and options for name, _, options in pairs):
        raise _damaged(table, f"{_short(text)} is no architecture")
    return Architecture(tuple((name, tuple(options.split("+"))) for name, _, options in pairs))


def parser_of(space: Space) -> Callable[[str], Architecture]:
    """`space.parse` for many architectures that were written by `str`: words that were parsed once are known.

    Which choices are reached depends on what those pick that others are nested in. Texts with the same words for these
    and the same choices are parsed alike.
    """
    parents = {choice.inside[0] for choice in space.choices if choice.inside is not None}
    picks: dict[str, tuple[str, tuple[str, ...]]] = {}
    forms: set[tuple[str, ...]] = set()

    def form(words: Sequence[str], pairs: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[str, ...]:
        return tuple([word if name in parents else name for word, (name, _) in zip(words, pairs, strict=True)])

    def parse(text: str) -> Architecture:
        words = text.split(" ")
        pairs = [picks[word] for word in words if word in picks]
        if len(pairs) == len(words) and form(words, pairs) in forms:
            return Architecture(tuple(pairs))
        architecture = space.parse(text)
        if str(architecture) == text and architecture != space.everything_on():
            picks.update(zip(words, architecture.picks, strict=True))
            forms.add(form(words, architecture.picks))
        return architecture

    return parse


_ORDER = "examples DESC, value + bonus DESC, loss, params, number"
"""The order of `supernet.search.orders.standing`; of equals that of `supernet.search.orders.best`."""


def read_best(
    table: Path, number: int, in_bands: int, bounds: Mapping[str, tuple[float, float]]
) -> tuple[list[list[Candidate]], int]:
    """The best candidates within limits, in bands of size, as `supernet.search.orders.best` has them of all.

    Only these are read. Their texts are taken as they are.

    Args:
        table: SQLite file.
        number: how many of each band.
        in_bands: bands of size.
        bounds: of costs, see `supernet.search.limits.LimitsConfig.bounds`.

    Returns:
        The candidates of each band, and how many are within the limits.

    Raises:
        ValueError: a cost was not measured, no candidate is within the limits, or the file is not a table of
            candidates.
    """
    if read_ranking(table) is not None:  # a joint rank is no column
        inside = orders.within(read_candidates(table, None), bounds)
        return orders.best(inside, number, in_bands), len(inside)
    within = " AND ".join(f"{cost} BETWEEN ? AND ?" for cost in bounds) or "1"
    values = [end for low_high in bounds.values() for end in low_high]
    ((count,),) = _selected(table, f"SELECT count(*) FROM candidates WHERE {within}", values)
    if not count and bounds:  # says why
        orders.within(read_candidates(table, None), bounds)
    # Only numbers are sorted by size, and of one band none: rows are large.
    band = f"number IN (SELECT number FROM candidates WHERE {within} ORDER BY params, number LIMIT ? OFFSET ?)"
    columns = ", ".join(COLUMNS)
    if in_bands == 1:
        command = f"SELECT {columns} FROM candidates WHERE {within} ORDER BY {_ORDER} LIMIT ?"
        return [_candidates(table, None, command, [*values, number])], count
    command = f"SELECT {columns} FROM candidates WHERE {band} ORDER BY {_ORDER} LIMIT ?"
    edges = [round(i * count / in_bands) for i in range(in_bands + 1)]
    return [
        _candidates(table, None, command, [*values, last - first, first, number])
        for first, last in itertools.pairwise(edges)
        if last > first
    ], count


def read_some(table: Path, architectures: Sequence[Architecture]) -> list[Candidate]:
    """The candidates with these architectures, in this order; all have to be in the table."""
    candidates = []
    with _opened(table) as connection:
        ranking = _ranking(table, connection)
        for first in range(0, len(architectures), _TOGETHER):
            group = architectures[first : first + _TOGETHER]
            texts = list(map(str, group))
            rows = {text: values for text, *values in _rows_of(connection, texts, "candidates", COLUMNS)}
            figures = _figures(table, connection, texts)
            candidates += [
                _candidate(architecture, rows[text], figures.get(text, {}), ranking)
                for architecture, text in zip(group, texts, strict=True)
            ]
    return candidates


_TOGETHER = 500
"""Architectures that one command of SQL asks for."""


def _rows_of(
    connection: sqlite3.Connection, texts: Sequence[str], name: str, columns: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Rows of a table of this file that belong to architectures, by their texts, in no special order."""
    rows: list[tuple[Any, ...]] = []
    for first in range(0, len(texts), _TOGETHER):
        group = texts[first : first + _TOGETHER]
        marks = ", ".join("?" * len(group))
        command = f"SELECT {', '.join(columns)} FROM {name} WHERE architecture IN ({marks})"
        rows += connection.execute(command, group)
    return rows


def _candidate(
    architecture: Architecture, values: Sequence[Any], figures: Mapping[str, float], ranking: Ranking | None
) -> Candidate:
    """A candidate from a row of the table, with its joint rank if there is one.

    The joint rank is no column: it follows from a value that may be scored again.
    """
    if not figures and ranking is None and values[0] is not None:  # of many candidates the faster way
        return Candidate(architecture, *values)
    columns = dict(zip(COLUMNS[1:], values, strict=True))
    columns |= {name: math.nan for name in ("value", "loss") if columns[name] is None}  # SQLite has no NaN
    candidate = Candidate(architecture, **columns, measures=tuple(figures.items()))
    return candidate if ranking is None else replace(candidate, joint=ranking.joint(candidate.parts))


# ---- candidates that could not be scored ----


_FAILURES = "CREATE TABLE IF NOT EXISTS failures (architecture TEXT PRIMARY KEY, error TEXT NOT NULL)"
"""Only in the table of a search that had such candidates."""


def write_failures(table: Path, failures: Mapping[str, str]) -> None:
    """Notes why architectures, by their texts, could not be scored or measured; all or none of them."""
    with _opened(table) as connection:
        connection.execute(_FAILURES)
        connection.executemany("INSERT OR REPLACE INTO failures VALUES (?, ?)", list(failures.items()))


def read_failures(table: Path) -> dict[str, str]:
    """Why architectures, by their texts, could not be scored or measured."""

    def read(connection: sqlite3.Connection) -> dict[str, str]:
        if not _has(connection, "failures"):
            return {}
        return dict(connection.execute("SELECT architecture, error FROM failures"))

    return _read_only(table, read) or {}


# ---- measures, and what they are ranked by ----


def write_figures(table: Path, figures: Mapping[str, Mapping[str, float]]) -> None:
    """Adds sizes and measures of architectures, by their texts; all or none of them."""
    command = "INSERT OR REPLACE INTO measures VALUES (?, ?)"
    with _opened(table) as connection:
        connection.execute(_MEASURES)
        connection.executemany(command, [(text, json.dumps(dict(row))) for text, row in figures.items()])


def read_figures(table: Path, architectures: Sequence[Architecture]) -> dict[str, dict[str, float]]:
    """Sizes and measures of those of some architectures that have them, by their texts."""
    with _opened(table) as connection:
        return _figures(table, connection, list(map(str, architectures)))


def _figures(
    table: Path, connection: sqlite3.Connection, texts: Sequence[str] | None = None
) -> dict[str, dict[str, float]]:
    """Those of some architectures, or of all in the table."""
    if not _has(connection, "measures"):
        return {}
    columns = ("architecture", "figures")
    rows: Iterable[tuple[Any, ...]] = (
        connection.execute(f"SELECT {', '.join(columns)} FROM measures")
        if texts is None
        else _rows_of(connection, texts, "measures", columns)
    )
    return {text: _json(table, row, _are_figures) for text, row in rows}


def _are_figures(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(figure, _NUMBER) for figure in value.values())


def _has(connection: sqlite3.Connection, name: str) -> bool:
    """Whether a file has a table of this name."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)).fetchone() is not None


def write_ranking(table: Path, ranking: Ranking) -> None:
    """Notes what all candidates of this table are ranked by."""
    with _opened(table) as connection:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('ranking', ?)", (json.dumps(ranking.to_json()),))


def read_ranking(table: Path) -> Ranking | None:
    """What the candidates are ranked by; None if by their scores alone. The file stays as it is."""
    return _read_only(table, partial(_ranking, table))


_T = TypeVar("_T")


def _read_only(table: Path, read: Callable[[sqlite3.Connection], _T]) -> _T | None:
    """What is read from a table that stays as it is; None if the file is missing."""
    if not table.exists():
        return None
    with _reading(table) as connection:
        return read(connection)


def _ranking(table: Path, connection: sqlite3.Connection) -> Ranking | None:
    if not _has(connection, "meta"):
        return None
    row = connection.execute("SELECT value FROM meta WHERE name = 'ranking'").fetchone()
    return None if row is None else Ranking.from_json(_json(table, row[0], _is_ranking))


def _is_ranking(value: Any) -> bool:
    try:
        return all(
            part["weight"] > 0 and len(part["values"]) == len(part["places"]) and _are_numbers(part["values"])
            and _are_numbers(part["places"])
            for part in value.values()
        ) and bool(value)  # fmt: skip
    except (AttributeError, KeyError, TypeError):
        return False


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, _NUMBER) for value in values)


# ---- what candidates are right on ----


class Seen(NamedTuple):
    """What a candidate was scored on before.

    Attributes:
        examples: how many.
        loss: the mean over them.
        right: on which of them it is right, see `packed`; None if the metric is not accuracy.
    """

    examples: int
    loss: float
    right: bytes | None


def read_seen(table: Path, architectures: Sequence[Architecture]) -> dict[str, Seen]:
    """What those of some architectures that are candidates were scored on before, by their texts."""
    with _opened(table) as connection:
        columns = ("architecture", "examples", "loss", "right")
        rows = _rows_of(connection, list(map(str, architectures)), "candidates", columns)
        return {
            text: Seen(examples, loss, None if right is None else _bits(table, right, examples))
            for text, examples, loss, right in rows
        }


def _bits(table: Path, right: Any, examples: Any) -> bytes:
    """What was packed, for at least as many examples."""
    if not isinstance(right, bytes) or not isinstance(examples, int) or 8 * len(right) < examples:
        raise _damaged(table, f"{_short(right)} does not say on which of {_short(examples)} examples it is right")
    return right


def right_of(table: Path, architectures: Sequence[Architecture], count: int) -> NDArray[np.bool_]:
    """Which of the first `count` examples candidates are right on: bool [C, count]. All have to be in the table."""
    command = "SELECT right FROM candidates WHERE architecture = ?"
    with _opened(table) as connection:
        bits = [connection.execute(command, (str(architecture),)).fetchone()[0] for architecture in architectures]
    return np.array([unpacked(_bits(table, right, count), count) for right in bits], bool).reshape(len(bits), count)


def read_right(table: Path, most: int) -> NDArray[np.bool_]:
    """On which examples candidates are right that were scored on all: bool [C, N], at most `most` candidates.

    C is 0 if the metric is not accuracy.
    """
    with _opened(table) as connection:
        (examples,) = connection.execute("SELECT max(examples) FROM candidates WHERE right IS NOT NULL").fetchone()
        command = "SELECT right FROM candidates WHERE examples = ? AND right IS NOT NULL LIMIT ?"
        rows = connection.execute(command, (examples or 0, most)).fetchall()
    right = [unpacked(_bits(table, bits, examples), examples) for (bits,) in rows]
    return np.array(right, bool).reshape(len(rows), examples or 0)


def packed(right: Sequence[bool] | NDArray[np.bool_]) -> bytes:
    """One bit for each example."""
    return np.packbits(np.asarray(right, bool)).tobytes()


def unpacked(bits: bytes, examples: int) -> NDArray[np.bool_]:
    """The first `examples` of what was packed."""
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=examples).astype(bool)


# ---- rounds ----


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a search.

    Attributes:
        asked: the architectures that the strategy asked for, as text.
        told: for each the architecture whose score it was told: the same, or one within the limits.
        scores: of these; a number each, or one for each objective.
        state: the `state_dict` of the strategy afterwards, as JSON.
    """

    asked: list[str]
    told: list[str]
    scores: list[Any]
    state: str


def read_rounds(table: Path) -> Iterator[Round]:
    """The rounds that are complete, in order, one after the other."""
    with _opened(table) as connection:
        rows = connection.execute("SELECT number, asked, told, scores, state FROM rounds ORDER BY number")
        for number, asked_json, told_json, scores_json, state in rows:
            asked = _json(table, asked_json, _are_texts)
            told = asked if told_json == asked_json else _json(table, told_json, _are_texts)
            scores = _json(table, scores_json, _are_scores)
            if not len(asked) == len(told) == len(scores) or not isinstance(state, str):
                raise _damaged(table, f"round {number} has another number of scores than of architectures, or no state")
            yield Round(asked, told, scores, state)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _are_scores(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(s, _NUMBER) or _are_numbers(s) for s in value)


def write_round(table: Path, number: int, complete: Round) -> None:
    """Adds a complete round; the table has it whole or not at all."""
    texts = [json.dumps(values) for values in (complete.asked, complete.told, complete.scores)]
    with _opened(table) as connection:
        connection.execute("INSERT INTO rounds VALUES (?, ?, ?, ?, ?)", (number, *texts, complete.state))


def in_order_asked(table: Path, candidates: Sequence[Candidate]) -> list[tuple[int, Candidate]]:
    """The round and the candidate of everything that a search asked for, each once, in this order.

    In the table candidates of a round stand in another order, in which neighbours follow each other.

    Args:
        table: of the search.
        candidates: all of the table.
    """
    by_text = {str(c.architecture): c for c in candidates}
    first: dict[str, tuple[int, Candidate]] = {}
    for number, complete in enumerate(read_rounds(table)):
        for text in complete.told:
            if text in by_text:  # of architectures with the same function only one is in the table
                first.setdefault(text, (number, by_text[text]))
    return list(first.values())


# ---- out of the table ----


def records(candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """One flat record for each candidate, with the architecture as text and its id."""
    others = [name for name in COLUMNS if name not in ("architecture", "number")]
    return [
        {"number": c.number, "id": c.architecture.id, "architecture": str(c.architecture)}
        | {name: _for_json(getattr(c, name)) for name in others}
        | {_MEASURE_COLUMNS.get(name, name): _for_json(value) for name, value in c.measures}
        | ({} if c.joint is None else {"joint": c.joint})
        | ({} if c.predicted is None else {name: getattr(c, name) for name in _PREDICTED})
        for c in candidates
    ]


_MEASURE_COLUMNS = {"size": "log2_macs_that_matter", "params": "params_that_matter"}
"""Columns of sizes that are parts of a rank: they are not those of the whole architecture."""


def _for_json(value: Any) -> Any:
    """The value, or None if it is infinite or NaN, as a loss may be: JSON has neither."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_records(path: Path, candidates: Sequence[Candidate]) -> None:
    """Writes `records` as a CSV or parquet file, by the ending of its name.

    Raises:
        ValueError: another ending.
        MissingExtra: pyarrow, for a parquet file, is not installed.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: expected a name that ends in .csv or .parquet")
    rows = records(candidates)
    if path.suffix == ".parquet":
        arrow, parquet = (extra(name, "parquet", "a parquet file") for name in ("pyarrow", "pyarrow.parquet"))
        write_atomically(path, lambda file: parquet.write_table(arrow.Table.from_pylist(rows), file))
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else [])
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def data_frame(candidates: Sequence[Candidate]) -> DataFrame:
    """Candidates as a data frame of pandas, one row each; see `records`.

    Raises:
        MissingExtra: pandas is not installed.
    """
    frame: DataFrame = extra("pandas", "pandas", "a data frame").DataFrame.from_records(records(candidates))
    return frame
