"""`supernet report`: the files of a run as one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from supernet.draw import networks
from supernet.draw import plots as draw
from supernet.draw.parts import network_parts
from supernet.search.orders import Candidate, on_most, pareto
from supernet.space.choices import Space
from supernet.trust.correlation import paper_points
from supernet.trust.tables import band_rows, replay_rows, replay_text, top_rows, trust_rows, winner_text

NO_STUDY = "How far this ranking can be trusted is not known yet: `supernet analyze` finds out."


@dataclass(frozen=True, slots=True)
class Names:
    """What a run was searched by, by name.

    Attributes:
        metric: of the task.
        score: what candidates are scored by; see `SearchConfig.score`.
        space, strategy: by their names.
        objectives: what was sought.
    """

    metric: str
    score: str
    space: str
    strategy: str
    objectives: tuple[str, ...]


def figures(place: str, trust: dict[str, Any] | None, more: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Tables of what `supernet.trust.correlation.trust` found, each with where in `analysis.json` its numbers are."""
    if trust is None:
        return []
    beside = ", ".join(name for name in ("divergence", "sweep", "candidates") if more.get(name))
    tables = [
        (f"{place}; {beside}" if beside else place, trust_rows(trust, more)),
        (f"{place}: regret, recall", top_rows(trust)),
        (f"{place}: bands", band_rows(trust)),
    ]
    return [(source, rows) for source, rows in tables if len(rows) > 1]


def truth_of(found: dict[str, Any] | None, names: Names) -> dict[str, Any] | None:
    """What the scores say of accuracies that somebody else published."""
    if found is None:
        return None
    return {
        "text": f"{found['trust']['n']:,} architectures of {found['file']}, column {found['column']}.",
        "verdict": found["trust"]["verdict"],
        "figures": figures("truth: trust", found["trust"], {}),
        "plot": {
            "svg": draw.published(found["points"], found["column"], names.metric, names.score),
            "caption": "Do the scores predict what was published?", "source": "analysis.json: truth",
        },
    }  # fmt: skip


