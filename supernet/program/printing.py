"""Facts about a space as data, and tables of spaces and results for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from supernet.base.randomness import stream
from supernet.draw.units import SizeUnit, Unit
from supernet.export.card import run_text
from supernet.export.reading import FILES
from supernet.program.pilot import plan_lines
from supernet.program.plan import duration
from supernet.space.choices import Space
from supernet.space.cost import cost_table
from supernet.trust.points import table_lines
from supernet.trust.tables import (
    best_rate_text,
    comparison_lines,
    failed_text,
    heats_text,
    opening_text,
    parts_text,
    refined_text,
    replay_rows,
    replay_text,
    result_rows,
    size_tables,
    tested_sizes,
    top_rows,
    trust_rows,
    units_of,
    unscored_text,
    winner_text,
)
from supernet.trust.verdict import FEW

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def describe_space(space: Space, *, samples: int, seed: int) -> dict[str, Any]:
    """The choices of a space, its number of architectures, and costs of everything on and of a uniform sample.

    Args:
        space: the space.
        samples: number of architectures drawn, at least 1; at most all of the space are.
        seed: of the draw.

    Raises:
        ValueError: `samples` is below 1.
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
                    "quantiles": {str(q): float(np.quantile(costs[:, i], q)) for q in _QUANTILES},
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
    """Prints the facts of `describe_space`."""
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items())
    _print_text(f"space {facts['name']}: {settings}")
    print(f"{facts['architectures']:,} architectures\n")
    choices: list[tuple[str, ...]] = [("choice", "picks", "options")]
    for choice in facts["choices"]:
        picks = "1" if choice["max_picks"] == 1 else f"1 to {choice['max_picks']}"
        choices.append((choice["name"], picks, ", ".join(choice["options"])))
    _print_table(choices, left=3)
    titles = {"params_without_norm": "without norm", "params": "params", "macs": "MACs"}
    everything, sampled = facts["everything_on"], facts["sampled"]
    rows = {"everything on": everything, "mean": {name: sampled[name]["mean"] for name in titles}}
    for q in sampled["params"]["quantiles"]:
        rows[f"{float(q):.0%} have less than"] = {name: sampled[name]["quantiles"][q] for name in titles}
    units = {name: SizeUnit.of([row[name] for row in rows.values()]) for name in titles}
    head = ("", *(f"{title} ({units[name].short})" for name, title in titles.items()))
    _print_table([head] + [(label, *(units[name].number(row[name]) for name in titles)) for label, row in rows.items()])
    _print_text(
        f"mean and quantiles of {sampled['number']:,} architectures drawn uniformly; params: all parameters; without "
        "norm: those of convolutions and linear layers; MACs: multiply-adds for one example"
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


def print_candidates(top: dict[str, Any]) -> None:
    """Prints the candidates of `supernet.program.score.top_candidates`."""
    candidates = [row for band in top["bands"] for row in band]
    metric, score = units_of(top)
    sizes = {cost: SizeUnit.of([row[cost] for row in candidates]) for cost in ("params", "macs")}
    titles = (f"{cost} ({unit.short})" for cost, unit in sizes.items())
    is_joined = any(row.get("joint") is not None and row["value"] is not None for row in candidates)
    plain = ["one-shot score"] if is_joined else []
    predicted = [f"predicted ({metric.short})"] if "refined" in top else []
    head = ("number", *predicted, f"score ({score.short})", *plain, "on", *titles, "ms", "MB", "id")
    for band in top["bands"]:
        _print_table([head, *(_candidate_cells(row, metric, score, sizes) for row in band)])
    if "objectives" in top:
        _print_text(
            f"Pareto front of {', '.join(top['objectives'])}: {len(candidates)} of {top['of']:,} candidates; "
            f"hypervolume {top['hypervolume']:.3f} of the box between the worst and the best of each"
        )
    else:
        error = "" if top["score"] == "rank" else " ± its standard error"
        _print_text(f"the best of {top['of']:,} candidates; score{error}; on: examples it was taken on")
    if "refined" in top:
        _print_text(refined_text(top["refined"]))
    if "failed" in top:
        _print_text(unscored_text(top["failed"]))


def _candidate_cells(row: dict[str, Any], metric: Unit, score: Unit, sizes: dict[str, SizeUnit]) -> tuple[str, ...]:
    joint = row.get("joint")
    error = "" if row["deviation"] is None or joint is not None else f" ± {score.number(row['deviation'])}"
    plain = () if joint is None or (row["value"] is None and "error" not in row) else (_plain(row["value"]),)
    predicted: tuple[str, ...] = ()
    if "predicted" in row:
        predicted = (f"{metric.number(row['predicted'])} ± {metric.number(row['predicted_deviation'])}",)
    return (
        str(row["number"]),
        *predicted,
        "failed" if "error" in row else score.number(row["value"] if joint is None else joint) + error,
        *plain,
        str(row["examples"]),
        *(unit.number(row[cost]) for cost, unit in sizes.items()),
        "-" if row["latency"] is None else f"{row['latency'] * 1e3:.3f}",
        "-" if row["memory"] is None else f"{row['memory'] / 1e6:.3f}",
        row["id"],
    )


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def print_refined(facts: dict[str, Any]) -> None:
    """Prints what trainings taught, and what follows for the finalists."""
    _print_text(refined_text(facts))
    if "promise" in facts:
        metric = Unit.of(facts["metric"])
        noise = f"{metric.number(facts['noise'])}, by {facts['noise_from']}" if facts["noise"] else "unknown"
        _print_text(
            f"in {metric.label}: the best candidate that was not trained is expected to exceed the best that was by "
            f"{metric.number(facts['promise'])}; the others are known to ± {metric.number(facts['unknown'])} (median); "
            f"noise of a training: {noise}"
        )
    lengths = ", ".join(f"{number} of {int(steps):,} steps" for steps, number in facts["trainings"].items())
    _print_text(f"trainings: {lengths or 'none'}; the test split stayed closed; finalists: {facts['finalists']}")


def print_export(facts: dict[str, Any]) -> None:
    """Prints the exported files and how far each differs from the network."""
    metric, _ = units_of(facts)
    table: list[tuple[str, ...]] = [("file", "largest difference", metric.label, "one example (ms)")]
    for form, row in facts["parity"]["forms"].items():
        latency = f"{facts['latency_ms'][form]:.3g}"
        table.append((FILES[form], f"{row['difference']:.1e}", metric.number(row[metric.name]), latency))
    _print_table(table)
    batches = ", ".join(map(str, facts["parity"]["sizes"]))
    _print_text(
        f"largest difference: as a share of the largest output, over batches of {batches} and the whole validation "
        f"split; {metric.name} of the network itself: {metric.number(facts['validation'])}; weights: {facts['weights']}"
    )
    if (text := run_text(facts)) is not None:
        _print_text(f"{metric.name} of these weights in the run: {text}")
    if facts["folded"]:
        number, before, after = (facts["folded"][key] for key in ("batch_norms", "before_ms", "after_ms"))
        _print_text(f"{number} batch norms folded: one example takes {after:.3g} ms instead of {before:.3g}")


def print_result(result: dict[str, Any]) -> None:
    """Prints the groups as in the paper's Table 1, the winner, and how well the two rankings agree."""
    metric, _ = units_of(result)
    scores = {
        "metric": "of the one-shot model on the validation split",
        "loss": "of the one-shot model on the validation split: negative loss",
        "kl": "of the one-shot model on training examples, without labels: negative divergence",
        "rank": "the joint rank of search.rank, in which random architectures are spread evenly from 0 to 1",
    }
    if "against_reference" in result:
        _print_text(result["against_reference"]["text"])
        print()
    _print_table(result_rows(result))
    _print_text(
        "mean ± standard deviation over the n networks of a group; score: "
        + scores[result.get("score", "metric")]
        + "; valid. and test: of the networks trained from scratch"
    )
    unscored = unscored_text(result["unscored"]) if result.get("unscored") else None
    for text in (heats_text(result), failed_text(result), unscored):
        if text is not None:
            _print_text(text)
    if "refined" in result:
        _print_text(f"candidates are {refined_text(result['refined'])}")
    for name, table in tested_sizes(result):
        print(f"\nfinalists at {name}, tested with the others:\n")
        _print_table(table)
    text = winner_text(result)
    if text is not None:
        _print_text(text)
        print(f"  {result['networks'][0]['architecture']}")  # on one line, to be copied
    agreement = result["rank_correlation"]
    if agreement["kendall"] is not None and agreement["n"] >= FEW and agreement["kendall_interval"]:
        _print_text(
            f"one-shot score against validation {metric.name} of {agreement['n']} networks: "
            f"Kendall tau {agreement['kendall']:.2f} ({agreement['kendall_interval'][0]:.2f} to "
            f"{agreement['kendall_interval'][1]:.2f}), Spearman {agreement['spearman']:.2f}; the finalists are no "
            "random sample of the candidates"
        )
    _print_text(opening_text(result["test_split"]))
    if result.get("times"):
        _print_text("; ".join(_time_texts(result["times"])))
    for line in result.get("advice", ()):
        _print_text(line)


def _time_texts(times: Mapping[str, Mapping[str, float]]) -> list[str]:
    """What each step took beside what was planned; see `supernet.program.folder.planned_and_taken`."""
    return [f"{name} took {duration(row['taken'])}, planned {duration(row['planned'])}" for name, row in times.items()]


def print_findings(findings: Sequence[Mapping[str, str]]) -> None:
    """Prints what `supernet doctor` looked at, what is wrong with a mark before it."""
    marks = {"ok": " ", "note": "-", "wrong": "!"}
    width = max(len(finding["what"]) for finding in findings)
    for finding in findings:
        start = f"{marks[finding['state']]} {finding['what']:{width}}  "
        print(textwrap.fill(start + finding["text"], 98, subsequent_indent=" " * len(start), break_on_hyphens=False))


def print_replay(replay: dict[str, Any]) -> None:
    """Prints the regret of each strategy; `replay` is that of `analysis.json`."""
    _print_table(replay_rows(replay))
    _print_text(replay_text(replay))


def print_plan(plan: dict[str, Any]) -> None:
    """Prints how many networks and trainings would tell, of `supernet.program.pilot.plan_analysis`."""
    before, table, after = plan_lines(plan)
    for line in before:
        _print_text(line)
    print()
    _print_table(table)
    for line in after:
        _print_text(line)


def print_trust(trust: dict[str, Any], analysis: dict[str, Any] | None = None, more: str | None = None) -> None:
    """Prints the verdict, and the numbers behind it.

    Args:
        trust: of `supernet.trust.correlation.trust`.
        analysis: the whole of `analysis.json`, if there is one.
        more: where the rest of the numbers is.
    """
    analysis = analysis or {}
    metric = Unit.of(analysis["metric"]) if "metric" in analysis and trust is analysis.get("trust") else None
    _print_text(trust["verdict"])
    print()
    if trust["n"] >= FEW:
        _print_table(trust_rows(trust))
        _print_table(top_rows(trust, metric))
    for text in (parts_text(analysis.get("parts")), best_rate_text(analysis.get("best_rate"))):
        if text:
            _print_text(text)
    groups = analysis.get("groups") or {}
    compared = comparison_lines(groups.get("differences", ()), Unit.of(analysis.get("metric", "accuracy")))
    for line in [*compared, *([groups["note"]] if compared and "note" in groups else [])]:
        _print_text(line)
    for name, table, lines in size_tables(analysis):
        print(f"\nfinalists from scratch, {name}:\n")
        _print_table(table)
        for line in lines:
            _print_text(line)
    for row in analysis.get("diagnosis", ()):
        if row["found"]:
            _print_text(f"diagnosis: {row['name']} ({row['rule']}): {row['advice']}")
    if more is not None:
        _print_text(f"More numbers: {more}.")


def print_table(facts: Mapping[str, Any]) -> None:
    """Prints what was read from a table, its columns on one line."""
    for line in table_lines(facts):
        print(line)


def _print_table(rows: Sequence[tuple[str, ...]], left: int = 1) -> None:
    """Prints a head and rows in 80 columns, the first `left` aligned left; only the last of these may wrap."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    gap = "  " if left == len(rows[0]) or sum(widths) + 2 * (len(widths) - 1) < 80 else " "
    for number, row in enumerate(rows):
        cells = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        start = gap.join(cells[:-1])
        if left == len(row):
            print(textwrap.fill(row[-1], 79, initial_indent=f"{start}{gap}", subsequent_indent=(len(start) + 2) * " "))
        else:
            print(f"{start}{gap}{cells[-1]}")
        if number == 0:
            print("-" * min(79, sum(widths) + len(gap) * (len(widths) - 1)))
    print()


def _print_text(text: str) -> None:
    print(textwrap.fill(text, 79, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
