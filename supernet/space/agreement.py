"""Whether what is scored is what is trained: the one-shot model against stand-alone networks, before any training.

A few architectures are run through the one-shot model and as `build` and `extract` make them, in double precision, and
their outputs, the shapes of their parameters, their buffers and their costs are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supernet.base.randomness import nothing_drawn, seeded, stream
from supernet.base.trees import call, map_tensors, tensors_in
from supernet.space.choices import Architecture, Space
from supernet.space.cost import CostTable, cost_table, measure
from supernet.space.layers import LivePaths, OneShot, picks_of, set_live_paths
from supernet.space.model import build, example_of, take_weights, view_with
from supernet.space.probe import drawn_elsewhere, traits_of

_CPU = torch.device("cpu")

_RANDOM = 3
"""Random architectures that are compared, besides those in which each option occurs."""

_TOLERANCE = 1e-5
"""Largest difference of outputs, as a share of the largest output: above rounding, also in single precision."""


class Disagreement(ValueError):
    """The one-shot model computes something else than a stand-alone network would, or costs something else."""


@dataclass(frozen=True, slots=True)
class _Compared:
    """What is compared.

    Attributes:
        model: a one-shot model with weights away from their initial values, in which zeros could hide mistakes.
        table: of costs.
        examples: some, in the precision of the model.
        outputs: of the one-shot model, by architecture and mode: computed before any other network is made, which may
            change what a network keeps outside of its modules.
        buffers: of the model, before any pass.
    """

    model: OneShot
    table: CostTable
    examples: Any
    outputs: dict[tuple[Architecture, bool], list[Tensor]] = field(default_factory=dict)
    buffers: dict[str, Tensor] = field(default_factory=dict)

    def restore(self) -> None:
        """Puts back the buffers as they were at first: spectral norm, for instance, goes on from pass to pass."""
        for name, buffer in self.model.named_buffers():
            first = self.buffers.get(name)
            if first is not None and first.shape == buffer.shape:
                buffer.copy_(first)

    def of_model(self, architecture: Architecture, *, training: bool) -> list[Tensor]:
        """The tensors that the one-shot model gives with one architecture live."""
        key = architecture, training
        if key not in self.outputs:
            self.restore()
            self.model.train(training)
            live = self.model.space.live([architecture])
            self.outputs[key] = _run(self.model, partial(self.model, self.examples, live))
        return self.outputs[key]


def _run(model: OneShot, network: Callable[[], Any]) -> list[Tensor]:
    """The tensors of outputs, with equal random numbers for equal networks."""
    with torch.no_grad(), seeded(_CPU, 0, "agreement") if any(traits_of(model).draws) else nullcontext():
        return list(tensors_in(network()))


def check_agreement(space: Space, examples: Any) -> int:
    """Compares architectures in the one-shot model with the same ones as stand-alone networks.

    Args:
        space: the space.
        examples: some examples of the data, as the network gets them, on the CPU.

    Returns:
        The number of architectures that were compared.

    Raises:
        Disagreement: one line that names the choice, the module and what differs.
    """
    with nothing_drawn(_CPU):
        model = build(space, seed=0)
        elsewhere = drawn_elsewhere(model, _like(model, examples))
        if elsewhere is not None:
            raise Disagreement(
                f"the network draws random numbers from {elsewhere}, which do not follow the seed: draw them with "
                "torch (torch.rand) in its forward pass, without a generator"
            )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.is_floating_point():
                    parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
        table, architectures = cost_table(space), list(dict.fromkeys(_some(space)))
        try:
            compared = _run_all(model.double(), table, examples, architectures)
        except (RuntimeError, TypeError):  # some code runs in single precision only
            compared = _run_all(model.float(), table, examples, architectures)
        for architecture in architectures:
            fault = _fault(compared, architecture)
            if fault is not None:
                raise Disagreement(_one_line(compared, architecture, fault))
    return len(architectures)


def _run_all(model: OneShot, table: CostTable, examples: Any, architectures: Sequence[Architecture]) -> _Compared:
    """What is compared, with the outputs of the one-shot model for each architecture."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    compared = _Compared(model, table, _like(model, examples), buffers=buffers)
    for architecture in architectures:
        for training in (False, True):
            compared.of_model(architecture, training=training)
    compared.restore()
    return compared


def _like(model: nn.Module, examples: Any) -> Any:
    kind = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    return map_tensors(examples, lambda t: t.to(kind) if t.is_floating_point() else t)


def _some(space: Space) -> Iterator[Architecture]:
    """The smallest by its first options, the largest by its last, one with each option, and random ones."""
    yield from filter(space.allows, _by_options(space))
    generator = stream(0, "agreement")
    for _ in range(_RANDOM):
        yield space.sample(generator=generator)


def _by_options(space: Space) -> Iterator[Architecture]:
    number = max(len(choice.options) for choice in space.choices)
    for place in range(number):
        picks = {
            choice.name: next(
                pick
                for pick in space.subsets[choice.name]
                if choice.options[min(place, len(choice.options) - 1)] in pick
            )
            for choice in space.choices
        }
        yield space.reached(picks)
    yield space.reached({name: subsets[-1] for name, subsets in space.subsets.items()})


