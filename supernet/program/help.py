"""What `--help` says: each command on one screen, without importing torch.

The commands that begin or continue a run take every setting; `--help` names the settings that are changed most, with
their values in a recipe, and `--help-all` names all of them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from supernet.program.listing import recipe_files, recipe_path

MAIN = """usage: supernet COMMAND ...

One-shot neural architecture search that says how far its ranking can be trusted.

the whole way:
  run RECIPE --out DIR     train the one-shot model, score candidates, retrain the best from scratch,
                           test them once
  run --model FILE.py:FUNCTION --data FILE.py:FUNCTION --out DIR
                           the same with a network and data of your own
  check FILE.py:FUNCTION --data FILE.py:FUNCTION
                           try the network, loss and metric, and train nothing
step by step, on a run folder (each continues where it was):
  train DIR [RECIPE]       train the one-shot model; RECIPE if DIR is new
  search DIR               score candidates with its weights, choose finalists
  retrain DIR              train the finalists from scratch, then test them
  show DIR                 print the result again, or how far the run is
  watch DIR                follow a run from another terminal
  doctor [DIR]             check the installation, or say what is done and damaged in a run folder
  top DIR                  print the best candidates, or the Pareto front, also during the search
  refine DIR               train candidates, learn from all trainings, and rank the candidates anew
  study DIR                send finalists and their trainings to an Optuna study
  analyze DIR              say what the ranking is worth: train networks drawn evenly over the score
  analyze DIR --plan       say how many networks would tell, from a few
  analyze FILE.csv         the same for scores and accuracies of your own
  report DIR               one page of HTML about a finished run
  export DIR               a network as files that do not need supernet: Python, torch.export, ONNX
  push DIR OWNER/NAME      upload an export to a Hugging Face repository
  score DIR --architectures FILE --out FILE.csv
                           score architectures, one a line as text
what there is:
  space NAME [--SETTING VALUE ...]
                           describe a space: choices, size, costs
  spaces                   list the spaces
  recipes [NAME]           list the recipes, or print one
  example [NAME]           list the examples, or print one: supernet example image > my.py
  completion SHELL         a script that completes commands, options and recipes in bash, zsh or fish

