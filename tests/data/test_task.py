"""Losses and metrics."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score
from torch.nn import functional as F

from supernet.data.images import DataError
from supernet.data.task import (
    LOSSES,
    METRICS,
    TaskConfig,
    accuracy,
    bce,
    check_targets,
    loss_of,
    metric_of,
    mse,
    number_of,
    r2,
)


@given(st.integers(0, 1000), st.integers(2, 5))
def test_metrics_agree_with_scikit_learn(seed: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = torch.randn(2, 30, columns, generator=generator, dtype=torch.float64)
    assert r2(outputs, targets) == pytest.approx(r2_score(targets, outputs), rel=1e-6)
    assert r2(outputs[:, :1], targets[:, 0]) == pytest.approx(r2_score(targets[:, 0], outputs[:, 0]), rel=1e-6)
    classes = targets.argmax(1)
    assert accuracy(outputs, classes) == accuracy_score(classes, outputs.argmax(1))


def test_accuracy_of_each_place() -> None:
    outputs = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])  # one example, two classes, two places
    assert accuracy(outputs, torch.tensor([[1, 1]])) == 0.5


def test_losses_fit_targets_of_one_column() -> None:
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert float(mse(outputs, targets)) == 2.5
    assert torch.equal(bce(outputs, targets.long()), F.binary_cross_entropy_with_logits(outputs[:, 0], targets))


def test_by_name() -> None:
    for name, loss in LOSSES.items():
        assert loss_of(TaskConfig(loss=name)) is loss
    for name, metric in METRICS.items():
        assert metric_of(TaskConfig(metric=name)) is metric
    outputs, targets = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert metric_of(TaskConfig(loss="mse", metric="loss"))(outputs, targets) == -2.5


def test_functions_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def worst(outputs, targets):\n    return -(outputs - targets).abs().max()\n")
    metric = metric_of(TaskConfig(metric=f"{file}:worst"))
    assert number_of(metric, torch.tensor([1.0, 4.0]), torch.tensor([1.0, 2.0])) == -2


def test_a_number_that_is_none_comes_last() -> None:
    assert number_of(lambda outputs, targets: float("nan"), 0, 0) == -sys.float_info.max


def test_a_metric_that_does_not_fit_says_so() -> None:
    with pytest.raises(ValueError, match="metric 'accuracy' cannot be taken of these outputs"):
        number_of(accuracy, torch.zeros(3, 2), torch.zeros(4))


@pytest.mark.parametrize("wrong", [{"loss": "hinge"}, {"metric": "f1"}])
def test_unknown_names(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected one of .* or FILE.py:FUNCTION, got"):
        TaskConfig(**wrong)


@pytest.mark.parametrize(
    ("targets", "metric", "message"),
    [
        (torch.rand(9), "accuracy", r"got float32 \[N\]: convert them, or for a regression"),
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
    check_targets(TaskConfig(loss="mse", metric="r2"), targets)


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
