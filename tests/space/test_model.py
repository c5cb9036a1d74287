"""One builder, two uses: the one-shot model and the stand-alone network are the same computation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from supernet.base.trees import call
from supernet.space.agreement import check_agreement
from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.layers import Choose, GhostBatchNorm, OneShot
from supernet.space.model import build, extract, from_network, option_names
from supernet.space.network import choices_of, parameters_inside, view_of
from supernet.space.values import value
from supernet.speed.runtime import RuntimeConfig, start
from tests import reference
from tests.spaces_for_tests import (
    NestedNetwork,
    assert_same_network,
    elastic,
    examples,
    nested,
    one_shot,
    tiny_bender,
    tiny_macro,
    tiny_nasbench201,
)

SPACES = [
    tiny_bender(),
    tiny_bender(order="relu-bn-conv", affine=False, cells=3),
    nested(),
    tiny_nasbench201(),
    tiny_macro(),
    elastic(),
]
IDS = ["bender", "bender-relu-bn-conv", "nested", "nasbench201", "macro", "elastic"]


MODELS = [one_shot(space) for space in SPACES]


def assert_same_as_reference(model: OneShot, architecture: Architecture) -> None:
    assert_same_network(model, architecture)
    x, live = examples(model.space, 6), model.space.live([architecture])
    torch.testing.assert_close(model(x, live), reference.forward(model, x, live))


@pytest.mark.parametrize("model", MODELS, ids=IDS)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_one_architecture_live_equals_the_stand_alone_network(model: OneShot, data: st.DataObject) -> None:
    assert_same_as_reference(model, model.space.at(data.draw(st.integers(0, model.space.size - 1))))


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_the_same_for_every_single_option(model: OneShot) -> None:
    space = model.space
    seen: set[tuple[str, str]] = set()
    generator = torch.Generator().manual_seed(3)
    while len(seen) < len(space.columns):
        architecture = space.sample(generator=generator)
        new = {(name, option) for name, options in architecture.picks for option in options} - seen
        if new:
            seen |= new
            assert_same_as_reference(model, architecture)


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_everything_on_equals_its_stand_alone_network(model: OneShot) -> None:
    if model.space.name != "nested":  # there options of one choice exclude each other
        assert_same_as_reference(model, model.space.everything_on())


@pytest.mark.parametrize("model", MODELS, ids=IDS)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.floats(0, 1))
def test_ghost_batches_equal_separate_passes(model: OneShot, seed: int, ghosts: int, keep: float) -> None:
    """Any live rows, those included in which a choice has no live option."""
    x = examples(model.space, 3 * ghosts)
    live = torch.rand(ghosts, len(model.space.columns), generator=torch.Generator().manual_seed(seed)) < keep
    together = model(x, live)
    separate = torch.cat([model(x[3 * g : 3 * g + 3], live[g : g + 1]) for g in range(ghosts)])
    torch.testing.assert_close(together, separate, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(together, reference.forward(model, x, live), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_nothing_live_is_zero_and_breaks_nothing(model: OneShot) -> None:
    x = examples(model.space, 4)
    nothing = torch.zeros(2, len(model.space.columns), dtype=torch.bool)
    output = model(x, nothing)
    torch.testing.assert_close(output, reference.forward(model, x, nothing))
    assert output.isfinite().all()


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_dropped_options_are_not_run_and_get_no_gradient(model: OneShot) -> None:
    space, model = model.space, copy.deepcopy(model)
    architecture = space.at(space.size // 3)
    (row,) = live = space.live([architecture])
    ran: set[tuple[str, str]] = set()
    for module in model.modules():
        if isinstance(module, Choose):
            for name, option in zip(module.choice.options, module.options, strict=True):
                option.register_forward_hook(lambda *_, pair=(module.choice.name, name): ran.add(pair))
    model(examples(space, 4), live).sum().backward()
    picked = {pair for pair, column in space.columns.items() if row[column]}
    modules = {m.choice.name for m in model.modules() if isinstance(m, Choose)}
    assert ran == {pair for pair in picked if pair[0] in modules}
    for within, parameters in parameters_inside(model.network).items():
        for name, parameter in parameters:
            takes_part = all(any((choice, option) in picked for option in options) for choice, options in within)
            # In the elastic network what a live module gives may go to a dropped input only.
            assert (parameter.grad is not None) == takes_part or (takes_part and space.name == "elastic"), name


def test_memory_follows_what_is_live() -> None:
    """Bytes kept for the backward pass: a dropped option keeps none."""

    def kept(model: OneShot, architecture: Architecture) -> int:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(examples(model.space, 8), model.space.live([architecture]))
        return total

    model = MODELS[0]
    one = kept(model, model.space.at(0))
    assert one < 0.5 * kept(model, model.space.everything_on())
    # The same one architecture in a space with twice the operations kept in the model costs the same.
    assert one == kept(one_shot(tiny_bender(max_ops=7)), tiny_bender(max_ops=7).at(0))


@pytest.mark.parametrize("space", SPACES, ids=IDS)
def test_weights_follow_the_seed_and_the_global_generator_is_left_alone(space: Space) -> None:
    before = torch.random.get_rng_state()
    models = [build(space, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(before, torch.random.get_rng_state())
    first, same, other = [torch.cat([p.flatten() for p in m.parameters()]) for m in models]
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_weights_follow_the_seed_when_threads_build_at_the_same_time() -> None:
    space = tiny_bender()
    expected = [build(space, seed=seed).state_dict() for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda seed: build(space, seed=seed).state_dict(), range(8)))
    for one, other in zip(built, expected, strict=True):
        assert all(torch.equal(one[name], value) for name, value in other.items())


@pytest.mark.parametrize("space", SPACES, ids=IDS)
def test_a_stand_alone_network_is_ordinary(space: Space) -> None:
    for network in (build(space, space.at(1), seed=0), extract(build(space, seed=0), space.at(1))):
        kinds = {type(module) for module in network.modules()}
        assert not kinds & {Choose, GhostBatchNorm, OneShot}
        assert all(m.track_running_stats for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        assert network.eval()(torch.zeros(1, *space.input_shape)).shape == (1, 3)


def test_extract_copies() -> None:
    model = one_shot(SPACES[0])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    network = extract(model, model.space.at(0))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert any(isinstance(module, Choose) for module in model.modules())


@pytest.mark.parametrize("parametrized", [weight_norm, spectral_norm])
def test_modules_with_parametrizations(parametrized: Callable[[nn.Module], nn.Module]) -> None:
    """They cannot be copied by `copy.copy`; views of a model and its stand-alone networks have them nonetheless."""

    def network() -> nn.Module:
        options = {"x": parametrized(nn.Conv2d(4, 4, 1)), "y": nn.Conv2d(4, 4, 1)}
        return nn.Sequential(parametrized(nn.Conv2d(3, 4, 1)), Choose("a", options), nn.BatchNorm2d(4))

    space = from_network(network, torch.zeros(1, 3, 4, 4))
    model = build(space, seed=0).eval()  # in training mode spectral norm changes what it keeps
    x = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    architecture = space.parse("a=x")
    alone = extract(model, architecture).eval()
    alone.get_submodule("2").train()
    live = space.live([architecture])
    torch.testing.assert_close(alone(x), model(x, live))
    assert not model(x, live & False).isnan().any()
    names = [name for name, _ in alone.named_parameters()]
    assert any("parametrizations" in name for name in names)
    assert {name for name, _ in view_of(alone, lambda module: module).named_parameters()} == set(names)


def test_an_orthogonal_matrix_of_a_chosen_size_is_refused_with_what_to_write() -> None:
    def network() -> nn.Module:
        width = value("w", (4, 8))
        return nn.Sequential(orthogonal(nn.Linear(6, width)), nn.Linear(width, 2))

    with pytest.raises(ValueError, match=r"0.weight: .*orthogonal works for one size only.*write Choose"):
        from_network(network, torch.zeros(2, 6))
    fixed = nn.Sequential(Choose("a", {"x": orthogonal(nn.Linear(6, 6)), "y": nn.Linear(6, 6)}))
    assert from_network(lambda: fixed, torch.zeros(2, 6)).size == 2


def test_choices_come_from_the_network_alone() -> None:
    by_name = {choice.name: choice for choice in choices_of(NestedNetwork())}
    assert list(by_name) == ["outer", "inner", "shared", "join"]
    assert by_name["inner"].inside == ("outer", ("nested",))
    assert by_name["shared"].inside is None

    class Disagreeing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Choose("same", {"x": nn.Identity()})
            self.b = Choose("same", {"y": nn.Identity()})

    with pytest.raises(ValueError, match="choice 'same' occurs with different options"):
        choices_of(Disagreeing())


@pytest.mark.parametrize(
    ("x", "live", "error", "message"),
    [
        (torch.zeros(4, 1, 8, 8), torch.ones(1, 24), TypeError, "expected torch.bool, got torch.float32"),
        (torch.zeros(4, 1, 8, 8), torch.ones(1, 3, dtype=torch.bool), ValueError, r"expected shape \[G, 19\]"),
        (torch.zeros(5, 1, 8, 8), torch.ones(2, 19, dtype=torch.bool), ValueError, "5 examples cannot be divided"),
        (torch.zeros(0, 1, 8, 8), torch.ones(2, 19, dtype=torch.bool), ValueError, "0 examples cannot be divided"),
        (torch.zeros(4, 1, 8, 8), torch.ones(0, 19, dtype=torch.bool), ValueError, r"expected shape \[G, 19\]"),
    ],
)
def test_a_wrong_call_says_what_was_expected(
    x: torch.Tensor, live: torch.Tensor, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(tiny_bender(), seed=0)(x, live)


def test_a_choice_outside_of_a_one_shot_model_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"call supernet\.build"):
        NestedNetwork()(torch.zeros(2, 4))


def test_nothing_is_left_behind_by_a_pass_that_fails() -> None:
    model = build(tiny_bender(), seed=0)
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 5, 8, 8), torch.ones(1, 19, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="outside of a one-shot model"):
        NestedNetwork()(torch.zeros(2, 4))


def test_running_statistics_in_a_one_shot_model_are_refused() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choice = Choose("a", {"x": nn.Identity(), "y": nn.ReLU()})
            self.norm = nn.InstanceNorm1d(3, track_running_stats=True)

    space = Space("wrong", choices_of(Network()), Network, (3, 4))
    with pytest.raises(ValueError, match=r"norm \(InstanceNorm1d\) keeps running statistics"):
        build(space)


class Frozen(nn.Module):
    """A batch norm that learns nothing, as detectors have it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(width))
        self.register_buffer("running_mean", torch.linspace(0, 0.1, 8)[:width])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = 1, -1, 1, 1
        return x * self.get_buffer("weight").view(shape) - self.get_buffer("running_mean").view(shape)


