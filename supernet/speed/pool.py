"""Workers that share independent tasks: processes on this machine, or actors on the machines of a Ray cluster.

What all tasks need, a model and its examples for instance, reaches each worker once. Results come back in the order of
the tasks, whichever worker did them. Files of a task are in a temporary folder of the worker, and only this process
writes them into the run: workers need no shared disk. A worker that dies costs its task, which another one repeats from
the last files that came.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import cloudpickle

from supernet.base.extras import extra
from supernet.base.files import write_atomically
from supernet.base.own import users_modules
from supernet.base.progress import UNWATCHED, Interrupted, Progress, Watch
from supernet.speed.places import Place, make_place, remove_left

log = logging.getLogger(__name__)

Job = Callable[[Any, Path | None, Watch], Any]
"""Does a task: called with its arguments, its folder and its watch."""

_Make = Callable[[Any], Job]
"""Makes the job from what a worker was prepared with; it carries what all tasks need, and is sent to a worker once."""

TRIES = 3
"""A task is given up when it has failed this many times."""

_KEPT = 4
"""Jobs that a worker keeps at the most."""

_EVERY = 0.5
"""Seconds between two notes of the progress of a task at the least."""

_PATIENCE = 60.0
"""Seconds without any worker that is ready, after which the log says so."""

_AHEAD = 100
"""Tasks per worker that may be done before an earlier one is, so that results which wait do not fill the memory."""


_OPEN = object()
"""Stands for the result of a part that is not done."""


class PoolError(ValueError):
    """No worker can do the work; the message says why."""


def _ignored(result: Any) -> None:
    """Does nothing."""


@dataclass(frozen=True, slots=True)
class Task:
    """One of many independent tasks.

    Attributes:
        arguments: of the job.
        folder: what the job may read and write files in; None if it does not. The files of a task that was repeated or
            continued are there.
        progress: called as the job calls the progress of its watch.
        ended: called with the result as soon as there is one.
        parts: gives smaller tasks that are done in place of this one when it has failed `TRIES` times. The result is
            then a `Divided` with theirs.
    """

    arguments: Any
    folder: Path | None = None
    progress: Progress = UNWATCHED.progress
    ended: Callable[[Any], object] = _ignored
    parts: Callable[[], Iterable[Task]] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """What comes in place of the result of a task that failed `TRIES` times.

    Attributes:
        error: the last error, in a line.
        trace: where it was raised; empty if the worker died.
    """

    error: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Divided:
    """The results of the parts of a task that was divided."""

    results: list[Any]


def parts_of(result: Any) -> list[Any]:
    """The results that came for a task: its own, or those of its parts."""
    return result.results if isinstance(result, Divided) else [result]


def here(threads: Callable[..., Iterable[Any]], job: Job, tasks: Iterable[Task], stop: Callable[[], bool]) -> list[Any]:
    """Does tasks in this process, in their own folders.

    Args:
        threads: a `map`, such as that of `Runtime.workers`.
        job, tasks: as for `Pool.run`.
        stop: whether the tasks are to stop.

    Raises:
        Exception: the first error of a task; it stops the others.
    """
    errors: list[BaseException] = []

    def do(task: Task) -> Any:
        if errors:
            return None
        try:
            result = job(task.arguments, task.folder, Watch(task.progress, lambda: stop() or bool(errors)))
            task.ended(result)
            return result
        except BaseException as error:
            errors.append(error)  # the others stop too
            return None

    results = list(threads(do, list(tasks)))
    if errors:  # the first of them: it stopped the others
        raise errors[0]
    return results


# ---- the workers ----


class _Engine(Protocol):
    """Where workers run. Messages are tuples whose first element says what they are."""

    size: int

    def add(self, prepare: bytes) -> int:
        """Starts a worker and returns its number; it sends ("ready", notes) or ("unfit", why)."""

    def send(self, worker: int, message: tuple[Any, ...]) -> None:
        """Sends ("hold", key, job, dropped), ("do", number, key, arguments, files) or ("stop", number)."""

    def receive(self, seconds: float) -> list[tuple[int, tuple[Any, ...]]]:
        """Messages of workers, as soon as there are any or this time is over; ("died", why) from one that is gone."""

    def close(self) -> None:
        """Ends all workers."""


@dataclass(slots=True)
class _Worker:
    """What is known of a worker: whether it is ready, the task that it does, and the jobs that it keeps."""

    is_ready: bool = False
    number: int | None = None
    keys: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _Try:
    """A task, its place among the tasks, its place in a task that was divided, and how often it failed."""

    place: int
    task: Task
    inside: int | None = None
    failures: int = 0


class Pool:
    """Workers, which are started when they are first needed and end with this object.

    Args:
        engine: where they run.
        prepare: called in each worker; returns what `_Make` is called with, and notes for the log. It is pickled.
    """

    def __init__(self, engine: _Engine, prepare: Callable[[], tuple[Any, Sequence[str]]]) -> None:
        self.engine, self._prepare = engine, prepare
        self._workers: dict[int, _Worker] = {}
        self._jobs: list[tuple[object, int, bytes]] = []
        self._numbers, self._keys = itertools.count(), itertools.count()
        self._noted: set[str] = set()
        self._still_born, self._waiting_since = 0, time.monotonic()
        self.close = weakref.finalize(self, engine.close)

    @property
    def ready(self) -> int:
        """The number of workers that are ready or at work."""
        return sum(worker.is_ready for worker in self._workers.values())

    @property
    def size(self) -> int:
        """The number of workers that there are to be."""
        return self.engine.size

    def run(
        self, held: object, make: _Make, tasks: Iterable[Task], *, stop: Callable[[], bool] = UNWATCHED.stop
    ) -> Iterator[Any]:
        """Does tasks.

        Args:
            held: names what `make` carries: with the same object, by identity, it is not sent again.
            make: makes the job in a worker. It is pickled, and so are arguments and results.
            tasks: are taken from this iterable as workers become free.
            stop: asked again and again; if it returns true, the watch of tasks under way says so too.

        Yields:
            The result of each task, in their order; a `Failure` for one that failed `TRIES` times.

        Raises:
            Interrupted: `stop` said so. Files of tasks under way are in their folders.
            ValueError: a task raised it: bad input is bad at each try.
            PoolError: workers cannot start, or none of the first tasks succeeded in `TRIES` tries.
        """
        run = _Run(self, self._held(held, make), iter(tasks), stop)
        try:
            while not run.is_over:
                run.hand_out()
                run.take_in()
                yield from run.in_order()
            if run.problem is not None:
                raise run.problem
        finally:
            run.stop()

    def _held(self, held: object, make: _Make) -> int:
        """The number of a job, which is pickled unless it was."""
        for other, key, _ in self._jobs:
            if other is held:
                return key
        self._jobs = [*self._jobs[1 - _KEPT :], (held, next(self._keys), _pickled(make))]
        return self._jobs[-1][1]

    def fill(self) -> None:
        """Starts workers until there are as many as there are to be."""
        while len(self._workers) < self.engine.size:
            self._workers[self.engine.add(_pickled(self._prepare))] = _Worker()

    def free(self) -> list[int]:
        """Workers that wait for a task."""
        return [name for name, worker in self._workers.items() if worker.is_ready and worker.number is None]

    def do(self, name: int, key: int, task: Task) -> int:
        """Sends a task to a worker, and before it the job if the worker does not have it; returns its number."""
        worker, number = self._workers[name], next(self._numbers)
        if key not in worker.keys:
            job = next(pickled for _, other, pickled in self._jobs if other == key)
            dropped = worker.keys[: 1 - _KEPT] if len(worker.keys) >= _KEPT else []
            worker.keys = [*(kept for kept in worker.keys if kept not in dropped), key]
            self.engine.send(name, ("hold", key, job, dropped))
        files = None if task.folder is None else _files_of(task.folder)
        self.engine.send(name, ("do", number, key, _pickled(task.arguments), files))
        worker.number = number
        return number

    def ask_to_stop(self, numbers: Container[int | None]) -> None:
        """Tells the workers that do the tasks with these numbers."""
        for name, worker in self._workers.items():
            if worker.number in numbers:
                self.engine.send(name, ("stop", worker.number))

    def receive(self) -> Iterator[tuple[int | None, tuple[Any, ...]]]:
        """Messages that concern tasks, each with the number of the task; those about workers are dealt with.

        Raises:
            PoolError: workers cannot start.
        """
        for name, message in self.engine.receive(_EVERY):
            worker = self._workers.get(name)
            if worker is None:
                continue
            number = worker.number
            if message[0] == "ready":
                worker.is_ready, self._still_born = True, 0
                self._note(message[1])
            elif message[0] == "unfit":
                raise PoolError(f"a worker cannot start: {message[1]}")
            elif message[0] == "died":
                del self._workers[name]
                self._still_born += not worker.is_ready
                if self._still_born >= TRIES:
                    raise PoolError(f"workers end while they start ({message[1]}): see what they printed")
                yield number, message
            else:
                if message[0] in ("result", "error"):
                    worker.number = None
                yield message[1], message
        self._say_if_none_is_ready()

    def _note(self, notes: Iterable[str]) -> None:
        for note in notes:
            if note not in self._noted:
                self._noted.add(note)
                log.warning("workers: %s", note)

    def _say_if_none_is_ready(self) -> None:
        now = time.monotonic()
        if self.ready:
            self._waiting_since = now
        elif now - self._waiting_since > _PATIENCE:
            self._waiting_since = now
            log.warning("workers: none of %d is ready; the cluster may have no room for them", self.engine.size)


class _Run:
    """One call of `Pool.run`: what waits, what is under way, and what is done."""

    def __init__(self, pool: Pool, key: int, tasks: Iterator[Task], stop: Callable[[], bool]) -> None:
        self._pool, self._key, self._stop = pool, key, stop
        self._source = enumerate(tasks)
        self._again: deque[_Try] = deque()
        self._under_way: dict[int, _Try] = {}
        self._results: dict[int, Any] = {}
        self._divided: dict[int, dict[int, Any]] = {}  # results of the parts of tasks by their places
        self._next, self._successes, self._failures = 0, 0, 0
        self._is_stopping, self._is_exhausted = False, False
        self.problem: BaseException | None = None

    @property
    def is_over(self) -> bool:
        """Whether all tasks are done, or no more are begun and none is under way."""
        waits = not self._is_stopping and (self._again or not self._is_exhausted)
        return not self._under_way and not waits

    def hand_out(self) -> None:
        """Gives tasks to free workers; none if the run is to stop."""
        if not self._is_stopping and self._stop():
            self.problem = Interrupted("stopped; the tasks under way have saved their state")
            self.stop()
        if self._is_stopping:
            return
        self._pool.fill()
        for name in self._pool.free():
            following = self._take()
            if following is None:
                return
            self._under_way[self._pool.do(name, self._key, following.task)] = following

    def _take(self) -> _Try | None:
        """The next task: one that failed first."""
        if self._again:
            return self._again.popleft()
        if len(self._results) > _AHEAD * self._pool.size:
            return None
        for place, task in self._source:
            return _Try(place, task)
        self._is_exhausted = True
        return None

    def take_in(self) -> None:
        """Deals with what workers send."""
        if not self._under_way and self._is_exhausted and not self._again:
            return
        for number, message in self._pool.receive():
            this = self._under_way.get(number) if number is not None else None
            if this is None:  # of a call that ended before
                continue
            if message[0] == "died":
                del self._under_way[number]  # type: ignore[arg-type]  # it is there
                self._failed(this, f"its worker died ({message[1]})")
                continue
            kind, _, value, notes, files = message
            if this.task.folder is not None:
                _write_files(this.task.folder, *files)
            for count, total, figures in notes:
                this.task.progress(count, total, **figures)
            if kind == "result":
                this.task.ended(value)
                self._settle(this, value)
                self._successes += 1
                del self._under_way[message[1]]
            elif kind == "error":
                del self._under_way[message[1]]
                self._raised(this, *value)

    def _raised(self, this: _Try, pickled: bytes, text: str, trace: str) -> None:
        """Ends the run for an error that each try would raise; another error is a failure of this try."""
        error = _unpickled_error(pickled, text)
        if isinstance(error, ValueError | Interrupted):
            if self.problem is None or isinstance(self.problem, Interrupted):
                self.problem = error
            self.stop()
        else:
            self._failed(this, text, trace)

    def _failed(self, this: _Try, text: str, trace: str = "") -> None:
        this.failures += 1
        if self._is_stopping:
            return
        if this.failures < TRIES:
            log.warning("workers: a task failed and is tried again: %s", text)
            self._again.append(this)
            return
        if this.task.parts is not None:
            log.warning("workers: a task failed %d times and is divided: %s", TRIES, text)
            parts = [_Try(this.place, part, inside) for inside, part in enumerate(this.task.parts())]
            self._divided[this.place] = dict.fromkeys(range(len(parts)), _OPEN)
            self._again.extend(parts)
            return
        log.warning("workers: a task failed %d times and is given up: %s", TRIES, text)
        self._settle(this, Failure(text, trace))
        self._failures += 1
        if not self._successes and self._failures >= TRIES:
            self.problem = PoolError(f"{self._failures} tasks failed {TRIES} times and none succeeded: {text}")
            self.stop()

    def _settle(self, this: _Try, value: Any) -> None:
        """Keeps the result of a task, or of a part; the last part gives that of the whole."""
        if this.inside is None:
            self._results[this.place] = value
            return
        parts = self._divided[this.place]
        parts[this.inside] = value
        if not any(part is _OPEN for part in parts.values()):
            self._results[this.place] = Divided(list(self._divided.pop(this.place).values()))

    def in_order(self) -> Iterator[Any]:
        """Results whose predecessors were all yielded."""
        while self._next in self._results:
            yield self._results.pop(self._next)
            self._next += 1

    def stop(self) -> None:
        """Begins no more tasks and asks those under way to stop."""
        if not self._is_stopping:
            self._is_stopping = True
            self._pool.ask_to_stop(set(self._under_way))


# ---- files ----


def _files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, without those that are half written."""
    if not folder.is_dir():
        return {}
    paths = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".tmp"]
    return {path.name: path.read_bytes() for path in paths}


