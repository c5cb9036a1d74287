"""The statements of a forward pass."""

from __future__ import annotations

import inspect
import keyword
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name

from supernet.export.writing.expressions import (
    WIDTH,
    Chain,
    Expr,
    Group,
    Item,
    Joined,
    Number,
    after,
    flat,
    leaves,
    of_call,
    operand,
    operation,
)
from supernet.export.writing.loops import Forward, Loop
from supernet.export.writing.naming import beginning
from supernet.export.writing.nodes import Assign, ForEach, Return, Statement
from supernet.export.writing.tracing import (
    Batch,
    Count,
    Step,
    UnwritableError,
    Value,
    is_in_place,
    parts_in,
    values_in,
)

_OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "div": "/", "floordiv": "//", "mod": "%", "matmul": "@",
    "pow": "**", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
    "xor": "^",
}  # fmt: skip

_NESTED = 6
"""Calls in one expression, at the most."""


@dataclass(frozen=True)
class Members:
    """How a class reaches what it holds.

    Attributes:
        kind: the name of the class, for messages.
        modules: attributes of modules and loops by their ids.
        tensors: expressions of parameters and buffers by their ids.
        choices: for modules that are options of a choice, the name of the choice as a variable, by their ids.
    """

    kind: str
    modules: Mapping[int, str]
    tensors: Mapping[int, str]
    choices: Mapping[int, str]


@dataclass(frozen=True)
class Scope:
    """What values are written as at one place of a forward pass.

    Attributes:
        forward, members: of the class.
        nested: keys of steps that are written inside the step that reads them.
        names: of the variables: by the names of arguments, and by the keys of steps.
    """

    forward: Forward
    members: Members
    nested: frozenset[int]
    names: Mapping[str | int, str]

    def named(self, key: int, name: str) -> Scope:
        """The same with one more variable."""
        return replace(self, names={**self.names, key: name})


# ---- which steps are nested ----


def nested_steps(forward: Forward) -> frozenset[int]:
    """The steps that are written inside the one step that reads their output, as far as `_NESTED` allows."""
    reads = [(v, step) for step in forward.steps.values() for v in values_in([step.args, step.kwargs])]
    uses = Counter(id(value.of) for value, _ in reads)
    uses.update(id(value.of) for value in values_in(forward.output))
    readers = {id(value.of): step for value, step in reads}
    nested: set[int] = set()
    sizes: dict[int, int] = {}
    for key, step in forward.steps.items():
        inner = [k for k in _keys_read(step) if k in nested]
        while sum(sizes[k] for k in inner) >= _NESTED:
            nested.discard(largest := max(inner, key=lambda k: sizes[k]))
            inner.remove(largest)
        sizes[key] = 1 + sum(sizes[k] for k in inner)
        if uses[key] == 1 and _may_be_nested(forward, key, step, readers.get(key)):
            nested.add(key)
    return frozenset(nested)


def _keys_read(step: Step) -> list[int]:
    return [id(value.of) for value in values_in([step.args, step.kwargs])]


def _may_be_nested(forward: Forward, key: int, step: Step, reader: Step | None) -> bool:
    """Whether a step that is read once may be written inside its reader, or inside the return if it has none."""
    if isinstance(step.function, Loop) or is_in_place(step):
        return False
    if reader is None:
        return _is_returned_at_once(forward, key)
    both_modules = isinstance(step.function, nn.Module) and isinstance(reader.function, nn.Module)
    return not (both_modules or isinstance(reader.function, Loop) or is_in_place(reader))


def _is_returned_at_once(forward: Forward, key: int) -> bool:
    """Whether the output is this step's, and type checkers know that it is a tensor."""
    if not isinstance(forward.output, Value) or forward.output.path:
        return not isinstance(forward.output, Value)
    function = forward.steps[key].function
    name = "" if isinstance(function, nn.Module) else resolve_name(function) or ""
    if name.startswith("torch.nn.functional."):
        try:
            return inspect.signature(function).return_annotation in (Tensor, "Tensor")
        except ValueError:
            return False
    return name.count(".") == 1


def values_read(tree: Any, steps: Mapping[int, Step], nested: frozenset[int]) -> Iterator[Value]:
    """The values in arguments or outputs, in the order in which they are written: for nested steps, those they read."""
    for value in values_in(tree):
        key = id(value.of)
        if key in nested:
            yield from values_read([steps[key].args, steps[key].kwargs], steps, nested)
        else:
            yield value


def shown_steps(forward: Forward, nested: frozenset[int]) -> dict[int, Step]:
    """The steps that are not nested."""
    return {key: step for key, step in forward.steps.items() if key not in nested}


