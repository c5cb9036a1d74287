"""The parts of the page of a run: tables, figures with their captions, and the file that the numbers of each are in.

The page itself is `page.html.j2` beside this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from supernet.draw import networks, plots
from supernet.draw.parts import network_parts
from supernet.draw.svg import Drawing
from supernet.draw.units import Unit
from supernet.search.orders import Candidate, on_most, pareto
from supernet.space.choices import Space
from supernet.trust.correlation import paper_points
from supernet.trust.tables import (
    band_rows,
    further_rows,
    replay_rows,
    replay_text,
    top_rows,
    trust_rows,
    winner_text,
)
from supernet.trust.verdict import FEW

_MOST_CLASSES = 20
"""Of more classes the matrix could not be read."""

_EXAMPLES = 12
"""Examples that are shown with their predictions, half of them wrong ones if there are."""

NOT_ANALYZED = "How far this ranking can be trusted is not known yet: run `supernet analyze`."


class Figure(TypedDict):
    """A figure of the page, what it shows, and the file that its numbers are in."""

    svg: Drawing
    caption: str
    source: str


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What the figures of a run are drawn from.

    Attributes:
        metric, score: units of the task's metric and of the scores.
        result: of `results.json`; empty if the run is not finished.
        analysis: of `analysis.json`; empty if there is none.
        values: of the candidates, as they were scored.
        history: of the one-shot model's training.
        histories: of the finalists' trainings, by group.
        winners_history: of a training of the winner; empty if there is none yet.
        is_like_the_paper: whether the points of the paper's Fig 5 can be shown beside those of the run.
    """

    metric: Unit
    score: Unit
    result: dict[str, Any]
    analysis: dict[str, Any]
    values: Sequence[float]
    history: Sequence[dict[str, float]]
    histories: dict[str, list[list[dict[str, float]]]]
    winners_history: Sequence[dict[str, float]]
    is_like_the_paper: bool

    @property
    def winner(self) -> Mapping[str, Any] | None:
        """The row of the winner; None if none is ranked."""
        if not self.result:
            return None
        first: dict[str, Any] = self.result["networks"][0]
        return first if "rank" in first and "score" in first else None

    @property
    def winners_score(self) -> float | None:
        """Its score by the one-shot model."""
        return None if self.winner is None else self.winner["score"]

    @property
    def points(self) -> list[dict[str, Any]]:
        """The networks that the analysis trained from scratch."""
        points: list[dict[str, Any]] = self.analysis.get("points", [])
        return points

    @property
    def candidates(self) -> dict[str, Any]:
        """Values and sizes of candidates, by column."""
        columns: dict[str, Any] = self.analysis.get("candidates", {})
        return columns

    @property
    def finalists(self) -> dict[str, list[tuple[float, float]]]:
        """Parameters and mean validation metric of the finalists, by group; empty if none was validated."""
        rows = {row["id"]: row for row in self.result.get("networks", ())}
        groups = {
            name: [
                (rows[i]["params"], sum(rows[i]["validation"]) / len(rows[i]["validation"]))
                for i in group["members"] if rows[i]["validation"]
            ]
            for name, group in self.result.get("groups", {}).items()
        }  # fmt: skip
        return groups if any(groups.values()) else {}

    @property
    def options(self) -> list[dict[str, Any]]:
        """What each option is worth."""
        rows: list[dict[str, Any]] = self.analysis.get("options", [])
        return rows

    @property
    def divergence(self) -> dict[str, Any]:
        """How the divergence agrees with score and accuracy."""
        return self.analysis.get("divergence") or {}

    @property
    def course(self) -> list[dict[str, Any]]:
        """The divergence at steps of the one-shot model's training."""
        rows: list[dict[str, Any]] = self.divergence.get("course", [])
        return rows


def _predicts(run: RunFacts) -> Drawing:
    paper = paper_points()["figure5"] if run.is_like_the_paper else ()
    return plots.predicts(run.points, run.metric, run.score, paper=paper, winner=run.winners_score)


def _place(run: RunFacts, column: str) -> tuple[float, float] | None:
    """Parameters and a value of the winner, the mean of several."""
    if run.winner is None or not (values := np.ravel(run.winner[column]).tolist()):
        return None
    return run.winner["params"], sum(values) / len(values)


def _size_bias_caption(run: RunFacts) -> str:
    tau = run.candidates["size_bias"]["params"]["kendall"]
    return "Does the score favour large networks? Candidates" + (
        "" if tau is None else f"; Kendall's tau of parameters and score is {tau:.2f}"
    )


