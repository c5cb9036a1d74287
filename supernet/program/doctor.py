"""`supernet doctor`: what is right and wrong with an installation, or with a run folder, and what to do.

Nothing is changed, and no file of a run is executed.
"""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch

from supernet.base.files import cache_folder, damaged_in, read_json
from supernet.base.own import digest_of, file_of, is_function
from supernet.base.version import __version__
from supernet.program.folder import Opened, check_settings, is_done, open_run
from supernet.program.lock import read_holder
from supernet.program.paths import RunFolder
from supernet.speed import kernels
from supernet.speed.runtime import cores
from supernet.speed.tune import self_test
from supernet.train.fit import has_checkpoint

_STEPS = ("train", "search", "retrain")

_EXTRAS = {
    "digits": ("sklearn",),
    "parquet": ("pyarrow",),
    "pandas": ("pandas",),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "hub": ("huggingface_hub",),
    "optuna": ("optuna", "psycopg"),
    "dashboard": ("optuna_dashboard",),
    "ray": ("ray",),
}
"""Packages by the extra that brings them."""

_LITTLE = 1e9
"""Bytes of disk below which a warning is due."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        state: "ok", "note" (nothing is wrong, but it may matter) or "wrong".
        text: what it is like, and what to do if something is wrong.
    """

    what: str
    state: str
    text: str


# ---- the installation ----


