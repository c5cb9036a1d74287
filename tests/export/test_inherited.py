"""Networks with the weights of the one-shot model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from supernet.data.splits import prepare
from supernet.export.inherited import inherit
from supernet.program.folder import open_run
from supernet.program.load import load_one_shot, load_run
from supernet.space.model import extract


def test_inherited_weights_give_what_the_one_shot_model_gives(finished_run: Path) -> None:
    """On the examples of the estimate, its statistics are those of the batch, which the one-shot model takes."""
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
