"""The best 100 of many candidates: racing against scoring each on everything, with a trained one-shot model.

    python benchmarks/scoring.py RUN [--candidates 20000] [--work FOLDER] [--out RESULT.json]

RUN is a run folder whose one-shot model is trained. The plain way scores one candidate after the other on the whole
validation split, in single precision with torch's kernels and all cores on each operation; it is timed on a few
candidates, drawn at random, and multiplied (the result says so). The truth is the accuracy of every candidate on the
whole split in single precision; it is kept in FOLDER, and a stopped benchmark continues there. Also told: how alike
half and single precision rank.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import arguments, report, seconds, watching
from roofline import counted_on, limit
from scipy import stats

from supernet import cost_table, score
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.data.splits import prepare
from supernet.program.folder import open_run
from supernet.program.load import load_one_shot, load_run
from supernet.search.orders import Candidate, standing
from supernet.search.recording import score_into
from supernet.search.rounds import search
from supernet.search.scoring import Evaluation
from supernet.search.table import read_some
from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start

MARGIN = 4.0

PLAIN = RuntimeConfig(device="cpu", precision="32-true", kernels="torch")


def progress(done: int, total: int, **figures: float) -> None:
    if done % 200 == 0 or done == total:
        print(f"{done} of {total} on {figures['examples']:.0f} examples", file=sys.stderr, flush=True)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("run", type=Path, help="run folder with a trained one-shot model")
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--images", type=int, help="validation images for each score; the whole split by default")
    parser.add_argument("--best", type=int, default=100, help="how many of the best are looked for (default 100)")
    parser.add_argument("--timed", type=int, default=8, help="candidates that the plain way is timed on (default 8)")
    parser.add_argument("--first", type=int, help="images after which the truth leaves out those far from the best")
    parser.add_argument("--work", type=Path, help="folder for the truth; a temporary one where there is none")
    chosen = parser.parse_args()
    work = chosen.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    loaded = load_run(open_run(chosen.run))
    model, config, data = load_one_shot(loaded), loaded.config, loaded.data
    settings = replace(
        config.search, candidates=chosen.candidates, examples=chosen.images, top_of=chosen.best, exhaustive=False,
        ghosts_per_forward=None,
    )  # fmt: skip
    runtime, single = start(RuntimeConfig(device="cpu")), start(replace(PLAIN, kernels="auto"))
    runtime.place(model)
    examples, targets = prepare(data.validation, data, device=runtime.device, examples=settings.examples)
    costs = cost_table(model.space)

    evaluation = Evaluation(
        model=model, examples=examples, targets=targets, runtime=runtime, ghost_size=settings.ghost_size
    )

    def run(table: Path, with_: Runtime, images: int, *, exhaustive: bool) -> list[Candidate]:
        return search(
            replace(evaluation.part(0, images), runtime=with_), costs, replace(settings, exhaustive=exhaustive),
            seed=config.seed, table=table, watch=Watch(progress),
        )  # fmt: skip

    images, keep = evaluation.count, settings.top_of
    first = chosen.first or images
    truth = run(work / "truth.sqlite", single, first, exhaustive=True)
    every = [c.architecture for c in truth]
    if first < images:
        last = sorted((c.value for c in truth), reverse=True)[keep - 1]
        # Of two accuracies on the same images; an upper bound, since both are right on most of the same.
        error = (2 * last * (1 - last) / first) ** 0.5
        near = [c.architecture for c in truth if c.value >= last - MARGIN * error]
        score_into(
            work / "truth.sqlite", near, replace(evaluation, runtime=single), costs, settings, watch=Watch(progress)
        )
        truth = read_some(work / "truth.sqlite", near)
    true = {c.architecture: c.value for c in truth}
    least = sorted(true.values(), reverse=True)[:keep][-1]
    some = [every[int(i)] for i in torch.randperm(len(every), generator=stream(0, "timed"))[: max(100, chosen.timed)]]
    timed = some[: chosen.timed]
    plain_layout = examples.contiguous(memory_format=torch.contiguous_format)

    def plainly() -> None:
        one = start(PLAIN)
        one = replace(one.one_thread(), tuning=replace(one.tuning, layout="contiguous_format"))
        torch.set_num_threads(cores())
        list(score(one_shot, timed, plain_layout, targets, runtime=one, ghost_size=settings.ghost_size))
        torch.set_num_threads(1)

    one_shot = load_one_shot(loaded)
    raced: list[Candidate] = []

    def racing() -> None:
        with tempfile.TemporaryDirectory() as folder:
            raced.extend(run(Path(folder) / "raced.sqlite", runtime, images, exhaustive=False))

    with watching() as watch:
        plain = seconds(plainly, watch) / len(timed) * len(every)
        fast = seconds(racing, watch)
        still = watch.still / (watch.seconds() + watch.still)
    best = sorted(raced, key=standing)[:keep]

    def accuracies(with_: Runtime) -> list[float]:
        found = score(model, some, examples, targets, runtime=with_, ghost_size=settings.ghost_size)
        return [value for value, _ in found]

    result: dict[str, Any] = {
        "space": config.space.name,
        "settings": config.space.settings,
        "candidates": len(every),
        "of them with the truth on all images": len(truth),
        "images": images,
        "plain seconds, extrapolated": round(plain, 1),
        "plain, timed candidates": len(timed),
        "racing seconds": round(fast, 1),
        "plain / racing": round(plain / fast, 2),
        f"of the {keep} found, among the true {keep} (or equal to the last of them)": sum(
            true.get(c.architecture, 0.0) >= least for c in best
        ),
        "precision": runtime.tuning.precision,
        "Kendall tau, this precision and single": round(
            float(stats.kendalltau(accuracies(runtime), accuracies(single)).statistic), 4
        ),
        "tau of candidates": len(some),
        "standstill": round(still, 2),
    }
    # What scoring a candidate on everything takes, and its limit.
    chosen_few = some[:16]

    def on_everything(with_: Runtime) -> None:
        list(score(model, chosen_few, examples, targets, runtime=with_, ghost_size=settings.ghost_size))

    with watching() as watch:
        took = seconds(lambda: on_everything(runtime), watch)
    result["candidates a second, each on everything"] = round(len(chosen_few) / took, 2)
    result["limit"] = limit(lambda: on_everything(counted_on()), took)
    told = f" --first {chosen.first}" if chosen.first else ""
    words = f"--candidates {chosen.candidates} --images {images} --best {keep}{told}"
    report(f"python benchmarks/scoring.py RUN {words}", result, chosen.out)


if __name__ == "__main__":
    main()
