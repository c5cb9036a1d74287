"""The self-test: what is right and faster on this machine, measured once and kept.

Half precision, the layout in memory and the kernels of `supernet.speed.kernels` each win on some machines and lose, or
give wrong numbers, on others; the processor's name does not tell. So each is tried on small tensors against torch's own
operation in single precision. The outcome is kept in the cache folder under the machine and the versions, so that runs
on one machine agree.
"""

from __future__ import annotations

import hashlib
import logging
import math
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import _disable_current_modes

from supernet.base.files import cache_folder, read_json, sha256, write_json
from supernet.speed import kernels

log = logging.getLogger(__name__)

Precision = Literal["32-true", "bf16-mixed"]

ERROR = 0.03
"""Largest difference from single precision, relative to the largest number, that half precision may make."""

ROUNDS = 7
"""Timings of each of two ways, in turns; the fastest of each counts, which other work on the machine disturbs least."""


POINTWISE = "pointwise"
"""What `Tuning.kernels` calls `supernet.speed.kernels.pointwise`."""

SIZES = ((16, 32), (32, 16), (64, 8))
"""Channels, and pixels along both axes, of the tensors that convolutions are tried on."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What is right and faster on a machine.

    Attributes:
        precision: half where a convolution in it is right and faster.
        layout: in which a ReLU, a convolution and batch norm are faster; torch's name of it.
        kernels: which of `supernet.speed.kernels` are faster than torch's: "norm", "pool", `POINTWISE`, and those of
            `depthwise_name` and `convolution_name`.
        in_full_precision: kinds of convolution (see `kind_of`) that half precision makes wrong or slower.
        measured: how many times faster each was; what is wrong has 0.
    """

    precision: Precision = "32-true"
    layout: Literal["channels_last", "contiguous_format"] = "channels_last"
    kernels: tuple[str, ...] = ()
    in_full_precision: tuple[str, ...] = ()
    measured: dict[str, float] = field(default_factory=dict, compare=False)


