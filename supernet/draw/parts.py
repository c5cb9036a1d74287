"""The parts of a network and which of them reads which: what is drawn of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from supernet.base.trees import tensors_in
from supernet.space.choices import Architecture, Space
from supernet.space.model import build, example_of
from supernet.space.network import call, without_data


@dataclass(frozen=True)
class Part:
    """A part of a network.

    Attributes:
        name: of the module.
        kind: its class.
        params: its parameters.
        shape: of the output for one example; empty where it is no tensor.
        sources: numbers of the parts whose outputs it reads.
    """

    name: str
    kind: str
    params: int
    shape: tuple[int, ...]
    sources: tuple[int, ...]


def network_parts(space: Space, architecture: Architecture) -> list[Part]:
    """The parts of a stand-alone network in the order in which they run.

    Parts are the modules in the network, and those in its lists and in its sequences of blocks.
    """
    with without_data():
        network = build(space, architecture).eval()
        example = example_of(space, 2)
    parts: list[Part] = []
    made: list[tuple[torch.Tensor, int]] = []

    def note(name: str, module: nn.Module) -> None:
        def after(_module: nn.Module, inputs: Any, output: Any) -> None:
            # What a part passes on as it is comes from the part, too: the last one counts.
            latest = [[part for tensor, part in made if tensor is read][-1:] for read in tensors_in(inputs)]
            sources = sorted({part for parts in latest for part in parts})
            shape = tuple(output.shape[1:]) if isinstance(output, torch.Tensor) else ()
            number = sum(p.numel() for p in module.parameters())
            parts.append(Part(name, type(module).__name__.lstrip("_"), number, shape, tuple(sources)))
            made.extend((tensor, len(parts) - 1) for tensor in tensors_in(output))

        module.register_forward_hook(after)

    for name, module in _parts(network):
        note(name, module)
    with torch.no_grad():
        call(network, example)
    return parts


def _parts(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found = []
    for name, child in module.named_children():
        opened = _is_list(child)
        found += _parts(child, f"{prefix}{name}.") if opened else [(f"{prefix}{name}", child)]
    return found or [(prefix.rstrip(".") or "network", module)]


def _is_list(module: nn.Module) -> bool:
    """Whether a module is a list of modules, or a sequence of which half at least have modules in them (blocks)."""
    inside = [bool([*child.children()]) for child in module.children()]
    is_sequence = isinstance(module, nn.Sequential) and 2 * sum(inside) >= len(inside) > 0
    return is_sequence or isinstance(module, (nn.ModuleList, nn.ModuleDict))
