"""What the steps of a run will take, before they begin: networks, steps, time, memory and disk (`--dry-run`).

Times come from steps that are measured on this machine with the configuration itself, as for `--hours`.
"""

from __future__ import annotations

import logging
import math
import resource
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch

from supernet.base.randomness import stream
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.data.task import with_metric
from supernet.program.calibrate import measure
from supernet.program.config import Config
from supernet.program.folder import Opened, RunError, is_done, require
from supernet.program.load import Loaded, check_lengths
from supernet.program.paths import RunFolder
from supernet.program.plan import (
    BUSY,
    PlannedStep,
    Speeds,
    Work,
    bytes_text,
    duration,
    makespan,
    plan,
    step_text,
    work_of,
)
from supernet.program.trial import tried_space
from supernet.search.limits import region
from supernet.search.strategies import NEED_OPTUNA, load_optuna
from supernet.search.table import read_candidates
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.space.model import build
from supernet.speed.runtime import start
from supernet.train.fit import TrainConfig
from supernet.trust.probes import bucket_width, strata

log = logging.getLogger(__name__)

_MEASURING = 10.0
"""Seconds of measuring; a few steps of each training are taken in any case."""

_ROW = 300
"""Bytes of a row of `candidates.sqlite` besides its architecture."""

_RESULT = 20_000
"""Bytes of `result.json` of a training: its history."""

_WORTH_ON = 512
"""Examples on which `analyze` removes options."""


def check_needs(config: Config, run: Opened | None) -> None:
    """Refuses before any work what a later step needs and this machine lacks.

    Raises:
        ConfigError: a package is missing; the message names the extra that brings it.
    """
    strategy = config.search.strategy
    if strategy in NEED_OPTUNA and not (run is not None and is_done(run.folder, "search")):
        try:
            load_optuna()
        except ValueError as error:
            raise RunError(f"search.strategy: {strategy!r} needs Optuna: {error}") from None


def check_room(run: Loaded, steps: Sequence[str]) -> None:
    """Refuses steps that the disk has no room for, those left out that are done.

    Raises:
        RunError: they need more than is free.
    """
    left = [step for step in steps if not is_done(run.folder, step)]
    need, free = _disk(run.config, run.data, run.space, left), _free(run.folder.path)
    if need > free:
        raise RunError(
            f"{run.folder}: about {bytes_text(need)} will be written, and the disk has {bytes_text(free)} free: "
            "make room, choose another place, or keep fewer snapshots (--analysis.snapshots 0)"
        )


def space_of_data(config: Config, data: Data) -> Space:
    """The space of a configuration, tried on its data.

    Raises:
        ValueError: a setting does not fit the data.
    """
    config = replace(config, task=with_metric(config.task, data.train.targets))
    check_lengths(config, data)
    return tried_space(config, data, check=True)


def measured(config: Config, data: Data, space: Space, seconds: float) -> tuple[Work, Speeds]:
    """What the steps of a run have to do, and how fast this machine does it.

    Args:
        config: of the run.
        data, space: of the configuration.
        seconds: about how long to measure.
    """
    config = replace(config, task=with_metric(config.task, data.train.targets))
    allowed = region(cost_table(space), config.search.limits.computed(), merge=config.search.merge)
    speeds = measure(config, data, allowed, start(config.runtime), seconds)
    size = space.size if allowed.listed is None else len(allowed.listed)
    splits = {name: len(getattr(data, name)) for name in ("train", "validation", "test")}
    return work_of(config, space, size, **splits), speeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """What a command will take.

    Attributes:
        steps: lengths and seconds of the steps that are not done.
        preparing: seconds for the data, the space and its costs.
        memory: bytes that this process had at the most while each kind of work was measured.
        disk: bytes that will be written into the run folder.
        free: bytes that are free there.
        slowed: by other programs, as in `Speeds`.
        notes: what is not counted.
    """

    steps: Mapping[str, PlannedStep]
    preparing: float
    memory: int
    disk: int
    free: int
    slowed: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.preparing + sum(step.seconds for step in self.steps.values())

    def to_json(self) -> dict[str, Any]:
        """The forecast as `--json` prints it."""
        return {**asdict(self), "seconds": self.seconds}

    def lines(self) -> list[str]:
        """The forecast for people."""
        rows = [("prepare", duration(self.preparing), "data, space and its costs")]
        rows += [(name, duration(step.seconds), step_text(name, step)) for name, step in self.steps.items()]
        idle = f"; about {duration(self.seconds / self.slowed)} without other programs" if self.slowed >= BUSY else ""
        rows += [
            ("in all", duration(self.seconds), f"if the machine stays as busy as it was while this was measured{idle}"),
            ("memory", bytes_text(self.memory), "at the most while each kind of work was measured"),
            ("disk", bytes_text(self.disk), f"in the run folder; {bytes_text(self.free)} are free"),
        ]
        lines = [f"  {name:8} {amount:>9}  {text}" for name, amount, text in rows]
        return ["dry run, nothing was written:", *lines, *(f"  not counted: {note}" for note in self.notes)]


