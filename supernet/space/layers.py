"""The modules that make a network searchable: `Choose` and `Depth`, and batch norm over ghost batches.

A network with choices is ordinary PyTorch code with these modules, and with decided values, at any depth. Which
options are live is given to
the forward pass of the one-shot model, and reaches the choices through a context variable that is set for the length
of that pass only: nothing has to be passed along by hand, and nothing is left behind.

References:
    Bender et al., ICML 2018, section 3.2 (path dropout, ghost batches, batch statistics).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.space.choices import Choice
from supernet.space.sums import Misfit, added, plus, takes_onto
from supernet.space.values import Picks, resolved, side_by_side


@dataclass(frozen=True, slots=True)
class LivePaths:
    """What is live in the code that runs now.

    Attributes:
        picks: for each ghost batch of the forward pass, the live options of each choice by their index.
        ghosts: which of them the tensors at hand hold, in order; each holds equally many examples.
        inside: what encloses this code, outermost first: a choice, and its options of which one has to be live.
        shapes: what is live of the choices on which shapes depend; the same for all `ghosts`.
    """

    picks: tuple[Picks, ...]
    ghosts: tuple[int, ...]
    inside: tuple[tuple[str, tuple[str, ...]], ...] = ()
    shapes: tuple[frozenset[int], ...] = ()


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
    """A choice among modules: runs the live ones and joins their outputs.

    With ``each_input`` option i works on input i, which makes it a choice among inputs. A 1x1 convolution of the
    concatenated inputs is the sum of one 1x1 convolution for each, so the paper's "concatenate, then 1x1" is a
    `Choose` with ``each_input``, and removing an input removes its slice of the weight.

    Options that are not live are not run: no arithmetic, no memory, no gradient. Where no option is live the output
    is zero (our choice; the paper does not say).

    Args:
        name: of the choice; places with the same name share one decision.
        options: the modules by name. All outputs have the same shape; under "concat" all but the second axis.
        max_picks: largest number of options in an architecture.
        min_picks: smallest.
        each_input: the forward pass gets a sequence of tensors, one for each option.
        join: "sum", "mean" over the live options, or "concat" along the second axis (channels of images).
        widths: length of that axis for each option, under "concat" only. Give `channels` to the module that follows.

    Attributes:
        channels: under "concat" the length of the output's second axis, a decided value.

    Raises:
        ValueError: `widths` does not fit `options` and `join`, or the number of picks is impossible.
    """

    takes_onto = True

    def __init__(
        self,
        name: str,
        options: Mapping[str, nn.Module],
        *,
        max_picks: int = 1,
        min_picks: int = 1,
        each_input: bool = False,
        join: Literal["sum", "mean", "concat"] = "sum",
        widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        kind: Literal["paths", "concat"] = "concat" if join == "concat" else "paths"
        self.choice = Choice(name, tuple(options), max_picks, min_picks=min_picks, kind=kind)
        if (widths is not None) != (kind == "concat") or (widths is not None and len(widths) != len(options)):
            raise ValueError(f'choice {name!r}: expected one width for each option with join="concat", else none')
        if join not in ("sum", "mean", "concat"):
            raise ValueError(f"choice {name!r}: expected join sum, mean or concat, got {join!r}")
        self.options = nn.ModuleList(options.values())
        self.each_input, self.join = each_input, join
        self.channels = None if widths is None else side_by_side(self.choice, widths)
        self._shapes: dict[Any, tuple[int, ...]] = {}

    def extra_repr(self) -> str:
        return f"{self.choice.name!r}, {', '.join(self.choice.options)}, max_picks={self.choice.max_picks}"

    def forward(self, x: Tensor | Sequence[Tensor], onto: Tensor | None = None) -> Tensor:
        """The live options' outputs joined; added to `onto`, of the output's shape, where that is given."""
        live = live_paths()
        if onto is not None and (self.join != "sum" or len(live.ghosts) > 1):
            return plus(onto, self.forward(x))
        inputs = [x] * len(self.options) if isinstance(x, Tensor) else x
        if len(inputs) != len(self.options) or isinstance(x, Tensor) == self.each_input:
            got = "one tensor" if isinstance(x, Tensor) else f"{len(inputs)} tensors"
            expected = f"{len(self.options)} tensors" if self.each_input else "one tensor"
            raise ValueError(f"choice {self.choice.name!r}: expected {expected}, got {got}")
        if self.join == "concat":
            return self._concat(live, inputs)
        total = onto
        ran: tuple[str, Tensor] | None = None
        partial: list[tuple[Tensor, list[int]]] = []  # outputs that only some of the ghost batches have
        numbers = [0] * len(live.ghosts)
        picked = [live.picks[ghost][self.choice.name] for ghost in live.ghosts]
        for index in sorted(frozenset().union(*picked)):
            source = inputs[index]
            places = [i for i, indices in enumerate(picked) if index in indices]
            everywhere = len(places) == len(live.ghosts)
            part = source if everywhere else _by_ghost(source, len(live.ghosts))[places].flatten(0, 1)
            option, takes = self.options[index], everywhere and total is not None
            takes = takes and takes_onto(option) and not isinstance(option, Choose)  # whose message names itself only
            like = ran or (None if onto is None else ("what is added to", onto))
            try:
                output = self._run(live, index, part, places, total if takes else None)
            except Misfit as error:
                self._check(like, index, error.got)
                raise
            if not takes:
                self._check(like, index, output)
            ran = ran or (self.choice.options[index], output)
            if everywhere:
                total = output if takes or total is None else total + output
            else:
                partial.append((output, places))
            for place in places:
                numbers[place] += 1
        shape = self._output_shape(live, inputs[0], ran)
        if total is None:
            total = _zeros(inputs[0] if ran is None else ran[1], (len(inputs[0]), *shape))
        for output, places in partial:
            where = torch.tensor(places, device=output.device)
            part = _by_ghost(output, len(places)).to(total.dtype)
            total = _by_ghost(total, len(live.ghosts)).index_add(0, where, part).flatten(0, 1)
        if self.join == "mean" and max(numbers) > 1:
            share = torch.tensor([1 / max(1, n) for n in numbers], dtype=total.dtype, device=total.device)
            return (_by_ghost(total, len(numbers)) * share.view(-1, *[1] * total.ndim)).flatten(0, 1)
        return total

    def _run(
        self, live: LivePaths, index: int, source: Tensor, places: Sequence[int], onto: Tensor | None = None
    ) -> Tensor:
        inside = (*live.inside, (self.choice.name, (self.choice.options[index],)))
        here = LivePaths(live.picks, tuple(live.ghosts[i] for i in places), inside, live.shapes)
        with set_live_paths(here):
            output: Tensor = self.options[index](source) if onto is None else self.options[index](source, onto)
        return output

    def _concat(self, live: LivePaths, inputs: Sequence[Tensor]) -> Tensor:
        """The ghost batches at hand have the same live options here: shapes depend on them."""
        picked = live.picks[live.ghosts[0]][self.choice.name]
        outputs: list[Tensor] = []
        for index in sorted(picked) or range(len(self.options)):
            with nullcontext() if picked else torch.no_grad():
                output = self._run(live, index, inputs[index], range(len(live.ghosts)))
            if outputs and (output.shape[:1] + output.shape[2:]) != (outputs[0].shape[:1] + outputs[0].shape[2:]):
                first = self.choice.options[min(picked, default=0)]
                raise _shape_error(self.choice.name, first, outputs[0], self.choice.options[index], output)
            outputs.append(output if picked else torch.zeros_like(output))
        return torch.cat(outputs, 1)

    def _check(self, ran: tuple[str, Tensor] | None, index: int, output: Tensor) -> None:
        """Without it addition would stretch an axis of length 1 in silence."""
        if ran is not None and ran[1].shape[1:] != output.shape[1:]:
            raise _shape_error(self.choice.name, *ran, self.choice.options[index], output)

    def _output_shape(self, live: LivePaths, source: Tensor, ran: tuple[str, Tensor] | None) -> tuple[int, ...]:
        """Shape of one example's output: remembered from when an option ran, since what is dropped is not computed.

        Where none ever ran for this shape of input, a copy of the first option without data tells; that is slow.
        """
        key = (source.shape[1:], live.shapes)
        if ran is not None:
            self._shapes[key] = tuple(ran[1].shape[1:])
        elif key not in self._shapes:
            with torch.no_grad():
                shadow = copy.deepcopy(self.options[0]).to("meta")
                ghost = source.detach().to("meta")
                if ghost.is_floating_point():  # autocast, which would make the types agree, leaves `meta` alone
                    ghost = ghost.to(next((p.dtype for p in shadow.parameters()), ghost.dtype))
                self._shapes[key] = tuple(shadow(ghost).shape[1:])
        return self._shapes[key]

    def chosen(self, picked: Sequence[str]) -> nn.Module:
        """The ordinary module that is left when only `picked` options are kept; it shares their weights."""
        indices = [index for index, option in enumerate(self.choice.options) if option in picked]
        if len(indices) == 1 and not self.each_input:
            return self.options[indices[0]]
        return Join([self.options[i] for i in indices], indices if self.each_input else None, self.join)


class Depth(nn.Module):
    """A choice of how many blocks are run, one after the other: always the first so many.

    Beyond the paper; as in Cai et al., "Once-for-All", ICLR 2020.

    Args:
        name: of the choice; places with the same name share one decision.
        blocks: the modules. The first of them may change the shape if at least one is always run.
        depths: the numbers of blocks to choose from, ascending; None for 1 to all of them.

    Raises:
        ValueError: the depths do not ascend from at least 0 to the number of blocks.
    """

    def __init__(self, name: str, blocks: Iterable[nn.Module], depths: Sequence[int] | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        depths = tuple(range(1, len(self.blocks) + 1)) if depths is None else tuple(depths)
        if not depths or list(depths) != sorted(set(depths)) or depths[0] < 0 or depths[-1] != len(self.blocks):
            raise ValueError(
                f"depth {name!r}: expected ascending numbers of blocks from at least 0 to all {len(self.blocks)}, "
                f"got {depths}"
            )
        self.depths = depths
        self.choice = Choice(name, tuple(map(str, depths)), kind="value")

    def extra_repr(self) -> str:
        return f"{self.choice.name!r}, {', '.join(self.choice.options)}"

    def needs(self, block: int) -> tuple[str, ...]:
        """The options under which this block is run."""
        return tuple(option for option, depth in zip(self.choice.options, self.depths, strict=True) if depth > block)

    def forward(self, x: Tensor) -> Tensor:
        live = live_paths()
        picked = live.picks[live.ghosts[0]][self.choice.name]
        for index, block in enumerate(self.blocks[: self.depths[max(picked, default=0)]]):
            needs = self.needs(index)
            here = (
                live
                if len(needs) == len(self.depths)
                else replace(live, inside=(*live.inside, (self.choice.name, needs)))
            )
            with set_live_paths(here):
                y = block(x)
            if index >= self.depths[0] and y.shape != x.shape:
                raise _shape_error(self.choice.name, f"{index} blocks", x, f"{index + 1} blocks", y)
            x = y
        return x

    def chosen(self, picked: Sequence[str]) -> nn.Module:
        """The ordinary module that is left at this depth; it shares the blocks' weights."""
        return nn.Sequential(*self.blocks[: self.depths[self.choice.options.index(picked[-1])]])


