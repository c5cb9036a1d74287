"""What neighbouring candidates have in common is computed once, on the same examples.

Neighbours have in common what comes before the first choice, and what follows as long as they pick the same. So the
order of the candidates decides how much that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from supernet.base.modules import shallow_copy
from supernet.base.trees import map_tensors, tensors
from supernet.space.layers import Choose, Elastic, OneShot, picks_of
from supernet.space.network import choices_of
from supernet.space.values import Picks
from supernet.speed.quick import Fused, QuickSequential
from supernet.speed.sums import has_hooks

Inside = tuple[tuple[str, int], ...]
"""The options that have to be live for a module to be run: for each a choice, and the option's index."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An output that the next candidate needs again.

    Attributes:
        source: stamp of the module's input, what was picked of the choices in the module, and its attributes.
        output: what it returned.
        stamp: of the output.
        objects: those that `source` tells apart by their identity; as long as they live no other object gets it.
    """

    source: tuple[Any, ...]
    output: Any
    stamp: Any
    objects: Sequence[Any] = ()


@dataclass
class Line:
    """Candidates one after the other, and what the next one needs again.

    Tensors are told apart by their identity. That is safe since the line holds every tensor whose identity it knows:
    the examples, and the outputs that are kept. Whether something was written into a tensor is told by its version.

    Attributes:
        current, following: what is picked by the candidate that is run now, and by the one after it.
        examples: the input of all of them.
        kept: by identity of the module's view, the oldest first.
        shared: versions of the tensors that the next candidate meets too, by their identity.
        inner: whether a module is run now whose output will be kept.
    """

    current: Picks = field(default_factory=dict)
    following: Picks = field(default_factory=dict)
    examples: Any = None
    kept: dict[int, Kept] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)
    inner: bool = False

    def begin(self, examples: Any) -> None:
        """Starts again with other examples."""
        self.examples, self.kept, self.shared = examples, {}, _versions(examples)

    def shares(self, inputs: Any) -> bool:
        """Whether the arguments are tensors that the candidate before had, and nothing was written into them since."""
        if not _holds_tensors(inputs):
            return False
        versions = _versions(inputs)
        return bool(versions) and all(self.shared.get(tensor) == version for tensor, version in versions.items())

    def keep(self, view: int, kept: Kept) -> None:
        """Keeps an output for the next candidate."""
        self.kept[view] = kept
        self.shared |= _versions(kept.output)

    @contextmanager
    def without_inner(self) -> Iterator[None]:
        """Runs a module whose output will be kept: then the modules in it need keep nothing."""
        before, self.inner = self.inner, True
        try:
            yield
        finally:
            self.inner = before

    def forget(self, view: int) -> None:
        """Drops an output and all that were computed after it."""
        if view in self.kept:
            views = list(self.kept)
            for later in views[views.index(view) :]:
                del self.kept[later]
            self.shared = _versions([self.examples, [kept.output for kept in self.kept.values()]])


def in_line(model: OneShot) -> tuple[OneShot, Line]:
    """A view of a one-shot model, for one thread, that keeps what the next candidate needs again."""
    line = Line()
    view = shallow_copy(model)
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
    """A shallow copy of a module, whose children and whose `forward` keep what the next candidate needs again.

    The copy has the class of the module, so the network finds all that it may look for: special methods, parameters,
    children, attributes. The module stays as it is. If it or a module in it has hooks, they are run for each candidate.
    """
    view = shallow_copy(module)
    if isinstance(module, Choose):
        name = module.choice.name
        options = [_keeping(option, line, (*inside, (name, i))) for i, option in enumerate(module.options)]
        vars(view)["_modules"] = {"options": nn.ModuleList(options)}
    elif not isinstance(module, (Elastic, Fused)):  # the first runs a copy of what it holds, the other runs it as one
        vars(view)["_modules"] = {
            name: None if child is None else _keeping(child, line, inside) for name, child in module._modules.items()
        }
    if isinstance(view, QuickSequential):
        view.run_as([_keeping(step, line, inside) if isinstance(step, Fused) else step for step in view.steps()])
    if not any(map(has_hooks, module.modules())):
        vars(view)["forward"] = _keeping_forward(view, line, inside)
    return view


def _keeping_forward(view: nn.Module, line: Line, inside: Inside) -> Callable[..., Any]:
    """The forward pass of a view; it returns the output for the candidate before if that is the same.

    A module that changes an attribute as it runs is run each time, since it does more than return its output.

    Args:
        inside: what has to be live for the module to be run.
    """
    forward, place = view.forward, id(view)
    choices = cache(lambda: [choice.name for choice in choices_of(view)])
    can_be_kept = True

    def run(*inputs: Any, **named: Any) -> Any:
        nonlocal can_be_kept
        arguments = [inputs, named]
        if not can_be_kept or not line.shares(arguments):
            return forward(*inputs, **named)
        picked = [line.current[name] for name in choices()]
        is_run = all(option in line.following.get(name, ()) for name, option in inside)
        needed = is_run and not line.inner and picked == [line.following.get(name) for name in choices()]
        if place not in line.kept and not needed:
            return forward(*inputs, **named)
        marks, objects = _attributes(view)
        source = _stamp(arguments), picked, marks
        kept = line.kept.get(place)
        if kept is not None and kept.source == source and kept.stamp == _stamp(kept.output):
            return map_tensors(kept.output, _itself)  # a list of its own, in case the network appends to it
        line.forget(place)
        if not needed:
            return forward(*inputs, **named)
        with line.without_inner():
            output = forward(*inputs, **named)
        can_be_kept = _holds_tensors(output) and _attributes(view)[0] == marks
        # What was forgotten may have been the input itself, if it was computed after the output that was kept here:
        # it will be gone, and another tensor may get its identity.
        if can_be_kept and line.shares(arguments):
            line.keep(place, Kept(source, map_tensors(output, _itself), _stamp(output), objects))
        return output

    return run


_VALUES = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Types of attributes that are told apart by their value, as are tuples of these."""

