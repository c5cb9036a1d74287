"""The modules of a one-shot model: `OneShot`, `Choose`, `Depth`, and batch norm over ghost batches.

A network with choices is ordinary PyTorch code with these modules, and with decided values, at any depth. Which options
are live is an argument of the one-shot model's forward pass. It reaches the choices through a context variable that is
set during that pass only: no module has to pass it on, and a pass leaves nothing behind.

All code that runs in a forward pass is here, except for decided values (`supernet.space.values`) and the network's own;
`supernet.space.model` builds networks.

References:
    Bender et al., ICML 2018, section 3.2 (path dropout, ghost batches, batch statistics).
"""

from __future__ import annotations

import copy
import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.modules import shallow_copy
from supernet.base.randomness import drawing_again, nothing_drawn
from supernet.base.trees import (
    call,
    combined,
    form_text,
    join_rows,
    map_tensors,
    map_tensors_in,
    rows,
    take_rows,
    tensors_in,
)
from supernet.space.choices import Choice, Space
from supernet.space.values import Picks, Resolved, attribute_at, decided_values, side_by_side


@dataclass(frozen=True, slots=True)
class LivePaths:
    """What is live in the forward pass that runs now.

    Attributes:
        picks: for each ghost batch of the forward pass, the live options of each choice by their index.
        ghosts: which of them the tensors hold, in order; all hold the same number of examples.
        inside: the choices that the running code is nested in, outermost first, and for each the options of which one
            has to be live.
    """

    picks: tuple[Picks, ...]
    ghosts: tuple[int, ...]
    inside: tuple[tuple[str, tuple[str, ...]], ...] = ()


_LIVE: ContextVar[LivePaths] = ContextVar("supernet_live_paths")


def live_paths() -> LivePaths:
    """What is live in the forward pass that runs now.

    Raises:
        RuntimeError: called outside of a one-shot model's forward pass.
    """
    try:
        return _LIVE.get()
    except LookupError:
        raise RuntimeError(
            "a choice was run outside of a one-shot model: call supernet.build(space)(x, live), "
            "or supernet.build(space, architecture)(x) for a stand-alone network; torch.utils.checkpoint needs "
            "use_reentrant=False"
        ) from None


@contextmanager
def set_live_paths(live: LivePaths) -> Iterator[None]:
    """Makes `live` what `live_paths` returns, inside the ``with`` block only."""
    token = _LIVE.set(live)
    try:
        yield
    finally:
        _LIVE.reset(token)


class OneShot(nn.Module):
    """The over-parameterised network that holds every option of a space; `supernet.build` makes it.

    Its batch norms use the statistics of each ghost batch, in training and in evaluation mode alike, so that scoring
    leaves no trace. There is no default for what is live.

    Args:
        space: the space whose columns `live_GP` has.
        network: the network with every option, its batch norms replaced by `GhostBatchNorm`.
    """

    def __init__(self, space: Space, network: nn.Module) -> None:
        super().__init__()
        self.space, self.network = space, network
        _carry_paths_into_checkpoints()

    def forward(self, x: Any, live_GP: Tensor) -> Any:
        """Outputs of the live paths.

        Args:
            x: examples [G*b, ...]; the first b are ghost batch 0, and so on. A tuple or dict of such tensors is
                given to the network as its arguments.
            live_GP: bool [G, P], on the CPU; which options take part in each ghost batch.

        Returns:
            What the network returns, for instance logits [G*b, classes].

        Raises:
            TypeError: `live_GP` is not a boolean tensor.
            ValueError: its shape does not fit the space, or the examples cannot be divided into G ghost batches.
        """
        if live_GP.dtype is not torch.bool:
            raise TypeError(f"live_GP: expected torch.bool, got {live_GP.dtype}")
        options = len(self.space.columns)
        if live_GP.ndim != 2 or live_GP.shape[1] != options or len(live_GP) == 0:
            raise ValueError(f"live_GP: expected shape [G, {options}], got {list(live_GP.shape)}")
        examples = rows(x)
        if examples == 0 or examples % len(live_GP):
            raise ValueError(f"{examples} examples cannot be divided into {len(live_GP)} ghost batches of equal size")
        picks = picks_of(self.space, live_GP)
        # Ghost batches whose tensors differ in shape cannot share a tensor: a pass for each kind of them.
        names = [choice.name for choice in self.space.choices if choice.kind != "paths"]
        together: dict[tuple[frozenset[int], ...], list[int]] = {}
        for ghost, picked in enumerate(picks):
            together.setdefault(tuple(picked[name] for name in names), []).append(ghost)
        outputs: list[Any] = []
        size = examples // len(live_GP)
        for ghosts in together.values():
            part = x
            if len(together) > 1:
                part = join_rows([take_rows(x, slice(g * size, (g + 1) * size)) for g in ghosts])
            with set_live_paths(LivePaths(tuple(picks), tuple(ghosts))):
                output = call(self.network, part)
            if len(together) == 1:
                return output
            outputs += [(g, take_rows(output, slice(i * size, (i + 1) * size))) for i, g in enumerate(ghosts)]
        return join_rows([output for _, output in sorted(outputs, key=lambda pair: pair[0])])


