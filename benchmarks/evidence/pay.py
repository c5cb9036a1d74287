"""Is the ranking worth its cost? The best accuracy against all the time spent, on published accuracies.

    python benchmarks/evidence/pay.py NAME=TABLE.csv ... --out RESULT.json [--figure FIGURE.svg] [--seeds 100]

A table has a row for each network: `architecture`, `truth` (the accuracy of a full training, in per cent), `macs`,
`score` (of the one-shot model), the other parts of `joint.py`, and if there are such: `short` (validation accuracy of a
short training), `first` (accuracy of one full training, by which networks are chosen) and `judged` (of other trainings,
by which the choice is judged). Without the last two both are the truth, so all methods look better than they are. What
is done:

- random: networks in random order, trained in full;
- asha: networks in random order, trained for a short time, of which Optuna's SuccessiveHalvingPruner lets some on;
- size: trained in full, the largest first (multiply-adds);
- no training: trained in full, the best by size and measures without training first;
- ours: the one-shot model is trained, all are scored, and trained in full, the best by the joint rank first, of equal
  parts (see `joint.py`);
- refined: the same, but two rounds of 16 are trained as `supernet refine` chooses them, and after them the best by what
  was learnt from them first, if that ranks networks better that it has not seen. The first REFINED seeds only.

Each seed draws three quarters of the networks as the space. A full training takes EPOCHS passes over the images of the
benchmark at the speed that networks are trained with here, on one core; the one-shot model and its scores take what was
measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joint import EQUAL, join, parts_of
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from one_shot import made

from supernet.base.csv_file import read_numbers, read_table
from supernet.base.files import write_atomically, write_json
from supernet.draw.svg import COLOURS, PALE
from supernet.search.predictor import Labels, choose, features, learn
from supernet.spaces import SPACES

Numbers = NDArray[np.float64]

SPEED = 8.4e9
"""Multiply-adds of a forward pass that a training gets through in a second of one core, its backward pass included:
600 steps of 64 images of resnet8 (2.3 M) in 11 s (pays_2026-11-30.json)."""

EPOCHS, IMAGES, SHORT = 200, 50_000, 12
"""Of the benchmarks' full training, and epochs of the short one."""

ONE_SHOT = {"nasbench201": 3600.0, "macro": 2400.0}
"""Seconds of one core for the one-shot model and all scores."""

MEASURE = 0.5
"""Seconds of one core for the measures of one network without training."""

REFINED, ROUNDS, ROUND = 20, 2, 16
"""Seeds with a predictor, and its rounds of trainings."""

HOURS = tuple(float(hours) for hours in np.geomspace(0.5, 1000, 40))


@dataclass(frozen=True, slots=True)
class Networks:
    """What is known of the networks of a table, [n] each.

    Attributes:
        truth: accuracy of a full training, by which networks are chosen.
        judged: by which the choice is judged.
        short: accuracy of a short training; None if the table has none.
        seconds: of a full training.
        macs: multiply-adds.
        free: the rank by size and measures alone.
        joint: the joint rank.
        measures: sizes, score and measures, [n, k].
        picks: which options each picks, [n, P].
    """

    truth: Numbers
    judged: Numbers
    short: Numbers | None
    seconds: Numbers
    macs: Numbers
    free: Numbers
    joint: Numbers
    measures: Numbers
    picks: NDArray[np.bool_]

    def part(self, rows: NDArray[np.intp]) -> Networks:
        """Some of the networks."""
        parts: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[rows] for name in self.__slots__
        }
        return Networks(**parts)


Events = Iterator[tuple[float, int]]
"""The seconds of each full training, in their order, and the number of the network; what else was spent is added."""


def networks_of(path: Path, space_name: str, weights: dict[str, float]) -> Networks:
    """Reads a table of networks of a space."""
    table = read_table(path)
    parts, truth = parts_of(path)
    names = [name for name in ("macs", "first", "judged", "short") if name in table.names]
    columns, _ = read_numbers(table, [table.column(name) for name in names])
    by_name: dict[str, Numbers] = {name: np.array(column, float) for name, column in zip(names, columns, strict=True)}
    macs, space = by_name["macs"], SPACES[space_name]()
    architectures = [space.parse(row.cells[table.column("architecture")]) for row in table.rows]
    lean = architectures if space.simplified is None else [space.simplified(a) for a in architectures]
    return Networks(
        truth=by_name.get("first", truth), judged=by_name.get("judged", truth), short=by_name.get("short"),
        seconds=EPOCHS * IMAGES * macs / SPEED, macs=macs,
        free=join(parts, {**weights, "score": 0.0}), joint=join(parts, weights),
        measures=np.stack(list(parts.values()), 1), picks=space.live(lean).numpy(),
    )  # fmt: skip


def in_order(networks: Networks, order: NDArray[np.intp], before: float = 0.0) -> Events:
    """Full trainings in an order."""
    for place, network in enumerate(order):
        yield networks.seconds[network] + (before if place == 0 else 0.0), int(network)


def asha(networks: Networks, seed: int) -> Events:
    """Short trainings of which Optuna's pruner lets some go on."""
    import optuna

    assert networks.short is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=SHORT, reduction_factor=4)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    spent = 0.0
    for network in np.random.default_rng(seed).permutation(len(networks.truth)):
        trial = study.ask()
        trial.report(float(networks.short[network]), SHORT)
        spent += networks.seconds[network] * SHORT / EPOCHS
        if trial.should_prune():
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        study.tell(trial, float(networks.truth[network]))
        yield spent + networks.seconds[network] * (1 - SHORT / EPOCHS), int(network)
        spent = 0.0


