import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from supernet.program.commands import main

# No test fails for a slow machine; each run tries the same examples.
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.load_profile("fixed")

TINY = (
    "--space.settings={filters: 2, cells: 1, choice_blocks: 1}",
    *("--train.epochs=1", "--retrain.train.epochs=0.5", "--search.candidates=8", "--search.top_of=4"),
    *("--search.examples=64", "--runtime.threads=1", "--runtime.device=cpu", "--runtime.precision=32-true"),
)
"""Settings on top of digits-smoke with which a whole run takes about a second."""


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; only to be read."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    assert main(["run", "digits-smoke", "--out", str(folder), *TINY]) == 0
    return folder


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path) -> Path:
    """A finished run, to be changed: without digests, so that its files may be edited."""
    return Path(shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns(".digests.json")))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that has to end with exit code 2 and one line of error, which is returned."""

    def refuse(*words: object) -> str:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if "was done already" not in line and ", elapsed " not in line]
        assert (code, out) == (2, ""), (code, out, err)
        assert len(lines) == 1, err
        assert lines[0].startswith("supernet: error: ")
        return lines[0].removeprefix("supernet: error: ")

    return refuse
