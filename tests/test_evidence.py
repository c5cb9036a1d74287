"""What the experiments of `benchmarks/evidence` vary, against slow and obvious ways to do the same."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from supernet import build, fit
from supernet.space.layers import GhostBatchNorm
from supernet.spaces import bender, macro, nasbench201
from supernet.spaces.macro import to_digits
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig
from tests.makers import write_batches

SCRIPTS = Path(__file__).parents[1] / "benchmarks" / "evidence"


def script(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[ModuleType]:
    """A script of the folder as a module, forgotten after the test."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.fixture
def one_shot(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "one_shot")


def test_all_weights_are_decayed_as_by_an_optimiser_that_knows_nothing_of_paths(one_shot: ModuleType) -> None:
    space = nasbench201(channels=2, cells_per_stage=1, affine=False, input_shape=(3, 8, 8))
    x, y = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 10
    steps, rate, decay = 4, 0.1, 0.05
    cells = space.sample_distinct(steps, generator=torch.Generator().manual_seed(1))

    def draw_live(step: int) -> torch.Tensor:
        return space.live([cells[step]])

    settings = TrainConfig(
        steps=steps, batch_size=8, ghost_size=8, lr=rate, weight_decay=decay, schedule="constant",
        optimizer_settings={"momentum": 0.0},
    )  # fmt: skip
    runtime = start(RuntimeConfig(device="cpu", threads=1, precision="32-true"))
    ours, theirs, live_only = (build(space, seed=0) for _ in range(3))
    drawn = one_shot.decaying_all(ours, draw_live, steps, settings)
    fit(ours, lambda step: (x, y), steps, settings, runtime=runtime, draw_live=drawn)
    fit(live_only, lambda step: (x, y), steps, settings, runtime=runtime, draw_live=draw_live)

    weights = [p for p in theirs.parameters() if p.ndim > 1]
    others = [p for p in theirs.parameters() if p.ndim == 1]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": decay}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=rate)
    for step in range(steps):
        optimizer.zero_grad(set_to_none=False)
        torch.stack([(0 * p).sum() for p in weights]).sum().backward()  # so that every weight is decayed
        F.cross_entropy(theirs(x, draw_live(step)), y).backward()
        optimizer.step()

    for name, expected in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), expected, rtol=1e-4, atol=1e-5, msg=name)
    pairs = zip(ours.parameters(), live_only.parameters(), strict=True)
    assert any(not torch.allclose(a, b, rtol=1e-3) for a, b in pairs)


