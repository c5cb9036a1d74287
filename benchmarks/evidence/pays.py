"""Whether a search pays: the winner of a run against the known networks of the run, on the test split, seed by seed.

    python benchmarks/evidence/pays.py CASE ... [--cifar10 FOLDER] [--seeds N ...] [--runs FOLDER] [--out RESULT.json]

Each case is a `supernet run` with the settings below, once for each seed. References are the known networks as wide as
the same limit allows, trained by the same recipe on the same images. The winner is compared with the reference that is
best on the **test** split, which favours the references; the run itself compares with the one that is best on the
validation split. The cost of a run is all of its processor time, references and further trainings included, and beside
it that of one training of the best reference by itself. What the result file holds already is not run again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from one_shot import made

from supernet import build, fit
from supernet.base.files import read_json, write_json
from supernet.data.splits import feed
from supernet.program.config import space_of
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.speed.runtime import start

COMMAND = "import sys; from supernet.program.commands import main; sys.exit(main(sys.argv[1:]))"
HERE = Path(__file__).parents[2]
LENGTHS = ("--train.steps=1000", "--search.candidates=400", "--search.examples=1024", "--search.top_of=12",
           "--search.top=6", "--search.random=0", "--search.small=0", "--retrain.confirm=2")  # fmt: skip
CASES: dict[str, tuple[str, ...]] = {
    "demo": ("fashion-60k",),
    "cifar10, 16 pixels, 60 k parameters": (
        "images", "--data.name=cifar10", "--data.image_size=16", "--max-params=60k", *LENGTHS,
        "--retrain.train.steps=1875",
    ),
    "cifar10, 32 pixels, 2 M multiply-adds": (
        "images", "--data.name=cifar10", "--data.image_size=32", "--max-macs=2M", *LENGTHS,
        "--retrain.train.steps=1875",
    ),
    "fashion-mnist, 28 pixels, 60 k parameters": (
        "images", "--data.name=fashion-mnist", "--data.image_size=28", "--max-params=60k", *LENGTHS,
        "--retrain.train.steps=1875",
    ),
}  # fmt: skip
"""The words after `supernet run`, by the name of the case."""


def run_case(words: tuple[str, ...], seed: int, cifar10: str | None, folder: Path) -> dict[str, Any]:
    """Runs one case with one seed, and reads what came out.

    Args:
        words: of the case.
        seed: of the run.
        cifar10: folder of its parquet files.
        folder: of the run; it is continued if it is there.
    """
    place = [f"--data.path={cifar10}"] if any("cifar10" in word for word in words) else []
    spent = processor_seconds([*words, *place, f"--seed={seed}", "--out", str(folder)])
    results, steps = read_json(folder / "results.json"), read_json(folder / "environment.json")
    rows = {row["id"]: row for row in results["networks"]}
    winner = rows[results["against_reference"]["winner"]]
    references = {row["reference"]: row for row in rows.values() if row.get("reference")}
    test = {name: float(np.mean(row["test"])) for name, row in references.items()}
    best = max(test, key=lambda name: test[name])
    return {
        "winner": {key: winner[key] for key in ("architecture", "params", "macs", "validation", "test")},
        "references": {
            name: {key: row[key] for key in ("params", "macs", "validation", "test")}
            for name, row in references.items()
        },
        "best reference": best,
        "difference": round(float(np.mean(winner["test"])) - test[best], 5),
        "said": results["against_reference"]["text"],
        "groups": {
            name: group["test"]["mean"] for name, group in results["groups"].items() if "test" in group
        },
        "tau": results["rank_correlation"]["kendall"],
        "processor seconds": round(spent),
        "processor seconds of one reference": round(cost_of_one(folder, references[best])),
        "seconds": {name: round(step["seconds"]) for name, step in steps.items()},
        "kernels": steps["train"]["kernels"],
    }  # fmt: skip


def processor_seconds(words: list[str]) -> float:
    """Runs a command of supernet in a process of its own, and returns the processor time that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", COMMAND, "run", *words], check=True, cwd=HERE)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cost_of_one(folder: Path, reference: dict[str, Any]) -> float:
    """Processor time of one training of a reference by the run's recipe, by itself."""
    run = load_run(open_run(folder))
    data, train = run.data, run.config.retrain.train
    space = space_of(reference, run.config, data.classes, data.inputs)
    runtime = start(run.config.runtime).one_thread()
    batch = feed(data.train, data, run.config.data, batch_size=train.batch_size, seed=0, device=runtime.device)
    network = build(space, space.parse(reference["architecture"]), seed=0)
    began = time.process_time()
    fit(network, batch, train.total_steps(len(data.train)), train, runtime=runtime, seed=0)
    return time.process_time() - began


def summary(of: dict[str, Any]) -> None:
    """Adds to a case the differences over seeds: mean, least, how often above zero, cost as a multiple."""
    differences = np.array([run["difference"] for run in of["runs"].values()])
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else None
    costs = [run["processor seconds"] / run["processor seconds of one reference"] for run in of["runs"].values()]
    of["summary"] = {
        "seeds": len(differences),
        "mean difference, points": round(100 * float(differences.mean()), 2),
        "its standard error": None if error is None else round(100 * float(error), 2),
        "least difference, points": round(100 * float(differences.min()), 2),
        "wins": int((differences > 0).sum()),
        "cost in trainings of the reference": round(float(np.mean(costs)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE", help=", ".join(map(repr, CASES)))
    parser.add_argument("--cifar10", help="folder of CIFAR-10's parquet files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders are")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = read_json(chosen.out) if chosen.out and chosen.out.exists() else {"cases": {}}
    found["command"] = "python benchmarks/evidence/pays.py CASE ... --cifar10 FOLDER"
    for seed in chosen.seeds:
        for name in chosen.cases:
            of = found["cases"].setdefault(name, {"words": list(CASES[name]), "runs": {}})
            if of["words"] != list(CASES[name]):
                parser.error(f"--out: {chosen.out} holds results of {name!r} with other settings")
            if str(seed) in of["runs"]:
                continue
            folder = chosen.runs.resolve() / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            of["runs"][str(seed)] = run_case(CASES[name], seed, chosen.cifar10, folder)
            summary(of)
            print(name, seed, json.dumps(of["summary"]), flush=True)
            if chosen.out:
                write_json(chosen.out, {**found, "made": made()})


if __name__ == "__main__":
    main()
