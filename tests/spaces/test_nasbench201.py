"""The space of NAS-Bench-201 against the figures that the benchmark publishes."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.space.choices import Architecture, ArchitectureError
from supernet.space.cost import cost_table, measure
from supernet.space.layers import Choose, Graph, OneShot
from supernet.space.model import build
from supernet.spaces import nasbench201
from supernet.spaces.nasbench201 import EDGES, NAMES, canonical, simplified, to_string
from tests.spaces_for_tests import one_shot, tiny_bender, tiny_nasbench201

SPACE = nasbench201()
EVERY = list(SPACE)
OPTIONS = SPACE.choices[0].options
LARGEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
FIRST = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
SECOND = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
ZERO = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"

# Parameters and FLOPs as published, in units, for CIFAR-10, CIFAR-100 and ImageNet16-120 (classes, pixels). The largest
# and the smallest cells are the ends of the published ranges, the other two have the benchmark's numbers 0 and 1.
PUBLISHED = [
    (LARGEST, 10, 32, 1_531_546, 220_119_690),
    (LARGEST, 100, 32, 1_537_396, 220_125_540),
    (LARGEST, 120, 16, 1_538_696, 55_037_560),
    (FIRST, 10, 32, 129_306, 15_647_370),
    (SECOND, 10, 32, 802_426, 113_951_370),
    (ZERO, 10, 32, 73_306, 7_783_050),
    (ZERO, 100, 32, 79_156, 7_788_900),
    (ZERO, 120, 16, 80_456, 1_953_400),
]


@pytest.mark.parametrize(("text", "classes", "pixels", "params", "flops"), PUBLISHED)
def test_published_costs(text: str, classes: int, pixels: int, params: int, flops: int) -> None:
    """To the last unit. The benchmark counts the offsets of the classifier as FLOPs, one for each class."""
    space = nasbench201(num_classes=classes, input_shape=(3, pixels, pixels))
    cost = cost_table(space).cost(space.parse(text))
    assert (cost.params, cost.macs + classes) == (params, flops)


def test_costs_equal_measured() -> None:
    architecture = SPACE.parse(FIRST)
    assert cost_table(SPACE).cost(architecture) == measure(build(SPACE, architecture), SPACE.input_shape)


def test_published_range_of_costs() -> None:
    costs = cost_table(SPACE).costs(EVERY)
    assert costs.min(0)[[0, 2]].tolist() == [73_306, 7_783_050 - 10]
    assert costs.max(0)[[0, 2]].tolist() == [1_531_546, 220_119_690 - 10]


def test_number_of_architectures() -> None:
    assert SPACE.size == len(set(EVERY)) == 5**6 == 15_625


def test_every_text_goes_there_and_back() -> None:
    texts = {to_string(architecture): architecture for architecture in EVERY}
    assert len(texts) == len(EVERY)
    assert all(SPACE.parse(text) == architecture for text, architecture in texts.items())


@given(st.lists(st.sampled_from(SPACE.choices[0].options), min_size=6, max_size=6))
def test_text_by_the_benchmarks_rule(ops: list[str]) -> None:
    text = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|".format(*ops)
    architecture = SPACE.parse(f" {text}\n")
    assert to_string(architecture) == text
    assert SPACE.parse(str(architecture)) == architecture
    for (source, node), operation in zip(EDGES, ops, strict=True):
        assert dict(architecture.picks)[f"edge{source}-{node}"] == (operation,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("|", r"expected \|op~0\|.*, with 3 nodes between \+; got 1 in '\|'"),
        ("|none~0|+|none~0|none~1|", r"with 3 nodes between \+; got 2 in"),
        (f"{ZERO}+|none~0|", r"with 3 nodes between \+; got 4 in"),
        (ZERO.replace("none~2", "zero~2"), "'zero~2': expected an operation of none, skip_connect"),
        (ZERO.replace("none~2", "nor_conv_7x7~2"), "'nor_conv_7x7~2': expected an operation of none, skip_connect"),
        (
            ZERO.replace("none~2", "none~1"),
            r"'\|none~0\|none~1\|none~1\|': expected one operation with each of ~0 and ~1",
        ),
        (ZERO.replace("none~2", "none~3"), "expected one operation with each of ~0 and ~1 and ~2"),
        (ZERO.replace("|none~2", ""), "expected one operation with each of ~0 and ~1 and ~2"),
        (ZERO.replace("~2", ""), "expected one operation with each of ~0 and ~1 and ~2"),
        ("6111", r"expected \|op~0\|.*, or six numbers such as \(4, 0, 3, 1, 4, 0\)"),
        ("(4, 0, 3, 1, 4)", r"0 skip_connect, 1 none, .*; got '\(4, 0, 3, 1, 4\)'"),
        ("(4, 0, 3, 1, 4, 5)", "or six numbers"),
        ("nonsense", "or six numbers"),
        ("", "or six numbers"),
        ("[(('conv', 0),), (('none', 0), ('none', 1)), (('none', 0), ('none', 1), ('none', 2))]", "'conv~0': expected"),
        ("edge0-1=zero", "edge0-1=zero|choice 'edge0-2' has no pick"),
    ],
)
def test_a_text_that_does_not_fit_says_why(text: str, message: str) -> None:
    """In the words of the text: it names a choice of ours only if the text does."""
    with pytest.raises(ArchitectureError, match=message) as error:
        SPACE.parse(text)
    assert "edge" in text or "edge" not in str(error.value)


@given(st.lists(st.integers(0, 4), min_size=6, max_size=6))
def test_numbers_of_naslib(numbers: list[int]) -> None:
    """By the rule of its code: nodes are numbered from 1, edges are (1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)."""
    names = ["skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"]
    edges = dict(zip([(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], numbers, strict=True))
    text = "+".join(
        "|" + "|".join(f"{names[edges[head, tail]]}~{head - 1}" for head in range(1, tail)) + "|" for tail in (2, 3, 4)
    )
    for form in (tuple(numbers), numbers):
        assert to_string(SPACE.parse(str(form))) == text


@given(st.sampled_from(EVERY), st.sampled_from(["{}", "'{}'", '"{}"', "`{}`", "Structure(4 nodes with {})", " {} "]))
def test_forms_of_the_benchmarks_text(architecture: Architecture, form: str) -> None:
    assert SPACE.parse(form.format(to_string(architecture))) == architecture
    nodes = [
        tuple((edge.partition("~")[0], int(edge[-1])) for edge in node.strip("|").split("|"))
        for node in to_string(architecture).split("+")
    ]
    assert SPACE.parse(str(nodes)) == architecture


@pytest.mark.parametrize("function", [to_string, canonical, simplified])
@pytest.mark.parametrize("architecture", [SPACE.everything_on(), tiny_bender().at(0)], ids=["everything", "bender"])
def test_only_single_operations_of_this_space(
    function: Callable[[Architecture], object], architecture: Architecture
) -> None:
    with pytest.raises(ArchitectureError, match="expected one option for each of edge0-1, edge0-2"):
        function(architecture)


def test_number_of_classes() -> None:
    """The benchmark's own number, and what remains when zeros, the order of sums and pooled sums are seen."""
    published = [canonical(architecture) for architecture in EVERY]
    complete = [canonical(architecture, complete=True) for architecture in EVERY]
    assert (len(set(published)), len(set(complete))) == (6_466, 4_660)
    assert len(set(zip(published, complete, strict=True))) == 6_466, "a published class was split"


