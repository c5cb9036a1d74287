"""What follows from values by ordinary arithmetic is the same in the one-shot model and in stand-alone networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.trees import call
from supernet.space.choices import Space
from supernet.space.cost import cost_table, measure
from supernet.space.follow import followed
from supernet.space.layers import Choose
from supernet.space.model import build, extract, from_network
from supernet.space.values import value

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SERIES = torch.randn(6, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def assert_same(make: Callable[[], nn.Module], x: Any) -> Space:
    """Each architecture: outputs, parameters and costs of the one-shot model and of the stand-alone network."""
    space = from_network(make, x[:2].float())
    model, table = build(space, seed=0).double(), cost_table(space)
    for architecture in space:
        alone, fresh = extract(model, architecture), build(space, architecture, seed=1)
        with torch.no_grad():
            torch.testing.assert_close(model(x, space.live([architecture])), call(alone, x), rtol=1e-9, atol=1e-9)
        shapes = [{n: p.shape for n, p in network.named_parameters()} for network in (alone, fresh)]
        assert shapes[0] == shapes[1]
        assert table.cost(architecture) == measure(fresh, x[:1].float())
    return space


def squeeze(width: int, inner: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1))


@pytest.mark.parametrize(
    "inner",
    [
        lambda w: int(w * 0.25),
        lambda w: max(4, w // 4),
        lambda w: min(w, 12),
        lambda w: max(4, int(w * 0.5 + 2) // 4 * 4),
        lambda w: w - 4,
        lambda w: round(w * 0.3),
        lambda w: math.ceil(w / 3),
        lambda w: -(-w // 3),
        lambda w: (w // 8) ** 2,
        lambda w: int(math.sqrt(w)) + w % 3,
        lambda w: {8: 3, 16: 5, 32: 6}[w],
        lambda w: 4 if w > 10 else 2,
        lambda w: next(n for n in range(100) if n * n > w),
    ],
)  # fmt: skip
def test_arithmetic_is_carried_on(inner: Callable[[int], int]) -> None:
    def make() -> nn.Module:
        width = value("width", (8, 16, 32))
        return nn.Sequential(nn.Conv2d(3, width, 3), squeeze(width, inner(width)), nn.Conv2d(width, 4, 1))

    assert assert_same(make, IMAGES).size == 3


def test_what_two_values_decide_together_is_carried_on() -> None:
    def make() -> nn.Module:
        width, ratio = value("width", (8, 16)), value("ratio", (0.25, 0.5, 1.0))
        inner = max(3, int(width * ratio))
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.Conv2d(width, inner, 1), nn.Conv2d(inner, 4, 1))

    assert assert_same(make, IMAGES).size == 6


class Heads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = value("heads", (2, 4, 8))
        self.size = 32 // self.heads
        self.scale = self.size**-0.5
        self.first, self.qkv = nn.Linear(8, 32), nn.Linear(32, 3 * self.heads * self.size)
        self.out = nn.Linear(self.heads * self.size, 4)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first(x)).unflatten(2, (3, self.heads, self.size)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed: Tensor = ((q @ k.transpose(2, 3)) * self.scale).softmax(3) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class ByHand(nn.Module):
    """A depth of the network's own loop, and one for which only the modules differ."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = value("depth", (1, 2, 3))
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(self.depth)])
        self.more = nn.ModuleList([nn.Linear(8, 8) for _ in range(value("more", (1, 3)))])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[: self.depth]:
            x = torch.relu(layer(x))
        for layer in self.more:
            x = x + layer(x)
        return x


