"""What is noted of a step under way: a file that `supernet watch` and `supernet show` read, and logs.

A command that reads these files never waits for the run, and the run never waits for it.
"""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from supernet.base.extras import extra
from supernet.base.files import read_json, write_json
from supernet.program.paths import RunFolder

_UNITS = {
    "train": "steps",
    "search": "candidates",
    "retrain": "steps",
    "analyze": "steps",
    "score": "architectures",
    "export": "checks",
    "replay": "searches",
}
"""What is counted in each step."""

RENEWED = 30
"""Seconds after which the page of an unfinished run is written anew, and a browser reads it again."""

LOGS = ("csv", "tensorboard", "wandb")
"""Kinds of logs."""

_EVERY = 1.0
"""Seconds between two notes at the least."""

_SILENT = 120.0
"""Seconds without a note after which a step counts as stopped; one step of a large training may take long."""

_SHOWN = {
    "finished": "{:.0f}",
    "networks": "of {:.0f} networks,",
    "loss": "loss {:.3f}",
    "value": "score {:.4f}",
    "examples": "on {:.0f} examples",
    "best": "best {:.4f}",
    "entropy": "entropy {:.2f}",
    "examples_per_second": "{:.0f} examples/s",
    "per_second": "{:.1f}/s",
    "workers": "by {:.0f} workers",
}
"""Figures that are shown, in this order."""

_COLUMNS = (
    *("seconds", "done", "total", "loss", "gradient_norm", "lr", "examples_per_second", "value", "best", "examples"),
    *("finished", "networks", "entropy", "per_second", "workers"),
)
"""Columns of a log in CSV; a figure that a step does not have stays empty."""


def unit_of(step: str, unit: str | None) -> str:
    """What is counted: the unit that came with the count, or the one of the step."""
    return unit or _UNITS.get(step, "parts")


def figures_text(figures: dict[str, float]) -> str:
    """Figures for people."""
    return " ".join(form.format(figures[key]) for key, form in _SHOWN.items() if key in figures)


def clock(seconds: float) -> str:
    """A time as 1:02:03."""
    minutes, remainder = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{remainder:02}"


class Count:
    """The time of the count under way: a step may count several times, such as once for each stage of a race.

    Attributes:
        start: when it began, by `time.monotonic`.
    """

    def __init__(self) -> None:
        self.start = self._called = time.monotonic()
        self._previous: int | None = None
        self._first = 0

    def begins(self, done: int) -> bool:
        """Takes in a number, and says whether another count begins with it, since it is below the last one."""
        begins = self._previous is not None and done < self._previous
        if begins or self._previous is None:
            self._first, self.start = done - 1, self._called
        self._previous, self._called = done, time.monotonic()
        return begins

    def seconds_left(self, done: int, total: int) -> float:
        """Seconds until the count is at its total, if it goes on as until now."""
        return (time.monotonic() - self.start) / (done - self._first) * (total - done)


