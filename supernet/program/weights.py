"""The file of weights that a one-shot model starts from."""

from __future__ import annotations

import logging
from pathlib import Path

from supernet.program.settings import ConfigError
from supernet.space.layers import OneShot
from supernet.space.start import read_state, sort_channels, start_from

log = logging.getLogger(__name__)


def begin(model: OneShot, path: str) -> None:
    """Gives a one-shot model the weights of a file, its channels in the order of their importance.

    Raises:
        ValueError: the file holds no weights of this network, or its channels cannot be sorted.
    """
    try:
        start_from(model, read_state(Path(path)))
    except ValueError as error:
        raise ConfigError(f"space.weights: {path}: {error}") from None
    log.info("the one-shot model starts from %s, %d widths sorted by importance", path, sort_channels(model))
