"""Candidates on the same examples one after the other: what two neighbours have in common is computed once.

Neighbours have in common what comes before the first choice, and what follows as long as they pick the same. So the
order of the candidates decides how much that is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from torch import Tensor, nn

from supernet.base.trees import map_tensors, tensors
from supernet.space.layers import Choose, Elastic, OneShot, picks_of
from supernet.space.network import choices_of
from supernet.space.values import Picks

Inside = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """An output that the next candidate needs again.

    Attributes:
        given: stamp of what the module was given, and what was picked of the choices in it.
        output: what it returned.
        stamp: of the output.
    """

    given: tuple[Any, ...]
    output: Any
    stamp: Any


@dataclass
class Line:
    """Candidates in line.

    Attributes:
        here, ahead: what the candidate picks whose turn it is, and the next one.
        examples: what all of them are given.
        kept: by module, the oldest first.
        met: versions of the tensors that the next candidate meets too, by their identity.
    """

    here: Picks = field(default_factory=dict)
    ahead: Picks = field(default_factory=dict)
    examples: Any = None
    kept: dict[int, Kept] = field(default_factory=dict)
    met: dict[int, int] = field(default_factory=dict)

    def begin(self, examples: Any) -> None:
        self.examples, self.kept, self.met = examples, {}, _versions(examples)

    def known(self, inputs: Any) -> bool:
        """Whether the candidate before met the same tensors, and nothing was written into them since."""
        found = _versions(inputs)
        return bool(found) and all(self.met.get(tensor) == version for tensor, version in found.items())

    def keep(self, place: int, kept: Kept) -> None:
        self.kept[place] = kept
        self.met |= _versions(kept.output)

    def forget(self, place: int) -> None:
        """Drops an output and all that were computed after it."""
        if place in self.kept:
            keys = list(self.kept)
            for key in keys[keys.index(place) :]:
                del self.kept[key]
            self.met = _versions([self.examples, [kept.output for kept in self.kept.values()]])


def in_line(model: OneShot) -> tuple[OneShot, Line]:
    """A view of a one-shot model, for one thread, that keeps what the next candidate needs again."""
    line = Line()
    view = copy.copy(model)
    view._modules = {"network": _keeping(model.network, line)}
    return view, line


def outputs(view: OneShot, line: Line, examples: Any, lives: Sequence[Tensor]) -> Iterator[Any]:
    """Outputs for the same examples of one candidate after the other.

    Args:
        view, line: of `in_line`. Gradients have to be off.
        examples: of G ghost batches.
        lives: bool [G, P] for each candidate, the same in all ghost batches.
    """
    picks = [picks_of(view.space, live[:1])[0] for live in lives]
    line.begin(examples)
    for live, line.here, line.ahead in zip(lives, picks, [*picks[1:], {}], strict=True):
        yield view(examples, live)
    line.begin(())


def _keeping(module: nn.Module, line: Line, inside: Inside = ()) -> nn.Module:
    """A view of a module that keeps what the next candidate needs again.

    Args:
        module: what to look at.
        line: what is known.
        within: the options that have to be live for the module to be run: a choice, and the option's index.
    """
    here = copy.copy(module)
    if isinstance(module, Choose):
        name = module.choice.name
        options = [_keeping(option, line, (*inside, (name, i))) for i, option in enumerate(module.options)]
        here._modules = {"options": nn.ModuleList(options)}
    elif not isinstance(module, Elastic):  # which runs a copy of what it holds
        children = module._modules.items()
        here._modules = {name: child and _keeping(child, line, inside) for name, child in children}
    forward, place = here.forward, id(here)
    own = cache(lambda: [choice.name for choice in choices_of(module)])

    def once(*inputs: Any, **named: Any) -> Any:
        try:
            known = not named and line.known(inputs)
        except TypeError:  # something else than tensors
            known = False
        if not known:
            return forward(*inputs, **named)
        given = (_stamp(inputs), [line.here[name] for name in own()])
        kept = line.kept.get(place)
        if kept is not None and kept.given == given and kept.stamp == _stamp(kept.output):
            return map_tensors(kept.output, _itself)  # a list of its own, should somebody append to it
        line.forget(place)
        output = forward(*inputs)
        runs = all(option in line.ahead.get(name, ()) for name, option in inside)
        # What was forgotten may have been the input itself, if it was computed after the output that was kept here:
        # it will be gone, and another tensor may get its identity.
        if runs and line.known(inputs) and all(line.here[name] == line.ahead.get(name) for name in own()):
            with suppress(TypeError):
                line.keep(place, Kept(given, map_tensors(output, _itself), _stamp(output)))
        return output

    vars(here)["forward"] = once
    return here


def _stamp(batch: Any) -> Any:
    """Tells tensors apart, and whether something was written into them: for each its identity and its version."""
    return map_tensors(batch, lambda tensor: (id(tensor), tensor._version))


def _versions(batch: Any) -> dict[int, int]:
    return {id(tensor): tensor._version for tensor in tensors(batch)}


def _itself(tensor: Tensor) -> Tensor:
    return tensor
