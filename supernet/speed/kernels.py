"""Kernels for CPUs that are faster than the library's: convolutions of few channels with the ReLU before and the batch
norm after them, ReLU, batch norm, pools, gradients of depthwise convolutions.

`kernels.c` is compiled once for each kind of processor. Every function here computes the same as an operation of torch,
which is its reference in the tests. It calls that operation if there is no compiler, or no kernel for the tensors:
another device or layout, or a number of channels that is not a multiple of 8.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from supernet.base.files import cache_folder, sha256, write_atomically
from supernet.speed.sums import plus

log = logging.getLogger(__name__)

_FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC")
SOURCE = Path(__file__).with_name("kernels.c")

_LANES = 8
"""The number of channels has to be a multiple of it."""

_MOST_KERNEL = 7
"""Largest kernel of a depthwise convolution; as in kernels.c."""

TYPES = {"p": ctypes.c_void_p, "l": ctypes.c_long, "i": ctypes.c_int, "f": ctypes.c_float}
ARGUMENTS = {
    "relu": "ppli",
    "relu_backward": "ppli",
    "norm_relu": "pppllppfppii",
    "norm_relu_backward": "pppllppfppppii",
    "pool": "pppplllllliiiii",
    "pool_backward": "ppplllllliiiii",
    "depthwise_weight_gradient": "ppplllllliiiii",
    "conv_norm": "pppppllllliippfppii",
    "conv_norm_backward": "ppppppllllliippfppppii",
    "multiplies_halves": "",
}
"""Types of the arguments of each function of kernels.c."""

_ALLOCATING = ("pool", "pool_backward", "depthwise_weight_gradient", "conv_norm", "conv_norm_backward")
"""The functions that return whether there was enough memory."""

_MOST_WINDOW = 15
"""Largest window of a pooling: the place of a number in it has to fit a byte."""


@cache
def compiled() -> ctypes.CDLL | None:
    """The compiled kernels; None if there is no compiler, or it fails, which the log says."""
    compiler = _compiler()
    if compiler is None:
        log.info("no C compiler: the project's kernels are not used, and CPUs are slower")
        return None
    try:
        kernels = _kept(compiler) or _made(compiler)
        for name, arguments in ARGUMENTS.items():
            getattr(kernels, name).argtypes = [TYPES[letter] for letter in arguments]
            getattr(kernels, name).restype = ctypes.c_int if name in (*_ALLOCATING, "multiplies_halves") else None
        return kernels
    except (OSError, subprocess.SubprocessError) as error:
        reason = " ".join(str(error).split())
        log.warning("the project's kernels cannot be compiled (%s): torch's operations are used this time", reason)
        return None


def _compiler() -> list[str] | None:
    """The words that call the C compiler; None if there is none."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        compiler = ["cc"]
    return None if shutil.which(compiler[0]) is None else compiler


def _key(compiler: list[str]) -> str:
    return hashlib.sha256(repr((sha256(SOURCE), compiler, _FLAGS, processor())).encode()).hexdigest()[:16]


def _kept(compiler: list[str]) -> ctypes.CDLL | None:
    """The kernels in the cache; None if there are none that may be loaded."""
    libraries = map(_load_library, sorted(cache_folder().glob(f"kernels-{_key(compiler)}-*.so")))
    return next((library for library in libraries if library is not None), None)


