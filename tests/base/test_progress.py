"""Progress of work that gives one row after the other."""

from __future__ import annotations

from typing import Any

import pytest

from supernet.base.progress import Interrupted, Watch, counted


def test_rows_are_counted_as_they_come() -> None:
    said: list[Any] = []
    watch = Watch(lambda done, total, **more: said.append((done, total, more)))
    assert list(counted(iter("abc"), 3, "letters", watch)) == ["a", "b", "c"]
    assert said == [(number, 3, {"unit": "letters"}) for number in (1, 2, 3)]


def test_a_stop_ends_the_count_unless_all_is_done() -> None:
    seen: list[str] = []
    watch = Watch(stop=lambda: len(seen) == 2)
    with pytest.raises(Interrupted, match="stopped after 2 of 3 letters"):
        for letter in counted(iter("abc"), 3, "letters", watch):
            seen.append(letter)
    assert seen == ["a", "b"]
    seen = ["a"]
    for letter in counted(iter("b"), 1, "letters", watch):
        seen.append(letter)
    assert seen == ["a", "b"]
