"""Streams of random numbers."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.base.randomness import derive, stream

names = st.lists(st.one_of(st.text(max_size=5), st.integers(-10, 10)), max_size=3)


@given(st.integers(0, 2**40), names, names)
def test_different_names_give_different_streams(seed: int, one: list[str | int], other: list[str | int]) -> None:
    assert (derive(seed, *one) == derive(seed, *other)) == (one == other)
    assert 0 <= derive(seed, *one) < 2**63


def test_a_stream_is_the_same_everywhere() -> None:
    """Fixed numbers: if they change, no stored run can be repeated."""
    assert derive(0, "paths", 1) == 4885895192888941907
    assert torch.equal(torch.rand(3, generator=stream(5, "a")), torch.rand(3, generator=stream(5, "a")))
