"""A table of what is known of networks with known accuracies: score, sizes, measures without training, truth.

    python benchmarks/evidence/score_tables.py TRUTH.csv OUT.csv --truth COLUMN (--run RUN | --points RESULT.json)
        [--first COLUMN --judged COLUMN ...] [--short COLUMN] [--measures MEASURES.csv]

TRUTH has a column `architecture`, in any text that the space of the run reads. Scores are those of the one-shot model
of RUN, as its configuration says, or of the points of a result file of `supernet analyze`. MEASURES is what
`measures.py` has written. `joint.py` and `pay.py` read the table, so that any combination takes seconds.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from supernet.base.csv_file import Table, read_numbers, read_table
from supernet.base.files import read_json, write_text
from supernet.base.progress import Watch
from supernet.program.folder import open_run
from supernet.program.load import space_of_run
from supernet.program.score import score_architectures

MEASURES = ("params", "macs", "jacov", "synflow", "nwot", "longest_path", "layers")
"""Columns that are taken from the table of measures; sizes are those of what matters."""


def scored_by_run(run: Path, texts: list[str], place: Path) -> dict[str, dict[str, Any]]:
    """Scores and sizes by the text of each architecture, from a run's one-shot model; `place` keeps what is scored."""
    opened = open_run(run)
    space = space_of_run(opened)
    score_architectures(opened, [(text, space.parse(text)) for text in texts], place, Watch())
    with place.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        text: {"score": float(row["value"]), "params": int(row["params"]), "macs": int(row["macs"])}
        for text, row in zip(texts, rows, strict=True)
    }


def scored_by_points(result: Path) -> dict[str, dict[str, Any]]:
    """The same from the points of an analysis."""
    points = read_json(result)["points"]
    return {row["architecture"]: {name: row[name] for name in ("score", "params", "macs")} for row in points}


def columns_of(table: Table, names: list[str]) -> dict[str, list[float]]:
    """Columns of numbers; an empty cell is NaN."""
    columns, _ = read_numbers(table, [table.column(name) for name in names])
    return {
        name: [math.nan if value is None else value for value in column]
        for name, column in zip(names, columns, strict=True)
    }


def finite(text: str) -> str:
    """A measure; empty if it is minus infinity, which `joint.py` ranks last."""
    return text if math.isfinite(float(text)) else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("accuracies", type=Path, metavar="TRUTH.csv")
    parser.add_argument("out", type=Path, metavar="OUT.csv")
    parser.add_argument("--truth", required=True)
    parser.add_argument("--first", help="accuracy of one training, by which `pay.py` chooses")
    parser.add_argument("--judged", nargs="*", default=[], help="columns whose mean judges that choice")
    parser.add_argument("--short", help="column with accuracies of short trainings")
    parser.add_argument("--measures", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path)
    source.add_argument("--points", type=Path)
    chosen = parser.parse_args()
    table = read_table(chosen.accuracies)
    texts = table.texts(table.column("architecture"))
    names = [chosen.truth, *chosen.judged, *filter(None, (chosen.first, chosen.short))]
    numbers = columns_of(table, names)
    scored = (
        scored_by_points(chosen.points)
        if chosen.points
        else scored_by_run(chosen.run, texts, chosen.out.with_suffix(".scored.csv"))
    )
    measured: dict[str, dict[str, str]] = {}
    if chosen.measures:
        with chosen.measures.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                measured[line["architecture"]] = {name: finite(line[name]) for name in MEASURES if name in line}
    rows = []
    for place, text in enumerate(texts):
        row: dict[str, Any] = {"architecture": text, "truth": numbers[chosen.truth][place]}
        if chosen.judged:
            row["judged"] = round(float(np.mean([numbers[name][place] for name in chosen.judged])), 4)
        for name, column in {"first": chosen.first, "short": chosen.short}.items():
            if column:
                row[name] = numbers[column][place]
        rows.append({**row, **scored[text], **measured.get(text, {})})
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(chosen.out, buffer.getvalue())


if __name__ == "__main__":
    main()
