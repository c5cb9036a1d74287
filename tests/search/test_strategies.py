"""Every strategy keeps its contract, and finds more than chance where there is something to find."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.base.randomness import derive
from supernet.search import strategies
from supernet.search.limits import LimitsConfig, Region, region
from supernet.search.strategies import STRATEGIES, check, find, make
from supernet.space.choices import Architecture
from supernet.space.cost import cost_table
from tests.spaces_for_tests import elastic, nested, tiny_bender, tiny_macro, tiny_nasbench201

SPACES = {
    "bender": tiny_bender(),
    "nested": nested(),
    "elastic": elastic(),
    "macro": tiny_macro(),
    "nasbench201": tiny_nasbench201(),
}
REGIONS = {name: region(cost_table(space), LimitsConfig()) for name, space in SPACES.items()}


def worth(architecture: Architecture) -> float:
    """A made score: what each choice picks counts by itself, and two neighbours that pick alike count more."""
    total = 0.0
    picks = architecture.picks
    for (name, picked), (_, after) in zip(picks, [*picks[1:], picks[0]], strict=True):
        total += sum(hash_of(name + option) for option in picked) / len(picked) + 0.3 * (picked == after)
    return total / len(picks)


def hash_of(text: str) -> float:
    return derive(0, text) / 2**63


def play(
    name: str, allowed: Region, number: int, batch: int, *, seed: int = 0, scores: Callable[[Architecture], Any] = worth
) -> list[tuple[list[Architecture], list[Any]]]:
    """What was told in each round."""
    strategy = make(name, {}, allowed, seed=seed)
    told: list[tuple[list[Architecture], list[Any]]] = []
    seen: set[str] = set()
    for _ in range(200):
        asked = strategy.ask(min(batch, number - len(seen))) if len(seen) < number else []
        if not asked:
            break
        seen.update(map(allowed.key, asked))
        told.append((asked, [scores(a) for a in asked]))
        strategy.tell(*told[-1])
    return told


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", STRATEGIES)
def test_what_is_asked_for_is_of_the_space_and_follows_from_seed_and_history(name: str, space: str) -> None:
    allowed = REGIONS[space]
    told = play(name, allowed, 30, 10)
    assert told == play(name, allowed, 30, 10)
    for asked, _ in told:
        for architecture in asked:
            assert SPACES[space].parse(str(architecture)) == architecture
    # Made anew and told the same, it goes on as if it had not been interrupted, wherever that was.
    for stop in range(1, len(told)):
        again = make(name, {}, allowed, seed=0)
        for asked, scores in told[:stop]:
            again.tell(asked, scores)
        assert again.ask(len(told[stop][0])) == told[stop][0]


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("reinforce", "nsga2", "tpe")])
def test_nothing_is_asked_for_twice(name: str) -> None:
    """Samplers and policies may ask again, and are told what is known; these do not."""
    for space in ("nested", "nasbench201"):
        keys = [REGIONS[space].key(a) for asked, _ in play(name, REGIONS[space], 60, 7) for a in asked]
        assert len(set(keys)) == len(keys)
    whole = [a for asked, _ in play(name, REGIONS["nested"], 10**6, 10) for a in asked]
    assert set(whole) == set(SPACES["nested"]), "every strategy comes to the end of a small space"


@pytest.mark.parametrize("name", STRATEGIES)
def test_state_is_json(name: str) -> None:
    strategy = make(name, {}, REGIONS["nested"], seed=0)
    for _ in range(2):
        asked = strategy.ask(5)
        strategy.tell(asked, [worth(a) for a in asked])
    before = strategy.state_dict()
    assert json.loads(json.dumps(before, allow_nan=False)) == before
    asked = strategy.ask(3)
    assert strategy.state_dict() == before, "asking changes nothing"
    strategy.tell(asked, [worth(a) for a in asked])
    assert strategy.state_dict() != before


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name not in ("random", "enumeration")])
def test_who_learns_beats_chance(name: str) -> None:
    """Median over 5 seeds (3 of the slow one) of the best of 200; random draws reach about the 99.5th percentile."""
    allowed = REGIONS["macro"]
    everyone = np.sort([worth(a) for a in SPACES["macro"]])

    def reached(who: str) -> float:
        bests = [
            max(s for _, scores in play(who, allowed, 200, 25, seed=seed) for s in scores)
            for seed in range(3 if who == "tpe" else 5)
        ]
        return float(np.searchsorted(everyone, np.median(bests)) / len(everyone))

    assert reached(name) > max(0.997, reached("random"))


@pytest.mark.parametrize("name", STRATEGIES)
def test_limits_hold_under_every_strategy(name: str) -> None:
    costs = cost_table(SPACES["macro"])
    limit = float(np.quantile(costs.column("params", list(SPACES["macro"])), 0.1))
    allowed = region(costs, LimitsConfig(max_params=limit))
    asked = [a for asked, _ in play(name, allowed, 60, 20) for a in asked]
    assert len(set(asked)) >= 50
    assert costs.column("params", asked).max() <= limit


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_those_that_say_so_take_several_objectives(name: str) -> None:
    if name in strategies.SEVERAL_OBJECTIVES:
        assert make(name, {}, REGIONS["nested"], seed=0, objectives=2).ask(1)
    else:
        with pytest.raises(ValueError, match="takes one objective, got 2; those that take several: random, enum"):
            make(name, {}, REGIONS["nested"], seed=0, objectives=2)


@pytest.mark.parametrize("name", strategies.SEVERAL_OBJECTIVES)
def test_several_objectives(name: str) -> None:
    costs = REGIONS["macro"].costs

    def both(architecture: Architecture) -> tuple[float, float]:
        return worth(architecture), -float(costs.column("params", [architecture])[0])

    told = play(name, REGIONS["macro"], 60, 20, scores=both)
    assert sum(len(asked) for asked, _ in told) >= 60


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize(("name", "values"), [("nsga2", {"population": 6}), ("tpe", {"start": 5})])
def test_one_study_proposes_what_a_new_one_for_each_round_does(
    name: str, values: dict[str, Any], objectives: int
) -> None:
    """Over several generations, in rounds that do not fit into them."""
    strategy: Any = make(name, values, REGIONS["macro"], seed=3)
    rounds: list[tuple[list[Architecture], list[Any]]] = []
    for _ in range(8):
        anew = make(name, values, REGIONS["macro"], seed=3)
        for told in rounds:
            anew.tell(*told)
        asked = strategy.ask(7)
        assert asked == anew.ask(7)
        rounds.append((asked, [(worth(a), hash_of(str(a)))[:objectives] for a in asked]))
        strategy.tell(*rounds[-1])


def test_enumeration_is_the_space_in_its_order() -> None:
    told = play("enumeration", REGIONS["nested"], 10**6, 11)
    assert [a for asked, _ in told for a in asked] == list(SPACES["nested"])


def test_random_draws_are_those_of_the_space() -> None:
    """What a run found before there were strategies, it finds still."""
    from supernet.base.randomness import stream

    (asked, _), *_ = play("random", REGIONS["bender"], 40, 40, seed=5)
    assert asked == SPACES["bender"].sample_distinct(40, generator=stream(5, "search"))


def test_the_oldest_die() -> None:
    strategy = make("evolution", {"population": 6, "tournament": 2}, REGIONS["macro"], seed=0)
    everyone: list[Architecture] = []
    for _ in range(4):
        asked = strategy.ask(6)
        strategy.tell(asked, [worth(a) for a in asked])
        everyone += asked
    alive = [text for text, _ in strategy.state_dict()["alive"]]
    assert alive == [str(a) for a in everyone[-6:]]


def test_a_child_differs_from_its_parent_in_one_choice() -> None:
    strategy = make("evolution", {"population": 8, "tournament": 8}, REGIONS["macro"], seed=0)
    first = strategy.ask(8)
    strategy.tell(first, [worth(a) for a in first])
    best = max(first, key=worth)  # the tournament is among all
    for child in strategy.ask(10):
        assert sum(x != y for x, y in zip(child.picks, best.picks, strict=True)) == 1


def test_local_search_goes_through_the_neighbours_of_the_best() -> None:
    from supernet.space.changes import neighbours

    strategy = make("local", {"start": 5}, REGIONS["macro"], seed=0)
    first = strategy.ask(10)
    assert len(first) == 5
    strategy.tell(first, [worth(a) for a in first])
    best = max(first, key=worth)
    around = neighbours(SPACES["macro"], best, generator=torch.Generator())
    assert set(strategy.ask(10)) <= set(around)


def test_reinforce_follows_the_gradient_and_its_entropy_falls() -> None:
    """Against the gradient as torch finds it on its own, and Adam's first step, which is the sign of it."""
    strategy: Any = make("reinforce", {"rate": 0.05}, REGIONS["macro"], seed=0)
    assert strategy.figures()["entropy"] == pytest.approx(1)
    asked = strategy.ask(30)
    scores = [worth(a) for a in asked]
    logits = {name: values.clone().requires_grad_(True) for name, values in strategy.logits.items()}
    mean = sum(scores) / len(scores)
    goal = sum(
        (score - mean) * sum(logits[n].log_softmax(0)[SPACES["macro"].subsets[n].index(p)] for n, p in a.picks)
        for a, score in zip(asked, scores, strict=True)
    )
    goal.backward()
    before = {name: values.detach().clone() for name, values in logits.items()}
    strategy.tell(asked, scores)
    for name, values in strategy.logits.items():
        gradient = logits[name].grad
        assert gradient is not None
        torch.testing.assert_close(values - before[name], 0.05 * gradient.sign(), rtol=1e-3, atol=1e-6)
    for _ in range(30):
        asked = strategy.ask(30)
        strategy.tell(asked, [worth(a) for a in asked])
    assert strategy.figures()["entropy"] < 0.9


