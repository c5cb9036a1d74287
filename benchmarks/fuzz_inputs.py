"""What `benchmarks/fuzz.py` feeds to the program: one function for each kind of input.

Each takes a folder for its files and returns two functions: `draw` makes an input from random numbers, and `read`
gives it to the program. An input is refused by an error of the project's own. Whatever else is raised is a crash, and
so is an `AssertionError` of `read`: an input that was accepted and gave something wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from PIL import Image

from supernet import cost_table
from supernet.base.csv_file import read_table
from supernet.data.sources import DataConfig, read
from supernet.data.survey import survey
from supernet.program.arguments import hours_of, rates_of, typed, values_of
from supernet.program.commands import main as command
from supernet.program.config import Config, check_config, read_yaml
from supernet.program.settings import ConfigError, check_value, parse_value, setting_hints
from supernet.search import table as tables
from supernet.search.limits import LimitsConfig, amount
from supernet.search.orders import Candidate
from supernet.search.ranking import Ranking
from supernet.space.choices import Architecture, Space
from supernet.spaces import SPACES, bender, nasbench201
from supernet.spaces.nasbench201 import to_string
from supernet.trust.points import facts_of, points_of

Draw = Callable[[random.Random], Any]
Read = Callable[[Any], object]

ODD_TEXTS = (
    "", " ", "\t", "\n", "\0", "=", "+", "==", "=+=", "é", "\u202e", "\ud800", "\uff11", "²", "∞", "nan", "inf", "-1",
    "0", "1e309", "9" * 400, "0x10", "1_000", "'", '"', '"""', "`", "{", "[", "]", "}", "&a", "*a", "<<: *a",
    "!!binary x", "!!python/object:os.system", "null", "~", "%s", "${x}", "$x", "../", "/", "\\", "🙂", "a" * 1000, ",",
    ";", ":", "|", "(", ")", "#", "- ", "--", "2026-11-30", "\r\n", "\ufeff", "µ", "1,5", "1.5.5", "-0", "+1", ".", "e",
    "1e", "1e5k",
)  # fmt: skip

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 10**6, 10**18, 10**400, -(10**18), 0.5, -0.5, math.nan, math.inf, -math.inf, 1e308,
    1e-320, "", "x", "1", "1e3", "nan", "true", "a.b", "a=b", [], {}, [[]], [None], {"a": 1}, {"a": {"b": [1]}}, {1: 2},
    [1, 2, 3], ["a", "b"], {"": ""}, [10**400], "\0", "../..", "x.py:f", "\ud800", "é",
)  # fmt: skip


def mutated(text: str, r: random.Random) -> str:
    """A text with up to four changes: parts left out, repeated, exchanged, or replaced by something odd."""
    for _ in range(r.randrange(5)):
        a, b = sorted(r.randrange(len(text) + 1) for _ in range(2))
        kind, short = r.randrange(7), min(b, a + 1 + r.randrange(4))
        if kind == 0:
            text = text[:a] + text[short:]
        elif kind == 1:
            text = text[:b] + text[a:b] + text[b:]
        elif kind == 2:
            text = text[:a]
        elif kind == 3:
            words = text.split(" ")
            r.shuffle(words)
            text = " ".join(words)
        elif kind == 4:
            text = text[:a] + text[a:short].swapcase() + text[short:]
        else:
            text = text[:a] + r.choice(ODD_TEXTS) + text[a if kind == 5 else short :]
    return text


def mutated_bytes(content: bytes, r: random.Random) -> bytes:
    """Bytes with some flipped, left out, repeated or cut off."""
    changed = bytearray(content)
    for _ in range(1 + r.randrange(4)):
        if not changed:
            break
        a, b = sorted(r.randrange(len(changed)) for _ in range(2))
        kind = r.randrange(5)
        if kind < 2:
            changed[a] ^= 1 << r.randrange(8)
        elif kind == 2:
            changed[a : a + 4] = r.randbytes(4)
        elif kind == 3:
            del changed[a : min(b, a + 64)]
        else:
            del changed[a:]
    return bytes(changed)


