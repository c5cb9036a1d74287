"""A found network as files that need nothing of `supernet`: Python, safetensors, torch.export, ONNX.

Every file is loaded in a process of its own and compared with the network on the validation split before it appears,
see `supernet.export.parity`. How code is written is in `supernet.export.writing.code`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from supernet.base.files import write_atomically, write_json, write_text
from supernet.base.randomness import stream
from supernet.base.trees import join_rows, map_tensors, rows, take_rows, tensors
from supernet.base.version import __version__
from supernet.data import splits as datasets
from supernet.data.splits import Data
from supernet.data.task import TaskConfig, metric_of, number_of
from supernet.export import card, parity
from supernet.export.reading import FILES, FORMS, ExportError
from supernet.export.writing.code import import_of, write
from supernet.export.writing.folding import fold
from supernet.export.writing.tracing import UnwritableError
from supernet.space.choices import Architecture, Space
from supernet.space.cost import measure, one_thread
from supernet.space.model import OneShot, example_of, extract, option_names
from supernet.space.network import call

SIZES = (1, 2, 7)
"""Batches of so many examples are compared one by one."""

STATISTICS = 4096
"""Training examples over which running statistics of inherited weights are estimated; our choice."""

SECONDS = 0.5
"""The latency of one example is the median over calls for so long."""

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is exported, and how."""

    rank: int = 1
    """Which finalist: 1 is the best by validation accuracy."""

    architecture: str | None = None
    """Any architecture by its text, in place of a rank."""

    weights: Literal["retrained", "inherited", "new"] = "retrained"
    """'retrained' from scratch (the first repeat); 'inherited' from the one-shot model; 'new' are untrained."""

    to: tuple[str, ...] = FORMS
    """Of python, safetensors, torch (a .pt2 file) and onnx."""

    opset: int = 18
    """Of the ONNX graph."""

    batch: int | None = None
    """Examples in a batch of the .pt2 and ONNX files; None for any number."""

    preprocess: bool = False
    """The ONNX graph takes pixels from 0 to 255 (uint8) and normalises them itself."""

    fold: bool = False
    """Batch norms become part of the convolutions before them: faster, and not to be trained any more."""

    tolerance: float = 1e-4
    """Largest difference of an output, as a share of the largest output."""

    licence: str = card.NOT_STATED
    """Of the exported network, for the model card."""

    def __post_init__(self) -> None:
        unknown = [form for form in self.to if form not in FORMS]
        if unknown or not self.to:
            raise ValueError(f"to: expected some of {', '.join(FORMS)}, got {', '.join(unknown) or 'none'}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch: expected at least 1, or none for any number; got {self.batch}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance: expected a number above 0 and below 1, got {self.tolerance}")
        if self.preprocess and "onnx" not in self.to:
            raise ValueError("preprocess: is for the ONNX graph; expected onnx among what is exported")


@dataclass(frozen=True, slots=True)
class Origin:
    """The run that a network is from, as far as its files tell of it.

    Attributes:
        task: what was learnt.
        data: where the examples are from.
        seed: of the run.
        splits: what the network was trained on.
    """

    task: TaskConfig
    data: str
    seed: int
    splits: str


@dataclass(frozen=True)
class Chosen:
    """The network that is exported.

    Attributes:
        network: with its weights, in evaluation mode, on the CPU.
        architecture: what it is.
        space: where it is from.
        row: what the run knows of it as a finalist, or nothing.
        weights: where they are from, in words.
    """

    network: nn.Module
    architecture: Architecture
    space: Space
    row: dict[str, Any]
    weights: str


# ---- which network ----


@torch.no_grad()
def inherit(model: OneShot, architecture: Architecture, data: Data, *, seed: int) -> nn.Module:
    """A stand-alone network with the one-shot model's weights, in evaluation mode.

    The one-shot model has no running statistics of batch norm. They are estimated here, as the mean over batches of
    training examples without augmentation, 64 in each.
    """
    network = extract(model, architecture)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    part = torch.randperm(len(data.train), generator=stream(seed, "statistics"))[:STATISTICS]
    split = datasets.Split(take_rows(data.train.examples, part), take_rows(data.train.targets, part), data.train.hash)
    for examples, _ in datasets.batches(split, data, device=torch.device("cpu"), size=64):
        if rows(examples) > 1:
            call(network, examples)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()


