"""Values of settings, by their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import pytest

from supernet.program.config import Config
from supernet.program.settings import ConfigError, check_name, check_settings, check_value


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        ("1e-4", float, 1e-4),
        (None, float | None, None),
        ("2", float | None, 2.0),
        (5, int, 5),
        ("a", Literal["a", "b"], "a"),
        ([1, 2], tuple[int, int], (1, 2)),
        ({"a": 1}, dict[str, Any], {"a": 1}),
        ([1], list[int], [1]),
        ([8, 16, 24], tuple[int, ...], (8, 16, 24)),
        ([], tuple[int, ...], ()),
        (["1e-4", 2], tuple[float, ...], (1e-4, 2.0)),
        ([1, 2], tuple, (1, 2)),
        ([1, 2], Sequence[int], [1, 2]),
        ((1, 2), list, [1, 2]),
        ([[1, 2], [3]], list[tuple[int, ...]], [(1, 2), (3,)]),
        ({"a": [1]}, dict[str, tuple[int, ...]], {"a": (1,)}),
        ({"a": "1e3"}, Mapping[str, float], {"a": 1000.0}),
        (None, Sequence[int] | None, None),
        ("relu", int | str, "relu"),
        (3, Any, 3),
    ],
)
def test_values_that_fit(value: Any, hint: Any, expected: Any) -> None:
    found = check_value("x", value, hint)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (True, float),
        (1.5, int),
        (float("nan"), float),
        (10**400, float),
        ("x", float | None),
        ([1], float),
        (None, int),
        (1, bool),
        (1, str),
        ("c", Literal["a", "b"]),
        ([1], tuple[int, int]),
        ([1, "x"], tuple[int, int]),
        ({1: 2}, dict[str, Any]),
        ([1, "x"], tuple[int, ...]),
        (8, tuple[int, ...]),
        ("88", Sequence[str]),
        ([True], list[int]),
        ([[1], 2], list[tuple[int, ...]]),
        ({"a": 1.5}, dict[str, int]),
        (["a"], int | str),
    ],
)
def test_values_that_do_not_fit(value: Any, hint: Any) -> None:
    with pytest.raises(ConfigError, match=r"^x: expected "):
        check_value("x", value, hint)


def test_unknown_names_give_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"setting: no 'train.lrr'; did you mean 'train.lr'\?"):
        check_settings({"train": {"lrr": 1}}, Config)
    with pytest.raises(ConfigError, match=r"what: no 'zzz'; there are: aaa, bbb"):
        check_name("zzz", ["aaa", "bbb"], "what")


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (tuple[int, ...], "a list of whole numbers"),
        (list[float], "a list of numbers"),
        (Sequence[str] | None, "a list of texts or null"),
        (tuple[int, int], "a list of 2 values"),
        (dict[str, int], "settings by name"),
        (int | str, "a whole number or a text"),
        (Literal["a", "b"], "one of a, b"),
    ],
)
def test_messages_name_the_type(hint: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=f"^x: expected {text}, got "):
        check_value("x", object(), hint)
