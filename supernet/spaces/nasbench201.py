"""The space of NAS-Bench-201: 15,625 cells of four nodes, the same cell at every place of the network.

Weights begin as torch makes them, as in the benchmark. Marked as ours where the benchmark is silent: images of odd
size, which it does not have, are halved upwards.

References:
    Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search", ICLR 2020,
    section 2; the published code where the paper is silent.
"""

from __future__ import annotations

import ast
import re
from functools import partial
from typing import Any

from torch import Tensor, nn

from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.layers import Choose, Graph, Zero
from supernet.spaces.blocks import check_sizes, conv_norm, single_picks, space_of

NODES = 4
"""In a cell; the first is its input, the last its output."""

EDGES = tuple((source, node) for node in range(1, NODES) for source in range(node))
"""The six edges of a cell, from node to node, in the order of the benchmark's text."""

NAMES = tuple(f"edge{source}-{node}" for source, node in EDGES)
"""The choices: one for each edge."""

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""The operations of each edge, by the benchmark's names."""

_NASLIB = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
"""The operations in the order of NASLib's numbers. Its edges are in the order of their sources."""

_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
"""What the benchmark's text looks like, for messages."""

STAGES = 3
"""Numbers of channels: C, 2C and 4C."""


def nasbench201(
    channels: int = 16,
    cells_per_stage: int = 5,
    num_classes: int = 10,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    affine: bool = True,
) -> Space:
    """The cell space of NAS-Bench-201.

    An architecture is also read from the benchmark's own text, like ``|nor_conv_3x3~0|+|none~0|skip_connect~1|+...``,
    and from NASLib's six numbers, like ``(4, 0, 3, 1, 4, 0)``.

    Parameters are those that the benchmark publishes. Its FLOPs are multiply-adds like ours, and it counts the offsets
    of the classifier besides: its figure is ours plus `num_classes`. Neither counts batch norm or pooling.

    Args:
        channels: C, of the first of three stages; 16 in the benchmark.
        cells_per_stage: N, cells in each stage; 5 in the benchmark.
        num_classes: number of classes.
        input_shape: (C, H, W) of an image, in pixels.
        affine: whether batch norm has a scale and an offset; it has in the benchmark.

    Returns:
        The space; it has 15,625 architectures.

    Raises:
        ValueError: a size is not positive.
    """
    sizes = {"channels": channels, "cells_per_stage": cells_per_stage, "num_classes": num_classes}
    check_sizes(sizes, input_shape)
    settings: dict[str, Any] = {**sizes, "input_shape": input_shape, "affine": affine}
    return space_of("nasbench201", NasBench201Network, settings, _read, partial(canonical, complete=True), simplified)


def to_string(architecture: Architecture) -> str:
    """The benchmark's own text of an architecture: for each node its edges as ``operation~source``.

    Raises:
        ArchitectureError: the architecture is of another space, or no single option is picked somewhere.
    """
    nodes: dict[int, list[str]] = {}
    for (source, node), operation in zip(EDGES, single_picks(architecture, NAMES), strict=True):
        nodes.setdefault(node, []).append(f"{operation}~{source}")
    return "+".join(f"|{'|'.join(edges)}|" for edges in nodes.values())


def canonical(architecture: Architecture, *, complete: bool = False) -> str:
    """A text that architectures with the same function share, up to the values of weights.

    It writes out the sum that arrives at the last node. Zeros and skips leave no trace in it, and a convolution of
    zero counts as zero, as the benchmark has it; in truth batch norm's offset remains.

    Args:
        architecture: of this space.
        complete: False follows the benchmark and gives its 6,466 classes. It compares sums as text, and so does not
            see that a sum of zeros is zero, that (a + b) + c is a + (b + c), nor that the average pool of a sum is the
            sum of the average pools. True sees all three: 4,660 classes.

    Raises:
        ArchitectureError: the architecture is of another space, or no single option is picked somewhere.
    """
    nodes: list[list[str]] = [["0"], [], [], []]  # the terms of the sum at each node; the cell's input is "0"
    for (source, node), operation in zip(EDGES, single_picks(architecture, NAMES), strict=True):
        terms = sorted(nodes[source])
        if operation == "none" or terms in ([], ["#"]):
            nodes[node] += [] if complete else ["#"]
        elif operation == "skip_connect":
            nodes[node] += terms if complete else ["+".join(terms)]
        elif complete and operation == "avg_pool_3x3":
            nodes[node] += [f"({term})@{operation}" for term in terms]
        else:
            nodes[node].append(f"({'+'.join(terms)})@{operation}")
    return "+".join(sorted(nodes[3]))


def simplified(architecture: Architecture) -> Architecture:
    """The same function with ``none`` on each edge that nothing comes through or that leads nowhere.

    What such an edge holds is in the benchmark's number of parameters, and does nothing. As for `canonical`, a
    convolution of zeros counts as zero.

    Raises:
        ArchitectureError: the architecture is of another space, or no single option is picked somewhere.
    """
    picked = dict(zip(EDGES, single_picks(architecture, NAMES), strict=True))
    edges = [edge for edge, operation in picked.items() if operation != "none"]
    reached = {0}  # nodes that the cell's input comes to; edges are in the order of their nodes
    for source, node in edges:
        if source in reached:
            reached.add(node)
    leading = {3}  # nodes that something of the cell's output comes from
    for source, node in reversed(edges):
        if node in leading:
            leading.add(source)
    matter = {(source, node) for source, node in edges if source in reached and node in leading}
    return Architecture(
        tuple((name, (picked[edge] if edge in matter else "none",)) for edge, name in zip(EDGES, NAMES, strict=True))
    )


