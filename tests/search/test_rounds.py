"""Scores, the table of candidates, and the finalists."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import supernet.search.recording
import supernet.search.rounds
import supernet.search.scoring
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import stream
from supernet.search.config import SearchConfig
from supernet.search.finalists import finalists, from_json, to_json
from supernet.search.limits import LimitsConfig, LimitsError
from supernet.search.orders import Candidate, standing
from supernet.search.recording import score_into
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation, outputs_of, score
from supernet.search.table import Round, read_candidates, read_rounds, write_round
from supernet.space.choices import ArchitectureError
from supernet.space.cost import cost_table
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from tests import reference
from tests.spaces_for_tests import nested, tiny_bender, tiny_nasbench201

SPACE = tiny_bender()
EXAMPLES = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
DRAWN = SPACE.sample_distinct(12, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", threads=2))


@pytest.fixture
def model() -> OneShot:
    return build(SPACE, seed=0)


def run(
    model: OneShot, runtime: Runtime, table: Path, stop_after: int | None = None, number: int = 12
) -> list[Candidate]:
    asked = iter(range(1000))
    evaluation = Evaluation(model=model, examples=EXAMPLES, targets=TARGETS, runtime=runtime, ghost_size=8)
    watch = Watch(stop=lambda: stop_after is not None and next(asked) == stop_after)
    config = SearchConfig(candidates=number, ghost_size=8)
    return search(evaluation, cost_table(SPACE), config, seed=0, table=table, watch=watch)


def test_search_scores_distinct_candidates_and_keeps_all(model: OneShot, runtime: Runtime, tmp_path: Path) -> None:
    found = run(model, runtime, tmp_path / "c.sqlite")
    assert len({c.architecture for c in found}) == 12
    assert set(read_candidates(tmp_path / "c.sqlite", SPACE)) == set(found)
    for candidate in found:
        cost = cost_table(SPACE).cost(candidate.architecture)
        assert (candidate.params, candidate.params_without_norm, candidate.macs) == (
            cost.params,
            cost.params_without_norm,
            cost.macs,
        )
        assert candidate.examples == 24
        assert (candidate.value, candidate.loss) == pytest.approx(
            reference.score(model, candidate.architecture, EXAMPLES, TARGETS, 8), rel=1e-4
        )


@pytest.mark.parametrize("stop_after", [0, 5, 11])
def test_a_stopped_search_continues_to_the_same_candidates(
    model: OneShot, runtime: Runtime, tmp_path: Path, stop_after: int
) -> None:
    with pytest.raises(Interrupted, match=f"after {stop_after} of 12"):
        run(model, runtime, tmp_path / "a.sqlite", stop_after)
    assert len(read_candidates(tmp_path / "a.sqlite", SPACE)) == stop_after
    assert run(model, runtime, tmp_path / "a.sqlite") == run(model, runtime, tmp_path / "b.sqlite")


def test_nothing_is_scored_twice(model: OneShot, runtime: Runtime, tmp_path: Path) -> None:
    first = run(model, runtime, tmp_path / "c.sqlite")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert run(model, runtime, tmp_path / "c.sqlite") == first


def test_a_table_of_something_else(model: OneShot, runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "c.sqlite").write_text("no table")
    with pytest.raises(ValueError, match="is not a table of candidates"):
        read_candidates(tmp_path / "c.sqlite", SPACE)
    run(model, runtime, tmp_path / "d.sqlite")
    with pytest.raises(ArchitectureError):
        read_candidates(tmp_path / "d.sqlite", nested())


MANY = torch.randn(256, 1, 8, 8, generator=torch.Generator().manual_seed(5))
with torch.no_grad():  # what one architecture says is the truth: scores of the others differ widely
    MANY_TARGETS = build(SPACE, seed=0)(MANY, SPACE.live(DRAWN[:1]).expand(16, -1)).argmax(1)


def race(
    model: OneShot, runtime: Runtime, table: Path, stop_after: int | None = None, *, exhaustive: bool = False
) -> list[Candidate]:
    asked = iter(range(10_000))
    config = SearchConfig(candidates=60, ghost_size=16, top=3, top_of=5, lose=0.4, exhaustive=exhaustive)
    evaluation = Evaluation(model=model, examples=MANY, targets=MANY_TARGETS, runtime=runtime, ghost_size=16)
    watch = Watch(stop=lambda: stop_after is not None and next(asked) == stop_after)
    return search(evaluation, cost_table(SPACE), config, seed=0, table=table, watch=watch)


def test_candidates_that_stay_in_the_race_are_scored_as_without_one(
    model: OneShot, runtime: Runtime, tmp_path: Path
) -> None:
    raced = race(model, runtime, tmp_path / "race.sqlite")
    full = race(model, runtime, tmp_path / "full.sqlite", exhaustive=True)
    assert [c.architecture for c in raced] == [c.architecture for c in full]
    assert {c.examples for c in full} == {256}
    assert {c.examples for c in raced} == {64, 128, 256}
    for a, b in zip(raced, full, strict=True):
        seen = slice(a.examples)
        expected = (b.value, b.loss)
        if a.examples < 256:
            (expected,) = score(model, [a.architecture], MANY[seen], MANY_TARGETS[seen], runtime=runtime, ghost_size=16)
        assert (a.value, a.loss) == pytest.approx(expected, rel=1e-5)
    best = {c.architecture for c in sorted(full, key=standing)[:5]}
    assert len(best & {c.architecture for c in sorted(raced, key=standing)[:5]}) >= 4


@pytest.mark.parametrize("stop_after", [3, 60, 65])
def test_a_stopped_race_continues_to_the_same_candidates(
    model: OneShot, runtime: Runtime, tmp_path: Path, stop_after: int
) -> None:
    with pytest.raises(Interrupted):
        race(model, runtime, tmp_path / "a.sqlite", stop_after)
    assert race(model, runtime, tmp_path / "a.sqlite") == race(model, runtime, tmp_path / "b.sqlite")


def test_finalists_are_scored_on_everything(model: OneShot, runtime: Runtime, tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    early = [c.architecture for c in race(model, runtime, table) if c.examples == 64][:3]
    evaluation = Evaluation(model=model, examples=MANY, targets=MANY_TARGETS, runtime=runtime, ghost_size=16)
    score_into(table, early, evaluation, cost_table(SPACE), SearchConfig(ghost_size=16))
    found = {c.architecture: c for c in read_candidates(table, SPACE)}
    scores = list(score(model, early, MANY, MANY_TARGETS, runtime=runtime, ghost_size=16))
    for architecture, expected in zip(early, scores, strict=True):
        candidate = found[architecture]
        assert (candidate.value, candidate.loss) == pytest.approx(expected, rel=1e-5)
        assert candidate.examples == 256


STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {},
    "enumeration": {},
    "evolution": {"strategy_settings": {"population": 8, "tournament": 3}},
    "local": {"strategy_settings": {"start": 5}},
    "reinforce": {"strategy_settings": {"rate": 0.5}},
    "nsga2": {"strategy_settings": {"population": 8}},
    "tpe": {"strategy_settings": {"start": 8}},
}
FEW, FEW_TARGETS = MANY[:128], MANY_TARGETS[:128]
COSTS = cost_table(SPACE)


def ask(
    model: OneShot, runtime: Runtime, table: Path, strategy: str, stop_after: int | None = None, **more: Any
) -> list[Candidate]:
    """A search in rounds of 8 with a race in each."""
    asked = iter(range(10_000))
    settings: dict[str, Any] = {"batch": 8, "candidates": 24, **STRATEGIES.get(strategy, {}), **more}
    config = SearchConfig(strategy=strategy, ghost_size=16, top=2, top_of=6, lose=0.4, **settings)
    costs = COSTS if model.space is SPACE else cost_table(model.space)
    evaluation = Evaluation(model=model, examples=FEW, targets=FEW_TARGETS, runtime=runtime, ghost_size=16)
    watch = Watch(stop=lambda: stop_after is not None and next(asked) == stop_after)
    return search(evaluation, costs, config, seed=0, table=table, watch=watch)


def rows_of(table: Path) -> dict[str, list[Any]]:
    """Everything in a table but the time."""
    with closing(sqlite3.connect(table)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(candidates)") if row[1] != "time"]
        return {
            "candidates": connection.execute(f"SELECT {', '.join(columns)} FROM candidates").fetchall(),
            "rounds": connection.execute("SELECT * FROM rounds").fetchall(),
        }


class Remembered:
    """Outputs of architectures on examples, each computed once: what is tested here is the search around them."""

    def __init__(self) -> None:
        self.real = outputs_of
        self.known: dict[tuple[str, int, float], Any] = {}
        self.asked: list[tuple[str, float]] = []

    def __call__(self, evaluation: Evaluation, group: Any) -> Iterator[Any]:
        part = len(evaluation.examples), float(evaluation.examples.sum())
        self.asked += [(str(a), part[1]) for a in group]
        missing = [a for a in group if (str(a), *part) not in self.known]
        found = self.real(evaluation, missing)
        self.known |= {(str(a), *part): each for a, each in zip(missing, found, strict=True)}
        return iter([self.known[str(a), *part] for a in group])


@pytest.fixture(scope="module")
def outputs() -> Remembered:
    return Remembered()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_search_killed_at_any_moment_continues_as_if_it_had_not_been(
    model: OneShot,
    runtime: Runtime,
    tmp_path: Path,
    strategy: str,
    outputs: Remembered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between any two candidates, in a race or not; before and after a round is written; and all of it in turn."""
    monkeypatch.setattr(supernet.search.scoring, "outputs_of", outputs)
    whole = ask(model, runtime, tmp_path / "whole.sqlite", strategy)
    assert len(whole) == 24
    assert len({c.round for c in whole}) > 1
    expected = rows_of(tmp_path / "whole.sqlite")
    for stop_after in (0, 3, 8, 17):
        with pytest.raises(Interrupted):
            ask(model, runtime, tmp_path / f"{stop_after}.sqlite", strategy, stop_after)
        assert rows_of(tmp_path / f"{stop_after}.sqlite") != expected
        assert ask(model, runtime, tmp_path / f"{stop_after}.sqlite", strategy) == whole
        assert rows_of(tmp_path / f"{stop_after}.sqlite") == expected
    # Again and again: after each five candidates, and around each round that is written.
    table, write = tmp_path / "often.sqlite", write_round
    for turn in range(60):

        def killed(path: Path, number: int, done: Round, turn: int = turn) -> None:
            if turn % 2:
                write(path, number, done)
            raise Interrupted

        monkeypatch.setattr(supernet.search.rounds, "write_round", killed)
        try:
            ask(model, runtime, table, strategy, 5)
            break
        except Interrupted:
            continue
    monkeypatch.setattr(supernet.search.rounds, "write_round", write)
    assert ask(model, runtime, table, strategy) == whole
    assert rows_of(table) == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_generations_race_and_nothing_is_scored_twice(
    model: OneShot,
    runtime: Runtime,
    tmp_path: Path,
    strategy: str,
    outputs: Remembered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supernet.search.scoring, "outputs_of", outputs)
    outputs.asked.clear()
    larger: dict[str, Any] = {"batch": 24, "candidates": 48}
    found = ask(model, runtime, tmp_path / "c.sqlite", strategy, **larger)
    assert len(set(outputs.asked)) == len(outputs.asked)
    assert {c.examples for c in found} == {64, 128}, "some left the race"
    assert {c.strategy for c in found} == {strategy}
    full = {
        c.architecture: c for c in ask(model, runtime, tmp_path / "full.sqlite", strategy, exhaustive=True, **larger)
    }
    assert {c.examples for c in full.values()} == {128}
    for c in found:
        if c.examples == 128 and c.architecture in full:
            assert c.value == full[c.architecture].value
        assert c.deviation == pytest.approx((c.value * (1 - c.value) / c.examples) ** 0.5)
    assert all(r.asked == r.told for r in read_rounds(tmp_path / "c.sqlite"))


