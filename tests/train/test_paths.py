"""What is live in training."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from supernet.base.randomness import stream
from supernet.space.choices import Choice, Space
from supernet.spaces import bender
from supernet.train.paths import PATHS, PathsConfig, draw, drop_probabilities, largest
from tests.spaces_for_tests import elastic, nested, tiny_bender

TRIALS = 20_000


@pytest.mark.parametrize(
    ("rate", "kept"),
    [  # table in the reference notes on section 3.2: keep probabilities for k = 2, 3, 4, 5, 7
        (1e-8, (1.000, 0.998, 0.990, 0.975, 0.928)),
        (1e-6, (0.999, 0.990, 0.968, 0.937, 0.861)),
        (0.01, (0.900, 0.785, 0.684, 0.602, 0.482)),
        (0.05, (0.776, 0.632, 0.527, 0.451, 0.348)),
        (0.1, (0.684, 0.536, 0.438, 0.369, 0.280)),
        (0.3, (0.452, 0.331, 0.260, 0.214, 0.158)),
    ],
)
def test_keep_probabilities_of_the_paper(rate: float, kept: tuple[float, ...]) -> None:
    space = bender()
    keep = 1 - drop_probabilities(space, rate)
    by_fan_in = {len(c.options): float(keep[space.columns[c.name, c.options[0]]]) for c in space.choices}
    assert [round(by_fan_in[k], 3) for k in (2, 3, 4, 5, 7)] == pytest.approx(kept, abs=1.1e-3)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_options_are_dropped_at_the_stated_rate(rate: float, strength: float) -> None:
    """Exact binomial test of each option at 1e-6: a chance of failure below 1e-4 over all of them and all cases."""
    space = tiny_bender()
    generator = stream(0, "test", int(rate * 100), int(strength * 100))
    live = PATHS["dropout"](space, TRIALS, rate, strength, generator)
    for column, drop in enumerate(drop_probabilities(space, rate, strength).tolist()):
        dropped = int((~live[:, column]).sum())
        assert stats.binomtest(dropped, TRIALS, drop).pvalue > 1e-6


def test_all_options_of_a_choice_are_dropped_with_probability_r() -> None:
    """The paper's meaning of r, for every fan-in; binomial tests at 1e-6 each."""
    space, rate = bender(), 0.1
    live = PATHS["dropout"](space, TRIALS, rate, 1.0, stream(0, "all dropped"))
    for choice in space.choices:
        columns = [space.columns[choice.name, option] for option in choice.options]
        nothing = int((~live[:, columns].any(dim=1)).sum())
        assert stats.binomtest(nothing, TRIALS, rate).pvalue > 1e-6


def test_options_are_dropped_independently() -> None:
    """Correlations between columns stay within 5.5 standard errors: chance of failure below 1e-4."""
    live = PATHS["dropout"](tiny_bender(), TRIALS, 0.1, 1.0, stream(0, "independent")).double()
    correlation = torch.corrcoef(live.T) - torch.eye(live.shape[1])
    assert correlation.abs().max() < 5.5 / math.sqrt(TRIALS)


def test_the_linear_schedule_starts_with_everything_on() -> None:
    space = tiny_bender()
    config = PathsConfig(rate=0.3, schedule="linear")
    assert draw(space, config, 50, 0.0, generator=stream(0, "a")).all()
    half = draw(space, config, TRIALS, 0.5, generator=stream(0, "b")).double().mean(0)
    expected = 1 - 0.5 * 0.3 ** (1 / torch.tensor([len(c.options) for c in space.choices for _ in c.options]))
    assert (half - expected).abs().max() < 6 * 0.5 / math.sqrt(TRIALS)
    constant = PathsConfig(rate=0.3, schedule="constant")
    assert not draw(space, constant, 50, 0.0, generator=stream(0, "c")).all()


@pytest.mark.parametrize("rate", [0.0, 1e-12])
def test_no_dropout_keeps_everything(rate: float) -> None:
    few = Space("few", (Choice("a", ("x", "y")),), torch.nn.Identity)
    assert draw(few, PathsConfig(rate=rate, schedule="constant"), 100, 1.0, generator=stream(0, "none")).all()


@given(st.integers(1, 40), st.integers(0, 2**31))
def test_fair_paths_use_every_option_equally_often(ghosts: int, seed: int) -> None:
    space = tiny_bender()
    live = draw(space, PathsConfig(distribution="fair"), ghosts, 1.0, generator=stream(seed, "fair"))
    for choice in space.choices:
        columns = [space.columns[choice.name, option] for option in choice.options]
        assert (live[:, columns].sum(dim=1) == 1).all()
        counts = live[:, columns].sum(dim=0)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("space", [tiny_bender(), nested()], ids=lambda s: s.name)
def test_uniform_paths_are_architectures(space: Space) -> None:
    live = draw(space, PathsConfig(distribution="uniform"), 30, 0.0, generator=stream(0, "uniform"))
    for row in live:
        pairs = [pair for pair, column in space.columns.items() if row[column]]
        words = {name: [o for n, o in pairs if n == name] for name, _ in pairs}
        architecture = space.parse(" ".join(f"{name}={'+'.join(options)}" for name, options in words.items()))
        assert torch.equal(space.live([architecture])[0], row)


@pytest.mark.parametrize("space", [elastic(), nested()], ids=lambda s: s.name)
@given(ghosts=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_a_sandwich_has_the_largest_and_the_smallest_in_each_four(space: Space, ghosts: int, seed: int) -> None:
    live = draw(space, PathsConfig(distribution="sandwich"), ghosts, 0.5, generator=stream(seed, "sandwich"))
    assert live.shape == (ghosts, len(space.columns))
    ends = space.live([largest(space), space.first()])
    for start in range(0, ghosts - 3, 4):
        assert all((live[start : start + 4] == end).all(1).any() for end in ends)


@pytest.mark.parametrize("distribution", PATHS)
def test_draws_follow_the_generator_only(distribution: str) -> None:
    space, config = tiny_bender(), PathsConfig(distribution=distribution, schedule="constant")
    first = draw(space, config, 20, 0.5, generator=stream(1, "x"))
    torch.manual_seed(7)
    assert torch.equal(first, draw(space, config, 20, 0.5, generator=stream(1, "x")))
    assert not torch.equal(first, draw(space, config, 20, 0.5, generator=stream(2, "x")))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"distribution": "dropot"}, "expected one of dropout, uniform, fair"),
        ({"rate": 1.0}, "from 0 to below 1"),
        ({"distill": -1.0}, "at least 0"),
        ({"complexity": 0.5, "distribution": "uniform"}, "complexity: expected at least 1, got 0.5"),
        ({"complexity": 4.0}, "expected 1 with distribution 'dropout'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathsConfig(**settings)
