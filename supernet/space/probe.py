"""What a one-shot model does besides computing outputs, seen by running it once on examples of zeros.

Passes side by side have to be independent of each other, and random numbers have to follow the seed. A network may be
any code: it may keep features for another module, count its calls, or draw from wherever it likes.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from supernet.base.randomness import nothing_drawn, seeded
from supernet.space.layers import OneShot
from supernet.space.model import example_of
from supernet.space.values import parts_of

_CPU = torch.device("cpu")

_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class Traits:
    """What a one-shot model does besides computing outputs.

    Attributes:
        draws: whether it draws random numbers by torch in training.
        keeps: in training mode, and in evaluation mode: the module that has changed after a pass, or has hooks; None
            if there is none.
        elsewhere: where else it draws random numbers from, which no seed of ours reaches; None if it does not.
    """

    draws: bool
    keeps: tuple[str | None, str | None]
    elsewhere: str | None = None


def traits_of(model: OneShot) -> Traits:
    """Traits of a one-shot model, on a copy of it; except for its hooks they are remembered with its space.

    A network that does not run on zeros counts as one that does everything.
    """
    traits: Traits | None = vars(model.space).get("_traits")
    if traits is None:
        with nothing_drawn(_CPU), torch.no_grad():
            try:
                traits = _probed(copy.deepcopy(model).to(_CPU), example_of(model.space, _EXAMPLES))
            except Exception:  # the code of a network may do anything
                traits = Traits(draws=True, keeps=("the network", "the network"))
        vars(model.space)["_traits"] = traits
    hooked = _hooked(model)
    return replace(traits, keeps=(traits.keeps[0] or hooked, traits.keeps[1] or hooked))


def _probed(model: OneShot, examples: Any) -> Traits:
    space = model.space
    first = {c.name: c.options[:1] if c.kind == "value" else c.options for c in space.choices}
    lives = [space.live([architecture]) for architecture in (space.everything_on(), space.reached(first))]
    draws, elsewhere = False, None
    keeps: list[str | None] = []
    for training in (True, False):
        model.train(training)
        of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
        with seeded(_CPU, 0, "probe") as chance:
            for live in lives:
                model(examples, live)
            before = _marks(model)  # what is computed once and kept from then on does no harm
            for live in lives:
                model(examples, live)
        draws = draws or bool(chance.drawn)
        if random.getstate() != of_python:
            elsewhere = "Python's module random"
        elif any(np.any(one != other) for one, other in zip(np.random.get_state(), of_numpy, strict=True)):  # noqa: NPY002
            elsewhere = "NumPy's global generator"
        after = _marks(model)
        keeps.append(next((name for name in after if before.get(name) != after[name]), None))
    return Traits(draws, (keeps[0], keeps[1]), elsewhere)


class _Same:
    """A mark of one object. It holds the object: a new one may get the address of one that is gone."""

    def __init__(self, thing: Any, version: int = 0) -> None:
        self.thing, self.version = thing, version

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing and self.version == other.version

    def __hash__(self) -> int:
        return hash((id(self.thing), self.version))


def _hooked(model: nn.Module) -> str | None:
    """A module with a hook after its forward pass, which may put what it sees anywhere."""
    return next((name for name, module in model.named_modules() if module._forward_hooks), None)


def _marks(model: nn.Module) -> dict[str, list[Any]]:
    """For each module marks that are equal as long as nothing that it holds itself changes."""
    return {name: list(_marks_of(vars(module))) for name, module in model.named_modules()}


def _marks_of(thing: Any, depth: int = 0) -> Iterator[Any]:
    parts = parts_of(thing)
    if isinstance(thing, Tensor):
        yield _Same(thing, thing._version)
    elif isinstance(thing, (bool, int, float, str)):
        yield thing
    elif isinstance(thing, set):
        yield len(thing)
    elif parts is not None and depth < 4:
        yield len(parts)
        for part in parts:
            yield from _marks_of(part, depth + 1)
    else:
        yield _Same(thing)
