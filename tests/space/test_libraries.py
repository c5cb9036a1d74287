"""Networks by the constructors of their libraries, at a small size; `benchmarks/networks.py` measures larger ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet.base.randomness import stream
from supernet.space.agreement import check_agreement
from supernet.space.cost import cost_table
from supernet.space.elastic import elastic
from supernet.space.model import build
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig, fit

Make = Callable[[], nn.Module]

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries about themselves


def library(name: str) -> Any:
    return pytest.importorskip(name, reason=f"NOT CHECKED WITH {name.upper()}: pip install {name}")


def timm(name: str, **settings: Any) -> Make:
    return lambda: importlib.import_module("timm").create_model(name, num_classes=4, **settings)


def transformers(config: str, network: str, **settings: Any) -> Make:
    def make() -> nn.Module:
        package = importlib.import_module("transformers")
        settings_of_all = {"vocab_size": 20, "num_labels": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        made: nn.Module = getattr(package, network)(getattr(package, config)(**settings_of_all, **settings))
        return made

    return make


def unet() -> nn.Module:
    package = importlib.import_module("segmentation_models_pytorch")
    made: nn.Module = package.Unet("resnet18", encoder_weights=None, decoder_channels=(16, 16, 8, 8, 8), classes=4)
    return made


def pictures(pixels: int) -> Callable[[int], Tensor]:
    return lambda number: torch.randn(number, 3, pixels, pixels, generator=torch.Generator().manual_seed(number))


def texts(number: int) -> dict[str, Tensor]:
    return {"input_ids": torch.randint(3, 20, (number, 8), generator=torch.Generator().manual_seed(number))}


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}

NETWORKS: dict[str, tuple[str, Make, Callable[[int], Any], set[str]]] = {
    "resnet": (
        "timm", timm("resnet18", layers=(3, 1, 1, 1), channels=(8, 8, 16, 16)), pictures(32), {"width", "depth"},
    ),
    "mobilenetv3": ("timm", timm("mobilenetv3_small_050"), pictures(32), {"width", "depth"}),
    "efficientnet": ("timm", timm("efficientnet_b0"), pictures(32), {"width", "depth"}),
    "densenet": ("timm", timm("densenet121", growth_rate=8, block_config=(2, 2)), pictures(32), {"width"}),
    "regnet": ("timm", timm("regnetx_002"), pictures(32), {"width", "groups"}),
    "convnext": (
        "timm", timm("convnext_atto", depths=(1, 2, 1, 1), dims=(8, 8, 16, 16)), pictures(32), {"width", "depth"},
    ),
    "vit": (
        "timm", timm("vit_tiny_patch16_224", img_size=16, patch_size=4, embed_dim=24, depth=2), pictures(16),
        {"width", "heads", "depth"},
    ),
    "swin": (
        "timm",
        timm(
            "swin_tiny_patch4_window7_224", img_size=16, patch_size=2, window_size=4, embed_dim=16, depths=(2, 2),
            num_heads=(2, 4),
        ),
        pictures(16), {"width", "heads", "depth"},
    ),
    "bert": (
        "transformers", transformers("BertConfig", "BertForSequenceClassification", **SIZES), texts,
        {"width", "heads", "depth"},
    ),
    "gpt": (
        "transformers",
        transformers(
            "GPT2Config", "GPT2ForSequenceClassification", n_embd=16, n_layer=2, n_head=4, n_positions=8,
            use_cache=False,
        ),
        texts, {"width", "heads", "depth"},
    ),
    "unet": ("segmentation_models_pytorch", unet, pictures(32), {"width", "depth"}),
}  # fmt: skip
"""For each network the library, what makes it and its examples, and the kinds of choices that it gets."""


def loss(outputs: Any, targets: Tensor) -> Tensor:
    logits = getattr(outputs, "logits", outputs)
    return F.cross_entropy(logits.flatten(2).mean(2) if logits.ndim > 2 else logits, targets)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_a_library_is_elastic_agrees_and_learns(name: str) -> None:
    package, make, examples, kinds = NETWORKS[name]
    library(package)
    runtime = start(RuntimeConfig(device="cpu", threads=1, precision="32-true", kernels="torch"))
    space = elastic(make, examples(2))
    assert kinds <= {choice.name.rpartition(".")[2].rstrip("'") for choice in space.choices}
    assert check_agreement(space, examples(4)) >= 3
    table = cost_table(space)
    small, large = (
        table.cost(space.reached({choice: subsets[place] for choice, subsets in space.subsets.items()}))
        for place in (0, -1)
    )
    assert small.params < large.params and small.macs < large.macs
    assert large.params == sum(p.numel() for p in make().parameters())
    model = build(space, seed=0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    history = fit(
        model,
        lambda step: (examples(8), torch.arange(8) % 4),
        4,
        TrainConfig(steps=4, batch_size=8, ghost_size=4, lr=0.01, clip_norm=1.0),
        runtime=runtime,
        draw_live=lambda step: space.live(
            [space.sample(generator=stream(0, "paths", step, ghost)) for ghost in range(2)]
        ),
        loss_function=loss,
    )
    assert len(history) == 4
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
