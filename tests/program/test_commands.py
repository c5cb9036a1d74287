import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch
import yaml

from supernet.program import screen
from supernet.program.commands import COMMANDS, main
from supernet.program.config import Config
from supernet.program.help import SPACES as SPACE_NAMES
from supernet.program.help import STRATEGIES as STRATEGY_NAMES
from supernet.program.listing import recipe_files
from supernet.program.settings import setting_hints
from supernet.search.strategies import STRATEGIES
from supernet.spaces import SPACES
from tests.conftest import TINY

Refused = Callable[..., str]


# ---- help and listings ----


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS), ["space", "bender"], ["run", "digits-smoke"]])
def test_help_explains_on_one_screen(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("usage: supernet")
    assert err == ""
    assert "SUPPRESS" not in out
    assert not re.search(r"supernet\.(?!fish)", out)  # no internal class path
    assert len(out.splitlines()) <= 42
    assert max(map(len, out.splitlines())) <= 120
    assert not words or words[0] == "space" or "examples:\n  supernet" in out


@pytest.mark.parametrize("command", ["run", "train", "search", "retrain", "analyze"])
def test_the_long_help_lists_recipes_and_every_setting_with_its_default(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help-all"]) == 0
    out = capsys.readouterr().out
    for name in setting_hints(Config):
        assert f"--{name} " in out
    for name in recipe_files():
        assert f"  {name} " in out
    assert "Learning rate at its highest. (a number; default 0.1)" in " ".join(out.split())


@pytest.mark.parametrize("words", [["show"], ["recipes"]])
def test_the_long_help_of_other_commands_is_their_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert main([*words, "--help-all"]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        *([name, "--help"] for name in ("run", "train", "search", "retrain", "analyze", "show", "top", "recipes")),
        ["recipes", "digits-smoke"],
        ["run", "digits-smok", "--out", "X"],
        ["run", "digits-smoke", "--out", "X", "--strategy", "evolutoin"],
    ],
)
def test_help_and_misspelt_names_do_not_wait_for_torch(words: list[str]) -> None:
    script = (
        "import sys; from supernet.program.commands import main; main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script, *words], capture_output=True).returncode == 0


def test_names_that_are_known_without_torch_are_all_there_are() -> None:
    assert set(STRATEGY_NAMES) == set(STRATEGIES)
    assert set(SPACE_NAMES) == set(SPACES)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from supernet import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == __version__ + "\n"


@pytest.mark.parametrize("words", [["recipes"], ["spaces"], ["recipes", "digits-smoke"]])
def test_listings(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert all(name in text for name in document)


def test_space_as_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["space", "bender", "--samples", "20", "--filters", "4"]
    assert main(words) == 0
    assert "6,002,115,840 architectures" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["settings"]["filters"] == 4
    assert facts["sampled"]["number"] == 20


# ---- settings ----


def test_print_config_resolves_recipe_files_and_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("train: {lr: 3e-1, clip_norm: 2}\nretrain: {train: {warmup: 0.5}}\n")
    words = ["run", "digits-smoke", "--config", str(more), "--train.clip_norm", "1", "--space.settings.filters", "3"]
    words += ["--device=cpu", "--precision", "bf16-mixed", "--seed", "7", "--print_config"]
    assert main(words) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["train"]["lr"] == 0.3
    assert settings["train"]["clip_norm"] == 1
    assert settings["retrain"]["train"]["warmup"] == 0.5
    assert settings["space"]["settings"] == {"filters": 3, "cells": 2, "choice_blocks": 2}
    assert settings["runtime"]["device"] == "cpu"
    assert settings["runtime"]["precision"] == "bf16-mixed"
    assert settings["seed"] == 7


def test_print_config_makes_no_folder_and_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(tmp_path / "x"), "digits-smoke", "--print_config"]) == 0
    first = capsys.readouterr().out
    (tmp_path / "printed.yaml").write_text(first)
    assert main(["run", "--print_config", str(tmp_path / "printed.yaml")]) == 0
    assert capsys.readouterr().out == first
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ([], ["expected a command", "run"]),
        (["rnu"], ["'rnu'", "'run'"]),
        (["run"], ["expected a recipe", "digits-smoke"]),
        (["run", "digits-smok", "--out", "X"], ["recipe", "'digits-smoke'"]),
        (["train", "--seed", "1", "X", "--json", "digits-smok"], ["recipe", "'digits-smoke'"]),
        (["run", "digits-smoke", "--out", "X", "--search.strategy=evolutoin"], ["'evolution'"]),
        (["completion", "sh"], ["bash"]),
        (["run", "digits-smoke"], ["--out"]),
        (["run", "digits-smoke", "more", "--out", "X"], ["more"]),
        (["train"], ["dir", "supernet train DIR"]),
        (["train", "nowhere"], ["nowhere", "recipe"]),
        (["search", "nowhere"], ["nowhere"]),
        (["show", "nowhere"], ["nowhere is no run folder"]),
        (["score", "nowhere"], ["required"]),
        (["space"], ["bender"]),
        (["space", "bendr"], ["'bender'"]),
        (["space", "bender", "--filtres", "3"], ["'--filters'"]),
        (["space", "bender", "--filters", "abc"], ["filters: expected a whole number, got 'abc'"]),
        (["space", "bender", "--filters", "0"], ["filters: expected at least 1"]),
        (["space", "bender", "--samples", "0"], ["samples: expected at least 1"]),
        (["spaces", "x"], ["x"]),
        (["recipes", "digits"], ["'digits-smoke'"]),
    ],
)
def test_bad_words(words: list[str], parts: list[str], refused: Refused) -> None:
    message = refused(*words)
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("--train.lrr=0.1", ["'--train.lr'"]),
        ("--trian.lr=1", ["'--train.lr'"]),
        ("--retrain.train.lrr=1", ["'--retrain.train.lr'"]),
        ("--train.lr=abc", ["train.lr: expected a number, got 'abc'"]),
        ("--train.steps=abc", ["train.steps: expected a whole number or null, got 'abc'"]),
        ("--train.lr=-1", ["train.lr: expected to be above 0, got -1"]),
        ("--train.lr=nan", ["train.lr: expected a number"]),
        ("--train.clip_norm=0", ["train.clip_norm"]),
        ("--train.optimizer=SGDD", ["train.optimizer", "'SGDD'"]),
        ("--train.optimizer_settings.momentumm=0.9", ["train.optimizer_settings", "momentumm"]),
        ("--train.schedule=cos", ["train.schedule: expected one of cosine, constant"]),
        ("--retrain.train.batch_size=33", ["retrain.train.batch_size", "32"]),
        ("--search.candidates=-3", ["search.candidates: expected at least 1, got -3"]),
        ("--search.candidates=1000000", ["search.candidates", "the whole space"]),
        ("--search.examples=0", ["search.examples: expected at least 1"]),
        ("--space.name=bendr", ["space.name", "'bender'"]),
        ("--space.settings.filter=8", ["'filters'"]),
        ("--space.settings.filters=abc", ["space.settings.filters: expected a whole number"]),
        ("--space.settings.filters=0", ["filters: expected at least 1"]),
        ("--space.settings.num_classes=3", ["num_classes: comes from the data"]),
        ("--space.settings=[1", ["space.settings"]),
        ("--retrain.space.choice_blocks=1", ["retrain.space"]),
        ("--data.name=digit", ["'digits'"]),
        ("--data.validation=0", ["data.validation"]),
        ("--runtime.threads=-1", ["runtime.threads: expected at least 1"]),
        ("--precision=8", ["runtime.precision: expected one of"]),
        ("--device", ["runtime.device"]),
        ("--seed=1.5", ["seed: expected a whole number"]),
        ("--config=nope.yaml", ["nope.yaml: no such file"]),
    ],
)
def test_bad_settings_leave_nothing_behind(setting: str, parts: list[str], refused: Refused, tmp_path: Path) -> None:
    message = refused("run", "digits-smoke", "--out", tmp_path / "X", setting)
    assert all(part in message for part in parts), message
    assert not (tmp_path / "X").exists()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("train: {lrr: 1}", "'train.lr'"),
        ("retrain: {train: {lrr: 1}}", "'retrain.train.lr'"),
        ("foo: 1", "'foo'"),
        ("1: 2", "'1'"),
        ("train: {lr: abc}", "train.lr: expected a number"),
        ("train: 3", "train: expected settings by name"),
        ("- 1", "expected settings by name"),
        ("", "expected settings by name"),
        ("a: [", "expected a YAML file"),
        ("\udcff", "expected a YAML file"),
    ],
)
def test_bad_files(text: str, part: str, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode(errors="surrogateescape"))
    for words in (["run", "digits-smoke", "--config", path], ["run", path]):
        message = refused(*words, "--out", tmp_path / "X")
        assert part in message
        assert str(path) in message
    assert not (tmp_path / "X").exists()


