"""What each module of a recorded network becomes: how it is made, what is in it, the statements of its forward pass."""

from __future__ import annotations

import inspect
import itertools
import keyword
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from supernet.export.writing.tracing import (
    Batch,
    Frame,
    Step,
    UnwritableError,
    Value,
    is_in_place,
    is_of_torch,
    kind_of,
    values_in,
)
from supernet.space.layers import Join

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "div": "/", "floordiv": "//", "mod": "%", "matmul": "@",
    "pow": "**", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "and": "&", "or": "|",
    "xor": "^",
}  # fmt: skip

JOINS = {"sum": "sum", "mean": "mean", "concat": "concatenation"}

NESTED = 6
"""So many calls are written in one expression at the most."""


@dataclass(eq=False)
class Loop:
    """The members of a list of modules, run one after the other.

    Attributes:
        path: of the list.
        members: the modules.
        swapped: None where each gets the output of the one before it. Else each gets that of the one before that too,
            and this says whether it comes first.
    """

    path: str
    members: list[nn.Module]
    swapped: bool | None


@dataclass(frozen=True)
class Assign:
    """``name = of``."""

    name: str
    of: Expr


@dataclass(frozen=True)
class ForEach:
    """A loop over the modules of a list that carries the newest two outputs."""

    member: str
    attribute: str
    older: str
    newer: str
    swapped: bool


@dataclass(frozen=True)
class Return:
    """The end of a forward pass."""

    of: Expr


Statement = Assign | ForEach | Return


@dataclass(eq=False)
class Node:
    """How a module is made and, where it is written as a class, what it does.

    Attributes:
        name: that a class of it would have.
        place: name of the class that it is in, and its attribute there.
        leaf: the module itself, where it is one of torch's own.
        make: the expression that makes it.
        children: the modules in it by their names: attributes, and ``LIST.NUMBER`` in a list of modules.
        tensors: its own parameters and buffers by their attributes.
        inputs: arguments of its forward pass, and whether each is one tensor.
        body: statements of its forward pass; None where it is an ``nn.Sequential``.
        returns: type of the output.
        about: what there is to say of it.
        halves: whether it lowers the resolution.
    """

    name: str
    place: tuple[str, str]
    leaf: nn.Module | None = None
    make: Expr = None
    children: dict[str, Node] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, bool] = field(default_factory=dict)
    body: list[Statement] | None = None
    returns: str = "Tensor"
    about: str = ""
    halves: bool = False

    def walk(self) -> Iterator[Node]:
        yield self
        for child in self.children.values():
            yield from child.walk()


