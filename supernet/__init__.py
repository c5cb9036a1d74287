"""One-shot neural architecture search that says how far its ranking can be trusted.

`run` is the whole way; the other names are its parts. They are imported when they are first used, so that
``import supernet`` does no work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from supernet.base.version import __version__ as __version__

if TYPE_CHECKING:
    from supernet import spaces
    from supernet.data.splits import from_arrays
    from supernet.program.load import load
    from supernet.program.run import Run, run
    from supernet.search.finalists import finalists
    from supernet.search.scoring import score
    from supernet.space.choices import Architecture, ArchitectureError, Choice, Space
    from supernet.space.cost import cost_table
    from supernet.space.elastic import elastic
    from supernet.space.layers import Choose, Depth, adapter
    from supernet.space.model import build, extract, from_network
    from supernet.space.rules import forbid
    from supernet.space.values import value
    from supernet.train.fit import fit

_HOME = {
    "Architecture": "space.choices",
    "ArchitectureError": "space.choices",
    "Choice": "space.choices",
    "Choose": "space.layers",
    "Depth": "space.layers",
    "Run": "program.run",
    "Space": "space.choices",
    "adapter": "space.layers",
    "build": "space.model",
    "cost_table": "space.cost",
    "elastic": "space.elastic",
    "extract": "space.model",
    "finalists": "search.finalists",
    "fit": "train.fit",
    "forbid": "space.rules",
    "from_arrays": "data.splits",
    "from_network": "space.model",
    "load": "program.load",
    "run": "program.run",
    "score": "search.scoring",
    "spaces": "",
    "value": "space.values",
}

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Choice",
    "Choose",
    "Depth",
    "Run",
    "Space",
    "adapter",
    "build",
    "cost_table",
    "elastic",
    "extract",
    "finalists",
    "fit",
    "forbid",
    "from_arrays",
    "from_network",
    "load",
    "run",
    "score",
    "spaces",
    "value",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'supernet' has no attribute {name!r}")
    home = _HOME[name]
    value = (
        getattr(importlib.import_module(f"supernet.{home}"), name)
        if home
        else importlib.import_module(f"supernet.{name}")
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
