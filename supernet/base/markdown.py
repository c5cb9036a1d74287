"""Tables in Markdown, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table from a head and rows.

    Args:
        rows: the head first.
        left: number of columns that are aligned left; the others are aligned right.
    """
    line = ["---" if column < left else "---:" for column in range(len(rows[0]))]
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (rows[0], line, *rows[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
