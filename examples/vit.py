"""A small vision transformer: depth, heads, width and the size of each block's inner layer are choices.

supernet run --model examples/vit.py:make_network --data digits --out runs/vit
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernet import Depth, value

HEAD = 8
"""Features of one head."""


class Attention(nn.Module):
    """Queries, keys and values by layers of their own: a number of heads is then a slice of each."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, heads * HEAD) for _ in range(3))
        self.out = nn.Sequential(nn.Linear(heads * HEAD, width), nn.Dropout(0.1))

    def forward(self, x: Tensor) -> Tensor:
        def split(y: Tensor) -> Tensor:
            heads: Tensor = y.unflatten(2, (-1, HEAD))
            return heads.transpose(1, 2)

        y = F.scaled_dot_product_attention(split(self.query(x)), split(self.key(x)), split(self.value(x)))
        z: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return z


class Block(nn.Module):
    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        inner = width * value(f"{name}.inner", (1, 2, 4))
        self.attend = nn.Sequential(nn.LayerNorm(width), Attention(width, value(f"{name}.heads", (2, 4))))
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        y: Tensor = self.think(x)
        return x + y


class VisionTransformer(nn.Module):
    def __init__(self, num_classes: int, input_shape: tuple[int, int, int], patch: int, blocks: int) -> None:
        super().__init__()
        channels, height, width_in_pixels = input_shape
        width = value("width", (16, 32, 48))
        self.patches = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Embedding((height // patch) * (width_in_pixels // patch), width)
        self.blocks = Depth("depth", [Block(f"block{i}", width) for i in range(blocks)])
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = tokens + self.positions(torch.arange(tokens.shape[1], device=x.device))
        logits: Tensor = self.classify(self.norm(self.blocks(tokens)).mean(1))
        return logits


def make_network(num_classes: int, input_shape: tuple[int, int, int], patch: int = 2, blocks: int = 4) -> nn.Module:
    return VisionTransformer(num_classes, input_shape, patch, blocks)
