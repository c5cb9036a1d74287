"""Decided values: numbers and texts of a network that are choices, like a width, a rate or a number of heads.

`value("width", (16, 24, 32))` is an ordinary `int` (the largest) that remembers that it is a choice. It goes where
PyTorch takes a number, for instance ``nn.Conv2d(3, width, 3)``: the module keeps it, and with it the choice. When the
one-shot model runs, a module with such a number works with what is live, on a slice of its weights; where a
stand-alone network is built, `value` gives the plain number from the start.

All of this goes beyond the paper, whose choices are among operations and inputs only. That slices of one weight serve
all widths is the idea of Yu et al., "Slimmable Neural Networks", ICLR 2019.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from operator import is_
from types import SimpleNamespace
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

_MADE: ContextVar[dict[str, Choice] | None] = ContextVar("supernet_made_values", default=None)


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
    def choices(self) -> tuple[Choice, ...]:
        return (self.choice,)

    @property
    def largest(self) -> Any:
        return max(self.numbers) if self.option is None else self.numbers[self.option]

    @property
    def last(self) -> Any:
        """The number with everything on."""
        return self.numbers[-1 if self.option is None else self.option]


@dataclass(frozen=True, slots=True)
class Table:
    """What follows from one choice, or from several together.

    Attributes:
        choices: these; values, or choices of the kind "concat".
        things: what follows from each combination of the live options of each choice, by their indices.
    """

    choices: tuple[Choice, ...]
    things: Mapping[tuple[frozenset[int], ...], Any]

    def at(self, picks: Picks) -> Any:
        return self.things[tuple(_setting(choice, picks) for choice in self.choices)]

    @property
    def largest(self) -> Any:
        return max(self.things.values())

    @property
    def last(self) -> Any:
        """What follows from everything on."""
        return self.at({choice.name: frozenset(range(len(choice.options))) for choice in self.choices})


def _setting(choice: Choice, picks: Picks) -> frozenset[int]:
    """What counts of the live options of a choice, as for a `Factor`."""
    live = picks.get(choice.name, frozenset())
    if choice.kind == "value":
        return frozenset((max(live, default=0),))
    return live or frozenset(range(len(choice.options)))


@dataclass(frozen=True, slots=True)
class Span:
    """A run of channels or features: a product of factors."""

    factors: tuple[Factor | Table, ...]
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
    starts: tuple[int, ...]

    def __new__(cls, parts: tuple[Span, ...]) -> DecidedInt:
        *starts, length = itertools.accumulate((part.largest for part in parts), initial=0)
        self = super().__new__(cls, length)
        self.parts, self.starts = parts, tuple(starts)
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.parts,)

    def at(self, picks: Picks) -> int:
        return sum(part.at(picks) for part in self.parts)

    def slices(self, picks: Picks) -> tuple[tuple[int, int], ...]:
        """(start, length) of each part within the largest."""
        return tuple((start, part.at(picks)) for start, part in zip(self.starts, self.parts, strict=True))

    def choices(self) -> Iterator[Choice]:
        return (choice for part in self.parts for factor in part.factors for choice in factor.choices)

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


class _OfOneTable:
    """What all decided things that are no whole numbers have in common."""

    factor: Any  # a `Factor` or a `Table`

    def __getnewargs__(self) -> tuple[Any, ...]:
        return (self.factor,)

    def at(self, picks: Picks) -> Any:
        return self.factor.at(picks)

    def choices(self) -> Iterator[Choice]:
        return iter(self.factor.choices)


class DecidedFloat(_OfOneTable, float):
    """A number that depends on choices; as a `float` it is the number with everything on."""

    def __new__(cls, factor: Factor | Table) -> DecidedFloat:
        self = float.__new__(cls, factor.last)
        self.factor = factor
        return self


class DecidedStr(_OfOneTable, str):
    """A text that depends on choices; as a `str` it is the text with everything on."""

    def __new__(cls, factor: Factor | Table) -> DecidedStr:
        self = str.__new__(cls, factor.last)
        self.factor = factor
        return self


class DecidedThing(_OfOneTable):
    """Anything else that depends on choices: a truth value, a list of other length, a function, nothing at all.

    As a list it is that with everything on.
    """

    def __init__(self, factor: Table) -> None:
        self.factor = factor

    def __iter__(self) -> Iterator[Any]:
        return iter(self.factor.last)

    def __len__(self) -> int:
        return len(self.factor.last)

    def __getitem__(self, place: Any) -> Any:
        return self.factor.last[place]

    def __bool__(self) -> bool:
        return bool(self.factor.last)


Decided = DecidedInt | DecidedFloat | DecidedStr | DecidedThing

ABSENT = object()
"""Stands in a table for an attribute that is not there."""


def decided_thing(table: Table) -> Decided:
    """What follows from choices, as a number or text that remembers them if it is one with each option."""
    kinds = {type(thing) for thing in table.things.values()}
    if kinds == {int}:
        return DecidedInt((Span((table,)),))
    if kinds == {str}:
        return DecidedStr(table)
    return DecidedFloat(table) if kinds <= {int, float} else DecidedThing(table)


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
    _note(choice)
    decided_picks = _DECIDED.get()
    if decided_picks is not None:
        return options[choice.options.index(decided_picks[name][-1])] if name in decided_picks else options[-1]
    factor = Factor(choice, options)
    if kinds == {int}:
        return DecidedInt((Span((factor,)),))
    return DecidedStr(factor) if kinds == {str} else DecidedFloat(Factor(choice, tuple(map(float, options))))


def _note(choice: Choice) -> None:
    made = _MADE.get()
    if made is not None:
        made.setdefault(choice.name, choice)


@contextmanager
def noting_values() -> Iterator[dict[str, Choice]]:
    """Inside the ``with`` block the choices of values and of concatenations are noted as they are made, by name."""
    made: dict[str, Choice] = {}
    token = _MADE.set(made)
    try:
        yield made
    finally:
        _MADE.reset(token)


def decided_picks() -> Mapping[str, Sequence[str]] | None:
    """What is picked as a stand-alone network is made; None if values are choices now."""
    return _DECIDED.get()


def is_decided() -> bool:
    """Whether values are plain now, as a stand-alone network is made."""
    return _DECIDED.get() is not None


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
    _note(choice)
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


@dataclass(frozen=True, slots=True)
class Followed:
    """What follows from values in a module beside its attributes; the attribute `FOLLOWED` of a module.

    Attributes:
        axes: for parameters and buffers the length of each axis.
        present: for parameters and children that are not always there what has to be true.
    """

    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    present: Mapping[str, tuple[DecidedThing, ...]] = field(default_factory=dict)


FOLLOWED = "_followed"

_OF_TORCH = frozenset(vars(nn.Module()))
"""Attributes that torch itself keeps in every module."""


def own_attributes(module: nn.Module) -> dict[str, Any]:
    """The attributes that the class of a module sets, without parameters, buffers, children and hooks."""
    return {name: thing for name, thing in vars(module).items() if name not in _OF_TORCH and name != FOLLOWED}


def parts_of(thing: Any) -> list[Any] | None:
    """What a container of plain things holds; None for anything else.

    Containers are tuples, lists, dicts, and objects that are a namespace, a dataclass or a configuration: they have
    attributes, and are neither called nor a module, a tensor or a class.
    """
    if isinstance(thing, (tuple, list)):
        return list(thing)
    if isinstance(thing, dict):
        return list(thing.values())
    return list(vars(thing).values()) if _has_attributes(thing) else None


def _has_attributes(thing: Any) -> bool:
    if isinstance(thing, (Tensor, nn.Module, type, torch.dtype, torch.device, DecidedThing, DecidedInt, float, str)):
        return False
    is_record = isinstance(thing, SimpleNamespace) or dataclasses.is_dataclass(thing)
    return hasattr(thing, "__dict__") and (is_record or type(thing).__name__.endswith("Config"))


def rebuilt(thing: Any, parts: Sequence[Any]) -> Any:
    """A container of the same kind that holds other parts; see `parts_of`."""
    if isinstance(thing, (tuple, list)):
        return type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
    if isinstance(thing, dict):
        copied = copy.copy(thing)
        copied.update(zip(thing, parts, strict=True))
        return copied
    copied = copy.copy(thing)
    vars(copied).update(zip(vars(thing), parts, strict=True))
    return copied


_DEEPEST = 6
"""Containers in containers that are looked into."""


def _decided_in(thing: Any, depth: int = 0) -> Iterator[Decided]:
    if _is_plain(thing):
        return
    if isinstance(thing, Decided):
        yield thing
    elif depth < _DEEPEST and (parts := parts_of(thing)):
        for part in parts:
            yield from _decided_in(part, depth + 1)


def decided_values(module: nn.Module) -> Iterator[Decided]:
    """The decided values that a module holds: in its attributes, as lengths of its parameters, and as what decides
    whether a part of it is there.
    """
    for thing in own_attributes(module).values():
        if not _is_plain(thing):
            yield from _decided_in(thing)
    followed = followed_of(module)
    for lengths in followed.axes.values():
        yield from _decided_in(lengths)
    for conditions in followed.present.values():
        yield from conditions


def followed_of(module: nn.Module) -> Followed:
    """What follows from values in a module beside its attributes."""
    followed: Followed = vars(module).get(FOLLOWED, _NOTHING_FOLLOWS)
    return followed


_NOTHING_FOLLOWS = Followed()


_PLAIN = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device))
"""Types in which nothing is decided. Most attributes of modules have them, and they are read in each forward pass."""


def _is_plain(thing: Any) -> bool:
    kind = type(thing)
    return kind in _PLAIN or (kind is tuple and all(type(part) in _PLAIN for part in thing))


def at_picks(thing: Any, picks: Picks) -> Any:
    """A thing in which what is decided is plain; the thing itself if nothing in it is decided."""
    if _is_plain(thing):
        return thing
    if isinstance(thing, Decided):
        return thing.at(picks)
    if next(_decided_in(thing), None) is None:
        return thing
    return rebuilt(thing, [at_picks(part, picks) for part in parts_of(thing) or ()])


def _axes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """For the parameters that are sliced: the length of each axis that may be decided."""
    return {**usual_axes(module), **followed_of(module).axes}


def usual_axes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """The same for modules of torch, and for a few others, from the numbers that they hold."""
    if isinstance(module, nn.Linear):
        return {"weight": (module.out_features, module.in_features), "bias": (module.out_features,)}
    if isinstance(module, nn.modules.conv._ConvNd):
        ends = (
            (module.in_channels, module.out_channels)
            if module.transposed
            else (module.out_channels, module.in_channels)
        )
        weight = (ends[0], ends[1] // module.groups, *module.kernel_size)
        return {"weight": weight, "bias": (module.out_channels,)}
    if isinstance(module, nn.Embedding):
        return {"weight": (module.num_embeddings, module.embedding_dim)}
    if isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        return {"weight": module.normalized_shape, "bias": module.normalized_shape}
    if {"nx", "nf"} <= vars(module).keys():  # Conv1D of transformers: a linear layer whose weight lies the other way
        return {"weight": (vars(module)["nx"], vars(module)["nf"]), "bias": (vars(module)["nf"],)}
    for name in ("num_features", "num_channels", "num_parameters"):
        if name in vars(module):
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (vars(module)[name],))
    return {}


def lengths_of(module: nn.Module, name: str) -> tuple[int, ...]:
    """The lengths of the axes of a parameter or buffer, decided ones as such."""
    tensor = module._parameters.get(name)
    shape = (module._buffers[name] if tensor is None else tensor).shape  # type: ignore[union-attr]  # one of them is there
    lengths = _axes(module).get(name, ())
    return (*lengths, *shape[len(lengths) :])


def axis_slices(module: nn.Module, picks: Picks) -> dict[str, tuple[_AxisSlices, ...]]:
    """For each own parameter or buffer of a module that is sliced: (axis, [(start, length), ...]) of its decided axes.

    Slices begin at the first row; those of a convolution's kernel lie in the middle of the largest kernel. Slices that
    touch are one.
    """
    result = {}
    for name, lengths in _axes(module).items():
        tensor = module._parameters.get(name) if name in module._parameters else module._buffers.get(name)
        if tensor is not None:
            axes = tuple(
                (a, _centred(tensor, a, n.at(picks)) if _is_of_kernel(module, name, a) else _joined(n.slices(picks)))
                for a, n in enumerate(lengths)
                if isinstance(n, DecidedInt)
            )
            if axes:
                result[name] = axes
    return result


def _joined(slices: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same rows in as few slices as there can be; of no rows, one slice of length 0."""
    joined: list[tuple[int, int]] = [slices[0]]
    for start, length in slices[1:]:
        first, before = joined[-1]
        if not before:
            joined[-1] = (start, length)
        elif length and start == first + before:
            joined[-1] = (first, before + length)
        elif length:
            joined.append((start, length))
    return tuple(joined)


