"""One command at a time writes into a run folder.

The lock is a file that names its holder. On a local disk `flock` holds it, which ends with the process. Some shared
disks have no `flock`, or one that other machines do not see: there the file is made exclusively, and its holder touches
it again and again, so that others see that it is alive. Commands that only read take no lock.
"""

from __future__ import annotations

import errno
import json
import math
import os
import shlex
import shutil
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

from supernet.base.files import without_password
from supernet.program.folder import RunError, remove_unfinished
from supernet.program.paths import RunFolder

BEAT_SECONDS = 15.0
"""How often a holder touches its lock."""

STALE_SECONDS = 120.0
"""A lock of another machine that was not touched for this time is that of a process that is gone."""

_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""What disks without `flock` answer."""

_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What disks answer that cannot be written: they need no lock."""

_ATTEMPTS = 5
"""Of taking a lock whose file others remove or replace at the same time."""

_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Variables that number the processes of one command."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        command: what the user called.
        host: name of the machine.
        machine: what two processes share that see each other's numbers: the start of the system, and the container.
        pid: number of the process.
        started: when the process began, in the clock of the system: numbers of processes are used again.
        since: when the lock was taken.
        token: of this lock alone.
    """

    command: str
    host: str
    machine: str
    pid: int
    started: str
    since: str
    token: str

    def __str__(self) -> str:
        return f"`{self.command}` ({self.host}, process {self.pid}, since {self.since})"


@contextmanager
def alone_in(folder: RunFolder) -> Iterator[None]:
    """Inside the ``with`` block this command alone writes into a run folder; it removes what killed ones left.

    Args:
        folder: the run folder; it is made where it is missing.

    Raises:
        RunError: another command works in it; the message names it.
    """
    is_new = not folder.path.exists()
    with suppress(FileExistsError, NotADirectoryError):  # what is there is refused with better words later
        folder.path.mkdir(parents=True, exist_ok=True)
    if not folder.path.is_dir():
        yield
        return
    try:
        with locked(folder.lock):
            remove_unfinished(folder)
            yield
    finally:
        if is_new and not any(folder.path.iterdir()):  # it was made for nothing
            folder.path.rmdir()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Inside the ``with`` block this process alone holds a lock.

    A lock of a process that is gone is taken over. Helpers of a command of several processes take none: the first
    process holds it. A folder that cannot be written is not locked either.

    Args:
        path: the file of the lock, in a folder that is there.

    Raises:
        RunError: another process holds it; the message names it.
    """
    if any(os.environ.get(name, "0") != "0" for name in _RANKS):
        yield
        return
    holder = _this_process()
    try:
        file, place = _take(path, holder)
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        yield
        return
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, place, holder.token, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        if file is None:
            _remove_from_folder(place)
        else:
            if (there := read_holder(path)) is not None and there.token == holder.token:
                with suppress(OSError):
                    path.unlink()
            os.close(file)


