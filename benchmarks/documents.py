"""Numbers in the documents, written from result files.

    python benchmarks/documents.py            # write all tables and numbers of the pages anew
    python benchmarks/documents.py --check    # compare only: names what differs, exit code 1

A page has two kinds of places that this script fills; everything else on it is written by hand.

A table stands between two lines. The function of that name in tables_of_results.py or tables_of_speed.py writes it:

    <!-- table: NAME -->
    <!-- end -->

A number in a sentence stands between two marks. FILE is the name of a result file without its ending, PATH leads into
it (`::` between keys), FORMAT is one of FORMATS in formats.py:

    Kendall's tau is <!-- n: FILE PATH FORMAT -->0.76<!-- -->.

Result files are JSON, in docs/, docs/results/ and benchmarks/results/.

**Numbers typed by hand.** A number with a decimal point that is in no such place, and not in code, is refused: it would
stand for a measurement that nothing compares with its file. EXCEPTIONS lists what may stay.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from formats import FORMATS
from tables_of_results import TABLES as OF_RESULTS
from tables_of_speed import TABLES as OF_SPEED

ROOT = Path(__file__).parents[1]
TABLES = {**OF_RESULTS, **OF_SPEED}
FOLDERS = ("docs", "docs/results", "benchmarks/results")
PAGES = (
    "README.md", "docs/guide/pays.md", "docs/results/README.md", "docs/performance.md", "docs/strategies.md",
    "docs/paper.md", "docs/scale.md", "docs/networks.md",
)  # fmt: skip

OPEN = {"docs/paper.md": "the paper's published numbers stand on it; of ours only those in marked places"}
"""Pages on which numbers may be typed by hand, with the reason."""

EXCEPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "README.md": (
        ("Python 3.11", "a version"),
        ("Apache-2.0", "a license"),
    ),
    "docs/results/README.md": (
        ("of the loss with 1.5 times the rank", "a setting"),
        ("Fig 4: rate 0.01", "a setting, in the name of a figure"),
        ("Fig 4: rate 0.3", "a setting, in the name of a figure"),
    ),
    "docs/performance.md": (
        ("every 0.2 ms", "a setting"),
        ("5 ms or 0.02 ms** in place of 0.2 ms", "settings"),
    ),
}
"""Texts of a page that hold a decimal point without being a measurement of ours, each with the reason."""

TABLE = re.compile(r"(<!-- table: (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(<!-- n:\s+(?P<place>[^>]+?)\s+-->)[^<]*(<!-- -->)")
CODE = re.compile(r"^```.*?^```|^(?: {4,}|\t)\S.*?$|`[^`]*`|\]\([^)]*\)|^\[[^\]]+\]: .*?$", re.DOTALL | re.MULTILINE)
DECIMAL = re.compile(r"(?<![\w.])-?\d+\.\d+(?![\w.]*\.\d)")


class Results:
    """The result files below a folder, each read once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: dict[str, Any] = {}

    def __call__(self, name: str) -> Any:
        if name not in self.read:
            paths = [path for folder in FOLDERS if (path := self.root / folder / f"{name}.json").exists()]
            if len(paths) != 1:
                raise ValueError(f"{name}: expected one file {name}.json in {', '.join(FOLDERS)}, got {len(paths)}")
            self.read[name] = json.loads(paths[0].read_text())
        return self.read[name]


def number(place: str, results: Results) -> str:
    """The text of a number in a sentence: 'FILE PATH FORMAT'."""
    name, _, rest = " ".join(place.split()).partition(" ")
    path, _, form = rest.rpartition(" ")
    value = results(name)
    for key in path.split("::"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return FORMATS[form](value)


def filled(text: str, results: Results, differs: Callable[[str], None] = lambda place: None) -> str:
    """A page with all of its tables and numbers written anew; `differs` is called for each that was another."""

    def table(match: re.Match[str]) -> str:
        new = f"{match[1]}\n{TABLES[match['name']](results).rstrip()}\n\n{match[3]}"
        if new != match[0]:
            differs(f"table {match['name']}")
        return new

    def single(match: re.Match[str]) -> str:
        new = f"{match[1]}{number(match['place'], results)}{match[3]}"
        if new != match[0]:
            differs(f"number {match['place']}")
        return new

    return NUMBER.sub(single, TABLE.sub(table, text))


def typed_by_hand(page: str, text: str) -> list[str]:
    """Numbers with a decimal point that no file stands behind, each with some of the text around it.

    Also the exceptions that the page does not have: the list must not outlive its reasons.
    """
    if page in OPEN:
        return []
    text = " ".join(CODE.sub("", NUMBER.sub("", TABLE.sub("", text))).split())
    missing = []
    for snippet, reason in EXCEPTIONS.get(page, ()):
        if snippet not in text:
            missing.append(f"{snippet!r} ({reason}) is not there: take it out of EXCEPTIONS")
        text = text.replace(snippet, "")
    around = (text[max(0, match.start() - 40) : match.end() + 20] for match in DECIMAL.finditer(text))
    return missing + list(around)


def check(root: Path) -> list[str]:
    """What differs between the pages below a folder and the result files there, and what is typed by hand."""
    results = Results(root)
    problems: list[str] = []
    for page in PAGES:
        text = (root / page).read_text()
        differing: list[str] = []
        filled(text, results, differing.append)
        problems += [f"{page}: {place} differs from its file" for place in differing]
        problems += [f"{page}: number typed by hand: {snippet}" for snippet in typed_by_hand(page, text)]
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit code 1 if anything differs")
    if not parser.parse_args().check:
        results = Results(ROOT)
        for page in PAGES:
            path = ROOT / page
            path.write_text(filled(path.read_text(), results))
    problems = check(ROOT)
    print("\n".join(problems) or "all tables and numbers are those of their files")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
