"""The space of NAS-Bench-Macro: 6,561 networks of eight layers, each layer with its own choice of three blocks.

Weights begin as torch makes them, as in the benchmark.

References:
    Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021; the published code where
    the paper is silent.
"""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.layers import Choose
from supernet.spaces.blocks import check_sizes, conv_norm, single_picks, space_of

STAGES = (2, 3, 3)
"""Layers of each stage; the first of them halves the resolution and doubles the channels."""

NAMES = tuple(f"layer{i + 1}" for i in range(sum(STAGES)))
"""The choices: one for each layer."""

OPTIONS = ("identity", "mb3_k3", "mb6_k5")
"""The options of every layer, in the order of the benchmark's digits 0, 1 and 2."""

FEATURES = 1280
"""Channels before the classifier."""


def macro(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    affine: bool = True,
    channels: int = 32,
) -> Space:
    """The layer space of NAS-Bench-Macro.

    An architecture is also read from the benchmark's own text: eight digits 0, 1 or 2, like ``12201210``.

    Args:
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        affine: whether batch norm has a scale and an offset; it has in the benchmark.
        channels: of the stem; 32 in the benchmark. The stages have two, four and eight times as many.

    Returns:
        The space; it has 6,561 architectures.

    Raises:
        ValueError: a size is not positive.
    """
    sizes = {"channels": channels, "num_classes": num_classes}
    check_sizes(sizes, input_shape)
    settings: dict[str, Any] = {**sizes, "input_shape": input_shape, "affine": affine}
    return space_of("macro", MacroNetwork, settings, _read)


def to_digits(architecture: Architecture) -> str:
    """The benchmark's own text of an architecture: a digit for each layer.

    Raises:
        ArchitectureError: the architecture is of another space, or no single option is picked somewhere.
    """
    return "".join(str(OPTIONS.index(option)) for option in single_picks(architecture, NAMES))


def _read(text: str) -> str:
    """The benchmark's digits, also as a list, in words CHOICE=OPTION; such words as they are.

    Raises:
        ArchitectureError: the text is none of these.
    """
    if "=" in text:
        return text
    digits = re.sub(r"[\[\](),\s]", "", text)
    if not re.fullmatch(f"[012]{{{len(NAMES)}}}", digits):
        short = digits.isdecimal() and len(digits) < len(NAMES)
        raise ArchitectureError(
            f"expected {len(NAMES)} digits of 0, 1 and 2, as in 12201210; got {text.strip()!r}"
            + (": a table of numbers loses the zeros in front, so keep the digits as text" if short else "")
        )
    return " ".join(f"{name}={OPTIONS[int(digit)]}" for name, digit in zip(NAMES, digits, strict=True))


class MacroNetwork(nn.Module):
    """Stem, eight layers in three stages, 1x1 convolution, global pool, classifier. Arguments as for `macro`."""

    def __init__(self, channels: int, num_classes: int, input_shape: tuple[int, int, int], affine: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(input_shape[0], channels, 3, affine=affine), nn.ReLU())
        self.layers = nn.Sequential()
        width = channels
        for layers in STAGES:
            for index in range(layers):
                growth = 1 if index else 2  # of the channels, and the stride
                options = _blocks(width, width * growth, growth, affine)
                self.layers.append(Choose(NAMES[len(self.layers)], dict(zip(OPTIONS, options, strict=True))))
                width *= growth
        self.head = nn.Sequential(
            *conv_norm(width, FEATURES, 1, affine=affine),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(FEATURES, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.layers(self.stem(x)))
        return logits


def _blocks(channels_in: int, channels_out: int, stride: int, affine: bool) -> list[nn.Module]:
    """The modules of `OPTIONS`; identity is a 1x1 convolution with batch norm where the shape changes."""
    same = stride == 1 and channels_in == channels_out
    return [
        nn.Identity() if same else conv_norm(channels_in, channels_out, 1, stride=stride, affine=affine),
        _InvertedResidual(channels_in, channels_out, stride, kernel=3, expansion=3, affine=affine),
        _InvertedResidual(channels_in, channels_out, stride, kernel=5, expansion=6, affine=affine),
    ]


class _InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, linear 1x1 convolution; a shortcut where shapes agree.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: of the depthwise convolution.
        kernel: width of the depthwise convolution.
        expansion: factor from the input's channels to those in between.
        affine: whether batch norm has a scale and an offset.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, kernel: int, expansion: int, affine: bool
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        self.body = nn.Sequential(
            *conv_norm(channels_in, inner, 1, affine=affine),
            nn.ReLU(),
            *conv_norm(inner, inner, kernel, stride=stride, groups=inner, affine=affine),
            nn.ReLU(),
            *conv_norm(inner, channels_out, 1, affine=affine),
        )
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y
