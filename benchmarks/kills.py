"""Kills each step of a run at random moments, gives the same command again, and compares the results bit by bit.

    python benchmarks/kills.py [--kills 10] [--seed 0] [--seconds N] [--only STEP ...] [--out RESULT.json]

For each step (and each strategy of the search) a reference is made without a kill. Then, again and again, the command
begins in a copy of the folder as it was before the step, is killed (SIGKILL) after a random time of up to a tenth more
than the reference took, and is given again until it ends. Everything but times has to be equal to the reference:
weights byte for byte, tables row by row, JSON value by value. What the second command leaves of temporary files is
counted too. Commands are forks of this process, which has the imports behind it and has computed nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docstring_parser  # noqa: F401 -- imports that a command needs, made once
import jinja2  # noqa: F401
import lightning_fabric  # noqa: F401
import optuna  # noqa: F401
import rich.progress  # noqa: F401
import scipy.optimize
import scipy.stats  # noqa: F401
import sklearn.datasets  # noqa: F401
import torch

import supernet
from supernet.program import analyze, refine, report, retrain, search, train  # noqa: F401
from supernet.program.commands import main as command
from supernet.search.strategies import STRATEGIES

SMALL = (
    "--space.settings={filters: 2, cells: 1, choice_blocks: 1}", "--train.epochs=2", "--retrain.train.epochs=0.5",
    "--search.candidates=24", "--search.batch=8", "--search.top_of=6", "--search.examples=64", "--retrain.heats=0",
    "--train.checkpoint_seconds=0.1", "--retrain.train.checkpoint_seconds=0.1", "--analysis.train.epochs=0.5",
    "--analysis.bucket=2", "--runtime.threads=1", "--runtime.device=cpu", "--runtime.precision=32-true",
    "--runtime.kernels=torch",
)  # fmt: skip

RUN = "{run}"
"""Stands for the run folder in the words of a command."""

STEPS: dict[str, tuple[str | None, tuple[str, ...]]] = {
    "train": (None, ("train", RUN, "digits-smoke", *SMALL)),
    **{f"search, {name}": ("train", ("search", RUN, "--strategy", name)) for name in STRATEGIES},
    "retrain": ("search, random", ("retrain", RUN)),
    "refine": ("search, random", ("refine", RUN, "--trainings", "6")),
    "analyze": ("retrain", ("analyze", RUN)),
    "report": ("analyze", ("report", RUN)),
}
"""For each step the one whose folder it begins in, and its words."""

_VOLATILE = re.compile(r"seconds|started|opened|command|time|times|date|taken|ms_.*|.*_ms|speed.*|.*_per_second")
"""Names of values in JSON that are times, or follow from them."""

_TIMES = re.compile(rb"[\d.,:]+ ?(s|ms|min|h|seconds|minutes)\b|\d{4}-\d\d-\d\d[T \d:+]*")
"""Times in a page."""

_ELSEWHERE = {".digests.json", ".progress.json", "environment.json", "tuning.json", "study.sqlite", ".lock"}
"""Files that say when and where a run was made."""


def start(words: Sequence[str], run: Path, log: Path) -> int:
    """Begins a command in a fork; returns its process."""
    child = os.fork()
    if child:
        return child
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    torch.set_num_threads(1)
    try:
        code = command([word.replace(RUN, str(run)) for word in words])
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        code = 99
    os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copy(source: Path | None, run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)
    if source is not None:
        shutil.copytree(source, run)


def plain(value: Any) -> Any:
    """Values of JSON without times."""
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items() if not _VOLATILE.fullmatch(name)}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def rows(path: Path) -> list[Any]:
    """All rows of a table of candidates, without times."""
    with closing(sqlite3.connect(path)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = []
        for name in sorted(names):
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})") if row[1] != "time"]
            found.append(
                (name, connection.execute(f"SELECT {', '.join(columns)} FROM {name} ORDER BY rowid").fetchall())
            )
    return found


def state(run: Path) -> dict[str, str]:
    """A digest of each file of a run folder, as far as it does not depend on times."""
    digests = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = path.relative_to(run).as_posix()
        if path.name in _ELSEWHERE or name.startswith("artifacts/") or path.suffix == ".tmp":
            continue
        if path.suffix == ".json":
            content = json.dumps(plain(json.loads(path.read_text()))).encode()
        elif path.name in ("candidates.sqlite", "sample.sqlite"):
            content = repr(rows(path)).encode()
        elif path.suffix == ".html":
            content = re.sub(
                rb"[\d.,:]+( ?(s|ms|min|h|seconds|minutes))\b|\d{4}-\d\d-\d\d[T \d:+]*", b"", path.read_bytes()
            )
        else:
            content = path.read_bytes()
        digests[name] = hashlib.sha256(content).hexdigest()
    return digests


def temporary(run: Path) -> list[str]:
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*.tmp"))


def one(words: Sequence[str], source: Path | None, run: Path, after: float) -> tuple[bool, int, str]:
    """A command that is killed, and given again: whether it was still at work, the exit code, and what was printed."""
    copy(source, run)
    log = run.with_suffix(".log")
    log.unlink(missing_ok=True)
    child = start(words, run, log)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)  # a child that has ended is still there until it is waited for
    was_killed = ended(child) == -signal.SIGKILL
    code = ended(start(words, run, log))
    return was_killed, code, log.read_text(errors="replace")


def step(name: str, folder: Path, kills: int, r: random.Random, until: float) -> dict[str, Any]:
    """Counts for one step; its reference stays in `folder` for the steps after it."""
    before, words = STEPS[name]
    source, reference, run = None if before is None else folder / before, folder / name, folder / "run"
    copy(source, run)
    began = time.monotonic()
    if code := ended(start(words, run, folder / "reference.log")):
        raise RuntimeError(f"{name}: exit code {code}: {(folder / 'reference.log').read_text()[-2000:]}")
    seconds = time.monotonic() - began
    run.rename(reference)
    wanted, facts = state(reference), {"kills": 0, "equal": 0, "too late": 0, "temporary files left": 0}
    problems: list[str] = []
    for _ in range(kills):
        if time.monotonic() > until:
            break
        after = r.uniform(0, 1.1 * seconds)
        was_killed, code, text = one(words, source, run, after)
        if not was_killed:
            facts["too late"] += 1
            continue
        facts["kills"] += 1
        got = state(run) if code == 0 else {}
        differing = sorted(n for n in {*got, *wanted} if got.get(n) != wanted.get(n))
        facts["equal"] += not differing
        facts["temporary files left"] += bool(temporary(run))
        if differing:
            problems.append(
                f"after {after:.3f} s: exit code {code}, other {differing[:5]}: {text[-300:] if code else ''}"
            )
    return {**facts, "seconds": round(seconds, 2), "problems": problems}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each step (default 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no kill begins after this time")
    parser.add_argument(
        "--only", nargs="*", help=f"steps, of {', '.join(STEPS)}; those that they begin with are made too"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the counts")
    args = parser.parse_args()
    r, until, counts = random.Random(args.seed), time.monotonic() + args.seconds, {}
    needed = {before for name in args.only or () if (before := STEPS[name][0]) is not None}
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        for name in STEPS:
            kills = args.kills if not args.only or name in args.only else 0
            if kills or name in needed or name in ("train", "search, random", "retrain"):
                facts = step(name, Path(folder), kills, r, until)
                if kills:
                    counts[name] = facts
                    print(f"{name}: {json.dumps(facts)}", file=sys.stderr, flush=True)
    result = {
        "command": f"python benchmarks/kills.py --kills {args.kills} --seed {args.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}",
        "versions": {"supernet": supernet.__version__, "python": platform.python_version(), "torch": torch.__version__},
        "kills": sum(facts["kills"] for facts in counts.values()),
        "equal": sum(facts["equal"] for facts in counts.values()),
        "steps": counts,
    }
    print(json.dumps(result, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
