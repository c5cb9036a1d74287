"""Words that the project has given up, and better ones; `python -m tests.test_words` lists the places."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATTERNS = {
    r"who|whom|whoever|nobody|somebody": "architectures are *which* or *that*; people are users",
    r"(is|are|hold|holds) no numbers?|no numbers any more|numbers? that (is|are) none|stays? none": "NaN",
    r"to be had|can be had|cannot be had": "there is, is available",
    r"so many": "n, the number of",
    r"where nothing": "if none, if there is none",
    r"of before": "earlier",
}
"""What is no longer written, as an expression with single spaces, and what is written instead."""

PLACES_ALLOWED = 0
"""None: the texts were rewritten."""

VAGUE = {"found", "known", "given", "asked", "here", "told", "wanted", "done", "rest"}
"""Names that say when a value came, and not what it is."""

VAGUE_ALLOWED = 56
"""Assignments to such names in the package; a change may not add to it."""


def texts() -> Iterator[Path]:
    """Code, templates and documents, without the log, which is a dated record."""
    for kind in ("*.py", "*.c", "*.j2", "*.yaml"):
        yield from sorted((ROOT / "supernet").rglob(kind))
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    yield from (page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name != "log.md")


def places(text: str) -> Iterator[tuple[int, str, str]]:
    """The line of each word in a text that was given up, the word, and the better one.

    Names, comments, docstrings and messages alike. A phrase may go on after the end of a line, in a comment too.
    """
    for pattern, better in PATTERNS.items():
        words = pattern.replace(" ", r"[\s#*]+")
        for match in re.finditer(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])", text, re.IGNORECASE):
            yield text.count("\n", 0, match.start()) + 1, match.group(), better


def vague_names(path: Path) -> list[int]:
    """Lines in which a name that says nothing is assigned."""
    nodes = ast.walk(ast.parse(path.read_text()))
    names = (node for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return [node.lineno for node in names if node.id in VAGUE]


def all_places() -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line}: {' '.join(word.split())!r}: write {better}"
        for path in texts()
        for line, word, better in places(path.read_text())
    ]


def all_vague_names() -> list[str]:
    package = sorted((ROOT / "supernet").rglob("*.py"))
    return [f"{path.relative_to(ROOT)}:{line}: a vague name" for path in package for line in vague_names(path)]


def test_words_that_were_given_up_do_not_come_back() -> None:
    found = all_places()
    assert len(found) <= PLACES_ALLOWED, "\n".join(found)


def test_names_say_what_a_value_is() -> None:
    found = all_vague_names()
    assert len(found) <= VAGUE_ALLOWED, "\n".join(found)


def test_words_are_found_wherever_they_stand() -> None:
    text = 'WHO = 1\n# as so\n    # many times\nf"{x} is no\n  number"\nwhole, whose, known numbers, so  few'
    assert [(line, " ".join(word.split())) for line, word, _ in places(text)] == [
        (1, "WHO"), (4, "is no number"), (2, "so # many"),
    ]  # fmt: skip


if __name__ == "__main__":
    print(*all_places(), *all_vague_names(), sep="\n")
