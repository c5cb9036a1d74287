"""A plain network of the user's, made elastic and started from its weights, through all steps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from supernet.program.commands import main
from tests.program.test_commands import Refused

MINE = """
import torch
from torch import nn

def make_data():
    x = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))
    return x, (x[:, 0] > 0).long()

def plain(num_classes):
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
"""

SMALL = (
    *("--data=mine.py:make_data", "--train.batch_size=16", "--train.ghost_size=8", "--retrain.train.batch_size=16"),
    *("--retrain.train.ghost_size=8", "--search.ghost_size=8", "--runtime.device=cpu", "--train.steps=4"),
    *("--retrain.train.steps=4", "--search.candidates=6", "--search.top_of=3", "--search.top=2", "--elastic"),
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    layers = (nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    torch.save(nn.Sequential(*layers).state_dict(), tmp_path / "weights.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_lists_what_stays_as_it_is(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("check", "mine.py:plain", *SMALL, "--weights=weights.pt", "--space.elastic_settings.depths", "0.5")
    assert main([*words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["architectures"] == 9
    assert result["fixed"] == {"5": "it is an axis of the outputs"}
    assert main([*words]) == 0
    assert "not elastic: 5: it is an axis of the outputs" in capsys.readouterr().out


def test_a_run_from_weights(mine: Path) -> None:
    more = ("--weights=weights.pt", "--paths.distribution=sandwich", "--paths.distill=1", "--retrain.start=inherited")
    assert main(["run", "--model=mine.py:plain", "--out=out", *SMALL, *more]) == 0
    assert json.loads((mine / "out" / "results.json").read_text())["networks"]
    assert "start: inherited" in (mine / "out" / "config.yaml").read_text()


def test_what_does_not_fit_is_one_line(mine: Path, refused: Refused) -> None:
    torch.save({"0.weight": torch.zeros(2)}, "other.pt")
    message = refused("check", "mine.py:plain", *SMALL, "--weights=other.pt")
    assert "space.weights: other.pt: the weights are of another network" in message
    message = refused("run", "digits-smoke", "--out=out", "--elastic")
    assert "space.elastic: 'bender' has choices already" in message
    message = refused("check", "mine.py:plain", *SMALL, "--space.elastic_settings.width", "[1]")
    assert "no 'width'; did you mean 'widths'" in message
    message = refused("check", "mine.py:plain", *SMALL, "--retrain.start=inherited", "--retrain.at", "{a: [1]}")
    assert "start: expected scratch" in message