class Elastic(nn.Module):
    """Runs a module that holds decided values with what is live of them, on slices of its weights.

    Args:
        of: the module.
    """

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of

    def forward(self, *inputs: Any, **named: Any) -> Any:
        live = live_paths()
        return resolved(self.of, live.picks[live.ghosts[0]])(*inputs, **named)


def adapter(channels_in: int, channels_out: int, *, stride: int = 1, dims: int = 2) -> nn.Module:
    """Makes an option fit where another number of channels or another stride is expected. Only used when asked for.

    Args:
        channels_in: channels (features) that the option has.
        channels_out: channels that are expected.
        stride: how many times smaller each of the `dims` has to become.
        dims: axes after the channels: 2 for images, 1 for sequences [N, C, T]; 0 for features on the last axis.

    Returns:
        A convolution with kernel 1 and batch norm, or a linear layer; nothing to do gives the identity.
    """
    if channels_in == channels_out and stride == 1:
        return nn.Identity()
    if dims == 0:
        return nn.Linear(channels_in, channels_out)
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
    return nn.Sequential(convolution(channels_in, channels_out, 1, stride, bias=False), norm(channels_out))


class ShapeError(ValueError):
    """Two options of a choice do not fit together."""


def _shape_error(choice: str, first: str, expected: Tensor, option: str, got: Tensor) -> ShapeError:
    a, b = list(expected.shape[1:]), list(got.shape[1:])
    advice = "change one of them so that both agree"
    if len(a) == len(b) and len(a) in (1, 2, 3, 4):
        dims = len(a) - 1
        ratios = {y / x for x, y in zip(a[1:], b[1:], strict=True) if x}
        if len(ratios) <= 1 and all(ratio >= 1 for ratio in ratios):
            stride = math.ceil(next(iter(ratios), 1))
            advice = (
                f"append supernet.adapter({b[0]}, {a[0]}, stride={stride}, dims={dims}) to option {option!r}, or "
                + advice
            )
    return ShapeError(
        f"choice {choice!r}: option {option!r} gives {b} for one example, but {first!r} gives {a}: {advice}"
    )


