"""The steps on a run folder: each reads files, calls the library and writes files.

The order is space, train, search, retrain. A step that is done does nothing when it is called again, and a step that
was interrupted continues where it was.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from supernet.base.files import (
    read_json,
    read_weights,
    sha256,
    without_password,
    write_atomically,
    write_json,
    write_text,
    write_weights,
)
from supernet.base.own import digest_of, file_of, is_function
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import derive, stream
from supernet.base.trees import rows, take_rows
from supernet.config import Config, check_space, make_space, retrained_space, to_yaml
from supernet.data import splits as datasets
from supernet.data.splits import Data, Split, batches, feed, joined, open_test, prepare
from supernet.data.task import Loss, Metric, TaskConfig, loss_of, metric_of
from supernet.export.reading import load_export
from supernet.retrain.results import longest_first, network_row, summarise
from supernet.retrain.study import Sender, Training, open_study, send, sender
from supernet.retrain.trainings import read_network, retrain, test_accuracies
from supernet.runs import RunError, is_done, open_run, record_environment, require, set_aside
from supernet.search.finalists import finalists, from_json, in_order, to_json
from supernet.search.latency import changed, latency_costs
from supernet.search.limits import LimitsConfig, region
from supernet.search.orders import Candidate, best, pareto, within
from supernet.search.rounds import SearchConfig, score_into, search
from supernet.search.scoring import (
    UNLABELLED,
    closeness,
    divergence,
    in_whole_ghost_batches,
    reference_outputs,
    references,
    score,
)
from supernet.search.table import read_candidates, records, write_records
from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.cost import CostTable, cost_table
from supernet.space.model import OneShot, build
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train import paths
from supernet.train.fit import fit

log = logging.getLogger(__name__)


SAVE_SECONDS = 5.0
"""Scores of a file of architectures are saved this often."""


def train_step(folder: Path, runtime: Runtime, watch: Watch) -> bool:
    """Step 2 on a run folder. Returns whether there was anything to do."""
    done = folder / "train" / "model.safetensors"
    if done.exists():
        return False
    config, data, space = load_run(folder)
    if runtime.rank == 0:
        record_environment(folder, "train", runtime.tuning)
    steps = config.train.total_steps(len(data.train))
    model, history = train_one_shot(
        config, space, data, folder / "train", runtime, watch, snapshots=config.analysis.snapshots
    )
    if runtime.rank == 0:
        live = [paths_of(config, space, step, steps).numpy() for step in range(steps)]
        drawn = np.stack([np.packbits(each, axis=1) for each in live])
        write_atomically(folder / "train" / "paths.npy", lambda file: np.save(file, drawn))
        write_json(folder / "train" / "history.json", history)
        write_weights(done, model)
        (folder / "train" / "checkpoint.pt").unlink(missing_ok=True)
    runtime.wait()
    return True


def train_one_shot(
    config: Config, space: Space, data: Data, folder: Path, runtime: Runtime, watch: Watch, *, snapshots: int = 0
) -> tuple[OneShot, list[dict[str, float]]]:
    """Trains a one-shot model with new weights.

    Args:
        config: of the run.
        space, data: what `config` says.
        folder: where checkpoints go, and a killed training continues from.
        runtime: device, precision, processes.
        watch: who follows the work.
        snapshots: so many times, the last at the end, the weights are kept in ``snapshots/STEP.safetensors``.

    Returns:
        The model, and the history of `fit`.
    """
    model = build(space, seed=derive(config.seed, "weights"))
    assert isinstance(model, OneShot)
    steps = config.train.total_steps(len(data.train))
    kept = {max(1, round(i * steps / snapshots)) for i in range(1, snapshots + 1)}

    def progress(done: int, total: int, **figures: float) -> None:
        if done in kept and runtime.rank == 0:
            write_weights(folder / "snapshots" / f"{done}.safetensors", model)
        if watch.progress is not None:
            watch.progress(done, total, **figures)

    history = fit(
        model,
        feed(
            data.train, data, config.data, batch_size=config.train.batch_size, seed=config.seed, device=runtime.device
        ),
        steps,
        config.train,
        runtime=runtime,
        draw_live=lambda step: paths_of(config, space, step, steps),
        loss_function=loss_of_fit(config.task),
        seed=config.seed,
        folder=folder,
        progress=progress,
        stop=watch.stop,
    )
    return model, history


def paths_of(config: Config, space: Space, step: int, steps: int) -> torch.Tensor:
    """What is live in a step of the one-shot model's training: bool [G, P]."""
    ghosts = config.train.batch_size // config.train.ghost_size
    return paths.draw(space, config.paths, ghosts, step / steps, generator=stream(config.seed, "paths", step))


