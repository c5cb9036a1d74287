from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from supernet.base.extras import MissingExtra, extra

HIDDEN = [
    ("sklearn.datasets", ["run", "digits-smoke", "--out", "OUT"], "supernet[digits]"),
    ("pyarrow.parquet", ["top", "RUN", "--out", "OUT.parquet"], "supernet[parquet]"),
]


@pytest.mark.parametrize(("module", "words", "text"), HIDDEN)
def test_a_missing_package_is_one_line_with_its_extra(
    module: str, words: list[str], text: str, finished_run: Path, tmp_path: Path, refused: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in (module.partition(".")[0], module):
        monkeypatch.setitem(sys.modules, name, None)
    places = {"RUN": str(finished_run), "OUT": str(tmp_path / "out"), "OUT.parquet": str(tmp_path / "out.parquet")}
    message = refused(*(places.get(word, word) for word in words))
    assert f"pip install '{text}'" in message and f"needs the package {module.partition('.')[0]}" in message


def test_an_error_inside_a_package_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "halfway.py").write_text("import not_there_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        extra("halfway", "some", "this")
    with pytest.raises(MissingExtra, match=r"this needs the package not_there: pip install 'supernet\[some\]'"):
        extra("not_there.inside", "some", "this")
