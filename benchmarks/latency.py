"""Predicted latency against measured latency, on networks that the prediction was not fitted to.

    python benchmarks/latency.py --out benchmarks/results/latency.json

For each space the program's own table of latencies is made (`supernet.search.latency`): times of single modules, and a
factor and a time for each call, fitted to 8 whole networks. Then other networks are drawn, measured as wholes in the
same way as those of the fit (each nine times in turns, the fastest counts), and compared with the prediction. One
core, batch size 1. Other work on the machine disturbs both; the result file has the load of the machine (its load
average, in which this benchmark itself counts for 1), and what share of the time the machine stood still.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measure import arguments, report, watching

from supernet import spaces
from supernet.base.files import read_json
from supernet.base.randomness import stream
from supernet.search.latency import ROUNDS, LatencyConfig, latency_costs, timed
from supernet.space.model import build, example_of
from supernet.speed.runtime import RuntimeConfig, start

CPU = torch.device("cpu")
SPACES: dict[str, tuple[str, dict[str, Any]]] = {
    "nasbench201": ("16 channels, 2 cells a stage", {"channels": 16, "cells_per_stage": 2}),
    "bender": ("16 filters", {"filters": 16}),
    "resnet": ("defaults", {}),
    "mobilenet": ("defaults", {}),
}
"""Each space with its settings, in words and as arguments."""


def measured(networks: list[torch.nn.Module], example: torch.Tensor) -> list[int]:
    """Nanoseconds of each network: the fastest of ROUNDS timings in turns, as in the fit."""
    rounds = [[timed(network, (example,), threads=1) for network in networks] for _ in range(ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def compared(name: str, networks: int) -> dict[str, Any]:
    """The table of one space, and how far its predictions are from measured times of other networks."""
    words, settings = SPACES[name]
    space = spaces.SPACES[name](**settings, num_classes=10, input_shape=(3, 32, 32))
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder) / "latency.json", time.perf_counter()
        table = latency_costs(space, LatencyConfig(), CPU, path)
        seconds, facts = time.perf_counter() - began, read_json(path)
    fitted = {row["architecture"] for row in facts["checked"]}
    drawn = space.sample_distinct(networks + len(fitted), generator=stream(0, "latency benchmark"))
    others = [architecture for architecture in drawn if str(architecture) not in fitted][:networks]
    times = measured([build(space, other).eval() for other in others], example_of(space, 1))
    column = table.columns.index("latency")
    predicted = [row[column] for row in table.costs(others).tolist()]
    errors = [abs(guess - true) / true for guess, true in zip(predicted, times, strict=True)]
    return {
        "settings": words,
        "modules timed": len(facts["modules"]),
        "seconds": round(seconds, 1),
        "factor": round(facts["factor"], 3),
        "microseconds for each module": round(facts["each"] / 1000, 2),
        "its own check": {"mean error": round(facts["error"], 4), "largest error": round(facts["largest_error"], 4)},
        "other networks": len(others),
        "mean error": round(statistics.mean(errors), 4),
        "largest error": round(max(errors), 4),
        "predicted ms": [round(value / 1e6, 3) for value in predicted],
        "measured ms": [round(value / 1e6, 3) for value in times],
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--networks", type=int, default=20, help="networks that are not in the fit (default 20)")
    options = parser.parse_args()
    start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch"))
    loads = [os.getloadavg()[0]]
    result: dict[str, Any] = {}
    with watching() as watch:
        for name in SPACES:
            result[name] = compared(name, options.networks)
            loads.append(os.getloadavg()[0])
            print(name, result[name]["mean error"], result[name]["largest error"], file=sys.stderr, flush=True)
        still = watch.still / (time.perf_counter() - watch.began)
    result["load average of the last minute, before and after each"] = [round(load, 1) for load in loads]
    result["standstill"] = round(still, 2)
    report(f"python benchmarks/latency.py --networks {options.networks}", result, options.out)


if __name__ == "__main__":
    main()
