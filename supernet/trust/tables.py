"""Results as rows of text, for the terminal and for the page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from supernet.draw.units import SizeUnit, Unit
from supernet.trust.noise import Z95
from supernet.trust.probes import differences

RESULT_KEYS = ("groups", "networks", "rank_correlation", "test_split")
"""Keys of `results.json`."""

_TITLES = {"params": "params", "macs": "MACs", "score": "score", "validation": "valid.", "test": "test"}
"""Columns of a table of groups, with their titles."""

_EXPLANATIONS = {
    "untrained": "untrained one-shot model",
    "together": "all of these together",
    "jacov": "jacov, untrained network",
    "nwot": "NWOT, untrained network",
    "synflow": "SynFlow, untrained network",
    "longest_path": "layers on the longest path",
}
"""Titles of explanations of accuracies; others are called by their name."""

_SHOWN_MARKS = (10, 20, 50, 100, 200)
"""Numbers of candidates at which a replay is shown, besides the last one."""


def units_of(results: Mapping[str, Any]) -> tuple[Unit, Unit]:
    """The units of the metric and of the scores of a file of results, by its `metric` and `score`."""
    metric = results.get("metric", "accuracy")
    return Unit.of(metric), Unit.of(metric, results.get("score", "metric"))


def result_rows(result: Mapping[str, Any], columns: Sequence[str] = tuple(_TITLES)) -> list[tuple[str, ...]]:
    """The groups as in the paper's Table 1: a head, and a row for each group."""
    groups = result["groups"]
    metric, score = units_of(result)
    units: dict[str, Unit | SizeUnit] = {"score": score, "validation": metric, "test": metric}
    units |= {name: SizeUnit.of([row[name]["mean"] for row in groups.values()]) for name in ("params", "macs")}

    def cell(row: Mapping[str, Any], name: str) -> str:
        if name not in row:
            return "-"
        mean = units[name].number(row[name]["mean"])
        return mean if row["networks"] == 1 else f"{mean} ± {units[name].number(row[name]['deviation'])}"

    head = ("group", "n", *(f"{_TITLES[name]} ({units[name].short})" for name in columns))
    return [head] + [
        (group, str(row["networks"]), *(cell(row, name) for name in columns)) for group, row in groups.items()
    ]


