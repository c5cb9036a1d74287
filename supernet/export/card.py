"""The text around an exported network: the head of its module, the model card, `predict.py`, its drawing."""

from __future__ import annotations

import html
import platform
import re
import textwrap
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from supernet.base.files import write_text
from supernet.data.images import FORMATS
from supernet.draw import networks, svg
from supernet.draw.parts import network_parts
from supernet.draw.units import Unit
from supernet.export.reading import FILES
from supernet.export.writing.code import Written, import_of
from supernet.export.writing.expressions import WIDTH
from supernet.retrain.results import mean_and_deviation
from supernet.space.choices import Space

if TYPE_CHECKING:
    from jinja2 import Template

NOT_STATED = "not stated"
"""The licence if none is given."""


def module_text(written: Written, facts: dict[str, Any]) -> str:
    """The whole module of a network: what it is, how it is loaded, and its classes.

    Args:
        written: the network as code.
        facts: what `export.json` holds.
    """
    imports = ["import torch"] if "torch." in written.code else []
    imports += [f"from torch import {'Tensor, nn' if 'Tensor' in written.code else 'nn'}"]
    imports += ["from torch.nn import functional as F"] if "F." in written.code else []
    imports += [line for line, _ in map(import_of, written.imported)]
    return f'"""{_in_docstring(_head(written, facts))}\n"""\n\n' + "\n".join(imports) + f"\n\n\n{written.code}\n"


def _in_docstring(text: str) -> str:
    """A text that may hold names of users, such as a path, as it stands between three quotes."""
    printable = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    return printable.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _line(value: object) -> str:
    """Names of users, such as those of classes, on one line of Markdown: no HTML, no link, no cell of a table."""
    text = html.escape(" ".join(str(value).split()), quote=False)
    return re.sub(r"[|`\[\]\\]", lambda sign: f"&#{ord(sign.group())};", text)


def _head(written: Written, facts: dict[str, Any]) -> str:
    """The docstring of the module."""
    parameters = sum(
        t.numel() for name, t in written.tensors.items() if t.is_floating_point() and "running_" not in name
    )
    inputs = facts["inputs"]
    shape = inputs if isinstance(inputs, str) else ", ".join(map(str, inputs))
    paragraphs = [
        f"Costs: {parameters:,} parameters, {facts['cost']['macs']:,} multiply-adds for one example.",
        f"Input: {shape}, after a batch dimension.",
    ]
    if facts["mean"]:
        paragraphs.append(f"Pixels are divided by 255 first, then {_normalisation(facts)}.")
    paragraphs.append(f"Weights: {facts['weights']}; seed {facts['seed']}, data {facts['data']}.")
    if facts["folded"]:
        paragraphs.append("Batch norms are part of the convolutions before them: do not train this network further.")
    if facts["imports"]:
        paragraphs.append(f"It imports modules from files in {', '.join(facts['imports'])}: add that to the path.")
    title = f"`{written.name}`, found by supernet {facts['versions']['supernet']} in the space {facts['space']}."
    return "\n".join(
        [
            *textwrap.wrap(title, WIDTH - 3),
            "",
            "Architecture:",
            *_wrapped(facts["architecture"], indent="    "),
            *(line for text in paragraphs for line in ("", *_wrapped(text))),
            "",
            "    from safetensors.torch import load_file",
            "",
            f"    network = {written.name}()",
            '    network.load_state_dict(load_file("network.safetensors"))',
            "    network.eval()",
        ]
    )


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _normalisation(facts: dict[str, Any]) -> str:
    mean, std = (", ".join(f"{value:.6g}" for value in facts[name]) for name in ("mean", "std"))
    return f"normalised with mean {mean} and deviation {std}"


def write_card(
    place: Path,
    space: Space,
    facts: dict[str, Any],
    data: Mapping[str, Any],
    verdict: str | None,
    against: str | None = None,
) -> None:
    """Writes the model card, the drawing of the network and, for images, `predict.py` into an export.

    Args:
        place: the folder of the export.
        space: the space of the network.
        facts: what `export.json` holds; the names of the files are added to it.
        data: `examples` and `hashes` of the splits, by name.
        verdict: on the ranking of the run; None if it was not analysed.
        against: how the winner of the run does against the reference; None if it was not compared.
    """
    architecture = space.parse(facts["architecture"])
    drawings = {
        "network": networks.network(network_parts(space, architecture)),
        **networks.cells(dict(architecture.picks), {choice.name: choice.options for choice in space.choices}),
    }
    for name, drawing in drawings.items():
        write_text(place / f"{name}.svg", svg.by_itself(drawing))
    facts["files"] = [*facts["files"], "README.md", *(f"{name}.svg" for name in drawings)]
    if _classifies_images(facts) and (form := _runnable(facts["forms"])):
        write_text(place / "predict.py", predict_text(form, facts))
        facts["files"].append("predict.py")
    write_text(place / "README.md", _card(facts, list(drawings), _origin(facts, data, verdict), against))


