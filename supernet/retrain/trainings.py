"""Step 4, retrain: the finalists from new weights, and then the test split, once.

References:
    Bender et al., ICML 2018, section 3.3 and Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from supernet.base.files import read_weights, write_json, write_weights
from supernet.base.progress import Progress, Watch
from supernet.base.randomness import derive
from supernet.base.trees import call, in_full_precision, join_rows
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.space.choices import Architecture, Space
from supernet.space.model import build
from supernet.speed.runtime import Runtime
from supernet.train.fit import CHECKPOINT, Batch, TrainConfig, fit, is_noted


@dataclass(frozen=True, kw_only=True)
class RetrainConfig:
    """How finalists are trained from scratch."""

    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=300, batch_size=64, ghost_size=32))
    """The training of one stand-alone network."""

    repeats: int = 1
    """Trainings of each finalist with different seeds."""

    splits: Literal["train", "train+validation"] = "train"
    """The splits they are trained on; with the validation split no validation accuracy can be given."""

    space: dict[str, Any] = field(default_factory=dict)
    """Settings of the space that differ from the search's, for instance {filters: 32}."""

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise ValueError(f"repeats: expected at least 1, got {self.repeats}")


@torch.inference_mode()
def evaluate(network: nn.Module, batches: Iterable[Batch], *, runtime: Runtime, metric: Metric = accuracy) -> float:
    """What the metric (accuracy, 0 to 1) says of a stand-alone network with its running statistics on all batches."""
    runtime.place(network).eval()
    outputs, wanted = [], []
    for examples, targets in batches:
        with runtime.autocast():
            output = call(network, examples)
        outputs.append(in_full_precision(output))
        wanted.append(targets)
    return number_of(metric, join_rows(outputs), join_rows(wanted))


def retrain(
    space: Space,
    architectures: Sequence[Architecture],
    feed: Callable[[int], Callable[[int], Batch]],
    steps: int,
    validation: Callable[[], Iterable[Batch]] | None,
    config: RetrainConfig,
    *,
    runtime: Runtime,
    seed: int,
    folder: Path,
    loss: Loss | None = None,
    metric: Metric = accuracy,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    finished: Callable[[], None] = lambda: None,
    learned: Callable[[Architecture, int, int, float], None] = lambda *point: None,
) -> None:
    """Trains each architecture `repeats` times; what is there already is not trained again.

    Each training leaves ``<architecture id>/<repeat>/`` with `result.json` and `weights.safetensors` in `folder`.

    Args:
        space: the space, perhaps at another size than in the search.
        architectures: whom to train.
        feed: gives the batches of the training with this seed.
        steps: steps of the optimiser in each training.
        validation: gives the batches of the validation split; None where it is trained on.
        config: the training.
        runtime: device and precision.
        seed: of the run; each training derives its own.
        folder: the results' place.
        loss: as `loss_function` of `supernet.fit`.
        metric: of outputs and targets of the validation split; more is better.
        progress: called after each step.
        stop: asked before each step.
        finished: called after each training, from any thread.
        learned: called with architecture, repeat, step and loss wherever the history has a row, from any thread.

    Raises:
        Interrupted: `stop` said so.
        Diverged: a training's loss or gradient are no numbers any more.
    """
    trainings = [(a, repeat) for repeat in range(config.repeats) for a in dict.fromkeys(architectures)]
    steps_done = dict.fromkeys(trainings, 0)
    failures: list[BaseException] = []

    def train_one(training: tuple[Architecture, int]) -> None:
        architecture, repeat = training
        place = folder / architecture.id / str(repeat)
        own = derive(seed, "retrain", architecture.id, repeat)

        def show(done: int, total: int, **figures: float) -> None:
            steps_done[training] = done
            if "loss" in figures and is_noted(done, total):
                learned(architecture, repeat, done, figures["loss"])
            if progress is not None:
                figures.pop("step")
                progress(sum(steps_done.values()), total * len(trainings), **figures)

        if (place / "result.json").exists():
            show(steps, steps, step=steps)
            return
        network = build(space, architecture, seed=own)
        alone = runtime.one_thread()
        try:
            history = fit(
                network,
                feed(own),
                steps,
                config.train,
                runtime=alone,
                loss_function=loss,
                seed=own,
                folder=place,
                watch=Watch(show, lambda: stop() or bool(failures)),
            )
        except BaseException as error:
            failures.append(error)  # the others stop too
            return
        validated = None if validation is None else evaluate(network, validation(), runtime=alone, metric=metric)
        write_weights(place / "weights.safetensors", network)
        result = {"architecture": str(architecture), "repeat": repeat, "seed": own, "validation": validated}
        write_json(place / "result.json", {**result, "history": history})
        (place / CHECKPOINT).unlink(missing_ok=True)
        finished()

    with runtime.workers() as run:
        for _ in run(train_one, trainings):
            if failures:
                break
    if failures:  # the first of them, not what it made of the others
        raise failures[0]


def is_trained(folder: Path, architecture: Architecture, repeat: int = 0) -> bool:
    """Whether the weights of a training are there."""
    return (folder / architecture.id / str(repeat) / "weights.safetensors").exists()


def read_network(space: Space, architecture: Architecture, folder: Path, repeat: int = 0) -> nn.Module:
    """A retrained network with its weights, in evaluation mode.

    Raises:
        ValueError: it is not there, or its weights do not fit.
    """
    weights = folder / architecture.id / str(repeat) / "weights.safetensors"
    if not weights.exists():
        raise ValueError(f"{weights} is not there: run `supernet retrain` first")
    network = build(space, architecture)
    read_weights(weights, network)
    return network.eval()


def test_accuracies(
    space: Space,
    architectures: Sequence[Architecture],
    test: Callable[[], Iterable[Batch]],
    repeats: int,
    *,
    runtime: Runtime,
    folder: Path,
    metric: Metric = accuracy,
) -> dict[str, list[float]]:
    """Test accuracy (or other metric) of each repeat of each finalist, by architecture id: the end of `retrain`."""
    alone = runtime.one_thread()

    def measure(architecture: Architecture) -> list[float]:
        networks = [read_network(space, architecture, folder, repeat) for repeat in range(repeats)]
        return [evaluate(network, test(), runtime=alone, metric=metric) for network in networks]

    everyone = list(dict.fromkeys(architectures))
    with runtime.workers() as run:
        return {a.id: accuracies for a, accuracies in zip(everyone, run(measure, everyone), strict=True)}
