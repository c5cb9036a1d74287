"""Batches of any structure."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.base import trees

Pair = namedtuple("Pair", "first second")


def batches(number: int) -> st.SearchStrategy[Any]:
    shapes = st.lists(st.integers(0, 3), max_size=2)
    kinds = st.sampled_from([torch.float32, torch.int64, torch.bool])
    leaves = st.builds(
        lambda shape, kind: torch.arange(number).view(-1, *[1] * len(shape)).expand(number, *shape).to(kind),
        shapes,
        kinds,
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=3),
            st.lists(inner, min_size=1, max_size=3).map(tuple),
            st.builds(Pair, inner, inner),
            st.dictionaries(st.text(max_size=3), inner, min_size=1, max_size=3),
        ),
        max_leaves=5,
    )


def same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and all(
        torch.equal(x, y) for x, y in zip(trees.tensors(a), trees.tensors(b), strict=True)
    )


@given(batches(6), st.integers(1, 5))
def test_parts_joined_are_the_whole(batch: Any, cut: int) -> None:
    parts = [trees.take_rows(batch, slice(cut)), trees.take_rows(batch, slice(cut, None))]
    assert [trees.rows(part) for part in parts] == [cut, 6 - cut]
    assert same(trees.join_rows(parts), batch)


@given(batches(6))
def test_zeros_have_the_form_that_was_described(batch: Any) -> None:
    made = trees.zeros(trees.describe(batch), 2)
    assert trees.describe(made) == trees.describe(trees.map_tensors(batch, lambda t: t))
    assert trees.rows(made) == 2 and not any(t.any() for t in trees.tensors(made))


def test_rows_by_index() -> None:
    batch = {"a": torch.arange(4), "b": (torch.arange(4).view(4, 1), None)}
    taken = trees.take_rows(batch, torch.tensor([3, 1]))
    assert taken["a"].tolist() == [3, 1] and taken["b"][0].tolist() == [[3], [1]] and taken["b"][1] is None


def test_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a tensor, or a tuple, list, dict or dataclass of tensors, got str"):
        trees.rows({"a": "text"})


@pytest.mark.parametrize("wrong", [5, "six", "float32 a", "", ["float32 3", 4], {"a": (1, 8, 8)}])
def test_what_is_no_description_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a type and the lengths of an example"):
        trees.zeros(wrong, 2)


class _Named(OrderedDict[str, Any]):
    """As libraries return outputs: a dict with attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


@dataclass(frozen=True)
class _Record:
    logits: torch.Tensor
    loss: torch.Tensor | None = None


@pytest.mark.parametrize("kind", [_Named, _Record])
def test_outputs_of_libraries_keep_their_class(kind: Any) -> None:
    one, other = kind(logits=torch.zeros(2, 3)), kind(logits=torch.ones(1, 3))
    both = trees.join_rows([one, other])
    assert type(both) is kind
    assert both.logits.tolist() == [[0.0] * 3] * 2 + [[1.0] * 3]
    assert trees.take_rows(both, slice(2, 3)).logits.tolist() == [[1.0] * 3]
    assert one.logits.shape == (2, 3)
    assert trees.form_text(one).startswith("{logits: float32 [N, 3]")


def test_one_number_for_all_examples_is_joined_as_the_mean() -> None:
    first, second = ((torch.zeros(2, 3), torch.tensor(1.0)), (torch.zeros(2, 3), torch.tensor(2.0)))
    joined = trees.join_rows([first, second])
    assert joined[0].shape == (4, 3)
    assert joined[1] == 1.5
    assert trees.take_rows(first, slice(1))[1] == 1.0
    assert trees.rows((torch.tensor(1.0), torch.zeros(5))) == 5


class Titled(OrderedDict[str, Any]):
    """A dict of a class of its own."""


@dataclass
class Outputs:
    logits: Any
    hidden: Any = None


def test_plain_classes_only() -> None:
    x = torch.ones(2)
    assert trees.plain(x) is x
    assert trees.plain((Titled(a=x, b=None), Outputs([x]))) == ({"a": x}, {"logits": [x]})
    assert type(trees.plain(Titled(a=x))) is dict
    assert trees.plain(Pair(x, x)) == Pair(x, x)
