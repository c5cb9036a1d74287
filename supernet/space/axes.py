"""Which axes of a network's parameters run over the same channels, read from one run of it.

torch itself runs the network, without data where its code allows that, and each operation says what it does to axes: an
addition ties those of its inputs, a convolution ties the channels of its input to an axis of its weight, a view divides
and joins. An operation without a rule fixes the axes of all that it touches, so what is not understood stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.base.randomness import nothing_drawn
from supernet.base.trees import call, map_tensors, tensors_in
from supernet.space.layers import on_meta
from supernet.space.network import made_without_data
from supernet.space.ties import Layout, Ties

Axes = list[Layout]
"""The layout of each axis of a tensor."""


@dataclass(frozen=True, slots=True)
class TiedAxes:
    """What is known of the axes of a network.

    Attributes:
        ties: what the atoms of layouts are.
        tensors: for each parameter and buffer that was read, by its names, the layouts of its axes.
        inputs: (name, axis) of the parameters' axes over which products are summed up.
        groups: layout of the groups of a grouped convolution or group norm, by the name of its weight.
    """

    ties: Ties
    tensors: Mapping[str, tuple[Layout, ...]]
    inputs: frozenset[tuple[str, int]]
    groups: Mapping[str, Layout]


def axes_of(network: Callable[[], nn.Module], example: Any) -> TiedAxes:
    """Runs a network once, in evaluation mode.

    Args:
        network: makes the network.
        example: some examples, as the network gets them.

    Raises:
        ValueError: the network does not run on them.
    """
    made = made_without_data(network).eval()
    try:
        return _read(on_meta(made), map_tensors(example, lambda tensor: tensor.to("meta")))
    except Exception:  # its code may look at numbers
        with nothing_drawn(torch.device("cpu")):
            made = network().eval()
            try:
                return _read(made, example)
            except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
                raise ValueError(
                    f"the network does not run on the example: {type(error).__name__}: {' '.join(str(error).split())}"
                ) from error


def _read(network: nn.Module, example: Any) -> TiedAxes:
    reader = _Reader(network)
    for tensor in tensors_in(example):
        reader.put(tensor, [reader.ties.new(n, "it is an axis of the examples") for n in tensor.shape])
    with torch.enable_grad(), reader:  # without gradients torch takes shortcuts that hide operations
        output = call(network, example)
    for tensor in tensors_in(output):
        for layout in reader.axes(tensor):
            reader.ties.fix(layout, "it is an axis of the outputs")
    _tie_attention(reader, network)
    ties = reader.ties
    tensors = {name: tuple(map(ties.expanded, axes)) for name, axes in reader.named()}
    tensors = {name: tuple(map(ties.expanded, axes)) for name, axes in tensors.items()}
    return TiedAxes(ties, tensors, frozenset(reader.inputs), reader.groups)


def _tie_attention(reader: _Reader, network: nn.Module) -> None:
    """Says of torch's attention that all its heads together have as many features as its queries: its code takes one
    number for both.
    """
    axes = dict(reader.named())
    for path, module in network.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            queries = "in_proj_weight" if module._qkv_same_embed_dim else "q_proj_weight"
            of_queries, of_outputs = (axes.get(f"{path}.{name}".lstrip(".")) for name in (queries, "out_proj.weight"))
            if of_queries is not None and of_outputs is not None:
                ties = [(of_queries[1], of_outputs[1])]
                ties += [] if module._qkv_same_embed_dim else [(of_queries[0], of_outputs[1])]
                for one, other in ties:
                    reader.ties.tie(one, other, "the heads of nn.MultiheadAttention do not divide it")


class _Reader(TorchDispatchMode):
    """Notes for each tensor of a run the layouts of its axes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types there
        self.ties = Ties()
        self.inputs: set[tuple[str, int]] = set()
        self.groups: dict[str, Layout] = {}
        self._names: dict[int, list[str]] = {}
        self._axes: dict[int, tuple[Tensor, Axes]] = {}  # it holds the tensors, so that no other gets their address
        self._origins: dict[int, Tensor] = {}  # the parameter that a tensor is a view or copy of
        for name, tensor in (
            *network.named_parameters(remove_duplicate=False),
            *network.named_buffers(remove_duplicate=False),
        ):
            self._names.setdefault(id(tensor), []).append(name)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        operation = _Operation(self, func, args, kwargs or {}, output)
        rule = _rule_of(func)
        results = None if rule is None else rule(operation)
        if results is None:
            operation.fix_all()
        elif isinstance(output, Tensor):
            self.put(output, results)
            if operation.name in _VIEWS and (origin := self._origin_of(args[0])) is not None:
                self._origins[id(output)] = origin
        return output

    def _origin_of(self, tensor: Tensor) -> Tensor | None:
        return tensor if id(tensor) in self._names else self._origins.get(id(tensor))

    def axes(self, tensor: Tensor) -> Axes:
        """The layouts of a tensor's axes; new ones for a tensor that was not met before."""
        if id(tensor) not in self._axes:
            self.put(tensor, [self.ties.new(length) for length in tensor.shape])
        return self._axes[id(tensor)][1]

    def put(self, tensor: Tensor, axes: Axes) -> None:
        """Says what a tensor's axes are."""
        self._axes[id(tensor)] = tensor, axes

    def name_of(self, tensor: Tensor) -> str | None:
        """A name of a parameter or buffer."""
        return self._names.get(id(tensor), [None])[0]

    def note_input(self, tensor: Tensor, axis: int) -> None:
        """Says that products are summed up over an axis, if it is one of a parameter or of a view of one."""
        origin = self._origin_of(tensor)
        if origin is None:
            return
        atoms = self._atoms(self.axes(tensor)[axis])
        for place, layout in enumerate(self.axes(origin)):
            if atoms & self._atoms(layout):
                self.inputs.update((name, place) for name in self._names[id(origin)])

    def _atoms(self, layout: Layout) -> set[int]:
        return {atom for run in self.ties.runs(layout) for atom in run}

    def named(self) -> Iterator[tuple[str, Axes]]:
        """The parameters and buffers that were met, by each of their names."""
        for key, names in self._names.items():
            if key in self._axes:
                yield from ((name, self._axes[key][1]) for name in names)


