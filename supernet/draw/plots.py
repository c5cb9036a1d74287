"""Figures of a report, as SVG to stand inside a page: text stays text, and black follows the page's colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supernet.draw.svg import COLOURS, INK, PALE, SECOND, STRONG, THIRD, svg
from supernet.search import orders

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def predicts(
    points: Sequence[Mapping[str, Any]], metric: str, score: str, *, paper: Sequence[Sequence[float]] = ()
) -> str:
    """Score against stand-alone accuracy, with error bars over repeats (Fig 5).

    Args:
        points: networks with their score, and the accuracies of their repeats.
        metric, score: what is judged by.
        paper: score and accuracy of the paper's networks, 0 to 1, shown beside these; none where they are not to be
            compared.
    """
    scale = 100 if metric == "accuracy" else 1
    score_scale = _score_scale(metric, score)

    def draw(a: Axes) -> None:
        if paper:
            x, y = 100 * np.array(paper).T
            a.plot(x, y, "o", color=PALE, alpha=0.35, markersize=4, label="the paper's (CIFAR-10, its own schedule)")
        x = [score_scale * p["score"] for p in points]
        each = [scale * np.array(p["accuracies"]) for p in points]
        deviation = [float(v.std(ddof=1)) if len(v) > 1 else 0.0 for v in each]
        a.errorbar(
            x, [float(v.mean()) for v in each], yerr=deviation, fmt="o", color=STRONG, markersize=4, linewidth=1,
            label="this run, ± a standard deviation over repeats",
        )  # fmt: skip
        unit = " (%)" if scale == 100 else ""
        a.set(xlabel=_score_label(score, metric), ylabel=f"stand-alone validation {metric}{unit}")
        if paper:
            _legend(a, columns=1)

    return svg("predicts", draw)


def published(points: Sequence[Mapping[str, Any]], column: str, metric: str, score: str) -> str:
    """Score against accuracies that somebody else published, in their unit."""

    def draw(a: Axes) -> None:
        x = [_score_scale(metric, score) * p["score"] for p in points]
        a.plot(x, [p["accuracies"][0] for p in points], "o", color=STRONG, markersize=3, alpha=0.6)
        a.set(xlabel=_score_label(score, metric), ylabel=f"published: {column}")

    return svg("published", draw)


def liking(columns: Mapping[str, Sequence[float]], metric: str, score: str) -> str:
    """Score of candidates against their parameters (section 4.3)."""

    def draw(a: Axes) -> None:
        scale = _score_scale(metric, score)
        a.plot(
            columns["params"],
            [scale * value for value in columns["value"]],
            "o",
            color=STRONG,
            markersize=3,
            alpha=0.6,
            markeredgewidth=0,
        )
        a.set(xlabel="parameters", ylabel=_score_label(score, metric))
        _short_numbers(a)

    return svg("liking", draw)


def _short_numbers(a: Axes) -> None:
    """Sizes as 20k or 1.5M, few enough to stand beside each other."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    a.xaxis.set_major_locator(MaxNLocator(5))
    a.xaxis.set_major_formatter(EngFormatter(sep=""))


def _score_scale(metric: str, score: str) -> int:
    """Scores that are accuracies are told in per cent."""
    return 100 if (metric, score) == ("accuracy", "metric") else 1


def _legend(a: Axes, columns: int, title: str | None = None) -> None:
    """Above the axes, where it hides no point; to look for a free place among many points takes long."""
    a.legend(
        title=title, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8, title_fontsize=8
    )


def _score_label(score: str, metric: str) -> str:
    if score != "metric":
        return f"score: negative {'divergence' if score == 'kl' else 'validation loss'} (nats)"
    return "one-shot validation accuracy (%)" if metric == "accuracy" else f"one-shot validation {metric}"


def histogram(scores: Sequence[float], metric: str, score: str) -> str:
    """Scores of candidates."""

    def draw(a: Axes) -> None:
        scale = _score_scale(metric, score)
        a.hist([scale * value for value in scores], bins=40, color=PALE)
        a.set(xlabel=_score_label(score, metric), ylabel="candidates")

    return svg("histogram", draw)


