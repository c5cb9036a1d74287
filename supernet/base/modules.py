"""Modules of torch in general."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

_Module = TypeVar("_Module", bound=nn.Module)


def shallow_copy(module: _Module) -> _Module:
    """A module with the same attributes, parameters, buffers and children.

    Unlike `copy.copy`, which torch refuses there, it copies modules with parametrizations too.
    """
    if not is_parametrized(module):
        return copy.copy(module)
    copied = type(module).__new__(type(module))
    vars(copied).update(vars(module))
    return copied
