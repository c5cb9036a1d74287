from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from supernet.speed import kernels

if kernels.compiled() is None:
    pytest.skip("no C compiler: nothing but torch's own operations to test", allow_module_level=True)

TYPES = st.sampled_from([torch.float32, torch.bfloat16])
CHANNELS = st.sampled_from([8, 16, 24, 40])


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int, *, mean: float = 0.0, spread: float = 1.0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread + mean
    return made.to(dtype).contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made.to(dtype)


def results(function: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """The output, and the gradients of its product with a fixed tensor."""
    inputs = tuple(tensor.detach().clone().requires_grad_() for tensor in inputs)
    output = function(*inputs)
    slope = drawn(tuple(output.shape), torch.bfloat16, 99).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, inputs, slope)]


def assert_near(
    got: list[Tensor], expected: list[Tensor], dtype: torch.dtype, also: list[Tensor] | None = None
) -> None:
    """Against results in double precision, relative to the largest number; or at most twice as far off as `also`."""
    for mine, reference, other in zip(got, expected, also or expected, strict=True):
        scale = reference.abs().max().clamp_min(1e-3)
        allowed = max((1e-2 if dtype == torch.bfloat16 else 1e-4) * scale, 2 * (other.double() - reference).abs().max())
        assert (mine.double() - reference).abs().max() <= allowed


