"""The space of CIFAR ResNets against the paper's networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table, measure
from supernet.space.model import build
from supernet.spaces.resnet import resnet
from tests.reference import all_architectures, uniformity
from tests.spaces_for_tests import assert_same_network, one_shot

SPACE = resnet()
EVERY = list(SPACE)
STAGES = ("stage1", "stage2", "stage3")


def tiny_resnet(**changes: Any) -> Space:
    """Up to two blocks in a stage and three channels in the first, on 16x16 images of one channel."""
    made: dict[str, Any] = {"num_classes": 3, "input_shape": (1, 16, 16), "depths": (1, 2), "widths": (2, 3), **changes}
    return resnet(**made)


TINY = tiny_resnet()
MODEL = one_shot(TINY)
indices = st.integers(0, TINY.size - 1)


def paper(space: Space, blocks: int) -> Architecture:
    """ResNet-(6 * blocks + 2)."""
    return space.parse(" ".join(f"{s}.depth={blocks} {s}.width={16 * 2**i}" for i, s in enumerate(STAGES)))


def test_number_of_architectures() -> None:
    assert SPACE.size == len(set(EVERY)) == (6 * 3) ** 3


@pytest.mark.parametrize(
    ("layers", "params", "macs"),
    [
        (20, 269_722, 40_551_040),
        (32, 464_154, 68_862_592),
        (44, 658_586, 97_174_144),
        (56, 853_018, 125_485_696),
        (110, 1_727_962, 252_887_680),
    ],
)
def test_networks_of_the_paper(layers: int, params: int, macs: int) -> None:
    """0.27, 0.46, 0.66, 0.85 and 1.7 million parameters in the paper's Table 6; all but the last by default."""
    blocks = (layers - 2) // 6
    space = resnet(depths=(blocks,), widths=(16,))
    architecture = paper(space, blocks)
    cost = cost_table(space).cost(architecture)
    assert [cost.params, cost.macs] == [params, macs] == by_hand(architecture)
    assert layers == 110 or SPACE.parse(str(architecture)) == architecture


def by_hand(architecture: Architecture) -> list[int]:
    """Parameters, batch norm included, and multiply-adds, convolution by convolution."""
    picks = {name: int(option) for name, (option,) in architecture.picks}
    before = picks["stage1.width"]
    params, macs, pixels = 3 * before * 9 + 2 * before, 3 * before * 9 * 1024, 1024
    for number, stage in enumerate(STAGES):
        width = picks[f"{stage}.width"]
        pixels //= 4 if number else 1
        for _ in range(picks[f"{stage}.depth"]):
            weights = 9 * (before * width + width * width)
            params, macs, before = params + weights + 4 * width, macs + weights * pixels, width
    return [params + before * 10 + 10, macs + before * 10]


def test_costs_by_hand() -> None:
    space = resnet(depths=(1, 2), widths=(8, 12, 16))
    costs = cost_table(space).costs(list(space))
    assert costs[:, [0, 2]].tolist() == [by_hand(architecture) for architecture in space]


@pytest.fixture(scope="module")
def tiny_tables() -> list[CostTable]:
    return [cost_table(TINY), cost_table(tiny_resnet(input_shape=(3, 9, 13), affine=False))]


@settings(max_examples=10)
@given(index=indices)
def test_costs_equal_measured(tiny_tables: list[CostTable], index: int) -> None:
    for table in tiny_tables:
        space = table.space
        assert table.cost(space.at(index)) == measure(build(space, space.at(index)), space.input_shape)


@settings(max_examples=12)
@given(indices)
def test_one_architecture_live_equals_the_stand_alone_network(index: int) -> None:
    assert_same_network(MODEL, TINY.at(index))


def test_everything_on_equals_its_stand_alone_network() -> None:
    assert_same_network(MODEL, TINY.everything_on())


@given(st.integers(0, SPACE.size - 1))
def test_every_text_goes_there_and_back(index: int) -> None:
    architecture = SPACE.at(index)
    assert SPACE.parse(str(architecture)) == architecture
    assert SPACE.parse(" ".join(reversed(str(architecture).split()))) == architecture


def test_sampling_is_uniform() -> None:
    """Chi-square over all architectures. By chance it fails once in 1,000,000 seeds; the seed is fixed."""
    assert TINY.size == 64 and set(TINY) == set(all_architectures(TINY))
    assert uniformity(TINY, 50) > 1e-6


def test_sizes_of_the_stages() -> None:
    sizes = []
    network: Any = build(SPACE, paper(SPACE, 2), seed=0).eval()
    for stage in network.stages:
        for block in stage:
            block.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == [(16, 32, 32)] * 2 + [(32, 16, 16)] * 2 + [(64, 8, 8)] * 2


@pytest.mark.parametrize("widths", [(3, 6, 8), (2, 12, 8), (6, 4, 24), (4, 4, 8)])
def test_shortcuts_leave_out_pixels_and_fill_up_or_cut_channels(widths: tuple[int, ...]) -> None:
    """What a block gives whose convolutions are zero, after a stage that is narrower, wider, or as wide."""
    space = tiny_resnet(widths=(2, 3, 4, 6))
    words = [f"{stage}.depth=1 {stage}.width={width}" for stage, width in zip(STAGES, widths, strict=True)]
    network: Any = build(space, space.parse(" ".join(words)), seed=0).eval()
    before = widths[0]
    for number, ((block,), width) in enumerate(zip(network.stages, widths, strict=True)):
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.zero_()
        x = torch.rand(2, before, 7, 5, generator=torch.Generator().manual_seed(0))
        expected = torch.zeros_like(block.body(x))
        kept, stride = min(before, width), 2 if number else 1
        expected[:, :kept] = x[:, :kept, ::stride, ::stride]
        assert torch.equal(block(x), expected)
        before = width


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 9, 13), (1, 1, 1)])
def test_any_size_runs(shape: tuple[int, int, int]) -> None:
    space = tiny_resnet(num_classes=5, input_shape=shape)
    for architecture in (space.at(0), space.everything_on()):
        assert build(space, architecture, seed=0).eval()(torch.zeros(2, *shape)).shape == (2, 5)


def test_lists_as_from_yaml() -> None:
    space: Any = tiny_resnet(depths=[1, 2], widths=[2, 3])
    expected: Any = TINY
    assert space.choices == TINY.choices and space.network.keywords == expected.network.keywords


@pytest.mark.parametrize("name", ["depths", "widths"])
@pytest.mark.parametrize("values", [(), (2, 1), (1, 1), (0, 1), (1.0,), (True,), "12", 3, None])
def test_bad_lists(name: str, values: object) -> None:
    with pytest.raises(ValueError, match=f"^space.{name}: expected one or more ascending whole numbers from 1 on, got"):
        tiny_resnet(**{name: values})


def test_bad_sizes() -> None:
    with pytest.raises(ValueError, match=r"^space.num_classes: expected at least 1, got 0"):
        tiny_resnet(num_classes=0)
    with pytest.raises(ValueError, match=r"^space.input_shape: expected \(channels, height, width\)"):
        tiny_resnet(input_shape=(3, 0, 4))
