"""`supernet train`: step 2 on a run folder."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from supernet.base.files import write_atomically, write_json, write_weights
from supernet.base.progress import Watch
from supernet.base.randomness import derive, stream
from supernet.data.images import write_header
from supernet.data.splits import Data, feed
from supernet.program.config import Config
from supernet.program.folder import RunError, record_environment
from supernet.program.load import Loaded, loss_of_fit
from supernet.program.weights import begin
from supernet.search.limits import region
from supernet.space.choices import Architecture, Space
from supernet.space.cost import cost_table
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.speed.runtime import Runtime
from supernet.train import paths
from supernet.train.emphasis import Emphasis, emphasis
from supernet.train.fit import fit, has_checkpoint, remove_checkpoints

_POOL = 1024
"""Architectures that the steps draw from where only those within limits are live; enough that each option is met in
many contexts."""

_Record = Callable[[int, torch.Tensor], None]
"""Called with a step and its live_GP."""


def train_step(run: Loaded, runtime: Runtime, watch: Watch) -> bool:
    """Step 2 on a run folder. Returns whether there was anything to do."""
    folder, config = run.folder, run.config
    if folder.one_shot.exists():
        return False
    if runtime.rank == 0:
        record_environment(folder, "train", runtime.tuning)
        with _recorded(folder.live_paths, _shape_of_paths(run)) as record:
            model, history = train_one_shot(
                config, run.space, run.data, folder.train, runtime, watch,
                snapshots=config.analysis.snapshots, record=record,
            )  # fmt: skip
        write_json(folder.history, history, digest=True)
        if config.paths.limited:
            write_json(
                folder.trained_limits,
                {
                    cost: (low, high if high < math.inf else None)
                    for cost, (low, high) in config.search.limits.computed().bounds().items()
                },
                digest=True,
            )
        write_weights(folder.one_shot, model)
        remove_checkpoints(folder.train)
    else:
        train_one_shot(config, run.space, run.data, folder.train, runtime, watch)
    runtime.wait()
    return True


def train_one_shot(
    config: Config,
    space: Space,
    data: Data,
    folder: Path,
    runtime: Runtime,
    watch: Watch,
    *,
    snapshots: int = 0,
    record: _Record | None = None,
) -> tuple[OneShot, list[dict[str, float]]]:
    """Trains a one-shot model with new weights.

    Args:
        config: of the run.
        space, data: of the configuration.
        folder: of the checkpoint, from which a killed training continues.
        runtime: device, precision, processes.
        watch: progress and stop.
        snapshots: how often the weights are kept in ``snapshots/STEP.safetensors`` besides the first step, the last
            time at the end; 0 for never.
        record: called before each step with what is live in it.

    Returns:
        The model, and the history of `fit`.
    """
    model = build(space, seed=derive(config.seed, "weights"))
    assert isinstance(model, OneShot)
    if config.space.weights is not None and not has_checkpoint(folder):
        begin(model, config.space.weights)
    steps = config.train.total_steps(len(data.train))
    kept = {1, *(max(1, round(i * steps / snapshots)) for i in range(1, snapshots + 1))} if snapshots else set()

    pool = _pool(config, space)

    def draw_live(step: int) -> torch.Tensor:
        live = paths_of(config, space, step, steps, pool)
        if record is not None:
            record(step, live)
        return live

    def progress(done: int, total: int, **figures: float) -> None:
        if done in kept and runtime.rank == 0:
            write_weights(folder / "snapshots" / f"{done}.safetensors", model)
        watch.progress(done, total, **figures)

    history = fit(
        model,
        feed(
            data.train, data, config.data, batch_size=config.train.batch_size, seed=config.seed, device=runtime.device
        ),
        steps,
        config.train,
        runtime=runtime,
        draw_live=draw_live,
        loss_function=loss_of_fit(config.task),
        distill=(config.paths.distill, space.live([paths.largest(space)])[0]) if config.paths.distill else None,
        emphasis=_emphasis_of(config, space, pool),
        seed=config.seed,
        folder=folder,
        watch=replace(watch, progress=progress),
    )
    return model, history


def paths_of(
    config: Config, space: Space, step: int, steps: int, pool: Sequence[Architecture] | None = None
) -> torch.Tensor:
    """What is live in a step of the one-shot model's training: bool [G, P].

    Args:
        config: of the run.
        space: of the configuration.
        step: number of the step, from 0.
        steps: of the whole training.
        pool: architectures to draw from, with `config.paths.limited`.
    """
    ghosts = config.train.batch_size // config.train.ghost_size
    generator = stream(config.seed, "paths", step)
    if pool is None:
        return paths.draw(space, config.paths, ghosts, step / steps, generator=generator)
    return space.live([pool[i] for i in torch.randint(len(pool), (ghosts,), generator=generator).tolist()])


def _emphasis_of(config: Config, space: Space, pool: Sequence[Architecture] | None) -> Emphasis | None:
    """What the loss of each ghost batch counts; None: all count alike.

    Args:
        pool: architectures that are drawn from, with `config.paths.limited`.
    """
    if config.paths.complexity == 1:
        return None
    generator = stream(config.seed, "sizes of paths")
    drawn = pool or [space.sample(generator=generator) for _ in range(_POOL)]
    return emphasis(cost_table(space), config.paths.complexity, drawn)


def _pool(config: Config, space: Space) -> list[Architecture] | None:
    """Architectures within the limits that are known without measuring, drawn uniformly; None if none are asked for.

    Raises:
        LimitsError: no architecture meets the limits.
    """
    if not config.paths.limited:
        return None
    allowed = region(cost_table(space), config.search.limits.computed(), merge=False)
    return allowed.draw(_POOL, generator=stream(config.seed, "pool of paths"))


def _shape_of_paths(run: Loaded) -> tuple[int, int, int]:
    """Steps, ghost batches, and bytes for the bits of all options."""
    train = run.config.train
    options = sum(len(choice.options) for choice in run.space.choices)
    return train.total_steps(len(run.data.train)), train.batch_size // train.ghost_size, -(-options // 8)


@contextmanager
def _recorded(path: Path, shape: tuple[int, int, int]) -> Iterator[_Record]:
    """Inside the ``with`` block a function that records live_GP of a step; at its end the file is there.

    Until then the bits are in a file beside it, each step at its place, so that a training that was stopped goes on
    recording, and no step is kept in memory.

    Raises:
        RunError: a training is continued, and what it recorded so far is not there.
    """
    header = io.BytesIO()
    write_header(header, shape)
    size = len(header.getvalue()) + math.prod(shape)
    part = path.with_name(f".{path.name}.part")
    if not has_checkpoint(path.parent):
        write_atomically(part, lambda file: file.write(header.getvalue() + bytes(math.prod(shape))))
    elif not part.exists() or part.stat().st_size != size:
        raise RunError(
            f"{part} is missing or damaged: delete {path.parent / 'checkpoint.pt'}, and checkpoint.earlier.pt beside "
            "it, to train from the beginning"
        )
    with part.open("r+b", buffering=0) as file:

        def record(step: int, live: torch.Tensor) -> None:
            file.seek(len(header.getvalue()) + step * shape[1] * shape[2])
            file.write(np.packbits(live.numpy(), axis=1).tobytes())

        yield record
    bits = part.read_bytes()
    write_atomically(path, lambda file: file.write(bits), digest=True)
    part.unlink()
