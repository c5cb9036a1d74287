"""Plots of scores, accuracies, sizes and losses, as SVG to stand inside a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from supernet.draw.svg import COLOURS, INK, LETTERS, PALE, SECOND, STRONG, THIRD, Drawing, svg
from supernet.draw.units import Unit
from supernet.search import orders

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_OPTIONS = 24
"""Options that `options` shows at the most; the names of more could not be read."""


def predicts(
    points: Sequence[Mapping[str, Any]],
    metric: Unit,
    score: Unit,
    *,
    paper: Sequence[Sequence[float]] = (),
    winner: float | None = None,
) -> Drawing:
    """Score against the metric of the network trained from scratch, with error bars over repeats (Fig 5).

    Args:
        points: networks with their score, and the metric of each repeat as `accuracies`.
        metric, score: units of the two.
        winner: score of the winner.
        paper: score and accuracy of the paper's networks, 0 to 1, shown beside these; empty if they cannot be compared.
    """

    def draw(axes: Axes) -> None:
        if paper:
            x, y = 100 * np.array(paper).T
            label = "the paper's (CIFAR-10)"
            axes.plot(x, y, "o", color=PALE, alpha=0.35, markersize=4, label=label)
        repeats = [metric.scale * np.array(p["accuracies"]) for p in points]
        means = np.array([values.mean() for values in repeats])
        spread = np.array([values.std(ddof=1) if len(values) > 1 else 0.0 for values in repeats])
        below, above = spread, spread
        if metric.symbol == "%":  # a share beyond 0 and 100 % cannot be
            below, above = np.minimum(spread, means), np.minimum(spread, metric.scale - means)
        axes.errorbar(
            [score.scale * p["score"] for p in points], means, yerr=np.maximum([below, above], 0.0),
            fmt="o", color=STRONG, markersize=4, linewidth=1, label="this run, ± deviation of repeats",
        )  # fmt: skip
        axes.set(xlabel=_score_label(score), ylabel=_from_scratch_label(metric))
        _mark_score(axes, score, winner)
        if paper or winner is not None:
            _legend(axes, columns=1)

    return svg("predicts", draw)


def sweep(points: Sequence[Mapping[str, Any]], row: Mapping[str, Any], metric: Unit, score: Unit) -> Drawing:
    """Scores of one-shot models at one dropout rate against the metric after training from scratch (Fig 4).

    Args:
        points: networks with the metric of each repeat as `accuracies`.
        row: `rate`, and `scores` of the same networks.
        metric, score: units of the two.
    """

    def draw(axes: Axes) -> None:
        x = [score.scale * value for value in row["scores"]]
        y = [metric.scale * float(np.mean(p["accuracies"])) for p in points]
        axes.plot(x, y, "o", color=STRONG, markersize=4)
        axes.set(xlabel=_score_label(score), ylabel=_from_scratch_label(metric))

    return svg(f"sweep-{row['rate']}", draw)


def published(points: Sequence[Mapping[str, Any]], column: str, score: Unit) -> Drawing:
    """Score against published accuracies, in the unit of their file."""

    def draw(axes: Axes) -> None:
        x = [score.scale * p["score"] for p in points]
        axes.plot(x, [float(np.mean(p["accuracies"])) for p in points], "o", color=STRONG, markersize=3, alpha=0.6)
        axes.set(xlabel=_score_label(score), ylabel=f"published: {column}")

    return svg("published", draw)


def size_bias(
    columns: Mapping[str, Sequence[float]], score: Unit, winner: tuple[float, float] | None = None
) -> Drawing:
    """Score of candidates against their parameters (section 4.3); `columns` has `params` and `value`.

    Args:
        columns: of the candidates.
        score: unit of the scores.
        winner: its parameters and its score.
    """

    def draw(axes: Axes) -> None:
        y = [score.scale * value for value in columns["value"]]
        axes.plot(columns["params"], y, "o", color=STRONG, markersize=3, alpha=0.6, markeredgewidth=0)
        axes.set(xlabel="parameters", ylabel=_score_label(score))
        if winner is not None:
            _mark(axes, winner[0], score.scale * winner[1])
            _legend(axes, columns=1)
        _short_numbers(axes)

    return svg("size-bias", draw)


def _mark(axes: Axes, x: float, y: float) -> None:
    """Marks the winner among points."""
    axes.plot([x], [y], "*", color=SECOND, markersize=13, zorder=5, label="winner")


def _mark_score(axes: Axes, score: Unit, winner: float | None) -> None:
    """Marks the winner's score on the axis of scores."""
    if winner is not None:
        axes.axvline(score.scale * winner, color=SECOND, linewidth=1.2, linestyle="--", label="score of the winner")


