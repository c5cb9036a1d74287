"""What a run folder holds, loaded: data, space, weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernet.base.files import read_json, read_weights, sha256, write_json
from supernet.base.own import digest_of, file_of, is_function
from supernet.data import splits as datasets
from supernet.data.splits import Data, batches, feed, joined
from supernet.data.task import Loss, TaskConfig, default_metric, loss_of, metric_of, with_metric
from supernet.export.reading import is_export, load_export
from supernet.program.config import Config, check_space, make_space, space_of
from supernet.program.folder import Opened, RunError, check_settings, has_begun, open_run, place_of_data, require
from supernet.program.paths import RunFolder
from supernet.program.trial import tried_space
from supernet.retrain.trainings import Lessons, read_network
from supernet.search.limits import LimitsConfig, region
from supernet.search.scoring import UNLABELLED
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.train.fit import TrainConfig

log = logging.getLogger(__name__)

_LEAST_STEPS = 8
"""Steps in a pass over the examples, at the least, with the sizes of batches that a message advises."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A run with its data and its space: what the steps work on, loaded once in a command."""

    folder: RunFolder
    config: Config
    data: Data
    space: Space


def load_run(run: Opened, data: Data | None = None, *, compare: bool = True) -> Loaded:
    """Loads the data of a run and makes its space, both checked against what the folder has recorded of them.

    The first call records them, and so does each one after it until a step has begun. What steps 3 and 4 would refuse
    is refused here, before step 2.

    Args:
        run: the run.
        data: its data, if they are loaded already.
        compare: whether the one-shot model of a new run is compared with stand-alone networks, which takes a while.

    Raises:
        RunError: data or files of the user have changed since the folder was made.
        ValueError: a setting does not fit the data.
    """
    folder, config = run.folder, run.config
    check_settings(run)
    data = datasets.load(config.data, seed=config.seed) if data is None else data
    facts = _facts(run, data)
    # What a failed first try has recorded must not stand in the way of the second.
    is_new = not (folder.data.exists() and has_begun(folder))
    if is_new:
        log.info("data: %s", data.summary)
    else:
        _check_unchanged(run, facts)
    if config.task.metric is None:
        config = replace(config, task=with_metric(config.task, data.train.targets))
    check_lengths(config, data)
    if folder.candidates.exists():
        space = check_space(config, len(data.classes), data.inputs)
    else:  # until then the metric may change
        space = tried_space(config, data, check=is_new and compare)
    if run.config.task.metric is None:
        log.info("task.metric: %s, by the loss and the targets", config.task.metric)
    if is_new:
        _check_limits(config.search.limits, space)
        write_json(folder.data, facts, digest=True)
    elif read_json(folder.data)["files"] != facts["files"]:
        write_json(folder.data, {**read_json(folder.data), "files": facts["files"]}, digest=True)
    return Loaded(folder, config, data, space)


