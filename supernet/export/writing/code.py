"""A stand-alone network as Python code that needs torch only: classes as a person would have written them.

What `supernet.export.writing.tracing` recorded of each module becomes a class; `nn.Sequential` and modules of torch
are made as they were. Classes that differ in sizes only are one class with arguments. What does nothing is left out:
identities, terms that are zero, and modules whose outputs nobody uses. Wherever the name of a choice is known it is the
name in the code, so that the text of the architecture can be found in it again.
"""

import builtins
import inspect
import keyword
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from supernet.export.writing.expressions import (
    WIDTH,
    Expr,
    Group,
    Item,
    Joined,
    Number,
    form,
    leaves,
    lines,
    mapped,
    merged,
    of_call,
)
from supernet.export.writing.planning import (
    ForEach,
    Node,
    Planner,
    Return,
    Statement,
    beginning,
    identifier,
    in_a_word,
    is_imported,
)
from supernet.export.writing.tracing import UnwritableError, arguments_of, is_of_torch, leaves_of, needed, trace

ARGUMENTS = 5
"""With more arguments an ``nn.Sequential`` is no class of its own."""

DEFAULTS = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
"""Arguments of the classes that are left out where they have this value, as torch's own do."""

WINDOWS = ("kernel_size", *DEFAULTS)


@dataclass(frozen=True)
class Written:
    """A network as code.

    Attributes:
        code: the classes; the last one is the network. They need ``torch``, ``Tensor``, ``nn`` and ``functional as F``.
        name: of the network's class.
        tensors: parameters and buffers by the names that they have in it.
        imported: classes of the user's that it needs besides.
    """

    code: str
    name: str
    tensors: dict[str, Tensor]
    imported: tuple[type[nn.Module], ...] = ()


def write(network: nn.Module, inputs: Any, names: Mapping[str, tuple[str, str]] | None = None) -> Written:
    """A stand-alone network as code, with the tensors that belong to it.

    Args:
        network: of `supernet.build(space, architecture)`, or any other module.
        inputs: at least three examples.
        names: by the path of a module that was chosen: the name for it, and of its option; see `option_names`.

    Raises:
        UnwritableError: the network cannot be written out; the message says why.
    """
    leaves_here = leaves_of(network)
    modules = {id(module): path for path, module in network.named_modules()}
    named = {key: names[path] for key, path in modules.items() if path in (names or {})} if names else {}
    while True:
        try:
            root = Planner(trace(network, inputs, leaves_here), leaves_here, named).node(network, ("", ""))
            break
        except UnwritableError as error:
            # A module of the user's that is no straight code is imported, where it shows how it was made.
            module = error.module
            if module is None or module is network or is_of_torch(module) or id(module) in leaves_here:
                raise
            for each in network.modules():
                arguments = arguments_of(each) if type(each) is type(module) else None
                if arguments is not None:
                    leaves_here[id(each)] = arguments, needed(each, arguments)
            if id(module) not in leaves_here:
                hint = "; it could be imported if each argument of its __init__ were an attribute of the same name"
                raise UnwritableError(f"{error}{hint}", module) from error
    every = [node.leaf for node in root.walk() if node.leaf is not None and is_imported(node.leaf)]
    imported = tuple(dict.fromkeys(type(leaf) for leaf in every))
    code, name = _code(root, {kind.__name__ for kind in imported})
    return Written(code, name, dict(_tensors(root)), imported)


def import_of(kind: type[nn.Module]) -> tuple[str, Path | None]:
    """The line that imports a user's class, and the folder that has to be on the path; None for what is installed."""
    file = Path(inspect.getfile(kind)).resolve()
    installed = "site-packages" in file.parts or "dist-packages" in file.parts
    if installed:
        return f"from {kind.__module__} import {kind.__name__}", None
    return f"from {file.stem} import {kind.__name__}", file.parent


