"""Tables as text: what spreadsheets and scripts write, with the lines that their rows stand on.

Read are UTF-8 and UTF-16 (with a byte order mark or without), cells between commas, semicolons, tabs, bars or blanks,
any line ends, comment lines that begin with #, a first line `sep=;`, and numbers with a decimal point or a decimal
comma, with marks between thousands, or with a percent sign. These rules are ours.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks; the one of UTF-32 begins like that of UTF-16, so it comes first."""

_NOT_TEXT = (
    (b"PK\x03\x04", "an Excel workbook or a zip archive"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PAR1", "a parquet file"),
    (b"SQLite format 3", "a database"),
)

_DELIMITERS = (",", ";", "\t", "|")

_SAMPLE = 50
"""Lines that the delimiter is chosen by."""

_MISSING = {"", "nan", "na", "n/a", "n.a.", "null", "none", "-", "--", "?"}
"""Cells without a number, in lower case."""

_GROUP_MARKS = "'’_\u00a0\u202f "
"""Marks between thousands in either convention."""

_TIMES = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}

_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}

_COUNTED = {"", "b", "ib", "byte", "bytes", "param", "params", "parameters", "mac", "macs", "madds", "flop", "flops"}
"""What may follow a prefix, in lower case."""


@dataclass(frozen=True, slots=True)
class Row:
    """The cells of a row, and the line of the file that it begins on."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a header.

    Attributes:
        path: of the file.
        names: of the columns; a name may be empty, and several columns may have the same one.
        rows: as long as the header; rows of empty cells are left out.
        delimiter: between cells.
        notes: sentences about what was guessed.
    """

    path: Path
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    delimiter: str
    notes: tuple[str, ...] = ()

    def column(self, name: str) -> int:
        """The place of the column with this name; upper and lower case count as the same.

        Raises:
            ValueError: no column has the name, or several have.
        """
        places = [i for i, other in enumerate(self.names) if other.lower() == name.lower()]
        if not places:
            raise ValueError(f"{self.path}: no column {name!r}; there are: {', '.join(filter(None, self.names))}")
        if len(places) > 1:
            numbers = " and ".join(str(place + 1) for place in places)
            raise ValueError(f"{self.path}: columns {numbers} are both named {name!r}: give each its own name")
        return places[0]

    def texts(self, column: int) -> list[str]:
        """The cells of a column."""
        return [row.cells[column] for row in self.rows]

    def place(self, row: int) -> str:
        """The file and the line of a row, for messages."""
        return f"{self.path}, line {self.rows[row].line}"


def read_table(path: Path) -> Table:
    """Reads a table with a header.

    A row that is longer than the header is joined again where a bracket was cut: an architecture such as
    ``(4, 0, 3)`` needs no quotes. If each row has one cell more than the header, the first column has no name.

    Raises:
        ValueError: the file is not text, has no header or no rows, or a row has another length; the message names the
            line.
        OSError: the file cannot be read.
    """
    text, notes = read_lines(path)
    lines = ["" if line.lstrip().startswith("#") else line for line in text]
    comments = [i for i, line in enumerate(text) if line.lstrip().startswith("#")]
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    delimiter = None
    if first is not None and (match := re.fullmatch(r'"?sep=(.)"?\s*', lines[first], re.IGNORECASE)):
        delimiter, lines[first] = match[1], ""
        first = next((i for i, line in enumerate(lines) if line.strip()), None)
    nothing = f"{path}: no table in this file; expected a header such as score,accuracy,params, and rows"
    if first is None:
        raise ValueError(nothing)
    before = [i for i in comments if i < first]
    if before and _is_data(lines[first]):  # as numpy writes it: the header is a comment
        lines[before[-1]] = text[before[-1]].lstrip().removeprefix("#").strip()
        comments.remove(before[-1])
    delimiter = delimiter or _delimiter(lines)
    (header_line, header), *records = _records(path, lines, delimiter) or [(0, [])]
    if not header:  # nothing but delimiters
        raise ValueError(nothing)
    if _is_data(delimiter.join(header)):
        raise ValueError(f"{path}, line {header_line}: expected the names of the columns, got {', '.join(header)!r}")
    names, rows = _rectangular(path, header, records, delimiter)
    if not rows:
        raise ValueError(f"{path}: a header on line {header_line}, and no rows below it")
    if comments:
        notes = (*notes, f"{lines_text([i + 1 for i in comments])} left out as comments")
    return Table(path, names, rows, delimiter, notes)