def front(
    cost: str,
    everyone: Sequence[tuple[float, float]],
    best: Sequence[tuple[float, float, int]],
    metric: str,
    score: str,
) -> str:
    """A cost against the score of candidates, with the Pareto front; its points have their numbers.

    Args:
        cost: its name; latency in seconds and memory in bytes are shown in ms and MB.
        everyone: cost and score of each candidate.
        best: cost, score and number of those on the front, of which the cheapest in this cost come to stand in a line.
        metric: of the run.
        score: of the search.
    """
    scale = _score_scale(metric, score)
    factor, unit = {"latency": (1e3, " (ms)"), "memory": (1e-6, " (MB)")}.get(cost, (1.0, ""))

    def draw(a: Axes) -> None:
        x, y = np.array(everyone, float).T
        a.plot(factor * x, scale * y, ".", color=PALE, markersize=3, alpha=0.6, label="candidates")
        line = sorted(best)
        a.plot(
            [factor * p[0] for p in line], [scale * p[1] for p in line], "o-", color=STRONG, markersize=4, linewidth=1,
            label="Pareto front",
        )  # fmt: skip
        for place, value, number in line:
            a.annotate(
                str(number), (factor * place, scale * value), textcoords="offset points", xytext=(3, -9), fontsize=7
            )
        a.set(xlabel=cost + unit, ylabel=_score_label(score, metric))
        _legend(a, columns=2)

    return svg(f"front {cost}", draw)


def best_so_far(rows: Sequence[tuple[int, float | None, float | None, int]], metric: str, score: str) -> str:
    """The best score so far against the number of candidates, with its standard error, and the mean of each round.

    Args:
        rows: for each candidate its number in the order asked; its score, or None where it lost a race; the standard
            error of the score, where it has one; its round.
        metric: of the run.
        score: of the search.
    """
    scale = _score_scale(metric, score)
    whole = [(n, value, error or 0.0, round_) for n, value, error, round_ in rows if value is not None]
    numbers, values = np.array([n for n, *_ in whole]), scale * np.array([value for _, value, *_ in whole])
    errors, rounds = scale * np.array([error for _, _, error, _ in whole]), np.array([r for *_, r in whole])
    best = np.maximum.accumulate(values)
    leading = np.maximum.accumulate(np.where(values == best, np.arange(len(values)), 0))  # who is the best so far
    end = [*numbers, max(n for n, *_ in rows)]

    def draw(a: Axes) -> None:
        a.plot(numbers, values, ".", color=PALE, markersize=3, alpha=0.6, label="candidates")
        low, high = best - errors[leading], best + errors[leading]
        if errors.any():
            a.fill_between(end, [*low, low[-1]], [*high, high[-1]], step="post", color=STRONG, alpha=0.15, linewidth=0)
        a.step(end, [*best, best[-1]], where="post", color=STRONG, label="best so far")
        every = np.unique(rounds)
        if len(every) > 1:
            at = [(numbers[rounds == r].mean(), values[rounds == r].mean()) for r in every]
            a.plot(*zip(*at, strict=True), "x-", color=SECOND, markersize=4, linewidth=0.8, label="mean of a round")
        a.set(xlabel="candidates, in the order asked", ylabel=_score_label(score, metric))
        _legend(a, columns=3)

    return svg("best-so-far", draw)


def strategies(marks: Sequence[int], regret: Mapping[str, Mapping[str, Sequence[float]]], unit: str) -> str:
    """What each strategy has missed so far against the number of candidates: median over seeds, and a band.

    Args:
        marks: numbers of candidates.
        regret: for each strategy `median`, `low` and `high` at each of them.
        unit: of the regret.
    """

    def draw(a: Axes) -> None:
        colours = (PALE, STRONG, SECOND, THIRD, "#8e5ea2", "#c28e0e", "#3aa6a6")
        for (name, row), colour in zip(regret.items(), colours, strict=False):
            a.plot(marks, row["median"], color=colour, label=name, linewidth=1.5)
            a.fill_between(list(marks), row["low"], row["high"], color=colour, alpha=0.12, linewidth=0)
        a.set(xlabel="candidates", ylabel=f"best of all less best so far ({unit})", xscale="log")
        shown = [m for m in marks if m in (10, 20, 50, 100, 200, 500, 1000, 2000)] or list(marks)
        a.set_xticks(shown, [f"{m:,}" for m in shown])
        a.set_xticks([], minor=True)
        _legend(a, columns=3)

    return svg("strategies", draw, 4.0)


def size_against_accuracy(groups: Mapping[str, Sequence[tuple[float, float]]], metric: str) -> str:
    """Parameters against accuracy of networks trained from scratch, with the Pareto front."""
    scale = 100 if metric == "accuracy" else 1

    def draw(a: Axes) -> None:
        for name, pairs in groups.items():
            x, y = [size for size, _ in pairs], [scale * value for _, value in pairs]
            a.plot(x, y, "o", markersize=5, color=COLOURS.get(name, PALE), label=name, alpha=0.85)
        everyone = [pair for pairs in groups.values() for pair in pairs]
        best = [everyone[i] for i in orders.front([(-size, value) for size, value in everyone])]
        a.plot(
            [size for size, _ in best], [scale * value for _, value in best], "-", color=INK, linewidth=1,
            label="Pareto front",
        )  # fmt: skip
        unit = " (%)" if scale == 100 else ""
        a.set(xlabel="parameters", ylabel=f"validation {metric}{unit}")
        _short_numbers(a)
        _legend(a, columns=3)

    return svg("size", draw)


