"""The networks of a table: which columns are scores, accuracies and sizes, and which rows are repeats of one network.

Columns go by name, and those that are not used are named. These rules are ours.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.base.csv_file import Table, lines_text, read_numbers

_REPEAT = re.compile(r"accuracy(_?(seed|repeat|run|trial))?(_?\d+)?")
"""A column of accuracies, by its plain name; each is one repeat. ``accuracy_std`` is none."""

_TEXTS = (
    "architecture",
    "arch",
    "architecture_str",
    "architecture_string",
    "arch_str",
    "arch_string",
    "genotype",
    "cell",
)
"""Plain names of columns with texts of architectures."""

_NUMBERED = (
    *("arch_hash", "module_hash", "hash", "architecture_id", "arch_id", "architecture_index", "arch_index", "uid"),
    *("network", "net", "model", "name", "id"),
)
"""Plain names of other columns that tell networks apart. One that is the same in every row does not."""

_SEEDS = ("seed", "repeat", "run", "trial")

_CONDITIONS = {"epoch", "epochs", "step", "steps", "iteration", "dataset", "split", "task", "budget", "fidelity"}
"""Plain names of columns in which repeats of one training cannot differ."""

_COSTS = re.compile(r"\w*(params?|parameters?|macs|madds|flops?|latency|memory)|mac|madd|mem")
"""A word that a size has in its name."""

_NO_COSTS = {
    *("rank", "id", "index", "idx", "epoch", "seed", "score", "accuracy", "acc", "loss", "error", "std", "var", "sem"),
    *("train", "test", "valid", "validation", "val"),
}
"""Words that no size has in its name."""

_OF_NETWORKS = {
    *("model", "network", "net", "architecture", "arch", "file", "disk", "checkpoint", "onnx", "total", "in"),
    *("b", "k", "m", "kb", "mb", "gb", "kib", "mib", "bytes"),
}
"""Words beside `size` that make it that of a network; batch_size is another thing."""

_MEASURED = re.compile(r".*(latency|mem)")
"""Plain names of sizes that differ a little each time they are measured."""

_SAME = 1e-6
"""Numbers that differ by a smaller share of them are the same, written with other digits."""

_NO_SIZE = "none (named params, macs, flops, latency, memory or size, or by --sizes)"

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """The networks of a table.

    Attributes:
        keys: what tells n networks apart: a text, or what `parse` made of it.
        rows: for each of n networks the rows of the table that are its repeats.
        accuracies: [n, R], NaN where a network has fewer than R repeats.
        scores: [n]; None if the table has none.
        sizes: each [n], by the name of its column.
        columns: names of columns by what they are: `networks`, `score`, `accuracies`, `sizes`, `not_used`.
        notes: sentences about what was left out, or guessed.
    """

    keys: Sequence[Any]
    rows: Sequence[Sequence[int]]
    accuracies: Numbers
    scores: Numbers | None
    sizes: Mapping[str, Numbers]
    columns: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Columns:
    """Places of columns, by what they are."""

    network: int | None
    score: int | None
    accuracies: Sequence[int]
    sizes: Sequence[int]

    @property
    def numbers(self) -> list[int]:
        score = [] if self.score is None else [self.score]
        return [*score, *self.accuracies, *self.sizes]


def points_of(table: Table, sizes: Sequence[str] | None = None) -> Points:
    """The networks of a table with scores.

    Args:
        table: it has columns `score` and `accuracy`, or more of the latter (`accuracy_2`, ...), one for each repeat.
            Rows that agree in the column that names the network (`architecture`, `arch_str`, `genotype`, `name`, ...)
            are its repeats; if there is none, rows that agree in score and sizes and differ in `seed`.
        sizes: names of columns that are compared with the scores; None: those that are sizes by their names.

    Raises:
        ValueError: a column is missing, or two have one name; a cell is not a number; a size has an empty cell; or
            rows of one network contradict each other. The message names the file and the line.
    """
    plain = [plain_name(name) for name in table.names]
    scores = [i for i, name in enumerate(plain) if name == "score"]
    accuracies = [i for i, name in enumerate(plain) if _REPEAT.fullmatch(name)]
    if not scores or not accuracies:
        raise ValueError(
            f"{table.path}: expected columns score and accuracy (accuracy_2, ... for repeats), got "
            f"{', '.join(name or '(no name)' for name in table.names)}: rename those that are meant"
        )
    if sizes is None:
        of_size = [i for i, name in enumerate(table.names) if is_size(name)]
    else:
        of_size = [table.column(name) for name in sizes]
    columns = _Columns(_network_column(table, plain), scores[0], accuracies, of_size)
    return _points(table, columns, lambda row: table.rows[row].cells[columns.network or 0])


def published_points(
    table: Table, accuracies: Sequence[str], parse: Callable[[str], Hashable], sizes: Sequence[str] = ()
) -> Points:
    """The architectures of a table of published accuracies.

    Args:
        table: it has a column `architecture` (`arch`, `arch_str`, `genotype`, ...). Rows of one architecture are its
            repeats.
        accuracies: names of columns with accuracies, one for each repeat.
        parse: reads the text of an architecture; texts that give the same value are the same.
        sizes: names of columns that are compared with the scores.

    Raises:
        ValueError: as for `points_of`, or by `parse`, whose message gets the file and the line in front.
    """
    plain = [plain_name(name) for name in table.names]
    network = next((plain.index(name) for name in _TEXTS if name in plain), None)
    if network is None:
        raise ValueError(
            f"{table.path}: expected a column architecture with texts, got {', '.join(filter(None, table.names))}: "
            "rename the one that is meant"
        )
    columns = _Columns(
        network, None, [table.column(name) for name in accuracies], [table.column(name) for name in sizes]
    )

    def key(row: int) -> Hashable:
        text = table.rows[row].cells[network]
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{table.place(row)}: {error}") from None

    return _points(table, columns, key)


def plain_name(name: str) -> str:
    """The name of a column in small letters and underscores: ``n_params`` of nParams, ``flops_g`` of FLOPs (G)."""
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()).strip("_")


def is_size(name: str) -> bool:
    """Whether a column is a size by its name: parameters, multiply-adds, FLOPs, latency, memory, size of the model."""
    words = plain_name(name).split("_")
    if not _NO_COSTS.isdisjoint(words):
        return False
    if any(_COSTS.fullmatch(word) for word in words) or any(
        a[:4] == "mult" and b == "adds" for a, b in itertools.pairwise(words)
    ):
        return True
    return "size" in words and {*words} - {"size"} <= _OF_NETWORKS


def _points(table: Table, columns: _Columns, key: Callable[[int], Hashable]) -> Points:
    _check_names(table, columns)
    lists, guesses = read_numbers(table, columns.numbers, units=columns.sizes)
    values = {
        column: np.array([math.nan if number is None else number for number in numbers])
        for column, numbers in zip(columns.numbers, lists, strict=True)
    }
    rows, left_out = _complete(table, columns, values)
    _check_sizes(table, columns, values, rows)
    by_key, grouping = _groups(table, columns, values, rows, key)
    groups = list(by_key.values())
    accuracies = [[values[i][row] for row in group for i in columns.accuracies] for group in groups]
    score_notes: list[str] = []
    scores = None if columns.score is None else _agreed(table, columns.score, values, groups, score_notes)
    sizes = {table.names[i]: _agreed(table, i, values, groups, score_notes) for i in columns.sizes}
    repeats = _padded(accuracies)
    notes = (
        *table.notes, *guesses, *left_out, *grouping, *score_notes,
        *_repeat_notes(table, columns, groups, values, repeats), *_unit_notes(table, columns, values),
    )  # fmt: skip
    return Points(list(by_key), groups, repeats, scores, sizes, _named(table, columns), notes)


def _named(table: Table, columns: _Columns) -> dict[str, list[str]]:
    """The names of the columns, by what they are."""
    network = [] if columns.network is None else [columns.network]
    score = [] if columns.score is None else [columns.score]
    used = {"networks": network, "score": score, "accuracies": columns.accuracies, "sizes": columns.sizes}
    taken = {i for places in used.values() for i in places}
    # A column without a name in which every cell is empty is the delimiter at the end of each row.
    not_used = [i for i in range(len(table.names)) if i not in taken and (table.names[i] or any(table.texts(i)))]
    return {
        kind: [table.names[i] or f"(column {i + 1}, no name)" for i in places]
        for kind, places in {**used, "not_used": not_used}.items()
    }


def _network_column(table: Table, plain: Sequence[str]) -> int | None:
    """The column that tells networks apart."""
    for name in (*_TEXTS, *_NUMBERED):
        if name in plain:
            column = plain.index(name)
            if name in _TEXTS or len(set(table.texts(column))) > 1:
                return column
    return None


def _check_names(table: Table, columns: _Columns) -> None:
    plain = [plain_name(name) for name in table.names]
    network = [] if columns.network is None else [columns.network]
    if twice := {*columns.sizes} & {*columns.accuracies, columns.score, *network}:
        raise ValueError(f"{table.path}: column {table.names[min(twice)]!r} is no size: choose another with --sizes")
    for column in (*network, *columns.numbers):
        places = [i + 1 for i, name in enumerate(plain) if name == plain[column]]
        if len(places) > 1:
            raise ValueError(
                f"{table.path}: columns {' and '.join(map(str, places))} are both named {table.names[column]!r}: give "
                "each its own name (repeats: accuracy, accuracy_2, ...), or delete one"
            )


def _complete(table: Table, columns: _Columns, values: Mapping[int, Numbers]) -> tuple[list[int], list[str]]:
    """Rows with a score and an accuracy, and sentences about the others."""
    rows = np.arange(len(table.rows))
    notes = []
    kinds = {"accuracy": columns.accuracies, "score": [] if columns.score is None else [columns.score]}
    for kind, places in kinds.items():
        empty = np.all([np.isnan(values[i]) for i in places], 0) if places else np.zeros(len(table.rows), bool)
        if lacking := [int(row) for row in rows if empty[row]]:
            number = f"{len(lacking):,} row{'s' if len(lacking) > 1 else ''}"
            notes.append(f"{number} without {kind} left out: {lines_text([table.rows[row].line for row in lacking])}")
        rows = rows[~empty[rows]]
    if not len(rows):
        raise ValueError(
            f"{table.path}: no row has both a score and an accuracy"
            if columns.score is not None
            else f"{table.path}: no row has an accuracy"
        )
    return rows.tolist(), notes


def _check_sizes(table: Table, columns: _Columns, values: Mapping[int, Numbers], rows: Sequence[int]) -> None:
    for column in columns.sizes:
        lacking = [row for row in rows if math.isnan(values[column][row])]
        if lacking:
            others = ",".join(table.names[i] for i in columns.sizes if i != column) or "none"
            raise ValueError(
                f"{table.path}: no number in column {table.names[column]!r} on "
                f"{lines_text([table.rows[row].line for row in lacking])}; scores are compared with this size: fill it "
                f"in, delete the row, or leave the column out with --sizes {others}"
            )


def _groups(
    table: Table, columns: _Columns, values: Mapping[int, Numbers], rows: Sequence[int], key: Callable[[int], Hashable]
) -> tuple[dict[Any, list[int]], list[str]]:
    """The rows of each network by its key, in the order of their first rows, and how they were told apart."""
    plain = [plain_name(name) for name in table.names]
    seed = next((plain.index(name) for name in _SEEDS if name in plain), None)
    if columns.network is not None:
        for row in rows:
            if not table.rows[row].cells[columns.network]:
                raise ValueError(f"{table.place(row)}: nothing in column {table.names[columns.network]!r}")
        by_key = _by(key, rows)
        _check_conditions(table, table.names[columns.network], list(by_key.values()))
        return _without_copies(table, by_key, always=seed is not None)
    alike = _by(lambda row: tuple(values[i][row] for i in columns.numbers if i not in columns.accuracies), rows)
    if seed is not None:
        by_key, notes = _without_copies(table, alike, always=True)
        if any(len(group) > 1 for group in by_key.values()):
            _check_conditions(table, "score and sizes", list(by_key.values()))
            _check_seeds(table, seed, list(by_key.values()))
            name = table.names[seed]
            notes = [
                *notes,
                f"no column architecture: rows with the same score and sizes, and another {name}, are repeats",
            ]
        return by_key, notes
    distinct, notes = _without_copies(table, _by(lambda row: values[columns.numbers[0]][row], rows), always=False)
    if all(len(group) == 1 for group in distinct.values()):
        return distinct, notes
    if copies := _copies(table, [rows]):
        notes = [
            f"{_copies_text(table, copies)}, and count as other networks, since no column architecture tells them apart"
        ]
    return {row: [row] for row in rows}, notes


def _by(key: Callable[[int], Any], rows: Sequence[int]) -> dict[Any, list[int]]:
    by_key: dict[Any, list[int]] = {}
    for row in rows:
        by_key.setdefault(key(row), []).append(row)
    return by_key


def _without_copies(
    table: Table, by_key: Mapping[Any, list[int]], *, always: bool
) -> tuple[dict[Any, list[int]], list[str]]:
    """Groups of rows without those that are the same as an earlier one in every cell, and a sentence about these.

    Two trainings may give one accuracy. So rows are left out only if a group holds nothing but copies, for every
    group, or `always`.
    """
    copies = _copies(table, list(by_key.values()))
    further = sum(len(group) - 1 for group in by_key.values())
    if not copies or not (always or len(copies) == further):
        return dict(by_key), []
    out = {copy for copy, _ in copies}
    kept = {key: [row for row in group if row not in out] for key, group in by_key.items()}
    return kept, [f"{_copies_text(table, copies)}, and left out"]


def _copies(table: Table, groups: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Rows that are the same as an earlier row of their group in every cell, and that row."""
    copies = []
    for group in groups:
        first: dict[tuple[str, ...], int] = {}
        for row in group:
            earlier = first.setdefault(table.rows[row].cells, row)
            if earlier != row:
                copies.append((row, earlier))
    return copies


