"""The paper's space: the scores of a run of paper.sh against longer trainings of the same networks.

    python benchmarks/evidence/paper_truth.py truth CIFAR10 TRUTH WORK --scores SCORES.json [--threads 2] [--repeats 2]
    python benchmarks/evidence/paper_truth.py judge CIFAR10 TRUTH WORK --scores SCORES.json [--run RUN] [--out RESULT]

CIFAR10 is the folder with the images, SCORES.json what paper_results.py wrote, whose networks `truth` trains: on
120,000 images each, three passes over 40,000, where that run's own study saw 50,000. TRUTH is the CSV file that they
are put into, with the columns `architecture`, `accuracy` and `again` (of a second training, or nothing), WORK a folder
for what a stopped command continues from.
`judge` sets the run's scores, those of its sweep of dropout rates, its divergences, sizes and short trainings against
TRUTH, and so the scores of another run of the same space whose one-shot model is trained (--run), on its whole
validation split. Beside RESULT, a JSON file, go the figures that the paper numbers 4 (one for each rate) and 5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from one_shot import (
    Numbers,
    Recipe,
    accuracies_of,
    arguments,
    data_of,
    how_alone,
    made,
    repeated,
    subject_of,
    trained_alone,
)

from supernet.base.files import read_json, write_json, write_text
from supernet.draw import plots as draw
from supernet.draw.svg import by_itself
from supernet.draw.units import Unit
from supernet.program.analyze import divergences_of, scores_of
from supernet.spaces import bender
from supernet.train.fit import TrainConfig
from supernet.trust.correlation import agreement, trust

IMAGES, VALIDATION = 120_000, 10_000
ALONE = TrainConfig(steps=IMAGES // 64, batch_size=64, ghost_size=64, lr=0.05, clip_norm=5.0)
HOW = Recipe(settings={"filters": 8, "cells": 3})


def against(
    points: list[dict[str, Any]], sizes: dict[str, list[float]], sweep: list[dict[str, Any]], true: Numbers
) -> dict[str, Any]:
    """What a study found, against accuracies of longer trainings, [n]."""
    scores, short = ([float(np.mean(point[name])) for point in points] for name in ("score", "accuracies"))
    return {
        "trust": trust(scores, true, sizes, untrained=[p["untrained"] for p in points]),
        "short trainings": agreement(short, true),
        "divergence": agreement([point["divergence"] for point in points], true),
        "sweep": [{"rate": row["rate"], "agreement": agreement(row["scores"], true)} for row in sweep],
    }


def another(run: Path, texts: list[str], true: Numbers, sizes: dict[str, list[float]]) -> dict[str, Any]:
    """The same for another run's one-shot model, whose scores and divergences are taken here."""
    subject = subject_of(run)
    architectures = [subject.model.space.parse(text) for text in texts]
    scores = scores_of(subject, architectures, examples=None)
    divergences = np.array(divergences_of(subject, architectures), float)
    return {
        "scores": scores,
        "divergences": divergences.tolist(),
        "trust": trust(scores, true, sizes),
        "divergence": agreement(divergences, true),
        "divergence with score": agreement(divergences, scores),
    }


def main() -> None:
    parser = arguments(__doc__ or "", ["truth", "judge"], with_truth=True)
    parser.add_argument("--scores", type=Path, required=True, help="what paper_results.py wrote")
    parser.add_argument("--run", type=Path, help="another run, whose one-shot model is trained")
    how_alone(parser)
    chosen = parser.parse_args()
    space = bender(input_shape=(3, HOW.pixels, HOW.pixels), **HOW.settings)
    study = read_json(chosen.scores)
    if chosen.recipe == "truth":
        data, config = data_of(HOW, chosen.images, VALIDATION)
        architectures = [space.parse(point["architecture"]) for point in study["points"]]
        return trained_alone(
            space, architectures, len(architectures), ALONE, data, config, chosen.truth,
            chosen.work / f"truth-{IMAGES}", chosen.threads, chosen.repeats,
        )  # fmt: skip
    texts, true, twice = accuracies_of(chosen.truth)
    of = {point["architecture"]: point for point in study["points"]}
    points = [of[text] for text in texts]
    sizes = {name: [point[name] for point in points] for name in ("params", "macs")}
    places = [study["points"].index(point) for point in points]
    sweep = [{**row, "scores": [row["scores"][place] for place in places]} for row in study["sweep"]]
    result = {
        "made": made(),
        "networks": len(true),
        "images": IMAGES,
        "accuracies": [float(true.min()), float(true.max())],
        "deviation": float(true.std(ddof=1)),
        **against(points, sizes, sweep, true),
    }
    if len(twice):
        result["trained twice"] = repeated(twice)
    if chosen.run:
        result["another run"] = another(chosen.run, texts, true, sizes)
    print(result["trust"]["verdict"])
    if chosen.out:
        write_json(chosen.out, result)
        longer = [{**point, "accuracies": [value]} for point, value in zip(points, true.tolist(), strict=True)]
        metric, score = Unit.of(study["metric"]), Unit.of(study["metric"], study["score"])
        figures = {"fig5": draw.predicts(longer, metric, score)}
        figures |= {f"fig4_{row['rate']:g}": draw.sweep(longer, row, metric, score) for row in sweep}
        for name, svg in figures.items():
            write_text(chosen.out.with_name(f"{chosen.out.stem}_{name}.svg"), by_itself(svg))
    return None


if __name__ == "__main__":
    main()
