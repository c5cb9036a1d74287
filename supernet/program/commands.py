"""The command line: results on stdout, progress and messages on stderr.

Exit codes: 0 done, 2 bad input or a failure that the message explains, 130 interrupted (the same command continues).
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supernet.base.progress import Watch
from supernet.program.arguments import (
    ANALYZE_OPTIONS,
    CANDIDATES_OPTION,
    DESCRIPTIONS,
    HOURS_OPTION,
    LIMITED,
    LOG_OPTION,
    NEW_OPTION,
    SIZES_HELP,
    STORAGE_OPTIONS,
    Asked,
    Parser,
    add_arguments,
    hours_of,
    make_parser,
    parse,
    parse_run,
    rates_of,
    space_lines,
    typed,
    values_of,
)
from supernet.program.completion import SHELLS, options_of, script
from supernet.program.help import MAIN, SPACES, STRATEGIES
from supernet.program.listing import example_files, example_lines, listed, recipe_lines, recipe_path
from supernet.program.progress import RENEWED, check_logs, progress_of, state_text, states
from supernet.program.screen import is_helper, print_anything, watching
from supernet.program.settings import check_name

if TYPE_CHECKING:
    from supernet.program.folder import Opened
    from supernet.program.load import Loaded

STEP_NAMES = ("train", "search", "retrain")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code."""
    interrupts: list[int] = []  # a library that is interrupted while it is imported fails for a reason of its own

    def note(number: int, frame: Any) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    is_main = threading.current_thread() is threading.main_thread()
    noted = is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if noted:
        signal.signal(signal.SIGINT, note)
    print_anything()
    try:
        _command(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 -- the reader of our output has gone
        return 0
    except (KeyboardInterrupt, Exception) as error:
        if interrupts or isinstance(error, KeyboardInterrupt):
            print("supernet: interrupted; the same command continues", file=sys.stderr)
            return 130
        return _failed(error)
    finally:
        if noted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _failed(error: Exception) -> int:
    """Says in one line what failed, and returns the exit code; a fault of the program is raised again."""
    from supernet.base.progress import Interrupted

    if isinstance(error, Interrupted):
        print(f"supernet: {error}; its state is saved, the same command continues", file=sys.stderr)
        return 130
    of_users: tuple[type[Exception], ...] = (ValueError, OSError, sqlite3.Error, MemoryError)
    if torch := sys.modules.get("torch"):  # importing it takes seconds
        of_users += (getattr(torch, "OutOfMemoryError", MemoryError),)
    if os.environ.get("SUPERNET_DEBUG") or not isinstance(error, of_users):
        raise error
    print(f"supernet: error: {_one_line(error)}", file=sys.stderr)
    return 2


def _command(words: list[str]) -> None:
    if not words:
        raise ValueError(f"expected a command: {', '.join(COMMANDS)}; `supernet --help` explains them")
    if words[0] in ("-h", "--help"):
        print(MAIN, end="")
    elif words[0] == "--version":
        from supernet.base.version import __version__

        print(__version__)
    else:
        check_name(words[0], COMMANDS, "command")
        logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
        for name in ("lightning_utilities", "onnxscript", "onnx_ir", "torch.onnx"):
            logging.getLogger(name).setLevel(logging.WARNING)
        has_more = words[0] in ("run", *STEP_NAMES, "analyze")
        COMMANDS[words[0]]([word if has_more or word != "--help-all" else "--help" for word in words[1:]])


def _one_line(error: Exception) -> str:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, sqlite3.Error):
        text = f"candidates.sqlite: {error}: make room if the disk is full, or wait for another process that uses it"
    return " ".join(text.split()) or type(error).__name__


# ---- commands ----


def _run(words: list[str]) -> None:
    parsed = parse_run("run", words, {**HOURS_OPTION, **LOG_OPTION, **STORAGE_OPTIONS})
    _check_options(parsed.options)
    with ExitStack() as held:
        begun = _begun(parsed, held, STEP_NAMES)
        if begun is not None:
            run, loaded = begun
            _do(STEP_NAMES, run, parsed, loaded)
            _print_result(run, parsed.as_json)


