"""NNI's side of `nasbench201_step.py`: its NAS-Bench-201 space with path sampling, trained by a bare loop.

Runs in NNI's environment and imports nothing else than NNI and torch. Reads one JSON line for each piece of work, a
list with what is picked in each step, trains so many steps, and answers with one JSON line.
"""

from __future__ import annotations

import json
import sys
import warnings

answers, sys.stdout = sys.stdout, sys.stderr  # so that nothing that NNI prints is taken for an answer
warnings.simplefilter("ignore")

import nni  # noqa: E402
import torch  # noqa: E402
from nni.nas.hub.pytorch import NasBench201  # noqa: E402
from nni.nas.oneshot.pytorch.supermodule.base import BaseSuperNetModule  # noqa: E402
from nni.nas.strategy import RandomOneShot  # noqa: E402
from torch.nn import functional as F  # noqa: E402


def main() -> None:
    threads, batch_size, channels, cells, pixels, lr = json.loads(sys.argv[1])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = RandomOneShot().mutate_model(NasBench201(channels, cells)).train()
    choices = [module for module in model.modules() if isinstance(module, BaseSuperNetModule)]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)
    x = torch.randn(batch_size, 3, pixels, pixels)
    y = torch.randint(0, 10, (batch_size,))

    def step(picked: dict[str, str]) -> torch.Tensor:
        for choice in choices:  # as NNI's Lightning module does it; what is picked is taken as drawn already
            choice.resample(picked)
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    def answer(**figures: object) -> None:
        print(json.dumps(figures), file=answers, flush=True)

    answer(nni=nni.__version__, torch=torch.__version__, parameters=sum(p.numel() for p in model.parameters()))
    for line in sys.stdin:
        loss = torch.zeros(())
        for picked in json.loads(line):
            loss = step(picked)
        # Which parameters took part in the last step tells that both sides train the same network.
        live = sum(p.numel() for p in model.parameters() if p.grad is not None)
        answer(loss=float(loss), live=live)


if __name__ == "__main__":
    main()
