"""`supernet analyze --plan`: how many networks and trainings would tell what a ranking is worth, from a pilot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from supernet.base.files import read_json
from supernet.program.folder import Opened, RunError
from supernet.program.plan import duration
from supernet.trust.noise import designs, repeatability
from supernet.trust.verdict import FEW, USEFUL

_REPEATS = (1, 2, 3, 5)
"""Numbers of trainings of each network that are compared."""

_PILOT = "--analysis.per_bucket 1 --analysis.repeats 2"


def plan_analysis(run: Opened) -> dict[str, Any]:
    """How many networks, trained how often and how long, would show a useful tau, and what that takes.

    Trainings of one length are one pilot: the short ones of an analysis, also of earlier lengths, and those of the
    finalists. Of finalists the best alone were trained often, which makes them look noisier than networks drawn evenly.

    Returns:
        `true_tau`, which is to be found, and `pilots`: for each `source`, `steps`, `networks` that were trained at
        least twice, `repeatability`, `seconds` of one training, and `designs`, see `supernet.trust.noise.designs`, each
        with the `seconds` of all its trainings on one processor.

    Raises:
        RunError: no four networks were trained twice; the message names a command that does it.
    """
    folder, config = run.folder, run.config
    trainings = [
        *(("analysis", path, config.analysis.train.batch_size) for path in sorted(folder.analysed.glob("networks*"))),
        ("finalists", folder.retrain, config.retrain.train.batch_size),
    ]
    pilots = [pilot for source, path, batch_size in trainings for pilot in _pilots(source, path, batch_size)]
    if not pilots:
        raise RunError(
            f"{folder}: --plan needs four networks that were trained twice, and there are none: `supernet analyze "
            f"{folder} {_PILOT}` trains one network of each bucket of the score twice; a larger analysis takes these "
            "trainings as they are"
        )
    return {"true_tau": USEFUL, "pilots": pilots}


def _pilots(source: str, place: Path, batch_size: int) -> Iterator[dict[str, Any]]:
    """The trainings in a folder, by their length."""
    by_steps: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for file in sorted(place.glob("*/*/result.json")):
        result = read_json(file)
        if result["history"] and result["validation"] is not None:
            by_steps.setdefault(result["history"][-1]["step"], {}).setdefault(result["architecture"], []).append(result)
    for steps, networks in by_steps.items():
        rows = [[result["validation"] for result in results] for results in networks.values()]
        width = max(map(len, rows))
        tau = repeatability([row + [math.nan] * (width - len(row)) for row in rows])
        if tau is None:
            continue
        results = [result for results in networks.values() for result in results]
        seconds = statistics.median(_seconds(result, batch_size) for result in results)
        yield {
            "source": source, "steps": steps, "networks": sum(len(row) > 1 for row in rows), "repeatability": tau,
            "seconds": seconds,
            "designs": [
                {**row, "seconds": None if row["trainings"] is None else row["trainings"] * seconds}
                for row in designs(tau["value"] or 0.0, USEFUL, _REPEATS)
            ],
        }  # fmt: skip


def _seconds(result: Mapping[str, Any], batch_size: int) -> float:
    """What a training took, by the speed that its history has."""
    history = result["history"]
    return float(history[-1]["step"] * batch_size / statistics.median(row["examples_per_second"] for row in history))


def plan_lines(plan: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """A plan for the terminal: sentences before, a table, and sentences after it."""

    def is_sure(pilot: Mapping[str, Any]) -> bool:
        limits = pilot["repeatability"]["interval"]
        return limits is not None and limits[0] > 0

    choices = [
        (is_sure(pilot), row["seconds"], pilot, row)
        for pilot in plan["pilots"] for row in pilot["designs"]
        if row["seconds"] is not None and row["repeats"] > 1  # one training each would leave its noise unknown
    ]  # fmt: skip
    if not choices:
        before = ["Trainings of one network with other seeds agree no better than by chance: longer ones may tell."]
    else:
        _, seconds, pilot, row = min(choices, key=lambda choice: (not choice[0], choice[1]))
        before = [
            f"To tell whether scores predict, train about {max(FEW, row['networks'])} networks {row['repeats']} times "
            f"each for {pilot['steps']:,} steps: about {duration(seconds)} of one processor."
        ]
    head = ("steps", "repeats", "most a score can have", "networks", "trainings", "time")
    table = [head] + [
        (
            f"{pilot['steps']:,}", str(row["repeats"]), f"{row['ceiling']:.2f}",
            *("-" if row[key] is None else f"{row[key]:,}" for key in ("networks", "trainings")),
            "-" if row["seconds"] is None else duration(row["seconds"]),
        )
        for pilot in plan["pilots"] for row in pilot["designs"]
    ]  # fmt: skip
    after = [
        f"A true tau of {plan['true_tau']} is found in 80 % of cases, over the networks as they are drawn; over all "
        "candidates it takes more. --analysis.per_bucket sets the networks, --analysis.repeats the trainings."
    ]
    for pilot in plan["pilots"]:
        tau, whose = pilot["repeatability"], "finalists" if pilot["source"] == "finalists" else "networks of analyze"
        value, limits = tau["value"] or 0.0, tau["interval"] or (-1.0, 1.0)
        after.append(
            f"{pilot['networks']} {whose}, trained at least twice for {pilot['steps']:,} steps, agree with Kendall's "
            f"tau {value:.2f} ({limits[0]:.2f} to {limits[1]:.2f}) between two trainings"
            + ("." if is_sure(pilot) else ": this pilot is too small, or its trainings are too short, to plan by.")
        )
    after.append(f"Another length: {_PILOT} --analysis.train.epochs NUMBER; what was trained is kept.")
    return before, table, after
