"""`supernet export`: a network of a run as files."""

from __future__ import annotations

import contextlib
import glob
import shlex
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from supernet.base.files import read_json, write_json
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import derive
from supernet.export import card
from supernet.export.forms import Chosen, ExportConfig, Origin, check_packages, write_forms
from supernet.export.inherited import STATISTICS_EXAMPLES, inherit
from supernet.export.reading import FACTS, ExportError, is_export
from supernet.program.config import Config, space_of
from supernet.program.folder import Opened, RunError, is_done
from supernet.program.load import Loaded, finalist, load_one_shot, load_run, read_networks
from supernet.program.paths import RunFolder
from supernet.retrain.trainings import is_trained, read_network
from supernet.space.model import build


def export(run: Opened, out: Path, config: ExportConfig, watch: Watch) -> dict[str, Any]:
    """Writes a network of a run to a folder.

    Nothing is left behind unless every file agrees with the network.

    Args:
        run: it.
        out: where to; a folder of an earlier export is replaced.
        config: what and how.
        watch: progress and stop.

    Returns:
        What `export.json` holds.

    Raises:
        RunError: the run is not ready for this.
        ExportError: the network cannot be written so, a package is missing, or a file does not agree with the network.
    """
    if out.exists() and not is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there and holds no export: choose a new folder, or delete this one")
    if config.architecture is None and not is_done(run.folder, "retrain"):
        raise RunError(
            f"the run in {run.folder} is not finished: expected networks that were retrained; finish it with "
            f"`supernet run --out {shlex.quote(str(run.folder))}`, or take --architecture TEXT with --weights "
            "inherited (from the one-shot model) or new"
        )
    for form in config.to:
        check_packages(form)
    loaded = load_run(run)
    data = loaded.data
    if config.preprocess and not data.mean:
        raise ExportError("preprocess: is for images, and the examples of this run are not images: leave it out")
    number_of_steps = 3 + len(config.to)  # read, write each, compare, describe

    def done(number: int) -> None:
        watch.progress(number, number_of_steps)
        if watch.stop():
            raise Interrupted("stopped; nothing was exported")

    chosen = choose(loaded, config)
    done(1)
    out.parent.mkdir(parents=True, exist_ok=True)
    with _unfinished(out) as place:
        origin = origin_of(loaded.config)
        if config.weights == "retrained":
            origin = replace(origin, precision=_precision(run.folder))
        facts = write_forms(place, chosen, origin, data, config, done)
        done(number_of_steps - 1)
        card.write_card(
            place, chosen.space, facts, read_json(run.folder.data), _verdict(run.folder), _against(run.folder)
        )
        write_json(place / FACTS, facts)
        done(number_of_steps)
    return facts


def _precision(folder: RunFolder) -> str | None:
    """The precision in which the run evaluated the networks that it retrained; None if that is not recorded."""
    steps = read_json(folder.environment) if folder.environment.exists() else {}
    precision: str | None = steps.get("retrain", {}).get("precision")
    return precision


def _verdict(folder: RunFolder) -> str | None:
    trust = read_json(folder.analysis).get("trust") if folder.analysis.exists() else None
    return trust["verdict"] if trust else None


def _against(folder: RunFolder) -> str | None:
    """How the winner of the run does against the reference; None if it was not compared."""
    results = read_json(folder.results) if folder.results.exists() else {}
    text: str | None = results["against_reference"]["text"] if "against_reference" in results else None
    return text


def origin_of(config: Config) -> Origin:
    """What the files of a network tell of its run."""
    data = config.data
    return Origin(config.task, str(data.path or data.name), config.seed, config.retrain.splits, data.background)


@contextlib.contextmanager
def _unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and is gone when it does not.

    No folder can be put in another's place at once. A process that is killed between the two moves leaves
    the earlier one beside `out`, from where the next call takes it back.
    """
    for before in out.parent.glob(f".{glob.escape(out.name)}.{'[0-9a-f]' * 32}.before"):
        if out.exists():
            shutil.rmtree(before)
        else:
            before.rename(out)
    place = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    place.mkdir()
    before = place.with_suffix(".before")
    try:
        yield place
        if out.exists():
            out.rename(before)
        place.rename(out)
        shutil.rmtree(before, ignore_errors=True)
    finally:
        if before.exists() and not out.exists():
            before.rename(out)
        shutil.rmtree(place, ignore_errors=True)


def choose(run: Loaded, asked: ExportConfig) -> Chosen:
    """The network that is asked for, with its weights.

    Raises:
        RunError: there is no such rank, or no such weights; the message says what there is.
        ArchitectureError: the text is no architecture of the space.
    """
    folder, config, data = run.folder, run.config, run.data
    row = _row(run, asked)
    larger = space_of(row, config, data.classes, data.inputs)
    architecture = larger.parse(row.get("architecture") or asked.architecture or "")
    if asked.weights == "inherited":
        if "space" in row:
            raise RunError(
                f"{row['id']} is not of the run's space and can inherit no weights: leave out --weights, or take --rank"
            )
        model = load_one_shot(run)
        network = inherit(model, architecture, data, seed=config.seed)
        number = min(STATISTICS_EXAMPLES, len(data.train))
        words = f"inherited from the one-shot model; running statistics of batch norm estimated on {number:,} examples"
        return Chosen(network, architecture, model.space, row, words)
    if asked.weights == "new":
        network = build(larger, architecture, seed=derive(config.seed, "export", architecture.id))
        return Chosen(network.eval(), architecture, larger, row, "new, not trained")
    if not is_trained(folder.trained(row), architecture):
        raise RunError(
            f"{architecture.id} was not retrained in {folder}: take --weights inherited (from the one-shot model) or "
            "--weights new"
        )
    network = read_network(larger, architecture, folder.trained(row))
    return Chosen(network, architecture, larger, row, "trained from scratch (supernet retrain)")


def _row(run: Loaded, asked: ExportConfig) -> dict[str, Any]:
    """The row of `results.json` of the network that is asked for; empty if it was not retrained."""
    if asked.architecture is None:
        return finalist(run.folder, asked.rank)
    rows = read_networks(run.folder) if is_done(run.folder, "retrain") else []
    named = [row for row in rows if asked.architecture in (row["id"], row.get("reference"))]
    if named:
        return named[0]
    identity = run.space.parse(asked.architecture).id
    return next((row for row in rows if row["id"] == identity), {})
