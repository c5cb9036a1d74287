"""Decided values: widths and other numbers that are choices."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supernet.space.choices import Space
from supernet.space.layers import Choose, Depth, ShapeError, adapter
from supernet.space.model import build, from_network
from supernet.space.values import Resolved, decided, resolved, value
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw
from tests.spaces_for_tests import elastic

SMALL = {"w": frozenset([0])}


def test_a_decided_number_is_the_largest_and_remembers() -> None:
    width = value("w", (4, 6, 8))
    for copied in (width, copy.deepcopy(width), pickle.loads(pickle.dumps(width))):
        assert (copied, copied.at(SMALL), (3 * copied).at(SMALL), (copied // 2).at(SMALL)) == (8, 4, 12, 2)
    assert (width + width * 2 + 1).slices(SMALL) == ((0, 4), (8, 8), (24, 1))
    assert (width * value("h", (1, 3))).at({"w": frozenset([1]), "h": frozenset([1])}) == 18
    with decided({"w": ("6",)}):
        assert type(value("w", (4, 6, 8))) is int
        assert value("w", (4, 6, 8)) == 6


@pytest.mark.parametrize("options", [(), (3, 2), (0, 1), (1, "a"), (True, False), (None,), (2, 2)])
def test_other_options_are_refused(options: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="value 'w': expected"):
        value("w", options)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda w: nn.Linear(w, w + 1), (2, 4)),
        (lambda w: nn.Conv2d(w, 2 * w, 3, padding=1), (2, 4, 5, 5)),
        (lambda w: nn.Conv1d(w, w, 3, groups=w), (2, 4, 5)),
        (lambda w: nn.ConvTranspose2d(w, 2 * w, 2), (2, 4, 5, 5)),
        (lambda w: nn.LayerNorm(w), (2, 4)),
        (lambda w: nn.RMSNorm(w), (2, 4)),
        (lambda w: nn.GroupNorm(2, w), (2, 4, 3)),
        (lambda w: nn.PReLU(w), (2, 4)),
    ],
)  # fmt: skip
def test_a_narrow_module_is_the_module_made_narrow(make: Callable[[Any], nn.Module], shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    narrow, made = resolved(make(value("w", (4, 8))), SMALL), make(4)
    assert {n: p.shape for n, p in narrow.named_parameters()} == {n: p.shape for n, p in made.named_parameters()}
    made.load_state_dict(dict(narrow.named_parameters()))
    torch.testing.assert_close(narrow(x), made(x))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_what_is_remembered_of_a_module_is_what_follows_now(passes: list[tuple[int, int, bool]]) -> None:
    """Settings come again, and an attribute or a parameter of the module is replaced in between."""
    width, other = value("w", (2, 3, 4)), value("o", (1, 2, 3))
    module, remembered = nn.Linear(width + other, 2 * width), Resolved()
    for i, j, replaced in passes:
        if replaced:
            module.weight, module.in_features = nn.Parameter(torch.randn(8, 7)), other + width
        picks = {"w": frozenset([i]), "o": frozenset([j])}
        again, now = remembered.at(module, picks), resolved(module, picks)
        assert isinstance(again, nn.Linear) and isinstance(now, nn.Linear)
        assert (again.in_features, again.out_features) == (now.in_features, now.out_features) == (3 + i + j, 4 + 2 * i)
        assert type(again.in_features) is int
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), now.parameters(), strict=True))
        assert (again.weight is module.weight) == (i == j == 2)  # all of it is live: no view, which costs a copy
        assert copy.deepcopy(remembered).at(module, picks).out_features == now.out_features


def test_slices_that_touch_are_one() -> None:
    width, other = value("w", (2, 4)), value("o", (1, 2))
    module, slices = nn.Linear(width + other + 3, 1, bias=False), Resolved()
    options = {"w": frozenset([1]), "o": frozenset([0])}
    assert slices.slices(module, {**options, "o": frozenset([1])}) == {}
    assert slices.slices(module, options) == {"weight": ((1, ((0, 5), (6, 3))),)}


def test_stand_alone_networks_begin_at_their_own_scale() -> None:
    """The narrow network is made narrow, not cut from a wide one: its first weights fit its own fan-in."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, value("w", (4, 1024))), nn.Linear(value("w", (4, 1024)), 2))

    space = from_network(network, torch.zeros(1, 4))
    narrow = build(space, space.parse("w=4"), seed=0)
    assert narrow.get_parameter("1.weight").abs().max() > 0.1


