"""Files that are whole or not there at all; JSON, weights and hashes in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from torch import nn


def cache_folder() -> Path:
    """The platform's folder for what can be made again; the variable SUPERNET_CACHE names another."""
    import pooch

    return Path(os.environ.get("SUPERNET_CACHE") or pooch.os_cache("supernet"))


class DiskFull(OSError):
    """No space left; nothing was left half written."""


def write_atomically(path: Path, write: Callable[[IO[bytes]], object], *, digest: bool = False) -> None:
    """Writes a file beside `path` and moves it there when it is complete.

    Args:
        path: the file; its folder is made where missing.
        write: writes the content to the open binary file.
        digest: whether its SHA-256 is kept in `.digests.json` of its folder, so that damage shows when it is read; a
            file that has one there gets a new one anyway.

    Raises:
        DiskFull: the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    noting: _Noting | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            noting = _Noting(file)
            write(noting)  # type: ignore[arg-type]  # it has whatever the file has
            file.flush()
            os.fsync(file.fileno())
        if digest or path.name in _digests(path.parent):
            record_digest(path, sha256(temporary))  # before the file: until then it lists the earlier one as well
        os.replace(temporary, path)
    except BaseException as caught:
        error = caught if noting is None or noting.error is None else noting.error
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(error.errno, f"no space left for {path}: make room and run the same command again") from None
        if isinstance(error, OSError) and error.errno is not None:
            # The name that the caller knows; a file in the place of a folder is a matter of several messages.
            blocked = isinstance(error, FileExistsError | NotADirectoryError)
            reason = "a folder of its path is a file" if blocked else error.strerror
            raise OSError(error.errno, reason, str(path)) from error
        raise


class _Noting:
    """A file that remembers why it could not be written: torch reports a full disk as an error of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """As the file does."""
        try:
            return self._file.write(content)
        except OSError as error:
            self.error = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# ---- digests ----


_DIGESTS = ".digests.json"
"""SHA-256 of files of a folder by name: the last ones of each, the newest first. Of a file that is being replaced when
the process ends, the old content is as good as the new one."""

_KEPT = 16
"""How many are kept of each file at the most; `checkpoint.pt` has an earlier one beside it."""

_RECORDING = threading.Lock()
"""Threads may write into one folder."""


def _digests(folder: Path) -> dict[str, list[str]]:
    path = folder / _DIGESTS
    if not path.exists():
        return {}
    try:
        digests = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(values, list) for values in digests.values()):
            return dict(digests)
    except (ValueError, AttributeError, RecursionError):
        pass
    raise ValueError(f"{path} is damaged: delete it; the files beside it are not checked then")


def record_digest(path: Path, digest: str | None = None) -> None:
    """Adds the SHA-256 of a file to the digests of its folder; of the file that is there if none is given."""
    digest = digest or sha256(path)
    with _RECORDING:
        digests = _digests(path.parent)
        earlier = [other for other in digests.get(path.name, []) if other != digest]
        if len(earlier) >= _KEPT:  # that of the file that is there may be old, if its successors were never written
            there = sha256(path) if path.exists() else ""
            earlier = [other for i, other in enumerate(earlier) if i < _KEPT // 4 or other == there]
        _write_digests(path.parent, {**digests, path.name: [digest, *earlier]})


def remove_with_digest(path: Path) -> None:
    """Removes a file, if it is there, and its digests."""
    path.unlink(missing_ok=True)
    with _RECORDING:
        digests = _digests(path.parent)
        if digests.pop(path.name, None) is not None:
            _write_digests(path.parent, digests)


def _write_digests(folder: Path, digests: dict[str, list[str]]) -> None:
    if digests:
        write_text(folder / _DIGESTS, json.dumps(digests, indent=1) + "\n")
    else:
        (folder / _DIGESTS).unlink()


def check_digest(path: Path, name: str | None = None) -> None:
    """Checks that a file is as it was written, if its folder has a digest of it.

    Args:
        path: the file.
        name: under which its digests are kept; None for its own.

    Raises:
        ValueError: it is not.
    """
    digests = _digests(path.parent).get(name or path.name)
    if digests is not None and sha256(path) not in digests:
        raise _changed(path)


def damaged_in(folder: Path) -> tuple[int, list[str]]:
    """How many files of a folder have digests, and what is wrong with those that are not as they were written."""
    problems, paths = [], [path for name in _digests(folder) if (path := folder / name).is_file()]
    for path in paths:
        try:
            check_digest(path)
        except ValueError as error:
            problems.append(str(error))
    return len(paths), problems


def _changed(path: Path) -> ValueError:
    return ValueError(
        f"{path} is damaged (its SHA-256 is not that of what was written): put a copy of it back, or delete it and run "
        f"the step again; if you changed it yourself, delete {path.name!r} in {path.with_name(_DIGESTS)}"
    )


def write_text(path: Path, text: str, *, digest: bool = False) -> None:
    """A whole text in UTF-8, or nothing; `digest` as for `write_atomically`."""
    write_atomically(path, lambda file: file.write(text.encode()), digest=digest)


def write_json(path: Path, value: Any, *, digest: bool = False) -> None:
    """Writes a value as JSON, atomically; NaN and infinity are refused (ValueError); `digest` as above."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n", digest=digest)


def read_json(path: Path, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: the file.
        keys: names that the object in it has to have.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    value: dict[str, Any] = _read_json(path, dict, "object")
    if missing := [key for key in keys if key not in value]:
        raise _damaged(path, f"it has no {missing[0]!r}")
    return value


def read_records(path: Path) -> list[dict[str, Any]]:
    """Reads a JSON file that holds a list of objects.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    value: list[dict[str, Any]] = _read_json(path, list, "list of objects")
    if not all(isinstance(record, dict) for record in value):
        raise _damaged(path, "no list of objects")
    return value


def _read_json(path: Path, kind: type, what: str) -> Any:
    content = path.read_bytes()
    digests = _digests(path.parent).get(path.name)
    if digests is not None and hashlib.sha256(content).hexdigest() not in digests:
        raise _changed(path)
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, kind):
        raise _damaged(path, f"no {what}")
    return value


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged ({why}): delete it and run the step again")


