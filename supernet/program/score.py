"""`supernet score` and `supernet top`: scores of architectures that are named, and the best of the table."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.base.csv_file import read_lines
from supernet.base.files import read_json, sha256, write_text
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import derive, stream
from supernet.data.splits import Data, prepare, some_of
from supernet.data.task import loss_of, metric_of
from supernet.program.config import Config
from supernet.program.folder import Opened, RunError, require, task_of
from supernet.program.load import load_one_shot, load_run, space_of_run
from supernet.program.machine import start_run
from supernet.program.predictions import with_predictions
from supernet.search.limits import LimitsConfig
from supernet.search.measures import examples_of
from supernet.search.orders import Candidate, best, pareto, within
from supernet.search.recording import Measuring
from supernet.search.scoring import (
    UNLABELLED,
    Evaluation,
    closeness,
    divergence,
    reference_outputs,
    references,
    values_of,
)
from supernet.search.table import read_best, read_candidates, read_failures, records, write_records
from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.cost import cost_table
from supernet.space.layers import OneShot
from supernet.speed.runtime import Runtime

log = logging.getLogger(__name__)


def evaluation_of(model: OneShot, config: Config, data: Data, runtime: Runtime) -> Evaluation:
    """How candidates of a run are evaluated, as its `search.score` says.

    For the score 'kl' the targets are the outputs of the reference architectures.

    Args:
        model: the one-shot model, on the device.
    """
    search = config.search
    if search.score == "none":
        raise RunError("search.score none: nothing is scored with a one-shot model; set search.score to metric or loss")
    if search.score != "kl":
        task = config.task if search.score == "metric" else dataclasses.replace(config.task, metric="loss")
        examples, targets = prepare(data.validation, data, device=runtime.device, examples=search.examples)
        loss, metric = loss_of(task), metric_of(task)
    else:
        split = some_of(data.train, search.examples or UNLABELLED, generator=stream(config.seed, "unlabelled"))
        examples, _ = prepare(split, data, device=runtime.device)
        drawn = references(model.space, search.references, generator=stream(config.seed, "references"))
        targets = reference_outputs(model, examples, drawn, runtime=runtime, ghost_size=search.ghost_size)
        loss, metric = divergence, closeness
    return Evaluation(
        model=model, examples=examples, targets=targets, runtime=runtime, loss=loss, metric=metric,
        ghost_size=search.ghost_size, ghosts_per_forward=search.ghosts_per_forward,
    )  # fmt: skip


def measuring_of(config: Config, data: Data, runtime: Runtime, seed: int | None = None) -> Measuring:
    """How untrained networks of a run are measured: all on the same training examples, with the same seed."""
    seed = config.seed if seed is None else seed
    examples = examples_of(data, seed=seed, device=runtime.device)
    return Measuring(examples, derive(seed, "measures"), runtime)


def score_file(run: Opened, architectures: Path, out: Path, watch: Watch) -> int:
    """Scores architectures of a text file, one a line, in that order, into a CSV file; see `score_architectures`.

    Raises:
        ArchitectureError: a line is no architecture of the run's space; the message names the line.
    """
    if run.config.search.parts:
        log.info("these are plain scores: search.rank joins other parts to those of a search's candidates")
    return score_architectures(run, _parse_lines(architectures, space_of_run(run)), out, watch)


def score_architectures(run: Opened, parsed: Sequence[tuple[str, Architecture]], out: Path, watch: Watch) -> int:
    """Scores architectures, each with its text, in that order, into a CSV file.

    Rows that the file holds already are kept and not scored again.

    Returns:
        The number of architectures scored.

    Raises:
        RunError: the CSV file is of other architectures, or of another one-shot model.
    """
    loaded = load_run(run)
    model, config, data = load_one_shot(loaded), loaded.config, loaded.data
    runtime = start_run(run)
    if runtime.rank > 0:
        return 0
    runtime = runtime.alone()
    model_id = _id_of_scores(run, data)
    rows = _earlier_rows(out, [text for text, _ in parsed], model_id)
    waiting = parsed[len(rows) :]
    runtime.place(model)
    picked = [architecture for _, architecture in waiting]
    scores = values_of(evaluation_of(model, config, data, runtime), picked)
    table = cost_table(model.space)
    costs, bonuses = table.costs(picked).tolist(), (config.search.size_bonus * table.doublings(picked)).tolist()

    def save() -> None:
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows([_HEADER, *rows])
        write_text(out, buffer.getvalue())

    save()  # a place that cannot be written shows before the work
    saved = time.monotonic()
    try:
        for (text, _), (value, loss), sums, bonus in zip(waiting, scores, costs, bonuses, strict=True):
            rows.append([text, repr(value), repr(loss), *sums, repr(bonus), model_id])
            watch.progress(len(rows), len(parsed), value=value)
            if watch.stop():
                raise Interrupted(f"stopped after {len(rows)} of {len(parsed)} architectures")
            if time.monotonic() - saved > _SAVE_SECONDS:
                save()
                saved = time.monotonic()
    finally:
        save()
    return len(waiting)


def _parse_lines(path: Path, space: Space) -> list[tuple[str, Architecture]]:
    """The architectures of a text file with their texts; empty lines and comments after # are left out."""
    parsed = []
    for number, text in enumerate(read_lines(path)[0], start=1):
        if text.strip() and not text.lstrip().startswith("#"):
            try:
                parsed.append((text.strip(), space.parse(text)))
            except ArchitectureError as error:
                raise ArchitectureError(f"{path}, line {number}: {error}") from None
    if not parsed:
        raise ValueError(f"{path}: expected one architecture a line, and there is none")
    return parsed


