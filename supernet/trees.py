"""Batches that are a tensor, or a tuple, list or dict of batches, with the examples along the first axis."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def map_tensors(batch: Any, function: Callable[[Tensor], Any]) -> Any:
    """The same structure with each tensor replaced; None stays.

    Raises:
        TypeError: it holds something else than tensors.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if batch is None:
        return None
    if isinstance(batch, dict):
        return {name: map_tensors(part, function) for name, part in batch.items()}
    if not isinstance(batch, (tuple, list)):
        raise TypeError(f"expected a tensor, or a tuple, list or dict of tensors, got {type(batch).__name__}")
    parts = [map_tensors(part, function) for part in batch]
    return type(batch)(*parts) if hasattr(batch, "_fields") else type(batch)(parts)  # named tuples take arguments


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch, in its order."""
    found: list[Tensor] = []
    map_tensors(batch, found.append)
    return iter(found)


def rows(batch: Any) -> int:
    """Number of examples in a batch."""
    return len(next(tensors(batch)))


def take_rows(batch: Any, which: slice | Tensor) -> Any:
    """These examples of a batch, in the same structure."""
    return map_tensors(batch, lambda tensor: tensor[which])


def join_rows(batches: Sequence[Any]) -> Any:
    """Batches of the same structure as one, in this order."""
    parts = [iter(tuple(tensors(batch))) for batch in batches]
    return map_tensors(batches[0], lambda _: torch.cat([next(part) for part in parts]))


def describe(batch: Any) -> Any:
    """The types and shapes of the examples as JSON: for each tensor a text like ``"int64 5 2"``."""
    return map_tensors(batch, lambda t: " ".join([str(t.dtype).removeprefix("torch."), *map(str, t.shape[1:])]))


def zeros(description: Any, number: int) -> Any:
    """So many examples of zeros, of the types and shapes that `describe` told.

    Raises:
        ValueError: it is no such description.
    """
    if isinstance(description, str):
        kind, *shape = description.split() or [""]
        if not isinstance(getattr(torch, kind, None), torch.dtype) or not all(length.isdecimal() for length in shape):
            raise ValueError(
                f"expected a type and the lengths of an example, like 'float32 3 32 32'; got {description!r}"
            )
        return torch.zeros(number, *map(int, shape), dtype=getattr(torch, kind))
    if isinstance(description, dict):
        return {name: zeros(part, number) for name, part in description.items()}
    return tuple(zeros(part, number) for part in description)
