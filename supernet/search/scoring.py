"""Scores of architectures with the weights of the one-shot model.

References:
    Bender et al., ICML 2018, section 3.3 (scores), section 5 (divergence from the reference outputs).
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.progress import Watch
from supernet.base.randomness import seeded
from supernet.base.trees import in_full_precision, join_rows, map_tensors, rows, take_rows, tensors
from supernet.data.task import Loss, Metric, accuracy, number_of
from supernet.search.reuse import Line, in_line, outputs
from supernet.search.table import packed
from supernet.space.choices import Architecture, Space
from supernet.space.layers import OneShot
from supernet.space.probe import traits_of
from supernet.speed.pool import Failure, Job, Pool, Task, parts_of
from supernet.speed.quick import quick
from supernet.speed.runtime import Runtime
from supernet.train import paths

_TOGETHER = 2048
"""Examples, over the architectures scored together, between two looks at the clock at first."""

_PROBES = 2
"""Groups of that size for each core, from which the seconds for an architecture are measured."""

_BATCH_SECONDS = 2.0
"""Intended time for a batch of a worker: a worker that dies costs a batch."""

SECONDS = 1.0
"""Intended time between two looks at the clock afterwards: more architectures together have more in common."""

_REFERENCE_RATE = 1e-8
"""Dropout rate at which reference architectures are drawn: almost everything on (paper, section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How candidates are evaluated: with which weights, on which examples, by which figures.

    Every candidate sees the same examples in the same ghost batches, with the statistics of each ghost batch.

    Attributes:
        model: the one-shot model, on the runtime's device.
        examples: N examples, on the same device. Those that do not fill a last ghost batch are left out.
        targets: their targets, for instance classes, int64 [N].
        runtime: device, precision and threads.
        loss: of outputs and targets, the mean over examples.
        metric: of the outputs and targets of all examples at once; more is better.
        ghost_size: examples that share batch statistics.
        ghosts_per_forward: ghost batches in one forward pass; see `supernet.search.config.SearchConfig`.
        held: names the evaluation among workers, which keep it; its parts and variants have the same one.
    """

    model: OneShot
    examples: Any
    targets: Any
    runtime: Runtime
    loss: Loss = F.cross_entropy
    metric: Metric = accuracy
    ghost_size: int = 32
    ghosts_per_forward: int | None = None
    held: object = field(default_factory=object, compare=False, repr=False)

    @property
    def count(self) -> int:
        """The number of examples in whole ghost batches."""
        return rows(self.examples) // self.ghost_size * self.ghost_size

    @property
    def adds_up(self) -> bool:
        """Whether the metric is a mean over examples, so that a score on more of them can go on from fewer."""
        return self.metric is accuracy and isinstance(self.targets, Tensor) and self.targets.ndim == 1

    def part(self, first: int, last: int) -> Evaluation:
        """The same on the examples from `first` to below `last`."""
        these = slice(first, last)
        return replace(self, examples=take_rows(self.examples, these), targets=take_rows(self.targets, these))


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

    Args:
        architectures: what to score, in this order.

    The others are the attributes of an `Evaluation`; see also `values_of`.
    """
    evaluation = Evaluation(
        model=model, examples=examples, targets=targets, runtime=runtime, loss=loss, metric=metric,
        ghost_size=ghost_size, ghosts_per_forward=ghosts_per_forward,
    )  # fmt: skip
    return values_of(evaluation, architectures)


def values_of(evaluation: Evaluation, architectures: Sequence[Architecture]) -> Iterator[tuple[float, float]]:
    """Evaluates architectures, one after the other.

    Weights, buffers and the mode of the model stay as they are, so no value depends on another architecture.

    Yields:
        Metric (by default accuracy, 0 to 1) and mean loss (cross-entropy, in nats) of each architecture.

    Raises:
        ValueError: fewer examples than one ghost batch, or outputs that the metric cannot be computed from.
    """
    for outcome in outcomes_of(evaluation, architectures):
        yield outcome.value, outcome.loss


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an evaluation of an architecture gives.

    Attributes:
        value: what the metric says; the least float if the architecture could not be evaluated.
        loss: mean over examples.
        right: if the metric adds up: which examples are right; see `supernet.search.table.packed`.
        error: why it could not be evaluated, in a line; None if it could.
    """

    value: float
    loss: float
    right: bytes | None = None
    error: str | None = None


def outcomes_of(
    evaluation: Evaluation, architectures: Sequence[Architecture], first: int = 0, last: int | None = None
) -> Iterator[Outcome]:
    """Evaluates architectures on the examples from `first` to below `last` (None: all); workers share them if any.

    Raises:
        ValueError: as `values_of`.
    """
    _passes(evaluation)  # it refuses too few examples
    last = evaluation.count if last is None else last
    if evaluation.runtime.pool is not None:
        yield from _outcomes_of_workers(evaluation, evaluation.runtime.pool, architectures, first, last)
        return
    part = evaluation.part(first, last)
    for output, mean_loss in outputs_of(part, architectures):
        value = number_of(part.metric, output, part.targets)  # it refuses outputs that do not fit the targets
        right = packed((output.argmax(1) == part.targets).cpu().numpy()) if part.adds_up else None
        yield Outcome(value, mean_loss, right)


def _outcomes_of_workers(
    evaluation: Evaluation, pool: Pool, architectures: Sequence[Architecture], first: int, last: int
) -> Iterator[Outcome]:
    """The same in batches. One whose workers die again and again is divided, to tell which architecture it is."""
    precision = evaluation.runtime.tuning.precision
    make = partial(_in_worker, replace(evaluation, runtime=cast(Runtime, None), held=None))
    seconds = math.inf  # for an architecture

    def task(group: Sequence[Architecture]) -> Task:
        parts = partial(map, task, [[architecture] for architecture in group]) if len(group) > 1 else None
        return Task((precision, first, last, list(group)), parts=parts)

    def tasks() -> Iterator[Task]:
        start, size = 0, max(1, _TOGETHER // (last - first))
        while start < len(architectures):  # the last batches are small, so that all workers end at about one time
            size = size if math.isinf(seconds) else max(1, int(_BATCH_SECONDS / seconds))
            number = min(size, -(-(len(architectures) - start) // (2 * pool.size)))
            yield task(architectures[start : start + number])
            start += number

    failed = Outcome(
        -sys.float_info.max, math.inf, packed(np.zeros(last - first, bool)) if evaluation.adds_up else None
    )
    for result in pool.run(evaluation.held, make, tasks()):
        for part in parts_of(result):
            if isinstance(part, Failure):
                yield replace(failed, error=part.error)
            else:
                spent, outcomes = part
                seconds = min(seconds, spent)
                yield from outcomes


def _in_worker(evaluation: Evaluation, runtime: Runtime) -> Job:
    """What a worker does with a batch: returns the seconds for an architecture, and the outcomes."""
    evaluation.model.to(runtime.device)  # in the layout that it came in
    to_device = partial(map_tensors, function=lambda tensor: tensor.to(runtime.device))
    evaluation = replace(
        evaluation, examples=to_device(evaluation.examples), targets=to_device(evaluation.targets), runtime=runtime
    )
    in_single_precision = replace(evaluation, runtime=runtime.in_single_precision())

    def job(arguments: Any, folder: Path | None, watch: Watch) -> tuple[float, list[Outcome]]:
        precision, first, last, group = arguments
        began = time.monotonic()
        same = evaluation if precision == runtime.tuning.precision else in_single_precision
        outcomes = list(outcomes_of(same, group, first, last))
        return (time.monotonic() - began) / len(group), outcomes

    return job


def outputs_of(evaluation: Evaluation, architectures: Sequence[Architecture]) -> Iterator[tuple[Any, float]]:
    """Outputs for all examples, and the mean loss, of each architecture; see `values_of`.

    Architectures that follow each other are taken together, which changes no result; see `supernet.search.reuse`.
    """
    passes = _passes(evaluation)
    model, runtime = evaluation.model, evaluation.runtime
    traits = traits_of(model)
    if runtime.threads > 1 and traits.keeps[1] is not None:  # candidates side by side would meet there
        runtime = runtime.one_thread()
    training = model.training
    model.eval()
    runner = cast(OneShot, quick(model, runtime.tuning))
    of_thread = threading.local()

    def evaluate(group: Sequence[Architecture]) -> tuple[float, list[tuple[Any, float]]]:
        began = time.monotonic()
        if not hasattr(of_thread, "line"):
            of_thread.line = (runner, None) if traits.draws[1] else in_line(runner)
        outcomes = _outcomes(evaluation, of_thread.line, passes, group)
        return (time.monotonic() - began) / len(group), outcomes

    size = max(1, _TOGETHER // evaluation.count)
    probes = _PROBES * size * runtime.threads
    seconds = math.inf  # for an architecture
    try:
        with runtime.workers() as run:
            for spent, outcomes in run(evaluate, _split(architectures[:probes], size)):
                seconds = min(seconds, spent)
                yield from outcomes
            size = max(size, min(int(SECONDS / seconds), len(architectures) // probes))
            for _, outcomes in run(evaluate, _split(architectures[probes:], size)):
                yield from outcomes
    finally:
        model.train(training)


def _passes(evaluation: Evaluation) -> list[slice]:
    """The examples of each forward pass."""
    size = evaluation.ghost_size
    ghosts = evaluation.count // size
    if ghosts == 0:
        raise ValueError(f"expected at least {size} examples, one ghost batch; got {rows(evaluation.examples)}")
    per_forward = evaluation.runtime.ghosts_per_forward(evaluation.ghosts_per_forward, ghosts)
    return [slice(first * size, min(first + per_forward, ghosts) * size) for first in range(0, ghosts, per_forward)]


def _outcomes(
    evaluation: Evaluation,
    view_and_line: tuple[OneShot, Line | None],
    passes: Sequence[slice],
    group: Sequence[Architecture],
) -> list[tuple[Any, float]]:
    """Outputs and mean loss of each architecture of a group, which share what they have in common.

    Args:
        view_and_line: of a view of the model for this machine, for this thread; no line for a network that draws random
            numbers, of which each architecture gets the same ones.
    """
    view, line = view_and_line
    lives = [view.space.live([architecture]) for architecture in group]
    outputs_by_pass: list[list[Any]] = [[] for _ in group]
    with torch.no_grad():  # inference mode would not say whether something was written into a tensor
        with evaluation.runtime.autocast():  # once: the weights in half precision are kept
            for part in passes:
                expanded = [live.expand((part.stop - part.start) // evaluation.ghost_size, -1) for live in lives]
                examples = take_rows(evaluation.examples, part)
                if line is None:
                    passed = _seeded_outputs(view, examples, expanded, part.start)
                else:
                    passed = outputs(view, line, examples, expanded)
                for collected, output in zip(outputs_by_pass, passed, strict=True):
                    collected.append(in_full_precision(output))
        return [(join_rows(parts), _mean_loss(evaluation, passes, parts)) for parts in outputs_by_pass]


def _seeded_outputs(model: OneShot, examples: Any, lives: Sequence[Tensor], first: int) -> Iterator[Any]:
    """Outputs for the same examples of one candidate after the other, each with the same random numbers."""
    for live in lives:
        with seeded(next(tensors(examples)).device, 0, "score", first):
            output = model(examples, live)
        yield output


def _mean_loss(evaluation: Evaluation, passes: Sequence[slice], outputs: Sequence[Any]) -> float:
    total = 0.0
    for part, output in zip(passes, outputs, strict=True):
        total += float(evaluation.loss(output, take_rows(evaluation.targets, part))) * (part.stop - part.start)
    return total / evaluation.count


def _split(architectures: Sequence[Architecture], size: int) -> list[Sequence[Architecture]]:
    return [architectures[i : i + size] for i in range(0, len(architectures), size)]


def references(space: Space, number: int, *, generator: torch.Generator) -> list[Architecture]:
    """Reference architectures: options dropped at `_REFERENCE_RATE`, so almost everything is on (paper, section 5).

    In general they are no members of the space. The paper does not say how many it draws.
    """
    config = paths.PathsConfig(rate=_REFERENCE_RATE, schedule="constant")
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
    evaluation = Evaluation(
        model=model, examples=examples, targets=None, runtime=runtime, loss=_no_loss, ghost_size=ghost_size
    )
    outputs = [output for output, _ in outputs_of(evaluation, reference)]
    if not all(isinstance(output, Tensor) and output.ndim == 2 for output in outputs):
        raise ValueError("divergence: expected a network whose outputs are classes, [N, classes]")
    return torch.stack([F.log_softmax(output, 1) for output in outputs], 1)


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


def _no_loss(outputs: Any, targets: Any) -> Tensor:
    return torch.zeros(())


UNLABELLED = 64
"""Training examples for the divergence from the reference outputs (paper, section 5)."""
