"""The method from its parts: a one-shot model is built and trained, candidates are scored, the best is built anew."""

import torch

import supernet
from supernet.base.randomness import stream
from supernet.data.splits import DataConfig, feed, prepare
from supernet.speed.runtime import RuntimeConfig, start
from supernet.train.fit import TrainConfig
from supernet.train.paths import PathsConfig, draw

images = torch.randint(0, 256, (600, 3, 16, 16), dtype=torch.uint8)  # your images, and their classes 0, 1, ...
labels = torch.arange(600) % 10
splits, test = supernet.from_arrays(images, labels, seed=0, validation=100)

space = supernet.spaces.bender(filters=4, cells=2, num_classes=10, input_shape=(3, 16, 16))
model = supernet.build(space, seed=0)  # the one-shot model: model(x, live_GP)
runtime = start(RuntimeConfig())
config = TrainConfig(epochs=1, batch_size=128, ghost_size=32)
steps = config.total_steps(len(splits.train))
batch = feed(splits.train, splits, DataConfig(), batch_size=128, seed=0, device=runtime.device)
dropout = PathsConfig(rate=0.1, schedule="linear")


def live(step: int) -> torch.Tensor:
    """Which options take part in each of the four ghost batches of a step."""
    return draw(space, dropout, 4, step / steps, generator=stream(0, "paths", step))


supernet.fit(model, batch, steps, config, runtime=runtime, draw_live=live)

candidates = space.sample_distinct(20, generator=torch.Generator().manual_seed(0))
validation = prepare(splits.validation, splits, device=runtime.device)
scores = list(supernet.score(model, candidates, *validation, runtime=runtime))  # (accuracy, loss)
best = max(zip(scores, candidates, strict=True), key=lambda pair: pair[0][0])[1]
network = supernet.build(space, best, seed=1)  # an ordinary module with new weights: network(x)
print(best, supernet.cost_table(space).cost(best))