def mutated_value(value: Any, r: random.Random) -> Any:
    """Values of JSON with one place changed: another value, a key that is missing, or one more."""
    if isinstance(value, dict) and value and r.random() < 0.9:
        key = r.choice(list(value))
        kind = r.randrange(8)
        if kind == 0:
            return {other: inner for other, inner in value.items() if other != key}
        if kind == 1:
            return {**value, r.choice(ODD_TEXTS): r.choice(ODD_VALUES)}
        return {**value, key: mutated_value(value[key], r)}
    if isinstance(value, list) and value and r.random() < 0.9:
        place = r.randrange(len(value))
        kind = r.randrange(8)
        if kind == 0:
            return value[:place] + value[place + 1 :]
        if kind == 1:
            return [*value, r.choice([*value, *ODD_VALUES])]
        return [*value[:place], mutated_value(value[place], r), *value[place + 1 :]]
    if isinstance(value, str) and r.random() < 0.5:
        return mutated(value, r)
    return r.choice(ODD_VALUES)


def everything(reads: Sequence[Callable[[], object]], is_refusal: Callable[[BaseException], bool]) -> None:
    """Calls all functions, and raises a crash if there is one, else the first refusal."""
    refusal: Exception | None = None
    for function in reads:
        try:
            function()
        except Exception as error:
            if not is_refusal(error):
                raise
            refusal = refusal or error
    if refusal is not None:
        raise refusal


# ---- texts of architectures ----


