"""What an architecture costs, by sums: measured once for each option, then added up for any number of candidates.

One forward pass of the one-shot model with everything on gives the multiply-adds of each option; its parameters are
counted where they are. After that the cost of an architecture is a sum over what it picks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from supernet.layers import GhostBatchNorm, LivePaths, live_paths, set_live_paths
from supernet.model import OneShot, Within, build, parameters_within, replace_modules, without_data
from supernet.space import Architecture, Space


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs.

    Attributes:
        params: all trainable numbers.
        weights: the same without scale and offset of batch norm: what the paper counts as parameters.
        macs: multiply-adds of convolutions and matrix products for one example; a FLOP count is twice that.
    """

    params: int
    weights: int
    macs: int


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of the parts of a network, each with the options that must be live for it to take part.

    Attributes:
        space: the space.
        parts: K by 3: params, weights and macs, int64.
        needs: K by P, bool: the options that a part needs.
    """

    space: Space
    parts: NDArray[np.int64]
    needs: NDArray[np.bool_]

    def costs(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        """Params, weights and macs of each architecture: int64 [N, 3]."""
        live = self.space.live(architectures).numpy()
        missing = (~live).astype(np.float32) @ self.needs.T.astype(np.float32)
        sums: NDArray[np.int64] = np.einsum("nk,kc->nc", missing == 0, self.parts)  # exact: all in int64
        return sums

    def cost(self, architecture: Architecture) -> Cost:
        """Cost of one architecture."""
        return Cost(*map(int, self.costs([architecture])[0]))


def cost_table(space: Space) -> CostTable:
    """Measures the parts of a space's network once, on one example, whatever the weights."""
    with without_data():
        model = build(space)
    assert isinstance(model, OneShot)
    parts: dict[Within, list[int]] = {}
    norms = _norm_parameters(model)
    for within, parameters in parameters_within(model.network).items():
        params = sum(p.numel() for _, p in parameters)
        scale = sum(p.numel() for _, p in parameters if id(p) in norms)
        parts[within] = [params, params - scale, 0]
    # Batch norm has no multiply-adds that are counted.
    network = replace_modules(model.network, lambda m: nn.Identity() if isinstance(m, GhostBatchNorm) else m)
    everything = {c.name: frozenset(range(len(c.options))) for c in space.choices}
    counter = _MacsByOption(LivePaths((everything,), (0,)))
    # On the CPU with empty weights: half a second faster for the paper's space than on the meta device.
    network.to_empty(device="cpu")
    example = torch.zeros(1, *space.input_shape)
    with torch.no_grad(), counter, set_live_paths(counter.start):
        network(example)
    for within, flops in counter.flops.items():
        parts.setdefault(within, [0, 0, 0])[2] += flops // 2 // len(example)
    needs = np.zeros((len(parts), len(space.columns)), dtype=np.bool_)
    for row, within in enumerate(parts):
        needs[row, [space.columns[pair] for pair in within]] = True
    return CostTable(space, np.array(list(parts.values()), dtype=np.int64), needs)


def measure(network: nn.Module, input_shape: Sequence[int]) -> Cost:
    """Cost of a stand-alone network, counted on the network itself.

    Args:
        network: any module without free choices.
        input_shape: of one example, without the batch dimension.
    """
    norms = _norm_parameters(network)
    params = sum(p.numel() for p in network.parameters())
    scale = sum(p.numel() for p in network.parameters() if id(p) in norms)
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(torch.zeros(1, *input_shape, device=device))
    network.train(training)
    return Cost(params, params - scale, counter.get_total_flops() // 2)


def _norm_parameters(network: nn.Module) -> set[int]:
    """Identities of scale and offset parameters: those of modules that normalise, by their name."""
    return {id(p) for m in network.modules() if "Norm" in type(m).__name__ for p in m.parameters(recurse=False)}


class _MacsByOption(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the FLOPs of every operation under the options that enclose the code that called it."""

    def __init__(self, start: LivePaths) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.start = start
        self.flops: Counter[Within] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.flops[live_paths().within] += count(*args, **(kwargs or {}), out_val=output)
        return output
