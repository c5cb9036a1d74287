"""Batches that are a tensor, or a tuple, list, dict or dataclass of batches, with the examples along the first axis.

A tensor without axes, such as an auxiliary loss among the outputs, is one number for all examples.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def _map(tree: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """The same structure with each leaf of this kind replaced; None stays.

    Raises:
        TypeError: it has a leaf of another kind.
    """
    if isinstance(tree, kind):
        return function(tree)
    if tree is None:
        return None
    if isinstance(tree, dict):
        named = {name: _map(part, kind, function) for name, part in tree.items()}
        return named if type(tree) is dict else _refilled(tree, named)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = [field.name for field in dataclasses.fields(tree)]
        return _with_fields(tree, {name: _map(getattr(tree, name), kind, function) for name in fields})
    if not isinstance(tree, (tuple, list)):
        raise TypeError(
            f"expected a {kind.__name__.lower()}, or a tuple, list, dict or dataclass of {kind.__name__.lower()}s, "
            f"got {type(tree).__name__}"
        )
    parts = [_map(part, kind, function) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)  # named tuples take arguments


def _refilled(tree: Any, named: dict[str, Any]) -> Any:
    """A dict of a class of its own, as libraries return, with other parts."""
    made = copy.copy(tree)
    for name, part in named.items():
        made[name] = part  # its class may set an attribute too
    return made


def _with_fields(tree: Any, named: dict[str, Any]) -> Any:
    made = copy.copy(tree)
    for name, part in named.items():
        object.__setattr__(made, name, part)  # a frozen one too
    return made


def map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same structure with each tensor replaced; None stays.

    Raises:
        TypeError: it holds something else than tensors.
    """
    return _map(batch, Tensor, function)


def map_tensors_in(thing: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same arguments of a module with each tensor in tuples, lists and dicts replaced; whatever else stays."""
    if isinstance(thing, Tensor):
        return function(thing)
    if type(thing) in (tuple, list):
        return type(thing)(map_tensors_in(part, function) for part in thing)
    if type(thing) is dict:
        return {name: map_tensors_in(part, function) for name, part in thing.items()}
    return thing


def plain(batch: Any) -> Any:
    """The same with dicts and dataclasses of classes of their own, as libraries return, as dicts without what is None.

    Only with plain classes can a file be read where the library is not installed.
    """
    if dataclasses.is_dataclass(batch) and not isinstance(batch, (type, dict)):
        batch = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    if isinstance(batch, dict):
        return {name: plain(part) for name, part in batch.items() if part is not None}
    if type(batch) in (tuple, list):
        return type(batch)(map(plain, batch))
    return batch


def combined(function: Callable[[Tensor, Tensor], Tensor], batch: Any, other: Any) -> Any:
    """Two batches of the same structure as one, in which each tensor is a function of theirs."""
    if isinstance(batch, Tensor) and isinstance(other, Tensor):
        return function(batch, other)
    others = tuple(tensors(other))
    pairs = iter(zip(tensors(batch), others, strict=True))
    return map_tensors(batch, lambda _: function(*next(pairs)))


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch, in its order."""
    leaves: list[Tensor] = []
    map_tensors(batch, leaves.append)
    return iter(leaves)


def tensors_in(thing: Any) -> Iterator[Tensor]:
    """The tensors in what a module takes or gives, in order; whatever else is in it is left out."""
    if isinstance(thing, Tensor):
        yield thing
    elif isinstance(thing, (tuple, list, dict)):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for field in dataclasses.fields(thing):
            yield from tensors_in(getattr(thing, field.name))


def rows(batch: Any) -> int:
    """Number of examples in a batch."""
    return len(next(tensor for tensor in tensors(batch) if tensor.ndim))


def take_rows(batch: Any, which: slice | Tensor) -> Any:
    """These examples of a batch, in the same structure; one number for all of them stays."""
    return map_tensors(batch, lambda tensor: tensor[which] if tensor.ndim else tensor)


def join_rows(batches: Sequence[Any]) -> Any:
    """Batches of the same structure as one, in this order; of numbers for all examples of a batch the mean."""
    if isinstance(batches[0], Tensor) and batches[0].ndim:  # as most are: without a walk through a structure
        return torch.cat(list(batches))
    parts = [iter(tuple(tensors(batch))) for batch in batches]

    def joined(first: Tensor) -> Tensor:
        pieces = [next(part) for part in parts]
        return torch.cat(pieces) if first.ndim else torch.stack(pieces).mean(0)

    return map_tensors(batches[0], joined)


CONTIGUOUS = "_takes_contiguous"
"""The attribute of a network that is true if it runs on tensors in contiguous memory only."""


def call(function: Callable[..., Any], inputs: Any) -> Any:
    """What a function, for instance a network, makes of a tensor, or of a tuple or dict of tensors as its arguments."""
    if getattr(function, CONTIGUOUS, False):
        inputs = map_tensors(inputs, Tensor.contiguous)
    if isinstance(inputs, dict):
        return function(**inputs)
    return function(*inputs) if isinstance(inputs, (tuple, list)) else function(inputs)


def in_full_precision(batch: Any) -> Any:
    """The same with numbers in float32, after autocast to a half precision; whole numbers stay."""
    return map_tensors(batch, lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)


def describe(batch: Any) -> Any:
    """The types and shapes of the examples as JSON: for each tensor a text like ``"int64 5 2"``."""
    return map_tensors(batch, lambda t: " ".join([str(t.dtype).removeprefix("torch."), *map(str, t.shape[1:])]))


def zeros(description: Any, number: int) -> Any:
    """A batch of `number` examples of zeros, of the types and shapes that `describe` gave.

    Raises:
        ValueError: it is no such description.
    """

    def make(text: str) -> Tensor:
        kind, *shape = text.split() or [""]
        if not isinstance(getattr(torch, kind, None), torch.dtype) or not all(length.isdecimal() for length in shape):
            raise TypeError
        return torch.zeros(number, *map(int, shape), dtype=getattr(torch, kind))

    try:
        return _map(description, str, make)
    except TypeError:
        raise ValueError(
            f"expected a type and the lengths of an example, like 'float32 3 32 32'; got {description!r}"
        ) from None


def form_text(batch: Any) -> str:
    """Types and shapes of a batch in one line, for messages: ``float32 [N, 3]``, ``{a: int64 [N], b: ...}``."""
    if isinstance(batch, Tensor):
        shape = ", ".join(["N", *map(str, batch.shape[1:])]) if batch.ndim else ""
        return f"{str(batch.dtype).removeprefix('torch.')} [{shape}]"
    if isinstance(batch, dict):
        return f"{{{', '.join(f'{name}: {form_text(part)}' for name, part in batch.items())}}}"
    if isinstance(batch, (tuple, list)):
        return f"({', '.join(map(form_text, batch))})"
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        return form_text({field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)})
    return type(batch).__name__
