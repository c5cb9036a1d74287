"""The space of DARTS: a normal and a reduction cell of four nodes, each node with two inputs and their operations.

The network is the one that the published code trains from scratch on CIFAR-10, without its auxiliary head and without
drop-path. Weights begin as torch makes them, as there. Marked as ours where that code does not work: images of odd
size are halved upwards.

References:
    Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, sections 2.1 and 3.1; the published
    code where the paper is silent.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.layers import Choose
from supernet.spaces.blocks import check_sizes, conv_norm, single_picks, space_of
from supernet.spaces.genotypes import KINDS, NODES, OPERATIONS, PICKED, read_genotype

NAMES = tuple(f"{kind}.node{node}" for kind in KINDS for node in range(1, NODES + 1))
"""The nodes of both kinds of cells. The choices of a node are its inputs, and an operation for each input it takes."""


def darts(
    channels: int = 36,
    cells: int = 20,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    affine: bool = True,
) -> Space:
    """The cell space of DARTS, in its network for CIFAR-10.

    An architecture is also read from the published code's own text, like ``Genotype(normal=[('sep_conv_3x3', 0), ...],
    normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))``, and from the other forms of
    `supernet.spaces.genotypes`.

    Parameters are those that the published code prints where it trains without the auxiliary head.

    Args:
        channels: C, of each node in the first cells; 36 in the paper. It doubles in each reduction cell.
        cells: number of cells; 20 in the paper. A third and two thirds of the way down is a reduction cell. Of one or
            two cells all are reduction cells, and the space has no choice of the normal cell.
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        affine: whether batch norm has a scale and an offset; it has in the published network.

    Returns:
        The space; it has 3,019,898,880 cells of each kind, which is 9.1e18 architectures. The paper's search never
        ends with the operation ``none``: 1,037,664,180 cells of each kind and 1.1e18 architectures are without it.

    Raises:
        ValueError: a size is not positive.
    """
    sizes = {"channels": channels, "cells": cells, "num_classes": num_classes}
    check_sizes(sizes, input_shape)
    settings: dict[str, Any] = {**sizes, "input_shape": input_shape, "affine": affine}
    return space_of("darts", DartsNetwork, settings, partial(_read, cells=cells))


def to_genotype(architecture: Architecture) -> str:
    """The published code's own text of an architecture; the inputs of a node ascend.

    Raises:
        ArchitectureError: the architecture is of another space or of one without a normal cell, or some node has not
            exactly two inputs with one operation each.
    """
    inputs = {name: options for name, options in architecture.picks if name.endswith(".inputs")}
    operations_only = Architecture(tuple(pick for pick in architecture.picks if pick[0] not in inputs))
    if set(inputs) != {f"{name}.inputs" for name in NAMES} or {len(sources) for sources in inputs.values()} != {PICKED}:
        raise ArchitectureError(
            f"expected {PICKED} inputs for each node of a normal and of a reduction cell; got {str(architecture)!r}"
        )
    names = [f"{name}.op{source}" for name in NAMES for source in sorted(inputs[f"{name}.inputs"])]
    operations = single_picks(operations_only, names)
    pairs = [(operation, int(name[-1])) for name, operation in zip(names, operations, strict=True)]
    half = len(pairs) // len(KINDS)
    concat = f"range(2, {2 + NODES})"
    return f"Genotype(normal={pairs[:half]}, normal_concat={concat}, reduce={pairs[half:]}, reduce_concat={concat})"


def _read(text: str, cells: int) -> str:
    """A text in a form that `read_genotype` reads in words CHOICE=OPTION; a text without brackets as it is."""
    if not any(bracket in text for bracket in "([{"):
        return text
    if cells < 3:  # all of them reduction cells
        raise ArchitectureError(
            f"a genotype has a normal and a reduction cell, but this network of {cells} has no normal cell: expected "
            "words CHOICE=OPTION"
        )
    return read_genotype(text)


class DartsNetwork(nn.Module):
    """Stem, cells, global pool, classifier. Arguments as for `darts`."""

    def __init__(
        self, channels: int, cells: int, num_classes: int, input_shape: tuple[int, int, int], affine: bool
    ) -> None:
        super().__init__()
        reductions = (cells // 3, 2 * cells // 3)
        width, before, last = channels, 3 * channels, 3 * channels
        self.stem = conv_norm(input_shape[0], last, 3, affine=affine)
        self.cells = nn.ModuleList()
        for index in range(cells):
            width *= 2 if index in reductions else 1
            after = index - 1 in reductions
            self.cells.append(_Cell((before, last), width, index in reductions, after, affine))
            before, last = last, NODES * width
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        logits: Tensor = self.head(last)
        return logits


class _Cell(nn.Module):
    """Two inputs brought to the cell's width, then four nodes; the output concatenates the nodes.

    Args:
        inputs: channels of the output of the cell before the previous one, and of the previous one.
        width: C, channels of each node.
        reduces: whether this is a reduction cell.
        after_reduction: whether the previous cell was one; then the first input has twice the resolution.
        affine: whether batch norm has a scale and an offset.
    """

    def __init__(self, inputs: tuple[int, int], width: int, reduces: bool, after_reduction: bool, affine: bool) -> None:
        super().__init__()
        first = _FactorizedReduce if after_reduction else _relu_conv_norm
        self.prepare = nn.ModuleList([first(inputs[0], width, affine), _relu_conv_norm(inputs[1], width, affine)])
        kind = KINDS[reduces]
        self.nodes = nn.ModuleList()
        for node in range(NODES):
            name = f"{kind}.node{1 + node}"
            options: dict[str, nn.Module] = {}
            for source in range(2 + node):
                stride = 2 if reduces and source < 2 else 1
                options[str(source)] = Choose(f"{name}.op{source}", _operations(width, stride, affine))
            self.nodes.append(Choose(f"{name}.inputs", options, max_picks=PICKED, min_picks=PICKED, each_input=True))

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        parts = [prepare(x) for prepare, x in zip(self.prepare, (before, last), strict=True)]
        for node in self.nodes:
            parts.append(node(parts))
        return torch.cat(parts[2:], dim=1)


class _FactorizedReduce(nn.Module):
    """Half the resolution by two 1x1 convolutions side by side: of the even pixels, and of the odd ones.

    Rounded upwards, for images of odd size: beyond the last pixel are zeros. For even ones it makes no difference.
    """

    def __init__(self, channels_in: int, channels_out: int, affine: bool) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        y: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return y


class _Zero(nn.Module):
    """Zeros of the output's shape. What comes before gets no gradient from here, so nothing is computed for one."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