def installation() -> list[Finding]:
    """What an installation is like: versions, devices, kernels, disks, extras. The self-test takes seconds, once."""
    version = ".".join(map(str, sys.version_info[:3]))
    findings = [
        Finding("versions", "ok", f"supernet {__version__}, torch {torch.__version__}, Python {version}"),
        Finding("cores", "ok", f"{cores()} for this process, {kernels.processor_name()}"),
    ]
    checks: tuple[tuple[str, Callable[[], Iterator[Finding]]], ...] = (
        ("devices", _devices), ("kernels", _kernels), ("self-test", _self_test), ("disks", _disks), ("extras", _extras),
    )  # fmt: skip
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:  # a doctor goes on to the next thing
            findings.append(Finding(name, "wrong", f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return findings


def _devices() -> Iterator[Finding]:
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    yield Finding("devices", "ok", f"cpu{''.join(f', {name}' for name in names)}")


def _kernels() -> Iterator[Finding]:
    if kernels.compiled() is None:
        yield Finding("kernels", "note", "not compiled (no C compiler, or it fails): CPUs are slower; install cc")
    else:
        yield Finding("kernels", "ok", "the project's kernels for CPUs are compiled")


def _self_test() -> Iterator[Finding]:
    tuning = self_test(torch.device("cpu"))
    faster = ", ".join(tuning.kernels) or "none"
    yield Finding("self-test", "ok", f"{tuning.precision}, {tuning.layout}; kernels that win: {faster}")


def _disks() -> Iterator[Finding]:
    for what, folder in (("cache", cache_folder()), ("temporary files", Path(tempfile.gettempdir()))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                free = shutil.disk_usage(folder).free
        except OSError as error:
            yield Finding(
                what, "wrong", f"{folder} cannot be written ({error.strerror}): make room, or name another folder"
            )
            continue
        little = free < _LITTLE
        yield Finding(what, "note" if little else "ok", f"{folder}, {free / 1e9:.1f} GB free")
        status = folder.stat()
        if what == "cache" and status.st_mode & 0o022 and not status.st_mode & 0o1000:
            yield Finding(what, "note", f"other users may write into {folder}: chmod go-w {folder}")


def _extras() -> Iterator[Finding]:
    for name, packages in _EXTRAS.items():
        missing = [package for package in packages if importlib.util.find_spec(package) is None]
        yield (
            Finding(f"extra {name}", "note", f"not installed ({', '.join(missing)})")
            if missing
            else Finding(f"extra {name}", "ok", "installed")
        )


# ---- a run folder ----


def run_folder(path: Path) -> list[Finding]:
    """What a run folder is like: what is done, what is damaged, and the command that goes on."""
    folder = RunFolder(path)
    try:
        run = open_run(path)
    except ValueError as error:
        return [Finding("configuration", "wrong", str(error))]
    findings = [Finding("configuration", "ok", str(folder.config))]
    for check in (_holder, _steps, _damage, _edits, _tables, _users_files):
        try:
            findings += check(run)
        except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
            findings.append(Finding(check.__name__.strip("_"), "wrong", " ".join(str(error).split())))
    findings.append(_next(run, any(finding.state == "wrong" for finding in findings)))
    return findings


def _holder(run: Opened) -> Iterator[Finding]:
    if (holder := read_holder(run.folder.lock)) is not None:
        yield Finding("in use", "note", f"by {holder}, unless that is gone: then the next command takes over")


def _steps(run: Opened) -> Iterator[Finding]:
    folder = run.folder
    seconds = read_json(folder.environment) if folder.environment.exists() else {}
    begun = {
        "train": has_checkpoint(folder.train),
        "search": folder.candidates.exists(),
        "retrain": folder.retrain.exists(),
    }
    for step in _STEPS:
        took = seconds.get(step, {}).get("seconds", 0.0)
        state = f"done, in {took:,.0f} s" if is_done(folder, step) else f"begun, {took:,.0f} s so far"
        text = state if is_done(folder, step) or begun[step] else "not begun"
        yield Finding(step, "ok", text)
    if folder.finalists.exists() and not folder.candidates.exists():
        yield Finding("search", "wrong", f"{folder.candidates} is lost: put it back, or search again")
    if folder.analysis.exists():
        yield Finding("analyze", "ok", "done")


def _damage(run: Opened) -> Iterator[Finding]:
    checked = 0
    for digests in sorted(run.folder.path.rglob(".digests.json")):
        number, problems = damaged_in(digests.parent)
        checked += number
        yield from (Finding("damage", "wrong", text) for text in problems)
    yield Finding("files", "ok", f"{checked} have a SHA-256, and were compared with it")


def _edits(run: Opened) -> Iterator[Finding]:
    check_settings(run)
    yield Finding("settings", "ok", "as the steps began with them")


def _tables(run: Opened) -> Iterator[Finding]:
    for path in (run.folder.candidates, run.folder.study):
        if path.exists():
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                try:
                    (text,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                except sqlite3.Error as error:
                    text = str(error)
            is_whole = text == "ok"
            advice = (
                "put a copy of it back, or rename it"
                if path == run.folder.candidates
                else "it is only a copy: rename it"
            )
            yield Finding(path.name, "ok" if is_whole else "wrong", "whole" if is_whole else f"{text}: {advice}")


def _users_files(run: Opened) -> Iterator[Finding]:
    config = run.config
    recorded = read_json(run.folder.data).get("files", {}).values() if run.folder.data.exists() else []
    for setting, name in (
        ("space.name", config.space.name), ("task.loss", config.task.loss), ("task.metric", config.task.metric or ""),
    ):  # fmt: skip
        if is_function(name):
            path = file_of(name)
            if not path.is_file():
                text = (
                    f"{path} is not there; if it was moved: supernet run --out {run.folder} --{setting} NEW.py:FUNCTION"
                )
                yield Finding(setting, "wrong", text)
            elif recorded and digest_of(name) not in recorded:
                yield Finding(setting, "wrong", f"{path} has changed since the run began: put it back as it was")
            else:
                yield Finding(setting, "ok", str(path))
    if config.data.path is not None:
        there = Path(config.data.path).exists()
        moved = f"is not there; if it was moved: supernet run --out {run.folder} --data.path NEW"
        text = config.data.path if there else f"{config.data.path} {moved}"
        yield Finding("data.path", "ok" if there else "wrong", text)


def _next(run: Opened, is_wrong: bool) -> Finding:
    """The command that goes on."""
    folder = run.folder
    left = [step for step in _STEPS if not is_done(folder, step)]
    if not left:
        return Finding("next", "ok", f"all is done: supernet show {folder}, or supernet analyze {folder}")
    return Finding("next", "ok", f"{'after that: ' if is_wrong else ''}supernet {left[0]} {folder}")
