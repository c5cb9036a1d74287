"""The modules of a network with choices: walking through them, replacing them, viewing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from supernet.base.modules import shallow_copy
from supernet.base.randomness import nothing_drawn
from supernet.space.choices import Choice
from supernet.space.layers import Choose, Depth, Elastic
from supernet.space.values import decided_values, followed_of, own_attributes

Inside = tuple[tuple[str, tuple[str, ...]], ...]
"""The choices that a place in the network is nested in, outermost first, and for each the options of which one has to
be live."""


@contextmanager
def without_data() -> Iterator[None]:
    """Inside the ``with`` block modules are made on the `meta` device: shapes, but neither memory nor initial values.

    Initial values are skipped altogether, since torch computes them slowly even without data.
    """
    with torch.device("meta"), _NoInitialValues():
        yield


def made_without_data(network: Callable[[], nn.Module]) -> nn.Module:
    """A new network without data; with data if its constructor reads numbers from tensors, or keeps them as they are.

    Nothing that is drawn at random leaves a trace.

    Raises:
        ValueError: what is made is no network.
    """
    with nothing_drawn(torch.device("cpu")):
        try:
            with without_data():
                made: object = network()
        except Exception as error:  # the code of a network may do anything
            if "meta" not in str(error).lower():
                raise
            made = network()
        if not isinstance(made, nn.Module):
            nothing = ": does it lack a return?" if made is None else ""
            raise ValueError(
                f"expected a function that makes a network (nn.Module), got {type(made).__name__}{nothing}"
            )
        return network() if any(map(_keeps_tensors, made.modules())) else made


def _keeps_tensors(module: nn.Module) -> bool:
    """Whether attributes of a module are tensors that are neither parameters nor buffers: these cannot be filled."""
    return any(isinstance(thing, Tensor) and thing.is_meta for thing in own_attributes(module).values())


class _NoInitialValues(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _INITIALISING:
            tensor: Tensor = args[0] if args else kwargs["tensor"]
            if tensor.is_meta:
                return tensor
        return func(*args, **kwargs)


_INITIALISING = (
    *(Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.copy_),
    *(Tensor.mul_, Tensor.add_, Tensor.clamp_, Tensor.erfinv_),
    *(nn.init.normal_, nn.init.uniform_, nn.init.constant_, nn.init.kaiming_uniform_),  # which ask modes themselves
)
"""What initialises weights in place, and does nothing to tensors without data but take time."""


def choices_of(network: nn.Module) -> tuple[Choice, ...]:
    """The choices in a network, in the order of its modules, nested ones marked with what they are nested in.

    A decision shared by several places counts once; it is nested only where all its places are nested alike.

    Raises:
        ValueError: two places share a name but not their options.
    """
    by_name: dict[str, Choice] = {}
    places: dict[str, Inside] = {}

    def add(choice: Choice, inside: Inside) -> None:
        before = by_name.setdefault(choice.name, choice)
        if before != choice:
            options = f"{before.options}, {choice.options}"
            raise ValueError(f"choice {choice.name!r} occurs with different options: {options}")
        places[choice.name] = _common(places.get(choice.name, inside), inside)

    for module, inside in _walk(network):
        if isinstance(module, (Choose, Depth)):
            add(module.choice, inside)
        for thing in decided_values(module):
            for choice in thing.choices():
                add(choice, inside)
    return _parents_first(
        {name: replace(choice, inside=places[name][-1] if places[name] else None) for name, choice in by_name.items()}
    )


def deciding(network: nn.Module) -> set[str]:
    """Names of the values that make a difference to what some module of a network holds, and of other choices."""
    names: set[str] = set()
    for module in network.modules():
        for thing in decided_values(module):
            choices = dict.fromkeys(thing.choices())
            last = {choice.name: frozenset([len(choice.options) - 1]) for choice in choices if choice.kind == "value"}
            for choice in choices:
                if choice.kind != "value":
                    names.add(choice.name)
                elif choice.name not in names:
                    things = [thing.at({**last, choice.name: frozenset([i])}) for i in range(len(choice.options))]
                    if len(things) == 1 or any(other != things[0] for other in things[1:]):
                        names.add(choice.name)
    return names


def _common(a: Inside, b: Inside) -> Inside:
    """What two places of one choice are both nested in, with their options together."""
    others = dict(b)
    return tuple((name, tuple(dict.fromkeys((*options, *others[name])))) for name, options in a if name in others)


def _parents_first(by_name: dict[str, Choice]) -> tuple[Choice, ...]:
    ordered: dict[str, Choice] = {}

    def put(choice: Choice) -> None:
        if choice.name not in ordered:
            if choice.inside is not None:
                put(by_name[choice.inside[0]])
            ordered[choice.name] = choice

    for choice in by_name.values():
        put(choice)
    return tuple(ordered.values())


def parameters_inside(network: nn.Module) -> dict[Inside, list[tuple[str, nn.Parameter]]]:
    """The parameters of a network with choices, grouped by the options that have to be live for them to take part.

    A parameter that is used in several places is listed under what they have in common.
    """
    places: dict[int, tuple[str, nn.Parameter, Inside]] = {}
    names = {id(module): name for name, module in network.named_modules()}
    for module, inside in _walk(network):
        prefix = names[id(module)]
        for name, parameter in module.named_parameters(recurse=False):
            needed = (*inside, *_needs(module, name))
            if id(parameter) in places:
                before = places[id(parameter)]
                common = tuple(pair for pair in before[2] if pair in needed)
                places[id(parameter)] = (*before[:2], common)
            else:
                places[id(parameter)] = (f"{prefix}.{name}" if prefix else name, parameter, needed)
    groups: dict[Inside, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter, inside in places.values():
        groups.setdefault(inside, []).append((name, parameter))
    return groups


def _walk(module: nn.Module, inside: Inside = ()) -> Iterator[tuple[nn.Module, Inside]]:
    yield module, inside
    if isinstance(module, Choose):
        for name, option in zip(module.choice.options, module.options, strict=True):
            yield from _walk(option, (*inside, (module.choice.name, (name,))))
    elif isinstance(module, Depth):
        for index, block in enumerate(module.blocks):
            needs = module.needs(index)
            always = len(needs) == len(module.depths)
            yield from _walk(block, inside if always else (*inside, (module.choice.name, needs)))
    elif isinstance(module, Elastic):
        yield from _walk(module.of, inside)
    else:
        for name, child in module.named_children():
            yield from _walk(child, (*inside, *_needs(module, name)))


def _needs(module: nn.Module, name: str) -> Inside:
    """The options of values under which a parameter or child of a module is there."""
    needs = []
    for condition in followed_of(module).present.get(name, ()):
        (choice,) = condition.choices()
        options = [choice.options[i] for i in range(len(choice.options)) if condition.at({choice.name: frozenset([i])})]
        needs.append((choice.name, tuple(options)))
    return tuple(needs)


def places_of(network: nn.Module) -> dict[str, Inside]:
    """What the modules of a network are nested in, by their paths; of modules that have one place only."""
    places: dict[int, list[Inside]] = {}
    for module, inside in _walk(network):
        places.setdefault(id(module), []).append(inside)
    return {name: places[id(m)][0] for name, m in network.named_modules() if len(places.get(id(m), ())) == 1}


def replace_modules(module: nn.Module, new: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Replaces modules by ``new(module)`` in place, a module before its children."""
    module = new(module)
    for name, child in list(module.named_children()):
        replacement = replace_modules(child, new)
        if replacement is not child:
            setattr(module, name, replacement)
    return module


def view_of(module: nn.Module, new: Callable[[nn.Module], nn.Module]) -> nn.Module:
    """Like `replace_modules`, but leaves `module` as it is: shallow copies, which share parameters and buffers."""
    shallow = shallow_copy(new(module))
    shallow._modules = {
        name: None if child is None else view_of(child, new) for name, child in shallow._modules.items()
    }
    return shallow
