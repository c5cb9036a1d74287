"""The same model with faster modules: `quick(model)` shares its parameters and leaves it as it is.

Batch norm followed by ReLU becomes one pass over the tensor, and takes over the convolution before it and that one's
ReLU; a depthwise convolution gets the gradients of `supernet.speed.kernels`, and what half precision makes wrong or
slow on this machine is run in single precision.

A network may enumerate, index or slice its modules, and read them by their names: each module keeps its place, and does
its own work alone if it is called there. Only the forward pass of a sequence runs several of its modules as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from supernet.space.layers import Choose, Elastic, GhostBatchNorm, Graph, Inputs, Join, LivePaths, live_paths
from supernet.space.network import view_of
from supernet.speed import kernels, sums
from supernet.speed.sums import Misfit, added, has_hooks, takes_onto
from supernet.speed.tune import (
    POINTWISE,
    TRIED_ON,
    Tuning,
    convolution_name,
    depthwise_name,
    is_right_in_half,
    kind_of,
)


def _take_over(module: nn.Module, of: nn.Module) -> None:
    """Gives a new module all that another one has: its parameters and buffers themselves, its sizes, its hooks.

    What the new module has beyond that gets names with an underscore, which a network's own attributes do not have.
    """
    nn.Module.__init__(module)
    vars(module).update(vars(of))


class QuickNorm(_BatchNorm):
    """Batch norm of a stand-alone network in training.

    Args:
        of: the batch norm that it stands in for.
        compiled: whether it uses the kernel.
        seen: where the statistics of a batch are put, for the running statistics to take in later: passes side by side
            do not meet there.
    """

    takes_onto = True

    def __init__(self, of: _BatchNorm, seen: list[Seen], *, compiled: bool) -> None:
        _take_over(self, of)
        self._compiled, self._seen = compiled, seen

    def fuses(self) -> bool:
        """Whether it can take over a convolution in the pass that runs now."""
        return self.training and self._compiled

    def forward(
        self,
        input: Tensor,  # noqa: A002  # its name in torch
        onto: Tensor | None = None,
        conv: kernels.Conv | None = None,
        *,
        relu: bool = False,
    ) -> Tensor:
        """The output, with ReLU after it if asked for, added to `onto` if that is given.

        `conv` comes first; only if it `fuses`.
        """
        x = input
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            y = F.batch_norm(x, mean, variance, self.weight, self.bias, mean is None, 0.0, self.eps)
            return sums.plus(onto, F.relu(y) if relu else y)
        result = None
        if self._compiled:
            result = kernels.norm_relu_statistics(x, self.weight, self.bias, self.eps, relu=relu, conv=conv, onto=onto)
        if result is None:
            mean, variance = (
                None if kept is None else torch.zeros_like(kept) for kept in (self.running_mean, self.running_var)
            )
            y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)  # 1: those of this batch
            y = sums.plus(onto, F.relu(y) if relu else y)
        else:
            y, (mean, variance) = result
            number = y.numel() // y.shape[1]
            variance = variance * (number / max(1, number - 1))
        if mean is not None and variance is not None and self.running_mean is not None:
            self._seen.append((self, mean, variance))
        return y


Seen = tuple[_BatchNorm, Tensor, Tensor]
"""A batch norm, and mean and variance of a batch that it has seen."""


class QuickGhostNorm(GhostBatchNorm):
    """Batch norm of the one-shot model, by the kernel if the pass holds one ghost batch.

    Args:
        of: the batch norm that it stands in for.
    """

    takes_onto = True

    def __init__(self, of: GhostBatchNorm) -> None:
        _take_over(self, of)

    def fuses(self) -> bool:
        """Whether it can take over a convolution in the pass that runs now."""
        return self.is_one_ghost_batch()

    def forward(
        self, x: Tensor, onto: Tensor | None = None, conv: kernels.Conv | None = None, *, relu: bool = False
    ) -> Tensor:
        """The output, with ReLU after it if asked for, added to `onto` if that is given.

        `conv` comes first; only if it `fuses`.
        """
        if self.is_one_ghost_batch():
            return kernels.norm_relu(x, self.weight, self.bias, self.eps, relu=relu, conv=conv, onto=onto)
        y = super().forward(x)
        return sums.plus(onto, F.relu(y) if relu else y)


class QuickConv2d(nn.Conv2d):
    """A convolution that takes the faster way for its kind.

    Args:
        of: the convolution that it stands in for.
        tuning: what is faster.
    """

    def __init__(self, of: nn.Conv2d, tuning: Tuning) -> None:
        _take_over(self, of)
        self._tuning = tuning
        # Those of `kernels.Conv`; None if it has an offset, or a padding other than a number of zeros.
        self._settings: tuple[Any, ...] | None = None
        if of.bias is None and of.padding_mode == "zeros" and not isinstance(of.padding, str):
            self._settings = of.stride, tuple(map(int, of.padding)), of.dilation, of.groups

    def for_norm(self, x: Tensor, norm: _Joining, *, relu: bool) -> tuple[Tensor, kernels.Conv] | None:
        """The input, and this convolution as a batch norm's kernel takes it; None if no kernel fits.

        `relu` says whether ReLU comes before the convolution.
        """
        if self._settings is None or x.device.type == "meta":
            return None
        half = torch.is_autocast_enabled(x.device.type)
        source = _halved(x) if half else x
        if self._own(source, self.weight, relu=relu):
            conv = kernels.Conv(self.weight, self._settings, relu, "own")
            if kernels.conv_fits(source, conv, norm.weight, norm.bias):
                return source, conv
        kind = kind_of(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        if kind in ("plain", "narrow", "dilated") and not (half and self._is_in_full_precision(x, self.weight)):
            by: kernels.By = "product" if self._pointwise(source, self.weight) else "library"
            conv = kernels.Conv(self.weight.to(source.dtype), self._settings, relu, by)
            if kernels.conv_fits(source, conv, norm.weight, norm.bias):
                return source, conv
        return None

    def _own(self, x: Tensor, weight: Tensor, *, relu: bool) -> bool:
        """Whether the project's own kernel is right and faster for this convolution, in the precision that `x` has.

        With a kernel of one pixel it is faster by the ReLU alone that it takes along.
        """
        return (
            self._settings is not None
            and (relu or weight.shape[-1] > 1)
            and convolution_name(weight.shape[-1], x.dtype) in self._tuning.kernels
            and kernels.convolution_fits(x, weight, self._settings)
        )

    def _pointwise(self, x: Tensor, weight: Tensor) -> bool:
        """Whether it is done as a product of matrices."""
        return (
            self._settings is not None
            and POINTWISE in self._tuning.kernels
            and kernels.pointwise_fits(x, weight, self._settings)
        )

    def _is_in_full_precision(self, x: Tensor, weight: Tensor) -> bool:
        """Whether half precision makes this convolution wrong, or slower for all of its kind."""
        settings = self.stride, self.padding, self.dilation, self.groups
        slow = self._tuning.in_full_precision
        if slow and kind_of(x, weight, *settings) in slow:
            return True
        is_small = x.device.type == "cpu" and min(x.shape[2:]) < TRIED_ON and max(weight.shape[2:]) > 1
        return (
            is_small
            and self.padding_mode == "zeros"
            and not is_right_in_half(
                tuple(x.shape),
                tuple(weight.shape),
                *settings,
                channels_last=x.is_contiguous(memory_format=torch.channels_last),
            )
        )

    def forward(self, input: Tensor, *, relu: bool = False) -> Tensor:  # noqa: A002  # its name in torch
        """The output; with ReLU before it if asked for."""
        return self._convolved(input, self.weight, self.bias, relu=relu)

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None, *, relu: bool) -> Tensor:
        device, tuning = x.device.type, self._tuning
        half = device != "meta" and torch.is_autocast_enabled(device)
        if half and self._is_in_full_precision(x, weight):
            with torch.autocast(device, enabled=False):
                return self._convolved(x.float(), weight, bias, relu=relu)
        x = _halved(x) if half else x
        if self._own(x, weight, relu=relu):
            return kernels.convolution(x, weight, relu=relu)
        x = F.relu(x) if relu else x
        if self._pointwise(x, weight):
            return kernels.pointwise(x, weight)
        depthwise = self.groups == x.shape[1] == len(weight) and self.groups > 1 and bias is None
        name = depthwise_name(weight.shape[-1], max(self.stride))
        if depthwise and self.padding_mode == "zeros" and name in tuning.kernels:
            weight = weight.to(x.dtype) if half else weight
            if kernels.depthwise_fits(x, weight, self.stride, self.padding, self.dilation):
                return kernels.depthwise(x, weight, self.stride[0], int(self.padding[0]), self.dilation[0])
        y: Tensor = self._conv_forward(x, weight, bias)
        return y


class _SmallInFull(nn.Conv2d):
    """Makes a convolution of a class of its own work in single precision on small images, where half may be wrong.

    Its class may pad its input, so that nothing tells which convolution would have to be tried.
    """

    def forward(self, input: Tensor, *more: Any, **named: Any) -> Any:  # noqa: A002  # its name in torch
        device = input.device.type
        is_small = max(self.kernel_size) > 1 and min(input.shape[2:]) < TRIED_ON
        if device != "cpu" or not is_small or not torch.is_autocast_enabled(device):
            return super().forward(input, *more, **named)
        with torch.autocast(device, enabled=False):
            return super().forward(input.float(), *more, **named)


def _halved(x: Tensor) -> Tensor:
    kind = torch.get_autocast_dtype(x.device.type)
    return x if x.dtype == kind else x.to(kind)


_Joining = QuickNorm | QuickGhostNorm


class Fused(nn.Module):
    """Batch norm with the convolution before it and with ReLUs: one step of differentiation, if a kernel fits.

    Args:
        norm: a faster batch norm, or an `Elastic` with one.
        conv: the convolution before it, if it is taken along.
        relu_before: whether ReLU comes before the convolution.
        relu: whether ReLU comes after batch norm.
    """

    takes_onto = True

    def __init__(
        self, norm: nn.Module, conv: QuickConv2d | None = None, *, relu_before: bool = False, relu: bool = False
    ) -> None:
        super().__init__()
        self.norm, self.conv, self.relu_before, self.relu = norm, conv, relu_before, relu

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        if self.conv is None:
            return added(self.norm, x, onto, relu=self.relu)
        norm = cast(_Joining, self.norm)
        result = self.conv.for_norm(x, norm, relu=self.relu_before) if norm.fuses() else None
        source, conv = (self.conv(x, relu=self.relu_before), None) if result is None else result
        y: Tensor = norm(source, onto, conv, relu=self.relu)
        return y


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a sequence runs, and the modules that this follows from, each with whether it has hooks."""

    state: list[tuple[nn.Module, bool]]
    steps: Sequence[nn.Module]