def _load_library(path: Path) -> ctypes.CDLL | None:
    """A library of the cache, whose name ends with the SHA-256 of its content; None if it may not be loaded.

    Code that is loaded can do everything, and a cache may be shared: the file has to belong to this user or the
    system's administrator, writable by no other, and to be whole. A library that is cut off would end the process.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if hasattr(os, "geteuid") and (status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o022):
            log.warning("%s is not loaded: another user owns it or may write it; kernels are compiled anew", path)
            return None
        if not path.stem.endswith(f"-{_digest(file.read())}"):
            log.warning("%s is damaged: kernels are compiled anew", path)
            return None
        # The file that was looked at, even if another one has its name by now. It stays open: the system takes a
        # library by its name for one that is loaded, and this name has the number of the open file in it.
        opened = Path(f"/proc/self/fd/{os.dup(file.fileno())}")
        return ctypes.CDLL(str(opened if opened.exists() else path))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _made(compiler: list[str]) -> ctypes.CDLL:
    """Compiles the kernels, and keeps them in the cache where that can be written.

    Raises:
        OSError, subprocess.SubprocessError: they cannot be compiled or loaded.
    """
    with tempfile.TemporaryDirectory(prefix="supernet-kernels-", dir=_place()) as folder:
        made = Path(folder) / "kernels.so"
        command = [*compiler, *_FLAGS, str(SOURCE), "-o", str(made), "-lm"]
        environment = {**os.environ, "TMPDIR": folder}  # the folder for temporary files may be full
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
        content = made.read_bytes()
        path = cache_folder() / f"kernels-{_key(compiler)}-{_digest(content)}.so"

        def write(file: IO[bytes]) -> None:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)

        try:
            write_atomically(path, write)
            library = _load_library(path)
        except OSError:  # the cache cannot be written, or holds nothing that is executed
            library = None
        return library or ctypes.CDLL(str(made))


def _place() -> Path | None:
    """The folder of the cache, if files can be made in it; None for that of temporary files."""
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache_folder()):
            return cache_folder()
    except OSError:
        return None


def processor() -> str:
    """What `-march=native` depends on: a cache folder may be shared by machines of several kinds."""
    return _of_processor("flags", "Features") or f"{platform.machine()} {platform.processor()}"


def processor_name() -> str:
    """The name of the processor; its kind if the system has no name for it."""
    return _of_processor("model name").partition(":")[2].strip() or platform.processor() or platform.machine()


def _of_processor(*starts: str) -> str:
    """The first line of Linux's description of the processor that begins with one of these; empty if there is none."""
    try:
        return next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(starts))
    except (OSError, StopIteration):
        return ""


By = Literal["library", "own", "product"]
"""What computes a convolution: see `Conv`."""


@dataclass(frozen=True, slots=True)
class Conv:
    """A convolution without an offset, and the ReLU before it where `relu` is set.

    Attributes:
        weight: [O, C / groups, K, L].
        settings: stride, padding, dilation and groups, as `F.conv2d` takes them.
        relu: whether ReLU comes before the convolution.
        by: what computes it: the library's convolution; "own" kernels, if `convolution_fits`; or "product", if
            `pointwise_fits`.
    """

    weight: Tensor
    settings: tuple[Any, ...]
    relu: bool
    by: By = "library"


def conv_fits(x: Tensor, conv: Conv, weight: Tensor | None, bias: Tensor | None) -> bool:
    """Whether there is a kernel for this convolution of `x` followed by batch norm with these scales and offsets."""
    typed = conv.by == "own" or (_fits(x) and len(conv.weight) % _LANES == 0 and conv.weight.dtype == x.dtype)
    return typed and _plain(weight) and _plain(bias)