def _operations(width: int, stride: int, affine: bool) -> dict[str, nn.Module]:
    """The modules of `OPERATIONS`; all divide the size by the stride."""

    def separable(kernel: int) -> nn.Sequential:
        first = _depthwise_pointwise(width, kernel, stride, 1, affine)
        return nn.Sequential(*first, *_depthwise_pointwise(width, kernel, 1, 1, affine))

    modules = (
        _Zero(stride),
        nn.MaxPool2d(3, stride, 1),
        nn.AvgPool2d(3, stride, 1, count_include_pad=False),
        nn.Identity() if stride == 1 else _FactorizedReduce(width, width, affine),
        separable(3),
        separable(5),
        _depthwise_pointwise(width, 3, stride, 2, affine),
        _depthwise_pointwise(width, 5, stride, 2, affine),
    )
    return dict(zip(OPERATIONS, modules, strict=True))


def _depthwise_pointwise(width: int, kernel: int, stride: int, dilation: int, affine: bool) -> nn.Sequential:
    """ReLU, a convolution of each channel on its own, a 1x1 convolution and batch norm."""
    padding = kernel // 2 * dilation
    depthwise = nn.Conv2d(width, width, kernel, stride, padding, dilation, groups=width, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, *conv_norm(width, width, 1, affine=affine))


def _relu_conv_norm(channels_in: int, channels_out: int, affine: bool) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), *conv_norm(channels_in, channels_out, 1, affine=affine))
