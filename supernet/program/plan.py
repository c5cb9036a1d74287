"""Lengths of the steps from a time budget and from speeds that were measured; pure functions.

Ours; the paper has no budget of time.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from supernet.data.task import accuracy, metric_of
from supernet.program.config import Config
from supernet.program.references import reference_names
from supernet.program.settings import ConfigError
from supernet.retrain.heats import Heat, heats
from supernet.search.race import stages
from supernet.search.recording import RESCORED
from supernet.search.rounds import numbers
from supernet.search.scoring import UNLABELLED
from supernet.space.choices import Space

SHARES = {"train": 0.35, "search": 0.15, "retrain": 0.50}
"""Shares of the time. Half of it goes to trainings from scratch, since the result is one of them, and a ranking of
networks that are far from trained says little. A candidate is scored in far less time than an epoch takes, so the
search has the smallest share. A start: no experiment has set them yet."""

MOST_EPOCHS = 200.0
"""No training is planned to be longer: beyond that more data or another network helps, not more time."""

MOST_CANDIDATES = 20_000
"""No more candidates are planned: the number of the paper."""

_LEAST_EXAMPLES = 10_000
"""No training is planned to see fewer examples than these, or than all of them once: it would learn hardly anything."""

_LEAST_CANDIDATES = 50
"""No fewer candidates are planned: the best of fewer is hardly a search."""

_RESERVE = 0.05
"""Share of the time that is left free: checkpoints, files, and the last training, during which cores wait."""

_FORWARD = 1 / 3
"""What an example costs in the evaluation of a network, as a share of its cost in training: one pass of three."""

BUSY = 1.3
"""From this much on a slower machine is said to be busy; threads of one process wait for each other too."""

_HUNDREDTHS = 100
"""Epochs are planned in hundredths."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Speeds:
    """What was measured on this machine with this configuration, in seconds.

    Attributes:
        networks: a step of some trainings from scratch that run side by side, one number for each network.
        one_shot: a step of the one-shot model's training; NaN if it was not measured.
        candidate: the score of a candidate on all examples of the search, all cores together; NaN likewise.
        all_on: a step of the training of everything on; None if it is not trained.
        workers: trainings that run side by side.
        slowed: how many times longer the trainings from scratch took than the processor time of their threads, since
            other programs had the cores; 1 on an idle machine, and on a GPU, where this is not known.
    """

    networks: tuple[float, ...]
    one_shot: float = math.nan
    candidate: float = math.nan
    all_on: float | None = None
    workers: int = 1
    slowed: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What the steps of a run have to do, apart from their lengths.

    Attributes:
        examples: of the training split.
        batch: examples in a step of the one-shot model's training.
        retrain_examples, retrain_batch: the same of the trainings from scratch.
        trainings: numbers of trainings from scratch that run side by side, one after the other: finalists without
            everything on, references, and what confirms the winner.
        heats: shorter trainings of finalists before these.
        all_on: number of trainings of everything on.
        evaluated: examples that each network of whole length is evaluated on.
        validated: examples that a network of a heat is evaluated on, which never sees the test split.
        scored: examples of the score of a candidate.
        scored_again: candidates that are scored on all examples once more, besides those of the race.
        ghost_size: of the search.
        keep: candidates that a race looks for; None if candidates do not race.
        least_candidates, most_candidates: bounds of their number.
        set_candidates: their number by the configuration.
    """

    examples: int
    batch: int
    retrain_examples: int
    retrain_batch: int
    trainings: tuple[int, ...]
    heats: tuple[Heat, ...]
    all_on: int
    evaluated: int
    validated: int
    scored: int
    scored_again: int
    ghost_size: int
    keep: int | None
    least_candidates: int
    most_candidates: int
    set_candidates: int


_ENOUGH_EXAMPLES = 20_000
"""Examples, with repeats, that a network sees at the least if something is to be learnt from its training. Ours: with
3,000 the networks of `images` were near chance (docs/log.md)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStep:
    """One step of a plan.

    Attributes:
        length: epochs of a training, or the number of candidates.
        times: number of trainings.
        examples: examples that a training sees, or that the score of a candidate is taken on.
        seconds: what it takes.
        is_planned: False if the length was given, so that only its time is foretold.
        shorter: trainings of heats, which come before the others.
    """

    length: float
    times: int
    examples: int
    seconds: float
    is_planned: bool
    shorter: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The steps of a run within a time.

    Attributes:
        hours: the time for everything.
        spent: seconds that data and measuring took.
        steps: by their names.
        slowed: as in `Speeds`.
    """

    hours: float
    spent: float
    steps: Mapping[str, PlannedStep]
    slowed: float = 1.0

    @property
    def seconds(self) -> float:
        """What everything takes."""
        return self.spent + sum(step.seconds for step in self.steps.values())

    def lines(self) -> list[str]:
        """The plan for people."""
        lines = [f"plan for {duration(3600 * self.hours)}, {duration(self.spent)} of it spent on data and measuring:"]
        for name, step in self.steps.items():
            suffix = "" if step.is_planned else ", as given"
            lines.append(f"  {name:8} {duration(step.seconds):>8}  {step_text(name, step)}{suffix}")
        need = f"  needs {duration(self.seconds)} of {duration(3600 * self.hours)}"
        if all(map(_is_longest, self.steps, self.steps.values())):
            need += "; more would hardly help: every step is as long as plans get"
        busy = (
            f"  other programs make this machine {self.slowed:.2g} times slower: a plan without them has longer steps"
        )
        return [*lines, need, *self._short(), *([busy] if self.slowed >= BUSY else [])]

    def _short(self) -> list[str]:
        """That planned trainings are so short that little can be learnt from them, and the time that would do."""
        short = [
            step for name, step in self.steps.items()
            if name != "search" and step.examples < _ENOUGH_EXAMPLES and not _is_longest(name, step)
        ]  # fmt: skip
        if not short:
            return []
        longer = sum(step.seconds * (_ENOUGH_EXAMPLES / step.examples - 1) for step in short)
        hours = math.ceil((self.seconds + longer) / 360) / 10
        return [
            f"  trainings on fewer than {_ENOUGH_EXAMPLES:,} examples may stay near chance: --hours {hours:g} would do"
        ]

    def to_json(self) -> dict[str, Any]:
        """The plan as `plan.json` holds it."""
        return {
            "hours": self.hours, "spent": self.spent, "slowed": self.slowed,
            "steps": {name: asdict(step) for name, step in self.steps.items()},
        }  # fmt: skip


def _is_longest(name: str, step: PlannedStep) -> bool:
    return not step.is_planned or step.length >= (MOST_CANDIDATES if name == "search" else MOST_EPOCHS)


def step_text(name: str, step: PlannedStep) -> str:
    """What a step does, in words."""
    trainings = "{times} trainings from scratch, {length:.4g} epochs ({examples:,} examples) each"
    texts = {
        "train": "one-shot model, {length:.4g} epochs ({examples:,} examples)",
        "search": "{length:,.0f} candidates, each on up to {examples:,} examples",
        "retrain": trainings,
        "analyze": trainings,
    }
    shorter = f", after {step.shorter} shorter ones" if step.shorter else ""
    return texts[name].format(**asdict(step)) + shorter


def bytes_text(number: float) -> str:
    """An amount of memory or disk for people."""
    unit, size = next(((u, s) for u, s in (("GB", 1e9), ("MB", 1e6)) if number >= s), ("kB", 1e3))
    return f"{number / size:.2g} {unit}" if number < 10 * size else f"{number / size:,.0f} {unit}"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.3g} min" if seconds < 5400 else f"{seconds / 3600:.3g} h"


def given_lengths(names: Collection[str], strategy: str) -> set[str]:
    """The steps of which the user gives the lengths.

    Args:
        names: of the settings that the user gives.
        strategy: of the search; an enumeration goes through the whole space.
    """
    lengths = {
        "train": {"train.epochs", "train.steps"},
        "search": {"search.candidates"},
        "retrain": {"retrain.train.epochs", "retrain.train.steps"},
        "analysis": {"analysis.train.epochs", "analysis.train.steps"},
    }
    given = {step for step, settings in lengths.items() if settings & set(names)}
    return given | {"search"} if strategy == "enumeration" else given


def work_of(config: Config, space: Space, size: int, *, train: int, validation: int, test: int) -> Work:
    """What a configuration has to do.

    Args:
        config: of the run.
        train, validation, test: examples of the splits.
        space: what it searches.
        size: architectures that the search may ask for.
    """
    search, retrain = config.search, config.retrain
    with_validation = retrain.splits == "train+validation"
    shorter = tuple(heats(search.top, retrain.heats))
    top = shorter[-1].kept if shorter else search.top
    finalists = top + search.small + search.random
    references = len(reference_names(config, space))
    confirming = 2 * max(0, retrain.confirm - retrain.repeats) if references else 0
    races = search.score == "metric" and metric_of(config.task) is accuracy and not search.parts
    available = UNLABELLED if search.score == "kl" else validation
    scored = min(search.examples or available, available) // search.ghost_size * search.ghost_size
    return Work(
        examples=train,
        batch=config.train.batch_size,
        retrain_examples=train + (validation if with_validation else 0),
        retrain_batch=config.retrain.train.batch_size,
        trainings=(finalists * retrain.repeats, references * retrain.repeats, confirming),
        heats=shorter,
        all_on=config.retrain.repeats if search.all_on else 0,
        evaluated=test + (0 if with_validation else validation),
        validated=validation,
        scored=scored,
        scored_again=search.top
        + search.small
        + search.random
        + (RESCORED * search.top_of if config.runtime.precision != "32-true" else 0),
        ghost_size=search.ghost_size,
        keep=search.top_of if races and not search.exhaustive else None,
        least_candidates=min(size, max(_LEAST_CANDIDATES, search.top_of)),
        most_candidates=min(size, MOST_CANDIDATES),
        set_candidates=numbers(search, space)[0],
    )


def plan(config: Config, work: Work, speeds: Speeds, *, hours: float, spent: float, given: Collection[str]) -> Plan:
    """The longest steps that fit into a time, by `SHARES`; what one step cannot use goes to the others.

    Args:
        config: gives the lengths of the steps in `given`.
        work, speeds: what there is to do, and how long it takes.
        hours: the time for everything.
        spent: seconds of it that are gone.
        given: steps of which the length stays as it is.

    Raises:
        ConfigError: the time is too short for the shortest lengths; the message says how much is needed.
    """
    bounds = {
        "train": _bounds_of_epochs(work.examples),
        "search": (work.least_candidates, work.most_candidates),
        "retrain": _bounds_of_epochs(work.retrain_examples),
    }
    for name, units in _given_units(config, work).items():
        if name in given:
            bounds[name] = (units, units)
    least, most = ({name: _seconds(name, work, speeds, ends[end]) for name, ends in bounds.items()} for end in (0, 1))
    time_left = 3600 * hours - spent
    if sum(least.values()) > time_left:
        raise ConfigError(_too_short(hours, spent + sum(least.values()), work, speeds, given))
    divided = _divided(time_left * (1 - _RESERVE), least, most)
    steps = {}
    for name, (low, high) in bounds.items():
        units = _largest(partial(_seconds, name, work, speeds), low, high, divided[name])
        length = float(units) if name == "search" else units / _HUNDREDTHS
        examples = {
            "train": round(length * work.examples), "search": work.scored,
            "retrain": round(length * work.retrain_examples),
        }  # fmt: skip
        steps[name] = PlannedStep(
            length=length,
            times=sum(work.trainings) + work.all_on if name == "retrain" else 1,
            examples=examples[name],
            seconds=_seconds(name, work, speeds, units),
            is_planned=name not in given,
            shorter=sum(heat.networks for heat in work.heats) if name == "retrain" else 0,
        )
    return Plan(hours=hours, spent=spent, steps=steps, slowed=speeds.slowed)


def settings_of(plan: Plan, given: Collection[str]) -> dict[str, Any]:
    """The settings that a plan makes, by their names. `analyze` trains as long as `retrain`.

    Args:
        plan: the plan.
        given: steps of which the user gives the length; see `given_lengths`.
    """
    settings: dict[str, Any] = {}
    parts = {"train": "train", "retrain": "retrain.train", "analysis": "analysis.train"}
    for name, part in parts.items():
        if name not in given:
            length = plan.steps["retrain" if name == "analysis" else name].length
            settings |= {f"{part}.epochs": length, f"{part}.steps": None}
    if "search" not in given:
        settings["search.candidates"] = int(plan.steps["search"].length)
    return settings


def _bounds_of_epochs(examples: int) -> tuple[int, int]:
    """The fewest and the most epochs that are planned, in hundredths."""
    return math.ceil(_HUNDREDTHS * min(1.0, _LEAST_EXAMPLES / examples)), round(_HUNDREDTHS * MOST_EPOCHS)


def _given_units(config: Config, work: Work) -> dict[str, int]:
    """The lengths of a configuration, in the units of a plan."""
    train, retrain = config.train, config.retrain.train
    epochs = {
        "train": train.epochs if train.steps is None else train.steps * train.batch_size / work.examples,
        "retrain": retrain.epochs if retrain.steps is None else retrain.steps * retrain.batch_size
        / work.retrain_examples,
    }  # fmt: skip
    return {name: max(1, round(value * _HUNDREDTHS)) for name, value in epochs.items()} | {
        "search": work.set_candidates
    }


def _seconds(name: str, work: Work, speeds: Speeds, units: int) -> float:
    return {"train": _train, "search": _search, "retrain": _retrain}[name](units, work, speeds)


def _train(hundredths: int, work: Work, speeds: Speeds) -> float:
    return hundredths / _HUNDREDTHS * work.examples / work.batch * speeds.one_shot


def _search(candidates: int, work: Work, speeds: Speeds) -> float:
    scored = candidates * 1.0
    if work.keep is not None and work.scored >= work.ghost_size:
        scored = race_cost(candidates, work.keep, stages(work.scored, work.ghost_size))
    return (scored + min(work.scored_again, candidates)) * speeds.candidate


def race_cost(candidates: int, keep: int, counts: list[int]) -> float:
    """What a race costs, in candidates that are scored on all examples.

    Each stage is taken to drop half of the candidates, down to those that the race looks for. With 20,000 candidates
    on 2,048 examples that makes a ninth of all scores; a measured race took an eighth (docs/log.md).

    Args:
        candidates: number of candidates.
        keep: number of them that the race looks for.
        counts: examples of each stage; see `supernet.search.race.stages`.
    """
    total, before = 0.0, 0
    for stage, count in enumerate(counts):
        alive = max(min(keep, candidates), candidates / 2**stage)
        total += alive * (count - before) / counts[-1]
        before = count
    return total


def _retrain(hundredths: int, work: Work, speeds: Speeds) -> float:
    steps = hundredths / _HUNDREDTHS * work.retrain_examples / work.retrain_batch
    evaluation, validation = (_FORWARD * count / work.retrain_batch for count in (work.evaluated, work.validated))
    heats_before = sum(
        (heat.share * steps + validation) * makespan(speeds, heat.networks, 0) for heat in work.heats
    )  # fmt: skip
    return heats_before + (steps + evaluation) * step_of_all(speeds, work)


def step_of_all(speeds: Speeds, work: Work) -> float:
    """Seconds of one step of all trainings from scratch that have the whole length."""
    finalists, *later = work.trainings
    return makespan(speeds, finalists, work.all_on) + sum(makespan(speeds, number, 0) for number in later)


def makespan(speeds: Speeds, trainings: int, all_on: int) -> float:
    """Time until the last of several trainings of one step each is over, the longest begun first.

    Args:
        speeds: the times of a step; the trainings are taken to be like those that were measured.
        trainings: their number.
        all_on: trainings of everything on.
    """
    measured = sorted(speeds.networks)
    times = [measured[(2 * i + 1) * len(measured) // (2 * trainings)] for i in range(trainings)]
    times += [speeds.all_on or max(measured)] * all_on
    ends = [0.0] * speeds.workers
    for seconds in sorted(times, reverse=True):
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends)


def _divided(time_left: float, least: Mapping[str, float], most: Mapping[str, float]) -> dict[str, float]:
    """The seconds of each step: in proportion to `SHARES`, but at least `least` and at most `most`."""

    def parts(scale: float) -> dict[str, float]:
        return {name: min(max(scale * share, least[name]), most[name]) for name, share in SHARES.items()}

    low, high = 0.0, max(most[name] / share for name, share in SHARES.items())
    if sum(parts(high).values()) <= time_left:
        return parts(high)
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(parts(middle).values()) <= time_left else (low, middle)
    return parts(low)


def _largest(seconds_of: Callable[[int], float], low: int, high: int, seconds: float) -> int:
    """The largest number from `low` to `high` that takes at most these seconds; `low` if none does."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seconds_of(middle) <= seconds else (low, middle - 1)
    return low


def _too_short(hours: float, seconds: float, work: Work, speeds: Speeds, given: Collection[str]) -> str:
    lengths = "the lengths that are given" if given else "the shortest lengths"
    need, examples = math.ceil(seconds / 36) / 100, min(work.examples, _LEAST_EXAMPLES)
    shorter = sum(heat.networks for heat in work.heats)
    heats_before = f" after {shorter} shorter ones of heats" if shorter else ""
    busy = f", which other programs make {speeds.slowed:.2g} times slower now," if speeds.slowed >= BUSY else ""
    return (
        f"--hours {hours:g} is too short: with {lengths}, {examples:,} examples for each training, "
        f"{work.least_candidates} candidates and {sum(work.trainings) + work.all_on} trainings from "
        f"scratch{heats_before}, this machine{busy} needs {need:g} hours: give --hours {need:g} or more, fewer pixels "
        "(--data.image_size), a smaller space (such as --space.settings.width), fewer examples "
        "(--data.train_examples), fewer finalists (--search.top, --search.small, --search.random), no heats "
        "(--retrain.heats 0) or no references (--references [])"
    )