def _carry_paths_into_checkpoints() -> None:
    """Makes `torch.utils.checkpoint` run a function again with what was live, and drawn, when it ran at first.

    The second run happens in the backward pass, when the forward pass and its context are over, in a thread of
    autograd's. torch offers no hook for it, so the function that notes what is to be run again is replaced, once;
    outside of a one-shot model's forward pass it does what it did.
    """
    original: Any = torch.utils.checkpoint._checkpoint_without_reentrant_generator
    if not isinstance(original, _Carrying):
        vars(torch.utils.checkpoint)["_checkpoint_without_reentrant_generator"] = _Carrying(original)


class _Carrying:
    """See `_carry_paths_into_checkpoints`.

    Args:
        original: torch's function.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __call__(self, function: Callable[..., Any], *settings: Any, **named: Any) -> Any:
        live, chance = _LIVE.get(None), drawing_again()
        if live is None:
            return self._original(function, *settings, **named)

        def again(*inputs: Any, **more: Any) -> Any:
            with set_live_paths(live), chance:
                return function(*inputs, **more)

        return self._original(again, *settings, **named)


def picks_of(space: Space, live_GP: Tensor) -> list[dict[str, frozenset[int]]]:
    """For each ghost batch the live options of each choice by their index."""
    picks: list[dict[str, frozenset[int]]] = []
    for row in live_GP.tolist():
        picks.append({})
        start = 0
        for choice in space.choices:
            end = start + len(choice.options)
            picks[-1][choice.name] = frozenset(i for i, on in enumerate(row[start:end]) if on)
            start = end
    return picks


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The arguments of an option's forward pass."""

    args: tuple[Any, ...]
    named: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self) -> Iterator[Tensor]:
        """The tensors in them; the first has the examples along its first axis."""
        return tensors_in((*self.args, *self.named.values()))

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Inputs:
        """The same with each tensor replaced."""
        return Inputs(map_tensors_in(self.args, function), map_tensors_in(dict(self.named), function))

    def of(self, module: nn.Module) -> Any:
        """What a module makes of them."""
        return module(*self.args, **self.named)


@dataclass(slots=True, eq=False)
class OutputShapes:
    """The shapes of a choice's output, for zeros in its place: measured on an option, and remembered.

    All views of a one-shot model share them.

    Attributes:
        option: the module that is measured.
        names: the choices in it on which the shape of its output depends.
        by_key: outputs without data, by the shapes of the tensors in its arguments (of the first of them that of one
            example), and by what is live of the choices in `names`.
    """

    option: nn.Module
    names: tuple[str, ...]
    by_key: dict[tuple[Any, ...], Any]

    def of(self, inputs: Inputs, live: LivePaths) -> Any:
        """An output without data, of any number of examples."""
        picks = live.picks[live.ghosts[0]]
        first, *more = (tuple(tensor.shape) for tensor in inputs.tensors())
        key = first[1:], *more, *(picks.get(name) for name in self.names)
        if key not in self.by_key:
            self.by_key[key] = _measured(self.option, inputs)
        return self.by_key[key]