# ---- statements ----


def statements_of(forward: Forward, members: Members, nested: frozenset[int]) -> list[Statement]:
    """The statements of a forward pass.

    An expression that does not break into lines well is taken apart: its longest part becomes a variable.
    """
    while True:
        scope = Scope(forward, members, nested, {name: name for name in forward.inputs})
        statements, scope, long = _assignments(scope)
        returned = _literal(forward.output, scope)
        if long is None and _is_one(forward.output) and not _is_clean(returned, WIDTH - 15):
            long = _with_parts(id(forward.output.of), scope)
        if long is None:
            return _with_return(statements, returned, _is_one(forward.output))
        parts = [key for key in _keys_read(forward.steps[long]) if key in nested]
        longest = max(parts, key=lambda key: len(flat(_call(forward.steps[key], scope))))
        nested = nested - {longest}


def _is_one(output: Any) -> bool:
    """Whether an output is one tensor, and all that a step returns."""
    return isinstance(output, Value) and not output.path


def _with_return(statements: list[Statement], returned: Expr, is_one: bool) -> list[Statement]:
    last = statements[-1] if statements else None
    if is_one and isinstance(last, Assign) and last.name == returned == "out":
        return [*statements[:-1], Return(last.of)]  # the last term of a long sum
    return [*statements, Return(returned)]


def _assignments(scope: Scope) -> tuple[list[Statement], Scope, int | None]:
    """The statements before the return, the scope after them, and a step that is too long to be written, if any."""
    forward = scope.forward
    shown = shown_steps(forward, scope.nested)
    reads = [_variables_read([step.args, step.kwargs], scope) for step in shown.values()]
    reads.append(_variables_read(forward.output, scope))
    counted = [_inputs_counted([step.args, step.kwargs], scope) for step in shown.values()]
    last_read: dict[str | int, int] = {}
    for i, variables in enumerate(reads):
        last_read |= dict.fromkeys((*variables, *(counted[i] if i < len(counted) else ())), i)
    preferred = _names_of_carried(forward, shown)
    output_key = id(forward.output.of) if _is_one(forward.output) else None
    statements: list[Statement] = []
    of_several: set[str] = set()
    long: int | None = None
    for i, (key, step) in enumerate(shown.items()):
        if isinstance(step.function, Loop) and step.function.swapped is not None:
            newest, loop = _for_each(step, step.function, scope)
            statements += loop
            scope = scope.named(key, newest)
            continue
        call = _call(step, scope)
        if long is None and not _is_clean(call, WIDTH - 19):
            long = _with_parts(key, scope)
        # A variable that is read for the last time leaves its name to the result.
        busy = {name for variable, name in scope.names.items() if last_read.get(variable, -1) > i}
        busy |= set(scope.names.values()) if step.several else of_several  # a variable has one type
        is_end = i == len(shown) - 1 and key == output_key
        name = "out: Tensor" if is_end else preferred.get(key, "")
        if not name or name in busy:
            ending = [scope.names[v] for v in reads[i] if last_read[v] == i]
            reusable = [n for n in ending if n in (*forward.inputs, *"xyzuvw")]
            # Not if its old value is read again in a later line, or other variables have as good a claim to it.
            if step.several or len(_in_lines("", call)) > 1 or len(set(reads[i])) > 1:
                reusable = []
            name = reusable[0] if reusable else _new_name(step, scope, busy | set(forward.inputs))
        statements += _in_lines(name, call)
        scope = scope.named(key, name.partition(":")[0])
        of_several |= {scope.names[key]} if step.several else set()
    return statements, scope, long


def _variables_read(tree: Any, scope: Scope) -> list[str | int]:
    """The variables in arguments or outputs: names of arguments, and keys of steps."""
    values = values_read(tree, scope.forward.steps, scope.nested)
    return [v.of if isinstance(v.of, str) else id(v.of) for v in values if isinstance(v.of, (str, Step))]


def _inputs_counted(tree: Any, scope: Scope) -> list[str]:
    """The names of the inputs that arguments, and the nested steps in them, take the number of examples from."""
    steps = scope.forward.steps
    nested = [steps[id(value.of)] for value in values_in(tree) if id(value.of) in scope.nested]
    names = [_count(batch.times, scope).value.of for batch in parts_in(tree, Batch)]
    return names + [name for step in nested for name in _inputs_counted([step.args, step.kwargs], scope)]


