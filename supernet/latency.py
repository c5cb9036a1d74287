"""Latency and memory of candidates on this device: measured once for each module, then sums.

Every module of the network is timed on its own with inputs of the right shape by torch's benchmark timer; modules that
are alike share one time. What stand-alone networks need besides, for all that stands between their modules, is a
constant found on a few whole networks, on which the sums are checked as well.

Ours; per-operation tables of latency are as in Cai et al., "ProxylessNAS", ICLR 2019, section 3.2.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from supernet.cost import CostTable, Figures, Setting, cost_table, everything_on, with_constant, zero_network
from supernet.files import read_json, write_json
from supernet.layers import Choose, Depth, live_paths, set_live_paths
from supernet.model import Within, build, call, example_of
from supernet.randomness import stream
from supernet.space import Space
from supernet.trees import map_tensors, tensors_in

log = logging.getLogger(__name__)

COLUMNS = ("latency", "memory")
"""Columns that this adds to a table of costs: nanoseconds and bytes."""

WORST = 0.15
"""A table whose sums are off by more than this, as a share of the time of whole networks, says so."""

RUN_SECONDS = 0.02
"""How long each module is timed at least."""


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """How latency is measured: a forward pass in evaluation mode, in single precision."""

    batch_size: int = 1
    """Examples in a forward pass."""

    threads: int = 1
    """Threads of each operation, on a CPU."""

    networks: int = 6
    """Whole networks that the sums are checked on."""

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
            costs as before.
        time: measures a module; by default `timed`.
    """
    measure = time or (lambda module, arguments: timed(module, arguments, threads=config.threads))
    settings = {"batch_size": config.batch_size, "threads": config.threads}
    known: dict[str, Any] = read_json(path) if path.exists() else {}
    if {name: known.get(name) for name in settings} != settings:
        known = {**settings, "device": device_name(device), "torch": torch.__version__, "modules": {}}
    times: dict[str, int] = known["modules"]

    def time_of(module: nn.Module, arguments: Any) -> int:
        key = signature(module, arguments)
        if key not in times:
            if len(times) % 50 == 49:
                write_json(path, known)
                log.info("latency: %d modules timed", len(times) + 1)
            times[key] = measure(module, arguments)
        return times[key]

    table = cost_table(
        space,
        more=lambda setting: _measure_modules(space, setting, config.batch_size, device, time_of),
        columns=COLUMNS,
    )
    if "networks" not in known:
        known |= _check(table, config, device, measure)
        write_json(path, known)
        warning = f"; that is more than {WORST:.0%}: do not rely on it" if known["error"] > WORST else ""
        log.info(
            "latency on %s: %d modules timed; sums are off by %.1f %% on %d whole networks (at most %.1f %%)%s",
            *(known["device"], len(times), 100 * known["error"], len(known["networks"])),
            *(100 * known["largest_error"], warning),
        )
    elif known["device"] != device_name(device):
        log.info("latency: the times of %s are used further, on which the search began", known["device"])
    return with_constant(table, "latency", known["constant"])


def device_name(device: torch.device) -> str:
    """What people call the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} ({platform.machine()})"


def signature(module: nn.Module, arguments: Any) -> str:
    """What the time of a module depends on: its kind and settings, and the shapes of parameters and inputs."""
    shapes = [f"{t.dtype}{tuple(t.shape)}".replace("torch.", "") for t in tensors_in(arguments)]
    own = [f"{name}{tuple(p.shape)}" for name, p in module.named_parameters()]
    kind = " ".join(repr(module).split())
    return f"{type(module).__module__}.{kind} {' '.join(own)} <- {' '.join(shapes)}"


def _check(table: CostTable, config: LatencyConfig, device: torch.device, measure: Time) -> dict[str, Any]:
    """The constant, and by how much sums are off on whole networks, each with the constant of the others."""
    space = table.space
    generator = stream(0, "latency")
    drawn = space.sample_distinct(min(config.networks, space.size), generator=generator)
    sums = table.column("latency", drawn).tolist()
    wholes = []
    for architecture in drawn:
        network = build(space, architecture).eval().to(device)
        example = map_tensors(example_of(space, config.batch_size), lambda t: t.to(device))
        wholes.append(measure(_Whole(network), (example,)))
    apart = [whole - total for whole, total in zip(wholes, sums, strict=True)]
    errors = []
    for i, (whole, total) in enumerate(zip(wholes, sums, strict=True)):
        others = apart[:i] + apart[i + 1 :]
        errors.append(abs(total + (median(others) if others else 0) - whole) / whole)
    rows = [
        {"architecture": str(a), "sum": s, "whole": w, "error": e}
        for a, s, w, e in zip(drawn, sums, wholes, errors, strict=True)
    ]
    error = sum(errors) / len(errors)
    return {"constant": round(median(apart)), "networks": rows, "error": error, "largest_error": max(errors)}


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


def _measure_modules(
    space: Space, setting: Setting, batch: int, device: torch.device, time_of: Time
) -> dict[tuple[str, Within], Figures]:
    """Nanoseconds, bytes held, and bytes of inputs and outputs of every module with this setting of shapes.

    By the module's name and by what has to be live for it to take part, as in `supernet.cost`.
    """
    network = zero_network(space, setting, device)
    found: dict[tuple[str, Within], list[int]] = {}
    inside: list[str] = []
    seen: list[tuple[tuple[str, Within], nn.Module, Any, int]] = []

    def watch(name: str, module: nn.Module) -> None:
        def before(_module: nn.Module, _arguments: Any) -> None:
            inside.append(name)

        def after(_module: nn.Module, arguments: Any, output: Any) -> None:
            inside.pop()
            if not inside:  # not within a unit that is timed as a whole
                working = _bytes(arguments) + _bytes(output)
                seen.append(((name, live_paths().within), module, arguments, working))

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

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
        entry = found.setdefault(key, [0, 0, 0])
        entry[0] += time_of(module, arguments)
        if id(module) not in held:
            held.add(id(module))
            entry[1] += _bytes([*module.parameters(), *module.buffers()])
        entry[2] = max(entry[2], working)
    return {key: tuple(figures) for key, figures in found.items()}


def _bytes(thing: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors_in(thing))


def summary(path: Path) -> dict[str, Any] | None:
    """What a report says of the table of latencies in a file; None where there is none."""
    if not path.exists():
        return None
    known = read_json(path, ("device", "batch_size", "threads", "error", "largest_error", "networks"))
    return {name: known[name] for name in ("device", "batch_size", "threads", "error", "largest_error", "networks")}
