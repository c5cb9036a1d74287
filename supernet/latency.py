"""Latency of candidates on this device: a time for each module, measured once, then sums."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """How latency is measured."""

    batch_size: int = 1
    """Examples in a forward pass."""

    threads: int = 1
    """Threads of each operation, on a CPU."""

    networks: int = 6
    """Whole networks that the sums are compared with."""

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("threads", 1), ("networks", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
