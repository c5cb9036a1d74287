"""The results of trainings from scratch: by network, by group, and against the scores."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supernet.base.files import read_json
from supernet.search.orders import Candidate
from supernet.space.choices import Architecture
from supernet.space.cost import CostTable
from supernet.trust.correlation import rank_correlation


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for one value)."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))


def network_row(costs: CostTable, candidate: Candidate, place: Path, repeats: int) -> dict[str, Any]:
    """What is known of a retrained finalist before the test."""
    architecture = candidate.architecture
    results = [read_json(place / architecture.id / str(r) / "result.json") for r in range(repeats)]
    return {
        "id": architecture.id,
        "architecture": str(architecture),
        **dataclasses.asdict(costs.cost(architecture)),
        "score": candidate.score,
        "score_loss": candidate.loss,
        "validation": [r["validation"] for r in results if r["validation"] is not None],
    }


def summarise(
    groups: dict[str, list[Architecture]], networks: list[dict[str, Any]], opened: dict[str, Any]
) -> dict[str, Any]:
    """The run's result: every network, the groups as in the paper's Table 1, and how the two rankings agree.

    Networks are ranked by their mean validation accuracy, or by their score where there is none; never by the test.
    All On stands outside of the ranking. Deviations are over the networks of a group, of means over repeats.
    """
    outside = {a.id for a in groups.get("All On", ())}

    def worth(row: dict[str, Any]) -> tuple[float, float]:
        validation = _figure(row, "validation")
        return row["score"] if validation is None else validation, row["score"]

    ranked = sorted((r for r in networks if r["id"] not in outside), key=worth, reverse=True)
    for rank, row in enumerate(ranked, start=1):
        row["rank"] = rank
    validated = [r for r in ranked if r["validation"]]
    agreement = rank_correlation([r["score"] for r in validated], [worth(r)[0] for r in validated])
    rest = [r for r in networks if r["id"] in outside]
    return {
        "groups": group_table(groups, networks),
        "networks": ranked + rest,
        "rank_correlation": agreement,
        "test_split": opened,
    }


def group_table(groups: dict[str, list[Architecture]], networks: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
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
