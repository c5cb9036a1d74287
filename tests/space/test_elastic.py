"""Plain networks made elastic: which choices are found, and that all of them mean what they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.space.agreement import check_agreement
from supernet.space.choices import Space
from supernet.space.cost import cost_table, measure
from supernet.space.elastic import elastic
from supernet.space.model import build, example_of, from_network
from supernet.space.values import value

X = torch.zeros(2, 3, 8, 8)


def names(space: Space) -> list[str]:
    return [choice.name for choice in space.choices]


def agrees(space: Space) -> None:
    generator = torch.Generator().manual_seed(0)
    example = example_of(space, 4)
    assert check_agreement(space, torch.randn(example.shape, generator=generator)) >= 2


class Block(nn.Module):
    """A residual block."""

    def __init__(self, ins: int, outs: int, width: int | None = None) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(ins, width or outs, 3, padding=1, bias=False), nn.BatchNorm2d(width or outs)
        self.conv2, self.bn2 = nn.Conv2d(width or outs, outs, 3, padding=1, bias=False), nn.BatchNorm2d(outs)
        self.short = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


def residual(stem: int = 8, inner: int | None = None, wide: int = 12) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, stem, 3, padding=1),
        nn.Sequential(Block(stem, stem, inner), Block(stem, stem, inner)),
        Block(stem, wide),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, 5),
    )


class Concat(nn.Module):
    """Concatenations, one of which is added to something else and normed."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.norm, self.c = nn.BatchNorm2d(12), nn.Conv2d(3, 12, 1)
        self.deep = nn.Conv2d(12, 6, 3, padding=1, groups=1)
        self.up = nn.ConvTranspose2d(18, 4, 2, 2)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        both = self.norm(torch.cat([self.a(x), self.b(x)], 1)) + self.c(x)
        return self.head(self.up(torch.cat([both, F.relu(self.deep(both))], 1)))


class Mobile(nn.Module):
    """Depthwise and grouped convolutions, squeeze and excitation, a norm of groups, features that are flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 16, 1), nn.GroupNorm(4, 16)
        self.depthwise = nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        self.squeeze, self.excite = nn.Linear(16, 6), nn.Linear(6, 16)
        self.grouped = nn.Conv2d(16, 24, 3, padding=1, groups=4)
        self.project = nn.Conv2d(24, 10, 1)
        self.fc = nn.Linear(10 * 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.depthwise(F.relu(self.norm(self.expand(x)))))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))[:, :, None, None]
        return self.fc(self.project(F.relu(self.grouped(x))).flatten(1))


class Attention(nn.Module):
    """Attention as libraries write it."""

    def __init__(self, dim: int, heads: int, inner: int | None = None) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, dim // 4, inner or dim
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * self.attn_dim), nn.Linear(self.attn_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(n, t, self.attn_dim))


class Layer(nn.Module):
    def __init__(self, dim: int, heads: int, inner: int | None = None, hidden: int | None = None) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads, inner)
        self.norm2, self.fc1, self.fc2 = (
            nn.LayerNorm(dim),
            nn.Linear(dim, hidden or 2 * dim),
            nn.Linear(hidden or 2 * dim, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vit(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self, dim: int = 16, heads: int = 4, depth: int = 2, hidden: int | None = None) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 4, 4)
        self.token, self.places = nn.Parameter(torch.zeros(1, 1, dim)), nn.Parameter(torch.randn(1, 5, dim) * 0.02)
        self.layers = nn.ModuleList(Layer(dim, heads, 4 * heads, hidden) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Conv1D(nn.Module):
    """A linear layer as transformers has it for GPT-2: its weight lies the other way."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.size()[:-1], self.nf)


