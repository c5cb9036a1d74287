"""Exports: what is written, that it agrees, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

from supernet import load
from supernet.base.files import write_json
from supernet.base.own import load_function
from supernet.data.splits import Data, from_arrays, prepare
from supernet.export import forms as exporting
from supernet.export import gate, parity
from supernet.export.forms import Chosen, ExportConfig, write_forms
from supernet.export.hub import push
from supernet.export.inherited import inherit
from supernet.export.reading import FILES, ExportError
from supernet.export.writing.code import write
from supernet.export.writing.folding import fold
from supernet.program import export
from supernet.program.commands import main
from supernet.program.config import Config
from supernet.program.export import origin_of
from supernet.program.folder import open_run
from supernet.program.load import load_one_shot, load_run
from supernet.retrain.trainings import evaluate
from supernet.space.choices import Architecture, Space
from supernet.space.cost import measure
from supernet.space.model import build, example_of, extract, from_network
from supernet.spaces import bender, mobilenet, resnet
from supernet.speed.runtime import RuntimeConfig, start
from tests.export.writing.test_code import SMALL, lively
from tests.export.writing.test_code import SPACES as LARGER

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SECONDS", 0.0)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison runs in this process, which saves the start of another one; the other tests have that."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        parity.main(Path(command[-1]))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)


@pytest.fixture(scope="module")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of everything, folded and with the preprocessing inside; only to be read."""
    out = tmp_path_factory.mktemp("exports") / "all"
    words = ["export", str(finished_run), "--out", str(out), "--preprocess=true", "--fold=true", "--licence=cc0-1.0"]
    assert main(words) == 0
    return out


def images(number: int = 30) -> Data:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (number, 1, 8, 8), dtype=np.uint8)
    return from_arrays(pixels, np.arange(number) % 3, seed=0, validation=9)[0]


SPACES: dict[str, Callable[[], Space]] = {
    **LARGER,
    "bender": lambda: bender(filters=2, cells=1, choice_blocks=2, **SMALL),
    "mobilenet": lambda: mobilenet(widths=(8,), strides=(2,), depths=(1, 2), **SMALL),
    "resnet": lambda: resnet(depths=(1, 2), widths=(2, 3), **SMALL),
}
"""As small as they can be: the exporters take their time for each operation."""

EVERYTHING = {
    "bender": [
        "block1.inputs=last+before block1.ops=identity+sep3x3 block2.inputs=last+block1 block2.ops=sep5x5+sep7x7",
        "block1.inputs=before block1.ops=conv1x7-7x1+maxpool block2.inputs=block1 block2.ops=avgpool",
    ],
    "nasbench201": [
        "edge0-1=nor_conv_1x1 edge0-2=none edge1-2=nor_conv_3x3 edge0-3=skip_connect edge1-3=avg_pool_3x3 edge2-3=none"
    ],
    "darts": [
        "Genotype(normal=[('none', 0), ('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 2), ('dil_conv_5x5', 3)], "
        "normal_concat=range(2, 6), "
        "reduce=[('none', 0), ('max_pool_3x3', 1), ('avg_pool_3x3', 0), ('skip_connect', 1), "
        "('sep_conv_3x3', 0), ('sep_conv_5x5', 1), ('dil_conv_3x3', 0), ('dil_conv_5x5', 1)], "
        "reduce_concat=range(2, 6))"
    ],
    "macro": ["01201201"],
}
"""Architectures that have every operation of a space between them."""


def operations(space: Space, picks: Iterable[tuple[str, Iterable[str]]]) -> set[tuple[str, str]]:
    """Options with the kind of choice they are of, wherever it is: but for the choices among inputs."""
    kinds = {choice.name: re.sub(r"\d+", "", choice.name.rpartition(".")[2]) for choice in space.choices}
    return {(kinds[name], option) for name, options in picks if not name.endswith("inputs") for option in options}


