"""A one-shot model that begins with the weights of a trained network, its channels in the order of their importance.

References:
    Cai et al., "Once-for-All", ICLR 2020: channels are sorted by the L1 norm of weights before widths become elastic.
    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023: the importance of a channel is summed up over
    all the weights that are tied to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.base.randomness import nothing_drawn
from supernet.base.trees import map_tensors, tensors_in
from supernet.space.layers import Elastic, GhostByGhost, OneShot
from supernet.space.model import example_of
from supernet.space.values import DecidedInt, Factor, lengths_of

_NESTED = ("state_dict", "model", "module", "model_state_dict")
"""Names under which programs for training keep the weights in a file of more."""

_EXAMPLES = 4
"""Examples on which it is seen that sorted channels change nothing."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names: safetensors, or a state dict as `torch.save` writes it.

    No code in the file is run: what is more than tensors and plain data is refused.

    Raises:
        ValueError: the file is not there, is damaged, or holds no tensors by name.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there: expected a file of weights, .safetensors or a state dict of torch.save")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file raises errors of any type
        raise ValueError(
            f"{path} holds no weights that can be read safely ({' '.join(str(error).split())[:200]})"
        ) from None
    inner = next(
        (state[name] for name in _NESTED if isinstance(state, dict) and isinstance(state.get(name), dict)), state
    )
    tensors = {k: v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, dict) else {}
    if not tensors:
        raise ValueError(f"{path} holds no tensors by name: save network.state_dict()")
    return tensors


def _plain_tensors(model: OneShot) -> dict[str, Tensor]:
    """The parameters and buffers of a one-shot model by the names that they have in the plain network."""

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, Tensor]]:
        while isinstance(module, (Elastic, GhostByGhost)):
            module = module.of
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{path}{name}", tensor
        for name, child in module.named_children():
            yield from walk(child, f"{path}{name}.")

    return dict(walk(model.network, ""))


@torch.no_grad()
def start_from(model: OneShot, tensors: Mapping[str, Tensor]) -> None:
    """Gives a one-shot model the weights of the plain network that it was made of, in place.

    Running statistics of batch norm are left out: the one-shot model has none.

    Args:
        model: of a network that was made elastic, or whose choices keep the names of the plain one.
        tensors: a state dict of the plain network.

    Raises:
        ValueError: a parameter is missing or has another shape, or a tensor is not one of the network.
    """
    own = _plain_tensors(model)
    buffers = {name for name, tensor in own.items() if not isinstance(tensor, nn.Parameter)}
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    others = [n for n in tensors if n not in own and not n.endswith(statistics)]
    missing = [n for n in own if n not in tensors and n not in buffers]
    if missing or others:
        what = f"no {missing[0]}" if missing else f"{others[0]}, which the network lacks"
        raise ValueError(f"the weights are of another network: they have {what}")
    for name, tensor in own.items():
        if name in tensors:
            if tensors[name].shape != tensor.shape:
                shapes = list(tensors[name].shape), list(tensor.shape)
                raise ValueError(f"the weights are of another network: {name} is {shapes[0]}, expected {shapes[1]}")
            tensor.copy_(tensors[name])


# ---- the order of channels ----


@dataclass(frozen=True, slots=True)
class _Site:
    """Where a parameter has the channels that a choice keeps the first of.

    Attributes:
        parameter: it.
        axis: one of its axes.
        start: the first of them on this axis.
        times: features of each.
        counts: whether their importance is read here: in weights, not in scales and offsets.
    """

    parameter: nn.Parameter
    axis: int
    start: int
    times: int
    counts: bool

    def part(self, channels: int) -> Tensor:
        """The channels: a view [channels, times, ...]."""
        part = self.parameter.data.movedim(self.axis, 0)[self.start : self.start + channels * self.times]
        channelwise: Tensor = part.unflatten(0, (channels, self.times))
        return channelwise


@torch.no_grad()
def sort_channels(model: OneShot) -> int:
    """Puts the important channels of each width first, in place; the network with everything on stays the same.

    The importance of a channel is the sum over all weights that make or read it of the L1 norm of its slice over the
    mean of these norms (ours: the rule of Once-for-All, over the groups of DepGraph).

    Args:
        model: in which equal names of widths mean the same channels, as in networks that were made elastic.

    Returns:
        The number of choices whose channels were sorted.

    Raises:
        ValueError: the outputs with everything on would change.
    """
    sites = _sites(model)
    before = _outputs(model)
    for (_, channels), places in sites.items():
        importance = torch.zeros(channels, dtype=torch.float64)
        for site in places:
            if site.counts:
                norms = site.part(channels).double().abs().flatten(1).sum(1).cpu()
                importance += norms / norms.mean().clamp(min=1e-12)
        order = importance.argsort(descending=True, stable=True)
        for site in places:
            part = site.part(channels)
            part.copy_(part[order.to(part.device)])
    for one, other in zip(before, _outputs(model), strict=True):
        if (one - other).abs().max() > 1e-3 * one.abs().max().clamp(min=1e-6):
            raise ValueError(
                "the outputs change when channels are sorted: a width is used for channels of several kinds, so start "
                "from weights without sorting them"
            )
    return len(sites)


def _outputs(model: OneShot) -> list[Tensor]:
    """Outputs of the model with everything on, in double precision where they are numbers."""
    generator = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device

    def noise(tensor: Tensor) -> Tensor:
        drawn: Tensor = torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        return drawn.to(device)

    training = model.training
    model.eval()
    with nothing_drawn(device):
        outputs = model(
            map_tensors(example_of(model.space, _EXAMPLES), noise), model.space.live([model.space.everything_on()])
        )
    model.train(training)
    return [tensor.double() for tensor in tensors_in(outputs) if tensor.is_floating_point()]


def _sites(model: OneShot) -> dict[tuple[str, int], list[_Site]]:
    """The places of the channels of each choice of a width, by its name and its largest number."""
    sites: dict[tuple[str, int], list[_Site]] = {}
    without: set[str] = set()
    seen: set[int] = set()
    for module in model.network.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            for axis, length in enumerate(lengths_of(module, name)):
                if not isinstance(length, DecidedInt):
                    continue
                is_kernel = isinstance(module, nn.modules.conv._ConvNd) and axis > 1
                start = 0
                for span in length.parts:
                    simple = len(span.factors) == 1 and isinstance(span.factors[0], Factor) and span.over == 1
                    if is_kernel or not simple or not isinstance(tensor, nn.Parameter):
                        without.update(choice.name for factor in span.factors for choice in factor.choices)
                    elif id(tensor) not in seen:
                        (factor,) = span.factors
                        key = factor.choices[0].name, factor.largest
                        site = _Site(tensor, axis, start, span.times, tensor.ndim > 1)
                        sites.setdefault(key, []).append(site)
                    start += span.largest
            seen.add(id(tensor))
    return {key: places for key, places in sites.items() if key[0] not in without}
