"""The choice module and batch norm over ghost batches, on their own."""

from __future__ import annotations

import random
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import spectral_norm
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from supernet.base.randomness import seeded
from supernet.space.agreement import check_agreement
from supernet.space.layers import (
    Choose,
    Depth,
    GhostBatchNorm,
    Graph,
    LivePaths,
    ShapeError,
    Zero,
    on_meta,
    set_live_paths,
)
from supernet.space.model import build, extract, from_network
from supernet.space.values import value


def live(*ghosts: set[int], name: str = "a") -> LivePaths:
    return LivePaths(tuple({name: frozenset(g)} for g in ghosts), tuple(range(len(ghosts))))


def test_inputs_through_their_own_1x1_equal_concatenation_and_one_1x1() -> None:
    """The paper concatenates the live inputs and applies one 1x1 convolution; the sum here is the same function."""
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {n: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 1, bias=False)) for n in "xyz"}
    )
    choice = Choose("a", dict(parts.items()), max_picks=3, each_input=True)
    inputs = [torch.randn(4, 3, 6, 6) for _ in range(3)]
    for picked in ({0}, {1, 2}, {0, 1, 2}):
        with set_live_paths(live(picked)):
            output = choice(inputs)
        conv = nn.Conv2d(3 * len(picked), 5, 1, bias=False)
        together = nn.Sequential(nn.BatchNorm2d(3 * len(picked)), nn.ReLU(), conv)
        weights: list[Tensor] = [parts.get_parameter(f"{n}.2.weight") for i, n in enumerate("xyz") if i in picked]
        with torch.no_grad():
            conv.weight.copy_(torch.cat(weights, dim=1))
        expected = together(torch.cat([x for i, x in enumerate(inputs) if i in picked], dim=1))
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
@pytest.mark.parametrize("affine", [True, False])
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4))
def test_ghost_batch_norm_is_batch_norm_of_each_ghost_batch(
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d], affine: bool, ghosts: int, size: int
) -> None:
    ordinary = kind(3, affine=affine, dtype=torch.float64)
    if affine:
        nn.init.normal_(ordinary.weight)
        nn.init.normal_(ordinary.bias)
    dims: tuple[int, ...] = {nn.BatchNorm1d: (), nn.BatchNorm2d: (4, 5), nn.BatchNorm3d: (2, 3, 4)}[kind]
    x = torch.randn(ghosts * size, 3, *dims, dtype=torch.float64)
    expected = torch.cat([ordinary(part) for part in x.chunk(ghosts)])
    norm = GhostBatchNorm(ordinary)
    for mode in (True, False):
        norm.train(mode)
        with set_live_paths(live(*({0} for _ in range(ghosts)))):
            torch.testing.assert_close(norm(x), expected)
    assert not list(norm.buffers())


def test_channels_last_and_contiguous_layouts_agree() -> None:
    norm = GhostBatchNorm(nn.BatchNorm2d(4))
    x = torch.randn(6, 4, 5, 5)
    with set_live_paths(live({0}, {0}, {0})):
        torch.testing.assert_close(norm(x.to(memory_format=torch.channels_last)), norm(x))


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (torch.zeros(2, 3), "expected 2 tensors, got one tensor"),
        ([torch.zeros(2, 3)], "expected 2 tensors, got 1 tensors"),
    ],
)
def test_wrong_inputs_name_the_choice(given_: object, message: str) -> None:
    choice = Choose("a", {"x": nn.Identity(), "y": nn.Identity()}, each_input=True)
    with set_live_paths(live({0})), pytest.raises(ValueError, match=f"choice 'a': {message}"):
        choice(given_)


