from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from supernet.base import files
from supernet.speed import kernels, tune
from supernet.speed.runtime import RuntimeConfig, start
from supernet.speed.tune import KINDS, Tuning, kind_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding", "dilation", "groups", "kind"),
    [
        (8, 3, 1, 1, 1, 1, "plain"), (8, 3, 2, 1, 1, 1, "plain"), (8, 3, 16, 1, 1, 1, "narrow"),
        (8, 3, 1, 2, 2, 1, "dilated"), (8, 3, 1, 1, 1, 2, "grouped"), (8, 3, 1, 1, 1, 8, "depthwise"),
        (8, 3, 1, 2, 2, 8, "dilated depthwise"),
    ],
)  # fmt: skip
def test_kinds(channels: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, kind: str) -> None:
    x, weight = torch.zeros(1, channels, 16, 16), torch.zeros(channels, channels // groups, kernel, kernel)
    assert kind_of(x, weight, (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups) == kind
    if kind == "narrow":
        assert torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, groups).shape[-1] == 1


def test_the_self_test_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SUPERNET_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    monkeypatch.setattr(tune, "ROUNDS", 1)
    first = tune._tuning.__wrapped__("cpu")
    assert first.kernels == ()
    assert set(first.measured) == {f"bf16 {kind}" for kind in KINDS} | {"channels last"}
    (path,) = tmp_path.glob("machine-*.json")
    assert files.read_json(path)["measured"] == first.measured
    monkeypatch.setattr(tune, "measure", lambda device: pytest.fail("measured again"))
    assert tune._tuning.__wrapped__("cpu") == first


def test_what_is_wrong_or_slow_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    of_kernels = (
        [0.9, 0.8, 0.9, 1.4, 1.2, 0.9, 1.1, 0.9, 1.3, 1.2, 0.9, 0.9, 1.2] if kernels.compiled() is not None else []
    )
    times = iter([2.0, 0.5, 2.0, 2.0, 2.0, 0.7, *of_kernels, 1.5])
    monkeypatch.setattr(tune, "_times_faster", lambda pairs, device: next(times))
    monkeypatch.setattr(tune, "_agree", lambda a, b: True)
    found = tune.measure(CPU)
    slow = ("narrow",) if "depthwise 5x5" in found.kernels else ("narrow", "dilated depthwise")
    assert (found.precision, found.layout, found.in_full_precision) == ("bf16-mixed", "channels_last", slow)
    if kernels.compiled() is not None:
        depthwise = ("strided depthwise 3x3", "depthwise 5x5", "depthwise 7x7")
        assert found.kernels == (*depthwise, "pointwise", "half 1x1", "single 3x3")
    monkeypatch.setattr(tune, "_times_faster", lambda pairs, device: 2.0)
    monkeypatch.setattr(tune, "_agree", lambda a, b: False)
    found = tune.measure(CPU)
    assert (found.precision, found.kernels, found.in_full_precision) == ("32-true", (), tuple(KINDS))


@pytest.mark.skipif(kernels.compiled() is None, reason="no compiler")
@pytest.mark.parametrize("norm", [0.9, 1.1])
def test_the_layout_is_judged_with_the_kernels_that_are_taken(monkeypatch: pytest.MonkeyPatch, norm: float) -> None:
    monkeypatch.setattr(tune, "_joined", lambda *of: "ours")
    monkeypatch.setattr(tune, "_joined_by_library", lambda *of: "library")
    monkeypatch.setattr(tune, "_agree", lambda a, b: True)
    monkeypatch.setattr(tune, "_gain", lambda pairs, device: norm)
    monkeypatch.setattr(tune, "_times_faster", lambda pairs, device: 0.5 if pairs[0][1] == "library" else 2.0)
    assert tune.measure(CPU).layout == ("channels_last" if norm > 1 else "contiguous_format")


def test_agreement_tells_wrong_numbers() -> None:
    good = (torch.tensor([1.0, -2.0]),)
    assert tune._agree(good, (torch.tensor([1.01, -2.0]),))
    assert not tune._agree(good, (torch.tensor([1.1, -2.0]),))
    assert not tune._agree(good, (torch.tensor([1.0, torch.nan]),))


def test_what_is_asked_for_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Tuning(precision="bf16-mixed", kernels=("norm",), in_full_precision=("narrow",))
    monkeypatch.setattr("supernet.speed.runtime.self_test", lambda device: found)
    assert start(RuntimeConfig(device="cpu")).tuning == found
    runtime = start(RuntimeConfig(device="cpu", precision="32-true"))
    assert asdict(runtime.tuning) == {**asdict(found), "precision": "32-true"}
    with runtime.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    monkeypatch.setattr("supernet.speed.runtime.self_test", lambda device: pytest.fail("not needed"))
    assert start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch")).tuning == Tuning()