def _copies_text(table: Table, copies: Sequence[tuple[int, int]]) -> str:
    copy, first = (table.rows[row].line for row in copies[0])
    number = "1 row is" if len(copies) == 1 else f"{len(copies):,} rows are"
    return f"{number} the same as an earlier one (line {copy} as line {first})"


def _check_seeds(table: Table, seed: int, groups: Sequence[Sequence[int]]) -> None:
    for group in groups:
        first: dict[str, int] = {}
        for row in group:
            text = table.rows[row].cells[seed]
            if text in first:
                raise ValueError(
                    f"{table.path}: lines {table.rows[first[text]].line} and {table.rows[row].line} have the same "
                    f"score, sizes and {table.names[seed]}: one network or two? Add a column architecture that tells "
                    f"networks apart, or delete the column {table.names[seed]}"
                )
            first[text] = row


def _check_conditions(table: Table, same: str, groups: Sequence[Sequence[int]]) -> None:
    """Refuses rows of one network that differ in what repeats of a training share; `same` says what makes them one."""
    for column, name in enumerate(table.names):
        if plain_name(name) in _CONDITIONS:
            for group in groups:
                texts = {table.rows[row].cells[column]: row for row in group}
                if len(texts) > 1:
                    (one, first), (other, second) = list(texts.items())[:2]
                    raise ValueError(
                        f"{table.path}: lines {table.rows[first].line} and {table.rows[second].line} have the same "
                        f"{same} with {name} {one} and {other}, so they are not repeats of one "
                        f"training: keep the rows of one {name}"
                    )