@pytest.mark.parametrize("complete", [False, True])
def test_one_class_is_one_function(complete: bool) -> None:
    """Of all cells without convolutions, whose function does not depend on weights."""
    model = one_shot(tiny_nasbench201())
    cells = [a for a in model.space if "conv" not in str(a)]
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = model(images.repeat(len(cells), 1, 1, 1), model.space.live(cells)).unflatten(0, (len(cells), 2))
    classes: dict[str, list[torch.Tensor]] = defaultdict(list)
    for cell, output in zip(cells, outputs, strict=True):
        classes[canonical(cell, complete=complete)].append(output)
    assert len(classes) < len(cells) == 3**6
    for members in classes.values():
        for member in members:
            torch.testing.assert_close(member, members[0], rtol=1e-7, atol=1e-7)


def test_a_simplified_cell_is_the_smallest_that_zeroing_edges_makes() -> None:
    """Of all cells: the same function, no edge more that could be zeroed, and nothing left to simplify."""
    table = cost_table(SPACE)
    short = [simplified(cell) for cell in EVERY]
    assert [canonical(cell, complete=True) for cell in short] == [canonical(cell, complete=True) for cell in EVERY]
    assert [simplified(cell) for cell in short] == short
    params = dict(zip(EVERY, table.costs(EVERY)[:, 0].tolist(), strict=True))
    for cell, simple in zip(EVERY[::97], short[::97], strict=True):
        picks = dict(cell.picks)
        zeroed = [SPACE.reached({**picks, **dict.fromkeys(some, ("none",))}) for some in subsets(list(picks))]
        same = [a for a in zeroed if canonical(a, complete=True) == canonical(cell, complete=True)]
        assert params[simple] == min(params[a] for a in same)


