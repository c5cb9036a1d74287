"""Another search on the same one-shot model, in a new run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.base.files import read_json, sha256
from supernet.program.again import run_again
from supernet.program.commands import main
from supernet.program.folder import open_run

Refused = Callable[..., str]


def test_a_search_after_the_test_is_refused_and_told_the_way(run_folder: Path, refused: Refused) -> None:
    message = refused("search", run_folder, "--max-params", "2k")
    assert f"`supernet search {run_folder} --new OTHER`" in message
    assert "its test split was opened" in message


def test_another_search_says_that_the_test_split_was_seen(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    words = ["search", str(run_folder), "--new", str(other)]
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    assert main([*words, "--strategy", "evolution", "--search.candidates", "6"]) == 0
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before
    assert open_run(other).config.search.strategy == "evolution"
    assert main(words) == 0  # continues with the settings of the new folder
    assert "nothing to do" in capsys.readouterr().err
    shutil.rmtree(run_folder)  # the new folder needs nothing of the old one
    assert main(["retrain", str(other)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    opened = json.loads(before[run_folder / "retrain" / "test_opened.json"])
    assert f"the last at {opened['opened']} for {len(opened['networks'])} networks" in text
    seen = read_json(other / "results.json")["test_split"]["seen"]
    assert [look["networks"] for look in seen] == [opened["networks"]]
    assert main(["report", str(other)]) == 0
    assert "had opened it" in (other / "report.html").read_text(encoding="utf-8")


def test_looks_at_the_test_split_are_handed_on(run_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run = open_run(run_folder)
    run_again(run, first, run.config)
    run_again(open_run(first), second, run.config)
    assert read_json(second / "test_seen.json") == read_json(first / "test_seen.json")
    assert sha256(second / "train" / "model.safetensors") == sha256(run_folder / "train" / "model.safetensors")


def test_before_the_test_split_is_opened_nothing_was_seen(run_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_folder / "retrain")
    (run_folder / "results.json").unlink()
    run = open_run(run_folder)
    run_again(run, tmp_path / "other", run.config)
    assert not (tmp_path / "other" / "test_seen.json").exists()


def test_what_cannot_be_is_refused(run_folder: Path, tmp_path: Path, refused: Refused) -> None:
    other = tmp_path / "other"
    assert "trained with another configuration (seed" in refused("search", run_folder, "--new", other, "--seed", "5")
    assert "meets it" in refused("search", run_folder, "--new", other, "--max-params", "1")
    assert "without a recipe" in refused("search", run_folder, "digits-smoke", "--new", other)
    assert not other.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert "is no run folder" in refused("search", run_folder, "--new", tmp_path / "full")
    (run_folder / "train" / "model.safetensors").unlink()
    assert "run `supernet train" in refused("search", run_folder, "--new", other)


def test_a_folder_with_another_model_is_refused(run_folder: Path, tmp_path: Path, refused: Refused) -> None:
    other = Path(shutil.copytree(run_folder, tmp_path / "other"))
    weights = other / "train" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    assert "has another one-shot model" in refused("search", run_folder, "--new", other)