def read_lines(path: Path) -> tuple[list[str], tuple[str, ...]]:
    """The lines of a text file, in whatever encoding, and a sentence about the encoding if it was guessed.

    Raises:
        ValueError: the file is not text; the message names the line.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    for mark, what in _NOT_TEXT:
        if data.startswith(mark):
            raise ValueError(f"{path}: expected text with commas, and this is {what}: save the table as CSV")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None) or _without_mark(data)
    notes: tuple[str, ...] = ()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise ValueError(f"{path}: expected text, and this is damaged {encoding}") from None
        text = data.decode("cp1252", errors="replace")
        notes = ("not in UTF-8: read as Windows-1252",)
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise ValueError(f"{path}, line {number}: a NUL character: the file is damaged, or it is not text")
    return lines, notes


def _without_mark(data: bytes) -> str:
    """UTF-16 shows by a NUL in each pair of bytes."""
    pairs = len(data[:2000]) // 2
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if pairs and data[first : 2 * pairs : 2].count(0) > pairs / 2:
            return encoding
    return "utf-8"


def _is_data(line: str) -> bool:
    """Whether a line that should be a header holds numbers with decimals, or nothing but numbers."""
    pieces = re.split(r"[,;\t|]", line)
    cells = [piece.strip("\" '") for piece in (pieces if len(pieces) > 1 else line.split())]
    numbers = [cell for cell in cells if re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d+)?%?", cell, re.IGNORECASE)]
    return any("." in cell for cell in numbers) or (bool(numbers) and len(numbers) == len([c for c in cells if c]))


def _delimiter(lines: Sequence[str]) -> str:
    """What divides the header into cells, and most lines into as many; blanks if nothing else does."""
    sample = list(islice((line for line in lines if line.strip()), _SAMPLE))

    def fit(delimiter: str) -> tuple[float, int]:
        width, *others = (len(cells) for cells in csv.reader(sample, delimiter=delimiter, skipinitialspace=True))
        return (-1.0, 0) if width < 2 else (sum(other == width for other in others) / max(1, len(others)), width)

    best = max(_DELIMITERS, key=fit)
    return best if fit(best)[0] >= 0 or " " not in sample[0].strip() else " "


def _records(path: Path, lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """The records that hold anything, each with the number of its first line."""
    blanks = delimiter == " "
    text = io.StringIO("\n".join(line.strip() if blanks else line for line in lines), newline="")
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True)
    records, line = [], 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                records.append((line, [cell.strip() for cell in cells]))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: a row that begins here cannot be read: {error}") from None
    return records


def _rectangular(
    path: Path, header: Sequence[str], records: Sequence[tuple[int, list[str]]], delimiter: str
) -> tuple[tuple[str, ...], tuple[Row, ...]]:
    """The names of the columns, and rows that are as long."""
    shaped = [(line, _fitted(cells, len(header), delimiter)) for line, cells in records]
    if shaped and all(len(cells) == len(header) + 1 for _, cells in shaped):  # as R writes names of rows
        header = ["", *header]
    for line, cells in shaped:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells, where the header has {len(header)} "
                f"({', '.join(header)}): add what is missing, or put a cell with {delimiter!r} in quotes"
            )
    return tuple(header), tuple(Row(line, tuple(cells)) for line, cells in shaped)


def _fitted(cells: Sequence[str], width: int, delimiter: str) -> list[str]:
    """Cells of a row, joined again where a bracket was cut, without empty ones beyond the header."""
    fitted = list(cells)
    if len(cells) > width:
        fitted, depth = [], 0
        for cell in cells:
            if depth > 0:
                fitted[-1] += f"{delimiter.strip()} {cell}"
            else:
                fitted.append(cell)
            depth += sum(cell.count(mark) for mark in "([{") - sum(cell.count(mark) for mark in ")]}")
    while len(fitted) > width and not fitted[-1]:
        fitted.pop()
    return fitted


def lines_text(numbers: Sequence[int]) -> str:
    """Numbers of lines, the first few of them."""
    shown = ", ".join(map(str, numbers[:3])) + (f" and {len(numbers) - 3:,} more" if len(numbers) > 3 else "")
    return f"line{'s' if len(numbers) > 1 else ''} {shown}"


# ---- numbers ----


def read_numbers(
    table: Table, columns: Sequence[int], units: Sequence[int] = ()
) -> tuple[list[list[float | None]], tuple[str, ...]]:
    """The numbers in some columns of a table.

    Args:
        table: it.
        columns: their places.
        units: places of columns in which a unit may follow a number, as in 1.2M, 680 k or 5.3 ms; the number is then
            in ones or in seconds.

    Returns:
        For each column its numbers, None where there is none (an empty cell, nan, n/a), and shares in place of
        percents; and sentences about what was guessed.

    Raises:
        ValueError: a cell holds something else, or an infinite number; decimal points and decimal commas, or percents
            and plain numbers, stand side by side; or it cannot be told what a comma is. The message names the line.
    """
    mark = _decimal_mark(table, columns)
    grouped: list[str] = []
    numbers = []
    for column in columns:
        parsed = [_parsed(table, row, column, mark, column in units) for row in range(len(table.rows))]
        _check_suffixes(table, column, parsed)
        numbers.append([None if cell is None else cell.value for cell in parsed])
        example = next((row for row, cell in enumerate(parsed) if cell is not None and cell.is_grouped), None)
        if example is not None:
            text, value = table.rows[example].cells[column], numbers[-1][example]
            grouped.append(f"{text} in column {table.names[column]} is read as {value:.15g}")
    return numbers, tuple(grouped)


@dataclass(frozen=True, slots=True)
class _Number:
    value: float
    suffix: str
    is_grouped: bool


_CELL = re.compile(rf"([+-]?)([\d.,{_GROUP_MARKS}]*\d\.?)(e[+-]?\d+)?\s*(%|[a-zµ]*)", re.IGNORECASE)


def _shapes(mark: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Digits with this decimal mark: without marks between thousands, and with them."""
    decimal, other = re.escape(mark), "," if mark == "." else r"\."
    return (
        re.compile(rf"\d+({decimal}\d*)?|{decimal}\d+"),
        re.compile(rf"[1-9]\d{{0,2}}([{other}{_GROUP_MARKS}])\d{{3}}(\1\d{{3}})*({decimal}\d*)?"),
    )


