"""Drawings of cells, of networks and of what an architecture picks."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from supernet.draw.parts import Part
from supernet.draw.svg import INK, LETTERS, STRONG, WIDTH, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Graph = tuple[dict[str, list[str]], list[tuple[str, str]]]
"""Lines of text of each node of a cell, and arrows as (from, to)."""


def arrows(picks: Mapping[str, Sequence[str]]) -> dict[str, Graph]:
    """The cells of an architecture as graphs, read from the names of its choices.

    Three kinds of names are understood: ``NODE.inputs`` with ``NODE.ops``; ``edgeA-B``; and ``CELL.nodeN.inputs`` with
    ``CELL.nodeN.opI``, whose inputs I are numbers: the outputs of the two cells before, then the cell's nodes.

    Args:
        picks: options picked, by choice.

    Returns:
        Graphs by the names of the cells; empty for all other names.
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
    outside = [source for block in blocks for source in picks[f"{block}.inputs"] if source not in blocks]
    lines = {**{name: [name] for name in outside}, **{block: [block, *picks[f"{block}.ops"]] for block in blocks}}
    return {"cell": (lines, [(source, block) for block in blocks for source in picks[f"{block}.inputs"]])}


def _numbered(cell: str, picks: Mapping[str, Sequence[str]]) -> Graph:
    """The graph of one cell whose inputs have numbers."""
    of_cell = {tuple(name.split(".")[1:]): picked for name, picked in picks.items() if name.startswith(f"{cell}.")}
    nodes = ["before", "last", *dict.fromkeys(node for node, _ in of_cell)]
    operations = {(node, kind.removeprefix("op")): p for (node, kind), p in of_cell.items() if kind != "inputs"}
    return _operations(nodes, [(nodes[int(source)], node, picked) for (node, source), picked in operations.items()])


def _operations(nodes: Iterable[str], edges: Sequence[tuple[str, str, Sequence[str]]]) -> Graph:
    """A cell with operations on its arrows; they are written at the node that an arrow points to."""
    drawn = [(source, target, "+".join(picked)) for source, target, picked in edges if "none" not in picked]
    lines = {node: [node] for node in nodes}
    for source, target, text in drawn:
        lines[target].append(f"{text} of {source}")
    return lines, [(source, target) for source, target, _ in drawn]


