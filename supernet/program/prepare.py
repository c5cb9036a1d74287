"""The configuration of a run that is begun or continued, with what follows from its data and from a time budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from supernet.base.files import read_json, write_json
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.program.calibrate import measure
from supernet.program.config import Config, check_space
from supernet.program.folder import Opened, RunError
from supernet.program.load import Loaded, check_lengths, load_run
from supernet.program.plan import Plan, given_lengths, plan, settings_of, work_of
from supernet.program.resolve import Setting, begin, resolve
from supernet.program.settings import ConfigError, read_settings
from supernet.search.limits import region
from supernet.space.cost import cost_table
from supernet.speed.runtime import start

log = logging.getLogger(__name__)

_MEASURING = 0.05
"""Share of the time that measuring may take."""

_MOST_MEASURING = 60.0
"""Seconds that measuring takes at the most."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A configuration, and what was made on the way to it.

    Attributes:
        config: complete.
        record: what `plan.json` is to hold; None if nothing was planned now.
        lines: what was chosen, and the plan, for people.
        data: those of the run, if they were loaded.
    """

    config: Config
    record: dict[str, Any] | None = None
    lines: tuple[str, ...] = ()
    data: Data | None = None


def prepare(
    recipe: str | None,
    settings: Sequence[Setting],
    run: Opened | None,
    place: Path | None = None,
    hours: float | None = None,
) -> Prepared:
    """The whole configuration, as `resolve` makes it, with lengths planned for a time.

    A run is planned once, before its folder is made. If it is continued with the command that began it, it has the
    settings of its `plan.json`. A setting of the user's is kept, and the others are planned around it.

    Args:
        recipe, settings, run, place: as for `resolve`.
        hours: the time for everything; None for the lengths of the recipe.

    Raises:
        ValueError: as `resolve`; the time is too short; or the run was begun without a plan, or with another one.
    """
    if hours is not None and not 0 < hours < math.inf:
        raise ConfigError(f"--hours: expected a number above 0, got {hours}")
    if run is not None and run.folder.plan.exists():
        return Prepared(resolve(recipe, [*_planned(run, recipe, settings, hours), *settings], run, place))
    config = resolve(recipe, settings, run, place)
    if hours is None:
        return Prepared(config)
    if run is not None and run.folder.data.exists():
        raise RunError(f"{run.folder} was begun without --hours: leave it out to continue, or choose another folder")
    if config.runtime.devices * config.runtime.nodes > 1:
        raise ConfigError(
            "--hours: expected runtime.devices 1 and runtime.nodes 1, since one process measures: plan with "
            "--print_config on one device, and run that configuration on several"
        )
    began = monotonic()
    data = datasets.load(config.data, seed=config.seed)
    given = given_lengths(_names(settings), config.search.strategy)
    made = _plan(config, data, hours, began, given)
    lengths = settings_of(made, given)
    config = resolve(recipe, [*_as_settings(lengths), *settings], run, place)
    return Prepared(config, {**made.to_json(), "settings": lengths}, tuple(made.lines()), data)


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
    write_json(opened.folder.plan, prepared.record)
    loaded = load_run(opened, prepared.data)
    for line in prepared.lines:
        log.info("%s", line)
    return opened, loaded


def _plan(config: Config, data: Data, hours: float, began: float, given: set[str]) -> Plan:
    """Measures, and plans what is left of the time.

    Args:
        began: when the time began, by `time.monotonic`.
        given: steps of which the user gives the length.
    """
    check_lengths(config, data)
    space = check_space(config, len(data.classes), data.inputs, check=True)
    allowed = region(cost_table(space), config.search.limits.computed(), merge=config.search.merge)
    runtime = start(config.runtime)
    speeds = measure(config, data, allowed, runtime, min(_MEASURING * 3600 * hours, _MOST_MEASURING))
    work = work_of(
        config, allowed, train=len(data.train), validation=len(data.validation), test=len(data.test)
    )  # fmt: skip
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
    return _as_settings(kept["settings"])


def _as_settings(values: dict[str, Any]) -> list[Setting]:
    return [Setting(name, value) for name, value in values.items()]


def _names(settings: Sequence[Setting]) -> set[str]:
    """The settings that the user gives, by their dotted names, those of files included."""
    names: set[str] = set()
    for setting in settings:
        names |= set(_flat(read_settings(Path(setting.value), Config))) if setting.name == "config" else {setting.name}
    return names


def _flat(values: dict[str, Any], prefix: str = "") -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        names += [prefix + name, *(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else ())]
    return names
