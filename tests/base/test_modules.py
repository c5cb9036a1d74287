"""Copies of modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from supernet.base.modules import shallow_copy


@pytest.mark.parametrize(
    "module",
    [nn.Conv2d(2, 2, 1), nn.GRU(3, 2), nn.MultiheadAttention(4, 2), nn.Softmax(1), nn.BatchNorm1d(3)],
    ids=lambda module: type(module).__name__,
)
def test_a_copy_is_what_copy_makes(module: nn.Module) -> None:
    copied, expected = vars(shallow_copy(module)), vars(copy.copy(module))
    assert copied.keys() == expected.keys()
    assert all(copied[name] is expected[name] or copied[name] == expected[name] for name in copied)


def test_a_copy_of_a_compiled_module_runs_itself() -> None:
    module = nn.Linear(1, 1)
    module.compile(backend="eager")
    assert shallow_copy(module)._compiled_call_impl is None


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
