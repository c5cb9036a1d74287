"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from torch import nn

_FUNCTION = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


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
    """Writes a value as JSON, atomically; numbers that are none are refused."""
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
    kind, separator, rest = address.partition("://")
    if not separator:
        return address
    rest = rest.partition("?")[0]
    user, at, place = rest.rpartition("@")
    return f"{kind}://{user.partition(':')[0]}{at}{place}"


# ---- functions in users' files ----


def is_function(name: str) -> bool:
    """Whether a text has the form FILE.py:FUNCTION."""
    return _FUNCTION.fullmatch(name) is not None


def file_of(name: str) -> Path:
    """The whole path of the file of FILE.py:FUNCTION."""
    return Path(name.rpartition(":")[0]).expanduser().resolve()


def absolute(name: str) -> str:
    """FILE.py:FUNCTION with the whole path of the file; another name as it is."""
    return f"{file_of(name)}:{name.rpartition(':')[2]}" if is_function(name) else name


def digest_of(name: str) -> str:
    """SHA-256 of the file of FILE.py:FUNCTION.

    Raises:
        ValueError: there is no such file.
    """
    path = file_of(name)
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    return sha256(path)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load_function(name: str) -> Callable[..., Any]:
    """A function of a user's file, named FILE.py:FUNCTION. The file is run once; it may import its neighbours.

    Raises:
        ValueError: there is no such file or function, or the file does not run; the message says in which line.
    """
    path, function = file_of(name), name.rpartition(":")[2]
    module = _load_module(path, digest_of(name))
    found = getattr(module, function, None)
    if not callable(found):
        names = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == module.__name__]
        raise ValueError(f"{path} has no function {function!r}; it has: {', '.join(names) or 'none'}")
    return found  # type: ignore[no-any-return]


@cache
def _load_module(path: Path, digest: str) -> ModuleType:
    name = f"{path.stem}_{digest[:10]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    sys.path.insert(0, str(path.parent))
    try:
        with users_code(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.parent))
    return module


@contextmanager
def users_code(file: Path) -> Iterator[None]:
    """Whatever a user's file raises becomes one line that names the line of the file it came from.

    Raises:
        ValueError: the code raised something else than a `ValueError`, which says by itself what is wrong.
    """
    try:
        yield
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        line = line or (frames[-1].lineno if frames else None)
        if isinstance(error, ValueError) and not frames:
            raise
        place = f"{file}, line {line}" if line else str(file)
        text = " ".join(str(error).split())
        raise ValueError(
            f"{place}: {type(error).__name__}: {text}" if text else f"{place}: {type(error).__name__}"
        ) from error