def _card(
    facts: dict[str, Any], drawings: Sequence[str], origin: Sequence[tuple[str, str]], against: str | None
) -> str:
    """The model card, with the head that the Hugging Face Hub reads."""
    head = {"library_name": "pytorch", "tags": ["supernet", "neural-architecture-search"]}
    if _classifies_images(facts):
        head["pipeline_tag"] = "image-classification"
    if facts["licence"] != NOT_STATED:
        head["license"] = facts["licence"]
    return _template("card.md.j2").render(
        **facts,
        head=yaml.safe_dump(head, sort_keys=False).rstrip(),
        drawings=drawings,
        normalisation=_normalisation(facts) if facts["mean"] else "",
        results=_results(facts),
        origin=origin,
        against=against,
        reference=facts["finalist"].get("reference"),
    )


def _classifies_images(facts: dict[str, Any]) -> bool:
    return bool(facts["mean"] and facts["classes"])


def _results(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was measured, as rows of a table."""
    metric, finalist = Unit.of(facts["metric"]), facts["finalist"]
    note = " (trained on these examples too)" if facts["splits"] != "train" else ""
    rows = [(f"validation {metric.name}, these weights{note}", _mean([facts["validation"]], metric))]
    if (text := run_text(facts)) is not None:
        rows.append((f"validation {metric.name}, these weights in the run", text))
    if finalist:
        if "reference" in finalist:
            rows.append(("reference of the run", finalist["reference"]))
        rows.append(("finalist", f"rank {finalist['rank']} of the run" if "rank" in finalist else "not ranked"))
        if finalist["score"] is not None:
            rows.append(("one-shot score", f"{finalist['score']:.4g}"))
        rows += [
            (f"{split} {metric.name}, from scratch", _mean(finalist[split], metric))
            for split in ("validation", "test")
            if finalist.get(split)
        ]
    rows.append(("parameters", f"{facts['cost']['params']:,}"))
    rows.append(("multiply-adds for one example", f"{facts['cost']['macs']:,}"))
    for form, time in facts["latency_ms"].items():
        rows.append((f"latency of one example, {FILES[form]}, one thread", f"{time:.3g} ms on {platform.machine()}"))
    if facts["folded"]:
        number, before, after = (facts["folded"][name] for name in ("batch_norms", "before_ms", "after_ms"))
        rows.append((f"{number} batch norms folded", f"{before:.3g} ms before, {after:.3g} ms after"))
    for form, parity in facts["parity"]["forms"].items():
        difference = f"largest difference {parity['difference']:.1e} of the largest output"
        rows.append((f"{FILES[form]} against the network", f"{difference}, {parity['examples']:,} examples"))
    return rows


def run_text(facts: Mapping[str, Any]) -> str | None:
    """The value that the run gave the exported weights, and why it is another one here; None if both are shown alike.

    An export is evaluated in single precision on the CPU, and a run in the precision that `export.json` names.
    """
    metric, values, precision = Unit.of(facts["metric"]), facts["finalist"].get("validation"), facts["precision"]
    if precision is None or not values or metric.number(values[0]) == metric.number(facts["validation"]):
        return None
    reason = "with other kernels" if precision == "32-true" else f"in half precision ({precision})"
    return f"{metric.text(values[0])}, evaluated {reason}; this export is evaluated in single precision on the CPU"


def _mean(values: list[float], metric: Unit) -> str:
    """The mean and, of several trainings, the deviation."""
    mean, deviation = mean_and_deviation(values)
    if len(values) == 1:
        return f"{metric.text(mean)} (one training)"
    return f"{metric.text(mean)} ± {metric.number(deviation)} over {len(values)} trainings"


def _origin(facts: dict[str, Any], data: Mapping[str, Any], verdict: str | None) -> list[tuple[str, str]]:
    """Data, weights and versions, as rows of a table."""
    return [
        ("data", facts["data"]),
        ("examples", ", ".join(f"{name} {number:,}" for name, number in data["examples"].items())),
        *((f"hash of {name}", digest) for name, digest in data["hashes"].items()),
        ("weights", facts["weights"]),
        ("seed", str(facts["seed"])),
        ("trust in the ranking", verdict or "not known: `supernet analyze` was not run"),
        ("licence", facts["licence"]),
        ("versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
        ("exported", facts["written"]),
    ]


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
"""For each form what `predict.py` imports and how it runs the network; the form that needs least is first."""


def _runnable(forms: Sequence[str]) -> str:
    """The form that `predict.py` runs; empty if there is none, as with weights alone."""
    return next((form for form in RUN if form in forms), "")


def predict_text(form: str, facts: Mapping[str, Any]) -> str:
    """The script that reads an image as the training does, and prints its class.

    Args:
        form: the file that it runs, one of `RUN`.
        facts: what `export.json` holds; the script reads its other numbers from there.
    """
    imports, run = RUN[form]
    pixels = "pixels" if form == "onnx" and facts["preprocess"] else "normalised(pixels)"
    text = _template("predict.py.j2").render(imports=imports, run=run % pixels, formats=_python_list(FORMATS))
    return text.replace("CLASS", facts.get("class", "")) + "\n"


def _python_list(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _template(name: str) -> Template:
    """A template of this folder."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(trim_blocks=False, undefined=StrictUndefined)
    environment.filters["line"] = _line
    return environment.from_string(files("supernet.export").joinpath(name).read_text(encoding="utf-8"))