def output_shapes_of(option: nn.Module) -> OutputShapes:
    """Shapes that are measured on an option when they are asked for the first time."""
    names: set[str] = set()
    for module in option.modules():
        if isinstance(module, (Choose, Depth)) and module.choice.kind != "paths":
            names.add(module.choice.name)
        names.update(choice.name for thing in decided_values(module) for choice in thing.choices())
    return OutputShapes(option, tuple(sorted(names)), {})


@torch.no_grad()
def _measured(option: nn.Module, inputs: Inputs) -> Any:
    """An output without data; what the option draws or changes in itself is as before afterwards."""
    device = next(inputs.tensors()).device
    kind = next((p.dtype for p in option.parameters()), None)

    def on_meta_like(tensor: Tensor) -> Tensor:
        meta = tensor.to("meta")  # autocast, which would make the types agree, leaves it alone
        return meta.to(kind) if meta.is_floating_point() and kind is not None else meta

    with nothing_drawn(device):
        try:
            output = inputs.mapped(on_meta_like).of(on_meta(option))
        except Exception:  # a branch that depends on numbers, a tensor in a list: code of a network may do anything
            if device.type == "meta":
                raise
            output = inputs.mapped(Tensor.clone).of(_shadow(option, without_data=False))
    return map_tensors(output, lambda tensor: tensor.to("meta"))