@contextmanager
def noting(folder: RunFolder, step: str) -> Iterator[Callable[..., None]]:
    """Inside the ``with`` block a function that notes progress; the note goes when the step is done."""
    count, began, last = Count(), time.monotonic(), -math.inf

    def note(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
        nonlocal last
        now = time.monotonic()
        count.begins(done)
        if now - last < _EVERY and done != total:
            return
        last = now
        facts = {
            "step": step, "unit": unit_of(step, unit), "done": done, "total": total,
            "seconds": round(now - began, 1), "updated": time.time(),
            "remaining": round(count.seconds_left(done, total), 1),
            "figures": {name: value for name, value in figures.items() if math.isfinite(value)},
        }  # fmt: skip
        with suppress(OSError):  # a full disk is told by what needs the disk
            write_json(folder.progress, facts)

    yield note
    folder.progress.unlink(missing_ok=True)


def progress_of(folder: RunFolder) -> dict[str, Any] | None:
    """The last note of a step under way, or of one that was stopped; None if there is none."""
    try:
        return read_json(folder.progress, ("step", "done", "total", "seconds", "remaining", "updated", "figures"))
    except (OSError, ValueError):  # it is replaced or gone just now
        return None


def progress_text(facts: dict[str, Any]) -> str:
    """A note for people."""
    silent = time.time() - facts["updated"]
    unit = unit_of(facts["step"], facts.get("unit"))
    text = f"{facts['step']}: {facts['done']:,}/{facts['total']:,} {unit}, elapsed {clock(facts['seconds'])}"
    if silent > _SILENT:
        return f"{text}; nothing was noted for {clock(silent)}: it was stopped, and the same command continues"
    return f"{text}, remaining {clock(facts['remaining'])}, {figures_text(facts['figures'])}".rstrip(", ")


def states(folder: RunFolder, *, once: bool = False) -> Iterator[dict[str, Any] | None]:
    """The notes of a run each second, as long as a command works in it; None while it has noted nothing."""
    from supernet.program.lock import at_work  # it imports torch, which takes seconds

    pause = 0
    while True:
        facts = progress_of(folder)
        is_held = facts is None and at_work(folder.lock) is not None  # between two steps, or before the first
        pause = 0 if facts is not None or is_held else pause + 1
        if once or facts is not None or is_held:
            yield facts
        is_over = facts is None and not is_held and (pause > 5 or folder.results.exists())
        if once or is_over or (facts is not None and time.time() - facts["updated"] > _SILENT):
            return
        time.sleep(_EVERY)


def state_text(folder: RunFolder, facts: dict[str, Any] | None) -> str:
    """A state of a run for people: its note, or which steps are done."""
    if facts is not None:
        return progress_text(facts)
    from supernet.program.lock import at_work  # it imports torch, which takes seconds

    steps = [step for step in ("train", "search", "retrain") if folder.last_of(step).exists()]
    holder = at_work(folder.lock)
    now = "nothing is under way" if holder is None else f"{holder} is at work, and has not said yet how far it is"
    return f"{folder}: {now}; done: {', '.join(steps) or 'no step yet'}"


@contextmanager
def log(kind: str, folder: RunFolder, step: str) -> Iterator[Callable[..., None]]:
    """Inside the ``with`` block a function that writes progress into a log, at most one row each second.

    Args:
        kind: "csv", "tensorboard" or "wandb".
        folder: of the run; the log is in its `logs`.
        step: whose progress it is.

    Raises:
        MissingExtra: the package of the log is not installed.
    """
    makers = {"csv": _csv_log, "tensorboard": _tensorboard_log, "wandb": _wandb_log}
    began, last = time.monotonic(), -math.inf
    with makers[kind](folder, step) as write:

        def follow(done: int, total: int, *, unit: str | None = None, **figures: float) -> None:
            nonlocal last
            now = time.monotonic()
            if unit is None and (now - last >= _EVERY or done == total):  # another count is none of the step's
                last = now
                write({**figures, "seconds": round(now - began, 3), "done": done, "total": total})

        yield follow


@contextmanager
def _csv_log(folder: RunFolder, step: str) -> Iterator[Callable[[dict[str, float]], None]]:
    path = folder.logs / f"{step}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8", buffering=1) as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore")
        if is_new:
            writer.writeheader()
        yield writer.writerow


@contextmanager
def _tensorboard_log(folder: RunFolder, step: str) -> Iterator[Callable[[dict[str, float]], None]]:
    extra("tensorboard", "tensorboard", "--log tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder.logs / step)) as writer:

        def write(row: dict[str, float]) -> None:
            for name, value in row.items():
                if name not in ("done", "total", "step"):
                    writer.add_scalar(f"{step}/{name}", value, int(row["done"]))

        yield write


@contextmanager
def _wandb_log(folder: RunFolder, step: str) -> Iterator[Callable[[dict[str, float]], None]]:
    wandb = extra("wandb", "wandb", "--log wandb")
    folder.logs.mkdir(parents=True, exist_ok=True)
    run = wandb.init(project="supernet", group=folder.name, name=f"{folder.name} {step}", dir=str(folder.logs))
    try:
        yield lambda row: run.log(row)
    finally:
        run.finish()


def check_logs(text: str | None) -> tuple[str, ...]:
    """The kinds of logs of `--log`, with commas between.

    Raises:
        ValueError: there is no such kind, or its package is not installed.
    """
    kinds = tuple(dict.fromkeys(word.strip() for word in (text or "").split(",") if word.strip()))
    for kind in kinds:
        if kind not in LOGS:
            raise ValueError(f"--log: no {kind!r}; there are: {', '.join(LOGS)}")
        if kind != "csv":
            extra(kind, kind, f"--log {kind}")
    return kinds
