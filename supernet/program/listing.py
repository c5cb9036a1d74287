"""The recipes that come with the package, by name; without torch, so that a misspelt name is refused at once."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from supernet.program.settings import ConfigError, check_name


def recipe_files() -> dict[str, Path]:
    """The recipes by name."""
    folder = Path(str(files("supernet.program") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """A recipe by its name, or any YAML file by its path.

    Raises:
        ConfigError: there is none.
    """
    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ConfigError(f"{name}: no such file")
        return Path(name)
    if name.partition(":")[0].endswith(".py"):
        file, _, function = name.partition(":")
        raise ConfigError(
            f"{name} is no recipe: a network of your own is --model FILE.py:FUNCTION, as in "
            f"--model {file}:{function or 'make_network'}"
        )
    recipes = recipe_files()
    check_name(name, recipes, "recipe")
    return recipes[name]


def example_files() -> dict[str, Path]:
    """The examples by name: in the package once it is installed, beside it in a checkout."""
    package = Path(str(files("supernet")))
    places = [place for place in (package / "examples", package.parent / "examples") if place.is_dir()]
    return {path.stem: path for place in places[:1] for path in sorted(place.glob("*.py"))}


def example_lines() -> dict[str, str]:
    """The first line of each example, which says what it is."""
    lines = {name: path.read_text(encoding="utf-8").splitlines()[0] for name, path in example_files().items()}
    return {name: line.strip('"') for name, line in lines.items()}


def recipe_lines() -> dict[str, str]:
    """The first line of each recipe, which says what it is for."""
    return {
        name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for name, path in recipe_files().items()
    }


def listed(rows: Mapping[str, str], width: int = 79) -> str:
    """Names with their texts, in two columns."""
    first = max(map(len, rows), default=0)
    return "\n".join(
        textwrap.fill(text, width, initial_indent=f"  {name:{first}}  ", subsequent_indent=(first + 4) * " ")
        for name, text in rows.items()
    )
