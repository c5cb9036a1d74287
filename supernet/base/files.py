"""Files that are whole or not there at all; JSON, weights and hashes in them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from torch import nn


def cache_folder() -> Path:
    """The platform's folder for what can be made again; the variable SUPERNET_CACHE names another."""
    import pooch

    return Path(os.environ.get("SUPERNET_CACHE") or pooch.os_cache("supernet"))


class DiskFull(OSError):
    """No space left; nothing was left half written."""


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file beside `path` and moves it there when it is complete.

    Args:
        path: the file; its folder is made where missing.
        write: writes the content to the open binary file.

    Raises:
        DiskFull: the disk is full; `path` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
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


def write_text(path: Path, text: str) -> None:
    """A whole text in UTF-8, or nothing."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, atomically; NaN and infinity are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


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
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(value, kind):
        raise _damaged(path, f"no {what}")
    return value


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is damaged ({why}): delete it and run the step again")


def write_weights(path: Path, module: nn.Module) -> None:
    """Writes weights and buffers as safetensors."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    write_atomically(path, lambda file: file.write(save(tensors)))


def read_weights(path: Path, module: nn.Module) -> None:
    """Reads weights and buffers into a module.

    Raises:
        ValueError: the file is damaged, or belongs to another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(
            f"{path} is damaged or of another network ({reason}): delete it and run the step that writes it again"
        ) from None


def without_password(address: str) -> str:
    """The address of a database without its password, and without what stands after a question mark."""
    kind, separator, address_and_options = address.partition("://")
    if not separator:
        return address
    user, at, place = address_and_options.partition("?")[0].rpartition("@")
    return f"{kind}://{user.partition(':')[0]}{at}{place}"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
