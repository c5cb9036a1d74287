"""Records the calls of a stand-alone network while it runs, module by module.

Neither source code nor symbols are needed: loops, lists and conditions of a ``forward`` have been evaluated when a
tensor reaches a function of torch, so that only the calls remain. Arguments that depend on the number of examples are
detected by running twice, with two and with three examples; what depends on the values of tensors is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.rnn import RNNBase
from torch.overrides import TorchFunctionMode

from supernet.base.trees import call, rows, take_rows, tensors, tensors_in
from supernet.space.layers import Join

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)

_READS_VALUES = (
    *("__bool__", "__int__", "__float__", "__index__", "__complex__", "__contains__", "__array__"),
    *("item", "tolist", "numpy", "equal", "allclose", "is_nonzero"),
)
"""Functions that turn values of tensors into Python values."""


class UnwritableError(ValueError):
    """A network that cannot be written as code without conditions; the message says why.

    Attributes:
        module: the module whose forward pass is the reason, if it is one module.
    """

    def __init__(self, reason: str, module: nn.Module | None = None) -> None:
        super().__init__(reason)
        self.module = module


@dataclass(eq=False)
class Step:
    """A call in a forward pass: of a module, or of a function or method of torch.

    Attributes:
        function: the module, or the function.
        args: positional arguments: `Value`s, plain values, and tuples, lists, dicts and slices of both.
        kwargs: named arguments.
        several: whether the result is more than one tensor.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    several: bool = False


@dataclass(frozen=True)
class Value:
    """A tensor: an input, the result of a step, or a parameter or buffer.

    Attributes:
        of: the step; the name of an argument of `forward`; or the parameter or buffer itself.
        path: which part of it, if it is a tuple, list or dict of tensors.
        shape: for two examples; not compared.
    """

    of: Any
    path: tuple[Any, ...] = ()
    shape: tuple[int, ...] = ()

    def __hash__(self) -> int:
        return hash((id(self.of), self.path))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value) and self.of is other.of and self.path == other.path


@dataclass(frozen=True)
class Batch:
    """A multiple of the number of examples."""

    times: int


@dataclass(frozen=True)
class Count:
    """An axis of an input of a forward pass whose length is a multiple of the number of examples."""

    value: Value
    axis: int
    times: int


@dataclass(eq=False)
class Frame:
    """The forward pass of one module.

    Attributes:
        module: whose forward pass it is.
        inputs: the arguments of `forward` that hold tensors: name, and a tree of `Value`s.
        steps: the calls, in order.
        output: tree of `Value`s.
        halves: whether the output has fewer pixels than every input.
        counts: the axes of the inputs whose length is a multiple of the number of examples.
    """

    module: nn.Module
    inputs: dict[str, Any]
    steps: list[Step] = field(default_factory=list)
    output: Any = None
    halves: bool = False
    counts: tuple[Count, ...] = ()


def trace(network: nn.Module, inputs: Any, leaves: Collection[int]) -> dict[int, Frame]:
    """The forward passes of a network and of the modules in it, by ids; leaves and modules that are not run have none.

    Args:
        network: a stand-alone network. It is run in evaluation mode and left as it was.
        inputs: at least three examples.
        leaves: ids of the modules whose forward passes are not recorded.

    Raises:
        ValueError: fewer than three examples.
        UnwritableError: the network reads values of tensors in Python, or does different things for different numbers
            of examples.
    """
    if rows(inputs) < 3:  # it runs with two of them and with three
        raise ValueError(f"inputs: expected at least 3 examples, got {rows(inputs)}")
    training, fast = network.training, torch.backends.mha.get_fastpath_enabled()
    network.eval()
    torch.backends.mha.set_fastpath_enabled(False)  # a private function that computes a whole layer
    try:
        recorded = [_Recorder(leaves).record(network, take_rows(inputs, slice(number))) for number in (2, 3)]
    finally:
        network.train(training)
        torch.backends.mha.set_fastpath_enabled(fast)
    first, second = recorded
    if first.keys() != second.keys():
        raise UnwritableError("it runs different modules for different numbers of examples")
    for key, frame in first.items():
        if len(frame.steps) != len(second[key].steps):
            raise UnwritableError(
                f"{kind_of(frame.module)} does different things for different numbers of examples", frame.module
            )
        for step, other in zip(frame.steps, second[key].steps, strict=True):
            step.args = _compared(step.args, other.args, frame.module)
            step.kwargs = _compared(step.kwargs, other.kwargs, frame.module)
        frame.counts = tuple(_counts(frame.inputs, second[key].inputs))
    return first