def network_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each network that was trained from scratch: a head, and a row for each, with the means of its trainings."""
    metric, score = units_of(result)
    size = SizeUnit.of([row["params"] for row in result["networks"]])
    groups = {
        row["id"]: ", ".join(name for name, group in result["groups"].items() if row["id"] in group["members"])
        for row in result["networks"]
    }

    def mean(values: Sequence[float]) -> str:
        return metric.number(sum(values) / len(values)) if values else "-"

    head = ("network", "group", f"params ({size.short})", f"score ({score.short})", f"valid. ({metric.short})")
    return [(*head, f"test ({metric.short})", "trainings")] + [
        (
            f"{row['id']} (winner)" if row.get("rank") == 1 else row["id"],
            groups[row["id"]],
            size.number(row["params"]),
            score.number(row["score"]) if row.get("score") is not None else "-",
            mean(row["validation"]),
            mean(row["test"]),
            str(len(row["test"])),
        )
        for row in result["networks"]
    ]


def winner_text(result: Mapping[str, Any]) -> str | None:
    """Which network won, by which measure, and how good it is; None if none is ranked, as with All On alone."""
    winner = result["networks"][0] if result["networks"] else {}
    if "rank" not in winner:
        return None
    metric, _ = units_of(result)
    measure = f"validation {metric.name}" if winner["validation"] else "one-shot score"
    means = {split: sum(winner[split]) / len(winner[split]) for split in ("validation", "test") if winner[split]}
    values = ", ".join(f"{split} {metric.text(mean)}" for split, mean in means.items())
    size = SizeUnit.of([winner["params"]])
    text = f"winner by {measure}: {winner['id']} ({size.number(winner['params'])} {size.short} parameters"
    return text + (f", {values})" if values else ")") + lead_text(result)


def lead_text(result: Mapping[str, Any]) -> str:
    """By how much the winner is ahead of the second network on the validation split, with an interval of 95 %.

    With one training each the interval is what the choice of the validation examples explains, as if each network had
    examples of its own, which is a little too wide; what seeds do is not in it. With several trainings it is Welch's.

    Returns:
        Empty if there is no second network, or for a single training by a metric that is no share of examples.
    """
    ranked = [row["validation"] for row in result["networks"] if "rank" in row and row["validation"]]
    if len(ranked) < 2:
        return ""
    metric, _ = units_of(result)
    shares = [sum(values) / len(values) for values in ranked[:2]]
    lead = shares[0] - shares[1]
    if len(ranked[0]) > 1:
        (tested,) = differences({"first": ranked[0], "second": ranked[1]})
        low, high = tested["interval"] or (lead, lead)
        what = f"{len(ranked[0])} trainings each"
    elif metric.symbol == "%" and result.get("validation_examples"):
        half = Z95 * math.sqrt(sum(share * (1 - share) for share in shares) / result["validation_examples"])
        low, high, what = lead - half, lead + half, "by the choice of the validation examples alone"
    else:
        return ""
    low, high = metric.possible((low, high))
    return (
        f"; ahead of the next by {metric.gap(lead)} {metric.difference} "
        f"({metric.gap(low)} to {metric.gap(high)}, {what})"
    )


def heats_text(result: Mapping[str, Any]) -> str | None:
    """How many of Top were trained for how long; None if all of it was trained in full."""
    if not result.get("heats"):
        return None
    parts = [f"{heat['networks']} networks for {heat['steps']:,} steps" for heat in result["heats"]]
    return (
        f"Top went through heats: {', '.join(parts)}, each time the best on the validation split went on; the table "
        f"has the {result['heats'][-1]['kept']} that were trained in full, so Top is chosen by more than its scores"
    )


def failed_text(result: Mapping[str, Any]) -> str | None:
    """Which trainings are missing in the table, and why; None if none is."""
    failed = result.get("failed")
    if not failed:
        return None
    number = "1 training" if len(failed) == 1 else f"{len(failed)} trainings"
    first = failed[0]
    return (
        f"{number} failed in {first['tries']} tries each, and the networks are left out; the first is "
        f"{first['training']} ({first['error']})"
    )


def unscored_text(failures: Mapping[str, str]) -> str:
    """How many candidates could not be scored, and why the first could not.

    Args:
        failures: errors by the texts of architectures; at least one.
    """
    text, error = next(iter(failures.items()))
    number = "1 candidate" if len(failures) == 1 else f"{len(failures):,} candidates"
    more = "" if len(failures) == 1 else "; `supernet top DIR --json` has all of them"
    return f"{number} could not be scored (3 tries each), and rank last; the first is {text} ({error}){more}"


def refined_text(facts: Mapping[str, Any]) -> str:
    """What trainings taught of the ranking, in words.

    Args:
        facts: what `supernet refine` has written.
    """
    number = sum(facts["trainings"].values())
    if "tau" not in facts:
        return f"{number} trainings of candidates are too few to learn a ranking from, or all alike: scores rank"
    unseen = f"Kendall tau {facts['tau']:.2f} with networks that were left out, by the score {facts['plain_tau']:.2f}"
    if not facts["is_used"]:
        return f"what is learnt from {number} trainings ranks no better ({unseen}): scores rank"
    end = "; more trainings promise less than the noise of one" if facts["is_enough"] else ""
    return f"ranked by what is learnt from {number} trainings from scratch: {unseen}{end}"


def comparison_text(facts: Mapping[str, Any], metric: Unit) -> str:
    """Whether the winner beats the reference, in words.

    Args:
        facts: as `supernet.retrain.results.AgainstReference` has them.
        metric: of the difference.
    """
    size = SizeUnit.of([facts["params"]])
    reference = f"the reference, {facts['name']} at {size.number(facts['params'])} {size.short} parameters"
    if facts["winner"] == facts["reference"]:
        return f"The winner is {reference}: the search found nothing that is better on the validation split."
    difference, trainings = facts["difference"], facts["trainings"]
    unit = metric.difference if metric.symbol else f"in {metric.name}"
    low, high = metric.possible(facts["interval"] or (difference, difference))
    interval = f" ({metric.gap(low)} to {metric.gap(high)})" if facts["interval"] else ""
    times = f" in {trainings} trainings" if trainings > 1 else " in one training each"
    if low <= 0:
        verb = "cannot be told from" if facts["interval"] and high >= 0 else "does not beat"
        text = f"The winner {verb} {reference}: {metric.gap(difference)} {unit}{interval}{times}."
        text += " `supernet export` writes the winner." if difference > 0 else ""
    else:
        text = f"The winner beats {reference}, by {metric.gap(difference)} {unit}{interval}{times}."
    if trainings == 1:
        text += " One training each cannot tell chance from skill: `--retrain.confirm 5` gives an interval."
    if facts.get("first_of"):
        text += (
            f" It is the first of {facts['first_of']} references, of which none could be chosen: they were trained on "
            "the validation split too."
        )
    if difference <= 0:
        text += " The reference is what `supernet export DIR` writes."
    return text


def opening_text(test_split: Mapping[str, Any]) -> str:
    """When the test split of a run was opened, and whether it had been seen before."""
    text = f"the test split was opened once, at {test_split['opened']}"
    if looks := test_split.get("seen"):
        last = looks[-1]
        text += (
            f"; other searches on the same one-shot model have opened it too (at least {len(looks)}, the last at "
            f"{last['opened']} for {len(last['networks'])} networks of {last['folder']}): what is chosen after that is "
            "not judged on new examples"
        )
    return text


def trust_rows(trust: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The numbers that a verdict rests on: a head, and a row for each ranking.

    Args:
        trust: of `supernet.trust.correlation.trust`.
    """
    of_all = [("scores, as drawn", trust["as_drawn"]["kendall"])] if trust["population"] else []
    rows = [
        ("scores, all candidates" if trust["population"] else "scores", trust["tau"]),
        *of_all,
        ("scores, if accuracies had no noise", trust["corrected"]),
        ("most that any score can have", trust["ceiling"]),
    ]
    alone = trust.get("alone", ())  # analyses of earlier versions have no measures

    def floor(name: str) -> tuple[str, ...]:
        row = _estimate_row(_EXPLANATIONS.get(name, name), trust["floor"][name])
        return (*row, _with_interval(trust["beyond"][name]))

    of_scores = {"scores given these": trust["given"]["ranks"]} if trust["given"] else {}
    return [
        ("ranking by", "Kendall's tau", "95 % interval", "scores beyond it"),
        *((*_estimate_row(name, row), "") for name, row in rows if row is not None),
        *map(floor, (name for name in trust["floor"] if name not in alone)),
        *((*_estimate_row(name, row), "") for name, row in of_scores.items()),
        *map(floor, alone),
    ]


