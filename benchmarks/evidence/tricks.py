"""What each of the paper's tricks gives on its own: rank correlation with and without it.

    python benchmarks/evidence/tricks.py TRICK RUN [--truth TRUTH] [--out RESULT.json]

RUN is a run folder whose one-shot model is trained: the one with all tricks. The truth is a CSV file with the columns
`architecture` and `accuracy`, or the stand-alone accuracies that `supernet analyze` found for RUN. TRICK is what is
left out of another one-shot model, trained as long:

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
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from one_shot import accuracies_of, averaged, decaying_all, interval, joined, made, subject_of

from supernet import build, fit
from supernet.base.files import read_json, write_json
from supernet.base.progress import Watch
from supernet.base.randomness import derive
from supernet.data.splits import Data, feed
from supernet.program.analyze import scores_of
from supernet.program.config import Config
from supernet.program.load import loss_of_fit
from supernet.program.train import paths_of, train_one_shot
from supernet.space.layers import OneShot
from supernet.speed.runtime import Runtime
from supernet.train.paths import PathsConfig
from supernet.trust.correlation import trust

TRICKS = ("dropout", "ghosts", "statistics", "decay")


def without(trick: str, model: OneShot, config: Config, data: Data, folder: Path, runtime: Runtime) -> OneShot:
    """The one-shot model that is trained, or scores, without one of the tricks."""

    def progress(done: int, total: int, **figures: float) -> None:
        if done % 200 == 0 or done == total:
            print(f"{trick}: {done} of {total} steps, loss {figures['loss']:.3f}", flush=True)

    if trick == "statistics":
        size, steps = config.train.ghost_size, config.train.total_steps(len(data.train))
        batches = feed(data.train, data, config.data, batch_size=size, seed=config.seed, device=runtime.device)
        return averaged(model, batches, lambda number: paths_of(config, model.space, steps - 1 - number % steps, steps))
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
    model = build(space, seed=derive(config.seed, "weights"))
    draw_live = decaying_all(model, lambda step: paths_of(config, space, step, steps), steps, config.train)
    size, seed = config.train.batch_size, config.seed
    fit(
        model, feed(data.train, data, config.data, batch_size=size, seed=seed, device=runtime.device),
        steps, config.train, runtime=runtime, draw_live=draw_live, loss_function=loss_of_fit(config.task),
        seed=seed, folder=folder, watch=Watch(progress),
    )  # fmt: skip
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trick", choices=TRICKS)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--truth", type=Path, help="accuracies in place of those of the run's own analysis")
    parser.add_argument("--out", type=Path, help="file that the result is joined to")
    chosen = parser.parse_args()
    subject = subject_of(chosen.run)
    model = subject.model
    if chosen.truth:
        texts, true, _ = accuracies_of(chosen.truth)
    else:
        points = read_json(chosen.run / "analysis.json")["points"]
        texts = [point["architecture"] for point in points]
        true = np.array([float(np.mean(point["accuracies"])) for point in points])
    architectures = [model.space.parse(text) for text in texts]
    found = joined(chosen.out)
    folder = chosen.run / "tricks" / chosen.trick
    other = without(chosen.trick, model, subject.config, subject.data, folder, subject.runtime)
    everything: list[float] = []
    for name, of in (("with all tricks", model), (f"without {chosen.trick}", other)):
        subject.runtime.place(of)
        scores = scores_of(replace(subject, model=of), architectures, examples=None)
        everything = everything or scores
        found[name] = {
            **interval(np.array(scores), true),
            "less all tricks": trust(scores, true, {"all": everything})["beyond"]["all"],
            "scores": scores,
            "made": made(),
        }
        print(name, found[name])
    if chosen.out:
        write_json(chosen.out, found)


if __name__ == "__main__":
    main()
