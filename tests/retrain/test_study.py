"""The Optuna study of stand-alone trainings: SQLite in the run folder, and PostgreSQL shared by two processes."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from supernet.base.files import read_json, without_password, write_json
from supernet.base.progress import Interrupted, Watch
from supernet.program.commands import main
from supernet.program.folder import open_run
from supernet.program.load import load_run, space_of_run
from supernet.program.retrain import retrain_candidates
from supernet.program.study import send_study
from supernet.retrain import study as trials
from supernet.retrain.study import StorageError, Training, curve, open_study, parameters, sender
from supernet.search.table import read_candidates
from supernet.speed.runtime import start
from tests.spaces_for_tests import nested, tiny_bender, tiny_macro

Refused = Callable[..., str]
NOWHERE = "postgresql+psycopg://ann:geheim@127.0.0.1:9/nothing"


def test_a_run_has_its_trainings_in_a_study(finished_run: Path) -> None:
    """Parameters, costs, scores, curves and artifacts, and no test accuracy."""
    with open_study(finished_run, space_of_run(open_run(finished_run))) as study:
        sent, storage = study.trials, study._storage
        metas = [optuna.artifacts.get_all_artifact_meta(t, storage=storage) for t in sent]
    results = read_json(finished_run / "results.json")
    networks = {row["id"]: row for row in results["networks"]}
    assert {t.user_attrs["id"] for t in sent} == set(networks)
    assert len(sent) == len(networks)
    space = space_of_run(open_run(finished_run))
    store = optuna.artifacts.FileSystemArtifactStore(str(finished_run / "artifacts"))
    for trial, meta in zip(sent, metas, strict=True):
        row, place = networks[trial.user_attrs["id"]], finished_run / "retrain" / trial.user_attrs["id"] / "0"
        assert trial.state == optuna.trial.TrialState.COMPLETE
        assert trial.values == row["validation"]
        assert trial.params == parameters(space, space.parse(row["architecture"]))[0]
        assert (trial.user_attrs["params"], trial.user_attrs["macs"]) == (row["params"], row["macs"])
        assert trial.intermediate_values == dict(curve(read_json(place / "result.json")["history"]))
        kept = {each.filename: each.artifact_id for each in meta}
        for name, artifact in kept.items():
            with store.open_reader(artifact) as file:
                content = file.read()
            assert content == (place / name).read_bytes() if name != "network.svg" else content.startswith(b"<svg")
        assert set(kept) == {"result.json", "weights.safetensors", "network.svg"}
        assert not any("test" in key for key in trial.user_attrs)
    assert any("Top" in t.user_attrs["groups"] for t in sent)


def test_what_is_there_is_not_sent_again(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = f"sqlite:///{run_folder / 'other.sqlite'}"
    networks = len(read_json(run_folder / "results.json")["networks"])
    first = send_study(open_run(run_folder), other, "ours")
    assert (first["sent"], first["trials"]) == (networks, networks)
    assert main(["study", str(run_folder), "--storage", other, "--study", "ours", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {**first, "sent": 0}
    assert main(["study", str(run_folder), "--storage", other, "--study", "ours"]) == 0
    assert capsys.readouterr().out == f"0 trials sent; study 'ours' at {other} has {networks}\n"


def test_finalists_are_running_trials_until_they_are_trained(run_folder: Path) -> None:
    """Also after a kill between the two; and a training without validation has no value."""
    (run_folder / "study.sqlite").unlink()
    results = sorted((run_folder / "retrain").glob("*/0/result.json"))
    kept = {path: path.read_bytes() for path in results}
    for path in results[1:]:
        path.unlink()
    assert send_study(open_run(run_folder), None, None)["trials"] == len(results)
    with open_study(run_folder, space_of_run(open_run(run_folder))) as study:
        states = [t.state for t in study.trials]
    assert states.count(optuna.trial.TrialState.RUNNING) == len(results) - 1
    for path, content in kept.items():
        path.write_bytes(content)
    write_json(results[1], {**read_json(results[1]), "validation": None})
    assert send_study(open_run(run_folder), None, None) == {
        "storage": f"sqlite:///{run_folder / 'study.sqlite'}", "study": run_folder.name,
        "artifacts": str(run_folder / "artifacts"), "sent": len(results) - 1, "trials": len(results),
    }  # fmt: skip
    with open_study(run_folder, space_of_run(open_run(run_folder))) as study:
        states = [t.state for t in study.trials]
    assert sorted(state.name for state in states) == ["COMPLETE"] * (len(results) - 1) + ["PRUNED"]


def test_a_study_of_another_space(run_folder: Path, tmp_path: Path, refused: Refused) -> None:
    storage = f"sqlite:///{tmp_path / 's.sqlite'}"
    with open_study(tmp_path, nested(), storage, "theirs"):
        pass
    message = refused("study", run_folder, "--storage", storage, "--study", "theirs")
    assert "study 'theirs' at sqlite:///" in message
    assert "belongs to another space (nested with 4 choices, 42 architectures, not bender" in message
    database = optuna.storages.RDBStorage(storage)
    study = optuna.create_study(storage=database, study_name="foreign")
    study.tell(study.ask(), 1.0)
    database.remove_session()
    database.engine.dispose()
    assert "is of something else" in refused("study", run_folder, "--storage", storage, "--study", "foreign")


@pytest.mark.parametrize("command", ["study", "retrain"])
def test_a_storage_that_cannot_be_reached(run_folder: Path, refused: Refused, command: str) -> None:
    (run_folder / "results.json").unlink()
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    message = refused(command, run_folder, "--storage", NOWHERE)
    assert "storage postgresql+psycopg://ann@127.0.0.1:9/nothing cannot be reached" in message
    if command == "study":  # before a training nothing is there to be sent later
        assert f"`supernet study {run_folder} --storage ...` sends them later" in message
    assert "geheim" not in message
    for path, content in before.items():
        assert path.name == "environment.json" or path.read_bytes() == content
    assert "geheim" not in "".join(
        p.read_text(errors="replace") for p in run_folder.glob("*.*") if p.suffix != ".sqlite"
    )
    assert "cannot be reached" in refused(command, run_folder, "--storage", "nonsense")
    file = run_folder / "config.yaml"
    assert f"{file}: File exists" in refused(command, run_folder, "--artifacts", file)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    """One that is not done yet."""
    return Training(nested().at(0), 0, tmp_path / "training", {"score": 0.5})


@pytest.mark.parametrize("lost", ["a table", "the study", "the artifacts"])
def test_a_storage_that_goes_away_keeps_nobody_from_training(
    tmp_path: Path, training: Training, caplog: pytest.LogCaptureFixture, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "POINT_SECONDS", 0.0)
    storage = f"sqlite:///{tmp_path / 's.sqlite'}"
    with sender(tmp_path, nested(), "run", [training], storage, "ours", tmp_path / "shared") as tell:
        tell.update()
        if lost == "the study":
            optuna.delete_study(study_name="ours", storage=storage)
        elif lost == "a table":
            with closing(sqlite3.connect(tmp_path / "s.sqlite")) as connection, connection:
                connection.execute("ALTER TABLE trials RENAME TO elsewhere")
        else:
            (tmp_path / "shared").rmdir()
            (tmp_path / "shared").write_text("no folder")
            finish(training)
        tell.point(training.architecture, 0, 1, 2.0)
        assert ("results are kept in" in caplog.text) == (lost != "the artifacts")
        tell.update()
    assert "results are kept in" in caplog.text
    expected = {"a table": "no such table", "the study": "is not there any more", "the artifacts": "Not a directory"}
    assert expected[lost] in caplog.text


def test_errors_of_the_program_are_not_taken_for_the_storage(tmp_path: Path, training: Training) -> None:
    wrong = replace(training, facts={"score": object()})
    with (
        sender(tmp_path, nested(), "run", [wrong], None, None) as tell,
        pytest.raises(TypeError, match="not JSON serializable"),
    ):
        tell.update()

    training.folder.mkdir()
    (training.folder / "result.json").write_text("{")
    with (
        sender(tmp_path, nested(), "run", [training], None, None) as tell,
        pytest.raises(ValueError, match=r"result\.json"),
    ):
        tell.update()


def finish(training: Training, steps: int = 4) -> None:
    history = [{"step": i, "loss": 1 / i} for i in range(1, steps + 1)]
    write_json(training.folder / "result.json", {"validation": 0.25, "seed": 1, "history": history})


def test_curves_come_while_networks_train(tmp_path: Path, training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some at once, also after a kill; what was sent stays as it is."""
    monkeypatch.setattr(trials, "POINT_SECONDS", 0.0)

    def seen() -> tuple[str, dict[int, float]]:
        with open_study(tmp_path, nested()) as study:
            (trial,) = study.trials
        return trial.state.name, trial.intermediate_values

    def start() -> Any:
        return sender(tmp_path, nested(), "run", [training], None, None)

    with start() as tell:
        tell.update()
        assert seen() == ("RUNNING", {})
        tell.point(training.architecture, 0, 1, 1.0)
        assert seen() == ("RUNNING", {1: 1.0})
        monkeypatch.setattr(trials, "POINT_SECONDS", 600.0)
        tell.point(training.architecture, 0, 2, 0.5)  # which sets when the next ones are sent
        tell.point(training.architecture, 0, 3, 1 / 3)
        assert seen() == ("RUNNING", {1: 1.0, 2: 0.5})
    assert seen() == ("RUNNING", {1: 1.0, 2: 0.5, 3: 1 / 3})  # sent when the work ends, however it ends
    monkeypatch.setattr(trials, "POINT_SECONDS", 0.0)
    with start() as tell:
        tell.update()
        tell.point(training.architecture, 0, 3, 1 / 3)
        finish(training)
        tell.update()
        tell.point(training.architecture, 0, 4, 99.0)  # too late
    assert seen() == ("COMPLETE", {1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.25})


