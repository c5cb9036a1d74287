"""Lengths from a time budget: properties of the plan, and a run with one."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from supernet.base.files import read_json
from supernet.program import forecast, prepare
from supernet.program.commands import main
from supernet.program.config import Config
from supernet.program.plan import (
    MOST_CANDIDATES,
    MOST_EPOCHS,
    Plan,
    Speeds,
    Work,
    given_lengths,
    makespan,
    plan,
    race_cost,
    settings_of,
    step_of_all,
)
from supernet.program.settings import ConfigError
from supernet.retrain.heats import heats
from supernet.search.race import stages
from tests.conftest import TINY

WORK = Work(
    examples=1000, batch=64, retrain_examples=1000, retrain_batch=64, trainings=(10, 4, 0), heats=(), all_on=1,
    evaluated=500, validated=200, scored=256, scored_again=30, ghost_size=32, keep=20, least_candidates=50,
    most_candidates=20_000, set_candidates=400,
)  # fmt: skip
SPEEDS = Speeds(one_shot=0.05, candidate=0.02, networks=(0.01, 0.02, 0.03), all_on=0.05, workers=2)

works = st.builds(
    replace,
    st.just(WORK),
    examples=st.integers(64, 100_000),
    retrain_examples=st.integers(64, 100_000),
    trainings=st.tuples(st.integers(1, 40), st.integers(0, 4), st.integers(0, 4)),
    all_on=st.integers(0, 2),
    keep=st.sampled_from([None, 1, 20]),
    scored=st.sampled_from([32, 256, 4096]),
    most_candidates=st.integers(50, 20_000),
)
seconds = st.floats(1e-4, 1.0)
speeds = st.builds(
    Speeds, one_shot=seconds, candidate=seconds, networks=st.lists(seconds, min_size=1, max_size=9).map(tuple),
    all_on=seconds, workers=st.integers(1, 16),
)  # fmt: skip
givens = st.sets(st.sampled_from(["train", "search", "retrain", "analysis"]))


def lengths(made: Plan) -> dict[str, float]:
    return {name: step.length for name, step in made.steps.items()}


def planned(work: Work, speed: Speeds, hours: float, names: set[str]) -> Plan | None:
    try:
        return plan(Config(), work, speed, hours=hours, spent=1.0, given=names)
    except ConfigError:
        return None


@given(works, speeds, st.floats(0.001, 1000), givens)
def test_a_plan_fits_into_its_time(work: Work, speed: Speeds, hours: float, names: set[str]) -> None:
    made = planned(work, speed, hours, names)
    if made is None:
        return
    assert made.seconds <= 3600 * hours * (1 + 1e-9)
    for name, step in made.steps.items():
        least, most = (50, MOST_CANDIDATES) if name == "search" else (0.1, MOST_EPOCHS)
        assert least <= step.length <= most or name in names
        assert step.is_planned == (name not in names)
    assert len(made.lines()) <= 8 and all(len(line) <= 120 for line in made.lines())
    assert json.loads(json.dumps(made.to_json()))["hours"] == hours


@given(works, speeds, st.floats(0.001, 100), st.floats(1, 10), givens)
def test_more_time_is_never_shorter(work: Work, speed: Speeds, hours: float, factor: float, names: set[str]) -> None:
    less, more = (planned(work, speed, number, names) for number in (hours, hours * factor))
    if less is not None:
        assert more is not None
        assert all(lengths(more)[name] >= length for name, length in lengths(less).items())


@given(works, speeds, st.floats(0.01, 100))
def test_the_time_is_used_as_far_as_steps_can_be_longer(work: Work, speed: Speeds, hours: float) -> None:
    made, longest = planned(work, speed, hours, set()), planned(work, speed, 1e9, set())
    assert longest is not None
    if made is None or lengths(made) == lengths(longest):
        return
    units = made.steps["train"].seconds / made.steps["train"].length / 100 + 2 * speed.candidate
    units += step_of_all(speed, work) * work.retrain_examples / work.retrain_batch / 100
    assert made.seconds >= 1 + 0.95 * (3600 * hours - 1) - units


def test_what_is_given_stays_and_the_others_share_its_time() -> None:
    free, kept = (plan(Config(), WORK, SPEEDS, hours=0.1, spent=10.0, given=names) for names in (set(), {"search"}))
    assert kept.steps["search"].length == WORK.set_candidates < free.steps["search"].length
    assert kept.steps["train"].length > free.steps["train"].length
    assert set(settings_of(kept, {"search"})) == {
        f"{part}.{name}" for part in ("train", "retrain.train", "analysis.train") for name in ("epochs", "steps")
    }
    assert settings_of(free, set())["search.candidates"] == free.steps["search"].length
    assert ", as given" in "".join(kept.lines()) and ", as given" not in "".join(free.lines())


def test_too_little_time_says_how_much_is_enough() -> None:
    with pytest.raises(ConfigError, match=r"--hours 0\.001 is too short.*fewer pixels") as error:
        plan(Config(), WORK, SPEEDS, hours=0.001, spent=1.0, given=set())
    enough = float(str(error.value).split("needs ")[1].split(" hours")[0])
    assert plan(Config(), WORK, SPEEDS, hours=enough, spent=1.0, given=set()).seconds <= 3600 * enough


def test_which_lengths_are_given() -> None:
    assert given_lengths(["train.steps", "retrain.train.lr"], "random") == {"train"}
    assert given_lengths(["retrain.train.epochs", "analysis.train.steps"], "random") == {"retrain", "analysis"}
    assert given_lengths([], "enumeration") == {"search"}


@given(st.lists(seconds, min_size=1, max_size=9), st.integers(1, 30), st.integers(1, 8))
def test_a_makespan_is_between_perfect_and_one_training_more(times: list[float], number: int, workers: int) -> None:
    speed = Speeds(one_shot=1, candidate=1, networks=tuple(times), workers=workers)
    alone = makespan(replace(speed, workers=1), number, 0)
    together = makespan(speed, number, 0)
    assert alone / workers <= together * (1 + 1e-9) and together <= alone / workers + max(times) * (1 + 1e-9)
    assert makespan(speed, number + 1, 0) >= together * (1 - 1e-9) or len(set(times)) > 1


def test_a_race_costs_what_its_stages_cost() -> None:
    counts = stages(2048, 32)
    by_hand, before = 0.0, 0
    for stage, count in enumerate(counts):
        by_hand += max(100, 20_000 / 2**stage) * (count - before) / 2048
        before = count
    assert race_cost(20_000, 100, counts) == pytest.approx(by_hand)
    assert 20_000 / by_hand == pytest.approx(8.2, rel=0.2)  # what a race was measured to save, docs/log.md
    costs = [race_cost(number, 100, counts) for number in range(1, 400)]
    assert all(a <= b for a, b in itertools.pairwise(costs))
    assert race_cost(80, 100, counts) == pytest.approx(80)


def test_a_busy_machine_is_named() -> None:
    for slowed, is_said in ((1.0, False), (8.0, True)):
        made = Plan(hours=1, spent=0, steps={}, slowed=slowed)
        assert ("8 times slower" in "\n".join(made.lines())) == is_said
        busy = replace(SPEEDS, slowed=slowed)
        with pytest.raises(ConfigError, match="needs") as error:
            plan(Config(), WORK, busy, hours=1e-5, spent=0, given=())
        assert ("8 times slower" in str(error.value)) == is_said


# ---- runs ----

FAST = Speeds(one_shot=0.02, candidate=0.005, networks=(0.02,), workers=1)
SMALL = [word for word in TINY if "epochs" not in word and "candidates" not in word]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A machine that is always as fast as it is taken to be; the seconds that it was measured for."""
    calls: list[float] = []

    def measured(*arguments: Any) -> Speeds:
        calls.append(arguments[-1])
        return FAST

    monkeypatch.setattr(forecast, "measure", measured)
    monkeypatch.setattr(prepare, "monotonic", lambda: 0.0)
    return calls


