"""Decisions of docs/design.md, held by tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import supernet

PACKAGE = Path(supernet.__file__).parent
# A folder imports only what stands to its left; folders that share a place do not import each other.
ORDER = (
    ("base",),
    ("space", "data"),
    ("spaces", "speed"),
    ("train",),
    ("search",),
    ("draw",),
    ("trust",),
    ("retrain",),
    ("export",),
    ("program",),
)


def imports(path: Path) -> set[str]:
    """Folders of the package from which a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("supernet.")}
    return found


def test_imports_go_one_way() -> None:
    place = {folder: i for i, folders in enumerate(ORDER) for folder in folders}
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).parts[0]
        if folder in place:
            for used in (imports(path) & set(place)) - {folder}:
                assert place[used] < place[folder], f"{path} imports {used}"


def test_only_one_module_knows_fabric_and_one_the_argument_parser() -> None:
    for word, home in (("lightning_fabric", "runtime.py"), ("jsonargparse", "cli.py")):
        users = [
            path.name
            for path in PACKAGE.rglob("*.py")
            if f"import {word}" in path.read_text() or f"from {word}" in path.read_text()
        ]
        assert users == [home]


def test_the_core_knows_nothing_of_images_or_cells() -> None:
    for module in ("space", "layers", "model", "paths", "train", "search", "cost"):
        code = ast.parse((PACKAGE / f"{module}.py").read_text())
        names = {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}
        assert not {name for name in names if "cell" in name.lower() or "bender" in name.lower()}, module


def test_importing_does_no_work() -> None:
    script = "import sys, supernet; print(sorted({'torch', 'lightning_fabric', 'scipy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_public_names() -> None:
    assert supernet.__all__ == sorted(supernet.__all__, key=lambda n: (n.islower(), n))
    for name in supernet.__all__:
        assert getattr(supernet, name) is not None
    assert len(supernet.__all__) <= 20


def test_no_global_random_state_in_the_package() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        assert "np.random." not in text.replace("np.random.default_rng(", ""), path
        assert "import random" not in text, path


def test_the_test_split_is_opened_in_one_place() -> None:
    users = [path.name for path in PACKAGE.rglob("*.py") if "open_test(" in path.read_text()]
    assert sorted(users) == ["retrain.py", "splits.py"]
    assert (PACKAGE / "program" / "retrain.py").read_text().count("open_test(") == 1
