"""Exports that are read again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from supernet import load
from supernet.export.reading import FILES


def test_an_export_is_loaded(exported: Path, finished_run: Path) -> None:
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = load(exported)
    assert not network.training
    torch.testing.assert_close(network(x), load(finished_run)(x), rtol=1e-4, atol=1e-5)


def test_files_that_are_damaged_missing_or_of_another_network(
    exported: Path, finished_run: Path, tmp_path: Path
) -> None:
    """One clear line each."""

    def refused(change: Callable[[Path], object]) -> str:
        folder = Path(shutil.copytree(exported, tmp_path / f"export{len(list(tmp_path.iterdir()))}"))
        change(folder)
        with pytest.raises(ValueError, match=r".") as caught:
            load(folder)
        text = str(caught.value)
        assert "\n" not in text and str(folder) in text
        return text

    weights, other = FILES["safetensors"], finished_run / "train" / "model.safetensors"
    assert "is damaged" in refused(lambda folder: (folder / weights).write_bytes(b"nothing of the kind"))
    assert "is missing" in refused(lambda folder: (folder / weights).unlink())
    assert "is missing" in refused(lambda folder: (folder / "network.py").unlink())
    assert "of another network" in refused(lambda folder: shutil.copy(other, folder / weights))
    assert "is damaged" in refused(lambda folder: (folder / "network.py").write_text("class Network("))
    half = (exported / weights).read_bytes()[:-100]
    assert "is damaged" in refused(lambda folder: (folder / weights).write_bytes(half))
    assert "is damaged" in refused(lambda folder: (folder / "export.json").write_text("{"))
