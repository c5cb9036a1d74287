"""How work tells how far it is, and how it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Progress = Callable[..., None]
"""Called as ``progress(done, total, **figures)``, for whoever shows it."""


class Interrupted(Exception):
    """The work was asked to stop; its state is saved, and the same call continues it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Who follows the work: `progress` is called after each bit of it, `stop` is asked whether to end.

    Trainings are shown in the study of this name in this storage, with their artifacts in this folder; see
    `supernet.retrain.study.sender`.
    """

    progress: Progress | None = None
    stop: Callable[[], bool] = lambda: False
    storage: str | None = None
    study: str | None = None
    artifacts: Path | None = None
