"""Which step comes after which, and on which device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from supernet.base.progress import Watch
from supernet.program.folder import is_done, open_run
from supernet.program.retrain import retrain_step
from supernet.program.search import search_step
from supernet.program.train import train_step
from supernet.speed.runtime import Runtime, start

STEPS: dict[str, Callable[[Path, Runtime, Watch], bool]] = {
    "train": train_step,
    "search": search_step,
    "retrain": retrain_step,
}


def run_step(step: str, folder: Path, watch: Watch) -> bool:
    """Runs one step by its name, on the device of the run's configuration. Returns whether it did anything."""
    if is_done(folder, step):
        return False
    runtime = start(open_run(folder).runtime)
    if step != "train":
        if runtime.rank > 0:
            return False  # scoring and stand-alone networks are the first process's work
        runtime = runtime.alone()
    return STEPS[step](folder, runtime, watch)
