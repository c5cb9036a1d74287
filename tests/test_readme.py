"""What the README and the guide show, runs."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supernet.program.arguments import Parser
from supernet.program.commands import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = ROOT / "docs" / "guide"
PAGES = [ROOT / "README.md", *sorted(GUIDE.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def test_the_own_network_that_pages_show_is_the_example() -> None:
    for page in (ROOT / "README.md", GUIDE / "network.md"):
        (shown,) = python_blocks(page.read_text())
        assert shown.strip() in (ROOT / "examples" / "image.py").read_text()


def test_the_python_example_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (code,) = python_blocks((GUIDE / "python.md").read_text())
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "python.md", "exec"), {})
    assert "bonus" in capsys.readouterr().out
    assert (tmp_path / "runs" / "python" / "report.html").exists()


class Parsed(Exception):
    """The words of a command were accepted; nothing else is done."""


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each `supernet ...` that stands on a line of code, except for those that are shown to be refused."""
    text = re.sub(r"<!-- run: \d+ -->\n```.*?```", "", text, flags=re.DOTALL)
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```(?:shell|bash)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [*"\n".join(blocks).splitlines(), *re.findall(r"^ {4}(\S.*)$", text, flags=re.MULTILINE)]
    for line in lines:
        words = shlex.split(line.partition(" > ")[0], comments=True) if line.startswith("supernet ") else []
        if words:
            yield words[1:]


COMMANDS = [(page, words) for page in PAGES if page.name != "log.md" for words in commands_of(page.read_text())]


def test_pages_show_commands() -> None:
    names = {words[0] for _, words in COMMANDS}
    assert names >= {"run", "train", "search", "retrain", "show", "top", "analyze", "export"}
    page = "x\n\n    supernet a \\\n        --b 'c d'  # e\n```shell\nsupernet f\n```\nsupernet g"
    assert list(commands_of(page)) == [["f"], ["a", "--b", "c d"]]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda value: value.stem if isinstance(value, Path) else None)
def test_the_program_takes_the_words_of_a_command(
    page: Path, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values of options; the files that pages name are empty."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for folder in ("photos", "damaged"):
        (tmp_path / folder).mkdir()
    for file in ("points.csv", "cells.csv", "net.py"):
        (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)

    def parse_only(parser: Parser, args: Any = None, namespace: Any = None) -> None:
        argparse.ArgumentParser.parse_args(parser, args, namespace)
        raise Parsed

    monkeypatch.setattr(Parser, "parse_args", parse_only)
    if words == ["--version"]:
        assert main(words) == 0
        return
    with pytest.raises(Parsed):
        main(words)


def test_the_method_from_its_parts_runs() -> None:
    words = [sys.executable, str(ROOT / "examples" / "parts.py")]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert "block1.inputs=" in done.stdout


def test_every_folder_of_the_package_is_in_the_table() -> None:
    table = (ROOT / "docs" / "code.md").read_text()
    for path in (ROOT / "supernet").glob("*/__init__.py"):
        assert f"| `supernet/{path.parent.name}/` |" in table


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_no_placeholder_is_left() -> None:
    names = {"TORCH_INDEX", "SUPERNET_DEBUG", "SUPERNET_CACHE", "SITE_RUN"}
    for page in PAGES:
        assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", page.read_text())) <= names, page.name
