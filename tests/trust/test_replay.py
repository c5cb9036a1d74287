"""Strategies on a table of scores: against a slow replay by hand, and as a user calls it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from supernet.base.files import read_json, write_json
from supernet.base.progress import Interrupted, Watch
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import space_of_run
from supernet.search import strategies
from supernet.search.limits import LimitsConfig, region
from supernet.search.orders import on_most
from supernet.search.table import in_order_asked, read_candidates
from supernet.space.cost import cost_table
from supernet.trust.replay import Contest, Runs, best_so_far, marks, regrets, replay
from tests.spaces_for_tests import nested, tiny_nasbench201

SPACE = nested()
ALLOWED = region(cost_table(SPACE), LimitsConfig())
DRAWN = torch.rand(SPACE.size, generator=torch.Generator().manual_seed(0)).tolist()
SCORES = {ALLOWED.key(a): score for a, score in zip(SPACE, DRAWN, strict=True)}
SOME = ("random", "local", "tpe")


@pytest.mark.parametrize("name", strategies.STRATEGIES)
def test_the_best_so_far_is_what_was_asked_for(name: str) -> None:
    """What is asked for again does not count again."""
    strategy = strategies.make(name, {}, ALLOWED, seed=3)
    keys: list[str] = []
    while len(set(keys)) < 20:
        asked = strategy.ask(min(5, 20 - len(set(keys))))
        keys += map(ALLOWED.key, asked)
        strategy.tell(asked, [SCORES[ALLOWED.key(a)] for a in asked])
    distinct = list(dict.fromkeys(keys))
    expected = [max(SCORES[key] for key in distinct[: n + 1]) for n in range(20)]
    assert best_so_far(name, {}, Contest(ALLOWED, SCORES, 20, 5), seed=3) == expected


def test_who_asks_for_everything_finds_the_best() -> None:
    for name in ("random", "enumeration", "local"):
        assert best_so_far(name, {}, Contest(ALLOWED, SCORES, SPACE.size, 7), seed=0)[-1] == max(DRAWN)
    assert len(best_so_far("enumeration", {}, Contest(ALLOWED, SCORES, 1000, 7), seed=0)) == SPACE.size  # its end


def test_regrets_are_over_seeds() -> None:
    names = {name: {"start": 5} if name != "random" else {} for name in SOME}
    contest = Contest(ALLOWED, SCORES, 20, 5)
    _, found = replay(contest, names, seeds=4, runs={})
    assert list(found) == list(SOME)
    assert marks(20) == [10, 20]
    for name in SOME:
        curves = [best_so_far(name, names[name], contest, seed=seed) for seed in range(4)]
        missing = np.array([[max(DRAWN) - curve[min(n, len(curve)) - 1] for n in (10, 20)] for curve in curves])
        assert found[name]["median"] == pytest.approx(np.median(missing, 0), abs=1e-6)
        assert found[name]["mean"] == pytest.approx(missing.mean(0), abs=1e-6)
        assert (np.array(found[name]["low"]) <= found[name]["median"]).all()
        assert (np.array(found[name]["median"]) <= found[name]["high"]).all()
    assert regrets([[1.0, 2.0]], 3.0)["median"] == [2.0, 1.0]


def test_finished_runs_are_not_run_again() -> None:
    saved: list[Runs] = []
    calls: list[tuple[int, int]] = []

    def play(runs: Runs, stop: Callable[[], bool] = lambda: False) -> tuple[Runs, dict[str, dict[str, list[float]]]]:
        watch = Watch(lambda done, total: calls.append((done, total)), stop)
        return replay(
            Contest(ALLOWED, SCORES, 20, 5), {"random": {}}, seeds=3, runs=runs, save=saved.append, watch=watch
        )

    with pytest.raises(Interrupted):
        play({}, lambda: len(saved) == 2)
    assert [list(runs["random"]) for runs in saved] == [["0"], ["0", "1"]]
    again = play(saved[-1])
    assert len(saved) == 3
    assert saved[-1] == again[0]
    assert calls == [(1, 3), (2, 3), (1, 3), (2, 3), (3, 3)]
    assert play({}) == again


def test_architectures_with_the_same_function_have_one_score() -> None:
    space = tiny_nasbench201()
    allowed = region(cost_table(space), LimitsConfig())
    keys = sorted({allowed.key(space.at(i)) for i in range(space.size)})
    scores = {key: float(i) for i, key in enumerate(keys)}
    curve = best_so_far("evolution", {"population": 5, "tournament": 2}, Contest(allowed, scores, 30, 5), seed=0)
    assert len(curve) == 30


# ---- on a run ----


@pytest.fixture(scope="module")
def enumerated(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose whole space is scored."""
    folder = tmp_path_factory.mktemp("runs") / "enumerated"
    shutil.copytree(finished_run / "train", folder / "train")
    for name in ("config.yaml", "data.json", "environment.json"):
        shutil.copy(finished_run / name, folder / name)
    words = ("--strategy", "enumeration", "--exhaustive", "--search.candidates", "null", "--search.ghost_size=32")
    assert main(["search", str(folder), *words]) == 0
    assert main(["retrain", str(folder)]) == 0
    return folder