def _score_label(score: Unit) -> str:
    return f"score: {score.label}"


def _from_scratch_label(metric: Unit) -> str:
    return f"validation {metric.label}"


def _short_numbers(axes: Axes) -> None:
    """Writes sizes as 20k or 1.5M, few enough to stand beside each other."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _legend(axes: Axes, columns: int, title: str | None = None) -> None:
    """A legend above the axes, where it hides no point; matplotlib's search for a free place is slow."""
    axes.legend(
        title=title,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=columns,
        frameon=False,
        fontsize=LETTERS,
        title_fontsize=LETTERS,
        handletextpad=0.4,
        columnspacing=1.0,
    )


def histogram(values: Sequence[float], score: Unit, winner: float | None = None) -> Drawing:
    """How often each score occurs among the candidates; `winner` is the score of the winner."""

    def draw(axes: Axes) -> None:
        axes.hist([score.scale * value for value in values], bins=40, color=PALE)
        axes.set(xlabel=_score_label(score), ylabel="candidates")
        _mark_score(axes, score, winner)
        if winner is not None:
            _legend(axes, columns=1)

    return svg("histogram", draw)


def front(
    cost: str, candidates: Sequence[tuple[float, float]], best: Sequence[tuple[float, float, int]], score: Unit
) -> Drawing:
    """A cost against the score of candidates, with the numbers of those on the Pareto front.

    Args:
        cost: its name; latency in seconds and memory in bytes are shown in ms and MB.
        candidates: cost and score of each.
        best: cost, score and number of those on the front.
        score: unit of the scores.
    """
    scale, unit = {"latency": (1e3, " (ms)"), "memory": (1e-6, " (MB)")}.get(cost, (1.0, ""))

    def draw(axes: Axes) -> None:
        x, y = np.array(candidates, float).T
        axes.plot(scale * x, score.scale * y, ".", color=PALE, markersize=3, alpha=0.6, label="candidates")
        line = [(scale * size, score.scale * value, number) for size, value, number in sorted(best)]
        x_best, y_best, _ = zip(*line, strict=True)
        axes.plot(x_best, y_best, "o-", color=STRONG, markersize=4, linewidth=1, label="Pareto front")
        for size, value, number in line:
            axes.annotate(str(number), (size, value), textcoords="offset points", xytext=(3, -12), fontsize=LETTERS)
        axes.set(xlabel=cost + unit, ylabel=_score_label(score))
        _legend(axes, columns=2)

    return svg(f"front {cost}", draw)


def best_so_far(
    rows: Sequence[tuple[int, float | None, float | None, int]],
    score: Unit,
    winner: tuple[int, float] | None = None,
) -> Drawing:
    """The best score so far against the number of candidates, with its standard error, and the mean of each round.

    Args:
        rows: for each candidate its number in the order of proposals; its score, or None if it lost a race; the
            standard error of the score, or None; its round.
        score: unit of the scores.
        winner: its number and its score.
    """
    whole = [(n, value, error or 0.0, round_) for n, value, error, round_ in rows if value is not None]
    numbers, values = np.array([n for n, *_ in whole]), score.scale * np.array([value for _, value, *_ in whole])
    errors, rounds = score.scale * np.array([error for _, _, error, _ in whole]), np.array([r for *_, r in whole])
    best = np.maximum.accumulate(values)
    leading = np.maximum.accumulate(np.where(values == best, np.arange(len(values)), 0))  # index of the best so far
    end = [*numbers, max(n for n, *_ in rows)]

    def draw(axes: Axes) -> None:
        axes.plot(numbers, values, ".", color=PALE, markersize=3, alpha=0.6, label="candidates")
        low, high = best - errors[leading], best + errors[leading]
        if errors.any():
            edges = [*low, low[-1]], [*high, high[-1]]
            axes.fill_between(end, *edges, step="post", color=STRONG, alpha=0.15, linewidth=0)
        axes.step(end, [*best, best[-1]], where="post", color=STRONG, label="best so far")
        distinct = np.unique(rounds)
        if len(distinct) > 1:
            means = [(numbers[rounds == r].mean(), values[rounds == r].mean()) for r in distinct]
            axes.plot(*zip(*means, strict=True), "x-", color=SECOND, markersize=4, linewidth=0.8, label="round mean")
        if winner is not None:
            _mark(axes, winner[0], score.scale * winner[1])
        axes.set(xlabel="candidates, in the order of proposals", ylabel=_score_label(score))
        _legend(axes, columns=2)

    return svg("best-so-far", draw)


