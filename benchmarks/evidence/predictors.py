"""How well networks are ranked after some trainings: the predictor of `supernet refine` on published accuracies.

    python benchmarks/evidence/predictors.py NAME=SPACE:TABLE.csv --truth COLUMN [--labels COLUMN] [--short COLUMN]
        [--join FILE.csv ...] [--plain score=1,macs=0.5] [--trainings 16,32,64] [--seeds 20] [--out RESULT.json]

SPACE is `nasbench201` or `macro`. TABLE.csv has the columns `architecture`, that of the truth and that of the labels,
which stand for the user's own trainings (by default the truth itself). With `--short` each label has a shorter training
too. More columns come from the files of `--join`, by architecture: a score and measures (see `KNOWN`). `--plain` says
what candidates are ranked by without trainings, each column by its rank; by default multiply-adds that matter and
layers that are not identity. Rounds of 16 are chosen as `supernet refine` chooses them, after a first one at random in
even strata.

In the result `all` is Kendall's tau over all networks of the table, `unseen` over those that were not trained, and
`quarter` that of the quarter with the best truth. Regrets are in the unit of the truth: of the first by the ranking, of
the best of its first ten, and of the best that was trained. `used` is how often the predictor beat the plain rank on
networks that it had not seen; where it does not, the plain rank counts.
"""

from __future__ import annotations

import argparse
import csv
import math
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from numpy.typing import NDArray
from scipy import stats

from supernet import cost_table
from supernet.base.files import read_json, write_json
from supernet.search.predictor import Features, Labels, Prediction, choose, features, learn, ranks
from supernet.space.choices import Architecture
from supernet.spaces import SPACES

Numbers = NDArray[np.float64]

ROUND = 16
VALIDATION = 10_000
"""Examples of the test split that the published accuracies are of."""
KNOWN = ("score", "jacov", "nwot", "synflow", "longest_path")
"""Columns of other files that are known without trainings; accuracies in them are not."""
SAME = {"none", "skip_connect", "identity"}
"""Options that are no layer of their own."""


@dataclass(frozen=True)
class Subject:
    """Networks with known accuracies: `labels` and `short` stand for trainings."""

    features: Features
    truth: Numbers
    labels: Numbers
    short: Numbers | None


def subject_of(space_name: str, table: Path, options: argparse.Namespace) -> Subject:
    """Reads the table, and puts the costs of its space beside its columns."""
    space = SPACES[space_name]()
    columns = read(table)
    architectures = [space.parse(text) for text in columns["architecture"]]
    lean = architectures if space.simplified is None else [space.simplified(a) for a in architectures]
    costs = cost_table(space).costs(lean)
    numbers = {"macs": costs[:, 2].astype(float), "params": costs[:, 0].astype(float), "layers": layers_of(lean)}
    for path in options.join:
        more = read(path)
        place = {str(space.parse(text)): row for row, text in enumerate(more.pop("architecture"))}
        rows = [place.get(str(a)) for a in architectures]
        for name, values in more.items():
            if name in KNOWN and name not in numbers:
                numbers[name] = np.array([float(values[row] or "nan") if row is not None else np.nan for row in rows])
    weights = {name: float(weight) for name, _, weight in (part.partition("=") for part in options.plain.split(","))}
    plain = np.sum([weight * ranks(numbers[name]) for name, weight in weights.items()], 0)
    others = [values for name, values in numbers.items() if name != "macs"]
    known = features(plain, numbers["macs"], others, space.live(lean).numpy())

    def column(name: str | None) -> Numbers:
        return np.array([float(value) for value in columns[name or options.truth]])

    return Subject(known, column(options.truth), column(options.labels), options.short and column(options.short))


