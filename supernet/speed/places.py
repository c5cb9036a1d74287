"""Temporary folders of worker processes, which do not outlive a command that is killed.

Each holds a file that the command keeps locked (`flock`). The system lets go of the lock when the command ends, in
whatever way, so that the next one with workers sees which folders nothing belongs to any more.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "supernet-worker-"

_HELD = ".held"
"""Name of the file that is locked."""

_YOUNG_SECONDS = 60.0
"""A folder without that file is being made, unless it is older."""


@dataclass(frozen=True, slots=True)
class Place:
    """A temporary folder.

    Attributes:
        path: the folder.
        file: descriptor of its locked file.
    """

    path: Path
    file: int

    def remove(self) -> None:
        """Removes the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.file)


def make_place() -> Place:
    """A new folder, which belongs to this process."""
    path = Path(tempfile.mkdtemp(prefix=_PREFIX))
    file = os.open(path / _HELD, os.O_RDWR | os.O_CREAT, 0o600)
    _lock(file)
    return Place(path, file)


def remove_left() -> None:
    """Removes the folders of this user's commands that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_left(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_left(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        status = path.lstat()
        if status.st_uid != os.getuid() or not path.is_dir() or path.is_symlink():
            return False
        file = os.open(path / _HELD, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return path.is_dir() and time.time() - path.lstat().st_mtime > _YOUNG_SECONDS
    except OSError:
        return False
    try:
        return _lock(file)
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    """Locks an open file; false if another process has, or the disk has no such locks."""
    if sys.platform == "win32":
        return False
    import fcntl

    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