class Gpt(nn.Module):
    """Attention of GPT-2."""

    def __init__(self, dim: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.embed_dim = self.split_size = dim
        self.num_heads, self.head_dim = heads, dim // heads
        self.first, self.c_attn, self.c_proj = nn.Linear(6, dim), Conv1D(3 * dim, dim), Conv1D(dim, dim)
        self.last = nn.Linear(dim, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        q, k, v = (
            part.view(*part.shape[:-1], -1, self.head_dim).transpose(1, 2)
            for part in self.c_attn(x).split(self.split_size, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.last(x + self.c_proj(y.reshape(*y.shape[:-2], -1)))


class Gated(nn.Module):
    """A gate whose two halves come from one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.last = nn.Conv2d(3, 16, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.both(x).chunk(2, 1)
        return self.last((a * torch.sigmoid(b)).mean((2, 3)))


def test_a_residual_network() -> None:
    space = elastic(residual, X)
    assert names(space) == [
        "0.width",
        "1.depth",
        "1.0.conv1.width",
        "1.1.conv1.width",
        "2.conv1.width",
        "2.conv2.width",
    ]
    assert space.choice("1.depth").options == ("1", "2")
    assert space.choice("1.1.conv1.width").inside == ("1.depth", ("2",))
    assert dict(space.fixed) == {"5": "it is an axis of the outputs"}
    agrees(space)


def test_a_narrow_network_is_that_which_is_written_with_these_widths() -> None:
    space = elastic(residual, X, widths=(0.5, 1))
    text = "0.width=4 1.depth=2 1.0.conv1.width=4 1.1.conv1.width=4 2.conv1.width=12 2.conv2.width=6"
    network = build(space, space.parse(text), seed=0)

    def written() -> nn.Module:
        made = residual(stem=4, wide=6)
        block = made.get_submodule("2")
        block.conv1, block.bn1 = nn.Conv2d(4, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        block.conv2 = nn.Conv2d(12, 6, 3, padding=1, bias=False)
        return made

    assert {n: p.shape for n, p in network.state_dict().items()} == {
        n: p.shape for n, p in written().state_dict().items()
    }
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    other = written()
    other.load_state_dict(network.state_dict())
    assert torch.equal(network(x), other(x))
    assert cost_table(space).cost(space.parse(text)) == measure(other, x[:1])


def test_the_largest_is_the_plain_network() -> None:
    space = elastic(Vit, X)
    largest = build(space, space.reached({c.name: c.options[-1:] for c in space.choices}), seed=3)
    torch.manual_seed(3)
    plain = Vit()
    assert all(torch.equal(p, q) for p, q in zip(largest.parameters(), plain.parameters(), strict=True))
    assert torch.equal(largest(X), plain(X))


def test_concatenations() -> None:
    space = elastic(Concat, X)
    assert names(space) == ["a.width", "b.width", "deep.width", "up.width"]
    agrees(space)


def test_depthwise_and_grouped_convolutions() -> None:
    space = elastic(Mobile, X)
    assert names(space) == ["expand.groups", "squeeze.width", "project.width"]
    assert space.choice("expand.groups").options == ("2", "3", "4")
    agrees(space)


def test_attention() -> None:
    space = elastic(Vit, X)
    heads, hidden = [f"layers.{i}.attn.heads" for i in range(2)], [f"layers.{i}.fc1.width" for i in range(2)]
    assert sorted(names(space)) == sorted(["patches.width", "layers.depth", *heads, *hidden])
    assert space.choice(heads[0]).options == ("2", "3", "4")
    agrees(space)


class Cross(nn.Module):
    """Attention of torch to features of another width, one after the other with other numbers of heads."""

    def __init__(self, heads: int, others: int, first: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8) if first else nn.Identity()
        self.keys = nn.Linear(8, 12)
        self.one = nn.MultiheadAttention(8, heads, kdim=12, vdim=12, batch_first=True)
        self.two, self.last = nn.TransformerEncoderLayer(8, others, 16, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        keys, x = self.keys(x), self.first(x)
        y: Tensor = self.last(self.two(x + self.one(x, keys, keys)[0]).mean(1))
        return y


@pytest.mark.parametrize(
    ("heads", "others", "width"),
    [(1, 1, "first.width"), (4, 2, "first.heads")],
)
def test_attention_of_torch_has_its_width_in_its_heads(heads: int, others: int, width: str) -> None:
    space = elastic(partial(Cross, heads, others), torch.zeros(2, 5, 8))
    assert names(space) == [width, "keys.width", "two.linear1.width"]
    agrees(space)
    small = build(space, space.reached({c.name: c.options[:1] for c in space.choices}), seed=0)
    assert small.get_parameter("first.weight").shape == (4, 8)
    assert small.get_parameter("two.self_attn.in_proj_weight").shape == (12, 4)


def test_heads_of_torch_stay_where_their_width_is_fixed() -> None:
    space = elastic(partial(Cross, 4, 4, False), torch.zeros(2, 5, 8))
    assert names(space) == ["keys.width", "two.linear1.width"]
    assert dict(space.fixed)["one"] == "it is an axis of the examples"
    agrees(space)


def test_attention_of_weights_that_lie_the_other_way() -> None:
    space = elastic(Gpt, torch.zeros(2, 5, 6))
    assert sorted(names(space)) == ["c_attn.heads", "first.width"]
    assert space.choice("c_attn.heads").options == ("2", "3", "4")
    agrees(space)


def test_halves_of_one_layer() -> None:
    space = elastic(Gated, X)
    assert names(space) == ["both.width"]
    assert space.choice("both.width").options == ("4", "6", "8")
    agrees(space)


def test_kernel_sizes() -> None:
    space = elastic(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 2, 3)), X, kernels=(3,), widths=()
    )
    assert names(space) == ["0.kernel"]
    agrees(space)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"only": ["2"]}, ["2.conv1.width", "2.conv2.width"]),
        ({"only": ["1.*"]}, ["0.width", "1.depth", "1.0.conv1.width", "1.1.conv1.width"]),
        ({"skip": ["Block"]}, []),
        ({"skip": [Block], "depths": 1}, []),
        ({"skip": ["0"], "depths": 1}, ["1.0.conv1.width", "1.1.conv1.width", "2.conv1.width", "2.conv2.width"]),
    ],
)
def test_rules(rules: dict[str, Any], expected: list[str]) -> None:
    if not expected:
        with pytest.raises(ValueError, match="nothing of the network can be made elastic"):
            elastic(residual, X, **rules)
    else:
        assert names(elastic(residual, X, **rules)) == expected


class Literal(nn.Module):
    """A number in the code of the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4)
        self.free, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.free(self.second(self.first(x).view(len(x), 8))).sort(-1).values)


def test_what_cannot_be_elastic_is_listed() -> None:
    space = elastic(Literal, torch.zeros(2, 6))
    assert names(space) == ["second.width"]
    fixed = dict(space.fixed)
    assert "first.width=4: the network does not run" in fixed["first"]
    assert fixed["free"] == "torch's sort takes it as it is"
    agrees(space)


def test_new_weights_of_narrow_layers_spread_as_those_of_narrow_layers() -> None:
    def make() -> nn.Module:
        last = nn.Linear(256, 8)
        nn.init.normal_(last.weight, std=0.02)
        return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), last)

    space = elastic(make, torch.zeros(2, 64), widths=(0.25, 1))
    network = build(space, space.parse("0.width=64 2.width=64"), seed=0)
    alone = nn.Linear(64, 64)
    spread = {name: parameter.std() for name, parameter in network.named_parameters()}
    torch.testing.assert_close(spread["2.weight"], alone.weight.std(), rtol=0.05, atol=0)
    torch.testing.assert_close(spread["2.bias"], alone.bias.std(), rtol=0.3, atol=0)
    torch.testing.assert_close(spread["4.weight"], torch.tensor(0.02), rtol=0.15, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: elastic(residual(), X), "expected a function that makes it"),
        (lambda: elastic(residual, torch.zeros(2, 5)), "does not run on the example"),
        (lambda: elastic(residual, X, widths=(0,)), "widths: expected shares above 0 and up to 1"),
        (lambda: elastic(residual, X, depths=2), "depths: expected a share"),
        (lambda: elastic(residual, X, kernels=(4,)), "kernels: expected odd numbers"),
        (lambda: elastic(lambda: nn.Linear(3, value("w", (2, 4))), torch.zeros(2, 3)), "has choices already"),
    ],
)
def test_what_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


