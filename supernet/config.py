"""The whole configuration of a run: one frozen dataclass made of the parts, and its YAML form."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from supernet.data import DataConfig
from supernet.paths import PathsConfig
from supernet.retrain import RetrainConfig
from supernet.runtime import RuntimeConfig
from supernet.search import SearchConfig
from supernet.space import Space
from supernet.spaces import SPACES
from supernet.train import TrainConfig


class ConfigError(ValueError):
    """A setting that does not exist or does not fit; the message names it and the nearest that does."""


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which space; its number of classes and its input shape come from the data."""

    name: str = "bender"
    """One of the names that `supernet spaces` lists."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the space, for instance {filters: 16, cells: 6}."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of a run, and where it is computed."""

    seed: int = 0
    """All random numbers follow from it."""

    data: DataConfig = field(default_factory=DataConfig)
    """The images."""

    space: SpaceConfig = field(default_factory=SpaceConfig)
    """Step 1."""

    paths: PathsConfig = field(default_factory=PathsConfig)
    """What is live while the one-shot model trains."""

    train: TrainConfig = field(default_factory=TrainConfig)
    """Step 2."""

    search: SearchConfig = field(default_factory=SearchConfig)
    """Step 3."""

    retrain: RetrainConfig = field(default_factory=RetrainConfig)
    """Step 4."""

    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Device, precision, processes."""


def make_space(
    config: SpaceConfig, num_classes: int, input_shape: tuple[int, ...], changes: dict[str, Any] | None = None
) -> Space:
    """The space for a data set.

    Args:
        config: name and settings.
        num_classes: number of classes.
        input_shape: (C, H, W) of an image.
        changes: settings that replace those of `config`.

    Raises:
        ConfigError: no such space, or no such setting.
        ValueError: a setting's value does not fit.
    """
    check_name(config.name, SPACES, "space.name")
    make = SPACES[config.name]
    settings = {**config.settings, **(changes or {})}
    allowed = [name for name in inspect.signature(make).parameters if name not in ("num_classes", "input_shape")]
    for name in settings:
        check_name(name, allowed, f"a setting of space {config.name!r}")
    return make(**settings, num_classes=num_classes, input_shape=input_shape)


def check_name(name: str, known: Iterable[str], what: str) -> None:
    """Refuses an unknown name.

    Raises:
        ConfigError: names the nearest that is known.
    """
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"{what}: no {name!r}; {hint}there are: {', '.join(names)}")


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of ``dataclasses.asdict``.

    Raises:
        ConfigError: an unknown setting, with the nearest known.
    """
    retrain = dict(values.get("retrain", {}))
    if "train" in retrain:
        retrain["train"] = _make(TrainConfig, retrain["train"], "retrain.train.")
    parts = {
        "data": DataConfig,
        "space": SpaceConfig,
        "paths": PathsConfig,
        "train": TrainConfig,
        "search": SearchConfig,
        "runtime": RuntimeConfig,
    }
    made = {name: _make(kind, values[name], f"{name}.") for name, kind in parts.items() if name in values}
    if retrain:
        made["retrain"] = _make(RetrainConfig, retrain, "retrain.")
    return Config(**_known(Config, {**values, **made}, ""))


def _make(kind: Any, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.')}: expected settings by name, got {values!r}")
    known = _known(kind, values, prefix)
    try:
        return kind(**known)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{prefix}{error}") from None


def _known(kind: Any, values: dict[str, Any], prefix: str) -> dict[str, Any]:
    for name in values:
        check_name(f"{prefix}{name}", [prefix + f.name for f in dataclasses.fields(kind)], "setting")
    return values


def to_yaml(config: Config) -> str:
    """Every setting with its value, as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)


def read_yaml(path: Path) -> Config:
    """Reads a configuration.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or holds an unknown setting.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: no configuration ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings by name, got {type(values).__name__}")
    return from_dict(values)


def differences(here: Config, asked: Config) -> list[str]:
    """Settings in which two configurations differ, one text each."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in values.items():
            result.update(flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
        return result

    old, new = flat(dataclasses.asdict(here)), flat(dataclasses.asdict(asked))
    names = dict.fromkeys((*old, *new))
    return [f"{n}: {old.get(n)} there, {new.get(n)} asked for" for n in names if old.get(n) != new.get(n)]
