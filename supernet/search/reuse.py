"""What neighbouring candidates have in common is computed once, on the same examples.

Neighbours have in common what comes before the first choice, and what follows as long as they pick the same. So the
order of the candidates decides how much that is.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from supernet.base.trees import map_tensors, tensors
from supernet.space.layers import Choose, Elastic, OneShot, picks_of
from supernet.space.network import choices_of
from supernet.space.values import Picks
from supernet.speed.sums import has_hooks

Inside = tuple[tuple[str, int], ...]
"""The options that have to be live for a module to be run: for each a choice, and the option's index."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An output that the next candidate needs again.

    Attributes:
        source: stamp of the module's input, and what was picked of the choices in the module.
        output: what it returned.
        stamp: of the output.
    """

    source: tuple[Any, ...]
    output: Any
    stamp: Any


@dataclass
class Line:
    """Candidates one after the other, and what the next one needs again.

    Tensors are told apart by their identity. That is safe since the line holds every tensor whose identity it knows:
    the examples, and the outputs that are kept. Whether something was written into a tensor is told by its version.

    Attributes:
        current, following: what is picked by the candidate that is run now, and by the one after it.
        examples: the input of all of them.
        kept: by module, the oldest first.
        shared: versions of the tensors that the next candidate meets too, by their identity.
    """

    current: Picks = field(default_factory=dict)
    following: Picks = field(default_factory=dict)
    examples: Any = None
    kept: dict[nn.Module, Kept] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)

    def begin(self, examples: Any) -> None:
        """Starts again with other examples."""
        self.examples, self.kept, self.shared = examples, {}, _versions(examples)

    def shares(self, inputs: Any) -> bool:
        """Whether the candidate before had the same tensors, and nothing was written into them since.

        Raises:
            TypeError: the inputs hold something else than tensors.
        """
        versions = _versions(inputs)
        return bool(versions) and all(self.shared.get(tensor) == version for tensor, version in versions.items())

    def keep(self, module: nn.Module, kept: Kept) -> None:
        """Keeps an output for the next candidate."""
        self.kept[module] = kept
        self.shared |= _versions(kept.output)

    def forget(self, module: nn.Module) -> None:
        """Drops an output and all that were computed after it."""
        if module in self.kept:
            modules = list(self.kept)
            for later in modules[modules.index(module) :]:
                del self.kept[later]
            self.shared = _versions([self.examples, [kept.output for kept in self.kept.values()]])


class Keeping(nn.Module):
    """Stands in for a module, and keeps its output if the next candidate needs it again.

    A network may look at its modules: the attributes are those of the module, and so is the class, for `isinstance`.
    Only ``type(module)`` tells the difference.

    Args:
        of: the module, without hooks; it stays as it is.
        line: the candidates.
        inside: what has to be live for it to be run.
    """

    def __init__(self, of: nn.Module, line: Line, inside: Inside) -> None:
        nn.Module.__init__(self)
        self._modules["view"] = _view(of, line, inside)
        vars(self).update(_of=of, _line=line, _inside=inside, training=of.training)

    @property  # type: ignore[misc]  # for mypy it may only be an attribute, that can be set
    def __class__(self) -> type[nn.Module]:  # type: ignore[override]  # and only of this class
        return type(vars(self)["_of"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._modules["view"], name)

    @cached_property
    def _choices(self) -> list[str]:
        return [choice.name for choice in choices_of(self._of)]

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The output of the module; that for the candidate before, if it is the same."""
        line: Line = self._line
        view = self._modules["view"]
        assert view is not None
        try:
            shared = not named and line.shares(inputs)
        except TypeError:  # something else than tensors
            shared = False
        if not shared:
            return view(*inputs, **named)
        picked = [line.current[name] for name in self._choices]
        source = _stamp(inputs), picked
        kept = line.kept.get(self)
        if kept is not None and kept.source == source and kept.stamp == _stamp(kept.output):
            return map_tensors(kept.output, _itself)  # a list of its own, in case the network appends to it
        line.forget(self)
        output = view(*inputs)
        is_run = all(option in line.following.get(name, ()) for name, option in self._inside)
        # What was forgotten may have been the input itself, if it was computed after the output that was kept here:
        # it will be gone, and another tensor may get its identity.
        if is_run and picked == [line.following.get(name) for name in self._choices] and line.shares(inputs):
            with suppress(TypeError):
                line.keep(self, Kept(source, map_tensors(output, _itself), _stamp(output)))
        return output


def in_line(model: OneShot) -> tuple[OneShot, Line]:
    """A view of a one-shot model, for one thread, that keeps what the next candidate needs again."""
    line = Line()
    view = copy.copy(model)
    view._modules = {"network": _keeping(model.network, line, ())}
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
    for live, line.current, line.following in zip(lives, picks, [*picks[1:], {}], strict=True):
        yield view(examples, live)
    line.begin(())


def _keeping(module: nn.Module, line: Line, inside: Inside) -> nn.Module:
    """A view of a module that keeps what the next candidate needs again.

    Containers, which a network may index, keep nothing themselves: their modules do. Hooks are run for each candidate.
    """
    if isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) or has_hooks(module):
        return _view(module, line, inside)
    return Keeping(module, line, inside)


def _view(module: nn.Module, line: Line, inside: Inside) -> nn.Module:
    """A shallow copy of a module, whose children keep what the next candidate needs again."""
    view = copy.copy(module)
    if isinstance(module, Choose):
        name = module.choice.name
        options = [_keeping(option, line, (*inside, (name, i))) for i, option in enumerate(module.options)]
        view._modules = {"options": nn.ModuleList(options)}
    elif not isinstance(module, Elastic):  # which runs a copy of what it holds
        children = module._modules.items()
        view._modules = {name: child and _keeping(child, line, inside) for name, child in children}
    return view


def _stamp(batch: Any) -> Any:
    """Tells tensors apart, and whether something was written into them: for each its identity and its version."""
    return map_tensors(batch, lambda tensor: (id(tensor), tensor._version))


def _versions(batch: Any) -> dict[int, int]:
    return {id(tensor): tensor._version for tensor in tensors(batch)}


def _itself(tensor: Tensor) -> Tensor:
    return tensor
