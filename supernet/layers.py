"""The modules that make a network searchable: `Choose`, and batch norm over ghost batches.

A network with choices is ordinary PyTorch code with `Choose` modules at any depth. Which options are live is given to
the forward pass of the one-shot model, and reaches the choices through a context variable that is set for the length
of that pass only: nothing has to be passed along by hand, and nothing is left behind.

References:
    Bender et al., ICML 2018, section 3.2 (path dropout, ghost batches, batch statistics).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.space import Choice


@dataclass(frozen=True, slots=True)
class LivePaths:
    """What is live in the code that runs now.

    Attributes:
        picks: for each ghost batch of the forward pass, the live options of each choice by their index.
        ghosts: which of them the tensors at hand hold, in order; each holds equally many examples.
        within: the (choice, option) pairs that enclose this code, outermost first.
    """

    picks: tuple[Mapping[str, frozenset[int]], ...]
    ghosts: tuple[int, ...]
    within: tuple[tuple[str, str], ...] = ()


_LIVE: ContextVar[LivePaths] = ContextVar("supernet_live_paths")


def live_paths() -> LivePaths:
    """What is live here and now.

    Raises:
        RuntimeError: called outside of a one-shot model's forward pass.
    """
    try:
        return _LIVE.get()
    except LookupError:
        raise RuntimeError(
            "a choice was run outside of a one-shot model: call supernet.build(space)(x, live), "
            "or supernet.build(space, architecture)(x) for a stand-alone network"
        ) from None


@contextmanager
def set_live_paths(live: LivePaths) -> Iterator[None]:
    """Makes `live` what `live_paths` returns, inside the ``with`` block only."""
    token = _LIVE.set(live)
    try:
        yield
    finally:
        _LIVE.reset(token)


class Choose(nn.Module):
    """A choice among modules: runs the live ones and adds up their outputs.

    With ``each_input`` option i works on input i, which makes it a choice among inputs. A 1x1 convolution of the
    concatenated inputs is the sum of one 1x1 convolution for each, so the paper's "concatenate, then 1x1" is a
    `Choose` with ``each_input``, and removing an input removes its slice of the weight.

    Options that are not live are not run: no arithmetic, no memory, no gradient. Where no option is live the output
    is zero (our choice; the paper does not say).

    Args:
        name: of the choice; places with the same name share one decision.
        options: the modules by name. All outputs have the same shape.
        max_picks: largest number of options in an architecture.
        each_input: the forward pass gets a sequence of tensors, one for each option.
    """

    def __init__(
        self, name: str, options: Mapping[str, nn.Module], *, max_picks: int = 1, each_input: bool = False
    ) -> None:
        super().__init__()
        self.choice = Choice(name, tuple(options), max_picks)
        self.options = nn.ModuleList(options.values())
        self.each_input = each_input
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}

    def extra_repr(self) -> str:
        return f"{self.choice.name!r}, {', '.join(self.choice.options)}, max_picks={self.choice.max_picks}"

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        live = live_paths()
        inputs = [x] * len(self.options) if isinstance(x, Tensor) else x
        if len(inputs) != len(self.options) or isinstance(x, Tensor) == self.each_input:
            got = "one tensor" if isinstance(x, Tensor) else f"{len(inputs)} tensors"
            expected = f"{len(self.options)} tensors" if self.each_input else "one tensor"
            raise ValueError(f"choice {self.choice.name!r}: expected {expected}, got {got}")
        total: Tensor | None = None
        partial: list[tuple[Tensor, list[int]]] = []  # outputs that only some of the ghost batches have
        for index, (name, option, source) in enumerate(zip(self.choice.options, self.options, inputs, strict=True)):
            places = [i for i, g in enumerate(live.ghosts) if index in live.picks[g][self.choice.name]]
            if not places:
                continue
            here = replace(
                live, ghosts=tuple(live.ghosts[i] for i in places), within=(*live.within, (self.choice.name, name))
            )
            with set_live_paths(here):
                if len(places) == len(live.ghosts):
                    output = option(source)
                    total = output if total is None else total + output
                else:
                    chosen = _by_ghost(source, len(live.ghosts))[places].flatten(0, 1)
                    partial.append((option(chosen), places))
        ran = total if total is not None else partial[0][0] if partial else None
        shape = self._output_shape(inputs[0], ran)
        if total is None:
            like = inputs[0] if ran is None else ran
            total = like.new_zeros((len(inputs[0]), *shape))
        for output, places in partial:
            where = torch.tensor(places, device=output.device)
            part = _by_ghost(output, len(places)).to(total.dtype)
            total = _by_ghost(total, len(live.ghosts)).index_add(0, where, part).flatten(0, 1)
        return total

    def _output_shape(self, source: Tensor, output: Tensor | None) -> tuple[int, ...]:
        """Shape of one example's output: remembered from when an option ran, since what is dropped is not computed.

        Where none ever ran for this shape of input, a copy of the first option without data tells; that is slow.
        """
        key = source.shape[1:]
        if output is not None:
            self._shapes[key] = tuple(output.shape[1:])
        elif key not in self._shapes:
            with torch.no_grad():
                shadow = copy.deepcopy(self.options[0]).to("meta")
                self._shapes[key] = tuple(shadow(source.detach().to("meta")).shape[1:])
        return self._shapes[key]

    def chosen(self, picked: Sequence[str]) -> nn.Module:
        """The ordinary module that is left when only `picked` options are kept; it shares their weights."""
        indices = [index for index, option in enumerate(self.choice.options) if option in picked]
        if len(indices) == 1 and not self.each_input:
            return self.options[indices[0]]
        return Sum([self.options[i] for i in indices], indices if self.each_input else None)


class Sum(nn.Module):
    """Sum of the outputs of several modules: what a `Choose` becomes in a stand-alone network.

    Args:
        terms: the modules.
        sources: for each module the index of its input in the sequence of inputs; None where all get the same tensor.
    """

    def __init__(self, terms: Sequence[nn.Module], sources: Sequence[int] | None = None) -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.sources = None if sources is None else tuple(sources)

    def extra_repr(self) -> str:
        return "" if self.sources is None else f"of inputs {self.sources}"

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        inputs = [x] * len(self.terms) if self.sources is None else [x[i] for i in self.sources]
        total: Tensor = self.terms[0](inputs[0])
        for term, source in zip(list(self.terms)[1:], inputs[1:], strict=True):
            total = total + term(source)
        return total


class GhostBatchNorm(nn.Module):
    """Batch norm of the one-shot model: statistics of each ghost batch on its own, in training and in scoring.

    It has no running statistics: what they would average over changes with every ghost batch (paper, section 3.2).

    Args:
        of: the batch-norm module that it stands in for; its weights are taken over, not copied.
    """

    def __init__(self, of: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.kind = type(of)
        self.num_features, self.eps, self.momentum = of.num_features, of.eps, of.momentum
        self.weight, self.bias = of.weight, of.bias

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, affine={self.weight is not None}"

    def forward(self, x: Tensor) -> Tensor:
        ghosts = len(live_paths().ghosts)
        weight: Tensor | None = self.weight
        bias: Tensor | None = self.bias
        if ghosts > 1:  # the ghost batches side by side as channels: one kernel for all of them
            if weight is not None and bias is not None:
                weight, bias = weight.repeat(ghosts), bias.repeat(ghosts)
            per_ghost, channels, rest = x.shape[0] // ghosts, x.shape[1], x.shape[2:]
            side_by_side = _by_ghost(x, ghosts).transpose(0, 1).reshape(per_ghost, ghosts * channels, *rest)
            y = F.batch_norm(side_by_side, None, None, weight, bias, training=True, eps=self.eps)
            return y.reshape(per_ghost, ghosts, channels, *rest).transpose(0, 1).reshape(x.shape)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)

    def standalone(self) -> nn.modules.batchnorm._BatchNorm:
        """Ordinary batch norm with running statistics, not yet estimated, and the same weights."""
        norm = self.kind(self.num_features, eps=self.eps, momentum=self.momentum, affine=False)
        norm.affine = self.weight is not None
        norm.weight, norm.bias = self.weight, self.bias
        return norm


def _by_ghost(x: Tensor, ghosts: int) -> Tensor:
    return x.view(ghosts, x.shape[0] // ghosts, *x.shape[1:])
