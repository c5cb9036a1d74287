"""Losses and metrics."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, r2_score
from torch.nn import functional as F

from supernet.data.task import LOSSES, METRICS, TaskConfig, accuracy, bce, loss_of, metric_of, mse, number_of, r2


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
