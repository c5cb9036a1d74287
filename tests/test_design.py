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


FILES = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(FILES)
            found |= inner or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(FILES)


def test_imports_go_one_way() -> None:
    place = {folder: i for i, folders in enumerate(ORDER) for folder in folders}
    for module, path in FILES.items():
        if module == "supernet.__init__":
            continue
        folder = module.split(".")[1]
        assert folder in place, f"{path} is in no folder of ORDER"
        for used in imports(path):
            other = used.split(".")[1]
            assert other == folder or place[other] < place[folder], f"{path} imports {used}"


def test_nothing_imports_itself_by_way_of_others() -> None:
    left = {module: imports(path) - {module} for module, path in FILES.items()}
    while ready := [module for module, used in left.items() if not used & set(left)]:
        for module in ready:
            del left[module]
    assert not left, f"circles among {sorted(left)}"


def test_only_one_module_knows_fabric_and_one_the_argument_parser() -> None:
    for word, home in (("lightning_fabric", "speed/runtime.py"), ("jsonargparse", "program/arguments.py")):
        users = [
            path.relative_to(PACKAGE).as_posix()
            for path in FILES.values()
            if f"import {word}" in path.read_text() or f"from {word}" in path.read_text()
        ]
        assert users == [home]


def test_the_core_knows_nothing_of_images_or_cells() -> None:
    for folder in ("space", "train", "search"):
        for path in (PACKAGE / folder).glob("*.py"):
            names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
            assert not {name for name in names if "cell" in name.lower() or "bender" in name.lower()}, path


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