def _agreed(
    table: Table, column: int, values: Mapping[int, Numbers], groups: Sequence[Sequence[int]], notes: list[str]
) -> Numbers:
    """The number of each network in a column in which its rows have to agree.

    Sizes that are measured may differ: their mean counts, which is said in `notes`.
    """
    differ = [
        (group[0], row)
        for group in groups
        for row in group[1:]
        if not math.isclose(values[column][group[0]], values[column][row], rel_tol=_SAME)
    ]
    if differ:
        first, second = ((table.rows[row].cells[column], table.rows[row].line) for row in differ[0])
        both = f"{table.names[column]} {first[0]} on line {first[1]} and {second[0]} on line {second[1]}"
        if not _MEASURED.match(plain_name(table.names[column])):
            raise ValueError(f"{table.path}: one network has {both}: expected one value, correct or delete a row")
        notes.append(f"one network has {both}: means count")
    return np.array([values[column][group].mean() if differ else values[column][group[0]] for group in groups])


def _padded(accuracies: Sequence[Sequence[float]]) -> Numbers:
    """Lists of different lengths as [n, R], NaN behind the shorter ones; NaN inside the lists is left out."""
    finite = [[value for value in values if not math.isnan(value)] for values in accuracies]
    width = max(map(len, finite))
    return np.array([values + [math.nan] * (width - len(values)) for values in finite])


