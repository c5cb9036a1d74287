"""Tables of the costs of modules by the choices that shapes follow from, out of few measurements.

A measurement takes a network that is built for one setting of these choices, and a module may depend on four choices
at once. But the sizes of its weights follow from the numbers that it holds, without a measurement. The measured costs
over these sizes (for a convolution, the number of output positions) depend on few choices, mostly on none. So only
these ratios are measured for every combination of choices, and the table is their product with the sizes. It is exact:
ratios are fractions, and whole measurements at random settings decide whether a table is right.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import torch

from supernet.base.randomness import stream
from supernet.space.network import Inside

TRIALS = 4
"""Random settings on which a table is compared with measurements before it is taken."""

_MAX_COMBINATIONS = 4096
"""If the costs of one module depend on more combinations of options than this, there is no table of them."""

Figures = tuple[int, ...]
"""The costs of one module."""

Settings = tuple[tuple[str, ...], ...]
"""What is picked of each of several choices; or all that can be picked of one choice."""

Setting = dict[str, tuple[str, ...]]
"""What is picked of every choice of shape."""

Shaping = Mapping[str, Settings]
"""All that can be picked of every choice of shape, everything on last."""

Key = tuple[str, Inside]
"""A module's name, and what has to be live for it to take part."""

Measured = dict[Key, Figures]


@dataclass(frozen=True, slots=True)
class Size:
    """What the costs of one module are multiples of, as a rule.

    Attributes:
        choices: names of the choices that it follows from, in the order of the space.
        at: the size for what is picked of them: a whole number of at least 1 for each of the first columns of costs.
            Later columns are measured as they are.
    """

    choices: tuple[str, ...] = ()
    at: Callable[[Settings], Figures] = lambda _: ()


_ONE = Size()
"""The size of a module whose parameters have no lengths that are choices."""


@dataclass(frozen=True, slots=True)
class Table:
    """The costs of one module.

    Attributes:
        choices: names of the choices that they depend on, in the order of the space.
        rows: the costs for each combination of what is picked of them; the last choice varies fastest.
    """

    choices: tuple[str, ...]
    rows: dict[Settings, Figures]


_T = TypeVar("_T")

_Ratios = dict[Key, tuple[Fraction, ...]]
"""Costs over sizes."""

_Depends = dict[Key, tuple[str, ...]]
"""For each module the choices that its ratios depend on, in the order of the space."""


def tabulated(
    shaping: Shaping,
    held: Mapping[str, Collection[str]],
    sizes: Mapping[str, Size],
    suspects: Collection[str],
    measure: Callable[[Setting], Measured | None],
) -> dict[Key, Table]:
    """The table of costs of each module.

    Args:
        shaping: the choices of shape.
        held: for each module the names of the choices whose numbers it holds.
        sizes: for a module what its costs are multiples of; 1 for a module that is missing.
        suspects: names of the choices that may change what other modules cost than those that hold them.
        measure: the costs of all modules with a setting, None for one that is forbidden and cannot be made. It is
            called once for each setting.

    Raises:
        ValueError: the costs of one module depend on too many combinations, or have no table.
    """
    measured: dict[Settings, Measured | None] = {}

    def at(setting: Setting) -> Measured | None:
        key = tuple(setting.values())
        if key not in measured:
            measured[key] = measure(setting)
        return measured[key]

    def ratios(setting: Setting) -> _Ratios:
        """Exact costs over sizes; those of everything on for a setting that cannot be made."""
        costs_of = at(setting)
        if costs_of is None:
            return ratios(_everything(shaping))
        return {
            key: tuple(itertools.starmap(Fraction, _pairs(costs, _size_at(sizes, key, setting))))
            for key, costs in costs_of.items()
        }

    guess: _Depends = {}
    wrong: Key | None = None
    for guess in _guesses(shaping, held, sizes, suspects, ratios):
        tables = _tables(shaping, guess, sizes, ratios)
        if tables is not None:
            trials = ((trial, costs) for trial in _trials(shaping) if (costs := at(trial)) is not None)
            disagreements = (_disagreement(tables, trial, costs) for trial, costs in trials)
            wrong = next((key for key in disagreements if key is not None), None)
            if wrong is None:
                return tables
    choices = [_all_choices(shaping, guess, sizes, key) for key in guess]
    most = max(choices, key=lambda names: _combinations(shaping, names))
    if _combinations(shaping, most) > _MAX_COMBINATIONS:
        raise ValueError(
            f"the cost of one module depends on {', '.join(most)} in more than {_MAX_COMBINATIONS} combinations: "
            "lower the number of their options, or let fewer of them meet in one module"
        )
    module = "a module" if wrong is None else f"module {wrong[0]!r}"
    raise ValueError(
        f"there is no table of the cost of {module}: it changes with several choices of values together that do not "
        "change it one by one; make one choice of these, or a choice among modules"
    )


def _trials(shaping: Shaping) -> Iterator[Setting]:
    """The first of everything, then random settings, always the same."""
    yield {name: settings[0] for name, settings in shaping.items()}
    generator = stream(0, "cost trials")
    for _ in range(TRIALS):
        yield {name: s[int(torch.randint(len(s), (1,), generator=generator))] for name, s in shaping.items()}


def _disagreement(tables: Mapping[Key, Table], setting: Setting, measured: Measured) -> Key | None:
    """The first module that does not cost what its table says; None if there is none."""
    nothing = (0,) * len(next(iter(measured.values())))
    for key in dict.fromkeys((*tables, *measured)):
        table = tables.get(key)
        if table is None or table.rows[_picked(setting, table.choices)] != measured.get(key, nothing):
            return key
    return None


