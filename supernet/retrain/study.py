"""Finalists and their trainings as an Optuna study, which people browse with optuna-dashboard.

The study is a copy for people and for teams: SQLite in the run folder, or a database that several runs share. The files
of the run stay what counts. Test accuracies are not in it, so no ranking can use them.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from supernet.base.files import read_json, without_password, without_secrets
from supernet.draw import networks, svg
from supernet.draw.parts import network_parts
from supernet.search.strategies import load_optuna
from supernet.space.choices import Architecture, Space

log = logging.getLogger(__name__)

MANY = 200
"""A choice with more picks than this is a parameter for each of its options."""

POINTS = 200
"""Points of a training curve that are sent at the most."""

POINT_SECONDS = 5.0
"""Points of curves under way are sent this often."""

_AWAY_SECONDS = 60.0
"""A storage that could not be reached is not asked to take points of curves again for so long."""

_LOCKED_SECONDS = 5.0
"""A study in the run folder that another program has locked is waited for so long; the trainings wait meanwhile."""

_ATTEMPTS = 5
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
        engine["creator"] = lambda: sqlite3.connect(path, timeout=_LOCKED_SECONDS, check_same_thread=False)
    name = name or folder.resolve().name

    database: Any = None
    for attempt in range(_ATTEMPTS):
        try:
            database = optuna.storages.RDBStorage(address, engine_kwargs=engine)
            study = optuna.create_study(
                storage=database, study_name=name, direction="maximize", load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(seed=0),
            )  # fmt: skip
            break
        except _opening_errors() as error:
            _close(database)
            if attempt == _ATTEMPTS - 1 or not _is_race(error):
                raise StorageError(
                    f"storage {without_password(address)} cannot be reached ({_reason(error, address)}); all results "
                    f"are in {folder}, and `supernet study {folder} --storage ...` sends them later"
                ) from None
    try:
        _claim(study, space, address)
        yield study
    finally:
        _close(database)


def check_storage(address: str) -> None:
    """Refuses a database that cannot be reached, before any work. A file of SQLite is not made yet.

    Raises:
        StorageError: it cannot be reached. The message has no password.
        ValueError: Optuna is not installed.
    """
    load_optuna()
    from sqlalchemy import create_engine, make_url

    try:
        url = make_url(address)
        if url.get_backend_name() == "sqlite":
            if url.database and not Path(url.database).expanduser().parent.is_dir():
                raise OSError(f"no folder {Path(url.database).parent}")
            return
        with create_engine(address).connect():
            pass
    except _opening_errors() as error:
        reason = _reason(error, address)
        raise StorageError(f"storage {without_password(address)} cannot be reached ({reason})") from None


def _opening_errors() -> tuple[type[Exception], ...]:
    """What Optuna and SQLAlchemy raise where an address leads nowhere, a driver is missing or a database is too old."""
    from sqlalchemy.exc import SQLAlchemyError

    return (
        SQLAlchemyError,
        load_optuna().exceptions.StorageInternalError,
        ImportError,
        OSError,
        RuntimeError,
        ValueError,
    )


def _storage_error(error: Exception) -> Exception | None:
    """What is wrong with the storage, where that is what an error says; None where it is an error of the program."""
    from sqlalchemy import exc

    exceptions = load_optuna().exceptions
    cause = error.__cause__ if isinstance(error, exceptions.StorageInternalError) else error
    # A user of the dashboard may end the trials of a study, or delete it.
    kinds = (exc.DBAPIError, exc.TimeoutError, OSError, StorageError, exceptions.UpdateFinishedTrialError)
    return cause if isinstance(cause, kinds) and not isinstance(cause, exc.DataError) else None


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
    return f"{space.name} with {len(space.choices)} choices, {space.size_text} architectures"


def _is_race(error: Exception) -> bool:
    """Whether another process was making the same tables."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("already exists", "duplicate", "unique constraint"))


def _reason(error: Exception, address: str) -> str:
    """The first line of what went wrong, without the address, which may hold a password."""
    text = " ".join(str(error).replace(address, without_password(address)).split("\n", 1)[0].split())
    return without_secrets(text, address) or type(error).__name__


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


