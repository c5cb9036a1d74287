"""What an architecture costs, by sums: measured once for each option, then added up for any number of candidates.

One forward pass with everything on gives the multiply-adds of each option; its parameters are counted where they
are. Where widths are choices there are more passes. After that the cost of an architecture is a sum over what it picks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from supernet.base.markdown import table
from supernet.base.trees import call, map_tensors
from supernet.space.choices import Architecture, Choice, Space
from supernet.space.layers import BATCH_NORMS, Blocks, Choose, Depth, LivePaths, live_paths, set_live_paths
from supernet.space.model import example_of
from supernet.space.network import Inside, made_without_data, parameters_inside, places_of, replace_modules
from supernet.space.tabulate import Figures, Key, Measured, Setting, Settings, Shaping, Size, tabulated
from supernet.space.values import decided, decided_values, length_choices, parameter_shapes


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network costs.

    Attributes:
        params: all trainable numbers.
        params_without_norm: the same without scale and offset of batch norm: what the paper counts as parameters.
        macs: multiply-adds of convolutions and matrix products for one example; a FLOP count is twice that.
    """

    params: int
    params_without_norm: int
    macs: int

    def _repr_markdown_(self) -> str:
        """For notebooks."""
        head = ("parameters", "without norms", "multiply-adds")
        return table([head, tuple(f"{n:,}" for n in (self.params, self.params_without_norm, self.macs))], left=0)


@dataclass(frozen=True, slots=True)
class Term:
    """Costs that depend on the same choices, under the same options.

    Attributes:
        clauses: numbers of the clauses that have to hold for the part to take part.
        choices: names of the choices of shape that its cost depends on.
        table: the costs for each combination of what is picked of them, int64 [combinations, columns]; the last choice
            varies fastest.
    """

    clauses: tuple[int, ...]
    choices: tuple[str, ...]
    table: NDArray[np.int64]


