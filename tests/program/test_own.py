"""Users' own networks and data from the command line, and what is said of their mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supernet.program import resolve
from supernet.program.commands import main
from tests.program.test_commands import Refused

MINE = """
import torch
from torch import nn
from supernet import Choose, value

def make_data(path=None):
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()

def images():
    return torch.zeros(300, 8, 8, dtype=torch.uint8), torch.arange(300) % 2

def one():
    return torch.zeros(3)

def dataset():
    return torch.utils.data.TensorDataset(torch.zeros(30, 6), torch.zeros(30).long())

def listed():
    return nn.Sequential(Choose("act", [nn.ReLU(), nn.Tanh()]))

def unequal():
    return torch.zeros(30, 2), torch.zeros(20).long()

def texts():
    return ["a", "b"], torch.zeros(2).long()

def holes():
    return torch.full((30, 2), float("nan")), torch.zeros(30).long()

def broken():
    return undefined

def make_network(num_classes, hidden=8):
    width = value("width", (4, hidden))
    return nn.Sequential(nn.Linear(6, width), Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()}), nn.Dropout(0.1),
                         nn.Linear(width, num_classes))

def many(num_classes, widths: tuple[int, ...] = (4, 8), rates: list[float] = ()):
    width = value("width", widths)
    return nn.Sequential(nn.Linear(6, width), nn.Linear(width, num_classes))

def no_choice():
    return nn.Linear(6, 2)

def unequal_options():
    return nn.Sequential(Choose("act", {"a": nn.Linear(6, 2), "b": nn.Linear(6, 3)}))

def wrong_width():
    return nn.Sequential(Choose("act", {"a": nn.Linear(5, 2), "b": nn.Linear(5, 2)}))

def fails():
    return nn.Linear(6, 2).missing

def closeness(outputs, targets):
    return float((outputs.softmax(1)[:, 1] - targets).abs().mean().neg())