def strategies(marks: Sequence[int], regret: Mapping[str, Mapping[str, Sequence[float]]], unit: str) -> Drawing:
    """The regret of each strategy against the number of candidates: median over seeds, and a band.

    Args:
        marks: numbers of candidates.
        regret: for each strategy `median`, `low` and `high` at each of them.
        unit: of the regret.
    """

    def draw(axes: Axes) -> None:
        colours = (PALE, STRONG, SECOND, THIRD, "#8e5ea2", "#c28e0e", "#3aa6a6")
        for (name, row), colour in zip(regret.items(), colours, strict=False):
            axes.plot(marks, row["median"], color=colour, label=name, linewidth=1.5)
            axes.fill_between(list(marks), row["low"], row["high"], color=colour, alpha=0.12, linewidth=0)
        axes.set(xlabel="candidates", ylabel=f"regret ({unit})", xscale="log")
        shown = [m for m in marks if m in (10, 20, 50, 100, 200, 500, 1000, 2000)] or list(marks)
        axes.set_xticks(shown, [f"{m:,}" for m in shown])
        axes.set_xticks([], minor=True)
        _legend(axes, columns=3)

    return svg("strategies", draw, 4.0)


def size_against_metric(
    groups: Mapping[str, Sequence[tuple[float, float]]], metric: Unit, winner: tuple[float, float] | None = None
) -> Drawing:
    """Parameters against the metric of networks trained from scratch, by group, with the Pareto front.

    Args:
        groups: parameters and metric of each network.
        metric: its unit.
        winner: its parameters and its metric.
    """

    def draw(axes: Axes) -> None:
        for name, pairs in groups.items():
            x, y = [size for size, _ in pairs], [metric.scale * value for _, value in pairs]
            axes.plot(x, y, "o", markersize=5, color=COLOURS.get(name, PALE), label=name, alpha=0.85)
        networks = [pair for pairs in groups.values() for pair in pairs]
        best = [networks[i] for i in orders.front([(-size, value) for size, value in networks])]
        x, y = [size for size, _ in best], [metric.scale * value for _, value in best]
        axes.plot(x, y, "-", color=INK, linewidth=1, label="Pareto front")
        if winner is not None:
            _mark(axes, winner[0], metric.scale * winner[1])
        axes.set(xlabel="parameters", ylabel=_from_scratch_label(metric))
        _short_numbers(axes)
        _legend(axes, columns=2)

    return svg("size", draw)


def training(history: Sequence[Mapping[str, float]]) -> Drawing:
    """The loss of the one-shot model during its training; each row has `step` and `loss`."""

    def draw(axes: Axes) -> None:
        _curve(axes, history, color=STRONG, linewidth=1.2)
        axes.set(xlabel="step", ylabel="loss of the one-shot model")

    return svg("training", draw)


def training_from_scratch(
    histories: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], winner: Sequence[Mapping[str, float]] = ()
) -> Drawing:
    """The losses of the finalists during their training, by group; each row has `step` and `loss`.

    Args:
        histories: of the trainings of each group.
        winner: of a training of the winner.
    """

    def draw(axes: Axes) -> None:
        for name, group in histories.items():
            for number, history in enumerate(group):
                label = name if number == 0 else "_"
                _curve(axes, history, color=COLOURS.get(name, PALE), linewidth=0.9, alpha=0.5, label=label)
        if winner:
            _curve(axes, winner, color=INK, linewidth=1.5, label="winner")
        axes.set(xlabel="step", ylabel="loss of the finalists")
        _legend(axes, columns=2)

    return svg("training-from-scratch", draw)


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], **style: Any) -> None:
    axes.plot([row["step"] for row in history], [row["loss"] for row in history], **style)


def divergence(points: Sequence[Mapping[str, Any]], score: Unit, winner: float | None = None) -> Drawing:
    """Score against divergence (Fig 6); `winner` is the score of the winner."""

    def draw(axes: Axes) -> None:
        x = [score.scale * p["score"] for p in points]
        axes.plot(x, [p["divergence"] for p in points], "o", color=STRONG, markersize=4)
        axes.set(xlabel=_score_label(score), ylabel="divergence (nats)")
        _mark_score(axes, score, winner)
        if winner is not None:
            _legend(axes, columns=1)

    return svg("divergence", draw)


def course(points: Sequence[Mapping[str, Any]], divergence: Mapping[str, Any], score: Unit) -> Drawing:
    """The divergence of some architectures during the training of the one-shot model (Fig 7).

    Args:
        points: networks with their `id` and `score`.
        divergence: `followed`, the ids of some of them, and `course`, rows with `step` and the `divergence` of each.
        score: unit of the scores.
    """

    def draw(axes: Axes) -> None:
        scores = {p["id"]: score.scale * p["score"] for p in points}
        rows, followed = divergence["course"], divergence["followed"]
        for i, name in enumerate(followed):
            shade = 0.25 + 0.75 * i / max(1, len(followed) - 1)
            x, y = [row["step"] for row in rows], [row["divergence"][i] for row in rows]
            axes.plot(x, y, "-", color=SECOND, alpha=shade, label=f"{scores[name]:.3g}")
        axes.set(xlabel="step of the training", ylabel="divergence (nats)")
        _legend(axes, columns=2, title="score at the end")

    return svg("course", draw)


