"""The winner against the reference."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from supernet.draw.units import Unit
from supernet.retrain.results import best_reference, compare, ranked, summarise
from tests.program.test_steps import ALL_ON, GROUPS, OPENED, VALIDATION, rows

ACCURACY = Unit.of("accuracy")
values = st.lists(st.integers(0, 1000).map(lambda n: n / 1000), min_size=2, max_size=6)


def row(name: str, test: list[float], **more: Any) -> dict[str, Any]:
    reference = {"reference": "resnet8"} if name == "known" else {}
    return {"id": name, "params": 58_123, "test": test, **reference, **more}


def told(winner: list[float], known: list[float], metric: str = "accuracy") -> str:
    return compare(row("ours", winner), row("known", known), Unit.of(metric)).text


@given(values, values)
def test_the_interval_is_that_of_welch(winner: list[float], known: list[float]) -> None:
    result = compare(row("ours", winner), row("known", known), ACCURACY)
    assert result.difference == pytest.approx(sum(winner) / len(winner) - sum(known) / len(known))
    if len(set(winner)) == len(set(known)) == 1:
        assert result.interval is None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # scipy's, if one of the two does not vary
        expected = stats.ttest_ind(winner, known, equal_var=False).confidence_interval(0.95)
    assert result.interval == (expected.low, expected.high)
    if result.interval[0] > 0:
        assert result.text.startswith("The winner beats the reference, resnet8 at 58.1 k parameters, by ")
    elif result.interval[1] < 0:
        assert result.text.startswith("The winner does not beat the reference, resnet8 at 58.1 k parameters: -")
    else:
        assert result.text.startswith("The winner cannot be told from the reference, resnet8 at 58.1 k parameters: ")
    assert ("The reference is what `supernet export DIR` writes." in result.text) == (result.difference <= 0)


def test_texts() -> None:
    assert told([0.9, 0.91, 0.92], [0.8, 0.81, 0.82]) == (
        "The winner beats the reference, resnet8 at 58.1 k parameters, by 10.0 points (7.7 to 12.3) in 3 trainings."
    )
    one = "One training each cannot tell chance from skill: `--retrain.confirm 5` gives an interval."
    assert told([0.9], [0.916]) == (
        "The winner does not beat the reference, resnet8 at 58.1 k parameters: -1.6 points in one training each. "
        f"{one} The reference is what `supernet export DIR` writes."
    )
    assert told([-0.25], [-0.5], "loss") == (
        f"The winner beats the reference, resnet8 at 58.1 k parameters, by 0.250 in loss in one training each. {one}"
    )
    assert told([0.5, 0.5], [0.4, 0.4]).endswith("by 10.0 points in 2 trainings.")  # neither varies
    same = compare(row("known", [0.5]), row("known", [0.5]), ACCURACY).text
    assert same.startswith("The winner is the reference, resnet8 at 58.1 k parameters: ")


def with_reference(test: list[float], validation: list[float]) -> dict[str, Any]:
    known = {**rows([[]] * 5, [[]] * 5)[0], "id": "known", "reference": "resnet8", "score": None, "score_loss": None}
    finalists = rows(VALIDATION, [[0.6]] * 5)
    member: Any = type("Member", (), {"id": "known"})
    groups = {**GROUPS, "Reference": [member]}
    return summarise(groups, [*finalists, {**known, "validation": validation, "test": test}], OPENED)


@pytest.mark.parametrize(("test", "offered"), [(0.59, None), (0.6, "known"), (0.7, "known")])
def test_the_better_one_on_the_test_split_is_offered(test: float, offered: str | None) -> None:
    result = with_reference([test], [1.0, 1.0])
    winner = result["networks"][0]
    assert winner["rank"] == 1 and "reference" not in winner  # the reference is not ranked, however good it is
    assert result["offered"] == (offered or winner["id"])
    assert next(iter(result)) == "against_reference"
    assert [r["id"] for r in result["networks"][-2:]] == [ALL_ON.id, "known"]
    assert result["groups"]["Reference"]["networks"] == 1 and "score" not in result["groups"]["Reference"]


def test_without_a_reference_the_result_is_as_it_was() -> None:
    assert list(summarise(GROUPS, rows(VALIDATION, VALIDATION), OPENED)) == [
        "groups", "networks", "rank_correlation", "test_split",
    ]  # fmt: skip


def test_the_best_reference_is_chosen_by_validation() -> None:
    known = [row("a", [0.9], validation=[0.1, 0.2]), row("b", [0.1], validation=[0.3, 0.2])]
    assert best_reference(known) == known[1]
    unvalidated = [{**one, "validation": []} for one in known]
    assert best_reference(unvalidated) == unvalidated[0]
    assert best_reference([]) is None


def test_a_finalist_that_is_a_reference_too_is_ranked() -> None:
    networks = rows(VALIDATION, VALIDATION)
    networks[1]["reference"] = "the first options"
    groups = {**GROUPS, "Reference": [GROUPS["Top"][1]]}
    assert ranked(networks, groups)[0]["id"] == networks[1]["id"]
    result = summarise(groups, networks, OPENED)
    assert result["networks"][0]["rank"] == 1 and result["offered"] == networks[1]["id"]
    assert result["against_reference"]["text"].startswith("The winner is the reference, the first options at ")
