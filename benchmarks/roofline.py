"""The limit of a piece of work on this machine: what it would take if each of its operations ran at the machine's best.

For each operation the longer of two: its arithmetic over the rate of large matrix products in its precision, and the
bytes that it reads and writes over the bandwidth of adding tensors of 4 MB, both measured here on all cores at once,
each core for itself. What a neighbour could do on its way (ReLU, conversions, copies, views) counts nothing. So it is a
limit for these operations one after the other; joining them into fewer would beat it.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from supernet.speed.runtime import Runtime, RuntimeConfig, cores, start

FREE = (
    "view", "relu", "threshold", "clamp", "copy", "clone", "detach", "empty", "permute", "transpose", "expand", "slice",
    "select", "as_strided", "reshape", "squeeze", "alias", "unbind", "split",
)  # fmt: skip
"""Parts of the names of operations that count nothing."""


def counted_on(precision: Any = "auto") -> Runtime:
    """Where to do the work that `limit` counts: one thread, torch's own operations."""
    return start(RuntimeConfig(device="cpu", threads=1, kernels="torch", precision=precision))


@cache
def rates() -> dict[str, float]:
    """Of one core while all are busy: operations a second ("float32", "bfloat16"), and "bytes" a second."""

    def best(make: Callable[[], Callable[[], object]], amount: float) -> float:
        def on_a_core(_: int) -> float:
            torch.set_num_threads(1)
            work = make()
            times = []
            for _ in range(12):
                began = time.perf_counter()
                work()
                times.append(time.perf_counter() - began)
            return amount / min(times)

        with ThreadPoolExecutor(cores()) as pool:
            return max(pool.map(on_a_core, range(cores())))

    def product(dtype: torch.dtype) -> Callable[[], object]:
        a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
        return lambda: a @ b

    def addition() -> Callable[[], object]:
        a, b, c = (torch.randn(2**20) for _ in range(3))
        return lambda: torch.add(a, b, out=c)

    return {
        "float32": best(lambda: product(torch.float32), 2 * 1024**3),
        "bfloat16": best(lambda: product(torch.bfloat16), 2 * 1024**3),
        "bytes": best(addition, 3 * 4 * 2**20),
    }


class _Count(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stub lacks its types
        self.seconds: dict[str, float] = defaultdict(float)
        self.bound: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        packet = function.overloadpacket
        name = packet.__name__
        if not any(part in name for part in FREE):
            rate = rates()
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
            moved = sum(x.numel() * x.element_size() for x in tensors) / rate["bytes"]
            dtype = str(tensors[0].dtype).removeprefix("torch.") if tensors else ""
            computed = _flops(packet, args, kwargs or {}, result) / rate.get(dtype, rate["float32"])
            self.seconds[name] += max(moved, computed)
            self.bound["arithmetic" if computed > moved else "memory"] += max(moved, computed)
        return result


def _flops(packet: Any, args: Any, kwargs: Any, result: Any) -> float:
    """Two for each multiply-add. Convolutions are counted here: torch's formula for their gradients ignores groups."""
    if packet is torch.ops.aten.convolution_backward:
        gradient, _, weight, *_, wanted = args
        return float(2 * gradient.numel() * weight[0].numel() * sum(wanted[:2]))
    if packet is torch.ops.aten.convolution:
        return float(2 * result.numel() * args[1][0].numel())
    counted = flop_registry.get(packet)
    return 0.0 if counted is None else float(counted(*args, **kwargs, out_val=result))


def limit(work: Callable[[], object], took: float) -> dict[str, Any]:
    """The limit of work that is done on one thread, with torch's own operations.

    Args:
        work: what is counted, called once; see `counted_on`.
        took: seconds that our way of doing it takes.

    Returns:
        The share of the limit that we reach, its seconds if it were divided evenly among all cores, which shares of it
        arithmetic and memory bind, the operations with the largest parts, and the rates measured.
    """
    torch.set_num_threads(1)
    rates()
    with _Count() as count:
        work()
    total = sum(count.seconds.values())
    largest = sorted(count.seconds.items(), key=lambda pair: -pair[1])[:6]
    return {
        "reached": round(total / cores() / took, 2),
        "seconds": round(total / cores(), 4),
        "bound by": {name: round(value / total, 2) for name, value in count.bound.items()},
        "largest": {name: round(value / total, 2) for name, value in largest},
        "a core's GFLOP/s and GB/s": {name: round(value / 1e9, 1) for name, value in rates().items()},
    }
