"""Modules of torch in general."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

_Module = TypeVar("_Module", bound=nn.Module)


def shallow_copy(module: _Module) -> _Module:
    """A module with the same attributes, parameters, buffers and children.

    Unlike `copy.copy`, which torch refuses there, it copies modules with parametrizations too. Most classes do not say
    how they are copied; for them it does the same as `copy.copy` in a fraction of the time.
    """
    kind = type(module)
    if not (_is_copied_as_usual(kind) or is_parametrized(module)):
        return copy.copy(module)
    copied = kind.__new__(kind)
    vars(copied).update(vars(module))
    vars(copied).pop("_compiled_call_impl", None)  # it would run the other one
    return copied


def _is_copied_as_usual(kind: type[nn.Module]) -> bool:
    return (
        kind.__setstate__ in _ADD_WHAT_OLD_FILES_LACK
        and kind.__reduce_ex__ is object.__reduce_ex__
        and kind.__reduce__ is object.__reduce__
        and kind.__getstate__ is nn.Module.__getstate__
        and not hasattr(kind, "__copy__")
    )


_ADD_WHAT_OLD_FILES_LACK = (nn.Module.__setstate__, nn.modules.conv._ConvNd.__setstate__)
"""Of these classes, a new copy lacks nothing."""