def texts(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Architectures as text, in all spaces that the program has, and as benchmarks write them."""
    spaces = [make() for name, make in SPACES.items() if name != "darts"]
    generator = torch.Generator().manual_seed(0)
    valid = {id(space): [str(space.sample(generator=generator)) for _ in range(8)] for space in spaces}
    cells = nasbench201()
    benchmarks = [
        *(to_string(cells.sample(generator=generator)) for _ in range(4)), "(4, 0, 3, 1, 4, 3)", "201201", "012",
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=[2], reduce=[], reduce_concat=[2])",
    ]  # fmt: skip

    def draw(r: random.Random) -> tuple[int, str]:
        number = r.randrange(len(spaces))
        source = benchmarks if r.random() < 0.2 else valid[id(spaces[number])]
        return number, mutated(r.choice(source), r)

    def parse(drawn: tuple[int, str]) -> None:
        space, text = spaces[drawn[0]], drawn[1]
        architecture = space.parse(text)
        assert space.parse(str(architecture)) == architecture
        space.live([architecture])

    return draw, parse


# ---- configurations ----


def configurations(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """YAML of a few settings: other types, huge numbers, unknown names, deep nesting, aliases, broken text."""
    names, path = list(setting_hints(Config)), folder / "x.yaml"
    good: dict[str, Any] = {"seed": 1, "search.candidates": 10, "train.epochs": 2, "search.limits.max_params": "50k"}

    def nested(r: random.Random) -> str:
        opening, closing_ = r.choice((("[", "]"), ("{", "}"), ("{a: ", "}"), ("- ", "")))
        depth = r.choice((3, 50, 500, 5000))
        return f"{r.choice(names)}: {opening * depth}{closing_ * (depth if r.random() < 0.8 else 0)}"

    def aliases(r: random.Random) -> str:
        width, depth = 1 + r.randrange(12), 1 + r.randrange(12)
        lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, depth)]
        return "\n".join([*lines, mutated("search: *a0", r)])

    def draw(r: random.Random) -> str:
        kind = r.randrange(20)
        if kind == 0:
            return mutated(nested(r), r)
        if kind == 1:
            return mutated(aliases(r), r)
        settings: dict[str, Any] = {}
        for _ in range(1 + r.randrange(3)):
            name = r.choice([*good, *names]) if r.random() < 0.95 else mutated(r.choice(names), r)
            value = good[name] if name in good and r.random() < 0.5 else r.choice(ODD_VALUES)
            *groups, last = name.split(".")
            place = settings
            for group in groups:
                inner = place.setdefault(group, {})
                place = inner if isinstance(inner, dict) else {}
            place[last] = value
        text = yaml.dump(settings)
        return mutated(text, r) if r.random() < 0.3 else text

    def load(text: str) -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        check_config(read_yaml(path), runs_files=False)

    return draw, load


# ---- limits and other values of options ----


def limits(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Texts of options: limits, hours, rates, values by name, and every type that a setting has."""
    costs, hints = ("params", "macs", "latency", "memory"), list(setting_hints(Config).values())
    good = ("250k", "1.5M", "50M", "5ms", "300us", "64MB", "512KiB", "1e-3", "12", "0.5,0.1", "filters=16,32", "[1, 2]")

    def draw(r: random.Random) -> tuple[int, int, str]:
        return r.randrange(4), r.randrange(1 << 16), mutated(r.choice(good), r)

    def read_option(drawn: tuple[int, int, str]) -> None:
        kind, number, text = drawn
        try:
            if kind == 0:
                cost = costs[number % 4]
                assert 0 < (amount(f"max_{cost}", cost, text) or 1) < math.inf
                LimitsConfig(**{f"max_{cost}": text, f"min_{cost}": "5"})
            elif kind == 1:
                hint = hints[number % len(hints)]
                check_value("setting", parse_value(text, hint), hint)
            elif kind == 2:
                typed((int, float, str, list[str], dict[str, Any])[number % 5])(text)
            else:
                (hours_of, rates_of, values_of)[number % 3](text)
        except argparse.ArgumentTypeError as error:
            raise ConfigError(str(error)) from None

    return draw, read_option


# ---- tables of the user ----

_TABLES = (
    "score,accuracy,params,architecture\n0.5,0.61,1000,a\n0.6,0.71,2000,b\n0.7,0.69,1500,c\n",
    "score;accuracy;accuracy_2;latency\n0,5;0,61;0,6;5 ms\n0,6;0,7;0,72;6 ms\n",
    "score\taccuracy\n1\t50%\n2\t60%\n3\t55%\n", "# score accuracy\n0.1 0.2\n0.2 0.3\n",
    'sep=,\n"score","accuracy","network"\n"1","2","(4, 0, 3)"\n"2","3","(1, 2, 3)"\n',
    "score,accuracy,seed\n1,2,0\n1,2.5,1\n3,4,0\n",
)  # fmt: skip


def csv_tables(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Tables for `supernet analyze FILE.csv`: other delimiters, encodings, cells, missing values."""
    path = folder / "x.csv"

    def draw(r: random.Random) -> bytes:
        text = mutated(r.choice(_TABLES), r)
        content = text.encode(r.choice(("utf-8",) * 8 + ("utf-16", "cp1252")), "ignore")
        return mutated_bytes(content, r) if r.random() < 0.1 else content

    def load(content: bytes) -> None:
        path.write_bytes(content)
        table = read_table(path)
        points = points_of(table)
        json.dumps(facts_of(table, points), allow_nan=False)

    return draw, load


# ---- tables of candidates ----


def _candidates(path: Path, space: Space) -> list[Architecture]:
    """Writes a table of twelve candidates without the constraints of SQLite, so that it takes any value."""
    drawn = space.sample_distinct(12, generator=torch.Generator().manual_seed(0))
    costs, right = cost_table(space).costs(drawn).tolist(), tables.packed([True] * 40 + [False] * 24)
    rows = [
        tables.Row(
            Candidate(a, 0.5, 1.0, 64, params, without_norm, macs, strategy="random", round=i // 6, deviation=0.1),
            right,
            1.0,
        )
        for i, (a, (params, without_norm, macs)) in enumerate(zip(drawn, costs, strict=True))
    ]
    tables.write_rows(path, rows)
    names = [str(a) for a in drawn]
    for number in range(2):
        part = names[6 * number : 6 * number + 6]
        tables.write_round(path, number, tables.Round(part, part, [0.5] * 6, '{"a": 1}'))
    tables.write_figures(path, {name: {"size": 1.0 + i} for i, name in enumerate(names)})
    tables.write_failures(path, {names[0]: "its worker died"})
    ranking = Ranking.of({"score": 1.0, "size": 0.5}, {"score": [0.1, 0.5], "size": [1.0, 2.0, 3.0]})
    tables.write_ranking(path, ranking)
    with closing(sqlite3.connect(path)) as connection, connection:
        for name in ("candidates", "rounds", "meta", "measures", "failures"):
            connection.execute(f"CREATE TABLE copied AS SELECT * FROM {name}")
            connection.execute(f"DROP TABLE {name}")
            connection.execute(f"ALTER TABLE copied RENAME TO {name}")
    return drawn


_ODD_CELLS: tuple[Any, ...] = (
    None, 0, -1, 1 << 62, math.inf, 1e308, "", "x", b"\xff\x00", "[]", "{}", "[1]", '{"a": null}', "null", "NaN", "[[[",
)  # fmt: skip


def candidates(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Tables of candidates, SQLite files, with other values, missing columns and tables, or broken bytes."""
    space, path = bender(2, cells=1, choice_blocks=1), folder / "candidates.sqlite"
    members = _candidates(folder / "whole.sqlite", space)
    whole = (folder / "whole.sqlite").read_bytes()
    with closing(sqlite3.connect(folder / "whole.sqlite")) as connection:
        columns = {
            name: [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
            for name in ("candidates", "rounds", "meta", "measures", "failures")
        }

    def draw(r: random.Random) -> bytes | list[tuple[str, tuple[Any, ...]]]:
        if r.random() < 0.2:
            return mutated_bytes(whole, r)
        commands: list[tuple[str, tuple[Any, ...]]] = []
        for _ in range(1 + r.randrange(2)):
            name = r.choice(["candidates"] * 4 + list(columns))
            column, kind, row = r.choice(columns[name]), r.randrange(12), 1 + r.randrange(12)
            if kind == 0:
                commands.append((f"DROP TABLE {name}", ()))
            elif kind == 1:
                commands.append((f'ALTER TABLE {name} RENAME COLUMN "{column}" TO x{row}', ()))
            elif kind == 2:
                commands.append((f"DELETE FROM {name} WHERE rowid >= ?", (row,)))
            else:
                where = "rowid = ?" if kind < 9 else "rowid >= ?"
                commands.append((f'UPDATE {name} SET "{column}" = ? WHERE {where}', (r.choice(_ODD_CELLS), row)))
        return commands

    def reads() -> Iterator[Callable[[], object]]:
        yield lambda: json.dumps(tables.records(tables.read_candidates(path, None)), allow_nan=False)
        yield lambda: tables.read_candidates(path, space)
        yield lambda: tables.read_best(path, 3, 1, {})
        yield lambda: tables.read_best(path, 2, 3, {"params": (0.0, 1e9)})
        for read_part in (
            tables.read_failures, tables.read_ranking, tables.is_rescored,
        ):  # fmt: skip
            yield partial(read_part, path)
        yield lambda: list(tables.read_rounds(path))
        yield lambda: tables.read_figures(path, members)
        yield lambda: tables.read_seen(path, members)
        yield lambda: tables.read_right(path, 10)
        yield lambda: tables.in_order_asked(path, tables.read_candidates(path, space))

    def load(drawn: bytes | list[tuple[str, tuple[Any, ...]]]) -> None:
        for old in folder.glob("candidates.sqlite*"):  # with what SQLite left beside it
            old.unlink()
        path.write_bytes(drawn if isinstance(drawn, bytes) else whole)
        if not isinstance(drawn, bytes):
            with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection, connection:
                for text, values in drawn:
                    connection.execute(text, values)
        everything(list(reads()), is_refusal)

    return draw, load


# ---- images ----


def _image(kind: str, mode: str, side: int) -> bytes:
    buffer = io.BytesIO()
    image = Image.effect_noise((side, side + 2), 60).convert(mode)
    image.save(buffer, kind)
    return buffer.getvalue()


def _images() -> list[tuple[str, bytes]]:
    made = [
        ("png", "PNG", "L"), ("png", "PNG", "RGB"), ("png", "PNG", "RGBA"), ("png", "PNG", "P"), ("png", "PNG", "1"),
        ("png", "PNG", "I;16"), ("jpg", "JPEG", "RGB"), ("jpg", "JPEG", "L"), ("jpeg", "JPEG", "CMYK"),
        ("bmp", "BMP", "RGB"), ("gif", "GIF", "P"), ("webp", "WEBP", "RGB"), ("tif", "TIFF", "RGB"),
        ("tiff", "TIFF", "F"), ("ppm", "PPM", "RGB"), ("pgm", "PPM", "L"),
    ]  # fmt: skip
    images = [(suffix, _image(kind, "L" if mode == "I;16" else mode, 6)) for suffix, kind, mode in made]
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    return [*images, ("png", eps), ("png", b""), ("jpg", b"text"), ("png", b"\x89PNG\r\n\x1a\n")]


def images(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Folders of images: broken files, odd names, pipes, links in circles, names that are not UTF-8."""
    made, place = _images(), folder / "photos"
    names = (
        b"a", b"b c", b".hidden", b"\xff\xfe", "\u202ex".encode(), b"line\nend", b"x" * 200, b"'\"", b"$(x)", b"%s",
        "é".encode(), b"train", b"test", b"val", b"-r", b"a.png", b"0",
    )  # fmt: skip

    def draw(r: random.Random) -> list[tuple[bytes, bytes | str]]:
        entries: list[tuple[bytes, bytes | str]] = []
        tops = [r.choice(names) for _ in range(1 + r.randrange(3))]
        for _ in range(1 + r.randrange(6)):
            suffix, content = r.choice(made[:2] if r.random() < 0.5 else made)
            name = b"/".join([r.choice(tops), *([r.choice(names)] if r.random() < 0.2 else [])])
            file = r.choice(names) + b"." + (suffix if r.random() < 0.9 else "txt").encode()
            what: bytes | str = mutated_bytes(content, r) if r.random() < 0.4 else content
            if r.random() < 0.1:
                what = r.choice(("pipe", "folder", "link to nothing", "link to itself", "link up"))
            entries.append((name + b"/" + file, what))
        return entries

    def make(entry: bytes, what: bytes | str) -> None:
        path = os.path.join(os.fsencode(place), entry)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if os.path.lexists(path):  # to write into a pipe would wait for ever
            return
        if isinstance(what, bytes):
            with open(path, "wb") as file:
                file.write(what)
        elif what == "pipe":
            os.mkfifo(path)
        elif what == "folder":
            os.mkdir(path)
        else:
            os.symlink({"link to nothing": b"nothing", "link to itself": path, "link up": b".."}[what], path)

    def load(entries: list[tuple[bytes, bytes | str]]) -> None:
        for old in (place, folder / "cache"):
            shutil.rmtree(old, ignore_errors=True)
        place.mkdir()
        for entry, what in entries:
            with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                make(entry, what)
        skips = len(entries) % 2 == 0
        config = DataConfig(
            name="folder", path=str(place), image_size=4, skip_damaged=skips, cache=str(folder / "cache")
        )
        everything([lambda: survey(config), lambda: _read_whole(config)], is_refusal)

    return draw, load


def _read_whole(config: DataConfig) -> None:
    source = read(config)
    assert len(source.examples) == len(source.targets) > 0


# ---- parquet ----


def parquet(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Parquet files: other types of columns, missing cells, broken bytes."""
    import pyarrow
    from pyarrow.parquet import write_table

    made, path = _images(), folder / "x.parquet"
    labels: tuple[tuple[Any, ...], ...] = (
        (0, 1), ("a", "b"), (0.5, 1.5), (None, 1), (True, False), ([1, 0], [0, 1]), ([1], [0, 1]), ({"a": 1}, {"a": 2}),
        (-1, 3), (10**12, 0), (b"x", b"y"), (math.nan, 1.0), ("", "a"), ("\u202e", "é"), ([], []), (2**63 - 1, 0),
    )  # fmt: skip

    def draw(r: random.Random) -> bytes:
        rows = r.randrange(6)
        pair = r.choice(labels)
        target = [pair[i % 2] for i in range(rows)]
        cells: list[Any] = [r.choice(made[:2] if r.random() < 0.8 else made)[1] for _ in range(rows)]
        kind = r.randrange(8)
        if kind == 0:
            cells = [None if r.random() < 0.5 else cell for cell in cells]
        elif kind == 1:
            cells = [{"bytes": cell, "path": "x"} for cell in cells]
        elif kind == 2:
            cells = [mutated_bytes(cell, r) for cell in cells]
        elif kind == 3:
            target, cells = cells, list(cells)
        elif kind == 4:
            cells = list(map(str, cells))
        names = [r.choice(("image", "img", "bytes", "x", "\ud7ff", "")), r.choice(("label", "labels", "mask", "y"))]
        buffer = io.BytesIO()
        with contextlib.suppress(pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, UnicodeEncodeError):
            write_table(pyarrow.table(dict(zip(names, (cells, target), strict=True))), buffer)
        content = buffer.getvalue()
        return mutated_bytes(content, r) if r.random() < 0.4 else content

    def load(content: bytes) -> None:
        path.write_bytes(content)
        shutil.rmtree(folder / "cache", ignore_errors=True)
        config = DataConfig(name="parquet", path=str(path), image_size=4, cache=str(folder / "cache"))
        _read_whole(config)

    return draw, load


# ---- run folders ----

_SMALL = (
    "--space.settings={filters: 2, cells: 1, choice_blocks: 1}", "--train.epochs=1", "--retrain.train.epochs=0.5",
    "--search.candidates=8", "--search.top_of=4", "--search.examples=64", "--runtime.threads=1", "--runtime.device=cpu",
    "--runtime.precision=32-true", "--runtime.kernels=torch",
)  # fmt: skip


def _quietly(words: Sequence[object]) -> tuple[int, str]:
    """Exit code and messages of a command."""
    err = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(err):
        code = command([str(word) for word in words])
    return code, err.getvalue()


def _run(folder: Path) -> Path:
    """A finished run with an analysis and a refinement, without digests and locks."""
    run = folder / "run"
    for words in (
        ("run", "digits-smoke", "--out", run, *_SMALL), ("refine", run, "--trainings", "2"),
        ("analyze", run), ("report", run),
    ):  # fmt: skip
        code, text = _quietly(words)
        if code:
            raise RuntimeError(text)
    for path in (*run.rglob(".digests.json"), run / "settings.json"):
        path.unlink(missing_ok=True)
    return run


def runs(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Run folders with a file that is missing, cut off, changed or a folder, given to the commands that read."""
    run = _run(folder)
    whole = {path.relative_to(run): path.read_bytes() for path in run.rglob("*") if path.is_file()}
    small = [path for path, content in whole.items() if len(content) < 1_000_000]
    values: Mapping[Path, Any] = {path: json.loads(whole[path]) for path in small if path.suffix == ".json"}
    config = yaml.safe_load(whole[Path("config.yaml")])
    read_words = [
        ("show", run), ("show", run, "--json"), ("top", run), ("top", run, "--objectives", "score,params"),
        ("report", run), ("doctor", run), ("watch", run, "--once"), ("analyze", run, "--plan"),
        ("run", "--out", run, "--print_config"),
    ]  # fmt: skip

    def draw(r: random.Random) -> tuple[Path, bytes | None, int]:
        path = r.choice([*values, *values, *small])
        kind, words = r.randrange(10), r.randrange(len(read_words))
        if kind == 0:
            return path, None, words
        if path in values and kind < 8:
            return path, json.dumps(mutated_value(values[path], r)).encode(), words
        if path.suffix == ".yaml" and kind < 8:
            return path, yaml.dump(mutated_value(config, r)).encode("utf-8", "surrogatepass"), words
        return path, mutated_bytes(whole[path], r), words

    def load(drawn: tuple[Path, bytes | None, int]) -> None:
        path, content, number = drawn
        if content is None:
            (run / path).unlink()
        else:
            (run / path).write_bytes(content)
        try:
            code, text = _quietly(read_words[number])
        finally:
            (run / path).parent.mkdir(exist_ok=True)
            (run / path).write_bytes(whole[path])
        if code:
            lines = [line for line in text.splitlines() if line.startswith("supernet: error: ")]
            assert code == 2 and len(lines) == 1, text
            raise ConfigError(lines[0])

    return draw, load


# ---- the words of a command ----


def words(folder: Path, is_refusal: Callable[[BaseException], bool]) -> tuple[Draw, Read]:
    """Options of `supernet run RECIPE ... --print_config`."""
    names = [f"--{name}" for name in setting_hints(Config)]
    more = [
        "--data",
        "--config",
        "--hours",
        "--elastic",
        "--max-params",
        "--strategy",
        "--device",
        "--objectives",
        "--log",
    ]

    def draw(r: random.Random) -> list[str]:
        drawn = []
        for _ in range(1 + r.randrange(2)):
            name = r.choice(names) if r.random() < 0.8 else mutated(r.choice([*names, *more]), r)
            odd = r.choice(ODD_TEXTS) if r.random() < 0.5 else yaml.dump(r.choice(ODD_VALUES)).strip()
            drawn += [f"{name}={odd}"] if r.random() < 0.7 else [name, odd]
        return [word.replace("\0", "") for word in drawn]

    def load(drawn: list[str]) -> None:
        recipe = ("digits-smoke",) if len(drawn) % 2 else ("images",)
        code, text = _quietly(["run", *recipe, *drawn, "--print_config"])
        if code:
            assert code == 2 and len([line for line in text.splitlines() if line]) == 1, text
            raise ConfigError(text)

    return draw, load


KINDS: dict[str, Callable[[Path, Callable[[BaseException], bool]], tuple[Draw, Read]]] = {
    "texts": texts,
    "limits": limits,
    "configurations": configurations,
    "csv tables": csv_tables,
    "tables of candidates": candidates,
    "image folders": images,
    "parquet": parquet,
    "run folders": runs,
    "words": words,
}
