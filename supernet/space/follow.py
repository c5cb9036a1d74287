"""What follows from values in a network: read off from the network as it is made with each option.

Arithmetic on a `value` is carried on only in part: ``int(width * 0.25)``, ``max``, ``if``, ``range`` and indexing give
plain numbers, the largest ones. So the network is made, without data, with plain numbers for other options too, and
what its modules hold is compared. A number that differs becomes a table from options to numbers; so do the shapes of
parameters and whether a part of the network is there. What no table can say, such as a module of another type, is
refused.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from supernet.base.randomness import stream
from supernet.space.choices import Choice
from supernet.space.layers import Choose, Depth
from supernet.space.network import made_without_data
from supernet.space.rules import Rule, broken, noting_rules
from supernet.space.values import (
    ABSENT,
    FOLLOWED,
    DecidedThing,
    Followed,
    Table,
    at_picks,
    decided,
    decided_thing,
    is_decided,
    is_present,
    lengths_of,
    noting_values,
    own_attributes,
    parts_of,
    rebuilt,
    tensor_shapes,
)

_Setting = Mapping[str, tuple[str, ...]]
"""The options picked of some choices; of the others everything is on."""

_Modules = Mapping[str, nn.Module]
"""The modules of a network by their paths."""

_TRIALS = 3
"""Random settings that are compared, besides those in which each option occurs."""

_MOST_COMBINATIONS = 4096
"""Combinations of options that one number may follow from."""


@dataclass(frozen=True, slots=True)
class _Site:
    """A place in a network at which something may follow from values.

    Attributes:
        path: of the module.
        kind: an attribute, the shape of a parameter or buffer, or whether a parameter or child is there.
        name: of the attribute, tensor or child.
    """

    path: str
    kind: str
    name: str

    def of(self, modules: _Modules) -> Any:
        """What is at this place."""
        module = modules.get(self.path)
        if module is None:
            return ABSENT
        if self.kind == "attribute":
            return vars(module).get(self.name, ABSENT)
        held: dict[str, Any] = {**module._parameters, **module._buffers, **module._modules}
        thing = held.get(self.name)
        return thing is not None if self.kind == "present" else (ABSENT if thing is None else tuple(thing.shape))


class _Builds:
    """The network as it is made with plain numbers, without data, once for each setting."""

    def __init__(self, network: Callable[[], nn.Module], choices: Sequence[Choice], rules: Sequence[Rule]) -> None:
        self._network, self.choices, self._rules = network, choices, rules
        self._modules: dict[Any, _Modules | None] = {}

    def at(self, setting: _Setting) -> _Modules:
        """The modules with a setting; those of everything on if it cannot be made and rules forbid it."""
        modules = self._tried(setting)
        return self.at({}) if modules is None else modules

    def exists(self, setting: _Setting) -> bool:
        """Whether the network can be made with a setting, or no rule forbids it."""
        return self._tried(setting) is not None

    def _tried(self, setting: _Setting) -> _Modules | None:
        key = tuple(sorted(setting.items()))
        if key not in self._modules:
            try:
                self._modules[key] = self.again(setting)
            except Exception:  # of code of the user: an assertion that heads divide a width, for instance
                if not self._forbids(setting):
                    raise
                self._modules[key] = None
        return self._modules[key]

    def _forbids(self, setting: _Setting) -> bool:
        by_name = {choice.name: choice for choice in self.choices}
        picks = {name: setting.get(name, _everything(choice)) for name, choice in by_name.items()}
        undecided = [name for name, choice in by_name.items() if choice.kind != "value"]
        return broken(self._rules, by_name, picks, undecided) > 0

    def again(self, setting: _Setting) -> _Modules:
        """The modules of a network that was made just now."""
        with decided(setting), noting_values() as made:
            modules = dict(made_without_data(self._network).named_modules())
        new = [choice for name, choice in made.items() if name not in {c.name for c in self.choices}]
        if new:
            raise ValueError(
                f"value {new[0].name!r} is made with {_text(setting)} and not with everything on: make it in any case, "
                "and read it only where it counts"
            )
        return modules

    def picks(self, setting: _Setting) -> dict[str, frozenset[int]]:
        """The setting by the indices of options."""
        return {c.name: frozenset(map(c.options.index, setting.get(c.name, _everything(c)))) for c in self.choices}


def followed(network: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The function that makes a network, so that all that follows from its values is decided with them.

    Args:
        network: makes the network; its values are plain inside `decided`.

    Returns:
        The same function if arithmetic on values has carried on all of it, else one that puts tables into the network.

    Raises:
        ValueError: a value decides nothing, or something that no table can say; the message names both.
    """
    with noting_values() as made, noting_rules() as rules:
        traced = dict(made_without_data(network).named_modules())
    for path, module in traced.items():
        if type(module).__name__ == "OptimizedModule":
            raise ValueError(
                f"module {path!r} is under torch.compile, which hides its modules and gives its weights other names: "
                "make the network without it, and compile the network that is exported"
            )
        tensors = (*module._parameters.values(), *module._buffers.values())
        if any(isinstance(tensor, (UninitializedParameter, UninitializedBuffer)) for tensor in tensors):
            raise ValueError(
                f"module {path!r} ({type(module).__name__}) has no shape before it is run: write the class that takes "
                "all its sizes, such as nn.Linear for nn.LazyLinear"
            )
    if not made:
        return network
    builds = _Builds(network, tuple(made.values()), rules)
    trials = list(_trials(builds.choices))
    if not any(True for trial in trials for _ in _different(traced, builds, trial)):
        return network
    # What comes and goes with one option may follow from another value too, so each option is compared by itself.
    singles = [{choice.name: picked} for choice in builds.choices for picked in _settings_of(choice)]
    different = dict.fromkeys(site for s in (*trials, *singles) for site in _different(traced, builds, s))
    again = builds.again({})
    sites = [site for site in different if _same(site.of(again), site.of(builds.at({})))]  # else new at each making
    by_path: dict[str, dict[_Site, Any]] = {}
    for site in sites:
        by_path.setdefault(site.path, {})[site] = _table_at(builds, site, traced[site.path])
    _put(traced, by_path)
    for trial in trials:
        for site in _different(traced, builds, trial):
            if site in sites:
                raise ValueError(
                    f"{_named(site)} follows from several values together that do not change it one by one, first with "
                    f"{_text(trial)}: make one value of these"
                )
    return partial(_made, network, by_path)


