"""Measures of an untrained network: jacov, SynFlow, NWOT, and how many layers it has.

All are of a network with new weights. None needs a label, and more is taken to be better. They rank: only the order of
their values means something. A value of minus infinity stands for a network that a measure cannot tell from one that
passes nothing on, such as a cell without a path: it ranks last.

The one-shot model computes what a stand-alone network computes, but with slices of its weights where widths are
choices. New weights are scaled by the width of their layer, so that a slice of a wide layer is no new narrow layer.
Therefore the paths of one untrained one-shot model are measured where no shape of a weight is a choice, and networks
that are built anew elsewhere; see `measures_of`.

References:
    jacov: Mellor et al., "Neural Architecture Search without Training", 2020, first version.
    NWOT: the same, ICML 2021, section 3.
    SynFlow: Tanaka et al., "Pruning neural networks without any data by iteratively conserving synaptic flow", NeurIPS
    2020, as a score of networks in Abdelfattah et al., "Zero-Cost Proxies for Lightweight NAS", ICLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.utils._python_dispatch import TorchDispatchMode

from supernet.base.progress import Watch
from supernet.base.randomness import draws_at_random, seeded, stream
from supernet.base.trees import call, form_text, map_tensors, rows, take_rows, tensors, tensors_in
from supernet.data.splits import Data, prepare, some_of
from supernet.space.choices import Architecture, Space
from supernet.space.layers import Elastic, GhostBatchNorm
from supernet.space.model import build
from supernet.space.network import view_of
from supernet.speed.pool import Failure, Job, Pool, Task, parts_of
from supernet.speed.runtime import Runtime, shared_by_threads

EXAMPLES = 64
"""Examples that jacov and NWOT see, as in the published code of both."""

_BATCH = 16
"""Architectures that a worker measures in one task at the most."""

_OF_RESPONSES = ("jacov", "nwot")
"""Measures of one pass of real examples; the others are of one pass of ones."""

_SMALL = 1e-5
"""What the published code of jacov adds to each eigenvalue."""

_NORMS = (nn.modules.batchnorm._NormBase, GhostBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
"""Layers that SynFlow leaves out: they would undo the size of what flows."""


def jacov(network: nn.Module, examples: Tensor, live_GP: Tensor | None = None) -> float:
    """How little the responses of a network to different examples have in common.

    The Jacobian of the sum of all outputs by each image is a row. The rows' correlations have eigenvalues v, and the
    measure is the sum of -(log(v + k) + 1 / (v + k)) with k = 1e-5. In training mode, so with the statistics of this
    batch, as in the published code.

    Args:
        network: a stand-alone network or a one-shot model, untrained; it stays as it is.
        examples: [N, ...], floating-point; the same for all networks that are compared.
        live_GP: of a one-shot model the path that is measured, bool [1, P].

    Returns:
        The measure: at most -N, and -N if no two responses are correlated. Minus infinity if some image's Jacobian is
        constant or not finite.

    Raises:
        ValueError: the input is not one tensor of floating-point numbers.
    """
    return _of_responses(_frozen(network), examples, live_GP, ("jacov",))["jacov"]


def nwot(network: nn.Module, examples: Any, live_GP: Tensor | None = None) -> float:
    """How differently the ReLUs of a network switch for different examples.

    The logarithm of the determinant of a matrix, which for each two examples has the number of units of all ReLUs that
    are on for both or off for both. ReLU6 counts as ReLU. In training mode, as `jacov`.

    Args:
        examples: a tensor, or a tuple or dict of tensors; no two examples may be equal.

    Otherwise as for `jacov`.

    Returns:
        The measure; minus infinity if the matrix is singular.

    Raises:
        ValueError: the network runs no ReLU, or two examples are equal, which makes the matrix singular for any
            network.
    """
    return _of_responses(_frozen(network), examples, live_GP, ("nwot",))["nwot"]


def synflow(network: nn.Module, examples: Any, live_GP: Tensor | None = None) -> float:
    """The logarithm of the synaptic flow: of the sum over all weights of ``|w dR/dw|``, for the sum R of all outputs.

    The input is one example of ones, all parameters are taken by their absolute value, and norms are left out (batch
    norm in the published code; layer and group norm are ours). Weights are parameters of two axes or more. In double
    precision: in single precision products of many layers overflow.

    Args:
        examples: only the shape of one example counts.

    Otherwise as for `jacov`.

    Returns:
        The measure; minus infinity if nothing flows.

    Raises:
        ValueError: the input is not one tensor of floating-point numbers, the network does not run in double
            precision, or the flow overflows it.
    """
    return _of_flow(_linear(network), examples, live_GP, ("synflow",))["synflow"]


def layers(network: nn.Module, examples: Any, live_GP: Tensor | None = None) -> int:
    """The number of layers of a network: of operations on the way from input to output in which a weight takes part.

    What leads nowhere, or to which nothing comes, does not count, nor do identities and pools. Arguments and errors
    are those of `synflow`.
    """
    return int(_of_flow(_linear(network), examples, live_GP, ("layers",))["layers"])


def longest_path(network: nn.Module, examples: Any, live_GP: Tensor | None = None) -> int:
    """The largest number of `layers` that lie one after the other."""
    return int(_of_flow(_linear(network), examples, live_GP, ("longest_path",))["longest_path"])


def examples_of(data: Data, *, seed: int, device: torch.device, number: int = EXAMPLES) -> Any:
    """Training examples to measure on, drawn at random, of equal ones only the first.

    Args:
        data: the training split.
        seed: of the run.
        device: of the result.
        number: how many; fewer if there are not as many that differ.

    Returns:
        Examples as they are scored (`supernet.data.splits.prepare`).
    """
    split = some_of(data.train, 4 * number, generator=stream(seed, "measures"))
    examples, _ = prepare(split, data, device=device)
    _, kinds = torch.unique(_flat(examples), dim=0, return_inverse=True)
    first = list({kind: place for place, kind in reversed(list(enumerate(kinds.tolist())))}.values())
    return take_rows(examples, torch.tensor(sorted(first)[:number], device=device))


MEASURES: dict[str, Callable[[nn.Module, Any], float]] = {
    "jacov": jacov,
    "nwot": nwot,
    "synflow": synflow,
    "layers": layers,
    "longest_path": longest_path,
}
"""The measures by their names, as functions of a stand-alone network and of examples."""


def measures_of(
    space: Space,
    architectures: Sequence[Architecture],
    examples: Any,
    names: Collection[str],
    *,
    seed: int,
    runtime: Runtime,
    held: object = None,
) -> Iterator[dict[str, float]]:
    """Measures of architectures with new weights, one after the other; on a CPU several are measured side by side.

    What does nothing in an architecture is left out first, where the space knows (`Space.simplified`). The weights are
    those of ``build(space, architecture, seed=seed)``. If no width is a choice, the one-shot model that is built with
    the same seed has the same weights, and is built once for all.

    Args:
        space: the space.
        architectures: of the space.
        examples: N examples, on the runtime's device; `EXAMPLES` of them are usual.
        names: of `MEASURES`; in any order.
        seed: of the weights.
        runtime: device, threads and workers. The precision is always single, that of SynFlow double.
        held: names space, examples, names and seed among workers, which keep them; None: they keep nothing.

    Yields:
        For each architecture its measures by name, in the order of `MEASURES`; minus infinity for one whose workers
        died.

    Raises:
        ValueError: a name is unknown, or a measure does not apply; the message says what to leave out.
    """
    if unknown := set(names) - set(MEASURES):
        raise ValueError(f"no measure {min(unknown)!r}; there are: {', '.join(MEASURES)}")
    picked = [name for name in MEASURES if name in names]
    lean = [a if space.simplified is None else space.simplified(a) for a in architectures]
    if runtime.pool is not None:
        yield from _among_workers(space, lean, examples, picked, seed, runtime.pool, object() if held is None else held)
        return
    measured = _measuring(space, examples, picked, seed, runtime)
    with runtime.workers() as run:
        yield from run(measured, lean)


def _measuring(
    space: Space, examples: Any, picked: Sequence[str], seed: int, runtime: Runtime
) -> Callable[[Architecture], dict[str, float]]:
    """A function that measures an architecture without what does nothing in it."""
    views = _views(space, seed, runtime)

    def measured(architecture: Architecture) -> dict[str, float]:
        frozen, linear, live_GP = views(architecture)
        values: dict[str, float] = {}
        if not set(picked).isdisjoint(_OF_RESPONSES):
            values |= _of_responses(frozen, examples, live_GP, picked)
        if not set(picked) <= set(_OF_RESPONSES):
            values |= _of_flow(linear, examples, live_GP, picked)
        return {name: values[name] for name in picked}

    return measured


def _among_workers(
    space: Space,
    architectures: Sequence[Architecture],
    examples: Any,
    picked: Sequence[str],
    seed: int,
    pool: Pool,
    held: object,
) -> Iterator[dict[str, float]]:
    """Measures of architectures by workers, in batches."""

    def task(group: Sequence[Architecture]) -> Task:
        parts = partial(map, task, [[architecture] for architecture in group]) if len(group) > 1 else None
        return Task(list(group), parts=parts)

    size = max(1, min(_BATCH, len(architectures) // (4 * pool.size)))
    groups = [architectures[start : start + size] for start in range(0, len(architectures), size)]
    for result in pool.run(held, partial(_in_worker, space, examples, picked, seed), map(task, groups)):
        for part in parts_of(result):
            yield from [dict.fromkeys(picked, -math.inf)] if isinstance(part, Failure) else part


def _in_worker(space: Space, examples: Any, picked: Sequence[str], seed: int, runtime: Runtime) -> Job:
    """What a worker does with a batch."""
    examples = map_tensors(examples, lambda tensor: tensor.to(runtime.device))
    measured = _measuring(space, examples, picked, seed, runtime)

    def job(group: Any, folder: Path | None, watch: Watch) -> list[dict[str, float]]:
        with runtime.workers() as run:
            return list(run(measured, group))

    return job


def _views(
    space: Space, seed: int, runtime: Runtime
) -> Callable[[Architecture], tuple[nn.Module, nn.Module, Tensor | None]]:
    """For an architecture the views of `_frozen` and `_linear` of its network, and what is live in it.

    They are those of the one-shot model if no width is a choice. A model that may keep something in a buffer from one
    pass to the next gets new views for each architecture.
    """
    model = build(space, seed=seed)
    if any(isinstance(module, Elastic) for module in model.modules()):

        def built(architecture: Architecture) -> tuple[nn.Module, nn.Module, Tensor | None]:
            network = runtime.place(build(space, architecture, seed=seed))
            return _frozen(network), _linear(network), None

        return built
    runtime.place(model)
    if next(model.buffers(), None) is not None:
        return lambda architecture: (_frozen(model), _linear(model), space.live([architecture]))
    frozen, linear = _frozen(model), _linear(model)

    def shared(kept: object, architecture: Architecture) -> tuple[nn.Module, nn.Module, Tensor | None]:
        return frozen, linear, space.live([architecture])

    return partial(shared, shared_by_threads(linear.parameters()))


# ---- one pass of examples ----


def _of_responses(
    network: nn.Module, examples: Any, live_GP: Tensor | None, names: Collection[str]
) -> dict[str, float]:
    """jacov and NWOT, whichever is among the names, from one pass.

    Args:
        network: a view in training mode whose parameters have no gradients.
    """
    number, x = rows(examples), examples
    if "jacov" in names:
        x = _one_tensor(examples, "jacov", "it is a derivative by the input").detach().clone().requires_grad_()
    if "nwot" in names:
        _check_distinct(examples)
    codes = _Codes(number)
    with torch.set_grad_enabled("jacov" in names), codes if "nwot" in names else nullcontext():
        output = _output(network, x, live_GP)
    values: dict[str, float] = {}
    if "nwot" in names:
        values["nwot"] = _log_determinant(codes)
    if "jacov" in names:
        values["jacov"] = _spread(_gradient(output, x).reshape(number, -1))
    return values


def _gradient(output: Any, x: Tensor) -> Tensor:
    """Of the sum of all outputs by the input; zeros if no output depends on it."""
    parts = [part for part in tensors_in(output) if part.requires_grad]
    if not parts:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad([part.sum() for part in parts], [x], allow_unused=True)
    return torch.zeros_like(x) if gradient is None else gradient


def _spread(jacobian_ND: Tensor) -> float:
    """jacov of the rows of a Jacobian."""
    rows_ND = jacobian_ND.double().cpu()
    rows_ND = rows_ND - rows_ND.mean(1, keepdim=True)
    lengths = rows_ND.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(rows_ND).all()) or not bool((lengths > 0).all()):
        return -math.inf
    unit = rows_ND / lengths
    v = torch.linalg.eigvalsh(unit @ unit.T).clamp(min=0) + _SMALL  # of a product with itself none is negative
    return -float((v.log() + 1 / v).sum())


_RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)
_CLIPPED = (torch.ops.aten.hardtanh.default, torch.ops.aten.hardtanh_.default)
"""ReLU6 is one of these."""


class _Codes(TorchDispatchMode):
    """Sees every ReLU that is run, and counts for each two examples the units that are on for both or off for both.

    Args:
        number: of examples.

    Attributes:
        alike: the counts, [N, N].
        ran: whether any ReLU was run.
    """

    def __init__(self, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's stub lacks its types
        self.number, self.ran = number, False
        self.alike = torch.zeros(number, number, dtype=torch.float64)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _RELUS or (func in _CLIPPED and len(args) > 1 and args[1] == 0):
            self._add(args[0])
        return func(*args, **(kwargs or {}))

    def _add(self, x: Tensor) -> None:
        if x.numel() % self.number:
            raise ValueError(f"nwot: a ReLU gets {list(x.shape)} for {self.number} examples: leave nwot out")
        signs = (x > 0).reshape(self.number, -1).float() * 2 - 1
        # Units on the same side less those that are not: whole numbers, exact in single precision up to 16 million.
        self.alike += ((signs @ signs.T).cpu().double() + signs.shape[1]) / 2
        self.ran = True


def _log_determinant(codes: _Codes) -> float:
    if not codes.ran:
        raise ValueError("nwot: expected a network with ReLUs, and none was run: leave nwot out")
    sign, value = torch.linalg.slogdet(codes.alike)
    return float(value) if float(sign) > 0 and math.isfinite(value) else -math.inf


def _check_distinct(examples: Any) -> None:
    """Refuses examples of which two are equal."""
    number, distinct = rows(examples), len(torch.unique(_flat(examples), dim=0))
    if distinct < number:
        raise ValueError(f"nwot: expected examples that all differ; of {number} only {distinct} do")


def _flat(examples: Any) -> Tensor:
    """A row of numbers for each example."""
    number = rows(examples)
    return torch.cat([part.reshape(number, -1).double().cpu() for part in tensors(examples)], 1)


# ---- one pass of ones ----


def _of_flow(network: nn.Module, examples: Any, live_GP: Tensor | None, names: Collection[str]) -> dict[str, float]:
    """SynFlow and the numbers of layers, whichever is among the names, from one pass.

    Args:
        network: a view without norms, in double precision, with absolute values of parameters.
    """
    what = next(name for name in names if name not in _OF_RESPONSES)
    example = _one_tensor(examples, what, "its input is all ones")
    device = next((p.device for p in network.parameters()), example.device)
    x = torch.ones(1, *example.shape[1:], dtype=torch.float64, device=device, requires_grad=True)
    try:
        with torch.enable_grad():
            parts = [part.sum() for part in tensors_in(_output(network, x, live_GP)) if part.requires_grad]
    except RuntimeError as error:
        text = " ".join(str(error).split())
        raise ValueError(f"{what}: the network does not run in double precision, leave {what} out: {text}") from error
    number, longest, weights = _layers([cast(Node, part.grad_fn) for part in parts], x)
    values: dict[str, float] = {"layers": number, "longest_path": longest}
    if "synflow" in names:
        values["synflow"] = _flow(parts, weights)
    return {name: value for name, value in values.items() if name in names}


def _flow(parts: Sequence[Tensor], weights: Sequence[Tensor]) -> float:
    """The logarithm of the flow through weights to the sums of outputs.

    Raises:
        ValueError: it is not finite.
    """
    if not weights:
        return -math.inf
    total = 0.0
    for weight, gradient in zip(weights, torch.autograd.grad(parts, weights), strict=True):
        total += float((weight.detach() * gradient).abs().sum())
    if not math.isfinite(total):
        raise ValueError("synflow: the flow overflows double precision in this network: leave synflow out")
    return math.log(total) if total > 0 else -math.inf


def _layers(roots: Sequence[Node], x: Tensor) -> tuple[int, int, list[Tensor]]:
    """The layers between an input and outputs, from the graph that the backward pass would go through.

    A layer is an operation in which something that comes from the input meets a weight.

    Returns:
        Their number, the largest number of them on one path, and the weights that take part in anything.
    """
    depths: dict[Node, int | None] = {}  # layers on the longest path from the input; None if there is no path
    holding: dict[Node, bool] = {}  # whether it is made of parameters alone, a weight among them
    weights: list[Tensor] = []
    number = 0
    for node in _children_first(roots):
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            depths[node], holding[node] = (0, False) if leaf is x else (None, leaf.ndim > 1)
            weights += [leaf] if holding[node] else []
            continue
        children = [child for child, _ in node.next_functions if child is not None]
        before = [depth for child in children if (depth := depths[child]) is not None]
        meets = any(holding[child] for child in children if depths[child] is None)
        # With a constant, such as the zeros of a cell's dead node, it is an output and no longer a weight.
        holding[node] = meets and len(children) == len(node.next_functions)
        is_layer = bool(before) and meets
        depths[node] = max(before) + is_layer if before else None
        number += is_layer
    return number, max((depths[root] or 0 for root in roots), default=0), weights


def _children_first(roots: Sequence[Node]) -> Iterator[Node]:
    """Every operation before those that use its output; without recursion, since networks are deep."""
    entered: set[Node] = set()
    left: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack[-1]
        if node not in entered:
            entered.add(node)
            stack += [child for child, _ in node.next_functions if child is not None and child not in entered]
            continue
        stack.pop()
        if node not in left:
            left.add(node)
            yield node


# ---- networks that stay as they are ----


def _frozen(network: nn.Module) -> nn.Module:
    """A view in training mode whose parameters get no gradients."""
    return _view(network, lambda p: p.detach(), lambda b: b.clone(), lambda module: module).train()


def _linear(network: nn.Module) -> nn.Module:
    """A view in double precision without norms, with absolute values of parameters and buffers.

    In evaluation mode, since dropout would leave out a part of the flow.
    """
    on_mps = any(p.device.type == "mps" for p in network.parameters())  # which has no double precision

    def positive(tensor: Tensor) -> Tensor:
        tensor = tensor.detach().cpu() if on_mps else tensor.detach()
        return tensor.double().abs() if tensor.is_floating_point() else tensor.clone()

    return _view(
        network,
        lambda p: positive(p).requires_grad_(p.is_floating_point()),
        positive,
        lambda module: nn.Identity() if isinstance(module, _NORMS) else module,
    ).eval()


def _view(
    network: nn.Module,
    parameter: Callable[[Tensor], Tensor],
    buffer: Callable[[Tensor], Tensor],
    new: Callable[[nn.Module], nn.Module],
) -> nn.Module:
    """The network with other parameters, buffers and modules."""
    view = view_of(network, new)
    made: dict[int, Tensor] = {}  # a parameter in several places stays one

    def once(tensor: Tensor) -> Tensor:
        if id(tensor) not in made:
            made[id(tensor)] = parameter(tensor)
        return made[id(tensor)]

    for module in view.modules():
        for kind, changed in (("_parameters", once), ("_buffers", buffer)):
            tensors_of = vars(module)[kind]
            vars(module)[kind] = {name: None if t is None else changed(t) for name, t in tensors_of.items()}
    return view


def _output(network: nn.Module, x: Any, live_GP: Tensor | None) -> Any:
    """What a network returns; what it draws is the same each time."""
    device = next(tensors(x)).device
    with seeded(device, 0, "measures") if draws_at_random(network) else nullcontext():
        return call(network, x) if live_GP is None else network(x, live_GP)


def _one_tensor(examples: Any, what: str, why: str) -> Tensor:
    """The input, if it is one tensor of floating-point numbers.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(examples, Tensor) and examples.is_floating_point():
        return examples
    raise ValueError(
        f"{what}: expected one tensor of floating-point numbers, since {why}; got {form_text(examples)}: "
        f"leave {what} out"
    )
