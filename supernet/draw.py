"""Figures of a report, as SVG to stand inside a page: text stays text, and black follows the page's colour."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from supernet.analysis import paper_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for the colour of the page's text, until the figure is written."""

COLOURS = {"Top": "#d1495b", "Small": "#2e8b57", "Random": "#3066be", "All On": "#8a8a8a"}
PALE, STRONG, SECOND = "#9aa5b1", "#3066be", "#d1495b"


def _svg(name: str, draw: Callable[[Any], None], size: tuple[float, float] = (5.2, 3.4), columns: int = 1) -> str:
    """What `draw` draws on axes, or on a list of so many, as the text of an SVG element."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    named = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
    # Names of clipping paths come from the salt; equal ones of two figures on a page would be mixed up.
    style: Any = {
        **dict.fromkeys(named, INK), "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10,
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots(1, columns, squeeze=False)[0] if columns > 1 else figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for side in ("width", "height"):  # the page says how wide
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
    return text


def predicts(points: Sequence[Mapping[str, Any]], metric: str, score: str, *, with_paper: bool) -> str:
    """Score against stand-alone accuracy, with error bars over repeats (Fig 5)."""
    scale = 100 if metric == "accuracy" else 1
    score_scale = scale if score == "metric" else 1

    def draw(a: Axes) -> None:
        if with_paper:
            x, y = 100 * np.array(paper_points()["figure5"]).T
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
        if with_paper:
            _legend(a, columns=1)

    return _svg("predicts", draw)


def _legend(a: Axes, columns: int, title: str | None = None) -> None:
    """Above the axes, where it hides no point; to look for a free place among many points takes long."""
    a.legend(
        title=title, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize=8, title_fontsize=8
    )


def _score_label(score: str, metric: str) -> str:
    if score != "metric":
        return "score: negative divergence (nats)"
    return "one-shot validation accuracy (%)" if metric == "accuracy" else f"one-shot validation {metric}"


def histogram(scores: Sequence[float], metric: str, score: str) -> str:
    """Scores of candidates."""

    def draw(a: Axes) -> None:
        scale = 100 if (metric, score) == ("accuracy", "metric") else 1
        a.hist([scale * value for value in scores], bins=40, color=PALE)
        a.set(xlabel=_score_label(score, metric), ylabel="candidates")

    return _svg("histogram", draw)


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
    scale = 100 if (metric, score) == ("accuracy", "metric") else 1
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

    return _svg(f"front {cost}", draw)


def course(scores: Sequence[tuple[int, float]], metric: str, score: str) -> str:
    """The best score so far against the number of candidates.

    Args:
        scores: number of each candidate, in order, and its score.
        metric: of the run.
        score: of the search.
    """
    scale = 100 if (metric, score) == ("accuracy", "metric") else 1

    def draw(a: Axes) -> None:
        numbers, values = [n for n, _ in scores], scale * np.array([v for _, v in scores])
        a.plot(numbers, values, ".", color=PALE, markersize=3, alpha=0.6, label="candidates")
        a.step(numbers, np.maximum.accumulate(values), where="post", color=STRONG, label="best so far")
        a.set(xlabel="candidates", ylabel=_score_label(score, metric))
        _legend(a, columns=2)

    return _svg("course", draw)


def strategies(marks: Sequence[int], regret: Mapping[str, Mapping[str, Sequence[float]]], unit: str) -> str:
    """What each strategy has missed so far against the number of candidates: median over seeds, and a band.

    Args:
        marks: numbers of candidates.
        regret: for each strategy `median`, `low` and `high` at each of them.
        unit: of the regret.
    """

    def draw(a: Axes) -> None:
        colours = (PALE, STRONG, SECOND, "#2e8b57", "#8e5ea2", "#c28e0e", "#3aa6a6")
        for (name, row), colour in zip(regret.items(), colours, strict=False):
            a.plot(marks, row["median"], color=colour, label=name, linewidth=1.5)
            a.fill_between(list(marks), row["low"], row["high"], color=colour, alpha=0.12, linewidth=0)
        a.set(xlabel="candidates", ylabel=f"best of all less best so far ({unit})", xscale="log")
        _legend(a, columns=3)

    return _svg("strategies", draw, (6.4, 4.0))


def pareto(sizes: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Indices of those that nobody beats who is not larger, the smallest first."""
    order = sorted(range(len(sizes)), key=lambda i: (sizes[i], -accuracies[i]))
    front: list[int] = []
    for i in order:
        if not front or accuracies[i] > accuracies[front[-1]]:
            front.append(i)
    return front


