"""Python expressions as trees with holes for numbers, and their layout in lines, which is that of ruff."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

WIDTH = 88
"""Columns of a line: the default of ruff."""

_PRECEDENCE = {
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 0),
    "|": 1, "^": 2, "&": 3, "+": 5, "-": 5, "*": 6, "/": 6, "//": 6, "%": 6, "@": 6, "**": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A number, or the numbers at several places that are written alike.

    Attributes:
        values: one for each place.
        hint: the name of the argument that it is.
    """

    values: tuple[float, ...]
    hint: str = ""


@dataclass(frozen=True)
class Joined:
    """Parts one after the other."""

    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Item:
    """An expression between brackets, perhaps with a name; it is left out unless it is needed."""

    of: Any
    label: str = ""
    needed: bool = True


@dataclass(frozen=True)
class Group:
    """Items in brackets after a prefix: a call, a list, a tuple, an index."""

    prefix: Any
    items: tuple[Item, ...]
    brackets: str = "()"


@dataclass(frozen=True)
class Chain:
    """Two operands of an operator; those on the left may be a chain of the same kind."""

    left: Any
    operator: str
    right: Any


Expr = Any
"""A text, a `Number`, `Joined`, `Group` or `Chain`."""


def of_call(prefix: Expr, *items: Expr, **named: Expr) -> Group:
    """A call with these arguments."""
    return Group(prefix, (*map(Item, items), *(Item(value, name) for name, value in named.items())))


def mapped(expr: Expr, change: Callable[[Any], Any]) -> Expr:
    """The same with every leaf (text or number) changed, in order."""
    if isinstance(expr, Joined):
        return Joined(tuple(mapped(part, change) for part in expr.parts))
    if isinstance(expr, Group):
        prefix = mapped(expr.prefix, change)
        return Group(prefix, tuple(replace(i, of=mapped(i.of, change)) for i in expr.items), expr.brackets)
    if isinstance(expr, Chain):
        return Chain(mapped(expr.left, change), expr.operator, mapped(expr.right, change))
    return change(expr)


def leaves(expr: Expr) -> Iterator[Any]:
    """Texts and numbers, in order, except those that are left out."""
    if isinstance(expr, Joined):
        for part in expr.parts:
            yield from leaves(part)
    elif isinstance(expr, Group):
        yield from leaves(expr.prefix)
        for item in expr.items:
            if item.needed:
                yield from leaves(item.of)
    elif isinstance(expr, Chain):
        yield from leaves(expr.left)
        yield from leaves(expr.right)
    else:
        yield expr


def form(expr: Expr) -> Any:
    """An expression without its numbers: equal for two that differ only in these."""
    if isinstance(expr, Number):
        return (Number, expr.hint)
    if isinstance(expr, Joined):
        return (Joined, *map(form, expr.parts))
    if isinstance(expr, Group):
        items = ((item.label, form(item.of)) for item in expr.items)
        return (Group, form(expr.prefix), expr.brackets, *items)
    if isinstance(expr, Chain):
        return (Chain, form(expr.left), expr.operator, form(expr.right))
    return expr


def merged(exprs: Sequence[Expr]) -> Expr:
    """Expressions of the same form as one, with the numbers of each."""
    first = exprs[0]
    if isinstance(first, Number):
        return Number(tuple(value for expr in exprs for value in expr.values), first.hint)
    if isinstance(first, Joined):
        return Joined(tuple(merged(parts) for parts in zip(*(e.parts for e in exprs), strict=True)))
    if isinstance(first, Group):
        items = (
            Item(merged([i.of for i in same]), same[0].label, any(i.needed for i in same))
            for same in zip(*(e.items for e in exprs), strict=True)
        )
        return Group(merged([e.prefix for e in exprs]), tuple(items), first.brackets)
    if isinstance(first, Chain):
        return Chain(merged([e.left for e in exprs]), first.operator, merged([e.right for e in exprs]))
    return first


def operand(expr: Expr, level: float) -> Expr:
    """An expression beside an operator of this precedence, in parentheses if it needs them."""
    low = isinstance(expr, Chain) and _PRECEDENCE[expr.operator] < level
    return Joined(("(", expr, ")")) if low else expr


def operation(left: Expr, operator: str, right: Expr) -> Chain:
    """Two operands and an operator."""
    level = _PRECEDENCE[operator]
    strict = level + 0.5  # comparisons and powers do not chain from the left
    return Chain(operand(left, strict if level in (0, 8) else level), operator, operand(right, strict))


def after(expr: Expr, text: str) -> Joined:
    """An expression with a text behind it, as in ``x.T``."""
    return Joined((operand(expr, 99), text))


def flat(expr: Expr) -> str:
    """In one line."""
    if isinstance(expr, Number):
        return str(expr.values[0])
    if isinstance(expr, Joined):
        return "".join(map(flat, expr.parts))
    if isinstance(expr, Group):
        items = [item.label + "=" * bool(item.label) + flat(item.of) for item in expr.items if item.needed]
        single = "," if expr.brackets == "()" and not expr.prefix and len(items) == 1 else ""
        return f"{flat(expr.prefix)}{expr.brackets[0]}{', '.join(items)}{single}{expr.brackets[1]}"
    if isinstance(expr, Chain):
        return f"{flat(expr.left)} {expr.operator} {flat(expr.right)}"
    return str(expr)


def lines(before: str, expr: Expr, behind: str = "", indent: int = 0) -> list[str]:
    """``before`` (like ``x = ``), the expression and ``behind``, in lines that are short enough if possible."""
    space = " " * indent
    line = f"{space}{before}{flat(expr)}{behind}"
    if len(line) <= WIDTH:
        return [line]
    if isinstance(expr, Joined):
        for place, part in enumerate(expr.parts):
            if isinstance(part, Group):
                start = before + "".join(map(flat, expr.parts[:place]))
                return lines(start, part, "".join(map(flat, expr.parts[place + 1 :])) + behind, indent)
    if isinstance(expr, Group) and any(item.needed for item in expr.items) and expr.brackets:
        inside = [item for item in expr.items if item.needed]
        result = [f"{space}{before}{flat(expr.prefix)}{expr.brackets[0]}"]
        for item in inside:
            result += lines(item.label + "=" * bool(item.label), item.of, ",", indent + 4)
        return [*result, f"{space}{expr.brackets[1]}{behind}"]
    if isinstance(expr, Chain):
        operands: list[tuple[str, Expr]] = []
        level, left = _PRECEDENCE[expr.operator], expr
        while isinstance(left, Chain) and _PRECEDENCE[left.operator] == level:
            operands.insert(0, (f"{left.operator} ", left.right))
            left = left.left
        operands.insert(0, ("", left))
        in_parentheses = behind != ","  # an argument on its own lines needs none
        result = [f"{space}{before}("] if in_parentheses else []
        for place, (operator, part) in enumerate(operands):
            start = operator if in_parentheses or place else before + operator
            end = behind if not in_parentheses and place == len(operands) - 1 else ""
            result += lines(start, part, end, indent + 4 * in_parentheses)
        return [*result, f"{space}){behind}"] if in_parentheses else result
    return [line]