FIGURES: tuple[tuple[str, Callable[[RunFacts], Drawing], str | Callable[[RunFacts], str], str], ...] = (
    (
        "points",
        _predicts,
        "Does the score predict? Networks drawn evenly over the score",
        "analysis.json: points",
    ),
    (
        "values",
        lambda run: plots.histogram(run.values, run.score, run.winners_score),
        "Scores of the candidates",
        "candidates.sqlite",
    ),
    (
        "candidates",
        lambda run: plots.size_bias(run.candidates, run.score, _place(run, "score")),
        _size_bias_caption,
        "analysis.json: candidates",
    ),
    (
        "finalists",
        lambda run: plots.size_against_metric(run.finalists, run.metric, _place(run, "validation")),
        "Size of the finalists against their validation metric, and the Pareto front",
        "results.json",
    ),
    (
        "divergence",
        lambda run: plots.divergence(run.points, run.score, run.winners_score),
        "Without labels: divergence from the outputs with almost everything on, and the score",
        "analysis.json: points",
    ),
    (
        "course",
        lambda run: plots.course(run.points, run.divergence, run.score),
        "The divergence of architectures from weak to strong during the training of the one-shot model",
        "analysis.json: divergence",
    ),
    (
        "history",
        lambda run: plots.training(run.history),
        "Training of the one-shot model",
        "train/history.json",
    ),
    (
        "histories",
        lambda run: plots.training_from_scratch(run.histories, run.winners_history),
        "Training of the finalists from scratch",
        "retrain/ID/REPEAT/result.json: history",
    ),
    (
        "options",
        lambda run: plots.options(run.options, run.score),
        "How much the score falls without an option, in the mean over the choices that have it; options that nothing "
        f"can replace are left out, and of more than {plots.MOST_OPTIONS} those that matter least",
        "analysis.json: options",
    ),
)
"""For each figure what `RunFacts` must have for it, how it is drawn, its caption, and where its numbers are."""


def run_figures(run: RunFacts) -> Iterator[Figure]:
    """The figures of `FIGURES` for which the run has numbers, and one for each dropout rate that was compared."""
    for needs, draw, caption, source in FIGURES:
        if getattr(run, needs):
            yield _figure(draw(run), caption if isinstance(caption, str) else caption(run), source)
    for row in run.analysis.get("sweep", ()):
        rho = row["agreement"]["spearman"]["value"]
        yield _figure(
            plots.sweep(run.points, row, run.metric, run.score),
            f"A one-shot model trained at dropout rate {row['rate']}: Spearman "
            + ("not defined" if rho is None else f"{rho:.2f}"),
            "analysis.json: points, sweep",
        )


def _figure(svg: Drawing, caption: str, source: str) -> Figure:
    return {"svg": svg, "caption": caption, "source": source}


def search_figures(
    proposed: Sequence[tuple[int, Candidate]],
    strategy: str,
    objectives: Sequence[str],
    score: Unit,
    winner: str = "",
) -> Iterator[Figure]:
    """The course of the search, and the Pareto front against each cost.

    Args:
        proposed: round and candidate, in the order in which the strategy proposed them.
        strategy: by its name.
        objectives: of the search, the score or the metric first.
        score: unit of the scores.
        winner: text of the architecture that won.
    """
    candidates = [c for _, c in proposed]
    whole = on_most(candidates)
    most = whole[0].examples
    rows = [
        (number, c.value if c.examples == most else None, c.deviation, round_)
        for number, (round_, c) in enumerate(proposed, start=1)
    ]
    places = [(n, c.value) for n, (_, c) in enumerate(proposed, start=1) if str(c.architecture) == winner]
    yield _figure(
        plots.best_so_far(rows, score, places[0] if places else None),
        f"The course of the strategy {strategy}, with {len(whole):,} candidates scored on all examples. The band "
        "is the standard error of the best score so far, without the luck of being the best of many",
        "candidates.sqlite",
    )
    best, volume = pareto(candidates, objectives)
    for cost in objectives[1:]:
        yield _figure(
            plots.front(
                cost,
                [(getattr(c, cost), c.value) for c in whole],
                [(getattr(c, cost), c.value, c.number) for c in best],
                score,
            ),
            f"Pareto front of {', '.join(objectives)} (hypervolume {volume:.3f} of the box between the worst and the "
            "best of each); `supernet retrain DIR --candidates NUMBER` trains a point",
            "candidates.sqlite",
        )


