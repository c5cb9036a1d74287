"""Which candidates are trained from scratch.

References:
    Bender et al., ICML 2018, section 3.3.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from supernet.search.config import SearchConfig
from supernet.search.orders import Candidate, bands, front, objectives_of, on_most, spread, standing
from supernet.space.choices import Architecture, Space


def finalists(
    candidates: Sequence[Candidate], space: Space, config: SearchConfig, *, generator: torch.Generator
) -> dict[str, list[Architecture]]:
    """Which candidates are trained from scratch (paper, section 3.3).

    Top: the best `top_of` by accuracy and bonus (loss breaks ties) in `top` strata of equal size, one drawn from each;
    our reading of "a stratified sample". With `config.bands` as many strata of the best of each band of size. With
    several objectives in place of Top the group Pareto: of those scored on everything the Pareto front, or `top` of it
    that lie far from each other. Small: the smallest without norms among those above the quantile of accuracy, of those
    scored on everything: a score on few examples, with which a race was left, may be high by chance. Random: drawn from
    all candidates. All On: everything on, which is in general no member of the space.

    Args:
        candidates: scored candidates.
        space: their space.
        config: sizes of the groups.
        generator: of the draws.

    Returns:
        For each group that is not empty its architectures, the best score first.
    """
    ranked = sorted(candidates, key=standing)
    top: list[Candidate] = []
    parts = [ranked] if config.bands == 1 else bands(ranked, config.bands, lambda c: c.params)
    parts = parts if len(config.sought) == 1 else []
    for number, part in enumerate(parts):
        best = sorted(part, key=standing)[: math.ceil(config.top_of / len(parts))]
        wanted = round((number + 1) * config.top / len(parts)) - round(number * config.top / len(parts))
        strata = min(wanted, len(best))
        edges = [round(i * len(best) / strata) for i in range(strata + 1)] if strata else []
        top += [
            best[first + int(torch.randint(last - first, (1,), generator=generator))]
            for first, last in itertools.pairwise(edges)
        ]
    # The share that scores worse is counted by rank, so that many equal scores do not empty the group.
    good = ranked[: max(1, len(ranked) - int(config.small_quantile * len(ranked)))]
    whole = set(on_most(ranked))
    lasting = [candidate for candidate in good if candidate in whole]
    small = sorted(sorted(lasting, key=lambda c: c.params_without_norm)[: config.small], key=ranked.index)
    chosen = torch.randperm(len(ranked), generator=generator)[: config.random].tolist()
    groups = {
        "Top": [c.architecture for c in top],
        "Pareto": [c.architecture for c in _pareto(ranked, config)],
        "Small": [c.architecture for c in small],
        "Random": [ranked[i].architecture for i in sorted(chosen)],
        "All On": [space.everything_on()] if config.all_on else [],
    }
    return {group: members for group, members in groups.items() if members}


def _pareto(ranked: Sequence[Candidate], config: SearchConfig) -> list[Candidate]:
    """The front where there are several objectives, thinned to `config.top`."""
    if len(config.sought) == 1:
        return []
    whole = on_most(ranked)
    best = [whole[i] for i in front([objectives_of(c, config.sought) for c in whole])]
    return [best[i] for i in spread([objectives_of(c, config.sought) for c in best], config.top)]


def in_order(groups: dict[str, list[Architecture]], candidates: Sequence[Candidate]) -> dict[str, list[Architecture]]:
    """The same groups, in each the best score first; architectures that are no candidates stay where they are."""
    place = {candidate.architecture: standing(candidate) for candidate in candidates}
    return {name: sorted(members, key=lambda a: place.get(a, ())) for name, members in groups.items()}


def to_json(groups: dict[str, list[Architecture]]) -> dict[str, list[str]]:
    """Groups of finalists as texts."""
    return {group: [str(architecture) for architecture in members] for group, members in groups.items()}


def from_json(texts: dict[str, list[str]], space: Space) -> dict[str, list[Architecture]]:
    """The inverse of `to_json`."""
    return {group: [space.parse(text) for text in members] for group, members in texts.items()}
