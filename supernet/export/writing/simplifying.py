"""The steps of a forward pass that have an effect on its output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from supernet.export.writing.tracing import Frame, Step, Value, values_in

_Aliases = dict[Value, Value]
"""Values that are the same as other ones."""


class Simplifier:
    """Simplifies recorded forward passes, each once."""

    def __init__(self, frames: Mapping[int, Frame]) -> None:
        self._frames = frames
        self._simplified: dict[int, tuple[dict[int, Step], Any]] = {}

    def simplified(self, frame: Frame) -> tuple[dict[int, Step], Any]:
        """The steps that matter, by the ids of the recorded ones to which values refer; and the output."""
        if id(frame) not in self._simplified:
            self._simplified[id(frame)] = _simplified(frame, self.does_nothing)
        return self._simplified[id(frame)]

    def does_nothing(self, module: Any) -> bool:
        """Whether a module returns its input."""
        frame = self._frames.get(id(module)) if isinstance(module, nn.Module) else None
        if frame is None:
            return False
        _, output = self.simplified(frame)
        return [output] == list(frame.inputs.values())


def _simplified(frame: Frame, does_nothing: Callable[[Any], bool]) -> tuple[dict[int, Step], Any]:
    aliases = _aliases(frame, does_nothing)
    output = _resolved(frame.output, aliases)
    used = {id(value.of) for value in values_in(output)}
    steps: dict[int, Step] = {}
    for step in reversed(frame.steps):
        if id(step) in used:
            args, kwargs = _resolved(step.args, aliases), _resolved(step.kwargs, aliases)
            steps[id(step)] = Step(step.function, args, kwargs, step.several)
            used |= {id(value.of) for value in values_in([args, kwargs])}
    return dict(reversed(steps.items())), output


def _aliases(frame: Frame, does_nothing: Callable[[Any], bool]) -> _Aliases:
    """The results that are the same as other values: of identities, sums with zeros, and indices that take all."""
    aliases: _Aliases = {}
    zeros: set[Value] = set()
    for step in frame.steps:
        result = Value(step)
        args = [_resolved(value, aliases) for value in step.args]
        name = getattr(step.function, "__name__", "").strip("_").removeprefix("r")
        if does_nothing(step.function):
            aliases[result] = args[0]
        elif name == "zeros_like" or (
            name in ("mul", "imul") and any(type(a) in (int, float) and a == 0 for a in args)
        ):
            zeros.add(result)
        elif name in ("add", "iadd") and len(args) == 2 and not step.kwargs:
            for zero, other in (args[::-1], args):
                if zero in zeros and isinstance(other, Value) and other.shape == zero.shape:
                    aliases[result] = other
                    break
        elif name in ("cat", "concat") and isinstance(args[0], list) and len(args[0]) == 1:
            aliases[result] = args[0][0]
        elif name == "getitem" and _takes_all(args[0], step.args[1]):
            aliases[result] = args[0]
    return aliases


def _takes_all(value: Value, index: Any) -> bool:
    """Whether an index returns all of a tensor, for any number of examples."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts[0] == slice(None) and len(parts) <= len(value.shape) and all(
        isinstance(part, slice) and part.start in (None, 0) and part.step in (None, 1)
        and (part.stop is None or part.stop >= size)
        for part, size in zip(parts[1:], value.shape[1:], strict=False)
    )  # fmt: skip


def _resolved(thing: Any, aliases: _Aliases) -> Any:
    """A tree of values without those that are the same as other ones."""
    if isinstance(thing, Value):
        return _resolved(aliases[thing], aliases) if thing in aliases else thing
    if isinstance(thing, (tuple, list)):
        return type(thing)(_resolved(part, aliases) for part in thing)
    if isinstance(thing, dict):
        return {name: _resolved(part, aliases) for name, part in thing.items()}
    if isinstance(thing, slice):
        return slice(*(_resolved(end, aliases) for end in (thing.start, thing.stop, thing.step)))
    return thing
