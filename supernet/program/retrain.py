"""`supernet retrain`: step 4 on a run folder."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from supernet.base.files import check_digest, read_json, sha256, write_json
from supernet.base.progress import Watch
from supernet.data.splits import batches, open_test
from supernet.data.task import metric_of
from supernet.draw.units import Unit
from supernet.program.again import looks, tell_origin
from supernet.program.config import digest_of_tested, retrained_space
from supernet.program.folder import RunError, record_environment, require
from supernet.program.load import Loaded, lessons_of, load_one_shot
from supernet.program.paths import RunFolder
from supernet.program.references import reference_names, references_of
from supernet.program.score import evaluation_of, measuring_of
from supernet.program.sizes import Size, size_row, sizes_of
from supernet.program.study import run_id, trainings_of
from supernet.retrain.heats import best, heats, record
from supernet.retrain.results import (
    REFERENCE,
    Member,
    best_reference,
    longest_first,
    network_row,
    ranked,
    reference_row,
    summarise,
)
from supernet.retrain.study import NO_STUDY, Sender, open_study, sender
from supernet.retrain.trainings import (
    Network,
    RetrainConfig,
    failures_in,
    failures_text,
    has_result,
    networks_of,
    test_accuracies,
    train_networks,
)
from supernet.search.finalists import from_json, to_json
from supernet.search.orders import Candidate
from supernet.search.recording import figures_of
from supernet.search.scoring import values_of
from supernet.search.table import read_candidates, read_ranking, records
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table
from supernet.spaces.references import REFERENCES
from supernet.speed.runtime import Runtime
from supernet.train.fit import TrainConfig

log = logging.getLogger(__name__)


def retrain_step(run: Loaded, runtime: Runtime, watch: Watch) -> bool:
    """Step 4 on a run folder: finalists and references from scratch, then the test split.

    Returns:
        Whether there was anything to do.
    """
    folder, config, data = run.folder, run.config, run.data
    if folder.results.exists():
        return False
    _check_configuration(run)
    groups = from_json(read_json(require(folder, "search")), run.space)
    if not groups:
        raise RunError(f"{folder.finalists} names no network: there is nothing to retrain")
    check_digest(folder.candidates)
    scored = {c.architecture: c for c in read_candidates(folder.candidates, run.space)}
    record_environment(folder, "retrain", runtime.tuning)
    space = retrained_space(config, data.classes, data.inputs)
    costs = cost_table(space)
    names = reference_names(config, run.space)
    if names and folder.test_opened.exists() and not folder.references.exists():
        log.info("no reference is trained: the test split was opened without one")
        names = []
    _say_plan(groups, len(names), config.retrain)
    if config.retrain.heats and watch.storage:  # before the heats, not hours after their beginning
        with open_study(folder.path, space, watch.storage, watch.study):
            pass
    groups, shorter = _heats(run, groups, costs, scored, space, runtime, watch)
    everyone = longest_first(groups, costs)
    of_space = [space.parse(name) for name in names if name not in REFERENCES]
    trainings = trainings_of(folder, config, space, costs, scored, of_space)
    with sender(
        folder.path, space, run_id(config, data.hashes), trainings, watch.storage, watch.study, watch.artifacts
    ) as tell:
        tell.update()
        finalists = networks_of(space, everyone, folder.retrain)
        finalists = _train_alone(_trainings(finalists, config.retrain.repeats), run, runtime, watch, tell)
        groups, everyone = _of(groups, finalists), [network.architecture for network in finalists]
        if not everyone:
            raise RunError(f"no finalist could be trained: {failures_text(folder.retrain)}")
        scored |= _scores_of_others([a for a in everyone if a not in scored], run, runtime)
        rows = [network_row(costs, scored[a], folder.retrain, config.retrain.repeats) for a in everyone]
        references = _train_references(run, rows, groups, runtime, watch) if names else []
        rows = _with_references(rows, references, config.retrain.repeats)
        members: dict[str, Sequence[Member]] = {**groups, **({REFERENCE: references} if references else {})}
        networks = list({network.id: network for network in [*finalists, *references]}.values())
        numbers = _confirm(run, networks, rows, members, runtime, watch)
        sizes = _train_at_sizes(run, everyone, runtime, watch)
        tell.update()
    _say_failures(folder)
    trained = [(network, numbers[network.id]) for network in networks]
    of_sizes = [(network, config.retrain.repeats) for size in sizes for network in size.networks]
    names = [*(network.id for network in networks), *(name for size in sizes for name in size.ids)]
    test = _opened(run, names, [*trained, *of_sizes])
    tested = test(trained, runtime)
    resized_rows = []
    for size in sizes:
        of_size = test([(network, config.retrain.repeats) for network in size.networks], runtime)
        resized_rows.append(size_row(size, groups, scored, config.retrain.repeats, of_size))
    result = _summary(run, [{**row, "test": tested[row["id"]]} for row in rows], members)
    _write_results(run, result, shorter, resized_rows)
    return True


def _train_at_sizes(run: Loaded, finalists: Sequence[Architecture], runtime: Runtime, watch: Watch) -> list[Size]:
    """Trains the finalists at the sizes that `retrain.at` names."""
    sizes = sizes_of(run, finalists)
    networks = [network for size in sizes for network in size.networks]
    networks = _train_alone(_trainings(networks, run.config.retrain.repeats), run, runtime, watch)
    return [size.of(networks) for size in sizes]


def _write_results(
    run: Loaded, result: Mapping[str, Any], heats: Sequence[dict[str, Any]], at_sizes: Sequence[dict[str, Any]]
) -> None:
    """Writes `results.json`: the result, what it was made of, and which trainings are missing."""
    folder, config = run.folder, run.config
    refined = read_json(folder.refinement) if folder.refinement.exists() else {}
    refined = refined if refined.get("is_used") else {}
    failed = [{name: row[name] for name in ("training", "tries", "error")} for row in failures_in(folder.retrain)]
    parts = {"heats": heats, "at": at_sizes, "refined": refined, "failed": failed}
    facts = {
        "metric": config.task.metric, "score": config.search.ranked_by, "validation_examples": len(run.data.validation)
    }  # fmt: skip
    more = {name: part for name, part in parts.items() if part}
    write_json(folder.results, {**facts, **result, **more}, digest=True)


def _of(groups: Mapping[str, list[Architecture]], networks: Sequence[Network]) -> dict[str, list[Architecture]]:
    """The groups without networks that could not be trained."""
    architectures = {network.architecture for network in networks}
    kept = {name: [a for a in members if a in architectures] for name, members in groups.items()}
    return {name: members for name, members in kept.items() if members or not groups[name]}


def _say_failures(folder: RunFolder) -> None:
    """Says which trainings are not there."""
    if failures_in(folder.retrain):
        log.warning("retrain: %s; networks of which a training is missing are left out", failures_text(folder.retrain))


def _check_configuration(run: Loaded) -> None:
    """Refuses before any training what the opened test split would refuse after it.

    Raises:
        RunError: the test split was opened with another configuration, which was edited by hand since.
    """
    record = run.folder.test_opened
    opened = read_json(record) if record.exists() else {}
    if opened.get("digests", {}).get("configuration", digest_of_tested(run.config)) != digest_of_tested(run.config):
        raise RunError(
            f"the test split of this run was opened on {opened.get('opened')} with another configuration; it is opened "
            f"once ({record}): put {run.folder.config} back as it was, or choose another folder"
        )


def _heats(
    run: Loaded,
    groups: dict[str, list[Architecture]],
    costs: CostTable,
    scored: Mapping[Architecture, Candidate],
    space: Space,
    runtime: Runtime,
    watch: Watch,
) -> tuple[dict[str, list[Architecture]], list[dict[str, Any]]]:
    """Trains the group Top in heats; returns the groups with those that are left of it, and what each heat gave."""
    settings, left = run.config.retrain.train, groups.get("Top", [])
    records: list[dict[str, Any]] = []
    for number, heat in enumerate(heats(len(left), run.config.retrain.heats), start=1):
        networks = networks_of(space, longest_first({"Top": left}, costs), run.folder.heat(number))
        steps = max(1, round(heat.share * settings.total_steps(len(run.data.train))))
        networks = _train_alone(_trainings(networks, 1), run, runtime, watch, settings=replace(settings, steps=steps))
        left = _of({"Top": left}, networks).get("Top", [])
        results = {a.id: read_json(run.folder.heat(number) / a.id / "0" / "result.json")["validation"] for a in left}
        ordered = sorted(left, key=lambda a: -results[a.id])
        rows = [
            {"id": a.id, "architecture": str(a), "score": scored[a].score, "validation": results[a.id]}
            for a in ordered
        ]  # fmt: skip
        records.append(record(heat, steps, rows))
        kept = best(results, heat.kept)
        left = [a for a in left if a.id in kept]
    if records:
        groups = {**groups, "Top": left}
        write_json(run.folder.kept, to_json(groups), digest=True)
    return groups, records


def _scores_of_others(others: Sequence[Architecture], run: Loaded, runtime: Runtime) -> dict[Architecture, Candidate]:
    """Scores finalists that are no candidates, and measures them for a joint rank: All On, which no search draws."""
    if not others:
        return {}
    config, costs = run.config.search, cost_table(run.space)
    values: Iterable[tuple[float, float]] = [(math.nan, math.nan)] * len(others)
    count = 0
    if config.score != "none":
        model = load_one_shot(run)
        runtime.place(model)
        evaluation = evaluation_of(model, run.config, run.data, runtime)
        values, count = values_of(evaluation, others), evaluation.count
    figures = figures_of(others, costs, config, measuring_of(run.config, run.data, runtime))
    ranking = read_ranking(run.folder.candidates)
    scored = {}
    for architecture, (value, loss), row in zip(others, values, figures, strict=True):
        measures = tuple(row.items())
        candidate = Candidate(architecture, value, loss, count, 0, 0, 0, measures=measures)
        joint = None if ranking is None else ranking.joint(candidate.parts)
        scored[architecture] = replace(candidate, joint=joint)
    return scored


def _say_plan(groups: Mapping[str, Sequence[Architecture]], references: int, config: RetrainConfig) -> None:
    """Says before the trainings how many follow."""
    top = groups.get("Top", ())
    plan = heats(len(top), config.heats)
    for heat in plan:
        log.info(
            "retrain: a heat of %d finalists of Top, %.0f %% of a training each; the best %d go on",
            heat.networks,
            100 * heat.share,
            heat.kept,
        )
    everyone = {a for name, members in groups.items() if name != "Top" or not plan for a in members}
    finalists = len(everyone) + (plan[-1].kept if plan else 0)
    at_sizes = finalists * sum(map(len, config.at.values()))
    number = (finalists + references + at_sizes) * config.repeats
    further = 2 * max(0, config.confirm - config.repeats) if references else 0
    log.info(
        "retrain: %d finalists%s and %s, %s each%s: %s%d trainings",
        finalists,
        f", each at {at_sizes // finalists} more sizes" if at_sizes else "",
        f"up to {references} references" if references else "no reference",
        "one training" if config.repeats == 1 else f"{config.repeats} trainings",
        f", then {further} more of the winner and the best reference" if further else "",
        "at most " if references or plan else "",
        number + further,
    )


def _trainings(networks: Sequence[Network], number: int, start: int = 0) -> list[tuple[Network, int]]:
    """Each network with the numbers of its trainings, the first ones of all before the second ones."""
    return [(network, repeat) for repeat in range(start, number) for network in networks]


def _train_references(
    run: Loaded, rows: list[dict[str, Any]], groups: Mapping[str, Sequence[Member]], runtime: Runtime, watch: Watch
) -> list[Network]:
    """Trains the references by the recipe of the finalists, at the size of the limits or of the winner."""
    candidates = ranked(rows, groups)
    if not candidates:
        log.info("no reference is trained: there is no candidate to compare it with")
        return []
    references = references_of(run, candidates[0], runtime)
    return _train_alone(_trainings(references, run.config.retrain.repeats), run, runtime, watch)


def _with_references(rows: list[dict[str, Any]], references: Sequence[Network], repeats: int) -> list[dict[str, Any]]:
    """The rows with those of the references; one that is a finalist too keeps its row."""
    names = {network.id: network.reference for network in references}
    finalists = {row["id"] for row in rows}
    marked = [{**row, "reference": names[row["id"]]} if row["id"] in names else row for row in rows]
    return marked + [reference_row(network, repeats) for network in references if network.id not in finalists]


def _confirm(
    run: Loaded,
    networks: Sequence[Network],
    rows: list[dict[str, Any]],
    groups: Mapping[str, Sequence[Member]],
    runtime: Runtime,
    watch: Watch,
) -> dict[str, int]:
    """Trains the winner and the best reference with more seeds; both are chosen by the first trainings alone.

    Returns:
        The number of trainings of each network, by its id.
    """
    config = run.config.retrain
    numbers = dict.fromkeys((network.id for network in networks), config.repeats)
    candidates, reference = ranked(rows, groups), best_reference([row for row in rows if "reference" in row])
    if candidates and reference:
        pair = [network for network in networks if network.id in (candidates[0]["id"], reference["id"])]
        if config.confirm > config.repeats:
            confirmed = _train_alone(_trainings(pair, config.confirm, config.repeats), run, runtime, watch)
            if len(confirmed) == len(pair):  # they are compared by as many trainings of each
                numbers |= dict.fromkeys((network.id for network in pair), config.confirm)
    return numbers


def _opened(
    run: Loaded, names: Sequence[str], trained: Sequence[tuple[Network, int]]
) -> Callable[[Sequence[tuple[Network, int]], Runtime], dict[str, list[float]]]:
    """Opens the test split once, for the networks with these names; returns what tests trainings on it.

    From here on nothing is chosen any more, except whether the winner or the reference is offered.

    Args:
        names: of the networks.
        trained: networks with the numbers of their trainings, whose weights the record holds digests of.
    """
    data = run.data
    digests = {"configuration": digest_of_tested(run.config)}
    for network, number in trained:
        for repeat in range(number):
            weights = network.folder / str(repeat) / "weights.safetensors"
            digests[str(weights.relative_to(run.folder.path))] = sha256(weights)
    split = open_test(data.test, record=run.folder.test_opened, networks=names, digests=digests)

    def test(trained: Sequence[tuple[Network, int]], runtime: Runtime) -> dict[str, list[float]]:
        return test_accuracies(
            trained,
            lambda: batches(split, data, device=runtime.device),
            runtime=runtime,
            metric=metric_of(run.config.task),
        )

    return test


def _summary(run: Loaded, rows: list[dict[str, Any]], groups: Mapping[str, Sequence[Member]]) -> dict[str, Any]:
    """The result of networks that are tested, with every opening of the test split."""
    folder = run.folder
    opened = read_json(folder.test_opened)
    tell_origin(folder)
    if seen := [look for look in looks(folder) if look["folder"] != str(folder.path.resolve())]:
        opened["seen"] = seen
    return summarise(groups, rows, opened, Unit.of(run.config.task.metric_name))


def _train_alone(
    trainings: Sequence[tuple[Network, int]],
    run: Loaded,
    runtime: Runtime,
    watch: Watch,
    sender: Sender = NO_STUDY,
    *,
    settings: TrainConfig | None = None,
) -> list[Network]:
    """Trains networks from scratch as `config.retrain` says; those that are trained already are not trained again.

    Args:
        trainings, run, runtime, watch, sender: as for `train_networks`.
        settings: of the training; None for those of the run.

    Returns:
        The networks in their order, without those of which a training failed.
    """
    config = run.config
    settings = settings or config.retrain.train
    lessons = lessons_of(config, run.data, settings, runtime.device, with_validation=config.retrain.splits != "train")
    if config.retrain.start == "inherited":
        lessons = replace(lessons, start={name: t.cpu() for name, t in load_one_shot(run).state_dict().items()})
    train_networks(trainings, lessons, settings, runtime=runtime, seed=config.seed, watch=watch, sender=sender)
    failed = {network.folder for network, repeat in trainings if not has_result(network, repeat)}
    networks = {network.folder: network for network, _ in trainings}
    return [network for folder, network in networks.items() if folder not in failed]


def retrain_candidates(run: Loaded, numbers: Sequence[int], runtime: Runtime, watch: Watch) -> list[dict[str, Any]]:
    """Trains candidates from scratch, by their numbers in the table; the test split stays closed.

    Returns:
        For each its record in the table, and `validation`, of each repeat.

    Raises:
        RunError: there is no candidate with such a number.
    """
    folder = run.folder
    table = folder.candidates
    if not table.exists():
        raise RunError(f"{table} is not there: run `supernet search {folder}` first")
    by_number = {c.number: c for c in read_candidates(table, run.space)}
    if wrong := [n for n in numbers if n not in by_number]:
        raise RunError(f"candidates: no number {wrong[0]}; `supernet top {folder}` prints those that there are")
    picked = [by_number[n] for n in numbers]
    record_environment(folder, "retrain candidates", runtime.tuning)
    rows = train_candidates(run, picked, list(by_number.values()), run.config.retrain.repeats, runtime, watch)
    validations = {row["architecture"]: row["validation"] for row in rows}
    trained = [candidate for candidate in picked if str(candidate.architecture) in validations]
    return [{**record, "validation": validations[record["architecture"]]} for record in records(trained)]


def train_candidates(
    run: Loaded,
    picked: Sequence[Candidate],
    candidates: Sequence[Candidate],
    repeats: int,
    runtime: Runtime,
    watch: Watch,
) -> list[dict[str, Any]]:
    """Trains some candidates from scratch as finalists are; what is trained already is not trained again.

    Args:
        run: the run; its study shows the trainings.
        picked: those to train.
        candidates: all of the run.
        repeats: trainings of each.
        runtime, watch: as for `retrain_step`.

    Returns:
        For each what `results.json` has of a network, with `validation` of each repeat; nothing of those of which a
        training failed.
    """
    folder, data = run.folder, run.data
    config = replace(run.config, retrain=replace(run.config.retrain, repeats=repeats))
    space = retrained_space(config, data.classes, data.inputs)
    costs, architectures = cost_table(space), [c.architecture for c in picked]
    scored = {c.architecture: c for c in candidates}
    trainings = trainings_of(folder, config, space, costs, scored, architectures)
    with sender(
        folder.path, space, run_id(run.config, data.hashes), trainings, watch.storage, watch.study, watch.artifacts
    ) as tell:
        tell.update()
        networks = networks_of(space, architectures, folder.retrain)
        networks = _train_alone(_trainings(networks, repeats), run, runtime, watch, tell)
    _say_failures(folder)
    trained = {network.architecture for network in networks}
    return [network_row(costs, c, folder.retrain, repeats) for c in picked if c.architecture in trained]
