"""Networks of timm at the same limits, by the same recipe, on the same images as the runs of `pays.py`.

    python benchmarks/evidence/pays_timm.py RESULT.json --runs FOLDER --out OUT.json

RESULT.json and FOLDER are those of `pays.py`; needs timm. Each family is as wide as the limit of the run allows, with a
stem that keeps the resolution, as people do for small images, and is trained once with the settings of the run's
finalists. The winner of the run is compared with the family that is best on the test split, which favours the families.
With a limit of latency nothing is compared: timm's networks were not in the table of latencies.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from one_shot import made
from timm.models.convnext import ConvNeXt
from timm.models.efficientnet import _gen_efficientnet, _gen_mobilenet_v2
from timm.models.resnet import BasicBlock, ResNet
from torch import nn

from supernet import fit
from supernet.base.files import read_json, write_json
from supernet.base.randomness import derive
from supernet.data.splits import batches, feed, open_test
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.retrain.trainings import evaluate
from supernet.space.cost import measure
from supernet.speed.runtime import start

MOST = 400
"""Steps of the width that are tried."""


def resnet(step: int, classes: int, channels: int) -> nn.Module:
    """One basic block in each of three stages, `step` channels in the first."""
    network: Any = ResNet(
        BasicBlock, layers=(1, 1, 1), channels=(step, 2 * step, 4 * step), num_classes=classes, in_chans=channels,
        stem_type="deep", stem_width=max(1, step // 2),
    )  # fmt: skip
    network.conv1[0].stride = (1, 1)
    network.maxpool = network.layer4 = nn.Identity()
    smaller: nn.Module = network
    return smaller


def convnext(step: int, classes: int, channels: int) -> nn.Module:
    """Two blocks in each of four stages, `step` channels in the first."""
    dims = (step, 2 * step, 4 * step, 8 * step)
    network: nn.Module = ConvNeXt(
        in_chans=channels, num_classes=classes, depths=(2, 2, 2, 2), dims=dims, patch_size=1
    )  # fmt: skip
    return network


def mobilenetv2(step: int, classes: int, channels: int) -> nn.Module:
    """All channels times `step` / 40."""
    return _at_full_resolution(_gen_mobilenet_v2("mobilenetv2_100", step / 40, num_classes=classes, in_chans=channels))


def efficientnet(step: int, classes: int, channels: int) -> nn.Module:
    """All channels of B0 times `step` / 40."""
    return _at_full_resolution(
        _gen_efficientnet("efficientnet_b0", step / 40, 1.0, num_classes=classes, in_chans=channels)
    )


def _at_full_resolution(network: Any) -> nn.Module:
    network.conv_stem.stride = (1, 1)
    made_alike: nn.Module = network
    return made_alike


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "ResNet": resnet, "ConvNeXt": convnext, "MobileNetV2": mobilenetv2, "EfficientNet": efficientnet,
}  # fmt: skip


def widest(make: Callable[[int], nn.Module], shape: tuple[int, ...], bounds: Mapping[str, tuple[float, float]]) -> int:
    """The largest step with which a network meets the limits; 0 if none does."""
    chosen = 0
    for step in range(1, MOST):
        try:
            cost = measure(make(step), shape)
        except (ValueError, RuntimeError, AssertionError):
            continue  # so narrow that the family has no such network
        if any(getattr(cost, name) > high for name, (_, high) in bounds.items()):
            break
        chosen = step
    return chosen


def train(folder: Path) -> dict[str, Any]:
    """Trains each family at the limits of a run, with the settings of its finalists."""
    run = load_run(open_run(folder))
    data, config = run.data, run.config
    bounds, shape = config.search.limits.bounds(), tuple(data.input_shape)
    if not bounds.keys() <= {"params", "macs"}:
        return {}
    runtime, settings = start(config.runtime).one_thread(), config.retrain.train
    result: dict[str, Any] = {}
    with TemporaryDirectory() as place:
        test = open_test(data.test, record=Path(place, "opened.json"), networks=list(FAMILIES))
    for name, family in FAMILIES.items():
        make = partial(family, classes=len(data.classes), channels=shape[0])
        step = widest(make, shape, bounds)
        if not step:
            result[name] = {"test": None}
            continue
        seed = derive(config.seed, "timm", name)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = make(step)
        cost = measure(network, shape)
        steps = settings.total_steps(len(data.train))
        batch = feed(data.train, data, config.data, batch_size=settings.batch_size, seed=seed, device=runtime.device)
        fit(network, batch, steps, settings, runtime=runtime, seed=seed)
        accuracy = evaluate(network, batches(test, data, device=runtime.device), runtime=runtime)
        result[name] = {"step": step, "params": cost.params, "macs": cost.macs, "test": round(accuracy, 5)}
        print(folder.name, name, result[name], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="of pays.py")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders are")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    found = read_json(chosen.out) if chosen.out.exists() else {"cases": {}}
    for name, case in read_json(chosen.result)["cases"].items():
        of = found["cases"].setdefault(name, {"runs": {}})
        for seed, run in case["runs"].items():
            if seed not in of["runs"]:
                folder = chosen.runs / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
                networks = train(folder)
                best = max((n["test"] for n in networks.values() if n["test"] is not None), default=None)
                winner = float(np.mean(run["winner"]["test"]))
                difference = None if best is None else round(winner - best, 5)
                of["runs"][seed] = {"networks": networks, "difference": difference}
                write_json(chosen.out, {**found, "made": made()})


if __name__ == "__main__":
    main()
