"""A command reads each file once: the configuration, the data, and the table of candidates."""

from __future__ import annotations

import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supernet.data import sources, splits
from supernet.program import train
from supernet.program.commands import main
from supernet.program.paths import RunFolder
from supernet.search.table import read_candidates
from tests.conftest import TINY

Reads = Counter[str]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Counts files that are opened, by name, and how often data are read and splits are hashed."""
    counts: Reads = Counter()

    def counting(function: Callable[..., Any], name: str | None = None) -> Callable[..., Any]:
        def count(*arguments: Any, **named: Any) -> Any:
            counts[Path(str(arguments[0])).name if name is None else name] += 1
            return function(*arguments, **named)

        return count

    monkeypatch.setattr(io, "open", counting(io.open))
    monkeypatch.setattr("builtins.open", counting(open))
    monkeypatch.setattr(splits, "read", counting(sources.read, "data"))
    monkeypatch.setattr(splits, "_hash", counting(splits._hash, "hashes"))
    monkeypatch.setattr("supernet.program.retrain.read_candidates", counting(read_candidates, "table"))
    yield counts


@pytest.mark.parametrize(
    ("words", "data"),
    [
        (["run", "--out", "DIR"], 0),
        (["run", "--out", "DIR", "--runtime.threads", "1"], 0),
        (["train", "DIR"], 0),
        (["show", "DIR"], 0),
        (["top", "DIR"], 0),
        (["study", "DIR"], 0),
        (["score", "DIR", "--architectures", "DIR/texts", "--out", "DIR/scores.csv"], 1),
        (["analyze", "DIR", "--sweep", "0.1"], 1),
        (["report", "DIR"], 1),
        (["export", "DIR", "--to", "python,safetensors"], 1),
    ],
)
def test_commands_on_a_finished_run(words: list[str], data: int, run_folder: Path, reads: Reads) -> None:
    (run_folder / "texts").write_text("block1.inputs=last block1.ops=identity\n")
    assert main([word.replace("DIR", str(run_folder)) for word in words]) == 0
    assert reads["config.yaml"] == 1
    assert (reads["data"], reads["hashes"]) == (data, 3 * data)


def test_a_whole_run(tmp_path: Path, reads: Reads) -> None:
    """Three steps and the test split from one reading of the data; the configuration is not read back."""
    assert main(["run", "digits-smoke", "--out", str(tmp_path / "run"), *TINY]) == 0
    assert reads["config.yaml"] == 0
    assert (reads["data"], reads["hashes"]) == (1, 3)
    assert reads["table"] == 1  # not again after each training


def test_a_run_that_is_continued(run_folder: Path, reads: Reads) -> None:
    for name in ("results.json", "finalists.json"):
        (run_folder / name).unlink()
    assert main(["run", "--out", str(run_folder)]) == 0
    assert reads["config.yaml"] == 1
    assert (reads["data"], reads["hashes"]) == (1, 3)


# ---- what was live ----


def test_paths_are_what_was_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a training that is stopped and continued too, each step drawn once by each training."""
    drawn: dict[int, np.ndarray] = {}
    draw = train.paths_of

    def seen(*arguments: Any) -> torch.Tensor:
        live = draw(*arguments)
        drawn[arguments[2]] = np.packbits(live.numpy(), axis=1)
        calls.append(arguments[2])
        return live

    calls: list[int] = []
    monkeypatch.setattr(train, "paths_of", seen)
    words = ("digits-smoke", *TINY, "--train.checkpoint_seconds=0")
    whole = RunFolder(tmp_path / "whole")
    assert main(["train", str(whole), *words]) == 0
    steps = len(calls)
    assert calls == list(range(steps)) and steps > 4
    assert np.array_equal(np.load(whole.live_paths), np.stack([drawn[step] for step in range(steps)]))
    buffer = io.BytesIO()
    np.save(buffer, np.stack([drawn[step] for step in range(steps)]))
    assert whole.live_paths.read_bytes() == buffer.getvalue()

    stopped, calls[:] = RunFolder(tmp_path / "stopped"), []
    with monkeypatch.context() as patch:
        patch.setattr(train, "paths_of", lambda *a: seen(*a) if len(calls) < 4 else _stop())
        assert main(["train", str(stopped), *words]) == 130
    assert not stopped.live_paths.exists()
    drawn.clear()
    calls.clear()
    assert main(["train", str(stopped)]) == 0
    assert calls == list(range(4, steps))
    assert stopped.live_paths.read_bytes() == whole.live_paths.read_bytes()
    assert [path.name for path in stopped.train.iterdir() if path.name.startswith(".")] == [".digests.json"]


def _stop() -> None:
    raise KeyboardInterrupt


def test_a_record_that_is_gone_is_said(run_folder: Path, tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = RunFolder(run_folder)
    words = ("train", tmp_path / "X", "digits-smoke", *TINY, "--train.lr=1e30", "--train.clip_norm=null")
    assert "lower the learning rate" in refused(
        *words, "--train.schedule=constant", "--train.checkpoint_seconds=0", "--train.steps=50"
    )
    shutil.copy(tmp_path / "X" / "train" / "checkpoint.pt", folder.train / "checkpoint.pt")
    folder.one_shot.unlink()
    message = refused("train", run_folder)
    assert "paths.npy" in message and "to train from the beginning" in message
