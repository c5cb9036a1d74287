"""The weights of the joint rank: chosen on tables of several spaces, each time judged on the space that is left out.

    python benchmarks/evidence/joint.py NAME=TABLE.csv ... [--out RESULT.json]

A table has the columns `architecture`, `truth` (an accuracy that the weights are judged by), `score` (of the one-shot
model), and the other parts of the rank; a part that a table lacks counts nothing there. Each part goes in by its rank.
The weights are those of a grid with the best mean over the other tables: of Kendall's tau, and of the tau of the best
quarter where there are 100 networks or more. "Equal parts" has weights that were chosen on nothing. The last rows, with
all tables, are what a default would be chosen from, so they are judged by nothing.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from one_shot import made, ranks
from scipy import stats

from supernet.base.csv_file import read_numbers, read_table
from supernet.base.files import write_json

Numbers = NDArray[np.float64]
Parts = dict[str, Numbers]

GRID = {
    "score": (1.0,),
    "macs": (0.0, 0.5, 1.0),
    "layers": (0.0, 0.5, 1.0),
    "jacov": (0.0, 0.25, 0.5),
    "nwot": (0.0, 0.25, 0.5),
    "synflow": (0.0, 0.25, 0.5),
}
"""What each part may weigh beside the score."""

PARTS = tuple(GRID)

ENOUGH = 100
"""Networks from which on the best quarter counts as much as all: among ten networks a tau is chance."""

EQUAL = {"score": 1.0, "macs": 0.2, "layers": 0.2, "jacov": 0.2, "nwot": 0.2, "synflow": 0.2}
"""Weights that no table has chosen: the score as much as all other parts together, and these alike."""

DRAWS = 1000
"""Bootstrap samples of networks for an interval."""


def parts_of(path: Path) -> tuple[Parts, Numbers]:
    """The ranks of a table's parts, and its truth."""
    table = read_table(path)
    names = [name for name in PARTS if name in table.names]
    columns, _ = read_numbers(table, [table.column(name) for name in (*names, "truth")])
    numbers = [np.array([np.nan if value is None else value for value in column]) for column in columns]
    worst = [np.where(np.isnan(column), -np.inf, column) for column in numbers]
    *of_parts, truth = worst
    return {name: ranks(values) for name, values in zip(names, of_parts, strict=True)}, truth


def join(parts: Parts, weights: Mapping[str, float]) -> Numbers:
    """The weighted sum of the ranks."""
    return np.asarray(np.sum([weights.get(name, 0.0) * values for name, values in parts.items()], 0))


def judge(joint: Numbers, truth: Numbers) -> dict[str, Any]:
    """How a ranking agrees with the truth; accuracies are in the unit of the truth."""
    order = np.argsort(-joint, kind="stable")
    generator = np.random.default_rng(0)
    samples = (generator.integers(len(truth), size=len(truth)) for _ in range(DRAWS))
    taus = [_tau(joint[sample], truth[sample]) for sample in samples]
    return {
        "tau": round(_tau(joint, truth), 3),
        "interval": [round(float(edge), 3) for edge in np.quantile(taus, (0.025, 0.975))],
        "best quarter": round(best_quarter(joint, truth), 3),
        "first is below the best": round(float(truth.max() - truth[order[0]]), 3),
        "best of ten is below the best": round(float(truth.max() - truth[order[:10]].max()), 3),
    }


def best_quarter(joint: Numbers, truth: Numbers) -> float:
    """Kendall's tau among the quarter of the networks with the best truth."""
    best = np.argsort(-truth, kind="stable")[: max(2, len(truth) // 4)]
    return _tau(joint[best], truth[best])


def _tau(a: Numbers, b: Numbers) -> float:
    value = float(stats.kendalltau(a, b).statistic)
    return 0.0 if np.isnan(value) else value


def chosen(tables: Mapping[str, tuple[Parts, Numbers]]) -> dict[str, float]:
    """The weights of the grid that are best on these tables in the mean; of equal ones those with the smallest sum."""
    best: tuple[float, float] | None = None
    weights: dict[str, float] = {}
    for values in itertools.product(*GRID.values()):
        candidate = dict(zip(GRID, values, strict=True))
        goodness = float(np.mean([_goodness(candidate, *table) for table in tables.values()]))
        key = (round(goodness, 4), -sum(values))
        if best is None or key > best:
            best, weights = key, candidate
    return weights


def _goodness(weights: Mapping[str, float], parts: Parts, truth: Numbers) -> float:
    joint = join(parts, weights)
    if len(truth) < ENOUGH:
        return _tau(joint, truth)
    return (_tau(joint, truth) + best_quarter(joint, truth)) / 2


def rows_of(parts: Parts, truth: Numbers, weights: Mapping[str, float]) -> dict[str, Any]:
    """The joint rank, each part alone, and the joint rank without each part."""
    live = [name for name, weight in weights.items() if weight and name in parts]
    return {
        "weights": {name: weight for name, weight in weights.items() if weight},
        "joint": judge(join(parts, weights), truth),
        "alone": {name: judge(values, truth) for name, values in parts.items()},
        "without": {name: judge(join(parts, {**weights, name: 0.0}), truth) for name in live if len(live) > 1},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", metavar="NAME=TABLE.csv")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    tables = {name: parts_of(Path(path)) for name, _, path in (text.partition("=") for text in given.tables)}
    result: dict[str, Any] = {"command": "python benchmarks/evidence/joint.py " + " ".join(given.tables)}
    result["left out"] = {
        name: rows_of(*tables[name], chosen({other: table for other, table in tables.items() if other != name}))
        for name in tables
    }
    result["equal parts"] = {name: rows_of(*table, EQUAL) for name, table in tables.items()}
    weights = chosen(tables)
    result["all"] = {name: rows_of(*table, weights) for name, table in tables.items()}
    for name, rows in result["left out"].items():
        print(name, rows["weights"], rows["joint"])
        print("   alone  ", {part: row["tau"] for part, row in rows["alone"].items()})
        print("   without", {part: row["tau"] for part, row in rows["without"].items()})
    print("equal parts", {name: rows["joint"] for name, rows in result["equal parts"].items()})
    print("all", weights, {name: rows["joint"] for name, rows in result["all"].items()})
    if given.out:
        write_json(given.out, {**result, "made": made()})


if __name__ == "__main__":
    main()
