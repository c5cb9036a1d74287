"""Is a strategy worth it? Best-so-far against the number of candidates, over seeds, on exhaustive scores of a space.

    python benchmarks/strategies.py scores --space macro --out benchmarks/results/macro-scores.csv   # makes the scores
    python benchmarks/strategies.py play benchmarks/results/macro-scores.csv --out benchmarks/results/strategies.json

`scores` trains a one-shot model of a small space (digits, for so many epochs) and scores every architecture. `play`
lets every strategy ask, and answers from that table: a CSV file with the columns architecture and score (any other
column is named by --column), for every architecture of the space.
What is best-so-far is given as regret: the best score of the table less the best that was found. Both go on where they
were stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import torch

from supernet import spaces
from supernet.base.files import write_json, write_text
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.data import splits as datasets
from supernet.draw import plots as drawing
from supernet.draw.svg import by_itself
from supernet.program.config import SpaceConfig, make_space
from supernet.search import strategies
from supernet.search.limits import Region
from supernet.search.scoring import score
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw
from supernet.trust.replay import Contest, marks, replay

SIZES: dict[str, dict[str, Any]] = {
    "macro": {"channels": 4},
    "nasbench201": {"channels": 4, "cells_per_stage": 1},
}
CHUNK = 500


def small_space(name: str, size: int) -> Space:
    return spaces.SPACES[name](**SIZES[name], num_classes=10, input_shape=(1, size, size))


def make_scores(name: str, epochs: float, size: int, out: Path) -> None:
    space = small_space(name, size)
    runtime = start(RuntimeConfig(device="cpu", precision="32-true"))
    data_config = datasets.DataConfig(name="digits", validation=400, image_size=size)
    data = datasets.load(data_config, seed=0)
    config = TrainConfig(epochs=epochs, batch_size=128, ghost_size=32, lr=0.1)
    steps = config.total_steps(len(data.train))
    model: Any = build(space, seed=0)
    fit(
        model,
        datasets.feed(data.train, data, data_config, batch_size=128, seed=0, device=runtime.device),
        steps,
        config,
        runtime=runtime,
        draw_live=lambda step: draw(space, PathsConfig(distribution="uniform"), 4, 0.0, generator=stream(0, "p", step)),
        seed=0,
    )
    examples, targets = datasets.prepare(data.validation, data, device=runtime.device)
    wanted = list(space)
    print(f"one-shot model trained for {steps} steps; {len(wanted)} architectures to score", file=sys.stderr)
    rows: list[list[Any]] = []
    if out.exists():
        with out.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
    for first in range(len(rows), len(wanted), CHUNK):
        part = wanted[first : first + CHUNK]
        found = score(model, part, examples, targets, runtime=runtime)
        rows += [[str(a), repr(value)] for a, (value, _) in zip(part, found, strict=True)]
        text = "\n".join(",".join(row) for row in [["architecture", "score"], *rows]) + "\n"
        write_text(out, text)
        print(f"{len(rows)} of {len(wanted)}", file=sys.stderr, flush=True)


def play(
    scores: Path, space_name: str, column: str, names: list[str], seeds: int, budget: int, batch: int, out: Path
) -> None:
    space = make_space(SpaceConfig(name=space_name), 10, "float32 3 32 32")
    with scores.open(newline="") as file:
        known = {str(space.parse(row["architecture"])): float(row[column]) for row in csv.DictReader(file)}
    if len(known) < space.size:
        raise SystemExit(f"{scores}: expected all {space.size:,} architectures of {space_name}, got {len(known):,}")
    top = max(known.values())
    facts = {
        "scores": scores.name,
        "column": column,
        "candidates": len(known),
        "best": top,
        "budget": budget,
        "batch": batch,
    }
    result: dict[str, Any] = {**facts, "torch": torch.__version__, "runs": {}}
    if out.exists():
        before = json.loads(out.read_text())
        if {name: before.get(name) for name in facts} != facts:
            raise SystemExit(f"{out} was made with other settings: delete it or choose another file")
        result = before
    region = Region(space, cost_table(space), merge=False)
    result["runs"], result["regret"] = replay(
        Contest(region, known, budget, batch), {name: {} for name in names}, seeds=seeds, runs=result["runs"],
        save=lambda runs: write_json(out, {**result, "runs": runs}),
        watch=Watch(lambda done, total: print(f"{done}/{total}", file=sys.stderr)),
    )  # fmt: skip
    result["marks"] = marks(budget)
    write_json(out, result)
    for name, row in result["regret"].items():
        print(
            f"{name:12}",
            *(f"{m:.4f} ({a:.4f}-{b:.4f})" for m, a, b in zip(row["median"], row["low"], row["high"], strict=True)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("scores", help="train a one-shot model of a small space and score all of it")
    one.add_argument("--space", choices=SIZES, default="macro")
    one.add_argument("--epochs", type=float, default=30)
    one.add_argument("--size", type=int, default=8, help="pixels of the digits")
    one.add_argument("--out", type=Path, required=True)
    two = commands.add_parser("play", help="let strategies ask, and answer from a table")
    two.add_argument("scores", type=Path)
    two.add_argument("--space", default="macro")
    two.add_argument("--column", default="score")
    two.add_argument("--strategies", default=",".join(s for s in strategies.STRATEGIES if s != "enumeration"))
    two.add_argument("--seeds", type=int, default=20)
    two.add_argument("--budget", type=int, default=1000)
    two.add_argument("--batch", type=int, default=50)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--figure", type=Path, help="SVG file for medians and bands")
    given = parser.parse_args()
    if given.command == "scores":
        make_scores(given.space, given.epochs, given.size, given.out)
    else:
        names = given.strategies.split(",")
        play(given.scores, given.space, given.column, names, given.seeds, given.budget, given.batch, given.out)
        if given.figure is not None:
            found = json.loads(given.out.read_text())
            svg = drawing.strategies(found["marks"], found["regret"], given.column)
            write_text(given.figure, by_itself(svg))


if __name__ == "__main__":
    main()