def test_a_planned_run_is_complete_and_continues_without_planning(
    tmp_path: Path, fast: list[float], capsys: pytest.CaptureFixture[str], refused: Any
) -> None:
    out = tmp_path / "run"
    words = [
        "run",
        "digits-smoke",
        *SMALL,
        "--references=[]",
        "--space.settings.filters=1",
        "--hours=0.001",
        "--out",
        str(out),
    ]
    assert main([*words, "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert main(words) == 0
    shown, _ = capsys.readouterr()
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config == printed and fast == [pytest.approx(0.05 * 3600 * 0.001)] * 2
    kept = read_json(out / "plan.json")
    assert kept["hours"] == 0.001 and kept["settings"]["search.candidates"] == config["search"]["candidates"] >= 50
    assert config["train"]["epochs"] == kept["steps"]["train"]["length"] >= 1
    assert config["analysis"]["train"]["epochs"] == config["retrain"]["train"]["epochs"]
    assert all(f"{step} took" in " ".join(shown.split()) for step in ("train", "search", "retrain"))
    times = read_json(out / "environment.json")
    assert all(times[step]["seconds"] >= 0 for step in ("train", "search", "retrain"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main(words) == 0 and main(["show", str(out)]) == 0 and len(fast) == 2
    assert {path: path.read_bytes() for path in before} == before
    assert "was planned for --hours 0.001" in refused(*words[:-3], "--hours=2", "--out", out)
    assert main(["search", str(out), "--search.candidates=7", "--print_config"]) == 0


def test_a_run_begun_without_a_plan_gets_none(finished_run: Path, refused: Any) -> None:
    assert "was begun without a plan" in refused("run", "--out", finished_run, "--hours=1")
    assert "--hours: expected a number" in refused("run", "digits-smoke", "--out", finished_run, "--hours=soon")
    assert "--hours: expected a number above 0" in refused("run", "digits-smoke", "--out", "nowhere", "--hours=-1")
    assert "expected a run folder" in refused("run", "digits-smoke", "--hours=1")


def test_heats_cost_their_share_of_a_training() -> None:
    with_heats = replace(WORK, trainings=(3, 0, 0), heats=tuple(heats(27, 2)), evaluated=0, validated=0, all_on=0)
    alone = replace(with_heats, heats=(), trainings=(9, 0, 0))  # two heats, each as long as the three trainings
    speeds = Speeds(networks=(0.001,), one_shot=0.001, candidate=0.001)
    first, second = (
        plan(Config(), work, speeds, hours=10, spent=0, given={"train", "search", "retrain"}).steps["retrain"].seconds
        for work in (with_heats, alone)
    )
    assert first == pytest.approx(second) and first > 0


def test_heats_are_not_charged_for_the_test_split() -> None:
    work = replace(WORK, trainings=(3, 0, 0), heats=tuple(heats(27, 2)), evaluated=0, validated=0, all_on=0)
    speeds = Speeds(networks=(1.0,), one_shot=1.0, candidate=1.0)

    def total(*, evaluated: int = 0, validated: int = 0) -> float:
        lengths = {"train", "search", "retrain"}
        evaluating = replace(work, evaluated=evaluated, validated=validated)
        made = plan(Config(), evaluating, speeds, hours=1000, spent=0, given=lengths)
        return made.steps["retrain"].seconds

    a_pass = 640 / 3 / work.retrain_batch
    assert total(validated=640) - total() == pytest.approx((27 + 9) * a_pass)
    assert total(evaluated=640) - total() == pytest.approx(3 * a_pass)


def test_a_time_that_is_too_short_names_the_heats() -> None:
    with pytest.raises(ConfigError, match=r"after 36 shorter ones of heats.*--retrain\.heats 0"):
        plan(Config(), replace(WORK, heats=tuple(heats(27, 2))), SPEEDS, hours=0.001, spent=0, given=set())


@given(st.integers(200, 50_000), st.floats(0.05, 3))
def test_trainings_that_are_too_short_are_said_with_the_time_that_would_do(examples: int, hours: float) -> None:
    work = replace(WORK, examples=examples, retrain_examples=examples)
    try:
        made = plan(Config(), work, SPEEDS, hours=hours, spent=20.0, given=())
    except ConfigError:
        return
    longer = [made.steps[name] for name in ("train", "retrain") if made.steps[name].length < MOST_EPOCHS]
    said = "".join(line for line in made.lines() if "would do" in line)
    assert bool(said) == any(step.examples < 20_000 for step in longer)
    if said:
        assert float(said.split("--hours ")[1].split()[0]) > hours / 2
