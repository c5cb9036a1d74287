"""Kernels, expansions, depths and widths of inverted residuals: networks for phones, on images of 224 pixels.

Kernels, expansions and depths to choose from are those of Once-for-All, stages and strides those of ProxylessNAS.
MobileNetV2 is one of the architectures where `widths` are (24, 32, 64, 96, 160). What is ours: each size of a kernel
has weights of its own, where Once-for-All takes small ones out of large ones; the width is a choice too, in each stage;
every block but the first of a stage has a shortcut, whatever the widths; no dropout; weights begin as torch makes them.

References:
    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018.
    Cai et al., "ProxylessNAS: Direct Neural Architecture Search on Target Task and Hardware", ICLR 2019.
    Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from supernet.space.choices import Space
from supernet.space.layers import Choose, Depth
from supernet.space.values import value
from supernet.spaces.blocks import check_sizes, conv_norm, space_of, whole_numbers

STEM, FIRST, LAST, FEATURES = 32, 16, 320, 1280
"""Channels of what no choice changes: stem, first block, last block, and before the classifier."""


def mobilenet(
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    affine: bool = True,
    widths: Sequence[int] = (24, 40, 80, 96, 192),
    strides: Sequence[int] = (2, 2, 2, 1, 2),
    multipliers: Sequence[float] = (0.75, 1.0),
    depths: Sequence[int] = (2, 3, 4),
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (3, 4, 6),
) -> Space:
    """The kernels, expansions, depths and widths of a network of inverted residuals.

    Args:
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        affine: whether batch norm has a scale and an offset.
        widths: for each stage its number of channels, before it is multiplied.
        strides: for each stage the stride of its first block; the stem has another of 2.
        multipliers: of a stage's width, ascending; the products are rounded to multiples of 8, and equal ones are one.
        depths: numbers of blocks that a stage may have, ascending.
        kernels: odd widths of depthwise convolutions, ascending.
        expansions: factors from a block's input channels to those in between, ascending.

    Returns:
        The space.

    Raises:
        ValueError: a size is not positive, a list does not fit, or there are more strides or fewer than widths.
    """
    check_sizes({"num_classes": num_classes}, input_shape)
    settings: dict[str, Any] = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "affine": affine,
        "widths": whole_numbers("widths", widths, ascending=False),
        "strides": whole_numbers("strides", strides, ascending=False),
        "multipliers": _multipliers(multipliers),
        "depths": whole_numbers("depths", depths),
        "kernels": whole_numbers("kernels", kernels),
        "expansions": whole_numbers("expansions", expansions),
    }
    if len(settings["strides"]) != len(settings["widths"]):
        raise ValueError(f"space.strides: expected one for each of {len(settings['widths'])} widths, got {strides!r}")
    if not all(kernel % 2 for kernel in settings["kernels"]):
        raise ValueError(f"space.kernels: expected odd numbers, got {kernels!r}")
    return space_of("mobilenet", MobileNet, settings)


def _multipliers(values: object) -> tuple[float, ...]:
    """Checks the multipliers.

    Raises:
        ValueError: the values are none, or anything but numbers above 0, or do not ascend.
    """
    numbers = tuple(values) if isinstance(values, Sequence) else ()
    fit = bool(numbers) and all(type(number) in (int, float) and 0 < number < float("inf") for number in numbers)
    if not fit or list(numbers) != sorted(set(numbers)):
        raise ValueError(f"space.multipliers: expected one or more ascending numbers above 0, got {values!r}")
    return tuple(map(float, numbers))


def _multiplied(width: int, multipliers: Sequence[float]) -> tuple[int, ...]:
    """The widths to choose from: multiples of 8, at least 8, halves rounded up."""
    rounded = (max(8, int(width * multiplier + 4) // 8 * 8) for multiplier in multipliers)
    return tuple(dict.fromkeys(rounded))


class MobileNet(nn.Module):
    """Stem, first block, stages, last block, 1x1 convolution, global pool, classifier. Arguments as for `mobilenet`."""

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        affine: bool,
        widths: tuple[int, ...],
        strides: tuple[int, ...],
        multipliers: tuple[float, ...],
        depths: tuple[int, ...],
        kernels: tuple[int, ...],
        expansions: tuple[int, ...],
    ) -> None:
        super().__init__()

        def block(name: str, channels_in: int, channels_out: int, stride: int, shortcut: bool) -> nn.Module:
            inner = channels_in * value(f"{name}.expansion", expansions)
            depthwise = Choose(f"{name}.kernel", {str(k): _depthwise(inner, k, stride, affine) for k in kernels})
            expand = (*conv_norm(channels_in, inner, 1, affine=affine), nn.ReLU6())
            body = nn.Sequential(*expand, depthwise, *conv_norm(inner, channels_out, 1, affine=affine))
            return _Residual(body) if shortcut else body

        self.stem = nn.Sequential(*conv_norm(input_shape[0], STEM, 3, stride=2, affine=affine), nn.ReLU6())
        self.first = nn.Sequential(_depthwise(STEM, 3, 1, affine), *conv_norm(STEM, FIRST, 1, affine=affine))
        self.stages = nn.Sequential()
        width = FIRST
        for number, (full, stride) in enumerate(zip(widths, strides, strict=True), start=1):
            name = f"stage{number}"
            before, width = width, value(f"{name}.width", _multiplied(full, multipliers))
            blocks = [block(f"{name}.block1", before, width, stride, False)]
            blocks += [block(f"{name}.block{i}", width, width, 1, True) for i in range(2, depths[-1] + 1)]
            self.stages.append(Depth(f"{name}.depth", blocks, depths))
        self.last = block("last", width, LAST, 1, False)
        self.head = nn.Sequential(
            *conv_norm(LAST, FEATURES, 1, affine=affine),
            nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(FEATURES, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.stages(self.first(self.stem(x)))))
        return logits


def _depthwise(channels: int, kernel: int, stride: int, affine: bool) -> nn.Sequential:
    """A depthwise convolution with batch norm and ReLU6."""
    return nn.Sequential(
        *conv_norm(channels, channels, kernel, stride=stride, groups=channels, affine=affine), nn.ReLU6()
    )


class _Residual(nn.Module):
    """A module and a shortcut around it."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y
