"""Training of stand-alone networks by `fit`, against an ordinary loop on the same networks and images.

    python benchmarks/stand_alone.py [--out RESULT.json] [--precision 32-true]

The ordinary loop is what people write: a DataLoader with two workers that stay, images cropped, mirrored and normalised
one by one, single precision, torch's default layout, all cores on each operation, SGD with momentum. A network of the
paper's space (F=16, 6 cells) and one of NAS-Bench-201's (C=16, N=5), on random images of 32x32 px in batches of 64.

Three ways of ours, with `data.feed`, and in ghost batches of 32 where nothing else is said:

- "ours": a network on each core at the same time, as `supernet retrain` trains finalists; all of them together see as
  many images as the one network of the ordinary loop.
- "one network": a single call of `fit`, its ghost batches side by side.
- "one network, all cores on each operation": on whole batches.

Then the share of a step that goes into feeding it: `feed` alone, on one core, against `fit`.

The machine has to be idle, for the reason given in `nasbench201_step.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from measure import arguments, ratios, report
from roofline import counted_on, limit
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from supernet import build, cost_table, from_arrays
from supernet.base.randomness import stream
from supernet.data import splits as data
from supernet.space.choices import Space
from supernet.spaces import bender, nasbench201
from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start
from supernet.train.fit import TrainConfig, fit

BATCH, GHOST, CROP, LR = 64, 32, 4, 0.01


class Images(Dataset[tuple[Tensor, Tensor]]):
    """Images augmented one by one, as it is usually written."""

    def __init__(self, split: data.Split, known: data.Data) -> None:
        self.images, self.labels = split.examples, split.targets
        self.mean, self.std = torch.tensor(known.mean).view(3, 1, 1), torch.tensor(known.std).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = self.images[index]
        height, width = image.shape[1:]
        top, left = torch.randint(2 * CROP + 1, (2,)).tolist()
        image = F.pad(image, (CROP,) * 4)[:, top : top + height, left : left + width]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image.float() / 255 - self.mean) / self.std, self.labels[index]


def case(space: Space, train: data.Split, known: data.Data, chosen: Any) -> dict[str, Any]:
    architecture = space.sample(generator=stream(chosen.seed, "architecture"))
    runtime = start(RuntimeConfig(device="cpu", precision=chosen.precision))
    settings = data.DataConfig(crop=CROP, flip=True)
    steps = chosen.steps

    def ordinary() -> Callable[[], None]:
        network = build(space, architecture, seed=0).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-4)
        loader = DataLoader(
            Images(train, known), BATCH, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True
        )

        def endless() -> Iterator[list[Tensor]]:
            while True:
                yield from loader

        batches = endless()

        def work() -> None:
            torch.set_num_threads(cores())
            for images, labels in islice(batches, steps):
                loss = F.cross_entropy(network(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        return work

    def trained(number: int, of: int, ghost_size: int) -> Callable[[Runtime], object]:
        """Trains one of so many networks for its part of the steps."""
        network = build(space, architecture, seed=number)
        feed = data.feed(train, known, settings, batch_size=BATCH, seed=number, device=runtime.device)
        config = TrainConfig(steps=steps // of, batch_size=BATCH, ghost_size=ghost_size, lr=LR)
        return lambda here: fit(network, feed, steps // of, config, runtime=here)

    def alone(ghost_size: int, threads: int) -> Callable[[], None]:
        one = trained(0, 1, ghost_size)

        def work() -> None:
            torch.set_num_threads(threads)
            one(runtime)

        return work

    def side_by_side() -> Callable[[], None]:
        networks = [trained(number, cores(), GHOST) for number in range(cores())]

        def work() -> None:
            torch.set_num_threads(1)
            with runtime.workers() as run:
                list(run(lambda one: one(runtime.one_thread()), networks))

        return work

    single = alone(GHOST, 1)
    found = ratios(
        {
            "ordinary loop": ordinary(),
            "one network": single,
            "one network, all cores on each operation": alone(BATCH, cores()),
            "ours": side_by_side(),
        },
        chosen.rounds,
    )
    seconds = found["seconds"]
    found["images per second"] = {name: round(steps * BATCH / value, 1) for name, value in seconds.items()}
    found["times the ordinary loop, by medians"] = {
        name: round(seconds["ordinary loop"] / value, 2) for name, value in seconds.items()
    }

    feed = data.feed(train, known, settings, batch_size=BATCH, seed=0, device=runtime.device)

    def feeding() -> None:
        torch.set_num_threads(1)
        for step in range(steps):
            feed(step)

    share = ratios({"feeding": feeding, "fit": single}, chosen.rounds)
    found["share of feeding in a step"] = share["feeding / fit"]
    found["ms of feeding a step"] = round(1000 * share["seconds"]["feeding"] / steps, 3)
    counted = trained(0, 1, GHOST)
    found["limit"] = limit(lambda: counted(counted_on(chosen.precision)), seconds["ours"])
    cost = cost_table(space).cost(architecture)
    found["network"] = {"architecture": str(architecture), "parameters": cost.params, "macs": cost.macs}
    tuning = runtime.tuning
    found["precision, layout, kernels"] = [tuning.precision, tuning.layout, *tuning.kernels]
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--precision", choices=["auto", "32-true", "bf16-mixed"], default="auto")
    parser.add_argument("--images", type=int, default=10_000, help="three quarters of them are trained on")
    parser.add_argument("--steps", type=int, default=10, help="steps of a timing, a multiple of the cores (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the architectures (default 0)")
    chosen = parser.parse_args()
    if chosen.steps % cores():
        parser.error(f"--steps: expected a multiple of the {cores()} cores, got {chosen.steps}")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (chosen.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(chosen.images) % 10
    known, _ = from_arrays(images, labels, seed=0, validation=chosen.images // 20)
    result = {
        "bender, F=16, 6 cells": case(bender(16, cells=6), known.train, known, chosen),
        "nasbench201, C=16, N=5": case(nasbench201(16, 5), known.train, known, chosen),
    }
    words = [f"--{name} {getattr(chosen, name)}" for name in ("precision", "images", "steps", "seed", "rounds")]
    report(f"python benchmarks/stand_alone.py {' '.join(words)}", result, chosen.out)


if __name__ == "__main__":
    main()
