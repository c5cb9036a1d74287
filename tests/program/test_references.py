"""Runs with references: a tiny one, in which the winner loses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import supernet
from supernet.base.files import read_json, write_json
from supernet.data.task import accuracy
from supernet.export.reading import load_export
from supernet.program import references
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.program.plan import work_of
from supernet.retrain.trainings import RetrainConfig
from supernet.search.latency import latency_costs
from supernet.search.limits import LimitsConfig
from supernet.space.cost import cost_table
from supernet.spaces.references import cost_of, reference
from supernet.speed.runtime import RuntimeConfig, start
from tests.conftest import TINY
from tests.export.conftest import in_haste, in_this_process  # noqa: F401  fixtures

WORDS = ("digits-smoke", *TINY, "--max-params=6k", "--retrain.train.epochs=2", "--reference=resnet8")


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose winner loses; only to be read."""
    folder = tmp_path_factory.mktemp("references") / "run"
    assert main(["run", *WORDS, "--retrain.confirm=2", "--out", str(folder)]) == 0
    return folder


def weights(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.glob("retrain/**/weights.safetensors"))}


def test_a_winner_that_loses_is_said_first(lost: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = read_json(lost / "results.json")
    text = result["against_reference"]["text"]
    assert text.startswith(("The winner does not beat the reference, resnet8 at", "The winner cannot be told from"))
    assert text.endswith("The reference is what `supernet export DIR` writes.")
    assert main(["show", str(lost)]) == 0
    assert text.startswith(capsys.readouterr().out.splitlines()[0])
    assert main(["show", str(lost), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["against_reference"]["text"] == text
    assert main(["report", str(lost)]) == 0
    page = (lost / "report.html").read_text()
    assert page.index(text[:40]) < page.index("<h2>") and "Reference" in page


def test_only_the_winner_and_the_reference_are_trained_again(lost: Path) -> None:
    result = read_json(lost / "results.json")
    winner, others = result["networks"][0], result["networks"][1:]
    known = next(row for row in others if "reference" in row)
    assert result["offered"] == known["id"] == "resnet8-w4" and "rank" not in known and known["score"] is None
    assert len(winner["test"]) == len(known["test"]) == result["against_reference"]["trainings"] == 2
    assert {len(row["test"]) for row in others if row is not known} == {1}
    assert {len(row["validation"]) for row in result["networks"]} == {1}  # ranks come from the first trainings alone
    assert len(weights(lost)) == len(result["networks"]) + 2


def test_the_reference_is_loaded(lost: Path) -> None:
    run = supernet.Run(lost)
    network, row = run.best
    assert row["reference"] == "resnet8" and row["params"] == sum(p.numel() for p in network.parameters())
    assert run.against_reference == run.results["against_reference"]
    data = load_run(open_run(lost)).data
    with torch.inference_mode():
        inputs, targets = data.validation.examples, data.validation.targets
        pixels = supernet.data.splits.normalise(inputs, data.mean, data.std)
        assert accuracy(network(pixels), targets) == pytest.approx(row["validation"][0], abs=0.004)
        assert torch.equal(supernet.load(lost)(pixels), network(pixels))
        assert not torch.equal(supernet.load(lost, rank=1)(pixels), network(pixels))


@pytest.mark.usefixtures("in_this_process")
def test_the_reference_is_exported(lost: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    out, first = tmp_path / "out", tmp_path / "first"
    assert main(["export", str(lost), "--out", str(out), "--to=python,safetensors"]) == 0
    facts, card = read_json(out / "export.json"), (out / "README.md").read_text()
    assert facts["finalist"]["reference"] == "resnet8" and facts["space"] == "convnet"
    assert facts["parity"]["forms"]["python"]["difference"] <= 1e-4
    text = read_json(lost / "results.json")["against_reference"]["text"]
    assert text in card and "The reference of a run of supernet" in card
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(load_export(out)(x), supernet.load(lost)(x), rtol=1e-4, atol=1e-4)
    assert main(["export", str(lost), "--out", str(first), "--to=safetensors", "--rank=1"]) == 0
    assert read_json(first / "export.json")["finalist"]["rank"] == 1
    assert "found in its space" in (first / "README.md").read_text()
    assert main(["export", str(lost), "--out", str(first), "--to=safetensors", "--architecture=resnet8"]) == 0
    assert read_json(first / "export.json")["id"] == facts["id"]
    assert "can inherit no weights" in refused("export", lost, "--out", out, "--weights=inherited")


def test_a_run_killed_before_its_references_continues_to_the_same_bytes(lost: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lost, tmp_path / "run"))
    shutil.rmtree(folder / "retrain" / "references")
    for name in ("results.json", "retrain/test_opened.json", "retrain/references.json"):
        (folder / name).unlink()
    assert main(["retrain", str(folder)]) == 0
    assert weights(folder) == weights(lost)
    again, before = (read_json(place / "results.json") for place in (folder, lost))
    assert {**again, "test_split": None} == {**before, "test_split": None}


def test_without_references_finalists_are_the_same(lost: Path, tmp_path: Path) -> None:
    """Other references leave the trainings of the finalists where they are."""
    folder = Path(shutil.copytree(lost, tmp_path / "run"))
    for name in ("results.json", "retrain/test_opened.json"):
        (folder / name).unlink()
    assert main(["retrain", str(folder), "--references=[]", "--retrain.confirm=1"]) == 0
    assert not list(tmp_path.rglob("*.before-1/*"))
    result, before = read_json(folder / "results.json"), read_json(lost / "results.json")
    assert not {"against_reference", "offered"} & set(result) and "Reference" not in result["groups"]
    validations = {row["id"]: row["validation"] for row in before["networks"] if "reference" not in row}
    assert {row["id"]: row["validation"] for row in result["networks"]} == validations
    assert supernet.Run(folder).best.row == result["networks"][0] and supernet.Run(folder).against_reference is None


def test_a_run_of_an_earlier_version(lost: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(lost, tmp_path / "run"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name in ("references", "confirm"):
        del config["retrain"][name]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = read_json(folder / "results.json")
    for name in ("against_reference", "offered"):
        del result[name]
    result["networks"] = [row for row in result["networks"] if "reference" not in row]
    del result["groups"]["Reference"]
    write_json(folder / "results.json", result)
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("group ")
    assert main(["report", str(folder)]) == 0
    assert supernet.Run(folder).best.row["rank"] == 1


def test_a_test_split_that_was_opened_without_a_reference(lost: Path, tmp_path: Path) -> None:
    """A run that an earlier version left between its test and its results is finished as it was begun."""
    folder = Path(shutil.copytree(lost, tmp_path / "run"))
    for name in ("results.json", "retrain/references.json"):
        (folder / name).unlink()
    opened = read_json(folder / "retrain" / "test_opened.json")
    del opened["digests"]
    opened["networks"] = [name for name in opened["networks"] if name != "resnet8-w4"]
    write_json(folder / "retrain" / "test_opened.json", opened)
    assert main(["retrain", str(folder)]) == 0
    assert "against_reference" not in read_json(folder / "results.json")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("resnt8", "retrain.references: no 'resnt8'; did you mean 'resnet8'?"),
        ("block1.ops=sep5x5", "retrain.references: choice 'block1.inputs' has no pick"),
        ("x=1", "no choice 'x' in space 'bender'"),
    ],
)
def test_what_is_no_reference_is_refused_before_any_work(
    name: str, part: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    assert part in refused("run", "digits-smoke", *TINY, "--out", tmp_path / "X", f"--reference={name}")
    assert not (tmp_path / "X").exists()


def test_a_known_network_needs_images(tmp_path: Path, refused: Callable[..., str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "tabular.py"
    words = (f"--model={example}:make_network", f"--data={example}:make_data", "--task.loss=mse", "--task.metric=r2")
    message = refused("train", tmp_path / "X", *words, "--references=[resnet8]")
    assert "'resnet8' classifies images" in message
    assert not (tmp_path / "X" / "train").exists()


@pytest.mark.parametrize(("words", "value"), [("resnet8", ["resnet8"]), ("[a, b]", ["a", "b"]), ("[]", [])])
def test_short_names(words: str, value: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    known = "[resnet8, convnext]" if value == ["a", "b"] else words
    assert main(["run", "digits-smoke", f"--reference={known}", "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)["retrain"]["references"]
    assert printed == yaml.safe_load(known) if known.startswith("[") else printed == value


@pytest.mark.parametrize(
    ("retrain", "trainings"),
    [({}, 9), ({"references": []}, 5), ({"references": ["resnet8"], "confirm": 5}, 14), ({"repeats": 2}, 18)],
)
def test_references_are_part_of_the_plan(lost: Path, retrain: dict[str, Any], trainings: int) -> None:
    """Five finalists besides All On, four references unless others are named, eight further trainings."""
    run = load_run(open_run(lost))
    config = replace(run.config, retrain=RetrainConfig(**retrain))
    work = work_of(config, run.space, run.space.size, train=1000, validation=300, test=300)
    assert sum(work.trainings) == trainings


# ---- sizes ----


def sized(lost: Path, retrain: RetrainConfig, winner: int, limits: dict[str, Any]) -> dict[str, int]:
    """The width of each reference."""
    run = load_run(open_run(lost))
    config = replace(run.config, retrain=retrain, search=replace(run.config.search, limits=LimitsConfig(**limits)))
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=1))
    rows = references._sized(replace(run, config=config), {"params": winner}, runtime)
    return {row["reference"]: row["space"]["settings"]["width"] for row in rows}


@pytest.mark.parametrize(
    ("limits", "space", "limit"),
    [
        ({}, {}, {"params": 30_000}),
        ({"max_params": "12k"}, {}, {"params": 12_000}),
        ({"max_params": "12k"}, {"filters": 3}, {"params": 30_000}),  # the limits are for another size
        ({"max_params": "12k", "max_macs": "100k"}, {}, {"params": 12_000, "macs": 100_000}),
        ({"min_params": "1k"}, {}, {"params": 30_000}),
    ],
)
def test_references_are_as_wide_as_allowed(
    lost: Path, limits: dict[str, Any], space: dict[str, Any], limit: dict[str, int]
) -> None:
    widths = sized(lost, RetrainConfig(space=space), 30_000, limits)

    def fits(name: str, width: int) -> bool:
        made, architecture = reference(name, 10, (1, 8, 8), width=width)
        return all(getattr(cost_of(made, architecture), cost) <= most for cost, most in limit.items())

    for name in references._USUAL:
        if name in widths:
            assert fits(name, widths[name]) and not fits(name, widths[name] + 1)
        else:
            assert not fits(name, 4)
    assert widths


def test_latency_is_measured_as_in_the_search(lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that counts parameters the widest within a time is the widest within as many parameters."""

    def clock(module: Any, arguments: Any) -> int:
        return 1 + sum(p.numel() for p in module.parameters())

    monkeypatch.setattr(references, "latency_costs", partial(latency_costs, time=clock))
    monkeypatch.setattr(
        type(open_run(lost).folder), "reference_latency", property(lambda folder: lost.parent / "latency.json")
    )
    widths = sized(lost, RetrainConfig(references=["resnet8"]), 10, {"max_latency": "20us"})
    (lost.parent / "latency.json").unlink()
    sizes = [
        int(cost_table(made).costs([architecture])[0][0])
        for made, architecture in (reference("resnet8", 10, (1, 8, 8), width=widths["resnet8"] + i) for i in (0, 1))
    ]
    assert sizes[0] <= 20_000 < sizes[1] * 1.05