def training(history: Sequence[Mapping[str, float]]) -> str:
    """The loss of the one-shot model while it was trained."""

    def draw(a: Axes) -> None:
        _curve(a, history, color=STRONG, linewidth=1.2)
        a.set(xlabel="step", ylabel="loss of the one-shot model")

    return svg("training", draw)


def training_alone(finalists: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> str:
    """The losses of the finalists while they were trained, by group."""

    def draw(a: Axes) -> None:
        for name, histories in finalists.items():
            for number, rows in enumerate(histories):
                label = name if number == 0 else "_"
                _curve(a, rows, color=COLOURS.get(name, PALE), linewidth=0.9, alpha=0.7, label=label)
        a.set(xlabel="step", ylabel="loss of the finalists")
        _legend(a, columns=4)

    return svg("training-alone", draw)


def _curve(a: Axes, rows: Sequence[Mapping[str, float]], **style: Any) -> None:
    a.plot([row["step"] for row in rows], [row["loss"] for row in rows], **style)


def divergence(points: Sequence[Mapping[str, Any]], metric: str, score: str) -> str:
    """Divergence against score (Fig 6)."""

    def draw(a: Axes) -> None:
        x = [_score_scale(metric, score) * p["score"] for p in points]
        a.plot(x, [p["divergence"] for p in points], "o", color=STRONG, markersize=4)
        a.set(xlabel=_score_label(score, metric), ylabel="divergence from the references (nats)")

    return svg("divergence", draw)


def course(points: Sequence[Mapping[str, Any]], found: Mapping[str, Any], metric: str, score: str) -> str:
    """The divergence of some architectures while the one-shot model was trained (Fig 7)."""

    def draw(a: Axes) -> None:
        by_id = {p["id"]: _score_scale(metric, score) * p["score"] for p in points}
        for i, name in enumerate(found["followed"]):
            shade = 0.25 + 0.75 * i / max(1, len(found["followed"]) - 1)
            x, y = [row["step"] for row in found["course"]], [row["divergence"][i] for row in found["course"]]
            a.plot(x, y, "-", color=SECOND, alpha=shade, label=f"{by_id[name]:.3g}")
        a.set(xlabel="step of the training", ylabel="divergence (nats)")
        _legend(a, columns=3, title="score at the end")

    return svg("course", draw)


def sweep(points: Sequence[Mapping[str, Any]], row: Mapping[str, Any], metric: str) -> str:
    """Scores by the one-shot model of one dropout rate against stand-alone accuracy (Fig 4)."""

    def draw(a: Axes) -> None:
        scale = 100 if metric == "accuracy" else 1
        y = [scale * float(np.mean(p["accuracies"])) for p in points]
        a.plot([scale * value for value in row["scores"]], y, "o", color=STRONG, markersize=4)
        unit = " (%)" if scale == 100 else ""
        a.set(xlabel=_score_label("metric", metric), ylabel=f"stand-alone validation {metric}{unit}")

    return svg(f"sweep-{row['rate']:g}", draw)


def options(rows: Sequence[Mapping[str, Any]], metric: str, score: str) -> str:
    """What each option is worth: the mean fall of the score without it, over all its choices."""
    names = list(dict.fromkeys(row["option"] for row in rows))
    scale = _score_scale(metric, score)

    def mean(name: str, where: str) -> float:
        values = [row[where] for row in rows if row["option"] == name and row[where] is not None]
        return scale * float(np.mean(values)) if values else float("nan")

    ordered = sorted(names, key=lambda name: np.nan_to_num(mean(name, "candidates")))

    def draw(a: Axes) -> None:
        place = np.arange(len(ordered))
        a.barh(place + 0.2, [mean(n, "candidates") for n in ordered], 0.4, color=STRONG, label="from random candidates")
        a.barh(place - 0.2, [mean(n, "everything_on") for n in ordered], 0.4, color=PALE, label="from everything-on")
        a.set_yticks(place, ordered)
        a.set(
            xlabel="mean fall of the score without it"
            + (" (points)" if scale == 100 else " (nats)" if score != "metric" else "")
        )
        _legend(a, columns=2)

    return svg("options", draw, 1.2 + 0.3 * len(ordered))