class Join(nn.Module):
    """The outputs of several modules together: what a `Choose` becomes in a stand-alone network.

    Args:
        terms: the modules.
        sources: for each module the index of its input in the sequence of inputs; None where all get the same tensor.
        join: "sum", "mean" or "concat" along the second axis.
    """

    def __init__(self, terms: Sequence[nn.Module], sources: Sequence[int] | None = None, join: str = "sum") -> None:
        super().__init__()
        self.terms = nn.ModuleList(terms)
        self.sources = None if sources is None else tuple(sources)
        self.join = join

    def extra_repr(self) -> str:
        return self.join + ("" if self.sources is None else f" of inputs {self.sources}")

    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        inputs: list[Any] = [x] * len(self.terms) if self.sources is None else [x[i] for i in self.sources]
        if self.join == "concat":
            return torch.cat([term(source) for term, source in zip(self.terms, inputs, strict=True)], 1)
        total: Tensor = self.terms[0](inputs[0])
        for term, source in zip(self.terms[1:], inputs[1:], strict=True):
            total = added(term, source, total)
        return total / len(self.terms) if self.join == "mean" else total


class GhostBatchNorm(nn.Module):
    """Batch norm of the one-shot model: statistics of each ghost batch on its own, in training and in scoring.

    It has no running statistics: what they would average over changes with every ghost batch (paper, section 3.2).

    Args:
        of: the batch-norm module that it stands in for; its weights are taken over, not copied.
    """

    def __init__(self, of: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.num_features, self.eps = of.num_features, of.eps
        self.weight, self.bias = of.weight, of.bias

    def is_one_ghost_batch(self) -> bool:
        """Whether the forward pass that runs now holds one ghost batch only."""
        return len(live_paths().ghosts) == 1

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


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Zeros in the layout of `like`: in another one they would bring all that they are joined with into it."""
    if like.ndim == 4 == len(shape) and like.is_contiguous(memory_format=torch.channels_last):
        return like.new_empty(shape).to(memory_format=torch.channels_last).zero_()
    return like.new_zeros(shape)


def _by_ghost(x: Tensor, ghosts: int) -> Tensor:
    return x.view(ghosts, x.shape[0] // ghosts, *x.shape[1:])
