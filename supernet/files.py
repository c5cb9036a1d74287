"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from torch import nn


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


def write_json(path: Path, value: Any) -> None:
    """Writes a value as JSON, atomically; numbers that are none are refused."""
    text = json.dumps(value, indent=1, allow_nan=False)
    write_atomically(path, lambda file: file.write(text.encode() + b"\n"))


def read_json(path: Path, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Args:
        path: the file.
        keys: names that the object in it has to have.

    Raises:
        ValueError: it is damaged; the message names it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("no object")
        if missing := [key for key in keys if key not in value]:
            raise ValueError(f"it has no {missing[0]!r}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and run the step again") from None
    return value


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