def read(path: Path) -> dict[str, list[str]]:
    """The columns of a CSV file as texts."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: [row[name] for row in rows] for name in rows[0]}


def layers_of(architectures: Sequence[Architecture]) -> Numbers:
    """The number of picks that are layers of their own."""
    return np.array([sum(option not in SAME for _, (option,) in a.picks) for a in architectures], float)


def course(subject: Subject, most: int, seed: int) -> dict[int, tuple[list[int], Prediction | None]]:
    """What was trained, and what was learnt from it, after each round."""
    order, generator = np.argsort(subject.features.plain, kind="stable"), np.random.default_rng(seed)
    trained = [int(generator.choice(part)) for part in np.array_split(order, ROUND)]
    result = {}
    while True:
        levels = [labels_of(subject.labels, trained)]
        if subject.short is not None:
            levels.insert(0, labels_of(subject.short, trained))
        shares = subject.labels[trained] / 100
        noise = 100 * math.sqrt(float((shares * (1 - shares)).mean()) / VALIDATION)
        prediction = learn(subject.features, levels, noise=noise)
        result[len(trained)] = (trained, prediction)
        if len(trained) >= most:
            return result
        trained = trained + choose(subject.features, trained, min(ROUND, most - len(trained)), prediction)


def labels_of(values: Numbers, trained: Sequence[int]) -> Labels:
    places = np.array(trained)
    return Labels(places, values[places])


def judge(subject: Subject, trained: Sequence[int], prediction: Prediction | None) -> dict[str, float]:
    """How the ranking after some trainings agrees with the truth."""
    is_used = prediction is not None and prediction.is_better
    ranking, truth = prediction.values if prediction is not None and is_used else subject.features.plain, subject.truth
    unseen = np.setdiff1d(np.arange(len(truth)), trained)
    quarter = np.argsort(-truth, kind="stable")[: len(truth) // 4]
    order = np.argsort(-ranking, kind="stable")
    always = subject.features.plain if prediction is None else prediction.values
    parts = {
        "all": np.arange(len(truth)),
        "unseen": unseen,
        "quarter": quarter,
        "unseen quarter": np.intersect1d(unseen, quarter),
    }
    return {
        **{name: float(stats.kendalltau(ranking[part], truth[part]).statistic) for name, part in parts.items()},
        "first": float(truth.max() - truth[order[0]]),
        "best of ten": float(truth.max() - truth[order[:10]].max()),
        "used": float(is_used),
        "all, if always used": float(stats.kendalltau(always, truth).statistic),
        **({"best trained": float(truth.max() - truth[list(trained)].max())} if len(trained) else {}),
        **({"tau of others": prediction.tau, "enough": float(prediction.is_enough)} if prediction is not None else {}),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", metavar="NAME=SPACE:TABLE.csv")
    parser.add_argument("--truth", required=True)
    parser.add_argument("--labels")
    parser.add_argument("--short")
    parser.add_argument("--join", type=Path, nargs="*", default=[])
    parser.add_argument("--plain", default="macs=1,layers=1")
    parser.add_argument("--trainings", default="16,32,64")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    name, _, place = options.table.partition("=")
    space, _, table = place.partition(":")
    subject, numbers = subject_of(space, Path(table), options), [int(n) for n in options.trainings.split(",")]
    courses = [course(subject, max(numbers), seed) for seed in range(options.seeds)]
    rows: dict[str, Any] = {"0": {"mean": judge(subject, [], None)}}
    for number in numbers:
        found = [judge(subject, *of_seed[number]) for of_seed in courses]
        means = {key: float(np.mean([row[key] for row in found])) for key in found[0]}
        ends = {key: np.quantile([row[key] for row in found], (0.05, 0.95)).tolist() for key in found[0]}
        rows[str(number)] = {"mean": means, "5 to 95 % of seeds": ends}
    for trainings, row in rows.items():
        print(f"{trainings:>4}", " ".join(f"{key} {value:.3f}" for key, value in row["mean"].items()))
    if options.out:
        result = read_json(options.out) if options.out.exists() else {}
        command = "python benchmarks/evidence/predictors.py " + " ".join(arguments or sys.argv[1:])
        versions = {
            "python": platform.python_version(),
            "scipy": scipy.__version__,
            "scikit-learn": sklearn.__version__,
        }
        facts = {"command": command, "date": datetime.now(UTC).date().isoformat(), **versions, "seeds": options.seeds}
        write_json(options.out, {**result, name: {**facts, "trainings": rows}})


if __name__ == "__main__":
    main()
