"""The space of DARTS against the figures and texts of the published code."""

from __future__ import annotations

import itertools
import math
from collections import namedtuple
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.cost import cost_table, measure
from supernet.space.layers import Choose
from supernet.space.model import build
from supernet.space.network import without_data
from supernet.spaces.darts import DartsNetwork, _FactorizedReduce, _operations, darts, to_genotype
from supernet.spaces.genotypes import KINDS, NODES, OPERATIONS
from tests.reference import uniformity
from tests.spaces_for_tests import assert_same_network, one_shot, tiny_bender


def tiny_darts(**changes: Any) -> Space:
    """A normal and two reduction cells of two channels, on 8x8 images of one channel."""
    settings: dict[str, Any] = {"channels": 2, "cells": 3, "num_classes": 3, "input_shape": (1, 8, 8), **changes}
    return darts(**settings)


SPACE = tiny_darts()
MODEL = one_shot(SPACE)
ODD = cost_table(tiny_darts(input_shape=(3, 9, 13)))
INDICES = st.integers(0, SPACE.size - 1)

DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
# Of Chen et al., "Progressive Differentiable Architecture Search", ICCV 2019, in the same network.
PDARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), ('dil_conv_5x5', 4)], normal_concat=range(2, 6), "
    "reduce=[('avg_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
PUBLISHED = {DARTS_V1: 3_169_414, DARTS_V2: 3_349_342, PDARTS: 3_433_798}


@pytest.mark.slow
def test_published_parameters() -> None:
    """To the last unit, at the published size; parameters do not depend on the size of the image."""
    space = darts(input_shape=(3, 4, 4))
    table = cost_table(space)
    architectures = [space.parse(text) for text in PUBLISHED]
    assert table.costs(architectures)[:, 0].tolist() == list(PUBLISHED.values())
    best = space.parse(DARTS_V2)
    assert table.cost(best) == measure(build(space, best, seed=0), space.input_shape)


@settings(max_examples=3, deadline=None)
@given(INDICES)
def test_costs_equal_measured(index: int) -> None:
    architecture = ODD.space.at(index)
    assert ODD.cost(architecture) == measure(build(ODD.space, architecture, seed=0), ODD.space.input_shape)


def test_operations_by_their_weights() -> None:
    """Weights of each operation at width C: depthwise k*k*C, pointwise C*C; separable ones twice."""
    counted = {}
    network: Any = MODEL.network
    for module in network.cells[1].modules():
        if isinstance(module, Choose) and module.choice.options == OPERATIONS:
            for name, option in zip(OPERATIONS, module.options, strict=True):
                strided = module.choice.name[-1] in "01"
                counted[name, strided] = sum(p.numel() for p in option.parameters() if p.ndim > 1)
    width = 4
    for strided in (False, True):
        assert [counted[name, strided] for name in OPERATIONS] == [
            *(0, 0, 0, width * width if strided else 0),
            *(2 * (k * k * width + width * width) for k in (3, 5)),
            *(k * k * width + width * width for k in (3, 5)),
        ]


def test_number_of_architectures() -> None:
    cell = math.prod(math.comb(2 + node, 2) * 8**2 for node in range(4))
    assert (cell, SPACE.size) == (3_019_898_880, cell**2)
    without_none = math.prod(math.comb(2 + node, 2) * 7**2 for node in range(4))
    assert (without_none, round(without_none**2 / 1e18, 1)) == (1_037_664_180, 1.1)


