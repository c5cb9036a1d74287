"""The table of candidates, the Pareto front and its volume, bands."""

from __future__ import annotations

import csv
import itertools
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.search.orders import (
    Candidate,
    bands,
    best,
    front,
    hypervolume,
    objectives_of,
    pareto,
    spread,
    volume_of,
    within,
)
from supernet.search.ranking import Ranking
from supernet.search.table import (
    COLUMNS,
    Round,
    Row,
    _problem,
    data_frame,
    is_rescored,
    open_table,
    packed,
    parser_of,
    read_best,
    read_candidates,
    read_figures,
    read_ranking,
    read_right,
    read_rounds,
    read_seen,
    read_some,
    records,
    right_of,
    unpacked,
    write_figures,
    write_ranking,
    write_records,
    write_rescored,
    write_round,
    write_rows,
)
from supernet.space.choices import ArchitectureError, Space
from tests.spaces_for_tests import nested, tiny_bender, tiny_macro

SPACE = tiny_macro()
POINTS = st.integers(1, 3).flatmap(
    lambda m: st.lists(st.lists(st.integers(0, 4), min_size=m, max_size=m), min_size=1, max_size=12)
)


def some(*figures: tuple[float, int], examples: int = 100) -> list[Candidate]:
    """Candidates with these scores and sizes."""
    return [
        Candidate(SPACE.at(i), score, 1.0, examples, size, size, size, None, None, 0.01, "random", 0, i + 1)
        for i, (score, size) in enumerate(figures)
    ]


@given(POINTS)
def test_the_front_is_whom_nobody_beats(points: list[list[int]]) -> None:
    found = front(points)

    def beats(a: list[int], b: list[int]) -> bool:
        return all(x >= y for x, y in zip(a, b, strict=True)) and a != b

    expected = {tuple(p) for p in points if not any(beats(q, p) for q in points)}
    assert {tuple(points[i]) for i in found} == expected
    assert len(found) == len(expected), "equal points count once"
    assert [points[i][0] for i in found] == sorted((points[i][0] for i in found), reverse=True)


@given(POINTS)
def test_the_volume_is_the_number_of_unit_boxes_below(points: list[list[int]]) -> None:
    """Whole numbers: each unit box is below a point or it is not."""
    sides = len(points[0])
    count = sum(
        any(all(x > y for x, y in zip(point, box, strict=True)) for point in points)
        for box in itertools.product(range(4), repeat=sides)
    )
    assert hypervolume(points, [0] * sides) == pytest.approx(count)
    assert 0 <= volume_of(points) <= 1 + 1e-12


def test_volumes() -> None:
    assert hypervolume([[2, 1], [1, 2]], [0, 0]) == 3
    assert hypervolume([[2, 1], [1, 2]], [2, 2]) == 0, "nobody beats the reference"
    assert hypervolume(np.zeros((0, 2)), [0, 0]) == 0
    assert volume_of([[1, 0], [0, 1]]) == 0
    assert volume_of([[1, 1], [0, 0]]) == volume_of([[5, 5]]) == 1
    assert front([]) == []


def test_spread_takes_the_ends_first_and_then_what_is_far() -> None:
    points = [[10.0, 0.0], [9.0, 1.0], [5.0, 5.0], [1.0, 9.0], [0.0, 10.0]]
    assert spread(points, 3) == [0, 4, 2]
    assert spread(points, 1) == [0]
    assert sorted(spread(points, 99)) == [0, 1, 2, 3, 4]
    assert spread([], 3) == []


def test_bands_have_equal_numbers() -> None:
    candidates = some(*((0.1 * i, 100 - 7 * i % 50) for i in range(10)))
    parts = bands(candidates, 3, lambda c: c.params)
    assert [len(part) for part in parts] == [3, 4, 3]
    sizes = [c.params for part in parts for c in part]
    assert sizes == sorted(sizes)
    assert len(bands(candidates[:2], 5, lambda c: c.params)) == 2
    chosen = best(candidates, 2, 3)
    for part, top in zip(parts, chosen, strict=True):
        assert [c.value for c in top] == sorted((c.value for c in part), reverse=True)[:2]