def _names_of_carried(forward: Forward, shown: Mapping[int, Step]) -> dict[int, str]:
    """Names for the outputs that loops carry on."""
    tensors = [name for name, tree in forward.inputs.items() if isinstance(tree, Value)]
    preferred: dict[int, str] = {}
    for step in shown.values():
        if isinstance(step.function, Loop) and step.function.swapped is not None:
            older, newer = _older_and_newer(step, step.function)
            preferred[id(older.of)] = "previous"
            preferred[id(newer.of)] = tensors[0] if tensors else "x"
    return preferred


def _older_and_newer(step: Step, loop: Loop) -> tuple[Value, Value]:
    first, second = step.args
    return (first, second) if loop.swapped else (second, first)


def _for_each(step: Step, loop: Loop, scope: Scope) -> tuple[str, list[Statement]]:
    """The name of the newest output, and the statements of a loop."""
    older, newer = (_literal(value, scope) for value in _older_and_newer(step, loop))
    attribute = scope.members.modules[id(loop)]
    member = attribute.removesuffix("s") if attribute.endswith("s") else "block"
    begin: list[Statement] = [] if older == "previous" != newer else [Assign("previous", older)]
    return str(newer), [
        *begin,
        ForEach(member, f"self.{attribute}", "previous", str(newer), bool(loop.swapped)),
    ]


def _with_parts(key: int, scope: Scope) -> int | None:
    """The key of a step with nested parts; None for one without, which cannot be taken apart."""
    step = scope.forward.steps[key]
    return key if any(k in scope.nested for k in _keys_read(step)) else None


def _new_name(step: Step, scope: Scope, taken: set[str]) -> str:
    """A free name for a result: after the choice or the attribute of the module that computes it, or else a letter."""
    members = scope.members
    if isinstance(step.function, nn.Module):
        hint = members.choices.get(id(step.function), members.modules[id(step.function)])
    else:
        nested = [scope.forward.steps[k].function for v in values_in(step.args) if (k := id(v.of)) in scope.nested]
        hints = [members.choices.get(id(function), "") for function in nested]
        hint = "_".join(beginning([text.split("_") for text in hints]))
    letters = iter("yzuvw")
    name = hint
    number = 2
    while not name or name in taken or keyword.iskeyword(name) or name in ("F", "nn", "torch", "self"):
        name = f"{hint}{number}" if hint else next(letters, f"y{number}")
        number += 1
    return name


def _in_lines(name: str, of: Expr) -> list[Statement]:
    """An assignment; for a sum that is too long for a line, one for each term."""
    plain = name.partition(":")[0]
    is_long = isinstance(of, Chain) and len(flat(of)) + len(name) + 11 > WIDTH
    if is_long and plain not in set(leaves(of.right)):
        return [*_in_lines(name, of.left), Assign(plain, Chain(plain, of.operator, of.right))]
    return [Assign(name, of)]


def _is_clean(of: Expr, width: int) -> bool:
    """Whether an expression fits into this many columns, or breaks at the brackets of a call or between terms."""
    if len(flat(of)) <= width:
        return True
    if isinstance(of, Group) and (isinstance(of.prefix, str) or not of.prefix):
        return all(_is_clean(item.of, width - 8) for item in of.items)
    return isinstance(of, Chain) and all(_is_clean(part, width) for part in (of.left, of.right))


# ---- expressions ----


def _literal(thing: Any, scope: Scope, hint: str = "") -> Expr:
    """An argument as it is written; `hint` is what its numbers are."""
    if isinstance(thing, Value):
        return _variable(thing, scope)
    if isinstance(thing, Batch):
        return _multiple(thing.times, scope, hint)
    if isinstance(thing, (bool, str, type(None))):
        return repr(thing)
    if isinstance(thing, (int, float)):
        return Number((thing,), hint) if math.isfinite(thing) else f'float("{thing}")'
    if isinstance(thing, (torch.dtype, torch.memory_format, torch.layout)):
        return str(thing)
    if isinstance(thing, torch.device):
        return after(_first_tensor(scope), ".device")
    if thing is Ellipsis:
        return "..."
    if isinstance(thing, slice):
        start, stop, step = (
            "" if end is None else _literal(end, scope, hint) for end in (thing.start, thing.stop, thing.step)
        )
        return Joined((start, ":", stop, *(() if thing.step is None else (":", step))))
    if isinstance(thing, (tuple, list)):
        items = tuple(Item(_literal(part, scope, hint)) for part in thing)
        return Group("", items, "()" if isinstance(thing, tuple) else "[]")
    if isinstance(thing, dict):
        items = tuple(Item(Joined((f'"{key}": ', _literal(part, scope, hint)))) for key, part in thing.items())
        return Group("", items, "{}")
    if isinstance(thing, Tensor):
        return of_call("torch.tensor", str(thing.tolist()), device=after(_first_tensor(scope), ".device"))
    raise UnwritableError(f"{scope.members.kind} passes {thing!r} to a function", scope.forward.module)


