"""Rounds of trainings and the ranking that is learnt from them, on a tiny run."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import supernet
from supernet.base.files import read_json, write_json
from supernet.program.commands import main
from tests.conftest import TINY

WORDS = ("digits-smoke", *TINY, "--search.candidates=40", "--search.top=3", "--search.random=1", "--search.small=0",
         "--search.all_on=false", "--retrain.references=[]")  # fmt: skip
ROUNDS, TRAININGS = 18, "--trainings=18"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose candidates are scored; only to be read."""
    folder = tmp_path_factory.mktemp("refine") / "run"
    assert main(["train", str(folder), *WORDS]) == 0
    assert main(["search", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def refined(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same after two rounds; only to be read."""
    folder = Path(shutil.copytree(searched, tmp_path_factory.mktemp("refine") / "run"))
    assert main(["refine", str(folder), TRAININGS]) == 0
    return folder


def results(folder: Path) -> list[Path]:
    return sorted((folder / "retrain").glob("*/0/result.json"))


def relabelled(folder: Path, value: Callable[[str], float]) -> None:
    """Gives each training another validation accuracy, by its architecture."""
    for path in results(folder):
        result = read_json(path)
        write_json(path, {**result, "validation": value(result["architecture"])}, digest=True)


def separable(text: str) -> float:
    """An accuracy to which each pick adds its part."""
    return 0.3 + sum(len(word) % 7 for word in text.split()) / 200


def test_rounds_train_candidates_and_leave_the_test_split_closed(refined: Path) -> None:
    rounds = read_json(refined / "refine" / "rounds.json")["rounds"]
    facts = read_json(refined / "refine" / "refine.json")
    assert [len(texts) for texts in rounds] == [16, 2]
    trained = [read_json(path)["architecture"] for path in results(refined)]
    assert sorted(trained) == sorted(text for texts in rounds for text in texts)
    assert facts["trained"] == facts["rounds"] == ROUNDS
    (steps,) = facts["trainings"]
    assert {read_json(path)["history"][-1]["step"] for path in results(refined)} == {int(steps)}
    assert not (refined / "retrain" / "test_opened.json").exists()
    assert (refined / "refine" / "predictions.csv").exists() == facts["is_used"]


def test_a_killed_call_goes_on_to_the_same_bytes(refined: Path, searched: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "run"))
    shutil.copytree(refined / "retrain", folder / "retrain")
    rounds = read_json(refined / "refine" / "rounds.json")["rounds"]
    (folder / "refine").mkdir()
    write_json(folder / "refine" / "rounds.json", {"rounds": rounds[:1]})
    for number, path in enumerate(results(folder)):
        if number % 3 == 0 or read_json(path)["architecture"] not in rounds[0]:
            shutil.rmtree(path.parent.parent)
    assert main(["refine", str(folder), TRAININGS]) == 0
    for name in ("refine/rounds.json", "refine/refine.json", "finalists.json"):
        assert (folder / name).read_bytes() == (refined / name).read_bytes()
    validations = [[read_json(path)["validation"] for path in results(run)] for run in (folder, refined)]
    assert validations[0] == validations[1]


def test_a_better_ranking_is_used_by_top_retrain_and_show(
    refined: Path, searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(refined, tmp_path / "run"))
    relabelled(folder, separable)
    assert main(["refine", str(folder), TRAININGS, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["is_used"] and facts["tau"] > facts["plain_tau"]
    with (folder / "refine" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    predicted = np.array([float(row["predicted"]) for row in rows])
    unseen = [i for i, row in enumerate(rows) if not _has_training(folder, row["architecture"])]
    true = np.array([separable(row["architecture"]) for row in rows])
    assert stats.kendalltau(predicted[unseen], true[unseen]).statistic > 0.5
    best = [row["architecture"] for row in sorted(rows, key=lambda row: -float(row["predicted"]))]
    assert read_json(folder / "finalists.json")["Top"] == best[:3]
    assert read_json(folder / "refine" / "finalists.search.json") == read_json(searched / "finalists.json")
    assert main(["top", str(folder), "-k", "2", "--json"]) == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [row["architecture"] for row in shown["bands"][0]] == best[:2]
    assert main(["top", str(folder)]) == 0
    assert "ranked by what is learnt from 18 trainings" in " ".join(capsys.readouterr().out.split())
    assert main(["retrain", str(folder)]) == 0
    assert read_json(folder / "results.json")["refined"]["tau"] == facts["tau"]
    assert "ranked by what is learnt" in " ".join(capsys.readouterr().out.split())
    assert main(["report", str(folder)]) == 0
    assert "Ranked by what is learnt from 18 trainings" in (folder / "report.html").read_text()
    finalists = (folder / "finalists.json").read_bytes()
    assert main(["refine", str(folder), "--trainings=20"]) == 0  # more labels, but nothing is chosen any more
    assert (folder / "finalists.json").read_bytes() == finalists


def _has_training(folder: Path, text: str) -> bool:
    return any(read_json(path)["architecture"] == text for path in results(folder))


def test_where_nothing_is_learnt_scores_rank_again(refined: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(refined, tmp_path / "run"))
    relabelled(folder, separable)
    assert main(["refine", str(folder), TRAININGS]) == 0
    relabelled(folder, lambda text: 0.5)
    assert main(["refine", str(folder), TRAININGS]) == 0
    facts = read_json(folder / "refine" / "refine.json")
    assert not facts["is_used"] and "tau" not in facts
    assert not (folder / "refine" / "predictions.csv").exists()
    assert read_json(folder / "finalists.json") == read_json(folder / "refine" / "finalists.search.json")


def test_python_does_the_same(refined: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(refined, tmp_path / "run"))
    facts = read_json(folder / "refine" / "refine.json")
    assert supernet.Run(folder).refine(ROUNDS, progress=False) == facts
    with pytest.raises(ValueError, match="either trainings"):
        supernet.Run(folder).refine(ROUNDS, hours=1)


def test_a_time_gives_the_number_of_trainings(searched: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = Path(shutil.copytree(searched, tmp_path / "run"))
    assert "--hours 1e-07 is too short: a training of" in refused("refine", folder, "--hours", "1e-7")
    assert main(["refine", str(folder), "--hours", "0.5"]) == 0
    assert read_json(folder / "refine" / "refine.json")["rounds"] > 0


def test_what_cannot_be_refined(searched: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    assert "either trainings" in refused("refine", searched, "--trainings", "3", "--hours", "1")
    assert "a number from 0" in refused("refine", searched, "--trainings=-1")
    assert "is no run folder" in refused("refine", tmp_path)
    folder = Path(shutil.copytree(searched, tmp_path / "run"))
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("splits: train\n", "splits: train+validation\n"))
    assert "expected retrain.splits train" in refused("refine", folder)
    (folder / "finalists.json").unlink()
    assert "run `supernet search" in refused("refine", folder)
