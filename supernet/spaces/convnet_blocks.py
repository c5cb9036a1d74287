"""The kinds of stages of the space `convnet`: residual blocks as they are usually written.

Every kind takes a `Stage` and returns a module. With `zero_last` the last scale of a residual branch begins at zero, so
that a new block only passes on its input (Goyal et al., "Accurate, Large Minibatch SGD", 2017). In short trainings such
a branch learns late, so that it is not the default. Weights of convolutions are drawn from a normal distribution (He et
al., "Delving Deep into Rectifiers", 2015), scaled to the fan-out; those of depthwise convolutions to the fan-in, since
torch takes no account of groups in the fan-out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from supernet.space.layers import Choose, Depth
from supernet.space.values import value
from supernet.spaces.blocks import conv_norm

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}
"""The activations by their names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A run of blocks at one resolution and width.

    Attributes:
        name: prefix of the names of its choices.
        channels_in: channels of its input.
        channels: channels of its output.
        stride: of its first block.
        changes: whether the first block changes the shape; if not, it is a block like the others.
        depths: numbers of blocks to choose from.
        kernels: widths of depthwise convolutions to choose from.
        expansions: factors to choose from, of the channels inside a block that expands them.
        attentions: "none", "se" or both.
        activations: names of activations to choose from; one decision for the whole network.
        zero_last: whether the last scale of a residual branch begins at zero.
    """

    name: str
    channels_in: int
    channels: int
    stride: int
    changes: bool
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    attentions: tuple[str, ...]
    activations: tuple[str, ...]
    zero_last: bool

    def activation(self) -> nn.Module:
        """The activation."""
        return activation(self.activations)

    def attention(self) -> nn.Module:
        """What the end of a residual branch goes through."""
        return Choose(
            f"{self.name}.attention",
            {name: SqueezeExcitation(self.channels) if name == "se" else nn.Identity() for name in self.attentions},
        )

    def depthwise(self, channels: int, stride: int = 1) -> nn.Module:
        """A depthwise convolution with batch norm."""
        options = {
            str(k): conv_norm(channels, channels, k, stride=stride, groups=channels, affine=True) for k in self.kernels
        }
        return Choose(f"{self.name}.kernel", options)

    def inner(self, channels: int, over: int = 1) -> int:
        """The channels inside a block: `channels` times the expansion, divided by `over`."""
        number: int = channels * value(f"{self.name}.expansion", self.expansions) // over
        return number

    def last(self, channels_in: int, kernel: int) -> nn.Sequential:
        """The last convolution of a branch that has a shortcut beside it, with batch norm."""
        layers = conv_norm(channels_in, self.channels, kernel, affine=True)
        if self.zero_last:
            nn.init.zeros_(layers[1].weight)  # type: ignore[arg-type]  # a batch norm's, of a sequence
        return layers

    def entry(self, index: int) -> tuple[int, int, bool]:
        """Channels of the input and stride of a block, and whether it changes the shape."""
        return (self.channels_in, self.stride, True) if self.changes and index == 0 else (self.channels, 1, False)

    def run_of(self, block: Callable[[Stage, int], nn.Module]) -> Depth:
        """Blocks one after the other, with the choice of how many."""
        return Depth(f"{self.name}.depth", [block(self, index) for index in range(self.depths[-1])], self.depths)


def activation(names: tuple[str, ...]) -> nn.Module:
    """The network's activation: one decision for all places."""
    return Choose("activation", {name: ACTIVATIONS[name]() for name in names})


