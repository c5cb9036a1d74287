"""The choice module and batch norm over ghost batches, on their own."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supernet.space.layers import Choose, GhostBatchNorm, LivePaths, set_live_paths
from supernet.space.model import build, from_network
from supernet.space.sums import added


def live(*ghosts: set[int], name: str = "a") -> LivePaths:
    return LivePaths(tuple({name: frozenset(g)} for g in ghosts), tuple(range(len(ghosts))))


def test_inputs_through_their_own_1x1_equal_concatenation_and_one_1x1() -> None:
    """The paper concatenates the live inputs and applies one 1x1 convolution; the sum here is the same function."""
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {n: nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 5, 1, bias=False)) for n in "xyz"}
    )
    choice = Choose("a", dict(parts.items()), max_picks=3, each_input=True)
    inputs = [torch.randn(4, 3, 6, 6) for _ in range(3)]
    for picked in ({0}, {1, 2}, {0, 1, 2}):
        with set_live_paths(live(picked)):
            output = choice(inputs)
        conv = nn.Conv2d(3 * len(picked), 5, 1, bias=False)
        together = nn.Sequential(nn.BatchNorm2d(3 * len(picked)), nn.ReLU(), conv)
        weights: list[Tensor] = [parts.get_parameter(f"{n}.2.weight") for i, n in enumerate("xyz") if i in picked]
        with torch.no_grad():
            conv.weight.copy_(torch.cat(weights, dim=1))
        expected = together(torch.cat([x for i, x in enumerate(inputs) if i in picked], dim=1))
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
@pytest.mark.parametrize("affine", [True, False])
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5), st.integers(2, 4))
def test_ghost_batch_norm_is_batch_norm_of_each_ghost_batch(
    kind: type[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d], affine: bool, ghosts: int, size: int
) -> None:
    ordinary = kind(3, affine=affine, dtype=torch.float64)
    if affine:
        nn.init.normal_(ordinary.weight)
        nn.init.normal_(ordinary.bias)
    dims: tuple[int, ...] = {nn.BatchNorm1d: (), nn.BatchNorm2d: (4, 5), nn.BatchNorm3d: (2, 3, 4)}[kind]
    x = torch.randn(ghosts * size, 3, *dims, dtype=torch.float64)
    expected = torch.cat([ordinary(part) for part in x.chunk(ghosts)])
    norm = GhostBatchNorm(ordinary)
    for mode in (True, False):
        norm.train(mode)
        with set_live_paths(live(*({0} for _ in range(ghosts)))):
            torch.testing.assert_close(norm(x), expected)
    assert not list(norm.buffers())


def test_channels_last_and_contiguous_layouts_agree() -> None:
    norm = GhostBatchNorm(nn.BatchNorm2d(4))
    x = torch.randn(6, 4, 5, 5)
    with set_live_paths(live({0}, {0}, {0})):
        torch.testing.assert_close(norm(x.to(memory_format=torch.channels_last)), norm(x))


@pytest.mark.parametrize(
    ("each_input", "given_", "message"),
    [
        (True, torch.zeros(2, 3), "expected 2 tensors, got one tensor"),
        (True, [torch.zeros(2, 3)], "expected 2 tensors, got 1 tensors"),
        (False, [torch.zeros(2, 3)] * 2, "expected one tensor, got 2 tensors"),
    ],
)
def test_wrong_inputs_name_the_choice(each_input: bool, given_: object, message: str) -> None:
    choice = Choose("a", {"x": nn.Identity(), "y": nn.Identity()}, each_input=each_input)
    with set_live_paths(live({0})), pytest.raises(ValueError, match=f"choice 'a': {message}"):
        choice(given_)


def test_zeros_have_the_shape_of_the_output_and_cost_nothing() -> None:
    calls = []

    class Counting(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(x.device.type)
            return super().forward(x)

    choice = Choose("a", {"x": Counting(3, 7, 3, stride=2), "y": Counting(3, 7, 3, stride=2)})
    for _ in range(3):
        with set_live_paths(live(set(), set())):
            assert choice(torch.ones(4, 3, 9, 9)).shape == (4, 7, 4, 4)
    assert calls == ["meta"], "a dropped option was computed"
    with set_live_paths(live(set(), {1})):
        output = choice(torch.ones(4, 3, 9, 9))
    assert not output[:2].any()
    assert output[2:].all()


class Double(nn.Module):
    """Twice its input; notes what it is asked to add that to."""

    takes_onto = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bool] = []

    def forward(self, x: torch.Tensor, onto: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(onto is not None)
        return 2 * x if onto is None else onto + 2 * x


@pytest.mark.parametrize("picked", [set(), {0}, {1}, {0, 1}])
@pytest.mark.parametrize("join", ["sum", "mean"])
def test_a_choice_adds_to_what_it_is_given(picked: set[int], join: Literal["sum", "mean"]) -> None:
    x, onto, double = torch.full((2, 1), 3.0), torch.full((2, 1), 100.0), Double()
    choice = Choose("a", {"x": nn.Identity(), "y": double}, max_picks=2, join=join)
    with set_live_paths(live({0, 1})):
        choice(x)  # tells the shape
    double.asked.clear()
    with set_live_paths(live(picked)):
        alone = choice(x)
        assert torch.equal(choice(x, onto), onto + alone)
        assert torch.equal(added(choice, x, onto), onto + alone)
    # Where it is the second option, what it is added to is the first one's output, or what was given.
    assert double.asked == ([] if 1 not in picked else [picked == {0, 1}] + [picked == {0, 1} or join == "sum"] * 2)
    with set_live_paths(live(picked, {1})):  # of two ghost batches one has another option
        assert torch.equal(choice(x, onto), onto + choice(x))


def test_what_does_not_fit_what_it_is_added_to_is_named() -> None:
    inner = Choose("b", {"one": nn.AdaptiveAvgPool2d(1)})
    choice = Choose("a", {"x": nn.Identity(), "y": inner}, max_picks=2)
    picks = {"a": frozenset({0, 1}), "b": frozenset({0})}
    for ghosts in (1, 2):
        paths = LivePaths((picks,) * ghosts, tuple(range(ghosts)))
        with set_live_paths(paths), pytest.raises(ValueError, match="choice 'a': option 'y' gives"):
            choice(torch.ones(2, 8, 4, 4))
    with set_live_paths(live({0}, name="b")), pytest.raises(ValueError, match="choice 'b': option 'one' gives"):
        inner(torch.ones(2, 8, 4, 4), torch.ones(2, 8, 4, 4))


def test_a_class_that_runs_otherwise_is_not_asked_to_add() -> None:
    class Plain(Choose):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # it cannot add, on purpose
            return super().forward(x)

    with set_live_paths(live({0})):
        assert float(added(Plain("a", {"x": nn.Identity()}), torch.tensor(1.0), torch.tensor(5.0))) == 6.0


def test_what_looks_at_an_output_sees_nothing_but_it() -> None:
    double, seen = Double(), []
    double.register_forward_hook(lambda module, inputs, output: seen.append(float(output)))
    assert float(added(double, torch.tensor(1.0), torch.tensor(5.0))) == 7.0
    assert seen == [2.0] and double.asked == [False]


def test_a_choice_prints_what_it_is() -> None:
    assert "'a', x, y, max_picks=2" in repr(Choose("a", {"x": nn.Identity(), "y": nn.ReLU()}, max_picks=2))


def test_what_is_joined_with_zeros_keeps_its_layout() -> None:
    """A tensor of another layout among them would make all that follows slow."""

    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.choice = Choose("op", {"a": nn.Conv2d(8, 8, 1), "b": nn.Identity()}, max_picks=2)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, self.choice(x)], 1)

    space = from_network(Beside, torch.zeros(2, 8, 4, 4))
    x = torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    y = build(space, seed=0)(x, torch.zeros(2, 2, dtype=torch.bool))
    assert y.is_contiguous(memory_format=torch.channels_last) and not y[:, 8:].any()
