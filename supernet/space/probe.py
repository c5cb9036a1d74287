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

from supernet.base.randomness import all_seeded, nothing_drawn, seeded
from supernet.base.trees import tensors_in
from supernet.space.layers import OneShot
from supernet.space.model import example_of
from supernet.space.values import own_attributes, parts_of

_CPU = torch.device("cpu")

_EXAMPLES = 2


@dataclass(frozen=True, slots=True)
class Traits:
    """What a one-shot model does besides computing outputs.

    Attributes:
        draws: in training mode, and in evaluation mode: whether it draws random numbers by torch.
        keeps: in training mode, and in evaluation mode: the module that has changed after a pass, or has hooks; None
            if there is none.
    """

    draws: tuple[bool, bool]
    keeps: tuple[str | None, str | None]


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
                traits = Traits(draws=(True, True), keeps=("the network", "the network"))
        vars(model.space)["_traits"] = traits
    hooked = _hooked(model)
    return replace(traits, keeps=(traits.keeps[0] or hooked, traits.keeps[1] or hooked))


def _probed(model: OneShot, examples: Any) -> Traits:
    lives = _some(model)
    draws: list[bool] = []
    keeps: list[str | None] = []
    for training in (True, False):
        model.train(training)
        with seeded(_CPU, 0, "probe") as chance:
            for live in lives:
                model(examples, live)
            before = _marks(model)  # what is computed once and kept from then on does no harm
            for live in lives:
                model(examples, live)
        draws.append(chance.drawn)
        after = _marks(model)
        keeps.append(next((name for name in after if before.get(name) != after[name]), None))
    return Traits((draws[0], draws[1]), (keeps[0], keeps[1]))


def _some(model: OneShot) -> list[Tensor]:
    """Rows of live options: all of them, and the first of each value."""
    space = model.space
    first = {c.name: c.options[:1] if c.kind == "value" else c.options for c in space.choices}
    return [space.live([architecture]) for architecture in (space.everything_on(), space.reached(first))]


def drawn_elsewhere(model: OneShot, examples: Any) -> str | None:
    """Where a one-shot model draws random numbers from that do not follow the seed; None if all of them do.

    It is run in both modes as in training, with all that torch draws by a seed of ours: global generators of others,
    and generators that modules hold, have to stay as they are; and once more must give the same.

    Args:
        model: it stays as it is, except for generators that its modules hold.
        examples: some, in the precision of the model, on the CPU.
    """
    with all_seeded(_UNUSUAL), torch.no_grad():
        try:
            first, second = (copy.deepcopy(model) for _ in range(2))
        except Exception:  # a module may hold anything
            first, second = model, None
        held, before = _held_generators(first), _states_of_generators()
        states = [_state_of(generator) for _, generator in held]
        outputs = _outputs(first, examples)
        changed = [name for name, state in _states_of_generators().items() if not _is_same(state, before[name])]
        if changed:
            return changed[0]
        for (place, generator), state in zip(held, states, strict=True):
            if not _is_same(_state_of(generator), state):
                kind = type(generator)
                return f"a generator of its own ({place}, {kind.__module__.split('.')[0]}'s {kind.__name__})"
        if second is not None and not _agree(outputs, _outputs(second, examples)):
            return "a generator that begins anew by itself, or from something that it keeps outside of its modules"
    return None


_UNUSUAL = 7_120_731
"""A seed that no network sets by itself."""


def _outputs(model: OneShot, examples: Any) -> list[Tensor]:
    outputs: list[Tensor] = []
    for training in (True, False):
        with seeded(_CPU, 0, "elsewhere"):
            for live in _some(model):
                outputs += tensors_in(model.train(training)(examples, live))
    return outputs


def _agree(ones: list[Tensor], others: list[Tensor]) -> bool:
    return len(ones) == len(others) and all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-6, equal_nan=True)
        for one, other in zip(ones, others, strict=True)
    )


def _states_of_generators() -> dict[str, Any]:
    """The states of the global generators, by what they are called in messages."""
    return {
        "Python's module random": random.getstate(),
        "NumPy's global generator": np.random.get_state(legacy=False),  # noqa: NPY002
        "torch's global generator, which it seeds itself": torch.random.get_rng_state(),
    }


_Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random


def _held_generators(model: nn.Module) -> list[tuple[str, _Generator]]:
    """Generators that modules hold, with the paths of these."""
    return [
        (".".join(part for part in name.split(".")[1:] if part != "of") or "the network", thing)
        for name, module in model.named_modules()
        for attribute in own_attributes(module).values()
        for thing in (attribute, *(parts_of(attribute) or ()))
        if isinstance(thing, _Generator)
    ]


def _state_of(generator: _Generator) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, random.Random):
        return generator.getstate()
    return generator.bit_generator.state if isinstance(generator, np.random.Generator) else generator.get_state()


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (Tensor, np.ndarray)):
        return bool((one == other).all())
    if isinstance(one, (tuple, dict)):
        parts = (
            zip(one.values(), other.values(), strict=True) if isinstance(one, dict) else zip(one, other, strict=True)
        )
        return all(_is_same(a, b) for a, b in parts)
    return bool(one == other)


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
