"""Limits: what is within them, what is the smallest possible, drawing and repairing."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.search import limits
from supernet.search.limits import LimitsConfig, LimitsError, Region, amount, extreme, region, shown
from supernet.space import changes
from supernet.space.changes import mutated, neighbours
from supernet.space.choices import Architecture, Space
from supernet.space.cost import cost_table
from supernet.space.layers import Choose
from supernet.space.model import from_network
from supernet.space.values import value
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201

SPACES = {
    "bender": tiny_bender(choice_blocks=1),
    "nested": nested(),
    "elastic": elastic(),
    "macro": tiny_macro(),
    "nasbench201": tiny_nasbench201(),
}
COSTS = {name: cost_table(space) for name, space in SPACES.items()}
SEEDS = st.integers(0, 2**32)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("cost", "text", "expected"),
    [
        ("params", "1M", 1e6),
        ("params", "1.5m", 1.5e6),
        ("params", 250_000, 250_000),
        ("params", "250_000", 250_000),
        ("macs", "50M", 5e7),
        ("macs", "2 G", 2e9),
        ("macs", "1e6", 1e6),
        ("latency", "5ms", 0.005),
        ("latency", "300us", 0.0003),
        ("latency", "300 µs", 0.0003),
        ("latency", "2s", 2),
        ("latency", 0.005, 0.005),
        ("memory", "64MB", 64e6),
        ("memory", "64 MiB", 2**26),
        ("memory", "512kib", 2**19),
    ],
)
def test_amounts(cost: str, text: Any, expected: float) -> None:
    assert amount("max", cost, text) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_params": "5 apples"}, "max_params: expected a number like 250k or 1.5M, got '5 apples'"),
        ({"max_params": "5ms"}, "max_params: expected a number"),
        ({"max_latency": "5MB"}, "max_latency: expected a time like 5ms"),
        ({"max_memory": "-3MB"}, "max_memory: expected a size like 64MB"),
        ({"max_macs": 0}, "max_macs: expected"),
        ({"max_macs": True}, "max_macs: expected"),
        ({"min_macs": "1.2.3"}, "min_macs: expected"),
        ({"min_params": "2M", "max_params": "1M"}, "min_params 2M is above max_params 1M: nothing can meet both"),
    ],
)
def test_bad_limits(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LimitsError, match=message):
        LimitsConfig(**values)


def test_costs_are_shown_with_their_units() -> None:
    assert [shown("params", 1234), shown("latency", 0.0051), shown("memory", 2.5e6)] == ["1,234", "5.1 ms", "2.5 MB"]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("cost", ["params", "macs"])
def test_the_smallest_and_the_largest_are_exact(name: str, cost: str) -> None:
    """Against going through the whole space."""
    everyone = COSTS[name].column(cost, list(SPACES[name]))
    for largest, expected in ((False, everyone.min()), (True, everyone.max())):
        found, certain = extreme(COSTS[name], cost, largest=largest)
        assert certain
        assert SPACES[name].parse(str(found)) == found
        assert COSTS[name].column(cost, [found])[0] == expected


def test_a_chain_of_widths_is_eliminated_one_after_the_other() -> None:
    """Each convolution depends on two widths: 4^9 combinations in all, never more than 64 at once."""

    def network() -> nn.Module:
        widths = [value(f"w{i}", (3, 1 + i % 2 + 4, 7, 8)) for i in range(9)]
        layers = [nn.Conv2d(a, b, 1) for a, b in zip([2, *widths], [*widths, 3], strict=True)]
        return nn.Sequential(*layers)

    space = from_network(network, torch.zeros(1, 2, 3, 3))
    costs = cost_table(space)
    found, certain = extreme(costs, "params")
    assert certain
    assert dict(found.picks) == {f"w{i}": ("3",) for i in range(9)}
    largest, _ = extreme(costs, "params", largest=True)
    assert {picked for _, picked in largest.picks} == {("8",)}


def test_where_too_many_choices_meet_the_best_of_a_descent_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STATES", 1)
    found, certain = extreme(COSTS["elastic"], "params")
    assert not certain
    assert (
        COSTS["elastic"].column("params", [found])[0]
        == COSTS["elastic"].column("params", list(SPACES["elastic"])).min()
    )


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25)
@given(seed=SEEDS)
def test_changes_stay_in_the_space(name: str, seed: int) -> None:
    space = SPACES[name]
    architecture = space.sample(generator=stream(seed))
    for other in (
        mutated(space, architecture, generator=stream(seed)),
        *neighbours(space, architecture, generator=stream(seed)),
    ):
        assert space.parse(str(other)) == other
        assert other != architecture
        # At one choice they differ, and below it, where other choices are reached.
        before, after = dict(architecture.picks), dict(other.picks)
        differing = [
            c for c in space.choices if c.name in before and c.name in after and before[c.name] != after[c.name]
        ]
        assert len(differing) == 1


def test_neighbours_are_all_that_differ_in_one_choice() -> None:
    space = SPACES["macro"]
    architecture = space.at(1234)
    found = neighbours(space, architecture, generator=stream())
    expected = {a for a in space if sum(x != y for x, y in zip(a.picks, architecture.picks, strict=True)) == 1}
    assert set(found) == expected
    assert len(found) == len(expected) == 8 * 2


def limits_at(name: str, share: float, cost: str = "params") -> tuple[LimitsConfig, float]:
    """A limit that this share of the space meets."""
    values = np.sort(COSTS[name].column(cost, list(SPACES[name])))
    limit = float(values[int(share * len(values))])
    return LimitsConfig(**{f"max_{cost}": limit}), limit


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("listed", [True, False])
def test_draws_and_repairs_are_within_the_limits(name: str, listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not listed:
        monkeypatch.setattr(limits, "LISTED", 0)
    config, limit = limits_at(name, 0.2)
    allowed = region(COSTS[name], config)
    drawn = allowed.draw(10, generator=stream())
    expected = COSTS[name].column("params", list(SPACES[name])) <= limit
    assert len(set(map(allowed.key, drawn))) == len(drawn) == min(10, int(expected.sum()))
    repaired = [allowed.repaired(a, generator=stream()) for a in SPACES[name].sample_distinct(20, generator=stream(1))]
    for architecture in (*drawn, *repaired):
        assert COSTS[name].column("params", [architecture])[0] <= limit
        assert SPACES[name].parse(str(architecture)) == architecture
    for architecture in drawn:
        assert allowed.repaired(architecture, generator=stream()) == architecture, "what is within stays as it is"


@pytest.mark.parametrize("listed", [True, False])
def test_draws_within_limits_are_uniform(listed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 draws of one of 13 or so: an expected count of about 300 is off by 100 with a chance below 1e-7."""
    if not listed:
        monkeypatch.setattr(limits, "LISTED", 0)
    config, limit = limits_at("bender", 0.15)
    allowed = region(COSTS["bender"], config)
    inside = [a for a in SPACES["bender"] if COSTS["bender"].column("params", [a])[0] <= limit]
    counts = Counter(str(a) for seed in range(4000) for a in allowed.draw(1, generator=stream(seed)))
    assert set(counts) == set(map(str, inside))
    assert max(abs(n - 4000 / len(inside)) for n in counts.values()) < 100


