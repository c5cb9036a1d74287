"""Settings by name: which there are, of which types, and whether values fit them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from supernet.base.names import did_you_mean

LISTED = 12
"""A message lists all names only if there are at most this many."""


class ConfigError(ValueError):
    """A setting that does not exist or does not fit; the message names it and the nearest that does."""


def check_name(name: str, names: Iterable[str], what: str) -> None:
    """Refuses an unknown name.

    Raises:
        ConfigError: names the nearest name, and all of them if they are few.
    """
    names = list(names)
    if name not in names:
        hints = [hint] if (hint := did_you_mean(name, names)) else []
        if len(names) <= LISTED or not hint:
            hints.append(f"there are: {', '.join(names)}")
        raise ConfigError(f"{what}: no {name!r}; {' '.join(hints)}")


def check_value(name: str, value: Any, hint: Any) -> Any:
    """The value of a setting, converted to its type: YAML has lists for tuples and texts for numbers like 1e-4.

    Args:
        name: of the setting, for the message.
        value: as YAML or JSON gives it.
        hint: the annotated type. Types that such values cannot have (a class of the user's) take any value.

    Raises:
        ConfigError: the value is of another type; the message says what was expected.
    """
    try:
        return _converted(value, hint)
    except _Misfit:
        raise ConfigError(f"{name}: expected {describe(hint)}, got {value!r}") from None


def parse_value(text: str, hint: Any) -> Any:
    """What a text of the command line stands for: YAML, or the text itself if the type takes texts only so.

    A text for a list of texts is a list of this one. The value is not checked yet.
    """
    try:
        value = load_yaml(text)
        if list[str] in (hint, *get_args(hint)) and not isinstance(value, list | None):
            return [text]
        if str in (hint, *get_args(hint)):
            _converted(value, hint)
    except (yaml.YAMLError, _Misfit):
        return text
    return value


_MOST_NODES = 100_000
"""Values in a YAML text, those counted again that aliases stand for."""


def load_yaml(text: str) -> Any:
    """Reads YAML as `yaml.safe_load` does, and refuses what is small to write and large to read.

    Raises:
        yaml.YAMLError: the text is no YAML, is nested too deeply, or its aliases stand for too much.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values_of(node, {}) > _MOST_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES:,} values")
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    finally:
        loader.dispose()


def _values_of(node: Any, sizes: dict[int, int | None]) -> int:
    """The number of values in a node of YAML; `sizes` has those of nodes that were counted, by identity."""
    if id(node) in sizes:
        size = sizes[id(node)]
        if size is None:
            raise yaml.YAMLError("an alias stands inside of what it stands for")
        return size
    sizes[id(node)] = None
    parts = [] if isinstance(node.value, str) else node.value
    total = 1 + sum(_values_of(p, sizes) for part in parts for p in (part if isinstance(part, tuple) else (part,)))
    sizes[id(node)] = total
    return total


