"""Decided values: numbers and texts of a network that are choices, like a width, a rate or a number of heads.

`value("width", (16, 24, 32))` is an ordinary `int` (the largest) that remembers that it is a choice. It goes where
PyTorch takes a number, for instance ``nn.Conv2d(3, width, 3)``: the module keeps it, and with it the choice. When the
one-shot model runs, a module with such a number works with what is live, on a slice of its weights; where a
stand-alone network is built, `value` gives the plain number from the start.

All of this goes beyond the paper, whose choices are among operations and inputs only. That slices of one weight serve
all widths is the idea of Yu et al., "Slimmable Neural Networks", ICLR 2019.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from supernet.base.modules import shallow_copy
from supernet.space.choices import Choice

Picks = Mapping[str, frozenset[int]]
"""The live options of each choice by their index."""

_AxisSlices = tuple[int, tuple[tuple[int, int], ...]]
"""An axis of a parameter, and (start, length) of each slice that is left of it."""

_DECIDED: ContextVar[Mapping[str, Sequence[str]] | None] = ContextVar("supernet_decided_values", default=None)


@dataclass(frozen=True, slots=True)
class Factor:
    """A number that follows from one choice.

    Attributes:
        choice: the choice.
        numbers: the number for each option.
        option: None where the choice is of a value: the number of its last live option counts. Else the number of
            this option counts if it is live or none is, and is 0 otherwise.
    """

    choice: Choice
    numbers: tuple[Any, ...]
    option: int | None = None

    def at(self, picks: Picks) -> Any:
        live = picks.get(self.choice.name, frozenset())
        if self.option is None:
            return self.numbers[max(live, default=0)]
        return self.numbers[self.option] if not live or self.option in live else 0

    @property
    def largest(self) -> Any:
        return max(self.numbers) if self.option is None else self.numbers[self.option]


@dataclass(frozen=True, slots=True)
class Span:
    """A run of channels or features: a product of factors."""

    factors: tuple[Factor, ...]
    times: int = 1
    over: int = 1

    def at(self, picks: Picks) -> int:
        product = self.times
        for factor in self.factors:
            product *= factor.at(picks)
        return product // self.over

    @property
    def largest(self) -> int:
        product = self.times
        for factor in self.factors:
            product *= factor.largest
        return product // self.over


class DecidedInt(int):
    """A whole number that depends on choices; as an `int` it is the largest that it can be.

    It can be multiplied and divided by whole numbers and multiplied by others of its kind. A sum is what lies side by
    side, as after a concatenation: each term is a slice of its own.
    """

    parts: tuple[Span, ...]

    def __new__(cls, parts: tuple[Span, ...]) -> DecidedInt:
        self = super().__new__(cls, sum(part.largest for part in parts))
        self.parts = parts
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.parts,)

    def at(self, picks: Picks) -> int:
        return sum(part.at(picks) for part in self.parts)

    def slices(self, picks: Picks) -> tuple[tuple[int, int], ...]:
        """(start, length) of each part within the largest."""
        starts = itertools.accumulate((part.largest for part in self.parts), initial=0)
        return tuple((start, part.at(picks)) for start, part in zip(starts, self.parts, strict=False))

    def choices(self) -> Iterator[Choice]:
        return (factor.choice for part in self.parts for factor in part.factors)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, DecidedInt):
            if len(self.parts) != 1 or len(other.parts) != 1:
                raise ValueError("expected numbers of one part each, a sum of decided numbers cannot be multiplied")
            (a,), (b,) = self.parts, other.parts
            return DecidedInt((Span(a.factors + b.factors, a.times * b.times, a.over * b.over),))
        if type(other) is not int:
            return int(self) * other
        return DecidedInt(tuple(Span(p.factors, p.times * other, p.over) for p in self.parts))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, DecidedInt) and other.parts == self.parts:
            return 1  # as in the weights of a depthwise convolution
        if type(other) is not int:
            return int(self) // other
        return DecidedInt(tuple(Span(p.factors, p.times, p.over * other) for p in self.parts))

    def __add__(self, other: Any) -> Any:
        if isinstance(other, DecidedInt):
            return DecidedInt(self.parts + other.parts)
        if type(other) is not int:
            return int(self) + other
        return DecidedInt((*self.parts, Span((), other))) if other > 0 else self

    def __radd__(self, other: Any) -> Any:
        if type(other) is not int:
            return other + int(self)
        return DecidedInt((Span((), other), *self.parts)) if other > 0 else self


class _OfOneChoice:
    """What a number and a text that depend on one choice have in common."""

    factor: Factor

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.factor,)

    def at(self, picks: Picks) -> Any:
        return self.factor.at(picks)

    def choices(self) -> Iterator[Choice]:
        yield self.factor.choice


class DecidedFloat(_OfOneChoice, float):
    """A number that depends on a choice; as a `float` it is the last option."""

    def __new__(cls, factor: Factor) -> DecidedFloat:
        self = float.__new__(cls, factor.numbers[-1])
        self.factor = factor
        return self


class DecidedStr(_OfOneChoice, str):
    """A text that depends on a choice; as a `str` it is the last option."""

    def __new__(cls, factor: Factor) -> DecidedStr:
        self = str.__new__(cls, factor.numbers[-1])
        self.factor = factor
        return self


Decided = DecidedInt | DecidedFloat | DecidedStr


def value(name: str, options: Sequence[Any]) -> Any:
    """A choice of a value: a width, a number of heads, a dilation, a dropout rate, the name of a padding.

    Args:
        name: of the choice; values with the same name share one decision.
        options: whole numbers above 0 in ascending order, or other numbers, or texts.

    Returns:
        The last option, as an `int`, `float` or `str` that remembers that it is a choice; the picked one, as it is,
        where a stand-alone network is being built.

    Raises:
        ValueError: the options are of several or of other types, or whole numbers that do not ascend.
    """
    options = tuple(options)
    kinds = {type(option) for option in options}
    if not options or (kinds != {int} and not kinds <= {int, float} and kinds != {str}):
        raise ValueError(
            f"value {name!r}: expected whole numbers, numbers or texts, got {options}; to choose among anything else "
            "choose among modules, with Choose"
        )
    if kinds == {int} and (options[0] < 1 or list(options) != sorted(set(options))):
        raise ValueError(f"value {name!r}: expected whole numbers above 0 in ascending order, got {options}")
    choice = Choice(name, tuple(str(option) for option in options), kind="value")
    decided_picks = _DECIDED.get()
    if decided_picks is not None:
        return options[choice.options.index(decided_picks[name][-1])] if name in decided_picks else options[-1]
    factor = Factor(choice, options)
    if kinds == {int}:
        return DecidedInt((Span((factor,)),))
    return DecidedStr(factor) if kinds == {str} else DecidedFloat(Factor(choice, tuple(map(float, options))))


@contextmanager
def decided(picks: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Inside the ``with`` block values are what was picked, and no choices."""
    token = _DECIDED.set(picks)
    try:
        yield
    finally:
        _DECIDED.reset(token)


