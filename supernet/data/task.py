"""What is learned: the loss that is made small, and the metric that networks are compared by.

A loss is a function of outputs and targets that gives the mean over examples; a metric is a function of the outputs
and targets of a whole split that gives a number, more of which is better. Add one to `LOSSES` or `METRICS` to use it by
name, or name a function of your own as ``FILE.py:FUNCTION``. A metric that is not named follows the loss and the
targets; see `default_metric`.
"""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.own import is_function, load_function
from supernet.base.trees import form_text

Loss = Callable[[Any, Any], Tensor]
Metric = Callable[[Any, Any], float]

IGNORED = -100
"""The label of places that cross-entropy and accuracy leave out, as in torch."""


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of the targets (classes) that are the largest output: 0 to 1. Places of the class -100 are left out.

    Outputs [N, classes, ...] and whole numbers [N, ...].

    Raises:
        ValueError: there are not at least two outputs for each target, or targets are not classes.
    """
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.ndim > 1):
        raise ValueError("expected one tensor of outputs, [N, classes], and one of classes, [N]")
    if targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError("expected classes as whole numbers; take r2 for numbers, binary-accuracy for tags")
    if outputs.shape[1] < 2:
        raise ValueError("expected at least two outputs, one for each class; take binary-accuracy for one logit")
    if outputs.shape[:1] + outputs.shape[2:] != targets.shape:
        raise ValueError("expected outputs [N, classes, ...] for classes [N, ...]")
    right = outputs.argmax(1) == targets
    return float((right if targets.ndim == 1 else right[targets != IGNORED]).double().mean())


def binary_accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of the targets (0 or 1) that have the sign of their output before the sigmoid: 0 to 1.

    Outputs [N, ...] of the shape of the targets, up to axes of length 1; with several columns all count equally.

    Raises:
        ValueError: outputs and targets do not have the same shape.
    """
    return float(((_like(outputs, targets) > 0) == (targets > 0.5)).double().mean())


def r2(outputs: Tensor, targets: Tensor) -> float:
    """Coefficient of determination, 1 at best; outputs and targets [N] or [N, columns], columns count equally.

    Raises:
        ValueError: outputs and targets do not have the same shape.
    """
    outputs = _like(outputs, targets)
    targets = targets.double().flatten(1) if targets.ndim > 1 else targets.double()[:, None]
    residual = (outputs.double().reshape(targets.shape) - targets).square().sum(0)
    total = (targets - targets.mean(0)).square().sum(0)
    return float((1 - residual / total.clamp_min(torch.finfo(torch.float64).tiny)).mean())


def _like(outputs: Tensor, targets: Tensor) -> Tensor:
    """The outputs in the shape of the targets, from which they may differ in axes of length 1, as [N, 1] and [N] do."""
    if not (isinstance(outputs, Tensor) and isinstance(targets, Tensor)):
        raise ValueError("expected one tensor of outputs and one of targets")
    if [n for n in outputs.shape[1:] if n != 1] != [n for n in targets.shape[1:] if n != 1]:
        raise ValueError("expected as many outputs as targets for each example, in the same shape")
    return outputs.reshape(targets.shape)


def _as_numbers(targets: Tensor, outputs: Tensor) -> Tensor:
    """Whole numbers in the type of the outputs; other targets as they are."""
    return targets if targets.is_floating_point() else targets.to(outputs.dtype)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error; outputs [N, 1] fit targets [N] too."""
    return F.mse_loss(_like(outputs, targets), _as_numbers(targets, outputs))


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean absolute error; outputs [N, 1] fit targets [N] too."""
    return F.l1_loss(_like(outputs, targets), _as_numbers(targets, outputs))


