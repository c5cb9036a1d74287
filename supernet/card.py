"""What is written around an exported network: the head of its module, the model card, `predict.py`, its drawing."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from supernet.expressions import WIDTH
from supernet.writing import Written


def module_text(written: Written, facts: dict[str, Any]) -> str:
    """The whole module of a network: what it is, how it is loaded, and its classes."""
    used = {"nn"} | {name for name in ("Tensor",) if f"{name}" in written.code}
    imports = ["import torch"] if "torch." in written.code else []
    imports += [f"from torch import {', '.join(sorted(used))}"]
    imports += ["from torch.nn import functional as F"] if "F." in written.code else []
    head = "\n".join(_head(written, facts))
    return f'"""{head}\n"""\n\n' + "\n".join(imports) + f"\n\n\n{written.code}\n"


def _head(written: Written, facts: dict[str, Any]) -> list[str]:
    parameters = sum(t.numel() for name, t in written.tensors.items() if t.is_floating_point() and "running_" not in name)
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
    lines += paragraph(f"Input: {inputs if isinstance(inputs, str) else ', '.join(map(str, inputs))}, after a batch dimension.")
    if facts["mean"]:
        mean, std = (", ".join(f"{value:.6g}" for value in facts[name]) for name in ("mean", "std"))
        lines += paragraph(f"Pixels are divided by 255 first, then normalised with mean {mean} and deviation {std}.")
    lines += paragraph(f"Weights: {facts['weights']}; seed {facts['seed']}, data {facts['data']}.")
    if facts["folded"]:
        lines += paragraph("Batch norms are part of the convolutions before them: this network is not to be trained.")
    lines += ["", "    from safetensors.torch import load_file", "", f"    network = {written.name}()"]
    lines += ['    network.load_state_dict(load_file("network.safetensors"))', "    network.eval()"]
    return lines


def write_card(place: Path, run: Path, facts: dict[str, Any]) -> None:
    """TODO"""
