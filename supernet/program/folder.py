"""Run folders: made, opened, and what is done in them."""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from supernet.base.files import read_json, without_password, write_json, write_text
from supernet.base.own import digest_of, file_of, is_function
from supernet.base.version import __version__
from supernet.data.task import TaskConfig, default_metric
from supernet.program.config import Config, differences, flat, to_yaml
from supernet.program.paths import RunFolder
from supernet.program.settings import ConfigError, dataclass_of, read_settings, setting_hints
from supernet.speed.runtime import cores
from supernet.speed.tune import Tuning
from supernet.train.fit import has_checkpoint

_MISSING = object()

_NEWER = ("retrain.references", "retrain.confirm", "retrain.heats", "retrain.at", "analysis.sweep_steps",
          "search.rank", "search.rank_sample", "search.measures", "runtime.workers", "runtime.cluster",
          "runtime.worker_cores", "runtime.worker_gpus", "space.elastic", "space.elastic_settings",
          "space.weights", "paths.complexity", "paths.distill", "retrain.start")  # fmt: skip
"""Settings that folders of earlier versions lack; they have the defaults there."""

_AFTER_TRAINING = ("analysis.", "retrain.", "search.", "task.metric:")
"""Settings on which the one-shot model does not depend."""

_OF_REFERENCES = ("retrain.references:", "retrain.confirm:")
"""Settings on which no training of a finalist depends."""

_OF_SIZES = ("retrain.at:", "retrain.at.")
"""Settings on which no training depends that is made already: those at other sizes have their own folders."""


_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
"""Names of files and folders under way."""

_UNLOCKED = (".report.html.", ".export.")
"""Beginnings of the names of those that are written without a lock."""

_OLD_SECONDS = 3600.0
"""A temporary file that was not written to for this time is that of a command that is gone."""


class RunError(ValueError):
    """A run folder that is not there, of another configuration, or not ready for the step."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A run folder with its configuration, which is read once in a command."""

    folder: RunFolder
    config: Config