def _table_at(builds: _Builds, site: _Site, module: nn.Module) -> Any:
    """What is at a place of a network with decided values, with tables for what follows from them."""
    if site.kind == "present":
        return _conditions(builds, site)
    if site.kind == "attribute":
        return _merged(builds, site, own_attributes(module).get(site.name, ABSENT), partial(_thing_at, builds, site))
    lengths = _merged(builds, site, lengths_of(module, site.name), partial(_thing_at, builds, site))
    if not isinstance(lengths, tuple):
        raise ValueError(f"{_named(site)} changes its number of axes: keep it, and let lengths follow from values only")
    if any(length > there for length, there in zip(lengths, site.of(builds.at({})), strict=True)):
        raise ValueError(
            f"{_named(site)} is larger with other options than with the last ones: order the options of the value so "
            "that the last one makes the largest module, for groups as texts: int(value('groups', ('4', '2', '1')))"
        )
    return lengths


def _made(network: Callable[[], nn.Module], by_path: Mapping[str, Mapping[_Site, Any]]) -> nn.Module:
    """A new network with tables in it; one that is made with plain numbers needs none."""
    new = network()
    if not is_decided():
        _put(dict(new.named_modules()), by_path)
    return new


def _put(modules: _Modules, by_path: Mapping[str, Mapping[_Site, Any]]) -> None:
    for path, things in by_path.items():
        module = modules[path]
        axes: dict[str, tuple[int, ...]] = {}
        present: dict[str, tuple[DecidedThing, ...]] = {}
        for site, thing in things.items():
            if site.kind == "attribute":
                vars(module)[site.name] = thing
            elif site.kind == "shape":
                axes[site.name] = thing
            else:
                present[site.name] = thing
        if axes or present:
            vars(module)[FOLLOWED] = Followed(axes, present)


