"""What `supernet.trust.correlation.trust` comes to, in words. The rules are ours.

Scores **predict** if all of this holds:

1. Chance does not explain them: the test by permutation has p of at most 1.5 %, and the interval of tau lies above 0.
2. The explanations together (all sizes, and the scores of an untrained one-shot model) do not: the same two conditions
   hold for what scores and accuracies have in common given these, both for ranks and for values.
3. No explanation ranks better: neither one alone, with the better of its two signs, nor all together; nor one of the
   measures of untrained networks (`supernet.search.measures`), each alone.

If only 3 fails, scores **add** to the explanations; if 2 fails, they say **no more**. If 1 fails and the reverse of it
does not, they **mislead**. Otherwise there is no evidence. Scores are **bad** if without the noise of the accuracies
tau would be below `USEFUL` at the upper edge of its interval; if it may be above, the accuracies **cannot tell**.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supernet.trust.beyond import ALPHA

FEW = 10
"""Networks that a statement needs, at least."""

USEFUL = 0.5
"""A tau that useful scores have: three of four pairs are in the right order."""

_LOST = 0.05
"""Share of the pairs of candidates that must be missing to be mentioned."""


_ANYTHING = 1.9
"""Width of an interval of tau beyond which it says nothing."""


def finding(result: Mapping[str, Any]) -> str:
    """One of "too few", "undefined", "predict", "add", "no more", "mislead", "bad" and "cannot tell"; see above.

    Args:
        result: of `supernet.trust.correlation.evidence`.
    """
    tau, p = result["tau"], result["chance"]
    if result["n"] < FEW:
        return "too few"
    if tau["value"] is None:
        return "undefined"
    low, high = tau["interval"] or (-1.0, 1.0)
    if low > 0 and p["predict"] <= ALPHA:
        if result["given"] is not None and not all(_is_above(row) for row in result["given"].values()):
            return "no more"
        differences = (row["value"] for row in result["beyond"].values())
        return "predict" if all(value is None or value > 0 for value in differences) else "add"
    if high < 0 and p["mislead"] <= ALPHA:
        return "mislead"
    true_tau = result["corrected"]
    if true_tau is None or true_tau["interval"] is None or true_tau["interval"][1] >= USEFUL:
        return "cannot tell"
    return "bad"


def _is_above(estimate: Mapping[str, Any]) -> bool:
    """Whether something is above 0 by its interval and by its test."""
    return estimate["interval"] is not None and estimate["interval"][0] > 0 and estimate["p"] <= ALPHA


def verdict(result: Mapping[str, Any]) -> str:
    """The result of `supernet.trust.correlation.trust` in words: first what it comes to, then why.

    Args:
        result: with `finding`.
    """
    kind = result["finding"]
    if kind == "too few":
        return f"No verdict: {result['n']} networks are too few; at least {FEW} must be trained."
    if kind == "undefined":
        return "No verdict: all scores, or all accuracies, are equal."
    text = f"{_HEADS[kind]}: {_figures(result)}."
    best = _strongest(result)
    if kind == "mislead":
        text += " The better the score, the worse the network."
    elif kind == "add" and best is not None:
        text += f" But {_name(best)} ranks better, with tau {abs(result['floor'][best]['value']):.2f}."
    elif best is not None:
        text += f" Of what is simpler, {_name(best)} comes closest, with tau {result['floor'][best]['value']:.2f}."
    text += _on_noise(result)
    if (result["population"] or {}).get("lost", 0) > _LOST:
        text += (
            f" {result['population']['lost']:.0%} of the pairs of candidates are not in it, since their bucket of the "
            "score has fewer than two trained networks (--analysis.per_bucket)."
        )
    if result.get("noise") is not None:
        text += f" Differences under {100 * result['noise']:.1f} points of score are noise."
    return text


_HEADS = {
    "predict": "Scores predict",
    "add": "Scores say something, but not most",
    "no more": "These scores say no more than size, or no training, does",
    "mislead": "Scores mislead",
    "bad": "Scores do not predict",
    "cannot tell": "No evidence that scores predict, but the accuracies cannot tell",
}
"""How a verdict begins, by its finding."""


def _figures(result: Mapping[str, Any]) -> str:
    """What tau says, in pairs of networks."""
    tau = result["tau"]
    share = round(50 * (1 + tau["value"]))
    interval = "{:.2f} to {:.2f}".format(*tau["interval"]) if tau["interval"] else "no interval: one network decides it"
    kind = "candidates" if result["population"] else "networks"
    return (
        f"of two {kind}, the one with the better score is the better one in {share} of 100 cases (50 by chance; "
        f"Kendall's tau {tau['value']:.2f}, {interval})"
    )


def _strongest(result: Mapping[str, Any]) -> str | None:
    """The explanation that ranks best, with either sign."""
    taus = {name: abs(row["value"]) for name, row in result["floor"].items() if row["value"] is not None}
    return max(taus, key=taus.__getitem__, default=None)


def _name(explanation: str) -> str:
    names = {
        "untrained": "a one-shot model without training",
        "together": "all explanations together",
        "jacov": "jacov of the untrained network",
        "nwot": "NWOT of the untrained network",
        "synflow": "SynFlow of the untrained network",
        "layers": "the number of layers",
        "longest_path": "the number of layers on the longest path",
    }
    return names.get(explanation, f"{explanation} alone")


def _on_noise(result: Mapping[str, Any]) -> str:
    """What the noise of the accuracies allows, and how many trainings would tell."""
    highest, true_tau = result["ceiling"], result["corrected"]
    if highest is None or highest["value"] is None:
        text = " Each network was trained once, so the noise of its accuracy is unknown."
        return text if result["finding"] == "cannot tell" else ""
    text = f" No score can have more than {highest['value']:.2f} with accuracies this noisy"
    if true_tau is not None and true_tau["interval"]:
        low, high = true_tau["interval"]
        is_open = high - low > _ANYTHING
        would = "may be anything" if is_open else f"would be {true_tau['value']:.2f} ({low:.2f} to {high:.2f})"
        text += f"; with accuracies free of noise tau {would}"
    text += "."
    if result["finding"] == "cannot tell":
        text += _on_designs(result)
    return text


def _on_designs(result: Mapping[str, Any]) -> str:
    """Which number of networks and trainings would show a useful tau with the fewest trainings."""
    # One training each would leave its noise unknown.
    rows = [row for row in result["designs"] if row["networks"] is not None and row["repeats"] > 1]
    limits = result["ceiling"]["interval"]
    if not rows or limits is None or limits[0] <= 0:
        return " Trainings with other seeds agree no better than by chance: train longer (--analysis.train.epochs)."
    best = min(rows, key=lambda row: row["trainings"])
    return (
        f" To show a true tau of {USEFUL}, about {max(best['networks'], FEW)} networks must be trained "
        f"{best['repeats']} times each; it was {result['n']}, {result['repeats']} times."
    )
