"""The same model with faster modules: `quick(model)` shares its parameters and leaves it as it is.

Batch norm followed by ReLU becomes one pass over the tensor, a depthwise convolution gets the gradients of
`supernet.kernels`, and what half precision makes wrong or slow on the machine at hand is run in single precision.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import kernels
from supernet.layers import Elastic, GhostBatchNorm
from supernet.model import view_of
from supernet.tune import Tuning, kind_of


class QuickNorm(nn.BatchNorm2d):
    """Batch norm of a stand-alone network, with the ReLU that follows it where `relu` is set."""

    relu: bool

    def forward(self, x: Tensor) -> Tensor:
        found = None
        momentum = self.momentum
        if self.training and momentum is not None:
            found = kernels.norm_relu_statistics(x, self.weight, self.bias, self.eps, relu=self.relu)
        if found is None or momentum is None:
            y = super().forward(x)
            return F.relu(y) if self.relu else y
        y, mean, variance = found
        if self.track_running_stats:
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            number = x.numel() // x.shape[1]
            with torch.no_grad():
                self.num_batches_tracked += 1
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (number / max(1, number - 1)), momentum)
        return y


class QuickGhostNorm(GhostBatchNorm):
    """Batch norm of the one-shot model, with the ReLU that follows it where `relu` is set."""

    relu: bool

    def forward(self, x: Tensor) -> Tensor:
        if self.is_one_ghost_batch():
            return kernels.norm_relu(x, self.weight, self.bias, self.eps, relu=self.relu)
        y = super().forward(x)
        return F.relu(y) if self.relu else y


class QuickConv2d(nn.Conv2d):
    """A convolution that takes the faster way for its kind."""

    tuning: Tuning

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        device, tuning = x.device.type, self.tuning
        half = device != "meta" and torch.is_autocast_enabled(device)
        if half and tuning.in_full_precision:
            kind = kind_of(x, weight, self.stride, self.padding, self.dilation, self.groups)
            if kind in tuning.in_full_precision:
                with torch.autocast(device, enabled=False):
                    return self._conv_forward(x.float(), weight, bias)
        depthwise = self.groups == x.shape[1] == len(weight) and self.groups > 1 and bias is None
        if depthwise and self.padding_mode == "zeros" and "depthwise" in tuning.kernels:
            if half:
                x, weight = (tensor.to(torch.get_autocast_dtype(device)) for tensor in (x, weight))
            if kernels.depthwise_fits(x, weight, self.stride, self.padding, self.dilation):
                return kernels.depthwise(x, weight, self.stride[0], int(self.padding[0]), self.dilation[0])
        y: Tensor = super()._conv_forward(x, weight, bias)
        return y


class QuickAvgPool2d(nn.AvgPool2d):
    """The mean of a window, without padding pixels."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = (_square(value) for value in (self.kernel_size, self.stride, self.padding))
        counts_padding = self.count_include_pad and padding > 0
        whole = not self.ceil_mode or all((n + 2 * padding - kernel) % max(1, stride) == 0 for n in x.shape[2:])
        plain = not counts_padding and self.divisor_override is None and whole
        if plain and min(kernel, stride) > 0 and kernels.pool_fits(x, kernel, stride, padding):
            return kernels.pool(x, kernel, stride, padding, largest=False)
        return super().forward(x)


class QuickMaxPool2d(nn.MaxPool2d):
    """The largest number in a window."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = (_square(value) for value in (self.kernel_size, self.stride, self.padding))
        plain = not self.ceil_mode and not self.return_indices and _square(self.dilation) == 1
        if plain and min(kernel, stride) > 0 and kernels.pool_fits(x, kernel, stride, padding):
            return kernels.pool(x, kernel, stride, padding, largest=True)
        y: Tensor = super().forward(x)
        return y


POOLS: dict[type[nn.Module], type[nn.Module]] = {nn.AvgPool2d: QuickAvgPool2d, nn.MaxPool2d: QuickMaxPool2d}


def _square(value: Any) -> int:
    """The length that both axes have; -1 where they differ."""
    if isinstance(value, int):
        return value
    first, *rest = value
    return int(first) if all(other == first for other in rest) else -1


def quick(model: nn.Module, tuning: Tuning) -> nn.Module:
    """A model that computes the same with what is faster on this machine.

    Args:
        model: a one-shot model or a stand-alone network; it stays as it is.
        tuning: what is faster.

    Returns:
        A model with the same parameters and buffers: what one learns, the other has learnt.
    """
    if not tuning.kernels and not tuning.in_full_precision:
        return model
    return view_of(model, lambda module: _quick(module, tuning))


def _quick(module: nn.Module, tuning: Tuning) -> nn.Module:
    if type(module) is nn.Sequential and "norm" in tuning.kernels:
        return _fused(module)
    if type(module) is nn.Conv2d:
        return _become(module, QuickConv2d, tuning=tuning)
    if type(module) in POOLS and "pool" in tuning.kernels:
        return _become(module, POOLS[type(module)])
    return _norm(module, relu=False) if "norm" in tuning.kernels else module


def _fused(sequence: nn.Sequential) -> nn.Sequential:
    """A batch norm takes over the work of the ReLU after it."""
    names, modules = list(sequence._modules), list(sequence)
    for index in range(len(modules) - 1):
        if type(modules[index + 1]) is nn.ReLU and not _has_hooks(modules[index]):
            fused = _norm(modules[index], relu=True)
            if fused is not modules[index]:
                modules[index], modules[index + 1] = fused, nn.Identity()
    here = copy.copy(sequence)
    here._modules = dict(zip(names, modules, strict=True))
    return here


def _norm(module: nn.Module, *, relu: bool) -> nn.Module:
    if type(module) is Elastic:
        inner = _norm(module.of, relu=relu)
        if inner is module.of:
            return module
        here = copy.copy(module)
        here._modules = {"of": inner}
        return here
    if type(module) is nn.BatchNorm2d:
        return _become(module, QuickNorm, relu=relu)
    return _become(module, QuickGhostNorm, relu=relu) if type(module) is GhostBatchNorm else module


def _become(module: nn.Module, kind: type[nn.Module], **attributes: Any) -> nn.Module:
    here = copy.copy(module)
    here.__class__ = kind
    vars(here).update(attributes)
    return here


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