def _trials(choices: Sequence[Choice]) -> Iterator[_Setting]:
    """Settings in which each option occurs, and random ones, always the same."""
    for number in range(max(len(choice.options) for choice in choices)):
        yield {c.name: (c.options[min(number, len(c.options) - 1)],) for c in choices}
    generator = stream(0, "what follows")
    for _ in range(_TRIALS):
        yield {c.name: (c.options[int(torch.randint(len(c.options), (1,), generator=generator))],) for c in choices}


def _everything(choice: Choice) -> tuple[str, ...]:
    return choice.options[-1:] if choice.kind == "value" else choice.options


def _settings_of(choice: Choice) -> list[tuple[str, ...]]:
    """What can be live of a choice: one option of a value, any of those that lie side by side."""
    if choice.kind == "value":
        return [(option,) for option in choice.options]
    sizes = range(1, len(choice.options) + 1)
    subsets = itertools.chain.from_iterable(itertools.combinations(choice.options, size) for size in sizes)
    return list(itertools.islice(subsets, _MOST_COMBINATIONS + 1))


# ---- what differs ----


def _different(traced: _Modules, builds: _Builds, setting: _Setting) -> Iterator[_Site]:
    """Places at which a network with decided values would be another one than the network made with plain numbers.

    Raises:
        ValueError: a module is of another type or is new, or a choice has other options.
    """
    if not builds.exists(setting):
        return
    built, picks = builds.at(setting), builds.picks(setting)
    for path, module in traced.items():
        other = built.get(path)
        if other is None:
            continue
        if _kind(module) != _kind(other):
            raise ValueError(
                f"module {path!r} is a {type(other).__name__} with {_text(setting)}, and a {type(module).__name__} "
                "with the last options: choose among modules with Choose(NAME, {...}), and among numbers of modules "
                "with Depth(NAME, [...])"
            )
        if isinstance(module, (Choose, Depth)):
            if module.choice != other.choice:
                raise ValueError(
                    f"choice {module.choice.name!r} has other options with {_text(setting)} than with the last options "
                    "of values: its options have to be the same"
                )
            continue
        new = [name for name, child in other.named_children() if module._modules.get(name) is None]
        new += [name for name, _ in other.named_parameters(recurse=False) if module._parameters.get(name) is None]
        if new:
            raise ValueError(
                f"{_joined(path, new[0])} is there with {_text(setting)}, and not with the last options: make "
                "it in any case, or choose among modules with Choose(NAME, {...})"
            )
        yield from _different_in(path, module, other, picks)


def _kind(module: nn.Module) -> tuple[str, str]:
    """The class of a module, by its name: a class may be defined anew each time the network is made."""
    return type(module).__module__, type(module).__qualname__


def _different_in(
    path: str, module: nn.Module, other: nn.Module, picks: Mapping[str, frozenset[int]]
) -> Iterator[_Site]:
    attributes, others = own_attributes(module), own_attributes(other)
    for name in dict.fromkeys((*attributes, *others)):
        if not _same(at_picks(attributes.get(name, ABSENT), picks), others.get(name, ABSENT)):
            yield _Site(path, "attribute", name)
    shapes = tensor_shapes(module, picks)
    for kind in ("_parameters", "_buffers", "_modules"):
        for name in dict.fromkeys((*vars(module)[kind], *vars(other)[kind])):
            thing, there = vars(module)[kind].get(name), vars(other)[kind].get(name)
            is_there = thing is not None and is_present(module, name, picks)
            if thing is not None and is_there != (there is not None):
                yield _Site(path, "present", name)
            elif is_there and kind != "_modules" and shapes[name] != tuple(there.shape):
                yield _Site(path, "shape", name)


_SCALARS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, type, set, frozenset)


def _same(one: Any, other: Any) -> bool:
    """Whether two plain things are equal. What cannot be compared, such as a tensor or an object, counts as equal."""
    if one is other:
        return True
    if type(one) in (int, float) and type(other) in (int, float):
        return bool(one == other or (one != one and other != other))
    if type(one) is not type(other):
        return not (_is_plain(one) and _is_plain(other))
    if isinstance(one, _SCALARS):
        return bool(one == other)
    if isinstance(one, FunctionType):
        closures = [inspect.getclosurevars(function).nonlocals for function in (one, other)]
        same_code = one.__code__ == other.__code__ and _same(one.__defaults__, other.__defaults__)
        return same_code and _same(*closures)
    if isinstance(one, partial):
        return all(map(_same, (one.func, one.args, one.keywords), (other.func, other.args, other.keywords)))
    parts, others = parts_of(one), parts_of(other)
    if parts is None or others is None:
        return True
    return _keys(one) == _keys(other) and len(parts) == len(others) and all(map(_same, parts, others))


