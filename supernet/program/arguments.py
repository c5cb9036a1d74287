"""Words of the command line as settings; recipes."""

from __future__ import annotations

import argparse
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from supernet.program.folder import Opened


def make_parser(usage: str, description: str, **more: Any) -> ArgumentParser:
    """A parser of a command's words that ends with one line and exit code 2."""
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(
        usage=f"supernet {usage}", description=description, exit_on_error=False, print_config=None, allow_abbrev=False,
        **more,
    )  # fmt: skip


def parse(
    parser: ArgumentParser, words: list[str], hints: dict[str, Any] | None = None, base: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What the words say; `hints` are the types of the settings among them, for the message when one does not fit."""
    import yaml
    from jsonargparse import ArgumentError

    from supernet.program.settings import ConfigError, check_name, check_value

    known = [option for action in parser._actions for option in action.option_strings]
    values: dict[str, str] = {}
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            # Settings of spaces and optimisers are names that only the space and the optimiser know.
            if option not in known and not option.rpartition(".")[0].endswith(("settings", "--retrain.space")):
                check_name(option, known, "option")
            if value or following:
                values[option[2:]] = value if equals else following
    try:
        start = [] if base is None else ["--config", yaml.safe_dump(base, sort_keys=False)]
        given: dict[str, Any] = parser.parse_args([*start, *words]).as_dict()
        return given
    except ArgumentError as error:
        for name in values.keys() & (hints or {}).keys():
            try:
                value = yaml.safe_load(values[name])
            except yaml.YAMLError:
                value = values[name]
            check_value(name, value, (hints or {})[name])
        text = " ".join(str(error).split())
        for pattern, better in ((r'^Parser key "(.*?)":', r"\1:"), (r"<class '(.*?)'>", r"\1")):
            text = re.sub(pattern, better, text)
        raise ConfigError(f"{text} ({parser.format_usage().strip()})") from None


def prepare(
    command: str, words: list[str], own: Mapping[str, str] | None = None
) -> tuple[Opened, bool, dict[str, str | None]] | None:
    """Reads folder, recipe and settings; makes the run folder, or checks that its configuration is the same.

    Args:
        command: whose words they are.
        words: of the command line.
        own: options of this command only, with their help.

    Returns:
        The run, whether JSON is asked for, and the values of the command's own options; None where only the settings
        were to be printed.
    """
    from supernet.base.own import absolute, is_function
    from supernet.program.config import Config, check_config, from_dict, to_yaml
    from supernet.program.folder import continue_run, create_run, open_run
    from supernet.program.paths import RunFolder
    from supernet.program.settings import read_settings, setting_hints

    usage = "run [RECIPE] --out DIR" if command == "run" else f"{command} DIR [RECIPE]"
    parser = make_parser(
        f"{usage} [--SETTING VALUE ...] [--config FILE.yaml] [--json]",
        f"{DESCRIPTIONS[command]} It continues where it was; what is done already is not done again.\n\n"
        f"recipes:\n{listed(recipe_lines())}",
        formatter_class=_formatter(),
    )
    if command != "run":
        parser.add_argument("dir", help="run folder")
    parser.add_argument("recipe", nargs="?", help="one of the recipes above, or a YAML file of settings")
    if command == "run":
        parser.add_argument("--out", dest="dir", help="run folder; an existing one is continued, also without RECIPE")
    parser.add_argument("--config", action="config", help="YAML file of settings on top; of several the last one wins")
    parser.add_argument("--print_config", action="store_true", help="print all settings as YAML, and do nothing else")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--device", help="short for --runtime.device")
    parser.add_argument("--precision", help="short for --runtime.precision")
    parser.add_argument(
        "--exhaustive", action="store_true", help="score all on all: short for --search.exhaustive true"
    )
    parser.add_argument("--score", help="short for --search.score: 'metric', 'loss', or 'kl', which needs no labels")
    parser.add_argument("--strategy", help="short for --search.strategy: who is scored next")
    parser.add_argument("--objectives", help="short for --search.objectives: score,params,latency gives the front")
    for cost in LIMITED:
        for end, text in (("max", "at the most"), ("min", "at the least")):
            parser.add_argument(f"--{end}-{cost}", help=f"short for --search.limits.{end}_{cost}: {cost} {text}")
    parser.add_argument(
        "--model", help="short for --space.name: FILE.py:FUNCTION that returns your network with choices"
    )
    for option, text in (own or {}).items():
        parser.add_argument(option, help=text)
    parser.add_class_arguments(Config)
    for action in parser._actions:
        if action.help == "Path to a configuration file.":  # each part may come from a file; not worth the space
            action.help = argparse.SUPPRESS
    words = _long(words)
    for word, following in pairwise([*words, ""]):
        option, equals, value = word.partition("=")
        if option == "--config":
            read_settings(Path(value if equals else following), Config)
    hints = setting_hints(Config)
    given = parse(parser, words, hints)
    folder = None if given["dir"] is None else RunFolder(Path(given["dir"]))
    run = None
    if folder is not None and (folder.config.exists() or command == "analyze"):
        run = open_run(folder.path)  # unlike the steps analyze begins no run
    base: dict[str, Any] | None = None
    is_new = not given["config"] and run is None
    if given["recipe"] is None and is_new and is_function(given["space"]["name"]):
        given["recipe"] = OWN
        if not any(word.startswith("--data") for word in words):
            raise ValueError("--model needs --data: the name of a source, a folder of images, or FILE.py:FUNCTION")
    if given["recipe"] is not None:
        base = read_settings(recipe_path(given["recipe"]), Config)
    elif not given["config"] and run is not None:
        base = asdict(run.config)
    elif not given["config"]:
        place = f"{folder} is no run folder, so " if folder is not None else ""
        raise ValueError(f"{place}expected a recipe ({', '.join(recipe_files())}) or --config FILE.yaml")
    if base is not None:
        known = base.get("search", {})
        given = parse(parser, words, hints, base)
        asked = absolute(given["search"]["strategy"])
        if known.get("strategy", asked) != asked and not any("strategy_settings" in word for word in words):
            given["search"]["strategy_settings"] = {}  # those there were are another strategy's
    config = from_dict({name: value for name, value in given.items() if name in {f.name for f in fields(Config)}})
    config = replace(
        config,
        space=replace(config.space, name=absolute(config.space.name)),
        data=replace(config.data, name=absolute(config.data.name)),
        search=replace(config.search, strategy=absolute(config.search.strategy)),
        task=replace(config.task, loss=absolute(config.task.loss), metric=absolute(config.task.metric)),
    )
    check_config(config)
    if given["print_config"]:
        print(to_yaml(config), end="")
        return None
    if folder is None:
        raise ValueError(f"expected a run folder: supernet {usage}")
    if run is not None and folder.data.exists() and run.config.search.limits != config.search.limits:
        from supernet.program.load import check_limits

        check_limits(run, config.search.limits)  # before a search that was done is set aside for one that cannot be
    run = create_run(folder, config) if run is None else continue_run(run, config)
    return run, given["json"], {option: given[option.removeprefix("--")] for option in own or ()}


def _long(words: list[str]) -> list[str]:
    """Options with their long names; ``--data`` takes the name of a source, a folder, a parquet file or a function."""
    from supernet.base.own import is_function
    from supernet.data.sources import NAMES

    long: list[str] = []
    short = dict(SHORT)
    for number, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option == "--data":
            value = value if equals else next(iter(words[number + 1 : number + 2]), "")
            if value in NAMES or is_function(value):
                short["--data"] = "--data.name"
            elif Path(value).exists() and not value.endswith((".yaml", ".yml")):
                short["--data"] = "--data.path"
                long.append(f"--data.name={'parquet' if value.endswith('.parquet') else 'folder'}")
        long.append(short.get(option, option) + word[len(option) :])
    return long


def _formatter() -> Any:
    """jsonargparse's layout of the help, with the line breaks of the description as they are."""
    from jsonargparse import DefaultHelpFormatter

    class Formatter(DefaultHelpFormatter):
        def _fill_text(self, text: str, width: int, indent: str) -> str:
            parts = [textwrap.fill(part, width) if ":\n" not in part else part for part in text.split("\n\n")]
            return "\n\n".join(parts)

    return Formatter


def rates_of(text: str | None) -> list[float]:
    """Dropout rates, written with commas."""
    try:
        rates = [] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        rates = [math.nan]
    if not all(0 <= rate < 1 for rate in rates):
        raise ValueError(f"--sweep: expected dropout rates from 0 to below 1, as in 1e-6,0.01,0.3; got {text!r}")
    return rates


def values_of(text: str | None) -> dict[str, list[Any]]:
    """Values by setting, written SETTING=VALUE,VALUE."""
    import yaml

    name, equals, values = (text or "").partition("=")
    try:
        found = [yaml.safe_load(value) for value in values.split(",")]
    except yaml.YAMLError:
        found = [None]
    if text is not None and not (name and equals and all(isinstance(v, (str, int, float)) for v in found)):
        raise ValueError(f"--at: expected a setting of the space and its values, as in filters=16,32; got {text!r}")
    return {name: list(dict.fromkeys(found))} if text is not None else {}


def listed(rows: dict[str, str]) -> str:
    """Names with their texts, for 80 columns."""
    return "\n".join(
        textwrap.fill(text, 79, initial_indent=f"  {name:15} ", subsequent_indent=18 * " ")
        for name, text in rows.items()
    )


def recipe_files() -> dict[str, Path]:
    """The recipes by name."""
    folder = Path(str(files("supernet.program") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """A recipe by its name, or any YAML file by its path."""
    from supernet.program.settings import check_name

    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ValueError(f"{name}: no such file")
        return Path(name)
    known = recipe_files()
    check_name(name, known, "recipe")
    return known[name]


def recipe_lines() -> dict[str, str]:
    """The first line of each recipe, which says what it is for."""
    return {
        name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for name, path in recipe_files().items()
    }


def space_lines() -> dict[str, str]:
    """The first line of each space."""
    from supernet.spaces import SPACES

    return {name: (make.__doc__ or "").splitlines()[0] for name, make in SPACES.items()}


LIMITED = ("params", "macs", "latency", "memory")
"""Costs that can be limited: --max-params and so on."""


SHORT = {
    "--device": "--runtime.device",
    "--precision": "--runtime.precision",
    "--model": "--space.name",
    "--exhaustive": "--search.exhaustive=true",
    "--score": "--search.score",
    "--strategy": "--search.strategy",
    "--objectives": "--search.objectives",
    **{f"--{end}-{cost}": f"--search.limits.{end}_{cost}" for cost in LIMITED for end in ("max", "min")},
}


OWN = "own-network"
"""The recipe of a run with `--model` where none is named."""


DESCRIPTIONS = {
    "run": "Trains the one-shot model, scores candidates, retrains the best from scratch and tests them once.",
    "train": "Trains the one-shot model.",
    "search": "Scores candidates with the weights of the one-shot model and chooses finalists.",
    "retrain": "Trains the finalists from scratch, then tests them once.",
    "analyze": "Says what the ranking of a run is worth: trains networks drawn evenly over the score, and compares. "
    "With --truth it takes published accuracies, with FILE.csv in place of DIR numbers of your own "
    "(columns score, accuracy, accuracy_2 ..., and any sizes).",
}


ANALYZE_OPTIONS = {
    "--sweep": "dropout rates, as in 1e-6,0.01,0.3: trains a one-shot model for each, and compares how well they rank",
    "--at": "values of a setting of the space that leaves its choices alone, as in filters=16,32: trains the finalists "
    "from scratch at each by the run's retrain, and compares their groups on the validation split",
    "--truth": "CSV file with a column architecture and published accuracies: correlate with these, train nothing",
    "--column": "the column of these accuracies",
    "--replay": "number of seeds, as in 20: lets every strategy search the run's table again, to compare them; for a "
    "space whose architectures are all scored. Trains nothing",
}


STORAGE_OPTIONS = {
    "--storage": "database for the Optuna study of stand-alone trainings, which a team may share, as in "
    "postgresql+psycopg://user@host/name; by default study.sqlite in the run folder. Not kept in the configuration",
    "--study": "name of the study; by default that of the run folder",
    "--artifacts": "folder for results, weights and drawings of the study's trials, which a team may share: the "
    "--artifact-dir of optuna-dashboard; by default `artifacts` in the run folder",
}


CANDIDATES_OPTION = {
    "--candidates": "numbers of candidates, as `supernet top` prints them, with commas: trains these from scratch in "
    "place of the finalists, and leaves the test split closed",
}
