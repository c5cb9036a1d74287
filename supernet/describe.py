"""Facts about spaces and results, as data and as tables for a terminal."""

from __future__ import annotations

from typing import Any

import numpy as np

from supernet.cost import cost_table
from supernet.randomness import stream
from supernet.space import Space

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe_space(space: Space, *, samples: int, seed: int) -> dict[str, Any]:
    """Choices, number of architectures, and costs of everything on and of architectures drawn uniformly."""
    table = cost_table(space)
    drawn = space.sample_distinct(min(samples, space.size), generator=stream(seed, "describe"))
    costs = table.costs(drawn)
    columns = ("params", "weights", "macs")
    return {
        "name": space.name,
        "settings": dict(space.settings),
        "choices": [{"name": c.name, "options": list(c.options), "max_picks": c.max_picks} for c in space.choices],
        "architectures": space.size,
        "everything_on": dict(zip(columns, table.costs([space.everything_on()])[0].tolist(), strict=True)),
        "sampled": {
            "number": len(drawn),
            **{
                name: {
                    "mean": float(costs[:, i].mean()),
                    "quantiles": {str(q): float(np.quantile(costs[:, i], q)) for q in QUANTILES},
                }
                for i, name in enumerate(columns)
            },
        },
        "example": str(drawn[0]),
    }


def print_space(facts: dict[str, Any]) -> None:
    """Prints what `describe_space` found."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    console.print(f"space {facts['name']}: {settings}")
    console.print(f"{facts['architectures']:,} architectures")
    choices = Table("choice", "picks", "options")
    for choice in facts["choices"]:
        picks = "1" if choice["max_picks"] == 1 else f"1 to {choice['max_picks']}"
        choices.add_row(choice["name"], picks, ", ".join(choice["options"]))
    console.print(choices)
    names = ("weights", "params", "macs")
    costs = Table("", "parameters (M)", "with batch norm (M)", "multiply-adds (M)")
    rows = {"everything on": [facts["everything_on"][name] for name in names]}
    rows["mean"] = [facts["sampled"][name]["mean"] for name in names]
    for q in facts["sampled"]["params"]["quantiles"]:
        rows[f"{float(q):.0%} of them below"] = [facts["sampled"][name]["quantiles"][q] for name in names]
    for label, figures in rows.items():
        costs.add_row(label, *(f"{value / 1e6:.3f}" for value in figures))
    console.print(costs)
    console.print(f"mean and quantiles of {facts['sampled']['number']:,} architectures drawn uniformly")
    console.print(f"an architecture as text: {facts['example']}")


def print_result(result: dict[str, Any]) -> None:
    """Prints the groups as in the paper's Table 1, the winner, and how the two rankings agree."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)

    def cell(figures: dict[str, float] | None, scale: float, digits: int) -> str:
        if figures is None:
            return "-"
        return f"{scale * figures['mean']:.{digits}f} ± {scale * figures['deviation']:.{digits}f}"

    table = Table("group", "networks", "params (M)", "MACs (M)", "score (%)", "validation (%)", "test (%)")
    for group, row in result["groups"].items():
        table.add_row(
            group,
            str(row["networks"]),
            cell(row.get("params"), 1e-6, 3),
            cell(row.get("macs"), 1e-6, 1),
            *(cell(row.get(name), 100, 2) for name in ("score", "validation", "test")),
        )
    console.print(table)
    console.print("mean ± standard deviation over the networks of a group; score: of the one-shot model, on validation")
    winner = result["networks"][0]
    means = {name: sum(winner[name]) / len(winner[name]) for name in ("validation", "test") if winner[name]}
    accuracies = ", ".join(f"{name} {100 * value:.2f} %" for name, value in means.items())
    console.print(f"winner: {winner['id']} ({winner['params'] / 1e6:.3f} M parameters, {accuracies})")
    console.print(f"  {winner['architecture']}")
    agreement = result["rank_correlation"]
    if agreement["kendall"] is not None:
        console.print(
            f"one-shot score against stand-alone validation accuracy of {agreement['n']} networks: "
            f"Kendall tau {agreement['kendall']:.2f}, Spearman {agreement['spearman']:.2f}"
        )
    console.print(f"the test split was opened once, at {result['test_split']['opened']}")
