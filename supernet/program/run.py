"""The whole way from Python: `run` does what `supernet run` does, and `Run` is what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from supernet.base import trees
from supernet.base.files import check_digest, read_json, write_atomically
from supernet.base.markdown import table
from supernet.base.own import OwnFunction, own_function
from supernet.base.progress import Watch
from supernet.program.folder import Opened, RunError, has_begun, is_done, open_run, require
from supernet.program.load import finalist, load_finalist, load_run, space_of_run
from supernet.program.lock import alone_in
from supernet.program.paths import RunFolder
from supernet.program.prepare import Prepared, begin_prepared, is_planned, prepare
from supernet.program.resolve import OWN_NETWORK, Setting, data_settings, open_if_there
from supernet.program.settings import ConfigError
from supernet.program.steps import STEP_NAMES, run_steps
from supernet.space.choices import Space
from supernet.spaces import SPACES
from supernet.trust.page import NOT_ANALYZED
from supernet.trust.tables import result_rows, winner_text

if TYPE_CHECKING:
    from pandas import DataFrame

    from supernet.draw.svg import Drawing


def run(
    network: str | Space | Callable[..., Any],
    data: Any,
    *,
    out: str | PathLike[str],
    recipe: str | None = None,
    limits: Mapping[str, int | float | str] | None = None,
    hours: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Run:
    """Trains a one-shot model, scores candidates, trains the best from scratch and tests them once.

    The same call continues a run that was stopped, and only reads one that is done. `supernet run` does the same from
    the command line, and each continues the other's runs.

    What is given as Python objects has no file, so this is what the run folder records of it. Arrays are kept there, in
    `data.pt`: the run can be repeated and continued without them. (Large images are better named as a folder.) A
    function that returns data is called once, and its arrays are kept. Of a function that makes a network only module,
    name and a digest of its source are recorded: the run continues with the same function given again, here or in
    `Run`; helpers that it calls are not in the digest.

    Args:
        network: a function that makes your network with choices, in Python or as ``"FILE.py:FUNCTION"``; a `Space`; or
            the name of a built-in space. The function is given `num_classes` and `input_shape` if it asks for them.
        data: ``(inputs, targets)`` or ``(inputs, targets, test_inputs, test_targets)``, each an array or tensor with
            the examples along the first axis, or a tuple or dict of them; a function that returns these, in Python or
            as ``"FILE.py:FUNCTION"``; a folder of images; a parquet file; or the name of a source, such as "digits".
        out: the run folder.
        recipe: its name, or a YAML file; None for "own-network", or to continue the run that is there.
        limits: such as ``{"max_params": "1M", "max_latency": "5ms"}``.
        hours: time for everything, for which lengths are planned on this machine; None for the recipe's lengths.
        seed: all random numbers follow from it; None for the recipe's.
        settings: more settings, dotted or nested: ``{"train.epochs": 5}`` is the same as ``{"train": {"epochs": 5}}``.
            `supernet run --help` lists all.
        progress: whether progress is shown on stderr, and Ctrl-C lets the state be saved.

    Returns:
        The finished run.

    Raises:
        ValueError: a setting, the data or the network does not fit, or the folder is another run's.
        Interrupted: Ctrl-C; the state is saved, and the same call continues.
    """
    path = Path(out)
    network_settings = _settings_of_network(network)
    arrays = _arrays(data)
    choices = [
        *network_settings,
        *([Setting("data.name", "arrays"), Setting("data.path", str(RunFolder(path.resolve()).arrays))] if arrays else
          data_settings(fspath(data))),
        *(Setting(f"search.limits.{name}", limit) for name, limit in (limits or {}).items()),
        *([] if seed is None else [Setting("seed", seed)]),
        *(Setting(name, value) for name, value in (settings or {}).items()),
    ]  # fmt: skip
    with ExitStack() as held:
        is_new = not RunFolder(path).config.exists()
        if not is_new:
            held.enter_context(alone_in(RunFolder(path)))
        opened = open_if_there(path)
        start = recipe or (OWN_NETWORK if opened is None else None)
        prepared = _prepared(start, choices, opened, path, hours, arrays)
        if is_new:  # only now: settings that do not fit leave nothing behind
            held.enter_context(alone_in(RunFolder(path)))
        opened, loaded = begin_prepared(path, prepared, opened)
        if arrays:
            _keep(arrays, opened.folder)
        if isinstance(network, Space) and not is_done(opened.folder, STEP_NAMES[-1]):
            loaded = loaded or load_run(opened)
            _check_same(network, loaded.space)
        for _ in run_steps(opened, STEP_NAMES, _watching(progress), loaded):
            pass
    function = opened.config.space.name
    return Run(path, function.function if isinstance(function, OwnFunction) else None)


class Winner(NamedTuple):
    """The best network of a run.

    Attributes:
        network: with its trained weights, in evaluation mode.
        row: architecture, sizes, score, validation and test metric, as in `results.json`.
    """

    network: nn.Module
    row: dict[str, Any]


@dataclass(frozen=True)
class Run:
    """A run folder, made by `supernet.run` or by the command line; what is asked for is read from its files.

    Attributes:
        folder: of the run.
        network: the function that makes the network, for a run that was begun with a function in Python.

    Raises:
        RunError: it is no run folder.
    """

    folder: Path
    network: Callable[..., Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        self._opened()

    def __repr__(self) -> str:
        steps = [step for step in STEP_NAMES if is_done(RunFolder(self.folder), step)]
        return f"Run({self.folder}: {', '.join(steps) or 'no step'} done)"

    def _repr_markdown_(self) -> str:
        """For notebooks: the verdict, the winner and the groups of a finished run."""
        if not is_done(RunFolder(self.folder), STEP_NAMES[-1]):
            return repr(self)
        result, analysis = self.results, RunFolder(self.folder).analysis
        trust = read_json(analysis).get("trust") if analysis.exists() else None
        texts = [
            (result.get("against_reference") or {}).get("text"),
            winner_text(result),
            NOT_ANALYZED if trust is None else trust["verdict"],
        ]
        return "\n\n".join([f"**{self.folder}**", *filter(None, texts), table(result_rows(result))])

    def _opened(self) -> Opened:
        opened = open_run(self.folder)
        if self.network is None:
            return opened
        name = own_function(self.network)
        if name != opened.config.space.name:
            raise RunError(
                f"{self.folder} was made with {opened.config.space.name}, not with {name}: give the same one"
            )
        return replace(opened, config=replace(opened.config, space=replace(opened.config.space, name=name)))

    @property
    def best(self) -> Winner:
        """The network that is offered, with its row of the results.

        It is the candidate with the best validation metric, or the reference where that does as well on the test split.

        Raises:
            RunError: the run is not finished.
        """
        opened = self._opened()
        row = finalist(opened.folder, None)
        return Winner(load_finalist(opened, row), row)

    @property
    def against_reference(self) -> dict[str, Any] | None:
        """The winner against the best reference: `text`, `difference`, `interval` and more; None without a reference.

        Raises:
            RunError: the run is not finished.
        """
        comparison: dict[str, Any] | None = self.results.get("against_reference")
        return comparison

    @property
    def candidates(self) -> DataFrame:
        """Every candidate with its score and its costs, one row each, the best first.

        Raises:
            RunError: nothing was searched yet.
            MissingExtra: pandas is not installed.
        """
        from supernet.search.orders import standing
        from supernet.search.table import data_frame, read_candidates

        opened = self._opened()
        space = space_of_run(opened)
        if not opened.folder.candidates.exists():
            raise RunError(f"{self.folder} has no candidates yet: search first")
        return data_frame(sorted(read_candidates(opened.folder.candidates, space), key=standing))

    @property
    def results(self) -> dict[str, Any]:
        """Groups of finalists and their networks with validation and test metric: `results.json`.

        Raises:
            RunError: the run is not finished.
        """
        return read_json(require(self._opened().folder, "retrain"))

    @property
    def trust(self) -> dict[str, Any]:
        """What the ranking is worth: agreement of scores and stand-alone results, with intervals, and a `verdict`.

        Raises:
            RunError: `analyze` was not called yet.
        """
        path = self._opened().folder.analysis
        trust: dict[str, Any] | None = read_json(path).get("trust") if path.exists() else None
        if trust is None:
            raise RunError(f"{self.folder} is not analysed yet: call analyze() first, which trains some networks")
        return trust

    def analyze(
        self,
        rates: Sequence[float] = (),
        at: Mapping[str, Sequence[Any]] | None = None,
        *,
        progress: bool = True,
    ) -> dict[str, Any]:
        """Trains networks drawn evenly over the score, and compares; see `supernet.program.analyze.analyze_step`.

        Returns:
            `trust`.
        """
        from supernet.program.analyze import analyze_step
        from supernet.program.machine import start_run

        opened = self._opened()
        with alone_in(opened.folder), _watching(progress)("analyze") as watch:
            runtime = start_run(opened).alone()
            trust: dict[str, Any] = analyze_step(load_run(opened), runtime, watch, rates, at)["trust"]
        return trust

    def refine(
        self, trainings: int | None = None, *, hours: float | None = None, progress: bool = True
    ) -> dict[str, Any]:
        """Trains candidates from scratch in rounds, and ranks all of them by what was learnt from all trainings.

        Args:
            trainings: the most trainings of all calls together; 32 if there is no time either.
            hours: time for the trainings of this call, in place of their number.
            progress: whether progress is shown on stderr, and Ctrl-C lets the state be saved.

        Returns:
            What `refine.json` holds; see `supernet.program.refine.refine_step`.

        Raises:
            ValueError: both trainings and hours are there, or the search is not done.
            Interrupted: Ctrl-C; the state is saved, and the same call continues.
        """
        from supernet.program.machine import start_run
        from supernet.program.refine import refine_step

        opened = self._opened()
        with alone_in(opened.folder), _watching(progress)("refine") as watch:
            return refine_step(load_run(opened), trainings, hours, start_run(opened).alone(), watch)

    def figures(self) -> dict[str, Drawing]:
        """The figures of the report by their names; notebooks show them, and `.figure()` is the matplotlib figure.

        Raises:
            RunError: nothing has begun.
        """
        from supernet.program.report import figures_of

        return figures_of(self._opened())

    def report(self) -> Path:
        """Writes one page about the run, of one that is not finished what there is so far, and returns its path."""
        from supernet.program.report import write_report

        return write_report(self._opened())


# ---- what is given as Python objects ----


def _settings_of_network(network: str | Space | Callable[..., Any]) -> list[Setting]:
    if isinstance(network, str):
        return [Setting("space.name", network)]
    names = {make: name for name, make in SPACES.items()}
    if isinstance(network, Space) and network.name in SPACES:
        from_data = ("num_classes", "input_shape")
        sizes = {name: value for name, value in network.settings if name not in from_data}
        return [Setting("space.name", network.name), Setting("space.settings", sizes)]
    if isinstance(network, Space):
        return [Setting("space.name", own_function(network.network))]
    if not callable(network):
        raise ConfigError(
            f"network: expected a function that makes a network, a Space, or a name, got {type(network).__name__}"
        )
    return [Setting("space.name", names.get(network) or own_function(network))]


def _check_same(given: Space, made: Space) -> None:
    if given.choices != made.choices or given.settings != made.settings or given.input_shape != made.input_shape:
        raise ConfigError(
            f"network: the space was made for other data: it has {dict(given.settings)} and examples of shape "
            f"{list(given.input_shape)}, the data ask for {dict(made.settings)} and {list(made.input_shape)}"
        )


def _arrays(data: Any) -> dict[str, Any]:
    """Inputs and targets as tensors by name; nothing if the data are named."""
    if isinstance(data, str | PathLike):
        return {}
    if callable(data):
        data = data()
    if not isinstance(data, tuple | list) or len(data) not in (2, 4):
        got = f"{len(data)} of them" if isinstance(data, tuple | list) else type(data).__name__
        raise ConfigError(
            "data: expected (inputs, targets) or (inputs, targets, test_inputs, test_targets), a function that returns "
            f"these, or a name, got {got}"
        )
    return {name: _tensors(tree) for name, tree in zip(_PARTS, data, strict=False)}


_PARTS = ("inputs", "targets", "test_inputs", "test_targets")


def _tensors(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _tensors(part) for name, part in tree.items()}
    if isinstance(tree, tuple | list) and any(isinstance(part, np.ndarray | torch.Tensor | dict) for part in tree):
        return tuple(_tensors(part) for part in tree)
    if isinstance(tree, torch.Tensor):
        return tree.detach().cpu().contiguous()
    try:
        return torch.from_numpy(np.require(tree, requirements=["C", "W"]))
    except TypeError as error:
        raise ConfigError(f"data: expected arrays of numbers ({' '.join(str(error).split())})") from None


def _prepared(
    recipe: str | None,
    settings: Sequence[Setting],
    opened: Opened | None,
    path: Path,
    hours: float | None,
    arrays: dict[str, Any],
) -> Prepared:
    """The configuration; to plan a new run its arrays are needed before there is a folder for them."""
    if not arrays or opened is not None or not is_planned(recipe, hours):
        return prepare(recipe, settings, opened, path, hours)
    with TemporaryDirectory() as folder:
        file = RunFolder(Path(folder)).arrays
        torch.save(arrays, file)
        there = [replace(s, value=str(file)) if s.name == "data.path" else s for s in settings]
        prepared = prepare(recipe, there, opened, path, hours)
    place = next(s.value for s in settings if s.name == "data.path")
    config = replace(prepared.config, data=replace(prepared.config.data, path=place))
    return replace(prepared, config=config)


def _keep(arrays: dict[str, Any], folder: RunFolder) -> None:
    """Keeps arrays in the run folder, or sees that they are the same ones."""
    if folder.arrays.exists():
        check_digest(folder.arrays)
        kept = torch.load(folder.arrays, weights_only=True)
        if trees.describe(kept) == trees.describe(arrays) and all(
            map(torch.equal, trees.tensors(kept), trees.tensors(arrays))
        ):
            return
        if has_begun(folder):
            raise RunError(f"the data have changed since {folder} was made: give the same arrays, or another folder")
    write_atomically(folder.arrays, lambda file: torch.save(arrays, file), digest=True)


def _watching(progress: bool) -> Callable[[str], AbstractContextManager[Watch]]:
    """Progress on stderr; signals can be taken in the main thread only."""
    from supernet.program.screen import watching

    if progress and current_thread() is main_thread():
        return watching
    return lambda step: nullcontext(Watch())