class QuickSequential(nn.Sequential):
    """Modules one after the other, some of them `Fused`; the last step adds its output to a sum as it writes it, if it
    can.

    The modules are those of the sequence that it stands in for, all of them at their places.
    """

    takes_onto = True
    _plan: _Plan | None = None

    def steps(self) -> Sequence[nn.Module]:
        """What the forward pass runs: modules of the sequence, and `Fused` ones in place of several of them."""
        plan = self._plan
        if plan is None or plan.state != self._state():  # at first, in a view of it, or with other hooks
            steps = _steps(list(self))
            self.run_as(steps)
            return steps
        return plan.steps

    def run_as(self, steps: Sequence[nn.Module]) -> None:
        """Sets what stands in for the steps, as long as the modules and their hooks stay as they are."""
        vars(self)["_plan"] = _Plan(self._state(), steps)

    def _state(self) -> list[tuple[nn.Module, bool]]:
        return [(module, has_hooks(module)) for module in self]

    def forward(self, input: Tensor, onto: Tensor | None = None) -> Tensor:  # noqa: A002  # its name in torch
        steps = self.steps()
        if not steps:
            return sums.plus(onto, input)
        *before, last = steps
        x = input
        for step in before:
            x = step(x)
        return added(last, x, onto)


def _steps(modules: Sequence[nn.Module]) -> list[nn.Module]:
    """Modules, in their order; a batch norm does what the ReLU after it, the convolution before it, and that one's ReLU
    would do. Identities are left out; a module with a hook is run for itself.
    """
    steps: list[nn.Module] = []
    start = 0
    while start < len(modules):
        fused = _fused(modules[start:])
        if fused is not None:
            steps.append(fused[0])
        elif type(modules[start]) is not nn.Identity or has_hooks(modules[start]):
            steps.append(modules[start])
        start += 1 if fused is None else fused[1]
    return steps


