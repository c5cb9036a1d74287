"""What is written of a network: a node for each module, with the statements of its forward pass."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from supernet.export.writing.expressions import Expr


@dataclass(frozen=True)
class Assign:
    """``name = of``."""

    name: str
    of: Expr


@dataclass(frozen=True)
class ForEach:
    """A loop over the modules of a list that carries the newest two outputs."""

    member: str
    attribute: str
    older: str
    newer: str
    swapped: bool


@dataclass(frozen=True)
class Return:
    """The end of a forward pass."""

    of: Expr


Statement = Assign | ForEach | Return


@dataclass(frozen=True, eq=False, kw_only=True)
class Node:
    """How a module is made and, if it is written as a class, what it does.

    Attributes:
        name: for a class of it.
        place: name of the class that holds it, and its attribute there.
        leaf: the module itself, if it is one of torch's.
        make: the expression that makes it, if it is a leaf.
        children: the modules in it by their names: attributes, and ``LIST.NUMBER`` in a list of modules.
        tensors: its own parameters and buffers by their attributes.
        inputs: arguments of its forward pass, and whether each is one tensor.
        body: statements of its forward pass; None for an ``nn.Sequential``.
        returns: type of the output.
        about: its description, for a docstring.
        halves: whether it lowers the resolution.
    """

    name: str
    place: tuple[str, str]
    leaf: nn.Module | None = None
    make: Expr = None
    children: dict[str, Node] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, bool] = field(default_factory=dict)
    body: list[Statement] | None = None
    returns: str = "Tensor"
    about: str = ""
    halves: bool = False

    def walk(self) -> Iterator[Node]:
        """The node and all in it, each before those in it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


_PARTS_OF_NAMES = {"BatchNorm": "Norm", "LayerNorm": "Norm", "ReLU": "Relu", "ReLU6": "Relu6"}
_WORDS = {"BatchNorm": "batch norm", "Conv": "convolution", "LayerNorm": "layer norm", "Linear": "linear layer"}


def in_a_word(node: Node, *, in_prose: bool = False) -> str:
    """The kind of a module in one word: for the name of a class, or for a sentence."""
    if node.leaf is None:
        return node.name or "block"
    name = re.sub(r"\dd$", "", type(node.leaf).__name__)
    return (_WORDS if in_prose else _PARTS_OF_NAMES).get(name, name)
