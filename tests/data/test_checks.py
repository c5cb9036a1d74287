"""Whether loss, metric, outputs and targets belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from supernet.data.checks import check_loss, check_outputs, check_targets
from supernet.data.images import DataError
from supernet.data.task import TaskConfig, loss_of, metric_of


@pytest.mark.parametrize(
    ("targets", "metric", "message"),
    [
        (torch.rand(9), "accuracy", r"got float32 \[N\]: convert them to whole numbers, or for a regression"),
        (torch.rand(9), "loss", r"got float32 \[N\]: convert them"),
        (torch.arange(9)[:, None], "accuracy", r"got a column, int64 \[N, 1\]: flatten it"),
        (torch.rand(9, 1), "loss", r"got a column, float32 \[N, 1\]: flatten it"),
        (torch.eye(3), "loss", r"got one-hot rows, float32 \[N, 3\]: take \.argmax\(1\)"),
        (torch.eye(3).long(), "accuracy", r"got one-hot rows, int64 \[N, 3\]"),
        (torch.eye(3).bool(), "accuracy", r"got one-hot rows, bool \[N, 3\]"),
        (torch.rand(9, 3).softmax(1), "accuracy", r"got float32 \[N, 3\]: convert them"),
        (torch.ones(9, 3).bool(), "accuracy", r"got bool \[N, 3\]: for several labels at once set task\.loss=bce"),
        ((torch.arange(9), torch.arange(9)), "accuracy", "got a tuple of arrays"),
    ],
)
def test_targets_that_cross_entropy_cannot_take(targets: Any, metric: str, message: str) -> None:
    with pytest.raises(DataError, match=r"^targets: task\.loss cross-entropy needs classes as .*" + message) as error:
        check_targets(TaskConfig(metric=metric), targets)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("targets", "outputs", "metric"),
    [
        (torch.arange(6) % 3, torch.rand(6, 3), "accuracy"),
        (torch.arange(12).view(6, 2) % 3, torch.rand(6, 3, 2), "accuracy"),
        (torch.rand(6, 3).softmax(1), torch.rand(6, 3), "loss"),
    ],
)
def test_targets_that_cross_entropy_takes(targets: Any, outputs: Any, metric: str) -> None:
    task = TaskConfig(metric=metric)
    check_targets(task, targets)
    assert float(loss_of(task)(outputs, targets)) > 0 and metric_of(task)(outputs, targets) <= 1


@pytest.mark.parametrize(
    ("loss", "targets", "message"),
    [
        ("bce", torch.tensor([-1.0, 1.0]), r"got -1 in float32 \[N\]: give 0 or 1"),
        ("bce", torch.arange(4), r"got 2 in int64 \[N\]: give 0 or 1, or for classes set task.loss=cross-entropy"),
        ("bce", torch.zeros(4), r"all 4 training examples have the target 0 \(float32 \[N\]\)"),
        ("mse", torch.full((4,), 2.5), r"all 4 training examples have the target 2\.5"),
        (
            "mse",
            torch.eye(4)[:, :2] * torch.tensor([1.0, 0.0]),
            r"got column 1 of float32 \[N, 2\] with one value",
        ),
        ("l1", {"a": torch.rand(4)}, "got a dict of arrays"),
        ("cross-entropy", torch.zeros(4).long(), "all 4 training examples have the target 0"),
        ("cross-entropy", torch.full((4, 2, 2), 3), "all 4 training examples have the target 3"),
        (
            "cross-entropy",
            torch.tensor([[[0, -1]], [[1, -100]]]),
            r"got -1 in int64 \[N, 1, 2\]: number",
        ),
        ("cross-entropy", torch.tensor([0.0, 1.0, 1.0]), "for two classes with one logit set task.loss=bce"),
    ],
)
def test_targets_that_teach_nothing_or_are_out_of_range(loss: str, targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_targets(TaskConfig(loss=loss), targets)


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        ("bce", torch.tensor([0.0, 0.3, 1.0])),
        ("bce", torch.tensor([[True, False], [False, False]])),
        ("mse", torch.rand(4, 2)),
        ("cross-entropy", torch.tensor([[[0, -100]], [[1, -100]]])),
        ("cross-entropy", torch.tensor([[[0, 156]], [[1, 255]]], dtype=torch.uint8)),
        ("mine.py:loss", torch.zeros(4)),
    ],
)
def test_targets_that_are_taken(loss: str, targets: Any) -> None:
    check_targets(TaskConfig(loss=loss), targets)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "advice"),
    [
        ("cross-entropy", torch.zeros(2, 1), torch.arange(4), "one output for each class.*set task.loss=bce"),
        ("cross-entropy", torch.zeros(2, 3), torch.arange(4), "class 3 needs at least 4 outputs: give the network"),
        ("cross-entropy", torch.zeros(2, 4, 3, 3), torch.full((4, 3, 3), 255), "make it -100; else give the network"),
        ("cross-entropy", torch.zeros(2, 4, 3, 3), torch.zeros(4, 2, 2).long(), r"outputs \[N, classes, ...\]"),
        ("cross-entropy", torch.zeros(2, 4), torch.rand(4, 3), "one output for each column"),
        ("cross-entropy", (torch.zeros(2, 4),), torch.arange(4), "return one tensor, or set task.loss to a function"),
        ("bce", torch.zeros(2, 2), torch.rand(4), "as many outputs .* set task.loss=cross-entropy"),
        ("mse", torch.zeros(2, 3), torch.rand(4, 2), "as many outputs"),
        ("l1", {"a": torch.zeros(2)}, torch.rand(4), "return one tensor"),
    ],
)
def test_outputs_that_do_not_fit_are_named_with_both_shapes(
    loss: str, outputs: Any, targets: torch.Tensor, advice: str
) -> None:
    forms = rf"task.loss {loss} does not fit outputs .*\[N.*\].? in training and targets \w+ \[N.*\]: .*"
    with pytest.raises(DataError, match=forms + advice):
        check_outputs(TaskConfig(loss=loss), outputs, targets, " in training")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("F.mse_loss(o[:, 0], t, reduction='none')", r"a tensor of shape \[2\] for 2 examples: return their mean"),
        ("F.mse_loss(o[:, 0], t, reduction='sum')", "a sum over examples"),
        ("float((o.detach()[:, 0] - t).abs().mean())", "it gives a float: return a tensor"),
        ("(o.detach()[:, 0] - t).abs().mean()", "it has no gradient"),
        ("o.logits.mean()", "mine.py, line 4: AttributeError"),
        ("F.mse_loss(o[:, 0], t)", None),
        ("F.mse_loss(o[:, 0], t) + o.square().mean()", None),
    ],
)
def test_losses_of_the_user_are_tried(code: str, message: str | None, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"from torch.nn import functional as F\n\ndef loss(o, t):\n    return {code}\n")
    config = TaskConfig(loss=f"{file}:loss")
    outputs, targets = torch.tensor([[1.0], [3.0]], requires_grad=True), torch.tensor([0.0, 5.0])
    if message is None:
        check_loss(config, outputs, targets)
        return
    with pytest.raises(
        DataError, match=r"does not fit outputs float32 \[N, 1\] and targets float32 \[N\]: .*" + message
    ):
        check_loss(config, outputs, targets)
