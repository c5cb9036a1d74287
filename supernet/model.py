"""One builder, two uses: `build(space)` is the one-shot model, `build(space, architecture)` a stand-alone network.

Both begin as the same network with every option in it. The one-shot model keeps all of them and is told with each
forward pass what is live; the stand-alone network keeps what its architecture picks and has no choice left.

References:
    Bender et al., ICML 2018, section 3.2.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supernet.layers import Choose, GhostBatchNorm, LivePaths, set_live_paths
from supernet.space import Architecture, Choice, Space

Within = tuple[tuple[str, str], ...]
"""The (choice, option) pairs that enclose a place in the network, outermost first."""

_GLOBAL_GENERATOR = threading.Lock()
"""Held while new weights are drawn: torch has one global generator for all threads."""


class OneShot(nn.Module):
    """The over-parameterised network that holds every option of a space.

    Its batch norms use the statistics of each ghost batch, in training and in evaluation mode alike, so that scoring
    leaves no trace. There is no default for what is live.

    Args:
        space: the space whose columns `live_GP` has.
        network: the network with every option; it is taken over, its batch norms replaced.

    Raises:
        ValueError: the network keeps running statistics in a module other than batch norm; they would mix the
            statistics of all the architectures that passed through.
    """

    def __init__(self, space: Space, network: nn.Module) -> None:
        super().__init__()
        self.space = space
        self.network = replace_modules(
            network, lambda m: GhostBatchNorm(m) if isinstance(m, nn.modules.batchnorm._BatchNorm) else m
        )
        for name, module in self.network.named_modules():
            if getattr(module, "running_mean", None) is not None:
                raise ValueError(
                    f"{name} ({type(module).__name__}) keeps running statistics, which mean nothing while choices are "
                    "free: set track_running_stats=False"
                )

    def forward(self, x: Tensor, live_GP: Tensor) -> Tensor:
        """Outputs of the live paths.

        Args:
            x: examples [G*b, ...]; the first b are ghost batch 0, and so on.
            live_GP: bool [G, P], on the CPU; which options take part in each ghost batch.

        Returns:
            What the network returns, for instance logits [G*b, classes].

        Raises:
            TypeError: `live_GP` is not a boolean tensor.
            ValueError: its shape does not fit the space, or the examples cannot be divided into G ghost batches.
        """
        if live_GP.dtype is not torch.bool:
            raise TypeError(f"live_GP: expected torch.bool, got {live_GP.dtype}")
        options = len(self.space.columns)
        if live_GP.ndim != 2 or live_GP.shape[1] != options or len(live_GP) == 0:
            raise ValueError(f"live_GP: expected shape [G, {options}], got {list(live_GP.shape)}")
        if len(x) == 0 or len(x) % len(live_GP):
            raise ValueError(f"{len(x)} examples cannot be divided into {len(live_GP)} ghost batches of equal size")
        picks: list[dict[str, frozenset[int]]] = []
        for row in live_GP.tolist():
            picks.append({})
            start = 0
            for choice in self.space.choices:
                end = start + len(choice.options)
                picks[-1][choice.name] = frozenset(i for i, on in enumerate(row[start:end]) if on)
                start = end
        with set_live_paths(LivePaths(tuple(picks), tuple(range(len(live_GP))))):
            output: Tensor = self.network(x)
        return output


def build(space: Space, architecture: Architecture | None = None, *, seed: int | None = None) -> nn.Module:
    """The one-shot model of a space, or the stand-alone network of one of its architectures, with new weights.

    Args:
        space: the space.
        architecture: what to keep; everything stays where it is None.
        seed: of the weights; the global generator is used for them and restored afterwards. None draws from the
            global generator as it is, as torch does.

    Returns:
        A `OneShot`, called as ``model(x, live_GP)``, or an ordinary module, called as ``network(x)``.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    if architecture is not None:
        space.live([architecture])  # refuses what is not of this space before anything is built
    with _GLOBAL_GENERATOR, torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        network = space.network()
    return OneShot(space, network) if architecture is None else _keep(network, architecture)