def _id_of_scores(run: Opened, data: Data) -> str:
    """Of all that scores depend on besides the architecture: a file of another run is not taken for this one's."""
    search = run.config.search
    facts: tuple[Any, ...] = (
        sha256(require(run.folder, "train")), data.hashes["validation"], search.examples, search.ghost_size,
        search.size_bonus,
    )  # fmt: skip
    if search.score == "loss":
        facts = (*facts, search.score)
    if search.score == "kl":
        facts = (*facts, search.score, search.references, run.config.seed)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:10]


def _earlier_rows(out: Path, texts: Sequence[str], model_id: str) -> list[list[Any]]:
    """The rows that a file of scores holds already."""
    if not out.exists():
        return []
    with out.open(newline="", encoding="utf-8", errors="replace") as file:
        columns, *rows = list(csv.reader(file)) or [[]]
    if columns != _HEADER or [row[:1] for row in rows] != [[text] for text in texts[: len(rows)]]:
        raise RunError(f"{out} holds the scores of other architectures: choose another file or delete it")
    if any(row[-1] != model_id for row in rows):
        raise RunError(f"{out} holds the scores of another one-shot model: choose another file or delete it")
    return rows


_HEADER = ["architecture", "value", "loss", "params", "params_without_norm", "macs", "bonus", "model"]

_SAVE_SECONDS = 5.0
"""Scores of a file of architectures are saved this often."""


def _with_errors(rows: list[dict[str, Any]], failures: Mapping[str, str]) -> list[dict[str, Any]]:
    """Records of candidates, in which those that could not be scored have their error in place of a value."""
    return [
        {**row, "value": None, "deviation": None, "error": failures[row["architecture"]]}
        if row["architecture"] in failures
        else row
        for row in rows
    ]


def top_candidates(
    run: Opened, number: int, limits: LimitsConfig, in_bands: int, objectives: str | None, out: Path | None
) -> dict[str, Any]:
    """The best candidates of a search, also of one that is under way.

    Args:
        run: it.
        number: how many, of each band.
        limits: within which they have to be.
        in_bands: bands of size.
        objectives: with commas; then the whole Pareto front is returned, whatever `number`.
        out: a CSV or parquet file for all candidates within the limits.

    Returns:
        `metric`, `score`, `of` (how many are within the limits), `bands` (lists of records), for a front `objectives`
        and `hypervolume`, after `supernet refine` what is `refined`, and if some candidates of the table could not be
        scored `failed`: why, by their texts. A record of such a candidate has its `error` and no value.

    Raises:
        RunError: there are no candidates yet.
        ValueError: no candidate is within the limits, or an objective is unknown or was not measured.
    """
    folder, config = run.folder, run.config
    table = folder.candidates
    if not table.exists():
        raise RunError(f"{table} is not there: run `supernet search {folder}` first")
    is_refined = folder.predictions.exists()
    inside: list[Candidate] = []
    if is_refined or objectives is not None or out is not None:
        inside = within(with_predictions(folder, read_candidates(table, None)), limits.bounds())
    if is_refined:
        bands, count = best(inside, number, in_bands), len(inside)
    else:
        bands, count = read_best(table, number, in_bands, limits.bounds())
    if not count:
        raise RunError(f"{table} holds no candidate yet: run `supernet search {folder}` first")
    result: dict[str, Any] = {"metric": task_of(run).metric, "score": config.search.ranked_by, "of": count}
    failures = read_failures(table)
    if failures:
        result["failed"] = failures
    if objectives is None:
        result["bands"] = [_with_errors(records(band), failures) for band in bands]
    else:
        sought = dataclasses.replace(config.search, objectives=objectives, strategy="random", strategy_settings={})
        points, volume = pareto(inside, sought.sought)
        result |= {"bands": [records(points)], "objectives": list(sought.sought), "hypervolume": volume}
    if is_refined:
        result["refined"] = read_json(folder.refinement)
    if out is not None:
        write_records(out, inside)
        result["out"] = str(out)
    return result
