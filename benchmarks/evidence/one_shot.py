"""What the experiments of this folder share: a one-shot model trained by a recipe, and scores of given architectures.

A recipe is everything that is varied: the size of the one-shot model, its training, and how scores are taken. Each is
trained on one core, so that two can run side by side, and leaves in its folder what a stopped one continues from, its
scores, and the processor time that it took.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import build, extract, fit, score
from supernet.base.csv_file import read_numbers, read_table
from supernet.base.files import read_json, write_json, write_text
from supernet.base.progress import UNWATCHED, Watch
from supernet.base.randomness import stream
from supernet.data.sources import DataConfig
from supernet.data.splits import Data, batches, feed, load, prepare
from supernet.program.analyze import Subject
from supernet.program.folder import open_run
from supernet.program.load import load_one_shot, load_run
from supernet.retrain.study import Sender
from supernet.retrain.trainings import Lessons, RetrainConfig, retrain
from supernet.space.choices import Architecture, Space
from supernet.space.layers import GhostBatchNorm, OneShot
from supernet.space.network import view_of
from supernet.speed.kernels import processor_name
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train.fit import TrainConfig, live_groups, shares
from supernet.train.paths import PathsConfig, draw
from supernet.trust.correlation import rank_correlation

Numbers = NDArray[np.float64]
DrawLive = Callable[[int], Tensor]
"""The live_GP of a step of the training."""

AVERAGED = 200
"""Ghost batches that averages of statistics are taken over."""

WEIGHTS = (0.5, 1.0, 1.5, 2.0)
"""What the rank of the size counts beside the rank of the score."""

BONUS = {"accuracy": 0.06, "loss": 0.1}
"""`search.size_bonus` in the unit of the score."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train a one-shot model and to score with it."""

    settings: dict[str, Any]
    """Of the space."""

    pixels: int = 16
    images: int = 2_400_000
    """Training images seen in all, with repeats."""

    batch_size: int = 256
    ghost_size: int = 64
    lr: float = 0.1
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0

    paths: str = "uniform"
    """'uniform', 'fair', 'dropout', or 'classes': uniform over what has different functions."""

    rate: float = 0.1
    """Of path dropout."""

    schedule: str = "constant"
    """Of path dropout."""

    everything_on: float = 0.0
    """Share of the training over which the chance that a step has everything on falls from 1 to 0."""

    average: float = 0.0
    """Share of the training, at its end, over which weights are averaged."""

    decays: str = "live"
    """Weights that a step decays: 'live', or 'all'."""

    statistics: str = "batch"
    """What batch norm scores with: 'batch', its ghost batch's, or 'averages' over draws of paths as in the training."""

    tune_steps: int = 0
    """Steps for which each architecture's own copy of the weights is trained further before it is scored."""

    tune_lr: float = 0.02
    scored_images: int = 2048
    scored_ghost: int = 64
    seed: int = 0


def arguments(text: str, commands: Sequence[str], *, with_truth: bool = False) -> argparse.ArgumentParser:
    """What the command lines of the experiments share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=commands)
    parser.add_argument("images", type=Path, metavar="CIFAR10")
    if with_truth:
        parser.add_argument("truth", type=Path, metavar="TRUTH")
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--out", type=Path, help="file that the result is joined to")
    return parser


def data_of(recipe: Recipe, path: Path, validation: int) -> tuple[Data, DataConfig]:
    """CIFAR-10 at the recipe's resolution."""
    config = DataConfig(
        name="cifar10", path=str(path), validation=validation, image_size=recipe.pixels,
        crop=recipe.pixels // 8, flip=True,
    )  # fmt: skip
    return load(config, seed=recipe.seed), config


