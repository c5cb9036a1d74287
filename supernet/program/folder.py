"""The run folder, the interface between the steps.

| path | written by | content |
|---|---|---|
| `config.yaml` | the first step | every setting; `supernet run config.yaml` repeats the run |
| `environment.json` | each step | versions, machine, command and time of the step |
| `data.json` | the first step | sizes and hashes of the three splits, classes, types and shapes, mean and deviation |
| `train/model.safetensors` | train | weights of the one-shot model; its presence says that the step is done |
| `train/history.json` | train | training curve |
| `train/paths.npy` | train | live_GP of every step, packed bits: uint8 [steps, G, ceil(P / 8)] |
| `train/snapshots/STEP.safetensors` | train | weights on the way, for the course of the divergence |
| `train/checkpoint.pt` | train | state of a training under way |
| `latency.json` | search | times of modules on this device, checked on whole networks; where latency is asked for |
| `candidates.sqlite` | search | every candidate with its score and its costs; what was asked for in each round |
| `finalists.drawn.json` | search | finalists that are not all scored on everything yet |
| `finalists.json` | search | groups of finalists; its presence says that the step is done |
| `retrain/ID/REPEAT/` | retrain | `result.json`, `weights.safetensors` of one training |
| `study.sqlite`, `artifacts/` | retrain | the trainings as an Optuna study, for people; where Optuna is installed |
| `retrain/test_opened.json` | retrain | when and for which networks the test split was opened |
| `results.json` | retrain | groups and networks with score, validation and test accuracy; the run is done |
| `analysis/networks/ID/REPEAT/` | analyze | `result.json`, `weights.safetensors` of one short training |
| `analysis/sweep/RATE/` | analyze | `model.safetensors` of the one-shot model trained at this dropout rate |
| `analysis/at/SETTING=VALUE/ID/REPEAT/` | analyze | the same of one finalist at another size |
| `analysis.json` | analyze | what the ranking is worth: every number and every point |
| `report.html` | report | one page about the run |
| `export/` | export | a network by itself: code, weights, .pt2, ONNX, `predict.py`, model card, `export.json` |

Every file is written whole or not at all.
"""

from __future__ import annotations

import itertools
import platform
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from supernet.base.files import read_json, without_password, write_json, write_text
from supernet.base.version import __version__
from supernet.program.config import Config, differences, read_yaml, to_yaml
from supernet.program.settings import read_settings, setting_hints
from supernet.speed.runtime import cores
from supernet.speed.tune import Tuning

DONE = {"train": "train/model.safetensors", "search": "finalists.json", "retrain": "results.json"}
"""The steps on a run folder, in order, with the file that each writes last."""


MISSING = object()


class RunError(ValueError):
    """A run folder that is not there, of another configuration, or not ready for the step."""


def create_run(folder: Path, config: Config) -> None:
    """Makes a run folder, or accepts the one that is there if it has the same configuration.

    Device and processes (`runtime`) may change: a run moves from one machine to another. So may `analysis`; and, until
    the test split is opened, `retrain`, for instance after a network diverged, and `search`, for another strategy or
    other limits with the same one-shot model. What was searched or trained before is set aside.

    Raises:
        RunError: the folder has another configuration in which work was done already, or is of something else.
    """
    path = folder / "config.yaml"
    if path.exists():
        differing = differences(open_run(folder), config)
        changed = [text for text in differing if not text.startswith("runtime.")]
        begun = {entry.name for entry in folder.iterdir()} - {"config.yaml", "data.json", "environment.json"}
        tested = (folder / "retrain" / "test_opened.json").exists()
        free = ("analysis.",) if tested else ("analysis.", "retrain.", "search.")
        if changed and begun and not all(text.startswith(free) for text in changed):
            raise RunError(
                f"{folder} was made with another configuration ({'; '.join(changed)}): choose another folder, or "
                "delete this one"
            )
        if changed and begun:
            if any(text.startswith("search.") for text in changed):
                stale = ["candidates.sqlite", "finalists.json", "finalists.drawn.json", "retrain", "analysis"]
            else:
                depending = (("retrain.", ("retrain", "analysis/at")), ("analysis.", ("analysis/networks",)))
                stale = [
                    place
                    for part, places in depending
                    if any(text.startswith(part) for text in changed)
                    for place in places
                ]
            for place in (*stale, "analysis.json"):
                set_aside(folder / place)
        elif changed:  # a first try that found its data or device wanting must not stand in the way of the second
            (folder / "data.json").unlink(missing_ok=True)
        if not differing:
            return
    elif folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: expected the name of a new folder")
    # What a killed process left half written begins with a dot.
    elif folder.exists() and not all(entry.name.startswith(".") for entry in folder.iterdir()):
        raise RunError(f"{folder} is there and is no run folder: choose a new or empty folder")
    write_text(path, to_yaml(config))


def set_aside(path: Path) -> None:
    """Renames a file or folder, if it is there, so that nothing in it is lost or taken for something new."""
    if path.exists():
        number = next(n for n in itertools.count(1) if not path.with_name(f"{path.name}.before-{n}").exists())
        path.rename(path.with_name(f"{path.name}.before-{number}"))


def open_run(folder: Path) -> Config:
    """The configuration of a run folder.

    Raises:
        RunError: it is no run folder, or its configuration is not complete.
    """
    if not (folder / "config.yaml").is_file():
        raise RunError(f"{folder} is no run folder (no config.yaml): `supernet run RECIPE --out {folder}` makes one")
    path = folder / "config.yaml"
    values = read_settings(path, Config)
    for name in setting_hints(Config):
        part: Any = values
        for word in name.split("."):
            part = part.get(word, MISSING)
            if part is MISSING:
                raise RunError(
                    f"{path} is of another version, or damaged (it has no {name}): take another folder, or delete "
                    "this one"
                )
    return read_yaml(path)


def is_done(folder: Path, step: str) -> bool:
    """Whether a step of a run is complete."""
    return (folder / DONE[step]).exists()


def record_environment(folder: Path, step: str, tuning: Tuning) -> None:
    """Adds versions, machine, command and what the self-test chose to `environment.json`, by step; the last is kept."""

    path = folder / "environment.json"
    steps = read_json(path) if path.exists() else {}
    steps[step] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["supernet", *map(without_password, sys.argv[1:])]),
        "supernet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.platform(),
        "cores": cores(),
        "precision": tuning.precision,
        "layout": tuning.layout,
        "kernels": list(tuning.kernels),
        "in_full_precision": list(tuning.in_full_precision),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
    }
    write_json(path, steps)


def require(folder: Path, step: str) -> Path:
    """The file that a step of a run writes last.

    Raises:
        RunError: it is not there; the message says which step writes it.
    """
    path = folder / DONE[step]
    if not path.exists():
        raise RunError(f"{path} is not there: run `supernet {step} {folder}` first")
    return path
