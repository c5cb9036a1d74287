"""A joint rank: what score, size and measures of a candidate are worth together.

Each part of it is brought to one scale by its place in a fixed sample of random architectures. So a candidate's joint
rank follows from its own values alone, whichever other candidates there are: a strategy may ask in rounds, and a search
that continues gives the same bits. Ours.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TAIL = 0.1
"""Share of the sample, its best, that says how places go on beyond the best of it."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The places of values in a sample.

    Attributes:
        values: the finite ones of the sample, each once, ascending.
        places: the share of the sample that is less than each, and half of that which is equal.
    """

    values: tuple[float, ...]
    places: tuple[float, ...]

    @classmethod
    def of(cls, sample: Sequence[float]) -> Scale:
        """The scale of a sample; values that are not finite are less than all others."""
        finite = sorted(value for value in sample if math.isfinite(value))
        distinct = sorted(set(finite))
        below = len(sample) - len(finite)
        places = [
            (below + (bisect.bisect_left(finite, v) + bisect.bisect_right(finite, v)) / 2) / len(sample)
            for v in distinct
        ]
        return cls(tuple(distinct), tuple(places))

    def place(self, value: float) -> float:
        """The place of a value: linear between values of the sample, from 0 to about 1 inside of it.

        Beyond the best of the sample places rise on as they do over its best tenth, so that the best of many candidates
        are told apart; below the worst they are those of the worst. A value that is not finite has the place 0.
        """
        if not math.isfinite(value) or not self.values:
            return 0.0
        values, places = self.values, self.places
        if value >= values[-1]:
            first = max(0, bisect.bisect_right(places, places[-1] - _TAIL) - 1)
            width = values[-1] - values[first]
            return places[-1] + ((value - values[-1]) * (places[-1] - places[first]) / width if width else 0.0)
        above = bisect.bisect_right(values, value)
        if above == 0:
            return places[0]
        share = (value - values[above - 1]) / (values[above] - values[above - 1])
        return places[above - 1] + share * (places[above] - places[above - 1])


@dataclass(frozen=True, slots=True)
class Ranking:
    """What candidates are ranked by.

    Attributes:
        weights: of each part by its name, above 0.
        scales: of each part.
    """

    weights: Mapping[str, float]
    scales: Mapping[str, Scale]

    @classmethod
    def of(cls, weights: Mapping[str, float], sample: Mapping[str, Sequence[float]]) -> Ranking:
        """A ranking by parts, of each of which there are values of the same sample of architectures."""
        return cls(dict(weights), {name: Scale.of(sample[name]) for name in weights})

    def joint(self, values: Mapping[str, float], without: str | None = None) -> float:
        """The mean of the places of an architecture, by the weights of the parts; more is better.

        Args:
            values: of each part.
            without: a part that is left out; there has to be another one.
        """
        weights = {name: weight for name, weight in self.weights.items() if name != without}
        places = sum(weight * self.scales[name].place(values[name]) for name, weight in weights.items())
        return places / sum(weights.values())

    def to_json(self) -> dict[str, Any]:
        """The ranking as values that JSON has."""
        return {
            name: {"weight": weight, "values": self.scales[name].values, "places": self.scales[name].places}
            for name, weight in self.weights.items()
        }

    @classmethod
    def from_json(cls, parts: Mapping[str, Mapping[str, Any]]) -> Ranking:
        """The inverse of `to_json`."""
        return cls(
            {name: part["weight"] for name, part in parts.items()},
            {name: Scale(tuple(part["values"]), tuple(part["places"])) for name, part in parts.items()},
        )
