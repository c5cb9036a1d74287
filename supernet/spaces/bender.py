"""The paper's cell space: 6.0 billion cells of four choice blocks, the same cell at every place of the network.

Marked as ours where the paper's text is silent: 3x3 pooling windows, weights from a normal distribution scaled to the
fan-out, batch norm and ReLU between the last convolution and the global pool, the ImageNet-like layout.

References:
    Bender et al., ICML 2018, section 3.1 and Fig 3; the stage widths follow from the published parameter counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supernet.space.choices import Space
from supernet.space.layers import Choose
from supernet.spaces.blocks import check_sizes, space_of

_LAYOUTS: dict[str, tuple[int, tuple[int, int]]] = {"cifar": (3, (1, 1)), "imagenet": (4, (2, 2))}
"""For each layout the number of resolutions that the cells are spread over, and the strides of the two stems."""

_Order = Literal["bn-relu-conv", "relu-bn-conv"]


def bender(
    filters: int = 16,
    num_classes: int = 10,
    cells: int = 6,
    choice_blocks: int = 4,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    layout: Literal["cifar", "imagenet"] = "cifar",
    max_ops: int = 2,
    order: _Order = "bn-relu-conv",
    affine: bool = True,
) -> Space:
    """The cell space of Bender et al.

    Args:
        filters: F, of the first convolution; filters double where the resolution halves.
        num_classes: number of classes.
        cells: number of cells; 6 for CIFAR-10 and 8 for ImageNet in the paper.
        choice_blocks: choice blocks in a cell; 4 in the paper.
        input_shape: (C, H, W) of an image, in pixels.
        layout: 'cifar' (three resolutions, stems of stride 1) or 'imagenet' (four resolutions, stems of stride 2;
            the paper does not describe its stem: ours, and its sizes agree with Table 2).
        max_ops: operations that a block sums up at the most; 2 in the paper.
        order: of batch norm, ReLU and convolution; the paper reports 'bn-relu-conv'.
        affine: whether batch norm has a scale and an offset.

    Returns:
        The space; with the paper's settings it has 6,002,115,840 architectures.

    Raises:
        ValueError: a size is not positive, the image too small, or the layout or order unknown.
    """
    sizes = {"filters": filters, "num_classes": num_classes, "cells": cells, "choice_blocks": choice_blocks}
    check_sizes(sizes, input_shape)
    if layout not in _LAYOUTS:
        raise ValueError(f"space.layout: expected one of {', '.join(_LAYOUTS)}; got {layout!r}")
    if order not in ("bn-relu-conv", "relu-bn-conv"):
        raise ValueError(f"space.order: expected bn-relu-conv or relu-bn-conv; got {order!r}")
    settings: dict[str, Any] = {
        **sizes,
        "input_shape": input_shape,
        "layout": layout,
        "max_ops": max_ops,
        "order": order,
        "affine": affine,
    }
    return space_of("bender", BenderNetwork, settings)


class BenderNetwork(nn.Module):
    """Stems, cells, 1x1 convolution, global pool, classifier (paper, Fig 3). Arguments as for `bender`."""

    def __init__(
        self,
        filters: int,
        num_classes: int,
        cells: int,
        choice_blocks: int,
        input_shape: tuple[int, int, int],
        layout: str,
        max_ops: int,
        order: _Order,
        affine: bool,
    ) -> None:
        super().__init__()
        unit = partial(_unit, order=order, affine=affine)
        stages, (stride1, stride2) = _LAYOUTS[layout]
        # Stem 1 sees normalised pixels, so nothing comes before its convolution.
        self.stem1 = nn.Conv2d(input_shape[0], filters, 3, stride1, 1, bias=False)
        self.stem2 = unit(filters, filters, 3, stride=stride2)
        # Channels and halvings of the resolution of the last two outputs, the newest last.
        outputs = [(filters, stride1 // 2), (filters, stride1 // 2 + stride2 // 2)]
        stem_halvings = outputs[-1][1]
        self.cells = nn.ModuleList()
        for index in range(cells):
            stage = index * stages // cells  # cells spread as evenly as they can be
            width = filters * 2**stage
            inputs = [(channels, stem_halvings + stage - halvings) for channels, halvings in reversed(outputs)]
            self.cells.append(_Cell(inputs, width, choice_blocks, max_ops, unit))
            outputs = [outputs[1], ((2 + choice_blocks) * width, stem_halvings + stage)]
        self.head = nn.Sequential(
            unit(outputs[-1][0], width, 1),
            nn.BatchNorm2d(width, affine=affine),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        before = self.stem1(x)
        last = self.stem2(before)
        for cell in self.cells:
            before, last = last, cell(last, before)
        logits: Tensor = self.head(last)
        return logits


class _Cell(nn.Module):
    """Two inputs brought to the cell's size, then choice blocks; the output concatenates all of them.

    Args:
        inputs: channels of the input, and how often its resolution has to be halved, for each of the two.
        width: C, channels of every part of the cell.
        choice_blocks: number of blocks; block i chooses among 2 + i inputs and 7 operations.
        max_ops: operations that a block sums up at the most.
        unit: makes batch norm, ReLU and convolution.
    """

    def __init__(
        self,
        inputs: list[tuple[int, int]],
        width: int,
        choice_blocks: int,
        max_ops: int,
        unit: Callable[..., nn.Sequential],
    ) -> None:
        super().__init__()
        self.prepare = nn.ModuleList(
            nn.Sequential(unit(channels, width, 1), *(nn.AvgPool2d(2, ceil_mode=True) for _ in range(halvings)))
            for channels, halvings in inputs
        )
        sources = ["last", "before", *(f"block{i + 1}" for i in range(choice_blocks))]
        self.blocks = nn.ModuleList()
        for i in range(choice_blocks):
            paths = {source: unit(width, width, 1) for source in sources[: 2 + i]}
            choose_inputs = Choose(f"block{i + 1}.inputs", paths, max_picks=len(paths), each_input=True)
            choose_ops = Choose(f"block{i + 1}.ops", _operations(width, unit), max_picks=max_ops)
            self.blocks.append(nn.ModuleList([choose_inputs, choose_ops]))

    def forward(self, last: Tensor, before: Tensor) -> Tensor:
        parts = [prepare(x) for prepare, x in zip(self.prepare, (last, before), strict=True)]
        for block in self.blocks:
            choose_inputs, choose_ops = block.children()
            parts.append(choose_ops(choose_inputs(parts)))
        return torch.cat(parts, dim=1)


def _operations(width: int, unit: Callable[..., nn.Sequential]) -> dict[str, nn.Module]:
    """The paper's seven operations; all keep the size. The pooling window (3x3) is our choice."""

    def separable(kernel: int) -> nn.Sequential:
        return nn.Sequential(
            *unit(width, width, kernel, groups=width),
            nn.Conv2d(width, width, 1, bias=False),
            *unit(width, width, kernel, groups=width),
            nn.Conv2d(width, width, 1, bias=False),
        )

    return {
        "identity": nn.Identity(),
        "sep3x3": separable(3),
        "sep5x5": separable(5),
        "sep7x7": separable(7),
        "conv1x7-7x1": nn.Sequential(*unit(width, width, (1, 7)), *unit(width, width, (7, 1))),
        "maxpool": nn.MaxPool2d(3, 1, 1),
        "avgpool": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    }


def _unit(
    channels_in: int,
    channels_out: int,
    kernel: int | tuple[int, int],
    *,
    stride: int = 1,
    groups: int = 1,
    order: _Order,
    affine: bool,
) -> nn.Sequential:
    """Batch norm, ReLU and a convolution that keeps the size at stride 1."""
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (kernel[0] // 2, kernel[1] // 2)
    norm, relu = nn.BatchNorm2d(channels_in, affine=affine), nn.ReLU()
    convolution = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, groups=groups, bias=False)
    return nn.Sequential(*((norm, relu) if order == "bn-relu-conv" else (relu, norm)), convolution)


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # Scaled to the fan-out, a convolution of concatenated inputs begins alike for any number of them.
            # torch takes no account of groups in the fan-out, so depthwise ones are scaled to the fan-in.
            mode: Literal["fan_in", "fan_out"] = "fan_out" if module.groups == 1 else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
