"""What the benchmarks share: two ways timed in turns, and a result file that says how it was made.

On a machine that is shared, virtual processors may stand still for a while. A thread that does nothing but sleep
notices, and what it noticed is taken off each timing; the result file says what share of the time that was.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from supernet.speed.runtime import cores

NAP, LONG = 0.002, 0.03
"""Seconds that the watching thread sleeps, and from which on its sleep was the machine's standstill."""


class Watch:
    """Seconds of work since the start: time on the wall less what the machine stood still."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.still = 0.0
        self.stop = False

    def run(self) -> None:
        before = time.perf_counter()
        while not self.stop:
            time.sleep(NAP)
            now = time.perf_counter()
            if now - before > LONG:
                self.still += now - before - NAP
            before = now

    def seconds(self) -> float:
        time.sleep(NAP)  # so that a standstill that ends now is counted
        return time.perf_counter() - self.began - self.still


@contextmanager
def watching() -> Iterator[Watch]:
    watch = Watch()
    thread = threading.Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop = True
        thread.join()


def seconds(work: Callable[[], object], watch: Watch) -> float:
    began = watch.seconds()
    work()
    return watch.seconds() - began


def ratios(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Times of each way over that of the last one, in turns after one call of each that does not count.

    Args:
        ways: by name; the last one is ours.
        rounds: how often.

    Returns:
        Median, smallest and largest ratio for each of the others, and median seconds of all.
    """
    with watching() as watch:
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(1 + rounds):
            for name, work in ways.items():
                took = seconds(work, watch)
                print(f"turn {turn} of {rounds}, {name}: {took:.3f} s", file=sys.stderr, flush=True)
                if turn:
                    times[name].append(took)
        share = watch.still / (time.perf_counter() - watch.began)
    *others, ours = ways
    found: dict[str, Any] = {}
    for name in others:
        each = [a / b for a, b in zip(times[name], times[ours], strict=True)]
        found[f"{name} / {ours}"] = {
            "median": round(statistics.median(each), 3),
            "smallest": round(min(each), 3),
            "largest": round(max(each), 3),
        }
    found["seconds"] = {name: round(statistics.median(values), 4) for name, values in times.items()}
    found["standstill"] = round(share, 2)
    return found


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file for the result; otherwise it is printed only")
    parser.add_argument("--rounds", type=int, default=5, help="timings of each way (default 5)")
    return parser


def report(command: str, result: dict[str, Any], out: Path | None) -> None:
    """Prints the result with what it was made with, and writes it where asked to."""
    header = {
        "command": command,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {cores()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
    }
    text = json.dumps({**header, **result}, indent=1)
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")
