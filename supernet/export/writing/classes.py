"""Which modules of a network become one class, and all classes as text."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from supernet.export.writing.arguments import parameters_of
from supernet.export.writing.defining import Made, define, differing, squeezed
from supernet.export.writing.expressions import Expr, Group, Number, form, leaves, merged
from supernet.export.writing.naming import beginning
from supernet.export.writing.nodes import ForEach, Node, Statement

ARGUMENTS = 5
"""An ``nn.Sequential`` that would need more arguments is not made a class."""


def write_classes(root: Node, taken: set[str]) -> tuple[str, str]:
    """All classes of a network as text, and the name of its own, which is the last.

    Args:
        root: the network.
        taken: names that classes must not have.
    """
    heights = _heights(root)
    made: dict[Node, Expr] = {node: node.make for node in root.walk() if node.leaf is not None}
    texts: dict[str, str] = {}
    for height in sorted(set(heights.values())):
        level = [node for node in root.walk() if heights[node] == height and node.leaf is None]
        for nodes in _alike(level, made):
            if _stays_sequential(nodes, root, made):
                made |= {node: _sequential(node, made) for node in nodes}
            else:
                name = _class_name(nodes, taken | set(texts), nodes[0] is root)
                texts[name], makes = define(name, nodes, made)
                made |= dict(zip(nodes, makes, strict=True))
    return "\n\n\n".join(texts.values()), list(texts)[-1]


def _heights(root: Node) -> dict[Node, int]:
    """For each node a number above those in it, and the same number for nodes that may become one class."""
    inner_first = list(root.walk())[::-1]
    alike: dict[Any, list[Node]] = {}
    for node in inner_first:
        if node.body is not None:
            alike.setdefault(_form_of_class(node), []).append(node)
    heights = dict.fromkeys(inner_first, 0)
    for _ in range(len(alike) + 2):
        before = dict(heights)
        for node in inner_first:
            inside = max((heights[child] for child in node.children.values()), default=0)
            heights[node] = max(heights[node], 1 + inside)
        for nodes in alike.values():
            heights |= dict.fromkeys(nodes, max(heights[node] for node in nodes))
        if heights == before:
            return heights
    for node in inner_first:  # a node holds another one of its form: then each is a class by itself
        heights[node] = 1 + max((heights[child] for child in node.children.values()), default=0)
    return heights


def _alike(nodes: Sequence[Node], made: Made) -> Iterator[list[Node]]:
    """Groups of nodes that can become one class each."""
    groups: dict[Any, list[Node]] = {}
    for node in nodes:
        key = form(_sequential(node, made)) if node.body is None else _form_of_class(node)
        groups.setdefault(key, []).append(node)
    for group in groups.values():
        yield from _split(group, made)


def _form_of_class(node: Node) -> Any:
    """What nodes with a forward pass must have in common to be one class."""
    tensors = tuple(
        (name, tensor.dtype, tensor.ndim, isinstance(tensor, nn.Parameter)) for name, tensor in node.tensors.items()
    )
    body = tuple(map(_form_of_statement, node.body or ()))
    return node.name, tuple(node.children), tensors, tuple(node.inputs.items()), body, node.returns


def _form_of_statement(statement: Statement) -> Any:
    if isinstance(statement, ForEach):
        return statement
    return statement.__class__, getattr(statement, "name", ""), form(statement.of)


def _split(nodes: list[Node], made: Made) -> list[list[Node]]:
    """Nodes with the same forward pass as one class, or as several if too much in them differs.

    One or two modules that differ become arguments, if they are less than half of all modules.
    """
    names = differing(nodes, made)
    if len(names) <= 2 and 2 * len(names) < len(nodes[0].children):
        return [nodes]
    groups: dict[Any, list[Node]] = {}
    for node in nodes:
        groups.setdefault(tuple(form(made[child]) for child in node.children.values()), []).append(node)
    return list(groups.values())


def _stays_sequential(nodes: Sequence[Node], root: Node, made: Made) -> bool:
    """Whether nodes are written as ``nn.Sequential`` at their place: if they have one place, or many arguments."""
    if nodes[0].body is not None or nodes[0] is root:
        return False
    together = merged([_sequential(node, made) for node in nodes])
    numbers = [leaf for leaf in leaves(together) if isinstance(leaf, Number)]
    return len({node.place for node in nodes}) == 1 or len(parameters_of(numbers)) > ARGUMENTS


def _sequential(node: Node, made: Made) -> Group:
    return Group("nn.Sequential", squeezed([made[child] for child in node.children.values()]))


def _class_name(nodes: Sequence[Node], taken: set[str], is_root: bool) -> str:
    names = Counter(node.name for node in nodes)
    name = names.most_common(1)[0][0] or "Network"
    if len(names) > 1:  # options that differ only in sizes, like sep3x3 and sep5x5
        common = "".join(beginning(list(names))).rstrip("0123456789_")
        name = common if len(common) > 2 else name
    reserved = {"Tensor", "F", "Sequential", *dir(builtins)}
    if is_root and name in taken:
        name += "Network"
    if name in taken | reserved and all(node.halves for node in nodes):
        name = f"Down{name}"
    free, number = name, 2
    while free in taken | reserved:
        free, number = f"{name}{number}", number + 1
    return free