class _Operation:
    """One operation of a run."""

    def __init__(self, reader: _Reader, func: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        self.reader, self.ties = reader, reader.ties
        self.args, self.named, self.output = args, named, output
        self.name: str = func._schema.name.partition("::")[2]
        self.why = f"torch's {self.name} fits no common layout"

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
        return self.args[place] if len(self.args) > place else self.named.get(name, default)

    def axes(self, place: int) -> Axes:
        """The layouts of the axes of a tensor among the arguments."""
        return self.reader.axes(self.args[place])

    def tie(self, one: Layout, other: Layout) -> None:
        """Ties two axes."""
        self.ties.tie(one, other, self.why)

    def fresh(self, length: int) -> Layout:
        """An axis that has to keep its length."""
        return self.ties.new(length, f"torch's {self.name} makes it")

    def fix(self, *layouts: Layout) -> None:
        """Fixes axes."""
        for layout in layouts:
            self.ties.fix(layout, f"torch's {self.name} takes it as it is")

    def fix_all(self) -> None:
        """Fixes all axes of all tensors that the operation takes and gives."""
        for tensor in (*_tensors(self.args), *_tensors(self.named)):
            self.fix(*self.reader.axes(tensor))
        for tensor in _tensors(self.output):
            self.reader.put(tensor, [self.fresh(length) for length in tensor.shape])


def _tensors(thing: Any) -> list[Tensor]:
    return list(tensors_in(thing))


_VIEWS = frozenset(("t", "transpose", "permute", "view", "detach", "alias", "_to_copy", "unsqueeze", "expand", "clone"))
"""Operations whose output is the parameter still, if their input is one."""


# ---- rules: for an operation the axes of its output; None if it has none ----


def _joined(op: _Operation) -> Axes:
    """Elementwise, with axes of length 1 stretched."""
    tensors = [t for t in (*_tensors(op.args), *_tensors(op.named)) if t is not op.output or op.name.endswith("_")]
    shape = op.output.shape
    result: list[Layout | None] = [None] * len(shape)
    for tensor in tensors:
        axes = op.reader.axes(tensor)
        for back in range(1, len(axes) + 1):
            if back > len(shape) or axes[-back] is None or tensor.shape[-back] != shape[-back]:
                continue
            before = result[-back]
            if before is None:
                result[-back] = axes[-back]
            elif shape[-back] > 1:
                op.tie(before, axes[-back])
    return [op.ties.new(n) if layout is None else layout for layout, n in zip(result, shape, strict=True)]


def _factory(op: _Operation) -> Axes:
    """A new tensor, which may be of the shape of others."""
    like = op.args[0] if op.name.endswith("_like") and isinstance(op.args[0], Tensor) else None
    if like is not None and like.shape == op.output.shape:
        return list(op.reader.axes(like))
    return [op.ties.new(length) for length in op.output.shape]


def _view(op: _Operation) -> Axes | None:
    source, axes, shape = op.args[0], op.axes(0), list(op.output.shape)
    if source.numel() == 0:
        return None
    result: Axes = []
    i = j = 0
    while i < len(axes) or j < len(shape):
        ins, outs = [i] if i < len(axes) else [], [j] if j < len(shape) else []
        many, length = (source.shape[i] if ins else 1), (shape[j] if outs else 1)
        i, j = i + len(ins), j + len(outs)
        while many != length:
            if many < length:
                ins.append(i)
                many *= source.shape[i]
                i += 1
            else:
                outs.append(j)
                length *= shape[j]
                j += 1
        if len(ins) == len(outs) == 1:
            result.append(axes[ins[0]])
        elif outs:
            run = op.ties.product(axes[place] for place in ins)
            result += op.ties.divided(run, [shape[place] for place in outs], op.why)
    return result


def _permute(op: _Operation) -> Axes:
    axes = op.axes(0)
    if op.name == "t":
        return axes[::-1]
    if op.name.startswith("transpose"):
        axes = list(axes)
        one, other = op.args[1], op.args[2]
        axes[one], axes[other] = axes[other], axes[one]
        return axes
    return [axes[place] for place in op.args[1]]


def _expand(op: _Operation) -> Axes:
    source, axes, shape = op.args[0], op.axes(0), op.output.shape
    result: Axes = []
    for place, length in enumerate(shape):
        before = place - (len(shape) - len(axes))
        is_kept = before >= 0 and source.shape[before] == length
        result.append(axes[before] if is_kept else op.ties.new(length))
    return result


def _unsqueeze(op: _Operation) -> Axes:
    axes, place = list(op.axes(0)), op.args[1]
    axes.insert(place if place >= 0 else place + len(axes) + 1, ((),))
    return axes


def _squeeze(op: _Operation) -> Axes:
    source, axes = op.args[0], op.axes(0)
    named = op.args[1] if len(op.args) > 1 else range(source.ndim)
    places = {place % source.ndim for place in ([named] if isinstance(named, int) else named)}
    return [a for i, a in enumerate(axes) if not (i in places and source.shape[i] == 1)]


def _cat(op: _Operation) -> Axes:
    tensors = [tensor for tensor in op.args[0] if tensor.numel() or tensor.ndim > 1]
    place = op.arg(1, "dim", 0) % tensors[0].ndim
    by_tensor = [op.reader.axes(tensor) for tensor in tensors]
    result = list(by_tensor[0])
    for axes in by_tensor[1:]:
        for i, layout in enumerate(axes):
            if i != place:
                op.tie(result[i], layout)
    result[place] = tuple(run for axes in by_tensor for run in axes[place])
    return result


def _stack(op: _Operation) -> Axes:
    by_tensor = [op.reader.axes(tensor) for tensor in op.args[0]]
    result = list(by_tensor[0])
    for axes in by_tensor[1:]:
        for one, other in zip(result, axes, strict=True):
            op.tie(one, other)
    place = op.arg(1, "dim", 0)
    result.insert(place if place >= 0 else place + len(result) + 1, op.fresh(len(by_tensor)))
    return result


def _slice(op: _Operation) -> Axes:
    source, axes = op.args[0], list(op.axes(0))
    place = op.arg(1, "dim", 0) % source.ndim
    length = source.shape[place]
    start, end, step = op.arg(2, "start") or 0, op.arg(3, "end"), op.arg(4, "step", 1)
    start, end, _ = slice(start, end).indices(length)
    if step != 1 or end <= start:
        op.fix(axes[place])
        axes[place] = op.fresh(op.output.shape[place])
    elif end - start < length:
        axes[place] = op.ties.cut(axes[place], [start, end - start, length - end], op.why)[1]
    return axes


def _select(op: _Operation) -> Axes:
    axes = list(op.axes(0))
    op.fix(axes.pop(op.args[1]))
    return axes


def _unbind(op: _Operation) -> None:
    axes = list(op.axes(0))
    op.fix(axes.pop(op.arg(1, "dim", 0)))
    for tensor in op.output:
        op.reader.put(tensor, list(axes))


def _split(op: _Operation) -> None:
    place = op.arg(2, "dim", 0) % op.args[0].ndim
    lengths = [tensor.shape[place] for tensor in op.output]
    pieces = op.ties.cut(op.axes(0)[place], lengths, op.why)
    for tensor, piece in zip(op.output, pieces, strict=True):
        axes = list(op.axes(0))
        axes[place] = piece
        op.reader.put(tensor, axes)


def _reduce(op: _Operation) -> Axes | None:
    """Sums, means and the like over some axes."""
    source, axes = op.args[0], op.axes(0)
    outputs = _tensors(op.output)
    named = op.arg(1, "dim")
    if isinstance(named, int):
        named = [named]
    gone = (
        {place % source.ndim for place in named}
        if isinstance(named, (list, tuple)) and named
        else set(range(source.ndim))
    )
    kept = [axis for i, axis in enumerate(axes) if i not in gone]
    for output in outputs:
        if output.ndim == source.ndim:
            op.reader.put(output, [((),) if i in gone else axis for i, axis in enumerate(axes)])
        elif output.ndim == len(kept):
            op.reader.put(output, kept)
        else:
            return None
    return op.reader.axes(op.output) if isinstance(op.output, Tensor) else []


def _product(op: _Operation) -> Axes:
    """Products of matrices: mm, bmm, addmm, baddbmm."""
    place = 1 if op.name in ("addmm", "baddbmm") else 0
    one, other = op.axes(place), op.axes(place + 1)
    op.reader.note_input(op.args[place], -1)
    op.reader.note_input(op.args[place + 1], -2)
    op.tie(one[-1], other[-2])
    if len(one) == 3:
        op.tie(one[0], other[0])
    result = [*one[:-1], other[-1]]
    if place:
        _tie_from_right(op, op.args[0], result)
    return result


def _tie_from_right(op: _Operation, tensor: Tensor, axes: Axes) -> None:
    """Ties what is added to a tensor with these axes."""
    for one, other in zip(reversed(op.reader.axes(tensor)), reversed(axes), strict=False):
        if op.ties.length(one) == op.ties.length(other):
            op.tie(one, other)


def _convolution(op: _Operation) -> Axes:
    weight, bias, transposed, groups = op.args[1], op.args[2], op.args[6], op.args[8]
    channels, kernel = op.axes(0)[1], op.axes(1)
    op.fix(*op.axes(0)[2:], *kernel[2:])
    ins, outs = (kernel[0], kernel[1]) if transposed else (kernel[1], kernel[0])
    if groups == 1:
        op.reader.note_input(weight, 0 if transposed else 1)
        op.tie(channels, ins)
    else:
        group = op.ties.new(groups)
        name = op.reader.name_of(weight)
        if name is not None:
            op.reader.groups[name] = group
        if transposed:
            op.fix(ins, outs)
            outs = (op.ties.product([group, outs]),)
            op.tie(channels, ins)
        else:
            outs_per_group = op.ties.new(weight.shape[0] // groups, "it lies in a group of a convolution")
            op.ties.fix(ins, "it lies in a group of a convolution")
            op.tie(outs, (op.ties.product([group, outs_per_group]),))
            op.tie(channels, (op.ties.product([group, ins]),))
    if bias is not None:
        op.tie(op.axes(2)[0], outs)
    return [op.axes(0)[0], outs, *map(op.fresh, op.output.shape[2:])]


def _spatial(op: _Operation) -> Axes:
    """Pools and interpolations: examples and channels stay, other axes are new."""
    outputs = _tensors(op.output)
    source, axes = op.args[0], op.axes(0)
    first = source.ndim - 2 if "2d" in op.name else source.ndim - (3 if "3d" in op.name else 1)
    op.fix(*axes[first:])
    for output in outputs:
        op.reader.put(output, [*axes[:first], *map(op.fresh, output.shape[first:])])
    return op.reader.axes(outputs[0])


def _batch_norm(op: _Operation) -> Axes:
    axes = op.axes(0)
    for tensor in _tensors(op.args[1:5]):
        op.tie(axes[1], op.reader.axes(tensor)[0])
    return _same_outputs(op, axes)


def _group_norm(op: _Operation) -> Axes:
    axes, number = op.axes(0), op.args[6]
    for tensor in _tensors(op.args[1:3]):
        op.tie(axes[1], op.reader.axes(tensor)[0])
    if number > 1:
        group = op.ties.new(number)
        inner = op.ties.new(op.args[0].shape[1] // number, "it lies in a group of a norm")
        op.tie(axes[1], (op.ties.product([group, inner]),))
        for tensor in _tensors(op.args[1:3]):
            if (name := op.reader.name_of(tensor)) is not None:
                op.reader.groups[name] = group
    return _same_outputs(op, axes)


def _layer_norm(op: _Operation) -> Axes:
    axes, number = op.axes(0), len(op.args[1])
    weights = _tensors(op.args[2:4])
    for tensor in weights:
        for one, other in zip(op.reader.axes(tensor), axes[-number:], strict=True):
            op.tie(one, other)
    if not weights:  # what it is a norm of is a number that no module of torch is known to hold
        op.fix(*axes[-number:])
    return _same_outputs(op, axes)


def _same_outputs(op: _Operation, axes: Axes) -> Axes:
    """The first output is like the input; further ones are statistics, which nothing reads."""
    first, *others = _tensors(op.output)
    op.reader.put(first, list(axes))
    for other in others:
        op.reader.put(other, [op.ties.new(length) for length in other.shape])
    return list(axes)


def _embedding(op: _Operation) -> Axes:
    rows, features = op.axes(0)
    op.fix(rows)
    return [*op.axes(1), features]


def _index(op: _Operation) -> Axes | None:
    """Indexing by one tensor along one axis; anything else has no rule."""
    axes, indices = list(op.axes(0)), list(op.args[1])
    places = [i for i, index in enumerate(indices) if index is not None]
    if len(places) != 1 or indices[places[0]].dtype is torch.bool:
        return None
    (place,) = places
    op.fix(axes[place])
    return [*axes[:place], *op.reader.axes(indices[place]), *axes[place + 1 :]]


def _index_select(op: _Operation) -> Axes:
    axes = list(op.axes(0))
    op.fix(axes[op.args[1]])
    axes[op.args[1]] = op.reader.axes(op.args[2])[0]
    return axes


def _roll(op: _Operation) -> Axes:
    axes = op.axes(0)
    for place in op.arg(2 if op.name == "roll" else 1, "dims", ()) or range(len(axes)):
        op.fix(axes[place])
    return list(axes)


def _pad(op: _Operation) -> Axes:
    axes = list(op.axes(0))
    for number in range(len(op.args[1]) // 2):
        if any(op.args[1][2 * number : 2 * number + 2]):
            op.fix(axes[-1 - number])
            axes[-1 - number] = op.fresh(op.output.shape[-1 - number])
    return axes


def _attention(op: _Operation) -> Axes:
    """Fused attention of [N, heads, T, features]."""
    query, key, values = (op.axes(place) for place in range(3))
    for place in range(len(query) - 2):
        op.tie(query[place], key[place])
        op.tie(query[place], values[place])
    op.tie(query[-1], key[-1])
    op.tie(key[-2], values[-2])
    return _same_outputs(op, [*query[:-1], values[-1]])


def _first(op: _Operation) -> Axes:
    """Like the first tensor."""
    return _same_outputs(op, op.axes(0)) if not isinstance(op.output, Tensor) else list(op.axes(0))


def _number(op: _Operation) -> Axes:
    return []


_Rule = Callable[[_Operation], "Axes | None"]


def _told(rule: Callable[[_Operation], None]) -> _Rule:
    """A rule that says itself what the outputs are."""

    def with_axes(op: _Operation) -> Axes:
        rule(op)
        return []

    return with_axes


def _rules() -> dict[str, _Rule]:
    """The rules by the names of torch's operations; those that work in place have the name with an underscore."""
    by_names: dict[str, _Rule] = {
        "view _unsafe_view reshape _reshape_alias": _view,
        "permute transpose t": _permute,
        "expand": _expand,
        "unsqueeze": _unsqueeze,
        "squeeze": _squeeze,
        "cat": _cat,
        "stack": _stack,
        "slice": _slice,
        "select": _select,
        "unbind": _told(_unbind),
        "split split_with_sizes": _told(_split),
        "mean sum amax amin var std var_mean norm linalg_vector_norm logsumexp prod": _reduce,
        "mm bmm addmm baddbmm": _product,
        "convolution": _convolution,
        "max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d": _spatial,
        "adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d": _spatial,
        "upsample_nearest2d _upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d": _spatial,
        "_upsample_bilinear2d_aa reflection_pad2d replication_pad2d": _spatial,
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm": _batch_norm,
        "native_group_norm": _group_norm,
        "native_layer_norm _fused_rms_norm": _layer_norm,
        "embedding": _embedding,
        "index": _index,
        "index_select": _index_select,
        "roll flip": _roll,
        "constant_pad_nd": _pad,
        "_scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu": _attention,
        "_scaled_dot_product_efficient_attention _scaled_dot_product_fused_attention_overrideable": _attention,
        "clone detach alias _to_copy contiguous lift_fresh lift_fresh_copy fill zero": _first,
        "_softmax _log_softmax _safe_softmax cumsum native_dropout triu tril": _first,
        "_prelu_kernel hardswish hardsigmoid hardtanh silu mish elu gelu softplus leaky_relu log_sigmoid": _joined,
        "masked_fill where clamp bernoulli copy": _joined,
        "zeros ones empty full arange rand randn eye linspace scalar_tensor tril_indices": _factory,
        "zeros_like ones_like empty_like full_like rand_like randn_like": _factory,
        "new_zeros new_ones new_empty new_full empty_strided new_empty_strided": _factory,
        "_local_scalar_dense item is_same_size": _number,
    }
    return {name: rule for names, rule in by_names.items() for name in names.split()}


_RULES = _rules()


def _rule_of(func: Any) -> _Rule | None:
    name = func._schema.name.partition("::")[2]
    rule = _RULES.get(name, _RULES.get(name.removesuffix("_")))
    if rule is not None:
        return rule
    return _joined if _is_pointwise(func, name) else None


def _is_pointwise(func: Any, name: str) -> bool:
    if torch.Tag.pointwise in func.tags:
        return True
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None)
    return packet is not None and any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())