def cells(picks: Mapping[str, Sequence[str]], options: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The cells of an architecture as graphs; if it has none, its choices with the options that it picks.

    Args:
        picks: options picked, by choice.
        options: all options, by choice.

    Returns:
        Figures by their names.
    """
    graphs = arrows(picks)
    return {name: _graph(name, *graph) for name, graph in graphs.items()} or {"choices": _choices(picks, options)}


ROW, BOXES = 0.5, 0.75
"""Inches from part to part of a network, and from the left to the middle of its boxes."""

_CHARACTER = 0.0088
"""Inches that a letter takes, for each point of its size."""


def network(parts: Sequence[Part]) -> str:
    """The parts of a network from top to bottom; the fewer pixels (positions) an output has, the narrower its box."""
    pixels = [math.prod(part.shape[1:]) for part in parts]
    most = math.log(max(2, *pixels))
    # A part without a source reads the output of the part before in a changed form.
    edges = [(i, j) for j, part in enumerate(parts) for i in (part.sources or ((j - 1,) if j else ()))]

    widths = [0.3 + 0.6 * math.log(max(1, size)) / most for size in pixels]

    def draw(axes: Axes) -> None:
        for i, (part, width) in enumerate(zip(parts, widths, strict=True)):
            _box(axes, (BOXES, -ROW * i), width, [""])
            shape = " x ".join(map(str, part.shape)) or "-"
            for line, y in ((f"{part.name}: {part.kind}", 0.1), (f"{shape}; {part.params:,} parameters", -0.1)):
                axes.text(1.35, y - ROW * i, line, va="center", fontsize=_letters(line, WIDTH - 1.35))
        for i, j in edges:
            if j - i == 1:
                _arrow(axes, (BOXES, -ROW * i - 0.12), (BOXES, -ROW * j + 0.12))
            else:
                start, end = (BOXES - widths[part] / 2 for part in (i, j))
                away = min(start, end, 0.15 + 0.1 * (j - i))
                _arrow(axes, (start, -ROW * i - 0.04), (end, -ROW * j + 0.04), away)

    return _inches("network", draw, -ROW * len(parts) + 0.2, 0.3)


def _inches(name: str, draw: Callable[[Axes], None], bottom: float, top: float) -> str:
    """A drawing whose units are inches, from 0 to `WIDTH`."""

    def in_inches(axes: Axes) -> None:
        axes.set_in_layout(False)
        axes.set_position((0, 0, 1, 1))
        axes.axis("off")
        axes.set(xlim=(0, WIDTH), ylim=(bottom, top))
        draw(axes)

    return svg(name, in_inches, top - bottom)


def _box(axes: Axes, centre: tuple[float, float], width: float, lines: Sequence[str]) -> None:
    from matplotlib.patches import FancyBboxPatch

    height, (x, y) = 2 * _half(lines), centre
    axes.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.06", linewidth=1,
            facecolor="#dfe8f5", edgecolor=STRONG,
        )
    )  # fmt: skip
    for i, line in enumerate(lines):
        axes.text(
            x, y + 0.19 * ((len(lines) - 1) / 2 - i), line, ha="center", va="center", color="#101418",
            fontsize=_letters(line, width),
            weight="bold" if len(lines) > 1 and i == 0 else "normal",
        )  # fmt: skip


def _letters(text: str, width: float) -> float:
    """The size of letters in points, smaller if a text would be wider than this many inches."""
    return min(LETTERS, width / (_CHARACTER * max(1, len(text))))


def _half(lines: Sequence[str]) -> float:
    """Half the height of a box with these lines, in inches."""
    return 0.04 + 0.095 * len(lines)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], away: float = 0.0) -> None:
    """An arrow downwards, straight or bent to the left by `away` inches at its middle (below 0: to the right)."""
    from matplotlib.patches import FancyArrowPatch

    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=8, linewidth=0.9, color=INK, shrinkA=0, shrinkB=0,
            connectionstyle=f"arc3,rad={2 * away / (start[1] - end[1]):.4f}",
        )
    )  # fmt: skip


def _graph(name: str, nodes: Mapping[str, Sequence[str]], edges: Sequence[tuple[str, str]]) -> str:
    """A graph, its nodes one below the other; arrows that pass nodes go around them, left and right in turn."""
    middle, wide = WIDTH / 2, 1.9
    most = int(wide / (_CHARACTER * LETTERS))  # letters in a line, which do not become smaller
    nodes = {node: [part for line in lines for part in textwrap.wrap(line, most)] for node, lines in nodes.items()}
    order, height = list(nodes), dict[str, float]()
    y = 0.0
    for node, lines in nodes.items():
        height[node] = y - _half(lines)
        y -= 2 * _half(lines) + 0.3
    spans = [order.index(target) - order.index(source) for source, target in edges]

    def draw(axes: Axes) -> None:
        for node, lines in nodes.items():
            _box(axes, (middle, height[node]), wide, lines)
        passing = 0
        for (source, target), span in zip(edges, spans, strict=True):
            start, end = _half(nodes[source]), _half(nodes[target])
            if span == 1:
                _arrow(axes, (middle, height[source] - start), (middle, height[target] + end))
                continue
            passing += 1
            side = (-1) ** passing
            edge = middle - side * wide / 2
            away = 0.25 + 0.95 * (span - 1) / max(1, max(spans) - 1)
            _arrow(axes, (edge, height[source] - start / 3), (edge, height[target] + end / 3), side * away)

    return _inches(f"graph-{name}", draw, y + 0.25, 0.05)


def _choices(picks: Mapping[str, Sequence[str]], options: Mapping[str, Sequence[str]]) -> str:
    """All choices with their options, those that are picked in boxes."""
    begin, y = 1.75, 0.0
    placed: list[tuple[float, float, str, str]] = []
    for name, all_options in options.items():
        x = begin
        for option in all_options:
            if x > begin and x + _wide(option) > WIDTH:
                x, y = begin, y - 0.3
            placed.append((x + _wide(option) / 2, y, option, name))
            x += _wide(option) + 0.08
        y -= 0.34

    def draw(axes: Axes) -> None:
        labelled: set[str] = set()
        for x, row, option, name in placed:
            if name not in labelled:
                axes.text(0, row, name, va="center", fontsize=_letters(name, begin))
                labelled.add(name)
            if option in picks.get(name, ()):
                _box(axes, (x, row), _wide(option), [option])
            else:
                axes.text(x, row, option, ha="center", va="center", fontsize=LETTERS, alpha=0.7)

    return _inches("choices", draw, y + 0.1, 0.2)


def _wide(option: str) -> float:
    """Inches that an option's name takes in a box."""
    return min(WIDTH - 1.75, 0.16 + _CHARACTER * LETTERS * len(option))
