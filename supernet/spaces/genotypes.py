"""Texts of architectures of DARTS, in the forms that circulate, as words CHOICE=OPTION.

The forms are the published code's ``Genotype(...)``, also as ``NAME = Genotype(...)``; its two lists of pairs alone;
the configuration of NAS-Bench-301 (a dict with ``edge_normal_0`` and so on); and NASLib's numbers, two lists of pairs
of an input and the place of an operation among those without ``none``.

References:
    Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019; Zela et al., "Surrogate NAS
    Benchmarks: Going Beyond the Limited Search Spaces of Tabular NAS Benchmarks", ICLR 2022; the published code of
    both, and of NASLib.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from supernet.space.choices import ArchitectureError

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations on an input of a node, in the order and by the names of the published code."""

KINDS = ("normal", "reduce")
"""The two kinds of cells; a reduction cell halves the resolution."""

NODES = 4
"""Nodes of a cell. Inputs 0 and 1 are the outputs of the two cells before it, input 2 is its first node, and so on."""

PICKED = 2
"""Inputs that a node takes."""

_PAIRS = NODES * PICKED

_ALL_NODES = range(2, 2 + NODES)

_FORMS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6)) "
    f"with {_PAIRS} pairs in each list, or the two lists alone"
)
"""What a text may look like, for messages."""


def read_genotype(text: str) -> str:
    """A text of an architecture as words CHOICE=OPTION; nothing in it is run.

    Raises:
        ArchitectureError: the text has none of the forms, or a node has not two inputs with an operation each; the
            message shows the part of the text.
    """
    words = []
    for kind, pairs in _cells(text).items():
        for node in range(NODES):
            words += _words(kind, node, pairs[PICKED * node : PICKED * (1 + node)])
    return " ".join(words)


def _words(kind: str, node: int, pairs: Sequence[Any]) -> list[str]:
    """The choices of one node."""
    operations: dict[int, str] = {}
    for pair in pairs:
        match pair:
            case (str(operation), int(source)) | (int(source), str(operation)):
                operations[source] = operation
            case (int(source), int(place)) if 0 <= place < len(OPERATIONS) - 1:
                operations[source] = OPERATIONS[1 + place]
    inputs = 2 + node
    fits = all(source in range(inputs) and name in OPERATIONS for source, name in operations.items())
    if len(operations) != PICKED or not fits:
        raise ArchitectureError(
            f"{kind}, pairs {PICKED * node + 1} and {PICKED * (1 + node)}: expected {PICKED} pairs of an operation and "
            f"its input, with different inputs from 0 to {inputs - 1} and operations of {', '.join(OPERATIONS)}; got "
            f"{list(pairs)}"
        )
    name = f"{kind}.node{1 + node}"
    picked = "+".join(map(str, operations))
    return [f"{name}.inputs={picked}", *(f"{name}.op{i}={operation}" for i, operation in operations.items())]


def _cells(text: str) -> dict[str, list[Any]]:
    """The pairs of each kind of cell."""
    try:
        parts = _parts(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        parts = None
    if not isinstance(parts, Mapping) or not {*KINDS} <= set(parts):
        raise ArchitectureError(f"expected {_FORMS}; got {text!r}")
    cells = {}
    for kind in KINDS:
        if parts.get(f"{kind}_concat", _ALL_NODES) not in (_ALL_NODES, tuple(_ALL_NODES), list(_ALL_NODES)):
            raise ArchitectureError(f"{kind}_concat: expected range(2, {2 + NODES}), which is all nodes of a cell")
        pairs = parts[kind]
        if isinstance(pairs, (list, tuple)) and len(pairs) == NODES and all(map(_is_node, pairs)):
            pairs = [pair for node in pairs for pair in node]
        if not isinstance(pairs, (list, tuple)) or len(pairs) != _PAIRS:
            raise ArchitectureError(f"{kind}: expected a list of {_PAIRS} pairs, {PICKED} for each node; got {pairs}")
        cells[kind] = list(pairs)
    return cells


def _is_node(value: Any) -> bool:
    """Whether a value is a list of pairs, and not a pair itself."""
    return isinstance(value, (list, tuple)) and all(isinstance(pair, (list, tuple)) for pair in value)


def _parts(text: str) -> Mapping[str, Any] | None:
    """The lists of a text by their names; None if it has none of the forms."""
    (statement,) = ast.parse(text.strip()).body
    match statement:
        case ast.Assign(targets=[ast.Name()], value=value) | ast.Expr(value=value):
            pass
        case _:
            return None
    match value:
        case ast.Call(func=ast.Name(id="Genotype") | ast.Attribute(attr="Genotype"), args=places, keywords=keywords):
            names = [*("normal", "normal_concat", "reduce", "reduce_concat")[: len(places)], *(k.arg for k in keywords)]
            values = [_value(node) for node in (*places, *(k.value for k in keywords))]
            # A name that is there twice, or more places than names, is a mistake.
            parts = dict(zip(map(str, names), values, strict=True))
            return parts if len(parts) == len(names) else None
    match ast.literal_eval(value):
        case [normal, reduce]:
            return {"normal": normal, "reduce": reduce}
        case dict(parts):
            return parts if "normal" in parts else _of_configuration(parts)
    return None


def _value(node: ast.expr) -> Any:
    """What a literal stands for, or a range of numbers."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=ends, keywords=[]):
            return range(*map(ast.literal_eval, ends))
    return ast.literal_eval(node)


def _of_configuration(parts: Mapping[Any, Any]) -> dict[str, list[Any]]:
    """The pairs of NAS-Bench-301's configuration, whose edges are numbered through all nodes of a cell."""
    values = {str(name).rpartition(":")[2]: value for name, value in parts.items()}
    cells: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for kind in KINDS:
        first = 0
        for inputs in range(2, 2 + NODES):
            taken = str(values.get(f"inputs_node_{kind}_{inputs}", "_".join(map(str, range(inputs))))).split("_")
            edges = [(values.get(f"edge_{kind}_{first + i}"), i) for i in range(inputs) if str(i) in taken]
            cells[kind] += [pair for pair in edges if pair[0] is not None]
            first += inputs
    return cells
