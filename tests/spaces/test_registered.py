"""The built-in spaces against published figures."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch import nn

from supernet.space.cost import cost_table, measure
from supernet.space.layers import Choose
from supernet.space.model import build
from supernet.spaces import SPACES, bender


@pytest.mark.parametrize(("filters", "published"), [(16, 1.27), (32, 4.77), (64, 18.47), (128, 72.67)])
def test_parameters_of_everything_on(filters: int, published: float) -> None:
    """Table 1's "All On" in millions, to the digits that the stage widths were recovered with."""
    space = bender(filters=filters)
    assert round(cost_table(space).cost(space.everything_on()).params_without_norm / 1e6, 2) == published


@pytest.mark.parametrize(("filters", "mean"), [(16, 0.45), (32, 1.70), (64, 6.63), (128, 26.2)])
def test_parameters_of_sampled_networks(filters: int, mean: float) -> None:
    """Mean size under uniform sampling, within 2 %: ten standard errors of 5,000 draws are 0.4 %."""
    space = bender(filters=filters)
    drawn = space.sample_distinct(5000, generator=torch.Generator().manual_seed(0))
    assert cost_table(space).costs(drawn)[:, 1].mean() / 1e6 == pytest.approx(mean, rel=0.02)


def test_number_of_cells_of_the_paper() -> None:
    assert bender().size == 3 * 7 * 15 * 31 * 28**4 == 6_002_115_840


def test_choices_of_the_paper() -> None:
    choices = {choice.name: choice for choice in bender().choices}
    for block in range(4):
        inputs, ops = choices[f"block{block + 1}.inputs"], choices[f"block{block + 1}.ops"]
        assert (len(inputs.options), inputs.max_picks) == (2 + block, 2 + block)
        assert (len(ops.options), ops.max_picks) == (7, 2)


def test_every_cell_follows_the_same_choices() -> None:
    network: Any = bender(filters=2).network()
    names = [[m.choice.name for m in cell.modules() if isinstance(m, Choose)] for cell in network.cells]
    assert len(names) == 6
    assert all(cell == names[0] for cell in names)


def test_imagenet_layout_agrees_with_table_2() -> None:
    """Mean sizes of Random at F = 16, 24, 32, in millions, within the paper's deviation over ten networks."""
    for filters, mean, deviation in ((16, 2.0, 0.5), (24, 4.4, 1.0), (32, 7.7, 1.9)):
        space = bender(filters, num_classes=1000, cells=8, input_shape=(3, 224, 224), layout="imagenet")
        drawn = space.sample_distinct(300, generator=torch.Generator().manual_seed(0))
        assert abs(cost_table(space).costs(drawn)[:, 1].mean() / 1e6 - mean) < deviation


@pytest.mark.parametrize("cells", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("layout", ["cifar", "imagenet"])
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 9, 13), (1, 1, 1)])
def test_any_size_runs(cells: int, layout: Literal["cifar", "imagenet"], shape: tuple[int, int, int]) -> None:
    space = bender(2, 5, cells, 1, shape, layout)
    network = build(space, space.everything_on(), seed=0).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 5)


def test_resolution_halves_and_filters_double_between_stages() -> None:
    sizes = []
    space = bender(4, cells=6)
    network: Any = build(space, space.at(0), seed=0).eval()
    for cell in network.cells:
        cell.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    network(torch.zeros(1, 3, 32, 32))
    assert sizes == [(24, 32, 32)] * 2 + [(48, 16, 16)] * 2 + [(96, 8, 8)] * 2


def test_operations_by_their_weights() -> None:
    """Weights of each operation at width C, from the paper's counts: separable 2(k*k*C + C*C), 1x7-7x1 14*C*C."""
    width = 6
    (ops,) = [m for m in bender(width, cells=1, choice_blocks=1).network().modules() if isinstance(m, Choose)][1:]
    counted = {
        name: sum(p.numel() for p in option.parameters() if p.ndim > 1)
        for name, option in zip(ops.choice.options, ops.options, strict=True)
    }
    separable = {f"sep{k}x{k}": 2 * (k * k * width + width * width) for k in (3, 5, 7)}
    assert counted == {"identity": 0, **separable, "conv1x7-7x1": 14 * width * width, "maxpool": 0, "avgpool": 0}


@pytest.mark.parametrize("order", ["bn-relu-conv", "relu-bn-conv"])
def test_order_of_batch_norm_and_relu(order: Literal["bn-relu-conv", "relu-bn-conv"]) -> None:
    network: Any = bender(2, order=order).network()
    kinds = [type(m) for m in network.cells[0].prepare[0][0]]
    expected = [nn.BatchNorm2d, nn.ReLU, nn.Conv2d]
    assert kinds == (expected if order == "bn-relu-conv" else [nn.ReLU, nn.BatchNorm2d, nn.Conv2d])


def test_costs_at_the_papers_size_equal_measured() -> None:
    space = bender(16)
    architecture = space.at(1234567890)
    assert cost_table(space).cost(architecture) == measure(build(space, architecture), space.input_shape)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"filters": 0}, "space.filters: expected at least 1, got 0"),
        ({"layout": "mnist"}, "expected one of cifar, imagenet"),
        ({"order": "conv"}, "expected bn-relu-conv or relu-bn-conv"),
        ({"input_shape": (3, 0, 4)}, "expected .channels, height, width."),
        ({"max_ops": 9}, "max_picks from 1 to 7"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bender(**settings)


def test_names_of_the_spaces() -> None:
    assert list(SPACES) == ["bender", "nasbench201", "darts", "macro", "mobilenet", "resnet", "convnet"]


@pytest.mark.parametrize("name", ["bender", "nasbench201", "darts"])
def test_average_pooling_does_not_count_padding(name: str) -> None:
    """The average of equal pixels is that pixel, at the edges too."""
    pools = [m for m in SPACES[name]().network().modules() if isinstance(m, nn.AvgPool2d) and m.padding]
    assert pools
    ones = torch.ones(1, 2, 7, 8)
    for pool in pools:
        assert (pool(ones) == 1).all(), pool
