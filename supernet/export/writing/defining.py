"""The text of one class."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from supernet.export.writing.arguments import DEFAULTS, Parameters, category, number_text, parameters_of
from supernet.export.writing.expressions import (
    WIDTH,
    Expr,
    Group,
    Item,
    Joined,
    Number,
    form,
    leaves,
    lines,
    mapped,
    merged,
    of_call,
)
from supernet.export.writing.nodes import ForEach, Node, Return, in_a_word

Made = Mapping[Node, Expr]
"""How nodes are made: leaves, and those whose classes are written."""


@dataclass(frozen=True)
class _Contents:
    """What a class holds and does, with the numbers of each of its nodes.

    Attributes:
        children: modules by their names.
        tensors: parameters and buffers by their names.
        body: the expressions of statements; loops as they are.
        passed: names of the modules that are passed as arguments.
    """

    children: list[tuple[str, Expr]]
    tensors: list[tuple[str, Expr]]
    body: list[Any]
    passed: list[str]

    def numbers_made(self) -> list[Number]:
        return _numbers([expr for _, expr in (*self.children, *self.tensors)])

    def numbers_in_body(self) -> list[Number]:
        return _numbers([expr for expr in self.body if not isinstance(expr, ForEach)])


@dataclass(frozen=True)
class _Argument:
    """An argument of a class: a number.

    Attributes:
        name, kind: as written, for instance "channels" and "int".
        default: its default; None for none.
        values: its value for each node.
    """

    name: str
    kind: str
    default: int | None
    values: tuple[float, ...]

    @property
    def is_size(self) -> bool:
        return category(self.name) == "size"


def _numbers(exprs: Sequence[Expr]) -> list[Number]:
    return [leaf for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Number)]


def define(name: str, nodes: Sequence[Node], made: Made) -> tuple[str, list[Expr]]:
    """The text of a class, and for each of its nodes the expression that makes it.

    Args:
        name: of the class.
        nodes: modules that are written as this class; they have the same form.
        made: how the modules in them are made.
    """
    first = nodes[0]
    contents = _contents(nodes, made)
    parameters = parameters_of([*contents.numbers_made(), *contents.numbers_in_body()])
    arguments = _arguments(parameters)
    buffers = [name for name, tensor in first.tensors.items() if not isinstance(tensor, nn.Parameter)]
    parent = "nn.Sequential" if first.body is None else "nn.Module"
    text = [f"class {name}({parent}):", *documentation(_about(first, name), 4), ""]
    text += [f"    {name}: Tensor" for name in buffers] + [""] * bool(buffers)
    text += _signature(contents, arguments)
    if first.body is None:
        children = [_written(expr, parameters) for _, expr in contents.children]
        text += lines("", Group("super().__init__", squeezed(children)), "", 8)
    else:
        text += _init(contents, arguments, parameters, first, buffers)
        text += ["", *_forward(contents, parameters, first)]
    makes = [_making(name, place, node, contents.passed, arguments, made) for place, node in enumerate(nodes)]
    return "\n".join(text), makes


def _contents(nodes: Sequence[Node], made: Made) -> _Contents:
    first = nodes[0]
    passed = differing(nodes, made)
    return _Contents(
        children=[
            (name, name if name in passed else merged([made[node.children[name]] for node in nodes]))
            for name in first.children
        ],
        tensors=[(name, merged([_empty(node.tensors[name]) for node in nodes])) for name in first.tensors],
        body=[
            same[0] if isinstance(same[0], ForEach) else merged([statement.of for statement in same])
            for same in zip(*(node.body or () for node in nodes), strict=True)
        ],
        passed=passed,
    )


def _arguments(parameters: Parameters) -> list[_Argument]:
    """The arguments in their order: those without a default first, and sizes before others."""
    arguments = []
    for values, (name, _) in parameters.items():
        kind = "int" if all(isinstance(value, int) for value in values) else "float"
        default = DEFAULTS.get(name)
        arguments.append(_Argument(name, kind, default if default in values else None, values))
    return sorted(arguments, key=lambda argument: (argument.default is not None, not argument.is_size))


def _written(expr: Expr, parameters: Parameters, prefix: str = "") -> Expr:
    """An expression with the arguments of the class in place of numbers that differ."""
    number: Callable[[Number], str] = partial(number_text, parameters=parameters, prefix=prefix)
    return mapped(expr, lambda leaf: number(leaf) if isinstance(leaf, Number) else leaf)


def _signature(contents: _Contents, arguments: Sequence[_Argument]) -> list[str]:
    items = [Item("self"), *(Item(f"{name}: nn.Module") for name in contents.passed)]
    items += [Item(f"{a.name}: {a.kind}" + ("" if a.default is None else f" = {a.default}")) for a in arguments]
    return lines("def ", Group("__init__", tuple(items)), " -> None:", 4)


def _init(
    contents: _Contents, arguments: Sequence[_Argument], parameters: Parameters, first: Node, buffers: Sequence[str]
) -> list[str]:
    """The body of ``__init__``."""
    in_body = " ".join(sorted({number_text(n, parameters, "self.") for n in contents.numbers_in_body()}))
    read = set(re.findall(r"self\.(\w+)", in_body))
    text = ["        super().__init__()"]
    text += [f"        self.{argument.name} = {argument.name}" for argument in arguments if argument.name in read]
    for home in dict.fromkeys(name.partition(".")[0] for name, _ in contents.children):
        members = [_written(expr, parameters) for name, expr in contents.children if name.partition(".")[0] == home]
        is_list = home not in first.children
        expr = of_call("nn.ModuleList", Group("", squeezed(members), "[]")) if is_list else members[0]
        text += lines(f"self.{home} = ", expr, "", 8)
    for name, expr in contents.tensors:
        tensor = _written(expr, parameters)
        if name in buffers:
            text += lines("", of_call("self.register_buffer", f'"{name}"', tensor), "", 8)
        else:
            text += lines(f"self.{name} = ", of_call("nn.Parameter", tensor), "", 8)
    return text


def _forward(contents: _Contents, parameters: Parameters, first: Node) -> list[str]:
    """The method ``forward``."""
    inputs = [Item(f"{name}: {'Tensor' if one else 'list[Tensor]'}") for name, one in first.inputs.items()]
    text = lines("def ", Group("forward", (Item("self"), *inputs)), f" -> {first.returns}:", 4)
    for statement, expr in zip(first.body or (), contents.body, strict=True):
        if isinstance(statement, ForEach):
            order = (statement.older, statement.newer) if statement.swapped else (statement.newer, statement.older)
            text.append(f"        for {statement.member} in {statement.attribute}:")
            carried, result = f"{statement.older}, {statement.newer}", f"{statement.member}({', '.join(order)})"
            text.append(f"            {carried} = {statement.newer}, {result}")
        else:
            start = "return " if isinstance(statement, Return) else f"{statement.name} = "
            text += lines(start, _written(expr, parameters, "self."), "", 8)
    return text


def _making(
    name: str, place: int, node: Node, passed: Sequence[str], arguments: Sequence[_Argument], made: Made
) -> Group:
    """The call that makes a node."""
    items = [Item(made[node.children[child]]) for child in passed]
    for argument in arguments:
        value = argument.values[place]
        label = "" if argument.is_size and argument.default is None else argument.name
        is_needed = argument.default is None or value != argument.default
        items.append(Item(Number((value,), argument.name), label, is_needed))
    return Group(name, tuple(items))


def differing(nodes: Sequence[Node], made: Made) -> list[str]:
    """Names of the modules in nodes that differ in more than numbers."""
    return [name for name in nodes[0].children if len({form(made[node.children[name]]) for node in nodes}) > 1]


def squeezed(made: Sequence[Expr]) -> tuple[Item, ...]:
    """Modules one after the other; three and more that are made alike in a short form."""
    items: list[Item] = []
    start = 0
    for place in range(1, len(made) + 1):
        if place == len(made) or made[place] != made[start]:
            times = place - start
            many = Item(Joined(("*(", made[start], f" for _ in range({times}))")))
            items += [many] if times >= 3 else [Item(expr) for expr in made[start:place]]
            start = place
    return tuple(items)


def documentation(text: str, indent: int) -> list[str]:
    """A docstring in lines."""
    space = " " * indent
    if len(text) + indent + 6 <= WIDTH:
        return [f'{space}"""{text}"""']
    # A little narrower, so that there are at least two lines if the quotes do not fit behind a single one.
    return [*textwrap.wrap(f'"""{text}', WIDTH - 3, initial_indent=space, subsequent_indent=space), f'{space}"""']


def _about(node: Node, name: str) -> str:
    """The docstring of a class: its own, or the list of its modules if that is short."""
    if node.about:
        return node.about
    parts = [in_a_word(child, in_prose=True) for child in node.children.values()]
    text = ", ".join(f"{count} x {part}" if count > 1 else part for part, count in Counter(parts).items())
    text = text if len(parts) > 5 else ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text and len(text) < 70 else f"{name}."


def _empty(tensor: Tensor) -> Expr:
    sizes: list[Expr] = [Number((size,), "shape") for size in tensor.shape] or ["()"]
    named = {} if tensor.dtype == torch.float32 else {"dtype": str(tensor.dtype)}
    return of_call("torch.zeros", *sizes, **named)
