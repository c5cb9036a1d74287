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
from supernet.base.progress import UNWATCHED, Watch
from supernet.base.randomness import derive
from supernet.base.trees import call, in_full_precision, join_rows
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.retrain.study import NO_STUDY, Sender
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
    all_outputs, all_targets = [], []
    for examples, targets in batches:
        with runtime.autocast():
            outputs = call(network, examples)
        all_outputs.append(in_full_precision(outputs))
        all_targets.append(targets)
    return number_of(metric, join_rows(all_outputs), join_rows(all_targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What stand-alone networks learn, and what they are measured on.

    Attributes:
        feed: gives the batches of the training with this seed, by the step.
        steps: steps of the optimiser in each training.
        validation: gives the batches of the validation split; None if the networks are trained on it.
        loss: as `loss_function` of `supernet.fit`.
        metric: of outputs and targets of the validation split; more is better.
    """

    feed: Callable[[int], Callable[[int], Batch]]
    steps: int
    validation: Callable[[], Iterable[Batch]] | None
    loss: Loss | None = None
    metric: Metric = accuracy


def retrain(
    space: Space,
    architectures: Sequence[Architecture],
    lessons: Lessons,
    config: RetrainConfig,
    *,
    runtime: Runtime,
    seed: int,
    folder: Path,
    watch: Watch = UNWATCHED,
    sender: Sender = NO_STUDY,
) -> None:
    """Trains each architecture `repeats` times; what is trained already is not trained again.

    Each training leaves ``<architecture id>/<repeat>/`` with `result.json` and `weights.safetensors` in `folder`.

    Args:
        space: the space, perhaps at another size than in the search.
        architectures: those to train.
        lessons: what they learn.
        config: the training.
        runtime: device and precision.
        seed: of the run; each training derives its own.
        folder: where the results go.
        watch: its progress is called after each step, and its stop before each.
        sender: told of each training that ends, and of each point of a curve, from any thread.

    Raises:
        Interrupted: `watch.stop` said so.
        Diverged: a training's loss or gradient is NaN or infinite.
    """
    trainings = [(a, repeat) for repeat in range(config.repeats) for a in dict.fromkeys(architectures)]
    steps = dict.fromkeys(trainings, 0)
    failures: list[BaseException] = []

    def train(training: tuple[Architecture, int]) -> None:
        architecture, repeat = training

        def progress(done: int, total: int, **figures: float) -> None:
            steps[training] = done
            figures.pop("step", None)  # of this training: what is shown counts the steps of all
            if "loss" in figures and is_noted(done, total):
                sender.point(architecture, repeat, done, figures["loss"])
            watch.progress(sum(steps.values()), total * len(trainings), **figures)

        one = Watch(progress, lambda: watch.stop() or bool(failures))
        place = folder / architecture.id / str(repeat)
        try:
            if (place / "result.json").exists():
                progress(lessons.steps, lessons.steps)
            else:
                _train_one(space, architecture, repeat, lessons, config.train, runtime.one_thread(), seed, place, one)
                sender.update()
        except BaseException as error:
            failures.append(error)  # the others stop too

    with runtime.workers() as run:
        for _ in run(train, trainings):
            if failures:
                break
    if failures:  # the first of them: it stopped the others
        raise failures[0]


def _train_one(
    space: Space,
    architecture: Architecture,
    repeat: int,
    lessons: Lessons,
    config: TrainConfig,
    runtime: Runtime,
    seed: int,
    place: Path,
    watch: Watch,
) -> None:
    """Trains one network from new weights and writes its weights and its result, the result last."""
    seed = derive(seed, "retrain", architecture.id, repeat)
    network = build(space, architecture, seed=seed)
    history = fit(
        network, lessons.feed(seed), lessons.steps, config, runtime=runtime, loss_function=lessons.loss, seed=seed,
        folder=place, watch=watch,
    )  # fmt: skip
    validation = None
    if lessons.validation is not None:
        validation = evaluate(network, lessons.validation(), runtime=runtime, metric=lessons.metric)
    write_weights(place / "weights.safetensors", network)
    result = {"architecture": str(architecture), "repeat": repeat, "seed": seed, "validation": validation}
    write_json(place / "result.json", {**result, "history": history})
    (place / CHECKPOINT).unlink(missing_ok=True)


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
