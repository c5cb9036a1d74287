"""The examples: shortened runs, and what holds for every space."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.base import trees
from supernet.base.files import read_json
from supernet.base.trees import call
from supernet.data.sources import DataConfig
from supernet.data.splits import load
from supernet.program.commands import main
from supernet.program.config import SpaceConfig, make_space
from supernet.program.load import load as load_network
from supernet.space.choices import Space
from supernet.space.cost import cost_table, measure
from supernet.space.layers import OneShot
from supernet.space.model import build, example_of, extract
from tests.reference import uniformity

FOLDER = Path(__file__).parent.parent / "examples"
ENUMERATED = {"image": {}, "tabular": {}, "sequence": {}, "vit": {"blocks": 2}}
SHORT = ("--train.steps=6", "--train.checkpoint_seconds=999", "--retrain.train.steps=4", "--search.candidates=6")
OPTIONS = {
    "image": ("--data=digits",),
    "tabular": (
        f"--data={FOLDER}/tabular.py:make_data", "--task.loss=mse", "--task.metric=r2", "--train.batch_size=64",
        "--search.ghost_size=16",
    ),
    "sequence": (f"--data={FOLDER}/sequence.py:make_data",),
    "vit": ("--data=digits",),
}  # fmt: skip


def space_of(name: str, **settings: Any) -> Space:
    inputs = {"tabular": "float32 10", "sequence": {"tokens": "int64 32", "mask": "bool 32"}}.get(name, "float32 1 8 8")
    classes = {"tabular": 0, "sequence": 2}.get(name, 10)
    return make_space(SpaceConfig(name=f"{FOLDER / name}.py:make_network", settings=settings), classes, inputs)


SPACES = {name: space_of(name) for name in OPTIONS}
table_of = cache(cost_table)


@cache
def model_of(space: Space) -> OneShot:
    return build(space, seed=1).eval().double()


def inputs_of(space: Space, number: int) -> Any:
    """Random inputs of the types that the network takes."""
    generator = torch.Generator().manual_seed(5)

    def draw(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point():
            return torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.dtype is torch.bool:
            return torch.rand(tensor.shape, generator=generator) < 0.8
        return torch.randint(0, 8, tensor.shape, generator=generator)

    return trees.map_tensors(example_of(space, number), draw)


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=15)
@given(st.data())
def test_one_architecture_live_equals_the_stand_alone_network(name: str, data: st.DataObject) -> None:
    model = model_of(SPACES[name])
    architecture = model.space.at(data.draw(st.integers(0, model.space.size - 1)))
    assert model.space.parse(str(architecture)) == architecture
    inputs = inputs_of(model.space, 4)
    network = extract(model, architecture).eval()
    for module in network.modules():  # the statistics of this batch, as in the one-shot model; no dropout
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.train()
    torch.testing.assert_close(model(inputs, model.space.live([architecture])), call(network, inputs))


@pytest.mark.parametrize("name", OPTIONS)
@settings(max_examples=8)
@given(st.data())
def test_costs_by_sums_equal_measured_ones(name: str, data: st.DataObject) -> None:
    space = SPACES[name]
    architecture = space.at(data.draw(st.integers(0, space.size - 1)))
    assert table_of(space).cost(architecture) == measure(build(space, architecture, seed=0), example_of(space, 1))


@pytest.mark.parametrize(("name", "changes"), ENUMERATED.items())
def test_sampling_is_uniform(name: str, changes: dict[str, int]) -> None:
    """Chi-square over all architectures: a right sampler fails with a chance of 1e-6, and the seed is fixed."""
    assert uniformity(space_of(name, **changes), 8, seed=7) > 1e-6


@pytest.mark.parametrize("name", OPTIONS)
def test_a_shortened_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["run", f"--model={FOLDER / name}.py:make_network", *OPTIONS[name], *SHORT, "--out", str(out), "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["groups"].keys() == {"Top", "Small", "Random", "Reference"}
    assert len(result["networks"]) >= 3
    assert all(len(row["test"]) == 1 for row in result["networks"])
    known = read_json(out / "data.json")
    network = load_network(out)
    outputs = call(network, trees.zeros(known["inputs"], 3))
    assert outputs.shape == (3, len(known["classes"]) or 1)


def test_the_image_example_is_short() -> None:
    lines = (FOLDER / "image.py").read_text().partition('"""\n\nfrom')[2].splitlines()
    assert len([line for line in lines if line.strip()]) <= 30
    kinds = {choice.kind for choice in SPACES["image"].choices}
    assert kinds == {"paths", "value"} and len(SPACES["image"].choices) >= 4


def test_the_sequences_are_what_they_say() -> None:
    data = load(DataConfig(name=f"{FOLDER}/sequence.py:make_data", validation=None), seed=0)
    assert data.inputs == {"tokens": "int64 32", "mask": "bool 32"} and data.classes == ("0", "1")
    tokens, mask = data.train.examples["tokens"], data.train.examples["mask"]
    assert torch.equal(tokens > 0, mask)
    for row, which in zip(tokens[:200].tolist(), data.train.targets[:200].tolist(), strict=True):
        places = [next(i for i in range(30) if row[i : i + 3] == list(motif)) for motif in ((1, 2, 3), (3, 2, 1))]
        assert (places[0] > places[1]) == which
