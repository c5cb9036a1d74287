"""Progress on the screen, in the file that other commands read, and in logs."""

import csv
import io
import json
import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from supernet.program import progress, screen
from supernet.program.commands import main
from supernet.program.lock import locked
from supernet.program.paths import RunFolder
from tests.conftest import TINY

Refused = Callable[..., str]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_named_and_messages_stand_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    handler = logging.StreamHandler(terminal)
    logging.root.addHandler(handler)
    try:
        with screen._bar("train", time.monotonic() - 3600) as show:
            show(1, 4, loss=2.0)
            time.sleep(0.5)  # the bar is drawn ten times each second
            assert handler.stream is not terminal  # rich writes it above the bar
            logging.getLogger("x").warning("a message")
            show(4, 4, loss=0.125, best=0.5, finished=2, networks=3)
        assert handler.stream is terminal
    finally:
        logging.root.removeHandler(handler)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    for part in ("1/4", "steps, elapsed", "remaining", "loss 2.000", "2 of 3 networks", "best 0.5000"):
        assert part in text
    assert re.search(r"run 1:00:\d\d loss", text)
    message = next(line for line in text.splitlines() if "a message" in line)
    assert "1/4" not in message.partition("a message")[2]
    last = r"train: 4 steps in 0:00:\d\d, 2 of 3 networks, loss 0.125 best 0.5000"
    assert re.search(last, text.splitlines()[-1])


def test_another_count_has_its_own_unit_and_its_own_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    folder = RunFolder(tmp_path)
    with screen._lines("analyze", 0.0) as line, progress.noting(folder, "analyze") as note:
        for done, total, unit, at in ((50, 100, None, 100), (100, 100, None, 200), (1, 4, "networks scored", 230)):
            now[0] = at
            line(done, total, unit=unit)
            note(done, total, unit=unit)
        facts = progress.progress_of(folder)
    assert "analyze: 1/4 networks scored, elapsed" in capsys.readouterr().err.splitlines()[-1]
    assert facts is not None
    assert facts["remaining"] == 90.0  # three more of 30 seconds each
    assert progress.progress_text({**facts, "updated": time.time()}).startswith("analyze: 1/4 networks scored, elapsed")


def test_the_line_that_stays_counts_what_the_first_stage_of_a_race_counted(capsys: pytest.CaptureFixture[str]) -> None:
    with screen._bar("search") as show:
        for done, total in ((60, 60), (1, 44), (44, 44)):
            show(done, total, best=0.5)
    assert re.search(r"search: 60 candidates in 0:00:\d\d, best 0.5000", capsys.readouterr().err.splitlines()[-1])


def test_nothing_is_said_of_a_step_that_reported_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with screen._bar("train"):
        pass
    assert capsys.readouterr().err == ""


def test_show_and_watch_say_how_far_a_run_is(
    run_folder: Path, refused: Refused, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(run_folder)
    folder.results.unlink()
    with progress.noting(folder, "retrain") as note:
        note(30, 120, loss=0.5, finished=1, networks=4, broken=float("nan"))
        before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
        for command in (["show"], ["watch", "--once"]):
            assert main([*command, str(run_folder)]) == 0
            assert re.search(r"retrain: 30/120 steps, elapsed 0:00:\d\d, remaining", capsys.readouterr().out)
            assert main([*command, str(run_folder), "--json"]) == 0
            facts = json.loads(capsys.readouterr().out)
            assert facts.get("progress", facts)["figures"] == {"loss": 0.5, "finished": 1, "networks": 4}
        assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before
        with monkeypatch.context() as later:
            later.setattr(time, "time", lambda: before and 10**10)
            assert main(["watch", str(run_folder)]) == 0
            assert "it was stopped, and the same command continues" in capsys.readouterr().out
    assert not folder.progress.exists()
    with locked(folder.lock):  # between two steps nothing is noted
        for command in (["show"], ["watch", "--once"]):
            assert main([*command, str(run_folder)]) == 0
            said = capsys.readouterr().out
            assert "is at work, and has not said yet how far it is; done: train, search\n" in said
        following = progress.states(folder)
        assert next(following) is None and next(following) is None
    assert "retrain" in refused("show", run_folder)
    assert main(["watch", str(run_folder), "--once"]) == 0
    assert "nothing is under way; done: train, search\n" in capsys.readouterr().out
    assert "no run folder" in refused("watch", run_folder / "train")


def test_a_note_stays_if_the_step_was_stopped_and_a_full_disk_does_not_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt), progress.noting(folder, "train") as note:
        note(1, 2)
        raise KeyboardInterrupt
    facts = progress.progress_of(folder)
    assert facts is not None and facts["done"] == 1
    folder.progress.write_text("{")
    assert progress.progress_of(folder) is None

    def full(*args: object) -> None:
        raise OSError

    monkeypatch.setattr(progress, "write_json", full)
    with progress.noting(folder, "train") as note:
        note(1, 2)


def test_a_watched_run_is_followed_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("")
    done = threading.Event()

    def step() -> None:
        with progress.noting(RunFolder(folder), "train") as note:
            note(1, 3)
            done.wait(60)
        (folder / "results.json").write_text("{}")

    thread = threading.Thread(target=step)
    thread.start()
    threading.Timer(1.5, done.set).start()
    assert main(["watch", str(folder)]) == 0
    thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert "train: 1/3 steps" in lines[0]
    assert "nothing is under way; done: retrain" in lines[-1]


def test_logs_hold_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    written: dict[str, list[Any]] = {"rows": [], "ended": []}
    wandb = ModuleType("wandb")

    class Run:
        def log(self, row: dict[str, float]) -> None:
            written["rows"].append(row)

        def finish(self) -> None:
            written["ended"].append(True)

    wandb.init = lambda **facts: Run()  # type: ignore[attr-defined]  # a stand-in for the package
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    folder = tmp_path / "run"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY, "--log", "csv,wandb"]) == 0
    for step, figure in (("train", "loss"), ("search", "best"), ("retrain", "examples_per_second")):
        with (folder / "logs" / f"{step}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert rows and all(float(row[figure]) is not None for row in rows[-1:])
        assert rows[-1]["done"] == rows[-1]["total"]
    assert len(written["ended"]) == 3
    assert {"loss", "done", "total"} <= set(written["rows"][0])
    assert set(progress._COLUMNS) >= {name for row in written["rows"] for name in row} - {"step"}
    assert "--log: no 'cvs'" in refused("run", "--out", folder, "--log", "cvs")
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert "supernet[tensorboard]" in refused("run", "--out", folder, "--log", "tensorboard")