def _read(text: str) -> str:
    """A text of the benchmark or of NASLib in words CHOICE=OPTION; such words as they are.

    Raises:
        ArchitectureError: the text is none of these; the message shows the part of it.
    """
    text = text.strip()
    if "=" in text and "|" not in text:
        return text
    if match := re.fullmatch(r"(?:Structure\()?\d+ nodes with (\|.*\|)\)?", text):  # as the benchmark's code prints it
        text = match[1]
    picked = _picked_in_bars(text) if "|" in text else _picked_in_brackets(text)
    return " ".join(f"edge{source}-{node}={operation}" for (source, node), operation in picked.items())


def _picked_in_bars(text: str) -> dict[tuple[int, int], str]:
    """The operation of each edge in the benchmark's text."""
    nodes = text.split("+")
    if len(nodes) != NODES - 1:
        raise ArchitectureError(f"expected {_FORM}, with {NODES - 1} nodes between +; got {len(nodes)} in {text!r}")
    picked: dict[tuple[int, int], str] = {}
    for node, edges in enumerate(nodes, start=1):
        names = [edge.strip() for edge in edges.strip().strip("|").split("|")]
        for name in names:
            operation, _, source = name.partition("~")
            if operation not in OPERATIONS:
                raise ArchitectureError(f"{name!r}: expected an operation of {', '.join(OPERATIONS)}; got {text!r}")
            if source not in map(str, range(node)) or (int(source), node) in picked:
                break
            picked[int(source), node] = operation
        if len(names) != node or any((source, node) not in picked for source in range(node)):
            inputs = " and ".join(f"~{source}" for source in range(node))
            raise ArchitectureError(f"{edges.strip()!r}: expected one operation with each of {inputs}; got {text!r}")
    return picked


def _picked_in_brackets(text: str) -> dict[tuple[int, int], str]:
    """The operation of each edge in NASLib's six numbers, or in a list of nodes with pairs (operation, input)."""
    try:
        value = ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        value = None
    match value:
        case [*numbers] if len(numbers) == len(EDGES) and all(type(n) is int and 0 <= n < 5 for n in numbers):
            return {edge: _NASLIB[number] for edge, number in zip(sorted(EDGES), numbers, strict=True)}
        case [*nodes] if nodes and all(isinstance(node, (list, tuple)) for node in nodes):
            pairs = [[pair for pair in node if isinstance(pair, (list, tuple)) and len(pair) == 2] for node in nodes]
            bars = ("|".join(f"{operation}~{source}" for operation, source in node) for node in pairs)
            return _picked_in_bars("+".join(f"|{edges}|" for edges in bars))
    names = ", ".join(f"{number} {name}" for number, name in enumerate(_NASLIB))
    raise ArchitectureError(
        f"expected {_FORM}, or six numbers such as (4, 0, 3, 1, 4, 0) by NASLib's order ({names}); got {text!r}"
    )


class NasBench201Network(nn.Module):
    """Stem, three stages of cells with residual blocks between them, classifier. Arguments as for `nasbench201`."""

    def __init__(
        self, channels: int, cells_per_stage: int, num_classes: int, input_shape: tuple[int, int, int], affine: bool
    ) -> None:
        super().__init__()
        self.stem = conv_norm(input_shape[0], channels, 3, affine=affine)
        self.body = nn.Sequential()
        width = channels
        for stage in range(STAGES):
            if stage:
                self.body.append(_Halve(width, affine))
                width *= 2
            for _ in range(cells_per_stage):
                self.body.append(_cell(width, affine))
        self.head = nn.Sequential(
            nn.BatchNorm2d(width, affine=affine),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.stem(x)))
        return logits


def _cell(width: int, affine: bool) -> Graph:
    """Four nodes, each the sum of what its edges bring from all nodes before it; the last one is the output."""
    edges = {edge: Choose(name, _operations(width, affine)) for edge, name in zip(EDGES, NAMES, strict=True)}
    return Graph(edges, _of_two_pixels)


def _of_two_pixels(edge: nn.Module, like: Tensor) -> Tensor:
    """What an edge gives if nothing arrives at it: the same at every pixel (zeros, or batch norm's offset).

    It is computed for two pixels: two, since batch norm of a single number is refused.
    """
    y: Tensor = edge(like.new_zeros(*like.shape[:2], 1, 2))
    return y[..., :1]


class _Halve(nn.Module):
    """The residual block between two stages: half the resolution, twice the channels."""

    def __init__(self, width: int, affine: bool) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_relu_conv_norm(width, 2 * width, 3, affine, stride=2), *_relu_conv_norm(2 * width, 2 * width, 3, affine)
        )
        # Rounded upwards like the convolution, for images of odd size; for even ones it makes no difference.
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(width, 2 * width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.residual(x)
        return y


def _operations(width: int, affine: bool) -> dict[str, nn.Module]:
    """The benchmark's five operations by its names; all keep the size."""
    modules = (
        Zero(),
        nn.Identity(),
        _relu_conv_norm(width, width, 1, affine),
        _relu_conv_norm(width, width, 3, affine),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    )
    return dict(zip(OPERATIONS, modules, strict=True))


def _relu_conv_norm(
    channels_in: int, channels_out: int, kernel: int, affine: bool, *, stride: int = 1
) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), *conv_norm(channels_in, channels_out, kernel, stride=stride, affine=affine))