def size_against_accuracy(groups: Mapping[str, Sequence[tuple[float, float]]], metric: str) -> str:
    """Parameters against accuracy of networks trained from scratch, with the Pareto front."""
    scale = 100 if metric == "accuracy" else 1

    def draw(a: Axes) -> None:
        for name, pairs in groups.items():
            x, y = [size for size, _ in pairs], [scale * value for _, value in pairs]
            a.plot(x, y, "o", markersize=5, color=COLOURS.get(name, PALE), label=name, alpha=0.85)
        everyone = [pair for pairs in groups.values() for pair in pairs]
        front = pareto([size for size, _ in everyone], [value for _, value in everyone])
        a.plot(
            [everyone[i][0] for i in front], [scale * everyone[i][1] for i in front], "-", color=INK, linewidth=1,
            label="Pareto front",
        )  # fmt: skip
        unit = " (%)" if scale == 100 else ""
        a.set(xlabel="parameters", ylabel=f"validation {metric}{unit}", xscale="log")
        _legend(a, columns=3)

    return _svg("size", draw)


def training(history: Sequence[Mapping[str, float]]) -> str:
    """The loss of the one-shot model while it was trained."""

    def draw(a: Axes) -> None:
        a.plot([row["step"] for row in history], [row["loss"] for row in history], color=STRONG, linewidth=1.2)
        a.set(xlabel="step", ylabel="loss of the one-shot model")

    return _svg("training", draw)


def divergence(points: Sequence[Mapping[str, Any]], found: Mapping[str, Any], metric: str, score: str) -> str:
    """Divergence against score (Fig 6), and its course (Fig 7)."""

    def draw(both: Sequence[Axes]) -> None:
        left, right = both
        scale = 100 if (metric, score) == ("accuracy", "metric") else 1
        left.plot(
            [scale * p["score"] for p in points], [p["divergence"] for p in points], "o", color=STRONG, markersize=4
        )
        left.set(xlabel=_score_label(score, metric), ylabel="divergence from the references (nats)")
        by_id = {p["id"]: scale * p["score"] for p in points}
        for i, name in enumerate(found["followed"]):
            shade = 0.25 + 0.75 * i / max(1, len(found["followed"]) - 1)
            x, y = [row["step"] for row in found["course"]], [row["divergence"][i] for row in found["course"]]
            right.plot(x, y, "-", color=SECOND, alpha=shade, label=f"{by_id[name]:.3g}")
        right.set(xlabel="step of the training", ylabel="divergence (nats)")
        if found["course"]:
            _legend(right, columns=3, title="score at the end")

    return _svg("divergence", draw, size=(9, 3.4), columns=2)


