"""A small network for sequences: which of two motifs comes first? The batches are dicts, of tokens and their mask.

supernet run --model examples/sequence.py:make_network --data examples/sequence.py:make_data --out runs/sequence
"""

import torch
from torch import Tensor, nn

from supernet import Choose, Depth, value

LETTERS, LENGTH = 8, 32
MOTIFS = ((1, 2, 3), (3, 2, 1))


def make_data(examples: int = 3000) -> tuple[dict[str, Tensor], Tensor]:
    """Random letters with both motifs in them; the class says which comes first. Ends are padded, 0 is the padding."""
    generator = torch.Generator().manual_seed(0)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    tokens, lengths, first = draw(4, LETTERS, examples, LENGTH), draw(20, LENGTH + 1, examples), draw(0, 2, examples)
    for row, length, which in zip(tokens, lengths.tolist(), first.tolist(), strict=True):
        for motif, low in ((MOTIFS[which], 0), (MOTIFS[1 - which], length // 2)):
            start = int(draw(low, low + length // 2 - 3, 1))
            row[start : start + 3] = torch.tensor(motif)
    mask = torch.arange(LENGTH) < lengths[:, None]
    return {"tokens": tokens * mask, "mask": mask}, first


class Recurrent(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of = nn.GRU(channels, channels, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.of(x.transpose(1, 2))[0]
        return y.transpose(1, 2)


class Network(nn.Module):
    def __init__(self, num_classes: int, channels: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(LETTERS, channels, padding_idx=0)

        def block(name: str) -> nn.Module:
            dilation = value(f"{name}.dilation", (1, 2, 4))
            options = {
                "conv": nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation),
                "gru": Recurrent(channels),
                "pool": nn.MaxPool1d(3, 1, 1),
            }
            return nn.Sequential(Choose(name, options, max_picks=2), nn.BatchNorm1d(channels), nn.ReLU())

        self.blocks = Depth("depth", [block(f"block{i}") for i in range(3)])
        self.classify = nn.Linear(channels, num_classes)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.blocks(self.embed(tokens).transpose(1, 2))
        logits: Tensor = self.classify(x.masked_fill(~mask[:, None], -1e4).amax(2))
        return logits


def make_network(num_classes: int) -> nn.Module:
    return Network(num_classes)
