"""How work reports its progress, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_Row = TypeVar("_Row")

Progress = Callable[..., None]
"""Called as ``progress(done, total, **figures)`` after each piece of work; `unit` says what is counted, if not what the
step counts."""


class Interrupted(Exception):
    """The work was asked to stop. Its state is saved, and the same call continues it."""


def _silent(done: int, total: int, **figures: float) -> None:
    """Shows nothing."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Watch:
    """What a caller sees of work under way, and its way to end it.

    Attributes:
        progress: called after each piece of the work.
        stop: called before each piece; if it returns true, the state is saved and `Interrupted` is raised.
        storage, study, artifacts: the Optuna study that shows the trainings from scratch: its database, its name, and
            the folder of its artifacts; see `supernet.retrain.study.sender`.
    """

    progress: Progress = _silent
    stop: Callable[[], bool] = _never
    storage: str | None = None
    study: str | None = None
    artifacts: Path | None = None


def counted(rows: Iterable[_Row], total: int, unit: str, watch: Watch) -> Iterator[_Row]:
    """The rows one after the other; how many came is shown.

    Args:
        rows: what the work gives.
        total: how many will come.
        unit: what is counted, such as "networks scored".
        watch: progress and stop.

    Raises:
        Interrupted: asked to stop. What came is not saved here.
    """
    for number, row in enumerate(rows, start=1):
        yield row
        watch.progress(number, total, unit=unit)
        if watch.stop() and number < total:
            raise Interrupted(f"stopped after {number} of {total} {unit}")


UNWATCHED = Watch()
"""Work that nothing follows and nothing stops."""