def test_hardly_anything_within_the_limits_is_found_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "LISTED", 0)
    smallest, _ = extreme(COSTS["macro"], "params")
    least = int(COSTS["macro"].column("params", [smallest])[0])
    allowed = region(COSTS["macro"], LimitsConfig(max_params=least))
    with caplog.at_level("INFO"):
        drawn = allowed.draw(3, generator=stream())
    assert "others are repaired" in caplog.text
    inside = [a for a in SPACES["macro"] if COSTS["macro"].column("params", [a])[0] == least]
    assert 1 <= len(drawn) <= min(3, len(inside))
    assert set(drawn) <= set(inside)


def test_without_limits_draws_are_those_of_the_space() -> None:
    allowed = region(COSTS["macro"], LimitsConfig())
    assert allowed.draw(50, generator=stream(3)) == SPACES["macro"].sample_distinct(50, generator=stream(3))
    rest = allowed.draw(
        10**6, generator=stream(4), without={allowed.key(a) for a in allowed.draw(50, generator=stream(3))}
    )
    assert len(rest) == SPACES["macro"].size - 50


def test_minima_and_several_limits() -> None:
    costs = COSTS["macro"]
    values = costs.costs(list(SPACES["macro"]))
    low, high = np.quantile(values[:, 0], [0.4, 0.6])
    macs = float(np.median(values[:, 2]))
    allowed = region(costs, LimitsConfig(min_params=low, max_params=high, max_macs=macs))
    expected = (values[:, 0] >= low) & (values[:, 0] <= high) & (values[:, 2] <= macs)
    assert (allowed.allows(list(SPACES["macro"])) == expected).all()
    assert len(allowed.draw(10**6, generator=stream())) == expected.sum()