def test_sampling_is_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chi-square over all architectures of one cell of two nodes, which four would make too many to list.

    By chance it fails once in 1,000,000 seeds; the seed is fixed.
    """
    monkeypatch.setattr(import_module("supernet.spaces.darts"), "NODES", 2)
    space = tiny_darts(cells=1)
    assert space.size == 8**2 * 3 * 8**2
    assert uniformity(space, 5) > 1e-6


@given(INDICES)
def test_every_node_takes_two_inputs_with_one_operation_each(index: int) -> None:
    picks = dict(SPACE.at(index).picks)
    for kind, node in itertools.product(KINDS, range(NODES)):
        name = f"{kind}.node{1 + node}"
        sources = picks.pop(f"{name}.inputs")
        assert len(set(sources)) == 2
        assert set(sources) <= set(map(str, range(2 + node)))
        for source in sources:
            (operation,) = picks.pop(f"{name}.op{source}")
            assert operation in OPERATIONS
    assert not picks


@given(INDICES)
def test_texts_go_there_and_back(index: int) -> None:
    architecture = SPACE.at(index)
    text = to_genotype(architecture)
    assert SPACE.parse(text) == SPACE.parse(f" {text}\n") == architecture
    assert to_genotype(SPACE.parse(text)) == text
    assert SPACE.parse(str(architecture)) == architecture


@st.composite
def cells(draw: st.DrawFn) -> list[tuple[str, int]]:
    pairs = []
    for node in range(4):
        sources = draw(st.lists(st.integers(0, 1 + node), min_size=2, max_size=2, unique=True))
        pairs += [(draw(st.sampled_from(OPERATIONS)), source) for source in sources]
    return pairs


Genotype = namedtuple("Genotype", "normal normal_concat reduce reduce_concat")


@given(cells(), cells(), st.sampled_from([range(2, 6), [2, 3, 4, 5]]))
def test_genotypes_by_the_published_rule(
    normal: list[tuple[str, int]], reduce: list[tuple[str, int]], concat: object
) -> None:
    genotype = Genotype(normal, concat, reduce, concat)
    architecture = SPACE.parse(repr(genotype))
    picks = dict(architecture.picks)
    for kind, pairs in (("normal", normal), ("reduce", reduce)):
        for position, (operation, source) in enumerate(pairs):
            assert picks[f"{kind}.node{1 + position // 2}.op{source}"] == (operation,)
    ascending = [sorted(pairs[i : i + 2], key=lambda pair: pair[1]) for pairs in (normal, reduce) for i in (0, 2, 4, 6)]
    expected = genotype._replace(
        normal=sum(ascending[:4], []), normal_concat=range(2, 6), reduce=sum(ascending[4:], []),
        reduce_concat=range(2, 6),
    )  # fmt: skip
    assert to_genotype(architecture) == repr(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Genotype(", r"expected Genotype\(normal=\[\('sep_conv_3x3', 0\), ...\].* with 8 pairs in each list, .*; got"),
        ("print('x')", r"expected Genotype\("),
        (DARTS_V2.replace("Genotype", "Network"), r"expected Genotype\("),
        (DARTS_V2.replace("normal=", "usual="), r"expected Genotype\("),
        (DARTS_V2.replace("reduce_concat=", "normal_concat="), r"expected Genotype\("),
        (DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=list(range(2, 6))"), r"expected Genotype\("),
        (DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=range('a')"), r"expected Genotype\("),
        (f"Genotype(normal={'-' * 9000}1)", r"expected Genotype\("),
        ("DARTS_V2", "expected words CHOICE=OPTION"),
        (DARTS_V2.replace("('max_pool_3x3', 0), ", "", 1), "reduce: expected a list of 8 pairs, 2 for each node"),
        (DARTS_V2.replace("dil_conv_3x3", "dil_conv_7x7"), "normal, pairs 7 and 8: .* of none, .*'dil_conv_7x7', 2"),
        (DARTS_V2.replace("3x3', 2", "3x3', 5"), r"normal, pairs 7 and 8: expected 2 pairs .* inputs from 0 to 4"),
        (
            DARTS_V2.replace("('skip_connect', 0), ('dil", "('skip_connect', 2), ('dil"),
            "normal, pairs 7 and 8: expected 2 pairs",
        ),
        (
            DARTS_V2.replace("('max_pool_3x3', 1)", "('max_pool_3x3', 0)", 1),
            "reduce, pairs 1 and 2: .* inputs from 0 to 1",
        ),
        (DARTS_V2.replace("('max_pool_3x3', 1)", "'max_pool_3x3'", 1), "reduce, pairs 1 and 2: expected 2 pairs"),
        (
            DARTS_V2.replace("normal_concat=[2, 3, 4, 5]", "normal_concat=[3, 4, 5]"),
            r"normal_concat: expected range\(2",
        ),
        (DARTS_V2.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(9**9)"), r"expected Genotype\("),
        (DARTS_V2.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=range(3, 6)"), r"reduce_concat: expected range"),
    ],
)
def test_a_genotype_that_does_not_fit_says_why(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (SPACE.everything_on(), "expected 2 inputs for each node of a normal and of a reduction cell"),
        (tiny_bender().at(0), "expected 2 inputs for each node of a normal and of a reduction cell"),
        (Architecture(SPACE.at(0).picks[:-1]), "expected one option for each of normal.node1.op0, normal.node1.op1"),
    ],
    ids=["everything", "bender", "part"],
)
def test_only_architectures_of_this_space_have_a_genotype(architecture: Architecture, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        to_genotype(architecture)


@pytest.mark.parametrize("cells", [1, 2])
def test_without_a_normal_cell(cells: int) -> None:
    space = tiny_darts(cells=cells)
    assert {choice.name.split(".")[0] for choice in space.choices} == {"reduce"}
    assert space.size == 3_019_898_880
    architecture = space.at(space.size // 3)
    assert space.parse(str(architecture)) == architecture
    with pytest.raises(ArchitectureError, match=f"this network of {cells} has no normal cell"):
        space.parse(DARTS_V2)
    with pytest.raises(ArchitectureError, match="of a normal and of a reduction cell"):
        to_genotype(architecture)


@pytest.mark.parametrize(("number", "reductions"), [(1, [0]), (2, [0, 1]), (5, [1, 3])])
def test_cells_of_a_kind_follow_the_same_choices(number: int, reductions: list[int]) -> None:
    with without_data():
        network = DartsNetwork(2, number, 3, (1, 8, 8), True)
    for index, cell in enumerate(network.cells):
        kind = "reduce" if index in reductions else "normal"
        names = [module.choice.name for module in cell.modules() if isinstance(module, Choose)]
        assert names == [choice.name for choice in SPACE.choices if choice.name.startswith(kind)]


def test_resolution_halves_and_channels_double_in_reduction_cells() -> None:
    sizes = []
    network: Any = build(SPACE, SPACE.at(0), seed=0).eval()
    for module in (network.stem, *network.cells):
        module.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 1, 8, 8))
    assert sizes == [(6, 8, 8), (8, 8, 8), (16, 4, 4), (32, 2, 2)]


@pytest.mark.parametrize(("cells", "shape"), [(1, (3, 32, 32)), (2, (2, 9, 13)), (3, (1, 1, 1))])
def test_any_size_runs(cells: int, shape: tuple[int, int, int]) -> None:
    space = darts(1, cells, 5, shape)
    network = build(space, space.everything_on(), seed=0).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (5, 4)])
def test_operations_halve_upwards(size: tuple[int, int]) -> None:
    modules = _operations(2, 2, True)
    for name, module in modules.items():
        assert module.eval()(torch.ones(1, 2, *size)).shape[2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2), name
    torch.testing.assert_close(modules["avg_pool_3x3"](torch.ones(1, 2, *size)).unique(), torch.ones(1))
    assert not modules["none"](torch.ones(1, 2, *size)).any()


def test_half_of_the_channels_come_from_odd_pixels() -> None:
    """For images of even size as published; of odd size the last odd pixels lie beyond the border."""
    reduce = _FactorizedReduce(3, 4, True).train()
    x = torch.randn(5, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    published = torch.cat([reduce.even(x.relu()), reduce.odd(x.relu()[:, :, 1:, 1:])], 1)
    torch.testing.assert_close(reduce(x), reduce.norm(published))
    odd = reduce(x[:, :, 1:, 1:])
    torch.testing.assert_close(odd, reduce(nn.functional.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))))


@settings(max_examples=4, deadline=None)
@given(INDICES)
def test_one_architecture_live_equals_the_stand_alone_network(index: int) -> None:
    assert_same_network(MODEL, SPACE.at(index))


@pytest.mark.parametrize("name", ["channels", "cells", "num_classes"])
def test_bad_sizes(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"space.{name}: expected at least 1, got 0"):
        darts(**settings)


def test_bad_shape() -> None:
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        darts(input_shape=(3, 32))  # type: ignore[arg-type]  # a wrong shape is what is tested
