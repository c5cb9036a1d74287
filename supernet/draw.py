"""Figures of a report, as SVG to stand inside a page: text stays text, and black follows the page's colour."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from supernet.analysis import paper_points
from supernet.search import orders

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 4.6
"""Inches of a figure; with it letters on a phone are about as large as the text around them."""

INK = "#010203"
"""Stands for the colour of the page's text, until the figure is written."""

PALE, STRONG, SECOND, THIRD = "#9aa5b1", "#3066be", "#d1495b", "#2e8b57"
COLOURS = {"Top": SECOND, "Small": THIRD, "Random": STRONG, "All On": "#8a8a8a"}

PAGE = {INK: "currentColor", **{c: f"var(--c{c[1:]}, {c})" for c in (STRONG, SECOND, THIRD)}}
"""What colours become in the page, which has others for them in the dark."""


def _svg(name: str, draw: Callable[[Axes], None], height: float = 3.2) -> str:
    """What `draw` draws on axes, as the text of an SVG element; `height` in inches."""
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
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, on_page in PAGE.items():
        text = text.replace(colour, on_page)
    for side in ("width", "height"):  # the page says how wide
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
    return text


def by_itself(svg: str) -> str:
    """A figure as a file of its own, where no page says what colour text has."""
    return svg.replace("currentColor", "#222")


def predicts(points: Sequence[Mapping[str, Any]], metric: str, score: str, *, with_paper: bool = False) -> str:
    """Score against stand-alone accuracy, with error bars over repeats (Fig 5)."""
    scale = 100 if metric == "accuracy" else 1
    score_scale = _score_scale(metric, score)

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


def published(points: Sequence[Mapping[str, Any]], column: str, metric: str, score: str) -> str:
    """Score against accuracies that somebody else published, in their unit."""

    def draw(a: Axes) -> None:
        x = [_score_scale(metric, score) * p["score"] for p in points]
        a.plot(x, [p["accuracies"][0] for p in points], "o", color=STRONG, markersize=3, alpha=0.6)
        a.set(xlabel=_score_label(score, metric), ylabel=f"published: {column}")

    return _svg("published", draw)


def liking(columns: Mapping[str, Sequence[float]], metric: str, score: str) -> str:
    """Score of candidates against their parameters (section 4.3)."""

    def draw(a: Axes) -> None:
        scale = _score_scale(metric, score)
        a.plot(
            columns["params"],
            [scale * value for value in columns["accuracy"]],
            "o",
            color=STRONG,
            markersize=3,
            alpha=0.6,
            markeredgewidth=0,
        )
        a.set(xlabel="parameters", ylabel=_score_label(score, metric))
        _short_numbers(a)

    return _svg("liking", draw)


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

    return _svg(f"front {cost}", draw)


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

    return _svg("best-so-far", draw)


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

    return _svg("strategies", draw, 4.0)


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

    return _svg("size", draw)


def training(history: Sequence[Mapping[str, float]]) -> str:
    """The loss of the one-shot model while it was trained."""

    def draw(a: Axes) -> None:
        _curve(a, history, color=STRONG, linewidth=1.2)
        a.set(xlabel="step", ylabel="loss of the one-shot model")

    return _svg("training", draw)


