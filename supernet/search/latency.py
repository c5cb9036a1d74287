"""Latency and memory of candidates on this device: measured once for each module, then sums.

Every module of the network is timed on its own with inputs of the right shape by torch's benchmark timer; modules that
are alike share one time. Inside a network each takes longer than alone, where its numbers lie in the fastest memory,
and there is work between them. So the latency of a network is a factor times the sum of these times, and something for
each module that is called. Both numbers are fitted to a few whole networks, on which the sums are checked as well:
each by the numbers that the others give.

Ours; per-operation tables of latency are as in Cai et al., "ProxylessNAS", ICLR 2019, section 3.2.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from supernet.base.files import read_json, write_json
from supernet.base.randomness import stream
from supernet.base.trees import call, map_tensors, tensors_in
from supernet.space.choices import Space
from supernet.space.cost import CostTable, cost_table, everything_on, with_sum, zero_network
from supernet.space.layers import Choose, Depth, live_paths, set_live_paths
from supernet.space.model import build, example_of
from supernet.space.network import places_of
from supernet.space.tabulate import Key, Measured, Setting
from supernet.speed.kernels import processor_name

log = logging.getLogger(__name__)

COLUMNS = ("latency", "modules", "memory")
"""What is measured of each module: nanoseconds, how often it is called, bytes."""

_WORST = 0.15
"""A table that is off by more than this on any whole network, as a share of its time, says so."""

RUN_SECONDS = 0.02
"""How long each module is timed at least."""

ROUNDS = 9
"""Whole networks are timed so often, in turns; the fastest counts, which other work on the machine disturbs least."""


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """How latency is measured: a forward pass in evaluation mode, in single precision."""

    batch_size: int = 1
    """Examples in a forward pass."""

    threads: int = 1
    """Threads of each operation, on a CPU."""

    networks: int = 8
    """Whole networks that the sums are fitted to and checked on."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("threads", 1), ("networks", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")


Time = Callable[[nn.Module, Any], int]
"""Nanoseconds of a forward pass of a module with these arguments."""


def timed(module: nn.Module, arguments: Any, *, threads: int) -> int:
    """Nanoseconds of a forward pass: the median of torch's benchmark timer."""
    from torch.utils.benchmark import Timer

    with torch.inference_mode():
        names = {"module": module, "arguments": arguments}
        timer = Timer("module(*arguments)", globals=names, num_threads=threads)
        return max(1, round(timer.blocked_autorange(min_run_time=RUN_SECONDS).median * 1e9))


def latency_costs(
    space: Space, config: LatencyConfig, device: torch.device, path: Path, *, time: Time | None = None
) -> CostTable:
    """The table of costs of a space with the columns latency and memory.

    Memory is that of parameters and buffers, and of inputs and outputs of the module for which these are largest; what
    is kept for later meanwhile, as over a skip connection, is not in it.

    Args:
        space: the space.
        config: batch size, threads, number of whole networks.
        device: what is measured.
        path: file of the times; what stands in it is not measured again, so that a search that goes on has the same
            costs as before. Where it was measured with something else (see `changed`), all is measured anew.
        time: measures a module; by default `timed`.
    """
    measure = time or (lambda module, arguments: timed(module, arguments, threads=config.threads))
    known: dict[str, Any] = {**_measured_with(config, device), "modules": {}}
    if path.exists() and not changed(path, config, device):
        known = read_json(path)
    times: dict[str, int] = known["modules"]

    def time_of(module: nn.Module, arguments: Any) -> int:
        key = signature(module, arguments)
        if key not in times:
            if len(times) % 50 == 49:
                write_json(path, known, digest=True)
                log.info("latency: %d modules timed", len(times) + 1)
            times[key] = measure(module, arguments)
        return times[key]

    table = cost_table(
        space,
        more=lambda setting: _measure_modules(space, setting, config.batch_size, device, time_of),
        columns=COLUMNS,
    )
    if "checked" not in known:
        known |= _check(table, config, device, measure)
        write_json(path, known, digest=True)
        log.info("latency: %d modules timed; %s", len(times), told(known))
    return with_sum(table, "latency", {"latency": known["factor"], "modules": known["each"]})


def _measured_with(config: LatencyConfig, device: torch.device) -> dict[str, Any]:
    """What times depend on besides the modules."""
    return {"device": _device_name(device), "torch": torch.__version__, **asdict(config)}


def changed(path: Path, config: LatencyConfig, device: torch.device) -> list[str]:
    """What the times in a file were measured with that is different now, in words; empty if nothing is different."""
    known = read_json(path)
    return [
        f"{name} {known.get(name)}, now {now}"
        for name, now in _measured_with(config, device).items()
        if known.get(name) != now
    ]