def test_a_trial_that_was_given_up_is_made_anew(tmp_path: Path, training: Training) -> None:
    """In the study of the run alone: other settings are another training. A trial that was stopped by hand as well."""
    for run, number in (("one", 1), ("two", 2), ("two", 2)):
        with sender(tmp_path, nested(), run, [training], None, None) as tell:
            tell.update()
        with open_study(tmp_path, nested()) as study:
            states = [t.state.name for t in study.trials]
        assert states == ["FAIL"] * (number - 1) + ["RUNNING"]
    with open_study(tmp_path, nested()) as study:
        study.tell(1, state=optuna.trial.TrialState.FAIL)
    with sender(tmp_path, nested(), "two", [training], None, None) as tell:
        tell.update()
    with open_study(tmp_path, nested()) as study:
        assert [t.state.name for t in study.trials] == ["FAIL", "FAIL", "RUNNING"]


def test_candidates_are_trials_from_the_beginning(run_folder: Path) -> None:
    """Killed and started again there is one trial of each."""
    run = open_run(run_folder)
    config, space = run.config, space_of_run(run)
    everyone = read_candidates(run_folder / "candidates.sqlite", space)
    trained = {path.parent.parent.name for path in run_folder.glob("retrain/*/0/result.json")}
    new = [c for c in everyone if c.architecture.id not in trained][:2]
    numbers, steps = [c.number for c in new], [0]

    def stop() -> bool:
        steps[0] += 1
        return steps[0] > 4

    def seen() -> dict[str, Any]:
        with open_study(run_folder, space) as study:
            found = [t for t in study.trials if t.user_attrs["id"] in {c.architecture.id for c in new}]
        assert len(found) == len(new) == 2
        return {t.user_attrs["id"]: t for t in found}

    with pytest.raises(Interrupted):
        retrain_candidates(load_run(run), numbers, start(config.runtime).alone(), Watch(stop=stop))
    before = seen()
    assert {t.state.name for t in before.values()} == {"RUNNING"}
    assert any(t.intermediate_values for t in before.values())
    found = retrain_candidates(load_run(run), numbers, start(config.runtime).alone(), Watch())
    after = seen()
    assert [after[row["id"]].values for row in found] == [row["validation"] for row in found]
    assert all(after[key].intermediate_values.items() >= t.intermediate_values.items() for key, t in before.items())


