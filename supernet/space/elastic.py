"""A plain network made elastic: its widths, depths, heads and kernels become choices, without a change to its code.

`supernet.space.axes` says which axes of parameters run over the same channels. Each such group becomes one value, which
is put into the numbers that torch's modules hold and into the lengths of parameters, where `value` would put it if the
network were written with it. So the one-shot model, costs, limits and stand-alone networks work as for choices that
are written by hand. Each choice is tried before it is kept: what does not run with its smallest option stays as it is.

References:
    Cai et al., "Once-for-All", ICLR 2020 (elastic width, depth and kernel size).
    Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023 (groups of channels that depend on each other).
"""

from __future__ import annotations

import fnmatch
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from supernet.base.randomness import nothing_drawn
from supernet.base.trees import tensors_in
from supernet.space.axes import TiedAxes, axes_of
from supernet.space.choices import Choice, Space
from supernet.space.layers import Choose, Depth
from supernet.space.model import build, from_network
from supernet.space.network import made_without_data
from supernet.space.ties import Layout
from supernet.space.values import (
    FOLLOWED,
    DecidedInt,
    DecidedThing,
    Factor,
    Followed,
    Span,
    Table,
    decided_picks,
    decided_values,
    resolved,
    usual_axes,
)

log = logging.getLogger(__name__)

_Rule = str | type
"""A pattern of module paths, such as ``layer4.*``, the name of a class, or a class: it selects all that is inside."""


@dataclass(frozen=True, slots=True)
class _Change:
    """What is put into a module.

    Attributes:
        attributes: by name.
        axes: lengths of parameters and buffers, by their names.
        present: for children that are not always there what has to be true.
    """

    attributes: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    present: Mapping[str, tuple[DecidedThing, ...]] = field(default_factory=dict)


_Plan = Mapping[str, _Change]
"""What is put into the modules of a network, by their paths."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A choice that a network could have.

    Attributes:
        choice: the choice.
        numbers: what each option stands for.
        owners: paths of the modules that it belongs to.
        atom: of a width: the atom whose length it decides.
        plan: what it puts into modules by itself.
    """

    choice: Choice
    numbers: tuple[int, ...]
    owners: tuple[str, ...]
    atom: int | None = None
    plan: _Plan = field(default_factory=dict)

    def times(self, factor: int) -> DecidedInt:
        """The number, times another one."""
        return DecidedInt((Span((Factor(self.choice, self.numbers),), factor),))


def elastic(
    network: Callable[[], nn.Module],
    example: Any,
    *,
    widths: Sequence[float] = (0.5, 0.75, 1.0),
    depths: float = 0.5,
    kernels: Sequence[int] = (),
    only: Sequence[_Rule] = (),
    skip: Sequence[_Rule] = (),
    name: str = "elastic",
    settings: Mapping[str, object] | None = None,
) -> Space:
    """The space of a plain network.

    Args:
        network: makes the network, with new weights; takes no argument.
        example: one example or more, with the batch dimension first: a tensor, or a tuple or dict of tensors that are
            the network's arguments.
        widths: shares of the channels, of the heads and of the features of each group that is tied; () for none. They
            are rounded to multiples of 8 channels (4 in groups of fewer than 64, 1 in groups of fewer than 16).
        depths: the smallest share of the blocks of a run of equal blocks, from 0 to 1; 1 leaves depths as they are. At
            least one block of a container is left.
        kernels: odd kernel sizes to choose from in convolutions that have a larger one and keep the size of images.
        only: what may become elastic; empty for all.
        skip: what stays as it is. Both hold for what makes the channels: a head that is skipped takes as many as come.
        name, settings: as for `from_network`.

    Returns:
        The space; its `fixed` says of modules why they stay as they are.

    Raises:
        ValueError: nothing can be made elastic, the network does not run on the example, or has choices already.
    """
    _check(network, widths, depths, kernels)
    modules = dict(made_without_data(network).named_modules())
    for path, module in modules.items():
        if isinstance(module, (Choose, Depth)) or next(decided_values(module), None) is not None:
            raise ValueError(f"module {path!r} has choices already: call from_network, or take a plain network")
    tied = axes_of(network, example)
    candidates = [
        *(_widths(tied, modules, widths) if widths else ()),
        *(_depths(modules, depths) if depths < 1 else ()),
        *(_kernels(modules, kernels) if kernels else ()),
    ]
    allowed = [c for c in candidates if _is_allowed(c, modules, only, skip)]
    kept, fixed = _tried(
        partial(_Trial, network, example, tied, modules), allowed, partial(_with_attributes, tied, modules)
    )
    fixed = {**_fixed_widths(tied, modules), **fixed}
    if not kept:
        reasons = "; ".join(f"{path}: {why}" for path, why in list(fixed.items())[:3])
        raise ValueError(f"nothing of the network can be made elastic{': ' if reasons else ''}{reasons}")
    plan = _plan(tied, modules, kept)
    space = from_network(partial(_made, network, plan), example, name=name, settings=settings, check=False)
    log.info("elastic: %d choices; %d modules stay as they are", len(space.choices), len(fixed))
    return replace(space, fixed=tuple(fixed.items()))


