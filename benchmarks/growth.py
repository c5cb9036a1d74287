"""How the work grows: with the options, the candidates and the examples.

    python benchmarks/growth.py [--out RESULT.json]

- A training step of a network whose choices have 2, 8 and 32 options, one of them live: flat is wanted.
- Scoring 1, 2 and 4 times as many candidates, and examples: linear is wanted.
- 20,000 architectures of the paper's space drawn, made distinct and costed: about a second is wanted.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from measure import arguments, ratios, report
from torch import nn

from supernet import Choose, build, cost_table, score
from supernet.base.randomness import stream
from supernet.search.config import SearchConfig
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation
from supernet.space.choices import Space
from supernet.space.layers import OneShot
from supernet.space.model import from_network
from supernet.spaces import bender
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw

GHOST = 32
STEPS = 40
"""Of a training: what a call of `fit` does once, which grows with the options, is to be a small part of it."""


def with_options(number: int) -> Space:
    def unit() -> nn.Module:
        return nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())

    def make() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1),
            *(Choose(f"layer{i}", {f"option{j}": unit() for j in range(number)}) for i in range(4)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 10),
        )

    return from_network(make, torch.zeros(1, 3, 32, 32))


def main() -> None:
    chosen = arguments(__doc__ or "").parse_args()
    runtime = start(RuntimeConfig(device="cpu", threads=1))
    x = torch.randn(8 * GHOST, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (8 * GHOST,))
    config = TrainConfig(steps=STEPS, batch_size=2 * GHOST, ghost_size=GHOST)

    def training(options: int) -> Callable[[], object]:
        space = with_options(options)
        model = build(space, seed=0)
        uniform = PathsConfig(distribution="uniform")
        generator = stream(0, "paths")
        batch = x[: 2 * GHOST], y[: 2 * GHOST]
        return lambda: fit(
            model, lambda _: batch, STEPS, config, runtime=runtime,
            draw_live=lambda _: draw(space, uniform, 2, 1.0, generator=generator),
        )  # fmt: skip

    space = bender(8, cells=3)
    model = build(space, seed=0)
    costs = cost_table(space)
    drawn = space.sample_distinct(16, generator=torch.Generator().manual_seed(0)) * 4

    def scoring(candidates: int, examples: int) -> Callable[[], object]:
        return lambda: list(score(model, drawn[:candidates], x[:examples], y[:examples], runtime=runtime))

    def many(number: int) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(1)
        return lambda: costs.costs(space.sample_distinct(number, generator=generator))

    result = {
        "options: 2 / 8 / 32, step": ratios({"32": training(32), "8": training(8), "2": training(2)}, chosen.rounds),
        "candidates: 16 / 64, each 64 examples": ratios({"64": scoring(64, 64), "16": scoring(16, 64)}, chosen.rounds),
        "examples: 64 / 256, 16 candidates": ratios({"256": scoring(16, 256), "64": scoring(16, 64)}, chosen.rounds),
        "architectures drawn and costed: 2,000 / 20,000": ratios(
            {"20000": many(20_000), "2000": many(2_000)}, chosen.rounds
        ),
        "memory of the table in MB": memory_of_the_table(model, x, y),
    }
    report(f"python benchmarks/growth.py --rounds {chosen.rounds}", result, chosen.out)


def memory_of_the_table(model: OneShot, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """How much the process grows while so many candidates are scored, on 32 small examples."""
    found = {}
    for number in (200, 800):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with tempfile.TemporaryDirectory() as folder:
            runtime = start(RuntimeConfig(device="cpu", threads=1))
            evaluation = Evaluation(model=model, examples=x[:GHOST], targets=y[:GHOST], runtime=runtime)
            config = SearchConfig(candidates=number)
            search(evaluation, cost_table(model.space), config, seed=0, table=Path(folder) / "c.sqlite")
        found[str(number)] = round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1)
    return found


if __name__ == "__main__":
    main()
