"""Facts about spaces and results, as data and as tables for a terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from supernet.base.randomness import stream
from supernet.exported import FILES
from supernet.space.choices import Space
from supernet.space.cost import cost_table

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


TITLES = {"params": "params", "macs": "MACs", "score": "score", "validation": "valid.", "test": "test"}
"""Columns of a table of groups."""


def result_rows(result: dict[str, Any], columns: Sequence[str] = tuple(TITLES)) -> list[tuple[str, ...]]:
    """The groups as in the paper's Table 1: a head, and a row for each."""
    groups = result["groups"]
    form = _metric_form(result)
    titles = {name: TITLES[name] for name in columns}
    forms = dict.fromkeys(("score", "validation", "test"), form)
    if result.get("score", "metric") != "metric":
        forms["score"] = ("nats", 1, 3)
    for name in ("params", "macs"):
        forms[name] = _unit([row[name]["mean"] for row in groups.values()])

    def cell(row: dict[str, Any], name: str) -> str:
        if name not in row:
            return "-"
        _, scale, digits = forms[name]
        mean = f"{row[name]['mean'] / scale:.{digits}f}"
        return mean if row["networks"] == 1 else f"{mean} ± {row[name]['deviation'] / scale:.{digits}f}"

    table = [("group", "n", *(f"{title} ({forms[name][0]})" for name, title in titles.items()))]
    return table + [
        (group, str(row["networks"]), *(cell(row, name) for name in titles)) for group, row in groups.items()
    ]


def print_trained(rows: Sequence[dict[str, Any]]) -> None:
    """Prints candidates that were trained from scratch, with their validation metric."""
    table: list[tuple[str, ...]] = [("number", "score", "validation", "params", "id")]
    for row in rows:
        validation = ", ".join(f"{value:.4f}" for value in row["validation"]) or "-"
        table.append((str(row["number"]), f"{row['accuracy']:.4f}", validation, f"{row['params']:,}", row["id"]))
    _print_table(table)
    _print_text("trained from scratch; the test split stayed closed")


def print_candidates(found: dict[str, Any]) -> None:
    """Prints what `supernet.steps.top_candidates` found."""
    everyone = [row for band in found["bands"] for row in band]
    name, scale, digits = _metric_form(found) if found["score"] == "metric" else ("nats", 1, 3)
    forms = {cost: _unit([row[cost] for row in everyone]) for cost in ("params", "macs")}
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
                    str(row["number"]), f"{row['accuracy'] / scale:.{digits}f}{doubt}", str(row["images"]),
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


def winner_text(result: dict[str, Any]) -> str | None:
    """Who won, by what, and how well; None where there is nobody, as with All On alone."""
    winner = result["networks"][0] if result["networks"] else {}
    if "rank" not in winner:
        return None
    metric, scale, digits = _metric_form(result)
    name_of_metric = result.get("metric", "accuracy").rpartition(":")[2]
    by = f"validation {name_of_metric}" if winner["validation"] else "one-shot score"
    means = {name: sum(winner[name]) / len(winner[name]) for name in ("validation", "test") if winner[name]}
    sign = "%" if metric == "%" else ""
    accuracies = ", ".join(f"{name} {value / scale:.{digits}f}{sign}" for name, value in means.items())
    unit, size, places = _unit([winner["params"]])
    return f"winner by {by}: {winner['id']} ({winner['params'] / size:.{places}f} {unit} parameters, {accuracies})"


def _metric_form(result: dict[str, Any]) -> tuple[str, float, int]:
    metric = result.get("metric", "accuracy")
    return ("%", 0.01, 2) if metric == "accuracy" else (metric.rpartition(":")[2], 1, 4)


def print_export(facts: dict[str, Any]) -> None:
    """Prints which files were exported and how they compare with the network."""
    metric = facts["metric"]
    unit, scale, digits = _metric_form(facts)
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


def trust_rows(found: dict[str, Any], more: dict[str, Any] | None = None) -> list[tuple[str, ...]]:
    """The figures behind a verdict: a head, and a row for each; arguments as for `print_trust`."""
    more = more or {}

    def figures(name: str, estimate: dict[str, Any] | None) -> tuple[str, ...]:
        if estimate is None or estimate["value"] is None:
            return name, "-", "-"
        low, high = estimate["interval"] or (math.nan, math.nan)
        return name, f"{estimate['value']:.2f}", f"{low:.2f} to {high:.2f}"

    rows: list[tuple[str, ...]] = [("rank correlation", "value", "95 % interval")]
    for kind, title in (("as_drawn", "as drawn"), ("population", "all candidates")):
        names = {"spearman": "Spearman", "kendall": "Kendall tau-b", "top_weighted": "top-weighted tau"}
        rows += [figures(f"{names[name]}, {title}", estimate) for name, estimate in (found[kind] or {}).items()]
    rows += [figures("ceiling: tau between repeats", found["ceiling"])]
    of = ", all candidates" if found["population"] else ""
    rows += [figures(f"floor: tau of {name}{of}", estimate) for name, estimate in found["floor"].items()]
    rows += [figures(f"tau beyond {name}{of}", estimate) for name, estimate in found["beyond"].items()]
    rows += [(f"partial tau given {name}{of}", _two(value), "-") for name, value in found["partial"].items()]
    # All candidates say it better than the few networks that stand for them.
    known = (more.get("candidates") or {}).get("size_bias", {})
    everyone = {n: {"value": row["kendall"], "interval": row["kendall_interval"]} for n, row in known.items()}
    rows += [
        figures(f"tau of {name} and score", estimate) for name, estimate in (everyone or found["size_bias"]).items()
    ]
    if more.get("divergence"):
        rows += [figures("Spearman, divergence and score", more["divergence"]["with_score"]["spearman"])]
        rows += [figures("Spearman, divergence and accuracy", more["divergence"]["with_accuracy"]["spearman"])]
    return rows + [
        figures(f"Kendall tau-b at dropout rate {row['rate']:g}", row["agreement"]["kendall"])
        for row in more.get("sweep", ())
    ]


