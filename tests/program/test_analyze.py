"""`supernet analyze`, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.base.files import read_json
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import space_of_run
from supernet.space.cost import cost_table
from supernet.trust.correlation import paper_points, trust
from supernet.trust.noise import designs, repeatability
from supernet.trust.probes import differences

Refused = Callable[..., str]
SHORT = (
    *("--analysis.train.epochs=0.2", "--analysis.per_bucket=5", "--analysis.repeats=2", "--analysis.removals=2"),
    "--analysis.sweep_steps=2",
)


@pytest.fixture(scope="module")
def analyzed(tmp_path_factory: pytest.TempPathFactory, finished_run: Path) -> Path:
    """A run that was analysed, with a sweep and finalists at two sizes; only to be read."""
    import shutil

    folder = Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("runs") / "analyzed"))
    assert (
        main(["analyze", str(folder), *SHORT, "--sweep", "0.01,0.3", "--analysis.sweep_steps=2", "--at", "filters=2,3"])
        == 0
    )
    return folder


def test_every_number_of_the_trust_comes_from_the_points(analyzed: Path) -> None:
    found = read_json(analyzed / "analysis.json")
    points = found["points"]
    assert len({p["id"] for p in points}) == len(points) > 2
    scores, accuracies = [p["score"] for p in points], [p["accuracies"] for p in points]
    assert all(len(repeats) == 2 for repeats in accuracies)
    for p in points:
        for repeat, value in enumerate(p["accuracies"]):
            written = read_json(analyzed / "analysis" / "networks" / p["id"] / str(repeat) / "result.json")
            assert written["validation"] == value
    again = trust(scores, accuracies, {name: [p[name] for p in points] for name in ("params", "macs")})
    assert found["trust"]["as_drawn"] == json.loads(json.dumps(again["as_drawn"]))
    assert found["trust"]["ceiling"] == json.loads(json.dumps(again["ceiling"]))
    assert found["trust"]["noise"] >= 0
    assert [(row["rate"], row["steps"]) for row in found["sweep"]] == [(0.01, 2), (0.3, 2)]
    assert (analyzed / "analysis" / "sweep" / "0.01 in 2 steps" / "model.safetensors").exists()
    assert all(len(row["scores"]) == len(points) for row in found["sweep"])
    assert found["best_rate"] is None or found["best_rate"]["best"] in (0.01, 0.3)
    course = found["divergence"]["course"]
    steps = [row["step"] for row in course]
    assert steps == sorted(steps) and steps[0] == 1
    snapshots = (analyzed / "train" / "snapshots").glob("*.safetensors")
    assert steps[-1] == max(int(path.stem) for path in snapshots)
    assert all(value >= -1e-6 for row in course for value in row["divergence"])
    # At the end of the training the course is at the points.
    by_id = {p["id"]: p["divergence"] for p in points}
    assert course[-1]["divergence"] == pytest.approx([by_id[i] for i in found["divergence"]["followed"]], abs=1e-4)
    assert {row["name"] for row in found["diagnosis"]} >= {"chance level", "co-adaptation", "unconverged"}
    assert all({"choice", "option", "everything_on", "candidates"} <= set(row) for row in found["options"])
    assert found["candidates"]["number"] == 8


def test_again_trains_nothing_and_says_the_same(analyzed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read_json(analyzed / "analysis.json")
    results = list((analyzed / "analysis").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in results]
    assert main(["analyze", str(analyzed), *SHORT]) == 0
    assert read_json(analyzed / "analysis.json") == before  # rates and sizes of the first call too
    assert [path.stat().st_mtime_ns for path in results] == times
    out = capsys.readouterr().out
    assert out.startswith(" ".join(before["trust"]["verdict"].split()[:3]))
    assert len(out.splitlines()) <= 40
    assert all(len(line) < 80 for line in out.splitlines())


def test_finalists_at_each_size(analyzed: Path, refused: Refused) -> None:
    """Table 1 at several F: the groups of finalists.json, from scratch, judged on the validation split."""
    found, results = (read_json(analyzed / name) for name in ("analysis.json", "results.json"))
    groups = read_json(analyzed / "finalists.json")
    same, larger = found["at"]
    assert [(row["setting"], row["value"]) for row in (same, larger)] == [("filters", 2), ("filters", 3)]
    # At the run's own size nothing is trained again.
    assert same["folder"] == "retrain"
    validations = {row["id"]: row["validation"] for row in results["networks"]}
    assert {row["id"]: row["validation"] for row in same["networks"]} == validations
    assert larger["folder"] == "analysis/at/filters=3"
    by_id = {row["id"]: row for row in larger["networks"]}
    smaller = {row["id"]: row["params"] for row in same["networks"]}
    for name, row in by_id.items():
        written = read_json(analyzed / larger["folder"] / name / "0" / "result.json")
        assert row["validation"] == [written["validation"]]
        assert row["params"] > smaller[name]
        assert "test" not in row
    assert {name: len(members) for name, members in groups.items()} == {
        name: row["networks"] for name, row in larger["groups"].items()
    }
    for name, row in larger["groups"].items():
        members = [by_id[member] for member in row["members"]]
        assert [member["architecture"] for member in members] == groups[name]
        assert row["validation"]["mean"] == pytest.approx(np.mean([member["validation"] for member in members]))
    values = {name: [np.mean(by_id[i]["validation"]) for i in row["members"]] for name, row in larger["groups"].items()}
    assert larger["differences"] == json.loads(json.dumps(differences(values)))
    opened = read_json(analyzed / "retrain" / "test_opened.json")
    assert results["test_split"] == opened  # not opened again
    for text in ("filters", "filters=", "=16", "filters=[", "filters={}"):
        assert "--at: expected a setting of the space and its values" in refused(
            "analyze", analyzed, *SHORT, "--at", text
        )
    assert "no 'filter'; did you mean 'filters'?" in refused("analyze", analyzed, *SHORT, "--at", "filter=2")
    assert "expected a whole number, got 'x'" in refused("analyze", analyzed, *SHORT, "--at", "filters=3,x")
    assert "leave the choices as they are" in refused("analyze", analyzed, *SHORT, "--at", "choice_blocks=2")


def test_what_another_retraining_changes_is_set_aside(analyzed: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(analyzed, tmp_path / "run"))
    (folder / "results.json").unlink()
    (folder / "retrain" / "test_opened.json").unlink()
    assert main(["search", str(folder), "--retrain.train.lr=0.01"]) == 0
    assert (folder / "analysis" / "networks").is_dir()  # trained on a schedule of their own
    assert sorted(path.name for path in folder.glob("analysis/at*")) == ["at.before-1"]
    assert not (folder / "retrain").exists()
    assert read_json(folder / "analysis.json.before-1") == read_json(analyzed / "analysis.json")
    assert main(["search", str(folder), "--analysis.repeats=1"]) == 0
    # Another number of repeats leaves the trainings as they are, another length does not.
    assert sorted(path.name for path in (folder / "analysis").iterdir()) == ["at.before-1", "networks", "sweep"]
    assert main(["search", str(folder), "--analysis.train.epochs=0.3"]) == 0
    assert sorted(path.name for path in (folder / "analysis").iterdir()) == [
        "at.before-1",
        "networks.before-1",
        "sweep",
    ]


def test_published_accuracies(analyzed: Path, tmp_path: Path, refused: Refused) -> None:
    points = read_json(analyzed / "analysis.json")["points"]
    file = tmp_path / "truth.csv"
    rows = [f"{p['architecture']},{90 + i}" for i, p in enumerate(points)]
    file.write_text("\n".join(["architecture,published", *rows]) + "\n")
    assert main(["analyze", str(analyzed), "--truth", str(file), "--column", "published"]) == 0
    found = read_json(analyzed / "analysis.json")
    assert found["points"] == points  # what was there stays
    assert [p["score"] for p in found["truth"]["points"]] == pytest.approx([p["score"] for p in points])
    assert [p["accuracies"] for p in found["truth"]["points"]] == [[90 + i] for i in range(len(points))]
    assert found["truth"]["trust"]["n"] == len(points)
    assert "no column 'other'; there are: architecture, published" in refused(
        "analyze", analyzed, "--truth", file, "--column", "other"
    )
    assert "--truth and --column: expected both" in refused("analyze", analyzed, "--truth", file)
    file.write_text("architecture,published\nnonsense,1\n")
    assert f"{file}, line 2: expected words CHOICE=OPTION" in refused(
        "analyze", analyzed, "--truth", file, "--column", "published"
    )


def test_a_bonus_for_size_is_in_what_is_compared_with_published_accuracies(run_folder: Path, tmp_path: Path) -> None:
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace("size_bonus: 0.0", "size_bonus: 0.5"))
    (run_folder / "settings.json").unlink()  # or the edited configuration is refused
    space = space_of_run(open_run(run_folder))
    cells = space.sample_distinct(5, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "truth.csv"
    file.write_text("\n".join(["architecture,published", *(f"{cell},{i}" for i, cell in enumerate(cells))]) + "\n")
    assert main(["analyze", str(run_folder), "--truth", str(file), "--column", "published"]) == 0
    found = [point["score"] for point in read_json(run_folder / "analysis.json")["truth"]["points"]]
    (scores,) = run_folder.glob("analysis/truth-*.csv")
    accuracies = [float(line.split(",")[1]) for line in scores.read_text().splitlines()[1:]]
    doublings = cost_table(space).doublings(cells)
    assert found == pytest.approx(list(np.array(accuracies) + 0.5 * doublings))
    assert doublings.max() <= 0 and len(set(doublings)) > 1


def test_a_file_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused) -> None:
    file = tmp_path / "points.csv"
    points = np.array(paper_points()["figure5"])
    file.write_text("score,accuracy\n" + "\n".join(f"{x},{y}" for x, y in points) + "\n")
    assert main(["analyze", str(file), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["trust"]["as_drawn"]["spearman"]["value"] == pytest.approx(0.94, abs=0.005)
    assert main(["analyze", str(file)]) == 0
    assert capsys.readouterr().out.startswith("Scores predict: of two networks")
    file.write_text("score,other\n1,2\n")
    assert "expected columns score and accuracy" in refused("analyze", file)
    file.write_text("score,accuracy\n1,x\n")
    assert f"{file}, line 2: expected a number in column 'accuracy', got 'x'" in refused("analyze", file)
    file.write_text("")
    assert f"{file}: no table in this file" in refused("analyze", file)


def test_a_plan_comes_from_networks_that_were_trained_twice(
    analyzed: Path, finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    points = read_json(analyzed / "analysis.json")["points"]
    assert main(["analyze", str(analyzed), *SHORT, "--plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    (pilot,) = [row for row in plan["pilots"] if row["source"] == "analysis"]
    taus = repeatability([point["accuracies"] for point in points])
    assert taus is not None
    assert pilot["networks"] == len(points)
    assert pilot["repeatability"] == taus
    assert [row["repeats"] for row in pilot["designs"]] == [1, 2, 3, 5]
    assert pilot["designs"] == [
        {**row, "seconds": None if row["trainings"] is None else pytest.approx(row["trainings"] * pilot["seconds"])}
        for row in designs(taus["value"] or 0.0, plan["true_tau"], (1, 2, 3, 5))
    ]
    assert main(["analyze", str(analyzed), *SHORT, "--plan"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("To tell whether scores predict, train about ", "Trainings of one network"))
    assert all(len(line) < 80 for line in out.splitlines())
    text = refused("analyze", finished_run, "--plan")
    assert "trains one network of each bucket of the score twice" in text
    assert "--plan: expected without --sweep" in refused("analyze", finished_run, "--plan", "--sweep", "0.1")


def test_folders_that_cannot_be_analysed(tmp_path: Path, run_folder: Path, refused: Refused) -> None:
    assert "is no run folder" in refused("analyze", tmp_path / "nothing")
    assert "--sweep: expected dropout rates" in refused("analyze", run_folder, "--sweep", "0.1,two")
    (run_folder / "analysis.json").write_text("{")
    assert "analysis.json is damaged" in refused("analyze", run_folder)
    (run_folder / "analysis.json").unlink()
    (run_folder / "finalists.json").unlink()
    assert f"run `supernet search {run_folder}` first" in refused("analyze", run_folder)
    (run_folder / "train" / "model.safetensors").unlink()
    (run_folder / "finalists.json").write_text("{}")
    assert f"run `supernet train {run_folder}` first" in refused("analyze", run_folder)


def test_a_search_by_divergence_needs_no_labels(finished_run: Path, tmp_path: Path) -> None:
    """Equal weights and other labels give the same ranking by 'kl'."""
    import shutil

    from tests.conftest import TINY

    folder = tmp_path / "kl"
    words = [word for word in TINY if not word.startswith("--search.examples")]
    assert main(["train", str(folder), "digits-smoke", *words, "--score", "kl"]) == 0
    shutil.copy(finished_run / "train" / "model.safetensors", folder / "train" / "model.safetensors")
    assert main(["search", str(folder)]) == 0
    from supernet.program.load import load_one_shot, load_run
    from supernet.search.table import read_candidates

    model = load_one_shot(load_run(open_run(folder)))
    found = read_candidates(folder / "candidates.sqlite", model.space)
    assert len(found) == 8
    for candidate in found:
        assert candidate.value <= 1e-6
        assert candidate.value == pytest.approx(-candidate.loss, abs=1e-5)
        assert candidate.examples == 64


def test_a_search_by_loss_ranks_by_the_negative_loss(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from supernet.search.orders import standing
    from supernet.search.table import read_candidates
    from tests.conftest import TINY

    folder = tmp_path / "loss"
    assert main(["train", str(folder), "digits-smoke", *TINY, "--score", "loss"]) == 0
    shutil.copy(finished_run / "train" / "model.safetensors", folder / "train" / "model.safetensors")
    assert main(["search", str(folder)]) == 0
    assert main(["retrain", str(folder)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "score: of the one-shot model on the validation split: negative loss" in text
    space = space_of_run(open_run(folder))
    found = read_candidates(folder / "candidates.sqlite", space)
    assert [c.value for c in found] == pytest.approx([-c.loss for c in found], abs=1e-5)
    assert sorted(found, key=standing) == sorted(found, key=lambda c: c.loss)
    assert main(["report", str(folder)]) == 0
    assert "score: negative loss (nats)" in (folder / "report.html").read_text()
