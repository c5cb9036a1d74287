"""Candidates of a run, drawn at random and trained from scratch: a table of scores and accuracies for other scripts.

    python benchmarks/evidence/truth.py RUN OUT.csv [--networks 60] [--steps N] [--seed 0]

RUN is a run folder whose search is over. The networks are drawn from its candidates, and trained one after the other by
the run's recipe for stand-alone networks, on one core; accuracies are those of the validation split. The table has the
columns `architecture`, `truth`, `score` (without a bonus for size), `params`, `macs` and `seconds` of processor time.
Networks that the table holds already are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import time
from dataclasses import replace
from pathlib import Path

import torch

from supernet import build, fit
from supernet.base.csv_file import read_table
from supernet.base.files import write_text
from supernet.base.randomness import derive, stream
from supernet.data.splits import batches, feed
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.retrain.trainings import evaluate
from supernet.search.table import read_candidates
from supernet.speed.runtime import start

HEADER = ["architecture", "truth", "score", "params", "macs", "seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=60)
    parser.add_argument("--steps", type=int, help="of each training; as the run's retrain step if not given")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    run = load_run(open_run(chosen.run))
    config, data = run.config, run.data
    settings = config.retrain.train if chosen.steps is None else replace(config.retrain.train, steps=chosen.steps)
    runtime = start(config.runtime).one_thread()
    scored = [c for c in read_candidates(run.folder.candidates, run.space) if math.isfinite(c.value)]
    order = torch.randperm(len(scored), generator=stream(chosen.seed, "truth")).tolist()
    rows = [list(row.cells) for row in read_table(chosen.out).rows] if chosen.out.exists() else []
    trained = {row[0] for row in rows}
    for candidate in (scored[i] for i in order[: chosen.networks]):
        text = str(candidate.architecture)
        if text in trained:
            continue
        seed = derive(chosen.seed, "truth", candidate.architecture.id)
        began = time.process_time()
        network = build(run.space, candidate.architecture, seed=seed)
        batch = feed(
            data.train, data, config.data, batch_size=settings.batch_size, seed=seed, device=runtime.device
        )  # fmt: skip
        fit(network, batch, settings.total_steps(len(data.train)), settings, runtime=runtime, seed=seed)
        accuracy = evaluate(network, batches(data.validation, data, device=runtime.device, size=500), runtime=runtime)
        costs = [str(candidate.params), str(candidate.macs)]
        seconds = f"{time.process_time() - began:.1f}"
        rows.append([text, repr(accuracy), repr(candidate.value), *costs, seconds])
        print(len(rows), f"{accuracy:.4f}", text, flush=True)
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows([HEADER, *rows])
        write_text(chosen.out, buffer.getvalue())


if __name__ == "__main__":
    main()