def _key(run: str, architecture: Architecture, repeat: int) -> str:
    """What tells one training from all others in a study."""
    return f"{run}/{architecture.id}/{repeat}"


def _known(study: Any) -> dict[str, Any]:
    """The trials of a study by the key of their training, without those that were given up.

    Raises:
        StorageError: the study was deleted.
    """
    try:
        trials = study.get_trials(deepcopy=False)
    except KeyError:
        raise StorageError("the study is not there any more") from None
    given_up = load_optuna().trial.TrialState.FAIL
    return {t.user_attrs.get("training"): t for t in trials if t.state != given_up}


def send(
    study: Any, space: Space, trainings: Iterable[Training], run: str, artifacts: Path, *, is_own: bool = False
) -> int:
    """Brings a study up to date; what it has already is left as it is.

    A finalist that is not trained yet is a running trial, one that is trained a complete one, whose value is the
    validation metric (or none, where it was trained on the validation split).

    Args:
        study: of `open_study`.
        space: of the run.
        trainings: of the run.
        run: what tells this run from others in the same study.
        artifacts: folder for what goes with trials, as an artifact store of Optuna: results, weights, drawings.
        is_own: whether the study is of this run alone; running trials of its earlier settings have then failed.

    Returns:
        How many trials were added or completed.
    """
    optuna = load_optuna()
    states = optuna.trial.TrialState
    known = _known(study)
    if is_own:
        for key, trial in known.items():
            if trial.state == states.RUNNING and not str(key).startswith(f"{run}/"):
                study.tell(trial.number, state=states.FAIL)
    changed = 0
    for training in trainings:
        key = _key(run, training.architecture, training.repeat)
        done = training.folder / "result.json"
        if key not in known:
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
            known[key] = _known(study)[key]
            changed += not done.exists()
        if done.exists() and not known[key].state.is_finished():
            result = read_json(done, ("validation", "history", "seed"))
            _complete(study, space, known[key], result, training, artifacts)
            changed += 1
    return changed


def _live(study: Any, trial: Any, points: Iterable[tuple[int, float]]) -> Any:
    """A trial under way, with these points of its curve."""
    live = load_optuna().trial.Trial(study, trial._trial_id)
    for step, loss in points:
        if step not in trial.intermediate_values:  # a training that was killed goes over some steps again
            live.report(loss, step)
    return live


def _complete(
    study: Any, space: Space, trial: Any, result: Mapping[str, Any], training: Training, artifacts: Path
) -> None:
    optuna = load_optuna()
    live = _live(study, trial, curve(result["history"]))
    live.set_user_attr("seed", str(result["seed"]))  # too large for some databases as a number
    store = optuna.artifacts.FileSystemArtifactStore(str(artifacts))
    there = {meta.filename for meta in optuna.artifacts.get_all_artifact_meta(live)}
    with tempfile.TemporaryDirectory(prefix="supernet-study-") as name:
        drawing = Path(name) / "network.svg"
        try:
            drawn = svg.by_itself(networks.network(network_parts(space, training.architecture)))
            drawing.write_text(drawn, encoding="utf-8")
        except RuntimeError as error:  # a network of a user's whose path depends on values
            log.info("no drawing of %s: it does not run without data (%s)", training.architecture.id, error)
        for path in (drawing, training.folder / "result.json", training.folder / "weights.safetensors"):
            if path.exists() and path.name not in there:
                optuna.artifacts.upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=live)
    validation = result["validation"]
    if validation is None:
        study.tell(trial.number, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial.number, validation)


