"""Runs by a joint rank, and without a one-shot model."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import load, space_of_run
from supernet.search.orders import standing
from supernet.search.table import read_candidates, read_ranking
from tests.conftest import TINY

Refused = Callable[..., str]
ANALYSIS = ("--analysis.per_bucket", "1", "--analysis.train.epochs", "0.5", "--analysis.removals", "2")


def test_a_run_without_a_one_shot_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, refused: Refused
) -> None:
    folder = tmp_path / "run"
    caplog.set_level("INFO")
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY, "--score", "none", "--search.rank_sample=6"]) == 0
    out, err = capsys.readouterr()
    assert "train: is skipped: search.score none asks no one-shot model" in err
    assert "ranked by size 1, jacov 0.5" in caplog.text
    assert "no one-shot model is trained or asked" in caplog.text
    assert "score: the joint rank" in " ".join(out.split())
    assert not (folder / "train").exists()
    assert not (folder / "sample.sqlite").exists()
    space = space_of_run(open_run(folder))
    candidates = read_candidates(folder / "candidates.sqlite", space)
    assert len({c.score for c in candidates}) > 1
    results = json.loads((folder / "results.json").read_text())
    best = max(candidates, key=lambda c: c.score).architecture.id
    assert results["score"] == "rank"
    assert best in {row["id"] for row in results["networks"]} or len(results["groups"]["Top"]["members"]) < 4
    assert load(folder)
    for command in ("report", "show", "top"):
        assert main([command, str(folder)]) == 0
    capsys.readouterr()
    caplog.clear()
    assert main(["analyze", str(folder), *ANALYSIS]) == 0
    trust = json.loads((folder / "analysis.json").read_text())
    assert {"jacov", "synflow", "layers"} <= set(trust["trust"]["floor"])
    assert set(trust["parts"]) == {"size", "jacov"}
    assert trust["divergence"] is None
    assert "need a trained one-shot model" in caplog.text
    assert main(["report", str(folder)]) == 0
    texts = tmp_path / "texts"
    texts.write_text(str(candidates[0].architecture))
    assert "searched with search.score none" in refused(
        "score", folder, "--architectures", texts, "--out", tmp_path / "s.csv"
    )


def test_a_search_by_a_joint_rank(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    caplog.set_level("INFO")
    rank = "--search.rank={score: 1, size: 1, synflow: 0.5}"
    assert main(["search", str(finished_run), "--new", str(folder), rank, "--search.rank_sample=6"]) == 0
    assert "they do not race" in caplog.text
    space = space_of_run(open_run(folder))
    candidates = read_candidates(folder / "candidates.sqlite", space)
    ranking = read_ranking(folder / "candidates.sqlite")
    assert ranking is not None
    assert all(c.score == ranking.joint(c.parts) for c in candidates)
    plain = read_candidates(finished_run / "candidates.sqlite", space)
    assert {c.architecture: c.value for c in candidates if c.examples == 64} == {
        c.architecture: c.value for c in plain if c.examples == 64
    }
    assert main(["top", str(folder), "--out", str(tmp_path / "all.csv")]) == 0
    assert "one-shot score" in capsys.readouterr().out
    with (tmp_path / "all.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["architecture"]: float(row["joint"]) for row in rows} == {
        str(c.architecture): c.score for c in candidates
    }
    assert main(["retrain", str(folder)]) == 0
    results = json.loads((folder / "results.json").read_text())
    joint = {c.architecture.id: c.score for c in sorted(candidates, key=standing)}
    assert all(row["score"] == joint[row["id"]] for row in results["networks"] if row["id"] in joint)
    (all_on,) = results["groups"]["All On"]["members"]
    assert 0 < next(row["score"] for row in results["networks"] if row["id"] == all_on) < 3
    assert main(["analyze", str(folder), *ANALYSIS]) == 0
    assert "Tau of the joint rank falls without score by" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(folder)]) == 0
    assert "joint rank" in (folder / "report.html").read_text()
    # Published accuracies judge what the search ranks by.
    published = tmp_path / "published.csv"
    published.write_text("architecture,accuracy\n" + "".join(f"{c.architecture},{c.macs}\n" for c in candidates))
    assert main(["analyze", str(folder), "--truth", str(published), "--column", "accuracy"]) == 0
    points = json.loads((folder / "analysis.json").read_text())["truth"]["points"]
    scored = {str(c.architecture): c.score for c in candidates if c.examples == max(c.examples for c in candidates)}
    assert {p["architecture"]: p["score"] for p in points if p["architecture"] in scored} == pytest.approx(scored)


def test_a_folder_of_an_earlier_version_is_read(run_folder: Path) -> None:
    space = space_of_run(open_run(run_folder))
    before = read_candidates(run_folder / "candidates.sqlite", space)
    with closing(sqlite3.connect(run_folder / "candidates.sqlite")) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"candidates", "rounds", "meta"}  # as before there were measures
    config = (run_folder / "config.yaml").read_text().splitlines()
    newer = ("  rank:", "  rank_sample:", "  measures:")
    (run_folder / "config.yaml").write_text("\n".join(line for line in config if not line.startswith(newer)))
    assert read_candidates(run_folder / "candidates.sqlite", space) == before
    assert main(["top", str(run_folder)]) == 0


def test_a_measure_that_does_not_apply_is_refused_before_training(tmp_path: Path, refused: Refused) -> None:
    settings = "--space.settings={width: 4, depths: [1], activations: [gelu], blocks: [basic]}"
    message = refused(
        "train", tmp_path / "run", "digits-smoke", "--space.name=convnet", settings, "--search.measures=[nwot]"
    )
    assert message.startswith("search.measures, search.rank: nwot: expected a network with ReLUs, and none was run")
    assert not (tmp_path / "run" / "train").exists()
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    message = refused("run", "images", "--out", tmp_path / "run", "--data.name=digits", "--score=none")
    assert message.startswith("search.score none: a search without a one-shot model cannot be planned for a time")
