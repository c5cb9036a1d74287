"""The joint rank against slow and obvious definitions, and searches that rank by it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.base.progress import Interrupted, Watch
from supernet.search.config import PARTS, SearchConfig
from supernet.search.measures import MEASURES
from supernet.search.orders import Candidate, standing
from supernet.search.ranking import Ranking, Scale
from supernet.search.recording import SAMPLE, Measuring
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation
from supernet.search.table import read_candidates, read_ranking, records
from supernet.space.cost import cost_table
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from tests.spaces_for_tests import tiny_nasbench201

NUMBERS = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
SAMPLES = st.lists(NUMBERS | st.just(-math.inf), min_size=1, max_size=12)


@given(sample=SAMPLES)
def test_the_place_of_a_value_of_the_sample_is_the_share_of_those_it_beats(sample: list[float]) -> None:
    scale = Scale.of(sample)
    for value in sample:
        share = (sum(v < value for v in sample) + sum(v == value for v in sample) / 2) / len(sample)
        assert scale.place(value) == pytest.approx(share if math.isfinite(value) else 0.0)


@given(sample=SAMPLES, values=st.lists(NUMBERS, min_size=2, max_size=8))
def test_places_never_fall_and_rise_beyond_the_best(sample: list[float], values: list[float]) -> None:
    scale = Scale.of(sample)
    places = [scale.place(value) for value in sorted(values)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(places))
    if len(scale.values) > 1:
        best, width = scale.values[-1], scale.values[-1] - scale.values[0]
        assert scale.place(best) < scale.place(best + width / 10) < scale.place(best + width)


def test_a_value_that_is_not_finite_ranks_last() -> None:
    scale = Scale.of([1.0, 2.0, -math.inf])
    assert scale.place(-math.inf) == scale.place(math.nan) == 0 < scale.place(-1e9) < scale.place(2.0)
    assert Scale.of([-math.inf, math.nan]).place(3.0) == 0


@given(sample=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=8), weight=st.floats(0.1, 10))
def test_a_joint_rank_is_the_weighted_mean_of_places(sample: list[tuple[float, float]], weight: float) -> None:
    columns: dict[str, list[float]] = {"score": [a for a, _ in sample], "size": [b for _, b in sample]}
    ranking = Ranking.of({"score": 1.0, "size": weight}, columns)
    for score, size in sample:
        a, b = Scale.of(columns["score"]).place(score), Scale.of(columns["size"]).place(size)
        values = {"score": score, "size": size, "jacov": 3.0}
        assert ranking.joint(values) == pytest.approx((a + weight * b) / (1 + weight))
        assert ranking.joint(values, without="size") == a
    assert Ranking.from_json(json.loads(json.dumps(ranking.to_json()))) == ranking


# ---- settings ----


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": {"zico": 1.0}}, "rank: no 'zico'; there are: score, size, params, jacov"),
        ({"measures": ["size"]}, "measures: no 'size'; there are: jacov"),
        ({"rank": {"score": -1.0}}, "rank: expected weights from 0 on"),
        ({"rank": {"score": 0.0}}, "rank: expected a weight above 0"),
        ({"rank": {"score": 1.0}, "score": "none"}, "rank: expected no part score with score none"),
        ({"rank": {"score": 1.0}, "size_bonus": 0.1}, "size_bonus: expected 0 with rank"),
        ({"rank_sample": 1}, "rank_sample: expected at least 2"),
    ],
)
def test_settings_that_contradict_each_other(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SearchConfig(**settings)


def test_what_each_candidate_gets() -> None:
    assert SearchConfig().figures == () == tuple(SearchConfig().parts)
    assert SearchConfig(measures=["nwot"], rank={"size": 1, "score": 2, "jacov": 0}).figures == ("size", "nwot")
    assert SearchConfig(score="none").parts  # no one-shot model, so something else has to rank
    assert set(MEASURES) < set(PARTS)


# ---- searches ----

SPACE = tiny_nasbench201()
EXAMPLES = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (32,), generator=torch.Generator().manual_seed(1))
RANK = {"score": 1.0, "size": 1.0, "synflow": 0.5}


def run(table: Path, *, stop_after: int | None = None, threads: int = 1, **settings: Any) -> list[Candidate]:
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=threads, kernels="torch"))
    defaults = {"candidates": 24, "ghost_size": 8, "top": 2, "top_of": 3, "rank": RANK, "rank_sample": 10}
    config = SearchConfig(**{**defaults, **settings})
    model = build(SPACE, seed=0)
    evaluation = Evaluation(model=model, examples=EXAMPLES, targets=TARGETS, runtime=runtime, ghost_size=8)
    steps = iter(range(10_000))
    watch = Watch(stop=lambda: stop_after is not None and next(steps) == stop_after)
    return search(
        None if config.score == "none" else evaluation, cost_table(SPACE), config, seed=0, table=table,
        measuring=Measuring(EXAMPLES[:6], 5, runtime), watch=watch,
    )  # fmt: skip


def test_the_rank_of_a_candidate_does_not_depend_on_the_others(tmp_path: Path) -> None:
    few = run(tmp_path / "few" / "c.sqlite", candidates=8)
    many = {c.architecture: c for c in run(tmp_path / "many" / "c.sqlite", strategy="enumeration", candidates=120)}
    both = [c for c in few if c.architecture in many]
    assert both
    for candidate in both:
        other = many[candidate.architecture]
        assert (other.score, other.value, other.measures) == (candidate.score, candidate.value, candidate.measures)


def test_a_rank_is_made_of_the_parts_that_stand_beside_it(tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    candidates = run(table)
    ranking = read_ranking(table)
    assert ranking is not None
    costs = cost_table(SPACE)
    for candidate in candidates:
        assert (
            candidate.joint == candidate.score == ranking.joint({"score": candidate.value, **dict(candidate.measures)})
        )
        assert dict(candidate.measures)["size"] == costs.doublings([candidate.architecture])[0]
        assert candidate.examples == 32  # no race
    (sample,) = {len(scale.places) for name, scale in ranking.scales.items() if name == "size"}
    assert 1 < sample <= 10
    assert set(read_candidates(table, SPACE)) == set(candidates)
    row = records(candidates)[0]
    assert {"value", "log2_macs_that_matter", "synflow", "joint"} <= set(row)
    assert "jacov" not in row
    best = max(candidates, key=lambda c: ranking.joint(c.parts))
    assert min(candidates, key=standing).score == best.score


@pytest.mark.parametrize("strategy", ["random", "evolution", "local"])
@pytest.mark.parametrize("stop_after", [3, 14, 22, 37])
def test_a_search_by_a_joint_rank_continues_to_the_same_bits(tmp_path: Path, strategy: str, stop_after: int) -> None:
    settings: dict[str, Any] = {"strategy": strategy, "batch": 6}
    with pytest.raises(Interrupted):
        run(tmp_path / "a" / "c.sqlite", stop_after=stop_after, **settings)
    continued = run(tmp_path / "a" / "c.sqlite", threads=2, **settings)
    assert continued == run(tmp_path / "b" / "c.sqlite", **settings)


def test_a_search_without_a_one_shot_model(tmp_path: Path) -> None:
    for strategy in ("random", "evolution"):
        table = tmp_path / strategy / "c.sqlite"
        found = run(table, score="none", rank={"params": 1.0, "jacov": 0.5}, strategy=strategy, batch=8)
        assert len(found) == 24
        assert all(math.isnan(c.value) and math.isnan(c.loss) and c.examples == 0 for c in found)
        assert not table.with_name(SAMPLE).exists()
        assert records(found)[0]["value"] is None
        scores = [c.score for c in sorted(found, key=standing)]
        assert scores == sorted(scores, reverse=True)
        assert len(set(scores)) > 12


def test_measures_are_columns_without_a_rank(tmp_path: Path) -> None:
    table = tmp_path / "c.sqlite"
    plain = run(tmp_path / "plain" / "c.sqlite", rank={})
    found = run(table, rank={}, measures=["layers", "jacov"])
    assert [c.score for c in found] == [c.value for c in found] == [c.score for c in plain]
    assert [name for name, _ in found[0].measures] == ["jacov", "layers"]
    assert read_ranking(table) is None
    assert not plain[0].measures
    assert "jacov" not in records(plain)[0]