class _Clash(nn.Module):
    def __init__(self, options: dict[str, nn.Module]) -> None:
        super().__init__()
        self.choice = Choose("op", options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.choice(x)


def _clash(fit: bool) -> nn.Module:
    narrow = nn.Conv2d(3, 4, 1)
    fitting = nn.Sequential(narrow, adapter(4, 8, stride=2, dims=2))
    return _Clash({"a": nn.Conv2d(3, 8, 3, 2, 1), "b": fitting if fit else narrow})


def test_options_that_do_not_fit_are_named_with_what_to_do_and_it_helps() -> None:
    message = (
        r"'op': option 'b' gives \[4, 8, 8\] for one example, but 'a' gives \[8, 4, 4\]: "
        r"append supernet.adapter\(4, 8, stride=2, dims=2\)"
    )
    with pytest.raises(ShapeError, match=message):
        from_network(lambda: _clash(False), torch.zeros(1, 3, 8, 8))
    assert from_network(lambda: _clash(True), torch.zeros(1, 3, 8, 8)).size == 2
    with pytest.raises(ShapeError, match=r"choice 'd': option '2 blocks' gives \[5\].*'1 blocks' gives \[4\]"):
        from_network(lambda: Depth("d", [nn.Linear(4, 4), nn.Linear(4, 5)]), torch.zeros(1, 4))


def test_a_width_that_the_next_module_does_not_know_is_named() -> None:
    with pytest.raises(ValueError, match=r"does not run with w=2: 1: .*made with that width"):
        from_network(lambda: nn.Sequential(nn.Linear(4, value("w", (2, 3))), nn.Linear(3, 2)), torch.zeros(1, 4))


def _space() -> Space:
    return from_network(
        lambda: nn.Sequential(nn.Linear(4, value("w", (2, 6)), bias=False), nn.Linear(value("w", (2, 6)), 3)),
        torch.zeros(1, 4),
    )


def test_decay_follows_the_live_slice() -> None:
    """Of four ghost batches one is wide: what only it uses is decayed a quarter as much."""
    space = _space()
    model = build(space, seed=0)
    live = space.live([space.parse(f"w={w}") for w in (2, 6, 2, 2)])
    before = [p.detach().clone() for p in model.parameters()]
    config = TrainConfig(
        batch_size=8, ghost_size=2, lr=0.1, schedule="constant", weight_decay=0.5, optimizer_settings={}
    )
    fit(
        model, lambda _: (torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)), 1, config,
        runtime=start(RuntimeConfig(device="cpu", precision="32-true", threads=1)), draw_live=lambda _: live,
        loss_function=lambda outputs, targets: (outputs * 0).sum(),
    )  # fmt: skip
    first, second, bias = [p.detach() / b for p, b in zip(model.parameters(), before, strict=True)]
    torch.testing.assert_close(first, torch.tensor([0.95] * 2 + [0.9875] * 4).view(6, 1).expand(6, 4))
    torch.testing.assert_close(second, torch.tensor([0.95] * 2 + [0.9875] * 4).expand(3, 6))
    torch.testing.assert_close(bias, torch.ones(3))


def test_path_dropout_has_one_live_option_of_a_value() -> None:
    space = elastic()
    live = draw(space, PathsConfig(rate=0.5), 600, 0.5, generator=torch.Generator().manual_seed(0))
    values = [choice for choice in space.choices if choice.kind == "value"]
    assert values
    for choice in values:
        first = space.columns[choice.name, choice.options[0]]
        assert (live[:, first : first + len(choice.options)].sum(dim=1) == 1).all()
        assert live[:, first : first + len(choice.options)].any(dim=0).all()
