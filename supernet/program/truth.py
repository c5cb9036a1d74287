"""`supernet analyze FILE.csv` and `--truth`: scores against accuracies from elsewhere."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.base.csv_file import read_table
from supernet.base.progress import Watch, counted
from supernet.program.analyze import write_analysis
from supernet.program.folder import Opened
from supernet.program.load import load_run, space_of_run
from supernet.program.machine import start_run
from supernet.program.score import measuring_of, score_architectures
from supernet.search.recording import figures_of
from supernet.search.table import read_ranking
from supernet.space.choices import Architecture
from supernet.space.cost import cost_table
from supernet.trust.correlation import trust
from supernet.trust.points import facts_of, points_of, published_points

log = logging.getLogger(__name__)


def analyze_file(path: Path, sizes: Sequence[str] | None = None) -> dict[str, Any]:
    """Trust from a table of the user's own; see `supernet.trust.points.points_of` for its columns.

    Args:
        path: of the table.
        sizes: names of columns that are compared with the scores; None: those that are sizes by their names.

    Returns:
        `trust`, and `table`: what was read.

    Raises:
        ValueError: the table cannot be read, or contradicts itself; the message names the line.
    """
    table = read_table(path)
    points = points_of(table, sizes)
    assert points.scores is not None
    return {"trust": trust(points.scores, points.accuracies, points.sizes), "table": facts_of(table, points)}


def analyze_truth(
    run: Opened, path: Path, columns: Sequence[str], watch: Watch, sizes: Sequence[str] = ()
) -> dict[str, Any]:
    """Trust from accuracies that others published.

    Scores are kept in ``analysis/truth-DIGEST.csv``, so that a stopped call continues.

    Args:
        run: its one-shot model is trained.
        path: table with a column `architecture`, texts of the run's space or of its benchmark. Rows of one
            architecture are its repeats.
        columns: names of those with accuracies; several are repeats.
        watch: progress and stop.
        sizes: names of columns that the scores are compared with, beside the parameters and multiply-adds of the
            space; a column `params` or `macs` takes the place of the space's own.

    Returns:
        `truth` of `analysis.json`: the file and the columns, the points, `trust`, and `table`: what was read.

    The score is what the run's search ranks by: with `search.rank` the joint rank.

    Raises:
        ValueError: the table cannot be read, or contradicts itself; the message names the line.
        Interrupted: asked to stop; scores are kept, measures are not.
        ArchitectureError: a text is no architecture of the space; the message names the line.
    """
    table = read_table(path)
    points = published_points(table, columns, space_of_run(run).parse, sizes)
    scored = _scored(run, points.keys, watch)
    texts = [table.rows[rows[0]].cells[table.names.index(points.columns["networks"][0])] for rows in points.rows]
    if not re.search("[a-z]", texts[0]):  # numbers alone are read by the rule of one tool, and others have other rules
        points = replace(points, notes=(*points.notes, f"architecture {texts[0]} is read as {points.keys[0]}"))
    params, macs = ([int(row[cost]) for row in scored] for cost in ("params", "macs"))
    of_space = {"params": params, "macs": macs}
    not_replaced = [name for name in of_space if name not in points.sizes]
    ranks = _joint_ranks(run, points.keys, [float(row["value"]) for row in scored], watch)
    scores = ranks or [float(row["value"]) + float(row["bonus"]) for row in scored]
    listed = [
        {
            "architecture": text, "score": score, "params": size, "macs": work,
            "accuracies": [value for value in repeats if not math.isnan(value)],
        }
        for text, score, size, work, repeats in zip(
            texts, scores, params, macs, points.accuracies.tolist(), strict=True
        )
    ]  # fmt: skip
    result = {
        "file": path.name, "column": ", ".join(columns), "points": listed,
        "trust": trust(scores, points.accuracies, {**of_space, **points.sizes}),
        "table": facts_of(table, points, [f"{' and '.join(not_replaced)} of the space"] if not_replaced else []),
    }  # fmt: skip
    write_analysis(run.folder, {"truth": result})
    return result


def _joint_ranks(
    run: Opened, architectures: Sequence[Architecture], values: Sequence[float], watch: Watch
) -> list[float] | None:
    """The joint rank of each architecture, as the run's search ranks; None if scores alone rank."""
    if not run.config.search.parts:
        return None
    ranking = read_ranking(run.folder.candidates)
    if ranking is None:
        log.warning("the plain scores are judged: search.rank joins parts by a sample, which the search draws first")
        return None
    loaded = load_run(run)
    runtime = start_run(run).alone()
    measuring = measuring_of(loaded.config, loaded.data, runtime)
    rows = figures_of(architectures, cost_table(loaded.space), loaded.config.search, measuring)
    measured = counted(rows, len(values), "architectures measured", watch)
    return [ranking.joint({"score": value, **figures}) for value, figures in zip(values, measured, strict=True)]


def _scored(run: Opened, architectures: Sequence[Architecture], watch: Watch) -> list[dict[str, str]]:
    """The rows of the file with the scores of these architectures, which is made or continued."""
    parsed = [(str(architecture), architecture) for architecture in architectures]
    digest = hashlib.sha256("\n".join(text for text, _ in parsed).encode()).hexdigest()[:10]
    score_architectures(run, parsed, run.folder.truth(digest), watch)
    with run.folder.truth(digest).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