"""
TINY = (
    *("--train.steps=4", "--retrain.train.steps=2", "--search.candidates=4", "--train.batch_size=32"),
    *("--retrain.train.batch_size=32", "--search.top=1", "--search.small=1", "--search.random=2"),
)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


def test_a_relative_file_a_metric_of_its_own_and_the_same_result_again(
    mine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(mine.parent)
    words = ["run", "--model", "mine.py:make_network", "--data", "mine.py:make_data", *TINY]
    words += ["--task.metric", "mine.py:closeness", "--space.settings", "{hidden: 6}", "--json"]
    results = []
    for name, threads in (("a", "1"), ("b", "2")):
        assert main([*words, "--out", name, "--runtime.threads", threads]) == 0
        results.append(json.loads(capsys.readouterr().out))
    for result in results:
        result["test_split"].pop("opened")
    assert results[0] == results[1]  # dropout follows the seed on any number of threads
    assert results[0]["metric"] == f"{mine}:closeness"
    assert all(-1 < row["score"] < 0 for row in results[0]["networks"])
    assert "width=6" in json.dumps(results[0])
    monkeypatch.chdir("/")
    assert main(["show", str(mine.parent / "a")]) == 0
    out = capsys.readouterr().out
    assert "closeness" in out and "%" not in out.partition("95%")[0]


@pytest.mark.parametrize(
    ("model", "data", "parts"),
    [
        ("absent.py:f", "mine.py:make_data", ["absent.py: no such file"]),
        ("mine.py:absent", "mine.py:make_data", ["mine.py has no function 'absent'", "make_network"]),
        ("mine.py:fails", "mine.py:make_data", ["mine.py, line", "AttributeError", "missing"]),
        ("mine.py:no_choice", "mine.py:make_data", ["no choice", "`Choose`", "--elastic"]),
        ("mine.py:unequal_options", "mine.py:make_data", ["choice 'act'", "option 'b'", "[3]", "[2]", "adapter(3, 2"]),
        ("mine.py:wrong_width", "mine.py:make_data", ["does not run with everything on", "float32 6"]),
        ("mine.py:make_network", "mine.py:absent", ["mine.py has no function 'absent'"]),
        ("mine.py:make_network", "mine.py:one", ["must return (inputs, targets)", "Tensor"]),
        (
            "mine.py:make_network",
            "mine.py:dataset",
            ["must return (inputs, targets)", "default_collate(list(dataset))"],
        ),
        ("mine.py:listed", "mine.py:make_data", ["mine.py, line", "'act'", "expected options by name", "got a list"]),
        ("mine.py:make_network", "mine.py:unequal", ["same number of rows", "[30, 20]"]),
        ("mine.py:make_network", "mine.py:texts", ["inputs must be an array or tensor of numbers", "str"]),
        ("mine.py:make_network", "mine.py:holes", ["NaN"]),
        ("mine.py:make_network", "mine.py:broken", ["mine.py, line", "NameError"]),
        ("mine.py:make_network", "mine.py:images", ["does not run with everything on", "float32 1 8 8"]),
        ("bender", "mine.py:make_data", ["'bender' is for images", "float32 6"]),
        ("mine.py:make_network", "nowhere", ["nowhere"]),
    ],
)
def test_mistakes(
    model: str, data: str, parts: list[str], mine: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    message = refused("run", resolve.OWN_NETWORK, "--model", model, "--data", data, *TINY, "--out", "out")
    for part in parts:
        assert part in message, message


def test_settings_that_are_lists(mine: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["space", f"{mine}:many", "--inputs=float32 6", "--num_classes=2"]
    for widths in ([4], [4, 8], [4, 6, 8, 10]):
        assert main([*words, f"--settings={{widths: {widths}, rates: [1e-4]}}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["architectures"] == len(widths)
    assert "widths: expected a list of whole numbers" in refused(*words, "--settings={widths: 4}")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--data=mine.py:make_data", "--space.settings={hiden: 6}"], "did you mean 'hidden'"),
        (["--data=mine.py:make_data", "--space.settings={num_classes: 6}"], "comes from the data"),
        (["--data=mine.py:make_data", "--search.candidates=5"], "expected at most 4, the whole space"),
        (["--data=mine.py:make_data", "--data.crop=2"], "data.crop is for images"),
        (["--data=mine.py:make_data", "--task.loss=mse", "--train.label_smoothing=0.1"], "train.label_smoothing"),
        (["--data=mine.py:make_data", "--task.metric=f1"], "task.metric: expected one of accuracy"),
        ([], "--model needs --data"),
    ],
)
def test_wrong_settings(
    words: list[str], part: str, mine: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(mine.parent)
    assert part in refused("run", "--model=mine.py:make_network", *TINY, *words, "--out=out")


def test_a_file_that_changed_does_not_continue_the_run(mine: Path, refused: Refused) -> None:
    words = [f"--model={mine}:make_network", f"--data={mine}:make_data", *TINY]
    out = str(mine.parent / "out")
    assert main(["train", out, resolve.OWN_NETWORK, *words]) == 0
    mine.write_text(MINE + "\n# another\n")
    assert "has changed since" in refused("search", out)
    mine.write_text(MINE)
    assert main(["search", out]) == 0


def test_a_mistake_that_is_mended_does_not_block_the_folder(mine: Path, refused: Refused) -> None:
    words = [
        str(mine.parent / "out"),
        resolve.OWN_NETWORK,
        f"--model={mine}:make_network",
        f"--data={mine}:make_data",
        *TINY,
    ]
    mine.write_text(MINE.replace("nn.Linear(6, width)", "nn.Linear(7, width)"))
    assert "does not run with everything on" in refused("train", *words)
    mine.write_text(MINE)
    assert main(["train", *words]) == 0


def test_space_of_a_file(mine: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{mine}:make_network"
    assert main(["space", name, "--inputs", "float32 6", "--num_classes=2", "--settings={hidden: 6}", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["architectures"] == 4 and facts["settings"] == {"hidden": 6, "num_classes": 2}
    assert facts["everything_on"]["params"] == 6 * 6 + 6 + 6 * 2 + 2
    assert "like 'float32 3 32 32'; got 'six'" in refused("space", name, "--inputs=six")
    assert "float32 3 32 32" in refused("space", name)


def test_data_is_a_name_a_folder_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "some.parquet").write_bytes(b"")
    for given, lines in (
        ("digits", ["name: digits", "path: null"]),
        (str(tmp_path / "photos"), ["name: folder", f"path: {tmp_path}/photos"]),
        (str(tmp_path / "some.parquet"), ["name: parquet", f"path: {tmp_path}/some.parquet"]),
    ):
        for words in (["--data", given], [f"--data={given}"]):
            assert main(["run", "digits-smoke", *words, "--print_config"]) == 0
            out = capsys.readouterr().out
            assert all(line in out for line in lines), (words, out)


def test_a_file_that_was_moved_is_named_anew(mine: Path, refused: Refused) -> None:
    """Its content decides whether it is the same."""
    run, there = mine.parent / "a", mine.parent / "elsewhere" / "mine.py"
    words = ["--model", f"{mine}:make_network", "--data", f"{mine}:make_data", "--task.metric", f"{mine}:closeness"]
    assert main(["train", str(run), "own-network", *words, *TINY, "--runtime.threads=1"]) == 0
    there.parent.mkdir()
    mine.rename(there)
    assert f"{mine}: no such file" in refused("search", run)
    other = mine.parent / "other.py"
    other.write_text(MINE + "\n")
    moved = [word.replace(str(mine), str(there)) for word in words]
    assert f"{other} has changed" in refused("search", run, *moved, "--model", f"{other}:make_network")
    assert main(["search", str(run), *moved]) == 0
    assert main(["top", str(run)]) == 0
    assert str(mine) not in (run / "config.yaml").read_text()