def _picked(setting: Setting, names: tuple[str, ...]) -> Settings:
    return tuple(setting[name] for name in names)


def _size_at(sizes: Mapping[str, Size], key: Key, setting: Setting) -> Figures:
    size = sizes.get(key[0], _ONE)
    return size.at(_picked(setting, size.choices))


def _pairs(values: Iterable[_T], size: Figures) -> Iterator[tuple[_T, int]]:
    """Each value with what it is a multiple of."""
    return zip(values, itertools.chain(size, itertools.repeat(1)), strict=False)


def _guesses(
    shaping: Shaping,
    held: Mapping[str, Collection[str]],
    sizes: Mapping[str, Size],
    suspects: Collection[str],
    ratios: Callable[[Setting], _Ratios],
) -> Iterator[_Depends]:
    """What the ratios of each module may depend on, from what takes few measurements to what takes many.

    First the numbers that a module holds and its size does not follow from; then also what other modules hold; then
    whatever makes a difference when it alone is changed, starting from everything on, and from each trial in addition.
    """
    starts = (_everything(shaping), *_trials(shaping))

    def ordered(names: Collection[str]) -> tuple[str, ...]:
        return tuple(name for name in shaping if name in names)

    guess: _Depends = {}
    for key in itertools.chain.from_iterable(map(ratios, starts)):
        guess[key] = ordered(set(held.get(key[0], ())) - set(sizes.get(key[0], _ONE).choices))
    yield guess
    if suspects:
        changing = _changing(shaping, suspects, starts[0], ratios)
        yield {key: ordered({*names, *changing.get(key, ())}) for key, names in guess.items()}
    guess = dict.fromkeys(guess, ())
    for start in starts:
        changing = _changing(shaping, shaping, start, ratios)
        guess = {key: ordered({*names, *changing.get(key, ())}) for key, names in guess.items()}
        yield guess


def _everything(shaping: Shaping) -> Setting:
    return {name: settings[-1] for name, settings in shaping.items()}


def _changing(
    shaping: Shaping, names: Collection[str], start: Setting, ratios: Callable[[Setting], _Ratios]
) -> dict[Key, set[str]]:
    """Which of these choices change the ratios of a module when they alone are not as at the start."""
    base = ratios(start)
    changing: dict[Key, set[str]] = {}
    for name in names:
        for picked in shaping[name]:
            changed = ratios({**start, name: picked})
            for key in {**base, **changed}:
                if changed.get(key) != base.get(key):
                    changing.setdefault(key, set()).add(name)
    return changing


def _combinations(shaping: Shaping, names: tuple[str, ...]) -> int:
    return math.prod(len(shaping[name]) for name in names)


def _all_choices(shaping: Shaping, depends: _Depends, sizes: Mapping[str, Size], key: Key) -> tuple[str, ...]:
    """The choices that the ratios and the size of a module depend on."""
    names = {*depends[key], *sizes.get(key[0], _ONE).choices}
    return tuple(name for name in shaping if name in names)


def _tables(
    shaping: Shaping, depends: _Depends, sizes: Mapping[str, Size], ratios: Callable[[Setting], _Ratios]
) -> dict[Key, Table] | None:
    """Ratios times sizes; None if there are too many combinations or a product is not whole, so that it is wrong."""
    choices = {key: _all_choices(shaping, depends, sizes, key) for key in depends}
    if any(_combinations(shaping, names) > _MAX_COMBINATIONS for names in choices.values()):
        return None
    by_choices = _cover(shaping, depends, ratios)
    nothing = (Fraction(0),) * len(next(iter(ratios(_everything(shaping)).values()), ()))
    tables: dict[Key, Table] = {}
    for key, names in choices.items():
        rows: dict[Settings, Figures] = {}
        for picked in itertools.product(*(shaping[name] for name in names)):
            setting = dict(zip(names, picked, strict=True))
            ratio = by_choices[depends[key]][_picked(setting, depends[key])].get(key, nothing)
            size = _size_at(sizes, key, setting)
            products = [divmod(r.numerator * number, r.denominator) for r, number in _pairs(ratio, size)]
            if any(remainder for _, remainder in products):
                return None
            rows[picked] = tuple(product for product, _ in products)
        tables[key] = Table(names, rows)
    return tables


def _cover(
    shaping: Shaping, depends: _Depends, ratios: Callable[[Setting], _Ratios]
) -> dict[tuple[str, ...], dict[Settings, _Ratios]]:
    """For the choices that meet in one module every combination of them, measured.

    Combinations of several meetings that do not contradict each other are measured at once.
    """
    everything = _everything(shaping)
    together = list(dict.fromkeys(depends.values()))
    tables: dict[tuple[str, ...], dict[Settings, _Ratios | None]] = {
        names: dict.fromkeys(itertools.product(*(shaping[name] for name in names))) for names in together
    }
    for names in sorted(together, key=lambda names: -len(tables[names])):
        for combination, measured in tables[names].items():
            if measured is not None:
                continue
            setting: Setting = dict(zip(names, combination, strict=True))
            for others, theirs in tables.items():
                missing = (
                    c
                    for c, figures in theirs.items()
                    if figures is None and all(setting.get(n, p) == p for n, p in zip(others, c, strict=True))
                )
                setting.update(zip(others, next(missing, ()), strict=False))
            full = {name: setting.get(name, everything[name]) for name in shaping}
            figures = ratios(full)
            for others, theirs in tables.items():
                combination_of_others = _picked(full, others)
                theirs[combination_of_others] = theirs[combination_of_others] or figures
    return tables  # type: ignore[return-value]  # the loop has filled in every None