def _is_of_kernel(module: nn.Module, name: str, axis: int) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) and name == "weight" and axis >= 2


def _centred(tensor: Tensor, axis: int, length: int) -> tuple[tuple[int, int], ...]:
    return (((tensor.shape[axis] - length) // 2, length),)


def length_choices(module: nn.Module) -> set[str]:
    """Names of the choices that the sizes of a module's own parameters follow from, of those that are sliced."""
    of_lengths = {
        choice.name
        for name, lengths in _axes(module).items()
        if module._parameters.get(name) is not None
        for length in lengths
        if isinstance(length, DecidedInt)
        for choice in length.choices()
    }
    present = followed_of(module).present
    return of_lengths | {
        choice.name
        for name in module._parameters
        for condition in present.get(name, ())
        for choice in condition.choices()
    }


def is_present(module: nn.Module, name: str, picks: Picks) -> bool:
    """Whether a parameter or child of a module is there."""
    return all(condition.at(picks) for condition in followed_of(module).present.get(name, ()))


def parameter_shapes(module: nn.Module, picks: Picks) -> dict[str, tuple[int, ...]]:
    """The shape that each own parameter of a module has when it is sliced for these picks."""
    shapes = tensor_shapes(module, picks)
    parameters = module.named_parameters(recurse=False)
    return {name: shapes[name] for name, _ in parameters if is_present(module, name, picks)}


def tensor_shapes(module: nn.Module, picks: Picks) -> dict[str, tuple[int, ...]]:
    """The same for all parameters and buffers, those that are not there with these picks included."""
    slices_of = axis_slices(module, picks)
    tensors = {**module._parameters, **module._buffers}
    return {name: _sliced_shape(t, slices_of.get(name, ())) for name, t in tensors.items() if t is not None}


def _sliced_shape(tensor: Tensor, axes: Sequence[_AxisSlices]) -> tuple[int, ...]:
    lengths = dict(enumerate(tensor.shape))
    lengths |= {axis: sum(length for _, length in slices) for axis, slices in axes}
    return tuple(lengths.values())


def cut(tensor: Tensor, axes: Sequence[_AxisSlices]) -> Tensor:
    """The part of a tensor that is left of these slices: a view where one slice of each axis is left.

    The tensor itself where all of it is left: the gradient of a view is copied into one of zeros.
    """
    for axis, slices in axes:
        if slices == ((0, tensor.shape[axis]),):
            continue
        pieces = [tensor.narrow(axis, start, length) for start, length in slices]
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis)
    return tensor


@dataclass(frozen=True, slots=True)
class _Changes:
    """What the copy of a module has in place of what the module has, with some options of its choices live.

    Attributes:
        plain: attributes that are decided.
        absent: names of attributes that are not there.
        mutable: names of attributes that may hold other things in the next pass: lists, and containers of decided ones.
        axes: of the parameters and buffers that are cut; no axis of which all is left.
        missing: names of the parameters that are not there.
        children: names of those that are there; None if it does not depend on choices.
    """

    plain: Mapping[str, Any]
    absent: tuple[str, ...]
    mutable: tuple[str, ...]
    axes: Mapping[str, tuple[_AxisSlices, ...]]
    missing: tuple[str, ...]
    children: tuple[str, ...] | None


def _changes(module: nn.Module, picks: Picks) -> _Changes:
    plain: dict[str, Any] = {}
    mutable = []
    for name, thing in own_attributes(module).items():
        if isinstance(thing, Decided):
            plain[name] = thing.at(picks)
        elif type(thing) is list or (not _is_plain(thing) and next(_decided_in(thing), None) is not None):
            mutable.append(name)
    absent = [name for name, thing in plain.items() if thing is ABSENT]
    tensors = {**module._parameters, **module._buffers}
    axes = {
        name: tuple((axis, slices) for axis, slices in of_all if slices != ((0, tensors[name].shape[axis]),))  # type: ignore[union-attr]  # only tensors that are there
        for name, of_all in axis_slices(module, picks).items()
    }
    depends = bool(followed_of(module).present)
    return _Changes(
        {name: thing for name, thing in plain.items() if thing is not ABSENT},
        tuple(absent),
        tuple(mutable),
        {name: of_some for name, of_some in axes.items() if of_some},
        tuple(n for n in module._parameters if depends and not is_present(module, n, picks)),
        tuple(n for n in module._modules if is_present(module, n, picks)) if depends else None,
    )


def _changed(module: nn.Module, picks: Picks, changes: _Changes) -> nn.Module:
    """A shallow copy of a module with changes made; the tensors are cut anew in each pass, for its gradients."""
    copied = shallow_copy(module)
    new = vars(copied)
    parameters: dict[str, Tensor | None] = dict(module._parameters)
    buffers = dict(module._buffers)
    for name, axes in changes.axes.items():
        tensors = parameters if name in parameters else buffers
        tensor = tensors[name]
        assert tensor is not None
        tensors[name] = cut(tensor, axes)
    for name in changes.missing:
        parameters[name] = None
    new["_parameters"], new["_buffers"] = parameters, buffers
    if changes.children is not None:
        new["_modules"] = {name: module._modules[name] for name in changes.children}
    new.update(changes.plain)
    for name in changes.mutable:
        new[name] = _with_tensors(at_picks(vars(module)[name], picks), module, parameters)
    for name in changes.absent:
        del new[name]
    return copied


def resolved(module: nn.Module, picks: Picks) -> nn.Module:
    """A shallow copy of a module in which decided values are plain and its own parameters are cut to fit.

    Buffers are cut alike; parameters and children that are not there with these picks are left out.
    """
    return _changed(module, picks, _changes(module, picks))


@dataclass(frozen=True, slots=True)
class _Memory:
    """What is known of a module.

    Attributes:
        parts: its attributes and parameters; what follows holds as long as they are the same objects.
        names: of the choices that decide something in it.
        by_options: its changes by the live options of these choices.
    """

    parts: list[Any]
    names: tuple[str, ...]
    by_options: dict[tuple[frozenset[int] | None, ...], _Changes]


_MOST_REMEMBERED = 256
"""Combinations of options that are remembered of one module: a convolution may follow from dozens of choices."""


class Resolved:
    """`resolved` of one module for many passes: what follows from live options is found out once for each of them.

    It is found out again if an attribute or a parameter of the module is replaced. A copy of this remembers nothing.
    """

    def __init__(self) -> None:
        self._memory = _Memory([], (), {})

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def at(self, module: nn.Module, picks: Picks) -> nn.Module:
        """The shallow copy of the module, which is the same one, or a view of it, in all calls."""
        return _changed(module, picks, self._changes(module, picks))

    def slices(self, module: nn.Module, picks: Picks) -> Mapping[str, tuple[_AxisSlices, ...]]:
        """`axis_slices` of the module without the axes of which all is left, and without parameters that are whole."""
        return self._changes(module, picks).axes

    def _changes(self, module: nn.Module, picks: Picks) -> _Changes:
        # A view has children of its own; they play no part.
        parts = [thing for name, thing in vars(module).items() if name != "_modules"]
        parts += module._parameters.values()
        memory = self._memory
        if len(parts) != len(memory.parts) or not all(map(is_, parts, memory.parts)):
            names = dict.fromkeys(choice.name for thing in decided_values(module) for choice in thing.choices())
            # One assignment: another thread sees all of it, or nothing.
            self._memory = memory = _Memory(parts, tuple(names), {})
        options = tuple([picks.get(name) for name in memory.names])
        changes = memory.by_options.get(options)
        if changes is None:
            if len(memory.by_options) >= _MOST_REMEMBERED:
                memory.by_options.clear()
            changes = memory.by_options[options] = _changes(module, picks)
        return changes


def _with_tensors(thing: Any, module: nn.Module, parameters: Mapping[str, Tensor | None]) -> Any:
    """A list of a module's own parameters, or of references to them, with those that were cut in their place.

    Recurrent modules keep both kinds of lists.
    """
    if type(thing) is not list:
        return thing
    names = {id(parameter): name for name, parameter in module._parameters.items() if parameter is not None}
    result: list[Any] = []
    for part in thing:
        is_reference = isinstance(part, weakref.ref)
        name = names.get(id(part() if is_reference else part))
        tensor = None if name is None else parameters[name]
        if name is None:
            result.append(part)
        elif tensor is not None:
            result.append(weakref.ref(tensor) if is_reference else tensor)
    return result


def attribute_at(module: nn.Module, name: str, picks: Picks) -> Any:
    """An attribute of a module as it is with these picks.

    Raises:
        AttributeError: the module has no such attribute, or not with these picks.
    """
    tensors = {**module._parameters, **module._buffers}
    if name in tensors:
        tensor = tensors[name]
        if tensor is None or not is_present(module, name, picks):
            return None
        return cut(tensor, axis_slices(module, picks).get(name, ()))
    if name in own_attributes(module) and vars(module)[name] is not ABSENT:
        thing = at_picks(vars(module)[name], picks)
        if thing is not ABSENT and type(thing) is not list:
            return thing
    return getattr(resolved(module, picks), name)
