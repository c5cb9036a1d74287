"""Whether loss, metric, outputs and targets belong together: each mistake is one line with what to do instead."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from supernet.base.trees import form_text, join_rows, rows
from supernet.data.images import DataError
from supernet.data.task import IGNORED, LOSSES, TaskConfig, fault_in, loss_of


def check_targets(config: TaskConfig, targets: Any) -> None:
    """Refuses targets that a loss known by name cannot take; another loss says itself what does not fit.

    Args:
        config: loss and metric.
        targets: of the training split: a tensor, or a tuple or dict of tensors.

    Raises:
        DataError: the message says what they are and what to do.
    """
    if config.loss not in LOSSES:
        return
    need = f"targets: task.loss {config.loss} needs {_NEEDS[config.loss]}"
    if not isinstance(targets, Tensor):
        kind = "dict" if isinstance(targets, dict) else type(targets).__name__
        raise DataError(f"{need}, got a {kind} of arrays: give one, or set task.loss to your own")
    if problem := _problem_of(config, targets):
        raise DataError(f"{need}, got {problem}")
    counted = targets[~_are_ignored(targets)] if config.loss == "cross-entropy" else targets
    if len(counted) > 1 and (counted == counted.flatten()[0]).all():
        raise DataError(
            f"targets: all {len(targets):,} training examples have the target {counted.flatten()[0].item():g} "
            f"({form_text(targets)}), so there is nothing to learn: give examples of at least two classes or values"
        )


_NEEDS = {
    "cross-entropy": "classes as whole numbers [N]",
    "bce": "0 and 1, in the shape of the outputs",
    "mse": "numbers, in the shape of the outputs",
    "l1": "numbers, in the shape of the outputs",
}


def _problem_of(config: TaskConfig, targets: Tensor) -> str | None:
    """What is wrong with the targets of a loss known by name, and what to do."""
    kind, columns = form_text(targets), targets[0].numel()
    if config.loss == "bce":
        wrong = (targets < 0) | (targets > 1)
        if wrong.any():
            return f"{targets[wrong][0].item():g} in {kind}: give 0 or 1, or for classes set task.loss=cross-entropy"
        return None
    if config.loss != "cross-entropy":
        constant = _constant_column(targets) if config.metric in (None, "r2") and len(targets) > 1 else None
        if constant is None:
            return None
        return f"column {constant} of {kind} with one value only, of which r2 is not defined: leave it out"
    if targets.ndim == 2 and columns == 1:
        return f"a column, {kind}: flatten it, or for a regression set task.loss=mse"
    if targets.ndim == 2 and ((targets == 0) | (targets == 1)).all() and (targets.sum(1) == 1).all():
        return f"one-hot rows, {kind}: take .argmax(1) of them"
    if targets.is_floating_point():
        # Rows of probabilities are targets too, but not for the metric accuracy.
        if targets.ndim > 1 and config.metric != "accuracy":
            return None
        both = (
            " or for two classes with one logit set task.loss=bce," if ((targets == 0) | (targets == 1)).all() else ""
        )
        return f"{kind}: convert them to whole numbers,{both} or for a regression set task.loss=mse"
    if targets.dtype == torch.bool:
        return f"{kind}: for several labels at once set task.loss=bce"
    wrong = (targets < 0) & ~_are_ignored(targets)
    if wrong.any():
        return (
            f"{int(targets[wrong][0])} in {kind}: number the classes from 0; only {IGNORED} marks places to leave out, "
            "and for two classes -1 and 1 take 0 and 1"
        )
    return None


def _are_ignored(targets: Tensor) -> Tensor:
    """Which places are left out; none of uint8, in which 156 would equal -100."""
    return targets == IGNORED if targets.dtype != torch.uint8 else torch.zeros_like(targets, dtype=torch.bool)


def _constant_column(targets: Tensor) -> int | None:
    """The first of several columns that has one value only."""
    columns = targets.flatten(1) if targets.ndim > 1 else targets[:, None]
    constant = (columns == columns[0]).all(0).nonzero().flatten().tolist()
    return constant[0] if constant and columns.shape[1] > 1 else None


def check_outputs(config: TaskConfig, outputs: Any, targets: Tensor, where: str = "") -> None:
    """Refuses outputs that a loss known by name cannot compare with the targets.

    Args:
        config: loss and metric.
        outputs: of some examples.
        targets: all that the outputs have to fit, with any number of rows; as `check_targets` accepts them.
        where: in which mode of the network these are its outputs, for the message.

    Raises:
        DataError: the message has both shapes, and says what to do.
    """
    problem = None
    if config.loss in LOSSES and not isinstance(outputs, Tensor):
        problem = "return one tensor, or set task.loss to a function of your own, FILE.py:FUNCTION"
    elif config.loss == "cross-entropy":
        problem = _problem_of_classes(outputs, targets)
    elif config.loss in LOSSES and _shape(outputs) != _shape(targets):
        problem = "give the network as many outputs for each example as there are targets"
        if config.loss == "bce" and targets.ndim == 1:
            problem += ", one; for one output a class set task.loss=cross-entropy"
    if problem:
        raise misfit("loss", config.loss, outputs, targets, problem, where)


def _shape(tensor: Tensor) -> list[int]:
    """Lengths without the examples, and without axes of length 1, in which outputs and targets may differ."""
    return [length for length in tensor.shape[1:] if length != 1]


def _problem_of_classes(outputs: Tensor, targets: Tensor) -> str | None:
    """Why outputs and classes do not fit for cross-entropy, and what to do."""
    if outputs.ndim < 2 or outputs.shape[1] < 2:
        return (
            "give the network one output for each class, [N, classes]; for two classes with one logit set task.loss=bce"
        )
    if targets.is_floating_point():
        return None if outputs.shape[1:] == targets.shape[1:] else "give the network one output for each column"
    if outputs.shape[2:] != targets.shape[1:]:
        return "expected outputs [N, classes, ...] for classes [N, ...]"
    most = int(targets.max())
    if most < outputs.shape[1]:
        return None
    reason = f"class {most} needs at least {most + 1} outputs"
    if targets.ndim > 1:
        return f"{reason}: if {most} marks places to leave out, make it {IGNORED}; else give the network more outputs"
    return f"{reason}: give the network one output for each class, which it is told as num_classes"


def misfit(kind: str, name: str, outputs: Any, targets: Any, problem: str, where: str = "") -> DataError:
    """The error of a loss or metric that does not fit, in one line with both shapes."""
    return DataError(
        f"task.{kind} {name} does not fit outputs {form_text(outputs)}{where} and targets {form_text(targets)}: "
        f"{problem}"
    )


def check_loss(config: TaskConfig, outputs: Any, targets: Any, where: str = "", *, learns: bool = True) -> None:
    """Tries the loss on some outputs and targets.

    Args:
        config, where: as for `check_outputs`.
        outputs, targets: of the same few examples.
        learns: whether the outputs have a gradient, which the loss has to pass on.

    Raises:
        DataError: it fails, is not one number, has no gradient, or is a sum over examples and not their mean.
    """
    loss: Callable[..., Any] = loss_of(config)
    try:
        value = loss(outputs, targets)
        twice = loss(join_rows([outputs, outputs]), join_rows([targets, targets]))
    except Exception as error:  # a function of the user raises errors of any kind
        raise misfit("loss", config.loss, outputs, targets, fault_in(loss, error), where) from error
    problem = None
    if not isinstance(value, Tensor):
        problem = f"it gives a {type(value).__name__}: return a tensor, the mean over examples"
    elif value.ndim:
        problem = (
            f"it gives a tensor of shape {list(value.shape)} for {rows(targets)} examples: return their mean, for "
            "instance with reduction='mean'"
        )
    elif learns and not value.requires_grad:
        problem = "it has no gradient: compute it from the outputs with torch, without detach, argmax or NumPy"
    elif value.item() and math.isclose(twice.item(), 2 * value.item(), rel_tol=1e-4):
        problem = "it is a sum over examples (twice the examples give twice the loss): return their mean"
    if problem:
        raise misfit("loss", config.loss, outputs, targets, problem, where)