class Choose(nn.Module):
    """A choice among modules: runs the live ones and joins their outputs.

    With ``each_input`` option i works on input i, which makes it a choice among inputs. A 1x1 convolution of the
    concatenated inputs is the sum of one 1x1 convolution for each, so the paper's "concatenate, then 1x1" is a
    `Choose` with ``each_input``, and removing an input removes its slice of the weight.

    Options that are not live are not run: no arithmetic, no memory, no gradient. If no option is live, the output
    is zero (our choice; the paper does not say).

    All options get the same arguments, by position and by name: masks, flags, tuples of tensors. They may return
    tuples or dicts of tensors; these are joined tensor by tensor. Where several ghost batches share a pass and the
    option has more than one tensor among its arguments, it is run on all ghost batches and what is not live is left
    out: nothing tells which of the tensors have a row for each example.

    Args:
        name: of the choice; places with the same name share one decision.
        options: the modules by name. All outputs have the same shape; under "concat" all but the second axis.
        max_picks: largest number of options in an architecture.
        min_picks: smallest.
        each_input: the first argument is a sequence of tensors, one for each option.
        join: "sum", "mean" over the live options, or "concat" along the second axis (channels of images).
        widths: length of that axis for each option, under "concat" only. Give `channels` to the module that follows.

    Attributes:
        channels: under "concat" the length of the output's second axis, a decided value.
        zeros: the indices of the options that give zeros (`Zero`).
        output_shapes: of a choice in a one-shot model; its zeros have them if no option is live.

    Raises:
        ValueError: `widths` does not fit `options` and `join`, or the number of picks is impossible.
    """

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
        if not isinstance(options, Mapping):
            raise ValueError(
                f'choice {name!r}: expected options by name, as in {{"conv": nn.Conv2d(...), "pool": ...}}, got a '
                f"{type(options).__name__}"
            )
        kind: Literal["paths", "concat"] = "concat" if join == "concat" else "paths"
        self.choice = Choice(name, tuple(options), max_picks, min_picks=min_picks, kind=kind)
        if (widths is not None) != (kind == "concat") or (widths is not None and len(widths) != len(options)):
            raise ValueError(f'choice {name!r}: expected one width for each option with join="concat", else none')
        if join not in ("sum", "mean", "concat"):
            raise ValueError(f"choice {name!r}: expected join sum, mean or concat, got {join!r}")
        self.options = nn.ModuleList(options.values())
        for module in self.options.modules():
            if getattr(module, "inplace", None) is True:  # it would change the input of the other options
                vars(module)["inplace"] = False
        self.each_input, self.join = each_input, join
        self.channels = None if widths is None else side_by_side(self.choice, widths)
        self.zeros = frozenset(i for i, option in enumerate(options.values()) if isinstance(option, Zero))
        self.output_shapes: OutputShapes | None = None

    def extra_repr(self) -> str:
        return f"{self.choice.name!r}, {', '.join(self.choice.options)}, max_picks={self.choice.max_picks}"

    def forward(self, x: Any, *more: Any, **named: Any) -> Any:
        """The live options' outputs joined."""
        live = live_paths()
        inputs = [Inputs((of_option, *more), named) for of_option in self.each(x)]
        if self.join == "concat":
            return self._concat(live, inputs)
        picked = [live.picks[ghost][self.choice.name] for ghost in live.ghosts]
        total: Any = None
        of_some: list[tuple[int, Any, list[int]]] = []  # outputs that only some of the ghost batches have
        for index in sorted(frozenset().union(*picked)):
            places = [place for place, indices in enumerate(picked) if index in indices]
            if len(places) == len(picked):
                total = self.add(total, live, index, inputs[index])
            else:
                of_some.append((index, self._part(live, index, inputs[index], places), places))
        if total is None:
            total = self._zeros(live, inputs[0], of_some[0][1] if of_some else None)
        for index, output, places in of_some:
            self.check(live, index, output, total)
            total = combined(partial(_added_at, places, len(picked)), total, output)
        return _divided(total, [len(indices) for indices in picked]) if self.join == "mean" else total

    def each(self, x: Any) -> Sequence[Any]:
        """The first argument of each option.

        Raises:
            ValueError: `each_input`, and it is no sequence of as many as there are options.
        """
        if not self.each_input:
            return [x] * len(self.options)
        if not isinstance(x, (tuple, list)) or len(x) != len(self.options):
            got = f"{len(x)} tensors" if isinstance(x, (tuple, list)) else "one tensor"
            raise ValueError(f"choice {self.choice.name!r}: expected {len(self.options)} tensors, got {got}")
        return x

    def _part(self, live: LivePaths, index: int, inputs: Inputs, places: Sequence[int]) -> Any:
        """The output of an option for some of the ghost batches."""
        ghosts = len(live.ghosts)

        def taken(tensor: Tensor) -> Tensor:
            return _by_ghost(tensor, ghosts)[places].flatten(0, 1) if tensor.ndim else tensor

        if len(list(inputs.tensors())) == 1:
            return self.run(live, index, inputs.mapped(taken), places)
        return map_tensors(self.run(live, index, inputs), taken)

    def run(self, live: LivePaths, index: int, inputs: Inputs, places: Sequence[int] | None = None) -> Any:
        """The output of an option, for the ghost batches at these places of `live.ghosts`, or for all of them.

        Raises:
            ValueError: the option writes into its input.
        """
        ghosts = live.ghosts if places is None else tuple(live.ghosts[place] for place in places)
        inside = (*live.inside, (self.choice.name, (self.choice.options[index],)))
        versions = [_version(tensor) for tensor in inputs.tensors()]
        with set_live_paths(LivePaths(live.picks, ghosts, inside)):
            output = inputs.of(self.options[index])
        if versions != [_version(tensor) for tensor in inputs.tensors()]:
            raise ValueError(
                f"choice {self.choice.name!r}: option {self.choice.options[index]!r} writes into its input, which "
                "other options read too: let it write into a tensor of its own (x = x + 1 for x += 1, no inplace=True)"
            )
        return output

    def add(self, total: Any, live: LivePaths, index: int, inputs: Inputs) -> Any:
        """The sum with the output of one more option, for all ghost batches; its output alone if there is no sum."""
        output = self.run(live, index, inputs)
        if total is None:
            return output
        self.check(live, index, output, total)
        return combined(torch.add, total, output)

    def check(self, live: LivePaths, index: int, output: Any, total: Any) -> None:
        """Refuses an output of another shape than the sum's: addition would stretch an axis of length 1 in silence.

        Raises:
            ShapeError: the shapes differ.
        """
        if _shapes(output) == _shapes(total):
            return
        picked = [live.picks[ghost][self.choice.name] for ghost in live.ghosts]
        first = min(frozenset.intersection(*picked) or frozenset.union(*picked))
        before = "the sum that it is added to" if index == first else self.choice.options[first]
        raise _shape_error(self.choice.name, before, total, self.choice.options[index], output)

    def brings_nothing(self) -> bool:
        """Whether all that is live, in every ghost batch of the forward pass that runs now, are options of zeros."""
        live = live_paths()
        return all(live.picks[ghost][self.choice.name] <= self.zeros for ghost in live.ghosts)

    def _concat(self, live: LivePaths, inputs: Sequence[Inputs]) -> Tensor:
        """The outputs side by side. All ghost batches of a pass have the same live options: shapes depend on them."""
        picked = live.picks[live.ghosts[0]][self.choice.name]
        outputs: list[Tensor] = []
        for index in sorted(picked) or range(len(self.options)):
            with nullcontext() if picked else torch.no_grad():
                output = self.run(live, index, inputs[index])
            if not isinstance(output, Tensor):
                raise ShapeError(
                    f"choice {self.choice.name!r}: option {self.choice.options[index]!r} gives {form_text(output)}; "
                    'join="concat" joins tensors'
                )
            if outputs and (output.shape[:1] + output.shape[2:]) != (outputs[0].shape[:1] + outputs[0].shape[2:]):
                first = self.choice.options[min(picked, default=0)]
                raise _shape_error(self.choice.name, first, outputs[0], self.choice.options[index], output)
            outputs.append(output if picked else torch.zeros_like(output))
        return torch.cat(outputs, 1)

    def _zeros(self, live: LivePaths, inputs: Inputs, output: Any) -> Any:
        """Zeros of the output's shape for all ghost batches, if no option is live in all of them.

        Args:
            inputs: of the first option.
            output: of an option that is live in some of the ghost batches, if there is one.
        """
        source = next(inputs.tensors())
        if output is not None:
            return map_tensors(output, lambda tensor: _zeros(tensor, tensor, len(source)))
        shapes = output_shapes_of(self.options[0]) if self.output_shapes is None else self.output_shapes
        return map_tensors(shapes.of(inputs, live), lambda tensor: _zeros(source, tensor, len(source)))

    def chosen(self, picked: Sequence[str]) -> nn.Module:
        """The ordinary module that is left when only `picked` options are kept; it shares their weights."""
        indices = [index for index, option in enumerate(self.choice.options) if option in picked]
        if len(indices) == 1 and not self.each_input:
            return self.options[indices[0]]
        return Join([self.options[i] for i in indices], indices if self.each_input else None, self.join)