def training_alone(finalists: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> str:
    """The losses of the finalists while they were trained, by group."""

    def draw(a: Axes) -> None:
        for name, histories in finalists.items():
            for number, rows in enumerate(histories):
                label = name if number == 0 else "_"
                _curve(a, rows, color=COLOURS.get(name, PALE), linewidth=0.9, alpha=0.7, label=label)
        a.set(xlabel="step", ylabel="loss of the finalists")
        _legend(a, columns=4)

    return _svg("training-alone", draw)


def _curve(a: Axes, rows: Sequence[Mapping[str, float]], **style: Any) -> None:
    a.plot([row["step"] for row in rows], [row["loss"] for row in rows], **style)


def divergence(points: Sequence[Mapping[str, Any]], metric: str, score: str) -> str:
    """Divergence against score (Fig 6)."""

    def draw(a: Axes) -> None:
        x = [_score_scale(metric, score) * p["score"] for p in points]
        a.plot(x, [p["divergence"] for p in points], "o", color=STRONG, markersize=4)
        a.set(xlabel=_score_label(score, metric), ylabel="divergence from the references (nats)")

    return _svg("divergence", draw)


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

    return _svg("course", draw)


def sweep(points: Sequence[Mapping[str, Any]], row: Mapping[str, Any], metric: str) -> str:
    """Scores by the one-shot model of one dropout rate against stand-alone accuracy (Fig 4)."""

    def draw(a: Axes) -> None:
        scale = 100 if metric == "accuracy" else 1
        y = [scale * float(np.mean(p["accuracies"])) for p in points]
        a.plot([scale * value for value in row["scores"]], y, "o", color=STRONG, markersize=4)
        unit = " (%)" if scale == 100 else ""
        a.set(xlabel=_score_label("metric", metric), ylabel=f"stand-alone validation {metric}{unit}")

    return _svg(f"sweep-{row['rate']:g}", draw)


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

    return _svg("options", draw, 1.2 + 0.3 * len(ordered))


Graph = tuple[dict[str, list[str]], list[tuple[str, str]]]
"""Lines of text of each node of a cell, and arrows as (from, to)."""


def arrows(picks: Mapping[str, Sequence[str]]) -> dict[str, Graph]:
    """The cells as graphs, where the names of the choices tell of any.

    Understood are ``NODE.inputs`` with ``NODE.ops``, ``edgeA-B``, and ``CELL.nodeN.inputs`` with ``CELL.nodeN.opI``,
    whose inputs I are numbers: the outputs of the two cells before, then the cell's own nodes.

    Returns:
        Graphs by the names of the cells; nothing for other choices.
    """
    if all(re.fullmatch(r"edge\d+-\d+", name) for name in picks):
        edges = {tuple(name.removeprefix("edge").split("-")): picked for name, picked in picks.items()}
        nodes = dict.fromkeys(node for edge in edges for node in edge)
        return {"cell": _operations(nodes, [(a, b, picked) for (a, b), picked in edges.items()])}
    if all(re.fullmatch(r"\w+\.node\d+\.(inputs|op\d+)", name) for name in picks):
        return {cell: _numbered(cell, picks) for cell in dict.fromkeys(name.partition(".")[0] for name in picks)}
    blocks = [name.removesuffix(".inputs") for name in picks if name.endswith(".inputs")]
    if not blocks or set(picks) != {f"{block}.{what}" for block in blocks for what in ("inputs", "ops")}:
        return {}
    given = [source for block in blocks for source in picks[f"{block}.inputs"] if source not in blocks]
    lines = {**{name: [name] for name in given}, **{block: [block, *picks[f"{block}.ops"]] for block in blocks}}
    return {"cell": (lines, [(source, block) for block in blocks for source in picks[f"{block}.inputs"]])}


def _numbered(cell: str, picks: Mapping[str, Sequence[str]]) -> Graph:
    own = {tuple(name.split(".")[1:]): picked for name, picked in picks.items() if name.startswith(f"{cell}.")}
    nodes = ["before", "last", *dict.fromkeys(node for node, _ in own)]
    some = {(node, what.removeprefix("op")): picked for (node, what), picked in own.items() if what != "inputs"}
    return _operations(nodes, [(nodes[int(source)], node, picked) for (node, source), picked in some.items()])


def _operations(nodes: Iterable[str], edges: Sequence[tuple[str, str, Sequence[str]]]) -> Graph:
    """A cell with operations on its arrows; they are told at the node that an arrow points to."""
    some = [(source, target, "+".join(picked)) for source, target, picked in edges if "none" not in picked]
    lines = {node: [node] for node in nodes}
    for source, target, text in some:
        lines[target].append(f"{text} of {source}")
    return lines, [(source, target) for source, target, _ in some]


def cells(picks: Mapping[str, Sequence[str]], every: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The winner: its cells as graphs, or else its choices in order, with what it picks among the options.

    Args:
        picks: options picked, by choice.
        every: all options, by choice.

    Returns:
        Figures by their names.
    """
    graphs = arrows(picks)
    return {name: _graph(name, *graph) for name, graph in graphs.items()} or {"choices": _choices(picks, every)}


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        name: of the module.
        kind: its class.
        params: its parameters.
        shape: of the output for one example; empty where it is no tensor.
        sources: numbers of the parts whose outputs it reads.
    """

    name: str
    kind: str
    params: int
    shape: tuple[int, ...]
    sources: tuple[int, ...]


ROW, BOXES = 0.4, 1.3
"""Inches from part to part of a network, and where their middle is."""


def network(parts: Sequence[Part]) -> str:
    """The parts of a network from top to bottom; the fewer pixels (positions) an output has, the narrower its box."""
    pixels = [math.prod(part.shape[1:]) for part in parts]
    most = math.log(max(2, *pixels))
    # What reads no part's output as it is reads that of the one before in some form.
    edges = [(i, j) for j, part in enumerate(parts) for i in (part.sources or ((j - 1,) if j else ()))]

    widths = [0.9 + 0.7 * math.log(max(1, size)) / most for size in pixels]

    def draw(a: Axes) -> None:
        for i, (part, width) in enumerate(zip(parts, widths, strict=True)):
            _box(a, (BOXES, -ROW * i), width, [part.name])
            shape = " x ".join(map(str, part.shape)) or "-"
            a.text(2.25, -ROW * i, f"{part.kind}, {shape}", va="center", fontsize=8)
            a.text(WIDTH, -ROW * i, f"{part.params:,}", va="center", ha="right", fontsize=8)
        a.text(2.25, ROW, "output of one example", va="center", fontsize=8)
        a.text(WIDTH, ROW, "parameters", va="center", ha="right", fontsize=8)
        for i, j in edges:
            if j - i == 1:
                _arrow(a, (BOXES, -ROW * i - 0.12), (BOXES, -ROW * j + 0.12))
            else:
                start, end = (BOXES - widths[part] / 2 for part in (i, j))
                away = min(start, end, 0.15 + 0.1 * (j - i))
                _arrow(a, (start, -ROW * i - 0.04), (end, -ROW * j + 0.04), away)

    return _inches("network", draw, -ROW * len(parts) + 0.1, ROW + 0.15)


def _inches(name: str, draw: Callable[[Axes], None], bottom: float, top: float) -> str:
    """A drawing whose units are inches, from 0 to `WIDTH`."""

    def within(a: Axes) -> None:
        a.set_in_layout(False)
        a.set_position((0, 0, 1, 1))
        a.axis("off")
        a.set(xlim=(0, WIDTH), ylim=(bottom, top))
        draw(a)

    return _svg(name, within, top - bottom)


def _box(a: Axes, centre: tuple[float, float], width: float, lines: Sequence[str]) -> None:
    from matplotlib.patches import FancyBboxPatch

    height, (x, y) = 2 * _half(lines), centre
    a.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06", linewidth=1,
            facecolor="#dfe8f5", edgecolor=STRONG,
        )
    )  # fmt: skip
    for i, line in enumerate(lines):
        a.text(
            x, y + 0.16 * ((len(lines) - 1) / 2 - i), line, ha="center", va="center", color="#101418",
            fontsize=min(9, 9 * width / (0.08 * max(1, len(line)))),
            weight="bold" if len(lines) > 1 and i == 0 else "normal",
        )  # fmt: skip


