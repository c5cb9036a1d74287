"""Ghost batches side by side, one core each, against one after the other with all cores on each operation.

    python benchmarks/side_by_side.py [--out RESULT.json]

On a training step of the paper's space at two sizes, in single precision with torch's own operations. Also scoring with
one ghost batch in a forward pass against eight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from measure import arguments, ratios, report

from supernet import build, score
from supernet.base.randomness import stream
from supernet.spaces import bender
from supernet.speed.runtime import RuntimeConfig, cores, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw

GHOSTS, SIZE = 8, 32


def case(filters: int, cells: int, pixels: int, channels: int, rounds: int) -> dict[str, Any]:
    space = bender(filters, cells=cells, input_shape=(channels, pixels, pixels))
    model = build(space, seed=0)
    x = torch.randn(GHOSTS * SIZE, channels, pixels, pixels).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (GHOSTS * SIZE,))
    config = TrainConfig(steps=1, batch_size=GHOSTS * SIZE, ghost_size=SIZE)
    here = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch"))
    dropout = PathsConfig(schedule="constant")
    live = draw(space, dropout, GHOSTS, 1.0, generator=stream(0, "paths"))

    def step(threads_for_each: int) -> Callable[[], object]:
        runtime = here if threads_for_each == 1 else replace(here, threads=1)

        def work() -> None:
            torch.set_num_threads(threads_for_each)
            fit(model, lambda _: (x, y), 1, config, runtime=runtime, draw_live=lambda _: live)

        return work

    candidates = space.sample_distinct(2, generator=stream(0, "candidates"))

    def scoring(together: int) -> Callable[[], object]:
        def work() -> None:
            torch.set_num_threads(1)
            list(score(model, candidates, x, y, runtime=here, ghost_size=SIZE, ghosts_per_forward=together))

        return work

    training = {"all cores on each operation": step(cores()), "side by side": step(1)}
    scored = {f"{GHOSTS} ghost batches in a forward pass": scoring(GHOSTS), "1": scoring(1)}
    found = {"training": ratios(training, rounds), "scoring": ratios(scored, rounds)}
    for part in found.values():
        part["images per second"] = {name: round(GHOSTS * SIZE / value, 1) for name, value in part["seconds"].items()}
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=7)
    chosen = parser.parse_args()
    result = {
        "F=8, 3 cells, 28 pixels": case(8, 3, 28, 1, chosen.rounds),
        "F=16, 6 cells, 32 pixels": case(16, 6, 32, 3, chosen.rounds),
    }
    report(f"python benchmarks/side_by_side.py --rounds {chosen.rounds}", result, chosen.out)


if __name__ == "__main__":
    main()
