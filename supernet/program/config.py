"""The whole configuration of a run: one frozen dataclass made of the parts, and its YAML form."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from supernet.base.own import OwnFunction, file_of, is_function, is_own_function, load_function, users_code
from supernet.base.trees import zeros
from supernet.data.sources import DataConfig
from supernet.data.sources import check as check_data
from supernet.data.task import TaskConfig, loss_of, metric_of
from supernet.program.settings import (
    ConfigError,
    argument_hints,
    check_name,
    check_settings,
    check_value,
    dataclass_of,
    read_settings,
)
from supernet.retrain.trainings import RetrainConfig
from supernet.search import strategies
from supernet.search.config import SearchConfig
from supernet.space.choices import ArchitectureError, Space
from supernet.space.elastic import elastic
from supernet.space.model import from_network
from supernet.spaces import SPACES
from supernet.spaces.references import REFERENCES
from supernet.speed.runtime import RuntimeConfig
from supernet.train.fit import TrainConfig
from supernet.train.paths import PathsConfig
from supernet.trust.probes import AnalysisConfig


@dataclass(frozen=True, kw_only=True)
class SpaceConfig:
    """Which space; its number of classes and its input shape come from the data."""

    name: str = "bender"
    """One of the names that `supernet spaces` lists, or FILE.py:FUNCTION, which returns your network with choices."""

    settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the space or the function, for instance {filters: 16, cells: 6}."""

    elastic: bool = False
    """Whether choices are made for your network, which then needs none in its code: widths, depths and heads."""

    elastic_settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of `supernet.elastic`: widths, depths, kernels, only, skip, for instance {skip: [head]}."""

    weights: str | None = None
    """File of weights of your network, .safetensors or a state dict, from which the one-shot model is trained on, with
    its channels in the order of their importance; null: new weights."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides the result of a run, and where it is computed."""

    seed: int = 0
    """All random numbers follow from it."""

    data: DataConfig = field(default_factory=DataConfig)
    """The examples."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """What is learned."""

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

    analysis: AnalysisConfig = field(default_factory=AnalysisConfig)
    """What the ranking is worth: `supernet analyze`."""

    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    """Device, precision, processes."""


def make_space(
    config: SpaceConfig,
    num_classes: int,
    inputs: Any,
    changes: dict[str, Any] | None = None,
    *,
    check: bool = False,
) -> Space:
    """The space for a data set.

    Args:
        config: name and settings.
        num_classes: number of classes; 0 if the targets are not classes.
        inputs: types and shapes of an example, as `supernet.base.trees.describe` tells them.
        changes: settings that replace those of `config`.
        check: whether to try the shapes of a user's network.

    Raises:
        ConfigError: no such space, or no such setting, or a value of another type.
        ValueError: a setting's value does not fit, or the user's network does not do with this data.
    """
    make = _maker(config.name)
    is_own = config.name not in SPACES
    if config.elastic and not is_own:
        raise ConfigError(f"space.elastic: {config.name!r} has choices already: it is for networks of your own")
    if config.weights is not None and not is_own:
        raise ConfigError(f"space.weights: {config.name!r} starts with new weights: it is for networks of your own")
    if config.elastic_settings and not config.elastic:
        raise ConfigError("space.elastic_settings: expected none without space.elastic (--elastic)")
    settings = {**config.settings, **(changes or {})}
    example = zeros(inputs, 2)
    shape = tuple(example.shape[1:]) if isinstance(example, Tensor) else ()
    from_data = {"num_classes": num_classes, "input_shape": shape}
    parameters = inspect.signature(make).parameters
    allowed = [name for name in parameters if name not in from_data]
    hints = argument_hints(make)
    for name, value in settings.items():
        if name in from_data:
            raise ConfigError(f"space.settings.{name}: comes from the data, leave it out")
        check_name(name, allowed, f"setting of space {config.name!r}")
        settings[name] = check_value(f"space.settings.{name}", value, hints.get(name, Any))
    if is_own:
        arguments = {**settings, **{name: value for name, value in from_data.items() if name in parameters}}
        name = getattr(make, "__name__", "network")
        with users_code(file_of(config.name)) if is_function(config.name) else nullcontext():
            if config.elastic:
                rules = _elastic_rules(config.elastic_settings)
                return elastic(partial(make, **arguments), example, name=name, settings=arguments, **rules)
            return from_network(partial(make, **arguments), example, name=name, settings=arguments, check=check)
    if len(shape) != 3:
        raise ConfigError(
            f"space.name: {config.name!r} is for images; the data has {inputs}: name a network of your own"
        )
    if not num_classes:
        raise ConfigError(f"space.name: {config.name!r} needs classes 0, 1, ... as targets: name a network of your own")
    space: Space = make(**settings, **from_data)
    return space


_ELASTIC: dict[str, Any] = {
    "widths": list[float], "depths": float, "kernels": list[int], "only": list[str], "skip": list[str],
}  # fmt: skip
"""Settings of `supernet.elastic` and their types."""


def _elastic_rules(settings: Mapping[str, Any]) -> dict[str, Any]:
    for name in settings:
        check_name(name, _ELASTIC, "setting of space.elastic_settings")
    return {name: check_value(f"space.elastic_settings.{name}", v, _ELASTIC[name]) for name, v in settings.items()}


def _maker(name: str) -> Callable[..., Any]:
    """The function that makes a space or a network."""
    if isinstance(name, OwnFunction):
        return name.function
    if is_own_function(name):
        raise ConfigError(
            f"space.name: {name} is a function that was given in Python: continue there, with supernet.run(FUNCTION, "
            "...) or supernet.Run(DIR, FUNCTION)"
        )
    if is_function(name):
        return load_function(name)
    check_name(name, SPACES, "space.name")
    return SPACES[name]


def retrained_space(config: Config, classes: Sequence[Any], inputs: Any) -> Space:
    """The space at the size at which finalists are trained from scratch.

    Args:
        config: of the run.
        classes: names of the classes.
        inputs: as for `make_space`.
    """
    return make_space(config.space, len(classes), inputs, config.retrain.space)


def space_of(row: Mapping[str, Any], config: Config, classes: Sequence[Any], inputs: Any) -> Space:
    """The space of a network of `results.json`: a known network has a space of its own.

    Args:
        row: of the network.
        config, classes, inputs: as for `retrained_space`.
    """
    if "space" in row:
        return make_space(SpaceConfig(**row["space"]), len(classes), inputs)
    return retrained_space(config, classes, inputs)


def check_config(config: Config, *, runs_files: bool = True) -> None:
    """Finds without the data, before any work, what the steps would refuse later.

    Args:
        config: of the run.
        runs_files: whether files of the user may be run, which functions are in; otherwise these are not looked at.

    Raises:
        ValueError: a setting does not fit.
    """
    check_data(config.data)
    if runs_files or not is_function(config.task.loss):
        loss_of(config.task)
    if config.task.metric is not None and (runs_files or not is_function(config.task.metric)):
        metric_of(config.task)
    try:
        if runs_files or not is_function(config.search.strategy):
            strategies.check(config.search.strategy, config.search.strategy_settings)
    except ValueError as error:
        raise ConfigError(f"search.{error}") from None
    for part, train in (
        ("train", config.train),
        ("retrain.train", config.retrain.train),
        ("analysis.train", config.analysis.train),
    ):
        if train.label_smoothing and config.task.loss != "cross-entropy":
            raise ConfigError(f"{part}.label_smoothing: expected 0 with task.loss {config.task.loss}")
        if part == "train" and config.paths.distill and config.task.loss != "cross-entropy":
            raise ConfigError(f"paths.distill: expected 0 with task.loss {config.task.loss}: it compares classes")
        if train.average and part != "train":
            raise ConfigError(f"{part}.average: expected 0, weights are averaged of the one-shot model only")
    if config.retrain.start == "inherited" and config.search.score == "none":
        raise ConfigError("retrain.start: expected scratch with search.score none, which trains no one-shot model")
    if config.retrain.heats and (len(config.search.sought) > 1 or config.search.bands > 1):
        raise ConfigError(
            f"retrain.heats: {config.retrain.heats} heats choose by the metric alone, against the sense of several "
            "objectives and of search.bands: set retrain.heats to 0, and search.top to how many are trained in full"
        )
    if config.space.name not in SPACES:
        if not runs_files and is_function(config.space.name):
            return
        _maker(config.space.name)  # what its network takes is only known with the data
    else:  # the choices of a space, and with them its size, do not depend on the classes and the pixels
        check_space(config, 10, "float32 3 32 32")


def check_space(config: Config, num_classes: int, inputs: Any, *, check: bool = False) -> Space:
    """The space of a configuration, checked with its settings of search and retrain; arguments as for `make_space`.

    Raises:
        ValueError: as `make_space`, or a setting does not fit the space.
    """
    space = make_space(config.space, num_classes, inputs, check=check)
    if config.search.candidates is not None and config.search.candidates > space.size:
        raise ConfigError(
            f"search.candidates: expected at most {space.size:,}, the whole space, got {config.search.candidates:,}"
        )
    if config.retrain.space:
        resized("retrain.space", space, config.space, num_classes, inputs, config.retrain.space, check=check)
    for setting, values in config.retrain.at.items():
        for value in values:
            at_size("retrain.at", setting, value, space, config, num_classes, inputs, check=check)
    for name in config.retrain.references or ():
        _check_reference(name, space, num_classes, inputs)
    return space


def _check_reference(name: str, space: Space, num_classes: int, inputs: Any) -> None:
    """Refuses a reference that is neither a known network that fits the data nor an architecture of the space."""
    if name in REFERENCES:
        if not num_classes or not _is_image(zeros(inputs, 1)):
            raise ConfigError(
                f"retrain.references: {name!r} classifies images, and the data has {inputs}, {num_classes} classes: "
                "name an architecture of your space as text, or [] for none"
            )
        return
    try:
        space.parse(name)
    except ArchitectureError as error:
        if "=" not in name:
            check_name(name, REFERENCES, "retrain.references")
        raise ConfigError(f"retrain.references: {error}; known networks are {', '.join(REFERENCES)}") from None


def _is_image(example: Any) -> bool:
    return isinstance(example, Tensor) and example.ndim == 4


def resized(
    what: str,
    space: Space,
    config: SpaceConfig,
    num_classes: int,
    inputs: Any,
    changes: dict[str, Any],
    *,
    check: bool = False,
) -> Space:
    """The space at another size, so that its architectures are the same.

    Args:
        what: asks for it, for the message.
        space: as it is.
        config, num_classes, inputs, changes, check: as for `make_space`.

    Raises:
        ConfigError: the changes change the choices too.
        ValueError: as `make_space`.
    """
    again = make_space(config, num_classes, inputs, changes, check=check)
    if again.choices != space.choices:
        raise ConfigError(f"{what}: expected settings that leave the choices as they are (like filters or cells)")
    return again


def at_size(
    what: str,
    setting: str,
    value: Any,
    space: Space,
    config: Config,
    num_classes: int,
    inputs: Any,
    *,
    check: bool = False,
) -> Space:
    """The space of the stand-alone networks with another value of one of its settings.

    Args:
        what: asks for it, for the message.
        setting, value: what is other.
        space: of the run.
        config, num_classes, inputs: as for `retrained_space`.
        check: as for `make_space`.

    Raises:
        ValueError: as `resized`.
    """
    changes = {**config.retrain.space, setting: value}
    return resized(f"{what} {setting}={value}", space, config.space, num_classes, inputs, changes, check=check)


def from_dict(values: Any) -> Config:
    """The inverse of ``dataclasses.asdict``; settings that are left out have their defaults.

    Raises:
        ConfigError: an unknown setting, with the nearest known, or a value that does not fit.
    """
    config: Config = dataclass_of(check_settings(values, Config), Config)
    return config


def to_yaml(config: Config) -> str:
    """Every setting with its value, as YAML."""
    settings = dataclasses.asdict(config)
    settings["space"]["name"] = str(config.space.name)  # without the function that it may carry
    return yaml.safe_dump(settings, sort_keys=False)


def digest_of_tested(config: Config) -> str:
    """SHA-256 of all settings that decide what is tested: without `runtime`, `analysis`, and where the data lie."""
    decides = dataclasses.replace(
        config,
        runtime=RuntimeConfig(),
        analysis=AnalysisConfig(),
        data=dataclasses.replace(config.data, path=None, cache=None),
    )
    return hashlib.sha256(to_yaml(decides).encode()).hexdigest()


def read_yaml(path: Path) -> Config:
    """Reads a configuration.

    Raises:
        ConfigError: as `read_settings`, or values that do not fit each other.
    """
    values = read_settings(path, Config)
    try:
        return from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def flat(config: Config) -> dict[str, Any]:
    """Every setting by its dotted name; those inside of dicts too."""

    def entries(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, value in values.items():
            if isinstance(value, dict):
                yield from entries(value, f"{prefix}{name}.")
            else:
                yield prefix + name, value

    return dict(entries(dataclasses.asdict(config), ""))


def differences(here: Config, asked: Config) -> list[str]:
    """Settings in which two configurations differ, one text each."""
    old, new = flat(here), flat(asked)
    names = dict.fromkeys((*old, *new))
    return [f"{n}: {old.get(n)} there, {new.get(n)} asked for" for n in names if old.get(n) != new.get(n)]
