"""How long the steps of a run take on this machine, measured on a little of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import stream
from supernet.data.splits import Data, feed
from supernet.program.config import Config, retrained_space
from supernet.program.load import loss_of_fit
from supernet.program.plan import Speeds
from supernet.program.score import evaluation_of
from supernet.program.train import paths_of
from supernet.search.limits import Region
from supernet.search.scoring import Evaluation, values_of
from supernet.space.choices import Architecture, Space
from supernet.space.layers import OneShot
from supernet.space.model import build
from supernet.speed.runtime import Runtime
from supernet.train.fit import TrainConfig, fit

_SHARES = {"one-shot": 0.25, "candidate": 0.25, "networks": 0.5}
"""Shares of the time for measuring. Trainings from scratch differ most from each other."""

_NETWORKS = 8
"""Trainings from scratch that are measured; at least two for each core."""

_LEAST_STEPS = 3
"""Steps that are measured at least, after the first, which prepares what later ones use."""

_DRAWN = 1000
"""Architectures that are drawn to stand for the candidates of a search. Neighbours among this number have about as much
in common as those of a search."""

_ENDLESS = 10**6
"""Steps of a training that is stopped before."""


def measure(config: Config, data: Data, allowed: Region, runtime: Runtime, seconds: float) -> Speeds:
    """Measures a step of the one-shot model's training, the score of a candidate, and steps of trainings from scratch.

    Candidates and networks are drawn uniformly within the limits. Of the networks those with many multiply-adds are
    taken: scores favour them.

    Args:
        config, data, runtime: of the run.
        allowed: what its search may ask for.
        seconds: about how long to measure; a few steps of each are taken in any case.
    """
    space = allowed.space
    drawn = allowed.draw(_DRAWN, generator=stream(config.seed, "measure"))
    model = build(space, seed=config.seed)
    assert isinstance(model, OneShot)
    one_shot = _seconds_of_one_shot(model, config, data, drawn, runtime, _SHARES["one-shot"] * seconds)
    evaluation = evaluation_of(model, config, data, replace(runtime, pool=None))  # workers would have to start first
    candidate = _seconds_of_candidate(evaluation, drawn, _SHARES["candidate"] * seconds)
    order = allowed.costs.column("macs", drawn).argsort(kind="stable").tolist()
    large = [drawn[i] for i in order[len(order) // 2 :]]
    number = max(_NETWORKS, 2 * runtime.threads)
    networks = [large[(2 * i + 1) * len(large) // (2 * number)] for i in range(number)]
    trainings = measure_trainings(config, data, networks, runtime, _SHARES["networks"] * seconds)
    return replace(trainings, one_shot=one_shot, candidate=candidate)


def measure_trainings(
    config: Config, data: Data, networks: Sequence[Architecture], runtime: Runtime, seconds: float
) -> Speeds:
    """Measures steps of trainings from scratch only.

    Args:
        config, data, runtime, seconds: as for `measure`.
        networks: what is trained; everything on is added if the run trains it.
    """
    space = retrained_space(config, data.classes, data.inputs)
    all_on = [space.everything_on()] if config.search.all_on else []
    each = seconds * runtime.threads / (len(networks) + len(all_on))
    times, of_processor = zip(
        *_seconds_of_networks(space, [*networks, *all_on], config, data, runtime, each), strict=True
    )
    is_known = runtime.device.type == "cpu" and sum(of_processor) > 0
    return Speeds(
        networks=tuple(times[: len(networks)]), all_on=times[-1] if all_on else None, workers=runtime.threads,
        slowed=max(1.0, sum(times) / sum(of_processor)) if is_known else 1.0,
    )  # fmt: skip


def _seconds_of_one_shot(
    model: OneShot, config: Config, data: Data, drawn: Sequence[Architecture], runtime: Runtime, seconds: float
) -> float:
    """Time of a step; the steps measured are spread over the training, in which dropout may rise.

    Args:
        drawn: architectures within the limits.
    """
    settings, pool = config.train, drawn if config.paths.limited else None

    def draw_live(step: int) -> Any:
        return paths_of(config, model.space, round(_spread(step) * _ENDLESS), _ENDLESS, pool)

    batch = feed(data.train, data, config.data, batch_size=settings.batch_size, seed=config.seed, device=runtime.device)
    seconds, _ = _seconds_of_step(
        lambda watch: fit(
            model, batch, _ENDLESS, _harmless(settings), runtime=runtime, draw_live=draw_live,
            loss_function=loss_of_fit(config.task), watch=watch,
        ),
        seconds,
    )  # fmt: skip
    return seconds


def _spread(number: int) -> float:
    """Numbers from 0 to 1, the first few of which are spread evenly: those of van der Corput."""
    value, digit = 0.0, 0.5
    while number:
        value += digit * (number % 2)
        number, digit = number // 2, digit / 2
    return value


def _seconds_of_candidate(evaluation: Evaluation, drawn: Sequence[Architecture], seconds: float) -> float:
    """Time for each candidate, all cores together, of neighbours in the order in which a search scores them."""
    ordered = sorted(drawn, key=lambda architecture: architecture.picks)
    number = min(2 * evaluation.runtime.threads, len(ordered))
    while True:
        began = time.monotonic()
        for _ in values_of(evaluation, ordered[:number]):
            pass
        spent = time.monotonic() - began
        if spent >= seconds / 2 or number == len(ordered):
            return spent / number
        number = min(2 * number, len(ordered))


def _seconds_of_networks(
    space: Space, architectures: Sequence[Architecture], config: Config, data: Data, runtime: Runtime, seconds: float
) -> list[tuple[float, float]]:
    """Time of a step of each training, while as many run side by side as in `retrain`; and its processor time."""
    settings = config.retrain.train
    batch = feed(data.train, data, config.data, batch_size=settings.batch_size, seed=config.seed, device=runtime.device)

    def one(architecture: Architecture) -> tuple[float, float]:
        network = build(space, architecture, seed=config.seed)
        return _seconds_of_step(
            lambda watch: fit(
                network, batch, _ENDLESS, _harmless(settings), runtime=runtime.one_thread(),
                loss_function=loss_of_fit(config.task), watch=watch,
            ),
            seconds,
        )  # fmt: skip

    with runtime.workers() as run:
        return list(run(one, architectures))


def _harmless(config: TrainConfig) -> TrainConfig:
    """The same training with hardly any change of the weights, so that it cannot diverge; it takes as long."""
    return replace(config, lr=1e-6, warmup=0.0, average=0.0, schedule="constant")


def _seconds_of_step(train: Callable[[Watch], Any], seconds: float) -> tuple[float, float]:
    """Mean time of a step of a training that is stopped after some seconds, without the first step.

    Returns:
        The time on the clock, and the processor time of the calling thread, which other programs hardly lengthen.
    """
    times: list[float] = []
    of_thread: list[float] = []

    def progress(done: int, total: int, **figures: float) -> None:
        times.append(time.monotonic())
        of_thread.append(time.thread_time())

    def stop() -> bool:
        return len(times) > _LEAST_STEPS and times[-1] - times[0] >= seconds

    with suppress(Interrupted):
        train(Watch(progress, stop))
    steps = len(times) - 1
    return (times[-1] - times[0]) / steps, (of_thread[-1] - of_thread[0]) / steps
