"""The whole way from Python, on images that are made here: which of two squares is brighter."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import nn

import supernet


def make_network(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    width = supernet.value("width", (4, 8))
    options = {f"k{k}": nn.Conv2d(width, width, k, padding=k // 2) for k in (1, 3, 5)}
    return nn.Sequential(
        nn.Conv2d(input_shape[0], width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        supernet.Choose("kernel", options),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, num_classes),
    )


def make_data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 200, (800, 1, 8, 8), generator=generator, dtype=torch.uint8)
    left = torch.rand(800, generator=generator) < 0.5
    images[left, :, 2:6, 0:4] += 40
    images[~left, :, 2:6, 4:8] += 40
    return images, left.long()


def main(out: Path) -> supernet.Run:
    run = supernet.run(
        make_network,
        make_data(),
        out=out,
        limits={"max_params": "5k"},
        settings={"train.epochs": 4, "retrain.train.epochs": 4},
    )
    network, row = run.best
    print(row["architecture"], row["params"], row["test"])
    print(run.candidates.head())
    print(network(torch.zeros(1, 1, 8, 8)).shape)
    return run


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from_python"))