def _check(words: list[str]) -> None:
    from supernet.base.own import is_function

    if {"-h", "--help"} & set(words):
        usage = "check FILE.py:FUNCTION --data DATA [--SETTING VALUE ...] [--json]"
        examples = ("check network.py:make --data digits", "check network.py:make --data data.py:load --task.loss mse")
        parse(make_parser(usage, DESCRIPTIONS["check"], examples=examples), ["--help"])
    if words and words[0].endswith(".py"):
        raise ValueError(
            f"expected FILE.py:FUNCTION, got {words[0]!r}: name the function or class that makes the network, as in "
            f"{words[0]}:make_network"
        )
    model = ["--model"] if words and is_function(words[0]) else []
    parsed = parse_run("run", [*model, *words])
    from supernet.program.check import check
    from supernet.program.resolve import resolve

    checked = check(resolve(parsed.recipe, parsed.settings, None))
    result = {
        "choices": len(checked.space.choices), "architectures": checked.space.size,
        "value": checked.value, "loss": checked.loss, "fixed": dict(checked.space.fixed),
    }  # fmt: skip
    text = (
        f"in order: {result['choices']} choices, {checked.space.size_text} architectures; one step was trained and "
        "one candidate scored"
    )
    fixed = [f"not elastic: {path or 'the network'}: {why}" for path, why in checked.space.fixed]
    _emit(result, parsed.as_json, lambda _: print(text, *fixed, sep="\n"))


def _step(step: str, words: list[str]) -> None:
    more = {"train": {}, "search": NEW_OPTION, "retrain": {**STORAGE_OPTIONS, **CANDIDATES_OPTION}}[step]
    parsed = parse_run(step, words, {**LOG_OPTION, **more})
    _check_options(parsed.options)
    with ExitStack() as held:
        begun = _begun(parsed, held, [step]) if parsed.options.get("--new") is None else _begun_again(parsed, held)
        if begun is None:
            return
        run, loaded = begun
        if parsed.options.get("--candidates") is not None:
            _retrain_candidates(run, parsed)
            return
        did = _do([step], run, parsed, loaded)
        if step == "retrain":
            _print_result(run, parsed.as_json)
        elif parsed.as_json and not is_helper():
            print(json.dumps({"step": step, "folder": str(run.folder), "did_something": did}))


def _check_options(options: Mapping[str, str | None]) -> None:
    """Refuses a log that cannot be written and a database that cannot be reached before hours of work."""
    check_logs(options.get("--log"))
    if (storage := options.get("--storage")) is not None:
        from supernet.retrain.study import check_storage

        check_storage(storage)


def _begun(
    parsed: Asked, held: ExitStack, steps: Sequence[str], *, is_there: bool = False
) -> tuple[Opened, Loaded | None] | None:
    """The run that the words ask for, made or continued, and loaded if it was planned just now.

    None if only its settings, or what it will take, were to be printed.

    Args:
        parsed: the words.
        held: holds the lock of the run folder until it is closed.
        steps: that the command takes.
        is_there: whether the run has to be there already.
    """
    from supernet.program.config import to_yaml
    from supernet.program.folder import open_run
    from supernet.program.lock import alone_in
    from supernet.program.paths import RunFolder
    from supernet.program.prepare import begin_prepared, is_planned, prepare
    from supernet.program.resolve import open_if_there

    text = parsed.options.get("--hours")
    hours = None if text is None else hours_of(text)
    if parsed.folder is None and not parsed.print_config and is_planned(parsed.recipe, hours):
        raise ValueError(f"expected a run folder: supernet {parsed.usage}")
    is_new = parsed.folder is None or not RunFolder(parsed.folder).config.exists()
    if parsed.folder is not None and not (parsed.print_config or parsed.dry_run or is_new):
        held.enter_context(alone_in(RunFolder(parsed.folder)))
    run = open_run(parsed.folder) if is_there and parsed.folder is not None else open_if_there(parsed.folder)
    prepared = prepare(parsed.recipe, parsed.settings, run, parsed.folder, hours, runs_files=not parsed.print_config)
    if parsed.print_config:
        print(to_yaml(prepared.config), end="")
        return None
    if parsed.folder is None:
        raise ValueError(f"expected a run folder: supernet {parsed.usage}")
    if parsed.dry_run:
        from supernet.program.forecast import forecast

        if prepared.record is not None:
            logging.getLogger(__name__).info("the plan stands; times are measured once more, with memory and disk")
        facts = forecast(prepared.config, steps, parsed.folder, run)
        _emit(facts.to_json(), parsed.as_json, lambda _: print("\n".join(facts.lines())))
        return None
    if is_new:  # only now: settings that do not fit leave nothing behind
        held.enter_context(alone_in(RunFolder(parsed.folder)))
    return begin_prepared(parsed.folder, prepared, run)