def forecast(config: Config, steps: Sequence[str], place: Path, run: Opened | None) -> Forecast:
    """What steps of a run will take, from a short measurement. Writes nothing into the run folder.

    Args:
        config: of the run.
        steps: "train", "search", "retrain" or "analyze".
        place: the run folder, there or not.
        run: the run that is there already; steps that are done are left out.

    Raises:
        ValueError: a setting does not fit the data; or a step needs one that is not done.
    """
    left = [step for step in steps if step == "analyze" or run is None or not is_done(run.folder, step)]
    began, slowed = monotonic(), 1.0
    data = datasets.load(config.data, seed=config.seed)
    log.info("data: %s", data.summary)
    space = space_of_data(config, data)
    cost_table(space)
    preparing = monotonic() - began
    if left == ["analyze"]:
        step, slowed = _analysis(config, data, space, RunFolder(place))
        planned = {"analyze": step}
    elif left:
        work, speeds = measured(config, data, space, _MEASURING)
        whole = plan(config, work, speeds, hours=math.inf, spent=0.0, given=("train", "search", "retrain"))
        planned, slowed = {name: step for name, step in whole.steps.items() if name in left}, speeds.slowed
    else:
        planned = {}
    notes = []
    if "search" in left and "latency" in config.search.needs:
        notes.append("the measuring of latencies")
    if "retrain" in left and config.retrain.at:
        notes.append("trainings at other sizes (retrain.at)")
    if config.runtime.workers is not None or config.runtime.cluster is not None:
        notes.append("that workers share search and trainings, whose times are those of this process alone")
    return Forecast(
        steps=planned, preparing=preparing, memory=_memory(), slowed=slowed, notes=tuple(notes),
        disk=_disk(config, data, space, left), free=_free(place),
    )  # fmt: skip


def _analysis(config: Config, data: Data, space: Space, folder: RunFolder) -> tuple[PlannedStep, float]:
    """The trainings of an analysis that are not there yet, and its scores; and how much other programs slow it down.

    Raises:
        RunError: the search is not done.
    """
    require(folder, "search")
    settings = config.analysis
    candidates = read_candidates(folder.candidates, space)
    scores = np.array([c.score for c in candidates])
    are_accuracies = config.search.score == "metric" and config.task.metric in (None, "accuracy")
    bucket = bucket_width(scores, settings.bucket, are_accuracies=are_accuracies)
    places = strata(scores, bucket, settings.per_bucket, generator=stream(config.seed, "analysis"))
    names = [candidates[place].architecture.id for place in places]
    left = sum(
        not (folder.analysed_networks / name / str(repeat) / "result.json").exists()
        for name in names
        for repeat in range(settings.repeats)
    )
    short = replace(
        config,
        retrain=replace(config.retrain, train=settings.train, space={}, splits="train"),
        search=replace(config.search, all_on=False),
    )
    work, speeds = measured(short, data, space, _MEASURING)
    steps = settings.train.total_steps(work.examples)
    evaluation = work.evaluated / work.retrain_batch / 3  # a forward pass is a third of a step
    trainings = (steps + evaluation) * makespan(speeds, left, 0) if left else 0.0
    options = sum(len(choice.options) for choice in space.choices)
    removals = options * settings.removals * min(1.0, _WORTH_ON / max(1, work.scored))
    scored, seen = (2 * len(names) + removals) * speeds.candidate, steps * settings.train.batch_size
    step = PlannedStep(
        length=seen / work.examples, times=left, examples=seen, seconds=trainings + scored, is_planned=False
    )
    return step, speeds.slowed


def _memory() -> int:
    """Bytes that the process had at the most; on a GPU those of its tensors."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _free(path: Path) -> int:
    """Bytes that are free where a folder is or will be."""
    there = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    return shutil.disk_usage(there).free


def _disk(config: Config, data: Data, space: Space, steps: Sequence[str]) -> int:
    """Bytes that steps write, the checkpoint of a training under way included; roughly."""
    table = cost_table(space)
    whole = sum(tensor.nbytes for tensor in build(space, seed=0).state_dict().values())
    network = 4.0 * float(np.mean(table.column("params", _some(space))))
    number = {
        "train": 0,
        "search": 0,
        "retrain": _trainings(config, space),
        "analyze": config.analysis.per_bucket * config.analysis.repeats * 13,
    }
    total = 0.0
    if "train" in steps:
        train = config.train
        live = train.total_steps(len(data.train)) * (train.batch_size // train.ghost_size)
        live *= -(-sum(len(choice.options) for choice in space.choices) // 8)
        total += whole * (2 + _states(train) + (config.analysis.snapshots and config.analysis.snapshots + 1)) + 2 * live
    if "search" in steps:
        candidates = min(space.size, config.search.candidates or 500)
        total += candidates * (len(str(space.at(0))) + _ROW)
    copies = 2 if find_spec("optuna") else 1  # artifacts of the study
    total += sum(number[step] for step in steps) * (copies * network + _RESULT)
    return round(total)


def _some(space: Space) -> list[Any]:
    return space.sample_distinct(min(100, space.size), generator=stream(0, "forecast"))


def _trainings(config: Config, space: Space) -> int:
    """Trainings from scratch of a run, heats included."""
    work = work_of(config, space, space.size, train=1, validation=config.search.ghost_size, test=1)
    return sum(work.trainings) + work.all_on + sum(heat.networks for heat in work.heats)


def _states(train: TrainConfig) -> int:
    """Tensors that the optimiser keeps for each weight: none, a momentum, or two moments."""
    if train.optimizer == "SGD":
        return 1 if train.optimizer_settings.get("momentum") else 0
    return 2
