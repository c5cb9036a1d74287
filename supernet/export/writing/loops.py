"""Runs over the members of a list of modules, as loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from supernet.export.writing.tracing import Count, Step, Value, values_in


@dataclass(frozen=True, eq=False)
class Loop:
    """The members of a list of modules, run one after the other.

    Attributes:
        path: of the list.
        members: the modules.
        swapped: None if each gets the output of the one before. Otherwise each gets the output of the one before that
            too, and this says whether it comes first.
    """

    path: str
    members: list[nn.Module]
    swapped: bool | None


@dataclass(frozen=True)
class Forward:
    """The forward pass of a class.

    Attributes:
        module: whose forward pass it is.
        inputs: arguments by name: trees of `Value`s.
        steps: calls of modules, loops and functions, in order, by the ids to which values refer.
        output: a tree of `Value`s.
        counts: the axes of the inputs that tell the number of examples.
    """

    module: nn.Module
    inputs: Mapping[str, Any]
    steps: Mapping[int, Step]
    output: Any
    counts: tuple[Count, ...] = ()


def rolled(forward: Forward, does_nothing: Callable[[Any], bool]) -> Forward:
    """The same forward pass, with one step for each run over the members of a list of modules."""
    paths = {id(child): path for path, child in forward.module.named_modules() if path}
    place = 0
    while place < len(forward.steps):
        run = _run_from(forward, list(forward.steps)[place:], paths, does_nothing)
        if run is not None:
            keys, step = run
            hidden, last = set(keys[:-1]), keys[-1]  # the output of the last member stands for that of the loop
            steps = {k: step if k == last else s for k, s in forward.steps.items() if k not in hidden}
            forward = replace(forward, steps=steps)
        place += 1
    return forward


def _run_from(
    forward: Forward, keys: list[int], paths: Mapping[int, str], does_nothing: Callable[[Any], bool]
) -> tuple[list[int], Step] | None:
    """The steps at the beginning of `keys` that run over a whole list, and the step in their place; None if none do."""
    steps = forward.steps
    first = steps[keys[0]]
    path, _, number = paths.get(id(first.function), "").rpartition(".")
    if not path or not number.isdecimal():  # the list itself, if its class derives from one, has no attribute
        return None
    modules = forward.module.get_submodule(path)
    if not isinstance(modules, (nn.ModuleList, nn.Sequential)):
        return None
    run: list[int] = []
    for key in keys:
        step = steps[key]
        home = paths.get(id(step.function), "").rpartition(".")[0]
        if home != path or step.kwargs or len(step.args) != len(first.args):
            break
        if run and not _follows(step, run, steps):
            break
        run.append(key)
    members = [steps[key].function for key in run]
    active = [m for m in modules.children() if not does_nothing(m) and not isinstance(m, nn.Identity)]
    if len(run) < 2 or members != active or not all(isinstance(value, Value) for value in first.args):
        return None
    if _is_read_outside(forward, run):
        return None
    if len(first.args) == 1:
        return run, Step(Loop(path, members, None), first.args)
    if len(first.args) != 2 or len(run) < 3:
        return None
    newest = next(i for i, value in enumerate(steps[run[1]].args) if id(value.of) == run[0])
    return run, Step(Loop(path, members, newest == 1), first.args)


def _is_read_outside(forward: Forward, run: list[int]) -> bool:
    """Whether an output of a step of the run, except the last one, is read by others than the run."""
    inside = Counter(id(v.of) for key in run for v in values_in(forward.steps[key].args))
    reads = Counter(id(v.of) for s in forward.steps.values() for v in values_in([s.args, s.kwargs]))
    reads.update(id(v.of) for v in values_in(forward.output))
    return any(reads[key] != inside[key] for key in run[:-1])


def _follows(step: Step, run: list[int], steps: Mapping[int, Step]) -> bool:
    """Whether a step takes the output of the last step of a run, and the one before that if it takes two."""
    sources = [id(value.of) if isinstance(value, Value) and not value.path else 0 for value in step.args]
    if len(sources) == 1:
        return sources == run[-1:]
    if len(sources) != 2 or run[-1] not in sources:
        return False
    newest = sources.index(run[-1])
    if len(run) > 1:
        return sources[1 - newest] == run[-2] and id(steps[run[-1]].args[newest].of) == run[-2]
    return bool(step.args[1 - newest] == steps[run[0]].args[newest])
