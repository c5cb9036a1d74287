"""`supernet study`: the trainings from scratch as an Optuna study.

Known networks are not in it, since their parameters are not those of the run's space, nor are the further trainings of
`retrain.confirm`, those of heats, and those at other sizes (`retrain.at`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supernet.base.files import read_json, without_password
from supernet.program.config import Config, retrained_space, to_yaml
from supernet.program.folder import Opened, require, task_of
from supernet.program.load import space_of_run
from supernet.program.paths import RunFolder
from supernet.retrain.study import Training, open_study, send
from supernet.search.finalists import from_json
from supernet.search.orders import Candidate
from supernet.search.table import read_candidates
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table
from supernet.speed.runtime import RuntimeConfig


def finalists_left(folder: RunFolder, space: Space) -> dict[str, list[Architecture]]:
    """The groups of finalists that are trained in full: after the heats if they are over, else all of the search."""
    return from_json(read_json(folder.kept if folder.kept.exists() else folder.finalists), space)


def run_id(config: Config, hashes: dict[str, str]) -> str:
    """What tells a run from others in the same study: a digest of its configuration and its data."""
    text = to_yaml(dataclasses.replace(config, runtime=RuntimeConfig())) + repr(sorted(hashes.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def trainings_of(
    folder: RunFolder,
    config: Config,
    space: Space,
    costs: CostTable,
    scored: Mapping[Architecture, Candidate],
    others: Sequence[Architecture] = (),
) -> list[Training]:
    """The stand-alone trainings of a run: those of finalists, done or not, and what else was trained from scratch.

    Args:
        folder: of the run.
        config: its configuration.
        space: of its stand-alone networks.
        costs: of these.
        scored: the candidates of the run, by architecture.
        others: architectures that are to be trained too.
    """
    place = folder.retrain
    groups = finalists_left(folder, space) if folder.finalists.exists() else {}
    everyone = [*(a for members in groups.values() for a in members), *others]
    everyone += [space.parse(read_json(path)["architecture"]) for path in sorted(place.glob("*/0/result.json"))]
    trainings = []
    for architecture in dict.fromkeys(everyone):
        candidate = scored.get(architecture)
        facts: dict[str, Any] = {**dataclasses.asdict(costs.cost(architecture)), "run": folder.name}
        facts["groups"] = ", ".join(name for name, members in groups.items() if architecture in members)
        if candidate is not None:
            facts |= {
                "score": candidate.score,
                "examples": candidate.examples,
                "strategy": candidate.strategy,
                "number": candidate.number,
            }
            facts |= {name: value for name in ("latency", "memory") if (value := getattr(candidate, name)) is not None}
        for repeat in range(config.retrain.repeats):
            trainings.append(Training(architecture, repeat, place / architecture.id / str(repeat), facts))
    return trainings


def send_study(run: Opened, storage: str | None, name: str | None, artifacts: Path | None = None) -> dict[str, Any]:
    """Brings the study of a run up to date, from files only.

    Returns:
        `storage` (without its password), `study`, `artifacts`, `sent` (trials added or completed) and `trials` (all of
        them).

    Raises:
        RunError: nothing was searched yet.
        StorageError: see `supernet.retrain.study.open_study`.
    """
    folder, config = run.folder, dataclasses.replace(run.config, task=task_of(run))
    space_of_run(run)
    require(folder, "search")
    facts = read_json(folder.data, ("classes", "inputs", "hashes"))
    space = retrained_space(config, facts["classes"], facts["inputs"])
    scored = {c.architecture: c for c in read_candidates(folder.candidates, space)}
    trainings = trainings_of(folder, config, space, cost_table(space), scored)
    address = without_password(storage) if storage else f"sqlite:///{folder.study}"
    with open_study(folder.path, space, storage, name) as study:
        place = artifacts or folder.artifacts
        place.mkdir(parents=True, exist_ok=True)
        sent = send(study, space, trainings, run_id(config, facts["hashes"]), place, is_own=storage is None)
        trials = len(study.get_trials(deepcopy=False))
        return {
            "storage": address, "study": study.study_name, "artifacts": str(place), "sent": sent, "trials": trials,
        }  # fmt: skip
