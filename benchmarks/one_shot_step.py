"""A training step of the one-shot model in the paper's space, against the plain way and against torch's own kernels.

    python benchmarks/one_shot_step.py [--out RESULT.json] [--filters 16] [--cells 6] [--pixels 32]

The plain way computes every option and multiplies it by its 0 or 1, in single precision and torch's default layout,
with all cores on each operation. It runs in a process of its own, which takes turns with ours, with the defaults of
torch and of the library of C: a setting of ours for the whole process, that freed memory stays in it, would make the
plain way faster too, and nobody's plain loop has it. All make the same step: ghost batches of 32, path dropout with
r = 0.1, SGD with momentum.
Also the peak memory of each in a process of its own, less what the process held before its first step.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from measure import arguments, ratios, report
from roofline import limit
from torch import Tensor, nn

from supernet import build
from supernet.base.randomness import stream
from supernet.space.layers import Choose, live_paths
from supernet.space.network import replace_modules
from supernet.spaces import bender
from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start
from supernet.speed.tune import Tuning
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw

GHOST = 32
STEPS = 4  # of each timing, so that what a call of `fit` does once does not count as much as a step


class Plain(nn.Module):
    """Every option computed, multiplied by 0 or 1."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self.options, self.each_input, self.name = choose.options, choose.each_input, choose.choice.name

    def forward(self, x: Tensor | list[Tensor]) -> Tensor:
        live = live_paths()
        picked = live.picks[live.ghosts[0]][self.name]
        total: Tensor | float = 0.0
        for index, option in enumerate(self.options):
            total = total + option(x[index] if self.each_input else x) * float(index in picked)
        assert isinstance(total, Tensor)
        return total


def steps(
    filters: int,
    cells: int,
    pixels: int,
    ghosts: int,
    only: Sequence[str] = ("fp32, torch's kernels", "fp32", "ours"),
) -> dict[str, Callable[[], None]]:
    space = bender(filters, cells=cells, input_shape=(3, pixels, pixels))
    x = torch.randn(ghosts * GHOST, 3, pixels, pixels)
    y = torch.randint(0, 10, (ghosts * GHOST,))
    config = TrainConfig(steps=STEPS, batch_size=ghosts * GHOST, ghost_size=GHOST, lr=0.001)
    drawn = [
        draw(space, PathsConfig(schedule="constant"), ghosts, 1.0, generator=stream(0, "paths", i)) for i in range(100)
    ]

    def way(
        make: Callable[[nn.Module], nn.Module], threads: int, layout: torch.memory_format, /, **settings: Any
    ) -> Any:
        settings = {"device": "cpu", "threads": None if threads == 1 else 1, **settings}
        runtime = defaults() if layout == torch.contiguous_format else start(RuntimeConfig(**settings))
        model = build(space, seed=0)
        model.network = make(model.network)
        images = x.contiguous(memory_format=layout)
        turn = iter(range(10**6))

        def work() -> None:
            torch.set_num_threads(threads)
            lives = [drawn[next(turn) % len(drawn)] for _ in range(STEPS)]
            fit(model, lambda _: (images, y), STEPS, config, runtime=runtime, draw_live=lambda step: lives[step])

        return work

    def plain(network: nn.Module) -> nn.Module:
        return replace_modules(network, lambda m: Plain(m) if isinstance(m, Choose) else m)

    ways = {
        "plain": lambda: way(plain, cores(), torch.contiguous_format),
        "fp32, torch's kernels": lambda: way(copy.copy, 1, torch.channels_last, precision="32-true", kernels="torch"),
        "fp32": lambda: way(copy.copy, 1, torch.channels_last, precision="32-true"),
        "ours": lambda: way(copy.copy, 1, torch.channels_last),
        "counted": lambda: way(copy.copy, 1, torch.channels_last, threads=1, kernels="torch"),
    }
    return {name: ways[name]() for name in only}


def defaults() -> Runtime:
    """Nothing set: not what `start` sets for the whole process."""
    fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
    return Runtime(fabric, 1, Tuning(layout="contiguous_format"))


@contextmanager
def process(name: str, options: list[str]) -> Iterator[Callable[[], None]]:
    """One of the ways, in a process of its own."""
    command = [sys.executable, __file__, "--process", name, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None and child.stdout is not None
        orders, answers = child.stdin, child.stdout

        def work() -> None:
            print(file=orders, flush=True)
            if answers.readline() != "done\n":
                raise SystemExit(f"the process with the {name} way stopped: its message is above")

        yield work
        orders.close()


def peak_memory(name: str, sizes: tuple[int, int, int, int]) -> int:
    """Bytes, of this process."""
    (work,) = steps(*sizes, [name]).values()
    before = resident("VmRSS")
    work()
    work()
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Bytes of memory of this process, now or at the most. (`getrusage` would tell of the one that started it.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(what)).split()[1])


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--filters", type=int, default=16)
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--ghosts", type=int, default=4, help="ghost batches in a step (default 4)")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sizes = (chosen.filters, chosen.cells, chosen.pixels, chosen.ghosts)
    if chosen.memory:
        print(peak_memory(chosen.memory, sizes))
        return
    if chosen.process:
        (work,) = steps(*sizes, [chosen.process]).values()
        for _ in sys.stdin:
            work()
            print("done", flush=True)
        return
    words = ["--filters", "--cells", "--pixels", "--ghosts"]
    options = [text for pair in zip(words, map(str, sizes), strict=True) for text in pair]
    with process("plain", options) as plain:
        result = ratios({"plain": plain, **steps(*sizes)}, chosen.rounds)
    result["images per second"] = {
        name: round(STEPS * chosen.ghosts * GHOST / value, 1) for name, value in result["seconds"].items()
    }
    (counted,) = steps(*sizes, ["counted"]).values()
    result["limit"] = limit(counted, result["seconds"]["ours"])
    memory = {}
    for name in ("plain", "ours"):
        command = [sys.executable, __file__, "--memory", name, *options]
        memory[name] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    result["peak memory in MB"] = {name: round(value / 1e6, 1) for name, value in memory.items()}
    result["peak memory, ours / plain"] = round(memory["ours"] / memory["plain"], 3)
    tuning = start(RuntimeConfig(device="cpu")).tuning
    result["precision, layout, kernels"] = [tuning.precision, tuning.layout, *tuning.kernels]
    report(f"python benchmarks/one_shot_step.py {' '.join(options)} --rounds {chosen.rounds}", result, chosen.out)


if __name__ == "__main__":
    main()