def kind_of(
    x: Tensor,
    weight: Tensor,
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> str:
    """The kind of a two-dimensional convolution, as far as half precision makes a difference.

    Returns:
        "plain", "narrow" (one column of output, with a stride), "dilated", "grouped", "depthwise" or
        "dilated depthwise".
    """
    if max(stride) > 1 and not isinstance(padding, str):
        steps = (x.shape[-1] + 2 * padding[1] - dilation[1] * (weight.shape[-1] - 1) - 1) // stride[1]
        if steps == 0:
            return "narrow"
    depthwise = groups > 1 and weight.shape[1] == 1
    if max(dilation) > 1:
        return "dilated depthwise" if depthwise else "dilated"
    if groups > 1:
        return "depthwise" if depthwise else "grouped"
    return "plain"


def depthwise_name(size: int, stride: int = 1) -> str:
    """What `Tuning.kernels` calls depthwise convolutions with a kernel of this size; all strides above 1 are one."""
    return f"{'strided ' if stride > 1 else ''}depthwise {size}x{size}"


def convolution_name(size: int, dtype: torch.dtype) -> str:
    """What `Tuning.kernels` calls other convolutions with a kernel of this size, in this type."""
    return f"{'half' if dtype == torch.bfloat16 else 'single'} {size}x{size}"


KINDS: dict[str, list[tuple[int, int, dict[str, int]]]] = {
    "plain": [(32, 3, {"padding": 1}), (64, 1, {})],
    "narrow": [(32, 3, {"stride": 16, "padding": 1})],
    "dilated": [(32, 3, {"padding": 2, "dilation": 2})],
    "grouped": [(32, 3, {"padding": 1, "groups": 4})],
    "depthwise": [(32, k, {"padding": k // 2, "groups": 32}) for k in (3, 5)],
    "dilated depthwise": [(32, 3, {"padding": 2, "dilation": 2, "groups": 32})],
}
"""For each kind: channels, kernel and settings of the convolutions that it is tried on."""


TRIED_ON = 16
"""Pixels along an axis of the images that the kinds are tried on."""


@cache
def is_right_in_half(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    dilation: tuple[int, ...],
    groups: int,
    *,
    channels_last: bool,
) -> bool:
    """Whether torch's convolution on CPUs, and its gradients, are right in half precision.

    Kinds are tried on one size of images. On smaller ones a kernel reaches beyond the image, and the part of it that
    meets no pixel may be left as the memory was. So each convolution of a network on small images is tried once in a
    process, of its own sizes, which takes about as long as the convolution itself.

    Args:
        shape: of the input.
        kernel: shape of the weight.
        stride, padding, dilation, groups: as `F.conv2d` takes them.
        channels_last: the layout of both.
    """
    settings: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    generator = torch.Generator().manual_seed(0)
    # The trial leaves no trace in what counts operations, draws random numbers, or differentiates around it.
    with _disable_current_modes(), torch.inference_mode(False), torch.enable_grad():
        x, weight = torch.randn(shape, generator=generator), torch.randn(kernel, generator=generator)
        weight *= math.prod(kernel[1:]) ** -0.5
        if channels_last:
            x, weight = (tensor.to(memory_format=torch.channels_last) for tensor in (x, weight))
        expected = _convolution(x, weight, settings, False)()
        torch.full((2 * weight.numel(),), float("nan"))  # freed at once: what memory may hold
        is_right = _agree(expected, _convolution(x, weight, settings, True)())
    if not is_right:
        log.warning(
            "torch's convolution %s of %s in half precision gives wrong numbers on this machine: it is computed in "
            "single precision", list(kernel), list(shape),
        )  # fmt: skip
    return is_right


def problem_of(device: torch.device, precision: Precision) -> str | None:
    """What torch reports when it computes on a device in this precision, as one line; None if both work."""
    half = precision == "bf16-mixed"
    try:
        ones = torch.ones(1, 1, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            (ones @ ones).item()
    except (RuntimeError, AssertionError, TypeError) as error:  # of torch alone: nothing of ours runs above
        return " ".join(str(error).split())
    return None


def self_test(device: torch.device) -> Tuning:
    """What is right and faster on this machine: from the cache, or measured now, which takes some seconds."""
    return _tuning(device.type)


@cache
def _tuning(device_type: str) -> Tuning:
    device = torch.device(device_type)
    name = torch.cuda.get_device_name() if device_type == "cuda" else kernels.processor()
    # Without a compiler, or where it fails once, the kernels are not judged: with one they are measured later.
    has_kernels = device_type == "cpu" and kernels.compiled() is not None
    versions = torch.__version__, sha256(kernels.SOURCE), sha256(Path(__file__)), has_kernels
    key = hashlib.sha256(repr((device_type, name, platform.machine(), *versions)).encode()).hexdigest()[:16]
    path = cache_folder() / f"machine-{key}.json"
    try:
        kept: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in read_json(path).items()}
        return Tuning(**kept)
    except (OSError, ValueError, TypeError):
        pass
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of each operation, as in training: see `Runtime.workers`
    try:
        tuning = measure(device)
    finally:
        torch.set_num_threads(threads)
    with suppress(OSError):  # where the cache cannot be written, every start measures
        write_json(path, asdict(tuning))
    return tuning


def measure(device: torch.device) -> Tuning:
    """Tries everything; see `Tuning`."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        made = torch.randn(*shape, generator=generator).to(device)
        return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

    measured = _gains_of_halves(draw, device)
    half = measured["bf16 plain"] > 1.1
    dtype = torch.bfloat16 if half else torch.float32
    gains = _gains_of_kernels(draw, device, dtype) if device.type == "cpu" and kernels.compiled() is not None else {}
    faster = tuple(name for name, gain in gains.items() if gain > 1)
    x, weight = draw(32, 32, 16, 16), draw(32, 32, 3, 3)
    channels_last = _joined_by_library(x, weight, half)
    if "norm" in faster:  # it works in channels last only, and a gain there may pay for a slower convolution
        channels_last = _joined(x.to(dtype), weight, "own" if convolution_name(3, dtype) in faster else "library")
    contiguous = _joined_by_library(x.contiguous(), weight.contiguous(), half)
    gain_of_layout = _times_faster([(contiguous, channels_last)], device)
    slow = [kind for kind in KINDS if measured[f"bf16 {kind}"] < 0.8]
    if any("depthwise" in name for name in faster):  # the kernels replace slow ones, not wrong ones
        slow = [kind for kind in slow if "depthwise" not in kind or measured[f"bf16 {kind}"] == 0]
    measured |= {**gains, "channels last": gain_of_layout}
    return Tuning(
        precision="bf16-mixed" if half else "32-true",
        layout="channels_last" if gain_of_layout > 0.9 else "contiguous_format",
        kernels=faster,
        in_full_precision=tuple(slow),
        measured={name: round(value, 3) for name, value in measured.items()},
    )


def _gains_of_halves(draw: Callable[..., Tensor], device: torch.device) -> dict[str, float]:
    """For each kind of convolution how many times faster it is in half precision; 0 if that is wrong or impossible."""
    has_half = problem_of(device, "bf16-mixed") is None
    gains: dict[str, float] = {}
    for kind, cases in KINDS.items():
        ways = []
        for channels, size, settings in cases:
            x = draw(32, channels, TRIED_ON, TRIED_ON)
            weight = draw(channels, channels // settings.get("groups", 1), size, size)
            ways.append((_convolution(x, weight, settings, False), _convolution(x, weight, settings, True)))
        gains[f"bf16 {kind}"] = _gain(ways, device) if has_half else 0.0
    return gains


def _gains_of_kernels(draw: Callable[..., Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """How many times faster each kernel is than torch, on tensors of this type, by its name in `Tuning.kernels`."""
    x, scale, offset = draw(32, 32, 16, 16).to(dtype), draw(32), draw(32)
    gains = {
        "norm": _gain([(_norm(x, scale, offset, False), _norm(x, scale, offset, True))], device),
        "pool": _gain([(_pool(x, largest, False), _pool(x, largest, True)) for largest in (0, 1)], device),
    }
    for size in (3, 5, 7):
        weight = draw(32, 1, size, size).to(dtype)
        for stride in (1, 2):
            ways = (_depthwise(x, weight, stride, False), _depthwise(x, weight, stride, True))
            gains[depthwise_name(size, stride)] = _gain([ways], device)
    pairs = [_one_pixel(draw(32, c, n, n).to(dtype), draw(c, c, 1, 1)) for c, n in SIZES]
    gains[POINTWISE] = _gain(pairs, device)
    product: kernels.By = "product" if gains[POINTWISE] > 1 else "library"
    for of in dict.fromkeys((dtype, torch.float32)):  # some convolutions stay in single precision
        for size in (1, 3):
            pairs = []
            for channels, pixels in SIZES:
                x, weight = draw(32, channels, pixels, pixels).to(of), draw(channels, channels, size, size)
                pairs.append((_joined(x, weight, product if size == 1 else "library"), _joined(x, weight, "own")))
            gains[convolution_name(size, of)] = _gain(pairs, device)
    return gains


_Way = Callable[[], tuple[Tensor, ...]]
"""Computes something: an output and its gradients."""


def _with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> _Way:
    inputs = tuple(tensor.detach().requires_grad_() for tensor in inputs)
    slope: list[Tensor] = []

    def work() -> tuple[Tensor, ...]:
        output = function(*inputs)
        if not slope:
            slope.append(torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output).to(output))
        return (output.detach(), *torch.autograd.grad(output, inputs, slope[0]))

    return work


def _convolution(x: Tensor, weight: Tensor, settings: dict[str, int], half: bool) -> _Way:
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            y: Tensor = F.conv2d(x, weight, **settings)  # type: ignore[call-overload]  # torch's stub takes no dict
            return y

    return _with_gradients(forward, x.to(torch.bfloat16) if half else x, weight)


def _norm(x: Tensor, scale: Tensor, offset: Tensor, mine: bool) -> _Way:
    def theirs(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return F.relu(F.batch_norm(x, None, None, scale, offset, training=True))

    def ours(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        return kernels.norm_relu(x, scale, offset, 1e-5, relu=True)

    return _with_gradients(ours if mine else theirs, x, scale, offset)


def _pool(x: Tensor, largest: int, mine: bool) -> _Way:
    def theirs(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 1, 1) if largest else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)

    def ours(x: Tensor) -> Tensor:
        return kernels.pool(x, 3, 1, 1, largest=bool(largest))

    return _with_gradients(ours if mine else theirs, x)


def _depthwise(x: Tensor, weight: Tensor, stride: int, mine: bool) -> _Way:
    padding = weight.shape[-1] // 2

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    def ours(x: Tensor, weight: Tensor) -> Tensor:
        return kernels.depthwise(x, weight, stride, padding, 1)

    return _with_gradients(ours if mine else theirs, x, weight)


def _one_pixel(x: Tensor, weight: Tensor) -> tuple[_Way, _Way]:
    """A convolution with a kernel of one pixel by the library, and as a product."""
    return (
        _with_gradients(lambda x, weight: F.conv2d(x, weight.to(x.dtype)), x, weight),
        _with_gradients(lambda x, weight: kernels.pointwise(x, weight.to(x.dtype)), x, weight),
    )


def _joined(x: Tensor, weight: Tensor, by: kernels.By) -> _Way:
    """ReLU, a convolution and batch norm."""
    settings = (1, 1), (weight.shape[-1] // 2,) * 2, (1, 1), 1
    if by == "own" and not kernels.convolution_fits(x, weight, settings):
        by = "library"

    def work(x: Tensor, weight: Tensor) -> Tensor:
        conv = kernels.Conv(weight if by == "own" else weight.to(x.dtype), settings, True, by)
        return kernels.norm_relu(x, None, None, 1e-5, relu=False, conv=conv)

    return _with_gradients(work, x, weight)


def _joined_by_library(x: Tensor, weight: Tensor, half: bool) -> _Way:
    """The same by torch, of an input of any layout."""

    def work(x: Tensor, weight: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            return F.batch_norm(F.conv2d(F.relu(x), weight, padding=weight.shape[-1] // 2), None, None, training=True)

    return _with_gradients(work, x.to(torch.bfloat16) if half else x, weight)


def _agree(expected: tuple[Tensor, ...], got: tuple[Tensor, ...]) -> bool:
    def near(a: Tensor, b: Tensor) -> bool:
        a, b = a.float(), b.float()
        return bool((a - b).abs().max() <= ERROR * a.abs().max())  # false for NaN

    return all(near(a, b) for a, b in zip(expected, got, strict=True))


def _gain(pairs: list[tuple[_Way, _Way]], device: torch.device) -> float:
    """How many times faster the second ways are; 0 where one of them gives other numbers."""
    return _times_faster(pairs, device) if all(_agree(a(), b()) for a, b in pairs) else 0.0


def _times_faster(pairs: list[tuple[_Way, _Way]], device: torch.device) -> float:
    """Time of the first ways over that of the second."""
    # On a CPU everything runs on this thread, and its own time does not grow when other work has the core.
    fine = time.get_clock_info("thread_time").resolution < 1e-5
    clock = time.thread_time if device.type == "cpu" and fine else time.perf_counter
    totals = [0.0, 0.0]
    for pair in pairs:
        best = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for i, way in enumerate(pair):
                _wait(device)
                began = clock()
                way()
                _wait(device)
                best[i] = min(best[i], clock() - began)
        totals = [total + fastest for total, fastest in zip(totals, best, strict=True)]
    return totals[0] / totals[1]


def _wait(device: torch.device) -> Any:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