def _take(path: Path, holder: Holder) -> tuple[int | None, Path]:
    """Takes the lock; returns the descriptor that holds it, if one does, and the file that names the holder."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _flock(file, path):
                if os.fstat(file).st_size == 0:
                    path.unlink(missing_ok=True)
                return None, _take_folder(path, holder)
            if not _is_at(file, path):  # its last holder removed it after it was opened
                continue
            _refuse_if_alive(path, path, is_flocked=True)
            with suppress(OSError):  # on a full disk it holds without a name
                os.ftruncate(file, 0)
                os.pwrite(file, _text(holder), 0)
            if not _is_at(file, path):
                continue
            try:
                _refuse_if_alive(_named_in(_folder(path)), path)  # of a machine that has no `flock` on this disk
            except RunError:
                path.unlink()
                raise
            kept, file = file, -1
            return kept, path
        finally:
            if file >= 0:
                os.close(file)


def _flock(file: int, path: Path) -> bool:
    """Locks an open file for this process alone; false where the disk has no such locks.

    Raises:
        RunError: another process has locked it.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError as error:
        if error.errno in _NO_FLOCK:
            return False
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise _refusal(path, read_holder(path)) from None
        raise


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file still has this name."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _take_folder(path: Path, holder: Holder) -> Path:
    """Takes the lock without `flock`: no folder can be moved onto one that holds a file, which all disks agree on.

    The file is named by its lock's token, so that the removal of a gone process's lock removes no other.
    """
    folder = _folder(path)
    place = folder / f"{holder.token}.json"
    made = path.with_name(f".{path.name}.{holder.token}.tmp")
    made.mkdir()
    (made / place.name).write_bytes(_text(holder))
    try:
        for _ in range(_ATTEMPTS):
            try:
                made.rename(folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            there = _named_in(folder)
            _refuse_if_alive(there, path)
            _remove_from_folder(there)
        else:
            raise _refusal(path, read_holder(_named_in(folder)))
    finally:
        shutil.rmtree(made, ignore_errors=True)
    try:
        _refuse_if_alive(path, path)  # of a machine that has `flock` on this disk
    except RunError:
        _remove_from_folder(place)
        raise
    return place


def _folder(path: Path) -> Path:
    """The folder that stands for the lock where there is no `flock`."""
    return path.with_name(f"{path.name}.folder")


def _named_in(folder: Path) -> Path:
    """The file in the lock's folder that names the holder; one that is not there, if none does."""
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = [name for name in os.listdir(folder) if name.endswith(".json")]
    return folder / (names[0] if names else "none.json")


def _remove_from_folder(place: Path) -> None:
    """Removes a lock by its file, and the folder unless another process has taken it meanwhile."""
    with suppress(OSError):
        place.unlink(missing_ok=True)
        place.parent.rmdir()


def _refuse_if_alive(place: Path, path: Path, *, is_flocked: bool = False) -> None:
    """Refuses if the holder that a file names goes on.

    Args:
        place: the file.
        path: of the lock, for the message.
        is_flocked: whether this process has just got the `flock` of the file.

    Raises:
        RunError: it does.
    """
    holder = read_holder(place)
    # On one machine `flock` tells, if it is there at all: its holder would not have let it go.
    if holder is None or (is_flocked and holder.machine == _machine()):
        return
    if _goes_on(holder, place, path):
        raise _refusal(path, holder)


def _goes_on(holder: Holder, place: Path, path: Path) -> bool:
    """Whether a holder is alive, as far as it can be seen without `flock`."""
    if holder.machine == _machine():
        return _started(holder.pid) == holder.started
    return _seconds_since_touched(place, path) < STALE_SECONDS


def at_work(path: Path) -> Holder | None:
    """The process that holds a lock now; None if there is none. It takes no lock itself.

    Args:
        path: the file of the lock.
    """
    for place in (path, _named_in(_folder(path))):
        holder = read_holder(place)
        if holder is not None and _goes_on(holder, place, path):
            return holder
    return None


def _refusal(path: Path, holder: Holder | None) -> RunError:
    return RunError(
        f"{path.parent} is in use by {holder or 'another process'}: wait until that ends, or stop it; `supernet show`, "
        "`top` and `report` read meanwhile"
    )


def _seconds_since_touched(place: Path, path: Path) -> float:
    """By the clock of the disk: those of two machines may differ."""
    probe = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        probe.touch()
        return probe.stat().st_mtime - place.stat().st_mtime
    except FileNotFoundError:  # it was removed meanwhile
        return math.inf
    except OSError:  # it can only be read: by the clock of this machine
        return time.time() - place.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, place: Path, token: str, ended: threading.Event) -> None:
    """Touches a lock until its work has ended; ends the process if the lock is another's now."""
    while not ended.wait(BEAT_SECONDS):
        there = read_holder(path if place == path else _named_in(_folder(path)))
        if there is not None and there.token != token:
            # This process slept so long that it passed for gone. To stop here harms nothing: files are whole or absent.
            print(f"\nsupernet: {path.parent} was taken over by {there}, since this process slept", file=sys.stderr)
            os._exit(2)
        with suppress(OSError):
            os.utime(place)


# ---- the holder ----


def read_holder(path: Path) -> Holder | None:
    """The holder that a file names; None if it names none, as one that was made just now."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Holder(**{field.name: values[field.name] for field in fields(Holder)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _text(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), indent=1).encode()


def _this_process() -> Holder:
    return Holder(
        command=shlex.join(["supernet", *map(without_password, sys.argv[1:])]),
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started=_started(os.getpid()),
        since=datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        token=uuid.uuid4().hex,
    )


def _machine() -> str:
    """The start of this system and the container of this process, where the system tells; else the machine's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    """When a process began, in the clock of the system; empty if there is none, and "?" if the system does not tell."""
    try:
        # The name of the program stands in parentheses, and may hold blanks and parentheses.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return ""
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except OSError:
        pass
    return "?"
