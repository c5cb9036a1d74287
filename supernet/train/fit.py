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
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.files import check_digest, remove_with_digest, write_atomically
from supernet.base.progress import UNWATCHED, Interrupted, Watch
from supernet.base.randomness import draws_at_random, seeded
from supernet.base.trees import call, rows, take_rows
from supernet.space.layers import Elastic, OneShot, picks_of
from supernet.space.network import parameters_inside
from supernet.space.probe import traits_of
from supernet.space.values import Resolved, axis_slices
from supernet.speed.quick import has_only_norms_to_remember, quick, quick_in_training
from supernet.speed.runtime import Runtime, shared_by_threads
from supernet.train.emphasis import Emphasis

log = logging.getLogger(__name__)

Batch = tuple[Any, Any]
"""Examples and targets: each a tensor, or a tuple, list or dict of tensors, with the examples along the first axis."""


_CHECKPOINT = "checkpoint.pt"
"""The state of a training under way, in its folder."""

_EARLIER = "checkpoint.earlier.pt"
"""The state before that one, which is taken if that one is damaged."""


def has_checkpoint(folder: Path) -> bool:
    """Whether a training is under way in a folder."""
    return any((folder / name).exists() for name in (_CHECKPOINT, _EARLIER))


def remove_checkpoints(folder: Path) -> None:
    """Removes the state of a training that is over."""
    (folder / _EARLIER).unlink(missing_ok=True)
    remove_with_digest(folder / _CHECKPOINT)


