"""Device, precision and processes: the only module that imports Lightning Fabric."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class RuntimeConfig:
    """Where and in what precision the work is done."""

    device: str = "auto"
    """'auto', 'cpu', 'cuda' or 'mps'."""

    precision: Precision = "32-true"
    """'32-true', or autocast to half precision: 'bf16-mixed', '16-mixed'."""

    devices: int = 1
    """Processes on each machine, one device each; the ghost batches of a step are divided among them."""

    nodes: int = 1
    """Machines; each starts the same command, with the environment variables that torchrun sets."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the training loop needs of the device and of the other processes."""

    fabric: Fabric

    @property
    def device(self) -> torch.device:
        return self.fabric.device

    @property
    def rank(self) -> int:
        return self.fabric.global_rank

    @property
    def world_size(self) -> int:
        return self.fabric.world_size

    def autocast(self) -> AbstractContextManager[None]:
        """The precision asked for, inside the ``with`` block."""
        return self.fabric.autocast()

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: Tensor) -> Tensor:
        """Adds up over all processes the gradients of the parameters that were live in any of them, and the loss.

        Which these are follows from the live options of the whole step, which every process draws alike; so all
        processes reduce the same tensors in the same order, in one message, and no process has to search for unused
        parameters. A parameter that was live elsewhere only counts here as zero.
        """
        if self.world_size == 1:
            return loss
        touched = list(parameters)
        for parameter in touched:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in touched if p.grad is not None]
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

    def wait(self) -> None:
        """Returns when all processes have come here."""
        self.fabric.barrier()


def start(config: RuntimeConfig) -> Runtime:
    """Prepares the device, and the other processes where there are several.

    Raises:
        ValueError: the device is not there, or the precision does not work on it.
    """
    from lightning_fabric import Fabric

    several = config.devices * config.nodes > 1
    try:
        fabric = Fabric(
            accelerator=config.device,
            devices=config.devices,
            num_nodes=config.nodes,
            precision=config.precision,
            strategy="ddp" if several else "auto",
        )
        fabric.launch()
    except Exception as error:
        raise ValueError(
            f"device {config.device!r} with precision {config.precision!r} is not to be had here: "
            f"{' '.join(str(error).split())}"
        ) from error
    return Runtime(fabric)
