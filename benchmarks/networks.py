"""Networks as their libraries publish them, made elastic: equality, cost of a step, export.

    python benchmarks/networks.py --out RESULT.json [--only resnet --only vit]

Needs timm, transformers and segmentation_models_pytorch. Each network is made by the constructor of its library, at a
shortened size, with new weights. With `--only` the other networks keep the rows that the file has.

**Equality.** The largest, the smallest and random architectures, in double precision, in evaluation and in training
mode: outputs of the one-shot model against those of the stand-alone network with the same weights, as a share of the
largest output. The gate, which a run goes through before its training, compares costs and shapes besides.

**Cost of a step.** Seconds of the processor, of one thread, in turns: a step of the one-shot model with the largest
network live in all ghost batches, and one of the plain network by torch alone, both in single precision with torch's
kernels: in one pass (`train.ghosts_per_forward`) against the whole batch, and with ghost batches one after the other in
both, as on a CPU by default.

**Export.** The smallest architecture, as `supernet export` writes and checks it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from measure import arguments, report
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import build, elastic
from supernet.base.progress import Watch
from supernet.base.randomness import stream
from supernet.base.trees import call, map_tensors, rows, take_rows, tensors
from supernet.data.splits import Data, Split
from supernet.data.task import TaskConfig
from supernet.export.forms import Chosen, ExportConfig, Origin, write_forms
from supernet.space.agreement import check_agreement
from supernet.space.choices import Architecture, Space
from supernet.space.cost import cost_table
from supernet.space.model import extract
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit

GHOST, GHOSTS, STEPS, RANDOM = 16, 4, 3, 3

TOKENS = 64
"""Of the texts, and the number of different ones."""


def images(pixels: int) -> Callable[[int], Tensor]:
    def make(number: int) -> Tensor:
        return torch.randn(number, 3, pixels, pixels, generator=torch.Generator().manual_seed(number))

    return make


def texts(number: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, TOKENS, (number, TOKENS), generator=torch.Generator().manual_seed(number))}


def features(number: int) -> Tensor:
    return torch.randn(number, 64, 48, generator=torch.Generator().manual_seed(number))


@dataclass(frozen=True)
class Network:
    """A network of a library.

    Attributes:
        make: makes it; all that a user writes besides is one call of `elastic`.
        examples: makes a number of examples.
        package: that it is from.
        settings: of `elastic`.
        loss: of outputs and targets.
    """

    make: Callable[[], nn.Module]
    examples: Callable[[int], Any]
    package: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy


def timm(name: str, pixels: int, **settings: Any) -> Network:
    def make() -> nn.Module:
        network: nn.Module = importlib.import_module("timm").create_model(name, num_classes=10, **settings)
        return network

    return Network(make, images(pixels), "timm")


def bert() -> nn.Module:
    of = importlib.import_module("transformers")
    sizes = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256}
    network: nn.Module = of.BertForSequenceClassification(of.BertConfig(vocab_size=TOKENS, num_labels=10, **sizes))
    return network


def gpt() -> nn.Module:
    of = importlib.import_module("transformers")
    sizes = {"n_embd": 128, "n_layer": 3, "n_head": 4, "n_positions": TOKENS}
    config = of.GPT2Config(vocab_size=TOKENS, num_labels=10, pad_token_id=0, use_cache=False, **sizes)
    network: nn.Module = of.GPT2ForSequenceClassification(config)
    return network


def unet() -> nn.Module:
    of = importlib.import_module("segmentation_models_pytorch")
    network: nn.Module = of.Unet("resnet18", encoder_weights=None, decoder_channels=(64, 48, 32, 24, 16), classes=10)
    return network


def of_logits(outputs: Any, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.logits, targets)


def of_pixels(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs.mean((2, 3)), targets)


class Pooled(nn.Module):
    """Encoder layers of torch, whose attention is `nn.MultiheadAttention`, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.patches, self.head = nn.Linear(48, 64), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.encoder(self.patches(x)).mean(1))
        return y


