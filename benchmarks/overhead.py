"""What the one-shot model costs beyond the network that is live in it, and what the choosing costs.

    python benchmarks/overhead.py [--out RESULT.json]

A step of the one-shot model of the paper's space with one architecture live in all ghost batches, against the same step
of the stand-alone network of that architecture: same settings, one ghost batch after the other. Then the share of a
step with path dropout that goes into drawing live paths and deciding what to run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from measure import arguments, ratios, report
from roofline import counted_on, limit

from supernet import build
from supernet.base.randomness import stream
from supernet.space.layers import picks_of
from supernet.spaces import bender
from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw

GHOST = 32


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--ghosts", type=int, default=4)
    chosen = parser.parse_args()
    ghosts = chosen.ghosts
    space = bender(chosen.filters, cells=chosen.cells)
    runtime = start(RuntimeConfig(device="cpu", threads=1))
    x = torch.randn(ghosts * GHOST, 3, 32, 32).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (ghosts * GHOST,))
    config = TrainConfig(steps=1, batch_size=ghosts * GHOST, ghost_size=GHOST, lr=0.001)
    architecture = space.sample(generator=torch.Generator().manual_seed(0))
    one_shot, alone = build(space, seed=0), build(space, architecture, seed=0)
    one_live = space.live([architecture]).expand(ghosts, -1)
    dropout = PathsConfig(schedule="constant")

    def step_of_one_shot() -> None:
        fit(one_shot, lambda _: (x, y), 3, config, runtime=runtime, draw_live=lambda _: one_live)

    def step_alone(runtime: Runtime = runtime) -> None:
        fit(alone, lambda _: (x, y), 3, config, runtime=runtime)

    def step_with_dropout() -> None:
        fit(one_shot, lambda _: (x, y), 1, config, runtime=runtime, draw_live=lambda _: choosing())

    def choosing() -> torch.Tensor:
        live = draw(space, dropout, ghosts, 1.0, generator=stream(0, "paths", 0))
        picks_of(space, live)
        return live

    def choosing_often() -> None:
        for _ in range(20):
            choosing()

    compared: dict[str, Callable[[], object]] = {"one-shot, one architecture": step_of_one_shot, "alone": step_alone}
    result = ratios(compared, chosen.rounds)
    parts = ratios({"step": step_with_dropout, "choosing, 20 times": choosing_often}, chosen.rounds)
    seconds = parts["seconds"]
    result["share of choosing in a step"] = round(seconds["choosing, 20 times"] / 20 / seconds["step"], 5)
    # Both ways use one core only.
    result["limit"] = limit(lambda: step_alone(counted_on()), result["seconds"]["alone"] / cores())
    words = f"--filters {chosen.filters} --cells {chosen.cells} --ghosts {ghosts} --rounds {chosen.rounds}"
    report(f"python benchmarks/overhead.py {words}", result, chosen.out)


if __name__ == "__main__":
    main()
