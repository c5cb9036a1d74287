"""`supernet train`: step 2 on a run folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from supernet.base.files import write_atomically, write_json, write_weights
from supernet.base.progress import Watch
from supernet.base.randomness import derive, stream
from supernet.data.splits import Data, feed
from supernet.program.config import Config
from supernet.program.folder import record_environment
from supernet.program.load import load_run, loss_of_fit
from supernet.space.choices import Space
from supernet.space.model import OneShot, build
from supernet.speed.runtime import Runtime
from supernet.train import paths
from supernet.train.fit import fit


def train_step(folder: Path, runtime: Runtime, watch: Watch) -> bool:
    """Step 2 on a run folder. Returns whether there was anything to do."""
    done = folder / "train" / "model.safetensors"
    if done.exists():
        return False
    config, data, space = load_run(folder)
    if runtime.rank == 0:
        record_environment(folder, "train", runtime.tuning)
    steps = config.train.total_steps(len(data.train))
    model, history = train_one_shot(
        config, space, data, folder / "train", runtime, watch, snapshots=config.analysis.snapshots
    )
    if runtime.rank == 0:
        live = [paths_of(config, space, step, steps).numpy() for step in range(steps)]
        drawn = np.stack([np.packbits(each, axis=1) for each in live])
        write_atomically(folder / "train" / "paths.npy", lambda file: np.save(file, drawn))
        write_json(folder / "train" / "history.json", history)
        write_weights(done, model)
        (folder / "train" / "checkpoint.pt").unlink(missing_ok=True)
    runtime.wait()
    return True


def train_one_shot(
    config: Config, space: Space, data: Data, folder: Path, runtime: Runtime, watch: Watch, *, snapshots: int = 0
) -> tuple[OneShot, list[dict[str, float]]]:
    """Trains a one-shot model with new weights.

    Args:
        config: of the run.
        space, data: what `config` says.
        folder: where checkpoints go, and a killed training continues from.
        runtime: device, precision, processes.
        watch: who follows the work.
        snapshots: so many times, the last at the end, the weights are kept in ``snapshots/STEP.safetensors``.

    Returns:
        The model, and the history of `fit`.
    """
    model = build(space, seed=derive(config.seed, "weights"))
    assert isinstance(model, OneShot)
    steps = config.train.total_steps(len(data.train))
    kept = {max(1, round(i * steps / snapshots)) for i in range(1, snapshots + 1)}

    def progress(done: int, total: int, **figures: float) -> None:
        if done in kept and runtime.rank == 0:
            write_weights(folder / "snapshots" / f"{done}.safetensors", model)
        if watch.progress is not None:
            watch.progress(done, total, **figures)

    history = fit(
        model,
        feed(
            data.train, data, config.data, batch_size=config.train.batch_size, seed=config.seed, device=runtime.device
        ),
        steps,
        config.train,
        runtime=runtime,
        draw_live=lambda step: paths_of(config, space, step, steps),
        loss_function=loss_of_fit(config.task),
        seed=config.seed,
        folder=folder,
        watch=replace(watch, progress=progress),
    )
    return model, history


def paths_of(config: Config, space: Space, step: int, steps: int) -> torch.Tensor:
    """What is live in a step of the one-shot model's training: bool [G, P]."""
    ghosts = config.train.batch_size // config.train.ghost_size
    return paths.draw(space, config.paths, ghosts, step / steps, generator=stream(config.seed, "paths", step))
