"""The results of trainings from scratch: by network, by group, and against the scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.base.files import read_json
from supernet.draw.units import Unit
from supernet.retrain.trainings import Network
from supernet.search.orders import Candidate
from supernet.space.choices import Architecture
from supernet.space.cost import CostTable
from supernet.spaces.references import cost_of
from supernet.trust.correlation import rank_correlation
from supernet.trust.probes import differences
from supernet.trust.tables import comparison_text

_ACCURACY = Unit.of("accuracy")

REFERENCE = "Reference"
"""The group of known networks, or of the user's, that the winner is compared with."""

Member = Architecture | Network
"""What a group of finalists consists of; it has an id."""


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def network_row(costs: CostTable, candidate: Candidate, place: Path, repeats: int) -> dict[str, Any]:
    """What is known of a retrained finalist before the test."""
    architecture = candidate.architecture
    return {
        "id": architecture.id,
        "architecture": str(architecture),
        **dataclasses.asdict(costs.cost(architecture)),
        "score": candidate.score,
        "score_loss": None if math.isnan(candidate.loss) else candidate.loss,
        "validation": _validations(place / architecture.id, repeats),
    }


def reference_row(network: Network, repeats: int) -> dict[str, Any]:
    """What is known of a reference before the test. It has no score, since it is ranked against nothing."""
    return {
        "id": network.id,
        "reference": network.reference,
        "architecture": str(network.architecture),
        **dataclasses.asdict(cost_of(network.space, network.architecture)),
        "score": None,
        "score_loss": None,
        "validation": _validations(network.folder, repeats),
        **({} if network.made_by is None else {"space": dict(network.made_by)}),
    }


def _validations(folder: Path, repeats: int) -> list[float]:
    """The validation metric of the first trainings of a network; empty if it was trained on that split."""
    results = [read_json(folder / str(repeat) / "result.json") for repeat in range(repeats)]
    return [result["validation"] for result in results if result["validation"] is not None]


def ranked(networks: Sequence[dict[str, Any]], groups: Mapping[str, Sequence[Member]]) -> list[dict[str, Any]]:
    """The rows of the candidates, the best mean validation metric first, or the best score if there is none.

    All On and references stand outside of the ranking, unless another group has them too.
    """
    inside = {a.id for name, members in groups.items() if name not in ("All On", REFERENCE) for a in members}
    inside -= {a.id for a in groups.get("All On", ())}

    def worth(row: dict[str, Any]) -> tuple[float, float]:
        return _worth(row), row["score"]

    return sorted((row for row in networks if row["id"] in inside), key=worth, reverse=True)


def _worth(row: dict[str, Any]) -> float:
    """The mean validation metric of a network, or its score."""
    validation = _figure(row, "validation")
    worth: float = row["score"] if validation is None else validation
    return worth


def best_reference(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The reference with the best mean validation metric; the first one where there is none."""
    validated = [row for row in rows if row["validation"]]
    return max(validated, key=_worth) if validated else next(iter(rows), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class AgainstReference:
    """The winner against the best reference, on the test split.

    Attributes:
        text: all of it in words.
        winner, reference: ids of the two networks.
        name: of the reference.
        params: of the reference.
        trainings: of each of the two.
        difference: mean of the winner's test metric minus that of the reference's.
        interval: of the difference, Welch's at 95 %; None with one training each, or if neither varies.
        first_of: number of references, if it was the first of several for want of a validation split to choose by.
    """

    text: str
    winner: str
    reference: str
    name: str
    params: int
    trainings: int
    difference: float
    interval: tuple[float, float] | None
    first_of: int | None = None


def compare(winner: Mapping[str, Any], reference: Mapping[str, Any], metric: Unit, *, of: int = 1) -> AgainstReference:
    """Compares two rows of networks that have as many entries in `test`; the reference is one of `of`."""
    difference = mean_and_deviation(winner["test"])[0] - mean_and_deviation(reference["test"])[0]
    tested = differences({"winner": winner["test"], "reference": reference["test"]})
    interval = tested[0]["interval"] if tested else None
    facts: dict[str, Any] = {
        "winner": winner["id"],
        "reference": reference["id"],
        "name": reference["reference"],
        "params": reference["params"],
        "trainings": len(reference["test"]),
        "difference": difference,
        "interval": interval and tuple(interval),
        "first_of": of if of > 1 and not reference["validation"] else None,
    }
    return AgainstReference(text=comparison_text(facts, metric), **facts)


def summarise(
    groups: Mapping[str, Sequence[Member]],
    networks: list[dict[str, Any]],
    opened: dict[str, Any],
    metric: Unit = _ACCURACY,
) -> dict[str, Any]:
    """The run's result: every network, the groups as in the paper's Table 1, and how the two rankings agree.

    Networks are ranked by their mean validation accuracy, or by their score where there is none; never by the test.
    All On and the references stand outside of the ranking. Deviations are over the networks of a group, of means over
    repeats. One choice is made by the test: of the winner and the best reference the better one is offered.
    """
    candidates = ranked(networks, groups)
    for rank, row in enumerate(candidates, start=1):
        row["rank"] = rank
    validated = [row for row in candidates if row["validation"]]
    agreement = rank_correlation([row["score"] for row in validated], [_worth(row) for row in validated])
    others = [row for row in networks if "rank" not in row]
    reference = best_reference([row for row in networks if "reference" in row])
    number = sum("reference" in row for row in networks)
    against = compare(candidates[0], reference, metric, of=number) if candidates and reference else None
    comparison: dict[str, Any] = {}
    if against is not None:
        loses = against.difference <= 0
        comparison["against_reference"] = dataclasses.asdict(against)
        comparison["offered"] = against.reference if loses else against.winner
    return {
        **comparison,
        "groups": group_table(groups, networks),
        "networks": candidates + others,
        "rank_correlation": agreement,
        "test_split": opened,
    }


def group_table(groups: Mapping[str, Sequence[Member]], networks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The groups as in the paper's Table 1: for each its members, and mean and deviation of what is known of them."""
    by_id = {row["id"]: row for row in networks}
    table: dict[str, dict[str, Any]] = {}
    for group, members in groups.items():
        table[group] = {"networks": len(members), "members": [a.id for a in members]}
        for name in ("params", "params_without_norm", "macs", "score", "validation", "test"):
            values = [v for a in members if (v := _figure(by_id[a.id], name)) is not None]
            if values:
                mean, deviation = mean_and_deviation(values)
                table[group][name] = {"mean": mean, "deviation": deviation}
    return table


def _figure(row: dict[str, Any], name: str) -> float | None:
    """A figure of a network, the mean where there are several repeats; None where it is not known."""
    value: float | list[float] | None = row.get(name)
    return value if not isinstance(value, list) else (mean_and_deviation(value)[0] if value else None)


def longest_first(groups: dict[str, list[Architecture]], costs: CostTable) -> list[Architecture]:
    """Each finalist once, the longest trainings first, so that no core waits for a long last one."""
    everyone = dict.fromkeys(a for members in groups.values() for a in members)
    return sorted(everyone, key=lambda a: -costs.cost(a).macs)