def _one_line(compared: _Compared, architecture: Architecture, fault: str) -> str:
    """The fault, of the one option that it goes back to if there is one."""
    space = compared.model.space
    base = {name: subsets[-1] for name, subsets in space.subsets.items()}
    for name, pick in architecture.picks:
        single = space.reached({**base, name: pick})
        is_other = single != space.reached(base) and space.allows(single)
        if is_other and (of_single := _fault(compared, single)) is not None:
            return f"{name}={'+'.join(pick)}: {of_single}"
    return f"{architecture}: {fault}"


def _fault(compared: _Compared, architecture: Architecture) -> str | None:
    """What differs between the one-shot model and a stand-alone network; None if nothing does."""
    model, space = compared.model, compared.model.space
    view, alone = view_with(model, architecture), build(space, architecture, seed=0)
    of_view, of_fresh = (
        {name: tuple(p.shape) for name, p in network.named_parameters(remove_duplicate=False)}
        for network in (view, alone)
    )
    for name in dict.fromkeys((*of_fresh, *of_view)):
        if of_view.get(name) != of_fresh.get(name):
            one, other = (_shape_text(shapes.get(name)) for shapes in (of_view, of_fresh))
            return f"parameter {name} is {one} in the one-shot model, and {other} in the network that would be trained"
    if (other_buffer := _other_buffer(view, alone, partial(build, space, architecture, seed=1))) is not None:
        return (
            f"buffer {other_buffer} holds other numbers in the network that would be trained: compute it in forward "
            "pass from what is live, or make it such that its first rows are those of the smaller one"
        )
    like = next(model.parameters())
    take_weights(alone, view)
    alone.to(like.device, like.dtype)
    if (difference := _difference_of_outputs(compared, architecture, view, alone)) is not None:
        return difference
    cost = compared.table.cost(architecture)
    measured = measure(alone, _like(alone, example_of(space, 1)))
    return (
        None if cost == measured else f"the table of costs has {cost}, and the network that would be trained {measured}"
    )


def _shape_text(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))


def _other_buffer(view: nn.Module, fresh: nn.Module, again: Callable[[], nn.Module]) -> str | None:
    """A buffer that follows from what is picked, and has other numbers in the one-shot model.

    Args:
        view: the architecture in the one-shot model.
        fresh: a new network of it.
        again: makes another one, with other random numbers.
    """
    of_view = dict(view.named_buffers())
    others = [
        name
        for name, buffer in fresh.named_buffers()
        if (theirs := of_view.get(name)) is not None
        and (theirs.shape != buffer.shape or not torch.allclose(theirs.to(buffer.dtype), buffer, equal_nan=True))
    ]
    if not others:
        return None
    of_fresh, of_again = dict(fresh.named_buffers()), dict(again().named_buffers())
    return next((name for name in others if torch.equal(of_fresh[name], of_again[name])), None)  # not drawn at random


def _difference_of_outputs(
    compared: _Compared, architecture: Architecture, view: nn.Module, alone: nn.Module
) -> str | None:
    for training in (False, True):
        _set_mode(alone, training=training)
        outputs = (
            compared.of_model(architecture, training=training),
            _run(compared.model, partial(call, alone, compared.examples)),
        )
        if (difference := _difference(*outputs)) is not None:
            place = _first_difference(compared, architecture, view, alone)
            mode = "training" if training else "evaluation"
            return (
                f"{place or 'the network'} gives other numbers in the one-shot model than in the network that would be "
                f"trained ({difference}, in {mode} mode): what follows from a choice has to be an attribute, a "
                "parameter or an argument of modules, and nothing may be kept from one pass to the next"
            )
    return None


def _set_mode(network: nn.Module, *, training: bool) -> None:
    """The mode of a stand-alone network, in which batch norm always takes the statistics of the batch."""
    network.train(training)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()


def _difference(ones: list[Tensor], others: list[Tensor]) -> str | None:
    if [tuple(t.shape) for t in ones] != [tuple(t.shape) for t in others]:
        return f"shapes {[list(t.shape) for t in ones]} and {[list(t.shape) for t in others]}"
    for one, other in zip(ones, others, strict=True):
        if one.numel() == 0:
            continue
        gap = (one.double() - other.double()).abs().nan_to_num(0.0, 0.0, 0.0).max()
        largest = other.double().abs().nan_to_num(0.0, 0.0, 0.0).max()
        if not torch.equal(one.isfinite(), other.isfinite()) or gap > _TOLERANCE * max(float(largest), 1e-6):
            return f"largest difference {float(gap):.2g}, largest output {float(largest):.2g}"
    return None


def _first_difference(compared: _Compared, architecture: Architecture, view: nn.Module, alone: nn.Module) -> str | None:
    """The first module whose outputs differ, as modules end; None if none does when they are run outside of it."""
    (picks,) = picks_of(compared.model.space, compared.model.space.live([architecture]))
    try:
        with torch.no_grad(), set_live_paths(LivePaths((picks,), (0,))):
            of_view, of_alone = (_outputs_by_module(network, compared.examples) for network in (view, alone))
    except Exception:  # a part that does not run outside of the one-shot model
        return None
    return next((name for name in of_alone if name in of_view and _difference(of_view[name], of_alone[name])), None)


def _outputs_by_module(network: nn.Module, examples: Any) -> dict[str, list[Tensor]]:
    outputs: dict[str, list[Tensor]] = {}

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            outputs.setdefault(name, list(tensors_in(output)))

        return network.get_submodule(name).register_forward_hook(keep)

    handles = [note(name) for name, _ in network.named_modules() if name]
    try:
        call(network, examples)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