def search_step(folder: Path, runtime: Runtime, watch: Watch) -> bool:
    """Step 3 on a run folder. Returns whether there was anything to do."""
    done = folder / "finalists.json"
    if done.exists():
        return False
    model, config, data = load_one_shot(folder)
    record_environment(folder, "search", runtime.tuning)
    runtime.place(model)
    table, drawn = folder / "candidates.sqlite", folder / "finalists.drawn.json"
    costs = search_costs(config.search, model.space, runtime, folder)
    examples, targets, loss, metric = judged_on(model, config, data, runtime)
    how: Any = {
        "runtime": runtime,
        "loss": loss,
        "metric": metric,
        "progress": watch.progress,
        "stop": watch.stop,
    }
    if not drawn.exists():
        candidates = search(model, examples, targets, costs, config.search, seed=config.seed, table=table, **how)
        groups = finalists(candidates, model.space, config.search, generator=stream(config.seed, "finalists"))
        write_json(drawn, to_json(groups))
    # Whoever left the race early and is a finalist all the same is scored on everything, like the others. The draw
    # stands in a file before that: it must not change when a killed search continues.
    groups = from_json(read_json(drawn), model.space)
    everyone = list(dict.fromkeys(a for name, members in groups.items() if name != "All On" for a in members))
    images = in_whole_ghost_batches(examples, config.search.ghost_size)
    score_into(table, model, everyone, examples, targets, images, costs, config.search, **how)
    write_json(done, to_json(in_order(groups, read_candidates(table, model.space))))
    drawn.unlink()
    return True


def search_costs(config: SearchConfig, space: Space, runtime: Runtime, folder: Path) -> CostTable:
    """What candidates cost, with latency and memory on the run's device where a limit or an objective asks for them."""
    if not {"latency", "memory"} & set(config.needs):
        return cost_table(space)
    path = folder / "latency.json"
    if path.exists() and (differing := changed(path, config.latency, runtime.device)):
        begun = (folder / "candidates.sqlite").exists()
        more = ", and the search that it belongs to is set aside" if begun else ""
        log.info("latency is measured anew%s: it was measured with %s", more, "; ".join(differing))
        for name in ("latency.json", "candidates.sqlite", "finalists.drawn.json"):
            set_aside(folder / name)
    return latency_costs(space, config.latency, runtime.device, path)


def retrain_step(folder: Path, runtime: Runtime, watch: Watch) -> bool:
    """Step 4 on a run folder: finalists from scratch, then the test split. Returns whether there was anything to do."""
    done = folder / "results.json"
    if done.exists():
        return False
    model, config, data = load_one_shot(folder)
    groups = from_json(read_json(require(folder, "search")), model.space)
    if not groups:
        raise RunError(f"{folder / 'finalists.json'} names no network: there is nothing to retrain")
    scored = {c.architecture: c for c in read_candidates(folder / "candidates.sqlite", model.space)}
    record_environment(folder, "retrain", runtime.tuning)
    space = retrained_space(config, data.classes, data.inputs)
    metric = metric_of(config.task)
    costs = cost_table(space)
    everyone = longest_first(groups, costs)
    with sender(
        folder, space, run_id(config, data.hashes), lambda: trainings_of(folder, config, space, costs),
        watch.storage, watch.study, watch.artifacts,
    ) as tell:  # fmt: skip
        train_alone(everyone, folder, config, data, space, runtime, watch, tell)
    place = folder / "retrain"
    runtime.place(model)
    missing = [architecture for architecture in everyone if architecture not in scored]
    if missing:  # All On, which is drawn by no search
        examples, targets, loss, judge = judged_on(model, config, data, runtime)
        figures = score(
            model, missing, examples, targets, runtime=runtime, loss=loss, metric=judge,
            ghost_size=config.search.ghost_size,
        )  # fmt: skip
        for architecture, (found, mean_loss) in zip(missing, figures, strict=True):
            scored[architecture] = Candidate(architecture, found, mean_loss, rows(examples), 0, 0, 0)
    networks = [network_row(costs, scored[a], place, config.retrain.repeats) for a in everyone]
    # From here on nothing is chosen any more. This line opens the test split.
    test = open_test(
        config.data, seed=config.seed, record=place / "test_opened.json", networks=[a.id for a in everyone]
    )
    tested = test_accuracies(
        space,
        everyone,
        lambda: batches(test, data, device=runtime.device),
        config.retrain.repeats,
        runtime=runtime,
        folder=place,
        metric=metric,
    )
    for row in networks:
        row["test"] = tested[row["id"]]
    result = summarise(groups, networks, read_json(place / "test_opened.json"))
    write_json(done, {"metric": config.task.metric, "score": config.search.score, **result})
    return True