def _is_plain(thing: Any) -> bool:
    is_function = isinstance(thing, (FunctionType, partial))
    return thing is ABSENT or isinstance(thing, _SCALARS) or is_function or parts_of(thing) is not None


def _keys(thing: Any) -> list[Any] | None:
    """The names of what a container holds, if it has names."""
    if isinstance(thing, dict):
        return list(thing)
    return None if isinstance(thing, (tuple, list)) else list(vars(thing))


# ---- tables ----


def _thing_at(builds: _Builds, site: _Site, setting: _Setting) -> Any:
    """What is at a place with a setting; the shape of a tensor that is not there does not matter."""
    thing = site.of(builds.at(setting))
    return site.of(builds.at({})) if thing is ABSENT and site.kind == "shape" else thing


def _merged(builds: _Builds, site: _Site, traced: Any, get: Callable[[_Setting], Any]) -> Any:
    """What is at a place, with tables for whatever in it follows from choices.

    Args:
        builds: the network as it is made with plain numbers.
        site: the place, for messages.
        traced: what is there in the network with decided values.
        get: what is there with a setting.
    """
    singles = [{c.name: picked} for c in builds.choices for picked in _settings_of(c)]
    settings = [*singles, *_trials(builds.choices)]
    things = [get(setting) for setting in settings]
    if all(_same(at_picks(traced, builds.picks(s)), thing) for s, thing in zip(settings, things, strict=True)):
        return traced
    parts = None if isinstance(traced, str) else parts_of(traced)
    if parts and all(_has_form(thing, traced) for thing in things):
        elements = enumerate(parts)
        return rebuilt(traced, [_merged(builds, site, part, partial(_part, get, i)) for i, part in elements])
    base = get({})
    choices = [c for c in builds.choices if any(not _same(get({c.name: p}), base) for p in _settings_of(c))]
    by_choice = [_settings_of(choice) for choice in choices]
    if math.prod(map(len, by_choice)) > _MOST_COMBINATIONS:
        names = ", ".join(choice.name for choice in choices)
        raise ValueError(f"{_named(site)} follows from more than {_MOST_COMBINATIONS} combinations of {names}")
    rows = {
        tuple(frozenset(map(c.options.index, p)) for c, p in zip(choices, picked, strict=True)): get(
            {c.name: p for c, p in zip(choices, picked, strict=True)}
        )
        for picked in itertools.product(*by_choice)
    }
    return decided_thing(Table(tuple(choices), rows))


def _part(get: Callable[[_Setting], Any], number: int, setting: _Setting) -> Any:
    return (parts_of(get(setting)) or ())[number]


def _has_form(thing: Any, like: Any) -> bool:
    parts = parts_of(thing)
    is_alike = type(thing) is type(like) and parts is not None and len(parts) == len(parts_of(like) or ())
    return is_alike and _keys(thing) == _keys(like)


def _conditions(builds: _Builds, site: _Site) -> tuple[DecidedThing, ...]:
    """Whether a part is there, as one condition for each choice that decides it."""
    conditions = []
    for choice in builds.choices:
        rows: dict[tuple[frozenset[int], ...], Any] = {
            (frozenset(map(choice.options.index, picked)),): bool(_thing_at(builds, site, {choice.name: picked}))
            for picked in _settings_of(choice)
        }
        if not all(rows.values()):
            conditions.append(DecidedThing(Table((choice,), rows)))
    return tuple(conditions)


# ---- messages ----


def _text(setting: _Setting) -> str:
    return " ".join(f"{name}={'+'.join(picked)}" for name, picked in setting.items())


def _named(site: _Site) -> str:
    what = {"attribute": "attribute", "shape": "the shape of", "present": "part"}[site.kind]
    return f"{what} {_joined(site.path, site.name)!r}"


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
