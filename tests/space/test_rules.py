"""Rules that forbid combinations: nothing draws, asks for, trains or reads what they forbid."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn

import supernet
from supernet.search.limits import LimitsConfig, region
from supernet.search.strategies import GENERATION, NEED_OPTUNA, STRATEGIES, make
from supernet.space.agreement import check_agreement
from supernet.space.choices import ArchitectureError, Space
from supernet.space.cost import cost_table
from supernet.space.layers import Choose, Depth
from supernet.space.model import from_network
from supernet.space.rules import Rule
from supernet.space.values import value
from supernet.train.paths import PATHS, PathsConfig, draw


class _Heads(nn.Module):
    """Attention whose heads have to divide the width, as its constructor asserts."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        assert width % heads == 0, "heads must divide the width"
        self.heads, self.qkv, self.out = heads, nn.Linear(6, 3 * width), nn.Linear(width, 6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).flatten(2))


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width, heads = value("width", (8, 12, 24)), value("heads", (2, 3, 4))
        supernet.forbid(lambda a: a["width"] % a["heads"] != 0)
        supernet.forbid(lambda a: a["act"] == "tanh" and a["depth"] == 2)
        supernet.forbid(lambda a: a["inner"] == "b" and a["width"] == 24)
        self.act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
        inner = Choose("inner", {"a": nn.Linear(6, 6), "b": nn.Identity()})
        self.blocks = Depth("depth", [_Heads(width, heads), nn.Sequential(nn.Linear(6, 6), inner)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.act(x)).mean(1)


@cache
def space() -> Space:
    return from_network(_Network, torch.zeros(1, 5, 6))


def allowed(text: str) -> bool:
    """The rules once more, of the text of an architecture."""
    picks = dict(word.split("=") for word in text.split())
    heads_divide = int(picks["width"]) % int(picks["heads"]) == 0
    is_deep = picks["act"] == "tanh" and picks["depth"] == "2"
    return heads_divide and not is_deep and not (picks.get("inner") == "b" and picks["width"] == "24")


def test_the_size_is_counted_and_draws_are_uniform_over_what_is_left() -> None:
    everything = [str(space().at(index)) for index in range(space().combinations)]
    left = [text for text in everything if allowed(text)]
    assert space().size == len(left) < space().combinations
    assert [str(a) for a in space()] == left and str(space().first()) == left[0]
    generator = torch.Generator().manual_seed(0)
    counts = Counter(str(space().sample(generator=generator)) for _ in range(50 * len(left)))
    assert set(counts) == set(left)
    assert sum((count - 50) ** 2 / 50 for count in counts.values()) < 2 * len(left)  # chi-square
    drawn = space().sample_distinct(space().size, generator=generator)
    assert sorted(map(str, drawn)) == sorted(left) != list(map(str, drawn))


def test_a_space_that_is_too_large_to_be_counted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernet.space.choices._COUNTED", 10)
    large = replace(space())
    assert large.size == large.combinations and f"at most {large.size:,} architectures" in repr(large)
    drawn = large.sample_distinct(10, generator=torch.Generator().manual_seed(0))
    assert len(set(drawn)) == 10 and all(allowed(str(architecture)) for architecture in drawn)


def test_what_is_forbidden_need_not_be_made_and_the_rest_agrees() -> None:
    """Outputs, shapes and costs, although costs and shapes are tables of the product of width and heads."""
    assert check_agreement(space(), torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))) >= 4
    table = cost_table(space())
    for architecture in space():
        assert table.cost(architecture).params > 0


def test_texts_that_are_forbidden_are_refused() -> None:
    with pytest.raises(ArchitectureError, match="a rule forbids act=relu depth=1 heads=3 width=8"):
        space().parse("act=relu width=8 heads=3 depth=1")


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("limits", [LimitsConfig(), LimitsConfig(max_params=500)], ids=["no limits", "limits"])
def test_strategies_ask_for_what_is_allowed(name: str, limits: LimitsConfig) -> None:
    if name in NEED_OPTUNA:
        pytest.importorskip("optuna")
    costs = cost_table(space())
    allowed_region = region(costs, limits)
    strategy = make(name, {}, allowed_region, seed=0)
    for _ in range(3):
        asked = strategy.ask(min(GENERATION, 12))
        assert all(allowed(str(architecture)) for architecture in asked)
        assert all(costs.cost(architecture).params <= 500 for architecture in asked if limits.max_params)
        strategy.tell(asked, [float(costs.cost(architecture).macs) for architecture in asked])


def test_limits_that_only_what_is_forbidden_meets() -> None:
    costs = cost_table(space())
    narrow = replace(costs, space=replace(space(), rules=(lambda a: a["width"] < 24,)))
    with pytest.raises(ValueError, match="nothing was found in the space 'own' that meets all of them"):
        region(narrow, LimitsConfig(max_params=400))


@pytest.mark.parametrize("name", PATHS)
def test_paths_of_training_are_allowed(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for progress in (0.0, 0.5, 1.0):
        live = draw(space(), PathsConfig(distribution=name), 40, progress, generator=generator)
        columns = space().columns
        for width, heads in ((8, 3),):
            assert not (live[:, columns["width", str(width)]] & live[:, columns["heads", str(heads)]]).any()
        one_act = live[:, columns["act", "tanh"]] & ~live[:, columns["act", "relu"]]
        assert not (one_act & live[:, columns["depth", "2"]]).any()


def test_rules_that_fail_or_forbid_everything_are_named() -> None:
    def network(rule: Rule) -> nn.Module:
        supernet.forbid(rule)
        return nn.Sequential(Choose("op", {"relu": nn.ReLU(), "tanh": nn.Tanh()}))

    cases: list[tuple[Rule, str]] = [
        (lambda a: a["of"] == 1, r"of .*test_rules.py:\d+ that forbids fails for op=.*: there is no choice 'of'"),
        (lambda a: a["op"] > 1, "fails for op=.*TypeError"),
        (lambda a: True, "rules forbid nearly all of the space 'own'"),
    ]
    for rule, message in cases:
        with pytest.raises(ValueError, match=message):
            from_network(partial(network, rule), torch.zeros(1, 3))
