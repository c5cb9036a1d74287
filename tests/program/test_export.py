"""`supernet export`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from supernet import load
from supernet.data.splits import batches
from supernet.program import export
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.retrain.trainings import evaluate
from supernet.speed.runtime import RuntimeConfig, start
from tests.conftest import TINY
from tests.export.conftest import in_haste, in_this_process  # noqa: F401  fixtures

Refused = Callable[..., str]
PRECISIONS: tuple[Literal["bf16-mixed"], Literal["32-true"]] = ("bf16-mixed", "32-true")


@pytest.mark.usefixtures("in_this_process")
def test_an_earlier_export_is_replaced_whole(finished_run: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "out"
    assert main(["export", str(finished_run), "--out", str(out), "--to=python,safetensors"]) == 0
    assert (out / "predict.py").exists()
    assert main(["export", str(finished_run), "--out", str(out), "--to=safetensors", "--rank=2"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["README.md", "cell.svg", "export.json", "network.safetensors", "network.svg"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "holds no export" in refused("export", finished_run, "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.usefixtures("in_this_process")
def test_between_two_moves_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure there puts the earlier export back; after a kill there, the next call does."""
    out, move = tmp_path / "export [1]", Path.rename
    out.mkdir()
    (out / "old").touch()
    moves: list[Path] = []

    def fails(path: Path, to: Path) -> Path:
        moves.append(path)
        if len(moves) == 2:
            raise OSError("no")
        return move(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="no"), export._unfinished(out):
            pass
    assert len(moves) == 3
    before = tmp_path / f".{out.name}.{uuid.uuid4().hex}.before"
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "old"]
    out.rename(before)
    with pytest.raises(KeyError), export._unfinished(out):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "old"]
    shutil.copytree(out, before)  # killed before this was deleted
    with export._unfinished(out) as place:
        (place / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "new"]


def test_any_architecture_with_inherited_or_new_weights(
    finished_run: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "block1.inputs=before block1.ops=sep5x5+sep7x7"
    retrained = [row["architecture"] for row in json.loads((finished_run / "results.json").read_text())["networks"]]
    assert text not in retrained
    command = [
        "export",
        str(finished_run),
        "--out",
        str(tmp_path / "out"),
        "--to=python,safetensors",
        f"--architecture={text}",
    ]
    assert "was not retrained" in refused(*command)
    capsys.readouterr()
    for weights, said in (("inherited", "running statistics of batch norm estimated"), ("new", "not trained")):
        assert main([*command, f"--weights={weights}", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["architecture"] == text and said in facts["weights"] and facts["finalist"] == {}
        assert said in (tmp_path / "out" / "network.py").read_text().replace("\n", " ")


def test_what_is_refused(finished_run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ("--out", tmp_path / "out")
    assert "expected from 1 to" in refused("export", finished_run, *out, "--rank=99")
    assert "expected some of python" in refused("export", finished_run, *out, "--to=pickle")
    assert "no choice 'x'" in refused("export", finished_run, *out, "--architecture=x=1")
    assert "onnx among what is exported" in refused("export", finished_run, *out, "--to=python", "--preprocess=true")
    assert "retrained" in refused("export", finished_run, *out, "--weights=good")
    assert "no run folder" in refused("export", tmp_path / "nowhere", *out)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = refused("export", finished_run, *out)
    assert "pip install 'supernet[export]'" in text and "--to python,safetensors,torch" in text
    assert list(tmp_path.iterdir()) == []


def test_an_unfinished_run_is_refused_before_a_missing_package(
    run_folder: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / "results.json").unlink()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    text = refused("export", run_folder, "--out", tmp_path / "out")
    assert "is not finished" in text and f"supernet run --out {run_folder}" in text and "onnx" not in text


@pytest.mark.usefixtures("in_this_process")
def test_python_brings_its_weights(finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["export", str(finished_run), "--out", str(out), "--to=python"]) == 0
    assert "network.safetensors is written too" in capsys.readouterr().err
    assert {"network.py", "network.safetensors", "predict.py"} <= {path.name for path in out.iterdir()}
    assert json.loads((out / "export.json").read_text())["forms"] == ["python", "safetensors"]
    assert load(out).training is False


@pytest.mark.usefixtures("in_this_process")
def test_a_run_in_half_precision_and_its_export_differ_by_the_precision_alone(tmp_path: Path) -> None:
    """Each value is that of the same weights on the same examples, in the precision that is named."""
    folder, out = tmp_path / "run", tmp_path / "out"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY, "--runtime.precision=bf16-mixed"]) == 0
    assert main(["export", str(folder), "--out", str(out), "--to=safetensors"]) == 0
    facts = json.loads((out / "export.json").read_text())
    assert facts["precision"] == "bf16-mixed"
    data = load_run(open_run(folder)).data
    half, single = (RuntimeConfig(device="cpu", precision=p, kernels="torch", threads=1) for p in PRECISIONS)
    for config, value in ((half, facts["finalist"]["validation"][0]), (single, facts["validation"])):
        runtime = start(config)
        network = load(folder, facts["finalist"].get("rank"))
        assert evaluate(network, batches(data.validation, data, device=runtime.device), runtime=runtime) == value


def test_a_run_whose_settings_are_lists_is_exported(tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = "{width: 4, multipliers: [1.0], depths: [1], blocks: [basic, preactivation], attentions: [none]}"
    lengths = ["--train.epochs=0.2", "--retrain.train.epochs=0.2", "--search.candidates=4", "--search.top_of=2"]
    words = ["--space.name=convnet", f"--space.settings={settings}", "--references=[]", "--search.examples=64"]
    assert main(["run", "digits-smoke", "--out", str(out), *words, *lengths, "--runtime.threads=1"]) == 0
    assert main(["export", str(out), "--to", "python", "--out", str(tmp_path / "export")]) == 0
    assert {"network.py", "export.json"} <= {path.name for path in (tmp_path / "export").iterdir()}
