"""Exports for the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from supernet.export import gate, parity
from supernet.program.commands import main


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SECONDS", 0.0)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison runs in this process, which saves the start of another one; the other tests have that."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        parity.main(Path(command[-1]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything, folded and with the preprocessing inside; only to be read."""
    out = tmp_path_factory.mktemp("exports") / "all"
    command = ["export", str(finished_run), "--out", str(out), "--preprocess=true", "--fold=true", "--licence=cc0-1.0"]
    assert main(command) == 0
    return out
