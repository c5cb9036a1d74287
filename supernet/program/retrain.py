"""`supernet retrain`: step 4 on a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supernet.base.files import read_json, write_json
from supernet.base.progress import Watch
from supernet.data.splits import batches, feed, joined, open_test
from supernet.data.task import metric_of
from supernet.program.config import retrained_space
from supernet.program.folder import RunError, record_environment, require
from supernet.program.load import Loaded, load_one_shot, loss_of_fit
from supernet.program.score import evaluation_of
from supernet.program.study import run_id, trainings_of
from supernet.retrain.results import longest_first, network_row, summarise
from supernet.retrain.study import Sender, sender
from supernet.retrain.trainings import Lessons, retrain, test_accuracies
from supernet.search.finalists import from_json
from supernet.search.orders import Candidate
from supernet.search.scoring import values_of
from supernet.search.table import read_candidates, records
from supernet.space.choices import Architecture, Space
from supernet.space.cost import cost_table
from supernet.speed.runtime import Runtime


def retrain_step(run: Loaded, runtime: Runtime, watch: Watch) -> bool:
    """Step 4 on a run folder: finalists from scratch, then the test split. Returns whether there was anything to do."""
    folder, config, data = run.folder, run.config, run.data
    if folder.results.exists():
        return False
    model = load_one_shot(run)
    groups = from_json(read_json(require(folder, "search")), model.space)
    if not groups:
        raise RunError(f"{folder.finalists} names no network: there is nothing to retrain")
    scored = {c.architecture: c for c in read_candidates(folder.candidates, model.space)}
    record_environment(folder, "retrain", runtime.tuning)
    space = retrained_space(config, data.classes, data.inputs)
    metric = metric_of(config.task)
    costs = cost_table(space)
    everyone = longest_first(groups, costs)
    with sender(
        folder.path, space, run_id(config, data.hashes), trainings_of(folder, config, space, costs, scored),
        watch.storage, watch.study, watch.artifacts,
    ) as tell:  # fmt: skip
        _train_alone(everyone, run, space, runtime, watch, tell)
    place = folder.retrain
    runtime.place(model)
    missing = [architecture for architecture in everyone if architecture not in scored]
    if missing:  # All On, which is drawn by no search
        evaluation = evaluation_of(model, config, data, runtime)
        for architecture, (value, loss) in zip(missing, values_of(evaluation, missing), strict=True):
            scored[architecture] = Candidate(architecture, value, loss, evaluation.count, 0, 0, 0)
    networks = [network_row(costs, scored[a], place, config.retrain.repeats) for a in everyone]
    # From here on nothing is chosen any more. This line opens the test split.
    test = open_test(data.test, record=folder.test_opened, networks=[a.id for a in everyone])
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
    result = summarise(groups, networks, read_json(folder.test_opened))
    write_json(folder.results, {"metric": config.task.metric, "score": config.search.score, **result})
    return True


def _train_alone(
    architectures: Sequence[Architecture],
    run: Loaded,
    space: Space,
    runtime: Runtime,
    watch: Watch,
    sender: Sender,
) -> None:
    """Trains networks from scratch as `config.retrain` says; those that are trained already are not trained again."""
    config, data = run.config, run.data
    sender.update()
    settings = config.retrain.train
    images = data.train if config.retrain.splits == "train" else joined([data.train, data.validation])
    lessons = Lessons(
        feed=lambda seed: feed(
            images, data, config.data, batch_size=settings.batch_size, seed=seed, device=runtime.device
        ),
        steps=settings.total_steps(len(images)),
        validation=(
            (lambda: batches(data.validation, data, device=runtime.device))
            if config.retrain.splits == "train"
            else None
        ),
        loss=loss_of_fit(config.task),
        metric=metric_of(config.task),
    )
    retrain(
        space, architectures, lessons, config.retrain, runtime=runtime, seed=config.seed, folder=run.folder.retrain,
        watch=watch, sender=sender,
    )  # fmt: skip


def retrain_candidates(run: Loaded, numbers: Sequence[int], runtime: Runtime, watch: Watch) -> list[dict[str, Any]]:
    """Trains candidates from scratch, by their numbers in the table; the test split stays closed.

    Returns:
        For each its record in the table, and `validation`, of each repeat.

    Raises:
        RunError: there is no candidate with such a number.
    """
    folder, config, data = run.folder, run.config, run.data
    table = folder.candidates
    if not table.exists():
        raise RunError(f"{table} is not there: run `supernet search {folder}` first")
    known = {c.number: c for c in read_candidates(table, run.space)}
    if wrong := [n for n in numbers if n not in known]:
        raise RunError(f"candidates: no number {wrong[0]}; `supernet top {folder}` prints those that there are")
    picked = [known[n] for n in numbers]
    record_environment(folder, "retrain candidates", runtime.tuning)
    large = retrained_space(config, data.classes, data.inputs)
    costs = cost_table(large)
    wanted = [c.architecture for c in picked]
    scored = {c.architecture: c for c in known.values()}
    with sender(
        folder.path, large, run_id(config, data.hashes), trainings_of(folder, config, large, costs, scored, wanted),
        watch.storage, watch.study, watch.artifacts,
    ) as tell:  # fmt: skip
        _train_alone(wanted, run, large, runtime, watch, tell)
    rows = [network_row(costs, c, folder.retrain, config.retrain.repeats) for c in picked]
    return [{**record, "validation": row["validation"]} for record, row in zip(records(picked), rows, strict=True)]
