import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import Choose, Depth, build, value
from supernet.space.choices import Space
from supernet.space.layers import LivePaths, OneShot, set_live_paths
from supernet.space.model import from_network
from supernet.spaces import nasbench201
from supernet.speed import kernels
from supernet.speed.quick import (
    Fused,
    QuickChoose,
    QuickConv2d,
    QuickGhostNorm,
    QuickNorm,
    QuickSequential,
    has_only_norms_to_remember,
    quick,
    quick_in_training,
)
from supernet.speed.sums import added
from supernet.speed.tune import POINTWISE, Tuning, convolution_name

ALL = Tuning(kernels=("norm", "pool", "depthwise 5x5"))
X = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)


def network() -> nn.Module:
    width = value("width", (8, 16))
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        Choose("op", {
            "depthwise": nn.Sequential(
                nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False), nn.BatchNorm2d(width)
            ),
            "pool": nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3, 1, 1, count_include_pad=False)),
            "conv": nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        }, max_picks=2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 4),
    )  # fmt: skip


SPACE: Space = from_network(network, X)


def channels_last(module: nn.Module) -> nn.Module:
    moved: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stub
    return moved


def noted(function: Callable[..., Any], note: Callable[..., Any]) -> Callable[..., Any]:
    """The function, before which `note` is called with its arguments."""

    def both(*args: Any, **kwargs: Any) -> Any:
        note(*args, **kwargs)
        return function(*args, **kwargs)

    return both


def gradients(model: nn.Module, of: nn.Module, *inputs: Tensor) -> list[Tensor]:
    for parameter in of.parameters():
        parameter.grad = None
    (model(*inputs) ** 2).sum().backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in of.parameters()]


