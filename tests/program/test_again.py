"""Another search on the same one-shot model, in a new run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import supernet
from supernet.base.files import read_json, sha256
from supernet.program.again import looks, run_again
from supernet.program.commands import main
from supernet.program.folder import open_run
from tests.conftest import TINY

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
    assert "have opened it too" in (other / "report.html").read_text(encoding="utf-8")


def test_looks_at_the_test_split_are_handed_on(run_folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run = open_run(run_folder)
    run_again(run, first, run.config)
    run_again(open_run(first), second, run.config)
    assert read_json(second / "test_seen.json") == read_json(first / "test_seen.json")
    assert [look["folder"] for look in looks(open_run(second).folder)] == [str(run_folder)]
    assert sha256(second / "train" / "model.safetensors") == sha256(run_folder / "train" / "model.safetensors")


def test_before_the_test_split_is_opened_nothing_was_seen(run_folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(run_folder / "retrain")
    (run_folder / "results.json").unlink()
    run = open_run(run_folder)
    run_again(run, tmp_path / "other", run.config)
    assert read_json(tmp_path / "other" / "test_seen.json")["openings"] == []


def test_a_look_by_one_search_is_known_to_the_next(run_folder: Path, tmp_path: Path) -> None:
    run = open_run(run_folder)
    first, second = run_again(run, tmp_path / "first", run.config), run_again(run, tmp_path / "second", run.config)
    for step in ("search", "retrain"):
        assert main([step, str(first.folder)]) == 0
    known = {look["folder"] for look in looks(second.folder)}
    assert known == {str(run_folder), str(first.folder)}
    third = run_again(second, tmp_path / "third", run.config)
    assert {look["folder"] for look in looks(third.folder)} == known


def test_a_search_of_arrays_is_continued(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(300, 1, 8, 8)).astype(np.float32)
    settings = {
        "train.epochs": 1, "retrain.train.epochs": 0.5, "search.candidates": 6, "search.top_of": 4,
        "space.settings": {"filters": 1, "cells": 1, "choice_blocks": 1}, "retrain.references": [],
        "data.validation": 64,
    }  # fmt: skip
    run = supernet.run(
        "bender",
        (x, np.arange(300) % 2),
        out=tmp_path / "run",
        recipe="digits-smoke",
        settings=settings,
        progress=False,
    )
    words = ["search", str(run.folder), "--new", str(tmp_path / "other")]
    assert main([*words, "--search.candidates", "5"]) == 0 == main(words)
    shutil.rmtree(run.folder)
    (tmp_path / "other").rename(tmp_path / "moved")
    assert main(["retrain", str(tmp_path / "moved")]) == 0


def test_limits_of_what_was_trained_can_only_become_narrower(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "run"
    limited = ["--paths.distribution", "uniform", "--paths.limited", "true", "--max-params", "3k"]
    assert main(["train", str(folder), "digits-smoke", *TINY, *limited]) == 0
    assert main(["search", str(folder), "--max-params", "2k"]) == 0
    assert main(["search", str(folder), "--max-params", "2.5k"]) == 0  # narrower than in training
    for more in ([], ["--new", str(tmp_path / "other")]):
        assert "with params from 0 to 3,000 only" in refused("search", folder, *more, "--max-params", "4k")


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
