"""The predictor on spaces with known effects, and against the definition of a Gaussian process."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from supernet.search.predictor import LEAST, Features, Labels, choose, features, learn, ranks

Numbers = NDArray[np.float64]
GENERATOR = np.random.default_rng(0)
PICKS = np.eye(3, dtype=bool)[GENERATOR.integers(0, 3, (120, 5))].reshape(120, 15)
EFFECTS = GENERATOR.normal(size=15)
QUALITY = PICKS @ EFFECTS
SIZE = PICKS @ np.tile([1.0, 2.0, 4.0], 5)
PLAIN = stats.zscore(QUALITY) + 1.5 * GENERATOR.normal(size=120)
"""A weak ranking."""


def known(plain: Numbers = PLAIN) -> Features:
    return features(plain, SIZE, [], PICKS)


def labels(values: Numbers, places: NDArray[np.int64]) -> Labels:
    return Labels(places, values[places])


EVENLY = np.argsort(PLAIN)[::3]
"""Forty networks, evenly over the ranking."""


def tau(x: Numbers, y: Numbers) -> float:
    return float(stats.kendalltau(x, y).statistic)


def test_ranks_are_between_0_and_1_and_nan_comes_first() -> None:
    assert ranks([3.0, float("nan"), 5.0, 3.0]).tolist() == [0.5, 0.125, 0.875, 0.5]


def test_choices_whose_effects_add_up_are_learnt() -> None:
    prediction = learn(known(), [labels(QUALITY, EVENLY)])
    assert prediction is not None
    assert prediction.is_better
    unseen = np.setdiff1d(np.arange(120), EVENLY)
    assert tau(prediction.values[unseen], QUALITY[unseen]) > 0.85 > tau(PLAIN[unseen], QUALITY[unseen]) + 0.2
    assert prediction.tau == pytest.approx(tau(prediction.values[unseen], QUALITY[unseen]), abs=0.12)
    assert prediction.plain_tau == pytest.approx(tau(PLAIN[EVENLY], QUALITY[EVENLY]), abs=0.05)  # over some pairs


def test_where_labels_say_nothing_new_the_plain_rank_stays() -> None:
    noise = np.random.default_rng(1).normal(size=120)
    prediction = learn(known(stats.zscore(noise) + 0.3 * PLAIN), [labels(noise, EVENLY)])
    assert prediction is not None
    assert prediction.tau <= prediction.plain_tau
    assert not prediction.is_better


def test_too_few_networks_or_equal_values_predict_nothing() -> None:
    assert learn(known(), [labels(QUALITY, EVENLY[: LEAST - 1])]) is None
    assert learn(known(), [labels(np.ones(120), EVENLY)]) is None
    assert learn(known(), []) is None
    of_few_lengths = learn(known(), [labels(QUALITY, EVENLY[:7]), labels(QUALITY, EVENLY)])
    alone = learn(known(), [labels(QUALITY, EVENLY)])
    assert of_few_lengths is not None
    assert alone is not None
    assert np.array_equal(of_few_lengths.values, alone.values)


def test_equal_labels_give_an_equal_ranking() -> None:
    first, second = (learn(known(), [labels(QUALITY, EVENLY)]) for _ in range(2))
    assert first is not None
    assert second is not None
    assert np.array_equal(first.values, second.values)
    assert (first.tau, first.promise, first.unknown) == (second.tau, second.promise, second.unknown)


def test_the_process_is_that_of_the_definition() -> None:
    """Mean and deviation by the textbook's formula, with the parameters that were found."""
    known_, repeats = known(), np.concatenate([EVENLY, EVENLY[:5]])
    values = np.concatenate([QUALITY[EVENLY], QUALITY[EVENLY[:5]] + 0.1])
    prediction = learn(known_, [Labels(repeats, values)])
    assert prediction is not None
    kernel, inputs, table = prediction.fit.process.kernel_, known_.inputs, np.stack([np.ones(120), known_.plain], 1)
    scores = stats.norm.ppf((stats.rankdata(values) - 0.5) / len(values))
    weights = np.linalg.lstsq(table[repeats], scores, rcond=None)[0]
    left = scores - table[repeats] @ weights
    matrix = kernel.k1(inputs[repeats]) + (kernel.k2.noise_level + 1e-10) * np.eye(len(repeats))
    across = kernel.k1(inputs, inputs[repeats])
    means = table @ weights + across @ np.linalg.solve(matrix, left)
    variances = kernel.k1.diag(inputs) - (across * np.linalg.solve(matrix, across.T).T).sum(1)
    assert np.allclose(prediction.fit.means, means, atol=1e-6)
    total = np.sqrt(left.std() ** 2 * (variances + kernel.k2.noise_level))
    half = (prediction.fit.scale.values_of(means + total) - prediction.fit.scale.values_of(means - total)) / 2
    assert np.allclose(prediction.deviations, half, rtol=1e-3)