def test_artifacts_can_be_read_by_whoever_has_storage_and_folder(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, shared = f"sqlite:///{tmp_path / 'team.sqlite'}", tmp_path / "shared"
    words = ["--storage", storage, "--study", "team", "--artifacts", str(shared), "--json"]
    assert main(["study", str(run_folder), *words]) == 0
    assert json.loads(capsys.readouterr().out)["artifacts"] == str(shared)
    shutil.rmtree(run_folder)
    database = optuna.storages.RDBStorage(storage)
    study = optuna.load_study(study_name="team", storage=database)
    for trial in study.trials:
        for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=database):
            path = tmp_path / meta.filename
            store = optuna.artifacts.FileSystemArtifactStore(str(shared))
            optuna.artifacts.download_artifact(artifact_store=store, file_path=str(path), artifact_id=meta.artifact_id)
        assert read_json(tmp_path / "result.json")["architecture"] == trial.user_attrs["architecture"]
        for name in ("result.json", "network.svg", "weights.safetensors"):
            (tmp_path / name).unlink()
    database.remove_session()
    database.engine.dispose()


def test_without_optuna_a_run_has_no_study(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (run_folder / "study.sqlite").unlink()
    quiet = sender(run_folder, space_of_run(open_run(run_folder)), "run", [], None, None)
    with caplog.at_level("INFO"), quiet as tell:
        tell.update()
    assert (
        "no study of the trainings is written, all results are in their files: Optuna is not installed" in caplog.text
    )
    assert not (run_folder / "study.sqlite").exists()
    nowhere = sender(run_folder, space_of_run(open_run(run_folder)), "run", [], NOWHERE, None)
    with pytest.raises(ValueError, match="Optuna is not installed"), nowhere:
        pass


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://ann:secret@host:5432/db?password=secret", "postgresql+psycopg://ann@host:5432/db"),
        ("--storage=mysql://ann:se@cr:et@host/db", "--storage=mysql://ann@host/db"),
        ("sqlite:////tmp/x.sqlite", "sqlite:////tmp/x.sqlite"),
        ("DIR", "DIR"),
    ],
)
def test_addresses_are_shown_without_passwords(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize("space", [nested(), tiny_macro(), tiny_bender(choice_blocks=3)], ids=lambda s: s.name)
def test_every_architecture_has_parameters_that_fit_each_other(space: Any) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    everyone = dict.fromkeys([*(space.at(i * 7919 % space.size) for i in range(20)), space.everything_on()])
    for architecture in everyone:
        values, distributions = parameters(space, architecture)
        study.add_trial(optuna.trial.create_trial(params=values, distributions=distributions, value=0.0))
    assert len({json.dumps(t.params, sort_keys=True) for t in study.trials}) == len(everyone)


def test_curves_are_thinned() -> None:
    history = [{"step": i, "loss": 1 / (i + 1)} for i in range(1001)]
    found = curve(history)
    assert len(found) <= 200
    assert found[0] == (0, 1.0)
    assert curve(history[:3]) == [(0, 1.0), (1, 0.5), (2, pytest.approx(1 / 3))]


# ---- PostgreSQL ----


def binary(name: str) -> Path | None:
    """A program of Debian's package, which does not stand on the path."""
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default=None)
    return Path(found) if found else None


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a database of a server of its own, on loopback."""
    initdb, server = binary("initdb"), binary("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed, so the shared study is NOT tested: apt-get install postgresql")
    root = os.geteuid() == 0  # the server refuses to be root
    try:
        owner = pwd.getpwnam("postgres" if root else pwd.getpwuid(os.geteuid()).pw_name)
    except KeyError:
        pytest.skip("there is no user postgres to run the server, so the shared study is NOT tested")
    as_owner: dict[str, Any] = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []} if root else {}
    folder = Path(tempfile.mkdtemp(prefix="supernet-postgres-"))
    process = None
    try:
        (folder / "password").write_text("pass-word\n")
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [initdb, "-D", folder / "data", "-U", "team", "-A", "scram-sha-256", "--pwfile", folder / "password",
             "--no-sync", "-E", "UTF8", "--locale", "C"],
            check=True, capture_output=True, cwd=folder, **as_owner,
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [server, "-D", folder / "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1",
                 "-c", f"unix_socket_directories={folder}", "-c", "fsync=off"],
                stdout=log, stderr=log, cwd=folder, **as_owner,
            )  # fmt: skip
        address = f"postgresql+psycopg://team:pass-word@127.0.0.1:{port}/postgres"
        import psycopg

        for _ in range(600):
            try:
                psycopg.connect(address.replace("+psycopg", ""), connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        yield address
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # does not wait for clients
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def test_two_processes_share_a_study_in_postgresql(
    postgres: str, run_folder: Path, finished_run: Path, refused: Refused, tmp_path: Path
) -> None:
    """Two runs at once into a new database, one of them killed halfway and started again."""
    second = Path(shutil.copytree(finished_run, tmp_path / "second"))
    settings = (second / "config.yaml").read_text()
    (second / "config.yaml").write_text(settings.replace("seed: 0\n", "seed: 1\n", 1))  # a run of its own
    networks = len(read_json(run_folder / "results.json")["networks"])
    words = [sys.executable, "-m", "supernet.program.commands", "study"]
    more = ["--storage", postgres, "--study", "team", "--json"]
    both = [
        subprocess.Popen([*words, str(folder), *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for folder in (run_folder, second)
    ]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert [json.loads(out)["sent"] for out, _ in outputs] == [networks, networks]
    with open_study(run_folder, space_of_run(open_run(run_folder)), postgres, "team") as study:
        sent = study.trials
    keys = [t.user_attrs["training"] for t in sent]
    assert len(set(keys)) == len(keys) == 2 * networks
    assert {t.state for t in sent} == {optuna.trial.TrialState.COMPLETE}
    assert {t.user_attrs["run"] for t in sent} == {run_folder.name, "second"}
    assert send_study(open_run(run_folder), postgres, "team")["sent"] == 0
    assert "pass-word" not in "".join(out + err for out, err in outputs)
    wrong = postgres.replace("pass-word", "wrong-word")
    message = refused("study", run_folder, "--storage", wrong)
    assert "cannot be reached" in message
    assert "wrong-word" not in message
    with (
        pytest.raises(StorageError, match="belongs to another space"),
        open_study(tmp_path, tiny_macro(), postgres, "team"),
    ):
        pass


def _write_study(folder: Path, kind: str) -> None:
    path = folder / "study.sqlite"
    if kind == "noise":
        path.write_bytes(bytes(range(256)) * 40)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:5000])
    elif kind == "folder":
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("kind", ["noise", "cut", "folder"])
def test_a_damaged_study_does_not_stop_the_work(kind: str, run_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is a copy of what the files of the run say."""
    _write_study(run_folder, kind)
    run = open_run(run_folder)
    with sender(run_folder, space_of_run(run), "run", [], None, None) as tell:
        tell.update()
    if kind == "folder":
        assert "no study of the trainings is written" in caplog.text
    else:
        assert "study.sqlite is damaged" in caplog.text and "study.sqlite.damaged-1" in caplog.text
        assert (run_folder / "study.sqlite.damaged-1").exists()


def test_a_locked_study_does_not_stop_the_work(
    run_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.retrain.study._LOCKED_SECONDS", 0.01)
    with closing(sqlite3.connect(run_folder / "study.sqlite")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with sender(run_folder, space_of_run(open_run(run_folder)), "run", [], None, None) as tell:
            tell.update()
    assert "no study of the trainings is written" in caplog.text and "locked" in caplog.text


def test_artifacts_that_cannot_be_written_do_not_stop_the_work(
    run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(run_folder / "artifacts")
    (run_folder / "artifacts").write_text("")
    with sender(run_folder, space_of_run(open_run(run_folder)), "run", [], None, None) as tell:
        tell.update()
    assert "no study of the trainings is written" in caplog.text