def test_places_that_cannot_be_run_folders(refused: Refused, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in refused("run", "digits-smoke", "--out", file)
    assert "is a file" in refused("run", "digits-smoke", "--out", file / "below")
    assert "--hours: expected a value, got '--'" in refused("run", "digits-smoke", "--out", tmp_path, "--hours=--")
    assert "no run folder" in refused("run", "digits-smoke", "--out", tmp_path)
    assert "/proc/x" in refused("run", "digits-smoke", "--out", "/proc/x")
    assert "directory" in refused("run", "digits-smoke", "--config", tmp_path, "--out", tmp_path / "X")


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("--data.validation=100000", "data.validation"),
        ("--data.path=nowhere", "nowhere"),
        ("--train.batch_size=4096", "batch_size"),
        ("--retrain.train.batch_size=4096", "batch_size"),
        ("--search.ghost_size=400", "ghost_size"),
        ("--device=cuda:7x", "cuda:7x"),
    ],
)
def test_a_failed_first_try_does_not_block_the_folder(
    setting: str, part: str, refused: Refused, tmp_path: Path
) -> None:
    assert part in refused("train", tmp_path / "X", "digits-smoke", *TINY, setting)
    assert main(["train", str(tmp_path / "X"), "digits-smoke", *TINY]) == 0


