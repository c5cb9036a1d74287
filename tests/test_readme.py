"""What the README shows, runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example, code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert example.strip() in (ROOT / "examples" / "image.py").read_text()
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "bonus" in capsys.readouterr().out
    assert (tmp_path / "runs" / "python" / "report.html").exists()


def test_the_method_from_its_parts_runs() -> None:
    words = [sys.executable, str(ROOT / "examples" / "parts.py")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "block1.inputs=" in done.stdout


def test_every_folder_of_the_package_is_in_the_table() -> None:
    for path in (ROOT / "supernet").glob("*/__init__.py"):
        assert f"| `supernet/{path.parent.name}/` |" in README


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_placeholder_is_left() -> None:
    known = {"TORCH_INDEX", "SUPERNET_DEBUG", "SUPERNET_CACHE"}
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", page.read_text())) <= known, page.name
