"""Drawings of cells and networks."""

from __future__ import annotations

import re

import pytest
import torch

from supernet import spaces
from supernet.draw import networks
from supernet.draw.parts import Part
from supernet.draw.svg import LETTERS


@pytest.mark.parametrize("name", spaces.SPACES)
def test_every_space_has_a_picture_of_its_winner(name: str) -> None:
    space = spaces.SPACES[name]()
    architecture = space.sample(generator=torch.Generator().manual_seed(0))
    picks = dict(architecture.picks)
    figures = networks.cells(picks, {choice.name: choice.options for choice in space.choices})
    drawn = "".join(figures.values())
    for choice, options in picks.items():
        for option in options:
            assert option in ("none", "0", "1", "2", "3", "4") or f">{option}" in drawn, (choice, option)
    assert list(networks.arrows(picks)) == {
        "bender": ["cell"], "nasbench201": ["cell"], "darts": ["normal", "reduce"],
    }.get(name, [])  # fmt: skip


def test_arrows_of_a_cell_of_numbered_nodes() -> None:
    picks = {
        "reduce.node1.inputs": ("0", "1"), "reduce.node1.op0": ("conv",), "reduce.node1.op1": ("none",),
        "reduce.node2.inputs": ("1", "2"), "reduce.node2.op1": ("pool",), "reduce.node2.op2": ("skip",),
    }  # fmt: skip
    lines, edges = networks.arrows(picks)["reduce"]
    assert lines == {
        "before": ["before"], "last": ["last"], "node1": ["node1", "conv of before"],
        "node2": ["node2", "pool of last", "skip of node1"],
    }  # fmt: skip
    assert edges == [("before", "node1"), ("last", "node2"), ("node1", "node2")]


def test_a_network_has_a_box_for_each_part_and_an_arrow_for_each_source() -> None:
    parts = [
        Part("stem", "Conv2d", 1234, (8, 16, 16), ()),
        Part("cell", "Cell", 56, (8, 8, 8), (0,)),
        Part("head", "Linear", 90, (10,), (0, 1)),
    ]
    drawn = networks.network(parts)
    for text in ("stem: Conv2d", "cell: Cell", "head: Linear", "8 x 16 x 16; 1,234 parameters", "10; 90 parameters"):
        assert f">{text}<" in drawn
    assert boxes_and_arrows(drawn) == (3, 3)
    assert boxes_and_arrows(networks.network(parts[:1])) == (1, 0)


def test_long_lines_of_a_cell_are_wrapped_and_not_made_smaller() -> None:
    picks = {"a.inputs": ("last",), "a.ops": ("separable5x5-and-more", "identity of all that was before it")}
    svg = networks.cells(picks, {})["cell"]
    assert ">identity of all<" in svg and "identity of all that was before it" not in svg
    assert {float(size) for size in re.findall(r"font-size: ([\d.]+)px", svg)} == {LETTERS}


def boxes_and_arrows(drawn: str) -> tuple[int, int]:
    """Their numbers; an arrow is written as two paths with round ends: its line and its head."""
    return drawn.count("fill: #dfe8f5"), drawn.count("stroke-linecap: round") // 2


def test_a_graph_without_names_that_are_understood_is_none() -> None:
    assert networks.arrows({"depth": ("2",), "width": ("8",)}) == {}
    assert list(networks.cells({"depth": ("2",)}, {"depth": ("1", "2")})) == ["choices"]