@pytest.mark.parametrize("name", SPACES)
def test_what_nothing_meets_names_the_smallest_possible(name: str) -> None:
    everyone = COSTS[name].column("params", list(SPACES[name]))
    with pytest.raises(LimitsError, match=f"the smallest possible has params {everyone.min():,}: "):
        region(COSTS[name], LimitsConfig(max_params=float(everyone.min()) - 0.5))
    with pytest.raises(LimitsError, match=f"the largest possible has params {everyone.max():,}: "):
        region(COSTS[name], LimitsConfig(min_params=float(everyone.max()) + 0.5))
    region(COSTS[name], LimitsConfig(min_params=float(everyone.max())))
    region(COSTS[name], LimitsConfig(max_params=float(everyone.min())))


def test_limits_that_exclude_each_other_only_together() -> None:
    costs = COSTS["macro"]
    values = costs.costs(list(SPACES["macro"]))
    largest = float(values[:, 0].max())  # who has so many parameters has more multiply-adds than the fewest
    few = float(np.sort(values[:, 2])[10])
    with pytest.raises(LimitsError, match=r"all of them at once; the nearest has params [0-9,]+, macs [0-9,]+: loosen"):
        region(costs, LimitsConfig(min_params=largest, max_macs=few))


def test_architectures_with_one_function_have_one_key() -> None:
    """An edge that is dead, and one that arrives by another way."""
    space = SPACES["nasbench201"]
    base = dict.fromkeys(space.subsets, ("none",))
    first = space.reached({**base, "edge0-3": ("nor_conv_3x3",)})
    dead = space.reached({**base, "edge0-3": ("nor_conv_3x3",), "edge0-1": ("nor_conv_1x1",)})
    moved = space.reached({**base, "edge0-1": ("nor_conv_3x3",), "edge1-3": ("skip_connect",)})
    merging, apart = Region(space, COSTS["nasbench201"]), Region(space, COSTS["nasbench201"], merge=False)
    assert len({merging.key(a) for a in (first, dead, moved)}) == 1
    assert len({apart.key(a) for a in (first, dead, moved)}) == 3
    assert len(merging.draw(space.size, generator=stream())) == 4660, "the classes that `canonical` finds"


def test_a_choice_with_very_many_picks_has_some_neighbours() -> None:
    def network() -> nn.Module:
        options: dict[str, nn.Module] = {f"o{i}": nn.Identity() for i in range(9)}
        return nn.Sequential(Choose("many", options, max_picks=4), Choose("few", {"a": nn.Identity(), "b": nn.Tanh()}))

    space = from_network(network, torch.zeros(1, 3))
    architecture = space.at(0)
    found = neighbours(space, architecture, generator=stream())
    assert changes.NEIGHBOURS <= len(found) <= changes.NEIGHBOURS + 1
    assert len(set(found)) == len(found)
    assert isinstance(found[0], Architecture)
    assert math.isfinite(space.size)
    assert isinstance(space, Space)
