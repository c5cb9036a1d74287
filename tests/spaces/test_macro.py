"""The space of NAS-Bench-Macro against what the benchmark publishes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supernet.space.choices import Architecture, ArchitectureError
from supernet.space.cost import cost_table, measure
from supernet.space.layers import Choose
from supernet.space.model import build
from supernet.spaces import macro
from supernet.spaces.macro import to_digits
from tests.spaces_for_tests import tiny_bender

SPACE = macro()
EVERY = list(SPACE)


def test_number_of_architectures() -> None:
    assert SPACE.size == len(set(EVERY)) == 3**8 == 6_561


def test_published_range_of_parameters() -> None:
    """0.39 to 2.93 million, from identity in every layer to the large block in every layer."""
    params = cost_table(SPACE).costs(EVERY)[:, 0]
    assert (round(params.min() / 1e6, 2), round(params.max() / 1e6, 2)) == (0.39, 2.93)
    assert to_digits(EVERY[params.argmin()]) == "00000000"
    assert to_digits(EVERY[params.argmax()]) == "22222222"


def params_by_hand(digits: str) -> int:
    """The published network's parameters, layer by layer, batch norm included."""

    def conv(channels_in: int, channels_out: int, kernel: int) -> int:
        return channels_in * channels_out * kernel**2 + 2 * channels_out

    total = conv(3, 32, 3) + conv(256, 1280, 1) + 1280 * 10 + 10
    widths = [32, 64, 64, 128, 128, 128, 256, 256, 256]
    for digit, (channels_in, channels_out) in zip(digits, itertools.pairwise(widths), strict=True):
        if digit == "0":
            total += conv(channels_in, channels_out, 1) if channels_in != channels_out else 0
        else:
            kernel, inner = (3, 3 * channels_in) if digit == "1" else (5, 6 * channels_in)
            total += conv(channels_in, inner, 1) + conv(1, inner, kernel) + conv(inner, channels_out, 1)
    return total


def test_parameters_by_hand() -> None:
    for architecture, params in zip(EVERY, cost_table(SPACE).costs(EVERY)[:, 0].tolist(), strict=True):
        assert params == params_by_hand(to_digits(architecture))


def test_costs_equal_measured() -> None:
    architecture = SPACE.parse("01212020")
    assert cost_table(SPACE).cost(architecture) == measure(build(SPACE, architecture), SPACE.input_shape)


def test_every_text_goes_there_and_back() -> None:
    texts = {to_digits(architecture): architecture for architecture in EVERY}
    assert set(texts) == {"".join(digits) for digits in itertools.product("012", repeat=8)}
    assert all(SPACE.parse(text) == architecture for text, architecture in texts.items())


@given(st.text("012", min_size=8, max_size=8))
def test_digits_are_read_by_the_space(text: str) -> None:
    architecture = SPACE.parse(f" {text}\n")
    assert to_digits(architecture) == text
    assert SPACE.parse(str(architecture)) == architecture
    assert SPACE.parse(str([int(digit) for digit in text])) == architecture
    assert SPACE.parse(f"'{text}'") == architecture
    for layer, digit in enumerate(text, start=1):
        assert dict(architecture.picks)[f"layer{layer}"] == (("identity", "mb3_k3", "mb6_k5")[int(digit)],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0120120", "expected 8 digits of 0, 1 and 2, .* got '0120120': a table of numbers loses the zeros in front"),
        ("012012012", "got '012012012'$"),
        ("01201203", "got '01201203'$"),
        ("12012012.0", "got '12012012.0'$"),
        ("", "got ''"),
        ("nonsense", "got 'nonsense'"),
        ("layer1=mb3_k3", "choice 'layer2' has no pick"),
    ],
)
def test_a_text_that_does_not_fit_says_why(text: str, message: str) -> None:
    with pytest.raises(ArchitectureError, match=message):
        SPACE.parse(text)


@pytest.mark.parametrize("architecture", [SPACE.everything_on(), tiny_bender().at(0)], ids=["everything", "bender"])
def test_only_single_blocks_of_this_space(architecture: Architecture) -> None:
    with pytest.raises(ArchitectureError, match="expected one option for each of layer1, layer2"):
        to_digits(architecture)


def test_sizes_of_the_layers() -> None:
    sizes = []
    network: Any = build(SPACE, SPACE.parse("12012012"), seed=0).eval()
    for layer in network.layers:
        layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == [(64, 16, 16)] * 2 + [(128, 8, 8)] * 3 + [(256, 4, 4)] * 3


def test_shortcuts_where_shapes_agree() -> None:
    layers = [module for module in SPACE.network().modules() if isinstance(module, Choose)]
    changes = [0, 2, 5]
    for index, layer in enumerate(layers):
        identity, small, large = layer.options
        assert isinstance(identity, nn.Identity) == (index not in changes)
        assert small.shortcut == large.shortcut == (index not in changes)


@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 9, 13), (1, 1, 1)])
def test_any_size_runs(shape: tuple[int, int, int]) -> None:
    space = macro(5, shape, channels=2)
    network = build(space, space.everything_on(), seed=0).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("name", ["channels", "num_classes"])
def test_bad_sizes(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    with pytest.raises(ValueError, match=f"space.{name}: expected at least 1, got 0"):
        macro(**settings)


def test_bad_shape() -> None:
    with pytest.raises(ValueError, match=r"expected \(channels, height, width\)"):
        macro(input_shape=(3, 0, 4))
