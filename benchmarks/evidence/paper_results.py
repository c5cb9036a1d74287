"""What a run of the paper's experiments (paper.sh) found, small enough to keep: one JSON file and the figures.

    python benchmarks/evidence/paper_results.py RUN FOLDER

Writes FOLDER/paper.json, and as SVG the figures that the paper numbers 4 (one for each rate), 5, 6 and 7.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from supernet.base.files import read_json, write_json, write_text
from supernet.draw import plots as draw
from supernet.draw.svg import by_itself
from supernet.draw.units import Unit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    found = read_json(chosen.run / "analysis.json")
    points, metric = found["points"], Unit.of(found["metric"])
    score = Unit.of(found["metric"], found["score"])
    figures = {
        "fig5": draw.predicts(points, metric, score),
        "fig6": draw.divergence(points, score),
        "fig7": draw.course(points, found["divergence"], score),
        **{f"fig4_{row['rate']:g}": draw.sweep(points, row, metric, score) for row in found["sweep"]},
    }
    for name, svg in figures.items():
        write_text(chosen.folder / f"paper_{name}.svg", by_itself(svg))
    candidates = {key: found["candidates"][key] for key in ("number", "size_bias")}
    config = re.sub("path: .*", "path: CIFAR10", (chosen.run / "config.yaml").read_text())
    write_json(chosen.folder / "paper.json", {**found, "candidates": candidates, "config": config})


if __name__ == "__main__":
    main()
