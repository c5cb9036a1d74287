"""The demonstration of the README: docs/demo.json and docs/demo.svg, from a finished run of `make demo`.

    python benchmarks/demo.py runs/fashion-60k

docs/demo.json keeps what `supernet show` prints of the run, its heats and finalists, how many candidates have each
score, and what `supernet analyze` says. docs/demo.svg shows the scores, and the accuracies after each heat.
After it `python benchmarks/documents.py` writes the README's table.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from supernet.base.files import read_json, write_atomically, write_json
from supernet.draw.svg import COLOURS, PALE
from supernet.program.folder import open_run
from supernet.program.load import space_of_run
from supernet.search.table import read_candidates

REFERENCE = "#555555"
DOCS = Path(__file__).parents[1] / "docs"
SHOW = "import sys; from supernet.program.commands import main; sys.exit(main(sys.argv[1:]))"


def facts_of(run: Path) -> dict[str, Any]:
    """What the README needs of a finished and analysed run."""
    printed = subprocess.run([sys.executable, "-c", SHOW, "show", str(run)], check=True, capture_output=True, text=True)
    result, began = read_json(run / "results.json"), read_json(run / "environment.json")["train"]
    analysis = read_json(run / "analysis.json")
    space = space_of_run(open_run(run))
    groups = sorted(result["groups"].items(), key=lambda pair: pair[0] == "Top")  # what is in two groups counts as Top
    group_of = {member: group for group, row in groups for member in row["members"]}
    finalists = [
        {"id": row["id"], "group": group_of[row["id"]], "score": row["score"], "validation": row["validation"][0]}
        for row in result["networks"]
        if row["score"] is not None  # references have none
    ]
    return {
        "commands": ["make demo", "python benchmarks/demo.py runs/fashion-60k"],
        "date": began["started"][:10],
        "machine": f"{began['machine']}, {began['cores']} cores",
        **{name: began[name] for name in ("python", "torch", "precision", "layout", "kernels")},
        "printed": printed.stdout.rstrip().splitlines(),
        "scores": sorted(Counter(round(c.score, 4) for c in read_candidates(run / "candidates.sqlite", space)).items()),
        "heats": result["heats"],
        "steps": open_run(run).config.retrain.train.steps,
        "finalists": finalists,
        "references": [
            {"name": row["reference"], "validation": row["validation"][0]}
            for row in result["networks"]
            if row.get("reference")
        ],
        "against_reference": result["against_reference"],
        "rank_correlation": result["rank_correlation"],
        "trust": {name: analysis["trust"][name] for name in ("n", "repeats", "as_drawn", "ceiling", "verdict")},
    }


def draw_scores(axes: Axes, facts: dict[str, Any]) -> None:
    scores = np.array([score for score, number in facts["scores"] for _ in range(number)])
    lowest = np.quantile(scores, 0.02)  # some networks are far below all others
    axes.hist(scores[scores >= lowest], bins=40, color=PALE)
    for row in facts["heats"][0]["trained"]:
        axes.axvline(row["score"], color=COLOURS["Top"], linewidth=0.8, alpha=0.6)
    axes.set(
        title=f"scores of {len(scores):,} candidates; lines: the {len(facts['heats'][0]['trained'])} best",
        xlabel="negative loss with shared weights (nats)", ylabel="candidates",
    )  # fmt: skip


def draw_finalists(axes: Axes, facts: dict[str, Any]) -> None:
    """Validation accuracy after each heat and after the whole training."""
    heats, finalists = facts["heats"], facts["finalists"]
    by_id = {row["id"]: row for row in finalists}
    columns = [{row["id"]: 100 * row["validation"] for row in heat["trained"]} for heat in heats]
    columns.append({key: 100 * row["validation"] for key, row in by_id.items() if row["group"] == "Top"})
    for first, (before, after) in enumerate(itertools.pairwise(columns)):
        for key, value in after.items():
            axes.plot([first, first + 1], [before[key], value], color=PALE, linewidth=1)
    for place, column in enumerate(columns):
        axes.plot(
            [place] * len(column), list(column.values()), "o", color=COLOURS["Top"], label="Top" if place == 0 else None
        )
    last = len(columns) - 1
    random = [100 * row["validation"] for row in finalists if row["group"] == "Random"]
    axes.plot([last] * len(random), random, "o", color=COLOURS["Random"], label="Random")
    for row in facts["references"]:
        axes.plot(last, 100 * row["validation"], "D", color=REFERENCE, label=f"{row['name']}, the reference")
    winner = 100 * finalists[0]["validation"]
    axes.annotate("winner", (last, winner), (last - 0.12, winner), ha="right", va="center")
    steps = [*(f"{heat['steps']} steps" for heat in heats), f"{facts['steps']} steps"]
    axes.set_xticks(range(len(columns)), steps)
    axes.set(title="trainings from scratch", ylabel="validation accuracy (%)")
    axes.legend(frameon=False, loc="lower right")


def draw(facts: dict[str, Any], path: Path) -> None:
    style: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "demo", "font.size": 9, "axes.titlesize": 10,
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    with rc_context(style):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        draw_scores(left, facts)
        draw_finalists(right, facts)
        write_atomically(
            path, lambda file: figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, after supernet analyze")
    write_json(DOCS / "demo.json", facts_of(parser.parse_args().run))
    draw(read_json(DOCS / "demo.json"), DOCS / "demo.svg")


if __name__ == "__main__":
    main()
