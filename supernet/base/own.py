"""Functions and classes of users: in files, named FILE.py:NAME, and in Python."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from supernet.base.files import sha256

_OF_USER = "__supernet_of_user__"
"""An attribute of modules that were loaded from a user's file."""

_FUNCTION = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


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


class OwnFunction(str):
    """The name of a function that a user gave in Python, which carries the function."""

    function: Callable[..., Any]

    def __deepcopy__(self, memory: object) -> OwnFunction:
        return self


def own_function(function: Callable[..., Any]) -> OwnFunction:
    """The name of a function that has no file: module, name and a digest of its source.

    Of a `functools.partial` the digest covers its arguments too; of what has no source, such as what is typed at a
    prompt, it covers the compiled code.
    """
    inner, arguments = function, ""
    while isinstance(inner, partial):
        arguments += repr((inner.args, sorted(inner.keywords.items())))
        inner = inner.func
    try:
        source = inspect.getsource(inner)
    except (OSError, TypeError):
        code = getattr(inner, "__code__", None)
        source = "" if code is None else repr((code.co_code, code.co_consts, code.co_names))
    place = f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__name__)}"
    name = OwnFunction(f"python:{place}:{hashlib.sha256((source + arguments).encode()).hexdigest()[:10]}")
    name.function = function
    return name


def is_own_function(name: str) -> bool:
    """Whether a text is the name of a function that was given in Python."""
    return name.startswith("python:")


def load_function(name: str) -> Callable[..., Any]:
    """A function of a user's file, named FILE.py:FUNCTION. The file is run once; it may import its neighbours.

    Raises:
        ValueError: there is no such file or function, or the file does not run; the message says in which line.
    """
    path, function = file_of(name), name.rpartition(":")[2]
    module = _load_module(path, digest_of(name))
    member = getattr(module, function, None)
    if not callable(member):
        names = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == module.__name__]
        raise ValueError(f"{path} has no function {function!r}; it has: {', '.join(names) or 'none'}")
    return member  # type: ignore[no-any-return]  # any function of the user's


@cache
def _load_module(path: Path, digest: str) -> ModuleType:
    name = f"{path.stem}_{digest[:10]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    vars(module)[_OF_USER] = True
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


def users_modules() -> list[ModuleType]:
    """Modules of users' files that were run, and their neighbours: another process cannot import these by name."""
    modules = list(sys.modules.values())
    folders = {os.path.dirname(str(m.__file__)) for m in modules if _OF_USER in getattr(m, "__dict__", ())}
    if not folders:  # as usual, and this is asked for each task
        return []
    return [m for m in modules if os.path.dirname(str(getattr(m, "__file__", None))) in folders]


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
