"""Small spaces with every kind of choice, for tests."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from supernet.layers import Choose
from supernet.model import OneShot, build, choices_of
from supernet.space import Space
from supernet.spaces import bender, macro, nasbench201


def tiny_bender(**changes: object) -> Space:
    """Two cells of two blocks with two filters on 8x8 images of one channel."""
    settings = {"filters": 2, "num_classes": 3, "cells": 2, "choice_blocks": 2, "input_shape": (1, 8, 8), **changes}
    return bender(**settings)


def tiny_nasbench201(**changes: object) -> Space:
    """One cell in each stage, two channels in the first, on 8x8 images of one channel."""
    settings = {"channels": 2, "cells_per_stage": 1, "num_classes": 3, "input_shape": (1, 8, 8), **changes}
    return nasbench201(**settings)


def tiny_macro(**changes: object) -> Space:
    """Two channels in the stem, on 16x16 images of one channel.

    The last layers see 2x2 pixels. At one pixel, batch norm of what is the same for every image would magnify rounding.
    """
    settings = {"channels": 2, "num_classes": 3, "input_shape": (1, 16, 16), **changes}
    return macro(**settings)


class NestedNetwork(nn.Module):
    """A choice inside an option of a choice, a shared decision, and a choice among inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 6)
        inner = Choose("inner", {"relu": nn.ReLU(), "tanh": nn.Tanh(), "narrow": _block(6)})
        self.outer = Choose("outer", {"plain": _block(6), "nested": nn.Sequential(nn.Linear(6, 6), inner)}, max_picks=2)
        self.first = Choose("shared", {"a": _block(6), "skip": nn.Identity()})
        self.second = Choose("shared", {"a": _block(6), "skip": nn.Identity()})
        self.join = Choose("join", {"x": _block(6), "y": nn.Linear(6, 6)}, max_picks=2, each_input=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.second(self.first(self.outer(x)))
        return self.head(self.join([x, y]))


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))


def nested() -> Space:
    with torch.device("meta"):
        choices = choices_of(NestedNetwork())
    return Space("nested", choices, NestedNetwork, (4,))


def one_shot(space: Space) -> OneShot:
    """A one-shot model in double precision with scales and offsets away from 1 and 0.

    There mistakes could hide, and a constant input would put ReLU at its kink, where rounding decides the gradient.
    """
    model = build(space, seed=0)
    assert isinstance(model, OneShot)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.double()
