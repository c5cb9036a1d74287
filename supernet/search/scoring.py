"""Scores of architectures with the weights of the one-shot model.

References:
    Bender et al., ICML 2018, section 3.3 (scores), section 5 (divergence from the reference outputs).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.trees import in_full_precision, join_rows, rows, take_rows
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.search.reuse import in_line, outputs
from supernet.space.choices import Architecture, Space
from supernet.space.layers import OneShot
from supernet.speed.quick import quick
from supernet.speed.runtime import Runtime
from supernet.train import paths

TOGETHER = 2048
"""Examples that are scored between two looks at the clock at first, over the architectures scored together."""

PROBES = 2
"""Groups of that size for each core, after which the time of an architecture is taken as known."""

SECONDS = 1.0
"""Time between two looks at the clock that is aimed at then, for more architectures together have more in common."""

REFERENCE_RATE = 1e-8
"""Dropout rate at which reference architectures are drawn: almost everything on (paper, section 5)."""


def in_whole_ghost_batches(examples: Any, ghost_size: int) -> int:
    """How many of the examples are scored: those that fill ghost batches."""
    return rows(examples) // ghost_size * ghost_size


def score(
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    *,
    runtime: Runtime,
    loss: Loss = F.cross_entropy,
    metric: Metric = accuracy,
    ghost_size: int = 32,
    ghosts_per_forward: int | None = None,
) -> Iterator[tuple[float, float]]:
    """Scores architectures with the weights of the one-shot model, one after the other.

    Every architecture sees the same examples in the same ghost batches, with the statistics of each ghost batch. The
    examples that do not fill a last ghost batch are left out. Weights, buffers and the mode of the model stay as they
    are, so no score depends on another.

    Args:
        model: the one-shot model.
        architectures: what to score, in this order.
        examples: N examples on the model's device.
        targets: their targets, for instance classes, int64 [N].
        runtime: device and precision.
        loss: of outputs and targets, the mean over examples.
        metric: of the outputs and targets of all examples at once; more is better.
        ghost_size: examples that share batch statistics.
        ghosts_per_forward: ghost batches in one forward pass; see `SearchConfig`.

    Yields:
        Metric (by default accuracy, 0 to 1) and mean loss (cross-entropy, in nats) of each architecture.

    Raises:
        ValueError: fewer examples than one ghost batch, or outputs that the metric cannot be taken of.
    """
    everything = take_rows(targets, slice(in_whole_ghost_batches(examples, ghost_size)))
    for output, mean_loss in outputs_of(
        model, architectures, examples, targets, loss, ghost_size, ghosts_per_forward, runtime
    ):
        yield number_of(metric, output, everything), mean_loss


def outputs_of(
    model: OneShot,
    architectures: Sequence[Architecture],
    examples: Any,
    targets: Any,
    loss: Loss,
    ghost_size: int,
    ghosts_per_forward: int | None,
    runtime: Runtime,
) -> Iterator[tuple[Any, float]]:
    """Outputs for all examples, and the mean loss, of each architecture; see `score`.

    Architectures that follow each other are taken together, which changes no result; see `supernet.search.reuse`.
    """
    ghosts = rows(examples) // ghost_size
    if ghosts == 0:
        raise ValueError(f"expected at least {ghost_size} examples, one ghost batch; got {rows(examples)}")
    per_forward = runtime.ghosts_per_forward(ghosts_per_forward, ghosts)
    parts = [
        slice(first * ghost_size, min(first + per_forward, ghosts) * ghost_size)
        for first in range(0, ghosts, per_forward)
    ]

    took = [math.inf]  # seconds for each architecture

    def run_group(group: Sequence[Architecture]) -> list[tuple[Any, float]]:
        began = time.monotonic()
        lives = [model.space.live([architecture]) for architecture in group]
        found: list[list[Any]] = [[] for _ in group]
        view, line = in_line(runner)
        with torch.no_grad():  # inference mode would not say whether something was written into a tensor
            with runtime.autocast():  # once: the weights in half precision are kept
                for part in parts:
                    here = [live.expand((part.stop - part.start) // ghost_size, -1) for live in lives]
                    for each, output in zip(found, outputs(view, line, take_rows(examples, part), here), strict=True):
                        each.append(in_full_precision(output))
            result = [(join_rows(each), mean_loss(each)) for each in found]
        took.append((time.monotonic() - began) / len(group))
        return result

    def mean_loss(found: Sequence[Any]) -> float:
        total = 0.0
        for part, output in zip(parts, found, strict=True):
            total += float(loss(output, take_rows(targets, part))) * (part.stop - part.start)
        return total / (ghosts * ghost_size)

    training = model.training
    model.eval()
    runner = cast(OneShot, quick(model, runtime.tuning))
    size = max(1, TOGETHER // (ghosts * ghost_size))
    first = PROBES * size * runtime.threads
    try:
        with runtime.workers() as run:
            for results in run(run_group, _split(architectures[:first], size)):
                yield from results
            size = max(size, min(int(SECONDS / min(took)), len(architectures) // (PROBES * size * runtime.threads)))
            for results in run(run_group, _split(architectures[first:], size)):
                yield from results
    finally:
        model.train(training)


def _split(architectures: Sequence[Architecture], size: int) -> list[Sequence[Architecture]]:
    return [architectures[i : i + size] for i in range(0, len(architectures), size)]


def references(space: Space, number: int, *, generator: torch.Generator) -> list[Architecture]:
    """Reference architectures: options dropped at `REFERENCE_RATE`, so almost everything is on (paper, section 5).

    In general they are no members of the space. The paper does not say how many it draws.
    """
    config = paths.PathsConfig(rate=REFERENCE_RATE, schedule="constant")
    live = paths.draw(space, config, number, 1.0, generator=generator).tolist()
    return [
        Architecture(
            tuple((c.name, tuple(o for o in c.options if row[space.columns[c.name, o]])) for c in space.choices)
        )
        for row in live
    ]


def reference_outputs(
    model: OneShot, examples: Any, reference: Sequence[Architecture], *, runtime: Runtime, ghost_size: int = 32
) -> Tensor:
    """What the one-shot model says of examples with almost everything on; no labels are needed.

    Returns:
        Logarithms of the R references' class probabilities, [N, R, classes], N in whole ghost batches.

    Raises:
        ValueError: fewer examples than one ghost batch, or outputs that are no classes.
    """
    found = outputs_of(model, reference, examples, None, _nothing, ghost_size, None, runtime)
    each = [output for output, _ in found]
    if not all(isinstance(output, Tensor) and output.ndim == 2 for output in each):
        raise ValueError("divergence: expected a network whose outputs are classes, [N, classes]")
    return torch.stack([F.log_softmax(output, 1) for output in each], 1)


def divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Symmetrised Kullback-Leibler divergence D(p|q) + D(q|p) in nats, mean over examples and references.

    Paper, section 5, where it is the sum of both; the mean over several references is ours.

    Args:
        outputs: before softmax, [N, classes].
        reference: of `reference_outputs`, [N, R, classes].
    """
    q = F.log_softmax(outputs, 1)[:, None]
    return ((reference.exp() - q.exp()) * (reference - q)).sum(2).mean()


def closeness(outputs: Tensor, reference: Tensor) -> float:
    """The negative `divergence`: a metric that needs no labels. More is better."""
    return -float(divergence(outputs, reference))


def _nothing(outputs: Any, targets: Any) -> Tensor:
    return torch.zeros(())


UNLABELLED = 64
"""Training examples for the divergence from the reference outputs (paper, section 5)."""
