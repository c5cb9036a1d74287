"""Known networks, random architectures of `convnet` and single choices, trained alike at the same size.

    python benchmarks/evidence/by_hand.py --cifar10 FOLDER [--cases GROUP ...] [--only NAME ...] [--data NAME ...]
        [--seeds N ...] [--out RESULT.json]

Every network has as many channels as --max-params allows, is trained from scratch on the same --train-images images of
16 pixels with the same settings, and is measured on 5,000 validation images; the test splits stay closed. Groups:

- `references`: the networks of `supernet.spaces.references`;
- `choices`: resnet8 with one thing changed, its width fitted anew ("as torch begins": convolutions with the initial
  values of torch); and other references with the last scale of each residual branch at zero;
- `random`: architectures of `convnet` at the scale of the limit, drawn uniformly among those within 80 % of it.

What the result file holds already is not trained again. One thread; torch's own kernels in single precision.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from one_shot import joined, made
from torch import nn

from supernet import build, fit
from supernet.base.files import write_json
from supernet.base.randomness import derive, stream
from supernet.data.splits import Data, DataConfig, batches, feed, load
from supernet.retrain.trainings import evaluate
from supernet.space.choices import Architecture, Space
from supernet.space.cost import measure
from supernet.space.network import without_data
from supernet.spaces.convnet import convnet
from supernet.spaces.references import REFERENCES, scale_for, settings_of, widest, within
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train.fit import TrainConfig

PIXELS, VALIDATION, RANDOM = 16, 5000, 12
TRAIN: dict[str, Any] = {"batch_size": 64, "ghost_size": 64, "lr": 0.1, "weight_decay": 5e-4, "warmup": 0.1}
CHOICES: dict[str, dict[str, Any]] = {
    "last scale at zero": {"zero_last": True},
    "as torch begins": {},
    "strides 1-1-2": {"strides": ("1-1-2",)},
    "strides 1-2-1": {"strides": ("1-2-1",)},
    "strides 2-2-2": {"strides": ("2-2-2",)},
    "strides 1-1-1": {"strides": ("1-1-1",)},
    "gelu": {"activations": ("gelu",)},
    "silu": {"activations": ("silu",)},
    "squeeze and excitation": {"attentions": ("se",)},
    "head with a convolution": {"heads": ("conv",)},
    "half as wide inside": {"expansions": (2,)},
    "half as wide again inside": {"expansions": (6,)},
    "bottleneck, a quarter": {"blocks": ("bottleneck",), "expansions": (2,), "depths": (2,)},
    "bottleneck, a half": {"blocks": ("bottleneck",), "expansions": (4,), "depths": (2,)},
    "inverted, kernel 3, 4 times": {"blocks": ("inverted",)},
    "inverted, kernel 5, 4 times": {"blocks": ("inverted",), "kernels": (5,)},
    "inverted, kernel 3, 2 times": {"blocks": ("inverted",), "expansions": (2,)},
    "convnext, kernel 3, 4 times": {"blocks": ("convnext",)},
    "convnext, kernel 5, 4 times": {"blocks": ("convnext",), "kernels": (5,)},
}
AT_ZERO = ("resnet14", "resnet20", "resnet18", "mobilenetv2", "convnext")
"""References that are trained with the last scale of each residual branch at zero, too."""

Case = tuple[Space, Architecture]


def cases(group: str, shape: tuple[int, int, int], limit: int) -> Iterator[tuple[str, Case]]:
    """The networks of a group by their names."""
    if group == "random":
        space = convnet(10, shape, scale_for(10, shape, max_params=limit))
        generator, found = stream(0, "random members"), 0
        while found < RANDOM:
            architecture = space.sample(generator=generator)
            if 0.8 * limit <= cost_of((space, architecture))["params"] <= limit:
                found += 1
                yield f"random {found}", (space, architecture)
        return
    changed = {name: settings_of(name) for name in REFERENCES}
    if group == "choices":
        changed = {name: {**settings_of("resnet8"), **changes} for name, changes in CHOICES.items()}
        changed |= {f"{name}, last scale at zero": {**settings_of(name), "zero_last": True} for name in AT_ZERO}
    for name, settings in changed.items():
        make = partial(convnet, 10, shape, **settings)
        space = make(width=widest(lambda width, make=make: make(width=width), within(max_params=limit)))  # type: ignore[misc]  # its default
        yield name, (space, space.at(0))


def cost_of(case: Case) -> dict[str, int]:
    space, architecture = case
    with without_data():
        cost = measure(build(space, architecture), space.input_shape)
    return {"params": cost.params, "macs": cost.macs}


def trained(
    label: str, case: Case, data: Data, config: DataConfig, images: int, seed: int, runtime: Runtime
) -> dict[str, float]:
    """Validation accuracy of a network after its training, and how long that took."""
    train = TrainConfig(steps=images // TRAIN["batch_size"], **TRAIN)
    own = derive(seed, "by hand", str(case[1]))
    network = build(*case, seed=own)
    if label == "as torch begins":
        with torch.random.fork_rng():
            torch.manual_seed(own)
            for module in network.modules():
                if isinstance(module, nn.Conv2d):
                    module.reset_parameters()
    batch = feed(data.train, data, config, batch_size=train.batch_size, seed=seed, device=runtime.device)
    began = time.process_time()
    history = fit(network, batch, train.total_steps(len(data.train)), train, runtime=runtime, seed=own)
    took = time.process_time() - began
    accuracy = evaluate(network, batches(data.validation, data, device=runtime.device), runtime=runtime)
    return {"accuracy": round(accuracy, 4), "loss": round(history[-1]["loss"], 4), "seconds": round(took, 1)}


def summary(results: dict[str, Any]) -> None:
    """Adds to each data set the mean over seeds of each network, the best first, with its standard error."""
    for of in results.values():
        means: dict[str, list[float | None]] = {}
        for name, row in of["networks"].items():
            values = 100 * np.array([run["accuracy"] for run in row["runs"].values()])
            error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            means[name] = [round(float(values.mean()), 2), None if np.isnan(error) else round(float(error), 2)]
        ordered = sorted(means.items(), key=lambda pair: pair[1][0] or 0, reverse=True)
        of["mean accuracy, %, and its standard error"] = dict(ordered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", help="folder of CIFAR-10's parquet files")
    parser.add_argument("--data", nargs="+", default=["cifar10", "fashion-mnist"], choices=["cifar10", "fashion-mnist"])
    parser.add_argument("--cases", nargs="+", default=["references", "choices", "random"])
    parser.add_argument("--only", nargs="+", help="names of networks; the others are left out")
    parser.add_argument("--max-params", type=int, default=60_000)
    parser.add_argument("--train-images", type=int, default=5000)
    parser.add_argument("--images", type=int, default=60_000, help="images that a training sees")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=1e9, help="no training is begun after so many seconds of CPU")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1))
    found = joined(chosen.out)
    found.setdefault(
        "command", "python benchmarks/evidence/by_hand.py --cifar10 FOLDER, in parts by --only and --seeds"
    )
    how = {"max_params": chosen.max_params, "train_images": chosen.train_images, "images": chosen.images, **TRAIN}
    if found.setdefault("settings", how) != how:
        parser.error(f"--out: {chosen.out} holds results of other settings, {found['settings']}")
    for seed in chosen.seeds:
        for name in chosen.data:
            config = DataConfig(
                name=name, path=chosen.cifar10 if name == "cifar10" else None, validation=VALIDATION,
                train_examples=chosen.train_images, image_size=PIXELS, crop=2, flip=True,
            )  # fmt: skip
            data = load(config, seed=0)
            channels, height, width = data.input_shape
            of = found.setdefault("results", {}).setdefault(name, {"networks": {}})
            for group in chosen.cases:
                for label, case in cases(group, (channels, height, width), chosen.max_params):
                    if chosen.only and label not in chosen.only:
                        continue
                    row = of["networks"].setdefault(
                        label,
                        {
                            "group": group,
                            "width": dict(case[0].settings)["width"],
                            "architecture": str(case[1]),
                            **cost_of(case),
                            "runs": {},
                        },
                    )
                    if str(seed) in row["runs"]:
                        continue
                    if time.process_time() > chosen.seconds:
                        return
                    row["runs"][str(seed)] = trained(label, case, data, config, chosen.images, seed, runtime)
                    print(name, label, seed, row["params"], row["macs"], row["runs"][str(seed)], flush=True)
                    if chosen.out:
                        summary(found["results"])
                        write_json(chosen.out, {**found, "made": made()})


if __name__ == "__main__":
    main()
