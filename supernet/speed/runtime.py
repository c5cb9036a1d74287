"""Device, precision and processes: the only module that imports Lightning Fabric."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from supernet.base.files import sha256
from supernet.base.progress import UNWATCHED
from supernet.base.trees import CONTIGUOUS
from supernet.base.version import __version__
from supernet.speed import kernels
from supernet.speed.peers import together
from supernet.speed.pool import Cluster, Job, Pool, Processes, Task, here
from supernet.speed.tune import Tuning, problem_of, self_test

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_SWITCH_SECONDS = 0.0002
"""Python's turns while pieces of work run side by side; benchmarks/one_shot_step.py is 6 % faster than with 0.005."""


log = logging.getLogger(__name__)

_OF_LAUNCHERS = ("SLURM_", "TORCHELASTIC_", "LOCAL_", "GROUP_", "MASTER_", "NODE_RANK", "RANK", "WORLD_SIZE")
"""Beginnings of the names of variables by which torchrun, SLURM and Fabric tell processes apart."""

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
    """Processes on each machine, one device each; the ghost batches of a step are divided among them. With nodes 1 too,
    as many as torchrun or SLURM has started."""

    threads: int | None = None
    """Pieces of work side by side on a CPU; None for one on each core. Results do not depend on it."""

    nodes: int = 1
    """Machines; each starts the same command on a shared run folder, with the variables that torchrun sets."""

    workers: int | None = None
    """Processes among which scores, measures and trainings from scratch are divided; null: this one alone, or on a
    cluster as many as it has room for. Results do not depend on it."""

    cluster: str | None = None
    """Ray cluster on which the workers run: auto for the one that this machine is part of, or ray://HOST:PORT; null:
    this machine."""

    worker_cores: int | None = None
    """Cores that a task of a worker uses; null: this machine's divided among the workers, or on a cluster one."""

    worker_gpus: float | None = None
    """GPUs of a worker on a cluster, perhaps a part of one; null: one if device is cuda, otherwise none. On this
    machine the workers take its GPUs in turn."""

    def __post_init__(self) -> None:
        for name, options in (("device", _DEVICES), ("precision", _PRECISIONS), ("kernels", KERNELS)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name}: expected one of {', '.join(options)}; got {getattr(self, name)!r}")
        for name in ("devices", "threads", "nodes", "workers", "worker_cores"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.worker_gpus is not None and self.worker_gpus < 0:
            raise ValueError(f"worker_gpus: expected at least 0, got {self.worker_gpus}")
        if self.cluster is not None and self.cluster != "auto" and not self.cluster.startswith("ray://"):
            raise ValueError(f"cluster: expected auto or ray://HOST:PORT, got {self.cluster!r}")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the training loop needs of the device and of the other processes."""

    fabric: Fabric
    threads: int
    tuning: Tuning
    is_alone: bool = False
    pool: Pool | None = None

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

    def share(
        self,
        held: object,
        make: Callable[[Runtime], Job],
        tasks: Iterable[Task],
        *,
        stop: Callable[[], bool] = UNWATCHED.stop,
    ) -> Iterable[Any]:
        """Does independent tasks, among workers if there are any, otherwise side by side as `workers` does.

        Args:
            held, tasks, stop: as for `supernet.speed.pool.Pool.run`.
            make: makes the job with the runtime that a task has for itself. A worker gets it as bytes.

        Returns:
            The results in the order of the tasks; those of workers come one after the other.
        """
        if self.pool is not None:
            return self.pool.run(held, make, tasks, stop=stop)
        with self.workers() as run:
            return here(run, make(self.one_thread()), tasks, stop)

    def alone(self) -> Runtime:
        """The same for work that this process does without the others: nothing is divided among them."""
        return replace(self, is_alone=True)

    def in_single_precision(self) -> Runtime:
        """The same without half precision."""
        return replace(self, tuning=replace(self.tuning, precision="32-true"))

    def one_thread(self) -> Runtime:
        """The same for work that is itself one of several pieces side by side."""
        return replace(self, threads=1, pool=None)

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
        """Moves a module to the device, its convolutions in the layout in which they are faster, if it runs in any."""
        is_free = not any(vars(inner).get(CONTIGUOUS) for inner in module.modules())
        layout = getattr(torch, self.tuning.layout) if is_free else torch.contiguous_format
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

    def together(self) -> AbstractContextManager[None]:
        """Inside the ``with`` block, if one of several processes dies the others end too and say which and why."""
        if self.world_size == 1:
            return nullcontext()
        address = os.environ.get("MASTER_ADDR", "127.0.0.1")
        return together(self.rank, self.world_size, self.fabric.broadcast, address)

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.fabric.barrier()


def shared_by_threads(weights: Iterable[Tensor]) -> list[Tensor]:
    """What has to be kept for as long as several threads take gradients of the same weights.

    These are graphs that hold the node of each weight that adds its gradients up, in C++ alone. Without, each pass
    makes the nodes anew, for which it takes the weight's lock and then Python's; another that has Python's, in a
    function of its own, may wait for the weight's: both for ever (torch 2.13). A node that Python alone holds needs
    Python's lock too.
    """
    with torch.enable_grad():
        return [weight.sum() for weight in weights if weight.requires_grad]


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
    config = _as_launched(config)
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
    pool = _pool_of(config, tuning, device) if fabric.global_rank == 0 else None
    if fabric.device.type != "cpu":
        return Runtime(fabric, 1, tuning, pool=pool)
    torch.set_num_threads(1)  # of each operation; see `Runtime.workers`
    _keep_freed_memory()
    return Runtime(fabric, config.threads or cores(), tuning, pool=pool)


def _pool_of(config: RuntimeConfig, tuning: Tuning, device: torch.device) -> Pool | None:
    """The workers that a configuration asks for; they start when they are needed."""
    if config.workers is None and config.cluster is None:
        return None
    per_worker = config.worker_cores or 1
    if config.cluster is not None:
        gpus = float(device.type == "cuda") if config.worker_gpus is None else config.worker_gpus
        engine: Cluster | Processes = Cluster(config.cluster, config.workers, per_worker, gpus)
    else:
        assert config.workers is not None
        per_worker = config.worker_cores or max(1, (config.threads or cores()) // config.workers)
        engine = Processes([_visible(number, device) for number in range(config.workers)])
    its_config = RuntimeConfig(
        device=device.type, precision=tuning.precision, threads=per_worker
    )  # what the self-test chose here holds there, kernels too
    return Pool(engine, partial(_prepared, its_config, tuning, machine_of(device), __version__))


def _visible(number: int, device: torch.device) -> dict[str, str]:
    """The variables with which a worker on this machine sees one GPU, the workers in turn."""
    if device.type != "cuda":
        return {}
    names = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return {"CUDA_VISIBLE_DEVICES": names.split(",")[number % len(names.split(","))]}


def _prepared(config: RuntimeConfig, tuning: Tuning, there: dict[str, str], version: str) -> tuple[Runtime, list[str]]:
    """The runtime of a worker, and what is not on its machine as it is on that of the first process.

    Raises:
        ValueError: its machine has another version of this package.
    """
    for name in [name for name in os.environ if name.startswith(_OF_LAUNCHERS)]:
        del os.environ[name]  # a worker is none of the processes that train together
    host = platform.node()
    if __version__ != version:
        raise ValueError(f"{host} has supernet {__version__}, and the run {version}: install the same")
    runtime = start(config, tuning)
    now = machine_of(runtime.device)
    notes = [f"{host} has {name} {now[name]}, not {there[name]}" for name in now if now[name] != there[name]]
    if tuning.kernels and runtime.device.type == "cpu" and kernels.compiled() is None:
        notes.append(f"{host} has no compiled kernels")
    return runtime, [f"{note}: last digits of results may differ" for note in notes]


def machine_of(device: torch.device) -> dict[str, str]:
    """What the last digits of results depend on besides the tuning: the processor, and the code that runs on it."""
    is_cpu = device.type == "cpu"
    processor = hashlib.sha256(kernels.processor().encode()).hexdigest()[:16] if is_cpu else ""
    name = torch.cuda.get_device_name() if device.type == "cuda" else kernels.processor_name()
    return {"name": name, "processor": processor, "torch": torch.__version__, "kernels": sha256(kernels.SOURCE)[:16]}


def _as_launched(config: RuntimeConfig) -> RuntimeConfig:
    """The configuration with as many processes as torchrun or SLURM has started, if it has started several.

    Raises:
        ValueError: it names another number of them.
    """
    launcher, processes, nodes = _launched()
    if processes == 1 or (config.devices, config.nodes) == (processes // nodes, nodes):
        return config
    if (config.devices, config.nodes) != (1, 1) or processes % nodes:
        raise ValueError(
            f"{launcher} started {processes} processes on {nodes} machines, and runtime.devices {config.devices} with "
            f"runtime.nodes {config.nodes} are {config.devices * config.nodes}: leave both at 1, or name the same"
        )
    log.info(
        "%s started %d processes on %d machines: they train the one-shot model together", launcher, processes, nodes
    )
    return replace(config, devices=processes // nodes, nodes=nodes)


def _launched() -> tuple[str, int, int]:
    """What started this process as one of several, how many of them, and on how many machines; 1 and 1 otherwise."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    variables = os.environ
    if TorchElasticEnvironment.detect():
        processes = int(variables["WORLD_SIZE"])
        return "torchrun", processes, processes // int(variables.get("LOCAL_WORLD_SIZE", processes))
    if SLURMEnvironment.detect():
        return "SLURM", int(variables["SLURM_NTASKS"]), int(variables.get("SLURM_NNODES", 1))
    return "", 1, 1


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