class Diverged(ValueError):
    """The loss, the gradient or a weight is NaN or infinite; the last good checkpoint is kept."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training, of the one-shot model or of a stand-alone network."""

    epochs: float = 225.0
    """Passes over the training examples (the paper: 225 for the one-shot model, 300 for the final networks)."""

    steps: int | None = None
    """Steps of the optimiser; if given, it replaces `epochs`."""

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
        for name in ("warmup", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected from 0 to below 1, got {getattr(self, name)}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay: expected at least 0, got {self.weight_decay}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average: expected from 0 to below 1, got {self.average}")
        if not isinstance(getattr(torch.optim, self.optimizer, None), type):
            raise ValueError(f"optimizer: expected a class of torch.optim, got {self.optimizer!r}")
        try:
            getattr(torch.optim, self.optimizer)([torch.zeros(1)], self.lr, weight_decay=0.0, **self.optimizer_settings)
        except (TypeError, ValueError) as error:
            raise ValueError(f"optimizer_settings: {self.optimizer} does not take them ({error})") from None

    def total_steps(self, examples: int) -> int:
        """Steps of the optimiser for a training split with this number of examples.

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
    distill: tuple[float, Tensor] | None = None,
    emphasis: Emphasis | None = None,
    seed: int = 0,
    folder: Path | None = None,
    watch: Watch = UNWATCHED,
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
        distill: a weight, and a row of live_GP, bool [P]: the divergence of a one-shot model's softmax outputs from
            those with this row live is added to the loss of each ghost batch.
        emphasis: gives what the loss of each ghost batch counts, not what is added by `distill`; None: all count alike.
            The loss that is shown is without it.
        seed: of what the model draws at random in its forward pass (`nn.Dropout`), for each ghost batch by itself.
        folder: where checkpoints are written, and where a killed training continues from; None for no checkpoints.
        watch: its `progress` is called after each step; its `stop` is asked before each step.

    Returns:
        About a hundred records of step, loss, gradient norm, learning rate and examples per second.

    Raises:
        Interrupted: `watch.stop` returned true; the state is saved.
        Diverged: the loss or the gradient is NaN or infinite.
        ValueError: `draw_live` is missing for a one-shot model, or given for another; or weights are to be averaged of
            a stand-alone network, whose batch norms would keep the running statistics of other weights.
    """
    _check(model, config, runtime, is_drawn=draw_live is not None)
    runtime.place(model).train()
    runtime.same_weights(model)
    optimiser = _Optimiser(model, steps, config)
    passes = _Passes(model, config, runtime, loss_function, seed, distill)
    checkpoint = _Checkpoint(folder, model, optimiser, config, runtime)
    first, history = checkpoint.restore()
    with passes.runtime.workers() as run:
        for step in range(first, steps):
            if runtime.any_of(watch.stop()):
                checkpoint.save(step, steps, history)
                raise Interrupted(f"stopped before step {step + 1} of {steps}")
            started = time.monotonic()
            live_GP = None if draw_live is None else draw_live(step)
            live = optimiser.live_parameters(live_GP)
            weights = None if emphasis is None or live_GP is None else emphasis(step / steps, live_GP)
            loss = passes.backward(run, step, live.parameters, feed(step), live_GP, weights)
            loss = runtime.sum_gradients(live.parameters, loss)
            norm = optimiser.clip(live)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise Diverged(
                    f"loss {float(loss):.4g} with gradient norm {float(norm):.4g} at step {step + 1} of {steps}: "
                    f"lower the learning rate (now {config.lr:g}) or set clip_norm; the last checkpoint before is kept"
                )
            # After clipping: decay is not clipped. Ours; the paper clips nothing.
            optimiser.decay(live, step)  # in proportion to the share of ghost batches in which a parameter was live
            optimiser.step(step)
            figures = {
                "step": step + 1,
                "loss": float(loss),
                "gradient_norm": float(norm),
                "lr": optimiser.rate_at(step),
                "examples_per_second": config.batch_size / (time.monotonic() - started),
            }
            if is_noted(step + 1, steps):
                history.append(figures)
            watch.progress(step + 1, steps, **figures)
            if step + 1 == steps or checkpoint.is_due():
                checkpoint.save(step + 1, steps, history)
    return history


def _check(model: nn.Module, config: TrainConfig, runtime: Runtime, *, is_drawn: bool) -> None:
    if config.average and not is_drawn:
        raise ValueError("average: expected 0 for a stand-alone network; weights are averaged of one-shot models only")
    if isinstance(model, OneShot) != is_drawn:
        raise ValueError("draw_live: expected for a one-shot model, and for no other")
    ghosts = config.batch_size // config.ghost_size
    if ghosts % runtime.world_size:
        raise ValueError(f"{ghosts} ghost batches cannot be divided among {runtime.world_size} processes")


def is_noted(done: int, steps: int) -> bool:
    """Whether the history has a record of this step, counted from 1: about a hundred steps have."""
    return done == steps or done % max(1, steps // 100) == 0


class _Passes:
    """The forward and backward passes of a step, one for each few ghost batches.

    Attributes:
        runtime: what the passes run on: with one thread if they have to come one after the other.
    """

    def __init__(
        self,
        model: nn.Module,
        config: TrainConfig,
        runtime: Runtime,
        loss_function: Callable[[Any, Any], Tensor] | None,
        seed: int,
        distill: tuple[float, Tensor] | None = None,
    ) -> None:
        ghosts = config.batch_size // config.ghost_size
        is_one_shot = isinstance(model, OneShot)
        # Each ghost batch of a stand-alone network has a view of its own, which keeps what its batch norms see.
        views = [] if is_one_shot else [quick_in_training(model, runtime.tuning) for _ in range(ghosts)]
        self._settle = [settle for _, settle in views]
        self._model_of_ghost = [view for view, _ in views] or [quick(model, runtime.tuning)] * ghosts
        self._config, self._seed, self._distill = config, seed, distill
        self._is_random: bool | None = True if draws_at_random(model) else None  # None: the first step will show
        self._loss_function = loss_function or partial(F.cross_entropy, label_smoothing=config.label_smoothing)
        if isinstance(model, OneShot):
            traits = traits_of(model)
            self._is_random, keeps = self._is_random or traits.draws[0], traits.keeps[0] is not None
        else:
            keeps = not has_only_norms_to_remember(model)
        # A network that keeps more than its batch norms' statistics needs its ghost batches one after the other.
        self.runtime = runtime.one_thread() if keeps else runtime
        self._held = shared_by_threads(model.parameters())

    def backward(
        self,
        run: Callable[..., Iterable[Any]],
        step: int,
        parameters: Sequence[nn.Parameter],
        batch: Batch,
        live_GP: Tensor | None,
        weights_G: Tensor | None = None,
    ) -> Tensor:
        """Puts the gradients of this process's ghost batches into ``.grad``; returns their part of the mean loss.

        Args:
            run: the `map` of `Runtime.workers`.
            step: the number of the step, from 0.
            parameters: those that take part in the step.
            batch: the examples and targets of the step, those of other processes included.
            live_GP: as for `fit`; None for a stand-alone network.
            weights_G: what the loss of each ghost batch counts; None: all count alike.
        """
        examples, targets = batch
        size, runtime = self._config.ghost_size, self.runtime
        ghosts = rows(examples) // size
        mine = range(ghosts * runtime.rank // runtime.world_size, ghosts * (runtime.rank + 1) // runtime.world_size)
        # Ordinary batch norm knows no ghost batches: a stand-alone network gets one of them at a time.
        per_pass = 1 if live_GP is None else runtime.ghosts_per_forward(self._config.ghosts_per_forward, len(mine))

        def one_pass(first: int) -> tuple[Tensor, tuple[Tensor | None, ...]]:
            last = min(first + per_pass, mine.stop)
            part = slice(first * size, last * size)
            inputs, expected = take_rows(examples, part), take_rows(targets, part)
            is_random = self._is_random is not False
            chance = seeded(runtime.device, self._seed, "network", step, first) if is_random else nullcontext()
            with runtime.autocast(), chance as draws:
                model = self._model_of_ghost[first]
                outputs = call(model, inputs) if live_GP is None else model(inputs, live_GP[first:last])
                loss = self._loss_function(outputs, expected)
                shown = loss.detach()
                if weights_G is not None:
                    loss = self._weighted(loss, outputs, expected, weights_G[first:last].tolist())
                if self._distill is not None and live_GP is not None:
                    weight, row = self._distill
                    others = [place for place in range(last - first) if not torch.equal(live_GP[first + place], row)]
                    added = weight * divergence(model, inputs, outputs, row, others, last - first)
                    loss, shown = loss + added, shown + added
                loss = loss * ((last - first) / ghosts)
            if draws is not None and draws.drawn:
                drawing.append(first)
            shown = shown.detach() * ((last - first) / ghosts)
            return shown, torch.autograd.grad(loss, parameters, allow_unused=True)

        drawing: list[int] = []
        total = torch.zeros((), device=runtime.device)
        memory: set[int] = set()
        for loss, gradients in run(one_pass, range(mine.start, mine.stop, per_pass)):
            total += loss
            # Added up in the order of the ghost batches, whichever was ready first: equal runs give equal weights.
            _add_gradients(parameters, gradients, memory)
        if self._is_random is None:
            self._is_random = bool(drawing)
        for settle in self._settle:
            settle()
        for parameter in parameters:
            if parameter.grad is None:  # live, but all that its output goes to was dropped, or live elsewhere only
                parameter.grad = torch.zeros_like(parameter)
        return total

    def _weighted(self, loss: Tensor, outputs: Any, targets: Any, weights: Sequence[float]) -> Tensor:
        """The mean loss of a pass of which each ghost batch counts by its weight.

        Args:
            loss: of the whole pass.
            outputs, targets: of the pass.
            weights: of its ghost batches.
        """
        if len(weights) == 1:
            return loss * weights[0]
        size = self._config.ghost_size
        parts = [slice(place * size, (place + 1) * size) for place in range(len(weights))]
        losses = [self._loss_function(take_rows(outputs, part), take_rows(targets, part)) for part in parts]
        return torch.stack([one * weight for one, weight in zip(losses, weights, strict=True)]).mean()


def divergence(
    model: nn.Module, inputs: Any, outputs: Any, row: Tensor, others: Sequence[int], ghosts: int
) -> Tensor | float:
    """The Kullback-Leibler divergence of softmax outputs from those of one architecture on the same examples.

    Args:
        model: the one-shot model.
        inputs, outputs: of a forward pass.
        row: what is live in that architecture, bool [P]. It gets no gradient.
        others: the ghost batches of the pass that have something else live; the divergence of the rest is 0.
        ghosts: their number in the pass.

    Returns:
        The mean over all examples of the pass.
    """
    if not others:
        return 0.0
    size = rows(inputs) // ghosts
    which = torch.cat([torch.arange(place * size, (place + 1) * size) for place in others]).to(outputs.device)
    with torch.no_grad():
        taught = model(take_rows(inputs, which), row.expand(len(others), -1))
    log_ones, log_others = F.log_softmax(outputs[which].float(), 1), F.log_softmax(taught.float(), 1)
    return F.kl_div(log_ones, log_others, reduction="batchmean", log_target=True) * (len(others) / ghosts)


def _add_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None], memory: set[int]) -> None:
    """Adds the gradients of one pass to ``.grad``; `memory` as for `_by_itself`."""
    sums: list[Tensor] = []
    terms: list[Tensor] = []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None and parameter.grad is None:
            parameter.grad = _by_itself(gradient, memory)
        elif gradient is not None and parameter.grad is not None:
            sums.append(parameter.grad)
            terms.append(gradient)
    if sums:
        torch._foreach_add_(sums, terms)


def _by_itself(gradient: Tensor, memory: set[int]) -> Tensor:
    """The gradient in memory of its own, so that more can be added to it.

    Args:
        gradient: of one parameter; autograd gives parameters that are added to each other one tensor, or parts of it.
        memory: the addresses of the gradients before this one; its own address is added.
    """
    storage = gradient.untyped_storage()
    if storage.data_ptr() in memory or storage.nbytes() < gradient.nbytes:
        return gradient.clone()
    memory.add(storage.data_ptr())
    return gradient


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """Parameters that are live together.

    Attributes:
        parameters: these.
        columns: columns of live_GP in sets. The parameters are live in a ghost batch if one column of each set is:
            those of an operation A that is nested in an option B have [[A], [B]].
    """

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


@dataclass(frozen=True, slots=True)
class _Sliced:
    """A parameter that is decayed and of which a choice of width takes a slice.

    Attributes:
        parameter: this.
        module: that it is in.
        name: of the parameter in it.
        slices: of the module.
        group: of the parameter.
    """

    parameter: nn.Parameter
    module: nn.Module
    name: str
    slices: Resolved
    group: LiveGroup


def _sliced_parameters(model: nn.Module, groups: list[LiveGroup]) -> list[_Sliced]:
    group_of = {id(parameter): group for group in groups for parameter in group.parameters}
    sliced = []
    for elastic in (module for module in model.modules() if isinstance(module, Elastic)):
        module, slices = elastic.of, Resolved()
        for name in axis_slices(module, {}):
            parameter = module._parameters.get(name)
            if parameter is not None and id(parameter) in group_of and parameter.ndim > 1:
                sliced.append(_Sliced(parameter, module, name, slices, group_of[id(parameter)]))
    return sliced


@torch.no_grad()
def _slice_shares(sliced: list[_Sliced], model: nn.Module, live_GP: Tensor | None) -> dict[int, Tensor]:
    """For each sliced parameter the share of ghost batches in which each of its numbers was live, by identity.

    The shares of one parameter have its shape, or length 1 along axes that are never cut. Only widths that are choices
    slice parameters; without them there is nothing to do.
    """
    by_number: dict[int, Tensor] = {}
    if live_GP is None or not sliced:
        return by_number
    assert isinstance(model, OneShot)
    rows_of = Counter(map(tuple, live_GP.tolist()))
    different = [list(row) for row in rows_of]
    picks = picks_of(model.space, torch.tensor(different))
    for of in sliced:
        parameter = of.parameter
        regions: Counter[Any] = Counter()
        for picked, number in compress(zip(picks, rows_of.values(), strict=True), of.group.live_in(different)):
            regions[of.slices.slices(of.module, picked).get(of.name, ())] += number
        total = by_number.get(id(parameter), torch.zeros([1] * parameter.ndim).to(parameter))
        for axes, count in regions.items():
            region = torch.tensor(count / len(live_GP), dtype=parameter.dtype, device=parameter.device)
            for axis, slices in axes:
                inside = torch.zeros(parameter.shape[axis], dtype=parameter.dtype, device=parameter.device)
                for start, length in slices:
                    inside[start : start + length] = 1
                region = region * inside.view([-1 if a == axis else 1 for a in range(parameter.ndim)])
            total = total + region
        by_number[id(parameter)] = total
    return by_number


@dataclass(frozen=True, slots=True)
class _Live:
    """What takes part in a step.

    Attributes:
        groups: the groups of parameters that were live in some ghost batch, and in which share of them.
        parameters: the parameters of these groups.
        slices: for parameters of which slices are live, the share of each of their numbers; by identity.
    """

    groups: list[tuple[LiveGroup, float]]
    parameters: list[nn.Parameter]
    slices: dict[int, Tensor]


class _Optimiser:
    """A class of torch.optim, and what it does not do itself: rate, clipping, decay in proportion, averaging.

    Attributes:
        parameters: all parameters that are trained.
        optimiser: of torch.
        means: the mean of the parameters over the last steps; empty without averaging.
    """

    def __init__(self, model: nn.Module, steps: int, config: TrainConfig) -> None:
        self._model, self._steps, self._config = model, steps, config
        self._groups = live_groups(model)
        self._sliced = _sliced_parameters(model, self._groups) if config.weight_decay else []
        self.parameters = [p for group in self._groups for p in group.parameters]
        kind = getattr(torch.optim, config.optimizer)
        # All parameters in each operation, in place of Python's loop over them: the same numbers, in half the time.
        together = {"foreach": True} if "foreach" in inspect.signature(kind).parameters else {}
        settings = {**together, **config.optimizer_settings}
        self.optimiser: torch.optim.Optimizer = kind(self.parameters, lr=config.lr, weight_decay=0.0, **settings)
        self.means = [parameter.detach().clone() for parameter in self.parameters if config.average]

    def rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        return self._config.rate_at(step / self._steps)

    def live_parameters(self, live_GP: Tensor | None) -> _Live:
        """What takes part in a step, without gradients; all parameters of a stand-alone network."""
        self.optimiser.zero_grad(set_to_none=True)
        live = [
            (group, share)
            for group, share in zip(self._groups, shares(self._groups, live_GP), strict=True)
            if share > 0
        ]
        parameters = [p for group, _ in live for p in group.parameters]
        return _Live(live, parameters, _slice_shares(self._sliced, self._model, live_GP))

    def clip(self, live: _Live) -> Tensor:
        """Limits the Euclidean norm of the whole gradient to `clip_norm`; returns the norm from before."""
        norm = nn.utils.get_total_norm([p.grad for p in live.parameters if p.grad is not None])
        if self._config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(live.parameters, self._config.clip_norm, norm)
        return norm

    @torch.no_grad()
    def decay(self, live: _Live, step: int) -> None:
        """Decays a parameter in proportion to the share of ghost batches in which it was live (paper, section 3.2).

        Scales and offsets (parameters of one dimension) are not decayed: our choice.
        """
        config, rate = self._config, self.rate_at(step)
        if not config.weight_decay:
            return
        decoupled = config.optimizer.endswith("AdamW") if config.decoupled_decay is None else config.decoupled_decay
        for group, share in live.groups:
            for parameter in group.parameters:
                if parameter.ndim > 1:
                    coefficient = config.weight_decay * live.slices.get(id(parameter), share)
                    if decoupled:
                        parameter.mul_(1 - rate * coefficient)
                        continue
                    assert parameter.grad is not None
                    if isinstance(coefficient, Tensor):  # slices of the parameter are live
                        parameter.grad.addcmul_(parameter, coefficient)
                    else:
                        parameter.grad.add_(parameter, alpha=coefficient)

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Changes the parameters, and takes them into their means; with the last step they become the means."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate_at(step)
        self.optimiser.step()
        number = step + 1 - (self._steps - round(self._config.average * self._steps))
        if number > 0:
            for mean, parameter in zip(self.means, self.parameters, strict=True):
                mean.lerp_(parameter, 1 / number)
                if step + 1 == self._steps:
                    parameter.copy_(mean)


class _Checkpoint:
    """The files that a killed training continues from, the last and the one before; the first process writes them."""

    def __init__(
        self, folder: Path | None, model: nn.Module, optimiser: _Optimiser, config: TrainConfig, runtime: Runtime
    ) -> None:
        self._folder = folder
        self._model, self._optimiser, self._config = model, optimiser, config
        self._is_mine = runtime.rank == 0
        self._saved = time.monotonic()

    def restore(self) -> tuple[int, list[dict[str, float]]]:
        """Takes the state from a file, if there is one. Returns the number of steps made, and the history.

        The earlier file is taken if the last one is damaged, which the log says.

        Raises:
            ValueError: what is there is damaged.
        """
        if self._folder is None or not has_checkpoint(self._folder):
            return 0, []
        problems = []
        for name in (_CHECKPOINT, _EARLIER):
            path = self._folder / name
            if path.exists():
                try:
                    step, history = self._take(path)
                except Exception as error:  # unpickling a damaged file raises errors of any type
                    problems.append(f"{path} is damaged ({' '.join(str(error).split())})")
                    continue
                if problems:
                    (self._folder / _CHECKPOINT).unlink()  # it must not take the place of the good one
                    log.warning("%s: training continues from %s, after step %d", problems[0], name, step)
                return step, history
        raise ValueError(
            f"{problems[0]}: delete {self._folder / _CHECKPOINT}, and {_EARLIER} beside it, to train from the beginning"
        )

    def _take(self, path: Path) -> tuple[int, list[dict[str, float]]]:
        """Takes the state from a file."""
        check_digest(path, _CHECKPOINT)
        state = torch.load(path, weights_only=True)
        self._model.load_state_dict(state["model"])
        self._optimiser.optimiser.load_state_dict(state["optimizer"])
        for mean, saved in zip(self._optimiser.means, state["means"], strict=True):
            mean.copy_(saved)
        return state["step"], state["history"]

    def is_due(self) -> bool:
        """Whether the last one was saved long enough ago."""
        return time.monotonic() - self._saved > self._config.checkpoint_seconds

    def save(self, step: int, steps: int, history: list[dict[str, float]]) -> None:
        """Saves the state after this number of steps.

        Raises:
            Diverged: a weight is NaN or infinite; the file stays as it was.
        """
        if not all(bool(p.isfinite().all()) for p in self._optimiser.parameters):
            raise Diverged(
                f"weights are NaN or infinite at step {step} of {steps}: lower the learning rate "
                f"(now {self._config.lr:g}) or set clip_norm; the last checkpoint before is kept"
            )
        self._saved = time.monotonic()
        if self._folder is not None and self._is_mine:
            state = {
                "model": self._model.state_dict(),
                "optimizer": self._optimiser.optimiser.state_dict(),
                "means": self._optimiser.means,
                "step": step,
                "history": history,
            }
            path = self._folder / _CHECKPOINT
            if path.exists():
                path.replace(self._folder / _EARLIER)
            write_atomically(path, lambda file: torch.save(state, file), digest=True)
