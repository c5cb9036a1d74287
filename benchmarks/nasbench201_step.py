"""A training step in NAS-Bench-201's space, one architecture for all cells, against NNI 3.0's bare loop.

NNI needs older libraries than ours, so it runs in an environment of its own, in a process that is told what to do
(`nni_worker.py`). To make it, and to run the benchmark:

    python3.11 -m venv build/nni
    build/nni/bin/pip install nni==3.0 torch==2.13.0 numpy==1.26.4 pytorch-lightning==1.9.5 "setuptools<81"
    python benchmarks/nasbench201_step.py --nni build/nni/bin/python [--out RESULT.json]

Both sides train the same architectures in the same order, drawn uniformly, a new one for each step, with SGD and
momentum on batches of the same size and as many threads as there are cores. That the two train the same is checked by
the numbers of their parameters, all and live ones. NNI's loop is the plain one, without Lightning: resample, forward,
backward, step; a resample is told what was drawn, which costs it no more than drawing. Ours is `fit`, drawing included,
in the precision that the self-test chose and in single precision, and in two ways: "ours" is what `fit` does by
default, ghost batches of 32 side by side, each on a core; "one ghost batch" has the statistics of the whole batch as
NNI has them, and all cores on each operation.

The machine has to be idle. Where another process takes a core, whoever has all cores on each operation waits at the end
of each one, ten times as long and more, and what has a core to itself does not.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import arguments, ratios, report
from roofline import counted_on, limit
from torch import Tensor

from supernet import build, cost_table
from supernet.base.randomness import stream
from supernet.space.choices import Architecture, Space
from supernet.spaces import nasbench201
from supernet.spaces.blocks import single_picks
from supernet.spaces.nasbench201 import NAMES
from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start
from supernet.train.fit import TrainConfig, fit

GHOST, LR = 32, 0.01


def drawn(space: Space, turn: int, step: int) -> Architecture:
    return space.sample(generator=stream(0, "paths", turn, step))


def in_words_of_nni(architecture: Architecture) -> dict[str, str]:
    picks = zip(NAMES, single_picks(architecture, NAMES), strict=True)
    return {"cell/" + name[4:].replace("-", "_"): option.removeprefix("nor_") for name, option in picks}


@contextmanager
def worker(python: Path, sizes: list[Any]) -> Iterator[tuple[dict[str, Any], Callable[[list[Any]], dict[str, Any]]]]:
    """NNI's process: what it says of itself, and a function that has it train."""
    command = [str(python), str(Path(__file__).with_name("nni_worker.py")), json.dumps([cores(), *sizes, LR])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        answers, orders = process.stdout, process.stdin

        def answer() -> dict[str, Any]:
            line = answers.readline()
            if not line:
                raise SystemExit(f"{python} stopped: its message is above; see --help for how to make the environment")
            return dict(json.loads(line))

        def train(picked: list[Any]) -> dict[str, Any]:
            print(json.dumps(picked), file=orders, flush=True)
            return answer()

        yield answer(), train
        orders.close()


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--nni", type=Path, required=True, help="Python of the environment that has NNI")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=5, help="cells in each of the three stages (default 5)")
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--batch", type=int, default=64, help="images in a step, a multiple of 32 (default 64)")
    parser.add_argument("--steps", type=int, default=40, help="steps, each with its architecture, of a timing")
    chosen = parser.parse_args()
    batch, steps = chosen.batch, chosen.steps
    if not chosen.nni.exists():
        parser.error(f"--nni: {chosen.nni} is not there; --help has the commands that make the environment")
    if batch <= 0 or batch % GHOST or steps <= 0:
        parser.error(f"--batch: expected a multiple of {GHOST}, --steps: at least 1; got {batch} and {steps}")
    space = nasbench201(chosen.channels, chosen.cells, input_shape=(3, chosen.pixels, chosen.pixels))
    x = torch.randn(batch, 3, chosen.pixels, chosen.pixels).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (batch,))

    def ours(precision: Any, ghost_size: int, runtime: Runtime | None = None) -> Callable[[], None]:
        runtime = runtime or start(RuntimeConfig(device="cpu", precision=precision))
        together = ghost_size == batch
        runtime = replace(runtime, threads=1) if together else runtime
        model = build(space, seed=0)
        config = TrainConfig(steps=steps, batch_size=batch, ghost_size=ghost_size, lr=LR)
        turns = iter(range(10**6))

        def work() -> None:
            torch.set_num_threads(cores() if together else 1)
            turn = next(turns)

            def live(step: int) -> Tensor:
                return space.live([drawn(space, turn, step)]).expand(batch // ghost_size, -1)

            fit(model, lambda _: (x, y), steps, config, runtime=runtime, draw_live=live)

        return work

    result: dict[str, Any] = {}
    with worker(chosen.nni, [batch, chosen.channels, chosen.cells, chosen.pixels]) as (versions, train):
        table = cost_table(space)
        everything = sum(p.numel() for p in build(space).parameters())
        assert versions.pop("parameters") == everything, "the two one-shot models differ"

        def theirs() -> Callable[[], None]:
            turns = iter(range(10**6))

            def work() -> None:
                turn = next(turns)
                picked = [drawn(space, turn, step) for step in range(steps)]
                live = train([in_words_of_nni(architecture) for architecture in picked])["live"]
                assert live == table.cost(picked[-1]).params, "the two sides trained different architectures"

            return work

        for precision in ("auto", "32-true"):
            ways: dict[str, Callable[[], object]] = {
                "NNI": theirs(),
                "one ghost batch": ours(precision, batch),
                "ours": ours(precision, GHOST),
            }
            found = ratios(ways, chosen.rounds)
            found["images per second"] = {
                name: round(steps * batch / value, 1) for name, value in found["seconds"].items()
            }
            found["limit"] = limit(ours(precision, GHOST, counted_on(precision)), found["seconds"]["ours"])
            tuning = start(RuntimeConfig(device="cpu", precision=precision)).tuning
            found["precision, layout, kernels"] = [tuning.precision, tuning.layout, *tuning.kernels]
            result[f"--precision {precision}"] = found
    result["NNI's environment"] = versions
    words = [
        f"--{name} {getattr(chosen, name)}" for name in ("channels", "cells", "pixels", "batch", "steps", "rounds")
    ]
    report(f"python benchmarks/nasbench201_step.py --nni {chosen.nni} {' '.join(words)}", result, chosen.out)


if __name__ == "__main__":
    main()
