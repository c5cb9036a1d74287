"""Scores, the table of candidates, and the finalists."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.cost import cost_table
from supernet.model import OneShot, build
from supernet.runtime import Runtime, RuntimeConfig, start
from supernet.scoring import score
from supernet.search import (
    Candidate,
    SearchConfig,
    finalists,
    from_json,
    read_candidates,
    score_into,
    search,
    standing,
    to_json,
)
from supernet.space import ArchitectureError
from supernet.train import Interrupted
from tests import reference
from tests.spaces_for_tests import nested, tiny_bender

SPACE = tiny_bender()
EXAMPLES = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
DRAWN = SPACE.sample_distinct(12, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", threads=2))


@pytest.fixture
def model() -> OneShot:
    made = build(SPACE, seed=0)
    assert isinstance(made, OneShot)
    return made


def run(
    model: OneShot, runtime: Runtime, table: Path, stop_after: int | None = None, number: int = 12
) -> list[Candidate]:
    asked = iter(range(1000))
    return search(
        model, EXAMPLES, TARGETS, cost_table(SPACE), SearchConfig(candidates=number, ghost_size=8), runtime=runtime,
        seed=0, table=table, stop=lambda: stop_after is not None and next(asked) == stop_after,
    )  # fmt: skip


def test_search_scores_distinct_candidates_and_keeps_all(model: OneShot, runtime: Runtime, tmp_path: Path) -> None:
    found = run(model, runtime, tmp_path / "c.sqlite")
    assert len({c.architecture for c in found}) == 12
    assert set(read_candidates(tmp_path / "c.sqlite", SPACE)) == set(found)
    for candidate in found:
        cost = cost_table(SPACE).cost(candidate.architecture)
        assert (candidate.params, candidate.weights, candidate.macs) == (cost.params, cost.weights, cost.macs)
        assert candidate.images == 24
        assert (candidate.accuracy, candidate.loss) == pytest.approx(
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
    with pytest.raises(ValueError, match="is no table of candidates"):
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
    return search(
        model, MANY, MANY_TARGETS, cost_table(SPACE), config, runtime=runtime, seed=0, table=table,
        stop=lambda: stop_after is not None and next(asked) == stop_after,
    )  # fmt: skip


def test_who_stays_in_the_race_is_scored_as_if_there_were_none(
    model: OneShot, runtime: Runtime, tmp_path: Path
) -> None:
    raced = race(model, runtime, tmp_path / "race.sqlite")
    full = race(model, runtime, tmp_path / "full.sqlite", exhaustive=True)
    assert [c.architecture for c in raced] == [c.architecture for c in full]
    assert {c.images for c in full} == {256}
    assert {c.images for c in raced} == {64, 256}
    for a, b in zip(raced, full, strict=True):
        seen = slice(a.images)
        expected = (b.accuracy, b.loss)
        if a.images < 256:
            (expected,) = score(model, [a.architecture], MANY[seen], MANY_TARGETS[seen], runtime=runtime, ghost_size=16)
        assert (a.accuracy, a.loss) == pytest.approx(expected, rel=1e-5)
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
    early = [c.architecture for c in race(model, runtime, table) if c.images == 64][:3]
    score_into(
        table, model, early, MANY, MANY_TARGETS, 256, cost_table(SPACE), SearchConfig(ghost_size=16), runtime=runtime
    )
    found = {c.architecture: c for c in read_candidates(table, SPACE)}
    scores = list(score(model, early, MANY, MANY_TARGETS, runtime=runtime, ghost_size=16))
    for architecture, expected in zip(early, scores, strict=True):
        candidate = found[architecture]
        assert (candidate.accuracy, candidate.loss) == pytest.approx(expected, rel=1e-5)
        assert candidate.images == 256


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
    good = sorted((c for c in candidates if rank[c.architecture] < 40), key=lambda c: c.weights)
    assert set(groups["Small"]) == {c.architecture for c in good[:7]}
    assert len(set(groups["Random"])) == 20
    assert groups["All On"] == [SPACE.everything_on()]
    for name in ("Top", "Small", "Random"):
        assert [rank[a] for a in groups[name]] == sorted(rank[a] for a in groups[name])


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
    ],
)
def test_bad_settings(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**values)  # type: ignore[arg-type]
