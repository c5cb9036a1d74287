"""A network as files that need nothing of `supernet`: Python, safetensors, torch.export, ONNX.

How code is written is in `supernet.export.writing.code`; how the files are checked is in `supernet.export.gate`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

from supernet.base.files import write_atomically, write_text
from supernet.base.trees import call, join_rows, map_tensors, plain, take_rows
from supernet.base.version import __version__
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.data.task import TaskConfig, metric_of, number_of
from supernet.draw.units import Unit
from supernet.export import card, gate, parity
from supernet.export.reading import FILES, FORMS, ExportError
from supernet.export.writing.code import import_of, write
from supernet.export.writing.folding import fold
from supernet.export.writing.tracing import UnwritableError
from supernet.space.choices import Architecture, Space
from supernet.space.cost import measure, one_thread
from supernet.space.model import example_of, option_names

FORMAT = 1
"""Of `export.json`."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported, and how."""

    rank: int | None = None
    """Rank of the finalist: 1 is the best by validation accuracy. Without it the network that is offered is taken: the
    best one, or the reference where that does as well."""

    architecture: str | None = None
    """Any architecture as text, instead of a rank; or a reference by its name or id."""

    weights: Literal["retrained", "inherited", "new"] = "retrained"
    """'retrained' from scratch (the first repeat); 'inherited' from the one-shot model; 'new', not trained."""

    to: tuple[str, ...] = FORMS
    """Which files: python (with safetensors, its weights), safetensors, torch (a .pt2 file), onnx."""

    opset: int = 18
    """Opset of the ONNX graph."""

    batch: int | None = None
    """Examples in a batch of the .pt2 and ONNX files; None for any number."""

    preprocess: bool = False
    """The ONNX graph takes pixels from 0 to 255 (uint8) and normalises them itself."""

    fold: bool = False
    """Batch norms become part of the convolutions before them: faster, but not to be trained further."""

    tolerance: float = 1e-4
    """Largest accepted difference of an output, as a share of the largest output."""

    licence: str = card.NOT_STATED
    """Of the exported network, for the model card."""

    def __post_init__(self) -> None:
        if "python" in self.to and "safetensors" not in self.to:  # its code loads them
            object.__setattr__(self, "to", tuple(f for form in self.to for f in _with_weights(form)))
        unknown = [form for form in self.to if form not in FORMS]
        if unknown or not self.to:
            raise ValueError(f"to: expected some of {', '.join(FORMS)}, got {', '.join(unknown) or 'none'}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch: expected at least 1, or none for any number; got {self.batch}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a number above 0 and below 1, got {self.tolerance}")
        if self.preprocess and "onnx" not in self.to:
            raise ValueError("preprocess: applies to the ONNX graph only; expected onnx among what is exported")


def _with_weights(form: str) -> tuple[str, ...]:
    """A form, and for Python the form of its weights, which its code loads."""
    return (form, "safetensors") if form == "python" else (form,)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the files of a network say of its run.

    Attributes:
        task: of the run.
        data: name or path of the data set.
        seed: of the run.
        splits: on which the network was trained.
        background: the colour behind transparent pixels of images.
        precision: in which the run evaluated these weights; None if it did not.
    """

    task: TaskConfig
    data: str
    seed: int
    splits: str
    background: str
    precision: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The network that is exported.

    Attributes:
        network: with its weights, in evaluation mode, on the CPU.
        architecture: of the network.
        space: of the architecture.
        row: the network's row in `results.json`; empty if it is not a finalist.
        weights: where they are from, in words.
    """

    network: nn.Module
    architecture: Architecture
    space: Space
    row: dict[str, Any]
    weights: str


def check_packages(form: str) -> None:
    """Refuses a form whose packages are not installed.

    Raises:
        ExportError: names the extra to install.
    """
    for package in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" else ():
        if importlib.util.find_spec(package) is None:
            others = ",".join(name for name in FORMS if name != "onnx")
            raise ExportError(f"--to onnx needs {package}: pip install 'supernet[export]', or take --to {others}")


def write_forms(
    place: Path,
    chosen: Chosen,
    origin: Origin,
    data: Data,
    config: ExportConfig,
    report: Callable[[int], None] = lambda number: None,
) -> dict[str, Any]:
    """Writes all files of a network and compares them with it.

    Args:
        place: the folder.
        chosen: the network.
        origin: the run that it is from.
        data: of the run.
        config: which files, and how.
        report: is called with 2 after the first file, with 3 after the second, and so on.

    Returns:
        The content of `export.json`.

    Raises:
        ExportError: a file cannot be written, or differs from the network.
    """
    reference = _reference(chosen.network, origin, data, config)
    facts = _facts(chosen, origin, data, config)
    network = chosen.network
    facts["folded"] = None
    if config.fold:
        network, facts["folded"] = _folded(chosen.network, reference, config.tolerance)
    for number, form in enumerate(config.to, start=2):
        if form in ("torch", "onnx"):
            _write_graph(form, place, network, reference.examples, data, config)
        elif "class" not in facts:
            facts |= _write_python(place, network, chosen, reference.examples, facts)
        report(number)
    facts["validation"] = reference.metric(reference.outputs, reference.targets)
    facts |= gate.check_files(
        place, reference, network_class=facts.get("class"), imports=facts.get("imports", []), batch=config.batch,
        tolerance=config.tolerance,
    )  # fmt: skip
    if "python" not in config.to:  # only the check of the weights needs it
        (place / FILES["python"]).unlink(missing_ok=True)
    return facts


