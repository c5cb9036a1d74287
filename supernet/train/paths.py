"""What is live in training: path dropout, and three other ways to draw it.

A path distribution is a function ``(space, ghosts, rate, strength, generator) -> live_GP``; add one to `PATHS` to use
it by name.

References:
    Bender et al., ICML 2018, section 3.2 (path dropout).
    Guo et al., "Single Path One-Shot NAS with Uniform Sampling", 2019 (uniform).
    Chu et al., "FairNAS", 2019 (strict fairness).
    Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019, and Yu et al., "BigNAS",
    ECCV 2020 (sandwich, with distillation from the largest).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from supernet.space.choices import Architecture, Space


@dataclass(frozen=True, kw_only=True)
class PathsConfig:
    """How live options are drawn while the one-shot model trains."""

    distribution: str = "dropout"
    """'dropout' (the paper), 'uniform' (one architecture drawn uniformly), 'fair' (every option equally often) or
    'sandwich' (of each four ghost batches the largest, the smallest and two drawn uniformly)."""

    rate: float = 0.1
    """The paper's r, from 0 to below 1: the chance that all options of a choice are dropped. Used by 'dropout' only."""

    schedule: Literal["linear", "constant"] = "linear"
    """'linear': each option's chance to be dropped rises from 0 to its final value over training; or 'constant'."""

    limited: bool = False
    """Whether only architectures within the limits of the search are live, with 'uniform' (ours): a step then costs
    what candidates cost, and no weights are trained for networks that may not be found."""

    complexity: float = 1.0
    """How much longer large architectures are trained than small ones: gamma of `supernet.train.emphasis` for the
    smallest, at least 1; with 1 all ghost batches count alike. 'dropout' has to have 1: its ghost batches have no one
    architecture each."""

    distill: float = 0.0
    """Weight of the divergence from what the architecture of the last options (the largest) gives on the same examples,
    added to the loss of each ghost batch; 0 for none. It costs a forward pass more for each."""

    def __post_init__(self) -> None:
        if self.distill < 0:
            raise ValueError(f"distill: expected at least 0, got {self.distill}")
        if self.complexity < 1:
            raise ValueError(f"complexity: expected at least 1, got {self.complexity}")
        if self.complexity > 1 and self.distribution == "dropout":
            raise ValueError(
                "complexity: expected 1 with distribution 'dropout', of which a ghost batch has no one architecture; "
                "it goes with 'uniform', 'fair' and 'sandwich'"
            )
        if self.distribution not in PATHS:
            raise ValueError(f"distribution: expected one of {', '.join(PATHS)}; got {self.distribution!r}")
        if not 0 <= self.rate < 1:
            raise ValueError(f"rate: expected a number from 0 to below 1, got {self.rate}")
        if self.limited and self.distribution != "uniform":
            raise ValueError(f"limited: expected false with distribution {self.distribution!r}; it goes with 'uniform'")


def draw(space: Space, config: PathsConfig, ghosts: int, progress: float, *, generator: torch.Generator) -> Tensor:
    """What is live in each ghost batch of a training step.

    Args:
        space: the space.
        config: the distribution.
        ghosts: number of ghost batches, G.
        progress: share of the training that is over, from 0 to 1.
        generator: the only source of randomness.

    Returns:
        live_GP: bool [G, P]. What rules forbid is replaced by an architecture drawn uniformly; rules on a choice of
        which several options are live do not count, since nothing is picked then.
    """
    strength = progress if config.schedule == "linear" else 1.0
    live = PATHS[config.distribution](space, ghosts, config.rate, strength, generator)
    for ghost in range(ghosts if space.rules else 0):
        if not space.allows_row(live[ghost]):
            live[ghost] = space.live([space.sample(generator=generator)])[0]
    return live


def drop_probabilities(space: Space, rate: float, strength: float = 1.0) -> Tensor:
    """Chance of each option to be dropped, ``strength * rate ** (1 / k)`` for a choice of k options: float64 [P].

    At full strength the chance that every option of a choice is dropped is `rate` for any k (paper, 3.2).
    """
    fan_in = torch.tensor([len(c.options) for c in space.choices for _ in c.options], dtype=torch.float64)
    return strength * rate ** (1 / fan_in) if rate > 0 else torch.zeros(len(fan_in), dtype=torch.float64)


def dropout(space: Space, ghosts: int, rate: float, strength: float, generator: torch.Generator) -> Tensor:
    """Path dropout: every option of every ghost batch is dropped on its own.

    Of a value (a width, a depth, a rate) exactly one option takes part: with probability `strength` one drawn
    uniformly, else the last. Ours: the paper has no such choices.
    """
    drop = drop_probabilities(space, rate, strength)
    live = torch.rand(ghosts, len(drop), dtype=torch.float64, generator=generator) >= drop
    for choice in space.choices:
        if choice.kind == "value":
            k = len(choice.options)
            drawn = torch.randint(k, (ghosts,), generator=generator)
            free = torch.rand(ghosts, dtype=torch.float64, generator=generator) < strength
            first = space.columns[choice.name, choice.options[0]]
            picked = torch.where(free, drawn, k - 1)
            live[:, first : first + k] = torch.nn.functional.one_hot(picked, k).bool()
    return live


def uniform(space: Space, ghosts: int, rate: float, strength: float, generator: torch.Generator) -> Tensor:
    """One architecture for each ghost batch, uniform over the space; `rate` and `strength` do not matter."""
    return space.live([space.sample(generator=generator) for _ in range(ghosts)])


def fair(space: Space, ghosts: int, rate: float, strength: float, generator: torch.Generator) -> Tensor:
    """One option of each choice for each ghost batch, every option once before any comes again.

    Strictly fair in a step when the number of ghost batches is a multiple of a choice's number of options; otherwise
    as even as it can be, the remainder drawn at random. `rate` and `strength` do not matter.
    """
    columns = []
    for choice in space.choices:
        k = len(choice.options)
        rounds = [torch.randperm(k, generator=generator) for _ in range(-(-ghosts // k))]
        columns.append(torch.nn.functional.one_hot(torch.cat(rounds)[:ghosts], k).bool())
    return torch.cat(columns, dim=1)


def largest(space: Space) -> Architecture:
    """The architecture of the last options, and of as many of them as a choice may pick."""
    return space.reached({name: subsets[-1] for name, subsets in space.subsets.items()})


def sandwich(space: Space, ghosts: int, rate: float, strength: float, generator: torch.Generator) -> Tensor:
    """Of each four ghost batches one has the largest architecture, one the smallest, and two have uniform ones.

    With fewer than four ghost batches a random part of these. Where a rule forbids the largest or the smallest, a
    uniform one takes its place. `rate` and `strength` do not matter.
    """
    ends = [largest(space), space.reached({name: subsets[0] for name, subsets in space.subsets.items()})]
    rows: list[Architecture] = []
    while len(rows) < ghosts:
        drawn = [space.sample(generator=generator) for _ in range(4)]
        layers = [end if space.allows(end) else other for end, other in zip(ends, drawn, strict=False)] + drawn[2:]
        if ghosts < 4:
            layers = [layers[place] for place in torch.randperm(4, generator=generator).tolist()]
        rows += layers
    return space.live(rows[:ghosts])


PATHS: dict[str, Callable[[Space, int, float, float, torch.Generator], Tensor]] = {
    "dropout": dropout,
    "uniform": uniform,
    "fair": fair,
    "sandwich": sandwich,
}