def architectures(space: Space) -> list[Architecture]:
    """A few architectures that have every operation of a space between them."""
    chosen = [space.parse(text) for text in EVERYTHING.get(space.name, ())]
    wanted = operations(space, ((choice.name, choice.options) for choice in space.choices))
    candidates = space.sample_distinct(min(300, space.size), generator=torch.Generator().manual_seed(0))
    left = wanted - {pair for architecture in chosen for pair in operations(space, architecture.picks)}
    while left:  # whoever has most of what is still missing
        chosen.append(max(candidates, key=lambda a: len(left & operations(space, a.picks))))
        left -= operations(space, chosen[-1].picks)
    return chosen


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", SPACES)
def test_every_operation_of_every_space_in_every_form(name: str, tmp_path: Path) -> None:
    space, data = SPACES[name](), images()
    for number, architecture in enumerate(architectures(space)):
        network = lively(build(space, architecture, seed=0))
        place = tmp_path / str(number)
        place.mkdir()
        chosen = Chosen(network, architecture, space, {}, "new")
        facts = write_forms(place, chosen, origin_of(Config()), data, ExportConfig())
        assert facts["parity"]["forms"].keys() == {"python", "torch", "onnx"}
        assert all(row["difference"] < 1e-4 and row["examples"] == 9 for row in facts["parity"]["forms"].values())
        assert sorted(path.name for path in place.iterdir()) == sorted(FILES.values())


def test_the_files_of_an_export(exported: Path, finished_run: Path) -> None:
    names = {*FILES.values(), "export.json", "README.md", "network.svg", "cell.svg", "predict.py"}
    assert {path.name for path in exported.iterdir()} == names
    facts = json.loads((exported / "export.json").read_text())
    winner = json.loads((finished_run / "results.json").read_text())["networks"][0]
    assert facts["architecture"] == winner["architecture"] and facts["validation"] == winner["validation"][0]
    assert facts["folded"]["batch_norms"] >= 0 and facts["licence"] == "cc0-1.0"
    assert all(row["difference"] <= 1e-4 and row["examples"] == 300 for row in facts["parity"]["forms"].values())
    text = (exported / "network.py").read_text()
    assert winner["architecture"].split()[0] in text and "do not train" in text and "import supernet" not in text
    card = (exported / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "cc0-1.0" and head["pipeline_tag"] == "image-classification"
    for said in (winner["architecture"], "supernet analyze", "digits", "multiply-adds", "latency"):
        assert said in card
    assert (exported / "network.svg").read_text().startswith("<svg")


def test_the_network_without_supernet(exported: Path, tmp_path: Path) -> None:
    """The lines in the head of the module, run where supernet cannot be imported; and `predict.py`."""
    text = (exported / "network.py").read_text()
    lines = [line.strip() for line in text.split('"""')[1].splitlines() if line.startswith("    ")]
    lines = lines[lines.index("from safetensors.torch import load_file") :]
    code = ["import sys", "sys.modules['supernet'] = None", "import torch", "from network import *", *lines]
    code.append("print(sum(p.numel() for p in network.parameters()), network(torch.zeros(2, 1, 8, 8)).shape)")
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(code)], cwd=exported, capture_output=True, text=True, check=True
    )
    assert ran.stdout.endswith("torch.Size([2, 10])\n")
    Image.fromarray(np.full((20, 30), 90, np.uint8)).save(tmp_path / "image.png")
    words = [sys.executable, str(exported / "predict.py"), str(tmp_path / "image.png")]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    network = load(exported)
    facts = json.loads((exported / "export.json").read_text())
    pixels = torch.full((1, 1, 8, 8), 90.0)
    outputs = network((pixels / 255 - facts["mean"][0]) / facts["std"][0])
    assert said == facts["classes"][int(outputs.argmax())]


def test_an_export_is_loaded(exported: Path, finished_run: Path) -> None:
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = load(exported)
    assert not network.training
    torch.testing.assert_close(network(x), load(finished_run)(x), rtol=1e-4, atol=1e-5)


def test_files_that_are_damaged_missing_or_of_another_network(
    exported: Path, finished_run: Path, tmp_path: Path
) -> None:
    """One clear line each."""

    def refused(change: Callable[[Path], object]) -> str:
        folder = Path(shutil.copytree(exported, tmp_path / f"export{len(list(tmp_path.iterdir()))}"))
        change(folder)
        with pytest.raises(ValueError, match=r".") as caught:
            load(folder)
        text = str(caught.value)
        assert "\n" not in text and str(folder) in text
        return text

    weights, other = FILES["safetensors"], finished_run / "train" / "model.safetensors"
    assert "is damaged" in refused(lambda folder: (folder / weights).write_bytes(b"nothing of the kind"))
    assert "is missing" in refused(lambda folder: (folder / weights).unlink())
    assert "is missing" in refused(lambda folder: (folder / "network.py").unlink())
    assert "of another network" in refused(lambda folder: shutil.copy(other, folder / weights))
    assert "is damaged" in refused(lambda folder: (folder / "network.py").write_text("class Network("))
    half = (exported / weights).read_bytes()[:-100]
    assert "is damaged" in refused(lambda folder: (folder / weights).write_bytes(half))
    assert "is damaged" in refused(lambda folder: (folder / "export.json").write_text("{"))


