"""Networks as code: what is written has the outputs of what was written, and reads well."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.trees import call, map_tensors, tensors
from supernet.export.writing.code import Written, import_of, write
from supernet.export.writing.tracing import UnwritableError
from supernet.space.choices import Space
from supernet.space.model import build, example_of, option_names
from supernet.spaces import bender, darts, macro, mobilenet, nasbench201, resnet
from tests.spaces_for_tests import elastic, nested
from tests.test_examples import SPACES as EXAMPLES

SMALL: dict[str, Any] = {"num_classes": 3, "input_shape": (1, 8, 8)}
SPACES: dict[str, Callable[[], Space]] = {
    "bender": lambda: bender(filters=2, cells=3, choice_blocks=2, **SMALL),
    "nasbench201": lambda: nasbench201(channels=2, cells_per_stage=1, **SMALL),
    "darts": lambda: darts(channels=2, cells=3, **SMALL),
    "macro": lambda: macro(channels=1, **SMALL),
    "mobilenet": lambda: mobilenet(widths=(8, 16), strides=(1, 2), depths=(1, 2, 3), **SMALL),
    "resnet": lambda: resnet(depths=(1, 2, 4), widths=(2, 3), **SMALL),
}
IMPORTS = "import torch\nfrom torch import Tensor, nn\nfrom torch.nn import functional as F\n\n\n"


def inputs_for(space: Space, number: int = 5) -> Any:
    """Random inputs of the types that the network takes."""
    generator = torch.Generator().manual_seed(3)

    def draw(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            return torch.randn(tensor.shape, generator=generator)
        return torch.randint(0, 2, tensor.shape, generator=generator).to(tensor.dtype)

    return map_tensors(example_of(space, number), draw)


def lively(network: nn.Module) -> nn.Module:
    """Numbers of batch norm away from 1 and 0, where a mistake could hide."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.ndim == 1:
                tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def run(written: Written) -> nn.Module:
    scope: dict[str, Any] = {}
    exec(IMPORTS + written.code, scope)
    network: nn.Module = scope[written.name]()
    network.load_state_dict(written.tensors)
    return network.eval()


@torch.no_grad()
def assert_same(network: nn.Module, inputs: Any, names: dict[str, tuple[str, str]] | None = None) -> Written:
    """Writes a network and compares; returns what was written."""
    written = write(network, map_tensors(inputs, lambda t: t[:3]), names)
    expected, got = call(network, inputs), call(run(written), inputs)
    for a, b in zip(tensors(got), tensors(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    return written


def assert_tidy(folder: Path, texts: dict[str, str]) -> None:
    """Formatted by ruff, without anything unused, and of sound types."""
    for name, text in texts.items():
        imports = "import torch\n" if "torch." in text else ""
        used = "Tensor, nn" if "Tensor" in text else "nn"
        functional = "from torch.nn import functional as F\n" if "F." in text else ""
        (folder / f"{name}.py").write_text(f"{imports}from torch import {used}\n{functional}\n\n{text}\n")
    for command in (
        ["ruff", "format", "--isolated", "--diff"],
        ["ruff", "check", "--isolated", "--select=E4,E7,E9,F,B,I,RET,SIM,UP"],
    ):
        ran = subprocess.run([sys.executable, "-m", *command, str(folder)], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", SPACES)
def test_fifty_random_architectures_of_each_space(name: str, tmp_path: Path) -> None:
    space = SPACES[name]()
    texts = {}
    for number, architecture in enumerate(space.sample_distinct(50, generator=torch.Generator().manual_seed(1))):
        network = lively(build(space, architecture, seed=number))
        written = assert_same(network, inputs_for(space), option_names(space, architecture))
        texts[f"network{number}"] = written.code
        assert "supernet" not in written.code and "Choose" not in written.code and "nn.Identity" not in written.code
    assert_tidy(tmp_path, texts)


@pytest.mark.parametrize("name", [*EXAMPLES, "nested", "elastic"])
def test_networks_of_users(name: str, tmp_path: Path) -> None:
    space = {**EXAMPLES, "nested": nested(), "elastic": elastic()}[name]
    texts = {}
    for number, architecture in enumerate(space.sample_distinct(6, generator=torch.Generator().manual_seed(2))):
        network = lively(build(space, architecture, seed=number))
        texts[f"network{number}"] = assert_same(network, inputs_for(space), option_names(space, architecture)).code
        assert "Choose" not in texts[f"network{number}"] and "class Join" not in texts[f"network{number}"]
    assert_tidy(tmp_path, texts)


def test_types_are_sound(tmp_path: Path) -> None:
    """By mypy --strict, of one network of each space and example."""
    for name, space in {**{name: make() for name, make in SPACES.items()}, **EXAMPLES}.items():
        (architecture,) = space.sample_distinct(1, generator=torch.Generator().manual_seed(5))
        written = write(build(space, architecture, seed=0), inputs_for(space, 3), option_names(space, architecture))
        (tmp_path / f"{name}_network.py").write_text(IMPORTS + written.code)
    command = [sys.executable, "-m", "mypy", "--strict", str(tmp_path)]
    # In the project's folder, where what mypy knows of torch is kept from `make check`.
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    assert ran.returncode == 0, ran.stdout


class Odd(nn.Module):
    """Everything that a forward pass of a user might do. And more."""

    grid: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(4))
        self.register_buffer("grid", torch.rand(1, 1, 6))
        self.mix = nn.ModuleDict({"a": nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"), "b": nn.PReLU(4)})
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.GELU()) for _ in range(4)])
        self.lstm = nn.LSTM(6, 3, batch_first=True, bidirectional=True)
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.encode = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor, pair: list[Tensor]) -> dict[str, Tensor]:
        batch, channels, length = x.shape
        x = x * self.scale.view(-1, 1) + self.grid
        x = self.mix["b"](self.mix["a"](x)) - 0.5 * x
        for layer in self.layers:
            x = layer(x)
        y, (hidden, _) = self.lstm(x)
        z, _ = self.attend(y, y, y, need_weights=False)
        low, high = self.encode(z).chunk(2, dim=1)
        x = torch.cat([low, self.relu(high)], 1) / (1 + pair[0].exp()) ** 2 if length == 6 else x
        x += torch.arange(channels, device=x.device)[:, None] * 0.1
        flat = x.reshape(batch, channels * length)
        best = flat.view(2 * batch, -1).max(dim=1).values.view(batch, 2)
        return {"all": F.softmax(flat, dim=-1), "best": -best, "hidden": hidden.transpose(0, 1).flatten(1)}