def _half(lines: Sequence[str]) -> float:
    """Half the height of a box with so many lines."""
    return 0.04 + 0.08 * len(lines)


def _arrow(a: Axes, start: tuple[float, float], end: tuple[float, float], away: float = 0.0) -> None:
    """An arrow downwards: straight, or around something, at its middle so far to the left (below 0: to the right)."""
    from matplotlib.patches import FancyArrowPatch

    a.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, linewidth=0.9, color=INK, shrinkA=0, shrinkB=0,
            connectionstyle=f"arc3,rad={2 * away / (start[1] - end[1]):.4f}",
        )
    )  # fmt: skip


def _graph(name: str, nodes: Mapping[str, Sequence[str]], edges: Sequence[tuple[str, str]]) -> str:
    """A graph with one node below the other; arrows that pass nodes go around them, to either side in turn."""
    middle, wide = WIDTH / 2, 1.9
    order, height = list(nodes), dict[str, float]()
    y = 0.0
    for node, lines in nodes.items():
        height[node] = y - _half(lines)
        y -= 2 * _half(lines) + 0.3
    spans = [order.index(target) - order.index(source) for source, target in edges]

    def draw(a: Axes) -> None:
        for node, lines in nodes.items():
            _box(a, (middle, height[node]), wide, lines)
        passing = 0
        for (source, target), span in zip(edges, spans, strict=True):
            start, end = _half(nodes[source]), _half(nodes[target])
            if span == 1:
                _arrow(a, (middle, height[source] - start), (middle, height[target] + end))
                continue
            passing += 1
            side = (-1) ** passing
            edge = middle - side * wide / 2
            away = 0.25 + 0.95 * (span - 1) / max(1, max(spans) - 1)
            _arrow(a, (edge, height[source] - start / 3), (edge, height[target] + end / 3), side * away)

    return _inches(f"graph-{name}", draw, y + 0.25, 0.05)


def _choices(picks: Mapping[str, Sequence[str]], every: Mapping[str, Sequence[str]]) -> str:
    begin, y = 1.75, 0.0
    placed: list[tuple[float, float, str, str]] = []
    for name, options in every.items():
        x = begin
        for option in options:
            if x > begin and x + _wide(option) > WIDTH:
                x, y = begin, y - 0.26
            placed.append((x + _wide(option) / 2, y, option, name))
            x += _wide(option) + 0.08
        y -= 0.3

    def draw(a: Axes) -> None:
        named: set[str] = set()
        for x, row, option, name in placed:
            if name not in named:
                a.text(0, row, name, va="center", fontsize=min(9, 9 * begin / (0.08 * len(name))))
                named.add(name)
            if option in picks.get(name, ()):
                _box(a, (x, row), _wide(option), [option])
            else:
                a.text(x, row, option, ha="center", va="center", fontsize=8, alpha=0.7)

    return _inches("choices", draw, y + 0.1, 0.2)


def _wide(option: str) -> float:
    """Inches of an option's name in a box."""
    return min(WIDTH - 1.75, 0.16 + 0.075 * len(option))
