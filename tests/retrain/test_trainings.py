"""Stand-alone trainings of the finalists."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from supernet.base.files import damaged_in
from supernet.base.progress import Interrupted, Watch
from supernet.base.randomness import derive
from supernet.retrain.results import mean_and_deviation
from supernet.retrain.trainings import (
    Lessons,
    RetrainConfig,
    evaluate,
    failures_in,
    networks_of,
    read_network,
    retrain,
    test_accuracies,
)
from supernet.space.model import build, extract
from supernet.speed.pool import Processes
from supernet.speed.runtime import Runtime, RuntimeConfig, start
from supernet.train.fit import Diverged, TrainConfig
from tests.spaces_for_tests import tiny_bender
from tests.train.test_fit import feed_for

test_accuracies.__test__ = False  # type: ignore[attr-defined]  # a function of the package, not a test
SPACE = tiny_bender()
WHO = [SPACE.at(5), SPACE.at(77), SPACE.everything_on()]
CONFIG = RetrainConfig(repeats=2, train=TrainConfig(steps=4, batch_size=8, ghost_size=4))


def validation() -> list[tuple[Tensor, Tensor]]:
    x, y = feed_for(SPACE, 40)(999)
    return list(zip(x.split(15), y.split(15), strict=True))


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return start(RuntimeConfig(device="cpu", precision="32-true", threads=2))


def run(folder: Path, runtime: Runtime, stop_after: int | None = None, config: RetrainConfig = CONFIG) -> None:
    asked = iter(range(10**6))
    lessons = Lessons(feed=lambda seed: feed_for(SPACE, 8), steps=4, validation=validation)
    watch = Watch(stop=lambda: stop_after is not None and next(asked) >= stop_after)
    retrain(SPACE, [*WHO, WHO[0]], lessons, config, runtime=runtime, seed=3, folder=folder, watch=watch)


def results(folder: Path) -> dict[str, object]:
    return {str(p.relative_to(folder)): json.loads(p.read_text())["validation"] for p in folder.rglob("result.json")}


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("weights.safetensors"))}


def test_each_finalist_is_trained_once_for_each_repeat(tmp_path: Path, runtime: Runtime) -> None:
    run(tmp_path, runtime)
    assert set(weights(tmp_path)) == {f"{a.id}/{r}/weights.safetensors" for a in WHO for r in range(2)}
    assert len(set(weights(tmp_path).values())) == 6, "two trainings gave the same weights"
    assert not list(tmp_path.rglob("checkpoint.pt"))
    for architecture in WHO:
        network = read_network(SPACE, architecture, tmp_path, 1)
        assert not network.training
        measured = evaluate(network, validation(), runtime=runtime)
        assert results(tmp_path)[f"{architecture.id}/1/result.json"] == measured
    networks = networks_of(SPACE, WHO, tmp_path)
    tested = test_accuracies([(network, 2) for network in networks], validation, runtime=runtime)
    assert {(i, r): tested[i][r] for i in tested for r in range(2)} == {
        (a.id, r): results(tmp_path)[f"{a.id}/{r}/result.json"] for a in WHO for r in range(2)
    }


def test_a_stopped_retraining_continues_to_the_same_weights(tmp_path: Path, runtime: Runtime) -> None:
    run(tmp_path / "whole", runtime)
    with pytest.raises(Interrupted):
        run(tmp_path / "stopped", runtime, stop_after=9)
    assert len(weights(tmp_path / "stopped")) < 6
    run(tmp_path / "stopped", runtime.one_thread())
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert results(tmp_path / "stopped") == results(tmp_path / "whole")


def test_what_is_trained_is_not_trained_again(tmp_path: Path, runtime: Runtime) -> None:
    run(tmp_path, runtime)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    run(tmp_path, runtime)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}


def test_networks_begin_with_the_weights_of_the_one_shot_model(tmp_path: Path, runtime: Runtime) -> None:
    model = build(SPACE, seed=9)
    still = TrainConfig(steps=1, batch_size=8, ghost_size=4, lr=1e-12, optimizer="SGD", optimizer_settings={})
    lessons = replace(lessons_of_feed(lambda seed: feed_for(SPACE, 8), 1), start=model.state_dict())
    retrain(SPACE, WHO[:1], lessons, replace(CONFIG, repeats=1, train=still), runtime=runtime, seed=3, folder=tmp_path)
    trained, inherited = read_network(SPACE, WHO[0], tmp_path), extract(model, WHO[0])
    for name, parameter in trained.named_parameters():
        torch.testing.assert_close(parameter, inherited.get_parameter(name))


def test_one_that_diverges_stops_all_and_says_so(tmp_path: Path, runtime: Runtime) -> None:
    config = RetrainConfig(train=TrainConfig(steps=4, batch_size=8, ghost_size=4))

    def feed(seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        def batch(step: int) -> tuple[Tensor, Tensor]:
            x, y = feed_for(SPACE, 8)(step)
            return x * float("nan"), y

        return batch

    with pytest.raises(Diverged, match="lower the learning rate"):
        lessons = Lessons(feed=feed, steps=4, validation=validation)
        retrain(SPACE, WHO, lessons, config, runtime=runtime, seed=3, folder=tmp_path)


def test_evaluation_uses_running_statistics_and_every_example(runtime: Runtime) -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 3))
    x, y = feed_for(SPACE, 40)(999)
    with torch.no_grad():
        one_by_one = torch.cat([network.eval()(x[i : i + 1]) for i in range(len(x))]).argmax(1)
    expected = float((one_by_one == y).double().mean())
    for batch in (1, 7, 40, 1000):
        parts = zip(x.split(batch), y.split(batch), strict=True)
        assert evaluate(network.train(), parts, runtime=runtime) == expected


def test_networks_that_are_missing_or_damaged(tmp_path: Path, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="is not there: run `supernet retrain` first"):
        read_network(SPACE, WHO[0], tmp_path)
    run(tmp_path, runtime)
    path = tmp_path / WHO[0].id / "0" / "weights.safetensors"
    for content in (b"", path.read_bytes()[:-9], (tmp_path / WHO[1].id / "0" / "weights.safetensors").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged"):
            read_network(SPACE, WHO[0], tmp_path)


def test_mean_and_deviation() -> None:
    assert mean_and_deviation([2.0]) == (2.0, 0.0)
    assert mean_and_deviation([1.0, 2.0, 3.0]) == (2.0, 1.0)


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match="repeats: expected at least 1, got 0"):
        RetrainConfig(repeats=0)


@pytest.fixture(scope="module")
def workers() -> Iterator[Runtime]:
    """A runtime with two workers."""
    runtime = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", workers=2))
    assert runtime.pool is not None
    yield runtime
    runtime.pool.close()


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the history's speeds, which are times."""
    texts = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in texts.items() if not name.endswith(("result.json", ".digests.json"))}