def test_what_users_do_in_a_forward_pass() -> None:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(5, 4, 6), "pair": [torch.randn(5, 4, 6)]}
    written = assert_same(Odd().eval(), inputs)
    assert "self.layers = nn.Sequential(" in written.code  # the loop runs them one after the other
    assert "x.shape[0]" in written.code and "channels" not in written.code


class ConvReLU(nn.Sequential):
    """As libraries have it: a class of its own without a forward pass of its own."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(nn.Conv2d(channels_in, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())


class Running(nn.ModuleList):
    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x


class Windows(nn.Module):
    """Attention in windows of 2 x 2 pixels: what its parts get are four windows of each example."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention, self.merge = WindowAttention(dim), nn.Linear(4 * dim, 2 * dim)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        x = x.view(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, C)
        x = self.attention(x, (H // 2) * (W // 2)).reshape(B, H // 2, W // 2, 4 * C)
        return self.merge(self.norm(x)).permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.qkv, self.bias = nn.Linear(dim, 3 * dim), nn.Parameter(torch.rand(1, 1, 4, 4))

    def forward(self, x: Tensor, windows: int) -> Tensor:
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, 2, C // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1)).view(B // windows, windows, 2, N, N) + self.bias
        x = (weights.view(-1, 2, N, N).softmax(-1) @ v).transpose(1, 2)
        return x.reshape(B, N, C)


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(ConvReLU(4, 8), nn.Sequential(ConvReLU(8, 4))),
        ConvReLU(4, 3),
        Running([ConvReLU(4, 8), ConvReLU(8, 8)]),
        nn.Sequential(Windows(4), Windows(8)),
    ],
    ids=["derived from Sequential", "alone", "derived from ModuleList", "windows"],
)
def test_what_libraries_do_in_their_classes(network: nn.Module) -> None:
    torch.manual_seed(0)
    written = assert_same(lively(network), torch.randn(5, 4, 8, 8))
    for number in (1, 2, 7):  # of which none was seen when it was written
        x = torch.randn(number, 4, 8, 8)
        torch.testing.assert_close(run(written)(x), network(x))


