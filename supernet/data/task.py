"""What is learned: the loss that is made small, and the metric that networks are compared by.

A loss is a function of outputs and targets that gives the mean over examples; a metric is a function of the outputs
and targets of a whole split that gives a number, more of which is better. Add one to `LOSSES` or `METRICS` to use it by
name, or name a function of your own as ``FILE.py:FUNCTION``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.own import is_function, load_function
from supernet.data.images import DataError

Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], float]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of the targets (classes) that are the largest output: 0 to 1.

    Outputs [N, classes, ...] and int64 [N, ...].
    """
    return float((outputs.argmax(1) == targets).double().mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """Coefficient of determination, 1 at best; outputs and targets [N] or [N, columns], columns count equally."""
    targets = targets.double().flatten(1) if targets.ndim > 1 else targets.double()[:, None]
    residual = (outputs.double().reshape(targets.shape) - targets).square().sum(0)
    total = (targets - targets.mean(0)).square().sum(0)
    return float((1 - residual / total.clamp_min(torch.finfo(torch.float64).tiny)).mean())


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error; outputs [N, 1] fit targets [N] too."""
    return F.mse_loss(outputs.reshape(targets.shape), targets)


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of outputs before the sigmoid, in nats; targets 0 or 1, of the same shape."""
    return F.binary_cross_entropy_with_logits(outputs.reshape(targets.shape), targets.to(outputs.dtype))


LOSSES: dict[str, Loss] = {"cross-entropy": F.cross_entropy, "mse": mse, "bce": bce}
METRICS: dict[str, Metric] = {"accuracy": accuracy, "r2": r2}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is learned."""

    loss: str = "cross-entropy"
    """'cross-entropy', 'mse', 'bce' (of many labels at once), or FILE.py:FUNCTION of (outputs, targets)."""

    metric: str = "accuracy"
    """More is better: 'accuracy', 'r2', 'loss' (the negative loss), or FILE.py:FUNCTION of (outputs, targets)."""

    def __post_init__(self) -> None:
        for kind, name, options in (("loss", self.loss, LOSSES), ("metric", self.metric, {**METRICS, "loss": 0})):
            if name not in options and not is_function(name):
                raise ValueError(f"{kind}: expected one of {', '.join(options)} or FILE.py:FUNCTION, got {name!r}")


def loss_of(config: TaskConfig) -> Loss:
    """The loss of a task.

    Raises:
        ValueError: its file or function is not there.
    """
    return LOSSES[config.loss] if config.loss in LOSSES else load_function(config.loss)


def check_targets(config: TaskConfig, targets: Any) -> None:
    """Refuses targets that the loss cross-entropy cannot take; other losses say themselves what does not fit.

    Args:
        config: loss and metric.
        targets: of the training split: a tensor, or a tuple or dict of tensors.

    Raises:
        DataError: the message says what they are and what to do.
    """
    if config.loss != "cross-entropy":
        return
    need = "targets: task.loss cross-entropy needs classes as whole numbers [N]"
    if not isinstance(targets, Tensor):
        raise DataError(f"{need}, got a {type(targets).__name__} of arrays: give one, or set task.loss to your own")
    shape = f"[{', '.join(['N', *map(str, targets.shape[1:])])}]"
    kind, columns = f"{str(targets.dtype).removeprefix('torch.')} {shape}", targets[0].numel()
    if targets.ndim == 2 and columns == 1:
        raise DataError(f"{need}, got a column, {kind}: flatten it, or for a regression set task.loss=mse")
    if targets.ndim == 2 and ((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all():
        raise DataError(f"{need}, got one-hot rows, {kind}: take .argmax(1) of them")
    # Rows of probabilities are targets too, but not for the metric accuracy.
    if targets.is_floating_point() and (targets.ndim == 1 or config.metric == "accuracy"):
        raise DataError(f"{need}, got {kind}: convert them, or for a regression set task.loss=mse task.metric=r2")
    if targets.dtype == torch.bool:
        raise DataError(f"{need}, got {kind}: for several labels at once set task.loss=bce and a metric of your own")


def metric_of(config: TaskConfig) -> Metric:
    """The metric of a task.

    Raises:
        ValueError: its file or function is not there.
    """
    if config.metric == "loss":
        loss = loss_of(config)
        return lambda outputs, targets: -float(loss(outputs, targets))
    return METRICS[config.metric] if config.metric in METRICS else load_function(config.metric)


def number_of(metric: Metric, outputs: Any, targets: Any) -> float:
    """The value of a metric; NaN and infinity become the least float, so that nothing ranks below.

    Raises:
        ValueError: the metric gives anything but one number.
    """
    try:
        number = float(metric(outputs, targets))
    except (TypeError, RuntimeError, ValueError) as error:
        name = getattr(metric, "__name__", "metric")
        raise ValueError(
            f"metric {name!r} cannot be taken of these outputs and targets ({' '.join(str(error).split())}): expected "
            "a function of (outputs, targets) that gives one number; set task.metric"
        ) from error
    return number if math.isfinite(number) else -sys.float_info.max
