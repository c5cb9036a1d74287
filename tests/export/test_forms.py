"""The files of a network."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from supernet import Choose, load
from supernet.base.files import write_json
from supernet.base.own import load_function
from supernet.data.task import TaskConfig
from supernet.export.forms import Chosen, ExportConfig, write_forms
from supernet.export.reading import FILES
from supernet.program.config import Config
from supernet.program.export import origin_of
from supernet.space.model import build, from_network
from tests.export.cases import SPACES, architectures, images
from tests.export.writing.test_code import lively

NAMED = Config(task=TaskConfig(metric="accuracy"))


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", SPACES)
def test_every_operation_of_every_space_in_every_form(name: str, tmp_path: Path) -> None:
    space, data = SPACES[name](), images()
    for number, architecture in enumerate(architectures(space)):
        network = lively(build(space, architecture, seed=0))
        place = tmp_path / str(number)
        place.mkdir()
        chosen = Chosen(network, architecture, space, {}, "new")
        facts = write_forms(place, chosen, origin_of(NAMED), data, ExportConfig())
        assert facts["parity"]["forms"].keys() == {"python", "torch", "onnx"}
        assert all(row["difference"] < 1e-4 and row["examples"] == 9 for row in facts["parity"]["forms"].values())
        assert sorted(path.name for path in place.iterdir()) == sorted(FILES.values())


@pytest.mark.usefixtures("in_this_process")
def test_a_fixed_batch(tmp_path: Path) -> None:
    space, data = SPACES["nasbench201"](), images()
    architecture = architectures(space)[0]
    chosen = Chosen(lively(build(space, architecture, seed=0)), architecture, space, {}, "new")
    config = ExportConfig(to=("torch", "onnx"), batch=3, opset=20)
    facts = write_forms(tmp_path, chosen, origin_of(NAMED), data, config)
    assert facts["parity"]["sizes"] == [3]
    import onnx

    graph = onnx.load(tmp_path / "network.onnx")
    assert graph.opset_import[0].version == 20
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3


class Titled(OrderedDict[str, Any]):
    """A dict of a class of its own, as libraries return."""


class Titling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> Titled:
        return Titled(logits=self.linear(x.flatten(1)), hidden=None)


@pytest.mark.usefixtures("in_this_process")
def test_outputs_of_a_librarys_class_are_plain_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "metric.py").write_text("def mean(outputs, targets):\n    return float(outputs['logits'].mean())\n")
    space = from_network(lambda: nn.Sequential(Choose("a", {"x": nn.Tanh(), "y": nn.ReLU()}), Titling()), X)
    architecture = space.parse("a=y")
    network = build(space, architecture, seed=0).eval()
    config = Config(task=TaskConfig(metric=f"{tmp_path}/metric.py:mean"))
    chosen = Chosen(network, architecture, space, {}, "new")
    write_forms(tmp_path, chosen, origin_of(config), images(), ExportConfig(to=("torch",)))
    outputs = torch.export.load(tmp_path / FILES["torch"]).module()(X)
    assert type(outputs) is dict and list(outputs) == ["logits"]
    torch.testing.assert_close(outputs["logits"], network(X)["logits"])


X = torch.ones(2, 1, 8, 8)

OWN = """
from torch import nn

from supernet import Choose


class Clipped(nn.Module):
    def __init__(self, features, limit=1.0):
        super().__init__()
        self.features, self.limit = features, limit
        self.linear = nn.Linear(features, features)

    def forward(self, x):
        return self.linear(x) if x.abs().max() > self.limit else x


def make():
    head = Choose("head", {"plain": nn.Linear(64, 3), "deep": nn.Sequential(nn.Linear(64, 5), nn.Linear(5, 3))})
    return nn.Sequential(nn.Flatten(), head, Clipped(3, limit=1e-9))
"""


def test_a_module_of_the_users_is_imported_from_where_it_lives(tmp_path: Path) -> None:
    (tmp_path / "own_modules.py").write_text(OWN)
    make = load_function(f"{tmp_path}/own_modules.py:make")
    space = from_network(make, torch.zeros(1, 1, 8, 8), check=False)  # its path depends on values, which shapes lack
    architecture = space.parse("head=deep")
    network = build(space, architecture, seed=0).eval()
    place = tmp_path / "out"
    place.mkdir()
    chosen = Chosen(network, architecture, space, {}, "new")
    facts = write_forms(place, chosen, origin_of(NAMED), images(), ExportConfig(to=("python", "safetensors")))
    assert facts["imports"] == [str(tmp_path)]
    text = (place / "network.py").read_text()
    assert "from own_modules import Clipped" in text and "Clipped(3, limit=1e-09)" in text
    write_json(place / "export.json", facts)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(load(place)(x), network(x))
    assert str(tmp_path) not in sys.path
