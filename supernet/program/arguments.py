"""Words of the command line: which there are, and what they ask for."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import math
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

import docstring_parser
import yaml

from supernet.program.help import STRATEGIES, has_page, page, recipe_in
from supernet.program.listing import listed, recipe_lines, recipe_path
from supernet.program.settings import (
    ConfigError,
    argument_hints,
    check_name,
    check_value,
    describe,
    load_yaml,
    parse_value,
    setting_hints,
)

if TYPE_CHECKING:
    from supernet.program.resolve import Setting

LIMITED = ("params", "macs", "latency", "memory")
"""Costs that can be limited: --max-params and so on."""


_SET = re.compile(r"(data|task|space|paths|train|search|retrain|analysis|runtime)(\.\w+)+=.*")
"""A setting without dashes, as messages name it: data.skip_damaged=true."""


class Parser(argparse.ArgumentParser):
    """A parser of a command's words; its errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends with a message and how the command is used."""
        raise ConfigError(f"{message} ({' '.join(self.format_usage().split())})")


class _Format(argparse.RawDescriptionHelpFormatter):
    """Help in two columns, up to 98 characters wide."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(98, shutil.get_terminal_size().columns - 2))


def make_parser(usage: str, description: str, *, examples: Sequence[str] = ()) -> Parser:
    """The parser of a command.

    Args:
        usage: its words.
        description: what it does, in paragraphs; long ones are wrapped.
        examples: of words that follow ``supernet``, for the end of its help.
    """
    width = min(98, shutil.get_terminal_size().columns - 2)
    return Parser(
        usage=f"supernet {usage}",
        description="\n\n".join(p if "\n" in p else textwrap.fill(p, width) for p in description.split("\n\n")),
        epilog="\n".join(["examples:", *(f"  supernet {example}" for example in examples)]) if examples else None,
        allow_abbrev=False,
        formatter_class=_Format,
    )


def parse(parser: Parser, words: Sequence[str]) -> dict[str, Any]:
    """The values of a command's words by name.

    Raises:
        ConfigError: an unknown option, with the nearest known, or a value that does not fit.
    """
    options = [option for action in parser._actions for option in action.option_strings]
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and word == f"{name}=--":  # which argparse takes away
            raise ConfigError(f"{name}: expected a value, got '--'")
        if word.startswith("--") and name not in options:
            longer = [option for option in options if option.endswith(f".{name.removeprefix('--')}")]
            if longer:
                raise ConfigError(f"option: no {name!r}; did you mean {' or '.join(longer)}?")
            check_name(name, [option for option in options if option != "--help"], "option")
    return vars(parser.parse_args(words))


def typed(hint: Any) -> Callable[[str], Any]:
    """The `type` of an option, from an annotated type."""

    def convert(text: str) -> Any:
        try:
            return check_value("value", parse_value(text, hint), hint)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error).removeprefix("value: ")) from None

    return convert


def add_arguments(parser: Parser, function: Callable[..., Any], skip: Sequence[str] = ()) -> None:
    """An option for each argument of a function or field of a dataclass, with its type, default and documentation."""
    docs, hints = _docs(function), argument_hints(function)
    if dataclasses.is_dataclass(function):
        hints = get_type_hints(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in skip:
            hint, default = hints.get(name, Any), parameter.default
            text = f"{docs.get(name, '')} ({describe(hint)}; default {_shown(default)})"
            parser.add_argument(f"--{name}", type=typed(hint), default=default, metavar="VALUE", help=_escaped(text))


def _shown(default: Any) -> str:
    return yaml.safe_dump(default, default_flow_style=True).splitlines()[0] if default != "" else "''"


def _docs(thing: Any) -> dict[str, str]:
    """What docstrings say of the arguments of a function or the fields of a dataclass."""
    parsed = docstring_parser.parse_from_object(thing)
    return {param.arg_name: " ".join((param.description or "").split()) for param in parsed.params}


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


# ---- commands that begin or continue a run ----


@dataclass(frozen=True, slots=True)
class Asked:
    """What the words of a command ask for that begins or continues a run.

    Attributes:
        folder: of the run; None if none is named.
        recipe: name or YAML file.
        settings: in the order of the words.
        as_json: whether the result is printed as JSON.
        print_config: whether settings are printed, and nothing else is done.
        dry_run: whether it is only said what the command will take.
        options: values of the command's own options, by their words.
        usage: of the command, for messages.
    """

    folder: Path | None
    recipe: str | None
    settings: tuple[Setting, ...]
    as_json: bool
    print_config: bool
    dry_run: bool
    options: Mapping[str, str | None]
    usage: str


def parse_run(command: str, words: Sequence[str], options: Mapping[str, str] | None = None) -> Asked:
    """Reads the words of a command that begins or continues a run.

    Args:
        command: its name.
        words: that follow it.
        options: of this command only, with their help.

    Raises:
        ConfigError: unknown words.
        SystemExit: help was asked for, and is printed.
    """
    words = [f"--{word}" if _SET.fullmatch(word) else word for word in words]
    recipe = recipe_in(command, words, _FLAGS)
    if {"-h", "--help"} & set(words) and has_page(command):
        print(page(command, recipe), end="")
        raise SystemExit(0)
    _check_before_imports(recipe, words)
    usage = "run [RECIPE] --out DIR" if command == "run" else f"{command} DIR [RECIPE]"
    parser = _parser_of_run(command, usage, options or {})
    _add_keys(parser, words)
    values = parse(parser, words)
    folder = values["dir"]
    return Asked(
        folder=None if folder is None else Path(folder),
        recipe=values["recipe"],
        settings=tuple(values["settings"]),
        as_json=values["json"],
        print_config=values["print_config"],
        dry_run=values["dry_run"],
        options={option: values[option.removeprefix("--")] for option in options or ()},
        usage=usage,
    )


def _check_before_imports(recipe: str | None, words: Sequence[str]) -> None:
    """Refuses a misspelt recipe or strategy at once: torch, which the other settings need, takes seconds to import."""
    if recipe is not None:
        recipe_path(recipe)
    for word, following in zip(words, [*words[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        name = value if equals else following
        if option in ("--strategy", "--search.strategy") and not {".", ":"} & set(name):
            check_name(name, STRATEGIES, "search.strategy")


def _parser_of_run(command: str, usage: str, options: Mapping[str, str]) -> Parser:
    parser = make_parser(
        f"{usage} [--SETTING VALUE ...] [--config FILE.yaml] [--json]",
        f"{DESCRIPTIONS[command]} It continues where it was; what is done already is not done again.\n\n"
        f"recipes:\n{listed(recipe_lines())}",
    )
    parser.add_argument("--help-all", action="help", help="show this message, with all settings, and exit")
    if command != "run":
        parser.add_argument("dir", help="run folder")
    parser.add_argument("recipe", nargs="?", help="one of the recipes above, or a YAML file of settings")
    if command == "run":
        parser.add_argument("--out", dest="dir", help="run folder; an existing one is continued, also without RECIPE")
    parser.add_argument("--config", action=_Append, help="YAML file of settings on top; of several the last one wins")
    parser.add_argument("--print_config", action="store_true", help="print all settings as YAML, and do nothing else")
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it will take (networks, time, memory, disk), and do nothing"
    )
    parser.set_defaults(settings=())
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--data", action=_AppendData, help="name of a source, folder, file, or FILE.py:FUNCTION")
    parser.add_argument(
        "--exhaustive", action=_Append, nargs=0, const="true", dest="search.exhaustive", help="score all on all"
    )
    parser.add_argument(
        "--elastic",
        action=_Append,
        nargs=0,
        const="true",
        dest="space.elastic",
        help="make choices for a plain network",
    )
    for option, text in options.items():
        parser.add_argument(option, help=text, action="store_true" if option in _FLAGS else "store")
    _add_settings(parser)
    return parser


def _add_settings(parser: Parser) -> None:
    """An option for each setting, and its short name."""
    from supernet.program.config import Config

    defaults = _flat(dataclasses.asdict(Config()))
    for prefix, kind in {"": Config, **_parts(Config)}.items():
        docs, hints = _docs(kind), get_type_hints(kind)
        group = parser.add_argument_group(prefix.rstrip(".") or "settings", _escaped(inspect.getdoc(kind) or ""))
        for name, hint in hints.items():
            if not dataclasses.is_dataclass(hint):
                full = f"--{prefix}{name}"
                text = _escaped(f"{docs[name]} ({describe(hint)}; default {_shown(defaults[prefix + name])})")
                names = [full, *(short for short, long in SHORT.items() if long == full)]
                group.add_argument(*names, action=_Append, dest=prefix + name, metavar=name.upper(), help=text)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of nested dicts by dotted names, inner dicts included."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat[prefix + name] = value
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
    return flat


def _parts(kind: Any, prefix: str = "") -> dict[str, Any]:
    """The dataclasses inside a dataclass, by the beginning of their settings' names."""
    parts: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            parts |= {f"{prefix}{name}.": hint, **_parts(hint, f"{prefix}{name}.")}
    return parts