def train(
    space: Space, recipe: Recipe, data: Data, config: DataConfig, folder: Path, runtime: Runtime
) -> tuple[OneShot, float]:
    """The one-shot model, averaged where the recipe says so, and the processor time that it took in seconds."""
    model = build(space, seed=recipe.seed)
    steps = recipe.images // recipe.batch_size
    settings = TrainConfig(
        steps=steps, batch_size=recipe.batch_size, ghost_size=recipe.ghost_size, lr=recipe.lr,
        weight_decay=recipe.weight_decay, clip_norm=5.0, label_smoothing=recipe.label_smoothing, average=recipe.average,
        checkpoint_seconds=30,
    )  # fmt: skip
    draw_live = paths_by(recipe, space)
    if recipe.decays == "all":
        draw_live = decaying_all(model, draw_live, steps, settings)
    times = folder / "seconds.json"
    before = read_json(times)["seconds"] if times.exists() else 0.0
    began = time.process_time()

    def progress(done: int, total: int, **figures: float) -> None:
        if done % 100 == 0 or done == total:
            write_json(times, {"seconds": before + time.process_time() - began})
            if done % 1000 == 0 or done == total:
                print(f"{folder.name}: {done} of {total} steps, loss {figures['loss']:.3f}", flush=True)

    batches = feed(
        data.train, data, config, batch_size=recipe.batch_size, seed=recipe.seed, device=runtime.device
    )  # fmt: skip
    fit(model, batches, steps, settings, runtime=runtime, draw_live=draw_live, folder=folder, watch=Watch(progress))
    return model, read_json(times)["seconds"]


def paths_by(recipe: Recipe, space: Space) -> DrawLive:
    """What draws live_GP of a step, [ghost batches, P], as the recipe says."""
    ghosts, steps = recipe.batch_size // recipe.ghost_size, recipe.images // recipe.batch_size
    kind = "uniform" if recipe.paths == "classes" else recipe.paths
    paths = PathsConfig(distribution=kind, rate=recipe.rate, schedule=cast(Any, recipe.schedule))
    pool = different(space) if recipe.paths == "classes" else None

    def draw_live(step: int) -> Tensor:
        progress, generator = step / steps, stream(recipe.seed, "paths", step)
        if progress < recipe.everything_on:
            chance = 1 - progress / recipe.everything_on
            if float(torch.rand((), generator=generator)) < chance:
                return space.live([space.everything_on()]).expand(ghosts, -1)
        if pool is not None:
            return pool[torch.randint(len(pool), (ghosts,), generator=generator)]
        return draw(space, paths, ghosts, progress, generator=generator)

    return draw_live


class AveragedNorm(nn.Module):
    """Batch norm with mean and variance that are given."""

    mean: Tensor
    variance: Tensor

    def __init__(self, of: GhostBatchNorm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = of.weight, of.bias, of.eps
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps)


def averaged(model: OneShot, batches: Callable[[int], tuple[Tensor, Tensor]], draw_live: DrawLive) -> OneShot:
    """The model with averages in place of the statistics of a ghost batch.

    Args:
        model: trained.
        batches: one ghost batch of the training for each number from 0.
        draw_live: the paths of that number, of which the first is taken.

    Returns:
        A copy. A batch norm that never ran keeps the statistics of a ghost batch.
    """
    seen: dict[GhostBatchNorm, tuple[int, Tensor, Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, GhostBatchNorm)
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=1)
        number, *before = seen.get(norm, (0, torch.zeros_like(mean), torch.zeros_like(mean)))
        seen[norm] = number + 1, before[0] + mean, before[1] + variance

    norms = [module for module in model.modules() if isinstance(module, GhostBatchNorm)]
    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    with torch.no_grad():
        for number in range(AVERAGED):
            model(batches(number)[0], draw_live(number)[:1])
    for handle in handles:
        handle.remove()

    def fixed(module: nn.Module) -> nn.Module:
        if not isinstance(module, GhostBatchNorm) or module not in seen:
            return module
        number, mean, variance = seen[module]
        return AveragedNorm(module, mean / number, variance / number)

    return copy.deepcopy(cast(OneShot, view_of(model, fixed)))