def template() -> Any:
    """The page without a run in it."""
    from jinja2 import Environment, StrictUndefined

    text = files("supernet.trust").joinpath("page.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def winner_of(result: dict[str, Any], space: Space) -> dict[str, Any]:
    """What the page says of the winner, with its drawings."""
    first = result["networks"][0]
    text = winner_text(result) or "everything on, the only network"
    architecture = space.parse(first["architecture"])
    every = {choice.name: choice.options for choice in space.choices}
    parts = network_parts(space, architecture)
    return {
        "text": f"{text[0].upper()}{text[1:]}.",
        "architecture": first["architecture"],
        "cells": networks.cells(dict(architecture.picks), every),
        "network": networks.network(parts),
    }


def plots(
    result: dict[str, Any],
    analysis: dict[str, Any],
    names: Names,
    scores: Sequence[float],
    history: Sequence[dict[str, float]],
    histories: dict[str, list[list[dict[str, float]]]],
) -> Any:
    """Each figure with its caption and the file that its numbers are in."""
    metric, score = names.metric, names.score
    points = analysis.get("points", [])
    if points:
        comparable = names.space == "bender" and (metric, score) == ("accuracy", "metric")
        yield {
            "svg": draw.predicts(points, metric, score, paper=paper_points()["figure5"] if comparable else ()),
            "caption": "Does the score predict? Networks drawn evenly over the score",
            "source": "analysis.json: points",
        }  # fmt: skip
    yield {
        "svg": draw.histogram(scores, metric, score), "caption": "Scores of the candidates",
        "source": "candidates.sqlite",
    }  # fmt: skip
    if analysis.get("candidates"):
        columns = analysis["candidates"]
        tau = columns["size_bias"]["params"]["kendall"]
        yield {
            "svg": draw.liking(columns, metric, score),
            "caption": "Does the score like large networks? Candidates"
            + ("" if tau is None else f"; Kendall's tau of parameters and score is {tau:.2f}"),
            "source": "analysis.json: candidates",
        }  # fmt: skip
    rows = {row["id"]: row for row in result["networks"]}
    groups = {
        name: [
            (rows[i]["params"], sum(rows[i]["validation"]) / len(rows[i]["validation"]))
            for i in group["members"] if rows[i]["validation"]
        ]
        for name, group in result["groups"].items()
    }  # fmt: skip
    if any(groups.values()):
        yield {
            "svg": draw.size_against_accuracy(groups, metric),
            "caption": "Size against accuracy of the finalists, and those that no smaller one beats",
            "source": "results.json",
        }  # fmt: skip
    if analysis.get("options"):
        yield {
            "svg": draw.options(analysis["options"], metric, score),
            "caption": "What each option is worth: how much the score falls without it",
            "source": "analysis.json: options",
        }  # fmt: skip
    if analysis.get("divergence"):
        yield {
            "svg": draw.divergence(points, metric, score),
            "caption": "Without labels: divergence from the outputs with almost everything on, and the score",
            "source": "analysis.json: points",
        }  # fmt: skip
    if analysis.get("divergence") and analysis["divergence"]["course"]:
        yield {
            "svg": draw.course(points, analysis["divergence"], metric, score),
            "caption": "The divergence of architectures from weak to strong while the one-shot model was trained",
            "source": "analysis.json: divergence",
        }  # fmt: skip
    for row in analysis.get("sweep", ()):
        rho = row["agreement"]["spearman"]["value"]
        yield {
            "svg": draw.sweep(points, row, metric),
            "caption": f"A one-shot model trained at dropout rate {row['rate']:g}: Spearman "
            + ("not defined" if rho is None else f"{rho:.2f}"),
            "source": "analysis.json: points, sweep",
        }  # fmt: skip
    yield {
        "svg": draw.training(history), "caption": "Training of the one-shot model", "source": "train/history.json",
    }  # fmt: skip
    if histories:
        yield {
            "svg": draw.training_alone(histories), "caption": "Training of the finalists from scratch",
            "source": "retrain/ID/REPEAT/result.json: history",
        }  # fmt: skip


def search_plots(asked: Sequence[tuple[int, Candidate]], names: Names) -> Iterator[dict[str, Any]]:
    """The course of the search, and the Pareto front against each cost.

    Args:
        asked: round and candidate, in the order in which the strategy asked for them.
        names: what they were searched by.
    """
    metric, score = names.metric, names.score
    candidates = [c for _, c in asked]
    whole = on_most(candidates)
    most = whole[0].examples
    yield {
        "svg": draw.best_so_far(
            [
                (number, c.value if c.examples == most else None, c.deviation, round_)
                for number, (round_, c) in enumerate(asked, start=1)
            ],
            metric, score,
        ),
        "caption": f"What the strategy {names.strategy} found, of {len(whole):,} candidates scored on all "
        "examples; around the best so far the standard error of its score (and the best of many is lucky besides)",
        "source": "candidates.sqlite",
    }  # fmt: skip
    best, volume = pareto(candidates, names.objectives)
    for cost in names.objectives[1:]:
        yield {
            "svg": draw.front(
                cost, [(getattr(c, cost), c.value) for c in whole],
                [(getattr(c, cost), c.value, c.number) for c in best], metric, score,
            ),
            "caption": f"Pareto front of {', '.join(names.objectives)} (hypervolume {volume:.3f} of the box "
            "between the worst and the best of each); `supernet retrain DIR --candidates NUMBER` trains a point",
            "source": "candidates.sqlite",
        }  # fmt: skip


def replay_of(found: dict[str, Any]) -> dict[str, Any] | None:
    """Every strategy on the run's own table, where `supernet analyze --replay` has come to its end."""
    if not found.get("regret"):
        return None
    scale = 100 if (found["metric"], found["score"]) == ("accuracy", "metric") else 1
    scaled = {
        name: {key: [scale * value for value in values] for key, values in row.items()}
        for name, row in found["regret"].items()
    }
    return {
        "text": replay_text(found),
        "rows": replay_rows(found),
        "plot": {
            "svg": draw.strategies(found["marks"], scaled, "points" if scale == 100 else found["score"]),
            "caption": "What each strategy has missed so far: median over seeds, and tenth to ninetieth percentile",
            "source": "analysis.json: replay",
        },
    }