class Depth(nn.Module):
    """A choice of how many blocks are run, one after the other: always the first ones.

    Beyond the paper; as in Cai et al., "Once-for-All", ICLR 2020.

    Args:
        name: of the choice; places with the same name share one decision.
        blocks: the modules. The first of them may change the shape if at least one is always run.
        depths: the numbers of blocks to choose from, ascending; None for every number from 1 on.

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

    def forward(self, x: Any, *more: Any, **named: Any) -> Any:
        """The output of the last block that is run; see `Blocks` for what each of them gets.

        Raises:
            ShapeError: a block changes the shape that other depths give.
            ValueError: as `Blocks.forward`.
        """
        live = live_paths()
        output: Any = x
        args = (x, *more)
        for index, block in enumerate(self._now()):
            needs = self.needs(index)
            paths = (
                live
                if len(needs) == len(self.depths)
                else replace(live, inside=(*live.inside, (self.choice.name, needs)))
            )
            with set_live_paths(paths):
                output = block(*args, **named)
            before, args = args, _passed_on(output, args)
            if index >= self.depths[0] and _shapes(args[0]) != _shapes(before[0]):
                raise _shape_error(self.choice.name, f"{index} blocks", before[0], f"{index + 1} blocks", args[0])
        return _of_blocks(self._now(), output, args)

    def _now(self) -> Sequence[nn.Module]:
        """The blocks that are live; all of them outside of a forward pass."""
        live = _LIVE.get(None)
        if live is None:
            return list(self.blocks)
        return list(self.blocks)[: self.depths[max(live.picks[live.ghosts[0]][self.choice.name], default=0)]]

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self._now())

    def __getitem__(self, place: int | slice) -> Any:
        blocks = self._now()[place]
        return blocks if isinstance(blocks, nn.Module) else Blocks(*blocks)

    def __len__(self) -> int:
        return len(self._now())

    def chosen(self, picked: Sequence[str]) -> nn.Module:
        """The ordinary module that is left at this depth; it shares the blocks' weights."""
        blocks = list(self.blocks)[: self.depths[self.choice.options.index(picked[-1])]]
        return Blocks(*blocks) if any(map(_takes_more, self.blocks)) else nn.Sequential(*blocks)


