"""Finalists and their trainings as an Optuna study, which people browse with optuna-dashboard.

The study is a copy for people and for teams: SQLite in the run folder, or a database that several runs share. The files
of the run stay what counts. Test accuracies are not in it, so nobody ranks on them.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from supernet.files import read_json, without_password
from supernet.space import Architecture, Space
from supernet.strategies import load_optuna

log = logging.getLogger(__name__)

MANY = 200
"""A choice with more picks than this is a parameter for each of its options."""

POINTS = 200
"""Points of a training curve that are sent at the most."""

ATTEMPTS = 5
"""Tables of a new database may be made by two processes at once; then one of them has to look again."""


class StorageError(ValueError):
    """A storage that cannot be reached, or a study in it that is not this run's."""


@dataclass(frozen=True, slots=True)
class Training:
    """One stand-alone training, done or not.

    Attributes:
        architecture: of the network.
        repeat: which of its trainings.
        folder: where `result.json` and `weights.safetensors` are when it is done.
        facts: what else is shown: score, costs, groups.
    """

    architecture: Architecture
    repeat: int
    folder: Path
    facts: Mapping[str, Any]


def identity(space: Space) -> str:
    """A text that spaces share which have the same choices."""
    return hashlib.sha256(repr((space.name, space.choices)).encode()).hexdigest()[:16]


@contextmanager
def open_study(folder: Path, space: Space, storage: str | None = None, name: str | None = None) -> Iterator[Any]:
    """Inside the ``with`` block the study of a run, made where it is missing.

    Args:
        folder: of the run.
        space: of the run.
        storage: address of a database, as SQLAlchemy has it; None for `study.sqlite` in the folder.
        name: of the study; None for the name of the folder.

    Raises:
        StorageError: it cannot be reached, or the study belongs to another space. The message has no password.
        ValueError: Optuna is not installed.
    """
    optuna = load_optuna()
    address, engine = storage or "sqlite:///study.sqlite", {}
    if storage is None:  # opened by ourselves: in an address signs of the folder's name would have meanings
        path = (folder / "study.sqlite").resolve()
        engine["creator"] = lambda: sqlite3.connect(path, timeout=60, check_same_thread=False)
    name = name or folder.resolve().name

    database: Any = None
    for attempt in range(ATTEMPTS):
        try:
            database = optuna.storages.RDBStorage(address, engine_kwargs=engine)
            study = optuna.create_study(
                storage=database, study_name=name, direction="maximize", load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )  # fmt: skip
            break
        except Exception as error:
            _close(database)
            if attempt == ATTEMPTS - 1 or not _is_race(error):
                raise StorageError(
                    f"storage {without_password(address)} cannot be reached ({_reason(error, address)}); all results "
                    f"are in {folder}, and `supernet study {folder} --storage ...` sends them later"
                ) from None
    try:
        _claim(study, space, address)
        yield study
    finally:
        _close(database)


def _close(database: Any) -> None:
    """Leaves no connection open."""
    if database is not None:
        database.remove_session()
        database.engine.dispose()


def _claim(study: Any, space: Space, address: str) -> None:
    """Makes a new study one of this space.

    Raises:
        StorageError: it is one of another.
    """
    name = study.study_name
    known = study.user_attrs.get("space id")
    if known is None and study.get_trials(deepcopy=False):
        raise StorageError(
            f"study {name!r} at {without_password(address)} is of something else: choose another --study"
        )
    if known not in (None, identity(space)):
        raise StorageError(
            f"study {name!r} at {without_password(address)} belongs to another space ({study.user_attrs.get('space')}, "
            f"not {described(space)}): choose another --study"
        )
    if known is None:
        study.set_user_attr("space", described(space))
        study.set_user_attr("space id", identity(space))


def described(space: Space) -> str:
    """A space in a few words."""
    return f"{space.name} with {len(space.choices)} choices, {space.size:,} architectures"


