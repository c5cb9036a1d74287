"""Scores, and the divergence from the reference outputs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from supernet.search.scoring import closeness, divergence, reference_outputs, references, score
from supernet.space.choices import Architecture
from supernet.space.layers import Choose, OneShot
from supernet.space.model import build, from_network
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from tests import reference
from tests.spaces_for_tests import nested, tiny_bender

SPACE = tiny_bender()
EXAMPLES = torch.randn(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.randint(0, 3, (30,), generator=torch.Generator().manual_seed(1))
DRAWN = SPACE.sample_distinct(12, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", threads=2))


@pytest.fixture
def model() -> OneShot:
    return build(SPACE, seed=0)


@pytest.mark.parametrize("ghosts_per_forward", [None, 1, 2, 100])
def test_scores_equal_the_reference(model: OneShot, runtime: Runtime, ghosts_per_forward: int | None) -> None:
    # All of them first: the reference replaces methods of classes, which threads at work would see.
    fast = list(
        score(model, DRAWN, EXAMPLES, TARGETS, runtime=runtime, ghost_size=8, ghosts_per_forward=ghosts_per_forward)
    )
    for (accuracy, loss), architecture in zip(fast, DRAWN, strict=True):
        expected = reference.score(model, architecture, EXAMPLES, TARGETS, 8)
        assert accuracy == expected[0]
        assert loss == pytest.approx(expected[1], rel=1e-4)


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)))
def test_scores_do_not_depend_on_the_order(order: list[int]) -> None:
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=2))
    one_shot = build(SPACE, seed=0)
    plain = list(score(one_shot, DRAWN[:6], EXAMPLES, TARGETS, runtime=runtime, ghost_size=8))
    shuffled = list(score(one_shot, [DRAWN[i] for i in order], EXAMPLES, TARGETS, runtime=runtime, ghost_size=8))
    assert shuffled == [plain[i] for i in order]


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_weights_buffers_and_mode_as_they_were(model: OneShot, runtime: Runtime, training: bool) -> None:
    model.train(training)
    before = {name: value.clone() for name, value in itertools.chain(model.named_parameters(), model.named_buffers())}
    list(score(model, DRAWN, EXAMPLES, TARGETS, runtime=runtime, ghost_size=8))
    after = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert model.training == training
    assert all(p.grad is None for p in model.parameters())


def test_scores_of_one_thread_and_of_several_are_equal(model: OneShot) -> None:
    scores = [
        list(
            score(
                model,
                DRAWN,
                EXAMPLES,
                TARGETS,
                runtime=start(RuntimeConfig(device="cpu", precision="32-true", threads=n)),
                ghost_size=8,
            )
        )
        for n in (1, 2, 3)
    ]
    assert scores[0] == scores[1] == scores[2]


def test_too_few_examples(model: OneShot, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="expected at least 32 examples, one ghost batch; got 30"):
        list(score(model, DRAWN, EXAMPLES, TARGETS, runtime=runtime))


@pytest.mark.parametrize("space", [SPACE, nested()], ids=["bender", "nested"])
def test_references_have_almost_everything_on(space: object) -> None:
    assert isinstance(space, type(SPACE))
    drawn = references(space, 50, generator=torch.Generator().manual_seed(0))
    everything, off = dict(space.everything_on().picks), 0
    for architecture in drawn:
        for name, options in architecture.picks:
            off += len(everything[name]) - len(options)
    # A choice of k options loses each with r^(1/k), at most 5 % of them in these small spaces.
    assert off <= 0.1 * len(drawn) * sum(map(len, everything.values()))


def test_the_divergence_of_each_candidate_equals_its_definition(model: OneShot, runtime: Runtime) -> None:
    refs = references(SPACE, 3, generator=torch.Generator().manual_seed(0))
    given = reference_outputs(model, EXAMPLES, refs, runtime=runtime, ghost_size=8)
    assert given.shape == (24, 3, 3)
    found = list(score(model, DRAWN, EXAMPLES, given, runtime=runtime, loss=divergence, metric=closeness, ghost_size=8))

    def probabilities(architecture: Architecture) -> list[list[float]]:
        rows = []
        with torch.no_grad():
            for g in range(3):
                logits = reference.forward(model, EXAMPLES[g * 8 : g * 8 + 8], SPACE.live([architecture]))
                rows += logits.double().softmax(1).tolist()
        return rows

    expected_of = [probabilities(architecture) for architecture in refs]
    for architecture, (close, far) in zip(DRAWN, found, strict=True):
        total = 0.0
        for q_rows, p_rows in itertools.product([probabilities(architecture)], expected_of):
            for p, q in zip(p_rows, q_rows, strict=True):
                total += sum(a * math.log(a / b) + b * math.log(b / a) for a, b in zip(p, q, strict=True))
        assert far == pytest.approx(total / (24 * 3), rel=1e-3)
        assert close == pytest.approx(-far, rel=1e-4)


def test_no_divergence_from_oneself(model: OneShot, runtime: Runtime) -> None:
    given = reference_outputs(model, EXAMPLES, DRAWN[:1], runtime=runtime, ghost_size=8)
    ((close, far),) = score(
        model, DRAWN[:1], EXAMPLES, given, runtime=runtime, loss=divergence, metric=closeness, ghost_size=8
    )
    assert abs(far) < 1e-6
    assert abs(close) < 1e-6


def test_outputs_that_are_no_classes_have_no_divergence(runtime: Runtime) -> None:
    space = from_network(lambda: Choose("op", {"a": nn.Conv2d(1, 2, 1), "b": nn.Conv2d(1, 2, 1)}), EXAMPLES)
    one_shot = build(space, seed=0)
    with pytest.raises(ValueError, match="outputs are classes"):
        reference_outputs(one_shot, EXAMPLES, [space.everything_on()], runtime=runtime, ghost_size=8)


class Noise(nn.Module):
    """Draws in evaluation mode too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x)


def test_random_numbers_of_scoring_follow_the_seed() -> None:
    """The same for each architecture, in any order, with any number of threads, whatever else was drawn."""

    def make() -> nn.Module:
        act = Choose("act", {"relu": nn.ReLU(), "tanh": nn.Tanh(), "same": nn.Identity()})
        return nn.Sequential(nn.Linear(4, 6), Noise(), act, nn.Linear(6, 3))

    space = from_network(make, torch.zeros(1, 4))
    model, names = build(space, seed=0), ["act=relu", "act=tanh", "act=same", "act=relu"]
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 3
    values = []
    for threads, order in ((1, names), (2, names), (2, names[::-1])):
        runtime = start(RuntimeConfig(device="cpu", precision="32-true", threads=threads))
        torch.rand(threads)
        of_all = list(score(model, [space.parse(n) for n in order], x, y, runtime=runtime, ghost_size=4))
        values.append(dict(zip(order, of_all, strict=True)))
        assert of_all[0] == of_all[-1]
    assert values[0] == values[1] == values[2]
    assert len(set(values[0].values())) == 3