def train_alone(
    architectures: Sequence[Architecture],
    folder: Path,
    config: Config,
    data: Data,
    space: Space,
    runtime: Runtime,
    watch: Watch,
    tell: Sender,
) -> None:
    """Trains networks from scratch as `config.retrain` says; those that are trained already are not trained again."""
    tell.update()
    settings = config.retrain.train
    images = data.train if config.retrain.images == "train" else joined([data.train, data.validation])
    retrain(
        space,
        architectures,
        lambda seed: feed(images, data, config.data, batch_size=settings.batch_size, seed=seed, device=runtime.device),
        settings.total_steps(len(images)),
        (lambda: batches(data.validation, data, device=runtime.device)) if config.retrain.images == "train" else None,
        config.retrain,
        runtime=runtime,
        seed=config.seed,
        folder=folder / "retrain",
        loss=loss_of_fit(config.task),
        metric=metric_of(config.task),
        progress=watch.progress,
        stop=watch.stop,
        finished=tell.update,
        learned=tell.point,
    )


def retrain_candidates(folder: Path, numbers: Sequence[int], runtime: Runtime, watch: Watch) -> list[dict[str, Any]]:
    """Trains candidates from scratch, by their numbers in the table; the test split stays closed.

    Returns:
        For each its record in the table, and `validation`, of each repeat.

    Raises:
        RunError: there is no candidate with such a number.
    """
    config, data, space = load_run(folder)
    table = folder / "candidates.sqlite"
    if not table.exists():
        raise RunError(f"{table} is not there: run `supernet search {folder}` first")
    known = {c.number: c for c in read_candidates(table, space)}
    if wrong := [n for n in numbers if n not in known]:
        raise RunError(f"candidates: no number {wrong[0]}; `supernet top {folder}` prints those that there are")
    picked = [known[n] for n in numbers]
    record_environment(folder, "retrain candidates", runtime.tuning)
    large = retrained_space(config, data.classes, data.inputs)
    costs = cost_table(large)
    wanted = [c.architecture for c in picked]
    with sender(
        folder, large, run_id(config, data.hashes), lambda: trainings_of(folder, config, large, costs, wanted),
        watch.storage, watch.study, watch.artifacts,
    ) as tell:  # fmt: skip
        train_alone(wanted, folder, config, data, large, runtime, watch, tell)
    rows = [network_row(costs, c, folder / "retrain", config.retrain.repeats) for c in picked]
    return [{**record, "validation": row["validation"]} for record, row in zip(records(picked), rows, strict=True)]