def _begun_again(parsed: Asked, held: ExitStack) -> tuple[Opened, None] | None:
    """A new run folder with the one-shot model of the one that is named; None if only settings were to be printed."""
    from supernet.program.again import run_again
    from supernet.program.config import to_yaml
    from supernet.program.folder import open_run
    from supernet.program.lock import alone_in
    from supernet.program.paths import RunFolder
    from supernet.program.resolve import open_if_there, resolve

    if parsed.dry_run:
        raise ValueError("--dry-run: expected without --new; try it on the folder of the run itself")
    if parsed.folder is None or parsed.recipe is not None:
        raise ValueError("--new: expected the folder of a run and settings, without a recipe: supernet search DIR")
    run, other = open_run(parsed.folder), Path(parsed.options["--new"] or "")
    is_new = not RunFolder(other).config.exists()
    if not is_new and not parsed.print_config:
        held.enter_context(alone_in(RunFolder(other)))
    config = resolve(None, parsed.settings, open_if_there(other) or run, runs_files=not parsed.print_config)
    if parsed.print_config:
        print(to_yaml(config), end="")
        return None
    again = run_again(run, other, config)
    if is_new:  # it appears as a whole
        held.enter_context(alone_in(again.folder))
    return again, None


def _retrain_candidates(run: Opened, parsed: Asked) -> None:
    text = parsed.options["--candidates"] or ""
    if not re.fullmatch(r"\d+(,\d+)*", text.strip()):
        raise ValueError(f"--candidates: expected numbers as `supernet top` prints them, as in 3,17; got {text!r}")
    numbers = list(dict.fromkeys(map(int, text.split(","))))
    from supernet.program.load import load_run
    from supernet.program.machine import start_run
    from supernet.program.printing import print_trained
    from supernet.program.retrain import retrain_candidates

    with watching("retrain", run.folder, logs=check_logs(parsed.options.get("--log"))) as watch:
        runtime = start_run(run)
        if runtime.rank > 0:
            return
        trained = retrain_candidates(load_run(run), numbers, runtime.alone(), _with_storage(watch, parsed.options))
    _emit(trained, parsed.as_json, print_trained)


def _study(words: list[str]) -> None:
    parser = make_parser(
        "study DIR [--storage ADDRESS] [--study NAME] [--artifacts FOLDER] [--json]",
        "Sends finalists and stand-alone trainings of a run to an Optuna study; what is there already is left as it "
        "is. `optuna-dashboard ADDRESS --artifact-dir FOLDER` shows it.",
        examples=("study runs/first", "study runs/first --storage postgresql+psycopg://me@host/studies --study digits"),
    )
    parser.add_argument("dir", help="run folder")
    for option, text in STORAGE_OPTIONS.items():
        parser.add_argument(option, help=text)
    parser.add_argument("--json", action="store_true", help="print as JSON what was sent")
    options = parse(parser, words)
    from supernet.program.folder import open_run
    from supernet.program.study import send_study

    run = open_run(Path(options["dir"]))
    sent = send_study(run, options["storage"], options["study"], options["artifacts"] and Path(options["artifacts"]))
    text = f"{sent['sent']} trials sent; study {sent['study']!r} at {sent['storage']} has {sent['trials']}"
    _emit(sent, options["json"], lambda _: print(text))


def _refine(words: list[str]) -> None:
    parser = make_parser(
        "refine DIR [--trainings N | --hours H] [--json]",
        "Trains candidates from scratch in rounds, learns from all trainings of the run, and ranks the candidates anew "
        "if that predicts networks it has not seen better than scores do. `supernet retrain` then takes finalists by "
        "it. It ends early if more trainings promise less than the noise of one. The test split stays closed; the same "
        "command continues.",
        examples=("refine runs/first --trainings 32", "refine runs/first --hours 2"),
    )
    parser.add_argument("dir", help="run folder with a finished search")
    parser.add_argument("--trainings", type=typed(int), help="the most trainings of rounds in this folder (default 32)")
    parser.add_argument("--hours", help="time for the trainings of this call, in place of their number")
    for option, text in STORAGE_OPTIONS.items():
        parser.add_argument(option, help=text)
    parser.add_argument("--json", action="store_true", help="print as JSON what was learnt")
    options = parse(parser, words)
    hours = None if options["hours"] is None else hours_of(options["hours"])
    from supernet.program.folder import open_run
    from supernet.program.load import load_run
    from supernet.program.lock import alone_in
    from supernet.program.machine import start_run
    from supernet.program.printing import print_refined
    from supernet.program.refine import refine_step

    run = open_run(Path(options["dir"]))
    with alone_in(run.folder), watching("refine") as watch:
        runtime = start_run(run)
        if runtime.rank > 0:
            return
        watch = _with_storage(watch, {f"--{name}": options[name] for name in ("storage", "study", "artifacts")})
        facts = refine_step(load_run(run), options["trainings"], hours, runtime.alone(), watch)
    print(f"refine: done ({run.folder.refinement})", file=sys.stderr)
    _emit(facts, options["json"], print_refined)


