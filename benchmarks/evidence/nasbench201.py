"""NAS-Bench-201's space on CIFAR-10: how one-shot scores by several recipes rank 400 cells of known accuracy.

    python benchmarks/evidence/nasbench201.py RECIPE CIFAR10 TRUTH WORK [--out RESULT.json]

CIFAR10 is the folder with the images, TRUTH a CSV file with the columns `architecture` (the benchmark's text),
`cifar10_test_12ep` and `cifar10_test_200ep`, WORK a folder for what a stopped command continues from. RECIPE is one of
RECIPES below, or `all` for those whose scores are in WORK already. 25,000 images train, 25,000 validate. Size is the
number of parameters of what matters in a cell (`nasbench201.simplified`), at 16 channels and 5 cells a stage.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from one_shot import Numbers, Recipe, agreement, arguments, joined, judged, place_of, run, with_

from supernet import cost_table
from supernet.base.csv_file import Table, read_numbers, read_table
from supernet.base.files import write_json, write_text
from supernet.draw.plots import published
from supernet.draw.units import Unit
from supernet.space.choices import Architecture, Space
from supernet.spaces import nasbench201
from supernet.spaces.nasbench201 import simplified

COLUMN = "cifar10_test_200ep"
NARROW = Recipe(settings={"channels": 8, "cells_per_stage": 1, "affine": False})
WIDE = with_(NARROW, settings={"channels": 16})
RECIPES = {
    "8 channels": with_(NARROW, images=7439 * 256),
    "16 channels": with_(WIDE, images=4789 * 256),
    "8 channels, classes": with_(NARROW, images=6629 * 256, paths="classes"),
    "16 channels, classes": with_(WIDE, images=4534 * 256, paths="classes", scored_images=4096),
    "8 channels, rate 0.2, average": with_(NARROW, images=7435 * 256, lr=0.2, average=0.3),
    "8 channels, rate 0.5, average": with_(NARROW, images=5589 * 256, lr=0.5, average=0.3, scored_images=4096),
    "8 channels, 3 cells, rate 0.3, average": with_(
        NARROW, settings={"cells_per_stage": 3}, images=7000 * 256, lr=0.3, average=0.3, scored_images=4096
    ),
    "16 channels, 3 cells, rate 0.3, average": with_(
        WIDE, settings={"cells_per_stage": 3}, images=9500 * 256, lr=0.3, average=0.3, scored_images=2048
    ),
    "16 channels, rate 0.3, average, long": with_(
        WIDE, images=15000 * 256, lr=0.3, average=0.3, scored_images=8192
    ),
}  # fmt: skip
SHORT = with_(
    WIDE, settings={"cells_per_stage": 3}, images=2000 * 256, lr=0.3, average=0.3, scored_images=512
)  # fmt: skip
RECIPES |= {
    "short": SHORT,
    "short, seed 1": with_(SHORT, seed=1),
    "short, fair": with_(SHORT, paths="fair", batch_size=320),
}
"""One factor at a time beside the first, at about equal time."""

FACTOR = with_(NARROW, images=5000 * 256, lr=0.3, average=0.3, scored_images=1024)
RECIPES |= {
    "factor": FACTOR,
    "factor, seed 1": with_(FACTOR, seed=1),
    "factor, fair": with_(FACTOR, paths="fair", batch_size=320),
    "factor, path dropout": with_(FACTOR, paths="dropout", schedule="linear", images=2200 * 256),
    "factor, path dropout, constant": with_(FACTOR, paths="dropout", images=2600 * 256),
    "factor, 1 path": with_(FACTOR, ghost_size=256),
    "factor, 1 path, longer": with_(FACTOR, ghost_size=256, images=7400 * 256),
    "factor, 8 paths": with_(FACTOR, ghost_size=32),
    "factor, affine": with_(FACTOR, settings={"affine": True}),
    "factor, decay 5e-5": with_(FACTOR, weight_decay=5e-5),
    "factor, everything on first": with_(FACTOR, everything_on=0.25, images=4200 * 256),
    "factor, no average": with_(FACTOR, average=0.0),
    "factor, all decayed": with_(FACTOR, decays="all"),
    "factor, averages": with_(FACTOR, statistics="averages"),
    "factor, tuned": with_(FACTOR, tune_steps=40),
    "factor, 32 pixels": with_(FACTOR, pixels=32, images=1250 * 256),
    "factor, 12 pixels": with_(FACTOR, pixels=12),
    "factor, 12 pixels, longer": with_(FACTOR, pixels=12, images=8900 * 256),
}
"""The same at one cell a stage and 8 channels, where a few minutes say something."""

RECIPES["16 channels, 3 cells, rate 0.3, average, seed 1"] = with_(
    RECIPES["16 channels, 3 cells, rate 0.3, average"], seed=1
)

RECIPES |= {
    f"{name}, tuned": with_(RECIPES[name], tune_steps=40, scored_images=4096)
    for name in ("16 channels", "16 channels, rate 0.3, average, long")
}


def space_of(settings: dict[str, Any], pixels: int) -> Space:
    return nasbench201(input_shape=(3, pixels, pixels), **settings)


def truth_of(path: Path) -> tuple[list[Architecture], Numbers, Numbers]:
    """Cells with published accuracies, these, and the cells' sizes."""
    table, space = read_table(path), nasbench201()
    cells = [space.parse(text) for text in table.texts(table.column("architecture"))]
    size = cost_table(space).column("params", [simplified(cell) for cell in cells]).astype(float)
    return cells, _numbers(table, COLUMN), size


def _numbers(table: Table, name: str) -> Numbers:
    """A column of numbers without gaps."""
    ((numbers,), _) = read_numbers(table, [table.column(name)])
    return np.array(numbers, float)


def main() -> None:
    parser = arguments(__doc__ or "", ["all", *RECIPES], with_truth=True)
    parser.add_argument("--figure", type=Path, help="SVG file of one recipe's scores against the truth")
    chosen = parser.parse_args()
    cells, true, size = truth_of(chosen.truth)
    result = joined(chosen.out)
    after_12_epochs = _numbers(read_table(chosen.truth), "cifar10_test_12ep")
    result["12 epochs as published"] = agreement(after_12_epochs, size, true)
    result["size alone"] = agreement(size, size, true)["alone"]
    result["parameters as published"] = agreement(
        cost_table(nasbench201()).column("params", cells).astype(float), size, true
    )["alone"]
    result["best of all"] = float(true.max())
    for name in RECIPES if chosen.recipe == "all" else [chosen.recipe]:
        recipe, place = RECIPES[name], place_of(chosen.work, name)
        if chosen.recipe == "all" and not (place / "scores.json").exists():
            continue
        space = space_of(recipe.settings, recipe.pixels)
        found = run(space, recipe, cells, place, chosen.images)
        result[name] = judged(name, found, place, size, cost_table(space).doublings(cells), true)
        if chosen.figure:
            points = [
                {"score": score, "accuracies": [value]} for score, value in zip(found["accuracy"], true, strict=True)
            ]
            svg = published(points, COLUMN, Unit.of("accuracy"))
            write_text(chosen.figure, svg)
    if chosen.out:
        write_json(chosen.out, result)


if __name__ == "__main__":
    main()