_SCALES = {"latency": 1e-9}
"""What 1 stands for in the columns of a table of costs, if it is not 1: the table has whole numbers only."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """Costs of the parts of a network.

    Attributes:
        space: the space.
        clauses: number of clauses by P, bool: at least one of the options has to be live.
        parts: what is added up.
        columns: names of the costs: params, params_without_norm and macs; and latency (nanoseconds) and memory (bytes)
        where they
            were measured too.
        peaks: for a column that is a sum plus the largest of something over the parts, the column of that something,
            which is no cost by itself and comes after all `columns`.
    """

    space: Space
    clauses: NDArray[np.bool_]
    parts: tuple[Term, ...]
    columns: tuple[str, ...] = ("params", "params_without_norm", "macs")
    peaks: Mapping[int, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"CostTable({self.space.name}: {', '.join(self.columns)})"

    def costs(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        """Each of the `columns` of each architecture: int64 [N, columns]."""
        live = self.space.live(architectures).numpy()
        holds = live.astype(np.float32) @ self.clauses.T.astype(np.float32) > 0
        needs = np.zeros((len(self.parts), len(self.clauses)), dtype=np.float32)
        for row, part in enumerate(self.parts):
            needs[row, list(part.clauses)] = 1
        takes_part = (~holds).astype(np.float32) @ needs.T == 0
        plain = [row for row, part in enumerate(self.parts) if not part.choices]
        width = len(self.columns) + len(self.peaks)
        fixed = np.array([self.parts[row].table[0] for row in plain], dtype=np.int64).reshape(-1, width)
        sums: NDArray[np.int64] = np.einsum("nk,kc->nc", takes_part[:, plain], fixed)  # exact: all in int64
        largest = {peak: (takes_part[:, plain] * fixed[:, peak]).max(1, initial=0) for peak in self.peaks.values()}
        picks = _picked(self.space, live, {name for part in self.parts for name in part.choices})
        for row, part in enumerate(self.parts):
            if part.choices:
                index = np.zeros(len(live), dtype=np.int64)
                for name in part.choices:
                    numbers, count = picks[name]
                    index = index * count + numbers
                terms = part.table[index] * takes_part[:, row, None]
                sums += terms
                for peak, values in largest.items():
                    largest[peak] = np.maximum(values, terms[:, peak])
        for column, peak in self.peaks.items():
            sums[:, column] += largest[peak]
        return sums[:, : len(self.columns)]

    def column(self, name: str, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        """One cost of each architecture: int64 [N]."""
        return self.costs(architectures)[:, self.columns.index(name)]

    def cost(self, architecture: Architecture) -> Cost:
        """Cost of one architecture."""
        return Cost(*map(int, self.costs([architecture])[0, :3]))

    def doublings(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Binary logarithm of the multiply-adds that matter, less that of all there are: [N], 0 or less.

        What does nothing in an architecture is left out, where the space knows (`Space.simplified`).
        """
        simplified = self.space.simplified
        lean = list(architectures) if simplified is None else [simplified(a) for a in architectures]
        macs = self.column("macs", [*lean, self.space.everything_on()]).astype(np.float64)
        doublings: NDArray[np.float64] = np.log2(np.maximum(macs[:-1], 1) / max(macs[-1], 1))
        return doublings

    @staticmethod
    def scale(name: str) -> float:
        """What 1 stands for in the column of this name, in its unit (seconds, bytes, ...)."""
        return _SCALES.get(name, 1.0)

    def factors(
        self, column: int, numbers: Mapping[str, Mapping[tuple[str, ...], int]]
    ) -> Iterator[tuple[tuple[str, ...], NDArray[np.float64]]]:
        """The terms of one column as functions of what choices pick; see `supernet.search.limits.extreme`.

        Args:
            column: its number.
            numbers: for each choice the number of each of its picks, of `pick_numbers`.

        Yields:
            Names of the choices in the order of the space, and the term for each combination of their picks.
        """
        options = list(self.space.columns)
        for part in self.parts:
            holds: list[tuple[str, NDArray[np.bool_]]] = []
            for clause in part.clauses:
                columns = [options[c] for c in np.flatnonzero(self.clauses[clause])]
                name, options_of_choice = columns[0][0], {option for _, option in columns}
                holds.append((name, np.array([not options_of_choice.isdisjoint(pick) for pick in numbers[name]])))
            scope = tuple(c.name for c in self.space.choices if c.name in {*part.choices, *(n for n, _ in holds)})
            sizes = [len(numbers[name]) for name in scope]

            def along(name: str, values: NDArray[Any], scope: tuple[str, ...] = scope) -> NDArray[Any]:
                return values.reshape([len(values) if other == name else 1 for other in scope])

            index = np.zeros([1] * len(scope), dtype=np.int64)
            for name in part.choices:
                settings = {setting: i for i, setting in enumerate(_settings(self.space.choice(name)))}
                index = index * len(settings) + along(name, np.array([settings[pick] for pick in numbers[name]]))
            term = part.table[:, column].astype(np.float64)[index]
            for name, live in holds:
                term = term * along(name, live)
            yield scope, np.broadcast_to(term, sizes)


def pick_numbers(space: Space) -> dict[str, dict[tuple[str, ...], int]]:
    """For each choice its admissible picks, numbered."""
    return {name: {pick: i for i, pick in enumerate(picks)} for name, picks in space.subsets.items()}


def _settings(choice: Choice) -> tuple[tuple[str, ...], ...]:
    """What can be picked of a choice of shape, everything on last."""
    if choice.kind == "value":
        return tuple((option,) for option in choice.options)
    return tuple(dict.fromkeys((*choice.subsets(), choice.options)))


def _picked(space: Space, live: NDArray[np.bool_], names: set[str]) -> dict[str, tuple[NDArray[np.int64], int]]:
    """For each choice of shape the index of every row's setting of it, and the number of settings."""
    result = {}
    for choice in space.choices:
        if choice.name not in names:
            continue
        bits = 1 << np.arange(len(choice.options))
        codes = live[:, [space.columns[choice.name, option] for option in choice.options]] @ bits
        settings = _settings(choice)
        codes_of_settings = [sum(1 << choice.options.index(option) for option in setting) for setting in settings]
        order = np.argsort(codes_of_settings)
        # A choice that is not reached has no pick; what depends on it does not take part.
        position = np.searchsorted(np.array(codes_of_settings)[order], codes).clip(max=len(codes_of_settings) - 1)
        result[choice.name] = (order[position].astype(np.int64), len(codes_of_settings))
    return result


