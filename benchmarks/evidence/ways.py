"""Ways to train a one-shot model, at equal processor time, in two spaces with published accuracies.

    python benchmarks/evidence/ways.py SPACE WAY CIFAR10 WORK [--seed N] [--out RESULT.json]
    python benchmarks/evidence/ways.py all all CIFAR10 WORK --out RESULT.json

SPACE is `nasbench201` (400 cells) or `macro` (400 networks of NAS-Bench-Macro), each for some minutes, or `nasbench201,
recipe` or `macro, recipe`, for as long as the recipes of the program. WAY is one of these:

- `uniform`: one architecture for each ghost batch, drawn uniformly. All others are compared with it.
- `complexity`: the loss of a ghost batch counts by how large its architecture is, more so towards the end: by
  (1 - t/T) to the power of gamma, which falls from 4 for the smallest architecture to 1/4 for the largest with the
  logarithm of the parameters (Jeon et al., "Subnet-Aware Dynamic Supernet Training", CVPR 2025). There it is the
  learning rate, one architecture a step; here four share a step, so it is the weight of the loss, divided by its mean
  over the space, and the rate itself follows the cosine of all ways.
- `complexity, momenta`: also a momentum for each option of one choice, of which a step has the same option in all of
  its ghost batches (the same source).
- `gradients`: options are drawn in proportion to the mean norm of their weights' gradients, mixed with the uniform
  distribution by the share of the training that is over (Lu et al., "PA&DA", CVPR 2023; its choice of images is left
  out).
- `sandwich`: of each four ghost batches one has the largest architecture and one the smallest, by parameters; all but
  the largest learn from its outputs too (Yu and Huang, ICCV 2019).
- `shift`: for the last quarter of the steps only the 64 best of 256 architectures are drawn, by the scores of the model
  at that time on 256 images, with what the program adds for the size (after Zhang et al., "Supernet Shifting", CVPR
  2024, which trains on while it searches).

The first steps of each way are timed beside those of `uniform`, and it gets as many steps as take equal time. Networks
are judged by scores alone, by scores with size, and by the joint rank with equal parts of `joint.py`. `all` reads what
WORK holds already.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joint import EQUAL, best_quarter, join, parts_of
from macro import BASE as MACRO
from macro import VALIDATION
from macro import space_of as macro_space
from nasbench201 import FACTOR
from nasbench201 import RECIPES as CELLS
from nasbench201 import space_of as cell_space
from one_shot import BONUS, Numbers, Recipe, data_of, made, ranks, with_
from scipy import stats
from torch import Tensor

from supernet import build, cost_table, fit, score
from supernet.base.csv_file import read_table
from supernet.base.files import read_json, write_json
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import stream
from supernet.data.splits import feed, prepare
from supernet.space.choices import Architecture, Space
from supernet.space.layers import OneShot
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train import fit as training
from supernet.train.emphasis import emphasis
from supernet.train.fit import TrainConfig, live_groups
from supernet.train.paths import PathsConfig, draw

RESULTS = Path(__file__).parents[2] / "docs" / "results"
SPACES: dict[str, tuple[Callable[[dict[str, Any], int], Space], Recipe, int, Path]] = {
    "nasbench201": (cell_space, with_(FACTOR, images=3000 * 256), 25_000, RESULTS / "nasbench201_scores.csv"),
    "macro": (macro_space, with_(MACRO, images=1500 * 256), VALIDATION, RESULTS / "macro_scores.csv"),
    "nasbench201, recipe": (
        cell_space, with_(CELLS["16 channels, 3 cells, rate 0.3, average"], images=20_000 * 256), 25_000,
        RESULTS / "nasbench201_scores.csv",
    ),
    "macro, recipe": (macro_space, with_(MACRO, images=9_375 * 256), VALIDATION, RESULTS / "macro_scores.csv"),
}  # fmt: skip
"""Of each space its one-shot model, the training at uniform paths, the validation images, and the truth."""

WAYS = ("uniform", "complexity", "complexity, momenta", "gradients", "sandwich", "shift")
SCORED = 512
"""Validation images that scores are taken on."""

TIMED = 24
"""Steps of which the median is the time of one."""

STEEPEST = 4.0
"""gamma of the smallest architecture; that of the largest is its inverse."""

SHIFTED, LOOKED_AT, KEPT = 0.75, 256, 64


class Way:
    """What a way changes of a training: the paths of a step, and the loss."""

    def __init__(self, name: str, space: Space, model: OneShot, recipe: Recipe, steps: int) -> None:
        self.name, self.space, self.model, self.recipe, self.steps = name, space, model, recipe, steps
        self.ghosts = recipe.batch_size // recipe.ghost_size
        self.table = cost_table(space)
        drawn = [space.sample(generator=stream(0, "sizes", number)) for number in range(2_000)]
        sizes = self.table.column("params", drawn).astype(float)
        self.smallest, self.largest = (drawn[int(place)] for place in (sizes.argmin(), sizes.argmax()))
        self.step = 0
        self.emphasis = emphasis(self.table, STEEPEST, drawn) if name.startswith("complexity") else None
        self.row = space.live([self.largest])[0]
        self.norms = torch.zeros(len(space.columns), dtype=torch.float64)
        self.groups = live_groups(model)
        self.pool: list[Architecture] = []
        self.best: Callable[[list[Architecture]], list[Architecture]] = lambda architectures: architectures
        self.split = ""
        self.option = 0

    def draw_live(self, step: int) -> Tensor:
        """live_GP of a step."""
        self.step = step
        generator = stream(self.recipe.seed, "paths", step)
        if self.name == "gradients":
            self._look_at_gradients()
            return self.space.live([self._by_gradients(generator) for _ in range(self.ghosts)])
        if self.name == "shift" and step >= SHIFTED * self.steps:
            if not self.pool:
                many = [self.space.sample(generator=generator) for _ in range(LOOKED_AT)]
                self.pool = self.best(many)[:KEPT]
            places = torch.randint(len(self.pool), (self.ghosts,), generator=generator).tolist()
            return self.space.live([self.pool[place] for place in places])
        live = draw(self.space, PathsConfig(distribution="uniform"), self.ghosts, 0.0, generator=generator)
        if self.name == "sandwich":
            live[:2] = self.space.live([self.largest, self.smallest])
        if self.name == "complexity, momenta":
            choice = self.space.choices[int(stream(self.recipe.seed, "split").initial_seed()) % len(self.space.choices)]
            first, number = self.space.columns[choice.name, choice.options[0]], len(choice.options)
            self.option = int(torch.randint(number, (), generator=generator))
            live[:, first : first + number] = torch.arange(number) == self.option
        return live

    def _look_at_gradients(self) -> None:
        """Takes the norms of the last step's gradients into the mean of each option."""
        for group in self.groups:
            gradients = [parameter.grad for parameter in group.parameters if parameter.grad is not None]
            if gradients and group.columns:
                norm = float(torch.linalg.vector_norm(torch.stack([g.norm() for g in gradients])))
                for column in {column for any_of in group.columns for column in any_of}:
                    self.norms[column] = 0.99 * self.norms[column] + 0.01 * norm

    def _by_gradients(self, generator: torch.Generator) -> Architecture:
        share, picked = self.step / self.steps, {}
        for choice in self.space.choices:
            first, number = self.space.columns[choice.name, choice.options[0]], len(choice.options)
            norms = self.norms[first : first + number]
            even = torch.full((number,), 1 / number, dtype=torch.float64)
            by_norm = norms / norms.sum() if float(norms.sum()) > 0 else even
            chances = share * by_norm + (1 - share) * even
            picked[choice.name] = (choice.options[int(torch.multinomial(chances, 1, generator=generator))],)
        return self.space.reached(picked)


