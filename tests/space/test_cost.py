"""Costs by sums equal costs measured on the network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.space.cost import Cost, CostTable, cost_table, measure
from supernet.space.model import build, from_network
from supernet.space.values import value
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201

SPACES = [
    tiny_bender(),
    tiny_bender(layout="imagenet", cells=4, input_shape=(3, 33, 40)),
    nested(),
    tiny_nasbench201(input_shape=(3, 9, 13)),
    tiny_macro(input_shape=(3, 9, 13)),
    elastic(),
]
TABLES = [cost_table(space) for space in SPACES]


@pytest.mark.parametrize("table", TABLES, ids=["bender", "imagenet", "nested", "nasbench201", "macro", "elastic"])
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