def cost_table(
    space: Space, *, more: Callable[[Setting], Measured] | None = None, columns: Sequence[str] = ()
) -> CostTable:
    """Measures the parts of a space's network once, on one example; the weights do not matter.

    Where shapes follow from choices (widths, strides, what is concatenated), every module gets a table for every
    combination of the choices that its cost is found to depend on; see `supernet.space.tabulate`.

    Args:
        space: the space.
        more: measures for every module with a setting of shapes its shares of more columns. The share of the column
            memory is in two parts: one that is added up, and one of which the largest counts. With it, every
            combination is measured, since a time is no multiple of a number of weights.
        columns: the names of these.

    Raises:
        ValueError: one module depends on too many combinations for a table, or has no table.
    """
    if more is None and (made := _made(space)) is not None:
        return replace(_plain_table(made), space=space)
    return _measured_table(space, more, columns)


@dataclass(frozen=True, slots=True)
class _Made:
    """A space, equal to another one if the same function makes both networks with the same settings."""

    function: Any
    settings: tuple[tuple[str, Any], ...]
    input_shape: tuple[int, ...]
    space: Space = field(compare=False)


def _made(space: Space) -> _Made | None:
    """How a space's network is made; None if that cannot be compared."""
    if not isinstance(space.network, partial) or space.network.args or space.example is not None:
        return None
    made = _Made(space.network.func, tuple(sorted(space.network.keywords.items())), space.input_shape, space)
    try:
        hash(made)
    except TypeError:
        return None
    return made


@lru_cache(maxsize=8)
def _plain_table(made: _Made) -> CostTable:
    """The table of a space without more columns. Of a large space it takes long, and several steps ask for it."""
    return _measured_table(made.space, None, ())


def _measured_table(space: Space, more: Callable[[Setting], Measured] | None, columns: Sequence[str]) -> CostTable:
    modules = dict(made_without_data(space.network).named_modules())
    held = {name: {c.name for v in decided_values(module) for c in v.choices()} for name, module in modules.items()}
    # A depth is not among them: blocks that it leaves out cost nothing, the others what they always cost.
    of_values = set().union(*held.values())
    shaping = {
        choice.name: _settings(choice)
        for choice in space.choices
        if choice.kind == "concat" or choice.name in of_values
    }
    sizes = {name: size for name, module in modules.items() if (size := _size(space, module, shaping)).choices}
    # A stride changes what other modules cost. A width is in them the length of a parameter, from which it follows.
    suspects = set().union(*(names - set(sizes.get(name, Size()).choices) for name, names in held.items()))

    def at(setting: Setting) -> Measured | None:
        try:
            costs = _measure_modules(space, setting)
        except Exception:  # of code of the user, which need not run with what rules forbid
            if _is_allowed(space, setting):
                raise
            return None
        if more is not None:
            others = more(setting)
            none = (0,) * len(next(iter(others.values())))
            costs = {k: costs.get(k, (0, 0, 0)) + others.get(k, none) for k in {**costs, **others}}
        return costs

    by_key = tabulated(shaping, held, {} if more is not None else sizes, suspects, at)
    clauses: dict[tuple[str, tuple[str, ...]], int] = {}
    tables: dict[tuple[Inside, tuple[str, ...]], NDArray[np.int64]] = {}
    for key, costs in by_key.items():
        table = np.array(list(costs.rows.values()), dtype=np.int64)
        for clause in key[1]:
            clauses.setdefault(clause, len(clauses))
        before = tables.get((key[1], costs.choices))
        tables[key[1], costs.choices] = table if before is None else _added(before, table, "memory" in columns)
    masks = np.zeros((len(clauses), len(space.columns)), dtype=np.bool_)
    for (name, options), row in clauses.items():
        masks[row, [space.columns[name, option] for option in options]] = True
    parts = tuple(
        Term(tuple(clauses[clause] for clause in inside), names, table) for (inside, names), table in tables.items()
    )
    names = ("params", "params_without_norm", "macs", *columns)
    return CostTable(space, masks, parts, names, {names.index("memory"): len(names)} if "memory" in names else {})


def _added(one: NDArray[np.int64], other: NDArray[np.int64], with_peak: bool) -> NDArray[np.int64]:
    """Sums of the costs of two modules that always take part together; of a peak, which comes last, the larger."""
    total = one + other
    if with_peak:
        total[:, -1] = np.maximum(one[:, -1], other[:, -1])
    return total