def with_momenta(way: Way) -> type[Any]:
    """The optimiser with a momentum for each option of the choice that is split."""

    kept: dict[int, dict[Any, Tensor | None]] = {}

    class Separate(training._Optimiser):
        def step(self, step: int) -> None:
            mine = kept.setdefault(way.option, {})
            for parameter in self.parameters:
                self.optimiser.state[parameter]["momentum_buffer"] = mine.get(parameter)
            super().step(step)
            for parameter in self.parameters:
                mine[parameter] = self.optimiser.state[parameter].get("momentum_buffer")

    return Separate


def trained(
    space: Space, recipe: Recipe, name: str, steps: int, images: Path, validation: int, stop: int | None
) -> Any:
    """The one-shot model, the seconds of a step and of scores within the training, the data, and the runtime.

    Args:
        stop: number of steps after which it ends, of `steps`; None: it goes on to the end.
    """
    runtime = start(RuntimeConfig(device="cpu", threads=1))
    data, config = data_of(recipe, images, validation)
    model = build(space, seed=recipe.seed)
    way = Way(name, space, model, recipe, steps)
    x, y = prepare(data.validation, data, device=runtime.device, examples=SCORED)

    def best(architectures: list[Architecture]) -> list[Architecture]:
        began = time.process_time()
        losses = [loss for _, loss in score(model, architectures, x[:256], y[:256], runtime=runtime, ghost_size=64)]
        model.train()
        spent.append(time.process_time() - began)
        values = -np.array(losses) + BONUS["loss"] * way.table.doublings(architectures)
        return [architectures[place] for place in np.argsort(-values)]

    way.best = best
    settings = TrainConfig(
        steps=steps, batch_size=recipe.batch_size, ghost_size=recipe.ghost_size, ghosts_per_forward=1, lr=recipe.lr,
        weight_decay=recipe.weight_decay, clip_norm=5.0, average=recipe.average,
    )  # fmt: skip
    times: list[float] = []
    spent: list[float] = []

    def progress(done: int, total: int, **figures: float) -> None:
        times.append(time.process_time())
        if done % 250 == 0:
            print(f"{name}: {done} of {total} steps, loss {figures['loss']:.3f}", flush=True)

    batches = feed(
        data.train, data, config, batch_size=recipe.batch_size, seed=recipe.seed, device=runtime.device
    )  # fmt: skip
    plain = training._Optimiser
    if name == "complexity, momenta":
        training._Optimiser = with_momenta(way)  # type: ignore[misc]  # for one training
    began = time.process_time()
    try:
        fit(
            model, batches, steps, settings, runtime=runtime, draw_live=way.draw_live, emphasis=way.emphasis,
            distill=(1.0, way.row) if name == "sandwich" else None,
            watch=Watch(progress, lambda: stop is not None and len(times) >= stop),
        )  # fmt: skip
    except Interrupted:
        pass
    finally:
        training._Optimiser = plain  # type: ignore[misc]  # for one training
    if stop is not None and name == "shift":  # what it looks at within the training, too
        best([space.sample(generator=stream(1, "looked at", number)) for number in range(LOOKED_AT)])
    return model, (float(np.median(np.diff([began, *times])[2:])), sum(spent)), (x, y), runtime