def _is_race(error: Exception) -> bool:
    """Whether another process was making the same tables."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("already exists", "duplicate", "unique constraint"))


def _reason(error: Exception, address: str) -> str:
    """The first line of what went wrong, without the address, which may hold a password."""
    text = " ".join(str(error).replace(address, without_password(address)).split("\n", 1)[0].split())
    password = address.partition("://")[2].rpartition("@")[0].partition(":")[2]
    return (text.replace(password, "***") if password else text) or type(error).__name__


def parameters(space: Space, architecture: Architecture) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an architecture picks, as Optuna's parameters and their distributions."""
    categorical = load_optuna().distributions.CategoricalDistribution
    values: dict[str, Any] = {}
    distributions: dict[str, Any] = {}
    for name, picked in architecture.picks:
        choice, subsets = space.choice(name), space.subsets[name]
        if picked in subsets and len(subsets) <= MANY:
            values[name] = "+".join(picked)
            distributions[name] = categorical(tuple("+".join(subset) for subset in subsets))
        else:  # very many picks; or everything on, which is none of them
            for option in choice.options:
                values[f"{name}: {option}"] = option in picked
                distributions[f"{name}: {option}"] = categorical((False, True))
    return values, distributions


def send(study: Any, space: Space, trainings: Iterable[Training], run: str, artifacts: Path) -> int:
    """Brings a study up to date; what it has already is left as it is.

    A finalist that is not trained yet is a running trial, one that is trained a complete one, whose value is the
    validation metric (or none, where it was trained on the validation split).

    Args:
        study: of `open_study`.
        space: of the run.
        trainings: of the run.
        run: what tells this run from others in the same study.
        artifacts: folder for copies of results and weights.

    Returns:
        How many trials were added or completed.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    known = {t.user_attrs.get("training"): t for t in study.get_trials(deepcopy=False)}
    changed = 0
    for training in trainings:
        key = f"{run}/{training.architecture.id}/{training.repeat}"
        done = training.folder / "result.json"
        there = known.get(key)
        if there is None:
            params, distributions = parameters(space, training.architecture)
            study.add_trial(
                optuna.trial.create_trial(
                    state=states.RUNNING, params=params, distributions=distributions,
                    user_attrs={
                        "training": key, "architecture": str(training.architecture), "id": training.architecture.id,
                        "repeat": training.repeat, **training.facts,
                    },
                )
            )  # fmt: skip
            there = study.get_trials(deepcopy=False)[-1]
            if there.user_attrs.get("training") != key:  # another process has added one meanwhile
                there = next(t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("training") == key)
            changed += not done.exists()
        if done.exists() and not there.state.is_finished():
            _complete(study, there, read_json(done, ("validation", "history")), training.folder, artifacts)
            changed += 1
    return changed


def _complete(study: Any, trial: Any, result: Mapping[str, Any], folder: Path, artifacts: Path) -> None:
    optuna = load_optuna()
    live = optuna.trial.Trial(study, trial._trial_id)
    for step, loss in curve(result["history"]):
        live.report(loss, step)
    live.set_user_attr("seed", str(result["seed"]))  # too large for some databases as a number
    artifacts.mkdir(parents=True, exist_ok=True)
    store = optuna.artifacts.FileSystemArtifactStore(str(artifacts))
    for name in ("result.json", "weights.safetensors"):
        if (folder / name).exists():
            optuna.artifacts.upload_artifact(
                artifact_store=store, file_path=str(folder / name), study_or_trial=live
            )  # fmt: skip
    validation = result["validation"]
    if validation is None:
        study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial.number, validation)


def curve(history: Sequence[Mapping[str, float]]) -> list[tuple[int, float]]:
    """Steps and losses of a training, thinned evenly."""
    stride = max(1, -(-len(history) // POINTS))
    return [(int(row["step"]), float(row["loss"])) for row in history[::stride]]


@contextmanager
def sender(
    folder: Path,
    space: Space,
    run: str,
    trainings: Callable[[], Iterable[Training]],
    storage: str | None,
    name: str | None,
) -> Iterator[Callable[[], None]]:
    """Inside the ``with`` block a function that brings the study up to date whenever it is called, from any thread.

    The database may go away meanwhile: then the log says so, the work goes on, and the next call tries again. Where
    Optuna is not installed and no storage is asked for, nothing happens.

    Raises:
        StorageError: the storage that is asked for cannot be reached now.
    """
    try:
        load_optuna()
    except ValueError as error:
        if storage is not None:
            raise
        log.info("no study of the trainings is written: %s", error)
        yield lambda: None
        return
    lock = Lock()

    def update() -> None:
        with lock:
            try:
                send(study, space, trainings(), run, folder / "artifacts")
            except Exception as error:
                address = storage or "study.sqlite"
                log.warning(
                    "storage %s: %s; results are kept in %s", without_password(address), _reason(error, address), folder
                )

    with open_study(folder, space, storage, name) as study:
        yield update
