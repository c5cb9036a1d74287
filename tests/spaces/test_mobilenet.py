"""The space of inverted residuals against MobileNetV2 and against its own definition."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table, measure
from supernet.space.layers import Choose
from supernet.space.model import build
from supernet.space.network import without_data
from supernet.spaces.mobilenet import mobilenet
from tests.reference import all_architectures, uniformity
from tests.spaces_for_tests import assert_same_network, one_shot

SPACE = mobilenet()
V2_WIDTHS = (24, 32, 64, 96, 160)
V2_DEPTHS = (2, 3, 4, 3, 3)


def tiny_mobilenet(**changes: Any) -> Space:
    """Two stages of up to two blocks and 16 channels, on 16x16 images of one channel."""
    made: dict[str, Any] = {
        "num_classes": 3, "input_shape": (1, 16, 16), "widths": (16, 16), "strides": (1, 2), "multipliers": (0.5, 1.0),
        "depths": (1, 2), "kernels": (3, 5), "expansions": (1, 2), **changes,
    }  # fmt: skip
    return mobilenet(**made)


TINY = tiny_mobilenet()
MODEL = one_shot(TINY)
indices = st.integers(0, TINY.size - 1)


def mobilenet_v2(space: Space) -> Architecture:
    """MobileNetV2 in a space with its widths."""
    picks: dict[str, str] = {}
    for choice in space.choices:
        if choice.inside is None or picks.get(choice.inside[0]) in choice.inside[1]:
            *place, what = choice.name.split(".")
            stage = int(place[0].removeprefix("stage")) - 1 if what in ("width", "depth") else 0
            figures = {"width": V2_WIDTHS[stage], "depth": V2_DEPTHS[stage], "kernel": 3, "expansion": 6}
            picks[choice.name] = str(figures[what])
    return space.parse(" ".join(f"{name}={option}" for name, option in picks.items()))


def test_mobilenet_v2_is_an_architecture() -> None:
    """3.4 million parameters and 300 million multiply-adds in the paper; 3,504,872 in torchvision."""
    space = mobilenet(widths=V2_WIDTHS)
    cost = measure(build(space, mobilenet_v2(space), seed=0), space.input_shape)
    assert (cost.params, cost.macs) == (3_504_872, 300_774_272)


def test_mobilenet_v2_by_sums() -> None:
    """In a space with no choice but of depths: the table of the other has 69 passes at 224 pixels."""
    space = mobilenet(widths=V2_WIDTHS, multipliers=(1.0,), kernels=(3,), expansions=(6,))
    cost = cost_table(space).cost(mobilenet_v2(space))
    assert (cost.params, cost.macs) == (3_504_872, 300_774_272)


def test_choices() -> None:
    """Blocks that a depth may leave out have choices only where they are run; the others have them always."""
    choices = {choice.name: choice for choice in SPACE.choices}
    assert len(choices) == 5 * 2 + (5 * 4 + 1) * 2
    for stage, widths in enumerate([("16", "24"), ("32", "40"), ("64", "80"), ("72", "96"), ("144", "192")], start=1):
        assert choices[f"stage{stage}.width"].options == widths
        assert choices[f"stage{stage}.depth"].options == ("2", "3", "4")
        for block, within in enumerate([None, None, ("3", "4"), ("4",)], start=1):
            for what, options in (("kernel", ("3", "5", "7")), ("expansion", ("3", "4", "6"))):
                choice = choices[f"stage{stage}.block{block}.{what}"]
                assert choice.options == options
                assert choice.inside == (within and (f"stage{stage}.depth", within))
    stage = 2 * sum((3 * 3) ** depth for depth in (2, 3, 4))
    assert SPACE.size == stage**5 * 3 * 3


@pytest.mark.parametrize(
    ("multipliers", "widths"),
    [((1.0,), ("24",)), ((0.01, 0.5, 0.75), ("8", "16")), ((0.5, 1, 1.5, 2), ("16", "24", "40", "48"))],
)
def test_widths_are_multiples_of_8(multipliers: tuple[float, ...], widths: tuple[str, ...]) -> None:
    """Of 24 channels: 12 and 36 are halfway between two multiples and go up, 18 goes down."""
    space = tiny_mobilenet(widths=(24, 24), multipliers=multipliers)
    assert {choice.name: choice.options for choice in space.choices}["stage1.width"] == widths


@pytest.fixture(scope="module")
def tiny_tables() -> list[CostTable]:
    return [cost_table(TINY), cost_table(tiny_mobilenet(input_shape=(3, 9, 13), affine=False))]


@settings(max_examples=10)
@given(index=indices)
def test_costs_equal_measured(tiny_tables: list[CostTable], index: int) -> None:
    for table in tiny_tables:
        space = table.space
        assert table.cost(space.at(index)) == measure(build(space, space.at(index), seed=0), space.input_shape)


@settings(max_examples=12)
@given(indices)
def test_one_architecture_live_equals_the_stand_alone_network(index: int) -> None:
    assert_same_network(MODEL, TINY.at(index))


def test_everything_on_equals_its_stand_alone_network() -> None:
    assert_same_network(MODEL, TINY.everything_on())


@given(st.integers(0, 2**31))
def test_every_text_goes_there_and_back(seed: int) -> None:
    architecture = SPACE.sample(generator=torch.Generator().manual_seed(seed))
    assert SPACE.parse(str(architecture)) == architecture
    assert SPACE.parse(" ".join(reversed(str(architecture).split()))) == architecture


def test_sampling_is_uniform() -> None:
    """Chi-square over all architectures. By chance it fails once in 1,000,000 seeds; the seed is fixed."""
    space = tiny_mobilenet(widths=(16,), strides=(1,))
    assert set(space) == set(all_architectures(space))
    assert uniformity(space, 30) > 1e-6


def test_sizes_of_the_stages() -> None:
    network: Any = build(SPACE, SPACE.everything_on(), seed=0).eval()
    sizes = []
    for module in (network.first, *network.stages, network.last):
        module.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 64, 64))
    assert sizes == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (80, 4, 4), (96, 4, 4), (192, 2, 2), (320, 2, 2)]


def test_shortcuts_around_all_but_the_first_blocks_of_stages() -> None:
    """What is left of a block whose convolutions are zero; in the second stage the first has room for a shortcut."""
    space = tiny_mobilenet(strides=(1, 1))
    network: Any = build(space, space.everything_on(), seed=0).eval()
    x = torch.rand(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    for first, second in network.stages:
        with torch.no_grad():
            for parameter in (*first.parameters(), *second.parameters()):
                parameter.zero_()
        assert torch.equal(first(x), torch.zeros_like(x))
        assert torch.equal(second(x), x)


def test_each_kernel_has_weights_of_its_own() -> None:
    with without_data():
        network = SPACE.network()
    choices = [module for module in network.modules() if isinstance(module, Choose)]
    assert len(choices) == 5 * 4 + 1
    for choice in choices:
        options: Any = choice.options
        assert [option[0].kernel_size for option in options] == [(3, 3), (5, 5), (7, 7)]
        assert len({id(parameter) for parameter in choice.parameters()}) == 3 * 3


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 9, 13), (1, 1, 1)])
def test_any_size_runs(shape: tuple[int, int, int]) -> None:
    space = tiny_mobilenet(num_classes=5, input_shape=shape)
    for architecture in (space.at(0), space.everything_on()):
        assert build(space, architecture, seed=0).eval()(torch.zeros(2, *shape)).shape == (2, 5)


def test_lists_as_from_yaml() -> None:
    lists = {"widths": [16, 16], "strides": [1, 2], "multipliers": [0.5, 1], "depths": [1, 2], "kernels": [3, 5]}
    space: Any = tiny_mobilenet(**lists, expansions=[1, 2])
    expected: Any = TINY
    assert space.choices == TINY.choices and space.network.keywords == expected.network.keywords


@pytest.mark.parametrize("name", ["widths", "strides", "depths", "kernels", "expansions", "multipliers"])
@pytest.mark.parametrize("values", [(), (0, 1), (True,), "12", 3, None])
def test_bad_lists(name: str, values: object) -> None:
    with pytest.raises(ValueError, match=f"^space.{name}: expected one or more .*, got"):
        tiny_mobilenet(**{name: values})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depths": (2, 1)}, "space.depths: expected one or more ascending whole numbers from 1 on"),
        ({"kernels": (3, 3)}, "space.kernels: expected one or more ascending whole numbers from 1 on"),
        ({"kernels": (3, 4)}, "space.kernels: expected odd numbers"),
        ({"expansions": (1.5,)}, "space.expansions: expected one or more ascending whole numbers from 1 on"),
        ({"multipliers": (1.0, 0.5)}, "space.multipliers: expected one or more ascending numbers above 0"),
        ({"multipliers": (float("nan"),)}, "space.multipliers: expected one or more ascending numbers above 0"),
        ({"strides": (1, 2, 2)}, "space.strides: expected one for each of 2 widths"),
        ({"num_classes": 0}, "space.num_classes: expected at least 1, got 0"),
        ({"input_shape": (3, 0, 4)}, "space.input_shape: expected .channels, height, width."),
    ],
)
def test_bad_settings(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        tiny_mobilenet(**wrong)
