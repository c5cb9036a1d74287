"""Costs by sums equal costs measured on the network."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet.space import cost
from supernet.space.choices import Space
from supernet.space.cost import Cost, CostTable, cost_table, measure
from supernet.space.layers import Depth
from supernet.space.model import build, from_network
from supernet.space.tabulate import TRIALS, Measured, Setting
from supernet.space.values import value
from supernet.spaces import convnet
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201

SPACES = [
    tiny_bender(),
    tiny_bender(layout="imagenet", cells=4, input_shape=(3, 33, 40)),
    nested(),
    tiny_nasbench201(input_shape=(3, 9, 13)),
    tiny_macro(input_shape=(3, 9, 13)),
    elastic(),
    convnet(input_shape=(3, 9, 13), width=4, depths=(1, 2), kernels=(3,), stages=2),
]
TABLES = [cost_table(space) for space in SPACES]


@pytest.mark.parametrize(
    "table", TABLES, ids=["bender", "imagenet", "nested", "nasbench201", "macro", "elastic", "convnet"]
)
@settings(max_examples=20, deadline=None)
@given(st.data())
def test_sums_equal_measured(table: CostTable, data: st.DataObject) -> None:
    space = table.space
    architecture = space.at(data.draw(st.integers(0, space.size - 1)))
    assert table.cost(architecture) == measure(build(space, architecture), space.input_shape)


def test_everything_on() -> None:
    space, table = SPACES[0], TABLES[0]
    everything = space.everything_on()
    assert table.cost(everything) == measure(build(space, everything), space.input_shape)
    assert table.cost(everything).params == sum(p.numel() for p in build(space).parameters())


def test_a_network_counted_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 25, 2))
    weights = 3 * 8 * 9 + 8 + 8 * 25 * 2 + 2
    assert measure(network, (3, 5, 5)) == Cost(weights + 16, weights, 3 * 8 * 9 * 25 + 8 * 25 * 2)


def test_measuring_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    measure(network, (3, 5, 5))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_many_at_once_equal_one_by_one() -> None:
    space, table = SPACES[0], TABLES[0]
    drawn = space.sample_distinct(200, generator=torch.Generator().manual_seed(0))
    for row, architecture in zip(table.costs(drawn).tolist(), drawn, strict=True):
        cost = table.cost(architecture)
        assert row == [cost.params, cost.params_without_norm, cost.macs]


def test_costs_that_follow_from_a_choice_elsewhere() -> None:
    """The second convolution does not hold the stride of the first, but its output is smaller for it."""

    def network() -> nn.Module:
        first, second = nn.Conv2d(1, 4, 3, value("stride", (1, 2))), nn.Conv2d(4, value("width", (2, 3)), 3)
        return nn.Sequential(first, second, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    space = from_network(network, torch.zeros(1, 1, 9, 9))
    table = cost_table(space)
    for architecture in space:
        assert table.cost(architecture) == measure(build(space, architecture), (1, 9, 9))
    assert len({table.cost(architecture).macs for architecture in space}) == space.size == 4


def pixels(strides: int) -> nn.Module:
    """Down to one pixel with any two of three strides; the last layers hold none of them."""
    layers = [nn.Conv2d(4, 4, 1, value(f"stride{i}", (1, 2))) for i in range(strides)]
    width = value("width", (2, 3, 5))
    return nn.Sequential(nn.Conv2d(1, 4, 1), *layers, nn.Conv2d(4, width, 1), nn.BatchNorm2d(width), nn.Flatten(2))


class Tied(nn.Module):
    """One weight at two places, a parameter that the network's own code cuts, and a product without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.width = value("width", (2, 3, 5))
        self.first, self.second = nn.Linear(4, self.width), nn.Linear(4, self.width)
        self.second.weight = self.first.weight
        self.offset = nn.Parameter(torch.zeros(self.width, 4))
        self.norm = nn.LayerNorm(self.width)
        self.heads = value("heads", (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x) + self.second(x))
        scores = y.reshape(-1, self.width, 1) @ y.reshape(-1, 1, self.width)
        return scores.sum((1, 2))[:, None] + (y @ self.offset[: self.width])[:, : 2 * self.heads].sum(1, keepdim=True)


def kernels() -> nn.Module:
    """The size of a kernel and whether there is a bias in it, decided by values that no slice of a weight knows."""
    kernel, width = value("kernel", (1, 3, 5)), value("width", (2, 4))
    convolution = nn.Conv2d(3, width, kernel, padding="same", groups=1)
    return nn.Sequential(convolution, nn.Conv2d(width, width, 3, groups=width), nn.ConvTranspose2d(width, 3, 2, 2))


@pytest.mark.parametrize(
    ("network", "shape"), [(lambda: pixels(3), (1, 4, 4)), (Tied, (4,)), (kernels, (3, 7, 7))],
    ids=["pixels", "tied", "kernels"],
)  # fmt: skip
def test_users_networks(network: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    """Every architecture against the slow way: built alone and measured."""
    space = from_network(network, torch.zeros(1, *shape), check=False)
    table = cost_table(space)
    for architecture in space:
        assert table.cost(architecture) == measure(build(space, architecture), shape)


def test_a_table_takes_few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything on, the other strides, and the trials: not every combination of widths, expansions and strides."""
    passes: list[Setting] = []

    def counted(space: Space, setting: Setting) -> Measured:
        passes.append(setting)
        return measure_modules(space, setting)

    measure_modules = cost._measure_modules
    monkeypatch.setattr(cost, "_measure_modules", counted)
    cost._measured_table(convnet(width=4, depths=(1, 2), kernels=(3,)), None, ())  # cost_table remembers
    assert len(passes) == 2 + 1 + TRIALS


@pytest.mark.parametrize("need_weights", [True, False])
def test_multiply_adds_of_attention_are_counted(need_weights: bool) -> None:
    """Torch's fused operations for whole layers, and its attention on CPUs, are missing from its counter."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.of(x, x, x, need_weights=need_weights)[0]
            return y

    def make() -> nn.Module:
        layers = [nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True) for _ in range(2)]
        return nn.Sequential(nn.Linear(6, 16), Depth("n", layers), Attention(), nn.Linear(16, 3))

    space = from_network(make, torch.zeros(1, 5, 6))
    attention = 5 * (3 * 16 * 16 + 16 * 16) + 2 * 5 * 5 * 16
    layer = attention + 5 * 2 * 16 * 32
    for number, architecture in enumerate(space, 1):
        by_hand = 5 * (6 * 16 + 16 * 3) + attention + number * layer
        assert cost_table(space).cost(architecture).macs == by_hand
        assert measure(build(space, architecture), (5, 6)).macs == by_hand