def computed(model: nn.Module, of: nn.Module, *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of a loss that batch norm does not make constant."""
    y = model(*inputs)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    parts = torch.autograd.grad(y, list(of.parameters()), slope, allow_unused=True)
    return [y.detach(), *(torch.zeros(()) if part is None else part for part in parts)]


@given(st.integers(0, 99), st.integers(1, 2))
@settings(max_examples=15)
def test_the_one_shot_model_computes_the_same(seed: int, ghosts: int) -> None:
    model = channels_last(build(SPACE, seed=0))
    live = SPACE.live([SPACE.sample(generator=torch.Generator().manual_seed(seed + i)) for i in range(ghosts)])
    faster = quick(model, ALL)
    assert isinstance(faster, OneShot)
    torch.testing.assert_close(faster(X, live), model(X, live), rtol=1e-4, atol=1e-5)
    expected, got = gradients(model, model, X, live), gradients(faster, model, X, live)
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-3 * float(a.abs().max()) + 1e-5)


@given(st.integers(0, 99), st.sampled_from([ALL, Tuning()]))
@settings(max_examples=10)
def test_a_stand_alone_network_computes_and_remembers_the_same(seed: int, tuning: Tuning) -> None:
    architecture = SPACE.sample(generator=torch.Generator().manual_seed(seed))
    plain = channels_last(build(SPACE, architecture, seed=seed))
    other = copy.deepcopy(plain)
    before = copy.deepcopy(other.state_dict())
    views = [quick_in_training(other, tuning) for _ in range(2)]
    for part, (faster, _) in zip((X, 2 * X), views, strict=True):
        torch.testing.assert_close(faster(part), plain(part), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), other.state_dict().values(), strict=True))
    for _, settle in views:
        settle(), settle()  # nothing is taken in twice
    for (name, a), b in zip(plain.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6, msg=name)
    plain.eval(), other.eval()
    torch.testing.assert_close(quick(other, ALL)(X), plain(X), rtol=1e-4, atol=1e-5)


def test_the_model_stays_as_it_is_and_shares_its_parameters() -> None:
    model = build(SPACE, seed=0)
    before = [(name, type(module)) for name, module in model.named_modules()]
    faster = quick(model, ALL)
    assert [(name, type(module)) for name, module in model.named_modules()] == before
    assert [id(p) for p in faster.parameters()] == [id(p) for p in model.parameters()]
    kinds = [type(module) for module in faster.modules()]
    assert kinds.count(QuickGhostNorm) == 4 and kinds.count(QuickConv2d) == 3
    assert quick(model, Tuning()) is model
    standalone = build(SPACE, SPACE.sample(generator=torch.Generator().manual_seed(0)))
    assert any(isinstance(module, QuickNorm) for module in quick_in_training(standalone, ALL)[0].modules())
    assert not any(isinstance(module, QuickNorm) for module in quick(standalone, ALL).modules())


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
@pytest.mark.parametrize(("stride", "name"), [(1, "depthwise 3x3"), (2, "strided depthwise 3x3")])
def test_a_strided_depthwise_convolution_has_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch, stride: int, name: str
) -> None:
    used: list[int] = []
    monkeypatch.setattr(
        kernels, "depthwise", noted(kernels.depthwise, lambda x, weight, stride, *_: used.append(stride))
    )
    network = channels_last(nn.Conv2d(16, 16, 3, stride, 1, groups=16, bias=False))
    other = {"depthwise 3x3", "strided depthwise 3x3"} - {name}
    x = torch.rand(2, 16, 8, 8).contiguous(memory_format=torch.channels_last)
    assert torch.equal(quick(network, Tuning(kernels=tuple(other)))(x), network(x)) and used == []
    torch.testing.assert_close(quick(network, Tuning(kernels=(name,)))(x), network(x))
    assert used == [stride]


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
def test_the_kernels_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, bool | None]] = []
    for name in ("norm_relu", "pool", "depthwise"):
        original = getattr(kernels, name)

        def note(*_: Any, name: str = name, relu: bool | None = None, **__: Any) -> None:
            used.append((name, relu))

        monkeypatch.setattr(kernels, name, noted(original, note))
    model = channels_last(build(SPACE, seed=0))
    quick(model, ALL)(X, SPACE.live([SPACE.parse("width=16 op=depthwise+conv")]))
    quick(model, ALL)(X, SPACE.live([SPACE.parse("width=16 op=pool")]))
    names = [name for name, _ in used]
    assert names.count("norm_relu") == 4 + 2 and names.count("depthwise") == 1 and names.count("pool") == 2
    assert [relu for name, relu in used if name == "norm_relu"].count(True) == 3 + 2


CONVOLUTIONS: list[tuple[dict[str, Any], bool]] = [
    ({}, True), ({"stride": 2}, True), ({"dilation": 2, "padding": 2}, True), ({"bias": True}, False),
    ({"padding": "same"}, False), ({"padding_mode": "circular"}, False), ({"groups": 2}, False), ({"groups": 8}, False),
]  # fmt: skip
"""Settings of a convolution before batch norm, and whether batch norm takes it over."""


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
@pytest.mark.parametrize(("half", "size"), [(False, 1), (False, 3), (True, 3)])
def test_our_own_convolutions_are_taken_where_they_win(half: bool, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if half and not kernels._multiplies_halves():
        pytest.skip("halves are not multiplied here")
    used: list[bool] = []
    original = kernels._Convolution.apply
    monkeypatch.setattr(kernels._Convolution, "apply", noted(original, lambda *a: used.append(a[5] is None)))
    conv = (nn.Conv2d(16, 16, size, padding=size // 2, bias=False) for _ in range(3))
    plain = nn.Sequential(next(conv), nn.ReLU(), next(conv), nn.BatchNorm2d(16), nn.ReLU(), next(conv))
    channels_last(plain)
    x = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    name = convolution_name(size, torch.bfloat16 if half else torch.float32)
    y, *expected = run(plain, x, half)
    for taken in (("norm",), ("norm", name)):
        z, *got = run(quick_in_training(plain, Tuning(kernels=taken))[0], x, half)
        for a, b in zip((y, *expected), (z, *got), strict=True):
            assert (a.float() - b.float()).abs().max() <= (0.06 if half else 1e-4) * a.abs().max()
        # Of one pixel only where it takes a ReLU along; the last one's ReLU is batch norm's.
        assert used == (([False] if size == 1 else [True, False, True]) if len(taken) > 1 else [])


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
@pytest.mark.parametrize("half", [False, True])
def test_convolutions_of_one_pixel_are_products_where_they_win(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    original = kernels.pointwise
    monkeypatch.setattr(kernels, "pointwise", noted(original, lambda *a: used.append(True)))
    plain = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.ReLU(), nn.Conv2d(6, 16, 1, bias=False), nn.BatchNorm2d(16),
        nn.Conv2d(16, 8, 1, stride=2, bias=False), nn.Conv2d(8, 8, 1, bias=False, groups=2), nn.Conv2d(8, 5, 1),
    )  # fmt: skip
    channels_last(plain)
    x = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    expected = run(plain, x, half)
    for taken, times in ((("norm",), 0), (("norm", POINTWISE), 2)):
        got = run(quick_in_training(plain, Tuning(kernels=taken))[0], x, half)
        for a, b in zip(expected, got, strict=True):
            assert (a.float() - b.float()).abs().max() <= (0.06 if half else 1e-4) * a.abs().max()
        assert len(used) == times


def run(model: nn.Module, x: Tensor, half: bool) -> list[Tensor]:
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = model(x)
    slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, list(model.parameters()), slope)]


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
@pytest.mark.parametrize(("changes", "joins"), CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("ghosts", [0, 1, 2])
@pytest.mark.parametrize("half", [False, True])
def test_batch_norm_takes_over_the_convolution_before_it(
    changes: dict[str, Any], joins: bool, ghosts: int, half: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a stand-alone network (0 ghost batches) and in the one-shot model; several ghost batches go the plain way."""
    joined: list[kernels.Conv | None] = []
    original = kernels.norm_relu_statistics
    spy = noted(original, lambda *a, conv=None, **k: joined.append(conv))
    monkeypatch.setattr(kernels, "norm_relu_statistics", spy)
    settings: dict[str, Any] = {"padding": 1, "bias": False, **changes}

    def network_with_choice() -> nn.Module:
        conv = nn.Conv2d(8, 16, 3, **settings)
        options = {"a": nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(16), nn.ReLU()), "b": nn.Conv2d(8, 16, 1)}
        return nn.Sequential(nn.Conv2d(3, 8, 1), Choose("op", options))

    space = from_network(network_with_choice, X, check=False)
    network = channels_last(build(space, None if ghosts else space.parse("op=a"), seed=0))
    for parameter in network.parameters():  # offsets are zero at first, and would not be missed
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    live = [space.live([space.parse("op=a")] * ghosts)] if ghosts else []
    faster = quick(network, ALL) if ghosts else quick_in_training(network, ALL)[0]

    def computed(model: nn.Module) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = model(X, *live)
        slope = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
        return [y.detach(), *torch.autograd.grad(y, list(network.parameters()), slope, allow_unused=True)]

    (y, *expected), (z, *got) = computed(network), computed(faster)
    assert [conv is not None and conv.relu for conv in joined] == [joins] * (ghosts < 2)
    assert [a is None for a in expected] == [b is None for b in got]
    differences = [float((a - b).abs().max()) for a, b in zip(expected, got, strict=True) if a is not None]
    # Of the largest of all: batch norm takes an offset before it away, and its gradient is rounding.
    assert max(differences) <= (0.05 if half else 1e-4) * max(float(a.abs().max()) for a in expected if a is not None)
    assert (y.float() - z.float()).abs().max() <= (0.05 if half else 1e-4) * y.abs().max()


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
@pytest.mark.parametrize("last", [nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 8, 1)], ids=str)
def test_a_sequence_adds_its_output_to_what_it_is_given(last: nn.Module) -> None:
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), last)
    x, onto = torch.randn(2, 4, 8, 6, 6, generator=torch.Generator().manual_seed(3)).unbind()
    x, onto = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, onto))
    faster, _ = quick_in_training(plain, ALL)
    with torch.no_grad():
        torch.testing.assert_close(added(faster, x, onto), onto + plain(x), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(added(faster.eval(), x, onto), onto + plain.eval()(x), atol=1e-5, rtol=1e-4)
    assert isinstance(faster, QuickSequential)
    steps = [type(module) for module in faster.steps()]
    assert steps == [Fused, *([] if isinstance(last, nn.ReLU) else [type(faster[-1])])]


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
def test_an_option_that_does_not_fit_is_named_in_faster_modules_too() -> None:
    def network() -> nn.Module:
        narrow = nn.Sequential(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8))
        return Choose("op", {"same": nn.Identity(), "narrow": narrow}, max_picks=2)

    space = from_network(network, torch.zeros(1, 8, 6, 6), check=False)
    model = quick(build(space, seed=0), ALL)
    x = torch.ones(4, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match=r"choice 'op': option 'narrow' gives .*but 'same' gives"):
        model(x, space.live([space.everything_on()]))


