"""Small spaces with architectures that have every operation of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import numpy as np
import torch

from supernet.data.splits import Data, from_arrays
from supernet.space.choices import Architecture, Space
from supernet.spaces import bender, mobilenet, resnet
from tests.export.writing.test_code import SMALL
from tests.export.writing.test_code import SPACES as LARGER


def images(number: int = 30) -> Data:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (number, 1, 8, 8), dtype=np.uint8)
    return from_arrays(pixels, np.arange(number) % 3, seed=0, validation=9)[0]


SPACES: dict[str, Callable[[], Space]] = {
    **LARGER,
    "bender": lambda: bender(filters=2, cells=1, choice_blocks=2, **SMALL),
    "mobilenet": lambda: mobilenet(widths=(8,), strides=(2,), depths=(1, 2), **SMALL),
    "resnet": lambda: resnet(depths=(1, 2), widths=(2, 3), **SMALL),
}
"""As small as they can be: the exporters take their time for each operation."""

EVERYTHING = {
    "bender": [
        "block1.inputs=last+before block1.ops=identity+sep3x3 block2.inputs=last+block1 block2.ops=sep5x5+sep7x7",
        "block1.inputs=before block1.ops=conv1x7-7x1+maxpool block2.inputs=block1 block2.ops=avgpool",
    ],
    "nasbench201": [
        "edge0-1=nor_conv_1x1 edge0-2=none edge1-2=nor_conv_3x3 edge0-3=skip_connect edge1-3=avg_pool_3x3 edge2-3=none"
    ],
    "darts": [
        "Genotype(normal=[('none', 0), ('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 2), ('dil_conv_5x5', 3)], "
        "normal_concat=range(2, 6), "
        "reduce=[('none', 0), ('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1)], "
        "reduce_concat=range(2, 6))"
    ],
    "macro": ["01201201"],
}
"""Architectures that have every operation of a space between them."""


def operations(space: Space, picks: Iterable[tuple[str, Iterable[str]]]) -> set[tuple[str, str]]:
    """Options with the kind of choice they are of, wherever it is: but for the choices among inputs."""
    kinds = {choice.name: re.sub(r"\d+", "", choice.name.rpartition(".")[2]) for choice in space.choices}
    return {(kinds[name], option) for name, options in picks if not name.endswith("inputs") for option in options}


def architectures(space: Space) -> list[Architecture]:
    """A few architectures that have every operation of a space between them."""
    chosen = [space.parse(text) for text in EVERYTHING.get(space.name, ())]
    all_operations = operations(space, ((choice.name, choice.options) for choice in space.choices))
    candidates = space.sample_distinct(min(300, space.size), generator=torch.Generator().manual_seed(0))
    left = all_operations - {pair for architecture in chosen for pair in operations(space, architecture.picks)}
    while left:  # the one with most of the missing operations
        chosen.append(max(candidates, key=lambda a: len(left & operations(space, a.picks))))
        left -= operations(space, chosen[-1].picks)
    return chosen
