"""Latency and memory by sums: with made times exact, with real ones on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from supernet.base.files import read_json, write_json
from supernet.base.trees import tensors_in
from supernet.search import latency
from supernet.search.latency import LatencyConfig, changed, latency_costs, signature, summary, timed, told
from supernet.search.limits import LimitsConfig, LimitsError, extreme, region
from supernet.space.cost import cost_table
from supernet.space.layers import Choose, Depth
from supernet.space.model import build
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201

SPACES = {
    "bender": tiny_bender(),
    "nested": nested(),
    "nasbench201": tiny_nasbench201(),
    "macro": tiny_macro(),
    "elastic": elastic(),
}
CPU = torch.device("cpu")
FACTOR, EACH = 1.25, 300  # of what a module takes alone; for each module; within a network


def leaf_time(module: nn.Module, arguments: Any) -> int:
    """A made time of what has no parts."""
    return 10 + 3 * sum(p.numel() for p in module.parameters()) + sum(t.numel() for t in tensors_in(arguments))


def parts(network: nn.Module) -> list[nn.Module]:
    """What does something itself: no containers, which may be empty."""
    return [
        m for m in network.modules() if not list(m.children()) and not isinstance(m, (Choose, Depth, nn.Sequential))
    ]


def made_time(module: nn.Module, arguments: Any) -> int:
    """Of a whole network just what the prediction takes for granted."""
    if not isinstance(module, latency._Whole):
        return leaf_time(module, arguments)
    total: list[float] = []
    hooks = [
        unit.register_forward_pre_hook(lambda m, x: total.append(FACTOR * leaf_time(m, x) + EACH))
        for unit in parts(module.network)
    ]
    with torch.no_grad():
        module(*arguments)
    for hook in hooks:
        hook.remove()
    return round(sum(total))


@pytest.mark.parametrize("name", SPACES)
def test_sums_of_made_times_are_those_of_whole_networks(name: str, tmp_path: Path) -> None:
    space, path = SPACES[name], tmp_path / "latency.json"
    costs = latency_costs(space, LatencyConfig(batch_size=2), CPU, path, time=made_time)
    assert costs.columns == ("params", "params_without_norm", "macs", "latency", "memory")
    drawn = space.sample_distinct(12, generator=torch.Generator().manual_seed(1))
    assert (costs.costs(drawn)[:, :3] == cost_table(space).costs(drawn)).all()
    for architecture, found in zip(drawn, costs.column("latency", drawn), strict=True):
        network = build(space, architecture).eval()
        example = torch.zeros(2, *(space.input_shape or space.example.shape[1:]))
        number = len(list(network.modules()))
        assert abs(found - made_time(latency._Whole(network), (example,))) <= number  # each is rounded
    known = read_json(path)
    assert known["factor"] == pytest.approx(FACTOR, rel=1e-3)
    assert known["each"] == pytest.approx(EACH, rel=1e-2)
    assert known["error"] <= known["largest_error"] < 1e-3


@pytest.mark.parametrize("name", SPACES)
def test_memory_is_held_and_working(name: str, tmp_path: Path) -> None:
    """Against hooks on whole networks: all parameters and buffers, and the largest inputs and outputs."""
    space = SPACES[name]
    costs = latency_costs(space, LatencyConfig(batch_size=3), CPU, tmp_path / "l.json", time=made_time)
    for architecture in space.sample_distinct(8, generator=torch.Generator().manual_seed(2)):
        network = build(space, architecture).eval()
        working = [0]

        def note(_: nn.Module, x: Any, y: Any, working: list[int] = working) -> None:
            working.append(latency._bytes(x) + latency._bytes(y))

        for unit in parts(network):
            unit.register_forward_hook(note)
        with torch.no_grad():
            network(torch.zeros(3, *(space.input_shape or space.example.shape[1:])))
        held = latency._bytes([t for m in parts(network) for t in (*m.parameters(), *m.buffers())])
        assert costs.column("memory", [architecture])[0] == held + max(working)


def test_limits_of_latency_and_memory(tmp_path: Path) -> None:
    space = SPACES["macro"]
    costs = latency_costs(space, LatencyConfig(), CPU, tmp_path / "l.json", time=made_time)
    everyone = costs.costs(list(space))
    for cost, scale in (("latency", 1e-9), ("memory", 1.0)):
        values = everyone[:, costs.columns.index(cost)]
        assert costs.column(cost, [extreme(costs, cost)[0]])[0] == values.min()
        limit = float(np.quantile(values, 0.3)) * scale
        allowed = region(costs, LimitsConfig(**{f"max_{cost}": limit}))
        assert (allowed.allows(list(space)) == (values * scale <= limit)).all()
        with pytest.raises(LimitsError, match=f"max_{cost} .*: nothing in the space 'macro' meets it; the smallest"):
            region(costs, LimitsConfig(**{f"max_{cost}": float(values.min()) * scale * 0.99}))


def test_times_are_kept_as_long_as_nothing_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space, path = SPACES["nested"], tmp_path / "l.json"
    first = latency_costs(space, LatencyConfig(), CPU, path, time=made_time)

    def never(module: nn.Module, arguments: Any) -> int:
        raise AssertionError

    again = latency_costs(space, LatencyConfig(), CPU, path, time=never)
    assert (first.costs(list(space)) == again.costs(list(space))).all()
    known = read_json(path)
    for setting in ("batch_size", "threads", "networks"):
        other = LatencyConfig(**{setting: 5})
        assert changed(path, other, CPU) == [f"{setting} {getattr(LatencyConfig(), setting)}, now 5"]
        with pytest.raises(AssertionError):
            latency_costs(space, other, CPU, path, time=never)
    for name in ("device", "torch"):
        write_json(path, {**known, name: "another"})
        assert changed(path, LatencyConfig(), CPU) == [f"{name} another, now {known[name]}"]
        with pytest.raises(AssertionError):
            latency_costs(space, LatencyConfig(), CPU, path, time=never)
    write_json(path, known)
    monkeypatch.setattr(latency, "processor_name", lambda: "abacus")
    assert changed(path, LatencyConfig(), CPU) == [f"device {known['device']}, now cpu (abacus)"]
    write_json(path, {name: value for name, value in known.items() if name != "checked"})  # a killed one goes on
    with pytest.raises(AssertionError):
        latency_costs(space, LatencyConfig(), CPU, path, time=never)


def test_a_table_that_is_far_off_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first: list[nn.Module] = []

    def erratic(module: nn.Module, arguments: Any) -> int:
        if isinstance(module, latency._Whole):
            first.append(module)
        return made_time(module, arguments) * (3 if first and module is first[0] else 1)

    with caplog.at_level("INFO"):
        latency_costs(SPACES["nested"], LatencyConfig(), CPU, tmp_path / "l.json", time=erratic)
    facts = read_json(tmp_path / "l.json")
    assert facts["largest_error"] > 0.5
    assert "more than 15% on one of them: do not rely on it" in caplog.text
    assert (summary(tmp_path / "l.json") or "nothing") in caplog.text
    assert summary(tmp_path / "nothing.json") is None


def test_the_worst_network_counts() -> None:
    known = {"device": "abacus", "batch_size": 1, "threads": 1, "checked": [1, 2], "error": 0.01}
    assert told({**known, "largest_error": 0.14}).endswith("whole networks (at most 14.0%)")
    assert told({**known, "largest_error": 0.16}).endswith(
        "(at most 16.0%); more than 15% on one of them: do not rely on it"
    )


def test_the_fastest_of_several_rounds_counts(tmp_path: Path) -> None:
    """Other work on the machine, now and then, changes nothing."""
    calls = [0]

    def disturbed(module: nn.Module, arguments: Any) -> int:
        calls[0] += isinstance(module, latency._Whole)
        return made_time(module, arguments) * (5 if isinstance(module, latency._Whole) and calls[0] % 3 else 1)

    latency_costs(SPACES["nested"], LatencyConfig(networks=7), CPU, tmp_path / "l.json", time=disturbed)
    assert read_json(tmp_path / "l.json")["largest_error"] < 1e-3


def test_what_a_time_depends_on() -> None:
    x = torch.zeros(1, 3, 8, 8)
    keys = {
        signature(nn.Conv2d(3, 4, 3), (x,)),
        signature(nn.Conv2d(3, 4, 5), (x,)),
        signature(nn.Conv2d(3, 4, 3), (torch.zeros(2, 3, 8, 8),)),
        signature(nn.Conv2d(3, 4, 3).double(), (x.double(),)),
    }
    assert len(keys) == 4
    assert signature(nn.Conv2d(3, 4, 3), (x,)) == signature(nn.Conv2d(3, 4, 3), (x,))


def test_real_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More work takes longer, by a factor that no other work on the machine makes up for."""
    monkeypatch.setattr(latency, "RUN_SECONDS", 0.002)
    small, large = nn.Conv2d(1, 1, 1), nn.Conv2d(64, 64, 5)
    x = torch.zeros(1, 64, 40, 40)
    assert 0 < 3 * timed(small, (x[:, :1],), threads=1) < timed(large, (x,), threads=1)
    path = tmp_path / "l.json"
    costs = latency_costs(SPACES["nested"], LatencyConfig(networks=2), CPU, path)
    assert costs.column("latency", list(SPACES["nested"])).max() > 0
    assert {"error", "largest_error", "checked", "factor", "each", "device"} <= set(read_json(path))


@pytest.mark.parametrize("name", ["batch_size", "threads", "networks"])
def test_bad_settings(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least"):
        LatencyConfig(**{name: 0})
