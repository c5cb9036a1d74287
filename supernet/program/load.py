"""What a run folder holds, loaded: configuration, data, space, weights."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from torch import nn

from supernet.base.files import read_json, read_weights, write_json
from supernet.base.own import digest_of, file_of, is_function
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.data.task import Loss, TaskConfig, loss_of
from supernet.export.reading import load_export
from supernet.program.config import Config, check_space, make_space, retrained_space
from supernet.program.folder import RunError, open_run, require
from supernet.retrain.trainings import read_network
from supernet.search.limits import LimitsConfig, region
from supernet.search.scoring import UNLABELLED
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.space.model import OneShot, build


def load_run(folder: Path) -> tuple[Config, Data, Space]:
    """The configuration of a run, its data and its space, checked against what the folder has recorded of them."""
    config = open_run(folder)
    data = datasets.load(config.data, seed=config.seed)
    functions = (config.space.name, config.task.loss, config.task.metric)
    files = {str(file_of(name)): digest_of(name) for name in functions if is_function(name)}
    facts = {
        "examples": {"train": len(data.train), "validation": len(data.validation)},
        "hashes": data.hashes,
        "classes": list(data.classes),
        "inputs": data.inputs,
        "mean": list(data.mean),
        "std": list(data.std),
        "files": files,
    }
    path = folder / "data.json"
    known = read_json(path, ("hashes", "files")) if path.exists() else facts
    if known["hashes"] != facts["hashes"]:
        raise RunError(f"the data at {config.data.path or config.data.name} has changed since {folder} was made")
    if changed := [file for file, digest in files.items() if known["files"].get(file) != digest]:
        raise RunError(
            f"{changed[0]} has changed since {folder} was made: put it back as it was, or choose another folder"
        )
    # What step 4 or 3 would refuse is refused before step 2.
    config.retrain.train.total_steps(len(data.train))
    available, usual = (data.train, UNLABELLED) if config.search.score == "kl" else (data.validation, math.inf)
    number = min(len(available), config.search.examples or usual)
    if number < config.search.ghost_size:
        raise RunError(
            f"{number} examples to score on are too few for search.ghost_size {config.search.ghost_size}: lower it, or "
            "raise search.examples or data.validation"
        )
    space = check_space(config, len(data.classes), data.inputs, check=not path.exists())
    if not path.exists():
        _check_limits(config.search.limits, space)
        write_json(path, facts)
    return config, data, space


def load_one_shot(folder: Path) -> tuple[OneShot, Config, Data]:
    """The trained one-shot model of a run, its configuration and its data.

    Raises:
        RunError: it is not trained yet.
        ValueError: the weights are damaged or do not fit.
    """
    config, data, space = load_run(folder)
    weights = require(folder, "train")
    model = build(space, seed=0)
    assert isinstance(model, OneShot)
    read_weights(weights, model)
    return model, config, data


def space_of_run(folder: Path) -> tuple[Config, Space]:
    """The configuration of a run and the space of its one-shot model, without its data.

    Raises:
        RunError: no run folder, or nothing has been done in it.
    """
    config = open_run(folder)
    if not (folder / "data.json").exists():
        raise RunError(f"{folder} has no step that is done: run `supernet train {folder}` first")
    known = read_json(folder / "data.json", ("classes", "inputs"))
    return config, make_space(config.space, len(known["classes"]), known["inputs"])


def load(folder: str | Path, rank: int = 1) -> nn.Module:
    """A retrained network of a finished run, as an ordinary module with its weights, in evaluation mode.

    Args:
        folder: the run folder; or that of an export, which holds one network.
        rank: 1 is the best by validation accuracy. The first repeat's weights are taken.

    Raises:
        RunError: the run is not finished, or has no such rank.
    """
    folder = Path(folder)
    if (folder / "export.json").is_file():
        return load_export(folder)
    config = open_run(folder)
    row = finalist(folder, rank)
    known = read_json(folder / "data.json")
    space = retrained_space(config, known["classes"], known["inputs"])
    return read_network(space, space.parse(row["architecture"]), folder / "retrain")


def read_networks(folder: Path) -> list[dict[str, Any]]:
    """What `results.json` of a finished run says of each network that was trained from scratch.

    Raises:
        RunError: the run is not finished.
        ValueError: the file is damaged.
    """
    networks: list[dict[str, Any]] = read_json(require(folder, "retrain"), ("networks",))["networks"]
    return networks


def finalist(folder: Path, rank: int) -> dict[str, Any]:
    """What `results.json` says of the finalist of this rank.

    Raises:
        RunError: the run is not finished, or has no such rank; the message says which there are.
    """
    ranks = {row["rank"]: row for row in read_networks(folder) if "rank" in row}
    if rank not in ranks:
        raise RunError(f"rank: expected from 1 to {len(ranks)}, got {rank}")
    return ranks[rank]


def check_limits(folder: Path, config: Config) -> None:
    """Whether anything meets the limits of a new configuration of a run, as far as that is known without measuring.

    Raises:
        LimitsError: nothing does; the message names the smallest or largest possible.
    """
    known = read_json(folder / "data.json", ("classes", "inputs"))
    _check_limits(config.search.limits, make_space(config.space, len(known["classes"]), known["inputs"]))


def _check_limits(limits: LimitsConfig, space: Space) -> None:
    """Whether anything meets the limits that are known without measuring: before step 2 and not after it."""
    here = dataclasses.replace(limits, max_latency=None, min_latency=None, max_memory=None, min_memory=None)
    if here.bounds():
        region(cost_table(space), here)


def loss_of_fit(config: TaskConfig) -> Loss | None:
    """The `loss_function` of `fit`."""
    return None if config.loss == "cross-entropy" else loss_of(config)  # None: with the training's label smoothing
