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

from supernet.data.task import (
    IGNORED,
    LOSSES,
    METRICS,
    TaskConfig,
    accuracy,
    bce,
    binary_accuracy,
    default_metric,
    l1,
    loss_of,
    metric_of,
    mse,
    number_of,
    r2,
    with_metric,
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
    assert accuracy(outputs, torch.tensor([[1, IGNORED]])) == 1 and accuracy(outputs, torch.tensor([[0, IGNORED]])) == 0


@given(st.integers(0, 1000), st.integers(1, 4))
def test_binary_accuracy_is_that_of_the_sigmoid_at_one_half(seed: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(30, columns, generator=generator)
    targets = (torch.rand(30, columns, generator=generator) < 0.2).float()
    right = [
        float(bool(torch.sigmoid(o) > 0.5) == bool(t == 1))
        for o, t in zip(outputs.flatten(), targets.flatten(), strict=True)
    ]
    assert binary_accuracy(outputs, targets) == pytest.approx(sum(right) / len(right))
    assert binary_accuracy(outputs[:, :1], targets[:, 0].bool()) == binary_accuracy(outputs[:, 0], targets[:, :1])
    assert (
        binary_accuracy(torch.full((30, 1), -1.0), torch.zeros(30)) == 1
    )  # not the share of the zeros whatever it says


@pytest.mark.parametrize(
    ("metric", "outputs", "targets", "message"),
    [
        (accuracy, torch.zeros(3, 1), torch.zeros(3).long(), "at least two outputs"),
        (accuracy, torch.zeros(3, 2), torch.zeros(3, 1).long(), r"\[N, classes, ...\] for classes \[N, ...\]"),
        (accuracy, torch.zeros(3, 2), torch.zeros(3), "classes as whole numbers"),
        (accuracy, (torch.zeros(3, 2),), torch.zeros(3).long(), "one tensor of outputs"),
        (binary_accuracy, torch.zeros(3, 2), torch.zeros(3), "as many outputs as targets"),
        (r2, torch.zeros(3, 2), torch.zeros(3, 4), "as many outputs as targets"),
        (r2, {"a": torch.zeros(3)}, torch.zeros(3), "one tensor of outputs"),
    ],
)
def test_metrics_refuse_what_they_would_compare_wrongly(metric: Any, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(outputs, targets)


def test_losses_take_whole_numbers() -> None:
    outputs, targets = torch.tensor([[1.0], [3.0]], requires_grad=True), torch.tensor([0, 2])
    assert mse(outputs, targets).item() == 1 and l1(outputs, targets).item() == 1
    l1(outputs, targets).backward()
    assert outputs.grad is not None and outputs.grad.flatten().tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("loss", "targets", "metric"),
    [
        ("cross-entropy", torch.arange(4), "accuracy"),
        ("cross-entropy", torch.zeros(4, 3, 3).long(), "accuracy"),
        ("cross-entropy", torch.rand(4, 3), "loss"),
        ("bce", torch.arange(4) % 2, "binary-accuracy"),
        ("bce", torch.rand(4, 3), "binary-accuracy"),
        ("mse", torch.arange(4), "r2"),
        ("l1", torch.rand(4, 3), "r2"),
        ("mine.py:loss", torch.arange(4), "accuracy"),
        ("mine.py:loss", torch.zeros(4, 3, 3).long(), "loss"),
        ("mine.py:loss", {"a": torch.arange(4)}, "loss"),
    ],
)
def test_the_metric_follows_the_loss_and_the_targets(loss: str, targets: Any, metric: str) -> None:
    assert default_metric(loss, targets) == metric
    assert with_metric(TaskConfig(loss=loss), targets).metric == metric
    assert with_metric(TaskConfig(loss=loss, metric="loss"), targets).metric == "loss"


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


def test_a_metric_of_the_user_that_fails_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def worst(outputs, targets):\n    return outputs['logits'].max()\n")
    with pytest.raises(ValueError, match=r"\(.*mine.py, line 2: IndexError: .*\): set task.metric to a function"):
        number_of(metric_of(TaskConfig(metric=f"{file}:worst")), torch.zeros(3, 2), torch.zeros(3))


def test_a_metric_that_does_not_fit_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"metric 'accuracy' cannot be taken of outputs float32 .N, 2. and targets float32 .N."
    ):
        number_of(accuracy, torch.zeros(3, 2), torch.zeros(4))


@pytest.mark.parametrize("wrong", [{"loss": "hinge"}, {"metric": "f1"}])
def test_unknown_names(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected one of .* or FILE.py:FUNCTION, got"):
        TaskConfig(**wrong)
