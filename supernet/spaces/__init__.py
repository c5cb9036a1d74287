"""The built-in spaces: each a function that returns a `Space`; add one to `SPACES` to use it by name."""

from __future__ import annotations

from collections.abc import Callable

from supernet.space import Space
from supernet.spaces.bender import bender

SPACES: dict[str, Callable[..., Space]] = {"bender": bender}

__all__ = ["SPACES", "bender"]
