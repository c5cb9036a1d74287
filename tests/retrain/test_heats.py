from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.retrain.heats import best, heats
from supernet.retrain.trainings import RetrainConfig


@given(st.integers(1, 500), st.integers(0, 4))
def test_heats_get_longer_and_smaller(networks: int, rounds: int) -> None:
    plan = heats(networks, rounds)
    assert len(plan) <= rounds and all(0 < heat.share < 1 and 1 <= heat.kept <= heat.networks for heat in plan)
    for first, second in pairwise(plan):
        assert second.networks == first.kept < first.networks and second.share == pytest.approx(3 * first.share)
    if len(plan) == rounds > 0:
        assert plan[-1].share == pytest.approx(1 / 3)


def test_each_heat_costs_as_much_as_the_last_trainings() -> None:
    assert [heat.share * heat.networks for heat in heats(27, 2)] == pytest.approx([3, 3])
    assert [heat.kept for heat in heats(27, 2)] == [9, 3] and heats(27, 0) == []


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 4).map(float), min_size=1), st.integers(1, 6))
def test_the_best_go_on(values: dict[str, float], number: int) -> None:
    kept = best(values, number)
    assert kept == [name for name in values if name in kept] and len(kept) == min(number, len(values))
    assert all(values[other] <= min(values[name] for name in kept) for other in values if other not in kept)


def test_heats_need_a_validation_split() -> None:
    with pytest.raises(ValueError, match="heats need a validation split"):
        RetrainConfig(heats=1, splits="train+validation")
    with pytest.raises(ValueError, match="heats: expected at least 0"):
        RetrainConfig(heats=-1)


def test_the_last_heat_has_a_third_of_a_training() -> None:
    assert [(heat.share, heat.kept) for heat in heats(4, 2)] == [(1 / 3, 1)]
    assert heats(1, 3) == []


def test_sizes_are_named_once() -> None:
    for values in ([4, 4], []):
        with pytest.raises(ValueError, match="at: expected values of filters, each once"):
            RetrainConfig(at={"filters": values})