def test_within_limits_and_who_is_beyond() -> None:
    candidates = some((0.5, 10), (0.6, 20), (0.7, 30))
    assert [c.params for c in within(candidates, {"params": (15.0, 25.0)})] == [20]
    with pytest.raises(
        ValueError, match="none of the 3 candidates is within these limits; they have params from 10 to 30"
    ):
        within(candidates, {"params": (0.0, 5.0)})
    with pytest.raises(ValueError, match="latency was not measured"):
        within(candidates, {"latency": (0.0, 1.0)})


def test_the_front_of_candidates_is_of_those_scored_on_most() -> None:
    candidates = [*some((0.5, 10), (0.4, 20), (0.7, 30)), *some((0.99, 1), examples=10)]
    found, volume = pareto(candidates, ("score", "params"))
    assert [(c.value, c.params) for c in found] == [(0.7, 30), (0.5, 10)]
    assert volume == pytest.approx(1 / 3)
    assert objectives_of(found[0], ("score", "macs")) == (0.7, -30)
    with pytest.raises(ValueError, match="front is empty"):
        pareto([], ("score",))
    with pytest.raises(ValueError, match="memory was not measured"):
        pareto(candidates, ("score", "memory"))


@given(st.lists(st.booleans(), max_size=40))
def test_bits_come_back(right: list[bool]) -> None:
    assert unpacked(packed(right), len(right)).tolist() == right


def test_rounds_are_kept_as_they_are(tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    assert list(read_rounds(table)) == []
    rounds = [Round(["a", "b"], ["a", "c"], [0.1, 1 / 3], '{"x": 1}'), Round([], [], [], "{}")]
    for number, round_ in enumerate(rounds):
        write_round(table, number, round_)
    assert list(read_rounds(table)) == rounds
    with pytest.raises(sqlite3.IntegrityError):
        write_round(table, 1, rounds[0])


def rows(candidates: list[Candidate], right: list[bool]) -> list[Row]:
    return [Row(candidate, packed(right), 1.5) for candidate in candidates]


def test_candidates_are_written_and_read_as_they_are(tmp_path: Path) -> None:
    """Numbers follow the order of the first writing; later values replace earlier ones."""
    table, right = tmp_path / "c.sqlite", [True] + 99 * [False]
    candidates = some((0.01, 10), (0.2, 20), (0.3, 30))
    write_rows(table, rows(candidates[:2], right))
    write_rows(table, rows(candidates[2:], right))
    assert read_candidates(table, SPACE) == candidates
    assert read_some(table, [c.architecture for c in candidates[::-1]]) == candidates[::-1]
    assert right_of(table, [c.architecture for c in candidates[:2]], 7).tolist() == [[True] + 6 * [False]] * 2
    assert right_of(table, [], 7).shape == (0, 7)
    assert read_right(table, 2).tolist() == [right] * 2
    seen = read_seen(table, [c.architecture for c in candidates])
    assert read_seen(table, [SPACE.at(99)]) == {}
    assert {text: (s.examples, s.loss) for text, s in seen.items()} == {
        str(c.architecture): (100, 1.0) for c in candidates
    }
    again = replace(candidates[1], value=0.9, loss=0.1, examples=200, deviation=0.02, params=77, round=5, number=9)
    write_rows(table, rows([again], 2 * right))
    kept = replace(again, params=20, round=0, number=2)
    assert read_candidates(table, SPACE) == [candidates[0], kept, candidates[2]]
    assert read_right(table, 9).tolist() == [2 * right]


def test_a_table_knows_whether_the_best_are_rescored(tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    candidates = some((0.1, 10), (0.2, 20))
    write_rows(table, rows(candidates, 100 * [False]))
    assert not is_rescored(table)
    exact = replace(candidates[1], value=0.21, loss=0.5, deviation=None)
    write_rescored(table, [Row(exact, None, 2.5)])
    assert is_rescored(table)
    assert read_candidates(table, SPACE) == [candidates[0], exact]
    with closing(sqlite3.connect(table)) as connection:  # the time of the first scoring stays
        assert connection.execute("SELECT time, right FROM candidates WHERE number = 2").fetchone() == (1.5, None)


def test_a_table_of_another_version_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "c.sqlite")) as connection, connection:
        connection.execute("CREATE TABLE candidates (number INTEGER PRIMARY KEY, architecture TEXT, right BLOB)")
    with pytest.raises(ValueError, match="is not a table of candidates"):
        open_table(tmp_path / "c.sqlite")


