"""Draws what a finished run found: the candidates' scores, and scores against stand-alone accuracies.

python examples/picture.py RUN_FOLDER PICTURE.svg
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from supernet.base.files import read_json

COLOURS = {"Top": "#d1495b", "Small": "#2e8b57", "Random": "#3066be", "All On": "#777777"}
"""Of the groups that have scores; references have none."""


def main(folder: Path, picture: Path) -> None:
    result = read_json(folder / "results.json")
    with closing(sqlite3.connect(folder / "candidates.sqlite")) as table:
        scores = [100 * score for (score,) in table.execute("SELECT value FROM candidates")]
    networks = {row["id"]: row for row in result["networks"]}
    mpl.rcParams.update({"svg.hashsalt": "supernet", "font.size": 10, "svg.fonttype": "none"})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    left.hist(scores, bins=40, color="#cccccc")
    left.set(xlabel="one-shot accuracy on validation (%)", ylabel="candidates")
    left.set_title(f"scores of {len(scores):,} candidates")
    for group, row in result["groups"].items():
        if group not in COLOURS:
            continue
        members = [networks[member] for member in row["members"]]
        ones = [100 * member["score"] for member in members]
        alone = [100 * sum(member["validation"]) / len(member["validation"]) for member in members]
        left.plot(ones, [-0.02 * left.get_ylim()[1]] * len(ones), "^", color=COLOURS[group], clip_on=False)
        right.plot(ones, alone, "o", color=COLOURS[group], label=group, alpha=0.85)
    agreement = result["rank_correlation"]
    right.set(xlabel="one-shot accuracy on validation (%)", ylabel="stand-alone accuracy\non validation (%)")
    tau = "not defined" if agreement["kendall"] is None else f"{agreement['kendall']:.2f}"
    right.set_title(f"finalists from scratch (Kendall tau {tau}, n = {agreement['n']})")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/picture.py RUN_FOLDER PICTURE.svg")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