def judged(space: Space, scores: Numbers, texts: list[str], table: Path) -> dict[str, Any]:
    """How scores agree with the truth, alone, with size and in the joint rank."""
    parts, truth = parts_of(table)
    doublings = cost_table(space).doublings([space.parse(text) for text in texts])
    rankings = {
        "scores": scores,
        "with size": scores + BONUS["loss"] * doublings,
        "joint": join({**parts, "score": ranks(scores)}, EQUAL),
    }
    return {
        name: {
            "tau": round(float(stats.kendalltau(values, truth).statistic), 3),
            "best quarter": round(best_quarter(values, truth), 3),
        }
        for name, values in rankings.items()
    }


def one(name: str, way: str, images: Path, work: Path, seed: int) -> dict[str, Any]:
    """Trains and judges one way in one space, unless `work` holds it."""
    place = work / f"{name.replace(', ', '-')}-{way.replace(', ', '-')}-{seed}.json"
    if place.exists():
        return read_json(place)
    make, recipe, validation, table = SPACES[name]
    recipe = with_(recipe, seed=seed)
    space, steps = make(recipe.settings, recipe.pixels), recipe.images // recipe.batch_size
    torch.set_num_threads(1)
    if way != "uniform":
        seconds = [
            trained(space, recipe, of, steps, images, validation, TIMED)[1] for of in (way, "uniform", way, "uniform")
        ]
        mine, others = np.mean(seconds[::2], 0), np.mean(seconds[1::2], 0)
        steps = round((steps * others[0] - mine[1]) / mine[0])
    began = time.process_time()
    model, _, (x, y), runtime = trained(space, recipe, way, steps, images, validation, None)
    spent = time.process_time() - began
    texts = read_table(table)
    architectures = texts.texts(texts.column("architecture"))
    pairs = score(model, [space.parse(text) for text in architectures], x, y, runtime=runtime, ghost_size=64)
    scores = -np.array([loss for _, loss in pairs])
    row = {"steps": steps, "processor seconds": round(spent), **judged(space, scores, architectures, table)}
    row["scores of networks"] = [round(float(value), 4) for value in scores]
    write_json(place, row)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", choices=[*SPACES, "all"])
    parser.add_argument("way", choices=[*WAYS, "all"])
    parser.add_argument("images", type=Path, metavar="CIFAR10")
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    if chosen.way != "all":
        row = one(chosen.space, chosen.way, chosen.images, chosen.work, chosen.seed)
        print(chosen.space, chosen.way, chosen.seed, {k: v for k, v in row.items() if k != "scores of networks"})
        return
    result: dict[str, Any] = {"command": "python benchmarks/evidence/ways.py SPACE WAY CIFAR10 WORK --seed N"}
    for name in SPACES if chosen.space == "all" else [chosen.space]:
        for way in WAYS:
            for path in sorted(chosen.work.glob(f"{name.replace(', ', '-')}-{way.replace(', ', '-')}-[0-9]*.json")):
                row = read_json(path)
                row.pop("scores of networks")
                result.setdefault(name, {}).setdefault(way, {})[path.stem.rpartition("-")[2]] = row
    if chosen.out:
        write_json(chosen.out, {**result, "made": made()})


if __name__ == "__main__":
    main()
