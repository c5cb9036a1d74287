"""`supernet analyze FILE.csv` and `--truth`: scores against accuracies from elsewhere."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from supernet.base.files import write_atomically
from supernet.base.progress import Watch
from supernet.program.analyze import write_analysis
from supernet.program.folder import Opened
from supernet.program.score import score_file
from supernet.trust.correlation import trust


def analyze_file(path: Path) -> dict[str, Any]:
    """Trust from a CSV file of the user's own.

    Columns: `score`; one or more that begin with `accuracy`, one for each repeat; any other column of numbers is taken
    for a size.

    Raises:
        ValueError: no such columns, or something else than numbers in them.
    """
    columns = read_columns(path)
    repeats = [name for name in columns if name.startswith("accuracy")]
    if "score" not in columns or not repeats:
        raise ValueError(
            f"{path}: expected columns score and accuracy (accuracy_2, ... for repeats), got {', '.join(columns)}"
        )
    numeric = {name: floats for name, texts in columns.items() if (floats := numbers(texts)) is not None}
    for name in ("score", *repeats):
        if name not in numeric:
            raise ValueError(f"{path}: expected numbers in column {name!r}")
    sizes = {name: values for name, values in numeric.items() if name not in ("score", *repeats)}
    return {"trust": trust(numeric["score"], np.array([numeric[name] for name in repeats]).T, sizes)}


def analyze_truth(run: Opened, path: Path, column: str, watch: Watch) -> dict[str, Any]:
    """Trust from accuracies that others published.

    Scores are kept in ``analysis/truth-DIGEST.csv``, so that a stopped call continues.

    Args:
        run: it; its one-shot model is trained.
        path: CSV file with a column `architecture`, texts of the run's space or of its benchmark.
        column: the accuracies.
        watch: progress and stop.

    Returns:
        `truth` of `analysis.json`: the file and the column, the points, and `trust`.

    Raises:
        ValueError: no such column, or something else than numbers in it.
        ArchitectureError: a text is no architecture of the space.
    """
    columns = read_columns(path)
    for name in ("architecture", column):
        if name not in columns:
            raise ValueError(f"{path}: no column {name!r}; there are: {', '.join(columns)}")
    truth = numbers(columns[column])
    if truth is None:
        raise ValueError(f"{path}: expected numbers in column {column!r}")
    lines = "".join(f"{text}\n" for text in columns["architecture"]).encode()
    texts = run.folder.truth(hashlib.sha256(lines).hexdigest()[:10])
    write_atomically(texts, lambda file: file.write(lines))
    score_file(run, texts, texts.with_suffix(".csv"), watch)
    scored = read_columns(texts.with_suffix(".csv"))
    accuracies, bonuses, params, macs = (numbers(scored[name]) or [] for name in ("value", "bonus", "params", "macs"))
    scores = [accuracy + bonus for accuracy, bonus in zip(accuracies, bonuses, strict=True)]
    points = [
        {"architecture": text, "score": value, "accuracies": [true], "params": size, "macs": work}
        for text, value, true, size, work in zip(columns["architecture"], scores, truth, params, macs, strict=True)
    ]
    agreement = trust(scores, truth, {"params": params, "macs": macs})
    result = {"file": path.name, "column": column, "points": points, "trust": agreement}
    write_analysis(run.folder, {"truth": result})
    return result


def read_columns(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file with a header.

    Raises:
        ValueError: it has no rows, or rows of different lengths.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    rows = [row for row in rows if row]
    if not rows or any(len(row) != len(header) for row in rows):
        raise ValueError(f"{path}: expected a CSV file with a header, and rows as long as it")
    return {name.strip(): [row[i].strip() for row in rows] for i, name in enumerate(header)}


def numbers(texts: Sequence[str]) -> list[float] | None:
    """The numbers in a column; None where there is anything else."""
    try:
        floats = [float(text) for text in texts]
    except ValueError:
        return None
    return floats if bool(np.isfinite(floats).all()) else None
