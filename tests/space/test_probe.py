"""What a one-shot model does besides computing outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from supernet.space.layers import Choose, OneShot
from supernet.space.model import build, from_network
from supernet.space.probe import Traits, traits_of

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Does(nn.Module):
    def __init__(self, what: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.what, self.count = what, 0
        self.kept: dict[str, Tensor] = {}
        self.register_buffer("mean", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.what(self, x)


def counts(module: Any, x: Tensor) -> Tensor:
    module.count += 1
    return x


def keeps(module: Any, x: Tensor) -> Tensor:
    module.kept["x"] = x
    return x


def averages(module: Any, x: Tensor) -> Tensor:
    if module.training:
        module.mean.lerp_(x.mean(), 0.1)
    return x


def model_with(part: Callable[[], nn.Module]) -> OneShot:
    def make() -> nn.Module:
        act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
        return nn.Sequential(nn.Conv2d(3, 4, 1), part(), act)

    return build(from_network(make, X), seed=0)


def hooked() -> nn.Module:
    module = nn.Identity()
    module.register_forward_hook(lambda *_: None)
    return module


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (lambda: nn.BatchNorm2d(4), Traits((False, False), (None, None))),
        (lambda: nn.Dropout(), Traits((True, False), (None, None))),
        (lambda: Does(lambda m, x: F.dropout(x, 0.5, m.training)), Traits((True, False), (None, None))),
        (lambda: nn.RReLU(), Traits((True, True), (None, None))),
        (lambda: Does(lambda m, x: x * torch.rand_like(x)), Traits((True, True), (None, None))),
        (lambda: Does(lambda m, x: F.gumbel_softmax(x)), Traits((True, True), (None, None))),
        (lambda: Does(counts), Traits((False, False), ("network.1", "network.1"))),
        (lambda: Does(keeps), Traits((False, False), ("network.1", "network.1"))),
        (lambda: Does(averages), Traits((False, False), ("network.1", None))),
        (hooked, Traits((False, False), ("network.1", "network.1"))),
    ],
)  # fmt: skip
def test_what_networks_do(part: Callable[[], nn.Module], expected: Traits) -> None:
    model = model_with(part)
    state = torch.random.get_rng_state()
    assert traits_of(model) == expected
    assert torch.equal(state, torch.random.get_rng_state())


def test_what_changes_with_each_pass_of_training_only() -> None:
    traits = traits_of(model_with(lambda: spectral_norm(nn.Conv2d(4, 4, 1))))
    assert traits.keeps[0] is not None
    assert traits.keeps[1] is None


def test_recurrent_modules_keep_nothing() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.of = nn.LSTM(8, 8, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.of(x.flatten(1, 2))[0]
            return y.unflatten(1, x.shape[1:3])

    assert traits_of(model_with(Rows)) == Traits((False, False), (None, None))
