"""`supernet check`, and what a run does of it: a network, loss and metric of the user's, tried before any training."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from supernet.base.files import read_weights, write_weights
from supernet.base.progress import UNWATCHED
from supernet.data.images import DataError
from supernet.data.splits import Data, load
from supernet.data.task import with_metric
from supernet.program.config import Config
from supernet.program.load import Loaded, check_lengths
from supernet.program.score import evaluation_of
from supernet.program.train import train_one_shot
from supernet.program.trial import tried_space
from supernet.search.scoring import values_of
from supernet.space.choices import Space
from supernet.space.model import build
from supernet.spaces import SPACES
from supernet.speed.runtime import Runtime, start
from supernet.train.fit import has_checkpoint

_GHOSTS = 2
"""Ghost batches of the step."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in order.

    Attributes:
        space: of the network.
        value: what the metric says of a candidate after one step of training; it says nothing of the network.
        loss: of the same candidate.
    """

    space: Space
    value: float
    loss: float


def check(config: Config) -> Checked:
    """Everything that is tried before training, and nothing else.

    Raises:
        ValueError: one line that says what fails, and what to do.
    """
    data = load(config.data, seed=config.seed)
    config = replace(config, task=with_metric(config.task, data.train.targets))
    check_lengths(config, data)
    space = tried_space(config, data, check=True)
    value, loss = _try_step(config, data, space, start(config.runtime))
    return Checked(space, value, loss)


def _try_step(config: Config, data: Data, space: Space, runtime: Runtime) -> tuple[float, float]:
    """One step of training, weights that are written and read again, and one score, as the run does them.

    Args:
        config: of the run, with its metric by name.
        data, space: of the configuration.
        runtime: of one process.

    Returns:
        Value and loss of one candidate.

    Raises:
        ValueError: one of them fails; the message says which.
    """
    train = config.train
    ghosts = min(_GHOSTS, train.batch_size // train.ghost_size)
    small = replace(config, train=replace(train, steps=1, batch_size=ghosts * train.ghost_size, average=0.0))
    what = "one step of training"
    with tempfile.TemporaryDirectory() as folder:
        try:
            model, _ = train_one_shot(small, space, data, Path(folder), runtime, UNWATCHED)
            what = "writing and reading the weights"
            path = Path(folder) / "weights.safetensors"
            write_weights(path, model)
            again = build(space, seed=1).to(runtime.device)
            read_weights(path, again)
            pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
            if not all(torch.equal(one.nan_to_num(), other.nan_to_num()) for one, other in pairs):
                raise DataError("the weights that are read are others than those that were written")
            what = "a score"
            candidate = space.sample(generator=torch.Generator().manual_seed(0))
            ((value, loss),) = values_of(evaluation_of(model, config, data, runtime), [candidate])
        except (RuntimeError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
            raise DataError(f"{what} fails: {type(error).__name__}: {' '.join(str(error).split())[:500]}") from error
    return value, loss


def try_once(run: Loaded, runtime: Runtime) -> None:
    """What `_try_step` does, for a network of the user's whose training has not begun, if one process trains it.

    Raises:
        ValueError: as `_try_step`.
    """
    has_begun = run.folder.one_shot.exists() or has_checkpoint(run.folder.train)
    if run.config.space.name not in SPACES and runtime.world_size == 1 and not has_begun:
        _try_step(run.config, run.data, run.space, runtime)
