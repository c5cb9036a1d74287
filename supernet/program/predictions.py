"""What is expected of the candidates of a run, which `supernet refine` writes and others read."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from supernet.base.files import write_text
from supernet.program.paths import RunFolder
from supernet.search.orders import Candidate
from supernet.search.predictor import Prediction

_COLUMNS = ("predicted", "predicted_deviation")


def write_predictions(path: Path, candidates: Sequence[Candidate], prediction: Prediction) -> None:
    """Writes what is expected of each candidate as a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("architecture", *_COLUMNS))
    for row in zip(candidates, prediction.values.tolist(), prediction.deviations.tolist(), strict=True):
        writer.writerow((row[0].architecture, *map(repr, row[1:])))
    write_text(path, text.getvalue())


def with_predictions(folder: RunFolder, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with what is expected of each, if there are predictions; otherwise as they are."""
    if not folder.predictions.exists():
        return list(candidates)
    with folder.predictions.open(newline="", encoding="utf-8") as file:
        rows = {row["architecture"]: [float(row[name]) for name in _COLUMNS] for row in csv.DictReader(file)}
    values = [rows[str(c.architecture)] for c in candidates]
    return [
        replace(c, predicted=predicted, predicted_deviation=deviation)
        for c, (predicted, deviation) in zip(candidates, values, strict=True)
    ]
