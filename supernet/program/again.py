"""`supernet search DIR --new OTHER`: another search on the same one-shot model, in a new run folder."""

from __future__ import annotations

import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.base.files import read_json, sha256, write_json, write_text
from supernet.program.config import Config, to_yaml
from supernet.program.folder import (
    Opened,
    RunError,
    changes,
    check_trained_limits,
    continue_run,
    open_run,
    place_of_data,
    require,
)
from supernet.program.load import check_limits
from supernet.program.paths import RunFolder

_FREE = ("search.", "retrain.", "analysis.", "runtime.", "task.metric:", "data.path:")
"""Settings that do not change the one-shot model."""


def run_again(run: Opened, path: Path, config: Config) -> Opened:
    """A new run folder with the one-shot model of another one, so that it can be searched again.

    After the test split of a run was opened, its search may not change: what is chosen then is chosen after a look at
    the test. The new folder records that look, and its results say so. Neither folder needs the other afterwards.

    Args:
        run: the run whose one-shot model is taken; it stays as it is.
        path: the new folder; one that was made so from the same model is continued.
        config: of the new run.

    Raises:
        LimitsError: no architecture meets the limits.
        RunError: the one-shot model is not trained, a setting differs that it depends on, or the folder is of
            something else.
    """
    weights = require(run.folder, "train")
    check_limits(run, config.search.limits)
    check_trained_limits(run.folder, run.config, config)
    if wrong := [text for text in changes(run, config) if not text.startswith(_FREE)]:
        raise RunError(
            f"--new: the one-shot model of {run.folder} was trained with another configuration ({'; '.join(wrong)}): "
            "train a new one with `supernet run`"
        )
    folder = RunFolder(path)
    if folder.config.exists():
        if not folder.one_shot.exists() or sha256(folder.one_shot) != sha256(weights):
            raise RunError(f"--new: {folder} has another one-shot model than {run.folder}: choose a new folder")
        there = open_run(path)
        return continue_run(there, replace(config, data=there.config.data))
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(f"--new: {folder} is there and is no run folder: choose a new or empty folder")
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        place = place_of_data(folder, config)
        if run.folder.arrays.exists():
            place = folder.arrays.name
            config = replace(config, data=replace(config.data, path=str(path.resolve() / place)))
        _copy(run.folder, RunFolder(part), place)
        write_text(part / folder.config.name, to_yaml(config))
        path.parent.mkdir(parents=True, exist_ok=True)
        part.rename(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Opened(folder, config)


def _copy(here: RunFolder, new: RunFolder, place: str | None) -> None:
    """Copies what belongs to the one-shot model, and writes where it was trained and the looks at the test so far.

    Args:
        here: the run.
        new: the new folder.
        place: of the data, from the new folder; see `place_of_data`.
    """
    shutil.copytree(here.train, new.train)
    for file in (here.arrays, here.latency, here.tuning):
        if file.exists():
            shutil.copy2(file, new.path / file.name)
    write_json(new.data, {**read_json(here.data), "place": place}, digest=True)
    write_json(new.environment, {"train": read_json(here.environment)["train"]}, digest=True)
    write_json(new.test_seen, {"origin": str(_origin(here).path.resolve()), "openings": looks(here)}, digest=True)


def _origin(folder: RunFolder) -> RunFolder:
    """The run that trained the one-shot model, which may be gone."""
    origin = read_json(folder.test_seen).get("origin") if folder.test_seen.exists() else None
    return folder if origin is None else RunFolder(Path(origin))


def looks(folder: RunFolder) -> list[dict[str, Any]]:
    """The openings of the test split by runs with this one-shot model, as far as they are known, this one's included.

    Runs tell the one that trained the model, so that others see it there.
    """
    openings: dict[str, dict[str, Any]] = {}
    for run in dict.fromkeys((_origin(folder), folder)):
        for look in read_json(run.test_seen)["openings"] if run.test_seen.exists() else []:
            openings[look["folder"]] = look
        if run.test_opened.exists():
            opened = read_json(run.test_opened)
            place = str(run.path.resolve())
            openings[place] = {"folder": place, **{key: opened[key] for key in ("opened", "networks")}}
    return sorted(openings.values(), key=lambda look: str(look["opened"]))


def tell_origin(folder: RunFolder) -> None:
    """Records at the run that trained the one-shot model that this one has opened the test split."""
    origin = _origin(folder)
    if origin != folder and origin.config.exists():
        openings = [look for look in looks(folder) if look["folder"] != str(origin.path.resolve())]
        write_json(origin.test_seen, {"origin": None, "openings": openings}, digest=True)
