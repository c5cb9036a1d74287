"""What the self-test chose for a run, kept in its folder.

Kernels, precision and layout change the last digits of weights. A run that continues takes what it began with, even
if the self-test chooses otherwise by then: its cache may be new, or the machine another.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from typing import Any

import torch

from supernet.base.files import read_json, write_json
from supernet.program.folder import Opened
from supernet.program.paths import RunFolder
from supernet.speed import kernels
from supernet.speed.runtime import Runtime, device_of, machine_of, needs_tuning, start
from supernet.speed.tune import Tuning, self_test

log = logging.getLogger(__name__)


def start_run(run: Opened) -> Runtime:
    """Prepares the device of a run, as `start` does, with what the self-test chose when the run began.

    The log says what cannot hold on this machine.
    """
    config = run.config.runtime
    if not needs_tuning(config):
        return start(config)
    device = device_of(config)
    kept = read_json(run.folder.tuning) if run.folder.tuning.exists() else {}
    if device.type not in kept:
        tuning = self_test(device)
        runtime = start(config, tuning)
        if runtime.rank == 0:
            chosen = {**asdict(tuning), "machine": machine_of(device)}
            write_json(run.folder.tuning, {**kept, device.type: chosen}, digest=True)
        return runtime
    return start(config, _holding(run.folder, kept[device.type], device))


def _holding(folder: RunFolder, kept: dict[str, Any], device: torch.device) -> Tuning:
    """What was chosen when the run began, without what is wrong or missing on this machine, which the log says."""
    try:
        machine = dict(kept["machine"])
        values: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in kept.items()}
        del values["machine"]
        chosen = Tuning(**values)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{folder.tuning} is damaged or of another version: delete it, and this machine's self-test chooses"
        ) from None
    now = machine_of(device)
    differing = [f"{name} {now[name]}, not {machine.get(name)}" for name in now if now[name] != machine.get(name)]
    missing = device.type == "cpu" and chosen.kernels and kernels.compiled() is None
    if not differing and not missing:
        return chosen
    tuning = _right_here(chosen, self_test(device))
    left_out = [name for name in chosen.kernels if name not in tuning.kernels]
    how = f"without {', '.join(left_out)}" if left_out else "with the same kernels"
    if tuning.precision != chosen.precision:
        how += f", in {tuning.precision} and not {chosen.precision}"
    log.warning(
        "%s was begun on another machine (here: %s). It goes on %s: the last digits of weights and scores will differ",
        folder,
        "; ".join(differing) or "no compiled kernels",
        how,
    )
    return tuning


def _right_here(chosen: Tuning, here: Tuning) -> Tuning:
    """What was chosen elsewhere, as far as the self-test finds it right here; faster or slower does not matter."""
    halves = chosen.precision == "bf16-mixed" and here.measured.get("bf16 plain", 0) > 0
    halved = {name.removeprefix("bf16 "): gain for name, gain in here.measured.items() if name.startswith("bf16 ")}
    wrong = sorted(kind for kind, gain in halved.items() if not gain)
    return replace(
        chosen,
        precision="bf16-mixed" if halves else "32-true",
        kernels=tuple(name for name in chosen.kernels if here.measured.get(name, 0) > 0),
        in_full_precision=tuple(dict.fromkeys((*chosen.in_full_precision, *wrong))),
    )
