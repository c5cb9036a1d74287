"""An architecture with one choice changed."""

from __future__ import annotations

import torch

from supernet.space.choices import Architecture, Space

NEIGHBOURS = 64
"""Of a choice with more picks than this, this number of picks, drawn at random, is tried as neighbours."""


def filled(space: Space, architecture: Architecture, *, generator: torch.Generator) -> dict[str, tuple[str, ...]]:
    """A pick for every choice: the architecture's own, and random ones where it does not reach."""
    picks = dict(architecture.picks)
    for name, subsets in space.subsets.items():
        if name not in picks:
            picks[name] = subsets[int(torch.randint(len(subsets), (1,), generator=generator))]
    return picks


def mutated(space: Space, architecture: Architecture, *, generator: torch.Generator) -> Architecture:
    """The architecture with another pick at one of its choices, both drawn uniformly (as Real et al., 2019)."""
    free = [name for name, _ in architecture.picks if len(space.subsets[name]) > 1]
    if not free:
        return architecture
    name = free[int(torch.randint(len(free), (1,), generator=generator))]
    others = [subset for subset in space.subsets[name] if subset != dict(architecture.picks)[name]]
    picks = filled(space, architecture, generator=generator)
    return space.reached({**picks, name: others[int(torch.randint(len(others), (1,), generator=generator))]})


def neighbours(space: Space, architecture: Architecture, *, generator: torch.Generator) -> list[Architecture]:
    """The architectures with another pick at one choice; of choices with very many picks a random part."""
    picks = filled(space, architecture, generator=generator)
    architectures: list[Architecture] = []
    for name, current in architecture.picks:
        subsets = space.subsets[name]
        if len(subsets) > NEIGHBOURS:
            numbers = torch.randperm(len(subsets), generator=generator)[:NEIGHBOURS].tolist()
            subsets = tuple(subsets[i] for i in numbers)
        architectures += [space.reached({**picks, name: subset}) for subset in subsets if subset != current]
    return architectures
