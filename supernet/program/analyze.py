"""`supernet analyze` on a run folder: trains networks, and writes `analysis.json`.

The parts are in `supernet.trust.probes` and `supernet.trust.correlation`; this file reads and writes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import nn

from supernet.base.files import read_json, read_records, read_weights, write_json, write_weights
from supernet.base.progress import Watch, counted
from supernet.base.randomness import derive, stream
from supernet.base.trees import form_text
from supernet.data.splits import Data
from supernet.program.config import Config, at_size, retrained_space
from supernet.program.folder import RunError, add_seconds, is_done, record_environment, require
from supernet.program.load import Loaded, lessons_of, load_one_shot
from supernet.program.paths import RunFolder
from supernet.program.score import evaluation_of, measuring_of
from supernet.program.study import finalists_left
from supernet.program.train import train_one_shot
from supernet.program.trial import gives_classes, outputs_of_two
from supernet.retrain.results import group_table, longest_first
from supernet.retrain.trainings import RetrainConfig, failures_in, failures_text, retrain
from supernet.search.measures import measures_of
from supernet.search.orders import Candidate
from supernet.search.ranking import Ranking
from supernet.search.scoring import values_of
from supernet.search.table import read_candidates, read_ranking, read_right
from supernet.space.choices import Architecture, Space
from supernet.space.cost import cost_table
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.speed.runtime import Runtime
from supernet.train.fit import remove_checkpoints
from supernet.trust.correlation import agreement, best_of, rank_correlation, trust, what_parts_add
from supernet.trust.noise import score_noise
from supernet.trust.probes import TrainingFacts, bucket_width, diagnose, differences, option_worth, strata
from supernet.trust.ranks import Population
from supernet.trust.tables import heats_text

log = logging.getLogger(__name__)

_SHOWN = 2000
"""Candidates whose scores and sizes are kept for the report, drawn at random."""

_COURSE = 6
"""Architectures whose divergence is followed during training (paper, Fig 7)."""


_LAST = -1e9
"""A measure of a network through which nothing passes: less than any other."""

_WORTH_ON = 512
"""Validation examples on which options are removed."""


def analyze_step(
    run: Loaded,
    runtime: Runtime,
    watch: Watch,
    rates: Sequence[float] = (),
    at: Mapping[str, Sequence[Any]] | None = None,
) -> dict[str, Any]:
    """Analyses the ranking of a run whose candidates are scored. What is trained already is not trained again.

    Args:
        run: it.
        runtime: device and precision.
        watch: progress and stop.
        rates: constant dropout rates; for each a one-shot model is trained, to compare how well it ranks (Fig 4).
        at: values of settings of the space, by the setting's name; at each the finalists are trained from scratch
            (Table 1).

    Returns:
        What `analysis.json` holds. Rates and sizes of earlier calls stay in it.

    Raises:
        RunError: the search is not done.
        ConfigError: `at` names a setting that the space does not have, or that changes its choices.
        Interrupted: asked to stop; the same call continues.
    """
    require(run.folder, "search")
    began = monotonic()
    try:
        return _analyzed(run, runtime, watch, rates, at or {})
    finally:  # also of an analysis that was interrupted: the next try adds to it
        add_seconds(run.folder, "analyze", monotonic() - began)


def _analyzed(
    run: Loaded, runtime: Runtime, watch: Watch, rates: Sequence[float], at: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """What `analyze_step` does, with its arguments."""
    folder, config, data = run.folder, run.config, run.data
    before = known_so_far(folder)
    space, is_scored = run.space, config.search.score != "none"
    model = load_one_shot(run) if is_scored else build(space, seed=derive(config.seed, "weights"))
    sizes = [
        (name, value, at_size("--at", name, value, space, config, len(data.classes), data.inputs))
        for name, values in at.items()
        for value in values
    ]
    record_environment(folder, "analyze", runtime.tuning)
    outputs = outputs_of_two(model, data)
    has_divergence = bool(data.classes) and gives_classes(outputs) and is_scored
    if not is_scored:
        log.info("analyze: without divergence, worth of options and diagnosis, which need a trained one-shot model")
    elif not has_divergence:
        log.info("analyze: without the divergence, which is between classes [N, classes]; the network gives %s for "
                 "targets %s", form_text(outputs), form_text(data.train.targets))  # fmt: skip
    runtime.place(model)
    subject = Subject(model, config, data, runtime, watch, has_divergence)
    result = _ranking(run, subject, watch)
    points = result["points"]
    write_analysis(folder, result)  # what is long to train comes after it
    swept = [_sweep(rate, points, _means(points), subject, folder, watch) for rate in rates]
    result["sweep"] = _joined(before.get("sweep", []), swept, lambda row: row["rate"])
    result["best_rate"] = _best_rate(result["sweep"], _means(points))
    write_analysis(folder, result)
    resized_rows = [_at(name, value, size, subject, folder, watch) for name, value, size in sizes]
    result["at"] = _joined(before.get("at", []), resized_rows, lambda row: (row["setting"], str(row["value"])))
    return write_analysis(folder, result)


def _ranking(run: Loaded, subject: Subject, watch: Watch) -> dict[str, Any]:
    """What the ranking is worth, from networks that are drawn evenly over the score and trained from scratch."""
    folder, config, space, settings = run.folder, run.config, run.space, run.config.analysis
    candidates = read_candidates(folder.candidates, space)
    is_joint = bool(config.search.parts)
    of_accuracies = config.search.score == "metric" and config.task.metric == "accuracy"
    are_accuracies = of_accuracies and not is_joint
    scored = np.array([c.score for c in candidates])
    bucket = bucket_width(scored, settings.bucket, are_accuracies=are_accuracies)
    places = strata(scored, bucket, settings.per_bucket, generator=stream(config.seed, "analysis"))
    drawn = [candidates[place] for place in places]
    points = _points(drawn, space, subject, folder, watch)
    measures = {name: [p["measures"][name] for p in points] for name in points[0]["measures"]} if points else {}
    # Buckets are those of the score in the table, which a race may have taken on fewer examples.
    population = Population.of([c.score for c in drawn], scored, bucket)
    right = read_right(folder.candidates, _SHOWN) if are_accuracies else np.zeros((0, 0), bool)
    scores = [p["score"] for p in points]
    if is_joint:
        log.info("analyze: without the worth of options, which is one of plain scores")
    return {
        "metric": config.task.metric,
        "score": config.search.ranked_by,
        "bucket": bucket,
        "points": points,
        "trust": trust(
            scores, [p["accuracies"] for p in points],
            {name: [p[name] for p in points] for name in ("params", "macs")},
            untrained=[p["untrained"] for p in points], measures=measures, population=population,
            noise=score_noise(right) if len(right) >= 2 else None,
        ),
        "parts": _parts(points, population),
        "divergence": _divergence(points, scores, _means(points), subject, folder),
        "candidates": _candidates(candidates, config),
        "options": [] if is_joint else option_worth(
            space,
            [candidates[i].architecture for i in _some(len(candidates), settings.removals, config, "removals")],
            lambda some: scores_of(
                subject, some, "architectures with an option less",
                examples=min(config.search.examples or _WORTH_ON, _WORTH_ON),
            ),
            generator=stream(config.seed, "worth"),
        ),
        "groups": _groups(folder),
        "diagnosis": _diagnosis(folder, candidates, subject) if of_accuracies else [],
    }  # fmt: skip


def _points(
    drawn: Sequence[Candidate], space: Space, subject: Subject, folder: RunFolder, watch: Watch
) -> list[dict[str, Any]]:
    """Candidates with their scores, by the trained and by an untrained one-shot model, and stand-alone accuracies."""
    settings = subject.config.analysis
    architectures = [c.architecture for c in drawn]
    short = RetrainConfig(train=settings.train, repeats=settings.repeats)
    accuracies = _stand_alone(space, architectures, short, subject, folder.analysed_networks, watch)
    untrained = _of(subject, build(space, seed=derive(subject.config.seed, "weights")))
    is_scored = subject.config.search.score != "none"
    columns = zip(
        drawn, scores_of(subject, architectures) if is_scored else [math.nan] * len(drawn),
        divergences_of(subject, architectures),
        scores_of(
            untrained, architectures, "networks scored without training", **({} if is_scored else {"score": "metric"})
        ),
        accuracies, _measures(drawn, subject), strict=True,
    )  # fmt: skip
    ranking = read_ranking(folder.candidates)
    return [
        {
            "id": c.architecture.id, "architecture": str(c.architecture), "params": c.params, "macs": c.macs,
            **_ranked(replace(c, value=value), ranking), "divergence": far, "untrained": without_training,
            "accuracies": values, "measures": measures,
        }
        for c, value, far, without_training, values, measures in columns
    ]  # fmt: skip


def _ranked(candidate: Candidate, ranking: Ranking | None) -> dict[str, Any]:
    """The score of a candidate; where that is a joint rank, also the rank without each of several parts."""
    if ranking is None:
        return {"score": candidate.value + candidate.bonus}
    parts = candidate.parts
    without = {name: ranking.joint(parts, name) for name in ranking.weights} if len(ranking.weights) > 1 else {}
    return {"score": ranking.joint(parts), "without": without}


def _parts(points: Sequence[Mapping[str, Any]], population: Population) -> dict[str, Any] | None:
    """What each part of a joint rank adds; None without one."""
    if not points or not points[0].get("without"):
        return None
    without = {name: [p["without"][name] for p in points] for name in points[0]["without"]}
    return what_parts_add([p["score"] for p in points], without, _means(points), population)


def _measures(drawn: Sequence[Candidate], subject: Subject) -> list[dict[str, float]]:
    """The measures of each candidate's untrained network that apply to the space; the log says which do not."""
    measuring = measuring_of(subject.config, subject.data, subject.runtime)
    columns: dict[str, list[float]] = {}
    for names in (("jacov", "nwot"), ("jacov",), ("nwot",), ("synflow", "layers", "longest_path")):
        if set(names) <= set(columns):
            continue
        try:
            measured = measures_of(
                subject.model.space, [c.architecture for c in drawn], measuring.examples, names,
                seed=measuring.seed, runtime=measuring.runtime,
            )  # fmt: skip
            rows = list(counted(measured, len(drawn), "untrained networks measured", subject.watch))
        except ValueError as error:
            if len(names) != 2:
                log.info("analyze: without %s as a floor of the verdict (%s)", " and ".join(names), error)
            continue
        columns |= {name: [_number(row[name]) for row in rows] for name in names}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(drawn))]


