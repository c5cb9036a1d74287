"""Whether a search pays: the winner of a run against the known networks of the run, on the test split, seed by seed.

    python benchmarks/evidence/pays.py CASE ... [--cifar10 FOLDER] [--seeds N ...] [--runs FOLDER] [--out RESULT.json]

Each case is a `supernet run` with the settings below, once for each seed; photos are 5,000 of CIFAR-10 in folders.
References are the known networks as wide as the same limit allows, trained by the same recipe on the same images. The
winner is compared with the reference that is best on the **test** split, which favours the references; the run itself
compares with the one that is best on the validation split.

With `--random` the same case is run once more with a one-shot model of one step, and with as many more finalists, all
drawn at random, as the time for the one-shot model and its scores pays for: random search in the same space, with the
same heats and about as much time.

With `--analyze` the ranking of each run is analyzed too, and its verdict is kept.

The cost of a run is all of its processor time, references and further trainings included, and beside it that of one
training of the best reference by itself. What the result file holds already is not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import io
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
from one_shot import made
from PIL import Image

from supernet import build, fit
from supernet.base.files import read_json, write_json
from supernet.data.splits import feed
from supernet.program.config import space_of
from supernet.program.folder import open_run
from supernet.program.load import load_run
from supernet.speed.runtime import start

COMMAND = "import sys; from supernet.program.commands import main; sys.exit(main(sys.argv[1:]))"
HERE = Path(__file__).parents[2]
LENGTHS = (
    "--train.steps=400", "--search.candidates=160", "--search.score=loss", "--search.examples=512",
    "--search.top=18", "--search.top_of=18", "--search.random=0", "--search.small=0", "--retrain.heats=2",
    "--retrain.confirm=2",
)  # fmt: skip
RANDOM = ("--train.steps=1", "--search.examples=64", "--reference=resnet8")
CASES: dict[str, tuple[str, ...]] = {
    "demo": ("fashion-60k",),
    "cifar10, 16 pixels, 60 k parameters": (
        "images", "--data.name=cifar10", "--data.image_size=16", "--max-params=60k", *LENGTHS,
        "--retrain.train.steps=1500",
    ),
    "photos, 16 pixels, 60 k parameters": (
        "images", "--data=PHOTOS", "--data.image_size=16", "--max-params=60k", *LENGTHS, "--retrain.train.steps=900",
    ),
    "cifar10, 32 pixels, 2.4 M multiply-adds": (
        "images", "--data.name=cifar10", "--data.image_size=32", "--max-macs=2.4M", *LENGTHS,
        "--retrain.train.steps=1200",
    ),
    "fashion-mnist, 28 pixels, 60 k parameters": (
        "images", "--data.name=fashion-mnist", "--data.image_size=28", "--max-params=60k", *LENGTHS,
        "--retrain.train.steps=600",
    ),
    "cifar10, 16 pixels, 200 k parameters": (
        "images", "--data.name=cifar10", "--data.image_size=16", "--max-params=200k", *LENGTHS,
        "--retrain.train.steps=1000",
    ),
    "photos, 16 pixels, 1 ms": (
        "images", "--data=PHOTOS", "--data.image_size=16", "--max-latency=1ms", *LENGTHS,
        "--retrain.train.steps=600",
    ),
    "photos, 16 pixels, 1 M parameters": (
        "images", "--data=PHOTOS", "--data.image_size=16", "--max-params=1M", *LENGTHS, "--retrain.train.steps=240",
    ),
    "fashion-mnist, 28 pixels, 24 M multiply-adds": (
        "images", "--data.name=fashion-mnist", "--data.image_size=28", "--max-macs=24M", *LENGTHS,
        "--retrain.train.steps=300",
    ),
    "cifar10, 32 pixels, 60 k parameters": (
        "images", "--data.name=cifar10", "--data.image_size=32", "--max-params=60k", *LENGTHS,
        "--retrain.train.steps=500",
    ),
}  # fmt: skip
"""The words after `supernet run`, by the name of the case."""


def words_of(case: str, cifar10: str | None, runs: Path, threads: int) -> list[str]:
    """The words of a case, with the place of its images."""
    photos = runs / "photos"
    if cifar10 is None and ("photos" in case or "cifar10" in case):
        raise SystemExit(f"{case!r} needs --cifar10")
    if "photos" in case and not photos.exists():
        unfinished = photos.with_name("photos.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        write_photos(f"{cifar10}/train-00000-of-00001.parquet", unfinished)
        unfinished.rename(photos)
    place = [f"--data.path={cifar10}"] if "cifar10" in case else []
    # All lengths are given, so no plan is needed, and a busy machine is no reason to refuse.
    hours = ["--hours=48"] if CASES[case][0] == "images" else []
    words = [word.replace("PHOTOS", str(photos)) for word in CASES[case]]
    return [*words, *place, *hours, f"--runtime.threads={threads}"]


def write_photos(parquet: str, folder: Path, number: int = 5_000) -> None:
    """Writes the first images of a table of CIFAR-10 as files, a folder for each class."""
    table = pyarrow.parquet.read_table(parquet).slice(0, number)
    image, label = (next(n for n in table.column_names if n in names) for names in (("img", "image"), ("label",)))
    for index, row in enumerate(table.to_pylist()):
        place = folder / f"class{row[label]}" / f"{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.open(io.BytesIO(row[image]["bytes"])).save(place)


def run_case(words: list[str], seed: int, folder: Path) -> dict[str, Any]:
    """Runs one case with one seed, and reads what came out.

    Args:
        words: of the case.
        seed: of the run.
        folder: of the run; it is continued if it is there, and what it took in all is then not known.
    """
    is_whole = not folder.exists()
    spent = processor_seconds([*words, f"--seed={seed}", "--out", str(folder)])
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
        "heats": [
            [[row["score"], row["validation"]] for row in heat["trained"]] for heat in results.get("heats", ())
        ],
        "processor seconds": round(spent) if is_whole else None,
        "processor seconds of one reference": round(cost_of_one(folder, references[best])),
        "seconds": {name: round(step["seconds"]) for name, step in steps.items()},
        "kernels": steps["train"]["kernels"],
    }  # fmt: skip


def run_at_random(words: list[str], seed: int, folder: Path, searched: dict[str, Any]) -> dict[str, Any]:
    """Runs a case with random finalists in place of the best by their scores, for as much time.

    Args:
        words, seed: of the case.
        folder: of this run.
        searched: what `run_case` has said of the same seed.
    """
    steps, top = searched["seconds"], len(searched["heats"][0])
    whole = 3 * top / 9  # trainings: two heats and the last ones, each as long as a ninth of Top in full
    others = len(searched["references"]) + 2
    number = round(top * (1 + (steps["train"] + steps["search"]) / steps["retrain"] * (whole + others) / whole))
    more = [*RANDOM, *(f"--search.{name}={number}" for name in ("candidates", "top", "top_of"))]
    spent = processor_seconds([*words, *more, f"--seed={seed}", "--out", str(folder)])
    winner = read_json(folder / "results.json")["networks"][0]
    return {
        "finalists": number,
        "winner": {key: winner[key] for key in ("architecture", "params", "macs", "validation", "test")},
        "processor seconds": round(spent),
        "difference": round(float(np.mean(searched["winner"]["test"]) - np.mean(winner["test"])), 5),
    }


def verdict_of(folder: Path) -> dict[str, Any]:
    """Analyzes a run, unless that is done, and returns what its verdict says, and how Top differs from Random."""
    if not (folder / "analysis.json").exists():
        subprocess.run([sys.executable, "-c", COMMAND, "analyze", str(folder)], check=True, cwd=HERE)
    analysis = read_json(folder / "analysis.json")
    trust = analysis["trust"]
    compared = [row for row in analysis["groups"]["differences"] if row["groups"] == ["Top", "Random"]]
    return {
        "networks": trust["n"], "finding": trust["finding"], "tau": trust["tau"]["value"],
        "interval": trust["tau"]["interval"],
        "Top minus Random": compared[0]["difference"] if compared else None,
        "its interval": compared[0]["interval"] if compared else None,
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
    at_random = [run["difference"] for run in of.get("random", {}).values()]
    error = differences.std(ddof=1) / len(differences) ** 0.5 if len(differences) > 1 else None
    costs = [
        run["processor seconds"] / run["processor seconds of one reference"]
        for run in of["runs"].values()
        if run["processor seconds"] is not None
    ]
    of["summary"] = {
        "seeds": len(differences),
        "mean difference, points": round(100 * float(differences.mean()), 2),
        "its standard error": None if error is None else round(100 * float(error), 2),
        "least difference, points": round(100 * float(differences.min()), 2),
        "wins": int((differences > 0).sum()),
        "beyond the noise": sum("beats the reference" in run["said"] for run in of["runs"].values()),
        "cost in trainings of the reference": round(float(np.mean(costs)), 1) if costs else None,
        "above random search, points": round(100 * float(np.mean(at_random)), 2) if at_random else None,
    }
    if of.get("verdicts"):
        of["summary"]["verdicts"] = summary_of_verdicts(list(of["verdicts"].values()))


def summary_of_verdicts(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How often scores predict, and whether Top is better than Random: in one run, and in the mean over the runs."""
    taus, tops = (np.array([v[name] for v in verdicts]) for name in ("tau", "Top minus Random"))
    return {
        "runs": len(verdicts),
        "scores predict": sum(v["finding"] == "predict" for v in verdicts),
        "interval above zero": sum(v["interval"][0] > 0 for v in verdicts),
        "tau": round(float(taus.mean()), 2),
        "least tau": round(float(taus.min()), 2),
        "Top minus Random, points": round(100 * float(tops.mean()), 2),
        "its standard error": round(100 * float(tops.std(ddof=1)) / len(tops) ** 0.5, 2) if len(tops) > 1 else None,
        "Top beyond the noise": sum(v["its interval"] is not None and v["its interval"][0] > 0 for v in verdicts),
    }