def sweep(points: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Scores of one-shot models of several dropout rates against stand-alone accuracy, side by side (Fig 4)."""

    def draw(each: Any) -> None:
        scale = 100 if metric == "accuracy" else 1
        y = [scale * float(np.mean(p["accuracies"])) for p in points]
        for a, row in zip(each if len(rows) > 1 else [each], rows, strict=True):
            a.plot([scale * value for value in row["scores"]], y, "o", color=STRONG, markersize=4)
            rho = row["agreement"]["spearman"]["value"]
            said = "not defined" if rho is None else f"{rho:.2f}"
            a.set(xlabel=_score_label("metric", metric), title=f"rate {row['rate']:g}, Spearman {said}")
            a.title.set_fontsize(9)
        (each[0] if len(rows) > 1 else each).set_ylabel(f"stand-alone validation {metric}")

    return _svg("sweep", draw, size=(3.6 * len(rows), 3.2), columns=len(rows))


def options(rows: Sequence[Mapping[str, Any]], metric: str, score: str) -> str:
    """What each option is worth: the mean fall of the score without it, over all its choices."""
    names = list(dict.fromkeys(row["option"] for row in rows))
    scale = 100 if (metric, score) == ("accuracy", "metric") else 1

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

    return _svg("options", draw, size=(5.2, 1.2 + 0.3 * len(ordered)))


def arrows(picks: Mapping[str, Sequence[str]]) -> tuple[dict[str, str], list[tuple[str, str, str]]] | None:
    """Nodes with their labels and arrows of a cell, where the names of the choices tell of one.

    Understood are ``NODE.inputs`` with ``NODE.ops``, and ``edgeA-B``.

    Returns:
        Label of each node, and arrows as (from, to, label); None for other choices.
    """
    if all(re.fullmatch(r"edge\d+-\d+", name) for name in picks):
        pairs = {name: name.removeprefix("edge").split("-") for name in picks}
        nodes = {node: node for pair in pairs.values() for node in pair}
        return nodes, [(a, b, "+".join(picks[name])) for name, (a, b) in pairs.items() if "none" not in picks[name]]
    blocks = [name.removesuffix(".inputs") for name in picks if name.endswith(".inputs")]
    if not blocks or set(picks) != {f"{block}.{what}" for block in blocks for what in ("inputs", "ops")}:
        return None
    nodes = {source: source for block in blocks for source in picks[f"{block}.inputs"] if source not in blocks}
    nodes |= {block: "\n".join([block, *picks[f"{block}.ops"]]) for block in blocks}
    return nodes, [(source, block, "") for block in blocks for source in picks[f"{block}.inputs"]]


def cell(picks: Mapping[str, Sequence[str]], every: Mapping[str, Sequence[str]]) -> str:
    """The winner: its cell as a graph, or else its choices in order, with what it picks among the options.

    Args:
        picks: options picked, by choice.
        every: all options, by choice.
    """
    graph = arrows(picks)
    if graph is None:
        return _choices(picks, every)
    nodes, edges = graph
    depth = dict.fromkeys(nodes, 0)
    for _ in nodes:
        for source, target, _label in edges:
            depth[target] = max(depth[target], depth[source] + 1)
    columns: dict[int, list[str]] = {}
    for node in nodes:
        columns.setdefault(depth[node], []).append(node)
    place = {
        node: (column, (len(members) - 1) / 2 - i + 0.15 * (column % 2))
        for column, members in columns.items()
        for i, node in enumerate(members)
    }

    def draw(a: Axes) -> None:
        a.axis("off")
        for number, (source, target, label) in enumerate(edges):
            (x0, y0), (x1, y1) = place[source], place[target]
            bend = 0.0 if x1 - x0 == 1 else 0.25 * (-1) ** number
            a.annotate(
                "", (x1, y1), (x0, y0),
                arrowprops={
                    "arrowstyle": "-|>", "color": INK, "shrinkA": 22, "shrinkB": 26,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )  # fmt: skip
            if label:
                a.text((x0 + x1) / 2, (y0 + y1) / 2 - bend * (x1 - x0) / 2, label, ha="center", va="center", fontsize=8)
        for node, label in nodes.items():
            a.text(
                *place[node], label, ha="center", va="center", fontsize=9, color="#101418",
                bbox={"boxstyle": "round,pad=0.4", "facecolor": "#dfe8f5", "edgecolor": STRONG},
            )  # fmt: skip
        a.set_xlim(-0.6, max(depth.values()) + 0.6)
        a.set_ylim(min(y for _, y in place.values()) - 0.9, max(y for _, y in place.values()) + 0.9)

    tallest = max(map(len, columns.values()))
    return _svg("cell", draw, size=(1.8 * (max(depth.values()) + 1), 1.2 + 1.3 * tallest))


def _choices(picks: Mapping[str, Sequence[str]], every: Mapping[str, Sequence[str]]) -> str:
    def draw(a: Axes) -> None:
        a.axis("off")
        for row, name in enumerate(every):
            a.text(0, -row, name, ha="right", va="center", fontsize=9)
            x = 0.3
            for option in every[name]:
                picked = option in picks.get(name, ())
                a.text(
                    x, -row, option, ha="left", va="center", fontsize=9, color="#101418" if picked else PALE,
                    bbox={"boxstyle": "round,pad=0.3", "facecolor": "#dfe8f5" if picked else "none",
                          "edgecolor": STRONG if picked else PALE},
                )  # fmt: skip
                x += 0.55 + 0.16 * len(option)
        a.set_xlim(-2.5, 9)
        a.set_ylim(-len(every) + 0.4, 0.6)

    return _svg("cell", draw, size=(8, 0.6 + 0.36 * len(every)))