def _number(value: float) -> float:
    """The value; one that JSON has in place of minus infinity, which ranks last."""
    return max(value, _LAST)


def _means(points: Sequence[Mapping[str, Any]]) -> list[float]:
    """The mean accuracy of each network over its repeats."""
    return [float(np.mean(p["accuracies"])) for p in points]


def _joined(
    before: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], key: Callable[[dict[str, Any]], Any]
) -> list[dict[str, Any]]:
    """Rows of an earlier call and of this one, of which each replaces the one with the same key."""
    return list({key(row): row for row in (*before, *rows)}.values())


def write_analysis(folder: RunFolder, result: dict[str, Any]) -> dict[str, Any]:
    """Puts results into `analysis.json`, beside what another way of analysing has put there; returns all of it."""
    analysis = {**known_so_far(folder), **result}
    write_json(folder.analysis, analysis, digest=True)
    return analysis


def known_so_far(folder: RunFolder) -> dict[str, Any]:
    """What `analysis.json` holds already."""
    return read_json(folder.analysis) if folder.analysis.exists() else {}


@dataclass(frozen=True)
class Subject:
    """What all parts of an analysis need.

    Attributes:
        model: the run's one-shot model, on the device.
        config, data, runtime: of the run.
        watch: progress and stop.
        has_divergence: whether outputs are those of a classifier, between which there is a divergence.
    """

    model: OneShot
    config: Config
    data: Data
    runtime: Runtime
    watch: Watch
    has_divergence: bool = True


