"""Named streams of random numbers from one seed."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

GLOBAL_GENERATOR = threading.RLock()
"""Held while torch's global generator, which all threads share, is set, drawn from and restored."""


def derive(seed: int, *name: str | int) -> int:
    """A seed for one purpose, from 0 to 2**63 - 1: the same words give the same seed on every machine."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A generator on the CPU for one purpose, for instance ``stream(seed, "paths", step)``.

    A stream for each step, rather than one that runs on, lets a killed run continue with the same numbers without
    storing any generator's state.
    """
    return torch.Generator().manual_seed(derive(seed, *name))


def draws_at_random(network: nn.Module) -> bool:
    """Whether a network has modules that draw random numbers in their forward pass: dropout of whatever kind.

    Dropout of a rate that is 0, and no choice, draws none.
    """
    return any(
        (isinstance(module, nn.modules.dropout._DropoutNd) and not (type(module.p) in (int, float) and module.p == 0))
        or any(isinstance(thing, float) and thing > 0 and "drop" in name for name, thing in vars(module).items())
        for module in network.modules()
    )


@contextmanager
def seeded(device: torch.device, seed: int, *name: str | int) -> Iterator[DrawFrom]:
    """Inside the ``with`` block what torch draws on a device comes from a stream of its own.

    Dropout takes no generator, and torch's global one is shared by all threads.

    Yields:
        What notes whether anything was drawn.
    """
    generator = torch.Generator(device).manual_seed(derive(seed, *name))
    with DrawFrom(generator) as chance:
        token = _CHANCE.set(chance)
        try:
            yield chance
        finally:
            _CHANCE.reset(token)


_CHANCE: ContextVar[DrawFrom | None] = ContextVar("supernet_chance", default=None)


def drawing_again() -> AbstractContextManager[object]:
    """A context in which what torch draws is once more what it draws from now on, if that follows `seeded`."""
    chance = _CHANCE.get()
    if chance is None:
        return nullcontext()
    return DrawFrom(chance.generator.clone_state())


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Inside the ``with`` block the global generators of torch (of the CPU), of Python and of NumPy begin at a seed;
    afterwards they are as before.
    """
    with nothing_drawn(torch.device("cpu")):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        yield


@contextmanager
def nothing_drawn(device: torch.device) -> Iterator[None]:
    """What is drawn inside the ``with`` block leaves no trace in later draws.

    The generators of torch (of the CPU and of the device), of Python and of NumPy are as before afterwards, and that of
    `seeded` is not used.
    """
    devices = [device] if device.type not in ("cpu", "meta") else []
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002  # what a user's code may draw from
    try:
        with (
            GLOBAL_GENERATOR,
            _disable_current_modes(),
            torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"),
        ):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


class DrawFrom(TorchDispatchMode):
    """Gives a generator to every operation that takes one, unless it is called with one of the network's own.

    A generator that a network makes anew in each pass gives the same numbers each time, as its code means it.

    Attributes:
        drawn: whether there was any such operation.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stub lacks its types
        self.generator = generator
        self.drawn = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and not _is_global(generator):
            return func(*args, **kwargs)
        self.drawn = True
        if func._overloadpacket is torch.ops.aten.native_dropout:  # the fused kernel of GPUs takes no generator
            x, rate, training = args
            if not training:
                return x.clone(), torch.ones_like(x, dtype=torch.bool)
            kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - rate, generator=self.generator)
            return x * kept * (0.0 if rate == 1 else 1 / (1 - rate)), kept
        if any(argument.name == "generator" for argument in func._schema.arguments):
            return func(*args, **{**kwargs, "generator": self.generator})
        if "generator" in func._overloadpacket.overloads():
            return func._overloadpacket.generator(*args, **{**kwargs, "generator": self.generator})
        return func(*args, **kwargs)


def _is_global(generator: torch.Generator) -> bool:
    """Whether a generator is torch's global one, told by its state: operations get another object for the same one."""
    if generator.device.type == "cpu":
        return torch.equal(generator.get_state(), torch.random.get_rng_state())
    state = getattr(torch, generator.device.type).get_rng_state(generator.device)
    return torch.equal(generator.get_state(), state)