def test_records_and_files(tmp_path: Path) -> None:
    candidates = [*some((0.5, 10)), Candidate(SPACE.at(7), 0.1, float("inf"), 5, 1, 1, 1)]
    rows = records(candidates)
    assert rows[0]["architecture"] == str(SPACE.at(0))
    assert rows[0]["id"] == SPACE.at(0).id
    assert (rows[1]["loss"], rows[1]["latency"]) == (None, None)
    write_records(tmp_path / "c.csv", candidates)
    with (tmp_path / "c.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["architecture"] for row in read] == [row["architecture"] for row in rows]
    assert float(read[0]["value"]) == 0.5
    write_records(tmp_path / "c.parquet", candidates)
    from pyarrow import parquet

    assert parquet.read_table(tmp_path / "c.parquet").to_pylist() == rows
    with pytest.raises(ValueError, match=r"ends in \.csv or \.parquet"):
        write_records(tmp_path / "c.txt", candidates)


def test_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = data_frame(some((0.5, 10), (0.6, 20)))
    assert isinstance(frame, pandas.DataFrame)
    assert frame["params"].tolist() == [10, 20]


def test_advice_for_a_table_loses_no_scores(tmp_path: Path) -> None:
    """A full disk, a lock and a lost file are no reason to delete a table."""
    table = tmp_path / "c.sqlite"
    with pytest.raises(ValueError, match="is not there: put it back, or search again"):
        read_candidates(table, SPACE)
    write_rows(table, [Row(candidate, None, 1.5) for candidate in some((0.5, 10))])
    with closing(sqlite3.connect(table)) as connection, closing(sqlite3.connect(table, timeout=0)) as other:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(sqlite3.OperationalError, match="locked") as locked:
            other.execute("SELECT * FROM candidates")
    assert "cannot be opened now (database is locked): nothing is lost" in str(_problem(table, locked.value))
    with closing(sqlite3.connect(tmp_path / "full.sqlite")) as connection:
        connection.execute("PRAGMA max_page_count = 1")
        with pytest.raises(sqlite3.OperationalError, match="full") as full:
            connection.execute("CREATE TABLE t (x)")
    problem = str(_problem(table, full.value))
    assert "cannot be opened now (database or disk is full)" in problem and "make room" in problem
    table.write_bytes(table.read_bytes()[:100] + bytes(4000))
    with pytest.raises(ValueError, match="put a copy of it back, or rename it and search again"):
        read_candidates(table, SPACE)


@pytest.mark.parametrize(("column", "value"), [("value", "'high'"), ("params", "x'00'"), ("loss", "x'ff'")])
def test_values_of_other_types_are_damage(column: str, value: str, tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    write_rows(table, [Row(candidate, None, 1.5) for candidate in some((0.5, 10))])
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute(f"UPDATE candidates SET {column} = {value}")
    with pytest.raises(ValueError, match=rf"or is damaged \({column} of a candidate is"):
        read_candidates(table, SPACE)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE rounds RENAME COLUMN asked TO x",
        "ALTER TABLE measures RENAME COLUMN figures TO x",
        "ALTER TABLE candidates RENAME COLUMN loss TO x",
        "ALTER TABLE meta RENAME COLUMN name TO x",
        "UPDATE candidates SET right = 'x'",
        "UPDATE candidates SET examples = 1 << 62",
        "UPDATE measures SET figures = '[[['",
        "UPDATE measures SET figures = '[]'",
        "UPDATE measures SET figures = x'ff00'",
        "DELETE FROM measures",
        "UPDATE rounds SET told = '[[['",
        "UPDATE rounds SET told = '[1]'",
        "UPDATE rounds SET scores = '[0.5, 0.5]'",
        "UPDATE meta SET value = '{}' WHERE name = 'ranking'",
        "UPDATE meta SET value = '{\"size\": 3}' WHERE name = 'ranking'",
    ],
)
def test_other_content_is_damage(change: str, tmp_path: Path) -> None:
    """Each of these raised something else once; found by `benchmarks/fuzz.py`."""
    table, names = tmp_path / "c.sqlite", [str(SPACE.at(0))]
    write_rows(table, rows(some((0.5, 10)), [True] * 100))
    write_figures(table, {name: {"size": 1.0} for name in names})
    write_ranking(table, Ranking.of({"size": 1.0}, {"size": [1.0, 2.0]}))
    write_round(table, 0, Round(names, names, [0.5], "{}"))
    readers: tuple[Callable[[Path], object], ...] = (
        lambda table: read_candidates(table, SPACE), read_ranking, is_rescored, lambda table: list(read_rounds(table)),
        lambda table: read_figures(table, [SPACE.at(0)]), lambda table: read_seen(table, [SPACE.at(0)]),
        lambda table: read_right(table, 10), lambda table: right_of(table, [SPACE.at(0)], 100),
    )  # fmt: skip
    for read in readers:
        read(table)
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute(change)
    problems = []
    for read in readers:
        try:
            read(table)
        except ValueError as error:
            problems.append(str(error))
    assert problems and all("is not a table of candidates, or is damaged" in text for text in problems)


