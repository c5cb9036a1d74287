from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.base.files import read_json, write_json
from supernet.program import machine
from supernet.program.commands import main
from supernet.program.config import Config
from supernet.program.folder import Opened, create_run, has_begun
from supernet.program.machine import start_run
from supernet.program.paths import RunFolder
from supernet.speed import kernels
from supernet.speed.runtime import RuntimeConfig
from supernet.speed.tune import Tuning
from tests.conftest import TINY

FIRST = Tuning(kernels=("norm", "pool"), measured={"norm": 1.5, "pool": 1.2, "bf16 plain": 1.0})
SECOND = Tuning(precision="bf16-mixed", kernels=("depthwise 3x3",), measured={"bf16 plain": 2.0})


@pytest.fixture
def run(tmp_path: Path) -> Opened:
    return create_run(RunFolder(tmp_path / "run"), Config(runtime=RuntimeConfig(device="cpu", threads=1)))


def chooses(monkeypatch: pytest.MonkeyPatch, tuning: Tuning) -> None:
    monkeypatch.setattr(machine, "self_test", lambda device: tuning)


def test_a_run_keeps_what_the_self_test_chose_first(
    run: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda: object())
    chooses(monkeypatch, FIRST)
    assert start_run(run).tuning == FIRST
    assert not has_begun(run.folder)
    chooses(monkeypatch, SECOND)
    again = start_run(run).tuning
    assert again == FIRST and again.measured == FIRST.measured
    in_halves = replace(run.config, runtime=replace(run.config.runtime, precision="bf16-mixed"))
    assert start_run(replace(run, config=in_halves)).tuning == replace(FIRST, precision="bf16-mixed")
    assert caplog.text == ""


def test_nothing_is_kept_where_nothing_is_chosen(run: Opened) -> None:
    plain = replace(run.config, runtime=replace(run.config.runtime, precision="32-true", kernels="torch"))
    assert start_run(replace(run, config=plain)).tuning == Tuning()
    assert not run.folder.tuning.exists()


@pytest.mark.parametrize(
    ("facts", "here", "kept", "parts"),
    [
        ({"torch": "1.0"}, FIRST, ("norm", "pool"), ["not 1.0", "with the same kernels"]),
        ({"name": "a box"}, SECOND, (), ["not a box", "without norm, pool"]),
        ({"kernels": "00"}, Tuning(measured={"pool": 0.5}), ("pool",), ["not 00", "without norm"]),
    ],
)
def test_another_machine_is_said(
    facts: dict[str, Any], here: Tuning, kept: tuple[str, ...], parts: list[str],
    run: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    chooses(monkeypatch, FIRST)
    start_run(run)
    record = read_json(run.folder.tuning)
    record["cpu"]["machine"] |= facts
    write_json(run.folder.tuning, record)
    chooses(monkeypatch, here)
    assert start_run(run).tuning.kernels == kept
    (line,) = [
        record.getMessage() for record in caplog.records if "was begun on another machine" in record.getMessage()
    ]
    assert all(part in line for part in parts), line


def test_missing_kernels_are_said(
    run: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda: object())
    chooses(monkeypatch, FIRST)
    start_run(run)
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    chooses(monkeypatch, Tuning())
    assert start_run(run).tuning.kernels == ()
    assert "(here: no compiled kernels). It goes on without norm, pool" in caplog.text


def test_halves_that_are_wrong_here_are_not_taken(
    run: Opened, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    chooses(monkeypatch, replace(SECOND, kernels=()))
    start_run(run)
    record = read_json(run.folder.tuning)
    record["cpu"]["machine"]["processor"] = "another"
    write_json(run.folder.tuning, record)
    chooses(monkeypatch, Tuning(measured={"bf16 plain": 0.0, "bf16 narrow": 0.0}))
    assert asdict(start_run(run).tuning) == {
        **asdict(SECOND), "kernels": (), "precision": "32-true", "in_full_precision": ("narrow", "plain"),
    }  # fmt: skip
    assert "in 32-true and not bf16-mixed" in caplog.text


@pytest.mark.parametrize("damage", [{"cpu": {}}, {"cpu": {"machine": {}, "colour": 1}}, {"cpu": [1]}])
def test_a_damaged_record_is_named(run: Opened, damage: dict[str, Any]) -> None:
    write_json(run.folder.tuning, damage)
    with pytest.raises(ValueError, match=r"tuning\.json is damaged or of another version: delete it"):
        start_run(run)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is there")
def test_a_device_that_is_not_there_is_not_written_down(tmp_path: Path, refused: Callable[..., str]) -> None:
    folder = tmp_path / "run"
    assert "device 'cuda'" in refused("train", folder, "digits-smoke", *TINY, "--device=cuda")
    assert not folder.exists()
    assert main(["train", str(folder), "digits-smoke", *TINY]) == 0
    before = (folder / "config.yaml").read_bytes()
    assert "device 'cuda'" in refused("search", folder, "--device=cuda")
    assert (folder / "config.yaml").read_bytes() == before
    assert main(["search", str(folder)]) == 0