def _do(steps: Sequence[str], run: Opened, parsed: Asked, loaded: Loaded | None) -> bool:
    """Takes steps, and says after each whether it did anything; returns whether the last did."""
    from supernet.program.steps import is_skipped, run_steps

    began, logs = time.monotonic(), check_logs(parsed.options.get("--log"))

    @contextmanager
    def watching_with_storage(step: str) -> Iterator[Watch]:
        with watching(step, run.folder, began=began, logs=logs) as watch:
            yield _with_storage(watch, parsed.options)

    did = False
    for step, did in run_steps(run, steps, watching_with_storage, loaded):
        if not is_helper():
            nothing = "is skipped: search.score none asks no one-shot model" if is_skipped(run, step) else (
                "was done already, nothing to do"
            )  # fmt: skip
            print(f"{step}: {'done' if did else nothing} ({run.folder})", file=sys.stderr)
    return did


def _with_storage(watch: Watch, options: Mapping[str, str | None]) -> Watch:
    artifacts = options.get("--artifacts")
    return replace(
        watch,
        storage=options.get("--storage"),
        study=options.get("--study"),
        artifacts=Path(artifacts) if artifacts else None,
    )


def _analyze(words: list[str]) -> None:
    if words and not Path(words[0]).is_dir() and _names_a_table(words[0]):
        _analyze_file(words)
        return
    parsed = parse_run("analyze", words, {**LOG_OPTION, **ANALYZE_OPTIONS})
    options = parsed.options
    rates, at = rates_of(options["--sweep"]), values_of(options["--at"])
    alone = [option for option in ("--plan", "--truth", "--replay") if options[option]]
    if (options["--truth"] is None) != (options["--column"] is None):
        raise ValueError("--truth and --column: expected both or none of them")
    if alone and (rates or at or len(alone) > 1):
        raise ValueError(f"{alone[0]}: expected without --sweep, --at and other ways to analyze")
    if options["--sizes"] is not None and options["--truth"] is None:
        raise ValueError("--sizes: expected with --truth or FILE.csv, whose columns it names")
    with ExitStack() as held:
        begun = _begun(parsed, held, ["analyze"], is_there=True)
        if begun is None:
            return
        run, _ = begun
        if options["--plan"]:
            _plan(run, parsed.as_json)
        elif options["--replay"] is not None:
            _replay(run, options["--replay"], parsed.as_json)
        else:
            _analyze_run(run, parsed, rates, at)


def _analyze_run(run: Opened, parsed: Asked, rates: list[float], at: dict[str, list[Any]]) -> None:
    """Analyzes a run by networks that are trained, or by published accuracies."""
    options = parsed.options
    from supernet.program.printing import print_table, print_trust

    if options["--truth"] is not None:
        from supernet.program.truth import analyze_truth

        with watching("analyze") as watch:
            columns, sizes = (_names(options[option] or "") for option in ("--column", "--sizes"))
            result = analyze_truth(run, Path(options["--truth"]), columns, watch, sizes)
    else:
        from supernet.program.analyze import analyze_step
        from supernet.program.load import load_run
        from supernet.program.machine import start_run

        with watching("analyze", run.folder, logs=check_logs(options["--log"])) as watch:
            runtime = start_run(run)
            if runtime.rank > 0:
                return
            result = analyze_step(load_run(run), runtime.alone(), watch, rates, at)
    print(f"analyze: done ({run.folder.analysis})", file=sys.stderr)
    more = f"{run.folder.analysis}, and the page of `supernet report`"
    _emit(result, parsed.as_json, lambda _: print_trust(result["trust"], result, more))
    if "table" in result and not parsed.as_json:
        print_table(result["table"])


def _names_a_table(word: str) -> bool:
    return Path(word).is_file() or word.lower().endswith((".csv", ".tsv"))


def _names(text: str) -> list[str]:
    """Names of columns, with commas between; none for "none"."""
    return [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]


def _plan(run: Opened, as_json: bool) -> None:
    from supernet.program.pilot import plan_analysis
    from supernet.program.printing import print_plan

    _emit(plan_analysis(run), as_json, print_plan)


def _replay(run: Opened, seeds: str, as_json: bool) -> None:
    if not (seeds.isdecimal() and int(seeds)):
        raise ValueError(f"--replay: expected a number of seeds, as in 20; got {seeds!r}")
    from supernet.program.printing import print_replay
    from supernet.program.replay import analyze_replay

    with watching("replay") as watch:
        result = analyze_replay(run, int(seeds), watch)
    print(f"replay: done ({run.folder.analysis})", file=sys.stderr)
    _emit(result, as_json, print_replay)


