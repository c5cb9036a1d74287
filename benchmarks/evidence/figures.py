"""Recipes side by side: Kendall's tau of their scores with the truth, and where 95 % of bootstrap samples lie.

    python benchmarks/evidence/figures.py RESULTS

RESULTS is the folder with nasbench201.json and macro.json; the figures go there too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from one_shot import row_with_bonus

from supernet.base.files import read_json, write_atomically
from supernet.draw.svg import PALE, SECOND, STRONG

WAYS = {"alone": STRONG, "as a search ranks": SECOND}
"""Colours of the two: the loss by itself, and with `size_bonus` 0.1."""

FACTORS = {
    "factor": "the recipe, smaller",
    "factor, another processor": "another processor",
    "factor, seed 1": "seed 1",
    "factor, 1 path, longer": "1 path, equal time",
    "factor, 1 path": "1 path, equal steps",
    "factor, 8 paths": "8 paths",
    "factor, fair": "fair paths",
    "factor, path dropout": "path dropout, rising",
    "factor, path dropout, constant": "path dropout, constant",
    "factor, everything on first": "everything on first",
    "factor, averages": "no batch statistics",
    "factor, all decayed": "all weights decayed",
    "factor, decay 5e-5": "decay 5e-5",
    "factor, affine": "scales and offsets",
    "factor, no average": "last weights, no mean",
    "factor, 12 pixels": "12 pixels",
    "factor, 12 pixels, longer": "12 pixels, twice as long",
    "factor, 32 pixels": "32 pixels",
    "factor, tuned": "each candidate tuned",
}
MACRO = {
    "uniform": "the recipe, shorter",
    "uniform, seed 1": "seed 1",
    "1 path, longer": "1 path, equal time",
    "1 path": "1 path, equal steps",
    "fair": "fair paths",
    "dropout": "path dropout",
    "everything-on-first": "everything on first",
    "averages": "no batch statistics",
    "rate 0.1, no average": "rate 0.1, no mean",
}


def plot(found: dict[str, Any], names: dict[str, str], size: str, path: Path) -> None:
    """One row for each recipe that there is a result of, and a line where size alone is."""
    names = {name: label for name, label in names.items() if name in found}
    places = range(len(names), 0, -1)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem, "font.size": 10}):
        figure = Figure(figsize=(6.4, 0.8 + 0.3 * len(names)), layout="constrained")
        axes = figure.subplots()
        axes.axvline(found[size]["tau"], color=PALE, label="size alone")
        for (way, colour), key, up in zip(WAYS.items(), ("loss", row_with_bonus("loss")), (0.12, -0.12), strict=True):
            rows = [found[name][key]["alone"] if key == "loss" else found[name][key] for name in names]
            taus = [row["tau"] for row in rows]
            around = [
                [tau - row["interval"][0] for tau, row in zip(taus, rows, strict=True)],
                [row["interval"][1] - tau for tau, row in zip(taus, rows, strict=True)],
            ]
            heights = [place + up for place in places]
            axes.errorbar(taus, heights, xerr=around, fmt="o", color=colour, markersize=4, elinewidth=1, label=way)
        axes.set_yticks(list(places), list(names.values()))
        axes.set_xlabel("Kendall's tau with the truth")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        write_atomically(
            path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, metavar="RESULTS")
    folder = parser.parse_args().results
    plot(read_json(folder / "nasbench201.json"), FACTORS, "size alone", folder / "nasbench201_factors.svg")
    plot(read_json(folder / "macro.json"), MACRO, "macs alone", folder / "macro_recipes.svg")


if __name__ == "__main__":
    main()
