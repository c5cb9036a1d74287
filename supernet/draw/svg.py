"""A figure as an SVG text, and the colours of all of them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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


def svg(name: str, draw: Callable[[Axes], None], height: float = 3.2) -> str:
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
