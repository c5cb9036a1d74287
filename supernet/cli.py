"""The command line: results on stdout, progress and messages on stderr.

Exit codes: 0 done, 2 bad input or a failure that the message explains, 130 interrupted (the same command continues).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from supernet.config import Config
    from supernet.steps import Watch

STEP_NAMES = ("train", "search", "retrain")
SHORT = {"--device": "--runtime.device", "--precision": "--runtime.precision"}
MAIN_HELP = """usage: supernet COMMAND ...

One-shot neural architecture search that says how far its ranking can be trusted.

the whole way:
  run RECIPE --out DIR     train the one-shot model, score candidates, retrain the best, test them once
step by step, on a run folder (each continues where it was, and does nothing when it is done):
  train DIR [RECIPE]       step 2: train the one-shot model; RECIPE or --config where DIR is new
  search DIR               step 3: score candidates with its weights, choose finalists
  retrain DIR              step 4: train the finalists from scratch, then open the test split
  show DIR                 print the result again
  score DIR --architectures FILE --out FILE.csv
                           score architectures given one a line as text
what there is:
  space NAME [--SETTING V] describe a space: options, size, costs
  spaces                   list the spaces
  recipes [NAME]           list the recipes, or print one

`supernet COMMAND --help` lists a command's options. --version prints the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, Callable[[list[str]], None]] = {
        "run": _run,
        **{step: lambda words, step=step: _step(step, words) for step in STEP_NAMES},
        "show": _show,
        "score": _score,
        "space": _space,
        "spaces": _spaces,
        "recipes": _recipes,
    }
    if not words or words[0] in ("-h", "--help"):
        print(MAIN_HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        from supernet import __version__

        print(__version__)
        return 0
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    from jsonargparse import ArgumentError

    from supernet.train import Interrupted

    try:
        from supernet.config import check_name

        check_name(words[0], commands, "command")
        commands[words[0]](words[1:])
        return 0
    except Interrupted as error:
        print(f"supernet: {error}; its state is saved, the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 -- whoever read our output has gone
        return 0
    except (ValueError, OSError, ArgumentError) as error:
        if os.environ.get("SUPERNET_DEBUG"):
            raise
        print(f"supernet: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


# ---- commands ----


def _run(words: list[str]) -> None:
    folder, _, as_json = _prepare("run RECIPE --out DIR", words, folder_is_option=True)
    for step in STEP_NAMES:
        _do(step, folder)
    _print_result(folder, as_json)


def _step(step: str, words: list[str]) -> None:
    folder, _, as_json = _prepare(f"{step} DIR [RECIPE]", words, folder_is_option=False)
    did = _do(step, folder)
    if as_json:
        print(json.dumps({"step": step, "folder": str(folder), "done": True, "did_something": did}))
    elif step == "retrain":
        _print_result(folder, as_json=False)


def _do(step: str, folder: Path) -> bool:
    from supernet.steps import run_step

    with _watch(step) as watch:
        did = run_step(step, folder, watch)
    print(f"{step}: {'done' if did else 'was done already, nothing to do'} ({folder})", file=sys.stderr)
    return did


def _show(words: list[str]) -> None:
    parser = _parser("show DIR", "Prints the result of a finished run.")
    parser.add_argument("dir", help="run folder")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    given = parser.parse_args(words)
    _print_result(Path(given.dir), given.json)


def _score(words: list[str]) -> None:
    parser = _parser("score DIR --architectures FILE --out FILE.csv", "Scores architectures with a one-shot model.")
    parser.add_argument("dir", help="run folder with a trained one-shot model")
    parser.add_argument("--architectures", required=True, help="file with one architecture a line, as text")
    parser.add_argument("--out", required=True, help="CSV file; rows that it holds already are not scored again")
    given = parser.parse_args(words)
    from supernet.steps import score_file

    with _watch("score") as watch:
        scored = score_file(Path(given.dir), Path(given.architectures), Path(given.out), watch)
    print(f"score: {scored} scored, all in {given.out}", file=sys.stderr)


def _space(words: list[str]) -> None:
    from supernet.config import check_name
    from supernet.spaces import SPACES

    if not words or words[0] in ("-h", "--help"):
        print(f"usage: supernet space NAME [--SETTING VALUE ...] [--json]\n\nNAME: {', '.join(SPACES)}")
        return
    name = words[0]
    check_name(name, SPACES, "space")
    parser = _parser(f"space {name} [--SETTING VALUE ...]", "Describes a space: options, size and costs.")
    parser.add_function_arguments(SPACES[name])
    parser.add_argument("--samples", type=int, default=2000, help="architectures drawn for the distribution of costs")
    parser.add_argument("--seed", type=int, default=0, help="of these draws")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    given = parser.parse_args(words[1:]).as_dict()
    samples, seed, as_json = (given.pop(key) for key in ("samples", "seed", "json"))
    space = SPACES[name](**given)
    from supernet.describe import describe_space, print_space

    facts = describe_space(space, samples=samples, seed=seed)
    if as_json:
        print(json.dumps(facts))
    else:
        print_space(facts)


def _spaces(words: list[str]) -> None:
    from supernet.spaces import SPACES

    _listing("spaces", words, {name: (make.__doc__ or "").splitlines()[0] for name, make in SPACES.items()})


def _recipes(words: list[str]) -> None:
    if words and not words[0].startswith("-"):
        print(_recipe_path(words[0]).read_text(), end="")
        return
    first = {name: path.read_text().splitlines()[0].lstrip("# ") for name, path in _recipe_files().items()}
    _listing("recipes", words, first)


def _listing(command: str, words: list[str], rows: dict[str, str]) -> None:
    parser = _parser(command, f"Lists the {command}.")
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    if parser.parse_args(words).json:
        print(json.dumps(rows))
    else:
        for name, text in rows.items():
            print(f"{name:16} {text}")


# ---- arguments ----


def _parser(usage: str, description: str) -> ArgumentParser:
    from jsonargparse import ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(usage=f"supernet {usage}", description=description, exit_on_error=False)


def _prepare(usage: str, words: list[str], *, folder_is_option: bool) -> tuple[Path, Config, bool]:
    """Reads folder, recipe and settings; makes the run folder or checks that its configuration is the same."""
    from jsonargparse import ActionConfigFile, ArgumentError

    from supernet.config import Config, check_name, from_dict
    from supernet.runs import create_run, open_run

    parser = _parser(f"{usage} [--config FILE.yaml] [--SETTING VALUE ...]", f"supernet {usage.split()[0]}")
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of settings; later ones win")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    if folder_is_option:
        parser.add_argument("--out", help="run folder")
    parser.add_class_arguments(Config)
    words = [next((long + w[len(s) :] for s, long in SHORT.items() if w.split("=")[0] == s), w) for w in words]
    places = []
    while words and not words[0].startswith("-"):
        places.append(words.pop(0))
    settings_given = [w for w in words if w != "--json" and not w.startswith("--out")]
    recipe = places[-1] if len(places) > (0 if folder_is_option else 1) else None
    if recipe is not None:
        words = ["--config", str(_recipe_path(recipe)), *words]
    try:
        given = parser.parse_args(words).as_dict()
    except ArgumentError as error:
        unknown = [w.split("=")[0] for w in words if w.startswith("--")]
        known = [o for action in parser._actions for o in action.option_strings]
        for word in unknown:
            if word not in known and word.rpartition(".")[0] not in known:
                check_name(word, known, "setting")
        raise ValueError(error) from None
    as_json = given.pop("json")
    out = given.pop("out", None) if folder_is_option else (places[0] if places else None)
    if out is None:
        raise ValueError(f"expected a run folder: supernet {usage}")
    if len(places) > (1 if folder_is_option else 2):
        raise ValueError(f"unexpected {places[-1]!r}: supernet {usage}")
    folder = Path(out)
    if recipe is None and not settings_given:
        if folder_is_option and not (folder / "config.yaml").exists():
            raise ValueError(f"expected a recipe ({', '.join(_recipe_files())}) or --config FILE.yaml")
        return folder, open_run(folder), as_json
    given.pop("config", None)
    config = from_dict(given)
    create_run(folder, config)
    return folder, config, as_json


def _recipe_files() -> dict[str, Path]:
    folder = Path(str(files("supernet") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def _recipe_path(name: str) -> Path:
    """A recipe by its name, or any YAML file by its path."""
    from supernet.config import check_name

    if name.endswith((".yaml", ".yml")):
        if not Path(name).is_file():
            raise ValueError(f"{name}: no such file")
        return Path(name)
    known = _recipe_files()
    check_name(name, known, "recipe")
    return known[name]


# ---- what people see ----


@contextmanager
def _watch(step: str) -> Iterator[Watch]:
    """Shows progress on stderr, and turns the first Ctrl-C or SIGTERM into a request to stop."""
    from supernet.steps import Watch

    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:  # the second time the user means it; the last checkpoint stays
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise SystemExit(130)
        asked.append(number)
        print("\nsupernet: stopping after this step; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _bar(step) as progress:
            yield Watch(progress, lambda: bool(asked))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(step: str) -> Iterator[Callable[..., None]]:
    """A progress bar where stderr is a terminal, else a line every ten seconds."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    def text(figures: dict[str, float]) -> str:
        shown = {
            "network": "network {:.0f}",
            "networks": "of {:.0f}",
            "loss": "loss {:.3f}",
            "best": "best {:.4f}",
            "images_per_second": "{:.0f} images/s",
        }
        return " ".join(form.format(figures[key]) for key, form in shown.items() if key in figures)

    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
            task = bars.add_task(step, total=None, figures="")

            def show(done: int, total: int, **figures: float) -> None:
                bars.update(task, completed=done, total=total, figures=text(figures))

            yield show
        return

    began, last, first = time.monotonic(), time.monotonic(), -1

    def line(done: int, total: int, **figures: float) -> None:
        nonlocal last, first
        first = done - 1 if first < 0 else first
        now = time.monotonic()
        if now - last > 10 or (done == total and now - began > 1):
            last = now
            left = (now - began) / (done - first) * (total - done)
            print(f"{step}: {done}/{total}, {_duration(left)} left, {text(figures)}", file=sys.stderr, flush=True)

    yield line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _print_result(folder: Path, as_json: bool) -> None:
    from supernet.describe import print_result
    from supernet.files import read_json
    from supernet.runs import open_run, require

    open_run(folder)
    result = read_json(require(folder / "results.json", "retrain"))
    if as_json:
        print(json.dumps(result))
    else:
        print_result(result)


if __name__ == "__main__":
    sys.exit(main())
