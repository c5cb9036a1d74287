"""Results as rows of text, for a terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

RESULT_KEYS = ("groups", "networks", "rank_correlation", "test_split")
"""What the result of a run holds."""


TITLES = {"params": "params", "macs": "MACs", "score": "score", "validation": "valid.", "test": "test"}
"""Columns of a table of groups."""


def result_rows(result: dict[str, Any], columns: Sequence[str] = tuple(TITLES)) -> list[tuple[str, ...]]:
    """The groups as in the paper's Table 1: a head, and a row for each."""
    groups = result["groups"]
    form = metric_form(result)
    titles = {name: TITLES[name] for name in columns}
    forms = dict.fromkeys(("score", "validation", "test"), form)
    if result.get("score", "metric") != "metric":
        forms["score"] = ("nats", 1, 3)
    for name in ("params", "macs"):
        forms[name] = unit_of([row[name]["mean"] for row in groups.values()])

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


def winner_text(result: dict[str, Any]) -> str | None:
    """Who won, by what, and how well; None where there is nobody, as with All On alone."""
    winner = result["networks"][0] if result["networks"] else {}
    if "rank" not in winner:
        return None
    metric, scale, digits = metric_form(result)
    name_of_metric = result.get("metric", "accuracy").rpartition(":")[2]
    by = f"validation {name_of_metric}" if winner["validation"] else "one-shot score"
    means = {name: sum(winner[name]) / len(winner[name]) for name in ("validation", "test") if winner[name]}
    sign = "%" if metric == "%" else ""
    accuracies = ", ".join(f"{name} {value / scale:.{digits}f}{sign}" for name, value in means.items())
    unit, size, places = unit_of([winner["params"]])
    return f"winner by {by}: {winner['id']} ({winner['params'] / size:.{places}f} {unit} parameters, {accuracies})"


def metric_form(result: dict[str, Any]) -> tuple[str, float, int]:
    """Sign or name of a metric, what a number is divided by to be shown with it, and decimals."""
    metric = result.get("metric", "accuracy")
    return ("%", 0.01, 2) if metric == "accuracy" else (metric.rpartition(":")[2], 1, 4)


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


def top_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Regret and recall of `supernet.trust.correlation.trust`: a head, and a row for each number of networks."""
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
    """Agreement within bands, of `supernet.trust.correlation.trust`: a head, and a row for each band."""

    def plain(value: float) -> str:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    return [("within bands of", "from", "to", "n", "tau-b")] + [
        (name, plain(band["from"]), plain(band["to"]), str(band["n"]), _two(band["kendall"]))
        for name, bands in found["bands"].items()
        for band in bands
    ]


def option_rows(options: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What each option of each choice is worth, of `supernet.trust.probes.option_worth`: a head, and a row for each."""

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
    """Whether groups of networks differ on a split, one line for each pair; see `supernet.trust.probes.differences`."""
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


def unit_of(values: list[float]) -> tuple[str, float, int]:
    """Name, size and decimals of the unit in which the largest of the values has three digits or more."""
    largest = max(values, default=0)
    name, scale = next(((n, s) for n, s in (("G", 1e9), ("M", 1e6), ("k", 1e3)) if largest >= s), ("k", 1e3))
    return name, scale, 2 if largest < 10 * scale else 1