def _device_name(device: torch.device) -> str:
    """What people call the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({processor_name()})"


def signature(module: nn.Module, arguments: Any) -> str:
    """What the time of a module depends on: its kind and settings, and the shapes of parameters and inputs."""
    shapes = [f"{t.dtype}{tuple(t.shape)}".replace("torch.", "") for t in tensors_in(arguments)]
    own = [f"{name}{tuple(p.shape)}" for name, p in module.named_parameters()]
    kind = " ".join(repr(module).split())
    return f"{type(module).__module__}.{kind} {' '.join(own)} <- {' '.join(shapes)}"


def _check(table: CostTable, config: LatencyConfig, device: torch.device, measure: Time) -> dict[str, Any]:
    """The fit, and by how much it is off on whole networks, each by the fit to the others."""
    space = table.space
    drawn = space.sample_distinct(min(config.networks, space.size), generator=stream(0, "latency"))
    wholes = [_Whole(build(space, architecture).eval().to(device)) for architecture in drawn]
    example = map_tensors(example_of(space, config.batch_size), lambda t: t.to(device))
    rounds = [[measure(whole, (example,)) for whole in wholes] for _ in range(ROUNDS)]
    times = [min(row) for row in zip(*rounds, strict=True)]
    costs = table.costs(drawn)[:, [table.columns.index(name) for name in ("latency", "modules")]].tolist()
    checked = []
    for i, (architecture, time) in enumerate(zip(drawn, times, strict=True)):
        factor, each = _fit(costs[:i] + costs[i + 1 :], times[:i] + times[i + 1 :])
        found = factor * costs[i][0] + each * costs[i][1]
        checked.append(
            {"architecture": str(architecture), "sum": costs[i][0], "modules": costs[i][1], "whole": time,
             "error": abs(found - time) / time}
        )  # fmt: skip
    factor, each = _fit(costs, times)
    errors = [row["error"] for row in checked]
    return {
        "factor": factor, "each": each, "checked": checked, "error": sum(errors) / len(errors),
        "largest_error": max(errors),
    }  # fmt: skip


def _fit(costs: Sequence[Sequence[int]], times: Sequence[int]) -> tuple[float, float]:
    """A factor for sums and nanoseconds for each module, not below 0, with the least squared relative errors."""
    from scipy.optimize import nnls

    if not times:
        return 1.0, 0.0
    found, _ = nnls(np.array(costs, float) / np.array(times, float)[:, None], np.ones(len(times)))
    return float(found[0]), float(found[1])


class _Whole(nn.Module):
    """A network that takes a whole batch as one argument, whether tensor, tuple or dict."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: Any) -> Any:
        return call(self.network, batch)


def _is_unit(module: nn.Module) -> bool:
    """Whether a module is timed as a whole: it has no parts, or is more than its parts and holds no choice."""
    inside = list(module.modules())[1:]
    if not inside:
        return True
    return bool(module._parameters) and not any(isinstance(m, (Choose, Depth)) for m in (module, *inside))


def _measure_modules(space: Space, setting: Setting, batch: int, device: torch.device, time_of: Time) -> Measured:
    """Nanoseconds, calls, bytes held, bytes of inputs and outputs of every module with this setting of shapes.

    By the module's name and by what has to be live for it to take part, as in `supernet.space.cost`.
    """
    network = zero_network(space, setting, device)
    found: dict[Key, list[int]] = {}
    inside: list[str] = []
    seen: list[tuple[Key, nn.Module, Any, int]] = []

    def watch(name: str, module: nn.Module) -> None:
        def before(_module: nn.Module, _arguments: Any) -> None:
            inside.append(name)

        def after(_module: nn.Module, arguments: Any, output: Any) -> None:
            inside.pop()
            if not inside:  # not within a unit that is timed as a whole
                working = _bytes(arguments) + _bytes(output)
                nested = max(live_paths().inside, places.get(name, ()), key=len)
                seen.append(((name, nested), module, arguments, working))

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    places = places_of(network)
    units = {name: module for name, module in network.named_modules() if _is_unit(module)}
    for name, module in units.items():
        watch(name, module)
    with torch.no_grad(), set_live_paths(everything_on(space, setting)):
        call(network, map_tensors(example_of(space, batch), lambda t: t.to(device)))
    for module in units.values():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    held: set[int] = set()
    for key, module, arguments, working in seen:
        entry = found.setdefault(key, [0, 0, 0, 0])
        entry[0] += time_of(module, arguments)
        entry[1] += 1
        if id(module) not in held:
            held.add(id(module))
            entry[2] += _bytes([*module.parameters(), *module.buffers()])
        entry[3] = max(entry[3], working)
    return {key: tuple(figures) for key, figures in found.items()}


def _bytes(thing: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_in(thing))


def told(known: dict[str, Any]) -> str:
    """What there is to say of a table of latencies: on what it was measured, and how far off its sums are."""
    doubt = f"; more than {_WORST:.0%} on one of them: do not rely on it" if known["largest_error"] > _WORST else ""
    return (
        f"{known['device']}, batch {known['batch_size']}, {known['threads']} threads; sums are off by "
        f"{known['error']:.1%} on {len(known['checked'])} whole networks (at most {known['largest_error']:.1%}){doubt}"
    )


def summary(path: Path) -> str | None:
    """What a report says of the table of latencies in a file; None where there is none that is complete.

    Raises:
        ValueError: the file is damaged.
    """
    known = read_json(path) if path.exists() else {}
    if "checked" not in known:
        return None
    return told(read_json(path, ("device", "batch_size", "threads", "error", "largest_error")))
