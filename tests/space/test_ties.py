"""Layouts of axes, compared with what torch does to an axis that has the numbers of its channels."""

from __future__ import annotations

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.space.ties import Layout, Ties


def kept(ties: Ties, layout: Layout, atom: int, number: int) -> torch.Tensor:
    """Which channels of an axis are left, as 0 and 1, when an atom keeps its first ones."""
    runs = []
    for run in ties.expanded(layout):
        lengths = [ties.length_of_run((a,)) for a in run]
        left = torch.ones([1, *lengths])
        for place, other in enumerate(run):
            if other == atom:
                left.narrow(place + 1, number, lengths[place] - number).zero_()
        runs.append(left.flatten())
    return torch.cat(runs)


def test_what_is_tied_stays_one_when_one_is_divided() -> None:
    ties = Ties()
    wide, heads = ties.new(24), ties.new(24)
    ties.tie(wide, heads, "")
    three, four, two = ties.divided(ties.product([heads]), [3, 4, 2], "")
    assert ties.expanded(wide) == ties.expanded(heads) == ((*three[0], *four[0], *two[0]),)


def test_a_sum_is_divided_where_its_parts_are() -> None:
    ties = Ties()
    a, b, norm = ties.new(4), ties.new(8), ties.new(12)
    ties.tie(norm, a + b, "")
    assert ties.expanded(norm) == (*a, *b)
    first, last = ties.cut(norm, [4, 8], "")
    assert (first, last) == (a, b)


def test_what_has_no_common_layout_is_fixed() -> None:
    ties = Ties()
    six, other = ties.new(6), ties.new(6)
    ties.divided(ties.product([six]), [3, 2], "")
    ties.divided(ties.product([other]), [2, 3], "")
    ties.tie(six, other, "why")
    assert {ties.fixed[atom] for run in ties.expanded(six) + ties.expanded(other) for atom in run} == {"why"}


def test_what_is_fixed_stays_so_when_it_is_divided() -> None:
    ties = Ties()
    six = ties.new(6, "why")
    ties.divided(ties.product([six]), [3, 2], "")
    assert all(atom in ties.fixed for run in ties.expanded(six) for atom in run)


@given(st.lists(st.sampled_from((1, 2, 3, 4)), min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_views_and_permutations_keep_the_same_channels(lengths: list[int], chance: random.Random) -> None:
    order = list(range(len(lengths)))
    chance.shuffle(order)
    ties = Ties()
    whole = ties.new(int(torch.tensor(lengths).prod()))
    axes = ties.divided(ties.product([whole]), lengths, "")
    permuted: Layout = (ties.product([axes[place] for place in order]),)
    for run in ties.expanded(whole):
        for atom in run:
            one, other = kept(ties, whole, atom, 1), kept(ties, permuted, atom, 1)
            assert torch.equal(one.view(lengths).permute(order).flatten(), other)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=5), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_axes_that_are_tied_have_one_layout(ones: list[int], others: list[int]) -> None:
    ties = Ties()
    missing = sum(ones) - sum(others)
    one = tuple(run for n in (*ones, *([-missing] if missing < 0 else [])) for run in ties.new(n))
    other = tuple(run for n in (*others, *([missing] if missing > 0 else [])) for run in ties.new(n))
    ties.tie(one, other, "")
    assert ties.expanded(one) == ties.expanded(other)
    assert not ties.fixed
