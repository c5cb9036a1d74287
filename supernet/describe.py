"""Facts about spaces and results, as data and as tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from supernet.cost import cost_table
from supernet.randomness import stream
from supernet.space import Space

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
RESULT_KEYS = ("groups", "networks", "rank_correlation", "test_split")
"""What the result of a run holds."""


def describe_space(space: Space, *, samples: int, seed: int) -> dict[str, Any]:
    """Choices, number of architectures, and costs of everything on and of architectures drawn uniformly.

    Raises:
        ValueError: fewer than one to draw.
    """
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
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
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    _print_text(f"space {facts['name']}: {settings}")
    print(f"{facts['architectures']:,} architectures\n")
    choices: list[tuple[str, ...]] = [("choice", "picks", "options")]
    for choice in facts["choices"]:
        picks = "1" if choice["max_picks"] == 1 else f"1 to {choice['max_picks']}"
        choices.append((choice["name"], picks, ", ".join(choice["options"])))
    _print_table(choices, left=3)
    names = ("weights", "params", "macs")
    everything, sampled = facts["everything_on"], facts["sampled"]
    rows = {"everything on": [everything[name] for name in names]}
    rows["mean"] = [sampled[name]["mean"] for name in names]
    for q in sampled["params"]["quantiles"]:
        rows[f"{float(q):.0%} have less than"] = [sampled[name]["quantiles"][q] for name in names]
    forms = [_unit([figures[i] for figures in rows.values()]) for i in range(len(names))]
    titles = ("weights", "params", "MACs")
    costs: list[tuple[str, ...]] = [
        ("", *(f"{title} ({unit})" for title, (unit, _, _) in zip(titles, forms, strict=True)))
    ]
    for label, figures in rows.items():
        cells = (f"{value / scale:.{digits}f}" for value, (_, scale, digits) in zip(figures, forms, strict=True))
        costs.append((label, *cells))
    _print_table(costs)
    _print_text(
        f"mean and quantiles of {sampled['number']:,} architectures drawn uniformly; weights: of convolutions and the "
        "classifier; params: all parameters; MACs: multiply-adds for one image"
    )
    print(f"an architecture as text:\n{facts['example']}")


def print_result(result: dict[str, Any]) -> None:
    """Prints the groups as in the paper's Table 1, the winner, and how the two rankings agree."""
    groups, metric = result["groups"], result.get("metric", "accuracy")
    name_of_metric = metric.rpartition(":")[2]
    form = ("%", 0.01, 2) if metric == "accuracy" else (name_of_metric, 1, 4)
    titles = {"params": "params", "macs": "MACs", "score": "score", "validation": "valid.", "test": "test"}
    forms = dict.fromkeys(("score", "validation", "test"), form)
    for name in ("params", "macs"):
        forms[name] = _unit([row[name]["mean"] for row in groups.values()])

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row:
            return "-"
        _, scale, digits = forms[name]
        mean = f"{row[name]['mean'] / scale:.{digits}f}"
        return mean if row["networks"] == 1 else f"{mean} ± {row[name]['deviation'] / scale:.{digits}f}"

    table = [("group", "n", *(f"{title} ({forms[name][0]})" for name, title in titles.items()))]
    table += [(group, str(row["networks"]), *(cell(row, name) for name in titles)) for group, row in groups.items()]
    _print_table(table)
    _print_text(
        "mean ± standard deviation over the n networks of a group; score: of the one-shot model on the validation "
        "split; valid. and test: of the networks trained from scratch"
    )
    winner = result["networks"][0] if result["networks"] else {}
    if "rank" in winner:  # All On alone has none
        by = f"validation {name_of_metric}" if winner["validation"] else "one-shot score"
        means = {name: sum(winner[name]) / len(winner[name]) for name in ("validation", "test") if winner[name]}
        sign = "%" if form[0] == "%" else ""
        accuracies = ", ".join(f"{name} {value / form[1]:.{form[2]}f}{sign}" for name, value in means.items())
        unit, scale, digits = _unit([winner["params"]])
        _print_text(
            f"winner by {by}: {winner['id']} ({winner['params'] / scale:.{digits}f} {unit} parameters, {accuracies})"
        )
        print(f"  {winner['architecture']}")  # on one line, to be copied
    agreement = result["rank_correlation"]
    if agreement["kendall"] is not None:
        _print_text(
            f"one-shot score against validation {name_of_metric} of {agreement['n']} networks: "
            f"Kendall tau {agreement['kendall']:.2f} (95% of bootstrap samples: "
            f"{agreement['kendall_interval'][0]:.2f} to {agreement['kendall_interval'][1]:.2f}), "
            f"Spearman {agreement['spearman']:.2f}; the finalists are no random sample of the candidates"
        )
    _print_text(f"the test split was opened once, at {result['test_split']['opened']}")


def _unit(values: list[float]) -> tuple[str, float, int]:
    """Name, size and decimals of the unit in which the largest of the values has three digits or more."""
    largest = max(values, default=0)
    name, scale = next(((n, s) for n, s in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if largest >= s), ("k", 1e3))
    return name, scale, 2 if largest < 10 * scale else 1


def _print_table(rows: Sequence[tuple[str, ...]], left: int = 1) -> None:
    """Prints a head and rows for 80 columns: the first `left` columns aligned left, only the last of them may wrap."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        start = "  ".join(cells[:-1])
        if left == len(row):
            print(textwrap.fill(row[-1], 79, initial_indent=f"{start}  ", subsequent_indent=(len(start) + 2) * " "))
        else:
            print(f"{start}  {cells[-1]}")
        if number == 0:
            print("-" * min(79, sum(widths) + 2 * (len(widths) - 1)))
    print()


def _print_text(text: str) -> None:
    print(textwrap.fill(text, 79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
