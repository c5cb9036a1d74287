"""Exports on the Hub."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet import load
from supernet.export.hub import push
from supernet.export.reading import ExportError

Refused = Callable[..., str]


class LocalHub:
    """What `push` needs of the Hub, on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        (self.root / repository).mkdir(parents=True, exist_ok=True)
        (self.root / f"{repository}.private").write_text(str(private))
        return f"https://example.org/{repository}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        (self.root / f"{repo_id}.message").write_text(commit_message)


def test_a_push_and_back(exported: Path, tmp_path: Path, refused: Refused) -> None:
    """Against a local folder: everything arrives, and is a network again."""
    hub = LocalHub(tmp_path)
    assert push(exported, "me/digits", private=True, api=hub) == "https://example.org/me/digits"
    arrived = tmp_path / "me" / "digits"
    assert {path.name for path in arrived.iterdir()} == {path.name for path in exported.iterdir()}
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load(arrived)(x), load(exported)(x))
    assert "exported by supernet" in (tmp_path / "me" / "digits.message").read_text()
    assert (tmp_path / "me" / "digits.private").read_text() == "True"
    assert "OWNER/NAME" in refused("push", exported, "digits")
    assert "holds no export" in refused("push", tmp_path, "me/digits")

    class Closed(LocalHub):
        def upload_folder(self, **_: Any) -> None:
            raise RuntimeError("401 Client Error\nUnauthorized")

    with pytest.raises(ExportError, match="the Hub refuses \\(401 Client Error Unauthorized"):
        push(exported, "me/digits", api=Closed(tmp_path))
