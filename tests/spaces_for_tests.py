"""Small spaces with every kind of choice, for tests."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from supernet.space.choices import Architecture, Space
from supernet.space.layers import Choose, Depth, OneShot
from supernet.space.model import build, extract, from_network
from supernet.space.network import choices_of
from supernet.space.values import value
from supernet.spaces import bender, macro, nasbench201


@cache
def tiny_bender(**changes: Any) -> Space:
    """Two cells of two blocks with two filters on 8x8 images of one channel."""
    settings: dict[str, Any] = {
        "filters": 2,
        "num_classes": 3,
        "cells": 2,
        "choice_blocks": 2,
        "input_shape": (1, 8, 8),
        **changes,
    }
    return bender(**settings)


@cache
def tiny_nasbench201(**changes: Any) -> Space:
    """One cell in each stage, two channels in the first, on 8x8 images of one channel."""
    settings: dict[str, Any] = {
        "channels": 2,
        "cells_per_stage": 1,
        "num_classes": 3,
        "input_shape": (1, 8, 8),
        **changes,
    }
    return nasbench201(**settings)


@cache
def tiny_macro(**changes: Any) -> Space:
    """Two channels in the stem, on 16x16 images of one channel.

    The last layers see 2x2 pixels. At one pixel, batch norm of what is the same for every image would magnify rounding.
    """
    settings: dict[str, Any] = {"channels": 2, "num_classes": 3, "input_shape": (1, 16, 16), **changes}
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


class ElasticNetwork(nn.Module):
    """Widths, a depth, values, a mean and a concatenation of inputs, some of them nested or shared."""

    def __init__(self) -> None:
        super().__init__()
        width, inner = value("width", (2, 3, 5)), value("inner", (1, 2))
        dilation = value("dilation", (1, 2))
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width))
        self.blocks = Depth("depth", [_Residual(width, inner, f"block{i}") for i in range(3)], (0, 1, 3))
        self.mean = Choose("mean", {"a": nn.Identity(), "b": nn.Tanh(), "c": nn.Sigmoid()}, max_picks=3, join="mean")
        first, second = nn.Conv2d(width, 4, 3, padding=dilation, dilation=dilation), nn.Conv2d(width, inner * 2, 1)
        self.join = Choose(
            "join", {"x": first, "y": second}, max_picks=2, each_input=True, join="concat", widths=[4, inner * 2]
        )
        assert self.join.channels is not None
        self.mix = nn.Conv2d(self.join.channels, width, 1, bias=False)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.mean(self.blocks(x))
        return self.head(self.depthwise(self.mix(self.join([x, y]))).mean((2, 3)))


class _Residual(nn.Module):
    def __init__(self, width: int, inner: int, name: str) -> None:
        super().__init__()
        plain = nn.Sequential(nn.Conv2d(width, inner * 4, 1), nn.BatchNorm2d(inner * 4), nn.Conv2d(inner * 4, width, 1))
        grouped = nn.Sequential(nn.Conv2d(width, width, 1), nn.PReLU(width), nn.GroupNorm(1, width))
        self.body = Choose(f"{name}.op", {"plain": plain, "grouped": grouped})
        self.scale = value(f"{name}.scale", (0.5, 1.0))
        self.offset = nn.Parameter(torch.zeros(width))
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x) + self.offset[: self.width].view(-1, 1, 1)


def elastic() -> Space:
    return from_network(ElasticNetwork, torch.zeros(1, 1, 6, 6), name="elastic")


def nested() -> Space:
    with torch.device("meta"):
        choices = choices_of(NestedNetwork())
    return Space("nested", choices, NestedNetwork, (4,))


def one_shot(space: Space) -> OneShot:
    """A one-shot model in double precision with scales and offsets away from 1 and 0.

    There mistakes could hide, and a constant input would put ReLU at its kink, where rounding decides the gradient.
    """
    model = build(space, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.double()


def examples(space: Space, number: int) -> torch.Tensor:
    return torch.randn(number, *space.input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def assert_same_network(model: OneShot, architecture: Architecture) -> None:
    """The one-shot model with one architecture live is the stand-alone network with its weights."""
    x = examples(model.space, 6)
    live = model(x, model.space.live([architecture]))
    torch.testing.assert_close(live, extract(model, architecture).train()(x), rtol=1e-9, atol=1e-9)