class Planner:
    """Turns what was recorded into nodes."""

    def __init__(
        self,
        frames: dict[int, Frame],
        made: Mapping[int, tuple[dict[str, Any], set[str]]],
        named: Mapping[int, tuple[str, str]],
    ) -> None:
        self.frames, self.made, self.named = frames, made, named
        self.owners: dict[int, tuple[str, str]] = {}
        self.simple: dict[int, tuple[list[Step], Any, dict[Value, Value]]] = {}

    def node(self, module: nn.Module, place: tuple[str, str], name: str = "") -> Node:
        """The node of a module.

        Args:
            module: what it is made of.
            place: where it stands.
            name: of what it stands for, where that says more than the module's own class.
        """
        name = name or camel(self.named.get(id(module), ("", ""))[1])
        frame = self.frames.get(id(module))
        if frame is None:
            if self.owners.setdefault(id(module), place) != place and module.state_dict():
                raise UnwritableError(f"{kind_of(module)} is used in two places: {self.owners[id(module)]} and {place}")
            return Node(name, place, leaf=module, make=_made(module, *self.made[id(module)]))
        if type(module) is nn.Sequential:
            return self._sequential(frame, place, name)
        steps, output, aliases = self._simplified(frame)
        own = kind_of(module)
        if len(steps) == 1 and isinstance(steps[0].function, nn.Module) and output == Value(steps[0]):
            given = [_alias(value, aliases) for value in steps[0].args]
            if given == list(frame.inputs.values()):  # a module around another one, and nothing else
                inner = next(path for path, m in module.named_modules() if m is steps[0].function)
                return self.node(steps[0].function, place, own + camel(re.sub(r"\d", "", inner)))
        return _Body(self, frame, steps, output, aliases, place).node

    def _sequential(self, frame: Frame, place: tuple[str, str], name: str) -> Node:
        members = [step.function for step in frame.steps if not self.does_nothing(step.function)]
        if len(members) == 1:
            return self.node(members[0], place, name)
        # By its option, its place among the choices, its content if that is short, or else its attribute.
        chosen = [self.named[key][0] for m in frame.module.modules() if (key := id(m)) in self.named]
        within = beginning([text.split(".")[:-1] for text in chosen])
        if id(frame.module) not in self.named and within:
            name = name or camel(re.sub(r"\d+$", "", within[-1]))
        node = Node(name, place, halves=frame.halves)
        node.children = {str(i): self.node(m, (name or place[0], f"{place[1]}.{i}")) for i, m in enumerate(members)}
        parts = list(dict.fromkeys(in_a_word(child) for child in node.children.values()))
        attributes = [part for part in re.split(r"[._\d]+", place[1]) if part]
        if not node.name and len("".join(parts)) <= 20 and attributes:
            node.name = "".join(parts)
        node.name = node.name or camel(attributes[-1].removesuffix("s") if attributes else "network")
        return node

    def does_nothing(self, module: Any) -> bool:
        """Whether a module gives back what it gets."""
        frame = self.frames.get(id(module)) if isinstance(module, nn.Module) else None
        if frame is None:
            return False
        _, output, _ = self._simplified(frame)
        return [output] == list(frame.inputs.values())

    def _simplified(self, frame: Frame) -> tuple[list[Step], Any, dict[Value, Value]]:
        """The steps that matter, the output, and which values are others by another name."""
        if id(frame) in self.simple:
            return self.simple[id(frame)]
        aliases: dict[Value, Value] = {}
        zeros: set[Value] = set()
        for step in frame.steps:
            result = Value(step)
            args = [_alias(value, aliases) for value in step.args]
            name = getattr(step.function, "__name__", "").strip("_").removeprefix("r")
            if self.does_nothing(step.function):
                aliases[result] = args[0]
            elif name == "zeros_like" or (
                name in ("mul", "imul") and any(type(a) in (int, float) and a == 0 for a in args)
            ):
                zeros.add(result)
            elif name in ("add", "iadd") and len(args) == 2 and not step.kwargs:
                for zero, other in (args[::-1], args):
                    if zero in zeros and isinstance(other, Value) and other.shape == zero.shape:
                        aliases[result] = other
                        break
            elif name in ("cat", "concat") and isinstance(args[0], list) and len(args[0]) == 1:
                aliases[result] = args[0][0]
            elif name == "getitem" and _is_whole(args[0], step.args[1]):
                aliases[result] = args[0]
        output = _alias(frame.output, aliases)
        wanted = {id(value.of) for value in values_in(output)}
        steps: list[Step] = []
        for step in reversed(frame.steps):
            if id(step) in wanted:
                steps.insert(0, step)
                wanted |= {id(value.of) for value in values_in([_alias([step.args, step.kwargs], aliases)])}
        self.simple[id(frame)] = steps, output, aliases
        return steps, output, aliases


def _is_whole(value: Value, index: Any) -> bool:
    """Whether an index gives back all of a tensor, for any number of examples."""
    parts = index if isinstance(index, tuple) else (index,)
    return parts[0] == slice(None) and len(parts) <= len(value.shape) and all(
        isinstance(part, slice) and part.start in (None, 0) and part.step in (None, 1)
        and (part.stop is None or part.stop >= size)
        for part, size in zip(parts[1:], value.shape[1:], strict=False)
    )  # fmt: skip