def _write_files(folder: Path, changed: Mapping[str, bytes], removed: Iterable[str]) -> None:
    """Brings a folder to where a worker's is. Digests come first, as they do where a file is written."""
    for name in sorted(changed, key=lambda name: not name.startswith(".")):
        _write(folder / name, changed[name])
    for name in removed:
        (folder / name).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


class _Changes:
    """The files of a folder that changed since the last look."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._seen = self._look()

    def _look(self) -> dict[str, tuple[int, int]]:
        paths = [] if self._folder is None else [path for path in self._folder.iterdir() if path.suffix != ".tmp"]
        return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in sorted(paths, key=_written)}

    def take(self) -> tuple[dict[str, bytes], list[str]]:
        """Those that changed, the first that was written first, and the names of those that are gone."""
        if self._folder is None:
            return {}, []
        before, self._seen = self._seen, self._look()
        changed = [name for name, stamp in self._seen.items() if before.get(name) != stamp]
        return {name: (self._folder / name).read_bytes() for name in changed}, [
            n for n in before if n not in self._seen
        ]


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns


# ---- in a worker ----


class Bench:
    """What a worker does with its messages, wherever it runs."""

    def __init__(self) -> None:
        self._prepared: Any = None
        self._jobs: dict[int, Job] = {}
        self.stopped: set[int] = set()

    def answer(self, message: tuple[Any, ...], send: Callable[[tuple[Any, ...]], object]) -> tuple[Any, ...] | None:
        """Does what a message asks for.

        Args:
            message: ("prepare", pickled), or one that `_Engine.send` takes.
            send: sends notes of the progress.

        Returns:
            What to send back.
        """
        kind, *content = message
        if kind == "prepare":
            try:
                self._prepared, notes = pickle.loads(content[0])()
            except Exception as error:
                return "unfit", _line_of(error)
            return "ready", list(notes)
        if kind == "hold":
            key, job, dropped = content
            for other in dropped:
                self._jobs.pop(other, None)
            self._jobs[key] = _Later(job)
            return None
        number, key, arguments, files = content
        return self._do(number, key, arguments, files, send)

    def _do(
        self, number: int, key: int, arguments: bytes, files: Mapping[str, bytes] | None, send: Callable[..., object]
    ) -> tuple[Any, ...]:
        with tempfile.TemporaryDirectory(prefix="supernet-") as place:
            folder = Path(place) / "task" if files is not None else None
            for name, content in (files or {}).items():
                _write(Path(place) / "task" / name, content)
            if folder is not None:
                folder.mkdir(exist_ok=True)
            changes, notes, last = _Changes(folder), [], time.monotonic()

            def progress(count: int, total: int, **figures: float) -> None:
                nonlocal notes, last
                notes.append((count, total, figures))
                if time.monotonic() - last > _EVERY:
                    send(("notes", number, None, notes, changes.take()))
                    notes, last = [], time.monotonic()

            kind, value = "result", None
            try:
                job = self._jobs[key]
                if isinstance(job, _Later):
                    job = self._jobs[key] = pickle.loads(job.pickled)(self._prepared)
                value = job(pickle.loads(arguments), folder, Watch(progress, lambda: number in self.stopped))
            except Exception as error:
                kind, value = "error", (_pickled_error(error), _line_of(error), traceback.format_exc())
            self.stopped.discard(number)
            return kind, number, value, notes, changes.take()


@dataclass(frozen=True, slots=True)
class _Later:
    """A job that is made when the first task needs it, so that an error of it is an error of the task."""

    pickled: bytes

    def __call__(self, arguments: Any, folder: Path | None, watch: Watch) -> Any:
        raise AssertionError("it is made before it is called")


def _pickled(thing: Any) -> bytes:
    """A thing as bytes; functions and classes of users' files and prompts go by value, since workers lack the files.

    Raises:
        PoolError: it cannot be pickled.
    """
    modules = users_modules()
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(thing)  # type: ignore[no-any-return]  # it has no types
    except Exception as error:
        raise PoolError(
            f"this run cannot be divided among workers, since a part of it cannot be sent to them ({_line_of(error)}): "
            "set runtime.workers and runtime.cluster to null"
        ) from error
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _pickled_error(error: Exception) -> bytes:
    try:
        return cloudpickle.dumps(error)  # type: ignore[no-any-return]  # it has no types
    except Exception:
        return b""


def _unpickled_error(pickled: bytes, text: str) -> BaseException:
    """The error of a worker; one of no special type if its type is not known here."""
    try:
        error = pickle.loads(pickled)
    except Exception:
        return RuntimeError(text)
    return error if isinstance(error, Exception) else RuntimeError(text)


def _line_of(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# ---- processes on this machine ----


class Processes:
    """Worker processes on this machine.

    Args:
        environments: variables of each worker on top of those of this process.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self.size = len(environments)
        self._free = list(environments)
        self._workers: dict[Connection, tuple[int, subprocess.Popen[bytes], Mapping[str, str]]] = {}
        self._numbers = itertools.count()
        self._places: dict[int, Place] = {}  # of each process: one that is killed leaves files
        remove_left()

    def add(self, prepare: bytes) -> int:
        """Starts a process; not a fork, which would copy locks of threads, and which a GPU does not survive."""
        ours, theirs = Pipe()
        more = self._free.pop(0)
        place, path = make_place(), os.pathsep.join(filter(None, sys.path))
        code = f"from supernet.speed.pool import serve; serve({theirs.fileno()})"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(place.path), **more},
            stdin=subprocess.DEVNULL,
            stdout=2,  # what it prints must not get into this process's results
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        number = next(self._numbers)
        self._workers[ours], self._places[process.pid] = (number, process, more), place
        ours.send(("prepare", prepare))
        return number

    @property
    def pids(self) -> list[int]:
        """The processes."""
        return [process.pid for _, process, _ in self._workers.values()]

    def send(self, worker: int, message: tuple[Any, ...]) -> None:
        """See `_Engine`. That a worker is gone shows in `receive`."""
        connection = next((c for c, (number, _, _) in self._workers.items() if number == worker), None)
        if connection is not None:
            try:
                connection.send(message)
            except OSError:
                log.debug("worker %d is gone", worker)

    def receive(self, seconds: float) -> list[tuple[int, tuple[Any, ...]]]:
        """See `_Engine`."""
        messages: list[tuple[int, tuple[Any, ...]]] = []
        for connection in wait(list(self._workers), seconds):
            assert isinstance(connection, Connection)
            number = self._workers[connection][0]
            try:
                messages.append((number, connection.recv()))
            except (EOFError, OSError):
                messages.append((number, ("died", self._end(connection))))
        return messages

    def _end(self, connection: Connection) -> str:
        """Forgets a worker that is gone; returns how it ended."""
        _, process, more = self._workers.pop(connection)
        self._free.append(more)
        connection.close()
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        self._places.pop(process.pid).remove()
        if code >= 0:
            return f"exit code {code}"
        memory = "; the system may have had no memory left" if -code == signal.SIGKILL else ""
        return f"{signal.Signals(-code).name}{memory}"

    def close(self) -> None:
        """See `_Engine`. Workers end when their connection does."""
        for connection in self._workers:
            connection.close()
        for _, process, _ in self._workers.values():
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            self._places.pop(process.pid).remove()
        self._workers.clear()


