"""Step 2, training: `fit`, the only training loop, for the one-shot model and for stand-alone networks alike.

A batch consists of ghost batches. Each has its own live options (one-shot model) and its own batch statistics; the
optimiser takes one step for all of them.

Ours where the paper's text is silent: the learning rate's course, the decay's coefficient, no decay of scales and
offsets, clipping.

References:
    Bender et al., ICML 2018, section 3.2.
"""

from __future__ import annotations

import inspect
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.files import write_atomically
from supernet.base.progress import Interrupted, Progress
from supernet.base.randomness import draws_at_random, seeded
from supernet.base.trees import rows, take_rows
from supernet.space.layers import Elastic
from supernet.space.model import OneShot, picks_of
from supernet.space.network import call, parameters_inside
from supernet.space.values import axis_slices
from supernet.speed.quick import has_only_norms_to_remember, quick, quick_in_training
from supernet.speed.runtime import Runtime

Batch = tuple[Any, Any]
"""Examples and targets: each a tensor, or a tuple, list or dict of tensors, with the examples along the first axis."""


class Diverged(ValueError):
    """The loss or the gradient is no number any more; the last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, of the one-shot model or of a stand-alone network."""

    epochs: float = 225.0
    """Passes over the training examples (the paper: 225 for the one-shot model, 300 for the final networks)."""

    steps: int | None = None
    """Steps of the optimiser; where given, in place of `epochs`."""

    batch_size: int = 1024
    """Examples in one step of the optimiser; a multiple of `ghost_size`."""

    ghost_size: int = 32
    """Examples that share their live options and their batch statistics."""

    optimizer: str = "SGD"
    """Name of a class in torch.optim."""

    optimizer_settings: dict[str, Any] = field(default_factory=lambda: {"momentum": 0.9, "nesterov": True})
    """Arguments of that class, other than the learning rate and the decay."""

    lr: float = 0.1
    """Learning rate at its highest."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """Course of the learning rate: to 0 along half a cosine, or constant."""

    warmup: float = 0.0
    """Share of the training, from 0 to below 1, over which the learning rate rises linearly to `lr`."""

    weight_decay: float = 1e-4
    """L2 coefficient, times the share of the step's ghost batches in which a parameter was live."""

    decoupled_decay: bool | None = None
    """Shrink the weights by lr * weight_decay rather than adding the L2 term to the gradient. None: as the optimiser
    does it itself, so true for AdamW, false for SGD and Adam."""

    clip_norm: float | None = None
    """Largest Euclidean norm of the whole gradient; None to leave it as it is."""

    label_smoothing: float = 0.0
    """From 0 to 1."""

    average: float = 0.0
    """Share of the training, at its end, from 0 to below 1, over whose steps the weights are averaged: a one-shot model
    ends with their mean. Ours; docs/results has what it gives."""

    ghosts_per_forward: int | None = None
    """Ghost batches in one forward pass: memory against launches. None: 1 on a CPU, all of them elsewhere."""

    checkpoint_seconds: float = 60.0
    """Time between two checkpoints."""

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch_size", "ghost_size", "lr", "clip_norm", "ghosts_per_forward"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}: expected to be above 0, got {value}")
        if self.batch_size % self.ghost_size:
            raise ValueError(f"batch_size: expected a multiple of ghost_size {self.ghost_size}, got {self.batch_size}")
        if not (0 <= self.warmup < 1 and 0 <= self.label_smoothing < 1 and self.weight_decay >= 0):
            raise ValueError("warmup and label_smoothing: expected from 0 to 1; weight_decay: at least 0")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected from 0 to below 1, got {self.average}")
        if not isinstance(getattr(torch.optim, self.optimizer, None), type):
            raise ValueError(f"optimizer: expected a class of torch.optim, got {self.optimizer!r}")
        try:
            getattr(torch.optim, self.optimizer)([torch.zeros(1)], self.lr, weight_decay=0.0, **self.optimizer_settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"optimizer_settings: {self.optimizer} does not take them ({error})") from None

    def total_steps(self, examples: int) -> int:
        """Steps of the optimiser for a training split of so many examples.

        Raises:
            ValueError: one batch is more than there are examples.
        """
        if self.batch_size > examples:
            raise ValueError(
                f"batch_size: expected at most the {examples:,} training examples, got {self.batch_size:,}"
            )
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * examples / self.batch_size))

    def rate_at(self, progress: float) -> float:
        """Learning rate when this share of the training is over."""
        if progress < self.warmup:
            return self.lr * progress / self.warmup
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * (progress - self.warmup) / (1 - self.warmup))) / 2