def _check(network: Any, widths: Sequence[float], depths: float, kernels: Sequence[int]) -> None:
    if isinstance(network, nn.Module):
        raise ValueError(
            "network: expected a function that makes it, since networks are trained from scratch too; got a module: "
            "write lambda: MyNetwork(...), and give its weights apart"
        )
    if not all(0 < share <= 1 for share in widths):
        raise ValueError(f"widths: expected shares above 0 and up to 1, got {tuple(widths)}")
    if not 0 <= depths <= 1:
        raise ValueError(f"depths: expected a share from 0 to 1, got {depths}")
    if not all(isinstance(kernel, int) and kernel > 0 and kernel % 2 for kernel in kernels):
        raise ValueError(f"kernels: expected odd numbers, got {tuple(kernels)}")


# ---- what could be chosen ----


def _widths(tied: TiedAxes, modules: Mapping[str, nn.Module], shares: Sequence[float]) -> Iterator[_Candidate]:
    """A candidate for each group of tied channels."""
    ties = tied.ties
    makers = _makers(tied, modules)
    grouped = {atom for layout in tied.groups.values() for run in ties.expanded(layout) for atom in run}
    names: set[str] = set()
    for atom, owners in makers.items():
        if atom in ties.fixed:
            continue
        length = ties.length_of_run((atom,))
        options = _options(length, shares)
        if len(options) == 1:
            continue
        inner = max(ties.length_of_run(rest) for rest in _behind(tied, atom))
        path = next((path for path in owners if modules[path]._parameters.get("weight") is not None), owners[0])
        kind = "width" if inner == 1 else ("groups" if atom in grouped else "heads")
        choice_name = f"{path.rpartition('.')[0] if kind == 'heads' and '.' in path else path}.{kind}".lstrip(".")
        while choice_name in names:
            choice_name += "'"
        names.add(choice_name)
        choice = Choice(choice_name, tuple(map(str, options)), kind="value")
        yield _Candidate(choice, options, tuple(owners), atom)


def _makers(tied: TiedAxes, modules: Mapping[str, nn.Module]) -> dict[int, list[str]]:
    """For each atom the modules that make its channels, by their paths, in the order of the network.

    Of a run of several atoms that are free only the outermost counts; the others are fixed.
    """
    ties = tied.ties
    parameters = {f"{path}.{n}".lstrip("."): path for path, m in modules.items() for n in m._parameters}
    by_atom: dict[int, list[str]] = {}
    for axes in tied.tensors.values():
        for run in (run for layout in axes for run in layout):
            free = [atom for atom in run if atom not in ties.fixed]
            for atom in free[1:]:
                ties.fix(((atom,),), "it lies inside of channels that are chosen")
    for name, path in parameters.items():
        for axis, layout in enumerate(tied.tensors.get(name, ())):
            if (name, axis) not in tied.inputs:
                for atom in (atom for run in layout for atom in run):
                    owners = by_atom.setdefault(atom, [])
                    if path not in owners:
                        owners.append(path)
    return by_atom


def _behind(tied: TiedAxes, atom: int) -> Iterator[tuple[int, ...]]:
    """What lies inside of an atom where its channels are made, in each run of parameters."""
    for name, axes in tied.tensors.items():
        for axis, layout in enumerate(axes):
            if (name, axis) not in tied.inputs:
                yield from (run[run.index(atom) + 1 :] for run in layout if atom in run)


def _options(length: int, shares: Sequence[float]) -> tuple[int, ...]:
    multiple = 8 if length >= 64 else 4 if length >= 16 else 1
    numbers = {min(length, max(multiple, multiple * round(share * length / multiple))) for share in shares}
    return tuple(sorted({*numbers, length}))


