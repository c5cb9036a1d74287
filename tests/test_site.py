"""The site: its pages are listed, and the commands of its tutorials are run as they stand."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    yield importlib.import_module("execute")


def listed() -> set[str]:
    """The pages in all tables of contents, from docs/."""
    pages = set()
    for page in (DOCS / "index.md", DOCS / "api" / "index.md"):
        for block in re.findall(r"```{toctree}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            pages |= {(page.parent / f"{name}.md").relative_to(DOCS).as_posix() for name in names}
    return pages


def test_every_page_is_in_a_table_of_contents() -> None:
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert listed() == pages - {"index.md"}


def test_every_folder_of_the_package_has_a_page() -> None:
    for path in (ROOT / "supernet").glob("*/__init__.py"):
        page = DOCS / "api" / f"{path.parent.name}.md"
        assert f"{{modules}} {path.parent.name}" in page.read_text()


def test_every_page_with_commands_to_run_is_run(execute: ModuleType) -> None:
    with_commands = {page.stem for page in (DOCS / "guide").glob("*.md") if "<!-- run" in page.read_text()}
    assert with_commands == set(execute.PAGES)


def test_every_mark_belongs_to_a_block_that_is_run(execute: ModuleType) -> None:
    for name in execute.PAGES:
        text = (DOCS / "guide" / f"{name}.md").read_text()
        blocks = list(execute.BLOCK.finditer(text))
        assert len(blocks) == text.count("<!-- run")
        shown = [block for block in blocks if block["form"] is not None]
        assert len(shown) == text.count("<!-- output")
        for block in shown:
            assert re.fullmatch(r"(all|(first|last) \d+)(\+messages)?", block["form"])


def test_a_page_gets_what_its_commands_print(execute: ModuleType, tmp_path: Path) -> None:
    page = (
        "Text.\n\n<!-- run -->\n```shell\necho 1 > file; seq 9\n```\n\n<!-- output: first 2 -->\nold\n<!-- end -->\n\n"
        "<!-- run: 3 -->\n```python\nimport sys\nprint(open('file').read(), file=sys.stderr)\nsys.exit(3)\n```\n\n"
        "<!-- output: all+messages -->\n<!-- end -->\n"
    )
    new = execute.executed(page, tmp_path)
    assert "<!-- output: first 2 -->\n\n```text\n1\n2\n...\n```\n\n<!-- end -->\n" in new
    assert "<!-- output: all+messages -->\n\n```text\n1\n```\n\n<!-- end -->\n" in new
    assert "old" not in new
    assert execute.executed(new, tmp_path) == new


def test_a_page_has_no_paths_of_the_machine(execute: ModuleType, tmp_path: Path) -> None:
    page = '<!-- run -->\n```shell\necho "$PWD/photos"\n```\n\n<!-- output: all -->\n<!-- end -->\n'
    assert "```text\nphotos\n```" in execute.executed(page, tmp_path)


def test_a_command_that_fails_ends_the_work(execute: ModuleType, tmp_path: Path) -> None:
    page = "<!-- run -->\n```shell\nfalse\necho not here\n```\n"
    with pytest.raises(SystemExit, match="exit code 1"):
        execute.executed(page, tmp_path)


def test_the_commands_are_those_of_this_tree(execute: ModuleType, tmp_path: Path) -> None:
    page = "<!-- run -->\n```shell\nsupernet --version\n```\n\n<!-- output: all -->\n<!-- end -->\n"
    from supernet.base.version import __version__

    assert __version__ in execute.executed(page, tmp_path)


def test_long_lines_are_wrapped_and_lines_are_counted_after_that(execute: ModuleType) -> None:
    text = execute.shown("\n".join(["word " * 40, "b"]), "last 2")
    assert text.splitlines()[0] == "..." and text.splitlines()[-1] == "b"
    assert max(map(len, text.splitlines())) <= execute.WIDTH