def fit(
    model: nn.Module,
    feed: Callable[[int], Batch],
    steps: int,
    config: TrainConfig,
    *,
    runtime: Runtime,
    draw_live: Callable[[int], Tensor] | None = None,
    loss_function: Callable[[Any, Any], Tensor] | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[dict[str, float]]:
    """Trains a model in place.

    Args:
        model: a one-shot model, which needs `draw_live`, or a stand-alone network.
        feed: gives the batch of a step: `batch_size` examples and their targets, in ghost batches one after the other.
            A tuple or dict of tensors is given to the model as its arguments.
        steps: number of steps of the optimiser.
        config: the training.
        runtime: device, precision, processes.
        draw_live: gives live_GP of a step, bool [batch_size / ghost_size, P]; the same in every process.
        loss_function: of outputs and targets, the mean over examples; None for softmax cross-entropy.
        seed: of what the model draws at random in its forward pass (`nn.Dropout`), for each ghost batch by itself.
        folder: where checkpoints go and a killed training continues from; None to keep none.
        progress: called after each step.
        stop: asked before each step; when true the state is saved.

    Returns:
        About a hundred records of step, loss, gradient norm, learning rate and images per second.

    Raises:
        Interrupted: `stop` said so.
        Diverged: loss or gradient are no numbers any more.
        ValueError: `draw_live` is missing for a one-shot model, or given for another; or weights are to be averaged of
            another, whose batch norms would keep the running statistics of other weights.
    """
    if config.average and draw_live is None:
        raise ValueError("average: expected 0 for a stand-alone network; weights are averaged of one-shot models only")
    if isinstance(model, OneShot) != (draw_live is not None):
        raise ValueError("draw_live: expected for a one-shot model, and for no other")
    ghosts = config.batch_size // config.ghost_size
    if ghosts % runtime.world_size:
        raise ValueError(f"{ghosts} ghost batches cannot be divided among {runtime.world_size} processes")
    runtime.place(model).train()
    runtime.same_weights(model)
    # Each ghost batch of a stand-alone network has a view of its own, which keeps what its batch norms see.
    views = [] if draw_live is not None else [quick_in_training(model, runtime.tuning) for _ in range(ghosts)]
    runners = [view for view, _ in views] or [quick(model, runtime.tuning)] * ghosts
    groups = live_groups(model)
    sliced = _sliced_parameters(model, groups)
    parameters = [p for group in groups for p in group.parameters]
    kind = getattr(torch.optim, config.optimizer)
    # All parameters in each operation, in place of Python's loop over them: the same numbers, in half the time.
    together = {"foreach": True} if "foreach" in inspect.signature(kind).parameters else {}
    optimizer = kind(parameters, lr=config.lr, weight_decay=0.0, **{**together, **config.optimizer_settings})
    criterion = loss_function or (
        lambda outputs, targets: F.cross_entropy(outputs, targets, label_smoothing=config.label_smoothing)
    )
    checkpoint = None if folder is None else folder / "checkpoint.pt"
    first, seconds, history, means = _restore(checkpoint, model, optimizer)
    means = means or [parameter.detach().clone() for parameter in parameters if config.average]
    began = saved = time.monotonic()

    def save(step: int) -> None:
        if not all(bool(p.isfinite().all()) for p in parameters):
            raise Diverged(
                f"weights are no numbers any more at step {step} of {steps}: lower the learning rate "
                f"(now {config.lr:g}) or set clip_norm; the last checkpoint before is kept"
            )
        if checkpoint is not None and runtime.rank == 0:
            spent = seconds + time.monotonic() - began
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "means": means}
            write_atomically(
                checkpoint,
                lambda file: torch.save({**state, "step": step, "seconds": spent, "history": history}, file),
            )

    random = draws_at_random(model)
    # What else a network remembers from pass to pass needs its ghost batches one after the other.
    side_by_side = draw_live is not None or has_only_norms_to_remember(model)
    with (runtime if side_by_side else runtime.one_thread()).workers() as run:
        for step in range(first, steps):
            if runtime.any_of(stop()):
                save(step)
                raise Interrupted(f"stopped before step {step + 1} of {steps}")
            started = time.monotonic()
            rate = config.rate_at(step / steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            live = None if draw_live is None else draw_live(step)
            optimizer.zero_grad(set_to_none=True)
            chance = partial(seeded, runtime.device, seed, "network", step) if random else lambda ghost: nullcontext()
            touched = [(group, share) for group, share in zip(groups, shares(groups, live), strict=True) if share > 0]
            taking_part = [p for group, _ in touched for p in group.parameters]
            loss = _backward(runners, taking_part, feed(step), live, criterion, config, runtime, run, chance)
            for _, settle in views:
                settle()
            for parameter in taking_part:
                if parameter.grad is None:  # live, but all that its output goes to was dropped, or live elsewhere only
                    parameter.grad = torch.zeros_like(parameter)
            loss = runtime.sum_gradients(taking_part, loss)
            norm = nn.utils.get_total_norm([p.grad for p in taking_part if p.grad is not None])
            if config.clip_norm is not None:
                nn.utils.clip_grads_with_norm_(taking_part, config.clip_norm, norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(
                    f"loss {float(loss):.4g} with gradient norm {float(norm):.4g} at step {step + 1} of {steps}: "
                    f"lower the learning rate (now {config.lr:g}) or set clip_norm; the last checkpoint before is kept"
                )
            _decay(touched, rate, config, _slice_shares(sliced, model, live))
            optimizer.step()
            averaged = step + 1 - (steps - round(config.average * steps))
            if averaged > 0:
                _average(means, parameters, averaged, is_last=step + 1 == steps)
            figures = {
                "step": step + 1,
                "loss": float(loss),
                "gradient_norm": float(norm),
                "lr": rate,
                "images_per_second": config.batch_size / (time.monotonic() - started),
            }
            if is_noted(step + 1, steps):
                history.append(figures)
            if progress is not None:
                progress(step + 1, steps, **figures)
            if step + 1 == steps or time.monotonic() - saved > config.checkpoint_seconds:
                save(step + 1)
                saved = time.monotonic()
    return history


def is_noted(done: int, steps: int) -> bool:
    """Whether the history has a row of what is so many steps after the beginning: about a hundred do."""
    return done == steps or done % max(1, steps // 100) == 0


def _backward(
    runners: Sequence[nn.Module],
    parameters: list[nn.Parameter],
    batch: Batch,
    live_GP: Tensor | None,
    criterion: Callable[[Any, Any], Tensor],
    config: TrainConfig,
    runtime: Runtime,
    run: Callable[..., Iterable[Any]],
    chance: Callable[[int], AbstractContextManager[None]],
) -> Tensor:
    """Puts the gradients of this process's ghost batches into ``.grad``; returns their part of the mean loss.

    Args:
        runners: for each ghost batch of the step the model that it goes through.
        parameters: those that take part in the step.
    """
    examples, targets = batch
    size = config.ghost_size
    ghosts = rows(examples) // size
    mine = range(ghosts * runtime.rank // runtime.world_size, ghosts * (runtime.rank + 1) // runtime.world_size)
    # Ordinary batch norm knows no ghost batches: a stand-alone network gets one of them at a time.
    per_forward = 1 if live_GP is None else runtime.ghosts_per_forward(config.ghosts_per_forward, len(mine))

    def part(first: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        last = min(first + per_forward, mine.stop)
        here = slice(first * size, last * size)
        inputs, wanted = take_rows(examples, here), take_rows(targets, here)
        with runtime.autocast(), chance(first):
            model = runners[first]
            outputs = call(model, inputs) if live_GP is None else model(inputs, live_GP[first:last])
            loss = criterion(outputs, wanted) * ((last - first) / ghosts)
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    total = torch.zeros((), device=runtime.device)
    memory: set[int] = set()
    for loss, gradients in run(part, range(mine.start, mine.stop, per_forward)):
        total += loss
        # Added up in the order of the ghost batches, whichever was ready first: equal runs give equal weights.
        more: list[tuple[Tensor, Tensor]] = []
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None and parameter.grad is None:
                parameter.grad = _by_itself(gradient, memory)
            elif gradient is not None and parameter.grad is not None:
                more.append((parameter.grad, gradient))
        if more:
            torch._foreach_add_(*map(list, zip(*more, strict=True)))
    return total


def _by_itself(gradient: Tensor, memory: set[int]) -> Tensor:
    """The gradient in memory that no other has, where each number has its own place: more is added to it.

    Args:
        gradient: of one parameter; parameters that are added to each other are given one tensor, or parts of it.
        memory: where those before it are; its own place is added.
    """
    storage = gradient.untyped_storage()
    if storage.data_ptr() in memory or storage.nbytes() < gradient.nbytes:
        return gradient.clone()
    memory.add(storage.data_ptr())
    return gradient


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """Parameters that are live together: where one of each of these sets of columns of live_GP is."""

    parameters: list[nn.Parameter]
    columns: list[list[int]]

    def live_in(self, ghosts: list[list[bool]]) -> list[bool]:
        """In which ghost batches they were live, given live_GP as lists.

        Without a call of torch: it is asked of as many groups as there are options, live or not.
        """
        return [all(any(row[column] for column in any_of) for any_of in self.columns) for row in ghosts]


def shares(groups: Sequence[LiveGroup], live_GP: Tensor | None) -> list[float]:
    """Share of the ghost batches in which each group was live."""
    if live_GP is None:
        return [1.0] * len(groups)
    ghosts = live_GP.tolist()
    return [sum(group.live_in(ghosts)) / len(ghosts) for group in groups]


def live_groups(model: nn.Module) -> list[LiveGroup]:
    """The parameters that are trained, by what has to be live for them; of a stand-alone network all in one group."""
    if not isinstance(model, OneShot):
        return [LiveGroup([p for p in model.parameters() if p.requires_grad], [])]
    groups = []
    for inside, named in parameters_inside(model.network).items():
        trained = [p for _, p in named if p.requires_grad]
        if trained:
            columns = [[model.space.columns[name, option] for option in options] for name, options in inside]
            groups.append(LiveGroup(trained, columns))
    return groups


_Sliced = tuple[nn.Parameter, nn.Module, str, LiveGroup]
"""A parameter of which a choice of width takes a slice: with its module, its name in it, and its group."""


def _sliced_parameters(model: nn.Module, groups: list[LiveGroup]) -> list[_Sliced]:
    group_of = {id(parameter): group for group in groups for parameter in group.parameters}
    return [
        (parameter, module.of, name, group_of[id(parameter)])
        for module in model.modules()
        if isinstance(module, Elastic)
        for name in axis_slices(module.of, {})
        if (parameter := module.of._parameters[name]) is not None and id(parameter) in group_of
    ]


@torch.no_grad()
def _slice_shares(sliced: list[_Sliced], model: nn.Module, live_GP: Tensor | None) -> dict[int, Tensor]:
    """For each sliced parameter the share of ghost batches in which each of its numbers was live, by identity."""
    shares: dict[int, Tensor] = {}
    if live_GP is None or not sliced:
        return shares
    assert isinstance(model, OneShot)
    picks, ghosts = picks_of(model.space, live_GP), live_GP.tolist()
    for parameter, module, name, group in sliced:
        regions = [axis_slices(module, picked)[name] for picked in compress(picks, group.live_in(ghosts))]
        total = shares.setdefault(id(parameter), torch.zeros_like(parameter))
        for axes, count in Counter(regions).items():
            region = torch.full_like(parameter, count / len(live_GP))
            for axis, slices in axes:
                inside = torch.zeros(parameter.shape[axis], dtype=parameter.dtype, device=parameter.device)
                for start, length in slices:
                    inside[start : start + length] = 1
                region *= inside.view([-1 if a == axis else 1 for a in range(parameter.ndim)])
            total += region
    return shares


@torch.no_grad()
def _decay(touched: list[tuple[LiveGroup, float]], rate: float, config: TrainConfig, slices: dict[int, Tensor]) -> None:
    """Decay in proportion to the share of ghost batches in which a parameter was live (paper, section 3.2).

    Scales and offsets (parameters of one dimension) are not decayed: our choice.
    """
    decoupled = config.optimizer.endswith("AdamW") if config.decoupled_decay is None else config.decoupled_decay
    for group, share in touched:
        for parameter in group.parameters:
            if parameter.ndim > 1:
                coefficient = config.weight_decay * slices.get(id(parameter), share)  # a tensor where it is sliced
                if decoupled:
                    parameter.mul_(1 - rate * coefficient)
                else:
                    assert parameter.grad is not None
                    if isinstance(coefficient, Tensor):
                        parameter.grad.addcmul_(parameter, coefficient)
                    else:
                        parameter.grad.add_(parameter, alpha=coefficient)


@torch.no_grad()
def _average(means: list[Tensor], parameters: list[nn.Parameter], number: int, *, is_last: bool) -> None:
    """Takes the parameters as the last of so many into their means; with the last they become the means."""
    for mean, parameter in zip(means, parameters, strict=True):
        mean.lerp_(parameter, 1 / number)
        if is_last:
            parameter.copy_(mean)


def _restore(
    checkpoint: Path | None, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float, list[dict[str, float]], list[Tensor]]:
    if checkpoint is None or not checkpoint.exists():
        return 0, 0.0, [], []
    try:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        device = next(model.parameters()).device
        return state["step"], state["seconds"], state["history"], [mean.to(device) for mean in state.get("means", [])]
    except Exception as error:  # whatever the unpickling of a damaged file comes upon
        raise ValueError(f"{checkpoint} is damaged ({error}): delete it to train from the beginning") from error
