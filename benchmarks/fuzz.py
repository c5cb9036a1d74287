"""Inputs that nobody would write, by the hundred thousand, and what the program says of them.

    python benchmarks/fuzz.py [KIND ...] [--inputs 1000] [--seed 0] [--seconds N] [--guided] [--out RESULT.json]

Each input is drawn from the numbers of its own seed (`fuzz_inputs.py`), and read in this process. It is *accepted*,
*refused* (an error of the project's own, raised by the project on purpose, with one line as its message, or one of the
operating system that names its file), or it is a *crash*: anything else, also an error of a library that only looks
like one of ours, and more than `SECONDS` of processor time, or twenty times that of waiting. Counts are added to those
in the result file.

With `--guided` one kind is fed by atheris (libFuzzer), which looks for inputs that reach new code (`pip install
atheris`).
"""

from __future__ import annotations

import argparse
import json
import linecache
import os
import platform
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

os.environ.setdefault("PYTHONHASHSEED", "0")

_GUIDED = "--guided" in sys.argv
if _GUIDED:
    import atheris  # type: ignore[import-untyped]  # it is installed by hand

with atheris.instrument_imports(include=["supernet"]) if _GUIDED else nullcontext():
    import fuzz_inputs

    import supernet

PACKAGE = Path(supernet.__file__).parent

SECONDS = 10.0
"""Processor time, beyond which an input has made the program hang."""

SHARES = {
    "texts": 440, "limits": 325, "configurations": 15, "csv tables": 180, "tables of candidates": 14,
    "image folders": 12, "parquet": 12, "run folders": 1, "words": 1,
}  # fmt: skip
"""Of a thousand inputs in all: what is quick to read is read more often."""

_EXAMPLES = 3
"""Of each kind of crash that the result file holds."""


class Hang(Exception):
    """An input took too long."""


class FromBytes(random.Random):
    """Random numbers that are read from bytes, zeros behind their end: what a guided fuzzer changes."""

    def __init__(self, content: bytes) -> None:
        super().__init__(0)
        self._bits, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def getrandbits(self, k: int) -> int:
        bits = self._bits & ((1 << k) - 1)
        self._bits >>= k
        return bits

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def is_refusal(error: BaseException) -> bool:
    """Whether an error is one that the program raises on purpose, in one line, for bad input."""
    if isinstance(error, OSError):
        return error.filename is not None
    if not isinstance(error, ValueError) or not str(error).strip():
        return False
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    if Path(last.filename).name == Path(fuzz_inputs.__file__).name:
        return True  # a command that ended with one line of error
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    return Path(last.filename).is_relative_to(PACKAGE) and line.startswith("raise")