def _of(subject: Subject, model: nn.Module) -> Subject:
    """The same with another one-shot model of the space."""
    assert isinstance(model, OneShot)
    subject.runtime.place(model)
    return replace(subject, model=model)


def _judge(
    subject: Subject, architectures: Sequence[Architecture], unit: str, **search: Any
) -> list[tuple[float, float]]:
    """Metric and loss by the rule of the run's search, with some of its settings changed.

    Args:
        unit: what is counted in the progress.
    """
    config = replace(subject.config, search=replace(subject.config.search, **search))
    values = values_of(evaluation_of(subject.model, config, subject.data, subject.runtime), architectures)
    return list(counted(values, len(architectures), unit, subject.watch))


def scores_of(
    subject: Subject, architectures: Sequence[Architecture], unit: str = "networks scored", **search: Any
) -> list[float]:
    """Scores by the rule of the run's search, with some of its settings changed."""
    return [value for value, _ in _judge(subject, architectures, unit, **search)]


def divergences_of(subject: Subject, architectures: Sequence[Architecture]) -> list[float | None]:
    """In nats; None for each if targets or outputs are not classes, [N, classes]."""
    if not subject.has_divergence:
        return [None] * len(architectures)
    unit = "networks compared with references"
    return [far for _, far in _judge(subject, architectures, unit, score="kl", examples=None)]


