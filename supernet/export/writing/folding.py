"""Batch norm as a part of the convolution before it, for a network that is not trained further.

References:
    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018, section 3.2.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from supernet.export.writing.tracing import Step, Value, leaves_of, trace, values_in


def fold(network: nn.Module, inputs: Any) -> tuple[nn.Module, int]:
    """A copy of a network in evaluation mode without the batch norms that follow a convolution or linear layer.

    Args:
        network: a stand-alone network in evaluation mode; it stays as it is.
        inputs: at least three examples.

    Returns:
        The copy, and the number of batch norms left out.

    Raises:
        UnwritableError: the calls cannot be recorded, as for `supernet.export.writing.code.write`.
    """
    network = copy.deepcopy(network).eval()
    frames = trace(network, inputs, leaves_of(network))
    calls = Counter(
        id(s.function) for frame in frames.values() for s in frame.steps if isinstance(s.function, nn.Module)
    )
    paths = {id(module): path for path, module in network.named_modules()}
    pairs: list[tuple[Any, Any]] = []
    for frame in frames.values():
        used = Counter(id(value.of) for value in values_in([frame.output, *((s.args, s.kwargs) for s in frame.steps)]))
        for step in frame.steps:
            before = step.args[0].of if step.args and isinstance(step.args[0], Value) else None
            if isinstance(step.function, nn.modules.batchnorm._BatchNorm) and isinstance(before, Step):
                first = before.function
                foldable = isinstance(first, nn.modules.conv._ConvNd | nn.Linear) and step.function.track_running_stats
                if foldable and used[id(before)] == 1 and calls[id(first)] == calls[id(step.function)] == 1:
                    pairs.append((first, step.function))
    for first, norm in pairs:
        if isinstance(first, nn.Linear):
            fused: nn.Module = fuse_linear_bn_eval(first, norm)
        else:
            fused = fuse_conv_bn_eval(first, norm, first.transposed)
        network.set_submodule(paths[id(first)], fused)
        network.set_submodule(paths[id(norm)], nn.Identity())
    return network, len(pairs)
