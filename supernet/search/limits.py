"""Limits on what candidates cost, and drawing, changing and repairing architectures within them.

All of it happens on architectures as values and on sums of costs, before any forward pass. Ours; the paper has no
limits.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from supernet.space.changes import filled, neighbours
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, pick_numbers

log = logging.getLogger(__name__)

_Amount = int | float | str | None
"""A number, or a text with a unit, like 1.5M, 5ms, 64MB."""

LISTED = 20_000
"""Spaces up to this size are listed when candidates are drawn within limits: exact, however few are allowed."""

_KEY = 32
"""Characters of a key at the most: of a longer text a digest, since a search keeps the keys of all its candidates."""

_DRAWS_FOR_ONE = 200
"""Uniform draws that may fail for each architecture that is needed, before draws are repaired instead."""


_Measure = Callable[[Sequence[Architecture]], NDArray[Any]]
"""What each of some architectures costs, or by how much it is beyond limits: [N]."""

STATES = 4_000_000
"""Exact extremes are given up where choices meet in more combinations than this."""

_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9}
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0}
_BYTES = {
    "": 1.0,
    "b": 1.0,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2.0**10,
    "mib": 2.0**20,
    "gib": 2.0**30,
}
_UNITS: dict[str, tuple[dict[str, float], str]] = {
    "params": (_COUNTS, "a number like 250k or 1.5M"),
    "macs": (_COUNTS, "a number like 50M"),
    "latency": (_SECONDS, "a time like 5ms or 300us"),
    "memory": (_BYTES, "a size like 64MB or 512KiB"),
}
"""For each cost that can be limited the factors of its units, and what a limit looks like."""


class LimitsError(ValueError):
    """Limits that contradict each other, or that nothing in the space meets."""


def amount(name: str, cost: str, text: _Amount) -> float | None:
    """The number that a limit says: of parameters, multiply-adds, seconds or bytes.

    Raises:
        LimitsError: no number above 0, or another unit.
    """
    if text is None:
        return None
    units, example = _UNITS[cost]
    match = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµμ]*)\s*", str(text).replace("_", "").lower())
    try:
        value = float(match[1]) * units[match[2]] if match else math.nan
    except (KeyError, ValueError):
        value = math.nan
    if isinstance(text, bool) or not 0 < value < math.inf:
        raise LimitsError(f"{name}: expected {example}, got {text!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class LimitsConfig:
    """What a candidate may cost; candidates outside it are never scored."""

    max_params: _Amount = None
    """Parameters at the most, as in 1M."""

    min_params: _Amount = None
    """Parameters at the least."""

    max_macs: _Amount = None
    """Multiply-adds for one example at the most, as in 50M."""

    min_macs: _Amount = None
    """Multiply-adds at the least."""

    max_latency: _Amount = None
    """Time of a forward pass on this device at the most, as in 5ms; see `search.latency`."""

    min_latency: _Amount = None
    """Time of a forward pass at the least."""

    max_memory: _Amount = None
    """Memory of a forward pass at the most, as in 64MB: parameters, buffers, and what the operation with the largest
    inputs and outputs needs."""

    min_memory: _Amount = None
    """Memory at the least."""

    def __post_init__(self) -> None:
        for cost, (low, high) in self.bounds().items():
            if low > high:
                least, most = getattr(self, f"min_{cost}"), getattr(self, f"max_{cost}")
                raise LimitsError(f"min_{cost} {least} is above max_{cost} {most}: nothing can meet both")

    def computed(self) -> LimitsConfig:
        """Those of costs that are known without measuring."""
        return replace(self, max_latency=None, min_latency=None, max_memory=None, min_memory=None)

    def bounds(self) -> dict[str, tuple[float, float]]:
        """For each cost that is limited its smallest and its largest value; times in seconds, memory in bytes."""
        by_cost: dict[str, tuple[float, float]] = {}
        for cost in _UNITS:
            low, high = (amount(f"{end}_{cost}", cost, getattr(self, f"{end}_{cost}")) for end in ("min", "max"))
            if low is not None or high is not None:
                by_cost[cost] = (low or 0.0, math.inf if high is None else high)
        return by_cost


def shown(cost: str, value: float) -> str:
    """A cost for people, with its unit."""
    if cost == "latency":
        return f"{value * 1e3:.4g} ms"
    if cost == "memory":
        return f"{value / 1e6:.4g} MB"
    return f"{value:,.0f}"


# ---- the cheapest and the dearest ----


def extreme(costs: CostTable, cost: str, *, largest: bool = False) -> tuple[Architecture, bool]:
    """The architecture with the smallest (or largest) cost, and whether that is certain.

    Costs are sums over parts that depend on few choices each, so choices are eliminated one after the other, as in any
    sum of small tables: exact, without going through the space. Where too many choices meet, or the cost is no sum, the
    best of a descent is given.
    """
    space, column = costs.space, costs.columns.index(cost)
    found = None if column in costs.peaks else _eliminate(costs, column, -1 if largest else 1)
    if found is not None:
        return found, True
    sign = -1 if largest else 1
    starts = [space.reached({name: subsets[end] for name, subsets in space.subsets.items()}) for end in (0, -1)]
    if column in costs.peaks:
        # Beside the largest operation the memory is a sum, whose extreme is a good start.
        plain = _eliminate(costs, column, sign)
        starts += [plain] if plain else []
    generator = torch.Generator().manual_seed(0)
    best = min(
        (_descend(space, start, lambda a: sign * costs.column(cost, a), generator=generator) for start in starts),
        key=lambda a: float(sign * costs.column(cost, [a])[0]),
    )
    return best, False


def _eliminate(costs: CostTable, column: int, sign: int) -> Architecture | None:
    space = costs.space
    numbers = pick_numbers(space)
    tables: dict[tuple[str, ...], NDArray[np.float64]] = {}
    for scope, table in costs.factors(column, numbers):
        tables[scope] = tables.get(scope, 0.0) + sign * table
    factors = list(tables.items())
    chosen: list[tuple[str, tuple[str, ...], NDArray[np.intp]]] = []
    left = {choice.name for choice in space.choices}
    sizes = {name: len(subsets) for name, subsets in space.subsets.items()}
    order = [choice.name for choice in space.choices]

    def scope_of(name: str) -> tuple[str, ...]:
        together = {other for scope, _ in factors if name in scope for other in scope} | {name}
        return tuple(sorted(together, key=order.index))

    while left:
        name = min(sorted(left, key=order.index), key=lambda n: math.prod(sizes[other] for other in scope_of(n)))
        scope = scope_of(name)
        if math.prod(sizes[other] for other in scope) > STATES:
            return None
        total = np.zeros([sizes[other] for other in scope])
        for part, table in factors:
            if name in part:
                total = total + table.reshape([sizes[other] if other in part else 1 for other in scope])
        axis = scope.index(name)
        rest = tuple(other for other in scope if other != name)
        chosen.append((name, rest, np.asarray(total.argmin(axis))))
        factors = [(part, table) for part, table in factors if name not in part]
        factors.append((rest, np.asarray(total.min(axis))))
        left.remove(name)
    picked: dict[str, int] = {}
    for name, rest, best in reversed(chosen):
        picked[name] = int(best[tuple(picked[other] for other in rest)])
    return space.reached({name: space.subsets[name][number] for name, number in picked.items()})


# ---- changes of one architecture ----


def _descend(space: Space, start: Architecture, measure: _Measure, *, generator: torch.Generator) -> Architecture:
    """Goes to the best neighbour as long as it is better."""
    best, value = start, float(measure([start])[0])
    while True:
        around = neighbours(space, best, generator=generator)
        values = measure(around) if around else np.array([math.inf])
        if not values.min() < value:
            return best
        best, value = around[int(values.argmin())], float(values.min())


# ---- what a search may ask for ----


@dataclass(frozen=True)
class Region:
    """The part of a space that a search may ask for: architectures within limits.

    Attributes:
        space: the space.
        costs: of its architectures.
        bounds: for each cost that is limited its smallest and its largest value; see `LimitsConfig.bounds`.
        anchor: an architecture within the limits.
        merge: whether architectures with the same function count as one, where the space can tell.
    """

    space: Space
    costs: CostTable
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    anchor: Architecture | None = None
    merge: bool = True

    def key(self, architecture: Architecture) -> str:
        """A text that is the same for what need not be scored twice; at most `_KEY` characters long."""
        canonical = self.space.canonical if self.merge else None
        text = str(architecture) if canonical is None else canonical(architecture)
        return text if len(text) <= _KEY else hashlib.blake2b(text.encode(), digest_size=_KEY // 2).hexdigest()

    def excess(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """By how much each is beyond the limits, as a share of each limit, and 1 for each rule that forbids it, added
        up: 0 within. [N].
        """
        total = np.array([float(self.space.broken(a)) for a in architectures])
        if not self.bounds or not architectures:
            return total
        values = self.costs.costs(architectures)
        for cost, (low, high) in self.bounds.items():
            amounts = values[:, self.costs.columns.index(cost)] * self.costs.scale(cost)
            if low > 0:
                total += np.maximum(0.0, low - amounts) / low
            if high < math.inf:
                total += np.maximum(0.0, amounts - high) / high
        return total

    def allows(self, architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Which are within the limits: bool [N]."""
        return np.equal(self.excess(architectures), 0)

    @cached_property
    def listed(self) -> list[Architecture] | None:
        """All architectures within the limits; None where the space is too large to be listed."""
        if self.space.size > LISTED:
            return None
        everyone = list(self.space)
        return list(itertools.compress(everyone, self.allows(everyone)))

    def draw(self, number: int, *, generator: torch.Generator, without: Collection[str] = ()) -> list[Architecture]:
        """Draws architectures with distinct keys, uniformly over those within the limits.

        Where hardly any uniform draw is within the limits, draws are repaired, which is no longer uniform; the log says
        so.

        Args:
            number: how many.
            generator: of the draws.
            without: keys of architectures that are not wanted.

        Returns:
            As many as asked for, or fewer where there are no more.
        """
        if not self.bounds and not without:
            drawn = self.space.sample_distinct(min(number, self.space.size), generator=generator)
            return list({self.key(a): a for a in reversed(drawn)}.values())[::-1]
        found: dict[str, Architecture] = {}
        if self.listed is not None:
            for index in torch.randperm(len(self.listed), generator=generator).tolist():
                if len(found) == number:
                    break
                key = self.key(self.listed[index])
                if key not in without:
                    found.setdefault(key, self.listed[index])
            return list(found.values())
        tries, some = 0, max(64, number)
        while len(found) < number and tries < _DRAWS_FOR_ONE * some:
            drawn = [self.space.sample(generator=generator) for _ in range(some)]
            self._take(itertools.compress(drawn, self.allows(drawn)), number, without, found)
            tries += some
            if tries >= _DRAWS_FOR_ONE and len(found) * _DRAWS_FOR_ONE < tries:
                break
        if len(found) < number and self.bounds:
            log.info("few architectures meet the limits: %d draws gave %d; others are repaired", tries, len(found))
        for _ in range(20):
            if len(found) >= number:
                break
            repaired = [
                self.repaired(self.space.sample(generator=generator), generator=generator)
                for _ in range(2 * (number - len(found)))
            ]
            self._take(iter(repaired), number, without, found)
        return list(found.values())

    def _take(
        self, drawn: Iterator[Architecture], number: int, without: Collection[str], found: dict[str, Architecture]
    ) -> None:
        for architecture in drawn:
            key = self.key(architecture)
            if len(found) < number and key not in without:
                found.setdefault(key, architecture)

    def repaired(self, architecture: Architecture, *, generator: torch.Generator) -> Architecture:
        """The architecture itself where it is within the limits, or one near it that is.

        Random changes of one choice that bring it nearer are made until it is within; where none does, its picks become
        those of the anchor, in random order, until it is.
        """
        beyond = float(self.excess([architecture])[0])
        while beyond > 0:
            around = neighbours(self.space, architecture, generator=generator)
            values = self.excess(around)
            better = np.flatnonzero(values < beyond)
            if not len(better):
                break
            index = int(better[int(torch.randint(len(better), (1,), generator=generator))])
            architecture, beyond = around[index], float(values[index])
        if beyond > 0:
            assert self.anchor is not None
            picks = filled(self.space, architecture, generator=generator)
            goal = {**picks, **dict(self.anchor.picks)}
            for index in torch.randperm(len(goal), generator=generator).tolist():
                name = list(goal)[index]
                picks[name] = goal[name]
                architecture = self.space.reached(picks)
                if self.allows([architecture])[0]:
                    break
        return architecture