def test_limits_hold_before_any_forward_pass(
    model: OneShot, runtime: Runtime, tmp_path: Path, outputs: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernet.search.scoring, "outputs_of", outputs)
    outputs.asked.clear()
    values = COSTS.column("params", SPACE.sample_distinct(300, generator=torch.Generator().manual_seed(0)))
    limit = float(np.quantile(values, 0.1))
    for strategy in ("random", "evolution"):
        found = ask(model, runtime, tmp_path / f"{strategy}.sqlite", strategy, limits=LimitsConfig(max_params=limit))
        assert len(found) == 24
    assert COSTS.column("params", [SPACE.parse(text) for text, _ in outputs.asked]).max() <= limit
    outputs.asked.clear()
    with pytest.raises(
        LimitsError, match="max_params 3: nothing in the space 'bender' meets it; the smallest possible"
    ):
        ask(model, runtime, tmp_path / "none.sqlite", "random", limits=LimitsConfig(max_params=3))
    assert not outputs.asked


OWN = """
class Stubborn:  # asks for the largest, whatever the limits, and for the same again
    def __init__(self, region, seed, state="told"):
        self.space, self.told, self.state = region.space, 0, state

    def ask(self, n):
        return [self.space.at(self.space.size - 1 - (self.told + i) % 30) for i in range(n)]

    def tell(self, architectures, scores):
        self.told += len(architectures)
        assert all(isinstance(score, float) for score in scores)

    def state_dict(self):
        import uuid

        return {"told": self.told if self.state == "told" else uuid.uuid4().hex}


class Loads(Stubborn):
    def load_state_dict(self, state):
        self.told = state["told"]


class Failing(Stubborn):
    def tell(self, architectures, scores):
        return 1 / 0


class Greedy(Stubborn):
    def ask(self, n):
        return super().ask(n + 1)
"""


