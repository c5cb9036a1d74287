"""What is said and checked before the work begins."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from supernet.program import forecast
from supernet.program.commands import main
from supernet.program.plan import bytes_text
from tests.conftest import TINY

Refused = Callable[..., str]


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_dry_run_says_what_is_left_and_writes_nothing(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "_MEASURING", 0.1)
    folder = tmp_path / "new"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY, "--dry-run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts["steps"]) == ["train", "search", "retrain"]
    assert facts["seconds"] == pytest.approx(facts["preparing"] + sum(s["seconds"] for s in facts["steps"].values()))
    assert all(step["seconds"] > 0 for step in facts["steps"].values())
    assert facts["steps"]["train"]["length"] == pytest.approx(1, abs=0.01)
    assert facts["steps"]["search"]["length"] == 8
    assert facts["memory"] > 10_000_000
    assert facts["slowed"] >= 1
    assert not folder.exists()
    written = sum(path.stat().st_size for path in finished_run.rglob("*") if path.is_file())
    assert written / 3 < facts["disk"] < written * 3

    shutil.copytree(finished_run, folder)
    for name in ("finalists.json", "results.json"):
        (folder / name).unlink()
    before = contents(folder)
    for words, steps in ((["run", "--out"], ["search", "retrain"]), (["train"], []), (["retrain"], ["retrain"])):
        assert main([*words, str(folder), "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert [name for name in ("train", "search", "retrain") if f"\n  {name} " in out] == steps
        assert "in all" in out
    assert contents(folder) == before


def test_a_forecast_on_a_busy_machine_says_what_it_would_be_on_an_idle_one() -> None:
    made = forecast.Forecast(steps={}, preparing=600, memory=1, disk=1, free=1)
    assert "without other programs" not in "\n".join(made.lines())
    assert "about 2 min without other programs" in "\n".join(replace(made, slowed=5.0).lines())


def test_a_dry_run_of_an_analysis_counts_the_trainings_that_are_left(
    run_folder: Path, refused: Refused, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "_MEASURING", 0.1)
    words = ["analyze", str(run_folder), "--analysis.per_bucket=100", "--analysis.repeats=1", "--dry-run", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["analyze"]["times"] == 8  # all candidates
    results = [json.loads((run_folder / "results.json").read_text())["networks"][0]["id"], "of no candidate"]
    for name in results:
        (run_folder / "analysis" / "networks" / name / "0").mkdir(parents=True)
        (run_folder / "analysis" / "networks" / name / "0" / "result.json").write_text("{}")
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["steps"]["analyze"]["times"] == 7
    (run_folder / "finalists.json").unlink()
    assert "run `supernet search" in refused(*words)


def test_what_a_later_step_needs_is_checked_first(
    finished_run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError

    folder = tmp_path / "X"
    for name in ("supernet.data.splits.load", "supernet.program.steps.load_run"):
        monkeypatch.setattr(name, never)
    run = ("run", "digits-smoke", "--out", folder)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "optuna", None)
        for strategy in ("tpe", "nsga2"):
            message = refused(*run, "--strategy", strategy, "--search.strategy_settings={}")
            assert f"{strategy!r} needs Optuna" in message and "pip install 'supernet[optuna]'" in message
        assert "pip install 'supernet[optuna]'" in refused(*run, "--storage", "sqlite:///x.sqlite")
        assert main(["run", "--out", str(finished_run)]) == 0
    pytest.importorskip("optuna")
    for address in ("sqlite:////nowhere/x.sqlite", "postgresql+psycopg://me:secret@127.0.0.1:1/x", "nonsense"):
        message = refused(*run, "--storage", address)
        assert "cannot be reached" in message and "secret" not in message
        assert "cannot be reached" in refused("retrain", folder, "--storage", address)
    assert not folder.exists()


class _Usage(NamedTuple):
    total: int = 10**9
    used: int = 10**9
    free: int = 1000


def test_a_disk_without_room_is_noticed_before_the_training(
    tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Any) -> _Usage:
        return _Usage()

    monkeypatch.setattr(shutil, "disk_usage", usage)
    message = refused("run", "digits-smoke", "--out", tmp_path / "X", *TINY)
    assert "the disk has 1 kB free: make room" in message
    assert not (tmp_path / "X" / "train").exists()


def test_amounts_of_bytes_are_short() -> None:
    assert [bytes_text(n) for n in (100, 2_700_000, 527e6, 1e9, 55.4e9)] == [
        "0.1 kB",
        "2.7 MB",
        "527 MB",
        "1 GB",
        "55 GB",
    ]