def curve(history: Sequence[Mapping[str, float]]) -> list[tuple[int, float]]:
    """Steps and losses of a training, thinned evenly."""
    stride = max(1, -(-len(history) // POINTS))
    return [(int(row["step"]), float(row["loss"])) for row in history[::stride]]


@dataclass(frozen=True, slots=True)
class Sender:
    """What brings a study up to date, from any thread.

    Attributes:
        update: tells it of all trainings.
        point: tells it of one more point of a curve: architecture, repeat, step, loss. Some are sent at once.
    """

    update: Callable[[], None] = lambda: None
    point: Callable[[Architecture, int, int, float], None] = lambda *point: None


NO_STUDY = Sender()
"""Sends nothing."""


@contextmanager
def sender(
    folder: Path,
    space: Space,
    run: str,
    trainings: Sequence[Training],
    storage: str | None,
    name: str | None,
    artifacts: Path | None = None,
) -> Iterator[Sender]:
    """Inside the ``with`` block what brings the study up to date.

    The database may go away meanwhile: then the log says so, the work goes on, and the next call tries again. Where
    Optuna is not installed and no storage is asked for, nothing happens. A study in the run folder is a copy that
    nothing depends on: where it cannot be written, the log says so, and the work goes on.

    Args:
        folder: of the run.
        space: of the run.
        run: see `send`.
        trainings: of the run; which of them are done is looked up in their folders at each call.
        storage, name: see `open_study`.
        artifacts: see `send`; None for `artifacts` in the folder.

    Raises:
        StorageError: the storage that is asked for cannot be reached now.
        OSError: the folder for artifacts cannot be made.
    """
    with ExitStack() as opened:
        place = artifacts or folder / "artifacts"
        try:
            study = opened.enter_context(_own_study(folder, space, storage, name))
            place.mkdir(parents=True, exist_ok=True)
        except (ValueError, OSError) as error:
            if storage is not None or artifacts is not None:
                raise
            log.warning("no study of the trainings is written, all results are in their files: %s", error)
            yield NO_STUDY
            return
        with _sending(study, folder, space, run, trainings, storage, place) as sending:
            yield sending


@contextmanager
def _own_study(folder: Path, space: Space, storage: str | None, name: str | None) -> Iterator[Any]:
    """As `open_study`; a damaged one in the run folder is renamed, and a new one is made from the files of the run."""
    path = folder / "study.sqlite"
    if storage is None and path.exists() and (problem := _damage_of(path)) is not None:
        aside = next(p for n in itertools.count(1) if not (p := path.with_name(f"{path.name}.damaged-{n}")).exists())
        path.rename(aside)
        log.warning("%s is damaged (%s): it is now %s, and a new one is made", path, problem, aside.name)
    with open_study(folder, space, storage, name) as study:
        yield study


def _damage_of(path: Path) -> str | None:
    """What is wrong with an SQLite file, in one line; None if nothing is, or if that cannot be told now."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (text,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if text == "ok" else " ".join(str(text).split())
    except sqlite3.OperationalError:  # locked, or the disk is full
        return None
    except sqlite3.DatabaseError as error:
        return str(error)


@contextmanager
def _sending(
    study: Any,
    folder: Path,
    space: Space,
    run: str,
    trainings: Sequence[Training],
    storage: str | None,
    place: Path,
) -> Iterator[Sender]:
    """Inside the ``with`` block what brings an open study up to date; arguments as for `sender`."""
    lock = Lock()
    waiting: dict[str, dict[int, float]] = {}
    due = time.monotonic() + POINT_SECONDS

    def send_points() -> None:
        known = _known(study)
        for key in list(waiting):
            points = waiting.pop(key)
            if key in known and not known[key].state.is_finished():
                _live(study, known[key], points.items())

    def reached(work: Callable[[], object]) -> None:
        nonlocal due
        due = time.monotonic() + POINT_SECONDS
        try:
            work()
        except Exception as error:
            reason = _storage_error(error)
            if reason is None:
                raise
            due = time.monotonic() + _AWAY_SECONDS
            waiting.clear()  # a training that has ended is sent as a whole
            address = storage or "study.sqlite"
            log.warning(
                "storage %s: %s; results are kept in %s", without_password(address), _reason(reason, address), folder
            )

    def update() -> None:
        with lock:
            reached(lambda: send(study, space, trainings, run, place, is_own=storage is None))

    def point(architecture: Architecture, repeat: int, step: int, loss: float) -> None:
        with lock:
            waiting.setdefault(_key(run, architecture, repeat), {})[step] = loss
            if time.monotonic() > due:
                reached(send_points)

    try:
        yield Sender(update, point)
    finally:
        if waiting:
            with lock:
                reached(send_points)