def test_a_file_that_differs_is_not_exported(
    finished_run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another network than was meant, in the file only."""

    def tampered(*args: Any) -> Any:
        written = write(*args)
        tensors = {name: t + 0.01 if t.is_floating_point() else t for name, t in written.tensors.items()}
        return replace(written, tensors=tensors)

    monkeypatch.setattr(exporting, "write", tampered)
    out = tmp_path / "out"
    said = refused("export", finished_run, "--out", out, "--to=python,safetensors")
    assert "network.py, batch of 1: outputs differ by" in said and "tolerance of 0.0001" in said
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(
        exporting, "write", lambda *args: replace(write(*args), code="import supernet\n" + write(*args).code)
    )
    assert "does not run by itself" in refused("export", finished_run, "--out", out, "--to=safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_this_process")
def test_an_earlier_export_is_replaced_whole(finished_run: Path, tmp_path: Path, refused: Refused) -> None:
    out = tmp_path / "out"
    assert main(["export", str(finished_run), "--out", str(out), "--to=python,safetensors"]) == 0
    assert (out / "predict.py").exists()
    assert main(["export", str(finished_run), "--out", str(out), "--to=safetensors", "--rank=2"]) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["README.md", "cell.svg", "export.json", "network.safetensors", "network.svg"]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    assert "holds no export" in refused("export", finished_run, "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.usefixtures("in_this_process")
def test_between_two_moves_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fails there puts the earlier export back; of whoever is killed there the next call does."""
    out, move = tmp_path / "export [1]", Path.rename
    out.mkdir()
    (out / "old").touch()
    moves: list[Path] = []

    def fails(path: Path, to: Path) -> Path:
        moves.append(path)
        if len(moves) == 2:
            raise OSError("no")
        return move(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="no"), export._unfinished(out):
            pass
    assert len(moves) == 3
    before = tmp_path / f".{out.name}.{uuid.uuid4().hex}.before"
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "old"]
    out.rename(before)
    with pytest.raises(KeyError), export._unfinished(out):
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "old"]
    shutil.copytree(out, before)  # killed before this was deleted
    with export._unfinished(out) as place:
        (place / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == [out.name, "new"]


def test_any_architecture_with_inherited_or_new_weights(
    finished_run: Path, tmp_path: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "block1.inputs=before block1.ops=sep5x5+sep7x7"
    known = [row["architecture"] for row in json.loads((finished_run / "results.json").read_text())["networks"]]
    assert text not in known
    words = [
        "export",
        str(finished_run),
        "--out",
        str(tmp_path / "out"),
        "--to=python,safetensors",
        f"--architecture={text}",
    ]
    assert "was not retrained" in refused(*words)
    capsys.readouterr()
    for weights, said in (("inherited", "running statistics of batch norm estimated"), ("new", "not trained")):
        assert main([*words, f"--weights={weights}", "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["architecture"] == text and said in facts["weights"] and facts["finalist"] == {}
        assert said in (tmp_path / "out" / "network.py").read_text().replace("\n", " ")


def test_inherited_weights_give_what_the_one_shot_model_gives(finished_run: Path) -> None:
    """On the very batch whose statistics are estimated they are the batch's, as in the one-shot model."""
    run = load_run(open_run(finished_run))
    model, config, data = load_one_shot(run), run.config, run.data
    architecture = model.space.everything_on()
    network = inherit(model, architecture, data, seed=config.seed)
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    again = inherit(model, architecture, data, seed=config.seed)
    x, _ = prepare(data.train, data, device=torch.device("cpu"))
    assert torch.equal(network(x[:9]), again(x[:9]))  # the seed decides
    with_batch_statistics = extract(model, architecture).train()
    close = (network(x) - with_batch_statistics(x)).abs().max() / with_batch_statistics(x).abs().max()
    assert close < 0.2  # one large batch has about the statistics of all of them


def test_what_is_refused(finished_run: Path, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    out = ("--out", tmp_path / "out")
    assert "expected from 1 to" in refused("export", finished_run, *out, "--rank=99")
    assert "expected some of python" in refused("export", finished_run, *out, "--to=pickle")
    assert "no choice 'x'" in refused("export", finished_run, *out, "--architecture=x=1")
    assert "onnx among what is exported" in refused("export", finished_run, *out, "--to=python", "--preprocess=true")
    assert "retrained" in refused("export", finished_run, *out, "--weights=good")
    assert "no run folder" in refused("export", tmp_path / "nowhere", *out)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install 'supernet[export]'" in refused("export", finished_run, *out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_this_process")
def test_a_fixed_batch(tmp_path: Path) -> None:
    space, data = SPACES["nasbench201"](), images()
    architecture = architectures(space)[0]
    chosen = Chosen(lively(build(space, architecture, seed=0)), architecture, space, {}, "new")
    config = ExportConfig(to=("torch", "onnx"), batch=3, opset=20)
    facts = write_forms(tmp_path, chosen, origin_of(Config()), data, config)
    assert facts["parity"]["sizes"] == [3]
    import onnx

    graph = onnx.load(tmp_path / "network.onnx")
    assert graph.opset_import[0].version == 20
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3


@pytest.mark.parametrize("name", SPACES)
def test_folding_changes_nothing_but_the_work(name: str) -> None:
    space = SPACES[name]()
    for architecture in architectures(space):
        network = lively(build(space, architecture, seed=0))
        x = torch.randn(4, *space.input_shape, generator=torch.Generator().manual_seed(0))
        folded, number = fold(network, x)
        norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (network, folded)]
        assert norms[0] - norms[1] == number
        if name in ("macro", "mobilenet", "resnet", "nasbench201"):
            assert number > 0
        with torch.no_grad():
            torch.testing.assert_close(folded(x), network(x), rtol=1e-4, atol=1e-5)
        assert measure(folded, example_of(space, 1)).macs == measure(network, example_of(space, 1)).macs


class LocalHub:
    """What `push` needs of the Hub, on a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        (self.root / repository).mkdir(parents=True, exist_ok=True)
        (self.root / f"{repository}.private").write_text(str(private))
        return f"https://example.org/{repository}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, self.root / repo_id, dirs_exist_ok=True)
        (self.root / f"{repo_id}.message").write_text(commit_message)


def test_a_push_and_back(exported: Path, tmp_path: Path, refused: Refused) -> None:
    """Against a local folder: everything arrives, and is a network again."""
    hub = LocalHub(tmp_path)
    assert push(exported, "me/digits", private=True, api=hub) == "https://example.org/me/digits"
    arrived = tmp_path / "me" / "digits"
    assert {path.name for path in arrived.iterdir()} == {path.name for path in exported.iterdir()}
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load(arrived)(x), load(exported)(x))
    assert "exported by supernet" in (tmp_path / "me" / "digits.message").read_text()
    assert (tmp_path / "me" / "digits.private").read_text() == "True"
    assert "OWNER/NAME" in refused("push", exported, "digits")
    assert "holds no export" in refused("push", tmp_path, "me/digits")

    class Closed(LocalHub):
        def upload_folder(self, **_: Any) -> None:
            raise RuntimeError("401 Client Error\nUnauthorized")

    with pytest.raises(ExportError, match="the Hub refuses \\(401 Client Error Unauthorized"):
        push(exported, "me/digits", api=Closed(tmp_path))


def test_the_reported_accuracy_is_that_of_the_files(exported: Path, finished_run: Path) -> None:
    run = load_run(open_run(finished_run))
    config, data = run.config, run.data
    batches = [prepare(data.validation, data, device=torch.device("cpu"))]
    accuracy = evaluate(load(exported), batches, runtime=start(RuntimeConfig(device="cpu", precision="32-true")))
    facts = json.loads((exported / "export.json").read_text())
    assert facts["parity"]["forms"]["python"]["accuracy"] == pytest.approx(accuracy, abs=1 / 300)
    assert config.seed == facts["seed"]


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
    facts = write_forms(place, chosen, origin_of(Config()), images(), ExportConfig(to=("python", "safetensors")))
    assert facts["imports"] == [str(tmp_path)]
    text = (place / "network.py").read_text()
    assert "from own_modules import Clipped" in text and "Clipped(3, limit=1e-09)" in text
    write_json(place / "export.json", facts)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(load(place)(x), network(x))
    assert str(tmp_path) not in sys.path
