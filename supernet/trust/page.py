"""`supernet report`: the files of a run as one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from supernet.base.files import read_json, read_records, write_text
from supernet.config import Config, retrained_space
from supernet.draw import networks
from supernet.draw import plots as draw
from supernet.draw.parts import network_parts
from supernet.runs import open_run, require
from supernet.search.latency import summary
from supernet.search.orders import Candidate, on_most, pareto
from supernet.search.table import in_order_asked, read_candidates
from supernet.space.choices import Space
from supernet.train.fit import TrainConfig
from supernet.trust.correlation import paper_points
from supernet.trust.tables import (
    RESULT_KEYS,
    band_rows,
    comparison_lines,
    option_rows,
    replay_rows,
    replay_text,
    result_rows,
    sizes_of,
    top_rows,
    trust_rows,
    winner_text,
)

NO_STUDY = "How far this ranking can be trusted is not known yet: `supernet analyze` finds out."


def write_report(folder: Path) -> Path:
    """Writes `report.html`, from files only.

    Args:
        folder: of a finished run; with `analysis.json` in it the page tells what the ranking is worth.

    Returns:
        The page.

    Raises:
        RunError: no run folder, or one that is not finished; the message says which step is missing.
        ValueError: a file is damaged.
    """
    try:
        page = _page(folder)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{folder}: results.json or analysis.json is damaged or of another version ({type(error).__name__}: "
            f"{error}): run `supernet analyze {folder}` again"
        ) from None
    path = folder / "report.html"
    write_text(path, page)
    return path


def _page(folder: Path) -> str:
    config = open_run(folder)
    result = read_json(require(folder, "retrain"), RESULT_KEYS)
    analysis = read_json(folder / "analysis.json") if (folder / "analysis.json").exists() else {}
    known = read_json(folder / "data.json", ("classes", "inputs", "hashes", "images"))
    environment = read_json(folder / "environment.json")
    space = retrained_space(config, known["classes"], known["inputs"])
    candidates = read_candidates(folder / "candidates.sqlite", space)
    history = read_records(folder / "train" / "history.json")
    trust = analysis.get("trust")
    rendered: str = _template().render(
        name=folder.resolve().name,
        space=space.name,
        candidates=f"{len(candidates):,}",
        verdict=NO_STUDY if trust is None else trust["verdict"],
        diagnosis=[row for row in analysis.get("diagnosis", ()) if row["found"]],
        groups=result_rows(result),
        opened=f"The test set was used once, at {result['test_split']['opened']}.",
        comparisons=comparison_lines((analysis.get("groups") or {}).get("differences", ())),
        sizes=sizes_of(analysis),
        winner=_winner(result, space),
        figures=_figures("trust", trust, analysis),
        options=option_rows(analysis.get("options", ())),
        best_rate=analysis.get("best_rate"),
        truth=_truth(analysis.get("truth"), config),
        plots=_plots(result, analysis, config, [c.accuracy for c in candidates], history, _histories(folder, result)),
        search=list(_search_plots(in_order_asked(folder / "candidates.sqlite", candidates), config)),
        replay=_replay(analysis.get("replay", {})),
        command="\n".join(dict.fromkeys(step["command"] for step in environment.values())),
        facts=[*_facts(config, environment, known), *_latency_fact(folder)],
    )
    return rendered


def _figures(place: str, trust: dict[str, Any] | None, more: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
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


def _truth(found: dict[str, Any] | None, config: Config) -> dict[str, Any] | None:
    """What the scores say of accuracies that somebody else published."""
    if found is None:
        return None
    metric = config.task.metric.rpartition(":")[2]
    return {
        "text": f"{found['trust']['n']:,} architectures of {found['file']}, column {found['column']}.",
        "verdict": found["trust"]["verdict"],
        "figures": _figures("truth: trust", found["trust"], {}),
        "plot": {
            "svg": draw.published(found["points"], found["column"], metric, config.search.score),
            "caption": "Do the scores predict what was published?", "source": "analysis.json: truth",
        },
    }  # fmt: skip


def _histories(folder: Path, result: dict[str, Any]) -> dict[str, list[list[dict[str, float]]]]:
    """Training curves of the finalists, by group; a network of two groups is told in the first."""
    seen: set[str] = set()
    found: dict[str, list[list[dict[str, float]]]] = {}
    for name, group in result["groups"].items():
        for member in dict.fromkeys(group["members"]):
            for path in sorted((folder / "retrain" / member).glob("*/result.json")) if member not in seen else ():
                found.setdefault(name, []).append(read_json(path, ("history",))["history"])
            seen.add(member)
    return found


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    text = files("supernet").joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def _winner(result: dict[str, Any], space: Space) -> dict[str, Any]:
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


def _plots(
    result: dict[str, Any],
    analysis: dict[str, Any],
    config: Config,
    scores: Sequence[float],
    history: Sequence[dict[str, float]],
    histories: dict[str, list[list[dict[str, float]]]],
) -> Any:
    """Each figure with its caption and the file that its numbers are in."""
    metric, score = config.task.metric.rpartition(":")[2], config.search.score
    points = analysis.get("points", [])
    if points:
        comparable = config.space.name == "bender" and (metric, score) == ("accuracy", "metric")
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


def _search_plots(asked: Sequence[tuple[int, Candidate]], config: Config) -> Iterator[dict[str, Any]]:
    """The course of the search, and the Pareto front against each cost.

    Args:
        asked: round and candidate, in the order in which the strategy asked for them.
        config: of the run.
    """
    metric, score = config.task.metric.rpartition(":")[2], config.search.score
    candidates = [c for _, c in asked]
    whole = on_most(candidates)
    most = whole[0].images
    yield {
        "svg": draw.best_so_far(
            [
                (number, c.accuracy if c.images == most else None, c.deviation, round_)
                for number, (round_, c) in enumerate(asked, start=1)
            ],
            metric, score,
        ),
        "caption": f"What the strategy {config.search.strategy} found, of {len(whole):,} candidates scored on all "
        "examples; around the best so far the standard error of its score (and the best of many is lucky besides)",
        "source": "candidates.sqlite",
    }  # fmt: skip
    best, volume = pareto(candidates, config.search.sought)
    for cost in config.search.sought[1:]:
        yield {
            "svg": draw.front(
                cost, [(getattr(c, cost), c.accuracy) for c in whole],
                [(getattr(c, cost), c.accuracy, c.number) for c in best], metric, score,
            ),
            "caption": f"Pareto front of {', '.join(config.search.sought)} (hypervolume {volume:.3f} of the box "
            "between the worst and the best of each); `supernet retrain DIR --candidates NUMBER` trains a point",
            "source": "candidates.sqlite",
        }  # fmt: skip


def _replay(found: dict[str, Any]) -> dict[str, Any] | None:
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


def _latency_fact(folder: Path) -> list[tuple[str, str]]:
    text = summary(folder / "latency.json")
    return [] if text is None else [("latency", text)]


def _facts(config: Config, environment: dict[str, Any], known: dict[str, Any]) -> list[tuple[str, str]]:
    last = list(environment.values())[-1]
    return [
        ("seed", str(config.seed)),
        ("data", str(config.data.path or config.data.name)),
        ("examples", ", ".join(f"{name} {number:,}" for name, number in known["images"].items())),
        *((f"hash of {name}", value) for name, value in known["hashes"].items()),
        ("budget", f"one-shot model {_budget(config.train)}, each finalist {_budget(config.retrain.train)}"),
        ("versions", f"supernet {last['supernet']}, torch {last['torch']}, Python {last['python']}"),
        ("machine", f"{last['system']}, {last['cores']} cores; {last['precision']}, {last['layout']}"),
        *((f"{step} started", row["started"]) for step, row in environment.items()),
        ("every setting", "config.yaml: `supernet run config.yaml --out DIR` repeats the run"),
    ]  # fmt: skip


def _budget(train: TrainConfig) -> str:
    return f"{train.epochs:g} epochs" if train.steps is None else f"{train.steps:,} steps of {train.batch_size}"
