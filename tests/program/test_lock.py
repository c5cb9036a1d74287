import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from supernet.program import lock
from supernet.program.commands import main
from supernet.program.folder import RunError
from supernet.program.lock import alone_in, locked, read_holder
from supernet.program.paths import RunFolder
from tests.conftest import TINY


def no_locks(*words: Any) -> None:
    """What a disk without `flock` does."""
    raise OSError(errno.ENOLCK, "No locks available")


FORK = multiprocessing.get_context("fork")


def hold(path: Path, way: str, beat: float, ready: Any) -> None:
    """The work of another process: it takes a lock and keeps it."""
    if way == "without":
        fcntl.flock = no_locks
    lock.BEAT_SECONDS = beat
    with locked(path):
        ready.set()
        time.sleep(60)


@pytest.fixture(params=["flock", "without"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A disk that has `flock`, and one that answers that it has none."""
    if request.param == "without":
        monkeypatch.setattr(fcntl, "flock", no_locks)
    return str(request.param)


@contextlib.contextmanager
def another_process(path: Path, way: str, beat: float = 60.0) -> Iterator[Any]:
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(path, way, beat, ready))
    process.start()
    try:
        assert ready.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path, way: str) -> None:
    path = tmp_path / ".lock"
    with (
        another_process(path, way) as process,
        pytest.raises(RunError, match=rf"in use by `supernet.*process {process.pid}, since 2") as caught,
        locked(path),
    ):
        pass
    assert "\n" not in str(caught.value)
    with locked(path):  # that of a process that was killed
        pass
    assert os.listdir(tmp_path) == []


def test_threads_of_one_process_are_refused_too(tmp_path: Path, way: str) -> None:
    with locked(tmp_path / ".lock"), pytest.raises(RunError, match="in use"), locked(tmp_path / ".lock"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_lock_of_another_machine_counts_as_long_as_it_is_touched(tmp_path: Path, way: str) -> None:
    path = tmp_path / ".lock"
    place = path if way == "flock" else lock._folder(path) / "other.json"
    elsewhere = replace(lock._this_process(), host="far", machine="another", token="other")
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(asdict(elsewhere)))
    with pytest.raises(RunError, match=r"\(far, process"), locked(path):
        pass
    old = time.time() - lock.STALE_SECONDS - 1
    os.utime(place, (old, old))
    with locked(path):
        assert read_holder(place if way == "flock" else lock._named_in(place.parent)) is not None
    assert os.listdir(tmp_path) == []


def test_disks_with_and_without_flock_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".lock"
    with another_process(path, "without"), pytest.raises(RunError, match="in use"), locked(path):
        pass
    with another_process(path, "flock"):
        monkeypatch.setattr(fcntl, "flock", no_locks)
        with pytest.raises(RunError, match="in use"), locked(path):
            pass
        assert sorted(os.listdir(tmp_path)) == [".lock"]


def test_the_number_of_a_process_may_be_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", no_locks)
    place = lock._folder(tmp_path / ".lock") / "other.json"
    place.parent.mkdir()
    place.write_text(json.dumps(asdict(replace(lock._this_process(), started="1", token="other"))))
    with locked(tmp_path / ".lock"):
        pass


def test_one_of_many_gets_it(tmp_path: Path, way: str) -> None:
    """Where the lock is that of a process that is gone, and all find it at once."""
    path = tmp_path / ".lock"
    inside: list[int] = []
    most: list[int] = []
    with another_process(path, way):
        pass

    def take() -> None:
        for _ in range(10):
            with contextlib.suppress(RunError), locked(path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most and set(most) == {1}


def test_a_gone_process_is_found_late_and_no_other_lock_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the lock between the look at the gone holder and its removal."""
    path = tmp_path / ".lock"
    with another_process(path, "without"):
        pass
    monkeypatch.setattr(fcntl, "flock", no_locks)
    refuse, others = lock._refuse_if_alive, contextlib.ExitStack()

    def look_and_be_late(place: Path, path: Path, **words: bool) -> None:
        refuse(place, path, **words)
        monkeypatch.setattr(lock, "_refuse_if_alive", refuse)
        others.enter_context(locked(path))

    monkeypatch.setattr(lock, "_refuse_if_alive", look_and_be_late)
    with others, pytest.raises(RunError, match="in use"), locked(path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_process_that_slept_too_long_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / ".lock"
    with another_process(path, "flock", beat=0.05) as process:
        other = tmp_path / "other"
        other.write_text(json.dumps(asdict(replace(lock._this_process(), host="far", token="other"))))
        other.replace(path)
        process.join(60)
        assert process.exitcode == 2
    err = capfd.readouterr().err
    assert "was taken over by" in err and "far" in err


def test_a_folder_that_cannot_be_written_is_not_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(lock, "_take", refuse)
    with locked(tmp_path / ".lock"):
        pass


def test_helpers_of_a_command_take_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with locked(tmp_path / ".lock"):
        assert os.listdir(tmp_path) == []


# ---- commands ----


def test_commands_that_write_wait_and_those_that_read_do_not(
    run_folder: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = (run_folder / "config.yaml").read_bytes()
    with alone_in(RunFolder(run_folder)):
        commands: list[list[object]] = [[step, run_folder] for step in ("train", "search", "retrain", "analyze")]
        commands.append(["run", "--out", run_folder])
        commands.append(["run", "digits-smoke", "--out", run_folder, *TINY, "--train.lr=0.7"])
        for words in commands:
            assert "in use by `supernet" in refused(*words)
        for command in ("show", "top", "report"):
            assert main([command, str(run_folder)]) == 0
        assert main(["run", "--out", str(run_folder), "--print_config"]) == 0
    assert (run_folder / "config.yaml").read_bytes() == before
    capsys.readouterr()
    assert main(["run", "--out", str(run_folder)]) == 0


def test_settings_that_do_not_fit_leave_no_folder(tmp_path: Path, refused: Callable[..., str]) -> None:
    refused("train", tmp_path / "a" / "b", "digits-smoke", "--train.lr=-1")
    assert "train.lr" in refused("train", tmp_path / "a" / "b", "digits-smoke", "train.lr=-1")  # as messages name it
    assert os.listdir(tmp_path) == []


def test_temporary_files_of_killed_commands_are_removed(run_folder: Path) -> None:
    names = [
        f".config.yaml.{'0' * 32}.tmp", f"train/.checkpoint.pt.{'a' * 32}.tmp", f"retrain/.x.json.{'f' * 32}.tmp",
    ]  # fmt: skip
    kept = [f".report.html.{'0' * 32}.tmp", "train/.paths.npy.part", ".mine.tmp"]
    for name in (*names, *kept):
        (run_folder / name).write_text("half")
    assert main(["run", "--out", str(run_folder)]) == 0
    assert [name for name in (*names, *kept) if (run_folder / name).exists()] == kept
    os.utime(run_folder / kept[0], (0, 0))
    assert main(["run", "--out", str(run_folder)]) == 0
    assert not (run_folder / kept[0]).exists()