@contextmanager
def without_data() -> Iterator[None]:
    """Inside the ``with`` block modules are made on the `meta` device: shapes, but neither memory nor initial values.

    Initial values are skipped altogether, since torch computes them slowly even where there is no data.
    """
    with torch.device("meta"), _NoInitialValues():
        yield


class _NoInitialValues(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        skipped = func in (Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_)
        return args[0] if skipped else func(*args, **(kwargs or {}))


def extract(model: OneShot, architecture: Architecture) -> nn.Module:
    """The stand-alone network of an architecture with weights copied from the one-shot model.

    Its running statistics are not estimated yet: it agrees with the one-shot model in training mode, where both use
    the statistics of the batch, and is of no use in evaluation mode before some training batches passed through.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    model.space.live([architecture])
    network = copy.deepcopy(_keep_view(model.network, architecture))
    network = replace_modules(network, lambda m: m.standalone() if isinstance(m, GhostBatchNorm) else m)
    like = next(model.parameters())
    return network.to(like.device, like.dtype)


def choices_of(network: nn.Module) -> tuple[Choice, ...]:
    """The choices in a network, in the order of its modules, nested ones marked with what they are nested in.

    A decision shared by several places counts once; it is nested only where all its places are nested alike.

    Raises:
        ValueError: two places share a name but not their options.
    """
    found: dict[str, Choice] = {}
    for module, within in _walk(network):
        if not isinstance(module, Choose):
            continue
        here = Choice(
            module.choice.name, module.choice.options, module.choice.max_picks, within[-1] if within else None
        )
        before = found.setdefault(here.name, here)
        if (before.options, before.max_picks) != (here.options, here.max_picks):
            raise ValueError(f"choice {here.name!r} occurs with different options: {before.options}, {here.options}")
        if before.within != here.within:
            found[here.name] = Choice(here.name, here.options, here.max_picks)
    return tuple(found.values())


def parameters_within(network: nn.Module) -> dict[Within, list[tuple[str, nn.Parameter]]]:
    """The parameters of a network with choices, grouped by the options that have to be live for them to take part.

    A parameter that is used in several places is listed under what they have in common.
    """
    places: dict[int, tuple[str, nn.Parameter, Within]] = {}
    names = {id(module): name for name, module in network.named_modules()}
    for module, within in _walk(network):
        prefix = names[id(module)]
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in places:
                before = places[id(parameter)]
                common = tuple(pair for pair in before[2] if pair in within)
                places[id(parameter)] = (*before[:2], common)
            else:
                places[id(parameter)] = (f"{prefix}.{name}" if prefix else name, parameter, within)
    groups: dict[Within, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter, within in places.values():
        groups.setdefault(within, []).append((name, parameter))
    return groups


def _walk(module: nn.Module, within: Within = ()) -> Iterator[tuple[nn.Module, Within]]:
    yield module, within
    if isinstance(module, Choose):
        for name, option in zip(module.choice.options, module.options, strict=True):
            yield from _walk(option, (*within, (module.choice.name, name)))
    else:
        for child in module.children():
            yield from _walk(child, within)


def replace_modules(module: nn.Module, new: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Replaces modules by ``new(module)`` in place, a module before its children."""
    module = new(module)
    for name, child in list(module.named_children()):
        replacement = replace_modules(child, new)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def _keep(network: nn.Module, architecture: Architecture) -> nn.Module:
    picks = dict(architecture.picks)
    return replace_modules(network, lambda m: _resolve(m, picks))


def _resolve(module: nn.Module, picks: dict[str, tuple[str, ...]]) -> nn.Module:
    while isinstance(module, Choose):  # a kept option may be a choice itself
        module = module.chosen(picks[module.choice.name])
    return module


def _keep_view(network: nn.Module, architecture: Architecture) -> nn.Module:
    """Like `_keep`, but leaves `network` as it is: modules are shallow copies that share its parameters."""
    picks = dict(architecture.picks)

    def view(module: nn.Module) -> nn.Module:
        shallow = copy.copy(_resolve(module, picks))
        shallow._modules = {name: view(child) for name, child in shallow._modules.items() if child is not None}
        return shallow

    return view(network)
