"""Figures as SVG texts, and the colours of all figures.

Text stays text, and black becomes the colour of the page's text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


LETTERS = 11.5
"""Points of the smallest letters; at the width that a page gives a figure at the least they have 12 pixels."""


WIDTH = 4.6
"""Inches of a figure's width. On a phone, letters in it are then about as large as the text around it."""


INK = "#010203"
"""A placeholder for the colour of the page's text."""


PALE, STRONG, SECOND, THIRD = "#9aa5b1", "#3066be", "#d1495b", "#2e8b57"


COLOURS = {"Top": SECOND, "Small": THIRD, "Random": STRONG, "All On": "#8a8a8a", "Reference": "#b8860b"}


_PAGE = {INK: "currentColor", **{c: f"var(--c{c[1:]}, {c})" for c in (STRONG, SECOND, THIRD)}}
"""What colours become in the page, which has other ones for its dark mode."""


class Drawing(str):
    """A figure as the text of an SVG element, which notebooks show; `figure` draws the same with matplotlib.

    Attributes:
        name: of the figure, different from those of all others on a page.
    """

    name: str
    _draw: Callable[[Axes], None]
    _height: float

    def figure(self) -> Figure:
        """The same as a matplotlib figure, to be changed or saved in another format."""
        return _drawn(self._draw, self._height)

    def __repr__(self) -> str:
        return f"<figure {self.name}>"

    def _repr_svg_(self) -> str:
        return by_itself(self)


def svg(name: str, draw: Callable[[Axes], None], height: float = 3.6) -> Drawing:
    """A figure for a page.

    Args:
        name: of the figure, different from those of all others on the page.
        draw: draws on the axes.
        height: in inches.
    """
    import matplotlib as mpl

    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color")
    # The salt decides the ids of clipping paths, which have to differ between the figures of a page.
    style: Any = {**dict.fromkeys(coloured, INK), "svg.fonttype": "none", "svg.hashsalt": name}
    with mpl.rc_context(style):
        buffer = io.StringIO()
        _drawn(draw, height).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for colour, on_page in _PAGE.items():
        text = text.replace(colour, on_page)
    for side in ("width", "height"):  # the page decides them
        text = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", text, count=1)
    drawing = Drawing(text)
    drawing.name, drawing._draw, drawing._height = name, draw, height
    return drawing


def _drawn(draw: Callable[[Axes], None], height: float) -> Figure:
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    with mpl.rc_context({"font.size": LETTERS, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.subplots())
        for label in figure.findobj(Text):  # names of users: a $ in them does not begin a formula
            if isinstance(label, Text) and "$" in label.get_text() and "mathdefault" not in label.get_text():
                label.set_parse_math(False)
    return figure


def by_itself(svg: str) -> str:
    """A figure as a file by itself, with a colour for its text."""
    return svg.replace("currentColor", "#222")
