"""A residual multilayer perceptron on a table: disease progression of 442 patients, from scikit-learn.

    supernet run --model examples/tabular.py:make_network --data examples/tabular.py:make_data \\
        --task.loss mse --train.batch_size 64 --search.ghost_size 16 --out runs/tabular

The data need scikit-learn (extra `digits`).
"""

from sklearn.datasets import load_diabetes
from torch import Tensor, nn

from supernet import Choose, Depth, value


def make_data() -> tuple[object, object]:
    table = load_diabetes()
    return table.data, (table.target - 150) / 75  # ten columns, about standardised; the target likewise


class Residual(nn.Module):
    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        inner = width * value(f"{name}.expansion", (1, 2, 4))
        self.body = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, inner),
            Choose(f"{name}.activation", {"relu": nn.ReLU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}),
            nn.Dropout(value("rate", (0.0, 0.1, 0.3))),
            nn.Linear(inner, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y


def make_network(input_shape: tuple[int]) -> nn.Module:
    width = value("width", (8, 16, 32))
    return nn.Sequential(
        nn.BatchNorm1d(input_shape[0]),
        nn.Linear(input_shape[0], width),
        Depth("depth", [Residual(f"block{i}", width) for i in range(3)], depths=(0, 1, 2, 3)),
        nn.LayerNorm(width),
        nn.Linear(width, 1),
    )
