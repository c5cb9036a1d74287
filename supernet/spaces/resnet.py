"""Depth and width of the residual networks for CIFAR: how many blocks each of three stages has, and how many channels.

ResNet-20, 32, 44 and 56 are four of its architectures; ResNet-110 is one with `depths` that have 18. What is ours: the
choices, each stage's apart from the others'; slices of one weight for all widths; where a stage is narrower than the
one before, the shortcut drops the last channels; weights begin as torch makes them.

References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2 (shortcuts: option A).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from supernet.space.choices import Space
from supernet.space.layers import Depth
from supernet.space.values import value
from supernet.spaces.blocks import check_sizes, conv_norm, space_of, whole_numbers

STAGES = 3
"""Resolutions; from one to the next the widths to choose from double."""


def resnet(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    affine: bool = True,
    depths: Sequence[int] = (1, 2, 3, 5, 7, 9),
    widths: Sequence[int] = (8, 12, 16),
) -> Space:
    """The depths and widths of a CIFAR ResNet.

    ResNet-(6n + 2) of the paper has n blocks in each stage, at widths 16, 32 and 64.

    Args:
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        affine: whether batch norm has a scale and an offset; it has in the paper.
        depths: numbers of blocks that a stage may have, ascending.
        widths: numbers of channels that the first stage may have, ascending; the others twice and four times as many.

    Returns:
        The space; by default it has 5,832 architectures.

    Raises:
        ValueError: a size is not positive, or a list empty or not ascending.
    """
    check_sizes({"num_classes": num_classes}, input_shape)
    settings: dict[str, Any] = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "affine": affine,
        "depths": whole_numbers("depths", depths),
        "widths": whole_numbers("widths", widths),
    }
    return space_of("resnet", ResNet, settings)


class ResNet(nn.Module):
    """Stem, three stages of residual blocks, global pool, classifier. Arguments as for `resnet`."""

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        affine: bool,
        depths: tuple[int, ...],
        widths: tuple[int, ...],
    ) -> None:
        super().__init__()
        width = value("stage1.width", widths)
        self.stem = nn.Sequential(*conv_norm(input_shape[0], width, 3, affine=affine), nn.ReLU())
        self.stages = nn.Sequential()
        for stage in range(STAGES):
            name = f"stage{stage + 1}"
            before, width = width, value(f"{name}.width", tuple(2**stage * option for option in widths))
            blocks = [_Block(before, width, 2 if stage else 1, affine)]
            blocks += [_Block(width, width, 1, affine) for _ in range(depths[-1] - 1)]
            self.stages.append(Depth(f"{name}.depth", blocks, depths))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters.

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        stride: of the first convolution and of the shortcut.
        affine: whether batch norm has a scale and an offset.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *conv_norm(channels_in, channels_out, 3, stride=stride, affine=affine),
            nn.ReLU(),
            *conv_norm(channels_out, channels_out, 3, affine=affine),
        )
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        x = x[:, : y.shape[1], :: self.stride, :: self.stride]
        missing = y.shape[1] - x.shape[1]
        return F.relu(y + (F.pad(x, (0, 0, 0, 0, 0, missing)) if missing else x))