NETWORKS: dict[str, Network] = {
    "resnet": timm("resnet18", 32, channels=(32, 64, 128, 256)),
    "mobilenetv3": timm("mobilenetv3_small_050", 32),
    "efficientnet": timm("efficientnet_b0", 32),
    "convnext": timm("convnext_atto", 32, depths=(1, 1, 2, 1)),
    "vit": timm("vit_tiny_patch16_224", 32, img_size=32, patch_size=4, embed_dim=96, depth=3),
    "swin": timm(
        "swin_tiny_patch4_window7_224", 28, img_size=28, patch_size=2, embed_dim=48, depths=(2, 2), num_heads=(2, 4)
    ),
    "densenet": timm("densenet121", 32, growth_rate=16, block_config=(3, 4, 3)),
    "regnet": timm("regnety_002", 32),
    "bert": Network(bert, texts, "transformers", loss=of_logits),
    "gpt": Network(gpt, texts, "transformers", loss=of_logits),
    "unet": Network(unet, images(32), "segmentation_models_pytorch", loss=of_pixels),
    "attention": Network(Pooled, features, "torch"),
}  # fmt: skip


# ---- what is measured ----


def largest(space: Space) -> Architecture:
    return space.reached({name: subsets[-1] for name, subsets in space.subsets.items()})


def smallest(space: Space) -> Architecture:
    return space.reached({name: subsets[0] for name, subsets in space.subsets.items()})


def compared(network: Network, space: Space) -> dict[str, Any]:
    """The largest difference of outputs, as a share of the largest output."""
    generator = torch.Generator().manual_seed(0)
    architectures = [largest(space), smallest(space), *(space.sample(generator=generator) for _ in range(RANDOM))]
    model = build(space, seed=0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    examples = map_tensors(network.examples(6), lambda t: t.double() if t.is_floating_point() else t)
    gap = 0.0
    for architecture in architectures:
        for training in (False, True):
            alone = in_mode(extract(model, architecture), training=training)
            with torch.no_grad():
                torch.manual_seed(0)
                ours = list(tensors(model.train(training)(examples, space.live([architecture]))))
                torch.manual_seed(0)
                others = list(tensors(call(alone, examples)))
            for one, other in zip(ours, others, strict=True):
                gap = max(gap, float((one - other).abs().max() / other.abs().max()))
    return {"architectures": len(architectures), "difference": gap}


def in_mode(network: nn.Module, *, training: bool) -> nn.Module:
    """Batch norm takes the statistics of the batch in both modes."""
    network.train(training)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return network


def times_of_steps(network: Network, space: Space, rounds: int) -> dict[str, Any]:
    """Seconds of the processor for a step of each way, and ratios in turns."""
    runtime = start(RuntimeConfig(device="cpu", threads=1, precision="32-true", kernels="torch"))
    x, y = network.examples(GHOST * GHOSTS), torch.arange(GHOST * GHOSTS) % 10
    config = TrainConfig(steps=STEPS, batch_size=GHOST * GHOSTS, ghost_size=GHOST, lr=0.001, weight_decay=0.0)
    model, live = build(space, seed=0), space.live([largest(space)]).expand(GHOSTS, -1)
    plain = runtime.place(build(space, largest(space), seed=0)).train()
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.001, momentum=0.9, nesterov=True, foreach=True)
    x = map_tensors(x, lambda t: t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t)

    def ours(per_pass: int) -> Iterator[float]:
        ends: list[float] = []
        watch = Watch(progress=lambda *_, **__: ends.append(time.process_time()))
        fit(model, lambda _: (x, y), STEPS + 1, replace(config, ghosts_per_forward=per_pass), runtime=runtime,
            draw_live=lambda _: live, loss_function=network.loss, watch=watch)  # fmt: skip
        return (b - a for a, b in itertools.pairwise(ends))

    def of_torch(size: int) -> Iterator[float]:
        for _ in range(STEPS):
            began = time.process_time()
            optimiser.zero_grad(set_to_none=True)
            for first in range(0, rows(x), size):
                part = slice(first, first + size)
                loss = network.loss(call(plain, take_rows(x, part)), y[part]) * (size / rows(x))
                loss.backward()
            optimiser.step()
            yield time.process_time() - began

    ways: dict[str, Callable[[], Iterator[float]]] = {
        "one-shot": lambda: ours(GHOSTS),
        "plain": lambda: of_torch(rows(x)),
        "one-shot, ghost by ghost": lambda: ours(1),
        "plain, ghost by ghost": lambda: of_torch(GHOST),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            took = statistics.median(way())
            if turn:
                seconds[name].append(took)
    return {
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "in one pass": spread(seconds["one-shot"], seconds["plain"]),
        "ghost by ghost": spread(seconds["one-shot, ghost by ghost"], seconds["plain, ghost by ghost"]),
    }


def spread(ones: list[float], others: list[float]) -> dict[str, float]:
    ratios = [a / b for a, b in zip(ones, others, strict=True)]
    named = {"median": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios)}
    return {name: round(ratio, 3) for name, ratio in named.items()}