def convolution_fits(x: Tensor, weight: Tensor, settings: tuple[Any, ...]) -> bool:
    """Whether `convolution` has a kernel for these tensors; `settings` are those of `Conv`."""
    out, channels, *size = weight.shape
    padding = (size[0] // 2,) * 2
    return (
        _fits(x)
        and size in ([1, 1], [3, 3])
        and settings == ((1, 1), padding, (1, 1), 1)
        and channels == x.shape[1]
        and channels % 16 == out % 16 == x.shape[3] % 8 == 0
        and weight.dtype == torch.float32
        and weight.device == x.device
        and (x.dtype == torch.float32 or _multiplies_halves())
    )


def convolution(x: Tensor, weight: Tensor, *, relu: bool) -> Tensor:
    """A convolution of stride 1 that keeps the size, optionally with ReLU before it; without an offset.

    Args:
        x: [N, C, H, W].
        weight: float32 [O, C, K, K]; `convolution_fits` has to be true; its gradient is in single precision too.
        relu: whether negative numbers of `x` count as 0.
    """
    z: Tensor = _Convolution.apply(x, weight, relu, None, None, None, False, None)  # type: ignore[no-untyped-call]  # torch's stub lacks its types
    return z


def pointwise_fits(x: Tensor, weight: Tensor, settings: tuple[Any, ...]) -> bool:
    """Whether `pointwise` does this convolution of `x`; `settings` are those of `Conv`."""
    return (
        weight.shape[2:] == (1, 1)
        and settings == ((1, 1), (0, 0), (1, 1), 1)
        and weight.shape[1] == x.shape[1]
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """A convolution with a kernel of one pixel as the product of matrices that it is in channels-last layout.

    Args:
        x: [N, C, H, W].
        weight: [O, C, 1, 1]; `pointwise_fits` has to be true.
    """
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def norm_relu(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    relu: bool,
    conv: Conv | None = None,
    onto: Tensor | None = None,
) -> Tensor:
    """Batch norm with the statistics of the batch, optionally followed by ReLU.

    Args:
        x: [N, C, H, W].
        weight: scales, float32 [C].
        bias: offsets, float32 [C].
        eps: added to the variance.
        relu: whether negative outputs become 0.
        conv: what comes before batch norm; see `norm_relu_statistics`.
        onto: what the output is added to, of its shape.
    """
    result = norm_relu_statistics(x, weight, bias, eps, relu=relu, conv=conv, onto=onto)
    if result is not None:
        return result[0]
    if conv is not None:
        x = _convolved(F.relu(x) if conv.relu else x, conv)
    y = F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    return plus(onto, F.relu(y) if relu else y)


def norm_relu_statistics(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    relu: bool,
    conv: Conv | None = None,
    onto: Tensor | None = None,
) -> tuple[Tensor, Tensor] | None:
    """`norm_relu`, and mean and variance (of the batch, not corrected) as [2, C]; None if there is no kernel.

    `conv`, for which `conv_fits` has to be true, comes first, and the whole is one step of automatic differentiation.
    If the library computes the convolution, ReLU's gradient is cut off in the tensor that the library returns.
    """
    result: tuple[Tensor, Tensor]
    if conv is not None and conv.by == "own":
        result = _Convolution.apply(  # type: ignore[no-untyped-call]  # torch's stub lacks its types
            x, conv.weight, conv.relu, weight, bias, eps, relu, onto
        )
        return result
    if not (_fits(x) and _plain(weight) and _plain(bias)):
        return None
    before = (None, None) if conv is None else (conv.weight, conv)
    result = _NormRelu.apply(x, weight, bias, eps, relu, *before, onto)  # type: ignore[no-untyped-call]  # torch's stub lacks its types
    return result


def depthwise_fits(x: Tensor, weight: Tensor, stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...]) -> bool:
    """Whether `depthwise` has a kernel for these tensors and settings; in half precision for any number of channels."""
    height, width = weight.shape[2:]
    return (
        _fits(x, x.shape[1] % _LANES if x.dtype == torch.bfloat16 else 0)
        and height == width <= _MOST_KERNEL
        and stride[0] == stride[1]
        and dilation[0] == dilation[1]
        and not isinstance(padding, str)
        and padding[0] == padding[1] <= dilation[0] * (width - 1)
    )


def depthwise(x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    """A depthwise convolution: forward as the library does it, its gradients by what is faster.

    The gradient of the input is a forward convolution with the kernel turned round.

    Args:
        x: [N, C, H, W]; `depthwise_fits` has to be true.
        weight: [C, 1, K, K], of the type of `x`.
        stride: of both axes.
        padding: of both axes, at both ends.
        dilation: of both axes.
    """
    y: Tensor = _Depthwise.apply(x, weight, stride, padding, dilation)  # type: ignore[no-untyped-call]  # torch's stub lacks its types
    return y


def pool_fits(x: Tensor, kernel: int, stride: int, padding: int) -> bool:
    """Whether `pool` has a kernel for this tensor and these settings."""
    return _fits(x) and 2 * padding <= kernel <= _MOST_WINDOW and min(x.shape[2:]) + 2 * padding >= kernel


def pool(x: Tensor, kernel: int, stride: int, padding: int, *, largest: bool, onto: Tensor | None = None) -> Tensor:
    """The largest number in each window, or the mean of its part inside the image; padding counts for neither.

    Args:
        x: [N, C, H, W]; `pool_fits` has to be true.
        kernel: size of the window along both axes.
        stride: of both axes.
        padding: of both axes, at both ends.
        largest: whether to take the largest number in place of the mean.
        onto: what the output is added to, of its shape.
    """
    y: Tensor = _Pool.apply(x, kernel, stride, padding, largest, onto)  # type: ignore[no-untyped-call]  # torch's stub lacks its types
    return y


def _fits(x: Tensor, over: int = 0) -> bool:
    """Whether the kernels take a tensor; `over` is by how many channels it may be beyond a multiple of `_LANES`."""
    return (
        x.device.type == "cpu"
        and x.ndim == 4
        and x.shape[1] % _LANES == over
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and x.is_contiguous(memory_format=torch.channels_last)
        and compiled() is not None
    )


@cache
def _multiplies_halves() -> bool:
    kernels = compiled()
    return kernels is not None and bool(kernels.multiplies_halves())


def _plain(parameter: Tensor | None) -> bool:
    return parameter is None or (parameter.dtype == torch.float32 and parameter.is_contiguous())


def _empty(like: Tensor, *shape: int) -> Tensor:
    """Memory for a tensor of a shape in channels-last layout."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _like(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor in this type, in channels-last layout.

    Each call of torch releases Python's lock, and getting it back may mean waiting for another thread, so calls that
    would do nothing are left out.
    """
    if tensor.dtype != dtype:
        tensor = tensor.to(dtype)
    if not tensor.is_contiguous(memory_format=torch.channels_last):
        tensor = tensor.contiguous(memory_format=torch.channels_last)
    return tensor


def _taken(onto: Tensor | None, like: Tensor) -> Tensor | None:
    """`onto`, if a kernel can add its output (which is like `like`) to it as it writes; else None: `plus` adds it."""
    if onto is None or onto.shape != like.shape or onto.dtype != like.dtype:
        return None
    return onto if onto.is_contiguous(memory_format=torch.channels_last) else None


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _rows(moments: Tensor | None) -> tuple[int | None, int | None]:
    """The addresses of mean and variance, in float32 [2, C]."""
    if moments is None:
        return None, None
    start = moments.data_ptr()
    return start, start + 4 * moments.shape[1]


def _run(name: str, *arguments: Any) -> None:
    kernels = compiled()
    assert kernels is not None, "_fits was not called"
    if not getattr(kernels, name)(*arguments) and name in _ALLOCATING:
        raise MemoryError(f"no memory for {name} with {arguments}")


class _NormRelu(torch.autograd.Function):
    """Batch norm, optionally with ReLU after it, and with a convolution by the library and its ReLU before it.

    Returns the output and its moments (mean and variance), float32 [2, C], which have no gradient. The output of ReLU
    is not kept: the backward pass computes from input and moments what ReLU cut off. The gradients of a convolution
    before it (`kernel`, described by `conv`) are computed here too, so that ReLU's gradient can be cut off in place in
    the tensor that the library returns. `onto` is added to the output as it is written; its gradient is the slope.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        relu: bool,
        kernel: Tensor | None,
        conv: Conv | None,
        onto: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        half = int(x.dtype == torch.bfloat16)
        source = None
        if conv is not None:
            source = x
            if conv.relu:
                source = torch.empty_like(x)
                _run("relu", _pointer(x), _pointer(source), x.numel(), half)
            x = _like(_convolved(source, conv), x.dtype)
        channels = x.shape[1]
        y, moments = torch.empty_like(x), x.new_empty(2, channels, dtype=torch.float32)
        taken = _taken(onto, y)
        _run(
            "norm_relu",
            _pointer(x), _pointer(taken), _pointer(y), x.numel() // channels, channels,
            _pointer(weight), _pointer(bias), eps, *_rows(moments), int(relu), half,
        )  # fmt: skip
        ctx.save_for_backward(x, weight, bias, moments, source, kernel)
        ctx.eps, ctx.relu, ctx.conv = eps, relu, None if conv is None else (*conv.settings, conv.relu, conv.by)
        ctx.mark_non_differentiable(moments)
        ctx.set_materialize_grads(False)
        return y if taken is not None else plus(onto, y), moments

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None, *_: Tensor | None) -> Any:
        if slope is None:
            return (None,) * 8
        x, weight, bias, moments, source, kernel = ctx.saved_tensors
        channels, half = x.shape[1], int(x.dtype == torch.bfloat16)
        dy = _like(slope, x.dtype)
        dz = torch.empty_like(x)
        dscales = [None if of is None else torch.empty_like(of) for of in (weight, bias)]
        _run(
            "norm_relu_backward",
            _pointer(x), _pointer(dy), _pointer(dz), x.numel() // channels, channels, _pointer(weight),
            _pointer(bias), ctx.eps, *_rows(moments), *map(_pointer, dscales), int(ctx.relu), half,
        )  # fmt: skip
        dx: Tensor | None = dz
        dkernel = None
        if ctx.conv is not None:
            *settings, groups, relu, by = ctx.conv
            needed = [ctx.needs_input_grad[0], ctx.needs_input_grad[5], False]
            if by == "product":
                dx, dkernel = _pointwise_gradients(dz, source, kernel, needed)
            else:
                dx, dkernel, _ = torch.ops.aten.convolution_backward(
                    dz, source, kernel, None, *settings, False, [0, 0], groups, needed
                )
            if relu and dx is not None:
                dx = _like(dx, x.dtype)
                _run("relu_backward", _pointer(source), _pointer(dx), dx.numel(), half)
        return dx, *dscales, None, None, dkernel, None, slope if ctx.needs_input_grad[7] else None


def _convolved(x: Tensor, conv: Conv) -> Tensor:
    if conv.by == "product":
        return pointwise(x, conv.weight)
    return F.conv2d(x, conv.weight, None, *conv.settings)


def _pointwise_gradients(dy: Tensor, x: Tensor, weight: Tensor, needed: list[bool]) -> list[Tensor | None]:
    """Of `pointwise`, to `x` and `weight`."""
    dy, x = dy.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)
    dx = (dy @ weight.flatten(1)).permute(0, 3, 1, 2) if needed[0] else None
    dweight = (dy.flatten(0, 2).T @ x.flatten(0, 2)).view_as(weight) if needed[1] else None
    return [dx, dweight]


class _Convolution(torch.autograd.Function):
    """A convolution by the project's kernel, optionally with ReLU before it and with batch norm and ReLU after it.

    Batch norm comes after it if `eps` is not None; then the result is the output and its moments, float32 [2, C]. The
    output before batch norm is kept for the backward pass, which computes batch norm's slopes row by row from it and
    never writes them to memory as a whole. `onto` is added to the output as it is written; its gradient is the slope.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        kernel: Tensor,
        relu: bool,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float | None,
        relu_after: bool,
        onto: Tensor | None,
    ) -> Any:
        images, channels, height, width = x.shape
        out, _, size, _ = kernel.shape
        kernel = _like(kernel, kernel.dtype)
        z = _empty(x, images, out, height, width)
        y, moments = (None, None) if eps is None else (torch.empty_like(z), x.new_empty(2, out, dtype=torch.float32))
        ctx.shape = images, height, width, channels, out, size, relu
        ctx.eps, ctx.relu_after, half = eps or 0.0, relu_after, x.dtype == torch.bfloat16
        taken = _taken(onto, z)
        _run(
            "conv_norm",
            x.data_ptr(), kernel.data_ptr(), _pointer(taken), z.data_ptr(), _pointer(y),
            *ctx.shape, _pointer(weight), _pointer(bias), ctx.eps, *_rows(moments), relu_after, half,
        )  # fmt: skip
        ctx.set_materialize_grads(False)
        if y is None:
            ctx.save_for_backward(x, kernel, None, None, None, None)
            return z
        ctx.save_for_backward(x, kernel, z, weight, bias, moments)
        ctx.mark_non_differentiable(moments)
        return y if taken is not None else plus(onto, y), moments

    @staticmethod
    def backward(ctx: Any, slope: Tensor | None, *_: Tensor | None) -> Any:
        if slope is None:
            return (None,) * 8
        x, kernel, z, weight, bias, moments = ctx.saved_tensors
        dy = _like(slope, x.dtype)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dkernel = torch.empty_like(kernel)
        dscales = [None if of is None else torch.empty_like(of) for of in (weight, bias)]
        _run(
            "conv_norm_backward",
            x.data_ptr(), kernel.data_ptr(), _pointer(z), dy.data_ptr(), _pointer(dx), dkernel.data_ptr(), *ctx.shape,
            _pointer(weight), _pointer(bias), ctx.eps, *_rows(moments), *map(_pointer, dscales),
            ctx.relu_after, x.dtype == torch.bfloat16,
        )  # fmt: skip
        return dx, dkernel, None, *dscales, None, None, slope if ctx.needs_input_grad[7] else None


class _Pool(torch.autograd.Function):
    """The largest number or the mean of each window.

    For the largest number the forward pass keeps its place in the window, one byte each; for the mean it keeps nothing,
    since the gradient follows from the sizes. `onto` is added to the output as it is written.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: int, stride: int, padding: int, largest: bool, onto: Tensor | None
    ) -> Tensor:
        images, channels, height, width = x.shape
        out = [(length + 2 * padding - kernel) // stride + 1 for length in (height, width)]
        y = _empty(x, images, channels, *out)
        places = x.new_empty(y.numel(), dtype=torch.uint8) if largest else None
        ctx.save_for_backward(places)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.settings = (images, height, width, channels, *out, kernel, stride, padding, int(largest))
        half, taken = int(x.dtype == torch.bfloat16), _taken(onto, y)
        _run("pool", _pointer(x), _pointer(taken), _pointer(y), _pointer(places), *ctx.settings, half)
        return y if taken is not None else plus(onto, y)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        (places,) = ctx.saved_tensors
        dy = _like(slope, ctx.dtype)
        dx = _empty(dy, *ctx.shape)
        half = int(dy.dtype == torch.bfloat16)
        _run("pool_backward", _pointer(dy), _pointer(places), _pointer(dx), *ctx.settings, half)
        return dx, None, None, None, None, slope if ctx.needs_input_grad[5] else None


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution: forward by the library, the gradient of the weights by the project's kernel.

    The gradient of the input is a convolution of the slopes with the kernel turned by 180 degrees: the library's
    forward pass is faster than its backward pass. The kernels work on a multiple of `_LANES` channels, so that some of
    zeros are added where others are left over. For a stride above 1 there are zeros between the slopes; that is 9 to
    26 times faster in half precision, and no faster in single.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = stride, padding, dilation
        return F.conv2d(x, weight, None, stride, padding, dilation, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        stride, padding, dilation = ctx.settings
        dy = _like(dy, x.dtype)
        dx = dweight = None
        channels, missing = x.shape[1], -x.shape[1] % _LANES
        if missing:
            x, dy = _wider(x, missing), _wider(dy, missing)
            weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, missing))
        if ctx.needs_input_grad[0]:
            dx = _input_gradient(x, weight, dy, stride, padding, dilation)[:, :channels]
        if ctx.needs_input_grad[1]:
            dweight = _weight_gradient(x, weight, dy, stride, padding, dilation)[:channels]
        return dx, dweight, None, None, None


def _wider(x: Tensor, channels: int) -> Tensor:
    """A tensor in channels-last layout with more channels, of zeros."""
    return F.pad(x.permute(0, 2, 3, 1), (0, channels)).permute(0, 3, 1, 2)


def _input_gradient(x: Tensor, weight: Tensor, dy: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    channels, _, size, _ = weight.shape
    reach = dilation * (size - 1)
    if stride > 1 and x.dtype != torch.bfloat16:
        gradient: Tensor = torch.ops.aten.convolution_backward(
            dy, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], channels,
            [True, False, False],
        )[0]  # fmt: skip
        return gradient
    if stride > 1:  # those of a convolution of stride 1, of which the other outputs do not matter
        height, width = (length + 2 * padding - reach for length in x.shape[2:])
        apart = _empty(dy, len(x), channels, height, width).zero_()
        apart[:, :, ::stride, ::stride] = dy
        dy = apart
    return F.conv2d(dy, weight.flip(2, 3), None, 1, reach - padding, dilation, groups=channels)


def _weight_gradient(x: Tensor, weight: Tensor, dy: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    images, channels, height, width = x.shape
    size, (out_height, out_width) = weight.shape[-1], dy.shape[2:]
    gradient = x.new_empty(size, size, channels, dtype=torch.float32)
    _run(
        "depthwise_weight_gradient",
        _pointer(x), _pointer(dy), _pointer(gradient), images, height, width, channels, out_height, out_width,
        size, stride, padding, dilation, int(x.dtype == torch.bfloat16),
    )  # fmt: skip
    return gradient.permute(2, 0, 1).unsqueeze(1).to(weight.dtype)
