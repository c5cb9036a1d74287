"""Measures of untrained networks against slow and obvious ways to compute them."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import build, extract
from supernet.data.splits import from_arrays
from supernet.search.measures import (
    MEASURES,
    examples_of,
    jacov,
    layers,
    longest_path,
    measures_of,
    nwot,
    synflow,
)
from supernet.space.choices import Architecture, Space
from supernet.spaces import bender, convnet, darts, macro, mobilenet, nasbench201, resnet
from supernet.spaces.nasbench201 import EDGES, NAMES
from supernet.speed.runtime import RuntimeConfig, start
from tests.spaces_for_tests import tiny_macro, tiny_nasbench201


def examples(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = examples(6, 3, 8, 8)

SPACES: dict[str, Space] = {
    "nasbench201": nasbench201(channels=2, cells_per_stage=1, num_classes=3, input_shape=(3, 8, 8)),
    "macro": macro(channels=2, num_classes=3, input_shape=(3, 16, 16)),
    "bender": bender(filters=2, cells=2, choice_blocks=2, num_classes=3, input_shape=(3, 8, 8)),
    "darts": darts(channels=4, cells=3, num_classes=3, input_shape=(3, 16, 16)),
    "resnet": resnet(num_classes=3, input_shape=(3, 8, 8), depths=(1, 2), widths=(2, 3)),
    "convnet": convnet(num_classes=3, input_shape=(3, 8, 8), width=4, depths=(1, 2), activations=("relu",)),
    "mobilenet": mobilenet(
        num_classes=3, input_shape=(3, 32, 32), widths=(8, 16), strides=(1, 2), depths=(1, 2), multipliers=(1.0, 2.0)
    ),
}
WITHOUT_WIDTHS = ("nasbench201", "macro", "bender", "darts")


# ---- slow ways ----


def slow_jacov(network: nn.Module, x: Tensor) -> float:
    network, x = copy.deepcopy(network).train(), x.clone().requires_grad_()
    network(x).sum().backward()
    assert x.grad is not None
    v = np.linalg.eigvalsh(np.corrcoef(x.grad.double().reshape(len(x), -1).numpy())) + 1e-5
    return float(-np.sum(np.log(v) + 1 / v))


def slow_nwot(network: nn.Module, x: Tensor) -> float:
    network = copy.deepcopy(network).train()
    matrix = np.zeros((len(x), len(x)))

    def see(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        on = (inputs[0] > 0).reshape(len(x), -1).numpy()
        for i, j in itertools.product(range(len(x)), repeat=2):
            matrix[i, j] += (on[i] & on[j]).sum() + (~on[i] & ~on[j]).sum()

    for module in network.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            module.register_forward_pre_hook(see)
    with torch.no_grad():
        network(x)
    return float(np.linalg.slogdet(matrix)[1])


def slow_synflow(network: nn.Module, x: Tensor) -> float:
    network = copy.deepcopy(network).double().eval()
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            vars(module)["forward"] = lambda y: y
    for parameter in network.parameters():
        parameter.data.abs_()
        parameter.grad = None
    network(torch.ones(1, *x.shape[1:], dtype=torch.float64)).sum().backward()
    weights = [m.weight for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return math.log(sum(float((w.detach() * w.grad).abs().sum()) for w in weights if w.grad is not None))


class Made(nn.Module):
    """A chain of blocks, some of them with a shortcut."""

    def __init__(self, kinds: list[str], width: int) -> None:
        super().__init__()
        self.kinds = kinds
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(self.block(kind, width) for kind in kinds)
        self.head = nn.Linear(width, 2)

    @staticmethod
    def block(kind: str, width: int) -> nn.Module:
        steps: dict[str, list[nn.Module]] = {
            "conv": [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()],
            "norm": [nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)],
            "shortcut": [nn.BatchNorm2d(width), nn.ReLU6(), nn.Conv2d(width, width, 3, padding=1, groups=width)],
            "pool": [nn.AvgPool2d(3, 1, 1)],
        }
        return nn.Sequential(*steps[kind])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for kind, block in zip(self.kinds, self.blocks, strict=True):
            x = x + block(x) if kind == "shortcut" else block(x)
        return self.head(x.mean((2, 3)))


KINDS = st.lists(st.sampled_from(["conv", "norm", "shortcut", "pool"]), max_size=5)


@settings(max_examples=25, deadline=None)
@given(kinds=KINDS, width=st.integers(2, 5), seed=st.integers(0, 2**16))
def test_measures_equal_their_definitions(kinds: list[str], width: int, seed: int) -> None:
    torch.manual_seed(seed)
    network, x = Made(["norm", *kinds], width).double(), examples(5, 3, 6, 6, seed=seed).double()
    assert jacov(network, x) == pytest.approx(slow_jacov(network, x), rel=1e-6)
    assert synflow(network, x) == pytest.approx(slow_synflow(network, x), rel=1e-9)
    assert nwot(network, x) == pytest.approx(slow_nwot(network, x), rel=1e-9)
    weighted = 2 + len([kind for kind in ["norm", *kinds] if kind != "pool"])
    assert layers(network, x) == longest_path(network, x) == weighted


def test_a_relu_that_is_a_function_counts_like_a_module() -> None:
    class Function(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))

    network = Function()
    module = nn.Sequential(network.conv, nn.ReLU())
    assert nwot(network, X) == nwot(module, X) == pytest.approx(slow_nwot(module, X))


def test_a_network_stays_as_it_is() -> None:
    network = Made(["norm", "shortcut"], 3)
    network.stem.weight.requires_grad_(False)
    network.blocks[0].eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    for measure in (jacov, nwot, synflow, layers, longest_path):
        measure(network, X)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert all(p.grad is None and p.dtype is torch.float32 for p in network.parameters())


# ---- one-shot models ----


@pytest.mark.parametrize("name", SPACES)
def test_a_path_of_a_one_shot_model_is_its_stand_alone_network(name: str) -> None:
    space = SPACES[name]
    x = examples(8, *space.input_shape)
    model = build(space, seed=1)
    for drawn in space.sample_distinct(4, generator=torch.Generator().manual_seed(0)):
        architecture = drawn if space.simplified is None else space.simplified(drawn)
        live = space.live([architecture])
        alone = build(space, architecture, seed=1) if name in WITHOUT_WIDTHS else extract(model, architecture)
        assert synflow(model, x, live) == pytest.approx(synflow(alone, x), rel=1e-9)
        assert nwot(model, x, live) == pytest.approx(nwot(alone, x), rel=1e-3)
        assert jacov(model, x, live) == pytest.approx(jacov(alone, x), rel=2e-2)
        assert layers(model, x, live) == layers(alone, x)
        assert longest_path(model, x, live) == longest_path(alone, x)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("threads", [1, 3])
def test_many_architectures_are_measured_as_if_each_were_built(name: str, threads: int) -> None:
    space = SPACES[name]
    x = examples(8, *space.input_shape)
    drawn = space.sample_distinct(4, generator=torch.Generator().manual_seed(0))
    runtime = start(RuntimeConfig(device="cpu", threads=threads, precision="32-true", kernels="torch"))
    rows = list(measures_of(space, drawn, x, MEASURES, seed=1, runtime=runtime))
    for architecture, row in zip(drawn, rows, strict=True):
        lean = architecture if space.simplified is None else space.simplified(architecture)
        alone = build(space, lean, seed=1)
        assert list(row) == list(MEASURES)
        assert row["synflow"] == pytest.approx(synflow(alone, x), rel=1e-9)
        assert row["nwot"] == pytest.approx(nwot(alone, x), rel=1e-3)
        assert row["jacov"] == pytest.approx(jacov(alone, x), rel=2e-2)
        assert (row["layers"], row["longest_path"]) == (layers(alone, x), longest_path(alone, x))


def test_each_measure_alone_is_the_same_to_the_last_bit_on_any_number_of_threads() -> None:
    space = SPACES["nasbench201"]
    drawn = space.sample_distinct(6, generator=torch.Generator().manual_seed(3))
    together = None
    for threads in (1, 4):
        runtime = start(RuntimeConfig(device="cpu", threads=threads, precision="32-true", kernels="torch"))
        rows = list(measures_of(space, drawn, X, MEASURES, seed=0, runtime=runtime))
        assert together is None or rows == together
        together = rows
        for name in MEASURES:
            alone = list(measures_of(space, drawn, X, [name], seed=0, runtime=runtime))
            assert [row[name] for row in alone] == [row[name] for row in rows]


# ---- networks through which nothing passes ----


def cell(**picked: str) -> Architecture:
    return Architecture(tuple((name, (picked.get(name.replace("-", "_"), "none"),)) for name in NAMES))


def test_a_cell_without_a_path_ranks_last() -> None:
    space = SPACES["nasbench201"]
    for dead in (cell(), cell(edge0_1="nor_conv_3x3", edge1_2="nor_conv_3x3"), cell(edge2_3="nor_conv_3x3")):
        assert space.simplified is not None
        for architecture in (dead, space.simplified(dead)):
            network = build(space, architecture, seed=0)
            assert jacov(network, X) == synflow(network, X) == -math.inf
            assert layers(network, X) == longest_path(network, X) == 0
        assert nwot(network, X) == -math.inf  # it also sees ReLUs that lead nowhere, of which this one has none


def test_equal_responses_to_all_images_are_finite_and_far_from_good() -> None:
    class Linear(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * torch.arange(8.0)).sum((1, 2, 3))

    value = jacov(Linear(), X)
    assert math.isfinite(value)
    assert value < -1e5 < jacov(Made(["norm"], 4), X) < -len(X)


def test_an_output_that_does_not_depend_on_the_input_ranks_last() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.weight).expand(len(x), 2)

    network = Constant()
    assert jacov(network, X) == -math.inf
    assert synflow(network, X) == math.log(2)
    assert layers(network, X) == longest_path(network, X) == 0


# ---- layers ----


def test_layers_of_a_cell_are_its_convolutions_that_matter() -> None:
    space = SPACES["nasbench201"]
    for drawn in space.sample_distinct(20, generator=torch.Generator().manual_seed(5)):
        picks = {edge: pick[0] for edge, (_, pick) in zip(EDGES, drawn.picks, strict=True)}
        paths = [
            [(0, 3)], [(0, 1), (1, 3)], [(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)],
        ]  # fmt: skip
        alive = [path for path in paths if all(picks[edge] != "none" for edge in path)]
        edges = {edge for path in alive for edge in path if "conv" in picks[edge]}
        depth = max((sum("conv" in picks[edge] for edge in path) for path in alive), default=0)
        network = build(space, drawn, seed=0)
        # A stem, three cells, two blocks of three convolutions, of which two lie one after the other, and a classifier.
        expected = (3 * len(edges) + 1 + 2 * 3 + 1, 3 * depth + 1 + 2 * 2 + 1) if alive else (0, 0)
        assert (layers(network, X), longest_path(network, X)) == expected


def test_layers_of_a_network_without_branches() -> None:
    space = tiny_macro()
    x = examples(4, *space.input_shape)
    for text, blocks in (("00000000", 3), ("11111111", 24), ("00012000", 3 + 2 * 3)):
        network = build(space, space.parse(text), seed=0)
        assert layers(network, x) == longest_path(network, x) == blocks + 3  # stem, last convolution, classifier


# ---- what a measure does not apply to ----


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.of = nn.Embedding(5, 4)
        self.last = nn.Linear(4, 2)

    def forward(self, words: Tensor) -> Tensor:
        return self.last(F.gelu(self.of(words)).mean(1))


def test_what_does_not_apply_is_one_clear_error() -> None:
    words = torch.arange(12).reshape(4, 3) % 5
    for measure in (jacov, synflow, layers, longest_path):
        with pytest.raises(ValueError, match=r"expected one tensor of floating-point numbers.*int64 \[N, 3\].*leave"):
            measure(Words(), words)
        with pytest.raises(ValueError, match="expected one tensor"):
            measure(Words(), (X, X))  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ValueError, match="nwot: expected a network with ReLUs"):
        nwot(Words(), words)
    with pytest.raises(ValueError, match="nwot: expected examples that all differ; of 6 only 5 do"):
        nwot(Made(["norm"], 3), X[[0, 1, 2, 3, 4, 0]])
    with pytest.raises(ValueError, match="no measure 'zico'"):
        next(measures_of(tiny_nasbench201(), [], X, ["zico"], seed=0, runtime=None))  # type: ignore[arg-type]  # it is not reached


def test_a_network_that_overflows_or_does_not_take_double_precision_says_so() -> None:
    class Loud(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1)) * 1e300

    with pytest.raises(ValueError, match="synflow: the flow overflows"):
        synflow(nn.Sequential(Loud(192, 4), Loud(4, 2)), X)

    class Single(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(1).float())

    with pytest.raises(ValueError, match="synflow: the network does not run in double precision"):
        synflow(Single(192, 4), X)


def test_dropout_makes_no_difference_from_call_to_call() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 3), nn.ReLU())
    assert jacov(network, X) == jacov(network, X)
    assert nwot(network, X) == nwot(network, X)
    without = nn.Sequential(*(module for module in network if not isinstance(module, nn.Dropout)))
    assert synflow(network, X) == synflow(without, X)


def test_the_order_of_images_makes_no_difference() -> None:
    network = Made(["norm", "shortcut"], 4).double()
    x = X.double()
    for measure in (jacov, nwot):
        assert measure(network, x.flip(0)) == pytest.approx(measure(network, x), rel=1e-9)


# ---- images ----


def test_images_are_training_examples_that_all_differ() -> None:
    pixels = torch.arange(40 * 3).reshape(40, 3).float() % 60  # each of twenty rows twice
    data, _ = from_arrays(pixels, torch.arange(40) % 2, seed=0, validation=4)
    chosen = examples_of(data, seed=0, device=torch.device("cpu"), number=12)
    assert chosen.shape == (12, 3)
    assert len(torch.unique(chosen, dim=0)) == 12
    train = {tuple(row) for row in data.train.examples.tolist()}
    assert {tuple(row) for row in chosen.tolist()} <= train
    other: Any = examples_of(data, seed=1, device=torch.device("cpu"), number=12)
    assert torch.equal(chosen, examples_of(data, seed=0, device=torch.device("cpu"), number=12))
    assert not torch.equal(chosen, other)
