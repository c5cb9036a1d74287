"""What candidates have in common is computed once, and changes no output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

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
from supernet.speed import kernels
from supernet.speed.quick import quick
from supernet.speed.tune import Tuning
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


class Stack(nn.Module):
    """Behaves like a sequence and like a mapping, by special methods of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.u, self.v = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def __getitem__(self, name: str) -> nn.Module:
        return {"u": self.u, "v": self.v}[name]

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[nn.Module]:
        return iter((self.u, self.v))

    def __contains__(self, name: str) -> bool:
        return name in ("u", "v")

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(other) is Stack

    __hash__ = nn.Module.__hash__

    def __call__(self, x: Tensor) -> Tensor:
        y: Tensor = super().__call__(x)
        return y + 1

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.v(self.u(x)))


class LooksAtItsChild(nn.Module):
    """Does with a child, between two choices, what a function says.

    Args:
        child: makes it.
        look: function of the child and of a tensor, which gives another tensor.
    """

    def __init__(self, child: Callable[[], nn.Module], look: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 3, 1)
        self.child, self.look = child(), look
        self.first = Choose("first", {"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 3, padding=1)})
        self.last = Choose("last", {"a": nn.Conv2d(3, 2, 1), "b": nn.Conv2d(3, 2, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        before = self.look(self.child, x)
        return self.last(self.look(self.child, self.first(x)) + before)


def in_turn(modules: Iterable[Any], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


def parameter_list() -> nn.Module:
    return nn.ParameterList([nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(3.0))])


def parameter_dict() -> nn.Module:
    return nn.ParameterDict({"a": nn.Parameter(torch.tensor(2.0))})


def sequence() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))


def module_dict() -> nn.Module:
    return nn.ModuleDict({"u": nn.Conv2d(3, 3, 1), "v": nn.Conv2d(3, 3, 1)})


LOOKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], Tensor]]] = {
    "parameters by index": (parameter_list, lambda child, x: x * child[0] + child[-1] * len(child)),
    "parameters in turn": (parameter_list, lambda child, x: x * sum(child)),
    "parameters by name": (parameter_dict, lambda child, x: x * child["a"] * (2 if "a" in child else 1)),
    "items of parameters": (parameter_dict, lambda child, x: x * sum(value for _, value in child.items())),
    "modules by index": (lambda: nn.ModuleList(sequence()), lambda child, x: child[-1](child[0](x))),
    "modules by name": (module_dict, lambda child, x: child["v"](x) + in_turn(child.values(), x)),
    "a slice": (sequence, lambda child, x: child[:2](x)),
    "a sequence in turn": (sequence, lambda child, x: in_turn(child, x) * len(child)),
    "getitem": (Stack, lambda child, x: child["u"](x)),
    "len": (Stack, lambda child, x: x * len(child)),
    "iter": (Stack, lambda child, x: in_turn(child, x)),
    "contains": (Stack, lambda child, x: x * (2 if "u" in child else 1)),
    "bool": (Stack, lambda child, x: x * (2 if child else 1)),
    "eq": (Stack, lambda child, x: x * (2 if child == Stack() else 1)),
    "call": (Stack, lambda child, x: child(x)),
    "class": (Stack, lambda child, x: x * (2 if type(child) is Stack and child.__class__ is Stack else 1)),
    "children": (Stack, lambda child, x: in_turn(reversed(list(child.children())), x)),
    "modules": (Stack, lambda child, x: x * len(list(child.modules()))),
    "submodule": (Stack, lambda child, x: child.get_submodule("u")(x)),
    "names of parameters": (Stack, lambda child, x: x * len([n for n, _ in child.named_parameters() if n[0] == "u"])),
    "values of parameters": (Stack, lambda child, x: x * sum(value.mean() for value in child.parameters())),
    "a buffer": (lambda: nn.BatchNorm2d(3), lambda child, x: x + dict(child.named_parameters())["weight"].sum()),
    "state_dict": (Stack, lambda child, x: x * child.state_dict()["v.weight"].mean()),
}


class Clamp(nn.Module):
    """Its output depends on attributes, and it leaves one."""

    def __init__(self) -> None:
        super().__init__()
        nine = torch.tensor(9.0)
        self.limit, self.limits, self.options, self.largest = nine, [nine], SimpleNamespace(limit=nine), nine
        self.bound: Tensor
        self.register_buffer("bound", torch.tensor(9.0))

    def forward(self, x: Tensor) -> Tensor:
        self.largest = x.amax()
        limits = self.limit, self.limits[-1], self.options.limit, getattr(self, "other", self.limit), self.bound
        return x.clamp(max=torch.stack([limit.to(x.device) for limit in limits]).min())