OWN = """
from supernet.base.randomness import stream


class Backwards:
    def __init__(self, region, seed, first=0):
        self.space, self.at = region.space, first

    def ask(self, n):
        last = self.space.size - 1 - self.at
        return [self.space.at(i) for i in range(last, max(-1, last - n), -1)]

    def tell(self, architectures, scores):
        self.at += len(architectures)

    def state_dict(self):
        return {"at": self.at}


class Front(Backwards):
    several = True


class Empty:
    def __init__(self, region, seed):
        pass


class Broken:
    def __init__(self, region, seed):
        raise KeyError("oh")


def function(region, seed):
    return Backwards(region, seed, 3)
"""


def test_a_users_own_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    space = SPACES["nested"]
    for name in (f"{file}:Backwards", "mine.Backwards"):
        told = play(name, REGIONS["nested"], 20, 8)
        assert [a for asked, _ in told for a in asked] == [space.at(space.size - 1 - i) for i in range(20)]
        check(name, {"first": 1})
        with pytest.raises(ValueError, match="no setting 'last'; it has: first"):
            check(name, {"last": 1})
    assert play(f"{file}:function", REGIONS["nested"], 1, 1)[0][0] == [space.at(space.size - 4)]
    assert make(f"{file}:Front", {}, REGIONS["nested"], seed=0, objectives=2).ask(1)
    with pytest.raises(ValueError, match=r"takes one objective, got 2; .* says so: several = True"):
        make(f"{file}:Backwards", {}, REGIONS["nested"], seed=0, objectives=2)
    with pytest.raises(ValueError, match="it has no ask"):
        make(f"{file}:Empty", {}, REGIONS["nested"], seed=0)
    with pytest.raises(ValueError, match=r"mine.py, line \d+: KeyError: 'oh'"):
        make(f"{file}:Broken", {}, REGIONS["nested"], seed=0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("evolutoin", "no 'evolutoin'; did you mean 'evolution'. there are: random, enumeration, evolution"),
        ("no.such.thing", "'no.such.thing' cannot be imported"),
        ("math.nothing", "'math.nothing' cannot be imported"),
        ("nowhere.py:Class", "nowhere.py: no such file"),
    ],
)
def test_unknown_strategies(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find(name)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("evolution", {"population": 1}, "strategy_settings.population: expected a whole number of at least 2, got 1"),
        ("evolution", {"tournament": 1.5}, "tournament: expected a whole number"),
        ("local", {"start": 0}, "start: expected a whole number of at least 1"),
        ("reinforce", {"rate": 0}, "expected rate above 0"),
        ("nsga2", {"population": 0}, "population"),
        ("tpe", {"start": "a"}, "start"),
        ("random", {"x": 1}, "'random' has no setting 'x'; it has: none"),
    ],
)
def test_bad_settings(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, values, REGIONS["nested"], seed=0)


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"pip install 'supernet\[optuna\]'"):
        make("tpe", {}, REGIONS["nested"], seed=0)
    assert len(play("random", REGIONS["nested"], 5, 5)[0][0]) == 5


def test_names_stand_for_what_they_say() -> None:
    """The samplers are the ones that are named, not whatever Optuna takes by default."""
    import optuna

    for name, kind in (("nsga2", optuna.samplers.NSGAIISampler), ("tpe", optuna.samplers.TPESampler)):
        strategy: Any = make(name, {}, REGIONS["nested"], seed=0)
        assert type(strategy.sampler(0)) is kind
    assert math.isfinite(worth(SPACES["nested"].at(0)))
    assert isinstance(strategies.AT_ONCE, Sequence)