def _repeat_notes(
    table: Table, columns: _Columns, groups: Sequence[Sequence[int]], values: Mapping[int, Numbers], repeats: Numbers
) -> list[str]:
    """How many repeats there are if rows were put together or numbers differ, and how far they are apart."""
    numbers = Counter((~np.isnan(repeats)).sum(1).tolist())
    is_joined = any(len(group) > 1 for group in groups)
    if not is_joined and len(numbers) == 1:
        return []
    note = "repeats: " + ", ".join(
        f"{number} of {networks:,} network{'s' if networks > 1 else ''}" for number, networks in sorted(numbers.items())
    )
    widest = int(np.nanargmax(np.nanmax(repeats, 1) - np.nanmin(repeats, 1)))
    cells = [
        (values[i][row], row, i) for row in groups[widest] for i in columns.accuracies if not math.isnan(values[i][row])
    ]
    low, high = min(cells), max(cells)
    if is_joined and low[0] < high[0]:
        note += "; those of one network differ at most by " + " and ".join(
            f"{table.rows[row].cells[i]} (line {table.rows[row].line})" for _, row, i in (low, high)
        )
    if is_joined and _are_unlike(repeats):
        note += "; they differ as much as different networks do: are they repeats?"
    return [note]


def _are_unlike(repeats: Numbers) -> bool:
    """Whether repeats share less than a tenth of the variance of all accuracies."""
    number = (~np.isnan(repeats)).sum(1)
    several = repeats[number > 1]
    inside = np.nanvar(several, 1) * number[number > 1] / (number[number > 1] - 1)
    return bool(inside.mean() > 0.9 * np.nanvar(repeats))


