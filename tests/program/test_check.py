"""`supernet check` tries everything before any training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supernet.program.commands import main
from tests.program.test_commands import Refused

MINE = """
import torch
from torch import nn
from torch.nn import functional as F
from supernet import Choose, value

def make_data():
    x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        w = value("w", (8, 16))
        self.a, self.b = nn.Linear(6, w), nn.Linear(w, 2)
        self.act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
    def forward(self, x): return self.b(self.act(self.a(x)))
def good(): return Net()

class Aux(Net):
    def forward(self, x): y = self.act(self.a(x)); return self.b(y), y.square().mean()
def with_loss(): return Aux()
def loss(o, t): return F.cross_entropy(o[0], t) + 0.01 * o[1]
def metric(o, t): return float((o[0].argmax(1) == t).float().mean())

class Fixed(Net):
    def __init__(self): super().__init__(); self.scale = torch.full((), float(self.a.out_features))
    def forward(self, x): return super().forward(x / self.scale)
def fixed(): return Fixed()

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(6, 2, value("inner", (8, 16)), batch_first=True)
        self.head = nn.Linear(6, 2)
    def forward(self, x): return self.head(self.layer(x[:, None]).mean(1))
def encoder(): return Encoder()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SMALL = (
    *("--data=mine.py:make_data", "--train.batch_size=16", "--train.ghost_size=8", "--retrain.train.batch_size=16"),
    *("--retrain.train.ghost_size=8", "--search.ghost_size=8", "--runtime.device=cpu"),
)


def test_all_sizes_that_are_too_large_are_named_with_options_that_fit(
    mine: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused("check", "mine.py:good", "--data=mine.py:make_data", "--runtime.device=cpu")
    for part in ("for train.batch_size 128", "19 examples to score on for search.ghost_size 32"):
        assert part in message
    options = message.partition("These options fit: ")[2].partition(";")[0].split()
    assert main(["check", "mine.py:good", "--data=mine.py:make_data", "--runtime.device=cpu", *options]) == 0
    capsys.readouterr()


def test_a_file_without_its_function_is_told_from_a_recipe(mine: Path, refused: Refused) -> None:
    assert "mine.py:make_network" in refused("check", "mine.py", "--data=mine.py:make_data")
    assert "--model mine.py:good" in refused("run", "mine.py:good", "--data=mine.py:make_data", "--out", "out")


@pytest.mark.parametrize(
    ("name", "more"),
    [("good", ()), ("encoder", ()), ("with_loss", ("--task.loss=mine.py:loss", "--task.metric=mine.py:metric"))],
)
def test_a_network_in_order(name: str, more: tuple[str, ...], mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", f"mine.py:{name}", *SMALL, *more, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["architectures"] == (2 if name == "encoder" else 4)
    assert result["loss"] > 0
    assert sorted(path.name for path in mine.iterdir() if path.name != "__pycache__") == ["mine.py"]


def test_what_is_wrong_is_one_line(mine: Path, refused: Refused) -> None:
    message = refused("check", "mine.py:fixed", *SMALL)
    assert "w=8: " in message and "gives other numbers in the one-shot model" in message
    message = refused("run", "--model=mine.py:fixed", "--out=out", *SMALL)
    assert "gives other numbers" in message
    assert not (mine / "out" / "train").exists()