def subsets(names: list[str]) -> list[tuple[str, ...]]:
    return [some for n in range(len(names) + 1) for some in itertools.combinations(names, n)]


def test_every_cell_follows_the_same_choices() -> None:
    network = nasbench201(channels=1, cells_per_stage=2).network()
    names = [module.choice.name for module in network.modules() if isinstance(module, Choose)]
    assert names == [choice.name for choice in SPACE.choices] * 6


def test_resolution_halves_and_channels_double_between_stages() -> None:
    space = nasbench201(channels=2, cells_per_stage=1, input_shape=(3, 16, 16))
    network: Any = build(space, space.parse(LARGEST), seed=0).eval()
    sizes = []
    for module in network.body:
        module.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 16, 16))
    assert sizes == [(2, 16, 16), (4, 8, 8), (4, 8, 8), (8, 4, 4), (8, 4, 4)]


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 9, 13), (1, 1, 1)])
def test_any_size_runs(shape: tuple[int, int, int]) -> None:
    space = nasbench201(1, 1, 5, shape)
    network = build(space, space.everything_on(), seed=0).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)


def test_pooling_at_the_border_averages_what_is_there() -> None:
    network: Any = build(
        tiny_nasbench201(),
        tiny_nasbench201().parse(ZERO.replace("none~0|none~1|none~2", "avg_pool_3x3~0|none~1|none~2")),
    )
    ones = torch.ones(1, 2, 5, 5)
    torch.testing.assert_close(network.body[0](ones), ones)


@pytest.mark.parametrize("name", ["channels", "cells_per_stage", "num_classes"])
def test_bad_sizes(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"space.{name}: expected at least 1, got 0"):
        nasbench201(**settings)


def test_bad_shape() -> None:
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        nasbench201(input_shape=(3, 32))  # type: ignore[arg-type]  # a wrong shape is what is tested


def every_edge(cell: Graph, x: torch.Tensor) -> torch.Tensor:
    """What a cell is by definition: every edge is run and added, whatever it brings."""
    nodes = [x]
    for (source, node), edge in zip(EDGES, cell.edges, strict=True):
        y = edge(nodes[source])
        nodes[node:] = [nodes[node] + y] if node < len(nodes) else [y]
    return nodes[-1]


def outputs_and_gradients(model: OneShot, x: torch.Tensor, live: torch.Tensor) -> list[torch.Tensor]:
    output = model(x, live)
    found = torch.autograd.grad(output.square().sum(), list(model.parameters()), allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(model.parameters(), found, strict=True)]
    return [output.detach(), *gradients]


LIVELY = [one_shot(tiny_nasbench201(affine=affine)) for affine in (True, False)]
for of in LIVELY:  # offsets are zero at first, and would not be missed
    for parameter in of.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", LIVELY, ids=["affine", "plain"])
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(["none", "none", *OPTIONS]), min_size=6, max_size=6), min_size=1, max_size=3),
    st.booleans(),
)
def test_what_is_not_run_is_not_missed(model: OneShot, rows: list[list[str]], dropped: bool) -> None:
    """Outputs and gradients, with several paths in one pass, and where a choice has no live option."""
    texts = [" ".join(f"{name}={op}" for name, op in zip(NAMES, ops, strict=True)) for ops in rows]
    live = model.space.live([model.space.parse(text) for text in texts])
    if dropped:
        live[:, [model.space.columns["edge0-1", option] for option in OPTIONS]] = False
    x = torch.randn(3 * len(rows), 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Graph, "forward", every_edge)
        expected = outputs_and_gradients(model, x, live)
    for a, b in zip(expected, outputs_and_gradients(model, x, live), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("cell", "pixels"),
    [
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|", [64] * 6),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|nor_conv_3x3~0|none~1|none~2|", [64]),
        ("|none~0|+|none~0|nor_conv_1x1~1|+|none~0|nor_conv_1x1~1|nor_conv_3x3~2|", [2, 2, 64]),
        ("|none~0|+|none~0|none~1|+|nor_conv_1x1~0|nor_conv_1x1~1|nor_conv_3x3~2|", [2, 2, 64]),
        ("|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|none~2|", []),
    ],
)
def test_how_many_pixels_a_cells_convolutions_see(cell: str, pixels: list[int]) -> None:
    space = tiny_nasbench201()
    model = one_shot(space)
    seen: list[int] = []
    network: Any = model.network
    for module in network.body[0].modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda *args: seen.append(args[1][0][0, 0].numel()))
    model(torch.zeros(4, 1, 8, 8, dtype=torch.float64), space.live([space.parse(cell)]))
    assert sorted(seen) == pixels
