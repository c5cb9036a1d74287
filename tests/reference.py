"""Slow, obvious versions of what the package does fast: the tests compare the two.

Nothing here skips work: every option is computed, in double precision, and what is dropped is multiplied by zero.
"""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from supernet.space.choices import Architecture, Space
from supernet.space.layers import Choose, Depth, GhostBatchNorm, LivePaths, OneShot, set_live_paths


def all_architectures(space: Space) -> list[Architecture]:
    """Every architecture of a space, by nested loops over the subsets; what is not reached has no pick."""
    picks = []
    for choice in space.choices:
        subsets = [
            subset
            for bits in itertools.product([False, True], repeat=len(choice.options))
            if len(subset := tuple(o for o, on in zip(choice.options, bits, strict=True) if on)) >= choice.min_picks
            and len(subset) <= choice.max_picks
        ]
        picks.append(subsets)
    architectures: dict[Architecture, None] = {}
    for combination in itertools.product(*picks):
        reached: dict[str, tuple[str, ...]] = {}
        for choice, subset in zip(space.choices, combination, strict=True):
            parent, options = choice.inside or ("", ())
            if choice.inside is None or any(option in reached.get(parent, ()) for option in options):
                reached[choice.name] = subset
        architectures[Architecture(tuple(reached.items()))] = None
    return list(architectures)


def forward(model: OneShot, x: Tensor, live_GP: Tensor) -> Tensor:
    """The one-shot model's output, one ghost batch after the other, every option computed and masked."""
    size = len(x) // len(live_GP)
    return torch.cat([_run(model.network, x[g * size : (g + 1) * size], row, model) for g, row in enumerate(live_GP)])


def _run(network: nn.Module, x: Tensor, row: Tensor, model: OneShot) -> Tensor:
    """Runs the network with the two modules that know of live paths replaced by their definitions."""

    def choose(module: Choose, given: Tensor | list[Tensor], onto: Tensor | None = None) -> Tensor:
        return chosen(module, given) + (0 if onto is None else onto)

    def chosen(module: Choose, given: Tensor | list[Tensor]) -> Tensor:
        on = [bool(row[model.space.columns[module.choice.name, name]]) for name in module.choice.options]
        outputs = [option(given[i] if module.each_input else given) for i, option in enumerate(module.options)]
        if module.join == "concat":
            return torch.cat([o * any(on) for o, live in zip(outputs, on, strict=True) if live or not any(on)], 1)
        total = torch.zeros_like(outputs[0])
        for output, live in zip(outputs, on, strict=True):
            total = total + output * live
        return total / max(1, sum(on)) if module.join == "mean" else total

    def depth(module: Depth, given: Tensor) -> Tensor:
        on = [
            d
            for d, name in zip(module.depths, module.choice.options, strict=True)
            if row[model.space.columns[module.choice.name, name]]
        ]
        for index, block in enumerate(module.blocks):
            given = block(given) if index < max(on, default=module.depths[0]) else given
        return given

    def norm(module: GhostBatchNorm, given: Tensor) -> Tensor:
        dims, shape = [0, *range(2, given.ndim)], [1, -1] + [1] * (given.ndim - 2)
        centred = given - given.mean(dims).view(shape)
        scaled = centred / (centred.square().mean(dims).view(shape) + module.eps).sqrt()
        return scaled if module.weight is None else scaled * module.weight.view(shape) + module.bias.view(shape)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Choose, "forward", choose)
        patch.setattr(Depth, "forward", depth)
        patch.setattr(GhostBatchNorm, "forward", norm)
        picks = {
            choice.name: frozenset(
                i for i, name in enumerate(choice.options) if row[model.space.columns[choice.name, name]]
            )
            for choice in model.space.choices
        }
        with set_live_paths(LivePaths((picks,), (0,))):  # for the decided values
            return network(x)


def train_step(
    model: OneShot, x: Tensor, y: Tensor, live_GP: Tensor, *, lr: float, momentum: float, weight_decay: float,
    buffers: dict[str, Tensor],
) -> float:  # fmt: skip
    """One step of Nesterov SGD, parameter by parameter, with decay in proportion to the live ghost batches.

    A parameter that no ghost batch uses is left alone, and so is its momentum buffer in `buffers`.
    """
    loss = nn.functional.cross_entropy(forward(model, x, live_GP), y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True):
            share = live_share(model, name, live_GP)
            if share == 0:
                continue
            if parameter.ndim > 1:
                gradient = gradient + weight_decay * share * parameter
            buffers[name] = momentum * buffers[name] + gradient if name in buffers else gradient.clone()
            parameter.sub_(lr * (gradient + momentum * buffers[name]))
    return float(loss.detach())


def live_share(model: OneShot, parameter: str, live_GP: Tensor) -> float:
    """Share of ghost batches in which the module path of a parameter is live, read off its name."""
    live = torch.ones(len(live_GP), dtype=torch.bool)
    module: nn.Module = model
    words = parameter.split(".")
    for position, word in enumerate(words[:-1]):
        if isinstance(module, Choose) and word == "options":
            index = int(words[position + 1])
            column = model.space.columns[module.choice.name, module.choice.options[index]]
            live &= live_GP[:, column]
        module = getattr(module, word)
    return float(live.double().mean())


def score(model: OneShot, architecture: Architecture, x: Tensor, y: Tensor, ghost_size: int) -> tuple[float, float]:
    """Accuracy and mean loss, image by image, over whole ghost batches."""
    ghosts = len(x) // ghost_size
    right, losses = 0, []
    for g in range(ghosts):
        part = slice(g * ghost_size, (g + 1) * ghost_size)
        with torch.no_grad():
            logits = forward(model, x[part], model.space.live([architecture]))
        for row, label in zip(logits, y[part], strict=True):
            right += int(row.argmax() == label)
            losses.append(float(torch.logsumexp(row, 0) - row[label]))
    return right / (ghosts * ghost_size), sum(losses) / len(losses)


def uniformity(space: Space, each: int, *, seed: int = 0) -> float:
    """Chance that a uniform sampler draws as unevenly as this one does: chi-square over all architectures.

    Args:
        space: small enough to be listed.
        each: draws of one architecture that are expected.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = Counter(str(space.sample(generator=generator)) for _ in range(each * space.size))
    observed = [counts[str(architecture)] for architecture in space]
    assert sum(observed) == each * space.size, "something outside of the space was drawn"
    return float(stats.chisquare(observed).pvalue)