def serve(descriptor: int) -> None:
    """The whole life of a worker process: it ends when the process that started it does.

    Args:
        descriptor: of its end of the connection.
    """
    for name in ("SIGINT", "SIGHUP"):  # meant for the process that started it, which says what to do
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    connection, sending = Connection(descriptor), threading.Lock()
    messages: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    bench = Bench()

    def send(message: tuple[Any, ...]) -> None:
        with sending:
            connection.send(message)

    def listen() -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                os._exit(0)
            if message[0] == "stop":
                bench.stopped.add(message[1])
            else:
                messages.put(message)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        answer = bench.answer(messages.get(), send)
        if answer is not None:
            send(answer)


# ---- actors on a Ray cluster ----


class Cluster:
    """Workers on the machines of a Ray cluster, which is running.

    Args:
        address: 'auto' for the cluster that this machine is part of, or ray://HOST:PORT.
        size: number of workers; None for as many as the cluster has room for.
        cores, gpus: that each takes.

    Raises:
        PoolError: there is no such cluster, or no room in it.
    """

    def __init__(self, address: str, size: int | None, cores: int, gpus: float) -> None:
        self._ray = extra("ray", "ray", "runtime.cluster")
        try:
            self._ray.init(address=address, ignore_reinit_error=True, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise PoolError(
                f"runtime.cluster {address}: there is no Ray cluster ({_line_of(error)}): `ray start --head` begins "
                "one, and `ray status` shows it"
            ) from None
        resources = self._ray.cluster_resources()
        rooms = [resources.get("CPU", 0) / cores, *([resources.get("GPU", 0) / gpus] if gpus else [])]
        self.size = int(min(rooms)) if size is None else size
        if min(rooms) < 1:
            raise PoolError(
                f"runtime.cluster {address}: no room for a worker with {cores} cores and {gpus:g} GPUs; it has "
                f"{resources.get('CPU', 0):g} cores and {resources.get('GPU', 0):g} GPUs: lower runtime.worker_cores "
                "or runtime.worker_gpus"
            )
        options = {"num_cpus": cores, "num_gpus": gpus, "concurrency_groups": {"talk": 1}}
        self._actor = self._ray.remote(**options)(_Actor)
        self._actors: dict[int, Any] = {}
        self._calls: dict[
            Any, tuple[int, bool]
        ] = {}  # of each call under way the worker, and whether it asks for notes
        self._jobs: dict[int, Any] = {}
        self._asked: dict[int, float] = {}  # when workers with a task were last asked for notes
        self._numbers = itertools.count()

    def add(self, prepare: bytes) -> int:
        """See `_Engine`. It may have to wait for room."""
        number = next(self._numbers)
        self._actors[number] = self._actor.remote()
        self._call(number, ("prepare", prepare))
        return number

    def _call(self, worker: int, message: tuple[Any, ...]) -> None:
        self._calls[self._actors[worker].answer.remote(*message)] = worker, False

    def send(self, worker: int, message: tuple[Any, ...]) -> None:
        """See `_Engine`. A job is put into Ray's store once, from which each machine gets it once."""
        if worker not in self._actors:
            return
        if message[0] == "stop":
            self._actors[worker].stop.options(concurrency_group="talk").remote(message[1])
            return
        if message[0] == "hold":
            _, key, job, dropped = message
            if key not in self._jobs:
                self._jobs = {**dict(list(self._jobs.items())[1 - _KEPT :]), key: self._ray.put(job)}
            message = ("hold", key, self._jobs[key], dropped)
        if message[0] == "do":
            self._asked[worker] = time.monotonic()
        self._call(worker, message)

    def receive(self, seconds: float) -> list[tuple[int, tuple[Any, ...]]]:
        """See `_Engine`. Workers with a task are asked for notes in between."""
        asking = {worker for worker, is_asking in self._calls.values() if is_asking}
        for worker, last in self._asked.items():
            if worker not in asking and time.monotonic() - last > _EVERY:
                self._asked[worker] = time.monotonic()
                self._calls[self._actors[worker].notes.options(concurrency_group="talk").remote()] = worker, True
        if not self._calls:
            return []
        arrived, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=seconds)
        more, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=0)
        messages: list[tuple[int, tuple[Any, ...]]] = []
        for call in dict.fromkeys((*arrived, *more)):
            worker, is_asking = self._calls.pop(call, (-1, False))  # those of a worker that died are forgotten
            if worker not in self._actors:
                continue
            try:
                notes, answer = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                self._forget(worker)
                messages.append((worker, ("died", _line_of(error)[:300])))
                continue
            messages += [(worker, note) for note in notes]
            if answer is not None:
                messages.append((worker, answer))
                if not is_asking:
                    self._asked.pop(worker, None)
        return messages

    def _forget(self, worker: int) -> None:
        """Ends a worker for good: one whose machine cannot be reached may still be at work."""
        actor = self._actors.pop(worker)
        self._asked.pop(worker, None)
        self._calls = {call: (other, asks) for call, (other, asks) in self._calls.items() if other != worker}
        self._ray.kill(actor)

    def close(self) -> None:
        """See `_Engine`."""
        if self._ray.is_initialized():
            for worker in list(self._actors):
                self._forget(worker)


class _Actor:
    """A worker of `Cluster`: Ray calls its methods in processes that it starts. Each returns notes and an answer."""

    def __init__(self) -> None:
        self._bench = Bench()
        self._notes: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()

    def answer(self, *message: Any) -> tuple[list[Any], Any]:
        answer = self._bench.answer(message, self._notes.put)
        return self._taken(), answer

    def notes(self) -> tuple[list[Any], None]:
        return self._taken(), None

    def stop(self, number: int) -> None:
        self._bench.stopped.add(number)

    def _taken(self) -> list[Any]:
        """Notes that were not fetched, in their order."""
        taken = []
        while not self._notes.empty():
            taken.append(self._notes.get())
        return taken