@pytest.mark.skipif(kernels.compiled() is None, reason="no C compiler")
def test_equal_passes_give_equal_outputs_in_half_precision() -> None:
    """Whatever ran before: a continued training has to go on bit for bit."""
    space = nasbench201(8, 1, input_shape=(3, 8, 8))
    model = quick(channels_last(build(space, seed=0)), ALL)
    live = space.live([space.parse("edge0-1=nor_conv_3x3 edge0-2=nor_conv_1x1 edge1-2=avg_pool_3x3 "
                                   "edge0-3=nor_conv_3x3 edge1-3=avg_pool_3x3 edge2-3=nor_conv_3x3")])  # fmt: skip
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        first, second = model(X, live), model(X, live)
    assert torch.equal(first, second)


def test_a_relu_that_others_see_stays_where_it_is() -> None:
    seen: list[Tensor] = []
    for relu in (nn.ReLU(inplace=True), nn.ReLU()):
        plain = nn.Sequential(relu, nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        relu.register_forward_hook(lambda module, inputs, output: seen.append(output)) if not relu.inplace else None
        x = torch.randn(4, 8, 2, 2, generator=torch.Generator().manual_seed(0))
        x = x.contiguous(memory_format=torch.channels_last)
        quick_in_training(plain, ALL)[0](x)
        assert bool((x >= 0).all()) == relu.inplace
    assert len(seen) == 1


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool2d(3, 1, 1), nn.AvgPool2d(2, ceil_mode=True), nn.AvgPool2d(2, divisor_override=3),
        nn.AvgPool2d((3, 2)), nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(2, dilation=2), nn.MaxPool2d((2, 3), (2, 1)),
        nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(2), nn.AvgPool2d(2, 2, 1, count_include_pad=False),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("side", [7, 8])
def test_every_setting_of_a_pool_is_heeded(pool: nn.Module, side: int) -> None:
    x = torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(2))
    x = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(quick(pool, ALL)(x), pool(x))


