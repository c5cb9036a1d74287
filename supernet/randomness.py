"""Named streams of random numbers from one seed."""

from __future__ import annotations

import hashlib

import torch


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