def test_zeros_have_the_shape_of_the_output_and_cost_nothing() -> None:
    calls = []

    class Counting(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append((x.device.type, self.weight.device.type))
            return super().forward(x)

    def network() -> nn.Module:
        return Choose("a", {"x": Counting(3, 7, 3, stride=2), "y": Counting(3, 7, 3, stride=2)})

    space = from_network(network, torch.zeros(1, 3, 9, 9))
    model, nothing = build(space, seed=0), torch.zeros(2, 2, dtype=torch.bool)
    choice = model.network
    assert isinstance(choice, Choose)
    calls.clear()
    for expected in ((9, 9), (4, 4)), ((11, 13), (5, 6)), ((9, 9), (4, 4)):
        for _ in range(3):
            assert model(torch.ones(4, 3, *expected[0]), nothing).shape == (4, 7, *expected[1])
    assert calls == [("meta", "meta")] * 2, "a dropped option was computed, or measured twice for one size"
    calls.clear()
    output = model(torch.ones(4, 3, 9, 9), torch.tensor([[False, False], [False, True]]))
    assert not output[:2].any()
    assert output[2:].all()


def test_zeros_of_a_choice_at_several_places_have_the_shape_of_each() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choice = Choose("a", {"x": nn.MaxPool2d(2), "y": nn.AvgPool2d(2)})

        def forward(self, x: Tensor) -> Tensor:
            return self.choice(self.choice(x))

    model = build(from_network(Twice, torch.zeros(1, 3, 8, 8)), seed=0)
    choice = model.network.choice
    assert isinstance(choice, Choose) and choice.output_shapes is not None
    assert model(torch.ones(2, 3, 8, 8), torch.zeros(1, 2, dtype=torch.bool)).shape == (2, 3, 2, 2)
    shapes = [tuple(output.shape[1:]) for output in choice.output_shapes.by_key.values()]
    assert shapes == [(3, 4, 4), (3, 2, 2)]


def _elastic() -> nn.Module:
    """Widths, depths and concatenations, in a choice and around it."""
    inner, outer = value("inner", (4, 8)), value("outer", (2, 4, 6))
    parts = Choose("parts", {"a": nn.Conv2d(inner, 2, 1), "b": nn.Conv2d(inner, 3, 1)}, join="concat", widths=(2, 3))
    deep = Depth("depth", [nn.Conv2d(inner, inner, 1), nn.Conv2d(inner, inner, 3, padding=1)])
    options = {
        "deep": nn.Sequential(nn.Conv2d(outer, inner, 1), deep, parts, nn.MaxPool2d(2)),
        "flat": nn.Sequential(nn.Conv2d(outer, parts.channels or 0, 2, stride=2)),
    }
    return nn.Sequential(nn.Conv2d(3, outer, 1), Choose("op", options), nn.Flatten(2))


def test_shapes_follow_the_input_and_the_options_in_force() -> None:
    """Whatever was measured before: the zeros of a choice have the shape that its option gives."""
    space = from_network(_elastic, torch.zeros(1, 3, 8, 8))
    model = build(space, seed=0)
    generator = torch.Generator().manual_seed(0)
    choice = model.get_submodule("network.1")
    assert isinstance(choice, Choose) and choice.output_shapes is not None
    for _ in range(60):
        row = space.live([space.sample(generator=generator)])
        x = torch.ones(2, 3, *(2 * torch.randint(2, 5, (2,), generator=generator)).tolist())
        row[:, [space.columns["op", "deep"], space.columns["op", "flat"]]] = torch.tensor([True, False])
        expected = model(x, row).shape
        row[:, space.columns["op", "deep"]] = False
        zeros = model(x, row)
        assert zeros.shape == expected and not zeros.any()
    # 9 sizes, 3 widths before, and 2 * 2 * 3 options of what shapes depend on inside: no more is told apart.
    assert choice.output_shapes.names == ("depth", "inner", "outer", "parts")
    assert len(choice.output_shapes.by_key) <= 60


class Awkward(nn.Module):
    """An option that runs with data only, or not in a plain way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv: nn.Module = nn.Conv2d(3, 5, 3, stride=2)
        self.tensor, self.tensors = torch.tensor([2.0]), [torch.tensor([2.0])]
        self.register_buffer("counter", torch.zeros(()))
        self.counter: Tensor
        if way == "parametrized":
            self.conv = weight_norm(self.conv)
        if way == "weights from a hook":
            self.conv = spectral_norm(self.conv)
        if way == "other modules":
            vars(self)["conv"] = self._modules.pop("conv")  # torch does not know of it, and moves none of it

    def forward(self, x: Tensor) -> Tensor:
        self.counter.add_(1)
        if self.way == "a branch" and x.mean() < 100:
            x = x * 2
        if self.way == "in place":
            x = x.mul_(float(x.mean() * 0) + 2)
        if self.way == "tensors":
            x = x * self.tensor * self.tensors[0]
            self.tensors.append(x.mean())
        if self.way == "random":
            x = x * torch.rand(1).to(x.device) * random.random()
        if self.way == "random numbers in numbers":
            x = x * torch.rand(1).item() * float(x.mean())
        if self.way == "device":
            with torch.autocast(x.device.type, enabled=False):
                return self.conv(x)
        return self.conv(x)


WAYS = [
    "parametrized", "weights from a hook", "other modules", "a branch", "in place", "tensors", "random",
    "random numbers in numbers", "device",
]  # fmt: skip


class Hidden(nn.Module):
    """Calls its choice by keyword."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.choice = Choose("a", {"x": Awkward(way), "y": nn.Conv2d(3, 5, 3, stride=2)})
        self.again = Awkward(way)

    def forward(self, x: Tensor) -> Tensor:
        return self.choice(x=x.clone()).sum((2, 3)) + self.again(x).sum((2, 3))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_network_does_it_is_built_and_its_zeros_have_a_shape(way: str) -> None:
    """Measuring shapes saves time only: what it cannot do is done with data, and leaves no trace."""
    space = from_network(lambda: Hidden(way), torch.zeros(1, 3, 9, 9), check=False)
    torch.manual_seed(1), random.seed(1)
    model = build(space, seed=0)
    option = model.get_submodule("network.choice.options.0")
    assert isinstance(option, Awkward)
    seen: list[Tensor] = []
    option.register_forward_hook(lambda module, inputs, output: seen.append(output))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    choice = model.get_submodule("network.choice")
    x = torch.ones(2, 3, 9, 9)
    for size in (9, 11, 9):
        with set_live_paths(live(set())):
            zeros = choice(x=torch.ones(2, 3, size, size))
            assert zeros.shape == (2, 5, (size - 1) // 2, (size - 1) // 2) and not zeros.any()
            choice(x)
    assert bool((x == 1).all()), "an option wrote into its input"
    assert len(option.tensors) == 1 and not seen
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    drawn = float(torch.rand(1)), random.random()
    torch.manual_seed(1), random.seed(1)
    assert drawn == (float(torch.rand(1)), random.random())
    assert model(torch.ones(2, 3, 9, 9), torch.zeros(1, 2, dtype=torch.bool)).shape == (2, 5)


def test_modules_without_data_have_parameters() -> None:
    """A network may ask for them by name."""
    shadow = on_meta(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))
    assert shadow.get_parameter("0.weight").is_meta and shadow.get_buffer("1.running_mean").is_meta


def test_hooks_of_users_see_no_pass_without_data() -> None:
    seen: list[Tensor] = []
    plain = nn.Conv2d(3, 5, 1)
    plain.register_forward_hook(lambda module, inputs, output: seen.append(output))
    shadow = on_meta(nn.Sequential(plain))
    assert shadow(torch.empty(2, 3, 4, 4, device="meta")).shape == (2, 5, 4, 4)
    assert not seen and plain.weight.device.type == "cpu" and len(plain._forward_hooks) == 1


def test_edges_that_bring_nothing_are_not_run() -> None:
    """A cell of four nodes against its definition: every edge is run and added."""
    ran: list[int] = []

    class Noted(nn.Linear):
        def __init__(self, place: int) -> None:
            super().__init__(3, 3)
            self.place = place

        def forward(self, x: Tensor) -> Tensor:
            ran.append(self.place)
            return super().forward(x)

    places = [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]

    def network() -> nn.Module:
        return Graph({p: Choose(f"e{i}", {"none": Zero(), "linear": Noted(i)}) for i, p in enumerate(places)})

    space = from_network(network, torch.zeros(1, 3))
    model = build(space, seed=0)
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    for architecture in space:
        ran.clear()
        output = model(x, space.live([architecture]))
        picks, sums = dict(architecture.picks), {0: x}
        for i, (source, node) in enumerate(places):
            edge = model.network.get_submodule(f"edges.{i}")
            assert isinstance(edge, Choose)
            option = edge.options[edge.choice.options.index(picks[f"e{i}"][0])]
            sums[node] = sums.get(node, torch.zeros_like(x)) + option(sums[source])
        torch.testing.assert_close(output, sums[3])
        runs, matter = ran[: len(ran) - sum(p == ("linear",) for p in picks.values())], {3}
        for i in reversed(range(6)):
            if picks[f"e{i}"] == ("linear",) and places[i][1] in matter:
                matter.add(places[i][0])
        assert runs == [i for i, p in enumerate(places) if picks[f"e{i}"] == ("linear",) and p[1] in matter]


def test_options_that_do_not_fit_are_named() -> None:
    choice = Choose("a", {"x": nn.Identity(), "y": nn.AdaptiveAvgPool2d(1)}, max_picks=2)
    for paths in (live({0, 1}), live({0, 1}, {0, 1}), live({0, 1}, {0}), live({0}, {1}), live({0, 1}, {1})):
        with (
            set_live_paths(paths),
            pytest.raises(ShapeError, match=r"choice 'a': option '[xy]' gives .*but '[xy]' gives"),
        ):
            choice(torch.ones(2, 8, 4, 4))


def test_a_choice_prints_what_it_is() -> None:
    assert "'a', x, y, max_picks=2" in repr(Choose("a", {"x": nn.Identity(), "y": nn.ReLU()}, max_picks=2))


def test_what_is_joined_with_zeros_keeps_its_layout() -> None:
    """A tensor of another layout among them would make all that follows slow."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choice = Choose("op", {"a": nn.Conv2d(8, 8, 1), "b": nn.Identity()}, max_picks=2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.choice(x)], 1)

    space = from_network(Beside, torch.zeros(2, 8, 4, 4))
    x = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    y = build(space, seed=0)(x, torch.zeros(2, 2, dtype=torch.bool))
    assert y.is_contiguous(memory_format=torch.channels_last) and not y[:, 8:].any()


class _NormAct(nn.BatchNorm2d):
    """A batch norm that does more than batch norm, before and after it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  # its name in torch
        result: torch.Tensor = self.act(super().forward(input.abs()))
        return result


def _with_norms_of_its_own() -> nn.Module:
    width = value("width", (2, 4))
    first = Choose("op", {"a": nn.Conv2d(1, width, 1), "b": nn.Sequential(nn.Conv2d(1, width, 3, padding=1))})
    return nn.Sequential(first, _NormAct(width), nn.Conv2d(width, 3, 1), _NormAct(3))


@pytest.mark.parametrize("training", [True, False])
def test_a_batch_norm_of_another_class_keeps_its_own_forward_pass(training: bool) -> None:
    space = from_network(_with_norms_of_its_own, torch.zeros(1, 1, 6, 6))
    model = build(space, seed=0).double().train(training)
    x = torch.randn(8, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for architecture in space:
        both = space.live([architecture] * 2)
        alone = extract(model, architecture).train()
        expected = torch.cat([alone(x[:4]), alone(x[4:])])
        torch.testing.assert_close(model(x, both), expected, rtol=1e-9, atol=1e-9)
        assert expected.min() >= 0
    assert not dict(model.named_buffers())


def _writes(first: nn.Module) -> nn.Module:
    options = {"act": first, "narrow": nn.Conv2d(3, 3, 1), "skip": nn.Identity()}
    return nn.Sequential(nn.Conv2d(3, 3, 1), Choose("op", options, max_picks=3))


def _in_place(inplace: bool) -> nn.Module:
    return _writes(nn.LeakyReLU(0.1, inplace=inplace))


def test_an_option_in_place_does_not_change_the_input_of_the_others() -> None:
    x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    outputs = []
    for inplace in (False, True):
        space = from_network(partial(_in_place, inplace), x)
        model, everything = build(space, seed=0), space.live([space.everything_on()])
        outputs.append((model(x, everything), extract(model, space.everything_on())(x)))
    for one, other in zip(*outputs, strict=True):
        assert torch.equal(one, other)


class _Adds(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += 1
        return x


def test_an_option_that_writes_into_its_input_is_named() -> None:
    with pytest.raises(ValueError, match="choice 'op': option 'act' writes into its input"):
        from_network(lambda: _writes(_Adds()), torch.zeros(1, 3, 4, 4))


class _Checkpointed(nn.Module):
    def __init__(self, *, again: bool) -> None:
        super().__init__()
        width = value("width", (3, 6))
        act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.body = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Dropout(0.5), act)
        self.head, self.again = nn.Conv2d(width, 2, 1), again

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = checkpoint(self.body, x, use_reentrant=False) if self.again else self.body(x)
        output: torch.Tensor = self.head(y)
        return output


def test_a_pass_that_checkpoints_run_again_has_the_same_paths_and_random_numbers() -> None:
    x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradients = []
    for again in (False, True):
        space = from_network(partial(_Checkpointed, again=again), x)
        model = build(space, seed=0)
        rows = space.live([space.parse("width=3 act=tanh"), space.parse("width=3 act=relu")])
        with seeded(torch.device("cpu"), 1, "test"):
            loss = model(x, rows).square().mean()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


class _Attention(nn.Module):
    """As encoders have it: a mask for all examples, lengths of each, and two outputs."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(8, heads, batch_first=True)

    def forward(
        self, x: Tensor, lengths: Tensor, *, mask: Tensor, scale: float = 1.0
    ) -> tuple[Tensor, dict[str, Tensor]]:
        padded = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        y, weights = self.attend(x, x, x, key_padding_mask=padded, attn_mask=mask)
        return scale * y, {"seen": weights.sum(1)}


class _Layer(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.linear, self.act = nn.Linear(8, 8), act

    def forward(self, x: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.act(self.linear(x)), seen + x.mean(-1)


class _Two(nn.Module):
    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs[0], inputs[1]


class _Encoder(nn.Module):
    """Choices with masks, keywords and several outputs; depths that are called, with two tensors, and iterated."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Choose("heads", {"2": _Attention(2), "4": _Attention(4)}, max_picks=2, join="mean")
        self.layers = Depth("layers", [_Layer(nn.ReLU()) for _ in range(3)], (1, 3))
        acts = [Choose(f"act{i}", {"relu": nn.ReLU(), "tanh": nn.Tanh()}) for i in range(2)]
        self.loop = Depth("loop", [_Layer(act) for act in acts], (0, 1, 2))

    def forward(self, x: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y, more = self.attention(x, lengths, mask=mask, scale=0.5)
        y, seen = self.layers(y, more["seen"])
        for layer in self.loop:
            y, seen = layer(y, seen)
        return {"y": y / (1 + len(self.loop)), "seen": seen}


def _encoder_inputs(examples: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(examples, 4, 8, generator=generator), torch.arange(examples) % 3 + 1


def test_choices_and_depths_take_what_modules_take() -> None:
    space = from_network(_Encoder, _encoder_inputs(2))
    assert check_agreement(space, _encoder_inputs(6)) >= 4  # outputs and costs, of each option
    assert {choice.name: choice.inside for choice in space.choices}["act1"] == ("loop", ("2",))


def test_ghost_batches_together_are_the_same_as_alone_with_several_arguments() -> None:
    """Four ghost batches of one example each, so that the mask has as many rows as there are examples."""
    space = from_network(_Encoder, _encoder_inputs(2))
    model = build(space, seed=0).double().eval()
    x, lengths = _encoder_inputs(4)
    inputs = x.double(), lengths
    picks = ["heads=2", "heads=4", "heads=2+4", "heads=4"]
    live_GP = space.live([space.parse(f"{pick} layers=1 loop=0") for pick in picks])
    together = model(inputs, live_GP)
    for ghost in range(4):
        alone = model(tuple(part[ghost : ghost + 1] for part in inputs), live_GP[ghost : ghost + 1])
        for name, output in alone.items():
            torch.testing.assert_close(together[name][ghost : ghost + 1], output)
    live_GP[1] = False  # nothing is live: zeros in the form of the output
    live_GP[1, [space.columns["layers", "1"], space.columns["loop", "0"]]] = True
    nothing = model(inputs, live_GP)["y"][1]
    first = build(space, seed=0).double().eval()
    first.load_state_dict(model.state_dict())
    depth = first.network.get_submodule("layers")
    assert isinstance(depth, Depth)
    expected = depth.blocks[0](torch.zeros(1, 4, 8).double(), torch.zeros(1, 4).double())[0][0]
    torch.testing.assert_close(nothing, expected)


def test_a_depth_is_iterated_indexed_and_sliced_as_what_is_live_of_it() -> None:
    depth = Depth("a", [nn.Linear(2, 2) for _ in range(3)], (0, 1, 3))
    assert len(depth) == 3 and list(depth) == list(depth.blocks)
    x = torch.randn(2, 2)
    for option, blocks in enumerate((0, 1, 3)):
        with set_live_paths(live({option})):
            assert len(depth) == blocks and list(depth) == list(depth.blocks)[:blocks]
            torch.testing.assert_close(depth[:2](x), nn.Sequential(*list(depth.blocks)[: min(2, blocks)])(x))
    assert type(depth.chosen(("1",))) is nn.Sequential


def test_a_depth_of_several_arguments_says_what_blocks_have_to_return() -> None:
    one = Depth("a", [nn.Bilinear(2, 2, 2), nn.Bilinear(2, 2, 2)])
    x, y = torch.randn(3, 2), torch.randn(3, 2)
    with set_live_paths(live({1})):
        torch.testing.assert_close(one(x, y), one.blocks[1](one.blocks[0](x, y), y))
    assert len(list(one.chosen(("2",)).parameters())) == 4 and one.chosen(("2",))(x, y).shape == (3, 2)
    with set_live_paths(live({0})), pytest.raises(ValueError, match="0 blocks gets 2 arguments by position"):
        Depth("a", [nn.Bilinear(2, 2, 2)], (0, 1))(x, y)
    with set_live_paths(live({0})), pytest.raises(ValueError, match="gets 3 arguments by position and returns"):
        Depth("a", [_Two(), _Two()])(x, y, y)
