"""Settings that follow from what images are like: the rules of the recipe `images`, as pure functions.

Ours. The constants are a start; experiments may set them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from supernet.data.sources import DataConfig
from supernet.data.survey import Survey
from supernet.program.config import Config
from supernet.spaces.references import scale_for

_SIZES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224)
"""Usual sizes of images, in pixels."""

_LEAST_SIZE = 16
"""No smaller size is taken to save time, unless the images are smaller: people hardly recognise what is on it."""

_PASSES = 15
"""Passes over the images that a training from scratch is to have; with fewer the images are made smaller."""

_WIDTHS = ((2_000, 8), (20_000, 16), (100_000, 24), (math.inf, 32))
"""The width of the space without limits, by the number of training images below which it is taken."""

_WIDE_ENOUGH = 8
"""With a limit of multiply-adds images are as large as this width of the space allows."""

_BATCHES = (64, 32, 16, 8, 4, 2)
"""Batch sizes."""

_STEPS = 8
"""Steps that a pass over the training images has at least, if a smaller batch makes it possible."""

_GHOST = 64
"""Examples of a ghost batch, or all of a smaller batch: with 32 a step of the one-shot model takes up to half longer
for as many images, and stand-alone networks have the batch statistics that people train them with."""

_ONE_SHOT = 2
"""By what factor a batch of the one-shot model is larger than that of a stand-alone network: as many architectures
share a step of the optimiser."""

_SMALLEST = 0.6
"""Share of the largest number of parameters that a candidate has at least: below that fewer are good ones."""

_VALIDATION = 5_000
"""Validation images are enough at this number: the standard error of an accuracy is then below one point."""

_SCORED = {"loss": 512, "metric": 2_048, "kl": 2_048}
"""Validation images that candidates are scored on at the most. By the loss on 2,048 they ranked no better than on 512
(docs/log.md); an accuracy on 512 has a standard error of two points."""

_UNEQUAL = 3
"""Classes are said to be unequal if the largest has more than this many times the images of the smallest."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """Settings that follow from the images.

    Attributes:
        settings: by their names.
        lines: for each what it is and why, and what else is to be known of the data.
    """

    settings: dict[str, Any]
    lines: tuple[str, ...]


def choose(
    images: Survey, config: Config, given: Collection[str], passes: Callable[[int], float] | None = None
) -> Chosen:
    """The settings for images.

    Args:
        images: what they are like.
        config: of the recipe, with the settings of the user.
        given: the names of the settings that the user gives: these stay.
        passes: passes over the images that a training from scratch has in the time that there is, by the size of the
            images in pixels; None if time does not matter.
    """
    train, validation = split_sizes(images, config.data)
    settings: dict[str, Any] = {}
    lines: list[str] = []

    def put(name: str, value: Any, reason: str) -> None:
        if name not in given:
            settings[name] = value
            lines.append(f"{name} {'null' if value is None else str(value).lower()}: {reason}")

    size, reason = image_size(images, config, passes)
    if config.data.image_size is not None:
        size = config.data.image_size
    put("data.image_size", size, reason)
    put("data.crop", crop(size), "an eighth of the size, for random crops")
    put("data.flip", *flip(images))
    put("data.validation", *_validation(images, train, validation))
    if config.space.name == "convnet" and "space.settings" not in given:
        put("space.settings.width", *width(images, config, size))
    if list(_limits(config)) == ["max_params"] and "space.settings.width" in settings:
        most = _limits(config)["max_params"]
        put("search.limits.min_params", round(_SMALLEST * most), "much smaller networks are rarely the best within")
    batch = batch_size(train)
    ghosts = _ONE_SHOT if batch == _BATCHES[0] else 1
    sizes = []
    for part, size_of_part in (("train", batch * ghosts), ("retrain.train", batch), ("analysis.train", batch)):
        if not {f"{part}.batch_size", f"{part}.ghost_size"} & set(given):
            settings |= {f"{part}.batch_size": size_of_part, f"{part}.ghost_size": min(_GHOST, batch)}
            sizes.append(f"{part}.batch_size {size_of_part}")
    if sizes:
        lines.append(
            f"{', '.join(sizes)}, with ghost_size {min(_GHOST, batch)}: {train:,} training images, for "
            f"{_STEPS} steps or more in a pass"
        )
    ghost = max(2, min(_GHOST, batch, validation))
    put("search.ghost_size", ghost, "as in training, and at most the validation images")
    most = _SCORED[config.search.score]
    put("search.examples", None if validation <= most else most, f"at most {most:,} validation images for each score")
    return Chosen(settings, (*lines, *balance(images)))


def split_sizes(images: Survey, config: DataConfig) -> tuple[int, int]:
    """About how many images the training and the validation split have.

    Args:
        images: what they are like.
        config: with the sizes that the user gives.
    """
    total = sum(images.counts)
    pool = total if images.own_test else total - round(config.test * (total + images.own_validation))
    if images.own_validation:
        train, validation = pool, images.own_validation
    else:
        validation = config.validation or min(max(1, pool // 5), _VALIDATION)
        train = pool - validation
    return min(train, config.train_examples or train), validation


def image_size(images: Survey, config: Config, passes: Callable[[int], float] | None) -> tuple[int, str]:
    """The size of the images in pixels, and why: the largest usual size up to the median shorter side that limits and
    time allow. Arguments as for `choose`."""
    usual = [size for size in _SIZES if size <= images.side] or [images.side]
    text = f"the largest usual size up to the median shorter side of {images.side}"
    allowed = [size for size in usual if _is_wide_enough(images, config, size)] or usual[:1]
    if len(allowed) < len(usual):
        text += f" at which max_macs leaves a width of {_WIDE_ENOUGH}"
    if passes is None:
        return allowed[-1], text
    small = [size for size in allowed if size <= _LEAST_SIZE]
    fast = [size for size in allowed if passes(size) >= _PASSES]
    if fast and fast[-1] >= min(_LEAST_SIZE, allowed[-1]):
        more = "" if fast[-1] == allowed[-1] else f" with {_PASSES} passes over the images in this time"
        return fast[-1], f"{text}{more} (about {passes(fast[-1]):.3g} passes for each training from scratch)"
    least = (small or allowed[:1])[-1]
    return least, f"not smaller, though time is short: about {passes(least):.2g} passes for each training from scratch"


def _is_wide_enough(images: Survey, config: Config, size: int) -> bool:
    limit = _limits(config).get("max_macs")
    if limit is None or config.space.name != "convnet":
        return True
    return scale_for(len(images.classes), (images.channels, size, size), max_macs=limit) >= _WIDE_ENOUGH


def crop(size: int) -> int:
    """Pixels of padding for random crops of images of this size: about an eighth."""
    return max(1, round(size / 8))


def flip(images: Survey) -> tuple[bool, str]:
    """Whether images are mirrored, and why."""
    if images.channels == 1:
        return False, "grey images are often signs or scans, which are not mirrored"
    if _are_signs(images.classes):
        return False, "the classes look like digits or letters, which are others when mirrored"
    return True, "colour images of things are alike when mirrored"


def _are_signs(names: Sequence[str]) -> bool:
    return all(name.strip().isdecimal() or len(name.strip()) == 1 for name in names)


def _validation(images: Survey, train: int, validation: int) -> tuple[int | None, str]:
    if images.own_validation:
        return None, f"the source has its own validation split of {validation:,} images"
    if validation < _VALIDATION:
        return None, f"a fifth of the images that are not for the test, {validation:,}"
    return _VALIDATION, f"enough to tell accuracies apart; a fifth would be {(train + validation) // 5:,}"


def width(images: Survey, config: Config, size: int) -> tuple[int, str]:
    """The width of the space, and why: from limits, else by the number of images."""
    limits = _limits(config)
    if limits:
        shape = (images.channels, size, size)
        return scale_for(len(images.classes), shape, **limits), (
            f"{' and '.join(limits)} in the middle of the sizes of its architectures"
        )
    train, _ = split_sizes(images, config.data)
    number = next(number for below, number in _WIDTHS if train < below)
    return number, f"for {train:,} training images and no limit of size; --max-params gives another"


def _limits(config: Config) -> dict[str, float]:
    """The largest number of parameters and of multiply-adds, as far as they are limited."""
    bounds = config.search.limits.bounds()
    ends = {f"max_{cost}": bounds[cost][1] for cost in ("params", "macs") if cost in bounds}
    return {name: value for name, value in ends.items() if value < math.inf}


def batch_size(images: int) -> int:
    """The size of a batch for a number of training images."""
    return next((size for size in _BATCHES if size * _STEPS <= images), _BATCHES[-1])


def balance(images: Survey) -> list[str]:
    """What unequal classes mean for an accuracy; nothing if they are about equal."""
    least, most = min(images.counts), max(images.counts)
    if most <= _UNEQUAL * least:
        return []
    small, large = (images.classes[images.counts.index(count)] for count in (least, most))
    share = most / sum(images.counts)
    return [
        f"classes are unequal: {least:,} images of {small!r}, {most:,} of {large!r}. Always naming {large!r} has an "
        f"accuracy of {share:.1%}, so accuracies count from there, and small classes hardly count: compare classes, or "
        "name a metric of your own (--task.metric FILE.py:FUNCTION)"
    ]
