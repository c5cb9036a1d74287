"""`supernet report`: a run as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from supernet.base.files import read_json, read_records, write_text
from supernet.base.own import is_function
from supernet.base.trees import call, in_full_precision
from supernet.data import splits as datasets
from supernet.draw.svg import Drawing
from supernet.draw.units import Unit
from supernet.program.config import Config, retrained_space
from supernet.program.folder import Opened, RunError, is_done, require, task_of
from supernet.program.load import load_finalist, space_of_run
from supernet.program.paths import RunFolder
from supernet.program.plan import duration
from supernet.program.progress import RENEWED, progress_of, state_text
from supernet.search.latency import summary
from supernet.search.orders import Candidate
from supernet.search.table import in_order_asked, read_candidates
from supernet.train.fit import TrainConfig
from supernet.trust.advice import advice
from supernet.trust.page import (
    NOT_ANALYZED,
    Figure,
    RunFacts,
    prediction_section,
    replay_section,
    run_figures,
    search_figures,
    template,
    trust_tables,
    truth_section,
    winner_section,
)
from supernet.trust.tables import (
    RESULT_KEYS,
    best_rate_text,
    comparison_lines,
    failed_text,
    heats_text,
    network_rows,
    opening_text,
    option_rows,
    refined_text,
    result_rows,
    size_tables,
    tested_sizes,
    units_of,
)


def write_report(run: Opened) -> Path:
    """Writes `report.html`, from files only.

    Args:
        run: of a finished one the page says how far the ranking can be trusted if `analysis.json` is in it; of another
            one it shows what there is so far.

    Returns:
        The path of the page.

    Raises:
        RunError: nothing has begun.
        ValueError: a file is damaged.
    """
    folder = run.folder
    try:
        page = _page(run) if is_done(folder, "retrain") else _page_so_far(run)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{folder}: results.json or analysis.json is damaged or of another version ({type(error).__name__}: "
            f"{error}): run `supernet analyze {folder}` again"
        ) from None
    write_text(folder.report, page)
    return folder.report


def _page(run: Opened) -> str:
    folder, config = run.folder, run.config
    result = read_json(require(folder, "retrain"), RESULT_KEYS)
    analysis = read_json(folder.analysis) if folder.analysis.exists() else {}
    data = read_json(folder.data, ("classes", "inputs", "hashes", "examples", "summary"))
    environment = read_json(folder.environment)
    space = retrained_space(config, data["classes"], data["inputs"])
    metric, score = units_of(result)
    trust = analysis.get("trust")
    candidates, of_run, of_search = _figures(run, result, analysis)
    refined = refined_text(result["refined"]) if "refined" in result else None
    notes = [
        text for text in (heats_text(result), failed_text(result), refined, opening_text(result["test_split"])) if text
    ]
    rendered: str = template().render(
        under_way=None,
        name=folder.name,
        space=space.name,
        candidates=f"{len(candidates):,}",
        metric=metric.name,
        against=(result.get("against_reference") or {}).get("text"),
        verdict=NOT_ANALYZED if trust is None else trust["verdict"],
        advice=advice_on(run, result),
        diagnosis=[row for row in analysis.get("diagnosis", ()) if row["found"]],
        groups=result_rows(result),
        networks=network_rows(result),
        opened=" ".join(f"{text[0].upper()}{text[1:]}." for text in notes),
        comparisons=comparison_lines((analysis.get("groups") or {}).get("differences", ()), metric),
        tested=tested_sizes(result),
        sizes=size_tables(analysis),
        winner=winner_section(result, space),
        trust_tables=trust_tables("trust", trust, analysis, metric),
        options=option_rows(analysis.get("options", ()), score),
        best_rate=best_rate_text(analysis.get("best_rate")),
        truth=truth_section(analysis.get("truth"), score),
        run_figures=of_run,
        search_figures=of_search,
        predictions=_predictions(run, result),
        times=_times(environment),
        replay=replay_section(analysis.get("replay", {}), score),
        command="\n".join(dict.fromkeys(step["command"] for step in environment.values())),
        facts=[*_facts(config, environment, data), *_latency_fact(folder)],
    )
    return rendered


def _page_so_far(run: Opened) -> str:
    """The page of a run that is under way, or was stopped: its state, its candidates, and curves of its trainings."""
    folder, config = run.folder, run.config
    if not (folder.environment.exists() and folder.data.exists()):
        raise RunError(f"{folder} has nothing to show yet: run `supernet train {folder}` first")
    environment, data = read_json(folder.environment), read_json(folder.data, ("hashes", "summary"))
    candidates, of_run, of_search = _figures(run, {}, {})
    rendered: str = template().render(
        name=folder.name,
        space=config.space.name,
        candidates=f"{len(candidates):,}",
        under_way=state_text(folder, progress_of(folder)),
        renewed=RENEWED,
        advice=[],
        diagnosis=[],
        run_figures=of_run,
        search_figures=of_search,
        times=_times(environment),
        command="\n".join(dict.fromkeys(step["command"] for step in environment.values())),
        facts=_facts(config, environment, data),
    )
    return rendered


def figures_of(run: Opened) -> dict[str, Drawing]:
    """The figures of a run's page by their names, of a run that is under way those for which there are numbers.

    Raises:
        ValueError: a file is damaged.
    """
    folder = run.folder
    result = read_json(folder.results, RESULT_KEYS) if is_done(folder, "retrain") else {}
    _, *figures = _figures(run, result, read_json(folder.analysis) if result and folder.analysis.exists() else {})
    return {figure["svg"].name: figure["svg"] for part in figures for figure in part}


def _figures(
    run: Opened, result: dict[str, Any], analysis: dict[str, Any]
) -> tuple[list[Candidate], list[Figure], list[Figure]]:
    """The candidates of a run, the figures of its trainings and its verdict, and those of its search.

    Args:
        result: of `results.json`; empty if the run is not finished.
        analysis: of `analysis.json`; empty if there is none.
    """
    folder, config = run.folder, run.config
    candidates, proposed = list[Candidate](), list[tuple[int, Candidate]]()
    if folder.candidates.exists():
        candidates = read_candidates(folder.candidates, space_of_run(run))
        proposed = in_order_asked(folder.candidates, candidates)
    metric, score = units_of(result or {"metric": task_of(run).metric, "score": config.search.ranked_by})
    facts = RunFacts(
        metric=metric,
        score=score,
        result=result,
        analysis=analysis,
        values=[c.score if config.search.parts else c.value for c in candidates],
        history=read_records(folder.history) if folder.history.exists() else [],
        histories=_histories(folder, result) if result else _histories_so_far(folder),
        winners_history=_history_of(folder, result["networks"][0]) if result else (),
        is_like_the_paper=config.space.name == "bender" and score == metric == Unit.of("accuracy"),
    )
    winner = result["networks"][0]["architecture"] if result else ""
    is_shown = bool(result) or any(c.examples for c in candidates)
    of_search = search_figures(proposed, config.search.strategy, config.search.sought, score, winner)
    return candidates, list(run_figures(facts)), list(of_search) if is_shown else []


def _history_of(folder: RunFolder, row: dict[str, Any]) -> list[dict[str, float]]:
    """The curve of the first training of a network of `results.json`; empty if it has none."""
    path = folder.retrain / row["id"] / "0" / "result.json"
    return read_json(path, ("history",))["history"] if path.exists() else []


def _histories_so_far(folder: RunFolder) -> dict[str, list[list[dict[str, float]]]]:
    """Curves of the trainings from scratch that are done; none before the first."""
    curves = [read_json(path, ("history",))["history"] for path in sorted(folder.retrain.glob("*/*/result.json"))]
    return {"trained so far": curves} if curves else {}


def _predictions(run: Opened, result: dict[str, Any]) -> dict[str, Any]:
    """What the winner predicts on the validation split; a note if it cannot be said."""
    if is_function(run.config.data.name):
        return {"note": "The data come from a function of yours, which a report does not call."}
    try:
        data = datasets.load(run.config.data, seed=run.config.seed)
    except (OSError, ValueError) as error:
        return {"note": f"The data cannot be read now ({error})."}
    if data.hashes != read_json(run.folder.data, ("hashes",))["hashes"]:
        return {"note": "The data have changed since the run."}
    if not data.classes or data.validation.targets.ndim != 1:
        return {"note": "The targets are not one class for each example."}
    network = load_finalist(run, result["networks"][0])
    device = torch.device("cpu")
    with torch.inference_mode():
        batches = datasets.batches(data.validation, data, device=device)
        outputs = torch.cat([in_full_precision(call(network, examples)) for examples, _ in batches])
    if outputs.ndim != 2 or outputs.shape[1] != len(data.classes):
        return {"note": "The network does not give an output for each class."}
    examples = data.validation.examples
    images = None
    if getattr(examples, "dtype", None) in (torch.uint8, np.uint8) and examples.ndim == 4:
        images = [np.moveaxis(np.asarray(image), 0, -1).squeeze() / 255 for image in examples[: len(outputs)]]
    return prediction_section(data.validation.targets.tolist(), outputs.numpy(), data.classes, images)


def _times(environment: dict[str, Any]) -> list[tuple[str, ...]]:
    """When each step began and how long it took: a head, and a row for each."""
    rows = [(step, row["started"].replace("T", " ")[:16], duration(row["seconds"])) for step, row in environment.items()
            if row.get("seconds")]  # fmt: skip
    return [("step", "last begun (UTC)", "time"), *rows]


def advice_on(run: Opened, result: dict[str, Any]) -> list[str]:
    """What `supernet.trust.advice` says of a finished run; nothing of runs of earlier versions."""
    folder, data = run.folder, read_json(run.folder.data)
    if "counts" not in data:
        return []
    curves = [curve for histories in _histories(folder, result).values() for curve in histories]
    return advice(result, curves, data["classes"], data["counts"], run.config.task.loss)


def _histories(folder: RunFolder, result: dict[str, Any]) -> dict[str, list[list[dict[str, float]]]]:
    """Training curves of the finalists, by group; a network of two groups is in the first."""
    seen: set[str] = set()
    histories: dict[str, list[list[dict[str, float]]]] = {}
    for name, group in result["groups"].items():
        for member in dict.fromkeys(group["members"]):
            folders = [folder.retrain / member, *sorted(folder.reference(member).glob("*"))]
            for path in (p for place in folders if member not in seen for p in sorted(place.glob("*/result.json"))):
                histories.setdefault(name, []).append(read_json(path, ("history",))["history"])
            seen.add(member)
    return histories


def _latency_fact(folder: RunFolder) -> list[tuple[str, str]]:
    text = summary(folder.latency)
    return [] if text is None else [("latency", text)]


def _facts(config: Config, environment: dict[str, Any], data: dict[str, Any]) -> list[tuple[str, str]]:
    last = list(environment.values())[-1]
    return [
        ("seed", str(config.seed)),
        ("data", str(config.data.path or config.data.name)),
        ("examples", data["summary"]),
        *((f"hash of {name}", value) for name, value in data["hashes"].items()),
        ("budget", f"one-shot model {_budget(config.train)}, each finalist {_budget(config.retrain.train)}"),
        ("versions", f"supernet {last['supernet']}, torch {last['torch']}, Python {last['python']}"),
        ("machine", f"{last['system']}, {last['cores']} cores; {last['precision']}, {last['layout']}"),
        ("every setting", "config.yaml: `supernet run config.yaml --out DIR` repeats the run"),
    ]  # fmt: skip


def _budget(train: TrainConfig) -> str:
    return f"{train.epochs:g} epochs" if train.steps is None else f"{train.steps:,} steps of {train.batch_size}"
