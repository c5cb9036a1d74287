"""The whole way from Python."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import supernet
from supernet.base.files import read_json
from supernet.data.splits import DataError
from supernet.program.commands import main
from supernet.program.folder import RunError
from supernet.program.settings import ConfigError
from supernet.space.choices import Space

SHORT: dict[str, Any] = {
    "train.steps": 4, "retrain.train.steps": 2, "train.batch_size": 32, "retrain.train.batch_size": 32,
    "search.top": 1, "search.small": 1, "search.random": 2, "runtime.threads": 1, "runtime.device": "cpu",
}  # fmt: skip
EXAMPLE = Path(__file__).parents[2] / "examples" / "from_python.py"


def make_network(num_classes: int, hidden: int = 8) -> nn.Module:
    width = supernet.value("width", (4, hidden))
    act = supernet.Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh()})
    return nn.Sequential(nn.Linear(6, width), act, nn.Linear(width, num_classes))


def make_data(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = torch.randn(300, 6, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs[:, 0] > 0).long()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> supernet.Run:
    out = tmp_path_factory.mktemp("python") / "run"
    return supernet.run(make_network, make_data(), out=out, limits={"max_params": 100}, seed=3, settings=SHORT)


def test_the_winner_is_a_module_with_its_row(finished: supernet.Run) -> None:
    network, row = finished.best
    assert not network.training and network(torch.zeros(5, 6)).shape == (5, 2)
    assert row == finished.results["networks"][0] and row["rank"] == 1
    assert sum(p.numel() for p in network.parameters()) == row["params"] <= 100


def test_candidates_are_a_data_frame(finished: supernet.Run) -> None:
    frame = finished.candidates
    assert {"architecture", "value", "params", "macs", "number"} <= set(frame.columns)
    assert len(frame) == 4 and (frame["params"] <= 100).all()
    assert (frame["value"] + frame["bonus"]).is_monotonic_decreasing


def test_trust_is_there_after_an_analysis(finished: supernet.Run) -> None:
    other = supernet.Run(finished.folder, make_network)
    with pytest.raises(RunError, match=r"call analyze\(\) first"):
        _ = supernet.Run(finished.folder).trust
    trust = other.analyze()
    assert trust["verdict"] and trust == finished.trust == read_json(finished.folder / "analysis.json")["trust"]
    assert other.report().read_text().startswith("<!doctype html>")
    figures = other.figures()
    assert {"predicts", "histogram", "training", "best-so-far"} <= set(figures)
    assert all(drawing in other.report().read_text() for drawing in figures.values())
    assert figures["predicts"].figure().axes[0].get_xlabel().startswith("score")


def test_the_same_call_reads_and_other_data_are_refused(finished: supernet.Run) -> None:
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.name != "analysis.json"
              if path.is_file()}  # fmt: skip
    again = supernet.run(make_network, make_data(), out=finished.folder, limits={"max_params": 100}, seed=3)
    assert again.folder == finished.folder and again.best.row == finished.best.row
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(RunError, match="the data have changed since"):
        supernet.run(make_network, make_data(1), out=finished.folder)
    with pytest.raises(RunError, match="was made with another configuration"):
        supernet.run(partial(make_network, hidden=6), make_data(), out=finished.folder)


def test_the_command_line_does_the_same(finished: supernet.Run, tmp_path: Path) -> None:
    """Functions and arrays named in files give the same networks as the objects themselves."""
    named = supernet.run(
        f"{__file__}:make_network", f"{__file__}:make_data", out=tmp_path / "named", limits={"max_params": 100}, seed=3,
        settings=SHORT,
    )  # fmt: skip
    settings = yaml.safe_load((named.folder / "config.yaml").read_text())
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(settings))
    assert main(["run", str(tmp_path / "all.yaml"), "--out", str(tmp_path / "words")]) == 0
    for folder in (named.folder, tmp_path / "words"):
        for name in ("finalists.json", "train/model.safetensors"):
            assert (folder / name).read_bytes() == (finished.folder / name).read_bytes()


def test_a_run_of_a_python_function_says_where_it_continues(finished: supernet.Run, capsys: Any) -> None:
    assert main(["show", str(finished.folder)]) == 0
    assert main(["top", str(finished.folder)]) == 0  # it reads the table, and no code of the user
    capsys.readouterr()
    assert main(["retrain", str(finished.folder), "--candidates", "1"]) == 2
    assert "given in Python: continue there, with supernet.run" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="given in Python"):
        _ = supernet.Run(finished.folder).best
    with pytest.raises(RunError, match="give the same one"):
        supernet.Run(finished.folder, make_data)
    text = (finished.folder / "config.yaml").read_text()
    assert f"name: python:{__name__}.make_network:" in text


def test_arrays_in_structures_with_a_test_part(tmp_path: Path) -> None:
    def network() -> nn.Module:
        class Two(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a = supernet.Choose("a", {"one": nn.Linear(3, 1), "two": nn.Linear(3, 1, bias=False)})

            def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
                return self.a(left) + right

        return Two()

    rng = np.random.default_rng(0)

    def part(number: int) -> tuple[dict[str, Any], Any]:
        left = rng.normal(size=(number, 3))
        return {"left": left, "right": left[:, :1]}, left.sum(1).tolist()

    settings = {**SHORT, "task.loss": "mse", "task.metric": "r2", "search.random": 1}
    run = supernet.run(network, (*part(300), *part(40)), out=tmp_path / "run", settings=settings, progress=False)
    assert read_json(run.folder / "data.json")["inputs"] == {"left": "float32 3", "right": "float32 1"}
    assert read_json(run.folder / "retrain" / "test_opened.json")["examples"] == 40


def test_a_space_and_its_data_have_to_fit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (200, 8, 8), dtype=np.uint8), np.arange(200) % 10
    sizes: Any = {"filters": 2, "cells": 1, "choice_blocks": 1}
    fitting = supernet.spaces.bender(**sizes, num_classes=10, input_shape=(1, 8, 8))
    run = supernet.run(fitting, data, out=tmp_path / "a", settings={**SHORT, "search.candidates": 6})
    assert run.best.network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert supernet.Run(run.folder).best.row == run.best.row  # a built-in space is known by its name
    other = supernet.spaces.bender(**sizes, num_classes=7, input_shape=(1, 8, 8))
    with pytest.raises(ConfigError, match="the space was made for other data"):
        supernet.run(other, data, out=tmp_path / "b", settings=SHORT)
    own = supernet.from_network(partial(make_network, 2), torch.zeros(2, 6))
    assert isinstance(own, Space)
    made = supernet.run(own, make_data, out=tmp_path / "c", settings=SHORT)
    assert made.best.row["rank"] == 1


@pytest.mark.parametrize(
    ("network", "data", "error", "text"),
    [
        (3, make_data(), ConfigError, "network: expected a function that makes a network, a Space, or a name, got int"),
        ("bendr", make_data(), ConfigError, "did you mean 'bender'"),
        (make_network, "digit", ConfigError, "no folder or file .digit., and no source"),
        (make_network, (1, 2, 3), ConfigError, "got 3 of them"),
        (make_network, 3, ConfigError, "got int"),
        (make_network, (["a", "b"], [0, 1]), ConfigError, "expected arrays of numbers"),
        (make_network, (torch.zeros(30, 6), torch.zeros(20).long()), DataError, "same number of rows"),
    ],
)
def test_mistakes(network: Any, data: Any, error: type[Exception], text: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=text):
        supernet.run(network, data, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"did you mean 'train\.lr'"):
        supernet.run(make_network, make_data(), out=tmp_path / "other", settings={"train.lrr": 1})
    assert not (tmp_path / "other").exists()


def test_the_example(tmp_path: Path, capsys: Any) -> None:
    example = runpy.run_path(str(EXAMPLE), run_name="example")
    run = example["main"](tmp_path / "run")
    out = capsys.readouterr().out
    assert run.best.row["architecture"] in out and "torch.Size([1, 2])" in out
    assert run.best.row["validation"][0] > 0.75


def test_arrays_need_few_packages(tmp_path: Path) -> None:
    script = (
        "import json, sys, torch, supernet\n"
        "sys.modules['optuna'] = None\n"  # whose study has drawings
        f"sys.path.insert(0, {str(EXAMPLE.parent)!r})\n"
        "from from_python import make_data, make_network\n"
        f"supernet.run(make_network, make_data(), out={str(tmp_path / 'run')!r}, "
        "settings={'train.steps': 2, 'retrain.train.steps': 2, 'runtime.kernels': 'torch'})\n"
        "print(json.dumps(sorted({'sklearn', 'pyarrow', 'pandas', 'matplotlib'} & set(sys.modules))))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(ran.stdout.splitlines()[-1]) == []


X, Y = make_data()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (Y.numpy().astype(float), r"needs classes as whole numbers \[N\], got float32 \[N\]"),
        (Y[:, None], r"got a column, int64 \[N, 1\]"),
        (torch.eye(2)[Y], r"got one-hot rows, float32 \[N, 2\]"),
    ],
)
def test_a_failed_first_try_does_not_block_the_folder(targets: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as error:
        supernet.run(make_network, (X, targets), out=tmp_path / "run", settings=SHORT, progress=False)
    assert "\n" not in str(error.value)
    run = supernet.run(make_network, (X, Y), out=tmp_path / "run", settings=SHORT, progress=False)
    assert run.best.row["validation"]


def test_a_training_that_fails_in_its_first_step_does_not_block_the_folder(tmp_path: Path) -> None:
    """Other data, other settings and another network may follow."""

    class Fails(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2 and x.device.type != "meta":  # with more examples than the trial has
                raise IndexError("out of range")
            return x

    def network(num_classes: int) -> nn.Module:
        return nn.Sequential(Fails(), make_network(num_classes))

    with pytest.raises(IndexError, match="out of range"):
        supernet.run(network, (X, Y), out=tmp_path / "run", settings=SHORT, progress=False)
    more = {**SHORT, "train": {"lr": 0.01}}
    run = supernet.run(make_network, make_data(1), out=tmp_path / "run", settings=more, progress=False)
    assert run.best.row["validation"]
    with pytest.raises(RunError, match="the data have changed since"):
        supernet.run(make_network, make_data(2), out=tmp_path / "run", settings=more, progress=False)


def test_labels_that_are_true_or_false_are_two_classes(tmp_path: Path) -> None:
    run = supernet.run(make_network, (X, Y.bool()), out=tmp_path / "run", settings=SHORT, progress=False)
    facts = read_json(run.folder / "data.json")
    assert facts["classes"] == ["False", "True"] and "of 2 classes" in facts["summary"]
    numbers = supernet.run(make_network, (X, Y), out=tmp_path / "numbers", settings=SHORT, progress=False)
    assert run.results["networks"][0]["validation"] == numbers.results["networks"][0]["validation"]


def test_a_list_of_examples_is_refused_in_one_short_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got a list of 300 arrays, .*: stack them into one array") as error:
        supernet.run(make_network, (list(X), Y), out=tmp_path / "run", settings=SHORT, progress=False)
    assert len(str(error.value)) < 200 and "\n" not in str(error.value)


def test_half_precision_and_read_only_arrays(tmp_path: Path) -> None:
    half = np.broadcast_to(X.numpy().astype(np.float16), X.shape)
    run = supernet.run(make_network, (half, Y), out=tmp_path / "run", settings=SHORT, progress=False)
    assert read_json(run.folder / "data.json")["inputs"] == "float32 6"


def test_a_run_of_arrays_is_moved(tmp_path: Path) -> None:
    made = supernet.run(make_network, (X, Y), out=tmp_path / "a" / "run", settings=SHORT, progress=False)
    before = made.results
    (tmp_path / "a").rename(tmp_path / "b")
    more = {**SHORT, "retrain.train.steps": 3, "analysis.snapshots": 1}
    moved = supernet.run(make_network, (X, Y), out=tmp_path / "b" / "run", settings=SHORT, progress=False)
    assert moved.results == before
    with pytest.raises(RunError, match="its test split was opened"):
        supernet.run(make_network, (X, Y), out=tmp_path / "b" / "run", settings=more, progress=False)