def test_a_run_is_replayed(enumerated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["analyze", str(enumerated), "--replay", "2"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    found = read_json(enumerated / "analysis.json")["replay"]
    assert found["candidates"] == space_of_run(open_run(enumerated)).size
    assert set(found["regret"]) == set(strategies.STRATEGIES) - {"enumeration"}
    assert f"random {100 * found['regret']['random']['median'][0]:.2f}" in " ".join(out.split())
    assert found["marks"][-1] == found["budget"] == found["candidates"]
    assert found["regret"]["random"]["mean"][-1] == 0
    # Other ways of analysing stay beside it, and nothing is played again.
    write_json(enumerated / "analysis.json", {"truth": None, "replay": {**found, "regret": {}}})
    assert main(["analyze", str(enumerated), "--replay", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found
    assert read_json(enumerated / "analysis.json") == {"truth": None, "replay": found}
    assert main(["report", str(enumerated)]) == 0
    page = (enumerated / "report.html").read_text()
    assert "Does the strategy help?" in page
    assert "The course of the strategy enumeration" in page
    assert "<td>reinforce</td>" in page


def test_a_table_without_everything_is_not_replayed(
    run_folder: Path, enumerated: Path, refused: Callable[..., str]
) -> None:
    message = refused("analyze", run_folder, "--replay", "2")
    size = space_of_run(open_run(run_folder)).size
    assert f"of {size} architectures have no score on all examples: `supernet search" in message
    for wrong in ("0", "-1", "x", "1.5"):
        assert "--replay: expected a number of seeds" in refused("analyze", run_folder, f"--replay={wrong}")
    both = ("--replay", "2", "--sweep", "0.1")
    assert "--replay: expected without --sweep" in refused("analyze", enumerated, *both)
    config = enumerated / "config.yaml"
    before = config.read_text()
    recorded = (enumerated / "settings.json").read_bytes()
    (enumerated / "settings.json").unlink()  # an edited configuration is refused by another rule
    config.write_text(before.replace("max_latency: null", "max_latency: 5ms"))
    assert "without limits of latency and memory" in refused("analyze", enumerated, "--replay", "2")
    config.write_text(before)
    (enumerated / "settings.json").write_bytes(recorded)


def test_candidates_in_the_order_asked(finished_run: Path) -> None:
    """The random draw, which the table has in another order."""
    table = finished_run / "candidates.sqlite"
    run = open_run(finished_run)
    config, space = run.config, space_of_run(run)
    candidates = read_candidates(table, space)
    found = in_order_asked(table, candidates)
    allowed = region(cost_table(space), LimitsConfig())
    strategy = strategies.make("random", {}, allowed, seed=config.seed)
    assert [c.architecture for _, c in found] == strategy.ask(config.search.candidates or 0)
    assert {round_ for round_, _ in found} == {0}
    assert len(on_most(candidates)) <= len(found) == len(candidates)
