"""Files that differ from the network are not exported."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet import load
from supernet.data.splits import prepare
from supernet.export import forms as exporting
from supernet.export.writing.code import write
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.retrain.trainings import evaluate
from supernet.speed.runtime import RuntimeConfig, start

Refused = Callable[..., str]


def test_a_file_that_differs_is_not_exported(
    finished_run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another network than was meant, in the file only."""

    def tampered(*args: Any) -> Any:
        written = write(*args)
        tensors = {name: t + 0.01 if t.is_floating_point() else t for name, t in written.tensors.items()}
        return replace(written, tensors=tensors)

    monkeypatch.setattr(exporting, "write", tampered)
    out = tmp_path / "out"
    said = refused("export", finished_run, "--out", out, "--to=python,safetensors")
    assert "network.py, batch of 1: outputs differ by" in said and "tolerance of 0.0001" in said
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(
        exporting, "write", lambda *args: replace(write(*args), code="import supernet\n" + write(*args).code)
    )
    assert "does not run by itself" in refused("export", finished_run, "--out", out, "--to=safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_reported_accuracy_is_that_of_the_files(exported: Path, finished_run: Path) -> None:
    run = load_run(open_run(finished_run))
    config, data = run.config, run.data
    batches = [prepare(data.validation, data, device=torch.device("cpu"))]
    accuracy = evaluate(load(exported), batches, runtime=start(RuntimeConfig(device="cpu", precision="32-true")))
    facts = json.loads((exported / "export.json").read_text())
    assert facts["parity"]["forms"]["python"]["accuracy"] == pytest.approx(accuracy, abs=1 / 300)
    assert config.seed == facts["seed"]
