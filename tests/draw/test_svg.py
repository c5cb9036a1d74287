"""Figures as SVG texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from supernet.draw.svg import INK, STRONG, by_itself, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def line(axes: Axes) -> None:
    axes.plot([1, 2], [3, 4], color=INK)
    axes.plot([1, 2], [4, 3], color=STRONG)
    axes.set(xlabel="some text")


def test_text_stays_text_and_black_is_the_colour_of_the_page() -> None:
    text = svg("figure", line)
    assert text.startswith("<svg") and ">some text<" in text
    assert INK not in text and "currentColor" in text
    assert f"var(--c{STRONG[1:]}, {STRONG})" in text
    head = text[: text.index(">")]
    assert "viewBox" in head and " width=" not in head and " height=" not in head


def test_equal_figures_are_equal_texts_and_ids_differ_by_name() -> None:
    assert svg("one", line) == svg("one", line)
    ids = [set(re.findall(r'clipPath id="([^"]+)"', svg(name, line))) for name in ("one", "other")]
    assert ids[0] and not ids[0] & ids[1]


def test_a_figure_by_itself_needs_no_page() -> None:
    assert "currentColor" not in by_itself(svg("figure", line))


def test_a_figure_is_a_matplotlib_figure_too() -> None:
    drawing = svg("figure", line)
    assert drawing.name == "figure" and drawing._repr_svg_() == by_itself(drawing)
    (axes,) = drawing.figure().axes
    assert axes.get_xlabel() == "some text" and len(axes.lines) == 2
