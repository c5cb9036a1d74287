"""Names in written code."""

from __future__ import annotations

import itertools
import keyword
import re
from collections.abc import Sequence


def camel(text: str) -> str:
    """A name for a class; empty if the text does not begin with a letter."""
    joined = ""
    for word in filter(None, re.split(r"[^0-9A-Za-z]+", text)):
        joined += ("_" if joined[-1:].isdigit() and word[0].isdigit() else "") + word[0].upper() + word[1:]
    return joined if joined[:1].isalpha() else ""


def identifier(text: str) -> str:
    """A name for a variable or attribute."""
    name = re.sub(r"\W+", "_", text).strip("_")
    name = name if not name[:1].isdigit() else f"layer{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def beginning(texts: Sequence[Sequence[str]]) -> list[str]:
    """The parts that all have in common at their beginning."""
    same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*texts, strict=False))
    return [parts[0] for parts in same]