def same_configuration(of: dict[str, Any], folder: Path) -> None:
    """Refuses a run of which more than seed, place, processor and analysis differs from the other runs of its case."""
    settings = dataclasses.asdict(open_run(folder).config)
    settings["data"].pop("path")
    for name in ("seed", "runtime", "analysis"):
        settings.pop(name)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    if of.setdefault("configuration", digest) != digest:
        raise SystemExit(f"{folder} has another configuration than the runs before it: take a new --out")


def keep(out: Path | None, found: dict[str, Any], name: str, seed: int) -> None:
    """Sums a case up, says so, and writes the result file."""
    summary(found["cases"][name])
    print(name, seed, json.dumps(found["cases"][name]["summary"]), flush=True)
    if out:
        write_json(out, {**found, "made": made()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=list(CASES), metavar="CASE", help=", ".join(map(repr, CASES)))
    parser.add_argument("--cifar10", help="folder of CIFAR-10's parquet files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders are")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--random", action="store_true", help="random search with as much time, too")
    parser.add_argument("--analyze", action="store_true", help="the verdict of each run, too")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    found = read_json(chosen.out) if chosen.out and chosen.out.exists() else {"cases": {}}
    found["command"] = "python benchmarks/evidence/pays.py CASE ... --cifar10 FOLDER"
    for seed in chosen.seeds:
        for name in chosen.cases:
            of = found["cases"].setdefault(name, {"words": list(CASES[name]), "runs": {}})
            if of["words"] != list(CASES[name]):
                parser.error(f"--out: {chosen.out} holds results of {name!r} with other settings")
            place = chosen.runs.resolve() / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
            words = words_of(name, chosen.cifar10, chosen.runs.resolve(), chosen.threads)
            if str(seed) not in of["runs"]:
                of["runs"][str(seed)] = run_case(words, seed, place)
                same_configuration(of, place)
                keep(chosen.out, found, name, seed)
            if chosen.analyze and str(seed) not in of.setdefault("verdicts", {}):
                of["verdicts"][str(seed)] = verdict_of(place)
                keep(chosen.out, found, name, seed)
            if chosen.random and str(seed) not in of.setdefault("random", {}):
                at_random = place.with_name(f"{place.name}-random")
                of["random"][str(seed)] = run_at_random(words, seed, at_random, of["runs"][str(seed)])
                keep(chosen.out, found, name, seed)


if __name__ == "__main__":
    main()