def name_of(error: BaseException) -> str:
    """A kind of crash: the type of the error, and where it was raised in the project."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(PACKAGE)]
    where = f"{Path(frames[-1].filename).relative_to(PACKAGE)}, {frames[-1].name}" if frames else "the fuzzer"
    return f"{type(error).__name__} in {where}"


def _hang(number: int, frame: FrameType | None) -> None:
    raise Hang(f"more than {SECONDS:g} s of work, or {20 * SECONDS:g} s of waiting")


class Counts:
    """What became of the inputs of one kind."""

    def __init__(self) -> None:
        self.accepted, self.refused = 0, 0
        self.crashes: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}
        self.seconds = 0.0

    def one(self, draw: fuzz_inputs.Draw, read: fuzz_inputs.Read, r: random.Random, name: str) -> None:
        """Draws and reads an input."""
        drawn, began = draw(r), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.setitimer(signal.ITIMER_REAL, 20 * SECONDS)  # it may wait, as for a pipe
        try:
            read(drawn)
            self.accepted += 1
        except Exception as error:
            if is_refusal(error):
                self.refused += 1
            else:
                self._crash(error, f"{name}: {drawn!r}"[:600])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.seconds += time.process_time() - began

    def _crash(self, error: Exception, text: str) -> None:
        kind = name_of(error)
        self.crashes[kind] = self.crashes.get(kind, 0) + 1
        examples = self.examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(f"{text}: {' '.join(str(error).split())[:300]}")

    def add_to(self, facts: dict[str, Any]) -> dict[str, Any]:
        """The counts of a result file with these added."""
        crashes = dict(facts.get("crashes", {}))
        for kind, number in self.crashes.items():
            crashes[kind] = crashes.get(kind, 0) + number
        inputs = self.accepted + self.refused + sum(self.crashes.values())
        return {
            "inputs": facts.get("inputs", 0) + inputs,
            "accepted": facts.get("accepted", 0) + self.accepted,
            "refused": facts.get("refused", 0) + self.refused,
            "crashes": crashes,
            "examples": {**self.examples, **facts.get("examples", {})},
            "cpu_seconds": round(facts.get("cpu_seconds", 0.0) + self.seconds, 3),
        }


def write(out: Path | None, counts: dict[str, Counts], args: argparse.Namespace, *, by: str) -> dict[str, Any]:
    """Adds counts to a result file, which then says how often each kind of input was read by this program."""
    before = json.loads(out.read_text()) if out is not None and out.exists() else {}
    key = "guided" if by == "guided" else "kinds"
    kinds = dict(before.get(key, {}))
    for kind, counted in counts.items():
        kinds[kind] = counted.add_to(kinds.get(kind, {}))
    result = {
        **before,
        "command": "python benchmarks/fuzz.py --out benchmarks/results/fuzz_2026-11-30.json, in several calls",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"supernet": supernet.__version__, "python": platform.python_version()},
        "seeds": [*before.get("seeds", []), args.seed] if args.seed not in before.get("seeds", []) else before["seeds"],
        key: kinds,
    }
    every = [*result.get("kinds", {}).values(), *result.get("guided", {}).values()]
    result["inputs"] = sum(facts["inputs"] for facts in every)
    result["crashes"] = sum(sum(facts["crashes"].values()) for facts in every)
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n")
    return result


def rounds(args: argparse.Namespace, folder: Path) -> None:
    """Reads inputs of all kinds in rounds, and writes the counts after each."""
    ways = {}
    for kind in args.kinds or SHARES:
        (folder / kind).mkdir()
        ways[kind] = fuzz_inputs.KINDS[kind](folder / kind, is_refusal)
    done, began = 0, time.monotonic()
    while done < args.inputs and time.monotonic() - began < args.seconds:
        counts = {kind: Counts() for kind in ways}
        part = min(args.inputs - done, 2000)
        for kind, (draw, read) in ways.items():
            for place in range(part if args.kinds else SHARES[kind] * part // 1000):
                name = f"{args.seed}/{done + place}"
                counts[kind].one(draw, read, random.Random(f"{kind} {name}"), name)
        done += part
        result = write(args.out, counts, args, by="seeds")
        print(f"{done:,} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        if args.out is None:
            for kind, counted in counts.items():
                if counted.crashes:
                    print(json.dumps({kind: counted.add_to({})}, indent=1), flush=True)
    print(f"{result['inputs']:,} inputs, {result['crashes']:,} crashes", file=sys.stderr)


def guided(args: argparse.Namespace, folder: Path) -> None:
    """Reads inputs of one kind that atheris chooses; it ends this process."""
    (kind,) = args.kinds
    draw, read = fuzz_inputs.KINDS[kind](folder, is_refusal)
    counts, number, began = Counts(), 0, time.monotonic()

    def one(content: bytes) -> None:
        nonlocal number
        number += 1
        counts.one(draw, read, FromBytes(content), f"guided {number}")
        if number == args.inputs or time.monotonic() - began > args.seconds:
            result = write(args.out, {kind: counts}, args, by="guided")
            print(json.dumps(result.get("guided", {}), indent=1), flush=True)
            os._exit(0)

    atheris.Setup([sys.argv[0], f"-seed={1 + args.seed}", "-max_len=256", "-verbosity=0", "-rss_limit_mb=8000"], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(SHARES)}; all, in shares, if none")
    parser.add_argument("--inputs", type=int, default=1000, help="how many: of each named kind, or in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="ends after this time")
    parser.add_argument("--guided", action="store_true", help="by atheris, for one kind")
    parser.add_argument("--out", type=Path, help="JSON file to which the counts are added")
    args = parser.parse_args()
    signal.signal(signal.SIGPROF, _hang)
    signal.signal(signal.SIGALRM, _hang)
    warnings.simplefilter("ignore")  # of Pillow, about broken images
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        (guided if args.guided else rounds)(args, Path(folder))


if __name__ == "__main__":
    main()