class Residual(nn.Module):
    """The sum of a branch and a shortcut, and what follows it."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.after = body, shortcut, after

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.body(x) + self.shortcut(x))
        return y


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number from 0 to 1 that follows from the means of all channels (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 4
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(x)
        return x * gate


def _basic(stage: Stage, index: int) -> nn.Module:
    """Two 3x3 convolutions (He et al., CVPR 2016, Fig 2)."""
    channels_in, stride, changes = stage.entry(index)
    inner = stage.inner(stage.channels, over=4)
    body = nn.Sequential(
        *conv_norm(channels_in, inner, 3, stride=stride, affine=True),
        stage.activation(),
        *stage.last(inner, 3),
        stage.attention(),
    )
    return Residual(body, _shortcut(stage, changes), stage.activation())


def _bottleneck(stage: Stage, index: int) -> nn.Module:
    """A 3x3 convolution on a quarter of the channels, between 1x1 convolutions (the same, Fig 5)."""
    channels_in, stride, changes = stage.entry(index)
    inner = stage.inner(stage.channels, over=8)
    body = nn.Sequential(
        *conv_norm(channels_in, inner, 1, affine=True),
        stage.activation(),
        *conv_norm(inner, inner, 3, stride=stride, affine=True),
        stage.activation(),
        *stage.last(inner, 1),
        stage.attention(),
    )
    return Residual(body, _shortcut(stage, changes), stage.activation())


def _shortcut(stage: Stage, changes: bool) -> nn.Module:
    """The identity, or where the shape changes a 1x1 convolution with batch norm (the same, option B)."""
    if not changes:
        return nn.Identity()
    return conv_norm(stage.channels_in, stage.channels, 1, stride=stage.stride, affine=True)


def _preactivation(stage: Stage, index: int) -> nn.Module:
    """Batch norm and activation before each of two 3x3 convolutions.

    Those of a stage's first block are at the end of the stem or of the stage before, so that they serve the shortcut as
    well (He et al., "Identity Mappings in Deep Residual Networks", 2016, appendix).
    """
    channels_in, stride, changes = stage.entry(index)
    inner = stage.inner(stage.channels, over=4)
    first = [] if index == 0 else [nn.BatchNorm2d(channels_in), stage.activation()]
    body = nn.Sequential(
        *first,
        *conv_norm(channels_in, inner, 3, stride=stride, affine=True),
        stage.activation(),
        nn.Conv2d(inner, stage.channels, 3, padding=1, bias=False),
        stage.attention(),
    )
    shortcut = nn.Conv2d(channels_in, stage.channels, 1, stride, bias=False) if changes else nn.Identity()
    return Residual(body, shortcut, nn.Identity())


def _inverted(stage: Stage, index: int) -> nn.Module:
    """A depthwise convolution on more channels, between 1x1 convolutions; the first without a shortcut if it changes
    the shape (Sandler et al., CVPR 2018)."""
    channels_in, stride, changes = stage.entry(index)
    inner = stage.inner(channels_in)
    body = nn.Sequential(
        *conv_norm(channels_in, inner, 1, affine=True),
        stage.activation(),
        stage.depthwise(inner, stride),
        stage.activation(),
        *(conv_norm(inner, stage.channels, 1, affine=True) if changes else stage.last(inner, 1)),
        stage.attention(),
    )
    return body if changes else Residual(body, nn.Identity(), nn.Identity())


def _convnext(stage: Stage, index: int) -> nn.Module:
    """A depthwise convolution, then 1x1 convolutions to more channels and back (Liu et al., CVPR 2022).

    Batch norm in place of layer norm; a second one in place of the learnt scale of the branch.
    """
    inner = stage.inner(stage.channels)
    body = nn.Sequential(
        stage.depthwise(stage.channels),
        nn.Conv2d(stage.channels, inner, 1),
        stage.activation(),
        *stage.last(inner, 1),
        stage.attention(),
    )
    return Residual(body, nn.Identity(), nn.Identity())


def _preactivation_stage(stage: Stage) -> nn.Module:
    return nn.Sequential(stage.run_of(_preactivation), nn.BatchNorm2d(stage.channels), stage.activation())


def _convnext_stage(stage: Stage) -> nn.Module:
    """The change of shape comes first, by a 3x3 convolution with batch norm (2x2 and layer norm in the paper)."""
    change = conv_norm(stage.channels_in, stage.channels, 3, stride=stage.stride, affine=True) if stage.changes else ()
    return nn.Sequential(*change, stage.run_of(_convnext))


KINDS: dict[str, Callable[[Stage], nn.Module]] = {
    "basic": lambda stage: stage.run_of(_basic),
    "bottleneck": lambda stage: stage.run_of(_bottleneck),
    "preactivation": _preactivation_stage,
    "inverted": lambda stage: stage.run_of(_inverted),
    "convnext": _convnext_stage,
}
"""The kinds of stages by their names."""


def initialise(network: nn.Module) -> None:
    """Draws the weights of the convolutions from the global generator."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            mode: Literal["fan_in", "fan_out"] = "fan_out" if module.groups == 1 else "fan_in"
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
