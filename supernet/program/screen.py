"""Progress of a step: on the screen, in a file that other commands read, and in logs."""

from __future__ import annotations

import codecs
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from supernet.base.progress import Watch
from supernet.program.paths import RunFolder
from supernet.program.progress import Count, clock, figures_text, log, noting, unit_of

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
def watching(
    step: str, folder: RunFolder | None = None, *, began: float | None = None, logs: Sequence[str] = ()
) -> Iterator[Watch]:
    """Shows progress on stderr, and turns the first Ctrl-C, SIGTERM or SIGHUP into a request to stop.

    Args:
        step: what is done.
        folder: of the run, in which the progress is noted for `supernet watch` and `supernet show`.
        began: when the whole command began, by `time.monotonic`; None for now.
        logs: kinds of logs that are written too; see `supernet.program.progress.LOGS`.
    """
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
        with ExitStack() as stack:
            followers = [stack.enter_context(_bar(step, began))]
            if folder is not None:
                followers.append(stack.enter_context(noting(folder, step)))
                followers += [stack.enter_context(log(kind, folder, step)) for kind in logs]

            def progress(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
                if not is_helper():
                    for follow in followers:
                        follow(done, total, unit=unit, **figures)

            yield Watch(progress, lambda: bool(asked))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_helper() -> bool:
    """Whether this is one of several processes and not the first, which alone prints."""
    distributed = sys.modules.get("torch.distributed")  # without it this process has no others
    return distributed is not None and bool(
        distributed.is_available() and distributed.is_initialized() and distributed.get_rank() > 0
    )


@contextmanager
def _bar(step: str, began: float | None = None) -> Iterator[Callable[..., None]]:
    """A progress bar if stderr is a terminal, else a line every ten seconds; at the end one line stays."""
    start = time.monotonic()
    began = start if began is None else began
    last: tuple[int, dict[str, float]] | None = None  # of what the step counts
    with _terminal_bar(step, began) if sys.stderr.isatty() else _lines(step, began) as show:

        def follow(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
            nonlocal last
            if unit is None:  # of several counts the largest: the later stages of a race have fewer candidates
                last = (done if last is None else max(last[0], done), figures)
            show(done, total, unit=unit, **figures)

        yield follow
    if last is not None:
        count, figures = last
        parts = [f"{count:,} {unit_of(step, None)} in {clock(time.monotonic() - start)}", figures_text(figures)]
        print(f"{step}: {', '.join(part for part in parts if part)}", file=sys.stderr, flush=True)


@contextmanager
def _terminal_bar(step: str, began: float) -> Iterator[Callable[..., None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}, elapsed"),
        TimeElapsedColumn(),
        TextColumn("remaining"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    handlers = [handler for handler in logging.root.handlers if isinstance(handler, logging.StreamHandler)]
    before = sys.stderr
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        moved = [handler for handler in handlers if handler.stream is before]
        for handler in moved:  # while the bar is shown, sys.stderr writes above it
            handler.setStream(sys.stderr)
        task = bars.add_task(step, total=None, figures="", unit=unit_of(step, None))
        count = Count()

        def show(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
            if count.begins(done):
                bars.reset(task)
            text = f"run {clock(time.monotonic() - began)} {figures_text(figures)}"
            bars.update(task, completed=done, total=total, figures=text, unit=unit_of(step, unit))

        try:
            yield show
        finally:
            for handler in moved:
                handler.setStream(before)


@contextmanager
def _lines(step: str, began: float) -> Iterator[Callable[..., None]]:
    count, last = Count(), time.monotonic()

    def line(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
        nonlocal last
        now = time.monotonic()
        count.begins(done)
        if now - last > 10 or (done == total and now - count.start > 1):
            last = now
            left = count.seconds_left(done, total)
            times = f"elapsed {clock(now - count.start)}, remaining {clock(left)}, run {clock(now - began)}"
            shown = f"{step}: {done}/{total} {unit_of(step, unit)}, {times}, {figures_text(figures)}"
            print(shown.rstrip(", "), file=sys.stderr, flush=True)

    yield line
