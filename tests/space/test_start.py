"""One-shot models that begin with the weights of a trained network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from supernet.space.elastic import elastic
from supernet.space.layers import OneShot
from supernet.space.model import build, extract
from supernet.space.start import read_state, sort_channels, start_from
from tests.space.test_elastic import Concat, Mobile, Vit, residual

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def one_shot(make: Callable[[], nn.Module], seed: int = 0) -> OneShot:
    model = build(elastic(make, torch.zeros(2, 3, 8, 8)), seed=seed)
    assert isinstance(model, OneShot)
    return model.eval()


def moved(make: Callable[[], nn.Module]) -> nn.Module:
    """A network whose weights, scales and offsets are away from their initial values."""
    torch.manual_seed(5)
    network = make()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return network.train()


@pytest.mark.parametrize("make", [residual, Concat, Mobile, Vit])
def test_it_starts_as_the_network_and_sorting_leaves_it_so(make: Callable[[], nn.Module]) -> None:
    network, model = moved(make), one_shot(make)
    start_from(model, network.state_dict())
    everything = model.space.live([model.space.everything_on()])
    torch.testing.assert_close(model(X, everything), network(X))
    assert sort_channels(model) >= 3
    torch.testing.assert_close(model(X, everything), network(X), rtol=1e-4, atol=1e-5)


def test_the_important_channels_are_kept() -> None:
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))

    network, strong = make(), [1, 4, 5, 7]
    first, last = (network.get_parameter(name) for name in ("0.weight", "2.weight"))
    with torch.no_grad():
        first[[0, 2, 3, 6]] *= 1e-3
        last[:, [0, 2, 3, 6]] *= 1e-3
        network.get_parameter("0.bias").zero_()
    model = one_shot(make)
    start_from(model, network.state_dict())
    sort_channels(model)
    narrow = extract(model, model.space.parse("0.width=4"))
    rows = {tuple(row.tolist()) for row in dict(narrow.named_parameters())["0.weight"].flatten(1)}
    assert rows == {tuple(row.tolist()) for row in first[strong].flatten(1)}
    torch.testing.assert_close(narrow(X), network(X), rtol=0, atol=1e-3)


def test_files_of_weights(tmp_path: Path) -> None:
    state = residual().state_dict()
    save_file(state, tmp_path / "a.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "b.pt")
    for name in ("a.safetensors", "b.pt"):
        read = read_state(tmp_path / name)
        assert read.keys() == state.keys() and all(torch.equal(read[n], state[n]) for n in state)
    torch.save(residual(), tmp_path / "whole.pt")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:99])
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    for name, message in (
        ("whole.pt", "read safely"),
        ("cut.safetensors", "read safely"),
        ("none.pt", "no tensors"),
        ("no.pt", "not there"),
    ):
        with pytest.raises(ValueError, match=message):
            read_state(tmp_path / name)


def test_weights_of_another_network() -> None:
    model, state = one_shot(residual), residual().state_dict()
    with pytest.raises(ValueError, match=r"they have no 0\.weight"):
        start_from(model, {n: t for n, t in state.items() if n != "0.weight"})
    with pytest.raises(ValueError, match="they have extra, which the network lacks"):
        start_from(model, {**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"0\.bias is \[3\], expected \[8\]"):
        start_from(model, {**state, "0.bias": torch.zeros(3)})
