"""The parts of a network, and which of them read which: what `supernet.draw.networks` draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from supernet.base.trees import call, tensors_in
from supernet.space.choices import Architecture, Space
from supernet.space.model import build, example_of
from supernet.space.network import without_data


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        name: path of the module.
        kind: name of its class.
        params: number of its parameters.
        shape: of the output for one example; empty if the output is not a tensor.
        sources: indices of the parts whose outputs it reads.
    """

    name: str
    kind: str
    params: int
    shape: tuple[int, ...]
    sources: tuple[int, ...]


def network_parts(space: Space, architecture: Architecture) -> list[Part]:
    """The parts of a stand-alone network in the order in which they run.

    Parts are the modules of the network; lists of modules and sequences of blocks are replaced by their members.
    """
    with without_data():
        network = build(space, architecture).eval()
        example = example_of(space, 2)
    parts: list[Part] = []
    outputs: list[tuple[torch.Tensor, int]] = []

    def note(name: str, module: nn.Module) -> None:
        def after(_module: nn.Module, inputs: Any, output: Any) -> None:
            # A part may pass on its input unchanged, so a tensor comes from the last part that put it out.
            latest = [[part for tensor, part in outputs if tensor is read][-1:] for read in tensors_in(inputs)]
            sources = sorted({part for parts in latest for part in parts})
            shape = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
            number = sum(p.numel() for p in module.parameters())
            parts.append(Part(name, type(module).__name__.lstrip("_"), number, shape, tuple(sources)))
            outputs.extend((tensor, len(parts) - 1) for tensor in tensors_in(output))

        module.register_forward_hook(after)

    for name, module in _parts(network):
        note(name, module)
    with torch.no_grad():
        call(network, example)
    return parts


def _parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    """The modules that are drawn, with their paths."""
    parts = []
    for name, child in module.named_children():
        parts += _parts(child, f"{prefix}{name}.") if _is_list(child) else [(f"{prefix}{name}", child)]
    return parts or [(prefix.rstrip(".") or "network", module)]


def _is_list(module: nn.Module) -> bool:
    """Whether a module is a list of modules, or a sequence of blocks: at least half of its members hold modules."""
    is_block = [bool([*child.children()]) for child in module.children()]
    is_sequence = isinstance(module, nn.Sequential) and 2 * sum(is_block) >= len(is_block) > 0
    return is_sequence or isinstance(module, (nn.ModuleList, nn.ModuleDict))
