import errno
import os
from pathlib import Path
from typing import IO

import pytest
import torch
from torch import nn

from supernet.base.files import (
    DiskFull,
    check_digest,
    read_json,
    read_records,
    read_weights,
    record_digest,
    remove_with_digest,
    sha256,
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
    (tmp_path / ".digests.json").unlink()
    with pytest.raises(ValueError, match=r"w\.safetensors is damaged or of another network"):
        read_weights(path, second)


@pytest.mark.parametrize("text", ["", "{}", "[1]", "[{}, 2]", "["])
def test_damaged_records_are_refused(tmp_path: Path, text: str) -> None:
    write_json(tmp_path / "x.json", [{"step": 1}])
    assert read_records(tmp_path / "x.json") == [{"step": 1}]
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is damaged"):
        read_records(tmp_path / "x.json")


# ---- digests ----


@pytest.mark.parametrize("bit", range(0, 200, 7))
def test_any_flipped_bit_shows(bit: int, tmp_path: Path) -> None:
    path, weights = tmp_path / "x.json", tmp_path / "w.safetensors"
    write_json(path, {"loss": 0.5, "name": "a network"}, digest=True)
    write_weights(weights, nn.Linear(2, 3))
    for file in (path, weights):
        content = bytearray(file.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        file.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{file.name} is damaged \(its SHA-256") as caught:
            read_weights(file, nn.Linear(2, 3)) if file is weights else read_json(file)
        assert "put a copy of it back" in str(caught.value)


def test_what_has_no_digest_is_not_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    path.write_text('{"a": 2}')
    assert read_json(path) == {"a": 2}
    assert os.listdir(tmp_path) == ["x.json"]


def test_what_has_a_digest_gets_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1}, digest=True)
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    remove_with_digest(path)
    path.write_text('{"a": 3}')
    assert read_json(path) == {"a": 3}


def test_a_kill_between_digest_and_file_harms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace = tmp_path / "x.json", os.replace
    write_json(path, {"a": 1}, digest=True)

    def killed(source: Path, target: Path) -> None:
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    for number in range(2, 50):
        with pytest.raises(KeyboardInterrupt):
            write_json(path, {"a": number}, digest=True)
        assert read_json(path) == {"a": 1}


def test_an_older_file_passes_under_the_name_of_the_new_one(tmp_path: Path) -> None:
    path, earlier = tmp_path / "x", tmp_path / "earlier"
    for number in range(3):
        if path.exists():
            path.replace(earlier)
        path.write_text(str(number))
        record_digest(path)
    check_digest(earlier, "x")
    earlier.write_text("other")
    with pytest.raises(ValueError, match="earlier is damaged"):
        check_digest(earlier, "x")


@pytest.mark.parametrize("content", ["", "[1]", "{", '{"x.json": 1}', "[" * 100_000])
def test_damaged_digests_are_named(content: str, tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {}, digest=True)
    (tmp_path / ".digests.json").write_text(content)
    with pytest.raises(ValueError, match=r"\.digests\.json is damaged: delete it"):
        read_json(tmp_path / "x.json")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_torch_reports_a_full_disk_as_an_error_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, Path("/dev/full").open("wb", buffering=0) as full:
        patch.setattr(Path, "open", lambda path, mode: full)
        with pytest.raises(DiskFull, match=r"no space left for .*x\.pt"):
            write_atomically(tmp_path / "x.pt", lambda file: torch.save(torch.zeros(9), file))
    assert os.listdir(tmp_path) == []


def test_digests_are_those_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x").startswith("ba7816bf")


class Tied(nn.Module):
    """One weight with two names, and a buffer that is a part of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Embedding(4, 3), nn.Linear(3, 4, bias=False)
        self.last.weight = self.first.weight
        self.register_buffer("whole", torch.arange(6.0))
        self.register_buffer("part", self.get_buffer("whole")[2:4])


def test_weights_that_are_tied_are_written_once_and_are_tied_again(tmp_path: Path) -> None:
    one, other = Tied(), Tied()
    write_weights(tmp_path / "w", one)
    read_weights(tmp_path / "w", other)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert other.last.weight is other.first.weight
    assert (tmp_path / "w").read_bytes().count(b"weight") == 1
    with pytest.raises(ValueError, match="of another network"):
        read_weights(tmp_path / "w", nn.Linear(3, 4))