def _reference(network: nn.Module, origin: Origin, data: Data, config: ExportConfig) -> gate.Reference:
    """The validation split with the outputs of the network."""
    batches = list(datasets.batches(data.validation, data, device=torch.device("cpu")))
    with torch.inference_mode():
        outputs = join_rows([call(network, examples) for examples, _ in batches])
    return gate.Reference(
        examples=map_tensors(join_rows([examples for examples, _ in batches]), lambda t: t.contiguous()),
        pixels=data.validation.examples if config.preprocess else None,
        outputs=outputs,
        targets=join_rows([targets for _, targets in batches]),
        metric=partial(number_of, metric_of(origin.task)),
        metric_name=Unit.of(origin.task.metric_name).name,
    )


def _folded(network: nn.Module, reference: gate.Reference, tolerance: float) -> tuple[nn.Module, dict[str, Any]]:
    """The network without batch norms, and how many there were, with milliseconds for one example before and after."""
    folded, number = fold(network, take_rows(reference.examples, slice(3)))
    one = take_rows(reference.examples, slice(1))
    with torch.inference_mode(), one_thread():
        gate.compare("folded", call(folded, reference.examples), reference.outputs, tolerance)
        before, after = (parity.milliseconds(partial(call, n, one), gate.SECONDS) for n in (network, folded))
    return folded, {"batch_norms": number, "before_ms": before, "after_ms": after}


def _facts(chosen: Chosen, origin: Origin, data: Data, config: ExportConfig) -> dict[str, Any]:
    cost = measure(chosen.network, example_of(chosen.space, 1))
    return {
        "format": FORMAT,
        "architecture": str(chosen.architecture),
        "id": chosen.architecture.id,
        "space": chosen.space.name,
        "forms": list(config.to),
        "files": [FILES[form] for form in config.to],
        "weights": chosen.weights,
        "finalist": chosen.row,
        "cost": asdict(cost),
        "inputs": data.inputs,
        "classes": list(data.classes),
        "mean": list(data.mean),
        "std": list(data.std),
        "background": origin.background,
        "metric": Unit.of(origin.task.metric_name).name,
        "preprocess": config.preprocess,
        "opset": config.opset if "onnx" in config.to else None,
        "batch": config.batch,
        "licence": config.licence,
        "seed": origin.seed,
        "splits": origin.splits,
        "precision": origin.precision,
        "data": origin.data,
        "versions": {"supernet": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write_python(
    place: Path, network: nn.Module, chosen: Chosen, examples: Any, facts: dict[str, Any]
) -> dict[str, Any]:
    """The Python and safetensors files; returns the name of the class, and the folders of modules that it imports."""
    try:
        written = write(network, take_rows(examples, slice(3)), option_names(chosen.space, chosen.architecture))
    except UnwritableError as error:
        raise ExportError(
            f"this network cannot be written out as Python: {error}; --to torch,onnx needs no code"
        ) from error
    folders = {str(folder) for _, folder in map(import_of, written.imported) if folder is not None}
    more = {"class": written.name, "imports": sorted(folders)}
    write_text(place / FILES["python"], card.module_text(written, {**facts, **more}))
    contents = {name: tensor.cpu().contiguous().clone() for name, tensor in written.tensors.items()}
    content = save(contents, {"class": written.name, "architecture": facts["architecture"]})
    write_atomically(place / FILES["safetensors"], lambda file: file.write(content))
    return more


class Normalised(nn.Module):
    """A network that takes pixels from 0 to 255."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", 255 * torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, pixels: Tensor) -> Any:
        return self.network((pixels.float() - self.mean) / self.std)


class _Plain(nn.Module):
    """A network that returns plain dicts in place of objects of a library's classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *args: Any, **named: Any) -> Any:
        return plain(self.network(*args, **named))


def _has_plain_outputs(network: nn.Module, inputs: Any) -> bool:
    with torch.no_grad():
        outputs = call(network, inputs)
    return type(outputs) in (Tensor, tuple, list, dict)


def _write_graph(form: str, place: Path, network: nn.Module, examples: Any, data: Data, config: ExportConfig) -> None:
    """The .pt2 or ONNX file."""
    inputs = take_rows(examples, slice(config.batch or 2))
    if form == "onnx" and config.preprocess:
        network = Normalised(network, data.mean, data.std).eval()
        inputs = data.validation.examples[: config.batch or 2]
    args = inputs if isinstance(inputs, tuple) else () if isinstance(inputs, dict) else (inputs,)
    kwargs = inputs if isinstance(inputs, dict) else {}
    batch = {} if config.batch else {0: torch.export.Dim("batch")}
    shapes: Any = dict.fromkeys(kwargs, batch) if kwargs else tuple(batch for _ in args)
    if not _has_plain_outputs(network, inputs):
        network = _Plain(network).eval()
        shapes = shapes if kwargs else (shapes,)  # its arguments by position are one tuple
    names = list(kwargs) or (["pixels"] if config.preprocess else ["x"] if len(args) == 1 else None)
    buffer = io.BytesIO()
    try:
        with _quiet():
            program = torch.export.export(network, args, kwargs, dynamic_shapes=None if config.batch else shapes)
            if form == "torch":
                torch.export.save(program, buffer)  # into memory: on a full disk it would end the process
            else:
                onnx = torch.onnx.export(
                    program, (), opset_version=config.opset, external_data=False, dynamo=True, verbose=False,
                    input_names=names,
                )  # fmt: skip
                assert onnx is not None
                buffer.write(onnx.model_proto.SerializeToString())
    except Exception as error:  # the exporters raise errors of many kinds
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"{form}: the network cannot be exported ({type(error).__name__}: {reason})") from error
    write_atomically(place / FILES[form], lambda file: file.write(buffer.getvalue()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences remarks of the exporters about themselves: deprecated calls in torch, and a missing torchvision."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
