"""Known networks as architectures of the space `convnet`, at any width, and the width that fits limits.

A reference is a space of one architecture: `convnet` with one option for each choice. At the same `width` it is an
architecture of the space with all options too, with the same picks and costs. References have widths of their own, any
whole number, so that each comes as close to a limit as it can; the widths that a search chooses among are multiples of
8.

References:
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016: resnet8, 14 and 20 (section 4.2, shortcuts of
    option B) at width 16; resnet18 at width 64 in its form for small images (one 3x3 convolution as stem).
    Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016: wideresnet10 and 16 at width 16 k; there the stem has
    16 channels, here as many as the first stage.
    Sandler et al., "MobileNetV2", CVPR 2018: its blocks (kernel 3, expansion 6) and its last convolution, two blocks in
    each of three stages, with ReLU in place of ReLU6.
    Liu et al., "A ConvNet for the 2020s", CVPR 2022: its blocks (kernel 7, expansion 4, GELU), two in each of three
    stages, with batch norm in place of layer norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from supernet.space.choices import Architecture, Space
from supernet.space.cost import Cost, measure
from supernet.space.model import build, example_of
from supernet.space.network import without_data
from supernet.spaces.convnet import NARROWEST, convnet, rounded, usual_strides

WIDTH = 16
"""The width of a reference where neither width nor limits are given: that of the CIFAR ResNets."""

_WIDEST = 4096
"""No width above this is tried for a limit."""

_MIDDLE = "resnet8"
"""The reference whose size at a width is taken for the middle of the space's sizes at that width."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """What a known network picks.

    Attributes:
        block: kind of its blocks.
        depth: number of blocks in each stage.
        stages: number of stages.
        kernel: width of its depthwise convolutions, where it has any.
        expansion: of its blocks; 4 is usual for the kinds basic and preactivation.
        activation: its activation.
        head: its head.
    """

    block: str
    depth: int
    stages: int = 3
    kernel: int = 3
    expansion: int = 4
    activation: str = "relu"
    head: str = "pool"


REFERENCES: dict[str, Reference] = {
    "resnet8": Reference(block="basic", depth=1),
    "resnet14": Reference(block="basic", depth=2),
    "resnet20": Reference(block="basic", depth=3),
    "resnet18": Reference(block="basic", depth=2, stages=4),
    "wideresnet10": Reference(block="preactivation", depth=1),
    "wideresnet16": Reference(block="preactivation", depth=2),
    "mobilenetv2": Reference(block="inverted", depth=2, expansion=6, head="conv"),
    "convnext": Reference(block="convnext", depth=2, kernel=7, activation="gelu"),
}
"""The known networks by their names."""


def reference(
    name: str,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    *,
    width: int | None = None,
    max_params: float | None = None,
    max_macs: float | None = None,
) -> tuple[Space, Architecture]:
    """A known network, at a given width or as wide as limits allow.

    Args:
        name: one of `REFERENCES`.
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        width: channels of the first stage; None: the largest within the limits, or 16 where there are none.
        max_params: parameters at the most.
        max_macs: multiply-adds for one image at the most.

    Returns:
        The space of this one architecture, and the architecture.

    Raises:
        ValueError: the name is unknown, a width and limits are given, or even the narrowest is beyond a limit.
    """
    if name not in REFERENCES:
        raise ValueError(f"reference: expected one of {', '.join(REFERENCES)}; got {name!r}")
    if width is not None and (max_params is not None or max_macs is not None):
        raise ValueError("reference: expected a width or limits, got both")

    def at(width: int) -> Space:
        return convnet(num_classes, input_shape, width, **settings_of(name))

    if max_params is not None or max_macs is not None:
        width = widest(at, within(max_params=max_params, max_macs=max_macs))
    space = at(WIDTH if width is None else width)
    return space, space.at(0)


def settings_of(name: str) -> dict[str, Any]:
    """The settings of `convnet` that leave a reference as the only architecture, without classes, images and width."""
    network = REFERENCES[name]
    return {
        "multipliers": (1.0,),
        "stages": network.stages,
        "depths": (network.depth,),
        "blocks": (network.block,),
        "kernels": (network.kernel,),
        "expansions": (network.expansion,),
        "attentions": ("none",),
        "activations": (network.activation,),
        "heads": (network.head,),
        "strides": usual_strides(network.stages)[-1:],
    }


def within(*, max_params: float | None = None, max_macs: float | None = None) -> Callable[[Space], bool]:
    """Whether a space of one architecture is within limits of parameters and multiply-adds, as a function."""

    def fits(space: Space) -> bool:
        cost = cost_of(space, space.at(0))
        return (max_params is None or cost.params <= max_params) and (max_macs is None or cost.macs <= max_macs)

    return fits


def cost_of(space: Space, architecture: Architecture) -> Cost:
    """What one architecture costs, measured on its network without data."""
    with without_data():
        return measure(build(space, architecture), example_of(space, 1))


def widest(at: Callable[[int], Space], fits: Callable[[Space], bool]) -> int:
    """The largest width at which a network fits, found by halving: costs grow with the width.

    Args:
        at: makes a space of one architecture from a width.
        fits: whether such a space is within the limits.

    Raises:
        ValueError: the narrowest network does not fit.
    """
    if not fits(at(NARROWEST)):
        narrowest = at(NARROWEST)
        cost = cost_of(narrowest, narrowest.at(0))
        raise ValueError(
            f"even with {NARROWEST} channels the network has {cost.params:,} parameters and {cost.macs:,} "
            "multiply-adds, which the limits have to allow"
        )
    low, high = NARROWEST, 2 * NARROWEST
    while high <= _WIDEST and fits(at(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(at(middle)) else (low, middle)
    return low


def scale_for(
    num_classes: int,
    input_shape: tuple[int, int, int],
    *,
    max_params: float | None = None,
    max_macs: float | None = None,
) -> int:
    """A `width` for `convnet` at which limits lie in the middle of the sizes of its architectures.

    That is the width at which resnet8 comes closest to the limits, as a multiple of 8, or of 4 below 8.

    Raises:
        ValueError: there is no limit.
    """
    if max_params is None and max_macs is None:
        raise ValueError("scale_for: expected max_params or max_macs")
    try:
        space, _ = reference(_MIDDLE, num_classes, input_shape, max_params=max_params, max_macs=max_macs)
    except ValueError:  # the narrowest one is beyond the limits; there are smaller architectures
        return NARROWEST
    width: Any = dict(space.settings)["width"]
    return rounded(width)
