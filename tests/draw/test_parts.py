"""The parts of a network and their sources."""

from __future__ import annotations

import torch

from supernet import spaces
from supernet.draw import networks
from supernet.draw.parts import Part, network_parts
from tests.spaces_for_tests import elastic


def test_the_parts_of_a_network() -> None:
    space = spaces.bender(filters=2, cells=2, num_classes=5, input_shape=(3, 16, 16))
    parts = network_parts(space, space.sample(generator=torch.Generator().manual_seed(0)))
    assert [part.name for part in parts] == ["stem1", "stem2", "cells.0", "cells.1", "head"]
    assert parts[0] == Part("stem1", "Conv2d", 54, (2, 16, 16), ())
    assert parts[-1].shape == (5,)
    # Each cell reads the outputs of the two parts before it.
    assert [part.sources for part in parts[1:]] == [(0,), (0, 1), (1, 2), (3,)]
    svg = networks.network(parts)
    assert all(f">{part.name}: {part.kind}<" in svg and f"; {part.params:,} parameters<" in svg for part in parts)


def test_a_users_network_is_drawn_too() -> None:
    space = elastic()
    parts = network_parts(space, space.sample(generator=torch.Generator().manual_seed(0)))
    assert {part.name for part in parts} >= {"stem", "mix", "depthwise", "head"}
    assert "<svg" in networks.network(parts)
    assert "<svg" in networks.network(parts[:1])