def side_by_side(choice: Choice, widths: Sequence[int]) -> int:
    """The width of the output of a choice of the kind "concat"."""
    decided_picks = _DECIDED.get()
    if decided_picks is not None:
        picked = decided_picks.get(choice.name, choice.options)
        return sum(width for option, width in zip(choice.options, widths, strict=True) if option in picked)
    parts: list[Span] = []
    for index, width in enumerate(widths):
        factor = Factor(choice, tuple(1 for _ in widths), index)
        if isinstance(width, DecidedInt):
            parts += [Span((factor, *part.factors), part.times, part.over) for part in width.parts]
        else:
            parts.append(Span((factor,), width))
    return DecidedInt(tuple(parts))


# ---- modules that hold decided values ----


def decided_values(module: nn.Module) -> Iterator[Decided]:
    """The decided values among the attributes of a module, those in tuples and lists included."""

    def find(thing: Any) -> Iterator[Decided]:
        if isinstance(thing, Decided):
            yield thing
        elif type(thing) in (tuple, list):
            for item in thing:
                yield from find(item)

    for thing in vars(module).values():
        yield from find(thing)


def _resolve(thing: Any, picks: Picks) -> Any:
    if isinstance(thing, Decided):
        return thing.at(picks)
    if type(thing) in (tuple, list):
        return type(thing)(_resolve(item, picks) for item in thing)
    return thing


def _axes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """For the parameters that are sliced: the length of each axis that may be decided."""
    if isinstance(module, nn.Linear):
        return {"weight": (module.out_features, module.in_features), "bias": (module.out_features,)}
    if isinstance(module, nn.modules.conv._ConvNd):
        ends = (
            (module.in_channels, module.out_channels)
            if module.transposed
            else (module.out_channels, module.in_channels)
        )
        return {"weight": (ends[0], ends[1] // module.groups), "bias": (module.out_channels,)}
    if isinstance(module, nn.Embedding):
        return {"weight": (module.num_embeddings, module.embedding_dim)}
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return {"weight": module.normalized_shape, "bias": module.normalized_shape}
    for name in ("num_features", "num_channels", "num_parameters"):
        if name in vars(module):
            return {"weight": (vars(module)[name],), "bias": (vars(module)[name],)}
    return {}


def axis_slices(module: nn.Module, picks: Picks) -> dict[str, tuple[_AxisSlices, ...]]:
    """For each own parameter of a module that is sliced: (axis, [(start, length), ...]) of its decided axes."""
    result = {}
    for name, lengths in _axes(module).items():
        if module._parameters.get(name) is not None:
            axes = tuple((a, n.slices(picks)) for a, n in enumerate(lengths) if isinstance(n, DecidedInt))
            if axes:
                result[name] = axes
    return result


def length_choices(module: nn.Module) -> set[str]:
    """Names of the choices that the lengths of a module's own parameters follow from, of those that are sliced."""
    return {
        choice.name
        for name, lengths in _axes(module).items()
        if module._parameters.get(name) is not None
        for length in lengths
        if isinstance(length, DecidedInt)
        for choice in length.choices()
    }


def parameter_shapes(module: nn.Module, picks: Picks) -> dict[str, tuple[int, ...]]:
    """The shape that each own parameter of a module has when it is sliced for these picks."""
    slices_of = axis_slices(module, picks)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, parameter in module.named_parameters(recurse=False):
        lengths = dict(enumerate(parameter.shape))
        lengths |= {axis: sum(length for _, length in slices) for axis, slices in slices_of.get(name, ())}
        shapes[name] = tuple(lengths.values())
    return shapes


def cut(tensor: Tensor, axes: Sequence[_AxisSlices]) -> Tensor:
    """The part of a tensor that is left of these slices: a view where one slice of each axis is left."""
    for axis, slices in axes:
        pieces = [tensor.narrow(axis, start, length) for start, length in slices if length]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
    return tensor


def resolved(module: nn.Module, picks: Picks) -> nn.Module:
    """A shallow copy of a module in which decided values are plain and its own parameters are cut to fit."""
    copied = shallow_copy(module)
    parameters = dict(module._parameters)
    for name, axes in axis_slices(module, picks).items():
        parameters[name] = cut(parameters[name], axes)  # type: ignore[arg-type, assignment]  # what has axes is a tensor
    vars(copied)["_parameters"] = parameters
    for name, thing in list(vars(copied).items()):
        vars(copied)[name] = _resolve(thing, picks)
    return copied
