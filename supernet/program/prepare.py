"""The configuration of a run that is begun or continued, with what follows from its data and from a time budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from supernet.base.files import read_json, write_json
from supernet.base.randomness import stream
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.data.survey import Survey, survey
from supernet.program.calibrate import measure_trainings
from supernet.program.config import Config, check_space
from supernet.program.folder import Opened, RunError
from supernet.program.forecast import check_needs, measured, space_of_data
from supernet.program.images import Chosen, choose, image_size, split_sizes
from supernet.program.load import Loaded, load_run
from supernet.program.plan import SHARES, Plan, duration, given_lengths, plan, settings_of, step_of_all, work_of
from supernet.program.resolve import Setting, begin, resolve
from supernet.program.settings import ConfigError, read_settings
from supernet.search.limits import amount
from supernet.speed.runtime import start

log = logging.getLogger(__name__)

_MEASURING = 0.05
"""Share of the time that measuring may take."""

_MOST_MEASURING = 60.0
"""Seconds that measuring takes at the most."""

_PROBED = 32
"""Size of the images, in pixels, at which steps are measured before the size is chosen; smaller if images are."""

_PROBING = 0.02
"""Share of the time that this measuring may take."""

_MOST_PROBING = 10.0
"""Seconds that it takes at the most."""

_NETWORKS = 8
"""Networks that it is measured on, drawn without regard to limits: a table of costs takes longer than all of it."""

_NOISE = 512
"""Images of noise that it is measured on."""

_HOURS = 1.0
"""The time of the recipe `images` if none is given."""

IMAGES = "images"
"""The recipe that looks at the data."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration, and what was made on the way to it.

    Attributes:
        config: complete.
        record: what `plan.json` is to hold; None if nothing was planned now.
        data: those of the run, if they were loaded.
    """

    config: Config
    record: dict[str, Any] | None = None
    data: Data | None = None


def prepare(
    recipe: str | None,
    settings: Sequence[Setting],
    run: Opened | None,
    place: Path | None = None,
    hours: float | None = None,
    *,
    runs_files: bool = True,
) -> Prepared:
    """The whole configuration, as `resolve` makes it, with lengths planned for a time.

    A run is planned once, before its folder is made; the log says what is chosen, and the plan. If it is continued with
    the command that began it, it has the settings of its `plan.json`. A setting of the user's is kept, and the others
    are planned around it.

    Args:
        recipe, settings, run, place: as for `resolve`.
        hours: the time for everything; None for the lengths of the recipe, or an hour with the recipe `images`.
        runs_files: as for `resolve`; a plan runs them in any case.

    Raises:
        ValueError: as `resolve`; the time is too short; or the run was begun without a plan, or with another one.
    """
    if hours is not None and not 0 < hours < math.inf:
        raise ConfigError(f"--hours: expected a number above 0, got {hours}")
    if run is not None and run.folder.plan.exists() and run.folder.data.exists():
        planned = [*_planned(run, recipe, settings, hours), *settings]
        return Prepared(resolve(recipe, planned, run, place, runs_files=runs_files))
    config = resolve(recipe, settings, run, place, runs_files=runs_files or is_planned(recipe, hours))
    if runs_files:
        check_needs(config, run)
    if not is_planned(recipe, hours):
        return Prepared(config)
    if run is not None and run.folder.data.exists():
        raise RunError(
            f"{run.folder} was begun without a plan: continue it without --hours and without the recipe {IMAGES}, or "
            "choose another folder"
        )
    if config.runtime.devices * config.runtime.nodes > 1:
        raise ConfigError(
            "--hours: expected runtime.devices 1 and runtime.nodes 1, since one process measures: plan with "
            "--print_config on one device, and run that configuration on several"
        )
    if config.search.score == "none":
        raise ConfigError(
            "search.score none: a search without a one-shot model cannot be planned for a time: leave out --hours, "
            "take another recipe than images, and set the lengths (search.candidates, retrain.train.epochs)"
        )
    if config.retrain.at:
        raise ConfigError(
            "retrain.at: expected none where a run is planned (--hours, or the recipe images), since the time of "
            "trainings at other sizes is not measured: plan without it by --print_config, and run that with --config"
        )
    began, hours, names = monotonic(), _HOURS if hours is None else hours, _names(settings)
    log.info("reading the data and measuring this machine; the plan comes next, for %s in all", duration(3600 * hours))
    values: dict[str, Any] = {}
    if recipe == IMAGES:
        chosen = _choose(config, settings, names, hours)
        values |= chosen.settings
        config = resolve(recipe, [*_as_settings(values), *settings], run, place)
        log.info("chosen for these images; each is an option too, as in --data.image_size 32:")
        for line in chosen.lines:
            log.info("%s", line)
    data = datasets.load(config.data, seed=config.seed)
    given = given_lengths(names, config.search.strategy)
    made = _plan(config, data, hours, began, given)
    for line in made.lines():
        log.info("%s", line)
    values |= settings_of(made, given)
    config = resolve(recipe, [*_as_settings(values), *settings], run, place)
    return Prepared(config, {**made.to_json(), "settings": values}, data)


def is_planned(recipe: str | None, hours: float | None) -> bool:
    """Whether a new run is planned before it begins."""
    return hours is not None or recipe == IMAGES


def _choose(config: Config, settings: Sequence[Setting], names: set[str], hours: float) -> Chosen:
    """The settings that follow from the images.

    Args:
        config: of the recipe `images`, with the user's settings.
        settings: of the user.
        names: their names.
        hours: the time for everything.
    """
    images = survey(config.data)
    if "data.image_size" in names:
        return choose(images, config, names)
    untimed, _ = image_size(images, config, None)
    size = min(untimed, _PROBED)
    at_size = [Setting("data.image_size", size), *settings]
    chosen = choose(images, resolve(IMAGES, at_size, None), {*names, "data.image_size"})
    probed = resolve(IMAGES, [*_as_settings(chosen.settings), *at_size], None)
    data = _noise(images, size)
    space = check_space(probed, len(data.classes), data.inputs)
    train, validation = split_sizes(images, config.data)
    work = work_of(probed, space, space.size, train=train, validation=validation, test=images.own_test)
    drawn = space.sample_distinct(min(_NETWORKS, space.size), generator=stream(config.seed, "probe"))
    seconds = min(_PROBING * 3600 * hours, _MOST_PROBING)
    speeds = measure_trainings(probed, data, drawn, start(probed.runtime), seconds)
    of_pass = step_of_all(speeds, work) * work.retrain_examples / work.retrain_batch

    def passes(pixels: int) -> float:
        return 3600 * hours * SHARES["retrain"] / (of_pass * (pixels / size) ** 2)  # as multiply-adds go

    return choose(images, config, names, passes)


def _noise(images: Survey, size: int) -> Data:
    """Noise in the form of the images, since speed does not depend on what is on them: nothing is decoded for it."""
    number = max(_NOISE, 10 * len(images.classes))
    shape, generator = (number, images.channels, size, size), stream(0, "noise")
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    data, _ = datasets.from_arrays(pixels, torch.arange(number) % len(images.classes), seed=0)
    return data


def begin_prepared(path: Path, prepared: Prepared, run: Opened | None) -> tuple[Opened, Loaded | None]:
    """Makes a run folder, or continues the run that is there; says and records what was planned.

    Args:
        path: of the folder.
        prepared: the configuration.
        run: the run that is there already.

    Returns:
        The run, and the run loaded if it was planned just now.

    Raises:
        ValueError: as `supernet.program.resolve.begin` and `load_run`.
    """
    opened = begin(path, prepared.config, run)
    if prepared.record is None:
        return opened, None
    write_json(opened.folder.plan, prepared.record, digest=True)
    return opened, load_run(opened, prepared.data, compare=False)  # as it was before the plan was made


def _plan(config: Config, data: Data, hours: float, began: float, given: set[str]) -> Plan:
    """Measures, and plans what is left of the time.

    Args:
        began: when the time began, by `time.monotonic`.
        given: steps of which the user gives the length.
    """
    most = _MOST_PROBING if given >= SHARES.keys() else _MOST_MEASURING  # to foretell needs less than to plan
    work, speeds = measured(config, data, space_of_data(config, data), min(_MEASURING * 3600 * hours, most))
    return plan(config, work, speeds, hours=hours, spent=monotonic() - began, given=given)


def _planned(run: Opened, recipe: str | None, settings: Sequence[Setting], hours: float | None) -> list[Setting]:
    """The settings of a run's plan, if the run is continued from its recipe and not from its configuration."""
    kept = read_json(run.folder.plan, ("hours", "settings"))
    if hours is not None and hours != kept["hours"]:
        raise RunError(
            f"{run.folder} was planned for --hours {kept['hours']:g}: leave --hours out to continue it, or choose "
            "another folder"
        )
    if recipe is None and not any(setting.name == "config" for setting in settings):
        return []
    values, largest = kept["settings"], _given(settings).get("search.limits.max_params")
    before = amount("max_params", "params", run.config.search.limits.max_params)
    if largest is not None and amount("--max-params", "params", largest) != before:
        # The smallest size was chosen for the largest one of then.
        values.pop("search.limits.min_params", None)
    return _as_settings(values)


def _as_settings(values: dict[str, Any]) -> list[Setting]:
    return [Setting(name, value) for name, value in values.items()]


def _names(settings: Sequence[Setting]) -> set[str]:
    """The settings that the user gives, by their dotted names, those of files included."""
    return set(_given(settings))


def _given(settings: Sequence[Setting]) -> dict[str, Any]:
    """The values of the settings that the user gives, by their dotted names, those of files included."""
    given: dict[str, Any] = {}
    for setting in settings:
        values = (
            read_settings(Path(setting.value), Config) if setting.name == "config" else {setting.name: setting.value}
        )
        given |= _flat(values)
    return given


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {prefix + name: value, **(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {})}
    return flat