def decaying_all(model: OneShot, draw_live: DrawLive, steps: int, settings: TrainConfig) -> DrawLive:
    """The same paths; whenever they are drawn, weights that are not live in them are decayed as those that are.

    What momentum adds up to is done at once."""
    groups, momentum = live_groups(model), settings.optimizer_settings.get("momentum", 0.0)

    def draw(step: int) -> Tensor:
        live = draw_live(step)
        rate = settings.rate_at(step / steps) * settings.weight_decay / (1 - momentum)
        with torch.no_grad():
            for group, share in zip(groups, shares(groups, live), strict=True):
                for parameter in group.parameters:
                    if parameter.ndim > 1:
                        parameter.mul_(1 - rate * (1 - share))
        return live

    return draw


def different(space: Space) -> Tensor:
    """live_GP of one architecture of each class with the same function: bool [classes, P]."""
    assert space.canonical is not None, f"{space.name} has no canonical form"
    classes = {space.canonical(architecture): architecture for architecture in space}
    return space.live([architecture for text, architecture in classes.items() if text])


def scored(
    model: OneShot,
    architectures: Sequence[Architecture],
    recipe: Recipe,
    data: Data,
    config: DataConfig,
    runtime: Runtime,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, list[float]]:
    """Accuracy and mean loss of each architecture on the first validation images, with the shared weights."""
    x, y = prepare(data.validation, data, device=runtime.device, examples=recipe.scored_images)
    if recipe.statistics == "averages":
        batches = feed(
            data.train, data, config, batch_size=recipe.ghost_size, seed=recipe.seed, device=runtime.device
        )  # fmt: skip
        steps, draw_live = recipe.images // recipe.batch_size, paths_by(recipe, model.space)
        model = averaged(model, batches, lambda number: draw_live(steps - 1 - number % steps))
    how: dict[str, Any] = {"runtime": runtime, "ghost_size": recipe.scored_ghost}
    if not recipe.tune_steps:
        found = []
        for pair in score(model, architectures, x, y, **how):
            found.append(pair)
            progress(len(found))
    else:
        found = [
            _tuned(extract(model, architecture), recipe, data, config, x, y, runtime) for architecture in architectures
        ]  # fmt: skip
    return {"accuracy": [a for a, _ in found], "loss": [b for _, b in found]}


def _tuned(
    network: torch.nn.Module, recipe: Recipe, data: Data, config: DataConfig, x: Tensor, y: Tensor, runtime: Runtime
) -> tuple[float, float]:
    settings = TrainConfig(
        steps=recipe.tune_steps, batch_size=64, ghost_size=64, lr=recipe.tune_lr,
        weight_decay=recipe.weight_decay, clip_norm=5.0,
    )  # fmt: skip
    batches = feed(data.train, data, config, batch_size=64, seed=recipe.seed + 1, device=runtime.device)
    fit(network, batches, recipe.tune_steps, settings, runtime=runtime)
    with torch.no_grad(), runtime.autocast():
        outputs = torch.cat([network(part) for part in x.split(recipe.scored_ghost)]).float()  # in training mode
    return float((outputs.argmax(1) == y).double().mean()), float(torch.nn.functional.cross_entropy(outputs, y))