def refined(networks: Networks, before: float) -> Events:
    """Rounds of trainings, and the best by what was learnt from them."""
    known = features(networks.joint, networks.macs, list(networks.measures.T), networks.picks)
    trained, prediction = list[int](), None
    for _ in range(ROUNDS):
        for network in choose(known, trained, ROUND, prediction):
            yield networks.seconds[network] + (0.0 if trained else before), network
            trained.append(network)
        prediction = learn(known, [Labels(np.array(trained), networks.truth[trained])])
    is_used = prediction is not None and prediction.is_better
    ranking = prediction.values if prediction is not None and is_used else networks.joint
    for network in np.argsort(-ranking, kind="stable").tolist():
        if network not in trained:
            yield networks.seconds[network], network


def methods(networks: Networks, one_shot: float, seed: int) -> dict[str, Callable[[], Events]]:
    """What is compared, by name."""
    number = len(networks.truth)
    rows: dict[str, Callable[[], Events]] = {
        "random": lambda: in_order(networks, np.random.default_rng(seed).permutation(number)),
        "size": lambda: in_order(networks, np.argsort(-networks.macs, kind="stable")),
        "no training": lambda: in_order(networks, np.argsort(-networks.free, kind="stable"), MEASURE * number),
        "ours": lambda: in_order(
            networks, np.argsort(-networks.joint, kind="stable"), one_shot + MEASURE * number
        ),
    }  # fmt: skip
    if seed < REFINED:
        rows["refined"] = lambda: refined(networks, one_shot + MEASURE * number)
    if networks.short is not None:
        rows["asha"] = lambda: asha(networks, seed)
    return rows


def best_so_far(networks: Networks, events: Events) -> list[float | None]:
    """The judged accuracy of the best network by its training, at each of `HOURS`; None before the first training."""
    spent, best, results = 0.0, -1, list[tuple[float, float]]()
    for seconds, network in events:
        spent += seconds
        if best < 0 or networks.truth[network] > networks.truth[best]:
            best = network
            results.append((spent / 3600, float(networks.judged[best])))
    return [next((value for at, value in reversed(results) if at <= hours), None) for hours in HOURS]


def compared(networks: Networks, one_shot: float, seeds: int) -> dict[str, Any]:
    """For each method the mean of the best so far over seeds at each of `HOURS`, with the middle 95 % of the seeds."""
    curves: dict[str, list[list[float | None]]] = {}
    for seed in range(seeds):
        generator = np.random.default_rng([seed, 1])
        space = networks.part(generator.permutation(len(networks.truth))[: len(networks.truth) * 3 // 4])
        for name, run in methods(space, one_shot, seed).items():
            curves.setdefault(name, []).append(best_so_far(space, run()))
    result: dict[str, Any] = {}
    for name, of_seeds in curves.items():
        columns = [[value for value in column if value is not None] for column in zip(*of_seeds, strict=True)]
        complete = [column if len(column) == len(of_seeds) else [] for column in columns]
        result[name] = {
            "mean": [round(float(np.mean(column)), 3) if column else None for column in complete],
            "low": [round(float(np.quantile(column, 0.025)), 3) if column else None for column in complete],
            "high": [round(float(np.quantile(column, 0.975)), 3) if column else None for column in complete],
        }
    return result


def draw(result: Mapping[str, Any], out: Path) -> None:
    """The mean of the best so far against the hours of one core, for each space."""
    with rc_context({"svg.hashsalt": "pay", "svg.fonttype": "none", "font.size": 12}):
        figure = Figure(figsize=(5.2 * len(result["spaces"]), 3.6), layout="constrained")
        for axes, (space, methods) in zip(
            np.atleast_1d(figure.subplots(1, len(result["spaces"]))), result["spaces"].items(), strict=True
        ):
            for (name, rows), colour in zip(methods.items(), [*COLOURS.values(), PALE], strict=False):
                points = [
                    (h, m) for h, m in zip(result["hours"], rows["mean"], strict=True) if m is not None
                ]  # fmt: skip
                if points:
                    axes.plot(*zip(*points, strict=True), label=name, color=colour)
            axes.set(xscale="log", xlabel="hours of one core, everything", ylabel="best so far (%)", title=space)
            best = max(rows["mean"][-1] or 0 for rows in methods.values())
            axes.set_ylim(best - 4, best + 0.3)
            axes.legend(frameon=False)
        write_atomically(out, lambda file: figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="NAME=TABLE.csv")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--figure", type=Path, help="SVG")
    given = parser.parse_args(arguments)
    result: dict[str, Any] = {"hours": [round(hours, 3) for hours in HOURS], "seeds": given.seeds, "spaces": {}}
    for name, _, path in (text.partition("=") for text in given.tables):
        result["spaces"][name] = compared(networks_of(Path(path), name, EQUAL), ONE_SHOT[name], given.seeds)
        for method, rows in result["spaces"][name].items():
            print(name, method, dict(zip(result["hours"][::6], rows["mean"][::6], strict=True)))
    if given.figure:
        draw(result, given.figure)
    if given.out:
        write_json(
            given.out,
            {**result, "command": "python benchmarks/evidence/pay.py " + " ".join(given.tables), "made": made()},
        )


if __name__ == "__main__":
    main()
