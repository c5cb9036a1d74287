"""Which step comes after which, and on which device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

from supernet.base.progress import Watch
from supernet.program.check import try_once
from supernet.program.folder import Opened, add_seconds, check_settings, is_done, record_settings
from supernet.program.forecast import check_room
from supernet.program.load import Loaded, load_run
from supernet.program.machine import start_run
from supernet.program.retrain import retrain_step
from supernet.program.search import check_measured_limits, search_step
from supernet.program.train import train_step
from supernet.speed.runtime import Runtime

STEP_NAMES = ("train", "search", "retrain")
"""The steps on a run folder, in order."""

_STEPS: dict[str, Callable[[Loaded, Runtime, Watch], bool]] = {
    "train": train_step,
    "search": search_step,
    "retrain": retrain_step,
}


def is_skipped(run: Opened, name: str) -> bool:
    """Whether a step is not needed: the training of a one-shot model that nothing asks."""
    return name == "train" and run.config.search.score == "none"


def run_steps(
    run: Opened,
    names: Sequence[str],
    watching: Callable[[str], AbstractContextManager[Watch]],
    loaded: Loaded | None = None,
) -> Iterator[tuple[str, bool]]:
    """Takes steps by their names, in this order, on the device of the run's configuration.

    Data are loaded and the device is started once, before the first step that is not done: of a run that is done
    nothing is loaded.

    Args:
        run: the run.
        names: "train", "search", "retrain".
        watching: gives progress and stop of a step.
        loaded: the run, if it is loaded already.

    Yields:
        After each step its name, and whether it did anything.
    """
    check_settings(run)
    runtime: Runtime | None = None
    for name in names:
        did = False
        if not is_done(run.folder, name) and not is_skipped(run, name):
            with watching(name) as watch:
                runtime = runtime or start_run(run)
                if name == "train" or runtime.rank == 0:  # the first process alone scores and trains networks
                    if loaded is None:
                        loaded = load_run(run)
                        check_room(loaded, names)
                    if runtime.rank == 0:
                        record_settings(run.folder, run.config, name)
                    began = time.monotonic()
                    try:
                        if name == "train":
                            try_once(loaded, runtime)
                            if runtime.rank == 0:
                                check_measured_limits(loaded, runtime.alone())
                        with runtime.together() if name == "train" else nullcontext():
                            did = _STEPS[name](loaded, runtime if name == "train" else runtime.alone(), watch)
                    finally:  # also of a step that was interrupted: the next try adds to it
                        if runtime.rank == 0:
                            add_seconds(run.folder, name, time.monotonic() - began)
        yield name, did