def learnt(network: Network, space: Space) -> float:
    """The loss after four steps with random architectures: it is a number."""
    runtime = start(RuntimeConfig(device="cpu", threads=1, precision="32-true", kernels="torch"))
    config = TrainConfig(steps=4, batch_size=8, ghost_size=4, lr=0.001, clip_norm=1.0)
    x, y = network.examples(8), torch.arange(8) % 10

    def draw(step: int) -> Tensor:
        return space.live([space.sample(generator=stream(0, "paths", step, ghost)) for ghost in range(2)])

    history = fit(build(space, seed=0), lambda _: (x, y), 4, config, runtime=runtime, draw_live=draw,
                  loss_function=network.loss)  # fmt: skip
    return history[-1]["loss"]


def exported(network: Network, space: Space) -> dict[str, str]:
    """For each form of export its largest difference from the network, or why it fails."""
    x, y = network.examples(8), torch.arange(8) % 10
    split = Split(x, y, "")
    data = Data(split, split, tuple(map(str, range(10))), (), (), {}, None)  # type: ignore[arg-type]  # no test split
    alone = build(space, smallest(space), seed=0).eval()
    chosen = Chosen(alone, smallest(space), space, {}, "new")
    origin = Origin(TaskConfig(metric=f"{__file__}:negative_loss"), "random numbers", 0, "none", "white")
    result: dict[str, str] = {}
    for form in ("python", "torch", "onnx"):
        with tempfile.TemporaryDirectory() as folder:
            try:
                facts = write_forms(Path(folder), chosen, origin, data, replace(ExportConfig(), to=(form,)))
                result[form] = f"{facts['parity']['forms'][form]['difference']:.1g}"
            except Exception as error:  # exporters and networks raise errors of many kinds
                result[form] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    return result


def negative_loss(outputs: Any, targets: Tensor) -> float:
    """A number of any outputs, to compare those of files with those of the network."""
    return -sum(float(tensor.float().mean()) for tensor in tensors(outputs))


def measured(network: Network, rounds: int) -> dict[str, Any]:
    began = time.process_time()
    space = elastic(network.make, network.examples(2), **network.settings)
    table = cost_table(space)
    costs = {name: table.cost(of(space)) for name, of in (("smallest", smallest), ("largest", largest))}
    result: dict[str, Any] = {
        "library": f"{network.package} {importlib.import_module(network.package).__version__}",
        "settings": dict(network.settings),
        "choices": len(space.choices),
        "kinds": kinds(space),
        "architectures": space.combinations,
        "fixed": dict(space.fixed),
        "parameters": {name: cost.params for name, cost in costs.items()},
        "multiply-adds": {name: cost.macs for name, cost in costs.items()},
        "seconds of elastic": round(time.process_time() - began, 1),
    }
    stages: dict[str, Callable[[], Any]] = {
        "gate": lambda: check_agreement(space, network.examples(4)),
        "equality": lambda: compared(network, space),
        "loss after four steps": lambda: learnt(network, space),
        "step": lambda: times_of_steps(network, space, rounds),
        "export": lambda: exported(network, space),
    }
    for name, stage in stages.items():
        began = time.process_time()
        try:
            result[name] = stage()
        except Exception as error:  # what fails is a line of the result
            result[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
        print(f"{name}: {result[name]} ({time.process_time() - began:.1f} s)", flush=True)
    return result


def kinds(space: Space) -> dict[str, int]:
    """How many choices of each kind there are, by the ends of their names."""
    ends = [choice.name.rpartition(".")[2].rstrip("'") for choice in space.choices]
    return {end: ends.count(end) for end in dict.fromkeys(ends)}


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--only", action="append", choices=list(NETWORKS), help="these networks; the others as they are"
    )
    chosen = parser.parse_args()
    before = json.loads(chosen.out.read_text())["networks"] if chosen.out and chosen.out.exists() else {}
    warnings.simplefilter("ignore")  # of libraries about themselves
    torch.set_num_threads(1)
    for name in chosen.only or NETWORKS:
        print(f"== {name}", flush=True)
        before[name] = measured(NETWORKS[name], chosen.rounds)
    ordered = {name: before[name] for name in NETWORKS if name in before}
    command = f"python benchmarks/networks.py --rounds {chosen.rounds}"
    report(command, {"ghost": GHOST, "ghosts": GHOSTS, "random": RANDOM, "networks": ordered}, chosen.out)


if __name__ == "__main__":
    main()