def test_what_half_precision_makes_wrong_is_run_in_full() -> None:
    convolution = nn.Conv2d(8, 8, 3, padding=1, groups=4)
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))
    for kinds, dtype in (((), torch.bfloat16), (("grouped",), torch.float32), (("dilated",), torch.bfloat16)):
        faster = quick(convolution, Tuning(kernels=("norm",), in_full_precision=kinds))
        with torch.autocast("cpu", torch.bfloat16):
            y = faster(x)
        assert y.dtype == dtype
    torch.testing.assert_close(quick(convolution, Tuning(in_full_precision=("grouped",)))(x), convolution(x))


class _Padding(nn.Conv2d):
    """A convolution of a class of its own, which does more than its base."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # its name in torch
        return 2 * super().forward(F.pad(input, (1, 1, 1, 1)))


def test_convolutions_of_other_classes_are_run_in_full_on_small_images() -> None:
    convolution = _Padding(8, 8, 3)
    faster = quick(nn.Sequential(convolution), Tuning(precision="bf16-mixed"))
    for side, dtype in ((6, torch.float32), (16, torch.bfloat16)):
        x = torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16):
            assert faster(x).dtype == dtype
        assert torch.equal(faster(x), convolution(x))
    assert isinstance(faster.get_submodule("0"), _Padding)
    assert faster.get_submodule("0").weight is convolution.weight


@pytest.mark.parametrize(
    ("module", "safe"),
    [
        (nn.BatchNorm1d(8), True), (nn.BatchNorm3d(8), True), (nn.Linear(8, 8), True),
        (nn.BatchNorm2d(8, momentum=None), False), (nn.InstanceNorm2d(8, track_running_stats=True), False),
        (nn.BatchNorm2d(8, track_running_stats=False), True),
    ],
    ids=str,
)  # fmt: skip
def test_which_networks_run_side_by_side(module: nn.Module, safe: bool) -> None:
    assert has_only_norms_to_remember(nn.Sequential(nn.Flatten(), module)) == safe


def test_a_norm_with_a_hook_keeps_its_place() -> None:
    seen: list[Tensor] = []
    plain = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    plain[0].register_forward_hook(lambda module, inputs, output: seen.append(output))
    quick_in_training(plain, ALL)[0](torch.randn(4, 8, 2, 2, generator=torch.Generator().manual_seed(0)))
    assert seen[0].min() < 0


def test_a_relu_with_a_hook_after_a_norm_keeps_its_place() -> None:
    seen: list[Tensor] = []
    plain = nn.Sequential(nn.BatchNorm2d(8), nn.ReLU())
    plain[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    y = quick_in_training(plain, ALL)[0](torch.randn(4, 8, 2, 2, generator=torch.Generator().manual_seed(0)))
    assert len(seen) == 1 and torch.equal(seen[0], y)


@pytest.mark.parametrize("hooked", range(8))
def test_every_hook_of_a_user_is_called_once(hooked: int) -> None:
    """Whatever module it is on, inputs and output are those of the plain network, but for rounding."""
    inner = nn.Sequential(
        nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 1, 1),
        nn.AvgPool2d(2), nn.Conv2d(8, 4, 1),
    )  # fmt: skip
    plain = nn.Sequential(inner, nn.Flatten())
    seen: list[tuple[Tensor, Tensor]] = []
    module = [*inner, inner][hooked]
    module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    plain(x)
    quick_in_training(plain, ALL)[0](x)
    (a, b), (c, d) = seen
    torch.testing.assert_close(c, a, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(d, b, rtol=1e-4, atol=1e-5)


def _tapped(layers: nn.Sequential, x: Tensor) -> Tensor:
    total: Tensor = torch.zeros(())
    for i, layer in enumerate(layers):
        x = layer(x)
        if i < 5:
            total = total + (i + 1) * x  # what comes out at each place
    return total


def _by_index(layers: Any, x: Tensor) -> Tensor:
    for i in range(len(layers) - 2):
        x = layers[i](x)
    return layers[-5](x) * layers[4].weight.mean()


def _by_name(layers: Any, x: Tensor) -> Tensor:
    x = layers.norm(layers.conv(layers.act(x)))
    weight = layers.get_submodule("conv").weight
    names = [name for name, _ in layers.named_children()]
    return x * weight[0, 0].mean() * len(names) + layers.get_parameter("norm.weight").mean()


def _by_class(layers: nn.Sequential, x: Tensor) -> Tensor:
    for layer in layers.children():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
            x = x * (2 if type(layer).__name__.endswith("2d") and isinstance(layer, nn.BatchNorm2d) else 3)
        x = layer(x) if isinstance(layer, nn.Conv2d) else x
    return x


READINGS: list[Callable[[Any, Tensor], Tensor]] = [
    _tapped, _by_index, _by_name, _by_class,
    lambda layers, x: layers[:3](x) + layers[1:2](x),
    lambda layers, x: layers[2:](layers[1](layers[0](x))),
    lambda layers, x: layers(x) + layers[:4](x),  # the whole, and a part again
    lambda layers, x: layers(input=x) + layers.norm(input=layers.conv(input=x)),
]  # fmt: skip
"""What the forward pass of a network may do with a sequence, other than run it as a whole."""


class Reads(nn.Module):
    """A network that reads its sequence in one of these ways; with width 8, so that kernels fit."""

    def __init__(self, reading: Callable[[Any, Tensor], Tensor], *, choice: bool) -> None:
        super().__init__()
        self.reading = reading
        self.stem = nn.Conv2d(3, 8, 1)
        layers = OrderedDict[str, nn.Module](
            act=nn.ReLU(), conv=nn.Conv2d(8, 8, 3, padding=1, bias=False), norm=nn.BatchNorm2d(8), after=nn.ReLU(),
            again=nn.Conv2d(8, 8, 1), pool=nn.MaxPool2d(3, 1, 1), last=nn.BatchNorm2d(8),
        )  # fmt: skip
        self.layers = nn.Sequential(layers)
        self.choose = Choose("op", {"a": nn.Conv2d(8, 8, 1), "b": nn.Identity()}) if choice else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.reading(self.layers, self.choose(self.stem(x)))


@pytest.mark.parametrize("reading", range(len(READINGS)))
@pytest.mark.parametrize("tuning", [ALL, Tuning()], ids=["kernels", "torch"])
@pytest.mark.parametrize("training", [True, False])
def test_a_network_may_read_its_modules_at_their_places(reading: int, tuning: Tuning, training: bool) -> None:
    """A stand-alone network: outputs, gradients and running statistics are those of the plain one."""
    plain = channels_last(Reads(READINGS[reading], choice=False)).train(training)
    other = copy.deepcopy(plain)
    faster, settle = quick_in_training(other, tuning)
    close = {"rtol": 1e-3, "atol": 1e-4} if tuning.kernels else {"rtol": 0, "atol": 0}
    expected, got = computed(plain, plain, X), computed(faster, other, X)
    largest = max(float(tensor.abs().max()) for tensor in expected)  # gradients of offsets before a norm are rounding
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(b, a, rtol=close["rtol"], atol=close["atol"] * largest)
    settle()
    for a, b in zip(plain.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reading", [r for r in range(len(READINGS)) if r not in (3, 7)])
def test_a_one_shot_model_may_read_its_modules_at_their_places(reading: int) -> None:
    """Batch norms of one-shot models are of another class, with other names of arguments, without kernels too."""
    space = from_network(lambda: Reads(READINGS[reading], choice=True), X)
    model = channels_last(build(space, seed=0))
    faster = quick(model, ALL)
    for ghosts in (1, 2):
        live = space.live([space.parse("op=a"), space.parse("op=b")][:ghosts])
        expected, got = computed(model, model, X, live), computed(faster, model, X, live)
        largest = max(float(tensor.abs().max()) for tensor in expected)
        for a, b in zip(expected, got, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * largest)


def test_a_sequence_keeps_its_modules_and_their_names() -> None:
    plain = Reads(READINGS[0], choice=False)
    faster, _ = quick_in_training(plain, ALL)
    assert [name for name, _ in faster.named_modules()] == [name for name, _ in plain.named_modules()]
    assert all(isinstance(b, type(a)) for a, b in zip(plain.modules(), faster.modules(), strict=True))
    assert {name: id(p) for name, p in faster.named_parameters()} == {n: id(p) for n, p in plain.named_parameters()}
    vars(plain.layers[1])["settings"] = vars(plain.layers[2])["seen"] = 5.0  # attributes of a user's own
    faster, _ = quick_in_training(plain, ALL)
    layers = faster.get_submodule("layers")
    assert isinstance(layers, nn.Sequential) and vars(layers[1])["settings"] == vars(layers[2])["seen"] == 5.0


def test_a_hook_that_comes_later_is_called() -> None:
    """A network may hook its modules for the time of a pass, to read what is inside."""
    plain = Reads(READINGS[0], choice=False).layers
    faster, _ = quick_in_training(plain, ALL)
    x = torch.randn(4, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    faster(x)
    seen: list[Tensor] = []
    assert isinstance(faster, nn.Sequential)
    handle = faster[2].register_forward_hook(lambda module, inputs, output: seen.append(output))
    faster(x), plain(x)
    handle.remove()
    faster(x)
    assert len(seen) == 2  # hooks are those of the network itself
    torch.testing.assert_close(*seen, rtol=1e-4, atol=1e-5)


def test_a_faster_module_takes_over_what_its_model_has() -> None:
    plain = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    faster = quick(plain, ALL)
    assert type(faster) is QuickConv2d and type(plain) is nn.Conv2d
    assert faster.weight is plain.weight and (faster.stride, faster.padding) == (plain.stride, plain.padding)
    assert quick(plain.eval(), ALL).training is False


def test_half_precision_where_nothing_was_ever_live() -> None:
    """The shape of the output is then found without data, where autocast does nothing."""
    live = SPACE.live([SPACE.parse("width=8 op=conv")])
    live[:, [SPACE.columns["op", option] for option in ("conv", "depthwise")]] = False
    model = build(SPACE, seed=0)
    for faster in (model, quick(model, ALL)):
        with torch.autocast("cpu", torch.bfloat16):
            assert faster(X, live).isfinite().all()


def _conv_norm(width: int, kernel: int = 3) -> nn.Sequential:
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(width), nn.ReLU())


def _with_depth() -> nn.Module:
    choice = Choose("op", {"a": nn.Sequential(_conv_norm(8), nn.MaxPool2d(3, 1, 1)), "b": _conv_norm(8, 1)})
    return nn.Sequential(nn.Conv2d(3, 8, 1), choice, Depth("depth", [_conv_norm(8), _conv_norm(8, 1)]))


def _with_depth_inside() -> nn.Module:
    deep = nn.Sequential(Depth("depth", [_conv_norm(8), _conv_norm(8, 1)]), nn.BatchNorm2d(8))
    return nn.Sequential(nn.Conv2d(3, 8, 1), Choose("op", {"a": deep, "b": _conv_norm(8, 1)}))


def _nested() -> nn.Module:
    inner = Choose("inner", {"p": _conv_norm(8), "q": _conv_norm(8, 1)})
    return nn.Sequential(nn.Conv2d(3, 8, 1), Choose("op", {"a": _conv_norm(8), "b": nn.Sequential(inner)}))


def _with_width() -> nn.Module:
    width = value("width", (8, 16))
    first = nn.Sequential(nn.Conv2d(3, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    return nn.Sequential(first, Choose("op", {"a": _conv_norm(width), "b": _conv_norm(width, 1)}))


@pytest.mark.parametrize("make", [_with_depth, _with_depth_inside, _nested, _with_width])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("side", [8, 12])
def test_a_choice_without_a_live_option_gives_the_same_with_kernels(
    make: Callable[[], nn.Module], half: bool, side: int
) -> None:
    """Under every option of the other choices, none of them included, and for other sizes than the space's."""
    space = from_network(make, X)
    model = channels_last(build(space, seed=0))
    own = (convolution_name(3, torch.float32), convolution_name(3, torch.bfloat16))
    tuning = Tuning(kernels=("norm", "pool", POINTWISE, *own), in_full_precision=("grouped",))
    faster = quick(channels_last(build(space, seed=0)), tuning)
    x = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    rows = [space.live([architecture]) for architecture in space]
    empty = [row.clone() for row in rows]
    for row in empty:
        row[:, [space.columns["op", "a"], space.columns["op", "b"]]] = False
    inner = [row.clone() for row in rows if make is _nested]
    for row in inner:
        row[:, [space.columns["inner", "p"], space.columns["inner", "q"]]] = False
        row[:, space.columns["op", "b"]] = True
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for row in (*empty, *inner, *rows):
            expected, got = model(x, row).float(), faster(x, row).float()
            assert (got - expected).abs().max() <= (0.06 if half else 1e-4) * expected.abs().max()