def test_a_users_strategy_is_repaired_resumed_and_held_to_its_contract(
    model: OneShot, runtime: Runtime, tmp_path: Path, outputs: Remembered, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(supernet.search.scoring, "outputs_of", outputs)
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    own = f"{file}:Stubborn"
    values = COSTS.column("params", [SPACE.at(SPACE.size - 1 - i) for i in range(30)])
    limits = LimitsConfig(max_params=float(values.min() - 1))
    found = ask(model, runtime, tmp_path / "a.sqlite", own, limits=limits)
    assert found
    assert max(c.params for c in found) < values.min()
    assert any(r.asked != r.told for r in read_rounds(tmp_path / "a.sqlite"))
    for name in (own, f"{file}:Loads"):  # told again, or loaded
        with pytest.raises(Interrupted):
            ask(model, runtime, tmp_path / f"{name[-5:]}.sqlite", name, 20, limits=limits)
        again = ask(model, runtime, tmp_path / f"{name[-5:]}.sqlite", name, limits=limits)
        assert [c.architecture for c in again] == [c.architecture for c in found]
    settings: dict[str, Any] = {"strategy_settings": {"state": "random"}}
    ask(model, runtime, tmp_path / "b.sqlite", own, **settings)
    with pytest.raises(ValueError, match=r"cannot continue .* its state_dict is another"):
        ask(model, runtime, tmp_path / "b.sqlite", own, **settings)
    with pytest.raises(ValueError, match="expected at most 8 architectures, got 9"):
        ask(model, runtime, tmp_path / "c.sqlite", f"{file}:Greedy")
    with pytest.raises(ValueError, match=r"mine.py, line \d+: ZeroDivisionError"):
        ask(model, runtime, tmp_path / "e.sqlite", f"{file}:Failing")
    with caplog.at_level("INFO"):  # it knows thirty
        few = ask(model, runtime, tmp_path / "d.sqlite", own, batch=30, candidates=40)
    assert len(few) == 30
    assert "asked for nothing new any more after 30 of 40 candidates" in caplog.text


def test_several_objectives_give_a_front_of_finalists(
    model: OneShot, runtime: Runtime, tmp_path: Path, outputs: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supernet.search.scoring, "outputs_of", outputs)
    for strategy in ("random", "nsga2"):
        found = ask(model, runtime, tmp_path / f"{strategy}.sqlite", strategy, objectives="score,params")
        config = SearchConfig(objectives="score,params", top=3, top_of=6, small=1, random=1, all_on=False)
        groups = finalists(found, SPACE, config, generator=torch.Generator().manual_seed(0))
        assert set(groups) == {"Pareto", "Small", "Random"}
        by = {c.architecture: c for c in found}
        whole = [c for c in found if c.examples == max(c.examples for c in found)]
        for a in groups["Pareto"]:
            assert not any(c.value >= by[a].value and c.params < by[a].params for c in whole)
        assert 1 <= len(groups["Pareto"]) <= 3
        scores = next(read_rounds(tmp_path / f"{strategy}.sqlite")).scores
        assert all(len(score) == 2 and score[1] < 0 for score in scores)


def test_top_of_each_band_of_size() -> None:
    candidates = population(200)
    config = SearchConfig(top=6, top_of=12, bands=3, small=0, random=0, all_on=False)
    top = finalists(candidates, SPACE, config, generator=torch.Generator().manual_seed(0))["Top"]
    sizes = sorted(c.params for c in candidates if c.architecture in top)
    assert [size * 3 // 200 for size in sizes] == [0, 0, 1, 1, 2, 2]


def test_functions_that_are_the_same_are_scored_once(runtime: Runtime, tmp_path: Path) -> None:
    space = tiny_nasbench201()
    model = build(space, seed=0)
    assert space.canonical is not None
    found = ask(model, runtime, tmp_path / "c.sqlite", "random", batch=24, exhaustive=True)
    assert len({space.canonical(c.architecture) for c in found}) == len(found) == 24
    apart = ask(model, runtime, tmp_path / "d.sqlite", "random", batch=24, merge=False, exhaustive=True)
    assert [c.architecture for c in apart] == space.sample_distinct(24, generator=stream(0, "search"))


def test_candidates_are_without_what_does_nothing_in_them(runtime: Runtime, tmp_path: Path) -> None:
    """Unless each text is wanted by itself; a smallest size is kept, though."""
    space = tiny_nasbench201()
    model = build(space, seed=0)
    assert space.simplified is not None
    found = ask(model, runtime, tmp_path / "c.sqlite", "random", batch=24, exhaustive=True)
    assert [space.simplified(c.architecture) for c in found] == [c.architecture for c in found]
    least = int(np.median(cost_table(space).column("params", list(space))))
    limits = LimitsConfig(min_params=least)
    large = ask(model, runtime, tmp_path / "d.sqlite", "random", batch=24, exhaustive=True, limits=limits)
    assert min(c.params for c in large) >= least


def test_a_bonus_for_size_counts_in_the_ranking_and_not_in_the_accuracy(runtime: Runtime, tmp_path: Path) -> None:
    space = tiny_nasbench201()
    model = build(space, seed=0)
    plain = ask(model, runtime, tmp_path / "c.sqlite", "random", batch=24, exhaustive=True)
    found = ask(model, runtime, tmp_path / "d.sqlite", "random", batch=24, exhaustive=True, size_bonus=10.0)
    largest = cost_table(space).cost(space.everything_on()).macs
    for before, c in zip(plain, found, strict=True):
        assert (c.architecture, c.value, before.bonus) == (before.architecture, before.value, 0.0)
        assert c.bonus == pytest.approx(10 * math.log2(c.macs / largest))
    raced = ask(model, runtime, tmp_path / "e.sqlite", "random", batch=24, size_bonus=10.0)
    for ranked in (sorted(found, key=standing), sorted(raced, key=standing)):
        assert ranked[0].macs == max(c.macs for c in found), "ten points for each doubling outweigh everything"


@pytest.mark.parametrize("objectives", ["score", "score,params"])
def test_the_best_are_rescored_in_single_precision(
    model: OneShot, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objectives: str
) -> None:
    """And a search that was killed while it did so ends alike."""
    monkeypatch.setattr(supernet.search.recording, "RESCORED", 1)
    half = start(RuntimeConfig(device="cpu", precision="bf16-mixed", threads=2))
    how: dict[str, Any] = {"batch": 24, "exhaustive": True, "objectives": objectives}
    found = ask(model, half, tmp_path / "c.sqlite", "random", **how)
    with pytest.raises(Interrupted, match="in single precision"):
        ask(model, half, tmp_path / "d.sqlite", "random", stop_after=26, **how)
    assert ask(model, half, tmp_path / "d.sqlite", "random", **how) == found
    assert ask(model, half, tmp_path / "c.sqlite", "random", **how) == found
    exact, rough = (
        [loss for _, loss in score(model, [c.architecture for c in found], FEW, FEW_TARGETS, runtime=r, ghost_size=16)]
        for r in (runtime, half)
    )
    kinds = [(c.loss == pytest.approx(a, rel=1e-6), c.loss == pytest.approx(b, rel=1e-6))
             for c, a, b in zip(found, exact, rough, strict=True)]  # fmt: skip
    assert all(a or b for a, b in kinds) and rough != exact
    assert all(c.deviation == pytest.approx(math.sqrt(c.value * (1 - c.value) / c.examples)) for c in found)
    assert 6 <= sum(a and not b for a, b in kinds) < 24, "six are the best; on the front there may be others"
    assert all(a for c, (a, _) in zip(found, kinds, strict=True) if c in sorted(found, key=standing)[:3])


def population(number: int) -> list[Candidate]:
    """Candidates whose accuracy and size are known: the n-th is the n-th worst; sizes are shuffled."""
    drawn = SPACE.sample_distinct(number, generator=torch.Generator().manual_seed(3))
    sizes = torch.randperm(number, generator=torch.Generator().manual_seed(4)).tolist()
    return [
        Candidate(a, i / number, 1 - i / number, 24, size, size, size)
        for i, (a, size) in enumerate(zip(drawn, sizes, strict=True))
    ]


def test_finalists_are_the_papers_groups() -> None:
    candidates = population(400)
    rank = {c.architecture: 399 - i for i, c in enumerate(candidates)}  # 0 is the best
    config = SearchConfig(top=10, top_of=100, small=7, small_quantile=0.9, random=20)
    groups = finalists(candidates, SPACE, config, generator=torch.Generator().manual_seed(0))
    assert [rank[a] // 10 for a in groups["Top"]] == list(range(10)), "one of each stratum of the best 100"
    good = sorted((c for c in candidates if rank[c.architecture] < 40), key=lambda c: c.params_without_norm)
    assert set(groups["Small"]) == {c.architecture for c in good[:7]}
    assert len(set(groups["Random"])) == 20
    assert groups["All On"] == [SPACE.everything_on()]
    for name in ("Top", "Small", "Random"):
        assert [rank[a] for a in groups[name]] == sorted(rank[a] for a in groups[name])


def test_small_takes_no_candidate_that_left_the_race() -> None:
    """The smallest of the best has its score from few examples."""
    candidates = population(400)
    best = sorted(candidates, key=standing)[:40]
    smallest = {c.architecture for c in sorted(best, key=lambda c: c.params_without_norm)[:5]}
    raced = [replace(c, examples=c.examples // 4) if c.architecture in smallest else c for c in candidates]
    config = SearchConfig(top=2, top_of=20, small=7, small_quantile=0.9, random=5)
    groups = finalists(raced, SPACE, config, generator=torch.Generator().manual_seed(0))
    assert len(groups["Small"]) == 7 and not smallest & set(groups["Small"])


def test_top_draws_every_member_of_a_stratum_and_random_everyone() -> None:
    """200 draws: a member of a stratum of 10 is missed with chance 0.9^200 < 1e-9."""
    candidates = population(50)
    config = SearchConfig(top=2, top_of=20, small=0, random=5, all_on=False)
    seen: dict[str, Counter[str]] = {"Top": Counter(), "Random": Counter()}
    for seed in range(200):
        groups = finalists(candidates, SPACE, config, generator=torch.Generator().manual_seed(seed))
        assert set(groups) == set(seen)
        for name, members in groups.items():
            seen[name].update(map(str, members))
    assert len(seen["Top"]) == 20
    assert len(seen["Random"]) == 50


@given(st.integers(1, 15), st.integers(0, 12), st.integers(1, 30), st.integers(0, 12), st.integers(0, 12))
def test_finalists_of_few_candidates(number: int, top: int, more: int, small: int, random: int) -> None:
    config = SearchConfig(top=top, top_of=top + more, small=small, random=random)
    groups = finalists(population(number), SPACE, config, generator=torch.Generator().manual_seed(0))
    assert all(len(set(members)) == len(members) for members in groups.values())
    assert len(groups.get("Top", [])) == min(top, number)
    assert len(groups.get("Random", [])) == min(random, number)
    assert from_json(to_json(groups), SPACE) == groups


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"candidates": 0}, "at least 1"),
        ({"small_quantile": 1.0}, "from 0 to below 1"),
        ({"top": 5, "top_of": 4}, "top_of: expected at least top 5, got 4"),
        ({"batch": 0}, "batch: expected at least 1, got 0"),
        ({"bands": 0}, "bands: expected at least 1, got 0"),
        ({"strategy": "evolve"}, "strategy: no 'evolve'; did you mean 'evolution'. there are: random, "),
        ({"strategy": "local", "strategy_settings": {"x": 1}}, "'local' has no setting 'x'; it has: start"),
        ({"objectives": "score,size"}, "objectives: no 'size'; there are: score, params"),
        ({"objectives": "params"}, "expected score, and other objectives once each"),
        ({"objectives": "score,params,params"}, "once each"),
        (
            {"objectives": "score,params", "strategy": "local"},
            "takes one objective, got 2; those that take several: random, enumeration, nsga2, tpe",
        ),
    ],
)
def test_bad_settings(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**values)
