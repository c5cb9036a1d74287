"""Batch norms as parts of convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from supernet.export.writing.folding import fold
from supernet.space.cost import measure
from supernet.space.model import build, example_of
from tests.export.cases import SPACES, architectures
from tests.export.writing.test_code import lively


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