def run_id(config: Config, hashes: dict[str, str]) -> str:
    """What tells a run from others in the same study: a digest of its configuration and its data."""
    text = to_yaml(dataclasses.replace(config, runtime=RuntimeConfig())) + repr(sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def trainings_of(
    folder: Path, config: Config, space: Space, costs: CostTable, others: Sequence[Architecture] = ()
) -> list[Training]:
    """The stand-alone trainings of a run: those of finalists, done or not, and what else was trained from scratch.

    Args:
        folder: of the run.
        config: its configuration.
        space: of its stand-alone networks.
        costs: of these.
        others: who is to be trained too.
    """
    place = folder / "retrain"
    done = folder / "finalists.json"
    groups = from_json(read_json(done), space) if done.exists() else {}
    everyone = [*(a for members in groups.values() for a in members), *others]
    everyone += [space.parse(read_json(path)["architecture"]) for path in sorted(place.glob("*/0/result.json"))]
    scored = {c.architecture: c for c in read_candidates(folder / "candidates.sqlite", space)}
    found = []
    for architecture in dict.fromkeys(everyone):
        known = scored.get(architecture)
        facts: dict[str, Any] = {**dataclasses.asdict(costs.cost(architecture)), "run": folder.resolve().name}
        facts["groups"] = ", ".join(name for name, members in groups.items() if architecture in members)
        if known is not None:
            facts |= {
                "score": known.score,
                "images": known.images,
                "strategy": known.strategy,
                "number": known.number,
            }
            facts |= {name: value for name in ("latency", "memory") if (value := getattr(known, name)) is not None}
        for repeat in range(config.retrain.repeats):
            found.append(Training(architecture, repeat, place / architecture.id / str(repeat), facts))
    return found


def send_study(folder: Path, storage: str | None, name: str | None, artifacts: Path | None = None) -> dict[str, Any]:
    """Brings the study of a run up to date, from files only.

    Returns:
        `storage` (without its password), `study`, `artifacts`, `sent` (trials added or completed) and `trials` (all of
        them).

    Raises:
        RunError: nothing was searched yet.
        StorageError: see `supernet.retrain.study.open_study`.
    """
    config, _ = space_of_run(folder)
    require(folder, "search")
    known = read_json(folder / "data.json", ("classes", "inputs", "hashes"))
    space = retrained_space(config, known["classes"], known["inputs"])
    trainings = trainings_of(folder, config, space, cost_table(space))
    address = without_password(storage) if storage else f"sqlite:///{folder / 'study.sqlite'}"
    with open_study(folder, space, storage, name) as study:
        place = artifacts or folder / "artifacts"
        place.mkdir(parents=True, exist_ok=True)
        sent = send(study, space, trainings, run_id(config, known["hashes"]), place, is_own=storage is None)
        trials = len(study.get_trials(deepcopy=False))
        return {
            "storage": address, "study": study.study_name, "artifacts": str(place), "sent": sent, "trials": trials,
        }  # fmt: skip


def judged_on(model: OneShot, config: Config, data: Data, runtime: Runtime) -> tuple[Any, Any, Loss, Metric]:
    """What `config.search.score` asks for: examples, targets, and the loss and metric of outputs and targets.

    For the score 'kl' the targets are the outputs of the reference architectures.

    Args:
        model: the one-shot model, on the device.
    """
    asked = config.search
    if asked.score != "kl":
        task = config.task if asked.score == "metric" else dataclasses.replace(config.task, metric="loss")
        examples, targets = prepare(data.validation, data, device=runtime.device, images=asked.images)
        return examples, targets, loss_of(task), metric_of(task)
    number = min(len(data.train), asked.images or UNLABELLED)
    part = torch.randperm(len(data.train), generator=stream(config.seed, "unlabelled"))[:number]
    split = Split(take_rows(data.train.examples, part), take_rows(data.train.targets, part), data.train.hash)
    examples, _ = prepare(split, data, device=runtime.device)
    drawn = references(model.space, asked.references, generator=stream(config.seed, "references"))
    outputs = reference_outputs(model, examples, drawn, runtime=runtime, ghost_size=asked.ghost_size)
    return examples, outputs, divergence, closeness


def load_one_shot(folder: Path) -> tuple[OneShot, Config, Data]:
    """The trained one-shot model of a run, its configuration and its data.

    Raises:
        RunError: it is not trained yet.
        ValueError: the weights are damaged or do not fit.
    """
    config, data, space = load_run(folder)
    weights = require(folder, "train")
    model = build(space, seed=0)
    assert isinstance(model, OneShot)
    read_weights(weights, model)
    return model, config, data


def score_file(folder: Path, architectures: Path, out: Path, watch: Watch) -> int:
    """Scores architectures given one a line as text, in that order, into a CSV file.

    Lines that the file holds already are kept and not scored again.

    Returns:
        The number of architectures scored.

    Raises:
        ArchitectureError: a line is no architecture of the run's space; the message names the line.
        RunError: the CSV file is of other architectures, or of another one-shot model.
    """
    model, config, data = load_one_shot(folder)
    runtime = start(config.runtime)
    if runtime.rank > 0:
        return 0
    runtime = runtime.alone()
    wanted = []
    for number, text in enumerate(architectures.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        if text.strip():
            try:
                wanted.append((text.strip(), model.space.parse(text)))
            except ArchitectureError as error:
                raise ArchitectureError(f"{architectures}, line {number}: {error}") from None
    # What the scores depend on besides the architecture, so that a file of another run is not taken for this one's.
    weights = sha256(require(folder, "train"))
    asked = config.search
    facts: tuple[Any, ...] = (
        weights, data.hashes["validation"], asked.images, asked.ghost_size, asked.size_bonus
    )  # fmt: skip
    if asked.size_bonus:
        facts = (*facts, "macs")  # files of before, where it went by parameters, are of another model
    if config.search.score == "loss":
        facts = (*facts, config.search.score)
    if config.search.score == "kl":
        facts = (*facts, config.search.score, config.search.references, config.seed)
    model_id = hashlib.sha256(repr(facts).encode()).hexdigest()[:10]
    header = ["architecture", "accuracy", "loss", "params", "weights", "macs", "bonus", "model"]
    rows: list[list[Any]] = []
    if out.exists():
        with out.open(newline="", encoding="utf-8", errors="replace") as file:
            found, *rows = list(csv.reader(file)) or [[]]
        if found != header or [row[:1] for row in rows] != [[text] for text, _ in wanted[: len(rows)]]:
            raise RunError(f"{out} holds the scores of other architectures: choose another file or delete it")
        if any(row[-1] != model_id for row in rows):
            raise RunError(f"{out} holds the scores of another one-shot model: choose another file or delete it")
    waiting = wanted[len(rows) :]
    runtime.place(model)
    examples, targets, loss_function, metric = judged_on(model, config, data, runtime)
    picked = [architecture for _, architecture in waiting]
    scores = score(
        model, picked, examples, targets, runtime=runtime, loss=loss_function, metric=metric,
        ghost_size=config.search.ghost_size,
        ghosts_per_forward=config.search.ghosts_per_forward,
    )  # fmt: skip
    table = cost_table(model.space)
    costs, bonuses = table.costs(picked).tolist(), (config.search.size_bonus * table.doublings(picked)).tolist()

    def save() -> None:
        buffer = io.StringIO(newline="")
        csv.writer(buffer).writerows([header, *rows])
        write_text(out, buffer.getvalue())

    save()  # a place that cannot be written shows before the work
    saved = time.monotonic()
    try:
        for (text, _), (accuracy, loss), sums, bonus in zip(waiting, scores, costs, bonuses, strict=True):
            rows.append([text, repr(accuracy), repr(loss), *sums, repr(bonus), model_id])
            if watch.progress is not None:
                watch.progress(len(rows), len(wanted), accuracy=accuracy)
            if watch.stop():
                raise Interrupted(f"stopped after {len(rows)} of {len(wanted)} architectures")
            if time.monotonic() - saved > SAVE_SECONDS:
                save()
                saved = time.monotonic()
    finally:
        save()
    return len(waiting)


def space_of_run(folder: Path) -> tuple[Config, Space]:
    """The configuration of a run and the space of its one-shot model, without its data.

    Raises:
        RunError: no run folder, or nothing has been done in it.
    """
    config = open_run(folder)
    if not (folder / "data.json").exists():
        raise RunError(f"{folder} has no step that is done: run `supernet train {folder}` first")
    known = read_json(folder / "data.json", ("classes", "inputs"))
    return config, make_space(config.space, len(known["classes"]), known["inputs"])


def top_candidates(
    folder: Path, number: int, limits: LimitsConfig, in_bands: int, objectives: str | None, out: Path | None
) -> dict[str, Any]:
    """The best candidates of a search, also of one that is under way.

    Args:
        folder: of the run.
        number: how many, of each band.
        limits: within which they have to be.
        in_bands: bands of size.
        objectives: with commas; then the whole Pareto front is given, not so many of the best.
        out: a CSV or parquet file for all candidates within the limits.

    Returns:
        `metric`, `score`, `of` (how many are within the limits), `bands` (lists of records), and for a front
        `objectives` and `hypervolume`.

    Raises:
        RunError: there are no candidates yet.
        ValueError: nobody is within the limits, or an objective is unknown or was not measured.
    """
    config, space = space_of_run(folder)
    table = folder / "candidates.sqlite"
    if not table.exists():
        raise RunError(f"{table} is not there: run `supernet search {folder}` first")
    inside = within(read_candidates(table, space), limits.bounds())
    if not inside:
        raise RunError(f"{table} holds no candidate yet: run `supernet search {folder}` first")
    found: dict[str, Any] = {"metric": config.task.metric, "score": config.search.score, "of": len(inside)}
    if objectives is None:
        found["bands"] = [records(band) for band in best(inside, number, in_bands)]
    else:
        sought = dataclasses.replace(config.search, objectives=objectives, strategy="random", strategy_settings={})
        points, volume = pareto(inside, sought.sought)
        found |= {"bands": [records(points)], "objectives": list(sought.sought), "hypervolume": volume}
    if out is not None:
        write_records(out, inside)
        found["out"] = str(out)
    return found


def load(folder: str | Path, rank: int = 1) -> nn.Module:
    """A retrained network of a finished run, as an ordinary module with its weights, in evaluation mode.

    Args:
        folder: the run folder; or that of an export, which holds one network.
        rank: 1 is the best by validation accuracy. The first repeat's weights are taken.

    Raises:
        RunError: the run is not finished, or has no such rank.
    """
    folder = Path(folder)
    if (folder / "export.json").is_file():
        return load_export(folder)
    config = open_run(folder)
    row = finalist(folder, rank)
    known = read_json(folder / "data.json")
    space = retrained_space(config, known["classes"], known["inputs"])
    return read_network(space, space.parse(row["architecture"]), folder / "retrain")


def read_networks(folder: Path) -> list[dict[str, Any]]:
    """What `results.json` of a finished run says of each network that was trained from scratch.

    Raises:
        RunError: the run is not finished.
        ValueError: the file is damaged.
    """
    networks: list[dict[str, Any]] = read_json(require(folder, "retrain"), ("networks",))["networks"]
    return networks


def finalist(folder: Path, rank: int) -> dict[str, Any]:
    """What `results.json` says of the finalist of this rank.

    Raises:
        RunError: the run is not finished, or has no such rank; the message says which there are.
    """
    ranks = {row["rank"]: row for row in read_networks(folder) if "rank" in row}
    if rank not in ranks:
        raise RunError(f"rank: expected from 1 to {len(ranks)}, got {rank}")
    return ranks[rank]


def load_run(folder: Path) -> tuple[Config, Data, Space]:
    """The configuration of a run, its data and its space, checked against what the folder has recorded of them."""
    config = open_run(folder)
    data = datasets.load(config.data, seed=config.seed)
    functions = (config.space.name, config.task.loss, config.task.metric)
    files = {str(file_of(name)): digest_of(name) for name in functions if is_function(name)}
    facts = {
        "images": {"train": len(data.train), "validation": len(data.validation)},
        "hashes": data.hashes,
        "classes": list(data.classes),
        "inputs": data.inputs,
        "mean": list(data.mean),
        "std": list(data.std),
        "files": files,
    }
    path = folder / "data.json"
    known = read_json(path, ("hashes", "files")) if path.exists() else facts
    if known["hashes"] != facts["hashes"]:
        raise RunError(f"the data at {config.data.path or config.data.name} has changed since {folder} was made")
    if changed := [file for file, digest in files.items() if known["files"].get(file) != digest]:
        raise RunError(
            f"{changed[0]} has changed since {folder} was made: put it back as it was, or choose another folder"
        )
    # What step 4 or 3 would refuse is refused before step 2.
    config.retrain.train.total_steps(len(data.train))
    available, usual = (data.train, UNLABELLED) if config.search.score == "kl" else (data.validation, math.inf)
    images = min(len(available), config.search.images or usual)
    if images < config.search.ghost_size:
        raise RunError(
            f"{images} examples to score on are too few for search.ghost_size {config.search.ghost_size}: lower it, or "
            "raise search.images or data.validation"
        )
    space = check_space(config, len(data.classes), data.inputs, check=not path.exists())
    if not path.exists():
        _check_limits(config.search.limits, space)
        write_json(path, facts)
    return config, data, space


def check_limits(folder: Path, config: Config) -> None:
    """Whether anything meets the limits of a new configuration of a run, as far as that is known without measuring.

    Raises:
        LimitsError: nothing does; the message names the smallest or largest possible.
    """
    known = read_json(folder / "data.json", ("classes", "inputs"))
    _check_limits(config.search.limits, make_space(config.space, len(known["classes"]), known["inputs"]))


def _check_limits(limits: LimitsConfig, space: Space) -> None:
    """Whether anything meets the limits that are known without measuring: before step 2 and not after it."""
    here = dataclasses.replace(limits, max_latency=None, min_latency=None, max_memory=None, min_memory=None)
    if here.bounds():
        region(cost_table(space), here)


def loss_of_fit(config: TaskConfig) -> Loss | None:
    """The `loss_function` of `fit`."""
    return None if config.loss == "cross-entropy" else loss_of(config)  # None: with the training's label smoothing


STEPS: dict[str, Callable[[Path, Runtime, Watch], bool]] = {
    "train": train_step,
    "search": search_step,
    "retrain": retrain_step,
}


def run_step(step: str, folder: Path, watch: Watch) -> bool:
    """Runs one step by its name, on the device of the run's configuration. Returns whether it did anything."""
    if is_done(folder, step):
        return False
    runtime = start(open_run(folder).runtime)
    if step != "train":
        if runtime.rank > 0:
            return False  # scoring and stand-alone networks are the first process's work
        runtime = runtime.alone()
    return STEPS[step](folder, runtime, watch)