class Sets(nn.Module):
    """Sets attributes of a child before it calls it on the same input as ever: to what depends on the choices.

    Args:
        put: function of the child and of a number.
        child: makes it.
    """

    def __init__(self, put: Callable[[Any, Tensor], None], child: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.stem, self.child, self.put = nn.Conv2d(3, 3, 1), child(), put
        self.first = Choose("first", {"a": nn.Conv2d(3, 3, 1), "b": nn.Conv2d(3, 3, 3, padding=1)})
        self.last = Choose("last", {"a": nn.Conv2d(3, 2, 1), "b": nn.Conv2d(3, 2, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.first(x)
        self.put(self.child, y.std() / 2)
        z = self.child(x)
        vars(self.child).pop("other", None)
        return self.last(y + z) + getattr(self.child, "inner", self.child).largest


class Around(nn.Module):
    """Holds a module that others set attributes of."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Clamp()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        return y


PUTS: dict[str, tuple[Callable[[Any, Tensor], None], Callable[[], nn.Module]]] = {
    "a number": (lambda child, number: setattr(child, "limit", number), Clamp),
    "in a list": (lambda child, number: child.limits.append(number), Clamp),
    "in an object": (lambda child, number: setattr(child.options, "limit", number), Clamp),
    "in a buffer": (lambda child, number: child.bound.fill_(number), Clamp),
    "set and deleted": (lambda child, number: setattr(child, "other", number), Clamp),
    "further inside": (lambda child, number: setattr(child.inner, "limit", number), Around),
}


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


def assert_reuse_changes_no_output(make: Callable[[], nn.Module]) -> None:
    """Each architecture of a network, in order and in a random order, with reuse and without."""
    space = from_network(make, X)
    generator = torch.Generator().manual_seed(0)
    in_order = [space.live([a]) for a in sorted(space, key=lambda a: a.picks)]
    lives = [*in_order, *in_order[::-1], *(in_order[int(torch.randint(4, (), generator=generator))] for _ in range(8))]
    model, other = one_shot(space), one_shot(space)  # a network that writes in its attributes may write in the model's
    view, line = in_line(model)
    with torch.no_grad():
        expected = [other(X, live) for live in lives]
        for got, wanted in zip(outputs(view, line, X, lives), expected, strict=True):
            assert torch.equal(got, wanted)
    assert len({output.sum().item() for output in expected}) == 4


@pytest.mark.parametrize("name", LOOKS)
def test_a_network_may_look_at_its_modules_as_it_likes(name: str) -> None:
    child, look = LOOKS[name]
    assert_reuse_changes_no_output(lambda: LooksAtItsChild(child, look))


@pytest.mark.parametrize("name", PUTS)
def test_a_network_may_set_attributes_of_its_modules(name: str) -> None:
    """To what depends on the choices, too: then the module's output for the candidate before is another one."""
    put, child = PUTS[name]
    assert_reuse_changes_no_output(lambda: Sets(put, child))


def test_a_module_that_sets_no_attribute_is_run_once_for_equal_ones() -> None:
    calls: list[float] = []

    class Scaled(nn.Module):
        scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            calls.append(self.scale)
            return x * self.scale

    class Sets(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scaled, self.last = Scaled(), Choose("last", {str(i): nn.Conv2d(3, 2, 1) for i in range(6)})

        def forward(self, x: Tensor) -> Tensor:
            self.scaled.scale = 2.0
            return self.last(self.scaled(x))

    space = from_network(Sets, X)
    view, line = in_line(one_shot(space))
    calls.clear()
    with torch.no_grad():
        assert len(list(outputs(view, line, X, [space.live([a]) for a in space]))) == 6
    assert calls == [2.0]


def test_the_network_stays_as_it_is() -> None:
    model = one_shot(SPACES["looks"])
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    in_line(model)
    assert {name: dict(vars(module)) for name, module in model.named_modules()} == before


def test_hooks_are_run_for_each_candidate() -> None:
    """Also those of a module in a block whose input stays the same."""
    calls: list[int] = []

    def make() -> nn.Module:
        block = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.ReLU())
        block[0][0].register_forward_hook(lambda module, inputs, output: calls.append(0))  # type: ignore[index]  # nested
        return nn.Sequential(block, Choose("last", {str(i): nn.Conv2d(3, 2, 1) for i in range(6)}))

    space = from_network(make, X)
    view, line = in_line(one_shot(space))
    calls.clear()
    with torch.no_grad():
        assert len(list(outputs(view, line, X, [space.live([a]) for a in space]))) == len(calls) == 6


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


class LooksAtItsSequence(nn.Module):
    """Runs a sequence as a whole, by its places, and in part."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8), nn.Sequential(nn.ReLU(), nn.Conv2d(8, 3, 1, bias=False), nn.BatchNorm2d(3)),
        )  # fmt: skip
        self.choose = Choose("op", {"a": nn.Conv2d(8, 4, 1), "b": nn.Conv2d(8, 4, 3, padding=1)})

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        for i in range(len(self.layers) - 1):
            x = self.layers[i](x)
        return self.choose(x) + y.mean() + len(self.layers)


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
def test_faster_modules_give_the_same_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same kernels: what is run as one is kept as one."""
    fused: list[bool] = []
    original = kernels.norm_relu

    def noted(*inputs: Any, conv: Any, **named: Any) -> Tensor:
        fused.append(conv is not None)
        return original(*inputs, conv=conv, **named)

    monkeypatch.setattr(kernels, "norm_relu", noted)
    space = from_network(LooksAtItsSequence, X)
    model = quick(one_shot(space), Tuning(kernels=("norm", "pool")))
    assert isinstance(model, OneShot)
    lives = [space.live([space.parse(f"op={option}")]) for option in "ababab"]
    x = X.contiguous(memory_format=torch.channels_last)
    view, line = in_line(model)
    with torch.no_grad():
        expected = [model(x, live) for live in lives]
        runs = len(fused)
        for got, wanted in zip(outputs(view, line, x, lives), expected, strict=True):
            assert torch.equal(got, wanted)
    assert any(fused) and not all(fused)
    assert fused[runs:] == fused[: runs // 6]  # each was run for the first candidate only


def test_faster_modules_in_line_where_no_option_is_live() -> None:
    """The shape of the zeros is measured on plain modules, for any size of the examples."""
    space = from_network(LooksAtItsSequence, X)
    model = quick(one_shot(space), Tuning(kernels=("norm", "pool")))
    assert isinstance(model, OneShot)
    view, line = in_line(model)
    lives = [space.live([space.parse("op=a")]) & on for on in (True, False, False, True)]
    with torch.no_grad():
        for x in (X, X[..., :5, :5]):
            expected = [model(x, live) for live in lives]
            for got, wanted in zip(outputs(view, line, x, lives), expected, strict=True):
                assert torch.equal(got, wanted)


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
