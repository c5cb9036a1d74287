"""`supernet refine`: trains candidates in rounds, learns from all trainings of the run, and ranks its candidates anew.

The predictor is `supernet.search.predictor`; this file reads and writes. The test split stays closed.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from supernet.base.extras import extra
from supernet.base.files import read_json, record_digest, write_json
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.program.calibrate import measure_trainings
from supernet.program.folder import RunError, add_seconds, record_environment, require, set_aside
from supernet.program.load import Loaded, load_one_shot
from supernet.program.paths import RunFolder
from supernet.program.plan import duration, makespan
from supernet.program.predictions import with_predictions, write_predictions
from supernet.program.retrain import train_candidates
from supernet.program.score import evaluation_of
from supernet.program.search import members_of
from supernet.search.finalists import finalists, in_order, to_json
from supernet.search.orders import Candidate, standing
from supernet.search.predictor import Features, Labels, Prediction, choose, features, learn
from supernet.search.recording import score_into
from supernet.search.table import read_candidates
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.speed.runtime import Runtime

log = logging.getLogger(__name__)

_ROUND = 16
"""Candidates that are trained before the ranking is learnt again (ours)."""

_TRAININGS = 32
"""Trainings if neither their number nor a time is told (ours)."""

_MEASURING = 2.0
"""Seconds that measuring takes about."""

_MEASURED = 4
"""Trainings that are measured."""

_REPEATED = 4
"""Networks that were trained at least twice, for their noise to be that of a training."""


def refine_step(
    run: Loaded, trainings: int | None, hours: float | None, runtime: Runtime, watch: Watch
) -> dict[str, Any]:
    """Trains candidates from scratch, round by round, and ranks all candidates by what was learnt from all trainings.

    Args:
        run: its candidates are scored.
        trainings: the most trainings of all calls together; 32 if there is no time either (ours).
        hours: time for the trainings of this call, in place of their number.
        runtime: device and precision.
        watch: progress and stop.

    Returns:
        What `refine.json` holds: `is_used` (whether the new ranking is better and therefore used), `trained` networks,
        `tau` and `plain_tau` over those that were left out, `noise`, `promise` and `is_enough`; see
        `supernet.search.predictor.Prediction`. `trainings` by their steps, and what became of the `finalists`.

    Raises:
        RunError: the search is not done, or trainings have no validation accuracy.
        ValueError: both trainings and hours are there, or they are below 0.
        Interrupted: asked to stop; the same call continues.
    """
    if trainings is not None and (hours is not None or trainings < 0):
        raise ValueError("refine: expected either trainings, a number from 0, or hours")
    _check(run)
    began = time.monotonic()
    try:
        return _rounds(run, _TRAININGS if trainings is None and hours is None else trainings, hours, runtime, watch)
    finally:
        add_seconds(run.folder, "refine", time.monotonic() - began)


def _rounds(run: Loaded, trainings: int | None, hours: float | None, runtime: Runtime, watch: Watch) -> dict[str, Any]:
    """Rounds of choosing, training and learning, and the ranking after the last one."""
    folder = run.folder
    record_environment(folder, "refine", runtime.tuning)
    candidates = read_candidates(folder.candidates, run.space)
    by_text = {str(c.architecture): c for c in candidates}
    rounds: list[list[str]] = (
        read_json(folder.refine_rounds, ("rounds",))["rounds"] if folder.refine_rounds.exists() else []
    )
    number = _number(run, [by_text[text] for texts in rounds for text in texts], candidates, trainings, hours, runtime)
    inputs = _features_of(candidates, run.space)
    while True:
        picked = [by_text[text] for texts in rounds for text in texts]
        if picked:
            train_candidates(
                run, picked, candidates, 1, runtime, _of_all(watch, max(number, len(picked)) * _steps(run))
            )
        learnt_from = _trainings_of_run(run, candidates)
        prediction = learn(inputs, learnt_from.levels, noise=learnt_from.noise, is_short=learnt_from.is_short)
        left = number - len(picked)
        is_enough = prediction is not None and prediction.is_enough
        chosen = [] if is_enough else choose(inputs, learnt_from.places, min(_ROUND, max(0, left)), prediction)
        if not chosen:
            return _written(run, candidates, learnt_from, prediction, len(picked), runtime, watch)
        rounds.append([str(candidates[place].architecture) for place in chosen])
        write_json(
            folder.refine_rounds, {"rounds": rounds}, digest=True
        )  # before they are trained: a killed call goes on with the same


def _check(run: Loaded) -> None:
    """Whether candidates can be trained and learnt from."""
    folder, config = run.folder, run.config
    require(folder, "search")
    extra("sklearn", "refine", "supernet refine")
    if config.retrain.splits != "train":
        raise RunError(
            "refine: expected retrain.splits train, so that trainings have a validation accuracy to learn from; got "
            f"{config.retrain.splits}"
        )


def _features_of(candidates: Sequence[Candidate], space: Space) -> Features:
    """What is known of candidates without trainings: their order, value, sizes, measures, and what they pick."""
    architectures = [c.architecture for c in candidates]
    lean = architectures if space.simplified is None else [space.simplified(a) for a in architectures]
    place = {id(c): number for number, c in enumerate(sorted(candidates, key=standing))}
    names = sorted({name for c in candidates for name, _ in c.measures})
    measures = [[dict(c.measures).get(name, np.nan) for name in names] for c in candidates]
    others = np.array([[c.value, c.params, *row] for c, row in zip(candidates, measures, strict=True)], float).T
    return features(
        [-place[id(c)] for c in candidates], cost_table(space).doublings(architectures), list(others),
        space.live(lean).numpy(),
    )  # fmt: skip


# ---- how many ----


def _steps(run: Loaded) -> int:
    """Steps of one training."""
    return run.config.retrain.train.total_steps(len(run.data.train))


def _number(
    run: Loaded,
    picked: Sequence[Candidate],
    candidates: Sequence[Candidate],
    trainings: int | None,
    hours: float | None,
    runtime: Runtime,
) -> int:
    """How many trainings there are to be in all; the log says what follows, and how long it takes.

    Args:
        run, trainings, hours, runtime: as for `refine_step`.
        picked: candidates of earlier rounds, whose trainings may be under way.
        candidates: all of the run.
    """
    begun = sum(not _is_trained(run.folder, c) for c in picked)
    if trainings is not None and len(picked) >= trainings and not begun:
        return len(picked)
    start = time.monotonic()
    order = sorted(candidates, key=lambda c: c.macs)
    some = [order[(2 * i + 1) * len(order) // (2 * _MEASURED)].architecture for i in range(_MEASURED)]
    config = replace(run.config, search=replace(run.config.search, all_on=False))
    speeds, steps = measure_trainings(config, run.data, some, runtime, _MEASURING), _steps(run)

    def seconds(number: int) -> float:
        whole, last = divmod(number, _ROUND)
        in_round = makespan(speeds, _ROUND, 0) if whole else 0.0
        return steps * (whole * in_round + (makespan(speeds, last, 0) if last else 0.0))

    most = len(candidates) - len(picked) + begun
    if trainings is not None:
        number = min(most, max(0, trainings - len(picked)) + begun)
    else:
        time_left = 3600 * (hours or 0.0) - (time.monotonic() - start)
        number = next(n for n in range(most + 1) if n == most or seconds(n + 1) > time_left)
        if number == 0:
            raise RunError(
                f"--hours {hours:g} is too short: a training of {steps:,} steps takes {duration(seconds(1))}"
            )
    log.info("refine: %d trainings of %s steps in rounds of %d, about %s",
             number, f"{steps:,}", _ROUND, duration(seconds(number)))  # fmt: skip
    return len(picked) - begun + number


def _is_trained(folder: RunFolder, candidate: Candidate) -> bool:
    return (folder.retrain / candidate.architecture.id / "0" / "result.json").exists()


def _of_all(watch: Watch, total: int) -> Watch:
    """Progress in steps of all rounds."""

    def progress(done: int, of_these: int, **figures: float) -> None:
        watch.progress(done, total, **figures)

    return replace(watch, progress=progress)


# ---- what there is to learn from ----


@dataclass(frozen=True, slots=True)
class Trainings:
    """What there is to learn from.

    Attributes:
        levels: trainings by their length, the shortest first; places are those of the list of candidates.
        lengths: steps of each level, with the number of its trainings.
        is_short: whether none of them is as long as those of `retrain`.
        noise: standard deviation of a training; 0 if it is unknown.
        noise_from: what the noise follows from.
        digest: of all of these.
    """

    levels: list[Labels]
    lengths: dict[int, int]
    is_short: bool
    noise: float
    noise_from: str
    digest: str

    @property
    def places(self) -> list[int]:
        """The candidates that need no further training: those that were trained in full."""
        return [] if self.is_short or not self.levels else sorted(set(self.levels[-1].places.tolist()))


def _trainings_of_run(run: Loaded, candidates: Sequence[Candidate]) -> Trainings:
    """All trainings of candidates from scratch by the recipe of `retrain`, in full or in part, on its split.

    They are those of rounds, finalists and heats, and those of `supernet analyze` if its recipe differs in length only.
    """
    place = {str(c.architecture): number for number, c in enumerate(candidates)}
    values: dict[int, dict[tuple[str, int], float]] = {}  # a training in two folders counts once
    for path in _results(run):
        result = read_json(path)
        if result["architecture"] in place and result["validation"] is not None:
            of_length = values.setdefault(result["history"][-1]["step"], {})
            of_length[result["architecture"], result["seed"]] = result["validation"]
    rows = {steps: sorted(of_length.items()) for steps, of_length in sorted(values.items())}
    levels = [
        Labels(np.array([place[text] for (text, _), _ in row]), np.array([value for _, value in row]))
        for row in rows.values()
    ]
    noise, noise_from = _noise(run, levels[-1]) if levels else (0.0, "")
    return Trainings(
        levels=levels,
        lengths={steps: len(row) for steps, row in rows.items()},
        is_short=not levels or max(rows) < _steps(run),
        noise=noise,
        noise_from=noise_from,
        digest=hashlib.sha256(repr((rows, noise)).encode()).hexdigest()[:16],
    )


def _results(run: Loaded) -> Iterator[Path]:
    """The results of trainings that may be learnt from."""
    folder, config = run.folder, run.config
    yield from sorted(folder.retrain.glob("*/*/result.json"))
    yield from sorted(folder.heat(1).parent.glob("*/*/*/result.json"))
    of_analysis = sorted(folder.analysed_networks.glob("*/*/result.json"))
    recipe = config.retrain.train
    if not config.retrain.space and replace(config.analysis.train, epochs=recipe.epochs, steps=recipe.steps) == recipe:
        yield from of_analysis
    elif of_analysis:
        log.info("refine: without the trainings of `analyze`, whose recipe is not that of `retrain`")


def _noise(run: Loaded, labels: Labels) -> tuple[float, str]:
    """The standard deviation of one training, and what it follows from."""
    repeats = [labels.values[labels.places == place] for place in np.unique(labels.places)]
    repeats = [values for values in repeats if len(values) > 1]
    if len(repeats) >= _REPEATED:
        variance = sum(float(((v - v.mean()) ** 2).sum()) for v in repeats) / sum(len(v) - 1 for v in repeats)
        return math.sqrt(variance), "repeats of trainings"
    if run.config.task.metric == "accuracy":
        variance = float((labels.values * (1 - labels.values)).mean()) / len(run.data.validation)
        return math.sqrt(variance), "the number of validation examples"
    return 0.0, ""


# ---- the new ranking ----


def _written(
    run: Loaded,
    candidates: Sequence[Candidate],
    learnt_from: Trainings,
    prediction: Prediction | None,
    rounds: int,
    runtime: Runtime,
    watch: Watch,
) -> dict[str, Any]:
    """Writes what is predicted, the finalists by it, and `refine.json`, which it returns."""
    folder = run.folder
    if folder.refinement.exists() and read_json(folder.refinement)["digest"] == learnt_from.digest:
        return read_json(folder.refinement)  # finalists are scored again, so what is known changes a little
    is_used = prediction is not None and prediction.is_better
    if prediction is not None and is_used:
        write_predictions(folder.predictions, candidates, prediction)
    else:
        set_aside(folder.predictions)
    facts = {
        "is_used": is_used, "rounds": rounds, "trainings": learnt_from.lengths, "digest": learnt_from.digest,
        "is_short": learnt_from.is_short, "noise_from": learnt_from.noise_from, "metric": run.config.task.metric,
        "finalists": _new_finalists(run, with_predictions(folder, candidates), runtime, watch),
    }  # fmt: skip
    if prediction is not None:
        names = ("trained", "tau", "plain_tau", "noise", "promise", "unknown", "is_better", "is_enough")
        facts |= {name: getattr(prediction, name) for name in names}
    write_json(folder.refinement, facts, digest=True)
    return facts


def _new_finalists(run: Loaded, candidates: Sequence[Candidate], runtime: Runtime, watch: Watch) -> str:
    """Draws finalists by the new ranking, unless the test split was opened; Top are the first of it.

    Returns:
        What became of the finalists.
    """
    folder, config = run.folder, run.config
    if folder.test_opened.exists():
        return "as they were, since the test split was opened"
    if len(config.search.sought) > 1:
        return "as the search drew them, since they are of a front of several objectives"
    if not folder.searched_finalists.exists():
        write_json(folder.searched_finalists, read_json(folder.finalists), digest=True)
    if candidates[0].predicted is None:
        write_json(folder.finalists, read_json(folder.searched_finalists), digest=True)
        return "as the search drew them"
    settings = replace(config.search, top_of=config.search.top, bands=1)
    groups = finalists(candidates, run.space, settings, generator=stream(config.seed, "finalists"))
    if config.search.score != "none":
        model = load_one_shot(run)
        runtime.place(model)
        evaluation = evaluation_of(model, config, run.data, runtime)
        score_into(folder.candidates, members_of(groups), evaluation, cost_table(run.space), config.search, watch=watch)
        record_digest(folder.candidates)
    set_aside(folder.kept)
    write_json(folder.finalists, to_json(in_order(groups, candidates)), digest=True)
    return "by the new ranking"
