"""Racing: which candidates to score on more images, and which are out.

Ours; the paper scores every candidate on the whole validation split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

FIRST = 64
"""Images of the first stage."""

GROWTH = 2
"""Each stage has so many times the images of the one before, those among them."""


def stages(images: int, ghost_size: int) -> list[int]:
    """Numbers of images, each a multiple of the ghost size, up to all of them."""
    found = []
    number = max(1, FIRST // ghost_size) * ghost_size
    while number * 2 <= images:
        found.append(number)
        number *= GROWTH
    return [*found, images]


def survivors(
    right_CN: NDArray[np.bool_], images: int, keep: int, lose: float, bonus_C: NDArray[np.float64] | None = None
) -> NDArray[np.bool_]:
    """Who stays in the race.

    A candidate's accuracy on all images is taken to be normal around what was seen of it, drawn to the mean of all
    candidates as far as its differences may be chance (empirical Bayes). Those who are least likely to reach the
    accuracy of the `keep`-th leave, as long as the number of true ones among them is expected to be at most `lose`.
    Images that are hard for all candidates alike make no difference, since all saw the same images.

    Args:
        right_CN: whether candidate c is right on image n, for the images so far, a random part of all.
        images: number of all images.
        keep: how many of the best are looked for.
        lose: how many of them may be lost in this stage, on average.
        bonus_C: what is added to each accuracy in the ranking; None for nothing.

    Returns:
        bool [C], with at least `keep` true where there are so many.
    """
    candidates, seen = right_CN.shape
    everyone = np.ones(candidates, bool)
    if candidates <= keep or seen >= images:
        return everyone
    accuracy = right_CN.mean(1)
    centre = accuracy.mean()
    # Variance of an accuracy that is due to which images were seen: what is left without each image's own difficulty,
    # for a part of so many images drawn without putting back.
    rest = right_CN - accuracy[:, None] - (right_CN.mean(0) - centre)
    chance = float((rest**2).mean()) / (seen - 1) * (1 - seen / images) * candidates / (candidates - 1)
    between = float(accuracy.var(ddof=1))
    reliable = max(0.0, 1 - chance / between) if between > 0 else 0.0
    if reliable == 0:
        return everyone
    expected = centre + reliable * (accuracy - centre) + (0.0 if bonus_C is None else bonus_C)
    deviation = math.sqrt(reliable * chance)
    mark = np.partition(expected, -keep)[-keep]
    reach = NormalDist().cdf
    order = np.argsort(expected, kind="stable")
    lost = np.cumsum([reach((expected[i] - mark) / deviation) for i in order])
    out = order[: min(int(np.searchsorted(lost, lose, side="right")), candidates - keep)]
    everyone[out] = False
    return everyone


def packed(right: Sequence[bool] | NDArray[np.bool_]) -> bytes:
    """One bit for each image."""
    return np.packbits(np.asarray(right, bool)).tobytes()


def unpacked(packed: bytes, images: int) -> NDArray[Any]:
    """The inverse of `packed`."""
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=images).astype(bool)