def _depths(modules: Mapping[str, nn.Module], share: float) -> Iterator[_Candidate]:
    """A candidate for each run of blocks of equal shape."""
    for path, module in modules.items():
        if not isinstance(module, (nn.Sequential, nn.ModuleList)):
            continue
        children = list(module.named_children())
        start = 0
        for signature, run in groupby(children, lambda pair: _signature(pair[1])):
            names = [name for name, _ in run]
            start += len(names)
            # A list is indexed by numbers, so only its last blocks can go.
            if len(names) == 1 or not signature[1] or (type(module) is nn.ModuleList and start < len(children)):
                continue
            others = len(children) - len(names)
            least = max(0 if others else 1, math.ceil(share * len(names)))
            numbers = tuple(range(least, len(names) + 1))
            if len(numbers) == 1:
                continue
            name = f"{path}.depth" if len(names) > len(children) // 2 else f"{path}.{names[0]}.depth"
            choice = Choice(name.lstrip("."), tuple(str(n + others) for n in numbers), kind="value")
            present = {
                names[k]: (DecidedThing(_by_option(choice, [n > k for n in numbers])),)
                for k in range(least, len(names))
            }
            yield _Candidate(
                choice, numbers, (path, f"{path}.{names[0]}".lstrip(".")), plan={path: _Change(present=present)}
            )


def _by_option(choice: Choice, things: Iterable[Any]) -> Table:
    return Table((choice,), {(frozenset((i,)),): thing for i, thing in enumerate(things)})


def _signature(module: nn.Module) -> tuple[type, tuple[tuple[str, tuple[int, ...]], ...]]:
    return type(module), tuple((name, tuple(p.shape)) for name, p in module.named_parameters())