def _counts(inputs: dict[str, Any], of_three: dict[str, Any]) -> Iterator[Count]:
    """The axes of inputs that grow with the number of examples; first axes come first."""
    pairs = list(zip(values_in(inputs), values_in(of_three), strict=False))
    for axis in range(max((len(value.shape) for value, _ in pairs), default=0)):
        for value, other in pairs:
            lengths = [shape[axis] for shape in (value.shape, other.shape) if axis < len(shape)]
            if len(lengths) == 2 and (times := _times(*lengths)):
                yield Count(value, axis, times)


def _times(of_two: int, of_three: int) -> int:
    """The multiple of the number of examples that two numbers are; 0 if they are none."""
    return of_two // 2 if of_two != of_three and of_two % 2 == 0 and of_three == of_two // 2 * 3 else 0


def _compared(a: Any, b: Any, module: nn.Module) -> Any:
    """The first of two recorded values; a `Batch` if they are multiples of the number of examples."""
    if isinstance(a, Value) or a is b:
        return a
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)) and len(a) == len(b):
        return type(a)(_compared(x, y, module) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _compared(value, b[key], module) for key, value in a.items()}
    if isinstance(a, slice) and isinstance(b, slice):
        ends = ("start", "stop", "step")
        return slice(*(_compared(getattr(a, end), getattr(b, end), module) for end in ends))
    if type(a) is int and type(b) is int and (times := _times(a, b)):
        return Batch(times)
    if type(a) is type(b) and a == b:
        return a
    raise UnwritableError(
        f"{kind_of(module)} computes {a!r} for 2 examples and {b!r} for 3, which are not multiples of their number",
        module,
    )