def _add_keys(parser: Parser, words: Sequence[str]) -> None:
    """Options for keys of settings that are dicts, such as --space.settings.filters: only the space knows which."""
    from supernet.program.config import Config

    dicts = tuple(f"--{name}." for name, hint in setting_hints(Config).items() if describe(hint) == "settings by name")
    for option in dict.fromkeys(word.partition("=")[0] for word in words):
        if option.startswith(dicts):
            parser.add_argument(option, action=_Append, help=argparse.SUPPRESS)


class _Append(argparse.Action):
    """Keeps settings in the order of the words."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        from supernet.program.resolve import Setting

        text = self.const if self.nargs == 0 else values
        _append(namespace, [Setting(self.dest, text, is_text=self.dest != "config")])


class _AppendData(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        from supernet.program.resolve import data_settings

        _append(namespace, data_settings(values))


def _append(namespace: argparse.Namespace, settings: list[Setting]) -> None:
    namespace.settings = [*namespace.settings, *settings]


# ---- values of some options ----


def hours_of(text: str) -> float:
    """The number of hours of `--hours`."""
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--hours: expected a number of hours, as in 1 or 0.2; got {text!r}") from None


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
    name, equals, listed_values = (text or "").partition("=")
    try:
        values = [load_yaml(value) for value in listed_values.split(",")]
    except yaml.YAMLError:
        values = [None]
    if text is not None and not (name and equals and all(isinstance(v, (str, int, float)) for v in values)):
        raise ValueError(f"--at: expected a setting of the space and its values, as in filters=16,32; got {text!r}")
    return {name: list(dict.fromkeys(values))} if text is not None else {}


def space_lines() -> dict[str, str]:
    """The first line of each space."""
    from supernet.spaces import SPACES

    return {name: (make.__doc__ or "").splitlines()[0] for name, make in SPACES.items()}


SHORT = {
    "--cluster": "--runtime.cluster",
    "--device": "--runtime.device",
    "--precision": "--runtime.precision",
    "--model": "--space.name",
    "--reference": "--retrain.references",
    "--references": "--retrain.references",
    "--weights": "--space.weights",
    "--score": "--search.score",
    "--strategy": "--search.strategy",
    "--objectives": "--search.objectives",
    **{f"--{end}-{cost}": f"--search.limits.{end}_{cost}" for cost in LIMITED for end in ("max", "min")},
}


DESCRIPTIONS = {
    "run": "Trains the one-shot model, scores candidates, retrains the best from scratch and tests them once.",
    "check": "Tries a network before any training: compares the one-shot model with stand-alone networks in outputs, "
    "parameters and costs, and takes one step and one score with the loss, metric, optimiser and precision of the run. "
    "It takes the settings of `supernet run`.",
    "train": "Trains the one-shot model.",
    "search": "Scores candidates with the weights of the one-shot model and chooses finalists.",
    "retrain": "Trains the finalists from scratch, then tests them once.",
    "analyze": "Says what the ranking of a run is worth: trains networks drawn evenly over the score, and compares. "
    "With --truth it takes published accuracies, with FILE.csv in place of DIR numbers of your own "
    "(columns score, accuracy, accuracy_2 ..., architecture, and sizes such as params, macs, latency).",
}


SIZES_HELP = (
    "names of columns that the scores are compared with, with commas between, or none; of FILE.csv by default those "
    "named params, macs, flops, latency, memory or size, of --truth none beside the space's own params and macs"
)


_FLAGS = {"--plan", "--print_config", "--dry-run", "--json", "--exhaustive", "--elastic", "--help-all"}
"""Options without a value."""


ANALYZE_OPTIONS = {
    "--plan": "say how many networks and trainings would tell what the ranking is worth, and the time they take, from "
    "networks that were trained twice already. Trains nothing",
    "--sweep": "dropout rates, as in 1e-6,0.01,0.3: trains a one-shot model for each, and compares how well they rank",
    "--at": "values of a setting of the space that leaves its choices alone, as in filters=16,32: trains the finalists "
    "from scratch at each by the run's retrain, and compares their groups on the validation split",
    "--truth": "CSV file with a column architecture and published accuracies: correlate with these, train nothing",
    "--column": "the column of these accuracies; several, with commas between, are repeats",
    "--sizes": SIZES_HELP,
    "--replay": "number of seeds, as in 20: lets every strategy search the run's table again, to compare them; for a "
    "space whose architectures are all scored. Trains nothing",
}


HOURS_OPTION = {
    "--hours": "time for the whole run, such as 1 or 0.2: measures this machine, and plans the lengths of training, "
    "search and trainings from scratch for it; lengths that are given are kept",
}


LOG_OPTION = {
    "--log": "figures over time in DIR/logs: csv, tensorboard or wandb, or several with commas; for the last two: pip "
    "install 'supernet[tensorboard]' or 'supernet[wandb]'",
}


NEW_OPTION = {
    "--new": "a new run folder: searches there with the same one-shot model, also after the test split was opened",
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
