"""Ghost batches side by side, one core each, against one after the other with all cores on each operation.

    python benchmarks/side_by_side.py [RESULT.json]

Alternates the two in one process, on a training step of the paper's space at two sizes, and prints the ratio of their
times: median, smallest and largest. Also scoring with one ghost batch in a forward pass against eight.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from supernet import build, score
from supernet.model import OneShot
from supernet.paths import PathsConfig, draw
from supernet.randomness import stream
from supernet.runtime import RuntimeConfig, cores, start
from supernet.spaces import bender
from supernet.train import TrainConfig, fit

GHOSTS, SIZE, ROUNDS = 8, 32, 7


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratios(slow: Callable[[], object], fast: Callable[[], object]) -> dict[str, float]:
    slow(), fast()
    pairs = [(seconds(slow), seconds(fast)) for _ in range(ROUNDS)]
    found = [a / b for a, b in pairs]
    return {
        "median": round(statistics.median(found), 3),
        "smallest": round(min(found), 3),
        "largest": round(max(found), 3),
        "images_per_second": round(GHOSTS * SIZE / statistics.median(b for _, b in pairs), 1),
    }


def case(filters: int, cells: int, pixels: int, channels: int) -> dict[str, dict[str, float]]:
    space = bender(filters, cells=cells, input_shape=(channels, pixels, pixels))
    model = build(space, seed=0)
    assert isinstance(model, OneShot)
    x = torch.randn(GHOSTS * SIZE, channels, pixels, pixels).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (GHOSTS * SIZE,))
    config = TrainConfig(steps=1, batch_size=GHOSTS * SIZE, ghost_size=SIZE)
    here = start(RuntimeConfig(device="cpu"))
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

    return {
        "training: all cores on each operation / side by side": ratios(step(cores()), step(1)),
        "scoring: 8 ghost batches in a forward pass / 1": ratios(scoring(8), scoring(1)),
    }


def main() -> None:
    result = {
        "command": "python benchmarks/side_by_side.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {cores()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "F=8, 3 cells, 28 pixels": case(8, 3, 28, 1),
        "F=16, 6 cells, 32 pixels": case(16, 6, 32, 3),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n")


if __name__ == "__main__":
    main()
