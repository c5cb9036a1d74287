"""A stand-alone network as Python code that needs torch only, with classes as a person would have written them.

The modules that `supernet.export.writing.tracing` recorded become classes; `nn.Sequential` and modules of torch are
made as they were. Classes that differ only in sizes are one class with arguments. What does nothing is left out:
identities, terms that are zero, and modules whose outputs are not read. Choices give the code its names, so that the
text of the architecture can be found in it again.

The way: tracing records the calls, planning makes a node of each module, classes groups the nodes and writes them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from supernet.export.writing.classes import write_classes
from supernet.export.writing.nodes import Node
from supernet.export.writing.planning import Planner, is_imported
from supernet.export.writing.tracing import UnwritableError, arguments_of, is_of_torch, leaves_of, needed, trace


@dataclass(frozen=True)
class Written:
    """A network as code.

    Attributes:
        code: the classes; the last one is the network. They need ``torch``, ``Tensor``, ``nn`` and ``functional as F``.
        name: of the network's class.
        tensors: parameters and buffers by their names in it.
        imported: classes of the user that the code needs as well.
    """

    code: str
    name: str
    tensors: dict[str, Tensor]
    imported: tuple[type[nn.Module], ...] = ()


def write(network: nn.Module, inputs: Any, names: Mapping[str, tuple[str, str]] | None = None) -> Written:
    """A stand-alone network as code, with the tensors that belong to it.

    Args:
        network: of `supernet.build(space, architecture)`, or any other module.
        inputs: at least three examples.
        names: for modules that are options of a choice, by their paths: their name and that of the option; see
            `option_names`.

    Raises:
        UnwritableError: the network cannot be written out; the message says why.
    """
    paths = {id(module): path for path, module in network.named_modules()}
    named = {key: names[path] for key, path in paths.items() if path in names} if names else {}
    root = _planned(network, inputs, named)
    leaves = [node.leaf for node in root.walk() if node.leaf is not None and is_imported(node.leaf)]
    imported = tuple(dict.fromkeys(type(leaf) for leaf in leaves))
    code, name = write_classes(root, {kind.__name__ for kind in imported})
    return Written(code, name, dict(_tensors(root)), imported)


def _planned(network: nn.Module, inputs: Any, named: Mapping[int, tuple[str, str]]) -> Node:
    """The nodes of a network. A user's module that cannot be written as code is a leaf, which is imported."""
    leaves = leaves_of(network)
    while True:
        try:
            return Planner(trace(network, inputs, leaves), leaves, named).node(network, ("", ""))
        except UnwritableError as error:
            culprit = error.module
            if culprit is None or culprit is network or is_of_torch(culprit) or id(culprit) in leaves:
                raise
            for module in network.modules():
                arguments = arguments_of(module) if type(module) is type(culprit) else None
                if arguments is not None:
                    leaves[id(module)] = arguments, needed(module, arguments)
            if id(culprit) not in leaves:
                hint = "; it could be imported if each argument of its __init__ were an attribute of the same name"
                raise UnwritableError(f"{error}{hint}", culprit) from error


def import_of(kind: type[nn.Module]) -> tuple[str, Path | None]:
    """The line that imports a user's class, and the folder that must be on the path; None if it is installed."""
    file = Path(inspect.getfile(kind)).resolve()
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    if installed:
        return f"from {kind.__module__} import {kind.__name__}", None
    return f"from {file.stem} import {kind.__name__}", file.parent


def _tensors(node: Node, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    tensors = node.tensors if node.leaf is None else node.leaf.state_dict()
    for name, tensor in tensors.items():
        yield prefix + name, tensor.detach()
    for name, child in node.children.items():
        yield from _tensors(child, f"{prefix}{name}.")