@given(
    st.tuples(st.integers(1, 9), CHANNELS, st.integers(1, 12), st.integers(1, 12)), TYPES, st.booleans(),
    st.integers(0, 99), st.floats(-50, 50),
)  # fmt: skip
@settings(max_examples=60)
def test_norm_relu(shape: tuple[int, int, int, int], dtype: torch.dtype, relu: bool, seed: int, mean: float) -> None:
    if shape[0] * shape[2] * shape[3] < 4:
        shape = (4, *shape[1:])
    x = drawn(shape, dtype, seed, mean=mean if dtype == torch.float32 else mean / 50, spread=2.0)
    scale, offset = drawn((shape[1],), torch.float32, seed + 1), drawn((shape[1],), torch.float32, seed + 2)

    def reference(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        y = F.batch_norm(x, None, None, scale, offset, training=True, eps=1e-3)
        return F.relu(y) if relu else y

    mine = results(lambda x, scale, offset: kernels.norm_relu(x, scale, offset, 1e-3, relu=relu), x, scale, offset)
    theirs = results(reference, x.double(), scale.double(), offset.double())
    if relu:  # where an output is 0 up to rounding the gradient may be cut or not
        edge = (F.batch_norm(x.double(), None, None, scale.double(), offset.double(), True, eps=1e-3)).abs() < 1e-2
        if edge.any():
            mine, theirs = mine[:1], theirs[:1]
    assert mine[0].dtype == dtype and mine[0].is_contiguous(memory_format=torch.channels_last)
    # Of a few pixels far from zero the gradient is what is left of large terms: the library loses digits there, too.
    also = results(reference, x, scale, offset)[: len(mine)] if dtype == torch.float32 else None
    assert_near(mine, theirs, dtype, also)


@given(
    st.integers(2, 5), CHANNELS, CHANNELS, st.sampled_from([(1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 2, 2)]),
    st.integers(1, 2), TYPES, st.booleans(), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40)
def test_a_convolution_before_batch_norm(
    images: int, channels_in: int, channels_out: int, shape: tuple[int, int, int, int], groups: int,
    dtype: torch.dtype, relu: bool, seed: int,
) -> None:  # fmt: skip
    """ReLU only before it: after it, what is zero up to rounding is cut or not."""
    size, stride, padding, dilation = shape
    conv = (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups
    x = drawn((images, channels_in, 7, 6), dtype, seed)
    kernel = drawn((channels_out, channels_in // groups, size, size), dtype, seed + 1)
    scale, offset = drawn((channels_out,), torch.float32, seed + 2), drawn((channels_out,), torch.float32, seed + 3)

    def ours(x: Tensor, kernel: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        before = kernels.Conv(kernel, conv, relu)
        assert kernels.conv_fits(x, before, scale, offset)
        return kernels.norm_relu(x, scale, offset, 1e-3, relu=False, conv=before)

    def reference(x: Tensor, kernel: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        y = F.conv2d(F.relu(x) if relu else x, kernel, None, *conv)
        return F.batch_norm(y, None, None, scale, offset, True, eps=1e-3)

    inputs = (x, kernel, scale, offset)
    mine, theirs = results(ours, *inputs), results(reference, *(tensor.double() for tensor in inputs))
    for a, b in zip(mine, theirs, strict=True):  # three roundings in a row
        assert (a.double() - b).abs().max() <= (4e-2 if dtype == torch.bfloat16 else 1e-3) * b.abs().max()
    if relu:
        assert (mine[1][x <= 0] == 0).all()


@given(
    st.integers(1, 4), st.sampled_from([16, 32, 48]), st.sampled_from([16, 32, 48, 64]), st.integers(1, 6),
    st.sampled_from([8, 16, 24]), st.sampled_from([1, 3]), TYPES, st.booleans(), st.booleans(), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60)
def test_a_convolution_of_our_own(
    images: int, channels_in: int, channels_out: int, height: int, width: int, size: int, dtype: torch.dtype,
    relu: bool, norm: bool, seed: int,
) -> None:  # fmt: skip
    """Alone, and before batch norm without ReLU: after one, what is zero up to rounding is cut or not."""
    if dtype == torch.bfloat16 and not kernels._multiplies_halves():
        return
    conv = ((1, 1), (size // 2,) * 2, (1, 1), 1)
    x = drawn((images, channels_in, height, width), dtype, seed)
    # Halves have to be multiplied as they are: the kernel is in single precision, its numbers are halves.
    kernel = drawn((channels_out, channels_in, size, size), dtype, seed + 1).float()
    scale, offset = drawn((channels_out,), torch.float32, seed + 2), drawn((channels_out,), torch.float32, seed + 3)
    assert kernels.convolution_fits(x, kernel, conv)

    def ours(x: Tensor, kernel: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        if norm:
            before = kernels.Conv(kernel, conv, relu, "own")
            return kernels.norm_relu(x, scale, offset, 1e-3, relu=False, conv=before)
        return kernels.convolution(x, kernel, relu=relu) * scale.view(-1, 1, 1).to(x.dtype)

    def reference(x: Tensor, kernel: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
        y = F.conv2d(F.relu(x) if relu else x, kernel, None, *conv)
        return F.batch_norm(y, None, None, scale, offset, True, eps=1e-3) if norm else y * scale.view(-1, 1, 1)

    inputs = (x, kernel, scale, offset) if norm else (x, kernel, scale)
    mine = results(lambda *given: ours(*given, *[offset][norm:]), *inputs)
    theirs = results(
        lambda *given: reference(*given, *[offset.double()][norm:]), *(tensor.double() for tensor in inputs)
    )
    assert mine[0].dtype == dtype and mine[0].is_contiguous(memory_format=torch.channels_last)
    assert mine[2].dtype == torch.float32
    for a, b in zip(mine, theirs, strict=True):  # three roundings in a row
        assert (a.double() - b).abs().max() <= (4e-2 if dtype == torch.bfloat16 else 1e-3) * b.abs().max()
    if relu:
        assert (mine[1][x <= 0] == 0).all()


@given(
    st.integers(1, 4), st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), TYPES,
    st.integers(0, 99),
)  # fmt: skip
def test_a_convolution_of_one_pixel_as_a_product(
    images: int, channels_in: int, channels_out: int, height: int, width: int, dtype: torch.dtype, seed: int
) -> None:
    x = drawn((images, channels_in, height, width), dtype, seed)
    kernel = drawn((channels_out, channels_in, 1, 1), dtype, seed + 1)
    assert kernels.pointwise_fits(x, kernel, ONE_PIXEL)
    mine = results(kernels.pointwise, x, kernel)
    assert mine[0].dtype == dtype and mine[0].is_contiguous(memory_format=torch.channels_last)
    assert_near(mine, results(F.conv2d, x.double(), kernel.double()), dtype)


def test_which_convolutions_are_products() -> None:
    x, kernel = drawn((2, 6, 4, 5), torch.float32, 0), drawn((3, 6, 1, 1), torch.float32, 1)
    settings = ONE_PIXEL
    assert kernels.pointwise_fits(x, kernel, settings)
    assert not kernels.pointwise_fits(x.contiguous(), kernel, settings)
    assert not kernels.pointwise_fits(x, drawn((3, 6, 1, 2), torch.float32, 1), settings)
    assert not kernels.pointwise_fits(x, drawn((3, 3, 1, 1), torch.float32, 1), settings)
    for other in (((2, 1), *settings[1:]), (settings[0], (0, 1), *settings[2:]), (*settings[:3], 2)):
        assert not kernels.pointwise_fits(x, kernel, other)


@given(st.sampled_from([8, 24]), TYPES, st.booleans(), st.integers(0, 99))
def test_a_product_before_batch_norm(channels: int, dtype: torch.dtype, relu: bool, seed: int) -> None:
    x, kernel = drawn((3, 6, 5, 4), dtype, seed), drawn((channels, 6, 1, 1), dtype, seed + 1)
    scale, offset = drawn((channels,), torch.float32, seed + 2), drawn((channels,), torch.float32, seed + 3)

    def ours(by: kernels.By) -> list[Tensor]:
        def work(x: Tensor, kernel: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
            conv = kernels.Conv(kernel, ONE_PIXEL, relu, by)
            return kernels.norm_relu(x, scale, offset, 1e-3, relu=True, conv=conv)

        return results(work, x, kernel, scale, offset)

    assert_near(ours("product"), [tensor.double() for tensor in ours("library")], dtype)


def test_which_convolutions_are_our_own() -> None:
    x, kernel = drawn((2, 16, 4, 8), torch.float32, 0), drawn((32, 16, 3, 3), torch.float32, 1)
    settings = ((1, 1), (1, 1), (1, 1), 1)
    assert kernels.convolution_fits(x, kernel, settings)
    for other in (
        ((2, 2), *settings[1:]),
        ((1, 1), (0, 0), (1, 1), 1),
        ((1, 1), (1, 1), (2, 2), 1),
        (*settings[:3], 2),
    ):
        assert not kernels.convolution_fits(x, kernel, other)
    assert not kernels.convolution_fits(x[..., :7], kernel, settings)
    assert not kernels.convolution_fits(x, kernel[:24], settings)
    assert not kernels.convolution_fits(x, kernel.bfloat16(), settings)
    assert not kernels.convolution_fits(x.contiguous(), kernel, settings)
    assert not kernels.convolution_fits(x, kernel[..., :1], settings)


def test_a_convolution_of_what_needs_no_gradient() -> None:
    x, kernel = drawn((2, 16, 4, 8), torch.float32, 0), drawn((32, 16, 3, 3), torch.float32, 1).requires_grad_()
    kernels.convolution(x, kernel, relu=True).sum().backward()
    expected = torch.autograd.grad(F.conv2d(F.relu(x), kernel, padding=1).sum(), kernel)[0]
    torch.testing.assert_close(kernel.grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_of_every_kind_of_number(dtype: torch.dtype) -> None:
    x = torch.tensor([0.0, -0.0, 1.5, -1.5, torch.inf, -torch.inf, torch.nan, -torch.nan, 1e-30, -1e-30, 3.0]).to(dtype)
    y, slope = torch.empty_like(x), torch.ones_like(x)
    half = int(dtype == torch.bfloat16)
    kernels._run("relu", x.data_ptr(), y.data_ptr(), len(x), half)
    torch.testing.assert_close(y, F.relu(x), rtol=0, atol=0, equal_nan=True)
    kernels._run("relu_backward", y.data_ptr(), slope.data_ptr(), len(x), half)
    assert torch.equal(slope, (~(x <= 0)).to(dtype))


def test_statistics_of_the_batch() -> None:
    x = drawn((4, 16, 5, 5), torch.float32, 0, mean=3.0)
    found = kernels.norm_relu_statistics(x, None, None, 1e-5, relu=False)
    assert found is not None
    y, (mean, variance) = found
    torch.testing.assert_close(mean, x.mean((0, 2, 3)))
    torch.testing.assert_close(variance, x.var((0, 2, 3), correction=0))
    torch.testing.assert_close(y, F.batch_norm(x, None, None, training=True))


@given(
    st.integers(1, 4), CHANNELS, st.tuples(st.integers(5, 12), st.integers(5, 12)), st.sampled_from([1, 3, 5, 7]),
    st.integers(1, 2), st.integers(1, 2), st.data(), TYPES, st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60)
def test_depthwise(
    images: int, channels: int, size: tuple[int, int], kernel: int, stride: int, dilation: int, data: st.DataObject,
    dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    reach = dilation * (kernel - 1)
    least = max(0, -(-(reach + 1 - min(size)) // 2))
    padding = data.draw(st.integers(least, max(least, reach)))
    if dtype == torch.bfloat16:  # any number of channels
        channels += data.draw(st.integers(-7, 0))
    x, weight = drawn((images, channels, *size), dtype, seed), drawn((channels, 1, kernel, kernel), dtype, seed + 1)
    assert kernels.depthwise_fits(x, weight, (stride,) * 2, (padding,) * 2, (dilation,) * 2)
    mine = results(lambda x, weight: kernels.depthwise(x, weight, stride, padding, dilation), x, weight)

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding, dilation, channels)

    exact, library = results(theirs, x.double(), weight.double()), results(theirs, x, weight)
    # Some of it the library does, which on some processors adds up halves in half precision.
    assert_near(mine, exact, dtype, also=library)


@given(
    st.integers(1, 3), CHANNELS, st.tuples(st.integers(3, 12), st.integers(3, 12)), st.integers(1, 5),
    st.integers(1, 3), st.booleans(), st.data(), TYPES, st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60)
def test_pool(
    images: int, channels: int, size: tuple[int, int], kernel: int, stride: int, largest: bool, data: st.DataObject,
    dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    least = max(0, -(-(kernel - min(size)) // 2))
    padding = data.draw(st.integers(least, max(least, kernel // 2)))
    # A few different numbers, so that several in a window are the largest: the first of them gets the slope.
    x = drawn((images, channels, *size), dtype, seed, spread=2.0)
    x = x.round() if largest else x
    assert kernels.pool_fits(x, kernel, stride, padding)

    def reference(x: Tensor) -> Tensor:
        if largest:
            return F.max_pool2d(x, kernel, stride, padding)
        return F.avg_pool2d(x, kernel, stride, padding, count_include_pad=False)

    mine = results(lambda x: kernels.pool(x, kernel, stride, padding, largest=largest), x)
    assert mine[0].dtype == dtype and mine[0].is_contiguous(memory_format=torch.channels_last)
    assert_near(mine, results(reference, x.double()), dtype)


CONV3, CONV1 = ((1, 1), (1, 1), (1, 1), 1), ((2, 2), (0, 0), (1, 1), 1)
ONE_PIXEL = ((1, 1), (0, 0), (1, 1), 1)


@given(
    st.sampled_from(["norm", "own convolution", "convolution", "product", "pool"]), TYPES, st.booleans(), st.booleans(),
    st.sampled_from(["alike", "other type", "other layout"]), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=80)
def test_what_an_output_is_added_to(
    kind: str, dtype: torch.dtype, relu: bool, largest: bool, onto_is: str, seed: int
) -> None:
    """In the pass that writes it where types and layouts agree, by torch elsewhere: the same sum and gradients."""
    if kind == "own convolution" and dtype == torch.bfloat16 and not kernels._multiplies_halves():
        return
    x, side = drawn((3, 16, 6, 8), dtype, seed), (3, 4) if kind == "convolution" else (6, 8)
    onto = drawn((3, 16, *side), dtype, seed + 1)
    if onto_is == "other type":
        onto = onto.to(torch.bfloat16 if dtype == torch.float32 else torch.float32)
    elif onto_is == "other layout":
        onto = onto.contiguous()
    conv = {
        "own convolution": kernels.Conv(drawn((16, 16, 3, 3), torch.float32, seed + 2), CONV3, relu, "own"),
        "convolution": kernels.Conv(drawn((16, 16, 1, 1), dtype, seed + 2), CONV1, relu),
        "product": kernels.Conv(drawn((16, 16, 1, 1), dtype, seed + 2), ONE_PIXEL, relu, "product"),
    }.get(kind)

    def ours(x: Tensor, onto: Tensor | None) -> Tensor:
        if kind == "pool":
            return kernels.pool(x, 3, 1, 1, largest=largest, onto=onto)
        return kernels.norm_relu(x, None, None, 1e-3, relu=relu and conv is None, conv=conv, onto=onto)

    mine = results(ours, x, onto)
    alone = results(lambda x: ours(x, None), x)
    assert mine[0].dtype == (onto + alone[0]).dtype and mine[2].dtype == onto.dtype
    assert_near(mine[:1], [onto.double() + alone[0].double()], torch.bfloat16)
    slope = drawn(tuple(onto.shape), torch.bfloat16, 99)
    assert torch.equal(mine[2], slope.to(onto.dtype)) and mine[2].shape == onto.shape
    assert_near(mine[1:2], [alone[1].double()], torch.bfloat16)
    with pytest.raises(ValueError, match=r"expected an output of shape \[1, 16, 1, 1\] to add to another, got \[3"):
        ours(x, onto[:1, :, :1, :1])


@pytest.mark.parametrize("largest", [False, True])
def test_a_window_with_no_number_in_it_has_none(largest: bool) -> None:
    x = drawn((1, 8, 5, 5), torch.float32, 0)
    x[0, 3, 0, 0] = torch.nan
    y = kernels.pool(x, 3, 1, 1, largest=largest)
    assert y[0, 3, :2, :2].isnan().all() and y.isnan().sum() == 4


@pytest.mark.parametrize("shape", [(2, 12, 4, 4), (2, 16, 4)])
def test_what_has_no_kernel_is_left_to_torch(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert kernels.norm_relu_statistics(x, None, None, 1e-5, relu=False) is None
    expected = F.relu(F.batch_norm(x, None, None, training=True))
    torch.testing.assert_close(kernels.norm_relu(x, None, None, 1e-5, relu=True), expected, rtol=0, atol=0)


def test_what_is_no_number_stays_none() -> None:
    x = drawn((2, 16, 3, 3), torch.bfloat16, 0)
    x[0, 3, 1, 1] = torch.nan
    y = kernels.norm_relu(x, None, None, 1e-5, relu=True)
    assert y[:, 3].isnan().all() and not y[:, :3].isnan().any()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "compiled", lambda: None)
    x = drawn((2, 16, 3, 3), torch.float32, 0)
    assert kernels.norm_relu_statistics(x, None, None, 1e-5, relu=True) is None
    assert not kernels.depthwise_fits(x, torch.ones(16, 1, 3, 3), (1, 1), (1, 1), (1, 1))
    assert not kernels.pool_fits(x, 3, 1, 1)
    torch.testing.assert_close(
        kernels.norm_relu(x, None, None, 1e-5, relu=False), F.batch_norm(x, None, None, training=True), rtol=0, atol=0
    )


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("SUPERNET_CACHE", str(tmp_path))
    assert kernels.compiled.__wrapped__() is None
