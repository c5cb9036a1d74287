"""The same model with faster modules: `quick(model)` shares its parameters and leaves it as it is.

Batch norm followed by ReLU becomes one pass over the tensor, and takes over the convolution before it and that one's
ReLU; a depthwise convolution gets the gradients of `supernet.speed.kernels`, and what half precision makes wrong or
slow on this machine is run in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from supernet.space.layers import Choose, Elastic, GhostBatchNorm, Graph, Join, LivePaths, live_paths
from supernet.space.network import view_of
from supernet.speed import kernels, sums
from supernet.speed.sums import Misfit, added, has_hooks, takes_onto
from supernet.speed.tune import POINTWISE, Tuning, convolution_name, depthwise_name, kind_of


def _take_over(module: nn.Module, of: nn.Module) -> None:
    """Gives a new module all that another one has: its parameters and buffers themselves, its sizes, its hooks."""
    nn.Module.__init__(module)
    vars(module).update(vars(of))


class QuickNorm(_BatchNorm):
    """Batch norm of a stand-alone network in training.

    Args:
        of: the batch norm that it stands in for.
        relu: whether it does the work of the ReLU after it.
        compiled: whether it uses the kernel.
        seen: where the statistics of a batch are put, for the running statistics to take in later: passes side by side
            do not meet there.
    """

    takes_onto = True

    def __init__(self, of: _BatchNorm, seen: list[Seen], *, relu: bool, compiled: bool) -> None:
        _take_over(self, of)
        self.relu, self.compiled, self.seen = relu, compiled, seen

    def fuses(self) -> bool:
        """Whether it can take over a convolution in the pass that runs now."""
        return self.training and self.compiled

    def forward(self, x: Tensor, onto: Tensor | None = None, conv: kernels.Conv | None = None) -> Tensor:
        """The output, added to `onto` if that is given. `conv` comes first; only if it `fuses`."""
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            y = F.batch_norm(x, mean, variance, self.weight, self.bias, mean is None, 0.0, self.eps)
            return sums.plus(onto, F.relu(y) if self.relu else y)
        result = None
        if self.compiled:
            result = kernels.norm_relu_statistics(
                x, self.weight, self.bias, self.eps, relu=self.relu, conv=conv, onto=onto
            )
        if result is None:
            mean, variance = (
                None if kept is None else torch.zeros_like(kept) for kept in (self.running_mean, self.running_var)
            )
            y = F.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)  # 1: those of this batch
            y = sums.plus(onto, F.relu(y) if self.relu else y)
        else:
            y, (mean, variance) = result
            number = y.numel() // y.shape[1]
            variance = variance * (number / max(1, number - 1))
        if mean is not None and variance is not None and self.running_mean is not None:
            self.seen.append((self, mean, variance))
        return y


Seen = tuple[_BatchNorm, Tensor, Tensor]
"""A batch norm, and mean and variance of a batch that it has seen."""


class QuickGhostNorm(GhostBatchNorm):
    """Batch norm of the one-shot model, by the kernel if the pass holds one ghost batch.

    Args:
        of: the batch norm that it stands in for.
        relu: whether it does the work of the ReLU after it.
    """

    takes_onto = True

    def __init__(self, of: GhostBatchNorm, *, relu: bool) -> None:
        _take_over(self, of)
        self.relu = relu

    def fuses(self) -> bool:
        """Whether it can take over a convolution in the pass that runs now."""
        return self.is_one_ghost_batch()

    def forward(self, x: Tensor, onto: Tensor | None = None, conv: kernels.Conv | None = None) -> Tensor:
        """The output, added to `onto` if that is given. `conv` comes first; only if it `fuses`."""
        if self.is_one_ghost_batch():
            return kernels.norm_relu(x, self.weight, self.bias, self.eps, relu=self.relu, conv=conv, onto=onto)
        y = super().forward(x)
        return sums.plus(onto, F.relu(y) if self.relu else y)


class QuickConv2d(nn.Conv2d):
    """A convolution that takes the faster way for its kind.

    Args:
        of: the convolution that it stands in for.
        tuning: what is faster.
        relu: whether it does the work of the ReLU before it.

    Attributes:
        settings: those of `kernels.Conv`; None if it has an offset, or a padding other than a number of zeros.
    """

    def __init__(self, of: nn.Conv2d, tuning: Tuning, *, relu: bool = False) -> None:
        _take_over(self, of)
        self.tuning, self.relu = tuning, relu
        self.settings: tuple[Any, ...] | None = None
        if of.bias is None and of.padding_mode == "zeros" and not isinstance(of.padding, str):
            self.settings = of.stride, tuple(map(int, of.padding)), of.dilation, of.groups

    def for_norm(self, x: Tensor, norm: _Joining) -> tuple[Tensor, kernels.Conv] | None:
        """The input, and this convolution as a batch norm's kernel takes it; None if no kernel fits."""
        if self.settings is None:
            return None
        half = torch.is_autocast_enabled(x.device.type)
        source = _halved(x) if half else x
        if self._own(source, self.weight):
            conv = kernels.Conv(self.weight, self.settings, self.relu, "own")
            if kernels.conv_fits(source, conv, norm.weight, norm.bias):
                return source, conv
        kind = kind_of(x, self.weight, self.stride, self.padding, self.dilation, self.groups)
        if kind in ("plain", "narrow", "dilated") and not (half and kind in self.tuning.in_full_precision):
            by: kernels.By = "product" if self._pointwise(source, self.weight) else "library"
            conv = kernels.Conv(self.weight.to(source.dtype), self.settings, self.relu, by)
            if kernels.conv_fits(source, conv, norm.weight, norm.bias):
                return source, conv
        return None

    def _own(self, x: Tensor, weight: Tensor) -> bool:
        """Whether the project's own kernel is right and faster for this convolution, in the precision that `x` has.

        With a kernel of one pixel it is faster by the ReLU alone that it takes along.
        """
        return (
            self.settings is not None
            and (self.relu or weight.shape[-1] > 1)
            and convolution_name(weight.shape[-1], x.dtype) in self.tuning.kernels
            and kernels.convolution_fits(x, weight, self.settings)
        )

    def _pointwise(self, x: Tensor, weight: Tensor) -> bool:
        """Whether it is done as a product of matrices."""
        return (
            self.settings is not None
            and POINTWISE in self.tuning.kernels
            and kernels.pointwise_fits(x, weight, self.settings)
        )

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device, tuning = x.device.type, self.tuning
        half = device != "meta" and torch.is_autocast_enabled(device)
        if half and tuning.in_full_precision:
            kind = kind_of(x, weight, self.stride, self.padding, self.dilation, self.groups)
            if kind in tuning.in_full_precision:
                with torch.autocast(device, enabled=False):
                    return self._conv_forward(x.float(), weight, bias)
        x = _halved(x) if half else x
        if self._own(x, weight):
            return kernels.convolution(x, weight, relu=self.relu)
        x = F.relu(x) if self.relu else x
        if self._pointwise(x, weight):
            return kernels.pointwise(x, weight)
        depthwise = self.groups == x.shape[1] == len(weight) and self.groups > 1 and bias is None
        if depthwise and self.padding_mode == "zeros" and depthwise_name(weight.shape[-1]) in tuning.kernels:
            weight = weight.to(x.dtype) if half else weight
            if kernels.depthwise_fits(x, weight, self.stride, self.padding, self.dilation):
                return kernels.depthwise(x, weight, self.stride[0], int(self.padding[0]), self.dilation[0])
        y: Tensor = super()._conv_forward(x, weight, bias)
        return y


