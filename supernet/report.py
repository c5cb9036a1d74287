"""`supernet report`: the files of a run as one page of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernet import draw
from supernet.config import Config, make_space
from supernet.describe import RESULT_KEYS, comparison_lines, result_rows, sizes_of, trust_rows, winner_text
from supernet.files import read_json, read_records, write_atomically
from supernet.model import build, call, example_of, without_data
from supernet.runs import open_run, require
from supernet.search import read_candidates
from supernet.space import Architecture, Space
from supernet.train import TrainConfig

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
    config = open_run(folder)
    result = read_json(require(folder, "retrain"), RESULT_KEYS)
    analysis = read_json(folder / "analysis.json") if (folder / "analysis.json").exists() else {}
    known = read_json(folder / "data.json", ("classes", "inputs", "hashes", "images"))
    environment = read_json(folder / "environment.json")
    space = make_space(config.space, len(known["classes"]), known["inputs"], config.retrain.space)
    candidates = read_candidates(folder / "candidates.sqlite", space)
    history = read_records(folder / "train" / "history.json")
    trust = analysis.get("trust")
    page = _template().render(
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
        figures=[] if trust is None else trust_rows(trust, analysis),
        plots=list(_plots(result, analysis, config, [c.accuracy for c in candidates], history)),
        command="\n".join(dict.fromkeys(step["command"] for step in environment.values())),
        facts=_facts(config, environment, known),
    )
    path = folder / "report.html"
    write_atomically(path, lambda file: file.write(page.encode()))
    return path


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    text = files("supernet").joinpath("report.html.j2").read_text(encoding="utf-8")
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(text)


def _winner(result: dict[str, Any], space: Space) -> dict[str, Any]:
    first = result["networks"][0]
    text = winner_text(result) or "everything on, the only network"
    architecture = space.parse(first["architecture"])
    every = {choice.name: choice.options for choice in space.choices}
    return {
        "text": f"{text[0].upper()}{text[1:]}.",
        "architecture": first["architecture"],
        "cell": draw.cell(dict(architecture.picks), every),
        "network": network_rows(space, architecture),
    }


def network_rows(space: Space, architecture: Architecture) -> list[tuple[str, str, str, str]]:
    """The parts of a stand-alone network in the order in which they run: name, kind, parameters, shape of the output.

    Parts are the modules in the network, and those in its lists of modules.
    """
    with without_data():
        network = build(space, architecture).eval()
        example = example_of(space, 2)
    rows: list[tuple[str, str, str, str]] = []

    def note(name: str, module: nn.Module) -> None:
        def after(_module: nn.Module, _inputs: Any, output: Any) -> None:
            shape = " x ".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else "-"
            number = sum(p.numel() for p in module.parameters())
            rows.append((name, type(module).__name__.lstrip("_"), f"{number:,}", shape))

        module.register_forward_hook(after)

    for name, module in _parts(network):
        note(name, module)
    with torch.no_grad():
        call(network, example)
    return rows


def _parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found = []
    for name, child in module.named_children():
        opened = isinstance(child, (nn.ModuleList, nn.ModuleDict))
        found += _parts(child, f"{prefix}{name}.") if opened else [(f"{prefix}{name}", child)]
    return found or [(prefix.rstrip(".") or "network", module)]


def _plots(
    result: dict[str, Any],
    analysis: dict[str, Any],
    config: Config,
    scores: Sequence[float],
    history: Sequence[dict[str, float]],
) -> Any:
    """Each figure with its caption and the file that its numbers are in."""
    metric, score = config.task.metric.rpartition(":")[2], config.search.score
    points = analysis.get("points", [])
    if points:
        comparable = config.space.name == "bender" and (metric, score) == ("accuracy", "metric")
        yield {
            "svg": draw.predicts(points, metric, score, with_paper=comparable),
            "caption": "Does the score predict? Networks drawn evenly over the score",
            "source": "analysis.json: points", "wide": False,
        }  # fmt: skip
    yield {
        "svg": draw.histogram(scores, metric, score), "caption": "Scores of the candidates",
        "source": "candidates.sqlite", "wide": False,
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
            "source": "results.json", "wide": False,
        }  # fmt: skip
    if analysis.get("options"):
        yield {
            "svg": draw.options(analysis["options"], metric, score),
            "caption": "What each option is worth: how much the score falls without it",
            "source": "analysis.json: options", "wide": False,
        }  # fmt: skip
    if analysis.get("divergence"):
        yield {
            "svg": draw.divergence(points, analysis["divergence"], metric, score),
            "caption": "Without labels: divergence from the outputs with almost everything on",
            "source": "analysis.json: points, divergence", "wide": True,
        }  # fmt: skip
    if analysis.get("sweep"):
        yield {
            "svg": draw.sweep(points, analysis["sweep"], metric),
            "caption": "Dropout rates: how well one-shot models rank that were trained at each",
            "source": "analysis.json: sweep", "wide": True,
        }  # fmt: skip
    yield {
        "svg": draw.training(history), "caption": "Training of the one-shot model",
        "source": "train/history.json", "wide": False,
    }  # fmt: skip


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