def lessons_of_feed(feed: Callable[[int], Callable[[int], tuple[Tensor, Tensor]]], steps: int = 4) -> Lessons:
    return Lessons(feed=feed, steps=steps, validation=validation)


def test_workers_train_as_one_process_does_also_if_one_is_killed(tmp_path: Path, workers: Runtime) -> None:
    config = RetrainConfig(train=TrainConfig(steps=16, batch_size=8, ghost_size=4, checkpoint_seconds=0.01))
    lessons = lessons_of_feed(lambda seed: feed_for(SPACE, 8), 16)
    killed: list[int] = []

    def kill_one(done: int, total: int, **figures: float) -> None:
        assert workers.pool is not None
        assert isinstance(workers.pool.engine, Processes)
        if done > 4 and not killed and list((tmp_path / "two").rglob("checkpoint.pt")):
            killed.append(workers.pool.engine.pids[0])
            os.kill(killed[0], signal.SIGKILL)

    alone = start(RuntimeConfig(device="cpu", precision="32-true", kernels="torch", threads=1))
    retrain(SPACE, WHO, lessons, config, runtime=alone, seed=3, folder=tmp_path / "one")
    retrain(SPACE, WHO, lessons, config, runtime=workers, seed=3, folder=tmp_path / "two", watch=Watch(kill_one))
    assert killed
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert results(tmp_path / "one") == results(tmp_path / "two")
    assert set(files(tmp_path / "two")) == {f"{a.id}/0/weights.safetensors" for a in WHO}
    for folder in (tmp_path / "two").glob("*/*"):
        assert damaged_in(folder) == (2, [])


def test_a_training_that_fails_three_times_is_recorded_and_tried_again_by_the_next_call(
    tmp_path: Path, workers: Runtime
) -> None:
    config = RetrainConfig(train=TrainConfig(steps=4, batch_size=8, ghost_size=4))
    bad = derive(3, "retrain", WHO[1].id, 0)

    def failing(seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        if seed == bad:
            raise RuntimeError("the device is lost")
        return feed_for(SPACE, 8)

    retrain(SPACE, WHO, lessons_of_feed(failing), config, runtime=workers, seed=3, folder=tmp_path)
    assert set(results(tmp_path)) == {f"{a.id}/0/result.json" for a in (WHO[0], WHO[2])}
    (failure,) = failures_in(tmp_path)
    assert failure["training"] == f"{WHO[1].id}/0"
    assert (failure["tries"], failure["error"]) == (3, "RuntimeError: the device is lost")
    assert "in failing" in failure["trace"]
    retrain(
        SPACE, WHO, lessons_of_feed(lambda seed: feed_for(SPACE, 8)), config, runtime=workers, seed=3, folder=tmp_path
    )
    assert len(results(tmp_path)) == 3
    assert failures_in(tmp_path) == []


def test_one_that_diverges_among_workers_stops_all_as_in_one_process(tmp_path: Path, workers: Runtime) -> None:
    config = RetrainConfig(train=TrainConfig(steps=4, batch_size=8, ghost_size=4))

    def feed(seed: int) -> Callable[[int], tuple[Tensor, Tensor]]:
        return lambda step: (torch.full((8, *SPACE.input_shape), float("nan")), torch.zeros(8, dtype=torch.long))

    with pytest.raises(Diverged, match="lower the learning rate"):
        retrain(SPACE, WHO, lessons_of_feed(feed), config, runtime=workers, seed=3, folder=tmp_path)
