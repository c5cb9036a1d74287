"""How far a reader has to go: the files of the package that four ways run through, and how often each is entered.

    python benchmarks/trips.py

A file is entered when one of its functions is called from another file. Code that runs when a module is imported does
not count. The ways: a configuration into training (`supernet run` up to the first batch), live_GP through a forward
pass of the one-shot model of the paper's space with torch's kernels, an image from its source to a step (data read,
split and made into the batch of one step), an architecture from search to export (`supernet export` of a finished run).
One step of training has a test, `tests/test_trips.py`.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import supernet
from supernet import build
from supernet.data.sources import DataConfig
from supernet.data.splits import feed, load
from supernet.program.commands import main as command
from supernet.spaces import bender

PACKAGE = Path(supernet.__file__).parent
RUN = (
    "--space.settings={filters: 2, cells: 1, choice_blocks: 1}", "--train.epochs=1", "--retrain.train.epochs=0.5",
    "--search.candidates=8", "--search.top_of=4", "--search.examples=64", "--runtime.threads=1", "--runtime.device=cpu",
    "--runtime.precision=32-true", "--runtime.kernels=torch",
)  # fmt: skip


def entries(way: Callable[[], Any], until: str | None = None) -> Counter[str]:
    """How often each file is entered while `way` runs, up to the first call of a function named `until`."""
    counts: Counter[str] = Counter()
    ended = False

    def entered(frame: FrameType, event: str, _: object) -> None:
        nonlocal ended
        code, caller = frame.f_code, frame.f_back
        path = Path(code.co_filename)
        if event != "call" or ended or PACKAGE not in path.parents or code.co_name == "<module>":
            return
        ended = code.co_name == until
        if caller is not None and caller.f_code.co_filename != code.co_filename:
            counts[path.relative_to(PACKAGE).as_posix()] += 1

    sys.setprofile(entered)
    try:
        way()
    finally:
        sys.setprofile(None)
    return counts


def quietly(*words: str) -> None:
    """Runs a command without its output.

    Raises:
        RuntimeError: it failed.
    """
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        code = command(list(words))
    if code:
        raise RuntimeError(out.getvalue())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        ways = {"a config into training": entries(lambda: quietly("run", "digits-smoke", "--out", run, *RUN), "feed")}
        space = bender(filters=2)
        model = build(space, seed=0)
        x, live = torch.zeros(8, *space.input_shape), space.live([space.at(12345)])
        ways["live_GP through a forward pass"] = entries(lambda: model(x, live))
        config = DataConfig(name="digits", cache=folder)

        def batch() -> None:
            data = load(config, seed=0)
            feed(data.train, data, config, batch_size=32, seed=0, device=torch.device("cpu"))(0)

        ways["an image from source to step"] = entries(batch)
        ways["an architecture from search to export"] = entries(lambda: quietly("export", run, "--to", "python"))
    for name, counts in ways.items():
        print(f"{name}: {len(counts)} files, entered {counts.total():,} times")
        print("   ", ", ".join(f"{path} {number:,}" for path, number in counts.most_common()))


if __name__ == "__main__":
    main()