def _analyze_file(words: list[str]) -> None:
    parser = make_parser(
        "analyze FILE.csv [--sizes NAMES] [--json]",
        DESCRIPTIONS["analyze"],
        examples=("analyze scores.csv", "analyze scores.csv --sizes params,latency --json"),
    )
    parser.add_argument("file", help="table with columns score, accuracy (accuracy_2, ...), architecture, and sizes")
    parser.add_argument("--sizes", help=SIZES_HELP)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    options = parse(parser, words)
    from supernet.program.printing import print_table, print_trust
    from supernet.program.truth import analyze_file

    sizes = None if options["sizes"] is None else _names(options["sizes"])
    result = analyze_file(Path(options["file"]), sizes)
    _emit(result, options["json"], lambda _: print_trust(result["trust"], more="--json"))
    if not options["json"]:
        print_table(result["table"])


def _report(words: list[str]) -> None:
    parser = make_parser(
        "report DIR [--json]",
        "Writes report.html about a run, from its files only; analyze a finished one first. Of a run that is under way "
        "it shows what there is so far; `supernet watch DIR --report` renews it.",
        examples=("report runs/first",),
    )
    parser.add_argument("dir", help="run folder")
    parser.add_argument("--json", action="store_true", help="print as JSON where the page is")
    options = parse(parser, words)
    page = _write_page(Path(options["dir"]))
    _emit({"report": str(page)}, options["json"], lambda _: print(page))


def _write_page(folder: Path) -> Path:
    from supernet.program.folder import open_run
    from supernet.program.report import write_report

    return write_report(open_run(folder))