def options(rows: Sequence[Mapping[str, Any]], score: Unit) -> Drawing:
    """What each option is worth: the mean fall of the score without it, over choices that have the same options.

    Options that nothing can replace are left out, and of many those that matter least.

    Args:
        rows: of `supernet.trust.probes.option_worth`.
        score: unit of the scores.
    """
    columns = ("candidates", "everything_on")
    falls: dict[str, dict[str, list[float]]] = {}
    for name, row in zip(_option_names(rows), rows, strict=True):
        for column in columns:
            if row[column] is not None:
                falls.setdefault(name, {key: [] for key in columns})[column].append(score.scale * row[column])
    means = {
        name: {column: float(np.mean(values)) if values else float("nan") for column, values in by_column.items()}
        for name, by_column in falls.items()
    }
    largest = sorted(means, key=lambda name: -np.nanmax(np.abs(list(means[name].values()))))[:MOST_OPTIONS]
    ordered = sorted(largest, key=lambda name: float(np.nan_to_num(means[name]["candidates"])))

    def draw(axes: Axes) -> None:
        place = np.arange(len(ordered))
        for shift, column, colour, label in (
            (0.2, "candidates", STRONG, "from random candidates"),
            (-0.2, "everything_on", PALE, "from everything-on"),
        ):
            axes.barh(place + shift, [means[name][column] for name in ordered], 0.4, color=colour, label=label)
        axes.set_yticks(place, ordered)
        axes.set(xlabel=f"mean fall of the score without it ({score.difference})")
        _legend(axes, columns=1)

    return svg("options", draw, 1.2 + 0.3 * len(ordered))


def _option_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each row of options: equal for one option of choices that have the same options.

    Of a single choice, or of choices whose names end alike, it is "choice=option", otherwise the option alone.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    options_of: dict[str, tuple[str, ...]] = {}
    for choice in dict.fromkeys(row["choice"] for row in rows):
        options_of[choice] = tuple(row["option"] for row in rows if row["choice"] == choice)
        alike.setdefault(options_of[choice], []).append(choice)
    names = []
    for row in rows:
        choices = alike[options_of[row["choice"]]]
        ends = {choice.rpartition(".")[2] for choice in choices}
        end = choices[0] if len(choices) == 1 else ends.pop() if len(ends) == 1 else ""
        names.append(f"{end}={row['option']}" if end else row["option"])
    return names


def confusion(counts: NDArray[Any], classes: Sequence[str]) -> Drawing:
    """How many examples of each class are taken for each: int [K, K], the right classes as rows."""
    size = len(classes)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        shades = LinearSegmentedColormap.from_list("shades", ["#ffffff", STRONG])
        axes.pcolormesh(shares, cmap=shades, vmin=0, vmax=1, alpha=0.55, edgecolors=PALE, linewidth=0.3)
        if size <= 10:  # the numbers of more would not fit
            for row, column in np.argwhere(counts > 0).tolist():
                text = str(counts[row, column])
                axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=LETTERS)
        places = np.arange(size) + 0.5
        axes.set_xticks(places, classes, rotation=90)
        axes.set_yticks(places, classes)
        axes.invert_yaxis()
        axes.set(xlabel="predicted class", ylabel="right class")

    return svg("confusion", draw, 4.6)


def predictions(examples: Sequence[tuple[NDArray[Any], str, str]]) -> Drawing:
    """Images with the class that is predicted, and the right class below it if that is another.

    Args:
        examples: image, [H, W] or [H, W, 3] from 0 to 1; right class; predicted class.
    """
    columns = 3
    rows = -(-len(examples) // columns)

    def draw(axes: Axes) -> None:
        axes.axis("off")
        axes.set(xlim=(0, columns * 1.5), ylim=(-rows * 1.6, 0))
        for number, (image, right, predicted) in enumerate(examples):
            x, y = 1.5 * (number % columns), -1.6 * (number // columns)
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(x + 0.25, x + 1.25, y - 1.05, y - 0.05))
            colour = INK if right == predicted else SECOND
            lines = [predicted] if right == predicted else [predicted, f"({right})"]
            for line, below in zip(lines, (1.18, 1.38), strict=False):
                axes.text(x + 0.75, y - below, line, ha="center", va="center", color=colour)

    return svg("predictions", draw, 1.6 * rows)
