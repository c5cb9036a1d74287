"""Scores and measures by workers: the same as in one process, with workers that die and candidates that fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.progress import Interrupted, Watch
from supernet.search.config import SearchConfig
from supernet.search.measures import measures_of
from supernet.search.recording import score_into
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation, outcomes_of
from supernet.search.table import read_candidates, read_failures, read_rounds, read_seen
from supernet.space.cost import cost_table
from supernet.space.model import build
from supernet.speed.pool import Processes
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from tests.spaces_for_tests import tiny_bender

SPACE = tiny_bender()
EXAMPLES = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(1))
DRAWN = SPACE.sample_distinct(12, generator=torch.Generator().manual_seed(2))
CONFIG = SearchConfig(candidates=24, top=2, random=2, small=2, top_of=4, ghost_size=8, strategy="evolution", batch=12)
ONE = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1))


@pytest.fixture(scope="module")
def two() -> Iterator[Runtime]:
    """A runtime with two workers."""
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1, workers=2))
    assert runtime.pool is not None
    yield runtime
    runtime.pool.close()


def evaluation(runtime: Runtime, **changes: Any) -> Evaluation:
    model = build(SPACE, seed=0)
    return replace(
        Evaluation(model=model, examples=EXAMPLES, targets=TARGETS, runtime=runtime, ghost_size=8), **changes
    )


def rows(table: Path) -> tuple[list[Any], dict[str, Any], list[Any]]:
    """All that a table says of scores, bit by bit, in the order of its rows."""
    candidates = read_candidates(table, SPACE)
    return candidates, read_seen(table, [c.architecture for c in candidates]), list(read_rounds(table))


def a_worker(runtime: Runtime) -> int:
    """The process of a worker."""
    assert runtime.pool is not None
    assert isinstance(runtime.pool.engine, Processes)
    return runtime.pool.engine.pids[0]


def test_workers_search_as_one_process_does_also_if_one_is_killed(two: Runtime, tmp_path: Path) -> None:
    tables = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"]
    killed: list[int] = []

    def kill_one(done: int, total: int, **figures: float) -> None:
        assert figures["workers"] <= 2
        assert figures["per_second"] > 0
        if done >= 14 and not killed:
            killed.append(a_worker(two))
            os.kill(killed[0], signal.SIGKILL)

    search(evaluation(ONE), cost_table(SPACE), CONFIG, seed=3, table=tables[0])
    search(evaluation(two), cost_table(SPACE), CONFIG, seed=3, table=tables[1], watch=Watch(kill_one))
    assert killed
    assert rows(tables[0]) == rows(tables[1])


def test_a_search_that_stops_continues_in_one_process_to_the_same_table(two: Runtime, tmp_path: Path) -> None:
    tables, steps = [tmp_path / "one.sqlite", tmp_path / "two.sqlite"], iter(range(10**6))
    search(evaluation(ONE), cost_table(SPACE), CONFIG, seed=4, table=tables[0])
    with pytest.raises(Interrupted, match="of 12 candidates on"):
        stop = Watch(stop=lambda: next(steps) > 16)
        search(evaluation(two), cost_table(SPACE), CONFIG, seed=4, table=tables[1], watch=stop)
    search(evaluation(ONE), cost_table(SPACE), CONFIG, seed=4, table=tables[1])
    assert rows(tables[0]) == rows(tables[1])


class Failing:
    """Cross-entropy that fails for one candidate, which is told by its loss on the first ghost batch."""

    def __init__(self, bad: float) -> None:
        self.bad = bad

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = F.cross_entropy(outputs, targets)
        if float(loss) == self.bad:
            raise RuntimeError("the device is lost")
        return loss


def test_a_candidate_that_fails_three_times_is_recorded_and_the_others_are_scored(two: Runtime, tmp_path: Path) -> None:
    bad = DRAWN[7]
    ((_, loss),) = [(o.value, o.loss) for o in outcomes_of(evaluation(ONE, examples=EXAMPLES[:8]), [bad])]
    table, plain = tmp_path / "two.sqlite", tmp_path / "one.sqlite"
    failing = evaluation(two, loss=Failing(loss))
    score_into(table, DRAWN, failing, cost_table(SPACE), CONFIG)
    score_into(plain, DRAWN, evaluation(ONE), cost_table(SPACE), CONFIG)
    assert read_failures(table) == {str(bad): "RuntimeError: the device is lost"}
    assert read_failures(plain) == {}
    for scored, expected in zip(read_candidates(table, SPACE), read_candidates(plain, SPACE), strict=True):
        if scored.architecture == bad:
            assert (scored.value, scored.loss, scored.examples) == (0.0, float("inf"), 200)
        else:
            assert scored == expected
    score_into(table, DRAWN, failing, cost_table(SPACE), CONFIG)  # it is not tried again


def test_measures_of_workers_are_those_of_one_process(two: Runtime) -> None:
    names = ("jacov", "nwot", "synflow", "layers")
    one, shared = (
        list(measures_of(SPACE, DRAWN, EXAMPLES[:16], names, seed=5, runtime=runtime)) for runtime in (ONE, two)
    )
    assert one == shared
