"""The numbers in which modules of one class differ, as arguments of the class."""

from __future__ import annotations

import keyword
from collections.abc import Sequence

from supernet.export.writing.expressions import Number
from supernet.export.writing.naming import identifier

DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Arguments of the classes that are left out if they have this value, as torch leaves out its own."""

_WINDOWS = ("kernel_size", *DEFAULTS)

Parameters = dict[tuple[float, ...], tuple[str, str]]
"""Name and category of arguments, by their numbers in each use of a class."""


def category(hint: str) -> str:
    """What a number counts: channels and other sizes, the window of a convolution, or its hint."""
    if "channels" in hint or "features" in hint or hint in ("normalized_shape", "shape", "num_parameters", "size"):
        return "size"
    if hint == "groups":
        return "size"
    return "window" if hint in _WINDOWS else hint


def parameters_of(numbers: Sequence[Number]) -> Parameters:
    """The arguments that a class needs, name and category, by the numbers that they stand for in each of its uses."""
    hints: dict[tuple[float, ...], list[str]] = {}
    for number in numbers:
        if len(set(number.values)) > 1:
            hints.setdefault(number.values, []).append(number.hint)
    parameters: Parameters = {}
    # Multiples come after what they are multiples of, except for windows, whose padding is half of the kernel.
    for values, names in sorted(hints.items(), key=lambda pair: pair[0] if category(pair[1][0]) == "size" else ()):
        kind = category(names[0])
        # All of them: the same numbers may count different things, of which only some have an argument to derive from.
        if all(_derived(values, category(name), parameters) is not None for name in names):
            continue
        name = _argument_name(names, {name for name, _ in parameters.values()})
        parameters[values] = name, kind
    return {values: parameters[values] for values in hints if values in parameters}


def _argument_name(hints: Sequence[str], taken: set[str]) -> str:
    """A free name for an argument, after what its numbers are."""
    ends = [hint for hint in hints if hint.startswith(("in_", "out_"))]
    kinds = {hint.partition("_")[0] for hint in ends}
    plain = [hint for hint in hints if hint not in ends]
    if len(kinds) == 2 or "channels" in plain or "features" in plain:
        noun = "features" if "features" in plain or ends[:1] in (["in_features"], ["out_features"]) else "channels"
        names = [noun, f"hidden_{noun}"]
    elif ends:
        names = [ends[0]]
    elif plain[0] in ("num_features", "num_channels", "shape", "normalized_shape"):
        names = ["channels" if plain[0] != "normalized_shape" else "features"]
    else:
        names = [identifier(plain[0]) or "size"]
    names += [f"{names[-1]}{number}" for number in range(2, 100)]
    return next(name for name in names if name not in taken and not keyword.iskeyword(name))


def _derived(values: tuple[float, ...], kind: str, parameters: Parameters, prefix: str = "") -> str | None:
    """Numbers as an argument of the same category, a multiple or half of it; None if there is no such argument."""
    for base, (name, base_kind) in parameters.items():
        if base == values:
            return prefix + name
        if base_kind != kind or not all(isinstance(v, int) and v > 0 for v in base):
            continue
        if all(isinstance(v, int) for v in values):
            times = values[0] // base[0]
            if times >= 2 and all(v == times * b for v, b in zip(values, base, strict=True)):
                return f"{times} * {prefix}{name}"
            if kind == "window" and all(v == b // 2 for v, b in zip(values, base, strict=True)):
                return f"{prefix}{name} // 2"
    return None


def number_text(number: Number, parameters: Parameters, prefix: str = "") -> str:
    """A number, or the argument that it is, after a prefix."""
    if len(set(number.values)) == 1:
        return repr(number.values[0])
    text = _derived(number.values, category(number.hint), parameters, prefix)
    assert text is not None, number
    return text