def _stand_alone(
    space: Space, architectures: Sequence[Architecture], how: RetrainConfig, subject: Subject, place: Path, watch: Watch
) -> list[list[float]]:
    """Validation accuracies (or other metric) of each repeat of a training on the training split."""
    config, runtime = subject.config, subject.runtime
    lessons = lessons_of(config, subject.data, how.train, runtime.device)
    retrain(space, architectures, lessons, how, runtime=runtime, seed=config.seed, folder=place, watch=watch)
    if failures_in(place):  # without them what is left would not be drawn evenly
        raise RunError(f"{failures_text(place)}: the same command tries them again")
    return [
        [read_json(place / a.id / str(repeat) / "result.json")["validation"] for repeat in range(how.repeats)]
        for a in architectures
    ]


def _at(name: str, value: Any, space: Space, subject: Subject, folder: RunFolder, watch: Watch) -> dict[str, Any]:
    """The groups of finalists at another size (Table 1), from scratch by the run's `retrain`; never on the test split.

    At the size that `retrain` took, its own trainings are the same ones.
    """
    config, data = subject.config, subject.data
    require(folder, "search")
    groups = finalists_left(folder, subject.model.space)
    if config.retrain.heats and not folder.kept.exists():
        log.info("Top is as the search drew it, before the heats of `supernet retrain`")
    costs = cost_table(space)
    architectures = longest_first(groups, costs)
    ours = retrained_space(config, data.classes, data.inputs)
    is_same = ours.settings == space.settings and config.retrain.splits == "train" and is_done(folder, "retrain")
    place = folder.retrain if is_same else folder.analysed_size(name, value)
    validations = _stand_alone(space, architectures, replace(config.retrain, splits="train"), subject, place, watch)
    networks = [
        {"id": a.id, "architecture": str(a), **asdict(costs.cost(a)), "validation": accuracies}
        for a, accuracies in zip(architectures, validations, strict=True)
    ]
    mean = {row["id"]: float(np.mean(row["validation"])) for row in networks}
    return {
        "setting": name,
        "value": value,
        "folder": str(place.relative_to(folder.path)),
        "groups": group_table(groups, networks),
        "networks": networks,
        "differences": differences({group: [mean[a.id] for a in members] for group, members in groups.items()}),
    }


def _divergence(
    points: Sequence[dict[str, Any]], scores: list[float], mean: list[float], subject: Subject, folder: RunFolder
) -> dict[str, Any] | None:
    """How the divergence goes with score and accuracy (Fig 6), and its course during training (Fig 7)."""
    far = [p["divergence"] for p in points]
    if any(value is None for value in far):
        return None
    ranked = sorted(range(len(points)), key=lambda i: scores[i])
    chosen = [ranked[i] for i in sorted({round(i) for i in np.linspace(0, len(ranked) - 1, _COURSE)})]
    followed = [subject.model.space.parse(points[i]["architecture"]) for i in chosen]
    course = []
    for file in sorted(folder.snapshots.glob("*.safetensors"), key=lambda path: int(path.stem)):
        model = build(subject.model.space, seed=0)
        read_weights(file, model)
        course.append({"step": int(file.stem), "divergence": divergences_of(_of(subject, model), followed)})
    return {
        "with_score": agreement(far, scores),
        "with_accuracy": agreement(far, mean),
        "followed": [points[i]["id"] for i in chosen],
        "course": course,
    }


