from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.base.csv_file import Table, read_lines, read_numbers, read_table


def table(folder: Path, content: str | bytes) -> Table:
    file = folder / "table.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(file)


def numbers(folder: Path, content: str | bytes, units: tuple[int, ...] = ()) -> list[list[float | None]]:
    made = table(folder, content)
    return read_numbers(made, range(len(made.names)), units)[0]


def refused(folder: Path, content: str | bytes) -> str:
    with pytest.raises(ValueError, match=r"table\.csv") as error:
        numbers(folder, content)
    return str(error.value).removeprefix(f"{folder / 'table.csv'}")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=6).map(
    str.strip
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(cells.map("x".__add__), cells, cells), min_size=1, max_size=6),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], encoding: str, delimiter: str, end: str
) -> None:
    """Any cells, in quotes, in any encoding, with any delimiter and any line ends."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["a", "b", "c"], *rows])
    made = table(tmp_path_factory.mktemp("table"), text.getvalue().encode(encoding))
    assert made.names == ("a", "b", "c")
    assert [(row.line, row.cells) for row in made.rows] == list(enumerate(rows, start=2))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a,b\n1,x\n", 2),
        ("\n\na,b\n\n1,x\n", 5),
        ("# made by hand\na,b\n# more\n1,x\n", 4),
        ("sep=;\na;b\n1;x\n", 3),
        ('"sep=;"\na;b\n1;x\n', 3),
        ("a b\n1   x\n", 2),
        ("a|b\n1|x\n", 2),
        ("a,b,\n1,x,\n", 2),
        ("a,b\n1,x,,\n", 2),
        ("a,b\n,\n1,x\n", 3),
        (" a , b \n 1 , x \n", 2),
        ("a,b\r\r\n1,x\r\r\n", 3),
        ("a,b\n1,x".encode("utf-16-le"), 2),
        ("a,b\n1,x".encode("utf-16-be"), 2),
    ],
)
def test_layouts(tmp_path: Path, content: str | bytes, line: int) -> None:
    made = table(tmp_path, content)
    assert made.names[:2] == ("a", "b")
    assert [(row.line, row.cells[:2]) for row in made.rows] == [(line, ("1", "x"))]


def test_a_header_that_is_a_comment(tmp_path: Path) -> None:
    """As numpy writes it."""
    made = table(tmp_path, "# made by hand\n# a,b\n1,0.5\n")
    assert made.names == ("a", "b")
    assert [(row.line, row.cells) for row in made.rows] == [(3, ("1", "0.5"))]


def test_a_first_column_without_a_name(tmp_path: Path) -> None:
    made = table(tmp_path, "a,b\nrow1,1,2\nrow2,3,4\n")
    assert made.names == ("", "a", "b")
    assert made.texts(0) == ["row1", "row2"]


def test_brackets_hold_a_cell_together(tmp_path: Path) -> None:
    made = table(tmp_path, "arch,acc\n(4, 0, 3),81.66\nGenotype(normal=[('sep', 0), ('skip', 1)]),70\n")
    assert made.texts(0) == ["(4, 0, 3)", "Genotype(normal=[('sep', 0), ('skip', 1)])"]
    assert made.texts(1) == ["81.66", "70"]
    made = table(tmp_path, "arch acc\n(4, 0, 3) 81.66\nStructure(4 nodes with |a~0|) 70\n")
    assert made.texts(0) == ["(4, 0, 3)", "Structure(4 nodes with |a~0|)"]


def test_cells_of_several_lines_count(tmp_path: Path) -> None:
    made = table(tmp_path, 'a,b\n"one\ntwo",1\nx,2\n')
    assert [(row.line, row.cells) for row in made.rows] == [(2, ("one\ntwo", "1")), (4, ("x", "2"))]


def test_what_was_guessed_is_said(tmp_path: Path) -> None:
    assert table(tmp_path, "a,größe\n1,2\n".encode("latin1")).notes == ("not in UTF-8: read as Windows-1252",)
    assert table(tmp_path, "# x\na,b\n# y\n1,2\n").notes == ("lines 1, 3 left out as comments",)
    assert table(tmp_path, "a,größe\n1,2\n").notes == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ": no table in this file"),
        ("\n \n", ": no table in this file"),
        ("|", ": no table in this file"),
        ("# only this\n", ": no table in this file"),
        ("a,b\n", ": a header on line 1, and no rows below it"),
        ("a,b,c\n1,2,3\n4,5\n", ", line 3: 2 cells, where the header has 3 (a, b, c)"),
        ("a,b\n1,2\n3,4,5\n", ", line 3: 3 cells, where the header has 2"),
        ("0.5,0.6\n0.1,0.2\n", ", line 1: expected the names of the columns, got '0.5, 0.6'"),
        ("1,2\n3,4\n", ", line 1: expected the names of the columns"),
        ('a,b\n1,"2\n3,4\n', ", line 2: a row that begins here cannot be read"),
        (b"a,b\n1,2\n\0\0", ", line 3: a NUL character"),
        (b"PK\x03\x04....", ": expected text with commas, and this is an Excel workbook"),
        (b"PAR1....", "this is a parquet file"),
        (b"\xff\xfea\x00,\x00b\x00\n", "damaged utf-16"),
        ("a,b\n1,x\n", ", line 2: expected a number in column 'b', got 'x'"),
        ("a,b\n1,2\n1,inf\n", ", line 3: expected a number in column 'b', got 'inf'"),
        ("a,b\n1,1e999\n", ", line 2: 1e999 in column 'b' is too large"),
        ("a;b\n0,5;1\n0.25;1\n", ": '0,5' on line 2 has a decimal comma and '0.25' on line 3 a decimal point"),
        ("a;b\n1,234;1\n", ", line 2: '1,234' may be a thousand or a decimal"),
        ("a,b\n50%,1\n0.7,1\n", ": '50%' on line 2 and '0.7' on line 3, both in column 'a': expected one unit"),
        ("a,b\n1.2M,1\n", ", line 2: expected a number in column 'a', got '1.2M'"),
        ("a,b\n0.5 ± 0.1,1\n", ", line 2: expected a number in column 'a'"),
    ],
)
def test_messages_name_the_file_and_the_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in refused(tmp_path, content)


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        ("0.5 1e-3 -.25 7", [0.5, 1e-3, -0.25, 7]),
        ("0,5 1,25 -3 1.234,5", [0.5, 1.25, -3, 1234.5]),
        ("7,679 12,345,678 1.5", [7679, 12345678, 1.5]),
        ("7.679 0,5", [7679, 0.5]),
        ("7'679 1_000 2\u202f500", [7679, 1000, 2500]),
        ("50% 12.5%", [0.5, 0.125]),
        ("nan NA null N/A - 1", [None, None, None, None, None, 1]),
        ("−1.5", [-1.5]),
    ],
)
def test_numbers_as_people_write_them(tmp_path: Path, texts: str, values: list[float | None]) -> None:
    rows = "\n".join(f'"{text}",x' for text in texts.split(" "))
    made = table(tmp_path, f"a,b\n{rows}\n")
    ((read,), _) = read_numbers(made, [0])
    assert read == pytest.approx(values)


def test_units_in_cells_of_sizes(tmp_path: Path) -> None:
    assert numbers(tmp_path, "a,b\n1.2M,5 ms\n680 k,0.1s\n900,300us\n", (0, 1)) == [
        pytest.approx([1.2e6, 6.8e5, 900]),
        pytest.approx([0.005, 0.1, 0.0003]),
    ]
    assert numbers(tmp_path, "a,b\n1.2 GFLOPs,5 MB\n680 MFLOPs,20 KB\n", (0, 1)) == [[1.2e9, 6.8e8], [5e6, 2e4]]
    for text in ("5 ms\n6", "5 apples\n6 apples", "7B\n1B"):
        with pytest.raises(ValueError, match=r"unit|number"):
            numbers(tmp_path, "a,b\n" + "".join(f"{cell},1\n" for cell in text.split("\n")), (0,))


def test_marks_between_thousands_are_said(tmp_path: Path) -> None:
    made = table(tmp_path, 'a,b\n0.5,"7,679"\n')
    assert read_numbers(made, [0, 1]) == ([[0.5], [7679]], ("7,679 in column b is read as 7679",))


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-1e7, 1e7).map(lambda value: round(value, 4)), min_size=1, max_size=8),
    comma=st.booleans(),
    grouped=st.booleans(),
)
def test_either_convention_gives_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], comma: bool, grouped: bool
) -> None:
    texts = [f"{value:,.4f}" if grouped else f"{value:.4f}" for value in values]
    if comma:
        texts = [text.translate({ord(","): ".", ord("."): ","}) for text in texts]
    content = "a;b\n" + "".join(f"{text};x\n" for text in texts)
    made = table(tmp_path_factory.mktemp("table"), content)
    ((read,), _) = read_numbers(made, [0])
    assert read == pytest.approx(values)


def test_columns_by_name(tmp_path: Path) -> None:
    made = table(tmp_path, "Score,b,b\n1,2,3\n")
    assert made.column("score") == 0
    for name, message in (("c", "no column 'c'; there are: Score, b, b"), ("b", "columns 2 and 3 are both named 'b'")):
        with pytest.raises(ValueError, match=message):
            made.column(name)


def test_lines_of_a_text_file(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_bytes("one\r\ntwo\rthree".encode("utf-16"))
    assert read_lines(file) == (["one", "two", "three"], ())
