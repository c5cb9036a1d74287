"""Streams of random numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from supernet.base.randomness import derive, draws_at_random, nothing_drawn, seeded, stream
from supernet.space.values import value

names = st.lists(st.one_of(st.text(max_size=5), st.integers(-10, 10)), max_size=3)


@given(st.integers(0, 2**40), names, names)
def test_different_names_give_different_streams(seed: int, one: list[str | int], other: list[str | int]) -> None:
    assert (derive(seed, *one) == derive(seed, *other)) == (one == other)
    assert 0 <= derive(seed, *one) < 2**63


def test_a_stream_is_the_same_everywhere() -> None:
    """Fixed numbers: if they change, no stored run can be repeated."""
    assert derive(0, "paths", 1) == 4885895192888941907
    assert torch.equal(torch.rand(3, generator=stream(5, "a")), torch.rand(3, generator=stream(5, "a")))


def _draw() -> list[float]:
    of_numpy = np.random.random()  # noqa: NPY002  # the global generators are the point
    return [float(torch.rand(1)), random.random(), float(of_numpy), float(torch.empty(1).bernoulli_(0.5))]


def test_nothing_drawn_leaves_no_trace() -> None:
    cpu = torch.device("cpu")
    for fails in (False, True):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        expected = [_draw() for _ in range(2)]
        torch.manual_seed(0), random.seed(0), np.random.seed(0)  # noqa: NPY002
        first = _draw()
        if fails:
            with pytest.raises(RuntimeError, match="nested"), nothing_drawn(cpu), nothing_drawn(cpu):
                _draw()
                raise RuntimeError("nested")
        with nothing_drawn(cpu):
            assert _draw() == expected[1]
        assert [first, _draw()] == expected


def test_nothing_drawn_leaves_streams_alone() -> None:
    cpu, drawn = torch.device("cpu"), []
    for inside in (False, True):
        with seeded(cpu, 0, "dropout"):
            drawn.append(torch.rand(3))
            if inside:
                with nothing_drawn(cpu):
                    torch.nn.functional.dropout(torch.rand(50))
            drawn.append(torch.rand(3))
    assert torch.equal(torch.stack(drawn[:2]), torch.stack(drawn[2:]))


@pytest.mark.parametrize(
    ("module", "draws"),
    [
        (nn.Dropout(0.0), False),
        (nn.Dropout(0), False),
        (nn.Dropout2d(0.1), True),
        (nn.Dropout(value("rate", (0.2, 0.0))), True),
        (nn.GRU(2, 2, 2, dropout=0.1), True),
        (nn.Linear(1, 1), False),
    ],
    ids=str,
)
def test_modules_that_draw_are_seen(module: nn.Module, draws: bool) -> None:
    assert draws_at_random(nn.Sequential(module)) == draws
