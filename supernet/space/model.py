"""One builder, two uses: `build(space)` is the one-shot model, `build(space, architecture)` a stand-alone network.

Both begin as the same network with every option in it. The one-shot model keeps all of them, and each forward pass is
given what is live; the stand-alone network keeps what its architecture picks and has no choice left.

References:
    Bender et al., ICML 2018, section 3.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _Orthogonal
from torch.nn.utils.parametrize import ParametrizationList

from supernet.base.randomness import GLOBAL_GENERATOR, all_seeded, nothing_drawn
from supernet.base.trees import CONTIGUOUS, describe, map_tensors, tensors, zeros
from supernet.space.choices import Architecture, Space
from supernet.space.follow import followed
from supernet.space.layers import (
    Choose,
    Depth,
    Elastic,
    GhostByGhost,
    Join,
    OneShot,
    ShapeError,
    ghost_norm,
    output_shapes_of,
    picks_of,
)
from supernet.space.network import choices_of, deciding, made_without_data, replace_modules, view_of, without_data
from supernet.space.rules import noting_rules
from supernet.space.values import decided, decided_values, noting_values, resolved

log = logging.getLogger(__name__)


def _one_shot(space: Space, network: nn.Module) -> OneShot:
    """The one-shot model of a network, which is taken over: its batch norms and modules with choices are replaced.

    Raises:
        ValueError: the network keeps running statistics in a module other than batch norm; they would mix the
            statistics of all the architectures that passed through.
    """
    network = _elastic(_with_ghost_norms(network))
    for name, module in network.named_modules():
        if isinstance(module, Elastic) and isinstance(module.of, ParametrizationList):
            _check_parametrizations(name, module.of)
        is_frozen = "weight" in module._buffers  # a batch norm that learns nothing, as detectors have it
        if not (isinstance(module, Elastic) or is_frozen) and getattr(module, "running_mean", None) is not None:
            path = ".".join(part for part in name.split(".") if part != "of")
            raise ValueError(
                f"{path} ({type(module).__name__}) keeps running statistics, which mean nothing while choices are "
                "free: set track_running_stats=False"
            )
    for module in network.modules():
        if isinstance(module, Choose):
            module.output_shapes = output_shapes_of(module.options[0])
    return OneShot(space, network)


def _check_parametrizations(name: str, parametrizations: ParametrizationList) -> None:
    """Refuses matrices of chosen sizes that torch makes orthogonal: it keeps a matrix of one size beside them.

    Raises:
        ValueError: there is one; the message says what to write instead.
    """
    if any(isinstance(module, _Orthogonal) for module in parametrizations.modules()):
        path = ".".join(part for part in name.split(".") if part not in ("of", "parametrizations"))
        raise ValueError(
            f"{path}: torch's parametrizations.orthogonal works for one size only, and a choice decides the size of "
            "this weight: give the module a width that is no choice, write Choose(name, {...}) with a module of each "
            "width, or take parametrizations.weight_norm or spectral_norm"
        )


def _with_ghost_norms(module: nn.Module) -> nn.Module:
    """The module with batch norms replaced in place, those of ghost batches not entered."""
    new = ghost_norm(module)
    if new is module:
        for name, child in list(module.named_children()):
            setattr(module, name, _with_ghost_norms(child))
    return new


def from_network(
    network: Callable[[], nn.Module],
    example: Any,
    *,
    name: str = "own",
    settings: Mapping[str, object] | None = None,
    check: bool = True,
) -> Space:
    """The space of a network with choices: found in its modules, checked on its shapes.

    Args:
        network: makes the network with all its options, with new weights; takes no argument.
        example: one example or more, with the batch dimension first: a tensor, or a tuple or dict of tensors that are
            the network's arguments.
        name: of the space, for messages and files.
        settings: other facts about it, for messages and files.
        check: whether to try the shapes; not needed again for a network that was tried before.

    Raises:
        ValueError: the network has no choice, or does not run with some option; the message names it.
        ShapeError: options of one choice give different shapes.
    """
    network = followed(network)
    with noting_values() as values, noting_rules() as rules:
        made = made_without_data(network)
    choices = choices_of(made)
    if lost := [name for name in values if name not in deciding(made)]:
        raise ValueError(
            f"value {lost[0]!r} decides nothing: no number, shape or part of a module follows from it: keep it as "
            "an attribute of the module whose forward pass reads it (self.width = width)"
        )
    shape = tuple(example.shape[1:]) if isinstance(example, Tensor) else ()
    kept = None if isinstance(example, Tensor) and example.dtype == torch.float32 else example
    space = Space(name, choices, network, shape, tuple((settings or {}).items()), example=kept, rules=tuple(rules))
    if rules:
        space.sample(generator=torch.Generator().manual_seed(0))  # whether they leave anything
    if check:
        _check_shapes(space)
    space = replace(space, contiguous=_takes_contiguous(space, made))
    if check and space.contiguous:
        log.warning(
            "the network takes views that exist in contiguous memory only, such as x.view(x.size(0), -1): it is run in "
            "contiguous memory; with x.flatten(1) or x.reshape(...) it could be faster"
        )
    return space


def _takes_contiguous(space: Space, made: nn.Module) -> bool:
    """Whether a network runs in contiguous memory only, seen by a pass on zeros in channels-last layout.

    Without data there are no layouts to be seen. One that fails for another reason counts as one that runs in any.

    Args:
        space: the space.
        made: a network of it.
    """

    def in_channels_last(tensor: Tensor) -> Tensor:
        return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor

    inputs = map_tensors(example_of(space, 2), in_channels_last)
    if not any(tensor.ndim == 4 for tensor in (*made.parameters(), *tensors(inputs))):
        return False
    with nothing_drawn(torch.device("cpu")), torch.no_grad():
        model = build(space, seed=0)
        for parameter in model.parameters():
            parameter.data = in_channels_last(parameter.data)
        if _runs(model, inputs):
            return False
        for parameter in model.parameters():
            parameter.data = parameter.data.contiguous()
        return _runs(model, map_tensors(inputs, Tensor.contiguous))


def _runs(model: OneShot, inputs: Any) -> bool:
    """Whether a one-shot model runs with everything on."""
    try:
        model(inputs, model.space.live([model.space.everything_on()]))
    except Exception:  # the code of a network may do anything
        return False
    return True


def _check_shapes(space: Space) -> None:
    """Runs the network without data, with everything on and with each option of each value and concatenation.

    Raises:
        ValueError: it does not run with some option; the message names choice, option and module.
        ShapeError: options of one choice give different shapes.
    """
    model = _one_shot(space, made_without_data(space.network)).to("meta")
    with nothing_drawn(torch.device("cpu")):
        try:
            _run_each_option(model, map_tensors(example_of(space, 2), lambda tensor: tensor.to("meta")))
        except ValueError as error:  # the code of a network may look at numbers, which shapes lack
            if "meta" not in str(error.__cause__).lower():
                raise
            _run_each_option(build(space, seed=0), example_of(space, 2))


def _run_each_option(model: OneShot, inputs: Any) -> None:
    space = model.space
    (everything,) = space.live([space.everything_on()])
    rows_of: list[tuple[str, Tensor]] = [("everything on", everything)]
    for choice in space.choices:
        if choice.kind != "paths":
            for option in choice.options:
                row = everything.clone()
                row[[space.columns[choice.name, other] for other in choice.options]] = False
                row[space.columns[choice.name, option]] = True
                if space.allows_row(row):
                    rows_of.append((f"{choice.name}={option}", row))
    running: list[str] = []
    for name, module in model.network.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: running.append(name))
    for what, row in rows_of:
        try:
            with torch.no_grad():
                model(inputs, row[None])
        except ShapeError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            place = ".".join(part for part in running[-1].split(".") if part != "of") if running else "the network"
            raise ValueError(
                f"the network does not run with {what}: {place}: {' '.join(str(error).split())}; one example is "
                f"{describe(inputs)}{_hint(space, inputs)}"
            ) from error


def _hint(space: Space, inputs: Any) -> str:
    """What a network that does not run may lack."""
    hints = []
    if any(choice.kind == "value" for choice in space.choices):
        hints.append("; a module after a width that is a choice has to be made with that width")
    if any(not tensor.is_floating_point() for tensor in tensors(inputs)):
        hints.append("; whole numbers that are no indices have to be given as numbers: inputs.float()")
    return "".join(hints)


def example_of(space: Space, number: int) -> Any:
    """A number of examples of zeros, of the shapes and types that the network of a space takes."""
    if space.example is None:
        return torch.zeros(number, *space.input_shape)
    return zeros(describe(space.example), number)


@overload
def build(space: Space, architecture: None = None, *, seed: int | None = None) -> OneShot: ...
@overload
def build(space: Space, architecture: Architecture | None, *, seed: int | None = None) -> nn.Module: ...
def build(space: Space, architecture: Architecture | None = None, *, seed: int | None = None) -> nn.Module:
    """The one-shot model of a space, or the stand-alone network of one of its architectures, with new weights.

    Args:
        space: the space.
        architecture: what to keep; None keeps everything.
        seed: of the weights, and of whatever the network draws when it is made: the global generators of torch, Python
            and NumPy begin at it, and are restored afterwards. None draws from them as they are.

    Returns:
        A `OneShot`, called as ``model(x, live_GP)``, or an ordinary module, called as ``network(x)``.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    if architecture is not None:
        space.live([architecture])  # refuses an architecture of another space before anything is built
    seeding = nullcontext() if seed is None else all_seeded(seed)
    picked = nullcontext() if architecture is None else decided(dict(architecture.picks))
    with GLOBAL_GENERATOR, seeding, picked:
        network = space.network()
    network = _one_shot(space, network) if architecture is None else _keep(network, architecture)
    if space.contiguous:
        vars(network.network if isinstance(network, OneShot) else network)[CONTIGUOUS] = True
    return network


