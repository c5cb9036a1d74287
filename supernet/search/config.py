"""The settings of a search."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from supernet.search import strategies
from supernet.search.latency import LatencyConfig
from supernet.search.limits import LimitsConfig
from supernet.search.measures import MEASURES
from supernet.search.orders import OBJECTIVES

SIZES = ("size", "params")
"""Sizes that can be a part of the rank: multiply-adds that matter, and parameters that matter."""

PARTS = ("score", *SIZES, *MEASURES)
"""What a joint rank can be made of."""

_UNTRAINED = {"size": 1.0, "jacov": 0.5}
"""The weights of the parts where `SearchConfig.score` is none and no rank is set."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How candidates are drawn and scored, and which become finalists."""

    candidates: int | None = 20_000
    """Distinct architectures that are scored; at most the size of the space. None: 500, or the whole space where it is
    smaller."""

    strategy: str = "random"
    """Which candidates are scored next: 'random' (the paper's), 'enumeration', 'evolution', 'local', 'reinforce',
    'nsga2', 'tpe', or a class of your own by its dotted path or as FILE.py:CLASS; see docs/strategies.md."""

    strategy_settings: dict[str, Any] = field(default_factory=dict)
    """Arguments of the strategy, for instance {population: 100, tournament: 25}."""

    batch: int | None = None
    """Candidates that the strategy is asked for at once; they race among each other. None: all of them with 'random'
    and 'enumeration', otherwise 50."""

    objectives: str = "score"
    """What is sought, with commas: score, and costs to be small: params, params_without_norm, macs,
    latency, memory. With several the finalists are from the Pareto front."""

    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """What candidates may cost, as in {max_params: 1M, max_latency: 5ms}."""

    latency: LatencyConfig = field(default_factory=LatencyConfig)
    """How latency is measured, where a limit or an objective asks for it."""

    merge: bool = True
    """Whether architectures with the same function are scored once, where the space can tell (nasbench201)."""

    size_bonus: float = 0.0
    """What is added to a score in the ranking for each doubling of the multiply-adds that matter, in its unit: a
    short training with shared weights undervalues large networks in some spaces (docs/results). 0 is the paper's.
    `rank` with the part size takes its place."""

    rank: dict[str, float] = field(default_factory=dict)
    """What candidates are ranked by, and with which weights, as in {score: 1, size: 1, jacov: 0.5}: score, size
    (multiply-adds that matter), params (those that matter), and measures. Each part counts by its place in a sample of
    random architectures. Empty: the score alone, with `size_bonus`; the paper's. Then candidates may race."""

    rank_sample: int = 500
    """Random architectures within the limits by which places are found; they are measured and scored first."""

    measures: list[str] = field(default_factory=list)
    """Measures of untrained networks that each candidate gets as columns of the table: jacov, nwot, synflow, layers,
    longest_path. Those of `rank` are among them in any case."""

    bands: int = 1
    """Bands of size (params), of equal numbers of candidates; Top is drawn from each of them, since a one-shot model
    favours large networks."""

    score: Literal["metric", "loss", "kl", "none"] = "metric"
    """'metric': the task's metric on the validation split. 'loss': the negative loss on it; it ranks better than
    accuracy where networks are far from trained (docs/results), and does not race. 'kl': closeness to the outputs with
    almost everything on, on training examples without their labels (paper, section 5). 'none': no one-shot model is
    trained, and size and measures alone rank (`rank`)."""

    references: int = 8
    """Reference architectures for the score 'kl' (the paper does not say how many)."""

    examples: int | None = None
    """Examples for each score, the same random ones for all candidates; None for the whole validation split, or for the
    paper's 64 with 'kl'."""

    exhaustive: bool = False
    """Score every candidate on all of these examples. Otherwise candidates race (ours): all begin on a few, and those
    that will hardly be among the best `top_of` are dropped. Finalists are scored on all. Only for the metric
    accuracy."""

    lose: float = 0.02
    """Share of the best `top_of` that a race may lose on average, from 0 to below 1. It holds for scores that are
    about normal; of two clusters up to twice as many are lost."""

    ghost_size: int = 32
    """Examples that share batch statistics (ours: the paper does not say; the training's ghost size)."""

    ghosts_per_forward: int | None = None
    """Ghost batches in one forward pass: memory against launches. None: 1 on a CPU, all of them elsewhere."""

    top: int = 10
    """Finalists of the group Top, one from each stratum of the best `top_of`."""

    top_of: int = 100
    """Candidates with the best scores from which Top is drawn."""

    small: int = 10
    """Finalists of the group Small: the smallest whose score is above `small_quantile`."""

    small_quantile: float = 0.9
    """Share of the candidates that score worse than any in Small, from 0 to 1."""

    random: int = 10
    """Finalists of the group Random, drawn from all candidates."""

    all_on: bool = True
    """Whether the network with every option on is trained too."""

    def __post_init__(self) -> None:
        least = {
            "candidates": 1,
            "examples": 1,
            "references": 1,
            "ghost_size": 2,
            "ghosts_per_forward": 1,
            "top": 0,
            "small": 0,
            "random": 0,
            "batch": 1,
            "bands": 1,
            "rank_sample": 2,
        }
        for name, value in least.items():
            if getattr(self, name) is not None and getattr(self, name) < value:
                raise ValueError(f"{name}: expected at least {value}, got {getattr(self, name)}")
        if not (self.top or self.small or self.random or self.all_on):
            raise ValueError("top, small, random, all_on: expected at least one finalist, got none")
        if not 0 <= self.small_quantile < 1:
            raise ValueError(f"small_quantile: expected from 0 to below 1, got {self.small_quantile}")
        if not 0 <= self.lose < 1:
            raise ValueError(f"lose: expected from 0 to below 1, got {self.lose}")
        if self.top_of < self.top:
            raise ValueError(f"top_of: expected at least top {self.top}, got {self.top_of}")
        self._check_rank()
        is_own = strategies.is_own(self.strategy)  # its file may be gone when a finished run is looked at
        if not is_own:
            strategies.check(self.strategy, self.strategy_settings)
        sought = self.sought
        for name in sought:
            if name not in OBJECTIVES:
                raise ValueError(f"objectives: no {name!r}; there are: {', '.join(OBJECTIVES)}")
        if len(set(sought)) < len(sought) or "score" not in sought:
            raise ValueError(f"objectives: expected score, and other objectives once each, got {self.objectives!r}")
        if not is_own:
            strategies.check_objectives(self.strategy, len(sought))

    def _check_rank(self) -> None:
        for name, allowed in (("rank", PARTS), ("measures", MEASURES)):
            for part in getattr(self, name):
                if part not in allowed:
                    raise ValueError(f"{name}: no {part!r}; there are: {', '.join(allowed)}")
        if not all(0 <= weight < math.inf for weight in self.rank.values()):
            raise ValueError(f"rank: expected weights from 0 on, got {self.rank}")
        if self.rank and not self.parts:
            raise ValueError(f"rank: expected a weight above 0, got {self.rank}; empty for the score alone")
        if "score" in self.parts and self.score == "none":
            raise ValueError("rank: expected no part score with score none: leave it out, or set score")
        if self.size_bonus and self.parts:
            raise ValueError("size_bonus: expected 0 with rank, of which size is a part: --search.size_bonus 0")

    @property
    def parts(self) -> dict[str, float]:
        """The parts of the joint rank with their weights; empty if the score alone ranks."""
        chosen = self.rank or (_UNTRAINED if self.score == "none" else {})
        return {name: float(weight) for name, weight in chosen.items() if weight}

    @property
    def figures(self) -> tuple[str, ...]:
        """The sizes and measures that each candidate gets, in the order of `PARTS`."""
        return tuple(name for name in PARTS if name != "score" and name in (*self.parts, *self.measures))

    @property
    def ranked_by(self) -> str:
        """What the unit of a candidate's score follows from: `score`, or "rank" if that is joint."""
        return "rank" if self.parts else self.score

    @property
    def sought(self) -> tuple[str, ...]:
        """The objectives by name."""
        return tuple(name.strip() for name in self.objectives.split(","))

    @property
    def needs(self) -> tuple[str, ...]:
        """The costs that limits and objectives ask for."""
        return tuple(dict.fromkeys((*self.limits.bounds(), *self.sought[1:])))
