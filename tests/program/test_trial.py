"""Network, loss and metric are tried before the first step, and a mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from supernet.data.splits import Split
from supernet.data.task import TaskConfig
from supernet.program import resolve
from supernet.program.commands import main
from supernet.program.folder import changes, open_run, task_of
from supernet.program.load import load_run
from supernet.program.trial import tried_space, two_examples
from tests.program.test_commands import Refused

MINE = """
from collections import namedtuple
import torch
from torch import nn
from torch.nn import functional as F
from supernet import Choose

def images(n=300):
    return torch.randint(0, 256, (n, 1, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

def classes(): x = images(); return x, (x.float().mean((1, 2, 3)) > 127).long()
def numbers(): x = images(); return x, x.float().mean((1, 2, 3)) / 255
def binary(): x, y = classes(); return x, y.float()
def tags(): x = images(); return x, (x.flatten(1)[:, :3] > 128).float()
def masks(): x = images(); return x, (x[:, 0] // 64)
def marked(): x, y = masks(); y = y.clone(); y[:, 0] = 255; return x, y
def column(): x, y = classes(); return x, y[:, None]
def onehot(): x, y = classes(); return x, F.one_hot(y)
def minus(): x, y = classes(); return x, 2 * y - 1
def one(): x, y = classes(); return x, 0 * y

def body(outputs):
    def block(name, c):
        return Choose(name, {"k3": nn.Conv2d(c, 4, 3, padding=1), "k1": nn.Conv2d(c, 4, 1)})
    return nn.Sequential(block("a", 1), nn.ReLU(), block("b", 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(4, outputs))

def classify(num_classes): return body(num_classes)
def single(): return body(1)
def three(): return body(3)
def dense(): return nn.Sequential(*list(body(1))[:3], nn.Conv2d(4, 4, 1))

Out = namedtuple("Out", "logits aux")
class Two(nn.Module):
    def __init__(self): super().__init__(); self.body = body(2)
    def forward(self, x): y = self.body(x); return Out(y, y)
def pair(): return Two()
class Named(Two):
    def forward(self, x): return self.body(x) if not self.training else {"logits": self.body(x)}
def only_training(): return Named()

def first(o, t): return F.cross_entropy(o[0], t)
def each(o, t): return F.cross_entropy(o, t, reduction="none")
def right(o, t): return (o[0].argmax(1) == t).float().mean()
def typo(o, t): return o.agmax(1)
def both_needed(o, t):
    assert (t.mean(0) > 0).all() and (t.mean(0) < 1).all()
    return float(o.mean())
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


SHORT = (
    *("--train.steps=4", "--retrain.train.steps=2", "--search.candidates=4", "--train.batch_size=32"),
    *("--retrain.train.batch_size=32", "--search.top=1", "--search.small=1", "--search.random=0"),
    *("--search.all_on=false", "--retrain.references=[]", "--analysis.snapshots=0", "--runtime.device=cpu"),
    *("--analysis.train.steps=1", "--analysis.train.batch_size=32", "--analysis.repeats=1", "--analysis.per_bucket=1"),
)


LOSS = ["--task.loss=mine.py:first"]


def words(model: str, data: str, *settings: str) -> list[str]:
    return [resolve.OWN_NETWORK, "--model", f"mine.py:{model}", "--data", f"mine.py:{data}", *SHORT, *settings]


@pytest.mark.parametrize(
    ("model", "data", "settings", "parts"),
    [
        ("classify", "column", [], ["a column, int64 [N, 1]", "the network, made for num_classes 0, gives"]),
        ("classify", "onehot", [], ["one-hot rows, int64 [N, 2]: take .argmax(1)"]),
        ("single", "numbers", [], ["float32 [N]", "task.loss=mse", "gives float32 [N, 1]"]),
        ("single", "binary", [], ["for two classes with one logit set task.loss=bce"]),
        ("single", "classes", [], ["outputs float32 [N, 1]", "targets int64 [N]", "set task.loss=bce"]),
        ("classify", "minus", [], ["label -1 at index", "renumber the labels"]),
        ("classify", "one", [], ["have the target 0 (int64 [N])", "nothing to learn"]),
        ("three", "masks", [], ["outputs float32 [N, 3]", "targets uint8 [N, 6, 6]"]),
        ("dense", "marked", [], ["float32 [N, 4, 6, 6]", "uint8 [N, 6, 6]", "class 255", "make it -100"]),
        ("single", "tags", ["--task.loss=bce"], ["outputs float32 [N, 1]", "targets float32 [N, 3]"]),
        ("single", "binary", ["--task.loss=bce", "--task.metric=accuracy"], ["task.metric=binary-accuracy"]),
        ("single", "numbers", ["--task.loss=mse", "--task.metric=accuracy"], ["[N, 1]", "set task.metric=r2"]),
        ("pair", "classes", [], ["outputs (float32 [N, 2], float32 [N, 2]) in training", "return one tensor"]),
        ("pair", "classes", LOSS, ["task.metric accuracy", "set task.metric=loss"]),
        ("only_training", "classes", LOSS, ["{logits: float32 [N, 2]}", "KeyError"]),
        ("classify", "classes", ["--task.loss=mine.py:each"], ["shape [2] for 2 examples", "mean"]),
        ("classify", "classes", ["--task.metric=mine.py:typo"], ["mine.py, line", "AttributeError", "[N, 2]"]),
        (
            "pair",
            "classes",
            ["--task.loss=mine.py:first", "--task.metric=loss", "--search.score=kl"],
            ["search.score kl"],
        ),
        (
            "dense",
            "masks",
            ["--data.crop=1", "--task.loss=mine.py:each"],
            ["does not fit outputs float32 [N, 4, 6, 6]"],
        ),
    ],
)
def test_mistakes_before_the_first_step(
    model: str, data: str, settings: list[str], parts: list[str], mine: Path, refused: Refused
) -> None:
    message = refused("run", *words(model, data, *settings), "--out", "out")
    for part in parts:
        assert part in message, message
    assert not (mine / "out" / "train").exists()


@pytest.mark.parametrize(
    ("model", "data", "settings", "metric"),
    [
        ("classify", "classes", [], "accuracy"),
        ("single", "classes", ["--task.loss=bce"], "binary-accuracy"),
        ("single", "binary", ["--task.loss=bce"], "binary-accuracy"),
        ("three", "tags", ["--task.loss=bce", "--data.flip=true"], "binary-accuracy"),
        ("single", "numbers", ["--task.loss=mse", "--data.crop=1"], "r2"),
        ("single", "numbers", ["--task.loss=l1"], "r2"),
        ("dense", "masks", ["--data.flip=true", "--data.crop=1"], "accuracy"),
        ("pair", "classes", ["--task.loss=mine.py:first", "--task.metric=mine.py:right"], "mine.py:right"),
        ("three", "tags", ["--task.loss=bce", "--task.metric=mine.py:both_needed"], "mine.py:both_needed"),
    ],
)
def test_every_kind_of_task_is_searched_and_analysed(
    model: str, data: str, settings: list[str], metric: str, mine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["run", *words(model, data, *settings), "--out", "out"]) == 0
    run = open_run(Path("out"))
    assert task_of(run).metric == (str(mine / metric) if ":" in metric else metric)
    with caplog.at_level("INFO"):
        assert main(["analyze", "out"]) == 0
    assert ("without the divergence" in caplog.text) == (model != "classify")


def test_a_metric_may_change_until_the_test_split_is_opened(
    mine: Path, refused: Refused, capsys: pytest.CaptureFixture[str]
) -> None:
    command = words("pair", "classes", "--task.loss=mine.py:first", "--task.metric=loss")
    assert main(["train", "out", *command]) == 0
    weights = (mine / "out" / "train" / "model.safetensors").read_bytes()
    assert "AttributeError" in refused("search", "out", "--task.metric=mine.py:typo")
    (mine / "metric.py").write_text("def half(o, t): return 0.5")
    assert main(["search", "out", "--task.metric=metric.py:half"]) == 0
    (mine / "metric.py").write_text("def half(o, t): return 0.25")
    assert "metric.py has changed" in refused("retrain", "out")
    (mine / "other.py").write_text("def right(o, t): return (o.logits.argmax(1) == t).float().mean()")
    capsys.readouterr()
    assert main(["search", "out", "--task.metric=other.py:right"]) == 0  # what the old one had scored is set aside
    assert (mine / "out" / "candidates.sqlite.before-1").exists()
    assert main(["retrain", "out"]) == 0
    assert (mine / "out" / "train" / "model.safetensors").read_bytes() == weights
    assert "its test split was opened" in refused("search", "out", "--task.metric=loss")


def test_a_file_with_network_and_metric_says_where_a_metric_may_change(mine: Path, refused: Refused) -> None:
    assert main(["train", "out", *words("classify", "classes")]) == 0
    (mine / "mine.py").write_text(MINE + "\n# mended\n")
    message = refused("search", "out")
    assert "mine.py has changed" in message and "put it into a file of its own and set task.metric" in message


def test_a_metric_by_name_is_the_one_that_follows(mine: Path) -> None:
    command = words("single", "numbers", "--task.loss=mse")
    assert main(["train", "out", *command]) == 0
    assert main(["train", "out", *command, "--task.metric=r2"]) == 0
    run = open_run(mine / "out")
    loaded = load_run(run)
    assert run.config.task.metric is None and loaded.config.task.metric == "r2"
    before = torch.get_rng_state()
    tried_space(loaded.config, loaded.data)
    assert torch.equal(torch.get_rng_state(), before), "a trial leaves no trace in what is drawn later"
    named = resolve.resolve(None, [resolve.Setting("task.metric", "r2")], run)
    other = resolve.resolve(None, [resolve.Setting("task.metric", "loss")], run)
    assert changes(run, named) == [] and len(changes(run, other)) == 1
    assert named.task == TaskConfig(loss="mse", metric="r2")


def test_two_examples_differ_where_any_do() -> None:
    targets = torch.tensor([3, 3, 3, 1, 3])
    for tree in (targets, {"a": torch.zeros(5, 2), "b": targets}):
        two = two_examples(Split(torch.arange(5.0), tree, ""))
        assert two.examples.tolist() == [0, 3]
    assert two_examples(Split(torch.arange(5.0), torch.zeros(5), "")).examples.tolist() == [0, 1]
    assert two_examples(Split(torch.arange(1.0), torch.zeros(1), "")).examples.tolist() == [0, 0]