def _fused(modules: Sequence[nn.Module]) -> tuple[Fused, int] | None:
    """The first modules as one, and how many they are; None if the first one is run for itself."""
    kinds = [None if has_hooks(module) else type(module) for module in modules[:4]]
    # A ReLU in place changes a tensor that other modules may read.
    relu_before = kinds[0] is nn.ReLU and not cast(nn.ReLU, modules[0]).inplace
    at = int(relu_before)
    conv = None
    if kinds[at : at + 1] == [QuickConv2d] and len(kinds) > at + 1 and kinds[at + 1] in _JOINING:
        conv = cast(QuickConv2d, modules[at])
        at += 1
    elif relu_before:
        return None
    if not _takes_relu(modules[at]):
        return None
    relu = kinds[at + 1 : at + 2] == [nn.ReLU]
    if conv is None and not relu:
        return None
    return Fused(modules[at], conv, relu_before=relu_before, relu=relu), at + 1 + relu


def _takes_relu(module: nn.Module) -> bool:
    """Whether a module is a batch norm that can do the work of the ReLU after it."""
    if has_hooks(module):
        return False
    return type(module) in _JOINING or (type(module) is Elastic and _takes_relu(module.of))


class QuickChoose(Choose):
    """A choice whose options add their outputs to the sum as they write it, if they can."""

    takes_onto = True

    def __init__(self, of: Choose) -> None:
        _take_over(self, of)

    def forward(self, x: Any, *more: Any, onto: Tensor | None = None, **named: Any) -> Any:
        """The live options' outputs joined; added to `onto`, of the output's shape, if that is given."""
        live = live_paths()
        if onto is None or self.join != "sum" or len(live.ghosts) > 1:
            return sums.plus(onto, super().forward(x, *more, **named))
        inputs = [Inputs((of_option, *more), named) for of_option in self.each(x)]
        for index in sorted(live.picks[live.ghosts[0]][self.choice.name]):
            onto = self.add(onto, live, index, inputs[index])
        return onto

    def add(self, total: Any, live: LivePaths, index: int, inputs: Inputs) -> Any:
        option = self.options[index]
        can_add = isinstance(total, Tensor) and takes_onto(option) and not isinstance(option, Choose)
        if not can_add:  # a choice would name itself in errors
            return super().add(total, live, index, inputs)
        try:
            return self.run(live, index, Inputs(inputs.args, {**inputs.named, "onto": total}))
        except Misfit as error:
            self.check(live, index, error.got, total)
            raise


