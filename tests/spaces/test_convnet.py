"""The space of convolutional networks against networks written by hand and against its own definition."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import fit
from supernet.program.commands import main
from supernet.space.choices import Architecture, Space
from supernet.space.cost import Cost, CostTable, cost_table, measure
from supernet.space.layers import Choose
from supernet.space.model import build, option_names
from supernet.spaces.convnet import convnet, usual_strides, widths
from supernet.spaces.convnet_blocks import KINDS, Residual, SqueezeExcitation
from supernet.spaces.references import REFERENCES, reference, scale_for, settings_of, widest, within
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig
from supernet.train.paths import PATHS
from tests.export.writing.test_code import assert_same, inputs_for, lively
from tests.spaces_for_tests import assert_same_network, one_shot

KINDS_OF_BLOCKS = tuple(KINDS)


def tiny_convnet(**changes: Any) -> Space:
    """Two stages of up to two blocks and eight channels in the first, on 8x8 images of one channel."""
    made: dict[str, Any] = {
        "num_classes": 3, "input_shape": (1, 8, 8), "width": 4, "multipliers": (1.0, 2.0), "stages": 2,
        "depths": (1, 2), "kernels": (3, 5), "expansions": (2, 4), "blocks": KINDS_OF_BLOCKS, **changes,
    }  # fmt: skip
    return convnet(**made)


TINY = tiny_convnet()
MODEL = one_shot(TINY)
indices = st.integers(0, TINY.size - 1)


# ---- known networks, as they are usually written ----


def conv3x3(channels_in: int, channels_out: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)


class PlainResNet(nn.Module):
    """Post-activation blocks; where the shape changes, the shortcut is a convolution with batch norm."""

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = conv3x3(channels_in, channels, stride), nn.BatchNorm2d(channels)
            self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
            self.downsample = nn.Sequential()
            if stride != 1 or channels_in != channels:
                self.downsample = nn.Sequential(
                    nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.bn1(self.conv1(x)))
            return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    def __init__(self, channels_in: int, classes: int, width: int, depth: int, stages: int = 3) -> None:
        super().__init__()
        self.conv, self.bn = conv3x3(channels_in, width), nn.BatchNorm2d(width)
        blocks, before = [], width
        for stage in range(stages):
            for index in range(depth):
                blocks.append(self.Block(before, width * 2**stage, 2 if stage and not index else 1))
                before = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(F.relu(self.bn(self.conv(x)))).mean((2, 3)))


class PlainWideResNet(nn.Module):
    """Pre-activation blocks; the shortcut of the first block of each stage begins after the first pair."""

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int, is_first: bool) -> None:
            super().__init__()
            self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), conv3x3(channels_in, channels, stride)
            self.bn2, self.conv2 = nn.BatchNorm2d(channels), conv3x3(channels, channels)
            self.is_first = is_first
            self.shortcut: nn.Module = nn.Identity()
            if channels_in != channels:
                self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            activated = F.relu(self.bn1(x))
            y = self.conv2(F.relu(self.bn2(self.conv1(activated))))
            return y + self.shortcut(activated if self.is_first else x)

    def __init__(self, channels_in: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.conv = conv3x3(channels_in, width)
        blocks, before = [], width
        for stage in range(3):
            for index in range(depth):
                blocks.append(self.Block(before, width * 2**stage, 2 if stage and not index else 1, not index))
                before = width * 2**stage
        self.blocks = nn.Sequential(*blocks)
        self.bn, self.fc = nn.BatchNorm2d(before), nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.bn(self.blocks(self.conv(x)))).mean((2, 3)))


class PlainMobileNet(nn.Module):
    """Inverted residuals with linear bottlenecks, and a last convolution to four times the channels."""

    class Block(nn.Module):
        def __init__(self, channels_in: int, channels: int, stride: int) -> None:
            super().__init__()
            inner = 6 * channels_in
            self.expand, self.bn1 = nn.Conv2d(channels_in, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.depthwise = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
            self.bn2 = nn.BatchNorm2d(inner)
            self.project, self.bn3 = nn.Conv2d(inner, channels, 1, bias=False), nn.BatchNorm2d(channels)
            self.has_shortcut = stride == 1 and channels_in == channels

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.bn1(self.expand(x)))
            y = self.bn3(self.project(F.relu(self.bn2(self.depthwise(y)))))
            return x + y if self.has_shortcut else y

    def __init__(self, channels_in: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv, self.bn = conv3x3(channels_in, width), nn.BatchNorm2d(width)
        w = width
        self.blocks = nn.Sequential(
            *(self.Block(w, w, 1), self.Block(w, w, 1)),
            *(self.Block(w, 2 * w, 2), self.Block(2 * w, 2 * w, 1)),
            *(self.Block(2 * w, 4 * w, 2), self.Block(4 * w, 4 * w, 1)),
        )
        self.last, self.last_bn = nn.Conv2d(4 * w, 16 * w, 1, bias=False), nn.BatchNorm2d(16 * w)
        self.fc = nn.Linear(16 * w, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        return self.fc(F.relu(self.last_bn(self.last(x))).mean((2, 3)))


class PlainConvNeXt(nn.Module):
    """Depthwise 7x7, four times the channels, GELU, and back; convolutions of stride 2 between the stages."""

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels, bias=False)
            self.bn1 = nn.BatchNorm2d(channels)
            self.expand = nn.Conv2d(channels, 4 * channels, 1)
            self.project, self.bn2 = nn.Conv2d(4 * channels, channels, 1, bias=False), nn.BatchNorm2d(channels)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.bn2(self.project(F.gelu(self.expand(self.bn1(self.depthwise(x))))))

    def __init__(self, channels_in: int, classes: int, width: int) -> None:
        super().__init__()
        w = width
        self.conv, self.bn = conv3x3(channels_in, w), nn.BatchNorm2d(w)
        self.stages = nn.Sequential(
            *(self.Block(w), self.Block(w)),
            *(conv3x3(w, 2 * w, 2), nn.BatchNorm2d(2 * w), self.Block(2 * w), self.Block(2 * w)),
            *(conv3x3(2 * w, 4 * w, 2), nn.BatchNorm2d(4 * w), self.Block(4 * w), self.Block(4 * w)),
        )
        self.fc = nn.Linear(4 * w, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(F.gelu(self.bn(self.conv(x)))).mean((2, 3)))


PLAIN: dict[str, Callable[[int, int, int], nn.Module]] = {
    "resnet8": partial(PlainResNet, depth=1),
    "resnet14": partial(PlainResNet, depth=2),
    "resnet20": partial(PlainResNet, depth=3),
    "resnet18": partial(PlainResNet, depth=2, stages=4),
    "wideresnet10": partial(PlainWideResNet, depth=1),
    "wideresnet16": partial(PlainWideResNet, depth=2),
    "mobilenetv2": PlainMobileNet,
    "convnext": PlainConvNeXt,
}


def test_every_reference_has_a_plain_definition() -> None:
    assert list(PLAIN) == list(REFERENCES)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize(("shape", "classes", "width"), [((3, 32, 32), 10, 16), ((1, 11, 14), 3, 7)])
def test_references_equal_plain_definitions(name: str, shape: tuple[int, int, int], classes: int, width: int) -> None:
    """Parameters, multiply-adds and outputs in both modes, with the weights of one copied into the other."""
    space, architecture = reference(name, classes, shape, width=width)
    network, plain = build(space, architecture, seed=0), PLAIN[name](shape[0], classes, width)
    assert measure(network, shape) == measure(plain, shape)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        ours, theirs = (list(module.state_dict().values()) for module in (network, plain))
        assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
        for one, other in zip(ours, theirs, strict=True):
            if one.ndim == 1:  # away from 0 and 1, where mistakes could hide
                one.add_(torch.rand(one.shape, generator=generator))
            other.copy_(one)
    x = torch.randn(5, *shape, generator=generator)
    for training in (True, False):
        torch.testing.assert_close(
            network.train(training)(x), plain.train(training)(x), rtol=1e-4, atol=1e-4, check_stride=False
        )


@pytest.mark.parametrize(
    ("name", "width", "params"),
    [("resnet20", 16, 272_474), ("resnet18", 64, 11_173_962), ("wideresnet16", 64, 2_750_698)],
)
def test_published_sizes(name: str, width: int, params: int) -> None:
    """0.27 million (He et al., option A, of which option B has 2,752 more); 11.17 million, as the form for CIFAR is
    known; WRN-16-4 has 2.75 million (Zagoruyko and Komodakis), with a narrower stem."""
    space, architecture = reference(name, width=width)
    assert measure(build(space, architecture), space.input_shape).params == pytest.approx(params, rel=0.012)


@pytest.mark.parametrize("name", [name for name, known in REFERENCES.items() if known.stages == 3])
def test_references_are_architectures_of_the_space(name: str) -> None:
    """The same picks, and a network of the same parameters in the same order."""
    alone, architecture = reference(name, width=16)
    space = convnet()
    same = space.parse(str(architecture))
    assert dict(same.picks) == dict(architecture.picks)
    ours, theirs = build(space, same, seed=0), build(alone, architecture, seed=0)
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]
    assert measure(ours, space.input_shape) == measure(theirs, space.input_shape)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(list(REFERENCES)),
    st.integers(40_000, 3_000_000),
    st.sampled_from(["max_params", "max_macs"]),
)
def test_references_are_as_wide_as_limits_allow(name: str, limit: int, cost: str) -> None:
    shape = (1, 12, 12)

    def at(width: int) -> int:
        space, architecture = reference(name, 10, shape, width=width)
        measured = measure(build(space, architecture), shape)
        return measured.params if cost == "max_params" else measured.macs

    limits: dict[str, Any] = {cost: limit}
    try:
        space, architecture = reference(name, 10, shape, **limits)
    except ValueError:
        assert at(4) > limit
        return
    width = dict(space.settings)["width"]
    assert isinstance(width, int)
    assert at(width) <= limit < at(width + 1)
    assert space.size == 1 and architecture == space.at(0)


def test_both_limits_hold() -> None:
    space, architecture = reference("resnet8", max_params=1e6, max_macs=5e6)
    cost = measure(build(space, architecture), space.input_shape)
    assert cost.params < 100_000 and 4e6 < cost.macs <= 5e6


@pytest.mark.parametrize(("limit", "width"), [(60_000, 16), (200_000, 24), (1_000_000, 56), (5_000, 4)])
def test_scale_for_a_limit(limit: int, width: int) -> None:
    assert scale_for(10, (3, 16, 16), max_params=limit) == width


def test_limits_lie_in_the_middle_of_the_sizes() -> None:
    """Between a quarter and three quarters of the architectures are smaller."""
    space = convnet(10, (1, 8, 8), scale_for(10, (1, 8, 8), max_params=60_000), depths=(1, 2), kernels=(3,))
    drawn = space.sample_distinct(40, generator=torch.Generator().manual_seed(0))
    smaller = sum(measure(build(space, architecture), (1, 8, 8)).params < 60_000 for architecture in drawn)
    assert 10 <= smaller <= 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet9"}, "reference: expected one of resnet8, .*; got 'resnet9'"),
        ({"name": "resnet8", "width": 8, "max_params": 1e5}, "expected a width or limits, got both"),
        (
            {"name": "resnet8", "max_params": 100},
            "with 4 channels the network has 5,214 parameters .* have to allow",
        ),
    ],
)
def test_bad_references(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference(**arguments)


def test_a_scale_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="expected max_params or max_macs"):
        scale_for(10, (3, 32, 32))


# ---- the space itself ----


def test_choices() -> None:
    space = convnet()
    choices = {choice.name: choice for choice in space.choices}
    for stage, options in (("stage1", "8 16 24"), ("stage2", "16 32 48"), ("stage3", "32 64 96")):
        assert choices[f"{stage}.width"].options == tuple(options.split())
        assert choices[f"{stage}.kernel"].inside == (f"{stage}.block", ("inverted", "convnext"))
    assert choices["strides"].options == ("2-2-2", "1-2-2")
    kinds = {"basic": 1, "bottleneck": 1, "preactivation": 1, "inverted": 3, "convnext": 3}
    assert space.size == 2 * 2 * 2 * (3 * 3 * 3 * 2 * sum(kinds.values())) ** 3


@pytest.mark.parametrize(
    ("width", "multipliers", "expected"),
    [
        (16, (0.5, 1.0, 1.5), (8, 16, 24)),
        (14, (0.5, 1.0, 1.5), (8, 14, 24)),
        (8, (0.5, 1.0, 1.5), (4, 8, 16)),
        (4, (0.5, 1.0, 2.0), (4, 8)),
        (20, (0.6, 1.0), (16, 20)),
        (64, (0.75, 1.0, 1.25), (48, 64, 80)),
    ],
)
def test_widths(width: int, multipliers: tuple[float, ...], expected: tuple[int, ...]) -> None:
    assert widths(width, multipliers) == expected


def covering(space: Space) -> list[Architecture]:
    """Architectures that together pick every option of every choice."""
    missing, chosen = set(space.columns), []
    for architecture in space.sample_distinct(1000, generator=torch.Generator().manual_seed(0)):
        pairs = {(name, option) for name, options in architecture.picks for option in options}
        if pairs & missing:
            chosen.append(architecture)
            missing -= pairs
    assert not missing
    return chosen


@pytest.mark.parametrize("architecture", covering(TINY), ids=lambda architecture: architecture.id)
def test_every_option_of_the_one_shot_model_equals_the_stand_alone_network(architecture: Architecture) -> None:
    assert_same_network(MODEL, architecture)


@settings(max_examples=12)
@given(indices)
def test_one_architecture_live_equals_the_stand_alone_network(index: int) -> None:
    assert_same_network(MODEL, TINY.at(index))


def test_ghost_batches_side_by_side_equal_one_after_the_other() -> None:
    drawn = TINY.sample_distinct(4, generator=torch.Generator().manual_seed(3))
    x = torch.randn(16, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    live = TINY.live(drawn)
    alone = torch.cat([MODEL(part, row[None]) for part, row in zip(x.split(4), live, strict=True)])
    torch.testing.assert_close(MODEL(x, live), alone)


@pytest.fixture(scope="module")
def tiny_tables() -> list[CostTable]:
    large = {"input_shape": (3, 70, 66), "stages": None, "depths": (1,), "kernels": (3,), "multipliers": (1.0,)}
    return [cost_table(TINY), cost_table(tiny_convnet(**large))]


@settings(max_examples=10)
@given(index=indices)
def test_costs_equal_measured(tiny_tables: list[CostTable], index: int) -> None:
    for table in tiny_tables:
        space = table.space
        architecture = space.at(index % space.size)
        assert table.cost(architecture) == measure(build(space, architecture), space.input_shape)


@given(st.integers(0, 2**31))
def test_every_text_goes_there_and_back(seed: int) -> None:
    architecture = TINY.sample(generator=torch.Generator().manual_seed(seed))
    assert TINY.parse(" ".join(reversed(str(architecture).split()))) == architecture


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 64), st.integers(8, 64), st.integers(1, 4), st.integers(0, 2**31))
def test_any_image_size_and_number_of_channels(height: int, width: int, channels: int, seed: int) -> None:
    space = tiny_convnet(input_shape=(channels, height, width), stages=None, depths=(1,), num_classes=5)
    architecture = space.sample(generator=torch.Generator().manual_seed(seed))
    assert build(space, architecture, seed=0)(torch.zeros(2, channels, height, width)).shape == (2, 5)


@pytest.mark.parametrize(
    ("pixels", "strides", "sizes"),
    [
        (32, "1-2-2", (32, 16, 8)),
        (32, "1-1-2", (32, 32, 16)),
        (8, "2-2-2", (4, 2, 1)),
        (64, "1-2-2", (64, 32, 16)),
        (65, "1-2-2-2", (33, 17, 9, 5)),
        (224, "1-2-2-2", (56, 28, 14, 7)),
        (224, "2-2-2-2", (28, 14, 7, 4)),
    ],
)
@pytest.mark.parametrize("block", KINDS_OF_BLOCKS)
def test_resolution_and_channels_of_the_stages(pixels: int, strides: str, sizes: tuple[int, ...], block: str) -> None:
    space = tiny_convnet(
        input_shape=(1, pixels, pixels),
        stages=None,
        multipliers=(1.0,),
        depths=(1,),
        blocks=(block,),
        strides=(strides,),
    )
    network: Any = build(space, space.at(0), seed=0).eval()
    seen: list[tuple[int, ...]] = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 1, pixels, pixels))
    assert seen == [(4 * 2**i, size, size) for i, size in enumerate(sizes)]


@pytest.mark.parametrize("block", KINDS_OF_BLOCKS)
@pytest.mark.parametrize("zero_last", [True, False])
def test_new_blocks_pass_on_their_input(block: str, zero_last: bool) -> None:
    """Blocks that keep the shape, in the kinds whose branches end with a batch norm; with `zero_last` only."""
    space = tiny_convnet(blocks=(block,), multipliers=(1.0,), attentions=("none",), zero_last=zero_last, depths=(2,))
    network: Any = build(space, space.at(0), seed=0)
    x = torch.rand(3, 4, 6, 6, generator=torch.Generator().manual_seed(0))  # not below 0, so that ReLU does nothing
    blocks = [m for m in network.stages[0].modules() if isinstance(m, Residual)]
    assert len(blocks) == 2
    for one in blocks:
        assert torch.equal(one(x), x) == (zero_last and block != "preactivation")


def test_squeeze_and_excitation_scales_channels() -> None:
    module = SqueezeExcitation(8)
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    squeeze: Any = module.gate[1]
    excite: Any = module.gate[3]
    gates = torch.sigmoid(
        F.relu(x.mean((2, 3)) @ squeeze.weight.view(2, 8).T + squeeze.bias) @ excite.weight.view(8, 2).T + excite.bias
    )
    torch.testing.assert_close(module(x), x * gates[:, :, None, None])


def test_one_activation_for_the_whole_network() -> None:
    space = tiny_convnet(blocks=("basic", "inverted"))
    for name, kind, other in (("relu", nn.ReLU, nn.GELU), ("gelu", nn.GELU, nn.ReLU)):
        (architecture, *_) = (a for a in space if f"activation={name}" in str(a) and "attention=se" not in str(a))
        modules = list(build(space, architecture).modules())
        assert any(isinstance(m, kind) for m in modules) and not any(isinstance(m, (other, Choose)) for m in modules)


def test_one_shot_training_learns() -> None:
    """A hundred steps on four patterns with the advised distribution of paths; a quarter is right by chance."""
    space = tiny_convnet(
        num_classes=4, expansions=(4,), kernels=(3,), depths=(1,), multipliers=(2.0,), strides=("1-2",)
    )
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def batch(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(step)
        targets = torch.randint(4, (64,), generator=generator)
        return patterns[targets] + 0.3 * torch.randn(64, 1, 8, 8, generator=generator), targets

    def live(step: int) -> Tensor:
        return PATHS["uniform"](space, 4, 0.0, 1.0, torch.Generator().manual_seed(step))

    model = build(space, seed=0)
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1))
    history = fit(
        model, batch, 100, TrainConfig(steps=100, batch_size=64, ghost_size=16), runtime=runtime, draw_live=live
    )
    assert history[-1]["loss"] < 0.5 < 1.2 < history[0]["loss"]
    x, targets = batch(1000)
    outputs = model(x, space.live(space.sample_distinct(4, generator=torch.Generator().manual_seed(9))))
    assert (outputs.argmax(1) == targets).float().mean() > 0.8


@pytest.mark.parametrize("architecture", covering(TINY)[:6], ids=lambda architecture: architecture.id)
def test_written_code_is_the_same_network(architecture: Architecture) -> None:
    network = lively(build(TINY, architecture, seed=0))
    written = assert_same(network, inputs_for(TINY), option_names(TINY, architecture))
    assert "supernet" not in written.code and "Choose" not in written.code


def test_lists_as_from_yaml() -> None:
    lists = {"multipliers": [1, 2], "depths": [1, 2], "blocks": list(KINDS_OF_BLOCKS), "kernels": [3, 5]}
    more = {
        "expansions": [2, 4],
        "attentions": ["none", "se"],
        "activations": ["relu", "gelu"],
        "heads": ["pool", "conv"],
    }
    space = tiny_convnet(**lists, **more, strides=list(usual_strides(2)))
    assert (space.settings, space.choices) == (TINY.settings, TINY.choices)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 3}, "width: expected at least 4, got 3"),
        ({"stages": 1}, "stages: expected at least 2, got 1"),
        ({"depths": (2, 1)}, "depths: expected one or more ascending whole numbers from 1 on"),
        ({"depths": (0, 1)}, "depths: expected one or more ascending whole numbers from 1 on"),
        ({"kernels": (3, 4)}, "kernels: expected odd numbers"),
        ({"expansions": ()}, "expansions: expected one or more ascending whole numbers from 1 on"),
        ({"multipliers": (1.0, 0.5)}, "multipliers: expected one or more ascending numbers above 0"),
        ({"multipliers": (float("nan"),)}, "multipliers: expected one or more ascending numbers above 0"),
        ({"blocks": ("basic", "vgg")}, "blocks: expected one or more of basic, .*, each once; got"),
        ({"blocks": "basic"}, "blocks: expected one or more of basic, .*, each once; got 'basic'"),
        ({"attentions": ("se", "se")}, "attentions: expected one or more of none, se, each once"),
        ({"activations": ()}, "activations: expected one or more of relu, gelu, silu"),
        ({"heads": ("mean",)}, "heads: expected one or more of pool, conv"),
        ({"strides": ("1-2-2",)}, "strides: expected one or more texts of 2 strides, 1 or 2 each, like '1-2'"),
        ({"strides": ("1-3",)}, "strides: expected one or more texts of 2 strides"),
        ({"strides": ("1-2", "1-2")}, "strides: expected one or more texts of 2 strides"),
        ({"strides": (1, 2)}, "strides: expected one or more texts of 2 strides"),
        ({"num_classes": 0}, "num_classes: expected at least 1, got 0"),
        ({"input_shape": (3, 0, 4)}, "input_shape: expected .channels, height, width."),
    ],
)
def test_bad_settings(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^space.{message}"):
        tiny_convnet(**wrong)


def test_bad_multipliers_that_are_no_list() -> None:
    with pytest.raises(ValueError, match="multipliers: expected one or more ascending numbers above 0, got 2"):
        tiny_convnet(multipliers=2)


# ---- the command line ----


def test_reference_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["space", "convnet", "--reference", "resnet8", "--max-params", "60k", "--input_shape", "[3,16,16]"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    space, architecture = reference("resnet8", 10, (3, 16, 16), max_params=60_000)
    assert facts["architecture"] == str(architecture)
    assert Cost(*(facts[name] for name in ("params", "params_without_norm", "macs"))) == measure(
        build(space, architecture), (3, 16, 16)
    )
    assert facts["settings"]["width"] == 14
    for word in (str(architecture), "59,944", "2,405,424", "width=14"):
        assert word in " ".join(printed.split())


def test_references_at_a_width(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "convnet", "--reference=convnext", "--width", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["width"] == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "resnet9"], "expected one of resnet8"),
        (["--reference", "resnet8", "--depths", "[1]"], "--depths"),
        (["--reference", "resnet8", "--max-params", "x"], "--max-params: expected a number like 250k"),
        (["--reference", "resnet8", "--max-params", "9", "--width", "4"], "expected a width or limits, got both"),
    ],
)
def test_bad_words(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["space", "convnet", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_settings_of_a_reference_with_widest() -> None:
    """Another network than a reference can be fitted too."""
    settings_here = {**settings_of("resnet8"), "attentions": ("se",)}
    width = widest(lambda width: convnet(10, (3, 16, 16), width, **settings_here), within(max_params=60_000))
    assert width < 14
