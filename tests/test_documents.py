"""The documents say what result files say, name what exists, and fit into lines of 120 columns."""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LOG = ROOT / "docs" / "log.md"


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("documents")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The documents and the result files, for changing them."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copytree(ROOT / "benchmarks" / "results", tmp_path / "benchmarks" / "results")
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_tables_and_numbers_are_those_of_the_result_files(documents: ModuleType) -> None:
    assert documents.check(ROOT) == []


def test_a_number_that_is_changed_on_a_page_is_found(documents: ModuleType, copy: Path) -> None:
    for page in documents.PAGES:
        text = (copy / page).read_text()
        places = [*documents.TABLE.finditer(text), *documents.NUMBER.finditer(text)]
        assert places, f"{page} has nothing that documents.py writes"
        for match in places:
            changed = re.sub(r"[0-9](?=[^0-9]*\Z)", lambda digit: str(9 - int(digit[0])), match[0])
            assert changed != match[0]
            (copy / page).write_text(text[: match.start()] + changed + text[match.end() :])
            name = match.groupdict().get("name") or match["place"]
            assert any(page in problem and name in problem for problem in documents.check(copy))
        (copy / page).write_text(text)
    assert documents.check(copy) == []


def test_a_number_that_is_changed_in_a_result_file_is_found(documents: ModuleType, copy: Path) -> None:
    path = copy / "benchmarks" / "results" / "one_shot_step_2026-11-28.json"
    path.write_text(path.read_text().replace("11.694", "13.694"))
    problems = documents.check(copy)
    assert len(problems) == 1
    assert "docs/performance.md: table one-shot step" in problems[0]


def test_a_measured_number_that_is_typed_by_hand_is_found(documents: ModuleType, copy: Path) -> None:
    for page in documents.PAGES:
        if page in documents.OPEN:
            continue
        text = (copy / page).read_text()
        (copy / page).write_text(f"{text}\nAnother run had tau 0.83 (`lr=0.3`).\n")
        problems = documents.check(copy)
        assert len(problems) == 1
        assert page in problems[0]
        assert "0.83" in problems[0]
        assert "0.3`" not in problems[0]
        (copy / page).write_text(text)


def test_writing_again_changes_nothing(documents: ModuleType) -> None:
    results = documents.Results(ROOT)
    for page in documents.PAGES:
        text = (ROOT / page).read_text()
        assert documents.filled(text, results) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_lines_are_at_most_120_columns(page: Path) -> None:
    long = [i for i, line in enumerate(page.read_text().splitlines(), 1) if len(line) > 120]
    assert not long, f"{page.relative_to(ROOT)}: lines {long}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_line_begins_with_a_marker(page: Path) -> None:
    """Markdown would take the rest of such a line for HTML."""
    assert not re.search(r"^\s*<!-- n:", page.read_text(), flags=re.MULTILINE)


def slug(heading: str) -> str:
    """The name by which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_a_file_and_to_a_heading(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), flags=re.MULTILINE)
            assert heading in map(slug, headings), f"{page.name}: {target}#{heading}"


def current_pages() -> list[Path]:
    """All pages but the log, a dated record that names files as they were."""
    return [page for page in PAGES if page != LOG]


@pytest.mark.parametrize("page", current_pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "", page.read_text()).replace(" examples/s", "")  # a rate of the progress line
    for name in re.findall(r"(?<![\w./-])((?:supernet|tests|benchmarks|docs|examples)/[\w./-]*\w/?)", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"
    for name in re.findall(r"`(\w+\.(?:py|c))(?:\b[^`]*)?`", text):
        assert any(ROOT.glob(f"*/**/{name}")) or name in ("network.py", "predict.py", "FILE.py"), f"{page.name}: {name}"


@pytest.mark.parametrize("page", current_pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_of_the_package_that_a_page_uses_exist(page: Path) -> None:
    for name in re.findall(r"\bsupernet((?:\.[A-Za-z_]\w*)+)", page.read_text()):
        thing: Any = importlib.import_module("supernet")
        for part in name.strip(".").split("."):
            if hasattr(thing, part):
                thing = getattr(thing, part)
            else:
                thing = importlib.import_module(f"{thing.__name__}.{part}")


@pytest.mark.parametrize("page", current_pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_tests_that_a_page_names_exist(page: Path) -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", page.read_text()):
        assert f"def {name}(" in tests, f"{page.name}: {name}"