def run(
    space: Space,
    recipe: Recipe,
    architectures: Sequence[Architecture],
    folder: Path,
    images: Path,
    validation: int = 25_000,
) -> dict[str, Any]:
    """Trains and scores, unless the folder holds these scores already; returns scores and processor seconds.

    Raises:
        SystemExit: the folder is of another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "scores.json"
    asked = [str(a) for a in architectures]
    written = folder / "recipe.json"
    if written.exists() and read_json(written) != json.loads(json.dumps(asdict(recipe))):
        raise SystemExit(f"{written}: expected the same recipe as now; name another folder, or delete this one")
    write_json(written, asdict(recipe))
    if result.exists() and set(asked) <= set((kept := read_json(result))["architectures"]):
        places = [kept["architectures"].index(text) for text in asked]
        return {**kept, **{kind: [kept[kind][place] for place in places] for kind in ("accuracy", "loss")}}
    torch.set_num_threads(1)
    runtime = start(RuntimeConfig(device="cpu", threads=1))
    data, config = data_of(recipe, images, validation)
    model, seconds = train(space, recipe, data, config, folder, runtime)
    began = time.process_time()
    scores = scored(model, architectures, recipe, data, config, runtime)
    found = {
        "training_seconds": seconds,
        "scoring_seconds": time.process_time() - began,
        "made": made(),
        "architectures": asked,
        **scores,
    }
    write_json(result, found)
    return found


def trained_alone(
    space: Space,
    architectures: Sequence[Architecture],
    networks: int,
    settings: TrainConfig,
    data: Data,
    config: DataConfig,
    table: Path,
    folder: Path,
    threads: int,
    repeats: int,
) -> None:
    """Trains architectures from scratch, and after each writes a table of their accuracies on the validation images.

    Args:
        space, architectures: what the table may list.
        networks: how many of these are trained, from the first; the table keeps what was trained before.
        settings: of each training; `steps` is given.
        data, config: images at the resolution of the space.
        table: CSV file with the columns `architecture`, `accuracy` and `again` (of the second training, or nothing).
        folder: where a stopped command continues.
        threads: trainings side by side.
        repeats: trainings of each, 1 or 2.
    """
    torch.set_num_threads(1)
    runtime = start(RuntimeConfig(device="cpu", threads=threads))
    steps = settings.total_steps(len(data.train))

    def show(done: int, total: int, **figures: float) -> None:
        if done % 1000 == 0:
            print(f"{done} of {total} steps", flush=True)

    def tell() -> None:
        rows = ["architecture,accuracy,again"]
        for architecture in architectures:
            places = [folder / architecture.id / str(repeat) / "result.json" for repeat in range(2)]
            found = [str(read_json(place)["validation"]) if place.exists() else "" for place in places]
            if found[0]:
                rows.append(",".join([str(architecture), *found]))
        write_text(table, "\n".join(rows) + "\n")

    lessons = Lessons(
        feed=lambda seed: feed(
            data.train, data, config, batch_size=settings.batch_size, seed=seed, device=runtime.device
        ),
        steps=steps,
        validation=lambda: batches(data.validation, data, device=runtime.device, size=500),
    )
    retrain(
        space, architectures[:networks], lessons, RetrainConfig(train=settings, repeats=repeats),
        runtime=runtime, seed=0, folder=folder, watch=Watch(show), sender=Sender(update=tell),
    )  # fmt: skip
    tell()


def how_alone(parser: argparse.ArgumentParser) -> None:
    """Options of commands that train from scratch."""
    parser.add_argument("--threads", type=int, default=1, help="trainings of `truth` side by side")
    parser.add_argument("--repeats", type=int, choices=(1, 2), default=1, help="trainings of each")


def accuracies_of(path: Path) -> tuple[list[str], Numbers, Numbers]:
    """Architectures, accuracies of trainings from scratch, [n], and both of those that were trained twice, [m, 2]."""
    table = read_table(path)
    (first, again), _ = read_numbers(table, [table.column("accuracy"), table.column("again")])
    twice = [pair for pair in zip(first, again, strict=True) if pair[1] is not None]
    return table.texts(table.column("architecture")), np.array(first, float), np.array(twice, float).reshape(-1, 2)


def repeated(twice: Numbers) -> dict[str, float]:
    """How many networks were trained twice, and the standard deviation of one training, from [m, 2]."""
    return {"networks": len(twice), "deviation": float(np.sqrt(np.mean((twice[:, 0] - twice[:, 1]) ** 2) / 2))}


def subject_of(run: Path) -> Subject:
    """A run's one-shot model, on one core, with what its scores are taken by."""
    torch.set_num_threads(1)
    loaded = load_run(open_run(run))
    model, config, data = load_one_shot(loaded), loaded.config, loaded.data
    runtime = start(replace(config.runtime, threads=1))
    runtime.place(model)
    return Subject(model, config, data, runtime, UNWATCHED)