def open_run(path: Path) -> Opened:
    """Opens a run folder.

    Raises:
        RunError: it is no run folder, or its configuration is not complete.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise RunError(
            f"{folder} is no run folder (no {folder.config.name}): `supernet run RECIPE --out {folder}` makes one"
        )
    settings = read_settings(folder.config, Config)
    for name in setting_hints(Config):
        part: Any = settings
        for word in name.split("."):
            part = part.get(word, _MISSING)
            if part is _MISSING and name not in _NEWER:
                raise RunError(
                    f"{folder.config} is of another version, or damaged (it has no {name}): take another folder, or "
                    "delete this one"
                )
    try:
        config: Config = dataclass_of(settings, Config)
    except ConfigError as error:
        raise ConfigError(f"{folder.config}: {error}") from None
    return Opened(folder, _with_moved_data(folder, config))


def _with_moved_data(folder: RunFolder, config: Config) -> Config:
    """The configuration with the data where they lie now, if they were moved or copied together with the run folder."""
    place = read_json(folder.data).get("place") if config.data.path is not None and folder.data.exists() else None
    if place is None or not (folder.path / place).exists():
        return config
    return replace(config, data=replace(config.data, path=os.path.abspath(folder.path / place)))


def place_of_data(folder: RunFolder, config: Config) -> str | None:
    """The path of the data from the run folder, if they lie in it or beside it; the two can be moved together then."""
    if config.data.path is None or not Path(config.data.path).exists():
        return None
    here, data = folder.path.resolve(), Path(config.data.path).resolve()
    return os.path.relpath(data, here) if data.is_relative_to(here.parent) else None


def task_of(run: Opened) -> TaskConfig:
    """The task of a run with its metric by name, also if it follows from the loss and the targets.

    Raises:
        RunError: it follows from them, and nothing has been done in the folder.
    """
    task = run.config.task
    if task.metric is not None:
        return task
    if not run.folder.data.exists():
        raise RunError(f"{run.folder} has no step that is done: run `supernet train {run.folder}` first")
    # Folders of earlier versions do not record it: their default did not look at the targets.
    metric = read_json(run.folder.data).get("metric") or default_metric(task.loss, torch.zeros(1, dtype=torch.long))
    return replace(task, metric=metric)


def changes(run: Opened, config: Config) -> list[str]:
    """Settings in which another configuration differs from that of a run, one text each.

    A metric that is left open does not differ from the same metric by name.
    """
    recorded = _with_moved_files(run, config)
    if recorded.task.metric != config.task.metric and run.folder.data.exists():
        recorded, config = (
            replace(c, task=replace(c.task, metric=task_of(Opened(run.folder, c)).metric)) for c in (recorded, config)
        )
    return differences(recorded, config)


def _with_moved_files(run: Opened, config: Config) -> Config:
    """The configuration of a run with files of the user where another one has them, if their content is the same."""
    recorded = read_json(run.folder.data).get("files", {}).values() if run.folder.data.exists() else ()

    def moved(old: str, new: str) -> str:
        both = is_function(old) and is_function(new) and old.rpartition(":")[2] == new.rpartition(":")[2]
        return new if both and file_of(new).is_file() and digest_of(new) in recorded else old

    before, task = run.config, run.config.task
    metric = moved(task.metric, config.task.metric) if task.metric and config.task.metric else task.metric
    return replace(
        before,
        space=replace(before.space, name=moved(before.space.name, config.space.name)),
        task=replace(task, loss=moved(task.loss, config.task.loss), metric=metric),
    )


def has_begun(folder: RunFolder) -> bool:
    """Whether anything is kept of a step: not after a first try that failed for its data, its network or its device."""
    before = {
        folder.config, folder.plan, folder.data, folder.environment, folder.tuning, folder.settings, folder.arrays,
    }  # fmt: skip
    paths = (path for path in folder.path.rglob("*") if path.is_file() and path not in before)
    return any(not path.name.startswith(".") for path in paths)


def create_run(folder: RunFolder, config: Config) -> Opened:
    """Makes a run folder, or accepts the one that is there if it has the same configuration; see `continue_run`.

    Raises:
        RunError: the folder has another configuration in which work was done already, or is of something else.
    """
    if folder.config.exists():
        return continue_run(open_run(folder.path), config)
    if folder.path.exists() and not folder.path.is_dir():
        raise RunError(f"{folder} is a file: expected the name of a new folder")
    # The half-written files of a killed process begin with a dot.
    if folder.path.exists() and not all(entry.name.startswith(".") for entry in folder.path.iterdir()):
        raise RunError(f"{folder} is there and is no run folder: choose a new or empty folder")
    write_text(folder.config, to_yaml(config))
    return Opened(folder, config)


def continue_run(run: Opened, config: Config) -> Opened:
    """The run with another configuration, where that is allowed.

    Device and processes (`runtime`) may change: a run moves from one machine to another. So may `analysis`; and, until
    the test split is opened, `retrain`, for instance after a network diverged, and `search` and `task.metric`, for
    another strategy, other limits or another metric with the same one-shot model. Results that a change makes stale are
    set aside. `data.path` may change
    too; that the data are the same is checked where they are loaded.

    Raises:
        RunError: another setting differs, and work was done already.
    """
    folder = run.folder
    check_settings(run)
    differing = changes(run, config)
    always: tuple[str, ...] = ("runtime.", "data.path:")
    if is_function(run.config.data.name) and is_function(config.data.name):
        always += ("data.name:",)  # that the data are the same is checked as for another path
    changed = [text for text in differing if not text.startswith(always)]
    if changed and has_begun(folder):
        free = ("analysis.",) if folder.test_opened.exists() else _AFTER_TRAINING
        if not all(text.startswith(free) for text in changed):
            reason = ""
            if all(text.startswith(_AFTER_TRAINING) for text in changed):
                reason = (
                    ": its test split was opened, and what is chosen after that is no longer judged on new examples; "
                    f"`supernet search {folder} --new OTHER` searches again with the same one-shot model, in a new "
                    "folder that says so"
                )
            reason = reason or ": choose another folder, or delete this one"
            raise RunError(f"{folder} was made with another configuration ({'; '.join(changed)}){reason}")
        check_trained_limits(folder, run.config, config)
        for path in _stale(folder, changed):
            set_aside(path)
    if differing or _with_moved_files(run, config) != run.config:
        write_text(folder.config, to_yaml(config))
        for step in read_json(folder.settings) if folder.settings.exists() else ():
            record_settings(folder, config, step)
    return Opened(folder, config)


# ---- settings of steps that have begun ----


_ELSEWHERE = ("runtime.", "analysis.", "data.path", "data.cache")
"""Settings on which no step depends."""

_LATER = {"train": ("search.", "retrain.", "task.metric"), "search": ("retrain.",), "retrain": ()}
"""Settings on which a step does not depend, since they are for later ones."""


def _settings_of(config: Config, step: str) -> dict[str, Any]:
    """The settings on which a step depends, by their dotted names, as JSON has them."""
    values = {name: value for name, value in flat(config).items() if not name.startswith((*_ELSEWHERE, *_LATER[step]))}
    if config.paths.limited:
        values |= {name: value for name, value in flat(config).items() if name.startswith("search.limits.")}
    # A user's file may be moved; that its content is the same is checked where it is loaded.
    named = {name: Path(value).name if is_function(str(value)) else value for name, value in values.items()}
    settings: dict[str, Any] = json.loads(json.dumps(named, default=str))
    return settings


def record_settings(folder: RunFolder, config: Config, step: str) -> None:
    """Records the settings with which a step begins."""
    steps = read_json(folder.settings) if folder.settings.exists() else {}
    settings = _settings_of(config, step)
    if steps.get(step) != settings:
        write_json(folder.settings, {**steps, step: settings}, digest=True)


def check_settings(run: Opened) -> None:
    """Checks that the configuration of a run was not edited by hand in what its steps depend on.

    Raises:
        RunError: it was; the message names the settings and says what to do.
    """
    folder = run.folder
    steps = read_json(folder.settings) if folder.settings.exists() else {}
    has_results = {
        "train": folder.one_shot.exists() or has_checkpoint(folder.train),
        "search": folder.candidates.exists(),
        "retrain": folder.retrain.exists(),
    }
    for step, recorded in steps.items():
        now = _settings_of(run.config, step)
        edited = [name for name, value in recorded.items() if name in now and now[name] != value]
        if edited and has_results.get(step):
            name = edited[0]
            raise RunError(
                f"{folder.config} was edited since `supernet {step}` began "
                f"({'; '.join(f'{name}: {recorded[name]} then, {now[name]} now' for name in edited)}): put it back; a "
                f"setting is changed by a command (`supernet {step} {folder} --{name} {now[name]}`), which sets aside "
                "what depends on it, or refuses"
            )


def check_trained_limits(folder: RunFolder, here: Config, asked: Config) -> None:
    """Checks that limits still hold what the one-shot model was trained on; see `paths.limited`.

    Raises:
        RunError: its training is under way, or new limits allow what it was not trained for.
    """
    if not here.paths.limited or here.search.limits.computed() == asked.search.limits.computed():
        return
    if not folder.one_shot.exists():
        raise RunError(
            f"{folder}: its one-shot model is trained on architectures within the limits (paths.limited), and that is "
            "under way: limits may be made narrower after it; for others choose another folder"
        )
    bounds = asked.search.limits.computed().bounds()
    for cost, (low, high) in read_json(folder.trained_limits).items():
        new_low, new_high = bounds.get(cost, (0.0, math.inf))
        if new_low < low or new_high > (math.inf if high is None else high):
            raise RunError(
                f"{folder}: its one-shot model was trained on architectures with {cost} from {low:,.0f} to "
                f"{'any number' if high is None else format(high, ',.0f')} only (paths.limited): narrower limits are "
                "possible; for others choose another folder"
            )


def _stale(folder: RunFolder, changed: Sequence[str]) -> list[Path]:
    """The results that depend on settings that changed."""
    if any(text.startswith(("search.", "task.metric:")) for text in changed):
        searched = [folder.candidates, folder.sample, folder.finalists, folder.drawn_finalists]
        return [*searched, folder.retrain, folder.refined, folder.analysed, folder.analysis]
    stale = []
    of_retrain = [text for text in changed if text.startswith("retrain.") and not text.startswith(_OF_SIZES)]
    if of_retrain:
        only_references = all(text.startswith(_OF_REFERENCES) for text in of_retrain)
        stale += [folder.references] if only_references else [folder.retrain, folder.refined, folder.analysed_sizes]
    if any(text.startswith("analysis.train.") for text in changed):
        stale.append(folder.analysed_networks)
    return [*stale, folder.analysis]


def set_aside(path: Path) -> None:
    """Renames a file or folder, if it is there, so that nothing in it is lost or taken for something new."""
    if path.exists():
        number = next(n for n in itertools.count(1) if not path.with_name(f"{path.name}.before-{n}").exists())
        path.rename(path.with_name(f"{path.name}.before-{number}"))


def remove_unfinished(folder: RunFolder) -> None:
    """Removes the temporary files of commands that were killed. Those of commands that take no lock have to be old."""
    for path in folder.path.rglob(".*.tmp"):
        if _TEMPORARY.fullmatch(path.name):
            with suppress(OSError):  # gone meanwhile, or not ours to remove: it does no harm
                if path.name.startswith(_UNLOCKED) and time.time() - path.stat().st_mtime < _OLD_SECONDS:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def is_done(folder: RunFolder, step: str) -> bool:
    """Whether a step of a run is complete. A search is not whose table is lost: it is made again."""
    return folder.last_of(step).exists() and (step != "search" or folder.candidates.exists())


def record_environment(folder: RunFolder, step: str, tuning: Tuning) -> None:
    """Adds versions, machine, command and what the self-test chose to `environment.json`, by step; the last is kept.

    `seconds` is the time that was spent on the step, earlier tries included, of which `add_seconds` keeps account.
    """
    path = folder.environment
    steps = read_json(path) if path.exists() else {}
    steps[step] = {
        "seconds": steps.get(step, {}).get("seconds", 0.0),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["supernet", *map(without_password, sys.argv[1:])]),
        "supernet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": cores(),
        "precision": tuning.precision,
        "layout": tuning.layout,
        "kernels": list(tuning.kernels),
        "in_full_precision": list(tuning.in_full_precision),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }
    write_json(path, steps, digest=True)


def add_seconds(folder: RunFolder, step: str, seconds: float) -> None:
    """Adds to the time that was spent on a step, in `environment.json`, if the step was begun."""
    steps = read_json(folder.environment) if folder.environment.exists() else {}
    if step in steps:
        steps[step]["seconds"] = round(steps[step].get("seconds", 0.0) + seconds, 3)
        write_json(folder.environment, steps, digest=True)


def planned_and_taken(folder: RunFolder) -> dict[str, dict[str, float]]:
    """Seconds that were planned for each step, and that it took; nothing if nothing was planned."""
    if not folder.plan.exists():
        return {}
    steps, taken = read_json(folder.plan, ("steps",))["steps"], read_json(folder.environment)
    return {
        name: {"planned": step["seconds"], "taken": taken[name]["seconds"]}
        for name, step in steps.items()
        if "seconds" in taken.get(name, {})
    }


def require(folder: RunFolder, step: str) -> Path:
    """The file that a step of a run writes last.

    Raises:
        RunError: it is not there; the message says which step writes it.
    """
    path = folder.last_of(step)
    if not path.exists():
        raise RunError(f"{path} is not there: run `supernet {step} {folder}` first")
    return path
