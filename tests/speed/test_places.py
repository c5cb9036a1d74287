"""Folders of workers whose command was killed are removed, and those of commands at work stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supernet.speed import places

KILLED = "import os, signal; from supernet.speed.places import make_place; make_place(); os.kill(os.getpid(), 9)"


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_command_leaves_is_removed(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "TMPDIR": str(tmp_path)})
    assert ended.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    (left / "task").mkdir()
    at_work = places.make_place()
    places.remove_left()
    assert list(tmp_path.iterdir()) == [at_work.path]
    at_work.remove()
    assert not list(tmp_path.iterdir())


def test_what_may_be_of_others_stays(tmp_path: Path) -> None:
    young, old = tmp_path / "supernet-worker-young", tmp_path / "supernet-worker-old"
    for folder in (young, old, tmp_path / "other"):
        folder.mkdir()
    os.utime(old, (1e9, 1e9))
    (tmp_path / "supernet-worker-file").touch()
    (tmp_path / "supernet-worker-link").symlink_to(tmp_path / "other")
    places.remove_left()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"supernet-worker-young", "other", "supernet-worker-file", "supernet-worker-link"}
