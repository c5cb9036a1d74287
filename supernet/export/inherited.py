"""A stand-alone network with the weights of the one-shot model."""

from __future__ import annotations

import torch
from torch import nn

from supernet.base.randomness import stream
from supernet.base.trees import call, rows
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.space.choices import Architecture
from supernet.space.layers import OneShot
from supernet.space.model import extract

STATISTICS_EXAMPLES = 4096
"""Training examples, at the most, from which the running statistics of batch norm are estimated; our choice."""

BATCH = 64
"""Examples in a batch of them; our choice."""


@torch.no_grad()
def inherit(model: OneShot, architecture: Architecture, data: Data, *, seed: int) -> nn.Module:
    """A stand-alone network with the one-shot model's weights, in evaluation mode.

    The one-shot model has no running statistics of batch norm. They are estimated as the mean over batches of training
    examples without augmentation.

    Args:
        model: the one-shot model, on the CPU.
        architecture: of its space.
        data: of the run.
        seed: of the run; it decides which examples are taken.
    """
    network = extract(model, architecture).eval()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    split = datasets.some_of(data.train, STATISTICS_EXAMPLES, generator=stream(seed, "statistics"))
    for examples, _ in datasets.batches(split, data, device=torch.device("cpu"), size=BATCH):
        if rows(examples) > 1:  # one example has no variance
            call(network, examples)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