def test_a_module_that_no_input_tells_the_number_of_examples_is_refused() -> None:
    class Start(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.rand(1, width))

        def forward(self, number: int) -> Tensor:
            return self.token.expand(number, 4)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start = Start(4)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.start(len(x))

    with pytest.raises(UnwritableError, match="Start uses the number of examples, which no input of it tells"):
        write(Network(), torch.randn(3, 4))


def text_of(space: Space, text: str) -> str:
    architecture = space.parse(text)
    network = build(space, architecture, seed=0)
    return write(network, inputs_for(space, 3), option_names(space, architecture)).code


def test_too_few_examples_to_see_what_depends_on_their_number() -> None:
    with pytest.raises(ValueError, match="expected at least 3 examples, got 2"):
        write(nn.Linear(3, 3), torch.zeros(2, 3))


def test_what_does_nothing_is_left_out() -> None:
    space = nasbench201(channels=2, cells_per_stage=3, **SMALL)
    cell = "edge0-1={} edge0-2=none edge1-2={} edge0-3=skip_connect edge1-3=none edge2-3={}"
    code = text_of(space, cell.format("nor_conv_3x3", "none", "nor_conv_1x1"))
    # Nothing leaves node 1, so its convolution has no use; of node 2 a zero is left, and a convolution of it is none.
    assert "edge0_1" not in code and "edge0_3" not in code and "edge2_3" in code
    assert "x + self.edge2_3(" in code
    assert "*(Graph(4) for _ in range(3))" in code  # equal blocks are one class, and are not listed one by one
    only_skips = text_of(space, cell.format("none", "none", "none"))
    assert "Cell" not in only_skips


def test_blocks_that_differ_in_sizes_are_one_class() -> None:
    code = text_of(SPACES["bender"](), "block1.inputs=last block1.ops=sep3x3 block2.inputs=block1 block2.ops=sep7x7")
    assert "class Sep(nn.Sequential)" in code and "kernel_size // 2" in code
    assert "self.block1_ops_sep3x3 = Sep(" in code and "self.block2_ops_sep7x7 = Sep(" in code
    assert code.count("class ") == len({line for line in code.splitlines() if line.startswith("class ")})
    assert "for cell in self.cells:\n            previous, x = x, cell(x, previous)" in code


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else x


class Writing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        y[:, 0] = 0
        return y


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.other = nn.Sequential(self.one[0], nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.one(x))


class ByNumber(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * (1 + len(x)) ** 2


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (Branching(), "Branching reads values of tensors"),
        (Writing(), "Writing writes into a tensor"),
        (Tied(), "used in two places"),
        (ByNumber(), "not multiples of their number"),
    ],
)
def test_what_cannot_be_written_is_refused(module: nn.Module, why: str) -> None:
    names = list(module.state_dict())
    with pytest.raises(UnwritableError, match=why):
        write(module, torch.randn(3, 4))
    assert list(module.state_dict()) == names and all("forward" not in vars(m) for m in module.modules())


def test_writing_leaves_the_network_as_it_was() -> None:
    space = SPACES["resnet"]()
    network = build(space, space.at(5), seed=0).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert write(network, inputs_for(space)).code == write(network, inputs_for(space)).code
    assert network.training
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


class Clipped(nn.Module):
    """Its path depends on values; what it was made with are attributes."""

    def __init__(self, features: int, limit: float = 1.0) -> None:
        super().__init__()
        self.features, self.limit = features, limit
        self.linear = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.abs().max() > self.limit else x


def test_what_is_no_straight_code_is_imported_from_where_it_lives() -> None:
    network = nn.Sequential(nn.Linear(4, 4), Clipped(4, limit=0.5), nn.ReLU(), Clipped(4)).eval()
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    written = write(network, x[:3])
    assert (
        written.imported == (Clipped,)
        and "Clipped(4, limit=0.5)" in written.code
        and "class Clipped" not in written.code
    )
    assert import_of(Clipped) == ("from test_code import Clipped", Path(__file__).resolve().parent)
    scope: dict[str, Any] = {"nn": nn, "Tensor": Tensor, "Clipped": Clipped}
    exec(written.code, scope)
    again = scope[written.name]()
    again.load_state_dict(written.tensors)
    assert torch.equal(again.eval()(x), network(x))
    with pytest.raises(UnwritableError, match="an attribute of the same name"):
        write(nn.Sequential(nn.Linear(4, 4), Unknown(4)), x[:3])


class Unknown(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.linear = nn.Linear(number, number)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if x.sum() > 0 else x
