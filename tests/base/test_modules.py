"""Copies of modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from supernet.base.modules import shallow_copy


@pytest.mark.parametrize("parametrized", [False, True])
def test_a_copy_shares_all_but_what_is_set_on_it(parametrized: bool) -> None:
    module: nn.Module = nn.Linear(3, 2)
    module = parametrizations.weight_norm(module) if parametrized else module
    copied = shallow_copy(module)
    assert type(copied) is type(module) and vars(copied) == vars(module)
    x = torch.ones(4, 3)
    assert torch.equal(copied(x), module(x))
    vars(copied)["_modules"], vars(copied)["_parameters"] = {}, {}
    assert not list(copied.parameters()) and len(list(module.parameters())) == 2 + parametrized