def test_a_frozen_batch_norm_keeps_its_statistics() -> None:
    def network() -> nn.Module:
        width = value("width", (4, 8))
        return nn.Sequential(nn.Conv2d(3, width, 3), Frozen(width), nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, 2, 1))

    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert check_agreement(from_network(network, x[:1]), x) >= 2


class Viewing(nn.Module):
    """Views that channels-last layout does not have: of an output, and of a weight."""

    def __init__(self, way: str) -> None:
        super().__init__()
        width = value("width", (4, 8))
        self.way, self.conv, self.out = way, nn.Conv2d(3, width, 3, padding=1), nn.Linear(width * 36, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.conv.weight
        if self.way == "weight":
            weight = weight.view(len(weight), -1).softmax(1).view(weight.shape)
        x = nn.functional.conv2d(x, weight, self.conv.bias, padding=1)
        return self.out(x.view(x.size(0), -1) if self.way == "output" else x.flatten(1))


@pytest.mark.parametrize("way", ["output", "weight", "none"])
def test_a_network_of_views_is_run_in_contiguous_memory(way: str, caplog: pytest.LogCaptureFixture) -> None:
    space = from_network(lambda: Viewing(way), torch.zeros(1, 3, 6, 6))
    assert space.contiguous == (way != "none")
    assert ("it is run in contiguous memory" in caplog.text) == space.contiguous
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch"))  # channels-last by default
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    architecture = space.first()
    model, alone = build(space, seed=0), build(space, architecture, seed=0)
    expected = model(x, space.live([architecture])), alone(x)
    for network in (model, alone):
        assert runtime.place(network) is network
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close((model(x, space.live([architecture])), call(alone, x)), expected)
    weight = model.get_parameter("network.conv.of.weight")
    assert weight.is_contiguous() == space.contiguous


def test_architectures_of_other_spaces_are_refused() -> None:
    other = nested().at(0)
    with pytest.raises(ArchitectureError, match="has no option"):
        build(tiny_bender(), other)
    with pytest.raises(ArchitectureError, match="has no option"):
        extract(build(tiny_bender()), other)


class _Named(nn.Module):
    """One choice, at a place with this name; the same choice whatever the name and the widths."""

    def __init__(self, place: str, widths: object) -> None:
        super().__init__()
        self.widths = widths
        setattr(self, place, Choose("op", {"a": nn.Linear(4, 4), "b": nn.Tanh()}))
        self.place = place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return getattr(self, self.place)(x)


@pytest.mark.parametrize("widths", [[8, 16], {"a": [1]}, np.int64(3), np.array([1, 2])], ids=lambda w: type(w).__name__)
def test_networks_with_equal_choices_and_settings_of_any_kind_are_told_apart(widths: object) -> None:
    def space_with(place: str) -> Space:
        return from_network(lambda: _Named(place, widths), torch.zeros(1, 4), settings={"widths": widths})

    spaces = {place: space_with(place) for place in ("first", "second")}
    for _ in range(2):
        for place, space in spaces.items():
            assert option_names(space, space.at(1)) == {place: ("op", "b")}
    assert len(set(spaces.values())) == 2
    assert space_with("first") != spaces["first"]


def test_what_a_function_lacks_is_said() -> None:
    """What it returns, where choices are made, and what a network of numbers is given."""
    with pytest.raises(ValueError, match=r"makes a network \(nn.Module\), got NoneType: does it lack a return\?"):
        from_network(lambda: None, torch.zeros(1, 4))  # type: ignore[arg-type, return-value]  # that is the mistake

    class Late(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * value("late", (1, 2))

    with pytest.raises(ValueError, match=r"where its modules are made \(its forward pass is too late\)"):
        from_network(Late, torch.zeros(1, 4))

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), Choose("a", {"relu": nn.ReLU(), "tanh": nn.Tanh()}))

    def of_signals() -> nn.Module:
        return nn.Sequential(nn.Conv1d(2, 3, 3), Choose("a", {"relu": nn.ReLU(), "tanh": nn.Tanh()}))

    with pytest.raises(ValueError, match=r"inputs\.float\(\)$"):
        from_network(of_signals, torch.zeros(1, 2, 8, dtype=torch.int64))
    with pytest.raises(ValueError) as caught:
        from_network(network, torch.zeros(1, 5))
    assert "width" not in str(caught.value)