def test_a_shape_is_measured_once_for_all_views() -> None:
    """On plain modules, whichever view asks first."""
    space = from_network(_nested, X)
    model = build(space, seed=0)
    row = space.live([space.everything_on()]) & False
    faster = [quick(model, ALL) for _ in range(2)]
    choice = model.get_submodule("network.1")
    assert isinstance(choice, Choose) and choice.output_shapes is not None
    for view in (*faster, model):
        view(X, row)
        assert [tuple(output.shape[1:]) for output in choice.output_shapes.by_key.values()] == [(8, 8, 8)]
    kinds = set(map(type, choice.output_shapes.option.modules()))
    assert not {QuickConv2d, QuickSequential, QuickGhostNorm} & kinds


def live(*ghosts: set[int], name: str = "a") -> LivePaths:
    return LivePaths(tuple({name: frozenset(g)} for g in ghosts), tuple(range(len(ghosts))))


class Double(nn.Module):
    """Twice its input; notes what it is asked to add that to."""

    takes_onto = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def forward(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(onto is not None)
        return 2 * x if onto is None else onto + 2 * x


@pytest.mark.parametrize("picked", [set(), {0}, {1}, {0, 1}])
@pytest.mark.parametrize("join", ["sum", "mean"])
def test_a_choice_adds_to_what_it_is_given(picked: set[int], join: Literal["sum", "mean"]) -> None:
    x, onto, double = torch.full((2, 1), 3.0), torch.full((2, 1), 100.0), Double()
    choice = QuickChoose(Choose("a", {"x": nn.Identity(), "y": double}, max_picks=2, join=join))
    with set_live_paths(live(picked)):
        alone = choice(x)
        assert torch.equal(choice(x, onto=onto), onto + alone)
        assert torch.equal(added(choice, x, onto), onto + alone)
    # Where it is the second option, what it is added to is the first one's output, or what was given.
    assert double.asked == ([] if 1 not in picked else [picked == {0, 1}] + [picked == {0, 1} or join == "sum"] * 2)
    with set_live_paths(live(picked, {1})):  # of two ghost batches one has another option
        assert torch.equal(choice(x, onto=onto), onto + choice(x))


def test_what_does_not_fit_what_it_is_added_to_is_named() -> None:
    inner = QuickChoose(Choose("b", {"one": nn.AdaptiveAvgPool2d(1)}))
    choice = QuickChoose(Choose("a", {"x": nn.Identity(), "y": inner}, max_picks=2))
    picks = {"a": frozenset({0, 1}), "b": frozenset({0})}
    for ghosts in (1, 2):
        paths = LivePaths((picks,) * ghosts, tuple(range(ghosts)))
        with set_live_paths(paths), pytest.raises(ValueError, match="choice 'a': option 'y' gives"):
            choice(torch.ones(2, 8, 4, 4))
    with (
        set_live_paths(live({0}, name="b")),
        pytest.raises(ValueError, match=r"choice 'b': option 'one' gives .*but 'the sum that it is added to' gives"),
    ):
        inner(torch.ones(2, 8, 4, 4), onto=torch.ones(2, 8, 4, 4))


def test_a_class_that_runs_otherwise_stays_as_it_is() -> None:
    class Other(Choose):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    other = Other("a", {"x": nn.Identity()})
    assert type(quick(other, ALL)) is Other
    with set_live_paths(live({0})):
        assert float(added(quick(other, ALL), torch.tensor(1.0), torch.tensor(5.0))) == 7.0


def test_a_choice_that_is_looked_at_stays_as_it_is() -> None:
    seen: list[Tensor] = []
    choice = Choose("a", {"x": nn.Identity()})
    choice.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with set_live_paths(live({0})):
        assert float(added(quick(choice, ALL), torch.tensor(1.0), torch.tensor(5.0))) == 6.0
    assert seen == [torch.tensor(1.0)]


def test_what_looks_at_an_output_sees_nothing_but_it() -> None:
    double, seen = Double(), []
    double.register_forward_hook(lambda module, inputs, output: seen.append(float(output)))
    assert float(added(double, torch.tensor(1.0), torch.tensor(5.0))) == 7.0
    assert seen == [2.0] and double.asked == [False]


@pytest.mark.parametrize(("pixels", "size"), [(1, 5), (2, 7), (3, 3)])
@pytest.mark.parametrize("norm", [False, True])
def test_half_precision_is_right_where_kernels_reach_beyond_the_image(pixels: int, size: int, norm: bool) -> None:
    """Some versions of torch leave the gradient of what meets no pixel as the memory was."""
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 128, size, padding=size // 2, bias=False)
    plain = channels_last(nn.Sequential(conv, nn.BatchNorm2d(128)) if norm else conv)
    x, slope = torch.randn(2, 32, 128, pixels, pixels)
    x = x.to(memory_format=torch.channels_last)
    view = quick_in_training(plain, Tuning(precision="bf16-mixed", kernels=("norm",)))[0]
    gradients = []
    for network, half in ((plain, False), (view, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = (network(x).float() * slope).sum()
        gradients.append(torch.autograd.grad(loss, conv.weight)[0])
    assert (gradients[1] - gradients[0]).abs().max() <= 0.1 * gradients[0].abs().max()