def test_averages_over_one_batch_are_its_own_statistics(
    one_shot: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(one_shot, "AVERAGED", 5)
    space = bender(filters=2, cells=1, choice_blocks=2, input_shape=(3, 16, 16))
    model = build(space, seed=0)
    generator = torch.Generator().manual_seed(0)
    x, other = torch.randn(64, 3, 16, 16, generator=generator), 3 + torch.randn(64, 3, 16, 16, generator=generator)
    live = space.live([space.everything_on()])
    averages = one_shot.averaged(model, lambda number: (x, torch.zeros(64)), lambda number: live)
    with torch.no_grad():
        expected, of_other = model(x, live), model(other, live)
        torch.testing.assert_close(averages(x, live), expected, rtol=0.01, atol=0.01)
        # Other images do not change what the first ones are given, as they do with the statistics of a batch.
        mixed = torch.cat([x[:32], other[:32]])
        torch.testing.assert_close(averages(mixed, live)[:32], averages(x, live)[:32], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(model(mixed, live)[:32], expected[:32], rtol=0.1, atol=0.1)
        assert not torch.allclose(averages(other, live), of_other, rtol=0.1, atol=0.1)
    assert any(isinstance(module, GhostBatchNorm) for module in model.modules())  # the model itself is as it was


@pytest.mark.parametrize("paths", ["uniform", "fair", "dropout", "classes"])
def test_paths_of_a_step_are_drawn_as_the_recipe_says(one_shot: ModuleType, paths: str) -> None:
    space = nasbench201(channels=2, cells_per_stage=1, affine=False, input_shape=(3, 8, 8))
    recipe = one_shot.Recipe(settings={}, images=5000, batch_size=50, ghost_size=10, paths=paths, everything_on=0.5)
    draw_live = one_shot.paths_by(recipe, space)
    everything = space.live([space.everything_on()])
    assert torch.equal(draw_live(0), everything.expand(5, -1))
    assert torch.equal(draw_live(7), draw_live(7))
    late = draw_live(90)
    assert late.shape == (5, everything.shape[1])
    per_edge = late.view(5, 6, -1).sum(2)
    if paths == "dropout":
        assert not torch.equal(late, everything.expand(5, -1))
    else:
        assert (per_edge == 1).all()  # one operation on every edge
    if paths == "fair":
        assert (late.sum(0) == 1).all()
    if paths == "classes":
        pool = {tuple(row) for row in one_shot.different(space).tolist()}
        assert {tuple(row) for row in late.tolist()} <= pool
        assert len(pool) < space.size


def test_a_recipe_is_trained_once_and_scored_as_before(
    one_shot: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_batches(tmp_path / "in")
    space = nasbench201(channels=2, cells_per_stage=1, affine=False, input_shape=(3, 8, 8))
    cells = space.sample_distinct(4, generator=torch.Generator().manual_seed(0))
    recipe = one_shot.Recipe(
        settings={}, pixels=8, images=160, batch_size=16, ghost_size=8, scored_images=16, scored_ghost=8
    )
    first = one_shot.run(space, recipe, cells, tmp_path / "work", tmp_path / "in", validation=20)
    assert len(first["loss"]) == len(first["accuracy"]) == 4
    again = one_shot.run(space, recipe, cells[2:], tmp_path / "work", tmp_path / "in", validation=20)
    assert again["loss"] == first["loss"][2:]
    assert "10 of 10 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="expected the same recipe"):
        one_shot.run(
            space, one_shot.with_(recipe, lr=0.5), cells, tmp_path / "work", tmp_path / "in", validation=20
        )  # fmt: skip


def test_trainings_from_scratch_make_a_table(one_shot: ModuleType, tmp_path: Path) -> None:
    write_batches(tmp_path / "in")
    space = nasbench201(channels=2, cells_per_stage=1, affine=False, input_shape=(3, 8, 8))
    cells = space.sample_distinct(3, generator=torch.Generator().manual_seed(0))
    data, config = one_shot.data_of(one_shot.Recipe(settings={}, pixels=8), tmp_path / "in", 20)
    settings = TrainConfig(steps=3, batch_size=16, ghost_size=8, lr=0.05)
    table, folder = tmp_path / "truth.csv", tmp_path / "work"
    one_shot.trained_alone(space, cells, 3, settings, data, config, table, folder, 1, 1)
    texts, accuracies, twice = one_shot.accuracies_of(table)
    assert texts == [str(cell) for cell in cells]
    assert twice.shape == (0, 2)
    one_shot.trained_alone(space, cells, 2, settings, data, config, table, folder, 1, 2)
    texts, again, twice = one_shot.accuracies_of(table)
    assert texts == [str(cell) for cell in cells]  # the third, which is not trained again, is still there
    assert again.tolist() == accuracies.tolist()
    assert twice[:, 0].tolist() == accuracies[:2].tolist()
    difference = twice[:, 0] - twice[:, 1]
    assert one_shot.repeated(twice)["deviation"] == pytest.approx(((difference**2).sum() / 4) ** 0.5)


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "claims")


def test_verdicts_claim_wrongly_as_seldom_as_they_say(simulated: ModuleType) -> None:
    """The short form of `benchmarks/evidence/claims.py`: the most that 2.5 % gives in 60 draws is 6 (p of more 0.0007).

    A share of one in ten would give more than 6 in 39 % of cases, and one in five in 96 %.
    """
    for name, scenario in simulated.WRONG.items():
        for n in (10, 30):
            assert simulated.claims(scenario, n, 60) <= 6, (name, n)


def test_verdicts_find_what_is_there(simulated: ModuleType) -> None:
    """A true tau of 0.5 with 30 networks, two sizes and an untrained model, in 30 draws."""
    assert simulated.claims(simulated.RIGHT["tau 0.5"], 30, 30) >= 20


def test_what_is_looked_at_first_leaves_out_no_claim(simulated: ModuleType) -> None:
    generator = np.random.default_rng(0)
    for scenario in (*simulated.WRONG.values(), *simulated.RIGHT.values()):
        arguments = scenario(simulated.Networks(20, generator))
        is_claim = simulated.finding(simulated.evidence(**arguments)) == "predict"
        assert simulated.may_claim(arguments) or not is_claim


def test_the_committed_counts_are_within_what_is_promised() -> None:
    """Of 2,000 draws of each scenario at most 2.5 % wrong claims; with 30 networks at least 80 % of tau 0.5."""
    (path,) = (SCRIPTS.parent / "results").glob("claims_*.json")
    result = json.loads(path.read_text())
    assert result["draws"] == 2000
    assert max(count for row in result["wrong"].values() for count in row.values()) <= 50
    assert result["right"]["tau 0.5"]["30"] >= 1600


@pytest.fixture
def joint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "joint")


@pytest.fixture
def pay(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "pay")


def test_weights_are_chosen_on_the_tables_that_are_not_judged(joint: ModuleType, tmp_path: Path) -> None:
    """In two spaces jacov tells and in one it misleads: left out, that one gets the weights of the others."""
    generator = np.random.default_rng(0)
    for name, sign in {"a": 1, "b": 1, "c": -1}.items():
        score, macs, truth = generator.normal(size=(3, 40))
        rows = [f"{i},{t},{s},{m},{sign * t}" for i, (t, s, m) in enumerate(zip(truth, score, macs, strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(["architecture,truth,score,macs,jacov", *rows]) + "\n")
    joint.main([*(f"{name}={tmp_path / name}.csv" for name in "abc"), "--out", str(tmp_path / "out.json")])
    left_out = json.loads((tmp_path / "out.json").read_text())["left out"]
    assert left_out["c"]["weights"]["jacov"] == max(joint.GRID["jacov"])
    assert left_out["c"]["joint"]["tau"] < left_out["c"]["without"]["jacov"]["tau"]
    assert left_out["a"]["alone"]["jacov"]["tau"] == 1


def test_a_network_without_a_measure_comes_last(joint: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("architecture,truth,score\na,1,2\nb,2,\nc,3,5\n")
    parts, _ = joint.parts_of(tmp_path / "t.csv")
    assert np.argsort(parts["score"]).tolist() == [1, 0, 2]


def test_what_is_spent_counts_from_the_first_training(pay: ModuleType) -> None:
    """Two networks of an hour each, after an hour of the one-shot model: nothing, the worse one, the better one."""
    values = np.array([90.0, 80.0])
    networks = pay.Networks(
        truth=values, judged=values - 1, short=values / 2, seconds=np.full(2, 3600.0), macs=np.array([1.0, 2.0]),
        free=values, joint=-values, measures=values[:, None], picks=np.eye(2, dtype=bool),
    )  # fmt: skip
    curve = dict(
        zip(pay.HOURS, pay.best_so_far(networks, pay.in_order(networks, np.array([1, 0]), 3600.0)), strict=True)
    )
    expected = {hours: None if hours < 2 else 79.0 if hours < 3 else 89.0 for hours in pay.HOURS}
    assert curve == expected
    events = list(pay.asha(networks, seed=0))
    assert {network for _, network in events} <= {0, 1}
    assert sum(seconds for seconds, _ in events) <= 2 * 3600 + 1e-6
    assert all(list(run()) for run in pay.methods(networks, 100.0, 0).values())


@pytest.fixture
def predictors(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "predictors")


def test_rankings_after_trainings_are_judged_on_all_and_on_unseen_networks(
    predictors: ModuleType, tmp_path: Path
) -> None:
    space = macro()
    drawn = space.sample_distinct(60, generator=torch.Generator().manual_seed(0))
    truth = [80 + 2 * sum(len(option) for _, (option,) in a.picks) / 10 for a in drawn]
    rows = [f"{to_digits(a)},{value},{100 - value}" for a, value in zip(drawn, truth, strict=True)]
    (tmp_path / "table.csv").write_text("architecture,truth,wrong\n" + "\n".join(rows) + "\n")
    (tmp_path / "more.csv").write_text(
        "architecture,jacov\n" + "\n".join(row.rpartition(",")[0] for row in rows) + "\n"
    )
    words = [f"name=macro:{tmp_path / 'table.csv'}", "--truth=truth", "--seeds=1", "--trainings=16,32"]
    words += [f"--out={tmp_path / 'out.json'}"]
    predictors.main([*words, "--plain=jacov=1", "--join", str(tmp_path / "more.csv")])
    perfect = json.loads((tmp_path / "out.json").read_text())["name"]["trainings"]
    assert perfect["0"]["mean"]["all"] == pytest.approx(1)
    assert perfect["32"]["mean"]["unseen"] == pytest.approx(1)
    assert perfect["32"]["mean"]["used"] == 0  # nothing is better than perfect
    predictors.main([*words, "--plain=params=1"])
    learnt = json.loads((tmp_path / "out.json").read_text())["name"]["trainings"]
    assert learnt["32"]["mean"]["unseen"] > learnt["0"]["mean"]["all"] + 0.1
    assert learnt["32"]["mean"]["best trained"] <= learnt["16"]["mean"]["best trained"]


@pytest.fixture
def scale(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield from script(monkeypatch, "scale")


def test_simulated_workers_keep_the_laws_of_queues(scale: ModuleType) -> None:
    """As long as the driver has time, workers wait for it only; beyond that the driver says how many work."""
    idle = scale.simulate(1, [2.0], 0.0, 0.0, 50)
    assert idle["busy"] == pytest.approx(1, abs=0.03)
    one = scale.simulate(1, [2.0], 0.5, 0.25, 400)  # a batch takes two seconds, and one goes to messages and driver
    assert one["busy"] == pytest.approx(2 / 3, abs=0.01)
    limit = scale.saturation([2.0], 0.01, 0.0)
    assert limit == pytest.approx(201, abs=1)
    for workers in (2 * round(limit), 4 * round(limit)):
        over = scale.simulate(workers, [1.0, 2.0, 3.0], 0.01, 0.0, 40)
        assert over["driver"] == pytest.approx(1, abs=0.02)
        assert over["busy"] * workers == pytest.approx(200, rel=0.06)