def region(costs: CostTable, limits: LimitsConfig, *, merge: bool = True) -> Region:
    """What a search may ask for.

    Args:
        costs: of the space, with a column for each cost that is limited.
        limits: what candidates may cost.
        merge: see `Region`.

    Raises:
        LimitsError: nothing in the space meets the limits; the message names the smallest or largest possible, or what
            was found nearest where several limits exclude each other.
    """
    space, bounds = costs.space, limits.bounds()
    whole = Region(space, costs, bounds, merge=merge)
    if not bounds:
        anchor = space.sample(generator=torch.Generator().manual_seed(0)) if space.rules else None
        return replace(whole, anchor=anchor)
    ends: list[Architecture] = []
    for cost, (low, high) in bounds.items():
        for largest, wanted in ((False, high), (True, low)):
            if wanted in (0.0, math.inf):
                continue
            end, exact = extreme(costs, cost, largest=largest)
            reach = float(costs.column(cost, [end])[0]) * costs.scale(cost)
            if (reach < wanted) if largest else (reach > wanted):
                name, word = ("min", "largest") if largest else ("max", "smallest")
                asked = getattr(limits, f"{name}_{cost}")
                found = "possible" if exact and space.allows(end) else "found"
                raise LimitsError(
                    f"{name}_{cost} {asked}: nothing in the space {space.name!r} meets it; the {word} {found} has "
                    f"{cost} {shown(cost, reach)}: {end}"
                )
            ends.append(end)
    generator = torch.Generator().manual_seed(0)
    starts = [*ends, *(space.sample(generator=generator) for _ in range(8))]
    nearest = min(
        (_descend(space, start, whole.excess, generator=generator) for start in starts),
        key=lambda a: float(whole.excess([a])[0]),
    )
    if whole.excess([nearest])[0] > 0 and whole.listed:  # a small space is looked through before it is given up
        nearest = whole.listed[0]
    if whole.excess([nearest])[0] > 0:
        here = ", ".join(
            f"{cost} {shown(cost, float(costs.column(cost, [nearest])[0]) * costs.scale(cost))}" for cost in bounds
        )
        raise LimitsError(
            f"limits: nothing was found in the space {space.name!r} that meets all of them at once; the nearest has "
            f"{here}: loosen one of them"
        )
    return Region(space, costs, bounds, nearest, merge)