def check_lengths(config: Config, data: Data) -> None:
    """Whether there are enough examples for each batch and for a score.

    Raises:
        ValueError: there are too few; the message has all options that have to be lower, with values that fit.
    """
    examples, number = len(data.train), _scored(config, data)
    trainings = {"retrain.train": config.retrain.train}
    if config.search.score != "none":
        trainings = {"train": config.train, **trainings}
    too_few, options = [], []
    for part, train in trainings.items():
        if train.batch_size > examples:
            batch = _power_of_two(examples // _LEAST_STEPS)
            ghost = train.ghost_size if batch % train.ghost_size == 0 else batch
            too_few.append(f"{examples:,} training examples for {part}.batch_size {train.batch_size:,}")
            options += [f"--{part}.batch_size {batch}", f"--{part}.ghost_size {ghost}"]
    if number < config.search.ghost_size:
        too_few.append(f"{number:,} examples to score on for search.ghost_size {config.search.ghost_size:,}")
        options.append(f"--search.ghost_size {max(2, _power_of_two(number))}")
    if too_few:
        more = "; or raise search.examples or data.validation" if number < config.search.ghost_size else ""
        raise RunError(f"too few examples: {'; '.join(too_few)}. These options fit: {' '.join(options)}{more}")


def _scored(config: Config, data: Data) -> int:
    """Examples that a score is taken on, at the most."""
    is_unlabelled = config.search.score == "kl"
    available = len(data.train if is_unlabelled else data.validation)
    return min(available, config.search.examples or (UNLABELLED if is_unlabelled else available))


def _power_of_two(most: int) -> int:
    """The largest power of two up to a number; 1 for numbers below."""
    return 1 << max(0, most.bit_length() - 1)


def check_moved_data(run: Opened) -> None:
    """Checks that data at another path are those that the run was made with.

    Args:
        run: with the new path in its configuration.

    Raises:
        RunError: they are not.
    """
    _check_unchanged(run, _facts(run, datasets.load(run.config.data, seed=run.config.seed)))


def _facts(run: Opened, data: Data) -> dict[str, Any]:
    """What a run folder records of its data and of the user's files."""
    config = run.config
    functions = (config.space.name, config.task.loss, config.task.metric or "")
    return {
        "summary": data.summary,
        "place": place_of_data(run.folder, config),
        "examples": {"train": len(data.train), "validation": len(data.validation)},
        "hashes": data.hashes,
        "classes": list(data.classes),
        "counts": {
            name: torch.bincount(split.targets, minlength=len(data.classes)).tolist() if data.classes else []
            for name, split in (("train", data.train), ("validation", data.validation))
        },
        "inputs": data.inputs,
        "mean": list(data.mean),
        "std": list(data.std),
        "metric": default_metric(config.task.loss, data.train.targets),
        "files": {str(file_of(name)): digest_of(name) for name in functions if is_function(name)},
        "weights": _digest_of_weights(config.space.weights),
    }


def _digest_of_weights(path: str | None) -> str | None:
    """SHA-256 of the file that the one-shot model starts from, if there is one."""
    return None if path is None or not Path(path).is_file() else sha256(Path(path))


def _check_unchanged(run: Opened, facts: dict[str, Any]) -> None:
    recorded = read_json(run.folder.data, ("hashes", "files"))
    if recorded["hashes"] != facts["hashes"]:
        place = run.config.data.path or run.config.data.name
        raise RunError(
            f"the data at {place} are not those that {run.folder} was made with: put them back as they were, set "
            "data.path to where they are now, or choose another folder"
        )
    if recorded.get("weights") != facts["weights"] and not run.folder.one_shot.exists():
        raise RunError(
            f"{run.config.space.weights} is not the file of weights that {run.folder} was made with: put it back as it "
            "was, or choose another folder"
        )
    digests = recorded["files"].values()  # a file may have been moved
    changed = [file for file, digest in facts["files"].items() if digest not in digests]
    hint = ""
    if not run.folder.candidates.exists():
        changed = [file for file in changed if not _is_of_metric_alone(run.config, file)]
        hint = "; a metric may change before the search: put it into a file of its own and set task.metric to it"
    if changed:
        raise RunError(
            f"{changed[0]} has changed since {run.folder} was made: put it back as it was, or choose another "
            f"folder{hint}"
        )


def _is_of_metric_alone(config: Config, file: str) -> bool:
    """Whether a file of the user holds the metric, and neither the network nor the loss."""
    others = {str(file_of(name)) for name in (config.space.name, config.task.loss) if is_function(name)}
    return file not in others


def load_one_shot(run: Loaded) -> OneShot:
    """The trained one-shot model of a run.

    Raises:
        RunError: it is not trained yet.
        ValueError: the weights are damaged or do not fit.
    """
    if run.config.search.score == "none" and not run.folder.one_shot.exists():
        raise RunError(f"{run.folder} has no one-shot model: it was searched with search.score none")
    weights = require(run.folder, "train")
    model = build(run.space, seed=0)
    assert isinstance(model, OneShot)
    read_weights(weights, model)
    return model


def space_of_run(run: Opened) -> Space:
    """The space of the one-shot model of a run, without the run's data.

    Raises:
        RunError: nothing has been done in the folder.
    """
    if not run.folder.data.exists():
        raise RunError(f"{run.folder} has no step that is done: run `supernet train {run.folder}` first")
    facts = read_json(run.folder.data, ("classes", "inputs"))
    return make_space(run.config.space, len(facts["classes"]), facts["inputs"])


def load(folder: str | Path, rank: int | None = None) -> nn.Module:
    """A retrained network of a finished run, as an ordinary module with its weights, in evaluation mode.

    Args:
        folder: the run folder; or that of an export, which holds one network.
        rank: 1 is the best candidate by validation accuracy; None: the network that is offered, which is this one or
            the reference where the reference is as good. The first training's weights are taken.

    Raises:
        RunError: the run is not finished, or has no such rank.
    """
    if is_export(Path(folder)):
        return load_export(Path(folder))
    run = open_run(Path(folder))
    return load_finalist(run, finalist(run.folder, rank))


def load_finalist(run: Opened, row: dict[str, Any]) -> nn.Module:
    """The network of a row of `results.json`, with the weights of its first training, in evaluation mode."""
    facts = read_json(run.folder.data, ("classes", "inputs"))
    space = space_of(row, run.config, facts["classes"], facts["inputs"])
    return read_network(space, space.parse(row["architecture"]), run.folder.trained(row))


def read_networks(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of `results.json` of a finished run, one for each network that was trained from scratch.

    Raises:
        RunError: the run is not finished.
        ValueError: the file is damaged.
    """
    networks: list[dict[str, Any]] = read_json(require(folder, "retrain"), ("networks",))["networks"]
    return networks


def finalist(folder: RunFolder, rank: int | None) -> dict[str, Any]:
    """The row of `results.json` of the finalist of this rank; None: that of the network that is offered.

    Offered is the best candidate, or the reference where that is as good. Earlier versions offer rank 1.

    Raises:
        RunError: the run is not finished, or has no such rank; the message says which there are.
    """
    if rank is None:
        offered = read_json(require(folder, "retrain")).get("offered")
        return next((row for row in read_networks(folder) if row["id"] == offered), None) or finalist(folder, 1)
    ranks = {row["rank"]: row for row in read_networks(folder) if "rank" in row}
    if rank not in ranks:
        raise RunError(f"rank: expected from 1 to {len(ranks)}, got {rank}")
    return ranks[rank]


def check_limits(run: Opened, limits: LimitsConfig) -> None:
    """Whether any architecture meets new limits of a run, as far as that is known without measuring.

    Raises:
        LimitsError: none does; the message names the smallest or largest possible.
    """
    _check_limits(limits, space_of_run(run))


def _check_limits(limits: LimitsConfig, space: Space) -> None:
    """Checks the limits that are known without measuring: before step 2 and not after it."""
    computed = limits.computed()
    if computed.bounds():
        region(cost_table(space), computed)


def lessons_of(
    config: Config, data: Data, settings: TrainConfig, device: torch.device, *, with_validation: bool = False
) -> Lessons:
    """What stand-alone networks learn on a device. It can be sent to workers, without the test split.

    Args:
        config, data: of the run.
        settings: of the trainings.
        device: of the batches.
        with_validation: whether they learn from the validation split too, and have no validation metric then.
    """
    split = joined([data.train, data.validation]) if with_validation else data.train
    return Lessons(
        feed=lambda seed: feed(split, data, config.data, batch_size=settings.batch_size, seed=seed, device=device),
        steps=settings.total_steps(len(split)),
        validation=None if with_validation else lambda: batches(data.validation, data, device=device),
        loss=loss_of_fit(config.task),
        metric=metric_of(config.task),
    )


def loss_of_fit(config: TaskConfig) -> Loss | None:
    """The `loss_function` of `fit`."""
    return None if config.loss == "cross-entropy" else loss_of(config)  # None: with the training's label smoothing