# ---- any network ----


class Steps(nn.Module):
    """A network of random steps on images."""

    def __init__(self, steps: tuple[str, ...]) -> None:
        super().__init__()
        self.steps, width = steps, 8
        self.stem = nn.Conv2d(3, width, 1)
        parts: list[nn.Module] = []
        for step in steps:
            if step == "conv":
                parts.append(nn.Conv2d(width, 12, 3, padding=1))
                width = 12
            elif step == "depthwise":
                parts.append(nn.Conv2d(width, width, 3, padding=1, groups=width))
            elif step == "residual":
                parts.append(Block(width, width, 6))
            elif step == "norm":
                parts.append(nn.BatchNorm2d(width))
            elif step == "concat":
                parts.append(nn.Conv2d(width, 4, 1))
                width += 4
            elif step == "half":
                parts.append(nn.Conv2d(width, 2 * width, 1))
            else:
                parts.append(nn.Linear(width, width))
        self.parts, self.fc = nn.ModuleList(parts), nn.Linear(width * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for step, part in zip(self.steps, self.parts, strict=True):
            if step == "concat":
                x = torch.cat([part(x), x], 1)
            elif step == "half":
                a, b = part(x).chunk(2, 1)
                x = a * b.sigmoid()
            elif step == "excite":
                x = x * part(x.mean((2, 3))).sigmoid()[..., None, None]
            else:
                x = part(x)
        return self.fc(F.adaptive_avg_pool2d(x.relu(), 2).flatten(1))


@settings(max_examples=6)
@given(
    st.lists(
        st.sampled_from(("conv", "depthwise", "residual", "norm", "concat", "half", "excite")), min_size=1, max_size=5
    )
)
def test_random_networks_agree(steps: list[str]) -> None:
    agrees(elastic(partial(Steps, tuple(steps)), X))


def test_choices_by_hand_and_elastic_ones_are_the_same_space() -> None:
    def by_hand() -> nn.Module:
        width = value("0.width", (4, 6, 8))
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 2, 1))

    plain = elastic(lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1)), X)
    written = from_network(by_hand, X)
    assert plain.choices == written.choices
    rows = plain.live(list(plain))
    one, other = build(plain, seed=1).eval(), build(written, seed=1).eval()
    x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one(x, rows), other(x, rows))