class _Recorder(TorchFunctionMode):
    """Records calls while a network runs, except inside leaves."""

    def __init__(self, leaves: Collection[int]) -> None:
        super().__init__()
        self.leaves = leaves
        self.frames: dict[int, Frame] = {}
        self.stack: list[tuple[Frame, dict[int, tuple[Tensor, Value]]]] = []
        self.in_leaf = False

    def record(self, network: nn.Module, inputs: Any) -> dict[int, Frame]:
        self.weights = {id(t) for t in (*network.parameters(), *network.buffers())}
        with torch.no_grad(), _wrapped(network, self._run), self:
            call(network, inputs)
        return self.frames

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        is_recorded = not self.in_leaf and bool(self.stack)
        name = getattr(func, "__name__", "")
        if is_recorded and name in _READS_VALUES:
            module = self.stack[-1][0].module
            raise UnwritableError(f"{kind_of(module)} reads values of tensors ({name}) in its forward", module)
        if is_recorded and name == "__setitem__":
            module = self.stack[-1][0].module
            raise UnwritableError(f"{kind_of(module)} writes into a tensor in its forward", module)
        result = func(*args, **kwargs)
        if not is_recorded or not _has_tensors(result):
            return result
        return self._keep(Step(func, self._values(args), self._values(kwargs)), result)

    def _run(self, module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.in_leaf:
            return forward(*args, **kwargs)
        parent = self.stack[-1][0].module if self.stack else None
        if parent is not None and _dissolves(module, parent):
            return forward(*args, **kwargs)
        if id(module) in self.leaves and parent is not None:
            arguments = self._values(args), self._values(kwargs)
            self.in_leaf = True
            try:
                result = forward(*args, **kwargs)
            finally:
                self.in_leaf = False
            return self._keep(Step(module, *arguments), result)
        bound = inspect.signature(forward).bind(*args, **kwargs).arguments
        carried = {name: value for name, value in _spread(forward, bound) if _has_tensors(value)}
        outer = {name: self._values(value) for name, value in carried.items()} if self.stack else {}
        # The same tensor for two arguments is two inputs all the same.
        seen: set[int] = set()
        args, kwargs = _distinct(args, seen), _distinct(kwargs, seen)
        bound = inspect.signature(forward).bind(*args, **kwargs).arguments
        carried = {name: value for name, value in _spread(forward, bound) if _has_tensors(value)}
        values: dict[int, tuple[Tensor, Value]] = {}
        inputs = {name: _placed(value, name, (), values) for name, value in carried.items()}
        frame = Frame(module, inputs)
        self.stack.append((frame, values))
        result = forward(*args, **kwargs)
        frame.output = self._values(result)
        self.stack.pop()
        sizes = [t.shape[-1] for value in carried.values() for t in tensors(value) if t.ndim > 2]
        frame.halves = bool(sizes) and all(t.ndim > 2 and t.shape[-1] < min(sizes) for t in tensors(result))
        self.frames.setdefault(id(module), frame)
        return self._keep(Step(module, tuple(outer.values())), result) if self.stack else result

    def _keep(self, step: Step, result: Any) -> Any:
        """Records a step with its result. A tensor that is handed through gets a new id, unless in place."""
        frame, values = self.stack[-1]
        frame.steps.append(step)
        step.several = not isinstance(result, Tensor)
        if isinstance(result, Tensor) and id(result) in values and not is_in_place(step):
            with torch._C.DisableTorchFunction():
                result = result.view_as(result)
        _placed(result, step, (), values)
        return result

    def _values(self, thing: Any) -> Any:
        """The same with `Value`s in place of tensors."""
        if isinstance(thing, Tensor):
            recorded = self.stack[-1][1].get(id(thing))
            if recorded is not None:
                return recorded[1]
            if id(thing) in self.weights:
                return Value(thing, (), tuple(thing.shape))
            if thing.numel() <= 16:
                return thing.detach().clone()
            module, shape = self.stack[-1][0].module, list(thing.shape)
            raise UnwritableError(
                f"{kind_of(module)} uses a tensor of shape {shape} that is neither a parameter nor a buffer", module
            )
        if isinstance(thing, (tuple, list)):
            plain = tuple if isinstance(thing, tuple) else list  # named tuples and sizes too
            return plain(self._values(part) for part in thing)
        if isinstance(thing, dict):
            return {name: self._values(part) for name, part in thing.items()}
        if isinstance(thing, slice):
            return slice(self._values(thing.start), self._values(thing.stop), self._values(thing.step))
        return thing


@contextmanager
def _wrapped(network: nn.Module, run: Callable[..., Any]) -> Iterator[None]:
    """Inside the ``with`` block every module's ``forward`` goes through `run`."""
    modules = [m for m in network.modules() if "forward" not in vars(m)]
    for module in modules:
        vars(module)["forward"] = partial(run, module, module.forward)
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


def _dissolves(module: nn.Module, parent: nn.Module) -> bool:
    """Whether a module's steps become those of its parent: for sums of options and modules without parts."""
    if isinstance(module, nn.Identity):
        return True
    if isinstance(parent, nn.Sequential):
        return False
    holds_nothing = not list(module.children()) and not module.state_dict() and not is_of_torch(module)
    return isinstance(module, Join) or holds_nothing


def is_of_torch(module: nn.Module) -> bool:
    """Whether a module's class is torch's."""
    return type(module).__module__.split(".")[0] == "torch"


def leaves_of(network: nn.Module) -> dict[int, tuple[dict[str, Any], set[str]]]:
    """The modules of a network that are torch's own and can be made again from what they show.

    Returns:
        By the module's id, all arguments that make it, and the names of those that cannot be left out.
    """
    leaves: dict[int, tuple[dict[str, Any], set[str]]] = {}
    alike: dict[Any, tuple[dict[str, Any], set[str]] | None] = {}
    for module in network.modules():
        if is_of_torch(module) and not isinstance(module, _CONTAINERS):
            key = type(module), str(_looks(module))
            if key not in alike:
                arguments = arguments_of(module)
                alike[key] = None if arguments is None else (arguments, needed(module, arguments))
            if (making := alike[key]) is not None:
                leaves[id(module)] = making
    return leaves


def arguments_of(module: nn.Module) -> dict[str, Any] | None:
    """The arguments that make a module like this one, all by name; None if they cannot be read from it.

    They are read from the attributes with the names of the arguments, and tried: the module that they make, without
    data, must look the same and hold tensors of the same shapes.
    """
    kind: Any = RNNBase if isinstance(module, RNNBase) else type(module)
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        if name in ("self", "device", "dtype", "mode" if kind is RNNBase else "") or name.startswith("_"):
            continue
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or isinstance(module, nn.RNN):
            return None
        if name == "proj_size" and isinstance(module, nn.GRU):
            continue
        value = getattr(module, name, parameter.default)
        if name == "bias" and not isinstance(value, bool):
            value = (value if "bias" in module._parameters else getattr(module, "in_proj_bias", None)) is not None
        if value is parameter.empty:
            return None
        arguments[name] = value
    try:
        with torch.device("meta"):
            again = type(module)(**arguments)
    except Exception:  # an unusual module may raise any error
        return None
    return arguments if _looks(again) == _looks(module) else None


def needed(module: nn.Module, arguments: dict[str, Any]) -> set[str]:
    """The arguments that cannot be left out without making a different module."""
    kind: Any = RNNBase if isinstance(module, RNNBase) else type(module)
    parameters = inspect.signature(kind.__init__).parameters
    left = dict(arguments)
    for name in list(arguments):
        if parameters[name].default is not inspect.Parameter.empty:
            without = {key: value for key, value in left.items() if key != name}
            with torch.device("meta"):
                again = type(module)(**without)
            if _looks(again) == _looks(module) and arguments_of(again) == arguments:
                left = without
    return set(left)


def _looks(module: nn.Module) -> Any:
    return repr(module), [(name, tensor.shape) for name, tensor in module.state_dict().items()]


def is_in_place(step: Step) -> bool:
    """Whether a function changes its first argument, as ``x += y`` and ``x.relu_()`` do."""
    name = getattr(step.function, "__name__", "")
    return (name.startswith("__i") and name not in ("__invert__", "__index__")) or (
        name.endswith("_") and not name.endswith("__")
    )


def kind_of(module: nn.Module) -> str:
    """The name of a module's class."""
    return type(module).__name__.lstrip("_")


def _spread(forward: Callable[..., Any], bound: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments by name, those in ``*args`` and ``**kwargs`` one by one."""
    parameters = inspect.signature(forward).parameters
    for name, value in bound.items():
        if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        elif parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((f"{name}{i}", part) for i, part in enumerate(value))
        else:
            yield name, value


_Part = TypeVar("_Part", Value, Batch)


def parts_in(thing: Any, kind: type[_Part]) -> Iterator[_Part]:
    """What is of this kind in arguments or outputs, in order."""
    if isinstance(thing, kind):
        yield thing
    elif isinstance(thing, slice):
        yield from parts_in((thing.start, thing.stop, thing.step), kind)
    elif isinstance(thing, (tuple, list, dict)):
        for part in thing.values() if isinstance(thing, dict) else thing:
            yield from parts_in(part, kind)


def values_in(thing: Any) -> Iterator[Value]:
    """The values in arguments or outputs, in order."""
    return parts_in(thing, Value)


def _distinct(thing: Any, seen: set[int]) -> Any:
    """The same arguments, with another view in place of a tensor that came before."""
    if isinstance(thing, Tensor):
        if id(thing) in seen:
            with torch._C.DisableTorchFunction():
                return thing.view_as(thing)
        seen.add(id(thing))
    elif type(thing) in (tuple, list):
        return type(thing)(_distinct(part, seen) for part in thing)
    elif type(thing) is dict:
        return {name: _distinct(part, seen) for name, part in thing.items()}
    return thing


def _has_tensors(thing: Any) -> bool:
    return next(tensors_in(thing), None) is not None


def _placed(thing: Any, of: Any, path: tuple[Any, ...], values: dict[int, tuple[Tensor, Value]]) -> Any:
    """The tree of `Value`s of `thing`, each recorded in `values` with its tensor, which keeps the id in use."""
    if isinstance(thing, Tensor):
        value = Value(of, path, tuple(thing.shape))
        values[id(thing)] = thing, value
        return value
    if isinstance(thing, dict):
        return {name: _placed(part, of, (*path, name), values) for name, part in thing.items()}
    if isinstance(thing, (tuple, list)):
        parts = [_placed(part, of, (*path, i), values) for i, part in enumerate(thing)]
        return tuple(parts) if isinstance(thing, tuple) else parts
    return thing
