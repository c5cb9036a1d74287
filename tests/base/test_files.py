import errno
import os
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import nn

from supernet.base.files import (
    DiskFull,
    read_json,
    read_records,
    read_weights,
    write_atomically,
    write_json,
    write_weights,
)


def test_writes_whole_files_into_new_folders(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b" / "x.json", {"ä": [1, 2.5, None]})
    assert read_json(tmp_path / "a" / "b" / "x.json") == {"ä": [1, 2.5, None]}
    assert os.listdir(tmp_path / "a" / "b") == ["x.json"]


@pytest.mark.parametrize("failure", [RuntimeError("half way"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(failure: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def write(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise failure

    with pytest.raises(type(failure)):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(call: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(DiskFull, match="no space left"):
        write_atomically(tmp_path / "x", lambda file: file.write(b"new"))
    assert os.listdir(tmp_path) == []


def test_other_errors_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="is a file") as caught:
        write_json(tmp_path / "file" / "x.json", {})
    assert caught.value.filename == str(tmp_path / "file" / "x.json")


def test_no_number_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff", b'{"a": 1}', b"[" * 100_000])
def test_damaged_json(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_json(path, ("b",))


def test_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    write_weights(path, first)
    read_weights(path, second)
    assert torch.equal(first.weight, second.weight)
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or of another network"):
        read_weights(path, nn.Linear(3, 2))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or of another network"):
        read_weights(path, second)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{}, 2]", "["])
def test_damaged_records_are_refused(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "x.json", [{"step": 1}])
    assert read_records(tmp_path / "x.json") == [{"step": 1}]
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_records(tmp_path / "x.json")