def extract(model: OneShot, architecture: Architecture) -> nn.Module:
    """The stand-alone network of an architecture with weights copied from the one-shot model.

    Its running statistics are not estimated yet: it agrees with the one-shot model in training mode, where both use
    the statistics of the batch, and is of no use in evaluation mode before some training batches passed through.

    Raises:
        ArchitectureError: the architecture is of another space.
    """
    network = build(model.space, architecture, seed=0)
    take_weights(network, _keep_view(model.network, architecture, model.space))
    like = next(model.parameters())
    return network.to(like.device, like.dtype)


def take_weights(network: nn.Module, view: nn.Module) -> None:
    """Copies weights and buffers into a new stand-alone network.

    Args:
        network: of an architecture.
        view: the same architecture in a one-shot model; see `view_with`.
    """
    with torch.no_grad():
        sources = dict(view.named_parameters(remove_duplicate=False))
        for name, parameter in network.named_parameters():
            source = sources[name]
            # A parameter that user's code cuts itself: its first rows and columns, as many as are left.
            parameter.data = source[tuple(slice(length) for length in parameter.shape)].detach().clone()
        buffers = dict(view.named_buffers())
        for name, buffer in network.named_buffers():
            if name in buffers and buffers[name].shape == buffer.shape:
                buffer.copy_(buffers[name])


