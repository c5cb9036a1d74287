"""What supernet/speed/kernels.py does against torch's own operations, one thread.

    python benchmarks/kernels.py [--out RESULT.json]

Batch norm with ReLU, pools, depthwise convolutions and those of one pixel, forward and backward together, on a ghost
batch of 32 at the three resolutions of the paper's space with F=16, in float32 and bfloat16. Each ratio is of the
fastest of all rounds: these are fractions of a millisecond, which other work on a machine disturbs.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from measure import arguments, report
from torch import Tensor
from torch.nn import functional as F

from supernet.speed import kernels

CASES = [(16, 32), (32, 16), (64, 8)]
"""Channels, and pixels of a side."""


def both_ways(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], object]:
    inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    slope = torch.ones_like(function(*inputs))
    return lambda: torch.autograd.grad(function(*inputs), inputs, slope)


def fastest(ways: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    best = [float("inf")] * len(ways)
    for _ in range(rounds):
        for i, work in enumerate(ways):
            began = time.perf_counter()
            work()
            best[i] = min(best[i], time.perf_counter() - began)
    return best


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.set_defaults(rounds=40)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if kernels.compiled() is None:
        raise SystemExit("no C compiler was found: there is nothing to compare")
    result: dict[str, dict[str, float]] = {}
    for dtype in (torch.float32, torch.bfloat16):
        for channels, side in CASES:
            x = torch.randn(32, channels, side, side).to(dtype).contiguous(memory_format=torch.channels_last)
            scale, offset = torch.ones(channels), torch.zeros(channels)

            def torchs_norm(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
                return F.relu(F.batch_norm(x, None, None, scale, offset, training=True))

            def our_norm(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
                return kernels.norm_relu(x, scale, offset, 1e-5, relu=True)

            ways = {
                "batch norm and ReLU": (both_ways(torchs_norm, x, scale, offset), both_ways(our_norm, x, scale, offset))
            }
            for largest in (False, True):

                def torchs_pool(x: Tensor, largest: bool = largest) -> Tensor:
                    return F.max_pool2d(x, 3, 1, 1) if largest else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

                def our_pool(x: Tensor, largest: bool = largest) -> Tensor:
                    return kernels.pool(x, 3, 1, 1, largest=largest)

                name = "max pool 3x3" if largest else "average pool 3x3"
                ways[name] = both_ways(torchs_pool, x), both_ways(our_pool, x)
            for size in (3, 5, 7):
                weight = torch.randn(channels, 1, size, size).to(dtype)

                def torchs(x: Tensor, weight: Tensor, padding: int = size // 2) -> Tensor:
                    return F.conv2d(x, weight, None, 1, padding, 1, len(weight))

                def ours(x: Tensor, weight: Tensor, padding: int = size // 2) -> Tensor:
                    return kernels.depthwise(x, weight, 1, padding, 1)

                ways[f"depthwise {size}x{size}"] = both_ways(torchs, x, weight), both_ways(ours, x, weight)
            weight = torch.randn(channels, channels, 1, 1).to(dtype)
            ways["1x1 as a product"] = both_ways(F.conv2d, x, weight), both_ways(kernels.pointwise, x, weight)
            for name, pair in ways.items():
                theirs, mine = fastest(pair, chosen.rounds)
                result[f"{name}, {channels} channels, {side}x{side}, {str(dtype).removeprefix('torch.')}"] = {
                    "torch ms": round(theirs * 1e3, 3),
                    "ours ms": round(mine * 1e3, 3),
                    "torch / ours": round(theirs / mine, 2),
                }
    report(f"python benchmarks/kernels.py --rounds {chosen.rounds}", result, chosen.out)


if __name__ == "__main__":
    main()
