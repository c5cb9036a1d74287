"""What is scored is what is trained, or nothing starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from supernet.space.agreement import Disagreement, check_agreement
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


class ByPython(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        import random

        return x * random.random()


def test_random_numbers_that_no_seed_reaches_are_named() -> None:
    with pytest.raises(Disagreement, match="Python's module random"):
        check_agreement(from_network(of(lambda _: ByPython()), X[:1]), X)


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