def test_values_are_in_the_metrics_unit_and_in_order_beyond_the_labels() -> None:
    prediction = learn(known(), [labels(QUALITY, EVENLY)])
    assert prediction is not None
    scale = prediction.fit.scale
    assert np.allclose(scale.values_of(scale.scores), scale.values)
    far = scale.values_of(np.linspace(-6, 6, 50))
    assert (np.diff(far) > 0).all()
    assert abs(prediction.values - QUALITY).mean() < 0.3 * QUALITY.std()


def test_shorter_trainings_help_and_do_not_hand_on_what_they_think_of_size() -> None:
    long = QUALITY + 0.4 * SIZE
    short = QUALITY - 0.4 * SIZE  # large networks are far from trained
    few = np.argsort(PLAIN)[5::10]
    both = learn(known(), [labels(short, EVENLY), labels(long, few)])
    alone = learn(known(), [labels(long, few)])
    assert both is not None
    assert alone is not None
    assert tau(both.values, long) > tau(alone.values, long) + 0.1


def test_short_trainings_alone_take_no_size_away_from_the_plain_rank() -> None:
    with_size = known(stats.zscore(QUALITY) + stats.zscore(SIZE))
    truth = stats.zscore(QUALITY) + 1.5 * stats.zscore(SIZE)
    short = labels(stats.zscore(QUALITY) - 0.5 * stats.zscore(SIZE), EVENLY)
    careful, plain = learn(with_size, [short], is_short=True), learn(with_size, [short])
    assert careful is not None
    assert plain is not None
    assert tau(careful.values, truth) > tau(plain.values, truth) + 0.2


def test_more_trainings_are_enough_when_they_promise_less_than_their_noise() -> None:
    exact = learn(known(), [labels(QUALITY, EVENLY)])
    noisy = learn(known(), [labels(QUALITY, EVENLY)], noise=5 * QUALITY.std())
    assert exact is not None
    assert noisy is not None
    assert not exact.is_enough  # its noise is unknown
    assert noisy.is_enough
    assert not replace(noisy, trained=LEAST).is_enough


def test_the_first_round_is_even_over_the_ranking_and_fills_gaps() -> None:
    order = np.argsort(PLAIN)
    place = np.empty(120, int)
    place[order] = np.arange(120)
    assert sorted(place[choose(known(), [], 12, None)] // 10) == list(range(12))
    best = order[-10:].tolist()
    chosen = choose(known(), best, 10, None)
    assert not set(chosen) & set(best)
    assert np.diff(np.sort(place[chosen])).max() <= 24
    assert choose(known(), list(range(118)), 16, None) in ([118, 119], [119, 118])


def test_an_eighth_goes_to_what_may_be_best() -> None:
    prediction = learn(known(), [labels(QUALITY, EVENLY)])
    assert prediction is not None
    chosen = choose(known(), EVENLY.tolist(), 16, prediction)
    assert len(set(chosen) - set(EVENLY.tolist())) == 16
    unseen = np.setdiff1d(np.arange(120), EVENLY)
    best = unseen[np.argsort(-QUALITY[unseen])]
    assert set(chosen[:2]) <= set(best[:12].tolist())
    assert len(set(chosen[2:]) & set(best[:40].tolist())) < 10
