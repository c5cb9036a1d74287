"""Runs exported files in a process in which `supernet` cannot be imported.

This file is a script: ``python -P parity.py FOLDER``. `FOLDER/case.json` says what to run and how, and
`FOLDER/inputs.safetensors` holds the examples. The outputs are written to `FOLDER/outputs.safetensors`, and the time
of one example on one thread to `FOLDER/times.json`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Run = Callable[[list[torch.Tensor]], Any]
"""Takes the tensors of some examples, in their order, and returns tensors, or a list, tuple or dict of them."""

_WHOLE = 250
"""Examples in a batch when the whole split is run."""


def from_python(case: dict[str, Any], folder: Path) -> Run:
    """The class with its weights, as a user loads it."""
    spec = importlib.util.spec_from_file_location("network", folder / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = getattr(module, case["class"])()
    network.load_state_dict(load_file(folder / "network.safetensors"))
    return _by_name(network.eval(), case)


def _from_torch(case: dict[str, Any], folder: Path) -> Run:
    """The exported program."""
    return _by_name(torch.export.load(folder / "network.pt2").module(), case)


def _from_onnx(case: dict[str, Any], folder: Path) -> Run:
    """The ONNX graph, on the CPU with one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "network.onnx"), options, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def run(tensors: list[torch.Tensor]) -> Any:
        arrays = [tensor.numpy() for tensor in tensors]
        return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]

    return run


def _by_name(network: Callable[..., Any], case: dict[str, Any]) -> Run:
    """Passes inputs by their names, if they have names."""
    names = case["names"]
    return lambda tensors: network(**dict(zip(names, tensors, strict=True))) if names else network(*tensors)


_RUNS: dict[str, Callable[[dict[str, Any], Path], Run]] = {
    "python": from_python,
    "torch": _from_torch,
    "onnx": _from_onnx,
}


def flat(output: Any) -> Iterator[torch.Tensor]:
    """The tensors of an output, in order."""
    if isinstance(output, torch.Tensor):
        yield output
    else:
        for part in output.values() if isinstance(output, dict) else output:
            yield from flat(part)


def main(folder: Path) -> None:
    """Runs everything that `case.json` asks for."""
    case = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    outputs: dict[str, torch.Tensor] = {}
    latency: dict[str, float] = {}
    examples = load_file(folder / "inputs.safetensors")
    with torch.inference_mode():
        for form in case["forms"]:
            run = _RUNS[form](case, Path(case["folder"]))
            kind = "raw" if form in case["raw"] else "input"
            tensors = [tensor for name, tensor in sorted(examples.items()) if name.startswith(kind)]
            total = len(tensors[0])
            for size in case["sizes"]:
                for number, output in enumerate(flat(run([t[:size] for t in tensors]))):
                    outputs[f"{form}.{size}.{number}"] = output.contiguous()
            step = case["batch"] or _WHOLE  # with a fixed size of batches, a last one that is not full is left out
            starts = range(0, total - step + 1 if case["batch"] else total, step)
            parts = [list(flat(run([t[i : i + step] for t in tensors]))) for i in starts]
            for number, chunks in enumerate(zip(*parts, strict=True)):
                outputs[f"{form}.all.{number}"] = torch.cat(chunks)
            one = [t[: case["batch"] or 1] for t in tensors]
            latency[form] = milliseconds(partial(run, one), case["seconds"])
    save_file(outputs, folder / "outputs.safetensors")
    (folder / "times.json").write_text(json.dumps(latency), encoding="utf-8")


def milliseconds(work: Callable[[], object], seconds: float) -> float:
    """Median time of a call, over at least three calls in this time."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return sorted(times)[len(times) // 2]


if __name__ == "__main__":
    first = json.loads((Path(sys.argv[1]) / "case.json").read_text(encoding="utf-8"))
    sys.path += first["path"]  # the folders of a user's modules
    if first["alone"]:
        sys.modules["supernet"] = None  # type: ignore[assignment]  # an export must not need it
    main(Path(sys.argv[1]))
