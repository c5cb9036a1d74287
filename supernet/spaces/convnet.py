"""Convolutional networks as people write them, and what lies between: for images of any size, at any scale.

A stem, three or four stages, a head. For each stage the kind of its blocks, their number and width, squeeze and
excitation, and for depthwise kinds kernel and expansion; for the whole network where it halves the resolution, the
activation and the head. ResNets, wide ResNets, MobileNetV2-like and ConvNeXt-like networks are architectures of it, see
`supernet.spaces.references`.

The choices, their options and the decisions that places share are ours. All blocks of a stage are of one kind, so that
the one-shot model trains few options, each often. Of the kinds of a stage exactly one is live under
``paths.distribution`` 'uniform' or 'fair', and a step costs what its architectures cost; path dropout runs several
kinds at once.

Measured at 60 k parameters on CIFAR-10 at 16 pixels, 60,000 images seen (benchmarks/results/by_hand_2026-11-30.json;
one or two seeds, so that differences of one or two points may be chance), as gains over resnet8 at 53.6 and 54.3 %: a
last scale of zero -5.3 (both seeds; -3.4 on Fashion-MNIST), initial values as torch has them +0.3, GELU +0.4, squeeze
and excitation -2.2, the head "conv" -1.7, half as wide inside -1.5, a halving less -0.3 at 2.8 times the multiply-adds,
one more in the stem -3.3 at a quarter of them. resnet14 -3.8, resnet20 -4.9; one
ConvNeXt-like block of kernel 3 in each stage +2.0, bottlenecks -4.8, inverted residuals -0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from supernet.space.choices import Space
from supernet.space.layers import Choose
from supernet.space.values import DecidedInt, DecidedStr, Factor, Span, value
from supernet.spaces.blocks import check_sizes, conv_norm, space_of, whole_numbers
from supernet.spaces.convnet_blocks import ACTIVATIONS, KINDS, Stage, activation, initialise

LARGEST = 64
"""Shorter side in pixels of the images that stage 1 may see; larger ones are halved by the stem before any choice."""

NARROWEST = 4
"""Channels that a stage has at least."""

_EXPANSION = 4
"""Factor from the last stage's channels to those of the head "conv": as 320 to 1280 in MobileNetV2."""


def convnet(
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    width: int = 16,
    multipliers: Sequence[float] = (0.5, 1.0, 1.5),
    stages: int | None = None,
    depths: Sequence[int] = (1, 2, 3),
    blocks: Sequence[str] = ("basic", "bottleneck", "preactivation", "inverted", "convnext"),
    kernels: Sequence[int] = (3, 5, 7),
    expansions: Sequence[int] = (2, 4, 6),
    attentions: Sequence[str] = ("none", "se"),
    activations: Sequence[str] = ("relu", "gelu"),
    heads: Sequence[str] = ("pool", "conv"),
    strides: Sequence[str] | None = None,
    zero_last: bool = False,
) -> Space:
    """Residual, inverted and ConvNeXt-like networks: kinds, depths, widths, resolutions, activation, attention.

    Args:
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        width: channels of stem and first stage, at least 4; each later stage has twice as many as the one before. The
            scale of the space; `supernet.spaces.references.scale_for` finds one for limits.
        multipliers: of a stage's channels, ascending. 1 gives exactly `width` times 1, 2, 4, ...; other products are
            rounded to multiples of 8, or of 4 below 8; equal ones are one.
        stages: number of stages, at least 2; None: 3 for images of which the shorter side has up to 64 pixels, else 4.
        depths: numbers of blocks that a stage may have, ascending.
        blocks: kinds of blocks: 'basic', 'bottleneck', 'preactivation', 'inverted', 'convnext'.
        kernels: odd widths of depthwise convolutions, ascending; of 'inverted' and 'convnext'.
        expansions: factors to the channels inside a block, ascending; of 'inverted' and 'convnext'.
        attentions: at the end of each residual branch: 'none', 'se' (squeeze and excitation).
        activations: 'relu', 'gelu', 'silu'.
        heads: 'pool' (global pool, classifier), 'conv' (a 1x1 convolution to four times the channels before them).
        strides: where the resolution is halved: for stem and stages after the first 1 or 2 each, as in '1-2-2'. None:
            '2-2-2' and '1-2-2', and with four stages '2-2-2-2' and '1-2-2-2'.
        zero_last: whether the last scale of a residual branch begins at zero; in short trainings that costs accuracy.

    Returns:
        The space.

    Raises:
        ValueError: a size is not positive, a name unknown, or a list empty, not ascending or otherwise impossible.
    """
    check_sizes({"num_classes": num_classes}, input_shape)
    stages = (3 if min(input_shape[1:]) <= LARGEST else 4) if stages is None else stages
    if stages < 2:
        raise ValueError(f"space.stages: expected at least 2, got {stages}")
    if width < NARROWEST:
        raise ValueError(f"space.width: expected at least {NARROWEST}, got {width}")
    settings: dict[str, Any] = {
        "num_classes": num_classes,
        "input_shape": input_shape,
        "width": width,
        "multipliers": _multipliers(multipliers),
        "stages": stages,
        "depths": whole_numbers("depths", depths),
        "blocks": _names("blocks", blocks, KINDS),
        "kernels": whole_numbers("kernels", kernels),
        "expansions": whole_numbers("expansions", expansions),
        "attentions": _names("attentions", attentions, ("none", "se")),
        "activations": _names("activations", activations, ACTIVATIONS),
        "heads": _names("heads", heads, ("pool", "conv")),
        "strides": _strides(usual_strides(stages) if strides is None else strides, stages),
        "zero_last": zero_last,
    }
    if not all(kernel % 2 for kernel in settings["kernels"]):
        raise ValueError(f"space.kernels: expected odd numbers, got {kernels!r}")
    return space_of("convnet", ConvNet, settings)


