"""What candidates have in common is computed once, and changes no output."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet import Choose, Depth, build, value
from supernet.search.reuse import in_line, outputs
from supernet.space.choices import Architecture, Space
from supernet.space.layers import OneShot
from supernet.space.model import from_network
from tests.spaces_for_tests import nested, tiny_bender

X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class WritesInPlace(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.add_(1)


class TwoInputs(nn.Module):
    """Functions between modules, a module that is called twice, keyword arguments, and a list that grows."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 1)
        self.choose = Choose("input", {str(i): nn.Conv2d(3, 3, 3, padding=1) for i in range(3)}, each_input=True)
        self.last = Choose("last", {"a": nn.Conv2d(3, 3, 1), "b": nn.Identity()})

    def forward(self, x: Tensor) -> Tensor:
        states = [x, self.shared(x)]
        states.append(self.shared(states[-1]))
        return self.last(torch.relu(self.choose(states))) + self.shared(input=x)


class LooksAtItsModules(nn.Module):
    """Reads attributes, asks for classes, indexes containers, and has a module with a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.hooked = nn.Conv2d(4, 4, 1)
        self.hooked.register_forward_hook(lambda module, inputs, output: output * 2)
        self.choose = Choose("op", {"a": nn.Conv2d(4, 4, 1), "b": nn.Conv2d(4, 4, 3, padding=1)})
        self.last = nn.ModuleDict({"out": Choose("last", {"a": nn.Conv2d(4, 2, 1), "b": nn.Conv2d(4, 2, 1)})})

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x) + self.first.weight.mean() * self.first.out_channels
        for layer in list(self.layers)[:2]:
            x = layer(x) * (2 if isinstance(layer, nn.ReLU) else 1)
        x = self.hooked(self.layers[-1](x))
        x = self.choose(x) * (2 if isinstance(self.choose, Choose) and not self.choose.training else 1)
        return self.last["out"](x)


def layered() -> nn.Module:
    width = value("width", (4, 8))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        Choose("first", {"a": nn.Conv2d(8, 8, 1), "b": nn.Conv2d(8, 8, 3, padding=1), "c": nn.Identity()}),
        nn.BatchNorm2d(8),
        WritesInPlace(),
        Depth("depth", [nn.Conv2d(8, 8, 1) for _ in range(3)]),
        nn.Conv2d(8, width, 1),
        nn.BatchNorm2d(width),
        Choose("again", {"a": nn.Sequential(nn.ReLU(), nn.Conv2d(width, 8, 1)), "b": nn.Conv2d(width, 8, 1)}),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )


SPACES = {
    "layered": from_network(layered, X),
    "two inputs": from_network(TwoInputs, X),
    "looks": from_network(LooksAtItsModules, X),
    "nested": nested(),
    "bender": tiny_bender(),
}


def one_shot(space: Space) -> OneShot:
    model = build(space, seed=0)
    return model.eval()


def examples(space: Space) -> Tensor:
    return torch.randn(8, *space.input_shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), number=st.integers(1, 12), in_order=st.booleans(), ghosts=st.sampled_from([1, 2]))
def test_outputs_are_those_of_the_model(name: str, seed: int, number: int, in_order: bool, ghosts: int) -> None:
    space = SPACES[name]
    generator = torch.Generator().manual_seed(seed)
    drawn = [space.sample(generator=generator) for _ in range(number)]
    if in_order:
        drawn.sort(key=lambda architecture: architecture.picks)
    lives = [space.live([architecture]).expand(ghosts, -1) for architecture in drawn]
    model = one_shot(space)
    view, line = in_line(model)
    with torch.no_grad():
        for x in (examples(space), examples(space) + 1):
            expected = [model(x, live) for live in lives]
            for got, wanted in zip(outputs(view, line, x, lives), expected, strict=True):
                assert torch.equal(got, wanted)


def test_examples_of_another_size_than_the_space() -> None:
    """Zeros of a choice without a live option then take their shape from an option that runs without data."""
    space = SPACES["looks"]
    model = one_shot(space)
    lives = [torch.tensor([[False, False, True, False]]), torch.tensor([[False, False, False, True]])]
    view, line = in_line(model)
    with torch.no_grad():
        expected = [model(X[..., :5, :5], live) for live in lives]
        for got, wanted in zip(outputs(view, line, X[..., :5, :5], lives), expected, strict=True):
            assert torch.equal(got, wanted)


def test_what_an_output_was_made_of_is_kept_as_long_as_the_output() -> None:
    """Else another tensor may get its identity, and would be taken for it."""

    def identities(stamp: object) -> set[int]:
        if isinstance(stamp, tuple) and len(stamp) == 2 and all(isinstance(part, int) for part in stamp):
            return {stamp[0]}
        return set().union(*map(identities, stamp)) if isinstance(stamp, (tuple, list)) else set()

    space = SPACES["nested"]
    for seed in range(30, 40):
        generator = torch.Generator().manual_seed(seed)
        drawn = sorted((space.sample(generator=generator) for _ in range(12)), key=lambda found: found.picks)
        view, line = in_line(one_shot(space))
        with torch.no_grad():
            for _ in outputs(view, line, examples(space), [space.live([found]) for found in drawn]):
                for kept in line.kept.values():
                    assert identities(kept.source[0]) <= set(line.shared)


def test_a_whole_prefix_is_computed_once() -> None:
    calls: Counter[str] = Counter()

    class Counted(nn.Conv2d):
        name = ""

        def forward(self, x: Tensor) -> Tensor:
            calls[self.name] += 1
            return super().forward(x)

    def make() -> nn.Module:
        network = nn.Sequential(
            Counted(3, 4, 1),
            *(Choose(f"layer{i}", {"a": Counted(4, 4, 1), "b": Counted(4, 4, 1)}) for i in range(3)),
        )
        for name, module in network.named_modules():
            if isinstance(module, Counted):
                module.name = name.split(".")[0]
        return network

    space = from_network(make, X)
    model, lives = one_shot(space), [space.live([a]) for a in sorted(space, key=lambda a: a.picks)]
    view, line = in_line(model)
    calls.clear()
    with torch.no_grad():
        assert len(list(outputs(view, line, X, lives))) == 8
    assert calls == {"0": 1, "1": 2, "2": 4, "3": 8}
    assert not line.kept and not line.shared  # nothing is held on to


def test_what_is_not_needed_again_is_not_kept() -> None:
    space = SPACES["layered"]
    view, line = in_line(one_shot(space))
    picks = dict(space.sample(generator=torch.Generator().manual_seed(0)).picks)
    line_of = [Architecture(tuple({**picks, "first": (first,)}.items())) for first in ("b", "a", "b")]
    with torch.no_grad():
        for _ in outputs(view, line, X, [space.live([architecture]) for architecture in line_of]):
            assert len(line.kept) <= 2  # the stem