def replay_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """What each strategy has missed of the best score so far; `found` is the `replay` of `analysis.json`."""
    scale = 100 if (found["metric"], found["score"]) == ("accuracy", "metric") else 1
    columns = [
        i for i, mark in enumerate(found["marks"]) if mark in (10, 20, 50, 100, 200) or i + 1 == len(found["marks"])
    ]
    rows = [("strategy", *(f"{found['marks'][i]:,}" for i in columns[-5:]))]
    for name, row in found["regret"].items():
        cells = (f"{scale * row['median'][i]:.2f} ({scale * row['high'][i]:.2f})" for i in columns[-5:])
        rows.append((name, *cells))
    return rows


def replay_text(found: dict[str, Any]) -> str:
    """What the rows of a replay are."""
    accuracies = (found["metric"], found["score"]) == ("accuracy", "metric")
    error = found["deviation"]
    noise = "" if error is None else f" A single score has a standard error of {100 * error:.2g} points."
    return (
        f"Every strategy on the scores of all {found['candidates']:,} candidates, {found['seeds']} seeds, rounds of "
        f"{found['batch']}: by how {'many points' if accuracies else 'much'} the best that it found after so many "
        f"candidates is below the best of all, in the median and (in brackets) at the ninetieth percentile.{noise} "
        "What the scores are worth is another question."
    )


def print_replay(found: dict[str, Any]) -> None:
    """Prints a replay."""
    _print_table(replay_rows(found))
    _print_text(replay_text(found))


def top_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Regret and recall of `supernet.analysis.trust`: a head, and a row for each number of networks."""
    names = list(dict.fromkeys([*found["regret"], *found["recall"]]))
    head = ("the best by score", "what the best of all has more", "share of as many best found")
    return [head] + [
        (
            name,
            f"{found['regret'][name]:.4g}" if name in found["regret"] else "-",
            f"{found['recall'][name]:.0%}" if name in found["recall"] else "-",
        )
        for name in names
    ]


def band_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Agreement within bands, of `supernet.analysis.trust`: a head, and a row for each band."""

    def plain(value: float) -> str:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    return [("within bands of", "from", "to", "n", "tau-b")] + [
        (name, plain(band["from"]), plain(band["to"]), str(band["n"]), _two(band["kendall"]))
        for name, bands in found["bands"].items()
        for band in bands
    ]


def option_rows(options: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What each option of each choice is worth, of `supernet.study.option_worth`: a head, and a row for each."""

    def fall(value: float | None) -> str:
        return "-" if value is None else f"{value:+.4f}"

    return [("choice", "option", "fall from everything-on", "mean fall from candidates", "candidates")] + [
        (row["choice"], row["option"], fall(row["everything_on"]), fall(row["candidates"]), str(row["number"]))
        for row in options
    ]


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def sizes_of(more: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]], list[str]]]:
    """Finalists at each size: its name, a table of their groups, and what `comparison_lines` says.

    Args:
        more: as for `print_trust`.
    """
    return [
        (
            f"{row['setting']} = {row['value']}",
            result_rows({**row, "metric": more["metric"]}, ("params", "macs", "validation")),
            comparison_lines(row["differences"], "validation"),
        )
        for row in more.get("at", ())
    ]


def comparison_lines(differences: Sequence[dict[str, Any]], split: str = "test") -> list[str]:
    """Whether groups of networks differ on a split, one line for each pair; see `supernet.study.differences`."""
    lines = []
    for row in differences:
        if row["p"] is not None:
            first, second = (f"{g} ({n})" for g, n in zip(row["groups"], row["networks"], strict=True))
            low, high = row["interval"]
            lines.append(
                f"{split}, {first} less {second} networks: {row['difference']:+.4f} ({low:+.4f} to {high:+.4f}), "
                f"Welch's p {row['p']:.2g}"
            )
    return lines


def print_trust(found: dict[str, Any], more: dict[str, Any] | None = None) -> None:
    """Prints the verdict, and the figures behind it.

    Args:
        found: of `supernet.analysis.trust`.
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
