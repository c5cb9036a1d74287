"""The files of a run folder are named in one place."""

from __future__ import annotations

import ast
from pathlib import Path

from supernet.program.paths import RunFolder
from tests.test_design import FILES, PACKAGE


def test_only_one_file_knows_the_names_of_the_run_folder() -> None:
    """As a part of a path: captions may name a file for people."""
    home = PACKAGE / "program" / "paths.py"
    names = {name for name in _parts_of_paths(home) if "." in name}
    assert {"config.yaml", "candidates.sqlite", "model.safetensors", "results.json"} <= names
    for path in FILES.values():
        if path != home and path.relative_to(PACKAGE).as_posix() not in LAYOUT_OF_OTHERS:
            assert not _parts_of_paths(path) & names, path


LAYOUT_OF_OTHERS = {"retrain/study.py"}  # the study of a folder that need not be a run's
"""Files that name a file of the run folder for a folder of their own."""


def _parts_of_paths(path: Path) -> set[str]:
    """Texts that a file puts after a slash, as in ``folder / "config.yaml"``."""
    return {
        part
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
        for part in str(node.right.value).split("/")
    }


def test_every_rate_and_number_of_steps_has_a_folder_of_its_own() -> None:
    folder = RunFolder(Path("run"))
    asked = [(0.1, None), (0.1000001, None), (0.1, 5000), (0.1, 500), (1e-6, None), (1.0000001e-6, None)]
    assert len({folder.swept(rate, steps) for rate, steps in asked}) == len(asked)