# ---- runs ----


def test_tables_fit_80_columns(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", str(finished_run)])
    main(["space", "bender", "--samples", "10"])
    lines = [line for line in capsys.readouterr().out.splitlines() if "block1.inputs=" not in line]
    assert max(map(len, lines)) <= 80


def test_json_is_one_document_everywhere(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads((run_folder / "results.json").read_text())
    for words in (["run", "--out"], ["retrain"], ["show"]):
        assert main([*words, str(run_folder), "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert any("near chance" in line for line in shown.pop("advice")) and shown == result
    for step in ("train", "search"):
        assert main([step, str(run_folder), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {
            "step": step,
            "folder": str(run_folder),
            "did_something": False,
        }


def test_a_finished_run_loads_no_data_and_says_so(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError

    for name in ("supernet.data.splits.load", "supernet.program.steps.start_run", "supernet.program.steps.load_run"):
        monkeypatch.setattr(name, never)
    before = {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}
    assert main(["run", "--out", str(run_folder)]) == 0
    assert main(["run", "digits-smoke", "--out", str(run_folder), *TINY]) == 0
    out, err = capsys.readouterr()
    assert err.count("was done already, nothing to do") == 6
    assert "Top" in out
    assert before == {path: path.stat().st_mtime_ns for path in run_folder.rglob("*")}


def test_another_configuration_is_named(run_folder: Path, refused: Refused) -> None:
    message = refused("run", "--out", run_folder, "--seed", "3", "--train.lr", "0.7")
    assert "seed: 0 there, 3 asked for" in message
    assert "train.lr: 0.1 there, 0.7 asked for" in message
    assert "search" not in message


def test_config_of_a_run_repeats_it(finished_run: Path, tmp_path: Path) -> None:
    other = tmp_path / "again"
    assert main(["train", str(other), str(finished_run / "config.yaml")]) == 0
    for name in ("config.yaml", "train/model.safetensors", "data.json"):
        assert (other / name).read_bytes() == (finished_run / name).read_bytes()


def test_steps_in_the_wrong_order(tmp_path: Path, refused: Refused) -> None:
    folder = tmp_path / "X"
    assert f"run `supernet train {folder}` first" in refused("search", folder, "digits-smoke", *TINY)
    assert f"run `supernet search {folder}` first" in refused("retrain", folder)
    assert f"run `supernet retrain {folder}` first" in refused("show", folder)
    assert main(["train", str(folder)]) == 0
    assert f"run `supernet search {folder}` first" in refused("retrain", folder)


@pytest.mark.parametrize("damage", ["half", "empty", "object", "list", "noise"])
@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("config.yaml", ()),
        ("results.json", ()),
        ("finalists.json", ("results.json",)),
        ("train/model.safetensors", ("results.json",)),
        ("data.json", ("results.json",)),
        ("candidates.sqlite", ("results.json", "finalists.json")),
        ("candidates.sqlite", ("results.json",)),
        ("train/checkpoint.pt", ("results.json", "finalists.json", "train/model.safetensors")),
    ],
)
def test_damaged_files(name: str, also: tuple[str, ...], damage: str, run_folder: Path, refused: Refused) -> None:
    for other in also:
        (run_folder / other).unlink()
    path = run_folder / name
    whole = path.read_bytes() if path.exists() else b""
    path.write_bytes(
        {
            "half": whole[: len(whole) // 2],
            "empty": b"",
            "object": b"{}",
            "list": b"[1]",
            "noise": bytes(range(255, 0, -1)) * 9,
        }[damage]
    )
    if name == "candidates.sqlite" and damage == "empty":
        return  # an empty file is an empty database: the search begins anew
    assert path.name in refused("run", "--out", run_folder)


def test_not_a_number_ends_with_one_line_and_a_good_checkpoint(tmp_path: Path, refused: Refused) -> None:
    message = refused(
        *("train", tmp_path / "X", "digits-smoke", *TINY, "--train.lr=1e30", "--train.clip_norm=null"),
        *("--train.schedule=constant", "--train.checkpoint_seconds=0", "--train.steps=50"),
    )
    assert "lower the learning rate" in message
    state = torch.load(tmp_path / "X" / "train" / "checkpoint.pt", weights_only=True)
    assert state["step"] >= 1


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(call: str, run_folder: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_folder / "results.json").unlink()
    (run_folder / "train" / "model.safetensors").unlink()
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    assert "no space left for" in refused("train", run_folder)
    assert "no space left for" in refused("run", "digits-smoke", "--out", run_folder.parent / "new")
    assert before == {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    assert not (run_folder.parent / "new").exists()


# ---- score ----


def test_score(run_folder: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    good = "block1.inputs=last block1.ops=identity"
    texts, out = tmp_path / "texts", tmp_path / "scores.csv"
    texts.write_text(f"{good}\n\nblock1.inputs=lost block1.ops=identity\n")
    words = ("score", run_folder, "--architectures", texts, "--out", out)
    assert f"{texts}, line 3: " in refused(*words)
    assert not out.exists()
    assert "missing" in refused("score", run_folder, "--architectures", tmp_path / "missing", "--out", out)
    texts.write_text(f"{good}\n")
    assert str(texts) in refused("score", run_folder, "--architectures", texts, "--out", texts / "x.csv")
    for scored in (1, 0):
        assert main([*map(str, words), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"scored": scored, "out": str(out)}
    assert len(out.read_text().splitlines()) == 2
    texts.write_bytes(b"\xff\xfe\n")
    assert "damaged utf-16" in refused(*words)


# ---- stopped and continued ----


def _result(folder: Path) -> dict[str, object]:
    result: dict[str, object] = json.loads((folder / "results.json").read_text())
    del result["test_split"]
    with closing(sqlite3.connect(folder / "candidates.sqlite")) as table:
        rows = table.execute("SELECT architecture, value, loss FROM candidates ORDER BY number").fetchall()
    return {"result": result, "scores": rows, "weights": (folder / "train" / "model.safetensors").read_bytes()}


STOPPED_AGAIN_AND_AGAIN = """
import json, os, signal, sys
import docstring_parser, lightning_fabric, rich.progress, scipy.stats, sklearn.datasets
from supernet.base.progress import Watch
from supernet.program import commands

class Stopping:
    # Sends a signal to its own process at the third call of a step's progress function.
    def __init__(self, step, *args, **more):
        self.real, self.calls = REAL(step, *args, **more), 0
    def __enter__(self):
        watch = self.real.__enter__()
        def progress(*args, **figures):
            watch.progress(*args, **figures)
            self.calls += 1
            if self.calls == 3:
                os.kill(os.getpid(), NUMBER)
        return Watch(progress, watch.stop)
    def __exit__(self, *error):
        return self.real.__exit__(*error)

REAL = commands.watching
commands.watching = lambda step, *args, **more: (Stopping if step == STEP else REAL)(step, *args, **more)
codes = []
for NUMBER in (signal.SIGKILL, signal.SIGINT):
    for STEP in ("train", "search", "retrain"):
        out = sys.argv[1] + signal.Signals(NUMBER).name
        child = os.fork()  # of a process that has the imports behind it and has not computed anything yet
        if not child:
            os._exit(commands.main(["run", "digits-smoke", "--out", out, *sys.argv[2:]]))
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


@pytest.mark.slow
def test_a_stopped_run_continues_to_the_same_result(finished_run: Path, tmp_path: Path) -> None:
    words = [*TINY, "--train.checkpoint_seconds=0", "--retrain.train.checkpoint_seconds=0"]
    script = [sys.executable, "-c", STOPPED_AGAIN_AND_AGAIN, f"{tmp_path}/", *words]
    stopped = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert stopped.stdout == json.dumps(3 * [-signal.SIGKILL] + 3 * [130]) + "\n", stopped.stderr
    assert stopped.stderr.count("its state is saved, the same command continues") == 3
    assert "Traceback" not in stopped.stderr
    for name in ("SIGKILL", "SIGINT"):
        assert main(["run", "digits-smoke", "--out", str(tmp_path / name), *words]) == 0
        assert _result(tmp_path / name) == _result(finished_run)


@pytest.mark.slow
def test_ctrl_c_before_the_work_begins() -> None:
    # Python drops an interrupt that meets a callback of the import system or of the garbage collector: several tries,
    # at other moments.
    ends = []
    for wait in (0.2, 0.1, 0.3, 0.05, 0.4, 0.15):
        ends.append(_interrupted_after(wait))
        if ends[-1][0] != 0:
            break
    assert ends[-1] == (130, "supernet: interrupted; the same command continues\n")


def _interrupted_after(wait: float) -> tuple[int, str]:
    started = (
        "import signal, sys; from supernet.program.commands import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background jobs ignore the signal
        "print('started', flush=True); sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", started, "run", "digits-smoke", "--help-all"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"  # before that the signal meets Python and not the program
    time.sleep(wait)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


# ---- search ----


def test_another_search_on_the_same_one_shot_model(
    finished_run: Path,
    tmp_path: Path,
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Limits, a strategy and a front; the best by number; what was searched before is set aside."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run / "train", folder / "train")
    for name in ("config.yaml", "data.json", "environment.json"):
        shutil.copy(finished_run / name, folder / name)
    assert main(["search", str(folder)]) == 0
    before = (folder / "candidates.sqlite").read_bytes()
    words = ["--strategy", "evolution", "--search.strategy_settings={population: 4, tournament: 2}", "--search.batch=4"]
    assert main(["search", str(folder), *words, "--max-params", "500", "--max-macs=20k"]) == 0
    assert (folder / "candidates.sqlite.before-1").read_bytes() == before
    capsys.readouterr()
    assert main(["top", str(folder), "-k", "3", "--json"]) == 0
    (best,) = json.loads(capsys.readouterr().out)["bands"]
    assert len(best) == 3
    assert all(row["params"] <= 500 and row["macs"] <= 20_000 and row["strategy"] == "evolution" for row in best)
    assert main(["retrain", str(folder), "--candidates", f"{best[1]['number']},{best[0]['number']}", "--json"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert [row["number"] for row in trained] == [best[1]["number"], best[0]["number"]]
    assert all(len(row["validation"]) == 1 for row in trained)
    assert not (folder / "retrain" / "test_opened.json").exists()
    assert not (folder / "results.json").exists()
    assert main(["retrain", str(folder), "--candidates", str(best[0]["number"])]) == 0
    assert "the test split stayed closed" in capsys.readouterr().out
    assert "no number 999" in refused("retrain", folder, "--candidates", "999")
    assert "expected numbers" in refused("retrain", folder, "--candidates", "a,b")
    assert main(["search", str(folder), "--objectives", "score,params,latency", "--strategy", "nsga2"]) == 0
    groups = json.loads((folder / "finalists.json").read_text())
    assert "Pareto" in groups
    assert "Top" not in groups
    facts = json.loads((folder / "latency.json").read_text())
    assert {"error", "largest_error", "device", "modules"} <= set(facts)
    capsys.readouterr()
    assert main(["top", str(folder), "--objectives", "score,latency", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["objectives"] == ["score", "latency"]
    latencies = [row["latency"] for row in found["bands"][0]]
    assert latencies == sorted(latencies, reverse=True)
    # Elsewhere latency is measured anew; a search that was under way is set aside with its times.
    (folder / "finalists.json").unlink()
    kept = (folder / "candidates.sqlite").read_bytes()
    (folder / "latency.json").write_text(json.dumps({**facts, "device": "abacus"}))
    (folder / ".digests.json").unlink()
    with caplog.at_level("INFO"):
        assert main(["search", str(folder)]) == 0
    assert "set aside: it was measured with device abacus, now cpu" in caplog.text
    assert kept in [path.read_bytes() for path in folder.glob("candidates.sqlite.before-*")]
    assert json.loads((folder / "latency.json").read_text())["device"] == facts["device"]
    capsys.readouterr()
    # A search that cannot be does not set aside one that was done.
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert "max_params 3: nothing in the space" in refused("search", folder, "--max-params", "3")
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == files


def test_top(run_folder: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["top", str(run_folder), "-k", "2", "--bands", "2", "--out", str(tmp_path / "all.csv")]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert out.count("score (%)") == 2
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 9
    assert main(["top", str(run_folder), "--objectives", "score,params"]) == 0
    assert "Pareto front of score, params" in capsys.readouterr().out
    assert "none of the 8 candidates is within these limits" in refused("top", run_folder, "--max-params", "3")
    assert "latency was not measured" in refused("top", run_folder, "--max-latency", "3ms")
    assert "latency was not measured" in refused("top", run_folder, "--objectives", "score,latency")
    assert "objectives: no 'size'" in refused("top", run_folder, "--objectives", "score,size")
    assert "min_params 2k is above max_params 1k" in refused("top", run_folder, "--max-params=1k", "--min-params=2k")
    assert "k: expected at least 1" in refused("top", run_folder, "-k", "0")
    assert "ends in .csv" in refused("top", run_folder, "--out", tmp_path / "x.txt")
    (run_folder / "candidates.sqlite").unlink()
    assert "run `supernet search" in refused("top", run_folder)


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        (
            "--strategy=evolve",
            "search.strategy: no 'evolve'; did you mean 'evolution'? there are: random, enumeration, evolution",
        ),
        ("--strategy=../..", "search.strategy: no '../..'"),
        ("--strategy=/nowhere/x.py:Mine", "search.strategy: /nowhere/x.py: no such file"),
        ("--objectives=score,speed", "search.objectives: no 'speed'; there are: score, params"),
        ("--max-params=lots", "max_params: expected a number like 250k or 1.5M, got 'lots'"),
        ("--max-latency=5MB", "max_latency: expected a time like 5ms"),
        ("--search.strategy_settings.x=1", "'random' has no setting 'x'"),
        ("--search.limits.max_param=1", "'--search.limits.max_params'"),
        ("--search.latency.threads=0", "search.latency.threads: expected at least 1"),
    ],
)
def test_bad_searches(setting: str, part: str, refused: Refused, tmp_path: Path) -> None:
    assert part in refused("run", "digits-smoke", "--out", tmp_path / "X", setting)
    assert not (tmp_path / "X").exists()
    both = ("--max-params=1k", "--min-params=2k")
    assert "min_params 2k is above max_params 1k" in refused("run", "digits-smoke", "--out", tmp_path / "X", *both)


def test_limits_that_nothing_meets_are_refused_before_the_training(refused: Refused, tmp_path: Path) -> None:
    message = refused("run", "digits-smoke", "--out", tmp_path / "X", *TINY, "--max-params=10")
    assert "max_params 10: nothing in the space 'bender' meets it; the smallest possible has params" in message
    assert not (tmp_path / "X" / "train").exists()


def test_measured_limits_that_nothing_meets_are_refused_before_the_training(
    refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("supernet.search.latency.timed", lambda module, arguments, threads: 1000)
    message = refused("run", "digits-smoke", "--out", tmp_path / "X", *TINY, "--max-latency=1ns")
    assert "max_latency 1ns: nothing in the space 'bender' meets it" in message
    assert not list((tmp_path / "X").rglob("model.safetensors"))
    assert (tmp_path / "X" / "latency.json").exists()  # the next try does not measure again


def test_a_strategy_of_a_file(
    run_folder: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found from another folder too, and a finished run is read when it is gone."""
    (tmp_path / "mine.py").write_text(
        "class First:\n"
        "    def __init__(self, region, seed):\n        self.space, self.at = region.space, 0\n"
        "    def ask(self, n):\n        return [self.space.at(self.at + i) for i in range(n)]\n"
        "    def tell(self, architectures, scores):\n        self.at += len(scores)\n"
        "    def state_dict(self):\n        return {'at': self.at}\n"
    )
    for name in ("results.json", "retrain"):
        path = run_folder / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    monkeypatch.chdir(tmp_path)
    assert "strategy" in refused("search", run_folder, "--strategy", "mine.py:Second")
    assert main(["search", str(run_folder), "--strategy", "mine.py:First"]) == 0
    monkeypatch.chdir(run_folder)
    assert main(["search", str(run_folder)]) == 0
    (tmp_path / "mine.py").unlink()
    assert main(["top", str(run_folder)]) == 0


# ---- time left ----


def test_the_time_left_starts_anew_with_each_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A race counts each of its stages from 1, and a run that is continued may begin in the middle of one."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with screen._bar("search") as progress:
        for total, first in ((1000, 522), (600, 1)):
            for done in range(first, total + 1):
                clock[0] += 1.0
                progress(done, total)
    lines = capsys.readouterr().err.splitlines()
    for line in lines:
        if " in " in line:  # the last line
            continue
        done, total = (int(n) for n in line.split()[1].split("/"))
        rest = line.partition("remaining ")[2].partition(",")[0]
        hours, minutes, seconds = (int(part) for part in rest.split(":"))
        assert hours * 3600 + minutes * 60 + seconds == pytest.approx(total - done, rel=0.15, abs=2), line
    assert any("/600" in line for line in lines)


def test_a_short_name_of_a_setting_is_told_with_its_whole_names(tmp_path: Path, refused: Refused) -> None:
    message = refused("run", "digits-smoke", "--out", tmp_path / "run", "--lr", "0.1")
    assert "no '--lr'; did you mean --train.lr or --retrain.train.lr or --analysis.train.lr?" in message


def test_another_space_does_not_keep_the_settings_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    words = ["run", "digits-smoke", "--out", str(tmp_path / "run"), "--space.name", "resnet"]
    assert main([*words, "--print_config"]) == 0
    assert "name: resnet\n  settings: {}" in capsys.readouterr().out
    assert "'filters'" in refused(*words, "--space.settings", "{filters: 8}")


def test_after_the_test_split_was_opened_the_reason_is_said(run_folder: Path, refused: Refused) -> None:
    message = refused("search", run_folder, "--strategy", "evolution")
    assert "its test split was opened, and what is chosen after that" in message
