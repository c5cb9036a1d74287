"""Finalists in heats, on a tiny run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.base.files import read_json
from supernet.program.commands import main
from supernet.speed import runtime as runtime_module
from supernet.speed.pool import Failure
from tests.conftest import TINY

WORDS = ("digits-smoke", *TINY, "--search.top=4", "--search.random=1", "--search.small=0", "--retrain.heats=1")


@pytest.fixture(scope="module")
def heated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a heat; only to be read."""
    folder = tmp_path_factory.mktemp("heats") / "run"
    assert main(["run", *WORDS, "--out", str(folder)]) == 0
    return folder


def test_the_best_of_a_heat_is_trained_in_full(heated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result, finalists = read_json(heated / "results.json"), read_json(heated / "finalists.json")
    (heat,) = result["heats"]
    assert {row["architecture"] for row in heat["trained"]} == set(finalists["Top"]) and heat["kept"] == 1
    values = [row["validation"] for row in heat["trained"]]
    assert values == sorted(values, reverse=True)
    assert result["groups"]["Top"]["members"] == [heat["trained"][0]["id"]]
    first = read_json(heated / "retrain" / heat["trained"][0]["id"] / "0" / "result.json")
    short = read_json(heated / "retrain" / "heats" / "1" / heat["trained"][0]["id"] / "0" / "result.json")
    assert short["history"][-1]["step"] == heat["steps"] < first["history"][-1]["step"]
    assert main(["show", str(heated)]) == 0
    assert "Top went through heats: 4 networks for" in capsys.readouterr().out
    assert main(["report", str(heated)]) == 0
    assert "Top went through heats" in (heated / "report.html").read_text()


def test_a_run_that_was_killed_in_a_heat_continues_to_the_same_bytes(heated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(heated, tmp_path / "run"))
    ids = [row["id"] for row in read_json(folder / "results.json")["heats"][0]["trained"]]
    kept = folder / "retrain" / "heats"
    for path in (kept / "1" / ids[2], *(path for path in kept.parent.iterdir() if path != kept)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "results.json").unlink()
    assert main(["retrain", str(folder)]) == 0
    again, before = read_json(folder / "results.json"), read_json(heated / "results.json")
    assert {**again, "test_split": None} == {**before, "test_split": None}


def test_finalists_at_several_sizes_are_tested_in_one_opening(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "run"
    words = ("digits-smoke", *TINY, "--search.top=2", "--search.random=1", "--search.small=0")
    asked = "--retrain.at={choice_blocks: [2]}"
    assert "retrain.at choice_blocks=2: expected settings that" in refused("run", *words, asked, "--out", folder)
    asked = "--retrain.at={filters: [4]}"
    assert "retrain.at: expected none where a run is planned" in refused(
        "run", *words, asked, "--hours=1", "--out", folder
    )
    assert main(["run", *words, "--retrain.at={filters: [2, 4]}", "--out", str(folder)]) == 0
    result = read_json(folder / "results.json")
    same, large = result["at"]
    by_id = {row["id"]: row for row in result["networks"]}
    assert [row["value"] for row in result["at"]] == [2, 4] and len(large["networks"]) == len(by_id)
    for small, other in zip(same["networks"], large["networks"], strict=True):
        assert small["test"] == by_id[small["id"]]["test"] and small["params"] < other["params"]
        trained = folder / "retrain" / "at" / "filters=4" / other["id"] / "0" / "result.json"
        assert other["validation"] == [read_json(trained)["validation"]]
    opened = read_json(folder / "retrain" / "test_opened.json")["networks"]
    assert f"{small['id']} at filters=4" in opened and small["id"] in opened
    assert large["groups"]["Top"]["networks"] == 2 and "test" in large["groups"]["Top"]
    assert main(["report", str(folder)]) == 0
    assert "Finalists at filters = 4" in (folder / "report.html").read_text()


def test_heats_are_refused_where_they_would_undo_the_search(refused: Callable[..., str], tmp_path: Path) -> None:
    for words in (["--search.objectives=score,params"], ["--search.bands=2"]):
        text = refused("run", *WORDS, *words, "--out", tmp_path / "run")
        assert "retrain.heats: 1 heats choose by the metric alone" in text


def test_folders_from_before_heats_and_sizes_are_read(heated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(heated, tmp_path / "run"))
    lines = (folder / "config.yaml").read_text().splitlines(keepends=True)
    newer = ("  heats:", "  at:", "  confirm:", "  references: null")
    (folder / "config.yaml").write_text("".join(line for line in lines if not line.startswith(newer)))
    assert main(["show", str(folder)]) == 0


def test_analysis_and_study_know_the_finalists_after_the_heats(heated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(heated, tmp_path / "run"))
    left = read_json(folder / "retrain" / "heats" / "finalists.json")
    assert left["Top"] == [read_json(folder / "results.json")["heats"][0]["trained"][0]["architecture"]]
    trained = set((folder / "retrain").glob("*/0/result.json"))
    small = ("--analysis.train.steps=1", "--analysis.per_bucket=1", "--at=filters=2")
    assert main(["analyze", str(folder), *small]) == 0
    analysis = read_json(folder / "analysis.json")
    assert analysis["at"][0]["groups"]["Top"]["networks"] == 1
    assert set((folder / "retrain").glob("*/0/result.json")) == trained
    assert analysis["groups"]["note"].startswith("Top went through heats")


def test_a_storage_that_is_not_there_is_refused_before_the_heats(
    heated: Path, refused: Callable[..., str], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(heated, tmp_path / "run"))
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "retrain")
    assert "cannot be reached" in refused("retrain", folder, "--storage=sqlite:////nowhere/x.db")
    assert not (folder / "retrain" / "heats").exists()


def test_sizes_may_change_after_the_trainings(heated: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(heated, tmp_path / "run"))
    (folder / "results.json").unlink()
    (folder / "retrain" / "test_opened.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("retrain/*/0/result.json")}
    assert main(["retrain", str(folder), "--retrain.at={filters: [3]}"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(folder.glob("retrain/at/filters=3/*/0/result.json"))) == len(before)


def test_a_training_that_workers_cannot_do_is_left_out_and_said(
    run_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A stand-in for workers gives up the training of one finalist; the other results are as they were."""
    before = read_json(run_folder / "results.json")
    lost = before["groups"]["Top"]["members"][-1]
    for path in (run_folder / "results.json", run_folder / "retrain" / "test_opened.json"):
        path.unlink()
    (run_folder / "retrain" / lost / "0" / "result.json").unlink()
    monkeypatch.setattr(
        runtime_module, "here", lambda threads, job, tasks, stop: [Failure("its worker died (SIGKILL)") for _ in tasks]
    )
    assert main(["retrain", str(run_folder)]) == 0
    assert "1 training failed 3 times, the first of them with its worker died (SIGKILL)" in caplog.text
    assert "1 training failed in 3 tries each, and the networks are left out" in " ".join(
        capsys.readouterr().out.split()
    )
    after = read_json(run_folder / "results.json")
    assert after["failed"] == [{"training": f"{lost}/0", "tries": 3, "error": "its worker died (SIGKILL)"}]
    assert {row["id"] for row in after["networks"]} == {row["id"] for row in before["networks"]} - {lost}
    assert all(lost not in group["members"] for group in after["groups"].values())
    tests = {row["id"]: row["test"] for row in before["networks"]}
    assert all(row["test"] == tests[row["id"]] for row in after["networks"])
