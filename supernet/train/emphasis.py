"""How the loss of a ghost batch counts by the size of its architecture.

Large networks learn slowly. Where all architectures of a space share the learning rate, they are judged too early, and
their scores are too low. So small ones count less and less as the training goes on.

Reference:
    Jeon et al., "Subnet-Aware Dynamic Supernet Training for Neural Architecture Search", CVPR 2025. There a step has
    one architecture, and its learning rate is changed. Here a step has several, so their losses are weighted; that the
    weights are 1 in the mean, beside the schedule of `TrainConfig`, is our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from supernet.space.choices import Architecture
from supernet.space.cost import CostTable

Emphasis = Callable[[float, Tensor], Tensor]
"""Gives the weight of the loss of each ghost batch, [G], from the share of the training that is over and live_GP."""


def emphasis(table: CostTable, complexity: float, sample: Sequence[Architecture]) -> Emphasis:
    """Weights by ``(1 - progress) ** gamma``, divided by the mean of that over a sample.

    Gamma falls linearly with the logarithm of the parameters, from `complexity` for the smallest architecture of the
    sample to its inverse for the largest.

    Args:
        table: costs of the space.
        complexity: at least 1; with 1 all weights are 1.
        sample: architectures as they are drawn in the training.

    Returns:
        A function of the share of the training that is over, from 0 to below 1, and of live_GP, bool [G, P], with one
        architecture in each ghost batch. It gives float32 [G].
    """
    of_sample = _log_parameters(table, sample)
    smallest, largest = float(of_sample.min()), float(of_sample.max())

    def gamma(log_parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        if smallest == largest:
            return np.ones_like(log_parameters)
        place = np.clip((log_parameters - smallest) / (largest - smallest), 0, 1)
        return np.asarray(complexity + place * (1 / complexity - complexity))

    gammas = gamma(of_sample)

    def weights(progress: float, live_GP: Tensor) -> Tensor:
        architectures = [table.space.architecture_of(row) for row in live_GP]
        left = (1 - progress) ** gamma(_log_parameters(table, architectures))
        return torch.from_numpy(left / np.mean((1 - progress) ** gammas)).float()

    return weights


def _log_parameters(table: CostTable, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
    return np.log(np.maximum(table.column("params", architectures).astype(np.float64), 1))
