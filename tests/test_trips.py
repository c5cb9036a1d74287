"""How many files a reader has to follow: those that one training step runs through."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import FrameType

import torch

import supernet
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit
from supernet.train.paths import PathsConfig, draw
from tests.spaces_for_tests import tiny_bender

PACKAGE = Path(supernet.__file__).parent
PAGE = PACKAGE.parent / "docs" / "code.md"

TO_UNDERSTAND = {
    "train/fit.py": "the loop, the decay, the optimiser",
    "train/paths.py": "what is live",
    "space/layers.py": "the one-shot model's forward pass: which options run, batch norm over ghost batches",
    "spaces/bender.py": "the space's network",
    "speed/runtime.py": "device, precision, sums over processes",
}
BESIDES = {
    "base/randomness.py": "the stream of random numbers of a step",
    "base/trees.py": "batches that are tensors, tuples or dicts",
}


def files_of_a_step() -> set[str]:
    """The files of the package that a step runs through, with torch's kernels.

    It is the eleventh: the first ones measure once which shape the zeros of a choice without a live option have.
    Batches, and the functions of `Watch`, are handed in; what is live is drawn as `supernet train` does.
    """
    space = tiny_bender()
    runtime = start(RuntimeConfig(device="cpu", threads=1, kernels="torch", precision="32-true"))
    x, y = torch.zeros(8, 1, 8, 8), torch.arange(8) % 3
    at: list[int] = []
    files: set[str] = set()

    def entered(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and at == [10] and PACKAGE in path.parents:
            files.add(path.relative_to(PACKAGE).as_posix())

    def stop() -> bool:
        at[:] = [at[0] + 1] if at else [0]  # called before each step
        return False

    def draw_live(step: int) -> torch.Tensor:
        return draw(space, PathsConfig(rate=0.3), 2, 0.9, generator=stream(0, "paths", step))

    config = TrainConfig(steps=12, batch_size=8, ghost_size=4, clip_norm=1.0, average=0.5)
    before = sys.getprofile()
    sys.setprofile(entered)
    try:
        fit(
            build(space, seed=0), lambda step: (x, y), 12, config, runtime=runtime, draw_live=draw_live,
            watch=Watch(lambda *_, **__: None, stop),
        )  # fmt: skip
    finally:
        sys.setprofile(before)
    return files


def test_a_training_step_runs_through_seven_files() -> None:
    assert files_of_a_step() == set(TO_UNDERSTAND) | set(BESIDES)
    assert len(TO_UNDERSTAND) <= 5
    assert len(TO_UNDERSTAND) + len(BESIDES) <= 7


def test_the_page_of_the_code_names_the_files_of_a_training_step() -> None:
    text = PAGE.read_text()
    paragraph = text[text.index("One training step") :].split("\n\n")[0]
    first, besides = paragraph.split("besides", 1)
    assert set(re.findall(r"`supernet/([\w/]+\.py)`", first)) == set(TO_UNDERSTAND)
    assert set(re.findall(r"`supernet/([\w/]+\.py)`", besides)) == set(BESIDES)
