"""What each of the paper's tricks gives on its own: rank correlation with and without it.

    python benchmarks/evidence/tricks.py TRICK RUN [--out RESULT.json]

RUN is a run folder that `supernet analyze` has been through; its one-shot model is the one with all tricks, and the
stand-alone accuracies of its study are the truth. TRICK is what is left out of another one-shot model, trained as long:

- `dropout`: everything is on in every step (paper, section 3.2: path dropout);
- `ghosts`: a batch is one ghost batch, so that a step trains one draw of paths (section 3.2: ghost batches);
- `statistics`: scored with averages over the training in place of the statistics of each ghost batch (section 3.2:
  batch statistics); the run's own model, its averages taken over draws of paths as in the last step;
- `decay`: all weights are decayed in each step, not those that are live only (section 3.2). For what is not live the
  decay that momentum adds up to is done at once.

Models are kept in RUN/tricks; a stopped training continues there.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from one_shot import interval, joined, study_of
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import build, fit
from supernet.analyze import scores_of
from supernet.config import Config
from supernet.data import Data, feed
from supernet.files import read_json, write_json
from supernet.layers import GhostBatchNorm
from supernet.model import OneShot, view_of
from supernet.paths import PathsConfig
from supernet.randomness import derive
from supernet.runtime import Runtime
from supernet.steps import Watch, loss_of_fit, paths_of, train_one_shot
from supernet.train import live_groups, shares

TRICKS = ("dropout", "ghosts", "statistics", "decay")
BATCHES = 200
"""Batches that averages are taken over."""


def without(trick: str, model: OneShot, config: Config, data: Data, folder: Path, runtime: Runtime) -> OneShot:
    """The one-shot model that is trained, or scores, without one of the tricks."""

    def progress(done: int, total: int, **figures: float) -> None:
        if done % 200 == 0 or done == total:
            print(f"{trick}: {done} of {total} steps, loss {figures['loss']:.3f}", flush=True)

    if trick == "statistics":
        return averaged(model, config, data, runtime)
    if trick == "decay":
        return decayed(model, config, data, folder, runtime, progress)
    if trick == "dropout":
        changed = replace(config, paths=PathsConfig(rate=0.0, schedule="constant"))
    else:
        changed = replace(config, train=replace(config.train, ghost_size=config.train.batch_size))
    found, _ = train_one_shot(changed, model.space, data, folder, runtime, Watch(progress, lambda: False))
    return found


def decayed(
    like: OneShot, config: Config, data: Data, folder: Path, runtime: Runtime, progress: Any
) -> OneShot:  # fmt: skip
    """As `train_one_shot`, with decay of what is not live as well."""
    space, steps = like.space, config.train.total_steps(len(data.train))
    model = cast(OneShot, build(space, seed=derive(config.seed, "weights")))
    groups = live_groups(model)
    momentum = config.train.optimizer_settings.get("momentum", 0.0)

    def draw_live(step: int) -> Tensor:
        live = paths_of(config, space, step, steps)
        rate = config.train.rate_at(step / steps) * config.train.weight_decay / (1 - momentum)
        with torch.no_grad():
            for group, share in zip(groups, shares(groups, live), strict=True):
                left = 1 - rate * (1 - share)
                for parameter in group.parameters:
                    if parameter.ndim > 1:
                        parameter.mul_(left)
        return live

    size, seed = config.train.batch_size, config.seed
    fit(
        model, feed(data.train, data, config.data, batch_size=size, seed=seed, device=runtime.device),
        steps, config.train, runtime=runtime, draw_live=draw_live, loss_function=loss_of_fit(config.task),
        seed=seed, folder=folder, progress=progress,
    )  # fmt: skip
    return model


class AveragedNorm(nn.Module):
    """Batch norm with mean and variance that are given."""

    def __init__(self, of: GhostBatchNorm, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = of.weight, of.bias, of.eps
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, False, 0.0, self.eps)


def averaged(model: OneShot, config: Config, data: Data, runtime: Runtime) -> OneShot:
    """The model with averages in place of statistics; a batch norm that never ran keeps those of a ghost batch."""
    seen: dict[GhostBatchNorm, tuple[int, Tensor, Tensor]] = {}

    def look(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, GhostBatchNorm)
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=1)
        number, *before = seen.get(norm, (0, torch.zeros_like(mean), torch.zeros_like(mean)))
        seen[norm] = number + 1, before[0] + mean, before[1] + variance

    norms = [module for module in model.modules() if isinstance(module, GhostBatchNorm)]
    handles = [norm.register_forward_pre_hook(look) for norm in norms]
    size = config.train.ghost_size
    batches = feed(data.train, data, config.data, batch_size=size, seed=config.seed, device=runtime.device)
    steps = config.train.total_steps(len(data.train))
    with torch.no_grad():
        for step in range(BATCHES):
            live = paths_of(config, model.space, steps - 1 - step % steps, steps)
            model(batches(step)[0], live[:1])
    for handle in handles:
        handle.remove()

    def fixed(module: nn.Module) -> nn.Module:
        if not isinstance(module, GhostBatchNorm) or module not in seen:
            return module
        number, mean, variance = seen[module]
        return AveragedNorm(module, mean / number, variance / number)

    return copy.deepcopy(cast(OneShot, view_of(model, fixed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trick", choices=TRICKS)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, help="file that the result is joined to")
    chosen = parser.parse_args()
    study = study_of(chosen.run)
    model = study.model
    points = read_json(chosen.run / "analysis.json")["points"]
    architectures = [model.space.parse(point["architecture"]) for point in points]
    true = np.array([float(np.mean(point["accuracies"])) for point in points])
    found = joined(chosen.out)
    folder = chosen.run / "tricks" / chosen.trick
    other = without(chosen.trick, model, study.config, study.data, folder, study.runtime)
    for name, of in (("with all tricks", model), (f"without {chosen.trick}", other)):
        study.runtime.place(of)
        scores = scores_of(replace(study, model=of), architectures, images=None)
        found[name] = {
            **interval(np.array(scores), true),
            "scores": [min(scores), max(scores)],
            "architectures": len(scores),
        }
        print(name, found[name])
    if chosen.out:
        write_json(chosen.out, found)


if __name__ == "__main__":
    main()
