"""NAS-Bench-Macro's space: which recipe's scores rank as trainings from scratch do. The benchmark's table is not used.

    python benchmarks/evidence/macro.py truth CIFAR10 TRUTH WORK [--threads 2] [--networks 12 --repeats 2]
    python benchmarks/evidence/macro.py RECIPE CIFAR10 TRUTH WORK [--out RESULT.json]

CIFAR10 is the folder with the images, TRUTH a CSV file with the columns `architecture`, `accuracy` and `again` (of a
second training, or nothing), WORK a folder for what a stopped command continues from. `truth` trains architectures and
puts them into TRUTH (docs/results has one).
RECIPE is one of RECIPES below, most of which see as many images as take about equal time, or `all` for those whose
scores are in WORK already: then each is also set beside the first. All at 16 pixels and a quarter of the benchmark's
channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from one_shot import (
    BONUS,
    Numbers,
    Recipe,
    accuracies_of,
    agreement,
    arguments,
    data_of,
    how_alone,
    joined,
    judged,
    place_of,
    repeated,
    row_with_bonus,
    run,
    trained_alone,
    with_,
)

from supernet import cost_table
from supernet.base.files import write_json
from supernet.base.randomness import stream
from supernet.space.choices import Architecture, Space
from supernet.spaces import macro
from supernet.train.fit import TrainConfig
from supernet.trust.correlation import trust

ARCHITECTURES, IMAGES = 64, 150_000
VALIDATION = 10_000

BASE = Recipe(settings={"channels": 8, "affine": False}, images=600_000, lr=0.3, average=0.3)
RECIPES = {
    "uniform": BASE,
    "uniform, seed 1": with_(BASE, seed=1),
    "fair": with_(BASE, paths="fair", batch_size=192),
    "dropout": with_(BASE, paths="dropout", schedule="linear", images=300_000),
    "everything-on-first": with_(BASE, everything_on=0.25, images=500_000),
    "rate 0.1, no average": with_(BASE, lr=0.1, average=0.0),
    "averages": with_(BASE, statistics="averages"),
    "1 path": with_(BASE, ghost_size=256),
    "1 path, longer": with_(BASE, ghost_size=256, images=800_000),
}


def space_of(settings: dict[str, Any], pixels: int) -> Space:
    return macro(input_shape=(3, pixels, pixels), **settings)


def drawn(space: Space) -> list[Architecture]:
    return space.sample_distinct(ARCHITECTURES, generator=stream(0, "macro"))


def truth(images: Path, table: Path, work: Path, threads: int, networks: int, repeats: int) -> None:
    """Trains the first so many architectures, with the scales and offsets that the benchmark's networks have."""
    space = space_of({"channels": 8}, BASE.pixels)
    settings = TrainConfig(
        steps=IMAGES // 64, batch_size=64, ghost_size=32, lr=0.05, weight_decay=5e-4, clip_norm=5.0
    )  # fmt: skip
    data, config = data_of(BASE, images, VALIDATION)
    trained_alone(
        space, drawn(space), networks, settings, data, config, table, work / f"truth-{IMAGES}", threads, repeats
    )  # fmt: skip


def main() -> None:
    parser = arguments(__doc__ or "", ["truth", "all", *RECIPES], with_truth=True)
    parser.add_argument("--networks", type=int, default=ARCHITECTURES, help="architectures that `truth` trains")
    how_alone(parser)
    chosen = parser.parse_args()
    if chosen.recipe == "truth":
        return truth(
            chosen.images, chosen.truth, chosen.work, chosen.threads, chosen.networks, chosen.repeats
        )  # fmt: skip
    texts, true, twice = accuracies_of(chosen.truth)
    result = joined(chosen.out)
    result["networks"] = len(true)
    result["accuracies"] = [float(true.min()), float(true.max())]
    if len(twice):
        result["trained twice"] = repeated(twice)
    space = space_of(BASE.settings, BASE.pixels)
    architectures, table = [space.parse(text) for text in texts], cost_table(space)
    doublings = table.doublings(architectures)
    for column in ("macs", "params"):
        size = table.column(column, architectures).astype(float)
        result[f"{column} alone"] = agreement(size, size, true)["alone"]
    first: dict[str, Numbers] = {}
    for name in RECIPES if chosen.recipe == "all" else [chosen.recipe]:
        recipe, place = RECIPES[name], place_of(chosen.work, name)
        if chosen.recipe == "all" and not (place / "scores.json").exists():
            continue
        found = run(space, recipe, architectures, place, chosen.images, VALIDATION)
        result[name] = judged(name, found, place, doublings, doublings, true)
        if chosen.recipe == "all":
            scores = {"loss": -np.array(found["loss"])}
            scores[row_with_bonus("loss")] = scores["loss"] + BONUS["loss"] * doublings
            first = first or scores
            less = {way: trust(scores[way], true, {"first": first[way]})["beyond"]["first"] for way in scores}
            result[name]["less the first"] = less
            print(result[name]["less the first"])
    if chosen.out:
        write_json(chosen.out, result)
    return None


if __name__ == "__main__":
    main()