def usual_strides(stages: int) -> tuple[str, ...]:
    """Where to halve the resolution, by default: from the stem on, or after it, which is last."""
    later = "-2" * (stages - 1)
    return f"2{later}", f"1{later}"


def _names(setting: str, names: object, allowed: Any) -> tuple[str, ...]:
    """Checks a setting that is a list of names.

    Raises:
        ValueError: there is none, or one is unknown or occurs twice.
    """
    listed = tuple(names) if isinstance(names, Sequence) and not isinstance(names, str) else ()
    if not listed or len(set(listed)) < len(listed) or not set(listed) <= set(allowed):
        raise ValueError(f"space.{setting}: expected one or more of {', '.join(allowed)}, each once; got {names!r}")
    return listed


def _multipliers(values: object) -> tuple[float, ...]:
    """Checks the multipliers.

    Raises:
        ValueError: there is none, or they do not ascend from above 0.
    """
    numbers = tuple(values) if isinstance(values, Sequence) else ()
    fit = bool(numbers) and all(type(number) in (int, float) and 0 < number < float("inf") for number in numbers)
    if not fit or list(numbers) != sorted(set(numbers)):
        raise ValueError(f"space.multipliers: expected one or more ascending numbers above 0, got {values!r}")
    return tuple(map(float, numbers))


def _strides(patterns: object, stages: int) -> tuple[str, ...]:
    """Checks the patterns of strides.

    Raises:
        ValueError: there is none, one occurs twice, or has another length or anything but 1 and 2.
    """
    listed = tuple(patterns) if isinstance(patterns, Sequence) and not isinstance(patterns, str) else ()
    fit = all(isinstance(p, str) and len(p.split("-")) == stages and set(p.split("-")) <= {"1", "2"} for p in listed)
    if not listed or not fit or len(set(listed)) < len(listed):
        raise ValueError(
            f"space.strides: expected one or more texts of {stages} strides, 1 or 2 each, like "
            f"{usual_strides(stages)[-1]!r}; got {patterns!r}"
        )
    return listed


def widths(width: int, multipliers: Sequence[float]) -> tuple[int, ...]:
    """The numbers of channels to choose from, ascending."""
    return tuple(sorted({width if m == 1 else rounded(m * width) for m in multipliers}))


def rounded(channels: float) -> int:
    """The nearest multiple of 8, or of 4 below 8; at least 4, and halves go up."""
    multiple = 8 if channels >= 8 else 4
    return max(NARROWEST, int(channels / multiple + 0.5) * multiple)


class ConvNet(nn.Module):
    """Stem, stages, head. Arguments as for `convnet`."""

    def __init__(
        self,
        num_classes: int,
        input_shape: tuple[int, int, int],
        width: int,
        multipliers: tuple[float, ...],
        stages: int,
        depths: tuple[int, ...],
        blocks: tuple[str, ...],
        kernels: tuple[int, ...],
        expansions: tuple[int, ...],
        attentions: tuple[str, ...],
        activations: tuple[str, ...],
        heads: tuple[str, ...],
        strides: tuple[str, ...],
        zero_last: bool,
    ) -> None:
        super().__init__()
        pattern = value("strides", strides)
        channels = value("stage1.width", widths(width, multipliers))
        self.stem = _stem(input_shape, channels, _stride(pattern, 0), activations)
        self.stages = nn.Sequential()
        for number in range(stages):
            name = f"stage{number + 1}"
            before, channels = channels, value(f"{name}.width", widths(width * 2**number, multipliers))
            stage = Stage(
                name=name, channels_in=before, channels=channels, stride=_stride(pattern, number) if number else 1,
                changes=number > 0, depths=depths, kernels=kernels, expansions=expansions, attentions=attentions,
                activations=activations, zero_last=zero_last,
            )  # fmt: skip
            self.stages.append(Choose(f"{name}.block", {kind: KINDS[kind](stage) for kind in blocks}))
        self.head = Choose("head", {head: _head(head, channels, num_classes, activations) for head in heads})
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.stages(self.stem(x)))
        return logits


def _stride(pattern: str, place: int) -> int:
    """The number at one place of a pattern, which may be a choice."""
    if not isinstance(pattern, DecidedStr):
        return int(pattern.split("-")[place])
    numbers = tuple(int(option.split("-")[place]) for option in pattern.factor.numbers)
    return DecidedInt((Span((Factor(pattern.factor.choice, numbers),)),))


def _stem(input_shape: tuple[int, int, int], channels: int, stride: int, activations: tuple[str, ...]) -> nn.Module:
    """3x3 convolutions with batch norm and activation; the first ones halve large images, on half the channels."""
    layers: list[nn.Module] = []
    before, size = input_shape[0], min(input_shape[1:])
    while size > LARGEST:
        layers += [*conv_norm(before, channels // 2, 3, stride=2, affine=True), activation(activations)]
        before, size = channels // 2, (size + 1) // 2
    layers += [*conv_norm(before, channels, 3, stride=stride, affine=True), activation(activations)]
    return nn.Sequential(*layers)


def _head(kind: str, channels: int, num_classes: int, activations: tuple[str, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    if kind == "conv":
        layers = [*conv_norm(channels, channels * _EXPANSION, 1, affine=True), activation(activations)]
        channels = channels * _EXPANSION
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
