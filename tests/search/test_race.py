import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernet.search.race import stages, survivors


@given(st.integers(1, 400), st.integers(2, 128))
def test_stages_are_nested_whole_ghost_batches_and_end_with_everything(ghosts: int, ghost_size: int) -> None:
    images = ghosts * ghost_size
    found = stages(images, ghost_size)
    assert found[-1] == images and found == sorted(set(found))
    assert all(count % ghost_size == 0 for count in found)


def population(seed: int, candidates: int, images: int, *, skewed: bool, spread: float = 0.3) -> np.ndarray:
    """Whether each candidate is right on each image: both differ in how good and how hard they are."""
    rng = np.random.default_rng(seed)
    quality = spread * (-rng.exponential(size=candidates) if skewed else rng.normal(size=candidates))
    odds = quality[:, None] + rng.normal(size=images) * 1.5 + 0.5
    found: np.ndarray = rng.random((candidates, images)) < 1 / (1 + np.exp(-odds))
    return found


@pytest.mark.parametrize("spread", [0.0, 0.1])
@pytest.mark.parametrize("skewed", [False, True])
def test_few_of_the_best_are_lost(skewed: bool, spread: float) -> None:
    """On average over 20 populations at most as many as stated, with a bonus or without; many of the others leave."""
    keep, images, lose = 20, 1024, 0.5
    lost, left = [], []
    for seed in range(20):
        right = population(seed, 600, images, skewed=skewed)
        bonus = spread * np.random.default_rng(seed + 100).normal(size=600)
        best = np.argsort(-right.mean(1) - bonus, kind="stable")[:keep]
        for seen in (64, 256):
            stay = survivors(right[:, :seen], images, keep, lose, bonus)
            lost.append(int((~stay[best]).sum()))
            left.append(float((~stay).mean()))
    assert np.mean(lost) <= lose
    assert np.mean(left) > (0.2 if skewed else 0.4)


def test_more_are_lost_where_candidates_are_two_clusters() -> None:
    """Stage by stage, with 2 % that may be lost: on average over 12 populations at most twice that is."""
    keep, examples, lost = 20, 1024, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        quality = 0.03 * rng.normal(size=600) + 2 * (rng.random(600) < 0.5)
        odds = quality[:, None] + rng.normal(size=examples) * 1.5 - 0.5
        right = rng.random((600, examples)) < 1 / (1 + np.exp(-odds))
        best = np.argsort(-right.mean(1), kind="stable")[:keep]
        alive = np.arange(600)
        for seen in (64, 128, 256, 512):
            alive = alive[survivors(right[alive, :seen], examples, keep, 0.02 * keep / 4)]
        lost.append(1 - np.isin(best, alive).mean())
        assert len(alive) < 400
    assert 0.02 < np.mean(lost) <= 0.04


@given(st.integers(0, 999), st.integers(1, 30), st.integers(1, 40), st.floats(0, 5))
def test_at_least_so_many_stay_and_more_loss_drops_more(seed: int, candidates: int, keep: int, lose: float) -> None:
    right = population(seed, candidates, 64, skewed=False)
    stay = survivors(right, 256, keep, lose)
    assert stay.sum() >= min(keep, candidates)
    assert (survivors(right, 256, keep, lose + 1) <= stay).all()
    if candidates <= keep:
        assert stay.all()


def test_nobody_leaves_without_evidence() -> None:
    same = np.tile(np.arange(64) % 3 == 0, (50, 1))
    assert survivors(same, 256, 10, 1.0).all()  # all alike
    assert survivors(population(0, 50, 64, skewed=False), 64, 10, 1.0).all()  # every image was seen


def test_candidates_that_are_always_better_win_on_few_images() -> None:
    """Differences count on the same images: what is hard for everyone is no uncertainty."""
    rng = np.random.default_rng(0)
    common = rng.random(64) < 0.5
    right = np.repeat(common[None], 100, 0)
    right[:10] |= rng.random((10, 64)) < 0.9
    stay = survivors(right, 4096, 10, 0.1)
    assert stay[:10].all() and not stay[10:].any()
