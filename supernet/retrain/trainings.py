"""Step 4, retrain: the finalists from new weights, and then the test split, once.

References:
    Bender et al., ICML 2018, section 3.3 and Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from supernet.base.files import read_json, read_weights, remove_with_digest, write_json, write_weights
from supernet.base.progress import UNWATCHED, Progress, Watch
from supernet.base.randomness import derive
from supernet.base.trees import call, in_full_precision, join_rows
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.retrain.study import NO_STUDY, Sender
from supernet.space.choices import Architecture, Space
from supernet.space.model import build, extract
from supernet.speed.pool import TRIES, Failure, Job, Task
from supernet.speed.runtime import Runtime
from supernet.train.fit import Batch, TrainConfig, fit, is_noted, remove_checkpoints

_FAILED = "failed.json"
"""Why a training is not there, in its folder."""


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

    at: dict[str, list[Any]] = field(default_factory=dict)
    """Values of a setting of the space at which the finalists are trained and tested too, in the same opening of the
    test split, as in {filters: [16, 32, 64, 128]} (paper, Table 1)."""

    references: list[str] | None = None
    """Networks that the winner has to beat, trained by the same recipe: known ones by name, as in resnet8, or
    architectures of the space as text. null: four known networks for a built-in space, the first options for a network
    of your own; []: none."""

    confirm: int = 1
    """Trainings with different seeds of the winner and of the best reference, for an interval around their difference;
    as many as `repeats` at the least."""

    heats: int = 0
    """Heats of the group Top before its trainings (ours). With 2 all of it is trained for a ninth of the steps, the
    best third by validation for a third of them, and the best ninth in full. 0 is the paper's."""

    start: Literal["scratch", "inherited"] = "scratch"
    """Weights that networks begin with: new ones, or those of the one-shot model (ours). Known networks among the
    references have new ones in any case."""

    def __post_init__(self) -> None:
        if self.start == "inherited" and (self.space or self.at):
            raise ValueError("start: expected scratch with other settings of the space: the one-shot model has its own")
        if self.heats < 0:
            raise ValueError(f"heats: expected at least 0, got {self.heats}")
        if self.heats and self.splits != "train":
            raise ValueError(f"heats: {self.heats} heats need a validation split: set splits to train, or heats to 0")
        for setting, values in self.at.items():
            if not values or len({str(value) for value in values}) < len(values):
                raise ValueError(f"at: expected values of {setting}, each once, got {values}")
        for name in ("repeats", "confirm"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


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
        start: state dict of the one-shot model whose weights networks of its space begin with; None for new weights.
    """

    feed: Callable[[int], Callable[[int], Batch]]
    steps: int
    validation: Callable[[], Iterable[Batch]] | None
    loss: Loss | None = None
    metric: Metric = accuracy
    start: Mapping[str, Tensor] | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A network that is trained from scratch.

    Attributes:
        space: its space, perhaps at another size than in the search.
        architecture: what it picks.
        folder: of its trainings; each is in a folder of its own by its number, 0, 1, ...
        id: what it is called in the results.
        reference: what it is called where the winner is compared with it; None for a finalist.
        made_by: name and settings of its space, where that is not the run's.
    """

    space: Space
    architecture: Architecture
    folder: Path
    id: str
    reference: str | None = None
    made_by: Mapping[str, Any] | None = None


def networks_of(space: Space, architectures: Iterable[Architecture], folder: Path) -> list[Network]:
    """Each architecture of a space once, with its trainings in `folder`."""
    return [Network(space, a, folder / a.id, a.id) for a in dict.fromkeys(architectures)]


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
    networks = networks_of(space, architectures, folder)
    trainings = [(network, repeat) for repeat in range(config.repeats) for network in networks]
    train_networks(trainings, lessons, config.train, runtime=runtime, seed=seed, watch=watch, sender=sender)


def train_networks(
    trainings: Sequence[tuple[Network, int]],
    lessons: Lessons,
    config: TrainConfig,
    *,
    runtime: Runtime,
    seed: int,
    watch: Watch = UNWATCHED,
    sender: Sender = NO_STUDY,
) -> None:
    """Trains networks, perhaps of several spaces, side by side; what is trained already is not trained again.

    A training that workers could not do leaves ``failed.json`` in its folder, with the error; the next call tries it
    again.

    Args:
        trainings: networks, each with the number of its training, on which the seed depends.
        lessons, config, runtime, seed, watch, sender: as for `retrain`.

    Raises:
        Interrupted: `watch.stop` said so.
        Diverged: a training's loss or gradient is NaN or infinite.
    """
    count = _Count([0] * len(trainings), lessons.steps, [])

    def progress_of(number: int) -> Progress:
        network, repeat = trainings[number]

        def progress(done: int, total: int, **figures: float) -> None:
            figures.pop("step", None)  # of this training: what is shown counts the steps of all
            if "loss" in figures and is_noted(done, total):
                sender.point(network.architecture, repeat, done, figures["loss"])
            workers = {} if runtime.pool is None else {"workers": runtime.pool.ready}
            count.show(watch, number, done, {**figures, **workers})

        return progress

    def ended(validation: float | None) -> None:
        count.validations.extend([] if validation is None else [validation])
        sender.update()

    folders = [network.folder / str(repeat) for network, repeat in trainings]
    waiting = [number for number, folder in enumerate(folders) if not (folder / "result.json").exists()]
    for number in set(range(len(trainings))) - set(waiting):
        progress_of(number)(lessons.steps, lessons.steps)
    for number in waiting:
        remove_with_digest(folders[number] / _FAILED)
    tasks = (Task(trainings[number], folders[number], progress_of(number), ended) for number in waiting)
    results = runtime.share(lessons, partial(_trainer, lessons, config, seed), tasks, stop=watch.stop)
    for number, result in zip(waiting, results, strict=True):
        if isinstance(result, Failure):
            network, repeat = trainings[number]
            facts = {"architecture": str(network.architecture), "repeat": repeat, "tries": TRIES}
            write_json(folders[number] / _FAILED, {**facts, "error": result.error, "trace": result.trace}, digest=True)


@dataclass(frozen=True, slots=True)
class _Count:
    """How far trainings are.

    Attributes:
        steps: made, of each.
        total: steps of each.
        validations: of those that ended now.
    """

    steps: list[int]
    total: int
    validations: list[float]

    def show(self, watch: Watch, number: int, steps: int, figures: dict[str, float]) -> None:
        """Shows the progress of all when one of them has made this number of steps."""
        self.steps[number] = steps
        figures |= {"finished": sum(made == self.total for made in self.steps), "networks": len(self.steps)}
        if self.validations:
            figures["best"] = max(self.validations)
        watch.progress(sum(self.steps), self.total * len(self.steps), **figures)


def _trainer(lessons: Lessons, config: TrainConfig, seed: int, runtime: Runtime) -> Job:
    """Trains one network in a folder, with a runtime of its own; returns its validation metric, if it has one."""

    def job(training: Any, folder: Path | None, watch: Watch) -> float | None:
        network, repeat = training
        assert folder is not None
        return _train_one(network, repeat, lessons, config, runtime, seed, folder, watch)

    return job


def _train_one(
    network: Network,
    repeat: int,
    lessons: Lessons,
    config: TrainConfig,
    runtime: Runtime,
    seed: int,
    folder: Path,
    watch: Watch,
) -> float | None:
    """Trains one network from new weights and writes its weights and its result, the result last.

    Returns:
        Its validation metric; None without a validation split.
    """
    architecture = network.architecture
    seed = derive(seed, "retrain", architecture.id, repeat)
    module = _begun(network, lessons.start, seed)
    history = fit(
        module, lessons.feed(seed), lessons.steps, config, runtime=runtime, loss_function=lessons.loss, seed=seed,
        folder=folder, watch=watch,
    )  # fmt: skip
    validation = None
    if lessons.validation is not None:
        validation = evaluate(module, lessons.validation(), runtime=runtime, metric=lessons.metric)
    write_weights(folder / "weights.safetensors", module)
    result = {"architecture": str(architecture), "repeat": repeat, "seed": seed, "validation": validation}
    write_json(folder / "result.json", {**result, "history": history}, digest=True)
    remove_checkpoints(folder)
    return validation


def _begun(network: Network, start: Mapping[str, Tensor] | None, seed: int) -> nn.Module:
    """A network before its training; its running statistics are new in any case."""
    if start is None or network.made_by is not None:
        return build(network.space, network.architecture, seed=seed)
    model = build(network.space, seed=0)
    model.load_state_dict(start)
    return extract(model, network.architecture)


def has_result(network: Network, number: int) -> bool:
    """Whether the training with this number is there."""
    return (network.folder / str(number) / "result.json").exists()


def failures_in(folder: Path) -> list[dict[str, Any]]:
    """What stands in each ``failed.json`` in a folder of trainings, with its place in that folder as `training`."""
    paths = sorted(folder.rglob(_FAILED))
    return [{"training": str(path.parent.relative_to(folder)), **read_json(path, ("error", "tries"))} for path in paths]


def failures_text(folder: Path) -> str:
    """How many trainings of a folder failed, and the error of the first, in a sentence."""
    failures = failures_in(folder)
    number = "1 training" if len(failures) == 1 else f"{len(failures)} trainings"
    return f"{number} failed {TRIES} times, the first of them with {failures[0]['error']}"


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
    trained: Sequence[tuple[Network, int]],
    test: Callable[[], Iterable[Batch]],
    *,
    runtime: Runtime,
    metric: Metric = accuracy,
) -> dict[str, list[float]]:
    """Test accuracy (or other metric) of each training of each network: the end of `retrain`.

    Args:
        trained: networks, each with the number of its trainings.
        test: gives the batches of the test split.
        runtime: device and precision.
        metric: of outputs and targets; more is better.

    Returns:
        By the network's id.
    """
    alone = runtime.one_thread()

    def measure(trainings: tuple[Network, int]) -> list[float]:
        network, number = trainings
        modules = [
            read_network(network.space, network.architecture, network.folder.parent, repeat) for repeat in range(number)
        ]
        return [evaluate(module, test(), runtime=alone, metric=metric) for module in modules]

    with runtime.workers() as run:
        return {network.id: values for (network, _), values in zip(trained, run(measure, trained), strict=True)}
