"""Processes that train one model together: if one of them dies, the others end within seconds and say which and why.

Without this the others wait in a collective operation, for minutes with NCCL, and then report a broken connection.
"""

from __future__ import annotations

import os
import platform
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any

from supernet.base.progress import Interrupted

_GRACE = 1.0
"""Seconds in which this process may end by itself when another one is gone."""

_CONTINUES = "the same command continues from the last checkpoint, on another number of processes too"


class PeerGone(ValueError):
    """Another process is gone; the message names it, and says why as far as that is known."""


@contextmanager
def together(rank: int, size: int, broadcast: Callable[[Any], Any], address: str) -> Iterator[None]:
    """Inside the ``with`` block every process knows whether the others live; all have to enter it.

    All are connected to the first one, which passes on what it hears. What another process raised, or that it was
    killed, ends this one: by `PeerGone`, or if the main thread waits for the other one, by the end of the process.

    Args:
        rank: of this process.
        size: number of processes, at least 2.
        broadcast: gives all processes what the first one calls it with.
        address: of the first one's machine.

    Raises:
        PeerGone: this process failed because another one is gone.
    """
    name = f"process {rank} of {size} ({os.getpid()} on {platform.node()})"
    connections = _connected(rank, size, name, broadcast, address)
    peers = _Peers(connections)
    thread = threading.Thread(target=peers.watch, daemon=True, name="peers")
    thread.start()
    try:
        yield
    except (ValueError, Interrupted) as error:
        peers.leave(None if isinstance(error, Interrupted) else f"{name} ended with {_line_of(error)}")
        raise
    except BaseException as error:
        if peers.is_gone.wait(_GRACE):  # a broken connection, most likely
            peers.leave(peers.text)
            raise PeerGone(f"{peers.text}; {_CONTINUES}") from error
        peers.leave(f"{name} ended with {_line_of(error)}")
        raise
    else:
        peers.leave(None)
    finally:
        thread.join()
        for connection in connections:
            connection.close()


def _connected(rank: int, size: int, name: str, broadcast: Callable[[Any], Any], address: str) -> dict[Connection, str]:
    """The connections of this process, each with the name of the other one."""
    if rank:
        place, port, key = broadcast(None)
        connection = Client((place, port), authkey=key)
        connection.send(name)
        return {connection: connection.recv()}
    key = secrets.token_bytes(16)
    connections: dict[Connection, str] = {}
    with Listener(("", 0), authkey=key) as listener:
        broadcast((address, listener.address[1], key))
        while len(connections) < size - 1:
            connection = listener.accept()
            connections[connection] = connection.recv()
            connection.send(name)
    return connections


class _Peers:
    """The other processes that this one is connected to.

    Attributes:
        is_gone: set when one of them is.
        text: which, and why.
    """

    def __init__(self, connections: dict[Connection, str]) -> None:
        self._connections, self._alive = connections, dict(connections)
        self._is_leaving = threading.Event()
        self.is_gone, self.text = threading.Event(), ""

    def watch(self) -> None:
        """Waits until all have left, or one is gone, or this process leaves; runs in a thread."""
        while self._alive and not self._is_leaving.is_set():
            for connection in wait(list(self._alive), 0.2):
                assert isinstance(connection, Connection)
                try:
                    text = connection.recv()
                except (EOFError, OSError):
                    text = f"{self._alive[connection]} was killed, or its machine is gone"
                if text is None:  # it has done its work
                    del self._alive[connection]
                    continue
                self._end(text)
                return

    def _end(self, text: str) -> None:
        self.text = text
        # At once: a launcher that sees a process of its own fail may kill this one the next moment.
        print(f"supernet: {text}; {_CONTINUES}", file=sys.stderr, flush=True)
        self.is_gone.set()
        if self._is_leaving.wait(2 * _GRACE):
            return
        self._tell(text)
        os._exit(1)  # the main thread waits for a process that is gone

    def leave(self, text: str | None) -> None:
        """Tells the others that this process ends: by an error, or because its work is done (None)."""
        self._is_leaving.set()
        self._tell(text)

    def _tell(self, text: str | None) -> None:
        for connection in self._connections:
            with suppress(OSError):
                connection.send(text)


def _line_of(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