def trust_tables(
    place: str, trust: Mapping[str, Any] | None, analysis: Mapping[str, Any], metric: Unit | None = None
) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Tables of what `supernet.trust.correlation.trust` returns, each with the place of its numbers in `analysis.json`.

    Args:
        place: of `trust` in `analysis.json`.
        trust: None if the run was not analyzed. Of too few networks there are no tables, since they say nothing.
        analysis: as for `further_rows`.
        metric: as for `top_rows`.
    """
    if trust is None or trust["n"] < FEW:
        return []
    beside = ", ".join(name for name in ("divergence", "sweep", "candidates") if analysis.get(name))
    tables = [
        (place, trust_rows(trust)),
        (f"{place}; {beside}" if beside else place, further_rows(trust, analysis)),
        (f"{place}: regret, recall", top_rows(trust, metric)),
        (f"{place}: bands", band_rows(trust, metric)),
    ]
    return [(source, rows) for source, rows in tables if len(rows) > 1]


def truth_section(truth: Mapping[str, Any] | None, score: Unit) -> dict[str, Any] | None:
    """The comparison with published accuracies (`supernet analyze --truth`); None if there is none."""
    if truth is None:
        return None
    return {
        "text": f"{truth['trust']['n']:,} architectures of {truth['file']}, column {truth['column']}.",
        "verdict": truth["trust"]["verdict"],
        "tables": trust_tables("truth: trust", truth["trust"], {}),
        "figure": _figure(
            plots.published(truth["points"], truth["column"], score),
            "Do the scores predict the published accuracies?",
            "analysis.json: truth",
        ),
    }


def replay_section(replay: Mapping[str, Any], score: Unit) -> dict[str, Any] | None:
    """Every strategy on the run's own table (`supernet analyze --replay`); None unless the replay is finished."""
    if not replay.get("regret"):
        return None
    regret = {
        name: {key: [score.scale * value for value in values] for key, values in row.items()}
        for name, row in replay["regret"].items()
    }
    return {
        "text": replay_text(replay),
        "rows": replay_rows(replay),
        "figure": _figure(
            plots.strategies(replay["marks"], regret, score.difference),
            "How far the best so far of each strategy is below the best of all: median over seeds, and tenth to "
            "ninetieth percentile",
            "analysis.json: replay",
        ),
    }


def winner_section(result: Mapping[str, Any], space: Space) -> dict[str, Any]:
    """The winner in words and drawings."""
    first = result["networks"][0]
    text = winner_text(result) or "everything on, the only network"
    architecture = space.parse(first["architecture"])
    return {
        "text": f"{text[0].upper()}{text[1:]}.",
        "architecture": first["architecture"],
        "cells": networks.cells(dict(architecture.picks), {choice.name: choice.options for choice in space.choices}),
        "network": networks.network(network_parts(space, architecture)),
    }


def prediction_section(
    targets: Sequence[int], outputs: NDArray[Any], classes: Sequence[str], images: Sequence[NDArray[Any]] | None
) -> dict[str, Any]:
    """What the winner predicts on the validation split: a table of the classes, and figures.

    Args:
        targets: class of each example.
        outputs: of the network before the softmax, [N, K].
        classes: their names.
        images: of each example, [H, W] or [H, W, 3], from 0 to 1; None if examples are not images.
    """
    truth, guesses = np.asarray(targets), outputs.argmax(1)
    counts = np.zeros((len(classes), len(classes)), int)
    np.add.at(counts, (truth, guesses), 1)
    rows = [("class", "examples", "right (%)", "taken for, most often")]
    for k, name in enumerate(classes):
        wrong = counts[k].copy()
        wrong[k] = 0
        other = f"{classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else "-"
        right = f"{100 * counts[k, k] / counts[k].sum():.1f}" if counts[k].any() else "-"
        rows.append((name, f"{counts[k].sum():,}", right, other))
    source = "retrain/ID/0/weights.safetensors, on the validation split"
    figures = []
    if len(classes) <= _MOST_CLASSES:
        caption = "Which classes the winner takes for which (one training of it)"
        figures.append(_figure(plots.confusion(counts, classes), caption, source))
    if images is not None:
        wrong_ones = np.flatnonzero(guesses != truth)[: _EXAMPLES // 2].tolist()
        right_ones = np.flatnonzero(guesses == truth)[: _EXAMPLES - len(wrong_ones)].tolist()
        shown = [(images[i], classes[truth[i]], classes[guesses[i]]) for i in (*wrong_ones, *right_ones)]
        caption = "Examples with the class that the winner predicts, and the right one where it is wrong"
        figures.append(_figure(plots.predictions(shown), caption, source))
    return {"rows": rows, "figures": figures}


def template() -> Any:
    """The template of the page; its filter `code` sets what stands between backticks as code."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    def code(text: str) -> Markup:
        return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))

    text = files("supernet.trust").joinpath("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["code"] = code
    return environment.from_string(text)