def with_sum(table: CostTable, name: str, weights: Mapping[str, float]) -> CostTable:
    """The table with a column that is a weighted sum of columns, and without the others of these.

    Args:
        table: the table.
        name: of the column; one of `weights`.
        weights: the factor of each column. Costs of parts are rounded.
    """
    gone = [table.columns.index(other) for other in weights if other != name]
    factors = np.zeros(len(table.columns) + len(table.peaks))
    for other, weight in weights.items():
        factors[table.columns.index(other)] = weight

    def summed(costs: NDArray[np.int64]) -> NDArray[np.int64]:
        result = costs.copy()
        result[:, table.columns.index(name)] = np.rint(costs @ factors)
        return np.delete(result, gone, axis=1)

    def moved(column: int) -> int:
        return column - sum(other < column for other in gone)

    return replace(
        table,
        parts=tuple(replace(part, table=summed(part.table)) for part in table.parts),
        columns=tuple(column for i, column in enumerate(table.columns) if i not in gone),
        peaks={moved(column): moved(peak) for column, peak in table.peaks.items()},
    )


def _size(space: Space, module: nn.Module, shaping: Shaping) -> Size:
    """How many parameters a module has, how many that are not of a norm, and how many numbers its weight has.

    Multiply-adds are multiples of the last. It follows from the numbers that the module holds; see `parameter_shapes`.
    """
    of_lengths = length_choices(module)
    names = tuple(name for name in shaping if name in of_lengths)
    options = [space.choice(name).options for name in names]

    @cache
    def at(settings: Settings) -> Figures:
        picks = {
            name: frozenset(map(of.index, picked)) for name, of, picked in zip(names, options, settings, strict=True)
        }
        numbers = {name: math.prod(shape) for name, shape in parameter_shapes(module, picks).items()}
        total = sum(numbers.values())
        return max(1, total), 1 if _is_norm(module) else max(1, total), max(1, numbers.get("weight", 1))

    return Size(names, at)


def _measure_modules(space: Space, setting: Setting) -> Measured:
    """Costs of every module of the network with this setting of shapes, everything else on.

    By the module's name and by what has to be live for it to take part.
    """
    network = _network(space, setting)
    parts: dict[Key, list[int]] = {}
    norms = _norm_parameters(network)
    for inside, parameters in parameters_inside(network).items():
        for name, parameter in parameters:
            entry = parts.setdefault((name.rpartition(".")[0], inside), [0, 0, 0])
            entry[0] += parameter.numel()
            entry[1] += 0 if id(parameter) in norms else parameter.numel()
    # Batch norm has no multiply-adds that are counted.
    network = replace_modules(network, lambda m: nn.Identity() if type(m) in BATCH_NORMS else m).eval()
    counter = _MacsByModule(network, everything_on(space, setting))
    _fill_shared(network)  # on the CPU, which is faster here than the meta device
    with torch.no_grad(), _plain_attention(), counter, set_live_paths(counter.start), one_thread():
        call(network, example_of(space, 1))
    for key, flops in counter.flops.items():
        parts.setdefault(key, [0, 0, 0])[2] += flops // 2
    return {key: tuple(figures) for key, figures in parts.items()}


def _is_allowed(space: Space, setting: Setting) -> bool:
    """Whether no rule forbids a setting of shapes."""
    row = space.live([space.everything_on()])[0]
    for name, picked in setting.items():
        for option in space.choice(name).options:
            row[space.columns[name, option]] = option in picked
    return space.allows_row(row)


def _network(space: Space, setting: Setting) -> nn.Module:
    """The network with this setting of shapes, without data."""
    with decided(setting):
        return made_without_data(space.network)


def _fill(network: nn.Module, device: torch.device) -> None:
    """Puts zeros into a network without data.

    What empty memory holds by chance may be numbers so small that arithmetic with them takes a hundred times as long.
    """
    network.to_empty(device=device)
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data.zero_()


def _fill_shared(network: nn.Module) -> None:
    """Puts zeros into a network without data, on the CPU; all parameters share one memory, so none may be changed."""
    network.to_empty(device=torch.device("cpu"))
    parameters = list(network.parameters())
    largest: dict[torch.dtype, int] = {}
    for parameter in parameters:
        largest[parameter.dtype] = max(parameter.numel(), largest.get(parameter.dtype, 0))
    zeros = {kind: torch.zeros(number, dtype=kind) for kind, number in largest.items()}
    for parameter in parameters:
        parameter.data = zeros[parameter.dtype][: parameter.numel()].view(parameter.shape)
    for buffer in network.buffers():
        buffer.zero_()


