"""What each module of a recorded network becomes: how it is made, what is in it, the statements of its forward pass."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from supernet.export.writing.bodies import Members, nested_steps, shown_steps, statements_of, values_read
from supernet.export.writing.expressions import Expr, Group, Item, Number
from supernet.export.writing.loops import Forward, Loop, rolled
from supernet.export.writing.naming import beginning, camel, identifier
from supernet.export.writing.nodes import Node, in_a_word
from supernet.export.writing.simplifying import Simplifier
from supernet.export.writing.tracing import Frame, UnwritableError, Value, is_of_torch, kind_of
from supernet.space.layers import Join

_JOINS = {"sum": "sum", "mean": "mean", "concat": "concatenation"}


class Planner:
    """Turns a recorded network into nodes.

    Args:
        frames: what each module does, by its id; see `supernet.export.writing.tracing.trace`.
        made: how leaves are made, by their ids; see `supernet.export.writing.tracing.leaves_of`.
        named: for modules that were chosen, by their ids: the name of choice and option, and the option.
    """

    def __init__(
        self,
        frames: Mapping[int, Frame],
        made: Mapping[int, tuple[dict[str, Any], set[str]]],
        named: Mapping[int, tuple[str, str]],
    ) -> None:
        self._frames, self._made, self._named = frames, made, named
        self._simplifier = Simplifier(frames)
        self._places: dict[int, tuple[str, str]] = {}

    def node(self, module: nn.Module, place: tuple[str, str], name: str = "") -> Node:
        """The node of a module.

        Args:
            module: of the network.
            place: name of the class that holds it, and its attribute there.
            name: of the module around it, if that says more than the module's own class.
        """
        name = name or camel(self._named.get(id(module), ("", ""))[1])
        frame = self._frames.get(id(module))
        if frame is None:
            return self._leaf(module, place, name)
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            plain = type(module) is nn.Sequential
            return self._sequential(frame, place, name or ("" if plain else kind_of(module)))
        steps, output = self._simplifier.simplified(frame)
        if len(steps) == 1:
            ((key, step),) = steps.items()
            is_wrapper = isinstance(output, Value) and id(output.of) == key and not output.path
            if isinstance(step.function, nn.Module) and is_wrapper and list(step.args) == list(frame.inputs.values()):
                inner = next(path for path, m in module.named_modules() if m is step.function)
                return self.node(step.function, place, kind_of(module) + camel(re.sub(r"\d", "", inner)))
        forward = Forward(module, frame.inputs, steps, output, frame.counts)
        return self._class(rolled(forward, self._simplifier.does_nothing), place, frame.halves)

    def _leaf(self, module: nn.Module, place: tuple[str, str], name: str) -> Node:
        """A module of torch, or one that is imported."""
        earlier = self._places.setdefault(id(module), place)
        if earlier != place and module.state_dict():
            raise UnwritableError(f"{kind_of(module)} is used in two places: {earlier} and {place}")
        return Node(name=name, place=place, leaf=module, make=_made(module, *self._made[id(module)]))

    def _sequential(self, frame: Frame, place: tuple[str, str], name: str) -> Node:
        members = [s.function for s in frame.steps if not self._simplifier.does_nothing(s.function)]
        if len(members) == 1:
            return self.node(members[0], place, name)
        # Named by its option, its place among the choices, its content if that is short, or else its attribute.
        chosen = [self._named[key][0] for m in frame.module.modules() if (key := id(m)) in self._named]
        common = beginning([text.split(".")[:-1] for text in chosen])
        if id(frame.module) not in self._named and common:
            name = name or camel(re.sub(r"\d+$", "", common[-1]))
        children = {str(i): self.node(m, (name or place[0], f"{place[1]}.{i}")) for i, m in enumerate(members)}
        content = "".join(dict.fromkeys(in_a_word(child) for child in children.values()))
        attributes = [part for part in re.split(r"[._\d]+", place[1]) if part]
        if not name and len(content) <= 20 and attributes:
            name = content
        name = name or camel(attributes[-1].removesuffix("s") if attributes else "network")
        return Node(name=name, place=place, children=children, halves=frame.halves)

    def _class(self, forward: Forward, place: tuple[str, str], halves: bool) -> Node:
        """A module that is written as a class."""
        module = forward.module
        paths = {id(child): path for path, child in module.named_modules() if path}
        name, about = self._described(module)
        chosen = [self._named[key][0] for key in paths if key in self._named]
        shared = ".".join(beginning([text.split(".")[:-1] for text in chosen]))
        attributes = _attributes(forward, name, paths, self._named, shared)
        nested = nested_steps(forward)
        expressions, tensors = _tensors(forward, name, nested, attributes)
        choices = {
            key: identifier(_without_prefix(chosen.removesuffix(f".{option}"), shared))
            for key, (chosen, option) in self._named.items()
        }
        return Node(
            name=name,
            place=place,
            children=self._children(forward, name, attributes),
            tensors=tensors,
            inputs={argument: isinstance(tree, Value) for argument, tree in forward.inputs.items()},
            body=statements_of(forward, Members(name, attributes, expressions, choices), nested),
            returns=_type_of(forward.output),
            about=about,
            halves=halves,
        )

    def _described(self, module: nn.Module) -> tuple[str, str]:
        """The name of a class, and the first sentence of its docstring."""
        name = kind_of(module)
        text = "" if is_of_torch(module) else inspect.cleandoc(type(module).__dict__.get("__doc__") or "")
        if isinstance(module, Join):  # options in a row of modules: they are named by their choice
            name = camel(self._named.get(id(module), ("", name))[1]) or name
            text = f"The {_JOINS[module.join]} of what the modules in it give."
        return name, " ".join(re.split(r"(?<=\.)\s", text)[0].split())

    def _children(self, forward: Forward, name: str, attributes: Mapping[int, str]) -> dict[str, Node]:
        """The modules that a class holds."""
        children: dict[str, Node] = {}
        for step in forward.steps.values():
            function = step.function
            attribute = attributes.get(id(function), "")
            if isinstance(function, Loop):
                members = {
                    f"{attribute}.{i}": self.node(m, (name, f"{attribute}.{i}")) for i, m in enumerate(function.members)
                }
                if function.swapped is None:  # one after the other, as nn.Sequential runs them
                    children[attribute] = Node(
                        name=camel(attribute.removesuffix("s")), place=(name, attribute),
                        children={path.rpartition(".")[2]: child for path, child in members.items()},
                    )  # fmt: skip
                else:
                    children |= members
            elif isinstance(function, nn.Module) and attribute not in children:
                children[attribute] = self.node(function, (name, attribute))
        return children


def _attributes(
    forward: Forward, kind: str, paths: Mapping[int, str], named: Mapping[int, tuple[str, str]], shared: str
) -> dict[int, str]:
    """The attributes of the modules and loops that a class runs, by their ids.

    Args:
        forward: of the class.
        kind: name of the class, for messages.
        paths: of all modules in it, by their ids.
        named: names of modules that were chosen, by their ids.
        shared: the beginning of these names that all in the class have in common.
    """
    attributes: dict[int, str] = {}
    for step in forward.steps.values():
        function = step.function
        if not isinstance(function, (nn.Module, Loop)) or id(function) in attributes:
            continue
        if isinstance(function, nn.Module) and id(function) not in paths:
            raise UnwritableError(f"{kind} runs a {kind_of(function)} that is not a part of it")
        name = function.path if isinstance(function, Loop) else paths[id(function)]
        if "." in name and id(function) in named:
            name = _without_prefix(named[id(function)][0], shared)
        attributes[id(function)] = _free_attribute(name, {*attributes.values()})
    return attributes


def _without_prefix(text: str, shared: str) -> str:
    return text.removeprefix(f"{shared}.") if shared else text


def _free_attribute(path: str, taken: set[str]) -> str:
    name = identifier(re.sub(r"\.(\d+)", r"\1", path))
    while hasattr(nn.Module, name) or name in taken:
        name += "_"
    return name


def _tensors(
    forward: Forward, kind: str, nested: frozenset[int], attributes: Mapping[int, str]
) -> tuple[dict[int, str], dict[str, Tensor]]:
    """The parameters and buffers that a forward pass reads.

    Returns:
        Their expressions by their ids; and those that belong to the class itself, by their attributes.
    """
    paths = {id(tensor): path for path, tensor in (*forward.module.named_buffers(), *forward.module.named_parameters())}
    trees = [[step.args, step.kwargs] for step in shown_steps(forward, nested).values()]
    expressions: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    for value in values_read([trees, forward.output], forward.steps, nested):
        tensor = value.of
        if not isinstance(tensor, Tensor) or id(tensor) in expressions:
            continue
        if id(tensor) not in paths:
            raise UnwritableError(f"{kind} uses a parameter that is not a part of it")
        home, _, name = paths[id(tensor)].rpartition(".")
        owner = id(forward.module.get_submodule(home))
        if home and owner in attributes:
            expressions[id(tensor)] = f"self.{attributes[owner]}.{name}"
        else:
            attribute = _free_attribute(paths[id(tensor)], {*attributes.values(), *tensors})
            tensors[attribute] = tensor
            expressions[id(tensor)] = f"self.{attribute}"
    return expressions, tensors


def _type_of(output: Any) -> str:
    if isinstance(output, (tuple, list)):
        return f"tuple[{', '.join('Tensor' for _ in output)}]"
    return "dict[str, Tensor]" if isinstance(output, dict) else "Tensor"


def is_imported(module: nn.Module) -> bool:
    """Whether a leaf has a class of its own, outside of ``torch.nn``."""
    return getattr(nn, type(module).__name__, None) is not type(module)


def _made(module: nn.Module, arguments: dict[str, Any], needed: set[str]) -> Expr:
    """The call that makes a leaf: one of torch's own modules, or one that is imported."""
    parameters = inspect.signature(type(module).__init__).parameters
    items = []
    for name, value in arguments.items():
        plain = value[0] if isinstance(value, (tuple, list)) and value and len(set(value)) == 1 else value
        is_number = isinstance(plain, (int, float)) and not isinstance(plain, bool)
        required = name in parameters and parameters[name].default is inspect.Parameter.empty
        if isinstance(plain, str):
            plain = f'"{plain}"'
        elif isinstance(plain, list):
            plain = tuple(plain)
        items.append(
            Item(Number((plain,), name) if is_number else str(plain), "" if required else name, name in needed)
        )
    name = type(module).__name__
    return Group(name if is_imported(module) else f"nn.{name}", tuple(items))
