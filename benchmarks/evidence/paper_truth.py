"""The paper's space: the scores of a run of paper.sh against longer trainings of the same networks.

    python benchmarks/evidence/paper_truth.py truth CIFAR10 TRUTH WORK --scores SCORES.json [--threads 2] [--repeats 2]
    python benchmarks/evidence/paper_truth.py judge CIFAR10 TRUTH WORK --scores SCORES.json [--out RESULT.json]

CIFAR10 is the folder with the images, SCORES.json what paper_results.py wrote, whose networks `truth` trains: on
160,000 images each, four passes over 40,000, where that run's own study saw 50,000. TRUTH is the CSV file that they
are put into, with the columns `architecture`, `accuracy` and `again` (of a second training, or nothing), WORK a folder
for what a stopped command continues from.
`judge` sets the run's scores, those of its sweep of dropout rates, its divergences, sizes and short trainings against
TRUTH.
"""

from __future__ import annotations

from pathlib import Path

from one_shot import Recipe, arguments, data_of, how_alone, trained_alone

from supernet.files import read_json
from supernet.spaces import bender
from supernet.train import TrainConfig

IMAGES, VALIDATION = 160_000, 10_000
ALONE = TrainConfig(steps=IMAGES // 64, batch_size=64, ghost_size=64, lr=0.05, clip_norm=5.0)
HOW = Recipe(settings={"filters": 8, "cells": 3})


def main() -> None:
    parser = arguments(__doc__ or "", ["truth", "judge"], with_truth=True)
    parser.add_argument("--scores", type=Path, required=True, help="what paper_results.py wrote")
    how_alone(parser)
    chosen = parser.parse_args()
    space = bender(input_shape=(3, HOW.pixels, HOW.pixels), **HOW.settings)
    architectures = [space.parse(point["architecture"]) for point in read_json(chosen.scores)["points"]]
    if chosen.recipe == "truth":
        data, config = data_of(HOW, chosen.images, VALIDATION)
        trained_alone(
            space, architectures, ALONE, data, config, chosen.truth, chosen.work / f"truth-{IMAGES}",
            chosen.threads, chosen.repeats,
        )  # fmt: skip


if __name__ == "__main__":
    main()
