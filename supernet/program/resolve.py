"""From a recipe and settings to a whole configuration, and from that to a run folder; used by the command line and by
`supernet.run`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from supernet.base.own import absolute, is_function
from supernet.data.sources import NAMES
from supernet.program.config import Config, check_config, from_dict
from supernet.program.folder import Opened, continue_run, create_run, has_begun, open_run
from supernet.program.listing import recipe_files, recipe_path
from supernet.program.load import check_limits, check_moved_data
from supernet.program.paths import RunFolder
from supernet.program.settings import ConfigError, leaves, parse_value, put, read_settings, setting_hints
from supernet.speed.runtime import device_of

OWN_NETWORK = "own-network"
"""The recipe of a run with a network of the user's if none is named."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, or a YAML file of settings.

    Attributes:
        name: of a setting or a group of settings, with dots; "config" for a file.
        value: if it is a text of the command line, `is_text` is true and it is read as YAML. Of a group some of its
            settings by name.
    """

    name: str
    value: Any
    is_text: bool = False


def open_if_there(path: Path | None) -> Opened | None:
    """The run in a folder, if there is one."""
    return open_run(path) if path is not None and RunFolder(path).config.exists() else None


def resolve(
    recipe: str | None,
    settings: Sequence[Setting],
    run: Opened | None,
    place: Path | None = None,
    *,
    runs_files: bool = True,
) -> Config:
    """The whole configuration: of a recipe, else of the run that is continued, with settings on top, the last wins.

    Args:
        recipe: its name, or a YAML file; None to continue `run`, or if settings name a YAML file or the user's network.
        settings: in order.
        run: the run that is there already.
        place: where it was looked for, for the message.
        runs_files: as for `check_config`.

    Raises:
        ValueError: there is nothing to start from, or a setting does not exist or does not fit.
    """
    values = _start(recipe, settings, run, place)
    strategy, space = values.get("search", {}).get("strategy"), values.get("space", {}).get("name")
    single = [leaf for setting in settings for leaf in _single(setting)]
    for name, value in single:
        put(values, Config, name, value)
    search = values.get("search", {})
    is_other = strategy is not None and absolute(str(search["strategy"])) != absolute(strategy)
    if is_other and not any("strategy_settings" in name for name, _ in single):
        search["strategy_settings"] = {}  # those that are there belong to another strategy
    is_other = space is not None and absolute(str(values["space"]["name"])) != absolute(space)
    if is_other and not any(name.startswith("space.settings") for name, _ in single):
        values["space"]["settings"] = {}  # likewise
        values.get("retrain", {})["space"] = {}
    config = _with_whole_paths(from_dict(values))
    check_config(config, runs_files=runs_files)
    return config


def _single(setting: Setting) -> list[tuple[str, Any]]:
    """The settings that are in a setting, a group or a file: dotted names and values."""
    if setting.name == "config":
        groups = read_settings(Path(setting.value), Config)
        return [leaf for name, value in groups.items() for leaf in leaves(name, value, Config)]
    hint = setting_hints(Config).get(setting.name, Any)
    return list(leaves(setting.name, parse_value(setting.value, hint) if setting.is_text else setting.value, Config))


def _start(recipe: str | None, settings: Sequence[Setting], run: Opened | None, place: Path | None) -> dict[str, Any]:
    if recipe is not None:
        return read_settings(recipe_path(recipe), Config)
    if any(setting.name == "config" for setting in settings):
        return {}
    if run is not None:
        return asdict(run.config)
    if any(setting.name == "space.name" and is_function(str(setting.value)) for setting in settings):
        if not any(setting.name.startswith("data") for setting in settings):
            raise ConfigError("--model needs --data: the name of a source, a folder of images, or FILE.py:FUNCTION")
        return read_settings(recipe_path(OWN_NETWORK), Config)
    missing = f"{place} is no run folder, so " if place is not None else ""
    raise ConfigError(f"{missing}expected a recipe ({', '.join(recipe_files())}) or --config FILE.yaml")


def _with_whole_paths(config: Config) -> Config:
    """Functions of files, and data, by their whole paths, so that the run continues from any folder."""
    path = config.data.path
    if path is not None and Path(path).expanduser().exists():  # else it is for the user's function, or refused later
        path = os.path.abspath(Path(path).expanduser())
    metric = config.task.metric
    task = replace(config.task, loss=absolute(config.task.loss), metric=None if metric is None else absolute(metric))
    return replace(
        config,
        space=replace(config.space, name=absolute(config.space.name)),
        data=replace(config.data, name=absolute(config.data.name), path=path),
        search=replace(config.search, strategy=absolute(config.search.strategy)),
        task=task,
    )


def begin(path: Path, config: Config, run: Opened | None) -> Opened:
    """Makes a run folder, or continues the run that is there with this configuration.

    Raises:
        RunError: see `create_run` and `continue_run`; or data at a new path are not the same.
        LimitsError: no architecture meets new limits; nothing is set aside for a search that cannot be.
        ValueError: the device is not available.
    """
    if run is None or run.config.runtime != config.runtime:
        device_of(config.runtime)  # before it stands in the configuration
    if run is None:
        return create_run(RunFolder(path), config)
    if run.folder.data.exists() and run.config.search.limits != config.search.limits:
        check_limits(run, config.search.limits)
    old, new = run.config.data, config.data
    has_moved = old.path != new.path or (old.name != new.name and is_function(old.name) and is_function(new.name))
    if has_begun(run.folder) and has_moved:
        data = replace(old, path=new.path, name=new.name)
        same = replace(run.config, data=data, space=config.space, task=config.task)  # whose files may be moved too
        check_moved_data(Opened(run.folder, same))
    return continue_run(run, config)


def data_settings(name: str) -> list[Setting]:
    """The settings of a source by its name, a folder of images, a parquet file, or FILE.py:FUNCTION.

    Raises:
        ConfigError: it is nothing of these.
    """
    if name in NAMES or is_function(name):
        return [Setting("data.name", name)]
    if Path(name).exists():
        return [
            Setting("data.name", "parquet" if name.endswith(".parquet") else "folder"),
            Setting("data.path", name),
        ]
    raise ConfigError(
        f"data: no folder or file {name!r}, and no source of that name: expected a folder of images, a parquet file, "
        f"FILE.py:FUNCTION or one of {', '.join(NAMES)}"
    )
