"""Device, precision and processes: the only module that imports Lightning Fabric."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from supernet.speed.tune import Tuning, problem_of, self_test

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SWITCH_SECONDS = 0.0002
"""Python's turns while pieces of work run side by side; benchmarks/one_shot_step.py is 6 % faster than with 0.005."""


_DEVICES = ("auto", "cpu", "cuda", "mps")
_PRECISIONS = ("auto", "32-true", "bf16-mixed")
KERNELS = ("auto", "torch")


_KEEP_FREED = {-3: 2**25, -1: 2**31 - 1, -2: 2**26}
"""What `mallopt` of glibc is told, by the numbers of M_MMAP_THRESHOLD (the largest that it takes), M_TRIM_THRESHOLD and
M_TOP_PAD, in bytes: memory that is freed stays in the process. Otherwise each step asks the system for the same memory
anew, page by page; docs/log.md has what that costs."""


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and in what precision the work is done."""

    device: str = "auto"
    """'auto', 'cpu', 'cuda' or 'mps'."""

    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """'32-true', or autocast to half precision: 'bf16-mixed'. 'auto': half precision where a self-test, made once on
    each machine, finds it right and faster."""

    kernels: Literal["auto", "torch"] = "auto"
    """'torch': only the operations of torch. 'auto': also the project's own for CPUs, where the self-test finds them
    right and faster."""

    devices: int = 1
    """Processes on each machine, one device each; the ghost batches of a step are divided among them."""

    threads: int | None = None
    """Pieces of work side by side on a CPU; None for one on each core. Results do not depend on it."""

    nodes: int = 1
    """Machines; each starts the same command on a shared run folder, with the variables that torchrun sets."""

    def __post_init__(self) -> None:
        for name, options in (("device", _DEVICES), ("precision", _PRECISIONS), ("kernels", KERNELS)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name}: expected one of {', '.join(options)}; got {getattr(self, name)!r}")
        for name in ("devices", "threads", "nodes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the training loop needs of the device and of the other processes."""

    fabric: Fabric
    threads: int
    tuning: Tuning
    is_alone: bool = False

    @contextmanager
    def workers(self) -> Iterator[Callable[..., Iterable[Any]]]:
        """Gives a `map` for independent pieces of work, in order; on a CPU they run side by side.

        Each piece then has one core to itself. For the many small operations of a network with small ghost batches
        that is up to twice as fast as all cores on one operation after the other (docs/log.md), and a piece's result
        does not depend on the number of cores. What is thread-local (autocast, inference mode) is set by the piece.
        """
        if self.threads == 1:
            yield map
            return
        patience = sys.getswitchinterval()
        with ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            # Operations are shorter than the 5 ms for which Python lets a thread wait for another one's turn to end.
            sys.setswitchinterval(min(patience, _SWITCH_SECONDS))
            try:
                yield pool.map
            finally:
                sys.setswitchinterval(patience)
                pool.shutdown(cancel_futures=True)

    def alone(self) -> Runtime:
        """The same for work that this process does without the others: nothing is divided among them."""
        return replace(self, is_alone=True)

    def in_single_precision(self) -> Runtime:
        """The same without half precision."""
        return replace(self, tuning=replace(self.tuning, precision="32-true"))

    def one_thread(self) -> Runtime:
        """The same for work that is itself one of several pieces side by side."""
        return replace(self, threads=1)

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def rank(self) -> int:
        return 0 if self.is_alone else self.fabric.global_rank

    @property
    def world_size(self) -> int:
        return 1 if self.is_alone else self.fabric.world_size

    def ghosts_per_forward(self, setting: int | None, ghosts: int) -> int:
        """How many of a number of ghost batches go through the model at once.

        All of them on a device on which launching kernels takes most of the time; one on a CPU, whose cache holds a
        small ghost batch.
        """
        return setting or (1 if self.device.type == "cpu" else ghosts)

    def place(self, module: nn.Module) -> nn.Module:
        """Moves a module to the device, its convolutions in the layout in which they are faster."""
        layout = getattr(torch, self.tuning.layout)
        return module.to(self.device, memory_format=layout)  # type: ignore[call-overload, no-any-return]  # not in torch's stub

    def autocast(self) -> AbstractContextManager[None]:
        """The precision asked for, inside the ``with`` block."""
        return nullcontext() if self.tuning.precision == "32-true" else self.fabric.autocast()

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Adds up over all processes the gradients of the parameters that were live in any of them, and the loss.

        Which these are follows from the live options of the whole step, which every process draws alike; so all
        processes reduce the same tensors in the same order, in one message, and no process has to search for unused
        parameters. The caller gives a parameter that was live elsewhere only a gradient of zero.
        """
        if self.world_size == 1:
            return loss
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([loss.reshape(1), *(g.reshape(-1) for g in gradients)])
        flat = torch.as_tensor(self.fabric.all_reduce(flat, reduce_op="sum"))
        start = 1
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return flat[0]

    def same_weights(self, model: nn.Module) -> None:
        """Sends the weights and buffers of the first process to all others."""
        if self.world_size > 1:
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data.copy_(torch.as_tensor(self.fabric.broadcast(tensor.data, src=0)))

    def any_of(self, flag: bool) -> bool:
        """Whether the flag is set in any process, so that all of them stop before the same step."""
        if self.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag), device=self.device), reduce_op="sum"))

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.fabric.barrier()


def start(config: RuntimeConfig, tuning: Tuning | None = None) -> Runtime:
    """Prepares the device, and the other processes if there are several.

    Args:
        config: where and in what precision; what it names itself replaces the same in `tuning`.
        tuning: what the self-test chose when the work began; None: what it chooses on this machine.

    Raises:
        ValueError: the device is not available, or the precision does not work on it. Any other error is a fault of
            the program, and keeps its type.
    """
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # which sets its own when it is imported
    device = device_of(config)
    tuning = (tuning or self_test(device)) if needs_tuning(config) else Tuning()
    if config.kernels == "torch":
        tuning = replace(tuning, kernels=())
    if config.precision != "auto":
        tuning = replace(tuning, precision=config.precision)
    fabric = Fabric(
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.nodes,
        precision=tuning.precision,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
    )
    fabric.launch()
    if fabric.device.type != "cpu":
        return Runtime(fabric, 1, tuning)
    torch.set_num_threads(1)  # of each operation; see `Runtime.workers`
    _keep_freed_memory()
    return Runtime(fabric, config.threads or cores(), tuning)


def needs_tuning(config: RuntimeConfig) -> bool:
    """Whether the self-test decides anything."""
    return "auto" in (config.precision, config.kernels)


def device_of(config: RuntimeConfig) -> torch.device:
    """The device, which is tried before anything else is done on it.

    Raises:
        ValueError: it is not available, there are fewer of it than asked for, or the precision does not work on it.
    """
    available = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    kind = config.device
    if kind == "auto":
        kind = next((accelerator for accelerator, count in available.items() if count), "cpu")
    if config.devices > available.get(kind, config.devices):
        raise ValueError(
            f"device {kind!r}: expected {config.devices} on this machine, torch finds {available[kind]}: "
            "set runtime.device to auto or cpu, or runtime.devices to fewer"
        )
    device = torch.device(kind)
    problem = problem_of(device, "32-true" if config.precision == "auto" else config.precision)
    if problem is not None:
        raise ValueError(
            f"device {kind!r} does not work with precision {config.precision!r} ({problem}): "
            "set runtime.precision to 32-true, or runtime.device to cpu"
        )
    return device


def _keep_freed_memory() -> None:
    """A setting for the whole process, like the number of threads; nothing where the library of C is not glibc."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "gnu_get_libc_version"):
        for setting, value in _KEEP_FREED.items():
            library.mallopt(setting, value)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