# ---- files ----


def write_forms(
    place: Path, chosen: Chosen, origin: Origin, data: Data, config: ExportConfig, done: Any = lambda number: None
) -> dict[str, Any]:
    """Writes and compares all files of a network.

    Returns:
        What there is to say of them.

    Raises:
        ExportError: a file cannot be written, or does not agree.
    """
    network = chosen.network
    batches = list(datasets.batches(data.validation, data, device=torch.device("cpu")))
    examples = map_tensors(join_rows([each for each, _ in batches]), lambda t: t.contiguous())
    targets = join_rows([target for _, target in batches])
    facts = _facts(chosen, origin, data, config)
    folded: dict[str, Any] | None = None
    if config.fold:
        network, number = fold(network, take_rows(examples, slice(3)))
        folded = {"batch_norms": number}
        with torch.inference_mode():
            _compare("folded", call(network, examples), call(chosen.network, examples), config.tolerance)
            one = take_rows(examples, slice(1))
            for name, each in (("before_ms", chosen.network), ("after_ms", network)):
                with one_thread():
                    folded[name] = parity.milliseconds(lambda each=each: call(each, one), SECONDS)  # type: ignore[misc]
    facts["folded"] = folded
    for number, form in enumerate(config.to, start=2):
        if form in ("python", "safetensors"):
            if "class" not in facts:
                _write_python(place, network, chosen, examples, facts)
        else:
            _write_graph(form, place, network, examples, data, config)
        done(number)
    with torch.inference_mode():
        outputs = join_rows([call(chosen.network, each) for each, _ in batches])
    facts["validation"] = number_of(metric_of(origin.task), outputs, targets)
    facts |= _checked(place, outputs, targets, examples, data, origin, config, facts)
    if "python" not in config.to:
        (place / FILES["python"]).unlink(missing_ok=True)
    if "safetensors" not in config.to:
        (place / FILES["safetensors"]).unlink(missing_ok=True)
    return facts


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
        "metric": origin.task.metric.rpartition(":")[2],
        "preprocess": config.preprocess,
        "opset": config.opset if "onnx" in config.to else None,
        "batch": config.batch,
        "licence": config.licence,
        "seed": origin.seed,
        "splits": origin.splits,
        "data": origin.data,
        "versions": {"supernet": __version__, "torch": torch.__version__, "python": sys.version.split()[0]},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _write_python(place: Path, network: nn.Module, chosen: Chosen, examples: Any, facts: dict[str, Any]) -> None:
    try:
        written = write(network, take_rows(examples, slice(3)), option_names(chosen.space, chosen.architecture))
    except UnwritableError as error:
        raise ExportError(
            f"this network cannot be written out as Python: {error}; --to torch,onnx needs no code"
        ) from error
    facts["class"] = written.name
    facts["imports"] = sorted({str(folder) for _, folder in map(import_of, written.imported) if folder is not None})
    write_text(place / FILES["python"], card.module_text(written, facts))
    contents = {name: tensor.cpu().contiguous().clone() for name, tensor in written.tensors.items()}
    content = save(contents, {"class": written.name, "architecture": facts["architecture"]})
    write_atomically(place / FILES["safetensors"], lambda file: file.write(content))


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
    names = list(kwargs) or (["pixels"] if config.preprocess else ["x"] if len(args) == 1 else None)
    try:
        with _quiet():
            program = torch.export.export(network, args, kwargs, dynamic_shapes=None if config.batch else shapes)
            path = place / FILES[form]
            if form == "torch":
                torch.export.save(program, path)
            else:
                torch.onnx.export(
                    program, (), path, opset_version=config.opset, external_data=False, dynamo=True, verbose=False,
                    input_names=names,
                )  # fmt: skip
    except Exception as error:  # the exporters raise whatever their many parts raise
        reason = " ".join(str(error).split())[:300]
        raise ExportError(f"{form}: the network cannot be exported ({type(error).__name__}: {reason})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters say about themselves: old uses of torch in torch, and that torchvision is missing."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def check_packages(form: str) -> None:
    """Refuses a form whose packages are not installed.

    Raises:
        ExportError: names the extra that brings them.
    """
    for package in ("onnx", "onnxscript", "onnxruntime") if form == "onnx" else ():
        if importlib.util.find_spec(package) is None:
            raise ExportError(f"--to onnx needs {package}: pip install 'supernet[export]', or leave onnx out")


# ---- the gate ----


def _checked(
    place: Path,
    outputs: Any,
    targets: Any,
    examples: Any,
    data: Data,
    origin: Origin,
    config: ExportConfig,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Runs every file in a process of its own, without `supernet`, and compares what comes out.

    Returns:
        parity: for each form the largest difference and the metric on the whole split; latency: of one example.

    Raises:
        ExportError: a file does not run, or differs by more than the tolerance.
    """
    forms = [form for form in ("python", "torch", "onnx") if (place / FILES[form]).exists()]
    if config.batch is not None and config.batch > rows(examples):
        raise ExportError(f"batch: {config.batch} examples are more than the validation split has, {rows(examples)}")
    sizes = [config.batch] if config.batch else [size for size in SIZES if size <= rows(examples)]
    raw = ["onnx"] if config.preprocess else []
    with tempfile.TemporaryDirectory(prefix="supernet-parity-") as name:
        temporary = Path(name)
        case = {
            "forms": forms, "raw": raw, "sizes": sizes, "seconds": SECONDS, "folder": str(place.resolve()),
            "class": facts.get("class"), "names": list(examples) if isinstance(examples, dict) else [],
            "alone": not facts.get("imports"), "path": facts.get("imports", []), "batch": config.batch,
        }  # fmt: skip
        write_json(temporary / "case.json", case)
        given = {f"input{i:03}": tensor.contiguous() for i, tensor in enumerate(tensors(examples))}
        if raw:
            given["raw000"] = data.validation.examples.contiguous()
        save_file(given, temporary / "inputs.safetensors")
        command = [sys.executable, "-P", str(Path(parity.__file__).resolve()), str(temporary)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise ExportError(
                f"an exported file does not run by itself: {(ran.stderr.strip().splitlines() or ['?'])[-1]}"
            )
        found = load_file(temporary / "outputs.safetensors")
        latency = json.loads((temporary / "latency.json").read_text(encoding="utf-8"))
    metric = metric_of(origin.task)
    report: dict[str, Any] = {}
    for form in forms:
        differences = []
        for size in [*sizes, "all"]:
            every = iter([found[f"{form}.{size}.{i}"] for i, _ in enumerate(tensors(outputs))])
            got = map_tensors(outputs, lambda _, every=every: next(every))  # type: ignore[misc]
            wanted = outputs if size == "all" else take_rows(outputs, slice(size))
            length = rows(got)
            wanted = take_rows(wanted, slice(length))
            differences.append(_compare(f"{FILES[form]}, batch of {size}", got, wanted, config.tolerance))
        reached = number_of(metric, got, take_rows(targets, slice(length)))
        expected = number_of(metric, wanted, take_rows(targets, slice(length)))
        if abs(reached - expected) > max(10 * config.tolerance * max(1.0, abs(expected)), 1 / length):
            raise ExportError(f"{FILES[form]}: {facts['metric']} {reached:.6g} where the network has {expected:.6g}")
        report[form] = {"difference": max(differences), facts["metric"]: reached, "examples": length}
    return {"parity": {"tolerance": config.tolerance, "sizes": sizes, "forms": report}, "latency_ms": latency}


def _compare(what: str, got: Any, wanted: Any, tolerance: float) -> float:
    """The largest difference, as a share of the largest output.

    Raises:
        ExportError: it is above the tolerance, or no number.
    """
    largest = 0.0
    for a, b in zip(tensors(got), tensors(wanted), strict=True):
        if a.shape != b.shape:
            raise ExportError(f"{what}: outputs of shape {list(a.shape)} where the network has {list(b.shape)}")
        scale = max(float(b.abs().max()), torch.finfo(torch.float32).tiny)
        difference = float((a.double() - b.double()).abs().max()) / scale
        if not difference <= tolerance:
            raise ExportError(
                f"{what}: outputs differ by {difference:.2g} of the largest, more than the tolerance of {tolerance:g}; "
                "nothing was exported"
            )
        largest = max(largest, difference)
    return largest
