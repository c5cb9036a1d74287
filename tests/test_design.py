"""Decisions of docs/design.md, held by tests."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
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
    for word, home in (("lightning_fabric", "speed/runtime.py"), ("argparse", "program/arguments.py")):
        users = [
            path.relative_to(PACKAGE).as_posix()
            for path in FILES.values()
            if f"import {word}" in path.read_text() or f"from {word}" in path.read_text()
        ]
        assert users == [home]


def identifiers(path: Path) -> set[str]:
    """Every name that a file uses or makes: variables, attributes, arguments, functions, classes."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        for field in ("id", "attr", "arg", "name"):
            if isinstance(name := getattr(node, field, None), str):
                names.add(name)
    return names


KNOWS_IMAGES = {"search/race.py", "search/rounds.py"}
"""Still to be renamed: examples need not be images."""


def test_the_core_knows_nothing_of_images_or_cells() -> None:
    words = {"image", "images", "pixel", "pixels", "picture", "pictures", "cell", "cells", "bender"}
    for folder in ("space", "train", "search"):
        for path in (PACKAGE / folder).glob("*.py"):
            used = {name for name in identifiers(path) if words & set(name.lower().split("_"))}
            assert not used or path.relative_to(PACKAGE).as_posix() in KNOWS_IMAGES, (path, used)


def test_importing_does_no_work() -> None:
    script = "import sys, supernet; print(sorted({'torch', 'lightning_fabric', 'scipy', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


PUBLIC = (
    *("Architecture", "ArchitectureError", "Choice", "Choose", "Depth", "Run", "Space", "adapter", "build"),
    *("cost_table", "elastic", "extract", "finalists", "fit", "forbid", "from_arrays", "from_network", "load", "run"),
    *("score", "spaces", "value"),
)
"""The names that users import from the package, word for word."""