class Blocks(nn.Sequential):
    """Modules one after the other, as `nn.Sequential`, with arguments beside the first.

    Each gets what the one before returns. If there are several arguments by position, a tensor that a block returns
    takes the place of the first, and a tuple of as many takes the place of all of them. Arguments by name are the same
    for all blocks.
    """

    def forward(self, x: Any, *more: Any, **named: Any) -> Any:  # type: ignore[override]  # it takes more
        """The output of the last block.

        Raises:
            ValueError: a block returns something else than a tensor, or a tuple of as many as it gets.
        """
        output: Any = x
        args = (x, *more)
        for block in self:
            output = block(*args, **named)
            args = _passed_on(output, args)
        return _of_blocks(self, output, args)


def _passed_on(output: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments by position of the next block."""
    if len(args) == 1:
        return (output,)
    if isinstance(output, Tensor):
        return output, *args[1:]
    if isinstance(output, (tuple, list)) and len(output) == len(args):
        return tuple(output)
    raise ValueError(
        f"a block of a Depth gets {len(args)} arguments by position and returns {form_text(output)}: let it return a "
        f"tensor, or {len(args)} of them; or run the blocks yourself: for block in depth: ..."
    )


def _of_blocks(blocks: Sized, output: Any, args: tuple[Any, ...]) -> Any:
    """The output of some blocks, of which it is not known what they return if there are none."""
    if len(args) > 1 and not len(blocks):
        raise ValueError(
            f"a Depth of 0 blocks gets {len(args)} arguments by position, and cannot tell which of them it returns: "
            "give those that stay the same by name (mask=mask), or run the blocks yourself: for block in depth: ..."
        )
    return output


def _takes_more(module: nn.Module) -> bool:
    """Whether the forward pass of a module takes more than one argument."""
    if isinstance(module, (Choose, Depth)):
        return any(map(_takes_more, module.options if isinstance(module, Choose) else module.blocks))
    if isinstance(module, (Elastic, GhostByGhost)):
        return _takes_more(module.of)
    parameters = inspect.signature(module.forward).parameters.values()
    return len(parameters) > 1 or any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)


class Elastic(nn.Module):
    """Runs a module that holds decided values with what is live of them, on slices of its weights.

    In a forward pass it has the attributes, elements and length of that module, as they are with what is live; at
    other times those of the module with everything on.

    Args:
        of: the module.
    """

    def __init__(self, of: nn.Module) -> None:
        super().__init__()
        self.of = of
        self._resolved = Resolved()

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._now()(*inputs, **named)

    def _now(self) -> Any:
        """The module with what is live."""
        live = _LIVE.get(None)
        return self.of if live is None else self._resolved.at(self.of, live.picks[live.ghosts[0]])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "of" not in vars(self).get("_modules", {}):
                raise
        live = _LIVE.get(None)
        if live is None:
            return getattr(self.of, name)
        return attribute_at(self.of, name, live.picks[live.ghosts[0]])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._now())

    def __getitem__(self, place: Any) -> Any:
        return self._now()[place]

    def __len__(self) -> int:
        return len(self._now())

    def __bool__(self) -> bool:
        return bool(self._now())


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


def _shape_error(choice: str, first: str, expected: Any, option: str, got: Any) -> ShapeError:
    advice = "change one of them so that both agree"
    if not (isinstance(expected, Tensor) and isinstance(got, Tensor)):
        return ShapeError(
            f"choice {choice!r}: option {option!r} gives {form_text(got)}, but {first!r} gives {form_text(expected)}: "
            + advice
        )
    a, b = list(expected.shape[1:]), list(got.shape[1:])
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

    def forward(self, x: Any, *more: Any, **named: Any) -> Any:
        sources = [x] * len(self.terms) if self.sources is None else [x[i] for i in self.sources]
        inputs = [Inputs((source, *more), named) for source in sources]
        if self.join == "concat":
            return torch.cat([of_term.of(term) for term, of_term in zip(self.terms, inputs, strict=True)], 1)
        total = inputs[0].of(self.terms[0])
        for term, of_term in zip(self.terms[1:], inputs[1:], strict=True):
            total = self.add(total, term, of_term)
        return map_tensors(total, lambda t: t / len(self.terms)) if self.join == "mean" else total

    def add(self, total: Any, term: nn.Module, inputs: Inputs) -> Any:
        """The sum with the output of one more term."""
        return combined(torch.add, total, inputs.of(term))


class Zero(nn.Module):
    """Zeros of the input's shape. The input gets no gradient, so the backward pass computes none."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Graph(nn.Module):
    """A graph of nodes, each the sum of what its edges bring from nodes before it. The last node is the output.

    All nodes have the shape of the input, which is node 0. An edge that brings nothing (see
    `Choose.brings_nothing`), or from which nothing gets to the output, is not run.

    Args:
        edges: for each edge, as (source, node), its module: in ascending order of the nodes.
        of_zeros: what an edge gives if nothing arrives at its source: a function of the edge and of a tensor of the
            shape of its input. It may return what is broadcast to that shape. By default the edge is run on zeros.
    """

    def __init__(
        self,
        edges: Mapping[tuple[int, int], nn.Module],
        of_zeros: Callable[[nn.Module, Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.places, self.of_zeros = tuple(edges), of_zeros or _run_on_zeros
        self.edges = nn.ModuleList(edges.values())

    def forward(self, x: Tensor) -> Tensor:
        last = self.places[-1][1]
        brings = [not (isinstance(edge, Choose) and edge.brings_nothing()) for edge in self.edges]
        leading = {last}  # nodes from which something gets to the output
        for (source, node), something in zip(reversed(self.places), reversed(brings), strict=True):
            if something and node in leading:
                leading.add(source)
        sums = {0: x}
        for (source, node), edge, something in zip(self.places, self.edges, brings, strict=True):
            if something and node in leading:
                if source in sums:
                    sums[node] = self.add(sums.get(node), edge, sums[source])
                else:
                    sums[node] = (sums[node] if node in sums else torch.zeros_like(x)) + self.of_zeros(edge, x)
        return sums[last] if last in sums else torch.zeros_like(x)

    def add(self, total: Tensor | None, edge: nn.Module, source: Tensor) -> Tensor:
        """The sum with the output of one more edge."""
        output: Tensor = edge(source)
        return output if total is None else total + output


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
        if ghosts > 1 and x.device.type == "cpu":  # half the copies, and the layout stays
            parts = x.chunk(ghosts)
            return torch.cat([F.batch_norm(p, None, None, weight, bias, training=True, eps=self.eps) for p in parts])
        if ghosts > 1:  # the ghost batches side by side as channels: one kernel for all of them
            if weight is not None and bias is not None:
                weight, bias = weight.repeat(ghosts), bias.repeat(ghosts)
            per_ghost, channels, lengths = x.shape[0] // ghosts, x.shape[1], x.shape[2:]
            side_by_side = _by_ghost(x, ghosts).transpose(0, 1).reshape(per_ghost, ghosts * channels, *lengths)
            y = F.batch_norm(side_by_side, None, None, weight, bias, training=True, eps=self.eps)
            return y.reshape(per_ghost, ghosts, channels, *lengths).transpose(0, 1).reshape(x.shape)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)


class GhostByGhost(nn.Module):
    """A batch norm of a class of its own, which may do more than its base: its own forward pass on each ghost batch.

    Like `GhostBatchNorm` it keeps no running statistics, so that torch takes those of the batch. It has the attributes
    of the module.

    Args:
        of: the batch norm; its running statistics are removed.
    """

    def __init__(self, of: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        of.running_mean = of.running_var = of.num_batches_tracked = None
        of.track_running_stats = False
        self.of = of

    def forward(self, x: Tensor, *inputs: Any, **named: Any) -> Any:
        ghosts = len(live_paths().ghosts)
        if ghosts == 1:
            return self.of(x, *inputs, **named)
        return join_rows([self.of(part, *inputs, **named) for part in x.chunk(ghosts)])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "of" not in vars(self).get("_modules", {}):
                raise
        return getattr(self.of, name)


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
"""Classes that `GhostBatchNorm` stands in for: these, and none that are derived from them."""


def ghost_norm(module: nn.Module) -> nn.Module:
    """What stands in for a batch norm in the one-shot model; another module as it is."""
    if type(module) in BATCH_NORMS:
        return GhostBatchNorm(module)  # type: ignore[arg-type]  # all of these are batch norms
    return GhostByGhost(module) if isinstance(module, nn.modules.batchnorm._BatchNorm) else module


def _version(x: Tensor) -> int | None:
    """Tells whether something was written into a tensor."""
    return None if x.is_inference() else x._version


def _run_on_zeros(edge: nn.Module, like: Tensor) -> Tensor:
    output: Tensor = edge(torch.zeros_like(like))
    return output


def on_meta(module: nn.Module) -> nn.Module:
    """The module without data and without hooks, to see the shapes of its outputs; the module stays as it is."""
    return _shadow(module, without_data=True)


def _shadow(module: nn.Module, *, without_data: bool) -> nn.Module:
    """A copy that shares nothing with the module that a forward pass may change: with its parameters, or without data.

    Hooks after a forward pass are left out, since users read outputs with them. Those before it may compute weights,
    as of `torch.nn.utils.weight_norm`; without data, they are left out too.
    """

    def as_own(thing: Any) -> Any:
        if isinstance(thing, nn.Parameter):
            return nn.Parameter(torch.empty_like(thing, device="meta"), thing.requires_grad) if without_data else thing
        if isinstance(thing, Tensor):
            return torch.empty_like(thing, device="meta") if without_data else thing.clone()
        return copy.copy(thing) if type(thing) in (list, dict, set) else thing

    shadow = shallow_copy(module)
    attributes = {name: as_own(thing) for name, thing in vars(module).items()}
    for name in ("_parameters", "_buffers"):
        attributes[name] = {key: as_own(tensor) for key, tensor in vars(module)[name].items()}
    children = module._modules.items()
    attributes["_modules"] = {
        name: None if child is None else _shadow(child, without_data=without_data) for name, child in children
    }
    attributes["_forward_hooks"] = OrderedDict()
    if without_data:
        attributes["_forward_pre_hooks"] = OrderedDict()
    vars(shadow).update(attributes)
    return shadow


def _added_at(places: Sequence[int], ghosts: int, total: Tensor, part: Tensor) -> Tensor:
    """The sum for all ghost batches with what only those at some places bring; of one number for all a share."""
    if not total.ndim:
        return total + part * (len(places) / ghosts)
    where = torch.tensor(places, device=part.device)
    return _by_ghost(total, ghosts).index_add(0, where, _by_ghost(part, len(places)).to(total.dtype)).flatten(0, 1)


def _divided(total: Any, numbers: Sequence[int]) -> Any:
    """The sum of each ghost batch over the number of its terms; of no terms it stays zero."""
    if max(numbers) <= 1:
        return total

    def divided(tensor: Tensor) -> Tensor:
        share = torch.tensor([1 / max(1, n) for n in numbers], dtype=tensor.dtype, device=tensor.device)
        if not tensor.ndim:
            return tensor * share.mean()
        return (_by_ghost(tensor, len(numbers)) * share.view(-1, *[1] * tensor.ndim)).flatten(0, 1)

    return map_tensors(total, divided)


def _zeros(like: Tensor, output: Tensor, number: int) -> Tensor:
    """Zeros for an output of this number of examples, in the layout of `like`: in another one they would bring all that
    they are joined with into it.
    """
    shape = (number, *output.shape[1:]) if output.ndim else ()
    kind = like.dtype if like.is_floating_point() else output.dtype
    if like.ndim == 4 == len(shape) and like.is_contiguous(memory_format=torch.channels_last):
        return like.new_empty(shape, dtype=kind).to(memory_format=torch.channels_last).zero_()
    return like.new_zeros(shape, dtype=kind)


def _shapes(output: Any) -> list[tuple[int, ...]]:
    """The shapes of the tensors in an output, for one example."""
    return [tuple(tensor.shape[1:]) for tensor in tensors_in(output)]


def _by_ghost(x: Tensor, ghosts: int) -> Tensor:
    return x.view(ghosts, x.shape[0] // ghosts, *x.shape[1:])
