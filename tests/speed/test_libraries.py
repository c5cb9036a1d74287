"""Compiled kernels are made, kept and loaded; `tests/speed/test_kernels.py` is about what they compute."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supernet.speed import kernels, tune

pytestmark = pytest.mark.skipif(kernels._compiler() is None, reason="no C compiler")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a source that is compiled at once."""
    source = tmp_path / "small.c"
    functions = "\n".join(f"int {name}(void) {{ return 7; }}" for name in kernels.ARGUMENTS)
    source.write_text(functions)
    monkeypatch.setattr(kernels, "SOURCE", source)
    monkeypatch.setattr(kernels, "_FLAGS", ("-shared", "-fPIC"))
    monkeypatch.setenv("SUPERNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    run = subprocess.run

    def counted(*words: Any, **more: Any) -> Any:
        calls.append(words)
        return run(*words, **more)

    monkeypatch.setattr(subprocess, "run", counted)
    return calls


def compiled() -> Any:
    return kernels.compiled.__wrapped__()


def test_they_are_compiled_once(cache: Path, compilations: list[Any]) -> None:
    for _ in range(2):
        assert compiled().multiplies_halves() == 7
    assert len(compilations) == 1
    (path,) = cache.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


def rewrite(path: Path, content: bytes) -> None:
    """Another file in its place: this process has mapped the old one."""
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o644)


def cut(path: Path) -> None:
    content = path.read_bytes()
    rewrite(path, content[: len(content) // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    rewrite(path, bytes(content))


@pytest.mark.parametrize("damage", [cut, flip, lambda path: rewrite(path, b""), lambda path: path.chmod(0o666)])
def test_what_is_damaged_or_others_may_write_is_not_loaded(
    damage: Callable[[Path], Any], cache: Path, compilations: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    compiled()
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    damage(path)
    assert compiled().multiplies_halves() == 7
    assert len(compilations) == 2
    assert path.read_bytes() == whole and path.stat().st_mode & 0o777 == 0o644
    assert f"{path} is" in caplog.text and "compiled anew" in caplog.text


def test_the_library_of_another_user_is_not_loaded(
    cache: Path, compilations: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled()
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    (path,) = cache.iterdir()
    if path.stat().st_uid == 0:
        os.chown(path, 1234, -1)
    assert compiled().multiplies_halves() == 7, "by a library that is not kept"
    assert len(compilations) == 2
    assert "another user owns it" in caplog.text


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.mkdir()
    cache.chmod(0o500)
    assert compiled().multiplies_halves() == 7


def test_a_cache_that_is_a_file(cache: Path) -> None:
    cache.write_text("")
    assert compiled().multiplies_halves() == 7


def test_one_start_without_a_compiler_is_not_remembered(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(tune, "measure", lambda device: tune.Tuning(kernels=("norm",) if kernels.compiled() else ()))
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    assert tune._tuning.__wrapped__("cpu").kernels == ()
    monkeypatch.setattr(kernels, "compiled", lambda: object())
    assert tune._tuning.__wrapped__("cpu").kernels == ("norm",)
    monkeypatch.undo()
    monkeypatch.setenv("SUPERNET_CACHE", str(cache))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert compiled() is None
    assert "no C compiler" in caplog.text


def test_a_compiler_that_fails_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kernels.SOURCE.write_text("this is no C")
    assert compiled() is None
    (record,) = caplog.records
    assert "cannot be compiled" in record.getMessage() and "\n" not in record.getMessage()
    assert os.listdir(cache) == []
