"""One-shot neural architecture search that says how far its ranking can be trusted.

The four steps are the files `space.py`, `train.py`, `search.py` and `retrain.py`. The names below are imported when
they are first used, so that ``import supernet`` does no work.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from supernet.base.version import __version__ as __version__

if TYPE_CHECKING:
    from supernet import spaces
    from supernet.cost import cost_table
    from supernet.data import from_arrays
    from supernet.layers import Choose, Depth, adapter
    from supernet.model import build, extract, from_network
    from supernet.scoring import score
    from supernet.search import finalists
    from supernet.space import Architecture, ArchitectureError, Choice, Space
    from supernet.steps import load
    from supernet.train import fit
    from supernet.values import value

_HOME = {
    "Architecture": "space",
    "ArchitectureError": "space",
    "Choice": "space",
    "Choose": "layers",
    "Depth": "layers",
    "Space": "space",
    "adapter": "layers",
    "build": "model",
    "cost_table": "cost",
    "extract": "model",
    "finalists": "search",
    "fit": "train",
    "from_arrays": "data",
    "from_network": "model",
    "load": "steps",
    "score": "scoring",
    "spaces": "",
    "value": "values",
}

__all__ = [
    "Architecture",
    "ArchitectureError",
    "Choice",
    "Choose",
    "Depth",
    "Space",
    "adapter",
    "build",
    "cost_table",
    "extract",
    "finalists",
    "fit",
    "from_arrays",
    "from_network",
    "load",
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