def _export(words: list[str]) -> None:
    parser = make_parser(
        "export DIR [--rank N | --architecture TEXT] [--to python,torch,onnx,safetensors] [--out FOLDER] [--json]",
        "Writes a network of a run as files that need nothing of supernet, each loaded again in a process of its own "
        "and compared with the network on the validation split; where one differs nothing is written.",
        examples=("export runs/first --to python,onnx --out winner", "export runs/first --rank 2"),
    )
    from supernet.export.forms import ExportConfig
    from supernet.export.reading import FORMS
    from supernet.program.export import export
    from supernet.program.folder import open_run

    parser.add_argument("dir", help="run folder")
    parser.add_argument("--out", help="where to; DIR/export unless given. An earlier export is replaced")
    parser.add_argument(
        "--to",
        default=",".join(FORMS),
        help="what is written, with commas between; python brings safetensors; onnx needs the extra `export`",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON what was written and how it compares")
    add_arguments(parser, ExportConfig, skip=("to",))
    options = parse(parser, words)
    run, names = open_run(Path(options["dir"])), {field.name for field in fields(ExportConfig)} - {"to"}
    to = tuple(word.strip() for word in options["to"].split(",") if word.strip())
    config = ExportConfig(to=to, **{name: options[name] for name in names})
    out = Path(options["out"]) if options["out"] else run.folder.export
    if config.to != to:
        print("export: network.safetensors is written too, since network.py loads its weights from it", file=sys.stderr)
    with watching("export") as watch:
        facts = export(run, out, config, watch)
    print(f"export: done ({out})", file=sys.stderr)
    from supernet.program.printing import print_export

    _emit({"folder": str(out), **facts}, options["json"], lambda _: print_export(facts))


def _push(words: list[str]) -> None:
    parser = make_parser(
        "push DIR OWNER/NAME [--private] [--json]",
        "Uploads an export to a Hugging Face repository, which is made where it is not there. `hf auth login` logs in.",
        examples=("push runs/first me/digits --private",),
    )
    parser.add_argument("dir", help="run folder, or folder of an export")
    parser.add_argument("repository", help="OWNER/NAME of the repository")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument("--json", action="store_true", help="print as JSON where it is")
    options = parse(parser, words)
    from supernet.export.hub import push
    from supernet.export.reading import is_export
    from supernet.program.paths import RunFolder

    folder = Path(options["dir"])
    export = folder if is_export(folder) else RunFolder(folder).export
    address = push(export, options["repository"], private=options["private"])
    _emit({"address": address}, options["json"], lambda _: print(address))


def _show(words: list[str]) -> None:
    parser = make_parser(
        "show DIR [--json]",
        "Prints the result of a finished run, or how far a run is.",
        examples=("show runs/first", "show runs/first --json"),
    )
    parser.add_argument("dir", help="run folder")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parse(parser, words)
    from supernet.program.folder import is_done, open_run
    from supernet.program.lock import at_work

    with _files_of(options["dir"]):
        run = open_run(Path(options["dir"]))
        is_over = is_done(run.folder, "retrain")
        facts = None if is_over else progress_of(run.folder)
        if is_over or (facts is None and at_work(run.folder.lock) is None):
            _print_result(run, options["json"])
        else:
            _emit({"progress": facts}, options["json"], lambda _: print(state_text(run.folder, facts)))


def _doctor(words: list[str]) -> None:
    parser = make_parser(
        "doctor [DIR] [--json]",
        "Checks the installation, or a run folder: what is done, what is damaged, and the command that goes on. It "
        "changes nothing, and runs no file of the run.",
        examples=("doctor", "doctor runs/first"),
    )
    parser.add_argument("dir", nargs="?", help="run folder; without it the installation is checked")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parse(parser, words)
    from supernet.program import doctor
    from supernet.program.printing import print_findings

    folder = options["dir"]
    findings = doctor.installation() if folder is None else doctor.run_folder(Path(folder))
    _emit([asdict(finding) for finding in findings], options["json"], print_findings)
    if wrong := sum(finding.state == "wrong" for finding in findings):
        raise ValueError(f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong, as said above")


def _watch(words: list[str]) -> None:
    parser = make_parser(
        "watch DIR [--once] [--report] [--json]",
        "Follows a run from another terminal. It reads files only, and ends with the command that it follows.",
        examples=("watch runs/first", "watch runs/first --report", "watch runs/first --once --json"),
    )
    parser.add_argument("dir", help="run folder")
    parser.add_argument("--report", action="store_true", help="write report.html, and renew it twice a minute")
    parser.add_argument("--once", action="store_true", help="print the state once, and end")
    parser.add_argument("--json", action="store_true", help="print each state as JSON, one a line")
    options = parse(parser, words)
    from supernet.program.paths import RunFolder

    folder = RunFolder(Path(options["dir"]))
    if not folder.config.is_file():
        raise ValueError(
            f"{folder} is no run folder: expected that of a run that is under way; a run makes it when its data are "
            "read and its plan is made"
        )
    written: float | None = None
    last = ""
    for facts in states(folder, once=options["once"]):
        if options["report"] and (written is None or time.monotonic() - written > RENEWED):
            _write_page(folder.path)
            written = time.monotonic()
        if options["json"]:
            print(json.dumps(facts), flush=True)
        elif options["once"] or not sys.stdout.isatty():
            before, last = last, state_text(folder, facts)
            if last != before:
                print(last, flush=True)
        else:
            print(state_text(folder, facts), end="\x1b[K\r", flush=True)
    if options["report"] and not options["once"]:
        _write_page(folder.path)
    if not options["json"] and not options["once"]:
        print(state_text(folder, None))


def _top(words: list[str]) -> None:
    parser = make_parser(
        "top DIR [-k NUMBER] [--max-params 1M ...] [--bands N] [--objectives score,params] [--out FILE] [--json]",
        "Prints the best candidates of a search, also while it runs: the best scores, or with --objectives the Pareto "
        "front. Each has a number, with which `supernet retrain DIR --candidates NUMBER` trains it from scratch.",
        examples=("top runs/first -k 5 --max-params 1M", "top runs/first --objectives score,params --out front.csv"),
    )
    parser.add_argument("dir", help="run folder")
    parser.add_argument(
        "-k",
        type=typed(int),
        default=20,
        metavar="N",
        help="how many, of each band (default 20); of a front all are printed",
    )
    parser.add_argument(
        "--bands",
        type=typed(int),
        default=1,
        metavar="N",
        help="bands of size (default 1), since one-shot models favour large networks",
    )
    parser.add_argument("--objectives", help="the Pareto front of these, with commas: score,params,macs,latency,memory")
    parser.add_argument("--out", help="CSV or parquet file for all candidates within the limits, not just the best")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    for cost in LIMITED:
        for end, text in (("max", "at the most"), ("min", "at the least")):
            parser.add_argument(
                f"--{end}-{cost}", metavar="N", help=f"{cost} {text}, of the candidates that are printed"
            )
    options = parse(parser, words)
    for name in ("k", "bands"):
        if options[name] < 1:
            raise ValueError(f"{name}: expected at least 1, got {options[name]}")
    from supernet.program.folder import open_run
    from supernet.program.printing import print_candidates
    from supernet.program.score import top_candidates
    from supernet.search.limits import LimitsConfig

    limits = LimitsConfig(**{f"{end}_{cost}": options[f"{end}_{cost}"] for cost in LIMITED for end in ("max", "min")})
    objectives = options["objectives"]
    best = top_candidates(
        open_run(Path(options["dir"])),
        options["k"],
        limits,
        options["bands"],
        objectives,
        options["out"] and Path(options["out"]),
    )
    _emit(best, options["json"], print_candidates)


def _score(words: list[str]) -> None:
    parser = make_parser(
        "score DIR --architectures FILE --out FILE.csv [--json]",
        "Scores architectures with a one-shot model.",
        examples=("score runs/first --architectures mine.txt --out scores.csv",),
    )
    parser.add_argument("dir", help="run folder with a trained one-shot model")
    parser.add_argument("--architectures", required=True, help="file with one architecture a line, as text")
    parser.add_argument("--out", required=True, help="CSV file; rows that it holds already are not scored again")
    parser.add_argument("--json", action="store_true", help="print as JSON how many were scored")
    options = parse(parser, words)
    from supernet.program.folder import open_run
    from supernet.program.score import score_file

    with watching("score") as watch:
        scored = score_file(open_run(Path(options["dir"])), Path(options["architectures"]), Path(options["out"]), watch)
    print(f"score: {scored} scored, all in {options['out']}", file=sys.stderr)
    if options["json"]:
        print(json.dumps({"scored": scored, "out": options["out"]}))


def _space(words: list[str]) -> None:
    from supernet.base.own import is_function
    from supernet.program.config import SpaceConfig, make_space
    from supernet.spaces import SPACES

    if not words or words[0] in ("-h", "--help"):
        if not words:
            raise ValueError(f"expected a space: {', '.join(SPACES)}")
        print("usage: supernet space NAME [--SETTING VALUE ...] [--samples N] [--seed N] [--json]\n")
        print("Describes a space: choices, number of architectures, costs.\n\nspaces:")
        print(listed(space_lines()))
        print("\n`supernet space NAME --help` lists its settings. NAME may be FILE.py:FUNCTION too, your own network.")
        print("`supernet space convnet --reference NAME` describes a known network, as `--reference NAME --help` says.")
        return
    name = words[0]
    is_own = is_function(name)
    if not is_own:
        check_name(name, SPACES, "space")
    if name == "convnet" and any(word.partition("=")[0] == "--reference" for word in words):
        _reference(words[1:])
        return
    parser = make_parser(
        f"space {name} [--SETTING VALUE ...]",
        "Describes a space: choices, size and costs.",
        examples=("space convnet --width 16 --samples 500", "space network.py:make --inputs 'float32 3 64 64'"),
    )
    if is_own:
        _add_own(parser)
    else:
        add_arguments(parser, SPACES[name])
    parser.add_argument(
        "--samples", type=typed(int), default=2000, help="architectures drawn for the costs (default 2000)"
    )
    parser.add_argument("--seed", type=typed(int), default=0, help="of these draws (default 0)")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    values = parse(parser, words[1:])
    samples, seed, as_json = (values.pop(key) for key in ("samples", "seed", "json"))
    if is_own:
        config = SpaceConfig(name=name, settings=values["settings"])
        space = make_space(config, values["num_classes"], values["inputs"], check=True)
    else:
        space = SPACES[name](**values)
    from supernet.program.printing import describe_space, print_space

    _emit(describe_space(space, samples=samples, seed=seed), as_json, print_space)


def _add_own(parser: Parser) -> None:
    parser.add_argument("--settings", type=typed(dict[str, Any]), default={}, help="arguments of the function, as YAML")
    parser.add_argument("--num_classes", type=typed(int), default=10, help="if the function asks for it")
    parser.add_argument(
        "--inputs", type=typed(Any), default="float32 3 32 32",
        help="type and shape of an example; or a list or dict of them",
    )  # fmt: skip


def _reference(words: list[str]) -> None:
    from supernet.program.printing import print_network
    from supernet.search.limits import amount
    from supernet.space.cost import measure
    from supernet.space.model import build
    from supernet.spaces.references import REFERENCES, reference

    parser = make_parser(
        "space convnet --reference NAME [--width W | --max-params N --max-macs N] [--json]",
        "Describes a known network as an architecture of the space convnet: its text and its costs.",
        examples=("space convnet --reference resnet8 --max-params 60k",),
    )
    parser.add_argument("--reference", required=True, help=f"one of {', '.join(REFERENCES)}")
    parser.add_argument("--num_classes", type=typed(int), default=10, help="number of classes")
    parser.add_argument(
        "--input_shape", type=typed(tuple[int, int, int]), default=(3, 32, 32), help="(C, H, W) of an image"
    )
    parser.add_argument("--width", type=typed(int), help="channels of the first stage")
    parser.add_argument(
        "--max-params", help="the largest number of parameters, like 60k; the network is as wide as it allows"
    )
    parser.add_argument("--max-macs", help="the largest number of multiply-adds, like 5M")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parse(parser, words)
    limits = {f"max_{cost}": amount(f"--max-{cost}", cost, options[f"max_{cost}"]) for cost in ("params", "macs")}
    name, input_shape = options["reference"], options["input_shape"]
    space, architecture = reference(name, options["num_classes"], input_shape, width=options["width"], **limits)
    cost = measure(build(space, architecture, seed=0), input_shape)
    facts = {
        "name": name, "space": space.name, "settings": dict(space.settings), "architecture": str(architecture),
        "params": cost.params, "params_without_norm": cost.params_without_norm, "macs": cost.macs,
    }  # fmt: skip
    _emit(facts, options["json"], print_network)


def _spaces(words: list[str]) -> None:
    parser = make_parser("spaces [--json]", "Lists the spaces.", examples=("spaces", "spaces --json"))
    parser.add_argument("--json", action="store_true", help="print them as JSON")
    _listing(space_lines(), parse(parser, words)["json"])


def _recipes(words: list[str]) -> None:
    parser = make_parser(
        "recipes [NAME] [--json]",
        "Lists the recipes, or prints one, complete, as YAML.",
        examples=("recipes", "recipes digits-smoke > mine.yaml"),
    )
    parser.add_argument("name", nargs="?", help="the recipe to print")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    options = parse(parser, words)

    if options["name"] is None:
        _listing(recipe_lines(), options["json"])
    elif options["json"]:
        from supernet.program.config import Config
        from supernet.program.settings import read_settings

        print(json.dumps(read_settings(recipe_path(options["name"]), Config)))
    else:
        print(recipe_path(options["name"]).read_text(encoding="utf-8"), end="")


def _example(words: list[str]) -> None:
    parser = make_parser(
        "example [NAME] [--json]",
        "Lists the examples, or prints one: a Python file to begin with, whose head says how it is run.",
        examples=("example", "example image > my.py"),
    )
    parser.add_argument("name", nargs="?", help="the example to print")
    parser.add_argument("--json", action="store_true", help="print the list, or the text, as JSON")
    options = parse(parser, words)
    if options["name"] is None:
        _listing(example_lines(), options["json"])
        return
    paths = example_files()
    check_name(options["name"], paths, "example")
    text = paths[options["name"]].read_text(encoding="utf-8")
    _emit(text, options["json"], lambda _: print(text, end=""))


def _completion(words: list[str]) -> None:
    parser = make_parser(
        "completion SHELL",
        "Prints a script that completes commands, options and recipes in a shell. Keep it where the shell reads it.",
        examples=(
            "completion bash > ~/.local/share/bash-completion/completions/supernet",
            "completion zsh >> ~/.zshrc",
            "completion fish > ~/.config/fish/completions/supernet.fish",
        ),
    )
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    shell = parse(parser, words)["shell"]
    options = {}
    for name, command in COMMANDS.items():
        text = io.StringIO()
        with redirect_stdout(text), suppress(SystemExit):
            command(["--help"])
        options[name] = options_of(text.getvalue())
    recipes = list(recipe_lines())
    examples = list(example_lines())
    names = {"run": recipes, "train": recipes, "recipes": recipes, "example": examples, "space": SPACES}
    names["completion"] = SHELLS
    print(script(shell, options, names, {"--strategy": STRATEGIES, "--device": ("auto", "cpu", "cuda", "mps")}), end="")


def _listing(rows: dict[str, str], as_json: bool) -> None:
    _emit(rows, as_json, lambda _: print(listed(rows)))


def _print_result(run: Opened, as_json: bool) -> None:
    from supernet.base.files import read_json
    from supernet.program.folder import planned_and_taken, require
    from supernet.program.printing import print_result
    from supernet.program.report import advice_on
    from supernet.search.table import read_failures
    from supernet.trust.tables import RESULT_KEYS

    if is_helper():
        return
    result = read_json(require(run.folder, "retrain"), RESULT_KEYS)
    times = planned_and_taken(run.folder)
    more: dict[str, Any] = {"times": times} if times else {}
    try:
        if unscored := read_failures(run.folder.candidates):
            more["unscored"] = unscored
    except ValueError as error:  # the result does not need the table
        print(f"supernet: {error}", file=sys.stderr)
    _emit({**result, "advice": advice_on(run, result), **more}, as_json, print_result)


@contextmanager
def _files_of(folder: str) -> Iterator[None]:
    """Files of another shape than this version writes are named in one line."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        if os.environ.get("SUPERNET_DEBUG"):
            raise
        raise ValueError(
            f"a file in {folder} is damaged or of another version ({type(error).__name__}: {error}): "
            f"`supernet doctor {folder}` says more"
        ) from error


def _emit(value: Any, as_json: bool, printer: Callable[[Any], object]) -> None:
    """Prints a result as JSON, or for people."""
    if as_json:
        print(json.dumps(value))
    else:
        printer(value)


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "run": _run,
    "check": _check,
    **{step: partial(_step, step) for step in STEP_NAMES},
    "analyze": _analyze,
    "report": _report,
    "export": _export,
    "push": _push,
    "show": _show,
    "doctor": _doctor,
    "watch": _watch,
    "top": _top,
    "study": _study,
    "refine": _refine,
    "score": _score,
    "space": _space,
    "spaces": _spaces,
    "recipes": _recipes,
    "example": _example,
    "completion": _completion,
}


if __name__ == "__main__":
    sys.exit(main())