def further_rows(trust: Mapping[str, Any], analysis: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """More rank correlations, which no verdict rests on: a head, and a row for each.

    Args:
        trust: of `supernet.trust.correlation.trust`.
        analysis: the whole of `analysis.json`; empty if there is none.
    """
    # The correlation over all candidates says more than that over the few networks drawn from them.
    of_candidates = {
        name: {"value": row["kendall"], "interval": row["kendall_interval"]}
        for name, row in (analysis.get("candidates") or {}).get("size_bias", {}).items()
    }
    divergence = analysis.get("divergence") or {}
    kinds = {"ranks": "of ranks", "values": "of values"}
    return [
        ("rank correlation", "value", "95 % interval"),
        _estimate_row("Spearman, as drawn", trust["as_drawn"]["spearman"]),
        *(_estimate_row(f"scores given {_EXPLANATIONS.get(k, k)}", row) for k, row in trust["partial"].items()),
        *(_estimate_row(f"scores given all, {kinds[k]}", row) for k, row in (trust["given"] or {}).items()),
        *(
            _estimate_row(f"tau of {name} and score", row)
            for name, row in (of_candidates or trust["size_bias"]).items()
        ),
        *(
            _estimate_row(f"Spearman, divergence and {name}", divergence[f"with_{name}"]["spearman"])
            for name in (("score", "accuracy") if divergence else ())
        ),
        *(_estimate_row(f"fall of tau without {name}", row) for name, row in (analysis.get("parts") or {}).items()),
        *(
            _estimate_row(f"Kendall tau-b at dropout rate {row['rate']}", row["agreement"]["kendall"])
            for row in analysis.get("sweep", ())
        ),
    ]


def parts_text(parts: Mapping[str, Any] | None) -> str | None:
    """What each part of a joint rank adds; `parts` is that of `analysis.json`. None without a joint rank."""
    if not parts:
        return None
    falls = ", ".join(f"without {name} by {_with_interval(row)}" for name, row in parts.items())
    return f"Tau of the joint rank falls {falls}."


def best_rate_text(best: Mapping[str, Any] | None) -> str | None:
    """Which dropout rate ranks best and which cannot be told from it; `best` is `best_rate` of `analysis.json`."""
    if best is None:
        return None
    others = [row for row in best["others"] if row["interval"] is None or row["interval"][0] <= 0]
    text = f"Of the dropout rates {best['best']} has the highest tau"
    if not best["others"]:
        return f"{text}; no other was compared."
    if not others:
        return f"{text}, by more than chance."
    rivals = ", ".join(f"{row['name']} ({_with_interval(row)} lower)" for row in others)
    return f"{text}, but cannot be told from {rivals}."


def _estimate_row(name: str, estimate: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if estimate is None or estimate["value"] is None:
        return name, "-", "-"
    interval = "{:.2f} to {:.2f}".format(*estimate["interval"]) if estimate["interval"] else "-"
    return name, f"{estimate['value']:.2f}", interval


def _with_interval(estimate: Mapping[str, Any], digits: int = 2) -> str:
    """A value and in brackets its interval, if it has one."""
    if estimate["value"] is None:
        return "-"
    value = f"{estimate['value']:.{digits}f}"
    if estimate["interval"] is None:
        return value
    low, high = estimate["interval"]
    return f"{value} ({low:.{digits}f} to {high:.{digits}f})"


def replay_rows(replay: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The regret of each strategy at some numbers of candidates; `replay` is that of `analysis.json`."""
    _, score = units_of(replay)
    marks = replay["marks"]
    columns = [i for i, mark in enumerate(marks) if mark in _SHOWN_MARKS or i + 1 == len(marks)][-5:]
    return [("strategy", *(f"{marks[i]:,}" for i in columns))] + [
        (
            name,
            *(f"{score.scale * row['median'][i]:.2f} ({score.scale * row['high'][i]:.2f})" for i in columns),
        )
        for name, row in replay["regret"].items()
    ]


def replay_text(replay: Mapping[str, Any]) -> str:
    """What the rows of a replay are."""
    _, score = units_of(replay)
    error = replay["deviation"]
    noise = "" if error is None else f" A score has a standard error of {score.scale * error:.2g} {score.difference}."
    return (
        f"Every strategy on the scores of all {replay['candidates']:,} candidates, with {replay['seeds']} seeds, in "
        f"rounds of {replay['batch']}: how far (in {score.difference}) its best candidate is below the best of all, "
        f"after as many candidates as the head of the column says. Median over seeds, and ninetieth percentile in "
        f"brackets.{noise} This does not tell how well the scores predict."
    )


def top_rows(trust: Mapping[str, Any], metric: Unit | None = None) -> list[tuple[str, ...]]:
    """Regret and recall of `supernet.trust.correlation.trust`: a head, and a row for each number of networks.

    Args:
        trust: the numbers.
        metric: of the accuracies; None if they are in the unit of a file of the user's.
    """
    names = list(dict.fromkeys([*trust["regret"], *trust["recall"]]))
    unit = f" ({metric.difference})" if metric is not None and metric.symbol else ""
    scale, digits = (metric.scale, metric.digits) if metric is not None else (1, 4)
    head = ("best by score", f"regret against the best of all{unit}", "recall of the best")
    return [head] + [
        (
            name,
            _with_interval(_scaled(trust["regret"][name], scale), digits) if name in trust["regret"] else "-",
            f"{trust['recall'][name]:.0%}" if name in trust["recall"] else "-",
        )
        for name in names
    ]


def _scaled(estimate: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """A value and its interval in another unit."""
    value, interval = estimate["value"], estimate["interval"]
    return {
        "value": None if value is None else scale * value,
        "interval": None if interval is None else [scale * limit for limit in interval],
    }


def band_rows(trust: Mapping[str, Any], metric: Unit | None = None) -> list[tuple[str, ...]]:
    """Agreement inside bands, of `supernet.trust.correlation.trust`: a head, and a row for each band.

    Args:
        trust: the whole of it.
        metric: unit of the accuracies; None for those of a table, which are shown as they are there.
    """

    def plain(name: str, value: float) -> str:
        if name == "accuracy" and metric is not None:
            return metric.number(value)
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

    def tau(band: Mapping[str, Any]) -> tuple[str, ...]:
        return _estimate_row("", {"value": band["kendall"], "interval": band["interval"]})[1:]

    accuracy = "accuracy" if metric is None else metric.label
    return [("bands by", "from", "to", "n", "tau-b", "95 % interval")] + [
        (
            accuracy if name == "accuracy" else name,
            plain(name, band["from"]),
            plain(name, band["to"]),
            str(band["n"]),
            *tau(band),
        )
        for name, bands in trust["bands"].items()
        for band in bands
    ]


def option_rows(options: Sequence[Mapping[str, Any]], score: Unit) -> list[tuple[str, ...]]:
    """What each option of each choice is worth, of `supernet.trust.probes.option_worth`: a head, and a row for each."""

    def fall(value: float | None) -> str:
        return "-" if value is None else f"{score.scale * value:+.{score.digits}f}"

    unit = score.difference
    falls = (f"fall from everything-on ({unit})", f"mean fall from candidates ({unit})")
    return [("choice", "option", *falls, "candidates")] + [
        (row["choice"], row["option"], fall(row["everything_on"]), fall(row["candidates"]), str(row["number"]))
        for row in options
    ]


def tested_sizes(result: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Finalists at each size of `retrain.at`: its name, and a table of their groups.

    Args:
        result: the whole of `results.json`.
    """
    units = {"metric": result.get("metric", "accuracy")}
    return [
        (f"{row['setting']} = {row['value']}", result_rows({**row, **units}, ("params", "macs", "validation", "test")))
        for row in result.get("at", ())
    ]


def size_tables(analysis: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, ...]], list[str]]]:
    """Finalists at each size of `supernet analyze --at`: its name, a table of their groups, and their comparisons.

    Args:
        analysis: the whole of `analysis.json`.
    """
    return [
        (
            f"{row['setting']} = {row['value']}",
            result_rows({**row, "metric": analysis["metric"]}, ("params", "macs", "validation")),
            comparison_lines(row["differences"], Unit.of(analysis["metric"]), "validation"),
        )
        for row in analysis.get("at", ())
    ]


def comparison_lines(differences: Sequence[Mapping[str, Any]], metric: Unit, split: str = "test") -> list[str]:
    """Whether groups of networks differ on a split, one line for each pair; see `supernet.trust.probes.differences`."""
    lines = []
    for row in differences:
        if row["p"] is not None:
            first, second = (f"{g} ({n})" for g, n in zip(row["groups"], row["networks"], strict=True))
            low, high = map(metric.signed, metric.possible(row["interval"]))
            unit = f" {metric.difference}" if metric.symbol else ""
            lines.append(
                f"{split}, {first} minus {second} networks: {metric.signed(row['difference'])}{unit} "
                f"({low} to {high}), Welch's p {row['p']:.2g}"
            )
    return lines
