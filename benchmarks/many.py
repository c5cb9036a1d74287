"""What very many candidates cost the process that searches: time, memory, and the time of a query.

    python benchmarks/many.py [--candidates 200000] [--batch 10000] [--strategy random] [--out RESULT.json]
    python benchmarks/many.py --plot RESULT.json --out docs/results/many.svg

Scores are made from a hash of the architecture's text, in place of a forward pass, so that only the path of the driver
is measured: drawing, costs, the table, the race of examples left out. Three processes, forks of one that has imported
everything: the search, the same search again, which finds all of it in the table, and queries as `supernet top` makes
them. Times are processor times: other work on the machine hardly counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.axes import Axes
from measure import arguments, report

from supernet import build, cost_table
from supernet.base.progress import Watch
from supernet.draw.svg import Drawing, by_itself, svg
from supernet.search import recording
from supernet.search.config import SearchConfig
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation, Outcome
from supernet.search.table import packed, read_best
from supernet.space.choices import Architecture
from supernet.spaces import bender
from supernet.speed.runtime import RuntimeConfig, start

EXAMPLES = 512
POINTS = 20
"""Of the curve of memory."""


def megabytes(name: str) -> float:
    """Memory of this process by the system: VmRSS now, VmHWM at the most."""
    match = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return round(int(match[1]) / 1024, 1)


def synthetic(
    evaluation: Evaluation, architectures: Sequence[Architecture], first: int = 0, last: int | None = None
) -> Iterator[Outcome]:
    """Stands for `supernet.search.scoring.outcomes_of`."""
    count = (EXAMPLES if last is None else last) - first
    for architecture in architectures:
        number = int(hashlib.sha256(str(architecture).encode()).hexdigest()[:8], 16)
        right = np.zeros(count, bool)
        right[: count * (300 + number % 400) // 1000] = True
        yield Outcome(float(right.mean()), 1 + number % 997 / 997, packed(right))


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a fork of this process returns, with its processor time and by how much its memory grew at the most."""
    reading, writing = os.pipe()
    if not os.fork():
        began, before = time.process_time(), megabytes("VmRSS")
        facts = work()
        facts |= {"cpu_seconds": round(time.process_time() - began, 2), "memory_mb": megabytes("VmHWM") - before}
        with os.fdopen(writing, "w") as file:
            json.dump(facts, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        text = file.read()
    os.wait()
    return cast(dict[str, Any], json.loads(text))


def plotted(curve: Sequence[tuple[int, float]]) -> Drawing:
    """The memory of a search over its candidates."""

    def draw(axes: Axes) -> None:
        axes.plot([number / 1000 for number, _ in curve], [memory for _, memory in curve], marker=".")
        axes.set(xlabel="thousand candidates", ylabel="memory of the process (MB)", ylim=(0, None), xlim=(0, None))

    return svg("many", draw)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--candidates", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=10_000, help="candidates of a round")
    parser.add_argument("--strategy", default="random")
    parser.add_argument("--plot", type=Path, help="a result, whose memory is drawn into --out")
    chosen = parser.parse_args()
    if chosen.plot is not None:
        chosen.out.write_text(by_itself(plotted(json.loads(chosen.plot.read_text())["search"]["curve"])))
        return
    recording.outcomes_of = synthetic  # type: ignore[attr-defined]  # in place of forward passes
    space = bender(8, cells=3)
    costs, runtime = cost_table(space), start(RuntimeConfig(device="cpu", threads=1, precision="32-true"))
    examples, targets = torch.zeros(EXAMPLES, *space.input_shape), torch.zeros(EXAMPLES, dtype=torch.long)
    evaluation = Evaluation(model=build(space, seed=0), examples=examples, targets=targets, runtime=runtime)
    config = SearchConfig(candidates=chosen.candidates, batch=chosen.batch, exhaustive=True, strategy=chosen.strategy)
    table = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / "candidates.sqlite"

    def searching() -> dict[str, Any]:
        curve: list[tuple[int, float]] = []

        def note(count: int, total: int, **figures: float) -> None:
            if count % max(1, chosen.candidates // POINTS) == 0:
                curve.append((count, megabytes("VmRSS")))

        number = len(search(evaluation, costs, config, seed=0, table=table, watch=Watch(note)))
        return {"candidates": number, "curve": curve}

    def again() -> dict[str, Any]:
        return {"candidates": len(search(evaluation, costs, config, seed=0, table=table))}

    def query(in_bands: int, bounds: dict[str, tuple[float, float]]) -> Callable[[], dict[str, Any]]:
        return lambda: {"of": read_best(table, 20, in_bands, bounds)[1]}

    middle = float(np.median(costs.column("params", space.sample_distinct(500, generator=torch.Generator()))))
    result = {
        "strategy": chosen.strategy,
        "search": apart(searching),
        "again": apart(again),
        "top": apart(query(1, {})),
        "top in 3 bands": apart(query(3, {})),
        "top below the median size": apart(query(1, {"params": (0.0, middle)})),
        "file_mb": round(table.stat().st_size / 1e6, 1),
    }
    table.unlink()
    table.parent.rmdir()
    command = f"python benchmarks/many.py --candidates {chosen.candidates} --batch {chosen.batch}"
    report(f"{command} --strategy {chosen.strategy}", result, chosen.out)


if __name__ == "__main__":
    main()