_SHAPES = {mark: _shapes(mark) for mark in ".,"}


def _digits(text: str) -> re.Match[str] | None:
    return _CELL.fullmatch(text.replace("−", "-"))


def _decimal_mark(table: Table, columns: Sequence[int]) -> str:
    """A point or a comma: what the cells that can be read in one way only have."""
    line_of: dict[str, str] = {}
    doubtful = None
    for column in columns:
        for row, text in enumerate(table.texts(column)):
            match = _digits(text) if "," in text or "." in text else None
            if match is None:
                continue
            marks = [mark for mark in ".," if any(shape.fullmatch(match[2]) for shape in _SHAPES[mark])]
            if len(marks) == 1:
                line_of.setdefault(marks[0], f"{text!r} on line {table.rows[row].line}")
            elif "," in match[2] and marks:
                doubtful = doubtful or f"{table.place(row)}: {text!r}"
    if len(line_of) == 2:
        raise ValueError(
            f"{table.path}: {line_of[',']} has a decimal comma and {line_of['.']} a decimal point: expected one of both"
        )
    if not line_of and doubtful and table.delimiter != ",":
        raise ValueError(f"{doubtful} may be a thousand or a decimal: write it without the comma, or with a point")
    return next(iter(line_of), ".")


def _parsed(table: Table, row: int, column: int, mark: str, with_unit: bool) -> _Number | None:
    """The number in a cell; None if there is none."""
    text = table.rows[row].cells[column]
    if text.lower() in _MISSING:
        return None
    plain, thousands = _SHAPES[mark]
    match = _digits(text)
    scale = None if match is None else _scale(match[4], with_unit)
    if match is None or scale is None or not (plain.fullmatch(match[2]) or thousands.fullmatch(match[2])):
        raise ValueError(f"{table.place(row)}: expected a number in column {table.names[column]!r}, got {text!r}")
    digits = match[2] if plain.fullmatch(match[2]) else re.sub(rf"[^\d{mark}]", "", match[2])
    value = scale * float(f"{match[1]}{digits.replace(mark, '.')}{match[3] or ''}")
    if not math.isfinite(value):
        raise ValueError(f"{table.place(row)}: {text} in column {table.names[column]!r} is too large for a number")
    return _Number(value, match[4], digits != match[2])


def _scale(suffix: str, with_unit: bool) -> float | None:
    """What a number is multiplied by; None for a suffix that is not one."""
    if suffix in ("", "%"):
        return 0.01 if suffix else 1.0
    if not with_unit or suffix.lower() == "b":  # bytes or billions: it cannot be told
        return None
    if suffix in _TIMES:
        return _TIMES[suffix]
    prefix = suffix[0] if suffix[0] in _PREFIXES else ""
    return _PREFIXES[prefix] if suffix[len(prefix) :].lower() in _COUNTED else None


def _check_suffixes(table: Table, column: int, parsed: Sequence[_Number | None]) -> None:
    """Refuses percents, or times with a unit, beside plain numbers."""
    first: dict[bool, int] = {}
    for row, cell in enumerate(parsed):
        if cell is not None:
            first.setdefault(cell.suffix == "%" or cell.suffix in _TIMES, row)
    if len(first) == 2:
        cells = " and ".join(f"{table.rows[i].cells[column]!r} on line {table.rows[i].line}" for i in first.values())
        raise ValueError(f"{table.path}: {cells}, both in column {table.names[column]!r}: expected one unit")