def test_missing_values_are_damage(tmp_path: Path) -> None:
    table, columns = tmp_path / "c.sqlite", ", ".join(COLUMNS)
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute(f"CREATE TABLE candidates ({columns}, time, right)")
        connection.execute(f"INSERT INTO candidates (number, architecture) VALUES (1, '{SPACE.at(0)}')")
    with pytest.raises(ValueError, match="of a candidate is None"):
        read_candidates(table, SPACE)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.25, 0.5, 0.75]), st.integers(1, 5), st.sampled_from([64, 128]), st.integers(0, 2)),
        min_size=1, max_size=12,
    ),
    st.integers(1, 4), st.integers(1, 3), st.integers(2, 5),
)  # fmt: skip
def test_the_best_by_sql_are_the_best_of_all(
    figures: list[tuple[float, int, int, int]], number: int, in_bands: int, most: int
) -> None:
    candidates = [
        replace(c, examples=examples, loss=float(loss), bonus=0.25 * (loss == 1))
        for c, (_, _, examples, loss) in zip(some(*((v, p) for v, p, _, _ in figures)), figures, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "c.sqlite"
        write_rows(table, [Row(candidate, None, 1.5) for candidate in candidates])
        assert read_best(table, number, in_bands, {}) == (best(candidates, number, in_bands), len(candidates))
        bounds = {"params": (0.0, float(most))}
        inside = [c for c in candidates if c.params <= most]
        if inside:
            assert read_best(table, number, in_bands, bounds) == (best(inside, number, in_bands), len(inside))
        else:
            with pytest.raises(ValueError, match="none of the"):
                read_best(table, number, in_bands, bounds)


@pytest.mark.parametrize("space", [tiny_macro(), nested(), tiny_bender(choice_blocks=2)], ids=lambda space: space.name)
def test_many_texts_are_parsed_as_one_by_one(space: Space) -> None:
    architectures = [space.at(i * 7919 % space.size) for i in range(300)]
    parse = parser_of(space)
    assert [parse(str(a)) for a in architectures] == architectures
    assert [parse(str(a)) for a in reversed(architectures)] == architectures[::-1]
    text = str(space.everything_on())
    assert parse(text) == space.everything_on()
    for wrong in (text.rpartition(" ")[0] or "x", f"{text} more=1", text.replace("=", "=no", 1), ""):
        with pytest.raises(ArchitectureError):
            parse(wrong)


def test_texts_may_be_taken_as_they_are(tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    write_rows(table, [Row(candidate, None, 1.5) for candidate in some((0.5, 10), (0.4, 3))])
    assert read_candidates(table, None) == read_candidates(table, SPACE)
    with closing(sqlite3.connect(table)) as connection, connection:
        connection.execute("UPDATE candidates SET architecture = 'nonsense' WHERE number = 1")
    with pytest.raises(ValueError, match="'nonsense' is no architecture"):
        read_candidates(table, None)