def _kernels(modules: Mapping[str, nn.Module], sizes: Sequence[int]) -> Iterator[_Candidate]:
    """A candidate for each convolution with a larger kernel that keeps the size of images."""
    for path, module in modules.items():
        if not isinstance(module, nn.modules.conv._ConvNd) or module.transposed or module.padding_mode != "zeros":
            continue
        size, dilation = module.kernel_size[0], module.dilation[0]
        numbers = tuple(sorted({*(k for k in sizes if k < size), size}))
        paddings = tuple(dilation * (k // 2) for k in numbers)
        dims = len(module.kernel_size)
        is_square = module.kernel_size == (size,) * dims and module.dilation == (dilation,) * dims and size % 2
        if len(numbers) == 1 or not is_square or module.padding != (paddings[-1],) * dims:
            continue
        choice = Choice(f"{path}.kernel", tuple(map(str, numbers)), kind="value")
        attributes = {
            "kernel_size": (DecidedInt((Span((Factor(choice, numbers),)),)),) * dims,
            "padding": (DecidedInt((Span((Factor(choice, paddings),)),)),) * dims,
        }
        yield _Candidate(choice, numbers, (path,), plan={path: _Change(attributes)})


# ---- rules ----


def _is_allowed(
    candidate: _Candidate, modules: Mapping[str, nn.Module], only: Sequence[_Rule], skip: Sequence[_Rule]
) -> bool:
    def matches(rules: Sequence[_Rule]) -> bool:
        return any(_matches(rule, path, modules) for rule in rules for path in candidate.owners)

    return (not only or matches(only)) and not matches(skip)


def _matches(rule: _Rule, path: str, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a rule selects a module, or one that it is inside of."""
    steps = path.split(".") if path else []
    for number in range(len(steps), 0, -1):
        around = ".".join(steps[:number])
        module = modules[around]
        if isinstance(rule, type):
            if isinstance(module, rule):
                return True
        elif fnmatch.fnmatchcase(around, rule) or type(module).__name__ == rule:
            return True
    return False


def _fixed_widths(tied: TiedAxes, modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Modules whose channels stay as they are, and why."""
    fixed: dict[str, str] = {}
    free: set[str] = set()
    for atom, owners in _makers(tied, modules).items():
        for path in owners:
            if atom not in tied.ties.fixed:
                free.add(path)
            elif path not in fixed and _has_weight(modules[path]):
                fixed[path] = tied.ties.fixed[atom]
    for path, module in modules.items():
        unread = [n for n in module._parameters if f"{path}.{n}".lstrip(".") not in tied.tensors]
        if unread and module._parameters[unread[0]] is not None:
            fixed[path] = "the network does not read it on the example"
    return {path: why for path, why in fixed.items() if path not in free}


def _has_weight(module: nn.Module) -> bool:
    return any(getattr(module, name, None) is not None for name in ("weight", "in_proj_weight", "q_proj_weight"))


# ---- what is put into the network ----


def _plan(tied: TiedAxes, modules: Mapping[str, nn.Module], candidates: Sequence[_Candidate]) -> dict[str, _Change]:
    factors = {c.atom: c for c in candidates if c.atom is not None}
    lengths: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, axes in tied.tensors.items():
        path, _, tensor = name.rpartition(".")
        decided = tuple(_length(tied, layout, factors) for layout in axes)
        if any(isinstance(length, DecidedInt) for length in decided):
            lengths.setdefault(path, {})[tensor] = decided
    plan: dict[str, _Change] = {}
    for path, axes_by_name in lengths.items():
        group = tied.groups.get(f"{path}.weight".lstrip("."))
        groups = None if group is None else _length(tied, tied.ties.expanded(group), factors)
        attributes = _numbers(modules[path], axes_by_name, groups)
        usual = ("weight", "bias", "running_mean", "running_var") if attributes else ()
        plan[path] = _Change(attributes, {n: axes for n, axes in axes_by_name.items() if n not in usual})
    for candidate in candidates:
        for path, change in candidate.plan.items():
            before = plan.get(path, _Change())
            plan[path] = _Change(
                {**before.attributes, **change.attributes}, before.axes, {**before.present, **change.present}
            )
    return plan


def _length(tied: TiedAxes, layout: Layout, factors: Mapping[int, _Candidate]) -> int:
    """The length of an axis, as it follows from the choices."""
    ties, spans = tied.ties, []
    for run in layout:
        place = next((i for i, atom in enumerate(run) if atom in factors), None)
        if place is None:
            spans.append(Span((), ties.length_of_run(run)))
        else:
            inner = ties.length_of_run(run[place + 1 :])
            spans += factors[run[place]].times(inner).parts * ties.length_of_run(run[:place])
    if not any(span.factors for span in spans):
        return ties.length(layout)
    return DecidedInt(tuple(spans))


def _numbers(module: nn.Module, axes: Mapping[str, tuple[int, ...]], groups: int | None) -> dict[str, Any]:
    """The numbers that a module of torch holds, as they follow from the lengths of its parameters."""
    if isinstance(module, nn.MultiheadAttention):
        return {name: number for name, number in _numbers_of_attention(module, axes).items() if _is_decided(number)}
    first = next(iter(axes.values()))
    weight = axes.get("weight", first)
    numbers: dict[str, Any] = {}
    if isinstance(module, nn.Linear):
        numbers = {"out_features": first[0]}
        if "weight" in axes:
            numbers["in_features"] = weight[1]
    elif isinstance(module, nn.modules.conv._ConvNd):
        ins, outs = (weight[0], weight[1]) if module.transposed else (weight[1], weight[0])
        per_group = module.in_channels // module.groups
        numbers = {"out_channels": outs, "in_channels": ins}
        if module.groups > 1:
            numbers = {"out_channels": outs, "in_channels": (groups or 1) * per_group, "groups": groups}
    elif isinstance(module, nn.Embedding):
        numbers = {"embedding_dim": weight[1]}
    elif isinstance(module, (nn.LayerNorm, nn.RMSNorm)):
        numbers = {"normalized_shape": weight}
    elif {"nx", "nf"} <= vars(module).keys():  # Conv1D of transformers
        numbers = {"nx": weight[0], "nf": weight[1]}
    elif isinstance(module, nn.GroupNorm):
        numbers = {"num_channels": first[0], "num_groups": groups}
    else:
        name = next((n for n in ("num_features", "num_parameters") if n in vars(module)), None)
        numbers = {} if name is None else {name: first[0]}
    return {name: number for name, number in numbers.items() if _is_decided(number)}


def _numbers_of_attention(module: nn.MultiheadAttention, axes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The same for torch's attention, whose features in all heads are as many as those of its queries."""

    def read(name: str, number: int) -> int:
        return axes[name][1] if name in axes else number

    if module._qkv_same_embed_dim:
        width = keys = values = read("in_proj_weight", module.embed_dim)
    else:
        width = read("q_proj_weight", module.embed_dim)
        keys = read("k_proj_weight", module.kdim)
        values = read("v_proj_weight", module.vdim)
    heads = {"num_heads": width // module.head_dim} if module.num_heads > 1 else {"head_dim": width}
    return {"embed_dim": width, "kdim": keys, "vdim": values, **heads}


def _is_decided(number: Any) -> bool:
    return any(isinstance(part, DecidedInt) for part in (number if isinstance(number, tuple) else (number,)))


def _made(network: Callable[[], nn.Module], plan: _Plan) -> nn.Module:
    """A new network with choices; a smaller one without them where a stand-alone network is made."""
    new = network()
    modules = dict(new.named_modules())
    for path, change in plan.items():
        module: nn.Module = modules[path]
        vars(module).update(change.attributes)
        if change.axes or change.present:
            vars(module)[FOLLOWED] = Followed(change.axes, change.present)
    picked = decided_picks()
    if picked is not None:
        choices = [c for path in plan for thing in decided_values(modules[path]) for c in thing.choices()]
        picks = {c.name: frozenset([c.options.index(picked.get(c.name, c.options)[-1])]) for c in choices}
        smaller: dict[int, nn.Parameter] = {}
        for path in plan:
            _cut(modules[path], picks, smaller)
    return new


def _cut(module: nn.Module, picks: Mapping[str, frozenset[int]], smaller: dict[int, nn.Parameter]) -> None:
    """Makes a module as small as it is with these picks, in place.

    Args:
        module: the module.
        picks: the live options of each choice by their index.
        smaller: the new parameters so far, by the ids of the old ones, which several modules may share.
    """
    plain = resolved(module, picks)
    scale = 1.0
    for name, old in module._parameters.items():
        cut = plain._parameters.get(name)
        if old is None or cut is None or cut is old:
            continue
        if id(old) not in smaller:
            scale = _scale(old, cut.shape) if old.ndim > 1 else scale  # a bias is like the weight before it
            smaller[id(old)] = nn.Parameter(cut.detach().clone() * scale, old.requires_grad)
        plain._parameters[name] = smaller[id(old)]
    for name, buffer in plain._buffers.items():
        if buffer is not None and buffer is not module._buffers[name]:
            plain._buffers[name] = buffer.clone()
    vars(module).update(vars(plain))
    vars(module).pop(FOLLOWED, None)


_GAINS = (1.0, math.sqrt(2), math.sqrt(1 / 3))
"""Of usual initial values: the standard deviation times the square root of the inputs (or outputs) of a weight."""


@torch.no_grad()
def _scale(weight: Tensor, shape: Sequence[int]) -> float:
    """What new values of a narrower layer are multiplied by, if the spread of initial values follows from the width.

    Ours: layers are made at full width and cut, since the code that makes them knows no other width. The spread is
    recognised by the usual rules (Glorot's, He's, and torch's own), and others stay as they are.
    """
    if weight.is_meta or not weight.is_floating_point():
        return 1.0
    spread, error = float(weight.std()), max(0.02, 3 / math.sqrt(2 * weight.numel()))
    smaller = math.prod(shape)
    fans = (
        (weight.numel() / weight.shape[0], smaller / shape[0]),
        (weight.numel() / weight.shape[1], smaller / shape[1]),
    )
    for wide, narrow in fans:
        if any(abs(spread * math.sqrt(wide) / gain - 1) < error for gain in _GAINS):
            return math.sqrt(wide / narrow)
    return 1.0


# ---- what runs ----


class _Trial:
    """The one-shot model of a network with some candidates, to see whether it runs.

    Args:
        network: makes the plain network.
        example: what it is run on.
        tied, modules, candidates: as for `_plan`.

    Raises:
        ValueError: the network does not run with the largest options.
    """

    def __init__(
        self,
        network: Callable[[], nn.Module],
        example: Any,
        tied: TiedAxes,
        modules: Mapping[str, nn.Module],
        candidates: Sequence[_Candidate],
    ) -> None:
        made = partial(_made, network, _plan(tied, modules, candidates))
        self._space = from_network(made, example, check=False)
        self._model, self._example = build(self._space, seed=0).eval(), example
        self._shapes = self._run(())

    def _run(self, smallest: Iterable[_Candidate]) -> list[tuple[int, ...]]:
        picks = dict(self._space.everything_on().picks) | {c.choice.name: c.choice.options[:1] for c in smallest}
        live = self._space.live([self._space.reached(picks)])
        with torch.no_grad(), nothing_drawn(torch.device("cpu")):
            return [tuple(tensor.shape) for tensor in tensors_in(self._model(self._example, live))]

    def fault(self, smallest: Iterable[_Candidate]) -> str | None:
        """Why the network does not run with the smallest options of these, the others at their largest."""
        try:
            shapes = self._run(smallest)
        except Exception as error:  # the code of a network may do anything
            return f"the network does not run ({' '.join(str(error).split())[:200]})"
        return None if shapes == self._shapes else f"outputs {self._shapes} become {shapes}"


def _tried(
    trial_of: Callable[[Sequence[_Candidate]], _Trial],
    candidates: Sequence[_Candidate],
    variants: Callable[[_Candidate], Iterable[_Candidate]],
) -> tuple[list[_Candidate], dict[str, str]]:
    """The candidates with whose smallest options the network runs and gives outputs of the same shapes.

    Args:
        trial_of: makes the trial of some candidates.
        candidates: all of them.
        variants: others to try in place of a candidate that fails.

    Returns:
        The candidates that are kept, and for each of the others its first module and why it is left out.
    """
    if not candidates:
        return [], {}
    trial = trial_of(candidates)
    if all(trial.fault(some) is None for some in _halves(candidates)):
        return list(candidates), {}
    kept: list[_Candidate] = []
    fixed: dict[str, str] = {}
    for candidate in candidates:
        fault = trial.fault([candidate])
        fits = [candidate] if fault is None else (c for c in variants(candidate) if trial_of([c]).fault([c]) is None)
        mended = next(iter(fits), None)
        if mended is None:
            fixed[candidate.owners[0]] = f"{candidate.choice.name}={candidate.choice.options[0]}: {fault}"
        else:
            kept.append(mended)
    together: list[_Candidate] = []
    trial = trial_of(kept)
    if kept and all(trial.fault(some) is None for some in _halves(kept)):
        return kept, fixed
    for candidate in kept:
        fault = trial.fault([*together, candidate])
        if fault is None:
            together.append(candidate)
        else:
            fixed[candidate.owners[0]] = f"{candidate.choice.name}={candidate.choice.options[0]} with others: {fault}"
    return together, fixed


def _halves(candidates: Sequence[_Candidate]) -> Iterator[list[_Candidate]]:
    """All, and halves such that of any two candidates each is once in a half without the other."""
    yield list(candidates)
    for bit in range(len(candidates).bit_length()):
        for side in (0, 1):
            yield [c for number, c in enumerate(candidates) if number >> bit & 1 == side]


_LENGTH = re.compile("dim|size|width|features|channels")
"""Parts of names of lengths, such as ``head_dim``."""


def _with_attributes(tied: TiedAxes, modules: Mapping[str, nn.Module], candidate: _Candidate) -> Iterator[_Candidate]:
    """The candidate with whole numbers of modules around it that may follow from it, fewer of them first.

    Modules such as attention hold the number of their heads, and the features of all of them together.
    """
    if candidate.atom is None:
        return
    number = candidate.numbers[-1]
    inner = {tied.ties.length_of_run(rest) for rest in _behind(tied, candidate.atom)} - {1}
    around = dict.fromkeys(
        path for owner in candidate.owners for path in (owner, owner.rpartition(".")[0]) if path in modules
    )
    whole = [
        (path, name, thing)
        for path in around
        if not type(modules[path]).__module__.startswith("torch.") and not usual_axes(modules[path])
        for name, thing in vars(modules[path]).items()
        if type(thing) is int and thing > 1
    ]
    heads = [
        (p, n, 1) for p, n, thing in whole if thing == number and re.search("head|group", n) and not _LENGTH.search(n)
    ]
    totals = [(p, n, times) for p, n, thing in whole for times in inner if thing == number * times]
    equal = [(p, n, 1) for p, n, thing in whole if thing == number]
    for attributes in (heads, heads + totals, equal, equal + totals):
        if attributes:
            plan: dict[str, dict[str, Any]] = {}
            for path, name, times in attributes:
                plan.setdefault(path, {})[name] = candidate.times(times)
            yield replace(candidate, plan={path: _Change(things) for path, things in plan.items()})
