import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from supernet import load
from supernet.base.files import read_json, write_weights
from supernet.data import splits as data
from supernet.program import retrain as retraining
from supernet.program.commands import main
from supernet.program.config import SpaceConfig, make_space
from supernet.program.folder import RunError, open_run
from supernet.program.load import load_one_shot, load_run
from supernet.retrain.results import summarise
from supernet.search.table import read_candidates
from tests.conftest import TINY

SPACE = make_space(SpaceConfig(settings={"filters": 1, "cells": 1, "choice_blocks": 1}), 10, "float32 1 8 8")
MEMBERS = [SPACE.at(i) for i in range(4)]
ALL_ON = SPACE.everything_on()


def rows(validation: list[list[float]], test: list[list[float]]) -> list[dict[str, Any]]:
    return [
        {
            "id": architecture.id,
            "architecture": str(architecture),
            **dict.fromkeys(("params", "params_without_norm", "macs"), 10 + i),
            "score": 0.1 * i,
            "score_loss": 1.0,
            "validation": validation[i],
            "test": test[i],
        }
        for i, architecture in enumerate([*MEMBERS, ALL_ON])
    ]


GROUPS = {"Top": MEMBERS[:3], "Small": [MEMBERS[0]], "Random": MEMBERS[2:], "All On": [ALL_ON]}
VALIDATION = [[0.5, 0.7], [0.9, 0.9], [0.2, 0.2], [0.1, 0.3], [1.0, 1.0]]
OPENED = {"opened": "now"}


def order(result: dict[str, Any]) -> list[tuple[str, int | None]]:
    return [(row["id"], row.get("rank")) for row in result["networks"]]


def test_ranking_never_uses_the_test() -> None:
    test = [[0.1], [0.2], [0.9], [0.8], [0.3]]
    first = summarise(GROUPS, rows(VALIDATION, test), OPENED)
    second = summarise(GROUPS, rows(VALIDATION, test[::-1]), OPENED)
    assert order(first) == order(second)
    assert first["rank_correlation"] == second["rank_correlation"]
    # Equal validation accuracies (networks 2 and 3) are ranked by the score.
    assert order(first) == [
        *((MEMBERS[i].id, rank) for rank, i in enumerate((1, 0, 3, 2), start=1)),
        (ALL_ON.id, None),
    ]


def test_all_on_stands_outside() -> None:
    result = summarise(GROUPS, rows(VALIDATION, VALIDATION), OPENED)
    assert "rank" not in result["networks"][-1]
    assert result["rank_correlation"]["n"] == 4


def test_without_validation_the_score_ranks() -> None:
    result = summarise(GROUPS, rows([[]] * 5, VALIDATION), OPENED)
    assert [row["id"] for row in result["networks"][:4]] == [a.id for a in reversed(MEMBERS)]
    assert "validation" not in result["groups"]["Top"]
    assert result["rank_correlation"] == {"n": 0, "spearman": None, "kendall": None, "kendall_interval": None}


def test_an_accuracy_of_nothing_is_an_accuracy() -> None:
    result = summarise({"Top": MEMBERS[:2]}, rows([[0.0], [0.05], [], [], []], VALIDATION)[:2], OPENED)
    assert [row["id"] for row in result["networks"]] == [MEMBERS[1].id, MEMBERS[0].id]
    flipped = rows([[0.05], [0.0], [], [], []], VALIDATION)[:2]  # the second has the better score
    assert summarise({"Top": MEMBERS[:2]}, flipped, OPENED)["networks"][0]["id"] == MEMBERS[0].id


def test_groups_have_mean_and_deviation() -> None:
    top = summarise(GROUPS, rows(VALIDATION, VALIDATION), OPENED)["groups"]["Top"]
    assert top["networks"] == 3
    assert top["params"] == {"mean": 11, "deviation": 1}
    means = torch.tensor([0.6, 0.9, 0.2])
    assert top["validation"]["mean"] == pytest.approx(float(means.mean()))
    assert top["validation"]["deviation"] == pytest.approx(float(means.std()))


def test_result_of_a_run(finished_run: Path) -> None:
    result = read_json(finished_run / "results.json")
    assert list(result["groups"]) == ["Top", "Small", "Random", "All On"]
    opened = read_json(finished_run / "retrain" / "test_opened.json")
    assert result["test_split"] == opened
    assert opened["networks"] == sorted(row["id"] for row in result["networks"])
    ranked = [row for row in result["networks"] if "rank" in row]
    assert [row["rank"] for row in ranked] == list(range(1, len(ranked) + 1))
    validation = [row["validation"][0] for row in ranked]
    assert validation == sorted(validation, reverse=True)


def test_load_gives_a_network(finished_run: Path) -> None:
    network = load(finished_run)
    assert not network.training
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    with pytest.raises(RunError, match="rank: expected from 1 to"):
        load(finished_run, rank=99)


def test_summarise_takes_groups_as_they_are() -> None:
    groups = copy.deepcopy(GROUPS)
    summarise(groups, rows(VALIDATION, VALIDATION), OPENED)
    assert groups == GROUPS