class QuickJoin(Join):
    """The sum of several modules, each of which adds its output to it as it writes it, if it can."""

    def __init__(self, of: Join) -> None:
        _take_over(self, of)

    def add(self, total: Any, term: nn.Module, inputs: Inputs) -> Any:
        is_plain = isinstance(total, Tensor) and len(inputs.args) == 1 and not inputs.named
        return added(term, inputs.args[0], total) if is_plain else super().add(total, term, inputs)


class QuickGraph(Graph):
    """A graph whose edges add their outputs to the nodes as they write them, if they can."""

    def __init__(self, of: Graph) -> None:
        _take_over(self, of)

    def add(self, total: Tensor | None, edge: nn.Module, source: Tensor) -> Tensor:
        return added(edge, source, total)


class QuickAvgPool2d(nn.AvgPool2d):
    """The mean of a window, without padding pixels."""

    takes_onto = True

    def __init__(self, of: nn.AvgPool2d) -> None:
        _take_over(self, of)

    def forward(self, input: Tensor, onto: Tensor | None = None) -> Tensor:  # noqa: A002  # its name in torch
        x = input
        kernel, stride, padding = (_square(value) for value in (self.kernel_size, self.stride, self.padding))
        counts_padding = self.count_include_pad and padding > 0
        whole = not self.ceil_mode or all((n + 2 * padding - kernel) % max(1, stride) == 0 for n in x.shape[2:])
        plain = not counts_padding and self.divisor_override is None and whole
        if plain and min(kernel, stride) > 0 and kernels.pool_fits(x, kernel, stride, padding):
            return kernels.pool(x, kernel, stride, padding, largest=False, onto=onto)
        return sums.plus(onto, super().forward(x))


