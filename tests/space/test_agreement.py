"""What is scored is what is trained, or nothing starts."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from supernet.space.agreement import Disagreement, check_agreement
from supernet.space.choices import Space
from supernet.space.layers import Choose
from supernet.space.model import from_network
from supernet.space.values import value
from tests.spaces_for_tests import elastic, examples, nested, tiny_bender, tiny_macro, tiny_nasbench201

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("space", [tiny_bender, tiny_nasbench201, tiny_macro, elastic, nested])
def test_spaces_that_are_tested_agree(space: Callable[[], Any]) -> None:
    assert check_agreement(space(), examples(space(), 6)) >= 2


def act() -> nn.Module:
    return Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})


SCALE = {"now": 1.0}


class Outside(nn.Module):
    """Keeps what a value decides outside of the modules."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        SCALE["now"] = float(width)

    def forward(self, x: Tensor) -> Tensor:
        return x * SCALE["now"]


class Table(nn.Module):
    """A buffer whose first rows are not those of the smaller one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rates", torch.linspace(0, 1, width).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.get_buffer("rates")


class Mean(nn.Module):
    """A width after which nothing fits the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = torch.full((), float(width))

    def forward(self, x: Tensor) -> Tensor:
        return x / self.scale


def of(part: Callable[[int], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        width = value("width", (4, 8))
        return nn.Sequential(nn.Conv2d(3, width, 3), part(width), act(), nn.Conv2d(width, 2, 1))

    return make


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Outside, r"gives other numbers .*largest difference"),
        (Table, r"width=4: buffer 1.rates holds other numbers"),
        (Mean, r"width=4: 1 gives other numbers"),
    ],
)
def test_what_differs_is_named_with_its_option(part: Callable[[int], nn.Module], message: str) -> None:
    space = from_network(of(part), X[:1])
    with pytest.raises(Disagreement, match=message):
        check_agreement(space, X)


class Noisy(nn.Module):
    """Multiplies with a number that a function draws from the module."""

    def __init__(self, draw: Callable[[Any], float]) -> None:
        super().__init__()
        self.draw = draw
        self.numpy, self.python, self.torch = np.random.default_rng(0), random.Random(0), [torch.Generator()]

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + self.draw(self))


def seeds_torch(module: Any) -> float:
    torch.manual_seed(3)
    return float(torch.rand(()))


def seeds_numpy(module: Any) -> float:
    np.random.seed(3)  # noqa: NPY002
    return float(np.random.rand())  # noqa: NPY002


def noisy(draw: Callable[[Any], float]) -> Space:
    return from_network(of(lambda _: Noisy(draw)), X[:1])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda _: random.random(), "Python's module random"),
        (lambda _: float(np.random.rand()), "NumPy's global generator"),  # noqa: NPY002
        (seeds_numpy, "NumPy's global generator"),
        (seeds_torch, "torch's global generator, which it seeds itself"),
        (lambda m: float(m.numpy.random()), r"a generator of its own \(1, numpy's Generator\)"),
        (lambda m: m.python.random(), r"a generator of its own \(1, random's Random\)"),
        (lambda m: float(torch.rand((), generator=m.torch[0])), r"a generator of its own \(1, torch's Generator\)"),
        (lambda _: float(np.random.default_rng().random()), "a generator that begins anew by itself"),
        (lambda _: random.SystemRandom().random(), "a generator that begins anew by itself"),
    ],
    ids=["python", "numpy", "seeds numpy", "seeds torch", "own numpy", "own python", "own torch", "new", "system"],
)
def test_random_numbers_that_no_seed_reaches_are_named(draw: Callable[[Any], float], message: str) -> None:
    with pytest.raises(Disagreement, match=message):
        check_agreement(noisy(draw), X)


@pytest.mark.parametrize(
    "draw",
    [
        lambda _: float(torch.rand(())),
        lambda _: float(torch.rand((), generator=torch.default_generator)),
        lambda _: float(torch.rand((), generator=torch.Generator().manual_seed(5))),  # the same in each pass
        lambda _: float(np.random.default_rng(5).random()),
    ],
    ids=["torch", "global", "new torch", "new numpy"],
)
def test_random_numbers_that_follow_the_seed_or_are_constant_agree(draw: Callable[[Any], float]) -> None:
    states = torch.random.get_rng_state(), random.getstate()
    assert check_agreement(noisy(draw), X) >= 2
    assert torch.equal(torch.random.get_rng_state(), states[0]) and random.getstate() == states[1]


class Drops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, self.training)


def test_dropout_does_not_count_as_a_difference() -> None:
    assert check_agreement(from_network(of(lambda _: Drops()), X[:1]), X) >= 2


class Power(nn.Module):
    """Spectral norm, whose buffers go on in each pass of training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = spectral_norm(nn.Conv2d(3, 4, 3))
        self.lstm, self.out = nn.LSTM(4, width, batch_first=True), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(self.conv(x).mean(3).transpose(1, 2))[0][:, -1])


def test_buffers_that_go_on_and_recurrent_layers_agree() -> None:
    """In costs too, which are counted in double and in single precision, for which torch has other operations."""
    assert check_agreement(from_network(lambda: Power(value("width", (4, 8))), X[:1]), X) >= 2


class Single(nn.Module):
    """Runs in single precision only."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def test_what_runs_in_single_precision_only_is_compared_in_it() -> None:
    def network() -> nn.Module:
        op = Choose("op", {"single": Single(), "both": nn.Identity()})
        return nn.Sequential(op, nn.Flatten(), nn.Linear(192, 2))

    assert check_agreement(from_network(network, X[:1]), X) >= 2


class Attends(nn.Module):
    """Attention of torch between two linear layers."""

    def __init__(self, width: int, of: nn.Module) -> None:
        super().__init__()
        self.first, self.of, self.last = nn.Linear(8, width), of, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if isinstance(self.of, (nn.TransformerEncoder, nn.TransformerEncoderLayer)):
            y: Tensor = self.last(self.of(x).mean(1))
            return y
        if isinstance(self.of, nn.TransformerDecoderLayer):
            return self.last(self.of(x, x).mean(1))
        return self.last(self.of(x, x, x)[0].mean(1))


def layer(width: int, heads: int, hidden: int, **more: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(width, heads, hidden, batch_first=True, **more)


@pytest.mark.parametrize(
    "of",
    [
        lambda w, h, f: nn.MultiheadAttention(w, h, batch_first=True),
        lambda w, h, f: nn.MultiheadAttention(w, h, bias=False, add_bias_kv=True, batch_first=True),
        lambda w, h, f: nn.MultiheadAttention(w, h, kdim=w, vdim=w, dropout=0.1, batch_first=True),
        layer,
        lambda w, h, f: layer(w, h, f, norm_first=True, activation="gelu"),
        lambda w, h, f: nn.TransformerEncoder(
            layer(w, h, value("hidden", (4, 6)), dropout=0.0), 2, enable_nested_tensor=False
        ),
        lambda w, h, f: nn.TransformerDecoderLayer(w, h, f, batch_first=True),
    ],
    ids=["attention", "offsets", "keys", "encoder layer", "norm first", "encoder", "decoder layer"],
)
def test_widths_and_heads_of_torchs_attention_agree(of: Callable[[int, int, int], nn.Module]) -> None:
    def make() -> nn.Module:
        width = value("width", (4, 8))
        return Attends(width, of(width, value("heads", (1, 2, 4)), 6))

    space = from_network(make, torch.zeros(1, 5, 8))
    assert {"width", "heads"} <= {choice.name for choice in space.choices}
    assert check_agreement(space, torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))) >= 3
