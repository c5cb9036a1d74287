"""Device, precision and processes; two gloo processes stand in for several devices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.speed import runtime as runtime_module
from supernet.speed.runtime import RuntimeConfig, start
from supernet.speed.tune import measure

TWO_RANKS = """
import sys, torch
from supernet.base.progress import Watch
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from tests.spaces_for_tests import one_shot, tiny_bender
from tests.train.test_fit import draws_for, feed_for
from tests.speed.test_runtime import EVERY_OTHER

runtime = start(RuntimeConfig(device="cpu", precision="32-true", devices=int(sys.argv[2]), threads=1))
space = tiny_bender()
model = one_shot(space)
if runtime.rank:  # the first process's weights have to win
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
config = TrainConfig(steps=3, batch_size=16, ghost_size=4, lr=0.05, clip_norm=1.0, weight_decay=0.1)
losses = []
fit(model, feed_for(space, 16, torch.float64), 3, config, runtime=runtime, draw_live=EVERY_OTHER,
    watch=Watch(lambda *_, loss, **__: losses.append(loss)))
torch.save({"model": model.state_dict(), "losses": losses}, f"{sys.argv[1]}.{runtime.rank}")
"""


def EVERY_OTHER(step: int) -> torch.Tensor:
    """Live options of four ghost batches; some options are live in the first two only, or in the last two only."""
    from tests.spaces_for_tests import tiny_bender

    space = tiny_bender()
    return space.live([space.at(i * 3919 + step) for i in range(4)])


def run(folder: Path, name: str, ranks: int) -> list[dict[str, Any]]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    script = folder / "train.py"
    script.write_text(TWO_RANKS)
    done = subprocess.run(
        [sys.executable, str(script), str(folder / name), str(ranks)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{name}.{rank}", weights_only=True) for rank in range(ranks)]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """The ghost batches of a step divided among two processes give the weights that one process gets."""
    live = EVERY_OTHER(0)
    assert (live[:2].any(0) != live[2:].any(0)).any(), "no option is live in one process only"
    (alone,) = run(tmp_path, "alone", 1)
    pair = run(tmp_path, "pair", 2)
    for rank in pair:
        assert rank["losses"] == pytest.approx(alone["losses"], rel=1e-6)
        for name, value in alone["model"].items():
            torch.testing.assert_close(rank["model"][name], value, rtol=1e-9, atol=1e-9)


def test_workers_keep_the_order_and_use_one_core_each() -> None:
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=3))
    with runtime.workers() as run_:
        assert list(run_(lambda i: (i, torch.get_num_threads()), range(20))) == [(i, 1) for i in range(20)]
    assert torch.get_num_threads() == 1
    with runtime.one_thread().workers() as run_:
        assert run_ is map


def test_an_error_in_a_worker_reaches_the_caller() -> None:
    with (
        start(RuntimeConfig(device="cpu", precision="32-true", threads=2)).workers() as run_,
        pytest.raises(ZeroDivisionError),
    ):
        list(run_(lambda i: 1 // i, [1, 0, 1]))


def test_autocast_is_what_was_asked_for() -> None:
    weight = torch.ones(4, 4)
    with start(RuntimeConfig(device="cpu", precision="32-true")).autocast():
        assert (weight @ weight).dtype == torch.float32
    with start(RuntimeConfig(device="cpu", precision="bf16-mixed")).autocast():
        assert (weight @ weight).dtype == torch.bfloat16


def test_ghost_batches_in_a_forward_pass() -> None:
    runtime = start(RuntimeConfig(device="cpu"))
    assert runtime.ghosts_per_forward(None, 32) == 1
    assert runtime.ghosts_per_forward(4, 32) == 4


@pytest.mark.parametrize("name", ["device", "precision", "kernels"])
def test_an_unknown_setting_is_refused(name: str) -> None:
    settings: dict[str, Any] = {name: "toaster"}
    with pytest.raises(ValueError, match=f"{name}: expected one of auto, .*; got 'toaster'"):
        RuntimeConfig(**settings)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"device '{device}': expected 1 on this machine, torch finds 0: set"):
        start(RuntimeConfig(device=device))


def test_more_devices_than_there_are_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="device 'cuda': expected 3 on this machine, torch finds 2: set"):
        start(RuntimeConfig(device="cuda", devices=3))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_there_but_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # as with a driver that is too old
    with pytest.raises(ValueError, match=r"device 'cuda' does not work with precision 'auto' .*: set"):
        start(RuntimeConfig(device="cuda"))


def test_a_precision_that_does_not_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    no_half(monkeypatch)
    with pytest.raises(ValueError, match=r"device 'cpu' does not work with precision 'bf16-mixed' .no bfloat16"):
        start(RuntimeConfig(device="cpu", precision="bf16-mixed"))
    assert start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch")).tuning.precision == "32-true"


def test_half_precision_that_does_not_work_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    no_half(monkeypatch)
    tuning = measure(torch.device("cpu"))
    assert tuning.precision == "32-true"
    assert {name: gain for name, gain in tuning.measured.items() if "bf16" in name and gain} == {}


def no_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes autocast refuse half precision, as it does on devices without it."""

    class Refusing(torch.autocast):
        def __init__(self, device: str, dtype: torch.dtype, enabled: bool = True) -> None:
            if enabled:
                raise RuntimeError("no bfloat16 on this device")
            super().__init__(device, dtype, enabled)

    monkeypatch.setattr(torch, "autocast", Refusing)


@pytest.mark.parametrize("place", ["self_test", "_keep_freed_memory"])
@pytest.mark.parametrize("fault", [KeyError, RuntimeError, TypeError])
def test_an_error_of_the_program_keeps_its_type(
    place: str, fault: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise fault("a bug")

    monkeypatch.setattr(runtime_module, place, broken)
    with pytest.raises(fault, match=r"^'?a bug'?$"):
        start(RuntimeConfig(device="cpu"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    """Pages that the system hands out for 100 MB in pieces of 1 MB, when they were freed before."""
    script = """
import resource, torch
from supernet.speed.runtime import RuntimeConfig, start
start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch"))
counts = []
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [torch.ones(2**18) for _ in range(100)]
    del pieces
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*counts)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    first, *later = map(int, found.split())
    assert max(later) < first / 10


TWO_THREADS_AT_ONE_WEIGHT = """
import sys
import threading

import torch
from torch import nn

from supernet.speed.runtime import shared_by_threads


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x.detach()


model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(10)))
kept = shared_by_threads(model.parameters())


def use(what):
    for _ in range(1000):
        for weight in model.parameters():
            what(weight)


sys.setswitchinterval(1e-5)
threads = [threading.Thread(target=use, args=[what]) for what in (Double.apply, lambda x: x.narrow(0, 0, 2))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_threads_do_not_wait_for_each_other_for_ever() -> None:
    """Without what is kept this stands still within a second."""
    subprocess.run([sys.executable, "-c", TWO_THREADS_AT_ONE_WEIGHT], check=True, timeout=300)