def zero_network(space: Space, setting: Setting, device: torch.device) -> nn.Module:
    """The network with this setting of shapes, all zeros, in evaluation mode."""
    network = _network(space, setting)
    _fill(network, device)
    return network.eval()


def everything_on(space: Space, setting: Setting) -> LivePaths:
    """One ghost batch in which all is live that this setting of shapes leaves."""
    live = {
        choice.name: frozenset(
            choice.options.index(o) for o in (setting[choice.name] if choice.kind == "concat" else choice.options)
        )
        for choice in space.choices
    }
    return LivePaths((live,), (0,))


@contextmanager
def one_thread() -> Iterator[None]:
    """For one example, two threads wait for each other longer than they work, above all where a core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Without torch's fused operations for whole layers of attention, whose multiply-adds are not counted."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """FLOPs of softmax attention: two matrix products for each head."""
    pairs: int = math.prod(query.shape[:-1]) * int(key.shape[-2])
    return 2 * pairs * (int(query.shape[-1]) + int(value.shape[-1]))


def _recurrent_flops(inputs: Any, of_input: Any, of_state: Any, *_: Any, **__: Any) -> int:
    """FLOPs of one layer and direction of an LSTM: two matrix products for each step of each example."""
    return int(2 * inputs.shape[0] * inputs.shape[1] * (math.prod(of_input.shape) + math.prod(of_state.shape)))


_recurrent_flops._get_raw = True  # type: ignore[attr-defined]  # as above
_attention_flops._get_raw = True  # type: ignore[attr-defined]  # torch's counter then gives it tensors, not shapes

_MORE_FLOPS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops,
}
"""Counts of operations that torch's registry lacks."""


def measure(network: nn.Module, example: Any) -> Cost:
    """Cost of a stand-alone network, counted on the network itself.

    Args:
        network: any module without free choices.
        example: the shape of one example without the batch dimension; or one example, a tensor or a tuple or dict of
            tensors, with it.
    """
    norms = _norm_parameters(network)
    params = sum(p.numel() for p in network.parameters())
    scale = sum(p.numel() for p in network.parameters() if id(p) in norms)
    is_shape = isinstance(example, (tuple, list)) and all(isinstance(n, int) for n in example)
    inputs = torch.zeros(1, *example) if is_shape else example
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    training = network.training
    network.eval()
    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    with torch.no_grad(), _plain_attention(), counter:
        call(network, map_tensors(inputs, lambda t: t.to(device)))
    network.train(training)
    return Cost(params, params - scale, counter.get_total_flops() // 2)


def _is_norm(module: nn.Module) -> bool:
    """Whether a module normalises, by its name."""
    return "Norm" in type(module).__name__


def _norm_parameters(network: nn.Module) -> set[int]:
    """Identities of scale and offset parameters."""
    return {id(p) for m in network.modules() if _is_norm(m) for p in m.parameters(recurse=False)}


_WITHOUT_MACS = (nn.Sequential, Blocks, nn.ModuleList, nn.Identity, nn.ReLU, Choose, Depth)
"""Modules that do no multiply-adds except by the modules in them."""


class _MacsByModule(TorchDispatchMode):
    """Adds up the FLOPs of every operation by the module that called it and the options that enclose it."""

    def __init__(self, network: nn.Module, start: LivePaths) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stub lacks its types
        self.start = start
        self.flops: Counter[Key] = Counter()
        self.running: list[str] = [""]
        self.places = places_of(network)
        for name, module in network.named_modules():
            if type(module) in _WITHOUT_MACS:
                continue
            module.register_forward_pre_hook(lambda *_, name=name: self.running.append(name))
            module.register_forward_hook(lambda *_: self.running.pop() and None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        count = _MORE_FLOPS.get(func._overloadpacket) or flop_registry.get(func._overloadpacket)
        if count is not None:
            # A block of a `Depth` that is run by itself does not say so, but its place in the network does.
            inside = max(live_paths().inside, self.places.get(self.running[-1], ()), key=len)
            key = (self.running[-1], inside)
            self.flops[key] += count(*args, **(kwargs or {}), out_val=output)
        return output