def _halved(x: Tensor) -> Tensor:
    kind = torch.get_autocast_dtype(x.device.type)
    return x if x.dtype == kind else x.to(kind)


_Joining = QuickNorm | QuickGhostNorm


class ConvNorm(nn.Module):
    """A convolution and the batch norm after it: one step of automatic differentiation, if a kernel fits."""

    takes_onto = True

    def __init__(self, conv: QuickConv2d, norm: _Joining) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        fused = self.conv.for_norm(x, self.norm) if self.norm.fuses() else None
        source, conv = (self.conv(x), None) if fused is None else fused
        y: Tensor = self.norm(source, onto, conv)
        return y


class QuickSequential(nn.Sequential):
    """Modules one after the other; the last one adds its output to a sum as it writes it, if it can.

    Args:
        of: the sequence that it stands in for.
        modules: those to run, by their names in it.
    """

    takes_onto = True

    def __init__(self, of: nn.Sequential, modules: dict[str, nn.Module]) -> None:
        _take_over(self, of)
        self._modules = {**modules}

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        if not self._modules:
            return sums.plus(onto, x)
        *before, last = self
        for module in before:
            x = module(x)
        return added(last, x, onto)


class QuickChoose(Choose):
    """A choice whose options add their outputs to the sum as they write it, if they can."""

    takes_onto = True

    def __init__(self, of: Choose) -> None:
        _take_over(self, of)

    def forward(self, x: Tensor | Sequence[Tensor], onto: Tensor | None = None) -> Tensor:
        """The live options' outputs joined; added to `onto`, of the output's shape, if that is given."""
        live = live_paths()
        if onto is None or self.join != "sum" or len(live.ghosts) > 1:
            return sums.plus(onto, super().forward(x))
        inputs = self.inputs_of(x)
        for index in sorted(live.picks[live.ghosts[0]][self.choice.name]):
            onto = self.add(onto, live, index, inputs[index])
        return onto

    def add(self, total: Tensor | None, live: LivePaths, index: int, source: Tensor) -> Tensor:
        option = self.options[index]
        if total is None or not takes_onto(option) or isinstance(option, Choose):  # which would name itself in errors
            return super().add(total, live, index, source)
        try:
            return self.run(live, index, source, total)
        except Misfit as error:
            self.check(live, index, error.got, total)
            raise