class Bare(nn.Module):
    """Parameters and buffers that the class makes itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, width, 1, 1))
        self.register_buffer("number", torch.arange(width).view(1, -1, 1, 1).float())

    def forward(self, x: Tensor) -> Tensor:
        number = self.get_buffer("number")
        return x * self.scale + number


def _bare() -> nn.Module:
    width = value("width", (4, 8))
    return nn.Sequential(nn.Conv2d(3, width, 3), Bare(width), nn.Conv2d(width, 2, 1))


class Last(nn.Module):
    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        mean: Tensor = self.of(x)[0].mean(1)
        return mean


def _recurrent() -> nn.Module:
    width, layers = value("width", (4, 8)), value("layers", (1, 2))
    return nn.Sequential(Last(nn.GRU(8, width, layers, batch_first=True)), nn.Linear(width, 3))


def _pixels() -> nn.Module:
    kernel, stride = value("kernel", (1, 3, 5)), value("stride", (1, 2))
    return nn.Sequential(
        nn.Conv2d(3, 4, kernel, stride, padding=kernel // 2), nn.Conv2d(4, 4, kernel, padding="same"),
        nn.AvgPool2d(kernel, 1, (kernel - 1) // 2), nn.AdaptiveAvgPool2d(value("pool", (1, 2))), nn.Flatten(2),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "x", "size"), [(Heads, SERIES, 3), (ByHand, SERIES, 6), (_bare, IMAGES, 2), (_pixels, IMAGES, 12)]
)
def test_what_networks_do_with_values(make: Callable[[], nn.Module], x: Tensor, size: int) -> None:
    assert assert_same(make, x).size == size


def test_recurrent_modules_have_widths_and_layers_that_are_choices() -> None:
    space = from_network(_recurrent, SERIES[:2].float())
    model = build(space, seed=0).double()
    for architecture in space:
        alone = extract(model, architecture)
        torch.testing.assert_close(model(SERIES, space.live([architecture])), alone(SERIES))
        assert sum(p.numel() for p in alone.parameters()) == cost_table(space).cost(architecture).params


def test_a_smaller_kernel_is_the_middle_of_the_largest() -> None:
    space = from_network(lambda: nn.Conv2d(3, 2, value("kernel", (3, 5)), padding="same"), IMAGES[:2].float())
    model = build(space, seed=0)
    largest, small = (extract(model, space.parse(f"kernel={k}")).get_parameter("weight") for k in (5, 3))
    assert torch.equal(small, largest[:, :, 1:4, 1:4])


class Leaky(nn.Module):
    def __init__(self, keep: Callable[[float], Any], read: Callable[[Any], float]) -> None:
        super().__init__()
        self.kept, self.read = keep(value("slope", (0.0, 0.2))), read

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.read(self.kept))


@pytest.mark.parametrize(
    ("keep", "read"),
    [
        (lambda s: {"slope": s}, lambda kept: kept["slope"]),
        (lambda s: SimpleNamespace(slope=s), lambda kept: kept.slope),
        (lambda s: lambda: s, lambda kept: kept()),
        (lambda s: [s * 2, 1], lambda kept: kept[0]),
    ],
)
def test_values_are_kept_wherever_a_module_keeps_them(
    keep: Callable[[float], Any], read: Callable[[Any], float]
) -> None:
    space = assert_same(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), Leaky(keep, read)), IMAGES)
    model = build(space, seed=0)
    one, other = (model(IMAGES.float(), space.live([architecture])) for architecture in space)
    assert not torch.equal(one, other)


def _rest() -> list[nn.Module]:
    return [Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: [nn.BatchNorm2d(3) if value("norm", ("no", "yes")) == "yes" else nn.Identity()], "choose among"),
        (lambda: [getattr(nn, value("kind", ("ReLU", "Tanh")))()], "a ReLU with kind=ReLU, and a Tanh"),
        (lambda: [nn.Conv2d(3, 4, value("kernel", (1, 3))), nn.Conv2d(4, 40 // value("less", (2, 4)), 1)], "larger"),
        (lambda: [nn.Conv2d(3, 4, 1), nn.LazyConv2d(4, 1)], "LazyConv2d.*has no shape"),
        (lambda: [nn.Conv2d(3, 3 + 0 * value("nothing", (1, 2)), 1)], "value 'nothing' decides nothing"),
    ],
)
def test_what_no_table_can_say_is_refused_by_name(make: Callable[[], list[nn.Module]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_network(lambda: nn.Sequential(*make(), *_rest()), IMAGES[:2].float())


def test_where_nothing_is_lost_the_function_stays_as_it_is() -> None:
    def make() -> nn.Module:
        width = value("width", (4, 8))
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 2 * width, 1))

    assert followed(make) is make


class Looks(nn.Module):
    """Reads numbers from tensors, in its constructor and in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 1, 3)]
        width = value("width", (2, 4))
        self.first, self.second = nn.Linear(8, width), nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))
        return y * self.rates[1] if bool((x > 100).any()) else y


def test_a_network_may_look_at_numbers() -> None:
    assert assert_same(Looks, SERIES).size == 2


class Reads(nn.Module):
    """Reads weights and sizes of its modules."""

    def __init__(self) -> None:
        super().__init__()
        width = value("width", (8, 16))
        self.first, self.body = nn.Linear(8, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(self.body(self.first(x)), self.first.weight.t())
        return y / self.first.out_features if self.body else x


def test_a_network_may_read_what_its_modules_hold() -> None:
    assert assert_same(Reads, SERIES).size == 2


class Grouped(nn.Module):
    """Fewer groups have more weights, so that their order is that of texts."""

    def __init__(self) -> None:
        super().__init__()
        width = value("width", (4, 8))
        groups = int(value("groups", ("4", "2", "1")))
        self.first = nn.Conv1d(8, width, 1)
        self.grouped, self.norm = nn.Conv1d(width, width, 3, groups=groups), nn.GroupNorm(groups, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.grouped(self.first(x.transpose(1, 2)))).mean(2)[:, :4]


def test_numbers_of_groups_may_be_values() -> None:
    assert assert_same(Grouped, torch.randn(3, 5, 8, dtype=torch.float64)).size == 6
    with pytest.raises(ValueError, match=r"larger with other options.*int\(value\('groups', \('4', '2', '1'\)\)\)"):
        from_network(lambda: nn.Sequential(nn.Conv1d(4, 4, 1, groups=value("g", (1, 2)))), torch.zeros(1, 4, 5))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what torch.compile imports
def test_a_part_under_compile_is_named() -> None:
    def network() -> nn.Module:
        width = value("width", (2, 4))
        compiled: Any = torch.compile(nn.Sequential(nn.Linear(width, 2)))
        return nn.Sequential(nn.Linear(8, width), compiled)

    with pytest.raises(ValueError, match=r"module '1' is under torch\.compile"):
        from_network(network, SERIES[:1])