def leaves(name: str, value: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """Dotted names and values of single settings, in order: of one, or of all that are given for a group.

    Args:
        name: of a setting or a group, with dots.
        value: of the setting; or settings of the group by name, nested or dotted. Others of the group stay as they are.
        kind: the dataclass that the names belong to.

    Raises:
        ConfigError: a group with anything else than settings by name.
    """
    if not any(setting.startswith(f"{name}.") for setting in setting_hints(kind)):
        yield name, value
    elif not isinstance(value, Mapping):
        raise ConfigError(f"{name}: expected settings by name, got {value!r}")
    else:
        for inner, part in value.items():
            yield from leaves(f"{name}.{inner}", part, kind)


def put(settings: dict[str, Any], kind: Any, name: str, value: Any, prefix: str = "") -> None:
    """Sets one setting by its dotted name in settings that are nested as the dataclass is.

    The name may go on into a setting that is a dict: ``space.settings.filters`` changes one of its keys.
    """
    hints = get_type_hints(kind)
    first, _, rest = name.partition(".")
    check_name(prefix + first, [prefix + hint for hint in hints], "setting")
    if not rest:
        settings[first] = value
    elif dataclasses.is_dataclass(hints[first]):
        inner = settings.setdefault(first, {})
        put(inner, hints[first], rest, value, f"{prefix}{first}.")
    else:
        settings[first] = {**(settings.get(first) or {}), rest: value}


class _Misfit(ValueError):
    """A value of another type than the hint."""


def _converted(value: Any, hint: Any) -> Any:
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return _first_that_fits(value, inside)
    if kind is Literal:
        return _checked(value, value in inside)
    if kind is float:
        return _number(value)
    if kind in (NoneType, None):
        return _checked(value, value is None)
    if kind in (Any, object) or not isinstance(kind, type):  # also a type variable
        return value
    if issubclass(kind, tuple):
        return _tuple(value, inside)
    if issubclass(list, kind):  # list, Sequence, Iterable, ...
        _checked(value, isinstance(value, (list, tuple)))
        return [_converted(item, inside[0] if inside else Any) for item in value]
    if issubclass(dict, kind):
        _checked(value, isinstance(value, dict) and all(isinstance(key, str) for key in value))
        return {key: _converted(item, inside[1] if inside else Any) for key, item in value.items()}
    return _checked(value, isinstance(value, kind) and not (isinstance(value, bool) and kind is int))


def _checked(value: Any, fits: bool) -> Any:
    if not fits:
        raise _Misfit
    return value


def _first_that_fits(value: Any, hints: Iterable[Any]) -> Any:
    for hint in hints:
        try:
            return _converted(value, hint)
        except _Misfit:
            pass
    raise _Misfit


def _number(value: Any) -> float:
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            raise _Misfit from None
        if math.isfinite(number):
            return number
    raise _Misfit


def _tuple(value: Any, inside: tuple[Any, ...]) -> tuple[Any, ...]:
    _checked(value, isinstance(value, (list, tuple)))
    if not inside:
        return tuple(value)
    hints = [inside[0]] * len(value) if inside[-1] is Ellipsis else list(inside)
    _checked(value, len(value) == len(hints))
    return tuple(_converted(item, hint) for item, hint in zip(value, hints, strict=True))


_ONE = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", NoneType: "null"}
_MANY = {int: "whole numbers", float: "numbers", str: "texts"}


def describe(hint: Any) -> str:
    """What values a type takes, in words."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(map(describe, sorted(inside, key=lambda h: h is NoneType)))
    if kind is Literal:
        return f"one of {', '.join(map(str, inside))}"
    if kind in _ONE or not isinstance(kind, type):
        return _ONE.get(kind, str(hint))
    if issubclass(kind, tuple) and inside and inside[-1] is not Ellipsis:
        return f"a list of {len(inside)} values"
    if issubclass(kind, tuple) or issubclass(list, kind):
        return f"a list of {_MANY.get(inside[0], 'values') if inside else 'values'}"
    return "settings by name" if issubclass(dict, kind) else str(hint)


def setting_hints(kind: Any, prefix: str = "") -> dict[str, Any]:
    """Types of all settings of a dataclass by their dotted names, those of the dataclasses in it included."""
    hints: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        inner = dataclasses.is_dataclass(hint)
        hints.update(setting_hints(hint, f"{prefix}{name}.") if inner else {prefix + name: hint})
    return hints


def argument_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Types of a function's arguments by name; an argument without one takes any value."""
    while isinstance(function, partial):
        function = function.func
    try:
        return {name: hint for name, hint in get_type_hints(function).items() if name != "return"}
    except NameError:  # a name that its module imports for type checkers only
        return {}
    except TypeError:  # an object that is called
        return argument_hints(type(function).__call__)


def check_settings(values: Any, kind: Any, prefix: str = "") -> dict[str, Any]:
    """Settings of a dataclass by name, nested as its parts are, with values converted to their types.

    Args:
        values: the settings; those left out have their defaults.
        kind: the dataclass.
        prefix: of the names, for messages.

    Raises:
        ConfigError: an unknown setting, with the nearest known, or a value of another type.
    """
    if not isinstance(values, dict):
        raise ConfigError(f"{prefix.rstrip('.') or 'configuration'}: expected settings by name, got {values!r}")
    hints = get_type_hints(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{prefix}{name}"
        check_name(full, [prefix + hint for hint in hints], "setting")
        inner = dataclasses.is_dataclass(hints[name])
        checked[name] = (
            check_settings(value, hints[name], f"{full}.") if inner else check_value(full, value, hints[name])
        )
    return checked


def dataclass_of(values: dict[str, Any], kind: Any, prefix: str = "") -> Any:
    """The dataclass of settings that `check_settings` returned.

    Raises:
        ConfigError: values that do not fit each other.
    """
    hints = get_type_hints(kind)
    arguments = {
        name: dataclass_of(value, hints[name], f"{prefix}{name}.") if dataclasses.is_dataclass(hints[name]) else value
        for name, value in values.items()
    }
    try:
        return kind(**arguments)
    except ValueError as error:
        raise ConfigError(f"{prefix}{error}") from None


def read_settings(path: Path, kind: Any) -> dict[str, Any]:
    """Reads settings of a dataclass, perhaps not all, from a YAML file.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or holds an unknown setting or a value of another type.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file of settings ({' '.join(str(error).split())})") from None
    try:
        return check_settings(values, kind)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
