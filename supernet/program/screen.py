"""Progress on the screen."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from supernet.base.progress import Watch

_PLAIN = {"±": "+-", "×": "x", "–": "-", "—": "-", "…": "...", "→": "->", "≤": "<=", "≥": ">=", "²": "2", "·": "*"}
"""What is printed in place of signs that a terminal cannot show."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


def print_anything() -> None:
    """Lets stdout and stderr print every text: signs that they do not have, and names that are not UTF-8."""
    codecs.register_error("supernet-plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="supernet-plain")


@contextmanager
def watching(step: str) -> Iterator[Watch]:
    """Shows progress on stderr, and turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop."""
    from supernet.base.progress import Watch

    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:  # the second time the user means it; the last checkpoint stays
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise SystemExit(130)
        asked.append(number)
        if number == getattr(signal, "SIGHUP", None):  # the terminal is gone: nothing can be written to it
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
        print("\nsupernet: stopping as soon as the state is saved; once more to stop at once", file=sys.stderr)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: `nohup` wants the work to go on without a terminal.
    numbers = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        with _bar(step) as progress:
            yield Watch(progress, lambda: bool(asked))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(step: str) -> Iterator[Callable[..., None]]:
    """A progress bar where stderr is a terminal, else a line every ten seconds."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    def text(figures: dict[str, float]) -> str:
        shown = {
            "network": "network {:.0f}",
            "networks": "of {:.0f}",
            "loss": "loss {:.3f}",
            "examples": "on {:.0f} examples",
            "best": "best {:.4f}",
            "entropy": "entropy {:.2f}",
            "examples_per_second": "{:.0f} examples/s",
        }
        return " ".join(form.format(figures[key]) for key, form in shown.items() if key in figures)

    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(step, total=None, figures="")

            def show(done: int, total: int, **figures: float) -> None:
                bars.update(task, completed=done, total=total, figures=text(figures))

            yield show
        return

    began, last, first, before = time.monotonic(), time.monotonic(), -1, 0

    def line(done: int, total: int, **figures: float) -> None:
        nonlocal began, last, first, before
        now = time.monotonic()
        if first < 0:
            first = done - 1
        elif done < before:  # another count begins, such as the next stage of a race
            began, first = now, done - 1
        before = done
        if now - last > 10 or (done == total and now - began > 1):
            last = now
            left = (now - began) / (done - first) * (total - done)
            print(f"{step}: {done}/{total}, {_duration(left)} left, {text(figures)}", file=sys.stderr, flush=True)

    yield line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
