"""What is written around an exported network: the head of its module, the model card, `predict.py`, its drawing."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from supernet.base.files import read_json, write_text
from supernet.draw import networks, svg
from supernet.draw.parts import network_parts
from supernet.export.reading import FILES
from supernet.export.writing.code import Written, import_of
from supernet.export.writing.expressions import WIDTH
from supernet.retrain.results import mean_and_deviation
from supernet.space.choices import Space

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Names of what batch norm keeps besides its parameters."""

NOT_STATED = "not stated"
"""The licence where none is given."""


def module_text(written: Written, facts: dict[str, Any]) -> str:
    """The whole module of a network: what it is, how it is loaded, and its classes."""
    used = {"nn"} | {name for name in ("Tensor",) if f"{name}" in written.code}
    imports = ["import torch"] if "torch." in written.code else []
    imports += [f"from torch import {', '.join(sorted(used))}"]
    imports += ["from torch.nn import functional as F"] if "F." in written.code else []
    imports += [line for line, _ in map(import_of, written.imported)]
    head = "\n".join(_head(written, facts))
    return f'"""{head}\n"""\n\n' + "\n".join(imports) + f"\n\n\n{written.code}\n"


def _head(written: Written, facts: dict[str, Any]) -> list[str]:
    parameters = sum(
        t.numel() for name, t in written.tensors.items() if t.is_floating_point() and "running_" not in name
    )
    cost = facts["cost"]

    def paragraph(text: str) -> list[str]:
        return ["", *textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False)]

    title = f"`{written.name}`, found by supernet {facts['versions']['supernet']} in the space {facts['space']}."
    lines = textwrap.wrap(title, WIDTH - 3)
    lines += ["", "Architecture:"]
    lines += textwrap.wrap(
        facts["architecture"], WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    inputs = facts["inputs"]
    lines += paragraph(f"Costs: {parameters:,} parameters, {cost['macs']:,} multiply-adds for one example.")
    lines += paragraph(
        f"Input: {inputs if isinstance(inputs, str) else ', '.join(map(str, inputs))}, after a batch dimension."
    )
    if facts["mean"]:
        mean, std = (", ".join(f"{value:.6g}" for value in facts[name]) for name in ("mean", "std"))
        lines += paragraph(f"Pixels are divided by 255 first, then normalised with mean {mean} and deviation {std}.")
    lines += paragraph(f"Weights: {facts['weights']}; seed {facts['seed']}, data {facts['data']}.")
    if facts["folded"]:
        lines += paragraph("Batch norms are part of the convolutions before them: this network is not to be trained.")
    if facts["imports"]:
        lines += paragraph(
            f"It imports modules from files in {', '.join(facts['imports'])}: that has to be on the path."
        )
    lines += ["", "    from safetensors.torch import load_file", "", f"    network = {written.name}()"]
    lines += ['    network.load_state_dict(load_file("network.safetensors"))', "    network.eval()"]
    return lines


def write_card(place: Path, run: Path, space: Space, facts: dict[str, Any]) -> None:
    """Writes the model card, the drawing of the network and, for images, `predict.py` into an export.

    Args:
        place: the folder of the export.
        run: the run folder.
        space: where the network is from.
        facts: what `export.json` holds; the names of the files are added to it.
    """
    architecture = space.parse(facts["architecture"])
    every = {choice.name: choice.options for choice in space.choices}
    drawings = {
        "network": networks.network(network_parts(space, architecture)),
        **networks.cells(dict(architecture.picks), every),
    }
    for name, drawing in drawings.items():
        write_text(place / f"{name}.svg", svg.by_itself(drawing))
    facts["files"] = [*facts["files"], "README.md", *(f"{name}.svg" for name in drawings)]
    if facts["mean"] and facts["classes"] and (form := _runnable(facts["forms"])):
        write_text(place / "predict.py", _predict(form, facts))
        facts["files"].append("predict.py")
    write_text(place / "README.md", "\n".join(_card(run, facts, list(drawings))))


def _card(run: Path, facts: dict[str, Any], drawings: Sequence[str]) -> list[str]:
    """The model card, with the head that the Hugging Face Hub reads."""
    known = read_json(run / "data.json", ("examples", "hashes"))
    metric, row, cost = facts["metric"], facts["finalist"], facts["cost"]
    licence = facts["licence"]
    head = {"library_name": "pytorch", "tags": ["supernet", "neural-architecture-search"]}
    if facts["mean"] and facts["classes"]:
        head["pipeline_tag"] = "image-classification"
    if licence != NOT_STATED:
        head["license"] = licence
    text = ["---", yaml.safe_dump(head, sort_keys=False).rstrip(), "---", f"# {facts['space']} {facts['id']}", ""]
    text += [f"A network that supernet {facts['versions']['supernet']} found in its space `{facts['space']}`.", ""]
    text += [
        *(f"![{name}]({name}.svg)" for name in drawings),
        "",
        "```",
        facts["architecture"],
        "```",
        "",
        "## Use",
        "",
    ]
    if {"python", "safetensors"} <= set(facts["forms"]):
        text += [
            "```python", "from safetensors.torch import load_file", f"from network import {facts['class']}", "",
            f"network = {facts['class']}()", 'network.load_state_dict(load_file("network.safetensors"))',
            "network.eval()", "```", "",
        ]  # fmt: skip
    if "predict.py" in facts["files"]:
        text += ["`python predict.py image.png` prints the class of an image.", ""]
    text += [f"Input: `{facts['inputs']}` after a batch dimension{_normalisation(facts)}."]
    if facts["preprocess"]:
        text += ["`network.onnx` takes the pixels as they are, uint8 from 0 to 255."]
    if facts["classes"]:
        text += ["", f"Classes: {', '.join(facts['classes'])}."]
    text += ["", "## Results", "", "| | |", "|---|---|"]
    seen = " (trained on these examples too)" if facts["splits"] != "train" else ""
    rows = [(f"validation {metric}, these weights{seen}", _figure([facts["validation"]], metric))]
    if row:
        ranked = f"rank {row['rank']} of the run" if "rank" in row else "no finalist by rank"
        rows.append(("finalist", ranked))
        rows.append(("one-shot score", f"{row['score']:.4g}"))
        rows += [(f"{n} {metric}, from scratch", _figure(row[n], metric)) for n in ("validation", "test") if row.get(n)]
    rows += [("parameters", f"{cost['params']:,}"), ("multiply-adds for one example", f"{cost['macs']:,}")]
    for form, time in facts["latency_ms"].items():
        rows.append((f"latency of one example, {FILES[form]}, one thread", f"{time:.3g} ms on {platform.machine()}"))
    if facts["folded"]:
        before, after = facts["folded"]["before_ms"], facts["folded"]["after_ms"]
        rows.append(
            (f"{facts['folded']['batch_norms']} batch norms folded", f"{before:.3g} ms before, {after:.3g} ms after")
        )
    for form, found in facts["parity"]["forms"].items():
        what = f"{FILES[form]} against the network"
        rows.append(
            (
                what,
                f"largest difference {found['difference']:.1e} of the largest output, {found['examples']:,} examples",
            )
        )
    text += [f"| {name} | {value} |" for name, value in rows]
    text += ["", "## Where it comes from", "", "| | |", "|---|---|"]
    sizes = ", ".join(f"{name} {number:,}" for name, number in known["examples"].items())
    rows = [("data", facts["data"]), ("examples", sizes)]
    rows += [(f"hash of {name}", digest) for name, digest in known["hashes"].items()]
    rows += [("weights", facts["weights"]), ("seed", str(facts["seed"]))]
    rows += [("trust in the ranking", _verdict(run)), ("licence", licence)]
    rows += [("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items()))]
    rows += [("exported", facts["written"])]
    text += [f"| {name} | {value} |" for name, value in rows]
    return [*text, ""]


def _verdict(run: Path) -> str:
    path = run / "analysis.json"
    found = read_json(path).get("trust") if path.exists() else None
    return found["verdict"] if found else "not known: `supernet analyze` was not run"


def _figure(values: list[float], metric: str) -> str:
    """Mean and, of several trainings, the deviation."""
    mean, deviation = mean_and_deviation(values)
    scale, unit = (100, "%") if metric == "accuracy" else (1, "")
    spread = f" ± {scale * deviation:.2f} over {len(values)} trainings" if len(values) > 1 else " (one training)"
    return f"{scale * mean:.4g}{unit}{spread}"


def _normalisation(facts: dict[str, Any]) -> str:
    if not facts["mean"]:
        return ""
    mean, std = (", ".join(f"{value:.6g}" for value in facts[name]) for name in ("mean", "std"))
    return f": pixels divided by 255, then normalised with mean {mean} and deviation {std}"


PREDICT = '''"""Prints the class of an image: python predict.py image.png"""

import json
import sys
from pathlib import Path

import numpy as np
{imports}
from PIL import Image

HERE = Path(__file__).parent
FACTS = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
CHANNELS, HEIGHT, WIDTH = (int(size) for size in FACTS["inputs"].split()[1:])


def read(path: str) -> np.ndarray:
    """The pixels of a file as uint8 [1, C, H, W]: resized, and cut to its middle."""
    image = Image.open(path).convert("L" if CHANNELS == 1 else "RGB")
    scale = max(WIDTH / image.width, HEIGHT / image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    image = image.resize((max(WIDTH, width), max(HEIGHT, height)), Image.Resampling.BILINEAR)
    left, top = (image.width - WIDTH) // 2, (image.height - HEIGHT) // 2
    pixels = np.asarray(image.crop((left, top, left + WIDTH, top + HEIGHT)))
    return pixels.reshape(1, HEIGHT, WIDTH, CHANNELS).transpose(0, 3, 1, 2)


def normalised(pixels: np.ndarray) -> np.ndarray:
    """The pixels as the network expects them."""
    mean, std = (np.array(FACTS[name]).reshape(1, -1, 1, 1) for name in ("mean", "std"))
    return ((pixels / 255 - mean) / std).astype(np.float32)


def outputs(pixels: np.ndarray) -> np.ndarray:
    """What the network says of each class."""
{run}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python predict.py image.png")
    print(FACTS["classes"][int(outputs(read(sys.argv[1])).argmax())])
'''

RUN = {
    "onnx": (
        "import onnxruntime",
        """    session = onnxruntime.InferenceSession(str(HERE / "network.onnx"))
    name = session.get_inputs()[0].name
    return session.run(None, {name: %s})[0]""",
    ),
    "python": (
        "import torch\nfrom network import CLASS\nfrom safetensors.torch import load_file",
        """    network = CLASS()
    network.load_state_dict(load_file(HERE / "network.safetensors"))
    with torch.inference_mode():
        return network.eval()(torch.from_numpy(%s)).numpy()""",
    ),
    "torch": (
        "import torch",
        """    network = torch.export.load(HERE / "network.pt2").module()
    with torch.inference_mode():
        return network(torch.from_numpy(%s)).numpy()""",
    ),
}
"""For each form what `predict.py` imports, and how it runs the network, in the order of what needs least."""


def _runnable(forms: Sequence[str]) -> str:
    """The form that `predict.py` runs; empty where there is none, as with weights alone."""
    there = (form for form in RUN if form in forms and (form != "python" or "safetensors" in forms))
    return next(there, "")


def _predict(form: str, facts: dict[str, Any]) -> str:
    imports, run = RUN[form]
    pixels = "pixels" if form == "onnx" and facts["preprocess"] else "normalised(pixels)"
    text = PREDICT.replace("{imports}", imports).replace("{run}", run % pixels)
    return text.replace("CLASS", facts.get("class", ""))