def test_public_names() -> None:
    assert tuple(supernet.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(supernet, name) is not None
        assert name in dir(supernet)


USED_IN_ONE_FILE: dict[str, str] = {}
"""Names without an underscore that one file uses. No new ones are added; those that get one are taken out."""


def test_names_of_one_file_have_an_underscore() -> None:
    """Functions and constants; a class without one may be what a public function returns."""
    texts = {path: path.read_text() for folder in CODE for path in (PACKAGE.parent / folder).rglob("*.py")}
    texts |= {path: path.read_text() for path in PACKAGE.parent.rglob("*.md") if ".venv" not in path.parts}
    texts[PACKAGE.parent / "pyproject.toml"] = (PACKAGE.parent / "pyproject.toml").read_text()
    words = {path: set(re.findall(r"\w+", text)) for path, text in texts.items()}
    for path in FILES.values():
        allowed = USED_IN_ONE_FILE.get(path.relative_to(PACKAGE).as_posix(), "").split()
        for name in _names_of(ast.parse(texts[path])):
            users = [other for other in words if other not in (path, Path(__file__)) and name in words[other]]
            assert name.startswith("_") or name in allowed or users, f"{path}: {name} is used nowhere else: _{name}"


CODE = ("supernet", "tests", "benchmarks", "examples")


def _names_of(tree: ast.Module) -> Iterator[str]:
    """Functions and constants of a module."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        for target in (*getattr(node, "targets", ()), getattr(node, "target", None)):
            if isinstance(target, ast.Name):
                yield target.id


DRAWS = {
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "normal", "multinomial"),
    *("bernoulli", "poisson", "normal_", "uniform_", "bernoulli_", "random_", "exponential_", "log_normal_"),
    *("cauchy_", "geometric_", "manual_seed", "seed", "fork_rng"),
}
"""Functions and methods of torch that draw from its global generator, or set it, unless they are given another."""

USES_GLOBAL_GENERATOR = {
    "base/randomness.py": "nothing_drawn: restores all global generators",
    "space/probe.py": "traits_of: reads the states of Python's and NumPy's generators, inside nothing_drawn",
    "space/model.py": "build: seeds the generator for the initial weights, and restores it",
    "spaces/bender.py": "initial weights, inside build",
    "spaces/convnet_blocks.py": "initial weights, inside build",
}


def uses_of_global_randomness(path: Path) -> list[str]:
    """Calls that draw random numbers without a generator or a seed of their own, and imports of `random`."""
    uses = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            uses += ["import random"] * ("random" in modules)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        text, name = ast.unparse(node.func), node.func.attr
        of_torch = re.fullmatch(r"torch(\.random)?\.\w+", text) or name.endswith("_")
        if of_torch and name in DRAWS and "generator" not in {keyword.arg for keyword in node.keywords}:
            uses.append(text)
        if ".init." in text and name not in {"zeros_", "ones_", "constant_", *DRAWS}:
            uses.append(text)
        if re.fullmatch(r"np\.random\.\w+", text) and not (name == "default_rng" and node.args):
            uses.append(text)
    return uses


def test_no_global_random_state_in_the_package() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix(): uses
        for path in FILES.values()
        if (uses := uses_of_global_randomness(path))
    }
    assert set(users) <= set(USES_GLOBAL_GENERATOR), users


def test_uses_of_the_global_generator_are_found(tmp_path: Path) -> None:
    path = tmp_path / "file.py"
    path.write_text(
        "import random\ntorch.rand(3)\nx.normal_()\ntorch.manual_seed(0)\nnp.random.rand(3)\nnp.random.default_rng()\n"
        "nn.init.normal_(x)\ntorch.randperm(3, generator=g)\nnp.random.default_rng(0).normal()\nnn.init.zeros_(x)\n"
        "torch.Generator().manual_seed(0)\n"
    )
    assert sorted(uses_of_global_randomness(path)) == sorted(
        ["import random", "torch.rand", "x.normal_", "torch.manual_seed", "np.random.rand", "np.random.default_rng",
         "nn.init.normal_"]
    )  # fmt: skip


def test_the_test_split_is_opened_in_one_place() -> None:
    users = [path.name for path in PACKAGE.rglob("*.py") if "open_test(" in path.read_text()]
    assert sorted(users) == ["retrain.py", "splits.py"]
    assert (PACKAGE / "program" / "retrain.py").read_text().count("open_test(") == 1


def test_classes_inherit_from_outside_only() -> None:
    """From torch's modules, from errors, from built-in types: a method is found in its class or in one of torch's."""
    allowed = {
        "DecidedFloat": "_OfOneTable",  # a number and a text that remember their choices: built-in types differ
        "DecidedStr": "_OfOneTable",
        "DecidedThing": "_OfOneTable",
        "QuickGhostNorm": "GhostBatchNorm",  # the same norm by other kernels
        "QuickChoose": "Choose",  # the same sums, each output added as it is written
        "QuickJoin": "Join",
        "QuickGraph": "Graph",
    }
    classes = [
        node
        for path in FILES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    names = {node.name for node in classes}
    bases = [(node.name, ast.unparse(base).rpartition(".")[2]) for node in classes for base in node.bases]
    assert {pair for pair in bases if pair[1] in names} <= set(allowed.items())


LINES = 60
LONGER: dict[str, int] = {}
"""Functions that are longer, and how long each may be. No new ones are added; shorter ones are taken out."""


def tokens(path: Path) -> Iterator[tokenize.TokenInfo]:
    return tokenize.generate_tokens(io.StringIO(path.read_text()).readline)


def lines_of_code(path: Path) -> dict[str, int]:
    """Lines of each function of a file, without its docstring, comments and blank lines."""
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    code: set[int] = set()
    for token in tokens(path):
        if token.type not in blank:
            code |= set(range(token.start[0], token.end[0] + 1))
    lengths: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = code & set(range(node.lineno, (node.end_lineno or 0) + 1))
            if ast.get_docstring(node) is not None:
                lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
            lengths[node.name] = max(len(lines), lengths.get(node.name, 0))
    return lengths


def test_functions_are_short() -> None:
    lengths = {
        f"{path.relative_to(PACKAGE).as_posix()}:{name}": length
        for path in FILES.values()
        for name, length in lines_of_code(path).items()
        if length > LINES
    }
    assert all(length <= LONGER.get(name, LINES) for name, length in lengths.items()), lengths


def test_a_check_that_is_switched_off_says_why() -> None:
    """A comment of mypy's is followed by another one."""
    for folder in ("supernet", "tests", "benchmarks", "examples"):
        for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
            for token in tokens(path):
                if token.type == tokenize.COMMENT and "type: ignore" in token.string:
                    says_why = re.match(r"# type: ignore\[[\w, -]+\]  # \w", token.string)
                    assert says_why, f"{path}:{token.start[0]}: expected a reason after {token.string}"