def _without_stop(part: Any, size: int) -> Any:
    """A part of an index without an end beyond which there is nothing."""
    beyond = isinstance(part, slice) and type(part.stop) is int and part.stop >= size
    return slice(part.start, None, part.step) if beyond else part


def _alias(thing: Any, aliases: Mapping[Value, Value]) -> Any:
    if isinstance(thing, Value):
        return _alias(aliases[thing], aliases) if thing in aliases else thing
    if isinstance(thing, (tuple, list)):
        return type(thing)(_alias(part, aliases) for part in thing)
    if isinstance(thing, dict):
        return {name: _alias(part, aliases) for name, part in thing.items()}
    if isinstance(thing, slice):
        return slice(*(_alias(end, aliases) for end in (thing.start, thing.stop, thing.step)))
    return thing


class _Body:
    """The forward pass of one class, from its steps."""

    def __init__(
        self,
        planner: Planner,
        frame: Frame,
        steps: list[Step],
        output: Any,
        aliases: Mapping[Value, Value],
        place: tuple[str, str],
    ) -> None:
        module = self.module = frame.module
        self.planner, self.frame, self.output = planner, frame, output
        name = kind_of(module)
        documented = "" if is_of_torch(module) else inspect.cleandoc(type(module).__dict__.get("__doc__") or "")
        if isinstance(module, Join):  # options in a row of modules: they are named by their choice
            name = camel(planner.named.get(id(module), ("", name))[1]) or name
            documented = f"The {JOINS[module.join]} of what the modules in it give."
        self.node = Node(name, place, halves=frame.halves)
        self.node.about = " ".join(re.split(r"(?<=\.)\s", documented)[0].split())
        self.paths = {id(child): path for path, child in module.named_modules() if path}
        named = [planner.named[key][0] for key in self.paths if key in planner.named]
        self.shared = ".".join(beginning([text.split(".")[:-1] for text in named]))
        old = steps
        steps = [Step(s.function, _alias(s.args, aliases), _alias(s.kwargs, aliases), s.several) for s in steps]
        # Steps are new objects from here on, since their arguments changed; values point to the old ones.
        self.steps = dict(zip(map(id, old), steps, strict=True))
        self._roll()
        self._name_children()
        self.node.inputs = {name: isinstance(tree, Value) for name, tree in frame.inputs.items()}
        self.node.body = self._statements()

    # -- loops --

    def _roll(self) -> None:
        """Puts runs over the members of a list of modules into one step."""
        order = list(self.steps)
        place = 0
        while place < len(order):
            run = self._run_from(order[place:])
            if run is None:
                place += 1
                continue
            count, loop, args = run
            for key in order[place : place + count]:
                del self.steps[key]
            # The value of the last member stands for that of the loop.
            key = order[place + count - 1]
            rest = {k: self.steps.pop(k) for k in order[place + count :]}
            self.steps[key] = Step(loop, args)
            self.steps |= rest
            order[place : place + count] = [key]
            place += 1

    def _run_from(self, keys: list[int]) -> tuple[int, Loop, tuple[Any, ...]] | None:
        first = self.steps[keys[0]]
        path, _, number = self.paths.get(id(first.function), "").rpartition(".")
        if not number.isdecimal() or not isinstance(self.module.get_submodule(path), (nn.ModuleList, nn.Sequential)):
            return None
        run: list[int] = []
        for key in keys:
            step = self.steps[key]
            where = self.paths.get(id(step.function), "").rpartition(".")
            if where[0] != path or step.kwargs or len(step.args) != len(first.args):
                break
            if run and not self._follows(step, run, first):
                break
            run.append(key)
        members = [self.steps[key].function for key in run]
        every = [m for m in self.module.get_submodule(path).children() if not self.planner.does_nothing(m)]
        every = [m for m in every if not isinstance(m, nn.Identity)]
        if len(run) < 2 or members != every or not all(isinstance(value, Value) for value in first.args):
            return None
        inside = Counter(id(v.of) for key in run for v in values_in(self.steps[key].args))
        outside = Counter(id(v.of) for s in self.steps.values() for v in values_in([s.args, s.kwargs]))
        outside.update(id(v.of) for v in values_in(self.output))
        hidden = run[:-1]
        if any(outside[key] != inside[key] for key in hidden):
            return None
        if len(first.args) == 1:
            return len(run), Loop(path, members, None), first.args
        if len(first.args) != 2 or len(run) < 3:
            return None
        newest = next(i for i, value in enumerate(self.steps[run[1]].args) if id(value.of) == run[0])
        return len(run), Loop(path, members, newest == 1), first.args

    def _follows(self, step: Step, run: list[int], first: Step) -> bool:
        """Whether a step takes the output of the last step of a run, and the one before that if it takes two."""
        given = [id(value.of) if isinstance(value, Value) and not value.path else 0 for value in step.args]
        if len(given) == 1:
            return given == run[-1:]
        if len(given) != 2 or run[-1] not in given:
            return False
        newest = given.index(run[-1])
        if len(run) > 1:
            return given[1 - newest] == run[-2] and id(self.steps[run[-1]].args[newest].of) == run[-2]
        return bool(step.args[1 - newest] == first.args[newest])

    # -- names --

    def _name_children(self) -> None:
        self.attributes: dict[int, str] = {}
        for step in self.steps.values():
            function = step.function
            if isinstance(function, Loop):
                attribute = self._attribute(function.path, None)
                self.attributes[id(function)] = attribute
                place = (self.node.name, f"{attribute}.")
                members = {
                    str(i): self.planner.node(m, (place[0], place[1] + str(i))) for i, m in enumerate(function.members)
                }
                if function.swapped is None:
                    self.node.children[attribute] = Node("", (self.node.name, attribute), children=members)
                    self.node.children[attribute].name = camel(attribute.removesuffix("s"))
                else:
                    self.node.children |= {f"{attribute}.{i}": child for i, child in members.items()}
            elif isinstance(function, nn.Module) and id(function) not in self.attributes:
                if id(function) not in self.paths:
                    raise UnwritableError(f"{self.node.name} runs a {kind_of(function)} that is no part of it")
                attribute = self._attribute(self.paths[id(function)], self.planner.named.get(id(function)))
                self.attributes[id(function)] = attribute
                self.node.children[attribute] = self.planner.node(function, (self.node.name, attribute))

    def _attribute(self, path: str, chosen: tuple[str, str] | None) -> str:
        name = path
        if "." in path and chosen is not None:
            name = chosen[0].removeprefix(f"{self.shared}.") if self.shared else chosen[0]
        name = identifier(re.sub(r"\.(\d+)", r"\1", name))
        taken = {*self.attributes.values(), *self.node.tensors}
        while hasattr(nn.Module, name) or name in taken:
            name += "_"
        return name

    def _tensor(self, tensor: Tensor) -> str:
        """How a parameter or buffer is reached."""
        for path, own in (*self.module.named_parameters(), *self.module.named_buffers()):
            if own is tensor:
                home, _, name = path.rpartition(".")
                owner = self.module.get_submodule(home)
                if home and id(owner) in self.attributes:
                    return f"self.{self.attributes[id(owner)]}.{name}"
                attribute = next((key for key, value in self.node.tensors.items() if value is tensor), None)
                attribute = attribute or self._attribute(path, None)
                self.node.tensors[attribute] = tensor
                return f"self.{attribute}"
        raise UnwritableError(f"{self.node.name} uses a parameter that is no part of it")

    # -- statements --

    def _statements(self) -> list[Statement]:
        uses = Counter(id(v.of) for s in self.steps.values() for v in values_in([s.args, s.kwargs]))
        uses.update(id(v.of) for v in values_in(self.output))
        consumers = {id(v.of): s for s in self.steps.values() for v in values_in([s.args, s.kwargs])}
        self.nested: set[int] = set()
        sizes: dict[int, int] = {}
        for key, step in self.steps.items():
            inner = [id(v.of) for v in values_in([step.args, step.kwargs]) if id(v.of) in self.nested]
            while sum(sizes[k] for k in inner) >= NESTED:
                self.nested.discard(largest := max(inner, key=lambda k: sizes[k]))
                inner.remove(largest)
            sizes[key] = 1 + sum(sizes[k] for k in inner)
            consumer = consumers.get(key)
            modules = isinstance(step.function, nn.Module) and (
                consumer is not None and isinstance(consumer.function, nn.Module)
            )
            loops = isinstance(step.function, Loop) or (consumer is not None and isinstance(consumer.function, Loop))
            stays = loops or modules or is_in_place(step) or (consumer is not None and is_in_place(consumer))
            if uses[key] == 1 and not stays and (consumer is not None or self._returned_at_once(key)):
                self.nested.add(key)
        while True:
            statements, long = self._named()
            if long is None:
                return statements
            # What cannot be broken into lines well is taken apart: the longest part gets a name.
            step = self.steps[long]
            inside = {id(v.of) for v in values_in([step.args, step.kwargs]) if id(v.of) in self.nested}
            self.nested.discard(max(inside, key=lambda key: len(flat(self._expr(self.steps[key])))))

    def _named(self) -> tuple[list[Statement], int | None]:
        """The statements with the names of their variables; and a step of one that is too long, if there is any."""
        # Where a variable is read for the last time, its name is free for what is computed there.
        long: int | None = None
        shown = [key for key in self.steps if key not in self.nested]
        reads = [list(self._read(self.steps[key])) for key in shown]
        reads.append([s for v in values_in(self.output) for s in self._source(v)])
        last_read = {source: i for i, sources in enumerate(reads) for source in sources}
        self.names: dict[Any, str] = {name: name for name in self.frame.inputs}
        tensors = [name for name, tree in self.frame.inputs.items() if isinstance(tree, Value)]
        preferred: dict[int, str] = {}
        for key in shown:
            loop = self.steps[key].function
            if isinstance(loop, Loop) and loop.swapped is not None:
                older, newer = self._older_newer(self.steps[key])
                preferred[id(older.of)] = "previous"
                preferred[id(newer.of)] = tensors[0] if tensors else "x"
        statements: list[Statement] = []
        is_one = isinstance(self.output, Value) and not self.output.path
        for i, key in enumerate(shown):
            step = self.steps[key]
            dying = [s for s in reads[i] if last_read[s] == i]
            busy = {self.names[s] for s in self.names if last_read.get(s, -1) > i}
            if isinstance(step.function, Loop) and step.function.swapped is not None:
                statements += self._for_each(step, key)
                continue
            ends = is_one and i == len(shown) - 1 and id(self.output.of) == key
            wish = "out: Tensor" if ends else preferred.get(key)
            of = self._expr(step)
            if long is None and not _is_clean(of, WIDTH - 19):
                long = self._to_part(key)
            if wish is None or wish in busy:
                reusable = [self.names[s] for s in dying if self.names[s] in (*self.frame.inputs, *"xyzuvw")]
                # Not where its old value is still to be read, or other variables have as good a claim to it.
                reusable = [] if len(_in_lines("", of)) > 1 or len(set(reads[i])) > 1 else reusable
                taken = busy | set(self.frame.inputs)
                wish = reusable[0] if reusable and not step.several else self._new_name(step, taken)
            self.names[key] = wish.partition(":")[0]
            statements += _in_lines(wish, of)
        returned = self._literal(self.output)
        if long is None and not _is_clean(returned, WIDTH - 15):
            long = self._to_part(id(self.output.of)) if is_one else None
        if isinstance(self.output, (tuple, list)):
            self.node.returns = f"tuple[{', '.join('Tensor' for _ in self.output)}]"
        elif isinstance(self.output, dict):
            self.node.returns = "dict[str, Tensor]"
        last = statements[-1] if statements else None
        if is_one and isinstance(last, Assign) and last.name == returned == "out":
            returned = last.of  # the last term of a long sum
            statements.pop()
        return [*statements, Return(returned)], long

    def _to_part(self, key: int) -> int | None:
        """The step whose arguments are to be taken apart where what this one gives is too long: that, or one inside."""
        step = self.steps[key]
        inner = [id(v.of) for v in values_in([step.args, step.kwargs]) if id(v.of) in self.nested]
        return key if inner else None

    def _returned_at_once(self, key: int) -> bool:
        """Whether the output is this step's, and type checkers know that it is a tensor."""
        if not isinstance(self.output, Value) or self.output.path:
            return not isinstance(self.output, Value)
        function = self.steps[key].function
        name = "" if isinstance(function, (nn.Module, Loop)) else resolve_name(function) or ""
        if name.startswith("torch.nn.functional."):
            try:
                return inspect.signature(function).return_annotation in (Tensor, "Tensor")
            except ValueError:
                return False
        return name.count(".") == 1

    def _source(self, value: Value) -> Iterator[Any]:
        """The variables that a value is made of."""
        if isinstance(value.of, str):
            yield value.of
        elif isinstance(value.of, Step):
            if id(value.of) in self.nested:
                yield from self._read(self.steps[id(value.of)])
            else:
                yield id(value.of)

    def _read(self, step: Step) -> Iterator[Any]:
        for value in values_in([step.args, step.kwargs]):
            yield from self._source(value)

    def _new_name(self, step: Step, taken: set[str]) -> str:
        if isinstance(step.function, nn.Module):
            attribute = self.attributes[id(step.function)]
            hint = attribute if id(step.function) not in self.planner.named else self._choice_of(step.function)
        else:
            inner = [self.steps[id(v.of)].function for v in values_in(step.args) if id(v.of) in self.nested]
            hints = [self._choice_of(f) if isinstance(f, nn.Module) else "" for f in inner]
            hint = "_".join(beginning([text.split("_") for text in hints]))
        letters = iter("yzuvw")
        wish = hint
        number = 2
        while not wish or wish in taken or keyword.iskeyword(wish) or wish in ("F", "nn", "torch", "self"):
            wish = f"{hint}{number}" if hint else next(letters, f"y{number}")
            number += 1
        return wish

    def _choice_of(self, module: nn.Module) -> str:
        """The name of the choice that a module was chosen for, without the option."""
        chosen, option = self.planner.named.get(id(module), ("", ""))
        name = chosen.removesuffix(f".{option}")
        name = name.removeprefix(f"{self.shared}.") if self.shared else name
        return identifier(name) if name else ""

    def _older_newer(self, step: Step) -> tuple[Value, Value]:
        first, second = step.args
        return (first, second) if step.function.swapped else (second, first)

    def _for_each(self, step: Step, key: int) -> Iterator[Statement]:
        older, newer = self._older_newer(step)
        name = self._literal(newer)
        before = self._literal(older)
        if before == name or before != "previous":
            yield Assign("previous", before)
        attribute = self.attributes[id(step.function)]
        member = attribute.removesuffix("s") if attribute.endswith("s") else "block"
        yield ForEach(member, f"self.{attribute}", "previous", str(name), step.function.swapped)
        self.names[key] = str(name)

    # -- expressions --

    def _literal(self, thing: Any, hint: str = "") -> Expr:
        """An argument as it is written."""
        if isinstance(thing, Value):
            return self._variable(thing)
        if isinstance(thing, Batch):
            rows = after(self._first_tensor(), ".shape[0]")
            return rows if thing.times == 1 else operation(Number((thing.times,), hint), "*", rows)
        if isinstance(thing, (bool, str, type(None))):
            return repr(thing)
        if isinstance(thing, (int, float)):
            return Number((thing,), hint) if math.isfinite(thing) else f'float("{thing}")'
        if isinstance(thing, (torch.dtype, torch.memory_format, torch.layout)):
            return str(thing)
        if isinstance(thing, torch.device):
            return after(self._first_tensor(), ".device")
        if thing is Ellipsis:
            return "..."
        if isinstance(thing, slice):
            start, stop, step = (
                "" if end is None else self._literal(end, hint) for end in (thing.start, thing.stop, thing.step)
            )
            return Joined((start, ":", stop, *(() if thing.step is None else (":", step))))
        if isinstance(thing, (tuple, list)):
            items = tuple(Item(self._literal(part, hint)) for part in thing)
            return Group("", items, "()" if isinstance(thing, tuple) else "[]")
        if isinstance(thing, dict):
            items = tuple(Item(Joined((f'"{key}": ', self._literal(part, hint)))) for key, part in thing.items())
            return Group("", items, "{}")
        if isinstance(thing, Tensor):
            return of_call("torch.tensor", str(thing.tolist()), device=after(self._first_tensor(), ".device"))
        raise UnwritableError(f"{self.node.name} gives {thing!r} to a function", self.module)

    def _first_tensor(self) -> Expr:
        return self._variable(next(values_in(list(self.frame.inputs.values()))))

    def _variable(self, value: Value) -> Expr:
        if isinstance(value.of, Tensor):
            return self._tensor(value.of)
        path = "".join(f"[{part!r}]" if isinstance(part, int) else f'["{part}"]' for part in value.path)
        if isinstance(value.of, str):
            # The name of an argument and then the path below it; arguments that are one tensor have none.
            return f"{value.of}{path}"
        key = id(value.of)
        of = self._expr(self.steps[key]) if key in self.nested else self.names[key]
        return after(of, path) if path else of

    def _expr(self, step: Step) -> Expr:
        function = step.function
        if isinstance(function, (nn.Module, Loop)):
            named = {name: self._literal(value) for name, value in step.kwargs.items()}
            attribute = f"self.{self.attributes[id(function)]}"
            return of_call(attribute, *(self._literal(value) for value in step.args), **named)
        name = function.__name__
        if name == "__get__":
            return after(self._literal(step.args[0]), f".{function.__self__.__name__}")
        args = [self._literal(value, name.strip("_")) for value in step.args]
        base = name.strip("_")
        if name == "__getitem__":
            index = step.args[1] if isinstance(step.args[1], tuple) else (step.args[1],)
            if len(index) <= len(step.args[0].shape) and all(isinstance(part, (slice, int)) for part in index):
                index = tuple(map(_without_stop, index, step.args[0].shape))
            return Group(operand(args[0], 99), tuple(Item(self._literal(part, "index")) for part in index), "[]")
        if name in ("__neg__", "__invert__"):
            return Joined(("-" if base == "neg" else "~", operand(args[0], 99)))
        operator = OPERATORS.get(base) or OPERATORS.get(base[1:])
        is_method = name.startswith("__") or (resolve_name(function) or "").startswith("torch.Tensor.")
        if operator and is_method and len(args) == 2 and not step.kwargs:
            left, right = args if base in OPERATORS or base[0] == "i" else reversed(args)
            return operation(left, operator, right)
        kwargs = {k: "self.training" if k == "training" else self._literal(v, k) for k, v in _unusual(step).items()}
        full = resolve_name(function) or ""
        if full.startswith("torch.Tensor.") and args:
            return of_call(after(args[0], f".{name}"), *args[1:], **kwargs)
        if full.startswith("torch."):
            return of_call(full.replace("torch.nn.functional.", "F."), *args, **kwargs)
        raise UnwritableError(f"{self.node.name} calls {name}, which is no function of torch's", self.module)


