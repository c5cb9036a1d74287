"""What the built-in spaces share: checks of their settings, making the `Space`, convolution with batch norm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

from supernet.space.choices import Architecture, ArchitectureError, Space
from supernet.space.network import choices_of, without_data


def check_sizes(sizes: Mapping[str, int], input_shape: Sequence[int]) -> None:
    """Checks the whole numbers among the settings of a space, and the shape of an image.

    Raises:
        ValueError: a size is not positive, or the shape is not (channels, height, width).
    """
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"space.{name}: expected at least 1, got {value}")
    if len(input_shape) != 3 or min(input_shape) < 1:
        raise ValueError(f"space.input_shape: expected (channels, height, width), got {input_shape}")


def whole_numbers(name: str, values: object, *, ascending: bool = True) -> tuple[int, ...]:
    """Checks a setting that is a list of whole numbers.

    Args:
        name: of the setting.
        values: what was given.
        ascending: whether each has to be above the one before.

    Raises:
        ValueError: the values are none, or anything but whole numbers from 1 on, or do not ascend.
    """
    numbers = tuple(values) if isinstance(values, Sequence) else ()
    fit = bool(numbers) and all(type(number) is int and number >= 1 for number in numbers)
    if not fit or (ascending and list(numbers) != sorted(set(numbers))):
        kind = "ascending whole numbers" if ascending else "whole numbers"
        raise ValueError(f"space.{name}: expected one or more {kind} from 1 on, got {values!r}")
    return numbers


def space_of(
    name: str,
    network: Callable[..., nn.Module],
    settings: Mapping[str, Any],
    read: Callable[[str], str] | None = None,
    canonical: Callable[[Architecture], str] | None = None,
    simplified: Callable[[Architecture], Architecture] | None = None,
) -> Space:
    """The space of the network that `settings` make, its choices read off that network.

    Args:
        name: of the space.
        network: makes the network from the settings.
        settings: arguments of `network`, with ``input_shape`` among them.
        read, canonical, simplified: as in `Space`.
    """
    make = partial(network, **settings)
    with without_data():
        choices = choices_of(make())
    return Space(
        name, choices, make, settings["input_shape"], tuple(settings.items()), read, None, canonical, simplified
    )


def single_picks(architecture: Architecture, names: Sequence[str]) -> tuple[str, ...]:
    """The one option picked for each of these choices, in this order.

    Raises:
        ArchitectureError: the architecture has other choices, or several options of one.
    """
    picks = dict(architecture.picks)
    if set(picks) != set(names) or any(len(options) != 1 for options in picks.values()):
        raise ArchitectureError(f"expected one option for each of {', '.join(names)}; got {str(architecture)!r}")
    return tuple(picks[name][0] for name in names)


def conv_norm(
    channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, groups: int = 1, affine: bool
) -> nn.Sequential:
    """A convolution without bias that keeps the size at stride 1, and batch norm."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels_out, affine=affine),
    )
