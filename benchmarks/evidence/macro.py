"""NAS-Bench-Macro's space: which recipe's scores rank as trainings from scratch do. The benchmark's table is not used.

    python benchmarks/evidence/macro.py truth CIFAR10 WORK            # trains 30 architectures, once for all
    python benchmarks/evidence/macro.py RECIPE CIFAR10 WORK [--out RESULT.json]

CIFAR10 is the folder with the images, WORK a folder for what a stopped command continues from. RECIPE is one of
RECIPES below, which see as many images as take about equal time. All at 16 pixels and a quarter of the benchmark's
channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from one_shot import Numbers, Recipe, arguments, data_of, interval, joined, ranks, run, with_

from supernet import cost_table
from supernet.data import batches, feed
from supernet.files import read_json, write_json
from supernet.randomness import stream
from supernet.retrain import RetrainConfig, retrain
from supernet.runtime import RuntimeConfig, start
from supernet.space import Architecture, Space
from supernet.spaces import macro
from supernet.train import TrainConfig

ARCHITECTURES, IMAGES = 30, 150_000
VALIDATION = 10_000

BASE = Recipe(settings={"channels": 8, "affine": False}, images=600_000, lr=0.3, average=0.3)
RECIPES = {
    "uniform": BASE,
    "fair": with_(BASE, paths="fair", batch_size=192),
    "dropout": with_(BASE, paths="dropout", schedule="linear", images=300_000),
    "everything-on-first": with_(BASE, everything_on=0.25, images=500_000),
    "rate 0.1, no average": with_(BASE, lr=0.1, average=0.0),
}
WEIGHTS = (0.5, 1.0, 1.5, 2.0)
"""What the rank of the multiply-adds counts beside the rank of the score."""


def space_of(settings: dict[str, Any], pixels: int) -> Space:
    return macro(input_shape=(3, pixels, pixels), **settings)


def drawn(space: Space) -> list[Architecture]:
    return space.sample_distinct(ARCHITECTURES, generator=stream(0, "macro"))


def truth(images: Path, work: Path) -> None:
    """Trains each architecture, with the scales and offsets that the benchmark's networks have."""
    space = space_of({"channels": 8}, BASE.pixels)
    data, config = data_of(BASE, images, VALIDATION)
    torch.set_num_threads(1)
    runtime = start(RuntimeConfig(device="cpu", threads=1))
    settings = TrainConfig(
        steps=IMAGES // 64, batch_size=64, ghost_size=32, lr=0.05, weight_decay=5e-4, clip_norm=5.0
    )  # fmt: skip

    def show(done: int, total: int, **figures: float) -> None:
        if done % 1000 == 0:
            print(f"{done} of {total} steps", flush=True)

    retrain(
        space, drawn(space),
        lambda seed: feed(data.train, data, config, batch_size=64, seed=seed, device=runtime.device),
        IMAGES // 64, lambda: batches(data.validation, data, device=runtime.device, size=500),
        RetrainConfig(train=settings, repeats=1),
        runtime=runtime, seed=0, folder=work / f"truth-{IMAGES}", progress=show,
    )  # fmt: skip


def accuracies(space: Space, work: Path) -> Numbers:
    """Of each architecture, [30]."""
    return np.array(
        [read_json(work / f"truth-{IMAGES}" / a.id / "0" / "result.json")["validation"] for a in drawn(space)]
    )


def main() -> None:
    parser = arguments(__doc__ or "", ["truth", *RECIPES])
    chosen = parser.parse_args()
    if chosen.recipe == "truth":
        return truth(chosen.images, chosen.work)
    recipe = RECIPES[chosen.recipe]
    space = space_of(recipe.settings, recipe.pixels)
    found = run(space, recipe, drawn(space), chosen.work / chosen.recipe, chosen.images, VALIDATION)
    true = accuracies(space, chosen.work)
    size = cost_table(space).costs(drawn(space))[:, 2].astype(float)
    scores = {"accuracy": np.array(found["accuracy"]), "loss": -np.array(found["loss"])}
    rows = {"macs": size, **scores}
    for name, values in scores.items():
        rows |= {f"{name} and {w:g} x macs": ranks(values) + w * ranks(size) for w in WEIGHTS}
    result: dict[str, Any] = {
        "made": found["made"],
        "training_seconds": found["training_seconds"],
        "one-shot accuracy": float(np.mean(found["accuracy"])),
        "accuracies": [float(true.min()), float(true.max())],
        **{name: interval(values, true) for name, values in rows.items()},
    }
    print(result)
    if chosen.out:
        write_json(chosen.out, {**joined(chosen.out), chosen.recipe: result})
    return None


if __name__ == "__main__":
    main()