def _tensors(node: Node, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    own = node.tensors if node.leaf is None else node.leaf.state_dict()
    for name, tensor in own.items():
        yield prefix + name, tensor.detach()
    for name, child in node.children.items():
        yield from _tensors(child, f"{prefix}{name}.")


# ---- classes ----


@dataclass
class _Class:
    """A class that is to be written, and what it is called with at each place."""

    name: str
    nodes: list[Node]
    text: str = ""


def _code(root: Node, taken: set[str]) -> tuple[str, str]:
    """All classes as text, and the name of the last; with names that are not free."""
    heights = _heights(root)
    found: list[_Class] = []
    taken = set(taken)
    for height in sorted(set(heights.values())):
        level = [node for node in root.walk() if heights[node] == height and node.leaf is None]
        alike: dict[Any, list[Node]] = {}
        for node in level:
            alike.setdefault(_form(node), []).append(node)
        for members in (same for group in alike.values() for same in _split(group)):
            first = members[0]
            may_stay = first.body is None and first is not root
            if may_stay and (len({n.place for n in members}) == 1 or _number_of_arguments(members) > ARGUMENTS):
                for node in members:
                    node.make = _sequential(node)
                continue
            name = _class_name(members, taken, first is root)
            taken.add(name)
            found.append(_Class(name, members))
            found[-1].text = _define(found[-1])
    return "\n\n\n".join(each.text for each in found), found[-1].name


def _heights(root: Node) -> dict[Node, int]:
    """For each node a number above those in it, and the same for nodes that may become one class."""
    below_first = list(root.walk())[::-1]
    alike: dict[Any, list[Node]] = {}
    for node in below_first:
        if node.body is not None:
            alike.setdefault(_form(node), []).append(node)
    heights = dict.fromkeys(below_first, 0)
    for _ in range(len(alike) + 2):
        before = dict(heights)
        for node in below_first:
            inside = max((heights[child] for child in node.children.values()), default=0)
            heights[node] = max(heights[node], 1 + inside)
        for nodes in alike.values():
            heights |= dict.fromkeys(nodes, max(heights[node] for node in nodes))
        if heights == before:
            return heights
    for node in below_first:  # one stands inside of another that has its form: each on its own then
        heights[node] = 1 + max((heights[child] for child in node.children.values()), default=0)
    return heights


def _number_of_arguments(nodes: Sequence[Node]) -> int:
    together = merged([_sequential(node) for node in nodes])
    return len(_parameters([leaf for leaf in leaves(together) if isinstance(leaf, Number)]))


def _form(node: Node) -> Any:
    """What two nodes have to have in common to be one class."""
    tensors = tuple(
        (name, tensor.dtype, tensor.ndim, isinstance(tensor, nn.Parameter)) for name, tensor in node.tensors.items()
    )
    if node.body is None:
        return form(_sequential(node))
    return (
        node.name,
        tuple(node.children),
        tensors,
        tuple(node.inputs.items()),
        tuple(map(_form_of, node.body)),
        node.returns,
    )


def _split(nodes: list[Node]) -> list[list[Node]]:
    """Nodes with the same forward pass as one class each, or several where too much in them differs.

    One or two modules that differ become arguments, if they are the smaller part of what there is.
    """
    differing = _differing(nodes)
    if len(differing) <= 2 and 2 * len(differing) < len(nodes[0].children):
        return [nodes]
    alike: dict[Any, list[Node]] = {}
    for node in nodes:
        alike.setdefault(tuple(form(child.make) for child in node.children.values()), []).append(node)
    return list(alike.values())


def _differing(nodes: Sequence[Node]) -> list[str]:
    """Names of the modules in nodes that differ in more than numbers."""
    return [name for name in nodes[0].children if len({form(node.children[name].make) for node in nodes}) > 1]


def _form_of(statement: Statement) -> Any:
    return (
        statement
        if isinstance(statement, ForEach)
        else (statement.__class__, getattr(statement, "name", ""), form(statement.of))
    )


def _sequential(node: Node) -> Expr:
    return Group("nn.Sequential", _squeezed([child.make for child in node.children.values()]))


def _squeezed(made: Sequence[Expr]) -> tuple[Item, ...]:
    """Modules one after the other; three and more that are made alike in a short form."""
    items: list[Item] = []
    start = 0
    for place in range(1, len(made) + 1):
        if place == len(made) or made[place] != made[start]:
            times = place - start
            many = Item(Joined(("*(", made[start], f" for _ in range({times}))")))
            items += [many] if times >= 3 else [Item(each) for each in made[start:place]]
            start = place
    return tuple(items)


def _class_name(members: Sequence[Node], taken: set[str], is_root: bool) -> str:
    names = Counter(node.name for node in members)
    name = names.most_common(1)[0][0] or "Network"
    if len(names) > 1:  # options that differ in sizes only, like sep3x3 and sep5x5
        common = "".join(beginning(list(names))).rstrip("0123456789_")
        name = common if len(common) > 2 else name
    reserved = {"Tensor", "F", "Sequential", *dir(builtins)}
    if is_root and name in taken:
        name += "Network"
    if name in taken | reserved and all(node.halves for node in members):
        name = f"Down{name}"
    wish, number = name, 2
    while wish in taken | reserved:
        wish, number = f"{name}{number}", number + 1
    return wish


def _define(of: _Class) -> str:
    """The text of a class. Afterwards each of its nodes knows how it is made."""
    nodes = of.nodes
    first = nodes[0]
    modules = _differing(nodes)
    children: list[tuple[str, Expr]] = [
        (name, name if name in modules else merged([node.children[name].make for node in nodes]))
        for name in first.children
    ]
    tensors = [(name, merged([_empty(node.tensors[name]) for node in nodes])) for name in first.tensors]
    body = [
        same[0] if isinstance(same[0], ForEach) else merged([statement.of for statement in same])
        for same in zip(*(node.body or () for node in nodes), strict=True)
    ]
    exprs = [expr for _, expr in (*children, *tensors)]
    numbers = [leaf for expr in exprs for leaf in leaves(expr) if isinstance(leaf, Number)]
    inner = [
        leaf for expr in body if not isinstance(expr, ForEach) for leaf in leaves(expr) if isinstance(leaf, Number)
    ]
    parameters = _parameters([*numbers, *inner])

    def written(expr: Expr, prefix: str = "") -> Expr:
        return mapped(expr, lambda leaf: _number(leaf, parameters, prefix) if isinstance(leaf, Number) else leaf)

    arguments = []
    for values, (name, _) in parameters.items():
        kind = "int" if all(isinstance(value, int) for value in values) else "float"
        default = DEFAULTS.get(name)
        has_default = default in values and default is not None
        arguments.append((name, kind, default if has_default else None, values))
    arguments.sort(key=lambda argument: (argument[2] is not None, _category(argument[0]) != "size"))
    parent = "nn.Sequential" if first.body is None else "nn.Module"
    text = [f"class {of.name}({parent}):", *documentation(_about(first, of.name), 4), ""]
    buffers = [name for name, tensor in first.tensors.items() if not isinstance(tensor, nn.Parameter)]
    text += [f"    {name}: Tensor" for name in buffers] + [""] * bool(buffers)
    given = [Item(f"{name}: nn.Module") for name in modules]
    given += [
        Item(f"{name}: {kind}" + ("" if default is None else f" = {default}")) for name, kind, default, _ in arguments
    ]
    text += lines("def ", Group("__init__", (Item("self"), *given)), " -> None:", 4)
    if first.body is None:
        text += lines("", Group("super().__init__", _squeezed([written(expr) for _, expr in children])), "", 8)
    else:
        text.append("        super().__init__()")
        used = {str(_number(number, parameters, "self.")) for number in inner}
        read = set(re.findall(r"self\.(\w+)", " ".join(sorted(used))))
        text += [f"        self.{name} = {name}" for name, *_ in arguments if name in read]
        for home in dict.fromkeys(name.partition(".")[0] for name, _ in children):
            members = [written(expr) for name, expr in children if name.partition(".")[0] == home]
            is_list = home not in first.children
            expr = of_call("nn.ModuleList", Group("", _squeezed(members), "[]")) if is_list else members[0]
            text += lines(f"self.{home} = ", expr, "", 8)
        for name, expr in tensors:
            if name in buffers:
                text += lines("", of_call("self.register_buffer", f'"{name}"', written(expr)), "", 8)
            else:
                text += lines(f"self.{name} = ", of_call("nn.Parameter", written(expr)), "", 8)
        inputs = [Item(f"{name}: {'Tensor' if one else 'list[Tensor]'}") for name, one in first.inputs.items()]
        text.append("")
        text += lines("def ", Group("forward", (Item("self"), *inputs)), f" -> {first.returns}:", 4)
        for statement, expr in zip(first.body, body, strict=True):
            if isinstance(statement, ForEach):
                order = (statement.older, statement.newer) if statement.swapped else (statement.newer, statement.older)
                text.append(f"        for {statement.member} in {statement.attribute}:")
                carried, result = f"{statement.older}, {statement.newer}", f"{statement.member}({', '.join(order)})"
                text.append(f"            {carried} = {statement.newer}, {result}")
            else:
                start = "return " if isinstance(statement, Return) else f"{statement.name} = "
                text += lines(start, written(expr, "self."), "", 8)
    for place, node in enumerate(nodes):
        items = [Item(node.children[name].make) for name in modules]
        for name, _, default, values in arguments:
            number = Number((values[place],), name)
            is_plain = _category(name) == "size" and default is None
            items.append(Item(number, "" if is_plain else name, default is None or values[place] != default))
        node.make = Group(of.name, tuple(items))
    return "\n".join(text)


def documentation(text: str, indent: int) -> list[str]:
    """A docstring in lines."""
    space = " " * indent
    if len(text) + indent + 6 <= WIDTH:
        return [f'{space}"""{text}"""']
    # A little narrower, so that there are at least two lines where the quotes do not fit behind the only one.
    return [*textwrap.wrap(f'"""{text}', WIDTH - 3, initial_indent=space, subsequent_indent=space), f'{space}"""']


def _about(node: Node, name: str) -> str:
    if node.about:
        return node.about
    parts = [in_a_word(child, words=True) for child in node.children.values()]
    text = ", ".join(f"{count} x {part}" if count > 1 else part for part, count in Counter(parts).items())
    text = text if len(parts) > 5 else ", ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text and len(text) < 70 else f"{name}."


def _empty(tensor: Tensor) -> Expr:
    sizes: list[Expr] = [Number((size,), "shape") for size in tensor.shape] or ["()"]
    named = {} if tensor.dtype == torch.float32 else {"dtype": str(tensor.dtype)}
    return of_call("torch.zeros", *sizes, **named)


def _category(hint: str) -> str:
    if "channels" in hint or "features" in hint or hint in ("normalized_shape", "shape", "num_parameters", "size"):
        return "size"
    if hint == "groups":
        return "size"
    return "window" if hint in WINDOWS else hint


def _parameters(numbers: Sequence[Number]) -> dict[tuple[float, ...], tuple[str, str]]:
    """The arguments that a class needs: by the numbers at each place, name and category."""
    hints: dict[tuple[float, ...], list[str]] = {}
    for number in numbers:
        if len(set(number.values)) > 1:
            hints.setdefault(number.values, []).append(number.hint)
    found: dict[tuple[float, ...], tuple[str, str]] = {}
    # Multiples come after what they are multiples of, except for windows, whose padding is half of the kernel.
    for values, names in sorted(hints.items(), key=lambda pair: pair[0] if _category(pair[1][0]) == "size" else ()):
        category = _category(names[0])
        if _derived(values, category, found) is not None:
            continue
        name = _argument_name(names, {name for name, _ in found.values()})
        found[values] = name, category
    return {values: found[values] for values in hints if values in found}


def _argument_name(hints: Sequence[str], taken: set[str]) -> str:
    ends = [hint for hint in hints if hint.startswith(("in_", "out_"))]
    kinds = {hint.partition("_")[0] for hint in ends}
    plain = [hint for hint in hints if hint not in ends]
    if len(kinds) == 2 or "channels" in plain or "features" in plain:
        noun = "features" if "features" in plain or ends[:1] in (["in_features"], ["out_features"]) else "channels"
        wishes = [noun, f"hidden_{noun}"]
    elif ends:
        wishes = [ends[0]]
    elif plain[0] in ("num_features", "num_channels", "shape", "normalized_shape"):
        wishes = ["channels" if plain[0] != "normalized_shape" else "features"]
    else:
        wishes = [identifier(plain[0]) or "size"]
    wishes += [f"{wishes[-1]}{number}" for number in range(2, 100)]
    return next(wish for wish in wishes if wish not in taken and not keyword.iskeyword(wish))


def _derived(
    values: tuple[float, ...], category: str, found: Mapping[tuple[float, ...], tuple[str, str]], prefix: str = ""
) -> str | None:
    """These numbers by means of an argument of the same category: itself, a multiple or half of it."""
    for known, (name, kind) in found.items():
        if known == values:
            return prefix + name
        if kind != category or not all(isinstance(v, int) and v > 0 for v in known):
            continue
        if all(isinstance(v, int) for v in values):
            times = values[0] // known[0]
            if times >= 2 and all(v == times * k for v, k in zip(values, known, strict=True)):
                return f"{times} * {prefix}{name}"
            if category == "window" and all(v == k // 2 for v, k in zip(values, known, strict=True)):
                return f"{prefix}{name} // 2"
    return None


def _number(number: Number, parameters: Mapping[tuple[float, ...], tuple[str, str]], prefix: str = "") -> Expr:
    if len(set(number.values)) == 1:
        return repr(number.values[0])
    text = _derived(number.values, _category(number.hint), parameters, prefix)
    assert text is not None, number
    return text