def _in_lines(name: str, of: Expr) -> list[Statement]:
    """An assignment; a sum that is too long for a line is one for each term."""
    plain = name.partition(":")[0]
    is_long = isinstance(of, Chain) and len(flat(of)) + len(name) + 11 > WIDTH
    if is_long and plain not in set(leaves(of.right)):
        return [*_in_lines(name, of.left), Assign(plain, Chain(plain, of.operator, of.right))]
    return [Assign(name, of)]


def _is_clean(of: Expr, width: int) -> bool:
    """Whether an expression fits in so many columns, or breaks at the brackets of a call or between terms."""
    if len(flat(of)) <= width:
        return True
    if isinstance(of, Group) and (isinstance(of.prefix, str) or not of.prefix):
        return all(_is_clean(item.of, width - 8) for item in of.items)
    return isinstance(of, Chain) and all(_is_clean(part, width) for part in (of.left, of.right))


def _unusual(step: Step) -> dict[str, Any]:
    """The named arguments that differ from the function's defaults."""
    try:
        defaults = {name: p.default for name, p in inspect.signature(step.function).parameters.items()}
    except (TypeError, ValueError):
        defaults = {}
    return {k: v for k, v in step.kwargs.items() if k == "training" or k not in defaults or not _same(defaults[k], v)}


