"""What images are like, before they are brought to one size: how many, how large, of which classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import numpy as np

from supernet.data.folders import Listing, list_classes
from supernet.data.images import FORMATS, DataError
from supernet.data.sources import DataConfig, check, place_of, read

_OPENED = 500
"""Files of a folder of which the size is read, spread evenly over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What images are like.

    Attributes:
        classes: their names.
        counts: images of each class, without those of the source's own validation and test split.
        side: median of the shorter side, in pixels; of a folder that of 500 files spread over it.
        channels: 1 if those images are all grey, else 3.
        own_validation, own_test: images in splits that the source has itself.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    side: int
    channels: int
    own_validation: int = 0
    own_test: int = 0


def survey(config: DataConfig) -> Survey:
    """Looks at a source of images; of a folder the files are listed, and some are opened but not decoded.

    Raises:
        DataError: as `supernet.data.sources.read`; or the examples are not images with classes.
    """
    check(config)
    if config.name == "folder":
        return _of_folder(list_classes(place_of(config)))
    source = read(config)
    if not source.is_images or not source.classes:
        raise DataError(
            "expected images with classes, one array of bytes [N, C, H, W] and whole numbers from 0, got "
            f"{'images without classes' if source.is_images else 'other examples'}: take another recipe, such as "
            "own-network"
        )
    own = source.own_test + source.own_validation
    labels = source.targets[: len(source.targets) - own].numpy()
    return Survey(
        classes=source.classes,
        counts=tuple(np.bincount(labels, minlength=len(source.classes)).tolist()),
        side=min(source.examples.shape[2:]),
        channels=source.examples.shape[1],
        own_validation=source.own_validation,
        own_test=source.own_test,
    )


def _of_folder(listing: Listing) -> Survey:
    own = listing.own_validation + listing.own_test
    labels = np.asarray(listing.labels[: len(listing.labels) - own])
    step = max(1, len(listing.files) // _OPENED)
    forms = [form for file in listing.files[::step] if (form := _side_and_channels(file)) is not None]
    if not forms:
        raise DataError(f"none of {len(listing.files[::step]):,} images can be opened, such as {listing.files[0]}")
    return Survey(
        classes=listing.classes,
        counts=tuple(np.bincount(labels, minlength=len(listing.classes)).tolist()),
        side=median_low([side for side, _ in forms]),
        channels=max(channels for _, channels in forms),
        own_validation=listing.own_validation,
        own_test=listing.own_test,
    )


def _side_and_channels(file: Path) -> tuple[int, int] | None:
    """The shorter side of an image and its channels; None if it cannot be opened, which `load` says."""
    from PIL import Image

    Image.init()
    try:
        with Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
            return min(image.size), 1 if image.mode in ("L", "LA", "1") else 3
    except Exception:  # decoders raise many types, some of their own
        return None
