"""The demonstration of the README: docs/demo.json and docs/demo.svg, from a finished run of `make demo`.

    python benchmarks/demo.py runs/fashion-60k

docs/demo.json keeps what `supernet show` prints of the run, its finalists, how many candidates have each score, and
what `supernet analyze` says. docs/demo.svg shows the scores, and the finalists' scores against their accuracies.
After it `python benchmarks/documents.py` writes the README's table.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

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
    group_of = {member: group for group, row in result["groups"].items() for member in row["members"]}
    finalists = [
        {"group": group_of[row["id"]], "score": row["score"], "validation": row["validation"][0]}
        for row in result["networks"]
        if row["score"] is not None  # references have none
    ]
    return {
        "commands": ["make demo", "python benchmarks/demo.py runs/fashion-60k"],
        "date": began["started"][:10],
        "machine": f"{began['machine']}, {began['cores']} cores",
        **{name: began[name] for name in ("python", "torch", "precision", "layout", "kernels")},
        "printed": printed.stdout.rstrip().splitlines(),
        "scores": dict(sorted(Counter(c.value for c in read_candidates(run / "candidates.sqlite", space)).items())),
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
    scores = [100 * float(score) for score, number in facts["scores"].items() for _ in range(number)]
    axes.hist(scores, bins=40, color=PALE)
    axes.set(
        title=f"scores of {len(scores):,} candidates", xlabel="one-shot validation accuracy (%)",
        ylabel="candidates",
    )  # fmt: skip


def draw_finalists(axes: Axes, facts: dict[str, Any]) -> None:
    for group in dict.fromkeys(row["group"] for row in facts["finalists"]):
        rows = [row for row in facts["finalists"] if row["group"] == group]
        x, y = ([100 * row[name] for row in rows] for name in ("score", "validation"))
        axes.plot(x, y, "o", color=COLOURS[group], label=group)
    for row in facts["references"]:
        axes.axhline(100 * row["validation"], color=REFERENCE, linestyle="--", label=f"{row['name']}, a reference")
    tau, n = facts["rank_correlation"]["kendall"], facts["rank_correlation"]["n"]
    axes.set(
        title=f"finalists from scratch (Kendall's tau {tau:.2f}, n = {n})", xlabel="one-shot validation accuracy (%)",
        ylabel="stand-alone validation accuracy (%)",
    )  # fmt: skip
    axes.legend(frameon=False)


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