class QuickMaxPool2d(nn.MaxPool2d):
    """The largest number in a window."""

    takes_onto = True

    def __init__(self, of: nn.MaxPool2d) -> None:
        _take_over(self, of)

    def forward(self, input: Tensor, onto: Tensor | None = None) -> Tensor:  # noqa: A002  # its name in torch
        x = input
        kernel, stride, padding = (_square(value) for value in (self.kernel_size, self.stride, self.padding))
        plain = not self.ceil_mode and not self.return_indices and _square(self.dilation) == 1
        if plain and min(kernel, stride) > 0 and kernels.pool_fits(x, kernel, stride, padding):
            return kernels.pool(x, kernel, stride, padding, largest=True, onto=onto)
        return sums.plus(onto, super().forward(x))


_SUMS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {Choose: QuickChoose, Join: QuickJoin, Graph: QuickGraph}
_POOLS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {nn.AvgPool2d: QuickAvgPool2d, nn.MaxPool2d: QuickMaxPool2d}


def _square(value: Any) -> int:
    """The length that both axes have; -1 where they differ."""
    if isinstance(value, int):
        return value
    first, *others = value
    return int(first) if all(other == first for other in others) else -1


def quick(model: nn.Module, tuning: Tuning) -> nn.Module:
    """A model that computes the same with what is faster on this machine.

    Args:
        model: a one-shot model, or a stand-alone network that is not trained; it stays as it is.
        tuning: what is faster.

    Returns:
        A model with the same parameters and buffers: what one learns, the other has learnt.
    """
    if not tuning.kernels and not tuning.in_full_precision and tuning.precision == "32-true":
        return model
    return view_of(model, lambda module: _quick(module, tuning, None))


def quick_in_training(network: nn.Module, tuning: Tuning) -> tuple[nn.Module, Callable[[], None]]:
    """A stand-alone network that computes the same with what is faster, and remembers what its batch norms see.

    Several of these views can be run side by side, if `has_only_norms_to_remember`; their running statistics are
    those of passes one after the other, in the order in which they are settled.

    Returns:
        A network with the same parameters and buffers; and a function that puts what was seen since it was last called
        into the running statistics.
    """
    seen: list[Seen] = []

    @torch.no_grad()
    def settle() -> None:
        for norm, mean, variance in seen:
            assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance, norm.momentum)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked += 1
        seen.clear()

    return view_of(network, lambda module: _quick(module, tuning, seen)), settle


def has_only_norms_to_remember(network: nn.Module) -> bool:
    """Whether nothing but batch norms, with a fixed momentum, can keep anything from one pass to the next."""
    keeping = [module for module in network.modules() if next(module.buffers(recurse=False), None) is not None]
    return all(type(module) in _NORMS and getattr(module, "momentum", None) is not None for module in keeping)


def _quick(module: nn.Module, tuning: Tuning, seen: list[Seen] | None) -> nn.Module:
    """The faster module; the module itself if there is none."""
    kind, compiled = type(module), "norm" in tuning.kernels
    if kind is nn.Sequential:
        sequence = QuickSequential()
        _take_over(sequence, module)
        return sequence
    if type(module) is nn.Conv2d:
        return QuickConv2d(module, tuning)
    if isinstance(module, nn.Conv2d) and tuning.precision != "32-true" and not is_parametrized(module):
        in_full: type[nn.Conv2d] = type(kind.__name__, (_SmallInFull, kind), {})
        convolution = in_full.__new__(in_full)
        _take_over(convolution, module)
        return convolution
    if kind in _SUMS and not has_hooks(module):
        return _SUMS[kind](module)
    if kind in _POOLS and "pool" in tuning.kernels:
        return _POOLS[kind](module)
    if isinstance(module, _BatchNorm) and kind in _NORMS and module.momentum is not None and seen is not None:
        return _NORMS[kind](module, seen, compiled=compiled)
    return QuickGhostNorm(module) if type(module) is GhostBatchNorm and compiled else module


_NORMS: dict[type[nn.Module], type[QuickNorm]] = {
    kind: type(f"Quick{kind.__name__}", (QuickNorm, kind), {"takes_onto": True})  # a network may ask for its class
    for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
}
_JOINING = {*_NORMS.values(), QuickGhostNorm}