_CONTAINERS = ("_parameters", "_buffers", "_modules")
"""Attributes in which torch keeps what a module is made of."""

_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}
"""These, and those in which it keeps the hooks of a module."""


def _attributes(module: nn.Module) -> tuple[list[Any], list[Any]]:
    """What a module's output follows from besides its input and the choices: all that it holds, at any depth.

    Returns:
        Marks that are equal as long as no attribute changes, and the objects whose identities are among the marks.
        Tensors count by identity and version; lists, dicts, and objects with attributes by what they hold. Functions
        and objects without attributes count by identity only: a change in a NumPy array, for instance, is not seen.
    """
    marks: list[Any] = []
    objects: list[Any] = []
    seen: set[int] = set()
    left: list[Any] = [module]
    while left:
        thing = left.pop()
        objects.append(thing)
        marks.append(id(thing))
        if isinstance(thing, Tensor):
            marks.append(thing._version)
        elif id(thing) not in seen:
            seen.add(id(thing))
            parts = _parts(thing)
            marks.append(len(parts))
            for part in parts:
                kind = type(part)
                if kind in _VALUES or (kind is tuple and all(type(element) in _VALUES for element in part)):
                    marks += kind, part
                else:
                    left.append(part)
    return marks, objects


def _parts(thing: Any) -> list[Any]:
    """What an object holds: elements, or names and attributes."""
    if isinstance(thing, (list, tuple, set, frozenset)):
        return list(thing)
    if isinstance(thing, dict):
        return [*thing.keys(), *thing.values()]
    if isinstance(thing, nn.Module):
        attributes = vars(thing)
        named = [item for name, value in attributes.items() if name not in _OF_TORCH for item in (name, value)]
        for name in _CONTAINERS:
            container = attributes[name]
            if container:
                named += [name, *container.keys(), *container.values()]
        return named
    if callable(thing) or isinstance(thing, ModuleType) or not hasattr(thing, "__dict__"):
        return []
    return [*vars(thing).keys(), *vars(thing).values()]


def _stamp(batch: Any) -> Any:
    """Tells tensors apart, and whether something was written into them: for each its identity and its version."""
    return map_tensors(batch, lambda tensor: (id(tensor), tensor._version))


def _holds_tensors(batch: Any) -> bool:
    """Whether it is a tensor, or tuples, lists or dicts of tensors."""
    try:
        map_tensors(batch, _itself)
    except TypeError:
        return False
    return True


def _versions(batch: Any) -> dict[int, int]:
    return {id(tensor): tensor._version for tensor in tensors(batch)}


def _itself(tensor: Tensor) -> Tensor:
    return tensor