def test_the_test_split_is_not_reached_before_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is opened all networks are trained and scored; until then its images are not read."""
    folder, seen = tmp_path / "run", []
    real = data.open_test
    known: set[bytes] = set()

    def opening(*arguments: Any, **named: Any) -> data.Split:
        groups = read_json(folder / "finalists.json")
        trained = {read_json(path)["architecture"] for path in (folder / "retrain").rglob("result.json")}
        seen.append(trained == {text for members in groups.values() for text in members})
        assert not (folder / "results.json").exists()
        test = real(*arguments, **named)
        assert not known & {image.numpy().tobytes() for image in test.examples}
        return test

    def loading(*arguments: Any, **named: Any) -> data.Data:
        loaded = load_data(*arguments, **named)
        for split in (loaded.train, loaded.validation):
            known.update(image.numpy().tobytes() for image in split.examples)
        return loaded

    load_data = data.load
    monkeypatch.setattr(retraining, "open_test", opening)
    monkeypatch.setattr(data, "load", loading)
    for step in ("train", "search"):
        assert main([step, str(folder), *(("digits-smoke", *TINY) if step == "train" else ())]) == 0
        assert not seen
    assert main(["retrain", str(folder)]) == 0
    assert seen == [True]


def test_scores_of_another_one_shot_model_are_not_taken_for_this_one(
    run_folder: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    texts, out = tmp_path / "texts", tmp_path / "s.csv"
    texts.write_text("\n".join(read_json(run_folder / "finalists.json")["Random"]))
    words = ("score", run_folder, "--architectures", texts, "--out", out)
    assert main([str(word) for word in words]) == 0
    before = out.read_bytes()
    assert main([str(word) for word in words]) == 0
    assert out.read_bytes() == before
    weights = run_folder / "train" / "model.safetensors"
    model = load_one_shot(load_run(open_run(run_folder)))
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    write_weights(weights, model)
    assert "another one-shot model" in refused(*words)
    assert out.read_bytes() == before


def test_a_folder_name_with_special_characters(tmp_path: Path) -> None:
    folder = tmp_path / "r#1 ?%41"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY]) == 0
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_other_settings_for_retraining_until_the_test_split_is_opened(
    run_folder: Path, refused: Callable[..., str]
) -> None:
    again = ("run", "--out", str(run_folder), "--retrain.train.lr", "0.01")
    assert "another configuration (retrain.train.lr" in refused(*again)
    (run_folder / "results.json").unlink()
    (run_folder / "retrain" / "test_opened.json").unlink()
    before = sorted(path.name for path in (run_folder / "retrain").iterdir())
    networks = [name for name in before if name != "references.json"]
    assert main(list(again)) == 0
    assert sorted(path.name for path in (run_folder / "retrain.before-1").iterdir()) == before
    assert len(read_json(run_folder / "results.json")["networks"]) == len(networks)


def test_a_configuration_edited_by_hand_does_not_open_the_test_split_again(
    run_folder: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The ids of the networks are the same; their trainings are not."""
    (run_folder / "results.json").unlink()
    before = read_json(run_folder / "retrain" / "test_opened.json")
    assert main(["retrain", str(run_folder)]) == 0, "a test that was killed goes on"
    (run_folder / "results.json").unlink()
    config = run_folder / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("device: cpu", "device: auto"))
    assert main(["retrain", str(run_folder)]) == 0, "another machine may finish it"
    (run_folder / "results.json").unlink()
    config.write_text(text.replace("top_of: 4", "top_of: 5"))
    assert "config.yaml was edited since `supernet search` began" in refused("retrain", run_folder)
    (run_folder / "settings.json").unlink()  # as in a folder of an earlier version
    assert "with another configuration; it is opened once" in refused("retrain", run_folder)
    (run_folder / "settings.json").unlink()
    config.write_text(text)
    (weights,) = list(run_folder.glob("retrain/*/0/weights.safetensors"))[:1]
    tensors = {name: tensor + 1 for name, tensor in load_file(weights).items()}
    save_file(tensors, weights)
    assert main(["retrain", str(run_folder)]) == 2
    assert f"{weights.relative_to(run_folder)}; it is opened once" in capsys.readouterr().err
    assert read_json(run_folder / "retrain" / "test_opened.json") == before


def test_the_data_are_described_once_before_any_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        assert main(["train", str(tmp_path / "run"), "digits-smoke", *TINY]) == 0
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("data: ")]
    (line,) = lines
    assert line.startswith("data: 1,797 images of 10 classes (174 to 183 each), 8x8 grey; train ")
    assert read_json(tmp_path / "run" / "data.json")["summary"] == line.removeprefix("data: ")


def test_workers_give_the_same_results_as_one_process(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY, "--runtime.workers=2"]) == 0
    paths = [path.relative_to(finished_run) for path in finished_run.rglob("weights.safetensors")]
    assert len(paths) > 3
    for path in [*paths, Path("train/model.safetensors"), Path("finalists.json")]:
        assert (folder / path).read_bytes() == (finished_run / path).read_bytes(), path
    one, two = (read_json(place / "results.json") for place in (finished_run, folder))
    assert {**one, "test_split": None} == {**two, "test_split": None}
    tables = [read_candidates(place / "candidates.sqlite", None) for place in (finished_run, folder)]
    assert tables[0] == tables[1]