def _multiple(times: int, scope: Scope, hint: str) -> Expr:
    """A multiple of the number of examples, from the shape of an input."""
    count = _count(times, scope)
    length: Expr = after(_variable(count.value, scope), f".shape[{count.axis}]")
    common = math.gcd(times, count.times)
    if times > common:
        length = operation(Number((times // common,), hint), "*", length)
    return operation(length, "//", Number((count.times // common,), hint)) if count.times > common else length


def _count(times: int, scope: Scope) -> Count:
    """The axis of an input that tells most simply a multiple of the number of examples.

    Raises:
        UnwritableError: no input tells the number of examples.
    """
    counts = scope.forward.counts
    if not counts:
        module = scope.forward.module
        raise UnwritableError(f"{scope.members.kind} uses the number of examples, which no input of it tells", module)
    return min(counts, key=lambda count: (count.times != times, times % count.times != 0))


def _first_tensor(scope: Scope) -> Expr:
    first = next(values_in(list(scope.forward.inputs.values())), None)
    if first is None:
        module = scope.forward.module
        raise UnwritableError(f"{scope.members.kind} makes tensors on a device, which no input of it tells", module)
    return _variable(first, scope)


def _variable(value: Value, scope: Scope) -> Expr:
    if isinstance(value.of, Tensor):
        return scope.members.tensors[id(value.of)]
    path = "".join(f"[{part!r}]" if isinstance(part, int) else f'["{part}"]' for part in value.path)
    if isinstance(value.of, str):
        return f"{value.of}{path}"
    key = id(value.of)
    of = _call(scope.forward.steps[key], scope) if key in scope.nested else scope.names[key]
    return after(of, path) if path else of


def _call(step: Step, scope: Scope) -> Expr:
    """A step as an expression: a call, an index, an operator or an attribute."""
    function = step.function
    if isinstance(function, (nn.Module, Loop)):
        named = {name: _literal(value, scope) for name, value in step.kwargs.items()}
        attribute = f"self.{scope.members.modules[id(function)]}"
        return of_call(attribute, *(_literal(value, scope) for value in step.args), **named)
    name = function.__name__
    if name == "__get__":
        return after(_literal(step.args[0], scope), f".{function.__self__.__name__}")
    base = name.strip("_")
    args = [_literal(value, scope, base) for value in step.args]
    if name == "__getitem__":
        return _index(step, args[0], scope)
    if name in ("__neg__", "__invert__"):
        return Joined(("-" if base == "neg" else "~", operand(args[0], 99)))
    full = resolve_name(function) or ""
    operator = _OPERATORS.get(base) or _OPERATORS.get(base[1:])
    is_method = name.startswith("__") or full.startswith("torch.Tensor.")
    if operator and is_method and len(args) == 2 and not step.kwargs:
        left, right = args if base in _OPERATORS or base[0] == "i" else reversed(args)
        return operation(left, operator, right)
    kwargs = {k: "self.training" if k == "training" else _literal(v, scope, k) for k, v in _unusual(step).items()}
    if full.startswith("torch.Tensor.") and args:
        return of_call(after(args[0], f".{name}"), *args[1:], **kwargs)
    if full.startswith("torch."):
        return of_call(full.replace("torch.nn.functional.", "F."), *args, **kwargs)
    raise UnwritableError(f"{scope.members.kind} calls {name}, which is not a function of torch", scope.forward.module)


def _index(step: Step, of: Expr, scope: Scope) -> Expr:
    tensor, index = step.args
    index = index if isinstance(index, tuple) else (index,)
    if len(index) <= len(tensor.shape) and all(isinstance(part, (slice, int)) for part in index):
        index = tuple(map(_without_stop, index, tensor.shape))
    return Group(operand(of, 99), tuple(Item(_literal(part, scope, "index")) for part in index), "[]")


def _without_stop(part: Any, size: int) -> Any:
    """A part of an index, without an end that lies at or behind that of the tensor."""
    beyond = isinstance(part, slice) and type(part.stop) is int and part.stop >= size
    return slice(part.start, None, part.step) if beyond else part


def _unusual(step: Step) -> dict[str, Any]:
    """The named arguments that differ from the function's defaults."""
    try:
        defaults = {name: p.default for name, p in inspect.signature(step.function).parameters.items()}
    except (TypeError, ValueError):
        defaults = {}
    return {k: v for k, v in step.kwargs.items() if k == "training" or k not in defaults or not _same(defaults[k], v)}


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and not isinstance(a, (Value, Tensor)) and bool(a == b))