def view_with(model: OneShot, architecture: Architecture) -> nn.Module:
    """The network of a one-shot model with one architecture live, on its weights; batch norms are of ghost batches."""
    return _keep_view(model.network, architecture, model.space)


def _elastic(module: nn.Module) -> nn.Module:
    """Puts modules that hold decided values into `Elastic`, children before their parents, each once."""
    if isinstance(module, Elastic):
        return module  # met before, at another place of the network
    for name, child in list(module.named_children()):
        setattr(module, name, _elastic(child))
    # The choices themselves only tell others what they decide.
    holds = not isinstance(module, (Choose, Depth)) and next(decided_values(module), None) is not None
    return Elastic(module) if holds else module


def _keep(network: nn.Module, architecture: Architecture) -> nn.Module:
    picks = dict(architecture.picks)
    return replace_modules(network, lambda m: _resolve(m, picks))


def option_names(space: Space, architecture: Architecture) -> dict[str, tuple[str, str]]:
    """What the modules of a stand-alone network were chosen as, by their path in it.

    Returns:
        A name (of the choice, or CHOICE.OPTION where several options may be picked), and the name of the option; for
        several options together the choice.
    """
    picks = dict(architecture.picks)
    name_of: dict[int, tuple[str, str]] = {}
    names: dict[str, tuple[str, str]] = {}

    def walk(module: nn.Module, path: str) -> None:
        while isinstance(module, (Choose, Depth)):
            if isinstance(module, Choose):
                for option, of in zip(module.choice.options, module.options, strict=True):
                    name = module.choice.name
                    name_of[id(of)] = (name if module.choice.max_picks == 1 else f"{name}.{option}"), option
            choice = module.choice.name
            module = module.chosen(picks[choice])
            if isinstance(module, Join):
                name_of[id(module)] = choice, choice
        if id(module) in name_of:
            names[path] = name_of[id(module)]
        held.append(module)
        for name, child in module.named_children():
            walk(child, f"{path}.{name}" if path else name)

    held: list[nn.Module] = []  # what `chosen` makes has to keep its id
    with without_data():
        network = space.network()
    walk(network, "")
    return names


def _resolve(module: nn.Module, picks: dict[str, tuple[str, ...]]) -> nn.Module:
    while isinstance(module, (Choose, Depth)):  # a kept option may be a choice itself
        module = module.chosen(picks[module.choice.name])
    return module


def _keep_view(network: nn.Module, architecture: Architecture, space: Space) -> nn.Module:
    """Like `_keep`, but leaves `network` as it is."""
    picks = dict(architecture.picks)
    (indices,) = picks_of(space, space.live([architecture]))

    def keep(module: nn.Module) -> nn.Module:
        module = _resolve(module, picks)
        while isinstance(module, (Elastic, GhostByGhost)):
            module = module.of if isinstance(module, GhostByGhost) else _resolve(resolved(module.of, indices), picks)
        return module

    return view_of(network, keep)
