"""What the README shows, runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example, code = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert example.strip() in (ROOT / "examples" / "image.py").read_text()
    exec(compile(code, "README.md", "exec"), {})
    assert "block1.inputs=" in capsys.readouterr().out


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