def _sweep(
    rate: float, points: Sequence[dict[str, Any]], mean: list[float], subject: Subject, folder: RunFolder, watch: Watch
) -> dict[str, Any]:
    """How well a one-shot model ranks that was trained at a constant dropout rate (Fig 4)."""
    config, space, steps = subject.config, subject.model.space, subject.config.analysis.sweep_steps
    paths = replace(config.paths, distribution="dropout", schedule="constant", rate=rate)
    config = replace(config, paths=paths, train=config.train if steps is None else replace(config.train, steps=steps))
    weights = folder.swept(rate, steps)
    if weights.exists():
        trained = build(space, seed=0)
        read_weights(weights, trained)
    else:
        trained, _ = train_one_shot(config, space, subject.data, weights.parent, subject.runtime, watch)
        write_weights(weights, trained)
        remove_checkpoints(weights.parent)
    scores = scores_of(_of(subject, trained), [space.parse(p["architecture"]) for p in points])
    steps = config.train.total_steps(len(subject.data.train))
    return {"rate": rate, "steps": steps, "scores": scores, "agreement": agreement(scores, mean)}


def _best_rate(sweep: Sequence[Mapping[str, Any]], mean: list[float]) -> dict[str, Any] | None:
    """The rate of the best ranking, and the rates that cannot be told from it; see `best_of`.

    Rates of earlier calls, on another number of networks, are left out.
    """
    return best_of({row["rate"]: row["scores"] for row in sweep if len(row["scores"]) == len(mean)}, mean)


def _some(number: int, most: int, config: Config, what: str) -> list[int]:
    """Indices drawn at random, in order."""
    drawn = torch.randperm(number, generator=stream(config.seed, what))[:most]
    return sorted(int(i) for i in drawn)


def _candidates(candidates: Sequence[Candidate], config: Config) -> dict[str, Any]:
    """Scores and sizes of candidates, for the report, and whether the score likes large ones (section 4.3)."""
    shown = [candidates[i] for i in _some(len(candidates), _SHOWN, config, "shown")]
    columns = {name: [getattr(c, name) for c in shown] for name in ("value", "params", "macs", "examples")}
    if config.search.parts:
        columns["value"] = [c.score for c in shown]
    bias = {name: rank_correlation(columns[name], columns["value"]) for name in ("params", "macs")}
    return {"number": len(candidates), **columns, "size_bias": bias}


def _groups(folder: RunFolder) -> dict[str, Any] | None:
    """The groups of finalists and whether they differ (Table 1); None before `retrain` is done."""
    if not folder.results.exists():
        return None
    results = read_json(folder.results, ("groups", "networks"))
    tests = {row["id"]: float(np.mean(row["test"])) for row in results["networks"] if row["test"]}
    groups = {
        name: [tests[member] for member in group["members"] if member in tests]
        for name, group in results["groups"].items()
    }
    note = heats_text(results)
    return {"test": groups, "differences": differences(groups), **({"note": note} if note else {})}


def _diagnosis(folder: RunFolder, candidates: Sequence[Candidate], subject: Subject) -> list[dict[str, Any]]:
    (full,) = scores_of(subject, [subject.model.space.everything_on()])
    return diagnose(
        TrainingFacts(
            scores=np.array([c.value for c in candidates]),
            everything_on=full,
            chance=1 / max(2, len(subject.data.classes)),
            examples=min(c.examples for c in candidates),
            sizes=np.array([c.params for c in candidates], float),
            ghosts=subject.config.train.batch_size // subject.config.train.ghost_size,
            losses=[row["loss"] for row in read_records(folder.history)] if folder.history.exists() else [],
        )
    )
