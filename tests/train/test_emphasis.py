import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from supernet.base.randomness import stream
from supernet.space.cost import cost_table
from supernet.space.layers import Choose
from supernet.space.model import from_network
from supernet.train.emphasis import emphasis
from tests.spaces_for_tests import nested, tiny_bender

SPACE = tiny_bender()
TABLE = cost_table(SPACE)
DRAWN = [SPACE.sample(generator=stream(1, number)) for number in range(40)]
PARAMETERS = TABLE.column("params", DRAWN)


@given(st.floats(0, 0.99), st.floats(1, 8))
def test_small_ones_count_less_and_less(progress: float, complexity: float) -> None:
    of = emphasis(TABLE, complexity, DRAWN)
    weights = of(progress, SPACE.live(DRAWN)).numpy()
    assert (weights >= 0).all() and np.isfinite(weights).all()
    order = np.argsort(PARAMETERS, kind="stable")
    assert (np.diff(weights[order]) >= -1e-6).all()
    later = of(progress + (1 - progress) / 2, SPACE.live(DRAWN)).numpy()
    smallest, largest = order[0], order[-1]
    if complexity == 1:
        np.testing.assert_allclose(weights, 1, rtol=1e-6)
    assert later[largest] / max(later[smallest], 1e-30) >= (1 - 1e-5) * weights[largest] / max(weights[smallest], 1e-30)


def test_weights_are_those_of_the_formula() -> None:
    """With gamma written out; those beyond the sizes of the sample count as its ends."""
    sizes = np.log(PARAMETERS.astype(float))
    slope = -(4 - 1 / 4) / (sizes.max() - sizes.min())
    gammas = slope * sizes + 1 / 4 - slope * sizes.max()
    assert gammas.min() == pytest.approx(1 / 4) and gammas.max() == pytest.approx(4)
    expected = 0.3**gammas / np.mean(0.3**gammas)
    weights = emphasis(TABLE, 4.0, DRAWN)(0.7, SPACE.live(DRAWN))
    np.testing.assert_allclose(weights, expected, rtol=1e-4)
    assert float(weights.mean()) == pytest.approx(1, rel=1e-4)
    middle = [DRAWN[place] for place in np.argsort(PARAMETERS)[5:-5]]
    of_middle = emphasis(TABLE, 4.0, middle)(0.7, SPACE.live(DRAWN)).numpy()
    assert of_middle.min() == pytest.approx(of_middle[min(TABLE.column("params", middle)) == PARAMETERS][0])


def test_all_count_alike_at_first_and_where_all_are_as_large() -> None:
    for space in (SPACE, nested()):
        drawn = [space.sample(generator=stream(2, number)) for number in range(9)]
        torch.testing.assert_close(emphasis(cost_table(space), 4.0, drawn)(0.0, space.live(drawn)), torch.ones(9))
    activations = from_network(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(4, 3), Choose("activation", {"relu": torch.nn.ReLU(), "tanh": torch.nn.Tanh()})
        ),
        torch.zeros(1, 4),
    )
    both = list(activations)
    torch.testing.assert_close(emphasis(cost_table(activations), 4.0, both)(0.9, activations.live(both)), torch.ones(2))
