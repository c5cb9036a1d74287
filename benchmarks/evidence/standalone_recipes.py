"""Which training of stand-alone networks is best: one setting changed at a time, on three data sets.

    python benchmarks/evidence/standalone_recipes.py --cifar10 FOLDER [--steps N] [--seeds N ...] [--out RESULT.json]

Two networks of up to 60 k parameters at 16 pixels, resnet8 and a ConvNeXt-like one whose first stage keeps the
resolution, are trained with each recipe and measured on validation images; the test splits stay closed. Data: CIFAR-10,
Fashion-MNIST, and 4,000 images of CIFAR-10 as a small set of photos. What the result file holds already is not trained
again.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from one_shot import joined, made

from supernet import build, fit
from supernet.base.files import write_json
from supernet.base.randomness import derive
from supernet.data.splits import DataConfig, batches, feed, load
from supernet.retrain.trainings import evaluate
from supernet.spaces.convnet import convnet
from supernet.spaces.references import settings_of, widest, within
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig

PIXELS, MOST_PARAMS = 16, 60_000
DEFAULT: dict[str, Any] = {"batch_size": 64, "ghost_size": 64, "lr": 0.1, "weight_decay": 5e-4, "warmup": 0.1}
ADAMW: dict[str, Any] = {"optimizer": "AdamW", "optimizer_settings": {}, "decoupled_decay": True}
RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    "rate 0.05": {"lr": 0.05},
    "rate 0.2": {"lr": 0.2},
    "no warm-up": {"warmup": 0.0},
    "decay 1e-4": {"weight_decay": 1e-4},
    "decay 2e-3": {"weight_decay": 2e-3},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "batch 128, rate 0.2": {"batch_size": 128, "ghost_size": 128, "lr": 0.2},
    "batch 32, rate 0.05": {"batch_size": 32, "ghost_size": 32, "lr": 0.05},
    "AdamW 0.003": {**ADAMW, "lr": 0.003, "weight_decay": 0.05},
    "AdamW 0.01": {**ADAMW, "lr": 0.01, "weight_decay": 0.05},
}
"""What differs from `DEFAULT`; batches of another size have as many images, so more or fewer steps."""

NETWORKS: dict[str, dict[str, Any]] = {"resnet8": {}, "convnext": {"strides": ("1-1-2",)}}
DATA: dict[str, dict[str, Any]] = {
    "cifar10": {"name": "cifar10", "crop": 2, "flip": True},
    "fashion-mnist": {"name": "fashion-mnist"},
    "4,000 photos": {"name": "cifar10", "train_examples": 4000, "crop": 2, "flip": True},
}


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """For each recipe its mean difference from the default in points, over data, networks and seeds, with its error."""
    told = {}
    for recipe in RECIPES:
        differences = {
            data: [
                100 * (accuracy - runs["default"][seed])
                for runs in networks.values()
                for seed, accuracy in runs.get(recipe, {}).items()
                if seed in runs.get("default", {})
            ]
            for data, networks in results.items()
        }
        values = [value for of_data in differences.values() for value in of_data]
        if recipe != "default" and values:
            told[recipe] = {
                **{data: round(float(np.mean(of_data)), 2) for data, of_data in differences.items() if of_data},
                "mean": round(float(np.mean(values)), 2),
                "standard error": round(float(np.std(values, ddof=1) / len(values) ** 0.5), 2) if values[1:] else None,
            }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", required=True, help="folder of CIFAR-10's parquet files")
    parser.add_argument("--steps", type=int, default=600, help="of a training with batches of 64")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    runtime = start(RuntimeConfig(device="cpu", threads=1)).one_thread()
    found = joined(chosen.out)
    found.setdefault("command", "python benchmarks/evidence/standalone_recipes.py --cifar10 FOLDER")
    settings = {"default": DEFAULT, "recipes": RECIPES, "images": 64 * chosen.steps}
    if found.setdefault("settings", settings) != settings:
        parser.error(f"--out: {chosen.out} holds results of other settings")
    results = found.setdefault("results", {})
    for seed in chosen.seeds:
        for data_name, source in DATA.items():
            config = DataConfig(
                **source, path=chosen.cifar10 if source["name"] == "cifar10" else None, validation=5000,
                image_size=PIXELS,
            )  # fmt: skip
            data = load(config, seed=0)
            channels, height, width = data.input_shape
            for network_name, changes in NETWORKS.items():
                make = partial(convnet, 10, (channels, height, width), **{**settings_of(network_name), **changes})
                fitting = widest(lambda width, make=make: make(width=width), within(max_params=MOST_PARAMS))  # type: ignore[misc]  # its default
                space = make(width=fitting)
                runs = results.setdefault(data_name, {}).setdefault(network_name, {})
                for recipe, changed in RECIPES.items():
                    if str(seed) in runs.get(recipe, {}):
                        continue
                    of_recipe = {**DEFAULT, **changed}
                    train = TrainConfig(steps=64 * chosen.steps // of_recipe["batch_size"], **of_recipe)
                    own = derive(seed, "recipes", network_name)
                    network = build(space, space.at(0), seed=own)
                    batch = feed(
                        data.train, data, config, batch_size=train.batch_size, seed=seed, device=runtime.device
                    )  # fmt: skip
                    began = time.process_time()
                    fit(network, batch, train.total_steps(len(data.train)), train, runtime=runtime, seed=own)
                    took = time.process_time() - began
                    validation = batches(data.validation, data, device=runtime.device)
                    accuracy = evaluate(network, validation, runtime=runtime)
                    runs.setdefault(recipe, {})[str(seed)] = round(accuracy, 5)
                    print(data_name, network_name, recipe, seed, f"{accuracy:.4f}, {took:.0f} s", flush=True)
                    if chosen.out:
                        found["difference from the default, points"] = summary(results)
                        write_json(chosen.out, {**found, "made": made()})


if __name__ == "__main__":
    main()
