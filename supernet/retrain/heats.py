"""Heats: finalists are trained for a short time, and the best of them for a longer one.

Ours, not the paper's: successive halving, with thirds (Jamieson and Talwalkar, "Non-stochastic Best Arm Identification
and Hyperparameter Optimization", AISTATS 2016). A short training from scratch tells more of a network than its score
does where candidates are alike in size (docs/log.md), and costs a ninth of a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

_PARTS = 3
"""A heat is three times as long as the one before it, and a third of its networks go on."""


@dataclass(frozen=True, slots=True)
class Heat:
    """One heat.

    Attributes:
        share: of the length of a whole training, above 0 and below 1.
        networks: that are trained.
        kept: how many of these go on, the best by their validation metric.
    """

    share: float
    networks: int
    kept: int


def heats(networks: int, rounds: int) -> list[Heat]:
    """The heats of a number of networks; each heat costs about as much as the last trainings, those of whole length.

    Args:
        networks: that begin, at least 0.
        rounds: heats, at least 0; the first ones are left out if one network would be left before the last.
    """
    while rounds and _left(networks, rounds - 1) <= 1:
        rounds -= 1
    plan = []
    for round_ in range(rounds):
        kept = max(1, round(networks / _PARTS))
        plan.append(Heat(_PARTS ** (round_ - rounds), networks, kept))
        networks = kept
    return plan


def _left(networks: int, rounds: int) -> int:
    """How many networks are left after some heats."""
    for _ in range(rounds):
        networks = max(1, round(networks / _PARTS))
    return networks


def best(values: Mapping[str, float], number: int) -> list[str]:
    """The names with the largest values, in the order of `values`; of equal values the first."""
    chosen = set(sorted(values, key=lambda name: -values[name])[:number])
    return [name for name in values if name in chosen]


def record(heat: Heat, steps: int, networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A heat as `results.json` holds it.

    Args:
        heat: the heat.
        steps: of each training.
        networks: `id`, `architecture`, `score` and `validation` of each network, the best first.
    """
    return {**asdict(heat), "steps": steps, "trained": list(networks)}