def made() -> dict[str, str]:
    """When and on what a result is made."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{processor_name()}, {torch.backends.cpu.get_cpu_capability()}, one core",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def joined(out: Path | None) -> dict[str, Any]:
    """What a result file holds already, that new results are joined to."""
    found: dict[str, Any] = read_json(out) if out is not None and out.exists() else {}
    return found


def ranks(values: Sequence[float] | Numbers) -> Numbers:
    """Ranks between -1/2 and 1/2; equal values share theirs."""
    return np.asarray((stats.rankdata(values) - (len(values) + 1) / 2) / len(values))


def tau(scores: Numbers, truth: Numbers) -> float:
    """Kendall's tau-b; NaN where either is constant."""
    value = float(stats.kendalltau(scores, truth).statistic)
    return value if math.isfinite(value) else math.nan


def interval(scores: Numbers, truth: Numbers) -> dict[str, Any]:
    """Tau, and where it is for 95 % of bootstrap samples of the architectures."""
    found = rank_correlation(scores.tolist(), truth.tolist())
    return {"tau": found["kendall"], "interval": found["kendall_interval"]}


def agreement(scores: Numbers, size: Numbers, true: Numbers) -> dict[str, Any]:
    """Kendall's tau of scores with the truth, alone and with size: over all, with 95 % of bootstrap samples inside,
    and over the best quarter by truth."""
    best = true >= np.quantile(true, 0.75)
    rows = {"alone": ranks(scores)} | {f"with {w:g} x size": ranks(scores) + w * ranks(size) for w in WEIGHTS}
    return {
        name: {
            **interval(values, true),
            "tau of the best quarter": tau(values[best], true[best]),
            "best of its ten": float(true[np.argsort(-values, kind="stable")[:10]].max()),
        }
        for name, values in rows.items()
    }


def row_with_bonus(kind: str) -> str:
    """The name in results of a score with `search.size_bonus`."""
    return f"{kind} with size_bonus {BONUS[kind]}"


def judged(
    name: str, found: dict[str, Any], place: Path, size: Numbers, doublings: Numbers, true: Numbers
) -> dict[str, Any]:
    """What is kept of a recipe: how each kind of score agrees with the truth, alone, with size and as a search ranks.

    Args:
        name: of the recipe.
        found: what `run` returned.
        place: the folder of it.
        size: of each architecture, in any unit.
        doublings: of the multiply-adds, as `search.size_bonus` counts them.
        true: accuracies.
    """
    result: dict[str, Any] = {
        "recipe": read_json(place / "recipe.json"),
        "made": found["made"],
        "training_seconds": round(found["training_seconds"]),
        "scoring_seconds": round(found["scoring_seconds"]),
        "mean accuracy": float(np.mean(found["accuracy"])),
    }
    for kind, scores in {"accuracy": np.array(found["accuracy"]), "loss": -np.array(found["loss"])}.items():
        result[kind] = agreement(scores, size, true)
        with_bonus = agreement(scores + BONUS[kind] * doublings, size, true)["alone"]
        result[row_with_bonus(kind)] = with_bonus
        words = [f"{row}: {f['tau']:.3f} ({f['tau of the best quarter']:.3f})" for row, f in result[kind].items()]
        print(f"{name}, {kind}: {'; '.join(words)}; with size_bonus {with_bonus['tau']:.3f}")
    return result


def place_of(work: Path, name: str) -> Path:
    """The folder of a recipe."""
    return work / name.replace(",", "").replace(" ", "-")


def with_(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with other settings; those of the space are joined with its own."""
    changes["settings"] = {**recipe.settings, **changes.get("settings", {})}
    return replace(recipe, **changes)