def _same(a: Any, b: Any) -> bool:
    return a is b or (type(a) is type(b) and not isinstance(a, (Value, Tensor)) and bool(a == b))


def is_imported(module: nn.Module) -> bool:
    """Whether a leaf is anything but one of ``torch.nn``."""
    return getattr(nn, type(module).__name__, None) is not type(module)


def _made(module: nn.Module, arguments: dict[str, Any], wanted: set[str]) -> Expr:
    """The call that makes a leaf: one of torch's own modules, or one that is imported."""
    parameters = inspect.signature(type(module).__init__).parameters
    items = []
    for name, value in arguments.items():
        plain = value[0] if isinstance(value, (tuple, list)) and value and len(set(value)) == 1 else value
        is_number = isinstance(plain, (int, float)) and not isinstance(plain, bool)
        required = name in parameters and parameters[name].default is inspect.Parameter.empty
        if isinstance(plain, str):
            plain = f'"{plain}"'
        elif isinstance(plain, list):
            plain = tuple(plain)
        items.append(
            Item(Number((plain,), name) if is_number else str(plain), "" if required else name, name in wanted)
        )
    name = type(module).__name__
    return Group(name if is_imported(module) else f"nn.{name}", tuple(items))


# ---- names ----


def camel(text: str) -> str:
    """A name for a class; empty where the text does not begin with a letter."""
    words = [word for word in re.split(r"[^0-9A-Za-z]+", text) if word]
    joined = ""
    for word in words:
        joined += ("_" if joined[-1:].isdigit() and word[0].isdigit() else "") + word[0].upper() + word[1:]
    return joined if joined[:1].isalpha() else ""


def identifier(text: str) -> str:
    """A name for a variable or attribute."""
    name = re.sub(r"\W+", "_", text).strip("_")
    name = name if not name[:1].isdigit() else f"layer{name}"
    return f"{name}_" if keyword.iskeyword(name) else name


def beginning(texts: Sequence[Sequence[str]]) -> list[str]:
    """What all have in common at their beginning."""
    same = itertools.takewhile(lambda parts: len(set(parts)) == 1, zip(*texts, strict=False))
    return [parts[0] for parts in same]


def in_a_word(node: Node, words: bool = False) -> str:
    """What a module is, in a word."""
    if node.leaf is None:
        return node.name or "block"
    name = re.sub(r"\dd$", "", type(node.leaf).__name__)
    if words:
        known = {"BatchNorm": "batch norm", "Conv": "convolution", "LayerNorm": "layer norm", "Linear": "linear layer"}
        return known.get(name, name)
    return {"BatchNorm": "Norm", "LayerNorm": "Norm", "ReLU": "Relu", "ReLU6": "Relu6"}.get(name, name)