class QuickJoin(Join):
    """The sum of several modules, each of which adds its output to it as it writes it, if it can."""

    def __init__(self, of: Join) -> None:
        _take_over(self, of)

    def add(self, total: Tensor, term: nn.Module, source: Tensor) -> Tensor:
        return added(term, source, total)


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

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
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

    def forward(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
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
    if not tuning.kernels and not tuning.in_full_precision:
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
    if type(module) is nn.Sequential:
        return _fused(module, tuning, seen)
    if type(module) is nn.Conv2d:
        return QuickConv2d(module, tuning)
    if type(module) in _SUMS and not has_hooks(module):
        return _SUMS[type(module)](module)
    if type(module) in _POOLS and "pool" in tuning.kernels:
        return _POOLS[type(module)](module)
    return _norm(module, tuning, seen, relu=False)


def _fused(sequence: nn.Sequential, tuning: Tuning, seen: list[Seen] | None) -> nn.Module:
    """A batch norm takes over the work of the ReLU after it, of the convolution before it, and of that one's ReLU."""
    names, modules = list(sequence._modules), list(sequence)
    for index in range(1, len(modules)):
        before, module = modules[index - 1 : index + 1]
        if type(module) is nn.ReLU and not has_hooks(before) and not has_hooks(module):
            fused = _norm(before, tuning, seen, relu=True)
            if fused is not before:
                modules[index - 1 : index + 1] = fused, nn.Identity()
    for index in range(1, len(modules)):
        before, module = modules[index - 1 : index + 1]
        norm = module if isinstance(module, _Joining) else _norm(module, tuning, seen, relu=False)
        if type(before) is nn.Conv2d and isinstance(norm, _Joining) and not (has_hooks(before) or has_hooks(norm)):
            first = modules[index - 2] if index > 1 else None
            # A ReLU in place changes a tensor that other modules may read.
            relu = type(first) is nn.ReLU and not (first.inplace or has_hooks(first))
            modules[index - 1 : index + 1] = nn.Identity(), ConvNorm(QuickConv2d(before, tuning, relu=relu), norm)
            if relu:
                modules[index - 2] = nn.Identity()
    run = {n: m for n, m in zip(names, modules, strict=True) if type(m) is not nn.Identity or has_hooks(m)}
    return QuickSequential(sequence, run)


def _norm(module: nn.Module, tuning: Tuning, seen: list[Seen] | None, *, relu: bool) -> nn.Module:
    """The faster batch norm; the module itself if it is another module, or no faster one is known."""
    compiled = "norm" in tuning.kernels
    if type(module) is Elastic and not has_hooks(module):
        inner = _norm(module.of, tuning, seen, relu=relu)
        return module if inner is module.of else Elastic(inner)
    if isinstance(module, _NORMS) and type(module) in _NORMS and module.momentum is not None and seen is not None:
        return QuickNorm(module, seen, relu=relu, compiled=compiled)
    return QuickGhostNorm(module, relu=relu) if type(module) is GhostBatchNorm and compiled else module


_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
