"""The gate of an export: its files are run in a process without `supernet` and compared with the network.

What runs there is `supernet.export.parity`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernet.base.files import write_json
from supernet.base.trees import map_tensors, rows, take_rows, tensors
from supernet.export import parity
from supernet.export.reading import FILES, ExportError

SIZES = (1, 2, 7)
"""Sizes of the batches that are compared one by one."""

SECONDS = 0.5
"""The latency of one example is the median over calls in this time."""


@dataclass(frozen=True)
class Reference:
    """What the files of an export are compared with.

    Attributes:
        examples: of the validation split, as the network takes them.
        pixels: the same as pixels from 0 to 255, if the ONNX graph takes these; else None.
        outputs: of the network.
        targets: of the examples.
        metric: the metric of outputs and targets.
        metric_name: its name.
    """

    examples: Any
    pixels: Tensor | None
    outputs: Any
    targets: Any
    metric: Callable[[Any, Any], float]
    metric_name: str


def check_files(
    place: Path,
    reference: Reference,
    *,
    network_class: str | None,
    imports: list[str],
    batch: int | None,
    tolerance: float,
) -> dict[str, Any]:
    """Runs every file of an export and compares it with the network.

    Args:
        place: the folder with the files.
        reference: what they are compared with.
        network_class: the class in the Python file, if there is one.
        imports: folders of a user's modules that the Python file needs.
        batch: examples in a batch of the .pt2 and ONNX files; None for any number.
        tolerance: largest difference of an output, as a share of the largest output.

    Returns:
        `parity`: tolerance, sizes of batches, and for each form the largest difference and the metric on the whole
        split; `latency_ms`: of one example.

    Raises:
        ExportError: a file does not run, or differs by more than the tolerance.
    """
    number = rows(reference.examples)
    if batch is not None and batch > number:
        raise ExportError(f"batch: expected at most {number} examples, the size of the validation split; got {batch}")
    forms = [form for form in ("python", "torch", "onnx") if (place / FILES[form]).exists()]
    sizes = [batch] if batch else [size for size in SIZES if size <= number]
    case = {
        "forms": forms, "raw": [] if reference.pixels is None else ["onnx"], "sizes": sizes, "seconds": SECONDS,
        "folder": str(place.resolve()), "class": network_class, "alone": not imports, "path": imports, "batch": batch,
        "names": list(reference.examples) if isinstance(reference.examples, dict) else [],
    }  # fmt: skip
    outputs, latency = _run(case, reference)
    report = {form: _compare_form(form, outputs, sizes, reference, tolerance) for form in forms}
    return {"parity": {"tolerance": tolerance, "sizes": sizes, "forms": report}, "latency_ms": latency}


def _run(case: dict[str, Any], reference: Reference) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Runs the files in a process of its own; returns outputs by FORM.SIZE.NUMBER, and milliseconds by form."""
    inputs = {f"input{i:03}": tensor.contiguous() for i, tensor in enumerate(tensors(reference.examples))}
    if reference.pixels is not None:
        inputs["raw000"] = reference.pixels.contiguous()
    with tempfile.TemporaryDirectory(prefix="supernet-parity-") as name:
        folder = Path(name)
        write_json(folder / "case.json", case)
        save_file(inputs, folder / "inputs.safetensors")
        command = [sys.executable, "-P", str(Path(parity.__file__).resolve()), str(folder)]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["?"])[-1]
            raise ExportError(f"an exported file does not run by itself: {reason}")
        latency = json.loads((folder / "times.json").read_text(encoding="utf-8"))
        return load_file(folder / "outputs.safetensors"), latency


def _compare_form(
    form: str, outputs: Mapping[str, Tensor], sizes: list[int], reference: Reference, tolerance: float
) -> dict[str, Any]:
    """Compares the outputs of one file with those of the network, by size of batch and on the whole split."""
    differences = []
    for size in [*sizes, "all"]:
        actual = _like(reference.outputs, outputs, f"{form}.{size}")
        length = rows(actual)  # on the whole split, a file with a fixed batch leaves out a last one that is not full
        expected = take_rows(reference.outputs, slice(length))
        differences.append(compare(f"{FILES[form]}, batch of {size}", actual, expected, tolerance))
    targets = take_rows(reference.targets, slice(length))
    value, network_value = reference.metric(actual, targets), reference.metric(expected, targets)
    if abs(value - network_value) > max(10 * tolerance * max(1.0, abs(network_value)), 1 / length):
        raise ExportError(
            f"{FILES[form]}: {reference.metric_name} {value:.6g}, that of the network is {network_value:.6g}"
        )
    return {"difference": max(differences), reference.metric_name: value, "examples": length}


def _like(structure: Any, outputs: Mapping[str, Tensor], prefix: str) -> Any:
    """The outputs PREFIX.0, PREFIX.1, ... in the structure of the network's."""
    parts = iter([outputs[f"{prefix}.{i}"] for i, _ in enumerate(tensors(structure))])
    return map_tensors(structure, lambda _: next(parts))


def compare(what: str, actual: Any, expected: Any, tolerance: float) -> float:
    """The largest difference of outputs, as a share of the largest output.

    Args:
        what: is compared, for the message.
        actual, expected: outputs of equal structure.
        tolerance: largest difference that is accepted.

    Raises:
        ExportError: shapes differ, or the difference is above the tolerance or NaN.
    """
    largest = 0.0
    for a, b in zip(tensors(actual), tensors(expected), strict=True):
        if a.shape != b.shape:
            raise ExportError(f"{what}: outputs of shape {list(a.shape)}, those of the network have {list(b.shape)}")
        scale = max(float(b.abs().max()), torch.finfo(torch.float32).tiny)
        difference = float((a.double() - b.double()).abs().max()) / scale
        if not difference <= tolerance:
            raise ExportError(
                f"{what}: outputs differ by {difference:.2g} of the largest, more than the tolerance of {tolerance:g}; "
                "nothing was exported"
            )
        largest = max(largest, difference)
    return largest