def write_weights(path: Path, module: nn.Module) -> None:
    """Writes weights and buffers as safetensors, with a digest; a tensor with several names by the first of them."""
    from safetensors.torch import save

    first = _first_names(module)
    state = {name: tensor for name, tensor in module.state_dict().items() if first.get(name, name) == name}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    storages = [tensor.untyped_storage().data_ptr() for tensor in tensors.values()]
    tensors = {  # a tensor that is a part of another one is written by itself
        name: tensor.clone() if storages.count(tensor.untyped_storage().data_ptr()) > 1 else tensor
        for name, tensor in tensors.items()
    }
    write_atomically(path, lambda file: file.write(save(tensors)), digest=True)


def _first_names(module: nn.Module) -> dict[str, str]:
    """For each name of a parameter or buffer the first name that the same tensor has: weights may be tied."""
    first: dict[int, str] = {}
    named = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}


def read_weights(path: Path, module: nn.Module) -> None:
    """Reads weights and buffers into a module.

    Raises:
        ValueError: the file is damaged, or belongs to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_digest(path)
    try:
        tensors = load_file(path)
        names = module.state_dict().keys()
        tied = {name: first for name, first in _first_names(module).items() if name != first and name in names}
        tensors |= {name: tensors[first] for name, first in tied.items() if name not in tensors and first in tensors}
        module.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(
            f"{path} is damaged or of another network ({reason}): delete it and run the step that writes it again"
        ) from None


def without_password(address: str) -> str:
    """The address of a database without its password, and without what stands after a question mark.

    Where it is not certain what the password is, since signs of addresses are in it, only the kind is left.
    """
    kind, separator, whole = address.partition("://")
    if not separator:
        return address
    before, at, place = whole.rpartition("@")
    place = re.split("[?#]", place)[0]
    is_plain = not re.search("[?#]", before)
    if not at:
        is_plain = "sqlite" in kind or re.fullmatch(r"[^:]*(:\d+)?(/[^:]*)?", place) is not None
    return f"{kind}://{before.partition(':')[0]}{at}{place}" if is_plain else f"{kind}://***"


def without_secrets(text: str, address: str) -> str:
    """A text, such as the message of an error, without any part of what the address of a database keeps secret."""
    whole = address.partition("://")[2]
    before, _, place = whole.rpartition("@")
    options = re.split("[?#]", whole, maxsplit=1)[1:]
    values = [value.partition("=")[2] or value for option in options for value in option.split("&")]
    secrets = [before.partition(":")[2], *values, *(place.split("@") if "?" in before else ())]
    for secret in sorted({form for s in secrets for form in (s, unquote(s))}, key=len, reverse=True):
        for length in range(len(secret), _LEAST_SECRET - 1, -1):
            for start in range(len(secret) - length + 1):
                text = text.replace(secret[start : start + length], "***")
    return text


_LEAST_SECRET = 4
"""Shorter parts of a password stand in many texts by chance."""


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
