"""Packages that few need: they are installed with an extra of this one."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(ValueError):
    """A package that is not installed; the message names the extra that brings it."""


def extra(module: str, name: str, what: str) -> Any:
    """Imports a module of a package that an extra brings.

    Args:
        module: with dots, such as ``sklearn.datasets``.
        name: of the extra.
        what: needs it, for the message.

    Raises:
        MissingExtra: the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(f"{what} needs the package {package}: pip install 'supernet[{name}]'") from None
