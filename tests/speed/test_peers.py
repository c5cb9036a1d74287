"""Processes that train together: one that dies ends the others, with its name and cause."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.speed.runtime import RuntimeConfig, start

TRAINING = """
import os, signal, sys, time, torch
from pathlib import Path
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from tests.spaces_for_tests import one_shot, tiny_bender
from tests.train.test_fit import feed_for
from tests.speed.test_runtime import EVERY_OTHER

place, ranks, dying, how = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", devices=ranks, threads=1))
space = tiny_bender()
model = one_shot(space)
examples = feed_for(space, 16, torch.float64)

def feed(step):
    if step == 4 and runtime.rank == dying:
        if how == "raise":
            raise OSError("the disk is gone")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    if step == 4 and how == "hang" and runtime.rank != dying:
        time.sleep(300)  # as in a collective operation that does not notice
    if step == 4 and how == "hang":
        os.kill(os.getpid(), signal.SIGKILL)
    return examples(step)

config = TrainConfig(steps=6, batch_size=16, ghost_size=4, lr=0.05, clip_norm=1.0, checkpoint_seconds=1e-9)
with runtime.together():
    fit(model, feed, 6, config, runtime=runtime, draw_live=EVERY_OTHER, folder=place)
if runtime.rank == 0:
    torch.save(model.state_dict(), place / "weights.pt")
"""


def train(folder: Path, ranks: int, dying: int = -1, how: str = "") -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    script = folder / "train.py"
    script.write_text(TRAINING)
    return subprocess.run(
        [sys.executable, str(script), str(folder), str(ranks), str(dying), how],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "weights.pt", weights_only=True)
    return state


CAUSES = {
    (1, "kill"): r"process 1 of 2 \(\d+ on .*\) was killed, or its machine is gone; the same command continues",
    (0, "kill"): r"process 0 of 2 \(\d+ on .*\) was killed, or its machine is gone; the same command continues",
    (1, "raise"): r"process 1 of 2 \(\d+ on .*\) ended with OSError: the disk is gone; the same command continues",
    (1, "hang"): r"process 1 of 2 \(\d+ on .*\) was killed, or its machine is gone; the same command continues",
}


def test_a_training_continues_on_another_number_of_processes(tmp_path: Path) -> None:
    """Two processes, of which one is killed, then one process; against one process all along."""
    broken = train(tmp_path / "broken", 2, 1, "kill")
    assert broken.returncode != 0
    assert re.search(CAUSES[1, "kill"], broken.stderr), broken.stderr
    assert not (tmp_path / "broken" / "weights.pt").exists()
    again = train(tmp_path / "broken", 1)
    assert again.returncode == 0, again.stderr
    whole = train(tmp_path / "whole", 1)
    assert whole.returncode == 0, whole.stderr
    expected, trained = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    for name, value in expected.items():
        torch.testing.assert_close(trained[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("dying", "how"), [(0, "kill"), (1, "raise"), (1, "hang")])
def test_a_process_that_dies_ends_the_others_with_its_name_and_cause(tmp_path: Path, dying: int, how: str) -> None:
    began = time.monotonic()
    ended = train(tmp_path, 2, dying, how)
    assert ended.returncode != 0
    assert re.search(CAUSES[dying, how], ended.stderr), ended.stderr
    assert time.monotonic() - began < 250, "it waited for a process that was gone"


def test_what_torchrun_and_slurm_started_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = RuntimeConfig(device="cpu", precision="32-true", kernels="torch", devices=3)
    torchrun = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    slurm = {"SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"}
    for launcher, variables in {"torchrun": torchrun, "SLURM": slurm}.items():
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(
                ValueError, match=f"{launcher} started 4 processes on 2 machines, and runtime.devices 3"
            ):
                start(alone)
