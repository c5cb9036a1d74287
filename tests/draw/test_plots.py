"""Plots: what is drawn is what was passed, in the units of the axes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from supernet.draw import plots
from supernet.draw.units import Unit

ACCURACY, NATS, R2 = Unit.of("accuracy"), Unit.of("accuracy", "kl"), Unit.of("r2")


def dots(svg: str) -> list[tuple[float, float]]:
    """Where the markers of a figure's data are, without the ticks of its axes."""
    inside = re.findall(r'<g clip-path="[^"]*">(.*?)</g>', svg, re.DOTALL)
    uses = [use for group in inside for use in re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)"', group)]
    return [(float(x), float(y)) for x, y in uses]


def assert_drawn(places: list[tuple[float, float]], x: list[float], y: list[float]) -> None:
    """Places in a drawing are the numbers up to scale and origin, with y upwards."""
    drawn = np.array(places)
    assert len(drawn) == len(x)
    for axis, values, sign in ((0, x, 1), (1, y, -1)):
        scale, origin = np.polyfit(values, drawn[:, axis], 1)
        assert np.sign(scale) == sign
        assert drawn[:, axis] == pytest.approx(scale * np.array(values) + origin, abs=0.01)


POINTS: list[dict[str, Any]] = [
    {"id": str(i), "score": 0.1 * i * i, "accuracies": [0.5 + 0.03 * i, 0.6], "divergence": 4 - i} for i in (1, 2, 3)
]
SCORES = [p["score"] for p in POINTS]


def test_points_lie_where_their_numbers_say() -> None:
    means = [float(np.mean(p["accuracies"])) for p in POINTS]
    assert_drawn(dots(plots.predicts(POINTS, ACCURACY, ACCURACY)), SCORES, means)
    assert_drawn(dots(plots.sweep(POINTS, {"rate": 0.1, "scores": [3, 1, 2]}, ACCURACY, NATS)), [3, 1, 2], means)
    assert_drawn(dots(plots.divergence(POINTS, ACCURACY)), SCORES, [p["divergence"] for p in POINTS])
    assert_drawn(dots(plots.published(POINTS, "test", ACCURACY)), SCORES, [p["accuracies"][0] for p in POINTS])
    params, values = [10.0, 30.0, 20.0], [0.2, 0.1, 0.4]
    assert_drawn(dots(plots.size_bias({"params": params, "value": values}, R2)), params, values)


def test_the_front_is_marked_with_the_numbers_of_its_candidates() -> None:
    candidates = [(1e-3, 0.5), (2e-3, 0.7), (3e-3, 0.6)]
    svg = plots.front("latency", candidates, [(2e-3, 0.7, 12), (1e-3, 0.5, 34)], ACCURACY)
    x, y = zip(*candidates, *sorted(candidates[:2]), strict=True)
    assert_drawn(dots(svg)[: len(x)], list(x), list(y))
    assert ">12<" in svg and ">34<" in svg and ">latency (ms)<" in svg


@pytest.mark.parametrize(
    ("score", "label"),
    [(ACCURACY, "accuracy (%)"), (NATS, "negative divergence (nats)"), (R2, "r2")],
)
def test_axes_name_what_they_show(score: Unit, label: str) -> None:
    for svg in (
        plots.histogram([0.1, 0.2], score),
        plots.predicts(POINTS, ACCURACY, score),
        plots.best_so_far([(1, 0.1, None, 0), (2, 0.3, 0.1, 1), (3, None, None, 1)], score),
    ):
        assert f">score: {label}<" in svg
    assert ">validation accuracy (%)<" in plots.predicts(POINTS, ACCURACY, score)


def test_the_winner_is_marked_and_shares_stay_shares() -> None:
    for svg in (
        plots.size_bias({"params": [10.0, 20.0], "value": [0.1, 0.2]}, ACCURACY, (20.0, 0.2)),
        plots.size_against_metric({"Top": [(10.0, 0.5)]}, ACCURACY, (10.0, 0.5)),
        plots.best_so_far([(1, 0.1, None, 0), (2, 0.3, 0.1, 1)], ACCURACY, (2, 0.3)),
    ):
        assert ">winner<" in svg
    for svg in (plots.histogram([0.1, 0.2], ACCURACY, 0.2), plots.predicts(POINTS, ACCURACY, ACCURACY, winner=0.5)):
        assert ">score of the winner<" in svg
    wild = [{"score": 0.5, "accuracies": [1.0, 1.0, 0.1]}]  # a deviation of 0.52 around 0.7
    ticks = re.findall(r">(\d+)<", plots.predicts(wild, ACCURACY, ACCURACY))
    assert all(int(tick) <= 100 for tick in ticks)


def test_options_are_ordered_by_their_worth() -> None:
    falls: dict[str, dict[str, float | None]] = {
        "cell1.op": {"good": 0.3, "bad": -0.1, "fair": 0.1, "only": None},
        "cell2.op": {"good": 0.1, "bad": None, "fair": 0.0, "only": None},
        "width": {"8": 0.15, "16": -0.2},
    }
    rows = [
        {"choice": choice, "option": option, "everything_on": None, "candidates": fall}
        for choice, options in falls.items()
        for option, fall in options.items()
    ]
    svg = plots.options(rows, ACCURACY)
    names = re.findall(r">(\w+=\w+)</text>", svg)
    assert names == ["width=16", "op=bad", "op=fair", "width=8", "op=good"]
    assert "without it (points)" in svg
    other = [{**row, "choice": str(row["choice"]).replace("cell2.op", "edge")} for row in rows]
    assert re.findall(r">(good|bad|fair)</text>", plots.options(other, ACCURACY)) == ["bad", "fair", "good"]


def test_of_many_options_those_that_matter_most_are_shown() -> None:
    rows = [
        {"choice": f"c{number}", "option": f"o{number}", "everything_on": number / 100, "candidates": None}
        for number in range(plots.MOST_OPTIONS + 5)
    ]
    names = re.findall(r">(c\d+)=o\d+</text>", plots.options(rows, ACCURACY))
    assert sorted(names) == sorted(f"c{number}" for number in range(5, plots.MOST_OPTIONS + 5))


def test_the_pareto_front_of_groups_leaves_out_what_is_beaten() -> None:
    groups = {"Top": [(10.0, 0.5), (20.0, 0.7)], "Random": [(15.0, 0.4)]}
    svg = plots.size_against_metric(groups, ACCURACY)
    marked = dots(svg)
    assert_drawn(marked, [10, 20, 15], [0.5, 0.7, 0.4])
    (line,) = (path for path in re.findall(r'<path d="M ([^"]*)" clip-path[^>]*currentColor', svg) if "L" in path)
    ends = [tuple(map(float, pair.split())) for pair in line.strip().split("L")]
    assert np.array(ends) == pytest.approx(np.array(marked[:2]), abs=0.01)


def test_losses_over_steps() -> None:
    history = [{"step": s, "loss": 1 / s} for s in (1, 2, 4)]
    assert ">loss of the one-shot model<" in plots.training(history)
    svg = plots.training_from_scratch({"Top": [history, history], "Random": [history]})
    assert svg.count(">Top<") == svg.count(">Random<") == 1
    assert ">winner<" not in svg
    assert ">winner<" in plots.training_from_scratch({"Top": [history]}, history)
