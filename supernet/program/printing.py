"""Facts about spaces and results, as data and as tables for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from supernet.base.randomness import stream
from supernet.export.reading import FILES
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.trust.tables import (
    band_rows,
    comparison_lines,
    metric_form,
    replay_rows,
    replay_text,
    result_rows,
    sizes_of,
    top_rows,
    trust_rows,
    unit_of,
    winner_text,
)

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


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
    columns = ("params", "params_without_norm", "macs")
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


def print_network(facts: dict[str, Any]) -> None:
    """Prints a known network: its settings, its text and its costs."""
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    _print_text(f"{facts['name']} in space {facts['space']}: {settings}")
    print(f"\n{facts['architecture']}\n")
    _print_text(
        f"{facts['params']:,} parameters, {facts['params_without_norm']:,} without those of norms; "
        f"{facts['macs']:,} multiply-adds for one image"
    )


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
    names = ("params_without_norm", "params", "macs")
    everything, sampled = facts["everything_on"], facts["sampled"]
    rows = {"everything on": [everything[name] for name in names]}
    rows["mean"] = [sampled[name]["mean"] for name in names]
    for q in sampled["params"]["quantiles"]:
        rows[f"{float(q):.0%} have less than"] = [sampled[name]["quantiles"][q] for name in names]
    forms = [unit_of([figures[i] for figures in rows.values()]) for i in range(len(names))]
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


def print_trained(rows: Sequence[dict[str, Any]]) -> None:
    """Prints candidates that were trained from scratch, with their validation metric."""
    table: list[tuple[str, ...]] = [("number", "score", "validation", "params", "id")]
    for row in rows:
        validation = ", ".join(f"{value:.4f}" for value in row["validation"]) or "-"
        table.append((str(row["number"]), f"{row['value']:.4f}", validation, f"{row['params']:,}", row["id"]))
    _print_table(table)
    _print_text("trained from scratch; the test split stayed closed")


def print_candidates(found: dict[str, Any]) -> None:
    """Prints what `supernet.program.score.top_candidates` found."""
    everyone = [row for band in found["bands"] for row in band]
    name, scale, digits = metric_form(found) if found["score"] == "metric" else ("nats", 1, 3)
    forms = {cost: unit_of([row[cost] for row in everyone]) for cost in ("params", "macs")}
    for band in found["bands"]:
        rows: list[tuple[str, ...]] = [
            (
                "number",
                f"score ({name})",
                "on",
                *(f"{cost} ({form[0]})" for cost, form in forms.items()),
                "ms",
                "MB",
                "id",
            )
        ]
        for row in band:
            doubt = "" if row["deviation"] is None else f" ± {row['deviation'] / scale:.{digits}f}"
            rows.append(
                (
                    str(row["number"]), f"{row['value'] / scale:.{digits}f}{doubt}", str(row["examples"]),
                    *(f"{row[cost] / size:.{places}f}" for cost, (_, size, places) in forms.items()),
                    "-" if row["latency"] is None else f"{row['latency'] * 1e3:.3f}",
                    "-" if row["memory"] is None else f"{row['memory'] / 1e6:.3f}",
                    row["id"],
                )
            )  # fmt: skip
        _print_table(rows)
    if "objectives" in found:
        _print_text(
            f"Pareto front of {', '.join(found['objectives'])}: {len(everyone)} of {found['of']:,} candidates; "
            f"hypervolume {found['hypervolume']:.3f} of the box between the worst and the best of each"
        )
    else:
        _print_text(f"the best of {found['of']:,} candidates; score ± its standard error; on: examples it was taken on")


def print_export(facts: dict[str, Any]) -> None:
    """Prints which files were exported and how they compare with the network."""
    metric = facts["metric"]
    unit, scale, digits = metric_form(facts)
    title = metric if unit == metric else f"{metric} ({unit})"
    table: list[tuple[str, ...]] = [("file", "largest difference", title, "one example (ms)")]
    for form, row in facts["parity"]["forms"].items():
        latency = f"{facts['latency_ms'][form]:.3g}"
        table.append((FILES[form], f"{row['difference']:.1e}", f"{row[metric] / scale:.{digits}f}", latency))
    _print_table(table)
    network = f"{facts['validation'] / scale:.{digits}f}"
    batches = ", ".join(map(str, facts["parity"]["sizes"]))
    _print_text(
        f"differences are shares of the largest output, for batches of {batches} and the whole validation split; the "
        f"network itself has {metric} {network}; weights {facts['weights']}"
    )
    if facts["folded"]:
        number, before, after = (facts["folded"][key] for key in ("batch_norms", "before_ms", "after_ms"))
        _print_text(f"{number} batch norms folded: one example takes {after:.3g} ms in place of {before:.3g}")


def print_result(result: dict[str, Any]) -> None:
    """Prints the groups as in the paper's Table 1, the winner, and how the two rankings agree."""
    name_of_metric = result.get("metric", "accuracy").rpartition(":")[2]
    taken_on = {
        "metric": "the validation split",
        "loss": "the validation split: negative loss",
        "kl": "training examples, without labels: negative divergence",
    }
    _print_table(result_rows(result))
    _print_text(
        "mean ± standard deviation over the n networks of a group; score: of the one-shot model on "
        + taken_on[result.get("score", "metric")]
        + "; valid. and test: of the networks trained from scratch"
    )
    text = winner_text(result)
    if text is not None:
        _print_text(text)
        print(f"  {result['networks'][0]['architecture']}")  # on one line, to be copied
    agreement = result["rank_correlation"]
    if agreement["kendall"] is not None:
        _print_text(
            f"one-shot score against validation {name_of_metric} of {agreement['n']} networks: "
            f"Kendall tau {agreement['kendall']:.2f} (95% of bootstrap samples: "
            f"{agreement['kendall_interval'][0]:.2f} to {agreement['kendall_interval'][1]:.2f}), "
            f"Spearman {agreement['spearman']:.2f}; the finalists are no random sample of the candidates"
        )
    _print_text(f"the test split was opened once, at {result['test_split']['opened']}")


def print_replay(found: dict[str, Any]) -> None:
    """Prints a replay."""
    _print_table(replay_rows(found))
    _print_text(replay_text(found))


def print_trust(found: dict[str, Any], more: dict[str, Any] | None = None) -> None:
    """Prints the verdict, and the figures behind it.

    Args:
        found: of `supernet.trust.correlation.trust`.
        more: the whole of `analysis.json`, where there is one.
    """
    more = more or {}
    _print_text(found["verdict"])
    print()
    _print_table(trust_rows(found, more))
    for rows in (top_rows(found), band_rows(found)):
        if len(rows) > 1:
            _print_table(rows)
    if more.get("best_rate") is not None:
        _print_text(f"best dropout rate: {more['best_rate']:g}")
    for line in comparison_lines((more.get("groups") or {}).get("differences", ())):
        _print_text(line)
    for name, table, lines in sizes_of(more):
        print(f"\nfinalists from scratch, {name}:\n")
        _print_table(table)
        for line in lines:
            _print_text(line)
    for row in more.get("diagnosis", ()):
        if row["found"]:
            _print_text(f"diagnosis: {row['name']} ({row['rule']}): {row['advice']}")


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