def bce(outputs: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of outputs before the sigmoid, in nats; targets 0 or 1, of the same shape."""
    return F.binary_cross_entropy_with_logits(_like(outputs, targets), targets.to(outputs.dtype))


LOSSES: dict[str, Loss] = {"cross-entropy": F.cross_entropy, "mse": mse, "l1": l1, "bce": bce}
METRICS: dict[str, Metric] = {"accuracy": accuracy, "binary-accuracy": binary_accuracy, "r2": r2}


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is learned."""

    loss: str = "cross-entropy"
    """'cross-entropy', 'mse', 'l1' (mean absolute error), 'bce' (one logit for two classes, or several labels at once),
    or FILE.py:FUNCTION of (outputs, targets), which gives the mean over examples."""

    metric: str | None = None
    """More is better: 'accuracy', 'binary-accuracy' (outputs above 0), 'r2', 'loss' (the negative loss), or
    FILE.py:FUNCTION of (outputs, targets). None follows the loss: accuracy for cross-entropy, binary-accuracy for bce,
    r2 for mse and l1; for a loss of your own accuracy if the targets are classes [N], else the negative loss."""

    def __post_init__(self) -> None:
        for kind, name, options in (("loss", self.loss, LOSSES), ("metric", self.metric, {**METRICS, "loss": 0})):
            if name is not None and name not in options and not is_function(name):
                raise ValueError(f"{kind}: expected one of {', '.join(options)} or FILE.py:FUNCTION, got {name!r}")

    @property
    def metric_name(self) -> str:
        """The metric, of a task that has one; see `with_metric`."""
        assert self.metric is not None
        return self.metric


def default_metric(loss: str, targets: Any) -> str:
    """The metric that goes with a loss and targets if none is named; see `TaskConfig.metric`.

    Args:
        loss: its name.
        targets: a tensor, or a tuple or dict of tensors. Rows of probabilities, which cross-entropy takes too, have no
            accuracy: of them the metric is the negative loss.
    """
    if loss in ("mse", "l1"):
        return "r2"
    if loss == "bce":
        return "binary-accuracy"
    are_classes = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.dtype != torch.bool
    return "accuracy" if are_classes and (loss == "cross-entropy" or targets.ndim == 1) else "loss"


def with_metric(config: TaskConfig, targets: Any) -> TaskConfig:
    """The task with its metric by name."""
    return config if config.metric is not None else replace(config, metric=default_metric(config.loss, targets))


def loss_of(config: TaskConfig) -> Loss:
    """The loss of a task.

    Raises:
        ValueError: its file or function is not there.
    """
    return LOSSES[config.loss] if config.loss in LOSSES else load_function(config.loss)


def metric_of(config: TaskConfig) -> Metric:
    """The metric of a task.

    Args:
        config: with the metric by name; see `with_metric`.

    Raises:
        ValueError: its file or function is not there.
    """
    name = config.metric_name
    if name == "loss":
        loss = loss_of(config)

        def negative_loss(outputs: Any, targets: Any) -> float:
            return -float(loss(outputs, targets))

        return negative_loss
    return METRICS[name] if name in METRICS else load_function(name)


def number_of(metric: Metric, outputs: Any, targets: Any) -> float:
    """The value of a metric; NaN and infinity become the least float, so that nothing ranks below.

    Raises:
        ValueError: the metric gives anything but one number.
    """
    try:
        number = float(metric(outputs, targets))
    except Exception as error:  # a function of the user raises errors of any kind
        name = getattr(metric, "__name__", "metric")
        raise ValueError(
            f"metric {name!r} cannot be taken of outputs {form_text(outputs)} and targets {form_text(targets)} "
            f"({fault_in(metric, error)}): set task.metric to a function of (outputs, targets) that gives one number"
        ) from error
    return number if math.isfinite(number) else -sys.float_info.max


def fault_in(function: Callable[..., Any], error: Exception) -> str:
    """What a function raised, in one line; with the line of its file if the user wrote it."""
    text = " ".join(str(error).split())
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if file == __file__ or not frames:
        return text or type(error).__name__
    return f"{file}, line {frames[-1].lineno}: {type(error).__name__}{text and ': ' + text}"