Results go to stdout (as JSON with --json), messages to stderr.
`supernet COMMAND --help` explains a command. --version prints the version.
"""

STRATEGIES = ("random", "enumeration", "evolution", "local", "reinforce", "nsga2", "tpe")
"""Names of the strategies; those of `supernet.search.strategies`, which imports torch."""

SPACES = ("bender", "convnet", "darts", "macro", "mobilenet", "nasbench201", "resnet")
"""Names of the spaces; those of `supernet.spaces`, which imports torch."""

_WIDTH = 98
_FIRST = 28
_SHOWN = "own-network"
"""The recipe with the values that are shown if the words name none."""


@dataclass(frozen=True, slots=True)
class _Page:
    """The help of a command.

    Attributes:
        usage: ways to call it, without the name of the program.
        text: what it does, in a sentence or two.
        options: of this command alone, with their texts.
        settings: words of the command line, of those in `_SETTINGS`.
        examples: of calls.
    """

    usage: tuple[str, ...]
    text: str
    options: Mapping[str, str]
    settings: tuple[str, ...]
    examples: tuple[str, ...]


_OPTIONS = {
    "--log KIND": "figures over time in DIR/logs: csv, tensorboard or wandb",
    "--config FILE.yaml": "settings on top of the others; of several the last one wins",
    "--dry-run": "say how long it will take, and with how much memory and disk; do nothing",
    "--print_config": "print all settings as YAML, and do nothing else",
    "--json": "print the result as JSON on stdout; messages stay on stderr",
}
_STORAGE = {"--storage ADDRESS": "database of the Optuna study; see also --study and --artifacts"}
_FOLDER = {"DIR": "run folder; RECIPE is needed only if it is new"}

_SETTINGS = {
    "--data": ("data.name", "source, folder of images, parquet file, FILE.py:FUNCTION"),
    "--data.image_size": ("data.image_size", "side of an image, in pixels"),
    "--data.train_examples": ("data.train_examples", "training examples at the most; null: all"),
    "--model": ("space.name", "space, or your own network as FILE.py:FUNCTION"),
    "--train.epochs": ("train.epochs", "passes of the one-shot model over its examples"),
    "--train.batch_size": ("train.batch_size", "examples in a step"),
    "--train.lr": ("train.lr", "learning rate at its highest"),
    "--paths.rate": ("paths.rate", "dropout: chance that all options of a choice are dropped"),
    "--search.candidates": ("search.candidates", "architectures to score; null: 500, or a whole small space"),
    "--search.top": ("search.top", "finalists of the group Top"),
    "--strategy": ("search.strategy", "random, enumeration, evolution, local, nsga2, tpe, ..."),
    "--objectives": ("search.objectives", "score,params,macs,latency,memory: a Pareto front"),
    "--score": ("search.score", "metric, loss (better if trainings are short) or kl"),
    "--exhaustive": ("search.exhaustive", "score all candidates on all examples; no race"),
    "--max-params, --min-params": ("search.limits.max_params", "limit in parameters, as in 250k or 1.5M"),
    "--max-macs, --min-macs": ("search.limits.max_macs", "limit in multiply-adds of an example, as in 50M"),
    "--max-latency, --min-latency": ("search.limits.max_latency", "limit in time of a forward pass, as in 5ms"),
    "--max-memory, --min-memory": ("search.limits.max_memory", "limit in memory of a forward pass, as in 64MB"),
    "--retrain.train.epochs": ("retrain.train.epochs", "passes of each training from scratch"),
    "--retrain.repeats": ("retrain.repeats", "trainings of each finalist, with different seeds"),
    "--references": ("retrain.references", "what the winner has to beat; null: known networks, []: none"),
    "--analysis.train.epochs": ("analysis.train.epochs", "passes of each training of the analysis"),
    "--analysis.per_bucket": ("analysis.per_bucket", "networks drawn from each bucket of the score"),
    "--analysis.repeats": ("analysis.repeats", "trainings of each of them, with different seeds"),
    "--seed": ("seed", "all random numbers follow from it"),
    "--device": ("runtime.device", "auto, cpu, cuda or mps"),
    "--precision": ("runtime.precision", "auto, 32-true or bf16-mixed"),
    "--runtime.threads": ("runtime.threads", "cores that are used; null: all"),
    "--runtime.workers": ("runtime.workers", "processes that share scores and trainings; null: this one"),
    "--cluster": ("runtime.cluster", "Ray cluster of the workers: auto or ray://HOST:PORT"),
}
"""For a word of the command line its setting, and what it says, with its unit."""

_PAGES = {
    "run": _Page(
        (
            "run RECIPE --out DIR [--SETTING VALUE ...]",
            "run --model FILE.py:FUNCTION --data DATA --out DIR [--SETTING VALUE ...]",
            "run --out DIR     (continues)",
        ),
        "Trains the one-shot model, scores candidates, retrains the best from scratch and tests them once. The same "
        "command continues a run that was stopped.",
        {
            "--out DIR": "run folder, made if there is none",
            "--hours H": "hours for the whole run: plans the lengths that are not given",
            **_STORAGE,
            **_OPTIONS,
        },
        (
            *("--data", "--data.image_size", "--model", "--train.epochs", "--search.candidates", "--search.top"),
            *("--strategy", "--score", "--max-params, --min-params", "--max-latency, --min-latency"),
            *("--retrain.train.epochs", "--references", "--seed", "--device", "--precision", "--runtime.threads"),
        ),
        (
            "supernet run digits-smoke --out runs/first",
            "supernet run images --data photos/ --hours 2 --max-params 1M --out runs/photos",
        ),
    ),
    "train": _Page(
        ("train DIR [RECIPE] [--SETTING VALUE ...]",),
        "Trains the one-shot model of a run. The same command continues a training that was stopped.",
        {**_FOLDER, **_OPTIONS},
        (
            *("--data", "--data.image_size", "--data.train_examples", "--model", "--train.epochs"),
            *("--train.batch_size", "--train.lr", "--paths.rate", "--seed", "--device", "--precision"),
            "--runtime.threads",
        ),
        ("supernet train runs/first digits-smoke", "supernet train runs/first --device cpu --train.epochs 30"),
    ),
    "search": _Page(
        ("search DIR [--SETTING VALUE ...]", "search DIR --new NEW_DIR [--SETTING VALUE ...]"),
        "Scores candidates with the weights of the one-shot model and chooses finalists. It continues where it was; "
        "with other settings it searches anew, and keeps the earlier search under another name.",
        {
            "DIR": "run folder with a trained one-shot model",
            "--new NEW_DIR": "search in a new run folder with the same one-shot model",
            **_OPTIONS,
        },
        (
            *("--search.candidates", "--search.top", "--strategy", "--objectives", "--score", "--exhaustive"),
            *("--max-params, --min-params", "--max-macs, --min-macs", "--max-latency, --min-latency"),
            *("--max-memory, --min-memory", "--device", "--precision", "--runtime.threads"),
        ),
        (
            "supernet search runs/first --strategy evolution --max-params 250k",
            "supernet search runs/first --new runs/small --objectives score,params,latency",
        ),
    ),
    "retrain": _Page(
        ("retrain DIR [--SETTING VALUE ...]", "retrain DIR --candidates NUMBERS"),
        "Trains the finalists from scratch, then tests them once. It continues where it was.",
        {
            "DIR": "run folder with finalists",
            "--candidates NUMBERS": "train these, as `supernet top` numbers them; nothing is tested",
            **_STORAGE,
            **_OPTIONS,
        },
        (
            *("--retrain.train.epochs", "--retrain.repeats", "--references", "--device", "--precision"),
            "--runtime.threads",
        ),
        ("supernet retrain runs/first --retrain.repeats 3", "supernet retrain runs/first --candidates 17,4"),
    ),
    "analyze": _Page(
        ("analyze DIR [--SETTING VALUE ...]", "analyze DIR --plan", "analyze FILE.csv [--sizes NAMES] [--json]"),
        "Says what the ranking of a run is worth: trains networks drawn evenly over the score, and compares; or takes "
        "published accuracies, or a table of your own. It continues where it was.",
        {
            "DIR": "run folder with a finished search",
            "FILE.csv": "columns score, accuracy (accuracy_2, ...), and sizes",
            "--plan": "say how many networks would tell, and the time; trains nothing",
            "--sweep RATES": "how one-shot models of other dropout rates rank, as in 0.01,0.3",
            "--at SETTING=VALUES": "finalists from scratch at other sizes, as in filters=16,32",
            "--truth FILE.csv --column NAME": "compare with published accuracies; trains nothing",
            "--sizes NAMES": "columns that the scores are compared with; or none",
            "--replay SEEDS": "repeats of a search of the run's table by every strategy",
            **_OPTIONS,
        },
        (
            *("--analysis.per_bucket", "--analysis.repeats", "--analysis.train.epochs", "--device"),
            "--runtime.threads",
        ),
        ("supernet analyze runs/first", "supernet analyze runs/first --analysis.per_bucket 8"),
    ),
}


def has_page(command: str) -> bool:
    """Whether `page` knows a command."""
    return command in _PAGES


def page(command: str, recipe: str | None = None) -> str:
    """The help of a command, on one screen.

    Args:
        command: one that begins or continues a run.
        recipe: the values of its settings are shown; None for those of a network of the user's.

    Raises:
        ConfigError: there is no such recipe.
    """
    facts = _PAGES[command]
    values = yaml.safe_load(recipe_path(recipe or _SHOWN).read_text(encoding="utf-8"))
    usage = [f"{'usage:' if i == 0 else ' ' * 6} supernet {way}" for i, way in enumerate(facts.usage)]
    lines = [*usage, "", textwrap.fill(facts.text, _WIDTH), "", *_rows(facts.options)]
    lines += [f"settings, with their values in the recipe {recipe or _SHOWN} (a run that goes on keeps its own):"]
    lines += _rows({word: _setting_text(values, *_SETTINGS[word]) for word in facts.settings})
    lines += ["examples:", *(f"  {example}" for example in facts.examples)]
    if command in ("run", "train"):
        lines.append(textwrap.fill(f"recipes: {', '.join(recipe_files())}", _WIDTH, subsequent_indent="  "))
    lines.append(f"`supernet {command} --help-all` lists all settings, `supernet recipes` explains the recipes.")
    return "\n".join(lines) + "\n"


def _setting_text(values: Mapping[str, Any], setting: str, text: str) -> str:
    """The text of a setting with its value; steps replace epochs where a recipe gives them."""
    steps = _value(values, f"{setting.removesuffix('epochs')}steps") if setting.endswith("epochs") else None
    value = _value(values, setting)
    shown = f"{steps} steps" if steps is not None else yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
    return f"{text} [{shown}]"


def _value(values: Mapping[str, Any], setting: str) -> Any:
    value: Any = values
    for name in setting.split("."):
        value = (value or {}).get(name)
    return value


def _rows(rows: Mapping[str, str]) -> list[str]:
    lines: list[str] = []
    for name, text in rows.items():
        indent = " " * (_FIRST + 4)
        lines += textwrap.wrap(text, _WIDTH, initial_indent=f"  {name:{_FIRST}}  ", subsequent_indent=indent)
    return lines


def recipe_in(command: str, words: Sequence[str], flags: Collection[str]) -> str | None:
    """The recipe that the words of a command name, before they are parsed: the first word, or the second after DIR.

    Args:
        command: one that begins or continues a run.
        words: that follow it.
        flags: options without a value; all others have one, in the same word or in the next.
    """
    places, is_value = [], False
    for word in words:
        if is_value or word.startswith("-"):
            is_value = not is_value and "=" not in word and word not in flags
        else:
            places.append(word)
    at = 0 if command == "run" else 1
    return places[at] if len(places) > at else None