def _unit_notes(table: Table, columns: _Columns, values: Mapping[int, Numbers]) -> list[str]:
    """Warns of fractions among percents.

    Numbers from 0 to 1 are suspected if a hundred times them lies between the numbers above 1.

    Raises:
        ValueError: a whole column is in fractions, and another one in percents.
    """
    matrix = np.array([values[i] for i in columns.accuracies])
    above, below = matrix > 1, (matrix > 0) & (matrix <= 1)
    if not above.any() or not below.any():
        return []
    low, high = matrix[above].min(), matrix[above].max()
    if not ((100 * matrix[below] >= low) & (100 * matrix[below] <= high)).all():
        return []
    whole = [i for i, column in zip(columns.accuracies, above, strict=True) if not column.any()]
    if whole and len(whole) < len(columns.accuracies):
        percent = next(i for i in columns.accuracies if i not in whole)
        raise ValueError(
            f"{table.path}: column {table.names[whole[0]]!r} seems to be in fractions and {table.names[percent]!r} in "
            "percents: write both in one unit"
        )
    lines = [table.rows[row].line for row in np.flatnonzero(below.any(0))]
    return [f"fractions among percents? Accuracies at most 1 on {lines_text(lines)}, others up to {high:g}"]


def facts_of(table: Table, points: Points, others: Sequence[str] = ()) -> dict[str, Any]:
    """What was read from a table, as data: the file, numbers of rows and networks, columns by what they are, notes.

    Args:
        table, points: them.
        others: sizes that are not of the table.
    """
    return {
        "file": table.path.name,
        "rows": len(table.rows),
        "networks": len(points.rows),
        "columns": {kind: list(names) for kind, names in points.columns.items()},
        "other_sizes": list(others),
        "notes": list(points.notes),
    }


def table_lines(facts: Mapping[str, Any]) -> list[str]:
    """`facts_of` in lines for the terminal: one that names every column, and one for each note."""
    columns = facts["columns"]
    parts = [
        f"{facts['file']}: {facts['networks']:,} networks in {facts['rows']:,} rows",
        f"read: {', '.join((*columns['networks'], *columns['score'], *columns['accuracies']))}",
        f"sizes: {', '.join((*columns['sizes'], *facts['other_sizes'])) or _NO_SIZE}",
        f"not used: {', '.join(columns['not_used']) or 'none'}",
    ]
    return ["; ".join(parts), *facts["notes"]]
